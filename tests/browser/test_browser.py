"""The page in a real Chromium, on the whole running system."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from pairs.bars.files import read_bars_csv
from tests.support.browsing import (
    TIMEOUT_MS,
    Watched,
    check_chart_kept,
    remember_chart,
    shown_range,
    text,
    zoom,
)
from tests.support.running import System, processes

pytestmark = pytest.mark.browser


def test_numbers_change_by_themselves_and_the_venue_is_told(watched: Watched) -> None:
    page = watched.page
    assert "SIMULATED" in text(page, "venue")
    assert "live" in text(page, "feed")
    seen = set()
    deadline = time.monotonic() + 30
    while len(seen) < 4 and time.monotonic() < deadline:
        seen.add((text(page, "price-y"), text(page, "last-closed-bar")))
        page.wait_for_timeout(300)
    assert len(seen) >= 4


@pytest.mark.parametrize("watched", ["?bar=1s"], indirect=True)
def test_the_chart_is_kept_and_a_zoom_survives(watched: Watched) -> None:
    page = watched.page
    page.wait_for_selector(".pairs-chart .main-svg")
    remember_chart(page)
    zoomed = zoom(page)
    page.evaluate("window.rows = window.chart.pairs.traces[0].x.at(-1)")
    page.wait_for_function(  # bars of 1 s
        "window.chart.pairs.traces[0].x.at(-1) >= window.rows + 15_000", timeout=TIMEOUT_MS
    )
    assert shown_range(page) == zoomed
    check_chart_kept(page)
    points = page.evaluate("Math.max(...window.chart.pairs.traces.map((t) => t.x.length))")
    assert points <= 660  # of a line


@pytest.mark.parametrize("watched", ["?view=Market&bar=1min"], indirect=True)
def test_a_link_opens_the_view_it_names(watched: Watched) -> None:
    page = watched.page
    page.wait_for_selector(".pairs-chart .main-svg")
    names = page.evaluate("document.querySelector('.pairs-chart').data.map((t) => t.type)")
    assert names.count("candlestick") >= 2
    assert "bar=1min" in page.url


@pytest.mark.parametrize("watched", ["?view=Data&bar=1s"], indirect=True)
def test_upload_analyse_download_compare(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    originals = {}
    for side, name in (("y", "UPY"), ("x", "UPX")):
        with page.expect_download() as waiting:
            page.locator(f".st-key-download-{side} button").click()
        path = tmp_path / f"{name}_1s.csv"
        waiting.value.save_as(path)
        originals[name] = path
        page.get_by_role("radio", name="System", exact=True).click()
        sidebar = page.locator("[data-testid=stSidebar]")
        sidebar.locator("input[type=file]").set_input_files(path)
        sidebar.get_by_text("bars of 1s,").wait_for()
        page.get_by_role("radio", name="Data", exact=True).click()
        sidebar.locator(".st-key-store button").click()
        sidebar.get_by_text(f"{name}: ").wait_for()
        sidebar.get_by_text("bars of 1s,").wait_for(state="detached")
    page.get_by_role("button", name="Open UPX / ").wait_for()
    page.get_by_role("radio", name="Uploads").click()
    page.locator("h1", has_text="UPX / UPY").wait_for()
    assert "UPLOADED FILE" in text(page, "venue")
    page.wait_for_selector(".st-key-download-x")
    with page.expect_download() as waiting:
        page.locator(".st-key-download-x button").click()
    again = tmp_path / "again.csv"
    waiting.value.save_as(again)
    assert len(read_bars_csv(again.read_bytes())) > 1000
    unchanged = again.read_bytes() == originals["UPY"].read_bytes()
    assert unchanged  # compared apart: a picture of the difference would take minutes
    with page.expect_download() as waiting:
        page.locator(".st-key-download-pair button").click()
    pair = tmp_path / "pair.csv"
    waiting.value.save_as(pair)
    header = pair.read_text().splitlines()[0]
    assert header == "timestamp,close_y,close_x,beta,intercept,spread,zscore,correlation"


@pytest.mark.parametrize("watched", ["?view=Data"], indirect=True)
def test_a_bad_file_is_refused_with_its_row_and_nothing_is_stored(
    watched: Watched, system: System, tmp_path: Path
) -> None:
    path = tmp_path / "BROKEN.csv"
    path.write_text("timestamp,open,high,low,close,volume\n2024-01-01,1,2,3,1,1\n")
    watched.page.locator("input[type=file]").set_input_files(path)
    watched.page.get_by_text("row 2: high 2.0 is below low").wait_for()
    assert system.query("SELECT count(*) FROM v_bars WHERE symbol = 'BROKEN'") == 0


def test_the_page_tells_a_stopped_daemon_and_its_return(watched: Watched, system: System) -> None:
    page = watched.page
    daemon = next(line for line in processes("ingest_websocket.py") if _child_of(line, system))
    pid = int(daemon.split()[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        page.wait_for_function(
            "/stopped|stale/.test(document.querySelector('[data-testid=feed]').innerText)",
            timeout=20_000,
        )
    finally:
        os.kill(pid, signal.SIGCONT)
    page.wait_for_function(
        "/live/.test(document.querySelector('[data-testid=feed]').innerText)", timeout=TIMEOUT_MS
    )


def _child_of(line: str, system: System) -> bool:
    status = Path(f"/proc/{line.split()[0]}/status")
    if not status.exists():  # not Linux: there is only one
        return True
    return f"PPid:\t{system.process.pid}\n" in status.read_text()
