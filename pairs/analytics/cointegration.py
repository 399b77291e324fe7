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
    "BothWays",
    "CointegrationResult",
    "JohansenResult",
    "engle_granger",
    "engle_granger_both",
    "half_life",
    "hurst_exponent",
    "johansen",
]

_TABULATED = 12  # columns for which Johansen's critical values exist


@dataclass(frozen=True, slots=True)
class CointegrationResult:
    """Engle-Granger test of y = intercept + beta·x [+ time_slope·t] + error; t = 1 … n.

    Attributes
    ----------
    statistic : float
        t-ratio of the residuals' lagged level, without a unit; the further below 0, the more for
        cointegration. Never NaN.
    p_value : float
        MacKinnon's p-value for two variables, within [0, 1]; small speaks for cointegration. Never
        NaN.
    lags : int
        Lagged differences of the regression on the residuals.
    nobs : int
        Rows of the regression on the residuals: n less 1 less `lags`.
    critical_values : dict of str to float
        Critical values of `statistic` at '1%', '5%' and '10%', for n - 1 rows. NaN with trend "n".
    beta : float
        Hedge ratio, in units of y per unit of x. Never NaN.
    intercept : float
        Level of the residual taken out, in the unit of y; 0 with trend "n".
    time_slope : float
        Change of the level per row, in the unit of y; 0 but for trend "ct".

    See Also
    --------
    engle_granger : The function that returns it.
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
    """Engle-Granger test with either leg explained.

    Attributes
    ----------
    y_on_x : CointegrationResult
        The test with y explained by x.
    x_on_y : CointegrationResult
        The test with x explained by y.
    p_value : float
        Twice the smaller of the two p-values, at most 1 (Bonferroni). A property; never NaN.

    See Also
    --------
    engle_granger_both : The function that returns it.
    """

    y_on_x: CointegrationResult
    x_on_y: CointegrationResult

    @property
    def p_value(self) -> float:
        """Bonferroni's, for having looked twice and kept the better."""
        return min(1.0, 2.0 * min(self.y_on_x.p_value, self.x_on_y.p_value))


@dataclass(frozen=True, slots=True)
class JohansenResult:
    """Johansen's test of k legs; entry r of a statistic tests at most r cointegrating relations.

    Attributes
    ----------
    eigenvalues : numpy.ndarray of float, shape (k,)
        Squared canonical correlations, largest first, within [0, 1].
    trace : numpy.ndarray of float, shape (k,)
        Trace statistics; entry r against at most r relations.
    max_eigen : numpy.ndarray of float, shape (k,)
        Maximum-eigenvalue statistics; entry r against at most r relations.
    critical_values : dict of str to numpy.ndarray of float, shape (k, 3)
        'trace' and 'max_eigen': one row per r, columns for 90, 95 and 99 %.
    vectors : numpy.ndarray of float, shape (k, k)
        One column per eigenvalue, in their order; a row per leg, in one over the leg's unit. Scaled
        to v'S_kk v = I; the sign is free.

    See Also
    --------
    johansen : The function that returns it.

    Notes
    -----
    None of the entries is NaN. None but the vectors has a unit.
    """

    eigenvalues: Array
    trace: Array
    max_eigen: Array
    critical_values: dict[str, Array]
    vectors: Array

    def rank(self, confidence: int = 95) -> int:
        """Count the cointegrating relations that the trace test finds.

        Parameters
        ----------
        confidence : {95, 90, 99}, default 95
            Confidence of each test, in percent.

        Returns
        -------
        int
            The first r whose trace is not above its critical value; k where all are above.

        Raises
        ------
        ValueError
            For any other `confidence`.
        """
        if confidence not in (90, 95, 99):
            raise ValueError(f"confidence={confidence!r} is not usable: 90, 95 or 99 is allowed")
        limits = self.critical_values["trace"][:, (90, 95, 99).index(confidence)]
        held = np.flatnonzero(self.trace <= limits)
        return int(held[0]) if held.size else len(limits)


def engle_granger(
    y: pd.Series[float], x: pd.Series[float], *, lags: int | None = None, trend: str = "c"
) -> CointegrationResult:
    """Run the full-sample Engle-Granger test: is y - beta·x stationary? A small p_value says so.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Finite numbers only; it must change. How many rows are
        needed depends on `lags` and `trend`: 5 by default.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Finite numbers only; it must change.
    lags : int or None, default None
        Exactly that many lagged differences of the residuals, 0 or more. None: the AIC's choice, as
        in `adf_test`.
    trend : {"c", "n", "ct"}, default "c"
        Deterministic terms of the cointegrating regression: "n" none, "c" a constant, "ct" a
        constant and linear time.

    Returns
    -------
    CointegrationResult
        `statistic`, `p_value`, `lags`, `nobs`, `critical_values` ('1%', '5%', '10%'), `beta` in
        units of y per unit of x, `intercept` and `time_slope` in the unit of y. Only the critical
        values can be NaN, and only with trend "n".

    Raises
    ------
    ValueError
        For NaN or infinity, unequal indexes, too few rows for the lags, a leg that never changes,
        legs that are an exact function of each other, an `x` that is nothing but its deterministic
        terms, a residual that its own past fits without error, other values of `lags` or `trend`,
        or a leg that is no Series of real numbers.

    See Also
    --------
    engle_granger_both : Either leg explained, and what looking twice costs.
    johansen : A test in which no leg is the one explained.
    pairs.analytics.unitroot.adf_test : For a spread whose hedge ratio was not estimated.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    First y = intercept + beta·x [+ time_slope·t] + e by least squares, t = 1 … n; then the
    unit-root regression Δe_t = ρ·e_{t-1} + Σ γ_i·Δe_{t-i} without deterministic terms, as the
    residuals have none [1]_. The statistic is the t-ratio of ρ. `trend` belongs to the first
    regression only.

    p-value and critical values are MacKinnon's [2]_ for two variables, the latter at n - 1 rows as
    Stata and statsmodels have it. With trend "n" the critical values are NaN, since MacKinnon
    (2010) does not tabulate them; the p-value is known.

    Trap: the limits of `adf_test` would be too lenient here, since beta was chosen to make e look
    stationary.

    References
    ----------
    .. [1] Engle and Granger (1987), Econometrica 55, 251-276.
    .. [2] MacKinnon (1994), p-values; MacKinnon (2010), critical values; see
       `pairs.analytics.mackinnon`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> walk = pd.Series(np.random.default_rng(1).normal(size=500).cumsum())
    >>> noise = pd.Series(np.random.default_rng(2).normal(size=500))
    >>> test = engle_granger(2 * walk + noise, walk)
    >>> round(test.beta, 1), test.p_value < 0.01
    (2.0, True)
    >>> engle_granger(noise.cumsum(), walk).p_value > 0.1  # two walks of their own
    True
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
    """Run the full-sample Engle-Granger test of y on x and of x on y.

    The verdict depends on which leg is explained, so both are shown.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        One leg, in any unit. Finite numbers only; it must change.
    x : pandas.Series of float, shape (n,)
        The other leg, with the same index as `y`. Finite numbers only; it must change.
    lags : int or None, default None
        Lagged differences of the residuals in each test, as in `engle_granger`.
    trend : {"c", "n", "ct"}, default "c"
        Deterministic terms of each cointegrating regression, as in `engle_granger`.

    Returns
    -------
    BothWays
        `y_on_x` and `x_on_y`, each a `CointegrationResult`, and `p_value`, twice the smaller one,
        at most 1.

    Raises
    ------
    ValueError
        As `engle_granger`.

    See Also
    --------
    engle_granger : The test of one direction.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    Trap: the smaller p-value alone would be the better of two tries; the `p_value` of the pair pays
    for that (Bonferroni).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> legs = pd.DataFrame(np.random.default_rng(1).normal(size=(300, 2))).cumsum()
    >>> both = engle_granger_both(legs[0], legs[1])
    >>> both.p_value == min(1.0, 2 * min(both.y_on_x.p_value, both.x_on_y.p_value))
    True
    """
    return BothWays(
        engle_granger(y, x, lags=lags, trend=trend), engle_granger(x, y, lags=lags, trend=trend)
    )


def johansen(frame: pd.DataFrame, *, trend: int = 0, lags: int = 1) -> JohansenResult:
    """Run the full-sample Johansen test for the number of cointegrating relations of the columns.

    Parameters
    ----------
    frame : pandas.DataFrame of float, shape (n, k)
        One column per leg, 2 to 12 of them, each name once, in any units. Finite numbers only; each
        leg must change. At least k·(lags + 2) + lags + 4 rows.
    trend : {0, -1, 1}, default 0
        Deterministic order: -1 none, 0 a constant, 1 linear.
    lags : int, default 1
        Lagged differences in the vector error correction, 0 or more.

    Returns
    -------
    JohansenResult
        `eigenvalues`, `trace`, `max_eigen` (shape (k,)), `critical_values` (90, 95 and 99 %) and
        `vectors` (shape (k, k)), without NaN. ``rank(95)`` counts the relations.

    Raises
    ------
    ValueError
        For NaN or infinity, too few rows, legs that depend on each other, a leg that never
        changes, a name that stands twice, fewer than 2 or more than 12 columns, other values of
        `trend` or `lags`, or a `frame` that is no DataFrame of real numbers.

    See Also
    --------
    engle_granger : For two legs, of which one is explained.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    The eigenvalues λ are the squared canonical correlations of steps and levels, both freed of
    `lags` lagged steps [1]_. With T rows left, trace[r] = -T·Σ ln(1 - λ_i) over i > r and
    max_eigen[r] = -T·ln(1 - λ_{r+1}), λ_1 being the largest. They are computed through two QR
    factors, which squares no condition number.

    Conventions are those of LeSage's Econometrics Toolbox, which takes the trend out before and the
    mean again after differencing. Critical values are those of [2]_.

    Trap: the level is the one before the step. Which one it is does not matter while lagged steps
    are taken out, but with ``lags=0`` it does: statsmodels takes the level behind the step, and its
    statistics there are others.

    References
    ----------
    .. [1] Johansen (1988), J. Econ. Dynamics and Control 12, 231-254.
    .. [2] MacKinnon, Haug and Michelis (1996).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> walk = np.random.default_rng(1).normal(size=500).cumsum()
    >>> noise = np.random.default_rng(2).normal(size=500)
    >>> found = johansen(pd.DataFrame({"y": 2 * walk + noise, "x": walk}))
    >>> found.rank(), (found.trace > found.critical_values["trace"][:, 1]).tolist()  # at 95 %
    (1, [True, False])
    >>> (found.vectors[:, 0] / found.vectors[0, 0]).round(1).tolist()  # the spread is y - 2·x
    [1.0, -2.0]
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
    """Estimate the full-sample half-life of a spread's return to its mean, in bars.

    Parameters
    ----------
    spread : pandas.Series of float, shape (n,)
        The spread, in any unit. Finite numbers only, at least 4 rows; it must change before the
        last one.

    Returns
    -------
    float
        Half-life in bars (rows); inf where the spread does not return. Never NaN.

    Raises
    ------
    ValueError
        For NaN or infinity, fewer than 4 rows, a spread that never changes (all rows but the last
        are equal), or a `spread` that is no Series of real numbers.

    See Also
    --------
    hurst_exponent : Another measure of how a series returns.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    -ln 2/b with b the slope of the change on the level before it, intercept included: that of an
    Ornstein-Uhlenbeck process seen in whole bars [1]_. inf where b ≥ 0.

    Traps: a spread that halves from bar to bar has b = -½ and so a half-life of 1.39, not 1. b is
    biased downwards, and a random walk, too, shows a half-life.

    References
    ----------
    .. [1] Chan, *Algorithmic Trading* (2013), ch. 2, eq. 2.6 and example 2.5.

    Examples
    --------
    >>> import pandas as pd
    >>> round(half_life(pd.Series([8.0, 4.0, 2.0, 1.0])), 4)  # ln 2/½
    1.3863
    >>> half_life(pd.Series([1.0, 2.0, 4.0, 8.0]))  # runs away
    inf
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
    """Estimate the full-sample Hurst exponent of a series.

    Below ½ the series returns to its mean, at ½ it walks at random, above ½ it trends.

    Parameters
    ----------
    series : pandas.Series of float, shape (n,)
        The series as given, no logs taken, in any unit. Finite numbers only, at least `max_lag` + 2
        rows.
    max_lag : int, default 99
        Longest lag in rows, at least 3; at least 15 for "rs".
    method : {"std", "rs"}, default "std"
        "std" by the deviation of differences, "rs" by the rescaled range.

    Returns
    -------
    float
        The exponent, without a unit. Never NaN.

    Raises
    ------
    ValueError
        For NaN or infinity, fewer than `max_lag` + 2 rows, a `max_lag` below 3 (15 for "rs") or no
        integer, another `method`, a series whose differences over some lag are all equal, or a
        `series` that is no Series of real numbers.

    See Also
    --------
    half_life : How fast a spread returns, in bars.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    "std" [1]_: the slope of log(standard deviation of the differences over k rows, ddof 0) on
    log(k), for lags k = 2 … `max_lag`.

    "rs" [2]_: the slope of log(mean R/S) of the one-step differences on log(rows), over windows of
    8, 16, … rows up to `max_lag` + 1.

    Trap: "rs" has no correction for short windows, which biases it upwards.

    References
    ----------
    .. [1] Mandelbrot and van Ness (1968), SIAM Review 10, 422-437.
    .. [2] Hurst (1951), Trans. ASCE 116, 770-799 (rescaled range).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> noise = pd.Series(np.random.default_rng(1).normal(size=5000))
    >>> round(hurst_exponent(noise.cumsum()), 1)  # a random walk
    0.5
    >>> hurst_exponent(noise) < 0.1
    True
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
