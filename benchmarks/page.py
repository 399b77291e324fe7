"""What a refresh of the page costs, beside a page that reads and computes all anew every time.

python -m benchmarks.page [--runs 5] [--long]      Linux

Both pages run on one live database, each with visitors that behave as browsers do, and are looked
at in slices of some seconds: bytes over the WebSocket and processor time of the page's process,
per refresh. Medians of the slices.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg2

from benchmarks import filling
from benchmarks.harness import (
    Cell,
    Timing,
    machine,
    milliseconds,
    options,
    own_folder,
    parser,
    ratio,
    table,
    verdict,
)
from benchmarks.session import Session, visitors
from benchmarks.system import Cost, dsn_of, running, system, url_of
from pairs.__main__ import free_port

SLICE_S = 2.0
SETTLE_S = 2.0
PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 3000.0}
USUAL_BAR = {"1min": "60", "1s": "1"}


@dataclass
class Bench:
    """Both pages on one database."""

    ours: str
    usual: str
    cost: Cost
    cursor: Any

    def fill(self, bar_s: int, days: float) -> None:
        """Bars of both symbols from `days` ago on; those that are there stay."""
        end = datetime.now(UTC).replace(microsecond=0, second=0) - timedelta(minutes=2)
        for symbol, price in PRICES.items():
            self.cursor.execute(
                "SELECT instrument_id FROM instrument WHERE venue = 'local' AND symbol = %s",
                (symbol,),
            )
            (instrument,) = self.cursor.fetchone()
            filling.bars(self.cursor, instrument, bar_s, end - timedelta(days=days), end, price)
        self.cursor.execute("VACUUM (ANALYZE) kline")


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    port = free_port(8701)
    with own_folder() as folder, system(folder) as ours:
        ours.wait_for("connected url=ws://")
        dsn = dsn_of(ours)
        with (
            running(
                "-m",
                "streamlit",
                "run",
                "benchmarks/usual_page.py",
                f"--server.port={port}",
                USUAL_DSN=dsn,
                OPENBLAS_NUM_THREADS="1",
            ) as usual,
            contextlib.closing(psycopg2.connect(dsn, options="-c timezone=UTC")) as connection,
        ):
            usual.wait_for("URL: ")
            connection.autocommit = True
            yield Bench(
                url_of(ours),
                f"http://127.0.0.1:{port}",
                Cost(ours, usual, folder=folder),
                connection.cursor(),
            )


class Slice(NamedTuple):
    """Totals of one side between two looks, or since the beginning."""

    refreshes: float
    received: float
    cpu_s: float
    seconds: float

    def since(self, before: Slice) -> Slice:
        return Slice(*(b - a for a, b in zip(before, self, strict=True)))


def look(bench: Bench, name: str, made: Sequence[Session]) -> Slice:
    return Slice(
        sum(session.refreshes for session in made),
        sum(session.received for session in made),
        bench.cost.cpu().get(name, 0.0),
        time.monotonic(),
    )


async def slices(
    bench: Bench, sides: dict[str, list[Session]], runs: int
) -> dict[str, list[Slice]]:
    """What each side did in each of `runs` slices; a slow page's slice lasts a refresh or more."""
    found: dict[str, list[Slice]] = {name: [] for name in sides}
    await asyncio.sleep(SETTLE_S)
    last = {name: look(bench, name, made) for name, made in sides.items()}
    while any(len(done) < runs for done in found.values()):
        await asyncio.sleep(0.05)
        for name, made in sides.items():
            if time.monotonic() - last[name].seconds < SLICE_S or len(found[name]) == runs:
                continue
            now = look(bench, name, made)
            if now.refreshes > last[name].refreshes:
                found[name].append(now.since(last[name]))
                last[name] = now
    return found


class Figures(NamedTuple):
    """Of one side: per refresh of one visitor, and of the whole process."""

    received: Timing
    cpu_s: Timing
    every_s: float
    share: float


def figures(done: Sequence[Slice], count: int) -> Figures:
    seconds = sum(s.seconds for s in done)
    return Figures(
        Timing.of([s.received / s.refreshes for s in done]),
        Timing.of([s.cpu_s / s.refreshes for s in done]),
        seconds / sum(s.refreshes for s in done) * count,
        sum(s.cpu_s for s in done) / seconds,
    )


def kilobytes(size: Timing) -> Cell:
    low, middle, high = (f"{b / 1024:,.1f}" for b in (size.low, float(size), size.high))
    return Cell(f"{middle} ({low}…{high})", {"kib": float(size) / 1024})


async def both(bench: Bench, bar: str, count: int, runs: int) -> dict[str, list[Slice]]:
    """One visitor of each at once; more of them one side after the other."""
    ours = (bench.ours, f"view=Pair&bar={bar}", count)
    usual = (bench.usual, f"bar={USUAL_BAR[bar]}", count)
    if count == 1:
        async with visitors(*ours) as a, visitors(*usual) as b:
            return await slices(bench, {"page": a, "usual page": b}, runs)
    found: dict[str, list[Slice]] = {}
    for name, which in (("page", ours), ("usual page", usual)):
        async with visitors(*which) as made:
            found |= await slices(bench, {name: made}, runs)
    return found


def case(bench: Bench, name: str, bar: str, count: int, runs: int) -> list[str]:
    """One row of the table."""
    done = asyncio.run(both(bench, bar, count, runs))
    ours, usual = figures(done["page"], count), figures(done["usual page"], count)
    return [
        name,
        kilobytes(usual.received),
        kilobytes(ours.received),
        ratio(usual.received / ours.received),
        milliseconds(usual.cpu_s, 0),
        milliseconds(ours.cpu_s, 0),
        ratio(usual.cpu_s / ours.cpu_s),
        Cell(f"{usual.every_s:.2f} / {ours.every_s:.2f}", [usual.every_s, ours.every_s]),
        Cell(f"{usual.share:.0%} / {ours.share:.0%}", [usual.share, ours.share]),
        verdict(
            ours.share, 0.35 if count < 3 else 1.0, "35 %" if count < 3 else "100 %", at_most=True
        ),
    ]


HEAD = [
    "history, bar, tabs",
    "usual KiB",
    "ours KiB",
    "ratio",
    "usual CPU ms",
    "ours CPU ms",
    "ratio",
    "s between refreshes, usual / ours",
    "of one core, usual / ours",
    "limit",
]


def main() -> None:
    given = options(parser(__doc__))
    machine("streamlit", "plotly", "pandas", "statsmodels", "psutil")
    rows = []
    with bench() as made:
        made.fill(60, 1)
        made.fill(1, 1 / 8)
        rows.append(case(made, "1 day, 1 min, 1 tab", "1min", 1, given.runs))
        rows.append(case(made, "3 h, 1 s: a new bar every time, 1 tab", "1s", 1, given.runs))
        if given.long:
            rows.append(case(made, "3 h, 1 s, 2 tabs", "1s", 2, given.runs))
        rows.append(case(made, "1 day, 1 min, 10 tabs", "1min", 10, given.runs))
        if given.long:
            made.fill(60, 30)
            rows.append(case(made, "30 days, 1 min, 1 tab", "1min", 1, given.runs))
        made.fill(60, 365)
        rows.append(case(made, "365 days, 1 min, 1 tab", "1min", 1, given.runs))
        if given.long:
            made.fill(1, 30)
            rows.append(case(made, "30 days, 1 s, 1 tab", "1s", 1, given.runs))
    table(
        "A refresh of the page",
        HEAD,
        rows,
        "Per refresh of one tab, at STREAMLIT_REFRESH_MS=1000, on the local exchange. The usual "
        "page (benchmarks/usual_page.py) reads every closed bar with pd.read_sql, computes all "
        "rows, draws the same 600 bars with st.plotly_chart, sleeps and reruns.",
    )


if __name__ == "__main__":
    main()
