"""What has fired and how the rules stand, for the page: one poll for all tabs. No Streamlit in it.

A poll without news is one short query; events are read again only where one is new, was
acknowledged or is still being delivered. When the database is away the last picture stays, with
the reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pairs.alerts.outbox import ChannelState, channel_states
from pairs.alerts.store import Pulse, StoredEvent, StoredRule, list_rules, pulse, recent_events
from pairs.live.asking import TROUBLED_S, Asked, UnansweredError
from pairs.live.bars import EARLY
from pairs.messages import first_line, one_line
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore

KEEP_EVENTS = 200
WATCHER_SILENT_S = 8.0  # older than this the watcher's sign of life means that none runs


@dataclass(frozen=True, slots=True)
class AlertsSnapshot:
    """What is known at one moment. `events`: newest first. `rules` and `channels` are as of the
    last poll that asked for them. `error` is None, or why the database does not answer."""

    pulse: Pulse | None = None
    events: tuple[StoredEvent, ...] = ()
    rules: tuple[StoredRule, ...] = ()
    channels: tuple[ChannelState, ...] = ()
    polled_at: float = 0.0
    error: str | None = None

    @property
    def newest_id(self) -> int:
        """The id of the newest event, 0 where there is none: what a new tab has seen."""
        return self.pulse.newest_event if self.pulse else 0

    def since(self, event_id: int) -> list[StoredEvent]:
        """Events later than `event_id`, oldest first: those a tab has to show."""
        return [event for event in reversed(self.events) if event.event_id > event_id]

    @property
    def watcher_runs(self) -> bool:
        """Whether the rules are being evaluated at all."""
        age = self.pulse.watcher_age_s if self.pulse else None
        return age is not None and age < WATCHER_SILENT_S

    @property
    def unwatched(self) -> bool:
        """Whether there are rules that nobody evaluates."""
        return self.pulse is not None and self.pulse.rules > 0 and not self.watcher_runs

    @property
    def polled_events(self) -> tuple[object, ...]:
        """Changes when, and only when, an event may be new or another one."""
        now = self.pulse
        known = (
            None
            if now is None
            else (now.newest_event, now.unacknowledged, now.acknowledged, now.marked)
        )
        return (known, *(d for e in self.events for d in e.deliveries if d.state != "delivered"))

    @property
    def problems(self) -> dict[int, str]:
        """Rule id → why it is not evaluated, or not with complete data."""
        return {rule.rule_id: rule.problem for rule in self.rules if rule.problem}


@dataclass
class LiveAlerts:
    """The alerts of one store, shared by all sessions of the page."""

    store: PostgresStore
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _snapshot: AlertsSnapshot = field(default_factory=AlertsSnapshot)
    _asked: Asked[AlertsSnapshot] | None = None
    _tried_at: float = float("-inf")
    _rules_at: float = float("-inf")

    def poll(self, min_interval_s: float, *, rules: bool = False) -> AlertsSnapshot:
        """The newest state, asked for at most once per `min_interval_s` over all callers, on
        average; `rules`: with rules and channels, for the view that shows them. Never raises for a
        database that is away, nor waits long for one that hangs."""
        with self._lock:
            asked = self._asked
            if asked is None or not asked.open:
                now = self.clock()
                soon = (1 - EARLY) * min_interval_s
                wanted = rules and now - self._rules_at >= soon
                if not wanted and now - self._tried_at < soon:
                    return self._snapshot
                due = self._tried_at + min_interval_s
                self._tried_at = now if wanted else max(now, due)  # those have their own pace
                if wanted:
                    self._rules_at = max(now, self._rules_at + min_interval_s)
                asked = self._asked = Asked(lambda: self._answer(wanted))
            last = self._snapshot
        try:
            return asked.answer(TROUBLED_S if last.error is not None else None)
        except UnansweredError as error:
            return replace(last, error=last.error or one_line(error))

    def _answer(self, rules: bool) -> AlertsSnapshot:
        """In a thread of its own, and never in two at once."""
        try:
            self._snapshot = self._read(rules)
        except DATABASE_ERRORS as error:
            self._snapshot = replace(self._snapshot, error=first_line(error))
        return self._snapshot

    def forget(self) -> None:
        """Let the next poll look, after an edit or an acknowledgement of one's own."""
        with self._lock:
            self._tried_at = self._rules_at = float("-inf")

    def _read(self, rules: bool) -> AlertsSnapshot:
        before = self._snapshot
        now = pulse(self.store)
        made = replace(before, pulse=now, polled_at=self.clock(), error=None)
        if _news(before, now):
            made = replace(made, events=tuple(recent_events(self.store, KEEP_EVENTS)))
        if rules:
            made = replace(
                made,
                rules=tuple(list_rules(self.store)),
                channels=tuple(channel_states(self.store)),
            )
        return made


def _news(before: AlertsSnapshot, now: Pulse) -> bool:
    """Whether the events may have changed."""
    known = before.pulse
    if known is None:
        return True
    moved = (known.newest_event, known.unacknowledged, known.acknowledged, known.marked) != (
        now.newest_event,
        now.unacknowledged,
        now.acknowledged,
        now.marked,
    )
    return moved or any(
        delivery.state in ("waiting", "sending")
        for event in before.events
        for delivery in event.deliveries
    )
