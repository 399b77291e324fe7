"""Live bars of a pair for the page: a bounded tape, a cursor, a lock. No Streamlit in it.

All sessions that look at the same pair share one `LivePair`. It asks the database at most once
per interval, however many tabs are open, and only for what is new. When the database is away it
keeps what it has and says since when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pandas as pd
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from market import bar_seconds
from resampling import resample_bars
from storage.queries import FeedStatus, newest_bar, read_bars, read_feeds

KEEP_BARS = 3600  # of the length shown, per leg
KEEP_STORED = 60_000  # of the stored length they are made from
GRACE_S = 1.5  # a bar without a later trade counts as closed this long after its end
DATABASE_ERRORS = (SQLAlchemyError, OSError)


@dataclass(frozen=True, slots=True)
class Leg:
    """One symbol's bars: the closed ones, and the one still forming (None between bars)."""

    symbol: str
    closed: pd.DataFrame
    forming: pd.Series[float] | None
    feed: FeedStatus | None

    @property
    def last_price(self) -> float:
        """Newest price known, NaN where there is none."""
        if self.forming is not None:
            return float(self.forming["close"])
        return float(self.closed["close"].iloc[-1]) if len(self.closed) else float("nan")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment. `error` is None, or why the database does not answer;
    `polled_at` is the monotonic time of the last good answer, 0 before the first."""

    y: Leg
    x: Leg
    venue: str
    bar: str
    polled_at: float
    error: str | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the database last answered."""
        return time.monotonic() - self.polled_at

    @property
    def closed_until(self) -> tuple[object, ...]:
        """Changes when, and only when, a closed bar of either leg is new or another one."""
        return tuple(
            (len(leg.closed), leg.closed.index[-1] if len(leg.closed) else None,
             leg.feed.revision if leg.feed else 0)
            for leg in (self.y, self.x)
        )  # fmt: skip


@dataclass(slots=True)
class _Tape:
    """Stored bars of one symbol, newest last, and the feed's revision they were read at."""

    symbol: str
    bars: pd.DataFrame
    revision: int = -1


def base_bar_s(bar: str, stored: list[int] | None = None) -> int:
    """The stored bar length that `bar` is made from: the longest that divides it."""
    wanted = bar_seconds(bar)
    sizes = [s for s in (stored or [1, 60]) if wanted % s == 0]
    if not sizes:
        raise ValueError(f"bars of {bar} cannot be made from stored bars of {stored} s")
    return max(sizes)


@dataclass
class LivePair:
    """The bars of two symbols of one venue at one length, kept up to date by `poll`."""

    engine: Engine
    venue: str
    symbols: tuple[str, str]
    bar: str
    base_s: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _snapshot: Snapshot | None = None
    _tried_at: float = float("-inf")
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        empty = pd.DataFrame(columns=["open", "high", "low", "close", "volume"], dtype=float)
        empty.index = pd.DatetimeIndex([], tz="UTC", name="ts")
        self._tapes = [_Tape(symbol, empty) for symbol in self.symbols]
        legs = [Leg(symbol, empty, None, None) for symbol in self.symbols]
        self._empty = Snapshot(legs[0], legs[1], self.venue, self.bar, 0.0)

    def poll(self, min_interval_s: float) -> Snapshot:
        """The newest state, asked for at most once per `min_interval_s` over all callers.

        Never raises for a database that is away: the last snapshot comes back with `error` set.
        """
        with self._lock:
            now = self.clock()
            if self._snapshot is not None and now - self._tried_at < min_interval_s:
                return self._snapshot
            self._tried_at = now
            try:
                self._snapshot = self._read()
            except DATABASE_ERRORS as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                self._snapshot = replace(self._snapshot or self._empty, error=lines[0])
            return self._snapshot

    def _read(self) -> Snapshot:
        feeds = {feed.symbol: feed for feed in read_feeds(self.engine, self.venue)}
        legs = [self._leg(tape, feeds.get(tape.symbol)) for tape in self._tapes]
        return Snapshot(legs[0], legs[1], self.venue, self.bar, self.clock())

    def _leg(self, tape: _Tape, feed: FeedStatus | None) -> Leg:
        self._advance(tape, feed)
        bars = tape.bars
        if bars.empty:
            return Leg(tape.symbol, bars, None, feed)
        if bar_seconds(self.bar) != self.base_s:
            bars = resample_bars(bars, self.bar)
            # The oldest one may lack its beginning: the tape was cut at a stored bar.
            bars = bars.iloc[1:] if len(bars) > 1 else bars
        bars = bars.tail(KEEP_BARS)
        if is_closed(bars.index[-1], bar_seconds(self.bar), feed):
            return Leg(tape.symbol, bars, None, feed)
        return Leg(tape.symbol, bars.iloc[:-1], bars.iloc[-1], feed)

    def _advance(self, tape: _Tape, feed: FeedStatus | None) -> None:
        """Read the bars from the newest known one on; all of them after a change behind it."""
        revision = feed.revision if feed else 0
        if tape.bars.empty or revision != tape.revision:
            newest = newest_bar(self.engine, self.venue, tape.symbol, self.base_s)
            if newest is None:
                return
            start = newest - timedelta(seconds=self._span_s())
            tape.bars = read_bars(self.engine, self.venue, tape.symbol, self.base_s, start)
        else:
            last: datetime = tape.bars.index[-1]
            new = read_bars(self.engine, self.venue, tape.symbol, self.base_s, last)
            tape.bars = pd.concat([tape.bars.iloc[:-1], new])
        tape.bars = tape.bars.tail(self._span_s() // self.base_s)
        tape.revision = revision

    def _span_s(self) -> int:
        return min(KEEP_BARS * bar_seconds(self.bar), KEEP_STORED * self.base_s)


def stored_bars(
    engine: Engine, venue: str, symbol: str, bar: str, base_s: int, span_s: float | None
) -> pd.DataFrame:
    """Closed bars of the last `span_s` seconds before the newest one, None: all that are stored.

    For exports: read anew from the database, however long. Raises as the database does.
    """
    newest = newest_bar(engine, venue, symbol, base_s)
    start = None
    if newest is not None and span_s is not None:
        start = newest - timedelta(seconds=span_s)
    bars = read_bars(engine, venue, symbol, base_s, start)
    if bars.empty:
        return bars
    if bar_seconds(bar) != base_s:
        bars = resample_bars(bars, bar)
        bars = bars.iloc[1:] if start is not None else bars
    feed = next((f for f in read_feeds(engine, venue) if f.symbol == symbol), None)
    return bars if is_closed(bars.index[-1], bar_seconds(bar), feed) else bars.iloc[:-1]


def is_closed(start: pd.Timestamp, bar_s: int, feed: FeedStatus | None) -> bool:
    """Whether no trade can fall into the bar any more, by the exchange's clock.

    That clock is the newest trade's time plus the seconds since its arrival, so that neither a
    wrong clock of this machine nor a replay of old data matters. Files have no feed: all closed.
    """
    if feed is None or feed.last_trade is None:
        return True
    end = start + timedelta(seconds=bar_s)
    if feed.last_trade >= end:
        return True
    return feed.last_trade + timedelta(seconds=(feed.received_age_s or 0) - GRACE_S) >= end
