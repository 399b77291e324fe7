"""Luck measured: published examples, simulated truth, and what must never change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairs.backtest.overfitting import (
    Moments,
    block_length,
    deflated_sharpe,
    expected_best_sharpe,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
    returns_of,
    sharpe_interval,
)


def test_published_deflated_sharpe() -> None:
    """Bailey and López de Prado (2014), the numerical example: 1,250 days, annual Sharpe 2.5,
    skewness -3, kurtosis 10; variance of the annual trials' Sharpe ratios 1/2."""
    found = Moments(2.5 / math.sqrt(250), -3.0, 10.0, 1250)
    luck = expected_best_sharpe(100, math.sqrt(0.5 / 250))
    assert luck == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(found, luck) == pytest.approx(0.9004, abs=5e-5)
    luck = expected_best_sharpe(46, math.sqrt(0.5 / 250))
    assert probabilistic_sharpe(found, luck) == pytest.approx(0.9505, abs=5e-5)


def test_published_probabilistic_sharpe() -> None:
    """Bailey and López de Prado (2012): 24 months, Sharpe 0.458 a month; normal and not."""
    assert probabilistic_sharpe(Moments(0.458, 0.0, 3.0, 24)) == pytest.approx(0.982, abs=1e-3)
    skewed = Moments(0.458, -2.448, 10.164, 24)
    assert probabilistic_sharpe(skewed) == pytest.approx(0.913, abs=1e-3)
    needed = minimum_track_record(skewed)
    assert probabilistic_sharpe(Moments(0.458, -2.448, 10.164, round(needed))) == pytest.approx(
        0.95, abs=2e-3
    )
    assert minimum_track_record(Moments(-0.1, 0.0, 3.0, 24)) == math.inf


def test_moments_are_the_usual_ones() -> None:
    returns = np.random.default_rng(1).standard_t(5, 2000)
    found = moments(returns)
    assert found.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1), rel=1e-12)
    centred = (returns - returns.mean()) / returns.std()
    assert found.skewness == pytest.approx((centred**3).mean())
    assert found.kurtosis == pytest.approx((centred**4).mean())
    assert math.isnan(moments(np.zeros(5)).sharpe)
    assert returns_of(np.array([100.0, 110.0, 99.0])) == pytest.approx([0.1, -0.1])
    with pytest.raises(ValueError, match="equity has 2 values"):
        returns_of(np.array([1.0, 2.0]))


def test_the_best_of_many_worthless_strategies() -> None:
    """What is expected of luck is what luck gives, and it is deflated away."""
    rng = np.random.default_rng(3)
    best, probabilities = [], []
    for _ in range(60):
        trials = rng.normal(0, 1e-2, (50, 500))
        sharpes = trials.mean(axis=1) / trials.std(axis=1, ddof=1)
        best.append(sharpes.max())
        found = deflated_sharpe(trials[sharpes.argmax()], sharpes * math.sqrt(250), 250)
        assert found.trials == 50
        assert found.probability < found.against_zero
        probabilities.append(found.probability)
    expected = expected_best_sharpe(50, 1 / math.sqrt(500))
    assert np.mean(best) == pytest.approx(expected, rel=0.05)
    assert 0.4 < np.mean(probabilities) < 0.6


def test_a_single_trial_needs_no_deflation() -> None:
    returns = np.random.default_rng(4).normal(1e-3, 1e-2, 400)
    found = deflated_sharpe(returns, [2.0], 365)
    assert found.benchmark == 0.0
    assert found.probability == found.against_zero > 0.9
    assert math.isnan(deflated_sharpe(np.zeros(100), [math.nan] * 3, 365).probability)
    with pytest.raises(ValueError, match="trial_sharpes is empty"):
        deflated_sharpe(returns, [], 365)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        found = sharpe_interval(rng.normal(0.05, 1.0, 500), 1.0, level=0.9, samples=500)
        inside += found.low < 0.05 < found.high
    assert 0.84 < inside / 200 < 0.96


def test_the_interval_of_dependent_returns_is_wider() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 1, 4000)
    returns = noise.copy()
    for t in range(1, len(noise)):
        returns[t] = 0.7 * returns[t - 1] + noise[t]
    right, wrong = sharpe_interval(returns, 1.0), sharpe_interval(returns, 1.0, block=1)
    assert right.block > 10
    # The variance of a mean of an AR(1) with 0.7 is (1 + 0.7)/(1 - 0.7) times as large.
    ratio = (right.high - right.low) / (wrong.high - wrong.low)
    assert 1.7 < ratio < math.sqrt(17 / 3) * 1.15


def test_the_same_seed_the_same_interval() -> None:
    returns = np.random.default_rng(7).normal(0, 1, 300)
    assert sharpe_interval(returns, 1.0, seed=1) == sharpe_interval(returns, 1.0, seed=1)
    assert sharpe_interval(returns, 1.0, seed=1) != sharpe_interval(returns, 1.0, seed=2)
    assert math.isnan(sharpe_interval(np.zeros(50), 1.0).low)
    with pytest.raises(ValueError, match=r"level=1\.0"):
        sharpe_interval(returns, 1.0, level=1.0)


def test_block_lengths_follow_the_dependence() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1, 5000)
    lengths = []
    for pull in (0.0, 0.5, 0.9):
        series = noise.copy()
        for t in range(1, len(noise)):
            series[t] = pull * series[t - 1] + noise[t]
        lengths.append(block_length(series))
    assert lengths == sorted(lengths)
    assert lengths[0] < 8
    # The best length of an AR(1) in closed form, from Σ|k|R(k) and ΣR(k).
    for pull, length in zip((0.5, 0.9), lengths[1:], strict=True):
        theory = (2 * pull / (1 - pull**2)) ** (2 / 3) * 5000 ** (1 / 3)
        assert 0.6 * theory < length < 1.6 * theory
    assert block_length(np.zeros(100)) == 1.0
    assert block_length(np.array([1.0, 2.0])) == 1.0
