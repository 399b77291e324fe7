"""A TCP proxy before PostgreSQL that cuts connections at a chosen moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from urllib.parse import urlsplit, urlunsplit

from tests.support.background import Background


class CuttingProxy(Background):
    """Forwards to the server of `dsn`; `self.dsn` leads through here. Use as a context manager.

    While `cut` is above 0, a COMMIT that a client sends is passed on, but its answer is not: both
    ends of that connection are reset instead. `chance` of the commits are cut, `cut` in all.
    """

    def __init__(self, dsn: str, *, seed: int = 0) -> None:
        super().__init__()
        parts = urlsplit(dsn)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._parts = parts
        self._rng = random.Random(seed)
        self.chance = 0.0
        self.cut = 0

    async def _main(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        self.dsn = urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{port}"))
        await self._serve_until_stopped()
        server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*self._target)
        doomed = asyncio.Event()

        async def up() -> None:
            while data := await reader.read(65536):
                if b"COMMIT" in data and self._rng.random() < self.chance:
                    doomed.set()
                to_server.write(data)
                await to_server.drain()

        async def down() -> None:
            while data := await from_server.read(65536):
                if doomed.is_set():
                    self.cut += 1
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, to_server):
                with contextlib.suppress(OSError):
                    end.transport.abort()


class SilentNetwork:
    """A relay to a server of this machine whose lines can fall silent: nothing arrives any more,
    in neither direction, and no end is told. What was sent meanwhile arrives afterwards."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._port)) as far:
            back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
            back.start()
            self._carry(near, far)
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either side may go at any time
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
