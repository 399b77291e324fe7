"""CSV of bars: everything the contract lets in, everything it keeps out, and the way back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs.bars.files import (
    COLUMNS,
    CsvError,
    bar_seconds,
    frame_csv,
    read_bars_csv,
    write_bars_csv,
)

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
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00",
        "2024-01-01",
        "2024-01-01T01:00:00+01:00",
        "1704067200",
        "1704067200000",
        "1704067200000000",
        "1704067200.000",
        "1.704067200e9",
        "20240101",
        "202401010000",
        "20240101000000000",
    ],
)
def test_timestamps(stamp: str) -> None:
    assert read(HEAD + f"{stamp},1,3,0.5,2,10\n").index[0] == pd.Timestamp("2024-01-01", tz="UTC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,open,high,low,close\n", "row 1: missing column volume"),
        (HEAD, "no rows"),
        (HEAD + ROW + "yesterday,1,3,0.5,2,10\n", "row 3: timestamp 'yesterday'"),
        (HEAD + "20241301,1,3,0.5,2,10\n", "row 2: timestamp '20241301' is no date and no epoch"),
        (HEAD + ROW + "1.68705E+12,1,3,0.5,2,10\n", "row 3: timestamp '1.68705E+12' was rounded"),
        (HEAD + ROW + "20240102,1,3,0.5,2,10\n", "row 3: timestamp '20240102' is a date of 8"),
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
        (HEAD + "2024-01-02,1,3,0.5\n", "row 2: 4 fields where the header names 6"),
        (HEAD + "2024-01-02,1,3,0.5,2\n", "row 2: 5 fields where the header names 6"),
        (HEAD + "2024-01-02,1,3,0.5,2,1_0\n", "row 2: volume '1_0' is no number"),
        (HEAD + "-5,1,3,0.5,2,10\n", "row 2: timestamp '-5' is neither"),
        (HEAD + ROW[:-1] + ",9\n", "row 2: 7 fields where the header names 6"),
        (HEAD + ROW + "2024-01-02,1,0,3,0,0.5,2,10\n", "row 3: 8 fields"),  # decimal commas
        (HEAD + '"2024-01-01",1,3,0.5,2,10\n' + ROW[:-1] + ",9\n", "row 3: 7 fields"),
        (HEAD + '2024-01-02,"1,5",3,0.5,2,1\n', "open '1,5' is no number: a comma is no decimal"),
        (HEAD + '2024-01-02,"1,234.5",3,0.5,2,1\n', "without separators of thousands"),
        (HEAD + "2024-01-02,1 234.5,3,0.5,2,1\n", "without separators of thousands"),
        (HEAD + "2024-01-02,1.234,3,0.5,2,1.234.567\n", "without separators of thousands"),
        (HEAD + "2024-01-02,$1,3,0.5,2,1\n", "without a sign of currency"),
        (HEAD + "2024-01-02,null,3,0.5,2,1\n", "leave out rows without a value"),
        (HEAD + '2024-01-02,"1,3,0.5,2,1\n' + ROW, "row 2: 2 fields where the header names 6"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
    ],
)
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
    with pytest.raises(CsvError, match="UTF-16"):
        read_bars_csv(b"\xff\xfe" + HEAD.encode("utf-16-le"))
    monkeypatch.setattr("pairs.bars.files.MAX_ROWS", 2)
    with pytest.raises(CsvError, match="3 rows: more than 2 are not allowed"):
        read(HEAD + ROW * 3)
    monkeypatch.setattr("pairs.bars.files.MAX_BYTES", 10)
    with pytest.raises(CsvError, match="MiB"):
        read(HEAD + ROW)


def test_equal_duplicates_count_once_and_order_does_not_matter() -> None:
    later = ROW.replace("00:00:00Z", "00:01:00Z")
    bars = read("\ufeff" + HEAD + later + ROW + later)
    assert len(bars) == 2
    assert bars.index.is_monotonic_increasing


def test_the_length_of_the_bars_is_what_their_steps_have_in_common() -> None:
    def seconds(*times: str) -> int:
        return bar_seconds(
            pd.DataFrame(index=pd.to_datetime(list(times), utc=True, format="ISO8601"))
        )

    assert seconds("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09") == 86_400
    # minutes with holes, of which most are five minutes apart
    times = [f"2024-01-01 00:{m:02}" for m in (0, 5, 10, 15, 20, 21, 26)]
    assert seconds(*times) == 60
    with pytest.raises(CsvError, match="fewer than 2"):
        seconds("2024-01-04")
    with pytest.raises(CsvError, match=r"0\.5 s long"):
        seconds("2024-01-04 00:00:00", "2024-01-04 00:00:01.5", "2024-01-04 00:00:02")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(10**14, 4 * 10**15),
            st.lists(st.floats(1e-9, 1e9), min_size=4, max_size=4),
            st.floats(0, 1e12),
        ),
        min_size=1,
        max_size=20,
        unique_by=lambda row: row[0],
    )
)
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
            "timestamp,zscore",
            "2024-01-01T00:00:00Z,",
            "2024-01-02T00:00:00Z,1.5",
        ]
