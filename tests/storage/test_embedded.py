"""The embedded server: started once, shared, stopped by the last, recovered after any kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from pairs.settings import load_settings
from pairs.storage.audit import audit
from pairs.storage.database import open_database, open_store
from pairs.storage.embedded import EmbeddedError, EmbeddedServer
from tests.support.machine import free_port, server_home
from tests.support.rows import trade

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data with spaces"
    yield folder
    if folder.exists():
        last = EmbeddedServer(folder)
        last.start()
        last.stop()
        shutil.rmtree(server_home(folder), ignore_errors=True)


def alive(dsn: str) -> bool:
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(dsn, connect_timeout=5).close()
        return True
    return False


def postmaster(server: EmbeddedServer) -> int:
    return int((server.pgdata / "postmaster.pid").read_text().splitlines()[0])


def test_two_users_share_one_server_and_the_last_stops_it(data_dir: Path) -> None:
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    dsn = first.start()
    assert second.start() == dsn
    assert (first.started_here, second.started_here) == (True, False)
    first.stop()
    assert alive(dsn)
    second.stop()
    assert not alive(dsn)
    again = EmbeddedServer(data_dir)
    assert again.start() == dsn  # the port is kept where it is still free
    again.stop()


def test_a_killed_server_and_a_stale_pid_file_are_recovered_from(data_dir: Path) -> None:
    settings = load_settings({"DATA_DIR": str(data_dir)})
    database = open_database(settings)
    store = open_store(database)
    store.write("binance", [trade(i) for i in range(100)])
    server = EmbeddedServer(data_dir)
    os.kill(postmaster(server), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:  # the store reconnects by itself, wherever the server then is
        with contextlib.suppress(psycopg2.Error):
            store.write("binance", [trade(i) for i in range(50, 150)])
            break
        assert time.monotonic() < deadline
    assert audit(store)["venues"]["binance"]["BTCUSDT"]["trades"] == 150
    store.close()
    database.stop()
    # a pid file left behind whose number another program has by now
    (server.pgdata / "postmaster.pid").write_text(
        f"{os.getpid()}\n{server.pgdata}\n0\n1\n\n127.0.0.1\n0 0\nready\n"
    )
    assert alive(server.start())
    server.stop()


def test_an_unclean_end_is_recovered_from_without_any_program_of_the_system(
    data_dir: Path,
) -> None:
    """As in a slim image: no ps, no chmod, nothing on the PATH."""
    server = EmbeddedServer(data_dir)
    server.start()
    os.kill(postmaster(server), signal.SIGKILL)
    server.leave()
    done = shell(data_dir, "init", PATH="/nonexistent")
    assert (done.returncode, done.stdout) == (0, "schema is complete\n"), done.stderr


def test_the_password_is_private_and_the_server_asks_for_it(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    dsn = server.start()
    assert (server.home / "password").stat().st_mode & 0o077 == 0
    secret = (server.home / "password").read_text()
    assert not alive(dsn.replace(secret, "guess"))
    assert "127.0.0.1" in dsn
    server.stop()


def test_data_of_another_version_are_refused_not_touched(data_dir: Path) -> None:
    server = EmbeddedServer(data_dir)
    server.start()
    server.stop()
    version = server.pgdata / "PG_VERSION"
    real = version.read_text()
    version.write_text("12\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 12"):
        EmbeddedServer(data_dir).start()
    version.write_text(real)


@pytest.fixture
def ordinary_server(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL of the machine, not the embedded one; the DSN of an empty database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no ordinary PostgreSQL server is installed on this machine")
    root = os.geteuid() == 0
    identity = {"user": "postgres", "extra_groups": []} if root else {}
    folder = Path(f"/tmp/ordinary-{os.getpid()}")
    folder.mkdir()
    if root:
        shutil.chown(folder, "postgres")
    bin_dir, port = found[-1].parent, free_port()
    run = {
        "check": True,
        "cwd": folder,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        **identity,
    }
    subprocess.run([bin_dir / "initdb", "-D", folder / "pg", "-A", "trust", "-U", "desk"], **run)
    options = f"-p {port} -c unix_socket_directories='' -c listen_addresses=127.0.0.1"
    subprocess.run([bin_dir / "pg_ctl", "-D", folder / "pg", "-w", "-o", options, "start"], **run)
    yield f"postgresql://desk@127.0.0.1:{port}/postgres"
    subprocess.run([bin_dir / "pg_ctl", "-D", folder / "pg", "-m", "fast", "stop"], **run)
    shutil.rmtree(folder)


def test_an_ordinary_postgresql_serves_as_well(ordinary_server: str) -> None:
    settings = load_settings({"DATABASE_URL": ordinary_server})
    database = open_database(settings)
    store = open_store(database)
    store.write("binance", [trade(1), trade(5)])
    store.write("binance", [trade(i) for i in (2, 3, 4, 5)])
    assert audit(store)["ok"]
    assert store.open_gaps("binance", "BTCUSDT") == []
    store.close()


def shell(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "database_utils.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "DATA_DIR": str(data_dir), **environment},
    )


def test_the_shell_commands(data_dir: Path) -> None:
    made = shell(data_dir, "init")
    assert (made.returncode, made.stdout) == (0, "schema is complete\n")
    dsn = shell(data_dir, "url").stdout.strip()
    assert alive(dsn)  # it keeps running for whoever asked
    health = shell(data_dir, "health")
    assert health.returncode == 1
    assert "no daemon is running" in health.stdout
    assert shell(data_dir, "audit").returncode == 0
    prune = shell(data_dir, "prune")
    assert prune.returncode == 2
    assert prune.stderr.count("\n") == 1
    assert json.loads(shell(data_dir, "prune", "--days", "7").stdout)["trades"] == 0
    assert alive(dsn)
    assert shell(data_dir, "stop").returncode == 0
    assert not alive(dsn)
    assert "usage" in shell(data_dir, "--help").stdout
