"""Where the record of a new symbol begins: with the first trade of the running minute, so that
every bar built from its trades is whole. Older bars come as klines.

Asked while the streams run already: the first live trade waits for no answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping

from pairs.feeds.binance.rest import BinanceRest, InvalidSymbol, RestError
from pairs.ingest.liveness import StreamState
from pairs.ingest.repair import Repair
from pairs.market import Venue
from pairs.retry import backoff, next_wait_s
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore

log = logging.getLogger("ingest")

MINUTE_MS = 60_000
CLOCK_TIMEOUT_S = 4.0
PATIENCE_S = 600.0  # an exchange that has not answered by then: the minute's kline must do


async def begin_records(
    store: PostgresStore,
    rest: BinanceRest,
    repair: Repair,
    venue: Venue,
    watched: Mapping[str, StreamState],
) -> set[str]:
    """Begin the records of `watched`, symbols without any, side by side; those that the exchange
    does not know. What lies between the beginning and the first trade received is repaired."""
    if not watched:
        return set()
    minute_ms = await _minute_ms(rest)

    async def begin(symbol: str, stream: StreamState) -> str | None:
        since = minute_ms
        if stream.first_us is not None:  # heard before we asked: whole from that minute on
            since = min(minute_ms, stream.first_us // 1000 // MINUTE_MS * MINUTE_MS)
        stream.since_ms = since
        try:
            first = await _first_id(rest, symbol, since)
        except InvalidSymbol as error:
            log.error("%s: the exchange does not know this symbol (%s)", symbol, error)
            stream.state, stream.detail = "stale", "the exchange does not know this symbol"
            return symbol
        if first is not None and await _patiently(store, venue, symbol, first):
            stream.high_id = max(stream.high_id, first - 1)
            repair.wake(symbol)
        return None

    async with asyncio.TaskGroup() as asked:
        tasks = [asked.create_task(begin(*one)) for one in watched.items()]
    return {unknown for task in tasks if (unknown := task.result())}


async def _minute_ms(rest: BinanceRest) -> int:
    """The beginning of the running minute, by the exchange's clock."""
    try:
        async with asyncio.timeout(CLOCK_TIMEOUT_S):
            now_ms = await rest.time_ms()
    except (RestError, TimeoutError) as error:
        log.warning("no time from the exchange (%s): taking this machine's clock", error)
        now_ms = time.time_ns() // 1_000_000
    return now_ms // MINUTE_MS * MINUTE_MS


async def _first_id(rest: BinanceRest, symbol: str, since_ms: int) -> int | None:
    """The first id of the minute; None where there is none, or the exchange does not say."""
    waits = backoff(random.Random())  # noqa: S311 - jitter, not cryptography
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await rest.first_id_since(symbol, since_ms)
        except InvalidSymbol:
            raise
        except RestError as error:
            wait = next_wait_s(waits, error)
            if error.final or time.monotonic() + wait > until:
                log.warning("%s begins with its first trade received: %s", symbol, error)
                return None
            await asyncio.sleep(wait)


async def _patiently(store: PostgresStore, venue: Venue, symbol: str, first_id: int) -> bool:
    """Begin the record, however long the database is away; whether anything came of it."""
    waits = backoff(random.Random())  # noqa: S311
    while True:
        try:
            return await asyncio.to_thread(store.begin_before, venue, symbol, first_id)
        except DATABASE_ERRORS as error:
            wait = next(waits)
            log.warning('begin_waits symbol=%s seconds=%.1f reason="%s"', symbol, wait, error)
            await asyncio.sleep(wait)
