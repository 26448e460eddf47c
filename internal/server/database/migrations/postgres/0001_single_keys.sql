-- One key per workspace and provider ID, as the feature began.
CREATE TABLE workspace_byok_keys (
  id                TEXT COLLATE "C" PRIMARY KEY,
  workspace_id      TEXT COLLATE "C" NOT NULL,
  provider_id       TEXT COLLATE "C" NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  created_by        TEXT,
  created_at        TIMESTAMP NOT NULL,
  updated_at        TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX workspace_byok_provider_unique ON workspace_byok_keys (workspace_id, provider_id);
