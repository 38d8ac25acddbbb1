//! Tables and queries, one module for each aggregate; the same code on SQLite and PostgreSQL.

pub mod schema;

mod pool;
#[cfg(test)]
mod tests;

pub use pool::{Conn, Db, Store};

pub mod apps;
pub mod audit;
pub mod stacks;
pub mod routes;
pub mod quotas;
pub mod flags;
pub mod env_groups;
pub mod domains;
pub mod feed;
pub mod jobs;
pub mod metadata;
pub mod orgs;
pub mod query;
pub mod roles;
pub mod spaces;
pub mod users;
pub mod buildpacks;
pub mod builds;
pub mod droplets;
pub mod env_group;
pub mod garbage;
pub mod limits;
pub mod mapped;
pub mod packages;
pub mod processes;
pub mod resources;
pub mod stack_state;
pub mod versions;
