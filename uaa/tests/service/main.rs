//! UAA from outside: real sockets, a real database; once on SQLite, and the list that touches SQL also on PostgreSQL.

mod attacks;
mod grants;
mod scim;
mod world;
