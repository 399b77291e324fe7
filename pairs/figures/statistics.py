"""Tables and figure of the statistics view: tests in words, prices, intervals, heat map. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from pairs.analytics.cointegration import CointegrationResult
from pairs.analytics.pair import PairView, misfit
from pairs.analytics.small_sample import (
    LEVEL,
    hurst_lags,
    hurst_limits,
    johansen_limits,
    ratio_limits,
    unit_root_limit,
    unit_root_p,
)
from pairs.analytics.summary import PairTests, PriceStatistics, pair_tests, price_statistics
from pairs.analytics.unitroot import AdfResult
from pairs.figures.layout import plain_layout
from pairs.figures.plain import figure_text
from pairs.figures.tables import Cell, note_html, table_html
from pairs.figures.theme import (
    DARK,
    NONE,
    Theme,
    decimals_of,
    duration,
    number,
    percent,
    significant,
    tint,
)
from pairs.market import bar_seconds

VERDICT_BARS = 1200  # one span for the strip, the pair's verdict and, to begin with, Statistics
LEAST = 101  # rows without which the Hurst exponent's lags have nothing to stand on
DAY = 86_400
INTERVALS = (60, 3600, DAY, 7 * DAY, 28 * DAY)
WRITTEN = 12  # symbols up to which the heat map's figures can be read
SPREADS = {
    "rolling": "rolling OLS",
    "kalman": "the Kalman filter's innovation",
    "fixed": "a fixed β",
    "ols": "one OLS of the whole sample",
}


def stretch_of(view: PairView, bars: int) -> pd.DataFrame:
    """The last `bars` rows of a pair that have a spread."""
    return view.frame.dropna(subset=["close_y", "close_x", "spread"]).tail(bars)


def when(index: pd.Index) -> str:
    """From the first to the last of some bars, the date said once."""
    times = pd.DatetimeIndex(index)
    first, last = times[0], times[-1]
    end = f"{last:%H:%M:%S}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M:%S} to {end} UTC"


def filter_html(deviation: float) -> str:
    """How well a Kalman filter expects its errors, with a warning where it does not; empty where
    there is no filter, or too little of it."""
    if not math.isfinite(deviation):
        return ""
    wrong = misfit(deviation)
    told = note_html(
        f"The Kalman filter's own z-score deviates by {significant(deviation, 3)}: 1 is right, "
        "below 0.5 or above 2 its noise is not that of these prices."
    )
    if wrong is None:
        return told
    return f'<div class="pw"><p class="bad" role="alert">▲ {escape(wrong)}</p></div>'


# -- tests


def verdicts_html(view: PairView, symbols: tuple[str, str], bar: str, bars: int) -> str:
    """The table of the tests, or the sentence why there is none."""
    frame, title = stretch_of(view, bars), "Tests of the pair · in-sample"
    obstacle = obstacle_of(view, frame, symbols)
    if obstacle is not None:
        return table_html(title, (), (), ()) + note_html(obstacle)
    tests = findings_of(view, frame)
    rows = verdicts(tests, bar_seconds(bar), view.spec.window)
    heads = ("test", "value", "5 % critical", "p", "verdict", "convention")
    known = (
        "The tests of the spread are no verdicts, since β was estimated."
        if tests.estimated
        else "The tests of the spread take β as known before these bars."
    )
    return (
        table_html(title, heads, rows, (1, 2, 3))
        + joint_html(tests)
        + note_html(
            f"The last {number(len(frame), 0)} bars of {bar} with a spread, that of "
            f"{SPREADS[view.spec.hedge]}, {when(frame.index)}: they describe these bars "
            f"and forecast none. {known} Each verdict is wrong for 5 % of unrelated walks; limits "
            "and p are those of so many rows.",
        )
    )


def findings_of(view: PairView, frame: pd.DataFrame) -> PairTests:
    """The tests of some rows of a view."""
    return pair_tests(
        frame["close_y"], frame["close_x"], frame["spread"], estimated=view.spec.hedge != "fixed"
    )


def joint_html(tests: PairTests) -> str:
    """What the tests of the legs say together."""
    text, tone = joint_verdict(tests)
    return f'<div class="pw"><p class="{tone}" data-testid="joint">{escape(text)}</p></div>'


def joint_verdict(tests: PairTests) -> tuple[str, str]:
    """Engle–Granger either way and Johansen as one test with an error of 5 %, in words and tone.

    Each of the two may be wrong half as often, and Engle–Granger's two ways half of that again
    (Bonferroni), so that looking at all of them costs no more than one test's error.
    """
    granger = (tests.y_on_x, tests.x_on_y)
    ways = [granger_p(found, tests.rows) for found in granger if not isinstance(found, str)]
    if not ways and isinstance(tests.johansen, str):
        return "Not tested", "quiet"
    found = bool(ways) and 2.0 * min(ways) < LEVEL / 2.0
    if not isinstance(tests.johansen, str):
        found |= bool(tests.johansen.trace[0] > johansen_limits(tests.rows)[1])
    return _said(
        found,
        "cointegrated, by Engle–Granger or Johansen at 5 % together",
        "no cointegration found by Engle–Granger and Johansen at 5 % together",
        "",
    )


def granger_p(result: CointegrationResult, rows: int) -> float:
    """p-value of an Engle–Granger test with a constant in so many rows."""
    return unit_root_p(result.statistic, "c", 2, rows)


def obstacle_of(view: PairView, frame: pd.DataFrame, symbols: tuple[str, str]) -> str | None:
    """Why there is nothing to test, and what to do; None where there is."""
    closes = view.frame[["close_y", "close_x"]].dropna()
    last = closes.tail(max(LEAST, view.spec.fit_window))
    for name, column in zip(symbols, last.columns, strict=True):
        if len(last) >= LEAST and last[column].min() == last[column].max():
            return (
                f"{name} has not changed in the last {len(last):,} bars: there is nothing to test. "
                "Choose another leg or a longer bar."
            )
    if len(frame) >= LEAST:
        return None
    need = LEAST + view.spec.bars_to_spread - 1
    return (
        f"{len(closes):,} of {need:,} common bars are there: the tests need {LEAST} with a spread. "
        "Wait, or choose a shorter bar or hedge window."
    )


Row = tuple[Cell, ...]


def verdicts(
    tests: PairTests, bar_s: int, window: int
) -> list[tuple[Cell, Cell, Cell, Cell, tuple[str, str], Cell]]:
    """A row per test: name, value, critical value, p, verdict in words and tone, convention.

    Every verdict that is no lack of one is wrong for 5 % of walks (`small_sample`); where β was
    estimated, and where a test has no such error to state, there is none.
    """
    rows = tests.rows
    adf_limit, granger_limit = (unit_root_limit("c", series, rows) for series in (1, 2))
    one, _, second = johansen_limits(rows)
    low, high = hurst_limits(rows)

    def known(made: tuple[str, str]) -> tuple[str, str]:
        return ("no verdict: β is estimated", "quiet") if tests.estimated else made

    def adf(found: AdfResult) -> tuple[Cell, ...]:
        p_value = unit_root_p(found.statistic, "c", 1, rows)
        said = known(_said(p_value < LEVEL, "stationary", "unit root not rejected", ""))
        return (
            number(found.statistic, 2),
            number(adf_limit, 2),
            p_text(p_value),
            said,
            f"constant; AIC: {_lags(found.lags)}",
        )

    def granger(found: CointegrationResult) -> tuple[Cell, ...]:
        p_value = granger_p(found, rows)
        said = _said(p_value < LEVEL, "cointegrated", "no cointegration found", "")
        return (
            number(found.statistic, 2),
            number(granger_limit, 2),
            p_text(p_value),
            said,
            f"constant; AIC: {_lags(found.lags)}",
        )

    return [
        _row("ADF, unit root", tests.adf, adf),
        _row(
            "KPSS, stationarity",
            tests.kpss,
            lambda r: (
                number(r.statistic, 3),
                number(r.critical_values["5%"], 3),
                "≥ 0.10"
                if r.p_value >= 0.1
                else "≤ 0.01"
                if r.p_value <= 0.01
                else p_text(r.p_value),
                known(_kpss(r.p_value)),
                f"constant; automatic: {_lags(r.lags)}",
            ),
        ),
        _row("Engle–Granger, y on x", tests.y_on_x, granger),
        _row("Engle–Granger, x on y", tests.x_on_y, granger),
        _row(
            "Johansen trace, r = 0",
            tests.johansen,
            lambda r: (
                number(r.trace[0], 2),
                number(one, 2),
                NONE,
                _rank(r.trace[0] > one, r.trace[1] > second),
                "constant; 1 lagged difference",
            ),
        ),
        _row(
            "Half-life",
            tests.half_life,
            lambda r: (
                f"{number(r, 1)} bars" if math.isfinite(r) else "∞",
                NONE,
                NONE,
                _life(r, bar_s, window),
                f"no test: walks have one; z window: {window} bars",
            ),
        ),
        _row(
            "Hurst exponent",
            tests.hurst,
            lambda r: (
                number(r, 3),
                f"{number(low, 3)} … {number(high, 3)}",
                NONE,
                known(_between(r, low, high)),
                f"lags 2 to {hurst_lags(rows)}; 95 % of walks",
            ),
        ),
        _row(
            "Variance ratio",
            tests.ratio,
            lambda r: (
                number(r.ratio, 3),
                NONE,
                p_text(r.p_value),
                known(_between(r.statistic, *ratio_limits(rows))),
                f"{r.q} bars, robust; a walk: 1",
            ),
        ),
    ]


def _row(name: str, result: Any, made: Callable[[Any], tuple[Any, ...]]) -> Any:
    if isinstance(result, str):
        return (name, NONE, NONE, NONE, ("not tested", "quiet"), (result, "quiet wrap"))
    *figures, convention = made(result)
    return (name, *figures, (convention, "quiet"))


def _said(holds: bool, yes: str, no: str, against: str = "bad") -> tuple[str, str]:
    """A verdict for the pair, or one that is not: `against` "" is a lack of evidence, "bad" is
    evidence of the contrary."""
    if holds:
        return f"✓ {yes}", "good"
    return (f"✕ {no}", "bad") if against == "bad" else (f"○ {no}", against)


def _lags(count: int) -> str:
    return f"{count} lag" if count == 1 else f"{count} lags"


def _kpss(p_value: float) -> tuple[str, str]:
    """No verdict of 5 %: of spreads that return slowly it rejects many more."""
    if p_value >= LEVEL:
        return "○ stationarity not rejected", ""
    return "○ rejected: a walk, or slow to return", "warn"


def _rank(some: bool, both: bool) -> tuple[str, str]:
    if some and both:
        return "○ both legs look stationary", "warn"
    return _said(some, "cointegrated", "no cointegration found", "")


def _life(bars: float, bar_s: int, window: int) -> tuple[str, str]:
    if not math.isfinite(bars):
        return _said(False, "", "does not return")
    time = duration(bars * bar_s)
    if bars <= window:
        return f"○ {time}, within the z window", ""
    return f"○ {time}, beyond the z window", "warn"


def _between(value: float, low: float, high: float) -> tuple[str, str]:
    """Of a figure that lies between these for 95 % of walks."""
    if not (value < low or value > high):
        return _said(False, "", "like a random walk", "")
    return _said(value < low, "returns to its mean", "trends")


def p_text(p_value: float) -> str:
    """A p-value with three decimals, never an invented 0."""
    return "< 0.001" if p_value < 0.001 else number(p_value, 3)


# -- prices


def prices_html(
    bars: tuple[pd.DataFrame, pd.DataFrame], symbols: tuple[str, str], since: pd.Timestamp
) -> str:
    """Both legs side by side, from `since` on."""
    parts = [leg[leg.index >= since] for leg in bars]
    of_legs = [
        price_rows(price_statistics(leg), decimals_of(leg["close"].to_numpy())) for leg in parts
    ]
    rows = [(name, y, x) for (name, y), (_, x) in zip(*of_legs, strict=True)]
    heads = ("closed bars", (symbols[0], "y"), (symbols[1], "x"))
    return table_html("Prices", heads, rows, (1, 2), dense=True) + note_html(
        f"All bars of either leg since {since:%Y-%m-%d %H:%M:%S} UTC, in quote currency unless "
        "said. Volatility: realised, of 365 days; skew and kurtosis of log returns."
    )


def price_rows(found: PriceStatistics, decimals: int) -> list[tuple[str, Cell]]:
    """Name and value, as text, of every figure."""
    price = [number(value, decimals) for value in (found.last, found.mean, found.low, found.high)]
    change = percent(found.change)
    return [
        ("last close", price[0]),
        ("change", (change, tint(found.change, 4))),
        ("mean", price[1]),
        ("standard deviation", significant(found.std, 4)),
        ("low", price[2]),
        ("high", price[3]),
        ("volatility a year", percent(found.volatility, 1).removeprefix("+")),
        ("skew of returns", number(found.skew, 2)),
        ("excess kurtosis", number(found.kurtosis, 2)),
        ("VWAP", number(found.vwap, decimals)),
        ("volume, base units", significant(found.volume, 6)),
        ("turnover", number(found.turnover, 0)),
        ("trades", number(found.trades, 0)),
        ("bars", number(found.bars, 0)),
    ]


# -- intervals


def interval_s(bar_s: int) -> int:
    """What a table of intervals is made of: a minute, an hour, a day …, of at least 12 bars."""
    return next((s for s in INTERVALS if s >= 12 * bar_s), INTERVALS[-1] * -(-bar_s // DAY))


def interval_name(bar_s: int) -> str:
    """Such an interval in a word."""
    names = {60: "minute", 3600: "hour", DAY: "day", 7 * DAY: "week"}
    return names.get(interval_s(bar_s), "period")


def places_for(values: pd.Series[float], digits: int = 3) -> int:
    """Decimals that give the column's typical value so many significant digits: 0 to 8."""
    known = values[(values > 0) & (values < math.inf)]
    if not len(known):
        return 2
    return max(0, min(8, digits - 1 - math.floor(math.log10(float(known.median())))))


def intervals_html(
    table: pd.DataFrame, seconds: int, decimals: tuple[int, int], open_: bool
) -> str:
    """The rows of `interval_statistics`, newest first; `open_`: the newest goes on."""
    rows = table.iloc[::-1]
    dated = seconds >= DAY or (len(rows) > 0 and rows.index[0].date() != rows.index[-1].date())
    form = "%Y-%m-%d" if seconds >= DAY else "%m-%d %H:%M" if dated else "%H:%M"
    spread, y, x = (places_for(rows[name]) for name in ("spread_std", "volume_y", "volume_x"))
    cells = [
        (
            f"{stamp:{form}}{' …' if open_ and k == 0 else ''}",
            number(row["bars"], 0),
            number(row["close_y"], decimals[0]),
            number(row["close_x"], decimals[1]),
            number(row["spread_mean"], spread),
            number(row["spread_std"], spread),
            *(number(row[name], 2) for name in ("zscore_mean", "zscore_min", "zscore_max")),
            number(row["correlation"], 3),
            number(row["volume_y"], y),
            number(row["volume_x"], x),
            number(row["trades_y"], 0),
            number(row["trades_x"], 0),
        )
        for k, (stamp, row) in enumerate(zip(rows.index, rows.to_dict("records"), strict=True))
    ]
    heads = (
        "UTC",
        "bars",
        ("close y", "y"),
        ("close x", "x"),
        "spread",
        "± std",
        "z mean",
        "z min",
        "z max",
        "corr.",
        ("vol. y", "y"),
        ("vol. x", "x"),
        ("trades y", "y"),
        ("trades x", "x"),
    )
    return table_html("", heads, cells, range(1, 14), dense=True, label="Intervals, newest first")


# -- correlations


def correlation_figure(matrix: pd.DataFrame, uirevision: str, theme: Theme = DARK) -> go.Figure:
    """Correlations as a heat map, from −1 (amber) through 0 (the page's background) to 1 (blue);
    written into the cells where there is room."""
    names, values = list(map(figure_text, matrix.columns)), matrix.to_numpy(dtype=np.float32)
    written = len(names) <= WRITTEN
    made = go.Figure()
    made.add_heatmap(
        x=names,
        y=names,
        z=values,
        zmin=-1,
        zmax=1,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorscale=[[0, theme.low], [0.5, theme.background], [1, theme.high]],
        text=[[number(float(v), 2) for v in row] for row in values] if written else None,
        texttemplate="%{text}" if written else None,
        textfont={"size": 11, "color": theme.text},
        hovertemplate="%{y} · %{x}: %{z:.3f}<extra></extra>",
        showscale=not written,
        colorbar={
            "thickness": 8,
            "outlinewidth": 0,
            "tickvals": [-1, 0, 1],
            "ticks": "",
            "ticktext": ["−1", "0", "1"],
            "tickfont": {"size": 10, "color": theme.muted},
        },
    )
    made.update_layout(
        plain_layout(theme),
        uirevision=uirevision,
        margin={"l": 4, "r": 4, "t": 4, "b": 4},
        font_size=11,
        xaxis={
            "automargin": True,
            "gridcolor": theme.grid,
            "ticks": "",
            "type": "category",
            "tickangle": -45 if len(names) > 4 else 0,
            "showticklabels": written,
        },
        yaxis={
            "automargin": True,
            "gridcolor": theme.grid,
            "ticks": "",
            "type": "category",
            "autorange": "reversed",
        },
    )
    return made
