"""A record that has ended, and the new one of the same symbol beside it.

An exchange that counts its trades anew gives two markets one name. What is stored of the first
stays as it is, under a name that tells when it ended; the symbol begins with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pairs.market import PERPETUAL, Venue
from pairs.storage.gaps import lock_feed, one
from pairs.storage.ownership import Ownership

if TYPE_CHECKING:
    from pairs.storage.postgres import PostgresStore


class RecordError(RuntimeError):
    """No new record can be begun; the message says why, and what to do."""


def halt(store: PostgresStore, venue: Venue, symbol: str, why: str) -> None:
    """Note that nothing more is taken of a record, until a new one is begun."""
    number = store.instrument_id(venue, symbol)
    with store.transaction() as cursor:
        lock_feed(cursor, number)
        cursor.execute("UPDATE feed SET halted = %s WHERE instrument_id = %s", (why, number))


def halted(store: PostgresStore, venue: Venue, symbols: Sequence[str]) -> dict[str, str]:
    """Of these symbols those whose records are halted, with the reason."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT i.symbol, f.halted FROM feed f JOIN instrument i USING (instrument_id)"
            " WHERE i.venue = %s AND i.symbol = ANY(%s) AND f.halted IS NOT NULL",
            (venue, list(symbols)),
        )
        return dict(cursor.fetchall())


def venue_of(store: PostgresStore, symbol: str, venue: str | None) -> Venue:
    """The venue with a record of the symbol; RecordError where it is not one."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT venue FROM instrument JOIN feed USING (instrument_id) WHERE symbol = %s"
            " AND high_id IS NOT NULL AND venue = coalesce(%s, venue) ORDER BY venue",
            (symbol, venue),
        )
        found = [row[0] for row in cursor.fetchall()]
    if not found:
        where = f" of venue {venue}" if venue else ""
        raise RecordError(f"nothing is stored under symbol {symbol!r}{where}: see `health`")
    if len(found) > 1:
        raise RecordError(f"{symbol} has a record at {', '.join(found)}: say which, --venue VENUE")
    known: Venue = found[0]
    return known


def begin_new(store: PostgresStore, venue: Venue, symbol: str) -> str:
    """End the record of a symbol and let a new one begin; the name that the old one goes by from
    now on. Not while a daemon writes it; one that has halted it goes on by itself."""
    owner = Ownership(store.connect, venue)
    try:
        if owner.claim([symbol]) and symbol not in halted(store, venue, [symbol]):
            raise RecordError(f"a daemon ingests {symbol} of {venue}: stop it first")
        return _begin_new(store, venue, symbol)
    finally:
        owner.close()


def _begin_new(store: PostgresStore, venue: Venue, symbol: str) -> str:
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT instrument_id, to_char(clock_timestamp() AT TIME ZONE 'UTC',"
            " 'YYYYMMDD\"T\"HH24MISS') FROM instrument WHERE venue = %s AND symbol = %s",
            (venue, symbol),
        )
        number, ended = one(cursor)
        suffix = PERPETUAL if symbol.endswith(PERPETUAL) else ""
        kept_as = f"{symbol.removesuffix(PERPETUAL)}.until-{ended}{suffix}"
        lock_feed(cursor, number)
        names = {"number": number, "old": symbol, "new": kept_as, "venue": venue}
        cursor.execute(
            "UPDATE instrument SET symbol = %(new)s WHERE instrument_id = %(number)s;"
            "UPDATE quarantine SET symbol = %(new)s WHERE venue = %(venue)s AND symbol = %(old)s;"
            "DELETE FROM kline_wanted WHERE instrument_id = %(number)s;"
            "UPDATE gap SET state = 'unrecoverable', reason = 'the record has ended',"
            " closed = clock_timestamp(), klines_asked = true WHERE instrument_id = %(number)s"
            " AND state = 'open';"
            "UPDATE gap SET ask_again = NULL, refused = false WHERE instrument_id = %(number)s;"
            "UPDATE feed SET state = 'stopped', detail = coalesce(halted, ''), halted = NULL,"
            " owner = NULL, owned_until = NULL"
            " WHERE instrument_id = %(number)s;"
            "WITH made AS (INSERT INTO instrument (venue, symbol) VALUES (%(venue)s, %(old)s)"
            " RETURNING instrument_id)"
            # Whoever holds bars of the old record sees that these are others.
            " INSERT INTO feed (instrument_id, revision) SELECT made.instrument_id, f.revision + 1"
            " FROM made, feed f WHERE f.instrument_id = %(number)s;"
            "SELECT pg_notify('trades', %(venue)s)",
            names,
        )
    return kept_as
