"""What the benchmarks share: medians with their spread, tables, a server of their own.

Every benchmark prints Markdown tables, or with --json one JSON object a line: the machine first,
then each table. `python -m benchmarks` runs all of them and writes RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import psycopg2

from pairs.settings import load_settings
from pairs.storage.database import Database, open_database
from pairs.storage.postgres import PostgresStore

_as_json = False


# -- figures


class Timing(float):
    """The median of some runs; `low` and `high` are the fastest and the slowest of them."""

    low: float
    high: float

    @classmethod
    def of(cls, runs: Sequence[float]) -> Self:
        made = cls(statistics.median(runs))
        made.low, made.high = min(runs), max(runs)
        return made

    def __truediv__(self, other: float) -> Timing:
        return Timing.of([self.low / other, float(self) / other, self.high / other])


class Cell(str):
    """A cell of a table as people read it, and the figures behind it for programs."""

    __slots__ = ("figures",)
    figures: Any

    def __new__(cls, text: str, figures: Any) -> Self:
        made = super().__new__(cls, text)
        made.figures = figures
        return made


def milliseconds(timing: Timing | float, places: int | None = None) -> Cell:
    """Median and, in brackets, fastest … slowest, in ms."""
    if places is None:
        places = 3 if timing < 1e-3 else 2 if timing < 0.1 else 0
    text = f"{timing * 1e3:,.{places}f}"
    if not isinstance(timing, Timing):
        return Cell(text, {"ms": timing * 1e3})
    low, high = timing.low * 1e3, timing.high * 1e3
    return Cell(
        f"{text} ({low:,.{places}f}…{high:,.{places}f})",
        {"ms": float(timing) * 1e3, "low": low, "high": high},
    )


def ratio(value: float) -> Cell:
    return Cell(f"{value:,.0f}×" if value >= 100 else f"{value:,.1f}×", float(value))


def number(value: float, places: int = 0, unit: str = "") -> Cell:
    return Cell(f"{value:,.{places}f}{unit}", float(value))


def verdict(value: float, wanted: float, text: str, *, at_most: bool = False) -> Cell:
    """Whether a target is met, beside the target itself."""
    met = value <= wanted if at_most else value >= wanted
    return Cell(f"{text} {'met' if met else 'MISSED'}", bool(met))


def in_turn(*sides: Callable[[], object], runs: int) -> list[Timing]:
    """Seconds of every side, run A B A B so that a drifting machine hits all alike."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(runs):
        for taken, work in zip(times, sides, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [Timing.of(taken) for taken in times]


# -- what is printed


def parser(doc: str | None, *, runs: int = 5) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--runs", type=int, default=runs, help=f"of each side (default {runs})")
    made.add_argument("--long", action="store_true", help="also what takes minutes")
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    return made


def options(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; from here on `machine` and `table` print as they say."""
    global _as_json  # noqa: PLW0603 - one program, one output
    found = made.parse_args()
    _as_json = found.json
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped
    return found


def machine(*packages: str) -> None:
    """Print what the figures are taken on; names the peers that are not installed."""
    versions, missing = {}, []
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    if _as_json:
        print(json.dumps({"machine": hardware(), "versions": versions, "missing": missing}))
        return
    found = hardware()
    shown = " · ".join(f"{name} {number}" for name, number in versions.items())
    print(f"{found['cpu']}, {found['cores']} cores · Python {found['python']} · {shown}")
    for name in missing:
        print(f"MISSING PEER: {name} (pip install -r benchmarks/requirements.txt)")


def hardware() -> dict[str, Any]:
    """The machine, as told by the operating system."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table, and under it what a reader must know to believe it."""
    if _as_json:
        cells = [
            [{"text": str(c), "figures": getattr(c, "figures", None)} for c in row] for row in rows
        ]
        print(
            json.dumps({"title": title, "head": list(head), "rows": cells, "note": note}),
            flush=True,
        )
    else:
        print("\n" + markdown(title, head, rows, note), flush=True)


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    """A table as Markdown."""
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines + (["", note] if note else [])) + "\n"


# -- a server of their own


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A data folder with its embedded server, which goes away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        moved = folder / "location.txt"
        if moved.exists():
            shutil.rmtree(moved.read_text().strip(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def empty_database() -> Iterator[Database]:
    """A new embedded server that goes away afterwards."""
    with own_folder() as folder:
        database = open_database(load_settings({"DATA_DIR": str(folder)}))
        try:
            yield database
        finally:
            database.stop()


@contextlib.contextmanager
def empty_store() -> Iterator[PostgresStore]:
    """A store on a new embedded server that goes away afterwards."""
    with empty_database() as database:
        store = PostgresStore(lambda: psycopg2.connect(database.url, options="-c timezone=UTC"))
        try:
            store.init()
            yield store
        finally:
            store.close()


def analyse(store: PostgresStore) -> None:
    """Let the planner know what was just filled in, as autovacuum would after a minute."""
    with contextlib.closing(store.connect()) as connection:
        connection.autocommit = True
        connection.cursor().execute("VACUUM (ANALYZE)")
