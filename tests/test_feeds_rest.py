"""The weight budget, Retry-After, and answers that are no answers."""

from __future__ import annotations

import pytest

from feeds.backoff import retry_after_s
from feeds.binance import SPOT, USDM
from feeds.weights import Budget


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_header_the_own_count_keeps_the_budget_in_every_minute() -> None:
    """Asked as fast as it lets: never more than 80 % of the limit in any sliding minute."""
    clock, sent = Clock(), []
    budget = Budget(6000, clock)
    while clock.now < 1300:
        wait = budget.wait_s(25)
        clock.now += wait
        if wait == 0:
            budget.spend(25)
            sent.append(clock.now)
            clock.now += 0.01
    for start in sent:
        assert 25 * sum(start <= moment < start + 60 for moment in sent) <= 4800
    assert len(sent) >= 4 * 192  # and it is used


def test_the_exchanges_count_wins_and_probes_may_go_a_little_further() -> None:
    clock = Clock()
    budget = Budget(6000, clock)
    assert budget.wait_s(25) == 0
    budget.told("4790")
    assert budget.wait_s(25) > 0
    assert budget.wait_s(4, urgent=True) == 0
    budget.told("5500")
    assert 0 < budget.wait_s(4, urgent=True) <= 60
    clock.now += 61
    assert budget.wait_s(25) == 0
    budget.told("many")
    budget.told("²")
    assert budget.wait_s(25) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("2.5", 2.5), ("0", 0), (None, 10), ("", 10), ("soon", 10), ("-3", 10),
     ("Wed, 21 Oct 2026 07:28:00 GMT", 10), ("nan", 10), ("inf", 10)],
)  # fmt: skip
def test_retry_after(text: str | None, seconds: float) -> None:
    assert retry_after_s(text, 10) == seconds


def test_weights_are_those_of_the_exchange() -> None:
    assert [SPOT.weight(name) for name in ("historicalTrades", "aggTrades", "klines", "ping")] == [
        25, 4, 2, 1,
    ]  # fmt: skip
    assert USDM.weight("aggTrades") == 20
