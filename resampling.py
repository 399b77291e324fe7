"""Ticks to bars, bars to larger bars, and the bars two legs have in common. Exact, vectorised.

A bar is labelled by its open time and starts at a UTC multiple of its length. A bar without
trades has no row, the last, unfinished bar is kept. Open and close are the first and the last
trade of the bar in the exchange's order, which timestamps alone cannot tell.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["align", "bar_ns", "resample_bars", "ticks_to_bars"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_NS_PER_TICK = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_ALLOWED = '"1s", "1min", "5min", "1h", "1d": a positive integer and ms, s, min, h or d'
_REQUIRED = ("open", "high", "low", "close", "volume")
_SUMMED = ("quote_volume", "taker_buy_volume")  # beside volume, where present
_STEP = "bar_ns"  # DataFrame.attrs: what sparse bars cannot tell about their own length


def bar_ns(bar: str) -> int:
    """Length of a bar in nanoseconds: "1s", "5min", "1h", "1d".

    Raises ValueError for anything else, "1m" included: m is minutes to an exchange and months
    to pandas.
    """
    match = (
        re.fullmatch(r"([1-9][0-9]{0,8})(ms|s|min|h|d|D)", bar) if isinstance(bar, str) else None
    )
    if match is None:
        hint = ""
        if isinstance(bar, str) and re.fullmatch(r"\d+[mMT]", bar):
            hint = f'; for minutes write "{bar[:-1]}min"'
        raise ValueError(f"bar={bar!r} is not usable: allowed is {_ALLOWED}{hint}")
    return int(match[1]) * _NS[match[2].lower()]


def ticks_to_bars(ticks: pd.DataFrame, bar: str) -> pd.DataFrame:
    """Bars of length `bar` from single trades.

    `ticks`: DatetimeIndex of any resolution (UTC; without a zone it is taken as UTC), columns
    price, size [, buyer_is_maker] [, trade_id]. Returns index `ts` (UTC, same resolution) and
    open, high, low, close, volume, quote_volume [, taker_buy_volume], trades; taker_buy_volume
    is the size whose buyer was the aggressor.
    Order: by time; trades of one timestamp by trade_id where that column is present, else as
    given. Trades are not deduplicated here: identity is the store's business.
    Raises ValueError naming the row for a missing timestamp, a price that is not finite and
    positive, or a size that is not finite and at least 0.
    """
    length = bar_ns(bar)
    _check_frame("ticks", ticks, ("price", "size"))
    index = _utc("ticks", ticks.index, length)
    price, size = _floats("ticks", ticks, "price"), _floats("ticks", ticks, "size")
    _refuse_rows("ticks", ticks, "price", price, ~(np.isfinite(price) & (price > 0)), " above 0")
    _refuse_rows("ticks", ticks, "size", size, ~(np.isfinite(size) & (size >= 0)), " of 0 or more")
    columns = {"price": price, "size": size}
    if "buyer_is_maker" in ticks:
        columns["taker_buy"] = np.where(_flags(ticks, "buyer_is_maker"), 0.0, size)
    order = _tick_order(index.asi8, ticks)
    if order is not None:
        index = index[order]
        columns = {name: values[order] for name, values in columns.items()}
    price, size = columns["price"], columns["size"]
    starts, ends, labels = _buckets(index, length)
    out: dict[str, Array | Ints] = {
        "open": price[starts],
        "high": _reduce(np.maximum, price, starts),
        "low": _reduce(np.minimum, price, starts),
        "close": price[ends],
        "volume": _reduce(np.add, size, starts),
        "quote_volume": _reduce(np.add, price * size, starts),
    }
    if "taker_buy" in columns:
        out["taker_buy_volume"] = _reduce(np.add, columns["taker_buy"], starts)
    out["trades"] = ends - starts + 1
    return _bars(out, labels, length)


def resample_bars(bars: pd.DataFrame, bar: str) -> pd.DataFrame:
    """Larger bars from smaller ones: equal to building them from the ticks.

    `bars`: DatetimeIndex (UTC; without a zone taken as UTC), columns open, high, low, close,
    volume [, quote_volume, taker_buy_volume, trades]; other columns are dropped. Prices and
    trades come out exactly, sums to rounding. A bracketed column that is NaN anywhere in a
    bucket is NaN there: unknown is not zero.
    Raises ValueError where `bar` is shorter than the bars given or no multiple of them (their
    length is what `ticks_to_bars` noted in `attrs`, otherwise the greatest common divisor of
    their labels), for two rows with one label, and for prices or volumes that are not finite.
    """
    length = bar_ns(bar)
    _check_frame("bars", bars, _REQUIRED)
    index = _utc("bars", bars.index, length)
    _refuse_duplicates("bars", index)
    optional = [name for name in _SUMMED if name in bars]
    values = {name: _floats("bars", bars, name) for name in (*_REQUIRED, *optional)}
    for name in _REQUIRED:
        _refuse_rows("bars", bars, name, values[name], ~np.isfinite(values[name]), "")
    _refuse_rows("bars", bars, "volume", values["volume"], values["volume"] < 0, " of 0 or more")
    if not index.is_monotonic_increasing:
        order = np.argsort(index.asi8, kind="stable")
        index, bars = index[order], bars.iloc[order]
        values = {name: column[order] for name, column in values.items()}
    _check_step(bars, index, length, bar)
    starts, ends, labels = _buckets(index, length)
    out: dict[str, Array | Ints] = {
        "open": values["open"][starts],
        "high": _reduce(np.maximum, values["high"], starts),
        "low": _reduce(np.minimum, values["low"], starts),
        "close": values["close"][ends],
    }
    for name in ("volume", *optional):
        out[name] = _reduce(np.add, values[name], starts)
    if "trades" in bars:
        out["trades"] = _summed_trades(bars, starts)
    return _bars(out, labels, length)


def align(bars_y: pd.DataFrame, bars_x: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose timestamps both legs have, in order of time; nothing is filled forward.

    Two frames with the same UTC index `ts` and all their own columns. A bar that only one leg
    has is dropped: the other leg's price at that time was not known.
    Raises ValueError where an index is no DatetimeIndex or holds one timestamp twice.
    """
    sides = []
    for name, bars in (("bars_y", bars_y), ("bars_x", bars_x)):
        _check_frame(name, bars, ())
        index = _utc(name, bars.index, 1)
        _refuse_duplicates(name, index)
        sides.append(bars.set_axis(index))
    y, x = sides
    if y.index.equals(x.index) and y.index.is_monotonic_increasing:
        return y, x.set_axis(y.index)
    common = y.index.intersection(x.index).sort_values().rename("ts")
    return (
        y.take(y.index.get_indexer(common)).set_axis(common),
        x.take(x.index.get_indexer(common)).set_axis(common),
    )


def _check_frame(name: str, frame: object, columns: tuple[str, ...]) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} is a {type(frame).__name__}: a pandas DataFrame is allowed")
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        had = ", ".join(map(str, frame.columns)) or "none"
        raise ValueError(f"{name} has no column {', '.join(missing)}: its columns are {had}")


def _utc(name: str, index: pd.Index, length: int) -> pd.DatetimeIndex:
    """The index in UTC, named ts, fine enough for bars of `length` nanoseconds."""
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"{name} has a {type(index).__name__}: a DatetimeIndex in UTC is allowed")
    missing = np.flatnonzero(index.isna())
    if missing.size:
        raise ValueError(f"{name} has no timestamp at row {missing[0]}: every row needs one")
    utc = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    if length > 1 and length % _NS_PER_TICK[utc.unit]:
        utc = utc.as_unit("ms")
    return utc.rename("ts")


def _floats(name: str, frame: pd.DataFrame, column: str) -> Array:
    series = frame[column]
    try:
        if series.dtype.kind not in "iufO":
            raise TypeError
        values: Array = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}[{column!r}] has dtype {series.dtype}: real numbers are allowed"
        ) from None
    return values


def _flags(ticks: pd.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    series = ticks[column]
    known = series.isin([True, False])
    if not known.all():
        row = int(np.flatnonzero(~known.to_numpy())[0])
        raise ValueError(
            f"ticks[{column!r}] is {series.iloc[row]!r} at row {row}: True or False is allowed"
        )
    return series.to_numpy(dtype=np.bool_)


def _refuse_rows(
    name: str,
    frame: pd.DataFrame,
    column: str,
    values: Array,
    bad: npt.NDArray[np.bool_],
    allowed: str,
) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{name}[{column!r}] is {values[row]:g} at row {row} ({frame.index[row]}): "
            f"a finite number{allowed} is allowed"
        )


def _refuse_duplicates(name: str, index: pd.DatetimeIndex) -> None:
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(f"{name} holds {twice} more than once: one row per timestamp is allowed")


def _tick_order(stamps: Ints, ticks: pd.DataFrame) -> Ints | None:
    """Rows in the exchange's order, None where they stand in it already."""
    steps = np.diff(stamps)
    if "trade_id" not in ticks:
        return None if (steps >= 0).all() else np.argsort(stamps, kind="stable")
    series = ticks["trade_id"]
    if series.dtype.kind not in "iu" or series.isna().any():
        raise ValueError(f"ticks['trade_id'] has dtype {series.dtype}: integers are allowed")
    ids = series.to_numpy(dtype=np.int64)
    if ((steps > 0) | ((steps == 0) & (np.diff(ids) >= 0))).all():
        return None
    return np.lexsort((ids, stamps))


def _buckets(index: pd.DatetimeIndex, length: int) -> tuple[Ints, Ints, pd.DatetimeIndex]:
    """First and last row of every bucket, and its label, for rows in order of time."""
    step = length // _NS_PER_TICK[index.unit]
    number = index.asi8 // step  # floors below 1970 too
    first = np.ones(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(number))[: len(starts)] - 1
    labels = (number[starts] * step).view(f"M8[{index.unit}]")
    return starts, ends, pd.DatetimeIndex(labels, tz="UTC", name="ts")


def _reduce(how: np.ufunc, values: Array, starts: Ints) -> Array:
    return np.asarray(how.reduceat(values, starts)) if len(starts) else values[:0]


def _summed_trades(bars: pd.DataFrame, starts: Ints) -> Array | Ints:
    """Counts of trades stay integers unless some are unknown."""
    trades = bars["trades"]
    if trades.dtype.kind not in "iu" or trades.isna().any():
        return _reduce(np.add, _floats("bars", bars, "trades"), starts)
    counts: Ints = trades.to_numpy(dtype=np.int64)
    return np.add.reduceat(counts, starts) if len(starts) else counts[:0]


def _check_step(bars: pd.DataFrame, index: pd.DatetimeIndex, length: int, bar: str) -> None:
    """Refuse to cut bars into pieces. A single row without a noted length is taken on trust."""
    step = bars.attrs.get(_STEP)
    if not isinstance(step, int) or step <= 0:
        if len(index) < 2:
            return
        stamps = index.asi8
        common = math.gcd(int(np.gcd.reduce(np.diff(stamps))), int(stamps[0]))
        step = common * _NS_PER_TICK[index.unit]
    if length % step:
        why = "shorter than" if length < step else "no multiple of"
        raise ValueError(
            f"bar={bar!r} is {why} the bars given, which are {step / 1e9:g} s long: "
            "a multiple of their length is allowed"
        )


def _bars(columns: dict[str, Array | Ints], labels: pd.DatetimeIndex, length: int) -> pd.DataFrame:
    bars = pd.DataFrame(columns, index=labels)
    bars.attrs[_STEP] = length
    return bars
