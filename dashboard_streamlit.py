"""The page: controls, layout, live boards. No maths, no SQL.

streamlit run dashboard_streamlit.py
"""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from analytics import adf_test
from compiled import warm_up
from database_utils import StoreError, one_line, open_database, open_store
from live import LivePair, Snapshot, base_bar_s, stored_bars
from market import LIVE_BARS, bar_label, bar_seconds
from pair import PairSpec, PairView, pair_view
from panels import data as data_panel
from panels import market as market_panel
from panels import pair as pair_panel
from panels.chart import draw_chart, provide_script
from panels.figures import pack
from panels.strip import CSS, cards_html, header_html
from settings import Settings, SettingsError, load_settings
from storage.postgres import PostgresStore
from storage.queries import read_bar_sizes, read_feeds, read_symbols

log = logging.getLogger("dashboard")

VIEWS = ("Market", "Pair", "Data")
VENUE_NAMES = {
    "local": "Simulated", "binance": "Binance", "binance-usdm": "USD-M", "upload": "Uploads",
}  # fmt: skip
HEDGES = {"rolling": "Rolling OLS", "kalman": "Kalman filter", "fixed": "Fixed β",
          "ols": "OLS, whole sample (in-sample)"}  # fmt: skip
# z-score and hedge windows that a pair of that bar length starts with
WINDOWS = {"1s": (120, 900), "1min": (120, 480), "5min": (48, 144), "1h": (24, 48)}
PREFERRED = ("ETHUSDT", "BTCUSDT")
CHART_HEIGHT = "calc(100vh - 14.6rem)"
ADF_BARS = 600
Hedge = Literal["ols", "rolling", "kalman", "fixed"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What the sidebar asks for."""

    venue: str
    y: str
    x: str
    bar: str
    base_s: int
    spec: PairSpec
    entry_z: float
    exit_z: float
    stop_z: float | None
    refresh_s: float | None


# -- resources shared by every session


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


@st.cache_resource(max_entries=64, show_spinner=False)
def live_pair(_store: PostgresStore, venue: str, y: str, x: str, bar: str, base: int) -> LivePair:
    return LivePair(_store.engine, venue, (y, x), bar, base)


@st.cache_data(ttl=3, show_spinner=False)
def symbols_of(_store: PostgresStore) -> dict[str, list[str]]:
    return read_symbols(_store.engine)


@st.cache_data(ttl=30, show_spinner=False)
def running_venue(_store: PostgresStore, venues: tuple[str, ...]) -> str:
    """The venue whose daemon runs; else the first."""
    for venue in venues:
        if any(feed.state != "stopped" for feed in read_feeds(_store.engine, venue)):
            return venue
    return venues[0]


@st.cache_resource(max_entries=64, show_spinner=False)
def view_of(_snapshot: Snapshot, key: tuple[Any, ...], spec: PairSpec) -> PairView:
    """The pair's view, computed once per closed bar for all sessions."""
    return pair_view(_snapshot.y.closed, _snapshot.x.closed, spec)


@st.cache_data(max_entries=64, show_spinner=False)
def adf_of(_view: PairView, key: tuple[Any, ...], spec: PairSpec) -> tuple[float, int]:
    """p-value of the spread's last ADF_BARS bars at one fixed lag, and their number."""
    spread = _view.frame["spread"].dropna().tail(ADF_BARS)
    if len(spread) < 30 or spread.min() == spread.max():
        return float("nan"), 0
    return adf_test(spread, lags=1).p_value, len(spread)


@st.cache_resource(max_entries=128, show_spinner=False)
def payload_of(_figure: Callable[[], Any], key: tuple[Any, ...]) -> dict[str, Any]:
    """A figure as the chart component takes it, made once for all sessions."""
    version = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return {**pack(_figure()), "version": version}


# -- the page


def main() -> None:
    st.set_page_config("Pairs", layout="wide")
    st.html(CSS)
    try:
        settings = load_settings()
        provide_script()
        store = store_of(settings)
        get_ready()
        symbols = symbols_of(store)
    except (SettingsError, StoreError, SQLAlchemyError, OSError) as error:
        st.error(f"The page cannot start: {one_line(error)}")
        st.button("Try again")
        return
    if not any(len(names) >= 2 for names in symbols.values()):
        waiting(store)
        return
    choice = sidebar(store, settings, symbols)
    if choice is None:
        return
    st.fragment(head, run_every=choice.refresh_s)(store, choice)
    view = st.segmented_control(
        "View", VIEWS, default="Pair", required=True, key="view", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if view == "Data":
        with boundary("Data"):
            data_panel.draw(store, exports_of(store, choice), forget, choice.refresh_s)
    else:
        st.fragment(board, run_every=choice.refresh_s)(store, choice, str(view))


def waiting(store: PostgresStore) -> None:
    """Nothing is stored yet: look again every second."""
    st.html('<div class="pw pw-head"><h1>Waiting for the first bars</h1></div>')
    st.write(
        "The ingestion daemon has stored nothing yet. It runs as part of `make run`, or alone:"
    )
    st.code("python ingest_websocket.py", language="shell")

    @st.fragment(run_every=1.0)
    def look() -> None:
        if any(len(names) >= 2 for names in read_symbols(store.engine).values()):
            symbols_of.clear()
            st.rerun()

    look()
    with boundary("Upload"):
        data_panel.upload(store, forget)


def forget() -> None:
    """Let the page notice new symbols and new bars of a file at once."""
    for cache in (symbols_of, live_pair, view_of, adf_of, payload_of):
        cache.clear()


def sidebar(
    store: PostgresStore, settings: Settings, symbols: dict[str, list[str]]
) -> Choice | None:
    """The controls, in the order one thinks: pair → signal → live."""
    venues = [venue for venue in VENUE_NAMES if len(symbols.get(venue, ())) >= 2]
    with st.sidebar:
        st.subheader("Pair", anchor=False)
        venue = st.segmented_control(
            "Venue", venues, default=running_venue(store, tuple(venues)), required=True,
            format_func=lambda name: VENUE_NAMES[name], key="venue", bind="query-params",
            width="stretch",
        )  # fmt: skip
        venue = venue if venue in venues else venues[0]
        y, x = legs(symbols[venue])
        bars = bars_offered(store, venue, (y, x))
        if not bars:
            st.warning(f"{y} and {x} have no bar length in common. Choose two of equal length.")
            return None
        bar = st.segmented_control(
            "Bar", list(bars), default=next(iter(bars)), required=True, key="bar",
            bind="query-params", width="stretch",
        )  # fmt: skip
        bar = bar if bar in bars else next(iter(bars))
        spec = hedge_controls(bar)
        entry, exit_, stop = thresholds()
        st.subheader("Live", anchor=False)
        refresh_s = settings.streamlit_refresh_ms / 1000
        live = st.toggle(f"Refresh every {refresh_s:g} s", value=True, key="live",
                         bind="query-params")  # fmt: skip
        st.caption("β, spread, z and correlation use closed bars only. All times are UTC.")
    return Choice(
        venue, y, x, bar, bars[bar], spec, entry, exit_, stop, refresh_s if live else None
    )


def legs(names: list[str]) -> tuple[str, str]:
    """Two different symbols."""
    first = PREFERRED[0] if PREFERRED[0] in names else names[0]
    left, right = st.columns(2)
    y = left.selectbox("y (explained)", names, index=names.index(first), key="y",
                       bind="query-params")  # fmt: skip
    others = [name for name in names if name != y]
    second = PREFERRED[1] if PREFERRED[1] in others else others[0]
    x = right.selectbox("x (explains)", others, index=others.index(second), key="x",
                        bind="query-params")  # fmt: skip
    return str(y), str(x)


def bars_offered(store: PostgresStore, venue: str, symbols: tuple[str, str]) -> dict[str, int]:
    """Bar lengths on offer → the stored length they are made from."""
    if venue != "upload":
        return {bar: base_bar_s(bar) for bar in LIVE_BARS}
    common = set.intersection(*(set(read_bar_sizes(store.engine, venue, s)) for s in symbols))
    offered = {bar_label(size): size for size in sorted(common)}
    if common:
        base = min(common)
        offered |= {
            bar: base_bar_s(bar, sorted(common))
            for bar in (*LIVE_BARS, "1d")
            if bar_seconds(bar) > base and bar_seconds(bar) % base == 0
        }
    return dict(sorted(offered.items(), key=lambda item: bar_seconds(item[0])))


def hedge_controls(bar: str) -> PairSpec:
    """Hedge ratio method and windows; the windows are remembered per bar length."""
    score_bars, fit_bars = WINDOWS.get(bar, (60, 240))
    hedge = cast(
        Hedge,
        st.selectbox("Hedge ratio", list(HEDGES), format_func=lambda name: HEDGES[name],
                     key="hedge", bind="query-params"),
    )  # fmt: skip
    left, right = st.columns(2)
    window = left.number_input(
        "Window, bars", 2, 1000, score_bars, key=f"window_{bar}", bind="query-params",
        help="Of z-score and correlation",
    )  # fmt: skip
    fields: dict[str, Any] = {}
    if hedge == "rolling":
        fields["hedge_window"] = int(
            right.number_input("Hedge window", 2, 2000, fit_bars, key=f"fit_{bar}",
                               bind="query-params", help="Bars of the rolling regression")
        )  # fmt: skip
    elif hedge == "fixed":
        fields["beta"] = float(
            right.number_input("β", value=1.0, format="%.6f", key="beta", bind="query-params")
        )
    elif hedge == "kalman":
        fields["delta"] = 10.0 ** right.number_input(
            "log₁₀ δ", -10.0, -1.0, -6.0, 0.5, key="delta", bind="query-params",
            help="How fast the hedge ratio may move: state covariance δ/(1−δ)",
        )  # fmt: skip
        fields["observation_variance"] = 10.0 ** st.number_input(
            "log₁₀ observation variance", -9.0, 9.0, 0.0, 0.5, key="noise", bind="query-params",
            help="Variance of the spread around its mean, in squared price units",
        )  # fmt: skip
    return PairSpec(hedge=hedge, window=int(window), **fields)


def thresholds() -> tuple[float, float, float | None]:
    """Entry, exit and stop of the z-score."""
    st.subheader("Signal", anchor=False)
    columns = st.columns(3)
    entry = columns[0].number_input("Entry z", 0.1, 10.0, 2.0, 0.1, "%.1f", key="entry",
                                    bind="query-params")  # fmt: skip
    exit_ = columns[1].number_input("Exit z", 0.0, 10.0, 0.0, 0.1, "%.1f", key="exit",
                                    bind="query-params")  # fmt: skip
    stop = columns[2].number_input("Stop z", 0.0, 20.0, 4.0, 0.1, "%.1f", key="stop",
                                   bind="query-params", help="0: none")  # fmt: skip
    if exit_ >= entry:
        st.warning("Exit z is not below entry z: a position would close as it opens.")
    if 0 < stop <= entry:
        st.warning("Stop z is not above entry z: a position would stop as it opens.")
    return float(entry), float(exit_), float(stop) or None


# -- live boards


def snapshot_of(store: PostgresStore, choice: Choice) -> Snapshot:
    pair = live_pair(store, choice.venue, choice.y, choice.x, choice.bar, choice.base_s)
    return pair.poll((choice.refresh_s or 1.0) * 0.8)


def live_now(store: PostgresStore, choice: Choice) -> tuple[Snapshot, PairView]:
    snapshot = snapshot_of(store, choice)
    return snapshot, view_of(snapshot, key_of(snapshot, choice), choice.spec)


def exports_of(store: PostgresStore, choice: Choice) -> data_panel.Exports:
    legs = (choice.y, choice.x)
    return data_panel.Exports(
        live=lambda: live_now(store, choice),
        stored=lambda k, span_s: stored_bars(
            store.engine, choice.venue, legs[k], choice.bar, choice.base_s, span_s
        ),
    )


def key_of(snapshot: Snapshot, choice: Choice) -> tuple[Any, ...]:
    """What a result depends on: the pair, the bars closed so far, the database they came from."""
    return (choice.venue, choice.y, choice.x, choice.bar, snapshot.closed_until)


def head(store: PostgresStore, choice: Choice) -> None:
    """The strip of numbers, at every refresh."""
    with boundary("Numbers"):
        snapshot, view = live_now(store, choice)
        adf_p, adf_bars = adf_of(view, key_of(snapshot, choice), choice.spec)
        st.html(
            header_html(snapshot, pd.Timestamp.now("UTC"))
            + cards_html(
                snapshot, view, entry_z=choice.entry_z, exit_z=choice.exit_z,
                adf_p=adf_p, adf_bars=adf_bars,
            )
        )  # fmt: skip


def board(store: PostgresStore, choice: Choice, view_name: str) -> None:
    """The charts: new data only where a bar has closed or a control has changed."""
    with boundary(view_name):
        snapshot = snapshot_of(store, choice)
        if snapshot.y.closed.empty or snapshot.x.closed.empty:
            st.info("No closed bar of this pair is stored yet. Another bar length may have some.")
            return
        key = (view_name, *key_of(snapshot, choice))
        identity = "/".join((view_name, choice.venue, choice.y, choice.x, choice.bar))
        if view_name == "Market":
            forming = tuple(
                None if leg.forming is None else (leg.forming.name, *leg.forming.iloc[:5])
                for leg in (snapshot.y, snapshot.x)
            )
            payload = payload_of(
                lambda: market_panel.figure((snapshot.y, snapshot.x), identity), (*key, forming)
            )
        else:
            payload = pair_payload(snapshot, choice, key, identity)
        draw_chart(
            payload, key=f"chart-{view_name}", height=CHART_HEIGHT,
            label=f"{view_name} chart of {choice.y} and {choice.x}, bars of {choice.bar}",
        )  # fmt: skip


def pair_payload(
    snapshot: Snapshot, choice: Choice, key: tuple[Any, ...], identity: str
) -> dict[str, Any]:
    raw = st.session_state.get("raw", False)
    view = view_of(snapshot, key[1:], choice.spec)
    return payload_of(
        lambda: pair_panel.figure(
            view, (choice.y, choice.x), choice.bar, entry_z=choice.entry_z,
            exit_z=choice.exit_z, stop_z=choice.stop_z, raw=raw, uirevision=identity,
        ),
        (*key, choice.spec, choice.entry_z, choice.exit_z, choice.stop_z, raw),
    )  # fmt: skip


@contextmanager
def boundary(name: str) -> Iterator[None]:
    """One board's failure stays in that board, is told in one sentence, and is logged."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("streamlit.runtime"):
            raise  # Streamlit's own control flow: rerun and stop
        log.exception("%s failed", name)
        st.error(f"{name} cannot be shown: {one_line(error)[:300]}")


main()
