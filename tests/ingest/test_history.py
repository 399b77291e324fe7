"""Klines: in place of the time before the record, and of trades that were given up."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from pairs.feeds.binance.protocol import USDM
from pairs.feeds.binance.rest import BinanceRest
from pairs.ingest import backfill
from pairs.ingest.backfill import History
from pairs.ingest.repair import Repair
from pairs.storage.gaps import Gap
from pairs.storage.postgres import PostgresStore
from pairs.storage.wanted import Stretch, want, wanted
from tests.support.foreign import Foreign
from tests.support.history import bars, fetch, now_ms, printed, run, stored

HOUR_MS = 3_600_000


def left(store: PostgresStore) -> int:
    with store.transaction() as cursor:
        cursor.execute("SELECT count(*) FROM kline_wanted")
        return int((cursor.fetchone() or (0,))[0])


# -- the history before the start


def test_an_exchange_slower_than_its_seconds_ends_and_serves_every_symbol(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seconds to each answer: in that time three more 1 s bars have closed, so that running
    after the clock never ends, nor may the bits of the running minute keep the older pages waiting.
    Minutes of every symbol come before seconds of any."""
    monkeypatch.setattr(backfill, "SECONDS_OF_HISTORY", 1500)
    symbols = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT", "EEEUSDT", "FFFUSDT")
    with Foreign(*symbols, slow_s={"klines": 3.0}) as exchange:
        start = now_ms() // 60_000 * 60_000 - HOUR_MS
        for symbol in symbols:
            printed(exchange, symbol, start, now_ms(), 7_000)
        fetch(store, exchange, lambda: all(len(bars(store, s, 1)) > 200 for s in symbols), 1.0, 60)
        asked = [r for r in exchange.requests if r.startswith("klines")]
    # to a symbol: the minutes, two pages of seconds, and the running minute in either length; where
    # the seconds end with a silent one, once more for what is missing
    assert len(asked) <= len(symbols) * (1 + 2 * 2 + 1 + 2) + backfill.SIDE_BY_SIDE
    minutes = [k for k, r in enumerate(asked) if "interval=1m" in r]
    seconds = [k for k, r in enumerate(asked) if "interval=1s" in r]
    assert max(minutes[: len(symbols)]) < len(symbols) + backfill.SIDE_BY_SIDE
    assert len(seconds) >= len(symbols)
    for symbol in symbols:
        assert len(bars(store, symbol, 60)) >= 59
        spans = [
            (int(found[1]), int(found[2]) + 1)
            for r in asked
            if (found := re.search(rf"{symbol}&interval=1s&startTime=(\d+)&endTime=(\d+)", r))
        ]
        older = spans.index(min(spans))
        # What lies behind the first page is a bit, unless its minute has ended meanwhile.
        bits = [k for k, (first, end) in enumerate(spans) if first >= spans[0][1] and end % 60_000]
        assert older < min(bits, default=len(spans))


def test_what_has_come_is_stored_and_the_rest_waits_for_the_next_start(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange goes away after two pages, and the daemon ends; the next one asks for the
    rest alone."""
    monkeypatch.setattr(backfill, "REST_PAGE", 20)
    with Foreign("AAAUSDT") as exchange:
        start = now_ms() // 60_000 * 60_000 - 2 * HOUR_MS
        printed(exchange, "AAAUSDT", start, now_ms(), 20_000)

        def two_pages() -> bool:
            if len(bars(store, "AAAUSDT", 60)) >= 20:
                exchange.odd.failing = {"klines"}
            return bool(exchange.odd.failing)

        fetch(store, exchange, two_pages, 2.0)
        before = {row[0] for row in bars(store, "AAAUSDT", 60)}
        assert 20 <= len(before) < 115
        newest = max(before)
        assert newest >= now_ms() // 1000 - 180  # newest first
        exchange.odd.failing = set()
        fetch(store, exchange, lambda: len(bars(store, "AAAUSDT", 60)) >= 119)


@pytest.mark.parametrize("missing", [set(), {"time"}], ids=["by its clock", "by its bars"])
def test_a_bar_is_stored_only_once_it_has_closed(store: PostgresStore, missing: set[str]) -> None:
    """The forming minute is told with the trades it has so far: it waits for its end."""
    with Foreign("AAAUSDT", missing=missing) as exchange:
        minute = now_ms() // 60_000 * 60_000
        if "time" not in missing:
            exchange.odd.time_ms = minute + 61_000  # the next one has begun, a second ago
        printed(exchange, "AAAUSDT", minute - HOUR_MS, minute + 500, 20_000)
        stretch = Stretch("AAAUSDT", 60, (minute - HOUR_MS) * 1000, (minute + 60_000) * 1000)
        want(store, "binance", [stretch])
        fetch(store, exchange, lambda: len(bars(store, "AAAUSDT", 60)) >= 59)
        assert max(row[0] for row in bars(store, "AAAUSDT", 60)) < minute // 1000
        assert left(store) == 1
        exchange.odd.time_ms = minute + 63_000
        exchange.odd.missing = set()
        printed(exchange, "AAAUSDT", minute + 1000, minute + 60_000, 20_000)
        fetch(store, exchange, lambda: left(store) == 0)
        assert bars(store, "AAAUSDT", 60)[-1] == (minute // 1000, 4, "klines")


# -- trades that were given up


@pytest.mark.parametrize("bar_s", [60, 1])
def test_bars_of_trades_that_were_given_up_are_the_exchanges(
    store: PostgresStore, bar_s: int
) -> None:
    """Ten minutes are lost in the middle of two minutes: those at both edges are partial too."""
    with Foreign("AAAUSDT") as exchange:
        start = now_ms() // 60_000 * 60_000 - HOUR_MS
        printed(exchange, "AAAUSDT", start, start + HOUR_MS // 2, 500)
        lost = range(1061, 2261)  # 8:50 to 18:50 after the start
        stored(store, exchange, "AAAUSDT", lost)
        gap = Gap("AAAUSDT", lost[0], lost[-1])
        store.settle("binance", gap, lost[0], lost[-1], "unrecoverable", "test")
        fetch(store, exchange, lambda: left(store) == 0 and len(bars(store, "AAAUSDT", 60)) > 29)
        found = bars(store, "AAAUSDT", bar_s)
    assert len(found) == 1800 // bar_s
    assert {trades for _, trades, _ in found} == {2 * bar_s}
    klines = [ts - start // 1000 for ts, _, source in found if source == "klines"]
    assert (klines[0], klines[-1]) == ((480, 1080) if bar_s == 60 else (530, 1129))


def test_an_outage_of_rest_and_a_restart_in_between_lose_no_wish(store: PostgresStore) -> None:
    with Foreign("AAAUSDT", failing={"klines", "time"}) as exchange:
        start = now_ms() // 60_000 * 60_000 - HOUR_MS
        printed(exchange, "AAAUSDT", start, start + 600_000, 1000)
        stored(store, exchange, "AAAUSDT", range(100, 400))
        store.settle("binance", Gap("AAAUSDT", 100, 399), 100, 399, "unrecoverable", "test")
        fetch(store, exchange, lambda: left(store) == 2)
        time.sleep(0.1)
        assert {source for _, _, source in bars(store, "AAAUSDT", 60)} == {"ticks"}
        exchange.odd.failing = set()
        fetch(store, exchange, lambda: left(store) == 0)
        assert {trades for _, trades, _ in bars(store, "AAAUSDT", 60)} == {60}


def test_an_absence_longer_than_the_exchange_tells_trades_for(store: PostgresStore) -> None:
    """USD-M tells aggregates of 48 h; the daemon was away for longer. What it no longer tells is
    named, and its bars come as klines, both edges included."""
    with Foreign("AAAUSDT", market="usdm") as exchange:
        start = now_ms() // 60_000 * 60_000 - 5 * HOUR_MS
        printed(exchange, "AAAUSDT", start, start + 2 * HOUR_MS, 10_000)
        stored(store, exchange, "AAAUSDT", range(300, 700), "binance-usdm")
        exchange.odd.unknown = set(range(1, 500))

        async def work() -> None:
            async with BinanceRest(exchange.rest_url, USDM) as rest:
                made = History(store, rest, "binance-usdm", ["AAAUSDT"], 0.0)
                repair = Repair(store, rest, "binance-usdm", 48.0, made.wake)
                async with asyncio.TaskGroup() as parts:
                    parts.create_task(made.run())
                    parts.create_task(repair.watch("AAAUSDT"))

        run(work, lambda: len(bars(store, "AAAUSDT", 60)) == 120 and left(store) == 0)
        assert {trades for _, trades, _ in bars(store, "AAAUSDT", 60)} == {6}
        with store.transaction() as cursor:
            cursor.execute("SELECT first_id, last_id, state FROM v_gaps ORDER BY first_id")
            assert cursor.fetchall() == [(300, 499, "unrecoverable"), (500, 699, "filled")]
    assert wanted(store, "binance-usdm", ["AAAUSDT"]) == []


# -- longer bars


def lengths(store: PostgresStore) -> dict[int, int]:
    """Bar length → the klines stored of it."""
    with store.transaction() as cursor:
        cursor.execute("SELECT bar_s, count(*) FROM kline GROUP BY 1")
        return dict(cursor.fetchall())


def test_windows_of_weeks_have_their_bars_at_the_first_start(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of a month, days of all there is; closed ones, after minutes and seconds. The next
    start asks only for what has closed since."""
    monkeypatch.setattr(backfill, "LONGER_S", (3600, 86_400))
    monkeypatch.setattr(backfill, "LONGER_BARS", 720)
    chosen: list[int] = []  # requests made side by side arrive in any order
    choose = History._next

    def noted(self: History, under_way: set[Stretch]) -> Stretch | None:
        stretch = choose(self, under_way)
        chosen.extend([stretch.bar_s] if stretch else [])
        return stretch

    monkeypatch.setattr(History, "_next", noted)
    with Foreign("AAAUSDT") as exchange:
        now = now_ms()
        printed(exchange, "AAAUSDT", now - 40 * 24 * HOUR_MS, now, HOUR_MS // 2)
        fetch(store, exchange, lambda: {3600, 86_400} <= lengths(store).keys(), 24.0)
        fetch(store, exchange, lambda: lengths(store)[3600] == 720, 24.0)
        assert lengths(store)[86_400] in (40, 41)
        newest = max(ts for ts, _, _ in bars(store, "AAAUSDT", 3600))
        assert newest + 3600 <= now // 1000
        assert {60, 1} <= set(chosen[:3])  # of the longer ones one at a time
        exchange.requests.clear()
        fetch(store, exchange, lambda: any("interval=1m" in r for r in exchange.requests), 24.0)
        assert not any("interval=1d" in r or "interval=1h" in r for r in exchange.requests)


def test_less_than_a_day_of_history_asks_for_no_longer_bars(store: PostgresStore) -> None:
    with Foreign("AAAUSDT") as exchange:
        printed(exchange, "AAAUSDT", now_ms() - 3 * HOUR_MS, now_ms(), 60_000)
        fetch(store, exchange, lambda: len(bars(store, "AAAUSDT", 60)) > 50, 1.0)
        assert lengths(store).keys() <= {1, 60}
