"""Faults over real sockets: what clients see, what REST and the tape still tell."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange import Exchange, Faults, ReplaySource, SyntheticSource, default_world
from exchange.faults import Ids
from tests.support.exchange_clients import connect

pytestmark = pytest.mark.processes

WORLD = default_world().only(["ETHUSDT"]).faster(10)
NOON_AHEAD = (1_772_625_600 - int(time.time())) * 1_000_000
TRADES = "/ws/btcusdt@trade"


def run(
    work: Callable[[Exchange, Faults], Awaitable[None]],
    faults: Faults | None = None,
    **options: Any,
) -> None:
    async def host() -> None:
        source = SyntheticSource(WORLD, clock=lambda: time.time_ns() // 1000 + NOON_AHEAD)
        async with Exchange(source, faults=faults, **options) as exchange:
            await asyncio.wait_for(work(exchange, exchange.faults), 20)
            assert exchange.failure is None

    asyncio.run(host())


async def next_id(ws: ClientConnection) -> int:
    while True:
        event = json.loads(await asyncio.wait_for(ws.recv(), 10))
        if isinstance(event, dict) and event.get("e") == "trade":
            return int(event["t"])


async def listen_until_it_ends(ws: ClientConnection, patience_s: float = 10.0) -> None:
    """Read on; only an exception leads out."""
    while True:
        await asyncio.wait_for(ws.recv(), patience_s)


async def quiet(ws: ClientConnection, seconds: float = 0.3) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ws.recv(), seconds)


def test_a_dropped_trade_stays_on_the_tape() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + TRADES) as ws:
            first = await next_id(ws)
            faults.do("skip:50")
            last = first
            while (number := await next_id(ws)) == last + 1:
                last = number
        assert number == last + 51
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            query = {"symbol": "BTCUSDT", "fromId": last + 1, "limit": 50}
            rows = (await http.get("/api/v3/historicalTrades", params=query)).json()
        assert [r["id"] for r in rows] == list(range(last + 1, last + 51))
        assert [r[0] for r in exchange.log("BTCUSDT", last + 1, last + 50)] == [
            r["id"] for r in rows
        ]

    run(work)


def test_stall_keeps_pings_and_new_connections_flow_again() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + TRADES) as ws:
            await next_id(ws)
            faults.do("stall")
            await asyncio.sleep(0.1)
            with pytest.raises(TimeoutError):
                await listen_until_it_ends(ws, 0.2)
            await (await ws.ping())
            async with connect(exchange.ws_url + TRADES) as fresh:
                await next_id(fresh)
            await quiet(ws)

    run(work)


def test_half_open_says_nothing_at_all() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        ws = await connect(exchange.ws_url + TRADES, ping_interval=None, close_timeout=0.1)
        await next_id(ws)
        faults.do("half_open")
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await listen_until_it_ends(ws, 0.2)
        pong = await ws.ping()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(pong), 0.2)
        async with connect(exchange.ws_url + TRADES) as fresh:
            await next_id(fresh)
        await ws.close()

    run(work)


def test_one_stream_falls_silent() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + "/ws/btcusdt@trade/ethusdt@trade") as ws:
            await next_id(ws)
            faults.silence = frozenset({"ethusdt@trade"})
            since = exchange.source.now_us() // 1000
            heard = []
            while not heard or heard[-1]["E"] < since + 500:
                heard.append(json.loads(await asyncio.wait_for(ws.recv(), 10)))
            assert {e["s"] for e in heard if e["E"] > since} == {"BTCUSDT"}

    run(work)


@pytest.mark.parametrize("code", [1001, 1008, 1006])
def test_closing(code: int) -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + TRADES) as ws:
            await next_id(ws)
            faults.do(f"close:{code}")
            with pytest.raises(ConnectionClosed) as caught:
                await listen_until_it_ends(ws)
            received = caught.value.rcvd
            assert (received.code if received else 1006) == code

    run(work)


def test_closing_again_and_again() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        for _ in range(2):
            async with connect(exchange.ws_url + TRADES) as ws:
                with pytest.raises(ConnectionClosed):
                    await listen_until_it_ends(ws)
        faults.close_every_frames, faults.close_every_s = 0, 0.1
        async with connect(exchange.ws_url + TRADES) as ws:
            with pytest.raises(ConnectionClosed):
                await listen_until_it_ends(ws)

    run(work, Faults(close_every_frames=40))


@pytest.mark.parametrize("address", ["/ws/nothing", "/stream?streams=nothing"])
def test_the_shutdown_is_announced_then_done(address: str) -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + address) as ws:
            faults.do("shutdown:0.3")
            told = json.loads(await asyncio.wait_for(ws.recv(), 5))
            began = time.monotonic()
            if "stream" in address:
                assert told["stream"] == "!serverShutdown"
                told = told["data"]
            assert told["e"] == "serverShutdown"
            with pytest.raises(ConnectionClosed) as caught:
                await ws.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            assert time.monotonic() - began > 0.2

    run(work)


@pytest.mark.parametrize("status", [403, 429, 451, 503])
def test_refused_handshakes(status: int) -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        with pytest.raises(InvalidStatus) as caught:
            await connect(exchange.ws_url + TRADES)
        response = caught.value.response
        assert response.status_code == status
        assert ("Retry-After" in response.headers) == (status in (429, 503))
        if status == 451:
            assert b"restricted location" in response.body
        async with connect(exchange.ws_url + TRADES) as ws:
            await next_id(ws)

    run(work, Faults(handshake_status=status, handshake_times=1))


def test_acknowledged_and_then_nothing() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + "/ws") as ws:
            await ws.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
            assert json.loads(await ws.recv()) == {"result": None, "id": 1}
            await quiet(ws)
        faults.mute = False
        async with connect(exchange.ws_url + TRADES) as ws:
            await next_id(ws)

    run(work, Faults(mute=True))


def test_late_acks_data_after_leaving_and_wrapped_errors() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + "/ws") as ws:
            await ws.send('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
            assert json.loads(await ws.recv())["e"] == "trade", "data before the ack"
            while "result" not in json.loads(await ws.recv()):
                continue
            faults.ack_delay_s = 0.0
            await ws.send('{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":2}')
            while "result" not in json.loads(await ws.recv()):
                continue
            await next_id(ws)
            await ws.send("{")
            while "error" not in (told := json.loads(await ws.recv())):
                continue
            assert told["error"]["code"] == 3

    run(work, Faults(ack_delay_s=0.3, ignore_unsubscribe=True, wrapped_errors=True))


def test_garbage_between_good_frames() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + TRADES, max_size=None) as ws:
            await next_id(ws)
            for kind in ("null", "list", "truncated", "binary", "huge"):
                faults.do(f"inject:{kind}")
            odd: list[str | bytes] = []
            while len(odd) < 5:
                message = await asyncio.wait_for(ws.recv(), 10)
                if not str(message).startswith('{"e":"trade","E":17726'):
                    odd.append(message)
            assert odd[:2] == ["null", "[]"]
            assert isinstance(odd[3], bytes)
            assert len(odd[4]) > 10_000_000
            await next_id(ws)
            faults.do("inject:utf8")
            with pytest.raises((ConnectionClosed, UnicodeDecodeError)):
                await listen_until_it_ends(ws)

    run(work)


def test_rest_faults() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:

            async def get(**changes: Any) -> httpx.Response:
                for name, value in {"rest_status": 0, "rest_body": "", **changes}.items():
                    setattr(faults, name, value)
                return await http.get("/api/v3/trades?symbol=BTCUSDT&limit=5")

            for status in (429, 418):
                answer = await get(rest_status=status, rest_retry_after=7)
                assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
                assert answer.json()["code"] == -1003
            for status in (500, 503, 403):
                answer = await get(rest_status=status)
                assert answer.status_code == status
                assert answer.text.startswith("<html>")
            assert (await get(rest_status=451)).json()["code"] == 0
            assert (await get(rest_body="html")).text.startswith("<html>")
            with pytest.raises(ValueError, match="column"):
                (await get(rest_body="truncated")).json()
            assert (await get(rest_body="empty")).text == ""
            began = time.monotonic()
            assert (await get(rest_delay_s=0.2)).status_code == 200
            assert time.monotonic() - began >= 0.2
            once = await get(rest_delay_s=0.0, rest_status=500, rest_times=1)
            assert once.status_code == 500
            assert (await http.get("/api/v3/time")).status_code == 200
            other = await get(rest_times=-1, rest_paths=frozenset({"klines"}), rest_status=500)
            assert other.status_code == 200

    run(work)


def test_rest_trails_and_forgets() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        last = exchange.source.last_id("BTCUSDT")
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:

            async def rows(**query: Any) -> list[int]:
                query = {"symbol": "BTCUSDT", "limit": 5, **query}
                answer = await http.get("/api/v3/historicalTrades", params=query)
                return [r["id"] for r in answer.json()]

            faults.rest_lag = 10**6
            assert max(await rows()) < last
            faults.rest_lag = 0
            faults.retention_floor = last - 50
            assert await rows(fromId=1) == list(range(last - 50, last - 45))
            faults.void_ids = Ids(f"{last - 49}")
            assert await rows(fromId=last - 50, limit=3) == [last - 50, last - 48]
            faults.weight_limit = 10
            answer = await http.get("/api/v3/trades?symbol=BTCUSDT")
            assert answer.status_code == 429

    run(work)


def test_faults_over_http() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
            told = (await http.get("/control?drop=1&silence=a@trade&do=close:1001")).json()
            assert (told["drop"], told["silence"]) == (1.0, ["a@trade"])
            assert faults.drop == 1.0
            assert (await http.get("/control?drop=x")).status_code == 400
            assert "connections" not in (await http.get("/control/stats")).json()

    run(work, control=True)


def test_it_ends_soon_whatever_the_clients_do() -> None:
    """A client that never reads, one that says nothing, one half open, one waiting for REST."""

    upgrade = (
        b"GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    opened: list[socket.socket] = []

    async def work(exchange: Exchange, faults: Faults) -> None:
        for request in (b"", b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n", upgrade, upgrade):
            opened.append(socket.create_connection(("127.0.0.1", exchange.port)))
            opened[-1].sendall(request)
            if request is upgrade:
                while exchange.stats["connections"] < len(opened) - 2:
                    await asyncio.sleep(0.01)
                faults.do("half_open" if len(opened) == 3 else "inject:huge")
                await asyncio.sleep(0.05)

    began = time.monotonic()
    run(work, Faults(rest_delay_s=60.0))
    assert time.monotonic() - began < 8
    for one in opened:
        one.close()


def test_a_patient_replay_outlives_a_client_that_breaks_off(tmp_path: Path) -> None:
    line = (
        b'%d {"e":"trade","E":1700000000000,"s":"BTCUSDT","t":%d,"p":"1.5","q":"2",'
        b'"T":1700000000000,"m":true,"M":true}\n'
    )
    count = 20_000
    path = tmp_path / "long.jsonl"
    path.write_bytes(b"".join(line % (1_700_000_000_000_000_000 + n, n + 1) for n in range(count)))

    async def host() -> None:
        source = ReplaySource([path], speed=None, wait=True)
        async with Exchange(source) as exchange:
            url = exchange.ws_url + TRADES
            async with connect(url) as good, connect(url, max_queue=1) as bad:
                first = json.loads(await good.recv())["t"]
                bad.transport.abort()
                last = first
                while last < count:
                    number = json.loads(await asyncio.wait_for(good.recv(), 10))["t"]
                    assert number == last + 1
                    last = number
            assert exchange.failure is None

    asyncio.run(host())
