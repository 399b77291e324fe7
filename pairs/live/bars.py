"""Live bars of some instruments for the page: a bounded tape, a cursor, a lock. No Streamlit in it.

All sessions that look at the same instruments share one `LiveBars`. It asks the database at most
once per interval, however many tabs are open, and only for what is new or has changed. When the
database is away or hangs it keeps what it has and says since when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from pairs.bars.resampling import resample_bars
from pairs.live.asking import TROUBLED_S, Asked, UnansweredError
from pairs.live.tape import Tape, fuller, no_bars
from pairs.market import Instrument, bar_seconds
from pairs.messages import first_line, one_line
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.reader import FeedStatus, Reader

KEEP_BARS = 9000  # of the length shown, per leg: 30 days of 5 min, 2.5 h of 1 s
KEEP_STORED = 60_000  # of the stored length they are made from; what is older, the exchange states
EARLY = 0.2  # of an interval: a timer that comes so early need not wait for the next


@dataclass(frozen=True, slots=True)
class Leg:
    """One instrument's bars: the closed ones, and the one still forming (None between bars)."""

    instrument: Instrument
    closed: pd.DataFrame
    forming: pd.Series[float] | None
    feed: FeedStatus | None
    revision: int = 0  # of the bars: grows when one behind the newest changes

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def last_price(self) -> float:
        """Newest price known, NaN where there is none."""
        if self.forming is not None:
            return float(self.forming["close"])
        return float(self.closed["close"].iloc[-1]) if len(self.closed) else float("nan")

    @property
    def version(self) -> tuple[object, ...]:
        """Changes when, and only when, a closed bar is new or another one."""
        newest = self.closed.index[-1] if len(self.closed) else None
        return (self.instrument, len(self.closed), newest, self.revision)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment. `error` is None, or why the database does not answer;
    `polled_at` is the monotonic time of the last good answer, 0 before the first."""

    legs: tuple[Leg, ...]
    bar: str
    polled_at: float
    error: str | None = None

    @property
    def y(self) -> Leg:
        """The leg explained: the first."""
        return self.legs[0]

    @property
    def x(self) -> Leg:
        """The leg that explains: the second."""
        return self.legs[1]

    @property
    def venues(self) -> tuple[str, ...]:
        """The venues of the legs, each once, in their order."""
        return tuple(dict.fromkeys(leg.instrument.venue for leg in self.legs))

    @property
    def live(self) -> bool:
        """Whether these are bars of a market that goes on, rather than of a file."""
        return "upload" not in self.venues

    @property
    def age_s(self) -> float:
        """Seconds since the database last answered."""
        return time.monotonic() - self.polled_at

    @property
    def closed_until(self) -> tuple[object, ...]:
        """Changes when, and only when, a closed bar of a leg is new or another one."""
        return tuple(leg.version for leg in self.legs)


def base_bar_s(bar: str, stored: list[int] | None = None) -> int:
    """The stored bar length that `bar` is made from: the longest that divides it."""
    wanted = bar_seconds(bar)
    sizes = [s for s in (stored or [1, 60]) if wanted % s == 0]
    if not sizes:
        raise ValueError(f"bars of {bar} cannot be made from stored bars of {stored} s")
    return max(sizes)


@dataclass
class LiveBars:
    """The bars of some instruments at one length, kept up to date by `poll`.

    `bases`: the stored length, in seconds, that each one's bars are made from. `keep`: bars of the
    length shown, per leg, at most. A file beside a
    live market is history: all legs then end with the first of them to end, and none is polled
    for more than that.
    """

    reads: Reader
    instruments: tuple[Instrument, ...]
    bar: str
    bases: tuple[int, ...]
    clock: Callable[[], float] = time.monotonic
    keep: int = KEEP_BARS
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _snapshot: Snapshot | None = None
    _asked: Asked[Snapshot] | None = None
    _tried_at: float = float("-inf")

    def __post_init__(self) -> None:
        stored = max(KEEP_STORED, self.keep)
        self._tapes = [
            Tape(instrument, base, min(self.keep * bar_seconds(self.bar), stored * base))
            for instrument, base in zip(self.instruments, self.bases, strict=True)
        ]
        length = bar_seconds(self.bar)
        self._stated = [
            Tape(instrument, length, self.keep * length)
            if instrument.venue != "upload" and base != length
            else None
            for instrument, base in zip(self.instruments, self.bases, strict=True)
        ]
        legs = tuple(Leg(instrument, no_bars(), None, None) for instrument in self.instruments)
        self._empty = Snapshot(legs, self.bar, 0.0)
        files = [instrument.venue == "upload" for instrument in self.instruments]
        self._mixed = any(files) and not all(files)

    def poll(self, min_interval_s: float) -> Snapshot:
        """The newest state, asked for at most once per `min_interval_s` over all callers, on
        average; one poll in between may be EARLY.

        Never raises for a database that is away, and never waits long for one that hangs: the last
        snapshot comes back with `error` set.
        """
        with self._lock:
            asked = self._asked
            if asked is None or not asked.open:
                now = self.clock()
                waited = now - self._tried_at >= (1 - EARLY) * min_interval_s
                if self._snapshot is not None and not waited:
                    return self._snapshot
                # Early ones add up to none.
                self._tried_at = max(now, self._tried_at + min_interval_s)
                asked = self._asked = Asked(self._answer)
            last = self._snapshot or self._empty
        try:
            return asked.answer(TROUBLED_S if last.error is not None else None)
        except UnansweredError as error:
            return replace(last, error=last.error or one_line(error))

    def _answer(self) -> Snapshot:
        """In a thread of its own, and never in two at once."""
        try:
            self._snapshot = self._read()
        except DATABASE_ERRORS as error:
            self._snapshot = replace(self._snapshot or self._empty, error=first_line(error))
        return self._snapshot

    def _read(self) -> Snapshot:
        began = self.clock()  # ages are as of then
        with self.reads.moment() as reads:
            until = self._end(reads) if self._mixed else None
            feeds = {
                Instrument(venue, feed.symbol): feed
                for venue in dict.fromkeys(i.venue for i in self.instruments)
                if venue != "upload"
                for feed in reads.feeds(venue)
            }
            revisions = {instrument: feed.revision for instrument, feed in feeds.items()}
            files = [i.symbol for i in self.instruments if i.venue == "upload"]
            if files:
                revisions |= reads.upload_revisions(files)
            for tape, stated in zip(self._tapes, self._stated, strict=True):
                revision = revisions.get(tape.instrument, 0)
                tape.advance(reads, revision, until)
                if stated is not None and (stated.revision, stated.until) != (revision, until):
                    stated.advance(reads, revision, until)  # by word of the exchange alone
        legs = tuple(
            self._leg(tape, stated, feeds.get(tape.instrument))
            for tape, stated in zip(self._tapes, self._stated, strict=True)
        )
        return Snapshot(legs, self.bar, began)

    def _end(self, reads: Reader) -> datetime | None:
        """Where the first instrument to end does."""
        ends = [
            newest + timedelta(seconds=tape.base_s)
            for tape in self._tapes
            if (newest := reads.newest_bar(*tape.instrument, tape.base_s)) is not None
        ]
        return min(ends) if ends else None

    def _leg(self, tape: Tape, stated: Tape | None, feed: FeedStatus | None) -> Leg:
        bars, only = tape.bars, False
        if not bars.empty and bar_seconds(self.bar) != tape.base_s:
            bars = resample_bars(bars, self.bar)
            # The oldest one may lack its beginning: the tape was cut at a stored bar. Where there
            # is no other it is shown, but not as closed.
            only = len(bars) == 1
            bars = bars if only else bars.iloc[1:]
        if stated is not None:
            bars = fuller(bars, stated.bars)
        if bars.empty:
            return Leg(tape.instrument, _none_of(bars, self.bar), None, feed, tape.revision)
        bars = bars.tail(self.keep)
        if not only and is_closed(bars.index[-1], bar_seconds(self.bar), feed):
            return Leg(tape.instrument, bars, None, feed, tape.revision)
        return Leg(tape.instrument, bars.iloc[:-1], bars.iloc[-1], feed, tape.revision)


def _none_of(bars: pd.DataFrame, bar: str) -> pd.DataFrame:
    """An empty frame as one of bars of the length asked for, not of the stored one."""
    none = bars.copy()
    none.attrs["bar_ns"] = bar_seconds(bar) * 1_000_000_000
    return none


def stored_bars(
    reads: Reader, instrument: Instrument, bar: str, base_s: int, span_s: float | None
) -> pd.DataFrame:
    """Closed bars of the last `span_s` seconds before the newest one, None: all that are stored.

    For exports: read anew from the database, however long. Raises as the database does.
    """
    newest = reads.newest_bar(*instrument, base_s)
    start = None
    if newest is not None and span_s is not None:
        start = newest - timedelta(seconds=span_s)
    return bars_between(reads, instrument, bar, base_s, start, None, cut=start is not None)


def bars_between(
    reads: Reader,
    instrument: Instrument,
    bar: str,
    base_s: int,
    start: datetime | None,
    end: datetime | None,
    *,
    cut: bool = False,
) -> pd.DataFrame:
    """Closed bars with start ≤ ts < end, None: from the first, to the last. `cut`: `start` may
    lie within a bar, which is then left out."""
    length = bar_seconds(bar)
    bars = reads.bars(*instrument, base_s, start, end)
    if length != base_s and not bars.empty:
        bars = resample_bars(bars, bar)
        bars = bars.iloc[1:] if cut else bars
    if length != base_s and instrument.venue != "upload":
        bars = fuller(bars, reads.bars(*instrument, length, start, end))
    if bars.empty:
        return _none_of(bars, bar)
    feeds = [] if instrument.venue == "upload" else reads.feeds(instrument.venue)
    feed = next((f for f in feeds if f.symbol == instrument.symbol), None)
    return bars if is_closed(bars.index[-1], length, feed) else bars.iloc[:-1]


def ends_of(
    reads: Reader, instruments: Sequence[Instrument], bar: str, bases: Sequence[int]
) -> dict[Instrument, datetime]:
    """Until when each instrument has bars of this length; none for what has none.

    Files end where they end. Live instruments end together, with the newest of them: one that
    is quiet has not stopped.
    """
    legs = [(*i, base) for i, base in zip(instruments, bases, strict=True)]
    length = bar_seconds(bar)
    found = {}
    for instrument, newest in zip(instruments, reads.newest_bars(legs), strict=True):
        if newest is not None:
            start = newest.timestamp() // length * length
            found[instrument] = datetime.fromtimestamp(start + length, UTC)
    live = [end for instrument, end in found.items() if instrument.venue != "upload"]
    return {i: end if i.venue == "upload" else max(live) for i, end in found.items()}


def stored_closes(
    reads: Reader,
    instruments: Sequence[Instrument],
    bar: str,
    bases: Sequence[int],
    count: int,
    end: datetime,
) -> pd.DataFrame:
    """Closes of the closed bars among the last `count` before `end` (a multiple of the bar), one
    column per instrument under its full name, NaN where it has no bar. One query for all."""
    length = bar_seconds(bar)
    legs = [(*i, base) for i, base in zip(instruments, bases, strict=True)]
    start = end - timedelta(seconds=count * length)
    closes = reads.closes(legs, length, start, end)
    closes.columns = pd.Index([str(instrument) for instrument in instruments])
    venues = {i.venue for i in instruments} - {"upload"}
    feeds = {Instrument(v, f.symbol): f for v in venues for f in reads.feeds(v)}
    for instrument in instruments:
        column = closes[str(instrument)]
        if not column.notna().any():
            continue
        last = closes.index[column.notna()][-1]
        if not is_closed(last, length, feeds.get(instrument)):
            closes.loc[last, str(instrument)] = float("nan")
    return closes.dropna(how="all")


def is_closed(start: pd.Timestamp, bar_s: int, feed: FeedStatus | None) -> bool:
    """Whether no trade of the bar is still on its way: the feed's watermark has reached its end.

    By data alone: no clock of this machine, and no time that passes, closes a bar. Files have no
    feed: all closed. A feed of an older database has no watermark: its newest trade stands for it.
    """
    reached = None if feed is None else feed.watermark or feed.last_trade
    return reached is None or reached >= start + timedelta(seconds=bar_s)
