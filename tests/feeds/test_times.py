"""Times that cannot be, and a clock that is set: nothing is stored, told or judged by them."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import psycopg2
import pytest

from ingest_websocket import Daemon
from pairs.clock import AHEAD_US, ExchangeClock, steady_us
from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.choice import Feed
from pairs.ingest.inbox import Inbox
from pairs.ingest.liveness import StreamState
from pairs.market import Rejected, Trade
from pairs.settings import load_settings
from pairs.storage.maintenance import health
from pairs.storage.ownership import Ownership
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_feeds
from tests.support.daemon import count, eventually, ingesting
from tests.support.foreign import Foreign
from tests.support.records import OPEN, complete

S = 1_000_000
HOUR = 3600 * S
YEARS_MS = 10 * 365 * 86_400_000
PAIR = ("BTCUSDT", "ETHUSDT")


def newest_s(store: PostgresStore, symbol: str = "BTCUSDT") -> float:
    """How far the newest known moment of a feed lies ahead of this machine's clock."""
    feed = {f.symbol: f for f in read_feeds(store.engine, "binance")}[symbol]
    assert feed.last_trade is not None
    assert feed.watermark is not None
    return max(feed.last_trade, feed.watermark).timestamp() - time.time()


# -- times that cannot be


@pytest.mark.parametrize("off_ms", [YEARS_MS, 3_600_000, -YEARS_MS])
def test_a_time_that_cannot_be_is_kept_aside_and_asked_for_by_id(
    store: PostgresStore, off_ms: int
) -> None:
    """The stream errs, REST does not: every trade is stored, each at its time."""
    now = time.time_ns() // 1_000_000
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: complete(store, exchange), "trades")
        exchange.odd.sent = {8: {"T": now + off_ms}}
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: complete(store, exchange), "all trades")
        kept = "SELECT reason FROM quarantine WHERE trade_id = 8"
        assert "trade time" in count(store, kept)
        assert count(store, "SELECT count(*) FROM quarantine") == 1
        times = "SELECT max(abs(extract(epoch FROM ts - received))) FROM v_ticks"
        assert count(store, times) < 60
        assert newest_s(store) < 5


def test_a_time_that_cannot_be_is_stored_from_nowhere(store: PostgresStore) -> None:
    """REST tells the same: the id is lost, the others are not, and the feed does not move."""
    ahead = {"T": time.time_ns() // 1_000_000 + YEARS_MS}
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: complete(store, exchange), "trades")
        exchange.odd.sent = exchange.odd.told = {8: ahead}
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: count(store) == 9 and count(store, OPEN) == 0, "the hole is named")
        lost = "SELECT array_agg(first_id) FROM v_gaps WHERE state = 'unrecoverable'"
        assert count(store, lost) == [8]
        assert count(store, "SELECT count(*) FROM quarantine") == 1
        assert newest_s(store) < 5
        bars = read_bars(store.engine, "binance", "BTCUSDT", 1)
        assert bars.index[-1].timestamp() - time.time() < 5


def test_a_clock_of_ones_own_that_is_wrong_costs_nothing(store: PostgresStore) -> None:
    """Ours is ten years behind: the exchange's word counts, and REST's trades are taken too."""
    with Foreign(*PAIR, ahead_ms=YEARS_MS) as exchange, ingesting(store, exchange):
        exchange.odd.hidden = {3, 4}
        exchange.print_trades("BTCUSDT", 10)
        eventually(lambda: complete(store, exchange), "all trades")
        assert count(store, "SELECT count(*) FROM quarantine") == 0


def offered(clock: ExchangeClock, *trades: Trade) -> tuple[Inbox, list[Trade], list[Rejected]]:
    """An inbox after trades of a symbol whose newest known one is 100, and what became of them
    where REST says nothing."""
    watched = {"BTCUSDT": StreamState(high_id=100)}
    box = Inbox(SPOT, watched, clock)
    for one in trades:
        number = f'"t":{one.trade_id},"T":{one.ts_us},"s":"BTCUSDT"'
        box.put(f'{{"e":"trade",{number},"p":"1","q":"1","m":true}}'.encode())
    batch = box.take(len(trades))
    box.judge(batch, {})
    return box, batch.trades, batch.rejected


def trade(number: int, ts_us: int) -> Trade:
    return Trade("BTCUSDT", number, ts_us, 1.0, 1.0, True, 0)


def test_without_the_exchanges_word_its_trades_tell_its_clock() -> None:
    """REST is banned while our clock is an hour behind: what most trades agree on is believed,
    a time beyond it is not."""
    now = steady_us() + HOUR
    flow = [trade(101 + k, now + k) for k in range(30)]
    _, stored, rejected = offered(ExchangeClock(), *flow, trade(131, now + HOUR))
    assert sorted(one.trade_id for one in stored) == list(range(101, 131))
    assert [one.trade_id for one in rejected] == [131]


def test_one_trade_tells_no_clock() -> None:
    _, stored, rejected = offered(ExchangeClock(), trade(101, steady_us() + HOUR))
    assert stored == []
    assert [one.trade_id for one in rejected] == [101]


def test_a_replay_is_as_old_as_it_is() -> None:
    clock = ExchangeClock()
    clock.told(steady_us())
    old = steady_us() - 365 * 24 * HOUR
    _, stored, _ = offered(clock, trade(101, old), trade(102, old + S))
    assert [one.trade_id for one in stored] == [101, 102]


def test_the_exchanges_word_is_held_against_its_own_clock_only_as_long_as_it_may() -> None:
    now = [0]
    clock = ExchangeClock(lambda: now[0])
    assert clock.reached_us(5 * S) == 5 * S
    clock.told(HOUR)
    assert clock.reached_us(5 * S) == HOUR + 5 * S
    assert not clock.due
    now[0] = 60 * S
    assert clock.due
    assert clock.reached_us(now[0]) + AHEAD_US < 2 * HOUR


# -- a clock that is set


def feed_of(store: PostgresStore) -> tuple[datetime, float]:
    (feed,) = read_feeds(store.engine, "binance")
    assert feed.last_received is not None
    assert feed.received_age_s is not None
    return feed.last_received, feed.received_age_s


@pytest.mark.parametrize("jump_s", [-3600, -3, 3, 3600])
def test_what_was_received_before_the_clock_was_set_keeps_its_age(
    store: PostgresStore, database_url: str, jump_s: int
) -> None:
    """The database's clock is set by `jump_s`; seen from here, ours by the opposite."""
    ours = [steady_us()]
    store.write("binance", [Trade("BTCUSDT", 1, ours[0], 1.0, 1.0, True, ours[0])], lambda: ours[0])
    owner = Ownership(lambda: psycopg2.connect(database_url), "binance", lambda: ours[0])
    assert owner.claim(["BTCUSDT"]) == []
    owner.heartbeat({"BTCUSDT": ("quiet", "")})
    before, _ = feed_of(store)
    ours[0] = steady_us() - jump_s * S
    owner.heartbeat({"BTCUSDT": ("quiet", "")})
    after, _ = feed_of(store)
    assert (after - before).total_seconds() == pytest.approx(jump_s, abs=0.5)
    owner.heartbeat({"BTCUSDT": ("quiet", "")})
    assert feed_of(store)[0] == after  # once
    later = Trade("BTCUSDT", 2, steady_us() + S, 1.0, 1.0, True, ours[0])
    store.write("binance", [later], lambda: ours[0])
    owner.heartbeat({"BTCUSDT": ("live", "")})
    assert abs(feed_of(store)[1]) < 2  # came after the jump: nothing to be set right
    owner.close()


def test_a_new_owner_sets_nothing_right_that_it_cannot_know(
    store: PostgresStore, database_url: str
) -> None:
    """Another process counts from another beginning: that is no jump."""
    ours = steady_us()
    store.write("binance", [Trade("BTCUSDT", 1, ours, 1.0, 1.0, True, ours)])
    before, _ = feed_of(store)
    owner = Ownership(lambda: psycopg2.connect(database_url), "binance", lambda: steady_us() - HOUR)
    owner.claim(["BTCUSDT"])
    owner.heartbeat({"BTCUSDT": ("quiet", "")})
    assert feed_of(store)[0] == before
    owner.close()


def set_feed(store: PostgresStore, changes: str, beat: str = "'0'") -> None:
    now = time.time_ns() // 1000
    store.write("binance", [Trade("BTCUSDT", 1, now, 1.0, 1.0, True, now)])
    with store.transaction() as cursor:
        cursor.execute(
            f"UPDATE feed SET state = 'live', heartbeat = now() + interval {beat}, {changes}"
        )


def test_a_heartbeat_from_the_future_is_none(store: PostgresStore) -> None:
    """The daemon ended, then the clock was set back: it does not live for another hour."""
    set_feed(store, "detail = ''", "'1 hour'")
    assert [f.state for f in read_feeds(store.engine, "binance")] == ["stopped"]
    assert not health(store)["healthy"]


@pytest.mark.parametrize("column", ["last_trade", "last_received", "watermark"])
def test_health_tells_what_lies_in_the_future(store: PostgresStore, column: str) -> None:
    set_feed(store, f"{column} = now() + interval '10 years'")
    report = health(store)
    assert not report["healthy"]
    assert any("future" in problem for problem in report["problems"])


def test_a_clock_that_is_a_little_behind_is_healthy(store: PostgresStore) -> None:
    set_feed(store, "last_trade = now() + interval '11 s'")
    assert health(store)["healthy"]
    assert health(store)["notes"] == []


def test_a_clock_that_is_an_hour_behind_is_told_but_no_fault(store: PostgresStore) -> None:
    set_feed(store, "last_trade = now() + interval '1 hour'")
    assert health(store)["healthy"]
    assert any("future" in note for note in health(store)["notes"])


@pytest.mark.parametrize("answers", [True, False])
def test_a_clock_set_years_ahead_drops_no_trades(
    monkeypatch: pytest.MonkeyPatch, store: PostgresStore, answers: bool
) -> None:
    """Retention goes by the exchange's time where that is earlier, and waits until it is known."""
    with Foreign(*PAIR, missing=set() if answers else {"time"}) as exchange:
        feed = Feed("binance", exchange.ws_url, exchange.rest_url, SPOT)
        daemon = Daemon(feed, store, load_settings({"SYMBOLS": "BTCUSDT"}))
        now = time.time()
        monkeypatch.setattr("ingest_websocket.time.time", lambda: now + YEARS_MS / 1000)

        async def ask() -> datetime:
            async with daemon.rest, asyncio.timeout(0.5):
                return await daemon._prune_now()

        if answers:
            assert abs(asyncio.run(ask()).timestamp() - now) < 5
        else:
            with pytest.raises(TimeoutError):
                asyncio.run(ask())
