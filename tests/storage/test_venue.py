"""The venue is what the exchange says it is, never what the address variable is called: simulated
trades are not stored among real ones, nor real ones among simulated."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect

from exchange.testing import running
from pairs.feeds.binance.protocol import wrong_nature
from pairs.feeds.binance.rest import BinanceRest, RestError
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.daemon import count, daemon, eventually
from tests.support.foreign import Foreign
from tests.support.machine import free_port
from tests.support.records import source

pytestmark = pytest.mark.processes

VENUES = "SELECT string_agg(DISTINCT venue, ',') FROM v_ticks"
BARS = "SELECT string_agg(DISTINCT venue, ',') FROM v_bars"


@pytest.mark.parametrize("feed", ["auto", "binance"])
def test_a_simulated_exchange_at_binances_address_is_local(
    store: PostgresStore, database_url: str, tmp_path: Path, feed: str
) -> None:
    log = tmp_path / "log"
    with running(source(50)) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, log, FEED=feed, HISTORY_HOURS="1"):
            eventually(lambda: count(store) > 100, "trades")
            eventually(lambda: count(store, BARS), "bars")
    assert count(store, VENUES) == "local"
    assert count(store, BARS) == "local"
    assert "says that it is simulated (synthetic): its data are stored under venue local" in (
        log.read_text()
    )


def test_perpetuals_of_a_simulated_exchange_do_not_share_ids_with_spot(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    with running(source(50)) as exchange:
        addresses = (exchange.ws_url, exchange.rest_url)
        with daemon(database_url, addresses, tmp_path / "log", MARKET="usdm"):
            eventually(lambda: count(store) > 20, "trades")
    assert count(store, VENUES) == "local"
    assert count(store, "SELECT count(*) FROM v_ticks WHERE symbol NOT LIKE '%.P'") == 0


def test_an_exchange_that_becomes_simulated_is_not_stored(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    """The same port, another exchange behind it: by stream, by REST, by history."""
    log = tmp_path / "log"
    with Foreign("BTCUSDT", "ETHUSDT") as real:
        port = int(real.ws_url.rsplit(":", 1)[1])
        for symbol in real.trades:
            real.print_trades(symbol, 5)
        desk = daemon(database_url, (real.ws_url, real.rest_url), log)
        desk.__enter__()
        eventually(lambda: real.connected, "connected")
        for symbol in real.trades:
            real.print_trades(symbol, 20)
        eventually(lambda: count(store) >= 40, "real trades")
    before = count(store)
    with running(source(200), port=port):
        reason = "says that it is simulated"
        eventually(
            lambda: all(
                f.state == "disconnected" and reason in f.detail
                for f in read_feeds(store.engine, "binance")
            ),
            "the reason is told",
        )
        eventually(lambda: len(re.findall(reason, log.read_text())) >= 3, "refused again")
        desk.__exit__(None, None, None)  # before the exchange: nothing is cut in the middle
    assert count(store) == before
    assert count(store, "SELECT string_agg(DISTINCT venue, ',') FROM instrument") == "binance"
    assert count(store, "SELECT count(*) FROM v_bars WHERE source = 'klines'") == 0


def test_nobody_is_there_at_the_start_and_then_a_simulated_exchange(
    store: PostgresStore, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    addresses = (f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    log = tmp_path / "log"
    desk = daemon(database_url, addresses, log, HISTORY_HOURS="1")
    desk.__enter__()
    eventually(lambda: log.exists() and "disconnected" in log.read_text(), "it keeps trying")
    with running(source(50), port=port):
        eventually(lambda: count(store) > 50, "trades", 120)
        desk.__exit__(None, None, None)
    assert count(store, VENUES) == "local"
    assert count(store, BARS) == "local"


def test_the_local_exchange_says_it_in_every_answer() -> None:
    with running(source(50)) as exchange:
        for path in (
            "/api/v3/ping",
            "/api/v3/exchangeInfo",
            "/api/v3/klines",
            "/fapi/v1/time",
            "/nowhere",
            "/api/v3/trades?symbol=NOPE",
        ):
            try:
                with urllib.request.urlopen(exchange.rest_url + path) as answer:
                    headers = answer.headers
            except urllib.error.HTTPError as error:
                headers = error.headers
                error.close()
            assert headers["X-Simulated"] == "synthetic", path
        for path in ("/ws/btcusdt@trade", "/stream?streams=btcusdt@trade", "/market/ws"):
            with connect(exchange.ws_url + path) as socket:
                assert socket.response is not None
                assert socket.response.headers["X-Simulated"] == "synthetic"


@pytest.mark.parametrize(("simulated", "refused"), [(None, False), (True, False), (False, True)])
def test_rest_of_another_nature_is_no_answer(simulated: bool | None, refused: bool) -> None:
    async def ask(url: str) -> None:
        async with BinanceRest(url, simulated=simulated) as rest:
            await rest.time_ms()

    with running(source(50)) as exchange:
        if refused:
            with pytest.raises(RestError, match="says that it is simulated"):
                asyncio.run(ask(exchange.rest_url))
        else:
            asyncio.run(ask(exchange.rest_url))


def test_what_may_be_stored_where() -> None:
    assert wrong_nature(None, False) == wrong_nature("replay", True) == ""
    assert wrong_nature("replay", None) == wrong_nature(None, None) == ""
    assert "does not say that it is simulated" in wrong_nature(None, True)
    assert "is simulated (replay)" in wrong_nature("replay", False)
