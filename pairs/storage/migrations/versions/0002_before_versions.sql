-- Grows when stored bars of a file change; those of a feed have theirs in `feed`.
ALTER TABLE instrument ADD COLUMN IF NOT EXISTS revision bigint NOT NULL DEFAULT 0;

-- Which bars the last revisions have changed: whoever holds older ones reads these again. A
-- revision without a row here, or before the oldest kept, may have changed any.
CREATE TABLE IF NOT EXISTS bar_change (
    instrument_id int NOT NULL,
    revision      bigint NOT NULL,
    first_ts      timestamptz NOT NULL,  -- times of trades or bars, both included
    last_ts       timestamptz NOT NULL,
    PRIMARY KEY (instrument_id, revision)
);

-- How many trades the id stands for: an aggregate's may be several.
ALTER TABLE trade ADD COLUMN IF NOT EXISTS trades int NOT NULL DEFAULT 1;

-- Retention moves feed.first_id up and kept_from with it (null: it has dropped nothing yet): ids
-- below kept_from were folded into the bars once, or given up, and are refused for good. Bars whose
-- first trade is at whole_from or later lack nothing at the beginning of the record (null: there is
-- none yet). What was pruned before these columns shows in bars older than the trades.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'feed'::regclass AND attname = 'kept_from') THEN
        ALTER TABLE feed ADD COLUMN kept_from bigint, ADD COLUMN whole_from bigint;
        UPDATE feed f SET whole_from = 0, kept_from = CASE WHEN EXISTS (
            SELECT FROM bar b WHERE b.instrument_id = f.instrument_id AND b.first_id < f.first_id)
            THEN f.first_id END WHERE high_id IS NOT NULL;
    END IF;
END $$;

-- Every trade that the exchange printed before this moment of its own clock is stored, or named in
-- `gap`. From data alone: a later trade, or the exchange's word that there is none. Never falls.
ALTER TABLE feed ADD COLUMN IF NOT EXISTS watermark timestamptz;

-- By how much the database's clock was ahead of the daemon's when `last_received` was noted. Where
-- that changes, one of them was set, and the heartbeat sets `last_received` right.
ALTER TABLE feed ADD COLUMN IF NOT EXISTS clock_ahead_us bigint;

-- Whether klines were asked for in place of the trades that this gap has lost (kline_wanted).
ALTER TABLE gap ADD COLUMN IF NOT EXISTS klines_asked bool NOT NULL DEFAULT false;

-- Klines still to be asked for: open times from first_ts up to, not including, until_ts. A row
-- shrinks from its end with every page that is stored and goes when nothing is left of it, so that
-- a restart or an outage of the exchange forgets nothing.
CREATE TABLE IF NOT EXISTS kline_wanted (
    instrument_id int NOT NULL REFERENCES instrument,
    bar_s         int NOT NULL CHECK (bar_s > 0),
    first_ts      timestamptz NOT NULL,
    until_ts      timestamptz NOT NULL CHECK (until_ts > first_ts),
    PRIMARY KEY (instrument_id, bar_s, first_ts)
);

-- The trade's id where it could be read: told again, by REST perhaps, it is kept once.
ALTER TABLE quarantine ADD COLUMN IF NOT EXISTS trade_id bigint;
CREATE UNIQUE INDEX IF NOT EXISTS quarantine_trade ON quarantine (venue, symbol, trade_id)
    WHERE trade_id IS NOT NULL;

-- Where bars that it was judged on have changed since, or it was told late because they had.
ALTER TABLE alert_event ADD COLUMN IF NOT EXISTS remark text;
CREATE INDEX IF NOT EXISTS alert_event_remark ON alert_event (event_id) WHERE remark IS NOT NULL;

-- Sets of rules tried on the bars of a pair, each once: what the deflated Sharpe ratio counts.
CREATE TABLE IF NOT EXISTS trial (
    pair      text NOT NULL,             -- both legs, in alphabetical order
    bar_s     int NOT NULL,
    rules     text NOT NULL,             -- rules, costs and which leg was explained, hashed
    first_bar timestamptz NOT NULL,      -- of all bars it was ever tried on
    last_bar  timestamptz NOT NULL,
    sharpe    float8 NOT NULL,           -- per return; NaN: it never traded
    tried     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pair, bar_s, rules)
);
CREATE INDEX IF NOT EXISTS trial_tried ON trial (tried);
