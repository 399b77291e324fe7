"""What counts as the exchange's refusal, and what becomes of what was given up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.binance.rest import BinanceRest
from pairs.ingest import backfill
from pairs.ingest.asking_again import AskingAgain
from pairs.ingest.beginning import begin_records
from pairs.ingest.liveness import StreamState
from pairs.ingest.repair import Patience, Repair
from pairs.storage.audit import audit
from pairs.storage.gaps import Gap
from pairs.storage.maintenance import health
from pairs.storage.ownership import Ownership
from pairs.storage.postgres import PostgresStore
from pairs.storage.schema import MIGRATIONS
from tests.support.daemon import count
from tests.support.foreign import Foreign
from tests.support.history import bars, fetch, now_ms, printed, run, stored
from tests.support.records import gaps, reasons

HASTY = Patience(answers=2, seconds=0.2, gone_s=0.2, first_s=0.02, longest_s=0.05)
HTML = "<html><body><h1>ERROR: The request could not be satisfied</h1></body></html>"


def code(number: object, text: str = "told by a test") -> str:
    return json.dumps({"code": number, "msg": text})


INVALID = (400, code(-1121, "Invalid symbol."))
PASSING: dict[str, tuple[int, str]] = {
    "a page of a CDN, 404": (404, HTML),
    "a page of a CDN, 400": (400, HTML),
    "a page of a CDN, 403": (403, HTML),
    "a page of a CDN, 200": (200, HTML),
    "nothing at all": (400, ""),
    "JSON without a code": (404, "{}"),
    "another one's JSON": (404, '{"message":"Not Found"}'),
    "a list": (400, "[]"),
    "null": (400, "null"),
    "a code that is a text": (400, code("-1121")),
    "no code of the list": (404, code(-1)),
    "unknown error": (400, code(-1000)),
    "disconnected": (400, code(-1001)),
    "unexpected answer": (400, code(-1006)),
    "time-out": (408, code(-1007)),
    "overloaded": (400, code(-1008)),
    "shutting down": (400, code(-1016)),
    "a final code, from a server that fails": (503, INVALID[1]),
}


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairs.ingest.repair.GRACE_S", 0.01)


def holed(store: PostgresStore, exchange: Foreign, symbol: str = "AAAUSDT") -> None:
    """Ten trades of two hundred are missing."""
    printed(exchange, symbol, now_ms() - 200_000, now_ms(), 1_000)
    stored(store, exchange, symbol, range(100, 110))


def until(
    store: PostgresStore,
    exchange: Foreign,
    done: Callable[[], object],
    patience: Patience = HASTY,
    *,
    beside: str = "",
    again: bool = False,
) -> None:
    """Repair until `done`; `beside` is an endpoint that is asked all the time as well, `again`:
    so is what was given up."""

    async def work() -> None:
        symbols = list(exchange.trades)
        async with BinanceRest(exchange.rest_url, SPOT) as rest, asyncio.TaskGroup() as parts:
            repair = Repair(store, rest, "binance", 48.0, patience=patience)
            for symbol in symbols:
                parts.create_task(repair.watch(symbol))
            if again:
                asking = AskingAgain(store, rest, "binance", symbols, 48.0, repair.wake, patience)
                parts.create_task(asking.run())
            while True:
                if beside:
                    with contextlib.suppress(Exception):
                        await rest.get(beside, symbol=symbols[0])
                await asyncio.sleep(0.02)

    run(work, done, 20)


def asked(exchange: Foreign) -> int:
    return sum("historicalTrades" in request for request in exchange.requests)


def asked_more(exchange: Foreign, times: int) -> Callable[[], bool]:
    seen = asked(exchange)
    return lambda: asked(exchange) > seen + times


def says(exchange: Foreign, answer: tuple[int, str] | None) -> None:
    """What trades are answered with; None: with trades."""
    endpoints = ("historicalTrades", "trades")
    exchange.odd.says = {} if answer is None else dict.fromkeys(endpoints, answer)


def given_up(store: PostgresStore) -> bool:
    return gaps(store) == [(100, 109, "unrecoverable")]


def filled(store: PostgresStore) -> bool:
    return gaps(store) == [(100, 109, "filled")]


def test_no_answer_that_may_pass_gives_trades_up(store: PostgresStore) -> None:
    """Each of them several times, and longer than the patience lasts; then the trades come. Some
    8 s: nineteen answers, each with its waits."""
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        for name, answer in PASSING.items():
            says(exchange, answer)
            until(store, exchange, asked_more(exchange, 3), beside="time")
            assert gaps(store) == [(100, 109, "open")], name
        says(exchange, None)
        exchange.odd.empty = {"historicalTrades"}
        seen = asked(exchange)
        until(store, exchange, lambda: asked(exchange) > seen + 45, beside="time")
        assert gaps(store) == [(100, 109, "open")], "maintenance"
        exchange.odd.empty = set()
        until(store, exchange, lambda: filled(store))


@pytest.mark.parametrize("number", [-1121, -1100, -1130, -1020, -2014])
def test_a_final_refusal_counts_once_it_was_repeated_for_long_enough(
    store: PostgresStore, number: int
) -> None:
    patience = replace(HASTY, answers=4, seconds=1.5)
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        says(exchange, (401 if number < -2000 else 400, code(number)))
        until(store, exchange, lambda: given_up(store), patience)
        assert asked(exchange) >= 8  # in 1.5 s, with waits of 0.05 s
    assert str(number) in reasons(store).pop()


def test_a_refusal_beside_a_rest_that_is_ill_is_none(store: PostgresStore) -> None:
    """Something else is answered with a CDN's page at the same time; then it is well again."""
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        says(exchange, INVALID)
        exchange.odd.says["klines"] = (404, HTML)
        until(store, exchange, asked_more(exchange, 20), beside="klines")
        assert gaps(store) == [(100, 109, "open")]
        exchange.odd.says["time"] = exchange.odd.says.pop("klines")
        until(store, exchange, asked_more(exchange, 5))  # nor is its word alone believed
        assert gaps(store) == [(100, 109, "open")]
        del exchange.odd.says["time"]
        until(store, exchange, lambda: given_up(store))


def test_ids_that_are_not_told_once_are_not_gone(store: PostgresStore) -> None:
    """One answer begins later than asked for; the next one does not."""
    patience = replace(HASTY, gone_answers=3, gone_s=0.3)
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        exchange.odd.unknown = set(range(108))
        seen = asked(exchange)
        until(store, exchange, lambda: asked(exchange) >= seen + 2, replace(HASTY, gone_s=60))
        assert gaps(store)[0][2] == "open"
        exchange.odd.unknown = set()
        until(store, exchange, lambda: filled(store), patience)
        exchange.print_trades("AAAUSDT", 20)
        stored(store, exchange, "AAAUSDT", range(201, 211))
        exchange.odd.unknown = set(range(209))
        until(
            store,
            exchange,
            lambda: gaps(store)[1:] == [(201, 208, "unrecoverable"), (209, 210, "filled")],
            patience,
        )


@pytest.mark.parametrize("daily", [False, True], ids=["at a start", "daily"])
def test_what_was_refused_is_asked_for_again(store: PostgresStore, daily: bool) -> None:
    patience = replace(HASTY, again_s=1.0 if daily else 3600.0)
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        says(exchange, INVALID)
        until(store, exchange, lambda: given_up(store), patience)
        says(exchange, (404, HTML))  # what may pass is not taken for an answer either
        seen = asked(exchange)
        until(store, exchange, lambda: asked(exchange) > seen + 3, patience, again=True)
        assert given_up(store)
        if daily:

            def told() -> bool:
                if asked(exchange) > seen + 2:
                    says(exchange, None)
                return filled(store)

            says(exchange, INVALID)
            seen = asked(exchange)
            until(store, exchange, told, patience, again=True)
        else:
            says(exchange, None)
            until(store, exchange, lambda: filled(store), patience, again=True)
    assert audit(store)["ok"]


def test_what_comes_back_in_part_is_lost_in_part(store: PostgresStore) -> None:
    patience = replace(HASTY, again_s=3600.0, gone_s=0.1)
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        exchange.odd.unknown = set(range(110))
        until(store, exchange, lambda: given_up(store), patience)
        exchange.odd.unknown = set(range(105))
        until(
            store,
            exchange,
            lambda: len(gaps(store)) == 2 and gaps(store)[1] == (105, 109, "filled"),
            patience,
            again=True,
        )
        assert gaps(store)[0] == (100, 104, "unrecoverable")
        assert "before id 105" in reasons(store).pop()
        seen = asked(exchange)
        until(store, exchange, lambda: asked(exchange) > seen, patience, again=True)
        assert gaps(store)[0] == (100, 104, "unrecoverable")
        exchange.odd.unknown = set()
        until(store, exchange, lambda: gaps(store)[0] == (100, 104, "filled"), patience, again=True)


def test_what_is_too_old_by_now_costs_no_question(store: PostgresStore) -> None:
    with Foreign("AAAUSDT") as exchange:
        start = now_ms() - 50 * 3_600_000
        printed(exchange, "AAAUSDT", start, start + 200_000, 1_000)
        stored(store, exchange, "AAAUSDT", range(100, 110))
        printed(exchange, "AAAUSDT", now_ms() - 1000, now_ms(), 1_000)
        stored(store, exchange, "AAAUSDT", range(100, 110))
        gap = Gap("AAAUSDT", 100, 109)
        store.settle("binance", gap, 100, 109, "unrecoverable", "HTTP 400", Patience().refusal)
        older = "SELECT count(*) FROM gap WHERE reason LIKE 'older than REPAIR_HOURS%'"
        until(store, exchange, lambda: count(store, older), again=True)
        assert asked(exchange) == 0
    assert count(store, "SELECT ask_again::text FROM gap") == "infinity"
    assert audit(store)["ok"]


def test_a_refusal_is_told_as_a_loss_until_the_trades_come(store: PostgresStore) -> None:
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        own = Ownership(store.connect, "binance")
        own.claim(["AAAUSDT"])
        own.heartbeat({"AAAUSDT": ("live", "")})
        gap = Gap("AAAUSDT", 100, 109)
        store.settle("binance", gap, 100, 109, "unrecoverable", "HTTP 400", Patience().refusal)
        told = health(store)
        assert not told["healthy"]
        assert "AAAUSDT: 10 trades are lost unless" in told["problems"][0]
        assert "HTTP 400" in told["problems"][0]
        report = audit(store)
        assert not report["ok"]
        assert report["venues"]["binance"]["AAAUSDT"]["missing_refused"] == 10
        until(store, exchange, lambda: filled(store), again=True)
        own.heartbeat({"AAAUSDT": ("live", "")})
        assert health(store)["problems"] == []
        assert audit(store)["ok"]
        own.close()


def test_a_store_of_before_asks_for_what_it_gave_up(store: PostgresStore) -> None:
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        store.settle("binance", Gap("AAAUSDT", 100, 109), 100, 109, "unrecoverable", "HTTP 404")
        with store.transaction() as cursor:
            cursor.execute("ALTER TABLE gap DROP COLUMN ask_again, DROP COLUMN refused")
            step = MIGRATIONS / "versions" / "0003_asked_for_again.sql"
            cursor.execute(step.read_text(encoding="utf-8"))
        until(store, exchange, lambda: filled(store), again=True)


def test_klines_refused_by_something_in_between_are_asked_for_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = backfill._Turn
    monkeypatch.setattr(backfill, "_waits", HASTY.waits)
    monkeypatch.setattr(backfill, "_Turn", lambda: turn(waits=HASTY.waits()))
    monkeypatch.setattr(backfill, "LOOK_EVERY_S", 0.1)
    with Foreign("AAAUSDT") as exchange:
        printed(exchange, "AAAUSDT", now_ms() - 3_600_000, now_ms(), 10_000)
        exchange.odd.says = {"klines": (404, HTML), "time": (404, HTML)}

        def told() -> bool:
            if sum("klines" in request for request in exchange.requests) > 10:
                exchange.odd.says.pop("time", None)
            if sum("klines?symbol" in request for request in exchange.requests) > 20:
                exchange.odd.says = {}
            return len(bars(store, "AAAUSDT", 60)) >= 59

        fetch(store, exchange, told, 1.0, 20)


def test_a_record_begins_with_its_minute_although_a_page_of_a_cdn_came_first(
    store: PostgresStore,
) -> None:
    async def begin(url: str) -> None:
        async with BinanceRest(url, SPOT) as rest:
            repair = Repair(store, rest, "binance", 48.0)
            watched = {"AAAUSDT": StreamState()}
            await begin_records(store, rest, repair, "binance", watched)

    with Foreign("AAAUSDT") as exchange:
        minute = now_ms() // 60_000 * 60_000
        exchange.odd.time_ms = minute + 30_000
        printed(exchange, "AAAUSDT", minute - 10_000, minute + 30_000, 1_000)
        exchange.odd.says = {"aggTrades": (404, HTML)}
        timer = threading.Timer(1.0, exchange.odd.says.clear)
        timer.start()
        asyncio.run(begin(exchange.rest_url))
        timer.join()
    assert store.known_ids("binance", "AAAUSDT") == (11, 10)


def test_a_ban_that_only_the_body_tells_is_kept(store: PostgresStore) -> None:
    """HTTP 400 with a number that may pass: the words name the moment."""
    with Foreign("AAAUSDT") as exchange:
        holed(store, exchange)
        until_ms = now_ms() + 3_000
        says(exchange, (400, code(-1003, f"Way too many requests; IP banned until {until_ms}.")))
        timer = threading.Timer(1.5, says, (exchange, None))
        timer.start()
        until(store, exchange, lambda: filled(store), beside="time")
        timer.join()
        began = [request for request in exchange.requests if "time" in request]
    assert now_ms() >= until_ms
    assert asked(exchange) == 2  # one before the ban, one after it
    assert len(began) < 200
