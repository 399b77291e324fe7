"""Up to where a record is known to be complete, and whose receipt the age of the data is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pairs.ingest.inbox import steady_us
from pairs.live.bars import LiveBars
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from pairs.storage.reader import FeedStatus
from tests.support.rows import MINUTE_US, T0, rows, trade

S = 1_000_000


def now_us() -> int:
    return time.time_ns() // 1000


def of(store: PostgresStore) -> FeedStatus:
    (feed,) = read_feeds(store.engine, "binance")
    return feed


def mark_s(store: PostgresStore) -> float:
    """The watermark in seconds after T0."""
    found = of(store).watermark
    assert found is not None
    return found.timestamp() - T0 / S


# -- the watermark


def test_a_trade_moves_it_as_far_as_its_own_time(store: PostgresStore) -> None:
    store.write("binance", [trade(1, T0), trade(9, T0 + 9 * S)])
    assert mark_s(store) == 9
    store.write("binance", [trade(5, T0 + 5 * S)])  # a repair
    assert mark_s(store) == 9
    store.write("binance", [trade(10, T0 + 8 * S)])  # a later id with an earlier time
    assert mark_s(store) == 9
    store.write("binance", [trade(9, T0 + 12 * S)])  # another time of a trade that is stored
    assert mark_s(store) == 9


def test_what_the_exchange_says_moves_it_only_where_all_it_told_is_stored(
    store: PostgresStore,
) -> None:
    store.write("binance", [trade(1, T0), trade(9, T0 + 9 * S)])
    later = T0 + MINUTE_US
    for newest in (8, 10):  # REST trails the stream; a trade is on its way
        assert store.nothing_newer("binance", [("BTCUSDT", newest, later)]) == set()
        assert mark_s(store) == 9
    assert store.nothing_newer("binance", [("BTCUSDT", 9, later)]) == {"BTCUSDT"}
    assert mark_s(store) == 60
    assert store.nothing_newer("binance", [("BTCUSDT", 9, later - S)]) == set()
    store.write("binance", [trade(10, T0 + 20 * S)])
    assert mark_s(store) == 60


def test_a_record_of_an_older_database_gets_one_that_does_not_fall_behind(
    store: PostgresStore,
) -> None:
    store.write("binance", [trade(1, T0), trade(9, T0 + 9 * S)])
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET watermark = NULL")
    store.write("binance", [trade(5, T0 + 5 * S)])
    assert mark_s(store) == 9


def test_waiting_closes_no_bar(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line stalls in the middle of a bar; what comes after it still changes that bar."""
    legs = (Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT"))
    both = [trade(1, T0, symbol=leg.symbol, received_us=now_us()) for leg in legs]
    store.write("binance", both)
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET state = 'live', heartbeat = now()")
        cursor.execute("UPDATE feed SET last_received = now() - interval '3 s'")
    pair = LiveBars(store.reads, legs, "1s", (1, 1))
    assert [len(leg.closed) for leg in pair.poll(0).legs] == [0, 0]
    store.write("binance", [trade(2, T0 + 900_000, 150.0, symbol="ETHUSDT")])
    y = pair.poll(0).y
    assert (len(y.closed), y.last_price) == (0, 150.0)
    store.nothing_newer("binance", [("ETHUSDT", 2, T0 + S), ("BTCUSDT", 1, T0 + S)])
    assert [leg.closed["close"].tolist() for leg in pair.poll(0).legs] == [[150.0], [100.0]]


# -- the receipt of the newest trade


def silent(store: PostgresStore, age_s: float = 125.0) -> None:
    """Trades 10 … 20 without 15, the last of them received so long ago."""
    received = now_us() - int(age_s * S)
    ids = [i for i in range(10, 21) if i != 15]
    store.write("binance", [trade(i, T0 + i * S, received_us=received) for i in ids])


@pytest.mark.parametrize(
    "late",
    [
        [trade(15, T0 + 15 * S)],  # a repair
        [trade(20, T0 + 20 * S)],  # the newest once more
        [trade(20, T0 + 20 * S + 400)],  # and with a finer time
        [trade(15, T0 + 20 * S)],  # a repair with the newest's time
        [trade(19, T0 + 19 * S), trade(15, T0 + 15 * S), trade(20, T0 + 20 * S)],
        [trade(21, T0 + 19 * S)],  # a later id with an earlier time
        [trade(5, T0 + 5 * S)],
    ],
)
def test_a_trade_that_is_not_the_newest_does_not_make_the_data_young(
    store: PostgresStore, late: list[Any]
) -> None:
    silent(store)
    store.write("binance", [one._replace(received_us=now_us()) for one in late])
    assert of(store).received_age_s == pytest.approx(125, abs=5)
    assert of(store).last_trade == datetime.fromtimestamp(T0 / S + 20, UTC)


@pytest.mark.parametrize(
    ("batch", "age_s"),
    [
        ([(21, 21, 7)], 7),
        ([(21, 20, 7)], 7),  # the same time, a later id
        ([(22, 21, 7), (21, 21, 3)], 7),  # of one time the last id, in whatever order it stands
        ([(21, 21, 3), (22, 21, 7)], 7),
        ([(22, 22, 7), (15, 15, 0), (21, 21, 3), (20, 20, 0)], 7),
        ([(21, 21, 7), (21, 21, 3)], 7),  # of a trade that comes twice the first is stored
    ],
)
def test_the_newest_trade_does(
    store: PostgresStore, batch: list[tuple[int, int, float]], age_s: float
) -> None:
    silent(store)
    received = now_us()
    store.write(
        "binance",
        [trade(i, T0 + s * S, received_us=received - int(age * S)) for i, s, age in batch],
    )
    assert of(store).received_age_s == pytest.approx(age_s, abs=2.5)
    newest = rows(store, "SELECT received FROM v_ticks ORDER BY ts DESC, trade_id DESC LIMIT 1")
    assert newest == [(of(store).last_received,)]


# -- two clocks


@pytest.mark.parametrize("off_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_another_clock_than_the_databases_changes_no_age(
    store: PostgresStore, off_s: float
) -> None:
    def clock() -> int:
        return now_us() + int(off_s * S)

    store.write("binance", [trade(1, T0, received_us=clock() - 2 * S)], clock)
    store.write("binance", [trade(2, T0 + S, received_us=clock() - S), trade(1, T0)], clock)
    assert of(store).received_age_s == pytest.approx(1, abs=0.8)
    ages = "SELECT extract(epoch FROM now() - received)::float8 FROM v_ticks ORDER BY trade_id"
    assert [row[0] for row in rows(store, ages)] == pytest.approx([2, 1], abs=0.8)


def test_a_clock_that_is_set_between_receipt_and_write_changes_no_age(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    received, real = steady_us(), time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    assert abs(steady_us() - received) < S
    store.write("binance", [trade(1, T0, received_us=received)], steady_us)
    assert of(store).received_age_s == pytest.approx(0, abs=0.8)


def test_the_age_grows_while_a_write_is_repeated(store: PostgresStore) -> None:
    received = now_us()
    time.sleep(1.2)
    store.write("binance", [trade(1, T0, received_us=received)])
    received_age_s = of(store).received_age_s
    assert received_age_s is not None
    assert received_age_s >= 1.2


def test_no_age_is_told_too_young(store: PostgresStore) -> None:
    for k in range(20):
        received = now_us()
        store.write("binance", [trade(k, T0 + k * S, received_us=received)])
        last = of(store).last_received
        assert last is not None
        assert last <= datetime.fromtimestamp(received / S, UTC) + timedelta(milliseconds=1)
