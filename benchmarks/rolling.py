"""Rolling hedge ratio, z-score and correlation against statsmodels and pandas.

python -m benchmarks.rolling [--runs 5] [--long]
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from statsmodels.regression.rolling import RollingOLS
from statsmodels.tools import add_constant

from analytics import rolling_correlation, rolling_hedge_ratio, zscore
from benchmarks.compare import HEAD, arguments, compared
from benchmarks.harness import machine, table

WINDOW = 120


def legs(rows: int) -> tuple[pd.Series[float], pd.Series[float]]:
    rng = np.random.default_rng(rows)
    x = 100 + rng.normal(0, 0.01, rows).cumsum()
    return pd.Series(0.7 * x + 3 + rng.normal(0, 0.01, rows)), pd.Series(x)


def check_windows(y: pd.Series[float], x: pd.Series[float]) -> None:
    """Ours against least squares of single windows, to 1e-9.

    RollingOLS adds the newcomer to X'X and takes the leaver out, at prices that vary by a
    thousandth: some six digits are left of it, so agreement with it alone would show little.
    """
    found = rolling_hedge_ratio(y, x, WINDOW)["beta"].to_numpy()
    for row in range(WINDOW - 1, len(y), len(y) // 50):
        part = slice(row - WINDOW + 1, row + 1)
        dx = (x[part] - x[part].mean()).to_numpy()
        exact = float(dx @ (y[part] - y[part].mean()).to_numpy() / (dx @ dx))
        if abs(found[row] - exact) > 1e-9 * abs(exact):
            raise SystemExit(f"rolling hedge: row {row} differs from its window's own fit")


def main() -> None:
    options = arguments(__doc__, "benchmarks.rolling")
    machine("numpy", "pandas", "numba", "statsmodels")
    rows = []
    for size in (100_000, *((1_000_000,) if options.long else ())):
        y, x = legs(size)
        design = add_constant(x)
        check_windows(y, x)
        rows.append(
            compared(
                f"rolling hedge, window {WINDOW}, {size:,} bars",
                "RollingOLS(params_only)",
                lambda y=y, x=x: rolling_hedge_ratio(y, x, WINDOW)[["intercept", "beta"]],
                lambda y=y, d=design: RollingOLS(y, d, WINDOW).fit(params_only=True).params,
                options.runs,
                wanted=500,
                tolerance=1e-4,
            )
        )
    y, x = legs(1_000_000)
    spread = y - 0.7 * x
    rolling = spread.rolling(WINDOW)
    rows.append(
        compared(
            f"rolling z, window {WINDOW}, 1,000,000 bars",
            "pandas rolling mean and std",
            lambda: zscore(spread, WINDOW),
            lambda: (spread - rolling.mean()) / rolling.std(),
            options.runs,
            wanted=5,
        )
    )
    dy, dx = y.diff()[1:], x.diff()[1:]
    rows.append(
        compared(
            f"rolling correlation, window {WINDOW}, 1,000,000 bars",
            "pandas rolling corr",
            lambda: rolling_correlation(dy, dx, WINDOW),
            lambda: dy.rolling(WINDOW).corr(dx),
            options.runs,
            wanted=1,
        )
    )
    table("Rolling windows", HEAD, rows)


if __name__ == "__main__":
    main()
