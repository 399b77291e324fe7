"""Colours, numbers and words of the page, in one place. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a figure by what they mean: each keeps its meaning in every figure."""

    leg_y: str
    leg_x: str
    score: str
    spread: str
    correlation: str
    good: str
    bad: str
    warn: str
    muted: str
    grid: str
    text: str
    background: str
    high: str  # of a heat map, as its low: words in `text` can be read on them
    low: str


DARK = Theme(
    leg_y="#4C9AFF",
    leg_x="#F5A524",
    score="#C792EA",
    spread="#7FDBCA",
    correlation="#BBD15A",
    good="#2EBD85",
    bad="#F6465D",
    warn="#FFB020",
    muted="#8B949E",
    grid="#21262D",
    text="#E6EDF3",
    background="#0E1117",
    high="#1D5FAE",
    low="#8A5A00",
)
# Enough contrast on white, and no two of them alike.
LIGHT = Theme(
    leg_y="#0B62C4",
    leg_x="#B26A00",
    score="#7B3FA0",
    spread="#0F766E",
    correlation="#5F6F00",
    good="#0B7A55",
    bad="#C8283F",
    warn="#9A5B00",
    muted="#5A6472",
    grid="#E3E7EB",
    text="#1B1F24",
    background="#FFFFFF",
    high="#7FB2EE",
    low="#EDB458",
)
# What a browser makes of a dark figure whose page turns light: no figure is sent anew for it.
TURNED_LIGHT = {getattr(DARK, field.name): getattr(LIGHT, field.name) for field in fields(Theme)}
LEG_Y, LEG_X, SCORE, SPREAD = DARK.leg_y, DARK.leg_x, DARK.score, DARK.spread
GOOD, BAD, MUTED, GRID = DARK.good, DARK.bad, DARK.muted, DARK.grid
TEXT, BACKGROUND, WARN = DARK.text, DARK.background, DARK.warn
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
