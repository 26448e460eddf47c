-- One key per workspace and provider ID, as the feature began.
CREATE TABLE workspace_byok_keys (
  id                TEXT PRIMARY KEY,
  workspace_id      TEXT NOT NULL,
  provider_id       TEXT NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  created_by        TEXT,
  created_at        TEXT NOT NULL,
  updated_at        TEXT NOT NULL
);
CREATE UNIQUE INDEX workspace_byok_provider_unique ON workspace_byok_keys (workspace_id, provider_id);
