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

from market import Venue

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class Ownership:
    """A connection of its own that holds the locks and writes the heartbeat."""

    def __init__(self, connect: Callable[[], Connection], venue: Venue) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._venue = venue

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
            execute_values(
                cursor,
                # Rows are locked in the order that the writer locks them: no deadlock.
                "WITH told AS (SELECT f.instrument_id, v.state, v.detail"
                " FROM (VALUES %s) AS v (venue, symbol, state, detail)"
                " JOIN instrument i ON i.venue = v.venue AND i.symbol = v.symbol"
                " JOIN feed f ON f.instrument_id = i.instrument_id"
                " ORDER BY f.instrument_id FOR UPDATE OF f)"
                " UPDATE feed SET state = told.state, detail = told.detail, heartbeat = now()"
                " FROM told WHERE feed.instrument_id = told.instrument_id",
                [(self._venue, symbol, *state) for symbol, state in states.items()],
                page_size=1024,
            )

    def close(self) -> None:
        """Let go of every lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
