"""The full-sample hedge ratio by least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from pairs.checks import check_flag, full_sample, same_index

__all__ = ["HedgeRatio", "ols_hedge_ratio"]


@dataclass(frozen=True, slots=True)
class HedgeRatio:
    """Hedge ratio of a whole sample: the least-squares line y = intercept + beta·x.

    Attributes
    ----------
    beta : float
        Slope, in units of y per unit of x. Never NaN.
    intercept : float
        Value of the line at x = 0, in the unit of y; 0 for a regression through the origin.
    r_squared : float
        Share of y's squares that the line explains, without a unit: about the mean of y, or about
        0 (uncentred) for a regression through the origin. NaN where y does not vary (is zero
        throughout, through the origin).
    std_error : float
        Standard error of `beta`, in units of y per unit of x; 0 for an exact fit.
    n : int
        Number of rows.

    See Also
    --------
    ols_hedge_ratio : The function that returns it.
    """

    beta: float
    intercept: float
    r_squared: float
    std_error: float
    n: int


def ols_hedge_ratio(
    y: pd.Series[float], x: pd.Series[float], *, intercept: bool = True
) -> HedgeRatio:
    """Estimate the full-sample hedge ratio by ordinary least squares of y on x.

    Parameters
    ----------
    y : pandas.Series of float, shape (n,)
        The leg to explain, in any unit. Finite numbers only. At least 3 rows, or 2 without
        intercept.
    x : pandas.Series of float, shape (n,)
        The leg that explains, with the same index as `y`. Finite numbers only. It must vary;
        without intercept it must not be zero in every row.
    intercept : bool, default True
        False regresses through the origin.

    Returns
    -------
    HedgeRatio
        `beta` in units of y per unit of x, `intercept`, `r_squared`, `std_error` of beta, and the
        number of rows `n`. Only `r_squared` can be NaN: where y does not vary (is zero
        throughout, without intercept).

    Raises
    ------
    ValueError
        For NaN or infinity, unequal indexes, fewer than 3 rows (2 without intercept), an `x` that
        does not vary (is zero in every row, without intercept) or whose squares cannot be
        summed, an argument that is no Series of real numbers, or an
        `intercept` that is neither True nor False.

    See Also
    --------
    pairs.analytics.spread.rolling_hedge_ratio : The same fit over a moving window; causal.
    pairs.analytics.cointegration.engle_granger : Tests whether the residual returns.

    Notes
    -----
    Full-sample: the result uses every row, so it must not decide a trade inside the sample.

    With Sxy and Sxx the sums of products about the means, beta = Sxy/Sxx [1]_, [2]_,
    intercept = mean(y) - beta·mean(x), std_error = √(RSS/(n - 2)/Sxx) and r_squared = 1 - RSS/TSS.
    Without intercept all sums are about 0, n - 1 replaces n - 2, and r_squared is the uncentred
    one, as in statsmodels.

    Traps: y on x and x on y give two different hedges; the product of the two betas is R², not 1.
    The standard error assumes independent errors.

    References
    ----------
    .. [1] Chan, *Algorithmic Trading* (2013), ch. 3.
    .. [2] Greene, *Econometric Analysis*, ch. 3-4.

    Examples
    --------
    >>> import pandas as pd
    >>> x = pd.Series([1.0, 2.0, 3.0])
    >>> fit = ols_hedge_ratio(2 * x + 1, x)
    >>> fit.beta, fit.intercept, fit.r_squared, fit.n
    (2.0, 1.0, 1.0, 3)
    >>> round(ols_hedge_ratio(2 * x + 1, x, intercept=False).beta, 4)  # 34/14
    2.4286
    """
    fitted = 2 if check_flag("intercept", intercept) else 1
    ys, xs = full_sample("y", y, fitted + 1), full_sample("x", x, fitted + 1)
    same_index("y", y, "x", x)
    if xs.min() == xs.max() if intercept else not xs.any():
        raise ValueError(f"x is {xs[0]:g} in every row: a hedge ratio needs an x that varies")
    mean_y, mean_x = (float(ys.mean()), float(xs.mean())) if intercept else (0.0, 0.0)
    dy, dx = ys - mean_y, xs - mean_x
    squares_x = float(dx @ dx)
    if not 0.0 < squares_x < math.inf:
        raise ValueError(f"x varies by about {abs(dx).max():g}: its squares cannot be summed")
    beta = float(dx @ dy) / squares_x
    errors = dy - beta * dx
    varies = not intercept or ys.min() < ys.max()  # by its values: a mean may round
    rss, tss = float(errors @ errors), float(dy @ dy)
    return HedgeRatio(
        beta=beta,
        intercept=mean_y - beta * mean_x,
        r_squared=1.0 - rss / tss if tss > 0 and varies else math.nan,
        std_error=math.sqrt(rss / (len(ys) - fitted) / squares_x),
        n=len(ys),
    )
