"""`run` against the plain reference in slow_backtest.py: every trade, every bar of equity."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backtest import Costs, Result, Rules, run
from pairs.backtest import kernels, simulation
from pairs.backtest.engine import curve, simulate
from tests.support.reference import reference_csv
from tests.support.slow_backtest import Slow, backtest

CLEAR = 1e-7  # comparisons closer than this may go either way in another order of additions


def agree(result: Result, slow: Slow, capital: float) -> None:
    """Every figure of both to 1e-9 of its scale."""
    assert [str(a) for a in result.signals["action"]] == slow.actions
    trades = result.trades.to_dict("records")
    assert len(trades) == len(slow.trades)
    for got, wanted in zip(trades, slow.trades, strict=True):
        assert set(got) == set(wanted)
        for name, value in wanted.items():
            if isinstance(value, float):
                assert got[name] == pytest.approx(value, rel=1e-8, abs=1e-9 * capital), name
            else:
                assert got[name] == value, name
    assert list(result.equity.index) == slow.times
    np.testing.assert_allclose(result.equity, slow.equity, rtol=0, atol=1e-8 * capital)
    earned = math.fsum(result.trades["pnl"])
    assert earned == pytest.approx(result.equity.iloc[-1] - capital, abs=1e-9 * capital)
    for name, value in slow.metrics.items():
        assert result.metrics[name] == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), name


def frame(opens: Any, closes: Any, times: pd.DatetimeIndex) -> pd.DataFrame:
    return pd.DataFrame({"open": opens, "close": closes}, index=times)


@st.composite
def markets(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two legs that hang together, or not; with gaps, flat stretches, missing bars, jumps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(2, 120))
    scale = 10.0 ** draw(st.integers(-1, 3))
    step = draw(st.sampled_from([1, 60, 300, 86_400]))
    move = draw(st.sampled_from([1e-4, 1e-3, 1e-2, 5e-2]))
    x = scale * np.exp(rng.normal(0, move, rows).cumsum())
    pull = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    error = np.zeros(rows)
    for t in range(1, rows):
        error[t] = pull * error[t - 1] + rng.normal(0, move)
    y = (draw(st.sampled_from([-0.5, 0.3, 1.7])) * (x - x[0]) + 2 * scale) * np.exp(error)
    y = np.maximum(y, 0.01 * scale)
    if draw(st.booleans()):  # a leg without trades for a while
        first = draw(st.integers(0, rows - 1))
        leg = y if draw(st.booleans()) else x
        leg[first : first + draw(st.integers(1, 40))] = leg[first]
    if draw(st.booleans()):  # and both
        first = draw(st.integers(0, rows - 1))
        length = draw(st.integers(1, 40))
        y[first : first + length], x[first : first + length] = y[first], x[first]
    if draw(st.booleans()):
        y[draw(st.integers(0, rows - 1)) :] *= 1.2
    seconds = np.cumsum(rng.choice([1, 1, 1, 1, 1, 3, 50], rows)) * step
    times = pd.DatetimeIndex((seconds + 1_700_000_000).astype("datetime64[s]"), tz="UTC")
    jump = draw(st.sampled_from([0.0, move]))
    legs = []
    for close in (y, x):
        opens = np.concatenate(([close[0]], close[:-1])) * np.exp(rng.normal(0, jump, rows))
        kept = rng.random(rows) > draw(st.sampled_from([0.0, 0.0, 0.1]))
        legs.append(frame(opens, close, times)[kept])
    return legs[0], legs[1]


@st.composite
def rule_sets(draw: st.DrawFn) -> Rules:
    entry = draw(st.floats(0.3, 2.5))
    stop = draw(st.none() | st.floats(0.05, 2.0))
    return Rules(
        hedge=draw(st.sampled_from(["fixed", "rolling", "kalman"])),
        beta=draw(st.sampled_from([-0.8, 0.3, 1.0, 1.7])),
        hedge_window=draw(st.none() | st.integers(4, 30)),
        window=draw(st.integers(3, 30)),
        entry_z=entry,
        exit_z=entry - draw(st.floats(0.05, 3.0)),
        stop_z=None if stop is None else entry + stop,
        stop_loss=draw(st.none() | st.floats(1e-5, 0.05)),
        max_bars=draw(st.none() | st.integers(1, 25)),
        notional=draw(st.sampled_from([1_000.0, 10_000.0, 25_000.0])),
        capital=10_000.0,
        **draw(
            st.sampled_from(
                [
                    {},
                    *(
                        {"delta": delta, "observation_variance": 1e-3}
                        for delta in (1e-5, 1e-4, 1e-2)
                    ),
                ]
            )
        ),
    )


COSTS = st.builds(Costs, fee_bps=st.floats(0, 50), slippage_bps=st.floats(0, 50)) | st.just(Costs())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(markets(), rule_sets(), COSTS)
def test_any_market_and_any_rules(
    bars: tuple[pd.DataFrame, pd.DataFrame], rules: Rules, costs: Costs
) -> None:
    y, x = bars
    lengths = {int(np.gcd.reduce(np.diff(leg.index.asi8))) for leg in bars if len(leg) > 1}
    if len(lengths) > 1:  # minutes that happen to be all even
        with pytest.raises(ValueError, match="bars_y and bars_x differ in length"):
            run(y, x, rules, costs)
        return
    common = len(y.index.intersection(x.index))
    if common < rules.spec.bars_needed:
        with pytest.raises(ValueError, match=f"{common:,} bars in common: at least"):
            run(y, x, rules, costs)
        return
    slow = backtest(y, x, rules, costs)
    assume(slow.margin > CLEAR)
    result = run(y, x, rules, costs)
    agree(result, slow, rules.capital)
    same_bar_by_bar(result, y, x)


def same_bar_by_bar(result: Result, y: pd.DataFrame, x: pd.DataFrame) -> None:
    """The same without what a walk does at once: rows between the levels, the curve's figures."""
    rules, costs = result.rules, result.costs
    nothing = pd.Series([0.0], index=y.index[:1])  # with funding, each bar is looked at
    slowly = run(y, x, rules, replace(costs, funding_y=nothing))
    assert slowly.equity.tolist() == result.equity.tolist()
    assert slowly.trades.drop(columns="funding").equals(result.trades)
    prices = simulation.align_and_check(y, x, 1).scored(rules, costs)
    figures = asdict(curve(result.equity.to_numpy(), rules.capital, prices.stamps))
    for record in (True, False):
        done = simulate(prices, rules, costs, record=record)
        if not record:  # without an equity there are no stretches to measure
            figures["longest"] = (0, 0)
        if (
            done.equity_stats.deviation == 0.0
        ):  # a curve alone does not know how coarse its values are
            assert not figures["deviation"] > 1e-14 * (1.0 + rules.notional / rules.capital)
            figures["deviation"] = 0.0
        np.testing.assert_equal(asdict(done.equity_stats), figures)
        assert done.totals["pnl"] == pytest.approx(result.metrics["total_pnl"], abs=1e-8)
        assert done.totals["trades"] == len(result.trades)


def real(file: str, start: str) -> pd.DataFrame:
    bars = reference_csv(file)
    index = pd.DatetimeIndex(pd.to_datetime(bars[bars.columns[0]], utc=True))
    return bars.set_index(index).loc[start:]


REAL = {
    "1m": (
        "binance_1m_ETHUSDT_2026-01-24_31.csv",
        "binance_1m_BTCUSDT_2026-01-24_31.csv",
        "2026-01-29",
    ),
    "1d": ("binance_1d_ETHUSDT.csv", "binance_1d_BTCUSDT.csv", "2018"),
}


HEDGES: dict[str, dict[str, Any]] = {
    "fixed": {"hedge": "fixed"},
    "rolling": {"hedge": "rolling"},
    "kalman": {"hedge": "kalman"},
    "noise": {"hedge": "kalman", "delta": 1e-4, "observation_variance": 1.0},
}


@pytest.mark.parametrize("hedge", HEDGES)
@pytest.mark.parametrize("length", REAL)
def test_real_bars(length: str, hedge: str) -> None:
    *files, start = REAL[length]
    y, x = (real(file, start) for file in files)
    rules = Rules(
        beta=0.035,
        hedge_window=90,
        window=40,
        entry_z=1.9,
        exit_z=0.2,
        stop_z=3.1,
        stop_loss=0.02,
        max_bars=50,
        **HEDGES[hedge],
    )
    costs = Costs(fee_bps=10, slippage_bps=1)
    slow = backtest(y, x, rules, costs)
    assert len(slow.trades) > 25
    assert slow.margin > 1e-8
    agree(run(y, x, rules, costs), slow, rules.capital)


@pytest.mark.parametrize("window", [7, 90])
@pytest.mark.parametrize("hedge", ["fixed", "rolling", "noise"])
def test_a_long_record(hedge: str, window: int) -> None:
    """Longer than the stretches of rows that are taken at a time, and held across their edges."""
    rng = np.random.default_rng(window)
    rows = 3 * kernels._CHUNK
    x = 100 * np.exp(rng.normal(0, 1e-4, rows).cumsum())
    error = np.zeros(rows)
    for t in range(1, rows):
        error[t] = 0.99 * error[t - 1] + rng.normal(0, 0.02)
    times = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    bars_y, bars_x = (
        frame(close * np.exp(rng.normal(0, 1e-5, rows)), close, times)
        for close in (0.7 * x + 30 + error, x)
    )
    limits: dict[str, Any]
    for limits in ({}, {"stop_z": 4.0, "stop_loss": 0.001, "max_bars": 200}):
        rules = Rules(
            beta=0.7,
            hedge_window=60,
            window=window,
            entry_z=1.0,
            exit_z=-0.8,
            **HEDGES[hedge],
            **limits,
        )
        costs = Costs(fee_bps=1, slippage_bps=1)
        slow = backtest(bars_y, bars_x, rules, costs)
        assert slow.margin > 1e-10
        result = run(bars_y, bars_x, rules, costs)
        agree(result, slow, rules.capital)
        same_bar_by_bar(result, bars_y, bars_x)
        stretch = window * (kernels._CHUNK // window)
        assert result.signals["position"].to_numpy()[stretch - 1 : -1 : stretch].any()


def scripted(zs: list[float], **changes: Any) -> Result:
    """A market whose z-scores are these: window 2 gives ±0.7071, so they are put in instead."""
    rows = len(zs)
    times = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC")
    bars = frame(np.full(rows, 100.0), np.full(rows, 100.0), times)
    pair = simulation.align_and_check(bars, bars, 1)
    prices = pair.with_scores(np.full(rows, 1.0), np.array(zs, dtype=np.float64), Costs())
    rules = Rules(hedge="fixed", beta=1.0, **changes)
    return simulation.simulate_scored(pair, prices, rules, Costs())


def lives(result: Result) -> list[tuple[str, int, int, int, str]]:
    """Side, row of entry, row of exit, bars, reason."""
    row = {ts: n for n, ts in enumerate(result.equity.index)}
    return [
        (t.side, row[t.entry_time], row[t.exit_time], t.bars, t.exit_reason)
        for t in result.trades.itertuples()
    ]


class TestOddCases:
    def test_the_mean_crossed_ends_a_trade(self) -> None:
        assert lives(scripted([0, -3, -1, 0, 0])) == [("long", 2, 4, 2, "exit")]
        assert lives(scripted([0, 3, 1, -5, 0, 0])) == [("short", 2, 4, 2, "exit")]

    def test_a_bar_that_fills_an_exit_fills_no_entry(self) -> None:
        """z flies from one side to the other: the reversal waits for the next close."""
        found = lives(scripted([-3, 3, 3, 3, 0, 0, 0]))
        assert found == [("long", 1, 2, 1, "exit"), ("short", 3, 5, 2, "exit")]
        assert lives(scripted([-3, 3, 1, 1, 0, 0])) == [("long", 1, 2, 1, "exit")]

    def test_a_signal_at_the_last_close_is_void(self) -> None:
        result = scripted([0, 0, 0, -3])
        assert lives(result) == []
        assert result.signals["action"].tolist() == ["", "", "", "long"]

    def test_a_signal_before_it_lives_within_the_last_bar(self) -> None:
        assert lives(scripted([0, 0, -3, -3])) == [("long", 3, 3, 1, "end of data")]

    def test_an_exit_signalled_at_the_last_close_is_the_end_of_data(self) -> None:
        assert lives(scripted([0, -3, -1, 1])) == [("long", 2, 3, 2, "end of data")]
        assert lives(scripted([0, -3, 1, 1])) == [("long", 2, 3, 1, "exit")]

    def test_max_bars_are_bars_lived(self) -> None:
        for bars in (1, 2, 3):
            found = lives(scripted([-3, -3, -3, -3, -3, -3], max_bars=bars))
            assert found == [("long", 1, 1 + bars, bars, "max_bars")]

    def test_the_exit_level_is_read_before_the_stops(self) -> None:
        assert lives(scripted([-3, 1, 0, 0], max_bars=1))[0][-1] == "exit"
        assert lives(scripted([-3, -9, 0, 0], max_bars=1, stop_z=4))[0][-1] == "stop_z"

    @pytest.mark.parametrize("stop", [{"stop_z": 4.0}, {"max_bars": 1}])
    def test_after_a_stop_z_must_come_back_first(self, stop: dict[str, Any]) -> None:
        """To that side's own level; the close where it has may signal the other side."""
        nan = math.nan
        found = lives(scripted([-3, -5, -3, nan, 3, 3, 3, 0, 0], **stop))
        assert found[0][:3] == ("long", 1, 2)
        assert found[1][:2] == ("short", 5)
        found = lives(scripted([-3, -5, -3, -3, -0.1, -3, -3, 0, 0, -3, -3], **stop))
        assert [row[1] for row in found] == [1, 10]
        found = lives(scripted([-3, -5, -3, -0.4, -3, -3, -3], exit_z=0.5, **stop))
        assert [row[1] for row in found] == [1, 5]

    def test_without_z_nothing_but_time_and_money_act(self) -> None:
        nan = math.nan
        assert lives(scripted([nan, -3, nan, nan, nan, nan])) == [("long", 2, 5, 4, "end of data")]
        assert lives(scripted([nan, -3, nan, nan, nan, nan], max_bars=2)) == [
            ("long", 2, 4, 2, "max_bars")
        ]


def test_a_stop_loss_counts_slippage_and_the_fees_paid_so_far() -> None:
    """10 bps of each are a loss of 0.002 of the notional at the first close."""
    times = pd.date_range("2024-01-01", periods=4, freq="1min", tz="UTC")
    bars = frame(np.full(4, 100.0), np.full(4, 100.0), times)
    pair = simulation.align_and_check(bars, bars, 1)
    costs = Costs(fee_bps=10, slippage_bps=10)
    prices = pair.with_scores(
        np.full(4, 1.0), np.array([-3.0, math.nan, math.nan, math.nan]), costs
    )
    for limit, reason in ((0.00199, "stop_loss"), (0.00201, "end of data")):
        rules = Rules(hedge="fixed", beta=1.0, stop_loss=limit)
        result = simulation.simulate_scored(pair, prices, rules, costs)
        assert result.trades["exit_reason"].tolist() == [reason]


def test_figures_of_one_trade_by_hand() -> None:
    times = pd.date_range("2024-01-01", periods=5, freq="1h", tz="UTC")
    y = frame([100, 100, 110, 120, 120], [100, 105, 115, 121, 119], times)
    x = frame([50, 50, 52, 51, 50], [50, 51, 52, 50, 49], times)
    pair = simulation.align_and_check(y, x, 1)
    costs = Costs(fee_bps=10, slippage_bps=100)
    prices = pair.with_scores(np.full(5, 2.0), np.array([0.0, -3.0, -1.0, 1.0, 0.0]), costs)
    rules = Rules(hedge="fixed", beta=2.0, notional=2070.0, capital=1000.0)
    result = simulation.simulate_scored(pair, prices, rules, costs)
    (trade,) = result.trades.to_dict("records")
    assert (trade["qty_y"], trade["qty_x"]) == (10.0, -20.0)  # 2070/(105 + 2·51)
    assert (trade["entry_y"], trade["entry_x"]) == (110 * 1.01, 52 * 0.99)
    assert (trade["exit_y"], trade["exit_x"]) == (120 * 0.99, 50 * 1.01)
    assert trade["pnl_y"] == pytest.approx(10 * (118.8 - 111.1))
    assert trade["pnl_x"] == pytest.approx(-20 * (50.5 - 51.48))
    fees = 0.001 * (10 * 111.1 + 20 * 51.48 + 10 * 118.8 + 20 * 50.5)
    assert trade["fees"] == pytest.approx(fees)
    assert result.equity.tolist() == pytest.approx(
        [
            1000,
            1000,
            1000 + 10 * (115 - 111.1) - 20 * (52 - 51.48) - 0.001 * (1111 + 1029.6),
            1000 + 10 * (121 - 111.1) - 20 * (50 - 51.48) - 0.001 * (1111 + 1029.6),
            1000 + 77 + 19.6 - fees,
        ]
    )
    slippage = 10 * 1.1 + 20 * 0.52 + 10 * 1.2 + 20 * 0.5
    assert result.metrics["slippage"] == pytest.approx(slippage)
    traded = 10 * 110 + 20 * 52 + 10 * 120 + 20 * 50
    assert result.metrics["break_even_bps"] == pytest.approx(1e4 * (100 + 40) / traded)
