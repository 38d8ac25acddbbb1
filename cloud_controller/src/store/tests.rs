//! The store's test list, run on SQLite and on PostgreSQL.
