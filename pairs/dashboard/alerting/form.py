"""The form of a rule: new, changed or copied; what it would have fired while it is typed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import Any, cast

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pairs.alerts.preview import Preview
from pairs.alerts.rules import COLUMN_OF, NAME_LENGTH, AlertRule, Condition, Quantity
from pairs.alerts.store import StoredRule, update_rule
from pairs.analytics.pair import PairView
from pairs.dashboard.alerting.numbers import as_typed, typed_number
from pairs.dashboard.alerting.previewing import preview_of, preview_text, view_of
from pairs.dashboard.alerting.undo import add_rule, live_alerts, tell
from pairs.dashboard.context import Choice, Page, boundary
from pairs.figures.alerts import Mark, preview_figure
from pairs.figures.plain import plain
from pairs.figures.theme import clock
from pairs.messages import one_line

QUANTITIES = {
    "zscore": "z-score",
    "abs_zscore": "|z|, either side",
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
STARTS = {"zscore": 2.0, "abs_zscore": 2.0, "correlation": 0.5, "staleness": 10.0}
_BASE, _PENDING, _CLEAR = "rule_base", "rule_pending", "rule_clear"
PICKED = "rule_picked"  # what the pair view marks on its chart
FIELDS = ("quantity", "condition", "threshold", "persistence", "cool", "hysteresis", "name")


@dataclass(frozen=True, slots=True)
class Base:
    """What the form is filled from: a rule's pair, bar and windows, and the number of the rule
    that is changed; None: a copy, or one taken over from elsewhere."""

    rule: AlertRule
    rule_id: int | None


def fill_form(rule: AlertRule, rule_id: int | None = None) -> None:
    """Let the form show this rule when it is drawn next; `rule_id`: to change that one."""
    st.session_state[_PENDING] = Base(rule, rule_id)


def copy_of(stored: StoredRule) -> AlertRule | None:
    """A copy to be changed: its own name, where it had one, no snooze."""
    rule = stored.rule
    if rule is None or rule.name == rule.default_name():
        return rule.bare() if rule else None
    ending = " (copy)"
    name = rule.name.removesuffix(ending)[: NAME_LENGTH - len(ending)] + ending
    return replace(rule.bare(), name=name, enabled=True)


def rule_form(page: Page) -> None:
    """The form, behind a boundary of its own. Nothing but itself draws it anew: nobody's typing is
    lost."""
    st.fragment(_form)(page)


def _form(page: Page) -> None:
    with boundary("Rule"):
        base = _based()
        st.subheader("Change a rule" if base and base.rule_id else "New rule", anchor=False)
        st.caption(_about(page, base))
        fields = _fields()
        rule, why = _rule(page, base, fields)
        if rule is None:
            st.error(f"No rule yet: {plain(why)}")
        else:
            _told(page, rule)
        _buttons(page, base, rule, why)
        if rule is not None:
            _drawn(page, rule)


def _based() -> Base | None:
    """What the form is filled from; puts it into the fields where that was just asked for."""
    for name in st.session_state.pop(_CLEAR, ()):
        st.session_state.pop(f"rule_{name}", None)
    pending: Base | None = st.session_state.pop(_PENDING, None)
    if pending is None:
        standing: Base | None = st.session_state.get(_BASE)
        return standing
    rule = pending.rule
    st.session_state[_BASE] = pending
    st.session_state["rule_quantity"] = rule.quantity
    st.session_state["rule_condition"] = rule.condition
    st.session_state["rule_threshold"] = as_typed(rule.threshold)
    st.session_state["rule_persistence"] = str(rule.persistence)
    st.session_state["rule_cool"] = as_typed(rule.cool_down_s)
    st.session_state["rule_hysteresis"] = as_typed(rule.hysteresis)
    named = rule.name != rule.default_name()
    st.session_state["rule_name"] = rule.name if named else ""
    return pending


def _about(page: Page, base: Base | None) -> str:
    """Which pair, bars and windows the rule is about."""
    choice = page.choice
    if base is None or same_market(base.rule, choice):
        return (
            f"{plain(choice.name)}, bars of {plain(choice.bar)}, with the hedge ratio and windows "
            "chosen at the left."
        )
    rule = base.rule
    return (
        f"{plain(rule.y.symbol)} / {plain(rule.x.symbol)}, bars of {plain(rule.bar)}, with the "
        "hedge ratio and windows of that rule."
    )


def same_market(rule: AlertRule, choice: Choice) -> bool:
    """Whether the rule is about the pair as it is shown."""
    return (rule.y, rule.x, rule.bar, rule.spec) == (*choice.pair, choice.bar, choice.spec)


def _other_quantity() -> None:
    start = STARTS.get(str(st.session_state["rule_quantity"]), 0.0)
    st.session_state["rule_threshold"] = as_typed(start)
    if st.session_state["rule_quantity"] == "staleness":
        st.session_state["rule_persistence"] = "1"


def _fields() -> dict[str, Any]:
    """The controls, as they were typed."""
    for key, start in (
        ("rule_threshold", as_typed(STARTS["zscore"])),
        ("rule_persistence", "1"),
        ("rule_cool", "60"),
        ("rule_hysteresis", "0"),
    ):
        st.session_state.setdefault(key, start)
    given: dict[str, Any] = {}
    given["quantity"] = st.selectbox(
        "Tell me when the",
        list(QUANTITIES),
        key="rule_quantity",
        format_func=lambda name: QUANTITIES[name],
        on_change=_other_quantity,
    )
    left, right = st.columns(2)
    given["condition"] = left.selectbox(
        "is or does",
        list(CONDITIONS),
        key="rule_condition",
        format_func=lambda name: CONDITIONS[name],
    )
    given["threshold"] = right.text_input("Threshold", key="rule_threshold", live=True)
    left, right = st.columns(2)
    given["persistence"] = left.text_input(
        "For closed bars in a row",
        key="rule_persistence",
        disabled=given["quantity"] == "staleness",
        live=True,
    )
    given["cool_down_s"] = right.text_input("Then silent for, s", key="rule_cool", live=True)
    left, right = st.columns(2)
    given["hysteresis"] = left.text_input(
        "Armed again after coming back by", key="rule_hysteresis", live=True
    )
    given["name"] = right.text_input(
        "Name", placeholder="made of the rule", key="rule_name", max_chars=NAME_LENGTH
    )
    return given


def _rule(page: Page, base: Base | None, given: dict[str, Any]) -> tuple[AlertRule | None, str]:
    """The rule that the fields make, or why they make none."""
    about: dict[str, Any] = {
        "y": page.choice.y,
        "x": page.choice.x,
        "bar": page.choice.bar,
        "spec": page.choice.spec,
    }
    if base is not None:
        rule = base.rule
        about = {"y": rule.y, "x": rule.x, "bar": rule.bar, "spec": rule.spec}
        about |= {"snoozed_from": rule.snoozed_from, "snoozed_until": rule.snoozed_until}
        about["enabled"] = rule.enabled
    try:
        made = AlertRule(
            name="unnamed",
            quantity=cast(Quantity, given["quantity"]),
            condition=cast(Condition, given["condition"]),
            threshold=typed_number("Threshold", str(given["threshold"])),
            persistence=int(
                typed_number("For closed bars in a row", str(given["persistence"]), whole=True)
            ),
            cool_down_s=typed_number("Then silent for, s", str(given["cool_down_s"]), whole=True),
            hysteresis=typed_number("Armed again after", str(given["hysteresis"])),
            **about,
        )
        name = str(given["name"] or "").strip() or made.default_name()
        return replace(made, name=name), ""
    except ValueError as error:
        return None, one_line(error)


def _told(page: Page, rule: AlertRule) -> None:
    """What the rule would have fired, in words."""
    found = preview_of(page, rule)
    last = f", last at {clock(found.events[-1].known_at)} UTC" if found.events else ""
    cut = "; older bars are not at hand" if found.short and found.begin else ""
    said = preview_text(found)
    st.html(
        '<p class="pw pw-preview" data-testid="preview" role="status">'
        f"{escape(said[0].upper() + said[1:] + last + cut)}</p>"
    )


def _drawn(page: Page, rule: AlertRule) -> None:
    """What the rule would have fired, beside what it watches."""
    found = preview_of(page, rule)
    if rule.quantity == "staleness" or found.begin is None:
        return
    snapshot, view = view_of(page, rule)
    page.chart(
        lambda: figure_of(rule, view, found),
        ("preview", rule, *snapshot.closed_until),
        name="Would have fired",
        height="11rem",
    )


def figure_of(rule: AlertRule, view: PairView, found: Preview) -> go.Figure:
    """The rule's value over the time looked at, and where it would have fired."""
    values = view.frame[COLUMN_OF[rule.quantity]]
    if found.begin is not None:
        values = values.loc[values.index >= pd.Timestamp(found.begin)]
    score = rule.quantity in ("zscore", "abs_zscore")
    return preview_figure(
        values.abs() if rule.quantity == "abs_zscore" else values,
        [Mark(pd.Timestamp(e.ts), e.value, e.edge == "up") for e in found.events],
        rule.threshold,
        rule.bar_s,
        score=score,
        uirevision=f"{rule.y}/{rule.x}/{rule.bar}/{rule.quantity}",
    )


def _show(rule: AlertRule) -> None:
    st.session_state[PICKED] = rule
    st.session_state["view"] = "Pair"


def _buttons(page: Page, base: Base | None, rule: AlertRule | None, why: str) -> None:
    changed = base.rule_id if base else None
    row = st.container(horizontal=True)
    if row.button("Save" if changed else "Add rule", type="primary", key="rule_save"):
        if rule is None:
            st.error(f"No rule was {'changed' if changed else 'added'}: {plain(why)}")
            return
        if changed is None:
            add_rule(page.store, rule)
        elif update_rule(page.store, changed, rule):
            tell(f"Saved: {rule.full_text()}")
        else:
            st.error("That rule is gone: somebody deleted it. It can be added as a new one.")
            st.session_state[_BASE] = replace(base, rule_id=None) if base else None
            return
        live_alerts(page.store).forget()
        _empty(("name",) if base is None else FIELDS)
        st.rerun()
    on_z = rule is not None and rule.quantity != "staleness" and same_market(rule, page.choice)
    if on_z and row.button("On the chart", key="rule_show", on_click=_show, args=(rule,)):
        st.rerun()  # of the whole page: another view
    if base is not None and row.button("Cancel", key="rule_cancel"):
        _empty(FIELDS)
        st.rerun()


def _empty(fields: tuple[str, ...]) -> None:
    """Let the form begin anew, with these fields, with the pair that is shown."""
    st.session_state.pop(_BASE, None)
    st.session_state[_CLEAR] = fields
