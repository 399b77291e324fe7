"""Every benchmark, one after the other, into benchmarks/RESULTS.md. `make bench` calls this.

python -m benchmarks [--only store bars …] [--output FILE]

A benchmark that fails is named in the file and ends the run with exit code 1; the others still
run. One that needs what this machine lacks (a browser, Linux) says so in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import hardware, markdown

# The questions, in the order of the path of a trade. `memory` takes minutes, `hour` an hour, and
# both are run alone.
NAMES = (
    "store",
    "readback",
    "latency",
    "bars",
    "kalman",
    "rolling",
    "unitroot",
    "market_scan",
    "backtest",
    "alerts",
    "screen",
    "page",
    "load",
    "startup",
    "scale",
    "limits",
)
# Shorter than alone, so that all of it takes ten minutes.
ARGUMENTS = {
    "latency": ["--seconds", "10", "--tps", "1650"],
    "alerts": ["--seconds", "8", "--rules", "50"],
    "screen": ["--seconds", "16"],
    "load": ["--seconds", "20"],
}
OUTPUT = Path(__file__).with_name("RESULTS.md")


@dataclass
class Done:
    """What one benchmark printed, or why it did not."""

    name: str
    tables: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failure: str = ""
    seconds: float = 0.0


def run(name: str) -> Done:
    done, began = Done(name), time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json", *ARGUMENTS.get(name, [])],
        capture_output=True,
        text=True,
        check=False,
    )
    done.seconds = time.monotonic() - began
    for line in finished.stdout.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if "title" in found:
                done.tables.append(found)
            done.versions |= found.get("versions", {})
            done.missing += found.get("missing", [])
    if finished.returncode:
        last = (finished.stderr.strip() or "no message").splitlines()[-1]
        done.failure = f"exit code {finished.returncode}: {last}"
    return done


def cells(table: dict[str, Any]) -> list[list[str]]:
    return [[cell["text"] for cell in row] for row in table["rows"]]


def ratios(every: list[Done]) -> list[list[str]]:
    """Each ratio to a peer, from every table that has one."""
    rows = []
    for done in every:
        for table in done.tables:
            head = table["head"]
            if "peer" in head and "ratio" in head:
                what, peer, ratio = (head.index(name) for name in (head[0], "peer", "ratio"))
                rows += [
                    [f"{table['title']}: {row[what]}", row[peer], row[ratio]]
                    for row in cells(table)
                ]
    return rows


def verdicts(every: list[Done]) -> tuple[int, list[str]]:
    """How many limits are met, and where one is not."""
    met, missed = 0, []
    for done in every:
        for table in done.tables:
            for row in cells(table):
                met += sum(cell.endswith(" met") for cell in row)
                missed += [
                    f"{table['title']}: {row[0]}: {cell}" for cell in row if cell.endswith("MISSED")
                ]
    return met, missed


def report(every: list[Done], load: tuple[float, float], began: datetime) -> str:
    machine, versions = hardware(), {}
    for done in every:
        versions |= done.versions
    missing = sorted({name for done in every for name in done.missing})
    met, missed = verdicts(every)
    lines = [
        "# Results of `make bench`",
        "",
        f"{began:%Y-%m-%d %H:%M} UTC · {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB · {machine['system']} · Python {machine['python']}",
        f"Load average {load[0]:.1f} before, {load[1]:.1f} after; "
        f"{sum(done.seconds for done in every):.0f} s in all.",
        "",
        "Both sides of a ratio were measured in the same run, A B A B; figures are medians, in "
        "brackets fastest … slowest. Results were found to agree before time was taken. Trust the "
        "ratios: the absolutes are this machine's.",
        "",
        f"{met} limits met, {len(missed)} missed" + (":" if missed else "."),
        *(f"- {text}" for text in missed),
        "",
        "Versions: " + " · ".join(f"{name} {versions[name]}" for name in sorted(versions)),
        "",
    ]
    lines += [f"MISSING PEER: {name}" for name in missing] + [""] * bool(missing)
    lines += [f"DID NOT RUN: {d.name} ({d.failure})" for d in every if d.failure]
    parts = [markdown("Ratios", ["work", "peer", "ratio"], ratios(every), "")]
    for done in every:
        parts += [markdown(t["title"], t["head"], cells(t), t["note"]) for t in done.tables]
    return "\n".join(lines) + "\n" + "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    began, before = datetime.now(UTC), os.getloadavg()[0]
    every = []
    for name in given.only:
        print(f"{name} …", end=" ", flush=True)
        every.append(run(name))
        print(f"{every[-1].seconds:.0f} s {every[-1].failure}", flush=True)
    given.output.write_text(report(every, (before, os.getloadavg()[0]), began))
    print(given.output.read_text().partition("### Ratios")[0])
    print(f"written to {given.output}")
    return int(any(done.failure for done in every))


if __name__ == "__main__":
    sys.exit(main())
