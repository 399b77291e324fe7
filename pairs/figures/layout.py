"""What the figures share: stacked axes over one time axis, and their packing for the page. Pure.

Figures stay ordinary `plotly.graph_objects.Figure`s, so that another page can show the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairs.figures.picture import Picture
from pairs.figures.theme import DARK, FONT, Theme

GAP = 0.035  # between rows, as a share of the height
POINTS = 600  # of one line; the browser, not Python, is what takes long
MIN, HOUR, DAY = 60, 3600, 86_400
SPANS = (
    5 * MIN,
    10 * MIN,
    30 * MIN,
    HOUR,
    2 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    4 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    180 * DAY,
    365 * DAY,
    730 * DAY,
    1825 * DAY,
)
Floats = np.ndarray[Any, np.dtype[np.float64]]


def plain_layout(theme: Theme) -> dict[str, Any]:
    """What every figure begins with."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": theme.text},
        "hoverlabel": {
            "font": {"family": FONT, "size": 12, "color": theme.text},
            "bgcolor": theme.background,
            "bordercolor": theme.muted,
        },
    }


PLAIN = plain_layout(DARK)


def titled(text: str, theme: Theme = DARK) -> dict[str, Any]:
    """An axis's title."""
    return {"text": text, "standoff": 8, "font": {"size": 11, "color": theme.muted}}


def panels(
    rows: list[tuple[str, float]], uirevision: str, theme: Theme = DARK, **meta: Any
) -> Picture:
    """An empty picture of rows (title, relative height), top first, over one shared time axis.

    Row k's axis is `axis(k)`. `meta` tells the page what it may do with the picture: see
    `live_meta`.
    """
    total = sum(height for _, height in rows)
    usable = 1 - GAP * (len(rows) - 1)
    layout: dict[str, Any] = {}
    top = 1.0
    for k, (title, height) in enumerate(rows):
        bottom = max(0.0, top - usable * height / total)
        layout["yaxis" + axis(k)[1:]] = {
            "domain": [bottom, top],
            "side": "right",
            "anchor": "x",
            "title": titled(title, theme),
            "gridcolor": theme.grid,
            "zeroline": False,
            "nticks": max(5, round(8 * height / total) + 2),
            "tickfont": {"size": 11},
            "exponentformat": "none",
            "separatethousands": True,
            "automargin": False,
        }
        top = bottom - GAP
    layout["xaxis"] = {
        "type": "date",
        "anchor": axis(len(rows) - 1),
        "gridcolor": theme.grid,
        "showspikes": True,
        "spikemode": "across",
        "spikethickness": -2,  # without a halo
        "spikedash": "dot",
        "spikecolor": theme.muted,
        "spikesnap": "cursor",
        "tickfont": {"size": 11},
        "hoverformat": "%Y-%m-%d %H:%M:%S UTC",
        "rangeslider": {"visible": False},
    }
    layout |= plain_layout(theme) | {
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "uirevision": uirevision,
        "showlegend": True,
        "autosize": True,
        "margin": {"l": 8, "r": 72, "t": 30, "b": 28},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.0,
            "yanchor": "bottom",
            "xanchor": "left",
            "font": {"size": 12},
            "traceorder": "normal",
        },
        "dragmode": "pan",
        "meta": {"panels": len(rows), **meta},
    }
    return Picture(layout, theme)


def live_meta(bar_s: int, until: pd.Timestamp | None) -> dict[str, Any]:
    """What the page needs to go on with a picture by itself: the bar's length, and until when
    there is room for the bars that close before the picture is made anew; None: none will."""
    return {"bar_s": bar_s, "until": until.timestamp() * 1000 if until is not None else None}


def stacked(rows: list[tuple[str, float]], uirevision: str, theme: Theme = DARK) -> go.Figure:
    """`panels` as Plotly's class."""
    return panels(rows, uirevision, theme).figure()


def axis(row: int) -> str:
    """The y axis of row 0, 1, …"""
    return "y" if row == 0 else f"y{row + 1}"


def show_all(made: go.Figure, time: Floats) -> None:
    """Let the time axis run from the first to the last row, with room for the newest value. Not
    as a range: a new one would undo the zoom of whoever looks."""
    if len(time):
        room = (time[-1] - time[0]) * 0.012
        made.layout.xaxis.autorangeoptions = {
            "minallowed": time[0] - room / 3,
            "maxallowed": time[-1] + room,
        }


def mark_incomplete(
    made: Picture, row: int, closes: pd.Series[float], times: pd.DatetimeIndex, name: str
) -> None:
    """Mark at the close the bars that lack trades: what is drawn of them may not be all."""
    at = times.intersection(pd.DatetimeIndex(closes.index))
    if len(at):
        made.add(
            "scatter",
            x=milliseconds(at),
            y=floats(closes.reindex(at)),
            yaxis=axis(row),
            mode="markers",
            name=f"{name}: trades missing",
            hovertemplate="trades of this bar are missing",
            marker={
                "symbol": "diamond-open",
                "size": 10,
                "color": made.theme.warn,
                "line": {"width": 2, "color": made.theme.warn},
            },
        )


def incomplete_note(times: list[tuple[str, pd.DatetimeIndex]]) -> str:
    """How many bars lack trades, and the newest of them, in one sentence; empty where none does."""
    parts = [
        f"{len(at):,} of {name}, the newest of {at[-1]:%Y-%m-%d %H:%M:%S} UTC"
        for name, at in times
        if len(at)
    ]
    if not parts:
        return ""
    return (
        f"Bars shown that lack trades: {'; '.join(parts)}. They were lost or their repair is "
        "under way; the Data view lists the gaps."
    )


def spans(bar_s: int, most: int) -> dict[str, int]:
    """Stretches of time to look at, label → bars: from some 250 bars to `most`."""
    found = {}
    for seconds in SPANS:
        bars = seconds // bar_s
        if 250 <= bars <= most:
            unit, length = next(
                u for u in (("d", DAY), ("h", HOUR), ("min", MIN)) if seconds % u[1] == 0
            )
            found[f"{seconds // length} {unit}"] = bars
    return found or {"all": most}


def floats(values: pd.Series[float]) -> Floats:
    """The values as one float64 array."""
    return np.asarray(values, dtype=np.float64)


def thinned(time: Floats, values: Floats, points: int = POINTS) -> tuple[Floats, Floats]:
    """At most some `points` of a line, its shape kept: the lowest and the highest value of each
    stretch of time, where it breaks off, and the last. Stretches begin at multiples of their
    length, so that the line stands still while bars are added."""
    if len(values) <= _unthinned(points):
        return time, values
    rows = thinned_rows(time, values, points)
    return time[rows], values[rows]


def _unthinned(points: int) -> int:
    """So many are drawn one by one: a little more than asked for, see `steady`."""
    return points + points // 10


def steady(bars: int, newest: pd.Timestamp, bar_s: int) -> tuple[int, pd.Timestamp]:
    """A stretch of at least `bars` bars that begins at a multiple of a sixteenth of itself: while
    bars close, it grows and what lies behind stands still. How many bars it has now, and the open
    time of the one with which it begins anew."""
    step = max(1, bars // 16)
    grown = int(newest.timestamp()) // bar_s % step
    return bars + grown, newest + pd.Timedelta(seconds=bar_s) * (step - grown)


def rows_since(index: pd.Index, bars: int, newest: pd.Timestamp, bar_s: int) -> int:
    """How many rows of some bars lie within the last `bars` bar lengths: a bar that is missing,
    or one leg that closes before the other, does not move the beginning."""
    since = newest - pd.Timedelta(seconds=bar_s) * (bars - 1)
    return max(1, len(index) - int(index.searchsorted(since)))


def thinned_rows(
    time: Floats, values: Floats, points: int = POINTS
) -> np.ndarray[Any, np.dtype[np.intp]]:
    """The rows that `thinned` keeps."""
    count = len(values)
    if count <= _unthinned(points):
        return np.arange(count)
    width = float(np.median(np.diff(time))) * -(-count // (points // 2 - 1))
    stretch = np.floor(time / width)
    order = np.lexsort((values, stretch))  # within a stretch ascending, NaN last
    first = np.flatnonzero(np.diff(stretch[order], prepend=-1))
    known = np.add.reduceat(~np.isnan(values[order]), first)
    lowest, highest = order[first], order[first + np.maximum(known - 1, 0)]
    unknown = np.isnan(values)
    breaks = np.flatnonzero(unknown & ~np.concatenate([[False], unknown[:-1]]))
    return np.unique(np.concatenate([lowest, highest, breaks, [count - 1]]))


def milliseconds(index: pd.DatetimeIndex) -> Floats:
    """Times as numbers: a date axis takes them, and they travel in a third of the bytes."""
    return index.as_unit("ms").asi8.astype(np.float64)


def with_breaks(frame: pd.DataFrame, bar_s: int, bars: int = 10) -> pd.DataFrame:
    """The frame with a row of NaN wherever more than `bars` bars are missing: no line is drawn
    where nothing is known."""
    steps = np.diff(pd.DatetimeIndex(frame.index).as_unit("ms").asi8)
    after = np.flatnonzero(steps > bars * bar_s * 1000)
    if not len(after):
        return frame
    index = pd.DatetimeIndex(frame.index)
    blanks = pd.DataFrame(
        np.nan, index=index[after] + pd.Timedelta(seconds=bar_s), columns=frame.columns
    )
    return pd.concat([frame, blanks]).sort_index(kind="stable")
