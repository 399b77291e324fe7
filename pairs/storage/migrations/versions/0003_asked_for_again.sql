-- When trades that were given up are asked for again: null never, infinity at the next start only.
-- refused: the exchange may have them and would not say; until it has, that is a loss to be told.
ALTER TABLE gap ADD COLUMN ask_again timestamptz,
                ADD COLUMN refused bool NOT NULL DEFAULT false;
UPDATE gap SET ask_again = 'infinity' WHERE state = 'unrecoverable'
    AND reason NOT LIKE 'older than the trades that are kept%'
    AND reason NOT LIKE 'ids began anew%' AND reason NOT LIKE 'the exchange tells it, but%';
