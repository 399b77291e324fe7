"""Shared fixtures: a real PostgreSQL for the session, an empty database for each test; one running
system and one Chromium for all browser tests."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

from pairs.settings import DEFAULTS, load_settings
from pairs.storage.database import Database, open_database, open_store
from pairs.storage.postgres import PostgresStore
from tests.support.browsing import ARTIFACTS, Watched, chromium
from tests.support.chaos import SEED, TALLY
from tests.support.machine import server_home
from tests.support.running import System

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from streamlit.testing.v1 import AppTest

PAGE = str(Path(__file__).parents[1] / "dashboard_streamlit.py")
_numbers = itertools.count(1)

# No setting of the person who runs the tests may reach them.
for _key in DEFAULTS:
    os.environ.pop(_key, None)


def pytest_report_header() -> str:
    """The seed of the faults stands at the top, whatever happens later."""
    return f"CHAOS_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What failed and passed when run again, and what the fault scenarios have proven."""
    if again := terminalreporter.stats.get("rerun"):
        terminalreporter.section("failed, and run once more: each a fault to look for")
        for report in again:
            terminalreporter.write_line(f"{report.nodeid} ({report.when})\n{report.longreprtext}\n")
    if TALLY.comparisons or TALLY.steps:
        passed = len(terminalreporter.stats.get("passed", []))
        failed = len(terminalreporter.stats.get("failed", []))
        terminalreporter.section("nothing lost")
        for line in TALLY.lines(passed, passed + failed):
            terminalreporter.write_line(line)
        if "CHAOS_TALLY" in os.environ:  # tools/chaos.py adds the parts up
            counts = {**vars(TALLY), "passed": passed, "run": passed + failed}
            Path(os.environ["CHAOS_TALLY"]).write_text(json.dumps(counts))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The embedded PostgreSQL in a folder of its own, its path holding a space."""
    folder = tmp_path_factory.mktemp("embedded server")
    database = open_database(load_settings({"DATA_DIR": str(folder)}))
    yield database
    database.stop()
    shutil.rmtree(server_home(folder), ignore_errors=True)  # it may still be going


@pytest.fixture
def database_url(server: Database) -> str:
    """The DSN of a new, empty database."""
    name = f"test_{next(_numbers)}"
    connection = server.connect()
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    return server.url.rsplit("/", 1)[0] + f"/{name}"


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    """A store with its schema on a new database."""
    made = PostgresStore(lambda: psycopg2.connect(database_url, options="-c timezone=UTC"))
    made.init()
    yield made
    made.close()


@pytest.fixture
def page(
    store: PostgresStore, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AppTest]:
    """The page on the store of the test, through Streamlit's own harness."""
    import streamlit as st

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Streamlit's imports, not ours
        from streamlit.testing.v1 import AppTest

    opened: list[PostgresStore] = []  # by the page, which keeps its store for as long as it runs

    def kept(database: Database) -> PostgresStore:
        opened.append(open_store(database))
        return opened[-1]

    monkeypatch.setattr("pairs.storage.database.open_store", kept)
    monkeypatch.setenv("DATABASE_URL", database_url)
    st.cache_resource.clear()
    st.cache_data.clear()
    yield AppTest.from_file(PAGE, default_timeout=60)
    st.cache_resource.clear()
    st.cache_data.clear()
    for made in opened:
        made.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="no processes, no database, no browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Browser tests come last: they share one running system, and Playwright keeps an event loop
    that no other test may meet. `--fast` leaves out what needs a process of its own. Tests
    share the machine with whatever else runs there: a failure is run once more, and both are
    told."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            if item.get_closest_marker("chaos") is None:
                item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=5))
    if config.getoption("--fast"):
        left_out = [item for item in items if _needs_a_process(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _needs_a_process(item: pytest.Item) -> bool:
    needs = {"server", "browser"} & set(getattr(item, "fixturenames", ()))
    return bool(needs) or item.get_closest_marker("processes") is not None


@pytest.fixture(autouse=True)
def _no_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `--fast` a test that starts a process fails: it has to be marked `processes`."""
    if request.config.getoption("--fast"):

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("this test starts a process: mark it with pytest.mark.processes")

        monkeypatch.setattr("subprocess.Popen.__init__", refuse)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
