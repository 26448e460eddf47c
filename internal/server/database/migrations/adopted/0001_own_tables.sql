-- What byok-server has of its own beside Sim's tables, in the schema byok_server:
-- the tables of the migrations 0005, 0006 and 0007 of a database of its own.
CREATE TABLE byok_server_canary (
  sealed     TEXT COLLATE "C" PRIMARY KEY,
  created_at TIMESTAMP NOT NULL
);
CREATE TABLE byok_server_revocations (
  user_id    TEXT COLLATE "C" PRIMARY KEY,
  revoked_at TIMESTAMP NOT NULL
);
CREATE TABLE copilot_byok_keys (
  workspace_id      TEXT COLLATE "C" NOT NULL,
  provider          TEXT COLLATE "C" NOT NULL,
  encrypted_api_key TEXT NOT NULL,
  created_by        TEXT NOT NULL,
  created_at        TIMESTAMP NOT NULL,
  updated_at        TIMESTAMP NOT NULL,
  PRIMARY KEY (workspace_id, provider)
);
