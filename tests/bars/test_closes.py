"""Closes of a whole market in one query: what bar by bar reading gives, closed bars only."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from pairs.live.bars import ends_of, stored_closes
from pairs.market import Instrument, Kline, bar_label
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import (
    newest_bar,
    newest_bars,
    read_bar_sizes,
    read_bars,
    read_closes,
    read_sizes,
)
from resampling import resample_bars
from tests.support.rows import T0, trade

S = 1_000_000
START = datetime.fromtimestamp(T0 / 1e6, UTC)
LEGS = [
    ("binance", "ETHUSDT", 60),
    ("binance", "BTCUSDT", 60),
    ("upload", "MINE", 60),
    ("binance", "NONE", 60),
]


@pytest.fixture
def market(store: PostgresStore) -> PostgresStore:
    """Trades with pauses, klines that fill them in or know more, and a file."""
    rng = random.Random(1)
    for k, symbol in enumerate(("ETHUSDT", "BTCUSDT")):
        stamps = sorted(rng.sample(range(1800), 150))
        store.write(
            "binance",
            [trade(i, T0 + s * S, 100 + rng.random(), symbol=symbol) for i, s in enumerate(stamps)],
        )
        store.write_klines(
            "binance",
            [
                Kline(
                    symbol,
                    60,
                    T0 + m * 60 * S,
                    1.0,
                    200.0,
                    1.0,
                    150 + rng.random(),
                    1.0,
                    1.0,
                    1.0,
                    rng.choice([1, 5, 99]),
                )
                for m in range(30 + k)
                if rng.random() < 0.4
            ],
        )
    file = read_bars(store.engine, "binance", "ETHUSDT", 60)
    store.write_upload("MINE", 60, file.iloc[:12])
    store.write_upload("MINE", 1, read_bars(store.engine, "binance", "ETHUSDT", 1))
    return store


@pytest.mark.parametrize("bar_s", [60, 300, 900])
@pytest.mark.parametrize("base", [1, 60])
def test_all_at_once_is_what_one_by_one_gives(market: PostgresStore, bar_s: int, base: int) -> None:
    legs = [(venue, symbol, base) for venue, symbol, _ in LEGS]
    end = START + timedelta(seconds=1800)
    found = read_closes(market.engine, legs, bar_s, START, end)
    assert found.index.is_monotonic_increasing
    for k, (venue, symbol, _) in enumerate(legs):
        bars = read_bars(market.engine, venue, symbol, base, START, end)
        expected = resample_bars(bars, bar_label(bar_s))["close"] if len(bars) else bars["close"]
        pd.testing.assert_series_equal(
            found[k].dropna(), expected, check_names=False, check_freq=False
        )


def test_a_stretch_is_cut_at_both_ends(market: PostgresStore) -> None:
    start, end = START + timedelta(minutes=5), START + timedelta(minutes=20)
    for bar_s in (60, 300):
        found = read_closes(market.engine, LEGS, bar_s, start, end)
        assert found.index[0] >= start
        assert found.index[-1] < end
    nothing = read_closes(market.engine, [], 60, start, end)
    assert nothing.empty


def test_the_newest_bars_and_lengths_of_all(market: PostgresStore) -> None:
    with market.transaction() as cursor:
        expected = []
        for leg in LEGS:
            cursor.execute(
                "SELECT max(ts) FROM v_bars WHERE venue = %s AND symbol = %s AND bar_s = %s", leg
            )
            expected += [cursor.fetchone()[0]]
    assert newest_bars(market.engine, LEGS) == expected
    assert [newest_bar(market.engine, *leg) for leg in LEGS] == expected
    assert expected[-1] is None
    assert newest_bars(market.engine, []) == []
    assert read_sizes(market.engine, "upload") == {"MINE": [1, 60]}
    assert read_sizes(market.engine, "upload")["MINE"] == read_bar_sizes(
        market.engine, "upload", "MINE"
    )
    assert read_sizes(market.engine, "local") == {}


def test_live_symbols_end_together_and_a_file_where_it_ends(market: PostgresStore) -> None:
    instruments = [Instrument(venue, symbol) for venue, symbol, _ in LEGS]
    ends = ends_of(market.reads, instruments, "5min", [60] * 4)
    assert instruments[3] not in ends
    assert ends[instruments[0]] == ends[instruments[1]]
    newest = max(filter(None, newest_bars(market.engine, LEGS[:2])))
    assert ends[instruments[0]] - timedelta(minutes=5) <= newest < ends[instruments[0]]
    of_file = newest_bar(market.engine, *LEGS[2])
    assert of_file is not None
    assert ends[instruments[2]] - timedelta(minutes=5) <= of_file < ends[instruments[2]]
    assert ends[instruments[2]] < ends[instruments[0]]


def test_a_bar_still_forming_is_left_out(store: PostgresStore) -> None:
    now = int(datetime.now(UTC).timestamp()) // 60 * 60
    for symbol, last_s in (("ETHUSDT", 0.0), ("BTCUSDT", 61.0)):
        store.write(
            "binance",
            [
                trade(1, (now - 60) * S, 1.0, symbol=symbol),
                trade(2, now * S, 2.0, symbol=symbol),
                trade(
                    3,
                    int((now + last_s) * S),
                    3.0,
                    symbol=symbol,
                    received_us=int(datetime.now(UTC).timestamp() * S),
                ),
            ],
        )
    legs = [Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT")]
    ends = ends_of(store.reads, legs, "1min", [60, 60])
    closes = stored_closes(store.reads, legs, "1min", [60, 60], 10, ends[legs[0]])
    assert list(closes.columns) == ["binance:ETHUSDT", "binance:BTCUSDT"]
    # ETHUSDT's minute goes on; BTCUSDT has traded beyond it, and its next one goes on
    assert closes["binance:ETHUSDT"].dropna().tolist() == [1.0]
    assert closes["binance:BTCUSDT"].dropna().tolist() == [1.0, 2.0]
    assert len(closes) == 2
