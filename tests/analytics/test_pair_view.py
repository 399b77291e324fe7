"""The keystone: every column is what the public functions give, on the bars both legs have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analytics import (
    discounted_hedge_ratio,
    kalman_hedge_ratio,
    ols_hedge_ratio,
    rolling_correlation,
    rolling_hedge_ratio,
    spread,
    zscore,
)
from pairs.analytics.pair import COLUMNS, PairSpec, pair_view
from resampling import resample_bars, ticks_to_bars
from tests.support.reference import reference_csv, trades


def legs(rows: int = 400, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")
    x = 6e4 + rng.normal(0, 5, rows).cumsum()
    y = 0.05 * x + rng.normal(0, 1, rows)
    return pd.DataFrame({"close": y}, index=index), pd.DataFrame({"close": x}, index=index)


def common_minutes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Real ETHUSDT and BTCUSDT minutes, January 2026."""
    y, x = (
        reference_csv(f"binance_1m_{symbol}USDT_2026-01-24_31.csv", index_col="timestamp")
        for symbol in ("ETH", "BTC")
    )
    return y.set_axis(pd.DatetimeIndex(y.index)), x.set_axis(pd.DatetimeIndex(x.index))


class TestColumns:
    def test_rolling(self) -> None:
        y, x = legs()
        frame = pair_view(y, x, PairSpec("rolling", 30, 50)).frame
        fit = rolling_hedge_ratio(y["close"], x["close"], 50)
        error = spread(y["close"], x["close"], fit["beta"], fit["intercept"])
        assert list(frame.columns) == list(COLUMNS)
        for name, expected in (
            ("beta", fit["beta"]),
            ("intercept", fit["intercept"]),
            ("spread", error),
            ("zscore", zscore(error, 30)),
        ):
            np.testing.assert_allclose(frame[name], expected, rtol=1e-12, atol=1e-12)
        row = ols_hedge_ratio(y["close"][-50:], x["close"][-50:])
        assert frame["beta_std"].iloc[-1] == pytest.approx(row.std_error, rel=1e-9)

    def test_kalman(self) -> None:
        y, x = legs()
        spec = PairSpec("kalman", 30, delta=1e-5, observation_variance=1.0)
        frame = pair_view(y, x, spec).frame
        states = kalman_hedge_ratio(y["close"], x["close"], delta=1e-5, observation_variance=1.0)
        assert frame["beta"].tolist() == states["beta"].tolist()
        assert frame["spread"].tolist() == states["innovation"].tolist()
        np.testing.assert_allclose(frame["zscore"], zscore(states["innovation"], 30), rtol=1e-12)
        assert (frame["beta_std"][1:] > 0).all()

    def test_kalman_without_noise(self) -> None:
        y, x = legs()
        frame = pair_view(y, x, PairSpec("kalman", 30, 50)).frame
        states = discounted_hedge_ratio(y["close"], x["close"], memory=50)
        assert frame["beta"].equals(states["beta"])
        assert frame["spread"].tolist()[50:] == states["innovation"].tolist()[50:]
        assert frame["spread"].first_valid_index() == frame.index[50]
        assert (frame["beta_std"][50:] > 0).all()

    def test_fixed(self) -> None:
        y, x = legs()
        frame = pair_view(y, x, PairSpec("fixed", 30, beta=0.05)).frame
        assert (frame["spread"] == y["close"] - 0.05 * x["close"]).all()
        assert (frame["beta"] == 0.05).all()
        assert (frame["intercept"] == 0).all()
        assert frame["beta_std"].isna().all()

    def test_ols(self) -> None:
        y, x = legs()
        view = pair_view(y, x, PairSpec("ols", 30))
        fit = ols_hedge_ratio(y["close"], x["close"])
        assert view.in_sample
        assert view.frame["beta"].unique().tolist() == [fit.beta]
        assert view.frame["beta_std"].unique().tolist() == [fit.std_error]
        assert view.frame["spread"].mean() == pytest.approx(0, abs=1e-9)

    def test_correlation_is_of_log_returns(self) -> None:
        y, x = legs()
        frame = pair_view(y, x, PairSpec(window=30)).frame
        returns = [np.log(leg["close"]).diff() for leg in (y, x)]
        np.testing.assert_allclose(
            frame["correlation"], rolling_correlation(returns[0], returns[1], 30), atol=1e-12
        )
        assert frame["correlation"].first_valid_index() == frame.index[30]

    def test_real_minutes(self) -> None:
        y, x = common_minutes()
        for spec in (PairSpec("rolling", 60, 240), PairSpec("kalman", 60)):
            view = pair_view(y, x, spec)
            assert len(view.frame) == len(y.index.intersection(x.index))
            assert view.frame["zscore"].notna().sum() == len(view.frame) - spec.bars_needed + 1
            assert view.frame["zscore"].abs().max() < math.sqrt(60)  # (n-1)/√n bounds any z

    def test_real_ticks_through_midnight(self) -> None:
        """From the exchange's trades to z-scores; 5 s bars from ticks or from seconds alike."""
        y, x = trades("ETHUSDT"), trades("BTCUSDT")
        spec = PairSpec("rolling", 20, 40)
        direct = pair_view(ticks_to_bars(y, "5s"), ticks_to_bars(x, "5s"), spec)
        y, x = (resample_bars(ticks_to_bars(ticks, "1s"), "5s") for ticks in (y, x))
        pd.testing.assert_frame_equal(direct.frame, pair_view(y, x, spec).frame)
        assert direct.frame.index[0] < pd.Timestamp("2024-08-09", tz="UTC") < direct.frame.index[-1]


class TestRows:
    def test_only_common_rows_and_nothing_filled(self) -> None:
        y, x = legs(100)
        frame = pair_view(y.drop(y.index[10]), x.drop(x.index[[20, 99]]), PairSpec(window=5)).frame
        assert frame.index.equals(y.index.delete([10, 20, 99]))

    @pytest.mark.parametrize("hedge", ["rolling", "kalman", "fixed", "ols"])
    def test_a_missing_close_touches_its_windows_only(self, hedge: Any) -> None:
        y, x = legs(100)
        y.loc[y.index[50], "close"] = np.nan
        spec = PairSpec(hedge, 10, 20, beta=1.0)
        frame = pair_view(y, x, spec).frame
        gone = np.flatnonzero(frame["spread"].isna())
        warming = {"rolling": [*range(19), *range(51, 70)], "kalman": [*range(20)]}
        assert gone.tolist() == sorted([*warming.get(hedge, []), 50])
        last = 69 if hedge == "rolling" else 50
        after = frame["zscore"][50:].isna().to_numpy()
        assert after.tolist() == [row < last + 10 for row in range(50, 100)]
        assert frame["correlation"].isna().sum() == 10 + 11

    @pytest.mark.parametrize("hedge", ["rolling", "kalman", "fixed", "ols"])
    @pytest.mark.parametrize("rows", [0, 1, 2, 3])
    def test_few_rows_are_warm_up_not_an_error(self, hedge: Any, rows: int) -> None:
        y, x = legs(5)
        view = pair_view(y[:rows], x[:rows], PairSpec(hedge, 4, beta=1.0))
        assert view.warmup == (rows, {"rolling": 7, "kalman": 8}.get(hedge, 4))
        assert view.frame["zscore"].isna().all()
        point = view.latest()
        assert (point is None) == (rows == 0)

    def test_warm_up_ends_when_the_first_score_comes(self) -> None:
        y, x = legs(60)
        for hedge in ("rolling", "kalman", "fixed"):
            spec = PairSpec(hedge, 10, 20, beta=1.0)
            scores = pair_view(y, x, spec).frame["zscore"]
            assert scores.isna().sum() == spec.bars_needed - 1
            assert scores.notna().iloc[spec.bars_needed - 1]

    def test_flat_legs_have_no_score(self) -> None:
        y, x = legs(30)
        y["close"], x["close"] = 61837.63, 2683.8
        for hedge in ("rolling", "fixed", "ols"):
            frame = pair_view(y, x, PairSpec(hedge, 5, beta=0.1)).frame
            assert frame["zscore"].isna().all()
            assert frame["correlation"].isna().all()

    def test_latest(self) -> None:
        y, x = legs()
        view = pair_view(y, x, PairSpec(window=30))
        point = view.latest()
        assert point is not None
        assert point.ts == y.index[-1]
        row = view.frame.iloc[-1]
        assert [getattr(point, name) for name in COLUMNS] == row.tolist()


class TestSpec:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"hedge": "magic"}, "hedge='magic'.*ols, rolling, kalman, fixed"),
            ({"window": 1}, "window=1"),
            ({"window": 20.0}, "window=20.0"),
            ({"hedge_window": 1}, "hedge_window=1"),
            ({"hedge": "fixed"}, "beta=None"),
            ({"hedge": "fixed", "beta": math.nan}, "beta=nan"),
            ({"delta": 1.0, "observation_variance": 1.0}, "delta=1.0"),
            ({"delta": 1e-4, "observation_variance": 0}, "observation_variance=0"),
            ({"delta": 1e-4}, "observation_variance=None .* together, or neither"),
            ({"observation_variance": 1.0}, "delta=None .* together, or neither"),
        ],
    )
    def test_refusals(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PairSpec(**options)

    def test_bars_refused(self) -> None:
        y, x = legs(5)
        with pytest.raises(ValueError, match="bars_x has no column 'close'"):
            pair_view(y, x.rename(columns={"close": "last"}), PairSpec())
        for other in ("rolling", None, 60):
            with pytest.raises(ValueError, match=r"spec is a .*: a PairSpec"):
                pair_view(y, x, other)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="bars_y has a RangeIndex"):
            pair_view(y.reset_index(drop=True), x, PairSpec())

    def test_arguments_stay(self) -> None:
        y, x = legs(50)
        before = y.copy(), x.copy()
        view = pair_view(y, x, PairSpec(window=5))
        view.frame.loc[:, "close_y"] = 0.0
        pd.testing.assert_frame_equal(y, before[0])
        pd.testing.assert_frame_equal(x, before[1])
