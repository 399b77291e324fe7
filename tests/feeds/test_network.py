"""Proxies, dead addresses and certificates: one rule for stream and REST, no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from exchange.testing import Running, running
from pairs.feeds.binance.rest import BinanceRest
from pairs.feeds.choice import choose_feed
from pairs.feeds.network import NetworkSettingError, proxy_for, stream_options, tls_context
from pairs.settings import load_settings
from tests.support.records import source

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("10.0.0.0/8", "wss://10.1.2.3:9443", True),
        ("10.0.0.0/8", "wss://11.1.2.3:9443", False),
        ("fd00::/8,::1", "https://[fd00::7]:443", True),
        ("[fd00::7]", "https://[fd00::7]", True),
        ("[fd00::7]:444", "https://[fd00::7]", False),
        ("fd00::7", "https://[fd00::8]", False),
        ("binance.com", "wss://stream.binance.com:9443", True),
        (".binance.com", "wss://stream.binance.com:9443", True),
        ("*.binance.com", "wss://stream.binance.com:9443", True),
        ("nance.com", "wss://stream.binance.com:9443", False),
        ("binance.com:9443 other", "wss://stream.binance.com:9443", True),
        ("binance.com:443", "wss://stream.binance.com:9443", False),
        ("*", "wss://stream.binance.com:9443", True),
        ("10.0.0.0/99,,/,:", "wss://stream.binance.com:9443", False),
    ],
)
def test_no_proxy_takes_names_addresses_and_ranges(
    no_proxy: str, url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is None) == direct


def test_the_same_proxy_for_stream_and_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://all:1080")
    monkeypatch.setenv("https_proxy", "secure:3128")
    assert proxy_for("wss://host") == proxy_for("https://host") == "http://secure:3128"
    assert proxy_for("ws://host") == proxy_for("http://host") == "socks5://all:1080"
    assert proxy_for("ws://127.0.0.1:9") is None


@pytest.mark.parametrize("value", ["ftp://me:hunter22@h:1", "socks9://h", "http://h:port", "://"])
def test_a_proxy_that_cannot_be_used_is_one_line(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(NetworkSettingError, match=r"ALL_PROXY=.* is not usable") as caught:
        asyncio.run(choose_feed(load_settings({"FEED": "auto"})))
    assert "hunter22" not in str(caught.value)


def test_a_certificates_file_that_is_missing_or_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for name, value, said in (
        ("SSL_CERT_FILE", tmp_path / "none.pem", "is no file"),
        ("SSL_CERT_FILE", junk, "cannot be read as certificates"),
        ("SSL_CERT_DIR", tmp_path / "none", "is no folder"),
    ):
        monkeypatch.setenv(name, str(value))
        with pytest.raises(NetworkSettingError, match=said) as caught:
            asyncio.run(choose_feed(load_settings({"FEED": "binance"})))
        assert str(value) in str(caught.value)
        monkeypatch.delenv(name)
    assert stream_options("wss://host")["ssl"] is tls_context()  # one for both, made once


# -- proxies and addresses that are there


async def _socks(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    port: int,
    ends: list[asyncio.StreamWriter],
) -> None:
    """The least that is SOCKS 5: no password, CONNECT, and every name is this machine."""
    _, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(b"\5\0")
    *_, kind = await reader.readexactly(4)
    length = (await reader.readexactly(1))[0] if kind == 3 else {1: 4, 4: 16}[kind]
    await reader.readexactly(length + 2)
    from_there, there = await asyncio.open_connection("127.0.0.1", port)
    ends.append(there)
    writer.write(b"\5\0\0\1" + bytes(6))

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            to.write(data)
        to.close()

    await asyncio.gather(copy(reader, there), copy(from_there, writer))


@contextlib.asynccontextmanager
async def socks_proxy(port: int) -> AsyncIterator[int]:
    """Leaves nothing open: what is, warns in whichever test runs when it is collected."""
    under_way: list[asyncio.Task[None]] = []
    ends: list[asyncio.StreamWriter] = []

    def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        under_way.append(asyncio.create_task(_socks(reader, writer, port, ends)))

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for end in ends:
            end.transport.abort()
        await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)


@pytest.fixture(scope="module")
def exchange() -> Iterator[Running]:
    with running(source(10)) as made:
        yield made


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_stream_and_rest_go_through_a_socks_proxy(
    exchange: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reached() -> bytes | str:
        async with socks_proxy(port_of(exchange.ws_url)) as port:
            monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
            url = f"ws://exchange.invalid:{port_of(exchange.ws_url)}/ws/btcusdt@trade"
            async with connect(url, **stream_options(url)) as stream:
                frame = await asyncio.wait_for(stream.recv(), 10)
        async with socks_proxy(port_of(exchange.rest_url)) as port:
            monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{port}")
            async with BinanceRest("http://exchange.invalid:80") as rest:
                assert await rest.time_ms() > 0
        return frame

    assert "BTCUSDT" in str(asyncio.run(reached()))


def test_one_dead_address_of_a_name_holds_up_the_stream_for_a_moment(
    exchange: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener whose queue is full is a black hole: what knocks is not even refused."""
    port = port_of(exchange.ws_url)
    asked = socket.getaddrinfo

    def two(host: Any, *more: Any, **named: Any) -> Any:
        if host != "exchange.invalid":
            return asked(host, *more, **named)
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    with contextlib.ExitStack() as open_ones:
        hole = open_ones.enter_context(socket.socket())
        hole.bind(("127.0.0.2", port))
        hole.listen(0)
        for _ in range(4):
            knocking = open_ones.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(("127.0.0.2", port))
        monkeypatch.setattr(socket, "getaddrinfo", two)
        url = f"ws://exchange.invalid:{port}/ws/btcusdt@trade"

        async def heard() -> Any:
            async with connect(url, open_timeout=3, **stream_options(url)) as stream:
                return await asyncio.wait_for(stream.recv(), 10)

        assert "BTCUSDT" in str(asyncio.run(heard()))
