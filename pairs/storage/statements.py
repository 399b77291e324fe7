"""The SQL of the write path. `storage/postgres.py` says how the statements belong together."""

from pairs.storage.digests import HASH
from pairs.storage.gaps import TRADES_PER_PARTITION

STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    n int GENERATED ALWAYS AS IDENTITY, instrument_id int, trade_id bigint, ts timestamptz,
    price float8, size float8, buyer_is_maker bool, received timestamptz, trades int
) ON COMMIT DELETE ROWS
"""

# Trades of which some may be known: the new ones are those that the key lets in.
FRESH_BY_KEY = """
    INSERT INTO trade (instrument_id, trade_id, ts, price, size, buyer_is_maker, received, trades)
    SELECT DISTINCT ON (instrument_id, trade_id)
           instrument_id, trade_id, ts, price, size, buyer_is_maker, received, trades
    FROM incoming ORDER BY instrument_id, trade_id, n
    ON CONFLICT (instrument_id, trade_id) DO NOTHING
    RETURNING instrument_id, trade_id, ts, price, size, buyer_is_maker, received, trades
"""

# Trades beyond the highest known id, just copied in: the new ones are all of those. One such
# query per symbol: with its numbers written out the planner looks at one partition along the key.
# Joined to a list of ranges it read the whole table at every batch, once it was large enough.
FRESH_IN_RANGE = """
    SELECT instrument_id, trade_id, ts, price, size, buyer_is_maker, received, trades
    FROM trade WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s
"""

# Fold exactly the fresh trades into the bars, and tell what they add to each partition's digest:
# by instrument and partition. {fresh} is one of the two above.
FOLD = """
WITH fresh AS MATERIALIZED ({fresh}), seconds AS (
    SELECT instrument_id, date_bin('1 second', ts, 'epoch') AS ts,
           (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high,
           min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           sum(size) AS volume, sum(price * size) AS quote_volume,
           coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0) AS taker_buy_volume,
           sum(trades) AS trades, min(trade_id) AS first_id, max(trade_id) AS last_id
    FROM fresh GROUP BY 1, 2
), minutes AS (
    SELECT instrument_id, date_bin('1 minute', ts, 'epoch') AS ts,
           (array_agg(open ORDER BY first_id))[1] AS open, max(high) AS high, min(low) AS low,
           (array_agg(close ORDER BY last_id DESC))[1] AS close, sum(volume) AS volume,
           sum(quote_volume) AS quote_volume, sum(taker_buy_volume) AS taker_buy_volume,
           sum(trades) AS trades, min(first_id) AS first_id, max(last_id) AS last_id
    FROM seconds GROUP BY 1, 2
), folded AS (
    INSERT INTO bar (instrument_id, bar_s, ts, open, high, low, close, volume, quote_volume,
                     taker_buy_volume, trades, first_id, last_id)
    SELECT instrument_id, 1, ts, open, high, low, close, volume, quote_volume,
           taker_buy_volume, trades, first_id, last_id FROM seconds
    UNION ALL
    SELECT instrument_id, 60, ts, open, high, low, close, volume, quote_volume,
           taker_buy_volume, trades, first_id, last_id FROM minutes
    ON CONFLICT (instrument_id, bar_s, ts) DO UPDATE SET
        open = CASE WHEN excluded.first_id < bar.first_id THEN excluded.open ELSE bar.open END,
        high = greatest(bar.high, excluded.high),
        low = least(bar.low, excluded.low),
        close = CASE WHEN excluded.last_id > bar.last_id THEN excluded.close ELSE bar.close END,
        volume = bar.volume + excluded.volume,
        quote_volume = bar.quote_volume + excluded.quote_volume,
        taker_buy_volume = bar.taker_buy_volume + excluded.taker_buy_volume,
        trades = bar.trades + excluded.trades,
        first_id = least(bar.first_id, excluded.first_id),
        last_id = greatest(bar.last_id, excluded.last_id)
)
SELECT instrument_id, min(trade_id), min(ts), (extract(epoch FROM max(ts)) * 1000000)::bigint,
       trade_id / {partition}, count(*), bit_xor({hash})
FROM fresh GROUP BY instrument_id, trade_id / {partition}
"""
FOLD = FOLD.replace("{hash}", HASH).replace("{partition}", str(TRADES_PER_PARTITION))

# Of one trade seen twice the first stays. The timestamp may differ below the millisecond. {stored}
# is STORED_NEAR once per partition that the batch touches: the planner sees its numbers.
RECORD_CONFLICTS = """
WITH stored AS MATERIALIZED ({stored})
INSERT INTO quarantine (venue, symbol, reason, frame)
SELECT DISTINCT s.venue, s.symbol,
       format('conflict: trade %%s is stored with price %%s size %%s', t.trade_id, t.price, t.size),
       format('id %%s price %%s size %%s buyer_is_maker %%s time %%s us',
              i.trade_id, i.price, i.size, i.buyer_is_maker,
              (extract(epoch FROM i.ts) * 1000000)::bigint)
FROM incoming i JOIN stored t USING (instrument_id, trade_id)
JOIN instrument s ON s.instrument_id = i.instrument_id
WHERE (i.price, i.size, i.buyer_is_maker, date_trunc('milliseconds', i.ts))
      <> (t.price, t.size, t.buyer_is_maker, date_trunc('milliseconds', t.ts))
RETURNING symbol, split_part(frame, ' ', 2)::bigint
"""
# OFFSET keeps it a look-up per row: a join would read the whole partition.
STORED_NEAR = """
    SELECT DISTINCT t.* FROM incoming i CROSS JOIN LATERAL (
        SELECT instrument_id, trade_id, ts, price, size, buyer_is_maker FROM trade
        WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s AND trade_id = i.trade_id OFFSET 0
    ) AS t WHERE i.instrument_id = %s AND i.trade_id BETWEEN %s AND %s
"""

# The same id again, by another connection or by REST, tells nothing new.
QUARANTINE = """
INSERT INTO quarantine (venue, symbol, reason, frame, trade_id) VALUES %s
ON CONFLICT (venue, symbol, trade_id) WHERE trade_id IS NOT NULL DO NOTHING
"""

UPSERT_KLINES = """
INSERT INTO kline AS k (instrument_id, bar_s, ts, open, high, low, close, volume, quote_volume,
                        taker_buy_volume, trades) VALUES %s
ON CONFLICT (instrument_id, bar_s, ts) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, quote_volume = excluded.quote_volume,
    taker_buy_volume = excluded.taker_buy_volume, trades = excluded.trades
WHERE (k.open, k.high, k.low, k.close, k.volume, k.quote_volume, k.taker_buy_volume, k.trades)
      IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close,
                        excluded.volume, excluded.quote_volume, excluded.taker_buy_volume,
                        excluded.trades)
RETURNING instrument_id, ts
"""

STAGE_UPLOAD = """
CREATE TEMPORARY TABLE IF NOT EXISTS uploaded (
    ts_us bigint, open float8, high float8, low float8, close float8, volume float8
) ON COMMIT DELETE ROWS
"""

# xmax is 0 in a row that was inserted and not updated.
FOLD_UPLOAD = """
WITH stored AS (
    INSERT INTO kline AS k (instrument_id, bar_s, ts, open, high, low, close, volume)
    SELECT %(number)s, %(bar_s)s, 'epoch'::timestamptz + ts_us * interval '1 microsecond',
           open, high, low, close, volume FROM uploaded
    ON CONFLICT (instrument_id, bar_s, ts) DO UPDATE SET open = excluded.open,
        high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume
    WHERE (k.open, k.high, k.low, k.close, k.volume)
       <> (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume)
    RETURNING (xmax = 0) AS inserted, ts
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted), min(ts), max(ts)
FROM stored
"""

LOCK_FEEDS = """
SELECT pg_notify('trades', %s);
SELECT instrument_id, first_id, high_id, kept_from,
       greatest(date_trunc('second', last_trade),
                (SELECT max(ts) FROM kline k
                 WHERE k.instrument_id = feed.instrument_id AND k.bar_s = 1),
                (SELECT max(ts) FROM kline k
                 WHERE k.instrument_id = feed.instrument_id AND k.bar_s = 60)),
       owner, tail_chunk, tail_n, tail_digest
FROM feed
WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR UPDATE
"""

# `last_received` is of the trade that `last_trade` is: of several at one time, of the last id.
MOVE_CURSORS = """
UPDATE feed SET
    first_id = least(feed.first_id, v.first_id),
    whole_from = least(feed.whole_from, v.first_id + 1),
    high_id = greatest(feed.high_id, v.high_id),
    last_trade = greatest(feed.last_trade, v.last_trade),
    watermark = greatest(feed.watermark, feed.last_trade, v.last_trade),
    last_received = CASE WHEN feed.last_trade IS NULL OR (v.last_trade, v.last_id)
        > (feed.last_trade, feed.high_id) THEN v.last_received ELSE feed.last_received END,
    clock_ahead_us = CASE WHEN feed.last_trade IS NULL OR (v.last_trade, v.last_id)
        > (feed.last_trade, feed.high_id) THEN v.ahead_us ELSE feed.clock_ahead_us END,
    revision = feed.revision + v.behind, stored = feed.stored + v.stored,
    duplicates = feed.duplicates + v.duplicates,
    tail_chunk = v.tail_chunk, tail_n = v.tail_n, tail_digest = v.tail_digest
FROM (VALUES %s) AS v (instrument_id, first_id, high_id, last_trade, last_id, last_received, behind,
                       stored, duplicates, ahead_us, tail_chunk, tail_n, tail_digest)
WHERE feed.instrument_id = v.instrument_id
"""

# Which bars the new revisions of feeds have changed, for those who hold them.
NOTE_CHANGES = """
INSERT INTO bar_change (instrument_id, revision, first_ts, last_ts)
SELECT f.instrument_id, f.revision, v.first_ts, v.last_ts
FROM (VALUES %s) AS v (instrument_id, first_ts, last_ts) JOIN feed f USING (instrument_id)
"""
FORGET_CHANGES = """
DELETE FROM bar_change c USING feed f
WHERE c.instrument_id = f.instrument_id AND f.instrument_id = ANY(%s)
  AND c.revision <= f.revision - %s
"""

# The exchange was asked and has nothing newer than `high_id`, which is all that is stored here.
RAISE_WATERMARKS = """
WITH asked AS (
    SELECT f.instrument_id, v.until
    FROM (VALUES %s) AS v (instrument_id, high_id, until)
    JOIN feed f ON f.instrument_id = v.instrument_id AND f.high_id = v.high_id
    ORDER BY f.instrument_id FOR UPDATE OF f
)
UPDATE feed SET watermark = asked.until FROM asked
WHERE feed.instrument_id = asked.instrument_id
  AND asked.until > coalesce(feed.watermark, '-infinity')
RETURNING feed.instrument_id
"""
