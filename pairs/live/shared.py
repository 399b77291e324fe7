"""What several sessions need, made once: a bounded store of results by key.

Not Streamlit's cache: that keeps a lock for every key it has ever seen, and the keys here hold the
time of the newest bar. A page left open over a day of one-second bars would hold a million.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class _Entry:
    """A result, or what waits for it."""

    __slots__ = ("lock", "made", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made = False
        self.value: Any = None


class SharedResults:
    """The newest `most` results by key, those used last the newest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, make: Callable[[], Any], key: Hashable) -> Any:
        """What `make` gives, made by the first who asks; the others wait for it. Where it fails,
        its error is raised and the next one tries again."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        with entry.lock:
            if not entry.made:
                entry.value = make()
                entry.made = True
            return entry.value

    def __len__(self) -> int:
        return len(self._entries)
