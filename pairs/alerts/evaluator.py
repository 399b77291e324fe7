"""The stored alert rules against the live pairs: which are due, what they say, what keeps them.

Rules of one pair and bar share one `LiveBars`, those of one spec also one `PairView`: what an
alert tells is what the page shows. Nothing is written here: `step` returns outcomes for
`storage.alerts.store_outcomes`, and `settle` takes over what was really stored.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from pairs.alerts.rejudging import Judged, Memory, judge, late_remark, marks
from pairs.alerts.rules import (
    COLUMN_OF,
    AlertEvent,
    AlertRule,
    AlertState,
    Reading,
    bar_readings,
    feed_reading,
)
from pairs.alerts.store import Outcome, StoredRule, list_rules
from pairs.alerts.words import message
from pairs.analytics.pair import PairSpec, PairView, pair_view
from pairs.live.bars import KEEP_BARS, KEEP_STORED, LiveBars, Snapshot, base_bar_s
from pairs.market import Instrument, bar_seconds
from pairs.messages import one_line
from pairs.storage.errors import DATABASE_ERRORS
from pairs.storage.postgres import PostgresStore
from pairs.storage.reader import FeedStatus

log = logging.getLogger("alerts")

GAP_WAIT_S = 30.0  # evaluation waits so long for the repair of missing trades,
GAP_WAIT_PER_TRADE_S = 0.002  # and longer for many of them, as after a long stop,
GAP_WAIT_MOST_S = 300.0  # but never longer than this
TOLD_AFTER_S = 5.0  # and says so from here on
POLL_GAP_S = 0.25  # between two polls of a pair whose bar has ended but not closed
LINGER_S = 2.5  # so long after its end a bar of which nothing has come is looked for
FALLBACK_S = 1.0  # a due pair is polled this often though nothing was committed
IDLE_S = 5.0  # every pair is polled this often at least
STALENESS_S = 1.0
KEEP_STATE_S = 10.0  # a staleness rule that stays as it is is written this often
_Key = tuple[Instrument, Instrument, str]  # bar "": staleness
DOWN = ("stopped", "stale", "disconnected", "halted")


@dataclass
class _Group:
    """The rules of one pair and bar. Times are monotonic seconds."""

    live: LiveBars | None
    problem: str | None
    due: float = 0.0
    polled: float = -math.inf
    gap_since: float | None = None
    views: dict[PairSpec, tuple[object, PairView]] = field(default_factory=dict)

    def view(self, snapshot: Snapshot, spec: PairSpec) -> PairView:
        """The pair's view, computed once per closed bar."""
        known = self.views.get(spec)
        if known is None or known[0] != snapshot.closed_until:
            made = pair_view(snapshot.y.closed, snapshot.x.closed, spec)
            known = self.views[spec] = (snapshot.closed_until, made)
        return known[1]


@dataclass
class _Held:
    """A stored rule that is watched. `written`: when its state was last stored."""

    stored: StoredRule
    rule: AlertRule
    key: _Key
    caught_up: bool
    written: float
    memory: Memory
    judged: Judged | None = None  # and not yet stored


class Evaluator:
    """The rules of one store. Not thread-safe. Errors of the database come out of `load` and
    `step` as they are."""

    def __init__(self, store: PostgresStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._held: dict[int, _Held] = {}
        self._groups: dict[_Key, _Group] = {}
        self._staleness_due = 0.0

    def load(self) -> None:
        """Read the rules anew; pairs that are still watched keep their bars."""
        before = self._held
        self._held = {}
        for stored in list_rules(self._store):
            rule = stored.rule
            known = before.get(stored.rule_id)
            if rule is None:
                if known is None:
                    log.error('rule_unreadable rule=%d why="%s"', stored.rule_id, stored.problem)
                continue
            if not rule.enabled:
                continue
            same = known is not None and known.stored.revision == stored.revision
            bar = "" if rule.quantity == "staleness" else rule.bar
            self._held[stored.rule_id] = _Held(
                stored,
                rule,
                (rule.y, rule.x, bar),
                known.caught_up if known is not None and same else False,
                known.written if known is not None and same else -math.inf,
                known.memory if known is not None and same else Memory.of(stored.state),
            )
            if not same:
                self._due_now(self._held[stored.rule_id])
        wanted = {held.key for held in self._held.values()}
        for key in self._groups.keys() - wanted:
            del self._groups[key]

    def __len__(self) -> int:
        return len(self._held)

    def wait_s(self) -> float:
        """Seconds until the next `step` is worth while, if nothing is committed before."""
        now = self._clock()
        waits = [IDLE_S]
        for held in self._held.values():
            if not held.key[2]:
                waits.append(self._staleness_due - now)
            elif (group := self._groups.get(held.key)) is not None:
                waits.append(max(group.due, group.polled + FALLBACK_S) - now)
            else:
                waits.append(0.0)
        return max(0.0, min(waits))

    def step(self, committed: Collection[str] = ()) -> list[Outcome]:
        """Evaluate what is due; `committed`: venues whose trades have just been committed."""
        outcomes: list[Outcome] = []
        by_group: dict[_Key, list[_Held]] = {}
        for held in self._held.values():
            by_group.setdefault(held.key, []).append(held)
        outcomes += self._staleness([h for h in self._held.values() if not h.key[2]])
        for key, members in by_group.items():
            if not key[2]:
                continue
            try:
                outcomes += self._bars(
                    key, members, not {key[0].venue, key[1].venue}.isdisjoint(committed)
                )
            except DATABASE_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001 - logged and told by _failed
                outcomes += self._failed(members, error)
        return outcomes

    def settle(self, outcomes: Sequence[Outcome], taken: Mapping[int, object]) -> bool:
        """Adopt the outcomes that were stored; True where others were not: `load` again."""
        now = self._clock()
        for outcome in outcomes:
            held = self._held.get(outcome.rule_id)
            if held is not None and outcome.rule_id in taken:
                if outcome.problem != held.stored.problem:
                    log.info(
                        'rule_problem rule=%d problem="%s"',
                        outcome.rule_id,
                        outcome.problem or "none",
                    )
                held.stored = replace(
                    held.stored,
                    serial=outcome.serial + 1,
                    state=outcome.state,
                    value=outcome.value,
                    problem=outcome.problem,
                )
                held.written = now
                if held.judged is not None:
                    held.memory.note(held.judged)
                    held.judged = None
        return any(outcome.rule_id not in taken for outcome in outcomes)

    def _due_now(self, held: _Held) -> None:
        self._staleness_due = 0.0
        if (group := self._groups.get(held.key)) is not None:
            group.due = 0.0

    # -- rules on closed bars

    def _bars(self, key: _Key, members: list[_Held], fresh: bool) -> list[Outcome]:
        group = self._groups.get(key)
        if group is None or (group.live is None and self._clock() >= group.due):
            group = self._groups[key] = self._group(key)
        now = self._clock()
        since = now - group.polled
        if now < group.due or since < (POLL_GAP_S if fresh else FALLBACK_S):
            return []
        group.polled = now
        group.due = now + IDLE_S
        if group.live is None:
            return self._stuck(members, group.problem)
        snapshot = group.live.poll(0.0)
        if snapshot.error is not None:
            return self._stuck(members, f"bars cannot be read: {snapshot.error}")
        group.due = now + _until_due(snapshot)
        if (waiting := self._waits_for_repair(group, snapshot)) is not None:
            group.due = now
            told = now - (group.gap_since or now) >= TOLD_AFTER_S
            return self._stuck(members, waiting) if told else []
        return [o for held in members if (o := self._rule(group, held, snapshot)) is not None]

    def _group(self, key: _Key) -> _Group:
        y, x, bar = key
        try:
            bases = tuple(self._base(leg, bar) for leg in (y, x))
        except ValueError as error:
            return _Group(None, one_line(error))
        return _Group(LiveBars(self._store.reads, (y, x), bar, bases, clock=self._clock), None)

    def _base(self, leg: Instrument, bar: str) -> int:
        if leg.venue != "upload":
            return base_bar_s(bar)
        sizes = self._store.reads.bar_sizes(*leg)
        if not sizes:
            raise ValueError(f"nothing is stored of {leg}")
        return base_bar_s(bar, sizes)

    def _waits_for_repair(self, group: _Group, snapshot: Snapshot) -> str | None:
        """Why evaluation waits: trades are missing and their repair is under way. Bars that lack
        them are not right yet, and those behind would come too late to be evaluated in order."""
        missing = _missing(snapshot)
        if not missing:
            group.gap_since = None
            return None
        now = self._clock()
        group.gap_since = now if group.gap_since is None else group.gap_since
        count = sum(feed.missing for feed in _feeds(snapshot))
        patience_s = min(GAP_WAIT_MOST_S, GAP_WAIT_S + GAP_WAIT_PER_TRADE_S * count)
        if now - group.gap_since >= patience_s:
            return None
        return f"waits up to {patience_s:.0f} s for the repair of missing trades ({missing})"

    def _rule(self, group: _Group, held: _Held, snapshot: Snapshot) -> Outcome | None:
        """One rule's outcome; its failure is its own."""
        stored, rule = held.stored, held.rule
        bases = group.live.bases if group.live else (1,)
        try:
            view = group.view(snapshot, rule.spec)
            revisions = (snapshot.y.revision, snapshot.x.revision)
            change = held.memory.changed(view.frame, revisions)
            if change is not None and (before := held.memory.before(change)) is not None:
                return self._again(held, view, revisions, change, before)
            if change is not None:
                log.warning(
                    "changed_too_long_ago rule=%d from=%s: not judged again", stored.rule_id, change
                )
            readings = bar_readings(rule, view, stored.state.last_ts)
            if not held.caught_up and readings:
                _tell_catch_up(stored, readings, view.frame.index[0])
                held.caught_up = True
            problem = _problem(rule, snapshot, view, min(bases))
            return self._outcome(held, readings, problem, view.frame, revisions)
        except Exception as error:  # noqa: BLE001 - logged and told by _failed
            return next(iter(self._failed([held], error)), None)

    def _again(
        self,
        held: _Held,
        view: PairView,
        revisions: tuple[int, ...],
        change: datetime,
        before: AlertState,
    ) -> Outcome:
        """Judge again what bars from `change` on have changed for: tell late what would have
        fired, mark what has fired otherwise."""
        stored, rule, memory = held.stored, held.rule, held.memory
        readings = bar_readings(rule, view, before.last_ts)
        held.judged = judge(rule, before, readings, view.frame, revisions)
        told = [event for event in memory.told if event.ts >= change]
        known = {(event.ts, event.edge) for event in told}
        now, last = datetime.now(UTC), memory.states[-1][0]
        made, said = [], marks(told, held.judged.events, readings)
        for event in held.judged.events:
            if (event.ts, event.edge) in known:
                continue
            title, body = message(rule, event, now)
            if event.ts <= last:
                said.append((event.ts, event.edge, late_remark(change)))
                body = f"{body}\n{late_remark(change)}"
            made.append((event, title, body))
        log.warning(
            "judged_again rule=%d from=%s late=%d marked=%d",
            stored.rule_id,
            change,
            len(made),
            len(said),
        )
        outcome = _made(
            stored,
            rule,
            held.judged.state,
            readings[-1].value if readings else stored.value,
            stored.problem,
            tuple(made),
        )
        return replace(outcome, marks=tuple(said))

    # -- rules on the feeds

    def _staleness(self, members: list[_Held]) -> list[Outcome]:
        if not members or self._clock() < self._staleness_due:
            return []
        self._staleness_due = self._clock() + STALENESS_S
        venues = {leg.venue for held in members for leg in held.key[:2]}
        feeds = {
            Instrument(venue, feed.symbol): feed
            for venue in venues
            for feed in self._store.reads.feeds(venue)
        }
        made = [self._stale(held, feeds) for held in members]
        return [outcome for outcome in made if outcome is not None]

    def _stale(self, held: _Held, feeds: Mapping[Instrument, FeedStatus]) -> Outcome | None:
        rule, state = held.rule, held.stored.state
        ages = {leg: feed.received_age_s for leg, feed in feeds.items()}
        now = _database_now(feeds)
        if state.last_ts is not None:  # a clock set back must not silence the rule
            now = max(now, state.last_ts + timedelta(microseconds=1))
        reading = feed_reading(rule, ages, now)
        unknown = [str(leg) for leg in (rule.y, rule.x) if ages.get(leg) is None]
        problem = f"nothing was ever received of {' and '.join(unknown)}"
        outcome = self._outcome(held, [reading], problem if unknown else None)
        if outcome is None or outcome.events or outcome.problem != held.stored.problem:
            return outcome
        same = replace(outcome.state, last_ts=state.last_ts) == state
        if same and self._clock() - held.written < KEEP_STATE_S:
            return None
        return outcome

    # -- outcomes

    def _outcome(
        self,
        held: _Held,
        readings: list[Reading],
        problem: str | None,
        bars: pd.DataFrame | None = None,
        revisions: tuple[int, ...] = (),
    ) -> Outcome | None:
        """The outcome of new readings; None where nothing is different."""
        stored, rule = held.stored, held.rule
        if not readings:
            return self._kept(held, problem)
        held.judged = judge(rule, stored.state, readings, bars, revisions)
        now = datetime.now(UTC)
        told = tuple((event, *message(rule, event, now)) for event in held.judged.events)
        return _made(stored, rule, held.judged.state, readings[-1].value, problem, told)

    def _kept(self, held: _Held, problem: str | None) -> Outcome | None:
        stored = held.stored
        if problem == stored.problem:
            return None
        return _made(stored, held.rule, stored.state, stored.value, problem)

    def _failed(self, members: list[_Held], error: Exception) -> list[Outcome]:
        """A failure is told at the rule, and logged once, not at every bar."""
        made = self._stuck(members, f"cannot be evaluated: {_line(error)}")
        for outcome in made:
            log.error("rule_failed rule=%d", outcome.rule_id, exc_info=error)
        return made

    def _stuck(self, members: list[_Held], problem: str | None) -> list[Outcome]:
        return [o for held in members if (o := self._kept(held, problem)) is not None]


def _made(
    stored: StoredRule,
    rule: AlertRule,
    state: AlertState,
    value: float | None,
    problem: str | None,
    events: tuple[tuple[AlertEvent, str, str], ...] = (),
) -> Outcome:
    return Outcome(
        stored.rule_id, stored.revision, stored.serial, rule, state, value, problem, events
    )


def _until_due(snapshot: Snapshot) -> float:
    """Seconds until the next bar can close; 0 where one has ended that is not closed in both legs
    yet. When to look, no more: that a bar is closed the watermark alone says. So the exchange's
    clock may be guessed here, as the newest trade's time plus the seconds since its arrival."""
    bar_s = bar_seconds(snapshot.bar)
    clocks = [
        feed.last_trade.timestamp() + (feed.received_age_s or 0.0)
        for feed in _feeds(snapshot)
        if feed.last_trade is not None
    ]
    if not clocks:
        return IDLE_S
    now = max(clocks)
    phase = now % bar_s
    ended = now - phase - bar_s  # the label of the bar that has just ended
    for leg in (snapshot.y, snapshot.x):
        forming: Any = None if leg.forming is None else leg.forming.name
        if forming is not None and forming.timestamp() <= ended:
            return 0.0
        come = len(leg.closed) and leg.closed.index[-1].timestamp() >= ended
        if not come and phase < LINGER_S:
            return 0.0
    return min(IDLE_S, bar_s - phase)


def _feeds(snapshot: Snapshot) -> list[FeedStatus]:
    return [leg.feed for leg in (snapshot.y, snapshot.x) if leg.feed is not None]


def _missing(snapshot: Snapshot) -> str:
    """The legs with open gaps, in words; empty where nothing is missing."""
    return ", ".join(
        f"{feed.missing} of {feed.symbol}" for feed in _feeds(snapshot) if feed.open_gaps
    )


def _problem(rule: AlertRule, snapshot: Snapshot, view: PairView, base_s: int) -> str | None:
    """What keeps the rule from being evaluated, or its value from being right; None: nothing."""
    for feed in _feeds(snapshot):
        if feed.state in DOWN:
            detail = f" ({feed.detail})" if feed.detail else ""
            return f"no new bars: the feed of {feed.symbol} is {feed.state}{detail}"
    for leg in (snapshot.y, snapshot.x):
        if leg.closed.empty:
            return f"no closed {rule.bar} bar of {leg.instrument} is stored"
    needed = _bars_needed(rule)
    most = _most_kept(rule, snapshot, base_s)
    have = len(view.frame)
    if needed > most:
        return f"its windows need {needed} bars, and at most {most} {rule.bar} bars are kept"
    if not have:
        return f"{rule.y} and {rule.x} have no {rule.bar} bar in common"
    if math.isnan(view.frame[COLUMN_OF[rule.quantity]].iloc[-1]):
        if have < needed:
            return f"warming up: {have} of {needed} bars"
        return "undefined at the last bar: its window does not vary, or a bar is missing in it"
    missing = _missing(snapshot)
    return f"evaluated although trades are missing ({missing})" if missing else None


def _most_kept(rule: AlertRule, snapshot: Snapshot, base_s: int) -> int:
    """Closed bars that can be at hand: what a file is made from is bounded, what lies before the
    shorter bars of a market the exchange states."""
    if all(leg.instrument.venue != "upload" for leg in snapshot.legs):
        return KEEP_BARS - 1
    return min(KEEP_BARS, KEEP_STORED * base_s // rule.bar_s) - 1


def _bars_needed(rule: AlertRule) -> int:
    """Aligned bars until the quantity's first value."""
    spec = rule.spec
    fit = spec.bars_to_spread
    by_quantity = {
        "zscore": spec.bars_needed,
        "abs_zscore": spec.bars_needed,
        "correlation": spec.window + 1,
        "spread": fit,
        "beta": fit,
    }
    return by_quantity.get(rule.quantity, 1)


def _tell_catch_up(stored: StoredRule, readings: Sequence[Reading], oldest: pd.Timestamp) -> None:
    """One line where bars closed while nothing ran, and one where they reach too far back.

    `oldest`: the first bar kept. What lies before it, and what its windows need, is not known
    any more."""
    last = stored.state.last_ts
    if last is None or stored.evaluated is None:
        return
    if len(readings) > 1:
        log.info("catch_up rule=%d bars=%d after=%s", stored.rule_id, len(readings), last)
    known = next((reading.ts for reading in readings if not math.isnan(reading.value)), None)
    if oldest > last or (known is not None and known > readings[0].ts):
        log.warning(
            "catch_up_cut rule=%d after=%s until=%s: what lies between is beyond the bars kept",
            stored.rule_id,
            last,
            known or readings[-1].ts,
        )


def _database_now(feeds: Mapping[Instrument, FeedStatus]) -> datetime:
    """The database's clock as the feeds tell it; ours where they tell nothing."""
    for feed in feeds.values():
        if feed.last_received is not None and feed.received_age_s is not None:
            return feed.last_received + timedelta(seconds=feed.received_age_s)
    return datetime.now(UTC)


def _line(error: BaseException) -> str:
    return one_line(error)[:300]
