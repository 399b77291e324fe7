"""How long bars are, and that no pair is made of two lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest import Costs, Rules, main, run
from features import feature_table
from pairs.analytics.pair import PairSpec, pair_view
from pairs.analytics.scan import scan_pairs
from pairs.backtest.grid import cost_sensitivity, grid
from pairs.backtest.walk_forward import walk_forward
from pairs.bars.files import write_bars_csv
from pairs.bars.length import bar_length_ns, common_step_ns
from resampling import align, resample_bars
from tests.support.legs import leg

RULES = Rules(window=10, entry_z=1.0)
DOORS: dict[str, Callable[[pd.DataFrame, pd.DataFrame], Any]] = {
    "align": align,
    "run": lambda y, x: run(y, x, RULES, Costs()),
    "grid": lambda y, x: grid(y, x, [RULES], Costs()),
    "walk_forward": lambda y, x: walk_forward(y, x, [RULES], Costs(), train=30, test=10),
    "cost_sensitivity": lambda y, x: cost_sensitivity(y, x, RULES, Costs()),
    "pair_view": lambda y, x: pair_view(y, x, PairSpec(window=10)),
    "feature_table": lambda y, x: feature_table(y, x, PairSpec(window=10)),
}


def quarters_and_hours(rows: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One market twice, in hours and in quarters, neither noted."""
    bars = leg(1, 15 * rows)
    quarters, hours = resample_bars(bars, "15min"), resample_bars(bars, "1h")
    for made in (quarters, hours):
        made.attrs.clear()
    return hours, quarters


@pytest.mark.parametrize("door", DOORS)
class TestTwoLengths:
    def test_by_the_labels(self, door: str) -> None:
        """The hour's close is 45 minutes younger than that of the quarter with its label."""
        hours, quarters = quarters_and_hours()
        for y, x, words in (
            (hours, quarters, r"1h \(3600 s\) and bars of 15min \(900 s\)"),
            (quarters, hours, r"15min \(900 s\) and bars of 1h \(3600 s\)"),
        ):
            with pytest.raises(ValueError, match=words):
                DOORS[door](y, x)

    def test_by_what_is_noted(self, door: str) -> None:
        """Though every label is the same, and where only one leg notes its length."""
        y, x = leg(1, 100), leg(2, 100)
        y.attrs["bar_ns"] = 30 * 10**9
        with pytest.raises(ValueError, match=r"30s \(30 s\) and bars of 1min \(60 s\)"):
            DOORS[door](y, x)
        x.attrs["bar_ns"] = 30 * 10**9
        DOORS[door](y, x)

    def test_holes_are_not_another_length(self, door: str) -> None:
        y, x = leg(1, 400), leg(2, 400)
        rng = np.random.default_rng(5)
        DOORS[door](y[rng.random(400) < 0.6], x[rng.random(400) < 0.8])
        # A quiet leg that notes its length, of which only every fifth minute has a row.
        quiet = x[::5].copy()
        quiet.attrs["bar_ns"] = 60 * 10**9
        DOORS[door](y, quiet)
        with pytest.raises(ValueError, match=r"1min \(60 s\) and bars of 5min \(300 s\)"):
            DOORS[door](y, x[::5])

    def test_an_odd_note_is_none(self, door: str) -> None:
        y, x = leg(1, 100), leg(2, 100)
        y.attrs["bar_ns"], x.attrs["bar_ns"] = "1h", np.array([1.0])
        DOORS[door](y, x)


def test_alignment_keeps_what_is_noted() -> None:
    """Else a leg aligned once would be refused by the next to align it."""
    y, x = leg(1, 100), leg(2, 100)[::5]
    x.attrs["bar_ns"] = 60 * 10**9
    both = align(y, x)
    assert [bar_length_ns(part) for part in both] == [60 * 10**9] * 2
    assert "bar_ns" not in y.attrs
    align(*both)
    assert run(y, x, RULES, Costs()).metrics["bar_s"] == 60


@pytest.mark.parametrize("rows", [0, 1])
def test_a_length_that_nothing_tells_contradicts_none(rows: int) -> None:
    y, x = leg(1, 100), leg(2, 100)
    assert len(align(y, x[:rows])[0]) == rows
    x.attrs["bar_ns"] = 3600 * 10**9
    with pytest.raises(ValueError, match="differ in length"):
        align(y, x[:rows])


def test_a_scan_says_which_pairs_it_left_out() -> None:
    hours, quarters = quarters_and_hours()
    closes = pd.DataFrame({"h": hours["close"], "q": quarters["close"], "r": quarters["low"]})
    found = scan_pairs(closes, min_rows=50).set_index(["y", "x"])
    assert found["reason"].loc[[("q", "r"), ("r", "q")]].tolist() == ["", ""]
    for pair in (("h", "q"), ("q", "h"), ("h", "r"), ("r", "h")):
        assert "(3600 s)" in found["reason"][pair]
        assert "(900 s)" in found["reason"][pair]
        assert np.isnan(found["p_value"][pair])
    closes.attrs["bar_ns"] = 900 * 10**9  # the store says that all are quarters
    assert scan_pairs(closes, min_rows=50)["reason"].tolist() == [""] * 6


def test_the_command_refuses_in_one_line_and_offers_a_common_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for option, bars in zip(("--y-csv", "--x-csv"), quarters_and_hours(), strict=True):
        path = tmp_path / f"{option[2]}.csv"
        path.write_text(write_bars_csv(bars))
        files += [option, str(path)]
    rules = ["--hedge", "fixed", "--beta", "1", "--window", "10", "--entry-z", "1"]
    assert main([*files, *rules]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert "bars of 1h (3600 s) and bars of 15min (900 s)" in err
    assert main([*files, *rules, "--bar", "1h", "--json"]) == 0
    assert '"trades": 0,' in capsys.readouterr().out  # a market against itself
    assert main([*files, *rules, "--bar", "15min"]) == 2
    assert "shorter than the bars given" in capsys.readouterr().err


def test_steps_of_stated_frequency() -> None:
    index = pd.date_range("2024-01-01", periods=9, freq="-5min", tz="UTC")
    assert common_step_ns(index) == common_step_ns(index[::-1]) == 300 * 10**9
    assert common_step_ns(index[:1]) is None
