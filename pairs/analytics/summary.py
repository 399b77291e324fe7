"""A pair in figures: what its prices did, what the tests say, what each minute or hour was like.

Everything here looks at all rows it is given. It is for the page and for reports, not for a
decision inside the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from pairs.analytics.cointegration import (
    CointegrationResult,
    JohansenResult,
    engle_granger,
    half_life,
    hurst_exponent,
    johansen,
)
from pairs.analytics.indicators import log_returns, vwap
from pairs.analytics.small_sample import hurst_lags
from pairs.analytics.stationarity import KpssResult, VarianceRatio, kpss_test, variance_ratio_test
from pairs.analytics.unitroot import AdfResult, adf_test
from pairs.checks import Array, check_window, frame_values, same_index, volume_values

__all__ = [
    "PairTests",
    "PriceStatistics",
    "interval_statistics",
    "pair_tests",
    "price_statistics",
]

YEAR_S = 365 * 86_400.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PriceStatistics:
    """One instrument over a stretch of bars. NaN where there is no value.

    `change`: last close over the first, less 1. `mean`, `std` (ddof 1): of the closes. `low`,
    `high`: of the bars. `volatility`: realised, of a year, a fraction. `skew`, `kurtosis`: of the
    log returns, the latter in excess of the normal's 3. `vwap`: of typical prices. `volume`: base
    units; `turnover`: quote currency.
    """

    bars: int
    last: float
    change: float
    mean: float
    std: float
    low: float
    high: float
    volatility: float
    skew: float
    kurtosis: float
    vwap: float
    volume: float
    turnover: float
    trades: float


def price_statistics(bars: pd.DataFrame) -> PriceStatistics:
    """Full-sample statistics of an instrument's prices, returns and volume.

    `bars`: DatetimeIndex in order of time, columns high, low, close, volume [, quote_volume,
    trades]. Returns are logs between consecutive bars. The realised volatility is
    √(Σr²·year/elapsed), the time elapsed being that from the first to the last close: a bar
    without trades has no row, and nothing moved in it. Skew and kurtosis are corrected for the
    sample's size (Fisher's G1, G2). A turnover or count unknown in one bar is NaN.
    Raises ValueError for a missing column or index, or a negative volume.
    """
    close, volume = frame_values("bars", bars, "close"), volume_values(bars)
    if not isinstance(bars.index, pd.DatetimeIndex):
        raise ValueError(f"bars has a {type(bars.index).__name__}: a DatetimeIndex is allowed")
    high, low = (frame_values("bars", bars, name) for name in ("high", "low"))
    if not len(close):
        return PriceStatistics(0, *(math.nan,) * 13)
    returns = log_returns(close)[1:]
    elapsed_s = (bars.index[-1] - bars.index[0]).total_seconds()
    known = pd.Series(returns)
    yearly = float(returns @ returns) * YEAR_S / elapsed_s if elapsed_s > 0 else math.nan
    flow = [
        float(frame_values("bars", bars, name).sum()) if name in bars else math.nan
        for name in ("quote_volume", "trades")
    ]
    return PriceStatistics(
        bars=len(close),
        last=float(close[-1]),
        change=float(close[-1] / close[0]) - 1.0,
        mean=float(close.mean()),
        std=float(close.std(ddof=1)) if len(close) > 1 else math.nan,
        low=float(low.min()),
        high=float(high.max()),
        volatility=math.sqrt(yearly),
        skew=float(known.skew()),  # type: ignore[arg-type]
        kurtosis=float(known.kurt()),  # type: ignore[arg-type]
        vwap=float(vwap(bars).iloc[-1]),
        volume=float(volume.sum()),
        turnover=flow[0],
        trades=flow[1],
    )


@dataclass(frozen=True, slots=True)
class PairTests:
    """What the tests say of a pair, each result or the reason why there is none.

    `adf`, `kpss`, `half_life` (bars), `hurst`, `ratio`: of the spread. `y_on_x`, `x_on_y`,
    `johansen`: of the legs. `estimated`: the spread's hedge ratio comes from these rows, so that
    the tests of the spread are no verdicts.
    """

    rows: int
    adf: AdfResult | str
    kpss: KpssResult | str
    y_on_x: CointegrationResult | str
    x_on_y: CointegrationResult | str
    johansen: JohansenResult | str
    half_life: float | str
    hurst: float | str
    ratio: VarianceRatio | str
    estimated: bool = True


def pair_tests(
    y: pd.Series[float],
    x: pd.Series[float],
    spread: pd.Series[float],
    *,
    q: int = 10,
    estimated: bool = True,
) -> PairTests:
    """Full-sample tests of a spread and of the two legs it is made from, each on its own.

    ADF, Engle-Granger: a constant, lags by the AIC; KPSS: a constant, automatic lags; Johansen:
    a constant, one lagged difference; Hurst: lags 2 … 99, at most a quarter of the rows, of which
    101 are needed; variance ratio: `q` rows, robust. A test that cannot be done (too few rows, a
    leg that never changes) leaves its reason in place of a result. `spread` is tested as given:
    where its hedge ratio was `estimated` from the same rows, it returns more than it should, and
    Engle-Granger and Johansen are the tests to go by.
    Raises ValueError for unequal indexes or a q that is no integer or below 2.
    """
    check_window("q", q, 2)
    same_index("y", y, "x", x)
    same_index("y", y, "spread", spread)
    return PairTests(
        rows=len(y),
        adf=_tried(lambda: adf_test(spread)),
        kpss=_tried(lambda: kpss_test(spread)),
        y_on_x=_tried(lambda: engle_granger(y, x)),
        x_on_y=_tried(lambda: engle_granger(x, y)),
        johansen=_tried(lambda: johansen(pd.DataFrame({"y": y, "x": x}))),
        half_life=_tried(lambda: half_life(spread)),
        hurst=_tried(lambda: hurst_exponent(spread, max_lag=_longest_lag(len(spread)))),
        ratio=_tried(lambda: variance_ratio_test(spread, q=q)),
        estimated=estimated,
    )


def _longest_lag(rows: int) -> int:
    """Of the Hurst exponent; so many for few rows that it refuses them."""
    return hurst_lags(rows) if rows >= 101 else 99


def _tried(test: Callable[[], T]) -> T | str:
    """The result, or the sentence with which the data were refused."""
    try:
        return test()
    except ValueError as error:
        return str(error)


def interval_statistics(
    view: pd.DataFrame, bars_y: pd.DataFrame, bars_x: pd.DataFrame, seconds: int
) -> pd.DataFrame:
    """A pair minute by minute, or hour by hour: one row per interval of `seconds`.

    `view`: the frame of a PairView; `bars_y`, `bars_x`: its legs' bars, in order of time.
    Intervals start at UTC multiples of their length since 1970 and are labelled `ts` by their
    start; those without a common bar have no row, and the last may be unfinished. Columns: bars
    (common to both legs); close_y, close_x: the last; spread_mean, spread_std (ddof 1);
    zscore_mean, zscore_min, zscore_max; correlation of the log returns between common bars that
    end in the interval; volume_y, volume_x, trades_y, trades_x of all bars of either leg.
    NaN where nothing is known, for a correlation of fewer than 3 returns or of a leg that does
    not move, and for counts that a bar does not tell.
    Raises ValueError for a `seconds` that is no integer or below 1, or a missing column.
    """
    length = check_window("seconds", seconds, 1)
    label = _floor(view.index, length)
    groups = view[["close_y", "close_x", "spread", "zscore"]].groupby(label)
    spread, score = groups["spread"], groups["zscore"]
    table = pd.DataFrame(
        {
            "bars": groups.size(),
            "close_y": groups["close_y"].last(),
            "close_x": groups["close_x"].last(),
            "spread_mean": spread.mean(),
            "spread_std": spread.std(ddof=1),
            "zscore_mean": score.mean(),
            "zscore_min": score.min(),
            "zscore_max": score.max(),
            "correlation": _correlations(view, label),
        }
    )
    for side, bars in (("y", bars_y), ("x", bars_x)):
        of_bars = _floor(bars.index, length)
        for name in ("volume", "trades"):
            table[f"{name}_{side}"] = _sums(bars, name, of_bars).reindex(table.index)
    return table.rename_axis("ts")


def _floor(index: pd.Index, seconds: int) -> pd.DatetimeIndex:
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"an index is a {type(index).__name__}: a DatetimeIndex is allowed")
    return index.floor(f"{seconds}s")


def _correlations(view: pd.DataFrame, label: pd.DatetimeIndex) -> pd.Series[float]:
    """Pearson's, per interval, of the returns that end in it."""
    moves = pd.DataFrame(
        {name: log_returns(frame_values("view", view, f"close_{name}")) for name in "yx"}
    )
    known = moves.notna().all(axis=1).to_numpy()
    moves, label = moves[known], label[known]
    centred = moves - moves.groupby(label).transform("mean")
    products = pd.DataFrame(
        {
            "n": 1.0,
            "yy": centred["y"] ** 2,
            "xx": centred["x"] ** 2,
            "yx": centred["y"] * centred["x"],
        }
    )
    total = products.groupby(label).sum()
    scale: Array = np.sqrt(total["yy"].to_numpy()) * np.sqrt(total["xx"].to_numpy())
    usable = (scale > 0) & (total["n"].to_numpy() >= 3)
    values = np.full(len(total), np.nan)
    np.divide(total["yx"].to_numpy(), scale, out=values, where=usable)
    return pd.Series(np.clip(values, -1.0, 1.0), index=total.index)


def _sums(bars: pd.DataFrame, name: str, label: pd.DatetimeIndex) -> pd.Series[float]:
    """Per interval; NaN where one bar does not tell."""
    if name == "trades" and name not in bars:
        return pd.Series(np.nan, index=label.unique())
    values = frame_values("bars", bars, name)
    if not len(values):
        return pd.Series(values, index=label)
    starts = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
    return pd.Series(np.add.reduceat(values, starts), index=label[starts])
