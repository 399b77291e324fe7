"""Grids, walk-forward, look-ahead: what is many runs must be those runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest import Costs, Rules, positions, run
from pairs.backtest.engine import simulate
from pairs.backtest.grid import FIGURES, ScoredPair, combinations, cost_sensitivity, grid, heat_map
from pairs.backtest.look_ahead import find_look_ahead
from pairs.backtest.overfitting import deflated_sharpe, returns_of
from pairs.backtest.simulation import align_and_check
from pairs.backtest.walk_forward import FOLD_COLUMNS, walk_forward
from tests.support.legs import BASE, COSTS, candidates, legs


class TestGrid:
    def test_combinations(self) -> None:
        made = candidates()
        assert len(made) == 3 * (3 + 2)  # an exit at 1.2 is no exit for an entry at 1
        assert (made[0].window, made[0].entry_z, made[0].exit_z) == (10, 1.0, 0.0)
        assert made[-1].exit_z == 1.2
        with pytest.raises(ValueError, match="window=1"):
            combinations(BASE, window=[1, 5])
        with pytest.raises(ValueError, match="'windows' is no rule"):
            combinations(BASE, windows=[5])
        with pytest.raises(ValueError, match="no combination"):
            combinations(BASE, exit_z=[3.0])

    def test_every_row_is_its_run(self) -> None:
        y, x = legs()
        seen: list[tuple[int, int]] = []
        sets = [*candidates(), *combinations(BASE, hedge=["kalman"], stop_loss=[1e-3, None])]
        table = grid(y, x, sets, COSTS, progress=lambda done, of: seen.append((done, of)))
        assert seen == [(k + 1, len(sets)) for k in range(len(sets))]
        assert table.attrs["in_sample"]
        for rules, row in zip(sets, table.to_dict("records"), strict=True):
            found = run(y, x, rules, COSTS).metrics
            for name in FIGURES:
                assert row[name] == pytest.approx(found[name], rel=1e-9, abs=1e-12, nan_ok=True)
            assert row["window"] == rules.window

    def test_a_heat_map_averages_over_the_rest(self) -> None:
        y, x = legs()
        table = grid(y, x, candidates(), COSTS)
        heat = heat_map(table, "window", "entry_z", "total_pnl")
        assert heat.index.tolist() == [1.0, 1.5, 2.0]
        assert heat.columns.tolist() == [10, 20, 40]
        part = table[(table["window"] == 20) & (table["entry_z"] == 1.5)]["total_pnl"]
        assert heat.loc[1.5, 20] == pytest.approx(part.mean())
        best = heat_map(table, "window", "entry_z", "total_pnl", how="max")
        assert best.loc[1.5, 20] == part.max()
        with pytest.raises(ValueError, match="x='span'"):
            heat_map(table, "span", "entry_z")

    def test_costs_eat_profits(self) -> None:
        y, x = legs()
        table = cost_sensitivity(y, x, BASE, COSTS, levels_bps=[0, 1.5, 5])
        assert table.index.tolist() == [0.0, 1.5, 5.0]
        assert table["total_pnl"].is_monotonic_decreasing
        metrics = run(y, x, BASE, COSTS).metrics
        assert table.loc[1.5, "total_pnl"] == pytest.approx(metrics["total_pnl"])
        even = cost_sensitivity(y, x, BASE, Costs(), levels_bps=[metrics["break_even_bps"]])
        assert even["total_pnl"].iloc[0] == pytest.approx(0, abs=0.01 * metrics["fees"])

    def test_the_ruined_are_not_the_best(self) -> None:
        """At 5 % a trade the capital is gone soon; the returns of a debt look like profits."""
        y, x = legs()
        costs = Costs(fee_bps=250)
        sets = combinations(BASE, entry_z=[0.5, 1.0, 50.0], capital=[2000.0])
        assert run(y, x, sets[0], costs).metrics["max_drawdown"] > 1
        table = grid(y, x, sets, costs)
        assert table["sharpe"].isna().all()
        found = walk_forward(y, x, sets, costs, train=600, test=150)
        assert found.folds["chosen"].tolist() == [-1, -1]

    def test_nothing_to_try(self) -> None:
        with pytest.raises(ValueError, match="candidates is empty"):
            grid(*legs(), [], COSTS)


class TestWalkForward:
    def test_each_piece_trades_the_best_of_its_past(self) -> None:
        y, x = legs()
        sets = candidates()
        seen: list[tuple[int, int]] = []
        found = walk_forward(
            y,
            x,
            sets,
            COSTS,
            train=300,
            test=150,
            progress=lambda done, of: seen.append((done, of)),
        )
        assert list(found.folds.columns) == list(FOLD_COLUMNS)
        assert found.equity.index.equals(y.index[300:])
        assert seen[-1] == (6, 6)
        level = 5000.0
        for n, fold in enumerate(found.folds.to_dict("records")):
            first, start, stop = 150 * n, 300 + 150 * n, 450 + 150 * n
            assert (fold["train_start"], fold["test_start"]) == (y.index[first], y.index[start])
            assert fold["test_end"] == y.index[stop - 1]
            pair = align_and_check(y, x, 1)
            sharpes = []
            for rules in sets:
                prices = pair.scored(rules, COSTS).rows(first, start)
                sharpes.append(self.sharpe(prices, rules))
            assert fold["chosen"] == int(np.nanargmax(sharpes))
            assert fold["train"] == pytest.approx(max(sharpes))
            piece = found.equity.iloc[start - 300 : stop - 300]
            assert piece.iloc[0] == pytest.approx(level)
            assert piece.iloc[-1] - level == pytest.approx(fold["test_pnl"])
            level = piece.iloc[-1]
        assert found.metrics["total_pnl"] == pytest.approx(found.folds["test_pnl"].sum())
        assert len(found.trades) == found.folds["test_trades"].sum()
        assert math.fsum(found.trades["pnl"]) == pytest.approx(level - 5000)
        inside = found.trades["exit_time"].isin(found.equity.index)
        assert inside.all()

    @staticmethod
    def sharpe(prices: Any, rules: Rules) -> float:
        equity = simulate(prices, rules, COSTS).equity
        returns = returns_of(equity)
        if not returns.any():
            return math.nan
        return float(returns.mean() / returns.std(ddof=1) * math.sqrt(525_600))

    def test_it_counts_the_trials_it_ran(self) -> None:
        y, x = legs()
        sets = candidates()
        found = walk_forward(y, x, sets, COSTS, train=300, test=150)
        assert found.deflated.trials == len(sets) == len(found.candidates)
        assert found.deflated.sharpe == pytest.approx(found.metrics["sharpe"])
        assert found.candidates.attrs["in_sample"]
        alone = walk_forward(y, x, sets[:1], COSTS, train=300, test=150).deflated
        assert alone.benchmark == 0.0
        again = deflated_sharpe(returns_of(found.equity.to_numpy()), [1.0, 2.0], 525_600)
        assert again.against_zero == pytest.approx(found.deflated.against_zero)

    def test_what_was_given_to_every_piece_is_not_out_of_sample(self) -> None:
        """A beta or a noise that may have been found on these bars has seen every piece."""
        y, x = legs()
        windows = {"window": [20, 30], "entry_z": [1.0, 1.5]}
        noise = {"hedge": "kalman", "delta": 1e-5, "observation_variance": 0.1}
        for rules, more, given in (
            ({}, {}, ()),
            ({"hedge": "kalman"}, {}, ()),
            ({"hedge": "fixed", "beta": 0.9}, {}, ("beta",)),
            (noise, {}, ("delta", "observation_variance")),
            ({"hedge": "fixed", "beta": 0.9}, {"beta": [0.9, 1.1]}, ()),
            (noise, {"delta": [1e-5, 1e-4]}, ("observation_variance",)),
        ):
            sets = combinations(Rules(**rules), **windows, **more)  # type: ignore[arg-type]
            found = walk_forward(y, x, sets, COSTS, train=300, test=300)
            assert found.given == given
            assert found.heading.startswith("in-sample as to" if given else "out of sample")
            assert all(name in found.heading for name in given)

    def test_of_drawdown_and_costs_the_best_has_least(self) -> None:
        y, x = legs()
        sets = candidates()
        scored = ScoredPair(align_and_check(y, x, 2), COSTS)
        for objective in ("max_drawdown", "fees", "slippage"):
            found = walk_forward(y, x, sets, COSTS, train=300, test=200, objective=objective)
            for fold in found.folds.to_dict("records"):
                until = int(y.index.get_loc(fold["test_start"]))
                past = scored.figures(sets, until - 300, until)
                assert fold["train"] == min(figures[objective] for figures in past)

    def test_the_table_of_trades_does_not_depend_on_the_order_of_the_candidates(self) -> None:
        y, x = legs()
        sets = combinations(BASE, rebalance=[None, 0.05])
        for order in (sets, sets[::-1]):
            found = walk_forward(y, x, order, COSTS, train=300, test=200)
            assert "rebalances" in found.trades.columns

    def test_the_least_there_can_be(self) -> None:
        y, x = legs()
        sets = combinations(BASE, hedge_window=[2], window=[5])
        for test, rows in ((2, 4), (3, 3), (50, 3)):
            y_, x_ = y.iloc[: 40 + rows], x.iloc[: 40 + rows]
            walk_forward(y_, x_, sets, COSTS, train=40, test=test)
            with pytest.raises(ValueError, match="bars in common"):
                walk_forward(y_[:-1], x_[:-1], sets, COSTS, train=40, test=test)

    def test_a_later_future_changes_no_earlier_piece(self) -> None:
        y, x = legs()
        whole = walk_forward(y, x, candidates(), COSTS, train=300, test=150)
        part = walk_forward(y[:600], x[:600], candidates(), COSTS, train=300, test=150)
        assert whole.equity[:300].tolist() == part.equity.tolist()
        assert whole.folds[:2].equals(part.folds)

    def test_a_short_last_piece_and_nothing_worth_choosing(self) -> None:
        y, x = legs(500)
        idle = combinations(BASE, entry_z=[50.0, 60.0])
        found = walk_forward(y, x, idle, COSTS, train=300, test=150, anchored=True)
        assert found.folds["chosen"].tolist() == [-1, -1]
        assert found.folds["train_start"].tolist() == [y.index[0]] * 2
        assert len(found.equity) == 200
        assert (found.equity == 5000).all()
        assert math.isnan(found.deflated.probability)

    def test_what_is_no_rule_and_no_cost_is_refused(self) -> None:
        y, x = legs()
        with pytest.raises(ValueError, match="costs is a dict: Costs is allowed"):
            grid(y, x, [BASE], {})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a candidate is a dict: Rules is allowed"):
            walk_forward(y, x, [{}], COSTS, train=100, test=100)  # type: ignore[list-item]

    def test_refusals(self) -> None:
        y, x = legs(200)
        for options, reason in (
            ({"train": 199, "test": 10}, "200 bars in common: at least 202"),
            ({"train": 1, "test": 10}, "train=1"),
            ({"train": 100, "test": 10, "objective": "luck"}, "objective='luck'"),
        ):
            with pytest.raises(ValueError, match=reason):
                walk_forward(y, x, candidates(), COSTS, **options)
        with pytest.raises(ValueError, match="differ in capital"):
            walk_forward(y, x, combinations(BASE, capital=[1.0, 2.0]), COSTS, train=100, test=50)


class TestLookAhead:
    @pytest.mark.parametrize("hedge", ["fixed", "rolling", "kalman"])
    def test_the_backtest_does_not(self, hedge: Any) -> None:
        rules = Rules(
            hedge=hedge,
            beta=1.0,
            window=20,
            entry_z=1.0,
            stop_z=2.0,
            stop_loss=0.001,
            max_bars=9,
            rebalance=0.01,
        )
        y, x = legs()

        def decide(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
            return run(a, b, rules, COSTS).signals

        assert (decide(y, x)["action"] != "").sum() > 30
        assert find_look_ahead(decide, y, x) is None

    @pytest.mark.parametrize(
        "peek",
        [
            lambda y, x: (y["close"] - y["close"].mean()) / y["close"].std(),
            lambda y, x: y["close"].shift(-1) > y["close"],
            lambda y, x: y["close"].iloc[::-1].rolling(5).mean().iloc[::-1],
            lambda y, x: pd.Series(len(y), index=y.index),
            lambda y, x: (y["close"] > x["close"].iloc[-1]).rename("signal"),
            lambda y, x: y["close"].where(y["close"] < y["close"].quantile(0.9)).dropna(),
        ],
    )
    def test_peeping_is_found(self, peek: Any) -> None:
        found = find_look_ahead(peek, *legs(300))
        assert found is not None
        assert found.at <= found.cut
        assert str(found.at) in str(found)

    def test_honest_strategies_pass_and_bad_calls_do_not(self) -> None:
        y, x = legs(300)
        assert find_look_ahead(lambda a, b: a["close"].rolling(5).mean() - b["close"], y, x) is None
        with pytest.raises(ValueError, match="decide returned a list"):
            find_look_ahead(lambda a, b: [1], y, x)  # type: ignore[arg-type, return-value]
        with pytest.raises(ValueError, match="more than least=300"):
            find_look_ahead(lambda a, b: a["close"], y, x, least=300)


def test_positions_are_those_of_a_run() -> None:
    y, x = legs()
    for stop, bars in ((None, None), (2.0, None), (2.2, 5), (None, 3)):
        rules = Rules(
            hedge="rolling", window=20, entry_z=1.2, exit_z=-0.3, stop_z=stop, max_bars=bars
        )
        signals = run(y, x, rules, COSTS).signals
        wanted = positions(signals["zscore"].to_numpy(), rules)
        assert signals["position"].tolist()[1:] == wanted[:-1].tolist()
        assert set(wanted.tolist()) == {-1, 0, 1}
    with pytest.raises(ValueError, match=r"stop_loss=0\.1 is not usable here"):
        positions(np.zeros(3), Rules(stop_loss=0.1))


def test_funding_is_paid_by_what_is_held() -> None:
    y, x = legs(300)
    plain = run(y, x, BASE, COSTS)
    times = pd.date_range("2024-01-01", periods=90, freq="3min", tz="UTC")
    rates = pd.Series(np.linspace(-1e-3, 2e-3, 90), index=times)
    costs = Costs(fee_bps=1, slippage_bps=0.5, funding_y=rates, funding_x=-rates)
    found = run(y, x, BASE, costs)
    paid = []
    for trade in plain.trades.itertuples():
        due = rates[(rates.index > trade.entry_time) & (rates.index <= trade.exit_time)]
        paid.append(
            sum(
                rate * (trade.qty_y * y.at[at, "open"] - trade.qty_x * x.at[at, "open"])
                for at, rate in due.items()
                if at in y.index
            )
        )
    assert any(paid)
    assert found.trades["funding"].tolist() == pytest.approx(paid)
    assert found.metrics["funding"] == pytest.approx(sum(paid))
    assert found.metrics["total_pnl"] == pytest.approx(plain.metrics["total_pnl"] - sum(paid))
    assert found.equity.iloc[-1] - 5000 == pytest.approx(math.fsum(found.trades["pnl"]))
    late = Costs(funding_y=rates.set_axis(times + pd.Timedelta("10s")))
    early = Costs(funding_y=rates.set_axis(times + pd.Timedelta("1min")))
    assert run(y, x, BASE, late).equity.tolist() == run(y, x, BASE, early).equity.tolist()


def test_rebalancing_follows_the_hedge_ratio_and_pays_for_it() -> None:
    y, x = legs(400)
    rules = Rules(
        hedge="rolling", hedge_window=30, window=20, entry_z=1.0, exit_z=-1.0, rebalance=0.05
    )
    found = run(y, x, rules, COSTS)
    frozen = run(
        y, x, Rules(hedge="rolling", hedge_window=30, window=20, entry_z=1.0, exit_z=-1.0), COSTS
    )
    assert frozen.trades["entry_time"].tolist() == found.trades["entry_time"].tolist()
    assert found.trades["rebalances"].sum() > 10
    assert found.metrics["turnover"] > frozen.metrics["turnover"]
    signals, slip, fee = found.signals, 0.5e-4, 1e-4
    row = {ts: n for n, ts in enumerate(y.index)}
    for trade in found.trades.to_dict("records"):
        qx, hedged = trade["qty_x"], trade["beta"]
        cash = -qx * trade["entry_x"]
        fees = fee * (abs(qx) * trade["entry_x"] + abs(trade["qty_y"]) * trade["entry_y"])
        count = 0
        for t in range(row[trade["entry_time"]], row[trade["exit_time"]]):
            beta = signals["beta"].iloc[t]
            last = signals["action"].iloc[t] != "" or t == len(y) - 1
            if not last and abs(beta - hedged) >= 0.05 * abs(hedged):
                hedged, change = beta, -beta * trade["qty_y"] - qx
                price = x["open"].iloc[t + 1] * (1 + math.copysign(slip, change))
                cash -= change * price
                fees += fee * abs(change) * price
                qx += change
                count += 1
        fees += fee * (abs(qx) * trade["exit_x"] + abs(trade["qty_y"]) * trade["exit_y"])
        assert count == trade["rebalances"]
        assert trade["pnl_x"] == pytest.approx(cash + qx * trade["exit_x"], abs=1e-7)
        assert trade["fees"] == pytest.approx(fees)
    assert math.fsum(found.trades["pnl"]) == pytest.approx(found.equity.iloc[-1] - 10_000)
