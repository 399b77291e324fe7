"""Two legs of trades, and the live bars over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pairs.live.bars import LiveBars, base_bar_s
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from tests.support.rows import T0, nothing_after, trade

S = 1_000_000

LEGS = (Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT"))


def both(store: PostgresStore, ids: Sequence[int], step_us: int = S, start: int = T0) -> None:
    """The same trades in both legs, one a second. Those of long ago are all there are."""
    for symbol in ("ETHUSDT", "BTCUSDT"):
        store.write(
            "binance",
            [trade(i, start + i * step_us, 100 + i % 7, symbol=symbol) for i in ids],
        )
    if start == T0:
        nothing_after(store, T0 + (max(ids) + 1) * step_us)


def pair(store: PostgresStore, bar: str = "1s", **more: Any) -> LiveBars:
    return LiveBars(store.reads, LEGS, bar, (base_bar_s(bar),) * 2, **more)
