"""The last thing done to a rule, and the button that takes it back, for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from pairs.alerts.editing import restore_rule
from pairs.alerts.live import LiveAlerts
from pairs.alerts.rules import AlertRule
from pairs.alerts.store import StoredRule, create_rule, delete_rule
from pairs.figures.plain import plain
from pairs.storage.postgres import PostgresStore

UNDO_S = 12.0
_KEY = "alert_undo"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, in words; `undo` takes it back, None where nothing does."""

    text: str
    undo: Callable[[], object] | None
    until: float


@st.cache_resource(show_spinner=False)
def live_alerts(_store: PostgresStore) -> LiveAlerts:
    """The alerts of a store, one for all sessions."""
    return LiveAlerts(_store)


def tell(text: str, undo: Callable[[], object] | None = None) -> None:
    """Say in this tab what was done, for some seconds."""
    st.session_state[_KEY] = Done(text, undo, time.monotonic() + UNDO_S)


def add_rule(store: PostgresStore, rule: AlertRule) -> int:
    """Make a rule; it can be taken back."""
    rule_id = create_rule(store, rule)
    live_alerts(store).forget()
    tell(f"Added: {rule.full_text()}", lambda: delete_rule(store, rule_id))
    return rule_id


def remove_rule(store: PostgresStore, stored: StoredRule) -> None:
    """Delete a rule; it can be brought back as it stood."""
    delete_rule(store, stored.rule_id)
    live_alerts(store).forget()
    name = stored.rule.name if stored.rule else f"rule {stored.rule_id}"
    undo = (lambda: restore_rule(store, stored)) if stored.rule else None
    tell(f"Deleted: {name}", undo)


def undo_line(store: PostgresStore) -> None:
    """The line with the button, while there is something to take back."""
    done: Done | None = st.session_state.get(_KEY)
    if done is None:
        return
    if time.monotonic() > done.until:
        del st.session_state[_KEY]
        return
    with st.container(
        key="undo-line", horizontal=True, vertical_alignment="center", border=True, gap="small"
    ):
        st.markdown(plain(done.text), width="stretch")
        if done.undo is not None:
            st.button("Undo", key="undo", on_click=_undo, args=(store, done.undo))


def _undo(store: PostgresStore, undo: Callable[[], object]) -> None:
    undo()
    live_alerts(store).forget()
    st.session_state.pop(_KEY, None)
