"""Shared fixtures: a real PostgreSQL for the session, an empty database for each test."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from database_utils import Database, open_database
from settings import DEFAULTS, load_settings
from storage.postgres import PostgresStore
from tests.chaos import SEED, TALLY

_numbers = itertools.count(1)

# No setting of the person who runs the tests may reach them.
for _key in DEFAULTS:
    os.environ.pop(_key, None)


def pytest_report_header() -> str:
    """The seed of the faults stands at the top, whatever happens later."""
    return f"CHAOS_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the fault scenarios have proven, where any has run."""
    if TALLY.comparisons:
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
    shutil.rmtree(server_home(folder))


def server_home(data_dir: Path) -> Path:
    """Where the server of a data folder really lives: elsewhere where root runs the tests."""
    moved = data_dir / "location.txt"
    return Path(moved.read_text().strip()) if moved.exists() else data_dir / "postgres"


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


def shared(*parts: str) -> Path:
    """A file of the reference data beside the project; skips the test where it is absent."""
    root = Path(os.environ.get("PAIRS_SHARED", Path(__file__).parents[2] / "shared"))
    path = root.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"reference data are not beside this clone: {path.name}")
    return path
