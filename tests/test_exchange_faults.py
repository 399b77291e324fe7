"""Each fault does what it says, the tape stays true, and switching off ends it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from exchange import Exchange, Faults, SyntheticSource, default_world
from exchange.faults import INJECTIONS, MANGLES, Ids, injection, mangled
from exchange.frames import Message, TradeMessage
from exchange.tape import Symbol

BTC = Symbol("BTCUSDT", "BTC", "USDT", 2, 5)
WORLD = default_world().only(["ETHUSDT"]).faster(10)
NOON_AHEAD = (1_772_625_600 - int(time.time())) * 1_000_000
TRADES = "/ws/btcusdt@trade"


def trade(number: int, info: Symbol = BTC) -> TradeMessage:
    return TradeMessage(
        info, number, 8414354, 29, 1_700_000_000_000_000, True, 1_700_000_000_001_000
    )


def ids(messages: list[Message]) -> list[int | None]:
    return [m.trade_id for m in messages]


def through(faults: Faults, count: int = 1000, batch: int = 50) -> list[Message]:
    out: list[Message] = []
    for first in range(0, count, batch):
        out += faults.apply([trade(n) for n in range(first, first + batch)])
    return out


# -- frames, without sockets


def test_no_fault_changes_nothing() -> None:
    batch: list[Message] = [trade(n) for n in range(9)]
    assert Faults().apply(batch) is batch


def test_chances_are_near_and_repeatable() -> None:
    for kind in ("drop", "duplicate", "reorder", "conflict"):
        first, again = (ids(through(Faults(**{kind: 0.1}))) for _ in range(2))
        assert first == again
        other = ids(through(Faults(seed=1, **{kind: 0.1})))
        assert other != first
    assert 850 < len(through(Faults(drop=0.1))) < 950
    assert 1050 < len(through(Faults(duplicate=0.1))) < 1150


def test_exact_ids() -> None:
    assert ids(through(Faults(drop_ids=Ids("3-5,7")), 10, 10)) == [0, 1, 2, 6, 8, 9]
    assert ids(through(Faults(void_ids=Ids("4")), 6, 6)) == [0, 1, 2, 3, 5]
    assert ids(through(Faults(duplicate_ids=Ids("1")), 3, 3)) == [0, 1, 1, 2]
    assert ids(through(Faults(reorder_ids=Ids("1"), reorder_by=2), 6, 2)) == [0, 2, 3, 1, 4, 5]


def test_a_reordered_frame_is_late_but_not_lost() -> None:
    out = ids(through(Faults(reorder=0.2, reorder_by=7)))
    assert out != sorted(out)  # type: ignore[type-var]
    assert set(range(990)) <= set(out)
    assert len(out) == len(set(out))


def test_a_conflict_repeats_the_id_at_another_price() -> None:
    one, two, *_ = through(Faults(conflict_ids=Ids("0")), 2, 2)
    first, second = (json.loads(m.payload(False)) for m in (one, two))
    assert (first["t"], second["t"]) == (0, 0)
    assert (first.pop("p"), second.pop("p")) == ("84143.54000000", "84984.97540000")
    assert first == second


def test_skipping_frames_of_a_symbol() -> None:
    faults = Faults()
    faults.skip("3", ["BTCUSDT"])
    assert ids(through(faults, 6, 2)) == [3, 4, 5]
    faults.skip("2@ETHUSDT", ["BTCUSDT", "ETHUSDT"])
    assert len(through(faults, 6, 2)) == 6


def test_silence_stall_and_symbols() -> None:
    assert through(Faults(silence=frozenset({"btcusdt@trade"}))) == []
    assert len(through(Faults(silence=frozenset({"ethusdt@trade"})))) == 1000
    assert through(Faults(stall=True)) == []
    assert len(through(Faults(drop=1.0, symbols=frozenset({"ETHUSDT"})))) == 1000
    assert through(Faults(drop=1.0, symbols=frozenset({"BTCUSDT"}))) == []


@pytest.mark.parametrize("kind", MANGLES)
@pytest.mark.parametrize("form", [0, 1])
def test_mangled_frames(kind: str, form: int) -> None:
    good, bad = trade(5), mangled(trade(5), kind)
    assert bad.trade_id == 5
    raw = bad.wire(form)
    assert raw != good.wire(form)
    payload = raw[2:] if raw[1] < 126 else raw[4:]
    if kind == "binary":
        assert raw[0] == 0x82
        return
    if kind in ("truncated", "utf8"):
        with pytest.raises(ValueError, match="column|codec"):
            json.loads(payload)
        return
    told = json.loads(payload)
    event = told["data"] if form else told
    price = {
        "number": 84143.54,
        "nan": "NaN",
        "empty": "",
        "negative": "-84143.54000000",
        "zero": "0.00000000",
        "decimals30": "84143.540000000000000000000000000001",
    }
    assert event["p"] == price.get(kind, "84143.54000000")
    if kind == "decimals30":
        assert len(event["p"].split(".")[1]) == 30
    assert ("M" in event) == (kind != "missing_m")
    assert ("nq" in event) == (kind == "unknown")
    assert event["t"] == 5


def test_setting_from_text() -> None:
    faults = Faults()
    faults.set("drop", "0.25")
    faults.set("drop_ids", "1-3,9")
    faults.set("stall", "true")
    faults.set("silence", "a@trade,b@trade")
    faults.set("rest_lag", "20")
    assert (faults.drop, faults.stall, faults.rest_lag) == (0.25, True, 20)
    assert 2 in faults.drop_ids
    assert 4 not in faults.drop_ids
    told = faults.describe()
    assert told["drop_ids"] == "1-3,9-9"
    assert told["silence"] == ["a@trade", "b@trade"]
    for name, value in [
        ("nope", "1"),
        ("drop", "much"),
        ("stall", "2"),
        ("drop_ids", "a-b"),
        ("mangle_as", "x"),
    ]:
        with pytest.raises(ValueError, match="."):
            faults.set(name, value)
    for event in ("nope", "close:x", "inject:nope", "shutdown:soon"):
        with pytest.raises(ValueError, match="."):
            faults.do(event)


def test_injections_are_framed() -> None:
    for kind in (*INJECTIONS, "binary", "huge"):
        assert injection(kind)[0] in (0x81, 0x82)
    assert len(injection("huge")) > 10_000_000


# -- over sockets


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
            while True:
                try:
                    await asyncio.wait_for(ws.recv(), 0.2)
                except TimeoutError:
                    break
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
            while True:
                await asyncio.wait_for(ws.recv(), 0.2)
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
            await asyncio.sleep(0.1)
            names = {json.loads(await ws.recv())["s"] for _ in range(300)}
            later = {json.loads(await ws.recv())["s"] for _ in range(100)}
            assert "BTCUSDT" in names
            assert later == {"BTCUSDT"}

    run(work)


@pytest.mark.parametrize("code", [1001, 1008, 1006])
def test_closing(code: int) -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        async with connect(exchange.ws_url + TRADES) as ws:
            await next_id(ws)
            faults.do(f"close:{code}")
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    await next_id(ws)
            received = caught.value.rcvd
            assert (received.code if received else 1006) == code

    run(work)


def test_closing_again_and_again() -> None:
    async def work(exchange: Exchange, faults: Faults) -> None:
        for _ in range(2):
            async with connect(exchange.ws_url + TRADES) as ws:
                with pytest.raises(ConnectionClosed):
                    for _ in range(10_000):
                        await next_id(ws)
        faults.close_every_frames, faults.close_every_s = 0, 0.1
        async with connect(exchange.ws_url + TRADES) as ws:
            with pytest.raises(ConnectionClosed):
                for _ in range(10_000):
                    await next_id(ws)

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
                while True:
                    await next_id(ws)

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
