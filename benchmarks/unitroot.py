"""The unit-root and cointegration tests with the AIC's lags against statsmodels.

python -m benchmarks.unitroot [--runs 5] [--long]     --long: 100,000 rows, a minute per call
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
from statsmodels.tsa.stattools import adfuller, coint

from analytics import adf_test
from benchmarks.compare import HEAD, arguments, compared
from benchmarks.harness import machine, table
from cointegration import engle_granger


def legs(rows: int) -> tuple[pd.Series[float], pd.Series[float]]:
    """A walk and a leg bound to it by an error of half-life 7."""
    rng = np.random.default_rng(rows)
    x = 100 + rng.normal(0, 0.1, rows).cumsum()
    error = rng.normal(0, 0.1, rows)
    for t in range(1, rows):
        error[t] += 0.9 * error[t - 1]
    return pd.Series(0.7 * x + 3 + error), pd.Series(x)


def main() -> None:
    options = arguments(__doc__, "benchmarks.unitroot")
    warnings.simplefilter("ignore")  # statsmodels announces a change of its result
    machine("numpy", "numba", "statsmodels")
    rows = []
    sizes = ((1_000, 10.0), (10_000, 100.0), *(((100_000, 1_000.0),) if options.long else ()))
    for size, wanted in sizes:
        y, x = legs(size)

        def adf(series: pd.Series[float] = x) -> list[float]:
            found = adf_test(series)
            return [found.statistic, found.p_value, found.lags]

        def peer_adf(series: pd.Series[float] = x) -> list[float]:
            found = adfuller(series, autolag="AIC", result_object=True)
            return [found.statistic, found.pvalue, found.lags]

        def granger(a: pd.Series[float] = y, b: pd.Series[float] = x) -> list[float]:
            found = engle_granger(a, b)
            return [found.statistic, found.p_value, *found.critical_values.values()]

        def peer_granger(a: pd.Series[float] = y, b: pd.Series[float] = x) -> list[float]:
            statistic, p_value, limits = coint(a, b, autolag="aic")
            return [statistic, p_value, *limits]

        for name, peer_name, ours, peer in (
            ("ADF", "adfuller(AIC)", adf, peer_adf),
            ("Engle–Granger", "coint(aic)", granger, peer_granger),
        ):
            rows.append(
                compared(
                    f"{name}, AIC lags, {size:,} rows",
                    peer_name,
                    ours,
                    peer,
                    options.runs,
                    wanted=wanted,
                )
            )
            if options.long:
                print(*rows[-1], sep=" · ", file=sys.stderr, flush=True)
    table("Unit root and cointegration", HEAD, rows)


if __name__ == "__main__":
    main()
