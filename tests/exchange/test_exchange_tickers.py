"""Tickers and averages: what the trades of their window come to, in both markets."""

import json
from typing import Any

import pytest

from exchange import SyntheticSource
from exchange.asking import View, weight_of
from exchange.futures import FuturesSource, first_trades, sizes
from exchange.rest import ENDPOINTS, respond
from exchange.rest_futures import ENDPOINTS as FAPI
from exchange.tape import US
from exchange.tickers import Statistics, statistics
from exchange.told import Teller, is_slow
from exchange.world import default_world

NOW = 1_772_625_600 * US + 345_678_901
DAY_MS = 86_400_000
SPOT = SyntheticSource(default_world().only(["LTCUSDT"]), clock=lambda: NOW)
USDM = FuturesSource(SPOT)


def get(name: str, query: str = "", source: SyntheticSource = SPOT) -> Any:
    path, endpoints = (f"/api/v3/{name}", ENDPOINTS) if source is SPOT else (f"/fapi/{name}", FAPI)
    return json.loads(respond(View(source), path, query, endpoints)[1])


def folded(source: SyntheticSource, start_us: int, end_us: int) -> Any:
    """The window from its trades, one by one."""
    first = source.id_at("LTCUSDT", start_us)
    tape = source.trades("LTCUSDT", first, source.id_at("LTCUSDT", end_us) - first)
    return tape.up_to_id(source.last_id("LTCUSDT"))


@pytest.mark.parametrize("source", [SPOT, USDM], ids=["spot", "usdm"])
@pytest.mark.parametrize(
    ("before_us", "length_us"),
    [(0, 1), (3, 2), (500_000, 400_000), (90 * US + 7, 90 * US), (3600 * US, 2500 * US + 123_457)],
)
def test_a_window_is_exact_to_the_microsecond(
    source: SyntheticSource, before_us: int, length_us: int
) -> None:
    start = NOW - before_us - 1
    told = statistics(View(source), "LTCUSDT", start, start + length_us)
    tape = folded(source, start, start + length_us)
    if not len(tape):
        assert (told.count, told.volume, told.first_id) == (0, 0, -1)
        assert told.last == told.before > 0
        return
    assert told.open == tape.price[0]
    assert told.last == tape.price[-1]
    assert (told.high, told.low) == (tape.price.max(), tape.price.min())
    assert (told.volume, told.quote) == (tape.qty.sum(), (tape.qty * tape.price).sum())
    assert told.last_lots == tape.qty[-1]
    counts = sizes(tape.ids).sum() if source is USDM else len(tape)
    first = first_trades(tape.ids)[0] if source is USDM else tape.ids[0]
    assert (told.count, told.first_id) == (counts, first)


def test_nothing_that_is_not_printed_counts() -> None:
    """A trading day ends in the future; a lagging REST tells less."""
    told = statistics(View(SPOT), "LTCUSDT", NOW - 3600 * US, NOW + 12 * 3600 * US)
    assert told.last_id == SPOT.last_id("LTCUSDT")
    late = statistics(View(SPOT, lag=50), "LTCUSDT", NOW - 3600 * US, NOW + 1)
    assert late.last_id == told.last_id - 50
    assert late.count == told.count - 50


def test_the_day_of_spot() -> None:
    told = get("ticker/24hr", "symbol=LTCUSDT")
    assert told["closeTime"] - told["openTime"] == DAY_MS
    assert told["count"] == told["lastId"] - told["firstId"] + 1
    change = float(told["lastPrice"]) - float(told["openPrice"])
    assert float(told["priceChange"]) == pytest.approx(change, abs=1e-8)
    assert float(told["priceChangePercent"]) == pytest.approx(
        100 * change / float(told["openPrice"]), abs=6e-4
    )
    average = float(told["quoteVolume"]) / float(told["volume"])
    assert float(told["weightedAvgPrice"]) == pytest.approx(average, abs=2e-8)
    quote = get("ticker/bookTicker", "symbol=LTCUSDT")
    assert {k: told[k] for k in quote} == quote
    assert get("ticker/price", "symbol=LTCUSDT")["price"] == told["lastPrice"]
    mini = get("ticker/24hr", "symbol=LTCUSDT&type=MINI")
    assert mini == {k: told[k] for k in mini}
    assert "priceChange" not in mini


def test_one_some_or_all() -> None:
    names = list(SPOT.symbols)
    for kind in ("24hr", "price", "bookTicker"):
        assert [row["symbol"] for row in get(f"ticker/{kind}")] == names
        asked = json.dumps(names[::-1], separators=(",", ":"))
        assert [row["symbol"] for row in get(f"ticker/{kind}", f"symbols={asked}")] == names[::-1]
    both = f'symbol={names[0]}&symbols=["{names[0]}"]'
    assert get("ticker/price", both)["code"] == -1128
    assert get("ticker")["code"] == -1128
    many = json.dumps(["LTCUSDT"] * 101, separators=(",", ":"))
    assert get("ticker", f"symbols={many}")["msg"].endswith("expected '100' and received '101'.")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("windowSize=60m", -1100),
        ("windowSize=8d", -1100),
        ("windowSize=0h", -1100),
        ("windowSize=", -1100),
        ("type=TINY", -1139),
    ],
)
def test_windows_that_there_are_not(query: str, code: int) -> None:
    assert get("ticker", f"symbol=LTCUSDT&{query}")["code"] == code


def test_windows_begin_with_a_whole_minute() -> None:
    told = get("ticker", "symbol=LTCUSDT&windowSize=15m")
    assert told["openTime"] % 60_000 == 0
    assert 0 <= told["closeTime"] - told["openTime"] - 15 * 60_000 < 60_000
    day = get("ticker/tradingDay", "symbol=LTCUSDT")
    assert (day["openTime"] % DAY_MS, day["closeTime"] - day["openTime"]) == (0, DAY_MS - 1)
    (bar,) = get("klines", "symbol=LTCUSDT&interval=1d&limit=1")
    names = ("openPrice", "highPrice", "lowPrice", "lastPrice", "volume")
    assert bar[1:6] == [day[name] for name in names]
    assert bar[8] == day["count"]


def test_the_average_of_five_minutes() -> None:
    told = get("avgPrice", "symbol=LTCUSDT")
    tape = folded(SPOT, NOW - 300 * US, NOW + 1)
    price = float((tape.price * tape.qty).sum() / tape.qty.sum()) / 100
    assert float(told["price"]) == pytest.approx(price, abs=2e-8)
    assert (told["mins"], told["closeTime"]) == (5, int(tape.t[-1]) // 1000)


def test_usdm() -> None:
    day = get("v1/ticker/24hr", "symbol=LTCUSDT", USDM)
    assert "bidPrice" not in day
    assert day["lastId"] >= day["firstId"] + day["count"] - 1
    price = get("v2/ticker/price", "symbol=LTCUSDT", USDM)
    assert (price["price"], set(price)) == (day["lastPrice"], {"symbol", "price", "time"})
    quote = get("v1/ticker/bookTicker", "", USDM)
    assert [row["symbol"] for row in quote] == list(USDM.symbols)
    weights = {"ticker/24hr": (1, 40), "ticker/price": (1, 2), "ticker/bookTicker": (2, 5)}
    for name, (one, every) in weights.items():
        assert weight_of(FAPI[f"/fapi/v1/{name}"], "symbol=LTCUSDT") == one
        assert weight_of(FAPI[f"/fapi/v1/{name}"], "") == every


def test_a_fall_is_written_with_its_sign() -> None:
    info = SPOT.symbols["LTCUSDT"]
    told = Statistics(info, 0, 1, 100, 100, 100, 90, 95, 1, 10, 950, 2, 1, 2)
    assert (told.change, told.percent) == ("-0.05000000", "-5.000")


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("ltcusdt@ticker", "24hrTicker"),
        ("ltcusdt@miniTicker", "24hrMiniTicker"),
        ("ltcusdt@ticker_1h", "1hTicker"),
        ("ltcusdt@avgPrice", "avgPrice"),
        ("!ticker@arr", "24hrTicker"),
        ("!miniTicker@arr", "24hrMiniTicker"),
        ("!ticker_4h@arr", "4hTicker"),
    ],
)
def test_streams_tell_what_rest_does(stream: str, kind: str) -> None:
    (message,) = Teller(SPOT).each_second([stream])
    assert message.stream == stream
    told, micro = json.loads(message.payload(False)), json.loads(message.payload(True))
    if stream.startswith("!"):
        assert [row["s"] for row in told] == list(SPOT.symbols)
        told, micro = told[-1], micro[-1]
    assert (told["e"], told["s"], told["E"], micro["E"]) == (kind, "LTCUSDT", NOW // 1000, NOW)
    if kind == "avgPrice":
        assert told["w"] == get("avgPrice", "symbol=LTCUSDT")["price"]
        return
    window = {"1hTicker": "1h", "4hTicker": "4h"}.get(kind)
    query = "symbol=LTCUSDT"
    rest = get("ticker", f"{query}&windowSize={window}") if window else get("ticker/24hr", query)
    names = {
        "c": "lastPrice",
        "o": "openPrice",
        "h": "highPrice",
        "l": "lowPrice",
        "v": "volume",
        "q": "quoteVolume",
    }
    if kind == "24hrTicker":
        names |= {"b": "bidPrice", "a": "askPrice", "x": "prevClosePrice", "w": "weightedAvgPrice"}
    assert {k: told[k] for k in names} == {k: rest[name] for k, name in names.items()}


def test_what_needs_a_day_of_trades_is_told_apart() -> None:
    slow = ["a@ticker", "!miniTicker@arr", "a@kline_1d", "a@kline_1M", "a@kline_1w@+08:00"]
    quick = ["a@kline_1m", "a@kline_12h", "a@depth", "a@markPrice", "a@avgPrice", "a@kline_1s"]
    assert [s for s in slow + quick if is_slow(s)] == slow
