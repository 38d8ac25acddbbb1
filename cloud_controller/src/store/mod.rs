//! Tables and queries, one module for each aggregate; the same code on SQLite and PostgreSQL.

pub mod schema;

mod pool;
#[cfg(test)]
mod tests;

pub use pool::{Conn, Db, Store};

pub mod apps;
pub mod audit;
pub mod feed;
pub mod jobs;
pub mod metadata;
pub mod orgs;
pub mod query;
pub mod roles;
pub mod spaces;
pub mod users;
