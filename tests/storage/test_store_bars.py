"""What v_bars says of its bars: whether a trade is known to be missing, and whether one that was
read before is another now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from pairs.market import Kline, Trade
from pairs.storage.audit import audit
from pairs.storage.batch import at
from pairs.storage.gaps import Gap, cut
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_feeds, read_incomplete
from pairs.storage.retention import prune

S = 1_000_000
T0 = 1_723_161_600 * S  # 2024-08-09 00:00:00 UTC
WHO = ("binance", "BTCUSDT")


def trade(trade_id: int, second: float, **changes: Any) -> Trade:
    ts_us = T0 + round(second * S)
    made = Trade("BTCUSDT", trade_id, ts_us, 100.0 + trade_id / 100, 0.5, False, ts_us + 1000)
    return made._replace(**changes)


def complete(store: PostgresStore, bar_s: int = 1) -> dict[int, bool]:
    """Second since T0 → whether its bar is complete."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT ts, complete FROM v_bars WHERE venue = %s AND symbol = %s AND bar_s = %s"
            " ORDER BY ts",
            (*WHO, bar_s),
        )
        return {round(ts.timestamp() - T0 / S): whole for ts, whole in cursor.fetchall()}


def revision(store: PostgresStore) -> int:
    return read_feeds(store.engine, "binance")[0].revision


def rows(store: PostgresStore, query: str) -> list[tuple[Any, ...]]:
    with store.transaction() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def kline(second: int, trades: int, bar_s: int = 1) -> Kline:
    return Kline("BTCUSDT", bar_s, T0 + second * S, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 4.0, trades)


def begin(store: PostgresStore) -> None:
    """A record from id 10, at second 0, that is whole: a trade a second up to id 20."""
    store.begin_at(*WHO, 10)
    store.write("binance", [trade(10 + k, k) for k in range(11)])


def test_the_bars_on_both_sides_of_a_hole_are_incomplete_until_it_is_filled(
    store: PostgresStore,
) -> None:
    begin(store)
    assert all(complete(store).values())
    store.write("binance", [trade(25, 15), trade(26, 16)])
    assert [s for s, whole in complete(store).items() if not whole] == [10, 15]
    assert complete(store, 60) == {0: False}
    store.write("binance", [trade(k, k - 10) for k in range(21, 25)])
    assert all(complete(store).values())
    assert complete(store, 60) == {0: True}


@pytest.mark.parametrize(("state", "incomplete"), [("unrecoverable", [10, 15]), ("void", [])])
def test_what_is_lost_leaves_its_bars_incomplete_and_what_never_was_does_not(
    store: PostgresStore, state: str, incomplete: list[int]
) -> None:
    begin(store)
    store.write("binance", [trade(25, 15), trade(26, 16)])
    before = revision(store)
    store.settle("binance", Gap("BTCUSDT", 21, 24), 21, 24, state, "test")
    assert [s for s, whole in complete(store).items() if not whole] == incomplete
    assert (revision(store) > before) == (state == "void")


def test_a_lost_trade_beside_ids_that_never_were_may_belong_to_the_bar_behind_them(
    store: PostgresStore,
) -> None:
    begin(store)
    store.write("binance", [trade(25, 15), trade(26, 16)])
    store.settle("binance", Gap("BTCUSDT", 21, 24), 22, 24, "void", "test")
    store.settle("binance", Gap("BTCUSDT", 21, 21), 21, 21, "unrecoverable", "test")
    assert [s for s, whole in complete(store).items() if not whole] == [10, 15]


def test_a_kline_settles_whether_a_bar_beside_a_hole_lacks_anything(store: PostgresStore) -> None:
    begin(store)
    store.write("binance", [trade(25, 15), trade(26, 16)])
    store.write_klines("binance", [kline(10, 1), kline(15, 4)])
    assert all(complete(store).values())
    with store.transaction() as cursor:
        cursor.execute("SELECT source FROM v_bars WHERE bar_s = 1 AND trades = 4")
        assert cursor.fetchall() == [("klines",)]


def test_the_bar_that_a_record_begins_in_is_incomplete(store: PostgresStore) -> None:
    """Begun with the first trade received, which lies anywhere in its bar."""
    store.write("binance", [trade(10, 30.5), trade(11, 31)])
    assert complete(store) == {30: False, 31: True}
    assert complete(store, 60) == {0: False}
    store.write("binance", [trade(9, 29)])  # a late frame: the record begins earlier
    assert complete(store) == {29: False, 30: True, 31: True}


def test_retention_makes_no_bar_complete_and_none_incomplete(store: PostgresStore) -> None:
    begin(store)
    store.write("binance", [trade(25, 15), trade(26, 16), trade(30, 20), trade(31, 21)])
    store.settle("binance", Gap("BTCUSDT", 21, 24), 21, 24, "unrecoverable", "test")
    before = complete(store)
    assert [s for s, whole in before.items() if not whole] == [10, 15, 16, 20]
    prune(store, 1, datetime.fromtimestamp(T0 / S + 2 * 86_400, UTC))
    assert complete(store) == before
    assert audit(store)["ok"]


def test_a_file_and_a_kline_alone_are_complete(store: PostgresStore) -> None:
    store.write_klines("binance", [kline(0, 5)])
    bars = pd.DataFrame(
        {"open": [1.0], "high": [2.0], "low": [1.0], "close": [2.0], "volume": [3.0]},
        index=pd.DatetimeIndex([at(T0)]),
    )
    store.write_upload("MINE", 60, bars)
    with store.transaction() as cursor:
        cursor.execute("SELECT source, complete FROM v_bars ORDER BY 1")
        assert cursor.fetchall() == [("klines", True), ("upload", True)]


def test_incomplete_bars_are_listed_for_a_reader(store: PostgresStore) -> None:
    begin(store)
    store.write("binance", [trade(25, 15), trade(26, 16)])
    found = read_incomplete(store.engine, *WHO, 1)
    assert list(found) == [at(T0 + 10 * S), at(T0 + 15 * S)]
    assert list(read_incomplete(store.engine, *WHO, 1, start=at(T0 + 11 * S))) == [at(T0 + 15 * S)]


def test_the_largest_ids_do_not_break_the_view(store: PostgresStore) -> None:
    last = 2**63 - 2
    store.write("binance", [trade(last - 3, 0), trade(last, 1)])
    assert complete(store) == {0: False, 1: False}
    store.write("binance", [trade(last - 2, 0), trade(last - 1, 0)])
    assert complete(store) == {0: False, 1: True}  # the first one is where the record begins


@pytest.mark.parametrize(
    "late",
    [
        [trade(21, 5.5)],
        [trade(21, 12), trade(22, 5.5)],
        [trade(21, 9.999), trade(22, 12)],
        [trade(20, 10), trade(21, 3)],  # with one that is known
    ],
)
def test_a_later_id_with_an_earlier_time_changes_a_bar_and_the_revision(
    store: PostgresStore, late: list[Trade]
) -> None:
    begin(store)
    shown, before = read_bars(store.engine, *WHO, 1), revision(store)
    store.write("binance", late)
    now = read_bars(store.engine, *WHO, 1).reindex(shown.index)
    assert not now.iloc[:-1].equals(shown.iloc[:-1]), "the test is to change an older bar"
    assert revision(store) > before


def test_trades_of_the_newest_bar_and_behind_leave_the_revision(store: PostgresStore) -> None:
    begin(store)
    before = revision(store)
    store.write("binance", [trade(21, 10.9), trade(22, 10.2), trade(23, 13), trade(24, 11)])
    store.write("binance", [trade(23, 13), trade(24, 11)])  # known already
    assert revision(store) == before


@pytest.mark.parametrize(
    "by", ["a known trade", "being asked for", "giving up the rest", "retention"]
)
def test_a_gap_that_closes_without_a_new_trade_makes_readers_read_anew(
    store: PostgresStore, by: str
) -> None:
    """What was missing is given up, or retention has cut it off: the rest of the gap is stored."""
    begin(store)
    store.write("binance", [trade(30, 20)])
    store.write("binance", [trade(k, k - 10) for k in range(25, 30)])
    number = store.instrument_id(*WHO)
    (gap,) = store.open_gaps(*WHO)
    if by in ("a known trade", "being asked for"):  # as an earlier version may have left it
        with store.transaction() as cursor:
            cursor.execute("UPDATE gap SET first_id = 25")
        (gap,) = store.open_gaps(*WHO)
    before, incomplete = revision(store), [s for s, whole in complete(store).items() if not whole]
    if by == "a known trade":
        store.write("binance", [trade(29, 19)])
    elif by == "being asked for":
        assert store.close_gap("binance", gap) == 1
    elif by == "giving up the rest":
        store.settle("binance", gap, 21, 24, "unrecoverable", "tried")
    else:
        with store.transaction() as cursor:
            cut(cursor, number, 25)
    assert store.open_gaps(*WHO) == []
    assert [s for s, whole in complete(store).items() if not whole] != incomplete
    assert revision(store) > before


def test_bars_of_aggregates_count_trades_as_klines_do(store: PostgresStore) -> None:
    """The kline gives way to a bar that has seen as many, and not before."""
    store.begin_at("binance-usdm", "BTCUSDT", 10)
    prices = {"open": 100.1, "high": 100.13, "low": 100.1, "close": 100.13}
    sums = {"volume": 2.0, "quote_volume": 200.23, "taker_buy_volume": 2.0}
    store.write_klines("binance-usdm", [replace(kline(0, 6, bar_s=60), **prices, **sums)])
    counts = "SELECT source, trades, complete FROM v_bars WHERE bar_s = 60"
    store.write("binance-usdm", [trade(10, 1, trades=3), trade(11, 2)])
    assert rows(store, counts) == [("klines", 6, True)]
    store.write("binance-usdm", [trade(13, 4), trade(12, 3)])  # by both ways into the table
    store.write("binance-usdm", [trade(12, 3)])
    assert rows(store, counts) == [("ticks", 6, True)]
    assert audit(store)["ok"]


def test_of_a_kline_told_twice_in_one_answer_the_last_word_counts(store: PostgresStore) -> None:
    first, last = kline(0, 3), replace(kline(0, 3), quote_volume=16.0)
    assert store.write_klines("binance", [last, kline(1, 2), first, last]) == 2
    assert rows(store, "SELECT quote_volume FROM v_bars ORDER BY ts") == [(16.0,), (15.0,)]
    assert store.write_klines("binance", [first]) == 1  # corrected in a single column


def test_whoever_does_not_ask_for_completeness_does_not_pay_for_it(store: PostgresStore) -> None:
    begin(store)
    query = "EXPLAIN SELECT ts, close{} FROM v_bars WHERE symbol = 'BTCUSDT' AND bar_s = 1"
    plain, asked = (
        "\n".join(row[0] for row in rows(store, query.format(more))) for more in ("", ", complete")
    )
    assert " on gap" not in plain, plain
    assert " on feed" not in plain, plain
    assert " on gap" in asked, asked
