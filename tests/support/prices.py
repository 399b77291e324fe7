"""Prices of one symbol and of a universe."""

from __future__ import annotations

import numpy as np
import pandas as pd


def universe(rows: int = 300, symbols: int = 5, seed: int = 0) -> pd.DataFrame:
    """A market factor; S0 and S1 are bound to each other, the others wander."""
    rng = np.random.default_rng(seed)
    logs = np.outer(rng.normal(0, 1e-3, rows).cumsum(), np.ones(symbols))
    logs = logs + rng.normal(0, 1e-3, (rows, symbols)).cumsum(axis=0)
    logs[:, 1] = logs[:, 0] + rng.normal(0, 1e-3, rows)
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts")
    prices = np.exp(logs) * 10.0 ** np.arange(-2, symbols - 2)
    return pd.DataFrame(prices, index=index, columns=[f"S{k}" for k in range(symbols)])


def bars(seed: int = 0, rows: int = 900, level: float = 100.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = level * np.exp(rng.normal(0, 1e-3, rows).cumsum())
    index = pd.date_range("2024-01-01 10:00:30", periods=rows, freq="1s", tz="UTC", name="ts")
    volume = rng.uniform(1, 2, rows)
    return pd.DataFrame(
        {
            "open": close,
            "high": close * 1.001,
            "low": close * 0.999,
            "close": close,
            "volume": volume,
            "quote_volume": volume * close,
            "trades": rng.integers(1, 9, rows).astype(float),
        },
        index=index,
    )
