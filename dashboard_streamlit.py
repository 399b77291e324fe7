"""The page: controls, layout, views. No maths, no SQL.

streamlit run dashboard_streamlit.py
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import streamlit as st
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator

from pairs.dashboard import header, keys, watch
from pairs.dashboard.address import dismiss, follow_address, start_with, tell_address, unhonoured
from pairs.dashboard.chart import fetch_early, provide_script
from pairs.dashboard.context import AWAY, Choice, Page, boundary, symbols_of
from pairs.dashboard.sidebar import legs_offered, sidebar
from pairs.dashboard.style import CSS
from pairs.dashboard.upload import upload
from pairs.dashboard.view_csv import view_csv
from pairs.dashboard.views import (
    alerts,
    backtest,
    data,
    market,
    methods,
    pair,
    scanner,
    statistics,
    system,
)
from pairs.figures.plain import plain
from pairs.jit import warm_up
from pairs.messages import one_line, start_logging, take_over
from pairs.settings import Settings, SettingsError, load_settings
from pairs.storage.database import StoreError, open_database, open_store
from pairs.storage.postgres import PostgresStore

# The register of views: one file of pairs/dashboard/ each, and one line here.
VIEWS: dict[str, Callable[[Page], None]] = {
    "Market": market.draw,
    "Pair": pair.draw,
    "Statistics": statistics.draw,
    "Scanner": scanner.draw,
    "Backtest": backtest.draw,
    "Alerts": alerts.draw,
    "Data": data.draw,
    "System": system.draw,
    "Methods": methods.draw,
}


ABOUT = "Pairs: statistical arbitrage in crypto pairs, live. All times are UTC."


@st.cache_resource(show_spinner=False)
def start_log(level: str) -> None:
    """The log as the other programs write it, however the page was started; what drives the page
    without a server (a test, a script) has a log of its own."""
    if runtime.exists():
        start_logging(level)
        take_over("streamlit")


@st.cache_resource(show_spinner="Connecting to the database")
def store_of(settings: Settings) -> PostgresStore:
    return open_store(open_database(settings))


@st.cache_resource(show_spinner="Preparing the numerical kernels")
def get_ready() -> None:
    """Load the compiled kernels (`make install` has compiled them; else this takes half a
    minute, once), then set the imported modules apart.

    Streamlit searches all objects for garbage after every run, most of them those of the
    imported modules. Frozen, they are left out: most of a refresh's processor time.
    """
    warm_up()
    gc.collect()
    gc.freeze()


def main() -> None:
    st.set_page_config("Pairs", layout="wide", menu_items={"About": ABOUT})
    st.html(CSS + watch.CSS + keys.CSS)
    try:
        settings = load_settings()
        start_log(settings.log_level)
        provide_script()
        fetch_early()
        store = store_of(settings)
        get_ready()
        symbols = symbols_of(store)
        draw(store, settings, symbols)
    except (SettingsError, StoreError, *AWAY) as error:
        st.error(f"The page cannot start: {plain(one_line(error))}")
        st.button("Try again")
        try_again()


def draw(store: PostgresStore, settings: Settings, symbols: dict[str, list[str]]) -> None:
    """Everything, where the database answers."""
    if not enough(symbols):
        waiting(store)
        uploads(store)
        return
    follow_address()
    told = st.container()
    choice = sidebar(store, settings, symbols)
    place = uploads(store, choice)
    if choice is None:
        start_with("view", list(VIEWS), "Pair", always=True)
        tell_address()
        tell_unhonoured(told)
        return
    numbers, row = st.container(), st.container(horizontal=True, vertical_alignment="center")
    view = choose_view(row)
    options = row.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
    )
    page = Page(store, settings, choice, options)
    alerts.page_begins()
    with numbers:
        page.live("Numbers", header.draw)
        watch.heart(choice.refresh_s)
    with boundary(str(view)):
        VIEWS[str(view)](page)
    keys.listen()
    with boundary("Data"):
        view_csv(page, str(view), place)
    tell_address()
    tell_unhonoured(told)
    alerts.page_drawn()


def choose_view(row: DeltaGenerator) -> str:
    """The names of the views; after a jump from one to another, the way back."""
    views = list(VIEWS)
    at = start_with("view", views, "Pair", always=True)
    before, now = st.session_state.get("came_from"), st.session_state["view"]
    if before in VIEWS and st.session_state.get("came_to") in (None, now) and before != now:
        st.session_state["came_to"] = now
        row.button(f"‹ {plain(before)}", key="back", type="tertiary", on_click=go_back)
    else:
        st.session_state["came_from"] = st.session_state["came_to"] = None
    return str(
        row.segmented_control(
            "View",
            views,
            default=views[at],
            required=True,
            key="view",
            label_visibility="collapsed",
        )
    )


def go_back() -> None:
    st.session_state["view"] = st.session_state["came_from"]


def link_words(missed: Sequence[object]) -> str:
    """What could not be honoured, each as `refuse` was given it: made plain."""
    return "The link asked for " + "; for ".join(map(str, missed)) + "."


def tell_unhonoured(place: DeltaGenerator) -> None:
    """What the link asked for and is not shown, until it was read."""
    if missed := unhonoured():
        line = place.container(horizontal=True, vertical_alignment="center")
        line.warning(link_words(missed))
        line.button("OK", key="link_read", on_click=dismiss)


def try_again() -> None:
    """Run the page anew by itself: a database that was away may be back."""
    looked = False

    @st.fragment(run_every=3.0)
    def look() -> None:
        nonlocal looked
        if looked:
            st.rerun()
        looked = True

    look()


def enough(symbols: dict[str, list[str]]) -> bool:
    """Whether there are two instruments that may make a pair."""
    return any(len(legs_offered(venue, symbols)) >= 2 for venue in symbols)


def waiting(store: PostgresStore) -> None:
    """Nothing is stored yet: say why, and look again every second."""
    st.html('<div class="pw pw-head"><h1>Waiting for the first bars</h1></div>')

    @st.fragment(run_every=1.0)
    def look() -> None:
        if enough(store.reads.symbols()):
            symbols_of.clear()
            st.rerun()
        with boundary("Feeds"):
            system.beginning(store)

    look()


def uploads(store: PostgresStore, choice: Choice | None = None) -> DeltaGenerator:
    """The upload, below the controls of every view and where there is none yet; the place for what
    else is done with data there."""
    with st.sidebar.expander("Data", expanded=True):
        with boundary("Upload"):
            upload(store, choice.pair if choice else ())
        return st.container()


main()
