"""What a browser does beside the toast: a notification, a sound, the alert in the tab's title.

Each by the choice of whoever sits there, kept in that browser and shared by its tabs; permission
is asked for at the click that wants it, never before. A notification shows text alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import streamlit as st

from pairs.alerts.live import AlertsSnapshot
from pairs.alerts.words import short_text

FRESH = timedelta(seconds=30)  # what has fired longer ago is not new to any tab
MOST = 5

_SHARED = """
const KEY = 'pairs-tell';
function choices() {
  try { return JSON.parse(localStorage.getItem(KEY)) || {}; } catch { return {}; }
}
"""

_TELL = (
    _SHARED
    + """
function first(id) {  // of all tabs of this browser
  const known = Number(localStorage.getItem('pairs-sounded') || 0);
  if (known >= id) return false;
  localStorage.setItem('pairs-sounded', String(id));
  return true;
}

function sound(state) {
  const audio = state.audio = state.audio || new AudioContext();
  audio.resume();
  [[880, 0], [1175, 0.16]].forEach(([frequency, after]) => {
    const tone = audio.createOscillator(), volume = audio.createGain();
    tone.frequency.value = frequency;
    volume.gain.setValueAtTime(0.2, audio.currentTime + after);
    volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + after + 0.15);
    tone.connect(volume).connect(audio.destination);
    tone.start(audio.currentTime + after);
    tone.stop(audio.currentTime + after + 0.15);
  });
  state.sounds += 1;
}

function notification(event) {
  if (!('Notification' in window) || Notification.permission !== 'granted') return;
  const shown = new Notification(event.title, { body: event.body, tag: 'pairs-' + event.id });
  shown.onclick = () => { window.focus(); shown.close(); };
}

function title(state) {
  if (document.title !== state.mine) state.base = document.title;
  const wanted = choices().title && state.title ? state.title : state.base;
  state.mine = wanted;
  if (document.title !== wanted) document.title = wanted;
}

export default function (component) {
  const { data } = component;
  const state = window.pairsTell = window.pairsTell
    || { last: data.newest, base: document.title, mine: null, sounds: 0 };
  const fresh = data.events.filter((event) => event.id > state.last);
  state.last = Math.max(state.last, data.newest);
  state.title = data.title;
  const wanted = choices();
  if (fresh.length && wanted.notification) fresh.forEach(notification);
  if (fresh.length && wanted.sound && first(state.last)) sound(state);
  title(state);
  if (!state.observer) {  // the page sets its title again at every run
    state.observer = new MutationObserver(() => title(state));
    state.observer.observe(document.head, { childList: true, subtree: true, characterData: true });
    window.addEventListener('storage', () => title(state));
    window.addEventListener('pairs-choice', () => title(state));
  }
}
"""
)

_CHOICE_HTML = """
<div class="pw-tell" role="group" aria-label="Tell me also by">
  <span>Tell me in this browser also by</span>
  <label><input type="checkbox" data-how="notification"> notification</label>
  <label><input type="checkbox" data-how="sound"> sound</label>
  <label><input type="checkbox" data-how="title"> the tab's title</label>
  <span class="pw-tell-why" role="status"></span>
</div>
"""

_CHOICE = (
    _SHARED
    + """
function keep(how, on) {
  localStorage.setItem(KEY, JSON.stringify({ ...choices(), [how]: on }));
  window.dispatchEvent(new Event('pairs-choice'));
}

async function allowed() {
  if (!('Notification' in window) || !window.isSecureContext) {
    return 'This browser shows notifications over https or on this machine only.';
  }
  const answer = Notification.permission === 'default'
    ? await Notification.requestPermission() : Notification.permission;
  return answer === 'granted' ? ''
    : 'The browser does not allow notifications of this page: see beside its address.';
}

export default function (component) {
  const root = component.parentElement;
  const why = root.querySelector('.pw-tell-why');
  root.querySelectorAll('input').forEach((box) => {
    const how = box.dataset.how;
    const may = how !== 'notification'
      || ('Notification' in window && Notification.permission === 'granted');
    box.checked = Boolean(choices()[how]) && may;
    if (box.pairsReady) return;
    box.pairsReady = true;
    box.addEventListener('change', async () => {
      why.textContent = '';
      if (how === 'notification' && box.checked) {
        why.textContent = await allowed();
        box.checked = why.textContent === '';
      }
      keep(how, box.checked);
    });
  });
}
"""
)

_tell = st.components.v2.component("pairs_tell", js=_TELL, isolate_styles=False)
_choice = st.components.v2.component(
    "pairs_tell_choice", html=_CHOICE_HTML, js=_CHOICE, isolate_styles=False
)


def tell_browser(alerts: AlertsSnapshot) -> None:
    """Hand the browser what has just fired; what it makes of it is its user's choice."""
    _tell(key="tell", data=told(alerts))


def told(alerts: AlertsSnapshot) -> dict[str, Any]:
    """What has just fired, and what the tab's title may say: the newest event not acknowledged."""
    newest = max((event.fired for event in alerts.events), default=None)
    fresh = [event for event in alerts.events[:MOST] if newest and newest - event.fired < FRESH]
    return {
        "newest": alerts.newest_id,
        "events": [
            {"id": event.event_id, "title": event.title, "body": event.body.partition("\n")[0]}
            for event in fresh
        ],
        "title": title_text(alerts),
    }


def title_text(alerts: AlertsSnapshot) -> str:
    """`▲ z 2.31 ETH/BTC (+3)`; empty where everything is acknowledged."""
    waiting = alerts.pulse.unacknowledged if alerts.pulse else 0
    for event in alerts.events:
        if event.acknowledged is None and event.rule is not None and waiting:
            more = f" (+{waiting - 1})" if waiting > 1 else ""
            return short_text(event.rule, event.edge, event.value) + more
    return ""


def browser_choice() -> None:
    """The choice itself, drawn by the browser, which alone knows it."""
    _choice(key="tell-choice", data={})
