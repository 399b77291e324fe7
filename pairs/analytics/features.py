"""The feature table: what a model may know at the close of each bar, and apart from it, labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pairs.analytics.indicators import log_returns, order_flow_imbalance, realised_volatility
from pairs.analytics.pair import PairSpec, check_spec, pair_view
from pairs.analytics.windows import window_fit, window_mean_deviation
from pairs.bars.resampling import align
from pairs.checks import Array, check_window, frame_values, volume_values

__all__ = ["FEATURES", "LABELS", "feature_table"]

_DAY_NS = 86_400_000_000_000

# Column → what it says. "leg" columns come twice, with _y and _x.
FEATURES = {
    "close_y": "close of y, quote currency",
    "close_x": "close of x, quote currency",
    "beta": "hedge ratio of the pair view",
    "intercept": "intercept of the pair view",
    "spread": "spread of the pair view, units of y",
    "zscore": "z-score of the spread over the window",
    "zscore_change": "change of the z-score since the row before",
    "beta_change": "change of the hedge ratio since the row before",
    "correlation": "of the log returns over the window",
    "reversion_speed": "share of its distance a spread lost per bar over the window; ln2/half-life",
    "spread_volatility": "deviation (ddof 1) of the spread's changes over the window",
    "return_y": "log return of y since the row before",
    "return_x": "log return of x since the row before",
    "momentum_y": "log return of y over the window",
    "momentum_x": "log return of x over the window",
    "volatility_y": "realised volatility of y over the window, not annualised",
    "volatility_x": "realised volatility of x over the window, not annualised",
    "range_y": "log(high/low) of the bar of y",
    "range_x": "log(high/low) of the bar of x",
    "volume_ratio_y": "volume of y over its mean of the window",
    "volume_ratio_x": "volume of x over its mean of the window",
    "imbalance_y": "order-flow imbalance of y over the window; NaN without taker_buy_volume",
    "imbalance_x": "order-flow imbalance of x over the window; NaN without taker_buy_volume",
    "elapsed_s": "seconds since the row before: the pair's own gaps",
    "day_sin": "sine of the time of day, UTC",
    "day_cos": "cosine of the time of day, UTC",
}
LABELS = {
    "label_return_y": "log return of y over the next `horizon` rows",
    "label_return_x": "log return of x over the next `horizon` rows",
    "label_return_pair": "profit of one long spread at today's beta over its gross value today",
    "label_zscore_change": "z-score `horizon` rows ahead less today's",
    "label_reversion": "1 where z reaches 0 from today's side within `horizon` rows, else 0",
}


def feature_table(
    bars_y: pd.DataFrame,
    bars_x: pd.DataFrame,
    spec: PairSpec | None = None,
    *,
    horizon: int | None = None,
) -> pd.DataFrame:
    """Make the feature table of a pair: what a model may know at the close of each bar.

    With a `horizon` also labels, the answers that a model is trained on.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg with a DatetimeIndex of open times (UTC; without a zone taken as UTC) and
        the columns high, low, close (price) and volume (base units, at least 0); a column open is
        usual and not read. taker_buy_volume (base units) is optional. Any order of rows, each
        timestamp once. NaN is allowed, an infinity counts as NaN.
    spec : PairSpec or None, default None
        None: `PairSpec()`. Gives hedge, spread and z-score as `pair_view` does, and its `window` is
        that of all other columns. hedge="ols" is refused.
    horizon : int or None, default None
        None: no labels. Else how many rows the labels look ahead, at least 1.

    Returns
    -------
    pandas.DataFrame
        One row per bar that both legs have, in order of time, index `ts` (UTC, open time); nothing
        is filled forward. Columns: those of FEATURES, each described there, and with `horizon`
        those of LABELS, all named label_*. A NaN in the bars makes NaN of exactly the figures that
        are made from it, the rows whose windows hold it (of a Kalman filter see `pair_view`;
        momentum and labels of returns use the ends of their window alone). imbalance_y and
        imbalance_x are NaN where their leg has no taker_buy_volume. Labels are NaN in the last
        `horizon` rows.

    Raises
    ------
    ValueError
        As `pair_view`; for a horizon that is no integer or below 1, a missing column, a negative
        volume, a taker_buy_volume above the volume, and for hedge="ols", whose every row has seen
        the future.

    See Also
    --------
    pairs.analytics.pair.pair_view : Hedge ratio, spread and z-score of these rows.

    Notes
    -----
    Row t is known at the close of bar t and uses rows ≤ t. Labels alone look ahead: train on them,
    never show them to a model.

    A label of one row overlaps those of the next horizon-1 rows: leave out `horizon` rows between
    training and test rows.

    label_reversion asks the entry and exit rules of [1]_ as a question.

    References
    ----------
    .. [1] Gatev, Goetzmann and Rouwenhorst (2006), Review of Financial Studies 19, 797-827.

    Examples
    --------
    >>> import pandas as pd
    >>> from pairs.analytics.pair import PairSpec
    >>> index = pd.date_range("2024-01-01", periods=4, freq="1min", tz="UTC", name="ts")
    >>> x = pd.DataFrame(dict.fromkeys(("high", "low", "close"), [10.0, 11.0, 10.0, 12.0]), index)
    >>> y = (2.0 * x).add([1.0, 0.0, 1.0, 0.0], axis=0)
    >>> spec = PairSpec(hedge="fixed", beta=2.0, window=2)
    >>> table = feature_table(y.assign(volume=1.0), x.assign(volume=1.0), spec, horizon=1)
    >>> table[["spread", "zscore", "label_reversion"]].round(2).to_numpy().tolist()
    [[1.0, nan, nan], [0.0, -0.71, 1.0], [1.0, 0.71, 1.0], [0.0, -0.71, nan]]
    """
    spec = check_spec(PairSpec() if spec is None else spec)
    if spec.hedge == "ols":
        raise ValueError(
            "spec.hedge='ols' is not usable: it has seen the future of every row; "
            "rolling, kalman or fixed is allowed"
        )
    ahead = None if horizon is None else check_window("horizon", horizon, 1)
    bars_y, bars_x = align(bars_y, bars_x)
    view = pair_view(bars_y, bars_x, spec).frame
    figures = _of_pair(view, spec.window) | _of_clock(view.index)
    for leg, bars in (("y", bars_y), ("x", bars_x)):
        of_leg = _of_leg(f"bars_{leg}", bars, spec.window)
        figures |= {f"{name}_{leg}": values for name, values in of_leg.items()}
    figures = {name: figures[name] for name in FEATURES}
    if ahead is not None:
        figures |= _labels(view, ahead)
    return pd.DataFrame(figures, index=view.index)


def _of_pair(view: pd.DataFrame, window: int) -> dict[str, Array]:
    names = ("close_y", "close_x", "beta", "intercept", "spread", "zscore", "correlation")
    figures = {name: _column(view, name) for name in names}
    for name in ("zscore", "beta"):
        figures[f"{name}_change"] = np.full(len(view), np.nan)
        figures[f"{name}_change"][1:] = np.diff(figures[name])
    speed, volatility = _reversion(figures["spread"], window)
    return figures | {"reversion_speed": speed, "spread_volatility": volatility}


def _column(frame: pd.DataFrame, name: str) -> Array:
    return frame[name].to_numpy(dtype=np.float64)


def _reversion(spread: Array, window: int) -> tuple[Array, Array]:
    """Speed of return and deviation of the changes, of the spread's last `window` changes.

    The speed, not the half-life: that is infinite where nothing returns, which no model takes.
    """
    speed, volatility = np.full(len(spread), np.nan), np.full(len(spread), np.nan)
    changes = np.diff(spread)
    if len(changes):
        slope, _, _ = window_fit(changes, np.ascontiguousarray(spread[:-1]), window)
        speed[1:] = -slope
        _, volatility[1:] = window_mean_deviation(changes, window, 1)
    return speed, volatility


def _of_leg(name: str, bars: pd.DataFrame, window: int) -> dict[str, Array]:
    close, high, low = (frame_values(name, bars, part) for part in ("close", "high", "low"))
    volume = volume_values(bars, name=name)
    logs = np.log(np.where(close > 0, close, np.nan))
    momentum = np.full(len(close), np.nan)
    momentum[window:] = logs[window:] - logs[:-window]
    mean_volume, _ = window_mean_deviation(volume, window, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(mean_volume > 0, volume / mean_volume, np.nan)
        reach = np.log(np.where(low > 0, high / low, np.nan))
    imbalance = np.full(len(bars), np.nan)
    if "taker_buy_volume" in bars:
        imbalance = order_flow_imbalance(bars, window).to_numpy()
    return {
        "return": log_returns(close),
        "momentum": momentum,
        "volatility": realised_volatility(pd.Series(close), window).to_numpy(),
        "range": reach,
        "volume_ratio": ratio,
        "imbalance": imbalance,
    }


def _of_clock(index: pd.Index) -> dict[str, Array]:
    stamps = pd.DatetimeIndex(index).as_unit("ns").asi8
    elapsed = np.full(len(stamps), np.nan)
    elapsed[1:] = np.diff(stamps) / 1e9
    angle = 2.0 * np.pi * (stamps % _DAY_NS) / _DAY_NS
    return {"elapsed_s": elapsed, "day_sin": np.sin(angle), "day_cos": np.cos(angle)}


def _labels(view: pd.DataFrame, ahead: int) -> dict[str, Array]:
    """The columns of LABELS: the only place that may look ahead."""
    y, x, beta, z = (_column(view, name) for name in ("close_y", "close_x", "beta", "zscore"))
    later = {name: _shifted(values, ahead) for name, values in (("y", y), ("x", x), ("z", z))}
    with np.errstate(divide="ignore", invalid="ignore"):
        profit = (later["y"] - y) - beta * (later["x"] - x)
        return {
            "label_return_y": np.log(np.where((y > 0) & (later["y"] > 0), later["y"] / y, np.nan)),
            "label_return_x": np.log(np.where((x > 0) & (later["x"] > 0), later["x"] / x, np.nan)),
            "label_return_pair": profit / (np.abs(y) + np.abs(beta * x)),
            "label_zscore_change": later["z"] - z,
            "label_reversion": _returns_to_zero(z, ahead),
        }


def _shifted(values: Array, ahead: int) -> Array:
    out = np.full(len(values), np.nan)
    if ahead < len(values):
        out[:-ahead] = values[ahead:]
    return out


def _returns_to_zero(z: Array, ahead: int) -> Array:
    """1 or 0; NaN where a z of the row or of the rows ahead is missing."""
    out = np.full(len(z), np.nan)
    if ahead >= len(z):
        return out
    next_rows = np.lib.stride_tricks.sliding_window_view(z[1:], ahead)
    today = z[: len(next_rows)]
    lowest, highest = next_rows.min(axis=1), next_rows.max(axis=1)
    reached = np.where(today > 0, lowest <= 0, highest >= 0)
    known = ~np.isnan(today) & ~np.isnan(lowest)
    out[: len(next_rows)] = np.where(known, reached, np.nan)
    return out
