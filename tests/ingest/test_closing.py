"""Bars of silent symbols are closed by the exchange's word: asked rarely, believed with care."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from exchange.synthetic import SyntheticSource
from exchange.world import default_world
from pairs.feeds.binance.budget import CLOSING, Kind
from pairs.feeds.binance.protocol import SPOT, USDM, BinanceMarket
from pairs.feeds.binance.rest import RestError
from pairs.ingest import closing
from pairs.ingest.closing import LENGTHS_S, Allowance, Closing, ended_us
from pairs.ingest.inbox import steady_us
from pairs.ingest.liveness import StreamState
from pairs.live.bars import LiveBars, Snapshot
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_feeds
from tests.support.chaos import SEED
from tests.support.daemon import eventually
from tests.support.desk import desk
from tests.support.rows import T0, trade

S = 1_000_000


# -- when a question is due


@pytest.mark.parametrize(
    ("reached_s", "now_s", "length_s"),
    [
        (30.2, 30.9, 0),  # the second is not over
        (30.2, 31.0, 1),
        (31.0, 34.9, 0),  # asked already
        (31.0, 35.0, 5),
        (31.0, 60.0, 60),  # of all that end there the longest
        (60.0, 119.0, 0),
        (60.0, 120.0, 120),
        (60.0, 4000.0, 3600),  # REST was away meanwhile
    ],
)
def test_a_bar_waits_once_it_has_ended(reached_s: float, now_s: float, length_s: int) -> None:
    found = ended_us(T0 + int(30.2 * S), T0 + int(reached_s * S), T0 + int(now_s * S))
    assert found == length_s * S


def test_a_market_that_stays_silent_is_asked_about_less_and_less() -> None:
    reached, asked = T0, 0
    for now in range(T0, T0 + 86_400 * S, 10 * S):
        if ended_us(T0, reached, now):
            reached, asked = now, asked + 1
    assert asked < len(LENGTHS_S)


def test_the_allowance_is_kept_in_every_minute() -> None:
    now, rng = [0.0], random.Random(SEED)
    allowance = Allowance(240, clock=lambda: now[0])
    spent: list[tuple[float, int]] = []
    for _ in range(4000):
        now[0] += rng.expovariate(10)
        if allowance.take(20):
            spent.append((now[0], 20))
    minutes = [sum(w for at, w in spent if start <= at < start + 60) for start in range(0, 300, 7)]
    assert max(minutes) <= 2 * 240
    assert sum(w for _, w in spent) <= 240 * (1 + now[0] / 60)
    assert not allowance.take(1, leave=1.0)


# -- what is asked, and believed


class Exchange:
    """REST's answers as a test wants them; it may hang and refuse as the real one does."""

    def __init__(self, protocol: BinanceMarket = SPOT) -> None:
        self.protocol = protocol
        self.now_us: Callable[[], int] = lambda: time.time_ns() // 1000
        self.newest: dict[str, int | None] = {}
        self.error: BaseException | None = None
        self.asked: list[str] = []

    async def time_ms(self) -> int:
        return self.now_us() // 1000

    async def latest_id(self, symbol: str, kind: Kind) -> int | None:
        assert kind is CLOSING
        self.asked.append(symbol)
        if self.error is not None:
            raise self.error
        return self.newest[symbol]


def asking(
    store: PostgresStore, exchange: Exchange, watched: dict[str, StreamState], seconds: float
) -> Closing:
    """Let the daemon's task run for so long."""
    made = Closing(watched, exchange, store, "binance", lambda: 0.0)  # type: ignore[arg-type]

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await made.run()

    asyncio.run(run())
    return made


def silent(store: PostgresStore, ago_s: float = 10.0, **state: Any) -> dict[str, StreamState]:
    """A trade that was printed and came so long ago, and nothing since."""
    then = time.time_ns() // 1000 - int(ago_s * S)
    store.write("binance", [trade(7, then, received_us=then)])
    lead = time.time_ns() // 1000 - steady_us()
    return {
        "BTCUSDT": StreamState(high_id=7, last_us=then, lead_us=lead, **{"state": "live", **state})
    }


def reached_s(store: PostgresStore) -> float:
    """Seconds from the newest trade to the watermark."""
    (feed,) = read_feeds(store.engine, "binance")
    assert feed.watermark is not None
    assert feed.last_trade is not None
    return (feed.watermark - feed.last_trade).total_seconds()


@pytest.mark.parametrize("state", ["live", "quiet"])
def test_a_silent_symbols_watermark_moves_to_the_question(store: PostgresStore, state: str) -> None:
    exchange = Exchange()
    exchange.newest["BTCUSDT"] = 7
    asking(store, exchange, silent(store, state=state), 1.5)
    assert 8 < reached_s(store) < 12


@pytest.mark.parametrize("state", ["stale", "disconnected", "starting", "stopped"])
def test_nothing_is_believed_while_the_feed_is_down(store: PostgresStore, state: str) -> None:
    exchange = Exchange()
    exchange.newest["BTCUSDT"] = 7
    asking(store, exchange, silent(store, state=state), 1.0)
    assert reached_s(store) == 0
    assert exchange.asked == []


@pytest.mark.parametrize("newest", [8, 6, None])
def test_an_answer_that_is_not_what_is_stored_moves_nothing(
    store: PostgresStore, newest: int | None
) -> None:
    """8 is on its way; 6: REST trails the stream, and does not know of 7 either."""
    exchange = Exchange()
    exchange.newest["BTCUSDT"] = newest
    asking(store, exchange, silent(store), 2.5)
    assert reached_s(store) == 0
    assert 1 <= len(exchange.asked) <= 3  # less and less often


@pytest.mark.parametrize("error", [RestError("no"), TimeoutError()])
def test_no_answer_moves_nothing_and_ends_nothing(
    store: PostgresStore, error: BaseException
) -> None:
    exchange = Exchange()
    exchange.error = error
    asking(store, exchange, silent(store), 1.0)
    assert reached_s(store) == 0


def test_of_a_replay_the_time_of_its_trades_counts(store: PostgresStore) -> None:
    """The exchange's clock is today's, its trades are of 2024 and go on."""
    store.write("binance", [trade(7, T0)])
    lead = T0 + 10 * S - steady_us()  # such a trade would come now
    exchange = Exchange()
    exchange.newest["BTCUSDT"] = 7
    asking(store, exchange, {"BTCUSDT": StreamState(last_us=T0, lead_us=lead, state="live")}, 1.0)
    assert 8 < reached_s(store) < 12


def test_a_question_is_as_old_as_the_exchanges_clock_says(store: PostgresStore) -> None:
    """Its clock goes slower than ours."""
    watched = silent(store)
    exchange = Exchange()
    exchange.newest["BTCUSDT"] = 7
    exchange.now_us = lambda: watched["BTCUSDT"].last_us + 5 * S
    asking(store, exchange, watched, 1.0)
    assert 3.5 < reached_s(store) <= 4


@pytest.mark.parametrize("protocol", [SPOT, USDM])
def test_two_hundred_silent_symbols_stay_within_their_share(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, protocol: BinanceMarket
) -> None:
    monkeypatch.setattr(closing, "RETRY_S", 0.0)
    exchange = Exchange(protocol)
    then = time.time_ns() // 1000 - 3600 * S
    lead = time.time_ns() // 1000 - steady_us()
    names = [f"S{k}USDT" for k in range(200)]
    exchange.newest = dict.fromkeys(names, 99)
    watched = {n: StreamState(last_us=then, lead_us=lead, state="quiet") for n in names}
    asking(store, exchange, watched, 2.0)
    weight = protocol.weight("aggTrades") * len(exchange.asked)
    assert 0 < weight <= 0.1 * protocol.weight_per_minute * (1 + 3 / 60)


# -- the daemon


def test_no_bar_of_a_stalling_market_changes_once_it_is_closed(store: PostgresStore) -> None:
    """A slow market, whose line stalls for three seconds now and then: bars are closed also while
    it is silent, and what was shown as closed is what is stored in the end."""
    source = SyntheticSource(default_world().only(["BTCUSDT", "ETHUSDT"]).steady(0.7), seed=SEED)
    legs = (Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT"))
    live_bars = LiveBars(store.reads, legs, "1s", (1, 1))
    seen: dict[tuple[str, pd.Timestamp], list[float]] = {}

    def note(snapshot: Snapshot) -> int:
        found = 0
        if any(leg.feed is None or leg.feed.open_gaps for leg in snapshot.legs):
            return 0  # a hole is being repaired
        for leg in snapshot.legs:
            for ts, bar in zip(
                leg.closed.index, leg.closed[["open", "close", "trades"]].to_numpy(), strict=True
            ):
                assert seen.setdefault((leg.symbol, ts), bar.tolist()) == bar.tolist()
            last = leg.feed.last_trade if leg.feed else None
            found += last is not None and leg.forming is None
        return found

    with desk(store, source=source) as d:
        d.flowing(5)
        until = time.monotonic() + 14
        while time.monotonic() < until:
            d.exchange.faults.stall = int(until - time.monotonic()) % 7 < 3
            note(live_bars.poll(0))
            time.sleep(0.1)
        d.exchange.faults.stall = False
        eventually(lambda: note(live_bars.poll(0)) == 2, "both are closed by silence")
    final = LiveBars(store.reads, legs, "1s", (1, 1)).poll(0)
    note(final)
    assert len(seen) > 5
