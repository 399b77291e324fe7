"""Work that takes longer than a refresh, done beside the page: one worker, progress, results kept.

No Streamlit in it. The compiled kernels let go of Python's lock, so that a market scan or a grid
of backtests does not hold up the live numbers.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from pairs.messages import one_line

log = logging.getLogger("jobs")

KEPT = 16  # finished jobs whose results are kept, at most
BUDGET = 256 * 2**20  # bytes that they may hold together; the newest is kept whatever it holds
Progress = Callable[[int, int], None]


class Cancelled(Exception):  # noqa: N818 - it is no error
    """Raised inside a job by its progress callback once nobody wants its result."""


@dataclass
class Job:
    """One piece of work. `done` of `total` steps; `result` or `error` once `finished`. No two of
    a process have the same `number`."""

    title: str
    done: int = 0
    total: int = 0
    result: Any = None
    error: str | None = None
    finished: bool = False
    took_s: float = 0.0
    weight: int = 0  # bytes of the result, about
    number: int = field(default_factory=itertools.count(1).__next__)
    ended: float = 0.0  # by the monotonic clock
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _finished: threading.Event = field(default_factory=threading.Event)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        return self.done / self.total if self.total else 0.0

    def cancel(self) -> None:
        """Ask the job to end at its next step."""
        self._cancelled.set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has finished, within that time."""
        return self._finished.wait(timeout_s)

    def progress(self, done: int, total: int) -> None:
        """To be called by the work after each step."""
        if self._cancelled.is_set():
            raise Cancelled
        self.done, self.total = done, total


class Jobs:
    """Runs jobs one after the other; keeps the results used last, KEPT of them within BUDGET."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "jobs")
        self._lock = threading.Lock()
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()

    def submit(
        self, key: Hashable, title: str, work: Callable[[Progress], Any], *, again: bool = False
    ) -> Job:
        """The job of this key, finished, failed or not; where there is none a new one that calls
        `work(progress)`. `again`: one that has finished is done anew."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not (again and job.finished):
                self._jobs.move_to_end(key)
                return job
            job = self._jobs[key] = Job(title)
            self._jobs.move_to_end(key)
        self._pool.submit(self._do, job, work)
        return job

    def get(self, key: Hashable) -> Job | None:
        """The job of this key, None where there is none (any more)."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None:
                self._jobs.move_to_end(key)
            return job

    def forget(self, key: Hashable) -> None:
        """Let go of a job's result, which nobody needs any more."""
        with self._lock:
            self._jobs.pop(key, None)

    def _do(self, job: Job, work: Callable[[Progress], Any]) -> None:
        _run(job, work)
        with self._lock:
            job.ended = time.monotonic()
            job.finished = True
            self._forget_old()
        job._finished.set()

    def _forget_old(self) -> None:
        finished = [key for key, job in self._jobs.items() if job.finished]
        held = sum(self._jobs[key].weight for key in finished)
        while len(finished) > 1 and (len(finished) > KEPT or held > BUDGET):
            held -= self._jobs.pop(finished.pop(0)).weight


def _run(job: Job, work: Callable[[Progress], Any]) -> None:
    start = time.monotonic()
    try:
        job.progress(0, 0)
        job.result = work(job.progress)
    except Cancelled:
        job.error = "cancelled"
    except ValueError as error:  # what was given is refused: no fault of the program
        log.warning("%s failed: %s", job.title, error)
        job.error = one_line(error)
    except Exception as error:
        log.exception("%s failed", job.title)
        job.error = one_line(error)
    job.took_s = time.monotonic() - start
    job.weight = weight_of(job.result)


def weight_of(result: Any) -> int:
    """The bytes that a result holds, about: its arrays and frames, however deep, each once."""
    seen: set[int] = set()

    def weigh(part: Any) -> int:
        if id(part) in seen:
            return 0
        seen.add(id(part))
        if isinstance(part, pd.DataFrame | pd.Series | pd.Index):
            return int(np.sum(part.memory_usage(deep=True)))
        if isinstance(part, np.ndarray):
            return part.nbytes
        if isinstance(part, str | bytes | bytearray | int | float | type(None)):
            return sys.getsizeof(part)
        if is_dataclass(part):
            return sum(weigh(getattr(part, f.name)) for f in fields(part))
        if isinstance(part, dict):
            return sys.getsizeof(part) + sum(weigh(k) + weigh(v) for k, v in part.items())
        if isinstance(part, list | tuple | set | frozenset):
            return sys.getsizeof(part) + sum(map(weigh, part))
        return sys.getsizeof(part)

    return weigh(result)
