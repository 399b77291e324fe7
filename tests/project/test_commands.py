"""Every command, every kind of failure: one plain line on stderr, an exit code that says whether
it is worth another try, no traceback, no secret."""

from __future__ import annotations

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pairs.messages import CANNOT, NOT_NOW
from pairs.settings import SettingsError, read_environment

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
WITH_SETTINGS = ["ingest_websocket", "watch_alerts", "run", "database_utils", "backtest"]
COMMANDS = [*WITH_SETTINGS, "exchange"]
MODULES = {"exchange": "exchange.__main__", "run": "pairs.__main__"}  # the others: their name
ARGUMENTS = {
    "database_utils": ["health"],
    "backtest": ["--venue", "local", "--y", "ETHUSDT", "--x", "BTCUSDT"],
}
Ends = Callable[..., tuple[int, str]]
AT_ONCE = ["database_utils", "backtest"]  # an answer is waited for: they do not wait
WAITING = ["ingest_websocket", "watch_alerts", "run"]
SECRET = "hunter22"


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ends]:
    """Run a command's `main` in this process: its exit code and the one line that it says."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        for key, value in {"FEED": "local", **environment}.items():
            monkeypatch.setenv(key, value)
        door = importlib.import_module(MODULES.get(name, name))
        try:
            code = door.main([*ARGUMENTS.get(name, []), *arguments])
        except SystemExit as ended:
            code = int(str(ended.code))
        told = capsys.readouterr()
        return code, one(told.err, told.out)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def one(stderr: str, stdout: str = "") -> str:
    """The one line on stderr, which is fit to be shown."""
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert ": " in lines[0]
    assert lines[0].isprintable()
    assert SECRET not in stdout + stderr
    return lines[0]


def process(name: str, **environment: str) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    file = ["-m", MODULES[name].split(".")[0]] if name in MODULES else [f"{name}.py"]
    return subprocess.Popen(
        [sys.executable, *file, *ARGUMENTS.get(name, [])],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "FEED": "local", **environment},
        start_new_session=True,
    )


def end(running: subprocess.Popen[str], seconds: float = 90) -> tuple[str, str]:
    """What it said on stdout and stderr, once it has ended."""
    try:
        return running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        raise


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_is_not_known(name: str, ends: Ends) -> None:
    code, said = ends(name, "--no-such-option", "\x1b[2Kx")
    assert code == CANNOT
    assert "--no-such-option" in said
    assert said.endswith("see --help")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("FLUSH_MS", "soon", "FLUSH_MS='soon' is not usable"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}@host:port/db", "its port is no number"),
        (
            "DATABASE_URL",
            f"host=db password={SECRET} b",
            "no list of key=value that libpq can read",
        ),
        ("BINANCE_WS_URL", f"http://me:{SECRET}@host", "BINANCE_WS_URL"),
        ("ALERT_URLS", f"{SECRET}", "ALERT_URLS"),
    ],
)
@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_a_setting_that_cannot_be_used(
    name: str, setting: str, value: str, words: str, ends: Ends
) -> None:
    code, said = ends(name, **{setting: value})
    assert code == CANNOT
    assert words in said


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_a_data_folder_that_cannot_be(name: str) -> None:
    running = process(name, DATA_DIR="/dev/null/data")
    out, err = end(running)
    assert "set DATA_DIR to a folder that may be written" in one(err, out)
    assert running.returncode == CANNOT


def test_a_database_that_is_away() -> None:
    """What is asked answers at once; what runs for days waits for it, not for ever, and says so."""
    away = {"DATABASE_URL": f"postgresql://me:{SECRET}@127.0.0.1:9/db"}
    waiting = {name: process(name, **away) for name in WAITING}
    for name in AT_ONCE:
        asked = process(name, **away)
        out, err = end(asked)
        assert "cannot use the database" in one(err, out)
        assert asked.returncode == CANNOT
    assert all(running.poll() is None for running in waiting.values())
    for running in waiting.values():
        out, err = end(running)
        assert "Connection refused" in one(err, out)
        assert out.count("waiting for it, 30 s at most") == 1
        assert running.returncode == NOT_NOW


@pytest.mark.parametrize("name", ["ingest_websocket", "watch_alerts", "database_utils", "backtest"])
def test_a_database_that_refuses(name: str, database_url: str, ends: Ends) -> None:
    """Waiting would not help: it is told at once, by what runs for days too."""
    head, tail = database_url.split("://")[1].split("@")
    wrong = f"postgresql://{head.split(':')[0]}:{SECRET}@{tail}"
    for url, words in (
        (wrong, "password authentication failed"),
        (database_url.rsplit("/", 1)[0] + "/none", 'database "none" does not exist'),
    ):
        code, said = ends(name, DATABASE_URL=url)
        assert code == CANNOT
        assert words in said


def test_an_environment_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes("SYMBOLS=ÄÖ".encode("latin-1"))
    with pytest.raises(SettingsError, match="cannot be read as UTF-8"):
        read_environment(file)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_port_that_is_taken(taken_port: int, database_url: str, ends: Ends) -> None:
    code, said = ends("ingest_websocket", METRICS_PORT=str(taken_port), DATABASE_URL=database_url)
    assert code == CANNOT
    assert f"METRICS_PORT={taken_port} cannot be used" in said
    code, said = ends("exchange", "--port", str(taken_port))
    assert code != 0
    assert str(taken_port) in said


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("run", ["--port", "70000"], "'70000' is not usable: allowed is 1 to 65535"),
        ("run", ["--port", "-1"], "--port"),
        ("exchange", ["--port", "70000"], "--port"),
        ("exchange", ["--port", "x"], "--port"),
        ("exchange", ["--host", "no.such.host.invalid"], "no.such.host.invalid"),
        ("exchange", ["--replay", "/does/not/exist"], "/does/not/exist"),
        ("exchange", ["--replay", "/"], "/"),
        ("exchange", ["--rate", "nan"], "rate"),
        ("exchange", ["--generated", "x:y"], "generated"),
        ("exchange", ["--at", "yesterday"], "yesterday"),
        ("exchange", ["--at", "9999-12-31"], "at"),
        ("exchange", ["--ahead", "1e30"], "ahead"),
        ("exchange", ["--tps", "inf"], "tps"),
        ("exchange", ["--speed", "fast", "--replay", __file__], "speed"),
        ("exchange", ["--replay", __file__], "test_commands.py"),
        ("exchange", ["--fault", "drop"], "drop"),
        ("exchange", ["--limit", "life_s=x"], "life_s"),
        ("exchange", ["--symbols", "NO\x1b[2K\nPE"], "unknown symbols"),
        ("exchange", ["--seed", "1.5"], "--seed"),
        ("exchange", ["--history-days", "-1"], "history"),
        ("backtest", ["--y-csv", "/none.csv"], "two legs"),
        ("backtest", ["--bar", "fortnight"], "fortnight"),
    ],
)
def test_arguments_that_cannot_be_used(
    name: str, arguments: list[str], words: str, ends: Ends
) -> None:
    code, said = ends(name, *arguments)
    assert code != 0
    assert words in said


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(["database_utils.py"], ["health"]), (["-m", "exchange"], ["--describe"])],
)
@pytest.mark.parametrize("sink", ["a full disk", "a closed pipe"])
def test_an_output_that_takes_nothing(
    command: list[str], arguments: list[str], sink: str, database_url: str
) -> None:
    if sink == "a full disk":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        read, out = os.pipe()
        os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, *command, *arguments],
            cwd=ROOT,
            stdout=out,
            text=True,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
            env={**os.environ, "DATABASE_URL": database_url},
        )
    finally:
        os.close(out)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert "Traceback" not in done.stderr


def catches_interruptions(pid: int) -> bool:
    """Whether a SIGINT would reach Python: it does from the interpreter's start on."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interruption_at_any_moment_of_the_start_leaves_no_traceback(name: str) -> None:
    for after in (0.0, 0.3, 1.0):
        running = process(name, DATABASE_URL="postgresql://127.0.0.1:9/db")
        for wanted in (True, False):  # the interpreter has begun; our first line is done
            deadline = time.monotonic() + 20
            while catches_interruptions(running.pid) != wanted and time.monotonic() < deadline:
                time.sleep(0.001)
        time.sleep(after)
        running.send_signal(signal.SIGINT)
        _, said = end(running, 40)
        assert "Traceback" not in said, f"{name} after {after} s"
        assert "KeyboardInterrupt" not in said
        assert len(said.splitlines()) <= 1, said
