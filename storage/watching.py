"""One watcher of the alerts at a time, woken by what others commit.

A session-level advisory lock on a connection of its own, as in storage/ownership.py; the same
connection listens to `trades` (the daemon's commits) and `alerts` (the page's edits).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

CHANNELS = ("trades", "alerts")


@dataclass(frozen=True, slots=True)
class Woken:
    """What has happened meanwhile: a rule was edited; trades of these venues were committed."""

    rules: bool
    venues: frozenset[str]


class Watch:
    """The right to evaluate. Methods raise psycopg2.Error where the connection, and with it the
    right, is lost: `claim` again."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def claim(self) -> bool:
        """Try to become the watcher; False where another one is."""
        self.close()
        connection = self._connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")  # a lost heartbeat is no loss
            cursor.execute("SELECT pg_try_advisory_lock(hashtextextended('alerts', 0))")
            mine = bool((cursor.fetchone() or (False,))[0])
            if mine:
                for channel in CHANNELS:
                    cursor.execute(f"LISTEN {channel}")
                cursor.execute(
                    "INSERT INTO alert_watcher (heartbeat, started)"
                    " VALUES (clock_timestamp(), clock_timestamp()) ON CONFLICT (one) DO UPDATE"
                    " SET heartbeat = excluded.heartbeat, started = excluded.started"
                )
        if mine:
            self._connection = connection
        else:
            connection.close()
        return mine

    def heartbeat(self) -> bool:
        """Tell that the watcher lives; whether there are any rules at all."""
        with self._held().cursor() as cursor:
            cursor.execute("UPDATE alert_watcher SET heartbeat = clock_timestamp()")
            cursor.execute("SELECT EXISTS (SELECT FROM alert_rule)")
            return bool((cursor.fetchone() or (False,))[0])

    def wait(self, seconds: float, wake: int) -> Woken:
        """Wait until something is committed, the file descriptor `wake` can be read, or the time
        is over."""
        connection = self._held()
        sources: list[Any] = [connection, wake]
        # What came along with the answer to a statement is here already: no socket tells of it.
        select.select(sources, [], [], 0.0 if connection.notifies else max(0.0, seconds))
        connection.poll()
        rules, venues = False, set()
        while connection.notifies:
            notice = connection.notifies.pop(0)
            if notice.channel == "trades":
                venues.add(notice.payload)
            else:
                rules = rules or notice.payload == "rules"
        return Woken(rules, frozenset(venues))

    def close(self) -> None:
        """Let go of the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _held(self) -> Connection:
        if self._connection is None:
            raise psycopg2.InterfaceError("this process is not the watcher")
        return self._connection
