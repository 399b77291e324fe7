"""The daemon as a process on an exchange that is not ours, and leaves out what it may leave out."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairs.storage.audit import audit
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.chaos import TALLY
from tests.support.daemon import count, daemon, eventually
from tests.support.foreign import Foreign
from tests.support.records import OPEN, complete

PAIR = ("BTCUSDT", "ETHUSDT")
chaos = pytest.mark.chaos


@contextlib.contextmanager
def desk(
    store: PostgresStore, url: str, folder: Path, exchange: Foreign, **settings: str
) -> Iterator[Path]:
    """A daemon on the exchange; its log file. On leaving, all that is known is stored."""
    log = folder / "log"
    addresses = (exchange.ws_url, exchange.rest_url)
    with daemon(url, addresses, log, **settings):
        eventually(lambda: exchange.connected, "the daemon connects")
        yield log
    venue = "binance-usdm" if settings.get("MARKET") == "usdm" else "binance"
    assert_complete(store, exchange, venue)


def assert_complete(store: PostgresStore, exchange: Foreign, venue: str = "binance") -> None:
    with store.transaction() as cursor:
        for symbol in exchange.trades:
            known = store.known_ids(venue, symbol)  # type: ignore[arg-type]
            assert known is not None, f"nothing of {symbol}"
            cursor.execute(
                "SELECT trade_id, price, size, (extract(epoch FROM ts) * 1000)::bigint,"
                " buyer_is_maker FROM v_ticks WHERE venue = %s AND symbol = %s ORDER BY trade_id",
                (venue, symbol),
            )
            stored = cursor.fetchall()
            cursor.execute(
                "SELECT first_id, last_id FROM v_gaps WHERE venue = %s AND symbol = %s"
                " AND state IN ('void', 'unrecoverable')",
                (venue, symbol),
            )
            lost = [range(a, b + 1) for a, b in cursor.fetchall()]
            printed = exchange.tape(symbol, known)
            named = {row[0] for row in printed if any(row[0] in ids for ids in lost)}
            same = TALLY.compare(printed, stored, named)
            assert same, f"{symbol}: {len(stored)} stored"
            assert known[1] == exchange.trades[symbol][-1]["id"], f"{symbol} ends too early"
    assert audit(store)["ok"]


ODDITIES: dict[str, dict[str, Any]] = {
    "no historicalTrades": {"missing": {"historicalTrades"}},
    "historicalTrades needs a key": {"needs_key": {"historicalTrades"}},
    "no aggTrades": {"missing": {"aggTrades"}},
    "no klines, time or ping": {"missing": {"klines", "time", "ping"}},
    "klines fail": {"failing": {"klines"}},
    "seven rows a page": {"page": 7},
    "numbers": {"numbers": True},
    "raw frames": {"raw": True},
    "microseconds": {"micros": True},
    "weights told": {"weight_header": True},
}


QUICK = ("no historicalTrades", "numbers")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=chaos) for n in ODDITIES]
)
def test_an_exchange_that_leaves_something_out(
    store: PostgresStore, database_url: str, tmp_path: Path, name: str
) -> None:
    """Without history before the first trade; with holes, a cut, and FEED=auto finding it."""
    with (
        Foreign(*PAIR, **ODDITIES[name]) as exchange,
        desk(store, database_url, tmp_path, exchange, FEED="auto", HISTORY_HOURS="1"),
    ):
        eventually(lambda: exchange.connected == 1, "the attempt of FEED=auto is over")
        for symbol in PAIR:
            exchange.print_trades(symbol, 50)
        exchange.odd.hidden = set(range(60, 80)) | {90}
        exchange.print_trades("BTCUSDT", 50)
        exchange.odd.hidden = set()
        before = len(exchange.handshakes)
        exchange.close()
        exchange.print_trades("BTCUSDT", 30)
        exchange.print_trades("ETHUSDT", 30)
        eventually(lambda: exchange.connected and len(exchange.handshakes) > before, "again")
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: complete(store, exchange), "all trades", 30)
        eventually(lambda: health(store)["healthy"], "health", 20)


def test_trades_are_sent_before_anything_is_acknowledged(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Acknowledgements come late or unasked, errors in both forms; a handshake takes 3 s."""
    while time.time() % 60 > 40:  # a record begins with a whole minute: the start is to be in this
        time.sleep(0.5)
    with Foreign(*PAIR, handshake_delay_s=3.0) as exchange:
        exchange.print_trades("BTCUSDT", 5)
        exchange.odd.greeting = [
            exchange._frame("BTCUSDT", exchange.trades["BTCUSDT"][-1]),
            '{"result":null,"id":1}',
            '{"code":2,"msg":"Invalid request: t","id":1}',
            '{"error":{"code":4,"msg":"Too many\\nsubscriptions"},"id":19}',
        ]
        with desk(store, database_url, tmp_path, exchange) as log:
            exchange.print_trades("BTCUSDT", 20)
            exchange.print_trades("ETHUSDT", 20)
            eventually(lambda: complete(store, exchange), "all trades")  # over REST perhaps
            said = 'exchange_says kind=error text="4: Too many subscriptions"'
            eventually(lambda: said in log.read_text(), "what the stream says")
        assert count(store, "SELECT count(*) FROM quarantine") == 0


@pytest.mark.parametrize(
    "notice",
    [
        '{"e":"serverShutdown","E":1770123456789}',
        '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
    ],
    ids=["raw", "combined"],
)
def test_an_announced_shutdown_leaves_no_hole(
    store: PostgresStore, database_url: str, tmp_path: Path, notice: str
) -> None:
    """The next connection is there before the old one ends, in both forms of the notice."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange):
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: complete(store, exchange), "trades")
        exchange.say(notice)
        eventually(lambda: exchange.connected == 2, "both connections")
        for _ in range(25):
            for symbol in PAIR:
                exchange.print_trades(symbol, 2)
            time.sleep(0.1)
        eventually(lambda: exchange.connected == 1, "the old one is left")
        for symbol in PAIR:
            exchange.print_trades(symbol, 2)
        eventually(lambda: complete(store, exchange), "all trades")
        assert count(store, "SELECT count(*) FROM v_gaps") == 0
        assert count(store, "SELECT sum(duplicates) FROM feed") > 0


def test_times_of_2024_and_the_order_ids_of_that_time(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """A replay: the exchange's clock is today's, its trades are not; `a` and `b` are orders."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange):
        for symbol in PAIR:
            exchange.print_trades(symbol, 40, first=3_735_683_259, at_ms=1_723_161_255_342)
        row = exchange.trades["BTCUSDT"][-1]
        next_one = {**row, "id": row["id"] + 1}
        exchange.call(lambda: exchange.trades["BTCUSDT"].append(next_one))
        data = json.loads(exchange._frame("BTCUSDT", next_one))["data"]
        exchange.say(json.dumps({**data, "b": 28_000_000_000, "a": 50, "M": True}))
        eventually(lambda: complete(store, exchange), "all trades")


def test_ids_that_leap_are_believed_only_where_rest_knows_them(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """A number of nonsense opens no hole of quadrillions; five million trades of absence do."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange) as log:
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        row = {**exchange.trades["BTCUSDT"][-1], "id": 10**17}
        exchange.say(exchange._frame("BTCUSDT", row))
        exchange.print_trades("BTCUSDT", 10)
        eventually(lambda: complete(store, exchange), "all trades but that")
        assert count(store, "SELECT count(*) FROM v_gaps") == 0
        eventually(lambda: "its id is far beyond" in log.read_text(), "what is kept aside is told")
        exchange.print_trades("ETHUSDT", 10, first=5_000_000)
        eventually(lambda: count(store, "SELECT max(trade_id) FROM v_ticks") == 5_000_009, "leap")
        eventually(lambda: complete(store, exchange), "the rest is named")
        state = count(store, "SELECT state FROM v_gaps WHERE last_id = 4999999")
        assert state == "void"


def test_futures(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    with (
        Foreign(*PAIR, market="usdm") as exchange,
        desk(store, database_url, tmp_path, exchange, MARKET="usdm", HISTORY_HOURS="1"),
    ):
        exchange.odd.hidden = set(range(20, 30))
        for symbol in PAIR:
            exchange.print_trades(symbol, 50)
        placeholder = {
            "e": "trade",
            "E": 1746194730699,
            "T": 1746194730699,
            "s": "BTCUSDT",
            "t": 9,
            "p": "0",
            "q": "0",
            "X": "NA",
            "m": False,
        }
        exchange.say(json.dumps({"stream": "btcusdt@trade", "data": placeholder}))
        eventually(lambda: complete(store, exchange), "all aggregates")
        assert exchange.handshakes[0].startswith("/market/stream?streams=btcusdt@aggTrade/")
        assert count(store, "SELECT count(*) FROM quarantine") == 0
        assert count(store, "SELECT string_agg(DISTINCT venue, ',') FROM v_ticks") == "binance-usdm"


def test_what_rest_tells_and_float8_cannot_hold_is_kept_aside_and_named(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """The stream and REST agree on a price of 30 decimals: no endless repair."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange):
        exchange.odd.price = lambda i: (
            "61837.63" + "0" * 28 if i == 12 else "0." + "123" * 10 if i == 15 else "61837.63"
        )
        exchange.print_trades("BTCUSDT", 30)
        exchange.print_trades("ETHUSDT", 5)
        eventually(
            lambda: count(store, "SELECT count(*) FROM v_gaps WHERE state = 'unrecoverable'"),
            "the trade is given up",
        )
        eventually(lambda: count(store, OPEN) == 0, "no open gap")
        eventually(lambda: count(store) == 34, "all others")
    lost = count(store, "SELECT first_id FROM v_gaps WHERE state = 'unrecoverable'")
    assert lost == 15
    assert count(store, "SELECT price FROM v_ticks WHERE trade_id = 12") == 61837.63


def test_text_that_no_database_takes(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """NUL, lone surrogates, exponents beyond every number, fields of a megabyte."""
    odd = [
        r'{"e":"trade","s":"BTC\u0000","t":5,"p":"1","q":"1","T":1723161255342,"m":true}',
        r'{"e":"trade","s":"\ud800","t":5,"p":"1","q":"1","T":1723161255342,"m":true}',
        '{"e":"trade","s":"BTCUSDT","t":5,"p":1e99999999999999999999,"q":"1","T":1,"m":true}',
        '{"e":"trade","s":"BTCUSDT","t":5,"p":"1","q":"1","T":1723161255342,"m":"'
        + "x" * 1_000_000
        + '"}',
        '{"e":"trade","s":"BTCUSDT","t":"' + "7" * 9000 + '","p":"1","q":"1","T":1,"m":true}',
        '{"code":1,"msg":"' + "y" * 1_000_000 + '"}',
        "[" * 100_000,
        "",
        "NaN",
        '{"data":[]}',
        '{"data":{"data":{}}}',
        '{"stream":1}',
    ]
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange) as log:
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        for text in odd:
            exchange.say(text)
        exchange.say(b"\xff\xfe\x00binary")
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: complete(store, exchange), "all trades")
        assert len(exchange.handshakes) == 1
    assert count(store, "SELECT count(*) FROM quarantine") == len(odd)
    assert count(store, "SELECT max(length(reason)) FROM quarantine") <= 1000
    assert max(map(len, log.read_text().splitlines())) < 1000


@chaos
def test_a_start_while_rest_hangs(store: PostgresStore, database_url: str, tmp_path: Path) -> None:
    """The stream does not wait for REST; the state is told within 10 s of silence, and the stop
    comes at once."""
    with Foreign(*PAIR, hanging={"time", "aggTrades", "historicalTrades", "klines"}) as exchange:
        began = time.monotonic()
        with desk(store, database_url, tmp_path, exchange):
            assert time.monotonic() - began < 20
            for symbol in PAIR:
                exchange.print_trades(symbol, 10)
            eventually(lambda: health(store)["healthy"], "health", 20)
            eventually(
                lambda: {f.state for f in read_feeds(store.engine, "binance")} == {"stale"},
                "silence without REST is told",
                10.5,
            )
            assert not health(store)["healthy"]


@chaos
def test_silence_while_rest_fails_ends_in_a_new_connection(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """Nothing can tell a quiet market from a dead line: after a while the line is renewed."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange):
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: count(store) == 20, "trades")
        exchange.odd.failing = {"aggTrades", "historicalTrades"}
        exchange.odd.silent = set(PAIR)
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: len(exchange.handshakes) > 1, "a new connection", 40)
        exchange.odd.silent, exchange.odd.failing = set(), set()
        eventually(lambda: exchange.connected, "connected")
        for symbol in PAIR:
            exchange.print_trades(symbol, 10)
        eventually(lambda: complete(store, exchange), "all trades")


def test_a_silent_symbol_comes_over_rest_and_the_others_are_not_disturbed(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange):
        exchange.odd.silent = {"ETHUSDT"}
        for k in range(30):
            for symbol in PAIR:
                exchange.print_trades(symbol, 5)
            time.sleep(0.5)
            if k == 20:
                state = {f.symbol: f.state for f in read_feeds(store.engine, "binance")}
                assert state == {"BTCUSDT": "live", "ETHUSDT": "stale"}
                assert count(store, "SELECT count(*) FROM v_ticks WHERE symbol = 'ETHUSDT'") > 0
            assert exchange.connected >= 1  # a renewal beside the old one, never without one
        exchange.odd.silent = set()
        for symbol in PAIR:
            exchange.print_trades(symbol, 5)
        eventually(lambda: complete(store, exchange), "all trades")


@chaos
def test_connections_that_always_end_at_one_age_are_renewed_in_time(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """The 24 hours, scaled to 4 s: after the second time the next connection overlaps."""
    with Foreign(*PAIR) as exchange, desk(store, database_url, tmp_path, exchange) as log:
        ended, opened = 0, time.monotonic()
        for _ in range(600):
            for symbol in PAIR:
                exchange.print_trades(symbol, 1)
            if exchange.connected and time.monotonic() - opened > 4 and ended < 2:
                exchange.close(1001)
                ended += 1
                eventually(lambda: exchange.connected, "again", every=0.005)
                opened = time.monotonic()
            time.sleep(0.03)
            if "renewed the connection" in log.read_text():
                break
        assert "renewing after 3 s" in log.read_text()
        assert "renewed the connection" in log.read_text()
        eventually(lambda: complete(store, exchange), "all trades")


def test_a_burst_on_an_empty_database_and_a_stop_in_the_middle_of_it(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """50,000 trades as fast as they go; SIGTERM drains; the next start repairs the rest."""
    with Foreign("BTCUSDT") as exchange:
        log = tmp_path / "log"
        with daemon(
            database_url, (exchange.ws_url, exchange.rest_url), log, SYMBOLS="BTCUSDT"
        ) as process:
            eventually(lambda: exchange.connected, "the daemon connects")
            for _ in range(25):
                exchange.print_trades("BTCUSDT", 2000)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        assert "everything received is stored" in log.read_text()
        with desk(store, database_url, tmp_path, exchange, SYMBOLS="BTCUSDT"):
            exchange.print_trades("BTCUSDT", 10)
            eventually(lambda: complete(store, exchange), "all trades", 60)
