"""What rules would have fired, for the page: over the bars it shows, once for all sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import streamlit as st

from pairs.alerts.preview import DAY_S, NOTHING, Preview, preview, silences
from pairs.alerts.rules import AlertRule
from pairs.analytics.pair import PairView, pair_view
from pairs.dashboard.context import Page, bars_of, shared
from pairs.figures.theme import stretch
from pairs.live.bars import Snapshot
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore


def view_of(page: Page, rule: AlertRule) -> tuple[Snapshot, PairView]:
    """The bars of the rule's pair and what is known of it: the page's own, where it shows them."""
    refresh_s = page.choice.refresh_s or 1.0
    snapshot = bars_of(page.store, (rule.y, rule.x), rule.bar, refresh_s)
    view: PairView = shared(
        lambda: pair_view(snapshot.y.closed, snapshot.x.closed, rule.spec),
        ("view", rule.bar, *snapshot.closed_until, rule.spec),
    )
    return snapshot, view


def preview_of(page: Page, rule: AlertRule) -> Preview:
    """What the rule would have fired in the last day, or as far back as bars are at hand."""
    asked = replace(rule.bare(), name="asked", enabled=True)
    if rule.quantity == "staleness":
        return _silent(page.store, asked)
    snapshot, view = view_of(page, asked)
    found: Preview = shared(
        lambda: preview(asked, view), ("preview", asked, *snapshot.closed_until)
    )
    return found


@st.cache_resource(ttl=60, max_entries=32, show_spinner=False)
def _silent(_store: PostgresStore, rule: AlertRule) -> Preview:
    legs = (rule.y, rule.x)
    known = [newest for leg in legs if (newest := _store.reads.newest_bar(*leg, 1)) is not None]
    if not known:
        return NOTHING
    end = max(known) + timedelta(seconds=1)
    start = end - timedelta(seconds=DAY_S)
    closes = _store.reads.closes([(*leg, 1) for leg in legs], 1, start, end)
    times: dict[Instrument, pd.DatetimeIndex] = {
        leg: pd.DatetimeIndex(closes.index[closes.iloc[:, k].notna()]) for k, leg in enumerate(legs)
    }
    return silences(rule, times)


def times_text(count: int) -> str:
    """`once`, `14 times`."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")


def preview_text(found: Preview) -> str:
    """`would have fired 14 times in the last 24 h`."""
    if found.begin is None:
        return "no value yet to look back on"
    if not found.events:
        return f"would not have fired in the last {stretch(found.span_s)}"
    return f"would have fired {times_text(len(found.events))} in the last {stretch(found.span_s)}"
