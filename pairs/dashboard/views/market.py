"""The market view: candles, volume and indicators of up to four symbols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pairs.analytics.indicators import bollinger_bands, ema, sma, vwap
from pairs.bars.resampling import resample_bars
from pairs.dashboard.context import Page, symbols_of
from pairs.dashboard.sidebar import BESIDE
from pairs.dashboard.views.pair import bars_shown, span_control
from pairs.figures.layout import (
    DAY,
    HOUR,
    Floats,
    axis,
    floats,
    incomplete_note,
    mark_incomplete,
    milliseconds,
    stacked,
    thinned,
)
from pairs.figures.plain import figure_text, plain
from pairs.figures.tables import note_html
from pairs.figures.theme import (
    BAD,
    CORRELATION,
    GOOD,
    LEG_X,
    LEG_Y,
    MUTED,
    SCORE,
    SPREAD,
    decimals_of,
)
from pairs.live.bars import Leg
from pairs.market import Instrument, bar_label, bar_seconds

CANDLES = 240
SYMBOLS = 4
FACTORS = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 240, 360, 720, 1440)
LEG_COLOURS = (LEG_Y, LEG_X, SPREAD, SCORE)
INDICATORS = ("SMA", "EMA", "VWAP", "Bollinger")


@dataclass(frozen=True, slots=True)
class Overlays:
    """Which indicators to draw: windows in bars, None where not wanted."""

    sma: int | None = None
    ema: int | None = None
    bands: int | None = None
    n_std: float = 2.0
    session_s: int | None = None  # VWAP, restarting at each multiple


def draw(page: Page) -> None:
    """The view on the page."""
    with page.options:
        with st.popover("Symbols", width=110):
            _symbol_control(page)
        with st.popover("Indicators", width=120):
            _indicator_control(page)
        span_control(page)
    page.live("Market", _board)


def _symbol_control(page: Page) -> None:
    y = page.choice.y
    offered = [
        str(Instrument(venue, symbol))
        for venue in (y.venue, *BESIDE[y.venue])
        for symbol in symbols_of(page.store).get(venue, ())
    ]
    st.multiselect(
        "Symbols beside the pair",
        [n for n in offered if n not in map(str, page.choice.pair)],
        key="more_symbols",
        bind="query-params",
        max_selections=SYMBOLS - 2,
        format_func=lambda name: name.removeprefix(f"{y.venue}:"),
    )


def _indicator_control(page: Page) -> None:
    chosen = st.pills(
        "Indicators", INDICATORS, selection_mode="multi", key="indicators", bind="query-params"
    )
    for name in ("SMA", "EMA", "Bollinger"):
        if name in chosen:
            st.number_input(
                plain(f"{name}, bars"), 1, 2000, 20, key=f"{name.lower()}_bars", bind="query-params"
            )
    if "Bollinger" in chosen:
        st.number_input(
            "Bollinger, σ", 0.5, 5.0, 2.0, 0.5, key="bollinger_std", bind="query-params"
        )
    if "VWAP" in chosen:
        st.caption(f"VWAP starts anew at each UTC {bar_label(session_s(page.choice.bar))}.")


def session_s(bar: str) -> int:
    """The VWAP's session: an hour for bars of seconds, else the day; a week for bars of days."""
    length = bar_seconds(bar)
    return HOUR if length < 60 else DAY if length < DAY else 7 * DAY


def _overlays(page: Page) -> Overlays:
    state = st.session_state
    chosen = state.get("indicators") or ()
    windows = {
        name: int(state.get(f"{name.lower()}_bars", 20)) if name in chosen else None
        for name in ("SMA", "EMA", "Bollinger")
    }
    return Overlays(
        windows["SMA"],
        windows["EMA"],
        windows["Bollinger"],
        float(state.get("bollinger_std", 2.0)),
        session_s(page.choice.bar) if "VWAP" in chosen else None,
    )


def _board(page: Page) -> None:
    more = [name.split(":", 1) for name in st.session_state.get("more_symbols", ())]
    wanted = (*page.choice.pair, *(Instrument(*parts) for parts in more))
    instruments = tuple(dict.fromkeys(wanted))[:SYMBOLS]
    snapshot = page.bars_of(instruments)
    if any(leg.closed.empty for leg in snapshot.legs):
        st.info("No closed bar is stored yet. Another bar length may have some.")
        return
    span, overlays = bars_shown(page), _overlays(page)
    bars = drawn_bars(snapshot.legs, span)
    lacking = tuple(page.incomplete(leg, bars) for leg in snapshot.legs)
    if note := incomplete_note(
        [(i.symbol, at) for i, at in zip(instruments, lacking, strict=True)]
    ):
        st.html(note_html(note))
    identity = "/".join(map(str, ("market", *instruments, page.choice.bar, span)))
    page.chart(
        lambda: figure(
            snapshot.legs,
            page.choice.bar,
            bars=bars,
            overlays=overlays,
            uirevision=identity,
            incomplete=lacking,
        ),
        (*page.key(snapshot), bars, overlays, *map(len, lacking)),
        name="Market",
        height=f"max(calc(100vh - 14.2rem), {len(instruments) * 16}rem)",
        patch=forming_patch(snapshot.legs, page.choice.bar, bars),
    )


def figure(
    legs: tuple[Leg, ...],
    bar: str,
    *,
    bars: int,
    overlays: Overlays,
    uirevision: str,
    incomplete: tuple[pd.DatetimeIndex, ...] = (),
) -> go.Figure:
    """The last `bars` bars of each leg as at most some CANDLES candles, the one that still forms
    drawn hollow, with volume below and indicators over them.

    Candles of more bars than can be seen are made longer; indicators are always of the bars
    themselves, computed from before the stretch shown. The first traces are the forming candles.
    """
    length = candle_length(bar, bars)
    rows = []
    for leg in legs:
        rows += [(figure_text(leg.symbol), 3.0), ("volume", 0.8)]
    made = stacked(rows, uirevision)
    candles = [candles_of(leg, bar, bars) for leg in legs]
    for k, (leg, (_, forming)) in enumerate(zip(legs, candles, strict=True)):
        _candles(made, forming, 2 * k, f"{figure_text(leg.symbol)} forming", hollow=True)
    for k, (leg, (closed, _)) in enumerate(zip(legs, candles, strict=True)):
        _leg(made, leg, k, closed, length)
        _indicators(made, leg, k, bars, overlays)
        if incomplete:
            at = incomplete[k].floor(length).unique()
            mark_incomplete(made, 2 * k, closed["close"], at, figure_text(leg.symbol))
    made.update_layout(bargap=0.15, showlegend=True)
    return made


def forming_patch(legs: tuple[Leg, ...], bar: str, bars: int) -> dict[str, object]:
    """The forming candles alone, to be laid over the figure between two closed bars."""
    columns = ("open", "high", "low", "close")
    formings = [candles_of(leg, bar, bars)[1] for leg in legs]
    values: dict[str, list[list[float]]] = {
        name: [frame[name].tolist() for frame in formings] for name in columns
    }
    values["x"] = [milliseconds(pd.DatetimeIndex(frame.index)).tolist() for frame in formings]
    return {"traces": list(range(len(legs))), "values": values}


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


def _leg(made: go.Figure, leg: Leg, k: int, closed: pd.DataFrame, length: str) -> None:
    places = decimals_of(closed["close"].to_numpy())
    made.layout["yaxis" + axis(2 * k)[1:]].tickformat = f",.{min(places, 4)}f"
    made.layout["yaxis" + axis(2 * k + 1)[1:]].update(tickformat=",~g", nticks=3)
    _candles(made, closed, 2 * k, f"{figure_text(leg.symbol)} {length}", hollow=False)
    made.add_bar(
        x=milliseconds(pd.DatetimeIndex(closed.index)),
        y=closed["volume"].to_numpy(dtype=np.float64),
        yaxis=axis(2 * k + 1),
        name=f"{figure_text(leg.symbol)} volume, {length}",
        marker={"color": LEG_COLOURS[k], "opacity": 0.55},
        hovertemplate="%{y:,.4~f}",
        legendrank=900 + k,
    )


def _candles(made: go.Figure, bars: pd.DataFrame, row: int, name: str, *, hollow: bool) -> None:
    columns = {c: bars[c].to_numpy(dtype=np.float64) for c in ("open", "high", "low", "close")}
    empty = "rgba(0,0,0,0)"
    made.add_candlestick(
        x=milliseconds(pd.DatetimeIndex(bars.index)),
        yaxis=axis(row),
        name=name,
        **columns,
        increasing={"line": {"color": GOOD, "width": 1}, "fillcolor": empty if hollow else GOOD},
        decreasing={"line": {"color": BAD, "width": 1}, "fillcolor": empty if hollow else BAD},
        showlegend=False,
        opacity=0.8 if hollow else 1,
    )


def _indicators(made: go.Figure, leg: Leg, k: int, bars: int, overlays: Overlays) -> None:
    """Lines over the candles; one legend entry for the same line of all symbols."""
    closed, close = leg.closed, leg.closed["close"]
    lines: list[tuple[str, pd.Series[float], str, str]] = []
    if overlays.sma:
        lines.append((f"SMA {overlays.sma}", sma(close, overlays.sma), MUTED, "solid"))
    if overlays.ema:
        lines.append((f"EMA {overlays.ema}", ema(close, overlays.ema), CORRELATION, "solid"))
    if overlays.session_s:
        session = bar_label(overlays.session_s)
        whole = session_vwap(closed, overlays.session_s)
        lines.append((f"VWAP {session}", whole, SCORE, "solid"))
    if overlays.bands:
        bands = bollinger_bands(close, overlays.bands, overlays.n_std)
        name = f"Bollinger {overlays.bands}, {overlays.n_std:g}σ"
        lines += [(name, bands[side], SPREAD, "dot") for side in ("upper", "lower")]
    seen: set[str] = set()
    for name, values, colour, dash in lines:
        shown = values.tail(bars)
        at, level = thinned(_time(shown), floats(shown), CANDLES)
        made.add_scatter(
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
