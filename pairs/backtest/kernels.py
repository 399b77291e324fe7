"""The kernel that trades a pair: z-scores, decisions, fills and the marked equity in one walk.

`engine` is its door. The walk is one loop on purpose, its phases helpers that take numbers: handed
arrays, they made it up to half slower, since the compiler counts references to each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pairs.analytics.windows import _score_block
from pairs.backtest.curve import PEAK, PEAK_ROW, accumulate, figures, new_curve
from pairs.backtest.decisions import END, EXIT, decide, limits_of
from pairs.jit import FLAG, INT, INTS, VECTOR, compiled, helper

__all__ = ["SUMS", "Trade", "trade"]

# Rows scored at a time: few enough to stay in the cache until the walk has passed them, and enough
# for the processor to read ahead.
_CHUNK = 8192


class Position(NamedTuple):
    """Both legs, signed, at their average prices; profit taken when x was rebalanced, the ratio it
    was brought to, and how often."""

    qty_y: float
    entry_y: float
    qty_x: float
    entry_x: float
    realised_x: float
    hedged: float
    rebalances: float


class Paid(NamedTuple):
    """What fills have cost and what they were worth, and funding; quote currency."""

    fees: float
    slippage: float
    traded: float
    funding: float


class Trade(NamedTuple):
    """A trade that has ended; numbers alone, as a row of a table."""

    side: float
    entry_row: float
    exit_row: float
    beta: float
    qty_y: float
    qty_x: float
    entry_y: float
    entry_x: float
    exit_y: float
    exit_x: float
    pnl_y: float
    pnl_x: float
    fees: float
    pnl: float
    bars: float
    reason: float
    funding: float
    rebalances: float


_COLUMNS = len(Trade._fields)
SUMS = (
    "trades",
    "wins",
    "gains",
    "losses",
    "pnl",
    "fees",
    "slippage",
    "traded",
    "funding",
    "bars",
    "long_trades",
    "long_pnl",
    "short_trades",
    "short_pnl",
    "exit",
    "stop_z",
    "stop_loss",
    "max_bars",
    "end of data",
    "held",
)
"""Counts and sums over trades; of gains and losses both are positive. `held`: time from the bar of
the entry to that of the exit, in the unit of the bars' stamps."""
(
    _TRADES,
    _WINS,
    _GAINS,
    _LOSSES,
    _PNL,
    _FEES,
    _SLIPPAGE,
    _TRADED,
    _FUNDING,
    _BARS,
    _LONG_TRADES,
    _LONG_PNL,
    _SHORT_TRADES,
    _SHORT_PNL,
    _EXITS,
    _,
    _,
    _,
    _,
    _HELD,
) = range(len(SUMS))


@helper
def _fill(quantity, price, paid, limits):  # type: ignore[no-untyped-def]
    """The price of a fill, slippage against it, and what has been paid with it."""
    slippage = limits.slippage
    filled = price * (1.0 + slippage) if quantity > 0.0 else price * (1.0 - slippage)
    value = abs(quantity) * price
    fees = paid.fees + limits.fee * (abs(quantity) * filled)
    return filled, Paid(fees, paid.slippage + slippage * value, paid.traded + value, paid.funding)


@helper
def _set_leg(quantity, average, wanted, price):  # type: ignore[no-untyped-def]
    """A leg brought from `quantity` to `wanted` at `price`: its new average price, and profit."""
    if quantity * (wanted - quantity) >= 0.0:  # more of the same side
        return (average * quantity + price * (wanted - quantity)) / wanted, 0.0
    if quantity * wanted > 0.0:  # less of it
        return average, (quantity - wanted) * (price - average)
    return price, quantity * (price - average)


@helper
def _profit(position, price_y, price_x, paid):  # type: ignore[no-untyped-def]
    """What a position is worth at these prices, less what was paid for it."""
    of_y = position.qty_y * (price_y - position.entry_y)
    of_x = position.realised_x + position.qty_x * (price_x - position.entry_x)
    return of_y + of_x - paid


@helper
def _enter(side, beta, signal_y, signal_x, price_y, price_x, limits):  # type: ignore[no-untyped-def]
    """The position of the gross notional at the signal's closes, filled at these prices, and what
    that cost."""
    qty_y = side * (limits.notional / (signal_y + abs(beta) * signal_x))
    qty_x = -beta * qty_y
    entry_y, paid = _fill(qty_y, price_y, Paid(0.0, 0.0, 0.0, 0.0), limits)
    entry_x, paid = _fill(qty_x, price_x, paid, limits)
    return Position(qty_y, entry_y, qty_x, entry_x, 0.0, beta, 0.0), paid


@helper
def _rebalance(position, paid, beta, price_x, limits):  # type: ignore[no-untyped-def]
    """The position with x brought to this ratio, where it has moved so far that it is to be."""
    if beta == position.hedged or not (
        abs(beta - position.hedged) >= limits.rebalance * abs(position.hedged)
    ):
        return position, paid
    qty_y, entry_y, qty_x, entry_x, realised, _, rebalances = position
    wanted = -beta * qty_y
    filled, paid = _fill(wanted - qty_x, price_x, paid, limits)
    entry_x, gained = _set_leg(qty_x, entry_x, wanted, filled)
    realised += gained
    return Position(qty_y, entry_y, wanted, entry_x, realised, beta, rebalances + 1.0), paid


@helper
def _leave(side, entered, t, opened, position, paid, price_y, price_x, held, reason, limits):  # type: ignore[no-untyped-def]
    """The trade that ends at these prices at row t, and what its fills cost; `opened`: the
    position as it was entered."""
    exit_y, paid = _fill(-position.qty_y, price_y, paid, limits)
    exit_x, paid = _fill(-position.qty_x, price_x, paid, limits)
    pnl_y = position.qty_y * (exit_y - position.entry_y)
    pnl_x = position.realised_x + position.qty_x * (exit_x - position.entry_x)
    done = Trade(
        float(side),
        float(entered),
        float(t),
        opened.hedged,
        opened.qty_y,
        opened.qty_x,
        opened.entry_y,
        opened.entry_x,
        exit_y,
        exit_x,
        pnl_y,
        pnl_x,
        paid.fees,
        pnl_y + pnl_x - paid.fees - paid.funding,
        float(held),
        float(reason),
        paid.funding,
        position.rebalances,
    )
    return done, paid


@helper
def _add(sums, done, paid, reason, time):  # type: ignore[no-untyped-def]
    """A trade that has ended added to the sums."""
    sums[_TRADES] += 1.0
    sums[_WINS] += 1.0 if done.pnl > 0.0 else 0.0
    sums[_GAINS] += max(done.pnl, 0.0)
    sums[_LOSSES] += max(-done.pnl, 0.0)
    sums[_PNL] += done.pnl
    sums[_FEES] += done.fees
    sums[_SLIPPAGE] += paid.slippage
    sums[_TRADED] += paid.traded
    sums[_FUNDING] += done.funding
    sums[_BARS] += done.bars
    sums[_LONG_TRADES if done.side > 0.0 else _SHORT_TRADES] += 1.0
    sums[_LONG_PNL if done.side > 0.0 else _SHORT_PNL] += done.pnl
    sums[_EXITS + reason - EXIT] += 1.0
    sums[_HELD] += time


@helper
def _grown(trades):  # type: ignore[no-untyped-def]
    """The table with room for as many trades again."""
    more = np.empty((2 * len(trades), _COLUMNS))
    more[: len(trades)] = trades
    return more


@helper
def _inside(z, side, low, high):  # type: ignore[no-untyped-def]
    """How many of the first rows have side·z between these levels."""
    n = 0
    while n < len(z) and (low < side * z[n]) & (side * z[n] < high):
        n += 1
    return n


@helper
def _mark(marks, origin, close_y, close_x, t, n, level, position, fees, loss):  # type: ignore[no-untyped-def]
    """The equity of n rows held from t on; how many stand before the first that has lost `loss`."""
    at, first = np.uint64(t - origin), np.uint64(t)
    for h in range(np.uint64(n)):
        y, x = close_y[first + h], close_x[first + h]
        marks[at + h] = level + _profit(position, y, x, fees)
    if loss < np.inf:
        for h in range(n):
            y, x = close_y[t + h], close_x[t + h]
            if -_profit(position, y, x, fees) >= loss:
                return h
    return n


@helper
def _usable(one, other, start, stop):  # type: ignore[no-untyped-def]
    """Whether all prices of two columns are surely finite and above 0; a NaN is neither."""
    good, a, b = True, one[start:stop], other[start:stop]
    for t in range(len(a)):
        good &= (a[t] > 0.0) & (b[t] > 0.0) & (a[t] + b[t] < np.inf)
    return good


@helper
def _score_chunk(  # type: ignore[no-untyped-def]
    open_y, open_x, close_y, close_x, beta, spread, zscore, window, start, stop, room, sums, out
):
    """z-scores of the rows start … stop - 1 into `out`; whether all prices there are surely
    usable. A look at them also brings the opens into the cache, of which a walk reads few."""
    if window == 0:
        out[: stop - start] = zscore[start:stop]
    else:
        ratio, following = beta[0], 0.0
        for first in range(start, stop, window):
            end = min(first + window, stop)
            block = room[: end - first]
            if len(spread) > 0:
                block[:] = spread[first:end]
                if end < len(spread):
                    following = spread[end]
            else:
                y, x = close_y[first:end], close_x[first:end]
                for h in range(len(block)):
                    block[h] = y[h] - ratio * x[h]
                if end < len(close_y):
                    following = close_y[end] - ratio * close_x[end]
            into = out[first - start : end - start]
            _score_block(block, following, first // window, sums, window, 1, into)
    return _usable(open_y, open_x, start, stop) & _usable(close_y, close_x, start, stop)


@compiled(INTS, *[VECTOR] * 10, INT, INT, FLAG)
def trade(  # type: ignore[no-untyped-def]
    stamps,
    open_y,
    open_x,
    close_y,
    close_x,
    beta,
    spread,
    zscore,
    funding_y,
    funding_x,
    numbers,
    window,
    max_bars,
    record,
):
    """Trade every bar from flat, so that its first return is 0; see `engine.simulate`.

    `stamps`: times of the bars, in any unit. `beta`: of each row, or one for all. `zscore` as
    given, or with a `window` that of `spread`, or with that empty of y - beta[0]·x; it is made as
    the rows are walked, while they are in the cache. `numbers`: those of `Limits`. Gives the sums,
    the figures of the curve, equity and trades, the action decided at the last close and whether
    all prices are surely usable.
    """
    limits = limits_of(numbers)
    rows, funded, rebalanced = len(close_y), len(funding_y) > 0, limits.rebalance < np.inf
    step = 1 if len(beta) > 1 else 0
    equity, sums = np.empty(rows if record else 0), np.zeros(len(SUMS))
    trades = np.empty((1024 if record else 0, _COLUMNS))
    # z-scores are at hand for rows base ≤ t < ready.
    chunk = window * max(1, _CHUNK // window) if window > 0 else _CHUNK
    scores, room, parts = np.empty(chunk), np.empty(window), np.empty((6, window))
    # The equity at the close of row t is marks[t - origin], kept for good or for a chunk at most;
    # that of the rows from `since` on is not in `path` yet.
    marks = equity if record else np.empty(chunk + 1)
    loss = limits.stop_loss * limits.notional * (1.0 - 1e-12)  # the last digits are for `decide`
    level, path, usable = limits.capital, new_curve(limits.capital, limits.capital), True
    base = ready = edge = t = count = side = barred = decided = 0
    entered = held = since = origin = 0
    opened = position = Position(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    paid = Paid(0.0, 0.0, 0.0, 0.0)
    while t < rows:
        if t == ready:  # the next chunk
            if side != 0:
                accumulate(path, marks, origin, since, t)
                since, origin = t, (0 if record else t)
            base, ready = ready, min(ready + chunk, rows)
            edge = min(ready, rows - 1)  # the last bar takes no shortcut
            usable &= _score_chunk(
                open_y,
                open_x,
                close_y,
                close_x,
                beta,
                spread,
                zscore,
                window,
                base,
                ready,
                room,
                parts,
                scores,
            )
        if side == 0:  # flat at the close of bar t
            first = t
            while t < ready and side == 0:
                if barred == 0:  # a shortcut: within the entry levels nothing is decided
                    t += _inside(scores[t - base : ready - base], 1.0, -limits.entry, limits.entry)
                    if t == ready:
                        break
                side, barred = decide(scores[t - base], 0, 0, 0.0, barred, limits, max_bars)
                t += 1
            if record:
                equity[first:t] = level
            if level >= path[PEAK]:
                path[PEAK_ROW] = t - 1
            if t == rows:
                decided = side
            elif side != 0:  # filled at the open of bar t
                ratio, y, x = beta[(t - 1) * step], close_y[t - 1], close_x[t - 1]
                opened, paid = _enter(side, ratio, y, x, open_y[t], open_x[t], limits)
                position, entered, held = opened, t, 0
                since, origin = t, (0 if record else t)
            continue
        pending, price_y, price_x = 0, 0.0, 0.0
        while pending == 0 and t < ready:  # held at the close of bar t
            if not (funded or rebalanced):  # a shortcut: until a level is reached nothing changes
                n = min(edge - t, max_bars - held - 1)
                n = _inside(scores[t - base : t - base + n], side, -limits.stop_z, -limits.exit)
                n = _mark(marks, origin, close_y, close_x, t, n, level, position, paid.fees, loss)
                held, t = held + n, t + n
                if t == ready:
                    break
            held += 1
            profit = _profit(position, close_y[t], close_x[t], paid.fees + paid.funding)
            pending, barred = decide(scores[t - base], side, held, profit, barred, limits, max_bars)
            if t == rows - 1:
                decided, pending, price_y, price_x = pending, END, close_y[t], close_x[t]
                break
            marks[t - origin] = level + profit
            t += 1
            price_y, price_x = open_y[t], open_x[t]
            if funded:
                due = (
                    position.qty_y * price_y * funding_y[t]
                    + position.qty_x * price_x * funding_x[t]
                )
                paid = Paid(paid.fees, paid.slippage, paid.traded, paid.funding + due)
            if rebalanced and pending == 0:
                ratio = beta[(t - 1) * step]
                position, paid = _rebalance(position, paid, ratio, price_x, limits)
        if pending == 0:
            continue
        done, paid = _leave(
            side, entered, t, opened, position, paid, price_y, price_x, held, pending, limits
        )
        _add(sums, done, paid, pending, stamps[t] - stamps[entered])
        if record:
            if count == len(trades):
                trades = _grown(trades)
            for column, number in enumerate(done):
                trades[count, column] = number
        count, level, side = count + 1, level + done.pnl, 0
        marks[t - origin] = level
        accumulate(path, marks, origin, since, t + 1)
        if pending == END:
            break
    drawn = figures(path, rows, 1.0 + limits.notional / limits.capital)
    return sums, drawn, equity, trades[:count], decided, usable
