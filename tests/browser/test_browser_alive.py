"""The page through a day's mishaps: alerts, restarts, two tabs, the other theme."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browsing import (
    TIMEOUT_MS,
    Watched,
    child,
    shown_range,
    text,
    wait_for_feed,
    zoom,
)
from tests.support.machine import server_home
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture
def second(browser: Browser, system: System) -> Iterator[Watched]:
    """Another tab, on another view."""
    made = Watched(browser, system.url + "?view=Pair&bar=1s")
    yield made
    made.page.close()
    assert made.complaints == []


NOTIFIED = """() => {
  window.asked = 0;
  window.notified = [];
  window.Notification = class {
    static permission = 'default';
    static async requestPermission() {
      window.asked += 1;
      return (window.Notification.permission = 'granted');
    }
    constructor(title) { window.notified.push(title); }
  };
}"""  # what the desktop would show: no test can look there


@pytest.mark.parametrize("watched", ["?view=Alerts&bar=1s"], indirect=True)
def test_an_alert_appears_by_itself_in_every_tab(watched: Watched, second: Watched) -> None:
    """And as a notification, as a sound and in the tab's title where that was chosen; it is seen
    in all tabs at once, and a rule that was deleted comes back."""
    page = watched.page
    page.evaluate(NOTIFIED)
    before = page.title()
    page.get_by_text("No rule yet").wait_for()
    assert page.evaluate("window.asked") == 0  # nobody is asked unasked
    for how in ("notification", "sound", "the tab's title"):
        page.get_by_label(how).check()
    assert page.evaluate("window.asked") == 1
    page.get_by_label("Threshold").fill("-100")
    page.get_by_text("Would").first.wait_for()
    page.get_by_role("button", name="Add rule").click()
    page.get_by_text("Added:").wait_for()
    for tab in (page, second.page):
        tab.locator("[data-testid=stToast]", has_text="z-score above -100").first.wait_for()
        tab.locator("[data-testid=alerts]", has_text="1 alert").wait_for()
    page.wait_for_function("() => /^▲ z −?[0-9.]+ ETH.BTC$/.test(document.title)")
    assert "z-score above -100" in page.evaluate("window.notified")[0]
    assert page.evaluate("window.pairsTell.sounds") == 1
    assert second.page.title() == before  # another browser, which has chosen nothing
    second.page.locator("td", has_text="z-score above -100").wait_for()  # and in the pair's column
    second.page.locator("[data-mark=fired]").first.wait_for(state="attached")  # and on z
    page.get_by_role("button", name="Acknowledge all 1").click()
    for tab in (page, second.page):
        tab.locator("[data-testid=alerts]").wait_for(state="detached")
    page.wait_for_function(f"() => document.title === {before!r}")
    for again in (True, False):
        page.get_by_role("button", name="⋯").click()
        page.get_by_text("Delete", exact=True).click()
        page.get_by_text("Deleted: ").wait_for()
        page.get_by_text("No rule yet").wait_for()
        if again:
            page.get_by_role("button", name="Undo").click()
            page.get_by_text("evaluated to").wait_for()


@pytest.mark.parametrize("watched", ["?view=Market&bar=1min"], indirect=True)
def test_the_forming_candle_moves_without_a_new_figure(watched: Watched) -> None:
    """And without taking the zoom of whoever looks at older candles."""
    page = watched.page
    page.wait_for_selector(".pairs-chart .main-svg")
    zoomed = zoom(page)
    closes, versions = set(), set()
    for _ in range(40):
        closes.add(page.evaluate("document.querySelector('.pairs-chart').pairs.traces[0].close[0]"))
        versions.add(page.evaluate("document.querySelector('.pairs-chart').dataset.version"))
        page.wait_for_timeout(200)
    assert len(closes) > len(versions)
    assert page.evaluate("document.querySelector('.pairs-chart')._fullLayout.xaxis.type") == "date"
    assert shown_range(page) == zoomed


def test_the_light_theme_reaches_the_chart(watched: Watched) -> None:
    page = watched.page
    inks = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        page.wait_for_selector(".pairs-chart .main-svg")
        inks.append(page.evaluate("document.querySelector('.pairs-chart').layout.font.color"))
    assert inks == ["#E6EDF3", "#1B1F24"]


@pytest.mark.parametrize("marker", ["ingest_websocket.py", "postgres"])
def test_killed_parts_come_back_and_the_page_goes_on(
    watched: Watched, second: Watched, system: System, marker: str
) -> None:
    """Both tabs stay as they are, say what is wrong if it lasts, and go on by themselves."""
    wait_for_feed(watched.page, "live")
    for tab in (watched.page, second.page):
        tab.evaluate("window.sameDocument = true")
    if marker == "postgres":
        home = server_home(Path(system.environment["DATA_DIR"]))
        os.kill(int((home / "pg" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    else:
        os.kill(child(system, marker), signal.SIGKILL)
    before = text(watched.page, "last-closed-bar")
    for tab in (watched.page, second.page):
        tab.wait_for_function(
            "(before) => document.querySelector('[data-testid=last-closed-bar]').innerText"
            " > before",
            arg=before,
            timeout=2 * TIMEOUT_MS,
        )
        wait_for_feed(tab, "live")
        assert tab.evaluate("window.sameDocument === true")
        assert tab.locator(".stAlert, .stException").count() == 0


@pytest.mark.parametrize(
    "watched", ["?view=Backtest&bar=1min&window_1min=30&fit_1min=60"], indirect=True
)
def test_a_backtest_runs_beside_the_live_page_and_its_report_downloads(
    watched: Watched, tmp_path: Path
) -> None:
    page = watched.page
    page.locator("[data-testid=bt-trades]").wait_for()
    page.wait_for_selector(".pairs-chart .main-svg")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Report").click()
    path = tmp_path / "report.html"
    waiting.value.save_as(path)
    report = path.read_text()
    assert "Backtest of ETHUSDT / BTCUSDT" in report
    assert 'src="http' not in report
    page.get_by_role("radio", name="System").click()
    page.get_by_text("exchange → here").wait_for()
    page.get_by_text("PostgreSQL 18").wait_for()
    page.get_by_role("radio", name="Backtest").click()
    page.locator("[data-testid=bt-trades]").wait_for()  # the result is still there
