"""A question to the database that several may wait for, none of them for long.

It is asked in a thread of its own: a database that hangs then holds up that thread alone, and
whoever waits gets his turn again with the reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

PATIENCE_S = 3.0
TROUBLED_S = 0.5  # where the last answer was an error already

Answer = TypeVar("Answer")


class Asked(Generic[Answer]):
    """One question under way. What `read` raises comes out of `answer`."""

    def __init__(self, read: Callable[[], Answer]) -> None:
        self._began = time.monotonic()
        self._future: Future[Answer] = Future()
        threading.Thread(target=self._ask, args=(read,), daemon=True).start()

    def _ask(self, read: Callable[[], Answer]) -> None:
        try:
            self._future.set_result(read())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is asked for
            self._future.set_exception(error)

    @property
    def open(self) -> bool:
        """Whether there is no answer yet."""
        return not self._future.done()

    def answer(self, patience_s: float | None = None) -> Answer:
        """The answer. Raises UnansweredError once `patience_s` (PATIENCE_S) have passed since the
        question."""
        patience_s = PATIENCE_S if patience_s is None else patience_s
        left_s = patience_s - (time.monotonic() - self._began)
        try:
            return self._future.result(max(0.0, left_s))
        except TimeoutError:
            if self._future.done():
                raise
        waited_s = time.monotonic() - self._began
        raise UnansweredError(f"the database has not answered for {waited_s:.0f} s")


class Remembered:
    """Answers by key, few of them, kept for when the database is away: who asks again gets the
    last one then, or the reason where there is none."""

    def __init__(self, errors: tuple[type[BaseException], ...]) -> None:
        self._errors: tuple[type[BaseException], ...] = (*errors, UnansweredError)
        self._lock = threading.Lock()
        self._open: dict[Hashable, Asked[Any]] = {}
        self._last: dict[Hashable, Any] = {}

    def get(self, key: Hashable, read: Callable[[], Answer]) -> Answer:
        """What `read` gives, waited for as `Asked` does; never asked twice at once."""
        with self._lock:
            asked = self._open.get(key)
            troubled = asked is not None
            if asked is None:
                asked = self._open[key] = Asked(read)
        try:
            self._last[key] = asked.answer(TROUBLED_S if troubled else None)
        except self._errors:
            if key not in self._last:
                raise
        finally:
            if not asked.open:
                with self._lock:
                    self._open.pop(key, None)
        kept: Answer = self._last[key]
        return kept


class UnansweredError(RuntimeError):
    """There is no answer yet; the question stands."""
