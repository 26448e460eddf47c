-- Who may do what.
CREATE TABLE "user" (
  id             TEXT PRIMARY KEY,
  name           TEXT NOT NULL,
  email          TEXT NOT NULL UNIQUE,
  email_verified BOOLEAN NOT NULL,
  image          TEXT,
  role           TEXT,
  banned         BOOLEAN NOT NULL DEFAULT FALSE,
  ban_reason     TEXT,
  ban_expires    TEXT,
  created_at     TEXT NOT NULL,
  updated_at     TEXT NOT NULL
);
CREATE TABLE account (
  id          TEXT PRIMARY KEY,
  user_id     TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  provider_id TEXT NOT NULL,
  password    TEXT,
  created_at  TEXT NOT NULL,
  updated_at  TEXT NOT NULL,
  UNIQUE (user_id, provider_id)
);
CREATE TABLE session (
  id         TEXT PRIMARY KEY,
  token      TEXT NOT NULL UNIQUE,
  user_id    TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  expires_at TEXT NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  ip_address TEXT,
  user_agent TEXT
);
CREATE TABLE workspace (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  owner_id    TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  archived_at TEXT,
  created_at  TEXT NOT NULL,
  updated_at  TEXT NOT NULL
);
CREATE TABLE permissions (
  id              TEXT PRIMARY KEY,
  user_id         TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  entity_type     TEXT NOT NULL,
  entity_id       TEXT NOT NULL,
  permission_type TEXT NOT NULL,
  UNIQUE (entity_type, entity_id, user_id)
);
