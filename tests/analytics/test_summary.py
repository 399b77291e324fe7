"""The statistics view's figures, against direct computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analytics import adf_test, rolling_correlation
from cointegration import engle_granger, half_life, hurst_exponent, johansen
from indicators import realised_volatility, vwap
from pairs.analytics.pair import PairSpec, pair_view
from pairs.analytics.stationarity import kpss_test, variance_ratio_test
from pairs.analytics.summary import interval_statistics, pair_tests, price_statistics
from tests.support.prices import bars


class TestPrices:
    def test_every_figure_is_what_its_words_say(self) -> None:
        table = bars()
        found = price_statistics(table)
        close, returns = table["close"], np.diff(np.log(table["close"]))
        assert (found.bars, found.last) == (900, close.iloc[-1])
        assert found.change == pytest.approx(close.iloc[-1] / close.iloc[0] - 1)
        assert (found.mean, found.std) == pytest.approx((close.mean(), close.std(ddof=1)))
        assert (found.low, found.high) == (table["low"].min(), table["high"].max())
        assert found.skew == pytest.approx(stats.skew(returns, bias=False))
        assert found.kurtosis == pytest.approx(stats.kurtosis(returns, bias=False))
        assert found.vwap == vwap(table).iloc[-1]
        assert found.volume == pytest.approx(table["volume"].sum())
        assert found.turnover == pytest.approx(table["quote_volume"].sum())
        assert found.trades == table["trades"].sum()

    def test_volatility_is_the_indicators_where_no_bar_is_missing(self) -> None:
        table = bars()
        whole = realised_volatility(table["close"], 899, bars_per_year=365 * 86_400)
        assert price_statistics(table).volatility == pytest.approx(whole.iloc[-1])

    def test_a_bar_without_trades_is_time_in_which_nothing_moved(self) -> None:
        table = bars()
        table.iloc[200:300, :4] = table.iloc[199, 3]  # nothing moves, then there are no such rows
        sparse = table.drop(table.index[200:300])
        assert price_statistics(sparse).volatility == pytest.approx(
            price_statistics(table).volatility
        )

    def test_what_is_not_told_is_nan(self) -> None:
        file = bars().drop(columns=["quote_volume", "trades"])
        found = price_statistics(file)
        assert math.isnan(found.turnover)
        assert math.isnan(found.trades)
        one = price_statistics(bars(rows=1))
        assert (one.bars, one.change) == (1, 0.0)
        assert math.isnan(one.std)
        assert math.isnan(one.volatility)
        none = price_statistics(bars(rows=0))
        assert none.bars == 0
        assert math.isnan(none.last)
        missing = bars()
        missing.iloc[3, missing.columns.get_loc("trades")] = np.nan
        assert math.isnan(price_statistics(missing).trades)

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="has no column 'close': its"):
            price_statistics(bars().drop(columns="close"))
        with pytest.raises(ValueError, match="a DatetimeIndex is allowed"):
            price_statistics(bars().reset_index(drop=True))


class TestTests:
    def test_each_result_is_that_of_its_function(self) -> None:
        y, x = bars(1)["close"], bars(2)["close"]
        spread = y - 0.5 * x
        found = pair_tests(y, x, spread)
        assert found.rows == 900
        assert found.adf == adf_test(spread)
        assert found.kpss == kpss_test(spread)
        assert found.y_on_x == engle_granger(y, x)
        assert found.x_on_y == engle_granger(x, y)
        assert not isinstance(found.johansen, str)
        frame = pd.DataFrame({"y": y, "x": x})
        np.testing.assert_array_equal(found.johansen.trace, johansen(frame).trace)
        assert found.half_life == half_life(spread)
        assert found.hurst == hurst_exponent(spread)
        assert found.ratio == variance_ratio_test(spread, q=10)

    def test_one_that_cannot_be_done_says_why_and_leaves_the_others(self) -> None:
        y, x = bars(1, 60)["close"], bars(2, 60)["close"]
        found = pair_tests(y, x, y - x)
        assert found.hurst == "series has 60 rows: at least 101 are allowed"
        assert not isinstance(found.adf, str)
        flat = pair_tests(y, x * 0 + 5.0, y)
        assert flat.y_on_x == "x is 5 in every row: cointegration needs changes"
        assert isinstance(flat.johansen, str)
        assert not isinstance(flat.half_life, str)

    def test_refusals(self) -> None:
        y = bars(1)["close"]
        with pytest.raises(ValueError, match="different indexes"):
            pair_tests(y, y[1:], y)
        with pytest.raises(ValueError, match="q=1"):
            pair_tests(y, y, y, q=1)


class TestIntervals:
    def table(self, **spec: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        y, x = bars(1), bars(2, level=50.0)
        x = x.drop(x.index[100:160])  # 10:02:10 … 10:03:09
        return y, x, pair_view(y, x, PairSpec(window=30, **spec)).frame

    def test_a_minute_is_what_its_rows_are(self) -> None:
        y, x, view = self.table()
        before = view.copy()
        found = interval_statistics(view, y, x, 60)
        pd.testing.assert_frame_equal(view, before)
        assert found.index[0] == pd.Timestamp("2024-01-01 10:00", tz="UTC")
        minute = pd.Timestamp("2024-01-01 10:05", tz="UTC")
        within = slice(minute, minute + pd.Timedelta("59s"))
        rows, row = view[within], found.loc[minute]
        assert row["bars"] == 60
        assert row["close_y"] == rows["close_y"].iloc[-1]
        assert row["spread_mean"] == pytest.approx(rows["spread"].mean())
        assert row["spread_std"] == pytest.approx(rows["spread"].std(ddof=1))
        z = rows["zscore"]
        assert (row["zscore_mean"], row["zscore_min"], row["zscore_max"]) == pytest.approx(
            (z.mean(), z.min(), z.max())
        )
        moves = np.log(view[["close_y", "close_x"]]).diff()
        rolling = rolling_correlation(moves["close_y"], moves["close_x"], 60)
        assert row["correlation"] == pytest.approx(rolling[minute + pd.Timedelta("59s")])
        assert row["volume_y"] == pytest.approx(y[within]["volume"].sum())
        assert row["trades_x"] == x[within]["trades"].sum()

    def test_bars_of_one_leg_count_for_its_volume_alone(self) -> None:
        y, x, view = self.table()
        row = interval_statistics(view, y, x, 60).loc[pd.Timestamp("2024-01-01 10:02", tz="UTC")]
        within = slice("2024-01-01 10:02", "2024-01-01 10:02:59")
        assert row["bars"] == 10
        assert row["volume_y"] == pytest.approx(y[within]["volume"].sum())
        assert row["volume_x"] == pytest.approx(x[within]["volume"].sum())

    def test_warm_up_unknown_counts_and_still_legs_are_nan(self) -> None:
        y, x = bars(1), bars(2).drop(columns="trades")
        x[["open", "high", "low", "close"]] = 5.0
        found = interval_statistics(pair_view(y, x, PairSpec(window=30)).frame, y, x, 60)
        assert found["trades_x"].isna().all()
        assert found["correlation"].isna().all()
        assert found["zscore_mean"].isna().all()
        assert found["bars"].sum() == 900

    def test_no_bars_no_rows(self) -> None:
        y, x = bars(1, 0), bars(2, 0)
        found = interval_statistics(pair_view(y, x, PairSpec(window=30)).frame, y, x, 60)
        assert found.empty
        assert list(found.columns)[:3] == ["bars", "close_y", "close_x"]

    def test_days_and_weeks(self) -> None:
        y, x, view = self.table()
        for seconds in (3600, 86_400, 7 * 86_400):
            found = interval_statistics(view, y, x, seconds)
            assert found.index[0].timestamp() % seconds == 0
            assert found["bars"].sum() == len(view)

    def test_refusals(self) -> None:
        y, x, view = self.table()
        with pytest.raises(ValueError, match="seconds=0"):
            interval_statistics(view, y, x, 0)
        with pytest.raises(ValueError, match="a DatetimeIndex is allowed"):
            interval_statistics(view, y.reset_index(drop=True), x, 60)
