"""One watcher of the alerts at a time, woken by what others commit.

Its right is a lease, as in storage/ownership.py. It listens to `trades` (the daemon's commits) and
`alerts` (the page's edits); through a pooler nothing can be heard, and it looks instead.
"""

from __future__ import annotations

import contextlib
import logging
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

from pairs.messages import one_line
from pairs.storage.connecting import is_pooled
from pairs.storage.ownership import identity, is_dead

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

log = logging.getLogger("alerts")

CHANNELS = ("trades", "alerts")
LEASE_S = 20.0  # longer than any evaluation between two signs of life
LOOK_S = 0.5  # where nothing can be heard

OWNER = "SELECT owner FROM alert_watcher"
# A sign of life from the future is of a clock that has been set back since.
TAKE = """
INSERT INTO alert_watcher AS w (heartbeat, started, owner)
VALUES (clock_timestamp(), clock_timestamp(), %(me)s) ON CONFLICT (one) DO UPDATE
SET heartbeat = excluded.heartbeat, started = excluded.started, owner = excluded.owner
WHERE w.owner IS NULL OR w.owner = %(me)s OR w.owner = %(dead)s
   OR abs(extract(epoch FROM clock_timestamp() - w.heartbeat)) > %(lease)s
RETURNING true
"""
BEAT = "UPDATE alert_watcher SET heartbeat = clock_timestamp() WHERE owner = %s"
RELEASE = "UPDATE alert_watcher SET owner = NULL WHERE owner = %s"
NEWEST_RULE = "SELECT count(*), max(updated) FROM alert_rule"
TESTS = """
SELECT EXISTS (SELECT FROM alert_delivery d JOIN alert_event e USING (event_id)
               WHERE d.state = 'waiting' AND d.attempts = 0 AND e.revision = 0)
"""
NEWEST_TRADES = """
SELECT i.venue, sum(f.stored), max(f.watermark), sum(f.revision)
FROM feed f JOIN instrument i USING (instrument_id) GROUP BY i.venue
"""


@dataclass(frozen=True, slots=True)
class Woken:
    """What has happened meanwhile: a rule was edited; trades of these venues were committed;
    something waits to be delivered that the watcher has not told itself."""

    rules: bool
    venues: frozenset[str]
    tests: bool = False


class Watch:
    """The right to evaluate. Methods raise psycopg2.Error where the connection, or the right, is
    lost: `claim` again."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._me = identity()
        self._seen: tuple[Any, dict[str, Any]] | None = None  # where nothing can be heard

    def claim(self) -> bool:
        """Try to become the watcher; False where another one is."""
        self._leave()
        connection = self._connection = self._connect()
        try:
            mine = self._take()
        except BaseException:
            self._leave()
            raise
        if not mine:
            self._leave()
        elif is_pooled(connection):
            self._seen = None
        else:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for channel in CHANNELS:
                    cursor.execute(f"LISTEN {channel}")
        return mine

    def _take(self) -> bool:
        with self._transaction() as cursor:
            cursor.execute(OWNER)
            (owner,) = cursor.fetchone() or (None,)
            dead = owner if owner is not None and is_dead(owner) else None
            cursor.execute(TAKE, {"me": self._me, "dead": dead, "lease": LEASE_S})
            return cursor.fetchone() is not None

    def heartbeat(self) -> bool:
        """Tell that the watcher lives; whether there are any rules at all."""
        with self._transaction() as cursor:
            cursor.execute(BEAT, (self._me,))
            if not cursor.rowcount:
                raise psycopg2.OperationalError("another watcher has taken over")
            cursor.execute("SELECT EXISTS (SELECT FROM alert_rule)")
            return bool((cursor.fetchone() or (False,))[0])

    def wait(self, seconds: float, wake: int) -> Woken:
        """Wait until something is committed, the file descriptor `wake` can be read, or the time
        is over."""
        connection = self._held()
        if is_pooled(connection):
            return self._look(seconds, wake)
        sources: list[Any] = [connection, wake]
        # What came along with the answer to a statement is here already: no socket tells of it.
        select.select(sources, [], [], 0.0 if connection.notifies else max(0.0, seconds))
        connection.poll()
        rules, tests, venues = False, False, set()
        while connection.notifies:
            notice = connection.notifies.pop(0)
            if notice.channel == "trades":
                venues.add(notice.payload)
            else:
                rules = rules or notice.payload == "rules"
                tests = tests or notice.payload == "test"
        return Woken(rules, frozenset(venues), tests)

    def _look(self, seconds: float, wake: int) -> Woken:
        """As `wait`, where nobody can be heard: look after a while what has changed."""
        select.select([wake], [], [], max(0.0, min(seconds, LOOK_S)))
        with self._transaction() as cursor:
            cursor.execute(NEWEST_RULE)
            rules = cursor.fetchone()
            cursor.execute(NEWEST_TRADES)
            trades = {venue: rest for venue, *rest in cursor.fetchall()}
            cursor.execute(TESTS)
            (tests,) = cursor.fetchone() or (False,)
        before, self._seen = self._seen or (rules, {}), (rules, trades)
        changed = {venue for venue in trades if trades[venue] != before[1].get(venue)}
        return Woken(rules != before[0], frozenset(changed), bool(tests))

    def close(self) -> None:
        """Give the right back. Where the database does not answer any more, it expires."""
        try:
            if self._connection is not None:
                with self._transaction() as cursor:
                    cursor.execute(RELEASE, (self._me,))
        except psycopg2.Error as error:
            log.warning('lease_kept for_s=%.0f error="%s"', LEASE_S, one_line(error))
        finally:
            self._leave()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        with self._held() as connection, connection.cursor() as cursor:
            # A lost heartbeat is no loss.
            cursor.execute("SELECT set_config('synchronous_commit', 'off', true)")
            yield cursor

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _held(self) -> Connection:
        if self._connection is None:
            raise psycopg2.InterfaceError("this process is not the watcher")
        return self._connection
