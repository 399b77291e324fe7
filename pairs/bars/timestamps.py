"""The times of files: text to UTC, by one rule for whoever reads any. Pure.

A column is of one kind: ISO-8601 (year first; without a zone UTC), dates written in 8, 12, 14 or
17 digits, or epochs in s, ms or µs. What could mean two things, or was rounded on its way, is
refused with what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Micros = npt.NDArray[np.int64]
ISO = "ISO-8601"
FIRST_YEAR, END_YEAR = 1900, 2100
CURE = "write times as 2024-01-31 13:45:00 (UTC), or as epochs in s, ms or µs"
SHEET_CURE = "format the column as text, or as yyyy-mm-dd hh:mm:ss, and save the file again"
SHOWN = 60  # characters of what was received that a message repeats

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_YEAR_FIRST = re.compile(r"\d{4}[-/. ]?\d.*", re.ASCII)
_YEAR_LAST = re.compile(r"\d{1,2}[-/. ]\d{1,2}[-/. ]\d{2,4}\b.*", re.ASCII)
_DATE_DIGITS = (8, 12, 14, 17)  # to the day, the minute, the second, the millisecond
# Epochs by magnitude, from 1973 to END_YEAR: name, from, to, how many make a second.
_END_S = int((datetime(END_YEAR, 1, 1) - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001
_EPOCHS = (
    ("epoch in s", 10**8, _END_S, 1),
    ("epoch in ms", 10**11, _END_S * 10**3, 10**3),
    ("epoch in µs", 10**14, _END_S * 10**6, 10**6),
)
_PER_S = {name: per_s for name, _, _, per_s in _EPOCHS}
_SERIALS = (20_000, 80_000)  # days since 1899-12-30 of 1954 … 2119, as spreadsheets count


class TimestampError(ValueError):
    """A text is no time that can be relied on; `row` is its position, from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.reason = reason


def read_timestamps(texts: Sequence[str], kind: str | None = None) -> tuple[Micros, str | None]:
    """µs since 1970 of each text, and what kind they are of (None of none). `kind`: what earlier
    texts of the same column were. Raises TimestampError."""
    texts = [text.strip() for text in texts]
    if not texts:
        return np.zeros(0, dtype=np.int64), kind
    whole = _epochs_of_one_length(texts, kind)
    if whole is not None:
        return whole
    first = kind
    for row, text in enumerate(texts):
        try:
            found = kind_of(text)
        except ValueError as error:
            raise TimestampError(row, str(error)) from None
        first = first or found
        if found != first:
            raise TimestampError(
                row,
                f"timestamp {shown(text)} is {found}, the ones before are {first}: "
                "one kind in a column is allowed",
            )
    return _converted(texts, first), first


def kind_of(text: str) -> str:
    """What kind of time a text is; ValueError with the reason where it is none."""
    if len(text) <= SHOWN and _NUMBER.fullmatch(text):
        return _kind_of_number(text)
    if _YEAR_FIRST.fullmatch(text):
        return ISO
    if not text:
        raise ValueError("the timestamp is empty")
    if _YEAR_LAST.fullmatch(text):
        raise ValueError(
            f"timestamp {shown(text)} does not tell the day from the month for sure: "
            "write the year first, as 2024-01-31"
        )
    raise ValueError(f"timestamp {shown(text)} is neither ISO-8601 nor an epoch: {CURE}")


def shown(text: str) -> str:
    """What was received, in quotes and not too long."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _kind_of_number(text: str) -> str:
    digits, exponent = _digits_of(text)
    if _as_date(digits) is not None and exponent <= 0:
        return f"a date of {len(digits)} digits"
    value = int(digits)
    for name, low, end, per_s in _EPOCHS:
        if low <= value < end:
            if 10**exponent > per_s:
                break
            _refuse_date_and_hour(text, digits)
            return name
    raise ValueError(f"timestamp {shown(text)} {_why_no_epoch(text, value, exponent)}")


def _digits_of(text: str) -> tuple[str, int]:
    """The whole part of a number, and by which power of ten its last written digit counts; a
    fraction of zeros is none."""
    if text.isdigit():
        return text, 0
    number = Decimal(text.replace(",", "."))
    if number.adjusted() > 20 or number.adjusted() < 0:
        return "0", 0
    exponent = int(number.as_tuple().exponent)
    return str(int(number)), exponent if exponent > 0 or number % 1 else 0


def _as_date(digits: str) -> str | None:
    """Digits that are a date, as ISO-8601; None where they are none."""
    if len(digits) not in _DATE_DIGITS or not FIRST_YEAR <= int(digits[:4]) < END_YEAR:
        return None
    hour, minute, second = digits[8:10] or "00", digits[10:12] or "00", digits[12:14] or "00"
    iso = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{hour}:{minute}:{second}"
    try:
        datetime.fromisoformat(iso)
    except ValueError:
        return None
    return f"{iso}.{digits[14:] or '000'}"


def _refuse_date_and_hour(text: str, digits: str) -> None:
    """2024010113 is an epoch of 2034, and more likely an hour of 2024."""
    if len(digits) == 10 and _as_date(f"{digits}00") is not None:
        raise ValueError(
            f"timestamp {shown(text)} may be an epoch or a date with its hour: "
            "write 2024-01-31 13:00"
        )


def _why_no_epoch(text: str, value: int, exponent: int) -> str:
    if exponent > 0:
        return f"was rounded by a spreadsheet: its digits do not reach whole seconds; {SHEET_CURE}"
    if _SERIALS[0] <= value < _SERIALS[1]:
        day = pd.Timestamp("1899-12-30") + pd.Timedelta(days=value)
        return f"is a spreadsheet's day number ({day:%Y-%m-%d}): {SHEET_CURE}"
    if 10**17 <= value < _END_S * 10**9:
        return "may be an epoch in ns: divide by 1,000; s, ms and µs are allowed"
    return f"is no date and no epoch in s, ms or µs from 1973 to {END_YEAR - 1}: {CURE}"


def _epochs_of_one_length(
    texts: Sequence[str], kind: str | None
) -> tuple[Micros, str | None] | None:
    """The usual column at once: epochs of as many digits each, which are no date by their number;
    None where it is another."""
    joined, width = "".join(texts), len(texts[0])
    if width in (*_DATE_DIGITS, 10) or not (joined.isascii() and joined.isdigit()):
        return None
    if any(len(text) != width for text in texts):
        return None
    values = np.array(texts).astype(np.int64) if width < 19 else np.zeros(1, dtype=np.int64)
    for name, low, end, per_s in _EPOCHS:
        if kind in (None, name) and low <= values.min() and values.max() < end:
            return values * (10**6 // per_s), name
    return None


def _converted(texts: Sequence[str], kind: str | None) -> Micros:
    if kind in _PER_S:
        exact = (Decimal(text.replace(",", ".")) * (10**6 // _PER_S[kind]) for text in texts)
        return np.array([round(value) for value in exact], dtype=np.int64)
    dated: Any = texts if kind == ISO else [_as_date(_digits_of(text)[0]) for text in texts]
    stamps = pd.to_datetime(pd.Series(dated), format="ISO8601", utc=True, errors="coerce")
    years = stamps.dt.year.to_numpy()
    bad = np.flatnonzero(~((years >= FIRST_YEAR) & (years < END_YEAR)))
    if len(bad):
        row = int(bad[0])
        wrong = f"lies outside the years {FIRST_YEAR} to {END_YEAR - 1}"
        wrong = "is no date that exists" if stamps.isna()[row] else wrong
        raise TimestampError(row, f"timestamp {shown(texts[row])} {wrong}: {CURE}")
    return pd.DatetimeIndex(stamps).as_unit("us").asi8
