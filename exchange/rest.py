"""The spot endpoints as functions of (view, parameters). Pure: no sockets, no clock.

Only trades already printed are told: up to the source's last id, less a lag where a fault asks
for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchange.asking import (
    Endpoint,
    RestError,
    View,
    answer,
    asked_limit,
    asked_symbol,
    asked_symbols,
    end_time,
    endpoint,
    integer,
    start_time,
)
from exchange.depth import depth, depth_weight
from exchange.rest_klines import klines
from exchange.rest_tickers import SPOT_TICKERS
from exchange.tape import Symbol, Trades, aggregate_rows, aggregates_of


def respond(
    view: View, path: str, query: str, endpoints: Mapping[str, Endpoint] | None = None
) -> tuple[int, bytes]:
    """HTTP status and JSON body of a request to a known path, of spot if not said otherwise."""
    return answer((endpoints or ENDPOINTS)[path], view, query)


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


def ping(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {}


def time(view: View, params: Mapping[str, str]) -> dict[str, Any]:
    return {"serverTime": view.source.now_us() // view.unit}


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
        "symbols": [_listing(view.source.symbols[n]) for n in asked_symbols(view, params)],
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


_KLINES = "symbol interval limit startTime endTime timeZone"
ENDPOINTS: dict[str, Endpoint] = {
    "/api/v3/ping": endpoint(1, ping, ""),
    "/api/v3/time": endpoint(1, time, ""),
    "/api/v3/exchangeInfo": endpoint(
        20, _exchange_info, "symbol symbols permissions showPermissionSets symbolStatus"
    ),
    "/api/v3/trades": endpoint(25, _trades, "symbol limit"),
    "/api/v3/historicalTrades": endpoint(25, _trades, "symbol limit fromId"),
    "/api/v3/aggTrades": endpoint(4, _aggregates, "symbol limit fromId startTime endTime"),
    "/api/v3/klines": endpoint(2, klines, _KLINES),
    "/api/v3/uiKlines": endpoint(2, klines, _KLINES),
    "/api/v3/depth": endpoint(depth_weight, depth, "symbol limit symbolStatus"),
    **SPOT_TICKERS,
}
