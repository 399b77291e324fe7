"""The clocks that times are held against: this machine's, and the exchange's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

AHEAD_US = 10_000_000  # of the exchange's clock: further ahead no trade of it can be
BEHIND_US = 3_600_000_000  # of the trade before it: a later id is not that much older
FRESH_US = 2_000_000  # so long the exchange's last word on the time is not asked for again
LEADS = 101  # trades whose times tell the exchange's clock where it does not
ENOUGH = 21

_STARTED_US = time.time_ns() // 1000 - time.monotonic_ns() // 1000


def steady_us() -> int:
    """The clock that receipts are stamped by: this machine's at the start, counted on from there
    whoever sets it. The store turns it into the database's."""
    return _STARTED_US + time.monotonic_ns() // 1000


class ExchangeClock:
    """Where the exchange's clock stands, by its own word; where it says nothing, by what most of
    its trades agree on. `now_us` is the clock of the receipts."""

    def __init__(self, now_us: Callable[[], int] = steady_us) -> None:
        self._now_us = now_us
        self._ahead_us: int | None = None  # of ours
        self._told_at_us = 0
        self._leads: deque[int] = deque(maxlen=LEADS)

    def told(self, exchange_us: int) -> None:
        """The exchange has said what time it is."""
        self._told_at_us = self._now_us()
        self._ahead_us = exchange_us - self._told_at_us

    def heard(self, lead_us: int) -> None:
        """A trade's time was that far ahead of its receipt."""
        self._leads.append(lead_us)

    @property
    def due(self) -> bool:
        """Whether it is worth asking the exchange again."""
        return self._ahead_us is None or self._now_us() - self._told_at_us >= FRESH_US

    @property
    def known(self) -> bool:
        """Whether anything but this machine's own clock has told the time."""
        return self._ahead_us is not None or len(self._leads) >= ENOUGH

    def reached_us(self, at_us: int) -> int:
        """What ours or the exchange's clock has reached at most when ours stood at `at_us`: the
        exchange prints nothing later, unless it is wrong itself."""
        return at_us + max(0, self._lead_us())

    def now_us(self) -> int:
        """The exchange's time now, as far as it is known; else ours."""
        return self._now_us() + self._lead_us()

    def _lead_us(self) -> int:
        """By how much it is ahead of ours."""
        if self._ahead_us is not None:
            return self._ahead_us
        return int(median(self._leads)) if len(self._leads) >= ENOUGH else 0


def impossible_time(ts_us: int, reached_us: int, newest_us: int | None) -> str:
    """Why a trade cannot be of that time; empty where it can. `reached_us` is where the clocks
    stood when it came, `newest_us` the time of the trade before it by id, where one is known."""
    if ts_us > reached_us + AHEAD_US:
        ahead_s = (ts_us - reached_us) // 1_000_000
        return f"trade time {ts_us} us is {ahead_s} s ahead of the clock, ours and the exchange's"
    if newest_us is not None and ts_us < min(newest_us, reached_us) - BEHIND_US:
        behind_s = (newest_us - ts_us) // 1_000_000
        return f"trade time {ts_us} us is {behind_s} s before that of the trade before it"
    return ""
