"""The intervals of klines: where each bar opens, by the exchange's calendar. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from exchange.tape import US, Ints

DAY_US = 86_400 * US
_MONDAY_US = 4 * DAY_US  # 1970-01-05: weeks open on Mondays
_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::(\d{2}))?")
_ZONES_MIN = (-12 * 60, 14 * 60)


@dataclass(frozen=True, slots=True)
class Interval:
    """Bars are numbered: number n opens at `origin_us` + n steps; a step of 0 is a calendar month.

    `ahead_us` is how far the clock of the time zone is ahead of UTC.
    """

    name: str
    step_us: int
    origin_us: int = 0
    ahead_us: int = 0

    def number(self, t_us: int) -> int:
        """The bar that a moment belongs to."""
        local = t_us + self.ahead_us
        if self.step_us:
            return (local - self.origin_us) // self.step_us
        return int(np.datetime64(local, "us").astype("datetime64[M]").astype(np.int64))

    def next_number(self, t_us: int) -> int:
        """The first bar that opens at or after a moment."""
        number = self.number(t_us)
        return number if self.open_us(number) == t_us else number + 1

    def opens(self, first: int, last: int) -> Ints:
        """The open times of bars first … last."""
        numbers = np.arange(first, last + 1)
        if self.step_us:
            local = self.origin_us + numbers * self.step_us
        else:
            months = numbers.astype("datetime64[M]")
            local = months.astype("datetime64[us]").astype(np.int64)
        return np.asarray(local - self.ahead_us, np.int64)

    def open_us(self, number: int) -> int:
        """The open time of a bar."""
        return int(self.opens(number, number)[0])

    def in_zone(self, ahead_us: int) -> Interval:
        """The same interval by the clock of a time zone."""
        return replace(self, ahead_us=ahead_us)

    @property
    def by_seconds(self) -> bool:
        """Whether its bars cannot be made from whole minutes."""
        return self.step_us % (60 * US) != 0


_SECONDS = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "6h": 21_600,
    "8h": 28_800,
    "12h": 43_200,
    "1d": 86_400,
    "3d": 259_200,
}

INTERVALS = {name: Interval(name, step * US) for name, step in _SECONDS.items()} | {
    "1w": Interval("1w", 7 * DAY_US, _MONDAY_US),
    "1M": Interval("1M", 0),
}


def zone_us(text: str) -> int | None:
    """How far a time zone (`8`, `-3:30`, `+08:00`) is ahead of UTC; None where it is none."""
    match = _ZONE.fullmatch(text)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    minutes = -minutes if match[1] == "-" else minutes
    usable = _ZONES_MIN[0] <= minutes <= _ZONES_MIN[1] and int(match[3] or 0) < 60
    return minutes * 60 * US if usable else None
