"""A backtest written down: as strict JSON, and as text for a terminal. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pairs.analytics.pair import misfit
from pairs.backtest.metrics import METRICS
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import Result

__all__ = [
    "RUINED",
    "Provenance",
    "filter_text",
    "is_ruined",
    "iso_times",
    "metric_text",
    "metrics_text",
    "parameters",
    "records",
    "result_dict",
    "result_json",
    "shown_curve",
    "shown_metrics",
    "strict",
]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a result was made of, and by what: legs as venue:SYMBOL or a file's name, bar length,
    first and last bar (open times; None without bars), when, and the version of this program."""

    y: str
    x: str
    bar: str
    first: pd.Timestamp | None
    last: pd.Timestamp | None
    bars: int
    made: pd.Timestamp
    version: str

    @property
    def simulated(self) -> bool:
        """Whether a leg is of the local exchange, whose prices nobody ever paid."""
        return any(leg.startswith("local:") for leg in (self.y, self.x))

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        first, last, made = (_iso(t) for t in (self.first, self.last, self.made))
        return {
            "simulated": self.simulated,
            "y": self.y,
            "x": self.x,
            "bar": self.bar,
            "first_bar": first,
            "last_bar": last,
            "bars": self.bars,
            "made": made,
            "version": self.version,
        }


def _iso(time: pd.Timestamp | None) -> str | None:
    return None if time is None else iso_times(pd.DatetimeIndex([time]))[0]


def result_json(result: Result) -> str:
    """Parameters, metrics, trades and equity as one object of strict JSON: what has no value is
    null, times are ISO-8601 in UTC."""
    return json.dumps(result_dict(result), allow_nan=False)


def result_dict(result: Result, *, curve: bool = True) -> dict[str, Any]:
    """The object of `result_json`; `curve=False` leaves trades and equity empty. Of a Kalman
    filter also `filter`: the deviation of its own z-score, and what is wrong with it or null."""
    equity = result.equity if curve else result.equity.iloc[:0]
    times = iso_times(pd.DatetimeIndex(equity.index))
    whole: dict[str, Any] = {
        "parameters": parameters(result.rules, result.costs),
        "metrics": {name: strict(value) for name, value in result.metrics.items()},
        "trades": records(result.trades if curve else result.trades.iloc[:0]),
        "equity": [[t, strict(v)] for t, v in zip(times, equity.tolist(), strict=True)],
    }
    if result.rules.hedge == "kalman":
        deviation = result.filter_deviation
        whole["filter"] = {"zscore_std": strict(deviation), "warning": misfit(deviation)}
    return whole


def filter_text(result: Result) -> list[str]:
    """What there is to say of a Kalman filter, one line each; nothing of another hedge."""
    if result.rules.hedge != "kalman":
        return []
    deviation = result.filter_deviation
    told = f"{deviation:.3g}" if math.isfinite(deviation) else "–"
    label = "Deviation of the filter's own z"
    lines = [f"{label:34}{told:>24}"]
    return lines + [wrong for wrong in [misfit(deviation)] if wrong]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON holds them, times as ISO-8601."""
    columns = [
        iso_times(pd.DatetimeIndex(column)) if column.dtype.kind == "M" else column.tolist()
        for _, column in table.items()
    ]
    names = list(map(str, table.columns))
    return [dict(zip(names, map(strict, row), strict=True)) for row in zip(*columns, strict=True)]


def parameters(rules: Rules, costs: Costs) -> dict[str, Any]:
    """Rules and costs by name, as JSON holds them; of funding, how many rates there are."""
    found: dict[str, Any] = {f.name: getattr(rules, f.name) for f in fields(rules)}
    found |= {"fee_bps": costs.fee_bps, "slippage_bps": costs.slippage_bps}
    for name in ("funding_y", "funding_x"):
        rates = getattr(costs, name)
        if rates is not None:
            found[f"{name}_rates"] = len(rates)
    return found


def strict(value: Any) -> Any:
    """None for a number that JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def iso_times(index: pd.DatetimeIndex) -> list[str]:
    """Times as ISO-8601 in UTC, without fractions where all are whole seconds."""
    stamps = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
    values = stamps.to_numpy()
    whole = values.astype("datetime64[s]")
    exact = whole if (whole == values).all() else values
    return [str(text) for text in np.datetime_as_string(exact, timezone="UTC")]


RUINED = "The capital was lost on the way: no ratio of returns means anything after that."
RATIOS = ("cagr", "volatility", "sharpe", "sortino", "calmar")
"""What is made of returns: without meaning once the account was lost."""
_SCALES = {"fraction": (100.0, " %"), "fraction a year": (100.0, " % a year")}


def is_ruined(metrics: Mapping[str, float]) -> bool:
    """Whether the account was at or below zero at some close."""
    return metrics["max_drawdown"] >= 1.0


def shown_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures as they are shown to people: of a lost account no ratio of returns."""
    lost = dict.fromkeys(RATIOS, math.nan) if is_ruined(metrics) else {}
    return {**metrics, **lost}


def shown_curve(
    equity: npt.ArrayLike, drawdown: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Equity and drawdown (a fraction) as they are drawn: a lost account stays at nothing."""
    value, lost = np.array(equity, dtype=np.float64), np.array(drawdown, dtype=np.float64)
    gone = np.flatnonzero(value <= 0.0)
    if len(gone):
        value[gone[0] :], lost[gone[0] :] = 0.0, 1.0
    return value, lost


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Labels, values and units, one figure a line."""
    shown = shown_metrics(metrics)
    lines = [
        f"{metric.label:34}{metric_text(name, shown[name]):>24}" for name, metric in METRICS.items()
    ]
    return "\n".join(lines + ([RUINED] if is_ruined(metrics) else []))


def metric_text(name: str, value: float) -> str:
    """A figure of METRICS with its unit; a dash where there is no value."""
    unit = METRICS[name].unit
    scale, sign = _SCALES.get(unit, (1.0, "" if unit in ("count", "ratio") else f" {unit}"))
    if not math.isfinite(value):
        return "–"
    shown = value * scale
    return (f"{shown:,.6g}" if shown % 1 else f"{shown:,.0f}") + sign
