"""History for the store, made by the server itself: bars and trades, as long ago as wanted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pairs.storage.digests import SUMMED
from pairs.storage.partitions import bar_partitions, create_partition, trade_partitions

BARS = """
INSERT INTO kline
SELECT %(number)s, %(bar_s)s, ts, p, p * 1.0002, p * 0.9998, p * (1 + 0.0002 * (random() - 0.5)),
       3, 3 * p, 1.5, 12
FROM (SELECT ts, %(price)s * (1 + 0.02 * sin(extract(epoch FROM ts) / 90000.0)
                                + 0.001 * sin(extract(epoch FROM ts) / %(bar_s)s / 37.0)
                                + 0.0005 * random()) AS p
      FROM generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 second',
                           make_interval(secs => %(bar_s)s)) AS ts) AS made
ON CONFLICT DO NOTHING
"""
# Trades straight into their partition: what a record of that length looks like on disk.
TRADES = """
INSERT INTO {partition}
SELECT %(number)s, id, ts, %(price)s * (1 + 0.02 * sin(id / 1e5)), 0.01 + (id %% 97) / 100.0,
       id %% 3 = 0, ts + interval '900 microseconds'
FROM (SELECT id, 'epoch'::timestamptz + (%(t0)s + id * %(step)s) * interval '1 microsecond' AS ts
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS id) AS made
"""
# Bars folded from the trades of one partition, as the write path would have left them.
FOLD = """
INSERT INTO bar
SELECT %(number)s, {bar_s}, date_bin('{bar_s} seconds', ts, 'epoch') AS bucket,
       (array_agg(price ORDER BY trade_id))[1], max(price), min(price),
       (array_agg(price ORDER BY trade_id DESC))[1], sum(size), sum(price * size),
       coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0), count(*), min(trade_id),
       max(trade_id)
FROM {partition} WHERE trade_id BETWEEN %(first)s AND %(last)s GROUP BY bucket
ON CONFLICT (instrument_id, bar_s, ts) DO UPDATE SET
    high = greatest(bar.high, excluded.high), low = least(bar.low, excluded.low),
    close = excluded.close, volume = bar.volume + excluded.volume,
    quote_volume = bar.quote_volume + excluded.quote_volume,
    taker_buy_volume = bar.taker_buy_volume + excluded.taker_buy_volume,
    trades = bar.trades + excluded.trades, last_id = excluded.last_id
"""
FEED = """
UPDATE feed SET first_id = least(first_id, %(first)s), high_id = greatest(high_id, %(last)s),
    stored = stored + %(last)s - %(first)s + 1,
    last_trade = greatest(last_trade,
        'epoch'::timestamptz + (%(t0)s + %(last)s::bigint * %(step)s) * interval '1 microsecond'),
    last_received = now(), revision = revision + 1 WHERE instrument_id = %(number)s
"""
CHUNK = 1_000_000  # trades of a partition

DIGEST = (
    "UPDATE partition_digest d SET n = d.n + t.n, digest = d.digest # t.digest FROM ("
    + SUMMED.format(rows="{partition} WHERE trade_id BETWEEN %(first)s AND %(last)s")
    + ") AS t WHERE d.instrument_id = %(number)s AND d.chunk = %(chunk)s"
)


def bars(
    cursor: Any, number: int, bar_s: int, start: datetime, end: datetime, price: float
) -> None:
    """Bars of start ≤ ts < end in `kline`; readers are told to read their window anew."""
    cursor.execute(
        BARS, {"number": number, "bar_s": bar_s, "start": start, "end": end, "price": price}
    )
    cursor.execute("UPDATE feed SET revision = revision + 1 WHERE instrument_id = %s", (number,))


def trades(cursor: Any, number: int, first: int, last: int, t0_us: int, step_us: int) -> None:
    """Trades first … last, one every `step_us`, with partitions, both bars and the cursor."""
    given = {"number": number, "t0": t0_us, "step": step_us, "price": 60_000.0}
    start, end = (datetime.fromtimestamp((t0_us + i * step_us) / 1e6, UTC) for i in (first, last))
    # As many months before the first as the write path keeps for its longest bars.
    reach = range(start.year * 12 + start.month - 3, end.year * 12 + end.month)
    months = [(month // 12, month % 12 + 1) for month in reach]
    for wanted in bar_partitions(months):
        create_partition(cursor, wanted)
    for chunk in range(first // CHUNK, last // CHUNK + 1):
        (wanted,) = trade_partitions(number, [chunk])
        create_partition(cursor, wanted)
        part = {
            **given,
            "first": max(first, chunk * CHUNK),
            "last": min(last, (chunk + 1) * CHUNK - 1),
        }
        cursor.execute(TRADES.format(partition=wanted.name), part)
        cursor.execute(DIGEST.format(partition=wanted.name), {**part, "chunk": chunk})
        for bar_s in (1, 60):
            cursor.execute(FOLD.format(bar_s=bar_s, partition=wanted.name), part)
    cursor.execute(FEED, {**given, "first": first, "last": last})
