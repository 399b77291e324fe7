"""What is asked of a database that is away or hangs."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from pairs.live import asking
from pairs.live.asking import Remembered, UnansweredError


def test_the_last_answer_stands_while_there_is_no_other() -> None:
    remembered = Remembered((OSError,))

    def fail() -> int:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        remembered.get("a", fail)
    assert remembered.get("a", lambda: 1) == 1
    assert remembered.get("a", fail) == 1
    assert remembered.get("a", lambda: 2) == 2
    with pytest.raises(ZeroDivisionError):  # what is no absence is an error of ours
        remembered.get("a", lambda: 1 // 0)


def test_nobody_waits_long_and_nothing_is_asked_twice_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.05)
    monkeypatch.setattr(asking, "TROUBLED_S", 0.01)
    remembered, go, count = Remembered((OSError,)), threading.Event(), []

    def hang() -> int:
        count.append(1)
        go.wait(30)
        return len(count)

    for _ in range(3):
        with pytest.raises(UnansweredError):
            remembered.get("a", hang)
    assert remembered.get("b", lambda: 7) == 7
    assert count == [1]
    go.set()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(UnansweredError):
            assert remembered.get("a", hang) >= 1
            return
    raise AssertionError("there is no answer yet")
