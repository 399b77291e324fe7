"""What the address bar shows is what a reload, a link and the Back button open."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest

from tests.support.browsing import TIMEOUT_MS, Watched

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
        "(symbol) => new URLSearchParams(location.search).get('y')?.includes(symbol)",
        arg=symbol,
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
    assert {"venue", "y", "x", "bar"} <= set(address)

    page.reload()
    page.locator("h1", has_text=f"{other} / ").wait_for()
    page.wait_for_selector("[data-testid=price-y]")
    assert (heading(watched), named(watched)) == (chosen, address)

    page.go_back()
    page.locator("h1", has_text=first).wait_for()
    assert named(watched)["y"] != address["y"]
    page.go_forward()
    page.locator("h1", has_text=chosen).wait_for()
