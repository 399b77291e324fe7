"""A database that is away ends nothing: not at the first start, not when a part starts again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import psutil
import psycopg2
import pytest

from pairs import __main__ as run
from pairs.__main__ import Child, watch
from pairs.messages import CANNOT, NOT_NOW
from pairs.settings import load_settings
from pairs.storage.database import StoreAwayError, StoreError, open_database, open_patiently
from pairs.storage.errors import is_away
from pairs.storage.postgres import PostgresStore
from tests.support.daemon import eventually
from tests.support.machine import server_home
from tests.support.running import System
from tests.support.servers import OwnServer

pytestmark = pytest.mark.processes


def part(system: System, program: str) -> psutil.Process:
    """The running process of one part of the system."""
    for child in psutil.Process(system.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if program in " ".join(child.cmdline()):
                return child
    raise LookupError(program)


def trades(dsn: str) -> int:
    """How many are stored; LookupError while the database is away."""
    try:
        with contextlib.closing(psycopg2.connect(dsn, connect_timeout=3)) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT count(*) FROM v_ticks")
            return int((cursor.fetchone() or (0,))[0])
    except psycopg2.Error as error:
        raise LookupError(str(error)) from None


def test_everything_waits_for_an_own_server_that_is_away(
    own_server: OwnServer, tmp_path: Path
) -> None:
    """Away at the first start, away again when every part is killed: all of it comes back."""
    own_server.stop()
    system = System(tmp_path / "data", DATABASE_URL=own_server.dsn, HISTORY_HOURS="0")
    try:
        system.wait_for(r"run \| cannot use the database: .*: waiting for it, 30 s at most")
        own_server.start()
        system.wait_for(r"alerts \|.*watching channels=none")
        eventually(lambda: trades(own_server.dsn) > 20, "trades")
        own_server.stop()
        for program in ("ingest_websocket.py", "watch_alerts.py", "streamlit"):
            part(system, program).kill()
        for name in ("ingest_websocket", "watch_alerts"):
            system.wait_for(rf"{name}: cannot use the database: .*: waiting for it")
        seen = len(system.lines)
        own_server.start()
        before = trades(own_server.dsn)
        eventually(lambda: trades(own_server.dsn) > before, "trades again", 90)
        eventually(
            lambda: any("watching channels" in line for line in system.lines[seen:]), "alerts"
        )
        assert part(system, "streamlit").is_running()
        assert system.interrupt() == 0
    finally:
        system.close()


def test_the_embedded_server_is_killed_and_a_part_as_well(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    system = System(data_dir, HISTORY_HOURS="0")
    try:
        system.wait_for(r"alerts \|.*watching channels=none")
        eventually(lambda: trades(system.dsn()) > 20, "trades")
        os.kill(int((server_home(data_dir) / "pg/postmaster.pid").read_text().split()[0]), 9)
        part(system, "ingest_websocket.py").kill()
        system.wait_for("run .* ingest ended with -9")
        eventually(lambda: trades(system.dsn()) > 0, "the server is back")
        before = trades(system.dsn())
        eventually(lambda: trades(system.dsn()) > before, "trades again", 90)
        assert system.interrupt() == 0
    finally:
        system.close()
        shutil.rmtree(server_home(data_dir), ignore_errors=True)


def ending(name: str, code: int) -> Child:
    return Child(name, [sys.executable, "-c", f"raise SystemExit({code})"], {})


def living(name: str) -> Child:
    return Child(name, [sys.executable, "-c", "import time; time.sleep(60)"], {})


def supervise(*children: Child, seconds: float) -> int:
    """The answer of `watch`, told to stop after so many seconds."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        for child in children:
            child.start()
        return watch(list(children), stop)
    finally:
        timer.cancel()
        for child in children:
            child.stop()
            child.wait(10)


def test_a_part_that_cannot_run_now_is_tried_again_and_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "LONGEST_WAIT_S", 4.0)
    away, killed = ending("away", NOT_NOW), living("killed")

    def strike() -> None:
        while "away cannot run now (see above): again in 4 s" not in said():
            time.sleep(0.05)
        assert killed.process is not None
        first = killed.process
        first.kill()
        while killed.process is first:
            time.sleep(0.05)
        seen.append(len(said().split("again in 4 s")))

    seen: list[int] = []
    text: list[str] = []

    def said() -> str:
        text.append(capsys.readouterr().out)
        return "".join(text)

    striker = threading.Thread(target=strike)
    striker.start()
    assert supervise(away, killed, seconds=12) == 0
    striker.join(10)
    assert not striker.is_alive()
    assert seen == [2]  # started again before the other's wait was over


def test_a_part_that_can_never_run_as_configured_ends_the_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert supervise(ending("wrong", CANNOT), living("well"), seconds=30) == 1
    assert "wrong cannot run as configured (see above): stopping" in capsys.readouterr().out


def test_only_what_may_pass_is_waited_for(database_url: str) -> None:
    told: list[str] = []
    paused: list[float] = []
    away = open_database(load_settings({"DATABASE_URL": "postgresql://me@127.0.0.1:9/db"}))
    with pytest.raises(StoreAwayError):
        open_patiently(away, told.append, lambda s: paused.append(s) or time.sleep(s), seconds=2)
    assert len(told) == 1
    assert len(paused) >= 2
    wrong = database_url.rsplit("/", 1)[0] + "/none"
    with pytest.raises(StoreError) as caught:
        open_patiently(
            open_database(load_settings({"DATABASE_URL": wrong})), told.append, paused.append
        )
    assert not isinstance(caught.value, StoreAwayError)
    assert len(told) == 1


def test_what_a_server_says_while_it_starts_is_no_refusal() -> None:
    passing = (
        "the database system is starting up",
        "the database system is in recovery mode",
        "sorry, too many clients already",
        "Connection refused",
        "timeout expired",
        'could not translate host name "db" to address',
        "session is read-only",
        "server is in hot standby mode",
        "server login has been failing, try again later",
        'connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: No file',
        "server closed the connection unexpectedly",
        "SSL SYSCALL error: EOF detected",
        "the database system is not yet accepting connections",
    )
    for text in passing:
        assert is_away(psycopg2.OperationalError(text))
    assert not is_away(psycopg2.OperationalError('definition of service "desk" not found'))
    assert is_away(OSError(28, "No space left on device"))
    assert not is_away(PermissionError(13, "Permission denied"))
    assert not is_away(psycopg2.OperationalError('FATAL:  role "me" does not exist'))
    assert not is_away(psycopg2.ProgrammingError("syntax error"))


def test_a_start_waits_for_no_reader_of_a_database_that_is_complete(
    store: PostgresStore, database_url: str
) -> None:
    """Of a backup or an audit that reads for hours: neither waits, nor makes others wait."""
    with contextlib.closing(psycopg2.connect(database_url)) as reader:
        cursor = reader.cursor()
        for view in ("v_ticks", "v_bars", "v_gaps", "v_feed"):
            cursor.execute(f"SELECT count(*) FROM {view}")
        with contextlib.closing(psycopg2.connect(database_url, options="-c lock_timeout=2s")) as c:
            PostgresStore(lambda: c).init()
