"""For synchronous tests: an exchange in a thread, and one in a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exchange.control import TapeRow
from exchange.faults import Faults
from exchange.server import Exchange
from exchange.source import Source
from exchange.synthetic import SyntheticSource


class Running:
    """A running exchange seen from another thread.

    `faults` and `usdm_faults` may be changed at any time; `log` is the true tape; `stats` counts
    connections, frames, requests and refusals.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.ws_url = exchange.ws_url
        self.rest_url = exchange.rest_url
        self.port = exchange.port
        self.faults = exchange.faults
        self.usdm_faults = exchange.usdm_faults
        self.source = exchange.source

    @property
    def stats(self) -> dict[str, int]:
        """A copy of the counters."""
        return dict(self.exchange.stats)

    def log(self, symbol: str, from_id: int, to_id: int, market: str = "spot") -> list[TapeRow]:
        """Trades printed so far: (id, price, quantity, time in µs, buyer is maker)."""
        return self.exchange.log(symbol, from_id, to_id, market)

    def connections(self) -> list[dict[str, Any]]:
        """The present connections: market, number, age_s, streams."""
        return self.exchange.connections()


@contextmanager
def running(
    source: Source | None = None, *, faults: Faults | None = None, **options: Any
) -> Iterator[Running]:
    """An exchange in a thread of its own, for the length of a `with` block.

    `options` are those of `Exchange`; the source is the synthetic default market if not given.
    """
    ready: threading.Event = threading.Event()
    state: dict[str, Any] = {}

    async def host() -> None:
        stop = asyncio.Event()
        async with Exchange(source or SyntheticSource(), faults=faults, **options) as exchange:
            state.update(exchange=exchange, stop=stop, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()
            if exchange.failure is not None:
                raise exchange.failure

    def work() -> None:
        try:
            asyncio.run(host())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
            state["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="exchange", daemon=True)
    thread.start()
    ready.wait()
    try:
        if "error" in state:
            raise state["error"]
        yield Running(state["exchange"])
    finally:
        if "loop" in state and thread.is_alive():
            state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()
    if "error" in state:
        raise state["error"]


@contextmanager
def spawned(*arguments: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """`python -m exchange …` as a process: its two addresses and the process itself."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exchange", *arguments, "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the pipes to the exchange are missing")
    try:
        words = process.stdout.readline().split()
        if words[:2] != ["exchange", "ready"]:
            raise RuntimeError(f"the exchange did not start: exit code {process.wait()}")
        yield words[2], words[3], process
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()
