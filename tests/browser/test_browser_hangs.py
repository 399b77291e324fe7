"""Whatever hangs, every tab says so within seconds, and goes on by itself afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
import pytest

from tests.support.browsing import ARTIFACTS, TIMEOUT_MS, Watched, child, text, wait_for_feed
from tests.support.machine import server_home
from tests.support.proxy import SilentNetwork
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
LOST = "document.documentElement.classList.contains('pw-lost')"
DEAD = "document.documentElement.classList.contains('pw-dead')"
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


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    """A tab that may complain of its server."""
    made = Watched(browser, f"{system.url}?view=Pair&bar=1s").page
    yield made
    made.close()


def test_a_daemon_that_hangs_dims_what_it_made_and_a_pause_is_told(
    page: Page, system: System
) -> None:
    """A pause is no outage: ages go on, and a server that hangs meanwhile is told all the same."""
    wait_for_feed(page, "live")
    page.wait_for_selector(".pairs-chart .main-svg")
    daemon, server = (child(system, n) for n in ("ingest_websocket.py", "dashboard_streamlit.py"))
    os.kill(daemon, signal.SIGSTOP)
    try:
        page.wait_for_function(
            "getComputedStyle(document.querySelector('.pairs-chart'), '::after').content"
            ".includes('no data since')",
            timeout=TIMEOUT_MS,
        )
        cards = "getComputedStyle(document.querySelector('.pw-cards')).opacity"
        assert float(page.evaluate(cards)) < 0.6
        page.wait_for_function("/stopped|stale/.test(document.querySelector('.pw-said').innerText)")
        shot(page, "dead_1440")
        page.set_viewport_size({"width": 390, "height": 900})
        page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(1500)
        shot(page, "dead_390_dark")
    finally:
        os.kill(daemon, signal.SIGCONT)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_function(f"!({DEAD})", timeout=TIMEOUT_MS)

    page.get_by_text("Refresh every").click()
    wait_for_feed(page, "paused since")
    before = [page.locator(f"[data-{k}]").inner_text() for k in ("age", "clock")]
    page.wait_for_timeout(4_000)
    after = [page.locator(f"[data-{k}]").inner_text() for k in ("age", "clock")]
    assert all(a != b for a, b in zip(before, after, strict=True)), (before, after)
    assert not page.evaluate(LOST)
    shot(page, "paused")
    os.kill(server, signal.SIGSTOP)
    try:
        page.wait_for_function(LOST, timeout=30_000)
    finally:
        os.kill(server, signal.SIGCONT)
    page.wait_for_function(f"!({LOST})", timeout=TIMEOUT_MS)
    assert "paused since" in text(page, "feed")


def backends(system: System) -> list[int]:
    """The database server and all that serve its connections."""
    home = server_home(Path(system.environment["DATA_DIR"]))
    parent = psutil.Process(int((home / "pg" / "postmaster.pid").read_text().split()[0]))
    return [parent.pid, *(process.pid for process in parent.children())]


def test_a_database_that_hangs_is_told_and_another_view_still_opens(
    page: Page, system: System
) -> None:
    wait_for_feed(page, "live")
    stopped = backends(system)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        page.wait_for_function(TOLD, timeout=30_000)
        wait_for_feed(page, "database unreachable")
        page.get_by_role("radio", name="Data").click()
        page.get_by_text("Download", exact=True).first.wait_for()
        wait_for_feed(page, "database unreachable")
        page.get_by_role("radio", name="System").click()
        page.get_by_text("the database has not answered").first.wait_for()
        shot(page, "database_hangs")
    finally:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    wait_for_feed(page, "live")
