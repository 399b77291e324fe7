-- The daemon that ingests a symbol, and until when that holds without a further word of it; the
-- watcher that evaluates the alerts.
ALTER TABLE feed ADD COLUMN IF NOT EXISTS owner text, ADD COLUMN IF NOT EXISTS owned_until timestamptz;
ALTER TABLE alert_watcher ADD COLUMN IF NOT EXISTS owner text;
