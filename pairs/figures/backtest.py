"""Pictures of a backtest, for the page and for a report: pure functions to Plotly figures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from pairs.backtest.report import shown_curve
from pairs.backtest.simulation import Result
from pairs.backtest.walk_forward import WalkForward
from pairs.checks import Array
from pairs.figures.layout import plain_layout
from pairs.figures.theme import DARK, Theme

__all__ = [
    "cost_figure",
    "equity_figure",
    "folds_figure",
    "heat_figure",
    "shown_rows",
    "signals_figure",
]

POINTS = 1500
_MARKS = (
    ("long", "long entry", "triangle-up", "good"),
    ("short", "short entry", "triangle-down", "bad"),
    ("exit", "exit", "x-thin-open", "muted"),  # as the page marks it
    ("stop", "stop", "x", "warn"),
)


def shown_rows(values: Array, points: int = POINTS) -> npt.NDArray[np.intp]:
    """Rows that draw the same line with at most some `points`: of every stretch its lowest and
    highest value, and the first and last row."""
    rows = len(values)
    if rows <= points:
        return np.arange(rows)
    edges = np.linspace(0, rows, points // 2 + 1).astype(np.intp)
    kept = {0, rows - 1}
    for first, stop in pairwise(edges):
        part = values[first:stop]
        if not np.isnan(part).all():
            kept |= {int(first + np.nanargmin(part)), int(first + np.nanargmax(part))}
    return np.array(sorted(kept), dtype=np.intp)


def equity_figure(
    equity: pd.Series[float], drawdown: pd.Series[float], title: str, theme: Theme = DARK
) -> go.Figure:
    """Equity above, drawdown below, over time."""
    made = _stacked(["equity, quote currency", "drawdown, %"], title, theme)
    value, lost = shown_curve(equity, drawdown)
    lines = (("equity", value, theme.leg_y), ("drawdown", -100.0 * lost, theme.bad))
    for row, (name, values, colour) in enumerate(lines, start=1):
        at = shown_rows(values)
        made.add_scatter(
            x=equity.index[at],
            y=values[at],
            yaxis=_axis(row),
            mode="lines",
            name=name,
            line={"color": colour, "width": 1.4},
            fill="tozeroy" if row == 2 else None,
        )
    return made


def signals_figure(result: Result, title: str = "Decisions", theme: Theme = DARK) -> go.Figure:
    """z-score with thresholds and every entry, exit and stop at the close that decided it, and
    the hedge ratio."""
    signals = result.signals
    made = _stacked(["z-score, σ", "hedge ratio β"], title, theme)
    for row, (name, colour) in enumerate((("zscore", theme.score), ("beta", theme.leg_y)), start=1):
        values = signals[name].to_numpy()
        at = shown_rows(values)
        made.add_scatter(
            x=signals.index[at],
            y=values[at],
            yaxis=_axis(row),
            mode="lines",
            name=name,
            line={"color": colour, "width": 1.2},
        )
    rules = result.rules
    levels = (rules.entry_z, rules.exit_z, rules.stop_z)
    for level in {side * level for level in levels if level is not None for side in (1.0, -1.0)}:
        made.add_hline(y=level, line={"color": theme.muted, "width": 1, "dash": "dot"})
    action = signals["action"]
    kinds = action.where(~action.isin(["stop_z", "stop_loss", "max_bars"]), "stop")
    for kind, name, symbol, colour in _MARKS:
        rows = np.flatnonzero((kinds == kind).to_numpy(dtype=bool))
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), POINTS)).astype(np.intp)]
        made.add_scatter(
            x=signals.index[rows],
            y=signals["zscore"].to_numpy()[rows],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 8, "color": getattr(theme, colour)},
            text=action.to_numpy()[rows],
        )
    return made


def heat_figure(heat: pd.DataFrame, value: str, theme: Theme = DARK) -> go.Figure:
    """A heat map of `grid.heat_map`; in-sample, and labelled so. Grey is no value."""
    texts = [[str(name) for name in axis] for axis in (heat.columns, heat.index)]
    made = go.Figure(
        go.Heatmap(
            z=heat.to_numpy(dtype=np.float64),
            x=texts[0],
            y=texts[1],
            colorscale=[[0, theme.low], [0.5, theme.background], [1, theme.high]],
            zmid=0,
            colorbar={"title": value},
            hovertemplate=f"%{{x}} · %{{y}}<br>{value} %{{z:.4g}}",
        )
    )
    made.update_layout(**_layout(f"{value} by parameters, in-sample", theme))
    made.update_xaxes(title=str(heat.columns.name), type="category")
    made.update_yaxes(title=str(heat.index.name), type="category")
    return made


def cost_figure(table: pd.DataFrame, break_even_bps: float, theme: Theme = DARK) -> go.Figure:
    """Profit by cost (`grid.cost_sensitivity`), with the cost that eats it up."""
    made = go.Figure(
        go.Scatter(
            x=table.index,
            y=table["total_pnl"],
            mode="lines+markers",
            line={"color": theme.leg_y},
            name="profit",
        )
    )
    made.update_layout(**_layout("Profit at other costs, in-sample", theme))
    made.update_xaxes(title="fee and slippage, bps per leg and fill")
    made.update_yaxes(title="profit, quote currency")
    made.add_hline(y=0.0, line={"color": theme.muted, "width": 1})
    if np.isfinite(break_even_bps) and break_even_bps > 0.0:
        made.add_vline(
            x=break_even_bps,
            line={"color": theme.muted, "dash": "dot"},
            annotation_text=f"break-even {break_even_bps:.2f} bps",
        )
    return made


def folds_figure(found: WalkForward, theme: Theme = DARK) -> go.Figure:
    """What each choice showed in training, and what it did afterwards."""
    made = go.Figure()
    times = pd.to_datetime(found.folds["test_start"], utc=True)
    for name, label, colour in (
        ("train", "in training", theme.muted),
        ("test", "after it", theme.leg_y),
    ):
        made.add_bar(x=times, y=found.folds[name], name=label, marker_color=colour)
    made.update_layout(**_layout(f"{found.objective}: training against what followed", theme))
    return made


def _layout(title: str, theme: Theme) -> dict[str, Any]:
    return plain_layout(theme) | {
        "title": {"text": title, "font": {"size": 15}},
        "template": axes_template(theme),
        "paper_bgcolor": theme.background,
        "plot_bgcolor": theme.background,
        "height": 420,
        "margin": {"l": 72, "r": 24, "t": 48, "b": 48},
        "legend": {"orientation": "h", "y": -0.15},
    }


def axes_template(theme: Theme) -> dict[str, Any]:
    """What every axis of a figure has unless it says otherwise."""
    axis = {
        "gridcolor": theme.grid,
        "zerolinecolor": theme.grid,
        "exponentformat": "none",
        "separatethousands": True,
    }
    return {"layout": {"xaxis": axis, "yaxis": axis}}


def _axis(row: int) -> str:
    return "y" if row == 1 else f"y{row}"


def _stacked(titles: list[str], title: str, theme: Theme) -> go.Figure:
    """Two rows over one time axis, the upper one larger."""
    made = go.Figure(layout=_layout(title, theme))
    made.update_layout(
        height=560,
        hovermode="x unified",
        xaxis={"anchor": "y2", "type": "date"},
        yaxis={"domain": [0.36, 1.0], "title": titles[0]},
        yaxis2={"domain": [0.0, 0.3], "title": titles[1], "anchor": "x"},
    )
    return made
