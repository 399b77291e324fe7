"""Retention against a real PostgreSQL: what it drops is gone for good and never counted again."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from pairs.market import Kline, Trade
from pairs.storage import retention
from pairs.storage.audit import audit
from pairs.storage.batch import insert, lock_feeds, move_cursors, parts_of, record_gaps
from pairs.storage.digests import take_from_digest
from pairs.storage.gaps import Gap, cut
from pairs.storage.partitions import TRADES_PER_PARTITION, create_partition, trade_partitions
from pairs.storage.postgres import PostgresStore
from pairs.storage.retention import prune

DAY_US = 86_400_000_000
T0 = 1_723_161_600_000_000  # 2024-08-09 00:00:00 UTC
NOW = datetime.fromtimestamp(T0 / 1e6, UTC)
VENUE = "binance"
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
    " AND locktype = 'relation'"
)


def trade(trade_id: int, ts_us: int = T0, **changes: Any) -> Trade:
    made = Trade("BTCUSDT", trade_id, ts_us, 100.0, 0.5, False, ts_us + 1000)
    return made._replace(**changes)


def rows(store: PostgresStore, query: str) -> list[tuple[Any, ...]]:
    with store.transaction() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def tape(first: int, last: int, days: float = 3.0) -> list[Trade]:
    """Trades of `days` days, evenly, the last of them at T0."""
    step = int(days * DAY_US / (last - first))
    return [trade(i, T0 - (last - i) * step) for i in range(first, last + 1)]


def counted(store: PostgresStore) -> int:
    return int(rows(store, "SELECT sum(trades) FROM v_bars WHERE bar_s = 60")[0][0])


def repair(store: PostgresStore, printed: list[Trade], size: int, keep_days: float | None) -> int:
    """Every open gap, page by page, as the daemon asks for them; retention after every second
    page. Returns the trades asked for."""
    by_id = {t.trade_id: t for t in printed}
    asked = 0
    for turn in range(200):
        gaps = store.open_gaps(VENUE, "BTCUSDT")
        if not gaps:
            return asked
        missing = store.first_missing(VENUE, gaps[0])
        if missing is None:
            store.close_gap(VENUE, gaps[0])
            continue
        page = range(missing, min(gaps[0].last_id, missing + size - 1) + 1)
        asked += len(page)
        store.write(VENUE, [by_id[i] for i in page])
        if keep_days is not None and turn % 2:
            prune(store, keep_days, NOW)
    raise AssertionError(f"the repair does not end: {store.open_gaps(VENUE, 'BTCUSDT')}")


@pytest.mark.parametrize("page", [50, 400, 1000])
def test_retention_during_a_repair_counts_no_trade_twice(store: PostgresStore, page: int) -> None:
    """Three days down, a day is kept: what retention has dropped is not asked for again."""
    printed = tape(1000, 3000)
    store.write(VENUE, [printed[0]])
    store.write(VENUE, [printed[-1]])
    asked = repair(store, printed, page, keep_days=1)
    assert asked == 1999
    assert counted(store) == 2001
    assert audit(store)["ok"]
    first = store.known_ids(VENUE, "BTCUSDT")
    assert first is not None
    assert rows(store, "SELECT min(trade_id) FROM v_ticks") == [(first[0],)]


def test_an_open_gap_is_cut_to_the_record_and_what_is_lost_stays_named(
    store: PostgresStore,
) -> None:
    printed = tape(1000, 3000)
    store.write(VENUE, printed[:100] + printed[-660:])  # 1000 … 1099, 2341 … 3000
    store.write(VENUE, printed[100:200] + printed[250:300])  # the gap 1100 … 2340, in part
    prune(store, 1, NOW)
    assert store.known_ids(VENUE, "BTCUSDT") == (1300, 3000)
    found = rows(store, "SELECT first_id, last_id, state FROM v_gaps ORDER BY 1")
    assert found == [(1200, 1249, "unrecoverable"), (1300, 2340, "open")]
    assert rows(store, "SELECT last_trade_id FROM v_feed") == [(1299,)]
    assert audit(store)["ok"]


def test_a_page_asked_for_before_retention_and_stored_after_it_is_refused(
    store: PostgresStore,
) -> None:
    printed = tape(1000, 3000)
    store.write(VENUE, [printed[0]])
    store.write(VENUE, [printed[-1]])
    (gap,) = store.open_gaps(VENUE, "BTCUSDT")
    store.write(VENUE, printed[:600])
    prune(store, 1, NOW)
    assert store.first_missing(VENUE, gap) == 1600
    written = store.write(VENUE, printed[400:700])  # 200 of them were dropped, 100 are new
    assert (written.stored, written.expired) == (100, 200)
    written = store.write(VENUE, printed[400:500])
    assert (written.stored, written.expired) == (0, 100)
    store.settle(VENUE, gap, 1001, 1100, "unrecoverable", "read before retention")
    store.close_gap(VENUE, gap)
    assert counted(store) == 701
    assert audit(store)["ok"]


def test_a_record_without_trades_left_begins_after_its_last_one(store: PostgresStore) -> None:
    printed = tape(1000, 1100)
    store.write(VENUE, printed)
    prune(store, 1, datetime.fromtimestamp(T0 / 1e6 + 10 * 86_400, UTC))
    assert store.known_ids(VENUE, "BTCUSDT") == (1101, 1100)
    assert store.write(VENUE, printed[-5:]).stored == 0
    written = store.write(VENUE, [trade(1105)])
    assert written.gaps == (Gap("BTCUSDT", 1101, 1104),)
    assert counted(store) == 102
    assert audit(store)["ok"]


def test_a_late_trade_before_a_record_never_pruned_extends_it(store: PostgresStore) -> None:
    store.write(VENUE, [trade(100)])
    assert store.write(VENUE, [trade(98)]).stored == 1
    assert store.known_ids(VENUE, "BTCUSDT") == (98, 100)


def test_a_late_id_with_an_early_time_leaves_no_unnamed_hole(store: PostgresStore) -> None:
    """Ids decide what is dropped: a trade newer than the limit keeps all that come after it."""
    old, new = T0 - 3 * DAY_US, T0
    times = [old, old, new, old, new, new]
    store.write(VENUE, [trade(100 + k, ts) for k, ts in enumerate(times)])
    prune(store, 1, NOW)
    assert store.known_ids(VENUE, "BTCUSDT") == (102, 105)
    assert audit(store)["ok"]


def test_a_partition_made_again_by_expired_trades_goes_with_the_next_retention(
    store: PostgresStore,
) -> None:
    edge = TRADES_PER_PARTITION
    store.write(VENUE, [trade(i, T0 - 9 * DAY_US) for i in range(edge - 5, edge + 5)])
    store.write(VENUE, [trade(i) for i in range(edge + 5, edge + 9)])
    assert prune(store, 3, NOW)["partitions"] == 1
    assert store.write(VENUE, [trade(edge - 2, T0 - 9 * DAY_US)]).stored == 0
    prune(store, 3, NOW)
    leaves = "SELECT count(*) FROM pg_partition_tree('trade') WHERE isleaf AND level = 2"
    assert rows(store, leaves) == [(1,)]


def test_retention_waits_for_a_batch_that_is_being_written(store: PostgresStore) -> None:
    """A repaired trade that is stored but not committed yet is dropped with the others, or it
    would stand before the beginning of the record."""
    printed = tape(1000, 3000)
    store.write(VENUE, printed[:50] + printed[60:100] + printed[-660:])
    late, done = printed[50:60], threading.Event()
    parts = parts_of(late, lambda symbol: store.instrument_id(VENUE, symbol))
    outcome: list[dict[str, Any]] = []
    with store.transaction() as cursor:
        known = lock_feeds(cursor, VENUE, parts)
        fresh, _ = insert(cursor, late, parts, known, ahead_us=0, beyond=True)
        opened, _ = record_gaps(cursor, parts, known)
        move_cursors(cursor, parts, known, fresh, opened, 0)
        pruning = threading.Thread(target=lambda: outcome.append(prune(store, 1, NOW)))
        pruning.start()
        done.wait(0.4)  # retention is at work, and has met the row of the feed
    pruning.join(30)
    assert outcome[0]["blocked"] == []
    first = (store.known_ids(VENUE, "BTCUSDT") or (0, 0))[0]
    assert rows(store, f"SELECT count(*) FROM v_ticks WHERE trade_id < {first}") == [(0,)]
    assert rows(store, "SELECT count(*) FROM v_gaps WHERE state = 'unrecoverable'") == [(0,)]
    assert audit(store)["ok"]


def test_retention_drops_old_trades_and_keeps_bars(store: PostgresStore) -> None:
    edge = TRADES_PER_PARTITION
    old = [trade(i, T0 - 10 * DAY_US) for i in range(edge - 5, edge + 5)]
    new = [trade(i, T0) for i in range(edge + 5, edge + 10)]
    store.write(VENUE, old + new)
    gone = prune(store, 3, NOW)
    assert (gone["partitions"], gone["trades"]) == (1, 10)
    assert len(rows(store, "SELECT * FROM v_ticks")) == 5
    assert len(rows(store, "SELECT * FROM v_bars WHERE bar_s = 60")) == 2
    assert audit(store)["ok"]


def test_a_partition_dropped_behind_the_writers_back_is_made_again(store: PostgresStore) -> None:
    old = T0 - 10 * DAY_US
    store.write(VENUE, [trade(i, old) for i in (1, 2, 3)])
    assert prune(store, 3, NOW)["partitions"] == 1
    assert store.write(VENUE, [trade(4, T0)]).stored == 1


def writing_store(store: PostgresStore) -> PostgresStore:
    """A daemon's writer that would rather fail than stand behind somebody for long."""

    def connect() -> Any:
        connection = store.connect()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
        connection.commit()
        return connection

    return PostgresStore(connect)


def two_partitions(store: PostgresStore, old_days: float = 10) -> None:
    """One partition of old trades, one of new ones."""
    edge = TRADES_PER_PARTITION
    old = int(T0 - old_days * DAY_US)
    store.write(VENUE, [trade(i, old) for i in range(edge - 50, edge)])
    store.write(VENUE, [trade(i) for i in range(edge, edge + 50)])


def test_a_reader_in_a_long_transaction_holds_up_nobody(store: PostgresStore) -> None:
    """An audit or a dump is open: trades are stored all the while, retention goes without the
    partition, says so, and has it the next time."""
    two_partitions(store)
    writer, outcome = writing_store(store), []
    reader = store.connect()
    try:
        with reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SELECT count(*) FROM v_ticks")
            pruning = threading.Thread(target=lambda: outcome.append(prune(store, 3, NOW)))
            pruning.start()
            next_id = TRADES_PER_PARTITION + 50
            while pruning.is_alive():
                assert writer.write(VENUE, [trade(next_id)]).stored == 1
                assert rows(store, WAITING) == [(0,)], "who waits for a table keeps others waiting"
                next_id += 1
            pruning.join()
            assert outcome[0]["blocked"] == ["binance BTCUSDT"]
            assert outcome[0]["trades"] == 0
            cursor.execute("SELECT count(*) FROM v_ticks")
            assert cursor.fetchone() == (100,)
    finally:
        reader.close()
        writer.close()
    assert prune(store, 3, NOW)["blocked"] == []
    assert rows(store, "SELECT min(trade_id) FROM v_ticks") == [(TRADES_PER_PARTITION,)]
    assert audit(store)["ok"]


def test_rows_are_deleted_beside_a_reader(store: PostgresStore) -> None:
    store.write(VENUE, [trade(i, T0 - 10 * DAY_US) for i in range(10)])
    store.write(VENUE, [trade(i) for i in range(10, 20)])
    reader = store.connect()
    try:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM v_ticks")
            assert prune(store, 3, NOW)["trades"] == 10
    finally:
        reader.close()


def test_a_long_deletion_lets_the_writer_in_between(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS", 7)
    store.write(VENUE, [trade(i, T0 - 10 * DAY_US) for i in range(100)])
    store.write(VENUE, [trade(i) for i in range(100, 120)])
    steps: list[int] = []
    real = retention.lock_feed

    def counted_lock(cursor: Any, number: int) -> None:
        if steps:
            store.write(VENUE, [trade(200 + len(steps))])  # between two of its transactions
        steps.append(1)
        real(cursor, number)

    monkeypatch.setattr(retention, "lock_feed", counted_lock)
    assert prune(store, 3, NOW)["trades"] == 100
    assert len(steps) == 15
    assert audit(store)["ok"]


def test_prunes_at_once_do_not_block_each_other(store: PostgresStore) -> None:
    stores = [PostgresStore(store.connect) for _ in range(4)]
    for round_ in range(6):
        two_partitions(store, old_days=10 + round_)
        start, failed = threading.Barrier(len(stores)), []

        def run(made: PostgresStore, start: threading.Barrier, failed: list[str]) -> None:
            start.wait()
            try:
                prune(made, 3, NOW)
            except Exception as error:  # noqa: BLE001 - a thread's error is to be seen
                failed.append(str(error))

        threads = [threading.Thread(target=run, args=(s, start, failed)) for s in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        assert prune(store, 3, NOW)["blocked"] == []
        assert audit(store)["ok"]
    for made in stores:
        made.close()


def test_audit_finds_bars_that_count_dropped_trades_twice(store: PostgresStore) -> None:
    """By their ids; by a kline where the bar's ids leave room; by what is left of a bar."""
    store.write(VENUE, [trade(i, T0 - 10 * DAY_US + i * 1000) for i in range(10)])
    store.write(VENUE, [trade(20, T0 - DAY_US)])
    prune(store, 3, NOW)
    assert audit(store)["ok"]
    with store.transaction() as cursor:
        cursor.execute("UPDATE bar SET trades = trades + 3 WHERE first_id = 0 AND bar_s = 60")
    report = audit(store)["venues"][VENUE]["BTCUSDT"]
    assert (report["ok"], report["bars_doubtful"]) == (False, 1)
    with store.transaction() as cursor:
        cursor.execute("UPDATE bar SET trades = 6 WHERE first_id = 0 AND bar_s = 60")
    assert audit(store)["ok"]
    kline = Kline("BTCUSDT", 60, T0 - 10 * DAY_US, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 4.0, 5)
    store.write_klines(VENUE, [kline])
    assert not audit(store)["ok"]


def test_audit_holds_a_bar_against_what_is_left_of_its_trades(store: PostgresStore) -> None:
    limit = T0 - 3 * DAY_US
    store.write(VENUE, [trade(i, limit + (i - 5) * 1000, price=100.0 + i) for i in range(10)])
    prune(store, 3, NOW)
    assert store.known_ids(VENUE, "BTCUSDT") == (5, 9)
    assert audit(store)["ok"]
    with store.transaction() as cursor:
        cursor.execute("UPDATE bar SET close = close + 1 WHERE bar_s = 60 AND last_id = 9")
    assert audit(store)["venues"][VENUE]["BTCUSDT"]["bars_different"] == 1
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE bar SET close = close - 1, first_id = 0, trades = 4 WHERE bar_s = 60"
            " AND last_id = 9"
        )
    assert audit(store)["venues"][VENUE]["BTCUSDT"]["bars_doubtful"] == 1


def test_late_trades_in_an_older_partition_go_before_the_newer_ones(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come after retention has looked, and before it drops."""
    edge, old = TRADES_PER_PARTITION, T0 - 10 * DAY_US
    store.write(VENUE, [trade(i, old) for i in range(edge + 10, edge + 20)])
    store.write(VENUE, [trade(i) for i in range(edge + 20, edge + 30)])
    real, late = retention.lock_feed, [trade(i, old) for i in range(edge - 10, edge - 5)]

    def lock(cursor: Any, number: int) -> None:
        if late:
            store.write(VENUE, late)
            late.clear()
        real(cursor, number)

    monkeypatch.setattr(retention, "lock_feed", lock)
    prune(store, 3, NOW)
    assert rows(store, "SELECT min(trade_id) FROM v_ticks") == [(edge + 20,)]
    assert audit(store)["ok"]


def many_partitions(store: PostgresStore, count: int) -> None:
    """A trade in each of so many partitions, an hour apart, nothing missing between them; one of
    them is empty."""
    ids = [k * TRADES_PER_PARTITION + 5 for k in range(count)]
    with store.transaction() as cursor:
        for wanted in trade_partitions(store.instrument_id(VENUE, "BTCUSDT"), range(count)):
            create_partition(cursor, wanted)
    store.write(VENUE, [trade(i, T0 - (count - k) * 3_600_000_000) for k, i in enumerate(ids)])
    with store.transaction() as cursor:
        cursor.execute("UPDATE gap SET state = 'void'; DELETE FROM trade WHERE trade_id = 7000005")


def test_many_partitions_go_in_few_transactions(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes PostgreSQL look at all that are left: one by one thousands took minutes."""
    many_partitions(store, 40)
    steps: list[int] = []
    real = retention.lock_feed
    monkeypatch.setattr(
        retention, "lock_feed", lambda *arguments: (steps.append(1), real(*arguments))[1]
    )
    gone = prune(store, 1, NOW)  # of the last 24 hours there are 24
    assert (gone["partitions"], gone["trades"], gone["blocked"]) == (16, 15, [])
    assert len(steps) == 1
    gone = prune(store, 1, datetime.fromtimestamp(T0 / 1e6 + 20 * 3600, UTC))
    assert (gone["partitions"], gone["trades"]) == (20, 20)
    assert len(steps) == 3
    first = 36 * TRADES_PER_PARTITION + 5
    assert rows(store, "SELECT min(trade_id) FROM v_ticks") == [(first,)]
    assert store.known_ids(VENUE, "BTCUSDT") == (35 * TRADES_PER_PARTITION + 6, first + 3 * 10**6)


def test_of_many_partitions_the_oldest_go_although_a_later_one_is_read(
    store: PostgresStore,
) -> None:
    many_partitions(store, 12)
    reader = store.connect()
    try:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM trade_1_5")
            gone = prune(store, 1, datetime.fromtimestamp(T0 / 1e6 + 86_400, UTC))
            assert (gone["partitions"], gone["blocked"]) == (5, ["binance BTCUSDT"])
    finally:
        reader.close()
    assert prune(store, 1, datetime.fromtimestamp(T0 / 1e6 + 86_400, UTC))["partitions"] == 7


def test_the_newest_trade_by_time_may_be_among_those_that_went(store: PostgresStore) -> None:
    """Ids follow the exchange's order, times now and then do not: what stays is older by time."""
    store.write(VENUE, [trade(1, T0), trade(2, T0 - 1000)])
    with store.transaction() as cursor:
        number = store.instrument_id(VENUE, "BTCUSDT")
        cut(cursor, number, 2)
        take_from_digest(cursor, number, f"trade_{number}_0", 0, until=2)
        cursor.execute("DELETE FROM trade WHERE trade_id = 1")
    assert audit(store)["ok"]
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET last_trade = last_trade - interval '1 s'")
    assert not audit(store)["ok"]
