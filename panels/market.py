"""The market view: candles and volume of both legs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from live import Leg
from panels.desk import Desk
from panels.figures import axis, milliseconds, stacked
from panels.theme import BAD, GOOD, LEG_X, LEG_Y, decimals_of

CANDLES = 240
HEIGHT = "calc(100vh - 14.6rem)"


def draw(desk: Desk) -> None:
    """The view on the page."""
    desk.live("Market", _board)


def _board(desk: Desk) -> None:
    snapshot = desk.snapshot()
    if any(leg.closed.empty for leg in snapshot.legs):
        st.info("No closed bar is stored yet. Another bar length may have some.")
        return
    forming = tuple(
        None if leg.forming is None else (leg.forming.name, *leg.forming.iloc[:5])
        for leg in snapshot.legs
    )
    identity = "/".join(map(str, ("market", *desk.choice.pair, desk.choice.bar)))
    desk.chart(
        lambda: figure((snapshot.y, snapshot.x), identity), (*desk.key(snapshot), forming),
        name="Market", height=HEIGHT,
    )  # fmt: skip


def figure(legs: tuple[Leg, Leg], uirevision: str) -> go.Figure:
    """The last CANDLES closed bars of each leg, and the forming one drawn hollow."""
    made = stacked(
        [
            (legs[0].symbol, 3.0), ("volume", 0.9),
            (legs[1].symbol, 3.0), ("volume", 0.9),
        ],
        uirevision,
    )  # fmt: skip
    for k, (leg, colour) in enumerate(zip(legs, (LEG_Y, LEG_X), strict=True)):
        bars = leg.closed.tail(CANDLES)
        places = decimals_of(bars["close"].to_numpy())
        made.layout["yaxis" + axis(2 * k)[1:]].tickformat = f",.{min(places, 4)}f"
        _candles(made, bars, 2 * k, leg.symbol, hollow=False)
        if leg.forming is not None:
            forming = leg.forming.to_frame().T
            forming.index = pd.DatetimeIndex([leg.forming.name])
            _candles(made, forming.astype(float), 2 * k, f"{leg.symbol} forming", hollow=True)
        made.add_bar(
            x=milliseconds(pd.DatetimeIndex(bars.index)),
            y=bars["volume"].to_numpy(dtype=np.float64), yaxis=axis(2 * k + 1),
            name=f"{leg.symbol} volume", marker={"color": colour, "opacity": 0.55},
            hovertemplate="%{y:,.4~f}",
        )  # fmt: skip
    made.update_layout(bargap=0.15, showlegend=True)
    return made


def _candles(made: go.Figure, bars: pd.DataFrame, row: int, name: str, *, hollow: bool) -> None:
    columns = {c: bars[c].to_numpy(dtype=np.float64) for c in ("open", "high", "low", "close")}
    empty = "rgba(0,0,0,0)"
    made.add_candlestick(
        x=milliseconds(pd.DatetimeIndex(bars.index)), yaxis=axis(row), name=name, **columns,
        increasing={"line": {"color": GOOD, "width": 1}, "fillcolor": empty if hollow else GOOD},
        decreasing={"line": {"color": BAD, "width": 1}, "fillcolor": empty if hollow else BAD},
        showlegend=False, opacity=0.8 if hollow else 1,
    )  # fmt: skip
