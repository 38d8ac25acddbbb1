-- Service brokers and what they offer. `password` is sealed; `space_guid` is set for a space-scoped broker.
-- `state`: SYNCHRONIZING, AVAILABLE, SYNCHRONIZATION_FAILED, DELETE_IN_PROGRESS, DELETE_FAILED.
CREATE TABLE service_brokers (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    username TEXT NOT NULL,
    password BYTEA NOT NULL,
    space_guid TEXT REFERENCES spaces (guid),
    state TEXT NOT NULL
);
CREATE INDEX service_brokers_space ON service_brokers (space_guid);

-- `tags`, `requires`: JSON arrays. `extra`: the catalog's metadata as JSON. `catalog_id`: the broker's own id.
CREATE TABLE service_offerings (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    broker_guid TEXT NOT NULL REFERENCES service_brokers (guid),
    catalog_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    available BOOLEAN NOT NULL,
    bindable BOOLEAN NOT NULL,
    plan_updateable BOOLEAN NOT NULL,
    instances_retrievable BOOLEAN NOT NULL,
    bindings_retrievable BOOLEAN NOT NULL,
    allow_context_updates BOOLEAN NOT NULL,
    tags TEXT NOT NULL,
    requires TEXT NOT NULL,
    extra TEXT,
    dashboard_client_id TEXT UNIQUE,
    UNIQUE (broker_guid, catalog_id)
);
CREATE INDEX service_offerings_name ON service_offerings (name);

-- `public`: everybody sees it; else those organizations that `service_plan_visibilities` names, and administrators.
-- The three schemas and `maintenance_info` are JSON objects.
CREATE TABLE service_plans (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    offering_guid TEXT NOT NULL REFERENCES service_offerings (guid),
    catalog_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    free BOOLEAN NOT NULL,
    available BOOLEAN NOT NULL,
    public BOOLEAN NOT NULL,
    bindable BOOLEAN,
    plan_updateable BOOLEAN,
    binding_rotatable BOOLEAN NOT NULL,
    extra TEXT,
    create_schema TEXT,
    update_schema TEXT,
    bind_schema TEXT,
    maximum_polling_s BIGINT,
    maintenance_info TEXT,
    UNIQUE (offering_guid, catalog_id)
);

CREATE TABLE service_plan_visibilities (
    plan_guid TEXT NOT NULL REFERENCES service_plans (guid) ON DELETE CASCADE,
    org_guid TEXT NOT NULL REFERENCES orgs (guid) ON DELETE CASCADE,
    PRIMARY KEY (plan_guid, org_guid)
);
CREATE INDEX service_plan_visibilities_org ON service_plan_visibilities (org_guid);

-- `kind`: managed (with a plan), user-provided (with `credentials`, sealed JSON). `op_*`: the last operation as the API
-- shows it; what is still to be done about it stands in `service_operations`.
CREATE TABLE service_instances (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    space_guid TEXT NOT NULL REFERENCES spaces (guid),
    plan_guid TEXT REFERENCES service_plans (guid),
    tags TEXT NOT NULL,
    dashboard_url TEXT,
    maintenance_info TEXT,
    broker_metadata TEXT,
    credentials BYTEA,
    syslog_drain_url TEXT,
    route_service_url TEXT,
    unusable BOOLEAN NOT NULL,
    op_type TEXT NOT NULL,
    op_state TEXT NOT NULL,
    op_description TEXT NOT NULL,
    op_created_at BIGINT NOT NULL,
    op_updated_at BIGINT NOT NULL,
    UNIQUE (space_guid, name)
);
CREATE INDEX service_instances_plan ON service_instances (plan_guid);
CREATE INDEX service_instances_time ON service_instances (created_at, guid);

CREATE TABLE service_instance_shares (
    instance_guid TEXT NOT NULL REFERENCES service_instances (guid) ON DELETE CASCADE,
    space_guid TEXT NOT NULL REFERENCES spaces (guid) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (instance_guid, space_guid)
);
CREATE INDEX service_instance_shares_space ON service_instance_shares (space_guid);

-- `kind`: app, key, route. `credentials` is sealed JSON; `volume_mounts`, `endpoints` are JSON arrays as the broker sent them.
CREATE TABLE service_bindings (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    instance_guid TEXT NOT NULL REFERENCES service_instances (guid),
    app_guid TEXT REFERENCES apps (guid),
    route_guid TEXT REFERENCES routes (guid),
    credentials BYTEA,
    syslog_drain_url TEXT,
    route_service_url TEXT,
    volume_mounts TEXT,
    endpoints TEXT,
    op_type TEXT NOT NULL,
    op_state TEXT NOT NULL,
    op_description TEXT NOT NULL,
    op_created_at BIGINT NOT NULL,
    op_updated_at BIGINT NOT NULL
);
CREATE INDEX service_bindings_instance ON service_bindings (instance_guid);
CREATE INDEX service_bindings_app ON service_bindings (app_guid);
CREATE UNIQUE INDEX service_bindings_key ON service_bindings (instance_guid, name) WHERE kind = 'key';
CREATE UNIQUE INDEX service_bindings_route ON service_bindings (route_guid) WHERE kind = 'route';

-- Work at brokers that is under way; a row is gone when the work ended. `guid` is that of its job (when it has one), and the id
-- under which every repeat goes to the broker. `kind`: broker.synchronize, broker.delete, instance.create, instance.update,
-- instance.delete, binding.create, binding.delete, orphan.instance, orphan.binding. `step`: call, poll. `payload` is sealed
-- JSON: what the next call needs, also when the resource is gone. `lease_until`: a worker has it until then.
CREATE TABLE service_operations (
    guid TEXT PRIMARY KEY NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    step TEXT NOT NULL,
    resource_guid TEXT NOT NULL,
    user_guid TEXT,
    payload BYTEA NOT NULL,
    broker_operation TEXT,
    attempts INTEGER NOT NULL,
    next_at BIGINT NOT NULL,
    deadline_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    UNIQUE (kind, resource_guid)
);
CREATE INDEX service_operations_next ON service_operations (next_at);

-- `state`: CREATED, UPDATED, DELETED. `position` grows in the order of commits, so that who follows the events misses none.
CREATE TABLE service_usage_events (
    guid TEXT PRIMARY KEY NOT NULL,
    position BIGINT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    org_guid TEXT NOT NULL,
    instance_guid TEXT NOT NULL,
    instance_name TEXT NOT NULL,
    instance_kind TEXT NOT NULL,
    plan_guid TEXT,
    plan_name TEXT,
    offering_guid TEXT,
    offering_name TEXT,
    broker_guid TEXT,
    broker_name TEXT
);
CREATE INDEX service_usage_events_time ON service_usage_events (created_at, guid);
CREATE INDEX service_usage_events_instance ON service_usage_events (instance_guid);
