"""The proof, from what is stored, that no trade is missing and that the bars are right."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pairs.market import PERPETUAL
from pairs.storage.digests import changed_partitions
from pairs.storage.false_klines import ROUNDOFF, false_klines
from pairs.storage.schema import FIRST, SchemaError, stored
from pairs.storage.void import void_of

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pairs.storage.postgres import PostgresStore

LOCK_S = 10  # a change of the tables by hand is waited for so long

AUDIT = """
SELECT i.venue, i.symbol, i.instrument_id, f.instrument_id IS NOT NULL, f.first_id, f.high_id,
       f.last_trade, to_jsonb(f) ->> 'kept_from' IS NOT NULL, t.n, t.low, t.high, t.newest,
       coalesce((SELECT sum(g.last_id - g.first_id + 1) FROM gap g
                 WHERE g.instrument_id = f.instrument_id AND g.state <> 'filled'
                   AND g.first_id >= f.first_id), 0) AS named,
       coalesce((SELECT sum(g.last_id - g.first_id + 1) FROM gap g
                 WHERE g.instrument_id = f.instrument_id AND g.state = 'unrecoverable'
                   AND (to_jsonb(g) ->> 'refused')::bool), 0) AS refused,  -- older ones lack it
       coalesce((SELECT count(*) FROM gap g JOIN trade x ON x.instrument_id = g.instrument_id
                 AND x.trade_id BETWEEN g.first_id AND g.last_id
                 WHERE g.instrument_id = f.instrument_id AND g.state <> 'filled'
                   AND g.first_id >= f.first_id), 0) AS inside
FROM instrument i LEFT JOIN feed f USING (instrument_id)
CROSS JOIN LATERAL (SELECT count(*) AS n, min(trade_id) AS low, max(trade_id) AS high,
                           max(ts) AS newest
                    FROM trade WHERE instrument_id = i.instrument_id) t
WHERE i.venue <> 'upload' OR t.n > 0
ORDER BY 1, 2
"""

# Trades and bars of instruments that are not registered any more: no view shows them.
UNREGISTERED = """
SELECT number FROM (
    SELECT substr(c.relname, 7)::int AS number
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
    WHERE h.inhparent = to_regclass('trade') AND c.relname ~ '^trade_[0-9]+$'
    UNION SELECT instrument_id FROM bar) AS stored
WHERE NOT EXISTS (SELECT FROM instrument WHERE instrument_id = number) ORDER BY 1
"""

# Bars whose trades are all still stored, rebuilt from them. Sums of the same n numbers in any two
# orders are each within (n - 1) u of the true one (false_klines.py), and so 2 n u of each other.
DIFFERENT_BARS = """
WITH rebuilt AS (
    SELECT date_bin(make_interval(secs => %(bar_s)s), ts, 'epoch') AS ts,
           (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high,
           min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           sum(size) AS volume, sum(price * size) AS quote_volume,
           coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0) AS taker_buy_volume,
           {counted} AS trades, min(trade_id) AS first_id
    FROM trade WHERE instrument_id = %(number)s GROUP BY 1
), stored AS (
    SELECT * FROM bar WHERE instrument_id = %(number)s AND bar_s = %(bar_s)s
)
SELECT count(*) FROM rebuilt r FULL JOIN stored s ON r.ts = s.ts
WHERE coalesce(s.first_id, r.first_id) >= %(first_id)s AND (s.ts IS NULL OR r.ts IS NULL
   OR (r.open, r.high, r.low, r.close, r.trades) <> (s.open, s.high, s.low, s.close, s.trades)
   OR abs(r.volume - s.volume) > 2 * r.trades * {roundoff} * r.volume
   OR abs(r.quote_volume - s.quote_volume) > 2 * r.trades * {roundoff} * r.quote_volume
   OR abs(r.taker_buy_volume - s.taker_buy_volume)
      > 2 * r.trades * {roundoff} * r.taker_buy_volume)
"""


# Bars that retention has left without some or all of their trades. What is left of them must be
# in there; no bar has more trades than ids, where each trade has an id of its own.
DOUBTFUL_BARS = """
WITH rebuilt AS (
    SELECT date_bin(make_interval(secs => %(bar_s)s), ts, 'epoch') AS ts, max(price) AS high,
           min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           sum(size) AS volume, {counted} AS trades, max(trade_id) AS last_id
    FROM trade WHERE instrument_id = %(number)s
      AND ts < (SELECT max(ts) + make_interval(secs => %(bar_s)s) FROM bar
                WHERE instrument_id = %(number)s AND bar_s = %(bar_s)s
                  AND first_id < %(first_id)s)
    GROUP BY 1
)
SELECT count(*) FROM bar b
LEFT JOIN rebuilt r ON r.ts = b.ts
WHERE b.instrument_id = %(number)s AND b.bar_s = %(bar_s)s AND b.first_id < %(first_id)s
  AND ((%(single)s AND b.trades > b.last_id - b.first_id + 1)
       OR r.trades > b.trades OR r.high > b.high OR r.low < b.low
       OR r.last_id > b.last_id OR (r.last_id = b.last_id AND r.close <> b.close)
       OR r.volume > b.volume * (1 + 2 * b.trades * {roundoff}))
"""


def audit(store: PostgresStore) -> dict[str, Any]:
    """The proof, per symbol, that no trade between the first and the newest known one is missing
    except those named in v_gaps, and none of these because the exchange refused it; that the
    stored trades are those that were written; that the stored bars are their fold, and that those
    whose trades retention has dropped can be, by what is left of them and by their ids; that no
    kline says otherwise than the bars."""
    report: dict[str, Any] = {}
    with store.transaction() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_S}s'")
        version = stored(cursor)
        if version is None:
            raise SchemaError("the database holds no schema: there is nothing to audit")
        cursor.execute(AUDIT)
        for venue, symbol, *figures in cursor.fetchall():
            report.setdefault(venue, {})[symbol] = _audited(
                cursor, venue, symbol, *figures, version=version
            )
        cursor.execute(UNREGISTERED)
        for (number,) in cursor.fetchall():
            report.setdefault("unregistered", {})[f"instrument {number}"] = {"ok": False}
    ok = all(row["ok"] for rows in report.values() for row in rows.values())
    return {"ok": ok, "venues": report}


def _audited(
    cursor: Cursor,
    venue: str,
    symbol: str,
    number: int,
    fed: bool,
    first: int | None,
    high: int | None,
    last: Any,
    pruned: bool,
    n: int,
    low: int,
    top: int,
    newest: Any,
    named: Decimal,
    refused: Decimal,
    inside: int,
    *,
    version: str,
) -> dict[str, Any]:
    span = 0 if high is None or first is None else high - first + 1
    named += void_of(cursor, number)
    unnamed = span - n - int(named) + int(inside) if fed else 0
    found = _against_each_other(cursor, number, n, first or 0, _single(venue, symbol), version)
    checks = {
        "has_feed": fed,
        "no_unnamed_missing": unnamed == 0,
        "nothing_refused": refused == 0,
        "cursor_matches_trades": n == 0
        or (
            (first or 0) <= low <= top <= (-1 if high is None else high)
            # The newest by time may have gone before later ids that bear earlier times.
            and (last == newest or (pruned and last > newest))
        ),
        "bars_match_trades": found["bars_different"] == 0,
        "pruned_bars_hold": found["bars_doubtful"] == 0,
        "klines_match_trades": found["klines_false"] == 0,
        "digests_match_trades": found["partitions_changed"] == 0,
    }
    return {
        "ok": all(checks.values()),
        "first_id": first,
        "last_id": high,
        "trades": n,
        "missing_named": int(named) - int(inside),
        "missing_unnamed": unnamed,
        "missing_refused": int(refused),
        **found,
        **checks,
    }


def _against_each_other(
    cursor: Cursor, number: int, trades: int, first_id: int, single: bool, version: str
) -> dict[str, int]:
    """How many bars, klines and partitions are not what the others say. `single`: see
    false_klines."""
    asked = {
        "number": number,
        "first_id": first_id,
        "single": single,
        "roundoff": ROUNDOFF,
        "counted": "count(*)" if version == FIRST else "sum(trades)",
    }
    changed, without = changed_partitions(cursor, number)
    return {
        "bars_different": _count(cursor, DIFFERENT_BARS, asked) if trades else 0,
        "bars_doubtful": _count(cursor, DOUBTFUL_BARS, asked),
        # In the first version nothing tells which bars are whole.
        "klines_false": 0 if version == FIRST else false_klines(cursor, number, single=single),
        "partitions_changed": changed,
        "partitions_without_digest": without,
    }


def _single(venue: str, symbol: str) -> bool:
    """Whether each trade has an id of its own: those of USD-M share that of their aggregate."""
    return venue == "binance" or (venue == "local" and not symbol.endswith(PERPETUAL))


def _count(cursor: Cursor, query: str, asked: dict[str, Any]) -> int:
    """The bars of both lengths that the query finds."""
    found = 0
    for bar_s in (1, 60):
        cursor.execute(query.format(**asked), {**asked, "bar_s": bar_s})
        found += (cursor.fetchone() or (0,))[0]
    return found
