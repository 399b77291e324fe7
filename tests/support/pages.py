"""Stored trades for a page, and snapshots for its figures."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pairs.analytics.pair import PairSpec, pair_view
from pairs.live.bars import Leg, Snapshot
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.reader import FeedStatus
from tests.support.rows import trade

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

S = 1_000_000

N = 800


def fill(store: PostgresStore, error: int = 0) -> None:
    """Legs of one shape; with `error` ETHUSDT is off it by some of so many basis points."""
    now = time.time_ns() // 1000
    for symbol, level in (("BTCUSDT", 60_000.0), ("ETHUSDT", 2_500.0), ("XRPUSDT", 0.5)):
        store.write(
            "local",
            [
                trade(
                    i,
                    now - (400 - i) * S,
                    level
                    * (1 + (i * i % 89 + (i**3 % 97) / 97 * error * (symbol == "ETHUSDT")) / 1e4),
                    symbol=symbol,
                )
                for i in range(400)
            ],
        )


def html(page: AppTest) -> str:
    return "\n".join(
        str(element.value) for element in page.get("html") if hasattr(element, "value")
    )


def bars(seed: int, level: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = np.round(level * np.exp(np.cumsum(rng.normal(0, 1e-4, N))), 2)
    index = pd.date_range("2026-01-01", periods=N, freq="1s", tz="UTC", name="ts")
    return pd.DataFrame(
        {
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": rng.uniform(1, 2, N),
        },
        index=index,
    )


def status(**changes: object) -> FeedStatus:
    when = datetime(2026, 1, 1, 12, tzinfo=UTC)
    made = FeedStatus("ETHUSDT", "live", "", when, when, 0.2, 0.1, 0.5, 0, 0, 1234, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


def snapshot(venue: str = "local", error: str | None = None, **changes: object) -> Snapshot:
    y, x = bars(1, 2500.0), bars(2, 80_000.0)
    leg = status(**changes) if venue != "upload" else None
    return Snapshot(
        (
            Leg(Instrument(venue, "ETHUSDT"), y.iloc[:-1], y.iloc[-1], leg),
            Leg(Instrument(venue, "BTCUSDT"), x.iloc[:-1], x.iloc[-1], leg),
        ),
        "1s",
        0.0,
        error,
    )


def view(spec: PairSpec | None = None):  # type: ignore[no-untyped-def]
    made = snapshot()
    return pair_view(made.y.closed, made.x.closed, spec or PairSpec(window=60))
