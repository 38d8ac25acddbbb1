-- Servers that brokers have the platform run: each is an app of the platform's own organization, with this row beside it.
-- `owner`: the broker's part. `spec`: what it asked for, a sealed JSON object. `cell`: the DEA that has the volume, for good.
CREATE TABLE workloads (
    guid TEXT PRIMARY KEY NOT NULL REFERENCES apps (guid) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    volume_id TEXT NOT NULL UNIQUE,
    volume_mb INTEGER NOT NULL,
    volume_path TEXT NOT NULL,
    service_port INTEGER NOT NULL UNIQUE,
    container_port INTEGER NOT NULL,
    cell TEXT,
    deleting BOOLEAN NOT NULL,
    spec BYTEA NOT NULL,
    UNIQUE (owner, name)
);

-- Where the volume of a workload may be: noted before a DEA is told to make it, kept beyond the workload until that DEA says
-- that it has none. `version`: the newest start that it was told of.
CREATE TABLE workload_volumes (
    volume_id TEXT NOT NULL,
    dea TEXT NOT NULL,
    app_guid TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (volume_id, dea)
);
CREATE INDEX workload_volumes_dea ON workload_volumes (dea);
