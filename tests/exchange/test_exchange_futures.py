"""USD-M futures beside spot: the tape, the routed paths, REST, faults chosen by market."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio import client
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange import Exchange, ReplaySource, SyntheticSource, default_world
from exchange.asking import View
from exchange.faults import Ids
from exchange.futures import WINDOW_US, FuturesSource, first_trades, sizes, trades_up_to
from exchange.rest import respond
from exchange.rest_futures import ENDPOINTS
from exchange.synthetic import DAY_US
from exchange.tape import US, Trades

WORLD = default_world().only(["ETHUSDT"]).faster(5)
MIDNIGHT = 20_516 * DAY_US
NOON = MIDNIGHT + DAY_US // 2
NOON_AHEAD = NOON - int(time.time()) * US
AGG = "/market/ws/btcusdt@aggTrade"


def at(moment_us: int, **options: Any) -> FuturesSource:
    return FuturesSource(SyntheticSource(WORLD, clock=lambda: moment_us, **options))


def between(source: SyntheticSource, start_us: int, end_us: int) -> Trades:
    first, stop = source.id_at("BTCUSDT", start_us), source.id_at("BTCUSDT", end_us)
    return source.trades("BTCUSDT", first, stop - first)


@pytest.fixture(scope="module")
def source() -> FuturesSource:
    return at(NOON)


def run(work: Callable[[Exchange], Awaitable[None]], **options: Any) -> None:
    async def host() -> None:
        spot = SyntheticSource(WORLD, clock=lambda: time.time_ns() // 1000 + NOON_AHEAD)
        async with Exchange(spot, **options) as exchange:
            await asyncio.wait_for(work(exchange), 20)
            assert exchange.failure is None

    asyncio.run(host())


def connect(exchange: Exchange, path: str) -> client.connect:
    return client.connect(exchange.ws_url + path, max_queue=None)


async def receive(ws: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await asyncio.wait_for(ws.recv(), 10)) for _ in range(count)]


async def listen(ws: ClientConnection) -> None:
    """Read on; only an exception leads out."""
    while True:
        await asyncio.wait_for(ws.recv(), 5)


# -- the tape


def test_aggregates_run_on_over_midnight_and_are_apart(source: FuturesSource) -> None:
    tape = between(source, MIDNIGHT - 300 * US, MIDNIGHT + 300 * US)
    assert len(tape) > 10_000
    assert (np.diff(tape.ids) == 1).all()
    assert (np.diff(tape.t) >= 0).all()
    told = set(
        zip((tape.t // WINDOW_US).tolist(), tape.price.tolist(), tape.maker.tolist(), strict=True)
    )
    assert len(told) == len(tape), "one price once per tenth of a second and side"


def test_it_is_another_tape_at_nearly_the_same_price(source: FuturesSource) -> None:
    spot = SyntheticSource(WORLD, clock=lambda: NOON)
    mine, theirs = (between(s, NOON - 60 * US, NOON) for s in (source, spot))
    assert len(mine) != len(theirs)
    ratio = np.median(mine.price) / np.median(theirs.price)
    assert 1.00005 < ratio < 1.0006
    again = between(at(NOON), NOON - 60 * US, NOON)
    assert np.array_equal(again.price, mine.price)


def test_trades_below_are_numbered_with_a_placeholder_in_each_seventeen() -> None:
    aggregates = np.arange(1, 101)
    numbers = {
        first + step
        for first, size in zip(first_trades(aggregates), sizes(aggregates), strict=True)
        for step in range(size)
    }
    assert len(numbers) == trades_up_to(aggregates[-1:])[0] == 160
    assert len(set(range(1, 171)) - numbers) == 10


def test_an_aggregate_is_told_when_its_tenth_of_a_second_is_over() -> None:
    late = at(NOON + 99_999)
    assert late.last_id("BTCUSDT") == late.id_at("BTCUSDT", NOON) - 1
    over = at(NOON + WINDOW_US)
    assert over.last_id("BTCUSDT") == over.id_at("BTCUSDT", NOON + WINDOW_US) - 1


# -- REST


def get(source: FuturesSource, name: str, **params: Any) -> Any:
    query = "&".join(f"{key}={value}" for key, value in params.items())
    status, body = respond(View(source, bars=1500), f"/fapi/v1/{name}", query, ENDPOINTS)
    told = json.loads(body)
    return told if status == 200 else told["code"]


def test_aggregates_by_id_and_by_time(source: FuturesSource) -> None:
    last = source.last_id("BTCUSDT")
    pages = [
        get(source, "aggTrades", symbol="BTCUSDT", fromId=last - n, limit=300) for n in (599, 299)
    ]
    rows = pages[0] + pages[1]
    assert [r["a"] for r in rows] == list(range(last - 599, last + 1))
    assert list(rows[0]) == ["a", "p", "q", "nq", "f", "l", "T", "m"]
    start, end = rows[10]["T"], rows[99]["T"]
    timed = get(source, "aggTrades", symbol="BTCUSDT", startTime=start, endTime=end, limit=1000)
    assert [r["a"] for r in timed] == [r["a"] for r in rows if start <= r["T"] <= end]
    assert get(source, "aggTrades", symbol="BTCUSDT", limit=7) == rows[-7:]
    ended = get(source, "aggTrades", symbol="BTCUSDT", endTime=end, limit=5)
    assert [r["a"] for r in ended] == [r["a"] for r in timed[-5:]]


def test_only_two_days_one_hour_and_no_mixture(source: FuturesSource) -> None:
    oldest = get(source, "aggTrades", symbol="BTCUSDT", fromId=1, limit=1)[0]
    assert 0 <= oldest["T"] * 1000 - (NOON - 2 * DAY_US) < 5 * US
    now = NOON // 1000
    hour = {"startTime": now - 3_600_001, "endTime": now}
    assert get(source, "aggTrades", symbol="BTCUSDT", **hour) == -1127
    hour["startTime"] += 1  # an hour to the millisecond, as clients ask for it
    assert len(get(source, "aggTrades", symbol="BTCUSDT", **hour)) == 500
    assert get(source, "aggTrades", symbol="BTCUSDT", fromId=5, startTime=now) == -1128
    assert get(source, "aggTrades", symbol="NOPEUSDT") == -1121


def test_klines_and_trades_agree_with_the_aggregates(source: FuturesSource) -> None:
    bar = get(source, "klines", symbol="BTCUSDT", interval="1m", limit=2)[0]
    tape = between(source, bar[0] * 1000, bar[0] * 1000 + 60 * US)
    info = source.symbols["BTCUSDT"]
    assert bar[1:6] == [
        *map(
            info.price,
            (int(tape.price[0]), int(tape.price.max()), int(tape.price.min()), int(tape.price[-1])),
        ),
        info.quantity(int(tape.qty.sum())),
    ]
    assert bar[8] == sizes(tape.ids).sum()
    many = get(source, "klines", symbol="BTCUSDT", interval="1s", limit=1500)
    assert len(many) == 1500
    trades = get(source, "trades", symbol="BTCUSDT", limit=400)
    newest = get(source, "aggTrades", symbol="BTCUSDT", limit=1)[0]
    assert trades[-1]["id"] == newest["l"]
    assert len({t["id"] for t in trades}) == 400
    assert trades[-1]["price"] == newest["p"]
    assert len(newest["p"].split(".")[1]) == info.price_decimals


def test_weights_and_the_own_budget() -> None:
    async def work(exchange: Exchange) -> None:
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            used = []
            for path in (
                "aggTrades?symbol=BTCUSDT",
                "trades?symbol=BTCUSDT",
                "exchangeInfo",
                "time",
                "klines?symbol=BTCUSDT&interval=1s&limit=99",
                "klines?symbol=BTCUSDT&interval=1s",
                "klines?symbol=BTCUSDT&interval=1s&limit=1500",
            ):
                answer = await http.get("/fapi/v1/" + path)
                assert answer.status_code == 200
                used.append(int(answer.headers["X-MBX-USED-WEIGHT-1M"]))
            assert [b - a for a, b in itertools.pairwise([0, *used])] == [20, 5, 1, 1, 1, 5, 10]
            spot = await http.get("/api/v3/time")
            assert spot.headers["X-MBX-USED-WEIGHT-1M"] == "1"
            exchange.usdm_faults.weight_limit = 50
            assert (await http.get("/fapi/v1/aggTrades?symbol=BTCUSDT")).status_code == 429
            assert (await http.get("/api/v3/trades?symbol=BTCUSDT")).status_code == 200
            assert exchange.markets["usdm"].limits.weight_per_minute == 2400

    run(work)


# -- streams


def test_the_stream_the_log_and_rest_tell_the_same() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, AGG) as ws:
            events = await receive(ws, 300)
            pings = (ws.protocol.state, exchange.connections()[0])
        assert list(events[0]) == ["e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "nq", "st"]
        ids = [e["a"] for e in events]
        assert ids == list(range(ids[0], ids[0] + 300))
        assert all(0 <= e["E"] - e["T"] < 5000 for e in events)
        told = [(e["a"], e["p"], e["q"], e["T"], e["m"]) for e in events]
        tape = exchange.log("BTCUSDT", ids[0], ids[-1], "usdm")
        assert [(a, p, q, t // 1000, m) for a, p, q, t, m in tape] == told
        query = {"symbol": "BTCUSDT", "fromId": ids[0], "limit": 300}
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            rows = (await http.get("/fapi/v1/aggTrades", params=query)).json()
        assert [(r["a"], r["p"], r["q"], r["T"], r["m"]) for r in rows] == told
        assert [(r["f"], r["l"]) for r in rows] == [(e["f"], e["l"]) for e in events]
        assert pings[1]["market"] == "usdm"
        assert exchange.log("BTCUSDT", 5, 5) != exchange.log("BTCUSDT", 5, 5, "usdm")

    run(work)


def test_raw_trades_hold_placeholders() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, "/market/stream?streams=btcusdt@trade") as ws:
            events = [e["data"] for e in await receive(ws, 200)]
        ids = [e["t"] for e in events]
        assert ids == list(range(ids[0], ids[0] + 200))
        assert list(events[0]) == ["e", "E", "T", "s", "t", "p", "q", "X", "m"]
        void = [e for e in events if e["X"] == "NA"]
        assert 10 <= len(void) <= 13
        assert {(e["p"], e["q"]) for e in void} == {("0", "0")}
        assert {e["X"] for e in events} == {"NA", "MARKET"}

    run(work)


@pytest.mark.parametrize(
    ("route", "stream", "flows"),
    [
        ("/market", "btcusdt@aggTrade", True),
        ("/market", "btcusdt@kline_1s", True),
        ("/market", "btcusdt@markPrice@1s", True),
        ("/market", "btcusdt@bookTicker", False),
        ("/market", "btcusdt@depth", False),
        ("/public", "btcusdt@bookTicker", True),
        ("/public", "btcusdt@aggTrade", False),
        ("/public", "btcusdt@markPrice@1s", False),
        ("/public", "btcusdt@depth", True),
        ("/public", "btcusdt@trade", True),
        ("/private", "btcusdt@aggTrade", False),
    ],
)
def test_what_each_route_tells(route: str, stream: str, flows: bool) -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, route + "/ws") as ws:
            await ws.send(json.dumps({"method": "SUBSCRIBE", "params": [stream], "id": 1}))
            assert (await receive(ws, 1)) == [{"result": None, "id": 1}]
            if flows:
                (event,) = await receive(ws, 1)
                assert event["s"] == "BTCUSDT"
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ws.recv(), 0.4)

    run(work)


def test_without_the_route_it_is_spot() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, "/ws/btcusdt@aggTrade") as ws:
            (event,) = await receive(ws, 1)
            assert "M" in event
            assert "st" not in event

    run(work)


def test_pings_and_messages_have_their_own_limits() -> None:
    async def work(exchange: Exchange) -> None:
        spot, usdm = (m.limits for m in exchange.markets.values())
        assert (spot.ping_interval_s, usdm.ping_interval_s) == (20.0, 180.0)
        assert (usdm.pong_timeout_s, usdm.messages_per_s) == (600.0, 10)
        request = '{"method":"LIST_SUBSCRIPTIONS","id":1}'
        async with connect(exchange, "/market/ws") as ws:
            for _ in range(9):
                await ws.send(request)
            assert len(await receive(ws, 9)) == 9
            (peer,) = exchange.markets["usdm"].clients
            assert (peer.ping_interval, peer.ping_timeout) == (180.0, 600.0)
            for _ in range(5):
                await ws.send(request)
            with pytest.raises(ConnectionClosed) as caught:
                await listen(ws)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008

    run(work)


# -- faults


def test_faults_concern_one_market() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, AGG) as ws, connect(exchange, "/ws/btcusdt@trade") as spot:
            first = (await receive(ws, 1))[0]["a"]
            exchange.usdm_faults.void_ids = Ids(f"{first + 200}-{first + 209}")
            ids = [e["a"] for e in await receive(ws, 240)]
            assert set(range(first + 1, first + 241)) - set(ids) == set(
                range(first + 200, first + 210)
            )
            query = {"symbol": "BTCUSDT", "fromId": first + 195, "limit": 20}
            async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
                rows = (await http.get("/fapi/v1/aggTrades", params=query)).json()
                assert [r["a"] - first for r in rows] == [*range(195, 200), *range(210, 215)]
                exchange.usdm_faults.retention_floor = first + 220
                rows = (await http.get("/fapi/v1/aggTrades", params=query)).json()
                assert rows[0]["a"] == first + 220
                told = (await http.get("/control?market=usdm&drop=1")).json()
                assert (told["drop"], exchange.faults.drop) == (1.0, 0.0)
                assert (await http.get("/control?market=nope")).status_code == 400
                query = {"symbol": "BTCUSDT", "from_id": first, "to_id": first, "market": "usdm"}
                rows = (await http.get("/control/log", params=query)).json()["rows"]
                assert [r[0] for r in rows] == [first]
            exchange.usdm_faults.do("close:1001")
            with pytest.raises(ConnectionClosed):
                await listen(ws)
            await receive(spot, 50)

    run(work, control=True)


def test_a_replay_has_no_futures(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_bytes(
        b'1700000000000000000 {"e":"trade","E":1700000000000,"s":"BTCUSDT","t":1,"p":"1.5",'
        b'"q":"2","T":1700000000000,"m":true,"M":true}\n'
    )

    async def host() -> None:
        async with Exchange(ReplaySource([path])) as exchange:
            with pytest.raises(InvalidStatus, match="404"):
                await connect(exchange, AGG)
            async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
                assert (await http.get("/fapi/v1/ping")).status_code == 404
            with pytest.raises(ValueError, match="unknown market 'usdm'"):
                exchange.log("BTCUSDT", 1, 1, "usdm")

    asyncio.run(host())
