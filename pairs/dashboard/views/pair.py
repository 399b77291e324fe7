"""The pair view: prices, spread, z-score with its thresholds, hedge ratio, correlation."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pairs.analytics.pair import PairView
from pairs.dashboard.alerting.on_chart import alerts_column, marks_on_chart, picked_line
from pairs.dashboard.context import Page, shared
from pairs.figures.layout import incomplete_note, rows_since, spans, steady
from pairs.figures.pair import Asked, figure, scatter_figure
from pairs.figures.plain import plain
from pairs.figures.statistics import (
    VERDICT_BARS,
    filter_html,
    findings_of,
    joint_html,
    obstacle_of,
    stretch_of,
    verdicts,
)
from pairs.figures.tables import note_html, table_html
from pairs.live.bars import KEEP_BARS, Snapshot
from pairs.market import bar_seconds

HEIGHT = "max(calc(100vh - 15rem), 32rem)"
CALM_S = 5  # what takes its time to be read is not made anew more often
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
        st.info(plain(page.nothing()))
        return
    raw, shown = st.session_state.get("scale") == "Price", bars_shown(page)
    length = bar_seconds(choice.bar)
    newest = newest_of(snapshot)
    bars, until = steady(shown, newest, length)
    if snapshot.live:
        bars = rows_since(view.frame.index, bars, newest, length)
    identity = "/".join(map(str, ("pair", *choice.pair, choice.bar, shown)))
    legs = (choice.y.symbol, choice.x.symbol)
    incomplete = tuple(page.incomplete(leg, bars) for leg in snapshot.legs)
    if lacking := incomplete_note(list(zip(legs, incomplete, strict=True))):
        st.html(note_html(lacking))
    asked = Asked(
        legs,
        choice.bar,
        bars,
        choice.entry_z,
        choice.exit_z,
        choice.stop_z,
        raw=raw,
        until=until if snapshot.live and choice.refresh_s is not None else None,
        uirevision=f"{identity}/{raw}",
    )
    left, right = st.columns([3.9, 1], gap="medium")
    with left:
        picked_line(page)
        page.live_chart(
            lambda: figure(view, asked, incomplete),
            (choice, shown, raw),
            (*page.key(snapshot), *map(len, incomplete)),
            name="Pair",
            height=HEIGHT,
        )
        marks_on_chart(page, view, "Pair")
    with right:
        calm = calm_key(page, snapshot)
        verdict = shared(lambda: verdict_html(view, legs, choice.bar), ("verdict", *calm))
        st.html(verdict)
        if told := filter_html(view.filter_deviation):
            st.html(told)
        alerts_column(page)
        st.html('<div class="pw"><p class="pw-title">Regression</p></div>')
        page.chart(
            lambda: scatter_figure(view, legs, identity), calm, name="Regression", height="14rem"
        )


def newest_of(snapshot: Snapshot) -> pd.Timestamp:
    """The open time of the newest closed bar of any leg."""
    newest: pd.Timestamp = max(leg.closed.index[-1] for leg in snapshot.legs if len(leg.closed))
    return newest


def calm_key(page: Page, snapshot: Snapshot) -> tuple[object, ...]:
    """What depends on the closed bars, but need not follow each of them: made anew with the first
    bar of every CALM_S seconds."""
    now = newest_of(snapshot).floor(f"{CALM_S}s")
    return (page.choice, *(leg.instrument for leg in snapshot.legs), now)


def verdict_html(view: PairView, symbols: tuple[str, str], bar: str) -> str:
    """What the tests say of the last bars, in a narrow column; Statistics tells all."""
    frame, title = stretch_of(view, VERDICT_BARS), "Verdict · in-sample"
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
    return (
        table_html(title, ("test", "value", "verdict"), brief, (1,))
        + joint_html(tests)
        + note_html(f"The last {len(frame):,} bars with a spread, lags by the AIC.")
    )
