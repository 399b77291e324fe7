"""Trades to one-second bars against pandas, polars and DuckDB: the same columns, the same trades.

python -m benchmarks.bars [--runs 5]
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.compare import HEAD, arguments, compared
from benchmarks.harness import machine, table
from resampling import ticks_to_bars


def ticks(rows: int) -> pd.DataFrame:
    """Some hundred trades a second, in order, as the store hands them out."""
    rng = np.random.default_rng(rows)
    stamps = pd.DatetimeIndex(rng.integers(0, 20, rows).cumsum().astype("M8[ms]"), tz="UTC")
    columns = {
        "price": 6e4 + rng.normal(0, 0.1, rows).cumsum(),
        "size": rng.exponential(size=rows),
        "buyer_is_maker": rng.random(rows) < 0.5,
    }
    return pd.DataFrame(columns, index=stamps)


def by_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    """All eight columns; resample, which beats groupby on the bucket number here."""
    extended = frame.assign(
        quote=frame["price"] * frame["size"],
        bought=frame["size"].where(~frame["buyer_is_maker"], 0.0),
    )
    groups = extended.resample("1s")
    sums = groups[["size", "quote", "bought"]].sum()
    parts = [groups["price"].ohlc(), sums, groups.size().rename("trades")]
    bars = pd.concat(parts, axis=1)
    return bars[bars["trades"] > 0]


def by_pandas_prices(frame: pd.DataFrame) -> pd.DataFrame:
    """Only open, high, low, close and volume, of a frame without the aggressor."""
    groups = frame.resample("1s")
    return pd.concat([groups["price"].ohlc(), groups["size"].sum()], axis=1).dropna()


@contextlib.contextmanager
def by_polars(frame: pd.DataFrame) -> Iterator[Callable[[], Any]]:
    """Lazy, on all cores, from a frame of polars' own."""
    import polars as pl

    trades = pl.from_pandas(frame.reset_index(names="ts"))
    price, size = pl.col("price"), pl.col("size")
    query = (
        trades.lazy()
        .set_sorted("ts")
        .group_by_dynamic("ts", every="1s")
        .agg(
            price.first().alias("open"),
            price.max().alias("high"),
            price.min().alias("low"),
            price.last().alias("close"),
            size.sum().alias("volume"),
            (price * size).sum().alias("quote"),
            size.filter(~pl.col("buyer_is_maker")).sum().alias("bought"),
            pl.len().alias("trades"),
        )
        .drop("ts")
    )
    yield query.collect


@contextlib.contextmanager
def by_duckdb(frame: pd.DataFrame) -> Iterator[Callable[[], Any]]:
    """On all cores, from a table of DuckDB's own; rows that share a time stay in their order."""
    import duckdb

    with duckdb.connect() as connection:
        numbered = frame.reset_index(names="ts").assign(n=np.arange(len(frame)))
        numbered["ts"] = numbered["ts"].dt.tz_localize(None)
        connection.register("numbered", numbered)
        connection.execute("CREATE TABLE trades AS SELECT * FROM numbered")
        query = (
            "SELECT arg_min(price, n), max(price), min(price), arg_max(price, n), sum(size),"
            " sum(price * size), coalesce(sum(size) FILTER (NOT buyer_is_maker), 0), count(*)"
            " FROM trades GROUP BY time_bucket(INTERVAL 1 second, ts)"
            " ORDER BY time_bucket(INTERVAL 1 second, ts)"
        )

        def work() -> Any:
            columns = connection.execute(query).fetchnumpy()
            return np.column_stack(list(columns.values()))

        yield work


COLUMNAR = {"polars": (by_polars, 2.0), "duckdb": (by_duckdb, 2.0)}


def main() -> None:
    options = arguments(__doc__, "benchmarks.bars")
    machine("numpy", "pandas", "numba", *COLUMNAR)
    rows = []
    for size, wanted in ((1_000_000, 5.0), (10_000_000, 2.5)):
        frame = ticks(size)
        plain = frame[["price", "size"]]
        rows.append(
            compared(
                f"ticks → 1 s bars, 8 columns, {size:,}",
                "pandas resample",
                lambda f=frame: ticks_to_bars(f, "1s"),
                lambda f=frame: by_pandas(f),
                options.runs,
                wanted=wanted,
            )
        )
        rows.append(
            compared(
                f"ticks → 1 s bars, pandas 5 columns, ours 7, {size:,}",
                "pandas resample",
                lambda f=plain: ticks_to_bars(f, "1s")[["open", "high", "low", "close", "volume"]],
                lambda f=plain: by_pandas_prices(f),
                options.runs,
                wanted=1,
            )
        )
        for name, (peer, limit) in COLUMNAR.items():
            if find_spec(name) is None:
                continue  # named as missing by `machine`
            with peer(frame) as work:
                rows.append(
                    compared(
                        f"ticks → 1 s bars, 8 columns, {size:,}",
                        f"{name}, all cores",
                        lambda f=frame: ticks_to_bars(f, "1s"),
                        work,
                        options.runs,
                        wanted=limit,
                    )
                )
    table(
        "Ticks to bars",
        HEAD,
        rows,
        "Ours on one thread. polars and DuckDB start from frames of their own, on all cores. "
        "PostgreSQL's date_bin stands under *Read back*.",
    )


if __name__ == "__main__":
    main()
