"""Pair maths: hedge ratios, spread, z-score, unit-root test, rolling correlation.

y is the leg explained, x the leg that explains: y = intercept + beta·x + error. Row-wise
functions use rows up to their own only; full-sample functions say so in their first line, refuse
missing values and must never decide a trade inside the sample they were given.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pykalman import KalmanFilter
from statsmodels.tsa.stattools import adfuller

from indicators import (
    Array,
    Moments,
    check_ddof,
    check_number,
    check_window,
    full_sample,
    same_index,
    series_values,
)

__all__ = [
    "AdfResult", "HedgeRatio", "KalmanNoise", "adf_test", "fit_kalman_noise",
    "kalman_hedge_ratio", "ols_hedge_ratio", "rolling_correlation", "rolling_hedge_ratio",
    "spread", "zscore",
]  # fmt: skip

_STATE = ("beta", "intercept", "beta_prior", "intercept_prior")
KALMAN_COLUMNS = (*_STATE, "innovation", "innovation_std", "beta_std")


@dataclass(frozen=True, slots=True)
class HedgeRatio:
    """A full-sample regression y = intercept + beta·x; `std_error` is that of beta."""

    beta: float
    intercept: float
    r_squared: float
    std_error: float
    n: int


@dataclass(frozen=True, slots=True)
class AdfResult:
    """Augmented Dickey-Fuller test; a small `p_value` speaks against a unit root."""

    statistic: float
    p_value: float
    lags: int
    nobs: int
    critical_values: dict[str, float]


@dataclass(frozen=True, slots=True)
class KalmanNoise:
    """Noise of the Kalman hedge ratio, fitted to a whole sample."""

    delta: float
    observation_variance: float
    log_likelihood: float
    iterations: int
    converged: bool


def _pair(y: pd.Series[float], x: pd.Series[float]) -> tuple[Array, Array]:
    values = series_values("y", y), series_values("x", x)
    same_index("y", y, "x", x)
    return values


def ols_hedge_ratio(
    y: pd.Series[float], x: pd.Series[float], *, intercept: bool = True
) -> HedgeRatio:
    """Full-sample hedge ratio by ordinary least squares of y on x.

    `intercept=False` regresses through the origin; r_squared is then the uncentred one, as in
    statsmodels. beta in units of y per unit of x. r_squared is NaN where y does not vary.
    Raises ValueError for NaN or infinity, unequal indexes, fewer than 3 rows (2 without
    intercept), or an x that does not vary (is zero throughout, without intercept).
    Source: Chan, *Algorithmic Trading* (2013), ch. 3; Greene, *Econometric Analysis*, ch. 3-4.
    """
    fitted = 2 if intercept else 1
    ys, xs = full_sample("y", y, fitted + 1), full_sample("x", x, fitted + 1)
    same_index("y", y, "x", x)
    if xs.min() == xs.max() if intercept else not xs.any():
        raise ValueError(f"x is {xs[0]:g} in every row: a hedge ratio needs an x that varies")
    mean_y, mean_x = (float(ys.mean()), float(xs.mean())) if intercept else (0.0, 0.0)
    dy, dx = ys - mean_y, xs - mean_x
    squares_x = float(dx @ dx)
    beta = float(dx @ dy) / squares_x
    errors = dy - beta * dx
    rss, tss = float(errors @ errors), float(dy @ dy)
    return HedgeRatio(
        beta=beta,
        intercept=mean_y - beta * mean_x,
        r_squared=1.0 - rss / tss if tss > 0 else math.nan,
        std_error=math.sqrt(rss / (len(ys) - fitted) / squares_x),
        n=len(ys),
    )


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
    beta, alpha, _ = rolling_fit(*_pair(y, x), length, intercept=intercept)
    return pd.DataFrame({"beta": beta, "intercept": alpha}, index=y.index)


def rolling_fit(
    y: Array, x: Array, window: int, *, intercept: bool = True
) -> tuple[Array, Array, Array]:
    """Arrays beta, intercept and standard error of beta of `rolling_hedge_ratio`."""
    with np.errstate(all="ignore"):
        if intercept:
            of_y, of_x = Moments(y, window), Moments(x, window)
            cross, squares_x, squares_y = of_x.cross(of_y), of_x.squares, of_y.squares
        else:
            known = np.where(np.isnan(x) | np.isnan(y), np.nan, 1.0)
            sums = [Moments(known * p, window).mean * window for p in (x * y, x * x, y * y)]
            cross, squares_x, squares_y = sums
        beta = cross / np.where(squares_x > 0, squares_x, np.nan)
        alpha = of_y.mean - beta * of_x.mean if intercept else 0.0 * beta
        freedom = window - (2 if intercept else 1)
        variance = np.maximum(squares_y - beta * cross, 0.0) / squares_x
        error = np.sqrt(variance / freedom) if freedom else np.full(len(y), np.nan)
    return beta, alpha, error


def kalman_hedge_ratio(
    y: pd.Series[float],
    x: pd.Series[float],
    *,
    delta: float = 1e-4,
    observation_variance: float = 1e-3,
    intercept: bool = True,
) -> pd.DataFrame:
    """Hedge ratio that drifts as a random walk, by a Kalman filter.

    y_t = beta_t·x_t + intercept_t + v, var(v) = `observation_variance` (y's unit squared); the
    state [beta, intercept] drifts with covariance delta/(1-delta)·I per row. It starts at 0 with
    covariance 0, without drift at the first row; so the first rows only find the level.
    Columns: beta, intercept (after the row), beta_prior, intercept_prior (before it),
    innovation = y - prior forecast, innovation_std = sqrt of that forecast's variance,
    observation noise included. `intercept=False` keeps the intercept at 0.
    A row with NaN or infinity in either leg is NaN throughout; the state waits, its variance
    growing by the drift. Raises ValueError for unequal indexes, delta outside (0, 1), an
    observation variance that is not positive and finite.
    Source: Chan, *Algorithmic Trading* (2013), ch. 3, eqs. 3.5-3.13.
    """
    ys, xs = _pair(y, x)
    columns = kalman_path(ys, xs, delta, observation_variance, intercept=intercept)
    del columns["beta_std"]
    return pd.DataFrame(columns, index=y.index)


def kalman_path(
    y: Array, x: Array, delta: float, observation_variance: float, *, intercept: bool = True
) -> dict[str, Array]:
    """Arrays of `kalman_hedge_ratio`, and beta_std, the posterior deviation of beta.

    The covariance [[p, c], [c, r]] is carried together with its determinant d: the update
    p ← (d + p·v)/q and d ← d·v/q then holds no difference of large numbers, where the textbook's
    P - K·H·P loses a variance of 1e-13 (a price of 60,000) in a prior of 1e-4.
    """
    drift = check_number("delta", delta, 0.0, 1.0, open_low=True)
    noise = check_number("observation_variance", observation_variance, 0.0, math.inf, open_low=True)
    drift /= 1.0 - drift
    alpha_drift = drift if intercept else 0.0
    b = a = p = c = r = d = 0.0
    missing = (math.nan,) * len(KALMAN_COLUMNS)
    rows: list[tuple[float, ...]] = []
    for t, (price_y, price_x) in enumerate(zip(y.tolist(), x.tolist(), strict=True)):
        if t:
            d += drift * r + alpha_drift * p + drift * alpha_drift
            p += drift
            r += alpha_drift
        error = price_y - b * price_x - a
        if error != error:  # NaN
            rows.append(missing)
            continue
        on_beta, on_alpha = p * price_x + c, c * price_x + r
        q = price_x * on_beta + on_alpha + noise
        prior_b, prior_a = b, a
        b += on_beta / q * error
        a += on_alpha / q * error
        p, c, r = (
            (d + p * noise) / q,
            (c * noise - price_x * d) / q,
            (r * noise + price_x * price_x * d) / q,
        )
        d *= noise / q
        rows.append((b, a, prior_b, prior_a, error, math.sqrt(q), math.sqrt(p)))
    table = np.array(rows, dtype=np.float64).reshape(len(y), len(KALMAN_COLUMNS))
    return dict(zip(KALMAN_COLUMNS, table.T, strict=True))


def fit_kalman_noise(
    y: pd.Series[float],
    x: pd.Series[float],
    *,
    delta: float = 1e-4,
    observation_variance: float | None = None,
    iterations: int = 20,
    tolerance: float = 1e-6,
    intercept: bool = True,
) -> KalmanNoise:
    """Full-sample fit of `delta` and `observation_variance` by expectation maximisation.

    EM through pykalman, started from the values given (None: the variance of the OLS residual),
    until the log-likelihood grows by less than `tolerance` of itself or `iterations` are done.
    The drift stays isotropic as in `kalman_hedge_ratio`: of pykalman's free covariance the mean
    of the diagonal is kept, which is the exact M-step under that restriction, so the likelihood
    never falls. The start of the state is the OLS estimate with the information of a single row,
    not the filter's certain 0: its first error, the whole price, would pass for noise.
    Raises ValueError as `ols_hedge_ratio` and for fewer than 10 rows. Some 0.3 ms a row and
    iteration. Source: Shumway and Stoffer (1982), J. Time Series Analysis 3(4), 253-264.
    """
    steps = check_window("iterations", iterations, 1)
    least = check_number("tolerance", tolerance, 0.0, 1.0, open_low=False)
    ys, xs = full_sample("y", y, 10), full_sample("x", x, 10)
    model = _kalman_model(ys, xs, ols_hedge_ratio(y, x, intercept=intercept), intercept)
    floor = _set_noise(model, ys, delta, observation_variance)
    size = model.initial_state_mean.size
    likelihood, converged = float(model.loglikelihood(ys)), False
    done = 0
    while done < steps and not converged:
        done += 1
        model.em(ys, n_iter=1)
        drift = max(float(np.trace(model.transition_covariance)) / size, 1e-300)
        noise = max(float(model.observation_covariance[0, 0]), floor)
        model.transition_covariance = drift * np.eye(size)
        model.observation_covariance = np.array([[noise]])
        before, likelihood = likelihood, float(model.loglikelihood(ys))
        converged = abs(likelihood - before) <= least * abs(before)
    return KalmanNoise(drift / (1.0 + drift), noise, likelihood, done, converged)


def _kalman_model(y: Array, x: Array, start: HedgeRatio, intercept: bool) -> KalmanFilter:
    """The random-walk regression in pykalman's terms, begun at the OLS estimate."""
    size = 2 if intercept else 1
    design = np.column_stack([x, np.ones_like(x)])[:, :size]
    errors = y - start.intercept - start.beta * x
    one_row = float(errors @ errors) * np.linalg.inv(design.T @ design)
    return KalmanFilter(
        transition_matrices=np.eye(size),
        observation_matrices=design[:, None, :],
        initial_state_mean=np.array([start.beta, start.intercept])[:size],
        initial_state_covariance=one_row,
        em_vars=["transition_covariance", "observation_covariance"],
    )


def _set_noise(model: KalmanFilter, y: Array, delta: float, variance: float | None) -> float:
    """Give `model` its noise to begin with; returns the least observation variance to trust."""
    drift = check_number("delta", delta, 0.0, 1.0, open_low=True)
    size = model.initial_state_mean.size
    errors = y - model.observation_matrices[:, 0, :] @ model.initial_state_mean
    floor = float(np.finfo(np.float64).tiny) + 1e-24 * float(y @ y) / len(y)
    noise = max(float(errors @ errors) / len(y), floor) if variance is None else variance
    noise = check_number("observation_variance", noise, 0.0, math.inf, open_low=True)
    model.transition_covariance = drift / (1.0 - drift) * np.eye(size)
    model.observation_covariance = np.array([[noise]])
    return floor


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
    ys, xs = _pair(y, x)
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
        scores = rolling_score(values, length, check_ddof(ddof, length))
    return pd.Series(scores, index=series.index, name=series.name)


def rolling_score(values: Array, window: int, ddof: int = 1) -> Array:
    """The values of a rolling `zscore`."""
    moments = Moments(values, window)
    deviation = moments.deviation(ddof)
    known = (deviation > 0) & (deviation < np.inf)
    return moments.offset / np.where(known, deviation, np.nan)


def _full_zscore(values: Array, ddof: int) -> Array:
    known = values[~np.isnan(values)]
    check_ddof(ddof, max(len(known), 2))
    if len(known) <= ddof or known.min() == known.max():
        return np.full(len(values), np.nan)
    centre = known.mean()
    return np.asarray((values - centre) / (known - centre).std(ddof=ddof))


def adf_test(series: pd.Series[float], *, lags: int | None = None, trend: str = "c") -> AdfResult:
    """Full-sample augmented Dickey-Fuller test for a unit root.

    `lags`: exactly that many lagged differences, or None for the AIC's choice among
    0 … ⌈12(n/100)^¼⌉. `trend`: "n" none, "c" constant, "ct" constant and linear trend.
    p-value and critical values ('1%', '5%', '10%') are MacKinnon's (1994, 2010) for an observed
    series; for residuals of an estimated hedge ratio they are too lenient, use engle_granger.
    Raises ValueError for NaN or infinity, too few rows for the lags, a series that never changes
    or that the regression fits without error.
    """
    if trend not in ("n", "c", "ct"):
        raise ValueError(f'trend={trend!r} is not usable: "n", "c" or "ct" is allowed')
    fixed = None if lags is None else check_window("lags", lags, 0)
    terms = 0 if trend == "n" else len(trend)
    least = 2 * ((fixed or 0) + terms + 1) + (terms == 0)  # one degree of freedom left
    values = full_sample("series", series, least)
    if values.min() == values.max():
        raise ValueError(f"series is {values[0]:g} in every row: a unit-root test needs changes")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = adfuller(values, fixed, trend, "AIC" if fixed is None else None, result_object=True)
    if not math.isfinite(found.statistic):
        raise ValueError("series is fitted without error by its own past: no test is possible")
    return AdfResult(
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        lags=int(found.lags),
        nobs=int(found.nobs),
        critical_values={level: float(value) for level, value in found.critical_values.items()},
    )


def rolling_correlation(a: pd.Series[float], b: pd.Series[float], window: int) -> pd.Series[float]:
    """Pearson correlation of the last `window` rows of two Series.

    Within [-1, 1]. NaN for the first window-1 rows, for exactly the rows whose window holds a
    NaN or infinity in either, and where either does not vary over the window. Give it returns:
    the correlation of two price levels is mostly that of their trends.
    Raises ValueError for unequal indexes or a window that is no integer or below 2.
    """
    length = check_window("window", window, 2)
    of_a, of_b = series_values("a", a), series_values("b", b)
    same_index("a", a, "b", b)
    name = a.name if a.name == b.name else None
    return pd.Series(correlation(of_a, of_b, length), index=a.index, name=name)


def correlation(a: Array, b: Array, window: int) -> Array:
    """The values of `rolling_correlation`."""
    of_a, of_b = Moments(a, window), Moments(b, window)
    with np.errstate(all="ignore"):
        scale = np.sqrt(of_a.squares) * np.sqrt(of_b.squares)
        known = (scale > 0) & (scale < np.inf)
        return np.clip(of_a.cross(of_b) / np.where(known, scale, np.nan), -1.0, 1.0)
