"""The pair view: prices, spread, z-score with its thresholds, hedge ratio, correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from market import bar_seconds
from pair import PairView
from panels.desk import Desk
from panels.figures import axis, milliseconds, stacked, with_breaks
from panels.theme import (
    BAD,
    CORRELATION,
    GOOD,
    LEG_X,
    LEG_Y,
    MUTED,
    SCORE,
    SPREAD,
    TEXT,
    decimals_of,
)

POINTS = 600
HEIGHT = "calc(100vh - 14.6rem)"
NOTHING = "No closed bar of this pair is stored yet. Another bar length may have some."

Floats = npt.NDArray[np.float64]


def draw(desk: Desk) -> None:
    """The view on the page."""
    desk.live("Pair", _board)


def _board(desk: Desk) -> None:
    choice = desk.choice
    snapshot, view = desk.now()
    if view.frame.empty:
        st.info(NOTHING)
        return
    raw = bool(st.session_state.get("raw", False))
    identity = "/".join(map(str, ("pair", *choice.pair, choice.bar)))
    desk.chart(
        lambda: figure(
            view, (choice.y.symbol, choice.x.symbol), choice.bar, entry_z=choice.entry_z,
            exit_z=choice.exit_z, stop_z=choice.stop_z, raw=raw, uirevision=identity,
        ),
        (*desk.key(snapshot), choice, raw), name="Pair", height=HEIGHT,
    )  # fmt: skip


def figure(
    view: PairView, symbols: tuple[str, str], bar: str, *, entry_z: float, exit_z: float,
    stop_z: float | None, raw: bool, uirevision: str,
) -> go.Figure:  # fmt: skip
    """The last POINTS closed bars of a pair view. Prices as percent change since the first bar
    shown, or raw on two axes."""
    frame = with_breaks(view.frame.tail(POINTS), bar_seconds(bar))
    made = stacked(
        [
            ("price" if raw else "change, %", 3.0),
            ("spread", 1.6),
            ("z-score, σ", 2.2),
            ("hedge ratio β", 1.5),
            ("correlation", 1.2),
        ],
        uirevision,
    )
    time = milliseconds(pd.DatetimeIndex(frame.index))
    _prices(made, time, frame, symbols, raw=raw)
    _line(made, time, frame["spread"], 1, "spread", SPREAD, ".6~g")
    _line(made, time, frame["zscore"], 2, "z", SCORE, ".2f")
    _thresholds(made, time, frame["zscore"].to_numpy(), entry_z, exit_z, stop_z)
    _band(made, time, frame)
    _line(made, time, frame["correlation"], 4, "correlation", CORRELATION, ".3f")
    return made


def _line(
    made: go.Figure, time: Floats, values: pd.Series[float], row: int, name: str, colour: str,
    form: str, **more: Any,
) -> None:  # fmt: skip
    made.add_scatter(
        x=time, y=values.to_numpy(dtype=np.float64), yaxis=axis(row), name=name, mode="lines",
        line={"color": colour, "width": 1.4}, hovertemplate=f"%{{y:{form}}}", **more,
    )  # fmt: skip


def _prices(
    made: go.Figure, time: Floats, frame: pd.DataFrame, symbols: tuple[str, str], *, raw: bool
) -> None:
    for name, column, colour in zip(symbols, ("close_y", "close_x"), (LEG_Y, LEG_X), strict=True):
        close = frame[column]
        places = decimals_of(close.to_numpy())
        if raw:
            _line(made, time, close, 0, name, colour, f",.{places}f")
            continue
        known = close.dropna()
        change = (close / known.iloc[0] - 1) * 100 if len(known) else close
        _line(
            made, time, change, 0, name, colour, "+.3f",
            customdata=close.to_numpy(dtype=np.float64),
        )  # fmt: skip
        made.data[-1].hovertemplate = f"%{{y:+.3f}} %  (%{{customdata:,.{places}f}})"
    if raw:  # two price levels need two scales: x on the left
        made.data[-1].yaxis = "y9"
        made.update_layout(
            yaxis9={"overlaying": "y", "side": "left", "anchor": "x", "showgrid": False,
                    "tickfont": {"size": 11, "color": LEG_X}, "zeroline": False},
            margin={"l": 64, "r": 72, "t": 30, "b": 28},
        )  # fmt: skip
        made.layout.yaxis.tickfont.color = LEG_Y


def _thresholds(
    made: go.Figure, time: Floats, zscore: Floats, entry: float, exit_: float, stop: float | None
) -> None:
    where = axis(2)
    levels = [(entry, MUTED), (-entry, MUTED)]
    levels += [(exit_, GOOD), (-exit_, GOOD)] if exit_ else [(0.0, GOOD)]
    levels += [(stop, BAD), (-stop, BAD)] if stop else []
    for level, colour in levels:
        made.add_shape(
            type="line", xref="x domain", x0=0, x1=1, yref=where, y0=level, y1=level,
            line={"color": colour, "width": 1, "dash": "dot"}, layer="below",
        )  # fmt: skip
    for low, high in ((entry, stop or entry + 2), (-(stop or entry + 2), -entry)):
        made.add_shape(
            type="rect", xref="x domain", x0=0, x1=1, yref=where, y0=low, y1=high,
            fillcolor=SCORE, opacity=0.07, line_width=0, layer="below",
        )  # fmt: skip
    made.layout["yaxis3"].update(tickmode="array", tickvals=sorted(level for level, _ in levels))
    for sign, symbol, colour, name in (
        (-1.0, "triangle-up", GOOD, "long entry"),
        (1.0, "triangle-down", BAD, "short entry"),
    ):
        at = entries(sign * zscore, entry, exit_)
        made.add_scatter(
            x=time[at], y=zscore[at], yaxis=where, mode="markers", name=name, hoverinfo="skip",
            marker={"symbol": symbol, "size": 9, "color": colour},
        )  # fmt: skip


def entries(score: Floats, entry: float, exit_: float) -> npt.NDArray[np.intp]:
    """The rows where `score` first exceeds `entry` after having been at or below `exit_`; NaN
    is no evidence of either."""
    found, armed = [], True
    for row, value in enumerate(score.tolist()):
        if armed and value > entry:
            found.append(row)
            armed = False
        elif value <= exit_:
            armed = True
    return np.array(found, dtype=np.intp)


def _band(made: go.Figure, time: Floats, frame: pd.DataFrame) -> None:
    """β with ± two standard errors. The band is one closed outline, cut at missing rows."""
    known = frame["beta_std"].notna() & frame["beta"].notna()
    if known.any():
        part = frame[known.to_numpy()]
        at = time[known.to_numpy()]
        upper = (part["beta"] + 2 * part["beta_std"]).to_numpy()
        lower = (part["beta"] - 2 * part["beta_std"]).to_numpy()
        made.add_scatter(
            x=np.concatenate([at, at[::-1]]), y=np.concatenate([upper, lower[::-1]]),
            yaxis=axis(3), fill="toself", fillcolor="rgba(76,154,255,0.16)", mode="lines",
            line={"width": 0}, name="β ± 2 s.e.", hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    _line(made, time, frame["beta"], 3, "β", TEXT, ".6~g")
