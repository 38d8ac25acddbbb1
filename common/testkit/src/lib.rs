//! Worlds, fakes and waits for tests.
//!
//! - [`tokens`]: a UAA that only signs: tokens that the services accept, and ones that they must not.
//! - [`postgres`]: a database server of one's own.

pub mod postgres;
pub mod tokens;
