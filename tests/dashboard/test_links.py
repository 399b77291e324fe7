"""A link opens the view it was copied from, or says what of it could not be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pairs.dashboard.address import home_of, pair_text
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.pages import fill

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


def legs(page: AppTest) -> tuple[str, str]:
    return page.selectbox(key="y").value, page.selectbox(key="x").value


def opened(page: AppTest, store: PostgresStore, **link: str) -> AppTest:
    fill(store)
    page.query_params.update(link)
    page.run()
    assert not page.exception
    return page


def told(page: AppTest) -> str:
    return " ".join(w.value for w in page.warning if w.value.startswith("The link"))


def named(page: AppTest) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else v[-1] for k, v in page.query_params.items()}


def test_a_pair_is_named_with_its_venue() -> None:
    y, x = Instrument("local", "A"), Instrument("local", "B")
    assert pair_text(y, x) == "local:A~B"
    assert pair_text(y, Instrument("upload", "F")) == "local:A~upload:F"
    assert home_of(Instrument("upload", "F"), x) == "local"


def test_the_address_always_names_view_pair_and_bar(page: AppTest, store: PostgresStore) -> None:
    opened(page, store)
    assert named(page) == {"view": "Pair", "pair": "local:ETHUSDT~BTCUSDT", "bar": "1min"}
    page.selectbox(key="y").set_value("BTCUSDT").run()
    page.selectbox(key="y").set_value("XRPUSDT").run()
    shown = legs(page)
    assert named(page)["pair"] == f"local:{shown[0]}~{shown[1]}"


@pytest.mark.parametrize(
    "link",
    [
        {"pair": "local:XRPUSDT~BTCUSDT"},
        {"pair": "local:xrpusdt~btcusdt", "bar": "1m"},
        {"venue": "local", "y": "XRPUSDT", "x": "BTCUSDT"},
        {"venue": "Simulated", "y": "xrpusdt", "x": "local:BTCUSDT"},
        {"y": "XRPUSDT", "x": "BTCUSDT", "bar": "1S"},
    ],
)
def test_links_old_and_new_open_the_pair(
    page: AppTest, store: PostgresStore, link: dict[str, str]
) -> None:
    opened(page, store, **link)
    assert legs(page) == ("XRPUSDT", "BTCUSDT")
    assert told(page) == ""
    assert named(page)["pair"] == "local:XRPUSDT~BTCUSDT"
    assert not {"y", "x", "venue"} & set(named(page))


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"y": "NOPE"}, "NOPE at Simulated, which is not stored here"),
        ({"pair": "local:NOPE~BTCUSDT"}, "NOPE at Simulated, which is not stored here"),
        ({"pair": "binance:ETHUSDT~BTCUSDT"}, "ETHUSDT at Binance, which is not stored here"),
        ({"pair": "nonsense"}, "pair=nonsense, which is not of the form"),
        ({"pair": "local:XRPUSDT~XRPUSDT"}, "XRPUSDT on both legs"),
        ({"venue": "binance"}, "Binance, of which no pair is stored"),
        ({"bar": "7min"}, "bar=7min, where 1s, 1min, "),
        ({"hedge": "magic"}, "hedge=magic, where Rolling OLS"),
        ({"view": "Nonsense"}, "view=Nonsense, where Market"),
        ({"entry": "99"}, "entry=99, which cannot be chosen (it is 2)"),
        ({"window_1s": "many"}, "window_1s=many, which cannot be chosen (it is 120)"),
        ({"live": "perhaps"}, "live=perhaps, which cannot be chosen (it is True)"),
        ({"scale": "Bananas"}, "scale=Bananas, which cannot be chosen (it is Change)"),
        ({"y": "![x](http://evil.example/p.png)"}, "evil.example"),
    ],
)
def test_a_link_that_cannot_be_honoured_says_so(
    page: AppTest, store: PostgresStore, link: dict[str, str], said: str
) -> None:
    opened(page, store, **{"bar": "1s", **link})
    assert said in told(page).replace("\\_", "_")
    assert "![x](" not in told(page)
    assert page.selectbox(key="y").value == "ETHUSDT" or "XRPUSDT" in str(link)
    page.segmented_control(key="view").set_value("Data").run()
    assert said in told(page).replace("\\_", "_")  # until it has been read
    page.button(key="link_read").click().run()
    assert told(page) == ""


def test_a_good_link_says_nothing(page: AppTest, store: PostgresStore) -> None:
    opened(page, store, view="Statistics", hedge="kalman", looked_at="300", entry="1.5", utm="x")
    assert told(page) == ""
    assert page.selectbox(key="looked_at").value == "300"
    assert named(page)["hedge"] == "kalman"
    assert named(page)["looked_at"] == "300"


@pytest.mark.parametrize(
    ("link", "key", "value"),
    [
        ({"hedge": "Kalman filter"}, "hedge", "kalman"),
        ({"view": "Statistics", "looked_at": "600 bars"}, "looked_at", "600"),
        ({"view": "statistics"}, "view", "Statistics"),
    ],
)
def test_labels_of_earlier_links_are_understood(
    page: AppTest, store: PostgresStore, link: dict[str, str], key: str, value: str
) -> None:
    opened(page, store, **link)
    assert told(page) == ""
    assert page.session_state[key] == value


def test_a_file_beside_a_market_comes_back_by_its_address(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    for name in ("AAA", "BBB", "CCC"):
        store.write_upload(name, 1, read_bars(store.engine, "local", "BTCUSDT", 1))
    opened(page, store, pair="upload:CCC~BBB")
    assert legs(page) == ("CCC", "BBB")
    page.selectbox(key="x").set_value("AAA").run()
    assert named(page)["pair"] == "upload:CCC~AAA"
    page.query_params = {"pair": "local:ETHUSDT~upload:CCC"}
    page.run()
    assert legs(page) == ("ETHUSDT", "upload:CCC")
    page.query_params = {"pair": "upload:AAA~local:ETHUSDT"}
    page.run()
    assert legs(page) == ("upload:AAA", "ETHUSDT")
    assert told(page) == ""


def test_an_address_of_before_means_what_it_leaves_out(page: AppTest, store: PostgresStore) -> None:
    """Back from another hedge ratio: the entry before does not name one."""
    opened(page, store)
    before = dict(page.query_params)
    page.selectbox(key="hedge").set_value("fixed").run()
    assert named(page)["hedge"] == "fixed"
    page.session_state["address_sent"] = page.session_state["address_sent"][-1:]  # it has arrived
    page.query_params = before
    page.run()
    assert page.selectbox(key="hedge").value == "rolling"


def test_clicks_faster_than_the_browser_hears_of_the_address_all_count(
    page: AppTest, store: PostgresStore
) -> None:
    """A click names the address that the browser had when it was made: two behind, perhaps."""
    opened(page, store)
    late = dict(page.query_params)
    for view in ("Data", "System", "Market", "Statistics"):
        page.query_params = dict(late)
        page.segmented_control(key="view").set_value(view).run()
        assert page.session_state["view"] == view
        assert named(page)["view"] == view


def test_after_a_jump_there_is_a_way_back(page: AppTest, store: PostgresStore) -> None:
    opened(page, store)
    page.segmented_control(key="view").set_value("Scanner").run()
    page.session_state["came_from"], page.session_state["came_to"] = "Scanner", None
    page.segmented_control(key="view").set_value("Pair").run()
    assert page.button(key="back").label == "‹ Scanner"
    page.button(key="back").click().run()
    assert page.session_state["view"] == "Scanner"
    assert not [b for b in page.button if b.key == "back"]
    page.segmented_control(key="view").set_value("Pair").run()
    assert not [b for b in page.button if b.key == "back"]
