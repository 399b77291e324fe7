"""Care of the store: its health, retention, and the proof that no trade is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from storage.queries import read_feeds

if TYPE_CHECKING:
    from storage.postgres import PostgresStore

ALIVE = {"live", "quiet"}


DIED = """
SELECT i.venue, i.symbol, extract(epoch FROM now() - f.heartbeat)::float8
FROM feed f JOIN instrument i USING (instrument_id)
WHERE f.state <> 'stopped' AND f.heartbeat < now() - interval '8 seconds'
  AND f.heartbeat > now() - interval '1 day'
ORDER BY 1, 2
"""


def health(store: PostgresStore) -> dict[str, Any]:
    """The state of the store and its feeds as JSON-ready values.

    `healthy` means: the schema is there, at least one feed exists, and every feed of a venue
    whose daemon runs is alive without an open gap. A venue whose daemon is not running at all is
    unhealthy too, unless another venue's is (yesterday's simulated feed is no reason to worry).
    A daemon of a real venue that ended in the past day without a goodbye is told in any case.
    """
    with store.transaction() as cursor:
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
    problems += [
        f"{venue} {row.symbol}: {row.open_gaps} open gaps, {row.missing} trades missing"
        for venue in running
        for row in feeds[venue]
        if row.open_gaps
    ]
    problems += [
        f"{venue} {symbol}: the daemon ended {age:.0f} s ago without a goodbye: start it again"
        for venue, symbol, age in died
        if venue not in running and (venue != "local" or not running)
    ]
    if not running:
        problems.append("no daemon is running: start `python ingest_websocket.py`")
    return {
        "healthy": not problems,
        "problems": problems,
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


def prune(store: PostgresStore, keep_days: float, now: datetime | None = None) -> dict[str, int]:
    """Drop trades and quarantined frames older than `keep_days`; bars stay. Returns what went.

    Whole partitions are dropped; only in the one partition per symbol that the limit runs
    through are rows deleted (at most TRADES_PER_PARTITION of them).
    """
    limit = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    gone = {"partitions": 0, "trades": 0, "quarantined": 0}
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM quarantine WHERE detected < %s", (limit,))
        gone["quarantined"] = cursor.rowcount
        cursor.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree('trade')"
            " WHERE isleaf AND level = 2"
        )
        leaves = [row[0] for row in cursor.fetchall()]
    for leaf in leaves:
        with store.transaction() as cursor:
            # Names come from PostgreSQL's own catalogue, already quoted by regclass. Through the
            # index on time, whatever the planner has heard of the partition: what is asked every
            # hour must not read every trade.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(
                f"SELECT EXISTS (SELECT FROM {leaf} WHERE ts < %(limit)s),"  # noqa: S608
                f" EXISTS (SELECT FROM {leaf} WHERE ts >= %(limit)s)",
                {"limit": limit},
            )
            any_old, any_new = cursor.fetchone() or (False, False)
            if not any_old:
                continue
            cursor.execute(f"SELECT instrument_id FROM {leaf} LIMIT 1")  # noqa: S608
            number = (cursor.fetchone() or (None,))[0]
            cursor.execute("SELECT FROM feed WHERE instrument_id = %s FOR UPDATE", (number,))
            if any_new:
                cursor.execute(f"DELETE FROM {leaf} WHERE ts < %s", (limit,))  # noqa: S608
                gone["trades"] += cursor.rowcount
            else:
                cursor.execute(f"SELECT count(*) FROM {leaf}")  # noqa: S608
                gone["trades"] += (cursor.fetchone() or (0,))[0]
                cursor.execute(f"DROP TABLE {leaf}")
                gone["partitions"] += 1
            cursor.execute(
                "UPDATE feed SET first_id = coalesce((SELECT min(trade_id) FROM trade"
                " WHERE instrument_id = %(n)s), high_id + 1) WHERE instrument_id = %(n)s;"
                "DELETE FROM gap g USING feed f WHERE f.instrument_id = %(n)s"
                " AND g.instrument_id = f.instrument_id AND g.last_id < f.first_id",
                {"n": number},
            )
    return gone


def prune_alerts(store: PostgresStore, keep_days: float, now: datetime | None = None) -> int:
    """Delete alerts that fired more than `keep_days` ago, with their deliveries; how many."""
    limit = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    with store.transaction() as cursor:
        cursor.execute("DELETE FROM alert_event WHERE fired < %s", (limit,))
        return int(cursor.rowcount)


AUDIT = """
SELECT i.venue, i.symbol, f.first_id, f.high_id, f.last_trade,
       t.n, t.low, t.high, t.newest,
       coalesce((SELECT sum(g.last_id - g.first_id + 1) FROM gap g
                 WHERE g.instrument_id = f.instrument_id AND g.state <> 'filled'), 0) AS named,
       coalesce((SELECT count(*) FROM gap g JOIN trade x ON x.instrument_id = g.instrument_id
                 AND x.trade_id BETWEEN g.first_id AND g.last_id
                 WHERE g.instrument_id = f.instrument_id AND g.state <> 'filled'), 0) AS inside
FROM feed f JOIN instrument i USING (instrument_id)
CROSS JOIN LATERAL (SELECT count(*) AS n, min(trade_id) AS low, max(trade_id) AS high,
                           max(ts) AS newest
                    FROM trade WHERE instrument_id = f.instrument_id) t
ORDER BY 1, 2
"""

# Bars whose trades are all still stored, rebuilt from them. Sums may differ by rounding only.
DIFFERENT_BARS = """
WITH rebuilt AS (
    SELECT date_bin(make_interval(secs => %(bar_s)s), ts, 'epoch') AS ts,
           (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high,
           min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           sum(size) AS volume, sum(price * size) AS quote_volume,
           coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0) AS taker_buy_volume,
           count(*) AS trades, min(trade_id) AS first_id
    FROM trade WHERE instrument_id = %(number)s GROUP BY 1
), stored AS (
    SELECT * FROM bar WHERE instrument_id = %(number)s AND bar_s = %(bar_s)s
)
SELECT count(*) FROM rebuilt r FULL JOIN stored s ON r.ts = s.ts
WHERE coalesce(s.first_id, r.first_id) >= %(first_id)s AND (s.ts IS NULL OR r.ts IS NULL
   OR (r.open, r.high, r.low, r.close, r.trades) <> (s.open, s.high, s.low, s.close, s.trades)
   OR abs(r.volume - s.volume) > 1e-9 * r.volume
   OR abs(r.quote_volume - s.quote_volume) > 1e-9 * r.quote_volume
   OR abs(r.taker_buy_volume - s.taker_buy_volume) > 1e-9 * r.volume)
"""


def audit(store: PostgresStore) -> dict[str, Any]:
    """The proof, per symbol, that no trade between the first and the newest known one is missing
    except those named in v_gaps, and that the stored bars are the fold of the stored trades."""
    report: dict[str, Any] = {}
    with store.transaction() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(AUDIT)
        for (
            venue,
            symbol,
            first,
            high,
            last,
            n,
            low,
            top,
            newest,
            named,
            inside,
        ) in cursor.fetchall():
            span = 0 if high is None else high - first + 1
            unnamed = span - n - int(named) + int(inside)
            different = _different_bars(cursor, venue, symbol, first) if n else 0
            checks = {
                "no_unnamed_missing": unnamed == 0,
                "cursor_matches_trades": n == 0
                or (first <= low and high >= top and last == newest),
                "bars_match_trades": different == 0,
            }
            report.setdefault(venue, {})[symbol] = {
                "ok": all(checks.values()),
                "first_id": first,
                "last_id": high,
                "trades": n,
                "missing_named": int(named) - int(inside),
                "missing_unnamed": unnamed,
                "bars_different": different,
                **checks,
            }
    ok = all(row["ok"] for rows in report.values() for row in rows.values())
    return {"ok": ok, "venues": report}


def _different_bars(cursor: Any, venue: str, symbol: str, first_id: int) -> int:
    cursor.execute(
        "SELECT instrument_id FROM instrument WHERE venue = %s AND symbol = %s", (venue, symbol)
    )
    number = cursor.fetchone()[0]
    different = 0
    for bar_s in (1, 60):
        # The bar the record starts in was built from trades that retention may have dropped.
        cursor.execute(DIFFERENT_BARS, {"number": number, "bar_s": bar_s, "first_id": first_id})
        different += cursor.fetchone()[0]
    return different


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the store holds. `bars` is the planner's estimate: counting them would take long."""

    server: str
    size_bytes: int
    trades: int
    last_minute: int
    bars: int
    oldest: datetime | None
    gaps: dict[str, int]
    quarantined: int


def read_figures(store: PostgresStore) -> StoreFigures:
    """Figures for people; cheap, whatever the length of the history."""
    with store.transaction() as cursor:
        cursor.execute(
            "SELECT version(), pg_database_size(current_database()),"
            " (SELECT coalesce(sum(stored), 0)::bigint FROM feed),"
            " (SELECT coalesce(sum(b.trades), 0)::bigint FROM bar b"
            "  WHERE b.bar_s = 1 AND b.ts >= now() - interval '1 minute'),"
            " (SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c"
            "  JOIN pg_partition_tree('bar') p ON p.relid = c.oid WHERE p.isleaf),"
            " (SELECT min(t.ts) FROM feed f CROSS JOIN LATERAL (SELECT ts FROM trade"
            "  WHERE instrument_id = f.instrument_id AND trade_id >= f.first_id"
            "  ORDER BY trade_id LIMIT 1) AS t),"
            " (SELECT count(*) FROM quarantine)"
        )
        row = cursor.fetchone() or ("", 0, 0, 0, 0, None, 0)
        cursor.execute("SELECT state, count(*) FROM gap GROUP BY state")
        gaps = {str(state): int(count) for state, count in cursor.fetchall()}
    server, size, trades, minute, bars, oldest, quarantined = row
    return StoreFigures(
        server.split(" on ")[0], size, trades, minute, bars, oldest, gaps, quarantined
    )
