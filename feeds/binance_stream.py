"""One WebSocket connection to Binance and its successors: the frames of some symbols, for ever.

Reconnects with backoff, without a retry limit. Before the exchange's 24 h limit, and when it
announces a shutdown, the next connection is opened beside the old one and both are read for a
while: no gap, and duplicates are the store's daily business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from feeds.backoff import backoff
from feeds.binance import MAX_FRAME_BYTES, Protocol, stream_url

log = logging.getLogger("stream")

LIFE_S = 23.5 * 3600  # the exchange ends a connection after 24 h
SETTLED_S = 30.0  # a connection that lived this long lets the next waits begin short again
OVERLAP_S = 2.0  # both are read this long after the successor's first frame
FIRST_FRAME_S = 10.0
SYMBOLS_PER_CONNECTION = 200  # longer addresses have failed silently
CONNECT_ERRORS = (OSError, TimeoutError, WebSocketException)
MEANINGS = {
    403: "firewall", 418: "banned", 429: "too many requests", 451: "restricted location",
}  # fmt: skip


class QueueFull(Exception):  # noqa: N818 - a signal, not a mistake
    """The receiver cannot take more; the connection is closed, the hole repaired later."""


class TradeStream:
    """The connection for `symbols`. `receive(frame)` takes every frame and may raise QueueFull;
    `prepare()` runs before each attempt; `down(why)` hears of every loss."""

    def __init__(
        self,
        base_url: Callable[[], str],
        protocol: Protocol,
        symbols: tuple[str, ...],
        *,
        receive: Callable[[bytes], None],
        prepare: Callable[[], Awaitable[None]],
        down: Callable[[tuple[str, ...], str], None],
        life_s: float = LIFE_S,
    ) -> None:
        self.symbols = symbols
        self.connected_at = 0.0  # monotonic; 0 while there is no connection
        self.reconnects = 0
        self._base_url = base_url
        self._protocol = protocol
        self._receive = receive
        self._prepare = prepare
        self._down = down
        self._life_s = life_s
        self._renewal = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._heard = asyncio.Event()  # the newest connection has delivered a frame

    def renew(self) -> None:
        """Open the next connection now, beside this one."""
        self._renewal.set()

    async def reconnect(self) -> None:
        """End the present connection, dead or alive; the next one follows by itself."""
        if self._socket is not None:
            await self._socket.close()

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        waits = backoff(random.Random())  # noqa: S311 - jitter, not cryptography
        while True:
            try:
                await self._prepare()
                socket = await self._open()
                log.info("connected url=%s symbols=%d", self._base_url(), len(self.symbols))
            except CONNECT_ERRORS as error:
                why = describe(error)
            else:
                began = time.monotonic()
                why = await self._live(socket)
                if time.monotonic() - began > SETTLED_S:
                    waits = backoff(random.Random())  # noqa: S311
            self.reconnects += 1
            self._down(self.symbols, why)
            wait = next(waits)
            log.warning('disconnected reason="%s" next_attempt_s=%.1f', why, wait)
            await asyncio.sleep(wait)

    async def _open(self) -> ClientConnection:
        base = self._base_url()
        loopback = any(host in base for host in ("//127.", "//localhost", "//[::1]"))
        return await connect(
            stream_url(base, self._protocol, self.symbols),
            compression=None,
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,  # liveness is judged by data; pings of the server are answered
            max_size=MAX_FRAME_BYTES,
            max_queue=(2048, 512),
            proxy=None if loopback else True,
        )

    async def _live(self, socket: ClientConnection) -> str:
        """Read until the last connection has ended; why it did."""
        reading = self._begin(socket)
        try:
            while True:
                self._renewal.clear()
                renewal = asyncio.create_task(self._renewal.wait())
                await asyncio.wait(
                    {reading, renewal}, timeout=self._life_s, return_when=asyncio.FIRST_COMPLETED
                )
                renewal.cancel()
                if reading.done():
                    return reading.result()
                try:
                    successor = await self._open()
                except CONNECT_ERRORS as error:
                    log.warning('renewal failed reason="%s"', describe(error))
                    await asyncio.wait({reading}, timeout=5)
                    self._renewal.set()
                    continue
                old, reading = reading, self._begin(successor)
                await self._overlap(old)
                log.info("renewed the connection")
        finally:
            self.connected_at = 0.0
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    def _begin(self, socket: ClientConnection) -> asyncio.Task[str]:
        self._socket = socket
        self._heard = asyncio.Event()
        self.connected_at = time.monotonic()
        return asyncio.create_task(self._read(socket))

    async def _overlap(self, old: asyncio.Task[str]) -> None:
        """Let both deliver until the successor surely does, then end the old one."""
        heard = asyncio.create_task(self._heard.wait())
        await asyncio.wait({heard, old}, timeout=FIRST_FRAME_S, return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        await asyncio.wait({old}, timeout=OVERLAP_S)
        old.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await old

    async def _read(self, socket: ClientConnection) -> str:
        """Hand over every frame as bytes, undecoded: text that is not UTF-8 must not end the
        connection. Returns why the reading ended."""
        try:
            while True:
                frame = await socket.recv(decode=False)
                if socket is self._socket:
                    self._heard.set()
                self._receive(frame)
        except ConnectionClosed as error:
            closed = error.rcvd or error.sent
            return f"closed with {closed.code} {closed.reason}".strip() if closed else "lost"
        except QueueFull as error:
            return str(error)
        finally:
            await socket.close()


def describe(error: BaseException) -> str:
    """A connection error in plain words."""
    if isinstance(error, InvalidStatus):
        code = error.response.status_code
        return f"HTTP {code}" + (f" ({MEANINGS[code]})" if code in MEANINGS else "")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def shards(symbols: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The symbols in groups small enough for one connection each."""
    for start in range(0, len(symbols), SYMBOLS_PER_CONNECTION):
        yield symbols[start : start + SYMBOLS_PER_CONNECTION]
