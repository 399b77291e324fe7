"""Rolling windows: the kernel that all row-wise pair maths stands on.

The windows are O(rows) and do not lose digits, whatever the price level or the length of the
history. Rows are cut into blocks as long as the window, so that every window is the tail of one
block and the head of the next (van Herk 1992, Gil and Werman 1993), and both are summed relative
to an anchor: the head's first value, which *every* window across that seam contains. Therefore
nothing outside a window ever enters its sums (a NaN or an outlier cannot leak), a window of equal
values has deviation exactly 0, and the subtraction `Σd² - (Σd)²/n` magnifies rounding by n at the
very most. The blocks start at row 0, so a longer history changes no earlier bit.

All functions take finite numbers or NaN and give NaN for the first window-1 rows and for exactly
the rows whose window holds a NaN.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from pairs.checks import Array
from pairs.jit import FLAG, INT, VECTOR, compiled, helper

__all__ = [
    "window_correlation",
    "window_fit",
    "window_mean_deviation",
    "window_score",
    "window_sum",
    "window_weighted_mean",
]


def window_sum(values: Array, window: int) -> Array:
    """Σv of every window; nothing is subtracted, so sums of volumes keep all their digits."""
    return cast(Array, _sums(values, window))


def window_mean_deviation(values: Array, window: int, ddof: int) -> tuple[Array, Array]:
    """Mean and standard deviation; the deviation is exactly 0 where all values are equal."""
    return cast("tuple[Array, Array]", _mean_deviation(values, window, ddof))


def window_score(values: Array, window: int, ddof: int = 1) -> Array:
    """(v - mean)/deviation; NaN where all values of the window are equal."""
    return cast(Array, _scores(values, window, ddof))


def window_fit(
    y: Array, x: Array, window: int, *, intercept: bool = True, errors: bool = True
) -> tuple[Array, Array, Array]:
    """Least squares of y on x: beta, intercept and the standard error of beta (where asked for).

    NaN where x does not vary over the window (is zero throughout, without intercept).
    """
    kernel = _fits if intercept else _fits_through_zero
    return cast("tuple[Array, Array, Array]", kernel(y, x, window, errors))


def window_correlation(a: Array, b: Array, window: int) -> Array:
    """Pearson correlation, within [-1, 1]; NaN where either does not vary over the window."""
    return cast(Array, _correlations(a, b, window))


def window_weighted_mean(values: Array, weights: Array, window: int) -> Array:
    """Σvw/Σw for weights of 0 or more; NaN where all weights of the window are 0."""
    return cast(Array, _weighted_means(values, weights, window))


@helper
def _score_block(block, following, number, sums, window, ddof, out):  # type: ignore[no-untyped-def]
    """Scores of a block of values, which may be shorter than `window` at the end only. Both parts
    of a window are summed relative to the first value of its later block, which it contains.

    `following`: the first value of the next block; `number`: how many blocks came before, of which
    the last left its sums. `sums`: room for six rows of `window` values: Σd and Σd² of the block up
    to its row h; of the block before it from row h + 1 on, and the same of this one for the next.
    """
    count, anchor = len(block), block[0]
    head, head_squares = sums[0], sums[1]
    odd = 2 * (number % 2)
    tail, tail_squares = sums[2 + odd], sums[3 + odd]
    after, after_squares = sums[4 - odd], sums[5 - odd]
    if number == 0:
        tail[:] = 0.0
        tail_squares[:] = 0.0
    # The four chains run side by side, as each waits for itself; numbers without a sign as indices
    # spare a check at each of them.
    last = np.uint64(count - 1)
    s = q = a = b = 0.0
    for h in range(np.uint64(count)):
        after[last - h], after_squares[last - h] = s, q
        d = block[last - h] - following
        s += d
        q += d * d
        d = block[h] - anchor
        a += d
        b += d * d
        head[h], head_squares[h] = a, b
    share, per = 1.0 / window, 1.0 / (window - ddof)
    # Apart from the sums, so that the processor takes several roots at once.
    for h in range(count):
        total = head[h] + tail[h]
        offset = total * share
        spread = (head_squares[h] + tail_squares[h]) - total * offset
        score = (block[h] - anchor - offset) / math.sqrt(spread * per)
        out[h] = score if (spread > 0.0) & (spread < np.inf) else np.nan
    if number == 0:
        out[: min(count, window - 1)] = np.nan


@compiled(VECTOR, INT, INT)
def _scores(values, window, ddof):  # type: ignore[no-untyped-def]
    """z-scores, see `window_score`."""
    rows = len(values)
    out = np.empty(rows)
    if window > rows:
        out[:] = np.nan
        return out
    sums = np.empty((6, window))
    for start in range(0, rows, window):
        end = min(start + window, rows)
        following = values[end] if end < rows else 0.0
        number = start // window
        _score_block(values[start:end], following, number, sums, window, ddof, out[start:end])
    return out


@helper
def _tail(values, anchor, start, window, total, squares):  # type: ignore[no-untyped-def]
    """Sums over the rows of the block at `start` that a window ending at head row h still holds.

    total[h] = Σ d and squares[h] = Σ d² over rows start+h+1 … start+window-1, d = v - anchor.
    """
    s = q = 0.0
    total[window - 1] = squares[window - 1] = 0.0
    for h in range(window - 2, -1, -1):
        d = values[start + h + 1] - anchor
        s += d
        q += d * d
        total[h] = s
        squares[h] = q


@compiled(VECTOR, INT)
def _sums(values, window):  # type: ignore[no-untyped-def]
    rows = len(values)
    out = np.full(rows, np.nan)
    if window > rows:
        return out
    tail = np.zeros(window)
    for block in range(0, rows, window):
        if block:
            s = 0.0
            for h in range(window - 2, -1, -1):
                s += values[block - window + h + 1]
                tail[h] = s
        s = 0.0
        for h in range(min(window, rows - block)):
            s += values[block + h]
            if block or h == window - 1:
                out[block + h] = s + tail[h]
    return out


@compiled(VECTOR, INT, INT)
def _mean_deviation(values, window, ddof):  # type: ignore[no-untyped-def]
    rows = len(values)
    mean, deviation = np.full(rows, np.nan), np.full(rows, np.nan)
    if window > rows:
        return mean, deviation
    total, squares = np.zeros(window), np.zeros(window)
    for block in range(0, rows, window):
        anchor = values[block]
        if block:
            _tail(values, anchor, block - window, window, total, squares)
        s = q = 0.0
        for h in range(min(window, rows - block)):
            d = values[block + h] - anchor
            s += d
            q += d * d
            if block or h == window - 1:
                whole = s + total[h]
                offset = whole / window
                mean[block + h] = anchor + offset
                spread = (q + squares[h]) - whole * offset
                # Not max(): that would turn a NaN into 0.
                deviation[block + h] = math.sqrt(
                    (0.0 if spread < 0.0 else spread) / (window - ddof)
                )
    return mean, deviation


@helper
def _tails(y, x, start, window, anchor_y, anchor_x, sums):  # type: ignore[no-untyped-def]
    """As `_tail`, for two series: rows of `sums` are Σdy, Σdx, Σdy², Σdx², Σdy·dx."""
    sy = sx = syy = sxx = sxy = 0.0
    sums[:, window - 1] = 0.0
    for h in range(window - 2, -1, -1):
        dy, dx = y[start + h + 1] - anchor_y, x[start + h + 1] - anchor_x
        sy += dy
        sx += dx
        syy += dy * dy
        sxx += dx * dx
        sxy += dy * dx
        sums[0, h] = sy
        sums[1, h] = sx
        sums[2, h] = syy
        sums[3, h] = sxx
        sums[4, h] = sxy


@helper
def _add_heads(y, x, start, count, anchor_y, anchor_x, sums):  # type: ignore[no-untyped-def]
    """Add to the tails of `_tails` the sums over the rows start … start+h of the head."""
    sy = sx = syy = sxx = sxy = 0.0
    for h in range(count):
        dy, dx = y[start + h] - anchor_y, x[start + h] - anchor_x
        sy += dy
        sx += dx
        syy += dy * dy
        sxx += dx * dx
        sxy += dy * dx
        sums[0, h] += sy
        sums[1, h] += sx
        sums[2, h] += syy
        sums[3, h] += sxx
        sums[4, h] += sxy


@compiled(VECTOR, VECTOR, INT, FLAG)
def _fits(y, x, window, errors):  # type: ignore[no-untyped-def]
    rows = len(y)
    beta, alpha = np.full(rows, np.nan), np.full(rows, np.nan)
    error = np.full(rows if errors else 0, np.nan)
    if window > rows:
        return beta, alpha, error
    sums = np.zeros((5, window))
    freedom = window - 2 if window > 2 else np.nan
    for block in range(0, rows, window):
        first_y, first_x = y[block], x[block]
        count = min(window, rows - block)
        if block:
            _tails(y, x, block - window, window, first_y, first_x, sums)
        _add_heads(y, x, block, count, first_y, first_x, sums)
        # Apart from the sums, so that the processor divides several rows at once.
        for h in range(0 if block else window - 1, count):
            mean_y, mean_x = sums[0, h] / window, sums[1, h] / window
            squares = sums[3, h] - sums[1, h] * mean_x
            squares = squares if squares > 0.0 else np.nan
            cross = sums[4, h] - sums[1, h] * mean_y
            b = cross / squares
            beta[block + h] = b
            alpha[block + h] = (first_y + mean_y) - b * (first_x + mean_x)
            if errors:
                left = sums[2, h] - sums[0, h] * mean_y - b * cross
                left = 0.0 if left < 0.0 else left
                error[block + h] = math.sqrt(left / squares / freedom)
    return beta, alpha, error


@compiled(VECTOR, VECTOR, INT, FLAG)
def _fits_through_zero(y, x, window, errors):  # type: ignore[no-untyped-def]
    rows = len(y)
    beta, alpha = np.full(rows, np.nan), np.full(rows, np.nan)
    error = np.full(rows if errors else 0, np.nan)
    if window > rows:
        return beta, alpha, error
    tail = np.zeros((5, window))
    for block in range(0, rows, window):
        if block:
            _tails(y, x, block - window, window, 0.0, 0.0, tail)
        syy = sxx = sxy = 0.0
        for h in range(min(window, rows - block)):
            t = block + h
            syy += y[t] * y[t]
            sxx += x[t] * x[t]
            sxy += y[t] * x[t]
            if block or h == window - 1:
                squares, cross = sxx + tail[3, h], sxy + tail[4, h]
                if squares > 0.0:
                    b = cross / squares
                    beta[t] = b
                    alpha[t] = 0.0 * b
                    if errors:
                        left = (syy + tail[2, h]) - b * cross
                        left = 0.0 if left < 0.0 else left
                        error[t] = math.sqrt(left / squares / (window - 1))
    return beta, alpha, error


@compiled(VECTOR, VECTOR, INT)
def _correlations(a, b, window):  # type: ignore[no-untyped-def]
    rows = len(a)
    out = np.full(rows, np.nan)
    if window > rows:
        return out
    sums = np.zeros((5, window))
    for block in range(0, rows, window):
        count = min(window, rows - block)
        if block:
            _tails(a, b, block - window, window, a[block], b[block], sums)
        _add_heads(a, b, block, count, a[block], b[block], sums)
        for h in range(0 if block else window - 1, count):
            mean_a, mean_b = sums[0, h] / window, sums[1, h] / window
            of_a = sums[2, h] - sums[0, h] * mean_a
            of_b = sums[3, h] - sums[1, h] * mean_b
            scale = math.sqrt(of_a) * math.sqrt(of_b)
            share = (sums[4, h] - sums[0, h] * mean_b) / scale
            share = 1.0 if share > 1.0 else share
            share = -1.0 if share < -1.0 else share
            varies = (of_a > 0.0) & (of_b > 0.0) & (scale > 0.0) & (scale < np.inf)
            out[block + h] = share if varies else np.nan
    return out


@compiled(VECTOR, VECTOR, INT)
def _weighted_means(values, weights, window):  # type: ignore[no-untyped-def]
    rows = len(values)
    out = np.full(rows, np.nan)
    if window > rows:
        return out
    drift, weight = np.zeros(window), np.zeros(window)
    for block in range(0, rows, window):
        anchor = values[block]
        if block:
            s = w = 0.0
            for h in range(window - 2, -1, -1):
                t = block - window + h + 1
                s += (values[t] - anchor) * weights[t]
                w += weights[t]
                drift[h] = s
                weight[h] = w
        s = w = 0.0
        for h in range(min(window, rows - block)):
            t = block + h
            s += (values[t] - anchor) * weights[t]
            w += weights[t]
            if block or h == window - 1:
                whole = w + weight[h]
                if whole > 0.0:
                    out[t] = anchor + (s + drift[h]) / whole
    return out
