"""A daemon on an exchange, as a process or in a thread, and waiting for what it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_websocket import Daemon
from pairs.feeds.binance.protocol import PROTOCOLS
from pairs.feeds.choice import Feed
from pairs.market import Venue
from pairs.settings import load_settings
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.foreign import Foreign

ROOT = Path(__file__).parents[2]

PAIR = "BTCUSDT,ETHUSDT"


def eventually(
    check: Callable[[], object], what: str, seconds: float = 60, every: float = 0.1
) -> object:
    """The first true result of `check`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(LookupError):
            result = check()
            if result:
                return result
        time.sleep(every)
    pytest.fail(f"did not happen within {seconds:g} s: {what}")


@contextlib.contextmanager
def exchange(*options: str) -> Iterator[tuple[str, str]]:
    """A local exchange as a process; its WebSocket and REST addresses."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", "--port", "0", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        _, _, ws_url, rest_url = process.stdout.readline().split()
        yield ws_url, rest_url
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def daemon(
    database_url: str, addresses: tuple[str, str] | None, log: Path, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as a process; ended with SIGTERM, which must end it with 0."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "SYMBOLS": PAIR,
        "FEED": "binance",
        "HISTORY_HOURS": "0",
        **settings,
    }
    if addresses:
        environment |= {"BINANCE_WS_URL": addresses[0], "BINANCE_REST_URL": addresses[1]}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "ingest_websocket.py"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def count(store: PostgresStore, query: str = "SELECT count(*) FROM v_ticks") -> Any:
    with store.transaction() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return row[0] if row else None


@contextlib.contextmanager
def ingesting(
    store: PostgresStore, exchange: Foreign, *, market: str = "spot", **settings: str
) -> Iterator[Daemon]:
    """A daemon in a thread of this process."""
    given = {"SYMBOLS": ",".join(exchange.trades), "HISTORY_HOURS": "0", **settings}
    venue: Venue = "binance" if market == "spot" else "binance-usdm"
    feed = Feed(venue, exchange.ws_url, exchange.rest_url, PROTOCOLS[market])
    made: list[Daemon] = []
    ready = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made.append(Daemon(feed, store, load_settings(given)))
        made[0].stop_from_outside = lambda: loop.call_soon_threadsafe(made[0].stop.set)  # type: ignore[attr-defined]
        ready.set()
        await made[0].run()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    ready.wait()
    try:
        eventually(lambda: exchange.connected, "the daemon connects")
        yield made[0]
    finally:
        made[0].stop_from_outside()  # type: ignore[attr-defined]
        thread.join(60)


def states(store: PostgresStore) -> dict[str, str]:
    return {feed.symbol: feed.state for feed in read_feeds(store.engine, "binance")}
