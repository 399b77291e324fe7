"""What a walk was worth: every figure of a backtest, each defined in docs/methods.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from pairs.backtest.engine import EquityStats
from pairs.bars.resampling import common_step_ns

__all__ = [
    "METRICS",
    "YEAR_S",
    "Metric",
    "annual_growth",
    "compute_metrics",
    "returns_per_year",
    "sharpe_ratio",
    "trade_figures",
]

YEAR_S = 365 * 24 * 3600
"""Crypto has no closing bell: 365 days of 24 hours."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure's label and its unit: "quote" currency, "fraction", "ratio", "count", "bars",
    "s" seconds, "bps", "fraction a year", "times a year"."""

    label: str
    unit: str


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "total_pnl": Metric("Profit after costs", "quote"),
        "total_return": Metric("Return on capital", "fraction"),
        "cagr": Metric("Growth (CAGR)", "fraction a year"),
        "volatility": Metric("Volatility", "fraction a year"),
        "sharpe": Metric("Sharpe ratio", "ratio"),
        "sortino": Metric("Sortino ratio", "ratio"),
        "calmar": Metric("Calmar ratio", "ratio"),
        "max_drawdown": Metric("Largest drawdown", "fraction"),
        "max_drawdown_s": Metric("Length of the largest drawdown", "s"),
        "longest_drawdown_s": Metric("Longest time below a peak", "s"),
        "trades": Metric("Trades", "count"),
        "win_rate": Metric("Win rate", "fraction"),
        "profit_factor": Metric("Profit factor", "ratio"),
        "average_pnl": Metric("Average profit of a trade", "quote"),
        "average_bars": Metric("Average holding", "bars"),
        "average_holding_s": Metric("Average holding", "s"),
        "exposure": Metric("Exposure", "fraction"),
        "turnover": Metric("Turnover", "times a year"),
        "fees": Metric("Fees", "quote"),
        "slippage": Metric("Slippage", "quote"),
        "funding": Metric("Funding paid", "quote"),
        "break_even_bps": Metric("Break-even cost per leg and fill", "bps"),
        "long_trades": Metric("Long trades", "count"),
        "long_pnl": Metric("Profit of long trades", "quote"),
        "short_trades": Metric("Short trades", "count"),
        "short_pnl": Metric("Profit of short trades", "quote"),
        "exits": Metric("Exits at the exit level", "count"),
        "exits_stop_z": Metric("Exits by stop_z", "count"),
        "exits_stop_loss": Metric("Exits by stop_loss", "count"),
        "exits_max_bars": Metric("Exits by max_bars", "count"),
        "exits_end_of_data": Metric("Exits at the end of data", "count"),
        "bars": Metric("Bars", "count"),
        "bar_s": Metric("Length of a bar", "s"),
        "years": Metric("Years", "count"),
    }
)
"""Every figure of `measure`, in the order to show."""
_REASONS = {
    "exits": "exit",
    "exits_stop_z": "stop_z",
    "exits_stop_loss": "stop_loss",
    "exits_max_bars": "max_bars",
    "exits_end_of_data": "end of data",
}


def sharpe_ratio(mean: float, deviation: float, per_year: float) -> float:
    """Mean over deviation (ddof 1) of returns between consecutive closes, times √(returns a
    year); the riskless rate is 0. NaN where the returns do not vary."""
    return mean / deviation * math.sqrt(per_year) if deviation > 0.0 else math.nan


def annual_growth(first: float, last: float, years: float) -> float:
    """(last/first)^(1/years) - 1; NaN without time, or where nothing is left to grow."""
    if not (years > 0.0 and first > 0.0 and last > 0.0):
        return math.nan
    try:
        return math.expm1(math.log(last / first) / years)
    except OverflowError:  # a minute's profit compounded over a year
        return math.nan


def returns_per_year(index: pd.DatetimeIndex) -> float:
    """How many returns between closes there really are in a year: (n - 1)·year/(last - first).

    `index`: open times of n bars, ascending. Without holes that is the bars of a year; a market
    with empty minutes or sessions has fewer. NaN where no time passes.
    """
    passed = int(index.asi8[-1] - index.asi8[0]) if len(index) > 1 else 0
    if passed <= 0:
        return math.nan
    a_year = pd.Timedelta(YEAR_S, "s") // pd.Timedelta(1, index.unit)
    return (len(index) - 1) * a_year / passed  # of whole numbers: without holes, exact


def compute_metrics(
    index: pd.DatetimeIndex,
    path: EquityStats,
    sums: Mapping[str, float],
    capital: float,
    *,
    bar_ns: int | None = None,
) -> dict[str, float]:
    """Every figure of METRICS, NaN where it has no value.

    `index`: open times of the bars; `path`, `sums`: `equity_stats` and `totals` of
    `engine.Simulation`. `bar_ns`: how long the bars are in nanoseconds (None: the common step of
    their labels).
    """
    length = bar_ns or common_step_ns(index)
    bar_s = math.nan if length is None else length / 1e9
    years = (index[-1] - index[0]).total_seconds() / YEAR_S if len(index) else math.nan
    found = _of_curve(index, path, returns_per_year(index))
    found["total_pnl"] = path.final - capital
    found["total_return"] = (path.final - capital) / capital
    found["cagr"] = annual_growth(capital, path.final, years)
    found["calmar"] = _ratio(found["cagr"], found["max_drawdown"])
    found |= trade_figures(sums)
    held_s = sums["held"] * pd.Timedelta(1, index.unit).total_seconds()
    if sums["end of data"]:  # at the close of the last bar, not at its label
        held_s += sums["end of data"] * bar_s
    found["average_holding_s"] = _ratio(held_s, sums["trades"])
    found["exposure"] = _ratio(sums["bars"], len(index))
    found["turnover"] = _ratio(sums["traded"], capital * years)
    found |= {"bars": len(index), "bar_s": bar_s, "years": years}
    return {name: found[name] for name in METRICS}


def _of_curve(index: pd.DatetimeIndex, path: EquityStats, per_year: float) -> dict[str, float]:
    lengths = [
        (index[b] - index[a]).total_seconds() if b else 0.0 for a, b in (path.deepest, path.longest)
    ]
    varied = path.deviation > 0.0
    return {
        "volatility": path.deviation * math.sqrt(per_year),
        "sharpe": sharpe_ratio(path.mean, path.deviation, per_year),
        "sortino": sharpe_ratio(path.mean, path.downside if varied else 0.0, per_year),
        "max_drawdown": path.max_drawdown,
        "max_drawdown_s": lengths[0],
        "longest_drawdown_s": lengths[1],
    }


def trade_figures(sums: Mapping[str, float]) -> dict[str, float]:
    """The figures that trades alone decide, of `engine.Simulation.totals`."""
    count, pnl, traded = sums["trades"], sums["pnl"], sums["traded"]
    return {
        "trades": int(count),
        "win_rate": _ratio(sums["wins"], count),
        "profit_factor": _ratio(sums["gains"], sums["losses"]),
        "average_pnl": _ratio(pnl, count),
        "average_bars": _ratio(sums["bars"], count),
        "fees": sums["fees"],
        "slippage": sums["slippage"],
        "funding": sums["funding"],
        "break_even_bps": 1e4 * _ratio(pnl + sums["fees"] + sums["slippage"], traded),
        "long_trades": int(sums["long_trades"]),
        "long_pnl": sums["long_pnl"],
        "short_trades": int(sums["short_trades"]),
        "short_pnl": sums["short_pnl"],
        **{name: int(sums[reason]) for name, reason in _REASONS.items()},
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else math.nan
