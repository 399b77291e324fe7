"""The times of files: what each text means, and what is refused because it could mean another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs.bars.timestamps import TimestampError, read_timestamps


def one(text: str) -> pd.Timestamp:
    micros, _ = read_timestamps([text])
    return pd.Timestamp(int(micros[0]), unit="us", tz="UTC")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("20240101", "2024-01-01"),
        ("202401010930", "2024-01-01 09:30"),
        ("20240101093000", "2024-01-01 09:30"),
        ("20240101000000", "2024-01-01"),  # not the year 2611
        ("20240101093000123", "2024-01-01 09:30:00.123"),
        ("20240229", "2024-02-29"),
        ("20240101.0", "2024-01-01"),
        ("19620102", "1962-01-02"),
        ("1704067200", "2024-01-01"),
        ("1704067200.0", "2024-01-01"),
        ("1704067200.25", "2024-01-01 00:00:00.25"),
        ("1704067200123", "2024-01-01 00:00:00.123"),
        ("1704067200123456", "2024-01-01 00:00:00.123456"),
        ("1.704067200E9", "2024-01-01"),
        ("1.704067200E+12", "2024-01-01"),  # to the second
        ("1.704067200123e12", "2024-01-01 00:00:00.123"),
        ("1,704067200123E+12", "2024-01-01 00:00:00.123"),
        ("915148800", "1999-01-01"),
        ("915148800000", "1999-01-01"),  # twelve digits that are no date
        ("2024-01-01", "2024-01-01"),
        ("2024/01/31", "2024-01-31"),
        ("2024-01-01T01:00:00+01:00", "2024-01-01"),
        ("20240101T093000Z", "2024-01-01 09:30"),
        (" 2024-01-01 00:00 ", "2024-01-01"),
    ],
)
def test_what_a_text_means(text: str, meant: str) -> None:
    assert one(text) == pd.Timestamp(meant, tz="UTC")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.68705E+12", "rounded by a spreadsheet: its digits do not reach whole seconds"),
        ("1,68705E+12", "rounded by a spreadsheet"),
        ("1.7040672e9", "rounded by a spreadsheet"),
        ("1.70407E+09", "format the column as text"),
        ("1.68705E+15", "do not reach whole seconds"),
        ("2.02401E+13", "do not reach whole seconds"),
        ("2.0240101E+16", "do not reach whole seconds"),
        ("45292.5", "a spreadsheet's day number (2024-01-01)"),
        ("45292", "a spreadsheet's day number"),
        ("20241301", "no date and no epoch"),
        ("20230229", "no date and no epoch"),
        ("20240101250000", "no date and no epoch"),
        ("99990101", "no date and no epoch"),
        ("26110101000000", "no date and no epoch"),
        ("2024010113", "may be an epoch or a date with its hour"),
        ("1704067200123456789", "epoch in ns: divide by 1,000"),
        ("202401", "no date and no epoch"),
        ("2024", "no date and no epoch"),
        ("0", "no date and no epoch"),
        ("1e999999999", "no date and no epoch"),
        ("1e-5", "no date and no epoch"),
        ("4102444800", "no date and no epoch"),  # 2100
        ("01/02/2024", "does not tell the day from the month"),
        ("31.12.2024 10:00", "write the year first"),
        ("1-2-24", "write the year first"),
        ("2024-02-30", "no date that exists"),
        ("2024-01-01 10:00 PM", "no date that exists"),
        ("2611-01-01", "lies outside the years"),
        ("0024-01-01", "lies outside the years"),
        ("9" * 5000, "no date that exists"),
        ("-5", "neither ISO-8601 nor an epoch"),
        ("yesterday", "neither ISO-8601 nor an epoch"),
        ("٢٠٢٤٠١٠١", "neither ISO-8601 nor an epoch"),
        ("", "empty"),
        ("x" * 10_000, "…'"),
    ],
)
def test_what_is_refused_says_why(text: str, why: str) -> None:
    with pytest.raises(TimestampError) as caught:
        read_timestamps([text])
    assert why in caught.value.reason
    assert caught.value.row == 0
    assert len(caught.value.reason) < 300


@pytest.mark.parametrize(
    ("texts", "row"),
    [
        (["1704067200", "1704067260000"], 1),
        (["20240101", "20240102", "1704067200"], 2),
        (["20240101", "202401010930"], 1),
        (["2024-01-01", "20240102"], 1),
        (["1704067200000", "2024-01-01"], 1),
        (["1704067200000", "1.70407E+12"], 1),
        (["915148800000", "202401010930"], 1),  # one is an epoch, one a date
    ],
)
def test_a_column_is_of_one_kind(texts: list[str], row: int) -> None:
    with pytest.raises(TimestampError) as caught:
        read_timestamps(texts)
    assert caught.value.row == row
    _, kind = read_timestamps(texts[:row])
    with pytest.raises(TimestampError):  # in pieces as at once
        read_timestamps(texts[row:], kind)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.integers(0, 125 * 365 * 1440).map(
            lambda m: datetime(1973, 3, 4, tzinfo=UTC) + timedelta(minutes=m)
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(
        ["%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d%H%M%S000", "%Y-%m-%dT%H:%MZ", "s", "ms", "us", "s.0"]
    ),
)
def test_a_time_written_in_any_way_is_read_as_itself_or_refused(
    times: list[datetime], form: str
) -> None:
    """Silence would be the fault: nothing is read as another time."""
    per_s = {"s": 1, "s.0": 1, "ms": 10**3, "us": 10**6}.get(form)
    texts = [
        f"{int(t.timestamp()) * per_s}{form[1:] if '.' in form else ''}"
        if per_s
        else t.strftime(form)
        for t in times
    ]
    try:
        micros, _ = read_timestamps(texts)
    except TimestampError:
        assert per_s  # few epochs are dates too; a date is never refused
        return
    wrong = micros != [int(t.timestamp()) * 10**6 for t in times]
    assert not any(wrong) or all(t.year == 1976 for t in times), texts
