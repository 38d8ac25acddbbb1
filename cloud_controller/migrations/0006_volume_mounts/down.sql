ALTER TABLE service_bindings DROP COLUMN volume_mounts;
ALTER TABLE service_bindings ADD COLUMN volume_mounts TEXT;
