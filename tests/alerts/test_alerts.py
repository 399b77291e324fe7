"""The promises of alert rules: edges told once, nothing foreseen, a restart changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairs.alerts.rules import (
    AlertEvent,
    AlertRule,
    AlertState,
    bar_readings,
    evaluate,
    feed_reading,
)
from pairs.alerts.stored_form import (
    rule_from_json,
    rule_to_json,
    state_from_json,
    state_to_json,
)
from pairs.alerts.words import message, short_text
from pairs.analytics.pair import PairSpec, pair_view
from pairs.market import Instrument
from tests.support.alert_rules import BTC, ETH, T0, S, readings, rule


def fired(made: AlertRule, values: list[float]) -> list[tuple[int, str]]:
    _, events = evaluate(made, AlertState(), readings(values))
    return [(round((event.ts - T0) / S), event.edge) for event in events]


NAN = math.nan
SNOOZED: dict[str, Any] = {
    "snoozed_from": T0 + 2 * S,
    "snoozed_until": T0 + 6 * S,
}  # of what is known, not labels


@pytest.mark.parametrize(
    ("changes", "values", "expected"),
    [
        # above: once per excursion, the first bar seen included, the threshold itself not
        ({}, [3, 3, 2, 3, 2.0, 2.1], [(0, "up"), (3, "up"), (5, "up")]),
        ({"condition": "below"}, [3, 2, 1.9, 1, 2, 0], [(2, "down"), (5, "down")]),
        # crosses needs to have seen the other side
        ({"condition": "crosses_up"}, [3, 3, 2, 3], [(3, "up")]),
        ({"condition": "crosses_down"}, [1, 1, 2, 1], [(3, "down")]),
        ({"condition": "crosses"}, [1, 3, 1, 2, 3], [(1, "up"), (2, "down"), (4, "up")]),
        # persistence: bars in a row; an unknown value is no bar in a row
        ({"persistence": 3}, [3, 3, 1, 3, 3, 3, 3], [(5, "up")]),
        ({"persistence": 2}, [3, NAN, 3, 3], [(3, "up")]),
        # hysteresis: armed again at threshold - h or less, not before
        ({"hysteresis": 1.0}, [3, 1.5, 3, 1.0, 3], [(0, "up"), (4, "up")]),
        (
            {"condition": "crosses", "hysteresis": 0.5},
            [1.9, 2.1, 1.9, 2.1, 1.5, 2.1, 2.5, 1.9],
            [(1, "up"), (2, "down"), (5, "up"), (7, "down")],
        ),
        # the first crossing needs no hysteresis: nothing has fired yet
        ({"condition": "crosses_up", "hysteresis": 1.0}, [1.9, 2.1], [(1, "up")]),
        # unknown values neither fire nor arm
        ({}, [3, NAN, 3], [(0, "up")]),
        # cool-down: what becomes due meanwhile fires at its end, if it still holds
        ({"cool_down_s": 3}, [3, 1, 3, 3, 3], [(0, "up"), (3, "up")]),
        ({"cool_down_s": 3}, [3, 1, 3, 1, 1, 3], [(0, "up"), (5, "up")]),
        ({"enabled": False}, [3, 1, 3], []),
        # snoozed: what is known meanwhile is silent; at its end it fires if it still holds
        (SNOOZED, [3, 1, 3, 3, 1, 3, 3, 1, 3], [(0, "up"), (5, "up"), (8, "up")]),
        (SNOOZED, [3, 1, 3, 3, 1, 1, 3], [(0, "up"), (6, "up")]),
    ],
)
def test_when_a_rule_fires(
    changes: dict[str, Any], values: list[float], expected: list[tuple[int, str]]
) -> None:
    assert fired(rule(**changes), values) == expected


def oracle(made: AlertRule, values: list[float], edge: str) -> list[int]:
    """The definition, read forward from one event to the next; for rules of one edge."""
    sign = 1.0 if edge == "up" else -1.0
    beyond = [sign * value > sign * made.threshold for value in values]
    level = made.threshold - sign * made.hysteresis
    found: list[int] = []
    armed = -1  # the bar after which the run may begin
    if made.condition.startswith("crosses"):
        seen = [k for k, value in enumerate(values) if not beyond[k] and not math.isnan(value)]
        armed = seen[0] if seen else len(values)
    while True:
        due = [
            k
            for k in range(armed + made.persistence, len(values))
            if all(beyond[k - made.persistence + 1 : k + 1])
            and (not found or k - found[-1] >= made.cool_down_s)
        ]
        if not due:
            return found
        found.append(due[0])
        back = [
            k
            for k in range(due[0] + 1, len(values))
            if not beyond[k] and sign * values[k] <= sign * level
        ]
        if not back:
            return found
        armed = back[0]


RULES = st.builds(
    rule,
    condition=st.sampled_from(["above", "below", "crosses_up", "crosses_down", "crosses"]),
    threshold=st.sampled_from([-1.0, 0.0, 0.5]),
    persistence=st.integers(1, 3),
    hysteresis=st.sampled_from([0.0, 0.5, 1.5]),
    cool_down_s=st.sampled_from([0.0, 2.0, 5.0]),
)
SNOOZES = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
    lambda at: {"snoozed_from": T0 + at[0] * S, "snoozed_until": T0 + sum(at) * S}
)
VALUES = st.lists(
    st.one_of(st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, NAN]), st.floats(-3, 3)),
    max_size=40,
)


@given(RULES.filter(lambda made: made.condition != "crosses"), VALUES)
def test_events_are_those_of_the_definition(made: AlertRule, values: list[float]) -> None:
    edge = made.edges[0]
    assert fired(made, values) == [(k, edge) for k in oracle(made, values, edge)]


@given(RULES, VALUES)
def test_crosses_without_cool_down_is_both_directions_at_once(
    made: AlertRule, values: list[float]
) -> None:
    both = replace(made, condition="crosses", cool_down_s=0.0)
    apart = [
        (k, edge)
        for name, edge in (("crosses_up", "up"), ("crosses_down", "down"))
        for k in oracle(replace(both, condition=name), values, edge)  # type: ignore[arg-type]
    ]
    assert sorted(fired(both, values)) == sorted(apart)


@given(RULES, SNOOZES, VALUES)
def test_a_restart_after_every_bar_changes_nothing(
    made: AlertRule, snooze: dict[str, Any], values: list[float]
) -> None:
    made = replace(made, **snooze)
    rows = readings(values)
    whole_state, whole = evaluate(made, AlertState(), rows)
    state, pieces = AlertState(), []
    for k in range(len(rows)):
        # what a restart does: the state through JSON, the rule too, some bars once more
        stored = json.loads(json.dumps(state_to_json(state), allow_nan=False))
        again = rule_from_json(json.loads(json.dumps(rule_to_json(made), allow_nan=False)))
        state = state_from_json(state.last_ts, stored)
        state, events = evaluate(again, state, rows[max(0, k - 3) : k + 1])
        pieces += events
    assert pieces == whole
    assert state == whole_state
    assert evaluate(made, state, rows) == (state, [])


@given(RULES, VALUES, st.integers(0, 40))
def test_events_of_a_beginning_are_the_beginning_of_the_events(
    made: AlertRule, values: list[float], k: int
) -> None:
    _, whole = evaluate(made, AlertState(), readings(values))
    _, some = evaluate(made, AlertState(), readings(values[:k]))
    assert some == whole[: len(some)]
    assert all((event.ts - T0) / S < k for event in some)
    assert all((event.ts - T0) / S >= min(k, len(values)) for event in whole[len(some) :])


def test_arguments_are_left_as_they_are() -> None:
    rows = readings([3.0, 1.0, 3.0])
    state = AlertState()
    evaluate(rule(), state, rows)
    assert state == AlertState()
    assert rows == readings([3.0, 1.0, 3.0])


# -- where the values come from


def bars(closes: list[float]) -> pd.DataFrame:
    index = pd.date_range(T0, periods=len(closes), freq="1s", unit="us", name="ts")
    return pd.DataFrame({"close": closes}, index=index)


@pytest.mark.parametrize(
    ("quantity", "column"),
    [
        ("zscore", "zscore"),
        ("abs_zscore", "zscore"),
        ("spread", "spread"),
        ("correlation", "correlation"),
        ("beta", "beta"),
        ("price_y", "close_y"),
        ("price_x", "close_x"),
    ],
)
def test_readings_are_the_rows_of_the_view(quantity: str, column: str) -> None:
    y = [100.0, 101, 99, 104, 103, 102, 107, 101]
    x = [50.0, 51, 49, 51, 52, 50, 53, 51]
    spec = PairSpec(window=3)
    view = pair_view(bars(y), bars(x), spec)
    threshold = 0.5 if quantity == "correlation" else 2.0
    made = rule(quantity=quantity, spec=spec, threshold=threshold)
    rows = bar_readings(made, view, T0 + 2 * S)
    assert [row.ts for row in rows] == [T0 + k * S for k in range(3, 8)]
    assert all(row.known_at - row.ts == S for row in rows)
    pd.testing.assert_series_equal(
        pd.Series([row.value for row in rows]),
        view.frame[column].iloc[3:].abs()
        if quantity == "abs_zscore"
        else view.frame[column].iloc[3:],
        check_index=False,
        check_names=False,
    )
    assert rows[-1].figures["close_y"] == 101
    assert len(bar_readings(made, view, None)) == 8
    assert bar_readings(made, view, T0 + 7 * S) == []
    part = pair_view(bars(y[:6]), bars(x[:6]), spec)  # no look-ahead: rows do not change later
    assert str(bar_readings(made, part, T0 + 2 * S)) == str(rows[:3])


def test_staleness_is_that_of_the_leg_silent_longest() -> None:
    made = rule(quantity="staleness", threshold=30, condition="crosses", hysteresis=20)
    state, told = AlertState(), []
    for k, age in enumerate([1.0, 29, 31, 32, 12, 31, 5]):
        reading = feed_reading(made, {ETH: age, BTC: 0.5}, T0 + k * S)
        state, events = evaluate(made, state, [reading])
        told += [(k, event.edge, event.value) for event in events]
    assert told == [(2, "up", 31), (4, "down", 12)]
    unknown = feed_reading(made, {ETH: 1.0}, T0)
    assert math.isnan(unknown.value)
    assert evaluate(made, AlertState(), [unknown])[1] == []


# -- refusals


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a" * 81}, "name"),
        ({"y": Instrument("nasdaq", "A")}, "y.venue"),
        ({"y": Instrument("binance", "")}, "y.symbol"),
        ({"y": "ETHUSDT"}, "y="),
        ({"x": Instrument("binance", "a b")}, "x.symbol"),
        ({"x": Instrument("binance", "ethusdt")}, "x="),
        ({"bar": "1m"}, "bar"),
        ({"bar": "90d"}, "bar"),
        ({"bar": 60}, "bar"),
        ({"quantity": "vol"}, "quantity"),
        ({"condition": "at"}, "condition"),
        ({"threshold": NAN}, "threshold"),
        ({"threshold": math.inf}, "threshold"),
        ({"threshold": "2"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"persistence": 0}, "persistence"),
        ({"persistence": 1.5}, "persistence"),
        ({"persistence": 1001}, "persistence"),
        ({"hysteresis": -1}, "hysteresis"),
        ({"cool_down_s": -1}, "cool_down_s"),
        ({"cool_down_s": 1e9}, "cool_down_s"),
        ({"enabled": 1}, "enabled"),
        ({"snoozed_from": T0}, "snoozed_until"),
        ({"snoozed_until": T0}, "snoozed_from"),
        ({"snoozed_from": T0, "snoozed_until": T0 - S}, "snoozed_until"),
        ({"snoozed_from": T0.replace(tzinfo=None), "snoozed_until": T0}, "zone"),
        ({"quantity": "abs_zscore", "threshold": 0.0}, "threshold"),
        ({"spec": None}, "spec"),
        ({"spec": PairSpec(hedge="ols")}, "looks ahead"),
        ({"quantity": "correlation", "threshold": 1.0}, "threshold"),
        ({"quantity": "correlation", "threshold": 0.5, "hysteresis": 1.5}, "hysteresis"),
        ({"quantity": "price_x", "threshold": 0.0}, "threshold"),
        ({"quantity": "price_y", "threshold": 5.0, "hysteresis": 5.0}, "hysteresis"),
        ({"quantity": "staleness", "threshold": 9.0, "persistence": 2}, "persistence"),
        ({"quantity": "staleness", "threshold": 9.0, "x": Instrument("upload", "A")}, "quantity"),
        ({"x": Instrument("local", "BTCUSDT")}, "simulated with real"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_the_fields_name(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        rule(**changes)


def test_symbols_are_taken_in_any_case() -> None:
    assert rule(y=Instrument("binance", "ethusdt")).y == ETH


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([], "rule is a list"),
        ({"name": "a"}, "rule has no y, x, quantity, condition, threshold"),
        ({**rule_to_json(rule()), "colour": "red"}, "rule has no field colour"),
        ({**rule_to_json(rule()), "spec": {"widow": 3}}, "spec has no field widow"),
        ({**rule_to_json(rule()), "spec": {"window": 1}}, "window"),
    ],
)
def test_json_that_is_no_rule_is_refused(values: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        rule_from_json(values)


@pytest.mark.parametrize("side", [["gone", 0], ["new"], "new", ["new", -1], ["new", "1"]])
def test_json_that_is_no_state_is_refused(side: object) -> None:
    with pytest.raises(ValueError, match="up"):
        state_from_json(None, {"up": side})


# -- in words


def test_a_message_says_what_where_when_and_with_which_figures() -> None:
    made = rule(persistence=3)
    event = AlertEvent(T0, T0 + S, "up", 2.34567, {"zscore": 2.34567, "beta": NAN})
    title, body = message(made, event, T0 + 2 * S)
    assert title == "z high: ETHUSDT/BTCUSDT z-score above 2 for 3 bars: 2.34567"
    assert body.splitlines() == [
        "z high",
        "binance:ETHUSDT / binance:BTCUSDT, 1s bar of 2026-01-01 00:00:00 UTC, "
        "closed 2026-01-01 00:00:01 UTC",
        "zscore 2.34567",
    ]
    late = message(made, event, T0 + timedelta(hours=2))[1]
    assert late.endswith("told 1:59:59 after it was known")


def test_simulated_data_say_so_first() -> None:
    legs = {
        leg: Instrument("local", symbol) for leg, symbol in (("y", "ETHUSDT"), ("x", "BTCUSDT"))
    }
    made = rule(**legs, quantity="price_x", threshold=60_000, condition="crosses_down")
    title, _ = message(made, AlertEvent(T0, T0, "down", 59_999.5, {}), T0)
    assert title == "[SIMULATED] z high: BTCUSDT price crosses down 60000: 59999.5"


def test_a_rule_without_a_name_is_called_by_its_condition_and_told_once() -> None:
    made = rule()
    unnamed = replace(made, name=made.default_name())
    assert unnamed.name == "ETHUSDT/BTCUSDT z-score above 2"
    title, _ = message(unnamed, AlertEvent(T0, T0, "up", 2.5, {}), T0)
    assert title == "ETHUSDT/BTCUSDT z-score above 2: 2.5"
    other = rule(threshold=2.5, quantity="abs_zscore")
    assert other.default_name() == "ETHUSDT/BTCUSDT |z| above 2.5"


@pytest.mark.parametrize(
    ("changes", "edge", "value", "said"),
    [
        ({}, "up", 2.3149, "▲ z 2.31 ETH/BTC"),
        ({"condition": "below", "threshold": -2.0}, "down", -2.5, "▼ z −2.50 ETH/BTC"),
        ({"quantity": "abs_zscore"}, "up", 2.0, "▲ |z| 2.00 ETH/BTC"),
        ({"quantity": "price_y", "threshold": 2500.0}, "up", 2512.25, "▲ 2512.25 ETH"),
        ({"quantity": "staleness"}, "up", 11.0, "▲ silent 11.00 ETH/BTC"),
        ({"y": Instrument("upload", "MINE")}, "up", 2.0, "▲ z 2.00 MINE/BTC"),
        ({"y": Instrument("upload", "USDT")}, "up", 2.0, "▲ z 2.00 USDT/BTC"),
    ],
)
def test_a_title_of_a_tab_is_short(
    changes: dict[str, Any], edge: str, value: float, said: str
) -> None:
    assert short_text(rule(**changes), edge, value) == said


def test_a_name_or_a_snooze_alone_leaves_the_state() -> None:
    made = rule()
    assert made.watches_the_same(replace(made, name="other", **SNOOZED))
    assert replace(made, **SNOOZED).watches_the_same(made)
    assert not made.watches_the_same(replace(made, threshold=2.1))
    again = rule_from_json(json.loads(json.dumps(rule_to_json(replace(made, **SNOOZED)))))
    assert again == replace(made, **SNOOZED)
    with pytest.raises(ValueError, match="snoozed_until"):
        rule_from_json({**rule_to_json(made), "snoozed_until": "soon"})
