"""Row t uses rows ≤ t, for everything that is not named full-sample; and nothing is undocumented.

Two registers. CAUSAL: functions whose every row must be the same whether or not later rows
exist. FULL_SAMPLE: functions that look at everything and say so. A public function in neither,
or absent from docs/methods.md, fails here.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import (
    adf_test,
    discounted_hedge_ratio,
    fit_kalman_noise,
    kalman_hedge_ratio,
    kalman_zscore,
    ols_hedge_ratio,
    rolling_correlation,
    rolling_hedge_ratio,
    spread,
    zscore,
)
from cointegration import engle_granger, engle_granger_both, half_life, hurst_exponent, johansen
from features import feature_table
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
from pairs.analytics.pair import PairSpec, pair_view
from pairs.analytics.pca import correlation_matrix, pca_factors
from pairs.analytics.robust import huber_hedge_ratio, theil_sen_hedge_ratio, tls_hedge_ratio
from pairs.analytics.scan import (
    adjusted_p,
    benjamini_hochberg,
    pair_correlations,
    scan_pairs,
    small_sample_p,
)
from pairs.analytics.stationarity import kpss_test, variance_ratio_test
from pairs.analytics.summary import pair_tests, price_statistics
from pairs.analytics.windows import (
    window_correlation,
    window_fit,
    window_mean_deviation,
    window_score,
    window_sum,
    window_weighted_mean,
)
from pairs.checks import Array
from pairs.jit import VECTOR, compiled
from resampling import align, resample_bars, ticks_to_bars

Frame = pd.DataFrame
Study = Callable[[Frame], Any]

CAUSAL: dict[str, Study] = {
    "sma": lambda f: sma(f["y"], 5),
    "sma of 1": lambda f: sma(f["y"], 1),
    "ema": lambda f: ema(f["y"], 5),
    "bollinger_bands": lambda f: bollinger_bands(f["y"], 4),
    "vwap": lambda f: vwap(bars(f, "y")),
    "vwap by session": lambda f: vwap(bars(f, "y"), "5min"),
    "rolling_vwap": lambda f: rolling_vwap(bars(f, "y"), 4),
    "anchored_vwap": lambda f: anchored_vwap(bars(f, "y"), "2024-01-01 23:55"),
    "realised_volatility": lambda f: realised_volatility(f["y"], 4),
    "order_flow_imbalance": lambda f: order_flow_imbalance(bars(f, "y"), 3),
    "spread": lambda f: spread(f["y"], f["x"], 0.5, f["x"]),
    "zscore": lambda f: zscore(f["y"], 4),
    "rolling_correlation": lambda f: rolling_correlation(f["y"], f["x"], 4),
    "rolling_hedge_ratio": lambda f: rolling_hedge_ratio(f["y"], f["x"], 4),
    "rolling_hedge_ratio through 0": lambda f: rolling_hedge_ratio(
        f["y"], f["x"], 3, intercept=False
    ),
    "kalman_hedge_ratio": lambda f: kalman_hedge_ratio(f["y"], f["x"]),
    "kalman_hedge_ratio through 0": lambda f: kalman_hedge_ratio(f["y"], f["x"], intercept=False),
    "kalman_zscore": lambda f: kalman_zscore(f["y"], f["x"], memory=3),
    "kalman_zscore of given noise": lambda f: kalman_zscore(
        f["y"], f["x"], delta=1e-4, observation_variance=1e-3
    ),
    "discounted_hedge_ratio": lambda f: discounted_hedge_ratio(f["y"], f["x"], memory=3),
    "discounted_hedge_ratio through 0": lambda f: discounted_hedge_ratio(
        f["y"], f["x"], memory=3, intercept=False
    ),
    "feature_table": lambda f: feature_table(bars(f, "y"), bars(f, "x"), PairSpec(window=4)),
    "feature_table kalman": lambda f: feature_table(
        bars(f, "y"), bars(f, "x"), PairSpec("kalman", 3)
    ),
    "feature_table beside labels": lambda f: feature_table(
        bars(f, "y"), bars(f, "x"), PairSpec("fixed", 3, beta=0.5), horizon=2
    ).filter(regex="^(?!label_)"),
    "window_sum": lambda f: window_sum(known(f, "y"), 4),
    "window_mean_deviation": lambda f: columns(window_mean_deviation(known(f, "y"), 4, 1)),
    "window_score": lambda f: window_score(known(f, "y"), 4),
    "window_fit": lambda f: columns(window_fit(known(f, "y"), known(f, "x"), 4)),
    "window_correlation": lambda f: window_correlation(known(f, "y"), known(f, "x"), 4),
    "window_weighted_mean": lambda f: window_weighted_mean(known(f, "y"), known(f, "v"), 4),
    "pair_view rolling": lambda f: view(f, PairSpec("rolling", 4, 6)),
    "pair_view kalman": lambda f: view(f, PairSpec("kalman", 4)),
    "pair_view kalman of given noise": lambda f: view(
        f, PairSpec("kalman", 4, delta=1e-4, observation_variance=1e-3)
    ),
    "pair_view fixed": lambda f: view(f, PairSpec("fixed", 4, beta=0.5)),
}
FULL_SAMPLE: dict[str, Study] = {
    "ols_hedge_ratio": lambda f: ols_hedge_ratio(f["y"], f["x"]).beta,
    "adf_test": lambda f: adf_test(f["y"], lags=1).statistic,
    "fit_kalman_noise": lambda f: fit_kalman_noise(f["y"], f["x"], iterations=1).delta,
    "zscore full-sample": lambda f: zscore(f["y"]),
    "pair_view ols": lambda f: view(f, PairSpec("ols", 4)),
    "engle_granger": lambda f: engle_granger(f["y"], f["x"]).statistic,
    "engle_granger_both": lambda f: engle_granger_both(f["y"], f["x"]).x_on_y.statistic,
    "johansen": lambda f: johansen(f).trace,
    "half_life": lambda f: half_life(f["y"]),
    "hurst_exponent": lambda f: hurst_exponent(f["y"], max_lag=20),
    "hurst_exponent by rescaled range": lambda f: hurst_exponent(f["y"], max_lag=31, method="rs"),
    "kpss_test": lambda f: kpss_test(f["y"]).statistic,
    "variance_ratio_test": lambda f: variance_ratio_test(f["y"]).ratio,
    "huber_hedge_ratio": lambda f: huber_hedge_ratio(f["y"], f["x"]).beta,
    "theil_sen_hedge_ratio": lambda f: theil_sen_hedge_ratio(f["y"], f["x"]).beta,
    "tls_hedge_ratio": lambda f: tls_hedge_ratio(f["y"], f["x"]).beta,
    "correlation_matrix": lambda f: np.asarray(correlation_matrix(f)).ravel(),
    "pca_factors": lambda f: np.asarray(pca_factors(f).explained),
    "scan_pairs": lambda f: np.asarray(scan_pairs(f, min_rows=10)["p_value"]),
    "small_sample_p": lambda f: np.asarray(small_sample_p(scan_pairs(f, min_rows=10))),
    "adjusted_p": lambda f: np.asarray(adjusted_p(scan_pairs(f, min_rows=10))),
    "pair_correlations": lambda f: np.asarray(pair_correlations(f)).ravel(),
    "pair_tests": lambda f: pair_tests(f["y"], f["x"], f["y"] - f["x"]).half_life,
    "price_statistics": lambda f: price_statistics(bars(f, "y").assign(volume=1.0)).std,
    "benjamini_hochberg": lambda f: benjamini_hochberg(f["y"] / 1e3),
}
# A bar or a join is not a row of its input; their own tests hold them to what they promise.
OF_BARS = {
    "ticks_to_bars",
    "resample_bars",
    "align",
    "bar_length_ns",
    "bar_ns",
    "common_step_ns",
    "interval_statistics",
}
# Shared by the modules, not part of what may be imported from outside.
HELPERS = {
    "adf_statistic",
    "check_noise",
    "check_spec",
    "cointegrating_fit",
    "filter_deviation",
    "kalman_path",
    "least_rows",
    "log_returns",
    "mackinnon_critical",
    "mackinnon_p",
    "misfit",
    "own_score",
    "reversion",
    "traded_hedge",
}
TABLES = {"mackinnon", "small_sample"}  # published and simulated limits: no studies of a series
STUDIES = Path(__file__).resolve().parents[2] / "pairs" / "analytics"
MODULES = [
    "pairs.bars.resampling",
    *sorted(
        f"pairs.analytics.{path.stem}"
        for path in STUDIES.glob("[!_]*.py")
        if path.stem not in TABLES
    ),
]
METHODS = Path(__file__).resolve().parents[2] / "docs" / "methods.md"


def bars(frame: Frame, leg: str) -> Frame:
    close = frame[leg]
    prices = {"open": close, "high": close, "low": close, "close": close}
    flow = {"volume": frame["v"], "taker_buy_volume": frame["v"] / 3}
    return pd.DataFrame({**prices, **flow}, index=frame.index)


def known(frame: Frame, leg: str) -> Array:
    values = frame[leg].to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def columns(parts: tuple[Array, ...]) -> Array:
    return np.column_stack(parts)


def view(frame: Frame, spec: PairSpec) -> Frame:
    return pair_view(bars(frame, "y"), bars(frame, "x"), spec).frame


def frame_of(rows: list[tuple[float, float, float]]) -> Frame:
    index = pd.date_range("2024-01-01 23:50", periods=len(rows), freq="1min", tz="UTC", name="ts")
    return pd.DataFrame(rows, columns=["y", "x", "v"], index=index, dtype=float)


def same(left: Any, right: Any) -> bool:
    return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=True)


PRICES = (
    st.floats(0.5, 1e5, allow_nan=False) | st.sampled_from([100.0, 100.0, 101.0]) | st.just(np.nan)
)
ROWS = st.lists(st.tuples(PRICES, PRICES, st.floats(0, 10)), min_size=1, max_size=40)


@pytest.mark.parametrize("name", CAUSAL)
@given(rows=ROWS, future=ROWS, cut=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_the_future_changes_no_row(
    name: str,
    rows: list[tuple[float, float, float]],
    future: list[tuple[float, float, float]],
    cut: int,
) -> None:
    """To the last bit: f(x)[:k] is f(x[:k]), and other rows after k leave the first k alone."""
    study, cut = CAUSAL[name], min(cut, len(rows))
    past = study(frame_of(rows[:cut]))
    assert len(past) == cut
    assert same(study(frame_of(rows))[:cut], past)
    assert same(study(frame_of(rows[:cut] + future))[:cut], past)


@pytest.mark.parametrize("name", CAUSAL)
def test_long_histories_too(name: str) -> None:
    rng = np.random.default_rng(1)
    table = np.abs(np.column_stack([rng.normal(0, 1, (500, 2)).cumsum(axis=0) + 1e3, np.ones(500)]))
    rows = [tuple(row) for row in table.tolist()]
    whole = CAUSAL[name](frame_of(rows))
    for cut in (1, 4, 37, 100, 499):
        assert same(whole[:cut], CAUSAL[name](frame_of(rows[:cut])))


@pytest.mark.parametrize("name", CAUSAL)
def test_arguments_are_never_changed(name: str) -> None:
    frame = frame_of([(1.0 + n % 3, 2.0 + n % 5, 1.0) for n in range(30)])
    frame.iloc[4, 0], frame.iloc[9, 1] = np.nan, np.inf
    before = frame.copy()
    CAUSAL[name](frame)
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("name", FULL_SAMPLE)
def test_full_sample_means_it(name: str) -> None:
    """These do change with the future; the register is not a place to hide a causal claim."""
    rng = np.random.default_rng(2)
    rows = [tuple(row) for row in (rng.normal(0, 1, (60, 3)).cumsum(axis=0) + 50).tolist()]
    whole, part = FULL_SAMPLE[name](frame_of(rows)), FULL_SAMPLE[name](frame_of(rows[:40]))
    assert not same(whole[:40] if isinstance(whole, pd.Series | Frame) else whole, part)


@pytest.mark.parametrize("name", FULL_SAMPLE)
def test_full_sample_changes_no_argument_either(name: str) -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(rng.normal(0, 1, (60, 3)).cumsum(axis=0) + 50, columns=list("yxv"))
    frame.index = pd.date_range("2024-01-01", periods=60, freq="1min", tz="UTC")
    before = frame.copy()
    FULL_SAMPLE[name](frame)
    pd.testing.assert_frame_equal(frame, before)


def test_a_view_that_looks_ahead_says_so() -> None:
    frame = frame_of([(1.0 + n % 3, 2.0 + n % 5, 1.0) for n in range(30)])
    legs = bars(frame, "y"), bars(frame, "x")
    assert pair_view(*legs, PairSpec("ols", 4)).in_sample
    for spec in (PairSpec("rolling", 4), PairSpec("kalman", 4), PairSpec("fixed", 4, beta=1.0)):
        assert not pair_view(*legs, spec).in_sample


def functions(module: str) -> dict[str, Callable[..., Any]]:
    """What the module itself defines and can be called: plain, cached, partial, compiled …"""
    found = importlib.import_module(module)
    tree = ast.parse(inspect.getsource(found))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    return {
        name: member
        for name, member in vars(found).items()
        if callable(member)
        and not name.startswith("_")
        and name not in imported
        and not inspect.isclass(member)
        and get_origin(member) is None  # a type's other name
    }


def test_no_kind_of_function_escapes_the_register(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = importlib.import_module("pairs.analytics.windows")
    monkeypatch.setattr("pairs.jit._KERNELS", [])

    def plain(values: Array) -> Array:
        return values

    newcomers = {
        "plain": plain,
        "cached": functools.lru_cache(plain),
        "partly": functools.partial(plain),
        "kernel": compiled(VECTOR)(plain),
    }
    for name, member in newcomers.items():
        monkeypatch.setattr(windows, name, member, raising=False)
    assert set(newcomers) <= set(functions("pairs.analytics.windows"))
    with pytest.raises(AssertionError, match="neither causal nor full-sample"):
        test_every_public_function_is_registered("pairs.analytics.windows")
    with pytest.raises(AssertionError, match="no heading for"):
        test_every_public_name_stands_in_the_methods("pairs.analytics.windows")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_is_registered(module: str) -> None:
    registered = {name.split()[0] for name in (*CAUSAL, *FULL_SAMPLE)} | OF_BARS
    names = set(functions(module)) - HELPERS
    assert names <= registered, f"neither causal nor full-sample: {sorted(names - registered)}"
    exported = importlib.import_module(module).__all__
    assert names <= set(exported)
    assert not HELPERS & set(exported)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_stands_in_the_methods(module: str) -> None:
    headings = " ".join(re.findall(r"^#+ .*$", METHODS.read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", headings))
    missing = [n for n in functions(module) if n not in named | HELPERS]
    assert not missing, f"docs/methods.md has no heading for {missing}"


def test_ticks_to_bars_of_a_prefix() -> None:
    """Closed bars never change: only the last bar of a prefix may."""
    rng = np.random.default_rng(3)
    index = pd.DatetimeIndex(rng.integers(0, 600_000, 400).astype("M8[ms]"), tz="UTC").sort_values()
    ticks = pd.DataFrame({"price": rng.uniform(1, 2, 400), "size": 1.0}, index=index)
    for cut in (1, 50, 399):
        past = ticks_to_bars(ticks[:cut], "1s")
        assert same(ticks_to_bars(ticks, "1s")[: len(past) - 1], past[:-1])
    seconds = ticks_to_bars(ticks, "1s")
    past = resample_bars(seconds[:100], "1min")
    assert same(resample_bars(seconds, "1min")[: len(past) - 1], past[:-1])
    left, _ = align(seconds[:100], seconds[50:])
    assert same(left, seconds[50:100])
