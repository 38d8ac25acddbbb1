//! Worlds, fakes and waits for tests.
//!
//! - [`broker`]: a service broker that is faithful unless told otherwise.
//! - [`tokens`]: a UAA that only signs: tokens that the services accept, and ones that they must not.
//! - [`postgres`]: a database server of one's own.

pub mod broker;
pub mod postgres;
pub mod tokens;
