"""The upload in the sidebar, through Streamlit's own test harness, on a real store."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from pairs.dashboard.upload import partner_of, symbol_of
from pairs.market import Instrument
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars
from tests.support.pages import fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamlit.testing.v1 import AppTest

HEAD = "timestamp,open,high,low,close,volume\n"
VIEWS = ("Market", "Pair", "Statistics", "Scanner", "Backtest", "Alerts", "Data", "System")


def minutes(count: int, start: str = "2024-01-01") -> str:
    index = pd.date_range(start, periods=count, freq="1min", tz="UTC")
    return HEAD + "".join(f"{ts:%Y-%m-%dT%H:%MZ},1,3,0.5,2,{k}\n" for k, ts in enumerate(index))


def put(page: AppTest, name: str, text: str) -> None:
    page.sidebar.file_uploader[0].upload(name, text.encode()).run()


def until(page: AppTest, seen: Callable[[], Any]) -> None:
    """Run the page again until the job beside it has come to an end."""
    deadline = time.monotonic() + 60
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.1)
        page.run()
    assert seen()
    assert not page.exception


def button(page: AppTest, key: str) -> Any:
    return next((b for b in page.sidebar.button if b.key == key), None)


def store_file(page: AppTest, name: str, text: str) -> str:
    put(page, name, text)
    until(page, lambda: button(page, "store"))
    button(page, "store").click().run()
    until(page, lambda: page.sidebar.success)
    return str(page.sidebar.success[0].value)


def test_the_upload_stands_in_the_sidebar_of_every_view(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    page.run()
    for view in VIEWS:
        page.segmented_control(key="view").set_value(view).run()
        assert len(page.sidebar.file_uploader) == 1, view
        others = [found.key for found in page.file_uploader if "bt_load" not in str(found.key)]
        assert len(others) == 1, view  # but for the parameters of an earlier run
        assert not page.exception


def test_a_file_is_taken_before_anything_else_is_stored(
    page: AppTest, store: PostgresStore
) -> None:
    page.run()
    assert store_file(page, "AAA.csv", minutes(50)).startswith("AAA: 50 bars stored, 0 replaced")
    assert button(page, "open-upload") is None
    assert "pair with another file" in page.sidebar.caption[-1].value
    store_file(page, "BBB.csv", minutes(50))
    button(page, "open-upload").click().run()
    assert (page.selectbox(key="y").value, page.selectbox(key="x").value) == ("BBB", "AAA")
    assert not page.sidebar.success


def test_reading_and_storing_go_on_while_views_change(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    put(page, "AAA.csv", minutes(3000))
    page.segmented_control(key="view").set_value("System").run()
    until(page, lambda: button(page, "store"))
    page.sidebar.text_input[0].set_value("MINE").run()
    page.segmented_control(key="view").set_value("Data").run()
    assert page.sidebar.text_input[0].value == "MINE"
    button(page, "store").click().run()
    page.segmented_control(key="view").set_value("Pair").run()
    until(page, lambda: page.sidebar.success)
    assert len(read_bars(store.engine, "upload", "MINE", 60)) == 3000
    page.segmented_control(key="view").set_value("Data").run()
    page.segmented_control(key="stored").set_value("Files").run()
    assert page.dataframe[0].value.iloc[0][["symbol", "bar", "bars"]].tolist() == [
        "MINE",
        "1min",
        3000,
    ]


def test_a_stored_file_opens_beside_the_live_market_of_its_time(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    page.run()
    page.number_input(key="entry").set_value(1.7).run()
    bars = read_bars(store.engine, "local", "XRPUSDT", 1)
    text = HEAD + "".join(
        f"{ts:%Y-%m-%dT%H:%M:%SZ},{r.open},{r.high},{r.low},{r.close},{r.volume}\n"
        for ts, r in zip(bars.index, bars.itertuples(), strict=True)
    )
    store_file(page, "MINE_1s.csv", text)
    assert page.number_input(key="entry").value == 1.7  # nothing else has moved
    assert page.selectbox(key="y").value == "ETHUSDT"
    opened = button(page, "open-upload")
    assert opened.label == "Open MINE / BTCUSDT"
    opened.click().run()
    assert (page.selectbox(key="y").value, page.selectbox(key="x").value) == (
        "upload:MINE",
        "BTCUSDT",
    )
    assert not page.exception
    assert not page.error


def test_a_refusal_says_why_and_names_nothing_stored(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    page.run()
    put(page, "BAD.csv", HEAD + "2024-01-01,1,2,3,1,1\n")
    until(page, lambda: page.sidebar.error)
    assert page.sidebar.error[0].value == (
        "Nothing was stored. BAD.csv: row 2: high 2.0 is below low"
    )
    put(page, "GOOD.csv", minutes(5))
    until(page, lambda: button(page, "store"))
    page.sidebar.text_input[0].set_value("no name").run()
    button(page, "store").click().run()
    assert "symbol 'no name' is malformed" in page.sidebar.error[0].value
    assert "upload" not in {
        v for v, *_ in store.engine.connect().exec_driver_sql("SELECT venue FROM v_bars")
    }


def test_two_jobs_at_once_do_not_break_the_page(
    page: AppTest, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read while a backtest is made: two bars, two ways to stop."""
    fill(store)
    held = threading.Event()

    def slowly(_: bytes, progress: Callable[[int, int], None]) -> None:
        while not held.wait(0.02):
            progress(1, 2)

    def run(*_: object) -> None:
        held.wait()
        raise ValueError("held")

    monkeypatch.setattr("pairs.dashboard.upload.read_bars", slowly)
    monkeypatch.setattr("pairs.dashboard.views.backtest.run", run)
    page.query_params.update(view="Backtest", bar="1s", window_1s="30", fit_1s="60")
    page.run()
    try:
        put(page, "AAA.csv", minutes(5))
        assert not page.exception
        stops = [b for b in page.button if b.label == "Stop"]
        assert len(stops) == len({b.key for b in stops}) == 2
        button(page, next(b.key for b in stops if b in page.sidebar.button)).click().run()
        until(page, lambda: page.sidebar.info)  # a stop is heard while it is read
        assert page.sidebar.info[0].value.startswith("Stopped: nothing was stored")
    finally:
        held.set()


def test_the_other_leg_is_one_with_bars_at_the_same_time(store: PostgresStore) -> None:
    fill(store)
    index = pd.date_range("2024-01-01", periods=40, freq="1min", tz="UTC", name="ts")
    bars = pd.DataFrame(
        {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 1.0}, index=index
    )
    for name, shift in (("NEW", 0), ("OLD", 10_000), ("SAME", 39)):
        store.write_upload(name, 60, bars.set_axis(index + pd.Timedelta(minutes=shift)))
    file, legs = Instrument("upload", "NEW"), (Instrument("local", "ETHUSDT"),) * 2
    found = partner_of(store, file, legs, index[0], index[-1])
    assert found == (file, Instrument("upload", "SAME"))
    far = pd.Timestamp("2020-01-01", tz="UTC")
    assert partner_of(store, file, legs, far, far) is None


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTCUSDT_1min.csv", "BTCUSDT"),
        ("my file.csv", "MY_FILE"),
        ("é-15m.csv", "É"),
        ("_5m.csv", "UPLOAD"),
        ("a" * 60 + ".csv", "A" * 40),
    ],
)
def test_a_file_name_suggests_a_symbol(name: str, symbol: str) -> None:
    assert symbol_of(name) == symbol


def test_a_file_is_renamed_and_removed_once_that_is_said_twice(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    bars = read_bars(store.engine, "local", "XRPUSDT", 1)
    for name in ("MINE", "YOURS"):
        store.write_upload(name, 1, bars)
    page.query_params.update(view="Data", stored="Files", bar="1s")
    page.run()
    page.selectbox(key="y").set_value("upload:MINE").run()
    page.text_input(key="rename_MINE").set_value("yours").run()
    page.button(key="file_rename").click().run()
    assert "a file called YOURS is stored already" in page.error[0].value
    page.text_input(key="rename_MINE").set_value("other").run()
    page.button(key="file_rename").click().run()
    assert page.main.success[0].value == "MINE is called OTHER from now on."
    assert page.selectbox(key="y").value == "upload:OTHER"  # who looks at it goes on looking
    assert set(page.dataframe[0].value["symbol"]) == {"OTHER", "YOURS"}
    page.selectbox(key="file").set_value("OTHER").run()
    page.button(key="file_remove").click().run()
    assert "Remove 400 bars of OTHER?" in page.main.warning[0].value
    page.button(key="file_remove_no").click().run()
    assert not page.main.warning
    page.button(key="file_remove").click().run()
    page.button(key="file_remove_yes").click().run()
    assert page.main.success[0].value.startswith("OTHER was removed: ")
    assert set(page.dataframe[0].value["symbol"]) == {"YOURS"}
    assert page.selectbox(key="y").value == "ETHUSDT"
    assert not page.exception
    assert not page.error
