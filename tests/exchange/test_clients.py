"""python-binance and ccxt, unmodified, on the local exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

from tests.support.clients import (
    DAY_MS,
    INTERVALS,
    MARKS,
    addresses,
    client,
    opens_are_aligned,
)

pytestmark = MARKS
__all__ = ["addresses"]  # a fixture


# -- python-binance


@asynccontextmanager
async def python_binance(ws: str, rest: str) -> AsyncIterator[tuple[Any, Any]]:
    """Its client and its sockets, pointed here by their class attributes."""
    package = client("binance.async_client")
    streams = client("binance.ws.streams")

    class Here(package.AsyncClient):  # type: ignore[misc, name-defined]
        API_URL = f"{rest}/api"
        FUTURES_URL = f"{rest}/fapi"

    class Sockets(streams.BinanceSocketManager):  # type: ignore[misc, name-defined]
        STREAM_URL = f"{ws}/"
        FSTREAM_URL = f"{ws}/"

    made = await Here.create()
    try:
        yield made, Sockets(made)
    finally:
        await made.close_connection()


def test_python_binance_rest(addresses: tuple[str, str]) -> None:
    async def work() -> None:
        async with python_binance(*addresses) as (api, _):
            assert (await api.get_exchange_info())["symbols"]
            assert (await api.get_symbol_info("ETHUSDT"))["baseAsset"] == "ETH"
            assert len(await api.get_all_tickers()) == 4
            book = await api.get_order_book(symbol="ETHUSDT", limit=1000)
            assert float(book["bids"][0][0]) < float(book["asks"][0][0])
            assert len(await api.get_recent_trades(symbol="ETHUSDT")) == 500
            assert len(await api.get_historical_trades(symbol="ETHUSDT", limit=10)) == 10
            assert len(await api.get_aggregate_trades(symbol="ETHUSDT", limit=10)) == 10
            day = await api.get_ticker(symbol="LTCUSDT")
            assert day["closeTime"] - day["openTime"] == DAY_MS
            assert (await api.get_symbol_ticker(symbol="LTCUSDT"))["symbol"] == "LTCUSDT"
            assert len(await api.get_orderbook_tickers()) == 4
            assert (await api.get_avg_price(symbol="LTCUSDT"))["mins"] == 5
            for interval in INTERVALS:
                rows = await api.get_klines(symbol="LTCUSDT", interval=interval)
                assert rows
                opens_are_aligned(interval, [row[0] for row in rows])

    asyncio.run(work())


def test_python_binance_history(addresses: tuple[str, str]) -> None:
    """It looks for the first kline there is (startTime=0) before it pages on."""

    async def work() -> None:
        async with python_binance(*addresses) as (api, _):
            hours = await api.get_historical_klines("LTCUSDT", "1h", "1 Jan, 2017")
            assert len(hours) in (168, 169)
            assert all(b[0] - a[0] == 3_600_000 for a, b in pairwise(hours))
            rows = await api.futures_historical_klines("LTCUSDT", "1h", "1 Jan, 2017")
            assert len(rows) in (168, 169)
            trades = api.aggregate_trade_iter("LTCUSDT", "5 minutes ago UTC")
            pages = [trade async for trade in trades]
            assert all(b["a"] == a["a"] + 1 for a, b in pairwise(pages))

    asyncio.run(work())


def test_python_binance_futures(addresses: tuple[str, str]) -> None:
    async def work() -> None:
        async with python_binance(*addresses) as (api, _):
            await api.futures_ping()
            assert (await api.futures_exchange_info())["symbols"]
            book = await api.futures_order_book(symbol="LTCUSDT", limit=20)
            assert len(book["bids"]) == 20
            assert len(await api.futures_recent_trades(symbol="LTCUSDT", limit=10)) == 10
            assert len(await api.futures_aggregate_trades(symbol="LTCUSDT", limit=10)) == 10
            for interval in ("1m", "3d", "1w", "1M"):
                rows = await api.futures_klines(symbol="LTCUSDT", interval=interval)
                opens_are_aligned(interval, [row[0] for row in rows])
            told = await api.futures_mark_price(symbol="LTCUSDT")
            assert float(told["markPrice"]) == pytest.approx(float(told["indexPrice"]), rel=0.002)
            rates = await api.futures_funding_rate(symbol="LTCUSDT")
            assert len(rates) == 21
            assert all(row["fundingTime"] % (DAY_MS // 3) == 0 for row in rates)
            day = await api.futures_ticker(symbol="LTCUSDT")
            assert float(day["weightedAvgPrice"]) > 0
            assert len(await api.futures_symbol_ticker()) == 4
            assert len(await api.futures_orderbook_ticker()) == 4

    asyncio.run(work())


async def first_messages(sockets: dict[str, Any]) -> dict[str, Any]:
    """The first message of each socket, all open at once."""

    async def first(name: str, socket: Any) -> tuple[str, Any]:
        async with socket as stream:
            try:
                message = await asyncio.wait_for(stream.recv(), 40)
            except TimeoutError:
                pytest.fail(f"{name}: nothing was told")
            return name, message.get("data", message) if isinstance(message, dict) else message

    return dict(await asyncio.gather(*(first(*item) for item in sockets.items())))


def test_python_binance_streams(addresses: tuple[str, str]) -> None:
    async def work() -> None:
        async with python_binance(*addresses) as (_, sockets):
            told = await first_messages(
                {
                    "trade": sockets.trade_socket("BTCUSDT"),
                    "aggTrade": sockets.aggtrade_socket("BTCUSDT"),
                    "depthUpdate": sockets.depth_socket("BTCUSDT"),
                    "levels": sockets.depth_socket("BTCUSDT", depth="5"),
                    "kline": sockets.kline_socket("LTCUSDT", "1M"),
                    "24hrMiniTicker": sockets.symbol_miniticker_socket("LTCUSDT"),
                    "24hrTicker": sockets.symbol_ticker_socket("LTCUSDT"),
                    "all mini": sockets.miniticker_socket(),
                    "all": sockets.ticker_socket(),
                    "quote": sockets.symbol_book_ticker_socket("BTCUSDT"),
                }
            )
            for name in ("trade", "aggTrade", "depthUpdate", "kline", "24hrMiniTicker"):
                assert told[name]["e"] == name, told[name]
            assert len(told["levels"]["bids"]) == 5
            assert {row["s"] for row in told["all"]} == {row["s"] for row in told["all mini"]}

    asyncio.run(work())


def test_python_binance_futures_streams(addresses: tuple[str, str]) -> None:
    async def work() -> None:
        async with python_binance(*addresses) as (_, sockets):
            told = await first_messages(
                {
                    "aggTrade": sockets.aggtrade_futures_socket("BTCUSDT"),
                    "kline": sockets.futures_multiplex_socket(["ltcusdt@kline_1w"]),
                    "markPriceUpdate": sockets.symbol_mark_price_socket("BTCUSDT"),
                    "bookTicker": sockets.symbol_ticker_futures_socket("BTCUSDT"),
                    "24hrTicker": sockets.individual_symbol_ticker_futures_socket("LTCUSDT"),
                    "depthUpdate": sockets.futures_depth_socket("BTCUSDT"),
                    "marks": sockets.all_mark_price_socket(),
                }
            )
            for name, event in told.items():
                assert name == "marks" or event["e"] == name, event
            assert len(told["marks"]) == 4

    asyncio.run(work())


def test_python_binance_depth_cache(addresses: tuple[str, str]) -> None:
    """Once the cache has joined on it is never made anew. Its first snapshot may be older than its
    stream, since it asks for one before it connects: the first event then has it ask again."""
    depth = client("binance.ws.depthcache")

    class Counted(depth.DepthCacheManager):  # type: ignore[misc, name-defined]
        made = 0

        async def _init_cache(self) -> None:
            self.made += 1
            await super()._init_cache()

    async def work() -> None:
        async with python_binance(*addresses) as (api, sockets):
            manager = Counted(api, "BTCUSDT", bm=sockets, ws_interval=100, limit=1000)
            async with manager as cache:
                await cache.recv()
                joined = manager.made
                for _ in range(30):
                    book = await cache.recv()
                    assert book.get_bids()[0][0] < book.get_asks()[0][0]
            assert manager.made == joined <= 2

    asyncio.run(work())


# -- ccxt


def ccxt_here(module: ModuleType, ws: str, rest: str) -> Any:
    """Its exchange object, pointed here by its table of addresses."""
    made = module.binance({"options": {"fetchMarkets": {"types": ["spot", "linear"]}}})
    api = made.urls["api"]
    api["public"] = f"{rest}/api/v3"
    for version in ("", "V2", "V3"):
        api[f"fapiPublic{version}"] = f"{rest}/fapi/{version.lower() or 'v1'}"
    if "ws" in api:
        # It takes an address for spot by the "/stream" in it, as in "//stream.binance.com".
        api["ws"].update(spot=f"{ws}/ws?/stream", linear=f"{ws}/ws")
    return made


@pytest.mark.parametrize("symbol", ["LTC/USDT", "LTC/USDT:USDT"])
def test_ccxt_rest(addresses: tuple[str, str], symbol: str) -> None:
    api = ccxt_here(client("ccxt"), *addresses)
    assert symbol in api.load_markets()
    assert api.fetch_time() > 0
    book = api.fetch_order_book(symbol, 20)
    assert (len(book["bids"]), book["bids"][0][0] < book["asks"][0][0]) == (20, True)
    assert api.fetch_ticker(symbol)["last"] > 0
    assert len(api.fetch_tickers([symbol, symbol.replace("LTC", "BTC")])) == 2
    assert len(api.fetch_bids_asks([symbol])) == 1
    assert len(api.fetch_last_prices([symbol])) == 1
    for interval in INTERVALS:
        rows = api.fetch_ohlcv(symbol, interval, limit=5)
        assert rows
        opens_are_aligned(interval, [row[0] for row in rows])
    assert api.fetch_ohlcv(symbol, "1h", since=0, limit=3)[0][0] > 0
    assert len(api.fetch_trades(symbol, limit=10)) == 10
    since = api.milliseconds() - 3_600_000
    trades = api.fetch_trades(symbol, since=since, limit=50)  # a window of one hour
    assert len(trades) == 50
    assert all(trade["timestamp"] >= since for trade in trades)


def test_ccxt_funding(addresses: tuple[str, str]) -> None:
    api, symbol = ccxt_here(client("ccxt"), *addresses), "LTC/USDT:USDT"
    api.load_markets()
    rate = api.fetch_funding_rate(symbol)
    assert rate["fundingRate"] == pytest.approx(0.0001)
    assert rate["markPrice"] == pytest.approx(rate["indexPrice"], rel=0.002)
    assert len(api.fetch_funding_rates([symbol])) == 1
    assert len(api.fetch_funding_rate_history(symbol, limit=10)) == 10
    assert api.fetch_mark_price(symbol)["markPrice"] > 0


@pytest.mark.parametrize("symbol", ["BTC/USDT", "BTC/USDT:USDT"])
def test_ccxt_streams(addresses: tuple[str, str], symbol: str) -> None:
    module = client("ccxt.pro")

    async def work() -> None:
        api = ccxt_here(module, *addresses)
        try:
            await api.load_markets()
            asked = {
                "trades": api.watch_trades(symbol),
                "book": api.watch_order_book(symbol),
                "ohlcv": api.watch_ohlcv(symbol, "1m"),
                "ticker": api.watch_ticker(symbol),
                "quotes": api.watch_bids_asks([symbol]),
            }
            if symbol.endswith(":USDT"):
                asked["mark"] = api.watch_mark_price(symbol)
            told = dict(
                zip(asked, await asyncio.wait_for(asyncio.gather(*asked.values()), 60), strict=True)
            )
            assert told["book"]["bids"][0][0] < told["book"]["asks"][0][0]
            for _ in range(20):  # its check of U, u and pu raises where one is missing
                await asyncio.wait_for(api.watch_order_book(symbol), 20)
        finally:
            await api.close()

    asyncio.run(work())
