-- One text for SQLite and PostgreSQL. Times are microseconds since the epoch; `*_key` columns hold the lower-case form
-- that uniqueness and look-ups use; lists are separated by spaces.

CREATE TABLE users (
    id TEXT PRIMARY KEY NOT NULL,
    origin TEXT NOT NULL,
    user_name TEXT NOT NULL,
    user_name_key TEXT NOT NULL,
    password_hash TEXT,
    email TEXT NOT NULL,
    given_name TEXT NOT NULL,
    family_name TEXT NOT NULL,
    external_id TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    verified BOOLEAN NOT NULL,
    salt TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    password_changed_at BIGINT NOT NULL,
    last_logon_at BIGINT,
    previous_logon_at BIGINT,
    UNIQUE (origin, user_name_key)
);

CREATE TABLE groups (
    id TEXT PRIMARY KEY NOT NULL,
    display_name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);

CREATE TABLE clients (
    id TEXT PRIMARY KEY NOT NULL,
    secret_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    grants TEXT NOT NULL,
    scopes TEXT NOT NULL,
    authorities TEXT NOT NULL,
    redirect_uris TEXT NOT NULL,
    autoapprove TEXT NOT NULL,
    access_validity_s BIGINT,
    refresh_validity_s BIGINT,
    salt TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- A token that is not here is not valid. Of refresh tokens only the SHA-256 is kept, as the id.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    refresh BOOLEAN NOT NULL,
    session TEXT NOT NULL,
    client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    grant_type TEXT NOT NULL,
    logged_in_at BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    rotated_at BIGINT
);
CREATE INDEX tokens_session ON tokens (session);
CREATE INDEX tokens_client ON tokens (client_id);
CREATE INDEX tokens_user ON tokens (user_id);
CREATE INDEX tokens_expiry ON tokens (expires_at);

-- Also for names that nobody has, so that the answers do not tell which names exist.
CREATE TABLE login_failures (
    name_key TEXT PRIMARY KEY NOT NULL,
    count BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    locked_until BIGINT NOT NULL
);
