"""What a statement costs must not grow with the partitions of a long record: each partition that
the planner looks at is locked, so the locks tell which it was."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from pairs.market import Trade
from pairs.storage.batch import insert, lock_feeds, move_cursors, parts_of, record_gaps
from pairs.storage.gaps import Gap, first_missing, times_of
from pairs.storage.maintenance import read_figures
from pairs.storage.partitions import TRADES_PER_PARTITION, create_partition, trade_partitions
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_ticks

T0 = 1_723_161_600_000_000
COUNT = 40
LOCKED = (
    "SELECT count(DISTINCT relation) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'trade\\_%'"
)
LONG_AGO, FAR_AHEAD = datetime(2020, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)


def trade(trade_id: int, **changes: Any) -> Trade:
    ts_us = T0 + trade_id * 1000
    return Trade("BTCUSDT", trade_id, ts_us, 100.0, 0.5, False, ts_us)._replace(**changes)


@pytest.fixture
def long_record(store: PostgresStore) -> PostgresStore:
    """Some trades at both ends of a record of many partitions, and holes in between."""
    number = store.instrument_id("binance", "BTCUSDT")
    with store.transaction() as cursor:
        for wanted in trade_partitions(number, range(COUNT)):
            create_partition(cursor, wanted)
    store.write("binance", [trade(i) for i in (0, 1, 5, 9)])
    store.write("binance", [trade(COUNT * TRADES_PER_PARTITION - 9 + i) for i in range(9)])
    return store


@pytest.mark.parametrize(
    "batch",
    [
        [trade(2), trade(3), trade(4)],  # fills a hole
        [trade(1), trade(5, price=1.0), trade(6)],  # known, in conflict, and new
        [trade(10), trade(11)],  # in the hole of nearly all the partitions
        [trade(COUNT * TRADES_PER_PARTITION - 1), trade(COUNT * TRADES_PER_PARTITION - 10)],
    ],
    ids=["filling", "conflict", "in a wide hole", "newest"],
)
def test_a_repair_looks_at_its_own_partition(
    long_record: PostgresStore, batch: list[Trade]
) -> None:
    parts = parts_of(batch, lambda symbol: long_record.instrument_id("binance", symbol))
    with long_record.transaction() as cursor:
        known = lock_feeds(cursor, "binance", parts)
        fresh, _ = insert(cursor, batch, parts, known, ahead_us=0, beyond=True)
        opened, _ = record_gaps(cursor, parts, known)
        move_cursors(cursor, parts, known, fresh, opened, 0)
        cursor.execute(LOCKED)
        assert (cursor.fetchone() or (0,))[0] <= 2


def test_what_is_missing_is_looked_for_partition_by_partition(long_record: PostgresStore) -> None:
    number = long_record.instrument_id("binance", "BTCUSDT")
    last = COUNT * TRADES_PER_PARTITION
    with long_record.transaction() as cursor:
        assert first_missing(cursor, number, 9, last) == 10
        cursor.execute(LOCKED)
        assert cursor.fetchone() == (1,)
        assert first_missing(cursor, number, 0, 1) is None
        assert first_missing(cursor, number, last - 9, last - 1) is None
        assert first_missing(cursor, number, last - 9, last + 5) == last


def test_the_times_beside_a_gap_are_looked_for_beside_it(long_record: PostgresStore) -> None:
    number, last = long_record.instrument_id("binance", "BTCUSDT"), COUNT * TRADES_PER_PARTITION
    first, ninth, newest = (
        datetime.fromtimestamp((T0 + i * 1000) / 1e6, UTC) for i in (1, 9, last - 1)
    )
    with long_record.transaction() as cursor:
        before, after, _ = times_of(cursor, number, Gap("BTCUSDT", 2, 4))
        assert (before, after) == (first, first + timedelta(milliseconds=4))
        cursor.execute(LOCKED)
        assert cursor.fetchone() == (1,)
        before, after, told = times_of(cursor, number, Gap("BTCUSDT", 10, last - 10))
        assert (before, after) == (ninth, newest - timedelta(milliseconds=8))
        assert told == newest
        cursor.execute(LOCKED)
        assert cursor.fetchone() == (2,)
        assert times_of(cursor, number, Gap("BTCUSDT", 500, last - 5))[0] == ninth
        middle = Gap("BTCUSDT", 5 * TRADES_PER_PARTITION, last // 2)
        assert times_of(cursor, number, middle)[:2] == (ninth, newest - timedelta(milliseconds=8))
        assert times_of(cursor, number, Gap("BTCUSDT", last, last + 5))[1] is None


def test_the_newest_trades_are_looked_for_in_the_newest_partition(
    long_record: PostgresStore,
) -> None:
    arguments = ("binance", "BTCUSDT", LONG_AGO, FAR_AHEAD)
    with long_record.engine.connect() as connection:
        ticks = read_ticks(connection, *arguments, limit=4)
        last = COUNT * TRADES_PER_PARTITION - 1
        assert ticks["trade_id"].tolist() == [last - 3, last - 2, last - 1, last]
        assert connection.execute(text(LOCKED)).scalar() == 1
        ticks = read_ticks(connection, *arguments, limit=100)
        assert ticks["trade_id"].tolist() == [0, 1, 5, 9, *range(last - 8, last + 1)]
        assert read_ticks(connection, *arguments, limit=0).empty
        assert read_ticks(connection, "binance", "NONE", LONG_AGO, FAR_AHEAD, limit=9).empty


def test_the_figures_look_at_one_partition_a_symbol(
    long_record: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with long_record.transaction() as cursor:
        monkeypatch.setattr(long_record, "reading", lambda: contextlib.nullcontext(cursor))
        monkeypatch.setattr(long_record, "transaction", lambda: contextlib.nullcontext(cursor))
        assert read_figures(long_record).oldest == datetime.fromtimestamp(T0 / 1e6, UTC)
        cursor.execute(LOCKED)
        assert cursor.fetchone() == (1,)
