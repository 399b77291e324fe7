"""The whole system as a process of its own, for tests that look at it from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest

ROOT = Path(__file__).parents[2]


class System:
    """A running `pairs/__main__.py` and its log."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.environment = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            "FEED": "local",
            "SYMBOLS": "BTCUSDT,ETHUSDT",
            "HISTORY_HOURS": "4",
            **settings,
        }
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pairs"],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
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
            [sys.executable, "database_utils.py", "url"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()

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
