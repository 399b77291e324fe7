"""The figures of analytics/small_sample.py, simulated again: python -m tools.null_quantiles [scale]

Walks of independent normal steps without drift. `scale` multiplies the number of walks, 1 taking
some minutes on a core. Prints the shifts of the unit-root p-values, and the quantiles of
Johansen's trace, of the Hurst exponent and of the variance ratio.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np
from numba import njit

from pairs.analytics.mackinnon import mackinnon_p
from pairs.analytics.small_sample import hurst_lags
from pairs.analytics.unitroot import _adf, _most_lags

ROWS = (25, 35, 50, 70, 100, 140, 200, 300, 500, 1000)
LEVELS = np.exp(np.linspace(math.log(1e-4), math.log(0.4), 40))
NORMAL = NormalDist()
kernel = _adf.compile()


@njit(nogil=True)
def cleared(walk, terms):  # type: ignore[no-untyped-def]
    time = np.arange(len(walk)) - (len(walk) - 1) / 2.0
    if terms > 0:
        walk = walk - walk.mean()
    if terms == 2:
        walk = walk - (time * walk).sum() / (time * time).sum() * time
    return walk


@njit(nogil=True)
def unit_roots(count, rows, terms, pair, most, seed):  # type: ignore[no-untyped-def]
    """Statistics of walks, or of residuals of one walk on another."""
    np.random.seed(seed)
    out = np.empty(count)
    for k in range(count):
        y = cleared(np.random.standard_normal(rows).cumsum(), terms)
        if pair:
            x = cleared(np.random.standard_normal(rows).cumsum(), terms)
            y = y - (x * y).sum() / (x * x).sum() * x
        steps = np.diff(y)
        if not pair:
            steps = cleared(steps, terms)
        statistic, _, sound = kernel(y[:-1].copy(), steps, most, 0 if pair else terms, True)
        out[k] = statistic if sound else np.nan
    return out


def shifts(trend: str, series: int, scale: float) -> None:
    """Of each number of rows a, b, c by least squares over all levels."""
    terms, pair = 0 if trend == "n" else len(trend), series == 2
    grid = np.linspace(-15.0, 4.0, 6001)
    scores = [
        NORMAL.inv_cdf(min(max(mackinnon_p(float(s), trend, series), 1e-300), 1 - 1e-16))
        for s in grid
    ]
    targets = np.array([NORMAL.inv_cdf(level) for level in LEVELS])
    for rows in ROWS:
        count = int(scale * (80_000 if rows <= 140 else 25_000 if rows <= 300 else 8_000))
        found = unit_roots(count, rows, terms, pair, _most_lags(rows, 0 if pair else terms), rows)
        z = np.interp(np.quantile(found[~np.isnan(found)], LEVELS), grid, scores)
        seen = (LEVELS * count >= 8) & (z > -6)
        weights = np.sqrt(count / (LEVELS * (1 - LEVELS)))
        weights *= np.array([NORMAL.pdf(target) for target in targets])
        powers = np.column_stack([z**k for k in (0, 1, 2)]) * weights[:, None]
        fitted, *_ = np.linalg.lstsq(powers[seen], ((targets - z) * weights)[seen], rcond=None)
        print((trend, series), rows, fitted.round(3), flush=True)


@njit(nogil=True)
def traces(count, rows, seed):  # type: ignore[no-untyped-def]
    np.random.seed(seed)
    out = np.empty(count)
    for k in range(count):
        prices = np.empty((rows, 2))
        for leg in range(2):
            prices[:, leg] = np.random.standard_normal(rows).cumsum()
        steps = prices[1:] - prices[:-1]
        a, b, past = steps[1:].copy(), prices[1:-1].copy(), steps[:-1].copy()
        for leg in range(2):
            a[:, leg] -= a[:, leg].mean()
            b[:, leg] -= b[:, leg].mean()
            past[:, leg] -= past[:, leg].mean()
        inverse = np.linalg.inv(past.T @ past)
        a = a - past @ (inverse @ (past.T @ a))
        b = b - past @ (inverse @ (past.T @ b))
        m = np.linalg.inv(a.T @ a) @ (a.T @ b) @ np.linalg.inv(b.T @ b) @ (b.T @ a)
        # Π(1 - λ) of both eigenvalues is the determinant of 1 - m.
        out[k] = -(rows - 2) * math.log((1 - m[0, 0]) * (1 - m[1, 1]) - m[0, 1] * m[1, 0])
    return out


@njit(nogil=True)
def hursts(count, rows, longest, seed):  # type: ignore[no-untyped-def]
    np.random.seed(seed)
    out = np.empty(count)
    logs = np.log(np.arange(2, longest + 1))
    logs = logs - logs.mean()
    for k in range(count):
        walk = np.random.standard_normal(rows).cumsum()
        slope = 0.0
        for lag in range(2, longest + 1):
            slope += logs[lag - 2] * math.log((walk[lag:] - walk[:-lag]).std())
        out[k] = slope / (logs * logs).sum()
    return out


def ratios(count: int, rows: int, seed: int) -> Iterator[float]:
    import pandas as pd

    from pairs.analytics.stationarity import variance_ratio_test

    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield variance_ratio_test(pd.Series(rng.normal(size=rows).cumsum()), q=10).statistic


def main() -> None:
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    for trend, series in (("c", 1), ("n", 2), ("c", 2), ("ct", 2)):
        shifts(trend, series, scale)
    for rows in (30, 40, 60, 100, 160, 300, 600, 1200):
        found = np.quantile(traces(int(60_000 * scale), rows, rows), [0.95, 0.975])
        print("trace", rows, found.round(3), flush=True)
    for rows in (101, 120, 150, 200, 300, 400, 500, 700, 1000, 1500, 2500, 4000):
        found = np.quantile(
            hursts(int(16_000 * scale), rows, hurst_lags(rows), rows), [0.025, 0.975]
        )
        print("hurst", rows, found.round(4), flush=True)
    for rows in (40, 60, 80, 101, 150, 200, 300, 600, 1200, 3600):
        found = np.quantile(list(ratios(int(20_000 * scale), rows, rows)), [0.025, 0.975])
        print("ratio", rows, found.round(3), flush=True)


if __name__ == "__main__":
    main()
