"""Klines held against the bars that were folded from trades: those that cannot be true beside them.

A bar is *proven* where nothing of it is missing by what the store itself says: its ids and those
beside them are stored, or known to be no trades (as `v_bars.complete` has it); the record begins
before it, or with it; and the watermark has passed its end. A kline of a proven bar states the same
bar. So does one, of any bar, that counts as many trades. Of a market of aggregates, which leave out
what was not traded there (an insurance fund's share), a kline may state more. Of any other bar a
kline may know more too, and no kline states less than is stored. Between two bars that follow on
each other by their ids nothing was printed, and a kline counts none.

Prices and counts are held exactly: both sides read them from the same decimals. Sums differ by
rounding, by a unit roundoff u = 2^-53 of float8 at a time. The exchange's sum is exact and rounded
once, when it is read. Ours adds n sizes, each rounded when it was read, in n - 1 additions, in
whatever order; the products of the quote volume are rounded once more, as are the prices. All terms
are positive: the relative error is below (n + 3) u, to first order, and (n + 4) u covers the rest
up to a hundred million trades (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
section 4.2). Amounts of quote are told to eight decimals, which may have cut something off each
trade's: n * 1e-8 besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

ROUNDOFF = 2.0**-53
WEEK_S = 604_800  # a length that divides it is that of buckets counted from a Monday

# {base}: the length of the bars that those of a kline's length are made of.
FALSE_KLINES = """
WITH k AS (
    SELECT * FROM kline WHERE instrument_id = %(number)s AND bar_s = %(bar_s)s
), base AS NOT MATERIALIZED (
    SELECT * FROM bar WHERE instrument_id = %(number)s AND bar_s = %(base)s
), record AS (
    SELECT f.whole_from, f.high_id, f.watermark - make_interval(secs => %(bar_s)s) AS until,
           m.ids AS missing,
           (SELECT min(ts) FROM base WHERE first_id >= f.whole_from AND (first_id = f.whole_from
                OR first_id > (SELECT min(first_id) FROM base))) AS since
    FROM feed f LEFT JOIN missing m USING (instrument_id) WHERE f.instrument_id = %(number)s
), b AS (
    SELECT date_bin(make_interval(secs => %(bar_s)s), ts, '1970-01-05Z') AS ts,
           (array_agg(open ORDER BY first_id))[1] AS open, max(high) AS high, min(low) AS low,
           (array_agg(close ORDER BY last_id DESC))[1] AS close, sum(volume) AS volume,
           sum(quote_volume) AS quote_volume, sum(taker_buy_volume) AS taker_buy_volume,
           sum(trades)::bigint AS trades, min(first_id) AS first_id, max(last_id) AS last_id
    FROM base WHERE ts >= (SELECT min(ts) FROM k)
      AND ts < (SELECT max(ts) FROM k) + make_interval(secs => %(bar_s)s)
    GROUP BY 1
), held AS (
    SELECT b.*, (b.trades + 4) * %(roundoff)s AS m,
           k.trades = b.trades OR (%(single)s AND b.ts BETWEEN r.since AND r.until
               AND b.first_id >= r.whole_from AND NOT coalesce(
                   r.missing && int8range(b.first_id - 1, least(b.last_id, {top}) + 2), false)
           ) AS same, k.open AS o, k.high AS h, k.low AS l, k.close AS c, k.trades AS n,
           k.volume AS v, k.quote_volume AS q, k.taker_buy_volume AS t
    FROM k JOIN b USING (ts) LEFT JOIN record r ON true
), alone AS (
    SELECT least(before.last_id, coalesce(after.first_id, r.high_id)) AS low,
           greatest(before.last_id, coalesce(after.first_id, r.high_id)) AS high, r.missing
    FROM k JOIN record r ON k.ts BETWEEN r.since AND r.until
    CROSS JOIN LATERAL (SELECT last_id FROM base WHERE ts < k.ts ORDER BY ts DESC LIMIT 1) AS before
    LEFT JOIN LATERAL (SELECT first_id FROM base WHERE ts > k.ts ORDER BY ts LIMIT 1) AS after
        ON true
    WHERE %(single)s AND k.trades > 0 AND NOT EXISTS (SELECT FROM b WHERE b.ts = k.ts)
)
SELECT (SELECT count(*) FROM held WHERE h < high OR l > low OR n < trades
           OR v < volume * (1 - m) OR t < taker_buy_volume * (1 - m)
           OR q < quote_volume * (1 - m) - trades * 1e-8
           OR (same AND ((o, h, l, c, n) <> (open, high, low, close, trades)
               OR v > volume * (1 + m) OR t > taker_buy_volume * (1 + m)
               OR q > quote_volume * (1 + m) + trades * 1e-8)))
     + (SELECT count(*) FROM alone
        WHERE NOT coalesce(missing && int8range(low, least(high, {top}) + 1), false))
"""


def false_klines(cursor: Cursor, number: int, *, single: bool) -> int:
    """How many klines of an instrument cannot be true. `single`: each trade has an id of its own,
    and nothing that the exchange counts has none."""
    cursor.execute("SELECT DISTINCT bar_s FROM kline WHERE instrument_id = %s", (number,))
    found = 0
    for (bar_s,) in cursor.fetchall():
        if WEEK_S % bar_s:
            continue
        asked: dict[str, Any] = {
            "number": number,
            "single": single,
            "roundoff": ROUNDOFF,
            "bar_s": bar_s,
            "base": 1 if bar_s % 60 else 60,
        }
        cursor.execute(FALSE_KLINES.format(top=2**63 - 3), asked)
        found += int((cursor.fetchone() or (0,))[0])
    return found
