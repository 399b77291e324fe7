"""The hedge ratio as a state that drifts, and the noise it drifts with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from arguments import (
    Array,
    check_flag,
    check_number,
    check_window,
    full_sample,
    two_series,
)
from compiled import FLAG, NUMBER, VECTOR, compiled
from hedge import HedgeRatio, ols_hedge_ratio

if TYPE_CHECKING:
    from pykalman import KalmanFilter

__all__ = [
    "KALMAN_COLUMNS", "KalmanNoise", "fit_kalman_noise", "kalman_hedge_ratio", "kalman_zscore",
]  # fmt: skip

_STATE = ("beta", "intercept", "beta_prior", "intercept_prior")
KALMAN_COLUMNS = (*_STATE, "innovation", "innovation_std", "beta_std")
_PUBLIC = pd.Index(KALMAN_COLUMNS[:-1])


@dataclass(frozen=True, slots=True)
class KalmanNoise:
    """Noise of the Kalman hedge ratio, fitted to a whole sample."""

    delta: float
    observation_variance: float
    log_likelihood: float
    iterations: int
    converged: bool


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
    ys, xs = two_series("y", y, "x", x)
    table = _path(ys, xs, delta, observation_variance, intercept, deviations=False)
    return pd.DataFrame(table.T, index=y.index, columns=_PUBLIC.copy(), copy=False)


def kalman_zscore(
    y: pd.Series[float],
    x: pd.Series[float],
    *,
    delta: float = 1e-4,
    observation_variance: float = 1e-3,
    intercept: bool = True,
) -> pd.Series[float]:
    """Innovation of `kalman_hedge_ratio` over its own standard deviation, row by row.

    Needs no window: the filter states how far off it expects to be. Standard normal where the
    noise given is the noise there is; a deviation far from 1 over many rows says that it is not
    (see fit_kalman_noise). Index of y; NaN where either leg is missing. Errors as
    `kalman_hedge_ratio`.
    Source: Chan, *Algorithmic Trading* (2013), ch. 3, example 3.3: entry at one deviation.
    """
    ys, xs = two_series("y", y, "x", x)
    path = kalman_path(ys, xs, delta, observation_variance, intercept=intercept)
    return pd.Series(path["innovation"] / path["innovation_std"], index=y.index, name="zscore")


def kalman_path(
    y: Array, x: Array, delta: float, observation_variance: float, *, intercept: bool = True
) -> dict[str, Array]:
    """Arrays of `kalman_hedge_ratio`, and beta_std, the posterior deviation of beta."""
    table = _path(y, x, delta, observation_variance, intercept, deviations=True)
    return dict(zip(KALMAN_COLUMNS, table, strict=True))


def _path(
    y: Array,
    x: Array,
    delta: float,
    observation_variance: float,
    intercept: bool,
    *,
    deviations: bool,
) -> Array:
    """Rows in the order of KALMAN_COLUMNS, the last one only where asked for."""
    drift = check_number("delta", delta, 0.0, 1.0, open_low=True)
    noise = check_number("observation_variance", observation_variance, 0.0, math.inf, open_low=True)
    drift /= 1.0 - drift
    alpha_drift = drift if check_flag("intercept", intercept) else 0.0
    return cast(Array, _filter(y, x, drift, alpha_drift, noise, deviations))


@compiled(VECTOR, VECTOR, NUMBER, NUMBER, NUMBER, FLAG)
def _filter(y, x, drift, alpha_drift, noise, deviations):  # type: ignore[no-untyped-def]
    """Rows in the order of KALMAN_COLUMNS.

    The covariance [[p, c], [c, r]] is carried together with its determinant d: the update
    p ← (d + p·v)/q and d ← d·v/q then holds no difference of large numbers, where the textbook's
    P - K·H·P loses a variance of 1e-13 (a price of 60,000) in a prior of 1e-4. All four are kept
    times a common weight w, whose update is the same without its division by q: a division in
    every row's path to the next would take most of the time.
    """
    rows = len(y)
    out = np.empty((7 if deviations else 6, rows))
    b = a = p = c = r = d = 0.0
    w = 1.0
    for t in range(rows):
        if t:
            d += drift * r + alpha_drift * p + drift * alpha_drift * w
            p += drift * w
            r += alpha_drift * w
        price = x[t]
        error = y[t] - b * price - a
        if error != error:  # NaN: the state waits
            out[:, t] = np.nan
            continue
        out[2, t] = b
        out[3, t] = a
        out[4, t] = error
        q = price * price * p + (2.0 * price * c + (r + noise * w))
        step = error / q
        b += (p * price + c) * step
        a += (c * price + r) * step
        out[0, t] = b
        out[1, t] = a
        out[5, t] = math.sqrt(q / w)
        p, c, r, d = (
            d + p * noise, c * noise - price * d, r * noise + price * price * d, d * noise,
        )  # fmt: skip
        w = q
        if deviations:
            out[6, t] = p / w
        if not 1e-30 < w < 1e30:
            p, c, r, d, w = p / w, c / w, r / w, d / w, 1.0
    if deviations:
        for t in range(rows):  # apart, where the processor takes several roots at once
            out[6, t] = math.sqrt(out[6, t])
    return out


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
    from pykalman import KalmanFilter  # loads much of scipy: only where noise is fitted

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
