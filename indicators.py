"""Indicators of one price series, and the rolling windows that all pair maths stands on.

The windows are O(rows) and do not lose digits, whatever the price level or the length of the
history. Rows are cut into blocks as long as the window, so that every window is the tail of one
block and the head of the next (van Herk 1992, Gil and Werman 1993), and both are summed relative
to an anchor: the head's first value, which *every* window across that seam contains. Therefore
nothing outside a window ever enters its sums (a NaN or an outlier cannot leak), a window of equal
values has deviation exactly 0, and the subtraction `Σd² - (Σd)²/n` magnifies rounding by n at the
very most. The blocks start at row 0, so a longer history changes no earlier bit.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import Day, Tick

__all__ = ["bollinger_bands", "ema", "sma", "vwap"]

Array = npt.NDArray[np.float64]
NS_PER_DAY = 86_400_000_000_000


def check_window(name: str, window: object, least: int) -> int:
    """`window` as int; ValueError where it is no integer or below `least`."""
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < least:
        raise ValueError(
            f"{name}={window!r} is not usable: an integer of at least {least} is allowed"
        )
    return int(window)


def check_number(name: str, value: object, low: float, high: float, *, open_low: bool) -> float:
    """`value` as float; ValueError outside (low, high), or [low, high) unless `open_low`."""
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
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


def series_values(name: str, series: object) -> Array:
    """The numbers of a Series as a new float array, NaN where a value is missing or infinite.

    Raises ValueError where `series` is no Series or not numeric.
    """
    if not isinstance(series, pd.Series):
        raise ValueError(f"{name} is a {type(series).__name__}: a pandas Series is allowed")
    kind = series.dtype.kind
    try:
        if kind not in "iufO":
            raise TypeError
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(f"{name} has dtype {series.dtype}: real numbers are allowed") from None
    return np.where(np.isfinite(values), values, np.nan)


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


class Moments:
    """Mean and centred second moments of every window of `window` rows.

    Arrays as long as `values`; NaN for the first window-1 rows and for exactly the rows whose
    window holds a NaN. `mean`: of the window. `offset`: the row's own value minus that mean.
    `squares`: Σ(v - mean)², exactly 0 where all values of the window are equal, else above 0.
    """

    def __init__(self, values: Array, window: int) -> None:
        self.window, self.rows = window, len(values)
        # A window longer than the series needs no room of its own: every row is warm-up.
        self._length = min(window, max(self.rows, 1))
        seams = -(-self.rows // self._length)
        blocks = np.zeros((seams + 1, self._length))
        blocks.reshape(-1)[self._length : self._length + self.rows] = values
        with np.errstate(all="ignore"):
            anchor = blocks[1:, :1]
            self._tail, self._head = blocks[:-1] - anchor, blocks[1:] - anchor
            self._sum = self._over_seam(self._tail, self._head)
            mean_of_head = self._sum / window
            anchors = np.repeat(anchor, self._length)[: self.rows]
            self.mean = anchors + mean_of_head
            self.offset = self._head.reshape(-1)[: self.rows] - mean_of_head

    @cached_property
    def squares(self) -> Array:
        """Σ(v - mean)² of every window."""
        return np.maximum(self.cross(self), 0.0)

    def cross(self, other: Moments) -> Array:
        """Σ(v - mean)(w - mean) over every window of the two series."""
        with np.errstate(all="ignore"):
            products = self._over_seam(self._tail * other._tail, self._head * other._head)
            return products - self._sum * (other._sum / self.window)

    def deviation(self, ddof: int) -> Array:
        """Standard deviation of every window."""
        return np.sqrt(self.squares / (self.window - ddof))

    def _over_seam(self, tail: Array, head: Array) -> Array:
        """Sums over the windows that end in `head`: its first rows plus the rest of `tail`."""
        sums = np.cumsum(head, axis=1)
        sums[:, :-1] += np.cumsum(tail[:, :0:-1], axis=1)[:, ::-1]
        flat: Array = sums.reshape(-1)[: self.rows]
        flat[: self.window - 1] = np.nan
        return flat


def sma(close: pd.Series[float], window: int) -> pd.Series[float]:
    """Simple moving average: the mean of the last `window` closes.

    Shape, index and name of `close`; in its unit. NaN for the first window-1 rows and for
    exactly the rows whose window holds a NaN or an infinity. Row t uses rows t-window+1 … t.
    Raises ValueError where `window` is no integer or below 1.
    """
    length = check_window("window", window, 1)
    mean = Moments(series_values("close", close), length).mean
    return pd.Series(mean, index=close.index, name=close.name)


def ema(close: pd.Series[float], span: int) -> pd.Series[float]:
    """Exponential moving average, alpha = 2/(span+1), begun at the mean of the first span closes.

    Shape, index and name of `close`; in its unit. NaN before row span-1 (Excel, TA-Lib,
    Stock.Indicators; pandas' `ewm` begins at the first close instead and differs for some
    5·span rows). A NaN or infinity makes that row and the span-1 rows after it NaN, as it does
    for every window of span rows; the average then begins anew from the span closes behind it.
    Raises ValueError where `span` is no integer or below 1.
    """
    length = check_window("span", span, 1)
    values = series_values("close", close)
    result = np.full(len(values), np.nan)
    known = np.concatenate(([False], ~np.isnan(values), [False]))
    edges = np.flatnonzero(known[1:] != known[:-1])
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start >= length:
            result[start + length - 1 : stop] = _ema_of_run(values[start:stop].tolist(), length)
    return pd.Series(result, index=close.index, name=close.name)


def _ema_of_run(values: list[float], span: int) -> list[float]:
    alpha = 2.0 / (span + 1)
    level = math.fsum(values[:span]) / span
    path = [level]
    for value in values[span:]:
        level += alpha * (value - level)
        path.append(level)
    return path


def bollinger_bands(
    close: pd.Series[float], window: int = 20, n_std: float = 2.0, *, ddof: int = 0
) -> pd.DataFrame:
    """Bollinger bands: moving average ± `n_std` standard deviations of the same window.

    Columns middle, upper, lower with the index of `close`, in its unit. ddof 0 (the population's
    deviation) is Bollinger's own. NaN as `sma`; a window of equal closes has zero width.
    Raises ValueError for a window that is no integer or below 1, a negative or non-finite
    `n_std`, a ddof outside 0 … window-1.
    Source: Bollinger, *Bollinger on Bollinger Bands* (2001).
    """
    length = check_window("window", window, 1)
    width = check_number("n_std", n_std, 0.0, math.inf, open_low=False)
    moments = Moments(series_values("close", close), length)
    reach = width * moments.deviation(check_ddof(ddof, length))
    bands = {"middle": moments.mean, "upper": moments.mean + reach, "lower": moments.mean - reach}
    return pd.DataFrame(bands, index=close.index)


def vwap(bars: pd.DataFrame, session: str | None = None) -> pd.Series[float]:
    """Volume-weighted average price since the first row, or since the session began.

    `bars`: high, low, close (price), volume (base units), in order of time. Σ p·v / Σ v with the
    typical price p = (high + low + close)/3. `session`: None, or a pandas offset of fixed length
    ("1h", "1D"); the sums then restart at each UTC multiple of it, bars being labelled by their
    open time. A Series "vwap" with the index of `bars`. NaN where nothing has traded yet, and
    from a NaN or infinity to the end of its session; the next session is not touched.
    Raises ValueError for a missing column, negative volume, a session that is no fixed length,
    or rows out of order.
    """
    high, low, close, volume = (
        frame_values("bars", bars, column) for column in ("high", "low", "close", "volume")
    )
    if (bad := np.flatnonzero(volume < 0)).size:
        raise ValueError(
            f"bars['volume'] is {volume[bad[0]]:g} at row {bad[0]}: 0 or more is allowed"
        )
    typical = (high + low + close) / 3.0
    result = np.empty(len(typical))
    for start, stop in pairwise([*_session_starts(bars.index, session), len(typical)]):
        base = typical[start]  # relative to it, no digits are lost however long the session
        weight = volume[start:stop]
        with np.errstate(invalid="ignore", divide="ignore"):
            drift = np.cumsum((typical[start:stop] - base) * weight) / np.cumsum(weight)
        result[start:stop] = base + drift
    return pd.Series(result, index=bars.index, name="vwap")


def _session_starts(index: pd.Index, session: object) -> list[int]:
    """First row of every session."""
    if len(index) == 0:
        return []
    if session is None:
        return [0]
    length = _session_ns(session)
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise ValueError("bars need a DatetimeIndex in order of time where a session is given")
    number = index.as_unit("ns").asi8 // length
    return [0, *(np.flatnonzero(number[1:] != number[:-1]) + 1).tolist()]


def _session_ns(session: object) -> int:
    allowed = 'None or a pandas offset of fixed length such as "1h" or "1D" is allowed'
    try:
        offset = to_offset(session)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"session={session!r} is not usable: {allowed}") from None
    if isinstance(offset, Day):
        length = offset.n * NS_PER_DAY
    elif isinstance(offset, Tick):
        length = int(offset.nanos)
    else:
        length = 0
    if length <= 0:
        raise ValueError(f"session={session!r} is not usable: {allowed}")
    return length
