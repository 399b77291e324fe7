"""The clock in the browser: it says what the server cannot when it hangs, is killed or is cut off.

A beat comes with each strip of numbers, or by itself where that comes seldom or is paused. A script
in the page counts from the last one, by the browser's own clock: it greys the page when none has
come, lets ages and the time of day go on while no strip comes, writes into the charts since when
there are no data, and tells a screen reader what has changed.
"""

from __future__ import annotations

import time

import streamlit as st

MISSED = 3  # beats
BEAT_S = 1.5  # at least so often: silence is told within MISSED of them
LEAST_MS = 2500  # a slow machine is no outage, however fast the refresh

JS = """
const MISSED = MISSED_BEATS, LEAST_MS = AT_LEAST, TICKING_MS = 1500;

function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.floor(seconds), minutes = Math.floor(whole / 60);
  if (whole < 3600) return `${minutes} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(whole / 86400)} d`;
}

function words(silent_ms, at) {
  const seconds = Math.floor(silent_ms / 1000);
  return `Nothing has come from this page's server for ${seconds} s: what is shown is of `
    + `${at.toISOString().slice(11, 19)} UTC. Waiting for it.`;
}

// What the strip says of time goes on while no new strip comes.
function tick() {
  const now = performance.now();
  for (const node of document.querySelectorAll('[data-age], [data-clock]')) {
    const said = node.dataset.age ?? node.dataset.clock;
    if (node.pairsSaid !== said) Object.assign(node, { pairsSaid: said, pairsSeen: now });
    const passed = now - node.pairsSeen;
    if (passed < TICKING_MS) continue;
    const text = node.dataset.age !== undefined
      ? `data ${duration(Number(said) + passed / 1000)} old`
      : `${new Date(Number(said) + passed).toISOString().slice(11, 19)} UTC`;
    if (node.textContent !== text) node.textContent = text;
  }
}

function region(watch, name, role) {
  if (!watch[name]) {
    watch[name] = document.createElement('div');
    watch[name].className = `pw-${name}`;
    watch[name].setAttribute('role', role);
    watch[name].dataset.testid = name;
    document.body.append(watch[name]);
  }
  return watch[name];
}

function look() {
  const watch = window.pairsWatch, root = document.documentElement;
  tick();
  const strip = document.querySelector('[data-testid=facts]');  // no strip, nothing to watch over
  const silent_ms = performance.now() - watch.last;
  const lost = Boolean(strip) && silent_ms > Math.max(MISSED * watch.every_ms, LEAST_MS);
  root.classList.toggle('pw-lost', lost);
  if (lost) {
    const said = words(silent_ms, watch.at), banner = region(watch, 'lost', 'alert');
    if (banner.textContent !== said) banner.textContent = said;
  } else if (watch.lost) {
    watch.lost.remove();
    watch.lost = null;
  }
  const dead = document.querySelector('[data-dead]')?.dataset.dead
    || (lost ? `no answer since ${watch.at.toISOString().slice(11, 19)} UTC` : '');
  if (watch.dead !== dead) {
    watch.dead = dead;
    root.classList.toggle('pw-dead', Boolean(dead));
    root.style.setProperty('--pw-dead', JSON.stringify(dead));
  }
  const state = strip?.dataset.said;
  if (state && watch.state !== state) {
    const known = watch.state !== undefined, said = region(watch, 'said', 'status');
    watch.state = state;
    if (known) said.textContent = state;
  }
}

export default function (component) {
  const { data } = component;
  const watch = window.pairsWatch = window.pairsWatch || { lost: null, beat: '' };
  if (watch.beat !== data.beat) {
    Object.assign(watch, { beat: data.beat, last: performance.now(), at: new Date() });
  }
  watch.every_ms = data.every_ms;
  if (!watch.timer) watch.timer = setInterval(look, 250);
  look();
}
""".replace("MISSED_BEATS", str(MISSED)).replace("AT_LEAST", str(LEAST_MS))

CSS = """
<style>
html.pw-lost .stApp { filter: grayscale(1); opacity: .45; }
div.pw-lost { position: fixed; inset: 0 0 auto 0; z-index: 1000000;
  padding: .55rem 1rem; background: #F6465D; color: #14171c; font: 600 .95rem/1.3 sans-serif;
  text-align: center; }
html.pw-lost [data-testid=feed] { font-size: 0; border-color: var(--pw-bad); }
html.pw-lost [data-testid=feed]::after { content: "✕ no answer"; font-size: .82rem;
  color: var(--pw-bad); }
div.pw-said { position: fixed; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
html.pw-dead .pw-cards, html.pw-dead .pairs-chart > * { filter: grayscale(1); opacity: .45; }
html.pw-dead .pairs-chart { position: relative; }
html.pw-dead .pairs-chart::after { content: var(--pw-dead); position: absolute; top: 2.4rem;
  left: 1rem; padding: .15rem .7rem; border-radius: 999px; background: #F6465D; color: #14171c;
  font: 600 .85rem/1.4 sans-serif; pointer-events: none; z-index: 5; }
</style>
"""

_watch = st.components.v2.component("pairs_watch", js=JS, isolate_styles=False)


def beat(every_s: float) -> None:
    """Tell the browser that the server lives; `every_s` until the next time."""
    _watch(key="watch", data={"beat": str(time.monotonic_ns()), "every_ms": round(1000 * every_s)})


def heart(refresh_s: float | None) -> None:
    """Beat every BEAT_S where the strip of numbers comes more seldom, or is paused: None."""
    if refresh_s is None or refresh_s > BEAT_S:
        st.fragment(beat, run_every=BEAT_S)(BEAT_S)
