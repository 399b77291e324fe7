"""Pair maths against published results, independent implementations and exact arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pykalman import KalmanFilter
from statsmodels.regression.linear_model import OLS
from statsmodels.tools import add_constant

from analytics import (
    adf_test,
    discounted_hedge_ratio,
    fit_kalman_noise,
    kalman_hedge_ratio,
    kalman_zscore,
    ols_hedge_ratio,
    rolling_correlation,
    rolling_hedge_ratio,
    spread,
    zscore,
)
from cointegration import johansen
from pairs.analytics.kalman import KALMAN_COLUMNS, kalman_path
from pairs.analytics.windows import window_fit
from pairs.checks import Array
from tests.support.reference import published, reference_csv, reference_json


def floats(series: pd.Series[float]) -> Array:
    return np.asarray(series, dtype=np.float64)


def performance(returns: Array) -> tuple[float, float]:
    """APR and Sharpe as in Chan's books: 252 days, no risk-free rate."""
    growth = float(np.prod(1 + returns)) ** (252 / len(returns)) - 1
    return growth, math.sqrt(252) * returns.mean() / returns.std(ddof=1)


def held_returns(positions: Array, prices: Array) -> Array:
    """Daily returns over yesterday's gross dollars, 0 where nothing was held."""
    profit = (positions[:-1] * np.diff(prices, axis=0) / prices[:-1]).sum(axis=1)
    gross = np.abs(positions[:-1]).sum(axis=1)
    returns = np.zeros(len(prices))
    np.divide(profit, gross, out=returns[1:], where=gross > 0)
    return returns


def gold() -> tuple[pd.Series[float], pd.Series[float]]:
    """GLD and GDX adjusted closes on their common days."""
    legs = [
        reference_csv(f"chan1_{name}.csv", index_col="Date")["Adj Close"] for name in ("GLD", "GDX")
    ]
    both = pd.concat(legs, axis=1, join="inner", keys=["y", "x"]).sort_index()
    return both["y"], both["x"]


def walk(rows: int, seed: int, level: float = 100.0) -> tuple[pd.Series[float], pd.Series[float]]:
    """A leg x and a leg y = 0.7·x + stationary noise."""
    rng = np.random.default_rng(seed)
    x = level + level * 1e-3 * rng.normal(size=rows).cumsum()
    return pd.Series(0.7 * x + level * 1e-3 * rng.normal(size=rows)), pd.Series(x)


class TestPublished:
    def test_chan_ewc_on_ewa(self) -> None:
        """Chan (2013), ex. 2.6: hedge ratio of the figure, and the residuals' ADF t at lag 1."""
        table = reference_csv("chan2_EWA_EWC_IGE.csv")
        fit = ols_hedge_ratio(table["EWC"], table["EWA"])
        residual = spread(table["EWC"], table["EWA"], fit.beta, fit.intercept)
        name = "chan2_ols_cadf_EWC_on_EWA"
        assert fit.beta == published(name, "hedge_ratio_figure_legend")
        assert adf_test(residual, lags=1, trend="n").statistic == published(name, "cadf_t")

    def test_chan_kalman_states_and_trades(self) -> None:
        """Chan (2013), ex. 3.3 (MATLAB): states, and the strategy that trades the innovation."""
        table = reference_csv("chan2_EWA_EWC.csv")
        y, x = table["EWC"], table["EWA"]
        states = kalman_hedge_ratio(y, x, delta=1e-4, observation_variance=1e-3)
        name, beta = "chan2_kalman_EWC_on_EWA", states["beta"]
        assert beta[1] == published(name, "beta2_slope")
        assert beta.median() == published(name, "slope_median")
        assert beta.mean() == published(name, "slope_mean")
        assert (beta > 1).sum() == published(name, "days_slope_gt_1")
        assert states["intercept"].iloc[-1] == published(name, "last_intercept")
        assert states["intercept"].max() == published(name, "max_intercept")

        error, band = states["innovation"], states["innovation_std"]
        long = pd.Series(np.nan, index=error.index)
        long[0], long[error > -band], long[error < -band] = 0.0, 0.0, 1.0
        short = pd.Series(np.nan, index=error.index)
        short[0], short[error < band], short[error > band] = 0.0, 0.0, -1.0
        units = (long.ffill() + short.ffill()).to_numpy()
        prices = np.column_stack([x, y]).astype(float)
        positions = units[:, None] * np.column_stack([-beta, np.ones_like(beta)]) * prices
        apr, sharpe = performance(held_returns(positions, prices))
        assert apr == published(name, "APR")
        assert sharpe == published(name, "Sharpe")

    def test_chan_linear_mean_reversion(self) -> None:
        """Chan (2013), ex. 2.8: units = -z over 23 days of the first Johansen portfolio."""
        table = reference_csv("chan2_EWA_EWC_IGE.csv")[["EWC", "EWA", "IGE"]]
        vector, prices = johansen(table).vectors[:, 0], table.to_numpy(float)
        units = -zscore(pd.Series(prices @ vector), 23).to_numpy()
        positions = np.nan_to_num(units)[:, None] * vector * prices
        apr, sharpe = performance(held_returns(positions, prices))
        assert apr == published("chan2_linear_mean_reversion_triplet", "APR")
        assert sharpe == published("chan2_linear_mean_reversion_triplet", "Sharpe")

    def test_chan_gold_hedge_without_intercept(self) -> None:
        """Chan (2009), ex. 3.6 and 7.2: all 385 days, and the first 252 with their spread."""
        y, x = gold()
        whole = ols_hedge_ratio(y, x, intercept=False)
        assert whole.n == 385
        assert whole.intercept == 0.0
        assert whole.beta == published("chan1_GLD_GDX_full_coint_halflife", "hedge")
        fit = ols_hedge_ratio(y[:252], x[:252], intercept=False)
        error = spread(y[:252], x[:252], fit.beta)
        assert fit.beta == published("chan1_GLD_GDX_train252", "hedge")
        assert error.mean() == published("chan1_GLD_GDX_train252", "spread_mean")
        assert error.std(ddof=0) == published("chan1_GLD_GDX_train252", "spread_std_ddof0")

    def test_chan_gold_backtest(self) -> None:
        """Chan (2009), ex. 3.6: a dollar each way while |z| ≥ 2, z from the training days."""
        y, x = gold()
        beta = ols_hedge_ratio(y[:252], x[:252], intercept=False).beta
        error = spread(y, x, beta)
        z = (error - error[:252].mean()) / error[:252].std(ddof=0)
        side = (z <= -2).astype(float) - (z >= 2).astype(float)
        profit = side.shift() * (y.pct_change() - x.pct_change())
        name = "chan1_GLD_GDX_zscore_backtest"
        for part, key in ((profit[1:252], "sharpe_train_py"), (profit[252:], "sharpe_test_py")):
            assert math.sqrt(252) * part.mean() / part.std(ddof=0) == published(name, key)

    def test_chan_gold_backtest_of_the_book(self) -> None:
        """The same in MATLAB, with an exit at |z| ≤ 1 and ddof 1: about 2.3 and 1.5."""
        y, x = gold()
        fit = ols_hedge_ratio(y[:252], x[:252], intercept=False)
        error = spread(y, x, fit.beta)
        z = (error - error[:252].mean()) / error[:252].std()
        side = pd.Series(np.nan, index=z.index)
        side[z >= 2], side[z <= -2], side[z.abs() <= 1] = -1.0, 1.0, 0.0
        held = side.ffill().shift()
        profit = held * (y.pct_change() - x.pct_change())
        name = "chan1_GLD_GDX_zscore_backtest"
        for part, key in ((profit[1:252], "sharpe_train_book"), (profit[252:], "sharpe_test_book")):
            assert math.sqrt(252) * part.mean() / part.std() == published(name, key)

    @pytest.mark.parametrize(
        ("column", "trend", "lags"),
        [
            (name, trend, lags)
            for name, lags in (("realgdp", 4), ("infl", 1))
            for trend in ("c", "ct", "n")
        ],
    )
    def test_stata_adf(self, column: str, trend: str, lags: int) -> None:
        """Stata's dfuller, as in statsmodels' unit tests."""
        found = adf_test(reference_csv("statsmodels_macrodata.csv")[column], lags=lags, trend=trend)
        key = f"{column}_{trend}{lags}"
        assert [found.statistic, found.p_value] == published("stata_adf_macrodata", key)
        assert found.lags == lags

    def test_stock_indicators_score(self) -> None:
        """Stock.Indicators (Excel), population deviation: printed rows, then the whole series."""
        close = reference_csv("si_default.csv")["close"]
        score = zscore(close, 20, ddof=0)
        for row in (249, 501):
            assert score[row] == published("stockindicators_bollinger_ema", f"z_{row}")
        theirs = pd.DataFrame(reference_json("si_bb.standard.json"))["zScore"].astype(float)
        np.testing.assert_allclose(score, theirs, rtol=0, atol=1e-11)


class TestOls:
    @pytest.mark.parametrize("intercept", [True, False])
    def test_statsmodels_agrees(self, intercept: bool) -> None:
        y, x = walk(300, 1)
        fit = ols_hedge_ratio(y, x, intercept=intercept)
        peer = OLS(y, add_constant(x) if intercept else x).fit()
        assert fit.beta == pytest.approx(peer.params.iloc[-1], rel=1e-10)
        assert fit.std_error == pytest.approx(peer.bse.iloc[-1], rel=1e-10)
        assert fit.r_squared == pytest.approx(peer.rsquared, rel=1e-10)
        assert fit.n == 300
        if intercept:
            assert fit.intercept == pytest.approx(peer.params.iloc[0], abs=1e-9)

    def test_price_level_costs_no_digits(self) -> None:
        rng = np.random.default_rng(2)
        small = rng.normal(0, 1e-3, 10_000).cumsum()
        far = ols_hedge_ratio(pd.Series(2 * small + 1e7), pd.Series(small + 1e7))
        assert far.beta == pytest.approx(2.0, rel=1e-7)  # the legs themselves hold 1e-9 of price

    def test_refusals(self) -> None:
        good = pd.Series([1.0, 2.0, 4.0, 3.0])
        cases: list[tuple[Any, Any, str]] = [
            (good, good.replace(4.0, np.nan), r"x is nan at row 2"),
            (good.replace(4.0, np.inf), good, r"y is inf at row 2"),
            (good, good.set_axis([1, 2, 3, 4]), "different indexes"),
            (good[:2], good[:2], r"y has 2 rows: at least 3"),
            (good, pd.Series([7.0] * 4), r"x is 7 in every row"),
            (good.tolist(), good, "y is a list"),
            (good.astype(str), good, "y has dtype str: real numbers"),
            (good, good.astype(object).replace(4.0, "4"), "x has dtype object: real numbers"),
            (good, good.astype("category"), "x has dtype category: real numbers"),
            (good > 2, good, "y has dtype bool: real numbers"),
        ]
        for y, x, message in cases:
            with pytest.raises(ValueError, match=message):
                ols_hedge_ratio(y, x)
        assert math.isnan(ols_hedge_ratio(pd.Series([7.0] * 4), good).r_squared)
        for value, rows in ((0.1, 3), (60_000.1, 7)):  # the mean of these rounds
            ramp = pd.Series(np.arange(1.0, rows + 1.0))
            assert math.isnan(ols_hedge_ratio(pd.Series([value] * rows), ramp).r_squared)
        for scale in (1e-200, 1e200):
            with np.errstate(over="ignore"), pytest.raises(ValueError, match="x varies by about"):
                ols_hedge_ratio(good, good * scale)


class TestRolling:
    @pytest.mark.parametrize("intercept", [True, False])
    def test_every_window_is_the_full_sample_fit_of_it(self, intercept: bool) -> None:
        y, x = walk(200, 3, 6e4)
        ours = rolling_hedge_ratio(y, x, 30, intercept=intercept)
        error = window_fit(floats(y), floats(x), 30, intercept=intercept)[2]
        assert ours[:29].isna().all(axis=None)
        for row in range(29, 200):
            part = slice(row - 29, row + 1)
            fit = ols_hedge_ratio(y[part], x[part], intercept=intercept)
            assert ours["beta"][row] == pytest.approx(fit.beta, rel=1e-10)
            assert ours["intercept"][row] == pytest.approx(fit.intercept, rel=1e-9)
            assert error[row] == pytest.approx(fit.std_error, rel=1e-9)

    @pytest.mark.parametrize("window", [60, 1000])
    def test_a_million_rows_at_price_100_000(self, window: int) -> None:
        rng = np.random.default_rng(4)
        x = 1e5 + rng.normal(0, 0.01, 1_000_000).cumsum()
        y = 0.05 * x + rng.normal(0, 0.01, 1_000_000)
        ours = rolling_hedge_ratio(pd.Series(y), pd.Series(x), window)["beta"].to_numpy()
        together = rolling_correlation(pd.Series(y), pd.Series(x), window).to_numpy()
        view = np.lib.stride_tricks.sliding_window_view
        xs, ys = (view(v[-9_000:].astype(np.longdouble), window) for v in (x, y))
        dx, dy = xs - xs.mean(axis=1, keepdims=True), ys - ys.mean(axis=1, keepdims=True)
        sxy, sxx, syy = ((a * b).sum(axis=1) for a, b in ((dx, dy), (dx, dx), (dy, dy)))
        scale = np.sqrt(syy / sxx)  # what an error of the slope is to be measured by
        assert np.abs((ours[-len(xs) :] - sxy / sxx) / scale).max() < 1e-11
        assert np.abs(together[-len(xs) :] - sxy / np.sqrt(sxx * syy)).max() < 1e-11

    @pytest.mark.parametrize("unit", [1e-8, 1e9])
    def test_dust_and_giants(self, unit: float) -> None:
        """No threshold is absolute: slopes, scores and correlations do not know the unit."""
        y, x = walk(300, 5)
        base, moved = rolling_hedge_ratio(y, x, 20), rolling_hedge_ratio(unit * y, unit * x, 20)
        np.testing.assert_allclose(moved["beta"], base["beta"], rtol=1e-9)
        np.testing.assert_allclose(zscore(unit * y, 20), zscore(y, 20), atol=1e-8)
        np.testing.assert_allclose(
            rolling_correlation(unit * y, unit * x, 20), rolling_correlation(y, x, 20), atol=1e-9
        )
        states, scaled = (
            kalman_hedge_ratio(k * y, k * x, observation_variance=k * k, intercept=False)
            for k in (1.0, unit)
        )
        np.testing.assert_allclose(scaled["beta"], states["beta"], rtol=1e-9)

    def test_flat_and_missing_windows(self) -> None:
        x = pd.Series([5.0, 5.0, 5.0, 6.0, np.nan, 7.0, 8.0, 9.0])
        y = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0, np.inf, 7.0, 8.0])
        fit = rolling_hedge_ratio(y, x, 2)
        assert fit["beta"].isna().tolist() == [True] * 3 + [False] + [True] * 3 + [False]
        assert fit["intercept"].isna().equals(fit["beta"].isna())
        origin = rolling_hedge_ratio(y, x, 2, intercept=False)
        assert origin["beta"].isna().tolist() == [True] + [False] * 3 + [True] * 3 + [False]
        assert origin["intercept"].dropna().eq(0).all()
        assert rolling_correlation(y, x, 2).isna().equals(fit["beta"].isna())

    @given(
        st.lists(st.tuples(*[st.sampled_from([1.0, 2.0, 3.5, np.nan])] * 2), max_size=40),
        st.integers(2, 6),
    )
    @settings(max_examples=100, deadline=None)
    def test_correlation_stays_in_bounds(
        self, rows: list[tuple[float, float]], window: int
    ) -> None:
        frame = pd.DataFrame(rows, columns=["a", "b"], dtype=float)
        ours = rolling_correlation(frame["a"], frame["b"], window)
        assert (ours.dropna().abs() <= 1).all()
        for row in range(window - 1, len(frame)):
            part = frame[row - window + 1 : row + 1]
            if part.isna().any(axis=None) or (part.nunique() == 1).any():
                assert math.isnan(ours[row])
            else:
                assert ours[row] == pytest.approx(np.corrcoef(part.T)[0, 1], abs=1e-12)

    @pytest.mark.parametrize("window", [1, 0, 2.0, "2", None, True])
    def test_windows_refused(self, window: Any) -> None:
        y, x = walk(10, 0)
        for call in (rolling_hedge_ratio, rolling_correlation):
            with pytest.raises(ValueError, match=r"window=.* at least 2"):
                call(y, x, window)
        if window is not None:
            with pytest.raises(ValueError, match=r"window=.* at least 2"):
                zscore(y, window)

    def test_unequal_indexes_refused(self) -> None:
        y, x = walk(10, 0)
        for call in (rolling_hedge_ratio, rolling_correlation, spread):
            with pytest.raises(ValueError, match="different indexes"):
                call(y, x[1:], 2)
        with pytest.raises(ValueError, match="different indexes"):
            kalman_hedge_ratio(y, x[1:])
        with pytest.raises(ValueError, match=r"beta .* different indexes"):
            spread(y, x, x[1:])


@pytest.mark.parametrize("intercept", [None, "no", 0, 1.0])
def test_flags_are_true_or_false(intercept: Any) -> None:
    y, x = walk(20, 0)
    for call in (
        ols_hedge_ratio,
        kalman_hedge_ratio,
        discounted_hedge_ratio,
        kalman_zscore,
        fit_kalman_noise,
    ):
        with pytest.raises(ValueError, match=r"intercept=.* True or False is allowed"):
            call(y, x, intercept=intercept)
    with pytest.raises(ValueError, match=r"intercept=.* True or False is allowed"):
        rolling_hedge_ratio(y, x, 5, intercept=intercept)


@pytest.mark.parametrize("kind", ["int64", "uint8", "float32", "Int64", "Float64", "object"])
def test_any_kind_of_number_is_taken(kind: str) -> None:
    whole = pd.Series(np.random.default_rng(2).integers(1, 200, 40))
    other = whole[::-1].set_axis(whole.index)
    base = rolling_hedge_ratio(whole.astype(float), other.astype(float), 5)
    pd.testing.assert_frame_equal(rolling_hedge_ratio(whole.astype(kind), other, 5), base)
    holed = whole.astype("object" if kind == "object" else "Float64").mask(whole.index == 9)
    assert zscore(holed, 5).isna().tolist() == [r < 4 or 9 <= r < 14 for r in range(40)]


class TestSpreadAndScore:
    def test_spread_takes_numbers_and_series(self) -> None:
        y, x = pd.Series([3.0, 5.0, np.inf]), pd.Series([1.0, 2.0, 3.0])
        assert spread(y, x, 2.0, 0.5).tolist()[:2] == [0.5, 0.5]
        assert spread(y, x, x, pd.Series([np.nan, 1.0, 1.0])).tolist()[1] == 0.0
        assert spread(y, x, 2.0).isna().tolist() == [False, False, True]
        for beta in (math.nan, True, "2"):
            with pytest.raises(ValueError, match=f"beta={beta!r}"):
                spread(y, x, beta)  # type: ignore[arg-type]

    def test_absurd_prices_warn_nobody(self) -> None:
        series = pd.Series([1e200, -1e200, 1e308, -1e308, 1e-200, 3e-200, 0.0, 1.0])
        other = series[::-1].set_axis(series.index)
        for ours in (zscore(series, 3), rolling_correlation(series, other, 3)):
            assert not np.isinf(ours).any()
        rolling_hedge_ratio(series, other, 3)

    def test_score_of_equal_values_is_nan(self) -> None:
        """Not 0, not infinite, and no noise over the rounding left of what came before."""
        series = pd.Series([1e5 + 0.1 * i for i in range(20)] + [61837.63] * 10)
        score = zscore(series, 5)
        assert score.isna().tolist() == [True] * 4 + [False] * 20 + [True] * 6

    def test_full_sample(self) -> None:
        series = pd.Series([1.0, 2.0, np.nan, 6.0], name="s")
        score = zscore(series)
        assert score.to_numpy() == pytest.approx(
            [-2 / 7**0.5, -1 / 7**0.5, np.nan, 3 / 7**0.5], nan_ok=True
        )
        assert score.name == "s"
        assert zscore(pd.Series([3.3] * 5)).isna().all()
        assert zscore(pd.Series([3.3])).isna().all()

    @pytest.mark.parametrize("ddof", [5, -1, 1.0, True])
    def test_ddof_refused(self, ddof: Any) -> None:
        with pytest.raises(ValueError, match="ddof="):
            zscore(pd.Series(np.arange(9.0)), 5, ddof=ddof)


class TestKalman:
    def exact(self, y: Array, x: Array, delta: str, noise: str) -> Array:
        """The contract's equations, textbook form, in 60 digits."""
        rows: list[list[float]] = []
        with localcontext() as context:
            context.prec = 60
            drift, v = Decimal(delta) / (1 - Decimal(delta)), Decimal(noise)
            b = a = p = c = r = Decimal(0)
            for t, (py, px) in enumerate(zip(map(Decimal, y), map(Decimal, x), strict=True)):
                if t:
                    p, r = p + drift, r + drift
                error = py - b * px - a
                on_b, on_a = p * px + c, c * px + r
                q = px * on_b + on_a + v
                prior = [b, a]
                b, a = b + on_b / q * error, a + on_a / q * error
                p, c, r = p - on_b * on_b / q, c - on_b * on_a / q, r - on_a * on_a / q
                rows.append([float(f) for f in (b, a, *prior, error, q.sqrt(), p.sqrt())])
        return np.array(rows, dtype=np.float64)

    @pytest.mark.parametrize(("level", "delta"), [(20.0, "1e-4"), (6e4, "1e-4"), (6e4, "1e-9")])
    def test_sixty_digits_agree(self, level: float, delta: str) -> None:
        """Nothing is lost at a price of 60,000: a posterior of 1e-13 in a prior of 1e-4."""
        y, x = walk(300, 6, level)
        ours = kalman_path(floats(y), floats(x), float(delta), 1e-3)
        exact = self.exact(floats(y), floats(x), delta, "1e-3")
        for number, name in enumerate(KALMAN_COLUMNS):
            scale = np.abs(exact[:, number]).max() + (level if name == "innovation" else 0)
            np.testing.assert_allclose(ours[name], exact[:, number], rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(ours["beta_std"], exact[:, 6], rtol=1e-9)

    @pytest.mark.parametrize("intercept", [True, False])
    def test_pykalman_agrees(self, intercept: bool) -> None:
        y, x = walk(200, 7, 20.0)
        size = 2 if intercept else 1
        design = np.column_stack([x, np.ones_like(x)])[:, :size]
        peer = KalmanFilter(
            transition_matrices=np.eye(size),
            observation_matrices=design[:, None, :],
            transition_covariance=1e-5 / (1 - 1e-5) * np.eye(size),
            observation_covariance=[[1e-2]],
            initial_state_mean=np.zeros(size),
            initial_state_covariance=np.zeros((size, size)),
        )
        means, _ = peer.filter(y.to_numpy())
        ours = kalman_hedge_ratio(y, x, delta=1e-5, observation_variance=1e-2, intercept=intercept)
        np.testing.assert_allclose(ours["beta"], means[:, 0], rtol=1e-9)
        other = means[:, 1] if intercept else np.zeros(200)
        np.testing.assert_allclose(ours["intercept"], other, rtol=1e-7, atol=1e-12)

    def test_columns_and_first_row(self) -> None:
        y, x = walk(20, 8)
        states = kalman_hedge_ratio(y, x, observation_variance=0.25)
        assert list(states.columns) == [
            *("beta", "intercept", "beta_prior", "intercept_prior"),
            *("innovation", "innovation_std"),
        ]
        assert states.iloc[0].tolist() == [0.0, 0.0, 0.0, 0.0, y[0], 0.5]
        assert (states["beta_prior"][1:].to_numpy() == states["beta"][:-1].to_numpy()).all()

    def test_score_of_the_innovation(self) -> None:
        """Made with the noise it is told, the score is standard normal; told less, it is wide."""
        rng = np.random.default_rng(16)
        x = pd.Series(20 + rng.normal(0, 0.5, 4000).cumsum())
        drift = math.sqrt(1e-6 / (1 - 1e-6))
        beta, level = (rng.normal(0, drift, 4000).cumsum() for _ in range(2))
        y = pd.Series(beta * x + level + rng.normal(0, 0.5, 4000))
        score = kalman_zscore(y, x, delta=1e-6, observation_variance=0.25)
        states = kalman_hedge_ratio(y, x, delta=1e-6, observation_variance=0.25)
        assert score.tolist() == (states["innovation"] / states["innovation_std"]).tolist()
        assert score.std() == pytest.approx(1, abs=0.05)
        assert kalman_zscore(y, x, delta=1e-6, observation_variance=0.01).std() > 2

    def test_a_missing_row_is_nan_and_the_state_waits(self) -> None:
        y, x = walk(50, 9)
        holed = y.copy()
        holed[20] = np.nan
        states, whole = kalman_hedge_ratio(holed, x), kalman_hedge_ratio(y, x)
        assert states.isna().all(axis=1).tolist() == [row == 20 for row in range(50)]
        assert states["beta_prior"][21] == states["beta"][19]
        pd.testing.assert_frame_equal(states[:20], whole[:20], check_exact=True)
        assert states["innovation_std"][21] > whole["innovation_std"][21]

    def test_refusals(self) -> None:
        y, x = walk(10, 0)
        for delta in (0.0, 1.0, -1e-4, math.nan, "1e-4"):
            with pytest.raises(ValueError, match="delta="):
                kalman_hedge_ratio(y, x, delta=delta)  # type: ignore[arg-type]
        for variance in (0.0, -1.0, math.inf):
            with pytest.raises(ValueError, match="observation_variance="):
                kalman_hedge_ratio(y, x, observation_variance=variance)
