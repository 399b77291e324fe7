"""What has fired: of the pair shown first, the rest behind *All pairs*; seen one by one or all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import streamlit as st

from pairs.alerts.live import KEEP_EVENTS, AlertsSnapshot
from pairs.alerts.store import StoredEvent, acknowledge, recent_events
from pairs.dashboard.alerting.undo import live_alerts
from pairs.dashboard.context import Page, shared
from pairs.figures.tables import Cell, note_html, table_html
from pairs.figures.theme import clock, significant
from pairs.market import Instrument

SHOWN = 20  # at first
MINE, ALL = "This pair", "All pairs"
FIGURES = {
    "zscore": "z",
    "spread": "spread",
    "correlation": "correlation",
    "beta": "β",
    "close_y": "y",
    "close_x": "x",
    "staleness_y": "y silent s",
    "staleness_x": "x silent s",
}


def events_of(page: Page, alerts: AlertsSnapshot) -> Sequence[StoredEvent]:
    """The newest events of the pair shown, in either order of its legs."""
    legs = set(page.choice.pair)
    if len(alerts.events) < KEEP_EVENTS:  # these are all there are
        return [event for event in alerts.events if is_of(event, legs)]
    found: Sequence[StoredEvent] = shared(
        lambda: recent_events(page.store, KEEP_EVENTS, pair=page.choice.pair),
        ("events", page.choice.pair, alerts.polled_events),
    )
    return found


def is_of(event: StoredEvent, legs: set[Instrument]) -> bool:
    """Whether the event is of a rule of these two legs."""
    return event.rule is not None and {event.rule.y, event.rule.x} == legs


def history_board(page: Page, alerts: AlertsSnapshot) -> None:
    """The newest first, with the values at the time."""
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    row.html('<div class="pw"><p class="pw-title">Fired</p></div>', width="content")
    scope = row.segmented_control(
        "Whose",
        [MINE, ALL],
        default=MINE,
        required=True,
        key="fired_of",
        label_visibility="collapsed",
    )
    waiting = alerts.pulse.unacknowledged if alerts.pulse else 0
    if waiting:
        row.button(
            f"Acknowledge all {waiting:,}",
            key="acknowledge",
            help="Of every pair, also those not listed",
            on_click=_acknowledge_all,
            args=(page, alerts.newest_id),
        )
    mine = events_of(page, alerts)
    events = mine if scope == MINE else alerts.events
    others = waiting - sum(event.acknowledged is None for event in mine)
    if scope == MINE and others > 0:
        st.html(note_html(f"{others:,} more of other pairs are not acknowledged: see {ALL}."))
    if not events:
        st.caption(
            "Nothing has fired yet."
            if not alerts.events or scope == ALL
            else "Nothing of this pair has fired yet."
        )
        return
    most = st.session_state.setdefault("fired_shown", SHOWN)
    for event in events[:most]:
        _row(page, event)
    if len(events) > most:
        st.button("Show older", key="fired_more", on_click=_more)


def _more() -> None:
    st.session_state["fired_shown"] += 60


def _row(page: Page, event: StoredEvent) -> None:
    with st.container(
        key=f"event-row-{event.event_id}",
        horizontal=True,
        vertical_alignment="center",
        wrap=False,
        gap="small",
    ):
        st.html(event_html(event), width="stretch")
        if event.acknowledged is None:
            st.button(
                "✓",
                key=f"seen_{event.event_id}",
                help="Acknowledge this one",
                on_click=_acknowledge,
                args=(page, event.event_id),
            )


def _acknowledge(page: Page, event_id: int) -> None:
    acknowledge(page.store, [event_id])
    live_alerts(page.store).forget()


def _acknowledge_all(page: Page, up_to: int) -> None:
    acknowledge(page.store, up_to=up_to)
    live_alerts(page.store).forget()


def event_html(event: StoredEvent) -> str:
    """One event: name and what happened; when, the values at the time, where it was told."""
    sign = "" if event.acknowledged else "● "
    tone = "" if event.acknowledged else "warn"
    facts = [f"{event.fired:%Y-%m-%d %H:%M:%S} UTC"]
    if not event.test:
        facts.append(f"told after {(event.fired - event.known_at).total_seconds():.1f} s")
    facts += [
        f"{FIGURES.get(name, name)} {significant(figure, 5)}"
        for name, figure in event.figures.items()
        if figure is not None and name not in ("intercept", "beta_std")
    ]
    facts += [
        f"{d.channel} {d.state.replace('_', ' ')}" + (f": {d.last_error}" if d.last_error else "")
        for d in event.deliveries
    ]
    about = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    if event.remark:
        about += f'<span class="warn">{escape(event.remark)}</span>'
    return (
        f'<div class="pw pw-rule" data-testid="event"><div><b><span class="{tone}">{sign}</span>'
        f'{escape(event.title)}</b></div><div class="pw-facts">{about}</div></div>'
    )


def recent_html(events: Sequence[StoredEvent], most: int = 3) -> str:
    """The newest alerts of the pair in a narrow column."""
    if not events:
        return note_html("Nothing of this pair has fired yet.")
    rows: list[tuple[Cell, ...]] = []
    for event in events[:most]:
        name = event.rule.name if event.rule else event.title
        tone = "" if event.acknowledged else "warn"
        value = math.nan if event.value is None else event.value
        rows.append((clock(event.fired), (name, tone), significant(value, 3)))
    return table_html("", ("UTC", "rule", "at"), rows, (2,), label="Alerts of this pair")
