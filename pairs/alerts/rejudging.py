"""What alerts were judged on, and what is to be said where it changed afterwards. Pure.

A bar that was judged may change: trades that were missing are repaired, a late one comes. The rule
is then evaluated again from the bar before it. What would have fired is told late, with a remark;
what has fired, and would not have or at another value, is marked.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pandas as pd

from pairs.alerts.rules import AlertEvent, AlertRule, AlertState, Reading, evaluate

KEPT = 1000  # judged readings, of which a change is looked for
CLOSES = ["close_y", "close_x"]

Mark = tuple[datetime, str, str]  # an event's time and edge, and what is to be said of it


@dataclass
class Memory:
    """The states of one rule after each of the last readings, and what they have fired."""

    states: deque[tuple[datetime, AlertState]] = field(default_factory=lambda: deque(maxlen=KEPT))
    told: deque[AlertEvent] = field(default_factory=lambda: deque(maxlen=KEPT))
    bars: pd.DataFrame | None = None  # that the last reading was made of
    revisions: tuple[int, ...] = ()

    @classmethod
    def of(cls, state: AlertState) -> Memory:
        """What is known of a rule that goes on from a stored state."""
        return cls(deque([(state.last_ts or datetime.min.replace(tzinfo=UTC), state)], maxlen=KEPT))

    def before(self, when: datetime) -> AlertState | None:
        """The state before the reading at `when` and all later ones; None where it is not known
        (any more)."""
        earlier = [state for ts, state in self.states if ts < when]
        return earlier[-1] if earlier else None

    def changed(self, bars: pd.DataFrame, revisions: tuple[int, ...]) -> datetime | None:
        """The first bar that is not any more what was judged."""
        if self.bars is None or not self.states or revisions == self.revisions:
            return None
        change = first_change(self.bars, bars)
        return change if change is not None and change <= self.states[-1][0] else None

    def note(self, judged: Judged) -> None:
        """Keep what was judged and stored, in the place of whatever was judged of those times."""
        self.bars, self.revisions = judged.bars, judged.revisions
        if judged.states:
            begin = judged.states[0][0]
            kept = [item for item in self.states if item[0] < begin]
            self.states = deque([*kept, *judged.states], maxlen=KEPT)
            told = [event for event in self.told if event.ts < begin]
            self.told = deque([*told, *judged.events], maxlen=KEPT)


@dataclass(frozen=True)
class Judged:
    """A rule's evaluation: the state after each reading, everything that fires in them, and the
    bars that they were made of."""

    state: AlertState
    states: tuple[tuple[datetime, AlertState], ...]
    events: tuple[AlertEvent, ...]
    bars: pd.DataFrame | None = None
    revisions: tuple[int, ...] = ()


def judge(
    rule: AlertRule,
    state: AlertState,
    readings: Sequence[Reading],
    bars: pd.DataFrame | None = None,
    revisions: tuple[int, ...] = (),
) -> Judged:
    """`evaluate`, with the state after each reading. `bars`: what the readings are made of."""
    states: list[tuple[datetime, AlertState]] = []
    events: list[AlertEvent] = []
    for reading in readings:
        state, fired = evaluate(rule, state, [reading])
        states.append((reading.ts, state))
        events += fired
    return Judged(state, tuple(states), tuple(events), bars, revisions)


def first_change(before: pd.DataFrame, now: pd.DataFrame) -> datetime | None:
    """The first bar that `before` has otherwise than `now`, or not at all, over the time that both
    cover; None where there is none."""
    if before.empty or now.empty:
        return None
    begin, end = max(before.index[0], now.index[0]), before.index[-1]
    old, new = before.loc[begin:end, CLOSES], now.loc[begin:end, CLOSES]
    if old.equals(new):
        return None
    index = old.index.union(new.index)
    differ = (old.reindex(index).to_numpy() != new.reindex(index).to_numpy()).any(axis=1)
    found: datetime = index[differ][0].to_pydatetime()
    return found


def marks(
    told: Sequence[AlertEvent], events: Sequence[AlertEvent], readings: Sequence[Reading]
) -> list[Mark]:
    """What is to be said of the events `told`, now that the readings give `events`."""
    fires = {(event.ts, event.edge) for event in events}
    values = {reading.ts: reading.value for reading in readings}
    found: list[Mark] = []
    for event in told:
        value = values.get(event.ts, math.nan)
        if math.isclose(value, event.value, rel_tol=1e-9) and (event.ts, event.edge) in fires:
            continue
        now = "it has no value now" if math.isnan(value) else f"its value is {value:.8g} now"
        also = "" if (event.ts, event.edge) in fires else ", and it would not have fired"
        found.append((event.ts, event.edge, f"bars changed after this was told: {now}{also}"))
    return found


def late_remark(change: datetime) -> str:
    """Why an event is told so late."""
    return f"told late: bars from {change:%Y-%m-%d %H:%M:%S} UTC on changed after they were judged"
