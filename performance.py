"""What a walk was worth: every figure of a backtest, each defined in docs/methods.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from pandas.tseries.offsets import Tick

from compiled import INTS, compiled
from signals import Curve

__all__ = [
    "METRICS", "YEAR_S", "Metric", "annual_growth", "bar_length_s", "measure", "sharpe_ratio",
    "trade_figures",
]  # fmt: skip

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
_REASONS = {"exits": "exit", "exits_stop_z": "stop_z", "exits_stop_loss": "stop_loss",
            "exits_max_bars": "max_bars", "exits_end_of_data": "end of data"}  # fmt: skip


def sharpe_ratio(mean: float, deviation: float, per_year: float) -> float:
    """Mean over deviation (ddof 1) of the returns of a bar, times √(bars a year); the riskless
    rate is 0. NaN where the returns do not vary."""
    return mean / deviation * math.sqrt(per_year) if deviation > 0.0 else math.nan


def annual_growth(first: float, last: float, years: float) -> float:
    """(last/first)^(1/years) - 1; NaN without time, or where nothing is left to grow."""
    if not (years > 0.0 and first > 0.0 and last > 0.0):
        return math.nan
    try:
        return math.expm1(math.log(last / first) / years)
    except OverflowError:  # a minute's profit compounded over a year
        return math.nan


def bar_length_s(index: pd.DatetimeIndex) -> float:
    """The most common step between bars in seconds, the shortest of equals; NaN below 2 bars."""
    if len(index) < 2:
        return math.nan
    if isinstance(index.freq, Tick):
        return index.freq.nanos / 1e9
    stamps = index.asi8
    step = int(stamps[1] - stamps[0])
    if not _one_step(stamps):
        lengths, counts = np.unique(np.diff(stamps), return_counts=True)
        step = int(lengths[counts.argmax()])
    return step * pd.Timedelta(1, index.unit).total_seconds()


def measure(
    index: pd.DatetimeIndex, path: Curve, sums: Mapping[str, float], capital: float
) -> dict[str, float]:  # fmt: skip
    """Every figure of METRICS, NaN where it has no value.

    `index`: open times of the bars; `path`, `sums`: as `signals.Walk` has them.
    """
    bar_s = bar_length_s(index)
    years = (index[-1] - index[0]).total_seconds() / YEAR_S if len(index) else math.nan
    found = _of_curve(index, path, YEAR_S / bar_s)
    found["total_pnl"] = path.final - capital
    found["total_return"] = (path.final - capital) / capital
    found["cagr"] = annual_growth(capital, path.final, years)
    found["calmar"] = _ratio(found["cagr"], found["max_drawdown"])
    found |= trade_figures(sums)
    found["average_holding_s"] = found["average_bars"] * bar_s
    found["exposure"] = _ratio(sums["bars"], len(index))
    found["turnover"] = _ratio(sums["traded"], capital * years)
    found |= {"bars": len(index), "bar_s": bar_s, "years": years}
    return {name: found[name] for name in METRICS}


def _of_curve(index: pd.DatetimeIndex, path: Curve, per_year: float) -> dict[str, float]:
    lengths = [(index[b] - index[a]).total_seconds() if b else 0.0
               for a, b in (path.deepest, path.longest)]  # fmt: skip
    return {
        "volatility": path.deviation * math.sqrt(per_year),
        "sharpe": sharpe_ratio(path.mean, path.deviation, per_year),
        "sortino": sharpe_ratio(path.mean, path.downside, per_year),
        "max_drawdown": path.max_drawdown,
        "max_drawdown_s": lengths[0],
        "longest_drawdown_s": lengths[1],
    }


def trade_figures(sums: Mapping[str, float]) -> dict[str, float]:
    """The figures that trades alone decide, of `signals.Walk.sums`."""
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


@compiled(INTS)
def _one_step(stamps):  # type: ignore[no-untyped-def]
    """Whether all stamps are equally far apart."""
    step = stamps[1] - stamps[0]
    for t in range(2, len(stamps)):  # noqa: SIM110 - numba knows no generator
        if stamps[t] - stamps[t - 1] != step:
            return False
    return True
