"""What the outside relies on is there under its name: functions, parameters, views, columns."""

from __future__ import annotations

import importlib
import inspect

import pytest

from storage.postgres import PostgresStore

NAMES = {
    "analytics": {
        "ols_hedge_ratio": "(y, x, *, intercept=True)",
        "rolling_hedge_ratio": "(y, x, window, *, intercept=True)",
        "kalman_hedge_ratio":
            "(y, x, *, delta=0.0001, observation_variance=0.001, intercept=True)",
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
}  # fmt: skip

VIEWS = {
    "v_ticks": "venue symbol trade_id ts price size buyer_is_maker received",
    "v_bars": "venue symbol bar_s ts open high low close volume quote_volume taker_buy_volume"
              " trades source",
    "v_gaps": "venue symbol first_id last_id state detected closed",
    "v_feed": "venue symbol last_trade_id last_trade last_received state",
}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [(m, n, p) for m, names in NAMES.items() for n, p in names.items()],
    ids=lambda value: value if isinstance(value, str) and "(" not in value else "",
)
def test_functions(module: str, name: str, parameters: str) -> None:
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(plain)) == parameters


@pytest.mark.parametrize("view", VIEWS)
def test_views(store: PostgresStore, view: str) -> None:
    with store.transaction() as cursor:
        cursor.execute(f"SELECT * FROM {view}")
        assert [column.name for column in cursor.description or ()] == VIEWS[view].split()
