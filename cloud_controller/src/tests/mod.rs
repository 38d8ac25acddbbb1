//! The service from outside: real sockets on port 0, a SQLite file of its own, an in-memory bus, tokens of a test issuer.

mod harness;
mod platform;
mod routes;
mod tenancy;

pub use harness::World;
