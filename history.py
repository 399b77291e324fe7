"""What the daemon asks the exchange for at its start: where to begin, and the bars before that."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable

from feeds.backoff import backoff
from feeds.binance_rest import BinanceRest, InvalidSymbol, RestError
from market import Venue
from storage.errors import DATABASE_ERRORS
from storage.postgres import PostgresStore

log = logging.getLogger("history")

SECONDS_OF_HISTORY = 3600  # of 1 s bars; of 1 min bars it is HISTORY_HOURS
ATTEMPTS = 5
START_TIMEOUT_S = 4.0  # the stream must not wait for a REST interface that does not answer


async def begin_records(
    store: PostgresStore, rest: BinanceRest, venue: Venue, symbols: Iterable[str]
) -> dict[str, int | None]:
    """Begin the records of new symbols at the first trade of the running minute, so that every
    bar built from trades is whole; older bars come from klines.

    Returns symbol → highest known id (None where the record begins with the first trade
    received), without the symbols that the exchange does not know.
    """
    names = list(symbols)
    seconds = START_TIMEOUT_S + 0.2 * len(names)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            now_ms = await rest.time_ms()
    except (RestError, TimeoutError) as error:
        log.warning("no time from the exchange (%s): taking this machine's clock", error)
        now_ms = time.time_ns() // 1_000_000
    minute_ms = now_ms // 60_000 * 60_000

    async def begin(symbol: str) -> tuple[str, int | None] | None:
        known = await asyncio.to_thread(store.known_ids, venue, symbol)
        if known is not None:
            return symbol, known[1]
        try:
            async with asyncio.timeout(seconds):
                first = await rest.first_id_since(symbol, minute_ms)
        except InvalidSymbol as error:
            log.error("%s: the exchange does not know this symbol (%s)", symbol, error)
            return None
        except (RestError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            log.warning("%s begins with its first trade received: %s", symbol, why)
            first = None
        if first is None:
            return symbol, None
        await asyncio.to_thread(store.begin_at, venue, symbol, first)
        return symbol, first - 1

    return dict(found for found in await asyncio.gather(*map(begin, names)) if found)


async def fetch_history(
    store: PostgresStore, rest: BinanceRest, venue: Venue, symbols: Iterable[str], hours: float
) -> None:
    """Store the closed 1 min bars of the last `hours` and the 1 s bars of the last one.

    Failures are repeated a few times and then told: the live path does not depend on this.
    """
    span_s = int(hours * 3600)
    for symbol in symbols:
        for bar_s in rest.protocol.kline_s:
            seconds = span_s if bar_s == 60 else min(SECONDS_OF_HISTORY, span_s)
            waits = backoff(random.Random())  # noqa: S311 - jitter, not cryptography
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    count = await _fetch(store, rest, venue, symbol, bar_s, seconds)
                    log.info("%s: %d bars of %d s", symbol, count, bar_s)
                    break
                except InvalidSymbol:
                    break
                except (RestError, *DATABASE_ERRORS) as error:
                    log.warning("%s, attempt %d of %d: %s", symbol, attempt, ATTEMPTS, error)
                    await asyncio.sleep(next(waits))


async def _fetch(
    store: PostgresStore, rest: BinanceRest, venue: Venue, symbol: str, bar_s: int, span_s: int
) -> int:
    start_ms = (time.time_ns() // 1_000_000 - span_s * 1000) // 60_000 * 60_000
    klines = await rest.klines(symbol, bar_s, start_ms)
    await asyncio.to_thread(store.write_klines, venue, klines)
    return len(klines)
