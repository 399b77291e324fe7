"""Every fault scenario and 100 random kills; what it has proven, in a few lines. `make chaos`.

A pytest process a part, side by side (most of the time is waiting); at last the browser's hour.
One seed, one sum. Exit code 1 where anything has failed. CHAOS_SEED=N repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "faults": ["tests/ingest/test_faults.py"],
    "kills": ["tests/ingest/test_kills.py"],
    "alerts": ["tests/alerts/test_watch_alerts.py"],
    "store": ["tests/storage/test_store_machine.py"],
    "page": ["tests/dashboard/test_page_machine.py"],
    "live": ["tests/live/test_live_machine.py"],
    "process": [
        "tests/ingest/test_ingest.py",
        "tests/storage/test_database_faults.py",
        "tests/ingest/test_foreign_exchange.py",
    ],
}
ALONE = {"hour": ["tests/browser/test_browser_hour.py"]}  # needs the processor for itself


def start(name: str, files: list[str], folder: Path, seed: str) -> subprocess.Popen[bytes]:
    """One part, its output in a file of its own."""
    environment = {
        **os.environ,
        "CHAOS_SEED": seed,
        "CHAOS_TALLY": str(folder / f"{name}.json"),
    }
    with (folder / f"{name}.txt").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-m", "chaos or not chaos", *files],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )


def main() -> int:
    """Run, wait, sum up."""
    seed = os.environ.get("CHAOS_SEED") or str(random.SystemRandom().randrange(10**6))
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"CHAOS_SEED={seed} · output in {folder}", flush=True)
    began = time.monotonic()
    running = {name: start(name, files, folder, seed) for name, files in PARTS.items()}
    total: dict[str, int] = {}
    failed = False
    try:
        for name in (*PARTS, *ALONE):
            if name in ALONE:
                running[name] = start(name, ALONE[name], folder, seed)
            code = running[name].wait()
            last = (folder / f"{name}.txt").read_text(errors="replace").splitlines()[-1:]
            print(f"{name:>8} | {last[0].strip('= ') if last else 'no output'}", flush=True)
            if code:
                failed = True
                print((folder / f"{name}.txt").read_text(errors="replace")[-4000:])
            if (folder / f"{name}.json").exists():
                for key, value in json.loads((folder / f"{name}.json").read_text()).items():
                    total[key] = total.get(key, 0) + value
    finally:
        for process in running.values():
            process.terminate()
    print(
        f"scenarios run {total.get('run', 0)}, passed {total.get('passed', 0)}"
        f" · random kills {total.get('kills', 0)} · {(time.monotonic() - began) / 60:.1f} min"
        f" · repeat with CHAOS_SEED={seed}\n"
        f"trades offered {total.get('offered', 0):,} · missing {total.get('missing', 0)}"
        f" · duplicated {total.get('duplicated', 0)} · altered {total.get('altered', 0)}"
        f" · named as lost where the scenario wanted it {total.get('lost', 0)}\n"
        f"steps of machines held against their models {total.get('steps', 0):,}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
