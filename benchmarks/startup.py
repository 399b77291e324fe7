"""How long the parts take to be there: imports, and `make run` until a live number is on screen.

python -m benchmarks.startup [--runs 5]      Linux; the second part with a Chromium

No peer: a limit of 6 s from a warm start (data and caches are there) to the first live number.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import (
    Cell,
    Timing,
    machine,
    options,
    own_folder,
    parser,
    table,
    verdict,
)
from benchmarks.system import Tab, browser, system, url_of
from pairs.settings import ROOT

DOORS = ("ingest_websocket.py", "watch_alerts.py", "dashboard_streamlit.py", "pairs/__main__.py")
LIVE = (
    "() => /live/.test(document.querySelector('[data-testid=feed]')?.innerText)"
    " && /[0-9]/.test(document.querySelector('[data-testid=price-y] .v')?.innerText)"
)


def imports_of(path: Path) -> str:
    """The imports of a file as a program of their own: a door would do its work if imported."""
    wanted = [
        ast.unparse(node)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(wanted)


def imported(door: str, runs: int) -> list[str]:
    """One row: the time a fresh process needs for the imports, and the heaviest of them."""
    times, text = [], ""
    command = [sys.executable, "-X", "importtime", "-c", imports_of(ROOT / door)]
    plain = [sys.executable, "-c", imports_of(ROOT / door)]
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(plain, cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stderr
    taken = Timing.of(times)
    return [door, seconds(taken), heaviest(text)]


def heaviest(report: str) -> str:
    """The packages that cost most, what they import of others apart."""
    own: dict[str, float] = {}
    for line in report.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            package = parts[2].strip().split(".")[0]
            own[package] = own.get(package, 0.0) + int(parts[0]) / 1000
    most = sorted(own.items(), key=lambda item: -item[1])[:6]
    return ", ".join(f"{name} {ms:.0f} ms" for name, ms in most)


def seconds(timing: Timing) -> Cell:
    return Cell(
        f"{timing:.2f} ({timing.low:.2f}…{timing.high:.2f})",
        {"s": float(timing), "low": timing.low, "high": timing.high},
    )


def to_first_number(runs: int) -> list[list[str]]:
    """Warm starts on one data folder; a browser waits with the address."""
    said, answered, shown = [], [], []
    with own_folder() as folder, browser() as chromium:
        with system(folder) as run:
            run.wait_for("connected url=ws://")
            time.sleep(5)
        for _ in range(runs):
            with system(folder) as run:
                said.append(time.monotonic() - run.started)
                tab = Tab(chromium, url_of(run), "[data-testid=feed]")
                answered.append(time.monotonic() - run.started)
                tab.page.wait_for_function(LIVE)
                shown.append(time.monotonic() - run.started)
                tab.close()
    first = Timing.of(shown)
    return [
        ["the address is told", seconds(Timing.of(said)), ""],
        ["the first picture in the browser", seconds(Timing.of(answered)), ""],
        ["the first live number", seconds(first), verdict(first, 6, "6 s", at_most=True)],
    ]


def main() -> None:
    given = options(parser(__doc__))
    machine("streamlit", "numba", "pandas", "statsmodels", "playwright")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    table(
        "Imports of each door",
        ["door", "s", "heaviest, of their own"],
        [imported(door, given.runs) for door in DOORS],
    )
    table("Warm start: `make run` → browser", ["until", "s", "limit"], to_first_number(given.runs))


if __name__ == "__main__":
    main()
