"""The health of the store and its feeds, and figures for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pairs import __version__
from pairs.storage.gaps import TRADES_PER_PARTITION
from pairs.storage.queries import read_feeds
from pairs.storage.reader import FeedStatus
from pairs.storage.schema import stored, versions
from pairs.storage.void import void_of

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore

ALIVE = {"live", "quiet"}
DAY_S = 86_400.0  # no clock that anybody uses is further behind; a simulated one may be any
FUTURE_S = 30.0  # a clock of the database that is so far behind the exchange's is still usual


DIED = """
SELECT i.venue, i.symbol, extract(epoch FROM now() - f.heartbeat)::float8
FROM feed f JOIN instrument i USING (instrument_id)
WHERE f.state <> 'stopped'
  AND NOT f.heartbeat BETWEEN now() - interval '8 seconds' AND now() + interval '8 seconds'
  AND f.heartbeat > now() - interval '1 day'
ORDER BY 1, 2
"""

GIVEN_UP = """
SELECT i.venue, i.symbol, g.refused, sum(g.last_id - g.first_id + 1)::bigint, min(g.reason)
FROM gap g JOIN instrument i USING (instrument_id)
WHERE g.state = 'unrecoverable' AND g.ask_again IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def health(store: PostgresStore) -> dict[str, Any]:
    """The state of the store and its feeds as JSON-ready values.

    `healthy` means: the schema is there, at least one feed exists, and every feed of a running
    daemon is alive without an open gap. A venue whose daemon is not running at all is unhealthy
    too, unless another venue's is (yesterday's simulated feed is no reason to worry). A daemon of
    a real venue that ended in the past day without a goodbye is told in any case. Trades that the
    exchange refuses are a problem until it tells them. What concerns symbols that nobody ingests
    any more, beside others that somebody does, and trades that are too old to be had, stands under
    `notes`.
    Nothing is written. A schema that is missing or of an older version is a problem, too: then the
    rest is told as far as the stable views tell it.
    """
    with store.reading() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        version = stored(cursor)
        if version != versions()[-1]:
            return _of_an_older_schema(cursor, version)
        cursor.execute("SELECT version(), pg_database_size(current_database())")
        version, size = cursor.fetchone() or ("", 0)
        cursor.execute("SELECT DISTINCT venue FROM instrument JOIN feed USING (instrument_id)")
        venues = sorted(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT count(*) FROM quarantine")
        quarantined = (cursor.fetchone() or (0,))[0]
        cursor.execute(
            "SELECT state, count(*), sum(last_id - first_id + 1)::bigint FROM gap GROUP BY state"
        )
        gaps = {row[0]: {"gaps": row[1], "trades": row[2]} for row in cursor.fetchall()}
        cursor.execute(GIVEN_UP)
        given_up = cursor.fetchall()
        if none := void_of(cursor):
            void = gaps.setdefault("void", {"gaps": 0, "trades": 0})
            void["trades"] += none
        cursor.execute(DIED)
        died = cursor.fetchall()
    feeds = {venue: read_feeds(store.engine, venue) for venue in venues}
    running = [v for v, rows in feeds.items() if any(r.state != "stopped" for r in rows)]
    problems = [
        f"{venue} {row.symbol}: {row.state}" + (f" ({row.detail})" if row.detail else "")
        for venue in running
        for row in feeds[venue]
        if row.state not in ALIVE and row.state != "stopped"
    ]
    holes = [
        (
            row.state != "stopped",
            f"{venue} {row.symbol}: {row.open_gaps} open gaps, {row.missing} trades missing",
        )
        for venue in running
        for row in feeds[venue]
        if row.open_gaps
    ]
    ahead_of_us = [
        (
            ahead > DAY_S and venue != "local",
            f"{venue} {row.symbol}: its {what} lies {ahead:.0f} s in the future: a trade with a "
            "wrong time is stored, or the clock of the database's machine is wrong",
        )
        for venue in running
        for row in feeds[venue]
        for what, ahead in _future(row)
    ]
    problems += [text for impossible, text in ahead_of_us if impossible]
    problems += [hole for ingested, hole in holes if ingested]
    notes = [f"{hole}; no daemon ingests this symbol" for ingested, hole in holes if not ingested]
    notes += [text for impossible, text in ahead_of_us if not impossible]
    notes += [
        f"{venue} {symbol}: its daemon ended {age:.0f} s ago without a goodbye; others run"
        for venue, symbol, age in died
        if venue in running
    ]
    problems += [
        f"{venue} {symbol}: the daemon ended {age:.0f} s ago without a goodbye: start it again"
        for venue, symbol, age in died
        if venue not in running and (venue != "local" or not running)
    ]
    ingested = {(v, row.symbol) for v in running for row in feeds[v] if row.state != "stopped"}
    for venue, symbol, refused, *figures in given_up:
        told = problems if refused and (venue, symbol) in ingested else notes
        told.append(f"{venue} {symbol}: {_lost(refused, *figures)}")
    if not running:
        problems.append("no daemon is running: start `python ingest_websocket.py`")
    return {
        "healthy": not problems,
        "problems": problems,
        "notes": notes,
        "version": __version__,
        "server": version.split(" on ")[0],
        "size_bytes": size,
        "quarantined": quarantined,
        "gaps": gaps,
        "feeds": {
            venue: {
                row.symbol: {
                    "state": row.state,
                    "detail": row.detail,
                    "last_trade": row.last_trade.isoformat() if row.last_trade else None,
                    "trade_age_s": row.trade_age_s,
                    "received_age_s": row.received_age_s,
                    "heartbeat_age_s": row.heartbeat_age_s,
                    "open_gaps": row.open_gaps,
                    "missing": row.missing,
                    "stored": row.stored,
                }
                for row in rows
            }
            for venue, rows in feeds.items()
        },
    }


def _future(row: FeedStatus) -> list[tuple[str, float]]:
    """What of a feed lies ahead of the database's clock, and by how many seconds."""
    ages = {"newest trade": row.trade_age_s, "last receipt": row.received_age_s}
    if row.watermark is not None and row.last_trade is not None and row.trade_age_s is not None:
        beyond = (row.watermark - row.last_trade).total_seconds()
        ages["watermark"] = row.trade_age_s - beyond
    return [(what, -age) for what, age in ages.items() if age is not None and age < -FUTURE_S]


def _of_an_older_schema(cursor: Cursor, version: str | None) -> dict[str, Any]:
    """What can be told before the schema is of this program's version; `version` None: none is
    there."""
    start = "start `python ingest_websocket.py` or run `python database_utils.py init`"
    problem = f"the schema is of version {version}, this program's is {versions()[-1]}: {start}"
    cursor.execute("SELECT version(), pg_database_size(current_database())")
    server, size = cursor.fetchone() or ("", 0)
    report: dict[str, Any] = {
        "healthy": False,
        "problems": [problem if version else f"the database holds no schema: {start}"],
        "notes": [],
        "version": __version__,
        "server": server.split(" on ")[0],
        "size_bytes": size,
        "quarantined": 0,
        "gaps": {},
        "feeds": {},
    }
    if version is None:
        return report
    cursor.execute("SELECT count(*) FROM quarantine")
    (report["quarantined"],) = cursor.fetchone() or (0,)
    cursor.execute(
        "SELECT state, count(*), sum(last_id - first_id + 1)::bigint FROM v_gaps GROUP BY state"
    )
    report["gaps"] = {row[0]: {"gaps": row[1], "trades": row[2]} for row in cursor.fetchall()}
    cursor.execute("SELECT venue, symbol, state, last_trade FROM v_feed ORDER BY 1, 2")
    for venue, symbol, state, newest in cursor.fetchall():
        told = {"state": state, "last_trade": newest.isoformat() if newest else None}
        report["feeds"].setdefault(venue, {})[symbol] = told
    return report


def _lost(refused: bool, trades: int, reason: str) -> str:
    """What became of trades that were given up."""
    if refused:
        return (
            f"{trades} trades are lost unless the exchange tells them after all: it refused "
            f"({reason}); it is asked again at every start and daily"
        )
    return f"{trades} trades are lost ({reason})"


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the store holds. Not how many bars: counting them would take long, and the planner's
    estimate is far off for the first minutes of every day."""

    server: str
    size_bytes: int
    trades: int
    last_minute: int
    oldest: datetime | None
    gaps: dict[str, int]
    quarantined: int


def _oldest(cursor: Cursor) -> datetime | None:
    """The time of the oldest trade, as far as the first partition of each record tells. Numbers
    are written out: the planner sees one partition a symbol."""
    cursor.execute("SELECT instrument_id, first_id FROM feed WHERE high_id >= first_id")
    ranges = [
        limit
        for number, first in cursor.fetchall()
        for limit in (number, first, (first // TRADES_PER_PARTITION + 1) * TRADES_PER_PARTITION)
    ]
    if not ranges:
        return None
    first = (
        "(SELECT ts FROM trade WHERE instrument_id = %s AND trade_id >= %s AND trade_id < %s"
        " ORDER BY trade_id LIMIT 1)"
    )
    each = " UNION ALL ".join([first] * (len(ranges) // 3))
    cursor.execute(f"SELECT min(ts) FROM ({each}) AS t", ranges)  # noqa: S608 - our own
    found: datetime | None = (cursor.fetchone() or (None,))[0]
    return found


def read_figures(store: PostgresStore) -> StoreFigures:
    """Figures for people; cheap, whatever the length of the history."""
    with store.reading() as cursor:
        cursor.execute(
            "SELECT version(), pg_database_size(current_database()),"
            " (SELECT coalesce(sum(stored), 0)::bigint FROM feed),"
            " (SELECT coalesce(sum(b.trades), 0)::bigint FROM bar b"
            "  WHERE b.bar_s = 1 AND b.ts >= now() - interval '1 minute'),"
            " (SELECT count(*) FROM quarantine)"
        )
        row = cursor.fetchone() or ("", 0, 0, 0, 0)
        oldest = _oldest(cursor)
        cursor.execute("SELECT state, count(*) FROM gap GROUP BY state")
        gaps = {str(state): int(count) for state, count in cursor.fetchall()}
    server, size, trades, minute, quarantined = row
    return StoreFigures(server.split(" on ")[0], size, trades, minute, oldest, gaps, quarantined)
