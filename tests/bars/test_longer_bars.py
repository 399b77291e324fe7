"""Bars longer than those stored of the trades: made from them, and before them as the exchange
states them. A first start has a day of minutes, and a pair of hours needs weeks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pairs.analytics.pair import PairSpec, pair_view
from pairs.live.bars import LiveBars, bars_between, stored_bars, stored_closes
from pairs.live.tape import fuller
from pairs.market import Instrument, Kline
from pairs.storage.postgres import PostgresStore
from tests.support.rows import nothing_after, trade

S = 1_000_000
HOUR = 3_600
NOW = 1_717_200_000 // HOUR * HOUR  # a full hour
LEGS = (Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT"))


def kline(symbol: str, start_s: int, bar_s: int, close: float, trades: int) -> Kline:
    return Kline(
        symbol,
        bar_s,
        start_s * S,
        close,
        close + 1,
        close - 1,
        close,
        2.0,
        2.0 * close,
        1.0,
        trades,
    )


def fill(store: PostgresStore, hours: int = 300, minutes: int = 150) -> None:
    """`hours` full hours as stated, the last `minutes` minutes too, and 90 s of trades."""
    rng = np.random.default_rng(5)
    for symbol in ("ETHUSDT", "BTCUSDT"):
        closes = (100 + rng.normal(size=hours).cumsum() * 0.1).tolist()
        closes[-3] = 101.0  # as the last minute of that hour, half of which is at hand
        store.write_klines(
            "binance",
            [kline(symbol, NOW - (hours - k) * HOUR, HOUR, closes[k], 600) for k in range(hours)],
        )
        store.write_klines(
            "binance",
            [kline(symbol, NOW - 60 * k, 60, 100.0 + k % 5, 10) for k in range(1, minutes + 1)],
        )
        store.write("binance", [trade(k, (NOW + k) * S, 100, symbol=symbol) for k in range(90)])
        nothing_after(store, (NOW + 90) * S)


def hours_of(store: PostgresStore) -> LiveBars:
    return LiveBars(store.reads, LEGS, "1h", (60, 60))


def test_a_pair_of_hours_has_its_windows_at_once(store: PostgresStore) -> None:
    fill(store)
    snapshot = hours_of(store).poll(0)
    assert snapshot.error is None
    closed = snapshot.y.closed
    assert len(closed) == 300
    assert closed.index[-1] == pd.Timestamp(NOW - HOUR, unit="s", tz="UTC")
    assert (np.diff(closed.index.asi8) == HOUR * 1_000_000).all()
    assert closed.attrs["bar_ns"] == HOUR * 10**9
    assert snapshot.y.forming is not None
    assert snapshot.y.forming["trades"] == 90
    view = pair_view(snapshot.y.closed, snapshot.x.closed, PairSpec(window=60, hedge_window=120))
    assert np.isfinite(view.frame["zscore"].iloc[-1])


def test_of_each_bar_the_one_that_has_seen_more(store: PostgresStore) -> None:
    fill(store)
    whole = NOW - HOUR  # 60 minutes of 10 trades each are at hand: as many as the hour states
    part = NOW - 3 * HOUR  # half of its minutes are
    closed = hours_of(store).poll(0).y.closed
    made = closed.loc[pd.Timestamp(whole, unit="s", tz="UTC")]
    stated = closed.loc[pd.Timestamp(part, unit="s", tz="UTC")]
    assert (made["high"], made["volume"]) == (105.0, 120.0)
    assert (stated["trades"], stated["volume"]) == (600, 2.0)


def test_an_hour_stated_later_is_seen(store: PostgresStore) -> None:
    fill(store, hours=10)
    held = hours_of(store)
    assert len(held.poll(0).y.closed) == 10
    earlier = NOW - 11 * HOUR
    store.write_klines("binance", [kline("ETHUSDT", earlier, HOUR, 7.0, 600)])
    closed = held.poll(0).y.closed
    assert len(closed) == 11
    assert closed["close"].iloc[0] == 7.0
    pd.testing.assert_frame_equal(closed, hours_of(store).poll(0).y.closed)


def test_exports_the_scanner_and_the_command_read_the_same(store: PostgresStore) -> None:
    fill(store)
    closed = hours_of(store).poll(0).y.closed
    pd.testing.assert_frame_equal(stored_bars(store.reads, LEGS[0], "1h", 60, None), closed)
    start = closed.index[100].to_pydatetime()
    between = bars_between(store.reads, LEGS[0], "1h", 60, start, closed.index[200].to_pydatetime())
    pd.testing.assert_frame_equal(between, closed.iloc[100:200])
    end = (closed.index[-1] + pd.Timedelta(hours=1)).to_pydatetime()
    closes = stored_closes(store.reads, LEGS, "1h", (60, 60), 300, end)
    np.testing.assert_array_equal(closes[str(LEGS[0])], closed["close"])


def test_without_any_stated_hour_nothing_changes(store: PostgresStore) -> None:
    store.write("binance", [trade(k, (NOW + 60 * k) * S, 100 + k % 3) for k in range(200)])
    nothing_after(store, (NOW + 200 * 60) * S)
    bars = LiveBars(store.reads, (LEGS[1],), "1h", (60,)).poll(0).y
    # The first hour may lack its beginning: nobody states it.
    assert [len(bars.closed), bars.forming is not None] == [2, True]


@pytest.mark.parametrize("empty", ["made", "stated"])
def test_one_of_them_alone(empty: str) -> None:
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC", name="ts")
    bars = pd.DataFrame({"close": [1.0, 2, 3], "trades": [1.0, 1, 1]}, index=index)
    pair = (bars.iloc[:0], bars) if empty == "made" else (bars, bars.iloc[:0])
    pd.testing.assert_frame_equal(fuller(*pair), bars)
