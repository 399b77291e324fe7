"""The full-sample hedge ratio by least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from pairs.checks import check_flag, full_sample, same_index

__all__ = ["HedgeRatio", "ols_hedge_ratio"]


@dataclass(frozen=True, slots=True)
class HedgeRatio:
    """A full-sample regression y = intercept + beta·x; `std_error` is that of beta."""

    beta: float
    intercept: float
    r_squared: float
    std_error: float
    n: int


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
    fitted = 2 if check_flag("intercept", intercept) else 1
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
