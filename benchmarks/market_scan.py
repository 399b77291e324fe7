"""All pairs of 100 symbols × 10,000 one-minute bars, both directions, against a loop over coint.

python -m benchmarks.market_scan [--runs 5]     the limit is 30 s
"""

from __future__ import annotations

import cProfile
import pstats
import sys

import numpy as np
import pandas as pd
from statsmodels.tsa.stattools import coint

from benchmarks.compare import arguments
from benchmarks.harness import Cell, Timing, in_turn, machine, number, ratio, table, verdict
from pairs.analytics.scan import scan_pairs

PARTS = {
    "unit-root kernel": ("pairs/analytics/unitroot.py", "_adf"),
    "unit-root test, around the kernel": ("pairs/analytics/unitroot.py", "adf_statistic"),
    "cointegrating regression": ("cointegration.py", "cointegrating_fit"),
    "half-life": ("cointegration.py", "reversion"),
    "p-value": ("pairs/analytics/mackinnon.py", "mackinnon_p"),
    "correlation": ("pairs/analytics/scan.py", "_correlation"),
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
    sample = scan_pairs(closes)
    tests = len(sample)
    sample = sample.iloc[:: tests // (runs + 1)]

    def looped(row: dict[str, str]) -> None:
        statistic, p_value, _ = coint(closes[row["y"]], closes[row["x"]], autolag="aic")
        if abs(statistic - row["statistic"]) > 1e-9 or abs(p_value - row["p_value"]) > 1e-9:
            raise SystemExit(f"differs from coint: {row['y']} on {row['x']}")

    pairs = iter(sample.to_dict("records"))
    whole, one = in_turn(lambda: scan_pairs(closes), lambda: looped(next(pairs)), runs=runs)
    table(
        f"Market scan: all pairs of 100 symbols, 10,000 bars, {tests:,} tests",
        ["work", "peer", "peer s", "ours s", "ratio", "limit"],
        [
            [
                f"Engle–Granger of {tests:,} pairs",
                "a loop over coint(aic)",
                seconds(Timing.of([one.low * tests, one * tests, one.high * tests])),
                seconds(whole),
                ratio(one * tests / whole),
                verdict(whole, 30, "30 s", at_most=True),
            ]
        ],
        f"The peer's time is that of {runs} tests × {tests / runs:,.0f}: the loop would take "
        "hours. Ours computes half-life and correlation besides.",
    )
    profile(closes)


def seconds(timing: Timing) -> Cell:
    return Cell(
        f"{timing:,.2f} ({timing.low:,.2f}…{timing.high:,.2f})",
        {"s": float(timing), "low": timing.low, "high": timing.high},
    )


def profile(closes: pd.DataFrame) -> None:
    """Where the time of a scan goes."""
    taken = cProfile.Profile()
    taken.runcall(scan_pairs, closes)
    stats = pstats.Stats(taken, stream=sys.stderr)
    whole = float(stats.total_tt)  # type: ignore[attr-defined]
    entries = stats.stats.items()  # type: ignore[attr-defined]
    spent = {
        name: sum(
            entry[3]
            for (path, _, function), entry in entries
            if path.endswith(file) and function == wanted
        )
        for name, (file, wanted) in PARTS.items()
    }
    kernel = sum(
        entry[2]
        for (path, _, function), entry in entries
        if path.endswith("pairs/analytics/unitroot.py") and function == "_adf"
    )
    spent["unit-root kernel"] = kernel
    spent["unit-root test, around the kernel"] -= kernel
    spent["the rest"] = whole - sum(spent.values())
    table(
        "Market scan: where the time goes",
        ["part", "share", "s under the profiler"],
        [[name, f"{s / whole:.0%}", number(s, 2)] for name, s in spent.items()],
    )


if __name__ == "__main__":
    main()
