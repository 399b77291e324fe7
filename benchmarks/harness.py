"""What the benchmarks share: an embedded server of their own, medians, a table of ratios."""

from __future__ import annotations

import contextlib
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import psycopg2

from database_utils import Database, open_database
from settings import load_settings
from storage.postgres import PostgresStore


@contextlib.contextmanager
def empty_database() -> Iterator[Database]:
    """A new embedded server that goes away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    database = open_database(load_settings({"DATA_DIR": str(folder)}))
    try:
        yield database
    finally:
        database.stop()
        shutil.rmtree(folder, ignore_errors=True)


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


def in_turn(
    ours: Callable[[], object], peer: Callable[[], object], runs: int
) -> tuple[float, float]:
    """Median seconds of both, run A B A B so that a drifting machine hits both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for side, work in zip(times, (ours, peer), strict=True):
            start = time.perf_counter()
            work()
            side.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def machine(*packages: str) -> None:
    """Print what the figures were taken on."""
    versions = " · ".join(f"{name} {version(name)}" for name in packages)
    print(f"Python {platform.python_version()} · {platform.machine()} · {versions}")
