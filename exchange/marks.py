"""Index price, mark price and funding of the perpetuals, by the exchange's published rules. Pure.

The index is the spot model's price; the contract's is the futures model's. Funding is paid at
00:00, 08:00 and 16:00 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from exchange.asking import Endpoint, RestError, View, asked_symbol, end_time, endpoint, integer
from exchange.asking import start_time as asked_start
from exchange.frames import Message, Plain
from exchange.futures import FuturesSource
from exchange.tape import US, Floats, Symbol, fixed

PERIOD_S = 8 * 3600
PERIOD_US = PERIOD_S * US
INTEREST = 0.0001  # for eight hours
_CLAMP = 0.0005
_BASIS_S = 30  # the basis of the mark price is averaged over so many seconds
_SAMPLE_S = 5  # the premium is looked at as often
_MOST_RATES = 1000


@dataclass(frozen=True, slots=True)
class Mark:
    """What is told of a perpetual at a moment; prices in quote units."""

    t_us: int
    mark: float
    index: float
    rate: float
    next_us: int


def mark_at(source: FuturesSource, symbol: str, t_us: int) -> Mark:
    """Mark price, index price and the funding rate as it stands now."""
    second, within = divmod(t_us, US)
    index, contract = source.prices(symbol, second - _BASIS_S, second + 1)
    part = within / US
    index_now = float(index[-2] + (index[-1] - index[-2]) * part)
    rate = funding_rate(source, symbol, t_us)
    next_us = (t_us // PERIOD_US + 1) * PERIOD_US
    # The published rule: the median of funding-adjusted index, index plus basis, and last price.
    by_funding = index_now * (1 + rate * (next_us - t_us) / PERIOD_US)
    by_basis = index_now + float(np.mean(contract[:-1] - index[:-1]))
    last = source.trades(symbol, source.id_at(symbol, t_us + 1) - 1, 1)
    traded = int(last.price[0]) / 10 ** source.symbols[symbol].price_decimals
    return Mark(t_us, median((by_funding, by_basis, traded)), index_now, rate, next_us)


def funding_rate(source: FuturesSource, symbol: str, t_us: int) -> float:
    """The rate that the period so far leads to: the premium's average, later moments weighing
    more, and interest less premium, which counts within five hundredths of a percent."""
    end = t_us // US
    start = (t_us - 1) // PERIOD_US * PERIOD_S
    premium = _premium(source, symbol, start, max(end, start + 1))
    weights = np.arange(1, len(premium) + 1)
    average = float(np.sum(weights * premium) / np.sum(weights))
    return average + min(max(INTEREST - average, -_CLAMP), _CLAMP)


def _premium(source: FuturesSource, symbol: str, start_s: int, end_s: int) -> Floats:
    index, contract = source.prices(symbol, start_s, end_s)
    return np.asarray((contract / index - 1)[::_SAMPLE_S])


def written(value: float) -> str:
    """A price or a rate with eight decimals."""
    units = round(abs(value) * 10**8)
    return ("-" if value < 0 and units else "") + fixed(units, 8)


# -- REST


def _source(view: View) -> FuturesSource:
    if not isinstance(view.source, FuturesSource):
        raise TypeError("marks are of the futures market alone")
    return view.source


def _asked(view: View, params: Mapping[str, str]) -> list[str]:
    return [asked_symbol(view, params)] if "symbol" in params else list(view.source.symbols)


def _premium_index(view: View, params: Mapping[str, str]) -> Any:
    source, now = _source(view), view.source.now_us()
    rows = []
    for symbol in _asked(view, params):
        told = mark_at(source, symbol, now)
        rows.append(
            {
                "symbol": symbol,
                "markPrice": written(told.mark),
                "indexPrice": written(told.index),
                "estimatedSettlePrice": written(told.index),
                "lastFundingRate": written(told.rate),
                "interestRate": written(INTEREST),
                "nextFundingTime": told.next_us // view.unit,
                "time": now // view.unit,
            }
        )
    return rows[0] if "symbol" in params else rows


def _funding_history(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """Ascending; the latest where no start is named, else from the start on."""
    source = _source(view)
    start, end = asked_start(params), end_time(params)
    limit = integer(params, "limit")
    limit = 100 if limit is None else limit
    if not 1 <= limit <= _MOST_RATES:
        raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
    rows = []
    for symbol in _asked(view, params):
        first = -(-max(start or 0, source.listed_us(symbol)) // PERIOD_US)
        last = min(source.now_us(), source.now_us() if end is None else end) // PERIOD_US
        periods = range(first, last + 1)
        rows += [(period * PERIOD_US, symbol) for period in periods]
    rows.sort()
    rows = rows[-limit:] if start is None else rows[:limit]
    return [_paid(source, symbol, at, view.unit) for at, symbol in rows]


def _paid(source: FuturesSource, symbol: str, at: int, unit: int) -> dict[str, Any]:
    told = mark_at(source, symbol, at)
    return {
        "symbol": symbol,
        "fundingTime": at // unit,
        "fundingRate": written(told.rate),
        "markPrice": written(told.mark),
    }


def _funding_info(view: View, params: Mapping[str, str]) -> list[dict[str, Any]]:
    """Symbols whose cap, floor or period was changed: none here."""
    return []


USDM_MARKS: dict[str, Endpoint] = {
    "/fapi/v1/premiumIndex": endpoint(
        lambda params: 1 if "symbol" in params else 10, _premium_index, "symbol"
    ),
    "/fapi/v1/fundingRate": endpoint(1, _funding_history, "symbol startTime endTime limit"),
    "/fapi/v1/fundingInfo": endpoint(1, _funding_info, ""),
}


# -- the stream


def mark_messages(source: FuturesSource, streams: list[str], now_us: int) -> list[Message]:
    """`<s>@markPrice[@1s]` and `!markPrice@arr[@1s]` due at a whole second."""
    out: list[Message] = []
    for stream in streams:
        name, _, kind = stream.partition("@")
        every = {"markPrice": 3, "markPrice@1s": 1, "arr": 3, "arr@1s": 1}.get(kind)
        if every is None or now_us // US % every:
            continue
        if name == "!markPrice":
            events = [_event(source, symbol, now_us) for symbol in source.symbols]
            out.append(Plain(stream, b"[%s]" % b",".join(events)))
        elif kind.startswith("markPrice") and name.upper() in source.symbols:
            out.append(Plain(stream, _event(source, name.upper(), now_us)))
    return out


def _event(source: FuturesSource, symbol: str, now_us: int) -> bytes:
    info: Symbol = source.symbols[symbol]
    told = mark_at(source, symbol, now_us // US * US)
    index = written(told.index)
    return (
        f'{{"e":"markPriceUpdate","E":{told.t_us // 1000},"s":"{info.name}",'
        f'"p":"{written(told.mark)}","i":"{index}","P":"{index}",'
        f'"r":"{written(told.rate)}","T":{told.next_us // 1000}}}'
    ).encode()
