"""Filling the holes: every open gap is asked for by id until it is filled or known to be lost.

By id and never by time: hundreds of trades can share one millisecond.
"""

from __future__ import annotations

import asyncio
import logging
import random
from bisect import bisect_right
from collections.abc import Iterable

import metrics
from feeds.backoff import backoff
from feeds.binance import Unstorable
from feeds.binance_rest import BinanceRest, InvalidSymbol, RestError
from market import Trade, Venue
from storage.errors import DATABASE_ERRORS
from storage.gaps import Gap
from storage.postgres import PostgresStore

log = logging.getLogger("repair")
GRACE_S = 0.3  # late frames mostly close a hole by themselves
PATIENCE = 40  # empty answers in a row, some 3 minutes, before a gap is given up
REFUSALS = 8  # refusals in a row (HTTP 400, 401, 404 …), some 15 s


class Repair:
    """Repairs the gaps of one venue, one symbol at a time each."""

    def __init__(self, store: PostgresStore, rest: BinanceRest, venue: Venue) -> None:
        self._store = store
        self._rest = rest
        self._venue = venue
        self._rng = random.Random()  # noqa: S311 - jitter, not cryptography
        self._wanted: dict[str, asyncio.Event] = {}

    def wake(self, symbol: str) -> None:
        """There may be a new gap in `symbol`."""
        self._event(symbol).set()

    def _event(self, symbol: str) -> asyncio.Event:
        return self._wanted.setdefault(symbol, asyncio.Event())

    async def watch(self, symbol: str) -> None:
        """Repair every gap of `symbol`, those of earlier runs first; runs until cancelled."""
        event = self._event(symbol)
        event.set()
        waits = backoff(self._rng, 0.25)
        while True:
            await event.wait()
            await asyncio.sleep(GRACE_S)
            event.clear()
            try:
                while gaps := await asyncio.to_thread(self._store.open_gaps, self._venue, symbol):
                    metrics.GAPS_OPEN.labels(self._venue, symbol).set(len(gaps))
                    await self._repair(gaps)
                    waits = backoff(self._rng, 0.25)
                metrics.GAPS_OPEN.labels(self._venue, symbol).set(0)
            except (RestError, *DATABASE_ERRORS) as error:
                wait = max(next(waits), getattr(error, "retry_after_s", 0.0))
                log.warning('repair_waits symbol=%s seconds=%.1f reason="%s"', symbol, wait, error)
                await asyncio.sleep(wait)
                event.set()

    async def _repair(self, gaps: list[Gap]) -> None:
        """Ask for the first gap page by page, until it is filled or a part of it is known to be
        lost. Whatever a page tells of the others is stored with it."""
        gap = gaps[0]
        log.info("gap_open symbol=%s first_id=%d last_id=%d", *_key(gap))
        waits = backoff(self._rng, 0.25, 10.0)
        empty = refused = 0
        missing = await asyncio.to_thread(self._store.first_missing, self._venue, gap)
        while missing is not None:
            try:
                # A whole page, however small the hole: what comes after it tells void from late.
                page = await self._rest.trades_from(gap.symbol, missing)
            except RestError as error:
                refused += 1
                if not error.refused:
                    raise  # an outage: asked again without end
                if isinstance(error, InvalidSymbol) or refused >= REFUSALS:
                    await self._lose(gap, missing, gap.last_id, "unrecoverable", str(error))
                    return
                await asyncio.sleep(next(waits))
                continue
            refused = 0
            page = [row for row in page if row.trade_id >= missing]
            if not page:
                empty += 1  # REST may trail the stream
                if empty >= PATIENCE:
                    why = f"the exchange has not told them in {empty} requests"
                    await self._lose(gap, missing, gap.last_id, "unrecoverable", why)
                    return
                await asyncio.sleep(next(waits))
                missing = await asyncio.to_thread(self._store.first_missing, self._venue, gap)
                continue
            if page[0].trade_id > missing:
                await self._skip(gap, missing, min(page[0].trade_id - 1, gap.last_id))
                return
            empty = 0
            wanted = [row for row in page if row.trade_id <= gap.last_id]
            await self._store_page(gap.symbol, wanted + _inside(page[len(wanted) :], gaps))
            if isinstance(wanted[0], Unstorable):
                why = f"the exchange tells it, but {wanted[0].rejected.reason}"
                await self._lose(gap, missing, missing, "unrecoverable", why)
                return
            missing = _after(missing, [row.trade_id for row in wanted if isinstance(row, Trade)])
            if missing > gap.last_id:
                missing = await asyncio.to_thread(self._store.first_missing, self._venue, gap)
        closed = await asyncio.to_thread(self._store.close_gap, self._venue, gap)
        metrics.GAPS_FILLED.labels(self._venue, gap.symbol).inc(closed)
        log.info("gap_filled symbol=%s first_id=%d last_id=%d", *_key(gap))

    async def _store_page(self, symbol: str, page: Iterable[Trade | Unstorable]) -> None:
        """Store what can be stored; keep aside what stands first and cannot."""
        rows = list(page)
        trades = [row for row in rows if isinstance(row, Trade)]
        if trades:
            written = await asyncio.to_thread(self._store.write, self._venue, trades)
            metrics.note_stored(self._venue, written)
        if rows and isinstance(rows[0], Unstorable):
            log.warning('quarantined symbol=%s reason="%s"', symbol, rows[0].rejected.reason)
            await asyncio.to_thread(self._store.quarantine, self._venue, [rows[0].rejected])
            metrics.QUARANTINED.labels(self._venue).inc()

    async def _skip(self, gap: Gap, first: int, last: int) -> None:
        """The exchange begins later than asked: the ids never were trades, or are gone."""
        before = await self._rest.trades_from(gap.symbol, max(0, first - 1), 1)
        if before and before[0].trade_id == first - 1:
            why = "the exchange tells the trades before and after, but none with these ids"
            await self._lose(gap, first, last, "void", why)
        else:
            why = f"the exchange tells nothing before id {last + 1} any more"
            await self._lose(gap, first, last, "unrecoverable", why)

    async def _lose(self, gap: Gap, first: int, last: int, state: str, why: str) -> None:
        metrics.GAPS_LOST.labels(self._venue, gap.symbol, state).inc()
        log.error(
            'gap_lost symbol=%s first_id=%d last_id=%d state=%s reason="%s"',
            gap.symbol, first, last, state, why,
        )  # fmt: skip
        await asyncio.to_thread(self._store.settle, self._venue, gap, first, last, state, why)

    async def begin(self, symbol: str, first_id: int) -> int:
        """Begin the record of `symbol` at `first_id`, unless it has one; its highest known id."""
        await asyncio.to_thread(self._store.begin_at, self._venue, symbol, first_id)
        known = await asyncio.to_thread(self._store.known_ids, self._venue, symbol)
        return first_id - 1 if known is None else known[1]

    async def catch_up(self, symbol: str, after: int) -> int:
        """Fetch what the exchange has beyond id `after` (a stream that has fallen silent); the
        newest id then known. What is missing in between becomes a gap."""
        while True:
            page = await self._rest.trades_from(symbol, after + 1)
            trades = [t for t in page if isinstance(t, Trade) and t.trade_id > after]
            if not trades:
                return after
            written = await asyncio.to_thread(self._store.write, self._venue, trades)
            metrics.note_stored(self._venue, written)
            if written.gaps:
                self.wake(symbol)
            after = trades[-1].trade_id


def _key(gap: Gap) -> tuple[str, int, int]:
    return gap.symbol, gap.first_id, gap.last_id


def _inside(rows: list[Trade | Unstorable], gaps: list[Gap]) -> list[Trade | Unstorable]:
    """The rows that lie in one of `gaps`. Both ascend."""
    starts = [gap.first_id for gap in gaps]
    found = []
    for row in rows:
        k = bisect_right(starts, row.trade_id) - 1
        if k >= 0 and row.trade_id <= gaps[k].last_id:
            found.append(row)
    return found


def _after(expected: int, ids: list[int]) -> int:
    """The first id that does not continue the run beginning at `expected`."""
    for trade_id in ids:
        if trade_id != expected:
            break
        expected += 1
    return expected
