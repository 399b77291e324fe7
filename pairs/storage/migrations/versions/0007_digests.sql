-- What the trades of a partition amount to: how many, and the exclusive or of their rows' hashes.
-- Written with them. whole: it is of all of them; a partition that was there before it had a row
-- gets one that is not, until the rest is counted. Whoever changes a stored trade past the program
-- does not change this.
CREATE TABLE partition_digest (
    instrument_id int NOT NULL,
    chunk         bigint NOT NULL,  -- trade_id / 1000000
    n             bigint NOT NULL DEFAULT 0,
    digest        bigint NOT NULL DEFAULT 0,
    whole         bool NOT NULL,
    PRIMARY KEY (instrument_id, chunk)
) WITH (fillfactor = 50);
-- What the newest partition has got since it became the newest; its digest is both together.
ALTER TABLE feed ADD COLUMN tail_chunk bigint;
ALTER TABLE feed ADD COLUMN tail_n bigint NOT NULL DEFAULT 0;
ALTER TABLE feed ADD COLUMN tail_digest bigint NOT NULL DEFAULT 0;
