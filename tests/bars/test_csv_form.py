"""What is no CSV of bars is refused by the name of what it is, before it is parsed."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairs.bars import files
from pairs.bars.csv_form import check_form
from pairs.bars.files import CsvError, read_bars_csv

HEAD = "timestamp,open,high,low,close,volume\n"
ROWS = "".join(f"2024-01-{d:02},1.5,3,0.5,2,10\n" for d in range(1, 9))
GOOD = HEAD + ROWS


def refusal(content: bytes | str) -> str:
    with pytest.raises(CsvError) as caught:
        read_bars_csv(content if isinstance(content, bytes) else content.encode())
    message = str(caught.value)
    assert len(message) < 500
    assert "\n" not in message
    return message


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("bars.csv", GOOD)
    return buffer.getvalue()


def parquet() -> bytes:
    return pd.read_csv(io.StringIO(GOOD)).to_parquet()


@pytest.mark.parametrize(
    ("content", "named", "cure"),
    [
        (zipped(), "zip archive or a spreadsheet (.xlsx)", "save the table"),
        (gzip.compress(GOOD.encode(), mtime=0), "gzip", "unpack"),
        (bz2.compress(GOOD.encode()), "bzip2", "unpack"),
        (lzma.compress(GOOD.encode()), "xz", "unpack"),
        (parquet(), "Parquet", "save it as CSV"),
        (json.dumps([{"open": 1}]).encode(), "JSON", "as CSV"),
        (b'  {"data": []}', "JSON", "as CSV"),
        (b"<!DOCTYPE html><html>", "HTML", "as CSV"),
        (GOOD.encode("utf-16"), "UTF-16", "save it as UTF-8"),
        (GOOD.encode("utf-16-le"), "UTF-16", "save it as UTF-8"),
        (GOOD.encode("utf-16-be"), "UTF-16", "save it as UTF-8"),
        (GOOD.encode("utf-32"), "UTF-32", "save it as UTF-8"),
        ((HEAD[:-1] + ",größe\n").encode("latin-1"), "Latin-1", "save it as UTF-8"),
        ((GOOD + "2024-01-09,1,3,0.5,2,10,€\n").encode("cp1252"), "near row 10", "UTF-8"),
        (GOOD.encode() + b"\0", "no text: byte", ""),
        (GOOD.replace("\n", "\r"), "carriage return", "line ends of Unix or Windows"),
        (GOOD.replace(",", ";"), "separated by semicolons", "save the file with commas"),
        (GOOD.replace(",", ";").replace(".", ","), "semicolons", "decimal points"),
        (GOOD.replace(",", "\t"), "separated by tabs", "commas"),
        (GOOD.replace(",", "|"), "separated by vertical bars", "commas"),
        (GOOD.replace(",", "  "), "separated by spaces", "commas"),
        (GOOD.replace(",", ";").replace("timestamp", "Date"), "semicolons", "commas"),
        (ROWS, "holds values, no names", "Put the line timestamp,open"),
        (ROWS.replace(",", ";"), "holds values, separated by semicolons", "Put the line"),
        ("1704067200000,1,3,0.5,2,10,1704067259999,20,5,5,10,0\n" * 3, "holds values", "header"),
        ("sep=,\n" + GOOD, "'sep=,' is a hint for spreadsheets", "header stands in row 2: delete"),
        ("sep=;\n" + GOOD.replace(",", ";"), "hint", "instead of semicolons"),
        ("https://www.CryptoDataDownload.com\n" + GOOD, "is an address", "row 2: delete"),
        ("# bars of BTC\n# 2024\n" + GOOD, "'# bars of BTC' is no header", "row 3: delete"),
        ("\n" + GOOD, "it is blank", "row 2: delete"),
        ("\n\nfoo,bar\n", "row 1 is blank", "header"),
        (GOOD.replace("timestamp", "open_time"), "'open_time' may be timestamp", "rename it"),
        (
            GOOD.replace("timestamp", "Date").replace("volume", "Vol."),
            "'vol.' may be volume",
            "'date' may be timestamp",
        ),
        (GOOD.replace("open,", "o,"), "missing column open; 'o' may be open", "rename"),
        (
            GOOD.replace(",volume", ",turnover"),
            "missing column volume. Row 1 names 'timestamp",
            "header must name",
        ),
        ("foo,bar\n1,2\n", "Row 1 names 'foo, bar'", "in any order"),
    ],
)
def test_a_refusal_names_what_the_file_is_and_the_cure(
    content: bytes | str, named: str, cure: str
) -> None:
    message = refusal(content)
    assert named in message
    assert cure in message


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n"),
        GOOD.replace("timestamp", '" TimeStamp "'),
        GOOD.rstrip("\n"),
        GOOD.replace("\n", ",\n"),
        HEAD + ROWS.replace("\n", ",,\n"),
        GOOD.replace(",", " , "),
    ],
)
def test_what_does_no_harm_is_taken(content: str) -> None:
    assert len(read_bars_csv(content.encode())) == 8


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\n" * 150 * 2**20, "thousands of blank lines"),
        (HEAD.encode() + b"\n" * 150 * 2**19, "lines: more than 1,000,000 rows"),
        (b"x," * 2_000_000 + b"\n1", "row 1 is longer than 65,536 bytes"),
        (b",".join([HEAD.strip().encode(), *[b"x"] * 2_000]) + b"\n", "row 1 has 2,006 columns"),
        (GOOD.encode() + b"1," * 75 * 2**19, "row 10 is longer than 65,536 bytes"),
        (b" " * 2**20, "blank lines"),
        (HEAD.encode() + b'"' + b"2024-01-01,1\n" * 100_000, "quote not closed"),
        (b"x" * (150 * 2**20 + 1), "the file has 150 MiB"),
    ],
    ids=[
        "breaks",
        "header and breaks",
        "wide header",
        "2,006 columns",
        "one line",
        "spaces",
        "quote",
        "size",
    ],
)
def test_too_much_is_refused_before_it_is_parsed(content: bytes, named: str) -> None:
    """Not by the clock: by what it takes, which is what makes it slow."""
    tracemalloc.start()
    try:
        message = refusal(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert named in message
    assert peak < 48 * 2**20 + (content.count(b"\n") == 0) * 16 * 2**20


def test_a_reading_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "BLOCK", 3)
    told: list[tuple[int, int]] = []

    class Stop(Exception):  # noqa: N818
        pass

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise Stop

    with pytest.raises(Stop):
        read_bars_csv(GOOD.encode(), progress)
    assert len(told) == 2
    told.clear()
    monkeypatch.setattr(files, "BLOCK", 5)
    with pytest.raises(CsvError, match="row 9: "):  # rows go on being counted
        read_bars_csv(GOOD.replace("2024-01-08", "x").encode())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_taken_or_refused_in_words(content: bytes) -> None:
    for whole in (content, HEAD.encode() + content, content + GOOD.encode()):
        try:
            bars = read_bars_csv(whole)
        except CsvError:
            continue  # whatever else is raised fails the test
        assert 1 <= len(bars) <= 9


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,b\n" * 3, None),
        ("a,b\n \r\n" * 3 + ",\n", None),  # lines that say nothing are no rows
        ("a,b\n" * 4, "4 rows"),
        ("a,b\r\n" * 3 + "a,b", "4 rows"),
        ('a,"b"\n' * 4, None),  # a line may be a part of a field: only reading it tells
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 7, 2**24])
def test_rows_are_counted_before_one_is_read(
    rows: str, told: str | None, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairs.bars.csv_form._PIECE", piece)
    content = f"one,two\n{rows}".encode()
    if told is None:
        check_form(content, ("one", "two"), 2**20, 3 if '"' not in rows else 2)
        return
    with pytest.raises(CsvError, match=told):
        check_form(content, ("one", "two"), 2**20, 3)
