-- The tables of Sim that have to do with keys, as its own migrations made them (v0.8.9), from
-- internal/server/database/sim-tables.md. Its other tables, 104 of them, and its extensions are left out.

CREATE TYPE permission_type AS ENUM ('admin', 'write', 'read');
CREATE TYPE workspace_mode AS ENUM ('personal', 'organization', 'grandfathered_shared');

CREATE TABLE "user" (
  id text NOT NULL,
  name text NOT NULL,
  email text NOT NULL,
  email_verified boolean NOT NULL,
  image text,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  stripe_customer_id text,
  role text DEFAULT 'user'::text,
  banned boolean DEFAULT false,
  ban_reason text,
  ban_expires timestamp,
  normalized_email text,
  CONSTRAINT user_email_unique UNIQUE (email),
  CONSTRAINT user_normalized_email_unique UNIQUE (normalized_email),
  CONSTRAINT user_pkey PRIMARY KEY (id)
);
CREATE TABLE session (
  id text NOT NULL,
  expires_at timestamp NOT NULL,
  token text NOT NULL,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  ip_address text,
  user_agent text,
  user_id text NOT NULL,
  active_organization_id text,
  impersonated_by text,
  CONSTRAINT session_token_unique UNIQUE (token),
  CONSTRAINT session_pkey PRIMARY KEY (id)
);
CREATE TABLE account (
  id text NOT NULL,
  account_id text NOT NULL,
  provider_id text NOT NULL,
  user_id text NOT NULL,
  access_token text,
  refresh_token text,
  id_token text,
  access_token_expires_at timestamp,
  refresh_token_expires_at timestamp,
  scope text,
  password text,
  created_at timestamp NOT NULL,
  updated_at timestamp NOT NULL,
  CONSTRAINT account_pkey PRIMARY KEY (id)
);
CREATE TABLE verification (
  id text NOT NULL,
  identifier text NOT NULL,
  value text NOT NULL,
  expires_at timestamp NOT NULL,
  created_at timestamp,
  updated_at timestamp,
  CONSTRAINT verification_pkey PRIMARY KEY (id)
);
CREATE TABLE workspace (
  id text NOT NULL,
  name text NOT NULL,
  owner_id text NOT NULL,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now(),
  billed_account_user_id text NOT NULL,
  allow_personal_api_keys boolean NOT NULL DEFAULT true,
  color text NOT NULL DEFAULT '#33C482'::text,
  archived_at timestamp,
  inbox_enabled boolean NOT NULL DEFAULT false,
  inbox_address text,
  inbox_provider_id text,
  logo_url text,
  organization_id text,
  workspace_mode workspace_mode NOT NULL DEFAULT 'grandfathered_shared'::workspace_mode,
  forked_from_workspace_id text,
  storage_used_bytes bigint NOT NULL DEFAULT 0,
  organization_assigned_at timestamp,
  inbox_secret_scope text NOT NULL DEFAULT 'all'::text,
  inbox_mounted_secrets jsonb NOT NULL DEFAULT '[]'::jsonb,
  CONSTRAINT workspace_pkey PRIMARY KEY (id)
);
CREATE TABLE permissions (
  id text NOT NULL,
  user_id text NOT NULL,
  entity_type text NOT NULL,
  entity_id text NOT NULL,
  permission_type permission_type NOT NULL,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now(),
  CONSTRAINT permissions_pkey PRIMARY KEY (id)
);
CREATE TABLE organization (
  id text NOT NULL,
  name text NOT NULL,
  slug text NOT NULL,
  logo text,
  metadata json,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now(),
  org_usage_limit numeric,
  storage_used_bytes bigint NOT NULL DEFAULT 0,
  departed_member_usage numeric NOT NULL DEFAULT '0'::numeric,
  credit_balance numeric NOT NULL DEFAULT '0'::numeric,
  whitelabel_settings json,
  data_retention_settings json,
  limit_notifications jsonb NOT NULL DEFAULT '{}'::jsonb,
  session_policy_settings json,
  security_policy_version integer NOT NULL DEFAULT 1,
  CONSTRAINT organization_pkey PRIMARY KEY (id)
);
CREATE TABLE member (
  id text NOT NULL,
  user_id text NOT NULL,
  organization_id text NOT NULL,
  role text NOT NULL,
  created_at timestamp NOT NULL DEFAULT now(),
  CONSTRAINT member_pkey PRIMARY KEY (id)
);
CREATE TABLE workspace_byok_keys (
  id text NOT NULL,
  workspace_id text NOT NULL,
  provider_id text NOT NULL,
  encrypted_api_key text NOT NULL,
  created_by text,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now(),
  name text,
  CONSTRAINT workspace_byok_keys_pkey PRIMARY KEY (id)
);
CREATE TABLE organization_byok_keys (
  id text NOT NULL,
  organization_id text NOT NULL,
  provider_id text NOT NULL,
  encrypted_api_key text NOT NULL,
  name text,
  created_by text,
  created_at timestamp NOT NULL DEFAULT now(),
  updated_at timestamp NOT NULL DEFAULT now(),
  CONSTRAINT organization_byok_keys_pkey PRIMARY KEY (id)
);
CREATE TABLE settings (
  id text NOT NULL,
  user_id text NOT NULL,
  updated_at timestamp NOT NULL DEFAULT now(),
  theme text NOT NULL DEFAULT 'system'::text,
  auto_connect boolean NOT NULL DEFAULT true,
  telemetry_enabled boolean NOT NULL DEFAULT true,
  email_preferences json NOT NULL DEFAULT '{}'::json,
  billing_usage_notifications_enabled boolean NOT NULL DEFAULT true,
  show_training_controls boolean NOT NULL DEFAULT false,
  copilot_enabled_models jsonb NOT NULL DEFAULT '{}'::jsonb,
  super_user_mode_enabled boolean NOT NULL DEFAULT true,
  error_notifications_enabled boolean NOT NULL DEFAULT true,
  copilot_auto_allowed_tools jsonb NOT NULL DEFAULT '[]'::jsonb,
  snap_to_grid_size integer NOT NULL DEFAULT 0,
  show_action_bar boolean NOT NULL DEFAULT true,
  last_active_workspace_id text,
  mothership_environment text NOT NULL DEFAULT 'default'::text,
  timezone text,
  auto_focus_on_click boolean NOT NULL DEFAULT true,
  CONSTRAINT settings_user_id_unique UNIQUE (user_id),
  CONSTRAINT settings_pkey PRIMARY KEY (id)
);

ALTER TABLE session ADD CONSTRAINT session_active_organization_id_organization_id_fk FOREIGN KEY (active_organization_id) REFERENCES organization(id) ON DELETE SET NULL;
ALTER TABLE session ADD CONSTRAINT session_user_id_user_id_fk FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE;
ALTER TABLE account ADD CONSTRAINT account_user_id_user_id_fk FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE;
ALTER TABLE workspace ADD CONSTRAINT workspace_billed_account_user_id_user_id_fk FOREIGN KEY (billed_account_user_id) REFERENCES "user"(id);
ALTER TABLE workspace ADD CONSTRAINT workspace_forked_from_workspace_id_workspace_id_fk FOREIGN KEY (forked_from_workspace_id) REFERENCES workspace(id) ON DELETE SET NULL NOT VALID;
ALTER TABLE workspace ADD CONSTRAINT workspace_organization_id_organization_id_fk FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE SET NULL;
ALTER TABLE workspace ADD CONSTRAINT workspace_owner_id_user_id_fk FOREIGN KEY (owner_id) REFERENCES "user"(id) ON DELETE CASCADE;
ALTER TABLE workspace ADD CONSTRAINT workspace_storage_used_bytes_non_negative CHECK ((storage_used_bytes >= 0)) NOT VALID;
ALTER TABLE permissions ADD CONSTRAINT permissions_user_id_user_id_fk FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE;
ALTER TABLE member ADD CONSTRAINT member_organization_id_organization_id_fk FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE;
ALTER TABLE member ADD CONSTRAINT member_user_id_user_id_fk FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE;
ALTER TABLE workspace_byok_keys ADD CONSTRAINT workspace_byok_keys_created_by_user_id_fk FOREIGN KEY (created_by) REFERENCES "user"(id) ON DELETE SET NULL;
ALTER TABLE workspace_byok_keys ADD CONSTRAINT workspace_byok_keys_workspace_id_workspace_id_fk FOREIGN KEY (workspace_id) REFERENCES workspace(id) ON DELETE CASCADE;
ALTER TABLE organization_byok_keys ADD CONSTRAINT organization_byok_keys_created_by_user_id_fk FOREIGN KEY (created_by) REFERENCES "user"(id) ON DELETE SET NULL;
ALTER TABLE organization_byok_keys ADD CONSTRAINT organization_byok_keys_organization_id_organization_id_fk FOREIGN KEY (organization_id) REFERENCES organization(id) ON DELETE CASCADE;
ALTER TABLE settings ADD CONSTRAINT settings_user_id_user_id_fk FOREIGN KEY (user_id) REFERENCES "user"(id) ON DELETE CASCADE;

CREATE INDEX session_user_id_idx ON session (user_id);
CREATE INDEX session_token_idx ON session (token);
CREATE INDEX account_user_id_idx ON account (user_id);
CREATE INDEX idx_account_on_account_id_provider_id ON account (account_id, provider_id);
CREATE INDEX verification_identifier_idx ON verification (identifier);
CREATE INDEX verification_expires_at_idx ON verification (expires_at);
CREATE INDEX workspace_owner_id_idx ON workspace (owner_id);
CREATE INDEX workspace_organization_id_idx ON workspace (organization_id);
CREATE INDEX workspace_mode_idx ON workspace (workspace_mode);
CREATE INDEX workspace_forked_from_workspace_id_idx ON workspace (forked_from_workspace_id);
CREATE UNIQUE INDEX workspace_inbox_provider_id_idx ON workspace (inbox_provider_id) WHERE (inbox_provider_id IS NOT NULL);
CREATE INDEX permissions_user_id_idx ON permissions (user_id);
CREATE INDEX permissions_entity_idx ON permissions (entity_type, entity_id);
CREATE INDEX permissions_user_entity_type_idx ON permissions (user_id, entity_type);
CREATE INDEX permissions_user_entity_permission_idx ON permissions (user_id, entity_type, permission_type);
CREATE INDEX permissions_user_entity_idx ON permissions (user_id, entity_type, entity_id);
CREATE UNIQUE INDEX permissions_unique_constraint ON permissions (user_id, entity_type, entity_id);
CREATE INDEX member_organization_id_idx ON member (organization_id);
CREATE UNIQUE INDEX member_user_id_unique ON member (user_id);
CREATE INDEX workspace_byok_workspace_provider_idx ON workspace_byok_keys (workspace_id, provider_id);
CREATE INDEX organization_byok_organization_provider_idx ON organization_byok_keys (organization_id, provider_id);

-- Its bookkeeping of migrations.
CREATE SCHEMA drizzle;
CREATE TABLE drizzle.__drizzle_migrations (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint);
