//! Write a service broker by implementing one trait, [`Broker`].
//!
//! The SDK does the rest of the Open Service Broker API 2.17: routes, authentication, versions, checks of requests, operations that
//! survive the broker's end, idempotency and concurrency, parameters against schemas, the catalog's rules, metrics and health.
//! The guide is `docs/write-a-broker.md`.
//!
//! - `broker`: [`Broker`] and what goes in and out of it. - `operation`: [`Operation`]. - `failure`: [`Failure`].
//! - `settings`: [`Settings`]. - `server`: [`run`] and [`start`].
//! - `api`: HTTP. - `domain`: what requests mean, and the work. - `store`: what must not be forgotten. - `metrics`.
//!
//! It deliberately does not know what a broker offers, nor who is behind a platform.

mod api;
mod broker;
mod domain;
mod failure;
mod metrics;
mod operation;
mod server;
mod settings;
mod store;

pub use async_trait::async_trait;
pub use broker::*;
pub use failure::Failure;
pub use foundation::Secret;
pub use operation::Operation;
pub use osb;
pub use server::{Outside, StartError, run, start};
pub use settings::{RawCredential, RawSettings, Settings};
