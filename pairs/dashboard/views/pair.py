"""The pair view: prices, spread, z-score with its thresholds, hedge ratio, correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pairs.analytics.pair import PairView
from pairs.backtest.engine import positions
from pairs.backtest.rules import Rules
from pairs.dashboard.alerting.on_chart import alerts_column, marks_on_chart, picked_line
from pairs.dashboard.context import Page, shared
from pairs.figures.layout import (
    PLAIN,
    Floats,
    axis,
    floats,
    incomplete_note,
    mark_incomplete,
    milliseconds,
    show_all,
    spans,
    stacked,
    thinned,
    thinned_rows,
    with_breaks,
)
from pairs.figures.plain import figure_text
from pairs.figures.statistics import (
    filter_html,
    findings_of,
    joint_html,
    obstacle_of,
    stretch_of,
    verdicts,
)
from pairs.figures.tables import note_html, table_html
from pairs.figures.theme import (
    BAD,
    CORRELATION,
    GOOD,
    GRID,
    LEG_X,
    LEG_Y,
    MUTED,
    SCORE,
    SPREAD,
    TEXT,
    decimals_of,
)
from pairs.live.bars import KEEP_BARS
from pairs.market import bar_seconds

HEIGHT = "max(calc(100vh - 14.2rem), 32rem)"
NOTHING = "No closed bar of this pair is stored yet. Another bar length may have some."
CLOUD = 400  # points of the scatter
TESTED = 600  # bars of the verdict
BRIEF = {
    "E–G, y on x": "Engle–Granger, y",
    "E–G, x on y": "Engle–Granger, x",
    "Johansen": "Johansen",
    "Half-life": "Half-life",
}
BRIEF_FIXED = {"ADF": "ADF", "E–G": "Engle–Granger, y", "Hurst": "Hurst", "Half-life": "Half-life"}


def draw(page: Page) -> None:
    """The view on the page."""
    with page.options:
        st.segmented_control(
            "Prices",
            ["Change", "Price"],
            default="Change",
            required=True,
            key="scale",
            bind="query-params",
            label_visibility="collapsed",
        )
        span_control(page)
    page.live("Pair", _board)


def span_control(page: Page) -> None:
    """How much of the past to show; remembered per bar length."""
    offered = spans(bar_seconds(page.choice.bar), KEEP_BARS)
    start = next((name for name, bars in offered.items() if bars >= 500), next(iter(offered)))
    st.selectbox(
        "Show the last",
        list(offered),
        index=list(offered).index(start),
        key=f"span_{page.choice.bar}",
        bind="query-params",
        label_visibility="collapsed",
        width=110,
    )


def bars_shown(page: Page) -> int:
    """What `span_control` says, in bars."""
    offered = spans(bar_seconds(page.choice.bar), KEEP_BARS)
    return offered.get(st.session_state.get(f"span_{page.choice.bar}", ""), 600)


def _board(page: Page) -> None:
    choice = page.choice
    snapshot, view = page.now()
    if view.frame.empty:
        st.info(NOTHING)
        return
    raw, bars = st.session_state.get("scale") == "Price", bars_shown(page)
    identity = "/".join(map(str, ("pair", *choice.pair, choice.bar, bars)))
    legs = (choice.y.symbol, choice.x.symbol)
    incomplete = tuple(page.incomplete(leg, bars) for leg in snapshot.legs)
    if lacking := incomplete_note(list(zip(legs, incomplete, strict=True))):
        st.html(note_html(lacking))
    left, right = st.columns([3.9, 1], gap="medium")
    with left:
        picked_line(page)
        page.chart(
            lambda: figure(
                view,
                legs,
                choice.bar,
                bars=bars,
                entry_z=choice.entry_z,
                exit_z=choice.exit_z,
                stop_z=choice.stop_z,
                raw=raw,
                uirevision=identity,
                incomplete=incomplete,
            ),
            (*page.key(snapshot), choice, raw, bars, *map(len, incomplete)),
            name="Pair",
            height=HEIGHT,
        )
        marks_on_chart(page, view, "Pair")
    with right:
        verdict = shared(
            lambda: verdict_html(view, legs, choice.bar),
            ("verdict", *page.key(snapshot), choice.spec),
        )
        st.html(verdict)
        if told := filter_html(view.filter_deviation):
            st.html(told)
        alerts_column(page)
        st.html('<div class="pw"><p class="pw-title">Regression</p></div>')
        page.chart(
            lambda: scatter_figure(view, legs, identity),
            (*page.key(snapshot), choice),
            name="Regression",
            height="14rem",
        )


def verdict_html(view: PairView, symbols: tuple[str, str], bar: str) -> str:
    """What the tests say of the last TESTED bars, in a narrow column; Statistics tells all."""
    frame, title = stretch_of(view, TESTED), "Verdict · in-sample"
    obstacle = obstacle_of(view, frame, symbols)
    if obstacle is not None:
        return table_html(title, (), (), ()) + note_html(obstacle)
    tests = findings_of(view, frame)
    rows = verdicts(tests, bar_seconds(bar), view.spec.window)
    brief = [
        (short, row[1], row[4])
        for short, start in (BRIEF if tests.estimated else BRIEF_FIXED).items()
        for row in rows
        if str(row[0]).startswith(start)
    ]
    return table_html(title, ("test", "value", "verdict"), brief, (1,)) + joint_html(tests)


def figure(
    view: PairView,
    symbols: tuple[str, str],
    bar: str,
    *,
    bars: int,
    entry_z: float,
    exit_z: float,
    stop_z: float | None,
    raw: bool,
    uirevision: str,
    incomplete: tuple[pd.DatetimeIndex, ...] = (),
) -> go.Figure:
    """The last `bars` closed bars of a pair view. Prices as percent change since the first bar
    shown, or raw on two axes. Where there are more bars than points to draw, the extremes of each
    stretch are drawn."""
    known = view.frame.assign(side=sides(view, entry_z, exit_z, stop_z))
    symbols = figure_text(symbols[0]), figure_text(symbols[1])
    frame = with_breaks(known.tail(bars), bar_seconds(bar))
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
    if incomplete:
        either = incomplete[0].union(incomplete[1])
        mark_incomplete(made, 2, frame["zscore"], either, "z")
    _line(made, time, frame["spread"], 1, "spread", SPREAD, ".6~g")
    _line(made, time, frame["zscore"], 2, "z", SCORE, ".2f")
    _thresholds(made, entry_z, exit_z, stop_z)
    _turns(made, time, frame)
    _band(made, time, frame)
    show_all(made, time)
    _line(made, time, frame["correlation"], 4, "correlation", CORRELATION, ".3f")
    return made


def scatter_figure(view: PairView, symbols: tuple[str, str], uirevision: str) -> go.Figure:
    """The last CLOUD closes of the legs against each other, older ones fainter, and the line that
    the newest hedge ratio draws through them."""
    symbols = figure_text(symbols[0]), figure_text(symbols[1])
    frame = view.frame[["close_x", "close_y", "beta", "intercept"]].dropna(
        subset=["close_x", "close_y"]
    )
    last = frame.tail(CLOUD)
    x, y = last["close_x"].to_numpy(), last["close_y"].to_numpy()
    places = (decimals_of(x), decimals_of(y))
    made = go.Figure()
    made.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name="closes",
        marker={"size": 4, "color": LEG_Y, "opacity": 0.45},
        hovertemplate=f"{symbols[1]} %{{x:,.{places[0]}f}}<br>{symbols[0]} %{{y:,.{places[1]}f}}"
        "<extra></extra>",
    )
    beta, alpha = (
        float(frame[name].iloc[-1]) if len(frame) else np.nan for name in ("beta", "intercept")
    )
    if len(x) and np.isfinite(beta):
        ends = np.array([x.min(), x.max()])
        made.add_scatter(
            x=ends,
            y=alpha + beta * ends,
            mode="lines",
            name="α + βx",
            hoverinfo="skip",
            line={"color": TEXT, "width": 1.4},
        )
        made.add_scatter(
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            name="now",
            hoverinfo="skip",
            marker={"size": 9, "color": SCORE, "line": {"width": 1.5, "color": TEXT}},
        )
    made.update_layout(
        PLAIN,
        showlegend=False,
        uirevision=uirevision,
        margin={"l": 6, "r": 54, "t": 6, "b": 40},
        font_size=11,
        hovermode="closest",
        xaxis={
            "title": {"text": symbols[1], "font": {"color": LEG_X, "size": 11}},
            "gridcolor": GRID,
            "zeroline": False,
            "nticks": 4,
            "tickformat": ",~g",
        },
        yaxis={
            "title": {"text": symbols[0], "font": {"color": LEG_Y, "size": 11}},
            "gridcolor": GRID,
            "zeroline": False,
            "nticks": 5,
            "tickformat": ",~g",
            "side": "right",
        },
    )
    return made


def _line(
    made: go.Figure,
    time: Floats,
    values: pd.Series[float],
    row: int,
    name: str,
    colour: str,
    form: str,
    **more: Any,
) -> None:
    at, level = thinned(time, floats(values))
    made.add_scatter(
        x=at,
        y=level,
        yaxis=axis(row),
        name=name,
        mode="lines",
        line={"color": colour, "width": 1.4},
        hovertemplate=f"%{{y:{form}}}",
        **more,
    )


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
        change: pd.Series[float] = (close / known.iloc[0] - 1) * 100 if len(known) else close
        _line(made, time, change, 0, name, colour, "+.3f")
        made.data[-1].customdata = floats(close)[thinned_rows(time, floats(change))]
        made.data[-1].hovertemplate = f"%{{y:+.3f}} %  (%{{customdata:,.{places}f}})"
    if raw:  # two price levels need two scales: x on the left
        made.data[-1].yaxis = "y9"
        made.update_layout(
            yaxis9={
                "overlaying": "y",
                "side": "left",
                "anchor": "x",
                "showgrid": False,
                "tickfont": {"size": 11, "color": LEG_X},
                "zeroline": False,
            },
            margin={"l": 64, "r": 72, "t": 30, "b": 28},
        )
        made.layout.yaxis.tickfont.color = LEG_Y


def _thresholds(made: go.Figure, entry: float, exit_: float, stop: float | None) -> None:
    where = axis(2)
    levels = [(entry, MUTED), (-entry, MUTED)]
    levels += [(exit_, GOOD), (-exit_, GOOD)] if exit_ else [(0.0, GOOD)]
    levels += [(stop, BAD), (-stop, BAD)] if stop else []
    for level, colour in levels:
        made.add_shape(
            type="line",
            xref="x domain",
            x0=0,
            x1=1,
            yref=where,
            y0=level,
            y1=level,
            line={"color": colour, "width": 1, "dash": "dot"},
            layer="below",
        )
    for low, high in ((entry, stop or entry + 2), (-(stop or entry + 2), -entry)):
        made.add_shape(
            type="rect",
            xref="x domain",
            x0=0,
            x1=1,
            yref=where,
            y0=low,
            y1=high,
            fillcolor=SCORE,
            opacity=0.07,
            line_width=0,
            layer="below",
        )
    made.layout["yaxis3"].update(tickmode="array", tickvals=sorted(level for level, _ in levels))


def _turns(made: go.Figure, time: Floats, frame: pd.DataFrame) -> None:
    """Where the rules enter and leave, at the close that decides."""
    side, zscore = floats(frame["side"]), floats(frame["zscore"])
    before = np.concatenate([side[:1], side[:-1]])
    for rows, symbol, colour, name in (
        ((side > 0) & (before == 0), "triangle-up", GOOD, "long entry"),
        ((side < 0) & (before == 0), "triangle-down", BAD, "short entry"),
        ((side == 0) & (before != 0), "x-thin-open", MUTED, "exit"),
    ):
        at = np.flatnonzero(rows)
        made.add_scatter(
            x=time[at],
            y=zscore[at],
            yaxis=axis(2),
            mode="markers",
            name=name,
            hoverinfo="skip",
            marker={
                "symbol": symbol,
                "size": 8,
                "color": colour,
                "line": {"width": 1.5, "color": colour},
            },
        )


def sides(view: PairView, entry_z: float, exit_z: float, stop_z: float | None) -> Floats:
    """The side wanted from each row's close on, 1, −1 or 0: by the backtest's state machine, from
    the first row kept. Thresholds that cannot be traded, of which the sidebar warns, want none."""
    score = view.frame["zscore"].to_numpy(dtype=np.float64)
    try:
        rules = Rules(entry_z=entry_z, exit_z=exit_z, stop_z=stop_z)
    except ValueError:
        return np.zeros(len(score))
    return positions(score, rules).astype(np.float64)


def _band(made: go.Figure, time: Floats, frame: pd.DataFrame) -> None:
    """β with ± two standard errors. The band is one closed outline, cut at missing rows."""
    known = (frame["beta_std"].notna() & frame["beta"].notna()).to_numpy()
    if known.any():
        beta = frame["beta"].to_numpy()[known]
        rows = thinned_rows(time[known], beta)
        at, spread = time[known][rows], 2 * frame["beta_std"].to_numpy()[known][rows]
        made.add_scatter(
            x=np.concatenate([at, at[::-1]]),
            y=np.concatenate([beta[rows] + spread, (beta[rows] - spread)[::-1]]),
            yaxis=axis(3),
            fill="toself",
            fillcolor="rgba(76,154,255,0.16)",
            mode="lines",
            line={"width": 0},
            name="β ± 2 s.e.",
            hoverinfo="skip",
            showlegend=False,
        )
    _line(made, time, frame["beta"], 3, "β", TEXT, ".6~g")
