"""One block of synthetic trades: the seconds' counts and the mid path become a tape.

A block is a function of its plan alone, so any one can be made without those before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exchange.tape import US, Bools, Floats, Ints, Trades, no_trades
from exchange.world import Listing


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What a block must come to.

    `start_us` is its opening time, `counts` the trades of each of its seconds, `mid` the prices
    at its second marks (one more than seconds), `first_id` and `first_agg` the next numbers,
    `aggregates` how many aggregates its trades form.
    """

    listing: Listing
    start_us: int
    counts: Ints
    mid: Floats
    first_id: int
    first_agg: int
    aggregates: int


def make_block(plan: BlockPlan, rng: np.random.Generator) -> Trades:
    """The trades of a block: exact count and aggregates, times ascending within the block."""
    n = int(plan.counts.sum())
    if n == 0:
        return no_trades()
    begins = _choose_starts(n, plan.aggregates, rng)
    agg = np.cumsum(begins) - 1
    orders = _orders(begins, plan.counts, rng)
    order = np.cumsum(orders) - 1
    at = np.flatnonzero(orders)
    second = np.repeat(np.arange(len(plan.counts)), plan.counts)[at]
    offset = np.sort(second * US + rng.integers(0, US, len(at)))
    sells = _sides(len(at), rng)
    best = _best_price(plan, offset, sells, rng)
    # A sweep walks the book: each further aggregate of one order is one level deeper.
    depth = agg - agg[at][order]
    step = 1 + rng.geometric(0.5, len(at)) * max(1, _ticks_of_bps(plan, 0.01))
    depth = np.minimum(depth * step[order], max(1, _ticks_of_bps(plan, 4.0)))
    price = best[order] + np.where(sells[order], -depth, depth)
    return Trades(
        ids=plan.first_id + np.arange(n),
        t=plan.start_us + offset[order],
        price=np.maximum(price, 1),
        qty=_sizes(plan.listing, n, rng),
        maker=sells[order],
        agg=plan.first_agg + agg,
    )


def _choose_starts(n: int, k: int, rng: np.random.Generator) -> Bools:
    """Exactly k of n rows begin an aggregate, the first row always."""
    begins = np.zeros(n, np.bool_)
    begins[0] = True
    if k > 1:
        begins[1 + rng.choice(n - 1, min(k, n) - 1, replace=False, shuffle=False)] = True
    return begins


def _orders(begins: Bools, counts: Ints, rng: np.random.Generator) -> Bools:
    """Which aggregates begin a taker order: most do, and now and then one sweeps for long.

    A sweep ends with its second: what it swallowed of the following ones would leave them mute.
    """
    n = len(begins)
    orders = begins & (rng.random(n) < 0.85)
    sweeps = rng.poisson(n / 4000.0)
    if sweeps:
        first = rng.integers(0, n, sweeps)
        last = np.minimum(first + 10 + (rng.pareto(1.2, sweeps) * 15).astype(np.int64), n)
        ends = np.cumsum(counts)
        last = np.minimum(last, ends[np.searchsorted(ends, first, side="right")])
        edge = np.zeros(n + 1, np.int64)
        np.add.at(edge, first, 1)
        np.add.at(edge, last, -1)
        orders &= np.cumsum(edge[:-1]) == 0
    orders[0] = True
    return orders


def _sides(count: int, rng: np.random.Generator) -> Bools:
    """Whether each order sells; the side persists as it does on a real tape."""
    flips = rng.random(count) < 0.35
    flips[0] = rng.random() < 0.5
    return (np.cumsum(flips) & 1).astype(np.bool_)


def _ticks_of_bps(plan: BlockPlan, bps: float) -> int:
    scale = 10.0**plan.listing.symbol.price_decimals
    return int(plan.mid[0] * scale * bps * 1e-4)


def _best_price(plan: BlockPlan, offset: Ints, sells: Bools, rng: np.random.Generator) -> Ints:
    """Bid for a seller, ask for a buyer, in ticks, around the mid at each order's time."""
    second, within = np.divmod(offset, US)
    share = within / US
    left, right = plan.mid[second], plan.mid[second + 1]
    noise = 0.05 * float(np.mean(np.abs(np.diff(plan.mid))))
    mid = left + (right - left) * share + noise * rng.standard_normal(len(offset))
    bid = bid_ticks(mid, plan.listing.symbol.price_decimals)
    return np.where(sells, bid, bid + 1)


def bid_ticks(mid: Floats, price_decimals: int) -> Ints:
    """The best bid below a mid price, in ticks; the ask is one tick above."""
    return np.floor(mid * 10.0**price_decimals).astype(np.int64)


def _sizes(listing: Listing, n: int, rng: np.random.Generator) -> Ints:
    """Heavy-tailed sizes in lots, at least one lot."""
    lots = listing.median_lots * np.exp(1.5 * rng.standard_normal(n))
    return np.maximum(np.rint(lots), 1.0).astype(np.int64)
