"""The alerts view: rules and how they stand, what has fired, and where it was delivered; and the
toasts that every open tab shows by itself."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pairs.alerts.editing import send_channel_test
from pairs.alerts.live import AlertsSnapshot
from pairs.alerts.outbox import ChannelState
from pairs.dashboard.alerting.form import rule_form
from pairs.dashboard.alerting.history import history_board
from pairs.dashboard.alerting.notify import browser_choice, tell_browser
from pairs.dashboard.alerting.rows import rules_board
from pairs.dashboard.alerting.undo import live_alerts, tell, undo_line
from pairs.dashboard.context import Page
from pairs.figures.plain import plain
from pairs.figures.tables import Cell, table_html
from pairs.figures.theme import NONE, number

TOASTS = 4  # shown one by one; more at once are told as a number


def draw(page: Page) -> None:
    """The view on the page."""
    left, right = st.columns([2.2, 1], gap="large")  # a phone shows first what is read there
    with left:
        page.live("Alerts", _board)
        browser_choice()
    with right:
        rule_form(page)


def notices(page: Page) -> AlertsSnapshot:
    """Show in this tab what has fired since it last looked; what is known now. Called at every
    refresh, whatever the view."""
    alerts = live_alerts(page.store).poll(page.choice.refresh_s or 1.0)
    if alerts.pulse is None:
        return alerts
    seen = st.session_state.setdefault("alerts_seen", alerts.newest_id)
    fresh = alerts.since(seen)
    for event in fresh[-TOASTS:]:
        st.toast(plain(event.title), icon=":material/notifications_active:", duration="long")
    if len(fresh) > TOASTS:
        st.toast(f"{len(fresh) - TOASTS} further alerts: see Alerts", duration="long")
    st.session_state["alerts_told"] = max(seen, alerts.newest_id)
    if st.session_state.get("page_drawn"):
        st.session_state["alerts_seen"] = st.session_state["alerts_told"]
    tell_browser(alerts)
    return alerts


def page_begins() -> None:
    """A run of the whole page begins. It may be cut short, by a rerun or a click, and what it has
    not sent by then is dropped: until it has ended, its notices do not count as seen."""
    st.session_state["page_drawn"] = False


def page_drawn() -> None:
    """The run has ended."""
    st.session_state["page_drawn"] = True
    if "alerts_told" in st.session_state:
        st.session_state["alerts_seen"] = st.session_state["alerts_told"]


def _board(page: Page) -> None:
    alerts = live_alerts(page.store).poll(page.choice.refresh_s or 1.0, rules=True)
    undo_line(page.store)
    if alerts.error is not None:
        st.error(f"The database does not answer: {plain(alerts.error)}. Trying again.")
    if alerts.unwatched:
        st.warning(
            "Nobody evaluates the rules: start `python watch_alerts.py` (`make run` does). "
            "Bars that close meanwhile are evaluated then."
        )
    rules_board(page, alerts.rules, watched=alerts.watcher_runs)
    history_board(page, alerts)
    _delivery(page, alerts.channels)


def _delivery(page: Page, channels: Sequence[ChannelState]) -> None:
    """Where alerts go beside the page, and a test of each."""
    if not channels:
        st.caption("Delivery: none. Set `ALERT_URLS` to send alerts elsewhere.")
        return
    st.html(channels_html(channels))
    row = st.container(horizontal=True, gap="small")
    for k, channel in enumerate(channels):
        if channel.configured:
            row.button(
                f"Send a test to {plain(channel.channel)}",
                key=f"channel_test_{k}",
                on_click=_test,
                args=(page, channel.channel),
            )


def _test(page: Page, channel: str) -> None:
    send_channel_test(page.store, channel)
    live_alerts(page.store).forget()
    tell(f"A test is on its way to {channel}: the table of channels tells whether it came")


def channels_html(channels: Sequence[ChannelState]) -> str:
    """Where alerts are delivered, and whether that works."""
    rows: list[list[Cell]] = []
    for channel in channels:
        if not channel.configured:
            state: Cell = "no longer configured"
        elif channel.last_error:
            state = (f"✕ {channel.last_error}", "bad")
        else:
            state = ("● works" if channel.last_delivered else "● ready", "good")
        last = channel.last_delivered
        rows.append(
            [
                channel.channel,
                state,
                number(channel.waiting, 0),
                number(channel.given_up, 0),
                NONE if last is None else f"{last:%Y-%m-%d %H:%M:%S}",
            ]
        )
    return table_html(
        "Delivery",
        ("channel", "state", "waiting", "given up", "last delivered, UTC"),
        rows,
        (2, 3, 4),
    )
