-- The views as they are now: run after every step of the schema's versions, and again where one of
-- them is gone. Changed only together with a new version (storage/migrations), which names this
-- file's hash: a view's columns may grow at their end; one that loses any is dropped there first.

CREATE OR REPLACE VIEW v_ticks AS
SELECT i.venue, i.symbol, t.trade_id, t.ts, t.price, t.size, t.buyer_is_maker, t.received
FROM trade t JOIN instrument i USING (instrument_id);

-- The ids known to be missing, with those beside them that never were trades: what is lost may
-- belong to the bar on either side.
CREATE OR REPLACE VIEW missing AS
SELECT g.instrument_id, range_agg(run.ids) AS ids
FROM (SELECT instrument_id, range_agg(ids) AS named, range_agg(ids) FILTER (WHERE lost) AS lost
      FROM (SELECT instrument_id, int8range(first_id, last_id, '[]') AS ids, state <> 'void' AS lost
            FROM gap WHERE state <> 'filled'
            UNION ALL
            SELECT v.instrument_id, unnest(v.ids), false FROM gap e
            CROSS JOIN LATERAL (VALUES ((e.first_id - 1) / 1000),
                                       ((e.last_id + 1) / 1000)) AS beside (chunk)
            JOIN void_ids v ON v.instrument_id = e.instrument_id AND v.chunk = beside.chunk
            WHERE e.state IN ('open', 'unrecoverable')) AS known
      GROUP BY instrument_id) AS g
CROSS JOIN LATERAL unnest(g.named) AS run (ids)
WHERE run.ids && g.lost
GROUP BY g.instrument_id;

-- complete: no trade of the bar is known to be missing. One that a kline agrees with lacks none,
-- whatever is missing beside it. Both joins fall away where the column is not asked for.
CREATE OR REPLACE VIEW v_bars AS
SELECT i.venue, i.symbol, b.bar_s, b.ts, b.open, b.high, b.low, b.close, b.volume,
       b.quote_volume, b.taker_buy_volume, b.trades, 'ticks'::text AS source,
       (b.first_id >= coalesce(f.whole_from, 0) AND NOT coalesce(
            m.ids && int8range(b.first_id - 1, least(b.last_id, 9223372036854775805) + 2), false))
       OR EXISTS (SELECT FROM kline k WHERE k.instrument_id = b.instrument_id
                  AND k.bar_s = b.bar_s AND k.ts = b.ts AND k.trades = b.trades) AS complete
FROM bar b JOIN instrument i USING (instrument_id)
LEFT JOIN feed f ON f.instrument_id = b.instrument_id
LEFT JOIN missing m ON m.instrument_id = b.instrument_id
WHERE NOT EXISTS (
    SELECT FROM kline k
    WHERE k.instrument_id = b.instrument_id AND k.bar_s = b.bar_s AND k.ts = b.ts
      AND k.trades > b.trades)
UNION ALL
SELECT i.venue, i.symbol, k.bar_s, k.ts, k.open, k.high, k.low, k.close, k.volume,
       k.quote_volume, k.taker_buy_volume, k.trades,
       CASE i.venue WHEN 'upload' THEN 'upload' ELSE 'klines' END, true
FROM kline k JOIN instrument i USING (instrument_id)
WHERE NOT EXISTS (
    SELECT FROM bar b
    WHERE b.instrument_id = k.instrument_id AND b.bar_s = k.bar_s AND b.ts = k.ts
      AND b.trades >= k.trades);

CREATE OR REPLACE VIEW v_gaps AS
SELECT i.venue, i.symbol, g.first_id, g.last_id, g.state, g.detected, g.closed
FROM gap g JOIN instrument i USING (instrument_id)
UNION ALL
SELECT i.venue, i.symbol, lower(run), upper(run) - 1, 'void', v.detected, v.changed
FROM void_ids v JOIN instrument i USING (instrument_id) CROSS JOIN LATERAL unnest(v.ids) AS run;

-- last_trade_id is the cursor of contiguous ids: an open gap holds it back.
CREATE OR REPLACE VIEW v_feed AS
SELECT i.venue, i.symbol,
       coalesce((SELECT min(g.first_id) - 1 FROM gap g
                 WHERE g.instrument_id = f.instrument_id AND g.state = 'open'), f.high_id)
           AS last_trade_id,
       f.last_trade, f.last_received,
       CASE WHEN f.state <> 'stopped' AND NOT f.heartbeat BETWEEN now() - interval '8 seconds'
                                                              AND now() + interval '8 seconds'
            THEN 'stopped' ELSE f.state END AS state
FROM feed f JOIN instrument i USING (instrument_id);
