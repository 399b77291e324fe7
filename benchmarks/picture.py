"""A picture of growth as an SVG: axes logarithmic, one line per piece of work, named beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 900, 460
LEFT, RIGHT, TOP, BOTTOM = 80, 290, 20, 50
COLOURS = ("#4C9AFF", "#F5A524", "#C792EA", "#2EBD85", "#F6465D", "#79C0FF", "#8B949E", "#B26A00")
FONT = "font-family='system-ui,sans-serif' font-size='12'"


def lines(names: Sequence[str], sizes: Sequence[int], times_ms: Sequence[Sequence[float]]) -> str:
    """`times_ms`: one row per name, one figure per size (trades stored)."""
    low_x, high_x = math.log10(sizes[0]), math.log10(sizes[-1])
    every = [math.log10(max(ms, 1e-3)) for row in times_ms for ms in row]
    low_y, high_y = math.floor(min(every)), math.ceil(max(every))

    def at(size: float, ms: float) -> tuple[float, float]:
        x = (math.log10(size) - low_x) / (high_x - low_x)
        y = (math.log10(max(ms, 1e-3)) - low_y) / (high_y - low_y)
        return (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))

    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#0E1117'/>",
    ]
    for power in range(low_y, high_y + 1):
        _, y = at(sizes[0], 10.0**power)
        out.append(f"<path d='M{LEFT} {y:.1f}H{WIDTH - RIGHT}' stroke='#21262D'/>")
        out.append(_text(LEFT - 8, y + 4, _time(10.0**power), "#8B949E", "end"))
    for size in sizes:
        x, _ = at(size, 1.0)
        out.append(f"<path d='M{x:.1f} {TOP}V{HEIGHT - BOTTOM}' stroke='#21262D'/>")
        out.append(_text(x, HEIGHT - BOTTOM + 18, f"{size / 1e6:.2g} M", "#8B949E", "middle"))
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    out.append(_text(middle, HEIGHT - 10, "trades stored", "#E6EDF3", "middle"))
    labels = _apart([at(sizes[-1], row[-1])[1] for row in times_ms])
    for name, row, colour, label in zip(names, times_ms, COLOURS, labels, strict=True):
        points = (at(n, ms) for n, ms in zip(sizes, row, strict=True))
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        out.append(f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        text = f"{name}: {_time(row[-1])}"
        out.append(_text(WIDTH - RIGHT + 10, label + 4, text, colour, "start"))
    return "\n".join([*out, "</svg>\n"])


def _time(ms: float) -> str:
    return f"{ms:.3g} ms" if ms < 1000 else f"{float(f'{ms / 1000:.3g}'):,.10g} s"


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}'>{text}</text>"


def _apart(heights: Sequence[float], least: float = 15.0) -> list[float]:
    """The heights, moved so that no two texts overlap."""
    placed = [0.0] * len(heights)
    last = -math.inf
    for k in sorted(range(len(heights)), key=lambda k: heights[k]):
        last = placed[k] = max(heights[k], last + least)
    return placed
