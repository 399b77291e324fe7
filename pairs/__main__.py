"""Everything at once: PostgreSQL, daemon, page and alerts, with one log. `make run` calls this.

Ctrl-C stops all of it cleanly. A process that dies is started again.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Ctrl-C while the modules load: an end without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pairs.messages import (
    CANNOT,
    NOT_NOW,
    exit_code,
    failed,
    printable,
    watch_uncaught,
    without_secrets,
)
from pairs.settings import ROOT, Parser, Settings, SettingsError, load_settings
from pairs.storage.database import Database, StoreError, open_database, open_patiently

PORT = 8501
STOP_S = 20.0
QUIET_S = 1.5  # the log has come to rest
SETTLED_S = 20.0  # but nobody waits longer for the address than that
HOPELESS_S = 30.0  # a process that ends so soon with CANNOT would do so for ever
LONGEST_WAIT_S = 30.0
PR_SET_PDEATHSIG = 1
COLOURS = {"run": "", "ingest": "\033[36m", "page": "\033[35m", "alerts": "\033[33m"}


_said_at = 0.0  # when the log had its last line


def say(name: str, text: str) -> None:
    """One line of the common log, whatever a process has written."""
    global _said_at  # noqa: PLW0603 - there is one log
    _said_at = time.monotonic()
    colour = COLOURS.get(name, "") if sys.stdout.isatty() else ""
    end = "\033[0m" if colour else ""
    print(f"{colour}{name:>6} |{end} {printable(without_secrets(text))}", flush=True)


def free_port(wanted: int) -> int:
    """`wanted` or the next free port after it; says so where it is taken."""
    for port in range(wanted, min(wanted + 100, 65_536)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port != wanted:
                say("run", f"port {wanted} is taken: using {port}")
            return port
    raise StoreError(f"no free port between {wanted} and {wanted + 99}: give --port")


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, not after a fork


def _die_with_parent() -> None:
    """On Linux the kernel ends the child when this process is killed. With SIGKILL: nobody is
    left to read what a graceful end would say, and every child is built to be killed."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Child:
    """One process of the system, its log lines prefixed with its name."""

    name: str
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    wait_s: float = 0.5
    due: float | None = None  # when it is started again, once it has ended
    spoke: bool = False  # whether it has said anything yet

    def start(self) -> None:
        self.started, self.due = time.monotonic(), None
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            bufsize=1,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call into libc, no locks
        )
        threading.Thread(target=self._relay, args=(self.process,), daemon=True).start()

    def _relay(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                if line.strip():
                    say(self.name, line.rstrip())
                    self.spoke = True

    @property
    def ended(self) -> int | None:
        """The exit code once the process has ended."""
        return self.process.poll() if self.process is not None else None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, timeout: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            say("run", f"{self.name} does not stop: killing it")
            self.process.kill()
            self.process.wait()


def children(port: int) -> list[Child]:
    """The daemon, the page and the watcher of the alerts."""
    python = [sys.executable, "-u"]
    # Small linear algebra runs slower on many threads than on one.
    quiet = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    return [
        Child("ingest", [*python, "ingest_websocket.py"], quiet),
        Child(
            "page",
            [
                *python,
                "-m",
                "streamlit",
                "run",
                "dashboard_streamlit.py",
                f"--server.port={port}",
                "--server.scriptHealthCheckEnabled=true",
                "--logger.hideWelcomeMessage=true",
            ],
            {**quiet, "STREAMLIT_SERVER_HEADLESS": "true"},
        ),
        Child("alerts", [*python, "watch_alerts.py"], quiet),
    ]


def wait_for_page(port: int, child: Child, stop: threading.Event, seconds: float = 60) -> bool:
    """True once the page's port answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.ended is None and not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        stop.wait(0.1)
    return False


def warm_page(port: int) -> None:
    """Let the page run once with nobody looking: modules, kernels and connections are loaded
    before the first visitor comes. Whether it works is the page's own affair."""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(
            f"http://127.0.0.1:{port}/_stcore/script-health-check", timeout=60
        ) as answer,
    ):
        answer.read()


def desktop(environment: Mapping[str, str], terminal: bool) -> bool:
    """Whether a browser is to be opened: where somebody sits before a screen, or names one."""
    if environment.get("BROWSER"):
        return True
    screen = sys.platform == "darwin" or any(
        environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return terminal and screen and not environment.get("SSH_CONNECTION")


def open_browser(url: str) -> None:
    """Show the page, beside everything else: a browser may take its time."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def tell_address(url: str, stop: threading.Event, begun: Child) -> None:
    """The address as the last line: once `begun` has spoken and the log is quiet, or soon."""
    told = f"dashboard: {url}   (Ctrl-C stops everything)"
    say("run", told)

    def again() -> None:
        wait_while(lambda: not begun.spoke, stop, SETTLED_S)
        wait_while(lambda: time.monotonic() - _said_at < QUIET_S, stop, SETTLED_S)
        if not stop.is_set():
            say("run", told)

    threading.Thread(target=again, daemon=True).start()


def wait_while(busy: Callable[[], bool], stop: threading.Event, seconds: float) -> None:
    """Wait while something is busy, so many seconds at most, or until told to stop."""
    deadline = time.monotonic() + seconds
    while busy() and time.monotonic() < deadline and not stop.wait(0.1):
        pass


def watch(running: list[Child], stop: threading.Event) -> int:
    """Start ended processes again until told to stop; 1 where one can never run as configured.
    Each has its own waits: one that cannot run now keeps no other from being started."""
    while not stop.wait(0.5):
        for child in running:
            code = child.ended
            if code is None:
                continue
            if child.due is None:
                lived = time.monotonic() - child.started
                if code == CANNOT and lived < HOPELESS_S:
                    say("run", f"{child.name} cannot run as configured (see above): stopping")
                    return 1
                child.wait_s = 0.5 if lived > 60 else min(LONGEST_WAIT_S, child.wait_s * 2)
                child.due = time.monotonic() + child.wait_s
                why = "cannot run now (see above)" if code == NOT_NOW else f"ended with {code}"
                say("run", f"{child.name} {why}: again in {child.wait_s:g} s")
            elif time.monotonic() >= child.due:
                child.start()
    return 0


class _ToldToStopError(Exception):
    """Ctrl-C while something is waited for."""


def run(settings: Settings, wanted_port: int, *, browser: bool = False) -> int:
    """Start everything, wait for Ctrl-C, stop everything; the exit code. `browser`: show it."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise _ToldToStopError

    port = free_port(wanted_port)
    running = children(port)
    ingest, page, alerts = running
    database: Database | None = None
    try:
        page.start()  # it loads while the database starts, which it needs at the first visit
        say("run", "starting PostgreSQL" if settings.database_url is None else "using DATABASE_URL")
        database = open_database(settings)
        open_patiently(database, lambda text: say("run", text), pause).close()
        say("run", "starting the ingestion daemon and the dashboard")
        ingest.start()
        if wait_for_page(port, page, stop):
            warming = threading.Thread(target=warm_page, args=(port,), daemon=True)
            warming.start()
            url = f"http://127.0.0.1:{port}"
            tell_address(url, stop, alerts)
            if browser:
                open_browser(url)
            wait_while(warming.is_alive, stop, 10.0)
        if not stop.is_set():
            alerts.start()  # last: the page has the processor first, nobody waits for this one
        return watch(running, stop)
    except _ToldToStopError:
        return 0
    finally:
        say("run", "stopping")
        for child in running:
            child.stop()
        deadline = time.monotonic() + STOP_S
        for child in running:
            child.wait(max(0.1, deadline - time.monotonic()))
        if database is not None:
            database.stop()
        say("run", "stopped")


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not usable: allowed is 1 to 65535")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; failures are one line on stderr."""
    parser = Parser(description="PostgreSQL, daemon, dashboard and alerts in one.")
    parser.add_argument(
        "--port", type=_port, default=PORT, help=f"of the dashboard (default {PORT})"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="on a desktop too: print the address alone"
    )
    arguments = parser.parse_args(argv)
    browser = not arguments.no_browser and desktop(os.environ, sys.stdout.isatty())
    try:
        return run(load_settings(), arguments.port, browser=browser)
    except (SettingsError, StoreError, OSError) as error:
        failed("run", error)
        return exit_code(error)


if __name__ == "__main__":
    watch_uncaught()
    sys.exit(main())
