"""Which hole is repaired when, and how far back."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from pairs.feeds.binance.protocol import SPOT
from pairs.feeds.binance.rest import BinanceRest
from pairs.ingest.repair import Repair
from pairs.market import Trade
from pairs.settings import load_settings
from pairs.storage.audit import audit
from pairs.storage.postgres import PostgresStore
from tests.support.foreign import Foreign
from tests.support.history import now_ms, printed, run, stored
from tests.support.records import gaps, reasons

HOUR_MS = 3_600_000


def mend(
    store: PostgresStore, exchange: Foreign, hours: float = 48.0, seconds: float = 60
) -> list[int]:
    """Repair until no gap is open; the ids that trades were asked for from, in order."""

    async def work() -> None:
        async with BinanceRest(exchange.rest_url, SPOT) as rest:
            repair = Repair(store, rest, "binance", hours)
            async with asyncio.TaskGroup() as parts:
                for symbol in exchange.trades:
                    parts.create_task(repair.watch(symbol))

    run(work, lambda: all(state != "open" for _, _, state in gaps(store)), seconds)
    return asked(exchange)


def asked(exchange: Foreign) -> list[int]:
    return [
        int(request.split("fromId=")[1].split("&")[0])
        for request in exchange.requests
        if request.startswith("historicalTrades")
    ]


def test_the_newest_hole_comes_first_and_a_page_before_many(store: PostgresStore) -> None:
    with Foreign("AAAUSDT") as exchange:
        start = now_ms() - HOUR_MS
        printed(exchange, "AAAUSDT", start, start + HOUR_MS, 500)
        exchange.trades["AAAUSDT"] = exchange.trades["AAAUSDT"][:7000]
        small = (range(5600, 5610), range(6500, 6510), range(6800, 6810), range(6900, 6901))
        holes = (range(100, 2600), range(3000, 5500), *small)
        lost = {i for hole in holes for i in hole}
        stored(store, exchange, "AAAUSDT", lost)  # type: ignore[arg-type]
        order = mend(store, exchange)
    # Three small ones lie together and come with one page.
    assert order == [6500, 5600, 3000, 4000, 5000, 100, 1100, 2100]
    assert audit(store)["ok"]


def test_a_hole_opened_during_a_long_repair_is_served_between_two_pages(
    store: PostgresStore,
) -> None:
    with Foreign("AAAUSDT", slow_s={"historicalTrades": 0.1}) as exchange:
        start = now_ms() - 12 * HOUR_MS
        printed(exchange, "AAAUSDT", start, start + 11 * HOUR_MS, 1_000)
        stored(store, exchange, "AAAUSDT", range(100, 39_000))

        def opened() -> bool:
            """Ten more trades are missed once five pages have come."""
            last = exchange.trades["AAAUSDT"][-1]["id"]
            if last == 39_600 and len(exchange.requests) > 5:
                exchange.print_trades("AAAUSDT", 30)
                rows = exchange.trades["AAAUSDT"][-20:]
                store.write(
                    "binance",
                    [
                        Trade(
                            "AAAUSDT",
                            r["id"],
                            r["T"] * 1000,
                            float(r["p"]),
                            float(r["q"]),
                            r["m"],
                            1,
                        )
                        for r in rows
                    ],
                )
            return (39_601, 39_610, "filled") in gaps(store)

        async def work() -> None:
            async with BinanceRest(exchange.rest_url, SPOT) as rest:
                await Repair(store, rest, "binance", 48.0).watch("AAAUSDT")

        assert exchange.trades["AAAUSDT"][-1]["id"] == 39_600
        run(work, opened)
        order = asked(exchange)
    assert 39_601 in order
    assert len(order) < 20  # and not after the 39 pages of the other


def test_what_is_older_than_the_bound_is_given_up_and_told(
    store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A hole of six hours, of which two may be repaired by id."""
    with Foreign("AAAUSDT") as exchange:
        start = now_ms() - 8 * HOUR_MS
        printed(exchange, "AAAUSDT", start, now_ms(), 10_000)
        stored(store, exchange, "AAAUSDT", range(361, 2521))
        newest = exchange.trades["AAAUSDT"][-1]["T"]
        with caplog.at_level(logging.ERROR, "repair"):
            order = mend(store, exchange, hours=2.0)
        first = next(r["id"] for r in exchange.trades["AAAUSDT"] if r["T"] >= newest - 2 * HOUR_MS)
    assert gaps(store) == [(361, first - 1, "unrecoverable"), (first, 2520, "filled")]
    assert min(order) == first
    assert "REPAIR_HOURS=2" in reasons(store).pop()
    assert "gap_lost" in caplog.text
    assert "REPAIR_HOURS=2" in caplog.text


def test_a_hole_that_lies_beyond_the_bound_altogether_costs_no_request(
    store: PostgresStore,
) -> None:
    with Foreign("AAAUSDT") as exchange:
        printed(exchange, "AAAUSDT", now_ms() - 8 * HOUR_MS, now_ms(), 10_000)
        stored(store, exchange, "AAAUSDT", range(361, 721))
        assert mend(store, exchange, hours=2.0) == []
        assert exchange.requests == []
    assert gaps(store) == [(361, 720, "unrecoverable")]


def test_a_replay_of_old_trades_is_repaired_whatever_this_machines_clock_says(
    store: PostgresStore,
) -> None:
    with Foreign("AAAUSDT") as exchange:
        printed(exchange, "AAAUSDT", 1_723_161_000_000, 1_723_161_060_000, 100)
        stored(store, exchange, "AAAUSDT", range(100, 200))
        mend(store, exchange)
    assert gaps(store) == [(100, 199, "filled")]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ((4_400_000_000, 1_723_161_000_000), (90_000_000, None)),
        ((90_000_000, None), (4_400_000_000, 1_723_161_000_000)),
    ],
    ids=["first a replay, then a market", "first a market, then a replay"],
)
def test_two_counts_of_ids_in_one_record_are_told_apart_by_their_times(
    store: PostgresStore,
    before: tuple[int, int | None],
    behind: tuple[int, int | None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Billions of ids lie between them and no trade: not one request, said aloud."""
    with Foreign("AAAUSDT") as exchange:
        for first, at_ms in (before, behind):
            exchange._print("AAAUSDT", 50, first, at_ms)
            stored(store, exchange, "AAAUSDT", range(0))
        began = time.monotonic()
        with caplog.at_level(logging.ERROR, "repair"):
            assert mend(store, exchange) == []
        assert time.monotonic() - began < 10
    assert gaps(store) == [(90_000_050, 4_399_999_999, "unrecoverable")]
    assert "ids began anew" in reasons(store).pop()
    assert "ids began anew" in caplog.text
    assert audit(store)["ok"]


def test_the_bound_is_never_further_back_than_trades_are_kept() -> None:
    assert load_settings({}).repaired_hours == 48
    assert load_settings({"TICK_RETENTION_DAYS": "1"}).repaired_hours == 24
    assert load_settings({"TICK_RETENTION_DAYS": "30"}).repaired_hours == 48
    assert load_settings({"REPAIR_HOURS": "6", "TICK_RETENTION_DAYS": "1"}).repaired_hours == 6
