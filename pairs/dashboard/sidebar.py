"""The sidebar: pair → signal → live, in the order one thinks. Choices live in the address too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pairs.analytics.hedge import ols_hedge_ratio
from pairs.analytics.kalman import KalmanNoise, fit_kalman_noise
from pairs.analytics.pair import PairSpec
from pairs.bars.resampling import align
from pairs.dashboard import address
from pairs.dashboard.address import labels, start_with
from pairs.dashboard.context import Choice, bars_of, follow, jobs, remembered, sizes_of
from pairs.figures.plain import plain
from pairs.live.bars import Snapshot
from pairs.market import LIVE_BARS, Instrument, bar_label, bar_seconds
from pairs.settings import Settings
from pairs.storage.postgres import PostgresStore

VENUE_NAMES = {
    "local": "Simulated",
    "binance": "Binance",
    "binance-usdm": "USD-M",
    "upload": "Uploads",
}
# Venues whose bars may stand beside those of a venue: simulated never beside real ones.
BESIDE = {
    "local": ("upload",),
    "binance": ("binance-usdm", "upload"),
    "binance-usdm": ("binance", "upload"),
    "upload": (),
}
HEDGES = {
    "rolling": "Rolling OLS",
    "kalman": "Kalman filter",
    "fixed": "Fixed β",
    "ols": "OLS, whole sample (in-sample)",
}
# z-score and hedge windows that a pair of that bar length starts with
WINDOWS = {"1s": (120, 900), "1min": (120, 480), "5min": (48, 144), "1h": (24, 48)}
START_BAR = "1min"  # long enough for its tests to say the same from one bar to the next
# Symbols that move together, the one that leads them first: a pair begins within a group.
GROUPS = (("BTCUSDT", "ETHUSDT", "SOLUSDT"), ("BNBUSDT", "LTCUSDT", "XRPUSDT"))
FIRST = "ETHUSDT"
FEW = 10  # bars of a regression up to which it is little but a line through its points
DELTAS, NOISES = (-16.0, -1.0), (-24.0, 12.0)
FIT_BARS = 2000
Hedge = Literal["ols", "rolling", "kalman", "fixed"]


def sidebar(
    store: PostgresStore, settings: Settings, symbols: dict[str, list[str]]
) -> Choice | None:
    """The controls; None where the legs chosen have no bar length in common."""
    with st.sidebar:
        head = st.container(horizontal=True, vertical_alignment="center")
        head.subheader("Pair", anchor=False)
        head.button(
            "⇄",
            key="swap",
            on_click=swap_legs,
            help="Explain x by y instead (s)",
        )
        _follow_link(store, symbols)
        venue = _venue(store, symbols)
        y, x = _legs(venue, symbols)
        address.tell("pair", address.pair_text(y, x))
        address.tell("venue", venue, address.home_of(y, x))
        bars = bars_offered(store, (y, x))
        if not bars:
            st.warning(
                f"{plain(y.symbol)} and {plain(x.symbol)} have no bar length in common. "
                "Choose two of equal length."
            )
            return None
        start = START_BAR if START_BAR in bars else bars[0]
        at = start_with("bar", bars, start, alias=bar_of_others, always=True)
        bar = st.segmented_control(
            "Bar", bars, default=bars[at], required=True, key="bar", width="stretch"
        )
        bar = bar if bar in bars else start
        spec = _hedge(store, (y, x), bar)
        entry, exit_, stop = _thresholds()
        st.subheader("Live", anchor=False)
        refresh_s = settings.streamlit_refresh_ms / 1000
        live = st.toggle(
            f"Refresh every {refresh_s:g} s", value=True, key="live", bind="query-params"
        )
        st.caption("β, spread, z and correlation use closed bars only. All times are UTC.")
    return Choice(y, x, bar, spec, entry, exit_, stop, refresh_s if live else None)


def open_pair(y: Instrument, x: Instrument, view: str | None = None) -> None:
    """Choose a pair from elsewhere on the page; for callbacks, which run before the controls.
    Where another view opens with it, the page offers the way back."""
    venue = address.home_of(y, x)
    st.session_state["venue"] = venue
    for key, leg in (("y", y), ("x", x)):
        st.session_state[key] = leg.symbol if leg.venue == venue else str(leg)
    if view is not None:
        st.session_state["came_from"] = st.session_state.get("view")
        st.session_state["came_to"] = None
        st.session_state["view"] = view


def bar_of_others(bar: str) -> str:
    """A bar's length as exchanges and other programs write it: 1m is our 1min."""
    return bar.replace("min", "m")


def _venues(symbols: dict[str, list[str]]) -> list[str]:
    return [venue for venue in VENUE_NAMES if len(legs_offered(venue, symbols)) >= 2]


def _follow_link(store: PostgresStore, symbols: dict[str, list[str]]) -> None:
    """Choose the pair that a link names, as far as it is stored; what is not is told."""
    wanted = address.asked_legs()
    if wanted is None:
        return
    named, *texts = wanted
    venues = _venues(symbols)
    home = named and _venue_named(named)
    if named is not None and home not in venues:
        address.refuse(f"{plain(VENUE_NAMES.get(str(home), named))}, of which no pair is stored")
        home = None
    legs = [text and _leg_named(text, home or _running(store, tuple(venues))) for text in texts]
    found = [leg and _stored(leg, symbols) for leg in legs]
    known = [leg for leg in found if leg]
    if home is None and known:
        home = next((leg.venue for leg in known if leg.venue != "upload"), "upload")
    if len(known) == 2 and known[0] == known[1]:
        address.refuse(f"{plain(known[0].symbol)} on both legs, which is no pair")
        found[1] = None
    st.session_state["venue"] = home
    for key, leg in zip("yx", found, strict=True):
        if not leg:
            continue
        if leg.venue not in (home, *BESIDE.get(str(home), ())):
            address.refuse(
                f"{plain(leg_label(leg, str(home)))} beside {plain(VENUE_NAMES[str(home)])}: "
                "simulated prices are never shown beside real ones"
            )
            continue
        st.session_state[key] = leg.symbol if leg.venue == home else str(leg)


def _venue_named(text: str) -> str:
    """The key of a venue, named by key or label."""
    meant = text.strip().casefold()
    return next((k for k, label in VENUE_NAMES.items() if meant in (k, label.casefold())), text)


def _leg_named(text: str, home: str) -> Instrument:
    venue, between, symbol = text.partition(":")
    return Instrument(_venue_named(venue), symbol) if between else Instrument(home, text)


def _stored(leg: Instrument, symbols: dict[str, list[str]]) -> Instrument | None:
    symbol = address.matching(leg.symbol, symbols.get(leg.venue, ()))
    if symbol is None:
        venue = VENUE_NAMES.get(leg.venue, leg.venue)
        address.refuse(f"{plain(leg.symbol)} at {plain(venue)}, which is not stored here")
        return None
    return Instrument(leg.venue, symbol)


def _venue(store: PostgresStore, symbols: dict[str, list[str]]) -> str:
    venues = _venues(symbols)
    start = _running(store, tuple(venues))
    if st.session_state.get("venue") not in venues:
        st.session_state["venue"] = start
    chosen = st.segmented_control(
        "Venue",
        venues,
        default=st.session_state["venue"],
        required=True,
        key="venue",
        width="stretch",
        format_func=lambda name: VENUE_NAMES[name],
    )
    return str(chosen) if chosen in venues else venues[0]


@st.cache_data(ttl=30, show_spinner=False)
def _running(_store: PostgresStore, venues: tuple[str, ...]) -> str:
    """The venue whose daemon runs; else the first."""

    def find() -> str:
        for venue in venues:
            if any(feed.state != "stopped" for feed in _store.reads.feeds(venue)):
                return venue
        return venues[0]

    return remembered().get(("running", _store, venues), find)


def legs_offered(venue: str, symbols: dict[str, list[str]]) -> list[Instrument]:
    """The instruments that may be a leg under a venue: its own first."""
    if not symbols.get(venue):
        return []
    return [
        Instrument(name, symbol)
        for name in (venue, *BESIDE[venue])
        for symbol in symbols.get(name, ())
    ]


def leg_label(leg: Instrument, venue: str) -> str:
    """An instrument as the page calls it under a venue: of another one, that is said."""
    return leg.symbol if leg.venue == venue else f"{leg.symbol} ({VENUE_NAMES[leg.venue]})"


def _legs(venue: str, symbols: dict[str, list[str]]) -> tuple[Instrument, Instrument]:
    """Two different instruments. A venue's own go by their symbol alone."""
    offered = {
        (leg.symbol if leg.venue == venue else str(leg)): leg
        for leg in legs_offered(venue, symbols)
    }

    def label(name: str) -> str:
        return leg_label(offered[name], venue) if name in offered else name

    names = list(offered)
    own = [name for name in names if offered[name].venue == venue]
    first = FIRST if FIRST in own else own[0]
    _swap_where_equal()
    left, right = st.columns(2)
    at = _among("y", names, first)
    y = str(left.selectbox("y (explained)", names, index=at, key="y", format_func=label))
    others = [name for name in names if name != y]
    at = _among("x", others, partner_of(y, others))
    x = str(right.selectbox("x (explains)", others, index=at, key="x", format_func=label))
    st.session_state["legs"] = (y, x)
    return offered[y], offered[x]


def _among(key: str, names: list[str], start: str) -> int:
    """Let a leg's control begin at `start` unless what was chosen can be had; its index."""
    if st.session_state.get(key) not in names:
        st.session_state[key] = start
    return names.index(st.session_state[key])


def partner_of(y: str, others: Sequence[str]) -> str:
    """What explains y to begin with: the first of its group, else of any that is offered."""
    own = next((group for group in GROUPS if y in group), ())
    wanted = (*own, *(symbol for group in GROUPS for symbol in group))
    return next((symbol for symbol in wanted if symbol in others), others[0])


def swap_legs() -> None:
    """x is explained by y from now on; for callbacks, which run before the controls."""
    state = st.session_state
    if "y" in state and "x" in state:
        state["y"], state["x"] = state["x"], state["y"]


def _swap_where_equal() -> None:
    """Who chooses for y what is x means the pair the other way round."""
    y, x = st.session_state.get("legs", (None, None))
    chosen = st.session_state.get("y")
    if chosen == x != y and st.session_state.get("x") == chosen:
        st.session_state["x"] = y


def bars_offered(store: PostgresStore, legs: tuple[Instrument, ...]) -> list[str]:
    """Bar lengths that can be made of what is stored of every leg, shortest first."""
    stored = [sizes_of(store, leg) for leg in legs]
    wanted = set(LIVE_BARS)
    if any(leg.venue == "upload" for leg in legs):
        wanted |= {"1d", *(bar_label(size) for sizes in stored for size in sizes)}
    fitting = [
        bar
        for bar in wanted
        if all(any(bar_seconds(bar) % size == 0 for size in sizes) for sizes in stored)
    ]
    return sorted(fitting, key=bar_seconds)


def _hedge(store: PostgresStore, pair: tuple[Instrument, Instrument], bar: str) -> PairSpec:
    """Hedge ratio method and windows; the windows are remembered per bar length."""
    score_bars, fit_bars = WINDOWS.get(bar, (60, 240))
    called = labels(HEDGES)
    at = start_with("hedge", list(HEDGES), "rolling", called)
    hedge = cast(
        Hedge,
        st.selectbox("Hedge ratio", list(HEDGES), index=at, format_func=called, key="hedge"),
    )
    left, right = st.columns(2)
    window = left.number_input(
        "Window, bars",
        2,
        1000,
        score_bars,
        key=f"window_{bar}",
        bind="query-params",
        help="Of z-score and correlation",
    )
    fields: dict[str, Any] = {}
    if hedge == "rolling":
        fields["hedge_window"] = int(
            right.number_input(
                "Hedge window",
                2,
                2000,
                fit_bars,
                key=f"fit_{bar}",
                bind="query-params",
                help="Bars of the rolling regression",
            )
        )
    elif hedge == "fixed":
        fields["beta"] = _fixed(store, pair, bar, right)
    elif hedge == "kalman":
        fields |= _kalman(store, pair, bar, right)
    bars = fields.get("hedge_window", FEW + 1)
    if bars <= FEW:
        st.caption(
            f"A line through {int(bars)} points: what is left of it is small whatever the two are."
        )
    return PairSpec(hedge=hedge, window=int(window), **fields)


def _fixed(
    store: PostgresStore, pair: tuple[Instrument, Instrument], bar: str, place: DeltaGenerator
) -> float:
    """A hedge ratio given; it begins at that of the bars at hand, for every pair anew. It always
    stands in the address, since where it begins changes with the bars."""
    of, state = "/".join(map(str, pair)), st.session_state
    if state.get("beta_of") != of:
        linked = _number(st.query_params.get("beta")) if "beta_of" not in state else None
        state["beta"] = fitted_beta(bars_of(store, pair, bar, 1.0)) if linked is None else linked
        state["beta_of"] = of
    beta = float(
        place.number_input("β", format="%.6g", key="beta", help="Begins at OLS of the bars at hand")
    )
    if st.query_params.get("beta") != repr(beta):
        st.query_params["beta"] = repr(beta)
    return beta


def _number(text: str | None) -> float | None:
    """What a link says, where it is a number."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def fitted_beta(snapshot: Snapshot) -> float:
    """The slope of y on x over the closed bars at hand, to six digits; 1 where there is none."""
    y, x = align(snapshot.y.closed, snapshot.x.closed)
    if len(y) < 3 or x["close"].min() == x["close"].max():
        return 1.0
    return float(f"{ols_hedge_ratio(y['close'], x['close']).beta:.6g}")


def _kalman(
    store: PostgresStore, pair: tuple[Instrument, Instrument], bar: str, memory: DeltaGenerator
) -> dict[str, Any]:
    """The filter's memory, or its two variances as powers of ten: given, or estimated."""
    if not st.toggle(
        "Noise given",
        key="noise_given",
        bind="query-params",
        help="Off: the filter takes its noise from the prices",
    ):
        bars = memory.number_input(
            "Memory, bars",
            2,
            2000,
            WINDOWS.get(bar, (60, 240))[1],
            key=f"fit_{bar}",
            bind="query-params",
            help="How far back the filter remembers, as an EMA does",
        )
        return {"hedge_window": int(bars)}
    snapshot = bars_of(store, pair, bar, 1.0)
    price = snapshot.y.last_price
    start = 0.5 * round(4 * math.log10(5e-4 * price)) if price > 0 else 0.0
    noise_key = f"noise_{pair[0].symbol}"
    delta = memory.number_input(
        "log₁₀ δ",
        *DELTAS,
        -6.0,
        0.5,
        key="delta",
        bind="query-params",
        help="How fast the hedge ratio may move: state covariance δ/(1−δ)",
    )
    noise = st.number_input(
        "log₁₀ observation variance",
        *NOISES,
        max(NOISES[0], min(NOISES[1], start)),
        0.5,
        key=noise_key,
        bind="query-params",
        help="Variance of the spread around its mean, in squared price units of y. "
        "Starts at a spread of 5 bps of y's price.",
    )
    _fit_noise(snapshot, (*pair, bar), noise_key)
    return {"delta": 10.0**delta, "observation_variance": 10.0**noise}


def _fit_noise(snapshot: Snapshot, key: tuple[object, ...], noise_key: str) -> None:
    """Offer the most likely variances; what was found is shown before it is used."""
    if st.button(f"Estimate from {FIT_BARS:,} bars", width="stretch", key="fit_noise"):
        y, x = align(snapshot.y.closed, snapshot.x.closed)
        closes = y["close"].tail(FIT_BARS), x["close"].tail(FIT_BARS)
        jobs().submit(
            ("noise", *key), "Estimating the noise", lambda _: fit_kalman_noise(*closes), again=True
        )
    job = jobs().get(("noise", *key))
    if job is None:
        return
    if not job.finished:
        follow(job)
    elif job.error is not None:
        st.warning(f"No estimate: {plain(job.error)}")
    else:
        _offer(job.result, noise_key)


def _offer(found: KalmanNoise, noise_key: str) -> None:
    """The estimate, and a button that takes it; why not, where it says nothing."""
    delta, noise = (round(math.log10(v), 2) for v in (found.delta, found.observation_variance))
    within = DELTAS[0] <= delta <= DELTAS[1] and NOISES[0] <= noise <= NOISES[1]
    st.caption(
        f"Most likely: log₁₀ δ {delta:g}, log₁₀ variance {noise:g} (in-sample)"
        + (
            ""
            if found.converged
            else "; NOT CONVERGED: the likelihood rises to where β stands "
            "still or follows every bar, so these bars do not tell the noise"
        )
        + ("" if within else "; outside what can be chosen above")
    )

    def use() -> None:
        st.session_state["delta"], st.session_state[noise_key] = delta, noise

    if within:
        st.button("Use these", on_click=use, width="stretch", key="use_noise")


def _thresholds() -> tuple[float, float, float | None]:
    """Entry, exit and stop of the z-score."""
    st.subheader("Signal", anchor=False)
    columns = st.columns(3)
    entry = columns[0].number_input(
        "Entry z", 0.1, 10.0, 2.0, 0.1, "%.2f", key="entry", bind="query-params"
    )
    exit_ = columns[1].number_input(
        "Exit z", 0.0, 10.0, 0.0, 0.1, "%.1f", key="exit", bind="query-params"
    )
    stop = columns[2].number_input(
        "Stop z", 0.0, 20.0, 4.0, 0.1, "%.1f", key="stop", bind="query-params", help="0: none"
    )
    if exit_ >= entry:
        st.warning("Exit z is not below entry z: a position would close as it opens.")
    if 0 < stop <= entry:
        st.warning("Stop z is not above entry z: a position would stop as it opens.")
    return float(entry), float(exit_), float(stop) or None
