"""Stationarity from the other side: KPSS, and the variance ratio of returns.

Both are full-sample, refuse missing values and complement the Dickey-Fuller test of unitroot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.checks import Array, check_choice, check_flag, check_window, full_sample

__all__ = ["KpssResult", "VarianceRatio", "kpss_test", "variance_ratio_test"]

_LEVELS = (0.10, 0.05, 0.025, 0.01)
_KPSS = {"c": (0.347, 0.463, 0.574, 0.739), "ct": (0.119, 0.146, 0.176, 0.216)}


@dataclass(frozen=True, slots=True)
class KpssResult:
    """KPSS test; a small `p_value` speaks against stationarity, the opposite of Dickey-Fuller.

    `p_value` lies in [0.01, 0.1], the ends of the table: 0.1 means 0.1 or more, 0.01 or less.
    """

    statistic: float
    p_value: float
    lags: int
    critical_values: dict[str, float]


@dataclass(frozen=True, slots=True)
class VarianceRatio:
    """Variance of q-step changes over q times that of one step: 1 for a random walk.

    Below 1 the series returns, above 1 it trends. `statistic` is standard normal for a random
    walk, `p_value` two-sided.
    """

    ratio: float
    statistic: float
    p_value: float
    q: int
    n: int


def kpss_test(series: pd.Series[float], *, lags: int | None = None, trend: str = "c") -> KpssResult:
    """Full-sample test whose null is stationarity, around a constant ("c") or a line ("ct").

    `lags` of the Bartlett long-run variance: exactly that many, 0 for none, or None for the
    choice of Hobijn, Franses and Ooms (1998), as statsmodels' "auto" does. Too few lags find
    every slow spread guilty. Critical values '10%', '5%', '2.5%', '1%'; p-value by straight
    lines between them.
    Raises ValueError for NaN or infinity, fewer than 5 rows, lags not below the rows, or a
    series that does not vary around its mean or line.
    Source: Kwiatkowski, Phillips, Schmidt and Shin (1992), J. Econometrics 54, 159-178, eqs.
    10-13 and table 1.
    """
    how = check_choice("trend", trend, ("c", "ct"))
    fixed = None if lags is None else check_window("lags", lags, 0)
    values = full_sample("series", series, max(5, 1 if fixed is None else fixed + 1))
    errors = values - values.mean()
    if how == "ct":
        time = np.arange(len(values)) - (len(values) - 1) / 2.0
        errors = errors - (time @ errors) / (time @ time) * time
    if np.abs(errors).max() <= 1e-14 * np.abs(values).max():
        raise ValueError("series does not vary around its mean or line: no test is possible")
    rows = len(errors)
    used = _bartlett_lags(errors) if fixed is None else fixed
    variance = _long_run_variance(errors, used)
    walk = np.cumsum(errors)
    statistic = float(walk @ walk) / rows**2 / variance
    limits = _KPSS[how]
    return KpssResult(
        statistic=statistic,
        p_value=float(np.interp(statistic, limits, _LEVELS)),
        lags=used,
        critical_values=dict(zip(("10%", "5%", "2.5%", "1%"), limits, strict=True)),
    )


def _long_run_variance(errors: Array, lags: int) -> float:
    total = float(errors @ errors)
    for k in range(1, lags + 1):
        total += 2.0 * (1.0 - k / (lags + 1.0)) * float(errors[k:] @ errors[:-k])
    return total / len(errors)


def _bartlett_lags(errors: Array) -> int:
    """Hobijn, Franses and Ooms (1998), the automatic choice for the Bartlett window."""
    rows = len(errors)
    covariances = int(rows ** (2.0 / 9.0))
    s0 = float(errors @ errors) / rows
    s1 = 0.0
    for k in range(1, covariances + 1):
        product = float(errors[k:] @ errors[:-k]) / (rows / 2.0)
        s0 += product
        s1 += k * product
    gamma = 1.1447 * ((s1 / s0) ** 2) ** (1.0 / 3.0)
    return min(int(gamma * rows ** (1.0 / 3.0)), rows - 1)


def variance_ratio_test(
    series: pd.Series[float], *, q: int = 2, robust: bool = True
) -> VarianceRatio:
    """Full-sample variance-ratio test of the random walk, with drift, on overlapping changes.

    `series`: log prices, or a spread as it is; its changes over `q` rows against those over one,
    both with the small-sample corrections of the source. `robust`: the statistic that allows for
    changing variance (z*), which crypto has; False: that for constant variance (z).
    Raises ValueError for NaN or infinity, q below 2, fewer than 2q+1 rows, or a series whose
    changes are all equal.
    Source: Lo and MacKinlay (1988), Review of Financial Studies 1, 41-66, eqs. 12, 14, 19, 20.
    """
    span = check_window("q", q, 2)
    values = full_sample("series", series, 2 * span + 1)
    values = values - values[0]
    count = len(values) - 1
    drift = values[-1] / count
    steps = np.diff(values) - drift
    squares = steps * steps
    total = float(squares.sum())
    if total <= (1e-14 * np.abs(values).max()) ** 2 * count:
        raise ValueError("series changes alike in every row: no test is possible")
    long = values[span:] - values[:-span] - span * drift
    weight = span * (count - span + 1) * (1.0 - span / count)
    ratio = (float(long @ long) / weight) / (total / (count - 1))
    if check_flag("robust", robust):
        theta = 0.0
        for k in range(1, span):
            delta = count * float(squares[k:] @ squares[:-k]) / total**2
            theta += (2.0 * (span - k) / span) ** 2 * delta
    else:
        theta = 2.0 * (2 * span - 1) * (span - 1) / (3.0 * span)
    statistic = math.sqrt(count) * (ratio - 1.0) / math.sqrt(theta) if theta > 0 else math.nan
    p_value = math.erfc(abs(statistic) / math.sqrt(2.0))
    return VarianceRatio(ratio, statistic, p_value, span, count)
