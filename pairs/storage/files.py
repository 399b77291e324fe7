"""The files of users: their names, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairs.market import check_symbol

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812 - a class

    from pairs.storage.postgres import PostgresStore


class UploadError(ValueError):
    """A file cannot be renamed or removed; the message says why."""


def rename_upload(store: PostgresStore, symbol: str, name: str) -> str:
    """Call a file `name` from now on; the name as it is stored. What was tried on its bars stays
    counted. Raises UploadError where there is no such file, or one of that name already.

    Its bars stay where they are: two instruments change their names. Whoever holds bars of either
    name reads all of them anew, since no revision of before is told apart from now on.
    """
    new = check_symbol(name)
    if new == symbol:
        return new
    with store.transaction() as cursor:
        numbers = _locked(cursor, symbol, new)
        if symbol not in numbers or not _any_bars(cursor, numbers[symbol]):
            raise UploadError(f"no file called {symbol} is stored: it may have been removed")
        if new in numbers and _any_bars(cursor, numbers[new]):
            raise UploadError(f"a file called {new} is stored already: choose another name")
        if new not in numbers:
            cursor.execute("INSERT INTO instrument (venue, symbol) VALUES ('upload', %s)", (new,))
            numbers = _locked(cursor, symbol, new)
        both = [numbers[symbol], numbers[new]]
        cursor.execute(  # no name is ever that of two, nor too short or with a space
            "UPDATE instrument SET symbol = ' ' WHERE instrument_id = %(old)s;"
            "UPDATE instrument SET symbol = %(symbol)s WHERE instrument_id = %(other)s;"
            "UPDATE instrument SET symbol = %(new)s WHERE instrument_id = %(old)s",
            {"old": both[0], "other": both[1], "symbol": symbol, "new": new},
        )
        _forget_revisions(cursor, both)
        cursor.execute(
            "UPDATE trial SET pair = (SELECT string_agg(leg, ' ' ORDER BY leg COLLATE \"C\")"
            " FROM unnest(array_replace(string_to_array(pair, ' '), %(old)s, %(new)s)) AS leg)"
            " WHERE %(old)s = ANY (string_to_array(pair, ' '))",
            {"old": f"upload:{symbol}", "new": f"upload:{new}"},
        )
    return new


def remove_upload(store: PostgresStore, symbol: str) -> int:
    """Delete a file's bars of every length, and say how many there were. Its name stays known,
    with what was tried on the bars. Raises UploadError where there is no such file."""
    with store.transaction() as cursor:
        numbers = _locked(cursor, symbol)
        removed = 0
        if numbers:
            cursor.execute("DELETE FROM kline WHERE instrument_id = %s", (numbers[symbol],))
            removed = cursor.rowcount
            _forget_revisions(cursor, list(numbers.values()))
        if not removed:
            raise UploadError(f"no file called {symbol} is stored: it may have been removed")
    return removed


def _locked(cursor: Cursor, *symbols: str) -> dict[str, int]:
    """The numbers of those files that have one, held until the transaction ends."""
    cursor.execute("SET LOCAL lock_timeout = '2s'")  # it may be stored just now
    cursor.execute(
        "SELECT symbol, instrument_id FROM instrument WHERE venue = 'upload'"
        " AND symbol = ANY(%s) ORDER BY instrument_id FOR UPDATE",
        (list(symbols),),
    )
    return {str(symbol): int(number) for symbol, number in cursor.fetchall()}


def _any_bars(cursor: Cursor, number: int) -> bool:
    cursor.execute("SELECT FROM kline WHERE instrument_id = %s LIMIT 1", (number,))
    return cursor.fetchone() is not None


def _forget_revisions(cursor: Cursor, numbers: list[int]) -> None:
    """Leave these files at one revision that neither has had, with no change noted before it."""
    cursor.execute("DELETE FROM bar_change WHERE instrument_id = ANY(%s)", (numbers,))
    cursor.execute(
        "UPDATE instrument SET revision = 1 +"
        " (SELECT max(revision) FROM instrument WHERE instrument_id = ANY(%(numbers)s))"
        " WHERE instrument_id = ANY(%(numbers)s)",
        {"numbers": numbers},
    )
