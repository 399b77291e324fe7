"""One WebSocket connection as the server sees it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame
from websockets.protocol import Event, State

from exchange.faults import Faults
from exchange.frames import Message, ws_frame
from exchange.limits import Limits, Window
from exchange.protocol import ControlError, Session, control, shutdown_event

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST instead of FIN


def client_type(opened: set[Client]) -> type[Client]:
    """The class of one server's connections, which keep themselves in `opened`."""
    return type("Client", (Client,), {"opened": opened})


class Client(ServerConnection):
    """A connection with its session. `frozen`: half open; `muted`: never gets data.

    `opened` holds all that are open in TCP's eyes, those without a request yet included.
    """

    opened: ClassVar[set[Client]] = set()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.session = Session()
        self.muted = False
        self.frozen = False
        self.sent = 0
        self.number = 0
        self._since = time.monotonic()
        self._heard: dict[str, None] = {}
        self._limits = Limits()
        self._incoming = Window(self._limits.messages_per_s, 1.0)
        self._lingering: dict[str, None] = {}
        self._closing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.opened.discard(self)

    def begin(self, session: Session, limits: Limits, *, muted: bool, number: int) -> None:
        """Take up the session asked for by the address; `number` counts from 1 per market."""
        self._limits = limits
        self._incoming = Window(limits.messages_per_s, 1.0)
        self.session = session
        self.muted = muted
        self.number = number
        self._since = time.monotonic()
        self._listen()

    @property
    def age_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._since

    @property
    def listens(self) -> list[str]:
        """Streams to send: those subscribed that its path tells, and those a fault keeps alive."""
        return list(self._heard)

    def _listen(self) -> None:
        streams = self.session.streams | self._lingering
        self._heard = {name: None for name in streams if self.session.hears(name)}

    def process_event(self, event: Event) -> None:
        """Count incoming frames, pings and pongs included, before they are handled."""
        over = isinstance(event, Frame) and not self._incoming.allow(time.monotonic())
        if over and self.protocol.state is State.OPEN and self._closing is None:
            self._closing = self.loop.create_task(self.close(1008, "Too many requests"))
        super().process_event(event)

    def control(self, text: str | bytes, faults: Faults) -> None:
        """Carry out a control request and answer it."""
        before = dict(self.session.streams)
        try:
            reply = control(self.session, text, self._limits.streams)
        except ControlError as error:
            reply = error.reply(faults.wrapped_errors)
        if faults.ignore_unsubscribe:
            self._lingering |= before
        self._listen()
        if faults.ack_delay_s:
            self.loop.call_later(faults.ack_delay_s, self.write, ws_frame(reply))
        else:
            self.write(ws_frame(reply))

    def write(self, data: bytes) -> None:
        """Send framed bytes now, without waiting; a client too slow is cut off."""
        gone = self.transport.is_closing() or self.protocol.state is not State.OPEN
        if self.frozen or gone:
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > self._limits.send_buffer:
            self.transport.abort()

    def push(self, batch: list[Message]) -> int:
        """Send those messages of a batch that this client listens to; how many they were."""
        if self.muted or not batch:
            return 0
        heard, form = self._heard, self.session.form
        messages = [message for message in batch if message.stream in heard]
        if not messages:
            return 0
        self.write(b"".join([message.wire(form) for message in messages]))
        count = sum([message.count for message in messages])
        self.sent += count
        return count

    async def caught_up(self) -> None:
        """Wait until the client has taken what was sent, unless it is frozen or gone."""
        if not self.frozen and self.protocol.state is State.OPEN:
            with suppress(OSError):  # it went away while we waited
                await self.drain()

    def announce_shutdown(self, now_us: int) -> None:
        """Tell that the server is going to close."""
        event = shutdown_event(now_us, self.session.combined, self.session.micro)
        self.write(ws_frame(event))

    def freeze(self) -> None:
        """Go half open: neither read nor write again, without closing."""
        self.frozen = True
        self.transport.pause_reading()
        if self.keepalive_task is not None:
            self.keepalive_task.cancel()

    def reset(self) -> None:
        """Break off in the middle of a frame, with a TCP reset."""
        self.write(ws_frame(b'{"e":"trade","E":1723161255343,"s":"BTCUSDT"')[:20])
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
