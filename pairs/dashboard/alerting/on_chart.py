"""Alerts on the pair's chart: what has fired, what a rule would have fired, and a rule by a click.

Laid over the chart by the browser, from the axes as they are drawn: the figure itself is sent no
more often for it, and zoom and pan move the marks along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from pairs.alerts.preview import Preview
from pairs.alerts.rules import AlertRule
from pairs.alerts.store import StoredEvent
from pairs.analytics.pair import PairView
from pairs.dashboard.alerting.form import PICKED, fill_form, same_market
from pairs.dashboard.alerting.history import events_of, recent_html
from pairs.dashboard.alerting.previewing import preview_of, preview_text, times_text
from pairs.dashboard.alerting.undo import add_rule, live_alerts, undo_line
from pairs.dashboard.context import Choice, Page
from pairs.figures.plain import plain
from pairs.figures.theme import stretch

MARKS = 200  # drawn at most of either kind
COOL_DOWN_S = 60.0

_JS = """
const NS = 'http://www.w3.org/2000/svg';

function axes(node) {
  const full = node._fullLayout;
  if (!full || !full.xaxis || !full.xaxis._length) return null;
  const named = Object.keys(full).filter((key) => /^yaxis/.test(key))
    .find((key) => ((full[key].title || {}).text || '').startsWith('z-score'));
  const y = full[named || 'yaxis3'];
  return y && y._length ? { x: full.xaxis, y } : null;
}

function shape(kind, attributes, parent, text) {
  const made = document.createElementNS(NS, kind);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  if (text) {
    const title = document.createElementNS(NS, 'title');
    title.textContent = text;
    made.append(title);
  }
  parent.append(made);
  return made;
}

function triangle(x, y, up) {
  const d = up ? 1 : -1;
  return `${x},${y - 6 * d} ${x - 5.5},${y + 4 * d} ${x + 5.5},${y + 4 * d}`;
}

function draw(state) {
  const { node, data } = state;
  const at = node && node.isConnected ? axes(node) : null;
  if (!at) return;
  if (!state.layer || !state.layer.isConnected) {
    state.layer = document.createElementNS(NS, 'svg');
    state.layer.setAttribute('class', 'pairs-alerts');
    node.append(state.layer);
  }
  const layer = state.layer, { x, y } = at;
  layer.replaceChildren();
  const place = (ms, value) => {
    const px = x.l2p(ms), py = y.l2p(value);
    return px >= 0 && px <= x._length && py >= -2 && py <= y._length + 2
      ? [px + x._offset, py + y._offset] : null;
  };
  for (const level of [...data.levels, ...(data.picked === null ? [] : [data.picked])]) {
    const py = y.l2p(level) + y._offset;
    if (py < y._offset || py > y._offset + y._length) continue;
    if (level === data.picked) {
      shape('line', { x1: x._offset, x2: x._offset + x._length, y1: py, y2: py,
        class: 'pairs-picked' }, layer);
      continue;
    }
    const handle = shape('g', { class: 'pairs-handle', tabindex: 0, role: 'button',
      'data-level': level, 'aria-label': 'Alert at z ' + level }, layer,
      'Alert at z ' + level + ': one click');
    const px = x._offset + x._length - 9;
    shape('circle', { cx: px, cy: py, r: 7 }, handle);
    shape('path', { d: `M${px - 3.5} ${py}h7M${px} ${py - 3.5}v7` }, handle);
    const make = () => state.send('make', { level, at: Date.now() });
    handle.onclick = make;
    handle.onkeydown = (key) => { if (key.key === 'Enter' || key.key === ' ') make(); };
  }
  for (const [kind, marks] of [['would', data.would], ['fired', data.fired]]) {
    for (const [ms, value, up, text] of marks) {
      const spot = place(ms, value);
      if (spot) shape('polygon', { points: triangle(...spot, up), class: 'pairs-' + kind,
        'data-mark': kind }, layer, text);
    }
  }
}

function listen(state) {
  const { node } = state;
  let down = null, timer = null;
  node.addEventListener('pointerdown', (event) => {
    clearTimeout(timer);
    if (event.pointerType !== 'mouse' || event.button !== 0) return;
    if (event.target.closest && event.target.closest('.pairs-handle')) return;
    down = down && Date.now() - down.when < 350 ? null  // a double-click: it resets the zoom
      : { x: event.clientX, y: event.clientY, when: Date.now() };
  }, true);
  window.addEventListener('pointerup', (event) => {
    if (!down || !node.isConnected || event.button !== 0) return;
    const still = Math.hypot(event.clientX - down.x, event.clientY - down.y) < 4;
    if (!still || Date.now() - down.when > 500) return;
    const at = axes(node);
    const box = node.getBoundingClientRect();
    if (!at) return;
    const px = event.clientX - box.left - at.x._offset, py = event.clientY - box.top - at.y._offset;
    if (px < 0 || px > at.x._length || py < 0 || py > at.y._length) return;
    const level = Math.round(at.y.p2l(py) * 100) / 100;
    timer = setTimeout(() => state.send('pick', { level, at: Date.now() }), 380);
  }, true);
}

export default function (component) {
  const { data, setTriggerValue } = component;
  const node = document.querySelector(`.pairs-chart[data-name="${data.name}"]`);
  const state = window.pairsAlerts = window.pairsAlerts || {};
  state.data = data;
  state.send = setTriggerValue;
  if (node !== state.node) {
    state.node = node;
    if (node) listen(state);
  }
  if (node && node.on && !node.pairsAlertsHeard) {
    node.pairsAlertsHeard = true;
    node.on('plotly_afterplot', () => draw(window.pairsAlerts));
    node.on('plotly_relayouting', () => draw(window.pairsAlerts));
  }
  draw(state);
  if (!state.timer) {  // the chart may be drawn later than this, or anew
    state.timer = setInterval(() => {
      const now = document.querySelector(`.pairs-chart[data-name="${state.data.name}"]`);
      if (now && (now !== state.node || !state.layer || !state.layer.isConnected)) {
        if (now !== state.node) { state.node = now; listen(state); }
        draw(state);
      }
    }, 500);
  }
}
"""

_CSS = """
.pairs-chart { position: relative; }
.pairs-alerts { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; overflow: hidden; }
.pairs-alerts polygon { pointer-events: auto; stroke-width: 1.6; }
.pairs-fired { fill: #F5A524; stroke: #14171c; }
.pairs-would { fill: none; stroke: light-dark(#9A5B00, #F5A524); }
.pairs-picked { stroke: light-dark(#9A5B00, #F5A524); stroke-width: 1.4; stroke-dasharray: 6 4; }
.pairs-handle { pointer-events: auto; cursor: pointer; opacity: .55; }
.pairs-handle:hover, .pairs-handle:focus { opacity: 1; outline: none; }
.pairs-handle circle { fill: light-dark(#FFFFFF, #0E1117); stroke: light-dark(#9A5B00, #F5A524); }
.pairs-handle:focus-visible circle { stroke-width: 2.5; }
.pairs-handle path { stroke: light-dark(#9A5B00, #F5A524); stroke-width: 1.5; fill: none; }
"""  # noqa: E501

_marks = st.components.v2.component("pairs_alert_marks", css=_CSS, js=_JS, isolate_styles=False)


def rule_at(choice: Choice, level: float) -> AlertRule:
    """The rule that a level of the z chart stands for: beyond it, away from 0."""
    made = AlertRule(
        "unnamed",
        choice.y,
        choice.x,
        "zscore",
        "above" if level >= 0 else "below",
        level,
        bar=choice.bar,
        spec=choice.spec,
        cool_down_s=COOL_DOWN_S,
    )
    return replace(made, name=made.default_name())


def picked_rule(choice: Choice) -> AlertRule | None:
    """The rule that is being looked at on the chart, where it is one of the pair shown."""
    rule: AlertRule | None = st.session_state.get(PICKED)
    return rule if rule is not None and same_market(rule, choice) else None


def picked_line(page: Page) -> None:
    """Above the chart: the rule that was picked, what it would have fired, and one click for it."""
    undo_line(page.store)
    rule = picked_rule(page.choice)
    if rule is None:
        return
    with st.container(
        key="picked-line", horizontal=True, vertical_alignment="center", border=True, gap="small"
    ):
        said = preview_text(preview_of(page, rule))
        st.markdown(f"{plain(rule.condition_text())}: {plain(said)}", width="stretch")
        st.button("Add rule", key="picked_add", type="primary", on_click=_add, args=(page, rule))
        if st.button("More …", key="picked_more", on_click=_more, args=(rule,)):
            st.rerun()  # of the whole page: another view
        st.button("✕", key="picked_close", help="Forget it", on_click=_forget)


def _add(page: Page, rule: AlertRule) -> None:
    add_rule(page.store, rule)
    _forget()


def _more(rule: AlertRule) -> None:
    fill_form(rule)
    _forget()
    st.session_state["view"] = "Alerts"


def _forget() -> None:
    st.session_state.pop(PICKED, None)


def marks_on_chart(page: Page, view: PairView, name: str) -> None:
    """Lay the alerts of the pair over the z panel of the chart `name`."""
    choice = page.choice
    rule = picked_rule(choice)
    events = [] if choice.spec.hedge == "ols" else events_of(page, live_alerts(page.store).poll(60))
    answer = _marks(
        key="alert-marks",
        data={
            "name": name,
            "levels": [] if choice.spec.hedge == "ols" else levels_of(choice),
            "picked": rule.threshold if rule and rule.quantity == "zscore" else None,
            "would": would_marks(preview_of(page, rule), view) if rule else [],
            "fired": fired_marks(events, choice, view),
        },
        on_make_change=lambda: None,
        on_pick_change=lambda: None,
    )
    if answer.make is not None:
        add_rule(page.store, rule_at(choice, float(answer.make["level"])))
        st.rerun(scope="fragment")
    elif answer.pick is not None and choice.spec.hedge != "ols":
        st.session_state[PICKED] = rule_at(choice, float(answer.pick["level"]))
        st.rerun(scope="fragment")


def levels_of(choice: Choice) -> list[float]:
    """The thresholds at which a rule is one click."""
    known = [choice.entry_z, choice.stop_z]
    return sorted(sign * level for level in known if level for sign in (1.0, -1.0))


def would_marks(found: Preview, view: PairView) -> list[list[Any]]:
    """Where a rule would have fired, at the z-score of that bar."""
    score, said = view.frame["zscore"], "would have fired, {:%H:%M:%S} UTC"
    return [
        [_ms(event.ts), float(score[event.ts]), event.edge == "up", said.format(event.ts)]
        for event in found.events[-MARKS:]
        if event.ts in score.index and score[event.ts] == score[event.ts]
    ]


def fired_marks(events: Sequence[StoredEvent], choice: Choice, view: PairView) -> list[list[Any]]:
    """Where rules of the pair as it is shown have fired, at the z-score of that bar."""
    score, marks = view.frame["zscore"], []
    for event in events[:MARKS]:
        rule, when = event.rule, pd.Timestamp(event.ts)
        if rule is None or event.test or (rule.y, rule.x, rule.bar) != (*choice.pair, choice.bar):
            continue
        if when in score.index and score[when] == score[when]:
            text = f"{rule.name}, {event.ts:%H:%M:%S} UTC"
            marks.append([_ms(event.ts), float(score[when]), event.edge == "up", text])
    return marks


def _ms(when: Any) -> float:
    return float(pd.Timestamp(when).timestamp() * 1000)


def alerts_column(page: Page) -> None:
    """The alerts of the pair in a narrow column, and the rule at its entry in one click."""
    alerts = live_alerts(page.store).poll(60.0, rules=False)  # the strip polls it
    choice = page.choice
    st.html('<div class="pw"><p class="pw-title">Alerts</p></div>')
    if choice.spec.hedge != "ols":
        rule = replace(rule_at(choice, choice.entry_z), quantity="abs_zscore", condition="above")
        rule = replace(rule, name=rule.default_name())
        found = preview_of(page, rule)
        count, span = times_text(len(found.events)), stretch(found.span_s)
        said = "" if found.begin is None else f"· {count} in {span}"
        st.button(
            f"\\|z\\| above {plain(f'{choice.entry_z:g} {said}')}",
            key="entry_alert",
            icon=":material/add_alert:",
            help="Make this rule; the chart's ⊕ makes one at its line, a click on z another",
            on_click=_add,
            args=(page, rule),
            width="stretch",
        )
    st.html(recent_html(events_of(page, alerts)))
