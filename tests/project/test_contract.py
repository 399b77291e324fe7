"""What the outside relies on is there under its name: functions, parameters, views, columns."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics import (
    adf_test,
    fit_kalman_noise,
    kalman_hedge_ratio,
    ols_hedge_ratio,
    rolling_correlation,
    rolling_hedge_ratio,
    spread,
    zscore,
)
from cointegration import engle_granger, half_life, hurst_exponent, johansen
from indicators import bollinger_bands, ema, sma, vwap
from pairs.storage.postgres import PostgresStore
from resampling import resample_bars, ticks_to_bars

NAMES = {
    "analytics": {
        "ols_hedge_ratio": "(y, x, *, intercept=True)",
        "rolling_hedge_ratio": "(y, x, window, *, intercept=True)",
        "kalman_hedge_ratio": "(y, x, *, delta=0.0001, observation_variance=0.001, intercept=True)",
        "fit_kalman_noise": "(y, x, *, delta=0.0001, observation_variance=None, iterations=20,"
        " tolerance=1e-06, intercept=True)",
        "spread": "(y, x, beta, intercept=0.0)",
        "zscore": "(series, window=None, *, ddof=1)",
        "adf_test": "(series, *, lags=None, trend='c')",
        "rolling_correlation": "(a, b, window)",
    },
    "cointegration": {
        "engle_granger": "(y, x, *, lags=None, trend='c')",
        "johansen": "(frame, *, trend=0, lags=1)",
        "half_life": "(spread)",
        "hurst_exponent": "(series, *, max_lag=99, method='std')",
    },
    "backtest": {
        "run": "(bars_y, bars_x, rules, costs)",
        "Costs": "(*, fee_bps=0.0, slippage_bps=0.0, funding_y=None, funding_x=None)",
    },
    "features": {
        "feature_table": "(bars_y, bars_x, spec=None, *, horizon=None)",
    },
    "indicators": {
        "sma": "(close, window)",
        "ema": "(close, span)",
        "vwap": "(bars, session=None)",
        "bollinger_bands": "(close, window=20, n_std=2.0, *, ddof=0)",
    },
    "resampling": {
        "ticks_to_bars": "(ticks, bar)",
        "resample_bars": "(bars, bar)",
    },
}

ROWS = 200
LEGS = pd.DataFrame(
    np.random.default_rng(0).normal(size=(ROWS, 2)).cumsum(axis=0) + 100,
    index=pd.date_range("2024-01-01", periods=ROWS, freq="1min", tz="UTC", name="ts"),
    columns=["y", "x"],
)
Y, X = LEGS["y"], LEGS["x"]
BARS = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), Y)).assign(volume=1.0)
TICKS = pd.DataFrame({"price": Y, "size": 1.0, "buyer_is_maker": True})
KALMAN = "beta intercept beta_prior intercept_prior innovation innovation_std"
FLOW = "open high low close volume quote_volume taker_buy_volume trades"

# Call → type and what it holds: columns in their order, or attributes.
RESULTS: dict[str, tuple[object, str, str]] = {
    "ols": (ols_hedge_ratio(Y, X), "HedgeRatio", "beta intercept r_squared std_error n"),
    "rolling": (rolling_hedge_ratio(Y, X, 9), "DataFrame", "beta intercept"),
    "kalman": (kalman_hedge_ratio(Y, X), "DataFrame", KALMAN),
    "noise": (fit_kalman_noise(Y, X, iterations=1), "KalmanNoise", "delta observation_variance"),
    "spread": (spread(Y, X, 1.0), "Series", ""),
    "zscore": (zscore(Y, 9), "Series", ""),
    "adf": (adf_test(Y), "AdfResult", "statistic p_value lags nobs critical_values"),
    "correlation": (rolling_correlation(Y, X, 9), "Series", ""),
    "engle_granger": (
        engle_granger(Y, X),
        "CointegrationResult",
        "statistic p_value lags nobs critical_values beta intercept",
    ),
    "johansen": (
        johansen(LEGS),
        "JohansenResult",
        "eigenvalues trace max_eigen critical_values vectors",
    ),
    "half_life": (half_life(Y), "float", ""),
    "hurst": (hurst_exponent(Y), "float", ""),
    "sma": (sma(Y, 9), "Series", ""),
    "ema": (ema(Y, 9), "Series", ""),
    "vwap": (vwap(BARS, "1h"), "Series", ""),
    "bollinger": (bollinger_bands(Y), "DataFrame", "middle upper lower"),
    "ticks_to_bars": (ticks_to_bars(TICKS, "5min"), "DataFrame", FLOW),
    "resample_bars": (resample_bars(BARS, "5min"), "DataFrame", "open high low close volume"),
}

TEXT, WHEN, ID, NUMBER = "text", "timestamp with time zone", "bigint", "double precision"
VIEWS = {
    "v_ticks": {
        "venue": TEXT,
        "symbol": TEXT,
        "trade_id": ID,
        "ts": WHEN,
        "price": NUMBER,
        "size": NUMBER,
        "buyer_is_maker": "boolean",
        "received": WHEN,
    },
    "v_bars": {
        "venue": TEXT,
        "symbol": TEXT,
        "bar_s": "integer",
        "ts": WHEN,
        "open": NUMBER,
        "high": NUMBER,
        "low": NUMBER,
        "close": NUMBER,
        "volume": NUMBER,
        "quote_volume": NUMBER,
        "taker_buy_volume": NUMBER,
        "trades": ID,
        "source": TEXT,
        "complete": "boolean",
    },
    "v_gaps": {
        "venue": TEXT,
        "symbol": TEXT,
        "first_id": ID,
        "last_id": ID,
        "state": TEXT,
        "detected": WHEN,
        "closed": WHEN,
    },
    "v_feed": {
        "venue": TEXT,
        "symbol": TEXT,
        "last_trade_id": ID,
        "last_trade": WHEN,
        "last_received": WHEN,
        "state": TEXT,
    },
}


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [(m, n, p) for m, names in NAMES.items() for n, p in names.items()],
    ids=lambda value: value if isinstance(value, str) and "(" not in value else "",
)
def test_functions(module: str, name: str, parameters: str) -> None:
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == parameters


@pytest.mark.parametrize("call", RESULTS)
def test_results(call: str) -> None:
    result, kind, names = RESULTS[call]
    assert type(result).__name__ == kind
    if isinstance(result, pd.DataFrame):
        assert list(result.columns) == names.split()
    for name in [] if isinstance(result, pd.DataFrame) else names.split():
        assert hasattr(result, name)
    if isinstance(result, pd.Series | pd.DataFrame) and len(result) == ROWS:
        assert result.index.equals(LEGS.index)


def test_critical_values() -> None:
    assert list(adf_test(Y).critical_values) == ["1%", "5%", "10%"]
    assert list(engle_granger(Y, X).critical_values) == ["1%", "5%", "10%"]
    limits = johansen(LEGS).critical_values
    assert {name: table.shape for name, table in limits.items()} == {
        "trace": (2, 3),
        "max_eigen": (2, 3),
    }
    assert (np.diff(limits["trace"], axis=1) > 0).all()


def test_views_have_these_columns_in_this_order_with_these_types(store: PostgresStore) -> None:
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name LIKE 'v\\_%'"
            " ORDER BY 1, ordinal_position"
        )
        found: dict[str, dict[str, str]] = {}
        for view, column, kind in cursor.fetchall():
            found.setdefault(view, {})[column] = kind
    expected = {view: list(columns.items()) for view, columns in VIEWS.items()}
    assert {view: list(columns.items()) for view, columns in found.items()} == expected


def test_every_test_that_the_documents_name_exists() -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    tests = {path.name: path.read_text() for path in (root / "tests").rglob("test_*.py")}
    named = {
        match
        for page in pages
        for match in re.findall(r"`(test_\w+\.py)::(test_\w+)", page.read_text())
    }
    assert len(named) > 150
    absent = [
        f"{file}::{test}"
        for file, test in sorted(named)
        if f"def {test}(" not in tests.get(file, "")
    ]
    assert absent == []


def test_what_the_documents_tell_to_type_and_to_read_exists() -> None:
    root = Path(__file__).parents[2]
    pages = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages if page.name != "CHANGELOG.md")
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)\b(?=`|\s{2,}#|$)", text, re.M))
    made = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.M))
    assert len(targets) > 5
    assert targets <= made
    programs = set(re.findall(r"`(?:python |streamlit run )(\w+\.py)", text))
    assert len(programs) >= 4
    assert all((root / name).exists() for name in programs)
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    named = set(re.findall(r"`(pairs/[\w/]+\.(?:py|sql))`", text))
    assert len(named) > 20
    absent = {name for name in named if not (root / name).exists()}
    assert {name for name in absent if "NAME" not in name and "NNNN" not in name} == set()
