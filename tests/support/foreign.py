"""A second, bare exchange, written from the protocol's description alone, and odd where told.

It shares no code with `exchange/`: what that one takes for granted, this one may leave out. Trades
are made by `print_trades`, kept per symbol, sent to the connections that ask for the symbol in
their address, and told by REST by id.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.background import Background

Row = dict[str, Any]


@dataclass
class Oddities:
    """How this exchange differs from the usual one; may be changed while it runs."""

    missing: set[str] = field(default_factory=set)  # endpoints answered with 404
    needs_key: set[str] = field(default_factory=set)  # endpoints answered with 401
    failing: set[str] = field(default_factory=set)  # endpoints answered with 503
    hanging: set[str] = field(default_factory=set)  # endpoints that never answer
    empty: set[str] = field(default_factory=set)  # endpoints that answer [] to everything
    says: dict[str, tuple[int, str]] = field(default_factory=dict)  # endpoint → status and body
    page: int = 1000  # rows per answer at most, whatever is asked for
    numbers: bool = False  # prices and sizes as JSON numbers
    raw: bool = False  # frames without the wrapper, even on /stream
    micros: bool = False
    handshake_delay_s: float = 0.0
    greeting: list[str] = field(default_factory=list)  # sent before anything else
    hidden: set[int] = field(default_factory=set)  # ids that the stream does not send
    silent: set[str] = field(default_factory=set)  # symbols that the stream does not send
    unknown: set[int] = field(default_factory=set)  # ids that REST does not tell
    late_s: float = 0.0  # trades are sent this long after REST tells them
    slow_s: dict[str, float] = field(default_factory=dict)  # endpoint → seconds to each answer
    weight_header: bool = False
    time_ms: int | None = None  # a clock that stands still
    ahead_ms: int = 0  # of its clock and its trades' times, before this machine's
    sent: dict[int, Row] = field(default_factory=dict)  # id → what the stream tells otherwise
    told: dict[int, Row] = field(default_factory=dict)  # id → what REST tells otherwise
    rewrite: Callable[[str, Any], Any] = lambda name, body: body  # of an endpoint's answer
    price: Callable[[int], str] = lambda i: f"{60_000 + i % 997 / 100:.8f}"


class Foreign(Background):
    """The exchange in a thread. Use as a context manager."""

    def __init__(self, *symbols: str, market: str = "spot", **oddities: Any) -> None:
        super().__init__()
        self.odd = Oddities(**oddities)
        self.trades: dict[str, list[Row]] = {symbol: [] for symbol in symbols}
        self.requests: list[str] = []
        self.handshakes: list[str] = []
        self._usdm = market == "usdm"
        self._connections: list[tuple[ServerConnection, set[str]]] = []

    async def _main(self) -> None:
        async with serve(
            self._talk,
            "127.0.0.1",
            0,
            process_request=self._request,
            compression=None,
            ping_interval=None,
            close_timeout=0.1,
            max_queue=None,
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.ws_url, self.rest_url = f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}"
            await self._serve_until_stopped()

    # -- what a test does

    def call(self, work: Callable[[], Any]) -> Any:
        """Run `work` in the exchange's thread and wait for it."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def print_trades(
        self, symbol: str, count: int, *, first: int | None = None, at_ms: int | None = None
    ) -> None:
        """The next `count` trades of a symbol, or those from id `first` on."""
        self.call(lambda: self._print(symbol, count, first, at_ms))

    def _print(self, symbol: str, count: int, first: int | None, at_ms: int | None) -> None:
        kept = self.trades[symbol]
        start = first if first is not None else (kept[-1]["id"] + 1 if kept else 1)
        now = at_ms if at_ms is not None else self._now_ms()
        made = [
            {"id": i, "p": self.odd.price(i), "q": f"0.{i % 89 + 1:08d}", "T": now, "m": i % 3 == 0}
            for i in range(start, start + count)
        ]
        kept += made
        frames = [
            self._frame(symbol, {**row, **self.odd.sent.get(row["id"], {})})
            for row in made
            if row["id"] not in self.odd.hidden
        ]
        if symbol not in self.odd.silent:
            if self.odd.late_s:
                self._loop.call_later(self.odd.late_s, self._send_all, symbol, frames)
            else:
                self._send_all(symbol, frames)

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.odd.ahead_ms

    def _send_all(self, symbol: str, frames: list[str]) -> None:
        for connection, wanted in self._connections:
            if symbol.lower() in wanted:
                for frame in frames:
                    self._send(connection, frame)

    def say(self, frame: str | bytes) -> None:
        """One frame to everybody."""
        self.call(lambda: [self._send(connection, frame) for connection, _ in self._connections])

    def close(self, code: int = 1001) -> None:
        """End every connection."""
        open_now = [connection for connection, _ in self._connections]
        for connection in open_now:
            asyncio.run_coroutine_threadsafe(connection.close(code), self._loop).result(10)

    @property
    def connected(self) -> int:
        return len(self._connections)

    def tape(
        self, symbol: str, known: tuple[int, int]
    ) -> list[tuple[int, float, float, int, bool]]:
        """What must be stored of the ids in `known`: id, price, size, time in ms, maker."""
        return [
            (row["id"], float(row["p"]), float(row["q"]), row["T"], row["m"])
            for row in self.trades[symbol]
            if known[0] <= row["id"] <= known[1]
        ]

    # -- the stream

    def _frame(self, symbol: str, row: Row) -> str:
        name, number = ("aggTrade", "a") if self._usdm else ("trade", "t")
        when = row["T"] * 1000 if self.odd.micros else row["T"]
        data = {
            "e": name,
            "E": when,
            "s": symbol,
            number: row["id"],
            "p": row["p"],
            "q": row["q"],
            "T": when,
            "m": row["m"],
        }
        text = json.dumps(data)
        if self.odd.numbers:
            for key in ("p", "q"):
                text = text.replace(f'"{row[key]}"', row[key])
        stream = f"{symbol.lower()}@{name}"
        return text if self.odd.raw else f'{{"stream":"{stream}","data":{text}}}'

    @staticmethod
    def _send(connection: ServerConnection, frame: str | bytes) -> None:
        # Without waiting for the client: what it does not take is the kernel's to hold.
        if connection.state.name == "OPEN":
            if isinstance(frame, str):
                connection.protocol.send_text(frame.encode())
            else:
                connection.protocol.send_binary(frame)
            connection.transport.write(b"".join(connection.protocol.data_to_send()))

    async def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        address = urlsplit(unquote(connection.request.path))
        names = parse_qs(address.query).get("streams", [address.path.rsplit("/ws/", 1)[-1]])[0]
        suffix = "@aggTrade" if self._usdm else "@trade"
        wanted = {n.removesuffix(suffix) for n in names.split("/") if n.endswith(suffix)}
        for frame in self.odd.greeting:
            self._send(connection, frame)
        entry = (connection, wanted)
        self._connections.append(entry)
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass
        finally:
            self._connections.remove(entry)

    # -- REST, on the same port

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        address = urlsplit(request.path)
        root = "/fapi/v1/" if self._usdm else "/api/v3/"
        if not address.path.startswith(root):
            self.handshakes.append(request.path)
            await asyncio.sleep(self.odd.handshake_delay_s)
            right = ("/market/stream", "/market/ws") if self._usdm else ("/stream", "/ws")
            return None if address.path.startswith(right) else _answer(404, {})
        name = address.path.removeprefix(root)
        self.requests.append(f"{name}?{address.query}")
        if name in self.odd.hanging:
            await asyncio.sleep(3600)
        await asyncio.sleep(self.odd.slow_s.get(name, 0))
        if name in self.odd.says:
            return _said(*self.odd.says[name])
        if name in self.odd.empty:
            return _answer(200, [])
        if name in self.odd.failing:
            return _answer(503, {"code": -1000, "msg": "unavailable"})
        if name in self.odd.needs_key:
            return _answer(401, {"code": -2014, "msg": "API-key format invalid."})
        known = name in ("ping", "time", "aggTrades", "klines") or (
            not self._usdm and name in ("historicalTrades", "trades")
        )
        if name in self.odd.missing or not known:
            return _answer(404, {"code": -1, "msg": "Not Found"})
        parameters = {key: values[0] for key, values in parse_qs(address.query).items()}
        headers = {"X-MBX-USED-WEIGHT-1M": "7"} if self.odd.weight_header else {}
        body = self.odd.rewrite(name, self._told(name, parameters))
        return _answer(200, body, headers)

    def _told(self, name: str, asked: dict[str, str]) -> Any:
        if name == "ping":
            return {}
        if name == "time":
            return {"serverTime": self.odd.time_ms or self._now_ms()}
        if name == "klines":
            return self._klines(asked)
        limit = min(int(asked.get("limit", 500)), self.odd.page)
        rows = [r for r in self.trades[asked["symbol"]] if r["id"] not in self.odd.unknown]
        if "fromId" in asked:
            rows = [r for r in rows if r["id"] >= int(asked["fromId"])][:limit]
        elif "startTime" in asked:
            rows = [r for r in rows if r["T"] >= int(asked["startTime"])][:limit]
        else:
            rows = rows[-limit:]
        rows = [{**r, **self.odd.told.get(r["id"], {})} for r in rows]
        if name == "aggTrades":
            return [
                {
                    "a": r["id"] if self._usdm else r["id"] // 2,
                    "p": r["p"],
                    "q": r["q"],
                    "f": r["id"],
                    "l": r["id"],
                    "T": r["T"],
                    "m": r["m"],
                }
                for r in rows
            ]
        return [
            {
                "id": r["id"],
                "price": self._number(r["p"]),
                "qty": self._number(r["q"]),
                "time": r["T"],
                "isBuyerMaker": r["m"],
            }
            for r in rows
        ]

    def _klines(self, asked: dict[str, str]) -> list[list[Any]]:
        """Bars of everything printed, known to REST or not; none for a span without trades."""
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
        step = int(asked["interval"][:-1]) * unit[asked["interval"][-1]] * 1000
        start, end = int(asked.get("startTime", 0)), int(asked.get("endTime", 10**14))
        made: dict[int, list[Row]] = {}
        for row in self.trades[asked["symbol"]]:
            made.setdefault(row["T"] // step * step, []).append(row)
        told = [
            _kline(opened, step, rows)
            for opened, rows in sorted(made.items())
            if start <= opened <= end
        ]
        limit = min(int(asked.get("limit", 500)), self.odd.page)
        return told[:limit] if "startTime" in asked else told[-limit:]

    def _number(self, text: str) -> str | float:
        return float(text) if self.odd.numbers else text


def _kline(opened: int, step: int, rows: list[Row]) -> list[Any]:
    prices = [float(row["p"]) for row in rows]
    sizes = [float(row["q"]) for row in rows]
    quote = sum(p * q for p, q in zip(prices, sizes, strict=True))
    taker = sum(q for q, row in zip(sizes, rows, strict=True) if not row["m"])
    return [
        opened,
        rows[0]["p"],
        str(max(prices)),
        str(min(prices)),
        rows[-1]["p"],
        f"{sum(sizes):.8f}",
        opened + step - 1,
        f"{quote:.8f}",
        len(rows),
        f"{taker:.8f}",
        "0",
        "0",
    ]


def _answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    return _said(status, json.dumps(body), headers)


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    kind = "text/html" if text.startswith("<") else "application/json"
    content = text.encode()
    made = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Connection": "close",
            **(headers or {}),
        }
    )
    return Response(status, HTTPStatus(status).phrase, made, content)
