"""The augmented Dickey-Fuller test, fast enough for a whole market.

A lag search fits the same few columns again and again. Here their products are summed once,
and every lag is a leading block of one Cholesky factor. The product of two lags is the sum over
the rows they share, the same for all pairs of one distance, plus the rows at both ends: only
additions, O(rows·lags) instead of O(rows·lags³). Where the columns are so nearly dependent that
products would cost digits, a QR of the columns themselves takes over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from pairs.analytics.mackinnon import mackinnon_critical, mackinnon_p
from pairs.checks import Array, check_choice, check_window, full_sample
from pairs.jit import FLAG, INT, VECTOR, compiled, helper

__all__ = ["AdfResult", "adf_test"]

TRENDS = ("n", "c", "ct")
# What a column or the error must keep, as a share of its square, for products to be trusted: a
# rounding of some 1e-14 then reaches the statistic as 1e-9 at the very worst.
_SOUND = 1e-5
_DEPENDENT = 1e-11  # the same share's root, below which nothing but rounding is left


@dataclass(frozen=True, slots=True)
class AdfResult:
    """Augmented Dickey-Fuller test; a small `p_value` speaks against a unit root.

    Attributes
    ----------
    statistic : float
        t-ratio of the lagged level, without a unit; the further below 0, the more against a unit
        root. Never NaN.
    p_value : float
        MacKinnon's p-value, within [0, 1]. Never NaN.
    lags : int
        Lagged differences in the regression.
    nobs : int
        Rows of the regression: those of the series less 1 less `lags`.
    critical_values : dict of str to float
        Critical values of `statistic` at '1%', '5%' and '10%', for `nobs` rows. Never NaN.

    See Also
    --------
    adf_test : The function that returns it.
    """

    statistic: float
    p_value: float
    lags: int
    nobs: int
    critical_values: dict[str, float]


def adf_test(series: pd.Series[float], *, lags: int | None = None, trend: str = "c") -> AdfResult:
    """Run the full-sample augmented Dickey-Fuller test for a unit root.

    Parameters
    ----------
    series : pandas.Series of float, shape (n,)
        An observed series, in any unit. Finite numbers only. At least 2·(lags + k + 1) rows with k
        terms in `trend` (0, 1 or 2) and 0 for ``lags=None``; one row more for "n".
    lags : int or None, default None
        Exactly that many lagged differences, 0 or more. None: the choice of Akaike's criterion
        (AIC) among 0 … ⌈12·(n/100)^¼⌉, or fewer where so many would leave no degree of freedom.
    trend : {"c", "n", "ct"}, default "c"
        Deterministic terms of the regression: "n" none, "c" a constant, "ct" a constant and a
        linear trend.

    Returns
    -------
    AdfResult
        `statistic`, `p_value`, `lags` used, `nobs` and `critical_values` ('1%', '5%', '10%'). No
        field is NaN.

    Raises
    ------
    ValueError
        For NaN or infinity, too few rows for the lags, a series that never changes or that the
        regression fits without error, other values of `lags` or `trend`, or a `series` that is no
        Series of real numbers.

    See Also
    --------
    pairs.analytics.cointegration.engle_granger : For residuals of an estimated hedge ratio.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    The regression is Δs_t = ρ·s_{t-1} + Σ γ_i·Δs_{t-i} + deterministic terms + ε, and the statistic
    the t-ratio of ρ [1]_. With ``lags=None`` all numbers of lags are compared on the same rows, and
    the chosen one is fitted to all rows it can use. The limit of the lags is Schwert's [2]_. The
    p-value and critical values are MacKinnon's [3]_ for an observed series.

    Traps: for the residuals of an estimated hedge ratio these limits are too lenient; use
    `engle_granger`. The number of lags alone can turn the verdict.

    References
    ----------
    .. [1] Said and Dickey (1984), Biometrika 71, 599-607.
    .. [2] Schwert (1989), p. 151.
    .. [3] MacKinnon (1994), p-values; MacKinnon (2010), critical values; see
       `pairs.analytics.mackinnon`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> noise = pd.Series(np.random.default_rng(1).normal(size=100))
    >>> test = adf_test(noise, lags=2)
    >>> test.lags, test.nobs, test.p_value < 0.01  # 100 rows less 1 less 2 lags
    (2, 97, True)
    >>> adf_test(noise.cumsum()).p_value > 0.1  # a random walk
    True
    """
    check_choice("trend", trend, TRENDS)
    fixed = None if lags is None else check_window("lags", lags, 0)
    values = full_sample("series", series, least_rows(fixed, trend))
    if values.min() == values.max():
        raise ValueError(f"series is {values[0]:g} in every row: a unit-root test needs changes")
    try:
        statistic, used, nobs = adf_statistic(values, fixed, trend)
    except ArithmeticError as error:
        raise ValueError(f"series is {error}: no test is possible") from None
    return AdfResult(
        statistic=statistic,
        p_value=mackinnon_p(statistic, trend, 1),
        lags=used,
        nobs=nobs,
        critical_values=mackinnon_critical(trend, 1, nobs),
    )


def least_rows(lags: int | None, trend: str) -> int:
    """Rows without which the regression has no degree of freedom left."""
    terms = _terms(trend)
    return 2 * ((lags or 0) + terms + 1) + (terms == 0)


def adf_statistic(values: Array, lags: int | None, trend: str) -> tuple[float, int, int]:
    """The t-ratio, the lags used and the rows fitted, of finite `values`.

    Raises ArithmeticError, saying how the series is, where no ratio exists.
    """
    terms = _terms(trend)
    level, steps = _without_trend(values, terms)
    most = _most_lags(len(values), terms) if lags is None else lags
    statistic, used, sound = cast(
        "tuple[float, int, bool]", _adf(level, steps, most, terms, lags is None)
    )
    if not sound:
        used = _select_by_qr(level, steps, most, terms) if lags is None else most
        statistic = _ratio_by_qr(level, steps, used, terms)
    return float(statistic), int(used), len(steps) - int(used)


def _terms(trend: str) -> int:
    return 0 if trend == "n" else len(trend)


def _most_lags(rows: int, terms: int) -> int:
    schwert = math.ceil(12.0 * math.pow(rows / 100.0, 0.25))
    saturated = (rows - terms - 1) // 2  # lags that would leave no degree of freedom
    return max(0, min(rows // 2 - terms - 1, saturated - 1, schwert))


def _without_trend(values: Array, terms: int) -> tuple[Array, Array]:
    """Levels before each step, and the steps, both freed of what the deterministic terms fit.

    The regression holds those terms anyway, so the ratio is the same, but the products of a
    price near 60,000 would otherwise be the products of 60,000 and a constant.
    """
    parts = []
    for part in (values, np.diff(values)):
        if terms:
            part = part - part.mean()
        if terms == 2 and len(part) > 1:
            time = np.arange(len(part)) - (len(part) - 1) / 2.0
            part = part - (time @ part) / (time @ time) * time
        parts.append(np.ascontiguousarray(part))
    return parts[0][:-1], parts[1]


@helper
def _end_sums(d, lags, total, timed, scale):  # type: ignore[no-untyped-def]
    """total[i] = Σ d[t-i] and timed[i] = Σ time[t]·d[t-i] over the rows t ≥ lags."""
    rows = len(d)
    centre = (lags + rows - 1) / 2.0
    inner = inner_timed = 0.0
    for s in range(lags, rows - lags):
        inner += d[s]
        inner_timed += (s - centre) * scale * d[s]
    right, right_timed = np.zeros(lags + 1), np.zeros(lags + 1)
    for i in range(lags - 1, -1, -1):
        s = rows - 1 - i
        right[i] = right[i + 1] + d[s]
        right_timed[i] = right_timed[i + 1] + (s - centre) * scale * d[s]
    left = left_timed = 0.0
    for i in range(lags + 1):
        if i:
            left += d[lags - i]
            left_timed += (lags - i - centre) * scale * d[lags - i]
        total[i] = inner + left + right[i]
        timed[i] = inner_timed + left_timed + right_timed[i] + i * scale * total[i]


@helper
def _lag_products(d, back, level, lags, products, crossed):  # type: ignore[no-untyped-def]
    """products[i, j] = Σ d[t-i]·d[t-j] and crossed[i] = Σ level[t]·d[t-i] over rows t ≥ lags.

    `back` is d reversed. Four rows at a time, and side by side over the lags, which the
    processor does at once without any sum being reordered.
    """
    rows = len(d)
    inner = np.zeros(lags + 1)
    stop = rows - lags
    s = lags
    while s + 4 <= stop:
        d0, d1, d2, d3 = d[s], d[s + 1], d[s + 2], d[s + 3]
        x0, x1, x2, x3 = level[s], level[s + 1], level[s + 2], level[s + 3]
        base = rows - 1 - s
        for k in range(lags + 1):
            b0, b1, b2, b3 = (
                back[base + k],
                back[base + k - 1],
                back[base + k - 2],
                back[base + k - 3],
            )
            inner[k] = inner[k] + ((d0 * b0 + d1 * b1) + (d2 * b2 + d3 * b3))
            crossed[k] = crossed[k] + ((x0 * b0 + x1 * b1) + (x2 * b2 + x3 * b3))
        s += 4
    for t in range(s, rows):
        for k in range(lags + 1):
            if t < stop:
                inner[k] += d[t] * d[t - k]
            crossed[k] += level[t] * d[t - k]
    right = np.zeros(lags + 1)
    for k in range(lags + 1):
        right[lags] = 0.0
        for i in range(lags - 1, -1, -1):
            right[i] = right[i + 1] + d[rows - 1 - i] * d[rows - 1 - i - k]
        left = 0.0
        for i in range(lags - k + 1):
            if i:
                left += d[lags - i] * d[lags - i - k]
            products[i, i + k] = products[i + k, i] = inner[k] + left + right[i]


@helper
def _add_terms(gram, level, d, lags, terms, at, of_level):  # type: ignore[no-untyped-def]
    """Rows and columns of the constant and of the time, centred, in the products of `_gram`."""
    rows = len(d) - lags
    scale = 1.0 / rows
    total, timed = np.zeros(lags + 1), np.zeros(lags + 1)
    _end_sums(d, lags, total, timed, scale)
    sum_x = sum_tx = sum_tt = 0.0
    centre = (lags + len(d) - 1) / 2.0
    for t in range(lags, len(d)):
        time = (t - centre) * scale
        sum_x += level[t]
        sum_tx += time * level[t]
        sum_tt += time * time
    gram[0, 0] = rows
    gram[0, of_level] = gram[of_level, 0] = sum_x
    for i in range(lags + 1):
        gram[0, at[i]] = gram[at[i], 0] = total[i]
    if terms == 2:
        gram[1, 1] = sum_tt
        gram[1, of_level] = gram[of_level, 1] = sum_tx
        for i in range(lags + 1):
            gram[1, at[i]] = gram[at[i], 1] = timed[i]


@helper
def _gram(level, d, back, lags, terms, level_first):  # type: ignore[no-untyped-def]
    """Products of the columns [terms, level, lags, step], or with the level behind the lags.

    Scaled to a diagonal of 1; also whether no column is zero throughout.
    """
    size = terms + lags + 2
    products, crossed = np.zeros((lags + 1, lags + 1)), np.zeros(lags + 1)
    _lag_products(d, back, level, lags, products, crossed)
    at = np.empty(lags + 1, dtype=np.int64)  # where lag i stands; lag 0 is the step itself
    at[0] = size - 1
    for i in range(1, lags + 1):
        at[i] = terms + i - (0 if level_first else 1)
    of_level = terms if level_first else size - 2
    gram = np.zeros((size, size))
    for i in range(lags + 1):
        gram[at[i], of_level] = gram[of_level, at[i]] = crossed[i]
        for j in range(lags + 1):
            gram[at[i], at[j]] = products[i, j]
    squares = 0.0
    for t in range(lags, len(d)):
        squares += level[t] * level[t]
    gram[of_level, of_level] = squares
    if terms:
        _add_terms(gram, level, d, lags, terms, at, of_level)
    root = np.empty(size)
    for i in range(size):
        root[i] = math.sqrt(gram[i, i])
        if not root[i] > 0.0:
            return gram, False
    for i in range(size):
        for j in range(size):
            gram[i, j] = gram[i, j] / root[i] / root[j]
    return gram, True


@helper
def _factor(gram):  # type: ignore[no-untyped-def]
    """Lower Cholesky factor in place; False where a column keeps too little of itself."""
    size = len(gram)
    for j in range(size):
        pivot = gram[j, j]
        for k in range(j):
            pivot -= gram[j, k] * gram[j, k]
        if not pivot > _SOUND:
            return False
        gram[j, j] = math.sqrt(pivot)
        for i in range(j + 1, size):
            s = gram[i, j]
            for k in range(j):
                s -= gram[i, k] * gram[j, k]
            gram[i, j] = s / gram[j, j]
    return True


@compiled(VECTOR, VECTOR, INT, INT, FLAG)
def _adf(level, d, most, terms, search):  # type: ignore[no-untyped-def]
    """t-ratio of the level, lags used, and whether the products could be trusted."""
    back = d[::-1].copy()
    lags = most
    if search and most > 0:
        gram, sound = _gram(level, d, back, most, terms, True)
        if not (sound and _factor(gram)):
            return 0.0, 0, False
        last = len(gram) - 1
        rows = len(d) - most
        left = 1.0
        best = np.inf
        for k in range(last):
            left -= gram[last, k] * gram[last, k]
            if k >= terms:
                criterion = rows * math.log(left) + 2.0 * (k + 1)
                if criterion < best:
                    best = criterion
                    lags = k - terms
    gram, sound = _gram(level, d, back, lags, terms, False)
    if not (sound and _factor(gram)):
        return 0.0, 0, False
    last = len(gram) - 1
    freedom = len(d) - lags - last
    return gram[last, last - 1] / gram[last, last] * math.sqrt(freedom), lags, True


def _triangle(level: Array, d: Array, lags: int, terms: int, *, level_first: bool) -> Array:
    """R of the QR of the scaled columns, the step last: no product, no lost digit."""
    rows = len(d) - lags
    lagged = [d[lags - i : len(d) - i] for i in range(1, lags + 1)]
    first, last = ([level[lags:]], []) if level_first else ([], [level[lags:]])
    time = np.arange(rows) - (rows - 1) / 2.0
    fixed = [np.ones(rows), time][:terms]
    table = np.column_stack([*fixed, *first, *lagged, *last, d[lags:]])
    size = np.sqrt((table * table).sum(axis=0))
    return np.asarray(np.linalg.qr(table / np.where(size > 0, size, 1.0), mode="r"))


def _select_by_qr(level: Array, d: Array, most: int, terms: int) -> int:
    """The AIC's choice, among the lags that do not depend on each other."""
    r = _triangle(level, d, most, terms, level_first=True)
    columns = r.shape[1] - 1
    left = np.cumsum((r[:, columns] ** 2)[::-1])[::-1]  # what the first k columns leave
    rows, best, chosen = len(d) - most, math.inf, 0
    for k in range(columns):
        if abs(r[k, k]) < _DEPENDENT:
            break
        if k < terms:
            continue
        if left[k + 1] < _DEPENDENT**2:
            return k - terms
        criterion = rows * math.log(left[k + 1]) + 2.0 * (k + 1)
        if criterion < best:
            best, chosen = criterion, k - terms
    return chosen


def _ratio_by_qr(level: Array, d: Array, lags: int, terms: int) -> float:
    r = _triangle(level, d, lags, terms, level_first=False)
    last = r.shape[1] - 1
    if np.abs(np.diag(r)[:last]).min() < _DEPENDENT:
        raise ArithmeticError("such that its level and its lagged changes depend on each other")
    if abs(r[last, last]) < _DEPENDENT:
        raise ArithmeticError("fitted without error by its own past")
    sign = math.copysign(1.0, r[last - 1, last - 1])
    ratio = sign * r[last - 1, last] / abs(r[last, last])
    return float(ratio * math.sqrt(len(d) - lags - last))
