"""The REST endpoints as functions of (source, parameters, horizon). Pure: no sockets, no clock.

Only trades already printed are told: up to the source's last id, less a lag where a fault asks
for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from exchange.source import Source
from exchange.tape import (
    MICRO_FROM,
    US,
    Bars,
    Symbol,
    Trades,
    aggregate_rows,
    aggregates_of,
    fill_bars,
    fold,
)

INTERVALS = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600,
    "2h": 7200, "4h": 14_400, "6h": 21_600, "8h": 28_800, "12h": 43_200, "1d": 86_400,
}  # fmt: skip
_ILLEGAL = "Illegal characters found in parameter '{}'; legal range is '{}'."
_MISSING = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
_SYMBOL = r"^[\w\-._&&[^a-z]]{1,50}$"  # as the exchange prints it


class RestError(Exception):
    """An error body `{"code": …, "msg": …}` with its HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(code, message)


def error_body(code: int, message: str) -> bytes:
    """The exchange's error JSON."""
    return msgspec.json.encode({"code": code, "msg": message})


@dataclass(frozen=True, slots=True)
class View:
    """What REST may tell just now.

    `lag` trades less than the stream, nothing before `floor` (an id), none of `hidden` ids;
    `unit` is 1 for µs, 1000 for ms; `bars` is the most rows a klines page has.
    """

    source: Source
    unit: int = 1000
    lag: int = 0
    floor: int = 0
    hidden: Callable[[int], bool] | None = None
    bars: int = 1000

    def last_id(self, symbol: str) -> int:
        return self.source.last_id(symbol) - self.lag

    def first_id(self, symbol: str) -> int:
        return max(self.source.first_id(symbol), self.floor)

    def trades(self, symbol: str, first_id: int, count: int) -> Trades:
        """Printed trades from an id on."""
        first = max(first_id, self.first_id(symbol))
        last = self.last_id(symbol)
        count = min(count, last - first + 1)
        if count <= 0:
            return self.source.trades(symbol, last, 0)
        return self.source.trades(symbol, first, count).up_to_id(last)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its weight, the parameters it knows, its answer as plain data."""

    weight: int | Callable[[Mapping[str, str]], int]
    known: frozenset[str]
    answer: Callable[[View, Mapping[str, str]], Any]


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query; the last of a name counts."""
    return dict(parse_qsl(query, keep_blank_values=True))


def weight_of(asked: Endpoint, query: str) -> int:
    """What a request counts for."""
    return asked.weight if isinstance(asked.weight, int) else asked.weight(parameters(query))


def respond(
    view: View, path: str, query: str, endpoints: Mapping[str, Endpoint] | None = None
) -> tuple[int, bytes]:
    """HTTP status and JSON body of a request to a known path, of spot if not said otherwise."""
    try:
        asked = (endpoints or ENDPOINTS)[path]
        params = parameters(query)
        unknown = set(params) - asked.known
        if unknown:
            message = f"Too many parameters; expected '{len(asked.known)}' and received '{{}}'."
            raise RestError(-1101, message.format(len(asked.known) + len(unknown)))
        return 200, msgspec.json.encode(asked.answer(view, params))
    except RestError as error:
        return error.status, error.body


# -- parameters


def asked_symbol(view: View, params: Mapping[str, str]) -> str:
    name = params.get("symbol", "")
    if not name:
        raise RestError(-1102, _MISSING.format("symbol"))
    if not re.fullmatch(r"[^\W_a-z][\w.-]{0,49}", name) or name != name.upper():
        raise RestError(-1100, _ILLEGAL.format("symbol", _SYMBOL))
    if name not in view.source.symbols:
        raise RestError(-1121, "Invalid symbol.")
    return name


def integer(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not text:
        raise RestError(-1105, f"Parameter '{name}' was empty.")
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise RestError(-1100, _ILLEGAL.format(name, "^[0-9]{1,20}$"))
    return int(text)


def asked_limit(params: Mapping[str, str], most: int = 1000) -> int:
    limit = integer(params, "limit")
    if limit is None:
        return 500
    if limit < 1:
        raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit, most)


def start_time(params: Mapping[str, str]) -> int | None:
    """startTime in µs: the exchange takes ms as well as µs."""
    value = integer(params, "startTime")
    return value * 1000 if value is not None and value < MICRO_FROM else value


def end_time(params: Mapping[str, str]) -> int | None:
    """endTime in µs, inclusive: one given in ms means all of that millisecond."""
    value = integer(params, "endTime")
    return value * 1000 + 999 if value is not None and value < MICRO_FROM else value


# -- answers


def _trade_rows(view: View, info: Symbol, trades: Trades) -> list[dict[str, Any]]:
    columns = (trades.ids, trades.price, trades.qty, trades.t, trades.maker)
    return [
        {
            "id": number,
            "price": info.price(price),
            "qty": info.quantity(qty),
            "quoteQty": info.notional(price * qty),
            "time": t // view.unit,
            "isBuyerMaker": maker,
            "isBestMatch": True,
        }
        for number, price, qty, t, maker in zip(*(c.tolist() for c in columns), strict=True)
        if view.hidden is None or not view.hidden(number)
    ]


def _trades(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    symbol = asked_symbol(view, params)
    limit = asked_limit(params)
    first = integer(params, "fromId")
    if first is None:
        first = view.last_id(symbol) - limit + 1
    return _trade_rows(view, view.source.symbols[symbol], view.trades(symbol, first, limit))


def _first_of_aggregates(view: View, symbol: str, params: Mapping[str, str], limit: int) -> int:
    from_id = integer(params, "fromId")
    start, end = start_time(params), end_time(params)
    if from_id is not None:
        if start is not None or end is not None:
            raise RestError(-1128, "Combination of optional parameters invalid.")
        return view.source.id_of_aggregate(symbol, from_id)
    if start is not None:
        return view.source.id_at(symbol, start)
    # The latest ones: an aggregate holds one trade or more, so look back until enough are seen.
    stop = view.last_id(symbol)
    if end is not None:
        stop = min(stop, view.source.id_at(symbol, end + 1) - 1)
    back = limit
    while True:
        first = max(stop - back + 1, view.first_id(symbol))
        seen = view.trades(symbol, first, stop - first + 1)
        if len(set(seen.agg.tolist())) > limit or first <= view.first_id(symbol):
            break
        back *= 2
    starts = aggregates_of(seen).first
    return int(starts[max(-limit, -len(starts))]) if len(starts) else stop + 1


def _aggregates(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    symbol = asked_symbol(view, params)
    info = view.source.symbols[symbol]
    limit = asked_limit(params)
    first = _first_of_aggregates(view, symbol, params, limit)
    end = end_time(params)
    count = 2 * limit + 50
    while True:
        trades = view.trades(symbol, first, count)
        folded = aggregates_of(trades)
        if len(folded) > limit or len(trades) < count:
            break
        count *= 2
    return [
        {
            "a": number,
            "p": info.price(price),
            "q": info.quantity(qty),
            "f": f,
            "l": last,
            "T": t // view.unit,
            "m": maker,
            "M": True,
        }
        for number, price, qty, f, last, t, maker in aggregate_rows(folded)
        if end is None or t <= end
    ][:limit]


def bars(view: View, symbol: str, step_s: int, first_open_us: int, last_open_us: int) -> Bars:
    """Bars that open in [first, last] (multiples of the step), the forming one included."""
    step = step_s * US
    source, last = view.source, view.last_id(symbol)
    made_from = source.seconds if step_s % 60 else source.minutes
    rows = fold(made_from(symbol, first_open_us, last_open_us + step, last), step)
    before = min(source.id_at(symbol, first_open_us), last + 1) - 1
    previous = None
    if before >= source.first_id(symbol):
        previous = int(source.trades(symbol, before, 1).price[0])
    opens = np.arange(first_open_us, last_open_us + 1, step)
    return fill_bars(rows, opens, previous)


def klines(view: View, params: Mapping[str, str]) -> list[list[Any]]:
    symbol = asked_symbol(view, params)
    interval = params.get("interval", "")
    if not interval:
        raise RestError(-1102, _MISSING.format("interval"))
    if interval not in INTERVALS:
        raise RestError(-1120, "Invalid interval.")
    step_s = INTERVALS[interval]
    span = kline_span(view, params, step_s)
    if span is None:
        return []
    info = view.source.symbols[symbol]
    table = bars(view, symbol, step_s, *span)
    return [kline_row(info, row, step_s, view.unit) for row in bar_rows(table)]


def kline_span(view: View, params: Mapping[str, str], step_s: int) -> tuple[int, int] | None:
    """First and last open time that a klines request asks for, None where there is nothing.

    Nothing older than the source's history is told: an exchange knows nothing of the time before
    a listing.
    """
    step = step_s * US
    now = view.source.now_us()
    start, end = start_time(params), end_time(params)
    limit = max(1, min(asked_limit(params, view.bars), view.source.history_us // step))
    last = min(now, now if end is None else end) // step * step
    oldest = max(0, (now - view.source.history_us) // step * step)
    if start is None:
        first = max(last - (limit - 1) * step, oldest)
    else:
        first = max(-(-start // step) * step, oldest)
        last = min(last, first + (limit - 1) * step)
    return (first, last) if first <= last else None


def bar_rows(table: Bars) -> list[tuple[int, ...]]:
    """A table of bars as rows of Python integers, in the order of its columns."""
    columns = (getattr(table, name).tolist() for name in Bars.__slots__)
    return list(zip(*columns, strict=True))


def kline_row(info: Symbol, row: tuple[int, ...], step_s: int, unit: int) -> list[Any]:
    """A kline as REST tells it."""
    t, o, h, low, c, volume, quote, count, taker, taker_quote, _, _ = row
    return [
        t // unit,
        info.price(o),
        info.price(h),
        info.price(low),
        info.price(c),
        info.quantity(volume),
        (t + step_s * US) // unit - 1,
        info.notional(quote),
        count,
        info.quantity(taker),
        info.notional(taker_quote),
        "0",
    ]


def ping(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {}


def time(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {"serverTime": view.source.now_us() // view.unit}


def _asked_symbols(view: View, params: Mapping[str, str]) -> list[str]:
    if "symbol" in params:
        return [asked_symbol(view, params)]
    if "symbols" not in params:
        return list(view.source.symbols)
    try:
        names = json.loads(params["symbols"])
    except ValueError:
        raise RestError(-1100, _ILLEGAL.format("symbols", "a JSON list of symbols")) from None
    if not isinstance(names, list) or not names:
        raise RestError(-1102, _MISSING.format("symbols"))
    return [asked_symbol(view, {"symbol": str(name)}) for name in names]


def rate_limits(weight: int) -> list[dict[str, Any]]:
    """The limits as exchangeInfo states them."""
    per = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    return [{**per, "limit": weight}]


def _exchange_info(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {
        "timezone": "UTC",
        "serverTime": view.source.now_us() // view.unit,
        "rateLimits": rate_limits(6000),
        "exchangeFilters": [],
        "symbols": [_listing(view.source.symbols[n]) for n in _asked_symbols(view, params)],
    }


def _listing(info: Symbol) -> dict[str, Any]:
    price = {"filterType": "PRICE_FILTER", "minPrice": info.tick, "maxPrice": "1000000.00000000"}
    lot = {"filterType": "LOT_SIZE", "minQty": info.lot, "maxQty": "9000000.00000000"}
    return {
        "symbol": info.name,
        "status": "TRADING",
        "baseAsset": info.base,
        "baseAssetPrecision": 8,
        "quoteAsset": info.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [{**price, "tickSize": info.tick}, {**lot, "stepSize": info.lot}],
        "permissions": ["SPOT"],
    }


def endpoint(
    weight: int | Callable[[Mapping[str, str]], int],
    answer: Callable[[View, Mapping[str, str]], Any],
    names: str,
) -> Endpoint:
    """An endpoint that knows the parameters `names`."""
    return Endpoint(weight, frozenset(names.split()), answer)


ENDPOINTS: dict[str, Endpoint] = {
    "/api/v3/ping": endpoint(1, ping, ""),
    "/api/v3/time": endpoint(1, time, ""),
    "/api/v3/exchangeInfo": endpoint(
        20, _exchange_info, "symbol symbols permissions showPermissionSets symbolStatus"
    ),
    "/api/v3/trades": endpoint(25, _trades, "symbol limit"),
    "/api/v3/historicalTrades": endpoint(25, _trades, "symbol limit fromId"),
    "/api/v3/aggTrades": endpoint(4, _aggregates, "symbol limit fromId startTime endTime"),
    "/api/v3/klines": endpoint(2, klines, "symbol interval limit startTime endTime timeZone"),
}
