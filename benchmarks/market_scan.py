"""All pairs of 100 symbols × 10,000 one-minute bars, both directions: the time and its split.

python -m benchmarks.market_scan [--runs 5]     no peer does it; the limit is 30 s
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time

import numpy as np
import pandas as pd
from statsmodels.tsa.stattools import coint

from benchmarks.compare import arguments
from benchmarks.harness import machine, table
from scan import scan_pairs

PARTS = {
    "unit-root kernel": ("unitroot.py", "_adf"),
    "unit-root test, around the kernel": ("unitroot.py", "adf_statistic"),
    "cointegrating regression": ("cointegration.py", "cointegrating_fit"),
    "half-life": ("cointegration.py", "reversion"),
    "p-value": ("adfvalues.py", "mackinnonp"),
    "correlation": ("scan.py", "_correlation"),
}


def universe(rows: int = 10_000, symbols: int = 100) -> pd.DataFrame:
    """Three common factors and a walk of its own for each symbol."""
    rng = np.random.default_rng(0)
    factors = rng.normal(0, 1e-3, (rows, 3)).cumsum(axis=0)
    own = rng.normal(0, 1e-3, (rows, symbols)).cumsum(axis=0)
    logs = factors @ rng.normal(size=(3, symbols)) + own + rng.normal(3, 2, symbols)
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")
    return pd.DataFrame(np.exp(logs), index=index, columns=[f"S{k:03}" for k in range(symbols)])


def main() -> None:
    runs = arguments(__doc__, "benchmarks.market_scan").runs
    machine("numpy", "pandas", "numba", "statsmodels")
    closes = universe()
    found = scan_pairs(closes)
    for row in found.iloc[:: len(found) // 3][:3].to_dict("records"):
        statistic, p_value, _ = coint(closes[row["y"]], closes[row["x"]], autolag="aic")
        if abs(statistic - row["statistic"]) > 1e-9 or abs(p_value - row["p_value"]) > 1e-9:
            raise SystemExit(f"differs from coint: {row['y']} on {row['x']}")
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        scan_pairs(closes)
        times.append(time.perf_counter() - start)
    profile = cProfile.Profile()
    profile.runcall(scan_pairs, closes)
    stats = pstats.Stats(profile)
    whole = float(stats.total_tt)  # type: ignore[attr-defined]
    spent = {
        name: sum(
            entry[3]
            for (path, _, function), entry in stats.stats.items()  # type: ignore[attr-defined]
            if path.endswith(file) and function == wanted
        )
        for name, (file, wanted) in PARTS.items()
    }
    kernel = sum(
        entry[2]
        for (path, _, function), entry in stats.stats.items()  # type: ignore[attr-defined]
        if path.endswith("unitroot.py") and function == "_adf"
    )
    spent["unit-root kernel"] = kernel
    spent["unit-root test, around the kernel"] -= kernel
    spent["the rest"] = whole - sum(spent.values())
    table(
        f"Market scan: {len(found):,} tests, median of {runs}: {statistics.median(times):.2f} s",
        ["part", "share", "s under the profiler"],
        [[name, f"{s / whole:.0%}", f"{s:.2f}"] for name, s in spent.items()],
    )


if __name__ == "__main__":
    main()
