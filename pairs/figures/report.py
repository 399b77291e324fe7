"""A backtest as one HTML file: figures, tables, parameters. It loads nothing from anywhere."""

from __future__ import annotations

import json
from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pairs.backtest.metrics import METRICS
from pairs.backtest.overfitting import Interval
from pairs.backtest.report import (
    RUINED,
    Provenance,
    is_ruined,
    iso_times,
    metric_text,
    parameters,
    result_dict,
    shown_metrics,
)
from pairs.backtest.simulation import Result
from pairs.backtest.walk_forward import WalkForward
from pairs.figures.backtest import (
    cost_figure,
    equity_figure,
    folds_figure,
    heat_figure,
    signals_figure,
)
from pairs.figures.theme import LIGHT

__all__ = ["html_report"]

MOST_TRADES = 2000
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;"
    "color:#1b1f24}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.86rem}"
    "td,th{border-bottom:1px solid #d8dee4;padding:.2rem .6rem;text-align:right;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}.wide{overflow-x:auto}"
    ".simulated{background:#F5A524;color:#14171c;padding:.5rem .9rem;border-radius:6px}"
    ".provenance{margin:.6rem 0 1rem}"
    ".note{color:#57606a}pre{background:#f6f8fa;padding:.8rem;overflow-x:auto}"
)


SIMULATED = (
    '<p class="simulated"><b>SIMULATED</b> · prices of the local exchange: nobody ever traded '
    "at them</p>"
)


def html_report(
    result: Result,
    *,
    title: str = "Backtest",
    interval: Interval | None = None,
    heat: tuple[pd.DataFrame, str] | None = None,
    cost: pd.DataFrame | None = None,
    walk: WalkForward | None = None,
    luck: str = "",
    provenance: Provenance | None = None,
) -> str:
    """A run as one self-contained HTML page, Plotly's script included (some 5 MB).

    `interval`: of the Sharpe ratio (`overfitting.sharpe_interval`). `heat`: of `grid.heat_map`
    with the name of its figure. `luck`: how far the result is more than
    that, in words. `provenance`: what it was made of; simulated prices are told at the top.
    `cost`: of `grid.cost_sensitivity`. `walk`: a walk-forward.
    Every text is escaped; the page holds the parameters as JSON and at most 2,000 trades.
    """
    parts = [
        SIMULATED if provenance is not None and provenance.simulated else "",
        f"<h1>{escape(title)}</h1>",
        "" if provenance is None else _provenance(provenance),
        '<p class="note">Figures are in-sample unless they say otherwise: whoever chose these '
        "parameters may have seen these bars. Times are UTC; amounts in quote currency.</p>",
        _metrics(result.metrics, interval),
        f"<p>{escape(luck)}</p>" if luck and not is_ruined(result.metrics) else "",
        _figure(equity_figure(result.equity, result.drawdown, "Equity, in-sample", LIGHT)),
        _figure(signals_figure(result, theme=LIGHT)),
    ]
    if cost is not None:
        parts.append(_figure(cost_figure(cost, result.metrics["break_even_bps"], LIGHT)))
    if heat is not None:
        parts.append(_figure(heat_figure(*heat, LIGHT)))
    if walk is not None:
        parts += _walk_forward(walk)
    parts += [_trades(result.trades), _parameters(result, provenance)]
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    script = f"<script>{get_plotlyjs()}</script>"
    body = "".join(parts)
    return f"<!doctype html><html lang='en'><head>{head}{script}</head><body>{body}</body></html>"


def _figure(figure: go.Figure) -> str:
    made: str = figure.to_html(full_html=False, include_plotlyjs=False)
    return made


def _metrics(metrics: dict[str, float], interval: Interval | None) -> str:
    shown = shown_metrics(metrics)
    rows = [(metric.label, metric_text(name, shown[name])) for name, metric in METRICS.items()]
    if interval is not None and not is_ruined(metrics):
        label = f"Sharpe ratio, {interval.level:.0%} interval (stationary bootstrap)"
        rows.insert(5, (label, f"{interval.low:.3g} … {interval.high:.3g}"))
    cells = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    note = f'<p class="note">{RUINED}</p>' if is_ruined(metrics) else ""
    return f"<h2>Figures</h2>{note}<table>{cells}</table>"


def _walk_forward(found: WalkForward) -> list[str]:
    peak = found.equity.cummax().clip(lower=found.rules[0].capital)
    lost = ((peak - found.equity) / peak).rename("drawdown")
    table = found.folds.assign(
        **{
            name: iso_times(pd.DatetimeIndex(found.folds[name]))
            for name in ("train_start", "test_start", "test_end")
        }
    )
    return [
        f"<h2>Walk-forward, {escape(found.heading)}</h2>",
        "" if is_ruined(found.metrics) else _walk_luck(found),
        _metrics(found.metrics, None),
        _figure(equity_figure(found.equity, lost, "Equity, walk-forward", LIGHT)),
        _figure(folds_figure(found, LIGHT)),
        f'<div class="wide">{_table(table)}</div>',
    ]


def _walk_luck(found: WalkForward) -> str:
    """Whether the walk is more than luck, in words."""
    luck = found.deflated
    return (
        f"<p>Counting the candidates of this walk alone: of {luck.trials:,} sets of parameters "
        f"the best {escape(found.objective)} of each "
        "training stretch traded the bars after it. Sharpe ratio "
        f"{luck.sharpe:.3g}; luck alone would show {luck.benchmark:.3g} as the best of as many "
        f"trials. Probability that the true one is above that: {luck.probability:.1%} (deflated "
        f"Sharpe ratio); above 0: {luck.against_zero:.1%}.</p>"
    )


def _trades(trades: pd.DataFrame) -> str:
    shown = trades.head(MOST_TRADES)
    shown = shown.assign(
        **{name: iso_times(pd.DatetimeIndex(shown[name])) for name in ("entry_time", "exit_time")}
    )
    note = "" if len(shown) == len(trades) else f", the first {MOST_TRADES:,} of {len(trades):,}"
    return f'<h2>Trades{note}</h2><div class="wide">{_table(shown)}</div>'


def _table(frame: pd.DataFrame) -> str:
    made: str = frame.to_html(index=False, border=0, float_format=lambda v: f"{v:,.6g}", na_rep="–")
    return made


def _provenance(made_of: Provenance) -> str:
    told = made_of.as_dict()
    rows = {
        "y": told["y"],
        "x": told["x"],
        "Bars": f"{made_of.bars:,} of {made_of.bar}",
        "First bar": told["first_bar"] or "–",
        "Last bar": told["last_bar"] or "–",
        "Made": told["made"],
        "Version": told["version"],
    }
    cells = "".join(f"<tr><td>{a}</td><td>{escape(str(b))}</td></tr>" for a, b in rows.items())
    return f'<table class="provenance">{cells}</table>'


def _parameters(result: Result, provenance: Provenance | None) -> str:
    given = parameters(result.rules, result.costs)
    if provenance is not None:
        given["provenance"] = provenance.as_dict()
    data = {"parameters": given, "metrics": result_dict(result, curve=False)["metrics"]}
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    shown = escape(json.dumps(given, indent=1, allow_nan=False))
    return (
        f"<h2>Parameters</h2><pre>{shown}</pre>"
        f'<script type="application/json" id="backtest">{text}</script>'
    )
