"""The promises of live bars: bounded, incremental, one poll per interval, honest when away."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.exc import OperationalError

from pairs.analytics.pair import PairSpec, pair_view
from pairs.live.bars import LiveBars, base_bar_s, is_closed, stored_bars
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.postgres_reader import PostgresReader
from pairs.storage.reader import FeedStatus
from resampling import bar_length_ns, resample_bars
from tests.support.live import LEGS, S, both, pair


def feed(last_trade_s: float, watermark_s: float | None, state: str = "live") -> FeedStatus:
    when = datetime.fromtimestamp(1_000 + last_trade_s, UTC)
    mark = None if watermark_s is None else datetime.fromtimestamp(1_000 + watermark_s, UTC)
    return FeedStatus("X", state, "", when, when, 0.0, 86_400.0, 0.0, 0, 0, 1, 0, mark)


@pytest.mark.parametrize("state", ["live", "quiet", "stale", "stopped"])
@pytest.mark.parametrize(
    ("last_trade_s", "watermark_s", "closed"),
    [
        (0.5, 0.5, False),  # a trade inside the bar, a day ago
        (0.5, 0.999, False),
        (0.5, 1.0, True),  # nothing was printed after it
        (1.0, 1.0, True),  # a trade of the next bar
        (0.9, None, False),  # of an older database
        (1.0, None, True),
    ],
)
def test_a_bar_is_closed_by_the_watermark_and_never_by_time_that_passes(
    last_trade_s: float, watermark_s: float | None, closed: bool, state: str
) -> None:
    start = pd.Timestamp(1_000, unit="s", tz="UTC")
    assert is_closed(start, 1, feed(last_trade_s, watermark_s, state)) is closed
    assert is_closed(start, 1, None)


def test_a_quiet_symbol_does_not_pass_for_one_of_longer_bars(store: PostgresStore) -> None:
    """Trades every 20 s: stored seconds that look like 20 s bars. The oldest bar is cut off."""
    both(store, range(3), step_us=20 * S)
    live_pair = pair(store, "5s")
    assert len(live_pair.poll(0).y.closed) == 2
    both(store, range(3, 6), step_us=20 * S)
    assert len(live_pair.poll(0).y.closed) == 5


def test_new_bars_are_appended_and_the_forming_one_kept_apart(store: PostgresStore) -> None:
    now = pd.Timestamp.now("UTC").floor("1s").value // 1000
    both(store, range(10), start=now - 9 * S)
    live_pair = pair(store)
    first = live_pair.poll(0)
    assert len(first.y.closed) in (9, 10)
    both(store, range(10, 14), start=now - 9 * S)
    second = live_pair.poll(0)
    assert second.y.forming is not None
    assert second.y.last_price == 100 + 13 % 7
    assert len(second.y.closed) == 13
    assert second.closed_until != first.closed_until
    assert live_pair.poll(0).closed_until == second.closed_until
    fresh = pair(store).poll(0)
    pd.testing.assert_frame_equal(second.y.closed, fresh.y.closed, check_freq=False)


def test_a_repair_behind_the_newest_bar_is_seen(store: PostgresStore) -> None:
    both(store, range(5))
    both(store, range(20, 25))
    live_pair = pair(store)
    before = live_pair.poll(0)
    both(store, range(5, 20))
    after = live_pair.poll(0)
    assert (len(before.y.closed), len(after.y.closed)) == (10, 25)


def test_the_tape_is_bounded(store: PostgresStore) -> None:
    both(store, range(100))
    live_pair = pair(store, keep=30)
    assert len(live_pair.poll(0).y.closed) == 30
    both(store, range(100, 160))
    assert len(live_pair.poll(0).y.closed) == 30


def test_larger_bars_are_resampled_exactly(store: PostgresStore) -> None:
    both(store, range(1200))
    minutes = pair(store, "1min").poll(0).y.closed
    fives = pair(store, "5min").poll(0).y.closed
    expected = resample_bars(minutes, "5min").iloc[1:]
    pd.testing.assert_frame_equal(fives, expected, check_freq=False)


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every look at the feeds."""
    made: list[int] = []
    real = PostgresReader.feeds
    monkeypatch.setattr(PostgresReader, "feeds", lambda *a: made.append(1) or real(*a))
    return made


def test_all_callers_share_one_poll_per_interval(store: PostgresStore, polls: list[int]) -> None:
    both(store, range(5))
    time = [100.0]
    live_pair = pair(store, clock=lambda: time[0])
    for _ in range(10):
        live_pair.poll(1.0)
    assert len(polls) == 1
    time[0] += 1.1
    live_pair.poll(1.0)
    assert len(polls) == 2


def test_ten_tabs_out_of_step_cost_one_poll_per_interval(
    store: PostgresStore, polls: list[int]
) -> None:
    both(store, range(5))
    rng = random.Random(6)
    for tabs, least in ((10, 95), (1, 90)):  # one alone is served nearly each time it asks
        polls.clear()
        time = [0.0]
        live_pair = pair(store, clock=partial(time.__getitem__, 0))
        asked = sorted(
            k + tab / tabs + rng.uniform(-0.1, 0.1) for tab in range(tabs) for k in range(100)
        )
        for time[0] in asked:
            live_pair.poll(1.0)
        assert least <= len(polls) <= 102


def test_when_the_database_goes_away_the_picture_stays_and_says_so(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(store, range(5))
    live_pair = pair(store)
    good = live_pair.poll(0)

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(PostgresReader, "feeds", away)
    bad = live_pair.poll(0)
    assert bad.error is not None
    assert "server closed" in bad.error
    assert bad.polled_at == good.polled_at
    pd.testing.assert_frame_equal(bad.y.closed, good.y.closed)
    monkeypatch.undo()
    assert live_pair.poll(0).error is None


def test_a_pair_without_bars_is_empty(store: PostgresStore) -> None:
    snapshot = pair(store).poll(0)
    assert snapshot.y.closed.empty
    assert np.isnan(snapshot.y.last_price)


def test_uploads_of_other_lengths() -> None:
    assert base_bar_s("1h", [60, 900]) == 900
    with pytest.raises(ValueError, match="cannot be made"):
        base_bar_s("1min", [900])


def test_a_file_beside_a_live_market_ends_where_it_ends(store: PostgresStore) -> None:
    both(store, range(100))
    bars = stored_bars(store.reads, LEGS[0], "1s", 1, None)
    store.write_upload("MINE", 1, bars.iloc[:60])
    legs = (Instrument("upload", "MINE"), LEGS[1])
    live_bars = LiveBars(store.reads, legs, "1s", (1, 1))
    snapshot = live_bars.poll(0)
    assert not snapshot.live
    assert [len(leg.closed) for leg in snapshot.legs] == [60, 60]
    assert snapshot.y.closed.index[-1] == snapshot.x.closed.index[-1]
    store.write_upload("MINE", 1, bars.iloc[:80])
    assert [len(leg.closed) for leg in live_bars.poll(0).legs] == [80, 80]


def test_a_leg_without_bars_is_of_the_length_asked_for(store: PostgresStore) -> None:
    """A live market beside a file that ended before it began: at days its stored minutes must
    not stand there as another length."""
    both(store, range(100))
    index = pd.date_range("2001-01-01", periods=3000, freq="1min", tz="UTC", name="ts")
    bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), index=index)
    store.write_upload("OLD", 60, bars)
    legs = (LEGS[0], Instrument("upload", "OLD"))
    snapshot = LiveBars(store.reads, legs, "1d", (60, 60)).poll(0)
    assert snapshot.y.closed.empty
    assert pair_view(snapshot.y.closed, snapshot.x.closed, PairSpec(window=5)).frame.empty
    nothing = stored_bars(store.reads, Instrument("binance", "NONE"), "1d", 60, None)
    assert bar_length_ns(nothing) == 86_400_000_000_000
