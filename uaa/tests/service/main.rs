//! UAA from outside: real sockets, a real database; once on SQLite, and the list that touches SQL also on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod attacks;
mod browser;
mod browsers;
mod clients;
mod grants;
mod passcodes;
mod scim;
mod world;
