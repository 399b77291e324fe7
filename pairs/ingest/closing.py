"""When a market is silent: asking the exchange whether a bar that has ended is complete.

A trade closes the bars before it by itself: ids ascend, so everything older has come, or stands
in the gap table. A symbol that falls silent has no such trade. Once its bar has ended by the
exchange's clock, REST is asked for the newest id; where that is the highest stored, nothing was
printed up to the question, and the feed's watermark moves there. Never by a clock of this machine,
and not while the feed is neither live nor quiet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from pairs.clock import steady_us
from pairs.feeds.binance.budget import CLOSING
from pairs.feeds.binance.rest import PROBE_TIMEOUT_S, BinanceRest, RestError
from pairs.ingest.liveness import StreamState
from pairs.market import US_PER_S, Venue
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore

log = logging.getLogger("closing")

ASK_AFTER_US = 1_500_000  # a trade of the bar has mostly come by then
REST_LAG_US = 1_000_000  # REST may trail what is printed: so much of its answer is not believed
SHARE = 0.1  # of the exchange's weight per minute, for all questions
SHORT_SHARE = 0.5  # bars below a minute leave this much of it to the longer ones
RETRY_S, RETRY_CAP_S = 1.0, 16.0
LOOK_S = 0.2
READ_EVERY_S = 5.0
# What bars are made of or asked for. One of another length waits for the next of these to end.
LENGTHS_S = (
    1,
    5,
    10,
    15,
    30,
    60,
    120,
    180,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14_400,
    21_600,
    28_800,
    43_200,
    86_400,
    604_800,
)


def ended_us(last_us: int, reached_us: int, now_us: int) -> int:
    """The length, µs, of the longest bar with the trade at `last_us` in it that has ended before
    `now_us` and after `reached_us`, up to where all is known; 0 where no bar waits."""
    for length in reversed(LENGTHS_S):
        span = length * US_PER_S
        end = last_us // span * span + span
        if reached_us < end <= now_us:
            return span
    return 0


class Allowance:
    """The weight that questions may cost: it grows with time, up to what a minute allows."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._clock = clock
        self._have = per_minute
        self._at = clock()

    def take(self, weight: float, leave: float = 0.0) -> bool:
        """Whether so much may be spent, `leave` of a minute's allowance being kept back."""
        now = self._clock()
        self._have = min(self._most, self._have + (now - self._at) * self._most / 60.0)
        self._at = now
        if self._have - weight < leave * self._most:
            return False
        self._have -= weight
        return True


class Closing:
    """Raises the watermarks of silent symbols. `stalled_s` tells how long the database has kept
    the writer waiting: what has arrived meanwhile is not yet known, and nothing is asked."""

    def __init__(
        self,
        watched: Mapping[str, StreamState],
        rest: BinanceRest,
        store: PostgresStore,
        venue: Venue,
        stalled_s: Callable[[], float],
    ) -> None:
        self._watched = watched
        self._rest = rest
        self._store = store
        self._venue = venue
        self._stalled_s = stalled_s
        self._allowance = Allowance(SHARE * rest.protocol.weight_per_minute)
        self._reached: dict[str, int] = dict.fromkeys(watched, 0)
        self._asked: dict[str, int] = dict.fromkeys(watched, 0)  # the trade last asked about
        self._waits: dict[str, float] = dict.fromkeys(watched, RETRY_S)
        self._next: dict[str, float] = dict.fromkeys(watched, 0.0)
        self._asking: set[str] = set()

    async def run(self) -> None:
        """Ask about every bar that waits to be closed, until cancelled."""
        read_at = 0.0
        async with asyncio.TaskGroup() as rounds:
            while True:
                await asyncio.sleep(LOOK_S)
                if self._stalled_s() > 1.0:
                    continue
                if time.monotonic() - read_at >= READ_EVERY_S:
                    read_at = time.monotonic()
                    await self._read()
                due = self._due()
                if due:
                    self._asking |= due.keys()
                    rounds.create_task(self._ask(due))

    async def _read(self) -> None:
        """What is stored: from before this start, or what came over REST."""
        try:
            feeds = await asyncio.to_thread(self._store.reads.feeds, self._venue)
        except DATABASE_ERRORS as error:
            log.warning('not_read error="%s"', error)
            return
        for feed in feeds:
            stream = self._watched.get(feed.symbol)
            if stream is not None and feed.last_trade is not None:
                stream.last_us = max(stream.last_us, _us(feed.last_trade))
                self._reached[feed.symbol] = _us(feed.watermark or feed.last_trade)

    def exchange_us(self) -> int | None:
        """A moment that the exchange's clock has surely reached, by the times of its trades and
        the seconds since they came; None before the first."""
        leads = [s.lead_us for s in self._watched.values() if s.lead_us is not None]
        return max(leads) + steady_us() if leads else None

    def _due(self) -> dict[str, int]:
        """The symbols to ask about now, with the time of their newest trade; the longest bars
        first, as far as the allowance goes."""
        reached_by = self.exchange_us()
        if reached_by is None:
            return {}
        now, wanted = time.monotonic(), []
        for symbol, stream in self._watched.items():
            if stream.state not in ("live", "quiet") or symbol in self._asking:
                continue
            if stream.last_us != self._asked[symbol]:
                self._waits[symbol], self._next[symbol] = RETRY_S, 0.0
            length = ended_us(stream.last_us, self._reached[symbol], reached_by - ASK_AFTER_US)
            if length and now >= self._next[symbol]:
                wanted.append((-length, symbol, stream.last_us))
        cost = self._rest.protocol.weight("aggTrades")
        due = {}
        for length, symbol, last_us in sorted(wanted):
            leave = 0.0 if -length >= 60 * US_PER_S else SHORT_SHARE
            if not self._allowance.take(cost, leave):
                break
            due[symbol] = last_us
        return due

    async def _ask(self, due: Mapping[str, int]) -> None:
        try:
            await self._round(due)
        except (RestError, TimeoutError, *DATABASE_ERRORS) as error:
            log.debug('not_answered symbols=%d reason="%s"', len(due), error)
        finally:
            now = time.monotonic()
            for symbol, last_us in due.items():
                self._asked[symbol] = last_us
                self._next[symbol] = now + self._waits[symbol]
                self._waits[symbol] = min(RETRY_CAP_S, 2 * self._waits[symbol])
            self._asking -= due.keys()

    async def _round(self, due: Iterable[str]) -> None:
        """Ask the exchange for its time and then for the newest ids: they are then those of that
        time at least, whatever the clocks here say."""
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            told_us = await self._rest.time_ms() * 1000
        seen_us = self.exchange_us()
        if seen_us is None:
            return
        # A replay prints old times beside a clock of today: the earlier of the two counts.
        until_us = min(told_us, seen_us) - REST_LAG_US
        asked = [found for found in await asyncio.gather(*map(self._newest, due)) if found]
        asked = [one for one in asked if self._watched[one[0]].state in ("live", "quiet")]
        raised = await asyncio.to_thread(
            self._store.nothing_newer, self._venue, [(*one, until_us) for one in asked]
        )
        for symbol in raised:
            self._reached[symbol] = until_us

    async def _newest(self, symbol: str) -> tuple[str, int] | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                newest = await self._rest.latest_id(symbol, CLOSING)
        except (RestError, TimeoutError) as error:
            log.debug('not_told symbol=%s reason="%s"', symbol, error)
            return None
        return None if newest is None else (symbol, newest)


def _us(when: datetime) -> int:
    return round(when.timestamp() * US_PER_S)
