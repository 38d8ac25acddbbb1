ALTER TABLE service_operations DROP COLUMN lease_owner;
ALTER TABLE service_operations DROP COLUMN broker_guid;
