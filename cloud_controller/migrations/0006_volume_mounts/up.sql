-- What is to be mounted may hold passwords: a sealed JSON array now. There was none that an app could have seen.
ALTER TABLE service_bindings DROP COLUMN volume_mounts;
ALTER TABLE service_bindings ADD COLUMN volume_mounts BYTEA;
