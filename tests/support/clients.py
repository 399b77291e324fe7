"""What the tests of other people's clients share.

Each client runs with its own public options alone: addresses, timeouts, certificates. They have
an environment of their own (`make test-clients`), because their pins exclude those of the
application; where one is not installed, its tests are skipped.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from exchange.testing import spawned

MARKS = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to mend
]
DAY_MS = 86_400_000
OPTIONS = ("--symbols", "ETHUSDT,LTCUSDT")  # ETHUSDT brings BTCUSDT along, LTCUSDT brings BNBUSDT
INTERVALS = [
    "1m",
    "3m",
    "5m",
    "15m",
    "30m",
    "1h",
    "2h",
    "4h",
    "6h",
    "8h",
    "12h",
    "1d",
    "3d",
    "1w",
    "1M",
]


def client(name: str) -> ModuleType:
    """A client's module, or a skip that says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0] and not name.startswith(f"{error.name}."):
            raise
        pytest.skip(f"{name} is not installed here: `make test-clients` makes its environment")


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """`python -m exchange`: its WebSocket and its REST address."""
    with spawned(*OPTIONS) as (ws, rest, _):
        yield ws, rest


def chained(events: list[dict[str, Any]], previous: str = "") -> None:
    """Depth events follow each other without a hole, by U and u or by `pu`."""
    assert len(events) >= 4
    for before, after in pairwise(events):
        assert after[previous] == before["u"] if previous else after["U"] == before["u"] + 1


def opens_are_aligned(interval: str, opens: list[int]) -> None:
    """Weeks open on Mondays, months on their first day, the others at multiples since 1970."""
    for open_ms in opens:
        at = time.gmtime(open_ms / 1000)
        if interval == "1w":
            assert (at.tm_wday, open_ms % DAY_MS) == (0, 0)
        elif interval == "1M":
            assert (at.tm_mday, open_ms % DAY_MS) == (1, 0)
        else:
            unit = {"m": 60_000, "h": 3_600_000, "d": DAY_MS}[interval[-1]]
            assert open_ms % (int(interval[:-1]) * unit) == 0
