"""Results shared by the sessions: made once, bounded, a failure not kept."""

from __future__ import annotations

import threading

import pytest

from pairs.live.shared import SharedResults


def test_threads_that_ask_at_once_get_what_one_of_them_made() -> None:
    once, made, begun = SharedResults(8), [], threading.Event()
    go_on = threading.Event()

    def make() -> object:
        begun.set()
        assert go_on.wait(20)
        made.append(object())
        return made[-1]

    found: list[object] = []
    asking = [threading.Thread(target=lambda: found.append(once.get(make, "a"))) for _ in range(4)]
    for thread in asking:
        thread.start()
    assert begun.wait(20)
    assert once.get(lambda: "other", "b") == "other"  # another key does not wait
    go_on.set()
    for thread in asking:
        thread.join(20)
    assert len(made) == 1
    assert found == made * 4


def test_a_key_forgotten_leaves_nothing_behind() -> None:
    once = SharedResults(3)
    for bar in range(1000):
        assert once.get(lambda: bar, ("chart", bar)) == bar  # noqa: B023 - called at once
        once.get(lambda: "kept", "used at every bar")
    assert len(once) == 3
    assert once.get(lambda: "made anew", "used at every bar") == "kept"
    assert once.get(lambda: "made anew", ("chart", 0)) == "made anew"


def test_a_failure_is_not_kept() -> None:
    once = SharedResults(3)

    def fail() -> None:
        raise ValueError("no bars")

    with pytest.raises(ValueError, match="no bars"):
        once.get(fail, "a")
    assert once.get(lambda: None, "a") is None
    assert once.get(lambda: "nothing is a result too", "a") is None
