"""The market scan: each row is what the functions for one pair give, and chance is paid for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analytics import ols_hedge_ratio, spread
from cointegration import engle_granger, half_life
from pairs.analytics.pca import correlation_matrix
from pairs.analytics.scan import (
    SCAN_COLUMNS,
    benjamini_hochberg,
    pair_correlations,
    scan_pairs,
    small_sample_p,
)
from tests.support.prices import universe


class TestScan:
    @pytest.mark.parametrize("trend", ["n", "c", "ct"])
    @pytest.mark.parametrize("lags", [None, 2])
    def test_every_row_is_what_the_pair_functions_give(self, trend: str, lags: int | None) -> None:
        table = universe()
        found = scan_pairs(table, lags=lags, trend=trend)
        assert tuple(found.columns) == SCAN_COLUMNS
        assert len(found) == 5 * 4
        returns = correlation_matrix(table)
        for row in found.to_dict("records"):
            y, x = table[row["y"]], table[row["x"]]
            test = engle_granger(y, x, lags=lags, trend=trend)
            assert row["statistic"] == test.statistic
            assert row["p_value"] == test.p_value
            assert (row["beta"], row["intercept"]) == (test.beta, test.intercept)
            assert (row["lags"], row["rows"], row["reason"]) == (test.lags, 300, "")
            assert row["correlation"] == pytest.approx(returns.loc[row["y"], row["x"]], abs=1e-12)
            if trend == "c":
                fit = ols_hedge_ratio(y, x)
                assert row["beta"] == pytest.approx(fit.beta, rel=1e-12)
                assert row["r_squared"] == pytest.approx(fit.r_squared, rel=1e-9)
                error = spread(y, x, test.beta, test.intercept)
                assert row["half_life"] == pytest.approx(half_life(error), rel=1e-6)

    def test_the_bound_pair_is_found_first(self) -> None:
        found = scan_pairs(universe(1000), prices="log")
        assert {found["y"][0], found["x"][0]} == {"S0", "S1"}
        assert found["beta"][0] == pytest.approx(1, abs=0.1)
        assert found["p_adjusted"][0] < 1e-6
        assert found["p_value"].is_monotonic_increasing
        best = found.assign(p=(2 * small_sample_p(found)).clip(upper=1.0))
        best = best[~best[["y", "x"]].apply(frozenset, axis=1).duplicated()]
        expected = multipletests(best["p"], method="fdr_bh")[1]
        np.testing.assert_allclose(best["p_adjusted"], expected, rtol=1e-12)

    def test_symbols_with_holes_use_their_common_rows(self) -> None:
        table = universe()
        table.iloc[:40, 0] = np.nan  # listed later
        table.iloc[250:, 1] = np.nan  # delisted
        table.iloc[100, 2] = np.inf
        before = table.copy()
        found = scan_pairs(table).set_index(["y", "x"])
        pd.testing.assert_frame_equal(table, before)
        both = table[["S0", "S1"]].dropna()
        row = found.loc[("S0", "S1")]
        assert row["rows"] == len(both) == 210
        assert row["statistic"] == engle_granger(both["S0"], both["S1"]).statistic
        assert found.loc[("S3", "S2"), "rows"] == 299
        assert found.loc[("S3", "S4"), "rows"] == 300

    def test_what_cannot_be_tested_says_why(self) -> None:
        table = universe().assign(flat=3.0, double=lambda t: 2 * t["S3"], new=np.nan)
        table.loc[table.index[-20:], "new"] = table["S4"][-20:] + 1
        found = scan_pairs(table).set_index(["y", "x"])
        assert found.loc[("flat", "S0"), "reason"] == "y never changes"
        assert found.loc[("S0", "flat"), "reason"] == "x never changes"
        assert found.loc[("new", "S0"), "reason"] == "20 common rows, 100 needed"
        assert "since y is a function of x" in found.loc[("S3", "double"), "reason"]
        untested = found[found["reason"] != ""]
        assert untested[["beta", "statistic", "p_value", "p_adjusted"]].isna().all(axis=None)
        good = found[found["reason"] == ""]
        assert good[["statistic", "p_adjusted"]].notna().all(axis=None)
        alone = scan_pairs(universe()).set_index(["y", "x"])
        assert found.loc[("S0", "S1"), "p_value"] == alone.loc[("S0", "S1"), "p_value"]

    def test_chance_is_paid_for(self) -> None:
        """40 unrelated walks: raw p-values find some 5 % of 1,560 tests, corrected ones none."""
        walks = np.random.default_rng(3).normal(0, 1e-3, (400, 40)).cumsum(axis=0)
        found = scan_pairs(pd.DataFrame(np.exp(walks)), lags=0)
        assert (found["p_value"] < 0.05).sum() > 30
        assert (found["p_adjusted"] < 0.05).sum() == 0

    def test_progress_is_told_and_may_stop_it(self) -> None:
        told: list[tuple[int, int]] = []
        scan_pairs(universe(120), progress=lambda done, pairs: told.append((done, pairs)))
        assert told == [(k, 10) for k in range(1, 11)]

        class Stop(Exception):  # noqa: N818
            pass

        def stop(done: int, pairs: int) -> None:
            if done == 3:
                raise Stop

        with pytest.raises(Stop):
            scan_pairs(universe(120), progress=stop)

    def test_only_the_pairs_asked_for(self) -> None:
        table = universe()
        told: list[tuple[int, int]] = []
        found = scan_pairs(
            table, pairs=[("S3", "S0"), ("S1", "S2")], progress=lambda *step: told.append(step)
        )
        assert {frozenset(pair) for pair in zip(found["y"], found["x"], strict=True)} == {
            frozenset(("S0", "S3")),
            frozenset(("S1", "S2")),
        }
        assert told == [(1, 2), (2, 2)]
        whole = scan_pairs(table).set_index(["y", "x"])
        for row in found.to_dict("records"):
            assert row["p_value"] == whole.loc[(row["y"], row["x"]), "p_value"]
        assert scan_pairs(table, pairs=[]).empty
        for bad in (("S0", "S0"), ("S0", "S9"), ("S0", "S1", "S2")):
            with pytest.raises(ValueError, match="two different columns"):
                scan_pairs(table, pairs=[bad])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="twice"):  # it would count twice among the tests
            scan_pairs(table, pairs=[("S0", "S1"), ("S1", "S0")])
        with pytest.raises(ValueError, match="two different columns"):
            scan_pairs(table, pairs=[("S0", "S1", "nobody")])  # type: ignore[list-item]

    def test_correlations_are_those_of_the_scan(self) -> None:
        table = universe().assign(flat=3.0, new=np.nan)
        table.iloc[-10:, -1] = 1.0 + np.arange(10)
        table.iloc[:40, 0] = np.nan
        matrix = pair_correlations(table)
        found = scan_pairs(table)
        for row in found[found["reason"] == ""].to_dict("records"):
            assert matrix.loc[row["y"], row["x"]] == row["correlation"]
        assert matrix.loc["flat"].isna().all()
        assert matrix.loc["new"].drop("new").isna().all()  # 10 rows of 30
        assert (np.diag(matrix)[:5] == 1).all()
        pd.testing.assert_frame_equal(
            pair_correlations(universe()), correlation_matrix(universe()), atol=1e-12, rtol=0
        )
        with pytest.raises(ValueError, match="min_rows=2"):
            pair_correlations(table, min_rows=2)

    def test_refusals(self) -> None:
        table = universe(120)
        below = table.copy()
        below.iloc[5, 2] = 0.0
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (table[["S0"]], {}, "closes has 1 columns"),
            (table[::-1], {}, "out of order"),
            (pd.concat([table, table[-1:]]), {}, "row Timestamp.* more than once"),
            (pd.concat([table, table[["S0"]]], axis=1), {}, "column 'S0' more than once"),
            (below, {}, r"closes\['S2'\] is 0 at row 5"),
            (table.assign(S0="a"), {}, r"closes\['S0'\] has dtype"),
            (table, {"trend": "ctt"}, "trend="),
            (table, {"prices": "returns"}, "prices="),
            (table, {"lags": -1}, "lags=-1"),
            (table, {"min_rows": 5}, "min_rows=5"),
            ([1], {}, "closes is a list"),
        ]
        for frame, options, message in cases:
            with pytest.raises(ValueError, match=message):
                scan_pairs(frame, **options)


class TestBenjaminiHochberg:
    def test_the_published_example(self) -> None:
        """Benjamini and Hochberg (1995), section 3.2: 15 p-values, 4 pass at 0.05."""
        values = [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1.0,
        ]
        found = benjamini_hochberg(pd.Series(values))
        assert (found <= 0.05).sum() == 4
        assert found[3] == pytest.approx(0.0095 * 15 / 4)

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    @settings(max_examples=60, deadline=None)
    def test_statsmodels_agrees(self, values: list[float]) -> None:
        ours = benjamini_hochberg(pd.Series(values))
        theirs = multipletests(values, method="fdr_bh")[1]
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-300)

    def test_a_missing_value_is_no_test(self) -> None:
        found = benjamini_hochberg(pd.Series([0.01, np.nan, 0.02], name="p"))
        assert found.isna().tolist() == [False, True, False]
        assert found[0] == pytest.approx(0.02)
        assert found.name == "p"
        assert benjamini_hochberg(pd.Series([], dtype=float)).empty

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match=r"p_values is 1\.5 at row 1"):
            benjamini_hochberg(pd.Series([0.5, 1.5]))
        with pytest.raises(ValueError, match="p_values is a list"):
            benjamini_hochberg([0.5])  # type: ignore[arg-type]
