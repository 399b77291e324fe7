"""Trades to store, and rows read back."""

from __future__ import annotations

from typing import Any

from pairs.market import Trade
from pairs.storage.postgres import PostgresStore

MINUTE_US = 60_000_000

T0 = 1_723_161_600_000_000  # 2024-08-09 00:00:00 UTC


def trade(trade_id: int, ts_us: int = T0, price: float = 100.0, **changes: Any) -> Trade:
    made = Trade("BTCUSDT", trade_id, ts_us, price, 0.5, False, ts_us + 1000)
    return made._replace(**changes)


def nothing_after(store: PostgresStore, until_us: int) -> None:
    """The exchange says that nothing was printed after what is stored of `binance`, up to then."""
    known = rows(
        store,
        "SELECT symbol, high_id FROM feed JOIN instrument USING (instrument_id)"
        " WHERE venue = 'binance'",
    )
    store.nothing_newer("binance", [(symbol, high, until_us) for symbol, high in known])


def rows(store: PostgresStore, query: str) -> list[tuple[Any, ...]]:
    with store.transaction() as cursor:
        cursor.execute(query)
        return cursor.fetchall()
