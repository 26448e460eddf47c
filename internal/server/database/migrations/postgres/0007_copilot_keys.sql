-- The mothership's keys: one per workspace and provider, outside every pool.
CREATE TABLE copilot_byok_keys (
  workspace_id      TEXT COLLATE "C" NOT NULL,
  provider          TEXT COLLATE "C" NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  created_by        TEXT NOT NULL,
  created_at        TIMESTAMP NOT NULL,
  updated_at        TIMESTAMP NOT NULL,
  PRIMARY KEY (workspace_id, provider)
);
