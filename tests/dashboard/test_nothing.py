"""Where there is nothing to show, the page says why, in words that help."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from pairs.dashboard.context import nothing_words
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_span
from tests.support.pages import fill

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest


def day(number: int) -> datetime:
    return datetime(2026, 11, number, tzinfo=UTC)


def test_the_reason_is_the_one_that_holds() -> None:
    apart = [("A", (day(1), day(2))), ("B", (day(25), day(27)))]
    said = nothing_words(apart, "1min")
    assert said.startswith("A from 01 Nov 2026 00:00 to 02 Nov 2026 00:00, B from 25 Nov")
    assert "no common time" in said
    assert "No bar of B is stored" in nothing_words([apart[0], ("B", None)], "1min")
    assert "both have yet" in nothing_words([apart[0], ("B", (day(1), day(3)))], "1min")


def test_legs_of_different_times_are_told_so(page: AppTest, store: PostgresStore) -> None:
    fill(store)
    bars = read_bars(store.engine, "local", "BTCUSDT", 1)
    first = read_span(store.engine, "local", "BTCUSDT", 1)
    assert first == (bars.index[0], bars.index[-1])
    assert read_span(store.engine, "local", "NOPE", 1) is None
    store.write_upload("OLD", 1, bars.shift(freq=pd.Timedelta(days=-30)))
    page.query_params["pair"] = "local:ETHUSDT~upload:OLD"
    page.run()
    assert not page.exception
    assert [i.value for i in page.info if "no common time" in i.value]
    page.segmented_control(key="view").set_value("Statistics").run()
    assert [i.value for i in page.info if "no common time" in i.value]


def test_numbers_of_tables_are_written_as_those_of_cards(
    page: AppTest, store: PostgresStore
) -> None:
    fill(store)
    page.query_params["view"] = "Data"
    page.run()
    for name in ("Pair", "BTCUSDT bars", "BTCUSDT trades"):
        page.segmented_control(key="stored").set_value(name).run()
        assert not page.exception
        assert not page.error
        shown = page.dataframe[0].proto.arrow_data.styler.display_values
        assert shown, name
