"""The write path against a real PostgreSQL: exactly once, whatever the order and repetition."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from typing import Any

import pandas as pd
import pytest

from pairs.feeds.binance.protocol import parse
from pairs.market import Kline, Rejected, Trade
from pairs.storage.audit import audit
from pairs.storage.batch import at
from pairs.storage.copying import copy_columns
from pairs.storage.gaps import Gap, holes
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import (
    NEWEST_BARS,
    newest_bar,
    read_bars,
    read_feeds,
    read_symbols,
    read_ticks,
)
from pairs.storage.statements import (
    FOLD,
    FRESH_BY_KEY,
    FRESH_IN_RANGE,
    RECORD_CONFLICTS,
    STAGE,
    STORED_NEAR,
)
from tests.support.reference import data_file
from tests.support.rows import MINUTE_US, T0, rows, trade


def captured(symbol: str) -> list[Trade]:
    path = data_file("market", f"spot_{symbol.lower()}_trade.jsonl.gz")
    trades = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received_ns, frame = line.split(" ", 1)
            made = parse(frame, int(received_ns) // 1000)
            assert isinstance(made, Trade)
            trades.append(made)
    return trades


def test_a_batch_twice_changes_nothing(store: PostgresStore) -> None:
    batch = [trade(i, T0 + i * 1000) for i in range(10, 20)]
    first = store.write("binance", batch)
    before = rows(store, "SELECT * FROM v_bars ORDER BY bar_s")
    second = store.write("binance", batch)
    assert (first.stored, first.duplicates) == (10, 0)
    assert (second.stored, second.duplicates, second.conflicts) == (0, 10, 0)
    assert rows(store, "SELECT * FROM v_bars ORDER BY bar_s") == before


def test_the_same_trade_in_ms_and_us_is_one_row(store: PostgresStore) -> None:
    store.write("binance", [trade(7, T0 + 123_000)])
    written = store.write("binance", [trade(7, T0 + 123_456)])
    assert (written.stored, written.conflicts) == (0, 0)
    assert len(rows(store, "SELECT * FROM v_ticks")) == 1


def test_of_two_prices_the_first_stays_and_the_second_is_kept_aside(store: PostgresStore) -> None:
    store.write("binance", [trade(7, price=100.0)])
    written = store.write("binance", [trade(7, price=101.0), trade(8)])
    assert (written.stored, written.conflicts) == (1, 1)
    assert rows(store, "SELECT price FROM v_ticks WHERE trade_id = 7") == [(100.0,)]
    reason, frame = rows(store, "SELECT reason, frame FROM quarantine")[0]
    assert "100" in reason
    assert "101" in frame


def test_one_id_on_two_symbols_and_two_venues_is_three_trades(store: PostgresStore) -> None:
    store.write("binance", [trade(1), trade(1, symbol="ETHUSDT")])
    store.write("local", [trade(1)])
    assert len(rows(store, "SELECT * FROM v_ticks")) == 3


def test_instants_and_floats_come_back_unaltered(store: PostgresStore) -> None:
    odd = trade(1, T0 + 1, price=0.1 + 0.2, size=1e-8)
    store.write("binance", [odd])
    ticks = read_ticks(store.engine, "binance", "BTCUSDT", at(T0), at(T0 + MINUTE_US), limit=10)
    assert ticks.index[0].value == (T0 + 1) * 1000
    assert (ticks["price"].iloc[0], ticks["size"].iloc[0]) == (odd.price, odd.size)


def test_the_newest_trades_are_read_in_order_up_to_the_limit(store: PostgresStore) -> None:
    store.write("binance", [trade(i, T0 + i) for i in range(20)])
    ticks = read_ticks(store.engine, "binance", "BTCUSDT", at(T0), at(T0 + MINUTE_US), limit=5)
    assert ticks["trade_id"].tolist() == [15, 16, 17, 18, 19]
    assert ticks["buyer_is_maker"].dtype == bool


def test_columns_without_a_value_are_refused(store: PostgresStore) -> None:
    with store.transaction() as cursor, pytest.raises(ValueError, match="without NULL"):
        copy_columns(cursor, "SELECT %(x)s::float8", {"x": None}, ["float8"])


def test_a_jump_opens_a_gap_that_holds_the_cursor_until_it_is_filled(store: PostgresStore) -> None:
    store.write("binance", [trade(100)])
    written = store.write("binance", [trade(150, T0 + 5000)])
    assert written.gaps == (Gap("BTCUSDT", 101, 149),)
    assert rows(store, "SELECT last_trade_id FROM v_feed") == [(100,)]
    store.write("binance", [trade(i, T0 + 10) for i in range(101, 149)])
    assert store.first_missing("binance", Gap("BTCUSDT", 101, 149)) == 149
    assert store.open_gaps("binance", "BTCUSDT") != []
    store.write("binance", [trade(149, T0 + 20)])
    assert store.open_gaps("binance", "BTCUSDT") == []
    assert rows(store, "SELECT state, closed IS NOT NULL FROM v_gaps") == [("filled", True)]
    assert rows(store, "SELECT last_trade_id FROM v_feed") == [(150,)]


def test_lost_ids_are_named_and_the_rest_of_the_gap_stays_open(store: PostgresStore) -> None:
    store.write("binance", [trade(100), trade(200)])
    gap = Gap("BTCUSDT", 101, 199)
    store.write("binance", [trade(i) for i in range(101, 121)])
    store.settle("binance", gap, 121, 130, "void", "never were")
    found = rows(store, "SELECT first_id, last_id, state FROM v_gaps ORDER BY 1")
    assert found == [(101, 120, "filled"), (121, 130, "void"), (131, 199, "open")]
    assert rows(store, "SELECT last_trade_id FROM v_feed") == [(130,)]


def test_a_record_begins_where_it_is_told_to(store: PostgresStore) -> None:
    store.begin_at("binance", "BTCUSDT", 90)
    written = store.write("binance", [trade(100)])
    assert written.gaps == (Gap("BTCUSDT", 90, 99),)
    store.begin_at("binance", "BTCUSDT", 5)
    assert store.known_ids("binance", "BTCUSDT") == (90, 100)


@pytest.mark.parametrize(
    ("ids", "first", "high", "expected"),
    [
        ({5, 6, 7}, None, None, []),
        ({5, 9}, None, None, [(6, 8)]),
        ({12}, 5, 10, [(11, 11)]),
        ({7, 11}, 5, 10, []),
        ({2}, 5, 10, [(3, 4)]),
        ({10}, 10, 9, []),
        ({12, 13}, 10, 9, [(10, 11)]),
        ({7}, 10, 9, [(8, 9)]),  # a late frame before a record that has begun, and is empty
        ({7, 9, 12}, 10, 9, [(8, 8), (10, 11)]),
    ],
)
def test_holes(
    ids: set[int], first: int | None, high: int | None, expected: list[tuple[int, int]]
) -> None:
    assert holes(ids, first, high) == expected


def test_bars_do_not_depend_on_the_order_or_the_batches(store: PostgresStore) -> None:
    rng = random.Random(3)
    trades = [
        trade(i, T0 + i * 37_000, price=100 + rng.randint(-50, 50) / 100, buyer_is_maker=i % 3 == 0)
        for i in range(5_000)
    ]
    store.write("binance", trades)
    shuffled = [t._replace(symbol="ETHUSDT") for t in trades]
    rng.shuffle(shuffled)
    while shuffled:
        count = rng.randint(1, 700)
        store.write("binance", shuffled[:count])
        shuffled = shuffled[max(1, count - 20) :]  # some trades come twice
    for bar_s in (1, 60):
        one = read_bars(store.engine, "binance", "BTCUSDT", bar_s)
        other = read_bars(store.engine, "binance", "ETHUSDT", bar_s)
        pd.testing.assert_frame_equal(one, other, rtol=1e-12)
    assert audit(store)["ok"]


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_real_capture_is_stored_unaltered(store: PostgresStore, symbol: str) -> None:
    truth = json.loads(data_file("market", "ground_truth.json").read_text())[
        f"spot_{symbol.lower()}"
    ]
    trades = captured(symbol)
    for start in range(0, len(trades), 5_000):
        store.write("binance", trades[start : start + 5_100])  # each batch overlaps the next
    stored = rows(
        store,
        "SELECT trade_id, price, size, (extract(epoch FROM ts) * 1000)::bigint, buyer_is_maker"
        " FROM v_ticks ORDER BY trade_id",
    )
    assert len(stored) == truth["rows"]
    lines = "".join(
        f"{i}|{price:.8f}|{size:.8f}|{ts}|{int(maker)}\n" for i, price, size, ts, maker in stored
    )
    assert hashlib.sha256(lines.encode()).hexdigest() == truth["sha256_of_id_p_q_T_m_lines"]
    assert f"{sum(round(s * 10**8) for _, _, s, _, _ in stored) / 10**8:.8f}" == truth["sum_qty"]
    report = audit(store)["venues"]["binance"][symbol]
    assert report["ok"]
    assert (report["first_id"], report["last_id"]) == (truth["first_id"], truth["last_id"])


def test_klines_fill_in_and_give_way_to_more_complete_trades(store: PostgresStore) -> None:
    kline = Kline("BTCUSDT", 60, T0, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 4.0, 3)
    store.write_klines("binance", [kline])
    store.write("binance", [trade(1, T0), trade(2, T0 + 1)])
    assert rows(store, "SELECT source, trades FROM v_bars WHERE bar_s = 60") == [("klines", 3)]
    store.write("binance", [trade(3, T0 + 2)])
    assert rows(store, "SELECT source, trades FROM v_bars WHERE bar_s = 60") == [("ticks", 3)]
    assert store.write_klines("binance", [kline]) == 0


def test_audit_finds_what_is_missing_or_wrong(store: PostgresStore) -> None:
    store.write("binance", [trade(i, T0 + i) for i in range(1, 10)])
    assert audit(store)["ok"]
    rows_before = audit(store)["venues"]["binance"]["BTCUSDT"]
    assert rows_before["trades"] == 9
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM trade WHERE trade_id = 5")
    report = audit(store)["venues"]["binance"]["BTCUSDT"]
    assert (report["ok"], report["missing_unnamed"], report["bars_different"]) == (False, 1, 2)


def test_health_tells_a_stopped_daemon_and_an_open_gap(store: PostgresStore) -> None:
    assert not health(store)["healthy"]
    store.write("binance", [trade(1), trade(5)])
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET state = 'live', heartbeat = now()")
    report = health(store)
    assert report["problems"] == ["binance BTCUSDT: 1 open gaps, 3 trades missing"]
    store.write("binance", [trade(i) for i in (2, 3, 4)])
    assert health(store)["healthy"]
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET heartbeat = now() - interval '20 seconds'")
    assert read_feeds(store.engine, "binance")[0].state == "stopped"
    assert not health(store)["healthy"]


def test_a_symbol_that_nobody_ingests_any_more_is_noted_and_no_illness(
    store: PostgresStore,
) -> None:
    store.write("binance", [trade(1), trade(1, symbol="ETHUSDT"), trade(5, symbol="ETHUSDT")])
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET state = 'live', heartbeat = now()")
    assert not health(store)["healthy"]
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET state = 'stopped' WHERE high_id = 5")
    report = health(store)
    assert report["healthy"]
    assert report["notes"] == [
        "binance ETHUSDT: 1 open gaps, 3 trades missing; no daemon ingests this symbol"
    ]
    with store.transaction() as cursor:  # killed, and the next daemon began without it
        cursor.execute(
            "UPDATE feed SET state = 'live', heartbeat = now() - interval '1 hour'"
            " WHERE high_id = 5"
        )
    report = health(store)
    assert report["healthy"]
    assert len(report["notes"]) == 2


def test_what_cannot_be_a_trade_is_kept(store: PostgresStore) -> None:
    store.quarantine("binance", [Rejected("price '0' is not positive", '{"p":"0\0"}', "BTCUSDT")])
    assert rows(store, "SELECT symbol, frame FROM quarantine") == [("BTCUSDT", '{"p":"0\\0"}')]


def test_the_readers_find_symbols_and_the_newest_bar(store: PostgresStore) -> None:
    assert read_symbols(store.engine) == {}
    assert newest_bar(store.engine, "binance", "BTCUSDT", 60) is None
    store.write("binance", [trade(1, T0 + 61_000_000)])
    assert read_symbols(store.engine) == {"binance": ["BTCUSDT"]}
    assert newest_bar(store.engine, "binance", "BTCUSDT", 60) == at(T0 + MINUTE_US)


def test_init_may_run_again_and_beside_itself(store: PostgresStore) -> None:
    store.write("binance", [trade(1)])
    store.init()
    assert len(rows(store, "SELECT * FROM v_ticks")) == 1


def test_a_start_beside_a_reader_waits_for_nobody(store: PostgresStore) -> None:
    """Every door makes sure of the schema. A dump or an audit that is open must not keep it
    waiting, for every later reader would wait behind it."""

    def connect() -> Any:
        connection = store.connect()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
        connection.commit()
        return connection

    starting = PostgresStore(connect)
    reader = store.connect()
    try:
        with reader.cursor() as cursor:
            for view in ("v_ticks", "v_bars", "v_gaps", "v_feed"):
                cursor.execute(f"SELECT count(*) FROM {view}")
            starting.init()
            assert health(starting)["problems"]
    finally:
        reader.close()
        starting.close()


def test_one_duplicate_in_a_batch_of_five_thousand(store: PostgresStore) -> None:
    """Within the batch or stored before: the other 4,999 are stored, and folded once."""
    store.write("binance", [trade(1, T0 + 1)])
    written = store.write("binance", [trade(i, T0 + i) for i in range(1, 5001)])
    assert (written.stored, written.duplicates, written.conflicts) == (4999, 1, 0)
    twice = [trade(i, T0 + i) for i in range(5001, 10_000)]
    written = store.write("binance", [*twice, twice[77]])
    assert (written.stored, written.duplicates, written.conflicts) == (4999, 1, 0)
    assert rows(store, "SELECT sum(trades) FROM v_bars WHERE bar_s = 1") == [(9999,)]
    assert audit(store)["ok"]


def test_a_gap_given_up_is_filled_by_trades_that_come_after_all(store: PostgresStore) -> None:
    store.write("binance", [trade(1), trade(5)])
    gap = store.open_gaps("binance", "BTCUSDT")[0]
    store.settle("binance", gap, 2, 4, "unrecoverable", "no answer")
    store.write("binance", [trade(2), trade(3), trade(4)])
    assert rows(store, "SELECT state FROM v_gaps") == [("filled",)]


def test_the_newest_bar_is_found_without_reading_the_others(store: PostgresStore) -> None:
    store.write("binance", [trade(i, T0 + i * 1_000_000) for i in range(1, 5001)])
    legs = {"venues": ["binance"], "symbols": ["BTCUSDT"], "bases": [1]}
    with store.transaction() as cursor:
        cursor.execute("ANALYZE bar")
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + NEWEST_BARS, legs)
        waiting = [(cursor.fetchone() or [[]])[0][0]["Plan"]]
    read = 0.0
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        read = max(read, node["Actual Rows"] * node["Actual Loops"])
    assert 1 <= read < 100


def test_a_batch_never_reads_the_history(store: PostgresStore) -> None:
    """Plans over a table large enough that a join would rather scan it."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        for first in range(0, 120_000, 30_000):
            store.write(
                "binance",
                [trade(i, T0 + i * 1000, symbol=symbol) for i in range(first, first + 30_000)],
            )
    with store.transaction() as cursor:
        cursor.execute("ANALYZE trade")
        cursor.execute(STAGE)
        fresh = " UNION ALL ".join([FRESH_IN_RANGE] * 2)
        queries = (
            (FOLD.format(fresh=fresh), [1, 119_990, 119_999, 2, 119_990, 119_999]),
            (FOLD.format(fresh=FRESH_BY_KEY), None),
            (RECORD_CONFLICTS.format(stored=STORED_NEAR), [1, 0, 119_999] * 2),
        )
        for query, arguments in queries:
            cursor.execute("EXPLAIN " + query, arguments)
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan on trade" not in plan, plan
