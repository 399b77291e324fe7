"""Whether anything grows while the page stays open: an hour at the fastest refresh.

python -m benchmarks.hour [--minutes 60] [--refresh-ms 250]      Linux, with a Chromium

The whole system at the local exchange's usual rate, one tab on the pair and one on the market,
both of one-second bars. A tab is measured after its garbage was collected, so that what is left
is held.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import Cell, machine, number, options, own_folder, parser, table, verdict
from benchmarks.heap import held
from benchmarks.system import Cost, Tab, browser, system, url_of

VIEWS = ("Pair", "Market")
SETTLE_S = 60.0
LIMIT = 0.10  # of what it held, over the second half of an hour
Sample = dict[str, float]


def sample(cost: Cost, tabs: Sequence[Tab]) -> Sample:
    resident = {f"{name}, MB": mb for name, mb in cost.memory_mb().items()}
    for view, tab in zip(VIEWS, tabs, strict=True):
        heap = held(tab.page)
        resident |= {
            f"{view} tab, JavaScript MB": heap.mb,
            f"{view} tab, DOM nodes": heap.nodes,
            f"{view} tab, listeners": heap.listeners,
        }
    return resident


def row(name: str, samples: Sequence[Sample]) -> list[str]:
    values = np.array([taken[name] for taken in samples])
    half = values[len(values) // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0] * (len(half) - 1)
    grown = slope / half.mean()
    digits = 1 if name.endswith("MB") else 0
    return [
        name,
        *(number(values[k], digits) for k in (0, len(values) // 2, -1)),
        number(values.max(), digits),
        Cell(f"{grown:+.1%}", grown),
        verdict(grown, LIMIT, f"{LIMIT:.0%}", at_most=True),
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--minutes", type=float, default=60)
    made.add_argument("--refresh-ms", type=int, default=250)
    given = options(made)
    machine("streamlit", "plotly", "playwright", "psutil")
    with (
        own_folder() as folder,
        system(folder, STREAMLIT_REFRESH_MS=str(given.refresh_ms)) as run,
        browser() as chromium,
    ):
        run.wait_for("ETHUSDT: .* bars of 1 s")
        tabs = [
            Tab(chromium, f"{url_of(run)}/?view={view}&bar=1s", ".pairs-chart .main-svg")
            for view in VIEWS
        ]
        cost = Cost(run, folder=folder)
        tabs[0].page.wait_for_timeout(SETTLE_S * 1000)
        samples = [sample(cost, tabs)]
        deadline = time.monotonic() + given.minutes * 60
        sent = [tab.sent for tab in tabs]
        began = time.monotonic()
        while time.monotonic() < deadline:
            tabs[0].page.wait_for_timeout(max(15.0, given.minutes) * 1000)
            samples.append(sample(cost, tabs))
        refreshes = [tab.sent - before for tab, before in zip(tabs, sent, strict=True)]
        taken = time.monotonic() - began
    table(
        f"An open page over {taken / 60:.0f} minutes at a refresh every {given.refresh_ms} ms",
        ["what", "at the start", "half way", "at the end", "most", "second half", "limit"],
        [row(name, samples) for name in samples[0]],
        f"{sum(refreshes):,} refreshes of {len(tabs)} tabs. The second half by the slope of a line "
        "through it, as a share of what was held.",
    )


if __name__ == "__main__":
    main()
