"""An alert is judged on the bar as it finally is, or what changed is said of it."""

from __future__ import annotations

import pandas as pd
import pytest

from pairs.alerts.evaluator import Evaluator
from pairs.alerts.rejudging import first_change
from pairs.alerts.store import StoredEvent, create_rule, list_events, store_outcomes
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import T0, T0_US, S, only, price_rule, prices
from tests.support.rows import nothing_after, rows, trade


def frame(closes: dict[int, float]) -> pd.DataFrame:
    index = pd.DatetimeIndex([T0 + k * S for k in closes])
    return pd.DataFrame({"close_y": list(closes.values()), "close_x": 1.0}, index=index)


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({0: 1, 1: 2, 2: 3}, {0: 1, 1: 2, 2: 3, 3: 9}, None),  # a new one is no change
        ({0: 1, 1: 2, 2: 3}, {0: 1, 1: 9, 2: 3}, 1),
        ({0: 1, 2: 3}, {0: 1, 1: 2, 2: 3}, 1),  # one that was missing
        ({0: 1, 1: 2, 2: 3}, {1: 2, 2: 3, 3: 4}, None),  # the oldest are no longer kept
        ({1: 2, 2: 3}, {0: 1, 1: 2, 2: 3}, None),
        ({0: 1, 1: 2}, {}, None),
    ],
)
def test_the_first_bar_that_is_not_what_it_was(
    before: dict[int, float], now: dict[int, float], change: int | None
) -> None:
    found = first_change(frame(before), frame(now))
    assert found == (None if change is None else T0 + change * S)


class Watching:
    """The watcher's part in a test: it looks when told."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.clock = 0.0
        self.evaluator = Evaluator(store, clock=lambda: self.clock)
        self.evaluator.load()

    def look(self) -> list[StoredEvent]:
        self.clock += 6.0
        outcomes = self.evaluator.step(["binance"])
        assert not self.evaluator.settle(outcomes, store_outcomes(self.store, outcomes, ["x"]))
        return list_events(self.store)


def late(store: PostgresStore, trade_id: int, second: float, price: float) -> None:
    """A later id with an earlier time: the bar of that second closes otherwise."""
    ts = T0_US + int(second * 1_000_000)
    store.write("binance", [trade(trade_id, ts, price, symbol="ETHUSDT")])
    store.write("binance", [trade(trade_id, T0_US, 100.0, symbol="BTCUSDT")])
    nothing_after(store, T0_US)


def test_what_would_have_fired_is_told_late_with_a_remark(store: PostgresStore) -> None:
    prices(store, [99.0, 99.0])
    create_rule(store, price_rule(condition="crosses"))
    watching = Watching(store)
    watching.look()
    prices(store, [99.0, 99.0, 99.0], first=2)
    assert watching.look() == []
    late(store, 5, 3.5, 101.0)
    up, down = watching.look()
    assert [(e.ts, e.edge, e.value) for e in (up, down)] == [
        (T0 + 3 * S, "up", 101.0),
        (T0 + 4 * S, "down", 99.0),
    ]
    assert (up.remark or "").startswith("told late: bars from 2026-")
    assert up.remark in up.body
    assert [d.state for d in up.deliveries] == ["waiting"]
    prices(store, [99.0, 101.0], first=6)
    assert [e.remark for e in watching.look()][2:] == [None]  # and it goes on from there


def test_what_would_not_have_fired_is_marked(store: PostgresStore) -> None:
    prices(store, [99.0])
    create_rule(store, price_rule())
    watching = Watching(store)
    prices(store, [101.0, 102.0], first=1)
    assert [(e.value, e.remark) for e in watching.look()] == [(101.0, None)]
    late(store, 3, 1.5, 99.0)
    first, second = watching.look()
    assert first.remark == (
        "bars changed after this was told: its value is 99 now, and it would not have fired"
    )
    assert (second.ts, second.value) == (T0 + 2 * S, 102.0)
    assert second.remark is not None


def test_another_value_is_marked_and_an_unchanged_one_is_not(store: PostgresStore) -> None:
    prices(store, [99.0])
    create_rule(store, price_rule(condition="crosses"))
    watching = Watching(store)
    watching.look()
    prices(store, [101.0, 99.0, 103.0], first=1)
    assert len(watching.look()) == 3
    late(store, 4, 3.5, 104.0)
    told = watching.look()
    assert [e.remark for e in told] == [
        None,
        None,
        "bars changed after this was told: its value is 104 now",
    ]
    assert len(told) == 3


def test_a_hole_that_is_filled_after_the_patience_is_judged_again(store: PostgresStore) -> None:
    prices(store, [99.0, 99.0])
    create_rule(store, price_rule())
    watching = Watching(store)
    watching.look()
    prices(store, [99.0, 99.0], first=6)
    for _ in range(8):
        assert watching.look() == []
    assert only(store).state.last_ts == T0 + 7 * S
    prices(store, [99.0, 120.0, 99.0, 99.0], first=2)
    (told,) = watching.look()
    assert (told.ts, told.value) == (T0 + 3 * S, 120.0)
    assert "told late" in (told.remark or "")


def test_nothing_is_told_twice_by_a_watcher_that_starts_anew(store: PostgresStore) -> None:
    prices(store, [99.0, 101.0, 99.0])
    create_rule(store, price_rule())
    Watching(store).look()
    late(store, 3, 1.5, 99.0)
    Watching(store).look()
    assert len(rows(store, "SELECT FROM alert_event")) <= 1
