"""Alerts in a real PostgreSQL: told once whoever evaluates, and delivered until it is done."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import psycopg2
import pytest

from pairs.alerts import outbox
from pairs.alerts.evaluator import Evaluator
from pairs.alerts.live import LiveAlerts
from pairs.alerts.lock import Watch
from pairs.alerts.rules import AlertState, Side
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
from pairs.storage.retention import prune_alerts
from tests.support.alert_rules import (
    BTC,
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
from tests.support.rows import rows

# -- rules


def test_a_rule_is_kept_as_it_is_and_edited(store: PostgresStore) -> None:
    made = rule(persistence=3, hysteresis=0.5, cool_down_s=60)
    rule_id = create_rule(store, made)
    stored = only(store)
    assert (stored.rule_id, stored.rule, stored.revision) == (rule_id, made, 1)
    assert stored.state == AlertState()
    renamed = replace(made, name="another name")
    assert update_rule(store, rule_id, renamed)
    assert (only(store).rule, only(store).revision) == (renamed, 1)
    assert update_rule(store, rule_id, replace(made, threshold=3.0))
    assert only(store).revision == 2
    assert delete_rule(store, rule_id)
    assert not delete_rule(store, rule_id)
    assert not update_rule(store, rule_id, made)
    assert list_rules(store) == []


def test_a_stored_rule_that_cannot_be_read_says_so_and_hides_no_other(store: PostgresStore) -> None:
    bad, good = create_rule(store, rule()), create_rule(store, rule(name="good"))
    with store.transaction() as cursor:
        cursor.execute("UPDATE alert_rule SET rule = '{\"name\": 1}' WHERE rule_id = %s", (bad,))
    first, second = list_rules(store)
    assert first.rule is None
    assert "cannot be read" in str(first.problem)
    assert second.rule_id == good
    assert second.rule is not None
    evaluator = Evaluator(store)
    evaluator.load()
    assert len(evaluator) == 1


def test_a_rule_begins_with_the_bar_last_closed_at_its_creation(store: PostgresStore) -> None:
    prices(store, [101.0] * 10)
    create_rule(store, price_rule())
    assert only(store).state.last_ts == T0 + 7 * S  # bar 9 may be forming, 8 is closed
    prices(store, [101.0, 99.0, 101.0], first=10)
    watch_once(store)
    assert [e.ts for e in list_events(store)] == [T0 + 8 * S, T0 + 12 * S]


def test_an_edit_begins_anew_and_a_new_name_does_not(store: PostgresStore) -> None:
    prices(store, [101.0] * 4)
    rule_id = create_rule(store, price_rule())
    assert len(watch_once(store)) == 1
    update_rule(store, rule_id, replace(price_rule(), name="renamed"))
    assert watch_once(store) == []
    update_rule(store, rule_id, price_rule(enabled=False))
    prices(store, [99.0, 101.0, 99.0, 101.0], first=4)
    assert watch_once(store) == []
    update_rule(store, rule_id, price_rule(condition="below"))
    # only bars from now on: 6 is the last closed one, 99
    assert len(watch_once(store)) == 1
    assert [(e.ts, e.edge) for e in list_events(store)] == [
        (T0 + 2 * S, "up"),
        (T0 + 6 * S, "down"),
    ]


@pytest.mark.parametrize("x", [BTC, Instrument("upload", "OTHER")])
def test_files_are_watched_too_alone_and_beside_a_live_market(
    store: PostgresStore, x: Instrument
) -> None:
    values = [99.0, 101.0, 99.0, 101.0, 99.0, 101.0]
    index = pd.DatetimeIndex([T0 + k * S for k in range(6)], name="ts")
    bars = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close"), values) | {"volume": 1.0}, index=index
    )
    prices(store, values)
    store.write_upload("OTHER", 1, bars)
    store.write_upload("MINE", 1, bars.iloc[:4])
    create_rule(store, price_rule(y=Instrument("upload", "MINE"), x=x))
    assert only(store).state.last_ts == T0 + 2 * S  # bar 3, the last of the file, comes first
    assert len(watch_once(store)) == 1
    assert only(store).problem is None
    store.write_upload("MINE", 1, bars)
    assert len(watch_once(store)) == 1
    assert [e.ts for e in list_events(store)] == [T0 + 3 * S, T0 + 5 * S]


# -- state and events


def test_an_outcome_is_stored_once(store: PostgresStore) -> None:
    create_rule(store, rule())
    stored = only(store)
    first = store_outcomes(store, [outcome(stored, event())], ["json"])
    again = store_outcomes(store, [outcome(stored, event())], ["json"])  # a retry: lost answer
    assert len(first[stored.rule_id]) == 1
    assert again == {}
    assert len(list_events(store)) == 1
    # even a watcher that has seen the new state cannot tell the same bar twice
    assert store_outcomes(store, [outcome(only(store), event())], ["json"]) == {stored.rule_id: []}
    assert len(list_events(store)) == 1
    assert rows(store, "SELECT count(*) FROM alert_delivery") == [(1,)]


def test_the_state_comes_back_as_it_was(store: PostgresStore) -> None:
    create_rule(store, rule())
    state = AlertState(T0, Side("armed", 2), Side("fired", 0), T0 - S)
    store_outcomes(store, [outcome(only(store), state=state, value=float("nan"))], [])
    assert only(store).state == state
    assert only(store).value is None
    assert only(store).evaluated is not None


def test_a_problem_is_told_with_its_beginning(store: PostgresStore) -> None:
    create_rule(store, rule())
    store_outcomes(store, [outcome(only(store), problem="no bars")], [])
    since = only(store).since
    assert since is not None
    store_outcomes(store, [outcome(only(store), problem="fewer bars")], [])
    assert (only(store).problem, only(store).since) == ("fewer bars", since)
    store_outcomes(store, [outcome(only(store))], [])
    assert (only(store).problem, only(store).since) == (None, None)


def test_what_an_edited_or_deleted_rule_would_have_told_is_dropped(store: PostgresStore) -> None:
    kept, edited, gone = (create_rule(store, rule(name=name)) for name in ("a", "b", "c"))
    made = [outcome(stored, event()) for stored in list_rules(store)]
    update_rule(store, edited, rule(threshold=9.0))
    delete_rule(store, gone)
    assert set(store_outcomes(store, made, [])) == {kept}
    assert [e.rule_id for e in list_events(store)] == [kept]


def test_two_evaluators_at_once_tell_everything_once(store: PostgresStore) -> None:
    """Without the lock even: the transactions alone keep it right, and nothing deadlocks."""
    values = [99.0, 101.0] * 15
    prices(store, values[:2])
    for number in range(6):
        create_rule(store, price_rule(persistence=1 + number % 2))
    begin = threading.Barrier(3)

    def evaluate() -> None:
        evaluator = Evaluator(store, clock=lambda: time.monotonic() * 1000)  # always due
        begin.wait()
        for _ in range(40):
            evaluator.load()
            outcomes = evaluator.step()
            evaluator.settle(outcomes, store_outcomes(store, outcomes, ["json"]))

    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(evaluate) for _ in range(2)]
        begin.wait()
        for k in range(2, len(values)):
            prices(store, [values[k]], first=k)
        for one in both:
            one.result(60)
    while watch_once(store):
        pass
    told = sorted((e.rule_id, round((e.ts - T0) / S)) for e in list_events(store))
    odd = [k for k in range(1, len(values)) if values[k] > 100]
    first_rules = [stored.rule_id for stored in list_rules(store)][::2]
    assert told == sorted((rule_id, k) for rule_id in first_rules for k in odd)
    ids = [e.event_id for e in list_events(store)]
    assert ids == sorted(ids)


def test_values_at_the_time_and_the_rule_as_it_stood(store: PostgresStore) -> None:
    prices(store, [99.0, 101.0])
    rule_id = create_rule(store, price_rule(condition="crosses_up"))
    prices(store, [99.0, 102.5], first=2)
    watch_once(store)
    update_rule(store, rule_id, price_rule(threshold=500.0))
    delete_rule(store, rule_id)
    told = list_events(store)
    assert [e.value for e in told] == [101.0, 102.5]
    assert told[-1].figures["close_y"] == 102.5
    assert told[-1].figures["close_x"] == 100.0
    assert told[-1].figures["zscore"] is None  # warming up: unknown is not zero
    assert told[-1].rule == price_rule(condition="crosses_up")
    assert told[-1].known_at == told[-1].ts + S
    assert told[-1].title == "dear: ETHUSDT price crosses up 100: 102.5"


# -- events


def test_a_tab_asks_for_what_it_has_not_shown(store: PostgresStore) -> None:
    create_rule(store, rule())
    for k in range(5):
        store_outcomes(store, [outcome(only(store), event(k))], [])
    ids = [e.event_id for e in list_events(store)]
    assert [e.event_id for e in list_events(store, ids[1], 2)] == ids[2:4]
    assert [e.event_id for e in recent_events(store, 2)] == [ids[4], ids[3]]
    assert [e.event_id for e in recent_events(store, 9, ids[3])] == ids[2::-1]


def test_acknowledged_once(store: PostgresStore) -> None:
    create_rule(store, rule())
    for k in range(3):
        store_outcomes(store, [outcome(only(store), event(k))], [])
    first, second, _ = (e.event_id for e in list_events(store))
    assert acknowledge(store, [first, second]) == 2
    when = list_events(store)[0].acknowledged
    assert acknowledge(store, [first]) == 0
    assert when is not None
    assert list_events(store)[0].acknowledged == when
    assert pulse(store).unacknowledged == 1
    assert acknowledge(store) == 1
    assert acknowledge(store, []) == 0


def test_old_events_go_with_their_deliveries(store: PostgresStore) -> None:
    create_rule(store, rule())
    store_outcomes(store, [outcome(only(store), event())], ["json"])
    assert prune_alerts(store, 30) == 0
    assert prune_alerts(store, 30, datetime.now(UTC) + timedelta(days=31)) == 1
    assert rows(store, "SELECT count(*) FROM alert_delivery") == [(0,)]


def test_everything_is_notified(store: PostgresStore) -> None:
    with_ear = store.connect()
    with_ear.autocommit = True
    with_ear.cursor().execute("LISTEN alerts")
    create_rule(store, rule())
    store_outcomes(store, [outcome(only(store), event())], [])
    acknowledge(store)
    number = list_events(store)[0].event_id
    deadline = time.monotonic() + 20
    while len(with_ear.notifies) < 3 and time.monotonic() < deadline:
        with_ear.poll()
        time.sleep(0.01)
    assert [n.payload for n in with_ear.notifies] == ["rules", str(number), "acknowledged"]
    with_ear.close()


# -- the page's poll


def test_all_tabs_share_one_poll(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    create_rule(store, rule())
    clock = [100.0]
    live = LiveAlerts(store, clock=lambda: clock[0])
    assert live.poll(1.0).newest_id == 0
    store_outcomes(store, [outcome(only(store), event(), problem="late")], ["json"])
    for _ in range(10):
        assert live.poll(1.0).newest_id == 0
    clock[0] += 1.0
    after = live.poll(1.0)
    assert [e.edge for e in after.since(0)] == ["up"]
    assert after.since(after.newest_id) == []
    assert after.rules == ()
    board = live.poll(1.0, rules=True)
    assert board.problems == {only(store).rule_id: "late"}
    assert not board.watcher_runs
    # a delivery that is done shows without a new event
    outbox.delivered(store, outbox.claim(store, "json"))  # type: ignore[arg-type]
    clock[0] += 1.0
    assert live.poll(1.0).events[0].deliveries[0].state == "delivered"
    # an own click shows at once
    acknowledge(store)
    live.forget()
    assert live.poll(1.0).events[0].acknowledged is not None

    def away(*_: object) -> None:
        raise psycopg2.OperationalError("server closed the connection")

    monkeypatch.setattr("pairs.alerts.live.pulse", away)
    clock[0] += 1.0
    lost = live.poll(1.0)
    assert lost.error == "server closed the connection"
    assert len(lost.events) == 1


# -- outbox


def waiting(store: PostgresStore, *channels: str, events: int = 1) -> list[int]:
    create_rule(store, rule())
    outbox.register_channels(store, channels)
    for k in range(events):
        store_outcomes(store, [outcome(only(store), event(k))], channels)
    return [e.event_id for e in list_events(store)]


def test_a_delivery_is_claimed_by_one_and_retried_until_it_is_done(store: PostgresStore) -> None:
    first, second = waiting(store, "json", "tgram", events=2)
    claimed = outbox.claim(store, "json")
    other = outbox.claim(store, "json")
    assert claimed is not None
    assert other is not None
    assert (claimed.event_id, claimed.attempts, claimed.title) == (first, 1, "title")
    assert other.event_id == second
    assert outbox.claim(store, "json") is None
    outbox.failed(store, claimed, "error 503", 0.05)
    due = outbox.next_due_s(store, "json")
    assert due is not None
    assert due <= 0.05
    time.sleep(0.06)
    again = outbox.claim(store, "json")
    assert again is not None
    assert (again.event_id, again.attempts) == (first, 2)
    json_state, tgram_state = outbox.channel_states(store)
    assert (json_state.last_error, json_state.waiting) == ("error 503", 2)
    assert (tgram_state.last_error, tgram_state.waiting) == (None, 2)
    outbox.delivered(store, again)
    assert outbox.channel_states(store)[0].last_error is None
    assert outbox.channel_states(store)[0].last_delivered is not None
    outbox.failed(store, other, "gone", None)
    assert outbox.channel_states(store)[0].given_up == 1
    assert outbox.next_due_s(store, "json") is None


def test_many_couriers_share_the_work_without_doing_any_twice(store: PostgresStore) -> None:
    ids = waiting(store, "json", events=30)
    done: list[int] = []

    def work() -> None:
        while (claimed := outbox.claim(store, "json")) is not None:
            done.append(claimed.event_id)
            outbox.delivered(store, claimed)

    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(work) for _ in range(4)]:
            made.result(30)
    assert sorted(done) == ids


def test_what_a_killed_courier_had_claimed_is_due_at_the_next_start(store: PostgresStore) -> None:
    (event_id,) = waiting(store, "json")
    assert outbox.claim(store, "json") is not None
    assert outbox.claim(store, "json") is None
    outbox.register_channels(store, ["json"])
    again = outbox.claim(store, "json")
    assert again is not None
    assert (again.event_id, again.attempts) == (event_id, 2)


def test_deliveries_of_a_channel_that_was_taken_away_are_given_up(store: PostgresStore) -> None:
    waiting(store, "json", "tgram")
    assert outbox.register_channels(store, ["json"]) == 1
    (told,) = list_events(store)
    assert [(d.channel, d.state) for d in told.deliveries] == [
        ("json", "waiting"),
        ("tgram", "given_up"),
    ]
    assert [(c.channel, c.configured) for c in outbox.channel_states(store)] == [
        ("json", True),
        ("tgram", False),
    ]


# -- the lock


def test_one_watcher_at_a_time(store: PostgresStore) -> None:
    pipe = os.pipe()
    first, second = Watch(store.connect), Watch(store.connect)
    assert first.claim()
    assert not second.claim()
    assert not first.heartbeat()
    create_rule(store, rule())
    assert first.heartbeat()
    assert first.wait(1.0, pipe[0]).rules
    age = pulse(store).watcher_age_s
    assert age is not None
    assert age < 5
    first.close()
    assert second.claim()
    with pytest.raises(psycopg2.InterfaceError):
        first.heartbeat()
    second.close()
    for end in pipe:
        os.close(end)
