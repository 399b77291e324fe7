"""How often chance passes: the size of every verdict in words, on walks that have nothing to do
with each other, and that a pair which is bound is found. Seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pairs.analytics.mackinnon import mackinnon_p
from pairs.analytics.pair import PairSpec, pair_view
from pairs.analytics.scan import benjamini_hochberg, scan_pairs, small_sample_p
from pairs.analytics.small_sample import (
    hurst_lags,
    hurst_limits,
    johansen_limits,
    ratio_limits,
    unit_root_limit,
    unit_root_p,
)
from pairs.analytics.summary import PairTests, pair_tests
from pairs.checks import Array
from pairs.dashboard.header import adf_of
from pairs.dashboard.views.pair import verdict_html
from pairs.figures.statistics import (
    LEVEL,
    findings_of,
    joint_verdict,
    stretch_of,
    verdicts,
    verdicts_html,
)

ROWS = (101, 120, 300, 1000)
COUNT = 500  # walks of a length
KNOWN = ("ADF, unit root", "Hurst exponent", "Variance ratio")
OF_LEGS = ("Engle–Granger, y on x", "Engle–Granger, x on y", "Johansen trace, r = 0")


def allowed(count: int, level: float = LEVEL, deviations: float = 3.3) -> float:
    """The most that a test of that size rejects of so many, but once in 2,000."""
    return level + deviations * math.sqrt(level * (1 - level) / count)


def walks(rows: int, count: int, drift: float = 0.0, legs: int = 2) -> Iterator[Array]:
    rng = np.random.default_rng([rows, int(drift * 100)])
    for _ in range(count):
        yield 1000.0 + (rng.normal(size=(legs, rows)) + drift).cumsum(axis=1)


def series(values: Array) -> pd.Series[float]:
    return pd.Series(
        values, pd.date_range("2024-01-01", periods=len(values), freq="1min", tz="UTC")
    )


@cache
def judged(rows: int, drift: float = 0.0, count: int = COUNT) -> list[PairTests]:
    """With β = 1 known beforehand; the tests of the legs do not mind."""
    found = []
    for y, x in walks(rows, count, drift):
        a, b = series(y), series(x)
        found.append(pair_tests(a, b, a - b, estimated=False))
    return found


def told(tests: PairTests) -> dict[str, str]:
    """Tone of each verdict."""
    return {str(row[0]): row[4][1] for row in verdicts(tests, 60, 60)}


# -- the statistics view


@pytest.mark.parametrize("name", [*KNOWN, *OF_LEGS, "together"])
def test_the_error_of_each_verdict_is_the_one_stated(name: str) -> None:
    """At every length, and over all of them, which is the sharper bound."""
    total = 0
    for rows in ROWS:
        tests = judged(rows)
        if name == "together":
            claims = sum(joint_verdict(t)[1] == "good" for t in tests)
        else:  # a trend claimed of a walk is as wrong as a return
            claims = sum(told(t)[name] in ("good", "bad", "warn") for t in tests)
        assert claims / len(tests) <= allowed(len(tests)), (name, rows)
        total += claims
    assert total / (COUNT * len(ROWS)) <= allowed(COUNT * len(ROWS))


@pytest.mark.parametrize("name", [*OF_LEGS, "together"])
def test_nor_does_drift_change_it(name: str) -> None:
    tests = judged(300, 0.2)
    claims = [joint_verdict(t)[1] if name == "together" else told(t)[name] for t in tests]
    assert claims.count("good") / len(tests) <= allowed(len(tests), 0.06)


def test_legs_that_nearly_return_by_themselves_are_not_bound() -> None:
    """Near a unit root: an autoregression of 0.99 each, over 120 and 300 rows."""
    rng = np.random.default_rng(9)
    claims = 0
    for rows in (120, 300):
        for _ in range(250):
            legs = np.zeros((2, rows))
            noise = rng.normal(size=(2, rows))
            for t in range(1, rows):
                legs[:, t] = 0.99 * legs[:, t - 1] + noise[:, t]
            y, x = (series(1000 + leg) for leg in legs)
            claims += joint_verdict(pair_tests(y, x, y - x))[1] == "good"
    assert claims / 500 <= allowed(500, 0.07)  # true alternatives, weakly


@pytest.mark.parametrize("hedge", ["rolling", "kalman", "ols"])
def test_an_estimated_hedge_makes_no_verdict_of_its_spread(hedge: Any) -> None:
    y, x = (series(leg) for leg in next(walks(700, 1)))
    bars = [pd.DataFrame({"close": leg}) for leg in (y, x)]
    view = pair_view(bars[0], bars[1], PairSpec(hedge, 60, 120))
    tests = findings_of(view, stretch_of(view, 500))
    rows = {str(row[0]): row[4] for row in verdicts(tests, 60, 60)}
    for name in (*KNOWN, "KPSS, stationarity"):
        assert rows[name] == ("no verdict: β is estimated", "quiet")
    assert rows["Half-life"][1] in ("", "warn", "bad")  # described, never praised
    for made in (
        verdicts_html(view, ("A", "B"), "1min", 500),
        verdict_html(view, ("A", "B"), "1min"),
    ):
        assert "speak for a spread" not in made
        assert 'data-testid="joint"' in made


def test_the_page_as_it_stands_claims_little_of_chance() -> None:
    """Rolling hedge, the page's own windows: any word of praise anywhere in the pair's verdict."""
    praised = 0
    for y, x in walks(300, 250):
        bars = [pd.DataFrame({"close": series(leg)}) for leg in (y, x)]
        view = pair_view(bars[0], bars[1], PairSpec("rolling", 60, 120))
        tests = findings_of(view, stretch_of(view, 600))
        praised += joint_verdict(tests)[1] == "good"
    assert praised / 250 <= allowed(250)


@pytest.mark.parametrize("hedge", ["rolling", "fixed"])
@pytest.mark.parametrize("rows", [60, 300])
def test_the_p_of_the_strip(hedge: Any, rows: int) -> None:
    low = 0
    for y, x in walks(rows + 40, 500):
        bars = [pd.DataFrame({"close": series(leg)}) for leg in (y, x)]
        view = pair_view(bars[0], bars[1], PairSpec(hedge, 20, 40, beta=1.0))
        low += adf_of(view)[0] < LEVEL
    assert low / 500 <= allowed(500)


def test_few_rows_are_refused_or_bounded() -> None:
    y, x = (series(leg) for leg in next(walks(60, 1)))
    assert isinstance(pair_tests(y, x, y - x).hurst, str)
    assert [hurst_lags(rows) for rows in (101, 120, 400, 5000)] == [25, 30, 99, 99]


# -- the scan


@pytest.mark.parametrize("rows", [100, 300])
def test_a_market_of_walks_holds_nothing(rows: int) -> None:
    """Anything at all found at p_adjusted < 5 %, in 5 % of markets."""
    worlds, raw = 250, 0
    found = 0
    for legs in walks(rows, worlds, legs=6):
        table = scan_pairs(pd.DataFrame(legs.T, columns=list("ABCDEF")))
        found += bool((table["p_adjusted"] < LEVEL).any())
        raw += bool((benjamini_hochberg(table["p_value"]) < LEVEL).any())
    assert found / worlds <= allowed(worlds)
    assert found <= raw


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("rows", [60, 120, 300])
def test_the_p_values_of_a_scan(trend: str, rows: int) -> None:
    low = []
    for legs in walks(rows, 100, legs=4):
        table = scan_pairs(pd.DataFrame(legs.T, columns=list("ABCD")), trend=trend, min_rows=60)
        low.append(small_sample_p(table, trend) < LEVEL)
    assert np.mean(low) <= allowed(400)  # rows of one market lean on each other


def test_both_directions_of_a_pair_bear_one_figure() -> None:
    legs = next(walks(200, 1, legs=5))
    table = scan_pairs(pd.DataFrame(legs.T, columns=list("ABCDE")))
    pairs = table.groupby(table.apply(lambda r: frozenset((r["y"], r["x"])), axis=1))
    better = (2 * pairs.apply(lambda g: small_sample_p(g).min())).clip(upper=1.0)
    wanted = benjamini_hochberg(better)
    for pair, rows in pairs:
        assert rows["p_adjusted"].tolist() == [wanted[pair]] * 2


# -- what is there is found


@pytest.mark.parametrize("rows", [101, 300, 1000])
def test_a_bound_pair_is_found(rows: int) -> None:
    rng = np.random.default_rng(rows)
    found = dict.fromkeys((*KNOWN, *OF_LEGS, "together"), 0)
    for _ in range(60):
        x = 100 + rng.normal(size=rows).cumsum()
        error = np.zeros(rows)
        for t in range(1, rows):
            error[t] = 0.7 * error[t - 1] + rng.normal()
        y, x_leg = series(x + error), series(x)
        tests = pair_tests(y, x_leg, y - x_leg, estimated=False)
        tones = told(tests)
        for name in (*KNOWN, *OF_LEGS):
            found[name] += tones[name] == "good"
        found["together"] += joint_verdict(tests)[1] == "good"
    least = 30 if rows == 101 else 55
    assert all(found[name] >= least for name in ("ADF, unit root", *OF_LEGS, "together")), found
    assert found["Hurst exponent"] >= least
    assert found["Variance ratio"] >= (15 if rows == 101 else 55)


def test_a_bound_pair_is_found_among_many() -> None:
    legs = next(walks(300, 1, legs=6))
    legs[1] = 2 * legs[0] + np.random.default_rng(1).normal(size=300)
    table = scan_pairs(pd.DataFrame(legs.T, columns=list("ABCDEF")))
    assert {table["y"][0], table["x"][0]} == {"A", "B"}
    assert table["p_adjusted"][0] < 1e-3


# -- the corrections


def test_the_corrections_only_ever_make_stricter_and_fade() -> None:
    for trend, variables in (("c", 1), ("n", 2), ("c", 2), ("ct", 2)):
        for rows in (10, 25, 60, 120, 600, 10_000):
            at = np.linspace(-9, -1, 81)
            p = [unit_root_p(float(s), trend, variables, rows) for s in at]
            assert p == sorted(p)
            assert all(
                v >= mackinnon_p(float(s), trend, variables) for s, v in zip(at, p, strict=True)
            )
    assert unit_root_limit("c", 2, 10**7) == pytest.approx(-3.34, abs=0.01)
    assert unit_root_limit("c", 1, 10**7) == pytest.approx(-2.86, abs=0.01)
    assert unit_root_limit("c", 2, 100) < -3.45
    assert johansen_limits(10**6)[0] == pytest.approx(18.0, abs=0.1)
    for table in (hurst_limits, ratio_limits):
        for rows in (10, 101, 250, 5000):
            low, high = table(rows)
            assert low < high
