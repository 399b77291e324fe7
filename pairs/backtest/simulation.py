"""A backtest of one pair: from bars, rules and costs to trades, equity and metrics. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd

from pairs.analytics.pair import filter_deviation, traded_hedge
from pairs.analytics.windows import window_score
from pairs.backtest.decisions import EXIT
from pairs.backtest.engine import (
    ACTIONS,
    EXIT_REASONS,
    TRADE_COLUMNS,
    PairArrays,
    Simulation,
    simulate,
)
from pairs.backtest.metrics import compute_metrics
from pairs.backtest.rules import Costs, Rules
from pairs.bars.resampling import align, bar_length_ns
from pairs.checks import Array, check_kind, frame_values

__all__ = [
    "TRADE_FIELDS",
    "AlignedPair",
    "Result",
    "align_and_check",
    "run",
    "trades_frame",
]

TRADE_FIELDS = (
    "side",
    "entry_time",
    "exit_time",
    "beta",
    "qty_y",
    "qty_x",
    "entry_y",
    "entry_x",
    "exit_y",
    "exit_x",
    "pnl_y",
    "pnl_x",
    "fees",
    "pnl",
    "bars",
    "exit_reason",
)
_SIDES = pd.array(["short", "", "long"], dtype="str")
_ACTIONS = pd.array(list(ACTIONS), dtype="str")
_REASONS = pd.array(list(EXIT_REASONS), dtype="str")


@dataclass(frozen=True, slots=True)
class AlignedPair:
    """The common bars of two legs as arrays; `index` their open times (UTC), `bar_ns` their
    length in nanoseconds (None: not told)."""

    index: pd.DatetimeIndex
    open_y: Array
    open_x: Array
    close_y: Array
    close_x: Array
    bar_ns: int | None = None

    def unscored(self, rules: Rules, costs: Costs) -> PairArrays:
        """With what a walk makes the z-scores of these rules from on its way, and the funding due:
        for one walk, which so spares the memory of long arrays."""
        nothing = np.empty(0)
        if rules.hedge == "fixed":
            beta, spread = np.array([rules.beta], dtype=np.float64), nothing
        else:
            beta, spread = traded_hedge(self.close_y, self.close_x, rules.spec)
        return self._priced(beta, nothing, costs, spread=spread, window=rules.window)

    def scored(self, rules: Rules, costs: Costs) -> PairArrays:
        """With hedge ratio and z-score by these rules, and the funding due: for many walks."""
        beta, spread = traded_hedge(self.close_y, self.close_x, rules.spec)
        return self.with_scores(beta, window_score(spread, rules.window), costs)

    def with_scores(self, beta: Array, zscore: Array, costs: Costs) -> PairArrays:
        """With hedge ratio and z-score given."""
        return self._priced(beta, zscore, costs)

    def _priced(self, beta: Array, zscore: Array, costs: Costs, **made: Any) -> PairArrays:
        funding_y, funding_x = (
            _funding_due(self.index, rates) if costs.funded else np.empty(0)
            for rates in (costs.funding_y, costs.funding_x)
        )
        return PairArrays(
            np.ascontiguousarray(self.index.asi8),
            self.open_y,
            self.open_x,
            self.close_y,
            self.close_x,
            beta,
            zscore,
            funding_y,
            funding_x,
            **made,
        )

    def check(self) -> None:
        """ValueError for a price that is not finite and above 0."""
        for leg in ("y", "x"):
            for column in ("open", "close"):
                prices = getattr(self, f"{column}_{leg}")
                # A NaN is their least and their largest, and compares as false.
                if prices.min(initial=1.0) > 0.0 and prices.max(initial=1.0) < np.inf:
                    continue
                row = int(np.argmin((prices > 0.0) & (prices < np.inf)))
                raise ValueError(
                    f"bars_{leg}[{column!r}] is {prices[row]} at {self.index[row]}: a finite "
                    "price above 0 is allowed"
                )


@dataclass(frozen=True, eq=False)
class Result:
    """A backtest: what trading by the rules did, at these costs.

    Amounts in quote currency, times UTC, rates as fractions.

    Attributes
    ----------
    rules : Rules
        What it was traded by.
    costs : Costs
        What trading cost.
    metrics : dict of str to float
        Figures by name; `METRICS` of pairs/backtest/metrics.py has the label and the unit of each.
        NaN where there is no value.
    trades : pandas.DataFrame
        One row per trade, in their order, index 0 …, with the columns TRADE_FIELDS: side ("long" or
        "short" spread), entry_time and exit_time (labels of the bars that fill), beta, qty_y and
        qty_x (base units, signed), entry_y, entry_x, exit_y, exit_x (prices filled), pnl_y, pnl_x,
        fees and pnl (quote currency), bars, exit_reason; with funding also funding (quote
        currency), with rebalancing also rebalances (a count). No NaN.
    equity : pandas.Series of float
        Named "equity": by bar (UTC, open time), the value of the account at the bar's close, quote
        currency.
    signals : pandas.DataFrame
        One row per bar: prices, hedge ratio, z-score, position and decision (a property).
    drawdown : pandas.Series of float
        Fraction of the highest equity so far that is lost at each close, 0 or positive (a
        property).
    filter_deviation : float
        Deviation of the Kalman filter's own z-score, 1 where its noise is right; NaN for another
        hedge or fewer than 30 bars with a z-score (a property).
    _pair, _prices, _walk : object
        What the properties are made from; for this class alone.

    See Also
    --------
    run : Makes it.

    Notes
    -----
    Row t of equity, drawdown and signals uses rows ≤ t, but for a position open at the last bar: it
    is closed at the last close, with costs ("end of data"). The last row's action in `signals` is
    void here, and the one to take live.

    In-sample, where the rules were chosen on these bars. Two results are equal only where they are
    one object.
    """

    rules: Rules
    costs: Costs
    metrics: dict[str, float]
    trades: pd.DataFrame
    equity: pd.Series[float]
    _pair: AlignedPair
    _prices: PairArrays
    _walk: Simulation

    @cached_property
    def signals(self) -> pd.DataFrame:
        """One row per bar: close_y, close_x, beta, zscore, position (side held at the close: 1
        long, -1 short, 0 flat), action (decided at the close: "", "long", "short" or an exit's
        reason). The last row's action is void here, and the one to take live."""
        prices, done = self._prices, self._walk
        if prices.window:
            prices = self._pair.scored(self.rules, self.costs)
        return pd.DataFrame(
            {
                "close_y": prices.close_y,
                "close_x": prices.close_x,
                "beta": prices.beta,
                "zscore": prices.zscore,
                "position": done.position(),
                "action": _ACTIONS.take(done.action().astype(np.int64) % len(ACTIONS)),
            },
            index=self.equity.index,
        )

    @cached_property
    def filter_deviation(self) -> float:
        """See `pair.filter_deviation`; NaN unless the hedge is a Kalman filter's."""
        return filter_deviation(self._pair.close_y, self._pair.close_x, self.rules.spec)

    @cached_property
    def drawdown(self) -> pd.Series[float]:
        """Fraction of the highest equity so far that is lost at each close, the starting capital
        counting as a height; 0 or positive."""
        peak = self.equity.cummax().clip(lower=self.rules.capital)
        return ((peak - self.equity) / peak).rename("drawdown")


def run(bars_y: pd.DataFrame, bars_x: pd.DataFrame, rules: Rules, costs: Costs) -> Result:
    """Trade a pair of bars by the rules, at these costs.

    Parameters
    ----------
    bars_y, bars_x : pandas.DataFrame
        Bars of either leg with a DatetimeIndex of open times (UTC; without a zone taken as UTC),
        each once, and the columns open and close (prices, finite and above 0 in the common bars).
        Rows that only one leg has are left out.
    rules : Rules
        When the pair is traded, and how much of it.
    costs : Costs
        Fee, slippage and funding.

    Returns
    -------
    Result
        Metrics, trades and equity, the latter one value per common bar; amounts in quote currency.

    Raises
    ------
    ValueError
        For a missing leg or column, an index that is no DatetimeIndex, a timestamp that stands
        twice, bars of different length, a price of a common bar that is missing, infinite or not
        positive, fewer common bars than the first z-score needs, and for rules or costs of another
        kind.

    See Also
    --------
    positions : The same decisions from z-scores alone.

    Notes
    -----
    Decided at the close of bar t from rows ≤ t, filled at the open of bar t+1; both legs trade.
    Long spread: buy y, sell β·x, with qty_y = notional/(y + abs(β)·x) at the signal's closes and
    qty_x = -β·qty_y. A position open at the last bar is closed at the last close, with costs. See
    docs/methods.md for every rule and figure.

    Examples
    --------
    y falls from 100 to 97 and is back one bar later: one unit of it, bought at 97, earns 3.

    >>> import pandas as pd
    >>> index = pd.date_range("2024-01-01", periods=5, freq="1min", tz="UTC")
    >>> close = [100.0, 100.0, 97.0, 100.0, 100.0]
    >>> y = pd.DataFrame({"open": [100.0, *close[:-1]], "close": close}, index)
    >>> x = pd.DataFrame({"open": 100.0, "close": 100.0}, index)
    >>> rules = Rules(hedge="fixed", beta=1.0, window=3, entry_z=1.0, notional=197.0, capital=197.0)
    >>> run(y, x, rules, Costs()).equity.tolist()
    [197.0, 197.0, 197.0, 200.0, 200.0]
    """
    check_kind("rules", rules, Rules)
    check_kind("costs", costs, Costs)
    pair = _common(bars_y, bars_x, rules.spec.bars_needed)
    return simulate_scored(pair, pair.unscored(rules, costs), rules, costs)


def simulate_scored(pair: AlignedPair, prices: PairArrays, rules: Rules, costs: Costs) -> Result:
    """The result of trading bars with z-scores, or what makes them, given; ValueError for a price
    that cannot be one."""
    done = simulate(prices, rules, costs)
    if not done.usable:
        pair.check()
    return Result(
        rules=rules,
        costs=costs,
        metrics=compute_metrics(
            pair.index, done.equity_stats, done.totals, rules.capital, bar_ns=pair.bar_ns
        ),
        trades=trades_frame(pair.index, done.trades, rules, costs),
        equity=pd.Series(done.equity, index=pair.index, name="equity", copy=False),
        _pair=pair,
        _prices=prices,
        _walk=done,
    )


def align_and_check(bars_y: pd.DataFrame, bars_x: pd.DataFrame, needed: int) -> AlignedPair:
    """The common bars, checked: every price positive, and at least `needed` of them."""
    pair = _common(bars_y, bars_x, needed)
    pair.check()
    return pair


def _common(bars_y: pd.DataFrame, bars_x: pd.DataFrame, needed: int) -> AlignedPair:
    """The common bars, at least `needed` of them; their prices are not looked at."""
    y, x = align(bars_y, bars_x)
    if len(y) < needed:
        raise ValueError(
            f"bars_y ({len(bars_y):,} rows) and bars_x ({len(bars_x):,} rows) have {len(y):,} bars "
            f"in common: at least {needed:,} are needed: a longer record, or shorter windows"
        )
    open_y, open_x, close_y, close_x = (
        _column(name, bars, column)
        for column in ("open", "close")
        for name, bars in (("bars_y", y), ("bars_x", x))
    )
    length = bar_length_ns(bars_y) or bar_length_ns(bars_x)
    index = cast(pd.DatetimeIndex, y.index)
    return AlignedPair(index, open_y, open_x, close_y, close_x, length)


def _column(name: str, bars: pd.DataFrame, column: str) -> Array:
    series = bars[column] if column in bars.columns else None
    if series is not None and series.dtype == np.float64:
        return np.ascontiguousarray(series.to_numpy())
    return frame_values(name, bars, column)


def _funding_due(index: pd.DatetimeIndex, rates: pd.Series[float] | None) -> Array:
    """The rates due at each bar's open: all settled since the bar before it opened."""
    due = np.zeros(len(index))
    if rates is not None and len(index):
        at = pd.DatetimeIndex(rates.index)
        at = at.tz_localize("UTC") if at.tz is None else at.tz_convert("UTC")
        rows = index.as_unit("ns").searchsorted(at.as_unit("ns"))
        inside = (rows < len(index)) & (at >= index[0])
        np.add.at(due, rows[inside], rates.to_numpy(dtype=np.float64)[inside])
    return due


def trades_frame(index: pd.DatetimeIndex, table: Array, rules: Rules, costs: Costs) -> pd.DataFrame:
    """`Simulation.trades` as the table of trades that users see."""
    columns = dict(zip(TRADE_COLUMNS, table, strict=True))
    whole = {name: columns[name].astype(np.int64) for name in ("entry_row", "exit_row", "bars")}
    sides = columns["side"].astype(np.int64) + 1
    reasons = columns["reason"].astype(np.int64) - EXIT
    made: dict[str, object] = {
        "side": _SIDES.take(sides),
        "entry_time": index.take(whole["entry_row"]),
        "exit_time": index.take(whole["exit_row"]),
    }
    made |= {name: columns[name] for name in TRADE_FIELDS[3:14]}
    made["bars"] = whole["bars"]
    made["exit_reason"] = _REASONS.take(reasons)
    if costs.funded:
        made["funding"] = columns["funding"]
    if rules.rebalance is not None:
        made["rebalances"] = columns["rebalances"].astype(np.int64)
    return pd.DataFrame(made, copy=False)
