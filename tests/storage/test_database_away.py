"""The page while the database is away or hangs: the last picture, its true age, the reason."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import psycopg2
import pytest

from pairs.alerts.live import AlertsSnapshot, LiveAlerts
from pairs.live import asking
from pairs.live.asking import Asked, UnansweredError
from pairs.live.bars import LiveBars, Snapshot
from pairs.storage.embedded import EmbeddedError
from pairs.storage.postgres import PostgresStore
from tests.support.live import LEGS, both
from tests.support.machine import free_port
from tests.support.rows import rows


@dataclass
class Desk:
    """What all tabs share."""

    store: PostgresStore

    def __post_init__(self) -> None:
        self.bars = LiveBars(self.store.reads, LEGS, "1s", (1, 1))
        self.alerts = LiveAlerts(self.store)

    def polls(self) -> list[Callable[[], Snapshot | AlertsSnapshot]]:
        return [lambda: self.bars.poll(0), lambda: self.alerts.poll(0, rules=True)]

    def errors(self) -> list[str]:
        """What every poll says is wrong, empty where nothing is; none may raise."""
        return [poll().error or "" for poll in self.polls()]


def eventually_well(desk: Desk) -> None:
    deadline = time.monotonic() + 30
    while any(desk.errors()):
        assert time.monotonic() < deadline, desk.errors()
        time.sleep(0.1)


@pytest.fixture
def desk(store: PostgresStore) -> Desk:
    both(store, range(5))
    made = Desk(store)
    assert made.errors() == ["", ""]
    return made


def server_processes(store: PostgresStore) -> list[int]:
    """Those that serve this database, and the one that takes new connections."""
    with store.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), pid FROM pg_stat_activity WHERE datname = current_database()"
        )
        (mine, *_), found = zip(*cursor.fetchall(), strict=True)
        # Asked while this connection stands: its process is surely there.
        parent = psutil.Process(mine).ppid()
    connection.close()
    return [parent, *(pid for pid in found if pid != mine and psutil.pid_exists(pid))]


def test_terminated_again_and_again(desk: Desk) -> None:
    for _ in range(5):
        with desk.store.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        connection.close()
        desk.errors()
        eventually_well(desk)


def refused() -> psycopg2.extensions.connection:
    return psycopg2.connect(f"postgresql://nobody@127.0.0.1:{free_port()}/none")


def no_server() -> psycopg2.extensions.connection:
    raise EmbeddedError("the embedded PostgreSQL does not start")


def no_file() -> psycopg2.extensions.connection:
    raise PermissionError(13, "permission denied", "/data/postgres")


@pytest.mark.parametrize(
    ("connect", "said"),
    [(refused, "refused"), (no_server, "does not start"), (no_file, "permission denied")],
)
def test_no_connection_is_to_be_had(
    desk: Desk, connect: Callable[[], psycopg2.extensions.connection], said: str
) -> None:
    """From the first poll on, and after some that went well."""
    away = Desk(PostgresStore(connect))
    assert all(said in error.lower() for error in away.errors())
    assert away.bars.poll(0).polled_at == 0
    good = desk.bars.poll(0)
    desk.store.engine.dispose()
    desk.bars.reads = desk.alerts.store = None  # type: ignore[assignment]
    desk.bars.reads, desk.alerts.store = away.store.reads, away.store
    assert all(said in error.lower() for error in desk.errors())
    assert desk.bars.poll(0).polled_at == good.polled_at
    assert len(desk.bars.poll(0).y.closed) == len(good.y.closed) > 0


@contextmanager
def locked(store: PostgresStore, table: str) -> Iterator[None]:
    connection = store.connect()
    try:
        connection.cursor().execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("table", ["feed", "bar", "alert_event, alert_rule"])
def test_a_table_that_is_locked_is_told_within_seconds(desk: Desk, table: str) -> None:
    with locked(desk.store, table):
        began = time.monotonic()
        wrong = 0 if table in ("feed", "bar") else 1
        said = desk.errors()[wrong]
        assert "lock" in said
        assert time.monotonic() - began < 20  # not as long as the lock is held
    eventually_well(desk)


def test_nobody_waits_long_for_a_server_that_hangs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to ask waits PATIENCE_S, everybody after him not at all; the ages are true, and
    when it goes on, so does the page."""
    monkeypatch.setattr(asking, "PATIENCE_S", 1.0)
    pids = server_processes(desk.store)
    good = desk.bars.poll(0)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        desk.errors()
        asked = desk.bars._asked
        assert "has not answered for" in (desk.bars.poll(0).error or "")
        before = threading.active_count()
        for _ in range(20):
            later = desk.bars.poll(0)
            assert "has not answered for" in (later.error or "")
            assert "has not answered for" in (desk.alerts.poll(0).error or "")
        assert desk.bars._asked is asked  # they have not asked again
        assert threading.active_count() <= before
        assert later.polled_at == good.polled_at
        assert later.age_s >= 1.0
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    eventually_well(desk)
    both(desk.store, range(5, 9))
    assert len(desk.bars.poll(0).y.closed) == len(good.y.closed) + 4


def test_an_answer_in_time_comes_to_all_and_an_error_too() -> None:
    go = threading.Event()
    asked = Asked(lambda: go.wait(30) and 7)
    found: list[object] = []
    waiting = [threading.Thread(target=lambda: found.append(asked.answer())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    go.set()
    for thread in waiting:
        thread.join()
    assert found == [7, 7, 7]
    assert not asked.open

    def failing() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Asked(failing).answer()


def test_who_has_waited_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    go = threading.Event()
    asked = Asked(lambda: go.wait(30))
    with pytest.raises(UnansweredError, match="has not answered for"):
        asked.answer()
    go.set()


def test_a_readers_statement_ends_in_time_and_a_writers_does_not(store: PostgresStore) -> None:
    with store.reading() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("5s",)
    assert rows(store, "SHOW statement_timeout") == [("0",)]
