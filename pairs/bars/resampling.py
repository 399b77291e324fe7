"""Ticks to bars, bars to larger bars, and the bars two legs have in common. Exact, vectorised.

A bar is labelled by its open time and starts at a UTC multiple of its length. A bar without
trades has no row, the last, unfinished bar is kept. Open and close are the first and the last
trade of the bar in the exchange's order, which timestamps alone cannot tell.
"""

from __future__ import annotations

import math
import re
from datetime import UTC
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pairs.bars.length import (
    NOTE,
    NS_PER_TICK,
    bar_length_ns,
    common_step_ns,
    noted_ns,
    refuse_different_lengths,
)
from pairs.checks import Array, Ints, raw_values
from pairs.jit import FLAGS, INT, INTS, VECTOR, compiled, helper

__all__ = [
    "align",
    "bar_length_ns",
    "bar_ns",
    "common_step_ns",
    "resample_bars",
    "ticks_to_bars",
]

_NS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_ALLOWED = '"1s", "1min", "5min", "1h", "1d": a positive integer and ms, s, min, h or d'
# Lengths that exchanges publish, for bars that do not say theirs.
_USUAL_NS = [
    n * 10**9
    for n in (
        1,
        5,
        15,
        30,
        60,
        180,
        300,
        900,
        1800,
        3600,
        7200,
        14_400,
        21_600,
        28_800,
        43_200,
        86_400,
    )
]
_REQUIRED = ("open", "high", "low", "close", "volume")
_SUMMED = ("quote_volume", "taker_buy_volume")  # beside volume, where present


def bar_ns(bar: str) -> int:
    """Give the length of a bar in nanoseconds.

    Parameters
    ----------
    bar : str
        A positive integer of up to 9 digits and its unit, ms, s, min, h or d (also D): "1s",
        "5min", "1h", "1d".

    Returns
    -------
    int
        Length in nanoseconds, above 0.

    Raises
    ------
    ValueError
        For anything else, "1m" included: m is minutes to an exchange and months to pandas. The
        message has the spelling that is meant.

    Examples
    --------
    >>> bar_ns("1s"), bar_ns("5min")
    (1000000000, 300000000000)
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
    """Make bars of length `bar` from single trades.

    Parameters
    ----------
    ticks : pandas.DataFrame, shape (n, ...)
        One row per trade, with a DatetimeIndex of any resolution (UTC; without a zone it is taken
        as UTC), in any order. Columns: price (quote per base, finite and above 0), size (base
        units, finite, at least 0); optional buyer_is_maker (True or False) and trade_id (integers).
    bar : str
        Length of a bar as `bar_ns` takes it: "1s", "5min", "1h", "1d".

    Returns
    -------
    pandas.DataFrame, shape (m, 7 or 8)
        One row per bar with a trade, in order of time; index `ts`: open times, UTC multiples of the
        length, of the same resolution (ms where that is too coarse for the length). Columns: open,
        high, low, close (price); volume (base units); quote_volume, Σ price·size (quote currency);
        taker_buy_volume (base units), where buyer_is_maker is given: the size whose buyer was the
        aggressor; trades (integers). No NaN. `attrs["bar_ns"]` is the length in nanoseconds.

    Raises
    ------
    ValueError
        Naming the row for a missing timestamp, a price that is not finite and positive, a size that
        is not finite and at least 0, or a buyer_is_maker that is neither True nor False; for a
        missing column, trade ids that are no integers, an index that is no DatetimeIndex, and a
        `bar` that is no length.

    See Also
    --------
    resample_bars : Larger bars from these.

    Notes
    -----
    Order: by time; trades of one timestamp by trade_id where that column is present, else as given.
    A bar without trades has no row; the last, unfinished bar is kept.

    Trades are not deduplicated here: identity is the store's business. Hundreds of trades can share
    one millisecond, so that time alone does not tell open from close: give trade_id.

    Examples
    --------
    >>> import pandas as pd
    >>> times = pd.to_datetime(["2024-01-01T00:00:00.2Z", "2024-01-01T00:00:00.7Z"])
    >>> ticks = pd.DataFrame({"price": [100.0, 101.0], "size": [1.0, 2.0]}, index=times)
    >>> bars = ticks_to_bars(ticks.assign(buyer_is_maker=[False, True]), "1s")
    >>> bars[["open", "high", "low", "close"]].to_numpy().tolist()
    [[100.0, 101.0, 100.0, 101.0]]
    >>> bars[["volume", "quote_volume", "taker_buy_volume", "trades"]].to_numpy().tolist()
    [[3.0, 302.0, 1.0, 2.0]]
    """
    length = bar_ns(bar)
    _check_frame("ticks", ticks, ("price", "size"))
    index = _utc("ticks", ticks.index, length)
    price, size = _floats("ticks", ticks, "price"), _floats("ticks", ticks, "size")
    flagged = "buyer_is_maker" in ticks
    maker = _flags(ticks, "buyer_is_maker") if flagged else np.zeros(0, dtype=np.bool_)
    stamps = index.asi8
    order = _tick_order(stamps, ticks)
    ordered = (stamps, price, size, maker)
    if order is not None:
        ordered = (stamps[order], price[order], size[order], maker[order] if flagged else maker)
    step = length // NS_PER_TICK[index.unit]
    good, labels, prices, sums, trades = cast(
        "tuple[bool, Ints, Array, Array, Ints]", _fold(*ordered, step)
    )
    if not good:
        _refuse_rows("ticks", ticks, "price", price, ~((price > 0) & (price < np.inf)), " above 0")
        _refuse_rows(
            "ticks", ticks, "size", size, ~((size >= 0) & (size < np.inf)), " of 0 or more"
        )
    out: dict[str, Array | Ints] = dict(zip(("open", "high", "low", "close"), prices, strict=True))
    out |= dict(zip(("volume", *_SUMMED), sums, strict=True))
    if not flagged:
        del out["taker_buy_volume"]
    out["trades"] = trades
    return _bars(out, _labels(labels, index.unit), length)


@helper
def _first_at(stamps, start, end):  # type: ignore[no-untyped-def]
    """First row from `start` on whose stamp is `end` or later: doubling steps, then halving."""
    low, step = start, 1
    while low + step < len(stamps) and stamps[low + step] < end:
        low += step
        step *= 2
    high = min(low + step, len(stamps))
    while high - low > 1:
        middle = (low + high) // 2
        if stamps[middle] < end:
            low = middle
        else:
            high = middle
    return high


@compiled(INTS, VECTOR, VECTOR, FLAGS, INT)
def _fold(stamps, price, size, maker, step):  # type: ignore[no-untyped-def]
    """Bars of ordered trades in one pass: whether all trades are surely usable (a NaN or an
    infinity shows in the sums), and the bars' labels, [open, high, low, close],
    [volume, quote, taker buy] and counts.
    """
    rows = len(stamps)
    most = 0 if rows == 0 else min(rows, (stamps[rows - 1] - stamps[0]) // step + 2)
    labels, trades = np.empty(most, np.int64), np.empty(most, np.int64)
    prices, sums = np.empty((4, most)), np.empty((3, most))
    bar, start, good, flagged = -1, 0, True, len(maker) > 0
    while start < rows:
        label = stamps[start] // step * step  # floors below 1970 too
        stop = _first_at(stamps, start, label + step)
        high, low, least = -np.inf, np.inf, np.inf
        volume = quote = bought = 0.0
        for row in range(start, stop):
            p, s = price[row], size[row]
            high = p if p > high else high
            low = p if p < low else low
            least = s if s < least else least
            volume += s
            quote += p * s
        good &= (low > 0.0) & (least >= 0.0) & (abs(quote) < np.inf) & (volume < np.inf)
        if flagged:
            for row in range(start, stop):
                bought += size[row] * (1 - maker[row])  # a branch here is a coin toss: 5x slower
        bar += 1
        labels[bar] = label
        trades[bar] = stop - start
        prices[0, bar], prices[3, bar] = price[start], price[stop - 1]
        prices[1, bar], prices[2, bar] = high, low
        sums[0, bar], sums[1, bar], sums[2, bar] = volume, quote, bought
        start = stop
    used = bar + 1
    return good, labels[:used], prices[:, :used].copy(), sums[:, :used].copy(), trades[:used]


def resample_bars(bars: pd.DataFrame, bar: str) -> pd.DataFrame:
    """Make larger bars from smaller ones: equal to building them from the ticks.

    Parameters
    ----------
    bars : pandas.DataFrame, shape (n, ...)
        One row per bar, with a DatetimeIndex of open times (UTC; without a zone taken as UTC), in
        any order, each once. Columns: open, high, low, close (price, finite), volume (base units,
        finite, at least 0); optional quote_volume (quote currency), taker_buy_volume (base units)
        and trades (counts), in which NaN is allowed. Other columns are dropped.
    bar : str
        Length of the new bars as `bar_ns` takes it; a multiple of the length of `bars`.

    Returns
    -------
    pandas.DataFrame, shape (m, 5 to 8)
        One row per new bar that holds a row, in order of time; index `ts`: open times in UTC, of
        the same resolution (ms where that is too coarse for the length). First open, highest high,
        lowest low, last close, sums of the rest, in the units given. Prices and trades come out
        exactly, sums to rounding. An optional column that is NaN anywhere in a bucket is NaN there:
        unknown is not zero; trades are integers unless some are unknown. `attrs["bar_ns"]` is the
        length in nanoseconds.

    Raises
    ------
    ValueError
        Where `bar` is shorter than the bars given or no multiple of them, or no length; for two
        rows with one label, prices or volumes that are not finite, a negative volume, a missing
        column or timestamp, and an index that is no DatetimeIndex.

    See Also
    --------
    ticks_to_bars : Bars from trades.
    bar_length_ns : How long bars are.

    Notes
    -----
    The length of the bars given is what `ticks_to_bars` noted in `attrs`, otherwise what their
    labels tell, see docs/methods.md; a single row without a note is taken on trust. The last,
    unfinished bar is kept. Prices may have any sign here.

    Examples
    --------
    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=3, freq="1min", tz="UTC")
    >>> prices = {"open": [10.0, 12.0, 9.0], "high": 13.0, "low": 8.0, "close": [12.0, 9.0, 11.0]}
    >>> bars = pd.DataFrame({**prices, "volume": [1.0, 2.0, 4.0]}, index)
    >>> resample_bars(bars, "5min").to_numpy().tolist()
    [[10.0, 13.0, 8.0, 11.0, 7.0]]
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
    """Take the rows whose timestamps both legs have; nothing is filled forward.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg with a DatetimeIndex of open times (UTC; without a zone taken as UTC), in
        any order, each once. Any columns, NaN in them included.

    Returns
    -------
    tuple of pandas.DataFrame
        Two frames (of y, of x) with the same UTC index `ts` in order of time and all their own
        columns, values as given. A bar that only one leg has is dropped: the other leg's price at
        that time was not known. What one leg notes of its length in `attrs["bar_ns"]`, both then
        note.

    Raises
    ------
    ValueError
        Where an index is no DatetimeIndex, misses a timestamp or holds one twice, and for bars of
        different length (`bar_length_ns`): the close of an hour is not that of its first quarter,
        though both bear one label.

    See Also
    --------
    bar_length_ns : How long bars are.

    Notes
    -----
    The arguments are not changed. No row takes a value from another one.

    Examples
    --------
    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=4, freq="1min", tz="UTC")
    >>> y = pd.DataFrame({"close": [1.0, 2.0, 3.0]}, index[:3])
    >>> x = pd.DataFrame({"close": [7.0, 8.0, 9.0]}, index[1:])
    >>> [leg["close"].tolist() for leg in align(y, x)]
    [[2.0, 3.0], [7.0, 8.0]]
    """
    sides = []
    for name, bars in (("bars_y", bars_y), ("bars_x", bars_x)):
        _check_frame(name, bars, ())
        sides.append(bars.set_axis(_utc(name, bars.index, 1)))
    y, x = sides
    _refuse_duplicates("bars_y", cast(pd.DatetimeIndex, y.index))
    refuse_different_lengths(y, x)
    if y.index.equals(x.index) and y.index.is_monotonic_increasing:
        return y, x.set_axis(y.index)
    _refuse_duplicates("bars_x", cast(pd.DatetimeIndex, x.index))
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
    if index.hasnans:
        missing = int(np.flatnonzero(index.isna())[0])
        raise ValueError(f"{name} has no timestamp at row {missing}: every row needs one")
    if index.tz is UTC:
        utc = index  # with what pandas already knows of its order
    else:
        utc = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    if length > 1 and length % NS_PER_TICK[utc.unit]:
        utc = utc.as_unit("ms")
    return utc if utc.name == "ts" else utc.rename("ts")


def _floats(name: str, frame: pd.DataFrame, column: str) -> Array:
    return raw_values(f"{name}[{column!r}]", frame[column])


def _flags(ticks: pd.DataFrame, column: str) -> npt.NDArray[np.bool_]:
    series = ticks[column]
    if series.dtype == np.bool_:
        return np.ascontiguousarray(series.to_numpy())
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
    if "trade_id" not in ticks:
        return None if _in_order(stamps, stamps[:0]) else np.argsort(stamps, kind="stable")
    series = ticks["trade_id"]
    if series.dtype.kind not in "iu" or series.isna().any():
        raise ValueError(f"ticks['trade_id'] has dtype {series.dtype}: integers are allowed")
    ids = np.ascontiguousarray(series.to_numpy(dtype=np.int64))
    return None if _in_order(stamps, ids) else np.lexsort((ids, stamps))


@compiled(INTS, INTS)
def _in_order(stamps, ids):  # type: ignore[no-untyped-def]
    """Whether rows stand in order of time, those of one time in that of their ids, if any."""
    for row in range(1, len(stamps)):
        if stamps[row] < stamps[row - 1]:
            return False
        if len(ids) and stamps[row] == stamps[row - 1] and ids[row] < ids[row - 1]:
            return False
    return True


def _buckets(index: pd.DatetimeIndex, length: int) -> tuple[Ints, Ints, pd.DatetimeIndex]:
    """First and last row of every bucket, and its label, for rows in order of time."""
    step = length // NS_PER_TICK[index.unit]
    number = index.asi8 // step  # floors below 1970 too
    first = np.ones(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(number))[: len(starts)] - 1
    return starts, ends, _labels(number[starts] * step, index.unit)


def _labels(stamps: Ints, unit: str) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(stamps.view(f"M8[{unit}]"), tz="UTC", name="ts")


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
    step = noted_ns(bars)
    if step is None and (common := common_step_ns(index)) is not None:
        step = _told_step(index, common)
    if step is None:
        return
    if length % step:
        why = "shorter than" if length < step else "no multiple of"
        raise ValueError(
            f"bar={bar!r} is {why} the bars given, which are {step / 1e9:g} s long: "
            "a multiple of their length is allowed"
        )


def _told_step(index: pd.DatetimeIndex, step: int) -> int:
    """Length of bars in nanoseconds by their labels, whose steps have `step` in common.

    The greatest common divisor of the labels where the rows stand in a row of equal steps;
    where some are missing, that divisor may be one of the holes, and the largest usual length
    that divides it is meant: bars at minutes 0, 2 and 6 are minutes, not two-minute bars.
    """
    steps = np.diff(index.asi8)
    common = math.gcd(step, int(index.asi8[0]) * NS_PER_TICK[index.unit])
    if len(steps) > 1 and (steps == steps[0]).all():
        return common
    return max((usual for usual in _USUAL_NS if common % usual == 0), default=common)


def _bars(columns: dict[str, Array | Ints], labels: pd.DatetimeIndex, length: int) -> pd.DataFrame:
    bars = pd.DataFrame(columns, index=labels)
    bars.attrs[NOTE] = length
    return bars
