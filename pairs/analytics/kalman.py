"""The hedge ratio as a state that drifts, by noise that is given, fitted or met on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from pairs.analytics.hedge import ols_hedge_ratio
from pairs.checks import Array, check_flag, check_number, check_window, full_sample, two_series
from pairs.jit import FLAG, INT, NUMBER, VECTOR, compiled

__all__ = [
    "KALMAN_COLUMNS",
    "KalmanNoise",
    "discounted_hedge_ratio",
    "fit_kalman_noise",
    "kalman_hedge_ratio",
    "kalman_zscore",
]

_STATE = ("beta", "intercept", "beta_prior", "intercept_prior")
KALMAN_COLUMNS = (*_STATE, "innovation", "innovation_std", "beta_std")
_PUBLIC = pd.Index(KALMAN_COLUMNS[:-1])


@dataclass(frozen=True, slots=True)
class KalmanNoise:
    """Noise of the Kalman hedge ratio, fitted to a whole sample.

    Attributes
    ----------
    delta : float
        Drift of the state, within (0, 1): its covariance grows by delta/(1 - delta) per row, in
        squared units of beta and of the intercept. Never NaN.
    observation_variance : float
        Variance of the errors of y, in y's unit squared; above 0, never NaN.
    log_likelihood : float
        Log-likelihood of the filter's own forecasts with this noise, as `fit_kalman_noise` counts
        them: in natural logarithms, without its first rows.
    iterations : int
        Golden sections done.
    converged : bool
        False: the search ended at a bound of what can be tried, or before its time.

    See Also
    --------
    fit_kalman_noise : The function that returns it.
    """

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
    """Estimate a hedge ratio that drifts as a random walk, by a Kalman filter with given noise.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Infinity counts as NaN.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Infinity counts as NaN.
    delta : float, default 1e-4
        Drift, within (0, 1): the state's covariance grows by delta/(1 - delta)·I per row, which is
        in squared units of beta and of the intercept.
    observation_variance : float, default 1e-3
        Variance of the errors v, in y's unit squared. Positive and finite.
    intercept : bool, default True
        False keeps the intercept at 0.

    Returns
    -------
    pandas.DataFrame
        The index of `y` and six columns of float: `beta` and `intercept`, the state after the row;
        `beta_prior` and `intercept_prior`, the state before it; `innovation` = y - prior forecast;
        `innovation_std`, the square root of that forecast's variance, observation noise included.
        beta in units of y per unit of x, all others in the unit of y. A row with NaN or infinity
        in either leg is NaN throughout; the state waits, its variance growing by the drift.

    Raises
    ------
    ValueError
        For unequal indexes, a `delta` outside (0, 1), an `observation_variance` that is not
        positive and finite, an argument that is no Series of real numbers, or an `intercept` that
        is neither True nor False.

    See Also
    --------
    discounted_hedge_ratio : The same columns, with no noise to be told.
    fit_kalman_noise : The most likely noise of a sample.
    kalman_zscore : `innovation` over `innovation_std`.

    Notes
    -----
    Row t uses rows <= t; the columns `beta_prior`, `intercept_prior` use rows < t only.

    y_t = beta_t·x_t + intercept_t + v with var(v) = `observation_variance`; the state [beta,
    intercept] is a random walk whose steps have the covariance delta/(1 - delta)·I (eqs. 3.5-3.13
    of [1]_). With H = [x_t, 1]::

        before row t:  R = P + delta/(1 - delta)·I     (first row: R = P = 0, state 0)
        forecast:      e = y_t - H·s,  Q = H·R·Hᵀ + observation_variance
        after row t:   K = R·Hᵀ/Q,  s = s + K·e,  P = R - K·H·R

    The state starts at 0 with covariance 0, without drift at the first row; so the first rows only
    find the level, and the first innovation is the whole price.

    Traps: both noises have units, so the defaults do not suit every price: fit them
    (`fit_kalman_noise`) or use `discounted_hedge_ratio`. A residual by the state after the row is
    nearly 0, since that state has seen y_t: use `innovation`.

    References
    ----------
    .. [1] Chan, *Algorithmic Trading* (2013), ch. 3, eqs. 3.5-3.13.

    Examples
    --------
    >>> import pandas as pd
    >>> y, x = pd.Series([3.0, 5.0, 7.0]), pd.Series([1.0, 2.0, 3.0])
    >>> path = kalman_hedge_ratio(y, x)
    >>> path["innovation"].round(3).tolist()  # the state is 0 until the second row is seen
    [3.0, 5.0, 4.667]
    >>> path["beta_prior"].round(3).tolist()
    [0.0, 0.0, 0.667]
    """
    ys, xs = two_series("y", y, "x", x)
    table = _path(ys, xs, delta, observation_variance, intercept, deviations=False)
    return pd.DataFrame(table.T, index=y.index, columns=_PUBLIC.copy(), copy=False)


def discounted_hedge_ratio(
    y: pd.Series[float], x: pd.Series[float], *, memory: int = 60, intercept: bool = True
) -> pd.DataFrame:
    """Estimate a hedge ratio that drifts, by a Kalman filter with discounting: no noise to be told.

    The state [beta, intercept] drifts by a fixed share of what is not known of it, and the variance
    of the errors is learnt from the forecasts' own. So it has no units to set.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Infinity counts as NaN.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Infinity counts as NaN.
    memory : int, default 60
        How many rows are remembered, at least 2: the weights of the rows fall with their age as
        those of an `ema` of `memory` bars.
    intercept : bool, default True
        False keeps the intercept at 0.

    Returns
    -------
    pandas.DataFrame
        The index of `y` and the columns of `kalman_hedge_ratio`: `beta`, `intercept`, `beta_prior`,
        `intercept_prior`, `innovation`, `innovation_std`, in the same units. `beta` and `intercept`
        are known from the `memory`-th known row on, all others one known row
        later. `innovation_std` needs an earlier forecast: with ``memory=2`` and an intercept it
        comes two known rows later. A row with NaN or infinity in either leg is NaN throughout; the
        state waits and is discounted. NaN where x has not moved within what is remembered (is 0,
        without intercept).

    Raises
    ------
    ValueError
        For unequal indexes, a `memory` that is no integer or below 2, an argument that is no Series
        of real numbers, or an `intercept` that is neither True nor False.

    See Also
    --------
    kalman_hedge_ratio : The same with noise that is given.
    kalman_zscore : `innovation` over `innovation_std`.
    pairs.analytics.spread.rolling_hedge_ratio : Equal weights within a window.

    Notes
    -----
    Row t uses rows <= t; `beta_prior`, `intercept_prior`, `innovation` and `innovation_std` use the
    state before row t.

    Before each row the state's covariance grows by the factor 1/d = (memory + 1)/(memory - 1), a
    discount of all that was learnt ([1]_, section 6.3); the variance of the errors is that of the
    forecasts' own, discounted alike (section 10.8); the start is the reference analysis (section
    4.10). With H = [x_t, 1]::

        before row t:  R = C/d                     (nothing is known at first)
        forecast:      e = y_t - H·s,  Q = S·(1 + H·R·Hᵀ)
        after row t:   K = R·Hᵀ/(1 + H·R·Hᵀ),  s = s + K·e,  C = R - K·H·R
                       S = mean of e²/(1 + H·R·Hᵀ) so far, weighted by d^age

    That is the regression of all rows with weights d^age. So prices of either leg times a constant
    leave the size of every score `innovation`/`innovation_std` as it is; a negative constant on y
    turns its sign, one on x changes nothing.

    References
    ----------
    .. [1] West and Harrison, *Bayesian Forecasting and Dynamic Models* (2nd ed., 1997), sections
       6.3 (discount), 10.8 (variance) and 4.10 (reference analysis).

    Examples
    --------
    >>> import pandas as pd
    >>> x = pd.Series([1.0, 2.0, 3.0, 4.0])
    >>> path = discounted_hedge_ratio(2 * x + 1, x, memory=3)
    >>> path["beta"].round(6).tolist(), path["beta_prior"].round(6).tolist()
    ([nan, nan, 2.0, 2.0], [nan, nan, nan, 2.0])
    """
    ys, xs = two_series("y", y, "x", x)
    table = _discounted(
        ys, xs, check_window("memory", memory, 2), check_flag("intercept", intercept)
    )
    return pd.DataFrame(table[:-1].T, index=y.index, columns=_PUBLIC.copy(), copy=False)


def kalman_zscore(
    y: pd.Series[float],
    x: pd.Series[float],
    *,
    delta: float | None = None,
    observation_variance: float | None = None,
    memory: int = 60,
    intercept: bool = True,
) -> pd.Series[float]:
    """Compute a Kalman filter's innovation over its own standard deviation, row by row.

    Needs no window: the filter states how far off it expects to be.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Infinity counts as NaN.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Infinity counts as NaN.
    delta : float or None, default None
        Drift of `kalman_hedge_ratio`, within (0, 1). Given together with `observation_variance`,
        or not at all.
    observation_variance : float or None, default None
        Error variance of `kalman_hedge_ratio`, in y's unit squared; positive and finite. Given
        together with `delta`, or not at all.
    memory : int, default 60
        Memory of `discounted_hedge_ratio`, in rows, at least 2. Used where no noise is given.
    intercept : bool, default True
        False keeps the intercept at 0.

    Returns
    -------
    pandas.Series of float, shape (n,)
        The score, without a unit, with the index of `y` and the name "zscore". NaN where either leg
        is missing or the filter still warms up, and where it expects no deviation at all (an exact
        fit so far).

    Raises
    ------
    ValueError
        As `kalman_hedge_ratio` and `discounted_hedge_ratio`, and for one noise without the other.

    See Also
    --------
    discounted_hedge_ratio : The filter where no noise is given.
    kalman_hedge_ratio : The filter where both noises are given.
    fit_kalman_noise : The most likely noise of a sample.

    Notes
    -----
    Row t uses rows <= t: `innovation`/`innovation_std`, both of the state before row t. Without
    `delta` and `observation_variance` they are those of `discounted_hedge_ratio` with `memory`;
    with both, those of `kalman_hedge_ratio`. The source [1]_ enters a trade at one deviation.

    Trap: the score is standard normal only where the noise is the noise there is. A deviation of
    the scores far from 1 over many rows says that it is not (see `fit_kalman_noise`).

    References
    ----------
    .. [1] Chan, *Algorithmic Trading* (2013), ch. 3, example 3.3.

    Examples
    --------
    >>> import pandas as pd
    >>> y, x = pd.Series([3.0, 6.0]), pd.Series([1.0, 2.0])
    >>> kalman_zscore(y, x, delta=0.5, observation_variance=4.0).tolist()  # 3/√4, 6/√(2² + 1 + 4)
    [1.5, 2.0]
    >>> kalman_zscore(y, x, memory=2).tolist()  # still warms up
    [nan, nan]
    """
    ys, xs = two_series("y", y, "x", x)
    path = kalman_path(ys, xs, delta, observation_variance, memory=memory, intercept=intercept)
    return pd.Series(own_score(path), index=y.index, name="zscore")


def check_noise(delta: float | None, observation_variance: float | None) -> bool:
    """Whether the noise is given; ValueError where it cannot be one, or only half of it is."""
    if (delta is None) != (observation_variance is None):
        missing = "delta" if delta is None else "observation_variance"
        raise ValueError(
            f"{missing}=None is not usable beside the other noise of the Kalman filter: "
            "delta and observation_variance together, or neither, are allowed"
        )
    if delta is None:
        return False
    check_number("delta", delta, 0.0, 1.0, open_low=True)
    check_number("observation_variance", observation_variance, 0.0, math.inf, open_low=True)
    return True


def kalman_path(
    y: Array,
    x: Array,
    delta: float | None,
    observation_variance: float | None,
    *,
    memory: int = 60,
    intercept: bool = True,
) -> dict[str, Array]:
    """Arrays of `kalman_hedge_ratio`, or without noise of `discounted_hedge_ratio`; and beta_std,
    the posterior deviation of beta."""
    if check_noise(delta, observation_variance):
        given = cast(float, delta), cast(float, observation_variance)
        table = _path(y, x, *given, intercept, deviations=True)
    else:
        centred = check_flag("intercept", intercept)
        table = _discounted(y, x, check_window("memory", memory, 2), centred)
    return dict(zip(KALMAN_COLUMNS, table, strict=True))


def own_score(path: dict[str, Array]) -> Array:
    """The innovations over their own deviations; NaN where nothing is expected to deviate."""
    with np.errstate(divide="ignore", invalid="ignore"):
        score = path["innovation"] / path["innovation_std"]
    return np.where(np.isfinite(score), score, np.nan)


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
            d + p * noise,
            c * noise - price * d,
            r * noise + price * price * d,
            d * noise,
        )
        w = q
        if deviations:
            out[6, t] = p / w
        if not 1e-30 < w < 1e30:
            p, c, r, d, w = p / w, c / w, r / w, d / w, 1.0
    if deviations:
        for t in range(rows):  # apart, where the processor takes several roots at once
            out[6, t] = math.sqrt(out[6, t])
    return out


@compiled(VECTOR, VECTOR, INT, FLAG)
def _discounted(y, x, memory, centred):  # type: ignore[no-untyped-def]
    """Rows in the order of KALMAN_COLUMNS, see `discounted_hedge_ratio`.

    The covariance is carried as its inverse over the error's variance: the discounted sums of the
    regression about its own means. The means (u of x, v of y) are carried as distances from the
    newest row, so that the level of a price costs no digits, and one that stands still tends to 0.
    """
    out = np.full((7, len(y)), np.nan)
    keep = (memory - 1.0) / (memory + 1.0)
    weight = sxx = sxy = rss = dof = u = v = last_y = last_x = 0.0
    b = a = np.nan
    count = 0
    for t in range(len(y)):
        weight, sxx, sxy, rss, dof = (
            weight * keep,
            sxx * keep,
            sxy * keep,
            rss * keep,
            dof * keep,
        )
        price, value = x[t], y[t]
        if not abs(price + value) < np.inf:  # NaN: the state waits
            continue
        if not centred:
            u, v = -price, -value
        elif count > 0:
            u -= price - last_x
            v -= value - last_y
        if b == b:
            error, lever = b * u - v, u * u / sxx
            if centred:
                lever += 1.0 / weight
            if count >= memory:
                out[2, t], out[3, t], out[4, t] = b, a, error
                out[5, t] = math.sqrt(rss / dof * (1.0 + lever))
            rss += error * error / (1.0 + lever)
            dof += 1.0
        share = weight / (weight + 1.0) if centred else 1.0
        weight += 1.0
        sxx += share * u * u
        sxy += share * u * v
        u *= share
        v *= share
        last_y, last_x = value, price
        count += 1
        moved = sxx > (1e-14 * price) ** 2 * weight  # else x is nothing but rounding
        b = sxy / sxx if moved else np.nan
        a = value + v - b * (price + u) if centred else 0.0 * b
        if count >= memory:
            out[0, t], out[1, t] = b, a
            out[6, t] = math.sqrt(rss / dof / sxx)
    return out


# What is tried, in powers of ten: what the drift of a row does to y, over the noise.
_LEAST, _MOST, _STEP = -16.0, 16.0, 0.25
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


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
    """Fit the full-sample noise of `kalman_hedge_ratio` by maximum likelihood.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Finite numbers only, at least 20 rows.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Finite numbers only; it must vary (must
        not be zero in every row, without intercept).
    delta : float, default 1e-4
        A drift within (0, 1), to be tried together with `observation_variance`.
    observation_variance : float or None, default None
        An error variance to be tried, in y's unit squared, positive and finite. None: the variance
        of the residual of `ols_hedge_ratio`.
    iterations : int, default 20
        The most golden sections to do, at least 1.
    tolerance : float, default 1e-6
        The search ends where the log-likelihoods around the best place differ by no more than this
        per row; within [0, 1).
    intercept : bool, default True
        False keeps the intercept at 0.

    Returns
    -------
    KalmanNoise
        `delta`, `observation_variance` (y's unit squared), `log_likelihood`, `iterations` done and
        `converged`. No field is NaN.

    Raises
    ------
    ValueError
        As `ols_hedge_ratio`, for fewer than 20 rows, and for any other argument out of its range.

    See Also
    --------
    kalman_hedge_ratio : The filter whose noise this is.
    discounted_hedge_ratio : A filter that needs none.

    Notes
    -----
    Full-sample: the noise uses every row. Fit it on rows before those that are traded.

    The likelihood is that of the forecasts of `kalman_hedge_ratio` itself, Σ -½·(ln 2πQ + e²/Q)
    with e the innovation and Q its variance, but for the first rows (a tenth, 10 to 100), in which
    the filter comes from 0 to the level of the prices.

    For every ratio of drift to noise the most likely noise is the mean square of the errors over
    the variances forecast with noise 1 (the noise concentrated out, [1]_). So one number is left to
    search: first on the whole range of 32 powers of ten and at the values given, then by golden
    sections around the best place, until the log-likelihoods there agree within `tolerance` a row
    or `iterations` are done. These are some 130 to 150 passes of the filter.

    `converged` is False for a best at either end of the range, where the hedge ratio stands still
    or follows every row; for one that is not more likely than an end by more than 0.01 (by more
    than `tolerance` times the rows, where that is more); for noise too close to a bound (0, or 1
    for `delta`) to be a number of its own; and for a search cut short.

    References
    ----------
    .. [1] Harvey, *Forecasting, Structural Time Series Models and the Kalman Filter* (1989),
       section 3.4: prediction errors, and the noise concentrated out.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> x = pd.Series(50 + np.random.default_rng(1).normal(size=500).cumsum())
    >>> errors = np.random.default_rng(2).normal(size=500)  # of variance 1
    >>> noise = fit_kalman_noise(2 * x + errors, x)
    >>> round(noise.observation_variance, 1), noise.delta < 1e-4, noise.converged
    (1.0, True, True)
    """
    steps = check_window("iterations", iterations, 1)
    least = check_number("tolerance", tolerance, 0.0, 1.0, open_low=False)
    ys, xs = full_sample("y", y, 20), full_sample("x", x, 20)
    centred = check_flag("intercept", intercept)
    start = ols_hedge_ratio(y, x, intercept=centred)
    errors = ys - start.intercept - start.beta * xs
    search = _Likelihood(ys, xs, centred)
    guess = search.place(delta, observation_variance, float(errors @ errors) / len(ys))
    places = np.append(np.arange(_LEAST, _MOST + _STEP / 2, _STEP), guess)
    values = [search.at(float(place)) for place in places]
    best = float(places[int(np.argmax(values))])
    done, agreed = search.sharpen(best, steps, least)
    # A plateau up to an end is not a best place either: a hundredth of a unit must be between.
    ends = max(values[0], values[-2])
    beyond = search.best[0] - ends > max(1e-2, least * len(ys))
    return search.noise(done, converged=agreed and beyond)


class _Likelihood:
    """Log-likelihood of the filter, by the power of ten of what drift does to y over the noise.

    The drift of both states moves y by drift·(mean square of x, plus 1 for the intercept). y is
    divided by its root mean square, so that no price is too large or too small."""

    def __init__(self, y: Array, x: Array, centred: bool) -> None:
        self._unit = math.sqrt(float(y @ y) / len(y)) or 1.0
        self._y, self._x = y / self._unit, x
        self._lever = (float(x @ x) / len(x) or 1.0) + (1.0 if centred else 0.0)
        self._centred = centred
        self._skipped = min(100, max(10, len(y) // 10))
        self.best = (-math.inf, 0.0, 0.0)  # log-likelihood, place, noise in units of y

    def place(self, delta: float, noise: float | None, usual: float) -> float:
        """Where a noise given stands, within the range."""
        drift = check_number("delta", delta, 0.0, 1.0, open_low=True)
        given = max(usual, 1e-24 * self._unit**2) if noise is None else noise
        given = check_number("observation_variance", given, 0.0, math.inf, open_low=True)
        at = math.log10(drift / (1.0 - drift)) + math.log10(self._lever) - math.log10(given)
        return min(_MOST, max(_LEAST, at))

    def at(self, place: float) -> float:
        """The log-likelihood there, with the noise most likely there."""
        ratio = 10.0**place / self._lever
        table = _filter(self._y, self._x, ratio, ratio if self._centred else 0.0, 1.0, False)
        error, deviation = table[4, self._skipped :], table[5, self._skipped :]
        noise = max(float(np.mean((error / deviation) ** 2)), 1e-32)
        rows = len(error)
        value = -rows * (0.5 * math.log(2.0 * math.pi * noise) + 0.5 + math.log(self._unit))
        value -= float(np.log(deviation).sum())
        if value > self.best[0]:
            self.best = value, place, noise
        return value

    def sharpen(self, middle: float, steps: int, least: float) -> tuple[int, bool]:
        """Golden sections of the places around `middle`; how many, and whether they agree."""
        low, high = max(_LEAST, middle - _STEP), min(_MOST, middle + _STEP)
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        at_left, at_right = self.at(left), self.at(right)
        for done in range(1, steps + 1):
            if at_left >= at_right:
                high, right, at_right = right, left, at_left
                left = high - _GOLDEN * (high - low)
                at_left = self.at(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + _GOLDEN * (high - low)
                at_right = self.at(right)
            if abs(at_left - at_right) <= least * len(self._y):
                return done, True
        return steps, False

    def noise(self, done: int, *, converged: bool) -> KalmanNoise:
        """The best so far, in the units of the legs."""
        value, place, noise = self.best
        variance = noise * self._unit**2
        drift = 10.0**place / self._lever * variance
        delta = drift / (1.0 + drift)
        told = 0.0 < delta < 1.0 and variance > 0.0
        delta = min(max(delta, math.ulp(0.0)), 1.0 - 2.0**-53)
        return KalmanNoise(delta, max(variance, math.ulp(0.0)), value, done, converged and told)
