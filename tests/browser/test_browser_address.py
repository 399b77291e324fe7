"""What the address bar shows is what a reload, a link and the Back button open."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest

from tests.support.browsing import ARTIFACTS, TIMEOUT_MS, Watched

pytestmark = pytest.mark.browser


def heading(watched: Watched) -> str:
    return str(watched.page.locator("h1").first.inner_text())


def choose_y(watched: Watched, symbol: str) -> None:
    """As a hand does: click, type, choose; and the address follows."""
    box = watched.page.locator(".st-key-y input")
    box.click()
    box.fill(symbol)
    # Enter would take what is marked at that moment, before what was typed has been looked for.
    watched.page.locator("[role=option]", has_text=symbol).first.click()
    watched.page.locator("h1", has_text=f"{symbol} / ").wait_for()
    watched.page.wait_for_function(
        "(start) => new URLSearchParams(location.search).get('pair')?.startsWith(start)",
        arg=f"local:{symbol}~",
        timeout=TIMEOUT_MS,
    )


def named(watched: Watched) -> dict[str, list[str]]:
    return parse_qs(urlparse(watched.page.url).query)


@pytest.mark.parametrize("watched", ["?view=Pair&bar=1s"], indirect=True)
def test_reload_back_and_a_link_open_the_same_view(watched: Watched) -> None:
    page = watched.page
    symbols = {leg.split(":")[-1] for leg in heading(watched).split(" · ")[0].split(" / ")}
    other = next(s for s in ("SOLUSDT", "BTCUSDT", "ETHUSDT") if s not in symbols)
    first = heading(watched)
    choose_y(watched, other)
    chosen, address = heading(watched), named(watched)
    assert chosen != first
    assert {"view", "pair", "bar"} <= set(address)

    page.reload()
    page.locator("h1", has_text=f"{other} / ").wait_for()
    page.wait_for_selector("[data-testid=price-y]")
    assert (heading(watched), named(watched)) == (chosen, address)

    page.go_back()
    page.locator("h1", has_text=first).wait_for()
    assert named(watched)["pair"] != address["pair"]
    page.go_forward()
    page.locator("h1", has_text=chosen).wait_for()

    for view in ("Data", "System", "Market"):  # faster than the address follows
        page.get_by_role("radio", name=view).click()
    page.wait_for_function("location.search.includes('view=Market')")
    page.wait_for_timeout(1500)
    assert page.get_by_role("radio", name="Market").is_checked()
    page.go_back()
    page.wait_for_function("!location.search.includes('view=Market')")
    page.wait_for_timeout(1500)
    assert not page.get_by_role("radio", name="Market").is_checked()


@pytest.mark.parametrize(
    "watched", ["?pair=local:NOPE~BTCUSDT&bar=7min&view=Pair&entry=99"], indirect=True
)
def test_a_link_that_cannot_be_honoured_says_so_until_it_is_read(watched: Watched) -> None:
    page = watched.page
    told = page.locator("[data-testid=stAlert]", has_text="The link asked for")
    told.wait_for()
    for part in ("NOPE at Simulated", "bar=7min", "entry=99"):
        assert part in told.inner_text()
    page.screenshot(path=str(ARTIFACTS / "link_1440.png"))
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    page.screenshot(path=str(ARTIFACTS / "link_390.png"))
    page.get_by_role("button", name="OK", exact=True).click()
    told.wait_for(state="detached")
