"""The system view: feeds, gaps, rates, lag, the database and the versions in use."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

import streamlit as st

from pairs import __version__
from pairs.dashboard.context import Page, boundary, shared_read
from pairs.dashboard.header import STALE_S
from pairs.dashboard.sidebar import VENUE_NAMES
from pairs.figures.plain import plain
from pairs.figures.tables import table_html
from pairs.figures.theme import NONE, clock, duration, number
from pairs.storage.maintenance import StoreFigures, read_figures
from pairs.storage.postgres import PostgresStore
from pairs.storage.reader import FeedStatus

PACKAGES = ("streamlit", "plotly", "pandas", "numpy", "numba", "statsmodels", "psycopg2-binary")
VENUES = ("local", "binance", "binance-usdm")
LEVELS = {
    "live": "good",
    "quiet": "good",
    "stale": "warn",
    "starting": "warn",
    "disconnected": "bad",
    "halted": "bad",
    "stopped": "bad",
}
SIGNS = {"good": "●", "warn": "▲", "bad": "✕"}


def draw(page: Page) -> None:
    """The view on the page."""
    page.live("Feeds", _feeds)
    left, right = st.columns([1.4, 1], gap="large")
    with left, boundary("Database"):
        st.fragment(_database, run_every=10.0)(page)
    with right:
        st.html(table_html("Versions", ("what", "version"), versions(), ()))


def _feeds(page: Page) -> None:
    rows = shared_read(
        lambda: [(venue, feed) for venue in VENUES for feed in page.store.reads.feeds(venue)],
        ("feeds",),
    )
    if not rows:
        st.info("No feed has ever run on this database. Start one: `python ingest_websocket.py`")
        return
    st.html(feeds_html(rows))


def _database(page: Page) -> None:
    """Counting takes longer than a refresh: beside the page, every ten seconds."""
    with boundary("Database"):
        st.html(database_html(shared_read(lambda: read_figures(page.store), ("figures",))))


def beginning(store: PostgresStore) -> None:
    """Why there are no bars yet, and what to type."""
    rows = shared_read(
        lambda: [(venue, feed) for venue in VENUES for feed in store.reads.feeds(venue)],
        ("feeds",),
    )
    sentence, command = beginning_words(rows)
    st.write(plain(sentence))
    if command:
        st.code(command, language="shell")
    if rows:
        st.html(feeds_html(rows))


def beginning_words(rows: Sequence[tuple[str, FeedStatus]]) -> tuple[str, str]:
    """Of feeds that have brought nothing yet: what is so, and the command that helps, if any."""
    running = [(venue, feed) for venue, feed in rows if feed.state != "stopped"]
    if not running:
        return (
            "The ingestion daemon does not run, and nothing is stored yet. It is a part of make "
            "run, or runs alone:",
            "python ingest_websocket.py",
        )
    away = next(((v, f) for v, f in running if f.state in ("disconnected", "halted")), None)
    if away is None:
        return ("The daemon runs: the first bars come with the first trades.", "")
    venue, feed = away
    why = f": {feed.detail}" if feed.detail else ""
    return (
        f"{VENUE_NAMES.get(venue, venue)} does not answer{why}. It is tried again by itself. "
        "Where it cannot be reached, simulated prices can:",
        "FEED=local make run",
    )


def feeds_html(rows: Sequence[tuple[str, FeedStatus]]) -> str:
    """One line per feed: state, ages, trades, gaps."""
    cells = []
    for venue, feed in rows:
        level = LEVELS.get(feed.state, "warn")
        old = feed.received_age_s is not None and feed.received_age_s > STALE_S
        cells.append(
            (
                venue,
                feed.symbol,
                (f"{SIGNS[level]} {feed.state}", level),
                (duration(feed.received_age_s), "warn" if old and level == "good" else ""),
                delay(feed),
                clock(feed.last_trade),
                number(feed.stored, 0),
                (number(feed.open_gaps, 0), "warn" if feed.open_gaps else ""),
                (number(feed.missing, 0), "warn" if feed.missing else ""),
                duration(feed.heartbeat_age_s),
                feed.detail or NONE,
            )
        )
    heads = (
        "venue",
        "symbol",
        "state",
        "data age",
        "exchange → here",
        "last trade, UTC",
        "trades stored",
        "open gaps",
        "trades missing",
        "heartbeat",
        "why",
    )
    return table_html("Feeds", heads, cells, (3, 4, 5, 6, 7, 8, 9))


def delay(feed: FeedStatus) -> str:
    """From the newest trade's time on the exchange to its receipt; its clock may run ahead."""
    if feed.trade_age_s is None or feed.received_age_s is None:
        return NONE
    return f"{number((feed.trade_age_s - feed.received_age_s) * 1000, 0)} ms"


def database_html(figures: StoreFigures) -> str:
    """What the store holds."""
    rows = [
        ("Server", figures.server),
        ("Size", f"{number(figures.size_bytes / 2**20, 1)} MiB"),
        ("Trades stored", number(figures.trades, 0)),
        ("Trades in the last minute", number(figures.last_minute, 0)),
        ("Oldest trade", NONE if figures.oldest is None else f"{figures.oldest:%Y-%m-%d %H:%M:%S}"),
        (
            "Gaps: open · filled · void · unrecoverable",
            " · ".join(
                number(figures.gaps.get(state, 0), 0)
                for state in ("open", "filled", "void", "unrecoverable")
            ),
        ),
        ("Frames in quarantine", number(figures.quarantined, 0)),
    ]
    return table_html("Database", ("what", "value"), rows, (1,))


def versions() -> list[tuple[str, str]]:
    """Of what the figures depend on."""
    ours = [("pairs workstation", __version__), ("python", platform.python_version())]
    return [*ours, *((name, version(name)) for name in PACKAGES)]
