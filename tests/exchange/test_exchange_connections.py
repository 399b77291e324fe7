"""Connections beside each other, and one exchange after another on the same port."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio import client
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from exchange import Exchange, Faults, Limits, SyntheticSource, default_world
from exchange.__main__ import chosen_faults, chosen_limits, chosen_world, main, parser
from exchange.testing import spawned

pytestmark = pytest.mark.processes

WORLD = default_world().only(["BTCUSDT"]).faster(5)
TRADES = "/ws/btcusdt@trade"
AGGREGATES = "/market/stream?streams=btcusdt@aggTrade"


def connect(exchange: Exchange, path: str) -> client.connect:
    return client.connect(exchange.ws_url + path, max_queue=None)


def run(work: Callable[[Exchange], Awaitable[None]], **options: Any) -> None:
    async def host() -> None:
        async with Exchange(SyntheticSource(WORLD), **options) as exchange:
            await asyncio.wait_for(work(exchange), 20)
            assert exchange.failure is None

    asyncio.run(host())


async def closing(
    ws: ClientConnection, heard: list[dict[str, Any]] | None = None
) -> tuple[float, int, list[dict[str, Any]]]:
    """When and how it ended, and what was heard until then, into `heard` as it comes."""
    heard = [] if heard is None else heard
    try:
        while True:
            heard.append(json.loads(await asyncio.wait_for(ws.recv(), 10)))
    except ConnectionClosed as error:
        return time.monotonic(), error.rcvd.code if error.rcvd else 1006, heard


@pytest.mark.parametrize("path", [TRADES, AGGREGATES])
def test_each_connection_has_its_own_life(path: str) -> None:
    async def work(exchange: Exchange) -> None:
        opened, ends = [], []
        for _ in range(2):
            opened.append(time.monotonic())
            ends.append(asyncio.create_task(closing(await connect(exchange, path))))
            await asyncio.sleep(0.4)
        told = exchange.connections()
        assert [c["number"] for c in told] == [1, 2]
        assert told[0]["age_s"] > told[1]["age_s"] + 0.35
        for began, end in zip(opened, ends, strict=True):
            ended, code, _ = await end
            assert code == 1001
            assert 0.95 <= ended - began < 3

    run(work, limits=Limits(life_s=1.0))


def test_the_oldest_is_closed_while_the_next_overlaps() -> None:
    async def work(exchange: Exchange) -> None:
        async with connect(exchange, TRADES) as old, connect(exchange, TRADES) as new:
            before: list[dict[str, Any]] = []
            after: list[dict[str, Any]] = []
            first = asyncio.create_task(closing(old, before))
            second = asyncio.create_task(closing(new, after))
            while not {e["t"] for e in before} & {e["t"] for e in after}:
                await asyncio.sleep(0.01)  # told twice while they overlap
            exchange.faults.do("close:1001@oldest")
            _, code, _ = await first
            alone = len(after)
            while len(after) == alone:
                await asyncio.sleep(0.01)
            exchange.faults.do("abort@2")
            _, reset, _ = await second
        assert (code, reset) == (1001, 1006)
        ids = [e["t"] for e in before] + [e["t"] for e in after]
        assert sorted(set(ids)) == list(range(min(ids), max(ids) + 1)), "and nothing missed"

    run(work)


@pytest.mark.parametrize("path", ["/ws/none", "/stream", "/market/ws", "/market/stream"])
@pytest.mark.parametrize("lead", ["0", "0.4"])
def test_shutdown_with_and_without_lead(path: str, lead: str) -> None:
    async def work(exchange: Exchange) -> None:
        faults = exchange.usdm_faults if "market" in path else exchange.faults
        async with connect(exchange, path) as old, connect(exchange, path) as other:
            began = time.monotonic()
            faults.do(f"shutdown:{lead}@oldest")
            ended, code, (told,) = await closing(old)
            assert code == 1001
            assert float(lead) <= ended - began < float(lead) + 5
            if "stream" in path:
                assert told.pop("stream") == "!serverShutdown"
                told = told["data"]
            assert set(told) == {"e", "E"}
            assert told["e"] == "serverShutdown"
            deadline = (
                time.monotonic() + 5
            )  # the server's side of the close may come a little later
            while len(exchange.connections()) > 1 and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert [c["number"] for c in exchange.connections()] == [2]
            await (await other.ping())

    run(work)


def test_only_known_connections_can_be_meant() -> None:
    with pytest.raises(ValueError, match="connection 'last' is not usable"):
        Faults().do("close:1001@last")


# -- a restart


def told(rest: str, path: str, **query: Any) -> Any:
    answer = httpx.get(rest + path, params=query)
    assert answer.status_code == 200
    return answer.json()


def test_a_restart_on_the_same_port_goes_on_with_the_same_tape() -> None:
    ahead = str(1_772_625_600 - int(time.time()))  # a noon, whatever the hour
    options = ("--seed", "9", "--symbols", "BTCUSDT", "--ahead", ahead)
    paths = (("/api/v3/historicalTrades", "id"), ("/fapi/v1/aggTrades", "a"))
    port, before = "0", {}
    with spawned(*options) as (_, rest, process):
        port = rest.rpartition(":")[2]
        for path, key in paths:
            last = told(rest, path.replace("historicalT", "t"), symbol="BTCUSDT", limit=1)[0][key]
            query = {"symbol": "BTCUSDT", "fromId": last - 99, "limit": 100}
            before[path] = (query, told(rest, path, **query), key)
        process.kill()
        process.wait()
    with spawned(*options, "--port", port) as (_, rest, _):
        for path, (query, rows, key) in before.items():
            assert told(rest, path, **query) == rows
            later = told(rest, path, symbol="BTCUSDT", fromId=rows[-1][key] + 1, limit=1)
            assert later[0][key] == rows[-1][key] + 1, "the clock went on meanwhile"
            assert later[0].get("T", later[0].get("time")) >= rows[-1].get("T", 0)


# -- the command line


def test_options_by_market() -> None:
    options = parser().parse_args(
        [
            "--fault",
            "drop=0.1",
            "--fault",
            "usdm:drop=0.2",
            "--limit",
            "life_s=5",
            "--limit",
            "usdm:weight_per_minute=100",
            "--tps",
            "1650",
            "--generated",
            "2",
        ]
    )
    assert (chosen_faults(options).drop, chosen_faults(options, "usdm").drop) == (0.1, 0.2)
    spot, usdm = chosen_limits(options), chosen_limits(options, "usdm")
    assert (spot.life_s, usdm.life_s) == (5.0, 5.0)
    assert (spot.weight_per_minute, usdm.weight_per_minute) == (6000, 100)
    assert (spot.messages_per_s, usdm.messages_per_s) == (5, 10)
    world = chosen_world(options)
    assert world.flat
    assert sum(leg.trades_per_s for leg in world.listings.values()) == pytest.approx(1650)
    assert chosen_world(parser().parse_args(["--flat", "--rate", "2"])).trades_per_s == 154.0


def test_an_unknown_market_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--fault", "coinm:drop=1"]) == 1
    assert "unknown market 'coinm'" in capsys.readouterr().err
