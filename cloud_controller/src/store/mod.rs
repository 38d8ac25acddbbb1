//! Tables and queries, one module for each aggregate; the same code on SQLite and PostgreSQL.

pub mod schema;

mod pool;
#[cfg(test)]
mod tests;

pub use pool::{Conn, Db, Store};

pub mod app_usage;
pub mod apps;
pub mod audit;
pub mod buildpacks;
pub mod builds;
pub mod domains;
pub mod droplets;
pub mod env_group;
pub mod env_groups;
pub mod feed;
pub mod flags;
pub mod garbage;
pub mod jobs;
pub mod limits;
pub mod mapped;
pub mod metadata;
pub mod orgs;
pub mod packages;
pub mod processes;
pub mod query;
pub mod quotas;
pub mod resources;
pub mod roles;
pub mod routes;
pub mod service_bindings;
pub mod service_brokers;
pub mod service_instances;
pub mod service_offerings;
pub mod service_operations;
pub mod service_plans;
pub mod service_usage;
pub mod spaces;
pub mod stack_state;
pub mod stacks;
pub mod users;
pub mod versions;
pub mod workloads;
