"""The klines still to be asked for: a list in the database, so that nothing forgets it.

A stretch is asked for from its end, page by page. With every page stored it shrinks, at last it
goes: after a restart the rest of it is still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pairs.market import Venue
from pairs.storage.batch import at

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore


@dataclass(frozen=True, slots=True)
class Stretch:
    """Klines of one length from open time `first_us` up to, not including, `until_us`."""

    symbol: str
    bar_s: int
    first_us: int
    until_us: int


def want(store: PostgresStore, venue: Venue, stretches: Iterable[Stretch]) -> None:
    """Note the stretches as wanted, all in one transaction."""
    kept = [s for s in stretches if s.until_us > s.first_us]
    numbers = {s.symbol: store.instrument_id(venue, s.symbol) for s in kept}
    with store.transaction() as cursor:
        for s in kept:
            _want(cursor, numbers[s.symbol], s.bar_s, at(s.first_us), at(s.until_us))


def _want(cursor: Cursor, number: int, bar_s: int, first: datetime, until: datetime) -> None:
    """Want a stretch; those that overlap with it become one with it."""
    cursor.execute(
        "DELETE FROM kline_wanted WHERE instrument_id = %s AND bar_s = %s"
        " AND first_ts < %s AND until_ts > %s RETURNING first_ts, until_ts",
        (number, bar_s, until, first),
    )
    found = [(first, until), *cursor.fetchall()]
    cursor.execute(
        "INSERT INTO kline_wanted (instrument_id, bar_s, first_ts, until_ts)"
        " VALUES (%s, %s, %s, %s)",
        (number, bar_s, min(one[0] for one in found), max(one[1] for one in found)),
    )


def newest_klines(
    store: PostgresStore, venue: Venue, symbols: Sequence[str]
) -> dict[tuple[str, int], int]:
    """(symbol, length) → open time, µs, of the newest stored kline longer than a minute; from one
    length to the next through the index, however many there are."""
    with store.transaction() as cursor:
        cursor.execute(
            "WITH RECURSIVE size AS ("
            " SELECT i.symbol, i.instrument_id, (SELECT min(bar_s) FROM kline k"
            "  WHERE k.instrument_id = i.instrument_id AND k.bar_s > 60) AS bar_s"
            "  FROM instrument i WHERE i.venue = %s AND i.symbol = ANY(%s)"
            " UNION ALL SELECT s.symbol, s.instrument_id, (SELECT min(bar_s) FROM kline k"
            "  WHERE k.instrument_id = s.instrument_id AND k.bar_s > s.bar_s)"
            "  FROM size s WHERE s.bar_s IS NOT NULL)"
            " SELECT symbol, bar_s, (SELECT (extract(epoch FROM max(ts)) * 1000000)::bigint"
            "  FROM kline k WHERE k.instrument_id = s.instrument_id AND k.bar_s = s.bar_s)"
            " FROM size s WHERE bar_s IS NOT NULL",
            (venue, list(symbols)),
        )
        return {(symbol, bar_s): newest for symbol, bar_s, newest in cursor.fetchall()}


def wanted(store: PostgresStore, venue: Venue, symbols: Sequence[str]) -> list[Stretch]:
    """What is wanted of these symbols."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT i.symbol, w.bar_s, (extract(epoch FROM w.first_ts) * 1000000)::bigint,"
            " (extract(epoch FROM w.until_ts) * 1000000)::bigint"
            " FROM kline_wanted w JOIN instrument i USING (instrument_id)"
            " WHERE i.venue = %s AND i.symbol = ANY(%s)",
            (venue, list(symbols)),
        )
        return [Stretch(*row) for row in cursor.fetchall()]


def shrink(store: PostgresStore, venue: Venue, stretch: Stretch, page_us: int) -> Stretch | None:
    """What begins at `page_us` is stored: the stretch that is left, None where nothing is. A
    stretch that has been wanted anew meanwhile stays as it is."""
    number = store.instrument_id(venue, stretch.symbol)
    key = (number, stretch.bar_s, at(stretch.first_us), at(stretch.until_us))
    with store.transaction() as cursor:
        if page_us <= stretch.first_us:
            cursor.execute(
                "DELETE FROM kline_wanted"
                " WHERE (instrument_id, bar_s, first_ts, until_ts) = (%s, %s, %s, %s)",
                key,
            )
            return None
        cursor.execute(
            "UPDATE kline_wanted SET until_ts = %s"
            " WHERE (instrument_id, bar_s, first_ts, until_ts) = (%s, %s, %s, %s)",
            (at(page_us), *key),
        )
    return Stretch(stretch.symbol, stretch.bar_s, stretch.first_us, page_us)


def split(store: PostgresStore, venue: Venue, stretch: Stretch, at_us: int) -> None:
    """Make two of a stretch: up to `at_us`, and the rest, whose bars have not all closed."""
    number = store.instrument_id(venue, stretch.symbol)
    shrink(store, venue, stretch, at_us)
    with store.transaction() as cursor:
        _want(cursor, number, stretch.bar_s, at(at_us), at(stretch.until_us))


# The trades beside each hole say when it was. Where retention has dropped them the bars do, and
# before a record's first trade nothing: then the hole is taken to lie in the minute of the trade
# behind it. A hole whose neighbours stand in the wrong order lies between two records, not in time.
LOST = """
WITH lost AS (
    UPDATE gap SET klines_asked = true
    WHERE state = 'unrecoverable' AND NOT klines_asked
      AND instrument_id = ANY(%(numbers)s)
    RETURNING instrument_id, first_id, last_id
)
SELECT instrument_id, coalesce(a.ts, x.since, b.ts) AS since,
       CASE WHEN a.ts IS NULL THEN least(x.until, b.ts) ELSE coalesce(b.ts, f.last_trade) END
           AS until
FROM lost JOIN feed f USING (instrument_id)
LEFT JOIN LATERAL (SELECT ts FROM trade t WHERE t.instrument_id = lost.instrument_id
    AND t.trade_id < lost.first_id ORDER BY t.trade_id DESC LIMIT 1) AS a ON true
LEFT JOIN LATERAL (SELECT ts FROM trade t WHERE t.instrument_id = lost.instrument_id
    AND t.trade_id > lost.last_id ORDER BY t.trade_id LIMIT 1) AS b ON true
LEFT JOIN LATERAL (SELECT max(ts) FILTER (WHERE first_id < lost.first_id) AS since,
        min(ts) FILTER (WHERE last_id > lost.last_id) AS until
    FROM bar WHERE a.ts IS NULL AND bar.instrument_id = lost.instrument_id AND bar_s = 60)
    AS x ON true
"""


def want_lost(
    store: PostgresStore, venue: Venue, symbols: Iterable[str], lengths: Sequence[int]
) -> int:
    """Want the klines of every stretch of time whose trades were given up since the last call:
    from the bar of the trade before them to the bar of the trade behind them, which both lack
    trades. How many holes those were. Noted in the same transaction as asked."""
    numbers = [store.instrument_id(venue, symbol) for symbol in symbols]
    with store.transaction() as cursor:
        cursor.execute(LOST, {"numbers": numbers})
        found = cursor.fetchall()
        for number, since, until in found:
            if since is None or until is None or since > until:
                continue
            for bar_s in lengths:
                first, last = (int(t.timestamp()) // bar_s * bar_s for t in (since, until))
                _want(cursor, number, bar_s, at(first * 1_000_000), at((last + bar_s) * 1_000_000))
    return len(found)
