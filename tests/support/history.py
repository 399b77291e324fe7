"""What a foreign exchange has printed, and the bars fetched of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.binance.rest import BinanceRest
from pairs.ingest.backfill import History
from pairs.market import Trade
from pairs.storage.postgres import PostgresStore
from tests.support.foreign import Foreign


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def printed(exchange: Foreign, symbol: str, start_ms: int, end_ms: int, step_ms: int) -> None:
    """A trade every `step_ms`; nobody is connected yet."""
    for at_ms in range(start_ms, end_ms, step_ms):
        exchange._print(symbol, 1, None, at_ms)


def run(
    work: Callable[[], Coroutine[Any, Any, None]], done: Callable[[], object], seconds: float = 40
) -> None:
    """Run `work` until `done` says so."""

    async def main() -> None:
        task = asyncio.create_task(work())
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(done):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(main())


def fetch(
    store: PostgresStore,
    exchange: Foreign,
    done: Callable[[], object],
    hours: float = 0.0,
    seconds: float = 40,
) -> None:
    """Klines of the exchange's symbols until `done`."""

    async def work() -> None:
        async with BinanceRest(exchange.rest_url, SPOT) as rest:
            await History(store, rest, "binance", exchange.trades, hours).run()

    run(work, done, seconds)


def bars(store: PostgresStore, symbol: str, bar_s: int) -> list[tuple[int, int, str]]:
    """(open time, trades, source) of a symbol's bars."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM ts)::bigint, trades, source FROM v_bars"
            " WHERE symbol = %s AND bar_s = %s ORDER BY ts",
            (symbol, bar_s),
        )
        return cursor.fetchall()


def stored(
    store: PostgresStore, exchange: Foreign, symbol: str, lost: range, venue: str = "binance"
) -> None:
    """Everything printed but the ids `lost`, which are an open gap."""
    store.write(
        venue,  # type: ignore[arg-type]
        [
            Trade(
                symbol,
                row["id"],
                row["T"] * 1000,
                float(row["p"]),
                float(row["q"]),
                row["m"],
                row["T"] * 1000,
            )
            for row in exchange.trades[symbol]
            if row["id"] not in lost
        ],
    )
