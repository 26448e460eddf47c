-- The columns that Sim's tables require of every row, so that the same
-- statements fill both.
ALTER TABLE account ADD COLUMN account_id TEXT;
UPDATE account SET account_id = user_id;
ALTER TABLE organization ADD COLUMN slug TEXT;
UPDATE organization SET slug = id;
ALTER TABLE workspace ADD COLUMN billed_account_user_id TEXT;
UPDATE workspace SET billed_account_user_id = owner_id;
