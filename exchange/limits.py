"""Limits: of REST weight, of connection attempts, of incoming messages."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do; defaults are the exchange's own.

    `ping_interval_s` and `pong_timeout_s` rule the server's pings, `life_s` how long a
    connection may last, `send_buffer` how many bytes may wait for a slow client before it is
    cut off, `hammering` how many refused requests lead from 429 to a ban (418) of `ban_s`.
    """

    weight_per_minute: int = 6000
    hammering: int = 20
    ban_s: int = 120
    messages_per_s: int = 5
    streams: int = 1024
    attempts: int = 300
    attempts_window_s: float = 300.0
    ping_interval_s: float = 20.0
    pong_timeout_s: float = 60.0
    life_s: float = 86_400.0
    send_buffer: int = 64_000_000

    def for_usdm(self) -> Limits:
        """These limits with the USD-M defaults for whatever still has the spot default."""
        spot = Limits()
        same = {k: v for k, v in _USDM.items() if getattr(self, k) == getattr(spot, k)}
        return replace(self, **same)


_USDM: dict[str, Any] = {
    "weight_per_minute": 2400,
    "messages_per_s": 10,
    "ping_interval_s": 180.0,
    "pong_timeout_s": 600.0,
}


class Window:
    """At most `most` events in any `span_s` seconds."""

    def __init__(self, most: int, span_s: float) -> None:
        self._most = most
        self._span_s = span_s
        self._times: deque[float] = deque()

    def allow(self, now_s: float) -> bool:
        """Count an event; False where it is one too many."""
        while self._times and self._times[0] <= now_s - self._span_s:
            self._times.popleft()
        if len(self._times) >= self._most:
            return False
        self._times.append(now_s)
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds until an event would be allowed again."""
        if len(self._times) < self._most:
            return 0.0
        return max(0.0, self._times[0] + self._span_s - now_s)


class Weights:
    """Request weight used in the current clock minute, and the ban that follows hammering."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._minute = -1
        self.used = 0
        self._refused = 0
        self._banned_until = 0.0

    def spend(self, weight: int, limit: int | None, now_s: float) -> tuple[int, int]:
        """Count a request: HTTP status 200, 429 or 418, and the seconds of Retry-After."""
        if now_s < self._banned_until:
            return 418, _whole(self._banned_until - now_s)
        if int(now_s // 60) != self._minute:
            self._minute, self.used, self._refused = int(now_s // 60), 0, 0
        most = self._limits.weight_per_minute if limit is None else limit
        if self.used + weight <= most:
            self.used += weight
            return 200, 0
        self._refused += 1
        if self._refused > self._limits.hammering:
            self._banned_until = now_s + self._limits.ban_s
            return 418, self._limits.ban_s
        return 429, _whole(60 - now_s % 60)


def _whole(seconds: float) -> int:
    return max(1, int(seconds) + 1)
