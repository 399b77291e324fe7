"""What a tab of Chromium holds once its garbage is gone. Used by the tests, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Page


class Heap(NamedTuple):
    """JavaScript objects in megabytes, DOM nodes, event listeners."""

    mb: float
    nodes: float
    listeners: float


def held(page: Page) -> Heap:
    session = page.context.new_cdp_session(page)
    try:
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        found = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    finally:
        session.detach()
    return Heap(found["JSHeapUsedSize"] / 2**20, found["Nodes"], found["JSEventListeners"])
