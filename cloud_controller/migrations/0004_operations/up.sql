-- Whom an operation asks (none: nobody, it waits for other operations), and which worker has it while `lease_until` is ahead.
-- `step` also: fetch, wait.
ALTER TABLE service_operations ADD COLUMN broker_guid TEXT;
ALTER TABLE service_operations ADD COLUMN lease_owner TEXT;
