"""The market's figure: candles, volume and indicators of up to four symbols. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairs.analytics.indicators import bollinger_bands, ema, sma, vwap
from pairs.bars.resampling import resample_bars
from pairs.figures.layout import (
    Floats,
    axis,
    floats,
    live_meta,
    mark_incomplete,
    milliseconds,
    panels,
    thinned,
)
from pairs.figures.picture import Array, Picture
from pairs.figures.plain import figure_text
from pairs.figures.theme import DARK, Theme, decimals_of
from pairs.live.bars import Leg
from pairs.market import bar_label, bar_seconds

CANDLES = 240
FACTORS = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240, 360, 720, 1440)
OHLC = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class Overlays:
    """Which indicators to draw: windows in bars, None where not wanted."""

    sma: int | None = None
    ema: int | None = None
    bands: int | None = None
    n_std: float = 2.0
    session_s: int | None = None  # VWAP, restarting at each multiple


def figure(
    legs: tuple[Leg, ...],
    bar: str,
    *,
    bars: int,
    overlays: Overlays,
    uirevision: str,
    incomplete: tuple[pd.DatetimeIndex, ...] = (),
    theme: Theme = DARK,
    until: pd.Timestamp | None = None,
) -> Picture:
    """The last `bars` bars of each leg as at most some CANDLES candles, the one that still forms
    drawn hollow, with volume below and indicators over them.

    Candles of more bars than can be seen are made longer; indicators are always of the bars
    themselves, computed from before the stretch shown. The first traces are the forming candles.
    """
    length = candle_length(bar, bars)
    rows = []
    for leg in legs:
        rows += [(figure_text(leg.symbol), 3.0), ("volume", 0.8)]
    meta = live_meta(bar_seconds(bar), until)
    made = panels(rows, uirevision, theme, **meta)
    candles = [candles_of(leg, bar, bars) for leg in legs]
    for k, (leg, (_, forming)) in enumerate(zip(legs, candles, strict=True)):
        _candles(made, forming, 2 * k, f"{figure_text(leg.symbol)} forming", hollow=True)
    for k, (leg, (closed, _)) in enumerate(zip(legs, candles, strict=True)):
        _leg(made, leg, k, closed, length)
        _indicators(made, leg, k, bars, overlays)
        if incomplete:
            at = incomplete[k].floor(length).unique()
            mark_incomplete(made, 2 * k, closed["close"], at, figure_text(leg.symbol))
    made.layout["bargap"] = 0.15
    return made


def forming(legs: tuple[Leg, ...], bar: str, bars: int) -> dict[int, dict[str, Array]]:
    """The arrays of the forming candles alone, by their traces' numbers in `figure`."""
    return {k: _ohlc(candles_of(leg, bar, bars)[1]) for k, leg in enumerate(legs)}


def _ohlc(bars: pd.DataFrame) -> dict[str, Array]:
    values: dict[str, Array] = {name: bars[name].to_numpy(dtype=np.float64) for name in OHLC}
    return {"x": milliseconds(pd.DatetimeIndex(bars.index)), **values}


def drawn_bars(legs: tuple[Leg, ...], span: int) -> int:
    """How many bars of the span asked for there are: a short record is drawn bar by bar, not as
    the long candles that the whole span would need."""
    return min(span, max(len(leg.closed) for leg in legs))


def candle_length(bar: str, bars: int) -> str:
    """The length of candles of which at most CANDLES stand for `bars` bars."""
    factor = next((f for f in FACTORS if bars <= f * CANDLES), FACTORS[-1])
    return bar_label(bar_seconds(bar) * factor)


def candles_of(leg: Leg, bar: str, bars: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Closed candles of the last `bars` bars, and the one that still forms, if any."""
    length = candle_length(bar, bars)
    closed, forming = leg.closed.tail(bars), leg.closed.iloc[:0]
    if leg.forming is not None:
        forming = leg.forming.to_frame().T.astype(float)
        forming.index = pd.DatetimeIndex([leg.forming.name])
    if length == bar:
        return closed, forming
    candles = resample_bars(pd.concat([closed, forming]) if len(forming) else closed, length)
    candles = candles.iloc[1:]  # the first may lack its beginning
    done = closed.index[-1] + pd.Timedelta(seconds=bar_seconds(bar))
    complete = pd.DatetimeIndex(candles.index) + pd.Timedelta(length) <= done
    return candles[complete], candles[~complete].tail(1)


def _leg(made: Picture, leg: Leg, k: int, closed: pd.DataFrame, length: str) -> None:
    places = decimals_of(closed["close"].to_numpy())
    colours = (made.theme.leg_y, made.theme.leg_x, made.theme.spread, made.theme.score)
    made.layout["yaxis" + axis(2 * k)[1:]]["tickformat"] = f",.{min(places, 8)}f"
    made.layout["yaxis" + axis(2 * k + 1)[1:]] |= {"nticks": 3, "rangemode": "tozero"}
    _candles(made, closed, 2 * k, f"{figure_text(leg.symbol)} {length}", hollow=False)
    made.add(
        "bar",
        x=milliseconds(pd.DatetimeIndex(closed.index)),
        y=closed["volume"].to_numpy(dtype=np.float64),
        yaxis=axis(2 * k + 1),
        name=f"{figure_text(leg.symbol)} volume, {length}",
        marker={"color": colours[k], "opacity": 0.55},
        hovertemplate="%{y:,.4~f}",
        legendrank=900 + k,
    )


def _candles(made: Picture, bars: pd.DataFrame, row: int, name: str, *, hollow: bool) -> None:
    theme, empty = made.theme, "rgba(0,0,0,0)"
    made.add(
        "candlestick",
        yaxis=axis(row),
        name=name,
        **_ohlc(bars),
        increasing={
            "line": {"color": theme.good, "width": 1},
            "fillcolor": empty if hollow else theme.good,
        },
        decreasing={
            "line": {"color": theme.bad, "width": 1},
            "fillcolor": empty if hollow else theme.bad,
        },
        showlegend=False,
        opacity=0.8 if hollow else 1,
    )


def _indicators(made: Picture, leg: Leg, k: int, bars: int, overlays: Overlays) -> None:
    """Lines over the candles; one legend entry for the same line of all symbols."""
    closed, close, theme = leg.closed, leg.closed["close"], made.theme
    lines: list[tuple[str, pd.Series[float], str, str]] = []
    if overlays.sma:
        lines.append((f"SMA {overlays.sma}", sma(close, overlays.sma), theme.muted, "solid"))
    if overlays.ema:
        lines.append((f"EMA {overlays.ema}", ema(close, overlays.ema), theme.correlation, "solid"))
    if overlays.session_s:
        session = bar_label(overlays.session_s)
        whole = session_vwap(closed, overlays.session_s)
        lines.append((f"VWAP {session}", whole, theme.score, "solid"))
    if overlays.bands:
        bands = bollinger_bands(close, overlays.bands, overlays.n_std)
        name = f"Bollinger {overlays.bands}, {overlays.n_std:g}σ"
        lines += [(name, bands[side], theme.spread, "dot") for side in ("upper", "lower")]
    seen: set[str] = set()
    for name, values, colour, dash in lines:
        shown = values.tail(bars)
        at, level = thinned(_time(shown), floats(shown), CANDLES)
        made.add(
            "scatter",
            x=at,
            y=level,
            yaxis=axis(2 * k),
            mode="lines",
            name=name,
            legendgroup=name,
            showlegend=k == 0 and name not in seen,
            line={"color": colour, "width": 1.2, "dash": dash},
            hovertemplate=f"%{{y:,.{decimals_of(close.to_numpy())}f}}",
        )
        seen.add(name)


def _time(series: pd.Series[float]) -> Floats:
    return milliseconds(pd.DatetimeIndex(series.index))


def session_vwap(bars: pd.DataFrame, seconds: int) -> pd.Series[float]:
    """VWAP that starts anew at each UTC multiple of `seconds`; NaN in the first session where the
    bars at hand do not begin with it, because what they lack would count."""
    values = vwap(bars, session=f"{seconds}s")
    index = pd.DatetimeIndex(bars.index)
    start = index[0].floor(f"{seconds}s")
    if len(index) > 1 and index[0] > start:
        values = values.mask(index < start + pd.Timedelta(seconds=seconds))
    return values
