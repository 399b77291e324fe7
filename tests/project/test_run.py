"""Everything at once, as the user starts it: a free port, one log, recovery, a clean end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import eventually
from tests.support.machine import server_home
from tests.support.running import ROOT, System, processes

pytestmark = pytest.mark.processes


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data of the desk"
    yield folder
    subprocess.run(
        [sys.executable, "database_utils.py", "stop"],
        cwd=ROOT,
        timeout=60,
        check=False,
        env={**os.environ, "DATA_DIR": str(folder)},
    )
    shutil.rmtree(server_home(folder), ignore_errors=True)


def test_start_kill_everything_start_again_and_stop(data_dir: Path) -> None:
    first = System(data_dir)
    try:
        first.wait_for("dashboard: http")
        first.wait_for("connected url=ws://127.0.0.1")
        eventually(lambda: first.query("SELECT count(*) FROM v_ticks"), "trades")
        stored = first.query("SELECT count(*) FROM v_ticks")
        assert isinstance(stored, int)
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
        eventually(lambda: "dashboard: http" in second.lines[-1], "the address as the last line")
        assert not any("You can now view" in line for line in second.lines)
        more = f"SELECT count(*) > {stored} FROM v_ticks"
        eventually(lambda: second.query(more), "more trades")
        no_gap = "SELECT count(*) = 0 FROM v_gaps WHERE state = 'open'"
        eventually(lambda: second.query(no_gap), "no open gap")
        assert second.interrupt() == 0
    finally:
        second.close()
    assert any("stopped: everything received is stored" in line for line in second.lines)
    assert any("stopped: everything evaluated is stored" in line for line in second.lines)
    assert second.lines[-1].endswith("stopped")
    assert processes(home) == []


@pytest.mark.parametrize(
    ("environment", "terminal", "opened"),
    [
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0"}, False, False),  # a service
        ({"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, True, False),
        ({"BROWSER": "firefox"}, False, True),
        ({}, True, False),
    ],
)
def test_a_browser_is_opened_where_somebody_sits_before_a_screen(
    environment: dict[str, str], terminal: bool, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairs.__main__ import desktop

    monkeypatch.setattr(sys, "platform", "linux")
    assert desktop(environment, terminal) == opened


def test_a_taken_port_is_told_and_the_next_free_one_used() -> None:
    sys.path.insert(0, str(ROOT))
    from pairs.__main__ import free_port

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_a_bad_setting_ends_the_start_with_one_line(data_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pairs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DATA_DIR": str(data_dir), "FEED": "magic"},
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "run: FEED='magic' is not usable: allowed is auto or binance or local"
    )
