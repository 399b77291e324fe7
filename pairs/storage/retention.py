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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import psycopg2

from pairs.storage.digests import drop_digests, take_from_digest
from pairs.storage.gaps import cut, lock_feed, one
from pairs.storage.partitions import TRADES_PER_PARTITION

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore

PRUNE_LOCK = 0x7072756E  # any constant: one prune at a time
ROWS = 20_000  # deleted in one transaction, for as long as which no trade of the symbol is stored
PARTITIONS = 16  # dropped in one transaction: readers wait some 50 ms for it
TRIES = 25  # for what is in use, over some 2.5 s


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
    tries, at_once = 0, PARTITIONS
    while tries < TRIES:
        try:
            with store.transaction() as cursor:
                found = _oldest(cursor, number, limit, at_once)
            if found is None:
                return True
            done = False
            while not done:
                with store.transaction() as cursor:
                    done, dropped, deleted = _step(cursor, number, found)
                gone["partitions"] += dropped
                gone["trades"] += found.trades if dropped else deleted
                tries, at_once = 0, min(2 * at_once, PARTITIONS)
        except psycopg2.errors.LockNotAvailable:
            if at_once > 1:
                at_once = 1  # one of them is in use: perhaps not the oldest
                continue
            tries += 1
            time.sleep(random.uniform(0.05, 0.15))  # noqa: S311 - not cryptography
    return False


class _Leaf(NamedTuple):
    """A partition that retention has something to do with: without what is too old in it the
    record begins at `first`. Empty ones go with the next that is not."""

    name: str
    bottom: int
    first: int
    trades: int
    what: Literal["whole", "part", "empty"]


class _Old(NamedTuple):
    """The oldest partitions that go, or the oldest one in part: the record is to begin at `first`,
    and so many `trades` go with all of them."""

    leaves: list[str]
    bottom: int
    first: int
    trades: int


def _oldest(cursor: Cursor, number: int, limit: datetime, at_once: int) -> _Old | None:
    """Where to go on, with so many partitions at most; None where nothing is too old any more."""
    # Through the index on time, whatever the planner has heard of a partition: what is asked every
    # hour must not read every trade.
    cursor.execute(
        "SET LOCAL enable_seqscan = off; SELECT kept_from FROM feed WHERE instrument_id = %s",
        (number,),
    )
    kept_from = (cursor.fetchone() or (None,))[0] or 0
    going: list[_Leaf] = []
    known = 0  # of these, up to the last that is not empty
    for name, bottom in _leaves(cursor, number):
        leaf = _judged(cursor, name, bottom, limit, kept_from)
        if leaf is None or (known and leaf.what == "part"):
            break
        going.append(leaf)
        if leaf.what != "empty":
            known = len(going)
        if leaf.what == "part" or known >= at_once:
            break
    if not known:
        return None
    if going[known - 1].what == "part":
        going = [going[known - 1]]
    going = going[: min(known, at_once)]
    names, total = [leaf.name for leaf in going], sum(leaf.trades for leaf in going)
    return _Old(names, going[0].bottom, going[-1].first, total)


def _leaves(cursor: Cursor, number: int) -> list[tuple[str, int]]:
    """The partitions of one symbol's trades, oldest first: name and lowest id."""
    cursor.execute(
        "SELECT c.relname FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid"
        " WHERE h.inhparent = to_regclass(%s)",
        (f"trade_{number}",),
    )
    chunks = sorted(_chunk(row[0]) for row in cursor.fetchall())
    return [(f"trade_{number}_{k}", k * TRADES_PER_PARTITION) for k in chunks]


def _chunk(leaf: str) -> int:
    return int(leaf.rpartition("_")[2])


def _judged(
    cursor: Cursor, leaf: str, bottom: int, limit: datetime, kept_from: int
) -> _Leaf | None:
    """What is too old in a partition; None where nothing is, here or further on."""
    # Names are made of numbers, by partitions.py.
    cursor.execute(
        f"SELECT EXISTS (SELECT FROM {leaf} WHERE ts < %(limit)s),"  # noqa: S608
        f" EXISTS (SELECT FROM {leaf} WHERE ts >= %(limit)s)",
        {"limit": limit},
    )
    any_old, any_new = cursor.fetchone() or (False, False)
    if not any_old and not any_new:
        top = bottom + TRADES_PER_PARTITION
        return _Leaf(leaf, bottom, top, 0, "whole" if top <= kept_from else "empty")
    if not any_old:
        return None
    if not any_new:
        cursor.execute(f"SELECT max(trade_id) + 1, count(*) FROM {leaf}")  # noqa: S608
        first, count = one(cursor)
        return _Leaf(leaf, bottom, first, count, "whole")
    cursor.execute(
        f"SELECT max(trade_id) + 1 FROM {leaf} WHERE trade_id <"  # noqa: S608
        f" (SELECT min(trade_id) FROM {leaf} WHERE ts >= %s)",
        (limit,),
    )
    (first,) = one(cursor)
    return None if first is None else _Leaf(leaf, bottom, first, 0, "part")


def _step(cursor: Cursor, number: int, old: _Old) -> tuple[bool, int, int]:
    """Drop the partitions where nothing from `first` on is in them, else some rows of the one:
    whether that was all, and the partitions and rows that went."""
    leaves, bottom, first, _ = old
    last = leaves[-1]
    cursor.execute("SET LOCAL lock_timeout = '1s'")
    lock_feed(cursor, number)
    cursor.execute(f"SELECT EXISTS (SELECT FROM trade_{number} WHERE trade_id < %s)", (bottom,))  # noqa: S608
    if (cursor.fetchone() or (True,))[0]:
        return True, 0, 0  # late trades have made an older partition meanwhile: that one first
    cursor.execute(f"SELECT EXISTS (SELECT FROM {last} WHERE trade_id >= %s)", (first,))  # noqa: S608
    if not (cursor.fetchone() or (True,))[0]:
        every = ", ONLY ".join((f"trade_{number}", *leaves))
        cursor.execute(f"LOCK TABLE ONLY {every} IN ACCESS EXCLUSIVE MODE NOWAIT")
        cut(cursor, number, first)
        cursor.execute(f"DROP TABLE {', '.join(leaves)}")
        drop_digests(cursor, number, [_chunk(leaf) for leaf in leaves])
        return True, len(leaves), 0
    if len(leaves) > 1:
        return True, 0, 0  # late trades in the newest of them: looked at again
    cursor.execute(
        f"SELECT trade_id FROM {last} WHERE trade_id < %s ORDER BY 1 OFFSET %s LIMIT 1",  # noqa: S608
        (first, ROWS),
    )
    (until,) = cursor.fetchone() or (first,)
    cut(cursor, number, until)
    take_from_digest(cursor, number, last, _chunk(last), until)
    cursor.execute(f"DELETE FROM {last} WHERE trade_id < %s", (until,))  # noqa: S608
    return until == first, 0, cursor.rowcount


def prune_alerts(store: PostgresStore, keep_days: float, now: datetime | None = None) -> int:
    """Delete alerts that fired more than `keep_days` ago, with their deliveries; how many."""
    limit = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM alert_event WHERE fired < %s", (limit,))
        return int(cursor.rowcount)
