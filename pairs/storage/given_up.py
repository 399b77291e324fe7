"""Trades that were given up, and are to be asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pairs.market import Venue
from pairs.storage.gaps import Again, Gap, ask_again, lock_feed

if TYPE_CHECKING:
    from pairs.storage.postgres import PostgresStore


class GivenUp(NamedTuple):
    """A gap that was given up; `refused`: by the exchange's refusal, not for its age."""

    gap: Gap
    refused: bool


def given_up(
    store: PostgresStore, venue: Venue, symbols: Sequence[str], start: bool
) -> list[GivenUp]:
    """The gaps whose time to be asked for again has come, at a `start` all of them; the newest
    first. What retention refuses is not among them."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT i.symbol, g.first_id, g.last_id, g.refused FROM gap g"
            " JOIN instrument i USING (instrument_id) JOIN feed f USING (instrument_id)"
            " WHERE i.venue = %s AND i.symbol = ANY(%s) AND g.state = 'unrecoverable'"
            " AND g.ask_again IS NOT NULL AND (%s OR g.ask_again <= now())"
            " AND g.last_id >= coalesce(f.kept_from, 0) ORDER BY g.gap_id DESC",
            (venue, list(symbols), start),
        )
        return [
            GivenUp(Gap(symbol, int(first), int(last)), refused)
            for symbol, first, last, refused in cursor.fetchall()
        ]


def postpone(store: PostgresStore, venue: Venue, gap: Gap, again: Again, why: str) -> None:
    """It was asked for in vain, or is not worth a question now."""
    number = store.instrument_id(venue, gap.symbol)
    with store.transaction() as cursor:
        lock_feed(cursor, number)
        ask_again(cursor, number, gap, again)
        cursor.execute(
            "UPDATE gap SET reason = %s WHERE instrument_id = %s AND first_id = %s"
            " AND last_id = %s AND state = 'unrecoverable'",
            (why, number, gap.first_id, gap.last_id),
        )


def reopen(store: PostgresStore, venue: Venue, gap: Gap, first: int) -> None:
    """The ids of the gap from `first` on can be had after all: they are missing, not lost. Those
    before it stay as they are."""
    number = store.instrument_id(venue, gap.symbol)
    key = {"number": number, "low": gap.first_id, "first": first, "last": gap.last_id}
    with store.transaction() as cursor:
        lock_feed(cursor, number)
        cursor.execute(
            "INSERT INTO gap (instrument_id, first_id, last_id, state, reason, detected, closed,"
            "  klines_asked, ask_again, refused)"
            " SELECT instrument_id, first_id, %(first)s - 1, state, reason, detected, closed,"
            "  klines_asked, ask_again, refused FROM gap WHERE instrument_id = %(number)s"
            "  AND first_id = %(low)s AND last_id = %(last)s AND state = 'unrecoverable'"
            "  AND %(first)s > %(low)s;"
            "UPDATE gap SET first_id = %(first)s, state = 'open', reason = '', closed = NULL,"
            "  klines_asked = false, ask_again = NULL, refused = false"
            " WHERE instrument_id = %(number)s AND first_id = %(low)s AND last_id = %(last)s"
            "  AND state = 'unrecoverable'",
            key,
        )
