-- Ids that were told and are no trades (aggregates of size zero), a row for a thousand ids: `n` of
-- them, as ranges.
CREATE TABLE IF NOT EXISTS void_ids (
    instrument_id int NOT NULL REFERENCES instrument,
    chunk         bigint NOT NULL,  -- id / 1000
    ids           int8multirange NOT NULL,
    n             int NOT NULL,
    detected      timestamptz NOT NULL DEFAULT now(),
    changed       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, chunk)
);
