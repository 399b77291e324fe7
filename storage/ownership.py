"""One daemon per (venue, symbol), and that daemon's sign of life.

A session-level advisory lock: PostgreSQL lets go of it when the connection ends, so a daemon
restarted after a kill gets it by itself. It keeps two daemons from doing the same work; that the
data are right even with two is the business of the transactions in storage/postgres.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import psycopg2
from psycopg2.extras import execute_values

from clock import steady_us
from market import Venue

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


SURE_US = 200_000  # an answer that took longer does not tell well where a clock stood
SET_US = 500_000  # clocks that part by more were set

# Rows are locked in the order that the writer locks them: no deadlock. `ahead_us` is by how much
# the database's clock is ahead of the daemon's, null where that is not known for sure.
BEAT = """
WITH told AS (
    SELECT f.instrument_id, v.state, v.detail, v.ahead_us, v.began,
           CASE WHEN v.began OR abs(v.ahead_us - f.clock_ahead_us) <= {set_us} THEN 0
                ELSE v.ahead_us - f.clock_ahead_us END AS set_by_us
    FROM (VALUES %s) AS v (venue, symbol, state, detail, ahead_us, began)
    JOIN instrument i ON i.venue = v.venue AND i.symbol = v.symbol
    JOIN feed f ON f.instrument_id = i.instrument_id
    ORDER BY f.instrument_id FOR UPDATE OF f
)
UPDATE feed SET state = told.state, detail = told.detail, heartbeat = clock_timestamp(),
    last_received = last_received + coalesce(set_by_us, 0) * interval '1 microsecond',
    clock_ahead_us = CASE WHEN set_by_us <> 0 OR clock_ahead_us IS NULL OR told.began
                     THEN coalesce(told.ahead_us, clock_ahead_us) ELSE clock_ahead_us END
FROM told WHERE feed.instrument_id = told.instrument_id
"""


class Ownership:
    """A connection of its own that holds the locks and writes the heartbeat. `clock_us` is the
    clock that the daemon stamps receipts by: where it and the database's part, one of them was
    set, and what was received before is set right."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        venue: Venue,
        clock_us: Callable[[], int] = steady_us,
    ) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._venue = venue
        self._clock_us = clock_us
        self._begun = False  # what the clocks differ by was noted once

    def claim(self, symbols: Sequence[str]) -> list[str]:
        """Try to become the owner of `symbols`; those that another daemon owns, and then none
        is claimed. Opens a new connection: to be called again after psycopg2.Error."""
        self.close()
        self._connection = self._connect()
        self._connection.autocommit = True
        taken = []
        with self._connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
            for symbol in sorted(symbols):
                cursor.execute(
                    "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
                    (f"{self._venue}/{symbol}",),
                )
                if not (cursor.fetchone() or (False,))[0]:
                    taken.append(symbol)
        if taken:
            self.close()
        return taken

    def heartbeat(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Write symbol → (state, detail) with the database's time. psycopg2.Error where the
        connection, and with it the ownership, is lost; LockNotAvailable where only the rows
        could not be had in time."""
        if self._connection is None:
            raise psycopg2.InterfaceError("these symbols are not owned")
        with self._connection.cursor() as cursor:
            ahead_us = self._ahead_us(cursor)
            began = not self._begun
            execute_values(
                cursor,
                BEAT.format(set_us=SET_US),
                [(self._venue, name, *state, ahead_us, began) for name, state in states.items()],
                "(%s, %s, %s, %s, %s::bigint, %s::bool)",
                page_size=1024,
            )
            self._begun = self._begun or ahead_us is not None

    def _ahead_us(self, cursor: Cursor) -> int | None:
        """By how much the database's clock is ahead of ours; None where its answer took long."""
        before = self._clock_us()
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        took = self._clock_us() - before
        (told,) = cursor.fetchone() or (0,)
        return None if took > SURE_US else int(told) - before - took // 2

    def close(self) -> None:
        """Let go of every lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
