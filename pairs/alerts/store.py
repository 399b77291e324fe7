"""Alert rules, their state and what has fired, in the store.

What the page calls: `create_rule`, `update_rule`, `delete_rule`, `list_rules`, `list_events`,
`recent_events`, `acknowledge`, `pulse`, and what stands in `editing.py`. What the watcher calls:
`list_rules`, `store_outcomes`.
A rule's new state and its events are written in one transaction, and only on top of the state
they were computed from: neither a retry nor a second watcher can tell anything twice. Every
change is notified on the channel `alerts`: a new event's id, `rules` or `acknowledged`. Events
of revision 0 are tests: no rule has told them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg2.extras import Json, execute_values

from pairs.alerts.rules import (
    AlertEvent,
    AlertRule,
    AlertState,
)
from pairs.alerts.stored_form import (
    rule_from_json,
    rule_to_json,
    state_from_json,
    state_to_json,
)
from pairs.market import Instrument
from pairs.storage.gaps import one

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore

EVENTS_LOCK = 7_201_400_303  # of pg_advisory_xact_lock: events become visible in order of id


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with its state. `rule` is None where the stored one cannot be read; `problem` then
    says why, as it does where the watcher cannot evaluate it. `value` is that of `last_ts`."""

    rule_id: int
    revision: int
    serial: int
    rule: AlertRule | None
    state: AlertState
    value: float | None
    evaluated: datetime | None
    problem: str | None
    since: datetime | None
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class Delivered:
    """How far the delivery of an event over a channel has come: state `waiting`, `sending`,
    `delivered` or `given_up`."""

    channel: str
    state: str
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """What has fired: the rule as it stood then (None where it cannot be read any more), the
    values at the time (None where undefined), and its deliveries."""

    event_id: int
    rule_id: int
    ts: datetime
    known_at: datetime
    fired: datetime
    edge: str
    value: float
    figures: Mapping[str, float | None]
    title: str
    body: str
    acknowledged: datetime | None
    rule: AlertRule | None
    deliveries: tuple[Delivered, ...]
    remark: str | None = None  # bars have changed since, or it was told late because they had
    test: bool = False


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a page asks at every refresh: whether there is anything new. `watcher_age_s` is the
    age of the watcher's sign of life, None where none has ever run."""

    newest_event: int
    unacknowledged: int
    acknowledged: datetime | None
    rules: int
    rules_changed: datetime | None
    watcher_age_s: float | None
    marked: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule's evaluation, to be stored on top of (revision, serial). Events come with title and
    text of their delivery."""

    rule_id: int
    revision: int
    serial: int
    rule: AlertRule | None
    state: AlertState
    value: float | None
    problem: str | None
    events: tuple[tuple[AlertEvent, str, str], ...] = ()
    marks: tuple[tuple[datetime, str, str], ...] = ()  # time and edge of an event, and the remark


# -- rules


def create_rule(store: PostgresStore, rule: AlertRule) -> int:
    """Store a new rule; its id. It begins with the bar that is the last closed one now."""
    with store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO alert_rule (rule) VALUES (%s) RETURNING rule_id",
            (Json(rule_to_json(rule)),),
        )
        rule_id = int(one(cursor)[0])
        cursor.execute(
            "INSERT INTO alert_state (rule_id, last_ts) VALUES (%s, %s)",
            (rule_id, _begin(cursor, rule)),
        )
        notify(cursor, "rules")
    return rule_id


def update_rule(store: PostgresStore, rule_id: int, rule: AlertRule) -> bool:
    """Replace a rule; False where it is gone. Unless only its name differs it begins anew, like
    one just created: what closed while it was disabled or another rule is not looked at."""
    with store.transaction() as cursor:
        cursor.execute("SELECT rule FROM alert_rule WHERE rule_id = %s FOR UPDATE", (rule_id,))
        row = cursor.fetchone()
        if row is None:
            return False
        before, _ = readable(row[0])
        anew = before is None or not before.watches_the_same(rule)
        cursor.execute(
            "UPDATE alert_rule SET rule = %s, updated = clock_timestamp(),"
            " revision = revision + %s WHERE rule_id = %s RETURNING revision",
            (Json(rule_to_json(rule)), int(anew), rule_id),
        )
        revision = one(cursor)[0]
        if anew:
            cursor.execute(
                "UPDATE alert_state SET revision = %s, serial = serial + 1, last_ts = %s,"
                " state = '{}', value = NULL, evaluated = NULL, problem = NULL, since = NULL"
                " WHERE rule_id = %s",
                (revision, _begin(cursor, rule), rule_id),
            )
        notify(cursor, "rules")
    return True


def delete_rule(store: PostgresStore, rule_id: int) -> bool:
    """Delete a rule; False where it was gone already. What it has told stays."""
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM alert_rule WHERE rule_id = %s", (rule_id,))
        gone = cursor.rowcount > 0
        notify(cursor, "rules")
    return gone


def list_rules(store: PostgresStore) -> list[StoredRule]:
    """Every rule with its state, in order of creation."""
    with store.reading() as cursor:
        cursor.execute(
            "SELECT r.rule_id, r.revision, s.serial, r.rule, s.last_ts, s.state, s.value,"
            " s.evaluated, s.problem, s.since, r.created, r.updated"
            " FROM alert_rule r JOIN alert_state s USING (rule_id) ORDER BY rule_id"
        )
        return [_stored_rule(row) for row in cursor.fetchall()]


def _stored_rule(row: tuple[Any, ...]) -> StoredRule:
    rule_id, revision, serial, values, last_ts, state, *rest = row
    rule, unreadable = readable(values)
    value, evaluated, problem, since, created, updated = rest
    try:
        held = state_from_json(last_ts, state)
    except ValueError as error:
        rule, unreadable, held = None, f"its state cannot be read: {error}", AlertState(last_ts)
    return StoredRule(
        rule_id,
        revision,
        serial,
        rule,
        held,
        value,
        evaluated,
        unreadable or problem,
        since,
        created,
        updated,
    )


def readable(values: object) -> tuple[AlertRule | None, str | None]:
    """The rule, or why it cannot be read: one bad row must not hide the others."""
    try:
        return rule_from_json(values), None
    except (ValueError, TypeError) as error:
        return None, f"the stored rule cannot be read: {error}"


# By the index, however long the history: one look per leg and stored length.
_NEWEST = """
SELECT to_timestamp(floor(extract(epoch FROM min(newest)) / %(bar)s) * %(bar)s), count(newest)
FROM (
    SELECT max(greatest(
        (SELECT max(b.ts) FROM bar b
         WHERE b.instrument_id = i.instrument_id AND b.bar_s = size.bar_s),
        (SELECT max(k.ts) FROM kline k
         WHERE k.instrument_id = i.instrument_id AND k.bar_s = size.bar_s))) AS newest
    FROM instrument i CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[1, 60]) AS bar_s WHERE i.venue <> 'upload'
        UNION ALL SELECT DISTINCT k.bar_s FROM kline k
        WHERE k.instrument_id = i.instrument_id AND i.venue = 'upload') AS size
    WHERE (i.venue, i.symbol) IN %(legs)s AND %(bar)s %% size.bar_s = 0
    GROUP BY i.instrument_id
) AS legs
"""


def _begin(cursor: Cursor, rule: AlertRule) -> datetime | None:
    """The reading before the first one to evaluate, in the time of the data: the newest stored
    bar of the leg that is behind is taken as forming (of a file: as closed), and the evaluation
    begins with the one before it. None where a leg has no bars: with the first bar there will be.
    """
    if rule.quantity == "staleness":
        return None
    cursor.execute(_NEWEST, {"legs": (tuple(rule.y), tuple(rule.x)), "bar": rule.bar_s})
    newest, legs = one(cursor)
    if legs < 2:
        return None
    file = "upload" in (rule.y.venue, rule.x.venue)
    begin: datetime = newest - timedelta(seconds=rule.bar_s * (1 if file else 2))
    return begin


# -- what the watcher writes


def store_outcomes(
    store: PostgresStore, outcomes: Sequence[Outcome], channels: Sequence[str]
) -> dict[int, list[tuple[int, AlertEvent, str]]]:
    """Write the new states with their events and one delivery per event and channel, in one
    transaction. Rule id → its new events (id, event, title), for the outcomes that were taken:
    one whose rule was edited, deleted or moved by another watcher meanwhile is dropped."""
    taken: dict[int, list[tuple[int, AlertEvent, str]]] = {}
    if not outcomes:
        return taken
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT rule_id, revision, serial FROM alert_state WHERE rule_id = ANY(%s)"
            " ORDER BY rule_id FOR UPDATE",
            ([outcome.rule_id for outcome in outcomes],),
        )
        standing = {row[0]: row[1:] for row in cursor.fetchall()}
        kept = [o for o in outcomes if standing.get(o.rule_id) == (o.revision, o.serial)]
        if not kept:
            return taken
        execute_values(
            cursor,
            "UPDATE alert_state s SET serial = s.serial + 1, last_ts = v.last_ts,"
            " state = v.state, value = v.value, problem = v.problem,"
            " evaluated = CASE WHEN v.last_ts IS DISTINCT FROM s.last_ts"
            "  THEN clock_timestamp() ELSE s.evaluated END,"
            " since = CASE WHEN v.problem IS NULL THEN NULL"
            "  WHEN s.problem IS NULL THEN clock_timestamp() ELSE s.since END"
            " FROM (VALUES %s) AS v (rule_id, last_ts, state, value, problem)"
            " WHERE s.rule_id = v.rule_id",
            [
                (
                    o.rule_id,
                    o.state.last_ts,
                    Json(state_to_json(o.state)),
                    _number(o.value),
                    o.problem,
                )
                for o in kept
            ],
            template="(%s::bigint, %s::timestamptz, %s::jsonb, %s::float8, %s::text)",
            page_size=len(kept),
        )
        if any(outcome.events for outcome in kept):
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
        for outcome in kept:
            taken[outcome.rule_id] = _insert_events(cursor, outcome, channels)
            _mark(cursor, outcome)
    return taken


def _insert_events(
    cursor: Cursor, outcome: Outcome, channels: Sequence[str]
) -> list[tuple[int, AlertEvent, str]]:
    made = []
    for event, title, body in outcome.events:
        cursor.execute(
            "INSERT INTO alert_event (rule_id, revision, ts, edge, known_at, rule, value, figures,"
            " title, body) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (rule_id, revision, ts, edge) DO NOTHING RETURNING event_id",
            (
                outcome.rule_id,
                outcome.revision,
                event.ts,
                event.edge,
                event.known_at,
                Json(rule_to_json(outcome.rule) if outcome.rule else {}),
                event.value,
                Json({name: _number(value) for name, value in event.figures.items()}),
                title,
                body,
            ),
        )
        row = cursor.fetchone()
        if row is None:
            continue
        if channels:
            execute_values(
                cursor,
                "INSERT INTO alert_delivery (event_id, channel) VALUES %s",
                [(row[0], channel) for channel in channels],
            )
        notify(cursor, str(row[0]))
        made.append((int(row[0]), event, title))
    return made


def _mark(cursor: Cursor, outcome: Outcome) -> None:
    """Note at events what is to be said of them."""
    for when, edge, remark in outcome.marks:
        cursor.execute(
            "UPDATE alert_event SET remark = %s"
            " WHERE rule_id = %s AND revision = %s AND ts = %s AND edge = %s",
            (remark, outcome.rule_id, outcome.revision, when, edge),
        )
    if outcome.marks:
        notify(cursor, "marked")


# -- events

_EVENTS = """
SELECT e.event_id, e.rule_id, e.ts, e.known_at, e.fired, e.edge, e.value, e.figures, e.title,
       e.body, e.acknowledged, e.rule,
       coalesce((SELECT jsonb_agg(jsonb_build_array(d.channel, d.state, d.attempts, d.last_error)
                                  ORDER BY d.channel)
                 FROM alert_delivery d WHERE d.event_id = e.event_id), '[]'), e.remark,
       e.revision = 0
FROM alert_event e
"""


def list_events(store: PostgresStore, after_id: int = 0, limit: int = 200) -> list[StoredEvent]:
    """Events later than `after_id`, oldest first, at most `limit`: what a tab has not shown yet."""
    with store.reading() as cursor:
        cursor.execute(
            _EVENTS + "WHERE e.event_id > %s ORDER BY e.event_id LIMIT %s", (after_id, limit)
        )
        return [_stored_event(row) for row in cursor.fetchall()]


def recent_events(
    store: PostgresStore,
    limit: int = 100,
    before_id: int | None = None,
    pair: tuple[Instrument, Instrument] | None = None,
) -> list[StoredEvent]:
    """The history: newest first, at most `limit`, earlier than `before_id` where given; `pair`:
    of the rules of these two legs alone, in either order."""
    y, x = (None, None) if pair is None else (leg._asdict() for leg in pair)
    either = None if pair is None else [Json({"y": y, "x": x}), Json({"y": x, "x": y})]
    with store.reading() as cursor:
        cursor.execute(
            _EVENTS + "WHERE (%(before)s::bigint IS NULL OR e.event_id < %(before)s)"
            " AND (%(either)s::jsonb[] IS NULL OR e.rule @> ANY(%(either)s::jsonb[]))"
            " ORDER BY e.event_id DESC LIMIT %(limit)s",
            {"before": before_id, "limit": limit, "either": either},
        )
        return [_stored_event(row) for row in cursor.fetchall()]


def acknowledge(
    store: PostgresStore, event_ids: Sequence[int] | None = None, *, up_to: int | None = None
) -> int:
    """Mark these events (None: all) as seen, `up_to`: none later than that one; how many were not
    before. The first time counts."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE alert_event SET acknowledged = clock_timestamp() WHERE acknowledged IS NULL"
            " AND (%(ids)s::bigint[] IS NULL OR event_id = ANY(%(ids)s::bigint[]))"
            " AND (%(up_to)s::bigint IS NULL OR event_id <= %(up_to)s)",
            {"ids": None if event_ids is None else list(event_ids), "up_to": up_to},
        )
        count = cursor.rowcount
        if count:
            notify(cursor, "acknowledged")
    return count


def pulse(store: PostgresStore) -> Pulse:
    """One cheap query: whether anything is new."""
    with store.reading() as cursor:
        cursor.execute(
            "SELECT coalesce((SELECT max(event_id) FROM alert_event), 0),"
            " (SELECT count(*) FROM alert_event WHERE acknowledged IS NULL),"
            " (SELECT max(acknowledged) FROM alert_event),"
            " (SELECT count(*) FROM alert_rule), (SELECT max(updated) FROM alert_rule),"
            " (SELECT extract(epoch FROM clock_timestamp() - heartbeat)::float8"
            "  FROM alert_watcher),"
            " (SELECT count(*) FROM alert_event WHERE remark IS NOT NULL)"
        )
        return Pulse(*one(cursor))


def _stored_event(row: tuple[Any, ...]) -> StoredEvent:
    deliveries = tuple(Delivered(*item) for item in row[12])
    values: list[Any] = [*row[:11], readable(row[11])[0], deliveries, *row[13:]]
    return StoredEvent(*values)


def _number(value: float | None) -> float | None:
    """NaN is no JSON, and no value."""
    return None if value is None or not math.isfinite(value) else float(value)


def notify(cursor: Cursor, payload: str) -> None:
    cursor.execute("SELECT pg_notify('alerts', %s)", (payload,))
