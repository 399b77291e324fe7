"""The backtest view: rules, equity and drawdown, signals, trades, and how far to believe it."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from bars_csv import frame_csv
from jobs import Job, Progress
from market import bar_seconds
from panels.desk import Choice, Desk, boundary, follow, jobs
from panels.figures import Floats, axis, floats, milliseconds, show_all, stacked, thinned
from panels.tables import Cell, table_html
from panels.theme import BAD, GOOD, LEG_Y, MUTED, SCORE, duration, number, percent, significant
from performance import METRICS
from report import parameters
from rules import PRESETS, PRESETS_TAKEN, Costs, Rules
from simulation import Result, run

SPANS: dict[str, float | None] = {
    "1 d": 86_400.0, "7 d": 7 * 86_400.0, "30 d": 30 * 86_400.0, "everything": None,
}  # fmt: skip
SIGNED = ("total_return", "cagr")
HEIGHT = "max(calc(100vh - 25rem), 26rem)"
OWN_FEE = "own"
MARKERS = 400  # trades marked in the figure, the newest


def draw(desk: Desk) -> None:
    """The view on the page."""
    try:
        asked = _form(desk)
    except ValueError as error:
        st.error(f"These rules cannot be traded: {error}")
        return
    rules, costs, span = asked
    key = ("backtest", *desk.choice.pair, desk.choice.bar, rules, costs, span)
    with desk.options:
        if st.session_state.get("backtest", key) != key:
            st.html('<span class="pw-chip pw-warn">changed since this run</span>')
        wanted = st.button("Run backtest", type="primary", key="run_backtest")
    if wanted:
        jobs().submit(key, "Backtest", partial(_work, desk, rules, costs, SPANS[span]), again=True)
        st.session_state["backtest"] = key
    shown = jobs().get(st.session_state.get("backtest"))
    if shown is None:
        st.info("Nothing was run yet. The rules are those of the sidebar and of this row.")
        return
    _show(desk, shown)


def _form(desk: Desk) -> tuple[Rules, Costs, str]:
    """What a run is asked for: the sidebar's rules and this row's."""
    choice = desk.choice
    first = st.columns([1, 1, 1, 1, 1.5, 1, 1, 1])
    span = first[0].selectbox("History", list(SPANS), index=_span(choice), key="bt_span",
                              bind="query-params")  # fmt: skip
    notional = first[1].number_input("Notional", 1.0, value=10_000.0, step=1000.0, format="%.0f",
                                     key="bt_notional", bind="query-params",
                                     help="Gross value of a trade, both legs")  # fmt: skip
    capital = first[2].number_input("Capital", 1.0, value=10_000.0, step=1000.0, format="%.0f",
                                    key="bt_capital", bind="query-params")  # fmt: skip
    slippage = first[3].number_input("Slippage, bps", 0.0, 1000.0, 1.0, 0.5, key="bt_slippage",
                                     bind="query-params", help="Per leg and fill")  # fmt: skip
    preset = first[4].selectbox(
        "Fees", [*PRESETS, OWN_FEE], index=1, key="bt_fees", bind="query-params",
        format_func=fee_label, help=f"Public base rates as of {PRESETS_TAKEN}, per leg and fill",
    )  # fmt: skip
    own = first[5].number_input("Own fee, bps", 0.0, 1000.0, 5.0, 0.5, key="bt_fee",
                                bind="query-params", disabled=preset != OWN_FEE)  # fmt: skip
    loss = first[6].number_input("Stop loss, %", 0.0, 100.0, 0.0, 0.5, key="bt_loss",
                                 bind="query-params", help="Of the notional; 0: none")  # fmt: skip
    most = first[7].number_input("Most bars", 0, 100_000, 0, key="bt_bars", bind="query-params",
                                 help="Bars a position lives at most; 0: any")  # fmt: skip
    rules = rules_of(choice, stop_loss=loss / 100 or None, max_bars=int(most) or None,
                     notional=float(notional), capital=float(capital))  # fmt: skip
    fee = own if preset == OWN_FEE else PRESETS[preset].fee_bps
    return rules, Costs(fee_bps=float(fee), slippage_bps=float(slippage)), str(span)


def fee_label(name: str) -> str:
    """A preset with its fee."""
    if name == OWN_FEE:
        return "Own"
    preset = PRESETS[name]
    return f"{preset.label}: {preset.fee_bps:g} bps"


def rules_of(choice: Choice, **more: Any) -> Rules:
    """The sidebar's choices as rules of a backtest. ValueError where they cannot be traded."""
    spec = choice.spec
    if spec.hedge == "ols":
        raise ValueError("a whole-sample hedge ratio has seen the future: choose another")
    return Rules(
        hedge=spec.hedge, beta=spec.beta, hedge_window=spec.hedge_window, window=spec.window,
        delta=spec.delta, observation_variance=spec.observation_variance, entry_z=choice.entry_z,
        exit_z=choice.exit_z, stop_z=choice.stop_z, **more,
    )  # fmt: skip


def _span(choice: Choice) -> int:
    """Files are short: all of them; of a live market what is quick to read."""
    if choice.y.venue == "upload":
        return 3
    return 0 if bar_seconds(choice.bar) < 60 else 1


def _work(desk: Desk, rules: Rules, costs: Costs, span: float | None, progress: Progress) -> Result:
    """Read the bars and trade them."""
    bars = []
    for k, leg in enumerate(desk.choice.pair):
        progress(k, 3)
        bars.append(desk.stored(leg, span))
    progress(2, 3)
    return run(bars[0], bars[1], rules, costs)


def _show(desk: Desk, job: Job) -> None:
    if not job.finished:
        follow(job)
        return
    if job.error is not None:
        st.error(f"The backtest did not run: {job.error}")
        return
    result: Result = job.result
    st.html(cards_html(result))
    left, right = st.columns([3, 1], gap="medium")
    with left, boundary("Equity"):
        desk.chart(lambda: figure(result), (id(job),), name="Backtest", height=HEIGHT)
        _trades(desk, result)
    with right, boundary("Metrics"):
        st.html(metrics_html(result))


def _trades(desk: Desk, result: Result) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    row.html(f'<div class="pw"><p class="pw-title">{len(result.trades):,} trades</p></div>')
    name = f"{desk.choice.y.symbol}-{desk.choice.x.symbol}_{desk.choice.bar}"
    for label, file, make in (
        ("Trades", f"{name}_trades.csv", lambda: trades_csv(result)),
        ("Equity", f"{name}_equity.csv", lambda: frame_csv(result.equity.to_frame()).encode()),
        ("Parameters", f"{name}_parameters.json", lambda: parameters_json(result)),
    ):
        row.download_button(label, make, file, on_click="ignore", key=f"download-bt-{label}",
                            icon=":material/download:")  # fmt: skip
    st.dataframe(
        result.trades.iloc[::-1], width="stretch", height=300, hide_index=True,
        column_config={
            name: st.column_config.DatetimeColumn(f"{name.removesuffix('_time')}, UTC",
                                                  format="YYYY-MM-DD HH:mm:ss")
            for name in ("entry_time", "exit_time")
        } | {
            name: st.column_config.NumberColumn(format="%.2f")
            for name in ("pnl_y", "pnl_x", "fees", "pnl")
        } | {
            name: st.column_config.NumberColumn(format="%.8g")
            for name in ("beta", "qty_y", "qty_x", "entry_y", "entry_x", "exit_y", "exit_x")
        },
    )  # fmt: skip


def trades_csv(result: Result) -> bytes:
    """The trades table, times in ISO-8601."""
    table = result.trades.copy()
    for name in ("entry_time", "exit_time"):
        table[name] = table[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table.to_csv(index=False, lineterminator="\n").encode()


def parameters_json(result: Result) -> bytes:
    """Rules and costs as JSON."""
    return json.dumps(parameters(result.rules, result.costs), indent=2).encode()


def cards_html(result: Result) -> str:
    """The deciding numbers."""
    figures = result.metrics
    notes = {
        "total_pnl": "quote currency",
        "total_return": "of the capital",
        "sharpe": "a year, riskless rate 0",
        "max_drawdown": f"lasted {duration(figures['max_drawdown_s'])}",
        "trades": f"{figures['long_trades']:,.0f} long, {figures['short_trades']:,.0f} short",
        "win_rate": f"{formatted('average_pnl', figures['average_pnl'])} a trade",
        "profit_factor": f"break-even {formatted('break_even_bps', figures['break_even_bps'])} bps",
        "fees": f"slippage {formatted('slippage', figures['slippage'])}",
    }
    cells = []
    for name, note in notes.items():
        value = figures[name]
        tone = ""
        if name in ("total_pnl", "total_return"):
            tone = "good" if value > 0 else "bad" if value < 0 else ""
        cells.append(
            f'<div class="pw-card" data-testid="bt-{name}"><div class="k">{METRICS[name].label}'
            f'</div><div class="v {tone}">{formatted(name, value)}</div>'
            f'<div class="s">{note}</div></div>'
        )
    return f'<div class="pw pw-cards">{"".join(cells)}</div>'


def metrics_html(result: Result) -> str:
    """Every figure, with its unit."""
    rows: list[tuple[Cell, ...]] = [
        (metric.label, formatted(name, result.metrics[name])) for name, metric in METRICS.items()
    ]
    return table_html("In-sample figures", ("what", "value"), rows, (1,))


def formatted(name: str, value: float) -> str:
    """A figure in its unit."""
    if not math.isfinite(value):
        return "–"
    unit = METRICS[name].unit
    if unit == "count":
        return number(value, 0 if float(value).is_integer() else 2)
    if unit.startswith("fraction"):
        return percent(value) if name in SIGNED else f"{number(value * 100, 2)} %"
    if unit == "s":
        return duration(value)
    if unit == "quote":
        return number(value, 2)
    return significant(value, 4)


def figure(result: Result) -> go.Figure:
    """Equity with its drawdown below, and the z-score with entries and exits marked."""
    rules, signals = result.rules, result.signals
    made = stacked([("equity", 2.4), ("drawdown, %", 1.0), ("z-score, σ", 1.8)],
                   str(id(result)))  # fmt: skip
    made.layout.yaxis.tickformat = ",.0f"
    time = milliseconds(pd.DatetimeIndex(result.equity.index))
    lines: tuple[tuple[Floats, int, str, str, str], ...] = (
        (floats(result.equity), 0, "equity", LEG_Y, ",.2f"),
        (-100 * floats(result.drawdown), 1, "drawdown", BAD, ".2f"),
        (floats(signals["zscore"]), 2, "z", SCORE, ".2f"),
    )
    for values, row, name, colour, form in lines:
        at, level = thinned(time, values)
        made.add_scatter(x=at, y=level, yaxis=axis(row), name=name, mode="lines",
                         line={"color": colour, "width": 1.3}, hovertemplate=f"%{{y:{form}}}",
                         **({"fill": "tozeroy"} if row == 1 else {}))  # fmt: skip
    for z, colour in _levels(rules):
        made.add_shape(
            type="line", xref="x domain", x0=0, x1=1, yref=axis(2), y0=z, y1=z,
            line={"color": colour, "width": 1, "dash": "dot"}, layer="below",
        )  # fmt: skip
    _marks(made, result)
    show_all(made, time)
    return made


def _levels(rules: Rules) -> list[tuple[float, str]]:
    levels = [(rules.entry_z, MUTED), (-rules.entry_z, MUTED), (rules.exit_z, GOOD),
              (-rules.exit_z, GOOD)]  # fmt: skip
    if rules.stop_z is not None:
        levels += [(rules.stop_z, BAD), (-rules.stop_z, BAD)]
    return levels


def _marks(made: go.Figure, result: Result) -> None:
    """Where positions were opened and closed: at the bars that filled them."""
    signals, trades = result.signals, result.trades.tail(MARKERS)
    score = signals["zscore"].to_numpy()
    index = pd.DatetimeIndex(signals.index)
    for side, symbol, colour in (("long", "triangle-up", GOOD), ("short", "triangle-down", BAD)):
        times = pd.DatetimeIndex(trades.loc[trades["side"] == side, "entry_time"])
        _mark(made, index, score, times, f"{side} entry", symbol, colour)
    _mark(made, index, score, pd.DatetimeIndex(trades["exit_time"]), "exit", "x-thin-open", MUTED)


def _mark(
    made: go.Figure, index: pd.DatetimeIndex, score: np.ndarray[Any, Any], times: pd.DatetimeIndex,
    name: str, symbol: str, colour: str,
) -> None:  # fmt: skip
    rows = index.get_indexer(times)
    made.add_scatter(
        x=milliseconds(times), y=score[rows], yaxis=axis(2), mode="markers", name=name,
        marker={"symbol": symbol, "size": 8, "color": colour, "line": {"width": 1.5,
                "color": colour}}, hoverinfo="skip",
    )  # fmt: skip
