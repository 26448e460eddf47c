-- Which password of a bootstrap document is known to belong to a stored hash, as
-- an HMAC under a key that is not in the database.
CREATE TABLE byok_server_known_passwords (
  user_id    TEXT PRIMARY KEY,
  mark       TEXT NOT NULL
);
