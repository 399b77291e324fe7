"""The alerts view: what is typed becomes that rule or none, and everything can be taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pairs.alerts import outbox
from pairs.alerts.preview import preview
from pairs.alerts.rules import AlertRule
from pairs.alerts.store import (
    create_rule,
    delete_rule,
    list_events,
    list_rules,
    pulse,
    store_outcomes,
)
from pairs.analytics.pair import PairSpec, pair_view
from pairs.dashboard.alerting.numbers import typed_number
from pairs.figures.plain import plain
from pairs.live.bars import LiveBars
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from tests.support.alert_rules import event, only, outcome, price_rule
from tests.support.pages import fill, html

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

ETH, BTC, XRP = (Instrument("local", name) for name in ("ETHUSDT", "BTCUSDT", "XRPUSDT"))
LONG = "W" * 80


def opened(page: AppTest, store: PostgresStore) -> AppTest:
    """The view on a filled store, bars of a second."""
    fill(store, error=1)
    page.query_params["view"] = "Alerts"
    page.query_params["bar"] = "1s"
    page.run()
    assert not page.exception
    return page


def here(**changes: Any) -> Any:
    return price_rule(**{"y": ETH, "x": BTC, **changes})


def choose(page: AppTest, what: str, number: int = 0) -> AppTest:
    """Pick from the menu of a rule."""
    menu: Any = page.get("menu_button")[number]
    menu.click(what)
    return page.run()


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), (" -0.5 ", -0.5), ("−1.5", -1.5), ("1e-3", 1e-3), (".5", 0.5), ("+3.", 3.0)],
)
def test_a_number_is_read_as_it_was_typed(text: str, value: float) -> None:
    assert typed_number("Threshold", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "",
        " ",
        "two",
        "1,5",
        "1_000",
        "0x10",
        "١",
        "1 2",
        "2e",
        "--2",
    ],
)
def test_what_is_no_number_is_refused_by_the_name_of_the_field(text: str) -> None:
    with pytest.raises(ValueError, match=r"Threshold: “.*” is not usable"):
        typed_number("Threshold", text)


@pytest.mark.parametrize("text", ["3.7", "3.0", "1e2", "-1", "", "three"])
def test_what_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        typed_number("Bars", text, whole=True)


NONSENSE = [
    ("rule_threshold", "1e400", "Threshold"),
    ("rule_threshold", "-1e999", "Threshold"),
    ("rule_threshold", "", "Threshold"),
    ("rule_persistence", "3.7", "For closed bars in a row"),
    ("rule_persistence", "1001", "persistence=1001"),
    ("rule_cool", "1.5", "Then silent for"),
    ("rule_cool", "99999999", "cool_down_s"),
    ("rule_hysteresis", "1e400", "Armed again after"),
    ("rule_hysteresis", "-1", "hysteresis"),
]


def test_a_nonsense_number_makes_no_rule(page: AppTest, store: PostgresStore) -> None:
    opened(page, store)
    for field, text, told in NONSENSE:
        page.text_input(key=field).set_value(text)
        page.button(key="rule_save").click().run()
        assert any("No rule was added" in e.value and told in e.value for e in page.error), text
        assert list_rules(store) == [], text
        page.text_input(key=field).set_value("1").run()
        assert not page.error, field
    page.button(key="rule_save").click().run()
    assert len(list_rules(store)) == 1
    page.selectbox(key="rule_quantity").set_value("correlation").run()
    page.text_input(key="rule_threshold").set_value("1.5")
    page.button(key="rule_save").click().run()
    assert any("No rule was added: threshold=1.5" in e.value for e in page.error)
    assert len(list_rules(store)) == 1


def test_the_preview_says_what_the_evaluation_says(page: AppTest, store: PostgresStore) -> None:
    opened(page, store)
    page.number_input(key="window_1s").set_value(20)
    page.number_input(key="fit_1s").set_value(30).run()
    page.text_input(key="rule_threshold").set_value("1.25").run()
    snapshot = LiveBars(store.reads, (ETH, BTC), "1s", (1, 1)).poll(0.0)
    spec = PairSpec(window=20, hedge_window=30)
    view = pair_view(snapshot.y.closed, snapshot.x.closed, spec)
    made = AlertRule("a", ETH, BTC, "zscore", "above", 1.25, "1s", spec, cool_down_s=60.0)
    count = len(preview(made, view).events)
    assert count > 2
    assert f"Would have fired {count} times in the last 6 min" in html(page)
    page.text_input(key="rule_threshold").set_value("1250").run()
    assert "Would not have fired in the last 6 min" in html(page)
    assert list_rules(store) == []


def test_a_ready_rule_is_one_click_and_can_be_taken_back(
    page: AppTest, store: PostgresStore
) -> None:
    opened(page, store)
    shown = html(page)
    for text in (
        "|z| above 2",
        "feed silent for 10 s",
        "correlation below 0.5",
        "would not have fired in the last 7 min",
    ):
        assert text in shown
    page.button(key="ready_add_0").click().run()
    assert not page.exception
    (stored,) = list_rules(store)
    assert stored.rule is not None
    assert (stored.rule.quantity, stored.rule.threshold) == ("abs_zscore", 2.0)
    assert "ready_add_0" not in [button.key for button in page.button]
    page.button(key="undo").click().run()
    assert list_rules(store) == []
    assert page.button(key="ready_add_1").click().run()
    assert only(store).rule.quantity == "staleness"  # type: ignore[union-attr]


def test_edit_copy_snooze_pause_delete_and_undo(page: AppTest, store: PostgresStore) -> None:
    rule_id = create_rule(store, here(name="mine", bar="1s", threshold=2500.0))
    opened(page, store)
    choose(page, "Edit")
    assert page.text_input(key="rule_threshold").value == "2500"
    assert page.text_input(key="rule_name").value == "mine"
    page.text_input(key="rule_threshold").set_value("2600").run()
    page.button(key="rule_save").click().run()
    assert only(store).rule == here(name="mine", bar="1s", threshold=2600.0)
    assert only(store).rule_id == rule_id
    assert page.text_input(key="rule_threshold").value == "2"  # the form begins anew
    choose(page, "Copy")
    assert page.text_input(key="rule_name").value == "mine (copy)"
    page.button(key="rule_save").click().run()
    assert [s.rule.name for s in list_rules(store) if s.rule] == ["mine", "mine (copy)"]
    choose(page, "Delete", 1)
    assert only(store).rule_id == rule_id
    page.button(key="undo").click().run()
    assert len(list_rules(store)) == 2
    choose(page, "Snooze 1 h")
    assert "☾ silent until" not in html(page)  # nobody watches: that is said instead
    first = list_rules(store)[0].rule
    assert first is not None
    assert first.snoozed_until is not None
    choose(page, "Wake")
    choose(page, "Pause")
    assert not list_rules(store)[0].rule.enabled  # type: ignore[union-attr]
    assert "❚❚ paused" in html(page)
    choose(page, "Resume")
    assert list_rules(store)[0].rule.enabled  # type: ignore[union-attr]


def test_a_rule_in_the_form_is_shown_on_the_chart_and_comes_back(
    page: AppTest, store: PostgresStore
) -> None:
    opened(page, store)
    page.text_input(key="rule_threshold").set_value("1.5").run()
    page.button(key="rule_show").click().run()
    assert page.segmented_control(key="view").value == "Pair"
    assert any("z-score above 1.5" in line.value for line in page.markdown)
    page.button(key="picked_more").click().run()
    assert page.segmented_control(key="view").value == "Alerts"
    assert page.text_input(key="rule_threshold").value == "1.5"
    page.button(key="rule_cancel").click().run()
    page.segmented_control(key="view").set_value("Pair").run()
    page.button(key="entry_alert").click().run()
    assert only(store).rule.quantity == "abs_zscore"  # type: ignore[union-attr]
    assert not page.exception


def test_a_default_name_follows_the_threshold(page: AppTest, store: PostgresStore) -> None:
    opened(page, store).button(key="rule_save").click().run()
    assert only(store).rule.name == "ETHUSDT/BTCUSDT z-score above 2"  # type: ignore[union-attr]
    choose(page, "Edit")
    assert page.text_input(key="rule_name").value == ""
    page.text_input(key="rule_threshold").set_value("2.5").run()
    page.button(key="rule_save").click().run()
    assert only(store).rule.name == "ETHUSDT/BTCUSDT z-score above 2.5"  # type: ignore[union-attr]


def test_a_rule_that_was_deleted_elsewhere_is_not_changed(
    page: AppTest, store: PostgresStore
) -> None:
    rule_id = create_rule(store, here(bar="1s"))
    opened(page, store)
    choose(page, "Edit")
    delete_rule(store, rule_id)
    page.button(key="rule_save").click().run()
    assert "is gone" in page.error[0].value
    page.button(key="rule_save").click().run()
    assert len(list_rules(store)) == 1


def until(page: AppTest, holds: Callable[[str], bool], runs: int = 8) -> None:
    """Run the page until it shows that; all tabs share one poll a second."""
    while not holds(html(page.run())):
        runs -= 1
        assert runs, html(page)
        time.sleep(0.25)  # of that second


def test_nobody_watches_is_told_in_every_view(page: AppTest, store: PostgresStore) -> None:
    opened(page, store)
    assert "alerts not watched" not in html(page)  # there is no rule yet
    create_rule(store, here(bar="1s"))
    for view in ("Pair", "Alerts", "System", "Data"):
        page.segmented_control(key="view").set_value(view).run()
        until(page, lambda shown: "alerts not watched" in shown)
    page.segmented_control(key="view").set_value("Alerts").run()
    assert "○ not watched" in html(page)
    assert "● watching" not in html(page)
    with store.transaction() as cursor:
        cursor.execute("INSERT INTO alert_watcher (heartbeat, started) VALUES (now(), now())")
    until(page, lambda shown: "● watching" in shown and "alerts not watched" not in shown)
    with store.transaction() as cursor:  # it hangs
        cursor.execute("UPDATE alert_watcher SET heartbeat = now() - interval '9 seconds'")
    until(page, lambda shown: "alerts not watched" in shown and "○ not watched" in shown)


def test_this_pairs_events_come_first_and_all_are_seen_at_once(
    page: AppTest, store: PostgresStore
) -> None:
    for made, k in ((here(name="mine"), 0), (here(name="other", x=XRP), 500)):
        rule_id = create_rule(store, made)
        for begin in range(k, k + 130, 65):
            stored = next(s for s in list_rules(store) if s.rule_id == rule_id)
            events = [event(begin + j) for j in range(65)]
            told = outcome(stored, *events)
            told = replace(told, events=tuple((e, f"{made.name}: it", "") for e in events))
            store_outcomes(store, [told], [])
    opened(page, store)
    assert "mine: it" in html(page)
    assert "other: it" not in html(page)  # though the newest 130 are of the other pair
    assert "130 more of other pairs" in html(page)
    newest = max(e.event_id for e in list_events(store, limit=500) if e.title == "mine: it")
    page.button(key=f"seen_{newest}").click().run()
    assert pulse(store).unacknowledged == 259
    page.segmented_control(key="fired_of").set_value("All pairs").run()
    assert "other: it" in html(page)
    page.button(key="acknowledge").click().run()
    assert pulse(store).unacknowledged == 0
    assert 'data-testid="alerts"' not in html(page)
    assert "acknowledge" not in [button.key for button in page.button]


def test_tests_are_sent_from_the_page(page: AppTest, store: PostgresStore) -> None:
    outbox.register_channels(store, ["json"])
    create_rule(store, here(name="mine", bar="1s"))
    opened(page, store)
    choose(page, "Send a test")
    (told,) = list_events(store)
    assert told.test
    assert "mine" in told.title
    assert [d.channel for d in told.deliveries] == ["json"]
    page.button(key="channel_test_0").click().run()
    assert list_events(store)[-1].title == "[TEST] channel json"
    assert pulse(store).unacknowledged == 0


def test_a_name_is_text_wherever_it_stands(page: AppTest, store: PostgresStore) -> None:
    name = "**b** ![x](http://evil.example/x) <img src=x> $x$"
    create_rule(store, here(name=name, bar="1s"))
    create_rule(store, here(name=LONG, bar="1s"))
    opened(page, store)
    assert "<img" not in html(page)
    assert LONG in html(page)
    choose(page, "Delete")
    line = next(m.value for m in page.markdown if m.value.startswith("Deleted"))
    assert line == f"Deleted: {plain(name)}"
