-- Organizations, their members and their pools, which workspaces inherit.
CREATE TABLE organization (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE TABLE member (
  id              TEXT PRIMARY KEY,
  user_id         TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  organization_id TEXT NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  role            TEXT NOT NULL,
  created_at      TEXT NOT NULL,
  UNIQUE (organization_id, user_id)
);
ALTER TABLE workspace ADD COLUMN organization_id TEXT REFERENCES organization (id) ON DELETE SET NULL;
CREATE TABLE organization_byok_keys (
  id                TEXT PRIMARY KEY,
  organization_id   TEXT NOT NULL,
  provider_id       TEXT NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  name              TEXT,
  created_by        TEXT,
  created_at        TEXT NOT NULL,
  updated_at        TEXT NOT NULL
);
CREATE INDEX organization_byok_pool_idx ON organization_byok_keys (organization_id, provider_id, created_at, id);
