-- The store. Every statement may run again on an existing database.
--
-- trade        what the exchange printed; identity (instrument, trade_id), enforced by the
--              primary key. Partitioned by instrument and then by ranges of trade ids: ids grow
--              with time, and a key that held the timestamp could not refuse the same trade
--              reported once in ms and once in µs.
-- bar          the fold of exactly the trades in `trade`; never written by anything else.
-- kline        bars stated by somebody else: the exchange's klines, a user's file.
-- v_bars       chooses, bar by bar, whichever of the two has seen more trades.

CREATE TABLE IF NOT EXISTS instrument (
    instrument_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue         text NOT NULL CHECK (venue IN ('binance', 'binance-usdm', 'local', 'upload')),
    symbol        text NOT NULL CHECK (symbol <> ''),
    UNIQUE (venue, symbol)
);

-- No foreign key on the big tables: its trigger would run once per row, and ids only come from
-- `instrument`, which nothing deletes from.
CREATE TABLE IF NOT EXISTS trade (
    instrument_id  int NOT NULL,
    trade_id       bigint NOT NULL,
    ts             timestamptz NOT NULL,
    price          float8 NOT NULL CHECK (price > 0 AND price < 'infinity'),
    size           float8 NOT NULL CHECK (size > 0 AND size < 'infinity'),
    buyer_is_maker bool NOT NULL,
    received       timestamptz NOT NULL,
    PRIMARY KEY (instrument_id, trade_id)
) PARTITION BY LIST (instrument_id);

CREATE TABLE IF NOT EXISTS bar (
    instrument_id    int NOT NULL,
    bar_s            int NOT NULL CHECK (bar_s > 0),
    ts               timestamptz NOT NULL,
    open             float8 NOT NULL,
    high             float8 NOT NULL,
    low              float8 NOT NULL,
    close            float8 NOT NULL,
    volume           float8 NOT NULL,
    quote_volume     float8 NOT NULL,
    taker_buy_volume float8 NOT NULL,
    trades           bigint NOT NULL,
    first_id         bigint NOT NULL,  -- the trade `open` came from
    last_id          bigint NOT NULL,  -- the trade `close` came from
    PRIMARY KEY (instrument_id, bar_s, ts)
) PARTITION BY RANGE (ts);

CREATE TABLE IF NOT EXISTS kline (
    instrument_id    int NOT NULL,
    bar_s            int NOT NULL CHECK (bar_s > 0),
    ts               timestamptz NOT NULL,
    open             float8 NOT NULL,
    high             float8 NOT NULL,
    low              float8 NOT NULL,
    close            float8 NOT NULL,
    volume           float8 NOT NULL,
    quote_volume     float8,           -- a user's file does not tell these three
    taker_buy_volume float8,
    trades           bigint,
    PRIMARY KEY (instrument_id, bar_s, ts)
);

-- Known ids are first_id … high_id; what is missing between them stands in `gap`.
CREATE TABLE IF NOT EXISTS feed (
    instrument_id int PRIMARY KEY REFERENCES instrument,
    first_id      bigint,
    high_id       bigint,
    last_trade    timestamptz,
    last_received timestamptz,
    state         text NOT NULL DEFAULT 'starting'
                  CHECK (state IN ('starting', 'live', 'quiet', 'stale', 'disconnected', 'stopped')),
    detail        text NOT NULL DEFAULT '',   -- why, in words
    heartbeat     timestamptz,                -- the daemon's last sign of life
    revision      bigint NOT NULL DEFAULT 0,  -- grows when bars behind the newest one change
    stored        bigint NOT NULL DEFAULT 0,
    duplicates    bigint NOT NULL DEFAULT 0
);

CREATE TABLE IF NOT EXISTS gap (
    gap_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instrument_id int NOT NULL REFERENCES instrument,
    first_id      bigint NOT NULL,
    last_id       bigint NOT NULL CHECK (last_id >= first_id),
    state         text NOT NULL DEFAULT 'open'
                  CHECK (state IN ('open', 'filled', 'void', 'unrecoverable')),
    reason        text NOT NULL DEFAULT '',
    detected      timestamptz NOT NULL DEFAULT now(),
    closed        timestamptz
);
CREATE INDEX IF NOT EXISTS gap_open ON gap (instrument_id, first_id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS gap_unfilled ON gap (instrument_id, first_id) WHERE state <> 'filled';

-- What arrived and could not be stored as a trade, with the reason; nothing is dropped unseen.
CREATE TABLE IF NOT EXISTS quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    detected      timestamptz NOT NULL DEFAULT now(),
    venue         text NOT NULL,
    symbol        text,
    reason        text NOT NULL,
    frame         text NOT NULL
);

CREATE OR REPLACE VIEW v_ticks AS
SELECT i.venue, i.symbol, t.trade_id, t.ts, t.price, t.size, t.buyer_is_maker, t.received
FROM trade t JOIN instrument i USING (instrument_id);

CREATE OR REPLACE VIEW v_bars AS
SELECT i.venue, i.symbol, b.bar_s, b.ts, b.open, b.high, b.low, b.close, b.volume,
       b.quote_volume, b.taker_buy_volume, b.trades, 'ticks'::text AS source
FROM bar b JOIN instrument i USING (instrument_id)
WHERE NOT EXISTS (
    SELECT FROM kline k
    WHERE k.instrument_id = b.instrument_id AND k.bar_s = b.bar_s AND k.ts = b.ts
      AND k.trades > b.trades)
UNION ALL
SELECT i.venue, i.symbol, k.bar_s, k.ts, k.open, k.high, k.low, k.close, k.volume,
       k.quote_volume, k.taker_buy_volume, k.trades,
       CASE i.venue WHEN 'upload' THEN 'upload' ELSE 'klines' END
FROM kline k JOIN instrument i USING (instrument_id)
WHERE NOT EXISTS (
    SELECT FROM bar b
    WHERE b.instrument_id = k.instrument_id AND b.bar_s = k.bar_s AND b.ts = k.ts
      AND b.trades >= k.trades);

CREATE OR REPLACE VIEW v_gaps AS
SELECT i.venue, i.symbol, g.first_id, g.last_id, g.state, g.detected, g.closed
FROM gap g JOIN instrument i USING (instrument_id);

-- last_trade_id is the cursor of contiguous ids: an open gap holds it back.
CREATE OR REPLACE VIEW v_feed AS
SELECT i.venue, i.symbol,
       coalesce((SELECT min(g.first_id) - 1 FROM gap g
                 WHERE g.instrument_id = f.instrument_id AND g.state = 'open'), f.high_id)
           AS last_trade_id,
       f.last_trade, f.last_received,
       CASE WHEN f.state <> 'stopped' AND f.heartbeat < now() - interval '8 seconds'
            THEN 'stopped' ELSE f.state END AS state
FROM feed f JOIN instrument i USING (instrument_id);

-- Alerts. `rule` is the AlertRule as JSON (alerts.py). `revision` grows with every edit that
-- begins the evaluation anew; `serial` with every write of the state, so that of two watchers
-- only the one that has seen the latest state may move it.
CREATE TABLE IF NOT EXISTS alert_rule (
    rule_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision int NOT NULL DEFAULT 1,
    rule     jsonb NOT NULL,
    created  timestamptz NOT NULL DEFAULT now(),
    updated  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS alert_state (
    rule_id   bigint PRIMARY KEY REFERENCES alert_rule ON DELETE CASCADE,
    revision  int NOT NULL DEFAULT 1,
    serial    bigint NOT NULL DEFAULT 0,
    last_ts   timestamptz,              -- the last reading evaluated
    state     jsonb NOT NULL DEFAULT '{}',
    value     float8,                   -- of that reading; null where undefined
    evaluated timestamptz,
    problem   text,                     -- why it is not evaluated, in words; null: it is
    since     timestamptz               -- of the problem
) WITH (fillfactor = 50);

-- No foreign key to the rule: what has fired stays when the rule goes. `rule` is the rule as it
-- stood then.
CREATE TABLE IF NOT EXISTS alert_event (
    event_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule_id      bigint NOT NULL,
    revision     int NOT NULL,
    ts           timestamptz NOT NULL,  -- the bar's open time; staleness: the moment
    edge         text NOT NULL CHECK (edge IN ('up', 'down')),
    known_at     timestamptz NOT NULL,  -- the bar's close
    fired        timestamptz NOT NULL DEFAULT clock_timestamp(),
    rule         jsonb NOT NULL,
    value        float8 NOT NULL,
    figures      jsonb NOT NULL,        -- the values at the time
    title        text NOT NULL,
    body         text NOT NULL,
    acknowledged timestamptz,
    UNIQUE (rule_id, revision, ts, edge)
);
CREATE INDEX IF NOT EXISTS alert_event_open ON alert_event (event_id) WHERE acknowledged IS NULL;
CREATE INDEX IF NOT EXISTS alert_event_fired ON alert_event (fired);

-- Channels are known by a name without any secret: the scheme, and a number from the second on.
CREATE TABLE IF NOT EXISTS alert_channel (
    channel        text PRIMARY KEY,
    configured     bool NOT NULL,
    last_delivered timestamptz,
    last_error     text,                -- null once a delivery has succeeded again
    failing_since  timestamptz
);

-- The outbox: one row per event and channel, written with the event.
CREATE TABLE IF NOT EXISTS alert_delivery (
    event_id     bigint NOT NULL REFERENCES alert_event ON DELETE CASCADE,
    channel      text NOT NULL,
    state        text NOT NULL DEFAULT 'waiting'
                 CHECK (state IN ('waiting', 'sending', 'delivered', 'given_up')),
    attempts     int NOT NULL DEFAULT 0,
    next_attempt timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error   text,
    delivered    timestamptz,
    PRIMARY KEY (event_id, channel)
);
CREATE INDEX IF NOT EXISTS alert_delivery_open ON alert_delivery (channel, next_attempt)
    WHERE state IN ('waiting', 'sending');

-- The watcher's sign of life: one row.
CREATE TABLE IF NOT EXISTS alert_watcher (
    one       bool PRIMARY KEY DEFAULT true CHECK (one),
    heartbeat timestamptz NOT NULL,
    started   timestamptz NOT NULL
);
