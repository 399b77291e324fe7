"""A bounded cache shared by threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Least recently used first out, once the weights add up to more than `capacity`.

    Values are made outside the lock: two threads may make the same one, but none waits for a
    long making of another.
    """

    def __init__(self, capacity: float, weight: Callable[[V], float]) -> None:
        self._capacity = capacity
        self._weight = weight
        self._total = 0.0
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def peek(self, key: K) -> V | None:
        """The value where it is there, else None."""
        with self._lock:
            value = self._items.get(key)
            if value is not None:
                self._items.move_to_end(key)
            return value

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value, made where it is not there."""
        value = self.peek(key)
        if value is not None:
            return value
        value = make()
        with self._lock:
            if key not in self._items:
                self._items[key] = value
                self._total += self._weight(value)
            while self._total > self._capacity and len(self._items) > 1:
                _, old = self._items.popitem(last=False)
                self._total -= self._weight(old)
            return value
