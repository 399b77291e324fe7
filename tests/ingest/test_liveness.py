"""Dead streams of quiet markets, and a start that waits for no answer."""

from __future__ import annotations

import time

import pytest

from pairs.ingest.liveness import SILENCE_S, StreamState, agree
from pairs.market import Trade
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.daemon import count, eventually, ingesting, states
from tests.support.foreign import Foreign

PAIR = ("BTCUSDT", "ETHUSDT")
REST = {"time", "aggTrades", "historicalTrades", "klines", "trades"}


def test_the_dead_stream_of_a_quiet_symbol_is_told_within_ten_seconds(
    store: PostgresStore,
) -> None:
    """Quiet for 17 s, so that nothing presses; then it trades, and its stream says nothing."""
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        for symbol in PAIR:
            exchange.print_trades(symbol, 5)
        until = time.monotonic() + 17
        while time.monotonic() < until:
            exchange.print_trades("BTCUSDT", 2)
            time.sleep(0.2)
        assert states(store) == {"BTCUSDT": "live", "ETHUSDT": "quiet"}
        exchange.odd.silent = {"ETHUSDT"}
        exchange.print_trades("ETHUSDT", 3)
        began = time.monotonic()
        while states(store)["ETHUSDT"] != "stale":
            assert time.monotonic() - began < 20, "not told"
            exchange.print_trades("BTCUSDT", 2)
            time.sleep(0.1)
        newest = "SELECT max(trade_id) FROM v_ticks WHERE symbol = 'ETHUSDT'"
        eventually(lambda: count(store, newest) == 8, "fetched over REST")
        asked = [r for r in exchange.requests if "symbol=BTCUSDT" in r and "klines" in r]
        assert asked == []  # what flows is not asked for


def test_what_is_on_its_way_is_not_missed(store: PostgresStore) -> None:
    """REST tells each trade half a second before the stream does: nothing is dead."""
    with Foreign(*PAIR, late_s=0.5) as exchange, ingesting(store, exchange) as daemon:
        for _ in range(8):
            for symbol in PAIR:
                exchange.print_trades(symbol, 1)
            until = time.monotonic() + 3.1
            while time.monotonic() < until:
                assert "stale" not in states(store).values()
                time.sleep(0.1)
        assert daemon.streams[0].reconnects == 0
        assert len(exchange.handshakes) == 1


def test_trades_of_the_time_before_the_connection_are_no_dead_stream(
    store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    with Foreign(*PAIR) as exchange:
        with ingesting(store, exchange):
            for symbol in PAIR:
                exchange.print_trades(symbol, 5)
            eventually(lambda: count(store) == 10, "trades")
        exchange.print_trades("ETHUSDT", 2500)
        with ingesting(store, exchange):
            eventually(lambda: count(store) == 2510, "what was missed meanwhile")
            assert len(exchange.handshakes) == 2
            eventually(lambda: states(store)["ETHUSDT"] == "quiet", "it is quiet")
        assert "stale symbol" not in caplog.text
        assert len(exchange.handshakes) == 2


def test_sixty_quiet_symbols_are_looked_at_and_keep_to_the_share_of_probes(
    store: PostgresStore,
) -> None:
    symbols = [f"S{k:02d}USDT" for k in range(60)]
    with Foreign(*symbols) as exchange, ingesting(store, exchange):
        eventually(lambda: set(states(store).values()) == {"quiet"}, "all are quiet")
        time.sleep(8)  # each has been asked for once by id, and its bars are known
        exchange.requests.clear()
        time.sleep(15)
        # Looks alone: what closes bars asks by id and has a share of its own (test_closing.py).
        weight = sum(2 for request in exchange.requests if "klines" in request)
        asked = {symbol for symbol in symbols if any(symbol in r for r in exchange.requests)}
    assert len(asked) == 60
    assert weight < 6000 * 0.15 / 4 * 1.2


@pytest.mark.parametrize("symbols", [2, 60])
def test_the_first_trade_waits_for_no_answer_of_rest(store: PostgresStore, symbols: int) -> None:
    """REST hangs; then it answers, and the record begins with the minute all the same."""
    names = [f"S{k:02d}USDT" for k in range(symbols)]
    with Foreign(*names, hanging=set(REST)) as exchange:
        for name in names:
            exchange._print(name, 5, None, None)
        with ingesting(store, exchange):
            for name in names:
                exchange.print_trades(name, 2)
            eventually(lambda: count(store) == 2 * symbols, "live trades", 30)
            assert not any("historicalTrades" in r for r in exchange.requests)


def test_a_record_begins_with_its_minute_although_trades_came_first(store: PostgresStore) -> None:
    with Foreign(*PAIR, slow_s={"time": 2.0}) as exchange:
        minute = time.time_ns() // 60_000_000_000 * 60_000
        for symbol in PAIR:
            exchange._print(symbol, 5, None, minute - 5)
            exchange._print(symbol, 5, None, minute + 5)
        with ingesting(store, exchange):
            for symbol in PAIR:
                exchange.print_trades(symbol, 2)
            eventually(lambda: count(store) == 4, "live trades", every=0.02)
            eventually(lambda: count(store) == 14, "the minute's first trades")
            assert count(store, "SELECT min(trade_id) FROM v_ticks") == 6


def test_usual_pauses_are_learned() -> None:
    busy, slow = StreamState(), StreamState()
    for k in range(200):
        trade = Trade("BTCUSDT", k, k, 1.0, 1.0, False, k)
        busy.heard(trade, k, k * 0.05)
        slow.heard(trade, k, k * 20.0)
    assert busy.patience_s() == 2.0
    assert slow.patience_s() == SILENCE_S


def test_what_was_learned_of_a_market_tells_which_silence_is_looked_into_first() -> None:
    busy, slow, delisted = (
        StreamState(pause_s=0.1),
        StreamState(pause_s=14.0),
        StreamState(quiet_s=600.0),
    )
    assert busy.unusual(3.0) > slow.unusual(20.0) > delisted.unusual(610.0) > slow.unusual(8.0)
    trade = Trade("BTCUSDT", 1, 1, 1.0, 1.0, False, 1)
    delisted.heard(trade, 1, 1.0)
    assert delisted.quiet_s == 0


M = 60_000_000


@pytest.mark.parametrize(
    ("known", "told", "same"),
    [
        (None, {M: 3}, False),
        ({}, {}, True),
        ({}, {M: 1}, False),
        ({M: 1}, {}, False),
        ({M: 3}, {M: 3}, True),
        ({M: 3}, {M: 4}, False),
        ({M: 3}, {M: 2}, False),
        ({M: 3}, {0: 7, M: 3}, True),
        ({M: 3}, {M: 3, 2 * M: 0}, True),
        ({M: 3}, {M: 3, 2 * M: 1}, False),
        ({M: 3, 2 * M: 1}, {M: 3}, False),
        ({M: 3, 2 * M: 1}, {2 * M: 1}, True),
        ({M: 3}, {2 * M: 0}, False),
    ],
)
def test_bars_agree_where_they_hold_the_trades_that_came(
    known: dict[int, int] | None, told: dict[int, int], same: bool
) -> None:
    assert agree(known, told) is same


def test_trades_of_a_slow_market_are_counted_on_from_what_rest_told() -> None:
    stream = StreamState(high_id=5, bars={M: 2})
    for trade_id, ts_us, trades in ((5, M + 1, 1), (6, M + 1, 3), (6, M + 1, 3), (7, 2 * M, 1)):
        stream.heard(Trade("BTCUSDT", trade_id, ts_us, 1.0, 1.0, False, 1, trades), 1, trade_id)
    assert stream.bars == {M: 5, 2 * M: 1}
    for k in range(3, 50):
        stream.heard(Trade("BTCUSDT", 5 + k, k * M, 1.0, 1.0, False, 1), 1, 100.0 + k)
    assert len(stream.bars) <= 10


def test_slow_and_delisted_markets_are_never_called_stale_and_keep_a_small_share(
    store: PostgresStore,
) -> None:
    """Forty USD-M symbols, most of them without a trade, some with one every few seconds; 12 s, for
    what they ask for at a start is more than a minute's share."""
    symbols = [f"S{k:02d}USDT" for k in range(40)]
    long_ago = time.time_ns() // 1_000_000 - 30 * 86_400_000
    with Foreign("BTCUSDT", *symbols, market="usdm") as exchange:
        for symbol in symbols[:15]:
            exchange._print(symbol, 3, None, long_ago)
        with ingesting(store, exchange, market="usdm"):
            until = time.monotonic() + 12
            due = {symbol: time.monotonic() + k for k, symbol in enumerate(symbols[34:])}
            seen: set[str] = set()
            while time.monotonic() < until:
                exchange.print_trades("BTCUSDT", 1)
                for symbol, at in due.items():
                    if at <= time.monotonic():
                        exchange.print_trades(symbol, 1)
                        due[symbol] = time.monotonic() + 6
                seen |= {feed.state for feed in read_feeds(store.engine, "binance-usdm")}
                time.sleep(0.1)
            assert "stale" not in seen
            newest = exchange.trades["BTCUSDT"][-1]["id"]
            exchange.odd.hidden = set(range(newest + 1, newest + 11))
            exchange.print_trades("BTCUSDT", 15)
            eventually(
                lambda: count(
                    store,
                    "SELECT count(*) FROM v_gaps WHERE state = 'filled'"
                    f" AND first_id = {newest + 1}",
                ),
                "repaired",
                15,
            )
            newest_ids = [r for r in exchange.requests if r.endswith("limit=1") and "Time" not in r]
        assert len(newest_ids) <= 2400 * 0.5 / 20  # looks, first looks and questions about bars
