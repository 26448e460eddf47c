-- Organizations, their members and their pools, which workspaces inherit.
CREATE TABLE organization (
  id         TEXT COLLATE "C" PRIMARY KEY,
  name       TEXT NOT NULL,
  created_at TIMESTAMP NOT NULL
);
CREATE TABLE member (
  id              TEXT COLLATE "C" PRIMARY KEY,
  user_id         TEXT COLLATE "C" NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  organization_id TEXT COLLATE "C" NOT NULL REFERENCES organization (id) ON DELETE CASCADE,
  role            TEXT NOT NULL,
  created_at      TIMESTAMP NOT NULL,
  UNIQUE (organization_id, user_id)
);
ALTER TABLE workspace ADD COLUMN organization_id TEXT COLLATE "C" REFERENCES organization (id) ON DELETE SET NULL;
CREATE TABLE organization_byok_keys (
  id                TEXT COLLATE "C" PRIMARY KEY,
  organization_id   TEXT COLLATE "C" NOT NULL,
  provider_id       TEXT COLLATE "C" NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  name              TEXT,
  created_by        TEXT,
  created_at        TIMESTAMP NOT NULL,
  updated_at        TIMESTAMP NOT NULL
);
CREATE INDEX organization_byok_pool_idx ON organization_byok_keys (organization_id, provider_id, created_at, id);
