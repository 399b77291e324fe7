"""Cointegration against published results and independent implementations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.stattools import adfuller, coint
from statsmodels.tsa.vector_ar.vecm import coint_johansen

from analytics import ols_hedge_ratio, spread
from cointegration import (
    engle_granger,
    engle_granger_both,
    half_life,
    hurst_exponent,
    johansen,
)
from tests.support.reference import published, reference_csv


def funds() -> pd.DataFrame:
    """Daily closes of EWC, EWA, IGE: Chan (2013), chapter 2."""
    return reference_csv("chan2_EWA_EWC_IGE.csv")[["EWC", "EWA", "IGE"]]


def gold() -> tuple[pd.Series[float], pd.Series[float]]:
    """GLD and GDX adjusted closes on their common days."""
    legs = [
        reference_csv(f"chan1_{name}.csv", index_col="Date")["Adj Close"] for name in ("GLD", "GDX")
    ]
    both = pd.concat(legs, axis=1, join="inner", keys=["y", "x"]).sort_index()
    return both["y"], both["x"]


def bound(rows: int, seed: int, pull: float = 0.1) -> tuple[pd.Series[float], pd.Series[float]]:
    """A walk x and a leg y = 3 + 0.7·x + an error that returns to 0 by `pull` a row."""
    rng = np.random.default_rng(seed)
    x = 100 + rng.normal(size=rows).cumsum()
    error = rng.normal(size=rows)
    for t in range(1, rows):
        error[t] += (1 - pull) * error[t - 1]
    return pd.Series(3 + 0.7 * x + error), pd.Series(x)


class TestPublished:
    def test_chan_cadf(self) -> None:
        """Chan (2013), ex. 2.6 (MATLAB, LeSage's cadf): EWC on EWA at lag 1."""
        found = engle_granger(funds()["EWC"], funds()["EWA"], lags=1)
        name = "chan2_ols_cadf_EWC_on_EWA"
        assert found.statistic == published(name, "cadf_t")
        assert found.beta == published(name, "hedge_ratio_figure_legend")
        assert (found.lags, found.nobs) == (1, 1498)

    def test_chan_johansen_pair(self) -> None:
        """Chan (2013), ex. 2.7 (MATLAB, LeSage's johansen)."""
        found = johansen(funds()[["EWC", "EWA"]], trend=0, lags=1)
        name = "chan2_johansen_pair_EWC_EWA"
        assert found.trace.tolist() == published(name, "trace")
        assert found.max_eigen.tolist() == published(name, "max_eigen")
        for key, ours in (("trace", "trace"), ("eigen", "max_eigen")):
            limits = found.critical_values[ours][0].tolist()
            assert limits == published(name, f"{key}_crit_90_95_99_r0")

    def test_chan_johansen_triplet(self) -> None:
        """Chan (2013), ex. 2.7: eigenvalues, first vector, half-life of its portfolio."""
        found = johansen(funds())
        name = "chan2_johansen_triplet_halflife"
        assert found.trace.tolist() == published(name, "trace")
        assert found.max_eigen.tolist() == published(name, "max_eigen")
        assert found.eigenvalues.tolist() == published(name, "eigenvalues")
        vector = found.vectors[:, 0]
        assert (-np.sign(vector[0]) * vector).tolist() == published(name, "evec1")
        portfolio = pd.Series(funds().to_numpy() @ vector)
        assert half_life(portfolio) == published(name, "halflife_days")

    def test_chan_gold(self) -> None:
        """Chan (2009), ex. 7.2 and 7.5, in the Python notebook: all 385 days."""
        y, x = gold()
        name = "chan1_GLD_GDX_full_coint_halflife"
        found = engle_granger(y, x)
        assert found.statistic == published(name, "coint_t")
        assert found.p_value == published(name, "pvalue")
        assert list(found.critical_values) == ["1%", "5%", "10%"]
        assert list(found.critical_values.values()) == published(name, "crit_1_5_10")
        error = spread(y, x, ols_hedge_ratio(y, x, intercept=False).beta)
        assert half_life(error) == published(name, "halflife")
        assert -math.log(2) / half_life(error) == published(name, "theta")

    def test_chan_gold_training_days(self) -> None:
        """The number of lags alone turns the verdict: AIC -2.36, the book's lag 1 -3.18."""
        y, x = (leg[:252] for leg in gold())
        name = "chan1_GLD_GDX_train252"
        found = engle_granger(y, x)
        assert found.statistic == published(name, "coint_t_aic")
        assert found.p_value == published(name, "pvalue_aic")
        assert engle_granger(y, x, lags=1).statistic == published(name, "coint_t_lag1_book")

    @pytest.mark.parametrize("symbol", ["BTC", "ETH", "BNB", "SOL", "XRP"])
    def test_hurst_of_crypto(self, symbol: str) -> None:
        """A third party's chart of Binance's daily closes, two decimals."""
        close = reference_csv(f"binance_1d_{symbol}USDT.csv")["close"].dropna()
        assert hurst_exponent(close) == published("crypto_daily_hurst_open", f"{symbol}USDT")


class TestEngleGranger:
    @pytest.mark.parametrize("trend", ["n", "c", "ct"])
    @pytest.mark.parametrize("lags", [None, 0, 3])
    def test_statsmodels_agrees(self, trend: str, lags: int | None) -> None:
        for seed in range(4):
            y, x = bound(400, seed)
            ours = engle_granger(y, x, lags=lags, trend=trend)
            auto = "aic" if lags is None else None
            peer = coint(y, x, trend=trend, maxlag=lags, autolag=auto)
            assert ours.statistic == pytest.approx(peer[0], rel=1e-9)
            assert ours.p_value == pytest.approx(peer[1], abs=1e-9)
            limits = np.array(list(ours.critical_values.values()))
            np.testing.assert_allclose(limits, peer[2], rtol=1e-12)

    def test_the_regression_with_a_trend(self) -> None:
        y, x = bound(400, 5)
        y = y + 0.05 * np.arange(1, 401)
        found = engle_granger(y, x, trend="ct")
        design = np.column_stack([x, np.ones(400), np.arange(1, 401)])
        fit = np.linalg.lstsq(design, y.to_numpy(), rcond=None)[0]
        assert [found.beta, found.intercept, found.time_slope] == pytest.approx(fit, rel=1e-8)

    def test_close_substitutes_at_a_high_price(self) -> None:
        """R² = 1 - 1e-9: statsmodels answers -inf there; the spread is as testable as any."""
        rng = np.random.default_rng(7)
        x = pd.Series(6e4 + rng.normal(0, 30, 3000).cumsum())
        y = x * 1.0001 + rng.normal(0, 0.03, 3000)
        found = engle_granger(y, x, lags=2)
        centred = np.column_stack([x - x.mean(), np.ones(3000)])
        fit = np.linalg.lstsq(centred, (y - y.mean()).to_numpy(), rcond=None)[0]
        residual = (y - y.mean()).to_numpy() - centred @ fit
        peer = adfuller(residual, 2, "n", None, result_object=True)
        assert found.statistic == pytest.approx(peer.statistic, rel=1e-9)

    def test_limits_are_not_those_of_an_observed_series(self) -> None:
        y, x = bound(400, 6)
        plain = {"1%": -3.43, "5%": -2.86, "10%": -2.57}
        for level, limit in engle_granger(y, x).critical_values.items():
            assert limit < plain[level] - 0.4

    def test_both_ways(self) -> None:
        y, x = bound(400, 8)
        found = engle_granger_both(y, x, lags=1)
        assert found.y_on_x == engle_granger(y, x, lags=1)
        assert found.x_on_y == engle_granger(x, y, lags=1)
        least = min(found.y_on_x.p_value, found.x_on_y.p_value)
        assert found.p_value == min(1.0, 2 * least)

    def test_walks_of_their_own_are_rarely_called_cointegrated(self) -> None:
        """Of 400 unrelated pairs about 5 % pass at 5 %; by plain ADF limits 16 % would."""
        rng = np.random.default_rng(9)
        walks = rng.normal(size=(800, 300)).cumsum(axis=1)
        found = [
            engle_granger(pd.Series(a), pd.Series(b), lags=0)
            for a, b in zip(walks[:400], walks[400:], strict=True)
        ]
        share = np.mean([f.p_value < 0.05 for f in found])
        assert 0.02 < share < 0.09
        assert np.mean([f.statistic < -2.86 for f in found]) > 0.1

    def test_refusals(self) -> None:
        y, x = bound(60, 10)
        cases: list[tuple[Any, Any, dict[str, Any], str]] = [
            (y.where(y.index != 7), x, {}, "y is nan at row 7"),
            (y, x.replace(x[3], np.inf), {}, "x is inf at row 3"),
            (y, x[1:], {}, "different indexes"),
            (y, x * 0 + 5, {}, "x is 5 in every row"),
            (x * 0 + 5, x, {}, "y is 5 in every row"),
            (2 * x + 1, x, {}, "the residual of y on x is 0 but for rounding"),
            (y, pd.Series(np.arange(60.0)), {"trend": "ct"}, "nothing but its deterministic terms"),
            (y, x, {"trend": "ctt"}, "trend='ctt'"),
            (y, x, {"lags": -1}, "lags=-1"),
            (y, x, {"lags": 40}, "y has 60 rows"),
            (y[:3], x[:3], {}, "y has 3 rows"),
        ]
        for a, b, options, message in cases:
            with pytest.raises(ValueError, match=message):
                engle_granger(a, b, **options)


class TestJohansen:
    @pytest.mark.parametrize("trend", [-1, 0, 1])
    @pytest.mark.parametrize("lags", [1, 2, 5])
    def test_statsmodels_agrees(self, trend: int, lags: int) -> None:
        ours = johansen(funds(), trend=trend, lags=lags)
        peer = coint_johansen(funds().to_numpy(), trend, lags)
        np.testing.assert_allclose(ours.trace, peer.lr1, rtol=1e-9)
        np.testing.assert_allclose(ours.max_eigen, peer.lr2, rtol=1e-9)
        np.testing.assert_allclose(ours.eigenvalues, peer.eig, rtol=1e-9)
        np.testing.assert_allclose(np.abs(ours.vectors), np.abs(peer.evec), rtol=1e-8)
        np.testing.assert_allclose(ours.critical_values["trace"], peer.cvt)
        np.testing.assert_allclose(ours.critical_values["max_eigen"], peer.cvm)

    def test_without_lags_the_level_is_the_one_before_the_step(self) -> None:
        """By the definition: eigenvalues of S₀₀⁻¹ S₀ₖ Sₖₖ⁻¹ Sₖ₀ with the level at t-1."""
        prices = funds().to_numpy()
        found = johansen(funds(), lags=0)
        steps, levels = np.diff(prices, axis=0), prices[:-1]
        steps, levels = steps - steps.mean(axis=0), levels - levels.mean(axis=0)
        cross = steps.T @ levels
        squared = np.linalg.solve(steps.T @ steps, cross) @ np.linalg.solve(
            levels.T @ levels, cross.T
        )
        values = np.sort(np.linalg.eigvals(squared).real)[::-1]
        np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-8)

    def test_vectors_are_scaled(self) -> None:
        """v'S_kk v = I, whatever the units of the legs."""
        table = funds() * [1e-8, 1.0, 1e9]
        found = johansen(table, lags=1)
        plain = johansen(funds(), lags=1)
        np.testing.assert_allclose(found.trace, plain.trace, rtol=1e-9)
        scaled = np.abs(found.vectors * np.array([[1e-8], [1.0], [1e9]]))
        np.testing.assert_allclose(scaled, np.abs(plain.vectors), rtol=1e-7)
        steps = np.diff(funds().to_numpy(), axis=0)
        past, level = steps[:-1], funds().to_numpy()[1:-1]
        past, level = past - past.mean(axis=0), level - level.mean(axis=0)
        left = level - past @ np.linalg.lstsq(past, level, rcond=None)[0]
        s = left.T @ left / len(left)
        np.testing.assert_allclose(plain.vectors.T @ s @ plain.vectors, np.eye(3), atol=1e-9)

    def test_rank(self) -> None:
        rng = np.random.default_rng(21)
        y, x = bound(800, 11, pull=0.3)
        other = pd.Series(rng.normal(size=800).cumsum())
        assert johansen(pd.DataFrame({"y": y, "x": x, "z": other})).rank() == 1
        walks = pd.DataFrame(rng.normal(size=(800, 3)).cumsum(axis=0))
        assert johansen(walks).rank(99) == 0
        with pytest.raises(ValueError, match="confidence=50"):
            johansen(walks).rank(50)

    def test_refusals(self) -> None:
        table = funds()[:60]
        holed = table.copy()
        holed.iloc[5] = np.nan
        cases: list[tuple[Any, dict[str, Any], str]] = [
            (table, {"trend": 2}, "trend=2"),
            (table, {"trend": 1.0}, "trend=1.0"),
            (table, {"trend": "c"}, "trend='c'"),
            (table, {"lags": True}, "lags=True"),
            (table, {"lags": -1}, "lags=-1"),
            (table[["EWC"]], {}, "frame has 1 columns"),
            (table[:8], {}, "rows: at least"),
            (table.assign(double=2 * table["EWC"]), {}, "depend on each other"),
            (table.assign(flat=1.0), {}, r"frame\['flat'\] is the same in every row"),
            (holed, {}, r"frame\['EWC'\] is nan at row 5"),
            (table.to_numpy(), {}, "frame is a ndarray"),
            (pd.concat([table] * 5, axis=1), {}, "frame has 15 columns: 2 to 12"),
            (pd.concat([table] * 2, axis=1), {}, "column 'EWC' more than once"),
        ]
        for frame, options, message in cases:
            with pytest.raises(ValueError, match=message):
                johansen(frame, **options)


class TestHalfLife:
    def test_of_a_known_process(self) -> None:
        rng = np.random.default_rng(12)
        noise = rng.normal(size=50_000)
        values = noise.copy()
        for t in range(1, len(values)):
            values[t] += 0.9 * values[t - 1]
        assert half_life(pd.Series(values)) == pytest.approx(math.log(2) / 0.1, rel=0.05)
        assert half_life(pd.Series(values + 1e7)) == pytest.approx(half_life(pd.Series(values)))

    def test_what_does_not_return_has_none(self) -> None:
        assert half_life(pd.Series(1.01 ** np.arange(50.0))) == math.inf
        assert half_life(pd.Series(np.arange(50.0))) == math.inf

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="spread is 3 before every change"):
            half_life(pd.Series([3.0] * 9))
        with pytest.raises(ValueError, match="spread has 3 rows"):
            half_life(pd.Series([3.0, 2.0, 1.0]))
        with pytest.raises(ValueError, match="spread is nan at row 1"):
            half_life(pd.Series([3.0, np.nan, 1.0, 2.0]))


class TestHurst:
    @pytest.mark.parametrize("method", ["std", "rs"])
    def test_walks_trends_and_reverting_series(self, method: str) -> None:
        rng = np.random.default_rng(13)
        noise = rng.normal(size=20_000)
        walk, back = noise.cumsum(), noise.copy()
        momentum = np.convolve(noise, np.arange(1, 200.0) ** -0.6)[: len(noise)].cumsum()
        for t in range(1, len(back)):
            back[t] += 0.8 * back[t - 1]
        found = [
            hurst_exponent(pd.Series(v), method=method, max_lag=127) for v in (back, walk, momentum)
        ]
        assert found[0] < 0.42
        assert found[1] == pytest.approx(0.5, abs=0.1)  # rescaled range: short windows bias it up
        assert found[2] > 0.7

    def test_the_formula(self) -> None:
        values = np.random.default_rng(14).normal(size=300).cumsum()
        spans = np.arange(2, 21)
        sizes = [np.std(values[k:] - values[:-k]) for k in spans]
        slope = np.polyfit(np.log(spans), np.log(sizes), 1)[0]
        assert hurst_exponent(pd.Series(values), max_lag=20) == pytest.approx(slope, rel=1e-10)

    def test_rescaled_range_of_one_block_by_hand(self) -> None:
        """Steps of Σ = 0 and deviation 1 that climb to 4: R/S = 4 over 8 rows, 4 over 16."""
        steps = np.r_[np.ones(4), -np.ones(4)]
        short = pd.Series(np.r_[0.0, np.tile(steps, 2).cumsum()])
        assert hurst_exponent(short, max_lag=15, method="rs") == pytest.approx(0.0, abs=1e-12)
        with pytest.raises(ValueError, match="series changes alike over 8 rows"):
            hurst_exponent(pd.Series(np.arange(17.0)), max_lag=15, method="rs")

    def test_refusals(self) -> None:
        walk = pd.Series(np.random.default_rng(15).normal(size=120).cumsum())
        cases: list[tuple[pd.Series[float], dict[str, Any], str]] = [
            (walk[:100], {}, "series has 100 rows: at least 101"),
            (walk, {"max_lag": 2}, "max_lag=2"),
            (walk, {"method": "dfa"}, "method='dfa' .* std, rs"),
            (walk * 0 + 1, {}, "changes alike over 2 rows"),
            (pd.Series(np.arange(120.0)), {}, "changes alike over 2 rows"),
            (walk.where(walk.index != 3), {}, "series is nan at row 3"),
        ]
        for values, options, message in cases:
            with pytest.raises(ValueError, match=message):
                hurst_exponent(values, **options)
