-- One text for SQLite and PostgreSQL: TEXT, BIGINT, INTEGER, BOOLEAN and BYTEA mean what they should on both.
-- Times are microseconds since the epoch. `*_key` columns hold the lower-case form that uniqueness and look-ups use.

CREATE TABLE org_quotas (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    total_memory_mb BIGINT,
    per_process_memory_mb BIGINT,
    total_instances BIGINT,
    per_app_tasks BIGINT,
    log_rate_limit BIGINT,
    paid_services BOOLEAN NOT NULL,
    total_service_instances BIGINT,
    total_service_keys BIGINT,
    total_routes BIGINT,
    total_reserved_ports BIGINT,
    total_domains BIGINT
);

CREATE TABLE orgs (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL UNIQUE,
    suspended BOOLEAN NOT NULL,
    deleting BOOLEAN NOT NULL,
    quota_guid TEXT NOT NULL REFERENCES org_quotas (guid)
);
CREATE INDEX orgs_quota ON orgs (quota_guid);
CREATE INDEX orgs_time ON orgs (created_at, guid);

CREATE TABLE space_quotas (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    org_guid TEXT NOT NULL REFERENCES orgs (guid) ON DELETE CASCADE,
    total_memory_mb BIGINT,
    per_process_memory_mb BIGINT,
    total_instances BIGINT,
    per_app_tasks BIGINT,
    log_rate_limit BIGINT,
    paid_services BOOLEAN NOT NULL,
    total_service_instances BIGINT,
    total_service_keys BIGINT,
    total_routes BIGINT,
    total_reserved_ports BIGINT,
    UNIQUE (org_guid, name_key)
);

CREATE TABLE spaces (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    org_guid TEXT NOT NULL REFERENCES orgs (guid),
    suspended BOOLEAN NOT NULL,
    deleting BOOLEAN NOT NULL,
    allow_ssh BOOLEAN NOT NULL,
    quota_guid TEXT REFERENCES space_quotas (guid),
    UNIQUE (org_guid, name_key)
);
CREATE INDEX spaces_quota ON spaces (quota_guid);
CREATE INDEX spaces_time ON spaces (created_at, guid);

CREATE TABLE users (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    username TEXT,
    username_key TEXT,
    origin TEXT
);
CREATE INDEX users_name ON users (username_key);

-- `org_guid` is set for space roles too; `scope_guid` is the space of a space role, else the organization.
CREATE TABLE roles (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    user_guid TEXT NOT NULL REFERENCES users (guid) ON DELETE CASCADE,
    org_guid TEXT NOT NULL REFERENCES orgs (guid) ON DELETE CASCADE,
    space_guid TEXT REFERENCES spaces (guid) ON DELETE CASCADE,
    scope_guid TEXT NOT NULL,
    UNIQUE (user_guid, scope_guid, kind)
);
CREATE INDEX roles_org ON roles (org_guid);
CREATE INDEX roles_space ON roles (space_guid);

CREATE TABLE domains (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    internal BOOLEAN NOT NULL,
    org_guid TEXT REFERENCES orgs (guid)
);
CREATE INDEX domains_org ON domains (org_guid);

CREATE TABLE domain_shares (
    domain_guid TEXT NOT NULL REFERENCES domains (guid) ON DELETE CASCADE,
    org_guid TEXT NOT NULL REFERENCES orgs (guid) ON DELETE CASCADE,
    PRIMARY KEY (domain_guid, org_guid)
);
CREATE INDEX domain_shares_org ON domain_shares (org_guid);

-- `port` is 0 for routes without one, so that the unique key holds. `options` is JSON.
CREATE TABLE routes (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    space_guid TEXT NOT NULL REFERENCES spaces (guid),
    domain_guid TEXT NOT NULL REFERENCES domains (guid),
    host TEXT NOT NULL,
    host_key TEXT NOT NULL,
    path TEXT NOT NULL,
    path_key TEXT NOT NULL,
    port INTEGER NOT NULL,
    options TEXT,
    UNIQUE (domain_guid, host_key, path_key, port)
);
CREATE INDEX routes_space ON routes (space_guid);
CREATE INDEX routes_time ON routes (created_at, guid);

CREATE TABLE route_shares (
    route_guid TEXT NOT NULL REFERENCES routes (guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces (guid) ON DELETE CASCADE,
    PRIMARY KEY (route_guid, space_guid)
);
CREATE INDEX route_shares_space ON route_shares (space_guid);

CREATE TABLE stacks (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT NOT NULL,
    is_default BOOLEAN NOT NULL
);

CREATE TABLE feature_flags (
    name TEXT PRIMARY KEY NOT NULL,
    enabled BOOLEAN NOT NULL,
    custom_error_message TEXT,
    updated_at BIGINT NOT NULL
);

-- `env` is a sealed JSON object.
CREATE TABLE env_groups (
    name TEXT PRIMARY KEY NOT NULL,
    env BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- No reference to orgs and spaces: events outlive them.
CREATE TABLE audit_events (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    actor_guid TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    target_guid TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_name TEXT NOT NULL,
    data TEXT NOT NULL,
    space_guid TEXT,
    org_guid TEXT
);
CREATE INDEX audit_events_time ON audit_events (created_at, guid);
CREATE INDEX audit_events_target ON audit_events (target_guid);
CREATE INDEX audit_events_space ON audit_events (space_guid);
CREATE INDEX audit_events_org ON audit_events (org_guid);

-- Metadata of every kind of resource; `kind` is the name of its table.
CREATE TABLE labels (
    kind TEXT NOT NULL,
    resource_guid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, resource_guid, key)
);
CREATE INDEX labels_key ON labels (kind, key, value);

CREATE TABLE annotations (
    kind TEXT NOT NULL,
    resource_guid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, resource_guid, key)
);

CREATE TABLE jobs (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    operation TEXT NOT NULL,
    state TEXT NOT NULL,
    resource_kind TEXT,
    resource_guid TEXT,
    errors TEXT NOT NULL,
    warnings TEXT NOT NULL,
    payload TEXT
);
CREATE INDEX jobs_time ON jobs (created_at);
CREATE INDEX jobs_state ON jobs (state);

-- The one row that orders all changes of the desired state. Every writer updates it in its own transaction, so that
-- changes become visible in the order of their numbers.
CREATE TABLE change_counter (
    id INTEGER PRIMARY KEY NOT NULL,
    newest BIGINT NOT NULL
);
INSERT INTO change_counter (id, newest) VALUES (1, 0);

-- The newest change of each process and each build; `payload` is what the internal API tells, as JSON.
CREATE TABLE desired_changes (
    kind TEXT NOT NULL,
    object_guid TEXT NOT NULL,
    change BIGINT NOT NULL UNIQUE,
    gone BOOLEAN NOT NULL,
    changed_at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (kind, object_guid)
);

-- Blobs that nothing refers to any more: deleted by a reconciler.
CREATE TABLE blob_garbage (
    key TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL
);
