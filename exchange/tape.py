"""The tape: trades as arrays, and their exact folding into bars.

Times are integer microseconds UTC. Prices are integers in units of the symbol's last price
decimal, quantities integers in units of its last quantity decimal: sums are exact, and a bar
built from bars equals the bar built from the trades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

US = 1_000_000
MICRO_FROM = 10**14  # a time above this is in µs: in ms it would lie beyond the year 5000
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A listed symbol with its decimals: 2 price decimals are a tick of 0.01."""

    name: str
    base: str
    quote: str
    price_decimals: int
    lot_decimals: int

    @property
    def tick(self) -> str:
        """Smallest price step, eight decimals."""
        return fixed(1, self.price_decimals)

    @property
    def lot(self) -> str:
        """Smallest quantity step, eight decimals."""
        return fixed(1, self.lot_decimals)

    def price(self, ticks: int) -> str:
        """A price as the exchange writes it."""
        return fixed(ticks, self.price_decimals)

    def quantity(self, lots: int) -> str:
        """A quantity as the exchange writes it."""
        return fixed(lots, self.lot_decimals)

    def price_of(self, amount: int, lots: int) -> str:
        """A price as an amount (ticks × lots) divided by a quantity; decimals are cut off."""
        return fixed(amount * 10 ** (8 - self.price_decimals) // lots, 8)

    def notional(self, ticks_lots: int) -> str:
        """A product of price and quantity units as a quote amount."""
        return fixed(ticks_lots, self.price_decimals + self.lot_decimals)


def fixed(units: int, decimals: int) -> str:
    """`units` × 10^−decimals with exactly eight decimals; further ones are cut off."""
    scaled = units * 10 ** (8 - decimals) if decimals <= 8 else units // 10 ** (decimals - 8)
    whole, part = divmod(scaled, 100_000_000)
    return f"{whole}.{part:08d}"


@dataclass(frozen=True, slots=True)
class Trades:
    """Consecutive trades of one symbol, ascending by id; all arrays have one length."""

    ids: Ints
    t: Ints
    price: Ints
    qty: Ints
    maker: Bools
    agg: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, start: int, stop: int) -> Trades:
        """Rows start … stop−1, as views."""
        part = slice(start, stop)
        return Trades(
            self.ids[part],
            self.t[part],
            self.price[part],
            self.qty[part],
            self.maker[part],
            self.agg[part],
        )

    def up_to_id(self, last_id: int) -> Trades:
        """The rows with id ≤ last_id."""
        return self.cut(0, int(np.searchsorted(self.ids, last_id, "right")))


def no_trades() -> Trades:
    """A tape without rows."""
    none = np.zeros(0, np.int64)
    return Trades(none, none, none, none, np.zeros(0, np.bool_), none)


def join(parts: Sequence[Trades]) -> Trades:
    """Parts in order, as one tape."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return no_trades()
    if len(parts) == 1:
        return parts[0]
    return Trades(
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.t for p in parts]),
        np.concatenate([p.price for p in parts]),
        np.concatenate([p.qty for p in parts]),
        np.concatenate([p.maker for p in parts]),
        np.concatenate([p.agg for p in parts]),
    )


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one length, ascending by open time; a span without trades has no row here.

    `quote` and `taker_quote` are in price units × quantity units; `taker_*` count the trades
    whose buyer was the taker.
    """

    t: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    count: Ints
    taker: Ints
    taker_quote: Ints
    first_id: Ints
    last_id: Ints

    def __len__(self) -> int:
        return len(self.t)


def _starts(keys: Ints) -> Ints:
    """Row numbers where a new key begins."""
    return np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))


def no_bars() -> Bars:
    """Bars without rows."""
    none = np.zeros(0, np.int64)
    return Bars(*([none] * 12))


def bars_of(trades: Trades, step_us: int = US) -> Bars:
    """Fold trades into bars of `step_us`, opening at UTC multiples of it."""
    if not len(trades):
        return no_bars()
    keys = trades.t // step_us
    at = _starts(keys)
    end = np.append(at[1:], len(trades)) - 1
    quote = trades.price * trades.qty
    taker = ~trades.maker
    return Bars(
        t=keys[at] * step_us,
        open=trades.price[at],
        high=np.maximum.reduceat(trades.price, at),
        low=np.minimum.reduceat(trades.price, at),
        close=trades.price[end],
        volume=np.add.reduceat(trades.qty, at),
        quote=np.add.reduceat(quote, at),
        count=end - at + 1,
        taker=np.add.reduceat(trades.qty * taker, at),
        taker_quote=np.add.reduceat(quote * taker, at),
        first_id=trades.ids[at],
        last_id=trades.ids[end],
    )


def fold(bars: Bars, step_us: int) -> Bars:
    """Fold bars into longer ones: equal to folding their trades."""
    return _fold(bars, bars.t // step_us * step_us)


def fold_into(bars: Bars, opens: Ints) -> Bars:
    """Fold bars into those that open at `opens`, ascending; all lie at or after the first."""
    return _fold(bars, opens[np.maximum(np.searchsorted(opens, bars.t, "right") - 1, 0)])


def _fold(bars: Bars, opens: Ints) -> Bars:
    """Fold bars that have the same open time in `opens`."""
    if not len(bars):
        return bars
    at = _starts(opens)
    end = np.append(at[1:], len(bars)) - 1
    return Bars(
        t=opens[at],
        open=bars.open[at],
        high=np.maximum.reduceat(bars.high, at),
        low=np.minimum.reduceat(bars.low, at),
        close=bars.close[end],
        volume=np.add.reduceat(bars.volume, at),
        quote=np.add.reduceat(bars.quote, at),
        count=np.add.reduceat(bars.count, at),
        taker=np.add.reduceat(bars.taker, at),
        taker_quote=np.add.reduceat(bars.taker_quote, at),
        first_id=bars.first_id[at],
        last_id=bars.last_id[end],
    )


def join_bars(parts: Sequence[Bars]) -> Bars:
    """Parts in order, as one table."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return no_bars()
    names = Bars.__slots__
    return Bars(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def fill_bars(bars: Bars, open_times: Ints, previous_close: int | None) -> Bars:
    """One row per open time; spans without trades repeat the last close with volume 0.

    The exchange answers such rows too. Leading spans before the first trade ever are left out.
    """
    where = np.searchsorted(bars.t, open_times)
    has = np.zeros(len(open_times), np.bool_)
    inside = where < len(bars)
    has[inside] = bars.t[where[inside]] == open_times[inside]
    closes = np.concatenate(([previous_close or 0], bars.close))
    carried = closes[np.where(has, where + 1, where)]
    keep = has | (carried > 0)

    def column(values: Ints, otherwise: Ints | int) -> Ints:
        out = np.broadcast_to(np.asarray(otherwise, np.int64), has.shape).copy()
        out[has] = values[where[has]]
        return out[keep]

    return Bars(
        t=open_times[keep],
        open=column(bars.open, carried),
        high=column(bars.high, carried),
        low=column(bars.low, carried),
        close=column(bars.close, carried),
        volume=column(bars.volume, 0),
        quote=column(bars.quote, 0),
        count=column(bars.count, 0),
        taker=column(bars.taker, 0),
        taker_quote=column(bars.taker_quote, 0),
        first_id=column(bars.first_id, -1),
        last_id=column(bars.last_id, -1),
    )


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Aggregate trades, ascending by number: trades of one order at one price."""

    ids: Ints
    price: Ints
    qty: Ints
    first: Ints
    last: Ints
    t: Ints
    maker: Bools

    def __len__(self) -> int:
        return len(self.ids)


def aggregates_of(trades: Trades) -> Aggregates:
    """Fold trades by their aggregate number; the tape must hold whole aggregates."""
    if not len(trades):
        none = np.zeros(0, np.int64)
        return Aggregates(none, none, none, none, none, none, np.zeros(0, np.bool_))
    at = _starts(trades.agg)
    end = np.append(at[1:], len(trades)) - 1
    return Aggregates(
        ids=trades.agg[at],
        price=trades.price[at],
        qty=np.add.reduceat(trades.qty, at),
        first=trades.ids[at],
        last=trades.ids[end],
        t=trades.t[at],
        maker=trades.maker[at],
    )


AggregateRow = tuple[int, int, int, int, int, int, bool]


def aggregate_rows(folded: Aggregates) -> list[AggregateRow]:
    """Aggregates as rows of Python values: number, price, quantity, first, last, time, maker."""
    return list(
        zip(
            folded.ids.tolist(),
            folded.price.tolist(),
            folded.qty.tolist(),
            folded.first.tolist(),
            folded.last.tolist(),
            folded.t.tolist(),
            folded.maker.tolist(),
            strict=True,
        )
    )
