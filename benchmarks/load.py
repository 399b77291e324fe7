"""The whole path under the load of the busiest real second: where the cores go, what grows.

python -m benchmarks.load [--seconds 60] [--tps 1650] [--tabs 2] [--refresh-ms 1000]

Linux. 1,650 trades a second over six symbols (the busiest second of the recorded days), two tabs
on the pair of one-second bars. Shares are of one core, medians of slices. With py-spy installed,
a second look says which functions they are.
"""

from __future__ import annotations

import asyncio
import collections
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import (
    Cell,
    Timing,
    machine,
    number,
    options,
    own_folder,
    parser,
    table,
    verdict,
)
from benchmarks.session import visitors
from benchmarks.system import Cost, running, shares, system, url_of

SIX = "BTCUSDT,ETHUSDT,SOLUSDT,BNBUSDT,XRPUSDT,LTCUSDT"
LIMITS = {"daemon": 0.25, "page": 0.35}
SLICES = 6
SETTLE_S = 8.0
PROFILE_S = 8
Samples = list[tuple[dict[str, float], dict[str, float]]]


async def watch(cost: Cost, seconds: float) -> Samples:
    """Shares of a core and resident MB by process, slice by slice."""
    found: Samples = []
    before, began = cost.cpu(), time.monotonic()
    for _ in range(max(SLICES, int(seconds / 60))):
        await asyncio.sleep(seconds / max(SLICES, int(seconds / 60)))
        after, now = cost.cpu(), time.monotonic()
        found.append((shares(before, after, now - began), cost.memory_mb()))
        before, began = after, now
    return found


async def under_load(
    url: str, cost: Cost, tabs: int, seconds: float
) -> tuple[Samples, dict[str, Path], float]:
    async with visitors(url, "view=Pair&bar=1s", tabs) as made:
        await asyncio.sleep(SETTLE_S)
        before, began = sum(s.refreshes for s in made), time.monotonic()
        samples = await watch(cost, seconds)
        every = (time.monotonic() - began) * tabs / (sum(s.refreshes for s in made) - before)
        profiles = {name: await profiled(cost.processes()[name]) for name in LIMITS if spy()}
    return samples, profiles, every


def spy() -> bool:
    return find_spec("py_spy") is not None or (Path(sys.executable).parent / "py-spy").exists()


async def profiled(process: psutil.Process) -> Path:
    """Stacks of a process, sampled from outside."""
    path = Path(tempfile.mkstemp(suffix=".txt")[1])
    command = [
        str(Path(sys.executable).parent / "py-spy"),
        "record",
        "--pid",
        str(process.pid),
        "--duration",
        str(PROFILE_S),
        "--rate",
        "200",
        "--format",
        "raw",
        "--gil",
        "--output",
        str(path),
    ]
    started = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    await started.wait()
    return path


def split(path: Path) -> list[tuple[str, float]]:
    """Share of the samples by the package, or file of ours, that was at work."""
    counts: collections.Counter[str] = collections.Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[_worker(stack.split(";"))] += int(count)
    path.unlink()
    whole = sum(counts.values()) or 1
    return [(name, count / whole) for name, count in counts.most_common(9)]


def _worker(frames: Sequence[str]) -> str:
    """The innermost frame, as `package` of others or `function (file)` of ours."""
    for frame in reversed(frames):
        function, _, where = frame.partition(" (")
        file = where.rpartition(":")[0] or where.rstrip(")")
        if "site-packages/" in file or file.split("/")[0] in PACKAGES:
            return file.rpartition("site-packages/")[2].split("/")[0]
        if file.endswith(".py") and "/lib/python" not in file and "<" not in file:
            ours = file.removeprefix(str(Path.cwd()) + "/")
            if "/" not in ours or ours.startswith("pairs/"):
                return f"{function} ({ours})"
    return "Python's own"


PACKAGES = {
    "streamlit",
    "pandas",
    "numpy",
    "plotly",
    "_plotly_utils",
    "sqlalchemy",
    "psycopg2",
    "websockets",
    "google",
    "starlette",
    "uvicorn",
    "msgspec",
    "httpx",
}


def report(samples: Samples, tabs: int, tps: int, every: float, refresh_ms: int) -> None:
    names = sorted(
        {name for taken, _ in samples for name in taken},
        key=lambda n: -np.median([taken.get(n, 0.0) for taken, _ in samples]),
    )
    rows = []
    for name in names:
        share = Timing.of([taken.get(name, 0.0) for taken, _ in samples])
        memory = [resident[name] for _, resident in samples if name in resident]
        grown = memory[-1] - memory[len(memory) // 2] if memory else 0.0
        rows.append(
            [
                name,
                Cell(
                    f"{share:.1%} ({share.low:.1%}…{share.high:.1%})",
                    {"share": float(share), "low": share.low, "high": share.high},
                ),
                verdict(share, LIMITS[name], f"{LIMITS[name]:.0%}", at_most=True)
                if name in LIMITS and refresh_ms >= 1000
                else "",
                number(memory[-1], 0, " MB") if memory else "",
                number(grown, 1, " MB") if memory else "",
            ]
        )
    whole = sum(float(np.median([t.get(n, 0.0) for t, _ in samples])) for n in names)
    rows.append(["all of it", number(whole * 100, 1, " %"), "", "", ""])
    table(
        f"The whole path at {tps:,} trades/s, {tabs} tabs, STREAMLIT_REFRESH_MS={refresh_ms}",
        ["process", "of one core", "limit", "memory", "grown in the second half"],
        rows,
        f"A refresh came every {every:.2f} s. Tabs without browsers: what a browser draws costs "
        "its own machine.",
    )


def measure(tps: int, tabs: int, seconds: float, refresh_ms: int) -> None:
    with (
        own_folder() as folder,
        running("-m", "exchange", "--port", "0", "--tps", str(tps), "--symbols", SIX) as exchange,
    ):
        said = exchange.wait_for(r"exchange ready (\S+) (\S+)")
        settings = {
            "BINANCE_WS_URL": said[1],
            "BINANCE_REST_URL": said[2],
            "SYMBOLS": SIX,
            "STREAMLIT_REFRESH_MS": str(refresh_ms),
        }
        with system(folder, **settings) as run:
            run.wait_for("connected url=ws://")
            cost = Cost(run, exchange, folder=folder)
            samples, profiles, every = asyncio.run(under_load(url_of(run), cost, tabs, seconds))
    report(samples, tabs, tps, every, refresh_ms)
    for name, path in profiles.items():
        rows = [[where, number(share * 100, 0, " %")] for where, share in split(path)]
        table(f"What the {name} does with its time", ["at work", "share"], rows)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=60)
    made.add_argument("--tps", type=int, default=1650)
    made.add_argument("--tabs", type=int, default=2)
    made.add_argument("--refresh-ms", type=int, default=1000)
    given = options(made)
    machine("streamlit", "websockets", "psycopg2-binary", "psutil", "py-spy")
    measure(given.tps, given.tabs, given.seconds, given.refresh_ms)


if __name__ == "__main__":
    main()
