"""The outbox: events waiting to be delivered over the channels, with every attempt's result.

An attempt is claimed, made, and recorded: no connection is held while a channel answers slowly.
A process killed in between leaves the delivery claimed; it is made again after the claim has run
out, or at once when the next watcher starts. So every delivery is made at least once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairs.storage.postgres import PostgresStore

CLAIM_S = 60.0  # longer than any attempt takes


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery to attempt now. `attempts` counts this one; `age_s`: since the event fired."""

    event_id: int
    channel: str
    attempts: int
    title: str
    body: str
    age_s: float


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel as the page shows it. `last_error` is None once a delivery succeeded again."""

    channel: str
    configured: bool
    waiting: int
    given_up: int
    last_delivered: datetime | None
    last_error: str | None
    failing_since: datetime | None


def register_channels(store: PostgresStore, channels: Sequence[str]) -> int:
    """Make these the configured channels. Deliveries that a killed watcher has left claimed are
    due at once; those of channels no longer configured are given up, their number is returned."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE alert_channel SET configured = false, last_error = NULL, failing_since = NULL"
            " WHERE configured AND NOT channel = ANY(%s::text[])",
            (list(channels),),
        )
        for channel in channels:
            cursor.execute(
                "INSERT INTO alert_channel (channel, configured) VALUES (%s, true)"
                " ON CONFLICT (channel) DO UPDATE SET configured = true",
                (channel,),
            )
        cursor.execute(
            "UPDATE alert_delivery SET state = 'waiting', next_attempt = clock_timestamp()"
            " WHERE state = 'sending'"
        )
        cursor.execute(
            "UPDATE alert_delivery SET state = 'given_up',"
            " last_error = 'the channel is no longer configured'"
            " WHERE state = 'waiting' AND NOT channel = ANY(%s::text[])",
            (list(channels),),
        )
        return cursor.rowcount


def claim(store: PostgresStore, channel: str) -> Claimed | None:
    """Claim the oldest delivery that is due on the channel; None where none is."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE alert_delivery d SET state = 'sending', attempts = attempts + 1,"
            " next_attempt = clock_timestamp() + make_interval(secs => %(claim_s)s)"
            " FROM (SELECT event_id FROM alert_delivery WHERE channel = %(channel)s"
            "   AND state IN ('waiting', 'sending') AND next_attempt <= clock_timestamp()"
            "   ORDER BY event_id LIMIT 1 FOR UPDATE SKIP LOCKED) AS due"
            " JOIN alert_event e ON e.event_id = due.event_id"
            " WHERE d.event_id = due.event_id AND d.channel = %(channel)s"
            " RETURNING d.event_id, d.channel, d.attempts, e.title, e.body,"
            " extract(epoch FROM clock_timestamp() - e.fired)::float8",
            {"channel": channel, "claim_s": CLAIM_S},
        )
        row = cursor.fetchone()
    return None if row is None else Claimed(*row)


def delivered(store: PostgresStore, claimed: Claimed) -> None:
    """Record that the attempt has succeeded."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE alert_delivery SET state = 'delivered', delivered = clock_timestamp(),"
            " last_error = NULL WHERE event_id = %s AND channel = %s",
            (claimed.event_id, claimed.channel),
        )
        cursor.execute(
            "UPDATE alert_channel SET last_delivered = clock_timestamp(), last_error = NULL,"
            " failing_since = NULL WHERE channel = %s",
            (claimed.channel,),
        )


def failed(store: PostgresStore, claimed: Claimed, error: str, wait_s: float | None) -> None:
    """Record that the attempt has failed; the next one is due in `wait_s`, None: give up."""
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE alert_delivery SET state = %s, last_error = %s,"
            " next_attempt = clock_timestamp() + make_interval(secs => %s)"
            " WHERE event_id = %s AND channel = %s",
            (
                "given_up" if wait_s is None else "waiting",
                error,
                wait_s or 0.0,
                claimed.event_id,
                claimed.channel,
            ),
        )
        cursor.execute(
            "UPDATE alert_channel SET last_error = %s,"
            " failing_since = coalesce(failing_since, clock_timestamp()) WHERE channel = %s",
            (error, claimed.channel),
        )


def next_due_s(store: PostgresStore, channel: str) -> float | None:
    """Seconds until the channel's next delivery is due (0: now); None where none waits."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM min(next_attempt) - clock_timestamp())::float8"
            " FROM alert_delivery WHERE channel = %s AND state IN ('waiting', 'sending')",
            (channel,),
        )
        row = cursor.fetchone()
    return None if row is None or row[0] is None else max(0.0, float(row[0]))


def channel_states(store: PostgresStore) -> list[ChannelState]:
    """Every channel that is configured or has deliveries left to tell of."""
    with store.reading() as cursor:
        cursor.execute(
            "SELECT c.channel, c.configured,"
            " (SELECT count(*) FROM alert_delivery d WHERE d.channel = c.channel"
            "   AND d.state IN ('waiting', 'sending')),"
            " (SELECT count(*) FROM alert_delivery d WHERE d.channel = c.channel"
            "   AND d.state = 'given_up'),"
            " c.last_delivered, c.last_error, c.failing_since"
            " FROM alert_channel c ORDER BY c.channel"
        )
        return [ChannelState(*row) for row in cursor.fetchall()]
