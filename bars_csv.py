"""Bars as CSV: what users upload and download. Pure.

Columns timestamp,open,high,low,close,volume in any order, header names case-insensitive, further
columns ignored. Timestamps are bar open times: ISO-8601 (without a zone taken as UTC) or epoch in
s, ms or µs. A file is taken whole or refused whole, with the row (the header is row 1) and the
reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ("open", "high", "low", "close", "volume")
MAX_ROWS = 1_000_000
MAX_BYTES = 150 * 2**20
EPOCH = r"\d+(?:\.\d+)?(?:[eE]\+?\d+)?"
YEAR_FIRST = r"\d{4}.*"  # pandas would read -5 as the year 5 before Christ
# Epochs by magnitude: seconds 1973 … 5138, then ms, then µs.
_EPOCH_UNITS = ((1e8, 1e11, 1_000_000), (1e11, 1e14, 1_000), (1e14, 1e17, 1))


class CsvError(ValueError):
    """The file cannot be taken; the message names the row and the reason."""


def read_bars_csv(content: bytes) -> pd.DataFrame:
    """The bars of a file: UTC DatetimeIndex `ts` (µs), ascending, and the float columns COLUMNS.

    Rows that repeat a timestamp with the same values count once. Raises CsvError.
    """
    if len(content) > MAX_BYTES:
        raise CsvError(
            f"the file has {len(content) / 2**20:.0f} MiB, at most {MAX_BYTES // 2**20} are allowed"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CsvError(f"the file is not UTF-8 text (byte {error.start})") from None
    table = _read_table(text)
    rows = table.index.to_numpy() + 2  # the header is row 1
    numbers = {name: _numbers(table[name], name, rows) for name in COLUMNS}
    stamps = _timestamps(table["timestamp"], rows)
    _check_bars(numbers, rows)
    return _unique(stamps, numbers, rows)


def write_bars_csv(bars: pd.DataFrame) -> str:
    """Bars (index `ts`, columns COLUMNS among others) as CSV that `read_bars_csv` takes back
    unchanged: floats as the shortest text that reads back as the same number."""
    return frame_csv(bars[list(COLUMNS)])


def frame_csv(frame: pd.DataFrame) -> str:
    """Any frame by time as CSV: first column `timestamp`, ISO-8601 in UTC; NaN is empty.

    An index without a zone is taken as UTC. Whole seconds are written without a fraction.
    """
    index = pd.DatetimeIndex(frame.index)
    stamps = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    if len(stamps) and (stamps == stamps.as_unit("s")).all():
        stamps = stamps.as_unit("s")
    text = np.datetime_as_string(stamps.to_numpy(), timezone="UTC")
    return frame.set_axis(pd.Index(text, name="timestamp")).to_csv(lineterminator="\n")


def bar_seconds(bars: pd.DataFrame) -> int:
    """The length of the bars: their most common step. Raises CsvError where there is none."""
    if len(bars) < 2:
        raise CsvError("the file has fewer than 2 bars: their length cannot be told")
    steps = np.diff(pd.DatetimeIndex(bars.index).as_unit("us").asi8)
    lengths, counts = np.unique(steps, return_counts=True)
    step = int(lengths[counts.argmax()])
    if step % 1_000_000:
        raise CsvError(f"the bars are {step / 1e6:g} s long: whole seconds are allowed")
    return step // 1_000_000


def _read_table(text: str) -> pd.DataFrame:
    names = [name.strip().lower() for name in next(_records(text), [])]
    missing = [name for name in ("timestamp", *COLUMNS) if name not in names]
    if missing:
        raise CsvError(
            f"row 1: missing column {', '.join(missing)}; the header must name "
            f"timestamp,{','.join(COLUMNS)} in any order"
        )
    for name in ("timestamp", *COLUMNS):
        if names.count(name) > 1:
            raise CsvError(f"row 1: column {name} stands there twice")
    _check_width(text, len(names))
    try:
        table = pd.read_csv(
            io.StringIO(text), header=0, names=names if len(set(names)) == len(names) else None,
            usecols=lambda name: name.strip().lower() in ("timestamp", *COLUMNS), dtype=str,
            na_filter=False, skip_blank_lines=False, index_col=False, nrows=MAX_ROWS + 2,
            on_bad_lines="error",
        )  # fmt: skip
    except (pd.errors.ParserError, ValueError) as error:
        raise CsvError(f"the file is not a table: {str(error).strip()}") from None
    table.columns = pd.Index([name.strip().lower() for name in table.columns])
    # A blank line is an empty first field and nothing else.
    blank = (table == "").all(axis=1)
    table = table[~blank]
    if len(table) > MAX_ROWS:
        raise CsvError(f"the file has more than {MAX_ROWS:,} rows, which is the limit")
    if table.empty:
        raise CsvError("the file has a header and no rows")
    return table


def _records(text: str) -> Iterator[list[str]]:
    """Rows of fields; CsvError where they are none."""
    try:
        yield from csv.reader(io.StringIO(text, newline=""))
    except csv.Error as error:
        raise CsvError(f"the file is not a table: {error}") from None


def _check_width(text: str, width: int) -> None:
    """Refuse a row of more fields than the header has: a decimal comma shifts all behind it."""
    if '"' in text:
        counts = (len(fields) for fields in _records(text))
    else:
        counts = (line.count(",") + 1 for line in text.split("\n"))
    for row, count in enumerate(counts, 1):
        if count > width:
            raise CsvError(f"row {row}: {count} fields where the header names {width}")


def _refuse(bad: Any, rows: Any, values: Any, reason: str) -> None:
    """Raise for the first row where `bad`; `reason` may hold {value}."""
    at = np.flatnonzero(bad)
    if len(at):
        more = f" (and {len(at) - 1} more rows)" if len(at) > 1 else ""
        raise CsvError(f"row {rows[at[0]]}: {reason.format(value=values[at[0]])}{more}")


def _numbers(column: pd.Series[str], name: str, rows: Any) -> Any:
    texts = column.to_numpy(dtype=object)
    try:
        if column.str.contains("_", regex=False).any():
            raise ValueError("1_0 is ten to Python alone")
        values = texts.astype(np.float64)
    except ValueError:
        bad = pd.to_numeric(column, errors="coerce").isna().to_numpy()
        _refuse(bad, rows, texts, f"{name} {{value!r}} is no number")
        raise CsvError(f"column {name} holds text that is no number") from None
    _refuse(~np.isfinite(values), rows, texts, f"{name} {{value!r}} is not finite")
    return values


def _timestamps(column: pd.Series[str], rows: Any) -> pd.DatetimeIndex:
    texts = column.str.strip()
    if texts.str.fullmatch(EPOCH).all():
        values = texts.to_numpy(dtype=object).astype(np.float64)
        micros = np.zeros(len(values), dtype=np.int64)
        for low, high, factor in _EPOCH_UNITS:
            inside = (values >= low) & (values < high)
            micros[inside] = np.round(values[inside] * factor).astype(np.int64)
        _refuse(
            micros == 0, rows, texts.to_numpy(),
            "timestamp {value!r} is no epoch in s, ms or µs after 1973",
        )  # fmt: skip
        return pd.DatetimeIndex(micros.astype("datetime64[us]"), tz="UTC")
    dated = texts.where(texts.str.fullmatch(YEAR_FIRST), "")
    stamps = pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")
    _refuse(
        stamps.isna().to_numpy(), rows, texts.to_numpy(),
        "timestamp {value!r} is neither ISO-8601 nor an epoch in s, ms or µs",
    )  # fmt: skip
    return pd.DatetimeIndex(stamps).as_unit("us")


def _check_bars(numbers: dict[str, Any], rows: Any) -> None:
    high, low = numbers["high"], numbers["low"]
    _refuse(high < low, rows, high, "high {value} is below low")
    for name in ("open", "close"):
        outside = (numbers[name] < low) | (numbers[name] > high)
        _refuse(outside, rows, numbers[name], f"{name} {{value}} is outside low … high")
    _refuse(low <= 0, rows, low, "low {value} is not positive")
    _refuse(numbers["volume"] < 0, rows, numbers["volume"], "volume {value} is negative")


def _unique(stamps: pd.DatetimeIndex, numbers: dict[str, Any], rows: Any) -> pd.DataFrame:
    frame = pd.DataFrame(numbers, index=stamps.rename("ts"))
    order = np.argsort(stamps.asi8, kind="stable")
    frame, rows = frame.iloc[order], rows[order]
    again = np.zeros(len(frame), dtype=bool)
    again[1:] = np.diff(stamps.asi8[order]) == 0
    if again.any():
        values = frame.to_numpy()
        differs = again.copy()
        differs[1:] &= (values[1:] != values[:-1]).any(axis=1)
        _refuse(
            differs, rows, frame.index.to_numpy(),
            "timestamp {value} stands there before with other values",
        )  # fmt: skip
    return frame[~again]
