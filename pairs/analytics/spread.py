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
    """Estimate the hedge ratio by least squares of y on x over the last `window` rows.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Infinity counts as NaN.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Infinity counts as NaN.
    window : int
        Number of rows in each fit, at least 2. With 2 the line passes through both points.
    intercept : bool, default True
        False regresses through the origin.

    Returns
    -------
    pandas.DataFrame
        The index of `y` and two columns of float: `beta`, in units of y per unit of x, and
        `intercept`, in the unit of y (0 with ``intercept=False`` wherever beta is known). Both are
        NaN in the first `window` - 1 rows, in exactly the rows whose window holds a NaN or an
        infinity in either leg, and where x does not vary over the window (is zero throughout,
        with ``intercept=False``).

    Raises
    ------
    ValueError
        For unequal indexes, a `window` that is no integer or below 2, an argument that is no Series
        of real numbers, or an `intercept` that is neither True nor False.

    See Also
    --------
    spread : The spread of this hedge ratio.
    pairs.analytics.hedge.ols_hedge_ratio : One fit to the whole sample.
    pairs.analytics.kalman.discounted_hedge_ratio : Weights that fall with age instead of a window.

    Notes
    -----
    Row t uses rows <= t: it is fitted on the rows t - window + 1 to t, its own included. So the
    residual of row t has helped to choose the line that it is measured from.

    Trap: a short window follows the noise, and beta then takes away the spread that it is meant to
    measure.

    Examples
    --------
    >>> import pandas as pd
    >>> y, x = pd.Series([3.0, 5.0, 7.0, 10.0]), pd.Series([1.0, 2.0, 3.0, 4.0])
    >>> fit = rolling_hedge_ratio(y, x, window=2)
    >>> fit["beta"].round(6).tolist(), fit["intercept"].round(6).tolist()
    ([nan, 2.0, 2.0, 3.0], [nan, 1.0, 1.0, -2.0])
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
    """Compute the spread y - beta·x - intercept, row by row.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg explained, in any unit.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`.
    beta : float or pandas.Series of float
        Hedge ratio, in units of y per unit of x: a finite number, or a Series with the index of
        `y`.
    intercept : float or pandas.Series of float, default 0.0
        Level taken out, in the unit of y: a finite number, or a Series with the index of `y`.

    Returns
    -------
    pandas.Series of float, shape (n,)
        The spread in the unit of y, with the index of `y`. NaN where any part is NaN or infinite.
        Its name is that of the legs where both bear the same one, else None.

    Raises
    ------
    ValueError
        For unequal indexes, a `beta` or `intercept` number that is not finite, or a leg that is no
        Series of real numbers.

    See Also
    --------
    zscore : How far the spread is from its mean, in standard deviations.

    Notes
    -----
    Row t uses row t only. The result is exactly as causal as the `beta` and `intercept` given: with
    those of a whole sample it looks ahead.

    Examples
    --------
    >>> import pandas as pd
    >>> y, x = pd.Series([10.0, 11.0]), pd.Series([3.0, 4.0])
    >>> spread(y, x, 2.0, 1.0).tolist()
    [3.0, 2.0]
    >>> spread(y, x, pd.Series([2.0, 2.5])).tolist()
    [4.0, 1.0]
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
    """Compute the z-score of each row over the last `window` rows, or full-sample without one.

    Parameters
    ----------
    series : pandas.Series of float, shape (n,)
        For example a spread, in any unit. Infinity counts as NaN.
    window : int or None, default None
        Number of rows of each window, at least 2. None takes the mean and the deviation of all
        known rows: full-sample, it looks ahead.
    ddof : int, default 1
        The squares are divided by their number less `ddof`: 1 is the sample standard deviation, 0
        that of a population. At least 0 and below `window`; with ``window=None`` below the number
        of known rows (below 2 where fewer than 2 are known).

    Returns
    -------
    pandas.Series of float, shape (n,)
        The score, without a unit, with the index and name of `series`. With a window it is NaN in
        the first `window` - 1 rows, in exactly the rows whose window holds a NaN or an infinity,
        and where all values of the window are equal: a deviation of exactly 0 has no score. With
        ``window=None`` the missing rows are NaN, and all rows where the known ones are equal or
        are too few (`ddof` or fewer).

    Raises
    ------
    ValueError
        For a `window` that is no integer or below 2, a `ddof` out of its range, or a `series` that
        is no Series of real numbers.

    See Also
    --------
    spread : What is usually scored.
    pairs.analytics.kalman.kalman_zscore : A score without a window.

    Notes
    -----
    With a window row t uses rows <= t: (s_t - mean)/deviation of the window that ends at row t, t
    included. With ``window=None`` every row uses the whole sample and must not decide a trade
    inside it.

    Trap: a window of n rows cannot score more than (n - 1)/√n in size (``ddof=1``): with 5 rows a
    threshold of 2 is never passed.

    Examples
    --------
    >>> import pandas as pd
    >>> zscore(pd.Series([1.0, 2.0, 3.0, 3.0, 3.0]), window=3).round(4).tolist()  # 1/√3; all equal
    [nan, nan, 1.0, 0.5774, nan]
    >>> zscore(pd.Series([1.0, 2.0, 3.0, None])).tolist()
    [-1.0, 0.0, 1.0, nan]
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
    """Compute the Pearson correlation of two Series over the last `window` rows.

    Parameters
    ----------
    a : pandas.Series of float, shape (n,)
        One series, usually of returns. Infinity counts as NaN.
    b : pandas.Series of float, shape (n,)
        The other one, with the same index as `a`. Infinity counts as NaN.
    window : int
        Number of rows of each window, at least 2.

    Returns
    -------
    pandas.Series of float, shape (n,)
        The correlation, without a unit and within [-1, 1], with the index of `a`. NaN in the first
        `window` - 1 rows, in exactly the rows whose window holds a NaN or an infinity in either
        series, and where either does not vary over the window. Its name is that of both where they
        bear the same one, else None.

    Raises
    ------
    ValueError
        For unequal indexes, a `window` that is no integer or below 2, or an argument that is no
        Series of real numbers.

    Notes
    -----
    Row t uses rows <= t: Sxy/√(Sxx·Syy) of the window that ends at row t, t included. No ddof: it
    cancels.

    Trap: give it returns. The correlation of two price levels is mostly that of their trends.

    Examples
    --------
    >>> import pandas as pd
    >>> a, b = pd.Series([1.0, 2.0, 3.0, 5.0]), pd.Series([2.0, 4.0, 3.0, 1.0])
    >>> rolling_correlation(a, b, window=2).round(6).tolist()  # two points: the same way, or not
    [nan, 1.0, -1.0, -1.0]
    """
    length = check_window("window", window, 2)
    of_a, of_b = two_series("a", a, "b", b)
    name = a.name if a.name == b.name else None
    return pd.Series(window_correlation(of_a, of_b, length), index=a.index, name=name)
