"""What a rule would have fired over bars that are there already, and rules ready to be made. Pure.

Nothing is evaluated here: the readings and the state machine are those of the watcher, from the
state of a rule made at the beginning of the time that is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pandas as pd

from pairs.alerts.rules import (
    AlertEvent,
    AlertRule,
    AlertState,
    Reading,
    bar_readings,
    evaluate,
    feed_reading,
)
from pairs.analytics.pair import PairSpec, PairView
from pairs.market import Instrument

DAY_S = 86_400.0
SILENCE_S = 10.0  # a feed silent for longer
CORRELATION = 0.5  # below it


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule made at `begin` would have fired until `end`; both None where there is nothing
    to look at. `short`: there are no older bars, or none with a value, so that it is less than
    was asked for."""

    events: tuple[AlertEvent, ...]
    begin: datetime | None
    end: datetime | None
    short: bool = False

    @property
    def span_s(self) -> float:
        """Seconds that were looked at."""
        if self.begin is None or self.end is None:
            return 0.0
        return (self.end - self.begin).total_seconds()


NOTHING = Preview((), None, None)


def preview(rule: AlertRule, view: PairView, span_s: float = DAY_S) -> Preview:
    """What the rule would have fired over the last `span_s` seconds of a view of closed bars,
    computed with its spec: the events that the watcher would have stored, had the rule been made
    then and neither paused nor snoozed. A rule on the feed: see `silences`.
    """
    frame = view.frame
    if frame.empty:
        return NOTHING
    length = timedelta(seconds=rule.bar_s)
    end = frame.index[-1].to_pydatetime() + length
    asked = end - timedelta(seconds=span_s)
    return _looked_at(rule, bar_readings(rule, view, asked - length), asked, end, length)


def silences(
    rule: AlertRule, times: Mapping[Instrument, pd.DatetimeIndex], span_s: float = DAY_S
) -> Preview:
    """What a rule on the age of the feed would have fired over the last `span_s` seconds.

    `times`: instrument → when trades came, to the second, in order. The feeds are looked at once
    a second, as the watcher does; what the leg silent longest says counts.
    """
    known = {leg: index for leg in (rule.y, rule.x) if len(index := times.get(leg, _NEVER))}
    if len(known) < 2:
        return NOTHING
    end = max(index[-1] for index in known.values())
    first = max(index[0] for index in known.values())
    asked = end - pd.Timedelta(seconds=span_s)
    moments = pd.date_range(max(first, asked), end, freq="1s")
    ages = {leg: _ages(index, moments) for leg, index in known.items()}
    readings = [
        feed_reading(rule, {leg: ages[leg][k] for leg in known}, when)
        for k, when in enumerate(moments.to_pydatetime())
    ]
    until = end.to_pydatetime()
    return _looked_at(rule, readings, asked.to_pydatetime(), until, timedelta(0))


_NEVER = pd.DatetimeIndex([])


def _ages(index: pd.DatetimeIndex, moments: pd.DatetimeIndex) -> list[float]:
    """Seconds since the newest of `index` at each moment, which none of them precedes."""
    newest = index[index.searchsorted(moments, side="right") - 1]
    ages: list[float] = (moments - newest).total_seconds().tolist()
    return ages


def _looked_at(
    rule: AlertRule, readings: list[Reading], asked: datetime, end: datetime, length: timedelta
) -> Preview:
    known = next((k for k, reading in enumerate(readings) if reading.value == reading.value), None)
    if known is None:
        return NOTHING
    begin = readings[known].ts
    wanted = replace(rule.bare(), enabled=True)
    _, events = evaluate(wanted, AlertState(), readings)
    return Preview(tuple(events), min(begin, end), end, begin - asked > 2 * length)


def ready_rules(
    y: Instrument, x: Instrument, bar: str, spec: PairSpec, entry_z: float
) -> list[AlertRule]:
    """Three rules that a pair may begin with; of a file two, which has no feed."""
    about = {"y": y, "x": x, "bar": bar, "spec": spec, "cool_down_s": 60.0}
    given: list[tuple[str, dict[str, object]]] = [
        (
            f"|z| above {entry_z:g}",
            {"quantity": "abs_zscore", "condition": "above", "threshold": entry_z},
        ),
        (
            f"feed silent for {SILENCE_S:g} s",
            {"quantity": "staleness", "condition": "above", "threshold": SILENCE_S},
        ),
        (
            f"correlation below {CORRELATION:g}",
            {"quantity": "correlation", "condition": "below", "threshold": CORRELATION},
        ),
    ]
    pair = f"{y.symbol}/{x.symbol}"
    return [
        AlertRule(name=f"{pair} {name}"[:80], **about, **fields)  # type: ignore[arg-type]
        for name, fields in given
        if fields["quantity"] != "staleness" or "upload" not in (y.venue, x.venue)
    ]
