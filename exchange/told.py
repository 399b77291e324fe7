"""Streams told by the clock: klines, depth, tickers, quotes of all, average and mark prices."""

from __future__ import annotations

import re
from collections.abc import Callable

from exchange.asking import View
from exchange.book import MARK_US, Quote
from exchange.depth import depth_messages
from exchange.frames import Message, Plain
from exchange.futures import FuturesSource
from exchange.futures_frames import book_ticker
from exchange.klines import kline_messages
from exchange.marks import mark_messages
from exchange.rest_tickers import rolling, window_us
from exchange.source import Source
from exchange.tape import US
from exchange.tickers import Statistics, average_price, best, last_day

STEP_US = 50_000  # every speed of depth is a multiple of it
_ROLLING = re.compile(r"ticker_(1h|4h|1d)")
_ALL_QUOTES_S = 5

Tell = Callable[[View, str, int], list[bytes]]
"""An event of a symbol, in ms and (where it differs) in µs; the time is that of sending."""


def is_slow(stream: str) -> bool:
    """Whether it needs a day of trades or more, which are made when first asked for."""
    return "icker" in stream or stream.partition("_")[2][:2] in ("1d", "3d", "1w", "1M")


class Teller:
    """What falls due on the streams that `source` does not yield itself."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._futures = isinstance(source, FuturesSource)
        self._bars: dict[str, int] = {}

    def often(self, streams: list[str], past_us: int, now_us: int) -> list[Message]:
        """Depth that falls due in past < t ≤ now."""
        return depth_messages(self._source, streams, past_us, now_us, futures=self._futures)

    def each_second(self, streams: list[str]) -> list[Message]:
        """Everything else, once a second."""
        source, now = self._source, self._source.now_us()
        out = kline_messages(source, streams, self._bars)
        for stream in streams:
            out += self._statistics(stream, now)
        if isinstance(source, FuturesSource):
            out += mark_messages(source, streams, now)
            if "!bookTicker" in streams and now // US % _ALL_QUOTES_S == 0:
                out += [_all_quotes(source, symbol, now) for symbol in source.symbols]
        return out

    def _statistics(self, stream: str, now_us: int) -> list[Message]:
        name, _, kind = stream.partition("@")
        whole_market = name.startswith("!") and kind.partition("@")[0] == "arr"
        tell = self._teller_of(name[1:] if whole_market else kind)
        symbols = list(self._source.symbols) if whole_market else [name.upper()]
        if tell is None or symbols[0] not in self._source.symbols:
            return []
        view = View(self._source)
        events = [tell(view, symbol, now_us) for symbol in symbols]
        milli, micro = [event[0] for event in events], [event[-1] for event in events]
        if whole_market:
            return [Plain(stream, b"[%s]" % b",".join(milli), b"[%s]" % b",".join(micro))]
        return [Plain(stream, milli[0], micro[0])]

    def _teller_of(self, kind: str) -> Tell | None:
        if kind == "ticker":
            return _futures_day if self._futures else _spot_day
        if kind == "miniTicker":
            return _mini_day
        if self._futures:
            return None
        if kind == "avgPrice":
            return _average
        return _window(kind) if _ROLLING.fullmatch(kind) else None


def _prices(told: Statistics) -> str:
    info = told.info
    return (
        f'"o":"{info.price(told.open)}","h":"{info.price(told.high)}",'
        f'"l":"{info.price(told.low)}","v":"{info.quantity(told.volume)}",'
        f'"q":"{info.notional(told.quote)}"'
    )


def _changes(told: Statistics) -> str:
    info = told.info
    return (
        f'"p":"{told.change}","P":"{told.percent}","w":"{told.average}",'
        f'"c":"{info.price(told.last)}","Q":"{info.quantity(told.last_lots)}"'
    )


def _span(told: Statistics, unit: int) -> str:
    return (
        f'"O":{told.open_us // unit},"C":{(told.close_us - 1) // unit},'
        f'"F":{told.first_id},"L":{told.last_id},"n":{told.count}'
    )


def _event(kind: str, told: Statistics, now_us: int, body: Callable[[int], str]) -> list[bytes]:
    return [
        f'{{"e":"{kind}","E":{now_us // unit},"s":"{told.info.name}",{body(unit)}}}'.encode()
        for unit in (1000, 1)
    ]


def _ticker(kind: str, told: Statistics, now_us: int, quote: str = "") -> list[bytes]:
    """A whole ticker of a window; `quote`: what of it only some tell, each field with a comma."""
    return _event(
        kind,
        told,
        now_us,
        lambda unit: f"{_changes(told)},{quote}{_prices(told)},{_span(told, unit)}",
    )


def _spot_day(view: View, symbol: str, now_us: int) -> list[bytes]:
    told = last_day(view, symbol)
    info = told.info
    _, ((bid, bid_lots),), ((ask, ask_lots),) = best(view, symbol)
    quote = (
        f'"x":"{info.price(told.before)}","b":"{info.price(bid)}",'
        f'"B":"{info.quantity(bid_lots)}","a":"{info.price(ask)}","A":"{info.quantity(ask_lots)}",'
    )
    return _ticker("24hrTicker", told, now_us, quote)


def _futures_day(view: View, symbol: str, now_us: int) -> list[bytes]:
    return _ticker("24hrTicker", last_day(view, symbol), now_us)


def _mini_day(view: View, symbol: str, now_us: int) -> list[bytes]:
    told = last_day(view, symbol)
    close = f'"c":"{told.info.price(told.last)}"'
    return _event("24hrMiniTicker", told, now_us, lambda _: f"{close},{_prices(told)}")


def _window(kind: str) -> Tell:
    name = kind.removeprefix("ticker_")
    length = window_us(name) or 0

    def tell(view: View, symbol: str, now_us: int) -> list[bytes]:
        return _ticker(f"{name}Ticker", rolling(view, symbol, length), now_us)

    return tell


def _average(view: View, symbol: str, now_us: int) -> list[bytes]:
    price, at = average_price(view, symbol)
    return [
        f'{{"e":"avgPrice","E":{now_us // unit},"s":"{symbol}","i":"5m","w":"{price}",'
        f'"T":{at // unit}}}'.encode()
        for unit in (1000, 1)
    ]


def _all_quotes(source: FuturesSource, symbol: str, now_us: int) -> Message:
    mark = now_us // MARK_US
    book = source.book(symbol, mark)
    quote = Quote(*book.bids[0], *book.asks[0])
    return Plain("!bookTicker", book_ticker(source.symbols[symbol], mark, quote).payload(False))
