"""What was changed behind the program's back: each is found, and what was not changed is not."""

from __future__ import annotations

import asyncio
import decimal
import random
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from ingest_websocket import Daemon
from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.choice import Feed
from pairs.ingest.covering import AGAIN_S, LOOK_EVERY_S
from pairs.market import Kline, Trade
from pairs.settings import load_settings
from pairs.storage import covering, digests
from pairs.storage.audit import audit
from pairs.storage.batch import at
from pairs.storage.partitions import TRADES_PER_PARTITION
from pairs.storage.postgres import PostgresStore
from pairs.storage.retention import prune
from tests.support.rows import T0, nothing_after, rows

S = 1_000_000
EDGE = TRADES_PER_PARTITION - 20


def trade(trade_id: int, second: float, **changes: Any) -> Trade:
    ts_us = int(T0 + second * S)
    made = Trade("BTCUSDT", trade_id, ts_us, 100.0 + trade_id % 7, 0.5, trade_id % 2 == 0, ts_us)
    return made._replace(**changes)


def kline(bar_s: int, ts_s: int, trades: list[Trade], **changes: Any) -> Kline:
    """What the exchange states of a bar in which it printed these trades."""
    made: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "bar_s": bar_s,
        "ts_us": T0 + ts_s * S,
        "open": trades[0].price,
        "high": max(t.price for t in trades),
        "low": min(t.price for t in trades),
        "close": trades[-1].price,
        "volume": sum(t.size for t in trades),
        "quote_volume": sum(t.size * t.price for t in trades),
        "taker_buy_volume": sum(t.size for t in trades if not t.buyer_is_maker),
        "trades": len(trades),
    }
    return Kline(**{**made, **changes})


@pytest.fixture
def printed(store: PostgresStore) -> list[Trade]:
    """Two hours of trades across two partitions, one every 3 min, three in its first second; and
    their klines of every length. Nothing of it is wrong."""
    trades = [trade(EDGE + 3 * k + j, 180 * k + j / 10) for k in range(40) for j in range(3)]
    store.begin_at("binance", "BTCUSDT", EDGE)
    store.write("binance", trades[:60])
    store.write("binance", trades[55:])
    nothing_after(store, T0 + 7300 * S)
    klines = [kline(s, 180 * k, trades[3 * k : 3 * k + 3]) for k in range(40) for s in (1, 60)]
    klines += [kline(3600, 0, trades[:60]), kline(3600, 3600, trades[60:])]
    store.write_klines("binance", klines)
    assert audit(store)["ok"], audit(store)
    return trades


def of_binance(store: PostgresStore) -> dict[str, Any]:
    found: dict[str, Any] = audit(store)["venues"]["binance"]["BTCUSDT"]
    return found


def execute(store: PostgresStore, statements: str) -> None:
    with store.transaction() as cursor:
        cursor.execute(statements)


# As in a store of before: no digests, neither in rows of their own nor in the feed's.
FORGET = (
    "DELETE FROM partition_digest;UPDATE feed SET tail_chunk = NULL, tail_n = 0, tail_digest = 0"
)
COUNTED = f"SELECT chunk, n FROM ({digests.WRITTEN}) AS written ORDER BY chunk"

SWAP = (
    "UPDATE trade t SET price = o.price, size = o.size, buyer_is_maker = o.buyer_is_maker"
    " FROM trade o WHERE (t.trade_id, o.trade_id) IN (({0} + 30, {0} + 31), ({0} + 31, {0} + 30))"
)


@pytest.mark.parametrize(
    ("damage", "failed"),
    [
        ("DELETE FROM feed", "has_feed"),
        (
            "UPDATE trade SET ts = ts + interval '7 us' WHERE trade_id = {0} + 4",
            "digests_match_trades",
        ),
        (
            "UPDATE trade SET received = received + interval '1 us' WHERE trade_id = {0} + 90",
            "digests_match_trades",
        ),
        (SWAP, "digests_match_trades"),
        (
            "UPDATE trade SET buyer_is_maker = NOT buyer_is_maker WHERE trade_id IN ({0}, {0} + 1)",
            "digests_match_trades",
        ),
        (
            "DELETE FROM trade WHERE trade_id > {0} + 116; UPDATE feed SET high_id = {0} + 116,"
            " last_trade = (SELECT max(ts) FROM trade)",
            "digests_match_trades",
        ),
        (
            "UPDATE kline SET close = close + 1, trades = trades + 1 WHERE bar_s = 60"
            " AND ts = '2024-08-09 00:30 UTC'",
            "klines_match_trades",
        ),
        (
            "UPDATE kline SET volume = volume * 1.001 WHERE bar_s = 1"
            " AND ts = '2024-08-09 00:30 UTC'",
            "klines_match_trades",
        ),
        (
            "UPDATE kline SET high = 999 WHERE bar_s = 3600 AND ts = '2024-08-09 01:00 UTC'",
            "klines_match_trades",
        ),
        (
            "INSERT INTO kline SELECT instrument_id, bar_s, ts + interval '2 minutes', open, high,"
            " low, close, volume, quote_volume, taker_buy_volume, trades FROM kline"
            " WHERE bar_s = 60 AND ts = '2024-08-09 00:30 UTC'",
            "klines_match_trades",
        ),
        (
            "UPDATE kline SET trades = trades + 5, high = 999, close = 1 WHERE bar_s = 60"
            " AND ts = '2024-08-09 00:00 UTC'",
            "klines_match_trades",
        ),  # shown in place of the first
        (
            "DELETE FROM trade WHERE trade_id = {0} + 50; DELETE FROM gap; INSERT INTO gap"
            " (instrument_id, first_id, last_id, state) VALUES (1, {0} + 50, {0} + 50, 'void')",
            "digests_match_trades",
        ),
        (
            "UPDATE bar SET close = 1 WHERE bar_s = 60 AND ts = '2024-08-09 00:30 UTC'",
            "bars_match_trades",
        ),
    ],
)
def test_what_was_changed_is_found(
    store: PostgresStore, printed: list[Trade], damage: str, failed: str
) -> None:
    execute(store, damage.format(EDGE))
    report = audit(store)
    assert not report["ok"]
    assert report["venues"]["binance"]["BTCUSDT"][failed] is False


def test_trades_of_an_instrument_that_is_not_registered_are_told(
    store: PostgresStore, printed: list[Trade]
) -> None:
    execute(
        store, "DELETE FROM feed; DELETE FROM kline_wanted; DELETE FROM gap;DELETE FROM instrument"
    )
    report = audit(store)
    assert (report["ok"], list(report["venues"]["unregistered"])) == (False, ["instrument 1"])


def test_klines_of_what_is_missing_may_state_more(store: PostgresStore) -> None:
    """A hole, the beginning of the record, what is still on its way: there a kline knows more.
    But never less than is stored."""
    trades = [trade(100 + k, 10 * k) for k in range(24)]
    store.write("binance", trades[7:12] + trades[14:])
    before = [kline(60, 0, trades[:6]), kline(3600, 0, trades), kline(60, -60, trades[:6])]
    store.write_klines(
        "binance", [*before, kline(60, 60, trades[6:12]), kline(60, 120, trades[12:18])]
    )
    late = [*trades[18:], trade(150, 239)]
    store.write_klines("binance", [kline(60, 180, late)])
    assert audit(store)["ok"], audit(store)
    store.write_klines("binance", [kline(60, 120, trades[12:18], low=104.0)])
    assert audit(store)["venues"]["binance"]["BTCUSDT"]["klines_false"] == 1


def test_klines_of_aggregates_may_state_more_and_never_less(store: PostgresStore) -> None:
    """What an insurance fund takes over is in a kline and in no aggregate."""
    trades = [trade(100 + k, 10 * k) for k in range(24)]
    store.write("binance-usdm", trades)
    more = kline(60, 120, [*trades[12:18], trade(150, 170, price=90.0)])
    store.write_klines("binance-usdm", [more])
    with store.transaction() as cursor:
        cursor.execute("UPDATE feed SET watermark = last_trade + interval '1 hour'")
    assert audit(store)["ok"]
    store.write_klines("binance-usdm", [replace(more, low=103.0)])
    assert not audit(store)["ok"]


def test_a_digest_follows_retention_repetition_and_repair(store: PostgresStore) -> None:
    day = 86_400
    old = [trade(i, i - 3 * day) for i in range(50)]
    new = [trade(i, i - day / 4) for i in range(50, 90)]
    store.write("binance", old[:20] + new)
    store.write("binance", old[10:30] + new[:5])
    store.write("binance", [*old[30:], *old[30:], new[0]._replace(price=1.0)])
    assert rows(store, COUNTED) == [(0, 90)]
    assert prune(store, 1, at(T0))["trades"] == 50
    assert rows(store, COUNTED) == [(0, 40)]
    assert audit(store)["ok"], audit(store)
    assert prune(store, 1, at(T0).replace(year=2030))["partitions"] == 1
    assert rows(store, "SELECT count(*) FROM partition_digest") == [(0,)]
    assert store.write("binance", [trade(95, 1)]).stored == 1
    assert audit(store)["ok"]


def test_a_batch_may_go_into_many_partitions_and_behind_the_newest(store: PostgresStore) -> None:
    """Whichever was the newest before, and in one batch or two."""
    m = TRADES_PER_PARTITION
    store.begin_at("binance", "BTCUSDT", 0)
    store.write("binance", [trade(2 * m + k, 50 + k) for k in range(3)])
    store.write("binance", [trade(i, i / m) for i in (5, 7, m + 1, 3 * m, 4 * m, 4 * m + 1)])
    store.write("binance", [trade(i, i / m) for i in (6, 2 * m + 9, 3 * m + 4, 3 * m + 4, 5)])
    assert rows(store, COUNTED) == [(0, 3), (1, 1), (2, 4), (3, 2), (4, 2)]
    assert of_binance(store)["digests_match_trades"]
    for chunk in range(5):
        change = f"UPDATE trade SET size = size {{}} WHERE trade_id / {m} = {chunk}"
        execute(store, change.format("+ 1"))
        assert of_binance(store)["partitions_changed"] == 1
        execute(store, change.format("- 1"))
    assert of_binance(store)["digests_match_trades"]


def test_what_was_noted_of_a_partition_that_is_gone_says_nothing_of_the_next(
    store: PostgresStore,
) -> None:
    """Of an older partition its own row, of the newest the feed's as well."""
    m = TRADES_PER_PARTITION
    store.begin_at("binance", "BTCUSDT", 0)
    store.write("binance", [trade(i, i / m) for i in (0, 1, m, m + 1, m + 2)])
    execute(store, "DROP TABLE trade_1_0; DROP TABLE trade_1_1")
    assert of_binance(store)["partitions_changed"] == 2
    again = PostgresStore(store.connect)  # it has made no partition yet
    again.write("binance", [trade(i, i / m) for i in (0, m + 1)])
    again.close()
    assert rows(store, COUNTED) == [(0, 1), (1, 1)]
    assert of_binance(store)["digests_match_trades"]
    execute(store, "UPDATE trade SET size = size + 1")
    assert of_binance(store)["partitions_changed"] == 2


def test_the_margin_is_that_of_rounding(store: PostgresStore) -> None:
    """Sums of the exchange's decimals, exact and cut to eight places, beside ours in many orders;
    a share of 1e-12 of them more, or a hundred-millionth for each trade, is not rounding."""
    rng, context = random.Random(7), decimal.Context(prec=60)
    trades = [
        trade(k, k * 0.019, price=rng.randrange(1, 10**7) / 1e5, size=rng.randrange(1, 10**6) / 1e4)
        for k in range(3000)
    ]
    store.begin_at("binance", "BTCUSDT", 0)
    for begin in rng.sample(range(0, 3000, 100), 30):
        store.write("binance", trades[begin : begin + 100])
    nothing_after(store, T0 + 100 * S)
    volume, quote = decimal.Decimal(0), decimal.Decimal(0)
    for t in trades:
        price, size = decimal.Decimal(repr(t.price)), decimal.Decimal(repr(t.size))
        volume = context.add(volume, size)
        amount = context.multiply(price, size).quantize(decimal.Decimal("1e-8"), "ROUND_DOWN")
        quote = context.add(quote, amount)
    taken = sum(decimal.Decimal(repr(t.size)) for t in trades if not t.buyer_is_maker)
    true = kline(
        60,
        0,
        trades,
        volume=float(volume),
        quote_volume=float(quote),
        taker_buy_volume=float(taken),
    )
    store.write_klines("binance", [true])
    assert audit(store)["ok"], audit(store)
    for name, by in (("volume", 1e-12), ("taker_buy_volume", -1e-12), ("quote_volume", 1e-11)):
        value = getattr(true, name) * (1 + by)
        store.write_klines("binance", [replace(true, **{name: value})])
        assert of_binance(store)["klines_false"] == 1, name


def test_a_kline_after_the_newest_trade_is_false_once_the_exchange_has_said_so(
    store: PostgresStore,
) -> None:
    store.begin_at("binance", "BTCUSDT", 5)
    store.write("binance", [trade(5, 1), trade(6, 2)])
    later = [trade(7, 61)]
    store.write_klines("binance", [kline(60, 60, later), kline(604_800, -4 * 86_400, later)])
    assert of_binance(store)["klines_false"] == 1  # the week has fewer than its two trades
    nothing_after(store, T0 + 119 * S)
    assert of_binance(store)["klines_false"] == 1
    nothing_after(store, T0 + 120 * S)
    assert of_binance(store)["klines_false"] == 2


def test_a_record_that_begins_within_a_bar_proves_nothing_of_it(store: PostgresStore) -> None:
    """Also where an old version noted that it begins with id 0."""
    trades = [trade(100 + k, 10 * k) for k in range(13)]
    store.write("binance", trades[3:])
    more = [kline(60, 0, trades[:6]), kline(3600, 0, trades), kline(60, -60, trades[:6])]
    store.write_klines("binance", more)
    nothing_after(store, T0 + 7200 * S)
    for whole_from in ("whole_from", "0"):
        execute(store, f"UPDATE feed SET whole_from = {whole_from}")
        assert audit(store)["ok"], whole_from
    execute(store, "UPDATE feed SET whole_from = 103")  # as a command begins it, with a minute
    assert of_binance(store)["klines_false"] == 2


def test_partitions_from_before_digests_are_told_and_counted_while_trades_come_and_go(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is written or dropped between two steps is lost or counted twice."""
    old = [trade(i, i - 3 * 86_400) for i in range(0, 40, 2)]
    store.write("binance", [*old, trade(TRADES_PER_PARTITION, 0)])
    execute(store, FORGET)
    store.write("binance", [trade(1, 1 - 3 * 86_400)])
    row = of_binance(store)
    assert (row["ok"], row["partitions_without_digest"]) == (True, 2)
    before = covering._before
    found: list[Any] = []

    def meanwhile(store: PostgresStore, number: int, chunk: int, leaf: str) -> Any:
        """Late trades and dropped ones before the partition is read and after."""
        first = chunk * TRADES_PER_PARTITION + 3
        store.write("binance", [trade(first, 3 - chunk - 3 * 86_400), old[15]])
        if not chunk:
            assert prune(store, 1, at(T0 + (8 - 2 * 86_400) * S))["trades"] == 6
        counted = before(store, number, chunk, leaf)
        found.append(counted)
        store.write("binance", [trade(first + 20, 23 - 3 * 86_400), trade(first + 22, 41)])
        if not chunk:
            assert prune(store, 1, at(T0 + (20 - 2 * 86_400) * S))["trades"] == 6
        return counted

    monkeypatch.setattr(covering, "_before", meanwhile)
    while covering.cover(store, "binance", ["BTCUSDT"]):
        assert of_binance(store)["digests_match_trades"]
    assert found == [(1, found[0][1]), (21, found[1][1])]
    row = of_binance(store)
    assert (row["digests_match_trades"], row["partitions_without_digest"]) == (True, 0)
    assert not covering.cover(store, "binance", ["BTCUSDT"])
    execute(store, "UPDATE trade SET ts = ts + interval '1 us' WHERE trade_id = 25")
    assert of_binance(store)["partitions_changed"] == 1


def test_two_count_a_partition_at_once_and_one_is_cut_off(store: PostgresStore) -> None:
    """What was begun is taken up; what both have counted is added once."""
    store.write("binance", [trade(i, i) for i in range(9)])
    execute(store, FORGET)

    def cut_off(*asked: Any) -> tuple[int, int] | None:
        raise psycopg2.OperationalError("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covering, "_before", cut_off)
        with pytest.raises(psycopg2.OperationalError):
            covering.cover(store, "binance", ["BTCUSDT"])
    store.write("binance", [trade(9, 9)])
    assert of_binance(store)["partitions_without_digest"] == 1
    before = covering._before
    with pytest.MonkeyPatch.context() as patch:
        calls: list[Any] = []

        def twice(*asked: Any) -> tuple[int, int] | None:
            counted = before(*asked)
            calls.append(counted)
            if len(calls) == 1:
                assert covering.cover(store, "binance", ["BTCUSDT"])
            return counted

        patch.setattr(covering, "_before", twice)
        assert covering.cover(store, "binance", ["BTCUSDT"])
    assert calls == [calls[0]] * 2
    assert of_binance(store)["ok"]


def test_a_partition_that_is_dropped_while_it_is_counted_leaves_nothing(
    store: PostgresStore,
) -> None:
    store.write("binance", [trade(i, i) for i in range(9)])
    execute(store, FORGET)
    before = covering._before
    with pytest.MonkeyPatch.context() as patch:

        def dropped(*asked: Any) -> tuple[int, int] | None:
            assert prune(store, 1, at(T0).replace(year=2030))["partitions"] == 1
            return before(*asked)

        patch.setattr(covering, "_before", dropped)
        assert covering.cover(store, "binance", ["BTCUSDT"])
    assert rows(store, "SELECT count(*) FROM partition_digest") == [(0,)]
    assert not covering.cover(store, "binance", ["BTCUSDT"])


def test_the_daemon_counts_what_was_there_before_and_goes_on_after_an_outage(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for chunk in (0, 3):
        store.write("binance", [trade(chunk * TRADES_PER_PARTITION, chunk)])
    execute(store, FORGET)
    feed = Feed("binance", "ws://nobody", "http://nobody", SPOT)
    made = Daemon(feed, store, load_settings({"SYMBOLS": "BTCUSDT"}))
    waits: list[float] = []
    before = covering._before

    def once(*asked: Any) -> tuple[int, int] | None:
        monkeypatch.setattr(covering, "_before", before)
        raise psycopg2.OperationalError("the server went away")

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(covering, "_before", once)
    monkeypatch.setattr(asyncio, "sleep", wait)
    with caplog.at_level("INFO"), pytest.raises(asyncio.CancelledError):
        asyncio.run(made._digests())
    assert (waits[0], waits[3]) == (AGAIN_S, LOOK_EVERY_S)
    assert [r.getMessage() for r in caplog.records if r.name == "ingest"] == [
        'digests_wait error="the server went away"',
        "digests_begun partitions=2",
    ]
    assert of_binance(store)["partitions_without_digest"] == 0
