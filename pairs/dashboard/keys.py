"""The keyboard: a key a view, and the controls used most. `?` shows them."""

from __future__ import annotations

import streamlit as st

KEYS = (
    ("1 … 9", "the views, from left to right"),
    ("/", "the pair: type a symbol"),
    ("s", "the pair the other way round"),
    ("space", "live: on, off"),
    ("?", "this list; Esc closes it"),
)

# A key typed into a field is the field's. What the keys do is what a click does.
JS = """
const typing = (node) => node && (node.isContentEditable
  || /^(INPUT|TEXTAREA|SELECT|IFRAME)$/.test(node.tagName) || node.closest('[role=listbox]'));
const click = (selector) => {
  const node = document.querySelector(selector);
  if (node) node.click();
  return Boolean(node);
};

function help(keys) {
  const shown = document.querySelector('.pw-keys');
  if (shown) { shown.remove(); return; }
  const box = document.createElement('div');
  box.className = 'pw-keys';
  box.setAttribute('role', 'dialog');
  box.setAttribute('aria-label', 'Keys');
  for (const [key, does] of keys) {
    const [left, right] = [document.createElement('kbd'), document.createElement('span')];
    left.textContent = key;
    right.textContent = does;
    box.append(left, right);
  }
  box.addEventListener('click', () => box.remove());
  (document.querySelector('.stApp') || document.body).append(box);
}

function pressed(event) {
  const { keys } = window.pairsKeys;
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const onControl = event.target.closest?.('button, a, label, [role=radio], [role=switch]');
  let done = true;
  if (/^[1-9]$/.test(event.key)) {
    const view = document.querySelectorAll('.st-key-view [role=radio]')[Number(event.key) - 1];
    if (view) view.click(); else done = false;
  } else if (event.key === '/') {
    const field = document.querySelector('.st-key-y input');
    if (field) { field.focus(); field.click(); } else done = false;
  } else if (event.key === 's') done = click('.st-key-swap button');
  else if (event.key === ' ' && !onControl) done = click('.st-key-live label');
  else if (event.key === '?') help(keys);
  else if (event.key === 'Escape') document.querySelector('.pw-keys')?.remove();
  else done = false;
  if (done) event.preventDefault();
}

export default function (component) {
  const first = !window.pairsKeys;
  window.pairsKeys = component.data;
  if (first) document.addEventListener('keydown', (event) => pressed(event));
}
"""

CSS = """
<style>
.pw-keys { position: fixed; right: 1.5rem; bottom: 1.5rem; z-index: 999990; display: grid;
  grid-template-columns: max-content 1fr; gap: .45rem 1rem; padding: 1rem 1.25rem;
  border: 1px solid var(--pw-line); border-radius: 8px; font-size: .9rem;
  background: light-dark(#FFFFFF, #161B22); box-shadow: 0 6px 24px rgba(0, 0, 0, .3); }
.pw-keys kbd { font: inherit; font-weight: 600; }
</style>
"""

_keys = st.components.v2.component("pairs_keys", js=JS, isolate_styles=False)


def listen() -> None:
    """Act on keys from now on."""
    _keys(key="keys", data={"keys": [list(key) for key in KEYS]})
