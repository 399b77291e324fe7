"""The exchange over real sockets: streams, control, limits, and REST that agrees with them."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange import Exchange, Limits, SyntheticSource
from exchange.synthetic import DAY_US
from exchange.testing import running
from tests.support.exchange_clients import BUSY, busy, connect, run

pytestmark = pytest.mark.processes


async def receive(ws: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await asyncio.wait_for(ws.recv(), 10)) for _ in range(count)]


async def ask(ws: ClientConnection, **request: Any) -> dict[str, Any]:
    """Send a control request and give its reply, passing over data."""
    await ws.send(json.dumps(request))
    while True:
        (told,) = await receive(ws, 1)
        if "e" not in told and "data" not in told:
            return told


def row(event: dict[str, Any]) -> tuple[Any, ...]:
    return (event["t"], event["p"], event["q"], event["T"], event["m"])


def test_stream_tape_and_rest_tell_the_same() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws/btcusdt@trade") as ws:
            events = await receive(ws, 400)
        assert list(events[0]) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
        ids = [e["t"] for e in events]
        assert ids == list(range(ids[0], ids[0] + 400))
        assert all(0 <= e["E"] - e["T"] < 5000 for e in events)
        tape = exchange.log("BTCUSDT", ids[0], ids[-1])
        assert [(i, p, q, t // 1000, m) for i, p, q, t, m in tape] == [row(e) for e in events]
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            answer = await http.get(
                "/api/v3/historicalTrades",
                params={"symbol": "BTCUSDT", "fromId": ids[0], "limit": 400},
            )
        told = [
            (r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in answer.json()
        ]
        assert told == [row(e) for e in events]
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "25"

    run(work)


def test_combined_streams_and_microseconds() -> None:
    async def work(exchange: Exchange) -> None:
        streams = "btcusdt%40trade/ethusdt@aggTrade/btcusdt@bookTicker/nope@trade"
        url = f"{exchange.ws_url}/stream?streams={streams}&timeUnit=microsecond"
        seen: dict[str, dict[str, Any]] = {}
        async with connect(url) as ws:
            while len(seen) < 3:
                (told,) = await receive(ws, 1)
                assert list(told) == ["stream", "data"]
                seen[told["stream"]] = told["data"]
        assert set(seen) == {"btcusdt@trade", "ethusdt@aggTrade", "btcusdt@bookTicker"}
        assert seen["btcusdt@trade"]["T"] > 10**15
        assert list(seen["ethusdt@aggTrade"]) == [
            "e",
            "E",
            "s",
            "a",
            "p",
            "q",
            "f",
            "l",
            "T",
            "m",
            "M",
        ]
        book = seen["btcusdt@bookTicker"]
        assert list(book) == ["u", "s", "b", "B", "a", "A"]
        assert float(book["b"]) < float(book["a"])

    run(work)


def test_subscribing_later_and_leaving() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws") as ws:
            reply = await ask(ws, method="SUBSCRIBE", params=["btcusdt@trade", "wrong"], id=1)
            assert reply == {"result": None, "id": 1}
            assert (await receive(ws, 3))[0]["e"] == "trade"
            assert await ask(ws, method="LIST_SUBSCRIPTIONS", id=2) == {
                "result": ["btcusdt@trade", "wrong"],
                "id": 2,
            }
            await ask(ws, method="SET_PROPERTY", params=["combined", True], id=3)
            assert list((await receive(ws, 1))[0]) == ["stream", "data"]
            await ask(ws, method="UNSUBSCRIBE", params=["btcusdt@trade"], id=4)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.3)
            assert "code" in await ask(ws, method="NOPE", id=5)

    run(work)


def test_klines_are_streamed_and_agree_with_rest() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws/btcusdt@kline_1s") as ws:
            while True:
                (event,) = await receive(ws, 1)
                if event["k"]["x"]:
                    break
        k = event["k"]
        assert list(event) == ["e", "E", "s", "k"]
        assert "".join(k) == "tTsifLochlvnxqVQB"
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            query = {"symbol": "BTCUSDT", "interval": "1s", "startTime": k["t"], "limit": 1}
            bar = (await http.get("/api/v3/klines", params=query)).json()[0]
        keys = "tohlcvTqnVQB"
        assert bar == [k[key] for key in keys]

    run(work)


def test_midnight_is_crossed_without_a_seam() -> None:
    midnight = 20_517 * DAY_US
    ahead = midnight - 700_000 - time.time_ns() // 1000
    source = SyntheticSource(BUSY, clock=lambda: time.time_ns() // 1000 + ahead)
    source.id_at("BTCUSDT", midnight + 1)  # both days are made before the clock is watched

    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws/btcusdt@trade") as ws:
            events: list[dict[str, Any]] = []
            while not events or events[-1]["T"] * 1000 < midnight + 300_000:
                events += await receive(ws, 1)
        ids = [e["t"] for e in events]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        assert events[0]["T"] * 1000 < midnight

    run(work, source=source)


def test_addresses_that_do_not_exist() -> None:
    async def work(exchange: Exchange) -> None:
        with pytest.raises(InvalidStatus, match="404"):
            await connect(exchange.ws_url + "/markets/ws/btcusdt@trade")
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            for path in ("/", "/api/v3/account", "/control", "/ws"):
                assert (await http.get(path)).status_code in (404, 426)
            assert (await http.get("/api/v3/ping")).json() == {}
            micro = await http.get("/api/v3/time", headers={"X-MBX-TIME-UNIT": "MICROSECOND"})
            assert micro.json()["serverTime"] > 10**15

    run(work)


def test_the_server_pings_and_drops_who_does_not_answer() -> None:
    async def work(exchange: Exchange) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        head = await asyncio.wait_for(reader.readexactly(2), 5)
        assert head[0] == 0x89, "a ping"
        await reader.readexactly(head[1])
        assert (await asyncio.wait_for(reader.readexactly(1), 5))[0] == 0x88, "a close"
        writer.close()
        async with connect(exchange.ws_url + "/ws") as ws:  # answers pings by itself
            await asyncio.sleep(0.7)
            await ws.ping()

    run(work, limits=Limits(ping_interval_s=0.1, pong_timeout_s=0.3, messages_per_s=100))


def test_a_connection_lives_for_its_time_only() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws") as ws:
            with pytest.raises(ConnectionClosed) as caught:
                await asyncio.wait_for(ws.recv(), 5)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001

    run(work, limits=Limits(life_s=0.2))


def test_limits_of_messages_streams_and_attempts() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange.ws_url + "/ws") as ws:
            told = await ask(ws, method="SUBSCRIBE", params=["a", "b", "c"], id=1)
            assert told == {"code": 4, "msg": "Too many subscriptions", "id": 1}
            for n in range(9):
                await ws.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": n}))
            with pytest.raises(ConnectionClosed) as caught:
                await receive(ws, 20)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
        async with connect(exchange.ws_url + "/ws"):
            pass
        with pytest.raises(InvalidStatus) as refused:
            await connect(exchange.ws_url + "/ws")
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) > 0
        assert exchange.stats["handshakes_refused"] == 1

    run(work, limits=Limits(streams=2, attempts=2))


def test_weights_lead_to_429_and_418() -> None:
    async def work(exchange: Exchange) -> None:
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            codes = []
            for _ in range(8):
                answer = await http.get("/api/v3/trades?symbol=BTCUSDT&limit=1")
                codes.append(answer.status_code)
                if answer.status_code != 200:
                    assert int(answer.headers["Retry-After"]) > 0
                    assert answer.json()["code"] == -1003
        # A minute may turn over in between, which allows two more at most.
        assert codes[:2] == [200, 200]
        assert codes[-1] in (418, 429)
        if 200 not in codes[2:]:
            assert codes[2:4] == [429, 429]
            assert set(codes[4:]) == {418}

    run(work, limits=Limits(weight_per_minute=50, hammering=2))


def test_two_connections_get_the_same_bytes() -> None:
    async def work(exchange: Exchange) -> None:
        url = exchange.ws_url + "/ws/btcusdt@trade"
        async with connect(url) as one, connect(url) as two:
            first, second = [
                {json.loads(m)["t"]: m for m in [await ws.recv() for _ in range(200)]}
                for ws in (one, two)
            ]
        common = set(first) & set(second)
        assert len(common) > 100
        assert all(first[t] == second[t] for t in common)

    run(work)


def test_hosted_in_a_thread() -> None:
    with running(busy(), control=True) as exchange:
        assert exchange.ws_url == f"ws://127.0.0.1:{exchange.port}"
        first = httpx.get(exchange.rest_url + "/api/v3/trades?symbol=ETHUSDT&limit=1").json()[0]
        log = httpx.get(
            exchange.rest_url
            + f"/control/log?symbol=ETHUSDT&from_id={first['id']}&to_id={first['id']}"
        ).json()
        assert log["rows"][0][:3] == [first["id"], first["price"], first["qty"]]
        assert [tuple(r) for r in log["rows"]] == exchange.log("ETHUSDT", first["id"], first["id"])
        assert exchange.stats["requests"] == 1
        bad = httpx.get(exchange.rest_url + "/control?nope=1")
        assert bad.status_code == 400
        assert "unknown fault 'nope'" in bad.json()["error"]
        assert httpx.get(exchange.rest_url + "/control/log?symbol=X").status_code == 400
        assert httpx.get(exchange.rest_url + "/control/nope").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(exchange.rest_url + "/api/v3/ping")


def test_a_port_in_use_is_told_to_the_caller() -> None:
    with (
        running(busy()) as first,
        pytest.raises(OSError, match="in use"),
        running(busy(), port=first.port),
    ):
        pass
