"""The fast unit-root test against statsmodels, extended precision, and odd series."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from statsmodels.tsa.stattools import adfuller

from analytics import adf_test
from pairs.analytics.unitroot import adf_statistic
from pairs.checks import Array
from resampling import ticks_to_bars
from tests.support.reference import reference_csv, trades

LongDouble = npt.NDArray[np.longdouble]


def autoregression(rows: int, seed: int, *weights: float) -> Array:
    """An autoregressive series; the weights add up to 1 for a unit root."""
    noise = np.random.default_rng(seed).normal(size=rows)
    values = noise.copy()
    for t in range(len(weights), rows):
        values[t] += sum(w * values[t - 1 - k] for k, w in enumerate(weights))
    return values


def series() -> dict[str, Array]:
    """What a market may offer: walks, spreads, levels, trends, smooth curves, accidents."""
    rng = np.random.default_rng(1)
    walk = rng.normal(size=1000).cumsum()
    time = np.arange(800.0)
    return {
        "walk": walk,
        "noise": rng.normal(size=700),
        "spread": autoregression(900, 2, 0.5, 0.3),
        "momentum": autoregression(900, 3, 1.6, -0.6),
        "overdifferenced": np.diff(rng.normal(size=900)),
        "price": 1e5 + walk * 0.01,
        "dust": 1e-8 * (5 + 0.01 * walk),
        "trend": 3 * time + rng.normal(size=800),
        "cycle": np.sin(time / 20) + 1e-4 * rng.normal(size=800),
        "cycle and walk": np.sin(time / 20) + 1e-6 * rng.normal(size=800).cumsum(),
        "smooth": rng.normal(size=800).cumsum().cumsum().cumsum(),
        "crash": np.r_[walk[:500], -1e6],
        "spike": np.r_[walk[:250], 1e4, walk[250:500]],
    }


def extended(values: Array, lags: int, trend: str) -> float:
    """The t-ratio by orthogonalising the columns, three times over, in extended precision."""
    x = values.astype(np.longdouble)
    d = np.diff(x)
    rows = len(d) - lags
    time = np.arange(rows, dtype=np.longdouble)
    terms = {"n": [], "c": [time * 0 + 1], "ct": [time * 0 + 1, time - time.mean()]}[trend]
    columns = [*terms, *(d[lags - i : len(d) - i] for i in range(1, lags + 1)), x[lags:-1]]
    basis: list[LongDouble] = []

    def rest(column: LongDouble) -> LongDouble:
        for _ in range(3):
            for direction in basis:
                column = column - (direction @ column) * direction
        return column

    for column in columns:
        left = rest(column / np.sqrt(column @ column))
        basis.append(left / np.sqrt(left @ left))
    level = basis.pop()
    change = rest(d[lags:])
    along = level @ change
    error = change - along * level
    return float(along / np.sqrt(error @ error / (rows - len(columns))))


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("name", series())
def test_extended_precision_agrees(name: str, trend: str) -> None:
    """Whatever the level, the smoothness or the accident: ten digits where six are read."""
    values = series()[name]
    for lags in (0, 1, 5, 20):
        ours, _, nobs = adf_statistic(values, lags, trend)
        exact = extended(values, lags, trend)
        assert ours == pytest.approx(exact, rel=1e-10, abs=1e-10)
        assert nobs == len(values) - 1 - lags


# Series where statsmodels' own arithmetic is worth nine digits, see the test above for the rest.
SOUND = [n for n in series() if n not in ("price", "cycle", "cycle and walk", "smooth", "dust")]


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("name", SOUND)
def test_statsmodels_agrees(name: str, trend: str) -> None:
    """AIC's choice and the figure; p-value and critical values with it."""
    values = series()[name]
    for lags in (None, 3):
        ours = adf_test(pd.Series(values), lags=lags, trend=trend)
        auto = "AIC" if lags is None else None
        peer = adfuller(values, lags, trend, auto, result_object=True)
        assert (ours.lags, ours.nobs) == (peer.lags, peer.nobs)
        assert ours.statistic == pytest.approx(peer.statistic, rel=1e-9, abs=1e-9)
        assert ours.p_value == pytest.approx(peer.pvalue, abs=1e-9)
        assert ours.critical_values == pytest.approx(peer.critical_values, rel=1e-12)


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
def test_statsmodels_agrees_on_short_series(trend: str) -> None:
    """AIC's choice down to 11 rows; but where statsmodels' longest fit has no error left, its
    criterion is that of rounding and its answer 0.
    """
    rng = np.random.default_rng(5)
    for rows in range(11, 60):
        values = rng.normal(size=rows).cumsum()
        peer = adfuller(values, None, trend, "AIC", result_object=True)
        ours = adf_statistic(values, None, trend)
        if trend == "n" and rows % 2 == 0 and rows <= 20:
            assert math.isfinite(ours[0])
        else:
            assert ours[1:] == (peer.lags, peer.nobs)
            assert ours[0] == pytest.approx(peer.statistic, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("lags", [None, 0, 7])
def test_real_prices(lags: int | None) -> None:
    """Minutes of bitcoin and seconds of ether; raw prices, returns, logs."""
    minutes = reference_csv("binance_1m_BTCUSDT_2026-01-24_31.csv")["close"][-3000:]
    seconds = ticks_to_bars(trades("ETHUSDT"), "1s")["close"]
    auto = "AIC" if lags is None else None
    for prices in (minutes, seconds, np.log(minutes), seconds.diff().dropna()):
        ours = adf_test(prices, lags=lags)
        # Freed of its mean, which the constant takes up anyhow, or the peer loses two digits.
        peer = adfuller(prices - prices.mean(), lags, "c", auto, result_object=True)
        assert ours.lags == peer.lags
        assert ours.statistic == pytest.approx(peer.statistic, rel=1e-9, abs=1e-9)


def test_level_and_unit_do_not_matter() -> None:
    values = autoregression(500, 4, 0.9)
    base = adf_statistic(values, None, "c")
    for unit in (1e-8, 1e9):
        assert adf_statistic(unit * values, None, "c")[0] == pytest.approx(base[0], rel=1e-12)
    assert adf_statistic(values + 1e6, None, "c")[0] == pytest.approx(base[0], rel=1e-7)


def test_a_series_without_error_is_refused() -> None:
    time = np.arange(200.0)
    for values in (time, np.where(time % 2, 1.0, -1.0), 1.01**time, np.sin(time / 7)):
        for lags in (2, None):
            with pytest.raises(ValueError, match=r"series is .*: no test is possible"):
                adf_test(pd.Series(values), lags=lags, trend="ct")


def test_long_flat_stretches() -> None:
    """A quiet market: most changes are 0, yet a figure there is, and statsmodels' one."""
    rng = np.random.default_rng(6)
    values = (rng.normal(size=2000) * (rng.random(2000) < 0.05)).cumsum()
    values[1500:] = values[1499]
    peer = adfuller(values, None, "c", "AIC", result_object=True)
    ours = adf_test(pd.Series(values))
    assert (ours.lags, ours.nobs) == (peer.lags, peer.nobs)
    assert ours.statistic == pytest.approx(peer.statistic, rel=1e-9)


def test_refusals() -> None:
    walk = pd.Series(np.random.default_rng(15).normal(size=50).cumsum())
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (pd.Series([5.0] * 50), {}, "series is 5 in every row"),
        (walk.where(walk.index != 7), {}, "series is nan at row 7"),
        (walk.replace(walk[3], -np.inf), {}, "series is -inf at row 3"),
        (walk[:3], {}, "series has 3 rows"),
        (walk, {"lags": 24}, "at least 52"),
        (walk, {"lags": -1}, "lags=-1"),
        (walk, {"lags": 1.5}, "lags=1.5"),
        (walk, {"trend": "ctt"}, "trend='ctt'"),
        (walk.to_numpy(), {}, "series is a ndarray"),
    ]
    for given_, options, message in cases:
        with pytest.raises(ValueError, match=message):
            adf_test(given_, **options)


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("rows", range(4, 14))
def test_short_series_give_a_figure_or_a_sentence(trend: str, rows: int) -> None:
    short = pd.Series(np.random.default_rng(rows).normal(size=rows))
    for lags in (None, 0, 1, 2, 3):
        message = ""
        try:
            assert math.isfinite(adf_test(short, lags=lags, trend=trend).statistic)
        except ValueError as error:
            message = str(error)
        assert not message or message.startswith("series ")
