"""Statistics and scanner in a real Chromium, on the running system."""

from __future__ import annotations

import csv
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.browsing import Watched, text

pytestmark = pytest.mark.browser
VIEWS = (
    "Market",
    "Pair",
    "Statistics",
    "Scanner",
    "Backtest",
    "Alerts",
    "Data",
    "System",
    "Methods",
)
# Words and choices that are wider than their place; the last is Streamlit's, shown on focus only.
CUT = """() => [...document.querySelectorAll('body *')].filter((node) => node.offsetParent
    && (node.children.length === 0 || node.tagName === 'INPUT')
    && ['hidden', 'clip'].includes(getComputedStyle(node).overflowX)
    && node.scrollWidth > node.clientWidth + 1)
    .map((node) => node.innerText || node.value).filter((text) => text
    && text !== 'Skip to main content')"""
UNNAMED = """() => [...document.querySelectorAll('button, input, textarea, select, [role=img]')]
    .filter((node) => node.offsetParent && !(node.getAttribute('aria-label') || node.innerText
        || node.getAttribute('aria-labelledby') || node.labels?.length || node.title))
    .map((node) => node.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("watched", ["?view=Statistics&bar=1s"], indirect=True)
def test_statistics_follow_the_market_and_keep_the_place(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    page.get_by_text("at 5 % together").first.wait_for()
    assert page.locator("table").count() >= 3
    heat = page.locator(".pairs-chart[data-name=Correlations]")
    heat.locator(".main-svg").first.wait_for()
    assert "ETHUSDT / BTCUSDT" in (heat.get_attribute("aria-label") or "")
    assert heat.evaluate("(node) => node.data[0].z.length || node.data[0].x.length") == 3
    # scrolled to older minutes, the reader stays there while new bars come in
    minutes = page.locator(".st-key-minutes")
    scroller = minutes.evaluate_handle(
        """(node) => { let found = node;
            while (found && found.scrollHeight <= found.clientHeight + 20)
                found = found.parentElement;
            return found; }"""
    )
    scroller.evaluate("(node) => { node.scrollTop = 150; }")
    newest = minutes.locator("tbody tr").first
    before = newest.inner_text()
    page.wait_for_function(
        "(old) => document.querySelector('.st-key-minutes tbody tr').innerText !== old", arg=before
    )
    assert scroller.evaluate("(node) => node.scrollTop") == 150
    with page.expect_download() as waiting:
        page.locator(".st-key-download-intervals button").click()
    path = tmp_path / "minutes.csv"
    waiting.value.save_as(path)
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) > 20
    assert rows[0]["timestamp"].endswith(":00Z")
    assert {"spread_mean", "zscore_max", "correlation", "trades_y"} <= rows[0].keys()


@pytest.mark.parametrize("watched", ["?view=Scanner&bar=1s"], indirect=True)
def test_scan_and_open_a_pair_by_a_click(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    page.wait_for_selector("[data-testid=scan-verdict]")
    assert "tests" in text(page, "scan-verdict")
    table = page.locator("[data-testid=stDataFrame]")
    table.wait_for()
    with page.expect_download() as waiting:
        page.locator(".st-key-download-scan button").first.click()
    path = tmp_path / "scan.csv"
    waiting.value.save_as(path)
    with path.open() as lines:
        rows = list(csv.DictReader(lines))
    pairs = {" / ".join(row[leg].split(":")[1] for leg in ("y", "x")) for row in rows}
    assert len(pairs) >= 3
    for chosen in ("Scanner", "1s"):  # as the link says, also after the scan was awaited
        assert page.get_by_role("radio", name=chosen, exact=True).is_checked()
    before, box = None, table.bounding_box()
    while box != before:  # what stood above the table is being taken away
        page.wait_for_timeout(500)
        before, box = box, table.bounding_box()
    assert box is not None
    x, y = box["x"] + 220, box["y"] + 30 * 2 + 15  # below the head: the second row
    page.mouse.move(x - 60, y - 5)
    page.mouse.move(x, y, steps=5)  # as a hand does: the table must see the pointer come
    page.wait_for_timeout(200)
    page.mouse.click(x, y)
    page.wait_for_selector(".pairs-chart[data-name=Pair] .main-svg")
    opened = page.locator("h1").first.inner_text()  # which is second changes with every bar
    assert opened in pairs
    assert f"pair=local:{opened.replace(' / ', '~')}" in unquote(page.url)
    page.get_by_role("radio", name="Scanner").click()
    page.wait_for_selector("[data-testid=scan-verdict]")


@pytest.mark.parametrize(
    "watched", ["?view=Backtest&bar=1min&window_1min=30&fit_1min=60"], indirect=True
)
def test_every_view_fits_1280_pixels_and_names_its_controls(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 800})
    page.locator("[data-testid=bt-trades]").wait_for()
    for view in VIEWS:
        page.get_by_role("radio", name=view, exact=True).click()
        page.wait_for_function(
            "view => (new URL(location).searchParams.get('view') || 'Pair') === view", arg=view
        )
        page.wait_for_timeout(2000)
        assert page.evaluate(CUT) == [], view
        assert page.evaluate(UNNAMED) == [], view
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, view
