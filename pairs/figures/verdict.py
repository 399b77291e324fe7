"""What a backtest's figures rest on, in words: the bars there were, what it may cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from pairs.backtest.metrics import METRICS
from pairs.backtest.report import shown_metrics
from pairs.backtest.rules import Costs
from pairs.backtest.simulation import Result
from pairs.figures.tables import Cell, table_html
from pairs.figures.theme import duration, number, percent, significant, stretch

ENOUGH_S = 30 * 86_400.0
"""Traded for less, a figure of a year says little: it is shown grey, with what it is made of."""
SIGNED = ("total_return", "cagr")
OF_A_YEAR = ("cagr", "volatility", "sharpe", "sortino", "calmar", "turnover")


def traded_from(result: Result) -> pd.Timestamp | None:
    """The first bar that has a z-score; None where none has."""
    known = result.signals.index[result.signals["zscore"].notna()]
    return pd.Timestamp(known[0]) if len(known) else None


def traded_s(result: Result) -> float:
    """Seconds from the first bar that has a z-score to the last bar; 0 where none has."""
    first = traded_from(result)
    return 0.0 if first is None else (result.equity.index[-1] - first).total_seconds()


def coverage_words(result: Result, asked_s: float | None) -> str:
    """How much was asked for, how much of it is stored, from when on it was traded."""
    index, first = pd.DatetimeIndex(result.equity.index), traded_from(result)
    stored_s = (index[-1] - index[0]).total_seconds()
    words = [] if asked_s is None or stored_s >= 0.97 * asked_s else [f"{stretch(asked_s)} asked"]
    words.append(f"{stretch(stored_s)} stored")
    if first is None:
        words.append("never traded: the windows are longer than that")
    else:
        form = "%H:%M" if first.date() == index[-1].date() else "%Y-%m-%d %H:%M"
        words.append(f"traded from {first.strftime(form)} UTC, {stretch(traded_s(result))}")
    return ", ".join(words) + "."


def cost_words(result: Result, costs: Costs) -> str:
    """Up to which costs it would have paid, against those it was charged."""
    limit, charged = result.metrics["break_even_bps"], costs.fee_bps + costs.slippage_bps
    if not math.isfinite(limit):
        return "Nothing was traded."
    if limit <= 0.0:
        return "It loses before any cost."
    told = f"It needs costs below {number(limit, 1)} bps per leg and fill; these are {charged:g}"
    return f"{told}." if limit <= charged else f"{told}, which it carries."


def metrics_html(metrics: Mapping[str, float], title: str, traded_s: float = math.inf) -> str:
    """Every figure, with its unit; those of a year grey where it was traded for a short time."""
    shown, short = shown_metrics(metrics), traded_s < ENOUGH_S
    rows: list[tuple[Cell, ...]] = []
    for name, metric in METRICS.items():
        label = metric.label + (", quote" if metric.unit == "quote" else "")
        grey = short and name in OF_A_YEAR
        told = f" (from {stretch(traded_s)})" if grey else ""
        rows.append((label + told, (formatted(name, shown[name]), "quiet" if grey else "")))
    return table_html(title, ("what", "value"), rows, (1,))


def formatted(name: str, value: float) -> str:
    """A figure in its unit."""
    if not math.isfinite(value):
        return "–"
    unit = METRICS[name].unit
    if unit == "count":
        return number(value, 0) if float(value).is_integer() else significant(value, 3)
    if unit.startswith("fraction"):
        share = percent(value) if name in SIGNED else f"{number(value * 100, 2)} %"
        return share + unit.removeprefix("fraction")
    if unit == "s":
        return duration(value)
    if unit == "bars":
        return f"{number(value, 1)} bars"
    if unit == "quote":
        return number(value, 2)
    return significant(value, 4) + {"bps": " bps", "times a year": " × a year"}.get(unit, "")
