-- Why nothing more is taken of a record: the exchange counts its trades anew. Null: it is.
ALTER TABLE feed ADD COLUMN halted text;
ALTER TABLE feed DROP CONSTRAINT feed_state_check;
ALTER TABLE feed ADD CONSTRAINT feed_state_check CHECK (state IN
    ('starting', 'live', 'quiet', 'stale', 'disconnected', 'stopped', 'halted'));
