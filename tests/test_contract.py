"""What the outside relies on is there under its name: functions, parameters, views, columns."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

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

TEXT, WHEN, ID, NUMBER = "text", "timestamp with time zone", "bigint", "double precision"
VIEWS = {
    "v_ticks": {
        "venue": TEXT, "symbol": TEXT, "trade_id": ID, "ts": WHEN, "price": NUMBER,
        "size": NUMBER, "buyer_is_maker": "boolean", "received": WHEN,
    },
    "v_bars": {
        "venue": TEXT, "symbol": TEXT, "bar_s": "integer", "ts": WHEN, "open": NUMBER,
        "high": NUMBER, "low": NUMBER, "close": NUMBER, "volume": NUMBER, "quote_volume": NUMBER,
        "taker_buy_volume": NUMBER, "trades": ID, "source": TEXT,
    },
    "v_gaps": {
        "venue": TEXT, "symbol": TEXT, "first_id": ID, "last_id": ID, "state": TEXT,
        "detected": WHEN, "closed": WHEN,
    },
    "v_feed": {
        "venue": TEXT, "symbol": TEXT, "last_trade_id": ID, "last_trade": WHEN,
        "last_received": WHEN, "state": TEXT,
    },
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


def test_every_test_that_the_table_of_faults_names_exists() -> None:
    folder = Path(__file__).parent
    named = re.findall(
        r"`(test_\w+\.py)::(test_\w+)`", (folder.parent / "docs/faults.md").read_text()
    )
    assert len(named) > 50
    absent = [f"{file}::{test}" for file, test in named
              if f"def {test}(" not in (folder / file).read_text()]  # fmt: skip
    assert absent == []
