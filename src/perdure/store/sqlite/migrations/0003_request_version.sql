ALTER TABLE run ADD COLUMN request_version INTEGER;
