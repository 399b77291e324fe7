"""The feature table: every column by its definition, and no row that knows its future."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cointegration import half_life
from features import FEATURES, LABELS, feature_table
from indicators import order_flow_imbalance, realised_volatility
from pairs.analytics.pair import PairSpec, pair_view
from tests.support.reference import reference_csv

METHODS = Path(__file__).resolve().parents[2] / "docs" / "methods.md"


def legs(rows: int = 300, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two legs with taker volumes and gaps of their own."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01 20:00", periods=rows, freq="1min", tz="UTC", name="ts")
    x = 100 + rng.normal(0, 0.1, rows).cumsum()
    frames = []
    for close in (0.7 * x + rng.normal(0, 0.2, rows), x):
        volume = rng.exponential(5, rows)
        bars = pd.DataFrame(
            {
                "open": close,
                "high": close + 0.1,
                "low": close - 0.1,
                "close": close,
                "volume": volume,
                "taker_buy_volume": volume * rng.random(rows),
            },
            index=index,
        )
        frames.append(bars[rng.random(rows) > 0.05])
    return frames[0], frames[1]


SPECS = [PairSpec("rolling", 10, 20), PairSpec("kalman", 10), PairSpec("fixed", 10, beta=0.7)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.hedge)
def test_columns_by_their_definition(spec: PairSpec) -> None:
    y, x = legs()
    table = feature_table(y, x, spec)
    view = pair_view(y, x, spec).frame
    assert list(table.columns) == list(FEATURES)
    assert table.index.equals(view.index)
    for name in ("beta", "spread", "zscore", "correlation", "close_y", "close_x"):
        np.testing.assert_array_equal(table[name], view[name])
    common = y.loc[view.index]
    np.testing.assert_allclose(table["return_y"][1:], np.diff(np.log(common["close"])), rtol=1e-12)
    np.testing.assert_allclose(table["volatility_y"], realised_volatility(common["close"], 10))
    np.testing.assert_allclose(table["imbalance_y"], order_flow_imbalance(common, 10))
    np.testing.assert_allclose(table["range_y"], np.log(common["high"] / common["low"]))
    row = 150
    part = view["spread"].iloc[row - 10 : row + 1]
    life = half_life(part)
    speed = table["reversion_speed"].iloc[row]
    assert (math.log(2) / speed if speed > 0 else math.inf) == pytest.approx(life, rel=1e-8)
    assert table["spread_volatility"].iloc[row] == pytest.approx(part.diff().std(), rel=1e-9)
    window = common["volume"].iloc[row - 9 : row + 1]
    ratio = table["volume_ratio_y"].iloc[row]
    assert ratio == pytest.approx(window.iloc[-1] / window.mean(), rel=1e-12)
    moved = np.log(common["close"].iloc[row] / common["close"].iloc[row - 10])
    assert table["momentum_y"].iloc[row] == pytest.approx(moved, rel=1e-9)
    assert table["zscore_change"].iloc[row] == view["zscore"].diff().iloc[row]


def test_the_clock() -> None:
    y, x = legs()
    table = feature_table(y, x)
    steps = pd.Series(table.index).diff().dt.total_seconds()
    np.testing.assert_array_equal(table["elapsed_s"], steps)
    assert steps.max() > 60
    midnight = table.loc[table.index.hour == 0].iloc[0]  # type: ignore[attr-defined]
    assert midnight["day_cos"] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(table["day_sin"] ** 2 + table["day_cos"] ** 2, 1.0)


class TestLabels:
    def test_there_are_none_unless_asked_for(self) -> None:
        y, x = legs(100)
        plain, labelled = feature_table(y, x), feature_table(y, x, horizon=3)
        assert not [name for name in plain if str(name).startswith("label")]
        assert list(labelled.columns) == [*FEATURES, *LABELS]
        assert all(name.startswith("label_") for name in LABELS)
        pd.testing.assert_frame_equal(labelled[list(FEATURES)], plain)

    @pytest.mark.parametrize("horizon", [1, 4])
    def test_by_their_definition(self, horizon: int) -> None:
        y, x = legs()
        table = feature_table(y, x, SPECS[0], horizon=horizon)
        assert table[list(LABELS)][-horizon:].isna().all(axis=None)
        for row in range(40, len(table) - horizon, 17):
            now, then = table.iloc[row], table.iloc[row + horizon]
            assert now["label_return_y"] == pytest.approx(
                math.log(then["close_y"] / now["close_y"]), abs=1e-12
            )
            profit = (then["close_y"] - now["close_y"]) - now["beta"] * (
                then["close_x"] - now["close_x"]
            )
            gross = now["close_y"] + abs(now["beta"]) * now["close_x"]
            assert now["label_return_pair"] == pytest.approx(profit / gross, abs=1e-12)
            assert now["label_zscore_change"] == then["zscore"] - now["zscore"]
            ahead = table["zscore"].iloc[row + 1 : row + 1 + horizon]
            reached = (ahead <= 0).any() if now["zscore"] > 0 else (ahead >= 0).any()
            assert now["label_reversion"] == float(reached)
        assert 0 < table["label_reversion"].mean() < 1

    def test_a_horizon_beyond_the_table(self) -> None:
        y, x = legs(30)
        table = feature_table(y, x, PairSpec("fixed", 5, beta=0.7), horizon=500)
        assert table[list(LABELS)].isna().all(axis=None)

    @pytest.mark.parametrize("horizon", [0, -1, 1.5, True, "5"])
    def test_horizons_refused(self, horizon: Any) -> None:
        with pytest.raises(ValueError, match="horizon="):
            feature_table(*legs(30), horizon=horizon)


def test_changing_the_future_changes_no_feature() -> None:
    """Not only cutting it: other prices, volumes and rows behind t leave row t alone."""
    y, x = legs(200, 1)
    other_y, other_x = legs(200, 2)
    cut = y.index[120]
    mixed = [
        pd.concat([ours[ours.index <= cut], 5 * theirs[theirs.index > cut]])
        for ours, theirs in ((y, other_y), (x, other_x))
    ]
    for spec in SPECS:
        past = feature_table(y[y.index <= cut], x[x.index <= cut], spec)
        again = feature_table(mixed[0], mixed[1], spec, horizon=5)[: len(past)]
        pd.testing.assert_frame_equal(again[list(FEATURES)], past, check_exact=True)


def test_a_missing_price_touches_its_windows_only() -> None:
    y, x = legs(200)
    common = y.index.intersection(x.index)
    y, x = y.loc[common].copy(), x.loc[common].copy()
    clean = feature_table(y, x, SPECS[2])
    y.loc[common[100], ["close", "volume", "taker_buy_volume"]] = np.nan
    before = y.copy()
    marred = feature_table(y, x, SPECS[2])
    pd.testing.assert_frame_equal(y, before)
    pd.testing.assert_frame_equal(marred[:100], clean[:100], check_exact=True)
    pd.testing.assert_frame_equal(marred[112:], clean[112:], check_exact=True)
    assert marred["zscore"][100:110].isna().all()
    assert marred["volatility_x"].notna()[20:].all()


def test_bars_without_taker_volume_and_without_rows() -> None:
    y, x = legs(50)
    table = feature_table(y.drop(columns="taker_buy_volume"), x)
    assert table["imbalance_y"].isna().all()
    assert feature_table(y[:0], x, horizon=2).empty
    assert len(feature_table(y[:1], x.loc[x.index.isin(y.index[:1])], horizon=2)) <= 1


def test_refusals() -> None:
    y, x = legs(50)
    with pytest.raises(ValueError, match=r"spec\.hedge='ols'"):
        feature_table(y, x, PairSpec("ols"))
    with pytest.raises(ValueError, match="spec is a str"):
        feature_table(y, x, "rolling")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"bars_x\['high'\] has dtype str"):
        feature_table(y, x.assign(high="a"))
    with pytest.raises(ValueError, match=r"bars_x\['volume'\] is -1 at row 0"):
        feature_table(y, x.assign(volume=-1.0))
    with pytest.raises(ValueError, match="bars_y has no column 'volume'"):
        feature_table(y.drop(columns="volume"), x)
    with pytest.raises(ValueError, match="more than once"):
        feature_table(pd.concat([y, y[:1]]), x)


def test_real_minutes() -> None:
    y, x = (
        reference_csv(f"binance_1m_{symbol}USDT_2026-01-24_31.csv", index_col="timestamp")
        for symbol in ("ETH", "BTC")
    )
    y, x = y.set_axis(pd.DatetimeIndex(y.index)), x.set_axis(pd.DatetimeIndex(x.index))
    table = feature_table(y, x, horizon=10)
    known = table.drop(columns=["imbalance_y", "imbalance_x"])[120:-10]
    assert np.isfinite(known.to_numpy()).all()
    assert 0.5 < table["label_reversion"].mean() < 1


def test_every_column_stands_in_the_methods() -> None:
    text = METHODS.read_text(encoding="utf-8")
    assert not [name for name in (*FEATURES, *LABELS) if f"`{name}`" not in text]
