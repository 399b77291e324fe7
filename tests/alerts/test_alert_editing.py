"""What is done with a rule by hand: snoozed, brought back, tested, seen."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pairs.alerts import outbox
from pairs.alerts.editing import (
    TEST,
    restore_rule,
    send_channel_test,
    send_rule_test,
    snooze_rule,
)
from pairs.alerts.evaluator import Evaluator
from pairs.alerts.lock import Watch
from pairs.alerts.store import (
    acknowledge,
    create_rule,
    delete_rule,
    list_events,
    list_rules,
    pulse,
    recent_events,
    store_outcomes,
    update_rule,
)
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import (
    BTC,
    ETH,
    T0,
    S,
    event,
    only,
    outcome,
    price_rule,
    prices,
    rule,
    watch_once,
)


def test_a_snoozed_rule_is_silent_and_keeps_its_state(store: PostgresStore) -> None:
    prices(store, [99.0, 101.0])
    rule_id = create_rule(store, price_rule())
    before = only(store)
    now = datetime.now(UTC)
    until = snooze_rule(store, rule_id, 3600)
    assert until is not None
    assert timedelta(minutes=59) < until - now < timedelta(minutes=61)
    after = only(store)
    assert (after.revision, after.state) == (before.revision, before.state)
    assert after.rule is not None
    assert after.rule.snoozed_until == until
    # what was being judged meanwhile is not stored
    assert store_outcomes(store, [outcome(before, event())], []) == {}
    begin = after.rule.snoozed_from
    assert snooze_rule(store, rule_id, 7200) is not None
    longer = only(store).rule
    assert longer is not None
    assert longer.snoozed_from == begin
    over = snooze_rule(store, rule_id, 0)
    assert over is not None
    assert over <= datetime.now(UTC) + timedelta(seconds=1)
    assert snooze_rule(store, 999, 60) is None
    for wrong in (-1, float("nan"), 1e9):
        with pytest.raises(ValueError, match="seconds"):
            snooze_rule(store, rule_id, wrong)


def test_the_watcher_tells_nothing_while_a_rule_is_snoozed(store: PostgresStore) -> None:
    prices(store, [99.0] * 4)
    made = price_rule(snoozed_from=T0 + 4 * S, snoozed_until=T0 + 8 * S)
    create_rule(store, made)
    prices(store, [101.0, 99.0, 101.0, 99.0, 99.0, 101.0], first=4)
    watch_once(store)
    assert [e.ts for e in list_events(store)] == [T0 + 9 * S]


def test_a_deleted_rule_comes_back_as_it_stood_and_catches_up(store: PostgresStore) -> None:
    prices(store, [101.0] * 3)
    rule_id = create_rule(store, price_rule())
    assert len(watch_once(store)) == 1
    deleted = only(store)
    delete_rule(store, rule_id)
    prices(store, [101.0, 99.0, 101.0], first=3)
    assert watch_once(store) == []
    assert restore_rule(store, deleted)
    assert not restore_rule(store, deleted)
    assert len(list_rules(store)) == 1
    assert only(store).state == deleted.state
    watch_once(store)
    # neither told again nor missed
    assert [e.ts for e in list_events(store)] == [T0 + S, T0 + 5 * S]
    assert {e.rule_id for e in list_events(store)} == {rule_id}
    assert create_rule(store, price_rule()) != rule_id
    assert not restore_rule(store, replace(deleted, rule=None))


def test_a_running_watcher_takes_a_rule_back(store: PostgresStore) -> None:
    prices(store, [99.0] * 3)
    rule_id = create_rule(store, price_rule())
    evaluator = Evaluator(store, clock=iter(range(0, 10**6, 10)).__next__)

    def step() -> None:
        evaluator.load()
        outcomes = evaluator.step({"binance"})
        evaluator.settle(outcomes, store_outcomes(store, outcomes, []))

    step()
    deleted = only(store)
    delete_rule(store, rule_id)
    prices(store, [101.0, 99.0], first=3)
    step()
    restore_rule(store, deleted)
    step()
    assert [e.ts for e in list_events(store)] == [T0 + 3 * S]


def test_a_test_of_a_rule_goes_over_every_channel_and_raises_no_badge(
    store: PostgresStore,
) -> None:
    outbox.register_channels(store, ["json", "tgram"])
    create_rule(store, rule())
    store_outcomes(store, [outcome(only(store), value=1.25)], ["json"])
    number = send_rule_test(store, only(store))
    (told,) = list_events(store)
    assert told.event_id == number
    assert told.test
    assert told.title == "[TEST] z high: ETHUSDT/BTCUSDT z-score above 2: 1.25"
    assert told.body.endswith(TEST)
    assert told.remark == TEST
    assert [d.channel for d in told.deliveries] == ["json", "tgram"]
    now = pulse(store)
    assert (now.newest_event, now.unacknowledged) == (number, 0)
    send_rule_test(store, only(store))  # as often as one likes
    assert len(list_events(store)) == 2
    assert send_rule_test(store, replace(only(store), rule=None)) is None


def test_a_test_of_a_channel_goes_over_that_one(store: PostgresStore) -> None:
    outbox.register_channels(store, ["json", "tgram"])
    send_channel_test(store, "tgram")
    assert outbox.claim(store, "json") is None
    claimed = outbox.claim(store, "tgram")
    assert claimed is not None
    assert claimed.title == "[TEST] channel tgram"
    outbox.delivered(store, claimed)
    (told,) = recent_events(store)
    assert (told.test, told.rule, told.deliveries[0].state) == (True, None, "delivered")
    assert outbox.channel_states(store)[1].last_delivered is not None
    send_channel_test(store, "gone")
    assert outbox.claim(store, "gone") is None


def test_a_test_wakes_the_watcher(store: PostgresStore) -> None:
    outbox.register_channels(store, ["json"])
    pipe = os.pipe()
    watch = Watch(store.connect)
    assert watch.claim()
    send_channel_test(store, "json")
    assert watch.wait(1.0, pipe[0]).tests
    assert not watch.wait(0.0, pipe[0]).tests
    watch.close()
    for end in pipe:
        os.close(end)


def test_all_is_seen_however_many_and_nothing_that_was_not_shown(store: PostgresStore) -> None:
    create_rule(store, rule())
    for k in range(3):
        made = [event(100 * k + j) for j in range(100)]
        store_outcomes(store, [outcome(only(store), *made)], [])
    ids = [e.event_id for e in list_events(store, limit=300)]
    assert pulse(store).unacknowledged == 300
    assert acknowledge(store, up_to=ids[-2]) == 299
    assert pulse(store).unacknowledged == 1
    assert acknowledge(store, [ids[-1]]) == 1
    assert pulse(store).unacknowledged == 0


def test_events_of_a_pair_in_either_order(store: PostgresStore) -> None:
    other = Instrument("binance", "XRPUSDT")
    for y, x in ((ETH, BTC), (BTC, ETH), (ETH, other)):
        rule_id = create_rule(store, rule(y=y, x=x))
        stored = next(s for s in list_rules(store) if s.rule_id == rule_id)
        store_outcomes(store, [outcome(stored, event())], [])
    ids = [e.event_id for e in list_events(store)]
    assert [e.event_id for e in recent_events(store, pair=(ETH, BTC))] == ids[1::-1]
    assert [e.event_id for e in recent_events(store, pair=(other, ETH))] == ids[2:]
    assert recent_events(store, pair=(other, Instrument("binance", "LTCUSDT"))) == []


def test_an_edit_ends_a_snooze_only_where_it_says_so(store: PostgresStore) -> None:
    rule_id = create_rule(store, rule())
    snooze_rule(store, rule_id, 600)
    held = only(store).rule
    assert held is not None
    revision = only(store).revision
    update_rule(store, rule_id, replace(held, name="other"))
    assert only(store).revision == revision
    kept = only(store).rule
    assert kept is not None
    assert kept.snoozed_until == held.snoozed_until
