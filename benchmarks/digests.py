"""What the digests of partitions add to a write: the same batches with and without them, in turn.

python -m benchmarks.digests [--runs 400]

Two databases of one server. Every batch is written to both, one directly after the other, which
first changing each time; of each pair the ratio is taken. The interval is that of the median, from
the pairs' own order (95 %).
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial

from psycopg2.extensions import make_dsn

from benchmarks.harness import empty_database, machine, options, parser, table, verdict
from pairs.market import Trade
from pairs.storage import batch
from pairs.storage.connecting import connect
from pairs.storage.database import Database
from pairs.storage.postgres import PostgresStore

T0 = 1_723_161_600_000_000
WANTED = 0.10
WARM = 20  # pairs that are not counted
# What is measured: text, trades of a batch, symbols, whether they fill a hole.
CASES = (
    ("usual: 100 ms of the busiest second", 165, 6, False),
    ("quiet: two trades of each of six symbols", 12, 6, False),
    ("a page of repair, behind the newest", 1000, 1, True),
    ("catching up", 5000, 1, False),
)
WITH = {
    name: getattr(batch, name)
    for name in ("FOLD", "FRESH_BY_KEY", "FRESH_IN_RANGE", "LOCK_FEEDS", "MOVE_CURSORS")
}
# Nothing is hashed, nothing read for it, nothing of it noted. What is left in both is a few
# microseconds of Python.
WITHOUT = {
    "FOLD": WITH["FOLD"][: WITH["FOLD"].index("       trade_id / ")]
    + "       0, count(*), 0::bigint FROM fresh GROUP BY instrument_id",
    "FRESH_BY_KEY": "".join(WITH["FRESH_BY_KEY"].rpartition("received, ")[::2]),
    "FRESH_IN_RANGE": WITH["FRESH_IN_RANGE"].replace("received, ", ""),
    "LOCK_FEEDS": WITH["LOCK_FEEDS"].replace("tail_chunk, tail_n, tail_digest", "0, 0, 0"),
    "MOVE_CURSORS": re.sub(r",\s+tail_chunk = [^\n]*\n", "\n", WITH["MOVE_CURSORS"]),
}


def use(digests: bool) -> None:
    """Let batches be written with digests, or as before there were any."""
    for name, query in (WITH if digests else WITHOUT).items():
        setattr(batch, name, query)


def batches(size: int, symbols: int, late: bool) -> Iterator[list[Trade]]:
    """New trades at 1,650 a second; `late`: each batch before the one that was written last."""
    rng, each = random.Random(size), size // symbols
    for k in range(10**6):
        first = 900_000 - (k + 1) * each if late else k * each
        yield [
            Trade(
                f"S{s}USDT",
                i,
                T0 + i * 606 * symbols,
                60_000 + rng.randint(-900, 900) / 100,
                rng.randint(1, 10**6) / 1e6,
                rng.random() < 0.5,
                T0 + i * 606 * symbols + 900,
            )
            for s in range(symbols)
            for i in range(first, first + each)
        ]


def measured(
    both: dict[bool, PostgresStore], made: Iterator[list[Trade]], pairs: int
) -> list[dict[bool, float]]:
    """Seconds of each batch with (True) and without, pair by pair."""
    found = []
    for pair in range(WARM + pairs):
        trades, taken = next(made), {}
        for digests in (True, False) if pair % 2 else (False, True):
            use(digests)
            start = time.perf_counter()
            both[digests].write("binance", trades)
            taken[digests] = time.perf_counter() - start
        found.append(taken)
    return found[WARM:]


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the 95 % interval that the order of the values gives it."""
    ordered, n = sorted(values), len(values)
    reach = math.ceil(0.98 * math.sqrt(n))
    low, high = max(0, n // 2 - reach), min(n - 1, n // 2 + reach)
    return ordered[n // 2], ordered[low], ordered[high]


@contextlib.contextmanager
def two_stores(database: Database, late: bool) -> Iterator[dict[bool, PostgresStore]]:
    """With digests and without, each a new database; `late`: with one trade, after a large hole."""
    both = {}
    for digests in (True, False):
        name = f"d{time.time_ns()}"
        with contextlib.closing(database.connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"CREATE DATABASE {name}")
        dsn = make_dsn(database.url, dbname=name)
        both[digests] = store = PostgresStore(partial(connect, dsn))
        store.init()
        use(digests)
        if late:
            store.begin_at("binance", "S0USDT", 0)
            ts_us = T0 + 900_000 * 606
            store.write("binance", [Trade("S0USDT", 900_000, ts_us, 1.0, 1.0, True, ts_us)])
    yield both
    for store in both.values():
        store.close()


def compare(pairs: int) -> None:
    """Every case on databases of its own."""
    rows = []
    with empty_database() as database:
        for text, size, symbols, late in CASES:
            with two_stores(database, late) as both:
                gc.collect()
                found = measured(both, batches(size, symbols, late), pairs)
            ratios = sorted(taken[True] / taken[False] - 1 for taken in found)
            value, low, high = middle(ratios)
            ms = [f"{middle([taken[w] for taken in found])[0] * 1e3:.2f}" for w in (False, True)]
            rows.append(
                [
                    text,
                    str(size),
                    *ms,
                    f"{value:+.1%}",
                    f"{low:+.1%} … {high:+.1%}",
                    f"{ratios[pairs // 4]:+.1%} … {ratios[-pairs // 4]:+.1%}",
                    verdict(value, WANTED, f"{WANTED:.0%}", at_most=True),
                ]
            )
    use(True)
    head = [
        "batch",
        "trades",
        "without, ms",
        "with, ms",
        "median of the ratios",
        "95 % of it",
        "half of the pairs",
        "limit",
    ]
    table("Digests of partitions", head, rows, f"{pairs} pairs each.")


def main() -> None:
    made = options(parser(__doc__, runs=400))
    machine()
    compare(made.runs)


if __name__ == "__main__":
    main()
