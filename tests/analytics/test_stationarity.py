"""KPSS and the variance ratio against statsmodels, definitions and known processes."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.stattools import kpss

from pairs.analytics.stationarity import kpss_test, variance_ratio_test
from tests.support.reference import reference_csv


def reverting(rows: int, seed: int, pull: float) -> pd.Series[float]:
    values = np.random.default_rng(seed).normal(size=rows)
    for t in range(1, rows):
        values[t] += (1 - pull) * values[t - 1]
    return pd.Series(values)


def peer_kpss(values: Any, trend: Any, lags: Any) -> tuple[float, float, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where its table ends
        found = kpss(values, trend, lags, result_object=False)
    return float(found[0]), float(found[1]), int(found[2])


class TestKpss:
    @pytest.mark.parametrize("trend", ["c", "ct"])
    @pytest.mark.parametrize("lags", [None, 0, 4, 20])
    def test_statsmodels_agrees(self, trend: str, lags: int | None) -> None:
        prices = reference_csv("chan2_EWA_EWC_IGE.csv")["EWC"]
        for series in (prices, prices.diff().dropna(), reverting(300, 1, 0.1), prices + 1e6):
            ours = kpss_test(series, lags=lags, trend=trend)
            statistic, p_value, used = peer_kpss(series, trend, "auto" if lags is None else lags)
            assert ours.statistic == pytest.approx(statistic, rel=1e-9)
            assert ours.p_value == pytest.approx(p_value, rel=1e-9)
            assert ours.lags == used

    def test_the_opposite_of_dickey_fuller(self) -> None:
        walk = pd.Series(np.random.default_rng(2).normal(size=1000).cumsum())
        assert kpss_test(walk).p_value == 0.01
        assert kpss_test(reverting(1000, 2, 0.5)).p_value == 0.1

    def test_refusals(self) -> None:
        series = reverting(30, 3, 0.5)
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (series.where(series.index != 4), {}, "series is nan at row 4"),
            (series[:4], {}, "series has 4 rows"),
            (series, {"lags": 30}, "at least 31"),
            (series, {"lags": -1}, "lags=-1"),
            (series, {"trend": "n"}, "trend='n' .* c, ct"),
            (series * 0 + 3, {}, "does not vary around its mean or line"),
            (pd.Series(np.arange(30.0)), {"trend": "ct"}, "does not vary"),
        ]
        for values, options, message in cases:
            with pytest.raises(ValueError, match=message):
                kpss_test(values, **options)


class TestVarianceRatio:
    def test_by_the_printed_equations(self) -> None:
        """Lo and MacKinlay (1988), eqs. 12, 19 and 20, written out row by row."""
        x = np.random.default_rng(4).normal(size=60).cumsum()
        q, n = 3, 59
        mu = (x[n] - x[0]) / n
        one = sum((x[k] - x[k - 1] - mu) ** 2 for k in range(1, n + 1)) / (n - 1)
        m = q * (n - q + 1) * (1 - q / n)
        long = sum((x[k] - x[k - q] - q * mu) ** 2 for k in range(q, n + 1)) / m
        ratio = long / one
        plain = math.sqrt(n) * (ratio - 1) / math.sqrt(2 * (2 * q - 1) * (q - 1) / (3 * q))
        squares = [(x[k] - x[k - 1] - mu) ** 2 for k in range(1, n + 1)]
        theta = 0.0
        for j in range(1, q):
            delta = n * sum(squares[k] * squares[k - j] for k in range(j, n)) / sum(squares) ** 2
            theta += (2 * (q - j) / q) ** 2 * delta
        series = pd.Series(x)
        found = variance_ratio_test(series, q=3)
        assert found.ratio == pytest.approx(ratio, rel=1e-10)
        assert found.statistic == pytest.approx(math.sqrt(n) * (ratio - 1) / math.sqrt(theta))
        assert variance_ratio_test(series, q=3, robust=False).statistic == pytest.approx(plain)
        assert (found.q, found.n) == (3, 59)
        assert found.p_value == pytest.approx(math.erfc(abs(found.statistic) / math.sqrt(2)))

    def test_size_and_direction(self) -> None:
        walks = np.random.default_rng(5).normal(size=(400, 300)).cumsum(axis=1)
        share = np.mean([variance_ratio_test(pd.Series(w), q=4).p_value < 0.05 for w in walks])
        assert 0.02 < share < 0.09
        assert variance_ratio_test(reverting(1000, 6, 0.3), q=8).ratio < 0.6
        trending = pd.Series(reverting(1000, 7, 0.5).cumsum())
        assert variance_ratio_test(trending, q=8).ratio > 1.5

    def test_level_and_drift_do_not_matter(self) -> None:
        series = reverting(500, 8, 0.2)
        base = variance_ratio_test(series, q=5)
        moved = variance_ratio_test(series * 1e-8 + 1e-6 + 1e-9 * np.arange(500), q=5)
        assert moved.ratio == pytest.approx(base.ratio, rel=1e-7)

    def test_refusals(self) -> None:
        series = reverting(30, 9, 0.5)
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (series, {"q": 1}, "q=1"),
            (series, {"q": 15}, "at least 31"),
            (series, {"robust": 1}, "robust=1"),
            (series * 0 + 2, {}, "changes alike"),
            (pd.Series(np.arange(30.0)), {}, "changes alike"),
            (series.where(series.index != 4), {}, "nan at row 4"),
        ]
        for values, options, message in cases:
            with pytest.raises(ValueError, match=message):
                variance_ratio_test(values, **options)
