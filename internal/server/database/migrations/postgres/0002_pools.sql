-- Up to ten keys per workspace and provider ID, each with an optional name. The
-- index is in rotation order, so that a pool and a list are read off it.
DROP INDEX workspace_byok_provider_unique;
ALTER TABLE workspace_byok_keys ADD COLUMN name TEXT;
CREATE INDEX workspace_byok_pool_idx ON workspace_byok_keys (workspace_id, provider_id, created_at, id);
