"""What a file is before it is read as CSV: refused here is what is none, or too much. Pure.

Cheap, whatever the file: bytes are looked at, nothing is parsed but the first few lines. Every
refusal names what was found and what to do about it.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence

import numpy as np

from pairs.bars.timestamps import ISO, kind_of, shown

MAX_LINE = 2**16  # bytes
MAX_COLUMNS = 1000
HEADER_ROWS = 10  # among which a header is looked for
_PIECE = 2**24  # bytes looked at in one go
_SAYS_NOTHING = np.frombuffer(b"\r\n\t ,", np.uint8)  # a line of these alone is blank

_MAGIC = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet (.xlsx)", "save the table itself as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a rar archive", "unpack it first"),
    (b"PAR1", "Parquet", "save it as CSV"),
    (b"ARROW1", "an Arrow or Feather file", "save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls)", "save the table as CSV"),
    (b"%PDF", "a PDF", "save the table as CSV"),
    (b"SQLite format", "an SQLite database", "save the table as CSV"),
)
# UTF-32's mark begins with that of UTF-16: first.
_WIDE = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SAVE_UTF8 = "save it as UTF-8 (a spreadsheet calls that “CSV UTF-8”)"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
# What others call the columns, in small letters and digits alone.
_ALIASES = {
    "timestamp": (
        "time",
        "date",
        "datetime",
        "opentime",
        "ts",
        "t",
        "unix",
        "unixtime",
        "dateutc",
        "timeutc",
        "utc",
        "gmttime",
        "localtime",
        "starttime",
        "opentimems",
        "period",
        "datetimeutc",
        "unixtimestamp",
        "timestampms",
        "startat",
    ),
    "open": ("o", "openprice", "priceopen", "first"),
    "high": ("h", "highprice", "pricehigh", "max"),
    "low": ("l", "lowprice", "pricelow", "min"),
    "close": ("c", "closeprice", "priceclose", "last", "adjclose", "closelast", "price"),
    "volume": (
        "v",
        "vol",
        "basevolume",
        "volumebase",
        "volumebtc",
        "volumeeth",
        "quantity",
        "qty",
        "amount",
        "size",
        "volumefrom",
        "vol1",
    ),
}


class CsvError(ValueError):
    """The file cannot be taken; the message names the row and the reason."""


def check_form(content: bytes, columns: Sequence[str], max_bytes: int, max_rows: int) -> None:
    """Raise CsvError where the bytes are no CSV in UTF-8 whose first row names `columns`, or are
    more than is read: `max_bytes`, twice `max_rows` lines, MAX_LINE bytes in a line."""
    if len(content) > max_bytes:
        raise CsvError(
            f"the file has {len(content) / 2**20:.0f} MiB, at most {max_bytes // 2**20} are allowed"
        )
    _check_kind(content)
    _check_text(content)
    _check_lines(content, max_rows)
    _check_header(content, columns)
    _check_rows(content, max_rows)


def _check_kind(content: bytes) -> None:
    """Refuse other formats by their first bytes."""
    start = content[:4096]
    if not start.strip():
        raise CsvError("the file is empty" if len(content) <= len(start) else _only_blank())
    for magic, kind, cure in _MAGIC:
        if start.startswith(magic):
            raise CsvError(f"the file is {kind}, no CSV: {cure}")
    first = start.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    for sign, kind in ((b"{", "JSON"), (b"[", "JSON"), (b"<", "HTML or XML, a web page perhaps")):
        if first == sign:
            raise CsvError(f"the file is {kind}, no CSV: save the table itself as CSV")


def _only_blank() -> str:
    return "the file begins with thousands of blank lines: the header must be row 1"


def _check_text(content: bytes) -> None:
    """Refuse what is not UTF-8, by the name of what it is where that can be told."""
    for mark, name in _WIDE:
        if content.startswith(mark):
            raise CsvError(f"the file is {name} text: {_SAVE_UTF8}")
    start = content[:4096]
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 5 and min(even, odd) <= len(start) // 50:
        raise CsvError(f"the file is UTF-16 text without a mark: {_SAVE_UTF8}")
    nul = content.find(0)
    if nul >= 0:
        raise CsvError(f"the file is no text: byte {nul} is 0")
    decoder = codecs.getincrementaldecoder("utf-8")()
    for first in range(0, len(content), _PIECE):
        try:
            decoder.decode(content[first : first + _PIECE], final=first + _PIECE >= len(content))
        except UnicodeDecodeError as error:
            at = min(len(content) - 1, max(0, first + error.start - 4) if first else error.start)
            row = content.count(b"\n", 0, at) + 1
            raise CsvError(
                f"the file is not UTF-8 text (near row {row}); it may be Latin-1 or Windows-1252: "
                f"{_SAVE_UTF8}"
            ) from None


def _check_lines(content: bytes, max_rows: int) -> None:
    """Refuse too many lines, and one too long, before anything is made of them."""
    breaks = content.count(b"\n")
    if not breaks and b"\r" in content.rstrip():
        raise CsvError(
            "the lines end with a carriage return alone, as on old Macs: save the file with line "
            "ends of Unix or Windows"
        )
    if breaks > 2 * max_rows + 2:
        raise CsvError(
            f"the file has {breaks:,} lines: more than {max_rows:,} rows are not allowed"
        )
    before, row = -1, 0
    for first in range(0, len(content), _PIECE):
        piece = np.frombuffer(content, np.uint8, min(_PIECE, len(content) - first), first)
        ends = np.flatnonzero(piece == 10) + first
        lengths = np.diff(ends, prepend=before)
        _check_length(lengths, row)
        row += len(ends)
        before = int(ends[-1]) if len(ends) else before
        _check_length(np.array([first + len(piece) - 1 - before]), row)


def _check_rows(content: bytes, max_rows: int) -> None:
    """Refuse more rows than are read before any is: lines that hold more than separators, the
    header not counted. A file with quotes may break lines within a field, so that only reading
    it tells."""
    if b'"' in content:
        return
    rows, open_line = -1, False
    for first in range(0, len(content), _PIECE):
        piece = np.frombuffer(content, np.uint8, min(_PIECE, len(content) - first), first)
        ends = np.flatnonzero(piece == 10)
        says = np.isin(piece, _SAYS_NOTHING, invert=True)
        starts = np.concatenate([[0], ends + 1])
        starts = starts[starts < len(piece)]
        filled = np.logical_or.reduceat(says, starts)
        rows += int(filled.sum()) - int(bool(open_line and filled[0]))
        ended = len(ends) and ends[-1] == len(piece) - 1
        open_line = False if ended else bool(filled[-1]) or (open_line and not len(ends))
    if rows > max_rows:
        raise CsvError(f"the file has {rows:,} rows: more than {max_rows:,} are not allowed")


def _check_length(lengths: np.ndarray[tuple[int], np.dtype[np.int64]], row: int) -> None:
    long = np.flatnonzero(lengths > MAX_LINE)
    if len(long):
        raise CsvError(
            f"row {row + int(long[0]) + 1} is longer than {MAX_LINE:,} bytes: no row of bars is"
        )


def _check_header(content: bytes, columns: Sequence[str]) -> None:
    """Refuse a first row that does not name every column once, and say what it is instead."""
    lines = _first_lines(content)
    names = header_names(fields_of(lines[0]))
    missing = [name for name in columns if name not in names]
    if len(names) > MAX_COLUMNS:
        raise CsvError(f"row 1 has {len(names):,} columns: at most {MAX_COLUMNS:,} are allowed")
    if not missing:
        for name in columns:
            if names.count(name) > 1:
                raise CsvError(f"row 1: column {name} stands there twice")
        return
    for row, line in enumerate(lines[1:], 2):
        if _separator(line, columns) is not None:
            raise CsvError(_before_header(lines[0], row, _separator(line, columns)))
    separator = _separator(lines[0], columns)
    if separator not in (None, ","):
        raise CsvError(
            f"row 1: the columns are separated by {_SEPARATORS[str(separator)]}: save the file "
            "with commas (and numbers with decimal points)"
        )
    raise CsvError(_no_header(lines[0], names, missing, columns))


def _first_lines(content: bytes) -> list[str]:
    """At least one line; the last one may be cut."""
    start = content[: MAX_LINE * HEADER_ROWS].decode("utf-8-sig", errors="ignore")
    return start.split("\n", HEADER_ROWS)[:HEADER_ROWS]


def fields_of(line: str) -> list[str]:
    """The fields of one line, none of a blank one; CsvError where it is none."""
    try:
        return next(csv.reader(io.StringIO(line.rstrip("\r\n"), newline="")), [])
    except csv.Error as error:
        raise CsvError(f"row 1 is not a row of a table: {error}") from None


def header_names(fields: Sequence[str]) -> list[str]:
    """A header's fields as columns are called."""
    return [field.strip("\ufeff \t\r\u00a0").lower() for field in fields]


def _separator(line: str, columns: Sequence[str]) -> str | None:
    """What separates the names of a header: ',' or another; None where the line is no header.
    Names that others use count too, but for a comma, which needs no telling."""
    for separator in (",", *_SEPARATORS):
        names = [
            _bare(part) for part in (line.split() if separator == " " else line.split(separator))
        ]
        known = sum(any(_meant(name, column) for name in names) for column in columns)
        if known >= len(columns) - 1 and len(columns) > 1:
            return separator
    return None


def _before_header(line: str, row: int, separator: str | None) -> str:
    """The header is not the first row."""
    text = line.strip("\ufeff \t\r\"'")
    if re.match(r"sep=", text, re.IGNORECASE):
        what = f"{shown(text)} is a hint for spreadsheets"
    elif re.match(r"(https?://|www\.)", text, re.IGNORECASE):
        what = f"{shown(text)} is an address"
    else:
        what = f"{shown(text)} is no header" if text else "it is blank"
    cure = f"row 1: {what}; the header stands in row {row}: delete what is before it"
    if separator not in (None, ","):
        cure += f", and save the file with commas instead of {_SEPARATORS[str(separator)]}"
    return cure


def _no_header(
    line: str, names: Sequence[str], missing: Sequence[str], columns: Sequence[str]
) -> str:
    """No row that could be the header was found."""
    wanted = ",".join(columns)
    if not line.strip():
        return f"row 1 is blank: the header {wanted} must be there"
    for separator in (",", *_SEPARATORS):
        parts = line.split() if separator == " " else line.split(separator)
        if _are_values([part.strip("\ufeff \t\r\"'") for part in parts]):
            apart = "" if separator == "," else f", separated by {_SEPARATORS[separator]}"
            return (
                f"row 1 holds values{apart}, no names: the file lacks its header. Put the line "
                f"{wanted} first, with the columns in the file's order"
            )
    told = f"row 1: missing column {', '.join(missing)}"
    for column in missing:
        other = next((name for name in names if _meant(_bare(name), column)), None)
        if other is not None:
            told += f"; {shown(other)} may be {column}: rename it"
    return (
        f"{told}. Row 1 names {shown(', '.join(names))}; the header must name {wanted} in any order"
    )


def _are_values(parts: Sequence[str]) -> bool:
    """Whether these are a time and numbers, or at least mostly so."""
    if len(parts) < 3:
        return False
    numbers = sum(re.fullmatch(r"[-+]?[\d.,]*\d[\d.,eE+-]*", part) is not None for part in parts)
    return numbers + any(_is_time(part) for part in parts) >= max(3, len(parts) // 2)


def _is_time(text: str) -> bool:
    try:
        return kind_of(text) == ISO and len(text) > 4
    except ValueError:
        return False


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _meant(name: str, column: str) -> bool:
    """Whether a bare name may stand for a column."""
    return name == column or name in _ALIASES.get(column, ())
