"""Indicators of one instrument: averages, bands, volume-weighted prices, volatility, order flow."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import Day, Tick

from pairs.analytics.windows import window_mean_deviation, window_sum, window_weighted_mean
from pairs.checks import (
    Array,
    check_ddof,
    check_number,
    check_window,
    frame_values,
    series_values,
    volume_values,
)

__all__ = [
    "anchored_vwap", "bollinger_bands", "ema", "order_flow_imbalance",
    "realised_volatility", "rolling_vwap", "sma", "vwap",
]  # fmt: skip

NS_PER_DAY = 86_400_000_000_000


def sma(close: pd.Series[float], window: int) -> pd.Series[float]:
    """Simple moving average: the mean of the last `window` closes.

    Shape, index and name of `close`; in its unit. NaN for the first window-1 rows and for
    exactly the rows whose window holds a NaN or an infinity. Row t uses rows t-window+1 … t.
    Raises ValueError where `window` is no integer or below 1.
    """
    length = check_window("window", window, 1)
    mean, _ = window_mean_deviation(series_values("close", close), length, 0)
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
    values = series_values("close", close)
    mean, deviation = window_mean_deviation(values, length, check_ddof(ddof, length))
    reach = width * deviation
    bands = {"middle": mean, "upper": mean + reach, "lower": mean - reach}
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
    typical, volume = _typical(bars)
    result = np.empty(len(typical))
    for start, stop in pairwise([*_session_starts(bars.index, session), len(typical)]):
        result[start:stop] = _running_average(typical[start:stop], volume[start:stop])
    return pd.Series(result, index=bars.index, name="vwap")


def rolling_vwap(bars: pd.DataFrame, window: int) -> pd.Series[float]:
    """Volume-weighted average price of the last `window` rows.

    `bars` as for `vwap`; Σ p·v / Σ v with the typical price p = (high + low + close)/3. A Series
    "vwap" with the index of `bars`. NaN for the first window-1 rows, for exactly the rows whose
    window holds a NaN or infinity, and where nothing has traded over the window.
    Raises ValueError for a missing column, negative volume, a window that is no integer or
    below 1.
    """
    length = check_window("window", window, 1)
    typical, volume = _typical(bars)
    average = window_weighted_mean(typical, volume, length)
    return pd.Series(average, index=bars.index, name="vwap")


def anchored_vwap(bars: pd.DataFrame, anchor: pd.Timestamp | str) -> pd.Series[float]:
    """Volume-weighted average price since the first row at or after `anchor`.

    `anchor`: a timestamp, taken as UTC where it has no zone. `bars` and result as for `vwap`;
    NaN before the anchor, and throughout where no row has reached it yet.
    Raises ValueError as `vwap`, and for an anchor that is no timestamp.
    """
    typical, volume = _typical(bars)
    index = _ordered(bars.index, "an anchor")
    try:
        at = pd.Timestamp(anchor)
    except (TypeError, ValueError):
        raise ValueError(f"anchor={anchor!r} is not usable: a timestamp is allowed") from None
    if pd.isna(at):
        raise ValueError(f"anchor={anchor!r} is not usable: a timestamp is allowed")
    at = at.tz_localize("UTC") if at.tz is None else at.tz_convert("UTC")
    start = int((index < at).sum())
    result = np.full(len(typical), np.nan)
    result[start:] = _running_average(typical[start:], volume[start:])
    return pd.Series(result, index=bars.index, name="vwap")


def realised_volatility(
    close: pd.Series[float], window: int, *, bars_per_year: float | None = None
) -> pd.Series[float]:
    """Realised volatility: the root of the summed squared log returns of the last `window` bars.

    A fraction over the window; with `bars_per_year` (525,600 for minutes: crypto has no closing
    bell) a year's: √(Σr²/window·bars_per_year). No mean is taken out: over a short window it is
    known worse than that it is small. Index and name of `close`. The first value stands in row
    `window`, as a return needs two closes; NaN for exactly the rows whose returns touch a NaN, an
    infinity or a close that is not positive.
    Raises ValueError where `window` is no integer or below 1, or bars_per_year is not positive.
    Source: Andersen and Bollerslev (1998), Int. Economic Review 39, 885-905.
    """
    length = check_window("window", window, 1)
    scale = 1.0
    if bars_per_year is not None:
        years = check_number("bars_per_year", bars_per_year, 0.0, math.inf, open_low=True)
        scale = years / length
    returns = log_returns(series_values("close", close))
    result = np.full(len(returns), np.nan)
    squares = returns[1:] * returns[1:]
    result[1:] = np.sqrt(window_sum(squares, length) * scale)
    return pd.Series(result, index=close.index, name=close.name)


def order_flow_imbalance(bars: pd.DataFrame, window: int = 1) -> pd.Series[float]:
    """Share of the volume that buyers took less the share that sellers took, in [-1, 1].

    (2·Σ taker_buy_volume - Σ volume)/Σ volume over the last `window` bars. `bars`: columns
    volume and taker_buy_volume, base units. A Series "order_flow_imbalance" with their index.
    NaN for the first window-1 rows, for exactly the rows whose window holds a NaN or infinity,
    and where nothing has traded over the window: no trade is not a balance.
    Raises ValueError for a missing column, a negative volume, a taker_buy_volume above the
    volume, a window that is no integer or below 1.
    Source: Chordia, Roll and Subrahmanyam (2002), J. Financial Economics 65, 111-130, from
    Binance's own aggressor flag instead of a guessed one.
    """
    length = check_window("window", window, 1)
    volume, bought = volume_values(bars), volume_values(bars, "taker_buy_volume")
    more = np.flatnonzero(bought > volume * (1 + 1e-9))
    if more.size:
        row = int(more[0])
        raise ValueError(
            f"bars['taker_buy_volume'] is {bought[row]:g} at row {row}, where volume is "
            f"{volume[row]:g}: at most the volume is allowed"
        )
    known = np.where(np.isnan(bought), np.nan, volume)
    whole = window_sum(known, length)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 2.0 * window_sum(np.where(np.isnan(volume), np.nan, bought), length) / whole - 1.0
    result = np.clip(np.where(whole > 0, share, np.nan), -1.0, 1.0)
    return pd.Series(result, index=bars.index, name="order_flow_imbalance")


def log_returns(close: Array) -> Array:
    """Log returns, NaN in the first row and around a close that is missing or not positive."""
    returns = np.full(len(close), np.nan)
    returns[1:] = np.diff(np.log(np.where(close > 0, close, np.nan)))
    return returns


def _typical(bars: pd.DataFrame) -> tuple[Array, Array]:
    """Typical price and volume."""
    high, low, close = (frame_values("bars", bars, name) for name in ("high", "low", "close"))
    return (high + low + close) / 3.0, volume_values(bars)


def _running_average(typical: Array, volume: Array) -> Array:
    if not len(typical):
        return typical
    base = typical[0]  # relative to it, no digits are lost however long the session
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(base + np.cumsum((typical - base) * volume) / np.cumsum(volume))


def _ordered(index: pd.Index, what: str) -> pd.DatetimeIndex:
    """The index in UTC; ValueError where it is not in order of time."""
    if not isinstance(index, pd.DatetimeIndex) or not index.is_monotonic_increasing:
        raise ValueError(f"bars need a DatetimeIndex in order of time where {what} is given")
    return index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")


def _session_starts(index: pd.Index, session: object) -> list[int]:
    """First row of every session."""
    if len(index) == 0:
        return []
    if session is None:
        return [0]
    length = _session_ns(session)
    number = _ordered(index, "a session").as_unit("ns").asi8 // length
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
