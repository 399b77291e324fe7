"""Retention: trades, frames and alerts older than a limit go; bars stay.

Nobody is kept waiting for it. A partition is dropped only where nobody reads at that moment: its
lock is tried and never waited for, so that neither a reader nor the daemon stands behind it. What
is in use is tried again and then told. Two at once cannot block each other: the second goes.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg2

from storage.gaps import cut, lock_feed
from storage.partitions import TRADES_PER_PARTITION

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from storage.postgres import PostgresStore

PRUNE_LOCK = 0x7072756E  # any constant: one prune at a time
ROWS = 20_000  # deleted in one transaction, for as long as which no trade of the symbol is stored
TRIES = 25  # for what is in use, over some 2.5 s
EMPTY = -1


def prune(store: PostgresStore, keep_days: float, now: datetime | None = None) -> dict[str, Any]:
    """Drop trades and quarantined frames older than `keep_days`; bars stay. Returns what went,
    and under `blocked` what could not go now, for it was being read.

    The record stays contiguous: of each symbol everything below one id goes, the one after the
    newest trade that is too old. Whole partitions are dropped; only in the one that the limit runs
    through are rows deleted (at most TRADES_PER_PARTITION of them).
    """
    limit = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    gone: dict[str, Any] = {"partitions": 0, "trades": 0, "quarantined": 0, "blocked": []}
    with _alone(store) as alone:
        if not alone:
            gone["blocked"].append("another prune is under way")
            return gone
        with store.transaction() as cursor:
            cursor.execute("DELETE FROM quarantine WHERE detected < %s", (limit,))
            gone["quarantined"] = cursor.rowcount
            cursor.execute(
                "SELECT instrument_id, venue, symbol FROM feed JOIN instrument"
                " USING (instrument_id) WHERE high_id IS NOT NULL ORDER BY 1"
            )
            records = cursor.fetchall()
        for number, venue, symbol in records:
            if not _prune_record(store, number, limit, gone):
                gone["blocked"].append(f"{venue} {symbol}")
    return gone


@contextlib.contextmanager
def _alone(store: PostgresStore) -> Iterator[bool]:
    """Whether no other prune runs; none begins within the block. The lock is a transaction's that
    does nothing else: behind a pooler a session's would stay."""
    connection = store.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (PRUNE_LOCK,))
            yield bool((cursor.fetchone() or (False,))[0])
        connection.rollback()  # and the lock is gone before the next statement anywhere
    finally:
        connection.close()


def _prune_record(store: PostgresStore, number: int, limit: datetime, gone: dict[str, Any]) -> bool:
    """Drop what is too old of one symbol, oldest first; False where it is in use."""
    tries = 0
    while tries < TRIES:
        try:
            with store.transaction() as cursor:
                found = _oldest(cursor, number, limit)
            if found is None:
                return True
            done = False
            while not done:
                with store.transaction() as cursor:
                    done, dropped, deleted = _step(cursor, number, found)
                gone["partitions"] += dropped
                gone["trades"] += found.trades if dropped else deleted
                tries = 0
        except psycopg2.errors.LockNotAvailable:
            tries += 1
            time.sleep(random.uniform(0.05, 0.15))  # noqa: S311 - not cryptography
    return False


class _Old(NamedTuple):
    """The oldest partition with something to drop: the record is to begin at `first`, and so many
    `trades` go with all of it."""

    leaf: str
    bottom: int
    first: int
    trades: int


def _oldest(cursor: Cursor, number: int, limit: datetime) -> _Old | None:
    """Where to go on; None where nothing is too old any more."""
    for leaf, bottom in _leaves(cursor, number):
        first, count = _first_kept(cursor, number, leaf, bottom, limit)
        if first is None:
            return None
        if first != EMPTY:
            return _Old(leaf, bottom, first, count)
    return None


def _leaves(cursor: Cursor, number: int) -> list[tuple[str, int]]:
    """The partitions of one symbol's trades, oldest first: name and lowest id."""
    cursor.execute(
        "SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid"
        " WHERE h.inhparent = to_regclass(%s)",
        (f"trade_{number}",),
    )
    chunks = sorted(int(row[0].rpartition("_")[2]) for row in cursor.fetchall())
    return [(f"trade_{number}_{k}", k * TRADES_PER_PARTITION) for k in chunks]


def _first_kept(
    cursor: Cursor, number: int, leaf: str, bottom: int, limit: datetime
) -> tuple[int | None, int]:
    """The id that the record is to begin with as far as this partition tells, and the trades in
    it where all of them go. None: nothing is too old; EMPTY: nothing is in it, look further."""
    # Names are made of numbers, by partitions.py. Through the index on time, whatever the planner
    # has heard of the partition: what is asked every hour must not read every trade.
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(
        f"SELECT EXISTS (SELECT FROM {leaf} WHERE ts < %(limit)s),"  # noqa: S608
        f" EXISTS (SELECT FROM {leaf} WHERE ts >= %(limit)s),"
        " (SELECT kept_from FROM feed WHERE instrument_id = %(number)s)",
        {"limit": limit, "number": number},
    )
    any_old, any_new, kept_from = cursor.fetchone() or (False, False, None)
    if not any_old and not any_new:
        top = bottom + TRADES_PER_PARTITION
        return (top if top <= (kept_from or 0) else EMPTY), 0
    if not any_old:
        return None, 0
    if not any_new:
        cursor.execute(f"SELECT max(trade_id) + 1, count(*) FROM {leaf}")  # noqa: S608
        first, count = cursor.fetchone() or (None, 0)
        return first, count
    cursor.execute(
        f"SELECT max(trade_id) + 1 FROM {leaf} WHERE trade_id <"  # noqa: S608
        f" (SELECT min(trade_id) FROM {leaf} WHERE ts >= %s)",
        (limit,),
    )
    return (cursor.fetchone() or (None,))[0], 0


def _step(cursor: Cursor, number: int, old: _Old) -> tuple[bool, int, int]:
    """Drop the partition where nothing from `first` on is in it, else some of its rows: whether
    that was all, and the partitions and rows that went."""
    leaf, bottom, first, _ = old
    cursor.execute("SET LOCAL lock_timeout = '1s'")
    lock_feed(cursor, number)
    cursor.execute(f"SELECT EXISTS (SELECT FROM trade_{number} WHERE trade_id < %s)", (bottom,))  # noqa: S608
    if (cursor.fetchone() or (True,))[0]:
        return True, 0, 0  # late trades have made an older partition meanwhile: that one first
    cursor.execute(f"SELECT EXISTS (SELECT FROM {leaf} WHERE trade_id >= %s)", (first,))  # noqa: S608
    if not (cursor.fetchone() or (True,))[0]:
        cursor.execute(
            f"LOCK TABLE ONLY trade_{number}, ONLY {leaf} IN ACCESS EXCLUSIVE MODE NOWAIT"
        )
        cut(cursor, number, first)
        cursor.execute(f"DROP TABLE {leaf}")
        return True, 1, 0
    cursor.execute(
        f"SELECT trade_id FROM {leaf} WHERE trade_id < %s ORDER BY 1 OFFSET %s LIMIT 1",  # noqa: S608
        (first, ROWS),
    )
    (until,) = cursor.fetchone() or (first,)
    cut(cursor, number, until)
    cursor.execute(f"DELETE FROM {leaf} WHERE trade_id < %s", (until,))  # noqa: S608
    return until == first, 0, cursor.rowcount


def prune_alerts(store: PostgresStore, keep_days: float, now: datetime | None = None) -> int:
    """Delete alerts that fired more than `keep_days` ago, with their deliveries; how many."""
    limit = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM alert_event WHERE fired < %s", (limit,))
        return int(cursor.rowcount)
