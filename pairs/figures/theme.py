"""Colours, numbers and words of the page, in one place. Pure."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import numpy.typing as npt

LEG_Y = "#4C9AFF"
LEG_X = "#F5A524"
SCORE = "#C792EA"
SPREAD = "#7FDBCA"
GOOD = "#2EBD85"
BAD = "#F6465D"
WARN = "#F5A524"
MUTED = "#8B949E"
GRID = "#21262D"
TEXT = "#E6EDF3"
BACKGROUND = "#0E1117"
CORRELATION = "#79C0FF"
# What the chart makes of these colours on a light page: enough contrast on white.
LIGHT = {
    LEG_Y: "#0B62C4",
    LEG_X: "#B26A00",
    SCORE: "#7B3FA0",
    SPREAD: "#0F766E",
    GOOD: "#0B7A55",
    BAD: "#C8283F",
    MUTED: "#5A6472",
    GRID: "#E3E7EB",
    TEXT: "#1B1F24",
    CORRELATION: "#2C6FBB",
    BACKGROUND: "#FFFFFF",
}
FONT = "Inter, 'Source Sans', system-ui, sans-serif"

NONE = "–"
MINUS = "−"


def number(value: float, decimals: int, *, sign: bool = False) -> str:
    """Thousands separated, a true minus, a dash where there is no value; what is shown as 0 has
    no sign."""
    if not math.isfinite(value):
        return NONE
    value = round(float(value), decimals) + 0.0  # −0 becomes 0
    text = f"{value:+,.{decimals}f}" if sign and value else f"{value:,.{decimals}f}"
    return text.replace("-", MINUS)


def significant(value: float, digits: int = 5) -> str:
    """A figure without a tick size: `digits` significant digits, at most 8 decimals."""
    if not math.isfinite(value) or value == 0:
        return number(value, 2)
    return number(value, max(0, min(8, digits - 1 - math.floor(math.log10(abs(value))))))


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction as percent, with its sign."""
    text = number(fraction * 100, decimals, sign=True)
    return text if text == NONE else f"{text} %"


def tint(value: float, decimals: int) -> str:
    """The class of a gain or a loss; none for what is shown as 0, or has no value."""
    shown = round(value, decimals) if math.isfinite(value) else 0.0
    return "good" if shown > 0 else "bad" if shown < 0 else ""


def duration(seconds: float | None) -> str:
    """A length of time in its largest useful unit."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < 172_800:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 86_400)} d"


def stretch(seconds: float) -> str:
    """A length of time in few characters: 45 min, 26 h, 12 d."""
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def clock(when: datetime | None) -> str:
    """The time of day; the date too where it is not today's is the caller's business."""
    return NONE if when is None else f"{when:%H:%M:%S}"


def decimals_of(prices: npt.NDArray[np.float64]) -> int:
    """The decimals that these prices really use (their tick size), 0 to 8."""
    recent = prices[-200:]
    recent = recent[np.isfinite(recent)]
    if not len(recent):
        return 2
    return max(len(f"{price:.8f}".rstrip("0").partition(".")[2]) for price in recent.tolist())
