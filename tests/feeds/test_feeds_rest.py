"""The weight budget, Retry-After, and answers that are no answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pairs.feeds.binance.budget import BULK, CLOSING, EDGE, FIRST, HISTORY, PROBE, Budget, Kind
from pairs.feeds.binance.protocol import SPOT, USDM
from pairs.feeds.binance.rest import BinanceRest
from pairs.retry import pause_s, retry_after_s
from tests.support.foreign import Foreign


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_without_a_header_the_own_count_keeps_the_budget_in_every_minute() -> None:
    """Asked as fast as it lets: never more than 90 % of the limit in any sliding minute."""
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
        assert 25 * sum(start <= moment < start + 60 for moment in sent) <= 5400
    assert len(sent) >= 4 * 192  # and it is used


def test_the_exchanges_count_wins_and_the_live_edge_may_go_further_than_probes() -> None:
    clock = Clock()
    budget = Budget(6000, clock)
    assert budget.wait_s(4, PROBE) == 0
    budget.record_used("4799")
    assert budget.wait_s(4, PROBE) > 0
    assert budget.wait_s(25) == 0
    budget.record_used("5500")
    assert 0 < budget.wait_s(25) <= 60
    clock.now += 61
    assert budget.wait_s(25) == 0
    budget.record_used("many")
    budget.record_used("²")
    assert budget.wait_s(25) == 0


def spent(budget: Budget, clock: Clock, kind: Kind, weight: int = 20) -> int:
    """What this kind gets at once when it asks as fast as it can."""
    count = 0
    while budget.wait_s(weight, kind) == 0:
        budget.spend(weight, kind)
        clock.now += 0.001
        count += weight
    return count


def test_a_long_repair_leaves_room_for_everything_that_must_not_wait() -> None:
    """Ten million trades under repair, and still: klines, the hole of just now, the probes."""
    clock = Clock()
    budget = Budget(6000, clock)
    assert spent(budget, clock, BULK) == pytest.approx(3900, abs=20)
    assert spent(budget, clock, HISTORY) == pytest.approx(600, abs=20)
    assert spent(budget, clock, PROBE) == pytest.approx(300, abs=20)
    assert spent(budget, clock, EDGE) == pytest.approx(600, abs=20)


def test_history_and_probes_keep_to_a_small_share_of_their_own() -> None:
    clock = Clock()
    budget = Budget(6000, clock)
    assert spent(budget, clock, HISTORY) == pytest.approx(900, abs=20)
    assert spent(budget, clock, FIRST) == pytest.approx(1500, abs=20)
    assert spent(budget, clock, CLOSING) == pytest.approx(900, abs=20)
    assert spent(budget, clock, PROBE) == pytest.approx(900, abs=20)
    assert spent(budget, clock, EDGE) == pytest.approx(1200, abs=20)
    clock.now += 61
    assert spent(budget, clock, HISTORY) == pytest.approx(900, abs=20)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        ("2.5", 2.5),
        ("0", 0),
        (None, 10),
        ("", 10),
        ("soon", 10),
        ("-3", 10),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 10),
        ("nan", 10),
        ("inf", 10),
    ],
)
def test_retry_after(text: str | None, seconds: float) -> None:
    assert retry_after_s(text, 10) == seconds


NOW = 1_790_000_000.0
BAN = "Way too much request weight used; IP(1.2.3.4) banned until %d. Please use WebSocket"
LATE = {"Date": "Mon, 21 Sep 2026 14:13:10 GMT"}  # ten seconds before NOW


@pytest.mark.parametrize(
    ("status", "number", "headers", "text", "seconds"),
    [
        (429, None, {}, "", 10),
        (429, -1003, {"Retry-After": "7"}, "", 7),
        (418, None, {}, "", 120),
        (418, -1003, {"Retry-After": "7"}, BAN % (NOW * 1000 + 300_000), 301),
        (418, -1003, {"Retry-After": "700"}, BAN % (NOW * 1000 + 300_000), 700),
        (400, -1003, {}, BAN % (NOW * 1000 + 300_000), 301),
        (403, None, {}, "<p>" + BAN % (NOW * 1000 + 300_000) + "</p>", 301),
        (200, -1003, {}, BAN % (NOW * 1000 + 300_000), 301),
        (400, -1003, LATE, BAN % (NOW * 1000 + 300_000), 311),
        (400, -1003, {}, BAN % (NOW + 300), 301),
        (400, -1003, {}, BAN % (NOW * 1e6 + 3e8), 301),
        (418, -1003, {}, BAN % (NOW * 1000 - 60_000), 120),
        (418, -1003, {}, BAN % (NOW * 1e3 + 1e12), 3 * 86_400),
        (400, -1003, {}, "Too many requests", 10),
        (400, -1015, {}, "Too many", 10),
        (400, -1000, {}, "unknown", 0),
        (400, -1121, {}, "Invalid symbol.", 0),
        (503, None, {"Retry-After": "9"}, "", 0),
        (403, None, {}, "<html>", 0),
    ],
)
def test_how_long_the_exchange_wants_no_request(
    status: int, number: int | None, headers: dict[str, str], text: str, seconds: float
) -> None:
    assert pause_s(status, number, headers, text, NOW) == pytest.approx(seconds)


def test_weights_are_those_of_the_exchange() -> None:
    assert [SPOT.weight(name) for name in ("historicalTrades", "aggTrades", "klines", "ping")] == [
        25,
        4,
        2,
        1,
    ]
    assert USDM.weight("aggTrades") == 20
    assert [USDM.weight("klines", rows) for rows in (5, 99, 100, 1000)] == [1, 1, 5, 5]


def test_what_is_over_the_budget_does_not_leave() -> None:
    """Five pages at once where the limit has room for three: the others wait their minute."""

    async def ask(url: str) -> None:
        async with BinanceRest(url, replace(SPOT, weight_per_minute=100)) as rest:
            pages = [asyncio.create_task(rest.trades_from("BTCUSDT", 1)) for _ in range(5)]
            await asyncio.wait(pages, timeout=3)
            assert sum(page.done() for page in pages) == 3
            for page in pages:
                page.cancel()
            await asyncio.wait(pages)

    with Foreign("BTCUSDT") as exchange:
        asyncio.run(ask(exchange.rest_url))
        assert len(exchange.requests) == 3
