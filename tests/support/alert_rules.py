"""Alert rules, their readings and what a watcher stores of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pairs.alerts.evaluator import Evaluator
from pairs.alerts.rules import AlertEvent, AlertRule, AlertState, Reading, Side
from pairs.alerts.store import Outcome, StoredRule, list_rules, store_outcomes
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from tests.support.rows import nothing_after, trade

T0 = datetime(2026, 1, 1, tzinfo=UTC)

S = timedelta(seconds=1)

ETH, BTC = Instrument("binance", "ETHUSDT"), Instrument("binance", "BTCUSDT")

T0_US = int(T0.timestamp()) * 1_000_000


def rule(**changes: Any) -> AlertRule:
    fields: dict[str, Any] = {
        "name": "z high",
        "y": ETH,
        "x": BTC,
        "bar": "1s",
        "quantity": "zscore",
        "condition": "above",
        "threshold": 2.0,
        **changes,
    }
    return AlertRule(**fields)


def readings(values: list[float]) -> list[Reading]:
    return [Reading(T0 + k * S, T0 + (k + 1) * S, value, {}) for k, value in enumerate(values)]


def prices(
    store: PostgresStore, values: list[float], first: int = 0, symbols: tuple[str, ...] = ()
) -> None:
    """One trade a second in both legs; y at the prices given, x at 100. All closed."""
    for symbol in symbols or ("ETHUSDT", "BTCUSDT"):
        store.write(
            "binance",
            [
                trade(
                    k, T0_US + k * 1_000_000, value if symbol == "ETHUSDT" else 100.0, symbol=symbol
                )
                for k, value in enumerate(values, first)
            ],
        )
    nothing_after(store, T0_US + (first + len(values)) * 1_000_000)


def price_rule(**changes: Any) -> Any:
    return rule(**{"quantity": "price_y", "threshold": 100.0, "name": "dear", **changes})


def event(k: int = 0, edge: Any = "up") -> AlertEvent:
    return AlertEvent(T0 + k * S, T0 + (k + 1) * S, edge, 101.0, {"close_y": 101.0, "b": T0.year})


def outcome(stored: StoredRule, *events: AlertEvent, **changes: Any) -> Outcome:
    state = AlertState(events[-1].ts if events else T0, Side("fired", 1))
    made = Outcome(
        stored.rule_id,
        stored.revision,
        stored.serial,
        stored.rule,
        state,
        101.0,
        None,
        tuple((item, "title", "body") for item in events),
    )
    return replace(made, **changes)


def only(store: PostgresStore) -> StoredRule:
    (stored,) = list_rules(store)
    return stored


def watch_once(store: PostgresStore, channels: tuple[str, ...] = ()) -> list[int]:
    """What the watcher does when it starts: the ids of the new events."""
    evaluator = Evaluator(store)
    evaluator.load()
    outcomes = evaluator.step()
    taken = store_outcomes(store, outcomes, channels)
    evaluator.settle(outcomes, taken)
    return [number for events in taken.values() for number, *_ in events]
