"""Trades to one-second bars against pandas: the same columns from the same frame.

python -m benchmarks.bars [--runs 5]
"""

from __future__ import annotations

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


def main() -> None:
    options = arguments(__doc__, "benchmarks.bars")
    machine("numpy", "pandas", "numba")
    rows = []
    for size, wanted in ((1_000_000, 5.0), (10_000_000, 2.5)):
        frame = ticks(size)
        plain = frame[["price", "size"]]
        rows.append(compared(
            f"ticks → 1 s bars, 8 columns, {size:,}", "pandas resample",
            lambda f=frame: ticks_to_bars(f, "1s"), lambda f=frame: by_pandas(f),
            options.runs, wanted=wanted,
        ))  # fmt: skip
        rows.append(compared(
            f"ticks → 1 s bars, pandas 5 columns, ours 7, {size:,}", "pandas resample",
            lambda f=plain: ticks_to_bars(f, "1s")[["open", "high", "low", "close", "volume"]],
            lambda f=plain: by_pandas_prices(f), options.runs, wanted=1,
        ))  # fmt: skip
    table("Ticks to bars", HEAD, rows)


if __name__ == "__main__":
    main()
