"""Bars as CSV: what users upload and download. Pure.

Columns timestamp,open,high,low,close,volume in any order, header names case-insensitive, further
columns ignored. Timestamps are bar open times, as `timestamps` reads them. A file is taken whole
or refused whole, with the row (the header is row 1) and the reason.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from pairs.bars.csv_form import CsvError, check_form, header_names
from pairs.bars.resampling import common_step_ns
from pairs.bars.timestamps import Micros, TimestampError, read_timestamps, shown

__all__ = [
    "COLUMNS",
    "CsvError",
    "bar_seconds",
    "frame_csv",
    "read_bars_csv",
    "read_rates_csv",
    "write_bars_csv",
]

COLUMNS = ("open", "high", "low", "close", "volume")
MAX_ROWS = 1_000_000
MAX_BYTES = 150 * 2**20
BLOCK = 20_000  # rows read at once: what waits for a stop, and what stands there as text
Progress = Callable[[int, int], None]  # bytes read, bytes
Check = Callable[[dict[str, Any], Any], None]
Block = tuple[dict[str, Any], Micros, "np.ndarray[Any, np.dtype[np.int64]]"]


def read_bars_csv(content: bytes, progress: Progress = lambda done, total: None) -> pd.DataFrame:
    """The bars of a file: UTC DatetimeIndex `ts` (µs), ascending, and the float columns COLUMNS.

    Rows that repeat a timestamp with the same values count once. `progress` is called every few
    thousand rows and may raise to end the reading. Raises CsvError.
    """
    return _read(content, COLUMNS, _check_bars, progress)


def read_rates_csv(content: bytes) -> pd.Series[float]:
    """Funding rates of a file with the columns timestamp (settlement, as `read_bars_csv` reads
    times) and rate (a fraction, between -1 and 1): Series by UTC time. Raises CsvError."""
    return _read(content, ("rate",), _check_rates, lambda done, total: None)["rate"]


def _read(content: bytes, names: Sequence[str], check: Check, progress: Progress) -> pd.DataFrame:
    """The columns `names` by time, every row checked, each time once."""
    check_form(content, ("timestamp", *names), MAX_BYTES, MAX_ROWS)
    blocks: list[Block] = []
    count, kind = 0, None
    for rows, table in _blocks(content, ("timestamp", *names), progress):
        count += len(table)
        if count > MAX_ROWS:
            raise CsvError(f"the file has more than {MAX_ROWS:,} rows, which is the limit")
        columns = dict(zip(("timestamp", *names), zip(*table, strict=True), strict=True))
        numbers = {name: _numbers(columns[name], name, rows) for name in names}
        try:
            stamps, kind = read_timestamps(columns["timestamp"], kind)
        except TimestampError as error:
            raise CsvError(f"row {rows[error.row]}: {error.reason}") from None
        check(numbers, rows)
        blocks.append((numbers, stamps, rows))
    if not blocks:
        raise CsvError("the file has a header and no rows")
    return _unique(blocks)


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
    """The length of the bars: what the steps between their labels have in common, so that holes
    do not make it longer. Raises CsvError where there is none."""
    step = common_step_ns(pd.DatetimeIndex(bars.index))
    if step is None:
        raise CsvError("the file has fewer than 2 bars: their length cannot be told")
    if step % 1_000_000_000:
        raise CsvError(
            f"the bars are {step / 1e9:g} s long, by what the steps between their times have in "
            "common: whole seconds are allowed"
        )
    return step // 1_000_000_000


def _blocks(
    content: bytes, wanted: Sequence[str], progress: Progress
) -> Iterator[tuple[np.ndarray[Any, np.dtype[np.int64]], list[Sequence[str]]]]:
    """Some thousand rows at a time that are not blank: their numbers, and of each the fields of
    the columns `wanted`."""
    source = io.BytesIO(content)
    records = csv.reader(io.TextIOWrapper(source, "utf-8-sig", newline=""))
    names = header_names(next(records))
    at = [names.index(name) for name in wanted]
    fields, row = itemgetter(*at), 2
    while block := _next_rows(records, row):
        numbers, table = [], []
        for number, record in enumerate(block, row):
            if len(record) != len(names):
                _check_width(record, number, len(names), max(at))
            if not record:
                continue
            chosen = fields(record)
            if any(chosen):
                numbers.append(number)
                table.append(chosen)
        row += len(block)
        if table:
            yield np.array(numbers), table
        progress(source.tell(), len(content))


def _next_rows(records: Iterator[list[str]], row: int) -> list[list[str]]:
    try:
        return list(islice(records, BLOCK))
    except csv.Error as error:
        raise CsvError(
            f"a row after row {row - 1} is not a row of a table: {error}; is a quote not closed?"
        ) from None


def _check_width(record: Sequence[str], row: int, width: int, last: int) -> None:
    """Refuse a row whose fields do not stand under their names: a decimal comma shifts all
    behind it. Nothing after the last comma is no field."""
    if any(record[width:]):
        raise CsvError(
            f"row {row}: {len(record)} fields where the header names {width}; a comma within a "
            "number makes two of it: write 1234.5"
        )
    if record and len(record) <= last:
        raise CsvError(f"row {row}: {len(record)} fields where the header names {width}")


def _refuse(bad: Any, rows: Any, values: Any, reason: str) -> None:
    """Raise for the first row where `bad`; `reason` may hold {value}."""
    at = np.flatnonzero(bad)
    if len(at):
        raise CsvError(f"row {rows[at[0]]}: {reason.format(value=values[at[0]])}")


def _numbers(texts: Sequence[str], name: str, rows: Any) -> Any:
    try:
        values = np.array(texts, dtype=object).astype(np.float64)
    except ValueError:
        values = None
    if values is None or "_" in "".join(texts):  # 1_0 is ten to Python alone
        for row, text in zip(rows, texts, strict=True):
            if not _NUMBER.fullmatch(text.strip()):
                raise CsvError(
                    f"row {row}: {name} {shown(text)} is no number{_why_no_number(text)}"
                )
        raise CsvError(f"column {name} holds text that is no number")
    _refuse(~np.isfinite(values), rows, texts, f"{name} {{value!r}} is not finite")
    return values


_NUMBER = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE
)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,.'\u2019\s]\d{3})+(?:[.,]\d*)?")


def _why_no_number(text: str) -> str:
    """What can be told of the cause, with the cure."""
    bare = text.strip()
    if re.fullmatch(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", bare):
        return ": a comma is no decimal point; write 1234.5"
    if _THOUSANDS.fullmatch(bare):
        return ": write it without separators of thousands, as 1234.5"
    if re.search(r"[$€£¥%]", bare):
        return ": write the number alone, without a sign of currency or percent"
    if bare.lower() in ("", "-", "null", "none", "na", "n/a", "#n/a", "nil"):
        return ": leave out rows without a value"
    return ""


def _check_bars(numbers: dict[str, Any], rows: Any) -> None:
    high, low = numbers["high"], numbers["low"]
    _refuse(high < low, rows, high, "high {value} is below low")
    for name in ("open", "close"):
        outside = (numbers[name] < low) | (numbers[name] > high)
        _refuse(outside, rows, numbers[name], f"{name} {{value}} is outside low … high")
    _refuse(low <= 0, rows, low, "low {value} is not positive")
    _refuse(numbers["volume"] < 0, rows, numbers["volume"], "volume {value} is negative")


def _check_rates(numbers: dict[str, Any], rows: Any) -> None:
    rate = numbers["rate"]
    _refuse(
        ~(np.abs(rate) < 1.0),
        rows,
        rate,
        "rate {value} is no fraction between -1 and 1: 0.0001 is 1 basis point",
    )


def _unique(blocks: list[Block]) -> pd.DataFrame:
    numbers = {n: np.concatenate([block[0][n] for block in blocks]) for n in blocks[0][0]}
    micros = np.concatenate([block[1] for block in blocks])
    rows = np.concatenate([block[2] for block in blocks])
    stamps = pd.DatetimeIndex(micros.astype("datetime64[us]"), tz="UTC", name="ts")
    frame = pd.DataFrame(numbers, index=stamps)
    order = np.argsort(stamps.asi8, kind="stable")
    frame, rows = frame.iloc[order], rows[order]
    again = np.zeros(len(frame), dtype=bool)
    again[1:] = np.diff(stamps.asi8[order]) == 0
    if again.any():
        values = frame.to_numpy()
        differs = again.copy()
        differs[1:] &= (values[1:] != values[:-1]).any(axis=1)
        _refuse(
            differs,
            rows,
            frame.index.to_numpy(),
            "timestamp {value} stands there before with other values",
        )
    return frame[~again]
