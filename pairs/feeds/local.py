"""The local exchange as a child process: where trades come from when Binance cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pairs.messages import NOT_NOW

ROOT = Path(__file__).resolve().parents[2]
READY = "exchange ready "
START_TIMEOUT_S = 30.0


class LocalExchangeError(RuntimeError):
    """The local exchange did not start."""

    exit_code = NOT_NOW


class LocalExchange:
    """Runs `python -m exchange` and keeps its addresses; it ends with this process."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = symbols
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0
        self.ws_url = self.rest_url = ""

    async def ensure(self) -> None:
        """Start it where it does not run; after the first time on the same port."""
        if self._process is not None and self._process.returncode is None:
            return
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exchange",
            "--port",
            str(self._port),
            "--exit-with-parent",
            "--symbols",
            ",".join(self._symbols),
            cwd=ROOT,
            start_new_session=True,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        text = line.decode().strip()
        if not text.startswith(READY):
            await self.stop()
            raise LocalExchangeError(
                f"the local exchange did not start (said {text!r}): try `python -m exchange`"
            )
        self.ws_url, self.rest_url = text.removeprefix(READY).split()
        self._port = int(self.ws_url.rsplit(":", 1)[1])

    async def stop(self) -> None:
        """End it and wait for its end."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
