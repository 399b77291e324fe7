"""Clients of the local exchange, hosted in the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.asyncio import client

from exchange import Exchange, SyntheticSource, default_world

BUSY = default_world().only(["ETHUSDT"]).faster(10)

NOON_AHEAD = (1_772_625_600 - int(time.time())) * 1_000_000


def connect(url: str, **options: Any) -> client.connect:
    """A client that always reads on, so that closing never waits behind unread frames."""
    return client.connect(url, **{"max_queue": None, **options})


def noon_clock() -> int:
    """A running clock that starts at 2026-03-04 12:00: tests do not depend on the hour."""
    return time.time_ns() // 1000 + NOON_AHEAD


def busy() -> SyntheticSource:
    return SyntheticSource(BUSY, clock=noon_clock)


def run(work: Callable[[Exchange], Awaitable[None]], **options: Any) -> None:
    async def host() -> None:
        async with Exchange(options.pop("source", None) or busy(), **options) as exchange:
            await asyncio.wait_for(work(exchange), 20)
            assert exchange.failure is None

    asyncio.run(host())
