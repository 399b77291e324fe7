"""Checks at the door of every public function, and the numbers taken out of pandas objects.

Every refusal names the argument, what was received and what is allowed.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import infer_dtype

__all__ = [
    "Array",
    "Ints",
    "check_choice",
    "check_ddof",
    "check_flag",
    "check_kind",
    "check_number",
    "check_window",
    "frame_values",
    "full_sample",
    "full_table",
    "raw_values",
    "same_index",
    "series_values",
    "two_series",
    "volume_values",
]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NUMERIC = {"integer", "floating", "mixed-integer-float", "decimal", "empty"}


def check_window(name: str, window: object, least: int) -> int:
    """`window` as int; ValueError where it is no integer or below `least`."""
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < least:
        raise ValueError(
            f"{name}={window!r} is not usable: an integer of at least {least} is allowed"
        )
    return int(window)


def check_number(name: str, value: object, low: float, high: float, *, open_low: bool) -> float:
    """`value` as float; ValueError outside (low, high), or [low, high) unless `open_low`."""
    real = isinstance(value, int | float | np.integer | np.floating)
    number = float(cast(float, value)) if real and not isinstance(value, bool) else math.nan
    if not (low < number < high or (number == low and not open_low)):
        bracket = "(" if open_low else "["
        raise ValueError(
            f"{name}={value!r} is not usable: a number in {bracket}{low:g}, {high:g}) is allowed"
        )
    return number


def check_ddof(ddof: object, count: int) -> int:
    """`ddof` as int; ValueError unless 0 ≤ ddof < `count`, the number of values deviated over."""
    if isinstance(ddof, bool) or not isinstance(ddof, int | np.integer) or not 0 <= ddof < count:
        raise ValueError(
            f"ddof={ddof!r} is not usable: an integer from 0 to {count - 1} is allowed"
        )
    return int(ddof)


def check_flag(name: str, value: object) -> bool:
    """`value` as bool; ValueError where it is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}={value!r} is not usable: True or False is allowed")
    return bool(value)


def check_kind(name: str, given: object, kind: type) -> None:
    """ValueError where it is something else than a `kind`."""
    if not isinstance(given, kind):
        raise ValueError(f"{name} is a {type(given).__name__}: {kind.__name__} is allowed")


def raw_values(name: str, series: object) -> Array:
    """The numbers of a Series as a float array not to be written to, NaN where missing.

    Raises ValueError where `series` is no Series or not numeric. Numbers written as text are
    text; of Python objects, int, float and Decimal are numbers.
    """
    if not isinstance(series, pd.Series):
        raise ValueError(f"{name} is a {type(series).__name__}: a pandas Series is allowed")
    kind = series.dtype.kind
    numeric = kind in "iuf" or (kind == "O" and infer_dtype(series, skipna=True) in _NUMERIC)
    try:
        if not numeric:
            raise TypeError
        return np.ascontiguousarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} has dtype {series.dtype}: real numbers are allowed") from None


def series_values(name: str, series: object) -> Array:
    """As `raw_values`, and NaN where infinite."""
    values = raw_values(name, series)
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, np.nan)


def same_index(name_a: str, a: pd.Series[float], name_b: str, b: pd.Series[float]) -> None:
    """ValueError unless both Series have the same index."""
    if not a.index.equals(b.index):
        raise ValueError(
            f"{name_a} ({len(a)} rows) and {name_b} ({len(b)} rows) have different indexes: "
            "equal ones are allowed, see resampling.align"
        )


def full_sample(name: str, series: object, least: int) -> Array:
    """The values of a Series of at least `least` finite rows; ValueError otherwise."""
    values = series_values(name, series)
    if len(values) < least:
        raise ValueError(f"{name} has {len(values)} rows: at least {least} are allowed")
    bad = np.flatnonzero(np.isnan(values))
    if bad.size and isinstance(series, pd.Series):
        row = int(bad[0])
        raise ValueError(
            f"{name} is {series.iloc[row]} at row {row} ({series.index[row]}): "
            "only finite numbers are allowed"
        )
    return values


def frame_values(name: str, frame: object, column: str) -> Array:
    """One column of a frame, as `series_values`; ValueError where the column is missing."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} is a {type(frame).__name__}: a pandas DataFrame is allowed")
    if column not in frame.columns:
        had = ", ".join(map(str, frame.columns)) or "none"
        raise ValueError(f"{name} has no column {column!r}: its columns are {had}")
    return series_values(f"{name}[{column!r}]", frame[column])


def two_series(
    name_a: str, a: pd.Series[float], name_b: str, b: pd.Series[float]
) -> tuple[Array, Array]:
    """The values of two Series of one index, as `series_values`."""
    values = series_values(name_a, a), series_values(name_b, b)
    same_index(name_a, a, name_b, b)
    return values


def full_table(name: str, frame: object, columns: int, rows: int) -> Array:
    """The finite numbers of a frame of at least so many columns and rows, one column per leg."""
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} is a {type(frame).__name__}: a pandas DataFrame is allowed")
    if frame.shape[1] < columns:
        raise ValueError(f"{name} has {frame.shape[1]} columns: at least {columns} are allowed")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{name} has column {twice!r} more than once: each once is allowed")
    parts = [full_sample(f"{name}[{key!r}]", frame[key], rows) for key in frame.columns]
    return np.column_stack(parts)


def volume_values(bars: object, column: str = "volume", name: str = "bars") -> Array:
    """A column of volumes, as `frame_values`; ValueError where one is negative."""
    values = frame_values(name, bars, column)
    if (bad := np.flatnonzero(values < 0)).size:
        raise ValueError(
            f"{name}[{column!r}] is {values[bad[0]]:g} at row {bad[0]}: 0 or more is allowed"
        )
    return values


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """`value` where it is one of `allowed`; ValueError otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value!r} is not usable: one of {', '.join(allowed)} is allowed")
    return value
