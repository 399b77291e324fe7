"""The statistics view: what the tests say of the pair, what its prices did, minute by minute, and
how the venue's symbols move together. Everything anew when a bar closes, and only then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pandas as pd
import streamlit as st

from pairs.analytics.pair import PairView
from pairs.analytics.pca import pca_factors
from pairs.analytics.scan import pair_correlations
from pairs.analytics.summary import interval_statistics
from pairs.bars.files import frame_csv
from pairs.dashboard.address import labels, start_with
from pairs.dashboard.context import Page, base_of, instruments_at, shared
from pairs.dashboard.download import download_button
from pairs.dashboard.provenance import file_name
from pairs.dashboard.sidebar import leg_label
from pairs.figures.plain import plain
from pairs.figures.statistics import (
    VERDICT_BARS,
    correlation_figure,
    interval_name,
    interval_s,
    intervals_html,
    prices_html,
    verdicts_html,
)
from pairs.figures.tables import note_html
from pairs.figures.theme import decimals_of, number
from pairs.live.bars import Snapshot, is_closed, stored_closes
from pairs.market import Instrument, bar_seconds

SPANS = {str(bars): bars for bars in (300, 600, 1200, 3600)}
span_label = labels({name: f"{bars:,} bars" for name, bars in SPANS.items()})
SHOWN = 60  # intervals
SYMBOLS = 40
PAUSE_S = 10  # the venue's correlations are computed at most this often


def draw(page: Page) -> None:
    """The view on the page."""
    choice, name = page.choice, interval_name(bar_seconds(page.choice.bar))
    with page.options:
        st.selectbox(
            "Bars looked at",
            list(SPANS),
            index=start_with("looked_at", list(SPANS), str(VERDICT_BARS), span_label),
            key="looked_at",
            format_func=span_label,
            label_visibility="collapsed",
            width=130,
        )
        download_button(
            f"{name.capitalize()}s as CSV",
            partial(intervals_csv, page),
            f"{file_name(choice.pair, choice.bar, name)}s.csv",
            "text/csv",
            key="download-intervals",
        )
    left, right = st.columns([1.9, 1], gap="medium")
    with left:
        page.live("Tests", _tests)
        page.live("Intervals", _intervals)
    with right:
        page.live("Prices", _prices)
        page.live("Correlations", _correlations)


def bars_looked_at() -> int:
    """What the choice beside the views says."""
    return SPANS.get(st.session_state.get("looked_at", ""), VERDICT_BARS)


def _symbols(page: Page) -> tuple[str, str]:
    return page.choice.y.symbol, page.choice.x.symbol


def _tests(page: Page) -> None:
    snapshot, view = page.now()
    bars, bar = bars_looked_at(), page.choice.bar
    if view.frame.empty:
        st.info(plain(page.nothing()))
        return
    st.html(
        shared(
            lambda: verdicts_html(view, _symbols(page), bar, bars),
            ("tests", *page.key(snapshot), page.choice.spec, bars),
        )
    )


def _prices(page: Page) -> None:
    snapshot, view = page.now()
    bars = bars_looked_at()
    if view.frame.empty:
        return
    since = view.frame.index[-min(bars, len(view.frame))]
    st.html(
        shared(
            lambda: prices_html((snapshot.y.closed, snapshot.x.closed), _symbols(page), since),
            ("prices", *page.key(snapshot), since),
        )
    )


# -- intervals


def _intervals(page: Page) -> None:
    snapshot, view = page.now()
    if view.frame.empty:
        return
    seconds = interval_s(bar_seconds(page.choice.bar))
    name = interval_name(bar_seconds(page.choice.bar))
    st.html(
        f'<p class="pw pw-title">{name.capitalize()} by {name}</p>'
        + note_html(f"The last {SHOWN}, newest first; … goes on. Bars: those of both legs.")
    )
    with st.container(height=300, border=False, key="minutes"):
        st.html(
            shared(
                lambda: _intervals_html(snapshot, view, page.choice.bar, seconds),
                ("intervals", *page.key(snapshot), page.choice.spec),
            )
        )


def _intervals_html(snapshot: Snapshot, view: PairView, bar: str, seconds: int) -> str:
    bars = (SHOWN + 1) * seconds // bar_seconds(bar)
    table = intervals_of(snapshot, view, seconds, bars).tail(SHOWN)
    decimals = tuple(decimals_of(leg.closed["close"].to_numpy()) for leg in snapshot.legs)
    goes_on = snapshot.live and any(
        not is_closed(table.index[-1], seconds, leg.feed) for leg in snapshot.legs
    )
    return intervals_html(table, seconds, (decimals[0], decimals[1]), goes_on)


def intervals_of(
    snapshot: Snapshot, view: PairView, seconds: int, bars: int | None = None
) -> pd.DataFrame:
    """Statistics of the intervals within the last `bars` common bars, None: all there are; the
    first only where the bars begin with it."""
    frame = view.frame if bars is None else view.frame.tail(bars)
    start = frame.index[0]
    legs = [leg.closed[leg.closed.index >= start] for leg in snapshot.legs]
    table = interval_statistics(frame, legs[0], legs[1], seconds)
    return table.iloc[1:] if len(table) > 1 and start > table.index[0] else table


def intervals_csv(page: Page) -> bytes:
    """All intervals of the bars at hand, as of the click."""
    snapshot, view = page.now()
    return frame_csv(
        intervals_of(snapshot, view, interval_s(bar_seconds(page.choice.bar)))
    ).encode()


# -- correlations


@dataclass(frozen=True, slots=True)
class Correlations:
    """Of the symbols of a venue; `shares`: what each of the first factors explains."""

    matrix: pd.DataFrame
    rows: int
    shares: list[float]
    absent: list[str]


def _correlations(page: Page) -> None:
    snapshot = page.snapshot()
    if any(leg.closed.empty for leg in snapshot.legs):
        return
    choice, bars = page.choice, bars_looked_at()
    instruments, others = _universe(page)
    bar_s = bar_seconds(choice.bar)
    newest = max(leg.closed.index[-1] for leg in snapshot.legs).timestamp()
    end = datetime.fromtimestamp((newest // bar_s + 1) * bar_s, UTC)
    pause = max(bar_s, PAUSE_S)
    key = ("correlations", instruments, choice.bar, bars, end.timestamp() // pause)
    found: Correlations = shared(lambda: correlations_of(page, instruments, bars, end), key)
    st.html('<p class="pw pw-title">Correlation of log returns · in-sample</p>')
    if len(found.matrix) < 2:
        st.info("Fewer than two symbols have 30 bars in this stretch. Look at more bars.")
        return
    page.chart(
        lambda: correlation_figure(found.matrix, "/".join(map(str, found.matrix.columns))),
        key,
        name="Correlations",
        height="max(15.5rem, calc(100vh - 49rem))",
    )
    st.html(note_html(*_told(found, choice.bar, bars, others, pause > bar_s)))


def _universe(page: Page) -> tuple[tuple[Instrument, ...], int]:
    """The pair and its venue's symbols up to SYMBOLS of them; and how many are left out."""
    choice = page.choice
    of_venue = instruments_at(page.store, choice.venue, choice.bar)
    wanted = [*choice.pair, *(i for i in of_venue if i not in choice.pair)]
    return tuple(sorted(wanted[:SYMBOLS])), len(wanted) - len(wanted[:SYMBOLS])


def correlations_of(
    page: Page, instruments: tuple[Instrument, ...], bars: int, end: datetime
) -> Correlations:
    """Read in one query, and computed, for the last `bars` bars before `end`."""
    bases = [base_of(page.store, i, page.choice.bar) for i in instruments]
    closes = stored_closes(page.store.reads, instruments, page.choice.bar, bases, bars, end)
    closes = closes.where(closes > 0)
    enough = closes.columns[closes.notna().sum() >= 30]
    called = {str(i): leg_label(i, page.choice.venue) for i in instruments}
    names = [called[name] for name in enough]
    absent = [called[name] for name in closes.columns.difference(enough)]
    known = closes[enough]
    matrix = pair_correlations(known) if len(enough) >= 2 else known.iloc[:0, :0]
    shares: list[float] = []
    common = known.dropna()
    moving = common.loc[:, common.nunique() > 1]
    if len(moving) >= 30 and moving.shape[1] >= 3:
        shares = pca_factors(moving, min(2, moving.shape[1])).explained.tolist()
    if len(matrix):
        matrix = matrix.set_axis(names, axis=0).set_axis(names, axis=1)
    return Correlations(matrix, len(closes), shares, absent)


def _told(found: Correlations, bar: str, bars: int, others: int, paused: bool) -> list[str]:
    """The caption of the heat map."""
    told = [f"The last {number(bars, 0)} bars of {bar}, each pair on the bars it has in common."]
    if found.shares:
        told.append(
            f"The first factor carries {found.shares[0] * 100:.0f} % of the variance, "
            f"the second {found.shares[1] * 100:.0f} %."
        )
    if paused:
        told.append(f"Anew every {PAUSE_S} s.")
    if found.absent:
        told.append(
            f"Fewer than 30 bars: {', '.join(found.absent[:5])}"
            f"{' …' if len(found.absent) > 5 else ''}."
        )
    if others:
        told.append(f"{others} further symbols are left out.")
    return told
