"""How likely a Sharpe ratio is luck: bootstrap interval, probabilistic and deflated Sharpe ratio.

All of it is about returns per bar; only what is named annual is annual.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pairs.backtest.curve import ROUNDING
from pairs.backtest.metrics import sharpe_ratio
from pairs.checks import Array, check_number, check_window
from pairs.jit import INT, NUMBER, VECTOR, compiled

__all__ = [
    "DeflatedSharpe",
    "Interval",
    "Moments",
    "block_length",
    "deflated_sharpe",
    "expected_best_sharpe",
    "minimum_track_record",
    "moments",
    "probabilistic_sharpe",
    "returns_of",
    "sharpe_interval",
]

_NORMAL = NormalDist()
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Moments:
    """Sharpe ratio per bar (ddof 1), skewness and kurtosis (3 for the normal) of n returns."""

    sharpe: float
    skewness: float
    kurtosis: float
    n: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of the annual Sharpe ratio; `block`: mean length of its blocks."""

    low: float
    high: float
    estimate: float
    level: float
    block: float
    samples: int


@dataclass(frozen=True, slots=True)
class DeflatedSharpe:
    """How probable it is that the true Sharpe ratio is above that of luck.

    `probability`: the deflated Sharpe ratio, in [0, 1]; `against_zero`: the probabilistic one;
    `benchmark`: the best annual Sharpe ratio that `trials` worthless strategies are expected to
    show; `sharpe`: the annual one judged. NaN where there is none.
    """

    probability: float
    against_zero: float
    benchmark: float
    sharpe: float
    trials: int


def returns_of(equity: npt.ArrayLike) -> Array:
    """Simple returns between consecutive closes, one fewer than there are."""
    values: Array = np.ascontiguousarray(equity, dtype=np.float64)
    if len(values) < 3 or not np.isfinite(values).all():
        raise ValueError(f"equity has {len(values)} values: at least 3 finite ones are allowed")
    return np.asarray(np.diff(values) / values[:-1])


def _vary(returns: Array) -> bool:
    """Whether returns differ by more than the rounding of the values they are made of."""
    if len(returns) < 2:
        return False
    least, most = float(returns.min()), float(returns.max())
    return most - least > ROUNDING * (1.0 + max(most, -least))


def moments(returns: Array) -> Moments:
    """Sharpe ratio per bar, skewness and kurtosis; NaN where the returns do not vary."""
    count = len(returns)
    if not _vary(returns):
        return Moments(math.nan, math.nan, math.nan, count)
    centred = returns - returns.mean()
    variance = float((centred**2).mean())
    deviation = math.sqrt(variance * count / (count - 1))
    return Moments(
        sharpe=float(returns.mean()) / deviation,
        skewness=float((centred**3).mean()) / variance**1.5,
        kurtosis=float((centred**4).mean()) / variance**2,
        n=count,
    )


def probabilistic_sharpe(found: Moments, benchmark: float = 0.0) -> float:
    """The probability that the true Sharpe ratio (per bar) is above `benchmark`, given the
    length, skewness and kurtosis of the returns.

    Source: Bailey and López de Prado (2012), J. of Risk 15(2), 3-44, eq. 11.
    """
    spread = 1.0 - found.skewness * found.sharpe + (found.kurtosis - 1.0) / 4.0 * found.sharpe**2
    if not spread > 0.0 or found.n < 2:
        return math.nan
    return _NORMAL.cdf((found.sharpe - benchmark) * math.sqrt(found.n - 1) / math.sqrt(spread))


def minimum_track_record(found: Moments, benchmark: float = 0.0, level: float = 0.95) -> float:
    """Returns needed until `probabilistic_sharpe` would reach `level`; infinite where never.

    Source: Bailey and López de Prado (2012), eq. 13.
    """
    share = check_number("level", level, 0.5, 1.0, open_low=True)
    if math.isnan(found.sharpe):
        return math.nan
    if found.sharpe <= benchmark:
        return math.inf
    spread = 1.0 - found.skewness * found.sharpe + (found.kurtosis - 1.0) / 4.0 * found.sharpe**2
    return 1.0 + spread * (_NORMAL.inv_cdf(share) / (found.sharpe - benchmark)) ** 2


def expected_best_sharpe(trials: int, deviation: float) -> float:
    """The highest Sharpe ratio to expect of `trials` independent strategies without skill, whose
    Sharpe ratios deviate by `deviation`.

    Source: Bailey and López de Prado (2014), J. Portfolio Management 40(5), 94-107, eq. 1.
    """
    count = check_window("trials", trials, 1)
    if count == 1:
        return 0.0
    first, second = (_NORMAL.inv_cdf(1.0 - 1.0 / (count * k)) for k in (1.0, math.e))
    return deviation * ((1.0 - _EULER) * first + _EULER * second)


def deflated_sharpe(
    returns: Array, trial_sharpes: Sequence[float] | Array, per_year: float
) -> DeflatedSharpe:
    """The Sharpe ratio of `returns` against the best one that luck would give.

    `trial_sharpes`: those of every strategy tried on these bars, annual like the result's (NaN:
    it never traded, and counts as 0). `per_year`: bars a year.
    Source: Bailey and López de Prado (2014), eq. 2.
    """
    scale = math.sqrt(check_number("per_year", per_year, 0.0, math.inf, open_low=True))
    tried = np.nan_to_num(np.asarray(trial_sharpes, dtype=np.float64)) / scale
    if not len(tried):
        raise ValueError("trial_sharpes is empty: the strategy judged is a trial itself")
    found = moments(returns)
    deviation = float(tried.std(ddof=1)) if len(tried) > 1 else 0.0
    benchmark = expected_best_sharpe(len(tried), deviation)
    return DeflatedSharpe(
        probability=probabilistic_sharpe(found, benchmark),
        against_zero=probabilistic_sharpe(found),
        benchmark=benchmark * scale,
        sharpe=found.sharpe * scale,
        trials=len(tried),
    )


def sharpe_interval(
    returns: Array,
    per_year: float,
    *,
    level: float = 0.95,
    samples: int = 2000,
    block: float | None = None,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the annual Sharpe ratio by the stationary bootstrap.

    Blocks of random length (geometric, `block` returns on average; None: `block_length`) keep
    what dependence there is between neighbouring returns. The interval holds the percentiles of
    `samples` resampled series; NaN where the returns do not vary. The same `seed`, the same
    interval. Source: Politis and Romano (1994), JASA 89, 1303-1313.
    """
    inside = check_number("level", level, 0.0, 1.0, open_low=True)
    count = check_window("samples", samples, 100)
    years = check_number("per_year", per_year, 0.0, math.inf, open_low=True)
    values = np.ascontiguousarray(returns, dtype=np.float64)
    found = moments(values)
    length = (
        block_length(values)
        if block is None
        else check_number("block", block, 1.0, math.inf, open_low=False)
    )
    if math.isnan(found.sharpe):
        return Interval(math.nan, math.nan, math.nan, inside, length, count)
    drawn = _resampled(values, length, count, check_window("seed", seed, 0))
    low, high = np.nanpercentile(drawn, [50 * (1 - inside), 50 * (1 + inside)]).tolist()
    estimate = sharpe_ratio(found.sharpe, 1.0, years)
    scale = math.sqrt(years)
    return Interval(low * scale, high * scale, estimate, inside, length, count)


def block_length(returns: Array) -> float:
    """The mean block length for which the stationary bootstrap's variance errs least, at least 1.

    Source: Politis and White (2004), Econometric Reviews 23, 53-70, with the correction of
    Patton, Politis and White (2009), Econometric Reviews 28, 372-375.
    """
    count = len(returns)
    if count < 10 or not _vary(returns):
        return 1.0
    centred = returns - returns.mean()
    few = max(5, math.ceil(math.log10(count)))
    most = min(math.ceil(math.sqrt(count)) + few, count - 1)
    covariance = np.array([centred[: count - k] @ centred[k:] for k in range(most + 1)]) / count
    small = np.abs(covariance[1:]) < 2.0 * math.sqrt(math.log10(count) / count) * covariance[0]
    runs = np.convolve(small, np.ones(few), "valid") >= few - 0.5
    last = int(np.argmax(runs)) if runs.any() else most
    reach = min(2 * max(last, 1), most)
    lags = np.arange(1, reach + 1)
    weights = np.minimum(1.0, 2.0 * (1.0 - lags / reach))
    slope = 2.0 * float((weights * lags * covariance[1 : reach + 1]).sum())
    level = float(covariance[0] + 2.0 * (weights * covariance[1 : reach + 1]).sum())
    if level == 0.0:
        return 1.0
    best = (slope * slope / level**2) ** (1.0 / 3.0) * count ** (1.0 / 3.0)
    return float(min(max(best, 1.0), math.ceil(min(3.0 * math.sqrt(count), count / 3.0))))


@compiled(VECTOR, NUMBER, INT, INT)
def _resampled(values, block, samples, seed):  # type: ignore[no-untyped-def]
    """Sharpe ratios per bar of resampled series. A block's sums come from running sums over the
    series laid twice end to end, so that its length costs nothing."""
    np.random.seed(seed)
    rows = len(values)
    sums, squares = np.zeros(2 * rows + 1), np.zeros(2 * rows + 1)
    centre = values.mean()
    for t in range(2 * rows):
        v = values[t % rows] - centre
        sums[t + 1] = sums[t] + v
        squares[t + 1] = squares[t] + v * v
    # Of a resample without deviation the running sums leave their rounding.
    nothing = 1e-12 * squares[rows]
    rate = math.log(1.0 - 1.0 / block) if block > 1.0 else -np.inf
    out = np.empty(samples)
    for k in range(samples):
        left, total, square = rows, 0.0, 0.0
        while left > 0:
            start = int(np.random.random() * rows)
            length = 1 + int(math.log(1.0 - np.random.random()) / rate)
            length = min(length, left, rows)
            total += sums[start + length] - sums[start]
            square += squares[start + length] - squares[start]
            left -= length
        spread = square - total * total / rows
        out[k] = np.nan
        if spread > nothing:
            out[k] = (centre + total / rows) / math.sqrt(spread / (rows - 1))
    return out
