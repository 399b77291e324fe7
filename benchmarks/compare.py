"""What the benchmarks of the maths share: one thread, agreement before time, one row of a table."""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import Cell, Timing, in_turn, milliseconds, options, parser, ratio, verdict
from pairs.jit import warm_up

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
HEAD = ["work", "peer", "peer ms", "ours ms", "ratio", "wanted", "largest difference"]


def arguments(doc: str | None, module: str) -> argparse.Namespace:
    """The command line; starts again on one thread, as libraries read that only at import."""
    if any(os.environ.get(key) != value for key, value in ONE_THREAD.items()):
        os.execve(
            sys.executable,
            [sys.executable, "-m", module, *sys.argv[1:]],
            {**os.environ, **ONE_THREAD},
        )
    found = options(parser(doc))
    warm_up()
    return found


def compared(
    work: str,
    peer_name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    runs: int,
    *,
    wanted: float | None,
    tolerance: float = 1e-9,
    figures: Callable[[Any], Any] = np.asarray,
) -> list[str]:
    """One row: medians of both, after their figures were found to agree to `tolerance`.

    The difference is relative to the largest figure of the peer's column, or row of figures.
    `figures` takes from our result what the peer gives; it is not part of the time.
    """
    difference = checked(work, peer_name, figures(ours()), peer(), tolerance)
    fast, slow = in_turn_repeated(ours, peer, runs=runs)
    return [
        work,
        peer_name,
        milliseconds(slow),
        milliseconds(fast),
        ratio(slow / fast),
        "" if wanted is None else verdict(slow / fast, wanted, f"{wanted:g}×"),
        difference,
    ]


def checked(work: str, peer_name: str, ours: Any, peer: Any, tolerance: float) -> Cell:
    """The largest relative difference of the two; ends the program where it is too large."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(peer, dtype=np.float64)
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise SystemExit(f"{work}: shapes or missing values differ from {peer_name}")
    scale = np.maximum(np.nanmax(np.abs(b), axis=0), np.finfo(float).tiny)
    difference = float(np.nanmax(np.abs(a - b) / scale))
    if difference > tolerance:
        raise SystemExit(f"{work}: differs from {peer_name} by {difference:.1e}")
    return Cell(f"{difference:.0e}", difference)


TURN_S = 0.2


def in_turn_repeated(*sides: Callable[[], Any], runs: int) -> list[Timing]:
    """Seconds per call, A B A B; a side faster than TURN_S is called again until then, as timeit
    does: a processor that has waited for the other side takes a while to its full clock."""
    counts = []
    for side in sides:
        start = time.perf_counter()  # all have run before, for their figures
        side()
        counts.append(max(1, math.ceil(TURN_S / (time.perf_counter() - start))))

    def repeated(side: Callable[[], Any], count: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(count):
                side()

        return work

    gc.collect()
    gc.disable()  # as timeit does: whose turn it falls into is chance
    try:
        found = in_turn(*map(repeated, sides, counts), runs=runs)
    finally:
        gc.enable()
    return [timing / count for timing, count in zip(found, counts, strict=True)]
