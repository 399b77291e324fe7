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

from pairs.feeds.binance.protocol import (
    MAX_FRAME_BYTES,
    SIMULATED,
    BinanceMarket,
    stream_url,
    wrong_nature,
)
from pairs.feeds.network import stream_options
from pairs.messages import one_line
from pairs.retry import backoff, retry_after_s

log = logging.getLogger("stream")

LIFE_S = 23.5 * 3600  # the exchange ends a connection after 24 h
SETTLED_S = 30.0  # a connection that lived this long lets the next waits begin short again
OVERLAP_S = 2.0  # both are read this long after the successor's first frame
FIRST_FRAME_S = 10.0
LONGEST_WAIT_S = 300.0  # for a Retry-After at the handshake
SYMBOLS_PER_CONNECTION = 200  # longer addresses have failed silently
# What the client and the proxies' libraries raise, documented or not: none is a traceback.
CONNECT_ERRORS = (OSError, EOFError, ImportError, ValueError, WebSocketException)
GOING_AWAY = 1001
MEANINGS = {
    403: "firewall",
    418: "banned",
    429: "too many requests",
    451: "restricted location",
}


class WrongExchangeError(OSError):
    """What answers is no exchange of the kind whose trades the venue holds."""


class QueueFull(Exception):  # noqa: N818 - a signal, not a mistake
    """The receiver cannot take more; the connection is closed, the hole repaired later."""


class _Connection:
    """One open connection while it is read. The task's result is why the reading ended."""

    def __init__(
        self, socket: ClientConnection, read: Callable[[_Connection], Awaitable[str]]
    ) -> None:
        self.socket = socket
        self.opened = time.monotonic()
        self.frames = 0
        self.heard = asyncio.Event()
        self.announced = False  # the exchange has told that it will end it
        self.task: asyncio.Task[str] = asyncio.create_task(self._run(read))

    async def _run(self, read: Callable[[_Connection], Awaitable[str]]) -> str:
        return await read(self)

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class TradeStream:
    """The connection for `symbols`. `receive(frame)` takes every frame and may raise QueueFull;
    `prepare()` runs before each attempt; `up()` hears of every new connection, `down(why)` of
    every loss."""

    def __init__(
        self,
        base_url: Callable[[], str],
        protocol: BinanceMarket,
        symbols: tuple[str, ...],
        *,
        receive: Callable[[bytes], None],
        prepare: Callable[[], Awaitable[None]],
        up: Callable[[tuple[str, ...]], None],
        down: Callable[[tuple[str, ...], str], None],
        life_s: float = LIFE_S,
        simulated: bool | None = None,
    ) -> None:
        self.symbols = symbols
        self.connected_at = 0.0  # monotonic; 0 while there is no connection
        self.reconnects = 0
        self.life_s = life_s
        self._simulated = simulated
        self._met = False  # an exchange of the right kind has been there
        self._base_url = base_url
        self._protocol = protocol
        self._receive = receive
        self._prepare = prepare
        self._up = up
        self._down = down
        self._renewal = asyncio.Event()
        self._line: _Connection | None = None
        self._why = ""
        self._ages: list[float] = []  # of connections that the exchange ended unannounced

    def renew(self) -> None:
        """Open the next connection now, beside this one."""
        self._renewal.set()

    async def reconnect(self, why: str) -> None:
        """End the present connection, dead or alive; the next one follows by itself."""
        if self._line is not None:
            self._why = why
            await self._line.socket.close()

    async def run(self) -> None:
        """Connect again and again, until cancelled."""
        waits = backoff(random.Random())  # noqa: S311 - jitter, not cryptography
        while True:
            asked_to_wait = 0.0
            try:
                await self._prepare()
                socket = await self._open()
                log.info("connected url=%s symbols=%d", self._base_url(), len(self.symbols))
            except CONNECT_ERRORS as error:
                if isinstance(error, WrongExchangeError) and not self._met:
                    raise  # nothing is stored yet: the venue may be chosen anew
                why = describe(error)
                asked_to_wait = _retry_after(error)
            else:
                self._met = True
                began = time.monotonic()
                self._up(self.symbols)
                why = await self._read_until_closed(socket)
                if time.monotonic() - began > SETTLED_S:
                    waits = backoff(random.Random())  # noqa: S311
            self.reconnects += 1
            self._down(self.symbols, why)
            wait = max(next(waits), asked_to_wait)
            log.warning('disconnected reason="%s" next_attempt_s=%.1f', why, wait)
            await asyncio.sleep(wait)

    async def _open(self) -> ClientConnection:
        base = self._base_url()
        url = stream_url(base, self._protocol, self.symbols)
        socket = await connect(
            url,
            compression=None,
            open_timeout=10,
            close_timeout=1,
            ping_interval=None,  # liveness is judged by data; pings of the server are answered
            max_size=MAX_FRAME_BYTES,
            max_queue=(2048, 512),
            **stream_options(url),
        )
        headers = socket.response.headers if socket.response is not None else {}
        if wrong := wrong_nature(headers.get(SIMULATED), self._simulated):
            await socket.close()
            raise WrongExchangeError(wrong)
        return socket

    async def _read_until_closed(self, socket: ClientConnection) -> str:
        """Read until the last connection has ended; why it did."""
        self._why = ""
        self._renewal.clear()
        line = self._start_reading(socket)
        try:
            while True:
                renewal = asyncio.create_task(self._renewal.wait())
                await asyncio.wait(
                    {line.task, renewal}, timeout=self.life_s, return_when=asyncio.FIRST_COMPLETED
                )
                renewal.cancel()
                if line.task.done():
                    self._learn_lifetime(line)
                    return self._why or line.task.result()
                self._renewal.clear()
                try:
                    successor = await self._open()
                except CONNECT_ERRORS as error:
                    log.warning('renewal failed reason="%s"', describe(error))
                    await asyncio.wait({line.task}, timeout=5)
                    self._renewal.set()
                    continue
                line = await self._hand_over(line, self._start_reading(successor))
        finally:
            self.connected_at = 0.0
            await line.end()

    def _start_reading(self, socket: ClientConnection) -> _Connection:
        self._line = _Connection(socket, self._read)
        self.connected_at = self._line.opened
        return self._line

    async def _hand_over(self, old: _Connection, new: _Connection) -> _Connection:
        """Let both deliver until the new one surely does, then end the old one. A successor that
        stays silent while the old one delivers is no successor. Returns the line that stays."""
        try:
            return await self._overlap(old, new)
        except asyncio.CancelledError:
            await new.end()
            raise

    async def _overlap(self, old: _Connection, new: _Connection) -> _Connection:
        before = old.frames
        heard = asyncio.create_task(new.heard.wait())
        await asyncio.wait(
            {heard, old.task, new.task}, timeout=FIRST_FRAME_S, return_when=asyncio.FIRST_COMPLETED
        )
        heard.cancel()
        if not old.task.done() and (
            new.task.done() or (not new.heard.is_set() and old.frames > before)
        ):
            log.warning('renewal failed reason="the new connection delivers nothing"')
            await new.end()
            self._line, self.connected_at = old, old.opened
            asyncio.get_running_loop().call_later(30, self._renewal.set)
            return old
        await asyncio.wait({old.task}, timeout=OVERLAP_S)
        await old.end()
        log.info("renewed the connection")
        return new

    async def _read(self, line: _Connection) -> str:
        """Hand over every frame as bytes, undecoded: text that is not UTF-8 must not end the
        connection. Returns why the reading ended."""
        try:
            while True:
                frame = await line.socket.recv(decode=False)
                line.frames += 1
                line.heard.set()
                # Looked for here and not when parsed: that may wait for a stalled database.
                if b"serverShutdown" in frame and len(frame) < 1000:
                    line.announced = True
                    self.renew()
                self._receive(frame)
        except ConnectionClosed as error:
            closed = error.rcvd or error.sent
            return f"closed with {closed.code} {closed.reason}".strip() if closed else "lost"
        except QueueFull as error:
            return str(error)
        finally:
            await line.socket.close()

    def _learn_lifetime(self, line: _Connection) -> None:
        """Two connections ended by the exchange at the same age: its limit is shorter than ours.
        From now on the next one is opened in time."""
        age = time.monotonic() - line.opened
        if line.socket.close_code != GOING_AWAY or line.announced or self._why or age < 3:
            return
        self._ages = [*self._ages[-1:], age]
        if len(self._ages) == 2 and max(self._ages) < 1.1 * min(self._ages):
            self.life_s = min(self.life_s, 0.7 * min(self._ages))
            log.info("connections end after %.0f s: renewing after %.0f s", age, self.life_s)


def describe(error: BaseException) -> str:
    """A connection error in plain words."""
    if isinstance(error, InvalidStatus):
        code = error.response.status_code
        return f"HTTP {code}" + (f" ({MEANINGS[code]})" if code in MEANINGS else "")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return one_line(error)


def _retry_after(error: BaseException) -> float:
    if not isinstance(error, InvalidStatus):
        return 0.0
    return min(LONGEST_WAIT_S, retry_after_s(error.response.headers.get("Retry-After"), 0.0))


def shards(symbols: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The symbols in groups small enough for one connection each."""
    for start in range(0, len(symbols), SYMBOLS_PER_CONNECTION):
        yield symbols[start : start + SYMBOLS_PER_CONNECTION]
