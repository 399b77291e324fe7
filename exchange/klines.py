"""`@kline_<i>` events: the forming bar every second or two, and each bar at its close."""

from __future__ import annotations

from dataclasses import dataclass

from exchange.asking import View
from exchange.frames import FLAG, Message, Plain
from exchange.intervals import INTERVALS, Interval, zone_us
from exchange.rest_klines import bar_rows, bars, close_us
from exchange.source import Source
from exchange.tape import US, Symbol

_PERPETUAL = "_perpetual"


@dataclass(frozen=True, slots=True)
class KlineStream:
    """A stream of klines; `continuous`: of a pair's contract, which USD-M tells as well."""

    name: str
    symbol: str
    interval: Interval
    continuous: bool


def kline_stream(name: str) -> KlineStream | None:
    """`<s>@kline_<i>[@<zone>]` or `<pair>_perpetual@continuousKline_<i>`, None where it is none."""
    symbol, _, kind = name.partition("@")
    kind, _, rest = kind.partition("_")
    interval, _, zone = rest.partition("@")
    ahead = zone_us(zone or "0")
    continuous = kind == "continuousKline" and symbol.endswith(_PERPETUAL)
    if not (kind == "kline" or continuous) or interval not in INTERVALS or ahead is None:
        return None
    symbol = symbol.removesuffix(_PERPETUAL) if continuous else symbol
    return KlineStream(name, symbol.upper(), INTERVALS[interval].in_zone(ahead), continuous)


def kline_messages(source: Source, streams: list[str], told: dict[str, int]) -> list[Message]:
    """The events due now. `told` keeps each stream's last bar and is brought up to date."""
    out: list[Message] = []
    now = source.now_us()
    for name in streams:
        stream = kline_stream(name)
        if stream is None or stream.symbol not in source.symbols:
            continue
        interval, info = stream.interval, source.symbols[stream.symbol]
        forming = interval.number(now)
        first = max(told.get(name, forming), forming - 10)
        told[name] = forming
        opened = interval.open_us(forming)
        due = interval.step_us == US or (now // US) % 2 == 0
        rows = bar_rows(bars(View(source), stream.symbol, interval, first, forming))
        out += [
            _event(stream, info, row, now, row[0] < opened)
            for row in rows
            if row[0] < opened or due
        ]
    return out


def _event(
    stream: KlineStream, info: Symbol, row: tuple[int, ...], now: int, closed: bool
) -> Plain:
    forms, interval = [], stream.interval
    t, o, h, low, c, volume, quote, count, taker, taker_quote, first, last = row
    kind, own = (
        ("kline", f'"s":"{info.name}"')
        if not stream.continuous
        else ("continuous_kline", f'"ps":"{info.name}","ct":"PERPETUAL"')
    )
    within = "" if stream.continuous else f"{own},"
    for unit in (1000, 1):
        end = close_us(interval, t) // unit - 1
        forms.append(
            f'{{"e":"{kind}","E":{now // unit},{own},"k":{{"t":{t // unit},"T":{end},'
            f'{within}"i":"{interval.name}","f":{first},"L":{last},'
            f'"o":"{info.price(o)}","c":"{info.price(c)}","h":"{info.price(h)}",'
            f'"l":"{info.price(low)}","v":"{info.quantity(volume)}","n":{count},'
            f'"x":{FLAG[closed]},"q":"{info.notional(quote)}",'
            f'"V":"{info.quantity(taker)}","Q":"{info.notional(taker_quote)}","B":"0"}}}}'.encode()
        )
    return Plain(stream.name, forms[0], forms[1])
