"""The pair's figures: prices, spread, z-score with thresholds, hedge ratio, correlation. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pairs.analytics.pair import PairView
from pairs.analytics.windows import window_mean_deviation
from pairs.backtest.engine import positions
from pairs.backtest.rules import Rules
from pairs.figures.layout import (
    Floats,
    axis,
    floats,
    live_meta,
    mark_incomplete,
    milliseconds,
    panels,
    plain_layout,
    thinned,
    thinned_rows,
    with_breaks,
)
from pairs.figures.picture import Picture
from pairs.figures.plain import figure_text
from pairs.figures.theme import DARK, FONT, Theme, decimals_of
from pairs.market import bar_seconds

CLOUD = 400  # points of the scatter


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a pair to draw and how: the last `bars` closed bars at these thresholds. `raw`:
    prices on two axes rather than their change since the first bar shown. `until`: when the
    picture is made anew, see `steady`; None where no bar follows."""

    symbols: tuple[str, str]
    bar: str
    bars: int
    entry_z: float
    exit_z: float
    stop_z: float | None = None
    raw: bool = False
    until: pd.Timestamp | None = None
    uirevision: str = ""
    theme: Theme = field(default=DARK)

    @property
    def names(self) -> tuple[str, str]:
        """The symbols as a figure shows them."""
        return figure_text(self.symbols[0]), figure_text(self.symbols[1])


def figure(view: PairView, asked: Asked, incomplete: tuple[pd.DatetimeIndex, ...] = ()) -> Picture:
    """The closed bars of a pair view. Where there are more bars than points to draw, the extremes
    of each stretch are drawn."""
    length = bar_seconds(asked.bar)
    spread = view.frame["spread"].to_numpy(dtype=np.float64)
    mean, deviation = window_mean_deviation(spread, view.spec.window, 1)
    side = sides(view, asked.entry_z, asked.exit_z, asked.stop_z)
    known = view.frame.assign(side=side, mean=mean, deviation=deviation)
    frame = with_breaks(known.tail(asked.bars), length)
    made = panels(
        [
            ("price" if asked.raw else "change, %", 3.0),
            ("spread", 1.6),
            ("z-score, σ", 2.2),
            ("hedge ratio β", 1.5),
            ("correlation", 1.2),
        ],
        asked.uirevision,
        asked.theme,
        **live_meta(length, asked.until),
    )
    theme, time = asked.theme, milliseconds(pd.DatetimeIndex(frame.index))
    _prices(made, time, frame, asked)
    if incomplete:
        either = incomplete[0].union(incomplete[1])
        mark_incomplete(made, 2, frame["zscore"], either, "z")
    _line(made, time, frame["spread"], 1, "spread", theme.spread, ".6~g")
    _line(made, time, frame["zscore"], 2, "z", theme.score, ".2f")
    _levels(made, time, frame, asked)
    _thresholds(made, asked)
    _turns(made, time, frame, floats(frame["zscore"]), 2)
    _band(made, time, frame)
    _line(made, time, frame["correlation"], 4, "correlation", theme.correlation, ".3f")
    return made


def scatter_figure(
    view: PairView,
    symbols: tuple[str, str],
    uirevision: str,
    theme: Theme = DARK,
    count: int = CLOUD,
) -> Picture:
    """The last `count` closes of the legs against each other, and the line that the newest hedge
    ratio draws through them."""
    symbols = figure_text(symbols[0]), figure_text(symbols[1])
    frame = view.frame[["close_x", "close_y", "beta", "intercept"]].dropna(
        subset=["close_x", "close_y"]
    )
    last = frame.tail(count)
    x, y = last["close_x"].to_numpy(), last["close_y"].to_numpy()
    places = (decimals_of(x), decimals_of(y))
    made = Picture(_scatter_layout(symbols, uirevision, theme), theme)
    made.add(
        "scatter",
        x=x,
        y=y,
        mode="markers",
        name="closes",
        marker={"size": 4, "color": theme.leg_y, "opacity": 0.45},
        hovertemplate=f"{symbols[1]} %{{x:,.{places[0]}f}}<br>{symbols[0]} %{{y:,.{places[1]}f}}"
        "<extra></extra>",
    )
    beta, alpha = (
        float(frame[name].iloc[-1]) if len(frame) else np.nan for name in ("beta", "intercept")
    )
    if len(x) and np.isfinite(beta):
        ends = np.array([x.min(), x.max()])
        made.add(
            "scatter",
            x=ends,
            y=alpha + beta * ends,
            mode="lines",
            name="α + βx",
            hoverinfo="skip",
            line={"color": theme.text, "width": 1.4},
        )
        made.add(
            "scatter",
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            name="now",
            hoverinfo="skip",
            marker={"size": 9, "color": theme.score, "line": {"width": 1.5, "color": theme.text}},
        )
    return made


def _scatter_layout(symbols: tuple[str, str], uirevision: str, theme: Theme) -> dict[str, Any]:
    def scale(name: str, colour: str, **more: Any) -> dict[str, Any]:
        return {
            "title": {"text": name, "font": {"color": colour, "size": 11}},
            "gridcolor": theme.grid,
            "zeroline": False,
            "exponentformat": "none",
            "separatethousands": True,
            **more,
        }

    return plain_layout(theme) | {
        "showlegend": False,
        "uirevision": uirevision,
        "margin": {"l": 6, "r": 62, "t": 6, "b": 40},
        "font": {"family": FONT, "size": 11, "color": theme.text},
        "hovermode": "closest",
        "dragmode": "pan",
        "xaxis": scale(symbols[1], theme.leg_x, nticks=4),
        "yaxis": scale(symbols[0], theme.leg_y, nticks=5, side="right"),
    }


def _line(
    made: Picture,
    time: Floats,
    values: pd.Series[float],
    row: int,
    name: str,
    colour: str,
    form: str,
    **more: Any,
) -> dict[str, Any]:
    at, level = thinned(time, floats(values))
    return made.add(
        "scatter",
        x=at,
        y=level.astype(np.float32),  # more digits than can be seen
        yaxis=axis(row),
        name=name,
        mode="lines",
        line={"color": colour, "width": 1.4},
        hovertemplate=f"%{{y:{form}}}",
        **more,
    )


def _prices(made: Picture, time: Floats, frame: pd.DataFrame, asked: Asked) -> None:
    colours = (asked.theme.leg_y, asked.theme.leg_x)
    for name, column, colour in zip(asked.names, ("close_y", "close_x"), colours, strict=True):
        close = frame[column]
        places = decimals_of(close.to_numpy())
        if asked.raw:
            trace = _line(made, time, close, 0, name, colour, f",.{places}f")
            trace["y"] = thinned(time, floats(close))[1]
            continue
        trace = _line(made, time, _shown(close, close, asked), 0, name, colour, "+.3f")
        at = thinned_rows(time, floats(_shown(close, close, asked)))
        trace["customdata"] = floats(close)[at]
        trace["hovertemplate"] = f"%{{y:+.3f}} %  (%{{customdata:,.{places}f}})"
    if asked.raw:  # two price levels need two scales: x on the left
        trace["yaxis"] = "y9"
        made.layout["yaxis9"] = {
            "overlaying": "y",
            "side": "left",
            "anchor": "x",
            "showgrid": False,
            "tickfont": {"size": 11, "color": asked.theme.leg_x},
            "exponentformat": "none",
            "separatethousands": True,
            "zeroline": False,
        }
        made.layout["margin"] = {"l": 64, "r": 72, "t": 30, "b": 28}
        made.layout["yaxis"]["tickfont"] = {"size": 11, "color": asked.theme.leg_y}
    shown = _shown(frame["close_y"], frame["close_y"], asked)
    _turns(made, time, frame, floats(shown), 0)


def _shown(prices: pd.Series[float], close: pd.Series[float], asked: Asked) -> pd.Series[float]:
    """Prices as they are drawn: as they are, or as percent since the first close."""
    known = close.dropna()
    if asked.raw or not len(known):
        return prices
    change: pd.Series[float] = (prices / known.iloc[0] - 1) * 100
    return change


def _levels(made: Picture, time: Floats, frame: pd.DataFrame, asked: Asked) -> None:
    """The thresholds of z where else they mean something: as a spread, and as the price of y that
    it would have at x's."""
    theme = asked.theme
    levels = [("entry", asked.entry_z, theme.muted)]
    levels += [("stop", asked.stop_z, theme.bad)] if asked.stop_z else []
    explained = frame["close_y"] - frame["spread"]
    for name, level, colour in levels:
        for side in (1, -1):
            spread = frame["mean"] + side * level * frame["deviation"]
            price = _shown(explained + spread, frame["close_y"], asked)
            for row, values, form in ((1, spread, ".6~g"), (0, price, ",.6~g")):
                trace = _line(made, time, values, row, name, colour, form, meta="level")
                trace["line"] = {"color": colour, "width": 1, "dash": "dot"}
                trace |= {
                    "opacity": 0.7,
                    "legendgroup": name,
                    "showlegend": row == 1 and side == 1,
                    "hoverinfo": "skip",
                }


def _thresholds(made: Picture, asked: Asked) -> None:
    where, theme = axis(2), asked.theme
    entry, exit_, stop = asked.entry_z, asked.exit_z, asked.stop_z
    levels = [(entry, theme.muted), (-entry, theme.muted)]
    levels += [(exit_, theme.good), (-exit_, theme.good)] if exit_ else [(0.0, theme.good)]
    levels += [(stop, theme.bad), (-stop, theme.bad)] if stop else []
    for level, colour in levels:
        made.shape(
            type="line",
            xref="x domain",
            x0=0,
            x1=1,
            yref=where,
            y0=level,
            y1=level,
            line={"color": colour, "width": 1, "dash": "dot"},
            layer="below",
        )
    for low, high in ((entry, stop or entry + 2), (-(stop or entry + 2), -entry)):
        made.shape(
            type="rect",
            xref="x domain",
            x0=0,
            x1=1,
            yref=where,
            y0=low,
            y1=high,
            fillcolor=theme.score,
            opacity=0.07,
            line={"width": 0},
            layer="below",
        )
    made.layout["yaxis3"] |= {"tickmode": "array", "tickvals": sorted(z for z, _ in levels)}


def _turns(made: Picture, time: Floats, frame: pd.DataFrame, level: Floats, row: int) -> None:
    """Where the rules enter and leave, at the close that decides: on z, and on y's price."""
    side, theme = floats(frame["side"]), made.theme
    before = np.concatenate([side[:1], side[:-1]])
    for rows, symbol, colour, name in (
        ((side > 0) & (before == 0), "triangle-up", theme.good, "long entry"),
        ((side < 0) & (before == 0), "triangle-down", theme.bad, "short entry"),
        ((side == 0) & (before != 0), "x-thin-open", theme.muted, "exit"),
    ):
        at = np.flatnonzero(rows)
        made.add(
            "scatter",
            x=time[at],
            y=level[at],
            yaxis=axis(row),
            mode="markers",
            name=name,
            legendgroup=name,
            showlegend=row == 2,
            hoverinfo="skip",
            marker={
                "symbol": symbol,
                "size": 8,
                "color": colour,
                "line": {"width": 1.5, "color": colour},
            },
        )


def sides(view: PairView, entry_z: float, exit_z: float, stop_z: float | None) -> Floats:
    """The side wanted from each row's close on, 1, −1 or 0: by the backtest's state machine, from
    the first row kept. Thresholds that cannot be traded, of which the sidebar warns, want none."""
    score = view.frame["zscore"].to_numpy(dtype=np.float64)
    try:
        rules = Rules(entry_z=entry_z, exit_z=exit_z, stop_z=stop_z)
    except ValueError:
        return np.zeros(len(score))
    return positions(score, rules).astype(np.float64)


def _band(made: Picture, time: Floats, frame: pd.DataFrame) -> None:
    """β with ± two standard errors; α is told with it."""
    known = (frame["beta_std"].notna() & frame["beta"].notna()).to_numpy()
    if known.any():
        beta = frame["beta"].to_numpy()[known]
        rows = thinned_rows(time[known], beta)
        at = time if len(rows) == len(time) else time[known][rows]  # shared where it can be
        error = 2 * frame["beta_std"].to_numpy()[known][rows]
        for side, fill in ((-1, None), (1, "tonexty")):
            made.add(
                "scatter",
                x=at,
                y=(beta[rows] + side * error).astype(np.float32),
                yaxis=axis(3),
                fill=fill,
                fillcolor="rgba(76,154,255,0.16)",
                mode="lines",
                line={"width": 0, "color": made.theme.leg_y},
                name="β ± 2 s.e.",
                hoverinfo="skip",
                showlegend=False,
            )
    trace = _line(made, time, frame["beta"], 3, "β", made.theme.text, ".6~g")
    at = thinned_rows(time, floats(frame["beta"]))
    trace["customdata"] = floats(frame["intercept"])[at].astype(np.float32)
    trace["hovertemplate"] = "%{y:.6~g}  α %{customdata:.6~g}"
