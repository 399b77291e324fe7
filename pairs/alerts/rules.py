"""Alert rules and their evaluation: pure, edge-triggered, causal, restartable.

A rule watches one quantity of a pair. `bar_readings` takes its values from a `PairView` (closed
bars only), `feed_reading` from the age of the feeds; `evaluate` moves the rule's state over them
and returns the events. The state is all that there is to remember: evaluating the same readings
once more changes nothing, and a run cut into pieces anywhere equals the uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal, get_args

import numpy as np
import pandas as pd

from pairs.analytics.pair import COLUMNS, PairSpec, PairView, check_spec
from pairs.checks import check_choice, check_number, check_window
from pairs.market import VENUES, Instrument, bar_seconds, check_symbol

__all__ = [
    "COLUMN_OF",
    "NAME_LENGTH",
    "AlertEvent",
    "AlertRule",
    "AlertState",
    "Condition",
    "Edge",
    "Quantity",
    "Reading",
    "Side",
    "bar_readings",
    "evaluate",
    "feed_reading",
]

Quantity = Literal[
    "zscore", "abs_zscore", "spread", "correlation", "beta", "price_y", "price_x", "staleness"
]
Condition = Literal["above", "below", "crosses_up", "crosses_down", "crosses"]
Edge = Literal["up", "down"]
Phase = Literal["new", "armed", "fired"]

COLUMN_OF: dict[str, str] = {
    "zscore": "zscore",
    "abs_zscore": "zscore",
    "spread": "spread",
    "correlation": "correlation",
    "beta": "beta",
    "price_y": "close_y",
    "price_x": "close_x",
}
"""Quantity → column of the PairView; `abs_zscore` is its absolute value, `staleness` has none."""

_EDGES: dict[str, tuple[Edge, ...]] = {
    "above": ("up",),
    "crosses_up": ("up",),
    "below": ("down",),
    "crosses_down": ("down",),
    "crosses": ("up", "down"),
}
# What the quantity cannot leave: a rule that only a value outside could fire or re-arm is refused.
_RANGES: dict[str, tuple[float, float]] = {
    "abs_zscore": (0.0, math.inf),
    "correlation": (-1.0, 1.0),
    "price_y": (0.0, math.inf),
    "price_x": (0.0, math.inf),
    "staleness": (0.0, math.inf),
}
_MAX_COOL_DOWN_S = 30 * 86_400.0
NAME_LENGTH = 80
_WORDS = {
    "zscore": "z-score",
    "abs_zscore": "|z|",
    "spread": "spread",
    "correlation": "correlation",
    "beta": "β",
    "price_y": "price",
    "price_x": "price",
    "staleness": "feed age",
}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """What to watch, and when to tell. Raises ValueError naming the field.

    `quantity` of the pair y, x at closed bars of length `bar` under `spec`; `staleness` is the
    seconds since anything was received of the leg that is silent longest (`bar` and `spec` then
    have no effect). Conditions are strict; times are those of the data:

    - `above`: fires where the value is above `threshold`, also at the first bar the rule sees.
    - `crosses_up`: the same, but only after the rule has seen a value that is not above.
    - `below`, `crosses_down`: mirrored. `crosses`: either direction, each with its own state.
    - `persistence`: the value must stand beyond the threshold at so many closed bars in a row.
    - `hysteresis`: having fired, the rule is armed again only at `threshold - hysteresis` or less
      (`below`: `threshold + hysteresis` or more).
    - `cool_down_s`: no further event until so many seconds after the last one. What becomes due
      meanwhile is not forgotten: it fires at the first bar after, if it still holds there.
    - `snoozed_from`, `snoozed_until`: no event of what is known between the two, likewise.

    An undefined value (NaN) neither fires nor arms; it interrupts persistence.
    """

    name: str
    y: Instrument
    x: Instrument
    quantity: Quantity
    condition: Condition
    threshold: float
    bar: str = "1min"
    spec: PairSpec = field(default_factory=PairSpec)
    persistence: int = 1
    hysteresis: float = 0.0
    cool_down_s: float = 0.0
    enabled: bool = True
    snoozed_from: datetime | None = None
    snoozed_until: datetime | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for leg in ("y", "x"):
            object.__setattr__(self, leg, _instrument(leg, getattr(self, leg)))
        _check_pair(self.y, self.x)
        check_choice("quantity", self.quantity, get_args(Quantity))
        check_choice("condition", self.condition, get_args(Condition))
        _check_bar(self.bar)
        if check_spec(self.spec).hedge == "ols":
            raise ValueError(
                "spec: hedge='ols' fits the whole sample and looks ahead: "
                "rolling, kalman or fixed is allowed"
            )
        if not isinstance(self.enabled, bool):
            raise ValueError(f"enabled={self.enabled!r} is not usable: True or False is allowed")
        _check_snooze(self.snoozed_from, self.snoozed_until)
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, low, high, open_low in (
            ("threshold", -math.inf, math.inf, True),
            ("hysteresis", 0.0, math.inf, False),
            ("cool_down_s", 0.0, _MAX_COOL_DOWN_S, False),
        ):
            value = getattr(self, name)
            if isinstance(value, bool):
                raise ValueError(f"{name}={value!r} is not usable: a number is allowed")
            number = check_number(name, value, low, high, open_low=open_low)
            object.__setattr__(self, name, number)
        object.__setattr__(self, "persistence", check_window("persistence", self.persistence, 1))
        if self.persistence > 1000:
            raise ValueError(f"persistence={self.persistence} is not usable: 1 to 1000 is allowed")
        if self.quantity == "staleness":
            if "upload" in (self.y.venue, self.x.venue):
                raise ValueError("quantity='staleness' is not usable: uploads have no feed")
            if self.persistence != 1:
                raise ValueError(
                    f"persistence={self.persistence} is not usable with staleness, which has no "
                    "bars: 1 is allowed, the threshold is a duration already"
                )
        self._check_range()

    def _check_range(self) -> None:
        low, high = _RANGES.get(self.quantity, (-math.inf, math.inf))
        if not low < self.threshold < high:
            raise ValueError(
                f"threshold={self.threshold:g} is not usable for {self.quantity}: "
                f"a number between {low:g} and {high:g} is allowed"
            )
        if "up" in self.edges and self.threshold - self.hysteresis <= low:
            raise ValueError(
                f"hysteresis={self.hysteresis:g} is not usable: {self.quantity} never comes back "
                f"to {self.threshold - self.hysteresis:g}"
            )
        if "down" in self.edges and self.threshold + self.hysteresis >= high:
            raise ValueError(
                f"hysteresis={self.hysteresis:g} is not usable: {self.quantity} never comes back "
                f"to {self.threshold + self.hysteresis:g}"
            )

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The directions in which this rule can fire."""
        return _EDGES[self.condition]

    @property
    def bar_s(self) -> int:
        """Seconds of a bar; 0 for staleness."""
        return 0 if self.quantity == "staleness" else bar_seconds(self.bar)

    def condition_text(self) -> str:
        """The condition in words: `ETHUSDT/BTCUSDT z-score above 2 for 3 bars`."""
        pair = f"{self.y.symbol}/{self.x.symbol}"
        of = {"price_y": self.y.symbol, "price_x": self.x.symbol}.get(self.quantity, pair)
        text = f"{of} {_WORDS[self.quantity]} {self.condition.replace('_', ' ')} "
        text += f"{self.threshold:.10g}" + (" s" if self.quantity == "staleness" else "")
        return text + (f" for {self.persistence} bars" if self.persistence > 1 else "")

    def default_name(self) -> str:
        """The name of a rule to which none was given: its condition, threshold and all."""
        return self.condition_text()[:NAME_LENGTH].strip()

    def full_text(self) -> str:
        """Name and condition; once, where the name is the condition."""
        text = self.condition_text()
        return text if self.name == self.default_name() else f"{self.name}: {text}"

    def watches_the_same(self, other: AlertRule) -> bool:
        """Whether only name or snooze differ: such an edit leaves the rule's state as it is."""
        return self.bare() == replace(other, name=self.name).bare()

    def bare(self) -> AlertRule:
        """The rule without a snooze."""
        return replace(self, snoozed_from=None, snoozed_until=None)

    def is_snoozed(self, when: datetime) -> bool:
        """Whether what is known at `when` is not told."""
        begin, end = self.snoozed_from, self.snoozed_until
        return begin is not None and end is not None and begin <= when < end


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a rule: whether it may fire, and bars in a row beyond the threshold."""

    phase: Phase = "new"
    count: int = 0


@dataclass(frozen=True, slots=True)
class AlertState:
    """All that a rule remembers. `last_ts`: the last reading evaluated, None before the first;
    `last_fired`: when the values of the last event were known."""

    last_ts: datetime | None = None
    up: Side = Side()
    down: Side = Side()
    last_fired: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of a rule's quantity. `ts` labels it (a bar's open time), `known_at` is when it
    was known (a bar's close); NaN where undefined. `figures`: everything else known then."""

    ts: datetime
    known_at: datetime
    value: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """A rule has fired, at the reading `ts`, upwards or downwards, with the values at the time."""

    ts: datetime
    known_at: datetime
    edge: Edge
    value: float
    figures: Mapping[str, float]


def bar_readings(rule: AlertRule, view: PairView, after: datetime | None) -> list[Reading]:
    """The rule's value at each row of the view later than `after`, oldest first.

    `view`: of closed bars, computed with the rule's spec. Row t is known at t + bar.
    """
    absolute = rule.quantity == "abs_zscore"
    frame = view.frame
    column = COLUMN_OF[rule.quantity]
    if after is not None:
        frame = frame.iloc[frame.index.searchsorted(pd.Timestamp(after), side="right") :]
    times = pd.DatetimeIndex(frame.index).to_pydatetime()
    rows = frame[list(COLUMNS)].to_numpy(dtype=np.float64).tolist()
    at, length = COLUMNS.index(column), timedelta(seconds=rule.bar_s)
    return [
        Reading(
            ts,
            ts + length,
            abs(row[at]) if absolute else row[at],
            dict(zip(COLUMNS, row, strict=True)),
        )
        for ts, row in zip(times, rows, strict=True)
    ]


def feed_reading(
    rule: AlertRule, ages: Mapping[Instrument, float | None], now: datetime
) -> Reading:
    """The staleness at `now`: the larger age of the two legs, in seconds; NaN where one is unknown.

    `ages`: instrument → seconds since something was received of it.
    """
    known = [ages.get(leg) for leg in (rule.y, rule.x)]
    numbers = [math.nan if age is None else max(0.0, age) for age in known]
    value = math.nan if any(map(math.isnan, numbers)) else max(numbers)
    return Reading(now, now, value, {"staleness_y": numbers[0], "staleness_x": numbers[1]})


def evaluate(
    rule: AlertRule, state: AlertState, readings: Sequence[Reading]
) -> tuple[AlertState, list[AlertEvent]]:
    """Move the state over the readings, in their order; the new state and the events.

    Readings not later than `state.last_ts` are skipped, so that repeating a call with the state
    it returned changes nothing. Causal: the events of a prefix are a prefix of the events.
    A disabled rule is left as it is.
    """
    events: list[AlertEvent] = []
    if not rule.enabled:
        return state, events
    last_ts, last_fired, edges = state.last_ts, state.last_fired, rule.edges
    sides: dict[Edge, Side] = {"up": state.up, "down": state.down}
    for reading in readings:
        if last_ts is not None and reading.ts <= last_ts:
            continue
        last_ts = reading.ts
        for edge in edges:
            side = _moved(rule, sides[edge], edge, reading.value)
            if _due(rule, side, last_fired, reading):
                event = AlertEvent(
                    reading.ts, reading.known_at, edge, reading.value, dict(reading.figures)
                )
                events.append(event)
                side, last_fired = replace(side, phase="fired"), reading.known_at
            sides[edge] = side
    return AlertState(last_ts, sides["up"], sides["down"], last_fired), events


def _moved(rule: AlertRule, side: Side, edge: Edge, value: float) -> Side:
    """The side after one value: armed where it may fire, counted where it is beyond."""
    if math.isnan(value):
        return replace(side, count=0)
    up = edge == "up"
    beyond = value > rule.threshold if up else value < rule.threshold
    phase = side.phase
    if phase == "new" and not (beyond and rule.condition.startswith("crosses")):
        phase = "armed"
    elif phase == "fired":
        back = rule.threshold - rule.hysteresis if up else rule.threshold + rule.hysteresis
        if not beyond and (value <= back if up else value >= back):
            phase = "armed"
    count = min(side.count + 1, rule.persistence) if beyond else 0
    return side if (phase, count) == (side.phase, side.count) else Side(phase, count)


def _due(rule: AlertRule, side: Side, last_fired: datetime | None, reading: Reading) -> bool:
    if side.phase != "armed" or side.count < rule.persistence:
        return False
    if rule.is_snoozed(reading.known_at):
        return False
    if last_fired is None:
        return True
    return (reading.known_at - last_fired).total_seconds() >= rule.cool_down_s


def _check_name(name: object) -> None:
    fits = isinstance(name, str) and len(name.strip()) >= 1 and len(name) <= NAME_LENGTH
    if not fits or not str(name).isprintable():
        raise ValueError(
            f"name={name!r} is not usable: 1 to {NAME_LENGTH} printable characters are allowed"
        )


def _check_snooze(begin: object, end: object) -> None:
    """Both times or neither, in this order, with their zone."""
    if begin is None and end is None:
        return
    for name, when in (("snoozed_from", begin), ("snoozed_until", end)):
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise ValueError(f"{name}={when!r} is not usable: a time with its zone is allowed")
    if begin > end:  # type: ignore[operator]
        raise ValueError(f"snoozed_until={end} is not usable: it is before snoozed_from={begin}")


def _instrument(leg: str, value: object) -> Instrument:
    """From an Instrument or, as JSON has it, an object with its fields."""
    if isinstance(value, Mapping):
        value = tuple(value.get(name) for name in Instrument._fields)
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{leg}={value!r} is not usable: an Instrument(venue, symbol) is allowed")
    venue, symbol = value
    check_choice(f"{leg}.venue", venue, VENUES)
    try:
        return Instrument(venue, check_symbol(symbol if isinstance(symbol, str) else ""))
    except ValueError as error:
        raise ValueError(f"{leg}.symbol={symbol!r} is not usable: {error}") from None


def _check_pair(y: Instrument, x: Instrument) -> None:
    if y == x:
        raise ValueError(f"x={x} is y as well: two different instruments are allowed")
    if "local" in (y.venue, x.venue) and {y.venue, x.venue} & {"binance", "binance-usdm"}:
        raise ValueError(f"x={x} is not usable with y={y}: simulated with real data is no pair")


def _check_bar(bar: object) -> None:
    try:
        seconds = bar_seconds(bar) if isinstance(bar, str) else 0
    except ValueError:
        seconds = 0
    if not 1 <= seconds <= 7 * 86_400:
        raise ValueError(f"bar={bar!r} is not usable: 1s, 1min, 5min, 1h, 1d … 7d is allowed")
