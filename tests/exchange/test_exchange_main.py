"""The command line: the ready line, the exits, and plain words on failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from exchange.__main__ import chosen_limits, chosen_world, main, parser
from exchange.testing import spawned

pytestmark = pytest.mark.processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_cleanly(number: signal.Signals) -> None:
    with spawned("--control", "--symbols", "LTCUSDT", "--fault", "drop=0.5") as (ws, rest, process):
        assert ws.startswith("ws://127.0.0.1:")
        assert rest == ws.replace("ws", "http")
        assert httpx.get(rest + "/api/v3/ping").json() == {}
        assert httpx.get(rest + "/control").json()["drop"] == 0.5
        symbols = httpx.get(rest + "/api/v3/exchangeInfo").json()["symbols"]
        assert [s["symbol"] for s in symbols] == ["BNBUSDT", "LTCUSDT"]
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "", "one line, and nothing more"


def test_it_ends_when_its_input_ends() -> None:
    with spawned("--symbols", "LTCUSDT") as (_, _, process):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_it_ends_when_its_parent_dies() -> None:
    """A parent in between that is killed; its child holds the pipe of standard input open."""
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-m', 'exchange', '--exit-with-parent',"
        " '--symbols', 'LTCUSDT'], stdin=sys.stdin, stdout=subprocess.PIPE, text=True)\n"
        "print(p.pid, p.stdout.readline(), flush=True)\n"
        "time.sleep(60)\n"
    )
    middle = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert middle.stdin is not None
    assert middle.stdout is not None
    child = int(middle.stdout.readline().split()[0])
    middle.kill()
    middle.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        state = Path(f"/proc/{child}/stat")
        if state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break  # ended, and not yet reaped by whoever adopted it
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("it outlived its parent")
    middle.stdin.close()
    middle.stdout.close()


def test_the_same_market_after_a_kill() -> None:
    def tape() -> object:
        with spawned("--seed", "7", "--symbols", "LTCUSDT") as (_, rest, process):
            query = {"symbol": "LTCUSDT", "fromId": 400_000_000, "limit": 50}
            told = httpx.get(rest + "/api/v3/historicalTrades", params=query).json()
            process.kill()
            return told

    first = tape()
    assert first
    assert tape() == first


def test_the_truth_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--describe"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [g["group"] for g in told["groups"]] == ["majors", "alts"]
    world = chosen_world(parser().parse_args(["--generated", "50:1000", "--rate", "2"]))
    assert len(world.listings) == 56
    assert world.listings["L049USDT"].trades_per_s == 2000
    limits = chosen_limits(parser().parse_args(["--limit", "life_s=5", "--limit", "attempts=9"]))
    assert (limits.life_s, limits.attempts) == (5.0, 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fault", "nope=1"], "unknown fault 'nope'"),
        (["--limit", "nope=1"], "unknown limit 'nope'"),
        (["--symbols", "NOPE"], "unknown symbols NOPE"),
        (["--rate", "0"], "rate 0.0"),
        (["--replay", "/does/not/exist"], "No such file"),
        (["--at", "yesterday"], "yesterday"),
    ],
)
def test_a_failure_is_one_plain_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1
