"""Charts in a real Chromium: wheel, drag, pinch, one way back, and closed bars as patches."""

from __future__ import annotations

import re

import pytest

from tests.support.browsing import (
    Watched,
    check_chart_kept,
    middle_of_chart,
    remember_chart,
    shown_range,
    zoom,
)

pytestmark = pytest.mark.browser

STATE = "document.querySelector('.pairs-chart').pairs"
# What Plotly was given and what is painted over it, together the lines of the figure.
NEWEST = f"{STATE}.traces.find((t) => t.name === 'z').x.at(-1)"


# One page for all: zoom, drag, reset, legend and address concern the same picture (some 20 s).
@pytest.mark.parametrize("watched", ["?view=Pair&bar=1s"], indirect=True)
def test_a_zoom_is_seen_undone_shared_and_never_hides_a_signal(watched: Watched) -> None:
    page = watched.page
    x, y = middle_of_chart(page)
    remember_chart(page)
    whole = shown_range(page)
    reset = page.locator(".pairs-reset").first
    assert not reset.is_visible()
    zoomed = zoom(page)
    assert whole[0] < zoomed[0] < zoomed[1] < whole[1]
    assert reset.is_visible()
    low, high = page.evaluate("window.chart._fullLayout.yaxis3.range")
    assert low < -2 < 2 < high  # the entries stay in sight
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y + 60, steps=6)
    page.mouse.up()
    page.wait_for_function(f"{STATE}.view[0] < {zoomed[0]} - 1000")
    moved = shown_range(page)
    assert moved[1] - moved[0] == pytest.approx(zoomed[1] - zoomed[0], rel=0.01)
    shown = re.search(r"shown=([^&]*)", page.url)
    assert shown is not None
    page.locator(".pairs-legend button", has_text="correlation").click()
    page.evaluate(f"window.rows = {NEWEST}")
    page.wait_for_function(f"{NEWEST} >= window.rows + 3000")
    assert shown_range(page) == moved  # bars of 1 s have closed meanwhile
    drawn = page.evaluate("window.chart.data.find((t) => t.name === 'correlation').visible")
    assert drawn == "legendonly"
    check_chart_kept(page)
    page.get_by_role("radio", name="Market", exact=True).click()
    page.wait_for_selector(".pairs-chart[data-name=Market] .main-svg", state="attached")
    middle_of_chart(page)
    assert shown_range(page) == pytest.approx(moved, abs=1000)  # the address tells seconds
    page.get_by_role("radio", name="Pair", exact=True).click()
    page.wait_for_selector(".pairs-chart[data-name=Pair] .main-svg", state="attached")
    middle_of_chart(page)
    other = page.locator(".pairs-chart .nsewdrag").nth(3).bounding_box()
    assert other is not None
    page.mouse.dblclick(other["x"] + 200, other["y"] + other["height"] / 2)
    page.wait_for_function(f"!{STATE}.view")
    assert "shown=" not in page.url
    assert not page.locator(".pairs-reset").first.is_visible()
    assert shown_range(page)[1] > page.evaluate(NEWEST)
    assert watched.complaints == []


@pytest.mark.parametrize("watched", ["?view=Pair&bar=1s"], indirect=True)
def test_a_closed_bar_is_a_patch_painted_over_what_stands(watched: Watched) -> None:
    """And what is held after some of them is what is sent whole."""
    page = watched.page
    middle_of_chart(page)
    page.evaluate(
        """() => {
            window.drawn = 0;
            document.querySelector('.pairs-chart').on('plotly_afterplot', () => window.drawn += 1);
        }"""
    )
    page.evaluate(f"window.rows = {NEWEST}")
    page.wait_for_function(f"{NEWEST} >= window.rows + 8000")
    assert page.evaluate("window.drawn") <= 5  # where a panel's range had to grow
    longest = page.evaluate(f"JSON.stringify({STATE}.base && window.pairsPatches.Pair).length")
    assert longest <= 12 * 1024
    held, given = page.evaluate(
        f"[{STATE}.traces.map((t) => t.x.length), {STATE}.given]",
    )
    assert all(count - start <= 80 for count, start in zip(held, given, strict=True))
    canvas = page.evaluate(
        """() => {
            const canvas = document.querySelector('.pairs-canvas');
            const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return pixels.data.filter((value, k) => k % 4 === 3 && value > 0).length;
        }"""
    )
    assert canvas > 100  # the newest rows, and the values at the edge
    table = page.locator(".pairs-table").first
    assert "ETHUSDT / BTCUSDT" in (table.locator("caption").text_content() or "")
    assert "z" in table.locator("th[scope=row]").all_text_contents()
    page.mouse.move(*middle_of_chart(page))
    said = page.locator(".pairs-legend button", has_text="β").first
    page.wait_for_function("document.querySelector('.pairs-chart').pairs.cursorTime")
    assert "α" in said.inner_text()
    hovered = " ".join(page.locator(".pairs-legend").all_inner_texts())
    assert not re.search(r"-\d", hovered)  # a true minus
    assert watched.complaints == []
