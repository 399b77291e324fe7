"""Klines: bars of every interval, folded from the tape, and the requests for them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchange.asking import (
    ILLEGAL,
    MISSING,
    RestError,
    View,
    asked_limit,
    asked_symbol,
    end_time,
    start_time,
)
from exchange.intervals import DAY_US, INTERVALS, Interval, zone_us
from exchange.tape import Bars, Symbol, fill_bars, fold_into


def bars(view: View, symbol: str, interval: Interval, first: int, last: int) -> Bars:
    """Bars number first … last, the forming one included.

    Trades before the day of the listing do not count: no bar of any length knows of them.
    """
    source, last_id = view.source, view.last_id(symbol)
    opens = interval.opens(first, last + 1)
    begin, end = int(opens[0]), int(opens[-1])
    listed = source.listed_us(symbol)
    begin = max(begin, min(listed // DAY_US * DAY_US, int(opens[1]) - 1))
    made_from = source.seconds if interval.by_seconds else source.minutes
    rows = fold_into(made_from(symbol, begin, end, last_id), opens)
    before = min(source.id_at(symbol, begin), last_id + 1) - 1
    previous = None
    if before >= source.first_id(symbol):
        previous = int(source.trades(symbol, before, 1).price[0])
    return fill_bars(rows, opens[:-1], previous)


def asked_interval(params: Mapping[str, str]) -> Interval:
    """The interval of a request, by the clock of its time zone."""
    name = params.get("interval", "")
    if not name:
        raise RestError(-1102, MISSING.format("interval"))
    if name not in INTERVALS:
        raise RestError(-1120, "Invalid interval.")
    return INTERVALS[name].in_zone(asked_zone(params))


def asked_zone(params: Mapping[str, str]) -> int:
    """How far the time zone of a request is ahead of UTC, in µs."""
    ahead = zone_us(params.get("timeZone", "0"))
    if ahead is None:
        raise RestError(-1100, ILLEGAL.format("timeZone", "-12:00 to +14:00"))
    return ahead


def klines(view: View, params: Mapping[str, str]) -> list[list[Any]]:
    """The answer to a request for klines."""
    symbol = asked_symbol(view, params)
    interval = asked_interval(params)
    span = kline_span(view, symbol, params, interval)
    if span is None:
        return []
    info = view.source.symbols[symbol]
    table = bars(view, symbol, interval, *span)
    return [kline_row(info, row, interval, view.unit) for row in bar_rows(table)]


def kline_span(
    view: View, symbol: str, params: Mapping[str, str], interval: Interval
) -> tuple[int, int] | None:
    """First and last bar that a request asks for, None where there is nothing.

    Nothing older than the listing is told, and a request for what is older begins with it.
    """
    now = view.source.now_us()
    start, end = start_time(params), end_time(params)
    limit = asked_limit(params, view.bars)
    last = interval.number(now if end is None else min(now, end))
    oldest = interval.number(min(view.source.listed_us(symbol), now))
    if start is None:
        first = max(last - limit + 1, oldest)
    else:
        first = max(interval.next_number(start), oldest)
        last = min(last, first + limit - 1)
    return (first, last) if first <= last else None


def bar_rows(table: Bars) -> list[tuple[int, ...]]:
    """A table of bars as rows of Python integers, in the order of its columns."""
    columns = (getattr(table, name).tolist() for name in Bars.__slots__)
    return list(zip(*columns, strict=True))


def close_us(interval: Interval, open_us: int) -> int:
    """The open time of the bar after the one that opens at `open_us`."""
    return interval.open_us(interval.number(open_us) + 1)


def kline_row(info: Symbol, row: tuple[int, ...], interval: Interval, unit: int) -> list[Any]:
    """A kline as REST tells it."""
    t, o, h, low, c, volume, quote, count, taker, taker_quote, _, _ = row
    return [
        t // unit,
        info.price(o),
        info.price(h),
        info.price(low),
        info.price(c),
        info.quantity(volume),
        close_us(interval, t) // unit - 1,
        info.notional(quote),
        count,
        info.quantity(taker),
        info.notional(taker_quote),
        "0",
    ]
