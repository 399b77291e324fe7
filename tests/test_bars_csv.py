"""CSV of bars: everything the contract lets in, everything it keeps out, and the way back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bars_csv import COLUMNS, CsvError, bar_seconds, frame_csv, read_bars_csv, write_bars_csv

HEAD = "timestamp,open,high,low,close,volume\n"
ROW = "2024-01-01T00:00:00Z,1,3,0.5,2,10\n"


def read(text: str) -> pd.DataFrame:
    return read_bars_csv(text.encode())


def test_columns_in_any_order_and_case_further_ones_ignored() -> None:
    bars = read("Volume, CLOSE,note,Low,High,open,TimeStamp\n10,2,x,0.5,3,1,2024-01-01 00:00:00\n")
    assert bars.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert bars.iloc[0].to_dict() == {"open": 1, "high": 3, "low": 0.5, "close": 2, "volume": 10}


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-01-01T00:00:00Z", "2024-01-01T00:00:00", "2024-01-01 00:00", "2024-01-01",
        "2024-01-01T01:00:00+01:00", "1704067200", "1704067200000", "1704067200000000",
        "1704067200.000", "1.7040672e9",
    ],
)  # fmt: skip
def test_timestamps(stamp: str) -> None:
    assert read(HEAD + f"{stamp},1,3,0.5,2,10\n").index[0] == pd.Timestamp("2024-01-01", tz="UTC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,open,high,low,close\n", "row 1: missing column volume"),
        (HEAD, "no rows"),
        (HEAD + ROW + "yesterday,1,3,0.5,2,10\n", "row 3: timestamp 'yesterday'"),
        (HEAD + "20240101,1,3,0.5,2,10\n", "row 2: timestamp '20240101' is no epoch"),
        (HEAD + ROW + ROW.replace(",2,", ",2.5,"), "row 3: timestamp"),
        (HEAD + ROW + "2024-01-02,1,0.4,0.5,2,10\n", "row 3: high 0.4 is below low"),
        (HEAD + "2024-01-02,4,3,0.5,2,10\n", "row 2: open 4.0 is outside low … high"),
        (HEAD + "2024-01-02,1,3,0.5,0.4,10\n", "row 2: close 0.4 is outside"),
        (HEAD + "2024-01-02,1,3,0.5,2,-1\n", "row 2: volume -1.0 is negative"),
        (HEAD + "2024-01-02,1,inf,0.5,2,1\n", "row 2: high 'inf' is not finite"),
        (HEAD + "2024-01-02,nan,3,0.5,2,1\n", "row 2: open 'nan' is not finite"),
        (HEAD + "2024-01-02,1,3,0.5,two,1\n", "row 2: close 'two' is no number"),
        (HEAD + "2024-01-02,1,3,0.5,,1\n", "row 2: close '' is no number"),
        (HEAD + "2024-01-02,0,3,0,2,1\n", "row 2: low 0.0 is not positive"),
        (HEAD + ROW + "\n2024-01-02,1,3,0.5,x,1\n", "row 4: close 'x'"),
        (HEAD + "2024-01-02,1,3,0.5\n", "is no number"),
        (HEAD + "2024-01-02,1,3,0.5,2,1_0\n", "row 2: volume '1_0' is no number"),
        (HEAD + "-5,1,3,0.5,2,10\n", "row 2: timestamp '-5' is neither"),
        (HEAD + ROW[:-1] + ",9\n", "row 2: 7 fields where the header names 6"),
        (HEAD + ROW + "2024-01-02,1,0,3,0,0.5,2,10\n", "row 3: 8 fields"),  # decimal commas
        (HEAD + '"2024-01-01",1,3,0.5,2,10\n' + ROW[:-1] + ",9\n", "row 3: 7 fields"),
        ("", "missing column"),
    ],
)  # fmt: skip
def test_refusals_name_the_row_and_the_reason(text: str, message: str) -> None:
    with pytest.raises(CsvError) as caught:
        read(text)
    assert message in str(caught.value)


def test_quoted_fields_may_hold_commas() -> None:
    bars = read('"a, b",timestamp,open,high,low,close,volume\n"1,5","2024-01-01",1,3,0.5,2,10\n')
    assert bars["volume"].tolist() == [10.0]


def test_bytes_that_are_no_text_and_too_many_rows_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CsvError, match="not UTF-8"):
        read_bars_csv(b"\xff\xfe" + HEAD.encode("utf-16-le"))
    monkeypatch.setattr("bars_csv.MAX_ROWS", 2)
    with pytest.raises(CsvError, match="more than 2 rows"):
        read(HEAD + ROW * 3)
    monkeypatch.setattr("bars_csv.MAX_BYTES", 10)
    with pytest.raises(CsvError, match="MiB"):
        read(HEAD + ROW)


def test_equal_duplicates_count_once_and_order_does_not_matter() -> None:
    later = ROW.replace("00:00:00Z", "00:01:00Z")
    bars = read("\ufeff" + HEAD + later + ROW + later)
    assert len(bars) == 2
    assert bars.index.is_monotonic_increasing


def test_the_length_of_the_bars_is_their_most_common_step() -> None:
    index = pd.to_datetime(["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09"], utc=True)
    assert bar_seconds(pd.DataFrame(index=index)) == 86_400
    with pytest.raises(CsvError, match="fewer than 2"):
        bar_seconds(pd.DataFrame(index=index[:1]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(10**14, 4 * 10**15),
            st.lists(st.floats(1e-9, 1e9), min_size=4, max_size=4),
            st.floats(0, 1e12),
        ),
        min_size=1, max_size=20, unique_by=lambda row: row[0],
    )
)  # fmt: skip
def test_what_is_downloaded_uploads_again_unchanged(
    rows: list[tuple[int, list[float], float]],
) -> None:
    rows.sort()
    index = pd.DatetimeIndex(
        np.array([r[0] for r in rows], dtype=np.int64).astype("datetime64[us]"), tz="UTC", name="ts"
    )
    table = []
    for _, prices, volume in rows:
        low, a, b, high = sorted(prices)
        table.append((a, high, low, b, volume))
    bars = pd.DataFrame(table, index=index, columns=list(COLUMNS), dtype=float)
    text = write_bars_csv(bars.assign(trades=7.0))
    again = read(text)
    pd.testing.assert_frame_equal(again, bars, check_exact=True)
    assert write_bars_csv(again) == text


def test_other_frames_lead_with_the_timestamp_and_leave_nan_empty() -> None:
    index = pd.DatetimeIndex(["2024-01-01", "2024-01-02"], tz="UTC")
    for same in (
        index,
        index.as_unit("ns"),
        index.tz_localize(None),
        index.tz_convert("Asia/Tokyo"),
    ):
        text = frame_csv(pd.DataFrame({"zscore": [np.nan, 1.5]}, index=same))
        assert text.splitlines() == [
            "timestamp,zscore", "2024-01-01T00:00:00Z,", "2024-01-02T00:00:00Z,1.5",
        ]  # fmt: skip
