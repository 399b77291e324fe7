"""Frames → trades: real ones, documented ones, and everything that must not pass for a trade."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from itertools import islice

import pytest

from pairs.feeds.binance.protocol import (
    SPOT,
    USDM,
    Control,
    Unstorable,
    exact,
    parse,
    parse_klines,
    parse_rest_trades,
    stream_url,
)
from pairs.market import Rejected, Trade
from pairs.retry import backoff
from tests.support.reference import data_file

GOOD = {
    "e": "trade",
    "E": 1723161255343,
    "s": "BTCUSDT",
    "t": 3735683259,
    "p": "61837.63000000",
    "q": "0.02000000",
    "T": 1723161255342,
    "m": True,
    "M": True,
}


def frame(**changes: object) -> str:
    data = {**GOOD, **changes}
    return json.dumps({key: value for key, value in data.items() if value is not ...})


def test_a_trade_raw_and_combined() -> None:
    expected = Trade("BTCUSDT", 3735683259, 1723161255342000, 61837.63, 0.02, True, 5)
    assert parse(frame(), 5) == expected
    assert parse('{"stream":"btcusdt@trade","data":' + frame() + "}", 5) == expected
    assert parse(frame().encode(), 5) == expected


def test_microseconds_and_milliseconds_are_told_apart() -> None:
    trade = parse(frame(T=1723161255342123), 5)
    assert isinstance(trade, Trade)
    assert trade.ts_us == 1723161255342123


@pytest.mark.parametrize(
    "changes",
    [{"M": ...}, {"extra": {"a": [1]}}, {"b": 88, "a": 50}, {"E": ...}],
    ids=["missing M", "unknown field", "order ids of 2024", "missing E"],
)
def test_fields_that_do_not_matter(changes: dict[str, object]) -> None:
    assert isinstance(parse(frame(**changes), 5), Trade)


def test_a_json_number_is_as_exact_as_a_string() -> None:
    text = frame().replace('"61837.63000000"', "61837.63")
    trade = parse(text, 5)
    assert isinstance(trade, Trade)
    assert trade.price == 61837.63


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p": "NaN"}, "price 'NaN'"),
        ({"p": ""}, "price ''"),
        ({"p": "-1"}, "price '-1'"),
        ({"p": "0"}, "price '0' is not positive"),
        ({"p": "1_000"}, "price '1_000'"),
        ({"p": "Infinity"}, "price"),
        ({"p": "1e999"}, "not positive and finite"),
        ({"p": None}, "price None"),
        ({"p": True}, "price True"),
        ({"q": "0.123456789012345678901234567891"}, "more digits than can be stored exactly"),
        ({"t": -1}, "trade id"),
        ({"t": 2**63}, "trade id"),
        ({"t": "7"}, "trade id"),
        ({"T": 12}, "trade time"),
        ({"m": "true"}, "buyer_is_maker"),
        ({"s": 7}, "symbol"),
    ],
)
def test_values_that_cannot_be_stored_are_rejected_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    result = parse(frame(**changes), 5)
    assert isinstance(result, Rejected)
    assert reason in result.reason
    assert "BTCUSDT" in result.frame or changes.get("s")


@pytest.mark.parametrize(
    "junk",
    ["", "null", "[]", '{"e":"trade"', b"\xff\xfe\x00", "{}", '"text"', "7", "[" * 5000, "{" * 99],
)
def test_junk_is_rejected_and_never_raises(junk: str | bytes) -> None:
    result = parse(junk, 5)
    assert isinstance(result, Rejected)


def test_thirty_decimals_that_are_exact_are_taken() -> None:
    assert exact("0.5" + "0" * 29, "price") == 0.5


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"result":null,"id":1}', "ack"),
        ('{"result":["btcusdt@trade"],"id":3}', "ack"),
        ('{"code":2,"msg":"Invalid request: property name must be a string","id":1}', "error"),
        ('{"error":{"code":4,"msg":"Too many subscriptions"},"id":19}', "error"),
        ('{"e":"serverShutdown","E":1770123456789}', "shutdown"),
        ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', "shutdown"),
    ],
)
def test_messages_about_the_connection(text: str, kind: str) -> None:
    result = parse(text, 5)
    assert isinstance(result, Control)
    assert result.kind == kind


def test_other_streams_are_no_trades() -> None:
    block = {**GOOD, "e": "blockTrade"}
    ticker = {"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}
    assert parse(json.dumps(block), 5) is None
    assert parse(json.dumps({"stream": "btcusdt@bookTicker", "data": ticker}), 5) is None


@pytest.mark.parametrize("symbol", ["btcusdt", "ethusdt"])
def test_every_frame_of_the_real_capture(symbol: str) -> None:
    path = data_file("market", f"spot_{symbol}_all_streams_20240808.gz")
    trades = 0
    with gzip.open(path, "rt") as lines:
        for line in lines:
            received, text = line.split(" ", 1)
            result = parse(text, int(received) // 1000)
            assert result is None or isinstance(result, Trade)
            trades += result is not None
    assert trades > 6_000


def test_the_odd_messages_seen_in_the_wild() -> None:
    for line in data_file("market", "odd_messages.jsonl").read_text().splitlines():
        record = json.loads(line)
        result = parse(json.dumps(record["msg"]), 5)
        if "placeholder" in record["case"] or record["case"].startswith("same,"):
            assert isinstance(result, Rejected), record["case"]
        elif "order ids" in record["case"]:
            assert isinstance(result, Trade)
        else:
            assert not isinstance(result, Trade), record["case"]


def test_rest_rows() -> None:
    row = {
        "id": 28457,
        "price": "4.00000100",
        "qty": "12.00000000",
        "quoteQty": "48.000012",
        "time": 1499865549590,
        "isBuyerMaker": True,
        "isBestMatch": True,
    }
    assert parse_rest_trades("LTCBTC", [row], 9) == [
        Trade("LTCBTC", 28457, 1499865549590000, 4.000001, 12.0, True, 9)
    ]
    with pytest.raises(ValueError, match="expected a list"):
        parse_rest_trades("LTCBTC", {"msg": "x"}, 9)
    kline = [
        1499040000000,
        "0.1",
        "0.8",
        "0.05",
        "0.2",
        "148.9",
        1499040059999,
        "24.3",
        308,
        "17.5",
        "2.8",
        "0",
    ]
    parsed = parse_klines("LTCBTC", 60, [kline])[0]
    assert (parsed.ts_us, parsed.close, parsed.trades) == (1499040000000000, 0.2, 308)
    assert (parsed.quote_volume, parsed.taker_buy_volume) == (24.3, 17.5)


def test_addresses() -> None:
    assert stream_url("ws://h:1", SPOT, ["BTCUSDT", "ETHUSDT"]) == (
        "ws://h:1/stream?streams=btcusdt@trade/ethusdt@trade"
    )
    simulated = replace(USDM, suffix=".P")
    assert stream_url("ws://h:1", simulated, ["BTCUSDT.P"]) == (
        "ws://h:1/market/stream?streams=btcusdt@aggTrade"
    )


def test_usdm_aggregates_and_placeholders() -> None:
    data = {**GOOD, "e": "aggTrade", "a": 77, "f": 1, "l": 3, "nq": "0", "st": 1}
    del data["t"], data["M"]
    trade = parse(json.dumps({"stream": "btcusdt@aggTrade", "data": data}), 5, USDM)
    assert isinstance(trade, Trade)
    assert (trade.trade_id, trade.symbol) == (77, "BTCUSDT")
    placed = parse(json.dumps(data), 5, replace(USDM, suffix=".P"))
    assert isinstance(placed, Trade)
    assert placed.symbol == "BTCUSDT.P"
    placeholder = {**GOOD, "X": "NA", "p": "0", "q": "0"}
    assert parse(json.dumps(placeholder), 5, USDM) is None
    row = {"a": 9, "p": "1.5", "q": "2", "f": 1, "l": 2, "T": 1723161255342, "m": False}
    rest = parse_rest_trades("BTCUSDT", [row], 5, USDM)[0]
    assert (rest.trade_id, rest.price, rest.buyer_is_maker) == (9, 1.5, False)


def test_backoff_grows_to_its_cap_and_never_to_nothing() -> None:
    waits = list(islice(backoff(random.Random(1), 0.5, 30), 200))
    assert all(0.05 <= wait <= 30 for wait in waits)
    assert all(wait >= 3 for wait in waits[10:])
    assert max(waits[20:]) > 20


def test_numbers_beyond_every_decimal_are_rejected_not_raised() -> None:
    text = frame().replace('"61837.63000000"', "1e99999999999999999999")
    assert isinstance(parse(text, 5), Rejected)


def test_what_is_quoted_in_a_reason_is_short() -> None:
    made = parse(frame(m="x" * 100_000), 5)
    assert isinstance(made, Rejected)
    assert len(made.reason) < 500
    error = parse(json.dumps({"code": 1, "msg": "y" * 100_000}), 5)
    assert isinstance(error, Control)
    assert len(error.text) <= 300


def test_a_rest_row_that_cannot_be_stored_does_not_spoil_its_page() -> None:
    row = {"id": 7, "price": "1.5", "qty": "2", "time": 1723161255342, "isBuyerMaker": True}
    page = parse_rest_trades("BTCUSDT", [{**row, "id": 8, "price": "0"}, row], 9)
    assert isinstance(page[0], Trade)
    assert isinstance(page[1], Unstorable)
    assert (page[0].trade_id, page[1].trade_id) == (7, 8)  # ascending, whatever the answer
    assert "price '0'" in page[1].rejected.reason


@pytest.mark.parametrize(
    "change", [{1: "nan"}, {2: "1"}, {5: "-1"}, {3: "0"}, {4: "inf"}], ids=lambda c: str(c)
)
def test_a_kline_that_is_no_bar_is_refused(change: dict[int, str]) -> None:
    good = [1723161240000, "2", "3", "1", "2.5", "10", 0, "20", 5, "4", "8", "0"]
    assert len(parse_klines("BTCUSDT", 60, [good])) == 1
    with pytest.raises(ValueError, match="no bar"):
        parse_klines("BTCUSDT", 60, [[change.get(k, v) for k, v in enumerate(good)]])


@pytest.mark.parametrize(
    ("ids", "trades"),
    [
        ({"f": 1, "l": 3}, 3),
        ({"f": 7, "l": 7}, 1),
        ({"f": -1, "l": -1}, 1),
        ({"f": 9, "l": 3}, 1),
        ({"f": 0, "l": 10**15}, 1),
        ({"f": None, "l": 3}, 1),
        ({"f": "1", "l": "3"}, 1),
        ({"f": True, "l": 3.0}, 1),
        ({}, 1),
    ],
)
def test_an_aggregate_counts_its_trades_where_it_says_so(
    ids: dict[str, object], trades: int
) -> None:
    data = {key: value for key, value in GOOD.items() if key not in ("f", "l")}
    data |= {"e": "aggTrade", "a": 77, **ids}
    for made in (data, {**data, "p": 61837.63}):  # the usual form, and numbers instead of texts
        trade = parse(json.dumps(made), 5, USDM)
        assert isinstance(trade, Trade)
        assert (trade.trade_id, trade.trades) == (77, trades)
    row = {"a": 77, "T": data["T"], "p": "61837.63", "q": "1.0", "m": True, **ids}
    (told,) = parse_rest_trades("BTCUSDT", [row], 5, USDM)
    assert isinstance(told, Trade)
    assert told.trades == trades
    spot = parse(frame(**ids), 5)
    assert isinstance(spot, Trade)
    assert spot.trades == 1
