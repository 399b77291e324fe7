"""The SQL of the write path. `storage/postgres.py` says how the statements belong together."""

STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
    n int GENERATED ALWAYS AS IDENTITY, instrument_id int, trade_id bigint, ts timestamptz,
    price float8, size float8, buyer_is_maker bool, received timestamptz
) ON COMMIT DELETE ROWS
"""

# Trades of which some may be known: the new ones are those that the key lets in.
FRESH_BY_KEY = """
    INSERT INTO trade (instrument_id, trade_id, ts, price, size, buyer_is_maker, received)
    SELECT DISTINCT ON (instrument_id, trade_id)
           instrument_id, trade_id, ts, price, size, buyer_is_maker, received
    FROM incoming ORDER BY instrument_id, trade_id, n
    ON CONFLICT (instrument_id, trade_id) DO NOTHING
    RETURNING instrument_id, trade_id, ts, price, size, buyer_is_maker
"""

# Trades beyond the highest known id, just copied in: the new ones are all of those. One such
# query per symbol: with its numbers written out the planner looks at one partition along the key.
# Joined to a list of ranges it read the whole table at every batch, once it was large enough.
FRESH_IN_RANGE = """
    SELECT instrument_id, trade_id, ts, price, size, buyer_is_maker
    FROM trade WHERE instrument_id = %s AND trade_id BETWEEN %s AND %s
"""

# Fold exactly the fresh trades into the bars. {fresh} is one of the two above.
FOLD = """
WITH fresh AS MATERIALIZED ({fresh}), seconds AS (
    SELECT instrument_id, date_bin('1 second', ts, 'epoch') AS ts,
           (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high,
           min(price) AS low, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           sum(size) AS volume, sum(price * size) AS quote_volume,
           coalesce(sum(size) FILTER (WHERE NOT buyer_is_maker), 0) AS taker_buy_volume,
           count(*) AS trades, min(trade_id) AS first_id, max(trade_id) AS last_id
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
SELECT instrument_id, count(*), min(trade_id), min(ts) FROM fresh GROUP BY 1
"""

# Of one trade seen twice the first stays. The timestamp may differ below the millisecond.
RECORD_CONFLICTS = """
INSERT INTO quarantine (venue, symbol, reason, frame)
SELECT DISTINCT s.venue, s.symbol,
       format('conflict: trade %s is stored with price %s size %s', t.trade_id, t.price, t.size),
       format('id %s price %s size %s buyer_is_maker %s time %s us',
              i.trade_id, i.price, i.size, i.buyer_is_maker,
              (extract(epoch FROM i.ts) * 1000000)::bigint)
FROM incoming i
CROSS JOIN LATERAL (  -- OFFSET keeps it a look-up per row: a join would read the whole table
    SELECT * FROM trade k
    WHERE k.instrument_id = i.instrument_id AND k.trade_id = i.trade_id OFFSET 0
) AS t
JOIN instrument s ON s.instrument_id = i.instrument_id
WHERE (i.price, i.size, i.buyer_is_maker, date_trunc('milliseconds', i.ts))
      <> (t.price, t.size, t.buyer_is_maker, date_trunc('milliseconds', t.ts))
"""

UPSERT_KLINES = """
INSERT INTO kline AS k (instrument_id, bar_s, ts, open, high, low, close, volume, quote_volume,
                        taker_buy_volume, trades) VALUES %s
ON CONFLICT (instrument_id, bar_s, ts) DO UPDATE SET
    open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
    volume = excluded.volume, quote_volume = excluded.quote_volume,
    taker_buy_volume = excluded.taker_buy_volume, trades = excluded.trades
WHERE (k.open, k.high, k.low, k.close, k.volume, k.trades)
      IS DISTINCT FROM (excluded.open, excluded.high, excluded.low, excluded.close,
                        excluded.volume, excluded.trades)
RETURNING 1
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
    RETURNING (xmax = 0) AS inserted
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM stored
"""

LOCK_FEEDS = """
SELECT pg_notify('trades', %s);
SELECT instrument_id, first_id, high_id, kept_from, last_trade FROM feed
WHERE instrument_id = ANY(%s) ORDER BY instrument_id FOR UPDATE
"""

MOVE_CURSORS = """
UPDATE feed SET
    first_id = least(feed.first_id, v.first_id),
    whole_from = least(feed.whole_from, v.first_id + 1),
    high_id = greatest(feed.high_id, v.high_id),
    last_trade = greatest(feed.last_trade, v.last_trade),
    last_received = greatest(feed.last_received, v.last_received),
    revision = feed.revision + v.behind, stored = feed.stored + v.stored,
    duplicates = feed.duplicates + v.duplicates
FROM (VALUES %s) AS v (instrument_id, first_id, high_id, last_trade, last_received, behind,
                       stored, duplicates)
WHERE feed.instrument_id = v.instrument_id
"""
