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

-- Variables of one build alone, a sealed JSON object; and whether the user chose the buildpacks.
ALTER TABLE builds ADD COLUMN env BYTEA;
ALTER TABLE builds ADD COLUMN skip_detect BOOLEAN NOT NULL DEFAULT FALSE;
