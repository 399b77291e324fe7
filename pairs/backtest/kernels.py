"""The kernels of the traded pair: decisions, fills, the marked equity and its
figures.

`engine` is their door.
"""

from __future__ import annotations

import math

import numpy as np

from pairs.analytics.windows import _score_block
from pairs.jit import FLAG, INT, INTS, NUMBER, VECTOR, compiled, helper

__all__ = ["END", "EXIT", "ROUNDING", "curve", "positions", "trade"]

# Returns that differ by no more do not deviate: it is the rounding of the values they are made
# of, a few units in the last place of 1.
ROUNDING = 2.0**-47

EXIT, STOP_Z, STOP_LOSS, MAX_BARS, END = range(2, 7)  # 0: nothing, 1 and -1: an entry
# Rows taken at a time: few enough to stay in the cache until the walk has passed them, and enough
# for the processor to read ahead.
_STRETCH = 8192


@helper
def _decide(z, side, held, profit, barred, entry, exit_, stop_z, stop_loss, notional, max_bars):  # type: ignore[no-untyped-def]
    """What to do at a close: (0 nothing, ±1 enter, or an exit's code), and the side barred.

    `side`, `held`: the side held at this close and for how many closes, this one included;
    `profit`: marked, less what was paid. `barred`: the side of the last position where it was
    stopped and z has not come back to its exit level, else 0. A comparison with a NaN is false:
    without z no entry and no exit by z.
    """
    if side != 0:
        if side * z >= -exit_:
            return EXIT, 0
        if side * z <= -stop_z:
            return STOP_Z, side
        if stop_loss < math.inf and -profit / notional >= stop_loss:
            return STOP_LOSS, side
        if held >= max_bars:
            return MAX_BARS, side
        return 0, 0
    if barred != 0 and barred * z >= -exit_:
        barred = 0
    if barred == 0:
        if z < -entry:
            return 1, 0
        if z > entry:
            return -1, 0
    return 0, barred


@compiled(VECTOR, VECTOR, INT)
def positions(zscore, limits, max_bars):  # type: ignore[no-untyped-def]
    entry, exit_, stop_z = limits[0], limits[1], limits[2]
    wanted = np.zeros(len(zscore), dtype=np.int8)
    side = held = barred = 0
    for t in range(len(zscore)):
        if side != 0:
            held += 1
        action, barred = _decide(
            zscore[t], side, held, 0.0, barred, entry, exit_, stop_z, np.inf, 1.0, max_bars
        )
        if side == 0:
            side, held = action, 0
        elif action != 0:
            side = 0
        wanted[t] = side
    return wanted


@helper
def _fill(quantity, price, slippage, fee):  # type: ignore[no-untyped-def]
    """The price of a fill, slippage against it; its fee, slippage and value in quote currency."""
    filled = price * (1.0 + slippage) if quantity > 0.0 else price * (1.0 - slippage)
    value = abs(quantity) * price
    return filled, fee * (abs(quantity) * filled), slippage * value, value


@helper
def _set_leg(quantity, average, wanted, price):  # type: ignore[no-untyped-def]
    """A leg brought from `quantity` to `wanted` at `price`: its new average price, and profit."""
    if quantity * (wanted - quantity) >= 0.0:  # more of the same side
        return (average * quantity + price * (wanted - quantity)) / wanted, 0.0
    if quantity * wanted > 0.0:  # less of it
        return average, (quantity - wanted) * (price - average)
    return price, quantity * (price - average)


@helper
def _profit(qy, price_y, entry_y, qx, price_x, entry_x, realised_x, paid):  # type: ignore[no-untyped-def]
    """What a position is worth at these prices, less what was paid for it."""
    return qy * (price_y - entry_y) + (realised_x + qx * (price_x - entry_x)) - paid


# The state of a curve: value, peak and floor (`_turn`); sums of returns less the shift, of their
# squares and of the squares of those below 0; the shift; largest drawdown; row of the peak (-1:
# above the first row) and of the peak of the largest drawdown while that has not ended (_NONE: it
# has); first and last row of the stretch below a peak that held it.
(
    _LAST,
    _PEAK,
    _FLOOR,
    _TOTAL,
    _SQUARES,
    _BELOW,
    _SHIFT,
    _DRAWDOWN,
    _PEAK_ROW,
    _DEEPEST,
    _FROM,
    _TO,
    _PATH,
) = range(13)
_NONE = -2.0


@helper
def _end_drawdown(path, t):  # type: ignore[no-untyped-def]
    """A stretch below the peak ends at row t."""
    if path[_DEEPEST] == path[_PEAK_ROW]:
        path[_FROM], path[_TO], path[_DEEPEST] = max(path[_PEAK_ROW], 0.0), t, _NONE


@helper
def _update_peak(path, now, t):  # type: ignore[no-untyped-def]
    """The peak after row t, which is at a peak or may be at the largest drawdown; and the value
    down to which nothing new happens, a little of it spare for rounding."""
    peak = path[_PEAK]
    if now < peak:
        if (peak - now) / peak > path[_DRAWDOWN]:
            path[_DRAWDOWN], path[_DEEPEST] = (peak - now) / peak, path[_PEAK_ROW]
    else:
        if t - path[_PEAK_ROW] > 1.0:
            _end_drawdown(path, t)
        peak, path[_PEAK_ROW] = now, t
    floor = peak * (1.0 - path[_DRAWDOWN] + 1e-12)
    path[_PEAK], path[_FLOOR] = peak, floor
    return peak, floor


@helper
def _new_curve(now, capital):  # type: ignore[no-untyped-def]
    """The state of a curve at its first row."""
    path = np.zeros(_PATH)
    path[_DEEPEST], path[_PEAK_ROW] = _NONE, -1.0 if now < capital else 0.0
    path[_LAST], path[_PEAK] = now, capital
    _update_peak(path, now, 0)
    return path


@helper
def _accumulate(path, values, origin, start, stop):  # type: ignore[no-untyped-def]
    """The rows start … stop - 1, the first value being that of row `origin`."""
    shift = path[_SHIFT]
    last, peak, floor = path[_LAST], path[_PEAK], path[_FLOOR]
    total, squares, below = path[_TOTAL], path[_SQUARES], path[_BELOW]
    for h in range(np.uint64(start - origin), np.uint64(stop - origin)):
        now = values[h]
        change = (now - last) / last
        loss = min(change, 0.0)
        below += loss * loss
        change -= shift
        total += change
        squares += change * change
        last = now
        if now >= peak or now <= floor:
            peak, floor = _update_peak(path, now, origin + np.int64(h))
    path[_LAST], path[_TOTAL], path[_SQUARES], path[_BELOW] = last, total, squares, below


@helper
def _figures(path, rows, grain):  # type: ignore[no-untyped-def]
    """The numbers of `engine.EquityStats`; `grain`: a value's rounding, in units of ROUNDING."""
    if path[_LAST] < path[_PEAK]:
        _end_drawdown(path, rows - 1)
    mean = deviation = downside = np.nan
    if rows > 1:
        off, downside = path[_TOTAL] / (rows - 1), math.sqrt(path[_BELOW] / (rows - 1))
        mean = path[_SHIFT] + off
    if rows > 2:
        # Less the shift, returns are small on average, so that this difference keeps its digits.
        deviation = math.sqrt(max(path[_SQUARES] - path[_TOTAL] * off, 0.0) / (rows - 2))
        if deviation <= ROUNDING * (grain + abs(mean)):
            deviation = 0.0
    return path[_LAST], mean, deviation, downside, path[_DRAWDOWN], path[_FROM], path[_TO]


@compiled(INTS, VECTOR, NUMBER)
def longest(stamps, equity, capital):  # type: ignore[no-untyped-def]
    """First and last row of the stretch below a peak that took the longest time, the first of
    equals; 0, 0 where there is none."""
    peak, row, first, last = capital, -1, 0, 0  # the capital stands above the first row
    for t in range(len(equity)):
        now = equity[t]
        if now >= peak:
            if t - row > 1:  # stamps are read at the ends of stretches alone
                start = max(row, 0)
                if stamps[t] - stamps[start] > stamps[last] - stamps[first]:
                    first, last = start, t
            peak, row = now, t
    end, start = len(equity) - 1, max(row, 0)
    if end > row and stamps[end] - stamps[start] > stamps[last] - stamps[first]:
        first, last = start, end
    return first, last


@compiled(VECTOR, NUMBER)
def curve(equity, capital):  # type: ignore[no-untyped-def]
    """See `engine.curve`."""
    path = _new_curve(equity[0] if len(equity) > 0 else capital, capital)
    if len(equity) > 1:  # returns that are all alike differ from the first by rounding alone
        path[_SHIFT] = (equity[1] - equity[0]) / equity[0]
    _accumulate(path, equity, 0, min(1, len(equity)), len(equity))
    return _figures(path, len(equity), 1.0)


@helper
def _inside(z, side, low, high):  # type: ignore[no-untyped-def]
    """How many of the first rows have side·z between these levels."""
    n = 0
    while n < len(z) and (low < side * z[n]) & (side * z[n] < high):
        n += 1
    return n


@helper
def _mark(marks, origin, close_y, close_x, t, n, level, qy, entry_y, qx, entry_x, fees, loss):  # type: ignore[no-untyped-def]
    """The equity of n rows held from t on; how many stand before the first that has lost `loss`."""
    at, first = np.uint64(t - origin), np.uint64(t)
    for h in range(np.uint64(n)):
        y, x = close_y[first + h], close_x[first + h]
        marks[at + h] = level + _profit(qy, y, entry_y, qx, x, entry_x, 0.0, fees)
    if loss < np.inf:
        for h in range(n):
            y, x = close_y[t + h], close_x[t + h]
            if -_profit(qy, y, entry_y, qx, x, entry_x, 0.0, fees) >= loss:
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


@compiled(
    INTS,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    VECTOR,
    INT,
    INT,
    FLAG,
)
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
    limits,
    window,
    max_bars,
    record,
):
    """Trade every bar from flat, so that its first return is 0; see `engine.simulate`.

    `stamps`: times of the bars, in any unit. `beta`: of each row, or one for all. `zscore` as
    given, or with a `window` that of `spread`, or with that empty of y - beta[0]·x; it is made as
    the rows are walked, while they are in the cache. Gives the sums, the figures of the curve,
    equity and trades, the action decided at the last close and whether all prices are surely
    usable.
    """
    entry, exit_, stop_z, stop_loss = limits[0], limits[1], limits[2], limits[3]
    rebalance, slippage, fee = limits[4], limits[5], limits[6]
    notional, capital = limits[7], limits[8]
    rows, funded, rehedged_at_all = len(close_y), len(funding_y) > 0, rebalance < np.inf
    steady = not (funded or rehedged_at_all)
    step = 1 if len(beta) > 1 else 0
    equity = np.empty(rows if record else 0)
    trades = np.empty((1024 if record else 0, 18))
    sums = np.zeros(20)
    # z-scores are at hand for rows base ≤ t < ready.
    stretch = window * max(1, _STRETCH // window) if window > 0 else _STRETCH
    zs, room, parts = np.empty(stretch), np.empty(window), np.empty((6, window))
    # The equity at the close of row t is marks[t - origin], kept for good or for a stretch at most;
    # that of the rows from `since` on is not in `path` yet.
    marks = equity if record else np.empty(stretch + 1)
    loss = stop_loss * notional * (1.0 - 1e-12)  # the last digits are for `_decide`
    base = ready = 0
    usable = True
    count = barred = side = pending = decided = t = 0
    level, path = capital, _new_curve(capital, capital)
    while t < rows:
        # Flat at the close of bar t.
        first, side = t, 0
        while t < rows and side == 0:
            if t == ready:
                base, ready = ready, min(ready + stretch, rows)
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
                    zs,
                )
            if barred == 0:  # a shortcut: within the entry levels nothing is decided
                t += _inside(zs[t - base : ready - base], 1.0, -entry, entry)
                if t == ready:
                    continue
            side, barred = _decide(
                zs[t - base],
                0,
                0,
                0.0,
                barred,
                entry,
                exit_,
                stop_z,
                stop_loss,
                notional,
                max_bars,
            )
            t += 1
        if record:
            equity[first:t] = level
        if level >= path[_PEAK]:
            path[_PEAK_ROW] = t - 1
        if t == rows:
            decided = side
            break
        # Filled at the open of bar t.
        entered, first_beta = t, beta[(t - 1) * step]
        qy = side * (notional / (close_y[t - 1] + abs(first_beta) * close_x[t - 1]))
        first_qx = -first_beta * qy
        ey, fee_y, slip_y, value_y = _fill(qy, open_y[t], slippage, fee)
        first_ex, fee_x, slip_x, value_x = _fill(first_qx, open_x[t], slippage, fee)
        fees, slip, value = fee_y + fee_x, slip_y + slip_x, value_y + value_x
        qx, ex, hedged = first_qx, first_ex, first_beta
        realised_x = funding = 0.0
        held = pending = rehedged = 0
        since, origin = t, (0 if record else t)
        edge = min(ready, rows - 1)  # one comparison a bar for two rare things
        while True:
            # Held at the close of bar t.
            if t >= edge:
                if t == ready:
                    _accumulate(path, marks, origin, since, t)
                    since, origin = t, (0 if record else t)
                    base, ready = ready, min(ready + stretch, rows)
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
                        zs,
                    )
                edge = min(ready, rows - 1)
            if steady:  # a shortcut: until a level is reached nothing is decided or changed
                n = min(edge - t, max_bars - held - 1)
                n = _inside(zs[t - base : t - base + n], side, -stop_z, -exit_)
                n = _mark(marks, origin, close_y, close_x, t, n, level, qy, ey, qx, ex, fees, loss)
                held, t = held + n, t + n
                if t == ready:
                    continue
            held += 1
            last_bar = t == rows - 1
            profit = _profit(qy, close_y[t], ey, qx, close_x[t], ex, realised_x, fees + funding)
            pending, barred = _decide(
                zs[t - base],
                side,
                held,
                profit,
                barred,
                entry,
                exit_,
                stop_z,
                stop_loss,
                notional,
                max_bars,
            )
            if last_bar:
                decided, pending = pending, END
                price_y, price_x = close_y[t], close_x[t]
                break
            marks[t - origin] = level + profit
            t += 1
            price_y, price_x = open_y[t], open_x[t]
            if funded:
                funding += qy * price_y * funding_y[t] + qx * price_x * funding_x[t]
            if pending != 0:
                break
            if rehedged_at_all:
                now = beta[(t - 1) * step]
                if now == hedged or not abs(now - hedged) >= rebalance * abs(hedged):
                    continue
                hedged = now
                wanted = -hedged * qy
                price, fee_x, slip_x, value_x = _fill(wanted - qx, price_x, slippage, fee)
                ex, gained = _set_leg(qx, ex, wanted, price)
                qx = wanted
                realised_x += gained
                fees, slip, value = fees + fee_x, slip + slip_x, value + value_x
                rehedged += 1
        xy, fee_y, slip_y, value_y = _fill(-qy, price_y, slippage, fee)
        xx, fee_x, slip_x, value_x = _fill(-qx, price_x, slippage, fee)
        fees, slip, value = fees + fee_y + fee_x, slip + slip_y + slip_x, value + value_y + value_x
        pnl_y, pnl_x = qy * (xy - ey), realised_x + qx * (xx - ex)
        pnl = pnl_y + pnl_x - fees - funding
        if record:
            k = count
            if k == len(trades):
                more = np.empty((2 * k, 18))
                more[:k] = trades
                trades = more
            trades[k, 0], trades[k, 1], trades[k, 2], trades[k, 3] = side, entered, t, first_beta
            trades[k, 4], trades[k, 5], trades[k, 6], trades[k, 7] = qy, first_qx, ey, first_ex
            trades[k, 8], trades[k, 9], trades[k, 10], trades[k, 11] = xy, xx, pnl_y, pnl_x
            trades[k, 12], trades[k, 13], trades[k, 14], trades[k, 15] = fees, pnl, held, pending
            trades[k, 16], trades[k, 17] = funding, rehedged
        count += 1
        sums[0] += 1.0
        sums[1] += 1.0 if pnl > 0.0 else 0.0
        sums[2] += max(pnl, 0.0)
        sums[3] += max(-pnl, 0.0)
        sums[4] += pnl
        sums[5] += fees
        sums[6] += slip
        sums[7] += value
        sums[8] += funding
        sums[9] += held
        sums[10 if side > 0 else 12] += 1.0
        sums[11 if side > 0 else 13] += pnl
        sums[14 + pending - EXIT] += 1.0
        sums[19] += stamps[t] - stamps[entered]
        level += pnl
        marks[t - origin] = level
        _accumulate(path, marks, origin, since, t + 1)
        if pending == END:
            break
    return (
        sums,
        _figures(path, rows, 1.0 + notional / capital),
        equity,
        trades[:count],
        decided,
        usable,
    )
