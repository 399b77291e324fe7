"""What a rule would have fired is what the watcher would have stored on the same bars."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pairs.alerts.evaluator import Evaluator
from pairs.alerts.preview import Preview, preview, ready_rules, silences
from pairs.alerts.store import create_rule, list_events, store_outcomes
from pairs.analytics.pair import PairSpec, pair_view
from pairs.live.bars import LiveBars
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import BTC, ETH, T0, T0_US, S, rule
from tests.support.rows import nothing_after, trade

SPEC = PairSpec(window=5, hedge_window=8)


def bars(closes: list[float]) -> pd.DataFrame:
    index = pd.date_range(T0, periods=len(closes), freq="1s", unit="us", name="ts")
    return pd.DataFrame({"close": closes}, index=index)


def grow(store: PostgresStore, rng: random.Random, first: int, count: int) -> None:
    """One trade a second in both legs, all closed."""
    for symbol in ("ETHUSDT", "BTCUSDT"):
        store.write(
            "binance",
            [
                trade(k, T0_US + k * 1_000_000, 100 + rng.gauss(0, 1), symbol=symbol)
                for k in range(first, first + count)
            ],
        )
    nothing_after(store, T0_US + (first + count) * 1_000_000)


def told(found: Preview) -> list[tuple[datetime, str, float]]:
    return [(event.ts, event.edge, event.value) for event in found.events]


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 1.0},
        {"threshold": 1.0, "persistence": 2, "cool_down_s": 7.0},
        {"quantity": "abs_zscore", "threshold": 1.2, "hysteresis": 0.5},
        {"quantity": "correlation", "condition": "crosses", "threshold": 0.2},
        {"quantity": "price_y", "condition": "crosses_down", "threshold": 100.0},
    ],
    ids=str,
)
def test_the_preview_is_what_the_watcher_would_have_stored(
    store: PostgresStore, changes: dict[str, Any]
) -> None:
    rng = random.Random(3)
    grow(store, rng, 0, 20)
    made = rule(spec=SPEC, **changes)
    create_rule(store, made)
    evaluator = Evaluator(store, clock=iter(range(0, 10**6, 10)).__next__)
    evaluator.load()
    for first in range(20, 80, 15):  # in pieces, as bars close
        grow(store, rng, first, 15)
        outcomes = evaluator.step({"binance"})
        evaluator.settle(outcomes, store_outcomes(store, outcomes, []))
    stored = [(e.ts, e.edge, e.value) for e in list_events(store)]
    assert stored
    snapshot = LiveBars(store.reads, (ETH, BTC), "1s", (1, 1)).poll(0.0)
    view = pair_view(snapshot.y.closed, snapshot.x.closed, SPEC)
    newest = view.frame.index[-1].to_pydatetime()
    since = newest + S - (T0 + 18 * S)  # the bar last closed when the rule was made
    found = preview(made, view, since.total_seconds())
    assert told(found) == stored
    assert found.end == newest + S
    assert not found.short
    silent = replace(made, enabled=False, snoozed_from=T0, snoozed_until=newest + 9 * S)
    assert told(preview(silent, view, since.total_seconds())) == stored


def test_nothing_is_foreseen() -> None:
    rng = np.random.default_rng(5)
    y, x = (100 + rng.normal(0, 1, 200)).tolist(), (50 + rng.normal(0, 1, 200)).tolist()
    made = rule(spec=SPEC, threshold=1.0)
    whole = preview(made, pair_view(bars(y), bars(x), SPEC))
    for k in (30, 90, 150):
        part = preview(made, pair_view(bars(y[:k]), bars(x[:k]), SPEC))
        assert told(part) == told(whole)[: len(part.events)]
        assert all(event.ts >= T0 + k * S for event in whole.events[len(part.events) :])


def test_how_far_it_has_looked_is_told() -> None:
    y = (100 + np.random.default_rng(1).normal(0, 1, 100)).tolist()
    view = pair_view(bars(y), bars(y[::-1]), SPEC)
    made = rule(spec=SPEC, threshold=1.0)
    whole = preview(made, view)
    assert whole.short
    assert whole.begin == T0 + (SPEC.bars_needed - 1) * S  # the first bar with a z-score
    assert whole.span_s == 101 - SPEC.bars_needed
    last = preview(made, view, 30.0)
    assert (last.span_s, last.short) == (30.0, False)
    assert preview(made, pair_view(bars([]), bars([]), SPEC)).span_s == 0
    assert preview(made, pair_view(bars(y[:5]), bars(y[:5]), SPEC)).begin is None


def test_silences_of_a_feed_are_those_of_the_leg_silent_longest() -> None:
    at = {
        ETH: pd.DatetimeIndex([T0 + k * S for k in (*range(30), *range(45, 90))]),
        BTC: pd.DatetimeIndex([T0 + k * S for k in (*range(60), *range(80, 90))]),
    }
    made = rule(quantity="staleness", threshold=10.0)
    found = silences(made, at)
    assert [(e.ts - T0, e.value) for e in found.events] == [
        (timedelta(seconds=40), 11.0),
        (timedelta(seconds=70), 11.0),
    ]
    assert found.short
    assert silences(made, at, 25.0).events == found.events[1:]
    assert silences(made, {ETH: at[ETH]}).begin is None
    assert silences(replace(made, cool_down_s=60.0), at).events == found.events[:1]


def test_ready_rules_of_a_file_know_no_feed() -> None:
    live = ready_rules(ETH, BTC, "1min", PairSpec(), 2.5)
    assert [made.condition_text() for made in live] == [
        "ETHUSDT/BTCUSDT |z| above 2.5",
        "ETHUSDT/BTCUSDT feed age above 10 s",
        "ETHUSDT/BTCUSDT correlation below 0.5",
    ]
    file = ready_rules(ETH, Instrument("upload", "MINE"), "1min", PairSpec(), 2.0)
    assert [made.quantity for made in file] == ["abs_zscore", "correlation"]
