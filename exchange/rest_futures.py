"""The USD-M endpoints, `/fapi/v1/…`, as functions of (view, parameters).

Lists are of aggregates: `View.trades` gives one row per aggregate here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchange.asking import (
    Endpoint,
    RestError,
    View,
    asked_limit,
    asked_symbol,
    end_time,
    endpoint,
    integer,
    start_time,
)
from exchange.depth import futures_depth, futures_depth_weight
from exchange.futures import first_trades, sizes, split
from exchange.marks import USDM_MARKS
from exchange.rest import ping, rate_limits, time
from exchange.rest_klines import klines
from exchange.rest_tickers import USDM_TICKERS
from exchange.tape import US, Symbol, Trades

KEPT_US = 48 * 3600 * US
SPAN_US = 3600 * US


def _rows(view: View, tape: Trades) -> list[tuple[Any, ...]]:
    """(a, price, quantity, time, maker, first trade, trades), without the hidden ones."""
    columns = (tape.ids, tape.price, tape.qty, tape.t, tape.maker)
    more = (first_trades(tape.ids), sizes(tape.ids))
    rows = zip(*(c.tolist() for c in (*columns, *more)), strict=True)
    return [row for row in rows if view.hidden is None or not view.hidden(row[0])]


def _first_asked(view: View, symbol: str, params: Mapping[str, str], limit: int) -> int:
    from_id = integer(params, "fromId")
    start, end = start_time(params), end_time(params)
    if from_id is not None:
        if start is not None or end is not None:
            raise RestError(-1128, "Combination of optional parameters invalid.")
        return from_id
    if start is not None:
        if end is not None and end // 1000 * 1000 - start > SPAN_US:
            raise RestError(-1127, "More than 1 hours between startTime and endTime.")
        return view.source.id_at(symbol, start)
    last = view.last_id(symbol)
    if end is not None:
        last = min(last, view.source.id_at(symbol, end + 1) - 1)
    return last - limit + 1


def _aggregates(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    symbol = asked_symbol(view, params)
    info, limit = view.source.symbols[symbol], asked_limit(params)
    kept = view.source.id_at(symbol, view.source.now_us() - KEPT_US)
    first = max(_first_asked(view, symbol, params, limit), kept)
    end = end_time(params)
    return [
        {
            "a": number,
            "p": info.price(price),
            "q": info.quantity(qty),
            "nq": info.quantity(qty),
            "f": f,
            "l": f + count - 1,
            "T": t // view.unit,
            "m": maker,
        }
        for number, price, qty, t, maker, f, count in _rows(view, view.trades(symbol, first, limit))
        if end is None or t <= end
    ]


def _trades(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """The latest trades; placeholders are not told."""
    symbol = asked_symbol(view, params)
    info, limit = view.source.symbols[symbol], asked_limit(params)
    tape = view.trades(symbol, view.last_id(symbol) - limit + 1, limit)
    return [
        {
            "id": first + step,
            "price": info.price(price),
            "qty": info.quantity(part),
            "quoteQty": info.notional(price * part),
            "time": t // view.unit,
            "isBuyerMaker": maker,
        }
        for _, price, qty, t, maker, first, count in _rows(view, tape)
        for step, part in enumerate(split(qty, count))
    ][-limit:]


def _exchange_info(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {
        "timezone": "UTC",
        "serverTime": view.source.now_us() // view.unit,
        "futuresType": "U_MARGINED",
        "rateLimits": rate_limits(2400),
        "exchangeFilters": [],
        "assets": [],
        "symbols": [_listing(info) for info in view.source.symbols.values()],
    }


def _listing(info: Symbol) -> dict[str, Any]:
    tick, lot = info.price(1), info.quantity(1)
    price = {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000"}
    size = {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000000"}
    return {
        "symbol": info.name,
        "pair": info.name,
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "baseAsset": info.base,
        "quoteAsset": info.quote,
        "marginAsset": info.quote,
        "pricePrecision": info.price_decimals,
        "quantityPrecision": info.lot_decimals,
        "underlyingType": "COIN",
        "filters": [{**price, "tickSize": tick}, {**size, "stepSize": lot}],
        "orderTypes": ["LIMIT", "MARKET"],
    }


def _kline_weight(params: Mapping[str, str]) -> int:
    limit = params.get("limit", "")
    asked = int(limit) if limit.isdecimal() else 500
    steps = ((99, 1), (499, 2), (1000, 5))
    return next((weight for most, weight in steps if asked <= most), 10)


ENDPOINTS: dict[str, Endpoint] = {
    "/fapi/v1/ping": endpoint(1, ping, ""),
    "/fapi/v1/time": endpoint(1, time, ""),
    "/fapi/v1/exchangeInfo": endpoint(1, _exchange_info, ""),
    "/fapi/v1/trades": endpoint(5, _trades, "symbol limit"),
    "/fapi/v1/aggTrades": endpoint(20, _aggregates, "symbol fromId startTime endTime limit"),
    "/fapi/v1/klines": endpoint(_kline_weight, klines, "symbol interval startTime endTime limit"),
    "/fapi/v1/depth": endpoint(futures_depth_weight, futures_depth, "symbol limit"),
    **USDM_TICKERS,
    **USDM_MARKS,
}
