"""Ids that are told and are no trades, and rows that cannot be read: each costs itself alone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pairs.feeds.binance.protocol import USDM, Unstorable, parse, parse_rest_trades
from pairs.market import Rejected, Trade
from pairs.storage.audit import audit
from pairs.storage.batch import at
from pairs.storage.gaps import Gap
from pairs.storage.maintenance import health
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_incomplete
from pairs.storage.retention import prune
from tests.support.daemon import count, eventually, ingesting
from tests.support.foreign import Foreign
from tests.support.records import OPEN
from tests.support.rows import T0, trade

S = 1_000_000
BOTH = ("BTCUSDT", "ETHUSDT")


def nothing(number: int, symbol: str = "BTCUSDT") -> Rejected:
    return Rejected("size '0' is zero: no trade", f"frame {number}", symbol, number, no_trade=True)


def odd(number: int) -> Rejected:
    return Rejected("price '0.1…' has more digits", f"frame {number}", "BTCUSDT", number)


def gaps(store: PostgresStore) -> list[tuple[Any, ...]]:
    with store.transaction() as cursor:
        cursor.execute("SELECT first_id, last_id, state FROM v_gaps ORDER BY 1")
        return cursor.fetchall()


# -- what a frame and a row mean


@pytest.mark.parametrize(
    ("size", "is_trade", "is_none"),
    [
        ("0.5", True, False),
        ("0", False, True),
        ("0.000", False, True),
        ("-0", False, False),
        ("", False, False),
        ("0e5", False, True),
    ],
)
def test_a_size_of_zero_is_no_trade(size: str, is_trade: bool, is_none: bool) -> None:
    data = f'"s":"BTCUSDT","a":7,"p":"9.5","q":"{size}","f":3,"l":4,"T":{T0 // 1000},"m":true'
    frame = parse(f'{{"e":"aggTrade",{data}}}', 5, USDM)
    assert isinstance(frame, Trade) == is_trade
    row = {"a": 7, "p": "9.5", "q": size, "f": 3, "l": 4, "T": T0 // 1000, "m": True}
    (told,) = parse_rest_trades("BTCUSDT", [row], 5, USDM)
    assert isinstance(told, Trade) == is_trade
    if isinstance(frame, Rejected) and isinstance(told, Unstorable):
        assert (frame.no_trade, told.rejected.no_trade) == (is_none, is_none)
        assert frame.trade_id == told.trade_id == 7


def test_a_damaged_frame_of_spot_is_still_asked_for() -> None:
    data = f'"s":"BTCUSDT","t":7,"p":"9.5","q":"0","T":{T0 // 1000},"m":true'
    frame = parse(f'{{"e":"trade",{data}}}', 5)
    assert isinstance(frame, Rejected)
    assert not frame.no_trade


# -- the store


def test_ids_without_a_trade_are_settled_with_the_batch(store: PostgresStore) -> None:
    """Alternating with trades, at both ends, told twice, before and behind what is known."""
    batch = [trade(i, T0 + i * S) for i in (11, 13, 14)]
    seen = [nothing(i) for i in (10, 12, 15, 16)]
    for _ in range(2):
        written = store.write("binance", batch, seen=seen)
        assert written.gaps == ()
    assert gaps(store) == [(10, 10, "void"), (12, 12, "void"), (15, 16, "void")]
    assert store.known_ids("binance", "BTCUSDT") == (10, 16)
    assert count(store, "SELECT count(*) FROM quarantine") == 4
    assert store.write("binance", [], seen=[nothing(20)]).gaps == (Gap("BTCUSDT", 17, 19),)
    store.write("binance", [trade(18, T0 + 18 * S)], seen=[nothing(17), nothing(19)])
    assert store.open_gaps("binance", "BTCUSDT") == []
    report = audit(store)
    assert report["ok"]
    assert report["venues"]["binance"]["BTCUSDT"]["missing_named"] == 7
    assert health(store)["gaps"]["void"]["trades"] == 7
    assert len(read_incomplete(store.engine, "binance", "BTCUSDT", 1)) == 0


def test_a_trade_that_comes_after_all_is_one(store: PostgresStore) -> None:
    store.write("binance", [trade(10, T0), trade(12, T0 + S)], seen=[nothing(11)])
    store.write("binance", [trade(11, T0)], seen=[nothing(12)])  # and what is a trade stays one
    assert gaps(store) == []
    assert audit(store)["ok"]


def test_a_page_that_cannot_be_stored_is_lost_at_once(store: PostgresStore) -> None:
    """Every second id of a hole, an id beyond all, and one that is stored already."""
    store.write("binance", [trade(1, T0), trade(100, T0 + 100 * S)])
    page = [trade(i, T0 + i * S) for i in range(2, 60, 2)]
    store.write("binance", page, seen=[odd(i) for i in (*range(3, 60, 2), 100, 101)])
    lost = [row for row in gaps(store) if row[2] == "unrecoverable"]
    assert lost == [(i, i, "unrecoverable") for i in (*range(3, 60, 2), 101)]
    assert store.open_gaps("binance", "BTCUSDT") == [Gap("BTCUSDT", 60, 99)]
    assert store.known_ids("binance", "BTCUSDT") == (1, 101)
    assert audit(store)["ok"]


def test_a_lost_trade_beside_ids_that_are_none_touches_the_bar_beyond(
    store: PostgresStore,
) -> None:
    """10, no trade 11, lost 12, no trade 13, 14: both bars may lack what is lost."""
    store.write(
        "binance",
        [trade(10, T0), trade(14, T0 + 5 * S), trade(20, T0 + 9 * S)],
        seen=[nothing(11), nothing(13), odd(12), *map(nothing, range(15, 20))],
    )
    incomplete = read_incomplete(store.engine, "binance", "BTCUSDT", 1)
    assert [int(t.timestamp()) - T0 // S for t in incomplete] == [0, 5]


def test_retention_takes_ids_that_are_no_trades_along(store: PostgresStore) -> None:
    day = 86_400 * S
    store.write(
        "binance",
        [trade(i, T0 + (i // 1500) * day) for i in range(0, 3000, 2)],
        seen=[nothing(i) for i in range(1, 3000, 2)],
    )
    prune(store, 0.5, at(T0 + day))
    assert audit(store)["ok"]
    assert min(first for first, *_ in gaps(store)) >= 1499
    assert sum(last - first + 1 for first, last, _ in gaps(store)) <= 751


def test_what_is_noted_stays_small(store: PostgresStore) -> None:
    """Four of ten ids of 20,000: some rows, not 8,000, and a batch is not read again for them."""
    ids = range(20_000)
    store.write(
        "binance",
        [trade(i, T0 + i * 1000) for i in ids if i % 5 < 3],
        seen=[nothing(i) for i in ids if i % 5 >= 3],
    )
    assert count(store, "SELECT count(*) FROM void_ids") == 20
    assert count(store, "SELECT count(*) FROM gap") == 0
    assert count(store, "SELECT sum(last_id - first_id + 1) FROM v_gaps") == 8000


# -- the daemon


def test_a_market_of_which_much_is_no_trade(store: PostgresStore) -> None:
    """USD-M aggregates of size 0, from the stream and in a hole of 2,000 ids, at the live end and
    alone: nothing is asked for page by page, nothing stays open, each id is kept aside once."""
    zero = {"q": "0"}
    with Foreign(*BOTH, market="usdm") as exchange:
        exchange.odd.sent = exchange.odd.told = {i: zero for i in range(1, 4000) if i % 5 in (2, 3)}
        ends: dict[str, int] = {}
        with ingesting(store, exchange, market="usdm"):
            exchange.print_trades("BTCUSDT", 500)
            exchange.print_trades("ETHUSDT", 3)  # 1, and then 2 and 3, which are none
            eventually(lambda: count(store) == 301, "trades")
            exchange.odd.hidden = set(range(501, 2501))
            exchange.print_trades("BTCUSDT", 2010)
            asked = len([r for r in exchange.requests if "fromId" in r])
            eventually(lambda: count(store) == 1 + 1506 and count(store, OPEN) == 0, "the hole")
            asked = len([r for r in exchange.requests if "fromId" in r]) - asked
            assert asked <= 6
            eventually(lambda: health(store)["healthy"], "health", 20)
            time.sleep(6)  # a silence of more than 5 s is looked into
            assert health(store)["healthy"]
            ends = {s: rows[-1]["id"] for s, rows in exchange.trades.items()}
        assert ends == {"BTCUSDT": 2510, "ETHUSDT": 3}
        none = "SELECT coalesce(sum(last_id - first_id + 1), 0) FROM v_gaps WHERE state = 'void'"
        assert count(store, none) == 1004 + 2
        assert count(store, "SELECT count(*) FROM quarantine") == 1004 + 2
        assert count(store, "SELECT count(*) FROM v_gaps WHERE state = 'unrecoverable'") == 0
        assert audit(store)["ok"]
