"""The keystone: one causal view of a pair, from which page, alerts, features and backtest take.

What is seen is what is tested and what is traded, because it is computed once, here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from pairs.analytics.hedge import ols_hedge_ratio
from pairs.analytics.indicators import log_returns
from pairs.analytics.kalman import check_noise, kalman_path, own_score
from pairs.analytics.windows import window_correlation, window_fit, window_score
from pairs.bars.resampling import align
from pairs.checks import Array, check_number, check_window, frame_values

__all__ = ["COLUMNS", "PairPoint", "PairSpec", "PairView", "pair_view"]

Hedge = Literal["ols", "rolling", "kalman", "fixed"]
_FAR = (0.5, 2.0)  # a filter that expects errors twice or half as large as they come
# In the order of the fields of PairPoint.
COLUMNS = (
    "close_y",
    "close_x",
    "beta",
    "intercept",
    "beta_std",
    "spread",
    "zscore",
    "correlation",
)


@dataclass(frozen=True, slots=True)
class PairSpec:
    """What to compute of a pair: how it is hedged, and over how many bars.

    Fields a hedge does not use are checked but have no effect.

    Attributes
    ----------
    hedge : {"rolling", "kalman", "fixed", "ols"}, default "rolling"
        "rolling": least squares over `hedge_window` bars. "kalman": a filter with a memory of
        `hedge_window` bars, which does not depend on units; or with the noise `delta` and
        `observation_variance`. "fixed": `beta`. "ols": one fit of the whole sample, which looks
        ahead and is for inspection only.
    window : int, default 60
        Bars of z-score and correlation, at least 2.
    hedge_window : int or None, default None
        Bars of the rolling fit or of the filter's memory, at least 2. None: `window`.
    beta : float or None, default None
        Hedge ratio of "fixed", which needs it; finite, in units of y per unit of x.
    delta : float or None, default None
        Drift of the Kalman filter, in (0, 1); delta/(1-delta) is in the units of the prices. Given
        together with `observation_variance`, or neither.
    observation_variance : float or None, default None
        Noise of the Kalman filter, y's unit squared; finite, above 0.
    fit_window : int
        Bars of the rolling fit, or that a filter without noise given remembers (a property).
    bars_to_spread : int
        Common bars until the first spread (a property).
    bars_needed : int
        Common bars until the first z-score (a property).

    Raises
    ------
    ValueError
        Naming the field, what was received and what is allowed. NaN is refused everywhere.

    See Also
    --------
    pair_view : Computes it.

    Examples
    --------
    The first fit ends at bar 60, and 29 more spreads fill the window of the z-score.

    >>> PairSpec(window=30, hedge_window=60).bars_needed
    89
    >>> PairSpec(hedge="fixed", beta=0.5).bars_needed
    60
    """

    hedge: Hedge = "rolling"
    window: int = 60
    hedge_window: int | None = None
    beta: float | None = None
    delta: float | None = None
    observation_variance: float | None = None

    def __post_init__(self) -> None:
        if self.hedge not in get_args(Hedge):
            allowed = ", ".join(get_args(Hedge))
            raise ValueError(f"hedge={self.hedge!r} is not usable: one of {allowed} is allowed")
        check_window("window", self.window, 2)
        if self.hedge_window is not None:
            check_window("hedge_window", self.hedge_window, 2)
        if self.beta is not None:
            check_number("beta", self.beta, -math.inf, math.inf, open_low=True)
        elif self.hedge == "fixed":
            raise ValueError("beta=None is not usable with hedge='fixed': a number is allowed")
        check_noise(self.delta, self.observation_variance)

    @property
    def fit_window(self) -> int:
        """Bars of the rolling fit, or that a Kalman filter without noise given remembers."""
        return self.window if self.hedge_window is None else self.hedge_window

    @property
    def bars_to_spread(self) -> int:
        """Aligned bars until the first spread."""
        if self.hedge == "kalman" and self.delta is None:
            return self.fit_window + 1
        return self.fit_window if self.hedge == "rolling" else 1

    @property
    def bars_needed(self) -> int:
        """Aligned bars until the first z-score."""
        return self.window + self.bars_to_spread - 1


@dataclass(frozen=True, slots=True)
class PairPoint:
    """One row of a PairView. NaN where a figure is not defined yet."""

    ts: pd.Timestamp
    close_y: float
    close_x: float
    beta: float
    intercept: float
    beta_std: float
    spread: float
    zscore: float
    correlation: float


@dataclass(frozen=True, slots=True)
class PairView:
    """Hedge ratio, spread, z-score and correlation of a pair, one row per aligned bar.

    `frame` is indexed by `ts` (UTC, open time) with the columns of `COLUMNS`; row t is known at
    the close of bar t. `in_sample` is True where the hedge ratio has seen the future (hedge
    "ols"): such a view must not be traded or tested on. `filter_deviation`: see the function;
    NaN where there is no filter.
    """

    spec: PairSpec
    frame: pd.DataFrame
    in_sample: bool
    filter_deviation: float = math.nan

    @property
    def warmup(self) -> tuple[int, int]:
        """Bars there are, and bars needed for the first z-score."""
        return len(self.frame), self.spec.bars_needed

    def latest(self) -> PairPoint | None:
        """The last row, None where the legs have no bar in common."""
        if self.frame.empty:
            return None
        figures = self.frame.iloc[-1:].to_numpy(dtype=np.float64)[0].tolist()
        return PairPoint(self.frame.index[-1], *figures)


def check_spec(spec: object) -> PairSpec:
    """`spec` where it is a PairSpec; ValueError otherwise."""
    if not isinstance(spec, PairSpec):
        raise ValueError(f"spec is a {type(spec).__name__}: a PairSpec is allowed")
    return spec


def pair_view(bars_y: pd.DataFrame, bars_x: pd.DataFrame, spec: PairSpec) -> PairView:
    """Compute everything known about a pair at the close of each bar, once.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg (y is explained by x) with a DatetimeIndex of open times (UTC; without a
        zone taken as UTC), in any order, each once, and a column close (price). Rows that only one
        leg has are left out, nothing is filled forward. NaN is allowed, an infinity counts as NaN.
    spec : PairSpec
        Hedge and windows.

    Returns
    -------
    PairView
        Its `frame` has one row per common bar, in order of time, index `ts` (UTC, open time), and
        the columns

        close_y, close_x
            The closes.
        beta, intercept
            rolling: of the fit that ends at the row; kalman: after the row; fixed: the number given
            and 0; ols: of the whole sample. Units of y per unit of x, and units of y. NaN where x
            does not vary.
        beta_std
            Standard error of the window's slope (ols: of the whole fit's); kalman: the posterior
            deviation of the state; NaN for fixed, and for a fit of two rows.
        spread
            y - intercept - beta·x of closes, units of y; kalman: the innovation, y less the
            forecast made before the row.
        zscore
            Of the spread over `window` rows, ddof 1; NaN where the spread does not vary there.
        correlation
            Of the log returns between consecutive rows over `window` returns, in [-1, 1]; NaN where
            either does not vary, or a close is not positive.

        NaN until the windows are full. A missing close makes NaN of every row whose windows hold
        it, and of nothing else; a Kalman filter waits there, and warms up one row longer where it
        still does.

    Raises
    ------
    ValueError
        For bars without close or without DatetimeIndex, with one timestamp twice or one missing,
        for legs of different length of bars, and for a spec that is no PairSpec.

    See Also
    --------
    PairSpec : What can be asked for.

    Notes
    -----
    Row t uses rows ≤ t and is known at the close of bar t, unless `in_sample` of the result says
    otherwise: with hedge "ols" beta has seen the end of the sample, and such a view must not be
    traded or tested on.

    Examples
    --------
    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=4, freq="1min", tz="UTC")
    >>> x = pd.DataFrame({"close": [10.0, 11.0, 10.0, 12.0]}, index)
    >>> y = pd.DataFrame({"close": [21.0, 22.0, 21.0, 24.0]}, index)
    >>> view = pair_view(y, x, PairSpec(hedge="fixed", beta=2.0, window=2))
    >>> view.frame[["spread", "zscore"]].round(2).to_numpy().tolist()
    [[1.0, nan], [0.0, -0.71], [1.0, 0.71], [0.0, -0.71]]
    """
    check_spec(spec)
    bars_y, bars_x = align(bars_y, bars_x)
    y, x = frame_values("bars_y", bars_y, "close"), frame_values("bars_x", bars_x, "close")
    beta, intercept, beta_std, spread, deviation = _hedged(y, x, spec)
    columns = {
        "close_y": y,
        "close_x": x,
        "beta": beta,
        "intercept": intercept,
        "beta_std": beta_std,
        "spread": spread,
        "zscore": window_score(spread, spec.window),
        "correlation": window_correlation(log_returns(y), log_returns(x), spec.window),
    }
    frame = pd.DataFrame(columns, index=bars_y.index)
    return PairView(spec, frame, in_sample=spec.hedge == "ols", filter_deviation=deviation)


def traded_hedge(y: Array, x: Array, spec: PairSpec) -> tuple[Array, Array]:
    """Arrays of the hedge ratio that a signal of the row trades, and of the spread.

    `y`, `x`: closes of the common bars. The spread is that of `pair_view` to the last bit, the
    hedge ratio the one it was measured with: that of `pair_view`, but with a Kalman filter the
    state before the row, as its spread is the innovation. Row t uses rows ≤ t. "ols", which looks
    ahead, is refused.
    """
    if spec.hedge == "ols":
        raise ValueError("hedge='ols' is not usable here: it has seen the end of the sample")
    if spec.hedge == "kalman":
        path = _filtered(y, x, spec)
        return path["beta_prior"], path["innovation"]
    if spec.hedge == "rolling":
        beta, intercept, _ = window_fit(y, x, spec.fit_window, errors=False)
        spread = y - intercept
        spread -= beta * x
        return beta, spread
    beta = np.full(len(y), spec.beta, dtype=np.float64)
    spread = beta * x
    return beta, np.subtract(y, spread, out=spread)


def filter_deviation(y: Array, x: Array, spec: PairSpec) -> float:
    """Deviation of a Kalman filter's own score over the bars that have a z-score: 1 where its
    noise is that of the closes `y`, `x`. NaN for another hedge, or for fewer than 30 such bars."""
    return _deviation(_filtered(y, x, spec), spec) if spec.hedge == "kalman" else math.nan


def misfit(deviation: float) -> str | None:
    """What is wrong with a filter of that deviation; None where it is within a factor of 2 of 1,
    or not known."""
    if not (deviation < _FAR[0] or deviation > _FAR[1]):
        return None
    wrong = "too large" if deviation < 1 else "too small"
    return (
        f"The Kalman filter's own z-score deviates by {deviation:.3g} where 1 is right: the noise "
        f"it is given is {wrong} for these prices, and neither its hedge ratio nor its spread is "
        "to be trusted. Fit the noise, or give none."
    )


def _filtered(y: Array, x: Array, spec: PairSpec) -> dict[str, Array]:
    return kalman_path(y, x, spec.delta, spec.observation_variance, memory=spec.fit_window)


def _deviation(path: dict[str, Array], spec: PairSpec) -> float:
    score = own_score(path)[spec.bars_needed - 1 :]
    known = score[~np.isnan(score)]
    return float(known.std(ddof=1)) if len(known) >= 30 else math.nan


def _hedged(y: Array, x: Array, spec: PairSpec) -> tuple[Array, Array, Array, Array, float]:
    """Arrays beta, intercept, beta_std, spread; and the filter's deviation."""
    if spec.hedge == "kalman":
        path = _filtered(y, x, spec)
        arrays = path["beta"], path["intercept"], path["beta_std"], path["innovation"]
        return *arrays, _deviation(path, spec)
    if spec.hedge == "rolling":
        beta, intercept, error = window_fit(y, x, spec.fit_window)
    else:
        figures = _full_fit(y, x) if spec.hedge == "ols" else (spec.beta, 0.0, math.nan)
        beta, intercept, error = (np.full(len(y), figure, dtype=np.float64) for figure in figures)
    return beta, intercept, error, y - intercept - beta * x, math.nan


def _full_fit(y: Array, x: Array) -> tuple[float, float, float]:
    """Whole-sample beta, intercept, standard error; NaN until x has varied over 3 known rows."""
    known = ~(np.isnan(y) | np.isnan(x))
    if known.sum() < 3 or x[known].min() == x[known].max():
        return math.nan, math.nan, math.nan
    fit = ols_hedge_ratio(pd.Series(y[known]), pd.Series(x[known]))
    return fit.beta, fit.intercept, fit.std_error
