"""The order book: consistent with quotes and trades, and a chain of changes without a hole."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from exchange import Exchange, SyntheticSource
from exchange.asking import View
from exchange.book import MARK_US, Book, changes
from exchange.depth import depth_messages, depth_stream
from exchange.futures import FuturesSource
from exchange.rest import respond
from exchange.rest_futures import ENDPOINTS as FAPI
from exchange.tape import US
from exchange.world import default_world
from tests.support.exchange_clients import connect, run

NOW = 1_772_625_600 * US + 345_678_901
SPOT = SyntheticSource(default_world().only(["LTCUSDT", "BTCUSDT"]), clock=lambda: NOW)
SOURCES = {"spot": SPOT, "usdm": FuturesSource(SPOT)}


def sides(book: Book) -> tuple[dict[int, int], dict[int, int]]:
    return dict(book.bids), dict(book.asks)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "LTCUSDT"])
@pytest.mark.parametrize("market", SOURCES)
def test_a_book_is_ordered_and_not_crossed(market: str, symbol: str) -> None:
    mark = NOW // MARK_US
    book = SOURCES[market].book(symbol, mark)
    bids, asks = ([price for price, _ in side] for side in (book.bids, book.asks))
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert 0 < bids[-1] < bids[0] < asks[0] < asks[-1]
    assert len(bids) > 200
    assert len(asks) > 200
    assert min(lots for _, lots in book.bids + book.asks) > 0
    assert SOURCES[market].book(symbol, mark) == book


@pytest.mark.parametrize("market", SOURCES)
def test_the_changes_lead_from_any_book_to_any_later_one(market: str) -> None:
    source, first = SOURCES[market], NOW // MARK_US
    bids, asks = sides(source.book("BTCUSDT", first))
    for mark in range(first + 1, first + 100):
        before, now = source.book("BTCUSDT", mark - 1), source.book("BTCUSDT", mark)
        for held, was, told in ((bids, before.bids, now.bids), (asks, before.asks, now.asks)):
            held.update(changes(was, told))
            for price in [price for price, lots in held.items() if not lots]:
                del held[price]
        assert (bids, asks) == sides(now)


@pytest.mark.parametrize("market", SOURCES)
def test_trades_happen_at_the_prices_of_the_book(market: str) -> None:
    """Between two marks a trade lies between their quotes, apart from what a sweep goes deeper
    (4 basis points at most) and the noise of a price within a second."""
    source, first = SOURCES[market], NOW // MARK_US - 3000
    books = [source.book("BTCUSDT", mark) for mark in range(first, first + 601)]
    begin = source.id_at("BTCUSDT", first * MARK_US)
    tape = source.trades("BTCUSDT", begin, source.id_at("BTCUSDT", (first + 600) * MARK_US) - begin)
    assert len(tape) > 1000
    place = (tape.t // MARK_US - first).tolist()
    low = np.array([min(books[k].bids[0][0], books[k + 1].bids[0][0]) for k in place])
    high = np.array([max(books[k].asks[0][0], books[k + 1].asks[0][0]) for k in place])
    away = np.maximum(np.maximum(low - tape.price, tape.price - high), 0) / tape.price
    assert away.max() < 6e-4
    assert np.median(away) < 2e-5


def events(market: str, name: str, past_us: int, now_us: int) -> list[Any]:
    source = SOURCES[market]
    told = depth_messages(source, [name], past_us, now_us, futures=market == "usdm")
    return [json.loads(message.payload(False)) for message in told]


@pytest.mark.parametrize(
    ("market", "name", "every_ms", "count"),
    [
        ("spot", "btcusdt@depth", 1000, 6),
        ("spot", "btcusdt@depth@100ms", 100, 60),
        ("usdm", "btcusdt@depth", 250, 24),
        ("usdm", "btcusdt@depth@500ms", 500, 12),
        ("usdm", "btcusdt@depth@100ms", 100, 60),
    ],
)
def test_the_numbers_of_a_stream_have_no_hole(
    market: str, name: str, every_ms: int, count: int
) -> None:
    """Whatever the pace at which the exchange comes to tell them."""
    start = NOW // US * US
    steps = [start + ms * 1000 for ms in (0, 70, 900, 2000, 2001, 3500, 4990, 6000)]
    told = [e for a, b in pairwise(steps) for e in events(market, name, a, b)]
    assert len(told) == count
    assert all(after["U"] == before["u"] + 1 for before, after in pairwise(told))
    if market == "usdm":
        assert all(after["pu"] == before["u"] for before, after in pairwise(told))
        assert {"e", "E", "T", "s", "U", "u", "pu", "b", "a"} == set(told[0])
    else:
        assert {"e", "E", "s", "U", "u", "b", "a"} == set(told[0])
    assert told[-1]["u"] == (start + 6_000_000) // MARK_US
    assert every_ms * count == 6000


def test_after_a_long_stall_one_event_tells_all_of_it() -> None:
    start = NOW // US * US
    (told,) = events("spot", "btcusdt@depth@100ms", start, start + 60 * US)
    assert (told["U"], told["u"]) == (start // MARK_US + 1, start // MARK_US + 600)


def test_the_best_levels() -> None:
    start = NOW // US * US
    (told,) = events("spot", "ltcusdt@depth5", start, start + 1_000_000)
    assert set(told) == {"lastUpdateId", "bids", "asks"}
    assert (len(told["bids"]), len(told["asks"])) == (5, 5)
    (told, *_) = events("usdm", "ltcusdt@depth20@100ms", start, start + 100_000)
    assert (len(told["b"]), told["e"]) == (20, "depthUpdate")


@pytest.mark.parametrize(
    "name", ["btcusdt@depth7", "btcusdt@depth@250ms", "btcusdt@depth@1ms", "btcusdt@depths"]
)
def test_what_is_no_depth_stream(name: str) -> None:
    assert depth_stream(name, (1000, 100)) is None


def test_the_snapshot_is_the_book_of_now() -> None:
    mark = NOW // MARK_US
    book = SPOT.book("BTCUSDT", mark)
    for limit, told in ((None, 100), (5, 5), (5000, len(book.bids))):
        query = "symbol=BTCUSDT" + (f"&limit={limit}" if limit else "")
        status, body = respond(View(SPOT), "/api/v3/depth", query)
        answer = json.loads(body)
        assert (status, answer["lastUpdateId"], len(answer["bids"])) == (200, mark, told)
        assert answer["asks"][0][0] == SPOT.symbols["BTCUSDT"].price(book.asks[0][0])
    status, body = respond(View(SPOT), "/api/v3/depth", "symbol=BTCUSDT&limit=0")
    assert (status, json.loads(body)["code"]) == (400, -1130)
    view = View(SOURCES["usdm"])
    status, body = respond(view, "/fapi/v1/depth", "symbol=BTCUSDT&limit=7", FAPI)
    assert (status, json.loads(body)["code"]) == (400, -4021)


def test_a_local_book_follows_the_exchange_over_the_wire() -> None:
    """As every client does it: events kept, a snapshot, then only what joins on; and the best
    levels are those of `@bookTicker` with the same number."""

    async def work(exchange: Exchange) -> None:
        stream = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker"
        async with connect(exchange.ws_url + stream) as ws:
            kept: list[Any] = []
            quotes: dict[int, Any] = {}

            async def take() -> None:
                told = json.loads(await asyncio.wait_for(ws.recv(), 10))
                if told["stream"].endswith("bookTicker"):
                    quotes[told["data"]["u"]] = told["data"]
                else:
                    kept.append(told["data"])

            while not kept:
                await take()
            view = View(exchange.source)
            _, body = respond(view, "/api/v3/depth", "symbol=BTCUSDT&limit=5000")
            book = json.loads(body)
            last = book["lastUpdateId"]
            held = {side: dict(book[side]) for side in ("bids", "asks")}
            joined = 0
            while joined < 10:
                while kept:
                    event = kept.pop(0)
                    if event["u"] <= last:
                        continue
                    assert event["U"] <= last + 1 <= event["u"]
                    last, joined = event["u"], joined + 1
                    for side, key in (("bids", "b"), ("asks", "a")):
                        held[side].update(event[key])
                        held[side] = {p: q for p, q in held[side].items() if float(q)}
                    if last in quotes:
                        best = max(held["bids"], key=float), min(held["asks"], key=float)
                        assert best == (quotes[last]["b"], quotes[last]["a"])
                        assert held["bids"][best[0]] == quotes[last]["B"]
                await take()
            assert set(quotes) & {last, last - 1}

    run(work)
