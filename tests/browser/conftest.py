"""One Chromium and one running system for all tests of this folder; both end with it: Playwright
keeps an event loop that no other test may meet."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.browsing import ARTIFACTS, Watched, chromium
from tests.support.machine import server_home
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        reason = "no Chromium on the PATH: the browser tests did not run"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
            ],
        )
        yield made
        made.close()


@pytest.fixture(scope="package")
def system(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    data_dir = tmp_path_factory.mktemp("desk") / "data"
    made = System(data_dir, STREAMLIT_REFRESH_MS="500", SYMBOLS="SOLUSDT,BTCUSDT,ETHUSDT")
    try:
        made.wait_for("ETHUSDT: .* bars of 1 s")
        yield made
        assert made.interrupt() == 0
    finally:
        made.close()
        shutil.rmtree(server_home(data_dir), ignore_errors=True)


@pytest.fixture
def watched(browser: Browser, system: System, request: pytest.FixtureRequest) -> Iterator[Watched]:
    made = Watched(browser, system.url + getattr(request, "param", ""))
    yield made
    ARTIFACTS.mkdir(exist_ok=True)
    name = re.sub(r"[^\w.-]+", "_", request.node.name)  # keepers of artefacts refuse ? and :
    made.page.screenshot(path=str(ARTIFACTS / f"{name}.png"))
    made.page.close()
    assert made.complaints == []
