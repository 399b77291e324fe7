"""How far to believe a backtest: its parameters around, out of sample, at other costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pairs.backtest.grid import combinations, cost_sensitivity, grid, heat_map
from pairs.backtest.luck import Counted, Where, judge, luck_words, trials_words
from pairs.backtest.metrics import METRICS, returns_per_year
from pairs.backtest.report import RUINED, is_ruined, shown_curve, shown_metrics
from pairs.backtest.rules import Costs, Rules
from pairs.backtest.simulation import run
from pairs.backtest.walk_forward import WalkForward, walk_forward
from pairs.bars.resampling import align
from pairs.dashboard.address import labels, start_with
from pairs.dashboard.clicks import on_click
from pairs.dashboard.context import Page, boundary
from pairs.dashboard.download import download_button
from pairs.dashboard.following import Wanted, current
from pairs.dashboard.provenance import file_name
from pairs.figures.layout import (
    PLAIN,
    Floats,
    axis,
    floats,
    milliseconds,
    show_all,
    stacked,
    thinned,
    titled,
)
from pairs.figures.plain import plain
from pairs.figures.tables import Cell, note_html, table_html
from pairs.figures.theme import (
    BACKGROUND,
    BAD,
    GRID,
    LEG_Y,
    MUTED,
    NONE,
    TEXT,
    number,
    stretch,
    tint,
)
from pairs.figures.verdict import formatted, metrics_html
from pairs.live.jobs import Job, Progress
from pairs.market import Instrument, bar_seconds

ENTRIES = tuple(round(1.0 + 0.25 * k, 2) for k in range(11))
WINDOWS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # of the window chosen
MAPPED = ("sharpe", "total_return", "max_drawdown", "trades")
HEIGHT = "26rem"
LEAST_KEPT = 5000  # with so many bars at hand there may be more in the database


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """What is to be tested, and where: the rules and costs, and the span of history in seconds
    (None: all), or the open times of its first and last bar."""

    page: Page
    rules: Rules
    costs: Costs
    span_s: float | None
    between: tuple[pd.Timestamp, pd.Timestamp] | None = None

    @property
    def sample(self) -> tuple[Any, ...]:
        """The bars it is tested on, but for those that are still to come."""
        return (*self.page.choice.pair, self.page.choice.bar, self.between or self.span_s)

    @property
    def where(self) -> Where:
        """Where what is tried on these bars is counted."""
        choice = self.page.choice
        return Where(self.page.store, *choice.pair, bar_seconds(choice.bar))

    @property
    def instruments(self) -> tuple[tuple[Instrument, Instrument], str]:
        """The legs and their bar length."""
        return self.page.choice.pair, self.page.choice.bar

    @property
    def name(self) -> str:
        choice = self.page.choice
        return file_name(choice.pair, choice.bar)

    @property
    def zoom(self) -> str:
        """What a zoom made by hand outlives: other rules on the same bars, and further bars."""
        return repr((self.sample, self.span_s))

    def bars(self, progress: Progress, steps: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The closed bars of both legs."""
        progress(0, steps)
        if self.between is None:
            y, x = self.page.sample(self.span_s)
        else:
            y, x = (self.page.stored(leg, None, self.between) for leg in self.page.choice.pair)
        progress(2, steps)
        if not len(y.index.intersection(x.index)):
            raise ValueError(self.page.nothing())
        return y, x

    def current(
        self, part: str, title: str, work: Callable[[Progress], Any], *more: Hashable
    ) -> Job | None:
        """See `following.current`: of these rules, costs and bars, and of what `more` says."""
        snapshot, view = self.page.now()
        have, need = view.warmup
        if self.between is None and have < need and have < LEAST_KEPT:
            too_few(self.page, have, need)
            return None
        controls = (self.sample, self.rules, self.costs, *more)
        bars = snapshot.closed_until if self.between is None else self.between
        return current(Wanted(f"backtest_{part}", title, controls, bars, work))


def too_few(page: Page, have: int, need: int) -> None:
    """The windows are longer than what is stored: how long to wait, and shorter ones at a click."""
    if not have:
        st.info(plain(page.nothing()))
        return
    bar, spec = page.choice.bar, page.choice.spec
    wait = stretch((need - have) * bar_seconds(bar))
    st.info(
        f"The windows need {need:,} bars that both legs have; {have:,} are stored. "
        f"At bars of {plain(bar)} that is {plain(wait)} more."
    )
    window = min(spec.window, have // 6)
    if window < 10:
        return

    def use() -> None:
        st.session_state[f"window_{bar}"] = window
        if f"fit_{bar}" in st.session_state:
            st.session_state[f"fit_{bar}"] = min(spec.fit_window, 2 * window)

    windows = f"{window} and {min(spec.fit_window, 2 * window)}"
    windows = str(window) if spec.hedge in ("fixed", "ols") else windows
    st.button(
        f"Use windows of {plain(windows)} bars", on_click=use, key="fit_windows", type="primary"
    )


# -- the parameters around


def parameters_page(asked: BacktestRequest) -> None:
    """Entry levels and windows around those chosen: a plateau is worth more than a peak."""
    called = labels({name: METRICS[name].label for name in MAPPED})
    value = st.selectbox(
        "Figure",
        MAPPED,
        index=start_with("bt_figure", MAPPED, MAPPED[0], called),
        format_func=called,
        key="bt_figure",
        width=220,
    )
    asked.page.live("Parameters", lambda _: _parameters(asked, value))
    on_click("Parameters", partial(_take, asked))


def _take(asked: BacktestRequest, entry: str, window: str) -> None:
    """Trade by the parameters of the cell that was clicked."""
    for rules in around(asked.rules):
        if (f"{rules.entry_z:g}", f"{rules.window:g}") == (entry, window):
            st.session_state["entry"] = rules.entry_z
            st.session_state[f"window_{asked.page.choice.bar}"] = rules.window


def _parameters(asked: BacktestRequest, value: str) -> None:
    candidates = around(asked.rules)

    def work(progress: Progress) -> tuple[pd.DataFrame, Any]:
        y, x = asked.bars(progress, len(candidates) + 2)
        table = grid(y, x, candidates, asked.costs, progress=progress)
        best = candidates[int(table["sharpe"].fillna(-math.inf).argmax())]
        result = run(y, x, best, asked.costs)
        tried = list(zip(candidates, floats(table["sharpe"]).tolist(), strict=True))
        return table, (best, judge(result.equity, tried, asked.costs, asked.where))

    job = asked.current("parameters", "Parameter grid", work)
    if job is None:
        st.html(note_html(f"{len(candidates)} combinations of entry level and window, in-sample."))
        return
    table, (best, judged) = job.result
    st.html(
        note_html(
            f"IN-SAMPLE. The best of {len(table)} by Sharpe ratio enters at {best.entry_z:g} with "
            f"a window of {best.window}: {number(judged.deflated.sharpe, 2)} a year, where luck "
            f"alone would show {number(judged.deflated.benchmark, 2)}: {luck_words(judged)}; "
            f"{trials_words(judged)}. A click on a cell takes its two parameters."
        )
    )
    map_of = heat_map(table, "entry_z", "window", value)
    asked.page.chart(
        lambda: heat_figure(map_of, value, asked.rules),
        (job.number, value),
        name="Parameters",
        height="calc(100vh - 24rem)",
    )
    download_button(
        "Grid",
        lambda: table.to_csv(index=False).encode(),
        f"{asked.name}_grid.csv",
        "text/csv",
        key="download-bt-grid",
    )


def around(rules: Rules) -> list[Rules]:
    """Entry levels from 1 to 3.5, windows from a quarter to the triple of the one chosen."""
    windows = sorted({max(10, round(rules.window * share)) for share in WINDOWS})
    return combinations(rules, window=windows, entry_z=ENTRIES)


def heat_figure(table: pd.DataFrame, value: str, rules: Rules) -> go.Figure:
    """A figure by entry level and window; the rules chosen are framed."""
    scale = 100.0 if METRICS[value].unit.startswith("fraction") else 1.0
    cells = table.to_numpy(dtype=np.float64) * scale
    places = 0 if METRICS[value].unit == "count" else 1
    text = [[NONE if math.isnan(cell) else number(cell, places) for cell in row] for row in cells]
    entries = [f"{column:g}" for column in table.columns]
    windows = [f"{row:g}" for row in table.index]
    made = go.Figure(
        go.Heatmap(
            z=cells,
            x=entries,
            y=windows,
            text=text,
            texttemplate="%{text}",
            hoverongaps=False,
            colorscale=[[0.0, BAD], [0.5, BACKGROUND], [1.0, LEG_Y]],
            zmid=0.0 if value in ("sharpe", "total_return") else None,
            xgap=1,
            ygap=1,
            colorbar={"thickness": 10, "outlinewidth": 0},
            hovertemplate="entry %{x}, window %{y}: %{text}<extra></extra>",
        )
    )
    if rules.entry_z in table.columns and rules.window in table.index:
        column = int(np.flatnonzero(table.columns == rules.entry_z)[0])
        row = int(np.flatnonzero(table.index == rules.window)[0])
        made.add_shape(
            type="rect",
            x0=column - 0.5,
            x1=column + 0.5,
            y0=row - 0.5,
            y1=row + 0.5,
            line={"color": TEXT, "width": 2},
        )
    unit = ", %" if scale == 100.0 else ""
    made.update_layout(
        PLAIN,
        title={"text": f"{METRICS[value].label}{unit}", "font": {"size": 13}},
        margin={"l": 70, "r": 20, "t": 36, "b": 50},
        xaxis={"title": titled("entry z"), "type": "category", "showgrid": False},
        yaxis={"title": titled("window, bars"), "type": "category", "showgrid": False},
    )
    return made


# -- out of sample


def walk_forward_page(asked: BacktestRequest) -> None:
    """Parameters chosen on one stretch, traded on the next."""
    left, right, _ = st.columns([1, 1, 4])
    train = int(
        left.number_input(
            "Train, bars", 50, 1_000_000, 720, 60, key="bt_train", bind="query-params"
        )
    )
    test = int(
        right.number_input("Test, bars", 10, 1_000_000, 240, 60, key="bt_test", bind="query-params")
    )
    asked.page.live("Walk-forward", lambda _: _walk_forward(asked, train, test))


def _walk_forward(asked: BacktestRequest, train: int, test: int) -> None:
    candidates = around(asked.rules)

    def work(progress: Progress) -> tuple[WalkForward, Counted]:
        y, x = asked.bars(progress, 4)
        found = walk_forward(
            y, x, candidates, asked.costs, train=train, test=test, progress=progress
        )
        tried = list(zip(candidates, floats(found.candidates["sharpe"]).tolist(), strict=True))
        per_year = returns_per_year(pd.DatetimeIndex(align(y, x)[0].index))
        return found, judge(found.equity, tried, asked.costs, asked.where, per_year)

    job = asked.current("walk_forward", "Walk-forward", work, train, test)
    if job is None:
        st.html(
            note_html(
                f"The best of {len(candidates)} combinations on {train:,} bars is traded on the "
                f"next {test:,}, and the pieces are joined. A fixed beta or a noise that was found "
                "on these bars has seen them all."
            )
        )
        return
    found, judged = job.result
    st.html(note_html(walk_words(found, judged)))
    columns = st.columns([3, 1], gap="medium")
    with columns[0], boundary("Equity"):
        asked.page.chart(
            lambda: walk_figure(found, asked.zoom),
            (job.number,),
            name="Walk-forward",
            height=HEIGHT,
        )
        st.html(folds_html(found))
    with columns[1]:
        title = "In-sample figures" if found.given else "Out-of-sample figures"
        st.html(metrics_html(found.metrics, title))


def walk_words(found: WalkForward, counted: Counted) -> str:
    """The result in one sentence, also where it loses."""
    judged, (first, *rest) = counted.deflated, found.heading.split(":", 1)
    said = (
        f"{first.upper()}{''.join(f':{more}' for more in rest)}. {len(found.folds)} pieces: "
        f"{number(found.metrics['total_pnl'], 2)} quote currency"
    )
    if is_ruined(found.metrics):
        return f"{said}. {RUINED}"
    return (
        f"{said}, Sharpe ratio {number(judged.sharpe, 2)} a year; luck alone would show "
        f"{number(judged.benchmark, 2)}: "
        f"{luck_words(counted)}; {trials_words(counted)}."
    )


def walk_figure(found: WalkForward, uirevision: str = "") -> go.Figure:
    """Equity and drawdown of the joined pieces, their borders marked."""
    made = stacked([("equity", 2.4), ("drawdown, %", 1.0)], uirevision)
    made.layout.yaxis.tickformat = ",.0f"
    equity = found.equity
    peak = equity.cummax().clip(lower=found.rules[0].capital)
    time = milliseconds(pd.DatetimeIndex(equity.index))
    equity_lines(made, time, floats(equity), floats((peak - equity) / peak))
    borders = milliseconds(pd.DatetimeIndex(found.folds["test_start"]))
    for border in borders.tolist():
        made.add_shape(
            type="line",
            yref="paper",
            y0=0,
            y1=1,
            x0=border,
            x1=border,
            layer="below",
            line={"color": GRID, "width": 1, "dash": "dot"},
        )
    show_all(made, time)
    return made


def folds_html(found: WalkForward) -> str:
    """What was chosen on each stretch, and what became of it on the next."""
    rows: list[tuple[Cell, ...]] = []
    fold: Any
    for fold in found.folds.itertuples():
        rules = found.rules[fold.chosen] if fold.chosen >= 0 else None
        rows.append(
            (
                f"{fold.test_start:%m-%d %H:%M}",
                f"{fold.test_end:%m-%d %H:%M}",
                NONE if rules is None else f"{rules.entry_z:g}",
                NONE if rules is None else f"{rules.window}",
                number(fold.train, 2),
                number(fold.test, 2),
                (number(fold.test_pnl, 2), tint(fold.test_pnl, 2)),
                number(fold.test_trades, 0),
            )
        )
    heads = (
        "from, UTC",
        "to",
        "entry z",
        "window",
        "Sharpe in training",
        "Sharpe traded",
        "profit",
        "trades",
    )
    return table_html("Pieces", heads, rows, (2, 3, 4, 5, 6, 7))


# -- at other costs


def costs_page(asked: BacktestRequest) -> None:
    """The same rules at other costs."""
    asked.page.live("Costs", lambda _: _costs(asked))


def _costs(asked: BacktestRequest) -> None:

    def work(progress: Progress) -> pd.DataFrame:
        y, x = asked.bars(progress, 3)
        return cost_sensitivity(y, x, asked.rules, asked.costs)

    job = asked.current("costs", "Costs", work)
    if job is None:
        st.html(note_html("Fees and slippage together, per leg and fill, from none to 20 bps."))
        return
    table: pd.DataFrame = job.result
    left, right = st.columns([1.4, 1], gap="large")
    with left:
        asked.page.chart(
            lambda: costs_figure(table, asked.costs), (job.number,), name="Costs", height=HEIGHT
        )
    with right:
        rows = [
            (f"{level:g}", *(formatted(name, shown[name]) for name in table.columns))
            for level, row in table.iterrows()
            for shown in [shown_metrics({str(k): float(v) for k, v in row.items()})]
        ]
        heads = ("bps", *(METRICS[name].label for name in table.columns))
        st.html(table_html("At other costs, in-sample", heads, rows, range(len(heads))))


def costs_figure(table: pd.DataFrame, costs: Costs) -> go.Figure:
    """Profit by cost; the costs chosen are marked."""
    made = go.Figure(
        go.Scatter(
            x=table.index.to_numpy(dtype=np.float64),
            y=floats(table["total_pnl"]),
            name="profit",
            mode="lines+markers",
            line={"color": LEG_Y},
            hovertemplate="%{x:g} bps: %{y:,.2f}",
        )
    )
    cost = costs.fee_bps + costs.slippage_bps
    made.add_vline(
        x=cost,
        line={"color": MUTED, "dash": "dot"},
        annotation_text=f"chosen: {cost:g} bps",
        annotation={"font": {"size": 11, "color": MUTED}, "xanchor": "left", "xshift": 4},
    )
    made.add_hline(y=0.0, line={"color": MUTED, "width": 1})
    made.update_layout(
        PLAIN,
        margin={"l": 10, "r": 70, "t": 10, "b": 46},
        xaxis={
            "title": titled("fee and slippage, bps per leg and fill"),
            "gridcolor": GRID,
            "zeroline": False,
        },
        yaxis={
            "title": titled("profit, quote currency"),
            "side": "right",
            "gridcolor": GRID,
            "zeroline": False,
            "tickformat": ",.0f",
        },
    )
    return made


# -- shared


def equity_lines(made: go.Figure, time: Floats, equity: Floats, drawdown: Floats) -> None:
    """Equity in row 0 and its drawdown, as a negative percentage, in row 1."""
    equity, drawdown = shown_curve(equity, drawdown)
    lines: tuple[tuple[Floats, str, str, str, str | None], ...] = (
        (equity, "equity", LEG_Y, ",.2f", None),
        (-100 * drawdown, "drawdown", BAD, ".2f", "tozeroy"),
    )
    for row, (values, name, colour, form, fill) in enumerate(lines):
        at, level = thinned(time, values)
        made.add_scatter(
            x=at,
            y=level,
            yaxis=axis(row),
            name=name,
            mode="lines",
            fill=fill,
            line={"color": colour, "width": 1.3},
            hovertemplate=f"%{{y:{form}}}",
        )
