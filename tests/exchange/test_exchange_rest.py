"""REST answers as functions of source and parameters: shapes, limits, errors, agreement."""

import itertools
import json
import time
from typing import Any

import pytest

from exchange import SyntheticSource
from exchange.asking import View, weight_of
from exchange.intervals import INTERVALS
from exchange.rest import ENDPOINTS, respond
from exchange.tape import US

NOON = 1_772_625_600 * US  # 2026-03-04 12:00
NOW = NOON + 345_678_901


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(clock=lambda: NOW)


@pytest.fixture
def view(source: SyntheticSource) -> View:
    return View(source)


def get(view: View, name: str, **params: Any) -> Any:
    query = "&".join(f"{key}={value}" for key, value in params.items())
    status, body = respond(view, f"/api/v3/{name}", query)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize(
    ("name", "query", "code"),
    [
        ("klines", "interval=1m", -1102),
        ("klines", "symbol=BTCUSDT", -1102),
        ("klines", "symbol=BTCUSDT&interval=7m", -1120),
        ("klines", "symbol=NOPEUSDT&interval=1m", -1121),
        ("trades", "symbol=btcusdt", -1100),
        ("trades", "symbol=", -1102),
        ("trades", "symbol=BTCUSDT&limit=ten", -1100),
        ("trades", "symbol=BTCUSDT&limit=", -1105),
        ("trades", "symbol=BTCUSDT&limit=0", -1130),
        ("trades", "symbol=BTCUSDT&fromId=1", -1101),
        ("historicalTrades", "symbol=BTCUSDT&fromId=-5", -1100),
        ("aggTrades", "symbol=BTCUSDT&fromId=1&startTime=2", -1128),
        ("exchangeInfo", "symbols=nonsense", -1100),
        ("exchangeInfo", 'symbols=["NOPE"]', -1121),
    ],
)
def test_errors(view: View, name: str, query: str, code: int) -> None:
    status, body = respond(view, f"/api/v3/{name}", query)
    told = json.loads(body)
    assert (status, told["code"], set(told)) == (400, code, {"code", "msg"})


def test_the_documented_error_text(view: View) -> None:
    assert respond(view, "/api/v3/trades", "symbol=NOPE") == (
        400,
        b'{"code":-1121,"msg":"Invalid symbol."}',
    )


@pytest.mark.parametrize(
    ("weight", "names"),
    [
        (1, "ping time"),
        (2, "klines uiKlines avgPrice ticker/24hr?symbol=A ticker/price?symbol=A"),
        (2, "ticker/bookTicker?symbol=A ticker/24hr?symbols=A,B"),
        (4, "aggTrades ticker/price ticker/bookTicker ticker?symbol=A ticker/tradingDay?symbol=A"),
        (8, "ticker?symbols=A,B"),
        (5, "depth depth?limit=100"),
        (20, "exchangeInfo"),
        (25, "trades historicalTrades depth?limit=101 depth?limit=500"),
        (50, "depth?limit=1000"),
        (80, "ticker/24hr"),
        (250, "depth?limit=5000"),
    ],
)
def test_weights_are_the_documented_ones(weight: int, names: str) -> None:
    for name in names.split():
        path, _, query = name.partition("?")
        assert weight_of(ENDPOINTS[f"/api/v3/{path}"], query) == weight, name


def test_time_and_ping(source: SyntheticSource, view: View) -> None:
    assert get(view, "ping") == {}
    assert get(view, "time") == {"serverTime": NOW // 1000}
    assert get(View(source, unit=1), "time") == {"serverTime": NOW}


def test_exchange_info(view: View) -> None:
    told = get(view, "exchangeInfo")
    assert [s["symbol"] for s in told["symbols"]] == list(view.source.symbols)
    eth = next(s for s in told["symbols"] if s["symbol"] == "ETHUSDT")
    assert (eth["status"], eth["baseAsset"], eth["quoteAsset"]) == ("TRADING", "ETH", "USDT")
    steps = {f["filterType"]: f for f in eth["filters"]}
    assert steps["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert steps["LOT_SIZE"]["stepSize"] == "0.00010000"
    assert len(get(view, "exchangeInfo", symbol="BTCUSDT")["symbols"]) == 1
    assert len(get(view, "exchangeInfo", symbols='["BTCUSDT","LTCUSDT"]')["symbols"]) == 2


def test_trades_by_id_page_without_holes(view: View) -> None:
    latest = get(view, "trades", symbol="BTCUSDT")
    assert len(latest) == 500
    assert latest[-1]["id"] == view.source.last_id("BTCUSDT")
    assert list(latest[0]) == [
        "id",
        "price",
        "qty",
        "quoteQty",
        "time",
        "isBuyerMaker",
        "isBestMatch",
    ]
    assert get(view, "historicalTrades", symbol="BTCUSDT") == latest
    first = latest[-1]["id"] - 2300
    rows: list[Any] = []
    while True:
        page = get(view, "historicalTrades", symbol="BTCUSDT", fromId=first, limit=5000)
        if not page:
            break
        assert len(page) <= 1000
        rows += page
        first = page[-1]["id"] + 1
    assert [r["id"] for r in rows] == list(range(latest[-1]["id"] - 2300, latest[-1]["id"] + 1))
    assert rows[-500:] == latest
    assert all(r["time"] <= NOW // 1000 for r in rows)


def test_aggregates_agree_with_trades(view: View) -> None:
    latest = get(view, "aggTrades", symbol="ETHUSDT", limit=400)
    assert len(latest) == 400
    assert list(latest[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
    assert latest[-1]["l"] == view.source.last_id("ETHUSDT")
    for one, following in itertools.pairwise(latest):
        assert following["a"] == one["a"] + 1
        assert following["f"] == one["l"] + 1
    first, last = latest[0]["f"], latest[-1]["l"]
    trades = get(view, "historicalTrades", symbol="ETHUSDT", fromId=first, limit=1000)
    by_id = {t["id"]: t for t in trades}
    for row in latest:
        parts = [by_id[i] for i in range(row["f"], row["l"] + 1)]
        assert sum(round(float(t["qty"]) * 1e4) for t in parts) == round(float(row["q"]) * 1e4)
        assert {t["price"] for t in parts} == {row["p"]}
        assert {t["time"] for t in parts} == {row["T"]}
    assert len(by_id) >= last - first + 1
    middle = latest[100]
    assert get(view, "aggTrades", symbol="ETHUSDT", fromId=middle["a"], limit=50) == latest[100:150]


def test_aggregate_times_are_inclusive(view: View) -> None:
    latest = get(view, "aggTrades", symbol="ETHUSDT", limit=300)
    start, end = latest[50]["T"], latest[200]["T"]
    inside = [r for r in latest if start <= r["T"] <= end]
    told = get(view, "aggTrades", symbol="ETHUSDT", startTime=start, endTime=end)
    assert [r["a"] for r in told] == [r["a"] for r in inside]
    cut = get(view, "aggTrades", symbol="ETHUSDT", startTime=start, endTime=end, limit=10)
    assert cut == told[:10]
    tail = get(view, "aggTrades", symbol="ETHUSDT", endTime=end, limit=20)
    assert tail == inside[-20:]


def test_klines_equal_the_trades(view: View) -> None:
    start = NOON // 1000
    row = get(view, "klines", symbol="SOLUSDT", interval="1m", startTime=start, limit=1)[0]
    source = view.source
    first = source.id_at("SOLUSDT", NOON)
    trades = get(view, "historicalTrades", symbol="SOLUSDT", fromId=first, limit=1000)
    inside = [t for t in trades if start <= t["time"] < start + 60_000]
    assert len(inside) < 1000
    prices = [t["price"] for t in inside]
    assert row[0] == start
    assert row[1] == prices[0]
    assert float(row[2]) == max(map(float, prices))
    assert float(row[3]) == min(map(float, prices))
    assert row[4] == prices[-1]
    assert float(row[5]) == pytest.approx(sum(float(t["qty"]) for t in inside), abs=1e-9)
    assert row[6] == start + 59_999
    assert float(row[7]) == pytest.approx(sum(float(t["quoteQty"]) for t in inside), abs=1e-6)
    assert row[8] == len(inside)
    bought = [t for t in inside if not t["isBuyerMaker"]]
    assert float(row[9]) == pytest.approx(sum(float(t["qty"]) for t in bought), abs=1e-9)
    assert float(row[10]) == pytest.approx(sum(float(t["quoteQty"]) for t in bought), abs=1e-6)
    assert row[11] == "0"


@pytest.mark.parametrize("interval", ["1m", "3m", "5m", "15m"])
def test_longer_klines_equal_seconds(view: View, interval: str) -> None:
    step = INTERVALS[interval].step_us // US
    start = NOON // 1000 - 900_000
    longer = get(view, "klines", symbol="LTCUSDT", interval=interval, startTime=start)
    seconds: list[Any] = []
    while len(seconds) < 900:
        at = start + 1000 * len(seconds)
        seconds += get(
            view, "klines", symbol="LTCUSDT", interval="1s", startTime=at, limit=900 - len(seconds)
        )
    assert [r[0] for r in seconds] == list(range(start, start + 900_000, 1000)), "no row is missing"
    for i in range(900 // step):
        rows, whole = seconds[i * step : (i + 1) * step], longer[i]
        assert whole[1] == next(r[1] for r in rows if r[8])
        assert float(whole[2]) == max(float(r[2]) for r in rows if r[8])
        assert float(whole[3]) == min(float(r[3]) for r in rows if r[8])
        assert whole[4] == rows[-1][4]
        assert whole[8] == sum(r[8] for r in rows)
        assert float(whole[5]) == pytest.approx(sum(float(r[5]) for r in rows), abs=1e-9)


def test_klines_include_the_forming_bar_and_honour_ends(view: View) -> None:
    rows = get(view, "klines", symbol="BTCUSDT", interval="1m", limit=4)
    assert [r[0] for r in rows] == [(NOW // 60_000_000 - i) * 60_000 for i in (3, 2, 1, 0)]
    assert rows[-1][4] == get(view, "trades", symbol="BTCUSDT", limit=1)[0]["price"]
    end = rows[2][0]
    assert get(view, "klines", symbol="BTCUSDT", interval="1m", limit=3, endTime=end) == rows[:3]
    start = rows[1][0] - 30_000
    assert get(view, "klines", symbol="BTCUSDT", interval="1m", startTime=start) == rows[1:]
    later = NOW // 1000 + 1
    assert get(view, "klines", symbol="BTCUSDT", interval="1m", startTime=later + 60_000) == []
    micro = get(View(view.source, unit=1), "klines", symbol="BTCUSDT", interval="1m", limit=1)
    assert micro[0][0] == rows[-1][0] * 1000
    assert micro[0][6] == (rows[-1][6] + 1) * 1000 - 1


def test_a_day_of_minutes_comes_quickly(view: View) -> None:
    """All six symbols, two pages each: a few seconds at most on a slow machine."""
    began = time.perf_counter()
    for symbol in view.source.symbols:
        last = get(view, "klines", symbol=symbol, interval="1m", limit=1000)
        first = get(view, "klines", symbol=symbol, interval="1m", limit=440, endTime=last[0][0] - 1)
        opens = [r[0] for r in first + last]
        assert opens == list(range(opens[0], opens[0] + 1440 * 60_000, 60_000))
    assert time.perf_counter() - began < 20


def test_lag_floor_and_hidden_ids(source: SyntheticSource) -> None:
    last = source.last_id("BTCUSDT")
    assert get(View(source, lag=20), "trades", symbol="BTCUSDT")[-1]["id"] == last - 20
    lagging = View(source, lag=20)
    assert get(lagging, "historicalTrades", symbol="BTCUSDT", fromId=last - 10) == []
    floor = View(source, floor=last - 100)
    rows = get(floor, "historicalTrades", symbol="BTCUSDT", fromId=5, limit=7)
    assert [r["id"] for r in rows] == list(range(last - 100, last - 93)), "later ids than asked"
    hidden = View(source, hidden=lambda number: number == last - 3)
    rows = get(hidden, "historicalTrades", symbol="BTCUSDT", fromId=last - 4)
    assert [r["id"] for r in rows] == [last - 4, last - 2, last - 1, last]


def test_nothing_older_than_the_history_is_told(view: View) -> None:
    now = view.source.now_us()
    oldest = (now - view.source.history_us) // (3600 * US) * 3600 * US // 1000
    ended = get(view, "klines", symbol="LTCUSDT", interval="1h", startTime=0, endTime=oldest - 1)
    assert ended == []
    rows = get(view, "klines", symbol="LTCUSDT", interval="1d", startTime=0)
    assert 0 < len(rows) <= view.source.history_us // (86_400 * US) + 1
