"""Statistics over a window of time: 24 h, a trading day, any other; and the average price. Pure.

Every figure is folded from the same bars as klines; the ends of a window that no whole minute
fills come from seconds and trades, so that a window is exact to the microsecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from exchange.asking import View
from exchange.book import MARK_US, Book, Side
from exchange.intervals import DAY_US
from exchange.rest_klines import bar_rows
from exchange.tape import US, Symbol, fold_into, join_bars

MINUTE_US = 60 * US
AVERAGED_US = 5 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Statistics:
    """One window of a symbol; prices, quantities and amounts as integers of its decimals.

    `before` is the last price before the window, `last_lots` the size of the last trade in it.
    Without a trade, `count` is 0, all prices are the last one there was and the ids are -1.
    """

    info: Symbol
    open_us: int
    close_us: int
    before: int
    open: int
    high: int
    low: int
    last: int
    last_lots: int
    volume: int
    quote: int
    count: int
    first_id: int
    last_id: int

    @property
    def change(self) -> str:
        """Last price less the first one."""
        moved = self.last - self.open
        return ("-" if moved < 0 else "") + self.info.price(abs(moved))

    @property
    def percent(self) -> str:
        """The change in % of the first price."""
        return f"{100 * (self.last - self.open) / self.open if self.open else 0:.3f}"

    @property
    def average(self) -> str:
        """The price weighted by volume."""
        return weighted_price(self.info, self.quote, self.volume)


def weighted_price(info: Symbol, quote: int, volume: int) -> str:
    """An amount divided by a quantity, with as many decimals as the market writes."""
    return info.price_of(quote, volume) if volume else info.price(0)


def statistics(view: View, symbol: str, start_us: int, end_us: int) -> Statistics:
    """What was traded in start ≤ T < end, as far as it is printed."""
    source, last_id = view.source, view.last_id(symbol)
    start = max(start_us, source.listed_us(symbol) // DAY_US * DAY_US)
    end = min(end_us, source.now_us() + 1)
    second = min(-(-start // US) * US, end)
    minute = min(-(-start // MINUTE_US) * MINUTE_US, end)
    whole = max(minute, end // MINUTE_US * MINUTE_US)
    parts = [
        source.part(symbol, start, second, last_id),
        source.seconds(symbol, second, minute, last_id),
        source.minutes(symbol, minute, whole, last_id),
        source.seconds(symbol, whole, end, last_id),
    ]
    first, last = source.id_at(symbol, start), min(source.id_at(symbol, end) - 1, last_id)
    rows = bar_rows(fold_into(join_bars(parts), np.asarray([0])))
    before = _price_of(view, symbol, first - 1)
    span = (source.symbols[symbol], start_us, end_us)
    if not rows:
        return Statistics(*span, before, before, before, before, before, 0, 0, 0, 0, -1, -1)
    _, o, h, low, c, volume, quote, count, _, _, first_id, last_number = rows[0]
    size = int(source.trades(symbol, last, 1).qty[0])
    return Statistics(
        *span, before, o, h, low, c, size, volume, quote, count, first_id, last_number
    )


def _price_of(view: View, symbol: str, trade_id: int) -> int:
    """The price of a trade, 0 where there is none of that id."""
    if trade_id < view.source.first_id(symbol):
        return 0
    return int(view.source.trades(symbol, trade_id, 1).price[0])


def last_day(view: View, symbol: str) -> Statistics:
    """The 24 hours up to now."""
    now = view.source.now_us()
    return statistics(view, symbol, now - DAY_US, now + 1)


def average_price(view: View, symbol: str) -> tuple[str, int]:
    """The average price of five minutes and the time of the last trade, in µs."""
    now = view.source.now_us()
    told = statistics(view, symbol, now - AVERAGED_US, now + 1)
    last = view.source.trades(symbol, view.last_id(symbol), 1)
    at = int(last.t[0]) if len(last) else 0
    return (told.average if told.count else told.info.price(told.last)), at


def best(view: View, symbol: str) -> tuple[Book, Side, Side]:
    """The book now, its best bid and its best ask; of price and quantity 0 where there is none."""
    book = view.source.book(symbol, view.source.now_us() // MARK_US)
    return book, book.bids[:1] or [(0, 0)], book.asks[:1] or [(0, 0)]


def quote_fields(view: View, symbol: str) -> dict[str, Any]:
    """Best bid and ask as REST names them."""
    info = view.source.symbols[symbol]
    _, ((bid, bid_lots),), ((ask, ask_lots),) = best(view, symbol)
    return {
        "bidPrice": info.price(bid),
        "bidQty": info.quantity(bid_lots),
        "askPrice": info.price(ask),
        "askQty": info.quantity(ask_lots),
    }
