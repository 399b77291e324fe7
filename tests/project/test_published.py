"""No published figure is passed over in silence: each is asked for by a test, or named here."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.reference import reference_json

TESTS = Path(__file__).parents[1]
# What no function of ours computes.
UNREACHED = {
    "pykalman_robot_filter": "a general filter with five states and offsets; ours has two states",
    "backtestingpy_GOOG_metrics": "metrics of another library's one-asset backtest",
}
# Figures whose key a test puts together from parts.
COMPOSED = {
    "crypto_daily_hurst_open",
    "stata_adf_macrodata",
    "stockindicators_bollinger_ema",
    "chan2_johansen_pair_EWC_EWA",
}


def test_every_published_figure_is_asked_for() -> None:
    sources = "\n".join(
        path.read_text() for path in TESTS.rglob("test_*.py") if path.name != Path(__file__).name
    )
    words = set(re.findall(r"[\"'](\w+)[\"']", sources))
    for entry in reference_json("expected.json"):
        name = entry["name"]
        if name in UNREACHED and name not in words:
            continue
        assert name in words, f"no test asks for {name}"
        missing = set(entry["expected"]) - words
        assert not missing or name in COMPOSED, f"no test asks for {sorted(missing)} of {name}"
