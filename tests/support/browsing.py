"""A page in a real Chromium, and everything it should not have said or asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.running import System, processes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
TIMEOUT_MS = 60_000
FEED = "document.querySelector('[data-testid=feed]').innerText"


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


class Watched:
    """A page, and everything it should not have said or asked for."""

    def __init__(self, browser: Browser, url: str, drawn: str = "[data-testid=price-y]") -> None:
        self.page = browser.new_page(viewport={"width": 1440, "height": 900})
        self.page.set_default_timeout(TIMEOUT_MS)
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda m: self.complaints.append(m.text) if m.type == "error" else None,
        )
        self.page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "blob:", "data:"))
                else self.complaints.append(f"asked {r.url}")
            ),
        )
        self.page.goto(url)
        self.page.wait_for_selector(drawn)


def text(page: Page, testid: str) -> str:
    return page.locator(f"[data-testid={testid}]").inner_text()


SHOWN = (
    "document.querySelector('.pairs-chart')._fullLayout.xaxis.range.map((end) => +new Date(end))"
)


def shown_range(page: Page) -> list[float]:
    """The stretch of time that the chart shows, in ms."""
    found: list[float] = page.evaluate(SHOWN)
    return found


def middle_of_chart(page: Page) -> tuple[float, float]:
    """A point in the chart's first panel, once the page around it has been laid out."""
    page.wait_for_function("document.querySelector('.pairs-chart')?.pairs?.given")
    before, box = None, page.locator(".pairs-chart .nsewdrag").first.bounding_box()
    while box != before:
        page.wait_for_timeout(500)
        before, box = box, page.locator(".pairs-chart .nsewdrag").first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2


def zoom(page: Page) -> list[float]:
    """Turn the wheel over the chart, as a hand does; the stretch that is shown from then on."""
    page.mouse.move(*middle_of_chart(page))
    for _ in range(4):
        page.mouse.wheel(0, -150)
        page.wait_for_timeout(100)
    page.wait_for_function("document.querySelector('.pairs-chart').pairs.view")
    page.wait_for_timeout(500)  # Plotly takes the wheel as at rest
    return shown_range(page)


def remember_chart(page: Page) -> None:
    """Note the chart's node, and from now on every removal of it."""
    page.evaluate(
        """() => {
            window.removed = 0;
            new MutationObserver((changes) => changes.forEach((change) =>
                change.removedNodes.forEach((node) => {
                    if (node.classList && (node.classList.contains('pairs-chart')
                        || node.querySelector?.('.pairs-chart'))) window.removed += 1;
                }))).observe(document.body, {childList: true, subtree: true});
            window.chart = document.querySelector('.pairs-chart');
        }"""
    )


def check_chart_kept(page: Page) -> None:
    """The chart is the node of `remember_chart`, and was never taken away."""
    assert page.evaluate("window.chart === document.querySelector('.pairs-chart')")
    assert page.evaluate("window.removed") == 0


def wait_for_feed(page: Page, pattern: str) -> None:
    page.wait_for_function(f"/{pattern}/.test({FEED})", timeout=TIMEOUT_MS)


def child(system: System, marker: str) -> int:
    """The process of the system that runs `marker`."""
    for line in processes(marker):
        pid = int(line.split()[0])
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or f"PPid:\t{system.process.pid}\n" in status.read_text():
            return pid
    raise AssertionError(f"{marker} does not run")
