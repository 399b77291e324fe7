"""Live is backtest: what the page would have decided, bar by bar, is what `run` decides."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest import Costs, Rules, positions, run
from pairs.analytics.pair import pair_view
from pairs.live.bars import LiveBars
from pairs.market import Instrument, Trade
from pairs.storage.postgres import PostgresStore
from resampling import ticks_to_bars
from tests.support.reference import reference_csv, trades

COSTS = Costs(fee_bps=5, slippage_bps=1)
LEGS = ("ETHUSDT", "BTCUSDT")
RULES = {
    "rolling": Rules(
        hedge="rolling",
        hedge_window=60,
        window=30,
        entry_z=1.5,
        exit_z=0.2,
        stop_z=3.0,
        max_bars=40,
    ),
    "kalman": Rules(hedge="kalman", hedge_window=40, window=30, entry_z=1.5, max_bars=25),
    "kalman, noise given": Rules(
        hedge="kalman", window=30, entry_z=1.5, max_bars=25, delta=1e-4, observation_variance=1.0
    ),
    "fixed": Rules(hedge="fixed", beta=0.04, window=45, entry_z=1.2, exit_z=-0.5, stop_z=2.5),
}


def live_bars(store: PostgresStore, venue: str, bar: str, base_s: int) -> LiveBars:
    legs = tuple(Instrument(venue, symbol) for symbol in LEGS)
    return LiveBars(store.reads, legs, bar, (base_s, base_s))


def seen_live(pair: LiveBars, steps: Iterator[None]) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The closed bars the page holds after each step of the recording."""
    for _ in steps:
        snapshot = pair.poll(0)
        assert snapshot.error is None
        yield snapshot.y.closed, snapshot.x.closed


def follow(pair: LiveBars, steps: Iterator[None], whole: dict[str, Any]) -> int:
    """At every step, the live bars lead to the decisions of the whole run so far; how many bars
    were decided live as they closed."""
    decided: set[pd.Timestamp] = set()
    for y, x in seen_live(pair, steps):
        for hedge, rules in RULES.items():
            if len(y.index.intersection(x.index)) < rules.spec.bars_needed:
                continue
            now = run(y, x, rules, COSTS).signals
            pd.testing.assert_frame_equal(
                now, whole[hedge].signals.loc[: now.index[-1]], check_freq=False
            )
            view = pair_view(y, x, rules.spec).frame
            assert view["zscore"].equals(now["zscore"])
            last = whole[hedge].signals.loc[now.index[-1]]
            enters = {"long": 1, "short": -1, "": int(last["position"])}.get(last["action"], 0)
            assert positions(view["zscore"].to_numpy(), rules)[-1] == enters
            decided.add(now.index[-1])
    return len(decided)


def test_recorded_trades(store: PostgresStore) -> None:
    """Ten real minutes through midnight, trade by trade into the database, as 1 s bars."""
    ticks = {symbol: trades(symbol) for symbol in LEGS}
    seconds = [ticks_to_bars(ticks[symbol], "1s") for symbol in LEGS]
    # The last bar of a recording is never closed by a later trade.
    whole = {hedge: run(*seconds, rules, COSTS) for hedge, rules in RULES.items()}
    assert all(len(result.trades) > 3 for result in whole.values())

    def steps() -> Iterator[None]:
        received = time.time_ns() // 1000
        cuts = pd.date_range(*(seconds[0].index[[60, -1]]), freq="4s")
        done = dict.fromkeys(LEGS, 0)
        for cut in cuts:
            for symbol in LEGS:
                part = ticks[symbol]
                stop = int(part.index.searchsorted(cut))
                rows = part.iloc[done[symbol] : stop]
                stamps = pd.DatetimeIndex(rows.index).as_unit("us").asi8.tolist()
                batch = [
                    Trade(symbol, t.trade_id, ts, t.price, t.size, t.buyer_is_maker, received)
                    for ts, t in zip(stamps, rows.itertuples(), strict=True)
                ]
                store.write("binance", batch)
                done[symbol] = stop
            received = time.time_ns() // 1000
            yield

    pair = live_bars(store, "binance", "1s", 1)
    assert follow(pair, steps(), whole) > 100


def test_a_recorded_day(store: PostgresStore) -> None:
    """A day of real minutes, put into the store as they come."""
    days = []
    for symbol in LEGS:
        bars = reference_csv(f"binance_1m_{symbol}_2026-01-24_31.csv")
        index = pd.DatetimeIndex(pd.to_datetime(bars.pop("timestamp"), utc=True), name="ts")
        days.append(bars.set_index(index.as_unit("us")).loc["2026-01-27"])
    whole = {hedge: run(*days, rules, COSTS) for hedge, rules in RULES.items()}
    assert all(len(result.trades) > 5 for result in whole.values())

    def steps() -> Iterator[None]:
        for stop in range(100, len(days[0]) + 1, 10):
            for symbol, bars in zip(LEGS, days, strict=True):
                store.write_upload(symbol, 60, bars.iloc[max(stop - 100, 0) : stop])
            yield

    pair = live_bars(store, "upload", "1min", 60)
    assert follow(pair, steps(), whole) == len(range(100, len(days[0]) + 1, 10))


@pytest.mark.parametrize("hedge", RULES)
def test_the_traded_hedge_is_that_of_the_pair_view(hedge: str) -> None:
    """To the last bit; with a Kalman filter the state before the row."""
    ticks = [ticks_to_bars(trades(symbol), "1s") for symbol in LEGS]
    rules = RULES[hedge]
    view, signals = pair_view(*ticks, rules.spec).frame, run(*ticks, rules, COSTS).signals
    assert signals["zscore"].equals(view["zscore"])
    beta = view["beta"]
    if rules.hedge == "kalman":
        beta = beta.shift(1, fill_value=np.nan if rules.delta is None else 0.0)
    assert np.array_equal(signals["beta"], beta, equal_nan=True)
