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

from benchmarks.harness import in_turn
from compiled import warm_up

ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
HEAD = ["work", "peer", "peer ms", "ours ms", "ratio", "wanted", "largest difference"]


def arguments(doc: str | None, module: str) -> argparse.Namespace:
    """The command line; starts again on one thread, as libraries read that only at import."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.execve(
            sys.executable,
            [sys.executable, "-m", module, *sys.argv[1:]],
            {**os.environ, **ONE_THREAD},
        )
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of each side, in turn (default 5)")
    parser.add_argument("--long", action="store_true", help="also what takes minutes")
    found = parser.parse_args()
    warm_up()
    return found


def compared(
    work: str,
    peer_name: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    runs: int,
    *,
    wanted: float,
    tolerance: float = 1e-9,
    figures: Callable[[Any], Any] = np.asarray,
) -> list[str]:
    """One row: medians of both, after their figures were found to agree to `tolerance`.

    The difference is relative to the largest figure of the peer's column, or row of figures.
    `figures` takes from our result what the peer gives; it is not part of the time.
    """
    a, b = (np.asarray(f, dtype=np.float64) for f in (figures(ours()), peer()))
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        raise SystemExit(f"{work}: shapes or missing values differ from {peer_name}")
    scale = np.maximum(np.nanmax(np.abs(b), axis=0), np.finfo(float).tiny)
    difference = float(np.nanmax(np.abs(a - b) / scale))
    if difference > tolerance:
        raise SystemExit(f"{work}: differs from {peer_name} by {difference:.1e}")
    fast, slow = in_turn_repeated(ours, peer, runs)
    met = "met" if slow / fast >= wanted else "MISSED"
    return [
        work,
        peer_name,
        f"{slow * 1e3:,.2f}",
        f"{fast * 1e3:,.3f}",
        f"{slow / fast:,.1f}×",
        f"{wanted:g}× {met}",
        f"{difference:.0e}",
    ]


def in_turn_repeated(
    ours: Callable[[], Any], peer: Callable[[], Any], runs: int
) -> tuple[float, float]:
    """Median seconds per call, A B A B; a side faster than 20 ms is called again until then."""
    counts = []
    for side in (ours, peer):
        start = time.perf_counter()  # both have run before, for their figures
        side()
        counts.append(max(1, math.ceil(0.02 / (time.perf_counter() - start))))

    def repeated(side: Callable[[], Any], count: int) -> Callable[[], None]:
        def work() -> None:
            for _ in range(count):
                side()

        return work

    gc.collect()
    gc.disable()  # as timeit does: whose turn it falls into is chance
    try:
        first, second = in_turn(repeated(ours, counts[0]), repeated(peer, counts[1]), runs)
    finally:
        gc.enable()
    return first / counts[0], second / counts[1]
