"""Cointegration: Engle-Granger, Johansen, and how fast and how surely a spread comes back.

All functions here are full-sample: they look at every row, refuse missing values, and must
never decide a trade inside the sample they were given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.analytics.mackinnon import mackinnon_critical, mackinnon_p
from pairs.analytics.unitroot import TRENDS, adf_statistic, least_rows
from pairs.checks import Array, check_choice, check_window, full_sample, full_table, same_index

__all__ = [
    "BothWays", "CointegrationResult", "JohansenResult", "engle_granger", "engle_granger_both",
    "half_life", "hurst_exponent", "johansen",
]  # fmt: skip

_TABULATED = 12  # columns for which Johansen's critical values exist


@dataclass(frozen=True, slots=True)
class CointegrationResult:
    """Engle-Granger test of y = intercept + beta·x [+ time_slope·t] + error; t = 1 … n.

    `lags`, `nobs`: lagged differences and rows of the regression on the residuals.
    """

    statistic: float
    p_value: float
    lags: int
    nobs: int
    critical_values: dict[str, float]
    beta: float
    intercept: float
    time_slope: float = 0.0


@dataclass(frozen=True, slots=True)
class BothWays:
    """Engle-Granger with either leg explained. `p_value`: twice the smaller one, at most 1."""

    y_on_x: CointegrationResult
    x_on_y: CointegrationResult

    @property
    def p_value(self) -> float:
        """Bonferroni's, for having looked twice and kept the better."""
        return min(1.0, 2.0 * min(self.y_on_x.p_value, self.x_on_y.p_value))


@dataclass(frozen=True, slots=True)
class JohansenResult:
    """Johansen's test; entry r of `trace` and `max_eigen` tests at most r cointegrating relations.

    `critical_values`: 'trace' and 'max_eigen', one row per r, columns 90, 95, 99 %. `vectors`:
    one column per eigenvalue, largest first, v'S_kk v = I, sign free.
    """

    eigenvalues: Array
    trace: Array
    max_eigen: Array
    critical_values: dict[str, Array]
    vectors: Array

    def rank(self, confidence: int = 95) -> int:
        """Cointegrating relations the trace test finds at 90, 95 or 99 %."""
        if confidence not in (90, 95, 99):
            raise ValueError(f"confidence={confidence!r} is not usable: 90, 95 or 99 is allowed")
        limits = self.critical_values["trace"][:, (90, 95, 99).index(confidence)]
        held = np.flatnonzero(self.trace <= limits)
        return int(held[0]) if held.size else len(limits)


def engle_granger(
    y: pd.Series[float], x: pd.Series[float], *, lags: int | None = None, trend: str = "c"
) -> CointegrationResult:
    """Full-sample Engle-Granger test: is y - beta·x stationary? A small p_value says so.

    `trend`: terms of the cointegrating regression, "n" none, "c" constant, "ct" constant and
    linear time. The residuals are tested without any, as they have none. `lags`: exactly that
    many lagged differences, or None for the AIC's choice as in `adf_test`. p-value and critical
    values: MacKinnon's (1994, 2010) for two variables, the latter at n-1 rows as Stata and
    statsmodels have it; NaN with trend "n", which MacKinnon (2010) does not tabulate.
    Raises ValueError for NaN or infinity, unequal indexes, too few rows for the lags, a leg that
    never changes, or legs that are an exact function of each other.
    Source: Engle and Granger (1987), Econometrica 55, 251-276.
    """
    terms = len(check_choice("trend", trend, TRENDS).replace("n", ""))
    fixed = None if lags is None else check_window("lags", lags, 0)
    least = max(least_rows(fixed, "n"), terms + 4)
    ys, xs = full_sample("y", y, least), full_sample("x", x, least)
    same_index("y", y, "x", x)
    for name, leg in (("y", ys), ("x", xs)):
        if leg.min() == leg.max():
            raise ValueError(f"{name} is {leg[0]:g} in every row: cointegration needs changes")
    try:
        beta, intercept, time_slope, errors = cointegrating_fit(ys, xs, terms)
        statistic, used, nobs = adf_statistic(errors, fixed, "n")
    except ArithmeticError as error:
        raise ValueError(f"the residual of y on x is {error}: no test is possible") from None
    return CointegrationResult(
        statistic=statistic,
        p_value=mackinnon_p(statistic, trend, 2),
        lags=used,
        nobs=nobs,
        critical_values=mackinnon_critical(trend, 2, len(ys) - 1),
        beta=beta,
        intercept=intercept,
        time_slope=time_slope,
    )


def cointegrating_fit(y: Array, x: Array, terms: int) -> tuple[float, float, float, Array]:
    """beta, intercept, time slope and residuals of y on x, with 0, 1 or 2 deterministic terms.

    Raises ArithmeticError where x has nothing left to explain with, or nothing is left of y.
    """
    dy, dx = y, x
    mean_y, mean_x = (float(y.mean()), float(x.mean())) if terms else (0.0, 0.0)
    trend_y = trend_x = middle = 0.0
    if terms:
        dy, dx = y - mean_y, x - mean_x
    if terms == 2:
        middle = (len(y) + 1) / 2.0
        time = np.arange(1, len(y) + 1) - middle
        trend_y, trend_x = (float(time @ d) / float(time @ time) for d in (dy, dx))
        dy, dx = dy - trend_y * time, dx - trend_x * time
    squares = float(dx @ dx)
    if squares <= (1e-14 * np.abs(x).max()) ** 2 * len(x):
        raise ArithmeticError("undefined, since x is nothing but its deterministic terms")
    beta = float(dx @ dy) / squares
    errors = dy - beta * dx
    if np.abs(errors).max() <= 4e-16 * (np.abs(y).max() + abs(beta) * np.abs(x).max()):
        raise ArithmeticError("0 but for rounding, since y is a function of x")
    slope = trend_y - beta * trend_x
    return beta, mean_y - beta * mean_x - slope * middle, slope, errors


def engle_granger_both(
    y: pd.Series[float], x: pd.Series[float], *, lags: int | None = None, trend: str = "c"
) -> BothWays:
    """Full-sample Engle-Granger test of y on x and of x on y.

    The verdict depends on which leg is explained, so both are shown; the smaller p-value alone
    would be the better of two tries, and `p_value` pays for that. Arguments and errors as
    `engle_granger`.
    """
    return BothWays(
        engle_granger(y, x, lags=lags, trend=trend), engle_granger(x, y, lags=lags, trend=trend)
    )


def johansen(frame: pd.DataFrame, *, trend: int = 0, lags: int = 1) -> JohansenResult:
    """Full-sample Johansen test for the number of cointegrating relations among the columns.

    `frame`: one column per leg, 2 to 12 of them. `trend`: deterministic order, -1 none,
    0 constant, 1 linear. `lags`: lagged differences in the vector error correction, 0 or more.
    Critical values: MacKinnon, Haug and Michelis (1996). Computed through the canonical
    correlations of two QR factors, which squares no condition number.
    Raises ValueError for NaN or infinity, too few rows, or legs that depend on each other.
    Source: Johansen (1988), J. Econ. Dynamics and Control 12, 231-254; conventions of LeSage's
    Econometrics Toolbox, which takes the trend out before and the mean again after differencing.
    """
    from statsmodels.tsa.coint_tables import c_sja, c_sjt  # loads statsmodels: only where needed

    whole = isinstance(trend, int | np.integer) and not isinstance(trend, bool)
    if not whole or trend not in (-1, 0, 1):
        raise ValueError(f"trend={trend!r} is not usable: -1, 0 or 1 is allowed")
    lagged = check_window("lags", lags, 0)
    legs = frame.shape[1] if isinstance(frame, pd.DataFrame) else 2
    if legs > _TABULATED:
        raise ValueError(f"frame has {legs} columns: 2 to {_TABULATED} are allowed")
    prices = full_table("frame", frame, 2, legs * (lagged + 2) + lagged + 4)
    scale = np.abs(prices - prices.mean(axis=0)).max(axis=0)
    if not (scale > 0).all():
        dull = frame.columns[int(np.flatnonzero(~(scale > 0))[0])]
        raise ValueError(f"frame[{dull!r}] is the same in every row: each leg must change")
    steps, levels = _concentrated(prices / scale, trend, lagged)
    values, vectors = _canonical(steps, levels)
    rows = len(levels)
    gains = -rows * np.log1p(-values)
    critical = {
        name: np.array([table(legs - r, trend) for r in range(legs)], dtype=np.float64)
        for name, table in (("trace", c_sjt), ("max_eigen", c_sja))
    }
    trace = np.cumsum(gains[::-1])[::-1]
    return JohansenResult(values, trace, gains, critical, vectors / scale[:, None])


def _detrended(table: Array, order: int) -> Array:
    if order < 0:
        return table
    table = table - table.mean(axis=0)
    if order == 1:
        time = np.arange(len(table)) - (len(table) - 1) / 2.0
        table = table - np.outer(time, time @ table / (time @ time))
    return np.asarray(table)


def _concentrated(prices: Array, trend: int, lags: int) -> tuple[Array, Array]:
    """Steps and levels, both freed of the lagged steps."""
    inner = min(trend, 0)
    prices = _detrended(prices, trend)
    steps = np.diff(prices, axis=0)
    # The level before the step. Any later or earlier one differs from it by lagged steps, which
    # are taken out; except without lags, where statsmodels takes the level behind the step.
    sides = [_detrended(part, inner) for part in (steps[lags:], prices[lags:-1])]
    if lags:
        past = np.hstack([steps[lags - i : len(steps) - i] for i in range(1, lags + 1)])
        q, r = np.linalg.qr(_detrended(past, inner))
        if np.abs(np.diag(r)).min() <= 1e-12 * np.abs(r).max():
            raise ValueError("frame has legs whose changes depend on each other: drop one")
        sides = [side - q @ (q.T @ side) for side in sides]
    return sides[0], sides[1]


def _canonical(steps: Array, levels: Array) -> tuple[Array, Array]:
    """Squared canonical correlations, largest first, and the level's vectors with v'Sv = I."""
    of_steps, r_steps = np.linalg.qr(steps)
    of_levels, r_levels = np.linalg.qr(levels)
    for r in (r_steps, r_levels):
        size = np.abs(np.diag(r))
        if size.min() <= 1e-12 * size.max():
            raise ValueError("frame has legs that depend on each other: drop one")
    _, correlations, rows = np.linalg.svd(of_steps.T @ of_levels)
    vectors = np.linalg.solve(r_levels, rows.T) * math.sqrt(len(levels))
    return np.minimum(correlations, 1.0) ** 2, vectors


def half_life(spread: pd.Series[float]) -> float:
    """Full-sample half-life of a spread's return to its mean, in bars; inf where it does not.

    -ln 2/b with b the slope of the change on the level before it, intercept included: that of
    an Ornstein-Uhlenbeck process seen in whole bars. inf where b ≥ 0.
    Raises ValueError for NaN or infinity, fewer than 4 rows, or a spread that never changes.
    Source: Chan, *Algorithmic Trading* (2013), ch. 2, eq. 2.6 and example 2.5.
    """
    values = full_sample("spread", spread, 4)
    before = values[:-1]
    if before.min() == before.max():
        raise ValueError(f"spread is {before[0]:g} before every change: a half-life needs changes")
    return reversion(values)


def reversion(values: Array) -> float:
    """The value of `half_life`, for finite values that change."""
    before = values[:-1] - values[:-1].mean()
    slope = float(before @ np.diff(values)) / float(before @ before)
    return -math.log(2.0) / slope if slope < 0 else math.inf


def hurst_exponent(series: pd.Series[float], *, max_lag: int = 99, method: str = "std") -> float:
    """Full-sample Hurst exponent: below ½ returns to its mean, ½ walks at random, above ½ trends.

    `method` "std": slope of log(deviation of the differences over lag) on log(lag), lags
    2 … `max_lag`, ddof 0, of the series as given (no logs taken). "rs": rescaled range of the
    one-step differences; slope of log(mean R/S) on log(rows) over windows of 8, 16, … rows up
    to `max_lag`+1, without a correction for short windows, which biases it upwards.
    Raises ValueError for NaN or infinity, fewer than max_lag+2 rows, a max_lag below 3 (15 for
    "rs"), or a series whose differences over some lag are all equal.
    Source: Mandelbrot and van Ness (1968), SIAM Review 10, 422-437; rescaled range: Hurst
    (1951), Trans. ASCE 116, 770-799.
    """
    how = check_choice("method", method, ("std", "rs"))
    longest = check_window("max_lag", max_lag, 3 if how == "std" else 15)
    values = full_sample("series", series, longest + 2)
    if how == "std":
        spans = np.arange(2, longest + 1)
        sizes = np.array([(values[k:] - values[:-k]).std() for k in spans])
    else:
        spans = 2 ** np.arange(3, int(math.log2(longest + 1)) + 1)
        sizes = np.array([_rescaled_range(np.diff(values), int(k)) for k in spans])
    flat = np.flatnonzero(~(sizes > 1e-14 * np.abs(values).max()))
    if flat.size:
        raise ValueError(f"series changes alike over {spans[flat[0]]} rows: it has no exponent")
    span = np.log(spans) - np.log(spans).mean()
    return float(span @ np.log(sizes)) / float(span @ span)


def _rescaled_range(steps: Array, rows: int) -> float:
    """Mean of range/deviation over the whole blocks of `rows` steps; those without any are left."""
    blocks = steps[: len(steps) // rows * rows].reshape(-1, rows)
    walk = np.cumsum(blocks - blocks.mean(axis=1, keepdims=True), axis=1)
    reach = np.maximum(walk.max(axis=1), 0.0) - np.minimum(walk.min(axis=1), 0.0)
    deviation = blocks.std(axis=1)
    known = deviation > 0
    return float((reach[known] / deviation[known]).mean()) if known.any() else 0.0
