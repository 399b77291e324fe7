"""The exchange's request weight: what may be asked for now. Time is monotonic, injectable.

Two counts, the stricter wins. The exchange's own, told in a header, covers every program behind
this address; ours, over a sliding minute, holds where the header is missing and between two
answers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.8  # of the limit: other programs may run behind the same address
URGENT_SHARE = 0.9  # what tells whether a stream is alive must not wait behind a long repair
WINDOW_S = 60.0


class Budget:
    """The weight of one address and minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = per_minute
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0
        self._told = 0
        self._told_until = 0.0

    def wait_s(self, weight: int, *, urgent: bool = False) -> float:
        """Seconds until a request of this weight may leave; 0 for at once."""
        now = self._clock()
        allowed = self._limit * (URGENT_SHARE if urgent else SHARE)
        while self._spent and self._spent[0][0] <= now - WINDOW_S:
            self._sum -= self._spent.popleft()[1]
        wait = self._told_until - now if self._told + weight > allowed else 0.0
        if self._spent and self._sum + weight > allowed:
            wait = max(wait, self._spent[0][0] + WINDOW_S - now)
        return max(0.0, wait)

    def spend(self, weight: int) -> None:
        """A request leaves."""
        self._spent.append((self._clock(), weight))
        self._sum += weight

    def told(self, used: str) -> None:
        """The header of an answer: the weight used in the present minute of the exchange."""
        if used.isascii() and used.isdigit():
            self._told = int(used)
            # The count falls back at the full minute of the exchange's clock, by ours roughly.
            self._told_until = self._clock() + WINDOW_S - time.time() % WINDOW_S
