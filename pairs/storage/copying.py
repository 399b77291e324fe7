"""PostgreSQL's binary COPY format, all rows at once: trades in, columns out.

Every column has a fixed width and no NULL, so the rows are one packed array: this costs a tenth
of text. The format is that of the manual's page on COPY, "Binary Format".
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pairs.market import Trade

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01
COLUMNS = "instrument_id, trade_id, ts, price, size, buyer_is_maker, received, trades"
_TYPES = (">i4", ">i8", ">i8", ">f8", ">f8", "u1", ">i8", ">i4")
# What a column of a query may be, and how its values travel.
_KINDS = {"bigint": ">i8", "float8": ">f8", "timestamptz": ">i8", "bool": "u1"}


def _row(types: Sequence[str]) -> np.dtype[np.void]:
    return np.dtype(
        [("fields", ">i2")]
        + [part for k, t in enumerate(types) for part in ((f"length{k}", ">i4"), (f"value{k}", t))]
    )


_ROW = _row(_TYPES)


def copy_trades(
    cursor: Cursor, table: str, trades: Sequence[Trade], numbers: dict[str, int], ahead_us: int = 0
) -> None:
    """COPY trades into `table` (a name of our own, with the columns COLUMNS). `ahead_us`: by how
    much the database's clock is ahead of the one that stamped their receipt."""
    symbols, ids, stamps, prices, sizes, makers, received, counts = zip(*trades, strict=True)
    rows = np.empty(len(trades), dtype=_ROW)
    rows["fields"] = len(_TYPES)
    values = (
        [numbers[symbol] for symbol in symbols],
        ids,
        np.array(stamps, dtype=np.int64) - EPOCH_US,
        prices,
        sizes,
        makers,
        np.array(received, dtype=np.int64) + (ahead_us - EPOCH_US),
        counts,
    )
    for k, value in enumerate(values):
        rows[f"length{k}"] = np.dtype(_TYPES[k]).itemsize
        rows[f"value{k}"] = value
    buffer = io.BytesIO(HEADER + rows.tobytes() + TRAILER)
    cursor.copy_expert(f"COPY {table} ({COLUMNS}) FROM STDIN (FORMAT binary)", buffer)


def copy_columns(
    cursor: Cursor, query: str, parameters: dict[str, Any], kinds: Sequence[str]
) -> list[npt.NDArray[Any]]:
    """The columns of a query as arrays: int64, float64, bool; times as int64 µs since 1970.

    `kinds` names each column's type, one of bigint, float8, timestamptz, bool. NULL is refused
    (ValueError): a query gives what stands for it, 'NaN' for a float8.
    """
    types = [_KINDS[kind] for kind in kinds]
    buffer = io.BytesIO()
    statement = cursor.mogrify(query, parameters).decode()
    cursor.copy_expert(f"COPY ({statement}) TO STDOUT (FORMAT binary)", buffer)
    row, data = _row(types), buffer.getbuffer()
    body = len(data) - len(HEADER) - len(TRAILER)
    rows = np.frombuffer(data, row, max(0, body) // row.itemsize, len(HEADER))
    widths = [np.dtype(t).itemsize for t in types]
    if body % row.itemsize or any(
        (rows[f"length{k}"] != width).any() for k, width in enumerate(widths)
    ):
        raise ValueError(f"a row of the query is not {', '.join(kinds)} without NULL")
    columns: list[npt.NDArray[Any]] = []
    for k, kind in enumerate(kinds):
        values = rows[f"value{k}"]
        if kind == "bool":
            columns.append(values.astype(bool))
        else:
            native = values.astype(np.dtype(types[k]).newbyteorder("="))
            columns.append(native + EPOCH_US if kind == "timestamptz" else native)
    return columns
