//! Rules and operations. Each takes a [`Tx`]: a connection inside a transaction, who asks, and when.

mod access;
mod error;
mod names;
mod scope;
mod tx;

pub mod app_usage;
pub mod apps;
pub mod archive;
pub mod audit;
pub mod buildpacks;
pub mod builds;
pub mod crashes;
pub mod destinations;
pub mod domains;
pub mod droplets;
pub mod env_groups;
pub mod environment;
pub mod flags;
pub mod manifest;
pub mod manifests;
pub mod metadata;
pub mod orgs;
pub mod packages;
pub mod policy;
pub mod process;
pub mod processes;
pub mod quota;
pub mod quotas;
pub mod reserved;
pub mod roles;
pub mod routes;
pub mod running;
pub mod seed;
pub mod services;
pub mod sizes;
pub mod spaces;
pub mod stacks;
pub mod unmap;
pub mod workloads;

pub use access::{Access, Caller, OrgRole, SpaceRole};
pub use error::{Error, Result, Rule, taken};
pub use names::name_problem;
pub use scope::{Scope, check_org};
pub use tx::{Hint, Tx, micros};
