"""The alerts view: rules and how they stand, what has fired, and where it was delivered; and the
toasts that every open tab shows by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import pandas as pd
import streamlit as st

from pairs.alerts.live import AlertsSnapshot, LiveAlerts
from pairs.alerts.outbox import ChannelState
from pairs.alerts.rules import AlertRule, Condition, Quantity
from pairs.alerts.store import (
    StoredEvent,
    StoredRule,
    acknowledge,
    create_rule,
    delete_rule,
    update_rule,
)
from pairs.dashboard.context import Page
from pairs.figures.plain import plain
from pairs.figures.tables import Cell, note_html, table_html
from pairs.figures.theme import NONE, clock, number, significant
from pairs.storage.postgres import PostgresStore

QUANTITIES = {
    "zscore": "z-score",
    "spread": "spread",
    "correlation": "correlation",
    "beta": "hedge ratio β",
    "price_y": "price of y",
    "price_x": "price of x",
    "staleness": "age of the feed, s",
}
CONDITIONS = {
    "above": "above",
    "below": "below",
    "crosses_up": "crosses upwards",
    "crosses_down": "crosses downwards",
    "crosses": "crosses either way",
}
STARTS = {"zscore": 2.0, "correlation": 0.5, "staleness": 10.0}
TOASTS = 4  # shown one by one; more at once are told as a number


@st.cache_resource(show_spinner=False)
def live_alerts(_store: PostgresStore) -> LiveAlerts:
    return LiveAlerts(_store)


def draw(page: Page) -> None:
    """The view on the page."""
    left, right = st.columns([1, 2.2], gap="large")
    with left:
        new_rule(page)
    with right:
        page.live("Alerts", _board)


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


def new_rule(page: Page) -> None:
    """A form for a rule on the chosen pair. Not refreshed by itself: nobody's typing is lost."""
    choice = page.choice
    st.subheader("New rule", anchor=False)
    message = st.session_state.pop("rule_made", None)
    if message:
        st.success(plain(message))
    st.caption(
        f"{plain(choice.name)}, bars of {plain(choice.bar)}, with the hedge ratio and "
        "windows chosen at the left."
    )
    quantity = st.selectbox(
        "Tell me when the",
        list(QUANTITIES),
        key="rule_quantity",
        format_func=lambda name: QUANTITIES[name],
    )
    with st.form("rule", border=False):
        condition = st.selectbox(
            "is or does",
            list(CONDITIONS),
            key="rule_condition",
            format_func=lambda name: CONDITIONS[name],
        )
        threshold = st.number_input(
            "Threshold",
            value=STARTS.get(quantity, 0.0),
            format="%.6g",
            step=0.1,
            key=f"rule_threshold_{quantity}",
        )
        left, right = st.columns(2)
        bars = left.number_input(
            "For closed bars in a row",
            1,
            1000,
            1,
            key="rule_persistence",
            disabled=quantity == "staleness",
        )
        cool = right.number_input("Then silent for, s", 0, 2_592_000, 60, key="rule_cool")
        left, right = st.columns(2, vertical_alignment="bottom")
        back = left.number_input(
            "Armed again after coming back by",
            0.0,
            value=0.0,
            step=0.1,
            format="%.6g",
            key="rule_hysteresis",
        )
        name = right.text_input(
            "Name", placeholder="made of the rule", key="rule_name", max_chars=80
        )
        if not st.form_submit_button("Add rule", type="primary"):
            return
    try:
        rule = AlertRule(
            name.strip() or f"{choice.name} {QUANTITIES[quantity]} {CONDITIONS[condition]}",
            choice.y,
            choice.x,
            cast(Quantity, quantity),
            cast(Condition, condition),
            float(threshold),
            bar=choice.bar,
            spec=choice.spec,
            cool_down_s=float(cool),
            hysteresis=float(back),
            persistence=1 if quantity == "staleness" else int(bars),
        )
    except ValueError as error:
        st.error(f"No rule was added: {plain(error)}")
        return
    create_rule(page.store, rule)
    live_alerts(page.store).forget()
    st.session_state["rule_made"] = f"Added: {rule.condition_text()}"
    st.rerun()


def _board(page: Page) -> None:
    alerts = live_alerts(page.store).poll(page.choice.refresh_s or 1.0, rules=True)
    if alerts.error is not None:
        st.error(f"The database does not answer: {plain(alerts.error)}. Trying again.")
    if alerts.rules and not alerts.watcher_runs:
        st.warning(
            "Nobody evaluates the rules: start `python watch_alerts.py` (`make run` does). "
            "Bars that close meanwhile are evaluated then."
        )
    rules(page, alerts.rules)
    history(page, alerts.events)
    if alerts.channels:
        st.html(channels_html(alerts.channels))
    else:
        st.caption("Delivery: none. Set `ALERT_URLS` to send alerts elsewhere.")


def rules(page: Page, stored: Sequence[StoredRule]) -> None:
    """The rules, how they stand, and what can be done with them."""
    if not stored:
        st.html('<div class="pw"><p class="pw-title">Rules</p></div>')
        st.info("No rule yet. Add one at the left: it is watched with no page open, too.")
        return
    st.html(rules_html(stored))
    names = {
        rule.rule_id: rule.rule.name if rule.rule else f"rule {rule.rule_id}" for rule in stored
    }
    row = st.container(horizontal=True, vertical_alignment="bottom")
    chosen = row.selectbox(
        "Rule",
        list(names),
        format_func=lambda k: f"{k} · {names[k]}",
        key="rule_chosen",
        label_visibility="collapsed",
    )
    rule = next((r for r in stored if r.rule_id == chosen), stored[0])
    on = rule.rule is not None and rule.rule.enabled
    row.button(
        "Pause" if on else "Resume",
        key="rule_toggle",
        disabled=rule.rule is None,
        on_click=_set_enabled,
        args=(page, rule, not on),
    )
    row.button("Delete", key="rule_delete", on_click=_delete, args=(page, rule))


def _delete(page: Page, stored: StoredRule) -> None:
    delete_rule(page.store, stored.rule_id)
    live_alerts(page.store).forget()


def _set_enabled(page: Page, stored: StoredRule, enabled: bool) -> None:
    rule = stored.rule
    if rule is None:
        return
    fields = {name: getattr(rule, name) for name in rule.__slots__}
    update_rule(page.store, stored.rule_id, AlertRule(**{**fields, "enabled": enabled}))
    live_alerts(page.store).forget()


def rules_html(stored: Sequence[StoredRule]) -> str:
    """One line per rule."""
    heads = ("", "name", "rule", "bar", "state", "value", "last bar evaluated, UTC")
    return table_html("Rules", heads, [_rule_cells(rule) for rule in stored], (0, 5))


def _rule_cells(stored: StoredRule) -> list[Cell]:
    rule = stored.rule
    if rule is None:
        return [str(stored.rule_id), NONE, NONE, NONE, (f"✕ {stored.problem}", "bad"), NONE, NONE]
    if not rule.enabled:
        state: Cell = "paused"
    elif stored.problem:
        state = (f"▲ {stored.problem}", "warn")
    elif any(getattr(stored.state, edge).phase == "fired" for edge in rule.edges):
        state = ("● fired, waits to come back", "warn")
    else:
        state = ("● watching", "good")
    value = math.nan if stored.value is None else stored.value
    last = stored.state.last_ts
    bar = NONE if rule.quantity == "staleness" else rule.bar
    when = NONE if last is None else f"{last:%Y-%m-%d %H:%M:%S}"
    return [
        str(stored.rule_id),
        rule.name,
        rule.condition_text(),
        bar,
        state,
        significant(value, 4),
        when,
    ]


def history(page: Page, events: Sequence[StoredEvent]) -> None:
    """What has fired, newest first, with the values at the time."""
    row = st.container(horizontal=True, vertical_alignment="center")
    row.html('<div class="pw"><p class="pw-title">Fired</p></div>')
    waiting = [event.event_id for event in events if event.acknowledged is None]
    if waiting:
        row.button(
            f"Acknowledge {len(waiting)}",
            key="acknowledge",
            on_click=_acknowledge,
            args=(page, waiting),
        )
    if not events:
        st.info("Nothing has fired yet.")
        return
    st.dataframe(
        events_frame(events),
        width="stretch",
        hide_index=True,
        column_config={
            "fired": st.column_config.DatetimeColumn("fired, UTC", format="YYYY-MM-DD HH:mm:ss"),
            "value": st.column_config.NumberColumn(format="%.6g"),
            "told after": st.column_config.NumberColumn("told after, s", format="%.1f"),
        },
    )


def _acknowledge(page: Page, events: Sequence[int]) -> None:
    acknowledge(page.store, events)
    live_alerts(page.store).forget()


def events_frame(events: Sequence[StoredEvent]) -> pd.DataFrame:
    """One row per event: when, what, the values at the time, deliveries."""
    return pd.DataFrame(
        {
            "": ["" if event.acknowledged else "●" for event in events],
            "fired": pd.to_datetime([event.fired for event in events], utc=True),
            "what": [event.title for event in events],
            "value": [event.value for event in events],
            "at the time": [
                ", ".join(
                    f"{name} {significant(figure, 5)}"
                    for name, figure in event.figures.items()
                    if figure is not None
                )
                for event in events
            ],
            "told after": [(event.fired - event.known_at).total_seconds() for event in events],
            "remark": [event.remark or "" for event in events],
            "delivery": [
                ", ".join(f"{d.channel} {d.state}" for d in event.deliveries) or NONE
                for event in events
            ],
        }
    )


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


def recent_html(events: Sequence[StoredEvent], most: int = 3) -> str:
    """The newest alerts in a narrow column."""
    if not events:
        return table_html("Alerts", (), (), ()) + note_html("Nothing has fired yet.")
    rows: list[tuple[Cell, ...]] = []
    for event in events[:most]:
        what = event.rule.condition_text() if event.rule else event.title
        tone = "" if event.acknowledged else "warn"
        rows.append(
            (clock(event.fired), (what.split(" ", 1)[-1], tone), significant(event.value, 3))
        )
    return table_html("Alerts", ("UTC", "rule", "at"), rows, (2,))
