"""The rules, one row each, with what can be done to it; and the rules ready to be made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape

import streamlit as st

from pairs.alerts.editing import send_rule_test, snooze_rule
from pairs.alerts.preview import ready_rules
from pairs.alerts.rules import AlertRule
from pairs.alerts.store import StoredRule, update_rule
from pairs.dashboard.alerting.form import copy_of, fill_form
from pairs.dashboard.alerting.previewing import preview_of, preview_text
from pairs.dashboard.alerting.undo import add_rule, live_alerts, remove_rule, tell
from pairs.dashboard.context import Choice, Page
from pairs.figures.plain import plain
from pairs.figures.theme import NONE, significant

SNOOZES = {"Snooze 15 min": 900.0, "Snooze 1 h": 3600.0, "Snooze 8 h": 28_800.0}
ROWS = 30  # drawn at first


def rules_board(page: Page, stored: Sequence[StoredRule], *, watched: bool) -> None:
    """Every rule with its state; those of the pair shown come first."""
    choice = page.choice
    st.html(f'<div class="pw"><p class="pw-title">Rules{_count(stored)}</p></div>')
    if not any(_about(rule, choice) for rule in stored):
        ready(page, stored)
    first = sorted(stored, key=lambda rule: not _about(rule, choice))
    whole = len(first) <= ROWS or st.session_state.get("rules_all")
    for rule in first if whole else first[:ROWS]:
        _row(page, rule, watched=watched)
    if not whole:
        st.button(f"All {len(first)} rules", key="rules_all_button", on_click=_show_all)


def _show_all() -> None:
    st.session_state["rules_all"] = True


def _count(stored: Sequence[StoredRule]) -> str:
    return f" · {len(stored)}" if stored else ""


def _about(stored: StoredRule, choice: Choice) -> bool:
    rule = stored.rule
    return rule is not None and {rule.y, rule.x} == set(choice.pair)


def _row(page: Page, stored: StoredRule, *, watched: bool) -> None:
    with st.container(
        key=f"rule-row-{stored.rule_id}",
        horizontal=True,
        vertical_alignment="center",
        wrap=False,
        gap="small",
    ):
        st.html(rule_html(stored, datetime.now(UTC), watched=watched), width="stretch")
        picked = st.menu_button(
            "⋯",
            options_of(stored),
            key=f"rule_menu_{stored.rule_id}",
            help="Change, copy, snooze, pause, test or delete",
            type="tertiary",
        )
    if picked:
        act(page, stored, str(picked))
        st.rerun()


def options_of(stored: StoredRule) -> list[str]:
    """What can be done with the rule as it stands."""
    rule = stored.rule
    if rule is None:
        return ["Delete"]
    snooze = ["Wake"] if rule.is_snoozed(datetime.now(UTC)) else list(SNOOZES)
    pause = "Pause" if rule.enabled else "Resume"
    return ["Edit", "Copy", *(snooze if rule.enabled else []), pause, "Send a test", "Delete"]


def act(page: Page, stored: StoredRule, what: str) -> None:
    """Do it."""
    rule, store = stored.rule, page.store
    if what == "Delete":
        remove_rule(store, stored)
    elif rule is None:
        return
    elif what == "Edit":
        fill_form(rule, stored.rule_id)
    elif what == "Copy" and (copy := copy_of(stored)) is not None:
        fill_form(copy)
    elif what in SNOOZES or what == "Wake":
        _snooze(page, stored, rule.name, SNOOZES.get(what, 0.0))
    elif what in ("Pause", "Resume"):
        update_rule(store, stored.rule_id, replace(rule, enabled=what == "Resume"))
    elif what == "Send a test":
        send_rule_test(store, stored)
        tell(f"{rule.name}: a test is on its way, to every tab and channel")
    live_alerts(store).forget()


def _snooze(page: Page, stored: StoredRule, name: str, seconds: float) -> None:
    store, rule_id = page.store, stored.rule_id
    until = snooze_rule(store, rule_id, seconds)
    if until is None:
        tell(f"{name} is gone: somebody deleted it")
    elif seconds:
        tell(f"{name}: silent until {until:%H:%M} UTC", lambda: snooze_rule(store, rule_id, 0.0))
    else:
        tell(f"{name}: awake")


def rule_html(stored: StoredRule, now: datetime, *, watched: bool) -> str:
    """One rule: its name and state; its condition, bar, value and how far it is evaluated."""
    rule = stored.rule
    name = rule.name if rule else f"rule {stored.rule_id}"
    word, tone = state_of(stored, now, watched=watched)
    facts = []
    if rule is not None:
        if rule.name != rule.default_name():
            facts.append(rule.condition_text())
        if rule.quantity != "staleness":
            facts.append(f"bars of {rule.bar}")
        value = math.nan if stored.value is None else stored.value
        last = stored.state.last_ts
        facts.append(f"now {significant(value, 4)}")
        facts.append(NONE if last is None else f"evaluated to {last:%Y-%m-%d %H:%M:%S} UTC")
    about = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    return (
        f'<div class="pw pw-rule" data-testid="rule"><div><b>{escape(name)}</b>'
        f'<span class="{tone}" data-testid="rule-state">{escape(word)}</span></div>'
        f'<div class="pw-facts">{about}</div></div>'
    )


def state_of(stored: StoredRule, now: datetime, *, watched: bool) -> tuple[str, str]:
    """How a rule stands, and the tone of it. Green is only what is being watched."""
    rule = stored.rule
    if rule is None:
        return f"✕ {stored.problem}", "bad"
    if not rule.enabled:
        return "❚❚ paused", "quiet"
    if not watched:
        return "○ not watched", "quiet"
    if stored.problem:
        return f"▲ {stored.problem}", "warn"
    if rule.is_snoozed(now):
        return f"☾ silent until {rule.snoozed_until:%Y-%m-%d %H:%M} UTC", "quiet"
    if any(getattr(stored.state, edge).phase == "fired" for edge in rule.edges):
        return "● fired, waits to come back", "warn"
    return "● watching", "good"


def ready(page: Page, stored: Sequence[StoredRule]) -> None:
    """Rules that the pair may begin with, one click each."""
    none = "No rule yet." if not stored else f"No rule of {page.choice.name} yet."
    st.caption(
        f"{plain(none)} One click makes one of these, the form any other; they are watched with "
        "no page open, too."
    )
    choice = page.choice
    try:
        offered = ready_rules(*choice.pair, choice.bar, choice.spec, choice.entry_z)
    except ValueError as error:
        st.info(f"No rule is ready for these controls: {plain(error)}")
        return
    for k, rule in enumerate(offered):
        with st.container(
            key=f"ready-{k}", horizontal=True, vertical_alignment="center", wrap=False, gap="small"
        ):
            st.html(
                f'<div class="pw pw-rule" data-testid="ready"><div><b>{escape(rule.name)}</b></div>'
                f'<div class="pw-facts"><span>{escape(preview_text(preview_of(page, rule)))}'
                "</span></div></div>",
                width="stretch",
            )
            st.button("Add", key=f"ready_add_{k}", on_click=_add, args=(page, rule))


def _add(page: Page, rule: AlertRule) -> None:
    add_rule(page.store, rule)
