"""An exchange that counts its trades anew: its symbol stops, a command begins a new record."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from database_utils import main as database_utils
from pairs.clock import steady_us
from pairs.market import Trade
from pairs.storage.audit import audit
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.daemon import count, daemon, eventually, ingesting, states
from tests.support.foreign import Foreign
from tests.support.records import complete

PAIR = ("BTCUSDT", "ETHUSDT")
OF = "SELECT count(*) FROM v_ticks WHERE symbol = 'BTCUSDT'"
SUM = "SELECT sum(trade_id * price * extract(epoch FROM ts)) FROM v_ticks WHERE symbol LIKE 'BTC%'"


def anew(exchange: Foreign, count: int, *, first: int = 1, later_s: float = 3.0) -> None:
    """The exchange forgets its BTCUSDT and prints others under low ids."""
    exchange.call(lambda: exchange.trades["BTCUSDT"].clear())
    exchange.odd.price = lambda i: f"{100 + i % 97 / 100:.8f}"
    at_ms = time.time_ns() // 1_000_000 + int(later_s * 1000)
    exchange.print_trades("BTCUSDT", count, first=first, at_ms=at_ms)


def halted(store: PostgresStore) -> bool:
    return states(store)["BTCUSDT"] == "halted"


def test_ids_that_begin_anew_stop_their_symbol_and_no_other(
    store: PostgresStore,
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seen in the stream; then the user begins a new record beside the daemon that runs. The
    whole way with one daemon, as a process, for it begins again by itself: that takes 10 s."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    log = tmp_path / "log"
    with (
        Foreign(*PAIR) as exchange,
        daemon(database_url, (exchange.ws_url, exchange.rest_url), log),
    ):
        eventually(lambda: exchange.connected, "connected")
        for symbol in PAIR:
            exchange.print_trades(symbol, 137)
        eventually(lambda: complete(store, exchange), "trades")
        before = count(store, SUM)
        assert database_utils(["new-record", "BTCUSDT"]) == 2  # it is being ingested
        anew(exchange, 20)
        eventually(lambda: halted(store), "halted", 30)
        assert "ids_began_anew symbol=BTCUSDT" in log.read_text()
        anew(exchange, 400, first=21)  # and beyond what was known
        exchange.print_trades("ETHUSDT", 50)
        eventually(lambda: count(store) == 137 * 2 + 50, "the other goes on")
        assert (count(store, OF), count(store, SUM)) == (137, before)
        report = health(store)
        assert not report["healthy"]
        assert any(
            "BTCUSDT: halted" in text and "new-record" in text for text in report["problems"]
        )
        assert audit(store)["ok"]
        capsys.readouterr()
        assert database_utils(["new-record", "BTCUSDT"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["venue"] == "binance"
        kept = told["kept_as"]
        eventually(lambda: states(store)["BTCUSDT"] != "halted", "goes on", 20)
        eventually(lambda: exchange.connected, "connected again")
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: count(store, OF) >= 5, "the new record", 30)
        exchange.print_trades("BTCUSDT", 5)
        eventually(lambda: health(store)["healthy"], "health", 30)
    old = f"SELECT count(*) FROM v_ticks WHERE symbol = '{kept}'"
    assert count(store, old) == 137
    assert count(store, f"SELECT min(price) FROM v_ticks WHERE symbol = '{kept}'") > 1000
    assert count(store, "SELECT max(price) FROM v_ticks WHERE symbol = 'BTCUSDT'") < 1000
    assert len(read_bars(store.engine, "binance", kept, 60)) >= 1
    assert audit(store)["ok"]


def test_a_symbol_that_was_stopped_stays_so_after_a_restart(store: PostgresStore) -> None:
    """And one that was stopped while nothing ran is found by its first request by id: what the
    exchange tells under the last known id is another trade."""
    with Foreign(*PAIR) as exchange:
        with ingesting(store, exchange):
            for symbol in PAIR:
                exchange.print_trades(symbol, 137)
            eventually(lambda: complete(store, exchange), "trades")
        anew(exchange, 455, later_s=-1)
        with store.transaction() as cursor:  # it was long ago
            cursor.execute("UPDATE trade SET ts = ts - interval '1 hour'")
            cursor.execute(
                "UPDATE feed SET last_trade = last_trade - interval '1 hour',"
                " watermark = watermark - interval '1 hour'"
            )
        with ingesting(store, exchange):
            exchange.print_trades("BTCUSDT", 5)
            eventually(lambda: halted(store), "halted", 20)
        between = OF + " AND trade_id BETWEEN 138 AND 455"
        assert count(store, between) == 0
        with ingesting(store, exchange):
            exchange.print_trades("BTCUSDT", 5)
            eventually(lambda: halted(store), "still halted", 20)
            assert count(store, between) == 0


def test_a_market_that_is_quiet_after_its_ids_began_anew(store: PostgresStore) -> None:
    """The stream says nothing; REST's newest id lies below the cursor, and is a newer trade."""
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 137)
        exchange.print_trades("ETHUSDT", 5)
        eventually(lambda: complete(store, exchange), "trades")
        exchange.odd.silent = {"BTCUSDT"}
        anew(exchange, 3)
        eventually(lambda: halted(store), "halted", 20)
        assert count(store, OF) == 137


def test_a_replay_of_last_year_is_not_mixed_into_a_market_of_today(store: PostgresStore) -> None:
    """Its ids lie beyond, its times far behind."""
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 137)
        exchange.print_trades("ETHUSDT", 5)
        eventually(lambda: complete(store, exchange), "trades")
        anew(exchange, 20, first=3_735_683_259, later_s=-2 * 365 * 86_400)
        eventually(lambda: halted(store), "halted", 20)
        assert count(store, OF) == 137


def test_a_run_of_conflicting_ids_is_enough(store: PostgresStore) -> None:
    """REST tells no newest trade at all: known ids with other trades, and nothing but these."""
    no = {"aggTrades", "trades", "historicalTrades"}
    with Foreign(*PAIR, missing=no) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 137)
        exchange.print_trades("ETHUSDT", 5)
        eventually(lambda: complete(store, exchange), "trades")
        row = exchange.trades["BTCUSDT"][10]
        for _ in range(30):  # one id again and again is a damaged frame, not a count
            exchange.say(exchange._frame("BTCUSDT", {**row, "p": "7"}))
        exchange.print_trades("BTCUSDT", 3)
        eventually(lambda: count(store, OF) == 140, "it goes on")
        anew(exchange, 60)
        eventually(lambda: halted(store), "halted", 20)
        assert count(store, OF) == 140


def test_one_frame_out_of_place_stops_nothing(store: PostgresStore) -> None:
    """A known id with a time beyond the newest, and one far below: both damaged."""
    with Foreign(*PAIR) as exchange, ingesting(store, exchange):
        exchange.print_trades("BTCUSDT", 20, first=5_000_000)
        eventually(lambda: complete(store, exchange) or count(store, OF) == 20, "trades")
        row = exchange.trades["BTCUSDT"][10]
        exchange.say(exchange._frame("BTCUSDT", {**row, "T": row["T"] + 5000}))
        exchange.say(exchange._frame("BTCUSDT", {**row, "id": 3}))
        exchange.print_trades("BTCUSDT", 20)
        eventually(lambda: count(store, OF) == 40, "it goes on")
        eventually(lambda: states(store)["BTCUSDT"] == "live", "live", 15)
        assert count(store, "SELECT count(*) FROM v_gaps WHERE state <> 'filled'") == 0


# -- the command


def test_a_new_record_begins_beside_the_old_one(
    store: PostgresStore,
    database_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    now = steady_us()
    for venue, symbol in (("binance", "BTCUSDT"), ("local", "BTCUSDT"), ("local", "ETHUSDT.P")):
        trades = [Trade(symbol, i, now + i, 10.0, 1.0, True, now) for i in (1, 2, 5)]
        store.write(venue, trades)  # type: ignore[arg-type]
    assert database_utils(["new-record", "BTCUSDT"]) == 2
    assert "--venue" in capsys.readouterr().err
    assert database_utils(["new-record", "NOPE"]) == 2
    assert "NOPE" in capsys.readouterr().err
    assert database_utils(["new-record", "btcusdt", "--venue", "local"]) == 0
    assert database_utils(["new-record", "ETHUSDT.P"]) == 0
    names = [json.loads(line)["kept_as"] for line in capsys.readouterr().out.splitlines()]
    assert names[0].startswith("BTCUSDT.until-")
    assert names[1].startswith("ETHUSDT.until-")
    assert names[1].endswith(".P")
    again = PostgresStore(store.connect)
    assert again.known_ids("local", "BTCUSDT") is None
    again.write("local", [Trade("BTCUSDT", 2, now, 99.0, 1.0, True, now)])
    with again.transaction() as cursor:
        cursor.execute(
            "SELECT venue, symbol, trade_id, price FROM v_ticks WHERE trade_id = 2 ORDER BY 1, 2"
        )
        assert [(v, s, p) for v, s, _, p in cursor.fetchall()] == [
            ("binance", "BTCUSDT", 10.0),
            ("local", "BTCUSDT", 99.0),
            ("local", names[0], 10.0),
            ("local", names[1], 10.0),
        ]
    assert again.open_gaps("local", names[0]) == []  # type: ignore[arg-type]
    assert audit(again)["ok"]
    again.close()
