"""The USD-M futures of the synthetic market: same symbols, a tape of their own.

What is numbered without a hole is the aggregate: trades of one side at one price within the
same tenth of a second, told when the tenth is over. A `Trades` table here has one row per
aggregate, `ids` being the number `a`. The trades below are numbered apart; their numbers and
the placeholders among them follow from `a` alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exchange.bundles import LEAST, Bundle, Template
from exchange.frames import Message
from exchange.futures_frames import (
    SYMBOL_TYPE,
    FuturesAggregate,
    FuturesTrade,
    Placeholder,
    book_ticker,
)
from exchange.paths import DAY_S
from exchange.synthetic import DAY_US, Leg, SyntheticSource
from exchange.tape import Bars, Floats, Ints, Symbol, Trades

WINDOW_US = 100_000
_SEED_STEP = 2**40  # far from the seed of any spot tape

# Every ten aggregates are made of sixteen trades and one placeholder: seventeen numbers.
_SIZES = np.array((1, 1, 3, 1, 2, 1, 1, 4, 1, 1))
_EACH, _TRADES = len(_SIZES), int(_SIZES.sum())
_NUMBERS = _TRADES + 1
_VOID_BEFORE = 5  # the placeholder comes before this one of the ten
_FIRST = np.cumsum(_SIZES) - _SIZES + (np.arange(_EACH) >= _VOID_BEFORE)
MOST_TRADES = int(_SIZES.max())


class FuturesSymbol(Symbol):
    """A symbol written with its own decimals instead of eight."""

    __slots__ = ()

    def price(self, ticks: int) -> str:
        return shortest(ticks, self.price_decimals)

    def quantity(self, lots: int) -> str:
        return shortest(lots, self.lot_decimals)

    def price_of(self, amount: int, lots: int) -> str:
        return shortest(amount // lots, self.price_decimals)

    def notional(self, ticks_lots: int) -> str:
        return shortest(ticks_lots, self.price_decimals + self.lot_decimals)


def shortest(units: int, decimals: int) -> str:
    """`units` × 10^−decimals with exactly `decimals` decimals."""
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{part:0{decimals}d}" if decimals else str(whole)


def first_trades(aggregates: Ints) -> Ints:
    """`f`: the number of the first trade of each aggregate."""
    cycle, place = np.divmod(aggregates - 1, _EACH)
    return np.asarray(1 + cycle * _NUMBERS + _FIRST[place])


def sizes(aggregates: Ints) -> Ints:
    """How many trades each aggregate is made of."""
    return np.asarray(_SIZES[(aggregates - 1) % _EACH])


def trades_up_to(aggregates: Ints) -> Ints:
    """How many trades, placeholders apart, there are up to the end of each aggregate."""
    cycle, place = np.divmod(aggregates, _EACH)
    below = np.concatenate(([0], np.cumsum(_SIZES)))
    return np.asarray(cycle * _TRADES + below[place])


def placeholder_before(aggregate: int) -> int | None:
    """The number of the placeholder just before an aggregate, where there is one."""
    cycle, place = divmod(aggregate - 1, _EACH)
    if place != _VOID_BEFORE:
        return None
    return cycle * _NUMBERS + int(_FIRST[place])


def split(quantity: int, count: int) -> list[int]:
    """The quantities of `count` trades that add up to `quantity`."""
    each = quantity // count
    return [quantity - each * (count - 1)] + [each] * (count - 1)


def apart(tape: Trades) -> Ints:
    """Prices moved outward where needed: one price only once per tenth of a second and side.

    Buyers push it up, sellers down, by as few ticks as will do.
    """
    if not len(tape):
        return tape.price
    sign = np.where(tape.maker, -1, 1)
    height = tape.price * sign
    side = tape.t // WINDOW_US * 2 + tape.maker
    order = np.lexsort((height, side))
    begins = np.concatenate(([True], np.diff(side[order]) != 0))
    group = np.cumsum(begins) - 1
    rank = np.arange(len(order)) - np.flatnonzero(begins)[group]
    sunk = height[order] - rank
    reach = int(np.ptp(sunk)) + 1
    risen = np.maximum.accumulate(sunk + group * reach) - group * reach + rank
    out = np.empty_like(tape.price)
    out[order] = risen
    return np.asarray(out * sign)


class FuturesSource(SyntheticSource):
    """The futures beside a spot market: its clock and model prices, plus a small basis."""

    def __init__(self, spot: SyntheticSource) -> None:
        super().__init__(
            spot.world,
            seed=spot.seed,
            clock=spot.now_us,
            history_days=spot.history_us / DAY_US,
            tick_s=spot.tick_s,
        )
        self.spot = spot
        self.tape_seed = spot.seed + _SEED_STEP
        for leg in self._legs.values():
            info = leg.info
            leg.info = FuturesSymbol(
                info.name, info.base, info.quote, info.price_decimals, info.lot_decimals
            )
            leg.parts = 5  # every row is an aggregate
        self.symbols = {name: leg.info for name, leg in self._legs.items()}

    def _priced(self, mid: Floats) -> Floats:
        """Spot plus 3 ± 2 basis points that swing with the eight hours of funding."""
        turn = 2 * np.pi * np.arange(DAY_S + 1) / (DAY_S / 3)
        return np.asarray(mid * (1 + 1e-4 * (3 + 2 * np.cos(turn))))

    def prices(self, symbol: str, start_s: int, end_s: int) -> tuple[Floats, Floats]:
        """Index (the spot model) and contract at the second marks start … end, both included."""
        return self.spot.marks(symbol, start_s, end_s), self.marks(symbol, start_s, end_s)

    def _make_block(self, leg: Leg, number: int) -> Trades:
        tape = super()._make_block(leg, number)
        return replace(tape, price=apart(tape), qty=np.maximum(tape.qty, MOST_TRADES))

    def _printed_us(self, now: int) -> int:
        return now // WINDOW_US * WINDOW_US - 1

    def part(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        return _by_trades(super().part(symbol, start_us, end_us, last_id))

    def seconds(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        return _by_trades(super().seconds(symbol, start_us, end_us, last_id))

    def _quoted(self, leg: Leg, mark: int) -> Message:
        return book_ticker(leg.info, mark, self._quote(leg, mark))

    def _frames(self, info: Symbol, trades: Trades, kinds: set[str]) -> list[Message]:
        now = self.now_us()
        out = _raw_trades(info, trades, now) if "trade" in kinds else []
        if "aggTrade" in kinds:
            bundle = FuturesBundle(info, trades, now)
            out += [bundle] if len(trades) >= LEAST else bundle.split()
        return out


def _by_trades(bars: Bars) -> Bars:
    """Bars with trades counted and numbered instead of aggregates."""
    return replace(
        bars,
        count=trades_up_to(bars.last_id) - trades_up_to(bars.first_id - 1),
        first_id=first_trades(bars.first_id),
        last_id=first_trades(bars.last_id) + sizes(bars.last_id) - 1,
    )


def _raw_trades(info: Symbol, tape: Trades, event_us: int) -> list[Message]:
    """The trades that aggregates are made of, and the placeholders among them."""
    out: list[Message] = []
    columns = (tape.ids, tape.price, tape.qty, tape.t, tape.maker)
    more = (first_trades(tape.ids), sizes(tape.ids))
    rows = zip(*(column.tolist() for column in (*columns, *more)), strict=True)
    for number, price, qty, t, maker, first, count in rows:
        void = placeholder_before(number)
        if void is not None:
            out.append(Placeholder(info, void, t, maker, event_us))
        for step, part in enumerate(split(qty, count)):
            out.append(FuturesTrade(info, first + step, price, part, t, maker, event_us))
    return out


class FuturesBundle(Bundle):
    """Many `@aggTrade` events of USD-M."""

    __slots__ = ()

    def __init__(self, info: Symbol, trades: Trades, event_us: int) -> None:
        super().__init__(info, "aggTrade", trades, event_us)

    def _ends(self) -> tuple[Ints, Ints]:
        first = first_trades(self.trades.ids)
        return first, first + sizes(self.trades.ids) - 1

    def split(self) -> list[Message]:
        tape, (first, last) = self.trades, self._ends()
        columns = (tape.ids, tape.price, tape.qty, first, last, tape.t, tape.maker)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [FuturesAggregate(self.info, row, self.event_us) for row in rows]

    def template(self, unit: int, start: Template) -> Template:
        info, tape, (first, last) = self.info, self.trades, self._ends()
        cents, lots = info.price_decimals, info.lot_decimals
        start.text(f'{{"e":"aggTrade","E":{self.event_us // 1000},"s":"{info.name}","a":')
        start.whole(tape.ids).text(',"p":"').fixed(tape.price, cents, cents)
        start.text('","q":"').fixed(tape.qty, lots, lots).text('","f":').whole(first)
        start.text(',"l":').whole(last).text(',"T":').whole(tape.t // 1000)
        start.text(',"m":').flag(tape.maker).text(',"nq":"').fixed(tape.qty, lots, lots)
        return start.text(f'","st":{SYMBOL_TYPE}}}')
