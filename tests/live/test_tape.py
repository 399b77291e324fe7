"""What is held of the bars is, at any time, what reading all of them anew would give."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pairs.live.bars import LiveBars, stored_bars
from pairs.live.tape import merged
from pairs.market import Instrument, Kline
from pairs.storage.postgres import PostgresStore
from pairs.storage.postgres_reader import PostgresReader
from tests.support.live import LEGS, S, both, pair
from tests.support.rows import T0, nothing_after, trade


def assert_as_read_anew(held: LiveBars) -> None:
    fresh = LiveBars(held.reads, held.instruments, held.bar, held.bases, keep=held.keep)
    for mine, anew in zip(held.poll(0).legs, fresh.poll(0).legs, strict=True):
        pd.testing.assert_frame_equal(mine.closed, anew.closed, check_freq=False)
        assert mine.closed.attrs == anew.closed.attrs
        assert (mine.forming is None) == (anew.forming is None)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bars each reading gave."""
    counts: list[int] = []
    real = PostgresReader.bars

    def counted(*given: Any) -> pd.DataFrame:
        bars = real(*given)
        counts.append(len(bars))
        return bars

    monkeypatch.setattr(PostgresReader, "bars", counted)
    return counts


def test_during_a_long_repair_only_what_changed_is_read_again(
    store: PostgresStore, read: list[int]
) -> None:
    both(store, range(1000))
    both(store, range(2000, 3000))
    held = pair(store)
    held.poll(0)
    assert read == [2000, 2000]
    for first in range(1000, 2000, 100):
        read.clear()
        both(store, range(first, first + 100))
        held.poll(0)
        assert sum(read) <= 2 * (100 + 2)
        assert_as_read_anew(held)
    assert len(held.poll(0).y.closed) == 3000


def test_a_change_that_is_not_noted_is_found_all_the_same(store: PostgresStore) -> None:
    """By another program, or too long ago."""
    both(store, range(100))
    held = pair(store)
    held.poll(0)
    with store.transaction() as cursor:
        cursor.execute(
            "UPDATE bar SET close = 103 WHERE ts < 'epoch'::timestamptz"
            f" + interval '{T0 // S + 50} s'"
        )
        cursor.execute("UPDATE feed SET revision = revision + 3")
        cursor.execute("DELETE FROM bar_change")
    assert_as_read_anew(held)


def test_klines_behind_the_newest_bar_are_found(store: PostgresStore) -> None:
    both(store, range(600, 1000))
    held = pair(store, "1min")
    held.poll(0)
    klines = [
        Kline("ETHUSDT", 60, T0 + k * 60 * S, 5, 7, 4, 6, 10, 50, 5, 1000) for k in range(-3, 12)
    ]
    store.write_klines("binance", klines)
    assert_as_read_anew(held)
    assert held.poll(0).y.closed["close"].tolist().count(6.0) == 15


def test_many_changes_apart_from_each_other(store: PostgresStore) -> None:
    both(store, [i for i in range(300) if i % 10])
    held = pair(store)
    held.poll(0)
    for i in range(0, 300, 10):
        both(store, range(i, i + 1))
    assert_as_read_anew(held)


def test_the_oldest_bars_go_as_time_does_also_where_there_are_few(store: PostgresStore) -> None:
    both(store, range(10))
    held = pair(store, keep=100)
    held.poll(0)
    both(store, range(105, 108))
    assert_as_read_anew(held)
    assert len(held.poll(0).y.closed) == 6


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], []),
        ([(5, 7), (1, 2)], [(1, 2), (5, 7)]),
        ([(1, 4), (2, 3), (4, 9)], [(1, 9)]),
        ([(k, k) for k in range(0, 40, 2)], [(0, 38)]),
    ],
)
def test_changes_are_merged(changes: Any, expected: Any) -> None:
    assert merged(changes) == expected


# -- files


def test_a_file_that_is_uploaded_again_is_seen_by_other_processes(
    store: PostgresStore, database_url: str
) -> None:
    """The watcher's, and that of another page: they share nothing but the database."""
    both(store, range(100))
    bars = stored_bars(store.reads, LEGS[0], "1s", 1, None)
    for name in ("MINE", "THEIRS"):
        store.write_upload(name, 1, bars)
    legs = (Instrument("upload", "MINE"), Instrument("upload", "THEIRS"))
    held = LiveBars(store.reads, legs, "1s", (1, 1))
    before = held.poll(0)
    assert held.poll(0).closed_until == before.closed_until
    changed = bars.copy()
    changed.iloc[40, changed.columns.get_indexer(["high", "close"])] = 106.0
    store.write_upload("MINE", 1, changed)
    after = held.poll(0)
    assert after.y.closed["close"].iloc[40] == 106.0
    assert after.y.version != before.y.version
    assert after.x.version == before.x.version
    assert_as_read_anew(held)
    store.write_upload("MINE", 1, changed)
    assert held.poll(0).closed_until == after.closed_until  # the same once more changes nothing


def test_a_file_beside_a_live_market_that_is_uploaded_again(store: PostgresStore) -> None:
    both(store, range(100))
    bars = stored_bars(store.reads, LEGS[0], "1s", 1, None)
    store.write_upload("MINE", 1, bars.iloc[20:60])
    held = LiveBars(store.reads, (Instrument("upload", "MINE"), LEGS[1]), "1s", (1, 1))
    held.poll(0)
    for first, last in ((20, 80), (0, 30), (50, 100)):
        store.write_upload("MINE", 1, bars.iloc[first:last])
        assert_as_read_anew(held)
    store.write("binance", [trade(100, T0 + 100 * S, symbol="BTCUSDT")])
    nothing_after(store, T0 + 200 * S)
    assert_as_read_anew(held)
