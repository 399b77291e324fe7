"""The watch in the browser: greys the page when nothing has come from its server for a while.

The server cannot tell that it hangs, was killed, or is cut off. Each strip of numbers brings a
beat; a script in the page counts from the last one, by the browser's own clock.
"""

from __future__ import annotations

import time

import streamlit as st

MISSED = 3  # refreshes without a beat
LEAST_MS = 2500  # a slow machine is no outage, however fast the refresh

JS = """
const MISSED = MISSED_BEATS, LEAST_MS = AT_LEAST;

function words(silent_ms, at) {
  const seconds = Math.floor(silent_ms / 1000);
  return `Nothing has come from this page's server for ${seconds} s: what is shown is of `
    + `${at.toISOString().slice(11, 19)} UTC. Waiting for it.`;
}

function look() {
  const watch = window.pairsWatch;
  const told = document.querySelector('[data-testid=facts]');  // no strip, nothing to watch over
  const silent_ms = performance.now() - watch.last;
  const lost = Boolean(told) && watch.every_ms > 0
    && silent_ms > Math.max(MISSED * watch.every_ms, LEAST_MS);
  document.documentElement.classList.toggle('pw-lost', lost);
  if (lost) {
    if (!watch.banner) {
      watch.banner = document.createElement('div');
      watch.banner.className = 'pw-lost-banner';
      watch.banner.setAttribute('role', 'alert');
      watch.banner.dataset.testid = 'lost';
      document.body.append(watch.banner);
    }
    const said = words(silent_ms, watch.at);
    if (watch.banner.textContent !== said) watch.banner.textContent = said;
  } else if (watch.banner) {
    watch.banner.remove();
    watch.banner = null;
  }
}

export default function (component) {
  const { data } = component;
  const watch = window.pairsWatch = window.pairsWatch || { banner: null, beat: '' };
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
.pw-lost-banner { position: fixed; inset: 0 0 auto 0; z-index: 1000000; padding: .55rem 1rem;
  background: #F6465D; color: #14171c; font: 600 .95rem/1.3 sans-serif; text-align: center; }
</style>
"""

_watch = st.components.v2.component("pairs_watch", js=JS, isolate_styles=False)


def beat(refresh_s: float | None) -> None:
    """Tell the browser that the server lives; `refresh_s` until the next time, None: never."""
    _watch(
        key="watch",
        data={"beat": str(time.monotonic_ns()), "every_ms": 1000 * (refresh_s or 0.0)},
    )
