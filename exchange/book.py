"""The order book at a mark, a tenth of a second: a function of its best quotes. Pure.

A level's size depends on its price and on time alone: it stays for some seconds, then another
one takes its place or none. So the book of any mark can be told without those before it, and two
of them differ only in what changed between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exchange.tape import Ints

MARK_US = 100_000
LEVELS = 4 * 90 + 10  # about as many as a side has at most

# From the best price outward: every tick, then multiples of 10, 100 and 1000 ticks.
_ZONES = ((1, 0, 100), (10, 100, 1000), (100, 1000, 10_000), (1000, 10_000, 100_000))
_LIFE = 100  # marks that a level keeps its size for
_EMPTY = 0.2  # share of the prices where nobody waits
_MIX = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

Side = list[tuple[int, int]]
"""Levels of (price, quantity) in ticks and lots, the best first."""


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask."""

    bid: int
    bid_lots: int
    ask: int
    ask_lots: int


@dataclass(frozen=True, slots=True)
class Book:
    """The book at a mark, which is also the number of its last update."""

    mark: int
    bids: Side
    asks: Side


def book_of(quote: Quote, mark: int, key: int, median_lots: float) -> Book:
    """The book behind a quote; `key` tells symbols apart."""
    below = np.concatenate([_multiples(quote.bid, zone, -1) for zone in _ZONES])
    above = np.concatenate([_multiples(quote.ask, zone, 1) for zone in _ZONES])
    return Book(
        mark,
        [(quote.bid, quote.bid_lots), *_waiting(below, mark, key, median_lots)],
        [(quote.ask, quote.ask_lots), *_waiting(above, mark, key, median_lots)],
    )


def _multiples(best: int, zone: tuple[int, int, int], sign: int) -> Ints:
    """The prices of a zone, outward; they are on one grid wherever the best price is."""
    step, near, far = zone
    first = -(-(sign * best + near + 1) // step) * step
    prices = np.arange(first, sign * best + far + 1, step) * sign
    return np.asarray(prices[prices > 0], np.int64)


def _waiting(prices: Ints, mark: int, key: int, median_lots: float) -> Side:
    """What waits at these prices; where nobody does, there is no level."""
    own = _mixed(prices.astype(np.uint64) + np.uint64(key))
    turn = (np.uint64(mark) + own % np.uint64(_LIFE)) // np.uint64(_LIFE)
    share = (_mixed(own + turn) >> np.uint64(11)) / 2.0**53
    size = np.maximum(share - _EMPTY, 0.0) / (1.0 - _EMPTY)
    lots = 1 + (30.0 * median_lots * size * size).astype(np.int64)
    taken = size > 0
    return list(zip(prices[taken].tolist(), lots[taken].tolist(), strict=True))


def _mixed(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Numbers that look random, one for each value (splitmix64)."""
    values = values * _MIX[0] + _MIX[0]
    values = (values ^ (values >> np.uint64(30))) * _MIX[1]
    values = (values ^ (values >> np.uint64(27))) * _MIX[2]
    return np.asarray(values ^ (values >> np.uint64(31)))


def changes(before: Side, after: Side) -> Side:
    """The levels that lead from one side to another; quantity 0 where a level is gone."""
    was, now = dict(before), dict(after)
    changed = [(price, lots) for price, lots in after if was.get(price) != lots]
    return changed + [(price, 0) for price, _ in before if price not in now]
