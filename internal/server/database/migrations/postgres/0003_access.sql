-- Who may do what.
CREATE TABLE "user" (
  id             TEXT COLLATE "C" PRIMARY KEY,
  name           TEXT NOT NULL,
  email          TEXT NOT NULL UNIQUE,
  email_verified BOOLEAN NOT NULL,
  image          TEXT,
  role           TEXT,
  banned         BOOLEAN NOT NULL DEFAULT FALSE,
  ban_reason     TEXT,
  ban_expires    TIMESTAMP,
  created_at     TIMESTAMP NOT NULL,
  updated_at     TIMESTAMP NOT NULL
);
CREATE TABLE account (
  id          TEXT COLLATE "C" PRIMARY KEY,
  user_id     TEXT COLLATE "C" NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  provider_id TEXT COLLATE "C" NOT NULL,
  password    TEXT,
  created_at  TIMESTAMP NOT NULL,
  updated_at  TIMESTAMP NOT NULL,
  UNIQUE (user_id, provider_id)
);
CREATE TABLE session (
  id         TEXT COLLATE "C" PRIMARY KEY,
  token      TEXT NOT NULL UNIQUE,
  user_id    TEXT COLLATE "C" NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  expires_at TIMESTAMP NOT NULL,
  created_at TIMESTAMP NOT NULL,
  updated_at TIMESTAMP NOT NULL,
  ip_address TEXT,
  user_agent TEXT
);
CREATE TABLE workspace (
  id          TEXT COLLATE "C" PRIMARY KEY,
  name        TEXT NOT NULL,
  owner_id    TEXT NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  archived_at TIMESTAMP,
  created_at  TIMESTAMP NOT NULL,
  updated_at  TIMESTAMP NOT NULL
);
CREATE TABLE permissions (
  id              TEXT COLLATE "C" PRIMARY KEY,
  user_id         TEXT COLLATE "C" NOT NULL REFERENCES "user" (id) ON DELETE CASCADE,
  entity_type     TEXT NOT NULL,
  entity_id       TEXT COLLATE "C" NOT NULL,
  permission_type TEXT NOT NULL,
  UNIQUE (entity_type, entity_id, user_id)
);
