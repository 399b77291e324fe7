"""What chance alone gives in samples of a page's size, so that a verdict holds the error it states.

The statistics stay those of the field; their asymptotic limits do not hold where the AIC chooses
the lags among few rows, where walks have no drift, or where an estimator has no limits at all.
What stands here was measured on simulated walks of independent normal steps: see
`tools/null_quantiles.py`, which prints every figure again, and `tests/test_verdict_sizes.py`,
which holds the sizes. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from pairs.analytics.mackinnon import mackinnon_critical, mackinnon_p

__all__ = [
    "LEVEL", "hurst_lags", "hurst_limits", "johansen_limits", "ratio_limits", "unit_root_limit",
    "unit_root_p",
]  # fmt: skip

LEVEL = 0.05
"""The error of every verdict in words."""
_NORMAL = NormalDist()
# By trend and number of series, then rows: with z = Φ⁻¹ of MacKinnon's p-value, a + b·z + c·z² is
# added to it. Measured with the AIC's lags; fewer lags need less.
_SHIFT: dict[tuple[str, int], dict[int, tuple[float, float, float]]] = {
    ("c", 1): {
        25: (0.159, -0.205, 0.053), 35: (0.053, -0.207, 0.019), 50: (0.050, -0.112, 0.024),
        70: (0.036, -0.072, 0.021), 100: (0.029, -0.030, 0.025), 140: (0.027, -0.010, 0.025),
        200: (0.019, 0.000, 0.023), 300: (0.024, 0.021, 0.025), 500: (-0.002, -0.018, 0.011),
        1000: (0.022, 0.008, 0.006),
    },
    ("n", 2): {
        25: (0.117, -0.112, 0.051), 35: (0.034, -0.137, 0.024), 50: (0.032, -0.100, 0.024),
        70: (0.042, -0.033, 0.034), 100: (0.012, -0.063, 0.016), 140: (0.022, -0.041, 0.013),
        200: (-0.020, -0.065, 0.005), 300: (-0.004, -0.030, 0.004), 500: (0.009, 0.034, 0.024),
        1000: (-0.001, -0.107, -0.044),
    },
    ("ct", 2): {
        25: (0.277, -0.067, 0.060), 35: (0.284, -0.112, 0.019), 50: (0.161, -0.190, -0.002),
        70: (0.132, -0.181, -0.009), 100: (0.107, -0.128, 0.006), 140: (0.081, -0.095, 0.008),
        200: (0.087, -0.038, 0.018), 300: (0.045, -0.006, 0.022), 500: (0.054, -0.025, -0.001),
        1000: (-0.036, -0.121, -0.041),
    },
    ("c", 2): {
        25: (0.168, -0.086, 0.055), 35: (0.107, -0.163, 0.011), 50: (0.075, -0.157, 0.002),
        70: (0.054, -0.122, 0.005), 100: (0.034, -0.088, 0.011), 140: (0.042, -0.043, 0.016),
        200: (0.032, -0.041, 0.012), 300: (0.021, -0.030, 0.006), 500: (-0.011, -0.081, -0.017),
        1000: (-0.024, -0.052, -0.015),
    },
}  # fmt: skip
_DEEPEST = -4.0  # the least z that could be measured; there and at 0 the shift stays
# Rows: 95 and 97.5 % of the trace (r = 0) of two walks without drift.
_TRACE = {
    30: (20.123, 22.613), 40: (19.563, 21.811), 60: (19.019, 21.221), 100: (18.672, 20.761),
    160: (18.417, 20.506), 300: (18.281, 20.328), 600: (18.093, 20.186), 1200: (18.015, 20.142),
}  # fmt: skip
# Rows: 2.5 and 97.5 % of the Hurst exponent ("std") over the lags of `hurst_lags`.
_HURST = {
    101: (0.1287, 0.6425), 120: (0.1385, 0.6382), 150: (0.1569, 0.6321), 200: (0.1761, 0.6289),
    300: (0.1934, 0.6184), 400: (0.2084, 0.6186), 500: (0.2492, 0.6142), 700: (0.3015, 0.6018),
    1000: (0.3423, 0.5906), 1500: (0.3762, 0.5773), 2500: (0.4080, 0.5619), 4000: (0.4328, 0.5522),
}  # fmt: skip
# Rows: 2.5 and 97.5 % of the robust variance-ratio statistic over 10 rows.
_RATIO = {
    40: (-1.461, 3.034), 60: (-1.568, 2.788), 80: (-1.622, 2.631), 101: (-1.663, 2.507),
    150: (-1.722, 2.354), 200: (-1.754, 2.297), 300: (-1.785, 2.243), 600: (-1.833, 2.128),
    1200: (-1.851, 2.099), 3600: (-1.902, 2.008),
}  # fmt: skip


def unit_root_p(statistic: float, trend: str, series: int, rows: int) -> float:
    """MacKinnon's p-value, made larger by what `rows` rows and the AIC's choice of lags do to it.

    Arguments as `mackinnon_p`; `rows` of the series, 25 standing for fewer. Never below his.
    """
    p_value = mackinnon_p(statistic, trend, series)
    if not 0.0 < p_value < 1.0:
        return p_value
    z, table = _NORMAL.inv_cdf(p_value), _SHIFT[trend, series]
    at = min(max(z, _DEEPEST), 0.0)
    a, b, c = _at(table, rows)
    fading = min(1.0, max(table) / rows)
    return max(p_value, _NORMAL.cdf(z + fading * (a + b * at + c * at * at)))


def unit_root_limit(trend: str, series: int, rows: int) -> float:
    """The statistic whose `unit_root_p` is LEVEL."""
    low, high = -20.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if unit_root_p(middle, trend, series, rows) < LEVEL:
            low = middle
        else:
            high = middle
    return low


def johansen_limits(rows: int) -> tuple[float, float, float]:
    """Limits of Johansen's trace of two legs (constant, one lagged difference): 5 % and 2.5 % for
    no relation, 5 % for at most one.

    The published ones are of legs that drift; without drift, 12 % of unrelated walks exceed them.
    With drift these here are too strict, never too lenient.
    """
    one, half = _at(_TRACE, rows)
    # Of two legs bound to each other what is left is one walk: its trace is the square of the
    # unit-root statistic.
    return one, half, mackinnon_critical("c", 1, rows)["5%"] ** 2


def hurst_lags(rows: int) -> int:
    """The longest lag of a Hurst exponent of so many rows: a quarter of them, 99 at most."""
    return max(3, min(99, rows // 4))


def hurst_limits(rows: int) -> tuple[float, float]:
    """Between them lie 95 % of the exponents of walks of so many rows, over `hurst_lags`."""
    low, high = _at(_HURST, rows)
    return low, high


def ratio_limits(rows: int) -> tuple[float, float]:
    """Between them lie 95 % of the robust variance-ratio statistics over 10 rows of walks."""
    low, high = _at(_RATIO, rows)
    return low, high


def _at(table: Mapping[int, tuple[float, ...]], rows: int) -> tuple[float, ...]:
    """Straight lines in 1/√rows between the rows of a table, its ends beyond them."""
    known = sorted(table)
    if rows <= known[0]:
        return table[known[0]]
    if rows >= known[-1]:
        return table[known[-1]]
    above = next(n for n in known if n > rows)
    below = max(n for n in known if n <= rows)
    left, right, at = (1.0 / math.sqrt(n) for n in (below, above, rows))
    share = (at - left) / (right - left)
    return tuple(a + share * (b - a) for a, b in zip(table[below], table[above], strict=True))
