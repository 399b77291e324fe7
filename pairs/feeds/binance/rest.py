"""Binance's REST interface: what the stream cannot tell — history, and trades by id.

The exchange counts request weight per address and minute and answers 429, then bans with 418.
The client reads the count from the answers, keeps one of its own (`budget`), and waits
rather than be refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Any

import httpx

from pairs.clock import ExchangeClock, impossible_time, steady_us
from pairs.feeds.binance.budget import BULK, CLOSING, EDGE, FIRST, HISTORY, PROBE, Budget, Kind
from pairs.feeds.binance.protocol import (
    REST_PAGE,
    SIMULATED,
    SPOT,
    US_FROM,
    BinanceMarket,
    Unstorable,
    parse_klines,
    parse_rest_trades,
    whole,
    wrong_nature,
)
from pairs.feeds.network import rest_options
from pairs.market import Kline, Rejected, Trade
from pairs.retry import LONGEST_BAN_S, pause_s

log = logging.getLogger("rest")

TIMEOUT_S = 10.0
HISTORY_TIMEOUT_S = 60.0  # nobody waits for it, and to ask again would only double its work
PROBE_TIMEOUT_S = 3.0  # a dead stream must be told within 10 s
KEPT = 1000  # rows that could not be read are recognised when they are told again
NEWEST_BARS = 5  # told at a look at a market
INTERVALS = {
    1: "1s",
    60: "1m",
    180: "3m",
    300: "5m",
    900: "15m",
    1800: "30m",
    3600: "1h",
    7200: "2h",
    14_400: "4h",
    21_600: "6h",
    28_800: "8h",
    43_200: "12h",
    86_400: "1d",
}
# Binance's own list of errors: what is wrong with the request or the key, and stays so. Every other
# code tells of the exchange's present state (-1000 unknown … -1016 shutting down).
FINAL_CODES = frozenset({-1020, -2014, -2015, *range(-1199, -1099)})
# Requests of a kind that are under way at once: slow answers to one kind keep no other waiting.
SIDE_BY_SIDE = {EDGE: 8, FIRST: 8, CLOSING: 8, PROBE: 8, HISTORY: 4, BULK: 4}

LOOKS = (FIRST, PROBE)  # do not wait for room: whoever looks does it later, or at another stream


class RestError(RuntimeError):
    """A request without a usable answer; it may be repeated after `retry_after_s`. `refused`:
    this endpoint says no, and another may be worth a question; that may pass, and something in
    between may have said so. `final`: the exchange itself refuses, for a reason that stays."""

    def __init__(
        self,
        message: str,
        retry_after_s: float = 0.0,
        *,
        refused: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.refused = refused
        self.final = final


class NoRoomError(RestError):
    """A look at a silent stream has no room in the weight budget now: nothing was asked."""


class InvalidSymbol(RestError):  # noqa: N818
    """The exchange does not know the symbol; asking again will not help."""


class NoTradeTold(RestError):  # noqa: N818
    """Aggregates without a trade in any of them."""


class BinanceRest:
    """Requests to one address. Use as `async with`; safe for many tasks at once."""

    def __init__(
        self, base: str, protocol: BinanceMarket = SPOT, simulated: bool | None = None
    ) -> None:
        self.base = base
        self.protocol = protocol
        self.says: str | None = None  # what the exchange called itself last
        self.clock = ExchangeClock()
        self.aside: list[Rejected] = []  # to be stored by whoever has a database
        self._kept: deque[tuple[str | None, str, str]] = deque(maxlen=KEPT)
        self._simulated = simulated
        self._client = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=sum(SIDE_BY_SIDE.values())),
            **rest_options(base),
        )
        self._budget = Budget(protocol.weight_per_minute)
        self._lanes = {kind: asyncio.Semaphore(most) for kind, most in SIDE_BY_SIDE.items()}
        self._quiet_until = 0.0  # monotonic; no request leaves before it, as the exchange wants
        self._bans = 0  # in a row, of unknown length
        # Monotonic: the last answer that could be used, and the last that came from no healthy
        # exchange (none at all, of something in between, a failing server). Refusals are neither.
        self.well_at = self.unwell_at = float("-inf")

    async def __aenter__(self) -> BinanceRest:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def get(
        self, name: str, *, kind: Kind = EDGE, timeout_s: float = TIMEOUT_S, **parameters: str | int
    ) -> Any:
        """The decoded answer of one endpoint. Raises RestError for every other outcome."""
        path = f"{self.protocol.rest_path}/{name}"
        if "symbol" in parameters:
            parameters["symbol"] = self.protocol.wire(str(parameters["symbol"]))
        weight = self.protocol.weight(name, int(parameters.get("limit", REST_PAGE)))
        async with self._lanes[kind]:
            await self._turn(weight, kind)
            try:
                async with asyncio.timeout(timeout_s):  # httpx alone counts each read anew
                    answer = await self._client.get(
                        self.base + path, params=parameters, timeout=timeout_s
                    )
            except Exception as error:
                self.unwell_at = time.monotonic()
                raise RestError(f"{path}: {type(error).__name__} {error}".strip()) from error
        self._budget.record_used(answer.headers.get("X-MBX-USED-WEIGHT-1M", ""))
        self.says = answer.headers.get(SIMULATED)
        try:  # first: a refusal by something in between says nothing of the exchange's nature
            body = self._decoded(path, answer)
        except RestError as error:
            if not error.final:
                self.unwell_at = time.monotonic()
            raise
        self.well_at = time.monotonic()
        if wrong := wrong_nature(self.says, self._simulated):
            raise RestError(f"{path}: {wrong}")
        return body

    async def _turn(self, weight: int, kind: Kind) -> None:
        """Wait for this request's turn: the exchange's pause, then the weight budget."""
        while True:
            pause = self._quiet_until - time.monotonic()
            room = self._budget.wait_s(weight, kind)
            if room > 0 and kind in LOOKS:
                raise NoRoomError(f"{kind.name}: no room in the weight budget for {room:.0f} s")
            wait = max(pause, room)
            if pause > 60:
                raise RestError(f"REST is paused for {pause:.0f} s more by the exchange", pause)
            if wait <= 0:
                break
            await asyncio.sleep(wait)
        self._budget.spend(weight, kind)

    def _decoded(self, path: str, answer: httpx.Response) -> Any:
        status = answer.status_code
        try:
            body = json.loads(answer.content, parse_float=Decimal)
            wrong = ""
        except (ValueError, ArithmeticError, RecursionError):
            body, wrong = None, "with a body that is no JSON"
        number = _code(body)
        if status == 200 and not wrong and number is None:
            self._bans = 0
            return body
        self._obey(path, answer, number)
        message = f"{path}: HTTP {status} {wrong or _message(body)}"
        final = 400 <= status < 500 and number in FINAL_CODES
        if final and number == -1121:
            raise InvalidSymbol(message, refused=True, final=True)
        refused = final or status in (400, 401, 404, 405, 410, 501)
        raise RestError(message, refused=refused, final=final)

    def _obey(self, path: str, answer: httpx.Response, number: int | None) -> None:
        """Where the exchange wants no requests for a while, whatever the form it says it in."""
        status = answer.status_code
        text = answer.content[:4096].decode("utf-8", "replace")
        seconds = pause_s(status, number, answer.headers, text, time.time())
        if not seconds:
            return
        if status == 418 and "Retry-After" not in answer.headers:  # bans grow, by how much is known
            seconds = max(seconds, min(LONGEST_BAN_S, seconds * 2**self._bans))
            self._bans += 1
        self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)
        said = f" {number}" if number is not None else ""
        raise RestError(f"{path}: HTTP {status}{said}, wait {seconds:.0f} s", seconds)

    def has_room(self, kind: Kind, looks: int = 1) -> bool:
        """Whether so many looks of this kind would leave at once; a pause that the exchange
        demands is no want of room."""
        weight = self.protocol.weight("aggTrades") + self.protocol.weight("klines", NEWEST_BARS)
        return self._budget.wait_s(looks * weight, kind) <= 0

    # -- what the daemon asks for

    async def time_ms(self) -> int:
        """The exchange's clock, ms since 1970."""
        body = await self.get("time")
        try:
            told_ms = int(body["serverTime"])
        except (KeyError, TypeError, ValueError) as error:
            raise RestError(f"the server time is malformed: {error}") from error
        self.clock.told(told_ms * 1000)
        return told_ms

    async def trades_from(
        self, symbol: str, from_id: int, limit: int = REST_PAGE, kind: Kind = EDGE
    ) -> list[Trade | Unstorable]:
        """Up to `limit` trades from `from_id` on, ascending. The exchange may begin later than
        asked where it does not keep that id (any more): look at the first one.

        Where the endpoint by id is not offered (`historicalTrades` is not, at the address for
        market data only), the newest trades are looked through instead.
        """
        try:
            rows = await self.get(
                self.protocol.trades_by_id, kind=kind, symbol=symbol, fromId=from_id, limit=limit
            )
        except RestError as error:
            if not self._otherwise(error):
                raise
            rows = await self.get("trades", kind=kind, symbol=symbol, limit=REST_PAGE)
            newest = await self._checked(symbol, rows)
            if newest and newest[0].trade_id > from_id:
                raise  # older than what `trades` tells: only the refused endpoint knows
            return [trade for trade in newest if trade.trade_id >= from_id][:limit]
        return await self._checked(symbol, rows, from_id)

    def _otherwise(self, error: RestError) -> bool:
        """Whether another endpoint may tell what this one refuses. `trades` knows spot's ids."""
        known = not isinstance(error, InvalidSymbol)
        return error.refused and known and self.protocol.id_field == "t"

    async def _checked(
        self, symbol: str, rows: Any, since: int | None = None
    ) -> list[Trade | Unstorable]:
        """The rows as trades. A time that this machine's clock does not allow is held against the
        exchange's."""
        try:
            told = parse_rest_trades(symbol, rows, steady_us(), self.protocol, since)
        except (ValueError, KeyError, TypeError) as error:
            raise RestError(f"trades of {symbol} are malformed: {error}") from error
        if any(map(self._too_late, told)) and self.clock.due:
            with contextlib.suppress(RestError):  # then its trades tell its clock
                await self.time_ms()
        return [self._timely(row) for row in told]

    def _too_late(self, row: Trade | Unstorable) -> str:
        """Why a trade cannot have been printed yet; empty where it can."""
        if isinstance(row, Unstorable):
            return ""
        return impossible_time(row.ts_us, self.clock.reached_us(row.received_us), None)

    def _timely(self, row: Trade | Unstorable) -> Trade | Unstorable:
        why = self._too_late(row)
        if not why or isinstance(row, Unstorable):
            return row
        rejected = Rejected(why, str(row), row.symbol, row.trade_id)
        return Unstorable(row.trade_id, rejected)

    async def latest_id(self, symbol: str, kind: Kind = EDGE) -> int | None:
        """The id of the newest trade the exchange tells; None where there is none."""
        ask = partial(self.get, kind=kind, timeout_s=PROBE_TIMEOUT_S, symbol=symbol)
        try:
            found = await self._told_at(symbol, "l", partial(ask, "aggTrades"))
            return None if found is None else found[0]
        except RestError as error:
            if not self._otherwise(error):
                raise
            newest = await self._checked(symbol, await ask("trades", limit=1))
            return newest[-1].trade_id if newest else None

    async def first_id_since(self, symbol: str, start_ms: int) -> int | None:
        """The id of the first trade at or after `start_ms`; None where there is none yet."""
        found = await self.first_since(symbol, start_ms)
        return None if found is None else found[0]

    async def first_since(self, symbol: str, start_ms: int) -> tuple[int, int] | None:
        """The id of the first trade at or after `start_ms`, and its time, µs; 0 where that cannot
        be read."""
        ask = partial(self.get, "aggTrades", symbol=symbol, startTime=start_ms)
        return await self._told_at(symbol, "f", ask)

    async def _told_at(
        self, symbol: str, end: str, ask: Callable[..., Awaitable[Any]]
    ) -> tuple[int, int] | None:
        """The trade id at one end (f, l) of the first or last aggregate that has one; of USD-M the
        aggregate's own; and the aggregate's time. Some of spot hold no trade and say −1: then the
        page is looked through."""
        name = end if self.protocol.id_field == "t" else "a"
        for limit in (1, REST_PAGE):
            rows = await ask(limit=limit)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise RestError(f"aggTrades of {symbol} are malformed: {str(rows)[:200]}")
            told = [(i, _us_of(row.get("T"))) for row in rows if (i := _id_of(row.get(name))) >= 0]
            if told or not rows:
                return (told[0] if end == "f" else told[-1]) if told else None
        raise NoTradeTold(f"aggTrades of {symbol}: {len(rows)} of them hold no trade", refused=True)

    async def klines(self, symbol: str, bar_s: int, start_ms: int, until_ms: int) -> list[Kline]:
        """The bars that saw a trade, of open time `start_ms` up to, not including, `until_ms`.
        Whether the last one has closed is the caller's to know. As many requests as the
        exchange's pages need, at most one for each bar."""
        found: list[Kline] = []
        while start_ms < until_ms:
            page = await self._klines(
                symbol,
                bar_s,
                HISTORY,
                HISTORY_TIMEOUT_S,
                startTime=start_ms,
                endTime=until_ms - 1,
                limit=min(REST_PAGE, -(-(until_ms - start_ms) // (bar_s * 1000))),
            )
            page = [kline for kline in page if start_ms * 1000 <= kline.ts_us < until_ms * 1000]
            if not page:
                break  # a page may be shorter than asked for, the end is one without news
            found += page
            start_ms = max(kline.ts_us for kline in page) // 1000 + bar_s * 1000
        return [kline for kline in found if kline.trades > 0]

    async def newest_klines(self, symbol: str, bar_s: int, kind: Kind = EDGE) -> list[Kline]:
        """The newest bars, the forming one included, oldest first."""
        page = await self._klines(symbol, bar_s, kind, PROBE_TIMEOUT_S, limit=NEWEST_BARS)
        return sorted(page, key=lambda kline: kline.ts_us)

    async def _klines(
        self, symbol: str, bar_s: int, kind: Kind, timeout_s: float, **asked: int
    ) -> list[Kline]:
        rows = await self.get(
            "klines",
            kind=kind,
            timeout_s=timeout_s,
            symbol=symbol,
            interval=INTERVALS[bar_s],
            **asked,
        )
        try:
            aside: list[Rejected] = []
            klines = parse_klines(symbol, bar_s, rows, aside)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RestError(f"klines of {symbol} are malformed: {error}") from error
        self._keep(aside)
        return klines

    def _keep(self, rejected: list[Rejected]) -> None:
        """Let rows that cannot be read be kept aside, each once however often it is told."""
        for one in rejected:
            if (one.symbol, one.reason, one.frame) not in self._kept:
                self._kept.append((one.symbol, one.reason, one.frame))
                self.aside.append(one)
                log.warning('quarantined symbol=%s reason="%s"', one.symbol, one.reason)


def _code(body: Any) -> int | None:
    """The number of an error in the exchange's own form."""
    code = body.get("code") if isinstance(body, dict) else None
    return code if type(code) is int and code < 0 else None


def _id_of(value: object) -> int:
    """An id; −1 where it is none."""
    with contextlib.suppress(ValueError):
        return whole(value, "trade id")
    return -1


def _us_of(value: object) -> int:
    """A time, ms or µs, as µs; 0 where it is none."""
    number = max(0, _id_of(value))
    return number if number >= US_FROM else number * 1000


def _message(body: Any) -> str:
    text = body.get("msg", body) if isinstance(body, dict) else body
    number = _code(body)
    return (str(text) if number is None else f"{number} {text}")[:200]
