//! Rules and operations. Each takes a [`Tx`]: a connection inside a transaction, who asks, and when.

mod access;
mod error;
mod scope;
mod tx;

pub mod audit;
pub mod metadata;
pub mod seed;

pub use access::{Access, Caller, OrgRole, SpaceRole};
pub use error::{Error, Result, Rule, taken};
pub use scope::{Scope, check_org};
pub use tx::{Hint, Tx, micros};
