"""What the store is to hold of one symbol, the plainest way: every trade ever stored in a dict, and
everything else worked out from it by looking at each id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairs.market import Kline, Trade
from pairs.storage.partitions import TRADES_PER_PARTITION

S = 1_000_000
LENGTHS = (1, 60)
Row = tuple[Any, ...]
Runs = list[tuple[int, int]]


def runs(ids: Iterable[int]) -> Runs:
    """Consecutive ids as (first, last), ascending."""
    found: Runs = []
    for i in sorted(ids):
        if found and found[-1][1] == i - 1:
            found[-1] = (found[-1][0], i)
        else:
            found.append((i, i))
    return found


def bucket(ts_us: int, bar_s: int) -> int:
    return ts_us // (bar_s * S) * (bar_s * S)


@dataclass
class Model:
    folded: dict[int, Trade] = field(default_factory=dict)  # stored once, kept or dropped since
    klines: dict[tuple[int, int], Kline] = field(default_factory=dict)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    first: int | None = None
    high: int | None = None
    kept_from: int = 0
    whole_from: int | None = None
    conflicts: set[Row] = field(default_factory=set)

    def begin_at(self, first: int) -> None:
        if self.high is None:
            self.first, self.high, self.whole_from = first, first - 1, first

    def write(self, batch: Sequence[Trade]) -> tuple[int, int]:
        """(stored, expired) of the batch."""
        offered = [t for t in batch if t.trade_id >= self.kept_from]
        before = len(self.folded)
        for t in offered:
            known = self.folded.setdefault(t.trade_id, t)
            if (t.price, t.ts_us) != (known.price, known.ts_us):
                self.conflicts.add((t.trade_id, t.price, t.ts_us))
        if offered:
            self._extend({t.trade_id for t in offered})
            self._close_filled()
        return len(self.folded) - before, len(batch) - len(offered)

    def _extend(self, ids: set[int]) -> None:
        low, top = min(ids), max(ids)
        if self.first is None or self.high is None:
            missing = set(range(low, top + 1)) - ids
            split, self.first, self.high = low, low, top
        else:
            known = set(range(self.first, self.high + 1))
            reach = range(min(low, self.first), max(top, self.high) + 1)
            missing = set(reach) - ids - known
            split = self.first  # what lies before the record is a hole of its own
            self.first, self.high = reach[0], reach[-1]
        for part in ({i for i in missing if i < split}, {i for i in missing if i >= split}):
            self.gaps += [(*run, "open") for run in runs(part)]
        self.whole_from = min(low + 1, self.whole_from if self.whole_from is not None else low + 1)

    def _close_filled(self) -> None:
        self.gaps = [
            (low, high, "filled" if self._stored(range(low, high + 1)) else state)
            for low, high, state in self.gaps
        ]

    def _stored(self, ids: range) -> bool:
        return all(i in self.folded and i >= self.kept_from for i in ids)

    def settle(self, gap: tuple[int, int], lost: tuple[int, int], state: str) -> None:
        if (*gap, "open") not in self.gaps:
            return
        self.gaps.remove((*gap, "open"))
        parts = [(gap[0], lost[0] - 1, "open"), (*lost, state), (lost[1] + 1, gap[1], "open")]
        self.gaps += [part for part in parts if part[0] <= part[1]]
        self._close_filled()

    def prune(self, limit_us: int) -> None:
        for leaf in self.leaves():
            self.cut(self.too_old(leaf, limit_us))

    def leaves(self) -> list[int]:
        return sorted({i // TRADES_PER_PARTITION for i in self.ticks()})

    def too_old(self, leaf: int, limit_us: int) -> int:
        """The id after the last trade of a partition that is too old and comes before the first
        that is not; 0: none is, here or further on."""
        kept = sorted(self.ticks())
        first_new = next((i for i in kept if self.folded[i].ts_us >= limit_us), None)
        old = [i for i in kept if first_new is None or i < first_new]
        return max((i for i in old if i // TRADES_PER_PARTITION == leaf), default=-1) + 1

    def cut(self, first: int) -> None:
        if first <= self.kept_from:
            return
        self.kept_from = self.first = first
        cut: list[tuple[int, int, str]] = []
        for low, high, state in self.gaps:
            below = set(range(low, min(high + 1, self.kept_from)))
            if state == "open":
                below -= self.folded.keys()
            if state in ("open", "unrecoverable"):
                cut += [(*run, "unrecoverable") for run in runs(below)]
            if high >= self.kept_from:
                cut.append((max(low, self.kept_from), high, state))
        self.gaps = cut
        self._close_filled()  # what was missing may all have lain below

    # -- what the views are to show

    def ticks(self) -> dict[int, Trade]:
        return {i: t for i, t in self.folded.items() if i >= self.kept_from}

    def last_trade_id(self) -> int | None:
        return min((low - 1 for low, _, state in self.gaps if state == "open"), default=self.high)

    def missing(self) -> int:
        """Named as missing and indeed not stored, within the record."""
        named = {
            i
            for low, high, state in self.gaps
            if state != "filled"
            for i in range(max(low, self.kept_from), high + 1)
        }
        return len(named - self.ticks().keys())

    def bars(self) -> dict[tuple[int, int], Row]:
        """(bar_s, ts) → open, high, low, close, volume, trades, source, complete."""
        shown: dict[tuple[int, int], Row] = {
            key: (k.open, k.high, k.low, k.close, k.volume, k.trades, "klines", True)
            for key, k in self.klines.items()
        }
        for bar_s in LENGTHS:
            for ts, trades in self._buckets(bar_s).items():
                kline = self.klines.get((bar_s, ts))
                if kline is not None and kline.trades > len(trades):
                    continue
                prices = [t.price for t in trades]
                agreed = kline is not None and kline.trades == len(trades)
                shown[bar_s, ts] = (
                    prices[0],
                    max(prices),
                    min(prices),
                    prices[-1],
                    sum(t.size for t in trades),
                    len(trades),
                    "ticks",
                    agreed or self._whole(trades),
                )
        return shown

    def _buckets(self, bar_s: int) -> dict[int, list[Trade]]:
        """The trades of each bar, in the order of their ids."""
        buckets: dict[int, list[Trade]] = {}
        for i in sorted(self.folded):
            buckets.setdefault(bucket(self.folded[i].ts_us, bar_s), []).append(self.folded[i])
        return buckets

    def false_klines(self) -> int:
        """How many klines cannot be true, by all that is known."""
        return sum(self._is_false(*key, kline) for key, kline in self.klines.items())

    def _is_false(self, bar_s: int, ts: int, kline: Kline) -> bool:
        buckets = self._buckets(bar_s)
        begins = {t: trades[0].trade_id for t, trades in buckets.items()}
        whole = [
            t
            for t, i in begins.items()
            if self.whole_from is not None
            and i >= self.whole_from
            and (i == self.whole_from or i > min(begins.values()))
        ]
        newest = max((t.ts_us for t in self.folded.values()), default=0)
        within = bool(whole) and min(whole) <= ts <= newest - bar_s * S
        if ts in buckets:
            return _contradicts(kline, buckets[ts], proven=within and self._whole(buckets[ts]))
        if not within or not kline.trades:
            return False
        later = [t for t in begins if t > ts]
        ends = (
            buckets[max(t for t in begins if t < ts)][-1].trade_id,
            begins[min(later)] if later else self.high or 0,
        )
        return not any(
            state in ("open", "unrecoverable") and low <= max(ends) and high >= min(ends)
            for low, high, state in self.gaps
        )

    def _whole(self, trades: Sequence[Trade]) -> bool:
        """Whether nothing is missing among the ids of a bar and up to its neighbours."""
        void = {i for a, b, state in self.gaps if state == "void" for i in range(a, b + 1)}
        lost = {
            i
            for a, b, state in self.gaps
            if state in ("open", "unrecoverable")
            for i in range(a, b + 1)
        }
        low, high = trades[0].trade_id - 1, trades[-1].trade_id + 1
        while low in void:
            low -= 1
        while high in void:
            high += 1
        begun = self.whole_from is not None and trades[0].trade_id >= self.whole_from
        return begun and not any(i in lost for i in range(low, high + 1))


def _contradicts(kline: Kline, trades: Sequence[Trade], *, proven: bool) -> bool:
    """Whether a kline states less than these trades, or other than all of them: where that is
    `proven`, or it counts as many. Sizes and prices are such that sums are exact."""
    prices = [t.price for t in trades]
    taken = [t for t in trades if not t.buyer_is_maker]
    told = (
        kline.open,
        kline.high,
        kline.low,
        kline.close,
        kline.volume,
        kline.quote_volume,
        kline.taker_buy_volume,
        kline.trades,
    )
    true = (
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(t.size for t in trades),
        sum(t.price * t.size for t in trades),
        sum(t.size for t in taken),
        len(trades),
    )
    least = (kline.high, -kline.low, *told[4:]), (true[1], -true[2], *true[4:])
    less = any(said < least_said for said, least_said in zip(*least, strict=True))
    return less or ((proven or kline.trades == len(trades)) and told != true)


def stated(trades: list[Trade], bar_s: int, ts: int) -> Kline:
    """The kline of these trades."""
    prices = [t.price for t in trades]
    taken = [t for t in trades if not t.buyer_is_maker]
    return Kline(
        trades[0].symbol,
        bar_s,
        ts,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(t.size for t in trades),
        sum(t.price * t.size for t in trades),
        sum(t.size for t in taken),
        len(trades),
    )
