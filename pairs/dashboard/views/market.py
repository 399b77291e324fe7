"""The market view: candles, volume and indicators of up to four symbols."""

from __future__ import annotations

import streamlit as st

from pairs.dashboard.context import Page, symbols_of
from pairs.dashboard.sidebar import BESIDE
from pairs.dashboard.views.pair import bars_shown, newest_of, span_control
from pairs.figures.layout import DAY, HOUR, incomplete_note, steady
from pairs.figures.market import Overlays, drawn_bars, figure, forming
from pairs.figures.plain import plain
from pairs.figures.tables import note_html
from pairs.market import Instrument, bar_label, bar_seconds

SYMBOLS = 4
INDICATORS = ("SMA", "EMA", "VWAP", "Bollinger")


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
    length = bar_seconds(page.choice.bar)
    grown, until = steady(span, newest_of(snapshot), length)
    bars = drawn_bars(snapshot.legs, grown)
    lacking = tuple(page.incomplete(leg, bars) for leg in snapshot.legs)
    if note := incomplete_note(
        [(i.symbol, at) for i, at in zip(instruments, lacking, strict=True)]
    ):
        st.html(note_html(note))
    identity = "/".join(map(str, ("market", *instruments, page.choice.bar, span)))
    live = snapshot.live and page.choice.refresh_s is not None
    page.live_chart(
        lambda: figure(
            snapshot.legs,
            page.choice.bar,
            bars=bars,
            overlays=overlays,
            uirevision=identity,
            incomplete=lacking,
            until=until if live else None,
        ),
        (instruments, page.choice.bar, span, overlays, live),
        (*page.key(snapshot), *map(len, lacking)),
        name="Market",
        height=f"max(calc(100vh - 15rem), {len(instruments) * 16}rem)",
        forming=forming(snapshot.legs, page.choice.bar, bars),
    )
