"""What a view shows, as a CSV: the button for it stands in the sidebar, whatever the view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pairs.alerts.store import recent_events
from pairs.bars.files import frame_csv
from pairs.dashboard.context import Page
from pairs.dashboard.download import download_button
from pairs.dashboard.following import shown_at
from pairs.dashboard.provenance import file_name
from pairs.dashboard.views import backtest, data, scanner, statistics
from pairs.figures.plain import plain

Export = tuple[str, Callable[[], bytes]]  # what it is, and what makes it at the click
EVENTS = 1000


def view_csv(page: Page, view: str, place: DeltaGenerator) -> None:
    """A button that saves what `view` shows. To be drawn after the view."""
    made = EXPORTS[view](page) if view in EXPORTS else None
    if made is None:
        why = "There is no table in this view, or not yet"
        place.button(
            "This view as CSV", key="view-csv", disabled=True, help=plain(why), width="stretch"
        )
        return
    what, make = made
    download_button(
        "This view as CSV",
        make,
        f"{file_name(page.choice.pair, page.choice.bar, what)}.csv",
        "text/csv",
        key=f"view-csv-{view}",
        place=place,
        width="stretch",
        help=f"{plain(view)}: {plain(what)}, as of the click",
    )


def _bars(page: Page) -> Export:
    """Both legs' closed bars, those of x beside those of y."""

    def make() -> bytes:
        legs = page.snapshot().legs
        named = (leg.closed.add_prefix(f"{side}_") for leg, side in zip(legs, "yx", strict=True))
        return frame_csv(pd.concat(named, axis=1).sort_index()).encode()

    return "bars", make


def _pair(page: Page) -> Export:
    return "pair", lambda: frame_csv(page.now()[1].frame[data.PAIR_COLUMNS]).encode()


def _scan(page: Page) -> Export | None:
    del page
    shown = shown_at("scan")
    if shown is None:
        return None
    return "scan", lambda: scanner.scan_csv(shown().result)


def _backtest(page: Page) -> Export | None:
    del page
    part = str(st.session_state.get("bt_page", "Run"))
    shown = shown_at(f"backtest_{part.lower().replace('-', '_')}")
    if shown is None:
        return None
    return f"backtest_{part.lower()}", lambda: backtest.table_csv(part, shown().result)


def _events(page: Page) -> Export:
    """What has fired, the newest first, without the names that people gave: a spreadsheet takes
    some texts for formulas."""

    def make() -> bytes:
        rows = [
            (event.ts, event.fired, event.rule_id, event.edge, event.value)
            for event in recent_events(page.store, EVENTS)
        ]
        frame = pd.DataFrame(rows, columns=["timestamp", "fired", "rule", "edge", "value"])
        return frame_csv(frame.set_index("timestamp")).encode()

    return "alerts", make


def _feeds(page: Page) -> Export:
    def make() -> bytes:
        feeds = pd.DataFrame(page.store.reads.feeds(page.choice.venue))
        return feeds.to_csv(index=False, lineterminator="\n").encode()

    return "feeds", make


EXPORTS: dict[str, Callable[[Page], Export | None]] = {
    "Market": _bars,
    "Pair": _pair,
    "Statistics": lambda page: ("intervals", partial(statistics.intervals_csv, page)),
    "Scanner": _scan,
    "Backtest": _backtest,
    "Alerts": _events,
    "Data": _pair,
    "System": _feeds,
}
