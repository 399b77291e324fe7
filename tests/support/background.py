"""What the tests put between or beside the programs, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """Runs `_main` in a thread, as a context manager. `_main` ends with `_serve_until_stopped`,
    from when on it is ready to be used."""

    def __init__(self) -> None:
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._begin()))
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _begin(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self._main()

    @abstractmethod
    async def _main(self) -> None: ...

    async def _serve_until_stopped(self) -> None:
        self._ready.set()
        await self._stop.wait()
