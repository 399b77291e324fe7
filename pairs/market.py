"""The words of the market: trades, bars, pairs and venues, with their units.

Time is UTC everywhere; instants inside the process are integer microseconds since 1970
(`ts_us`), because that is the finest resolution the exchange reports and PostgreSQL stores.
Price is quote currency per unit of base, size is in base units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Venue = Literal["binance", "binance-usdm", "local", "upload"]
VENUES: tuple[Venue, ...] = ("binance", "binance-usdm", "local", "upload")

US_PER_S = 1_000_000
PERPETUAL = ".P"
"""Suffix of perpetuals under venue `local`, which both markets of the local exchange share."""
LIVE_BARS = ("1s", "1min", "5min", "1h")
"""Bars offered for a live market. Stored are 1 s and 1 min; larger ones are resampled exactly."""

_SYMBOL = re.compile(r"\w[\w.-]{0,39}")


class Instrument(NamedTuple):
    """What is traded, and where: a leg of a pair. Bars of two venues may make a pair (spot against
    perpetual, a file against the market), but never simulated with real ones."""

    venue: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol}"


class Trade(NamedTuple):
    """One trade as the exchange printed it. Its identity is (venue, symbol, trade_id).

    `ts_us` is the exchange's trade time, `received_us` our clock on arrival (it may lag behind
    `ts_us` where the two clocks differ). `buyer_is_maker` true means the aggressor sold. `trades`
    is how many the id stands for: on USD-M it is an aggregate's, and may be several.
    """

    symbol: str
    trade_id: int
    ts_us: int
    price: float
    size: float
    buyer_is_maker: bool
    received_us: int
    trades: int = 1


@dataclass(frozen=True, slots=True)
class Kline:
    """One closed bar as the exchange states it; `ts_us` is the open time."""

    symbol: str
    bar_s: int
    ts_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    taker_buy_volume: float
    trades: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something received that cannot be stored as a trade, kept with the reason."""

    reason: str
    frame: str
    symbol: str | None = None
    trade_id: int | None = None  # where it could be read
    no_trade: bool = False  # the exchange tells that under this id nothing was traded


def check_symbol(text: str) -> str:
    """The symbol in upper case; ValueError where it cannot be one.

    Non-ASCII letters are allowed: such symbols exist on the exchange.
    """
    symbol = text.strip().upper()
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(
            f"symbol {text!r} is malformed: 1 to 40 letters, digits, '.', '-' or '_' are allowed"
        )
    return symbol


def bar_label(seconds: int) -> str:
    """A bar's length as pandas writes it: 1s, 15s, 1min, 5min, 1h, 1d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def bar_seconds(label: str) -> int:
    """The inverse of `bar_label`; ValueError for anything else."""
    for unit, length in (("min", 60), ("d", 86_400), ("h", 3600), ("s", 1)):
        count = label.removesuffix(unit)
        if count != label and count.isascii() and count.isdigit() and int(count) > 0:
            return int(count) * length
    raise ValueError(f"bar {label!r} is no length such as 1s, 1min, 5min, 1h or 1d")
