"""One daemon per (venue, symbol), one watcher of the alerts: by leases, renewed by a sign of life.

A lease is a row, not a lock of a session: it holds through poolers and over a failover. Each
transaction of the owner looks at it under the lock of the feed's row, so that one who has lost it
without knowing writes nothing more. A clean end gives it back, an unclean one leaves it to expire;
a process of the same machine is seen to be dead before that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg2
from psycopg2.extras import execute_values

from pairs.clock import steady_us
from pairs.market import Venue
from pairs.messages import one_line

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

log = logging.getLogger("store")

LEASE_S = 10.0
LOCK_S = 3  # waited for the feeds' rows
SURE_US = 200_000  # an answer that took longer does not tell well where a clock stood
SET_US = 500_000  # clocks that part by more were set

REGISTER = """
INSERT INTO instrument (venue, symbol)
SELECT %(venue)s, s FROM unnest(%(symbols)s) AS s WHERE NOT EXISTS (
    SELECT FROM instrument WHERE venue = %(venue)s AND symbol = s) ON CONFLICT DO NOTHING;
INSERT INTO feed (instrument_id)
SELECT instrument_id FROM instrument WHERE venue = %(venue)s AND symbol = ANY(%(symbols)s)
    AND NOT EXISTS (SELECT FROM feed f WHERE f.instrument_id = instrument.instrument_id)
ON CONFLICT DO NOTHING
"""
# A lease that ends later than any was ever given is of a clock that has been set back since.
OWNERS = """
SELECT i.symbol, CASE WHEN f.owned_until > clock_timestamp()
    AND f.owned_until < clock_timestamp() + interval '1 s' * 2 * %(lease)s THEN f.owner END
FROM feed f JOIN instrument i USING (instrument_id)
WHERE i.venue = %(venue)s AND i.symbol = ANY(%(symbols)s) ORDER BY f.instrument_id
"""
TAKE = """
UPDATE feed SET owner = %(owner)s,
    owned_until = clock_timestamp() + interval '1 s' * %(lease)s
FROM instrument i
WHERE i.instrument_id = feed.instrument_id AND i.venue = %(venue)s AND i.symbol = ANY(%(symbols)s)
"""
# Rows are locked in the order that the writer locks them: no deadlock. `ahead_us` is by how much
# the database's clock is ahead of the daemon's, null where that is not known for sure.
BEAT = """
WITH told AS (
    SELECT f.instrument_id, v.state, v.detail, v.ahead_us, v.began,
           CASE WHEN v.began OR abs(v.ahead_us - f.clock_ahead_us) <= {set_us} THEN 0
                ELSE v.ahead_us - f.clock_ahead_us END AS set_by_us
    FROM (VALUES %s) AS v (venue, symbol, state, detail, owner, ahead_us, began)
    JOIN instrument i ON i.venue = v.venue AND i.symbol = v.symbol
    JOIN feed f ON f.instrument_id = i.instrument_id AND f.owner = v.owner
    ORDER BY f.instrument_id FOR UPDATE OF f
)
UPDATE feed SET state = told.state, detail = told.detail, heartbeat = clock_timestamp(),
    owned_until = clock_timestamp() + interval '{lease} s',
    last_received = last_received + coalesce(set_by_us, 0) * interval '1 microsecond',
    clock_ahead_us = CASE WHEN set_by_us <> 0 OR clock_ahead_us IS NULL OR told.began
                     THEN coalesce(told.ahead_us, clock_ahead_us) ELSE clock_ahead_us END
FROM told WHERE feed.instrument_id = told.instrument_id
"""
RELEASE = "UPDATE feed SET owner = NULL, owned_until = NULL WHERE owner = %s"


class OwnershipLostError(RuntimeError):
    """Another one has taken over; this one waits again."""


def still_owned(symbol: str, owner: str | None, me: str | None) -> None:
    """Raise OwnershipLostError where a symbol's owner is another; its row is locked. Whoever has
    no name (a command, a file of a user) may write beside any."""
    if me is not None and owner is not None and owner != me:
        raise OwnershipLostError(f"another daemon has taken over {symbol}")


# -- who one is


def identity() -> str:
    """A name that no other process, nor another part of this one, will ever have."""
    pid = os.getpid()
    return f"{_place()}/{pid}/{psutil.Process(pid).create_time():.2f}/{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that runs no more."""
    place, _, rest = owner.rpartition("/")[0].partition("/")
    pid, _, born = rest.partition("/")
    if place != _place() or not pid.isdecimal():
        return False
    try:
        process = psutil.Process(int(pid))
        same = f"{process.create_time():.2f}" == born
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _place() -> str:
    """Where numbers of processes mean the same: this machine since its start, this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        boot, space = socket.gethostname(), f"{psutil.boot_time():.0f}"
    return f"{boot}{space}".replace("/", "")


class Ownership:
    """A connection of its own that renews the leases and writes the heartbeat. `clock_us` is the
    clock that the daemon stamps receipts by: where it and the database's part, one of them was
    set, and what was received before is set right."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        venue: Venue,
        clock_us: Callable[[], int] = steady_us,
        owner: str | None = None,
    ) -> None:
        self.owner = owner or identity()
        self._connect = connect
        self._connection: Connection | None = None
        self._venue = venue
        self._clock_us = clock_us
        self._begun = False  # what the clocks differ by was noted once

    def claim(self, symbols: Sequence[str]) -> list[str]:
        """Try to become the owner of `symbols`; those that another daemon owns, and then none
        is claimed. Opens a new connection: to be called again after psycopg2.Error."""
        self._leave()
        self._connection = self._connect()
        asked = {"venue": self._venue, "symbols": list(symbols), "lease": LEASE_S}
        taken = self._others(asked, lock=False)
        if not taken:
            with self._transaction() as cursor:
                cursor.execute(REGISTER, asked)
            taken = self._others(asked, lock=True)
        if taken:
            self._leave()
        return taken

    def _others(self, asked: Mapping[str, object], *, lock: bool) -> list[str]:
        """The symbols whose owner is another and alive; none, and `lock`: they are ours now."""
        with self._transaction() as cursor:
            cursor.execute(OWNERS + (" FOR UPDATE OF f" if lock else ""), asked)
            taken = [
                symbol
                for symbol, owner in cursor.fetchall()
                if owner is not None and owner != self.owner and not is_dead(owner)
            ]
            if lock and not taken:
                cursor.execute(TAKE, {**asked, "owner": self.owner})
        return taken

    def heartbeat(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Write symbol → (state, detail) with the database's time, and renew the leases.
        OwnershipLostError where one is another's by now, psycopg2.Error where the connection is
        lost: `claim` again; LockNotAvailable where only the rows could not be had in time."""
        renewed = 0
        with self._transaction() as cursor:
            ahead_us = self._ahead_us(cursor)
            rows = [
                (self._venue, symbol, *state, self.owner, ahead_us, not self._begun)
                for symbol, state in states.items()
            ]
            for first in range(0, len(rows), 1024):
                execute_values(
                    cursor,
                    BEAT.format(set_us=SET_US, lease=LEASE_S),
                    rows[first : first + 1024],
                    "(%s, %s, %s, %s, %s, %s::bigint, %s::bool)",
                    page_size=1024,
                )
                renewed += cursor.rowcount
        if renewed < len(rows):
            raise OwnershipLostError("another daemon has taken over")
        self._begun = self._begun or ahead_us is not None

    def _ahead_us(self, cursor: Cursor) -> int | None:
        """By how much the database's clock is ahead of ours; None where its answer took long."""
        before = self._clock_us()
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        took = self._clock_us() - before
        (told,) = cursor.fetchone() or (0,)
        return None if took > SURE_US else int(told) - before - took // 2

    def close(self) -> None:
        """Give back what is owned. Where the database does not answer any more, it expires."""
        try:
            if self._connection is not None:
                with self._transaction() as cursor:
                    cursor.execute(RELEASE, (self.owner,))
        except psycopg2.Error as error:
            log.warning('leases_kept for_s=%.0f error="%s"', LEASE_S, one_line(error))
        finally:
            self._leave()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Cursor]:
        if self._connection is None:
            raise psycopg2.InterfaceError("these symbols are not owned")
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
            yield cursor

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
