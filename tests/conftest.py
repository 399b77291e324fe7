"""Shared fixtures: a real PostgreSQL for each lane, an empty database for each test. How tests are
spread over lanes, and what all lanes together have proven."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from pairs.settings import DEFAULTS, load_settings
from pairs.storage.database import Database, open_database, open_store
from pairs.storage.postgres import PostgresStore
from tests.support.chaos import SEED, TALLY
from tests.support.machine import server_home

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

PAGE = str(Path(__file__).parents[1] / "dashboard_streamlit.py")
_numbers = itertools.count(1)

# No setting of the person who runs the tests may reach them.
for _key in DEFAULTS:
    os.environ.pop(_key, None)


def pytest_report_header() -> str:
    """The seed of the faults stands at the top, whatever happens later."""
    return f"CHAOS_SEED={SEED}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """A lane a core, two at least: half the time is waiting."""
    return min(8, max(2, os.cpu_count() or 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Browser tests in one lane, for they share one running system; the cases of a test together,
    but where they mostly wait. (`xdist_group` has no effect in pytest 9.2 with xdist 3.8.)"""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            folder = nodeid.split("/")[1]
            if folder == "browser":
                return folder
            waits = folder in ("alerts", "ingest", "storage")
            return nodeid if waits else nodeid.partition("[")[0]

    return Lanes(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A lane hands over what it has counted."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["tally"] = vars(TALLY)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a lane has counted is added to the whole; nothing of one that died."""
    TALLY.add(getattr(node, "workeroutput", {}).get("tally", {}))


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
    """Browser tests come first: theirs is the longest lane. `--fast` leaves out what needs a
    process of its own. Tests share the machine with whatever else runs there: a failure is run
    once more, and both are told."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)
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
