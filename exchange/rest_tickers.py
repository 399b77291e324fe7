"""The endpoints of tickers, of spot and of USD-M. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from exchange.asking import (
    ILLEGAL,
    Endpoint,
    RestError,
    View,
    asked_symbol,
    asked_symbols,
    endpoint,
)
from exchange.book import MARK_US
from exchange.intervals import DAY_US
from exchange.rest_klines import asked_zone
from exchange.tickers import (
    MINUTE_US,
    Statistics,
    average_price,
    best,
    last_day,
    quote_fields,
    statistics,
)

_WINDOW = re.compile(r"([1-9]|[1-5]\d)m|([1-9]|1\d|2[0-3])h|([1-7])d")
_MOST_SYMBOLS = 100  # of a request for windows

Params = Mapping[str, str]


def _each(view: View, params: Params, tell: Callable[[View, str], dict[str, Any]]) -> Any:
    """One row where `symbol` is given, else a list; a symbol has one or the other."""
    if "symbol" in params and "symbols" in params:
        raise RestError(-1128, "Combination of optional parameters invalid.")
    rows = [tell(view, symbol) for symbol in asked_symbols(view, params)]
    return rows[0] if "symbol" in params else rows


def _named(params: Params) -> int:
    """How many symbols a request names; 0 stands for all."""
    if "symbol" in params:
        return 1
    return params["symbols"].count(",") + 1 if "symbols" in params else 0


def _mini(params: Params) -> bool:
    kind = params.get("type", "FULL")
    if kind not in ("FULL", "MINI"):
        raise RestError(-1139, "Invalid ticker type.")
    return kind == "MINI"


def _summary(told: Statistics, unit: int, *, mini: bool) -> dict[str, Any]:
    """What every window tells."""
    info = told.info
    change = {
        "priceChange": told.change,
        "priceChangePercent": told.percent,
        "weightedAvgPrice": told.average,
    }
    return {
        "symbol": info.name,
        **({} if mini else change),
        "openPrice": info.price(told.open),
        "highPrice": info.price(told.high),
        "lowPrice": info.price(told.low),
        "lastPrice": info.price(told.last),
        "volume": info.quantity(told.volume),
        "quoteVolume": info.notional(told.quote),
        "openTime": told.open_us // unit,
        "closeTime": (told.close_us - 1) // unit,
        "firstId": told.first_id,
        "lastId": told.last_id,
        "count": told.count,
    }


def _day(view: View, params: Params) -> Any:
    mini = _mini(params)

    def tell(view: View, symbol: str) -> dict[str, Any]:
        told = last_day(view, symbol)
        row = _summary(told, view.unit, mini=mini)
        if mini:
            return row
        before = {"prevClosePrice": told.info.price(told.before)}
        last = {"lastQty": told.info.quantity(told.last_lots)}
        return {**row, **before, **last, **quote_fields(view, symbol)}

    return _each(view, params, tell)


def _day_weight(params: Params) -> int:
    named = _named(params)
    steps = ((20, 2), (100, 40))
    return next((weight for most, weight in steps if 0 < named <= most), 80)


def _asked_names(view: View, params: Params) -> None:
    """Windows are told of named symbols only, of so many at once."""
    if "symbol" not in params and "symbols" not in params:
        raise RestError(-1128, "Combination of optional parameters invalid.")
    if _named(params) > _MOST_SYMBOLS:
        told = f"Too many parameters; expected '{_MOST_SYMBOLS}' and received '{_named(params)}'."
        raise RestError(-1101, told)


def _rolling(view: View, params: Params) -> Any:
    _asked_names(view, params)
    window, mini = window_us(params.get("windowSize", "1d")), _mini(params)
    if window is None:
        raise RestError(-1100, ILLEGAL.format("windowSize", "1m to 59m, 1h to 23h, 1d to 7d"))
    span = window

    def tell(view: View, symbol: str) -> dict[str, Any]:
        return _summary(rolling(view, symbol, span), view.unit, mini=mini)

    return _each(view, params, tell)


def window_us(text: str) -> int | None:
    """The length of a window such as `15m`, None where there is none of it."""
    if not _WINDOW.fullmatch(text):
        return None
    return int(text[:-1]) * {"m": MINUTE_US, "h": 60 * MINUTE_US, "d": DAY_US}[text[-1]]


def rolling(view: View, symbol: str, window: int) -> Statistics:
    """A window up to now that begins with a whole minute."""
    now = view.source.now_us()
    return statistics(view, symbol, (now - window) // MINUTE_US * MINUTE_US, now + 1)


def _windows_weight(params: Params) -> int:
    return min(4 * max(1, _named(params)), 200)


def _trading_day(view: View, params: Params) -> Any:
    _asked_names(view, params)
    ahead, mini = asked_zone(params), _mini(params)

    def tell(view: View, symbol: str) -> dict[str, Any]:
        opened = (view.source.now_us() + ahead) // DAY_US * DAY_US - ahead
        return _summary(statistics(view, symbol, opened, opened + DAY_US), view.unit, mini=mini)

    return _each(view, params, tell)


def _price(view: View, params: Params) -> Any:
    def tell(view: View, symbol: str) -> dict[str, Any]:
        return {"symbol": symbol, "price": last_price(view, symbol)}

    return _each(view, params, tell)


def last_price(view: View, symbol: str) -> str:
    """The price of the last trade printed."""
    last = view.source.trades(symbol, view.last_id(symbol), 1)
    return view.source.symbols[symbol].price(int(last.price[0]) if len(last) else 0)


def _book(view: View, params: Params) -> Any:
    def tell(view: View, symbol: str) -> dict[str, Any]:
        return {"symbol": symbol, **quote_fields(view, symbol)}

    return _each(view, params, tell)


def _average(view: View, params: Params) -> dict[str, Any]:
    price, at = average_price(view, asked_symbol(view, params))
    return {"mins": 5, "price": price, "closeTime": at // view.unit}


def _one_or_all(one: int, all_of_them: int) -> Callable[[Params], int]:
    return lambda params: one if "symbol" in params else all_of_them


SPOT_TICKERS: dict[str, Endpoint] = {
    "/api/v3/avgPrice": endpoint(2, _average, "symbol"),
    "/api/v3/ticker/24hr": endpoint(_day_weight, _day, "symbol symbols type symbolStatus"),
    "/api/v3/ticker/tradingDay": endpoint(
        _windows_weight, _trading_day, "symbol symbols timeZone type symbolStatus"
    ),
    "/api/v3/ticker/price": endpoint(_one_or_all(2, 4), _price, "symbol symbols symbolStatus"),
    "/api/v3/ticker/bookTicker": endpoint(_one_or_all(2, 4), _book, "symbol symbols symbolStatus"),
    "/api/v3/ticker": endpoint(
        _windows_weight, _rolling, "symbol symbols windowSize type symbolStatus"
    ),
}


# -- USD-M


def _futures_day(view: View, params: Params) -> Any:
    def tell(view: View, symbol: str) -> dict[str, Any]:
        told = last_day(view, symbol)
        row = _summary(told, view.unit, mini=False)
        return {**row, "lastQty": told.info.quantity(told.last_lots)}

    return _each(view, params, tell)


def _futures_price(view: View, params: Params) -> Any:
    def tell(view: View, symbol: str) -> dict[str, Any]:
        at = view.source.trades(symbol, view.last_id(symbol), 1).t[0]
        price = last_price(view, symbol)
        return {"symbol": symbol, "price": price, "time": int(at) // view.unit}

    return _each(view, params, tell)


def _futures_book(view: View, params: Params) -> Any:
    def tell(view: View, symbol: str) -> dict[str, Any]:
        mark = best(view, symbol)[0].mark
        more = {"time": mark * MARK_US // view.unit, "lastUpdateId": mark}
        return {"symbol": symbol, **quote_fields(view, symbol), **more}

    return _each(view, params, tell)


USDM_TICKERS: dict[str, Endpoint] = {
    "/fapi/v1/ticker/24hr": endpoint(_one_or_all(1, 40), _futures_day, "symbol"),
    "/fapi/v1/ticker/price": endpoint(_one_or_all(1, 2), _futures_price, "symbol"),
    "/fapi/v2/ticker/price": endpoint(_one_or_all(1, 2), _futures_price, "symbol"),
    "/fapi/v1/ticker/bookTicker": endpoint(_one_or_all(2, 5), _futures_book, "symbol"),
}
