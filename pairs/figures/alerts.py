"""What a rule would have fired, drawn beside what it watches. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairs.figures.layout import PLAIN, floats, milliseconds, thinned, with_breaks
from pairs.figures.theme import GRID, MUTED, SCORE, WARN


@dataclass(frozen=True, slots=True)
class Mark:
    """An event to be drawn: the bar it fired at, its value, upwards or downwards."""

    ts: pd.Timestamp
    value: float
    up: bool


def preview_figure(
    values: pd.Series[float],
    marks: list[Mark],
    threshold: float,
    bar_s: int,
    *,
    score: bool,
    uirevision: str,
) -> go.Figure:
    """A rule's value, one per bar, its threshold, and a mark wherever it would have fired.
    `score`: it is one of the z-score, in its colour."""
    shown = with_breaks(values.to_frame(), bar_s).iloc[:, 0]
    time, level = thinned(milliseconds(pd.DatetimeIndex(shown.index)), floats(shown))
    made = go.Figure()
    made.add_scatter(
        x=time,
        y=level,
        mode="lines",
        line={"color": SCORE if score else MUTED, "width": 1.2},
        hovertemplate="%{y:.5~g}<extra></extra>",
    )
    events = pd.DatetimeIndex([mark.ts for mark in marks], dtype="datetime64[us, UTC]")
    made.add_scatter(
        x=milliseconds(events),
        y=np.array([mark.value for mark in marks], dtype=np.float64),
        mode="markers",
        marker={
            "symbol": ["triangle-up" if mark.up else "triangle-down" for mark in marks],
            "size": 9,
            "color": WARN,
        },
        hovertemplate="would have fired at %{y:.5~g}<extra></extra>",
    )
    made.add_shape(
        type="line",
        xref="x domain",
        x0=0,
        x1=1,
        y0=threshold,
        y1=threshold,
        line={"color": WARN, "width": 1, "dash": "dot"},
    )
    made.update_layout(
        PLAIN,
        showlegend=False,
        uirevision=uirevision,
        margin={"l": 4, "r": 48, "t": 6, "b": 24},
        font_size=11,
        hovermode="closest",
        xaxis={"type": "date", "gridcolor": GRID, "nticks": 5, "hoverformat": "%m-%d %H:%M:%S UTC"},
        yaxis={"gridcolor": GRID, "zeroline": False, "nticks": 5, "side": "right"},
    )
    return made
