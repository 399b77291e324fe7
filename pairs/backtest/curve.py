"""The figures of an equity curve, taken row by row while it is made: kernels.

`engine` is their door.
"""

from __future__ import annotations

import math

import numpy as np

from pairs.jit import INTS, NUMBER, VECTOR, compiled, helper

__all__ = [
    "PEAK",
    "PEAK_ROW",
    "ROUNDING",
    "accumulate",
    "curve",
    "figures",
    "longest",
    "new_curve",
]

# Returns that differ by no more do not deviate: it is the rounding of the values they are made
# of, a few units in the last place of 1.
ROUNDING = 2.0**-47

# The state of a curve: value, peak and floor (`_turn`); sums of returns less the shift, of their
# squares and of the squares of those below 0; the shift; largest drawdown; row of the peak (-1:
# above the first row) and of the peak of the largest drawdown while that has not ended (_NONE: it
# has); first and last row of the stretch below a peak that held it.
(
    _LAST,
    PEAK,
    _FLOOR,
    _TOTAL,
    _SQUARES,
    _BELOW,
    _SHIFT,
    _DRAWDOWN,
    PEAK_ROW,
    _DEEPEST,
    _FROM,
    _TO,
    _PATH,
) = range(13)
_NONE = -2.0


@helper
def _end_drawdown(path, t):  # type: ignore[no-untyped-def]
    """A stretch below the peak ends at row t."""
    if path[_DEEPEST] == path[PEAK_ROW]:
        path[_FROM], path[_TO], path[_DEEPEST] = max(path[PEAK_ROW], 0.0), t, _NONE


@helper
def _update_peak(path, now, t):  # type: ignore[no-untyped-def]
    """The peak after row t, which is at a peak or may be at the largest drawdown; and the value
    down to which nothing new happens, a little of it spare for rounding."""
    peak = path[PEAK]
    if now < peak:
        if (peak - now) / peak > path[_DRAWDOWN]:
            path[_DRAWDOWN], path[_DEEPEST] = (peak - now) / peak, path[PEAK_ROW]
    else:
        if t - path[PEAK_ROW] > 1.0:
            _end_drawdown(path, t)
        peak, path[PEAK_ROW] = now, t
    floor = peak * (1.0 - path[_DRAWDOWN] + 1e-12)
    path[PEAK], path[_FLOOR] = peak, floor
    return peak, floor


@helper
def new_curve(now, capital):  # type: ignore[no-untyped-def]
    """The state of a curve at its first row."""
    path = np.zeros(_PATH)
    path[_DEEPEST], path[PEAK_ROW] = _NONE, -1.0 if now < capital else 0.0
    path[_LAST], path[PEAK] = now, capital
    _update_peak(path, now, 0)
    return path


@helper
def accumulate(path, values, origin, start, stop):  # type: ignore[no-untyped-def]
    """The rows start … stop - 1, the first value being that of row `origin`."""
    shift = path[_SHIFT]
    last, peak, floor = path[_LAST], path[PEAK], path[_FLOOR]
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
def figures(path, rows, grain):  # type: ignore[no-untyped-def]
    """The numbers of `engine.EquityStats`; `grain`: a value's rounding, in units of ROUNDING."""
    if path[_LAST] < path[PEAK]:
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
    path = new_curve(equity[0] if len(equity) > 0 else capital, capital)
    if len(equity) > 1:  # returns that are all alike differ from the first by rounding alone
        path[_SHIFT] = (equity[1] - equity[0]) / equity[0]
    accumulate(path, equity, 0, min(1, len(equity)), len(equity))
    return figures(path, len(equity), 1.0)
