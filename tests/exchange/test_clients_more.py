"""The official SDKs, unicorn-binance-websocket-api and cryptofeed, unmodified, on the local
exchange."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.testing import spawned
from tests.support.clients import (
    MARKS,
    OPTIONS,
    addresses,
    chained,
    client,
)

pytestmark = MARKS
__all__ = ["addresses"]  # a fixture


# -- the official SDKs


async def sdk_events(streams: dict[str, Any], seconds: float = 60.0) -> dict[str, list[Any]]:
    """What each stream has told until all have told something."""
    told: dict[str, list[Any]] = {name: [] for name in streams}
    for name, stream in streams.items():
        (await stream).on("message", told[name].append)
    limit = time.monotonic() + seconds
    while not all(told.values()):
        silent = [name for name, events in told.items() if not events]
        assert time.monotonic() < limit, f"nothing was told on {silent}"
        await asyncio.sleep(0.1)
    return told


def test_official_spot_sdk_rest(addresses: tuple[str, str]) -> None:
    sdk = client("binance_sdk_spot.spot")
    models = client("binance_sdk_spot.rest_api.models")
    api = sdk.Spot(sdk.ConfigurationRestAPI(base_path=addresses[1], timeout=20_000)).rest_api
    assert api.ping().status == 200
    assert api.time().data().server_time > 0
    assert api.exchange_info(symbol="LTCUSDT").data().symbols[0].base_asset == "LTC"
    assert len(api.depth("LTCUSDT", limit=10).data().bids) == 10
    assert len(api.get_trades("LTCUSDT", limit=10).data()) == 10
    assert len(api.historical_trades("LTCUSDT", limit=10).data()) == 10
    assert len(api.agg_trades("LTCUSDT", limit=10).data()) == 10
    for interval in models.KlinesIntervalEnum:
        assert api.klines("LTCUSDT", interval, limit=2).data()
    assert api.ui_klines("LTCUSDT", models.UiKlinesIntervalEnum["INTERVAL_1w"]).data()
    assert api.avg_price("LTCUSDT").data().mins == 5
    for answer in (
        api.ticker24hr(symbol="LTCUSDT"),
        api.ticker(symbol="LTCUSDT"),
        api.ticker_trading_day(symbol="LTCUSDT"),
        api.ticker_price(symbol="LTCUSDT"),
        api.ticker_book_ticker(symbol="LTCUSDT"),
    ):
        assert answer.data().actual_instance.symbol == "LTCUSDT"


def test_official_spot_sdk_streams(addresses: tuple[str, str]) -> None:
    sdk = client("binance_sdk_spot.spot")
    models = client("binance_sdk_spot.websocket_streams.models")

    async def work() -> None:
        made = sdk.Spot(
            config_ws_streams=sdk.ConfigurationWebSocketStreams(stream_url=addresses[0])
        )
        connection = await made.websocket_streams.create_connection()
        try:
            told = await sdk_events(
                {
                    "trade": connection.trade("btcusdt"),
                    "aggTrade": connection.agg_trade("btcusdt"),
                    "bookTicker": connection.book_ticker("btcusdt"),
                    "diff": connection.diff_book_depth("btcusdt"),
                    "levels": connection.partial_book_depth(
                        "btcusdt", models.PartialBookDepthLevelsEnum["LEVELS_5"]
                    ),
                    "kline": connection.kline("ltcusdt", models.KlineIntervalEnum["INTERVAL_1w"]),
                    "ticker": connection.ticker("ltcusdt"),
                    "mini": connection.mini_ticker("ltcusdt"),
                    "all": connection.all_mini_ticker(),
                    "avgPrice": connection.avg_price("ltcusdt"),
                }
            )
            assert told["avgPrice"][0].i == "5m"
        finally:
            await connection.close_connection(close_session=True)

    asyncio.run(work())


FUTURES = "binance_sdk_derivatives_trading_usds_futures"


def test_official_derivatives_sdk_rest(addresses: tuple[str, str]) -> None:
    sdk = client(f"{FUTURES}.derivatives_trading_usds_futures")
    models = client(f"{FUTURES}.rest_api.models")
    config = sdk.ConfigurationRestAPI(base_path=addresses[1], timeout=20_000)
    api = sdk.DerivativesTradingUsdsFutures(config).rest_api
    api.test_connectivity()
    assert api.check_server_time().data().server_time > 0
    assert api.exchange_information().data().symbols
    assert len(api.order_book("LTCUSDT", limit=10).data().bids) == 10
    assert len(api.recent_trades_list("LTCUSDT", limit=10).data()) == 10
    assert len(api.compressed_aggregate_trades_list("LTCUSDT", limit=10).data()) == 10
    for interval in models.KlineCandlestickDataIntervalEnum:
        assert api.kline_candlestick_data("LTCUSDT", interval, limit=2).data()
    assert api.mark_price(symbol="LTCUSDT").data()
    assert len(api.get_funding_rate_history(symbol="LTCUSDT").data()) == 21
    assert api.get_funding_rate_info().data() == []
    assert api.ticker24hr_price_change_statistics(symbol="LTCUSDT").data()
    assert api.symbol_price_ticker(symbol="LTCUSDT").data()
    assert api.symbol_price_ticker_v2(symbol="LTCUSDT").data()
    assert api.symbol_order_book_ticker(symbol="LTCUSDT").data()


def test_official_derivatives_sdk_streams(addresses: tuple[str, str]) -> None:
    """It connects to /market, /public and /private before anything is asked for."""
    sdk = client(f"{FUTURES}.derivatives_trading_usds_futures")
    models = client(f"{FUTURES}.websocket_streams.models")

    async def work() -> None:
        config = sdk.ConfigurationWebSocketStreams(stream_url=addresses[0])
        made = sdk.DerivativesTradingUsdsFutures(config_ws_streams=config)
        connection = await made.websocket_streams.create_connection()
        try:
            intervals = models.KlineCandlestickStreamsIntervalEnum
            told = await sdk_events(
                {
                    "aggTrade": connection.aggregate_trade_streams("btcusdt"),
                    "mark": connection.mark_price_stream("btcusdt"),
                    "marks": connection.mark_price_stream_for_all_market(),
                    "kline": connection.kline_candlestick_streams(
                        "ltcusdt", intervals["INTERVAL_1w"].value
                    ),
                    "ticker": connection.individual_symbol_ticker_streams("ltcusdt"),
                    "mini": connection.individual_symbol_mini_ticker_stream("ltcusdt"),
                    "quotes": connection.all_book_tickers_stream(),
                    "quote": connection.individual_symbol_book_ticker_streams("btcusdt"),
                    "diff": connection.diff_book_depth_streams("btcusdt"),
                    "levels": connection.partial_book_depth_streams("btcusdt", 5),
                }
            )
            assert told["diff"][0].s == "BTCUSDT"
        finally:
            await connection.close_connection(close_session=True)

    asyncio.run(work())


# -- unicorn-binance-websocket-api


@pytest.mark.parametrize(
    ("exchange", "channels"),
    [
        ("binance.com", "trade aggTrade bookTicker depth@100ms depth5 kline_1m ticker miniTicker"),
        ("binance.com-futures", "aggTrade kline_1m markPrice@1s ticker miniTicker"),
        ("binance.com-futures", "bookTicker depth@100ms depth5@100ms"),
    ],
)
def test_unicorn(addresses: tuple[str, str], exchange: str, channels: str) -> None:
    manager = client("unicorn_binance_websocket_api").BinanceWebSocketApiManager(
        exchange=exchange,
        websocket_base_uri=f"{addresses[0]}/",
        output_default="dict",
        warn_on_update=False,
        disable_colorama=True,
    )
    seen: dict[str, list[Any]] = {}
    try:
        made = manager.create_stream(channels.split(" "), ["btcusdt"])
        assert made
        limit = time.monotonic() + 60
        while len(seen) < len(channels.split(" ")) or len(seen.get("btcusdt@depth@100ms", [])) < 9:
            assert time.monotonic() < limit, f"told were only {sorted(seen)}"
            told = manager.pop_stream_data_from_stream_buffer()
            if not told:
                time.sleep(0.02)
            elif "stream" in told:
                seen.setdefault(told["stream"], []).append(told["data"])
            if "depth" not in channels and len(seen) == len(channels.split(" ")):
                break
    finally:
        manager.stop_manager()
    if "depth" in channels:
        chained(seen["btcusdt@depth@100ms"], "pu" if "futures" in exchange else "")


# -- cryptofeed


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """`python -m exchange --tls`, with a certificate that OpenSSL is told to trust by
    SSL_CERT_FILE: cryptofeed takes wss:// alone."""
    client("cryptofeed")
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        spawned(*OPTIONS, "--tls", str(certificate), str(key)) as (ws, rest, _),
    ):
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            patch.setenv(name, str(certificate))
        yield ws, rest


FEEDS = Path(__file__).parents[1] / "support" / "cryptofeed_here.py"


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_cryptofeed(secured: tuple[str, str], market: str) -> None:
    """Its book is made from one snapshot and never anew. It runs in a process of its own, because
    it takes signals over and keeps symbols for good."""
    done = subprocess.run(
        [sys.executable, str(FEEDS), *secured, market],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=90,
    )
    assert done.stdout.strip().splitlines()[-1] == "snapshots 1", done.stdout[-3000:]
