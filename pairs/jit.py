"""Compiled kernels: one decorator, one warm-up.

A kernel is compiled for one list of argument types, declared where it is written: nothing is
compiled behind the user's back because an array happened to be read-only. The machine code is
cached on disk (beside the source, else in the user's cache folder, or where NUMBA_CACHE_DIR
says); `warm_up()` at install or start pays for it once. Without a writable place it is compiled
in every process, at `warm_up()` again and not at the first click.

What is cached counts for one state of all the files with kernels and helpers together: numba by
itself renews a kernel only when the kernel's own file changes, and would keep a helper of another
file as it was.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from numba import njit, types

__all__ = [
    "FLAG",
    "FLAGS",
    "INT",
    "INTS",
    "NUMBER",
    "TABLE",
    "VECTOR",
    "compiled",
    "helper",
    "warm_up",
]

Kernel = Callable[..., Any]

# Read-only arguments: an array that may be written is accepted for one that may not.
VECTOR = types.Array(types.float64, 1, "C", readonly=True)
TABLE = types.Array(types.float64, 2, "C", readonly=True)
INTS = types.Array(types.int64, 1, "C", readonly=True)
FLAGS = types.Array(types.boolean, 1, "C", readonly=True)
NUMBER, INT, FLAG = types.float64, types.int64, types.boolean

_KERNELS: list[_Kernel] = []
_HOME = Path(__file__).parent
# IEEE arithmetic as written: reordered sums would change bits between a prefix and the whole.
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}


class _Kernel:
    """A function compiled for one signature at its first call or at `warm_up`."""

    def __init__(self, function: Kernel, arguments: tuple[object, ...]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._arguments = function, arguments
        self._ready: Kernel | None = None
        self._lock = threading.Lock()

    def __call__(self, *arguments: object) -> Any:
        return (self._ready or self.compile())(*arguments)

    def compile(self) -> Kernel:
        """The machine code, from the cache where it holds this version."""
        with self._lock:
            if self._ready is None:
                try:
                    self._ready = self._compiled(cache=True)
                except (OSError, RuntimeError):  # no place to write: not a reason to stop
                    self._ready = self._compiled(cache=False)
            return self._ready

    def _compiled(self, *, cache: bool) -> Kernel:
        dispatcher = njit(cache=cache, **_OPTIONS)(self._function)
        if cache:
            dispatcher._cache._cache_file._source_stamp = _state_of_sources()
        dispatcher.compile(self._arguments)
        dispatcher.disable_compile()
        return cast(Kernel, dispatcher)


def compiled(*arguments: object) -> Callable[[Kernel], Kernel]:
    """Decorator: compile for arguments of these types, and only these."""
    _state_of_sources()  # as they are now, while they are read: a file may change later

    def decorate(function: Kernel) -> Kernel:
        kernel = _Kernel(function, arguments)
        _KERNELS.append(kernel)
        return kernel

    return decorate


def helper(function: Kernel) -> Kernel:
    """Decorator: a function for kernels; compiled into them."""
    return cast(Kernel, njit(**_OPTIONS)(function))


@functools.cache
def _sources() -> dict[Path, str]:
    """The files with a kernel or a helper, as they are when the first of them is imported."""
    texts = {path: path.read_text() for path in sorted(_HOME.rglob("*.py"))}
    return {p: t for p, t in texts.items() if "\n@compiled(" in t or "\n@helper\n" in t}


@functools.cache
def _state_of_sources() -> str:
    """A hash of everything that is compiled."""
    return hashlib.sha256("".join(_sources().values()).encode()).hexdigest()


def _with_kernels() -> list[Path]:
    """The files in which a kernel is written."""
    return [path for path, text in _sources().items() if "\n@compiled(" in text]


def warm_up() -> int:
    """Compile, or load from the cache, every kernel there is; how many.

    Some half a minute where nothing is cached, half a second afterwards. To be called at install
    and at the start of a process that shows figures.
    """
    for path in _with_kernels():
        importlib.import_module(".".join(("pairs", *path.relative_to(_HOME).with_suffix("").parts)))
    for kernel in _KERNELS:
        kernel.compile()
    return len(_KERNELS)
