"""A Kalman filter without units, the noise of one that has them, and how a misfit is told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pykalman import KalmanFilter

import backtest
from analytics import (
    discounted_hedge_ratio,
    fit_kalman_noise,
    kalman_hedge_ratio,
    kalman_zscore,
)
from backtest import Costs, Result, Rules, run
from features import feature_table
from pairs.analytics.pair import PairSpec, misfit, pair_view
from pairs.backtest.report import filter_text, result_dict
from pairs.bars.files import frame_csv
from pairs.checks import Array
from pairs.figures.statistics import filter_html
from tests.support.reference import reference_csv

Legs = tuple["pd.Series[float]", "pd.Series[float]"]
COSTS = Costs(fee_bps=2, slippage_bps=1)


def made(rows: int = 900, beta: float = 0.7, seed: int = 0, level: float = 100.0) -> Legs:
    """x a walk, y = level·4 + beta·x + a spread that returns."""
    rng = np.random.default_rng(seed)
    x = level + level * 2e-3 * rng.normal(size=rows).cumsum()
    error = np.zeros(rows)
    for t in range(1, rows):
        error[t] = 0.9 * error[t - 1] + rng.normal() * level * 1e-3
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")
    return pd.Series(4 * level + beta * x + error, index), pd.Series(x, index)


def closes(file: str, column: str = "close") -> pd.Series[float]:
    table = reference_csv(file, index_col=0)
    return table[column].set_axis(pd.to_datetime(table.index, utc=True)).astype(float)


def real() -> dict[str, Legs]:
    parts = {
        "minutes": [closes(f"binance_1m_{s}USDT_2026-01-24_31.csv") for s in ("ETH", "BTC")],
        "days": [closes(f"binance_1d_{s}USDT.csv") for s in ("ETH", "BTC")],
        "gold": [closes(f"chan1_{s}.csv", "Adj Close") for s in ("GLD", "GDX")],
    }
    funds = reference_csv("chan2_EWA_EWC.csv")
    tables = {
        name: pd.concat(legs, axis=1, join="inner").sort_index() for name, legs in parts.items()
    }
    tables["funds"] = funds[["EWC", "EWA"]].astype(float)
    return {name: (table.iloc[:, 0], table.iloc[:, 1]) for name, table in tables.items()}


def bars(close: pd.Series[float]) -> pd.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return pd.DataFrame(prices, index=close.index).assign(volume=1.0)


def traded(legs: Legs, **options: Any) -> Result:
    rules = Rules(hedge="kalman", window=30, entry_z=1.5, stop_z=4.0, max_bars=200, **options)
    return run(bars(legs[0]), bars(legs[1]), rules, COSTS)


# -- units


@pytest.mark.parametrize("unit", [1e-7, 1e-3, 3.0, 1e7, 2.0**-20, 2.0**13])
@pytest.mark.parametrize("leg", ["y", "x"])
def test_the_same_trades_in_other_units(leg: str, unit: float) -> None:
    """To the last bit for a power of two; times of the trades, and z-scores, to 1e-9 for any."""
    y, x = made()
    scaled = (unit * y, x) if leg == "y" else (y, unit * x)
    base, other = traded((y, x)), traded(scaled)
    assert len(base.trades) > 10
    for name in ("side", "entry_time", "exit_time", "exit_reason"):
        assert other.trades[name].equals(base.trades[name])
    ratio = unit if leg == "y" else 1 / unit
    np.testing.assert_allclose(other.trades["beta"], base.trades["beta"] * ratio, rtol=1e-9)
    np.testing.assert_allclose(other.trades["pnl"], base.trades["pnl"], rtol=1e-6, atol=1e-7)
    views = [
        pair_view(bars(a), bars(b), base.rules.spec).frame["zscore"] for a, b in ((y, x), scaled)
    ]
    own = [kalman_zscore(a, b, memory=30) for a, b in ((y, x), scaled)]
    features = [
        feature_table(bars(a), bars(b), base.rules.spec)["zscore"] for a, b in ((y, x), scaled)
    ]
    for one, two in (views, own, features):
        if math.log2(unit).is_integer():
            assert one.equals(two)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-7, 7.0, 2.0**10])
def test_real_pairs_in_other_units(unit: float) -> None:
    for y, x in real().values():
        score = kalman_zscore(y, x)
        np.testing.assert_allclose(kalman_zscore(unit * y, x), score, rtol=0, atol=1e-9)
        np.testing.assert_allclose(kalman_zscore(y, unit * x), score, rtol=0, atol=1e-9)


@pytest.mark.parametrize("beta", [-1.5, -0.02, 0.04, 2.0])
@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e7])
def test_the_true_hedge_ratio_is_found(beta: float, unit: float) -> None:
    y, x = made(2000, beta, seed=3)
    rules = Rules(hedge="kalman", hedge_window=500, window=60)
    found = run(bars(y), bars(unit * x), rules, COSTS).signals["beta"].iloc[-1] * unit
    assert found == pytest.approx(beta, abs=0.06)


def test_it_neither_follows_every_bar_nor_stands_still() -> None:
    """The fault: an innovation that is one bar's ratio move, and a hedge that is none."""
    y, x = real()["minutes"]
    frame = pair_view(bars(y), bars(x), PairSpec("kalman")).frame
    step = y - (y / x).shift(1) * x
    assert abs(np.corrcoef(frame["spread"][200:], step[200:])[0, 1]) < 0.9
    tiny = pair_view(bars(y), bars(x * 1e-7), PairSpec("kalman")).frame
    share = (tiny["beta"] * x * 1e-7 / y).dropna()
    np.testing.assert_allclose(share, (frame["beta"] * x / y).dropna(), rtol=1e-9)
    assert 0.5 < share.median() < 2


# -- the filter


def test_it_is_the_discounted_regression() -> None:
    """Against the weighted sums themselves, and its forecast variance against theirs."""
    y, x = made(150, seed=5)
    ours, keep = discounted_hedge_ratio(y, x, memory=20), 19 / 21
    for t in (20, 40, 149):
        weights = keep ** np.arange(t, 0, -1.0)
        design = np.column_stack([x[:t], np.ones(t)])
        inverse = np.linalg.inv(design.T @ (weights[:, None] * design))
        state = inverse @ design.T @ (weights * y[:t].to_numpy())
        assert ours["beta_prior"].iloc[t] == pytest.approx(state[0], rel=1e-8)
        assert ours["intercept_prior"].iloc[t] == pytest.approx(state[1], rel=1e-6)
        row = np.array([x.iloc[t], 1.0])
        left = y[:t].to_numpy() - design @ state
        forecast = float((keep ** np.arange(1, t - 1.0)).sum())  # rows behind the first two
        variance = float(weights @ left**2) / forecast
        expected = math.sqrt(variance * (1 + float(row @ inverse @ row)))
        assert ours["innovation_std"].iloc[t] == pytest.approx(expected, rel=1e-6)
    assert ours["innovation"].isna().sum() == 20
    assert ours["beta"].isna().sum() == 19
    assert (ours["beta_prior"][20:].to_numpy() == ours["beta"][19:-1].to_numpy()).all()


def test_its_score_is_standard_normal_where_errors_are() -> None:
    rng = np.random.default_rng(1)
    x = pd.Series(50 + rng.normal(size=5000).cumsum() * 0.1)
    score = kalman_zscore(2 - 3 * x + rng.normal(size=5000), x, memory=200)
    assert score.std() == pytest.approx(1, abs=0.03)
    assert abs(score.mean()) < 0.05


def test_real_scores_deviate_by_one() -> None:
    for y, x in real().values():
        for memory in (30, 60, 120):
            assert 0.75 < kalman_zscore(y, x, memory=memory).std() < 1.25


def test_no_digits_are_lost_at_a_high_level() -> None:
    y, x = made(400)
    low, high = (discounted_hedge_ratio(y + k, x + k) for k in (0.0, 2.0**30))
    np.testing.assert_allclose(high["innovation"], low["innovation"], atol=1e-4)
    assert high["beta"].corr(low["beta"]) > 0.9999


def test_missing_rows_and_a_leg_that_stands_still() -> None:
    y, x = made(300)
    holed = y.copy()
    holed.iloc[[100, 200]] = [np.nan, np.inf]
    states = discounted_hedge_ratio(holed, x)
    assert states["innovation"].isna().sum() == 62
    assert states.iloc[[100, 200]].isna().all(axis=None)
    assert states["beta_prior"].iloc[101] == states["beta"].iloc[99]
    still = x.copy()
    still.iloc[:200] = 7.0
    assert discounted_hedge_ratio(y, still)["beta"][:200].isna().all()
    assert discounted_hedge_ratio(y, still)["beta"][200:].notna().all()
    long = pd.Series(np.r_[x[:150], np.full(6000, x.iloc[149])])
    flat = discounted_hedge_ratio(pd.Series(np.random.default_rng(0).normal(size=6150)), long)
    assert flat["beta"][150:].dropna().abs().max() < 10  # no ratio of roundings
    assert flat["beta"].isna().iloc[-1]


def test_through_the_origin() -> None:
    y, x = made(200, beta=2.0)
    states = discounted_hedge_ratio(2 * x, x, intercept=False)
    assert (states["intercept"].dropna() == 0).all()
    np.testing.assert_allclose(states["beta"].dropna(), 2.0, rtol=1e-12)
    unit = discounted_hedge_ratio(y, 1e-7 * x, intercept=False)["beta"] * 1e-7
    np.testing.assert_allclose(
        unit, discounted_hedge_ratio(y, x, intercept=False)["beta"], rtol=1e-9
    )


def test_refusals() -> None:
    y, x = made(80)
    for memory in (1, 2.5, True, None):
        with pytest.raises(ValueError, match=r"memory=.* at least 2"):
            discounted_hedge_ratio(y, x, memory=memory)  # type: ignore[arg-type]
    for half in ({"delta": 1e-4}, {"observation_variance": 1.0}):
        with pytest.raises(ValueError, match="together, or neither"):
            Rules(hedge="kalman", **half)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="together, or neither"):
            kalman_zscore(y, x, **half)


# -- both noises given: the contract's filter


def test_noise_given_is_the_filter_with_units() -> None:
    y, x = made()
    noise = {"delta": 1e-5, "observation_variance": 0.5}
    result = traded((y, x), **noise)
    states = kalman_hedge_ratio(y, x, **noise)
    assert result.signals["beta"].tolist() == states["beta_prior"].tolist()
    assert result.rules.spec.bars_needed == 30


# -- told where it does not fit


def test_a_filter_with_the_wrong_noise_is_told_of(tmp_path: Path, capsys: Any) -> None:
    y, x = made()
    wrong = traded((y, x), delta=1e-2, observation_variance=1e-3)
    right = traded((y, x))
    assert wrong.filter_deviation < 0.1
    assert 0.8 < right.filter_deviation < 1.25
    view = pair_view(bars(y), bars(x), wrong.rules.spec)
    assert view.filter_deviation == wrong.filter_deviation
    told = misfit(wrong.filter_deviation)
    assert told is not None
    assert result_dict(wrong)["filter"] == {"zscore_std": wrong.filter_deviation, "warning": told}
    assert result_dict(right)["filter"]["warning"] is None
    assert filter_text(wrong)[-1] == told
    assert 'role="alert"' in filter_html(wrong.filter_deviation)
    assert 'role="alert"' not in filter_html(right.filter_deviation)
    assert filter_html(math.nan) == ""
    files = []
    for name, leg in (("y", y), ("x", x)):
        files += [f"--{name}-csv", str(tmp_path / f"{name}.csv")]
        Path(files[-1]).write_text(frame_csv(bars(leg)))
    given = ["--delta", "1e-2", "--observation-variance", "1e-3"]
    assert backtest.main([*files, "--hedge", "kalman", *given, "--window", "30"]) == 0
    assert told in capsys.readouterr().out
    assert backtest.main([*files, "--hedge", "kalman", "--window", "30", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["filter"]["warning"] is None
    assert backtest.main([*files, "--hedge", "kalman", *given[:2]]) == 2
    assert "together, or neither" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("deviation", "word"),
    [
        (0.002, "too large"),
        (0.49, "too large"),
        (0.51, None),
        (1.0, None),
        (1.99, None),
        (2.01, "too small"),
        (math.nan, None),
    ],
)
def test_what_counts_as_far(deviation: float, word: str | None) -> None:
    told = misfit(deviation)
    assert told is None if word is None else word in str(told)


def test_the_old_defaults_do_not_fit_real_prices() -> None:
    y, x = real()["minutes"]
    spec = PairSpec("kalman", delta=1e-4, observation_variance=1e-3)
    assert pair_view(bars(y), bars(x), spec).filter_deviation == pytest.approx(0.002, abs=5e-4)
    assert pair_view(bars(y), bars(x), PairSpec("kalman")).filter_deviation < 1.2


# -- the noise of a filter that has units


def likelihood(y: pd.Series[float], x: pd.Series[float], delta: float, noise: float) -> float:
    """Of the filter's own forecasts behind its first rows, as anybody can compute it."""
    states = kalman_hedge_ratio(y, x, delta=delta, observation_variance=noise)
    first = min(100, max(10, len(y) // 10))
    error, deviation = (
        states[name].to_numpy()[first:] for name in ("innovation", "innovation_std")
    )
    terms: Array = np.log(2 * np.pi * deviation**2) + (error / deviation) ** 2
    return -0.5 * float(terms.sum())


def drifting(rows: int = 300) -> Legs:
    rng = np.random.default_rng(11)
    x = 20 + rng.normal(0, 0.5, rows).cumsum()
    beta = 1 + rng.normal(0, 0.02, rows).cumsum()
    level = 3 + rng.normal(0, 0.02, rows).cumsum()
    return pd.Series(beta * x + level + rng.normal(0, 0.5, rows)), pd.Series(x)


def samples() -> dict[str, Legs]:
    y, x = real()["minutes"]
    return {
        "drifting": drifting(),
        "minutes": (y[:1440], x[:1440]),
        "funds": real()["funds"],
        "gold": real()["gold"],
        "made": made(500),
    }


def test_nothing_on_a_grid_is_more_likely() -> None:
    for y, x in samples().values():
        found = fit_kalman_noise(y, x)
        ours = likelihood(y, x, found.delta, found.observation_variance)
        assert found.log_likelihood == pytest.approx(ours, rel=1e-9)
        scale = math.log10(found.observation_variance)
        for delta in 10.0 ** np.arange(-14, 0, 0.5):
            for noise in 10.0 ** np.arange(scale - 4, scale + 4, 0.5):
                assert likelihood(y, x, float(delta), float(noise)) < ours + 0.1


def test_pykalman_agrees_on_the_likelihood() -> None:
    y, x = drifting(200)
    found = fit_kalman_noise(y, x)
    design = np.column_stack([x, np.ones_like(x)])[:, None, :]

    def peer(rows: int) -> float:
        model = KalmanFilter(
            transition_matrices=np.eye(2),
            observation_matrices=design[:rows],
            transition_covariance=found.delta / (1 - found.delta) * np.eye(2),
            observation_covariance=[[found.observation_variance]],
            initial_state_mean=np.zeros(2),
            initial_state_covariance=np.zeros((2, 2)),
        )
        return float(model.loglikelihood(y[:rows].to_numpy()))

    assert found.log_likelihood == pytest.approx(peer(200) - peer(20), rel=1e-6)


def test_finds_the_noise_it_was_made_with() -> None:
    found = fit_kalman_noise(*drifting())
    assert found.converged
    assert 1e-4 < found.delta < 1.6e-3  # made with 4e-4
    assert 0.1 < found.observation_variance < 0.6  # made with 0.25


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_the_noise_follows_the_units_of_y(unit: float) -> None:
    y, x = made(500)
    base, scaled = fit_kalman_noise(y, x), fit_kalman_noise(unit * y, x)
    ratio = scaled.observation_variance / base.observation_variance
    assert ratio == pytest.approx(unit**2, rel=1e-2)


def test_a_bound_is_never_converged() -> None:
    """A hedge that stands still, one that follows every row, and one that x's units push out."""
    rng = np.random.default_rng(2)
    x = pd.Series(100 + rng.normal(size=400).cumsum())
    still = 3 * x + pd.Series(rng.normal(size=400))
    start = pd.Series(np.r_[np.zeros(40), still[40:]])  # the filter begins where the legs do
    days = real()["days"]
    for y, other in ((days[0], days[1]), (2 * x, x), (start, 1e-9 * x)):
        found = fit_kalman_noise(y, other)
        assert not found.converged
        assert 0 < found.delta < 1
        assert 0 < found.observation_variance < math.inf


def test_iterations_and_tolerance() -> None:
    y, x = drifting(80)
    found = [fit_kalman_noise(y, x, iterations=n, tolerance=0.0) for n in (1, 2, 4, 6)]
    path = [noise.log_likelihood for noise in found]
    assert path == sorted(path)
    assert [noise.iterations for noise in found] == [1, 2, 4, 6]
    assert not found[0].converged
    with pytest.raises(ValueError, match="iterations=0"):
        fit_kalman_noise(y, x, iterations=0)
    with pytest.raises(ValueError, match="y has 19 rows"):
        fit_kalman_noise(y[:19], x[:19])
    with pytest.raises(ValueError, match="x is nan at row 3"):
        fit_kalman_noise(y, x.where(x.index != 3))
    with pytest.raises(ValueError, match="delta="):
        fit_kalman_noise(y, x, delta=1.0)


def test_without_intercept() -> None:
    y, x = drifting()
    found = fit_kalman_noise(y, x, intercept=False)
    assert 1e-4 < found.delta < 1e-2
