"""The scanner: every pair of a venue, tested beside the page, ranked, and chance paid for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pairs.analytics.scan import adjusted_p, scan_pairs, small_sample_p
from pairs.bars.files import frame_csv
from pairs.dashboard.context import Page, base_of, instruments_at
from pairs.dashboard.download import download_button
from pairs.dashboard.following import Wanted, current
from pairs.dashboard.sidebar import BESIDE, VENUE_NAMES, leg_label, open_pair
from pairs.figures.plain import plain
from pairs.figures.tables import note_html
from pairs.figures.theme import NONE, duration, number, significant
from pairs.live.bars import ends_of, stored_closes
from pairs.live.jobs import Job, Progress
from pairs.market import Instrument, bar_seconds
from pairs.storage.reader import Reader

SPANS = {f"{bars:,} bars": bars for bars in (300, 600, 1200, 3600, 10_000)}
RATES = {
    "Any adjusted p": math.inf,
    "Adjusted p ≤ 10 %": 0.1,
    "Adjusted p ≤ 5 %": 0.05,
    "Adjusted p ≤ 1 %": 0.01,
}
LIVES = {
    "Any half-life": math.inf,
    **{f"Half-life ≤ {bars} bars": float(bars) for bars in (10, 30, 100, 300)},
}
LEVEL = 0.05
AUTOMATIC = 250_000  # rows to be tested without being asked: some two seconds of one core
LEAST_S = 5  # between two scans
SHOWN = 500  # rows on the page; the file has all
TABLE = "scan-table"


@dataclass(frozen=True, slots=True)
class Universe:
    """What is scanned: instruments, how their bars are made, and over how many of them."""

    venue: str
    instruments: tuple[Instrument, ...]
    bases: tuple[int, ...]
    bar: str
    bars: int
    prices: str

    @property
    def pairs(self) -> int:
        return math.comb(len(self.instruments), 2)

    @property
    def work(self) -> int:
        """Rows to be tested, of all pairs together."""
        return self.pairs * self.bars


@dataclass(frozen=True, slots=True)
class Scan:
    """A finished scan. `table`: the columns of `scan_pairs` and zscore, the residual's newest;
    y and x are full names. `since`, `until`: the first and the last bar used."""

    table: pd.DataFrame
    made: datetime
    since: pd.Timestamp | None
    until: pd.Timestamp | None
    stretches: int

    @property
    def tests(self) -> int:
        return int(self.table["p_value"].notna().sum())


def draw(page: Page) -> None:
    """The view on the page."""
    universe = _controls(page)
    if len(universe.instruments) < 2:
        st.info(
            f"Fewer than two symbols of {VENUE_NAMES[universe.venue]} have bars of "
            f"{plain(universe.bar)}: take in what stands beside them, or choose another bar length."
        )
        return
    if universe.work > AUTOMATIC and not _asked_for(universe):
        return
    limits = _limits()
    page.live("Scanner", lambda _: _scan(page, universe, *limits))


def _asked_for(universe: Universe) -> bool:
    """A market that takes long to scan is scanned when that is asked for: whether it was."""
    if st.session_state.get("scan_asked") == universe:
        return True
    st.html(
        note_html(
            f"Every two of {len(universe.instruments)} symbols, either leg explained, are tested "
            f"for cointegration over the last {number(universe.bars, 0)} bars of {universe.bar}."
        )
    )
    return st.button(
        plain(f"Scan {_pairs(universe.pairs)}"),
        type="primary",
        key="scan",
        icon=":material/search:",
        on_click=partial(st.session_state.__setitem__, "scan_asked", universe),
    )


def _scan(page: Page, universe: Universe, rate: float, longest: float, both: bool) -> None:
    title = f"Scanning {universe.pairs:,} pairs"
    bars = universe_until(page, universe)
    work = partial(scan_universe, page.store.reads, universe)
    job = current(Wanted("scan", title, (universe,), bars, work))
    if job is not None:
        _results(universe, job, rate, longest, both=both)


def universe_until(page: Page, universe: Universe) -> object:
    """Changes when a bar of the universe has closed, by the word of its feeds; a bar of a second
    or two is too short to look at all pairs anew."""
    pair = page.snapshot()
    newest = [leg.closed.index[-1].timestamp() for leg in pair.legs if not leg.closed.empty]
    pause = max(bar_seconds(universe.bar), LEAST_S)
    return max(newest, default=0.0) // pause, tuple(leg.revision for leg in pair.legs)


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count:,} pairs"


def _controls(page: Page) -> Universe:
    """Beside the names of the views."""
    venue, bar = page.choice.venue, page.choice.bar
    with page.options:
        guests = [name for name in BESIDE[venue] if instruments_at(page.store, name, bar)]
        chosen = (
            st.pills(
                "Beside it",
                guests,
                selection_mode="multi",
                key=f"guests_{venue}",
                format_func=lambda name: f"+ {VENUE_NAMES[name]}",
                label_visibility="collapsed",
            )
            if guests
            else []
        )
        prices = st.segmented_control(
            "Prices",
            ["Raw", "Log"],
            default="Raw",
            required=True,
            key="scan_prices",
            bind="query-params",
            label_visibility="collapsed",
            help="Of logs, β is an elasticity: so many % of y for one % of x.",
        )
        span = st.selectbox(
            "Bars to use",
            list(SPANS),
            index=1,
            key="scanned",
            bind="query-params",
            label_visibility="collapsed",
            width=140,
        )
    found = [i for name in (venue, *chosen) for i in instruments_at(page.store, name, bar)]
    bases = tuple(base_of(page.store, i, bar) for i in found)
    return Universe(venue, tuple(found), bases, bar, SPANS[str(span)], str(prices).lower())


# -- the work


def scan_universe(reads: Reader, universe: Universe, progress: Progress) -> Scan:
    """Every pair on the last bars before the first of its legs ends; a file ends where it ends,
    so that pairs of one end are read and scanned together."""
    bases = dict(zip(universe.instruments, universe.bases, strict=True))
    ends = ends_of(reads, universe.instruments, universe.bar, universe.bases)
    parts, stamps, done = [], [], 0
    for end in sorted(set(ends.values())):
        members = [i for i in ends if ends[i] >= end]
        fresh = {str(i) for i in members if ends[i] == end}
        pairs = [p for p in combinations(map(str, members), 2) if fresh & set(p)]
        if not pairs:
            continue
        closes = stored_closes(
            reads, members, universe.bar, [bases[i] for i in members], universe.bars, end
        )
        closes = closes.where(closes > 0)

        def told(step: int, _: int, before: int = done) -> None:
            progress(before + step, universe.pairs)

        table = scan_pairs(closes, pairs=pairs, prices=universe.prices, progress=told)
        parts.append(table.assign(zscore=residual_scores(closes, table, universe.prices)))
        stamps += [closes.index[0], closes.index[-1]] if len(closes) else []
        done += len(pairs)
    if not parts:
        raise ValueError("no two symbols have bars at the same time")
    whole = pd.concat(parts, ignore_index=True)
    whole["p_adjusted"] = adjusted_p(whole)
    whole = whole.sort_values("p_value", kind="stable", ignore_index=True)
    since, until = (min(stamps), max(stamps)) if stamps else (None, None)
    return Scan(whole, datetime.now(UTC), since, until, len(parts))


def residual_scores(closes: pd.DataFrame, table: pd.DataFrame, prices: str) -> list[float]:
    """Of each row of a scan: the newest residual over the deviation (ddof 1) of all of them, on
    the rows both legs have; in-sample, like the fit. NaN where there is no fit."""
    levels = {
        name: np.log(closes[name].to_numpy()) if prices == "log" else closes[name].to_numpy()
        for name in closes.columns
    }
    scores = []
    fits = zip(*(table[name] for name in ("y", "x", "beta", "intercept")), strict=True)
    for y, x, beta, intercept in fits:
        left = levels[y] - intercept - beta * levels[x]
        left = left[~np.isnan(left)]
        deviation = float(left.std(ddof=1)) if len(left) > 1 else 0.0
        scores.append(float(left[-1]) / deviation if deviation > 0 else math.nan)
    return scores


# -- the results


def _limits() -> tuple[float, float, bool]:
    """What is shown of the ranking: up to an adjusted p, up to a half-life, both directions."""
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    rate, longest = (
        limits[
            str(
                row.selectbox(
                    plain(label),
                    list(limits),
                    key=key,
                    width=200,
                    bind="query-params",
                    label_visibility="collapsed",
                )
            )
        ]
        for label, limits, key in (
            ("Adjusted p", RATES, "scan_rate"),
            ("Half-life", LIVES, "scan_life"),
        )
    )
    both = row.toggle(
        "Either leg explained",
        key="scan_both",
        bind="query-params",
        help="Both directions of each pair; else the one with the smaller p.",
    )
    return rate, longest, both


def _results(universe: Universe, job: Job, rate: float, longest: float, *, both: bool) -> None:
    scan: Scan = job.result
    st.html(f'<div class="pw" role="status">{verdict_html(scan)}</div>')
    row = st.container(horizontal=True, vertical_alignment="center")
    download_button(
        "CSV",
        partial(scan_csv, scan),
        f"scan_{universe.venue}_{universe.bar}.csv",
        "text/csv",
        key="download-scan",
        place=row,
        help="All rows, whatever is shown, with the reason where a pair could not be tested.",
    )
    row.html(note_html(*summary_of(universe, scan, job.took_s)))
    _table(universe, filtered(scan.table, rate, longest, both=both))


def summary_of(universe: Universe, scan: Scan, took_s: float) -> list[str]:
    """When, how many, over which bars."""
    told = [
        f"Made at {scan.made:%H:%M:%S} UTC in {duration(took_s)}: "
        f"{_pairs(len(scan.table) // 2)} of {len(universe.instruments)} symbols, "
        f"{number(universe.bars, 0)} bars of {universe.bar}"
    ]
    if scan.since is not None and scan.until is not None:
        told.append(f"between {scan.since:%Y-%m-%d %H:%M:%S} and {scan.until:%Y-%m-%d %H:%M:%S}.")
    if scan.stretches > 1:
        told.append("A pair's bars end where its first leg does.")
    return told


def verdict_html(scan: Scan) -> str:
    """What is left once chance is paid for, in one sentence, and what the correction means."""
    table, tests = scan.table, scan.tests
    if not tests:
        why = table["reason"].value_counts().index[0]
        head = f"No pair could be tested ({why}). Use more bars, or a shorter bar."
        return f'<p class="pw-title" data-testid="scan-verdict">{escape(head)}</p>'
    within = table["p_adjusted"] <= LEVEL
    passed, pairs = (
        len({frozenset(legs) for legs in zip(table["y"][rows], table["x"][rows], strict=True)})
        for rows in (within, table["p_value"].notna())
    )
    raw = int((small_sample_p(table) <= LEVEL).sum())
    if passed:
        head = f"{passed:,} of {_pairs(pairs)} pass at a false-discovery rate of 5 %."
    elif not raw:
        head = f"Nothing passes: none of {tests:,} tests has p ≤ 5 %."
    else:
        have = "has" if raw == 1 else "have"
        head = (
            f"Nothing passes: {raw:,} of {tests:,} tests {have} p ≤ 5 %, "
            "and none is left once that many tries are paid for."
        )
    if len(table) > tests:
        head += f" {len(table) - tests:,} could not be made; the file says why."
    rest = (
        f"In-sample. Of {tests:,} tests of unrelated pairs some {max(1, round(tests * LEVEL)):,} "
        "would have p ≤ 5 % by chance. The adjusted p of a pair pays for few rows, for looking "
        "both ways and for the number of pairs (Benjamini–Hochberg): it is the share of false "
        "finds, on average, when all pairs up to it are kept."
    )
    return f'<p class="pw-title" data-testid="scan-verdict">{escape(head)}</p>{note_html(rest)}'


def filtered(table: pd.DataFrame, rate: float, longest: float, *, both: bool) -> pd.DataFrame:
    """The tested rows up to an adjusted p and a half-life in bars, the smallest p first; of each
    pair the better direction only, unless `both`."""
    kept = table[table["p_adjusted"].notna() & (table["p_adjusted"] <= rate)]
    if math.isfinite(longest):
        kept = kept[kept["half_life"] <= longest]
    if not both:
        names = [tuple(sorted(pair)) for pair in zip(kept["y"], kept["x"], strict=True)]
        kept = kept[~pd.Series(names, index=kept.index, dtype=object).duplicated()]
    return kept


def scan_csv(scan: Scan) -> bytes:
    """The whole scan; `timestamp` is when it was made."""
    stamps = pd.DatetimeIndex([scan.made] * len(scan.table))
    return frame_csv(scan.table.set_axis(stamps, axis=0)).encode()


def _table(universe: Universe, kept: pd.DataFrame) -> None:
    if kept.empty:
        st.info("No tested pair is within these limits. Widen them to see the ranking.")
        return
    shown = kept.head(SHOWN)
    instruments = {str(i): i for i in universe.instruments}
    legs = [(instruments[y], instruments[x]) for y, x in zip(shown["y"], shown["x"], strict=True)]
    st.dataframe(
        styled(table_of(shown, legs, universe)),
        hide_index=True,
        width="stretch",
        row_height=30,
        height=min(30 * (len(shown) + 1) + 3, 540),
        key=TABLE,
        on_select=partial(_open, legs),
        selection_mode=["single-row", "single-cell"],
        column_config=COLUMNS,
        alt="Pairs ranked by p-value; a click opens the pair",
    )
    if st.session_state.pop("scan_opened", False):  # a fragment alone would run again
        st.rerun()
    more = f" The first {SHOWN} of {len(kept):,} are shown." if len(kept) > SHOWN else ""
    st.caption(f"A click on a row opens the pair in the Pair view.{plain(more)}")


def _open(legs: Sequence[tuple[Instrument, Instrument]]) -> None:
    """The pair that was clicked, in the pair view."""
    selection = st.session_state[TABLE].selection
    rows = [*selection.rows, *(row for row, _ in selection.cells)]
    if rows and rows[0] < len(legs):
        y, x = legs[rows[0]]
        open_pair(y, x, "Pair")
        st.session_state["scan_opened"] = True


COLUMNS = {
    "z now": st.column_config.NumberColumn(
        help="The newest residual over the deviation of all of them: of the fit's own bars."
    ),
    "R²": st.column_config.NumberColumn(
        help="Near 0 x explains nothing: y alone returns, which passes the test too."
    ),
    "corr.": st.column_config.NumberColumn(help="Of the log returns"),
    "statistic": st.column_config.NumberColumn(help="Engle–Granger; lags by AIC, a constant"),
    "adjusted p": st.column_config.NumberColumn(
        help="Of few rows, both ways paid for, Benjamini–Hochberg over all pairs"
    ),
    "half-life": st.column_config.NumberColumn(help="Bars"),
    "as time": st.column_config.NumberColumn(help="The half-life"),
}


def table_of(
    rows: pd.DataFrame, legs: Sequence[tuple[Instrument, Instrument]], universe: Universe
) -> pd.DataFrame:
    """The rows of a scan as the page shows them; numbers stay numbers, for sorting."""
    life = rows["half_life"].to_numpy()
    return pd.DataFrame(
        {
            "#": np.arange(1, len(rows) + 1),
            "y": [leg_label(y, universe.venue) for y, _ in legs],
            "x": [leg_label(x, universe.venue) for _, x in legs],
            "β": rows["beta"].to_numpy(),
            "R²": rows["r_squared"].to_numpy(),
            "corr.": rows["correlation"].to_numpy(),
            "statistic": rows["statistic"].to_numpy(),
            "p": rows["p_value"].to_numpy(),
            "adjusted p": rows["p_adjusted"].to_numpy(),
            "half-life": life,
            "as time": life * bar_seconds(universe.bar),
            "z now": rows["zscore"].to_numpy(),
            "bars": rows["rows"].to_numpy(),
        }
    )


def styled(table: pd.DataFrame) -> Any:
    """The table with its numbers as the page writes them."""

    def p(value: float) -> str:
        return "< 0.0001" if value < 0.0001 else number(value, 4)

    def life(value: float) -> str:
        return "∞" if value == math.inf else number(value, 1)

    formats: dict[Any, str | Callable[[Any], str] | None] = {
        "β": lambda v: significant(v, 5),
        "R²": lambda v: number(v, 3),
        "corr.": lambda v: number(v, 3),
        "statistic": lambda v: number(v, 2),
        "p": p,
        "adjusted p": p,
        "half-life": life,
        "as time": lambda v: duration(v) if math.isfinite(v) else NONE,
        "z now": lambda v: number(v, 2),
        "bars": lambda v: number(v, 0),
    }
    return table.style.format(formats)
