"""The sockets: one port for WebSocket and REST of both markets."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from exchange.client import Client, client_type
from exchange.control import TapeRow, answer_control, tape_rows
from exchange.faults import Faults
from exchange.futures import FuturesSource
from exchange.limits import Limits
from exchange.market import Market
from exchange.plain_http import http_response
from exchange.protocol import SPOT, USDM, Session, open_session
from exchange.source import Source
from exchange.synthetic import SyntheticSource

SIMULATED = "X-Simulated"


class Exchange:
    """A running exchange: `async with Exchange(source) as ex: ex.ws_url, ex.rest_url`.

    Spot and, where the source is synthetic, USD-M futures are served beside each other.

    Parameters
    ----------
    source : where trades come from.
    faults, usdm_faults : what goes wrong in spot and in USD-M; may be changed at any time, from
        any thread.
    host, port : where to listen; port 0 takes a free one.
    limits, usdm_limits : what clients may do; those of USD-M follow `limits` where not given.
    control : whether `GET /control…` is answered.
    tls : speak TLS with this context; plain where None.
    """

    def __init__(
        self,
        source: Source,
        *,
        faults: Faults | None = None,
        usdm_faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        usdm_limits: Limits | None = None,
        control: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.source = source
        self.faults = faults or Faults()
        self.usdm_faults = usdm_faults or Faults()
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.stats: Counter[str] = Counter()
        self.markets = {SPOT: Market(SPOT, source, self.faults, self.limits, self.stats)}
        if isinstance(source, SyntheticSource):
            futures, most = FuturesSource(source), usdm_limits or self.limits.for_usdm()
            self.markets[USDM] = Market(USDM, futures, self.usdm_faults, most, self.stats)
        self._control = control
        self._tls = tls
        self._opened: set[Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()

    @property
    def ws_url(self) -> str:
        """The bare WebSocket address."""
        return f"{'wss' if self._tls else 'ws'}://{self.host}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The bare REST address."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def market(self, name: str) -> Market:
        """One of the markets served."""
        if name not in self.markets:
            raise ValueError(f"unknown market {name!r}: allowed are {', '.join(self.markets)}")
        return self.markets[name]

    def log(self, symbol: str, from_id: int, to_id: int, market: str = SPOT) -> list[TapeRow]:
        """The true tape: (id, price, quantity, time in µs, buyer is maker), printed so far.

        For USD-M the rows are aggregates, the id being `a`.
        """
        return tape_rows(self.market(market).source, symbol, from_id, to_id)

    def connections(self) -> list[dict[str, Any]]:
        """The present connections of both markets, the oldest of each first."""
        return [told for market in self.markets.values() for told in market.describe_clients()]

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            self.host,
            self.port,
            ssl=self._tls,
            process_request=self._request,
            process_response=self._say_simulated,
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
        for market in self.markets.values():
            market.source.closed = False
            for loop in market.loops(self._spawn):
                self._spawn(loop)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for market in self.markets.values():
            market.stopping.set()
            market.source.closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is None:
            return
        self._server.close()
        closed = asyncio.ensure_future(self._server.wait_closed())
        answering = any(not c.frozen for m in self.markets.values() for c in m.clients)
        await asyncio.wait([closed], timeout=1.0 if answering else 0)
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

    async def _handle(self, connection: ServerConnection) -> None:
        if not isinstance(connection, Client) or connection.request is None:
            raise TypeError(f"{connection!r} is no connection of this server")
        session = open_session(connection.request.path) or Session()
        await self.markets[session.market].serve(connection, session, self._spawn)

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        path = unquote(parts.path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return self._handshake(connection, request.path)
        for market in self.markets.values():
            if path in market.endpoints:
                return await market.answer(path, parts.query, request.headers)
        if self._control and (path == "/control" or path.startswith("/control/")):
            body = await asyncio.to_thread(answer_control, self, path, parts.query)
            return http_response(*body)
        return http_response(404, b"", kind="text/html")

    def _say_simulated(
        self, connection: ServerConnection, request: Request, response: Response
    ) -> None:
        """In every answer and every handshake: none of this is a real market."""
        response.headers[SIMULATED] = self.source.kind

    def _handshake(self, connection: ServerConnection, target: str) -> Response | None:
        """None to go on; a refusal otherwise."""
        session = open_session(target)
        market = self.markets.get(session.market if session else SPOT)
        if market is None:
            return http_response(404, b"")
        refusal = market.refuse_handshake()
        if refusal is not None or session is None:
            return refusal or http_response(404, b"")
        connection.ping_interval = market.limits.ping_interval_s
        connection.ping_timeout = market.limits.pong_timeout_s
        return None
