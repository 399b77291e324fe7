"""Recordings go out byte for byte, and REST tells them up to the replay's clock."""

import asyncio
import gzip
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from exchange import Exchange, ReplaySource
from exchange.asking import View
from exchange.rest import respond
from tests.support.exchange_clients import connect
from tests.support.reference import SHARED

pytestmark = pytest.mark.processes

MARKET = SHARED / "data" / "market"
STEP_NS = 10_000_000


def frame(
    number: int, price: str = "100.50", qty: str = "0.010", t: int = 1_700_000_000_000
) -> bytes:
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{t + 1},"s":"BTCUSDT",'
        f'"t":{number},"p":"{price}","q":"{qty}","T":{t},"m":false,"M":true}}}}'
    ).encode()


BOOK = (
    b'{"stream":"btcusdt@bookTicker","data":{"u":7,"s":"BTCUSDT","b":"100.49000000",'
    b'"B":"1.00000000","a":"100.50000000","A":"2.00000000"}}'
)


def write(path: Path, frames: list[bytes], start_ns: int = 1_700_000_000_000_000_000) -> Path:
    lines = [b"%d %s\n" % (start_ns + i * STEP_NS, f) for i, f in enumerate(frames)]
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Six trades over two seconds, the third and fourth one order, and one quote."""
    base = 1_700_000_000_000
    frames = [
        frame(10, "100.50", "0.010", base),
        frame(11, "100.60", "0.020", base + 100),
        BOOK,
        frame(12, "100.70", "0.030", base + 200),
        frame(13, "100.70", "0.040", base + 200),
        frame(14, "100.20", "0.050", base + 1300),
        frame(15, "100.30", "0.060", base + 1400),
    ]
    return write(tmp_path / "small.jsonl.gz", frames)


async def listen(url: str, count: int) -> list[str]:
    async with connect(url) as ws:
        return [str(await asyncio.wait_for(ws.recv(), 10)) for _ in range(count)]


def played(source: ReplaySource, target: str, count: int) -> list[str]:
    async def run() -> list[str]:
        async with Exchange(source) as exchange:
            return await listen(exchange.ws_url + target, count)

    return asyncio.run(run())


@pytest.mark.parametrize("speed", [None, 20.0])
def test_frames_are_the_recorded_bytes(small: Path, speed: float | None) -> None:
    source = ReplaySource([small], speed=speed, wait=True)
    got = played(source, "/stream?streams=btcusdt@trade/btcusdt@bookTicker", 7)
    recorded = [
        line.split(b" ", 1)[1].decode() for line in gzip.decompress(small.read_bytes()).splitlines()
    ]
    assert got == recorded


def test_raw_and_microsecond_forms(small: Path) -> None:
    raw = played(ReplaySource([small], speed=None, wait=True), "/ws/btcusdt@trade", 6)
    assert raw[0] == frame(10, t=1_700_000_000_000).decode().split('"data":')[1][:-1]
    target = "/ws/btcusdt@trade?timeUnit=MICROSECOND"
    micro = played(ReplaySource([small], speed=None, wait=True), target, 6)
    assert json.loads(micro[1])["T"] == 1_700_000_000_100_000
    assert [json.loads(m)["t"] for m in micro] == [10, 11, 12, 13, 14, 15]


def test_aggregates_are_derived_where_none_was_recorded(small: Path) -> None:
    got = played(ReplaySource([small], speed=None, wait=True), "/ws/btcusdt@aggTrade", 5)
    rows = [json.loads(m) for m in got]
    assert [(r["f"], r["l"]) for r in rows] == [(10, 10), (11, 11), (12, 13), (14, 14), (15, 15)]
    assert rows[2]["q"] == "0.07000000"
    assert [r["a"] for r in rows] == [1, 2, 3, 4, 5]


def test_shift_to_now_moves_times_only(small: Path) -> None:
    source = ReplaySource([small], speed=None, wait=True, shift_to_now=True)
    before = time.time() * 1000
    rows = [json.loads(m) for m in played(source, "/ws/btcusdt@trade", 6)]
    moved = rows[0]["E"] - 1_700_000_000_001
    assert abs(rows[0]["E"] - before) < 5000
    assert {r["T"] - t for r, t in zip(rows, (0, 100, 200, 200, 1300, 1400), strict=True)} == {
        1_700_000_000_000 + moved
    }
    assert [r["t"] for r in rows] == [10, 11, 12, 13, 14, 15]
    assert rows[4]["p"] == "100.20", "nothing else is altered"


def test_rest_tells_only_what_has_been_printed(small: Path) -> None:
    async def run() -> None:
        source = ReplaySource([small], speed=None, wait=True)
        view = View(source)

        def get(name: str, query: str) -> Any:
            return json.loads(respond(view, f"/api/v3/{name}", query)[1])

        assert get("trades", "symbol=BTCUSDT") == []
        assert get("klines", "symbol=BTCUSDT&interval=1s") == []
        async with Exchange(source) as exchange:
            await listen(exchange.ws_url + "/ws/btcusdt@trade", 6)
            async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
                told = (await http.get("/api/v3/trades?symbol=BTCUSDT&limit=3")).json()
            assert exchange.log("BTCUSDT", 0, 99)[1] == (
                11,
                "100.60000000",
                "0.02000000",
                1_700_000_000_100_000,
                False,
            )
        assert [r["id"] for r in told] == [13, 14, 15]
        assert told[0]["price"] == "100.70000000"
        assert told[0]["quoteQty"] == "4.02800000"
        bars = get("klines", "symbol=BTCUSDT&interval=1s&startTime=1700000000000&limit=2")
        assert [r[1:6] for r in bars] == [
            ["100.50000000", "100.70000000", "100.50000000", "100.70000000", "0.10000000"],
            ["100.20000000", "100.30000000", "100.20000000", "100.30000000", "0.11000000"],
        ]

    asyncio.run(run())


def test_silent_after_the_end_and_still_up(small: Path) -> None:
    async def run() -> None:
        async with Exchange(ReplaySource([small], speed=None)) as exchange:
            while not exchange.source.ended:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            async with connect(exchange.ws_url + "/ws/btcusdt@trade") as ws:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ws.recv(), 0.2)
            async with httpx.AsyncClient(base_url=exchange.rest_url) as http:
                one = (await http.get("/api/v3/time")).json()["serverTime"]
                await asyncio.sleep(0.05)
                assert (await http.get("/api/v3/time")).json()["serverTime"] > one
                assert len((await http.get("/api/v3/trades?symbol=BTCUSDT")).json()) == 6

    asyncio.run(run())


def test_the_pace_is_kept(small: Path) -> None:
    """Frames 10 ms apart, six steps: 0.06 s of recording take at least 0.6 s at a tenth."""
    began = time.monotonic()
    played(ReplaySource([small], speed=0.1, wait=True), "/ws/btcusdt@trade", 6)
    assert time.monotonic() - began >= 0.6


def test_files_merge_by_receive_time(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", [frame(1), frame(3)])
    two = write(tmp_path / "b.jsonl", [frame(2)], 1_700_000_000_000_000_000 + STEP_NS // 2)
    source = ReplaySource([one, two], speed=None, wait=True)
    got = played(source, "/ws/btcusdt@trade", 3)
    assert [json.loads(m)["t"] for m in got] == [1, 2, 3]


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("hello\n")
    with pytest.raises(ValueError, match=r"bad line 1: .*receive ns"):
        ReplaySource([tmp_path / "bad"])
    with pytest.raises(ValueError, match="holds no trade"):
        ReplaySource([write(tmp_path / "quotes", [BOOK])])
    with pytest.raises(ValueError, match="speed 0"):
        ReplaySource([write(tmp_path / "good", [frame(1)])], speed=0)


# -- the real captures


def capture(name: str) -> Path:
    path = MARKET / name
    if not path.exists():
        pytest.skip(f"the capture {name} is not here; set MARKET_DATA to its folder")
    return path


@pytest.mark.parametrize("symbol", ["btcusdt", "ethusdt"])
def test_a_capture_is_replayed_byte_for_byte(symbol: str) -> None:
    path = capture(f"spot_{symbol}_trade.jsonl.gz")
    truth = json.loads(capture("ground_truth.json").read_text())[f"spot_{symbol}"]
    recorded = [
        line.split(b" ", 1)[1].decode() for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    source = ReplaySource([path], speed=None, wait=True)
    got = played(source, f"/stream?streams={symbol}@trade", truth["rows"])
    assert got == recorded
    tape = source.trades(symbol.upper(), truth["first_id"], 10**6)
    assert (len(tape), int(tape.ids[-1])) == (truth["rows"], truth["last_id"])
    info = source.symbols[symbol.upper()]
    assert info.quantity(int(tape.qty.sum())) == truth["sum_qty"]
    assert info.notional(int((tape.price * tape.qty).sum())) == truth["sum_notional"][:-8]


def test_other_streams_of_a_capture_go_out_too() -> None:
    paths = [capture(f"spot_{s}_all_streams_20240808.gz") for s in ("btcusdt", "ethusdt")]
    source = ReplaySource(paths, speed=None, wait=True)
    streams = "btcusdt@bookTicker/ethusdt@depth@100ms/btcusdt@trade"
    got = played(source, f"/stream?streams={streams}", 28_040 + 3_434 + 9_757)
    names = [json.loads(m)["stream"] for m in got]
    assert {n: names.count(n) for n in set(names)} == {
        "btcusdt@bookTicker": 28_040,
        "ethusdt@depth@100ms": 3_434,
        "btcusdt@trade": 9_757,
    }
    wanted = hashlib.sha256()
    for stamp, text in sorted(
        (int(line.split(b" ", 1)[0]), line.split(b" ", 1)[1])
        for path in paths
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ):
        if any(text.startswith(b'{"stream":"%s"' % n.encode()) for n in streams.split("/")):
            wanted.update(text)
        assert stamp
    assert hashlib.sha256("".join(got).encode()).hexdigest() == wanted.hexdigest()
