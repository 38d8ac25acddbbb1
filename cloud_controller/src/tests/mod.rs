//! The service from outside: real sockets on port 0, a SQLite file of its own, an in-memory bus, tokens of a test issuer.

mod harness;

pub use harness::{Answered, World};
