"""The keystone: one causal view of a pair, from which page, alerts, features and backtest take.

What is seen is what is tested and what is traded, because it is computed once, here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from arguments import Array, check_number, check_window, frame_values
from hedge import ols_hedge_ratio
from indicators import log_returns
from kalman import kalman_path
from resampling import align
from windows import window_correlation, window_fit, window_score

__all__ = ["COLUMNS", "PairPoint", "PairSpec", "PairView", "pair_view"]

Hedge = Literal["ols", "rolling", "kalman", "fixed"]
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
    """What to compute of a pair. Fields a hedge does not use are checked but have no effect.

    `hedge`: "rolling" (least squares over `hedge_window` bars, None: `window`), "kalman"
    (`delta`, `observation_variance`), "fixed" (`beta`), or "ols": one fit of the whole sample,
    which looks ahead and is for inspection only. `window`: bars of z-score and correlation.
    Raises ValueError naming the field.
    """

    hedge: Hedge = "rolling"
    window: int = 60
    hedge_window: int | None = None
    beta: float | None = None
    delta: float = 1e-4
    observation_variance: float = 1e-3

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
        check_number("delta", self.delta, 0.0, 1.0, open_low=True)
        check_number(
            "observation_variance", self.observation_variance, 0.0, math.inf, open_low=True
        )

    @property
    def fit_window(self) -> int:
        """Bars of the rolling fit."""
        return self.window if self.hedge_window is None else self.hedge_window

    @property
    def bars_needed(self) -> int:
        """Aligned bars until the first z-score."""
        return self.window + (self.fit_window - 1 if self.hedge == "rolling" else 0)


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
    "ols"): such a view must not be traded or tested on.
    """

    spec: PairSpec
    frame: pd.DataFrame
    in_sample: bool

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
    """Everything known about a pair at the close of each bar, computed once.

    `bars_y`, `bars_x`: bars with DatetimeIndex (UTC) and a column close; rows that only one leg
    has are left out, nothing is filled forward. Columns of the result:
    beta, intercept: rolling, of the fit that ends at the row; kalman, after the row; fixed, the
    number given and 0. beta_std: standard error of the window's slope, posterior deviation of
    the Kalman state, NaN for fixed. spread: y - intercept - beta·x of closes; kalman, the
    innovation (y less the forecast made before the row). zscore: of the spread over `window`
    rows, ddof 1. correlation: of the log returns between consecutive rows over `window` returns.
    A missing close makes NaN of every row whose windows hold it, and of nothing else.
    Causal: row t uses rows ≤ t, unless `in_sample` says otherwise. Raises ValueError for bars
    without close, without DatetimeIndex or with one timestamp twice.
    """
    check_spec(spec)
    bars_y, bars_x = align(bars_y, bars_x)
    y, x = frame_values("bars_y", bars_y, "close"), frame_values("bars_x", bars_x, "close")
    beta, intercept, beta_std, spread = _hedged(y, x, spec)
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
    return PairView(spec=spec, frame=frame, in_sample=spec.hedge == "ols")


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
        path = kalman_path(y, x, spec.delta, spec.observation_variance)
        return path["beta_prior"], path["innovation"]
    if spec.hedge == "rolling":
        beta, intercept, _ = window_fit(y, x, spec.fit_window, errors=False)
        spread = y - intercept
        spread -= beta * x
        return beta, spread
    beta = np.full(len(y), spec.beta, dtype=np.float64)
    spread = beta * x
    return beta, np.subtract(y, spread, out=spread)


def _hedged(y: Array, x: Array, spec: PairSpec) -> tuple[Array, Array, Array, Array]:
    """Arrays beta, intercept, beta_std, spread."""
    if spec.hedge == "kalman":
        path = kalman_path(y, x, spec.delta, spec.observation_variance)
        return path["beta"], path["intercept"], path["beta_std"], path["innovation"]
    if spec.hedge == "rolling":
        beta, intercept, error = window_fit(y, x, spec.fit_window)
    else:
        figures = _full_fit(y, x) if spec.hedge == "ols" else (spec.beta, 0.0, math.nan)
        beta, intercept, error = (np.full(len(y), figure, dtype=np.float64) for figure in figures)
    return beta, intercept, error, y - intercept - beta * x


def _full_fit(y: Array, x: Array) -> tuple[float, float, float]:
    """Whole-sample beta, intercept, standard error; NaN until x has varied over 3 known rows."""
    known = ~(np.isnan(y) | np.isnan(x))
    if known.sum() < 3 or x[known].min() == x[known].max():
        return math.nan, math.nan, math.nan
    fit = ols_hedge_ratio(pd.Series(y[known]), pd.Series(x[known]))
    return fit.beta, fit.intercept, fit.std_error
