-- Times are microseconds since the epoch. `sealed` columns are JSON, encrypted and bound to their row.
CREATE TABLE instances (
    id TEXT PRIMARY KEY NOT NULL,
    service_id TEXT NOT NULL,
    plan_id TEXT NOT NULL,
    complete BOOLEAN NOT NULL,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE bindings (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    complete BOOLEAN NOT NULL,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (instance_id, id)
);
CREATE TABLE backups (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT,
    size_bytes BIGINT,
    sealed BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (instance_id, id)
);
-- They outlive what they are about: a platform may ask how a delete ended.
CREATE TABLE operations (
    id TEXT PRIMARY KEY NOT NULL,
    number BIGINT NOT NULL,
    instance_id TEXT NOT NULL,
    binding_id TEXT,
    backup_id TEXT,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT,
    instance_usable BOOLEAN,
    update_repeatable BOOLEAN,
    sealed BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX operations_by_instance ON operations (instance_id, number);
CREATE INDEX operations_running ON operations (state) WHERE state = 'in progress';
