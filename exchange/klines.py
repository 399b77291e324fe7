"""`@kline_<i>` events: the forming bar every second or two, and each bar at its close."""

from __future__ import annotations

from exchange.frames import Message, Plain
from exchange.rest import INTERVALS, View, bar_rows, bars
from exchange.source import Source
from exchange.tape import US, Symbol

_FLAG = ("false", "true")


def kline_messages(source: Source, streams: list[str], told: dict[str, int]) -> list[Message]:
    """The events due now. `told` keeps each stream's last open time and is brought up to date."""
    out: list[Message] = []
    now = source.now_us()
    for stream in streams:
        name, _, interval = stream.partition("@kline_")
        symbol, step_s = name.upper(), INTERVALS.get(interval)
        if step_s is None or symbol not in source.symbols:
            continue
        step = step_s * US
        forming = now // step * step
        first = max(told.get(stream, forming), forming - 10 * step)
        told[stream] = forming
        table = bars(View(source), symbol, step_s, first, forming)
        due = step_s == 1 or (now // US) % 2 == 0
        for row in bar_rows(table):
            if row[0] < forming or due:
                info = source.symbols[symbol]
                out.append(_event(stream, info, interval, row, now, row[0] < forming))
    return out


def _event(
    stream: str, info: Symbol, interval: str, row: tuple[int, ...], now: int, closed: bool
) -> Plain:
    forms = []
    t, o, h, low, c, volume, quote, count, taker, taker_quote, first, last = row
    for unit in (1000, 1):
        end = (t + INTERVALS[interval] * US) // unit - 1
        forms.append(
            f'{{"e":"kline","E":{now // unit},"s":"{info.name}","k":{{"t":{t // unit},"T":{end},'
            f'"s":"{info.name}","i":"{interval}","f":{first},"L":{last},'
            f'"o":"{info.price(o)}","c":"{info.price(c)}","h":"{info.price(h)}",'
            f'"l":"{info.price(low)}","v":"{info.quantity(volume)}","n":{count},'
            f'"x":{_FLAG[closed]},"q":"{info.notional(quote)}",'
            f'"V":"{info.quantity(taker)}","Q":"{info.notional(taker_quote)}","B":"0"}}}}'.encode()
        )
    return Plain(stream, forms[0], forms[1])
