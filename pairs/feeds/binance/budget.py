"""The exchange's request weight: what may be asked for now. Time is monotonic, injectable.

Two counts, the stricter wins. The exchange's own, told in a header, covers every program behind
this address; ours, over a sliding minute, holds where the header is missing and between two
answers.

Requests differ in how long they may wait. Each kind has a ceiling, the share of the limit that
all kinds together may have reached when one of it leaves, and a share of its own: what has a
higher ceiling always finds room beside what has a lower one, and a small share of its own keeps
it from taking that room for long.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that wait for their turn alike; shares of the exchange's limit."""

    name: str
    ceiling: float
    own: float


# At most 90 %: other programs may run behind the same address.
EDGE = Kind("edge", 0.9, 0.9)  # the small hole at the live edge, the begin of a record: before all
FIRST = Kind("first", 0.8, 0.25)  # of a new connection: whether trades were missed before it
CLOSING = Kind("closing", 0.8, 0.15)  # about bars that have ended; ingest/closing.py takes less
PROBE = Kind("probe", 0.8, 0.15)  # whether a silent stream is alive: a small share, but never none
HISTORY = Kind("history", 0.75, 0.15)  # klines: likewise
BULK = Kind("bulk", 0.65, 0.65)  # the repair of a long absence takes what is left


class Budget:
    """The weight of one address and minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._spent: deque[tuple[float, int, str]] = deque()
        self._sums: Counter[str] = Counter()
        self._told = 0
        self._told_until = 0.0

    def wait_s(self, weight: int, kind: Kind = EDGE) -> float:
        """Seconds until a request of this weight may leave; 0 for at once."""
        now = self._clock()
        while self._spent and self._spent[0][0] <= now - WINDOW_S:
            _, gone, name = self._spent.popleft()
            self._sums[name] -= gone
        allowed = self._limit * kind.ceiling
        wait = self._told_until - now if self._told + weight > allowed else 0.0
        if self._spent and self._sums.total() + weight > allowed:
            wait = max(wait, self._spent[0][0] + WINDOW_S - now)
        if self._sums[kind.name] and self._sums[kind.name] + weight > self._limit * kind.own:
            oldest = next(when for when, _, name in self._spent if name == kind.name)
            wait = max(wait, oldest + WINDOW_S - now)
        return max(0.0, wait)

    def spend(self, weight: int, kind: Kind = EDGE) -> None:
        """A request leaves."""
        self._spent.append((self._clock(), weight, kind.name))
        self._sums[kind.name] += weight

    def record_used(self, used: str) -> None:
        """The header of an answer: the weight used in the present minute of the exchange."""
        if used.isascii() and used.isdigit():
            self._told = int(used)
            # The count falls back at the full minute of the exchange's clock, by ours roughly.
            self._told_until = self._clock() + WINDOW_S - time.time() % WINDOW_S
