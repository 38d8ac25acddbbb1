-- What ran from when to when. `state`: STARTED, STOPPED. `position` grows in the order of commits.
CREATE TABLE app_usage_events (
    guid TEXT PRIMARY KEY NOT NULL,
    position BIGINT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    previous_state TEXT NOT NULL,
    app_guid TEXT NOT NULL,
    app_name TEXT NOT NULL,
    process_guid TEXT NOT NULL,
    process_kind TEXT NOT NULL,
    space_guid TEXT NOT NULL,
    space_name TEXT NOT NULL,
    org_guid TEXT NOT NULL,
    memory_mb INTEGER NOT NULL,
    previous_memory_mb INTEGER NOT NULL,
    instances INTEGER NOT NULL,
    previous_instances INTEGER NOT NULL
);
CREATE INDEX app_usage_events_time ON app_usage_events (created_at, guid);
