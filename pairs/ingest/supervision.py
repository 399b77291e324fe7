"""The parts of a daemon beside its writer: each runs for ever, and none ends unheard.

A part that ends, by whatever error, is told in one line, counted, and begun again after a wait
that grows. While it is down its name and reason stand in `trouble`, until it has run for a while.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pairs.ingest import metrics
from pairs.messages import one_line
from pairs.retry import backoff

log = logging.getLogger("ingest")

WELL_S = 10.0  # a part that has run this long is well again, and its next wait is short


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part that is down, or has just been begun again."""

    part: str
    symbols: frozenset[str]
    why: str
    vital: bool  # without it what arrives, or what is told of it, is not to be relied on


class Supervisor:
    """Runs parts. Errors of the kinds `fatal` are not survived: they come out of `run`."""

    def __init__(self, fatal: tuple[type[BaseException], ...]) -> None:
        self._fatal = fatal
        self.trouble: dict[str, Trouble] = {}

    async def run(
        self,
        part: str,
        work: Callable[[], Awaitable[object]],
        *,
        symbols: Iterable[str] = (),
        vital: bool = False,
    ) -> None:
        """Run `work` again whenever it ends, until cancelled."""
        waits = _waits()
        concerned = frozenset(symbols)
        while True:
            began = time.monotonic()
            well = asyncio.get_running_loop().call_later(WELL_S, self.trouble.pop, part, None)
            try:
                await work()
                why = "it ended without an error"
                log.error('part_ended part="%s"', part)
            except self._fatal:
                raise
            except Exception as error:
                why = reported(error)
                log.error('part_failed part="%s" error="%s"', part, why)
                log.debug("part_failed part=%r", part, exc_info=error)
            finally:
                well.cancel()
            self.trouble[part] = Trouble(part, concerned, why, vital)
            metrics.PARTS_FAILED.labels(part.split()[0]).inc()
            if time.monotonic() - began > WELL_S:
                waits = _waits()
            wait = next(waits)
            log.info('part_restarts part="%s" in_s=%.1f', part, wait)
            await asyncio.sleep(wait)

    def about(self, symbol: str) -> tuple[bool, str]:
        """Whether a vital part is down for this symbol, and what is to be said of all that are."""
        mine = [t for t in self.trouble.values() if not t.symbols or symbol in t.symbols]
        return any(t.vital for t in mine), "; ".join(f"{t.part} is down: {t.why}" for t in mine)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait for them. What one ended with before is told, not swallowed."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting)
    for task in waiting:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error('ended_with task="%s" error="%s"', task.get_name(), reported(error))


def reported(error: BaseException) -> str:
    """An error, and those of a group, with their kinds, in one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(reported(one) for one in error.exceptions)
    kind, text = type(error).__name__, one_line(error)
    return kind if text == kind else f"{kind}: {text}"


def _waits() -> Iterator[float]:
    return backoff(random.Random(), 0.5, 30.0)  # noqa: S311 - jitter, not cryptography
