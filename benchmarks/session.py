"""A visitor of a Streamlit page without a browser: speaks its socket and answers its timers.

What a tab costs the server can so be measured without what it costs the browser, and ten tabs
without ten renderers. It behaves as the browser does: a timer per fragment that asked for one,
and the hashes of the messages it keeps, so that the server may send references.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

KEPT = 50  # messages a visitor keeps to be referred to


class Session:
    """One visitor: bytes received, refreshes shown, and the moments at which they came."""

    def __init__(self, connection: ClientConnection, query: str) -> None:
        self._connection, self._query = connection, query
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._kept: dict[str, None] = {}
        self.received = 0
        self.runs = 0  # of the whole page
        self.fragments = 0  # runs of a fragment
        self.failures: list[str] = []
        self.began = time.monotonic()
        self.shown = asyncio.Event()  # the first run of the page has ended
        self.first_run_s = 0.0

    @property
    def refreshes(self) -> float:
        """By whole runs where the page has no timers, else every timer's fragment once."""
        return self.fragments / len(self._timers) if self._timers else float(self.runs)

    async def ask(self, fragment: str = "") -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.fragment_id = self._query, fragment
        state.is_auto_rerun = bool(fragment)
        state.cached_message_hashes.extend(self._kept)
        await self._connection.send(message.SerializeToString())

    async def listen(self) -> None:
        await self.ask()
        async for frame in self._connection:
            self.received += len(frame)
            message = ForwardMsg()
            message.ParseFromString(frame if isinstance(frame, bytes) else frame.encode())
            self._note(message)

    def _note(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if message.metadata.cacheable or kind == "ref_hash":
            known = message.ref_hash if kind == "ref_hash" else message.hash
            self._kept.pop(known, None)
            self._kept[known] = None
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        if kind == "new_session":
            fragments = message.metadata.run.fragment_ids
            self.fragments += len(fragments)
            self.runs += not fragments
        elif kind == "script_finished" and not self.shown.is_set():
            self.first_run_s = time.monotonic() - self.began
            self.shown.set()
        elif kind == "auto_rerun":
            wanted = message.auto_rerun
            if wanted.fragment_id not in self._timers:
                timer = self._repeat(wanted.fragment_id, wanted.interval)
                self._timers[wanted.fragment_id] = asyncio.create_task(timer)
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            self.failures.append(message.delta.new_element.exception.message)

    async def _repeat(self, fragment: str, seconds: float) -> None:
        due = time.monotonic()
        while True:
            due += seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.ask(fragment)

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        await self._connection.close()


@contextlib.asynccontextmanager
async def visitors(url: str, query: str, count: int) -> AsyncIterator[list[Session]]:
    """`count` visitors of a page, each with its first picture."""
    made: list[Session] = []
    tasks: list[asyncio.Task[None]] = []
    address = url.replace("http", "ws", 1) + "/_stcore/stream"
    try:
        for _ in range(count):
            connection = await connect(address, max_size=None, compression=None)
            made.append(Session(connection, query))
            tasks.append(asyncio.create_task(made[-1].listen()))
            shown = asyncio.create_task(made[-1].shown.wait())
            await asyncio.wait({shown, tasks[-1]}, return_when=asyncio.FIRST_COMPLETED)
            if not shown.done():
                shown.cancel()
                tasks[-1].result()
                raise SystemExit(f"{url} closed the connection")
        yield made
    finally:
        for session in made:
            await session.close()
        await asyncio.gather(*tasks)
        for session in made:
            if session.failures:
                raise SystemExit(f"the page failed: {session.failures[0]}")
