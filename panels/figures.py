"""What the figures share: stacked axes over one time axis, and their packing for the page. Pure.

Figures stay ordinary `plotly.graph_objects.Figure`s, so that another page can show the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from panels.theme import BACKGROUND, FONT, GRID, MUTED, TEXT

GAP = 0.035  # between rows, as a share of the height


def stacked(rows: list[tuple[str, float]], uirevision: str) -> go.Figure:
    """An empty figure of rows (title, relative height), top first, over one shared time axis.

    Row k's axis is `axis(k)`. One x axis for all rows makes hover and spikes run through them.
    """
    total = sum(height for _, height in rows)
    usable = 1 - GAP * (len(rows) - 1)
    layout: dict[str, Any] = {}
    top = 1.0
    for k, (title, height) in enumerate(rows):
        bottom = max(0.0, top - usable * height / total)
        layout["yaxis" + axis(k)[1:]] = {
            "domain": [bottom, top], "side": "right", "anchor": "x", "title": {
                "text": title, "standoff": 8, "font": {"size": 11, "color": MUTED}},
            "gridcolor": GRID, "zeroline": False, "nticks": max(3, round(8 * height / total) + 2),
            "tickfont": {"size": 11}, "automargin": False, "fixedrange": False,
        }  # fmt: skip
        top = bottom - GAP
    layout["xaxis"] = {
        "type": "date", "anchor": axis(len(rows) - 1), "gridcolor": GRID, "showspikes": True,
        "spikemode": "across", "spikethickness": 1, "spikedash": "dot", "spikecolor": MUTED,
        "spikesnap": "cursor", "tickfont": {"size": 11}, "hoverformat": "%Y-%m-%d %H:%M:%S UTC",
        "rangeslider": {"visible": False},
    }  # fmt: skip
    layout.update(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="x unified",
        hoversubplots="axis", uirevision=uirevision, showlegend=True, autosize=True,
        margin={"l": 8, "r": 72, "t": 30, "b": 28},
        font={"family": FONT, "size": 12, "color": TEXT},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left",
                "font": {"size": 12}, "traceorder": "normal"},
        hoverlabel={"font": {"family": FONT, "size": 12}, "bgcolor": BACKGROUND,
                    "bordercolor": MUTED}, dragmode="zoom",
    )  # fmt: skip
    return go.Figure(layout=layout)


def axis(row: int) -> str:
    """The y axis of row 0, 1, …"""
    return "y" if row == 0 else f"y{row + 1}"


def milliseconds(index: pd.DatetimeIndex) -> np.ndarray[Any, np.dtype[np.float64]]:
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


def pack(figure: go.Figure) -> dict[str, Any]:
    """The figure as JSON-ready data with every array sent once, however many traces share it."""
    arrays: dict[str, int] = {}

    def strip(part: Any) -> Any:
        if isinstance(part, dict):
            if "bdata" in part:
                return {**part, "bdata": arrays.setdefault(part["bdata"], len(arrays))}
            return {key: strip(value) for key, value in part.items()}
        if isinstance(part, (list, tuple)):
            return [strip(value) for value in part]
        return part

    body = strip(figure.to_dict())
    return {"figure": body, "arrays": list(arrays)}
