-- One value for each ENCRYPTION_KEY that stored keys may be sealed with, sealed
-- with it: a server whose key does not open all of them must not start.
CREATE TABLE byok_server_canary (
  sealed     TEXT COLLATE "C" PRIMARY KEY,
  created_at TIMESTAMP NOT NULL
);
