"""The whole running system under measurement: its processes, their cost, and tabs of a browser."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pairs.settings import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# What each process of the system is called here, by a word of its command line.
NAMES = {
    "ingest_websocket.py": "daemon",
    "dashboard_streamlit.py": "page",
    "usual_page.py": "usual page",
    "watch_alerts.py": "watcher",
    "exchange": "exchange",
    "pairs": "run",
}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
]
TIMEOUT_MS = 120_000


class Running:
    """A process of ours and what it says."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.lines: list[str] = []
        self.started = time.monotonic()
        self.environment = {**os.environ, **environment}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        if self.process.stdout is not None:
            for line in self.process.stdout:
                self.lines.append(line.rstrip())

    def wait_for(self, pattern: str, seconds: float = 90) -> re.Match[str]:
        """The first line that matches; ends the program where none comes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            time.sleep(0.01)
        sys.exit(f"{pattern!r} was not said:\n" + "\n".join(self.lines[-20:]))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def running(*command: str, **environment: str) -> Iterator[Running]:
    made = Running(*command, **environment)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def system(folder: Path, **settings: str) -> Iterator[Running]:
    """`python -m pairs` on a data folder, with the local exchange unless told otherwise."""
    defaults = {"FEED": "local", "SYMBOLS": "BTCUSDT,ETHUSDT", "HISTORY_HOURS": "1"}
    environment = {**defaults, "DATA_DIR": str(folder), **settings}
    with running("-m", "pairs", "--port", "8601", **environment) as made:
        made.wait_for(r"dashboard: http://\S+")
        yield made


def url_of(run: Running) -> str:
    return run.wait_for(r"dashboard: (http://\S+)")[1]


def server_home(folder: Path) -> Path:
    """Where the server of a data folder really lives: elsewhere where root runs it."""
    moved = folder / "location.txt"
    return Path(moved.read_text().strip()) if moved.exists() else folder / "postgres"


# -- what the processes cost


class Cost:
    """Processor seconds and memory of every process under `roots`, and of a database server."""

    def __init__(self, *roots: Running, folder: Path) -> None:
        self.roots = [psutil.Process(root.process.pid) for root in roots]
        pid = (server_home(folder) / "pg" / "postmaster.pid").read_text().split()[0]
        self.server = psutil.Process(int(pid))

    def processes(self) -> dict[str, psutil.Process]:
        """Ours by name (one each)."""
        found = {}
        for root in self.roots:
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    command = " ".join(process.cmdline())
                    name = next((n for word, n in NAMES.items() if word in command), "other")
                    found.setdefault(name, process)
        return found

    def cpu(self) -> dict[str, float]:
        """Seconds of a core used so far; PostgreSQL's by whose connections it served."""
        found: dict[str, float] = {}
        ports: dict[int, str] = {}
        for name, process in self.processes().items():
            with contextlib.suppress(psutil.Error):
                found[name] = _seconds(process)
                for link in process.net_connections(kind="tcp"):
                    ports[link.laddr.port] = name
        for backend in self.server.children():
            with contextlib.suppress(psutil.Error):
                links = backend.net_connections(kind="tcp")
                whose = next(
                    (ports[x.raddr.port] for x in links if x.raddr and x.raddr.port in ports),
                    "itself",
                )
                name = f"PostgreSQL for {whose}"
                found[name] = found.get(name, 0.0) + _seconds(backend)
        return found

    def memory_mb(self) -> dict[str, float]:
        """Resident memory by name."""
        found = {}
        for name, process in self.processes().items():
            with contextlib.suppress(psutil.Error):
                found[name] = process.memory_info().rss / 2**20
        return found


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def shares(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    """Of one core, by name, between two looks."""
    return {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}


# -- a browser


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Headless Chromium; says what is missing where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        sys.exit("no Chromium on the PATH: this needs one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield made
        finally:
            made.close()


class Tab:
    """A tab, and what goes over its socket: bytes received, messages sent, refreshes seen."""

    def __init__(self, browser: Browser, url: str, ready: str, *, counter: str = "") -> None:
        self.received = self.sent = 0
        self._counter = counter
        started = time.monotonic()
        self.page: Page = browser.new_page(viewport={"width": 1440, "height": 900})
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("websocket", self._watch)
        self.page.goto(url)
        self.page.wait_for_selector(ready)
        self.opened_s = time.monotonic() - started

    def _watch(self, socket: Any) -> None:
        socket.on("framereceived", self._receive)
        socket.on("framesent", self._send)

    def _receive(self, payload: str | bytes) -> None:
        self.received += len(payload)

    def _send(self, payload: str | bytes) -> None:
        self.sent += 1

    def refreshes(self, boards: int = 2) -> float:
        """So far: by the page's own count, or by what its `boards` fragments asked for."""
        if self._counter:
            return float(self.page.locator(self._counter).inner_text())
        return self.sent / boards

    def close(self) -> None:
        self.page.close()


@contextlib.contextmanager
def tabs(count: int, open_one: Callable[[], Tab]) -> Iterator[list[Tab]]:
    made: list[Tab] = []
    try:
        while len(made) < count:
            made += [open_one()]
        yield made
    finally:
        for tab in made:
            tab.close()


def dsn_of(run: Running) -> str:
    """The database that a started `python -m pairs` uses."""
    return subprocess.run(
        [sys.executable, "database_utils.py", "url"],
        cwd=ROOT,
        text=True,
        check=True,
        capture_output=True,
        env=run.environment,
    ).stdout.strip()
