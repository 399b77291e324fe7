"""The backtest view: rules, equity and drawdown, signals, trades, and how far to believe it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pairs.backtest.luck import Counted, judge, luck_words, trials_words
from pairs.backtest.metrics import METRICS, returns_per_year
from pairs.backtest.overfitting import Interval, returns_of, sharpe_interval
from pairs.backtest.report import RUINED, is_ruined, shown_metrics
from pairs.backtest.rules import PRESETS, PRESETS_TAKEN, Costs, Rules
from pairs.backtest.simulation import Result, run
from pairs.bars.files import frame_csv
from pairs.dashboard.address import start_with
from pairs.dashboard.context import Choice, Page, boundary
from pairs.dashboard.download import download_button
from pairs.dashboard.provenance import parameters_json, provenance_of
from pairs.dashboard.repeat import load_parameters, loaded_span
from pairs.dashboard.views import robustness
from pairs.dashboard.views.robustness import BacktestRequest, equity_lines, formatted, metrics_html
from pairs.figures.layout import axis, floats, milliseconds, show_all, stacked, thinned
from pairs.figures.plain import plain
from pairs.figures.report import html_report
from pairs.figures.statistics import filter_html
from pairs.figures.tables import note_html
from pairs.figures.theme import BAD, GOOD, MUTED, SCORE, duration, number, tint
from pairs.live.jobs import Progress
from pairs.market import bar_seconds

SPANS: dict[str, float | None] = {
    "1 d": 86_400.0,
    "7 d": 7 * 86_400.0,
    "30 d": 30 * 86_400.0,
    "everything": None,
}
HEIGHT = "max(calc(100vh - 25rem), 26rem)"
OWN_FEE = "own"
MARKERS = 400  # trades marked in the figure, the newest


@dataclass(frozen=True, slots=True)
class JudgedBacktest:
    """A backtest, and how far its Sharpe ratio is to be believed."""

    result: Result
    interval: Interval
    counted: Counted


def draw(page: Page) -> None:
    """The view on the page."""
    with page.options:
        part = st.segmented_control(
            "Show",
            list(PAGES),
            default="Run",
            required=True,
            key="bt_page",
            bind="query-params",
            label_visibility="collapsed",
        )
        button = st.container()
    try:
        asked = _form(page)
    except ValueError as error:
        st.error(f"These rules cannot be traded: {plain(error)}")
        return
    PAGES[str(part)](asked, button)


def run_page(asked: BacktestRequest, button: DeltaGenerator) -> None:
    """One run of the rules as they stand."""
    job = asked.job("run", "Backtest", button, _work(asked))
    if job is None:
        st.info("Nothing was run yet. The rules are those of the sidebar and of the row above.")
        return
    judged: JudgedBacktest = job.result
    result = judged.result
    st.html(cards_html(judged) + note_html(verdict_text(judged)))
    left, right = st.columns([3, 1], gap="medium")
    with left, boundary("Equity"):
        asked.page.chart(
            lambda: figure(result, str(job.number)), (job.number,), name="Backtest", height=HEIGHT
        )
        _trades(asked, judged)
    with right, boundary("Metrics"):
        if told := filter_html(result.filter_deviation):
            st.html(told)
        st.html(metrics_html(result.metrics, "In-sample figures"))


def verdict_text(judged: JudgedBacktest) -> str:
    """How far the Sharpe ratio is to be believed, in one sentence."""
    if is_ruined(judged.result.metrics):
        return f"IN-SAMPLE: {RUINED[0].lower()}{RUINED[1:]}"
    return (
        f"IN-SAMPLE: {luck_words(judged.counted)}; {trials_words(judged.counted)}. The interval is "
        "the stationary bootstrap's."
    )


def _work(asked: BacktestRequest) -> Callable[[Progress], JudgedBacktest]:
    """Trade the bars, and judge the result by what was tried on these bars before."""

    def work(progress: Progress) -> JudgedBacktest:
        y, x = asked.bars(progress, 4)
        result = run(y, x, asked.rules, asked.costs)
        progress(3, 4)
        returns = returns_of(floats(result.equity))
        per_year = returns_per_year(pd.DatetimeIndex(result.equity.index))
        tried = [(asked.rules, result.metrics["sharpe"])]
        judged = judge(result.equity, tried, asked.costs, asked.where)
        return JudgedBacktest(result, sharpe_interval(returns, per_year, samples=1000), judged)

    return work


PAGES: dict[str, Callable[[BacktestRequest, DeltaGenerator], None]] = {
    "Run": run_page,
    "Parameters": robustness.parameters_page,
    "Walk-forward": robustness.walk_forward_page,
    "Costs": robustness.costs_page,
}


def _form(page: Page) -> BacktestRequest:
    """What a run is asked for: the sidebar's rules and this row's."""
    choice = page.choice
    first = st.columns([0.95, 1, 1, 1.05, 2.15, 0.95, 0.95, 0.95])  # whole at 1280 pixels
    start = _span(choice)  # in the key too: what is left out of a link is this start
    span = first[0].selectbox(
        "History", list(SPANS), index=start, key=f"bt_span_{start}", bind="query-params"
    )
    notional = first[1].number_input(
        "Notional",
        1.0,
        value=10_000.0,
        step=1000.0,
        format="%.0f",
        key="bt_notional",
        bind="query-params",
        help="Gross value of a trade, both legs",
    )
    capital = first[2].number_input(
        "Capital",
        1.0,
        value=10_000.0,
        step=1000.0,
        format="%.0f",
        key="bt_capital",
        bind="query-params",
    )
    slippage = first[3].number_input(
        "Slippage, bps",
        0.0,
        1000.0,
        1.0,
        0.5,
        key="bt_slippage",
        bind="query-params",
        help="Per leg and fill",
    )
    fees = [*PRESETS, OWN_FEE]
    preset = first[4].selectbox(
        "Fees",
        fees,
        index=start_with("bt_fees", fees, fees[1], fee_label),
        key="bt_fees",
        format_func=fee_label,
        help=f"Public base rates as of {PRESETS_TAKEN}, per leg and fill",
    )
    own = first[5].number_input(
        "Own fee, bps",
        0.0,
        1000.0,
        5.0,
        0.5,
        key="bt_fee",
        bind="query-params",
        disabled=preset != OWN_FEE,
    )
    loss = first[6].number_input(
        "Stop loss, %",
        0.0,
        100.0,
        0.0,
        0.5,
        key="bt_loss",
        bind="query-params",
        help="Of the notional; 0: none",
    )
    most = first[7].number_input(
        "Most bars",
        0,
        100_000,
        0,
        key="bt_bars",
        bind="query-params",
        help="Bars a position lives at most; 0: any",
    )
    rules = rules_of(
        choice,
        stop_loss=loss / 100 or None,
        max_bars=int(most) or None,
        notional=float(notional),
        capital=float(capital),
    )
    fee = own if preset == OWN_FEE else PRESETS[preset].fee_bps
    costs = Costs(fee_bps=float(fee), slippage_bps=float(slippage))
    row = st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center")
    load_parameters(page, row)
    return BacktestRequest(page, rules, costs, SPANS[str(span)], loaded_span(page, row))


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
        hedge=spec.hedge,
        beta=spec.beta,
        hedge_window=spec.hedge_window,
        window=spec.window,
        delta=spec.delta,
        observation_variance=spec.observation_variance,
        entry_z=choice.entry_z,
        exit_z=choice.exit_z,
        stop_z=choice.stop_z,
        **more,
    )


def _span(choice: Choice) -> int:
    """Files are short: all of them; of a live market what is quick to read."""
    if choice.y.venue == "upload":
        return 3
    return 0 if bar_seconds(choice.bar) < 60 else 1


def _trades(asked: BacktestRequest, judged: JudgedBacktest) -> None:
    result = judged.result
    row = st.container(horizontal=True, vertical_alignment="center")
    row.html(f'<div class="pw"><p class="pw-title">{len(result.trades):,} trades</p></div>')
    name, made_of = asked.name, provenance_of(*asked.instruments, result)
    for label, file, kind, make in (
        ("Trades", "trades.csv", "text/csv", lambda: trades_csv(result)),
        ("Equity", "equity.csv", "text/csv", lambda: frame_csv(result.equity.to_frame()).encode()),
        ("Report", "report.html", "text/html", lambda: report_html(asked, judged)),
        (
            "Parameters",
            "parameters.json",
            "application/json",
            lambda: parameters_json(result, made_of),
        ),
    ):
        download_button(label, make, f"{name}_{file}", kind, key=f"download-bt-{label}", place=row)
    st.dataframe(
        result.trades.iloc[::-1],
        width="stretch",
        height=300,
        hide_index=True,
        column_config={
            name: st.column_config.DatetimeColumn(
                plain(f"{name.removesuffix('_time')}, UTC"), format="YYYY-MM-DD HH:mm:ss"
            )
            for name in ("entry_time", "exit_time")
        }
        | {
            name: st.column_config.NumberColumn(format="%.2f")
            for name in ("pnl_y", "pnl_x", "fees", "pnl")
        }
        | {
            name: st.column_config.NumberColumn(format="%.8g")
            for name in ("beta", "qty_y", "qty_x", "entry_y", "entry_x", "exit_y", "exit_x")
        },
    )


def report_html(asked: BacktestRequest, judged: JudgedBacktest) -> bytes:
    """The run as one HTML page that needs nothing else."""
    title = f"Backtest of {asked.page.choice.name}, bars of {asked.page.choice.bar}"
    return html_report(
        judged.result,
        title=title,
        interval=judged.interval,
        luck=verdict_text(judged),
        provenance=provenance_of(*asked.instruments, judged.result),
    ).encode()


def trades_csv(result: Result) -> bytes:
    """The trades table, times in ISO-8601."""
    table = result.trades.copy()
    for name in ("entry_time", "exit_time"):
        table[name] = table[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table.to_csv(index=False, lineterminator="\n").encode()


def cards_html(judged: JudgedBacktest) -> str:
    """The deciding numbers."""
    figures, interval = shown_metrics(judged.result.metrics), judged.interval
    lost = is_ruined(figures)
    notes = {
        "total_pnl": "quote currency",
        "total_return": "of the capital",
        "sharpe": "the capital was lost"
        if lost
        else f"95 %: {_short(interval.low)} … {_short(interval.high)}",
        "max_drawdown": f"lasted {duration(figures['max_drawdown_s'])}",
        "trades": f"{figures['long_trades']:,.0f} long, {figures['short_trades']:,.0f} short",
        "win_rate": f"{formatted('average_pnl', figures['average_pnl'])} a trade",
        "profit_factor": f"even at {number(figures['break_even_bps'], 1)} bps",
        "fees": f"slippage {formatted('slippage', figures['slippage'])}",
    }
    coloured = {"total_pnl": 2, "total_return": 4}  # to these decimals
    cells = []
    for name, note in notes.items():
        value = figures[name]
        tone = tint(value, coloured[name]) if name in coloured else ""
        cells.append(
            f'<div class="pw-card" data-testid="bt-{name}"><div class="k">{METRICS[name].label}'
            f'</div><div class="v {tone}">{formatted(name, value)}</div>'
            f'<div class="s">{note}</div></div>'
        )
    return f'<div class="pw pw-cards">{"".join(cells)}</div>'


def _short(ratio: float) -> str:
    """A ratio in a narrow place."""
    return number(ratio, 0 if abs(ratio) >= 10 else 1)


def figure(result: Result, uirevision: str = "") -> go.Figure:
    """Equity with its drawdown below, and the z-score with entries and exits marked."""
    rules, signals = result.rules, result.signals
    made = stacked([("equity", 2.4), ("drawdown, %", 1.0), ("z-score, σ", 1.8)], uirevision)
    made.layout.yaxis.tickformat = ",.0f"
    time = milliseconds(pd.DatetimeIndex(result.equity.index))
    equity_lines(made, time, floats(result.equity), floats(result.drawdown))
    at, z = thinned(time, floats(signals["zscore"]))
    made.add_scatter(
        x=at,
        y=z,
        yaxis=axis(2),
        name="z",
        mode="lines",
        line={"color": SCORE, "width": 1.3},
        hovertemplate="%{y:.2f}",
    )
    for level, colour in _levels(rules):
        made.add_shape(
            type="line",
            xref="x domain",
            x0=0,
            x1=1,
            yref=axis(2),
            y0=level,
            y1=level,
            line={"color": colour, "width": 1, "dash": "dot"},
            layer="below",
        )
    _marks(made, result)
    show_all(made, time)
    return made


def _levels(rules: Rules) -> list[tuple[float, str]]:
    levels = [
        (rules.entry_z, MUTED),
        (-rules.entry_z, MUTED),
        (rules.exit_z, GOOD),
        (-rules.exit_z, GOOD),
    ]
    if rules.stop_z is not None:
        levels += [(rules.stop_z, BAD), (-rules.stop_z, BAD)]
    return levels


def _marks(made: go.Figure, result: Result) -> None:
    """Where the rules enter and leave, at the close that decides, as the pair's view shows it."""
    signals = result.signals.iloc[:-1]  # nothing follows the last close
    taken = signals[signals["action"] != ""].tail(2 * MARKERS)
    entry = {name: taken["action"] == name for name in ("long", "short")}
    for at, name, symbol, colour in (
        (entry["long"], "long entry", "triangle-up", GOOD),
        (entry["short"], "short entry", "triangle-down", BAD),
        (~(entry["long"] | entry["short"]), "exit", "x-thin-open", MUTED),
    ):
        rows = taken[at]
        made.add_scatter(
            x=milliseconds(pd.DatetimeIndex(rows.index)),
            y=floats(rows["zscore"]),
            yaxis=axis(2),
            mode="markers",
            name=name,
            hoverinfo="skip",
            marker={
                "symbol": symbol,
                "size": 8,
                "color": colour,
                "line": {"width": 1.5, "color": colour},
            },
        )
