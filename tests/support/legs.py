"""Two legs for a backtest, as frames and as files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest import Costs, Rules, main
from pairs.backtest.grid import combinations

COSTS = Costs(fee_bps=1, slippage_bps=0.5)

BASE = Rules(hedge="rolling", hedge_window=40, window=20, capital=5000)


def leg(seed: int, rows: int = 300) -> pd.DataFrame:
    """Legs of different seeds share their walk."""
    rng = np.random.default_rng(0)
    walk = 100 * np.exp(rng.normal(0, 1e-3, rows).cumsum())
    close = walk * np.exp(np.random.default_rng(seed).normal(0, 1e-3, rows))
    start = np.concatenate(([close[0]], close[:-1]))
    index = pd.date_range("2024-01-01", periods=rows, freq="1min", tz="UTC", name="ts", unit="us")
    low, high = np.minimum(start, close), np.maximum(start, close)
    return pd.DataFrame(
        {"open": start, "high": high, "low": low, "close": close, "volume": 1.0}, index=index
    )


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert not err
    return json.loads(out, parse_constant=refuse_constant)


def legs(rows: int = 900) -> tuple[pd.DataFrame, pd.DataFrame]:
    return leg(1, rows), leg(2, rows)


def candidates() -> list[Rules]:
    return combinations(BASE, window=[10, 20, 40], entry_z=[1.0, 1.5, 2.0], exit_z=[0.0, 1.2])
