"""The backtest view: rules, equity and drawdown, signals, trades, and how far to believe it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

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
from pairs.dashboard.views.robustness import BacktestRequest, equity_lines
from pairs.figures.hints import hint_html
from pairs.figures.layout import axis, floats, milliseconds, show_all, stacked, thinned
from pairs.figures.plain import plain
from pairs.figures.report import html_report
from pairs.figures.statistics import filter_html
from pairs.figures.tables import note_html
from pairs.figures.theme import BAD, GOOD, MUTED, SCORE, duration, number, stretch, tint
from pairs.figures.verdict import (
    ENOUGH_S,
    OF_A_YEAR,
    cost_words,
    coverage_words,
    formatted,
    metrics_html,
    traded_s,
)
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
TABLE, CHOSEN = "bt-trades", "bt_trade"
COLOURED = {"total_pnl": 2, "total_return": 4}  # to these decimals
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
    try:
        asked = _form(page)
    except ValueError as error:
        st.error(f"These rules cannot be traded: {plain(error)}")
        return
    PAGES[str(part)](asked)


def run_page(asked: BacktestRequest) -> None:
    """The rules as they stand, on the bars there are."""
    asked.page.live("Backtest", lambda _: _run(asked))


def _run(asked: BacktestRequest) -> None:
    job = asked.current("run", "Backtest", _work(asked))
    if job is None:
        return
    judged: JudgedBacktest = job.result
    result = judged.result
    st.html(cards_html(judged) + basis_html(asked, judged))
    left, right = st.columns([3, 1], gap="medium")
    with left, boundary("Equity"):
        chosen = chosen_trade(result, st.session_state.get(CHOSEN))
        asked.page.chart(
            lambda: figure(result, asked.zoom, chosen),
            (job.number, chosen),
            name="Backtest",
            height=HEIGHT,
        )
        _trades(asked, judged)
    with right, boundary("Metrics"):
        if told := filter_html(result.filter_deviation):
            st.html(told)
        st.html(metrics_html(result.metrics, "In-sample figures", traded_s(result)))


def basis_html(asked: BacktestRequest, judged: JudgedBacktest) -> str:
    """What it may cost, how many bars it stands on, and how far to believe it."""
    result = judged.result
    told = f"{cost_words(result, asked.costs)} {coverage_words(result, asked.span_s)}"
    return (
        f'<div class="pw"><p class="pw-basis" data-testid="bt-basis">{escape(told)}</p></div>'
        + note_html(verdict_text(judged))
    )


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


PAGES: dict[str, Callable[[BacktestRequest], None]] = {
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
        key=TABLE,
        on_select=partial(_choose, result),
        selection_mode="single-row",
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


def _choose(result: Result) -> None:
    """The trade whose row was clicked is shown above; none, once it is let go."""
    rows = st.session_state[TABLE].selection.rows
    times = result.trades["entry_time"].iloc[::-1]
    st.session_state[CHOSEN] = times.iloc[rows[0]].isoformat() if rows else None


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


def table_csv(part: str, result: Any) -> bytes:
    """The table of one of PAGES, of what its job has given."""
    if part == "Run":
        return trades_csv(result.result)
    table = result.reset_index() if part == "Costs" else result[0]
    table = table.folds if part == "Walk-forward" else table
    made: str = table.to_csv(index=False, lineterminator="\n")
    return made.encode()


def trades_csv(result: Result) -> bytes:
    """The trades table, times in ISO-8601."""
    table = result.trades.copy()
    for name in ("entry_time", "exit_time"):
        table[name] = table[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table.to_csv(index=False, lineterminator="\n").encode()


def cards_html(judged: JudgedBacktest) -> str:
    """The deciding numbers, what it may cost first."""
    result = judged.result
    figures, interval = shown_metrics(result.metrics), judged.interval
    range_ = f"{_short(interval.low)} … {_short(interval.high)}"
    few = traded_s(result) < ENOUGH_S
    range_ = f"{stretch(traded_s(result))}: {range_}" if few else f"95 %: {range_}"
    notes = {
        "break_even_bps": f"profit factor {formatted('profit_factor', figures['profit_factor'])}",
        "total_pnl": "quote currency",
        "total_return": "of the capital",
        "sharpe": "the capital was lost" if is_ruined(figures) else range_,
        "max_drawdown": f"lasted {duration(figures['max_drawdown_s'])}",
        "trades": f"{figures['long_trades']:,.0f} long, {figures['short_trades']:,.0f} short",
        "win_rate": f"{formatted('average_pnl', figures['average_pnl'])} a trade",
        "fees": f"slippage {formatted('slippage', figures['slippage'])}",
    }
    cells = []
    for name, note in notes.items():
        value, label = figures[name], METRICS[name].label.split(" per leg")[0]
        tone = tint(value, COLOURED[name]) if name in COLOURED else ""
        tone = "quiet" if few and name in OF_A_YEAR else tone
        cells.append(
            f'<div class="pw-card" data-testid="bt-{name}"><div class="k">{label}'
            f'{hint_html(label)}</div><div class="v {tone}">{formatted(name, value)}</div>'
            f'<div class="s">{note}</div></div>'
        )
    return f'<div class="pw pw-cards">{"".join(cells)}</div>'


def _short(ratio: float) -> str:
    """A ratio in a narrow place."""
    return number(ratio, 0 if abs(ratio) >= 10 else 1)


def chosen_trade(result: Result, key: str | None) -> int | None:
    """The row of the trade that entered at that time; None where there is none (any more)."""
    entered = result.trades["entry_time"].map(pd.Timestamp.isoformat).tolist() if key else []
    return entered.index(key) if key in entered else None


def figure(result: Result, uirevision: str = "", trade: int | None = None) -> go.Figure:
    """Equity with its drawdown below, and the z-score with entries and exits marked; around one
    `trade` of the table, where given."""
    rules, signals = result.rules, result.signals
    made = stacked(
        [("equity", 2.4), ("drawdown, %", 1.0), ("z-score, σ", 1.8)], f"{uirevision}{trade or ''}"
    )
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
    if trade is not None:
        _show_trade(made, result.trades.iloc[trade])
    return made


def _show_trade(made: go.Figure, trade: pd.Series[Any]) -> None:
    """A band from its entry to its exit, in all panels, with as much again on either side."""
    start, end = milliseconds(pd.DatetimeIndex([trade["entry_time"], trade["exit_time"]])).tolist()
    made.add_shape(
        type="rect",
        yref="paper",
        y0=0,
        y1=1,
        x0=start,
        x1=end,
        layer="below",
        line={"width": 0},
        fillcolor=MUTED,
        opacity=0.18,
    )
    around = max(end - start, 60_000.0)
    made.layout.xaxis.range = [start - around, end + around]


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
