"""What is done with a rule by hand beside making and changing it: snoozed, brought back, tested."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from psycopg2.extras import Json, execute_values

from pairs.alerts.rules import AlertEvent, AlertRule
from pairs.alerts.store import StoredRule, notify, readable
from pairs.alerts.stored_form import rule_to_json, state_to_json
from pairs.alerts.words import message
from pairs.checks import check_number
from pairs.storage.gaps import one

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore

TEST = "a test: nothing has happened"
MOST_SNOOZED_S = 30 * 86_400.0


def snooze_rule(store: PostgresStore, rule_id: int, seconds: float) -> datetime | None:
    """Let a rule be silent for `seconds` from now on, by the database's clock; 0: no longer. Until
    when; None where the rule is gone, or cannot be read. Its state stays as it is, and what the
    watcher is just judging by the rule as it was is judged again."""
    wait = timedelta(seconds=check_number("seconds", seconds, 0.0, MOST_SNOOZED_S, open_low=False))
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT r.rule, clock_timestamp() FROM alert_rule r WHERE rule_id = %s FOR UPDATE",
            (rule_id,),
        )
        row = cursor.fetchone()
        rule = readable(row[0])[0] if row else None
        if row is None or rule is None:
            return None
        now: datetime = row[1]
        begin = rule.snoozed_from if rule.is_snoozed(now) else now
        made = replace(rule, snoozed_from=begin, snoozed_until=now + wait)
        cursor.execute(
            "UPDATE alert_rule SET rule = %s, updated = clock_timestamp() WHERE rule_id = %s",
            (Json(rule_to_json(made)), rule_id),
        )
        cursor.execute("UPDATE alert_state SET serial = serial + 1 WHERE rule_id = %s", (rule_id,))
        notify(cursor, "rules")
    return made.snoozed_until


def restore_rule(store: PostgresStore, deleted: StoredRule) -> bool:
    """Bring back a rule that was deleted, as it stood: under its number, with its state, so that
    the bars that closed meanwhile are evaluated now. False where it is there already, or cannot be
    read."""
    if deleted.rule is None:
        return False
    with store.transaction() as cursor:
        cursor.execute(
            "INSERT INTO alert_rule (rule_id, revision, rule, created) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (rule_id) DO NOTHING",
            (
                deleted.rule_id,
                deleted.revision,
                Json(rule_to_json(deleted.rule)),
                deleted.created,
            ),
        )
        if not cursor.rowcount:
            return False
        cursor.execute(
            "INSERT INTO alert_state (rule_id, revision, serial, last_ts, state, value, evaluated)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                deleted.rule_id,
                deleted.revision,
                deleted.serial + 1,
                deleted.state.last_ts,
                Json(state_to_json(deleted.state)),
                deleted.value,
                deleted.evaluated,
            ),
        )
        notify(cursor, "rules")
    return True


def send_rule_test(store: PostgresStore, stored: StoredRule) -> int | None:
    """Tell this rule over every channel and in every tab as if it had fired at its present value,
    marked as a test; the event's id, None where the rule cannot be read."""
    rule = stored.rule
    if rule is None:
        return None
    with store.transaction() as cursor:
        now = _now(cursor)
        value = math.nan if stored.value is None else stored.value
        title, body = message(rule, AlertEvent(now, now, rule.edges[0], value, {}), now)
        return _tell(cursor, stored.rule_id, rule, now, value, title, body)


def send_channel_test(store: PostgresStore, channel: str) -> int:
    """Tell over one channel that it works; the event's id."""
    with store.transaction() as cursor:
        text = "This channel of the pairs workstation works."
        return _tell(
            cursor, 0, None, _now(cursor), math.nan, f"channel {channel}", text, channel=channel
        )


def _now(cursor: Cursor) -> datetime:
    cursor.execute("SELECT clock_timestamp()")
    now: datetime = one(cursor)[0]
    return now


def _tell(
    cursor: Cursor,
    rule_id: int,
    rule: AlertRule | None,
    now: datetime,
    value: float,
    title: str,
    body: str,
    *,
    channel: str | None = None,
) -> int:
    """Store an event of revision 0, seen already, with its deliveries: `channel`, or all."""
    cursor.execute(
        "INSERT INTO alert_event (rule_id, revision, ts, edge, known_at, rule, value, figures,"
        " title, body, remark, acknowledged) VALUES (%s, 0, %s, %s, %s, %s, %s, '{}', %s, %s, %s,"
        " clock_timestamp()) RETURNING event_id",
        (
            rule_id,
            now,
            rule.edges[0] if rule else "up",
            now,
            Json(rule_to_json(rule) if rule else {}),
            value,
            f"[TEST] {title}",
            f"{body}\n{TEST}",
            TEST,
        ),
    )
    event_id = int(one(cursor)[0])
    cursor.execute(
        "SELECT channel FROM alert_channel WHERE configured AND (%(one)s IS NULL OR channel ="
        " %(one)s)",
        {"one": channel},
    )
    channels = [row[0] for row in cursor.fetchall()]
    if channels:
        execute_values(
            cursor,
            "INSERT INTO alert_delivery (event_id, channel) VALUES %s",
            [(event_id, name) for name in channels],
        )
    notify(cursor, "test")
    return event_id
