"""Whatever hangs, every tab says so within seconds, and goes on by itself afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psycopg2
import pytest

from tests.support.browsing import ARTIFACTS, TIMEOUT_MS, Watched, child, text, wait_for_feed
from tests.support.proxy import SilentNetwork
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
LOST = "document.documentElement.classList.contains('pw-lost')"
TOLD = (
    f"{LOST} || /unreachable/.test(document.querySelector('[data-testid=feed]')?.innerText)"
    " || document.querySelector('.stAlert') !== null"
)


@pytest.fixture(scope="module")
def tabs(browser: Browser, system: System) -> Iterator[list[Page]]:
    """Three tabs of people who look at different things."""
    made = [Watched(browser, f"{system.url}?view={v}&bar=1s") for v in ("Pair", "Market", "Data")]
    for tab in made:
        wait_for_feed(tab.page, "live")
    yield [tab.page for tab in made]
    for tab in made:
        tab.page.close()


def shot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / f"{name}.png"))


def goes_on(page: Page) -> None:
    """Alive, not grey, and with bars that closed since."""
    wait_for_feed(page, "live")
    page.wait_for_function(f"!({TOLD})", timeout=TIMEOUT_MS)
    before = text(page, "last-closed-bar")
    page.wait_for_function(
        "(before) => document.querySelector('[data-testid=last-closed-bar]').innerText > before",
        arg=before,
        timeout=2 * TIMEOUT_MS,
    )


def test_a_table_locked_by_hand_is_told_in_every_tab(tabs: list[Page], system: System) -> None:
    with contextlib.closing(psycopg2.connect(system.dsn())) as connection:
        connection.cursor().execute("LOCK TABLE feed IN ACCESS EXCLUSIVE MODE")
        for page in tabs:
            page.wait_for_function(TOLD, timeout=30_000)
        shot(tabs[0], "locked")
        tabs[0].wait_for_timeout(10_000)
        for page in tabs:
            assert page.evaluate(TOLD)
    for page in tabs:
        goes_on(page)


def test_a_page_server_that_hangs_is_told_in_every_tab(tabs: list[Page], system: System) -> None:
    server = child(system, "dashboard_streamlit.py")
    os.kill(server, signal.SIGSTOP)
    try:
        for page in tabs:
            page.wait_for_function(LOST, timeout=30_000)
            assert "Nothing has come from this page's server" in text(page, "lost")
        shot(tabs[0], "server_hangs")
    finally:
        os.kill(server, signal.SIGCONT)
    for page in tabs:
        goes_on(page)
        assert page.locator("[data-testid=lost]").count() == 0


def test_a_page_server_that_is_killed_is_told_and_comes_back(
    tabs: list[Page], system: System
) -> None:
    os.kill(child(system, "dashboard_streamlit.py"), signal.SIGKILL)
    for page in tabs:
        page.wait_for_function(LOST, timeout=30_000)
    for page in tabs:
        goes_on(page)


def test_a_network_that_falls_silent_is_told_and_goes_on(browser: Browser, system: System) -> None:
    """No end of the connection is ever told: a laptop that changed its network, a dead switch."""
    host, _, port = system.url.removeprefix("http://").rstrip("/").partition(":")
    network = SilentNetwork(int(port))
    tab = Watched(browser, f"http://{host}:{network.port}/?view=Pair&bar=1s")
    page = tab.page
    try:
        wait_for_feed(page, "live")
        network.cut()
        page.wait_for_function(LOST, timeout=30_000)
        assert "Nothing has come from this page's server" in text(page, "lost")
        network.mend()
        goes_on(page)
        assert page.locator("[data-testid=lost]").count() == 0
    finally:
        page.close()
        network.close()


def test_a_tab_without_refresh_is_not_watched_over(tabs: list[Page]) -> None:
    page = tabs[0]
    page.get_by_text("Refresh every").click()
    page.wait_for_timeout(6_000)
    assert not page.evaluate(LOST)
