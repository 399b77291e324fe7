"""How often each verdict of the page passes by chance: python -m tools.verdict_sizes [walks]

Two unrelated walks of normal steps, or a market of six, at several lengths; β = 1 known
beforehand. Beside each verdict what it was by the textbook's limits. The table of docs/methods.md.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pandas as pd

from pairs.analytics.scan import benjamini_hochberg, scan_pairs
from pairs.analytics.summary import PairTests, pair_tests
from pairs.figures.statistics import LEVEL, joint_verdict, verdicts

ROWS = (101, 120, 300, 600, 1200)


def textbook(tests: PairTests) -> dict[str, bool]:
    """The same verdicts by asymptotic limits, and the Hurst exponent by 0.45 to 0.55."""
    found = {
        "ADF, unit root": tests.adf,
        "Engle–Granger, y on x": tests.y_on_x,
        "Engle–Granger, x on y": tests.x_on_y,
        "Variance ratio": tests.ratio,
    }
    passed = {name: not isinstance(t, str) and t.p_value < LEVEL for name, t in found.items()}
    if not isinstance(tests.johansen, str):
        passed["Johansen trace, r = 0"] = tests.johansen.rank() > 0
    if not isinstance(tests.hurst, str):
        passed["Hurst exponent"] = not 0.45 <= tests.hurst <= 0.55
    return passed


def of_pairs(rows: int, count: int) -> None:
    rng = np.random.default_rng(rows)
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for _ in range(count):
        y, x = (pd.Series(1000 + walk) for walk in rng.normal(size=(2, rows)).cumsum(axis=1))
        tests = pair_tests(y, x, y - x, estimated=False)
        for row in verdicts(tests, 60, 60):
            after[str(row[0])] += row[4][1] in ("good", "bad", "warn")
        after["together"] += joint_verdict(tests)[1] == "good"
        before.update(name for name, passed in textbook(tests).items() if passed)
    for name in (*sorted(before), "together"):
        told = f"{before[name] / count:6.1%}" if name in before else "     –"
        print(f"{rows:6} {name:24} {told} {after[name] / count:6.1%}", flush=True)


def of_markets(rows: int, count: int) -> None:
    rng = np.random.default_rng(rows)
    before = after = 0
    for _ in range(count):
        closes = pd.DataFrame(1000 + rng.normal(size=(rows, 6)).cumsum(axis=0), columns=[*"ABCDEF"])
        table = scan_pairs(closes)
        before += bool((benjamini_hochberg(table["p_value"]) < LEVEL).any())
        after += bool((table["p_adjusted"] < LEVEL).any())
    print(f"{rows:6} {'a market of six':24} {before / count:6.1%} {after / count:6.1%}", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'rows':>6} {'verdict':24} {'before':>6} {'after':>6}")
    for rows in ROWS:
        of_pairs(rows, count)
    for rows in (100, 300, 600):
        of_markets(rows, max(1, count // 4))


if __name__ == "__main__":
    main()
