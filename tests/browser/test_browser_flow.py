"""Keys, swap and clicks that choose, in a real Chromium on the running system."""

from __future__ import annotations

import pytest

from tests.support.browsing import Watched

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    "watched",
    ["?view=Backtest&bar=1min&window_1min=30&fit_1min=60&bt_page=Parameters"],
    indirect=True,
)
def test_a_cell_of_the_map_is_taken_and_keys_do_what_clicks_do(watched: Watched) -> None:
    """Over 3 s: a real page, a real chart, several views."""
    page = watched.page
    chart = page.locator(".pairs-chart[data-name=Parameters]")
    chart.locator(".main-svg").first.wait_for()
    drag = chart.locator(".nsewdrag").first
    page.wait_for_function(
        "document.querySelector('.pairs-chart[data-name=Parameters]').pairsTells"
    )
    box = drag.bounding_box()
    assert box is not None
    # the first of eleven entry levels: a level without a trade has nothing to click
    page.mouse.move(box["x"] + box["width"] * 0.5 / 11, box["y"] + box["height"] * 0.4, steps=4)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_function("document.querySelector('.st-key-entry input').value === '1.00'")
    before = page.locator("h1").first.inner_text()
    page.locator("h1").first.click()  # no field has the focus
    page.keyboard.press("s")
    swapped = " / ".join(reversed(before.split(" / ")))
    page.locator("h1", has_text=swapped).wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Keys").wait_for(state="detached")
    page.keyboard.press("9")
    page.get_by_text("How it is computed").wait_for()
    page.keyboard.press("2")
    page.wait_for_selector(".pairs-chart[data-name=Pair] .main-svg")
    hint = page.locator("a.pw-q").first
    assert (hint.get_attribute("href") or "").startswith("?view=Methods&topic=")
    assert hint.get_attribute("title")
    page.keyboard.press("/")
    page.wait_for_function("document.querySelector('.st-key-y').contains(document.activeElement)")
    page.keyboard.press("1")  # a key typed into a field is the field's
    assert page.locator(".pairs-chart[data-name=Pair]").count() == 1
