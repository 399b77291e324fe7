"""Clicks on a chart: the point that was clicked, told to the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

# The chart's node is kept while its figures change; a view that was left and is opened again has
# another one.
JS = """
export default function (component) {
  const { data, setTriggerValue } = component;
  const listen = () => {
    const node = document.querySelector(`.pairs-chart[data-name="${data.name}"]`);
    if (!node || !node.on || node.pairsTells) return;
    node.pairsTells = true;
    node.on('plotly_click', (event) => {
      const point = event.points[0];
      if (point) setTriggerValue('point', [String(point.x), String(point.y)]);
    });
    for (const layer of node.querySelectorAll('.nsewdrag')) layer.style.cursor = 'pointer';
  };
  listen();
  const timer = setInterval(listen, 250);
  return () => clearInterval(timer);
}
"""

_clicks = st.components.v2.component("pairs_clicks", js=JS, isolate_styles=False)


def on_click(name: str, act: Callable[[str, str], None]) -> None:
    """Call `act(x, y)` before the page runs again for a click on a point of the chart `name`."""
    key = f"clicks-{name}"

    def clicked() -> None:
        told: Any = getattr(st.session_state.get(key), "point", None)
        if isinstance(told, list) and len(told) == 2:
            act(str(told[0]), str(told[1]))

    _clicks(key=key, data={"name": name}, on_point_change=clicked)
