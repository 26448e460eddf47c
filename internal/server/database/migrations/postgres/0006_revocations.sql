-- When a user's sessions were last ended by an operator: session_data cookies
-- from before do not stand for a lookup any more.
CREATE TABLE byok_server_revocations (
  user_id    TEXT COLLATE "C" PRIMARY KEY,
  revoked_at TIMESTAMP NOT NULL
);
