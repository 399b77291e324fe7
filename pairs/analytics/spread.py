"""Spread, z-score, rolling hedge ratio and rolling correlation.

y is the leg explained, x the leg that explains: y = intercept + beta·x + error. Row-wise
functions use rows up to their own only; full-sample functions say so in their first line, refuse
missing values and must never decide a trade inside the sample they were given.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pairs.analytics.windows import window_correlation, window_fit, window_score
from pairs.checks import (
    Array,
    check_ddof,
    check_flag,
    check_number,
    check_window,
    same_index,
    series_values,
    two_series,
)

__all__ = ["rolling_correlation", "rolling_hedge_ratio", "spread", "zscore"]


def rolling_hedge_ratio(
    y: pd.Series[float], x: pd.Series[float], window: int, *, intercept: bool = True
) -> pd.DataFrame:
    """Hedge ratio by least squares over the last `window` rows.

    Columns beta, intercept (0 with `intercept=False`, through the origin) with the index of y.
    NaN for the first window-1 rows, for exactly the rows whose window holds a NaN or infinity in
    either leg, and where x does not vary over the window. Row t is fitted on rows ≤ t, its own
    included. Raises ValueError for unequal indexes or a window that is no integer or below 2.
    """
    length = check_window("window", window, 2)
    ys, xs = two_series("y", y, "x", x)
    constant = check_flag("intercept", intercept)
    beta, alpha, _ = window_fit(ys, xs, length, intercept=constant, errors=False)
    return pd.DataFrame({"beta": beta, "intercept": alpha}, index=y.index)


def spread(
    y: pd.Series[float],
    x: pd.Series[float],
    beta: float | pd.Series[float],
    intercept: float | pd.Series[float] = 0.0,
) -> pd.Series[float]:
    """Spread y - beta·x - intercept, row by row, in the unit of y.

    `beta`, `intercept`: a number, or a Series with the index of y. Row t of the result uses row
    t only, and is as causal as the beta given. NaN where any part is NaN or infinite.
    Raises ValueError for unequal indexes or a number that is not finite.
    """
    ys, xs = two_series("y", y, "x", x)
    parts: list[Array | float] = []
    for name, part in (("beta", beta), ("intercept", intercept)):
        if isinstance(part, pd.Series):
            parts.append(series_values(name, part))
            same_index("y", y, name, part)
        else:
            parts.append(check_number(name, part, -math.inf, math.inf, open_low=True))
    values = ys - parts[0] * xs - parts[1]
    return pd.Series(values, index=y.index, name=y.name if y.name == x.name else None)


def zscore(
    series: pd.Series[float], window: int | None = None, *, ddof: int = 1
) -> pd.Series[float]:
    """Standard score of each row within the last `window` rows; full-sample with window=None.

    (s_t - mean)/deviation of the window that ends at row t, t included. NaN for the first
    window-1 rows, for exactly the rows whose window holds a NaN or infinity, and where all
    values of the window are equal: a deviation of exactly 0 has no score. `ddof=1` is the sample
    deviation. window=None looks ahead: mean and deviation of all known rows, missing ones NaN.
    Index and name of `series`. Raises ValueError where `window` is no integer or below 2, or
    `ddof` is not below it.
    """
    values = series_values("series", series)
    if window is None:
        scores = _full_zscore(values, ddof)
    else:
        length = check_window("window", window, 2)
        scores = window_score(values, length, check_ddof(ddof, length))
    return pd.Series(scores, index=series.index, name=series.name)


def _full_zscore(values: Array, ddof: int) -> Array:
    known = values[~np.isnan(values)]
    check_ddof(ddof, max(len(known), 2))
    if len(known) <= ddof or known.min() == known.max():
        return np.full(len(values), np.nan)
    centre = known.mean()
    return np.asarray((values - centre) / (known - centre).std(ddof=ddof))


def rolling_correlation(a: pd.Series[float], b: pd.Series[float], window: int) -> pd.Series[float]:
    """Pearson correlation of the last `window` rows of two Series.

    Within [-1, 1]. NaN for the first window-1 rows, for exactly the rows whose window holds a
    NaN or infinity in either, and where either does not vary over the window. Give it returns:
    the correlation of two price levels is mostly that of their trends.
    Raises ValueError for unequal indexes or a window that is no integer or below 2.
    """
    length = check_window("window", window, 2)
    of_a, of_b = two_series("a", a, "b", b)
    name = a.name if a.name == b.name else None
    return pd.Series(window_correlation(of_a, of_b, length), index=a.index, name=name)
