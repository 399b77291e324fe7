"""Binance's REST interface: what the stream cannot tell — history, and trades by id.

The exchange counts request weight per address and minute and answers 429, then bans with 418.
The client reads the count from the answers and waits rather than be refused.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from feeds.binance import REST_PAGE, SPOT, Protocol, parse_klines, parse_rest_trades
from market import Kline, Trade

WEIGHT_SHARE = 0.8  # of the limit: other programs may run behind the same address
TIMEOUT_S = 10.0
PROBE_TIMEOUT_S = 3.0  # a dead stream must be told within 10 s
INTERVALS = {1: "1s", 60: "1m"}


class RestError(RuntimeError):
    """A request without a usable answer; it may be repeated after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InvalidSymbol(RestError):  # noqa: N818
    """The exchange does not know the symbol; asking again will not help."""


class BinanceRest:
    """Requests to one address. Use as `async with`; safe for many tasks at once."""

    def __init__(self, base: str, protocol: Protocol = SPOT) -> None:
        self.base = base
        self.protocol = protocol
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S, limits=httpx.Limits(max_connections=4), trust_env=True
        )
        self._quiet_until = 0.0  # monotonic; after 429 and 418 no request leaves before it

    async def __aenter__(self) -> BinanceRest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(self, name: str, *, timeout_s: float = TIMEOUT_S, **parameters: str | int) -> Any:
        """The decoded answer of one endpoint. Raises RestError for every other outcome."""
        path = f"{self.protocol.rest_path}/{name}"
        if "symbol" in parameters:
            parameters["symbol"] = self.protocol.wire(str(parameters["symbol"]))
        wait = self._quiet_until - time.monotonic()
        if wait > 60:
            raise RestError(f"REST is paused for {wait:.0f} s more by the exchange", wait)
        if wait > 0:
            await asyncio.sleep(wait)
        try:
            answer = await self._client.get(self.base + path, params=parameters, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise RestError(f"{path}: {type(error).__name__} {error}".strip()) from error
        self._note_weight(answer)
        if answer.status_code in (418, 429):
            seconds = _retry_after(answer)
            self._quiet_until = time.monotonic() + seconds
            raise RestError(f"{path}: HTTP {answer.status_code}, wait {seconds:.0f} s", seconds)
        try:
            body = answer.json()
        except ValueError as error:
            raise RestError(
                f"{path}: HTTP {answer.status_code} with a body that is no JSON"
            ) from error
        if answer.status_code != 200:
            message = f"{path}: HTTP {answer.status_code} {_message(body)}"
            if isinstance(body, dict) and body.get("code") == -1121:
                raise InvalidSymbol(message)
            raise RestError(message)
        return body

    def _note_weight(self, answer: httpx.Response) -> None:
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit() and int(used) > self.protocol.weight_per_minute * WEIGHT_SHARE:
            # The count falls back at the full minute of the exchange's clock.
            self._quiet_until = max(self._quiet_until, time.monotonic() + 60 - time.time() % 60)

    # -- what the daemon asks for

    async def time_ms(self) -> int:
        """The exchange's clock, ms since 1970."""
        body = await self.get("time")
        try:
            return int(body["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise RestError(f"the server time is malformed: {error}") from error

    async def trades_from(self, symbol: str, from_id: int, limit: int = REST_PAGE) -> list[Trade]:
        """Up to `limit` trades from `from_id` on, ascending. The exchange may begin later than
        asked where it does not keep that id (any more): look at the first one."""
        rows = await self.get(
            self.protocol.trades_by_id, symbol=symbol, fromId=from_id, limit=limit
        )
        return self._checked(symbol, rows)

    def _checked(self, symbol: str, rows: Any) -> list[Trade]:
        try:
            return parse_rest_trades(symbol, rows, time.time_ns() // 1000, self.protocol)
        except (ValueError, KeyError, TypeError) as error:
            raise RestError(f"trades of {symbol} are malformed: {error}") from error

    async def latest_id(self, symbol: str) -> int | None:
        """The id of the newest trade the exchange tells; None where there is none."""
        rows = await self.get("aggTrades", symbol=symbol, limit=1, timeout_s=PROBE_TIMEOUT_S)
        return self._id_in(symbol, rows, "l")

    async def first_id_since(self, symbol: str, start_ms: int) -> int | None:
        """The id of the first trade at or after `start_ms`; None where there is none yet."""
        rows = await self.get("aggTrades", symbol=symbol, startTime=start_ms, limit=1)
        return self._id_in(symbol, rows, "f")

    def _id_in(self, symbol: str, rows: Any, end: str) -> int | None:
        """The trade id at one end (f, l) of a lone aggregate; of USD-M the aggregate's own."""
        try:
            return int(rows[-1][end if self.protocol.id_field == "t" else "a"]) if rows else None
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RestError(f"aggTrades of {symbol} are malformed: {error}") from error

    async def klines(self, symbol: str, bar_s: int, start_ms: int) -> list[Kline]:
        """Every *closed* bar that saw a trade, from open time `start_ms` to now by the
        exchange's clock."""
        found: list[Kline] = []
        while True:
            rows = await self.get(
                "klines", symbol=symbol, interval=INTERVALS[bar_s], startTime=start_ms,
                limit=REST_PAGE,
            )  # fmt: skip
            try:
                page = parse_klines(symbol, bar_s, rows)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise RestError(f"klines of {symbol} are malformed: {error}") from error
            found += page
            if len(page) < REST_PAGE:
                break
            start_ms = page[-1].ts_us // 1000 + bar_s * 1000
        # The newest may still be forming. Without it no clock needs to be compared.
        return [kline for kline in found[:-1] if kline.trades > 0]


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    default = 120.0 if answer.status_code == 418 else 10.0
    return float(text) if text.isdigit() else default


def _message(body: Any) -> str:
    return str(body.get("msg", body) if isinstance(body, dict) else body)[:200]
