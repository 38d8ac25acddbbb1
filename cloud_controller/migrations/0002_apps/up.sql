-- `env` is a sealed JSON object; `buildpacks` a JSON array. `droplet_guid` has no reference: droplets refer to apps.
CREATE TABLE apps (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    space_guid TEXT NOT NULL REFERENCES spaces (guid),
    state TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    buildpacks TEXT NOT NULL,
    stack TEXT,
    env BYTEA,
    droplet_guid TEXT,
    ssh_enabled BOOLEAN NOT NULL,
    revisions_enabled BOOLEAN NOT NULL,
    binding_k8s_enabled BOOLEAN NOT NULL,
    file_based_services_enabled BOOLEAN NOT NULL,
    UNIQUE (space_guid, name_key)
);

CREATE INDEX apps_time ON apps (created_at, guid);
CREATE INDEX apps_stack ON apps (stack);

-- `version` is new at every start.
CREATE TABLE processes (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    version TEXT NOT NULL,
    command TEXT,
    process_user TEXT,
    instances INTEGER NOT NULL,
    memory_mb INTEGER NOT NULL,
    disk_mb INTEGER NOT NULL,
    log_rate_limit BIGINT NOT NULL,
    health_type TEXT NOT NULL,
    health_timeout_s INTEGER,
    health_invocation_timeout_s INTEGER,
    health_interval_s INTEGER,
    health_endpoint TEXT,
    readiness_type TEXT NOT NULL,
    readiness_invocation_timeout_s INTEGER,
    readiness_interval_s INTEGER,
    readiness_endpoint TEXT,
    UNIQUE (app_guid, kind)
);
CREATE INDEX processes_version ON processes (version);

CREATE TABLE destinations (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    route_guid TEXT NOT NULL REFERENCES routes (guid) ON DELETE CASCADE,
    app_guid TEXT NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    port INTEGER NOT NULL,
    protocol TEXT NOT NULL,
    weight INTEGER,
    UNIQUE (route_guid, app_guid, process_type, port, protocol)
);
CREATE INDEX destinations_app ON destinations (app_guid);

CREATE TABLE packages (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    sha1 TEXT,
    sha256 TEXT,
    size_bytes BIGINT,
    error TEXT
);
CREATE INDEX packages_app ON packages (app_guid, created_at);

-- `droplet_guid`: the droplet that it makes; its row appears with the end of the build. `env` is a sealed JSON object: variables
-- of this build alone. `skip_detect`: the user chose the buildpacks.
CREATE TABLE builds (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    package_guid TEXT NOT NULL,
    state TEXT NOT NULL,
    error_id TEXT,
    error TEXT,
    droplet_guid TEXT,
    buildpacks TEXT NOT NULL,
    stack TEXT NOT NULL,
    memory_mb INTEGER NOT NULL,
    disk_mb INTEGER NOT NULL,
    log_rate_limit BIGINT NOT NULL,
    user_guid TEXT NOT NULL,
    user_name TEXT NOT NULL,
    user_email TEXT NOT NULL,
    droplet_sha256 TEXT,
    droplet_size_bytes BIGINT,
    env BYTEA,
    skip_detect BOOLEAN NOT NULL
);
CREATE INDEX builds_app ON builds (app_guid, created_at);
CREATE INDEX builds_state ON builds (state);
CREATE INDEX builds_package ON builds (package_guid);

-- `process_types` is a JSON object, `buildpacks` a JSON array of what took part.
CREATE TABLE droplets (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    app_guid TEXT NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    package_guid TEXT,
    build_guid TEXT,
    state TEXT NOT NULL,
    error TEXT,
    stack TEXT,
    sha256 TEXT,
    size_bytes BIGINT,
    process_types TEXT NOT NULL,
    buildpacks TEXT NOT NULL,
    execution_metadata TEXT NOT NULL
);
CREATE INDEX droplets_app ON droplets (app_guid, created_at);
CREATE INDEX droplets_package ON droplets (package_guid);

-- `stack_key` is the stack, or empty for none, so that the unique key holds.
CREATE TABLE buildpacks (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    stack TEXT,
    stack_key TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    position INTEGER NOT NULL,
    enabled BOOLEAN NOT NULL,
    locked BOOLEAN NOT NULL,
    state TEXT NOT NULL,
    filename TEXT,
    sha256 TEXT,
    size_bytes BIGINT,
    UNIQUE (name, stack_key, lifecycle)
);

-- Files known from earlier uploads, per space: nobody learns what another space has. `size_bytes` is checked with both sums.
CREATE TABLE resources (
    space_guid TEXT NOT NULL REFERENCES spaces (guid) ON DELETE CASCADE,
    sha1 TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (space_guid, sha1, size_bytes)
);
CREATE INDEX resources_used ON resources (used_at);

-- What a start fixed: instances of a version are started with these values however often they crash, whatever the app's
-- settings say meanwhile. One row for each process that should run. `spec` is a sealed JSON object.
CREATE TABLE versions (
    process_guid TEXT PRIMARY KEY NOT NULL REFERENCES processes (guid) ON DELETE CASCADE,
    version TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    droplet_guid TEXT NOT NULL,
    memory_mb INTEGER NOT NULL,
    disk_mb INTEGER NOT NULL,
    stack TEXT NOT NULL,
    spec BYTEA NOT NULL
);
CREATE INDEX versions_droplet ON versions (droplet_guid);
