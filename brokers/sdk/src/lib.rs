//! Write a service broker by implementing one trait, [`Broker`].
//!
//! The SDK does the rest of the Open Service Broker API 2.17: routes, authentication, versions, checks of requests, operations that
//! survive the broker's end, idempotency and concurrency, parameters against schemas, the catalog's rules, metrics and health.
//!
//! - `broker`: [`Broker`] and what goes in and out of it. - `operation`: [`Operation`]. - `failure`: [`Failure`].
//! - `settings`: [`Settings`].

mod broker;
mod failure;
mod operation;
mod settings;

pub use async_trait::async_trait;
pub use broker::*;
pub use failure::Failure;
pub use operation::Operation;
pub use osb;
pub use settings::{RawCredential, RawSettings, Settings};
