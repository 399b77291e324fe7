"""The page through Streamlit's own test harness, on a real store."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from pairs.alerts.store import create_rule, list_events, list_rules, store_outcomes
from pairs.dashboard.sidebar import partner_of
from pairs.dashboard.views.methods import FILE, sections_of
from pairs.figures.hints import HINTS
from pairs.market import Rejected
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.alert_rules import event, only, outcome, price_rule
from tests.support.pages import fill, html
from tests.support.rows import trade

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


def test_an_empty_store_says_what_to_do(page: AppTest) -> None:
    page.run()
    assert not page.exception
    assert page.code[0].value == "python ingest_websocket.py"


def test_the_default_pair_is_two_symbols_of_one_group(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    assert not page.exception
    assert not page.error
    assert (page.selectbox(key="y").value, page.selectbox(key="x").value) == ("ETHUSDT", "BTCUSDT")


def test_the_two_legs_are_never_the_same(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    page.selectbox(key="y").set_value("BTCUSDT").run()
    assert not page.exception
    assert page.selectbox(key="x").value == "ETHUSDT"  # the pair the other way round
    assert "BTCUSDT" not in page.selectbox(key="x").options
    page.button(key="swap").click().run()
    assert (page.selectbox(key="y").value, page.selectbox(key="x").value) == ("ETHUSDT", "BTCUSDT")
    page.selectbox(key="y").set_value("XRPUSDT").run()
    assert page.selectbox(key="x").value == "BTCUSDT"  # what was not chosen stands
    assert page.segmented_control(key="bar").value == "1min"
    assert not page.exception


def test_a_pair_begins_within_a_group() -> None:
    offered = ["ADAUSDT", "BNBUSDT", "BTCUSDT", "ETHUSDT", "LTCUSDT", "SOLUSDT", "XRPUSDT"]
    for y, x in (
        ("ETHUSDT", "BTCUSDT"),
        ("BTCUSDT", "ETHUSDT"),
        ("XRPUSDT", "BNBUSDT"),
        ("BNBUSDT", "LTCUSDT"),
        ("ADAUSDT", "BTCUSDT"),
    ):
        assert partner_of(y, [name for name in offered if name != y]) == x
    assert partner_of("A", ["B", "C"]) == "B"


def test_a_fixed_beta_begins_at_the_fit_and_stands_in_the_address(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store, error=9)
    page.query_params.update(hedge="fixed", bar="1s", window_1s="30")
    page.run()
    start = page.number_input(key="beta").value
    assert start is not None
    assert 0.01 < start < 0.05  # not the 1 of two prices alike
    assert page.query_params["beta"] in (repr(start), [repr(start)])
    page.number_input(key="beta").set_value(0.5).run()
    assert page.query_params["beta"] in ("0.5", ["0.5"])
    page.selectbox(key="x").set_value("XRPUSDT").run()
    assert float(page.number_input(key="beta").value or 0) > 1000  # of another pair
    assert not page.exception
    assert not page.error


def test_a_line_through_few_points_is_called_so(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.query_params.update(bar="1s", window_1s="30", fit_1s="2")
    page.run()
    assert any("A line through 2 points" in c.value for c in page.caption)
    page.number_input(key="fit_1s").set_value(11).run()
    assert not any("A line through" in c.value for c in page.caption)


def test_every_hint_leads_to_a_section_of_the_methods(page: AppTest, store: PostgresStore) -> None:
    sections = sections_of(FILE.read_text(encoding="utf-8"))
    for name, (sentence, topic) in HINTS.items():
        assert any(topic in heading for heading in sections), name
        assert sentence.endswith(".")
    fill(store)
    page.query_params.update(view="Methods", topic="half_life")
    page.run()
    assert "Chan" in page.main.markdown[0].value
    assert 'href="?view=Methods&amp;topic=engle_granger_both"' in html(page)
    assert not page.exception


def test_a_view_can_be_saved_as_it_is_shown(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.query_params.update(bar="1s", window_1s="30", fit_1s="60")
    page.run()
    for view in ("Market", "Pair", "Statistics", "Scanner", "Backtest", "Alerts", "Data", "System"):
        page.segmented_control(key="view").set_value(view).run()
        deadline = time.monotonic() + 60
        while "view-csv" in [b.key for b in page.button] and time.monotonic() < deadline:
            time.sleep(0.1)  # there is none before there is a result
            page.run()
        assert "view-csv" not in [b.key for b in page.button], view
        assert "This view as CSV" in str([b.proto for b in page.sidebar.get("download_button")])
    page.segmented_control(key="view").set_value("Methods").run()
    assert page.button(key="view-csv").disabled
    assert not page.exception


@pytest.mark.parametrize("hedge", ["rolling", "kalman", "fixed", "ols"])
def test_every_hedge_method_draws(page: AppTest, store: PostgresStore, hedge: str) -> None:
    fill(store)
    page.run()
    page.selectbox(key="hedge").set_value(hedge).run()
    assert not page.exception
    assert not page.error


def test_impossible_thresholds_are_told(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    page.number_input(key="exit").set_value(3.0).run()
    assert any("Exit z is not below entry z" in w.value for w in page.warning)


def test_a_database_that_cannot_be_had_is_one_sentence(
    page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/none")
    page.run()
    assert not page.exception
    assert "cannot use the database" in page.error[0].value


def test_a_bad_setting_is_one_sentence(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEED", "magic")
    page.run()
    assert "FEED='magic' is not usable" in page.error[0].value


def test_back_and_forward_follow_each_other_at_once(page: AppTest, store: PostgresStore) -> None:
    """Whether an address is one that the page itself has just left is no question of seconds."""
    fill(store)
    page.run()
    first, other = page.selectbox(key="y").value, page.selectbox(key="x").value
    for y in (other, first, other):
        pair = f"local:{y}~{first if y == other else other}"
        page.query_params.update(pair=pair)
        page.run()
        assert page.selectbox(key="y").value == y
        assert page.query_params["pair"] in (pair, [pair])


@pytest.mark.parametrize("view", ["Market", "Pair", "Backtest", "Alerts", "Data", "System"])
def test_every_view_is_drawn(page: AppTest, store: PostgresStore, view: str) -> None:
    fill(store)
    page.query_params["view"] = view
    page.run()
    assert not page.exception
    assert not page.error


def test_every_set_of_stored_rows_is_shown(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    store.write("local", [trade(500, time.time_ns() // 1000, symbol="ETHUSDT", price=2_500.0)])
    store.quarantine("local", [Rejected("no JSON", "{", "ETHUSDT")])
    store.write_upload("MINE", 1, read_bars(store.engine, "local", "BTCUSDT", 1))
    page.query_params["view"] = "Data"
    page.run()
    sets = page.segmented_control(key="stored").options
    assert len(sets) == 8
    for name in sets:
        page.segmented_control(key="stored").set_value(name).run()
        assert not page.exception
        assert not page.error
        assert len(page.dataframe) == 1, name


def test_a_file_makes_a_pair_with_a_live_market(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    bars = read_bars(store.engine, "local", "BTCUSDT", 1)
    store.write_upload("MINE", 1, bars)
    page.run()
    page.selectbox(key="x").set_value("upload:MINE").run()
    assert not page.exception
    assert not page.error
    assert "MINE (Uploads)" in page.selectbox(key="x").options
    assert page.warning == []


def test_the_filters_noise_is_estimated_and_used(page: AppTest, store: PostgresStore) -> None:
    fill(store, error=9)
    page.query_params["bar"] = "1s"
    page.run()
    page.selectbox(key="hedge").set_value("kalman").run()
    assert "fit_noise" not in [button.key for button in page.button]
    page.toggle(key="noise_given").set_value(True).run()
    assert page.number_input(key="noise_ETHUSDT").value == 0.0  # 5 bps of 2,500, squared
    page.button(key="fit_noise").click().run()
    deadline = time.monotonic() + 60
    while not [b for b in page.button if b.key == "use_noise"] and time.monotonic() < deadline:
        time.sleep(0.5)
        page.run()
    chosen = next(c.value for c in page.caption if c.value.startswith("Most likely: "))
    page.button(key="use_noise").click().run()
    assert f"variance {page.number_input(key='noise_ETHUSDT').value:g} " in chosen
    assert not page.exception
    assert not page.error


def test_a_toast_of_a_run_that_did_not_end_is_shown_by_the_next(
    page: AppTest, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit drops what a run has not sent when another begins: here that of the new rule."""
    shown: list[str] = []
    monkeypatch.setattr("streamlit.toast", lambda text, **_: shown.append(text))
    fill(store)
    create_rule(store, price_rule())
    page.query_params["view"] = "Alerts"
    page.run()
    store_outcomes(store, [outcome(only(store), event())], [])
    title = list_events(store)[0].title
    time.sleep(1.1)  # until the page looks again
    page.button(key="rule_save").click().run()
    assert len(list_rules(store)) == 2
    assert shown == [title, title]
    page.run()
    assert shown == [title, title]


@pytest.mark.parametrize(
    ("name", "said", "trials", "then"),
    [
        ("Run", "the only set ever tried on these bars here", 1, "one of 2 sets"),
        ("Parameters", "one of 77 sets tried on these bars", 77, "one of 154 sets"),
        ("Walk-forward", "OUT OF SAMPLE", 77, "one of 154 sets"),
        ("Costs", "At other costs, in-sample", 0, "At other costs, in-sample"),
    ],
)
def test_a_backtest_is_there_when_its_view_opens_and_follows_every_control(
    page: AppTest, store: PostgresStore, name: str, said: str, trials: int, then: str
) -> None:
    fill(store)
    page.query_params.update(view="Backtest", bar="1s", bt_page=name, window_1s="30", fit_1s="60")
    page.query_params.update(bt_train="150", bt_test="60")
    page.run()
    backtested(page, said)
    assert not page.exception
    assert not page.error
    assert [b for b in page.button if b.label.startswith("Run")] == []
    with store.transaction() as cursor:  # every set looked at is counted
        cursor.execute("SELECT count(*) FROM trial")
        assert cursor.fetchone() == (trials,)
    page.segmented_control(key="view").set_value("Pair").run()
    page.segmented_control(key="view").set_value("Backtest").run()
    assert said in html(page)  # results outlive another view
    page.number_input(key="bt_slippage").set_value(7.0).run()
    backtested(page, then)


def test_windows_too_long_for_what_is_stored_are_shortened_at_a_click(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    page.query_params.update(view="Backtest", bar="1s")
    page.run()
    assert "The windows need 1,019 bars" in page.info[0].value
    page.button(key="fit_windows").click().run()
    backtested(page, "bt-basis")
    assert not page.info
    assert int(page.number_input(key="window_1s").value or 120) < 120
    assert not page.exception
    assert not page.error


def backtested(page: AppTest, said: str) -> None:
    """Run the page again, as its own fragments do, until the work beside it is done."""
    deadline = time.monotonic() + 60
    while said not in html(page) and time.monotonic() < deadline:
        time.sleep(0.1)
        page.run()
    assert said in html(page)


def test_a_backtest_follows_the_bars(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.query_params.update(view="Backtest", bar="1s", window_1s="30", fit_1s="60")
    page.run()
    backtested(page, "bt-basis")
    bars = re.search(r">Bars</td><td[^>]*>([\d,]+)<", html(page))
    assert bars
    now = time.time_ns() // 1000
    for symbol, price in (("BTCUSDT", 60_000.0), ("ETHUSDT", 2_500.0)):
        rows = [trade(400 + k, now + k * 1_000_000, price, symbol=symbol) for k in range(5)]
        store.write("local", rows)
    before, deadline = int(bars[1].replace(",", "")), time.monotonic() + 60
    while int(bars[1].replace(",", "")) < before + 4:
        assert time.monotonic() < deadline, bars
        time.sleep(0.2)
        page.run()
        bars = re.search(r">Bars</td><td[^>]*>([\d,]+)<", html(page)) or bars


def test_a_lost_account_is_not_judged(page: AppTest, store: PostgresStore) -> None:
    fill(store, error=50)
    page.query_params.update(view="Backtest", window_1s="30", fit_1s="60", bt_capital="1")
    page.query_params.update(bt_slippage="300", entry="0.5", bar="1s")
    page.run()
    deadline = time.monotonic() + 60
    while "bt-sharpe" not in html(page) and time.monotonic() < deadline:
        time.sleep(0.2)
        page.run()
    assert not page.exception
    assert "the capital was lost on the way: no ratio" in html(page)
    assert "luck" not in html(page)
    card = re.search(
        r'data-testid="bt-sharpe".*?class="v[^"]*">(.*?)<.*?class="s">(.*?)<', html(page)
    )
    assert card
    assert card.groups() == ("–", "the capital was lost")
    for label in ("Sharpe ratio", "Sortino ratio", "Volatility", "Calmar ratio"):
        assert re.search(rf">{label}[^/]*?(<a .*?</a>)?</td><td[^>]*>–</td>", html(page)), label


def test_rules_that_cannot_be_traded_are_told(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.query_params["view"] = "Backtest"
    page.run()
    page.number_input(key="exit").set_value(3.0).run()
    assert "exit_z=3 is not usable with entry_z=2" in page.error[0].value
