//! Rules and operations. Each takes a [`Tx`]: a connection inside a transaction, who asks, and when.

mod access;
mod error;
mod scope;
mod tx;

pub mod audit;
pub mod buildpacks;
pub mod droplets;
pub mod manifests;
pub mod stacks;
pub mod spaces;
pub mod routes;
pub mod roles;
pub mod reserved;
pub mod quotas;
pub mod orgs;
pub mod flags;
pub mod env_groups;
pub mod domains;
pub mod destinations;
pub mod unmap;
pub mod sizes;
pub mod running;
pub mod quota;
pub mod processes;
pub mod process;
pub mod policy;
pub mod packages;
pub mod manifest;
pub mod environment;
pub mod builds;
pub mod archive;
pub mod apps;
pub mod metadata;
pub mod seed;

pub use access::{Access, Caller, OrgRole, SpaceRole};
pub use error::{Error, Result, Rule, taken};
pub use scope::{Scope, check_org};
pub use tx::{Hint, Tx, micros};
