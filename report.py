"""A backtest written down: as strict JSON, and as text for a terminal. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from performance import METRICS
from simulation import Result
from trading_rules import Costs, Rules

__all__ = ["iso_times", "metrics_text", "parameters", "result_json", "strict"]


def result_json(result: Result) -> str:
    """Parameters, metrics, trades and equity as one object of strict JSON: what has no value is
    null, times are ISO-8601 in UTC."""
    return json.dumps(result_dict(result), allow_nan=False)


def result_dict(result: Result) -> dict[str, Any]:
    """The object of `result_json`."""
    table = result.trades
    columns = [
        iso_times(pd.DatetimeIndex(table[name])) if name.endswith("_time") else table[name].tolist()
        for name in table.columns
    ]
    equity = result.equity
    times = iso_times(pd.DatetimeIndex(equity.index))
    return {
        "parameters": parameters(result.rules, result.costs),
        "metrics": {name: strict(value) for name, value in result.metrics.items()},
        "trades": [
            dict(zip(table.columns, map(strict, row), strict=True))
            for row in zip(*columns, strict=True)
        ],
        "equity": [[t, strict(v)] for t, v in zip(times, equity.tolist(), strict=True)],
    }


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


def _number(value: float) -> str:
    """Six digits, and a dash where there is no value."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.6g}" if value % 1 else f"{value:,.0f}"


_SCALES = {"fraction": (100.0, " %"), "fraction a year": (100.0, " % a year")}


def metrics_text(metrics: dict[str, float]) -> str:
    """Labels, values and units, one figure a line."""
    lines = []
    for name, metric in METRICS.items():
        scale, unit = _SCALES.get(metric.unit, (1.0, f" {metric.unit}"))
        unit = "" if metric.unit in ("count", "ratio") else unit
        text = _number(metrics[name] * scale)
        lines.append(f"{metric.label:34}{text:>16}{unit}")
    return "\n".join(lines)
