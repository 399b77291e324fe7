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
    "anchored_vwap",
    "bollinger_bands",
    "ema",
    "order_flow_imbalance",
    "realised_volatility",
    "rolling_vwap",
    "sma",
    "vwap",
]

NS_PER_DAY = 86_400_000_000_000


def sma(close: pd.Series[float], window: int) -> pd.Series[float]:
    """Compute the simple moving average: the mean of the last `window` closes.

    Parameters
    ----------
    close : pandas.Series of float, shape (n,)
        Closes in any unit, any index; rows are taken in the order given. NaN is allowed, an
        infinity counts as NaN.
    window : int
        Rows of the mean, at least 1.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Index and name of `close`, in its unit. NaN for the first window-1 rows and for exactly the
        rows whose window holds a NaN or an infinity.

    Raises
    ------
    ValueError
        Where `window` is no integer or below 1, or `close` is no Series of numbers.

    See Also
    --------
    ema : The average whose weights fall with age.

    Notes
    -----
    Row t uses rows t-window+1 … t.

    Examples
    --------
    >>> import pandas as pd
    >>> sma(pd.Series([1.0, 2.0, 3.0, 4.0]), 2).tolist()
    [nan, 1.5, 2.5, 3.5]
    """
    length = check_window("window", window, 1)
    mean, _ = window_mean_deviation(series_values("close", close), length, 0)
    return pd.Series(mean, index=close.index, name=close.name)


def ema(close: pd.Series[float], span: int) -> pd.Series[float]:
    """Compute the exponential moving average, begun at the mean of the first `span` closes.

    Parameters
    ----------
    close : pandas.Series of float, shape (n,)
        Closes in any unit, any index; rows are taken in the order given. NaN is allowed, an
        infinity counts as NaN.
    span : int
        At least 1; the newest close has the weight alpha = 2/(span+1).

    Returns
    -------
    pandas.Series of float, shape (n,)
        Index and name of `close`, in its unit. NaN before row span-1. A NaN or infinity makes that
        row and the span-1 rows after it NaN, as it does for every window of span rows; the average
        then begins anew from the span closes behind it.

    Raises
    ------
    ValueError
        Where `span` is no integer or below 1, or `close` is no Series of numbers.

    See Also
    --------
    sma : The average of equal weights.

    Notes
    -----
    Row t uses rows ≤ t. e[span-1] is the mean of the first span closes; from there on
    e[t] = e[t-1] + alpha·(close[t] - e[t-1]).

    This start is that of Excel, TA-Lib and Stock.Indicators. pandas' `ewm` begins at the first
    close instead and differs for some 5·span rows.

    Examples
    --------
    The mean of 1, 2 and 3 is 2; with alpha = 1/2 the close of 8 moves it half of the way.

    >>> import pandas as pd
    >>> ema(pd.Series([1.0, 2.0, 3.0, 8.0]), 3).tolist()
    [nan, nan, 2.0, 5.0]
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
    """Compute Bollinger bands: moving average ± `n_std` standard deviations of the same window.

    Parameters
    ----------
    close : pandas.Series of float, shape (n,)
        Closes in any unit, any index; rows are taken in the order given. NaN is allowed, an
        infinity counts as NaN.
    window : int, default 20
        Rows of mean and deviation, at least 1.
    n_std : float, default 2.0
        Standard deviations from the middle to either band; finite, at least 0.
    ddof : int, default 0
        The sum of squares is divided by window-ddof; from 0 to window-1. 0, the deviation of the
        population, is Bollinger's own.

    Returns
    -------
    pandas.DataFrame, shape (n, 3)
        Columns middle, upper, lower with the index of `close`, in its unit. NaN as `sma`: the first
        window-1 rows, and exactly the rows whose window holds a NaN or an infinity.

    Raises
    ------
    ValueError
        For a window that is no integer or below 1, a negative or non-finite `n_std`, a ddof outside
        0 … window-1, or a `close` that is no Series of numbers.

    See Also
    --------
    sma : The middle band.

    Notes
    -----
    Row t uses rows t-window+1 … t. A window of equal closes has bands of exactly zero width.

    The deviation of pandas (`.std()`) has ddof 1: its bands are wider.

    References
    ----------
    .. [1] Bollinger, *Bollinger on Bollinger Bands*, 2001.

    Examples
    --------
    1 and 3 have the mean 2 and deviate from it by 1.

    >>> import pandas as pd
    >>> bands = bollinger_bands(pd.Series([1.0, 3.0, 3.0]), 2, 1.0)
    >>> bands.to_numpy().tolist()
    [[nan, nan, nan], [2.0, 3.0, 1.0], [3.0, 3.0, 3.0]]
    """
    length = check_window("window", window, 1)
    width = check_number("n_std", n_std, 0.0, math.inf, open_low=False)
    values = series_values("close", close)
    mean, deviation = window_mean_deviation(values, length, check_ddof(ddof, length))
    reach = width * deviation
    bands = {"middle": mean, "upper": mean + reach, "lower": mean - reach}
    return pd.DataFrame(bands, index=close.index)


def vwap(bars: pd.DataFrame, session: str | None = None) -> pd.Series[float]:
    """Compute the volume-weighted average price since the first row, or since the session began.

    Parameters
    ----------
    bars : pandas.DataFrame, shape (n, ...)
        Columns high, low, close (price) and volume (base units, at least 0), in order of time, one
        row per bar, labelled by its open time. With a `session`, a DatetimeIndex is needed; without
        a zone it is taken as UTC. NaN is allowed, an infinity counts as NaN.
    session : str or None, default None
        None: one average over all rows. Else a pandas offset of fixed length ("1h", "1D"): the sums
        restart at each UTC multiple of it.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Named "vwap", with the index of `bars`, in the unit of the price. NaN where nothing has
        traded yet, and from a NaN or infinity to the end of its session; the next session is not
        touched.

    Raises
    ------
    ValueError
        For a missing column, a negative volume, a session that is no fixed length, or, where a
        session is given, rows out of order or an index that is no DatetimeIndex.

    See Also
    --------
    rolling_vwap : Over the last rows.
    anchored_vwap : Since a time.

    Notes
    -----
    Row t uses rows ≤ t: Σ p·v / Σ v with the typical price p = (high + low + close)/3.

    Without a session the order of the rows is not looked at. A session begins by UTC, never by the
    reader's zone.

    Examples
    --------
    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=3, freq="30min", tz="UTC")
    >>> bars = pd.DataFrame(dict.fromkeys(("high", "low", "close"), [10.0, 20.0, 40.0]), index)
    >>> bars["volume"] = [1.0, 1.0, 3.0]
    >>> vwap(bars).tolist(), vwap(bars, "1h").tolist()
    ([10.0, 15.0, 30.0], [10.0, 15.0, 40.0])
    """
    typical, volume = _typical(bars)
    result = np.empty(len(typical))
    for start, stop in pairwise([*_session_starts(bars.index, session), len(typical)]):
        result[start:stop] = _running_average(typical[start:stop], volume[start:stop])
    return pd.Series(result, index=bars.index, name="vwap")


def rolling_vwap(bars: pd.DataFrame, window: int) -> pd.Series[float]:
    """Compute the volume-weighted average price of the last `window` rows.

    Parameters
    ----------
    bars : pandas.DataFrame, shape (n, ...)
        Columns high, low, close (price) and volume (base units, at least 0), in order of time,
        which is not checked. NaN is allowed, an infinity counts as NaN.
    window : int
        Rows of the average, at least 1.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Named "vwap", with the index of `bars`, in the unit of the price. NaN for the first window-1
        rows, for exactly the rows whose window holds a NaN or infinity, and where nothing has
        traded over the window.

    Raises
    ------
    ValueError
        For a missing column, a negative volume, or a window that is no integer or below 1.

    See Also
    --------
    vwap : Since the first row, or since the session began.

    Notes
    -----
    Row t uses rows t-window+1 … t: Σ p·v / Σ v with the typical price p = (high + low + close)/3.

    The mean of the bars' own averages is another figure: it has lost the weights.

    Examples
    --------
    The last window is (20·1 + 40·3)/4.

    >>> import pandas as pd
    >>> bars = pd.DataFrame(dict.fromkeys(("high", "low", "close"), [10.0, 20.0, 40.0]))
    >>> rolling_vwap(bars.assign(volume=[1.0, 1.0, 3.0]), 2).tolist()
    [nan, 15.0, 35.0]
    """
    length = check_window("window", window, 1)
    typical, volume = _typical(bars)
    average = window_weighted_mean(typical, volume, length)
    return pd.Series(average, index=bars.index, name="vwap")


def anchored_vwap(bars: pd.DataFrame, anchor: pd.Timestamp | str) -> pd.Series[float]:
    """Compute the volume-weighted average price since the first row at or after `anchor`.

    Parameters
    ----------
    bars : pandas.DataFrame, shape (n, ...)
        Columns high, low, close (price) and volume (base units, at least 0), with a DatetimeIndex
        in order of time; without a zone it is taken as UTC. NaN is allowed, an infinity counts as
        NaN.
    anchor : pandas.Timestamp or str
        The time from which on bars count; taken as UTC where it has no zone.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Named "vwap", with the index of `bars`, in the unit of the price. NaN before the anchor, and
        throughout where no row has reached it yet; NaN where nothing has traded since the anchor,
        and from a NaN or infinity at or after the anchor to the last row.

    Raises
    ------
    ValueError
        For a missing column, a negative volume, rows out of order, an index that is no
        DatetimeIndex, or an anchor that is no timestamp.

    See Also
    --------
    vwap : Since the first row, or since the session began.

    Notes
    -----
    Row t uses rows ≤ t: Σ p·v / Σ v with the typical price p = (high + low + close)/3.

    The function is causal, the choice of the anchor may not be: a low or a breakout that is seen on
    the chart is known only afterwards.

    Examples
    --------
    The last row is (20·1 + 40·3)/4.

    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=3, freq="1min", tz="UTC")
    >>> bars = pd.DataFrame(dict.fromkeys(("high", "low", "close"), [10.0, 20.0, 40.0]), index)
    >>> anchored_vwap(bars.assign(volume=[1.0, 1.0, 3.0]), "2024-01-01 00:01").tolist()
    [nan, 20.0, 35.0]
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
    """Compute the realised volatility of the last `window` bars.

    It is the root of the summed squared log returns.

    Parameters
    ----------
    close : pandas.Series of float, shape (n,)
        Closes in any unit, any index; rows are taken in the order given. NaN is allowed, an
        infinity counts as NaN, and so does a close that is not positive.
    window : int
        Returns that are summed, at least 1.
    bars_per_year : float or None, default None
        None: not annualised. Else the bars of a year, finite and above 0: 525,600 for minutes, as
        crypto has no closing bell.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Index and name of `close`; a fraction over the window, or with `bars_per_year` a year's. The
        first value stands in row `window`, as a return needs two closes. NaN before it, and for
        exactly the rows whose returns touch a NaN, an infinity or a close that is not positive.

    Raises
    ------
    ValueError
        Where `window` is no integer or below 1, `bars_per_year` is not positive and finite, or
        `close` is no Series of numbers.

    Notes
    -----
    Row t uses rows t-window … t. √(Σr²), with r the log returns; annualised
    √(Σr²/window·bars_per_year).

    No mean is taken out: over a short window it is known worse than that it is small. On seconds
    the bounce between bid and ask is most of what is measured.

    References
    ----------
    .. [1] Andersen and Bollerslev (1998), International Economic Review 39, 885-905.

    Examples
    --------
    Returns of 3 % and 4 % make 5 %, as the legs of a right triangle do.

    >>> import numpy as np
    >>> import pandas as pd
    >>> close = pd.Series(np.exp([0.0, 0.03, 0.07]))
    >>> realised_volatility(close, 2).round(6).tolist()
    [nan, nan, 0.05]
    >>> realised_volatility(close, 2, bars_per_year=200).round(6).tolist()
    [nan, nan, 0.5]
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
    """Compute the order-flow imbalance: buyers' share of the volume less sellers' share.

    Buyers' is what buyers took as aggressors, sellers' what sellers took.

    Parameters
    ----------
    bars : pandas.DataFrame, shape (n, ...)
        Columns volume and taker_buy_volume (base units, at least 0), in order of time, which is not
        checked. taker_buy_volume is the part of the volume whose buyer was the aggressor. NaN is
        allowed, an infinity counts as NaN.
    window : int, default 1
        Bars that are summed, at least 1.

    Returns
    -------
    pandas.Series of float, shape (n,)
        Named "order_flow_imbalance", with the index of `bars`; a ratio in [-1, 1]: 1 where buyers
        took all, -1 where sellers did. NaN for the first window-1 rows, for exactly the rows whose
        window holds a NaN or infinity, and where nothing has traded over the window: no trade is
        not a balance.

    Raises
    ------
    ValueError
        For a missing column, a negative volume, a taker_buy_volume above the volume (by more than
        its rounding, 1e-9 of it), or a window that is no integer or below 1.

    Notes
    -----
    Row t uses rows t-window+1 … t: (2·Σ taker_buy_volume - Σ volume)/Σ volume.

    The source had to guess the aggressor; here Binance's own flag tells it. The imbalance is that
    of trades; that of the order book bears the same name.

    References
    ----------
    .. [1] Chordia, Roll and Subrahmanyam (2002), J. Financial Economics 65, 111-130.

    Examples
    --------
    >>> import pandas as pd
    >>> bars = pd.DataFrame({"volume": [8.0, 8.0, 0.0], "taker_buy_volume": [8.0, 4.0, 0.0]})
    >>> order_flow_imbalance(bars).tolist(), order_flow_imbalance(bars, 2).tolist()
    ([1.0, 0.0, nan], [nan, 0.5, 0.0])
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
