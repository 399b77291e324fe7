"""What stands between the program and its database: PgBouncer, and the proxy of a failover."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from tests.support.background import Background

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def missing(name: str) -> None:
    """Skip the test for want of a program; where REQUIRE_ENGINES is 1, fail it."""
    reason = f"no {name} on this machine: what stands behind it was not tried"
    if os.environ.get("REQUIRE_ENGINES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def pgbouncer(dsn: str, mode: str, port: int, **more: str) -> Iterator[str]:
    """PgBouncer as it comes, but for `mode`, before the server of `dsn`; the DSN through it."""
    if PGBOUNCER is None:
        missing("PgBouncer")
    behind = parse_dsn(dsn)
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": "20",
        **more,
    }
    server = make_dsn(**{key: behind[key] for key in ("host", "port", "user", "password")})
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\n"
        + "".join(f"{key} = {value}\n" for key, value in settings.items())
    )
    (folder / "pgbouncer.ini").chmod(0o644)
    command = [PGBOUNCER or "", *(["-u", "nobody"] if os.geteuid() == 0 else [])]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, cwd="/"
        )
    through = make_dsn(host="127.0.0.1", port=port, user="desk", dbname=behind["dbname"])
    try:
        _answers(through, folder / "log")
        yield through
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _answers(dsn: str, log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(dsn, connect_timeout=5).close()
            return
        time.sleep(0.05)
    pytest.fail(f"PgBouncer does not answer: {log.read_text()[-500:]}")


class Failover(Background):
    """A TCP proxy before the server of `dsn`: new connections are led to the database `leads_to`,
    whatever they ask for; those that stand stay where they are, as behind a balancer of load whose
    primary has changed. `self.dsn` leads through here. Use as a context manager."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        parts = parse_dsn(dsn)
        self._target = (parts["host"], int(parts["port"]))
        self._parts = parts
        self.leads_to = parts["dbname"]
        self.major: bytes | None = None  # the version that the server is said to be of
        self._clients = 0

    async def _main(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        here = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
        plain = {"sslmode": "disable", "gssencmode": "disable"}  # the first message is looked into
        self.dsn = make_dsn(**{**self._parts, **here, **plain})
        await self._serve_until_stopped()
        server.close()
        while self._clients:  # not cancelled: the loop would tell that of each
            await asyncio.sleep(0.01)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            await self._served(reader, writer)
        finally:
            await asyncio.sleep(0)
            self._clients -= 1

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._target)
        tasks: list[asyncio.Task[Any]] = []
        try:
            length = int.from_bytes(await reader.readexactly(4))
            message = await reader.readexactly(length - 4)
            to_server.write(self._led(message))
            tasks = [
                asyncio.create_task(_copy(reader, to_server)),
                asyncio.create_task(self._down(from_server, writer)),
                asyncio.create_task(self._stop.wait()),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.IncompleteReadError:
            return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, to_server):
                with contextlib.suppress(OSError):
                    end.transport.abort()

    async def _down(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.major is not None:
                data = re.sub(rb"(server_version\0)\d\d", rb"\g<1>" + self.major, data)
            to.write(data)
            await to.drain()

    def _led(self, message: bytes) -> bytes:
        """The startup message, asking for the database that is led to."""
        fields = message[4:].rstrip(b"\0").split(b"\0")
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        if b"database" in pairs:
            pairs[b"database"] = self.leads_to.encode()
            body = b"".join(part + b"\0" for pair in pairs.items() for part in pair) + b"\0"
            message = message[:4] + body
        return (len(message) + 4).to_bytes(4) + message


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        to.write(data)
        await to.drain()
