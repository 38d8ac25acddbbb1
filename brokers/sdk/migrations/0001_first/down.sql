DROP TABLE operations;
DROP TABLE backups;
DROP TABLE bindings;
DROP TABLE instances;
