"""The sockets: one port for WebSocket and REST, and the loops that push frames out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError
from websockets.http11 import Request, Response

from exchange import rest
from exchange.client import Client, client_type
from exchange.control import answer_control, tape_rows
from exchange.faults import Faults, injection
from exchange.frames import Message
from exchange.klines import kline_messages
from exchange.limits import Limits, Weights, Window
from exchange.protocol import Session, open_session
from exchange.rest import View
from exchange.source import Source
from exchange.tape import US

LOCATION = (
    "Service unavailable from a restricted location according to 'b. Eligibility' in "
    "https://www.binance.com/en/terms. Please contact customer service if you believe you "
    "received this message in error."
)


class Exchange:
    """A running exchange: `async with Exchange(source) as ex: ex.ws_url, ex.rest_url`.

    Parameters
    ----------
    source : where trades come from.
    faults : what goes wrong; may be changed at any time, from any thread.
    host, port : where to listen; port 0 takes a free one.
    limits : what clients may do.
    control : whether `GET /control…` is answered.
    """

    def __init__(
        self,
        source: Source,
        *,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        control: bool = False,
    ) -> None:
        self.source = source
        self.faults = faults or Faults()
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.stats: Counter[str] = Counter()
        self._control = control
        self._weights = Weights(self.limits)
        self._attempts = Window(self.limits.attempts, self.limits.attempts_window_s)
        self._clients: set[Client] = set()
        self._opened: set[Client] = set()
        self._stopping = asyncio.Event()
        self._wanted: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()

    @property
    def ws_url(self) -> str:
        """The bare WebSocket address."""
        return f"ws://{self.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The bare REST address."""
        return f"http://{self.host}:{self.port}"

    def log(self, symbol: str, from_id: int, to_id: int) -> list[tuple[int, str, str, int, bool]]:
        """The true tape: (id, price, quantity, time in µs, buyer is maker), printed so far."""
        return tape_rows(self.source, symbol, from_id, to_id)

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            self.host,
            self.port,
            process_request=self._request,
            compression=None,
            open_timeout=None,
            ping_interval=self.limits.ping_interval_s,
            ping_timeout=self.limits.pong_timeout_s,
            close_timeout=1.0,
            max_size=2**20,
            server_header=None,
            create_connection=client_type(self._opened),
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        for loop in (self._pump, self._tell_klines, self._watch):
            self._spawn(loop())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is None:
            return
        self._server.close()
        closed = asyncio.ensure_future(self._server.wait_closed())
        await asyncio.wait([closed], timeout=1.0 if any(not c.frozen for c in self._clients) else 0)
        for client in tuple(self._opened):  # half open, stuck, or still without a request
            client.transport.abort()
        await closed

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.failed.set()

    # -- connections

    async def _handle(self, connection: ServerConnection) -> None:
        if not isinstance(connection, Client) or connection.request is None:
            raise TypeError(f"{connection!r} is no connection of this server")
        session = open_session(connection.request.path) or Session()
        connection.begin(session, self.limits, muted=self.faults.mute)
        if len(session.streams) > self.limits.streams:
            await connection.close(1008, "Too many subscriptions")
            return
        self.stats["connections"] += 1
        self._clients.add(connection)
        self._count_streams()
        life = asyncio.get_running_loop().call_later(
            self.limits.life_s, lambda: self._spawn(connection.close(1001, ""))
        )
        try:
            async for text in connection:
                connection.control(text, self.faults)
                self._count_streams()
        except ConnectionClosedError:
            self.stats["connections_lost"] += 1  # gone without a closing handshake
        finally:
            life.cancel()
            self._clients.discard(connection)
            self._count_streams()

    def _count_streams(self) -> None:
        wanted: Counter[str] = Counter()
        for client in self._clients:
            wanted.update(client.listens)
        self._wanted = wanted

    # -- frames out

    async def _pump(self) -> None:
        async with aclosing(self.source.live(lambda: self._wanted)) as batches:
            async for batch in batches:
                self.stats["messages"] += len(batch)
                self._push(self.faults.apply(batch))
                if self.source.patient:
                    await asyncio.gather(*(c.caught_up() for c in tuple(self._clients)))

    def _push(self, batch: list[Message]) -> None:
        for client in tuple(self._clients):
            self.stats["frames"] += client.push(batch)
            if 0 < self.faults.close_every_frames <= client.sent:
                client.sent = 0
                self._cut(client, self.faults.close_code)

    async def _tell_klines(self) -> None:
        told: dict[str, int] = {}
        while True:
            into_second = self.source.now_us() % US / US
            await asyncio.sleep(1.0 - into_second + 0.01)
            streams = [s for s in self._wanted if "@kline_" in s and not self.source.provides(s)]
            if not streams:
                continue
            messages = await asyncio.to_thread(kline_messages, self.source, streams, told)
            self._push(self.faults.apply(messages))

    # -- faults that concern connections

    async def _watch(self) -> None:
        last_cut = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            while (event := self.faults.next_event()) is not None:
                self._happen(*event)
            every = self.faults.close_every_s
            if every and time.monotonic() - last_cut >= every:
                last_cut = time.monotonic()
                for client in tuple(self._clients):
                    self._cut(client, self.faults.close_code)

    def _happen(self, name: str, value: str) -> None:
        if name == "skip":
            self.faults.skip(value, list(self.source.symbols))
        elif name == "shutdown":
            self._spawn(self._shut_down(float(value or 0)))
        data = injection(value) if name == "inject" else b""
        for client in tuple(self._clients):
            if name == "close":
                self._cut(client, int(value or 1001))
            elif name == "abort":
                client.reset()
            elif name == "half_open":
                client.freeze()
            elif name == "stall":
                client.muted = True
            elif name == "inject":
                client.write(data)

    def _cut(self, client: Client, code: int) -> None:
        if code == 1006:
            client.reset()
        else:
            self._spawn(client.close(code, ""))

    async def _shut_down(self, lead_s: float) -> None:
        """Announce the end to the present connections, then close them."""
        clients = tuple(self._clients)
        for client in clients:
            client.announce_shutdown(self.source.now_us())
        await asyncio.sleep(lead_s)
        for client in clients:
            self._cut(client, 1001)

    # -- plain HTTP

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        path = unquote(parts.path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return self._handshake(request.path)
        if path in rest.ENDPOINTS:
            return await self._rest(path, parts.query, request.headers)
        if self._control and (path == "/control" or path.startswith("/control/")):
            body = await asyncio.to_thread(answer_control, self, path, parts.query)
            return http_response(*body)
        return http_response(404, b"", kind="text/html")

    def _handshake(self, target: str) -> Response | None:
        """None to go on; a refusal otherwise."""
        status = self.faults.take_handshake()
        now = time.monotonic()
        if not status and not self._attempts.allow(now):
            status = 429
        if status:
            self.stats["handshakes_refused"] += 1
            retry = {"Retry-After": str(max(1, round(self._attempts.wait_s(now))))}
            body = rest.error_body(0, LOCATION) if status == 451 else b""
            return http_response(status, body, retry if status in (429, 418, 503) else {})
        return None if open_session(target) is not None else http_response(404, b"")

    async def _rest(self, path: str, query: str, headers: Headers) -> Response:
        self.stats["requests"] += 1
        faulty = self.faults.take_rest(path)
        if faulty and self.faults.rest_delay_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self.faults.rest_delay_s)
        if faulty and self.faults.rest_status:
            return self._refusal(self.faults.rest_status, self.faults.rest_retry_after)
        weight = rest.ENDPOINTS[path].weight
        limit = self.faults.weight_limit or None
        status, wait = self._weights.spend(weight, limit, time.time())
        if status != 200:
            return self._refusal(status, wait)
        micro = headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        view = View(
            source=self.source,
            unit=1 if micro else 1000,
            lag=self.faults.rest_lag,
            floor=self.faults.retention_floor,
            hidden=self.faults.void_ids.__contains__ if self.faults.void_ids else None,
        )
        status, body = await asyncio.to_thread(rest.respond, view, path, query)
        if faulty and self.faults.rest_body:
            return _spoilt(self.faults.rest_body, status, body)
        return http_response(status, body, self._used())

    def _used(self) -> dict[str, str]:
        used = str(self._weights.used)
        return {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}

    def _refusal(self, status: int, wait: int) -> Response:
        self.stats[f"refused_{status}"] += 1
        if status in (429, 418):
            limit = self.faults.weight_limit or self.limits.weight_per_minute
            text = (
                f"Too much request weight used; current limit is {limit} request weight per "
                "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
            )
            more = {"Retry-After": str(wait), **self._used()}
            return http_response(status, rest.error_body(-1003, text), more)
        if status == 451:
            return http_response(status, rest.error_body(0, LOCATION))
        page = f"<html><head><title>{status}</title></head><body>{status}</body></html>"
        return http_response(status, page.encode(), kind="text/html")


def _spoilt(how: str, status: int, body: bytes) -> Response:
    spoil: dict[str, Callable[[], bytes]] = {
        "html": lambda: b"<html><body>Bad gateway</body></html>",
        "truncated": lambda: body[: len(body) // 2],
    }
    return http_response(status, spoil.get(how, lambda: b"")())


def http_response(
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    kind: str = "application/json;charset=UTF-8",
) -> Response:
    """An HTTP response that ends its connection."""
    known = {s.value: s.phrase for s in HTTPStatus}
    fields = Headers()
    fields["Content-Type"] = kind
    fields["Content-Length"] = str(len(body))
    fields["Connection"] = "close"
    for name, value in (headers or {}).items():
        fields[name] = value
    return Response(status, known.get(status, "Unknown"), fields, body)
