"""A user's files: their names, and their end."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from pairs.live.bars import LiveBars
from pairs.market import Instrument
from pairs.storage.files import UploadError, remove_upload, rename_upload
from pairs.storage.postgres import PostgresStore
from pairs.storage.queries import read_bars, read_symbols
from pairs.storage.trials import Sample, count_trials


def bars(count: int = 30, close: float = 2.0) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=count, freq="1min", tz="UTC", name="ts")
    values = {"open": close, "high": close + 1, "low": close / 2, "close": close, "volume": 1.0}
    return pd.DataFrame(values, index=index)


def closes(live: LiveBars) -> set[float]:
    return set(live.poll(0.0).y.closed["close"])


def live_bars(store: PostgresStore, symbol: str) -> LiveBars:
    return LiveBars(store.reads, (Instrument("upload", symbol),), "1min", (60,))


def test_a_file_gets_another_name_and_its_old_one_is_free(store: PostgresStore) -> None:
    store.write_upload("OLD", 60, bars())
    old, new = live_bars(store, "OLD"), live_bars(store, "NEW")
    assert (closes(old), closes(new)) == ({2.0}, set())
    assert rename_upload(store, "OLD", " new ") == "NEW"
    assert read_symbols(store.engine)["upload"] == ["NEW"]
    assert (closes(old), closes(new)) == (set(), {2.0})  # of whoever had them open before
    assert store.write_upload("OLD", 60, bars(close=3.0)).new == 30
    assert (closes(old), closes(new)) == ({3.0}, {2.0})


def test_a_name_that_stands_for_a_file_is_not_given_twice(store: PostgresStore) -> None:
    store.write_upload("ONE", 60, bars())
    store.write_upload("TWO", 60, bars(close=5.0))
    with pytest.raises(UploadError, match="TWO is stored already"):
        rename_upload(store, "ONE", "TWO")
    with pytest.raises(ValueError, match="malformed"):
        rename_upload(store, "ONE", "no name")
    with pytest.raises(UploadError, match="no file called GONE"):
        rename_upload(store, "GONE", "HERE")
    assert rename_upload(store, "ONE", "one") == "ONE"
    assert read_symbols(store.engine)["upload"] == ["ONE", "TWO"]


@pytest.mark.parametrize("again", [30, 20])
def test_a_file_is_removed_and_another_of_its_name_is_not_mixed_with_it(
    store: PostgresStore, again: int
) -> None:
    store.write_upload("MINE", 60, bars())
    store.write_upload("MINE", 3600, bars(2))
    before = live_bars(store, "MINE")
    assert closes(before) == {2.0}
    assert remove_upload(store, "MINE") == 32
    assert "upload" not in read_symbols(store.engine)
    with pytest.raises(UploadError, match="no file called MINE"):
        remove_upload(store, "MINE")
    store.write_upload("MINE", 60, bars(again, close=7.0))
    assert closes(before) == {7.0}
    assert len(before.poll(0.0).y.closed) == again
    store.write_upload("OTHER", 60, bars(close=9.0))
    remove_upload(store, "MINE")
    assert rename_upload(store, "OTHER", "MINE") == "MINE"
    assert closes(before) == {9.0}


def test_what_was_tried_on_a_file_stays_counted(store: PostgresStore) -> None:
    file, other = Instrument("upload", "ZZ"), Instrument("local", "ETHUSDT")
    first, last = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    store.write_upload("ZZ", 60, bars())
    count_trials(store, Sample((file, other), 60, first, last), {"a": 0.1, "b": 0.2})
    rename_upload(store, "ZZ", "AA")
    renamed = Sample((other, Instrument("upload", "AA")), 60, first, last)
    assert sorted(count_trials(store, renamed, {"c": 0.3})) == [0.1, 0.2, 0.3]


def test_a_file_renamed_while_it_is_stored_takes_nothing_of_it(store: PostgresStore) -> None:
    store.write_upload("MINE", 60, bars())

    def rename(*_: int) -> None:
        rename_upload(store, "MINE", "YOURS")

    with pytest.raises(ValueError, match="MINE got another name meanwhile"):
        store.write_upload("MINE", 60, bars(close=4.0), rename)
    assert set(read_bars(store.engine, "upload", "YOURS", 60)["close"]) == {2.0}
    assert read_symbols(store.engine)["upload"] == ["YOURS"]
