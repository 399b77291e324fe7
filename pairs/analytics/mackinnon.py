"""MacKinnon's p-values and critical values of unit-root and cointegration tests. Pure.

The response surfaces are the published ones, for one and two variables. They stand here because
statsmodels' module of them loads all of scipy.stats for one normal distribution, which is a third
of the page's start; a test holds every figure against it.

Sources: MacKinnon (1994), J. Business & Economic Statistics 12(2), 167-176, tables 3 and 4
(p-values); MacKinnon (2010), Queen's Economics Department working paper 1227, table 2 (critical
values).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["mackinnon_critical", "mackinnon_p"]

LEVELS = ("1%", "5%", "10%")


@dataclass(frozen=True, slots=True)
class _Surface:
    """p = Φ(polynomial in the statistic), lowest power first; `low` up to `middle`, `high` beyond.
    Below `least` p is 0, above `most` it is 1."""

    least: float
    middle: float
    most: float
    low: tuple[float, ...]
    high: tuple[float, ...]


# By trend and number of variables.
_P_VALUES = {
    ("n", 1): _Surface(
        -19.04, -1.04, math.inf, (0.6344, 1.2378, 3.2496e-2),
        (0.4797, 9.3557e-1, -0.6999e-1, 3.3066e-2),
    ),
    ("n", 2): _Surface(
        -19.62, -1.53, 1.51, (1.9129, 1.3857, 3.5322e-2),
        (1.5578, 8.558e-1, -2.083e-1, -3.3549e-2),
    ),
    ("c", 1): _Surface(
        -18.83, -1.61, 2.74, (2.1659, 1.4412, 3.8269e-2),
        (1.7339, 9.3202e-1, -1.2745e-1, -1.0368e-2),
    ),
    ("c", 2): _Surface(
        -18.86, -2.62, 0.92, (2.92, 1.5012, 3.9796e-2),
        (2.1945, 6.4695e-1, -2.9198e-1, -4.2377e-2),
    ),
    ("ct", 1): _Surface(
        -16.18, -2.89, 0.7, (3.2512, 1.6047, 4.9588e-2),
        (2.5261, 6.1654e-1, -3.7956e-1, -6.0285e-2),
    ),
    ("ct", 2): _Surface(
        -21.15, -3.19, 0.63, (3.6646, 1.5419, 3.6448e-2),
        (2.85, 5.272e-1, -3.6622e-1, -5.1695e-2),
    ),
}  # fmt: skip
# 1, 5 and 10 %: powers of 1/rows, lowest first.
_CRITICAL = {
    ("n", 1): (
        (-2.56574, -2.2358, -3.627, 0.0),
        (-1.94100, -0.2686, -3.365, 31.223),
        (-1.61682, 0.2656, -2.714, 25.364),
    ),
    ("c", 1): (
        (-3.43035, -6.5393, -16.786, -79.433),
        (-2.86154, -2.8903, -4.234, -40.040),
        (-2.56677, -1.5384, -2.809, 0.0),
    ),
    ("c", 2): (
        (-3.89644, -10.9519, -33.527, 0.0),
        (-3.33613, -6.1101, -6.823, 0.0),
        (-3.04445, -4.2412, -2.720, 0.0),
    ),
    ("ct", 1): (
        (-3.95877, -9.0531, -28.428, -134.155),
        (-3.41049, -4.3904, -9.036, -45.374),
        (-3.12705, -2.5856, -3.925, -22.380),
    ),
    ("ct", 2): (
        (-4.32762, -15.4387, -35.679, 0.0),
        (-3.78057, -9.5106, -12.074, 0.0),
        (-3.49631, -7.0815, -7.538, 21.892),
    ),
}


def mackinnon_p(statistic: float, trend: str, series: int) -> float:
    """MacKinnon's (1994) p-value of a statistic from a regression with `trend` ("n", "c", "ct");
    `series`: 1 for an observed series, 2 for the residual of a fitted pair."""
    surface = _P_VALUES[trend, series]
    if statistic > surface.most:
        return 1.0
    if statistic < surface.least:
        return 0.0
    powers = surface.low if statistic <= surface.middle else surface.high
    return 0.5 * math.erfc(-_polynomial(powers, statistic) / math.sqrt(2.0))


def mackinnon_critical(trend: str, series: int, nobs: int) -> dict[str, float]:
    """MacKinnon's (2010) critical values at '1%', '5%', '10%'; NaN where he gives none (trend "n"
    of a fitted pair)."""
    surfaces = _CRITICAL.get((trend, series))
    if surfaces is None:
        return dict.fromkeys(LEVELS, math.nan)
    return {
        level: _polynomial(powers, 1.0 / nobs)
        for level, powers in zip(LEVELS, surfaces, strict=True)
    }


def _polynomial(powers: tuple[float, ...], at: float) -> float:
    value = 0.0
    for coefficient in reversed(powers):
        value = value * at + coefficient
    return value
