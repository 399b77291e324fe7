"""Indicators against published series, exact windows, and the NaN rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indicators import (
    anchored_vwap,
    bollinger_bands,
    ema,
    order_flow_imbalance,
    realised_volatility,
    rolling_vwap,
    sma,
    vwap,
)
from pairs.analytics.windows import window_mean_deviation, window_score
from pairs.checks import Array
from tests.support.reference import published, reference_csv, reference_json


def exact_windows(values: Array, window: int) -> npt.NDArray[np.longdouble]:
    """All windows in extended precision, for two-pass sums."""
    return np.lib.stride_tricks.sliding_window_view(values.astype(np.longdouble), window)


class TestPublished:
    def test_stock_indicators_figures(self) -> None:
        """Stock.Indicators unit tests, computed in Excel; tolerance: the digits printed."""
        close = reference_csv("si_default.csv")["close"]
        bands, average = bollinger_bands(close, 20, 2.0), ema(close, 20)
        name = "stockindicators_bollinger_ema"
        for row in (249, 501):
            assert bands["middle"][row] == published(name, f"sma_{row}")
            assert bands["upper"][row] == published(name, f"upper_{row}")
            assert bands["lower"][row] == published(name, f"lower_{row}")
        for row in (29, 249, 501):
            assert average[row] == published(name, f"ema_{row}")

    def test_stock_indicators_whole_series(self) -> None:
        """The same library's output, every row: bands to 1e-10, EMA to 1e-12."""
        close = reference_csv("si_default.csv")["close"]
        bands = pd.DataFrame(reference_json("si_bb.standard.json"))
        ours = bollinger_bands(close, 20, 2.0)
        pairs = (("middle", "sma"), ("upper", "upperBand"), ("lower", "lowerBand"))
        for mine, theirs in pairs:
            np.testing.assert_allclose(ours[mine], bands[theirs].astype(float), rtol=0, atol=1e-10)
        theirs_ema = pd.DataFrame(reference_json("si_ema.standard.json"))["ema"].astype(float)
        np.testing.assert_allclose(ema(close, 20), theirs_ema, rtol=0, atol=1e-12)

    def test_stockcharts_bands(self) -> None:
        """StockCharts sheet (as in ta's unit tests): every row within 1e-6."""
        sheet = reference_csv("ta_cs-bbands.csv")
        bands = bollinger_bands(sheet["Close"], 20, 2.0)
        for mine, theirs, key in (
            ("upper", "HighBand", "bb_high_maxerr"),
            ("lower", "LowBand", "bb_low_maxerr"),
        ):
            error = (bands[mine] - sheet[theirs]).abs().max()
            assert error == published("stockcharts_bollinger_vwap14", key)
            assert bands[mine].isna().equals(sheet[theirs].isna())

    def test_stockcharts_vwap_of_14_bars(self) -> None:
        """Rolling VWAP: the last row of a VWAP over each 14 bars, within 1e-10."""
        sheet = reference_csv("ta_cs-vwap.csv")
        bars = sheet[["High", "Low", "Close", "Volume"]].rename(columns=str.lower)
        ours = [vwap(bars.iloc[max(0, end - 14) : end]).iloc[-1] for end in range(1, len(bars) + 1)]
        error = np.abs(np.array(ours) - sheet["vwap"].to_numpy()).max()
        assert error == published("stockcharts_bollinger_vwap14", "vwap14_maxerr")
        full = rolling_vwap(bars, 14)
        assert full.isna().tolist() == [row < 13 for row in range(len(bars))]
        error = (full - sheet["vwap"]).abs().max()
        assert error == published("stockcharts_bollinger_vwap14", "vwap14_maxerr")


class TestWindows:
    @pytest.mark.parametrize("window", [2, 7, 60, 1000])
    def test_a_million_rows_at_price_100_000(self, window: int) -> None:
        """Two-pass long double: deviation within 1e-12 relative, mean within an ulp of price."""
        steps = np.random.default_rng(window).normal(0, 0.01, 1_000_000)
        values = 1e5 + steps.cumsum()
        means, deviations = window_mean_deviation(values, window, 1)
        tail = exact_windows(values[-20_000:], window)
        count = len(tail)
        mean = tail.mean(axis=1)
        np.testing.assert_allclose(deviations[-count:], tail.std(axis=1, ddof=1), rtol=1e-12)
        np.testing.assert_allclose(means[-count:], mean.astype(float), rtol=3e-16)
        score = (tail[:, -1] - mean) / tail.std(axis=1, ddof=1)
        ours = window_score(values, window)[-count:]
        np.testing.assert_allclose(ours, score, rtol=0, atol=1e-11)

    def test_an_outlier_leaves_no_trace(self) -> None:
        values = np.random.default_rng(5).normal(0, 1e-3, 500) + 100.0
        marred = values.copy()
        marred[250] = 1e15
        clean, dirty = (window_mean_deviation(v, 20, 1) for v in (values, marred))
        outside = np.r_[19:250, 270:500]
        np.testing.assert_allclose(dirty[1][outside], clean[1][outside], rtol=1e-12)
        assert np.array_equal(dirty[0][outside], clean[0][outside])

    @given(
        st.lists(st.sampled_from([0.1, 0.2, 61837.63, np.nan, np.inf]), max_size=60),
        st.integers(2, 9),
    )
    @settings(max_examples=150, deadline=None)
    def test_equal_values_deviate_by_exactly_zero(self, values: list[float], window: int) -> None:
        close = pd.Series(values, dtype=float)
        bands = bollinger_bands(close, window)
        known = close.where(np.isfinite(close))
        holes = known.isna().rolling(window).sum()
        flat = (known.rolling(window).max() == known.rolling(window).min()).to_numpy()
        assert (bands["middle"].isna() == ((holes > 0) | holes.isna())).all()
        width = (bands["upper"] - bands["lower"]).to_numpy()
        assert (width[flat] == 0).all()
        assert (width[~flat & ~np.isnan(width)] > 0).all()
        assert (bands["middle"].to_numpy()[flat] == known.to_numpy()[flat]).all()

    @given(
        st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=80),
        st.integers(1, 12),
    )
    @settings(max_examples=150, deadline=None)
    def test_sma_is_the_mean_of_each_window(self, values: list[float], window: int) -> None:
        ours = sma(pd.Series(values, dtype=float), window)
        for row in range(len(values)):
            part = values[row - window + 1 : row + 1] if row + 1 >= window else [np.nan]
            np.testing.assert_allclose(ours[row], np.mean(part), rtol=1e-12, atol=1e-9)

    def test_window_longer_than_the_series(self) -> None:
        assert sma(pd.Series([1.0, 2.0]), 10**12).isna().all()
        assert sma(pd.Series([1.0])[:0], 5).empty
        assert ema(pd.Series([1.0])[:0], 5).empty

    def test_names_index_and_arguments_stay(self) -> None:
        index = pd.date_range("2024-01-01", periods=5, freq="1min", tz="UTC")
        frame = pd.DataFrame({"close": [1.0, np.inf, 3.0, 4.0, 6.0]}, index=index)
        close = frame["close"]
        before = close.copy()
        for result in (sma(close, 2), ema(close, 2)):
            assert result.name == "close"
            assert result.index.equals(index)
        assert list(bollinger_bands(close, 2).columns) == ["middle", "upper", "lower"]
        pd.testing.assert_series_equal(close, before)

    @pytest.mark.parametrize("window", [0, -1, 2.0, "20", None, True, np.nan])
    def test_windows_refused(self, window: Any) -> None:
        close = pd.Series([1.0, 2.0, 3.0])
        for call in (sma, ema, bollinger_bands):
            with pytest.raises(ValueError, match=r"(window|span)=.* at least 1"):
                call(close, window)

    def test_other_arguments_refused(self) -> None:
        close = pd.Series([1.0, 2.0, 3.0])
        with pytest.raises(ValueError, match=r"ddof=2 .* from 0 to 1"):
            bollinger_bands(close, 2, ddof=2)
        with pytest.raises(ValueError, match="n_std=-1"):
            bollinger_bands(close, 2, -1)
        with pytest.raises(ValueError, match="close is a list"):
            sma([1.0, 2.0], 2)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="close has dtype"):
            sma(pd.Series(["a", "b"]), 2)  # type: ignore[arg-type]


class TestEma:
    def test_begins_with_the_mean_not_the_first_close(self) -> None:
        average = ema(pd.Series([2.0, 4.0, 6.0, 8.0]), 3)
        assert average[:2].isna().all()
        assert average[2:].tolist() == [4.0, 6.0]

    def test_span_one_is_the_close_and_constants_stay(self) -> None:
        close = pd.Series([61837.63] * 30)
        assert (ema(close, 1) == close).all()
        assert (ema(close, 7)[6:] == 61837.63).all()

    def test_begins_anew_behind_a_gap(self) -> None:
        close = pd.Series(np.arange(20.0))
        close[8] = np.nan
        average = ema(close, 4)
        assert average.isna().tolist() == sma(close, 4).isna().tolist()
        pd.testing.assert_series_equal(average[9:], ema(close[9:], 4))


class TestVwap:
    def bars(self, start: str, prices: list[float], volumes: list[float]) -> pd.DataFrame:
        index = pd.date_range(start, periods=len(prices), freq="1h", tz="UTC", name="ts")
        columns = dict.fromkeys(("high", "low", "close"), prices)
        return pd.DataFrame({**columns, "volume": volumes}, index=index)

    def test_restarts_at_midnight_utc(self) -> None:
        bars = self.bars("2024-01-01 22:00", [10.0, 20.0, 30.0, 50.0], [1.0, 3.0, 1.0, 1.0])
        assert vwap(bars).tolist() == [10.0, 17.5, 20.0, 25.0]
        assert vwap(bars, "1D").tolist() == [10.0, 17.5, 30.0, 40.0]
        assert vwap(bars, "D").tolist() == vwap(bars, "24h").tolist() == [10.0, 17.5, 30.0, 40.0]
        assert vwap(bars, "1h").tolist() == [10.0, 20.0, 30.0, 50.0]

    def test_zone_of_the_index_does_not_move_the_session(self) -> None:
        bars = self.bars("2024-01-01 22:00", [10.0, 20.0, 30.0, 50.0], [1.0, 3.0, 1.0, 1.0])
        elsewhere = bars.tz_convert("America/New_York")
        assert vwap(elsewhere, "1D").tolist() == vwap(bars, "1D").tolist()

    def test_missing_price_ends_its_session_only(self) -> None:
        bars = self.bars("2024-01-01 21:00", [9.0, np.nan, 30.0, 50.0, 60.0], [1.0] * 5)
        assert vwap(bars, "1D").isna().tolist() == [False, True, True, False, False]
        assert vwap(bars).isna().tolist() == [False, True, True, True, True]

    def test_nothing_traded_yet(self) -> None:
        values = vwap(self.bars("2024-01-01", [9.0, 8.0, 7.0], [0.0, 0.0, 2.0]))
        assert values.isna().tolist() == [True, True, False]
        assert values.iloc[2] == 7.0

    def test_missing_first_price(self) -> None:
        values = vwap(self.bars("2024-01-01 23:00", [np.nan, 8.0, 9.0], [1.0, 1.0, 1.0]), "1D")
        assert np.isnan(values.iloc[0])
        assert values.tolist()[1:] == [8.0, 8.5]

    def test_long_sessions_lose_nothing(self) -> None:
        rng = np.random.default_rng(0)
        price, size = 1e5 + rng.normal(0, 1e-4, 200_000), rng.exponential(1.0, 200_000)
        bars = pd.DataFrame({"high": price, "low": price, "close": price, "volume": size})
        long = size.astype(np.longdouble)
        typical = (bars["high"] + bars["low"] + bars["close"]).to_numpy() / 3.0
        exact = np.cumsum(typical.astype(np.longdouble) * long) / np.cumsum(long)
        np.testing.assert_allclose(vwap(bars), exact.astype(float), rtol=3e-16)

    @pytest.mark.parametrize("session", ["1ME", "1W", "hour", "0h", "-1h", 5])
    def test_sessions_refused(self, session: object) -> None:
        bars = self.bars("2024-01-01", [9.0, 8.0], [1.0, 1.0])
        with pytest.raises(ValueError, match="session="):
            vwap(bars, session)  # type: ignore[arg-type]

    def test_bars_refused(self) -> None:
        bars = self.bars("2024-01-01", [9.0, 8.0], [1.0, -1.0])
        with pytest.raises(ValueError, match=r"volume.* -1 at row 1"):
            vwap(bars)
        with pytest.raises(ValueError, match="no column 'volume'"):
            vwap(bars.drop(columns="volume"))
        with pytest.raises(ValueError, match="in order of time"):
            vwap(self.bars("2024-01-01", [9.0, 8.0], [1.0, 1.0])[::-1], "1D")


def traded(rows: int = 120, seed: int = 0) -> pd.DataFrame:
    """Minute bars with volumes of both sides, some without a trade."""
    rng = np.random.default_rng(seed)
    close = 6e4 + rng.normal(0, 5, rows).cumsum()
    volume = rng.exponential(3, rows) * (rng.random(rows) > 0.1)
    bars = {
        "high": close + 2,
        "low": close - 2,
        "close": close,
        "volume": volume,
        "taker_buy_volume": volume * rng.random(rows),
    }
    index = pd.date_range("2024-01-01 23:00", periods=rows, freq="1min", tz="UTC", name="ts")
    return pd.DataFrame(bars, index=index)


class TestRollingVwap:
    def test_every_window_by_itself(self) -> None:
        bars = traded()
        bars.iloc[40, 1] = np.nan
        ours = rolling_vwap(bars, 9)
        for row in range(len(bars)):
            part = bars[max(0, row - 8) : row + 1]
            if row < 8 or part.isna().any(axis=None):
                assert np.isnan(ours.iloc[row])
            else:
                expected = np.average(part["close"], weights=part["volume"])
                assert ours.iloc[row] == pytest.approx(expected, rel=1e-14)
        assert ours.name == "vwap"

    def test_no_trade_no_price(self) -> None:
        bars = traded(10).assign(volume=[0, 0, 0, 1, 0, 0, 0, 0, 2, 0])
        assert rolling_vwap(bars, 3).isna().tolist() == [
            *[True] * 3,
            *[False] * 3,
            *[True] * 2,
            *[False] * 2,
        ]

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="window=0"):
            rolling_vwap(traded(), 0)
        with pytest.raises(ValueError, match=r"volume.* -1 at row 0"):
            rolling_vwap(traded().assign(volume=-1.0), 3)


class TestAnchoredVwap:
    def test_begins_at_the_anchor(self) -> None:
        bars = traded()
        for anchor in (
            "2024-01-01 23:30",
            pd.Timestamp("2024-01-01 23:29:30", tz="UTC"),
            pd.Timestamp("2024-01-02 08:30", tz="Asia/Tokyo"),
        ):
            ours = anchored_vwap(bars, anchor)
            assert ours[:30].isna().all()
            pd.testing.assert_series_equal(ours[30:], vwap(bars[30:]), check_freq=False)

    def test_before_and_behind_the_bars(self) -> None:
        bars = traded()
        pd.testing.assert_series_equal(anchored_vwap(bars, "2020-01-01"), vwap(bars))
        assert anchored_vwap(bars, "2030-01-01").isna().all()

    @pytest.mark.parametrize("anchor", ["soon", None, pd.NaT])
    def test_refusals(self, anchor: Any) -> None:
        with pytest.raises(ValueError, match="anchor="):
            anchored_vwap(traded(), anchor)
        with pytest.raises(ValueError, match="in order of time"):
            anchored_vwap(traded()[::-1], "2024-01-01")


class TestRealisedVolatility:
    def test_by_its_definition(self) -> None:
        close = traded()["close"]
        ours = realised_volatility(close, 10)
        returns = np.log(close).diff()
        expected = returns.pow(2).rolling(10).sum().pow(0.5)
        assert ours.isna().tolist() == expected.isna().tolist() == [k < 10 for k in range(120)]
        np.testing.assert_allclose(ours, expected, rtol=1e-8)
        year = realised_volatility(close, 10, bars_per_year=525_600)
        np.testing.assert_allclose(year, ours * (52_560**0.5), rtol=1e-12)
        assert ours.name == "close"

    def test_holes_and_flat_prices(self) -> None:
        close = pd.Series([5.0, 5.0, 5.0, np.nan, 5.0, 5.0, -1.0, 6.0, 7.0, 8.0])
        ours = realised_volatility(close, 2)
        assert ours.isna().tolist() == [True, True, False, *[True] * 6, False]
        assert ours[2] == 0.0
        assert realised_volatility(close[:1], 2).isna().all()
        assert realised_volatility(close[:0], 2).empty

    def test_refusals(self) -> None:
        close = traded()["close"]
        with pytest.raises(ValueError, match="window=0"):
            realised_volatility(close, 0)
        for years in (0, -1, np.inf, "1"):
            with pytest.raises(ValueError, match="bars_per_year="):
                realised_volatility(close, 2, bars_per_year=years)  # type: ignore[arg-type]


class TestOrderFlow:
    def test_by_its_definition(self) -> None:
        bars = traded()
        ours = order_flow_imbalance(bars, 7)
        sums = bars[["volume", "taker_buy_volume"]].rolling(7).sum()
        sold = sums["volume"] - sums["taker_buy_volume"]
        np.testing.assert_allclose(
            ours, (sums["taker_buy_volume"] - sold) / sums["volume"], atol=1e-9
        )
        assert ours.abs().max() <= 1

    def test_one_sided_and_silent_bars(self) -> None:
        bars = pd.DataFrame(
            {"volume": [2.0, 2.0, 0.0, np.nan, 1.0], "taker_buy_volume": [2.0, 0.0, 0.0, 1.0, 0.5]}
        )
        ours = order_flow_imbalance(bars)
        assert ours[[0, 1, 4]].tolist() == [1.0, -1.0, 0.0]
        assert ours[[2, 3]].isna().all()
        assert order_flow_imbalance(bars, 2).isna().tolist() == [True, False, False, True, True]

    def test_refusals(self) -> None:
        bars = traded()
        with pytest.raises(ValueError, match="at most the volume"):
            order_flow_imbalance(bars.assign(taker_buy_volume=bars["volume"] + 1))
        with pytest.raises(ValueError, match="no column 'taker_buy_volume'"):
            order_flow_imbalance(bars.drop(columns="taker_buy_volume"))
