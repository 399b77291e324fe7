"""The synthetic source: a deterministic function of (seed, time), past and live.

Trades are made in blocks of some minutes, in threads, and kept in bounded caches; a restarted
exchange tells the same ids, prices and bars.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from exchange.blocks import BlockPlan, bid_ticks, make_block
from exchange.book import MARK_US, Book, Quote, book_of
from exchange.bundles import LEAST, TradeBundle
from exchange.cache import Cache
from exchange.frames import AggregateMessage, Message, book_ticker
from exchange.paths import (
    DAY_S,
    factor_path,
    generator,
    member_path,
    trade_counts,
    trades_per_day,
)
from exchange.source import Wanted
from exchange.tape import (
    US,
    Bars,
    Floats,
    Ints,
    Symbol,
    Trades,
    aggregate_rows,
    aggregates_of,
    bars_of,
    fold,
    join,
    join_bars,
)
from exchange.world import Group, Listing, Member, World, default_world

DAY_US = DAY_S * US
HOUR_US, MINUTE_US = 3600 * US, 60 * US
FIRST_DAY = 18_262  # 2020-01-01: ids count from 1 on this day
BATCH = 5000  # most trades of one symbol in one batch


@dataclass(frozen=True, slots=True)
class _Day:
    """The paths of a symbol on a day: mid at second marks, trades before each of them."""

    mid: Floats
    before: Ints


class Leg:
    """One symbol of the market: its place in a group and its numbering.

    `parts` of five trades begin an aggregate; where a block could be almost empty, each does.
    """

    def __init__(self, group: Group, member: Member | None) -> None:
        self.group = group
        self.member = member
        self.listing: Listing = group.x if member is None else member.listing
        self.info: Symbol = self.listing.symbol
        self.per_day = trades_per_day(self.listing)
        self.block_s = _block_s(self.listing.trades_per_s)
        self.parts = 3 if self.listing.trades_per_s * self.block_s >= 500 else 5

    def aggregates_before(self, trades: Ints | int) -> Ints | int:
        """How many aggregates the first `trades` trades of a day form."""
        return (self.parts * trades + 4) // 5


def _block_s(trades_per_s: float) -> int:
    """Seconds in a block, so that making one takes well under a second; divides a day."""
    steps = ((100, 300), (2000, 60), (20_000, 10))
    return next((span for most, span in steps if trades_per_s <= most), 2)


class SyntheticSource:
    """A `Source` made from a `World`; see the module.

    `clock` gives µs UTC (default: the machine's), `tick_s` is the pace of the live loop.
    """

    patient = False
    kind = "synthetic"

    def __init__(
        self,
        world: World | None = None,
        *,
        seed: int = 1,
        clock: Callable[[], int] | None = None,
        history_days: float = 7.0,
        tick_s: float = 0.005,
        cached_trades: float = 2e6,
    ) -> None:
        self.world = world or default_world()
        self.seed = seed
        self.tape_seed = seed
        self.closed = False  # long work ends when it is set
        self.history_us = int(history_days * DAY_US)
        self._clock = clock or (lambda: time.time_ns() // 1000)
        self.tick_s = tick_s
        legs = [Leg(g, m) for g in self.world.groups for m in (None, *g.members)]
        self._legs = {leg.info.name: leg for leg in legs}
        self.symbols = {name: leg.info for name, leg in self._legs.items()}
        self._factors: Cache[tuple[str, int], Floats] = Cache(
            8 + 2 * len(self.world.groups), lambda _: 1
        )
        self._days: Cache[tuple[str, int], _Day] = Cache(12 + 2 * len(legs), lambda _: 1)
        live = sum(2 * leg.listing.trades_per_s * leg.block_s for leg in legs)
        self._blocks: Cache[tuple[str, int], Trades] = Cache(cached_trades + 2 * live, len)
        self._bars: Cache[tuple[str, int], Bars] = Cache(1.2e6, len)
        self._hours: Cache[tuple[str, int], Bars] = Cache(1.2e6, len)
        self._prefetched: dict[str, int] = {}

    # -- the tape as a function of time

    def now_us(self) -> int:
        return self._clock()

    def _day(self, leg: Leg, day: int) -> _Day:
        def make() -> _Day:
            group = leg.group
            x = self._factors.get((group.name, day), lambda: factor_path(self.seed, group, day))
            mid = x if leg.member is None else member_path(self.seed, leg.member, x, day)
            mid, flat = self._priced(mid), self.world.flat
            return _Day(mid, trade_counts(self.tape_seed, leg.listing, mid, day, flat=flat))

        return self._days.get((leg.info.name, day), make)

    def _priced(self, mid: Floats) -> Floats:
        """The prices traded at, from those of the model at a day's second marks."""
        return mid

    def _make_block(self, leg: Leg, number: int) -> Trades:
        second = number * leg.block_s
        day, start = divmod(second, DAY_S)
        path = self._day(leg, day)
        stop = start + leg.block_s
        base = (day - FIRST_DAY) * leg.per_day
        aggregates = (day - FIRST_DAY) * int(leg.aggregates_before(leg.per_day))
        done, after = int(path.before[start]), int(path.before[stop])
        first_agg = int(leg.aggregates_before(done))
        plan = BlockPlan(
            listing=leg.listing,
            start_us=second * US,
            counts=np.diff(path.before[start : stop + 1]),
            mid=path.mid[start : stop + 1],
            first_id=1 + base + done,
            first_agg=1 + aggregates + first_agg,
            aggregates=int(leg.aggregates_before(after)) - first_agg,
        )
        return make_block(plan, generator(self.tape_seed, leg.info.name, "block", number))

    def _block(self, leg: Leg, number: int) -> Trades:
        key = (leg.info.name, number)
        return self._blocks.get(key, lambda: self._make_block(leg, number))

    def _block_bars(self, leg: Leg, number: int) -> Bars:
        key = (leg.info.name, number)
        return self._bars.get(key, lambda: bars_of(self._block(leg, number)))

    def _block_at(self, leg: Leg, t_us: int) -> int:
        return t_us // (leg.block_s * US)

    # -- looking things up

    def first_id(self, symbol: str) -> int:
        return 1

    def listed_us(self, symbol: str) -> int:
        return max(FIRST_DAY * DAY_US, self.now_us() - self.history_us)

    def last_id(self, symbol: str) -> int:
        return self.id_at(symbol, self._printed_us(self.now_us()) + 1) - 1

    def _printed_us(self, now: int) -> int:
        """The latest trade time told when the clock shows `now`."""
        return now

    def id_at(self, symbol: str, t_us: int) -> int:
        leg = self._legs[symbol]
        if t_us < FIRST_DAY * DAY_US:
            return 1
        number = self._block_at(leg, t_us)
        block = self._block(leg, number)
        second = number * leg.block_s
        day, start = divmod(second, DAY_S)
        done = int(self._day(leg, day).before[start])
        first = 1 + (day - FIRST_DAY) * leg.per_day + done
        return first + int(np.searchsorted(block.t, t_us, "left"))

    def _block_of_id(self, leg: Leg, trade_id: int) -> int:
        day, rest = divmod(trade_id - 1, leg.per_day)
        day += FIRST_DAY
        before = self._day(leg, day).before
        second = int(np.searchsorted(before, rest, "right")) - 1
        return (day * DAY_S + second) // leg.block_s

    def id_of_aggregate(self, symbol: str, aggregate: int) -> int:
        leg = self._legs[symbol]
        per_day = int(leg.aggregates_before(leg.per_day))
        day, rest = divmod(max(aggregate, 1) - 1, per_day)
        day += FIRST_DAY
        marks = self._day(leg, day).before[:: leg.block_s]
        before = np.asarray(leg.aggregates_before(marks))
        number = day * DAY_S // leg.block_s + int(np.searchsorted(before, rest, "right")) - 1
        block = self._block(leg, number)
        return int(block.ids[np.searchsorted(block.agg, aggregate)])

    def trades(self, symbol: str, first_id: int, count: int) -> Trades:
        leg = self._legs[symbol]
        first_id = max(first_id, 1)
        parts: list[Trades] = []
        number = self._block_of_id(leg, first_id)
        wanted, have = count, 0
        while have < wanted:
            block = self._block(leg, number)
            at = int(np.searchsorted(block.ids, first_id))
            parts.append(block.cut(at, at + wanted - have))
            have += len(parts[-1])
            number += 1
        return join(parts)

    def part(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        first, stop = self.id_at(symbol, start_us), self.id_at(symbol, end_us)
        return bars_of(self.trades(symbol, first, stop - first).up_to_id(last_id))

    def seconds(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        leg = self._legs[symbol]
        span = leg.block_s * US
        parts = []
        for number in range(max(start_us, FIRST_DAY * DAY_US) // span, -(-end_us // span)):
            block_us = number * span
            if self._bars_complete(leg, block_us + span, last_id):
                bars = self._block_bars(leg, number)
            else:
                bars = bars_of(self._block(leg, number).up_to_id(last_id))
            parts.append(bars)
        bars = join_bars(parts)
        low, high = (int(i) for i in np.searchsorted(bars.t, (start_us, end_us)))
        return Bars(*(getattr(bars, name)[low:high] for name in Bars.__slots__))

    def minutes(self, symbol: str, start_us: int, end_us: int, last_id: int) -> Bars:
        """Whole hours are folded once and kept: weeks of longer bars are asked for again and
        again."""
        leg = self._legs[symbol]
        start_us = max(start_us, FIRST_DAY * DAY_US)

        def hour(number: int) -> Bars:
            if self.closed:
                raise InterruptedError("the exchange has been closed")
            first = number * HOUR_US
            return fold(self.seconds(symbol, first, first + HOUR_US, last_id), MINUTE_US)

        parts = []
        for number in range(start_us // HOUR_US, -(-end_us // HOUR_US)):
            if self._bars_complete(leg, (number + 1) * HOUR_US, last_id):
                parts.append(self._hours.get((symbol, number), partial(hour, number)))
            else:
                parts.append(hour(number))
        bars = join_bars(parts)
        low, high = (int(i) for i in np.searchsorted(bars.t, (start_us, end_us)))
        return Bars(*(getattr(bars, name)[low:high] for name in Bars.__slots__))

    def _bars_complete(self, leg: Leg, end_us: int, last_id: int) -> bool:
        """Whether every trade of the block that ends at `end_us` is known by `last_id`."""
        day, second = divmod(end_us // US - 1, DAY_S)
        ended = int(self._day(leg, day).before[second + 1])
        return (day - FIRST_DAY) * leg.per_day + ended <= last_id

    # -- live

    def provides(self, stream: str) -> bool:
        name, _, kind = stream.partition("@")
        return name.upper() in self.symbols and kind in ("trade", "aggTrade", "bookTicker")

    async def live(self, wanted: Wanted) -> AsyncGenerator[list[Message], None]:
        loop = asyncio.get_running_loop()
        past = self.now_us()
        with ThreadPoolExecutor(1, "exchange-blocks") as pool:
            while True:
                await asyncio.sleep(self.tick_s)
                names = self._wanted_legs(wanted())
                now = self.now_us()
                for leg in names:
                    for number in self._missing(leg, past, now):
                        await loop.run_in_executor(pool, self._block, leg, number)
                    self._prefetch(leg, now, pool)
                for leg, kinds in names.items():
                    for batch in self._due(leg, kinds, past, now):
                        yield batch
                past = now

    def _wanted_legs(self, streams: Iterable[str]) -> dict[Leg, set[str]]:
        legs: dict[Leg, set[str]] = {}
        for stream in tuple(streams):
            if self.provides(stream):
                name, _, kind = stream.partition("@")
                legs.setdefault(self._legs[name.upper()], set()).add(kind)
        return legs

    def _missing(self, leg: Leg, past: int, now: int) -> list[int]:
        numbers = range(self._block_at(leg, past), self._block_at(leg, now) + 1)
        return [n for n in numbers if self._blocks.peek((leg.info.name, n)) is None]

    def _prefetch(self, leg: Leg, now: int, pool: ThreadPoolExecutor) -> None:
        """Half-way through a block, have the next one made."""
        number = self._block_at(leg, now + leg.block_s * US // 2)
        key = (leg.info.name, number)
        if self._prefetched.get(leg.info.name) != number and self._blocks.peek(key) is None:
            self._prefetched[leg.info.name] = number
            pool.submit(self._block, leg, number)

    def _due(self, leg: Leg, kinds: set[str], past: int, now: int) -> Iterator[list[Message]]:
        """What the leg prints in past < T ≤ now, as batches of messages."""
        if "bookTicker" in kinds:
            marks = range(past // MARK_US + 1, now // MARK_US + 1)
            yield [self._quoted(leg, mark) for mark in marks[-10:]]
        if kinds == {"bookTicker"}:
            return
        past, now = self._printed_us(past), self._printed_us(now)
        for number in range(self._block_at(leg, past), self._block_at(leg, now) + 1):
            block = self._block(leg, number)
            low, high = (int(i) for i in np.searchsorted(block.t, (past, now), "right"))
            while low < high:
                stop = min(low + BATCH, high)
                # An aggregate is told whole: never cut a batch inside one.
                stop = int(np.searchsorted(block.agg, block.agg[stop - 1], "right"))
                yield self._frames(leg.info, block.cut(low, stop), kinds)
                low = stop

    def _frames(self, info: Symbol, trades: Trades, kinds: set[str]) -> list[Message]:
        """Events of a slice of the tape that holds whole aggregates, sent now."""
        return _messages(info, trades, kinds, self.now_us())

    def _quoted(self, leg: Leg, mark: int) -> Message:
        """The event that tells the best bid and ask at a mark."""
        return book_ticker(leg.info, mark, self._quote(leg, mark))

    # -- the book

    def marks(self, symbol: str, start_s: int, end_s: int) -> Floats:
        """The prices of the model at the second marks start … end, both included."""
        leg = self._legs[symbol]
        days = range(start_s // DAY_S, end_s // DAY_S + 1)
        path = np.concatenate([self._day(leg, day).mid[:DAY_S] for day in days])
        first = days[0] * DAY_S
        return path[start_s - first : end_s - first + 1]

    def _mid(self, leg: Leg, t_us: int) -> float:
        second, within = divmod(t_us, US)
        day, start = divmod(second, DAY_S)
        path = self._day(leg, day).mid
        return float(path[start] + (path[start + 1] - path[start]) * within / US)

    def _quote(self, leg: Leg, mark: int) -> Quote:
        """The best bid and ask at a mark, as a function of time."""
        mid = self._mid(leg, mark * MARK_US)
        bid = int(bid_ticks(np.asarray([mid]), leg.info.price_decimals)[0])
        rng = np.random.default_rng((self.seed, mark, leg.per_day))
        lots = np.maximum(1, leg.listing.median_lots * 20 * rng.exponential(1.0, 2)).astype(int)
        return Quote(bid, int(lots[0]), bid + 1, int(lots[1]))

    def book(self, symbol: str, mark: int) -> Book:
        leg = self._legs[symbol]
        key = zlib.crc32(symbol.encode()) + self.tape_seed
        return book_of(self._quote(leg, mark), mark, key, leg.listing.median_lots)


def _messages(info: Symbol, trades: Trades, kinds: set[str], event_us: int) -> list[Message]:
    """Trade and aggregate events of a slice of the tape, all sent at `event_us`."""
    out: list[Message] = []
    if "trade" in kinds:
        bundle = TradeBundle(info, trades, event_us)
        out += [bundle] if len(trades) >= LEAST else bundle.split()
    if "aggTrade" in kinds:
        rows = aggregate_rows(aggregates_of(trades))
        out += [AggregateMessage(info, row, event_us) for row in rows]
    return out
