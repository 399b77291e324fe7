"""Robust and symmetric hedge ratios against their definitions and independent implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes
from statsmodels.robust.norms import HuberT
from statsmodels.robust.robust_linear_model import RLM
from statsmodels.tools import add_constant

from analytics import ols_hedge_ratio
from pairs.analytics.robust import huber_hedge_ratio, theil_sen_hedge_ratio, tls_hedge_ratio


def legs(rows: int = 300, seed: int = 0) -> tuple[pd.Series[float], pd.Series[float]]:
    rng = np.random.default_rng(seed)
    x = 100 + rng.normal(size=rows).cumsum()
    return pd.Series(5 + 0.7 * x + rng.standard_t(2.5, rows)), pd.Series(x)


def spiked(seed: int = 1) -> tuple[pd.Series[float], pd.Series[float]]:
    """A twentieth of the rows of y are bad prints."""
    y, x = legs(seed=seed)
    y = y.copy()
    y[::20] += 500.0
    return y, x


class TestHuber:
    def test_statsmodels_agrees(self) -> None:
        for seed in range(3):
            y, x = legs(seed=seed)
            ours = huber_hedge_ratio(y, x)
            peer = RLM(y, add_constant(x), M=HuberT()).fit(tol=1e-13, maxiter=500)
            assert ours.beta == pytest.approx(peer.params.iloc[1], rel=1e-8)
            assert ours.intercept == pytest.approx(peer.params.iloc[0], rel=1e-7)

    def test_the_equation_it_solves(self) -> None:
        """Σ ψ(e/s) = 0 and Σ ψ(e/s)·x = 0 with ψ cut off at ±k."""
        y, x = spiked()
        fit = huber_hedge_ratio(y, x, k=1.0)
        cut = np.clip((y - fit.intercept - fit.beta * x) / fit.scale, -1.0, 1.0)
        assert cut.sum() == pytest.approx(0, abs=1e-8)
        assert (cut * (x - x.mean())).sum() == pytest.approx(0, abs=1e-7)

    def test_bad_prints_barely_move_it(self) -> None:
        y, x = spiked()
        assert abs(huber_hedge_ratio(y, x).beta - 0.7) < 0.05
        assert abs(ols_hedge_ratio(y, x).beta - 0.7) > 0.15

    def test_a_large_k_is_least_squares(self) -> None:
        y, x = legs()
        assert huber_hedge_ratio(y, x, k=1e9).beta == pytest.approx(ols_hedge_ratio(y, x).beta)

    def test_legs_on_a_line(self) -> None:
        x = legs()[1]
        fit = huber_hedge_ratio(2 * x + 1, x)
        assert [fit.beta, fit.intercept] == pytest.approx([2, 1], rel=1e-9)

    def test_refusals(self) -> None:
        y, x = spiked()
        for k in (0, -1, math.nan, "1"):
            with pytest.raises(ValueError, match="k="):
                huber_hedge_ratio(y, x, k=k)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="iterations=2 do not settle"):
            huber_hedge_ratio(y, x, iterations=2)


class TestTheilSen:
    def by_all_pairs(self, y: Any, x: Any) -> float:
        i, j = np.triu_indices(len(x), 1)
        run, rise = np.asarray(x)[j] - np.asarray(x)[i], np.asarray(y)[j] - np.asarray(y)[i]
        return float(np.median(rise[run != 0] / run[run != 0]))

    def test_scipy_agrees(self) -> None:
        for rows in (3, 4, 50, 301):
            y, x = legs(rows, rows)
            assert theil_sen_hedge_ratio(y, x).beta == pytest.approx(
                theilslopes(y, x).slope, rel=1e-9
            )

    @given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=25))
    @settings(max_examples=150, deadline=None)
    def test_ties_of_every_kind(self, rows: list[tuple[int, int]]) -> None:
        y, x = (pd.Series(column, dtype=float) for column in zip(*rows, strict=True))
        if x.nunique() > 1:
            found = theil_sen_hedge_ratio(y, x).beta
            assert found == pytest.approx(self.by_all_pairs(y, x), abs=1e-9)

    def test_ten_thousand_rows_at_a_high_price(self) -> None:
        rng = np.random.default_rng(3)
        x = pd.Series(6e4 + rng.normal(0, 5, 10_000).cumsum())
        y = 0.05 * x + rng.normal(0, 1, 10_000)
        some = slice(None, None, 5)
        part = theil_sen_hedge_ratio(y[some], x[some])
        assert part.beta == pytest.approx(self.by_all_pairs(y[some], x[some]), rel=1e-9)
        assert theil_sen_hedge_ratio(y, x).beta == pytest.approx(0.05, abs=1e-3)

    def test_a_fifth_of_the_rows_may_be_anything(self) -> None:
        y, x = legs(seed=4)
        y, x = y.copy(), x.copy()
        y[::5], x[2::40] = -1e6, 1e5
        assert theil_sen_hedge_ratio(y, x).beta == pytest.approx(0.7, abs=0.1)
        assert abs(ols_hedge_ratio(y, x).beta - 0.7) > 0.5


class TestTotalLeastSquares:
    def test_principal_axis_agrees(self) -> None:
        y, x = legs()
        _, vectors = np.linalg.eigh(np.cov(x, y))
        slope = vectors[1, 1] / vectors[0, 1]
        assert tls_hedge_ratio(y, x).beta == pytest.approx(slope, rel=1e-9)

    def test_both_legs_alike(self) -> None:
        for seed in range(4):
            y, x = legs(seed=seed)
            forth, back = tls_hedge_ratio(y, x), tls_hedge_ratio(x, y)
            assert forth.beta * back.beta == pytest.approx(1.0, rel=1e-12)
            assert ols_hedge_ratio(y, x).beta * ols_hedge_ratio(x, y).beta < 0.999
            down = tls_hedge_ratio(-y, x)
            assert down.beta == pytest.approx(-forth.beta, rel=1e-12)

    def test_deming(self) -> None:
        """Errors nine times as large in y: the ratio given, the slope comes out right."""
        rng = np.random.default_rng(5)
        truth = rng.normal(0, 5, 50_000).cumsum() / 50
        x = pd.Series(truth + rng.normal(0, 0.3, 50_000))
        y = pd.Series(2 * truth + rng.normal(0, 0.9, 50_000))
        assert tls_hedge_ratio(y, x, variance_ratio=9.0).beta == pytest.approx(2, abs=2e-3)
        scaled = tls_hedge_ratio(3 * y, x, variance_ratio=81.0)
        assert scaled.beta == pytest.approx(3 * tls_hedge_ratio(y, x, variance_ratio=9.0).beta)

    def test_legs_that_share_nothing(self) -> None:
        x = pd.Series([-1.0, 1.0, -1.0, 1.0])
        y = pd.Series([2.0, 2.0, -2.0, -2.0])
        with pytest.raises(ValueError, match="nearest line"):
            tls_hedge_ratio(y, x)
        assert tls_hedge_ratio(x, y).beta == 0.0
        with pytest.raises(ValueError, match="variance_ratio=0"):
            tls_hedge_ratio(y, x, variance_ratio=0)


@pytest.mark.parametrize("fit", [huber_hedge_ratio, theil_sen_hedge_ratio, tls_hedge_ratio])
def test_common_ground(fit: Any) -> None:
    y, x = legs(60)
    with pytest.raises(ValueError, match="x is nan at row 3"):
        fit(y, x.where(x.index != 3))
    with pytest.raises(ValueError, match="different indexes"):
        fit(y, x[1:])
    with pytest.raises(ValueError, match="x is 5 in every row"):
        fit(y, x * 0 + 5)
    with pytest.raises(ValueError, match="y has 2 rows"):
        fit(y[:2], x[:2])
    assert fit(y, x).n == 60
    for unit in (1e-8, 1e9):
        base, moved = fit(y, x), fit(unit * y, unit * x)
        assert moved.beta == pytest.approx(base.beta, rel=1e-9)
        assert moved.intercept == pytest.approx(unit * base.intercept, rel=1e-6)
