"""One row that cannot be read costs no other; ids that are none begin and end nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from pairs.feeds.binance.protocol import SPOT, USDM, Unstorable, parse_klines, parse_rest_trades
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.ingest.repair import Patience, Repair
from pairs.market import Trade
from pairs.storage.postgres import PostgresStore
from tests.support.daemon import count, eventually, ingesting
from tests.support.foreign import Foreign

NOW = time.time_ns() // 1_000_000
BAD: list[Any] = [
    None,
    7,
    "text",
    [],
    {},
    {"id": -1},
    {"id": ""},
    {"id": None},
    {"id": True},
    {"id": "x"},
    {"id": 2**63},
    {"id": 1.5},
]


def row(number: int, **changes: Any) -> dict[str, Any]:
    made = {"id": number, "price": "9.5", "qty": "2", "time": NOW, "isBuyerMaker": True}
    return {**made, **changes}


def told(rows: list[Any], since: int | None = None) -> list[tuple[int, str]]:
    kinds = {Trade: "trade", Unstorable: "odd"}
    return [
        (r.trade_id, "unread" if isinstance(r, Unstorable) and r.unreadable else kinds[type(r)])
        for r in parse_rest_trades("BTCUSDT", rows, 5, since=since)
    ]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_row_of_trades_that_cannot_be_read_costs_itself(bad: Any) -> None:
    assert told([row(7), bad, row(9), row(10)]) == [
        (7, "trade"),
        (8, "unread"),
        (9, "trade"),
        (10, "trade"),
    ]
    assert told([bad, row(9)], since=8) == [(8, "unread"), (9, "trade")]
    assert told([bad, row(9)]) == [(9, "trade")]  # nobody knows which it was
    assert told([row(9), bad]) == [(9, "trade")]
    with pytest.raises(ValueError, match="no row of 1"):
        told([bad])


@pytest.mark.parametrize(
    "changes",
    [
        {"time": None},
        {"time": ""},
        {"time": -5},
        {"time": [1]},
        {"price": None},
        {"qty": {}},
        {"isBuyerMaker": 1},
    ],
)
def test_a_row_whose_id_can_be_read_is_one_that_cannot_be_stored(changes: dict[str, Any]) -> None:
    assert told([row(7), row(8, **changes), row(9)]) == [(7, "trade"), (8, "odd"), (9, "trade")]
    missing = row(8)
    del missing[next(iter(changes))]
    assert told([row(7), missing, row(9)]) == [(7, "trade"), (8, "odd"), (9, "trade")]


def kline(minute: int, **changes: Any) -> list[Any]:
    made = [
        NOW // 60_000 * 60_000 - 600_000 + minute * 60_000,
        "2",
        "3",
        "1",
        "2.5",
        "10",
        0,
        "20",
        5,
        "4",
        "8",
        "0",
    ]
    return [changes.get(f"c{k}", value) for k, value in enumerate(made)]


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        7,
        kline(1)[:5],
        kline(1, c0=None),
        kline(1, c2="x"),
        kline(1, c2="0"),
        kline(1, c5="-1"),
        kline(1, c8="many"),
        kline(1, c4="nan"),
        kline(1, c0=0),
    ],
    ids=str,
)
def test_a_kline_that_cannot_be_read_costs_itself(bad: Any) -> None:
    aside: list[Any] = []
    klines = parse_klines("BTCUSDT", 60, [kline(0), bad, kline(2)], aside)
    assert [k.ts_us // 1000 for k in klines] == [kline(0)[0], kline(2)[0]]
    assert len(aside) == 1


def test_klines_that_cannot_be_read_come_once_and_are_kept_once(store: PostgresStore) -> None:
    """Of the klines before a start; the daemon goes on, and keeps what it could not read."""

    def spoil(name: str, body: Any) -> Any:
        if name != "klines" or len(body) < 3:
            return body
        return [*body[:1], [body[1][0], "x", *body[1][2:]], *body[2:]]

    with Foreign("BTCUSDT", rewrite=spoil) as exchange:
        for minute in range(30, 5, -1):
            exchange.print_trades("BTCUSDT", 2, at_ms=NOW - minute * 60_000)
        with ingesting(store, exchange, HISTORY_HOURS="1"):
            minutes = "SELECT count(*) FROM kline WHERE bar_s = 60"
            eventually(lambda: count(store, minutes) == 24, "klines but one")
            exchange.print_trades("BTCUSDT", 2)
            kept = "SELECT count(*) FROM quarantine WHERE reason LIKE 'kline%'"
            eventually(lambda: count(store, kept), "kept aside")
            seconds = "SELECT count(*) FROM kline WHERE bar_s = 1"
            eventually(lambda: count(store, seconds) == 24, "seconds but one")
            twice = "SELECT count(*) - count(DISTINCT frame) FROM quarantine"
            assert count(store, twice) == 0


async def repaired(store: PostgresStore, exchange: Foreign, seconds: float) -> None:
    patience = Patience(answers=2, seconds=1.0, first_s=0.05, longest_s=0.1)
    async with BinanceRest(exchange.rest_url) as rest:
        repair = Repair(store, rest, "binance", 48, patience=patience)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await repair.watch("BTCUSDT")


@pytest.mark.parametrize("for_ever", [False, True])
def test_a_hole_with_a_row_that_cannot_be_read(store: PostgresStore, for_ever: bool) -> None:
    """What can be read is stored at once. The row is asked for again, and named as lost, to be
    asked for later, only where it stays as it is."""
    spoilt: list[float] = []

    def spoil(name: str, body: Any) -> Any:
        for k, one in enumerate(body if name == "historicalTrades" else ()):
            if one["id"] in (5, 6) and (for_ever or len(spoilt) < 2):
                spoilt.append(time.monotonic())
                body[k] = {"id": ""}
        return body

    with Foreign("BTCUSDT", rewrite=spoil) as exchange:
        exchange.print_trades("BTCUSDT", 10)
        ends = [r for r in exchange.trades["BTCUSDT"] if r["id"] in (1, 10)]
        store.write(
            "binance", [Trade("BTCUSDT", r["id"], r["T"] * 1000, 1.0, 1.0, True, 0) for r in ends]
        )
        asyncio.run(repaired(store, exchange, 3.0))
    assert store.open_gaps("binance", "BTCUSDT") == []
    assert count(store) == (8 if for_ever else 10)
    lost = "SELECT count(*) FROM gap WHERE state = 'unrecoverable' AND refused"
    assert count(store, lost) == (1 if for_ever else 0)
    assert count(store, "SELECT count(*) FROM v_gaps WHERE state = 'void'") == 0


# -- ids that are none


@pytest.mark.parametrize(
    "empty",
    [{"f": -1, "l": -1}, {"f": None, "l": None}, {"f": "", "l": ""}, {"f": True, "l": True}],
    ids=str,
)
def test_an_aggregate_without_trades_begins_and_ends_nothing(empty: dict[str, Any]) -> None:
    def spoil(name: str, body: Any) -> Any:
        spoilt = (1, 2, 9, 10)
        if name == "aggTrades":
            return [{**one, **empty, "q": "0"} if one["f"] in spoilt else one for one in body]
        return body

    with Foreign("BTCUSDT", rewrite=spoil) as exchange:
        exchange.print_trades("BTCUSDT", 10)

        async def ask() -> tuple[int | None, int | None]:
            async with BinanceRest(exchange.rest_url, SPOT) as rest:
                first = await rest.first_id_since("BTCUSDT", NOW - 60_000)
                return first, await rest.latest_id("BTCUSDT")

        assert asyncio.run(ask()) == (3, 8)


def test_aggregates_none_of_which_has_a_trade_tell_no_id() -> None:
    def spoil(name: str, body: Any) -> Any:
        return [{**one, "f": -1, "l": -1} for one in body] if name == "aggTrades" else body

    with Foreign("BTCUSDT", rewrite=spoil) as exchange:
        exchange.print_trades("BTCUSDT", 10)

        async def ask() -> int | None:
            async with BinanceRest(exchange.rest_url, SPOT) as rest:
                with pytest.raises(RestError, match="no trade"):
                    await rest.first_id_since("BTCUSDT", NOW - 60_000)
                return await rest.latest_id("BTCUSDT")

        assert asyncio.run(ask()) == 10  # by the newest trades themselves


def test_first_and_last_of_usdm_are_advisory() -> None:
    one = {"a": 7, "p": "9", "q": "1", "f": -1, "l": -1, "T": NOW, "m": True}
    (told_one,) = parse_rest_trades("BTCUSDT", [one], 5, USDM)
    assert isinstance(told_one, Trade)
    assert told_one.trades == 1
