"""Everything at once, as the user starts it: a free port, one log, recovery, a clean end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import server_home

ROOT = Path(__file__).parents[1]


class System:
    """A running `run.py` and its log."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.environment = {
            **os.environ, "DATA_DIR": str(data_dir), "FEED": "local",
            "SYMBOLS": "BTCUSDT,ETHUSDT", "HISTORY_HOURS": "4", **settings,
        }  # fmt: skip
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "run.py"], cwd=ROOT, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += []
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            assert self.process.poll() is None, "\n".join(self.lines[-20:])
            time.sleep(0.05)
        pytest.fail(
            f"{pattern!r} was not said within {seconds:g} s:\n" + "\n".join(self.lines[-20:])
        )

    @property
    def url(self) -> str:
        return self.wait_for(r"dashboard: (http://\S+)")[1]

    def dsn(self) -> str:
        return subprocess.run(
            [sys.executable, "database_utils.py", "url"], cwd=ROOT, env=self.environment,
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.strip()  # fmt: skip

    def query(self, text: str) -> object:
        with contextlib.closing(psycopg2.connect(self.dsn())) as connection:
            cursor = connection.cursor()
            cursor.execute(text)
            row = cursor.fetchone()
            return row[0] if row else None

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self.close()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def processes(marker: str) -> list[str]:
    """Command lines and environments are not compared: only who works in `marker`."""
    listing = subprocess.run(
        ["ps", "-wweo", "pid=,args="], capture_output=True, text=True, check=True
    )
    return [
        line for line in listing.stdout.splitlines() if marker in line and "ps -wweo" not in line
    ]


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data of the desk"
    yield folder
    subprocess.run(
        [sys.executable, "database_utils.py", "stop"], cwd=ROOT, timeout=60, check=False,
        env={**os.environ, "DATA_DIR": str(folder)},
    )  # fmt: skip
    shutil.rmtree(server_home(folder), ignore_errors=True)


def test_start_kill_everything_start_again_and_stop(data_dir: Path) -> None:
    first = System(data_dir)
    try:
        first.wait_for("dashboard: http")
        first.wait_for("connected url=ws://127.0.0.1")
        time.sleep(2)
        stored = first.query("SELECT count(*) FROM v_ticks")
        assert isinstance(stored, int)
        assert stored > 0
        home = str(server_home(data_dir))
        server = processes(home)
        assert server
        # kill -9 of everything, the database included; the children die with their parent
        first.process.kill()
        for line in server:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        first.process.wait()
    finally:
        first.close()
    second = System(data_dir)
    try:
        second.wait_for("dashboard: http")
        second.wait_for("connected url=ws://127.0.0.1")
        second.wait_for(r"alerts \|.*watching channels=none")
        time.sleep(2)
        now = second.query("SELECT count(*) FROM v_ticks")
        assert isinstance(now, int)
        assert now > stored
        assert second.query("SELECT count(*) FROM v_gaps WHERE state = 'open'") == 0
        assert second.interrupt() == 0
    finally:
        second.close()
    assert any("stopped: everything received is stored" in line for line in second.lines)
    assert any("stopped: everything evaluated is stored" in line for line in second.lines)
    assert second.lines[-1].endswith("stopped")
    assert processes(home) == []


def test_a_taken_port_is_told_and_the_next_free_one_used() -> None:
    sys.path.insert(0, str(ROOT))
    from run import free_port

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_a_bad_setting_ends_the_start_with_one_line(data_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "DATA_DIR": str(data_dir), "FEED": "magic"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "run: FEED='magic' is not usable: allowed is auto or binance or local"
    )
