"""What every view of the page is given: the choices made, the store, and the live bars.

A view is a file of this folder with `draw(page)`; its figures are pure functions beside it. What
several sessions would compute alike is computed once for all of them, here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pairs.analytics.pair import PairSpec, PairView, pair_view
from pairs.dashboard.chart import draw_chart
from pairs.figures.growing import Growing, Sent, as_json
from pairs.figures.picture import Picture, pack
from pairs.figures.plain import plain
from pairs.live.asking import Asked, Remembered, UnansweredError
from pairs.live.bars import Leg, LiveBars, Snapshot, bars_between, base_bar_s, stored_bars
from pairs.live.jobs import Job, Jobs
from pairs.live.shared import SharedResults
from pairs.market import Instrument, bar_seconds
from pairs.messages import one_line
from pairs.settings import Settings
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore

log = logging.getLogger("dashboard")
AWAY = (*DATABASE_ERRORS, UnansweredError)  # what a database that is away or hangs ends in
LONG = 100_000  # bars of a leg kept for backtests; what is longer is read anew for each


@dataclass(frozen=True, slots=True)
class Choice:
    """What the sidebar asks for."""

    y: Instrument
    x: Instrument
    bar: str
    spec: PairSpec
    entry_z: float
    exit_z: float
    stop_z: float | None
    refresh_s: float | None

    @property
    def pair(self) -> tuple[Instrument, Instrument]:
        return self.y, self.x

    @property
    def venue(self) -> str:
        """Where the pair is at home: a file beside a live market is a guest there."""
        return next((leg.venue for leg in self.pair if leg.venue != "upload"), "upload")

    @property
    def name(self) -> str:
        return f"{self.y.symbol} / {self.x.symbol}"


@dataclass(frozen=True, slots=True)
class Page:
    """The store, the settings and the choices of one run of the page; `options` is the place
    beside the names of the views where a view puts its own controls."""

    store: PostgresStore
    settings: Settings
    choice: Choice
    options: DeltaGenerator

    def snapshot(self) -> Snapshot:
        """The pair's bars as of now, asked for at most once per refresh by all sessions."""
        return self.bars_of(self.choice.pair)

    def bars_of(self, instruments: tuple[Instrument, ...]) -> Snapshot:
        """Likewise of other instruments, at the bar length chosen."""
        return bars_of(self.store, instruments, self.choice.bar, self.choice.refresh_s or 1.0)

    def now(self) -> tuple[Snapshot, PairView]:
        """The pair's bars and what is known of it, from one and the same moment."""
        snapshot, spec = self.snapshot(), self.choice.spec
        view: PairView = shared(
            lambda: pair_view(snapshot.y.closed, snapshot.x.closed, spec),
            ("view", *self.key(snapshot), spec),
        )
        return snapshot, view

    def key(self, snapshot: Snapshot) -> tuple[Any, ...]:
        """What a result depends on beside the controls: the bars closed so far."""
        return (self.choice.bar, *snapshot.closed_until)

    def stored(
        self,
        instrument: Instrument,
        span_s: float | None,
        between: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    ) -> pd.DataFrame:
        """Closed bars of a span from the database, None: all; however many. `between`: from the
        bar that opens then to the one that opens then."""
        base = base_of(self.store, instrument, self.choice.bar)
        if between is not None:
            start, last = between
            end = last + pd.Timedelta(seconds=bar_seconds(self.choice.bar))
            times = start.to_pydatetime(), end.to_pydatetime()
            return bars_between(self.store.reads, instrument, self.choice.bar, base, *times)
        return stored_bars(self.store.reads, instrument, self.choice.bar, base, span_s)

    def nothing(self) -> str:
        """Why the pair has no bar to show, in words."""
        spans = [
            (
                leg.symbol,
                shared_read(
                    partial(self.store.reads.span, *leg, base_of(self.store, leg, bar)),
                    ("span", *leg, bar),
                ),
            )
            for bar in [self.choice.bar]
            for leg in self.choice.pair
        ]
        return nothing_words(spans, self.choice.bar)

    def sample(self, span_s: float | None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Closed bars of both legs over a span, None: all. What is kept is not read again; a
        longer stretch is, from the database. Raises as the database does."""
        choice, bases = self.choice, tuple(self.base_of(leg) for leg in self.choice.pair)
        bar_s = bar_seconds(choice.bar)
        if span_s is None or span_s <= LONG * bar_s:
            kept = long_bars(self.store, choice.pair, choice.bar, bases)
            legs = kept.poll(0.0).legs  # once per bar: never older than the bar it is asked for
            whole = all(len(leg.closed) < LONG // 2 for leg in legs)
            if span_s is not None or whole:
                y, x = (_last(leg, span_s) for leg in legs)
                return y, x
        y, x = (self.stored(leg, span_s) for leg in choice.pair)
        return y, x

    def base_of(self, instrument: Instrument) -> int:
        """The stored length, in seconds, that the bars chosen are made from."""
        return base_of(self.store, instrument, self.choice.bar)

    def incomplete(self, leg: Leg, bars: int) -> pd.DatetimeIndex:
        """Open times of those of the last `bars` closed bars of which a trade is known to be
        missing. None where the database does not answer: the strip says that."""
        shown = pd.DatetimeIndex(leg.closed.index[-bars:])
        if leg.feed is None or shown.empty:
            return shown[:0]
        key = (
            "incomplete",
            self.choice.bar,
            bars,
            *leg.version,
            leg.feed.open_gaps,
            leg.feed.missing,
        )
        try:
            found: pd.DatetimeIndex = shared(
                lambda: Asked(lambda: self._incomplete(leg, shown[0])).answer(), key
            )
        except AWAY as error:
            log.warning('incomplete_unknown reason="%s"', one_line(error))
            return shown[:0]
        return found.intersection(shown)

    def _incomplete(self, leg: Leg, since: pd.Timestamp) -> pd.DatetimeIndex:
        reads, length = self.store.reads, bar_seconds(self.choice.bar)
        base = base_of(self.store, leg.instrument, self.choice.bar)
        start = since.to_pydatetime()
        found = reads.incomplete(*leg.instrument, base, start).floor(f"{length}s").unique()
        if base == length or found.empty:
            return found
        # Of a longer bar the exchange may have stated as much as is shown.
        stated = reads.bars(*leg.instrument, length, start)["trades"].reindex(found)
        shown = leg.closed["trades"].reindex(found)
        return found[~(stated >= shown).to_numpy()]

    def live(self, name: str, draw: Callable[[Page], None]) -> None:
        """Draw a board now and at every refresh, behind a boundary of its own."""
        st.fragment(_board, run_every=self.choice.refresh_s)(self, name, draw)

    def chart(
        self, figure: Callable[[], Any], key: tuple[Any, ...], *, name: str, height: str
    ) -> None:
        """Show a figure, made once per `key` for all sessions; the node of `name` is kept."""
        sent = shared(
            lambda: Sent(as_json(pack(figure())), _version(name, key)), ("chart", name, *key)
        )
        self._draw(sent, None, name, height)

    def live_chart(
        self,
        picture: Callable[[], Picture],
        key: tuple[Any, ...],
        closed: tuple[Any, ...],
        *,
        name: str,
        height: str,
        forming: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Show a picture that grows: made once per `key` and `closed` for all sessions, and sent
        whole once per `key`. `forming`: arrays of traces that change between closed bars."""
        growing: Growing = shared(Growing, ("growing", name, *key))
        sent: Sent = shared(
            lambda: growing.advance(picture(), _version(name, (*key, *closed))),
            ("chart", name, *key, *closed),
        )
        patch = {
            "version": sent.version,
            "tails": sent.tails,
            "forming": {
                str(number): {part: values.tolist() for part, values in parts.items()}
                for number, parts in (forming or {}).items()
            },
        }
        self._draw(sent, patch, name, height)

    def _draw(self, sent: Sent, patch: dict[str, Any] | None, name: str, height: str) -> None:
        label = f"{name}: {self.choice.name}, bars of {self.choice.bar}"
        payload = {"packed": sent.packed, "version": sent.version}
        draw_chart(payload, patch, name=name, label=label, height=height)


def _version(name: str, key: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr((name, *key)).encode()).hexdigest()[:16]


def nothing_words(spans: Sequence[tuple[str, tuple[datetime, datetime] | None]], bar: str) -> str:
    """Why two legs have no bar in common: by symbol, the first and last bar stored."""
    lacking = [symbol for symbol, span in spans if span is None]
    if lacking:
        names = " and ".join(lacking)
        return f"No bar of {names} is stored that could make {bar}. Another length may have some."
    known = [(symbol, span) for symbol, span in spans if span is not None]
    told = ", ".join(
        f"{symbol} from {first:%d %b %Y %H:%M} to {last:%d %b %Y %H:%M}"
        for symbol, (first, last) in known
    )
    if max(first for _, (first, _) in known) > min(last for _, (_, last) in known):
        return f"{told} UTC: no common time. Choose legs of the same time."
    return f"{told} UTC: no closed bar of {bar} that both have yet."


def _last(leg: Leg, span_s: float | None) -> pd.DataFrame:
    """A leg's closed bars that begin within a span before its newest bar."""
    if span_s is None or leg.closed.empty:
        return leg.closed
    newest = leg.closed.index[-1] if leg.forming is None else pd.Timestamp(str(leg.forming.name))
    return leg.closed.loc[newest - pd.Timedelta(seconds=span_s) :]


def _board(page: Page, name: str, draw: Callable[[Page], None]) -> None:
    with boundary(name):
        draw(page)


@contextmanager
def boundary(name: str) -> Iterator[None]:
    """One board's failure stays in that board, is told in one sentence, and is logged."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("streamlit.runtime"):
            raise  # Streamlit's own control flow: rerun and stop
        log.exception("%s failed", name)
        st.error(f"{plain(name)} cannot be shown: {plain(one_line(error)[:300])}")


# -- shared by every session


@st.cache_resource(max_entries=64, show_spinner=False)
def live_bars(
    _store: PostgresStore, instruments: tuple[Instrument, ...], bar: str, bases: tuple[int, ...]
) -> LiveBars:
    return LiveBars(_store.reads, instruments, bar, bases)


def bars_of(
    store: PostgresStore, instruments: tuple[Instrument, ...], bar: str, refresh_s: float
) -> Snapshot:
    """Bars as of now, asked for at most once per refresh by all sessions."""
    bases = tuple(base_of(store, instrument, bar) for instrument in instruments)
    return live_bars(store, instruments, bar, bases).poll(refresh_s)


@st.cache_resource(max_entries=4, show_spinner=False)
def long_bars(
    _store: PostgresStore, instruments: tuple[Instrument, ...], bar: str, bases: tuple[int, ...]
) -> LiveBars:
    """Likewise of a long stretch, for what is tested on it anew at every bar."""
    return LiveBars(_store.reads, instruments, bar, bases, keep=LONG)


@st.cache_resource(show_spinner=False)
def jobs(lane: str = "files") -> Jobs:
    """What takes longer than a refresh runs here: in a lane one after the other."""
    return Jobs()


@st.cache_resource(show_spinner=False)
def remembered() -> Remembered:
    """What every run of the page needs of the database: while that is away, as it was last. The
    strip of numbers says so."""
    return Remembered(DATABASE_ERRORS)


@st.cache_data(ttl=3, show_spinner=False)
def symbols_of(_store: PostgresStore) -> dict[str, list[str]]:
    return remembered().get(("symbols", _store), _store.reads.symbols)


@st.cache_data(ttl=60, show_spinner=False)
def sizes_at(_store: PostgresStore, venue: str) -> dict[str, list[int]]:
    """Symbol → the bar lengths, in seconds, that others than the daemon have stored."""
    return remembered().get(("sizes", _store, venue), lambda: _store.reads.sizes(venue))


@st.cache_data(ttl=60, show_spinner=False)
def uploads_of(_store: PostgresStore) -> pd.DataFrame:
    return remembered().get(("uploads", _store), _store.reads.uploads)


def sizes_of(store: PostgresStore, instrument: Instrument) -> list[int]:
    """The bar lengths an instrument is stored at, in seconds."""
    if instrument.venue != "upload":
        return [1, 60]
    return sizes_at(store, instrument.venue).get(instrument.symbol, [])


def instruments_at(store: PostgresStore, venue: str, bar: str) -> list[Instrument]:
    """The instruments of a venue that have bars of this length, or such as make it up."""
    found = [Instrument(venue, symbol) for symbol in symbols_of(store).get(venue, ())]
    return [i for i in found if any(bar_seconds(bar) % s == 0 for s in sizes_of(store, i))]


def base_of(store: PostgresStore, instrument: Instrument, bar: str) -> int:
    return base_bar_s(bar, sizes_of(store, instrument))


@st.cache_resource(show_spinner=False)
def results() -> SharedResults:
    """What was made of the newest bars."""
    return SharedResults(256)


def shared(make: Callable[[], Any], key: tuple[Hashable, ...]) -> Any:
    """What `make` gives, made once per key for all sessions. Not to be changed by its users."""
    return results().get(make, key)


@st.cache_resource(ttl=0.8, max_entries=64, show_spinner=False)
def shared_read(_make: Callable[[], Any], key: tuple[Any, ...]) -> Any:
    """What `_make` reads from the database, read once for all sessions that ask at about the same
    time. Keys are few: they hold no time. Not to be changed by its users. A database that hangs
    ends it within seconds, with an error."""
    return Asked(_make).answer()


def follow(job: Job, on_stop: Callable[[], None] = lambda: None) -> None:
    """Show how far a job is, with a way to stop it; run the page again once it has finished."""

    @st.fragment(run_every=0.4)
    def look() -> None:
        if job.finished:
            st.rerun()
        st.progress(min(1.0, job.share), text=f"{plain(job.title)} …")
        if st.button("Stop", key=f"stop-{job.number}"):
            job.cancel()
            on_stop()

    look()


def forget() -> None:
    """Let the page notice new symbols and new bars of a file at once."""
    for cache in (symbols_of, sizes_at, uploads_of, live_bars, long_bars, results):
        cache.clear()
