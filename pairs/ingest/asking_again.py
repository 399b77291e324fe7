"""What was given up is asked for again: at every start, and daily. An exchange that refused trades,
or told nothing that old, may have been ill in a way that nobody could know.

One request at a time, at the lowest priority. Where trades come, the ids are an open gap again, and
repair does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from pairs.feeds.binance.budget import BULK
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.ingest.repair import PATIENCE, Patience, nothing_before, older_than
from pairs.market import Venue
from pairs.messages import one_line
from pairs.retry import backoff, next_wait_s
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.gaps import AT_A_START, Again, Gap
from pairs.storage.given_up import GivenUp, given_up, postpone, reopen
from pairs.storage.postgres import PostgresStore

log = logging.getLogger("repair")
LOOK_EVERY_S = 300.0  # at what has become due
LONGEST = 20  # what is not answered waits so many times longer than an open gap


class AskingAgain:
    """Asks for what was given up of some symbols. `found` hears which of them can be repaired."""

    def __init__(
        self,
        store: PostgresStore,
        rest: BinanceRest,
        venue: Venue,
        symbols: Sequence[str],
        hours: float,
        found: Callable[[str], None],
        patience: Patience = PATIENCE,
        paused: Callable[[str], bool] = lambda symbol: False,
    ) -> None:
        self._store = store
        self._rest = rest
        self._venue = venue
        self._symbols = list(symbols)
        self._hours = hours
        self._found = found
        self._patience = patience
        self._paused = paused

    async def run(self) -> None:
        """Ask whenever something is due, until cancelled."""
        due: deque[GivenUp] = deque()
        start, waits = True, self._waits()
        while True:
            try:
                due.extend(await self._due(start) if not due else ())
                start = False
                while due:
                    await self._ask(due[0])
                    due.popleft()
                    waits = self._waits()
                await asyncio.sleep(min(LOOK_EVERY_S, self._patience.again_s))
            except (RestError, *DATABASE_ERRORS) as error:
                wait = next_wait_s(waits, error)
                log.warning('asking_again_waits seconds=%.1f reason="%s"', wait, error)
                due.rotate(-1)  # one that is never answered keeps no other waiting
                await asyncio.sleep(wait)

    def _waits(self) -> Iterator[float]:
        rng = random.Random()  # noqa: S311 - jitter, not cryptography
        return backoff(rng, self._patience.first_s, LONGEST * self._patience.longest_s)

    async def _due(self, start: bool) -> list[GivenUp]:
        return await asyncio.to_thread(given_up, self._store, self._venue, self._symbols, start)

    async def _ask(self, lost: GivenUp) -> None:
        gap = lost.gap
        if self._paused(gap.symbol):
            return
        missing = await asyncio.to_thread(self._store.first_missing, self._venue, gap)
        if missing is None:
            await asyncio.to_thread(self._store.close_gap, self._venue, gap)
            return
        if await self._too_old(Gap(gap.symbol, missing, gap.last_id)):
            await self._postpone(gap, AT_A_START, older_than(self._hours))
            return
        try:
            page = await self._rest.trades_from(gap.symbol, missing, kind=BULK)
        except RestError as error:
            if not error.final:
                raise
            await self._postpone(gap, self._patience.refusal, one_line(error))
            return
        told = [row.trade_id for row in page if row.trade_id >= missing]
        if not told:
            raise RestError(f"nothing is told of {gap.symbol} from id {missing} on")
        await self._decide(lost, missing, told[0])

    async def _decide(self, lost: GivenUp, missing: int, begins: int) -> None:
        """The exchange's trades begin with id `begins` where those from `missing` on were asked
        for: what it tells is open again, and so is what it refused before."""
        gap, first = lost.gap, lost.gap.first_id
        if begins > missing and not lost.refused:
            first = min(begins, gap.last_id + 1)
            again = Again(self._patience.again_s)
            await self._postpone(gap, again, nothing_before(begins))
        if first <= gap.last_id:
            log.info(
                "gap_open symbol=%s first_id=%d last_id=%d: it can be had after all",
                gap.symbol,
                first,
                gap.last_id,
            )
            await asyncio.to_thread(reopen, self._store, self._venue, gap, first)
            self._found(gap.symbol)

    async def _too_old(self, missing: Gap) -> bool:
        _, after, newest = await asyncio.to_thread(self._store.times_of, self._venue, missing)
        if after is None or newest is None:
            return False
        return after < newest - timedelta(hours=self._hours)

    async def _postpone(self, gap: Gap, again: Again, why: str) -> None:
        await asyncio.to_thread(postpone, self._store, self._venue, gap, again, why)
