"""How trades are usually written to PostgreSQL: the peers of `benchmarks.store`.

None of them folds bars, keeps a cursor or knows of gaps; ours does all three in the same
transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from psycopg2.extras import execute_values

from pairs.market import Trade
from pairs.storage.batch import at
from pairs.storage.postgres import PostgresStore

Write = Callable[[Sequence[Trade]], None]
INSERT = "INSERT INTO usual VALUES {} ON CONFLICT DO NOTHING"
ONE = INSERT.format("(%s, %s, %s, %s, %s, %s)")
TABLES = """
CREATE TABLE usual (trade_id bigint PRIMARY KEY, ts timestamptz, price float8, size float8,
                    buyer_is_maker bool, received timestamptz);
CREATE TABLE feed_handler (id serial PRIMARY KEY, ts timestamp, received timestamp, exchange text,
    symbol text, side text, size numeric, price numeric, trade_id text, kind text,
    UNIQUE (exchange, symbol, trade_id));
"""
FEED_HANDLER_BATCH = 100  # cryptofeed's default


def executemany(store: PostgresStore) -> Write:
    """psycopg2's executemany, one transaction a batch."""

    def write(trades: Sequence[Trade]) -> None:
        with store.transaction() as cursor:
            cursor.executemany(ONE, rows(trades))

    return write


def by_execute_values(store: PostgresStore) -> Write:
    """psycopg2's execute_values: many rows a statement, one transaction a batch."""

    def write(trades: Sequence[Trade]) -> None:
        with store.transaction() as cursor:
            execute_values(cursor, INSERT.format("%s"), rows(trades), page_size=1000)

    return write


def commit_each(store: PostgresStore) -> Write:
    """One INSERT and one COMMIT a trade, as a callback per message does it."""

    def write(trades: Sequence[Trade]) -> None:
        for row in rows(trades):
            with store.transaction() as cursor:
                cursor.execute(ONE, row)

    return write


def rows(trades: Sequence[Trade]) -> list[tuple[object, ...]]:
    return [
        (t.trade_id, at(t.ts_us), t.price, t.size, t.buyer_is_maker, at(t.received_us))
        for t in trades
    ]


@contextmanager
def feed_handler(dsn: str) -> Iterator[Write]:
    """As cryptofeed's PostgreSQL backend does (bmoscon/cryptofeed, backends/postgres.py, read in
    2026): asyncpg, values as text in one INSERT per transaction, at most 100 rows each, a batch
    with a duplicate dropped whole."""
    import asyncpg

    def literal(t: Trade) -> str:
        side = "sell" if t.buyer_is_maker else "buy"
        stamps = ", ".join(f"'{at(us).replace(tzinfo=None)}'" for us in (t.ts_us, t.received_us))
        return (
            f"(DEFAULT, {stamps}, 'BINANCE', '{t.symbol}', '{side}', {t.size}, {t.price},"
            f" '{t.trade_id}', NULL)"
        )

    async def insert(trades: Sequence[Trade]) -> None:
        for first in range(0, len(trades), FEED_HANDLER_BATCH):
            values = ", ".join(map(literal, trades[first : first + FEED_HANDLER_BATCH]))
            async with connection.transaction():
                await connection.execute(f"INSERT INTO feed_handler VALUES {values}")

    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(dsn))
        try:
            yield lambda trades: runner.run(insert(trades))
        finally:
            runner.run(connection.close())
