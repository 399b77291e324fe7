"""Bars that the exchange states: the time before the record, and the trades that were given up.

What is wanted stands in the database (storage/wanted.py) and is asked for page by page, newest
first, every symbol in its turn: what has come is stored, whatever becomes of the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from feeds.backoff import backoff, next_wait_s
from feeds.binance import REST_PAGE
from feeds.binance_rest import BinanceRest, InvalidSymbol, RestError
from market import US_PER_S, Venue
from storage.errors import DATABASE_ERRORS
from storage.postgres import PostgresStore
from storage.wanted import Stretch, newest_klines, shrink, split, want, want_lost, wanted

log = logging.getLogger("history")

SECONDS_OF_HISTORY = 3600  # of 1 s bars; of 1 min bars it is HISTORY_HOURS
LONGER_S = (300, 900, 3600, 14_400, 86_400)  # also stated by both markets, for windows of weeks
LONGER_BARS = 2500  # of each
LONGER_FROM_H = 24.0  # whoever asks for less than a day of history gets none of them
SIDE_BY_SIDE = 4
REFUSALS = 5  # by the exchange itself: then it is asked more rarely
CLOSED_S = 2.0  # so long after its end a bar is told in full: REST may trail
LOOK_EVERY_S = 5.0  # at the clock and the list, while something is wanted
IDLE_S = 30.0
REFUSED_S = 600.0  # until an exchange that refuses clock or klines is asked again
LONG_PAGES = 12  # what has more left comes after everything shorter


def _waits() -> Iterator[float]:
    return backoff(random.Random(), 1.0, 60.0)  # noqa: S311 - jitter, not cryptography


@dataclass
class _Turn:
    """How it goes with the klines of one symbol and length."""

    served: int = 0  # the number of the request it came to last
    not_before: float = 0.0
    refused: int = 0
    stored: int = 0
    waits: Iterator[float] = field(default_factory=_waits)


class History:
    """Fetches the klines of some symbols: `hours` of them before the start with more of longer
    ones, and those in place of lost trades."""

    def __init__(
        self,
        store: PostgresStore,
        rest: BinanceRest,
        venue: Venue,
        symbols: Iterable[str],
        hours: float,
        paused: Callable[[str], bool] = lambda symbol: False,
    ) -> None:
        self._store = store
        self._rest = rest
        self._venue = venue
        self._symbols = list(symbols)
        self._hours = hours
        self._paused = paused
        self._planned = hours <= 0
        self._turns: defaultdict[tuple[str, int], _Turn] = defaultdict(_Turn)
        self._count = 0
        self._left: list[Stretch] = []
        self._now_us = 0  # by the exchange's clock
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Trades may have been given up."""
        self._news.set()

    async def run(self) -> None:
        """Note what is wanted, and ask for it; runs until cancelled."""
        waits = _waits()
        while True:
            try:
                self._news.clear()
                await self._look()
                busy = await self._ask_until(time.monotonic() + LOOK_EVERY_S)
                waits = _waits()
            except (RestError, *DATABASE_ERRORS) as error:
                wait = next_wait_s(waits, error)
                if isinstance(error, RestError) and error.final:
                    wait = max(wait, REFUSED_S)
                log.warning('history_waits seconds=%.1f reason="%s"', wait, error)
                await asyncio.sleep(wait)
            else:
                if not busy:
                    with contextlib.suppress(TimeoutError):
                        pause = LOOK_EVERY_S if self._left else IDLE_S
                        await asyncio.wait_for(self._news.wait(), pause)

    # -- what is wanted

    async def _look(self) -> None:
        """Read the list anew, with the holes given up since, and the exchange's clock."""
        if not self._planned:
            await self._plan(await self._clock_us() // US_PER_S)
            self._planned = True
        lengths = self._rest.protocol.kline_s
        await asyncio.to_thread(want_lost, self._store, self._venue, self._symbols, lengths)
        self._left = await asyncio.to_thread(wanted, self._store, self._venue, self._symbols)
        if self._left:
            self._now_us = await self._clock_us()

    async def _clock_us(self) -> int:
        """The exchange's clock. One that does not tell it has reached its newest bar at least."""
        try:
            return await self._rest.time_ms() * 1000
        except RestError as refusal:
            if not refusal.refused:
                raise
            for symbol in self._symbols[:3]:
                with contextlib.suppress(InvalidSymbol):
                    if newest := await self._rest.newest_klines(symbol, 60):
                        return newest[-1].ts_us + int(CLOSED_S * US_PER_S)
            raise

    async def _plan(self, now_s: int) -> None:
        """The bars before now, and those of the running minute: where the record could not begin
        with its first trade, the exchange's own bar stands in. The end is fixed here: a slow
        exchange must not run after the clock."""
        end_s = now_s // 60 * 60 + 60
        stretches = []
        for bar_s in self._rest.protocol.kline_s:
            span_s = int(self._hours * 3600)
            if bar_s < 60:
                span_s = min(SECONDS_OF_HISTORY, span_s)
            first_us = (now_s - span_s) // 60 * 60 * US_PER_S
            stretches += [
                Stretch(symbol, bar_s, first_us, end_s * US_PER_S) for symbol in self._symbols
            ]
        await asyncio.to_thread(want, self._store, self._venue, stretches)
        if self._hours >= LONGER_FROM_H:
            await asyncio.to_thread(self._want_longer, now_s)

    def _want_longer(self, now_s: int) -> None:
        """Bars longer than a minute, for windows that reach further back than the minutes do. What
        was wanted at an earlier start is stored or still wanted: only newer ones are, and as many
        as are kept."""
        newest = newest_klines(self._store, self._venue, self._symbols)
        stretches = []
        for symbol in self._symbols:
            for bar_s in LONGER_S:
                end_us = now_s // bar_s * bar_s * US_PER_S
                first_us = end_us - LONGER_BARS * bar_s * US_PER_S
                if (known := newest.get((symbol, bar_s))) is not None:
                    first_us = max(first_us, known + bar_s * US_PER_S)
                stretches.append(Stretch(symbol, bar_s, first_us, end_us))
        want(self._store, self._venue, stretches)

    # -- asking

    async def _ask_until(self, deadline: float) -> bool:
        """Ask for what is due, some pages side by side, until the deadline or nothing is due;
        whether anything was."""
        under_way: dict[asyncio.Task[Stretch | None], Stretch] = {}
        any_due = False
        try:
            while True:
                while len(under_way) < SIDE_BY_SIDE and time.monotonic() < deadline:
                    stretch = self._next(set(under_way.values()))
                    if stretch is None:
                        break
                    any_due = True
                    under_way[asyncio.create_task(self._page(stretch))] = stretch
                if not under_way:
                    return any_due
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._left.remove(under_way.pop(task))
                    if (rest := task.result()) is not None:
                        self._left.append(rest)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.wait(under_way) if under_way else None

    def _next(self, under_way: set[Stretch]) -> Stretch | None:
        """The stretch whose turn it is: short before long, minutes before seconds, of those alike
        the one that has waited longest. What is left of the running minute comes after a symbol's
        whole pages: its bits, newest first, would keep a slow exchange from them."""
        now = time.monotonic()
        low = any(_rank(stretch) > 1 for stretch in under_way)  # of those one at a time is enough
        due = [
            stretch
            for stretch in self._left
            if stretch not in under_way
            and not self._paused(stretch.symbol)
            and not (low and _rank(stretch) > 1)
            and self._closed_us(stretch) > stretch.first_us
            and self._turn(stretch).not_before <= now
        ]
        if not due:
            return None
        chosen = min(
            due,
            key=lambda s: (
                _rank(s),
                self._turn(s).served,
                s.symbol,
                self._closed_us(s) < s.until_us,
                -s.until_us,
            ),
        )
        self._count += 1
        self._turn(chosen).served = self._count
        return chosen

    def _turn(self, stretch: Stretch) -> _Turn:
        return self._turns[stretch.symbol, stretch.bar_s]

    def _closed_us(self, stretch: Stretch) -> int:
        """Up to when its bars have closed, by the exchange's clock as it was last told."""
        bar_us = stretch.bar_s * US_PER_S
        now_us = self._now_us - int(CLOSED_S * US_PER_S)
        return min(stretch.until_us, now_us // bar_us * bar_us)

    async def _page(self, stretch: Stretch) -> Stretch | None:
        """Fetch and store the newest page of a stretch; what is left of it."""
        turn = self._turn(stretch)
        try:
            closed_us = self._closed_us(stretch)
            if closed_us < stretch.until_us:
                await asyncio.to_thread(split, self._store, self._venue, stretch, closed_us)
                stretch = replace(stretch, until_us=closed_us)
            page_us = stretch.until_us - REST_PAGE * stretch.bar_s * US_PER_S
            page_us = max(page_us, stretch.first_us)
            klines = await self._rest.klines(
                stretch.symbol, stretch.bar_s, page_us // 1000, stretch.until_us // 1000
            )
            await asyncio.to_thread(self._store.write_klines, self._venue, klines)
            left = await asyncio.to_thread(shrink, self._store, self._venue, stretch, page_us)
        except (RestError, *DATABASE_ERRORS) as error:
            self._note_failure(stretch, error)
            return stretch
        turn.refused, turn.waits, turn.stored = 0, _waits(), turn.stored + len(klines)
        if left is None:
            log.info("%s: %d bars of %d s", stretch.symbol, turn.stored, stretch.bar_s)
            turn.stored = 0
        return left

    def _note_failure(self, stretch: Stretch, error: Exception) -> None:
        turn = self._turn(stretch)
        wait = next_wait_s(turn.waits, error)
        if isinstance(error, RestError) and error.final:
            turn.refused += 1
            if turn.refused >= REFUSALS:
                wait = max(wait, REFUSED_S)
        turn.not_before = time.monotonic() + wait
        log.warning(
            'klines_wait symbol=%s bar_s=%d seconds=%.1f reason="%s"',
            stretch.symbol, stretch.bar_s, wait, error,
        )  # fmt: skip


def _rank(stretch: Stretch) -> int:
    pages = (stretch.until_us - stretch.first_us) / (REST_PAGE * stretch.bar_s * US_PER_S)
    if pages > LONG_PAGES:
        return 3
    return {60: 0, 1: 1}.get(stretch.bar_s, 2)
