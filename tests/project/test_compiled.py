"""Kernels are compiled once, for read-only and writable arrays alike, with or without a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pairs import jit
from pairs.analytics.windows import window_score
from pairs.jit import INT, VECTOR, warm_up

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import numpy as np
from pairs.analytics import windows
print(windows.window_sum(np.arange(5.0), 2)[-1])
"""


def test_everything_is_compiled_before_the_first_figure() -> None:
    assert warm_up() == len(jit._KERNELS) >= 12
    ready = [kernel._ready for kernel in jit._KERNELS]
    assert None not in ready
    assert warm_up() == len(ready)
    assert all(kernel._ready is r for kernel, r in zip(jit._KERNELS, ready, strict=True))


def test_every_module_with_kernels_is_warmed_up() -> None:
    found = {path for path in (ROOT / "pairs").rglob("*.py") if "@compiled(" in path.read_text()}
    assert {path.resolve() for path in jit._with_kernels()} == found - {ROOT / "pairs/jit.py"}


def test_read_only_arrays_need_no_code_of_their_own() -> None:
    values = np.random.default_rng(0).normal(size=100)
    frozen = values.copy()
    frozen.setflags(write=False)
    assert np.array_equal(window_score(values, 5), window_score(frozen, 5), equal_nan=True)
    for kernel in jit._KERNELS:
        assert kernel._ready is None or len(kernel._ready.signatures) == 1  # type: ignore[attr-defined]


def test_other_types_are_refused_not_compiled() -> None:
    with pytest.raises(TypeError):
        window_score(np.arange(10), 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError("no locator"), OSError("disk full")])
def test_a_cache_that_cannot_be_written_is_done_without(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = jit.njit, []

    def njit(**options: object) -> object:
        asked.append(options["cache"])
        if options["cache"]:
            raise error
        return real(**options)

    monkeypatch.setattr(jit, "njit", njit)
    monkeypatch.setattr(jit, "_KERNELS", [])
    kernel = jit.compiled(VECTOR, INT)(lambda values, times: values.sum() * times)
    assert kernel(np.ones(4), 2) == 8.0
    assert asked == [True, False]


@pytest.mark.processes
def test_a_helper_of_another_file_is_never_a_stale_one(tmp_path: Path) -> None:
    """numba renews a cached kernel only where the kernel's own file has changed."""
    helper = "from pairs.jit import helper\n\n\n@helper\ndef times(v):\n    return v * {}\n"
    (tmp_path / "kernel.py").write_text(
        "from helpers import times\nfrom pairs.jit import NUMBER, compiled\n\n\n"
        "@compiled(NUMBER)\ndef kernel(v):\n    return times(v)\n"
    )
    program = (
        "from pathlib import Path\nfrom pairs import jit\njit._HOME = Path('.')\n"
        "from kernel import kernel\nprint(kernel(2.0))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    environment.pop("NUMBA_CACHE_DIR", None)

    def result(factor: int) -> str:
        (tmp_path / "helpers.py").write_text(helper.format(factor))
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout.strip()

    def code() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}

    assert result(2) == "4.0"
    first = code()
    assert result(2) == "4.0"
    assert code() == first != {}
    assert result(3) == "6.0"


@pytest.mark.processes
def test_the_cache_is_where_it_is_asked_for(tmp_path: Path) -> None:
    """A second process finds the machine code of the first."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    made = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == "7.0"
        made.append({path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")})
    assert made[0] == made[1] != {}
