-- The mothership's keys: one per workspace and provider, outside every pool.
CREATE TABLE copilot_byok_keys (
  workspace_id      TEXT NOT NULL,
  provider          TEXT NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  created_by        TEXT NOT NULL,
  created_at        TEXT NOT NULL,
  updated_at        TEXT NOT NULL,
  PRIMARY KEY (workspace_id, provider)
);
