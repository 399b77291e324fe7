"""Metrics: published figures, definitions by hand, the odd curve."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import kalman_hedge_ratio, zscore
from backtest import Costs, Rules, positions, run
from cointegration import johansen
from pairs.backtest.engine import SUMS, curve
from pairs.backtest.grid import grid
from pairs.backtest.metrics import (
    METRICS,
    YEAR_S,
    annual_growth,
    compute_metrics,
    returns_per_year,
    sharpe_ratio,
)
from pairs.backtest.overfitting import (
    deflated_sharpe,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
    returns_of,
    sharpe_interval,
)
from pairs.backtest.walk_forward import walk_forward
from pairs.settings import ROOT
from tests.support.legs import leg
from tests.support.reference import published, reference_csv

Floats = npt.NDArray[np.float64]
NO_TRADES = dict.fromkeys(SUMS, 0.0)


def sharpe_of(returns: Any, per_year: float = 252) -> float:
    """Through our own functions, from returns."""
    equity = np.concatenate(([1.0], np.cumprod(1.0 + np.asarray(returns))))
    found = curve(equity, 1.0)
    return sharpe_ratio(found.mean, found.deviation, per_year)


class TestPublished:
    def test_backtesting_py_goog(self) -> None:
        """Its volatility is that of compounded returns and its Sharpe ratio a growth over it; both
        follow from our figures."""
        entry = "backtestingpy_GOOG_metrics"
        equity = reference_csv("backtestingpy_GOOG_equity_SmaCross_10_30.csv")["Equity"].to_numpy()
        assert equity[-1] == published(entry, "final_equity")
        growth = annual_growth(equity[0], equity[-1], (len(equity) - 1) / 252)
        assert 100 * growth == published(entry, "return_ann_pct")
        found = curve(equity, 10_000.0)
        assert -100 * found.max_drawdown == published(entry, "max_dd_pct")
        assert growth / found.max_drawdown == published(entry, "calmar")
        middle = (1 + growth) ** (1 / 252)
        volatility = math.sqrt((found.deviation**2 + middle**2) ** 252 - middle**504)
        assert 100 * volatility == published(entry, "vol_ann_pct")
        assert growth / volatility == published(entry, "sharpe")
        assert growth / (found.downside * math.sqrt(252)) == published(entry, "sortino")

    def test_chan_linear_mean_reversion(self) -> None:
        prices = reference_csv("chan2_EWA_EWC_IGE.csv")[["EWC", "EWA", "IGE"]]
        vector = johansen(prices, trend=0, lags=1).vectors[:, 0]
        units = -zscore(prices @ vector, 23).to_numpy()
        held = (units[:, None] * vector * prices.to_numpy())[:-1]
        gains = (held * prices.pct_change().to_numpy()[1:]).sum(axis=1)
        returns = np.nan_to_num(gains / np.abs(held).sum(axis=1), nan=0.0)
        returns = np.concatenate(([0.0], returns))
        entry = "chan2_linear_mean_reversion_triplet"
        assert sharpe_of(returns) == published(entry, "Sharpe")
        assert annual_growth(1.0, np.prod(1 + returns), len(returns) / 252) == published(
            entry, "APR"
        )

    def test_chan_kalman(self) -> None:
        """Entry and exit at the same band, which our rules refuse; the metrics are the same."""
        table = reference_csv("chan2_EWA_EWC.csv")
        y, x = table["EWC"], table["EWA"]
        states = kalman_hedge_ratio(y, x)
        score = (states["innovation"] / states["innovation_std"]).to_numpy()
        side = np.where(score < -1, 1.0, np.where(score > 1, -1.0, 0.0))
        beta = states["beta"].to_numpy()
        held = np.column_stack([side * y, -side * beta * x])[:-1]
        moves = np.column_stack([y.pct_change(), x.pct_change()])[1:]
        gross = np.abs(held).sum(axis=1)
        gains = (held * moves).sum(axis=1)
        returns = np.divide(gains, gross, out=np.zeros_like(gains), where=gross > 0)
        returns = np.concatenate(([0.0], returns))
        entry = "chan2_kalman_EWC_on_EWA"
        assert sharpe_of(returns) == published(entry, "Sharpe")
        growth = annual_growth(1.0, np.prod(1 + returns), len(returns) / 252)
        assert growth == published(entry, "APR")

    def test_chan_gld_gdx_by_our_state_machine(self) -> None:
        """The book's rule: enter at 2, leave at 1, decided and filled at the close."""
        legs = [
            reference_csv(f"chan1_{name}.csv").set_index("Date")["Adj Close"]
            for name in ("GLD", "GDX")
        ]
        both = pd.concat(legs, axis=1, join="inner", keys=["y", "x"]).sort_index()
        spread = both["y"] - 1.631009 * both["x"]
        score = ((spread - spread[:252].mean()) / spread[:252].std()).to_numpy()
        side = positions(score, Rules(entry_z=2.0, exit_z=1.0)).astype(float)
        moves = both.pct_change().to_numpy()
        returns = np.concatenate(([0.0], side[:-1] * (moves[1:, 0] - moves[1:, 1]) / 2))
        entry = "chan1_GLD_GDX_zscore_backtest"
        assert sharpe_of(returns[1:252]) == published(entry, "sharpe_train_book")
        assert sharpe_of(returns[252:]) == published(entry, "sharpe_test_book")


equities = st.lists(st.floats(50, 200), min_size=2, max_size=60)


@settings(max_examples=300, deadline=None)
@given(equities, st.integers(0, 2**32))
def test_a_curve_by_its_definitions(values: list[float], seed: int) -> None:
    equity = np.array(values)
    steps = np.random.default_rng(seed).choice([1, 1, 1, 7, 5000], len(values))
    times = np.cumsum(steps, dtype=np.int64)
    found = curve(equity, 100.0, times)
    returns = equity[1:] / equity[:-1] - 1
    assert found.mean == pytest.approx(returns.mean(), abs=1e-12)
    if len(returns) > 1:
        assert found.deviation == pytest.approx(returns.std(ddof=1), rel=1e-6, abs=1e-9)
    below = np.minimum(returns, 0)
    assert found.downside == pytest.approx(math.sqrt((below**2).mean()), abs=1e-12)
    peaks = np.maximum(np.maximum.accumulate(equity), 100.0)
    lost = (peaks - equity) / peaks
    assert found.max_drawdown == pytest.approx(lost.max(), abs=1e-12)
    # Stretches below the peak, each from its peak's row to the row that reaches it again.
    start, under, stretches = 0, False, []
    for t, value in enumerate(equity):
        under = under or bool(value < peaks[t])
        if value >= peaks[t] or t == len(equity) - 1:
            if under:
                stretches.append((start, t))
            start, under = t, False
    # The longest in time, though another may have more bars; of equals the first.
    longest = max(stretches, key=lambda s: (times[s[1]] - times[s[0]], -s[0]), default=(0, 0))
    assert found.longest == longest
    if stretches:
        _, first, last = max((lost[a : b + 1].max(), -a, b) for a, b in stretches)
        assert found.deepest == (-first, last)


def test_every_figure_has_a_label_and_a_unit_and_stands_in_the_result() -> None:
    result = run(
        leg(1),
        leg(2),
        Rules(window=20, entry_z=1.0, stop_z=2.0, max_bars=9),
        Costs(fee_bps=2, slippage_bps=1),
    )
    assert list(result.metrics) == list(METRICS)
    units = {
        "quote",
        "fraction",
        "fraction a year",
        "ratio",
        "count",
        "bars",
        "s",
        "bps",
        "times a year",
    }
    assert {metric.unit for metric in METRICS.values()} <= units
    m, trades = result.metrics, result.trades
    assert m["trades"] == m["long_trades"] + m["short_trades"] == len(trades) > 10
    assert m["long_pnl"] + m["short_pnl"] == pytest.approx(m["total_pnl"])
    reasons = trades["exit_reason"].value_counts()
    for name, reason in (
        ("exits", "exit"),
        ("exits_stop_z", "stop_z"),
        ("exits_stop_loss", "stop_loss"),
        ("exits_max_bars", "max_bars"),
        ("exits_end_of_data", "end of data"),
    ):
        assert m[name] == reasons.get(reason, 0)
    assert m["exposure"] == pytest.approx(trades["bars"].sum() / 300)
    assert m["exposure"] == (result.signals["position"] != 0).mean()
    assert m["average_holding_s"] == pytest.approx(60 * trades["bars"].mean())
    won, lost = trades["pnl"].clip(lower=0).sum(), -trades["pnl"].clip(upper=0).sum()
    assert m["profit_factor"] == pytest.approx(won / lost)
    years = 299 / 525_600
    assert m["years"] == pytest.approx(years)
    assert m["cagr"] == pytest.approx((1 + m["total_return"]) ** (1 / years) - 1)
    assert m["calmar"] == pytest.approx(m["cagr"] / m["max_drawdown"])
    returns = result.equity.pct_change()[1:]
    assert m["sharpe"] == pytest.approx(returns.mean() / returns.std() * math.sqrt(525_600))
    assert m["volatility"] == pytest.approx(returns.std() * math.sqrt(525_600))
    downside = math.sqrt((returns.clip(upper=0) ** 2).mean())
    assert m["sortino"] == pytest.approx(returns.mean() / downside * math.sqrt(525_600))
    assert result.drawdown.max() == pytest.approx(m["max_drawdown"])


YEAR = pd.Timedelta(days=365)


class TestAYearHasTheReturnsThereReallyAre:
    def test_by_hand(self) -> None:
        gaps = pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-03", "2024-02-01"], tz="UTC")
        equity = np.array([100.0, 101.0, 99.0, 103.0])
        found = compute_metrics(gaps, curve(equity, 100.0), NO_TRADES, 100.0)
        returns = np.diff(equity) / equity[:-1]
        root = math.sqrt(3 * 365 / 31)
        assert found["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * root)
        assert found["volatility"] == pytest.approx(returns.std(ddof=1) * root)
        downside = math.sqrt((np.minimum(returns, 0) ** 2).mean())
        assert found["sortino"] == pytest.approx(returns.mean() / downside * root)
        assert found["years"] == pytest.approx(31 * 86_400 / YEAR_S)
        assert found["max_drawdown_s"] == 30 * 86_400
        assert found["bar_s"] == 86_400

    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    @pytest.mark.parametrize("freq", ["1s", "1min", "7min", "1h", "1D"])
    def test_without_holes_it_is_a_year_of_bars(self, freq: str, unit: str) -> None:
        index = pd.date_range("2024-01-01", periods=1000, freq=freq, tz="UTC").as_unit(unit)
        for rows in (2, 3, 7, 1000):
            assert returns_per_year(index[:rows]) == YEAR / pd.Timedelta(freq)

    def test_without_two_times_there_is_none(self) -> None:
        index = pd.date_range("2024-01-01", periods=3, freq="1min", tz="UTC")
        for times in (index[:0], index[:1], index[[0, 0]], index[[1, 1, 1]], index[::-1]):
            assert math.isnan(returns_per_year(times))
            found = compute_metrics(
                times, curve(np.arange(100.0, 100.0 + len(times)), 100.0), NO_TRADES, 100.0
            )
            assert math.isnan(found["sharpe"])
            assert math.isnan(found["volatility"])
            assert math.isnan(found["sortino"])

    def test_empty_minutes_left_out_change_nothing(self) -> None:
        """The same account, seen with and without the minutes in which nothing moved."""
        rng = np.random.default_rng(4)
        index = pd.date_range("2024-01-01", periods=20_000, freq="1min", tz="UTC")
        moves = rng.normal(3e-6, 1e-4, 20_000) * (rng.random(20_000) < 0.4)
        equity = pd.Series(10_000 * np.exp(moves.cumsum()), index=index)
        moved = np.flatnonzero((moves != 0) | (np.arange(20_000) % 19_999 == 0))
        sparse = equity.iloc[moved]
        assert len(sparse) < 8500
        whole, part = (
            compute_metrics(
                pd.DatetimeIndex(e.index), curve(e.to_numpy(), 10_000.0), NO_TRADES, 10_000.0
            )
            for e in (equity, sparse)
        )
        for name in ("sharpe", "volatility", "sortino"):
            assert part[name] == pytest.approx(whole[name], rel=1e-3)

    def test_every_door_counts_the_same_way(self) -> None:
        """Run, grid, walk-forward and the judgement of both, over bars with holes."""
        kept = np.random.default_rng(2).random(900) < 0.6
        y, x = leg(1, 900)[kept], leg(2, 900)[kept]
        sets = [Rules(window=20, entry_z=entry) for entry in (1.0, 1.5)]
        costs = Costs(fee_bps=1)

        def sharpe(equity: pd.Series[float]) -> float:
            returns = equity.pct_change()[1:]
            year = len(returns) * YEAR / (equity.index[-1] - equity.index[0])
            return float(returns.mean() / returns.std() * math.sqrt(year))

        results = [run(y, x, rules, costs) for rules in sets]
        wanted = [sharpe(result.equity) for result in results]
        assert [r.metrics["sharpe"] for r in results] == pytest.approx(wanted)
        assert grid(y, x, sets, costs)["sharpe"].tolist() == pytest.approx(wanted)
        found = walk_forward(y, x, sets, costs, train=200, test=100)
        walked = sharpe(found.equity)
        assert [found.metrics["sharpe"], found.deflated.sharpe] == pytest.approx([walked, walked])
        first, chosen = y.index[:200], found.folds["chosen"][0]
        trained = run(y[:200], x[:200], sets[chosen], costs)
        assert found.folds["train"][0] == pytest.approx(sharpe(trained.equity))
        year = returns_per_year(pd.DatetimeIndex(first))
        assert year == pytest.approx(199 * YEAR / (first[-1] - first[0]))
        interval = sharpe_interval(returns_of(results[0].equity), returns_per_year(y.index))
        assert interval.estimate == pytest.approx(wanted[0])


def test_durations_are_told_by_time_not_by_rows() -> None:
    """Four minutes below a peak, then twelve hours of a closed market."""
    minutes = [0, 1, 2, 3, 4, 5, 6, 7, 727, 728]
    index = pd.DatetimeIndex(
        pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    )
    equity = np.array([100, 99, 98, 97, 98, 100, 102, 101, 101.5, 103.0])
    found = compute_metrics(index, curve(equity, 100.0, index.asi8), NO_TRADES, 100.0)
    assert found["longest_drawdown_s"] == 722 * 60
    assert found["max_drawdown_s"] == 5 * 60


def test_holding_is_time_too() -> None:
    kept = np.random.default_rng(6).random(600) < 0.5
    result = run(leg(1, 600)[kept], leg(2, 600)[kept], Rules(window=20, entry_z=1.0), Costs())
    trades = result.trades
    held = (trades["exit_time"] - trades["entry_time"]).dt.total_seconds()
    held += 60 * (trades["exit_reason"] == "end of data")
    assert result.metrics["average_holding_s"] == pytest.approx(held.mean())
    assert result.metrics["average_holding_s"] > 1.5 * 60 * result.metrics["average_bars"]


class TestReturnsWithoutDeviation:
    @pytest.mark.parametrize("rate", [1e-3, -1e-3, 1e-9, 0.1, -0.3, 1.0])
    @pytest.mark.parametrize("start", [1.0, 10_000.0, 3.7e9])
    @pytest.mark.parametrize("rows", [3, 4, 100, 2000])
    def test_have_no_ratio(self, rate: float, start: float, rows: int) -> None:
        """Made one from the other, by powers or by sums of logs: only rounding differs."""
        n = np.arange(min(rows, 600) if abs(rate) > 0.05 else rows)
        for equity in (
            start * (1.0 + rate) ** n,
            start * np.exp(n * math.log1p(rate)) if abs(rate) < 0.01 and rows < 200 else None,
            start * np.concatenate(([1.0], np.cumprod(np.full(len(n) - 1, 1.0 + rate)))),
        ):
            if equity is None:
                continue
            index = pd.date_range("2024-01-01", periods=len(equity), freq="1min", tz="UTC")
            found = compute_metrics(index, curve(equity, start), NO_TRADES, start)
            assert found["volatility"] == 0.0
            assert math.isnan(found["sharpe"])
            assert math.isnan(found["sortino"])
            returns = returns_of(equity)
            told = moments(returns)
            assert math.isnan(told.sharpe)
            assert math.isnan(probabilistic_sharpe(told))
            assert math.isnan(minimum_track_record(told))
            judged = deflated_sharpe(returns, [1.0, 2.0], 525_600)
            assert math.isnan(judged.probability)
            interval = sharpe_interval(returns, 525_600, samples=100)
            assert math.isnan(interval.low)
            assert math.isnan(interval.estimate)

    def test_what_moves_a_little_has_one(self) -> None:
        rng = np.random.default_rng(3)
        for scale in (1e-12, 1e-9, 1e-3):
            equity = 100.0 * (1.0 + scale * rng.normal(0.0, 1.0, 500).cumsum())
            index = pd.date_range("2024-01-01", periods=500, freq="1min", tz="UTC")
            found = compute_metrics(index, curve(equity, 100.0), NO_TRADES, 100.0)
            returns = returns_of(equity)
            wanted = returns.mean() / returns.std(ddof=1) * math.sqrt(525_600)
            assert found["sharpe"] == pytest.approx(wanted)
            assert moments(returns).sharpe * math.sqrt(525_600) == pytest.approx(wanted)

    def test_a_grid_has_none_either(self) -> None:
        """Both legs one market: what is made is rounding, at any leverage."""
        y = leg(1, 400)
        x = y * 3.3
        x["volume"] = 1.0
        sets = [
            Rules(hedge="fixed", beta=1 / 3.3, window=10, entry_z=1.0, notional=notional)
            for notional in (100.0, 10_000.0, 1e7)
        ]
        for rules, sharpe in zip(sets, grid(y, x, sets, Costs())["sharpe"], strict=True):
            found = run(y, x, rules, Costs())
            assert found.metrics["trades"] > 5
            assert abs(found.metrics["total_pnl"]) < 1e-9 * rules.notional
            assert math.isnan(found.metrics["sharpe"])
            assert math.isnan(sharpe)

    def test_a_resample_without_deviation_has_no_ratio(self) -> None:
        """One trade in a thousand bars: a third of the resamples do not hold it."""
        returns = np.zeros(1000)
        returns[500] = 1e-3
        found = sharpe_interval(returns, 525_600, block=1.0)
        assert 0 < found.low < found.estimate < found.high < 10 * found.estimate


def test_without_a_value_there_is_none() -> None:
    index = pd.date_range("2024-01-01", periods=4, freq="1D", tz="UTC")
    found = compute_metrics(index, curve(np.full(4, 100.0), 100.0), NO_TRADES, 100.0)
    empty = {name for name, value in found.items() if math.isnan(value)}
    assert empty == {
        "sharpe",
        "sortino",
        "calmar",
        "win_rate",
        "profit_factor",
        "average_pnl",
        "average_bars",
        "average_holding_s",
        "break_even_bps",
    }
    ruined = compute_metrics(
        index, curve(np.array([100.0, 50.0, -5.0, -5.0]), 100.0), NO_TRADES, 100.0
    )
    assert math.isnan(ruined["cagr"])
    assert ruined["max_drawdown"] == 1.05
    for rows in (1, 2):
        few = compute_metrics(index[:rows], curve(np.full(rows, 100.0), 100.0), NO_TRADES, 100.0)
        assert math.isnan(few["sharpe"])
        assert few["total_pnl"] == 0


def test_every_figure_is_defined_in_the_methods() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    part = text[text.index("## The backtest") :]
    rows = " ".join(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE))
    assert set(METRICS) <= set(re.findall(r"`(\w+)`", rows))
