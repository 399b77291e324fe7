"""One daemon per (venue, symbol), and that daemon's sign of life.

A session-level advisory lock: PostgreSQL lets go of it when the connection ends, so a daemon
restarted after a kill gets it by itself. It keeps two daemons from doing the same work; that the
data are right even with two is the business of the transactions in storage/postgres.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from psycopg2.extras import execute_values

from market import Venue

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812


class Ownership:
    """A connection of its own that holds the locks and writes the heartbeat."""

    def __init__(self, connect: Callable[[], Connection], venue: Venue) -> None:
        self._connection = connect()
        self._connection.autocommit = True
        self._venue = venue

    def claim(self, symbols: Sequence[str]) -> list[str]:
        """Try to become the owner of `symbols`; those that another daemon owns."""
        taken = []
        with self._connection.cursor() as cursor:
            for symbol in sorted(symbols):
                cursor.execute(
                    "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))",
                    (f"{self._venue}/{symbol}",),
                )
                if not (cursor.fetchone() or (False,))[0]:
                    taken.append(symbol)
            if taken:
                cursor.execute("SELECT pg_advisory_unlock_all()")
        return taken

    def heartbeat(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Write symbol → (state, detail) with the database's time. psycopg2.Error where the
        connection, and with it the ownership, is lost."""
        with self._connection.cursor() as cursor:
            execute_values(
                cursor,
                "UPDATE feed SET state = v.state, detail = v.detail, heartbeat = now()"
                " FROM (VALUES %s) AS v (venue, symbol, state, detail)"
                " JOIN instrument i ON i.venue = v.venue AND i.symbol = v.symbol"
                " WHERE feed.instrument_id = i.instrument_id",
                [(self._venue, symbol, *state) for symbol, state in states.items()],
                page_size=1024,
            )

    def close(self) -> None:
        """Let go of every lock."""
        self._connection.close()
