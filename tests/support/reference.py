"""Where the published reference data stands. It is never part of the repository.

`PAIRS_SHARED` names the folder that holds `data/`; without it, the folder `shared` beside the
repository. A test that needs a file which is not there is skipped with the reason.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

SHARED = Path(os.environ.get("PAIRS_SHARED") or Path(__file__).resolve().parents[3] / "shared")


def data_file(*parts: str) -> Path:
    """A file below `data`; skips the calling test where it is absent."""
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"reference data absent: {path} (PAIRS_SHARED names the folder above data)")
    return path


def reference_csv(name: str, **options: Any) -> pd.DataFrame:
    """One CSV of the reference data."""
    table: pd.DataFrame = pd.read_csv(data_file("reference", name), **options)
    return table


def reference_json(name: str) -> Any:
    """One JSON file of the reference data."""
    return json.loads(data_file("reference", name).read_text())


@lru_cache(maxsize=1)
def _entries() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in reference_json("expected.json")}


def published(entry: str, key: str) -> Any:
    """`pytest.approx` of a published figure within its published tolerance."""
    found = _entries()[entry]
    tolerance = found["tolerance"]
    return pytest.approx(
        found["expected"][key],
        abs=tolerance[key] if isinstance(tolerance, dict) else tolerance,
        rel=0,
    )


def trades(symbol: str) -> pd.DataFrame:
    """A real capture as ticks: 2024-08-08 23:54 to 2024-08-09 00:05 UTC, Binance spot."""
    table = pd.read_csv(data_file("market", f"spot_{symbol.lower()}_trades.csv.gz"))
    return pd.DataFrame(
        {
            "trade_id": table["id"].to_numpy(),
            "price": table["price"].to_numpy(),
            "size": table["qty"].to_numpy(),
            "buyer_is_maker": table["is_buyer_maker"].to_numpy(),
        },
        index=pd.to_datetime(table["time"].to_numpy(), unit="ms", utc=True),
    )
