//! The cloud controller: the API, and the owner of the desired state.
//!
//! It says what should be: organizations, spaces, apps, routes, and which processes should run. It never starts anything
//! itself: the health manager follows its feed of changes, DEAs fetch what starting and staging need, and what really runs is
//! read from the claims bucket, never guessed.
//!
//! - [`config`] has the settings, [`outside`] what the service meets.
//! - `api`: HTTP, one file per resource; `api/error.rs` alone knows status codes; `api/internal` is the listener with mutual TLS.
//! - `domain`: rules and operations; who is calling is an argument of everything.
//! - `store`: tables and queries by aggregate, the same on SQLite and PostgreSQL.
//! - `blobs`: packages, droplets, buildpacks.
//! - `bus`: what is heard (claims, heartbeats) and told (hints, route registration).
//! - `reconcile`: periodic jobs.
#![expect(unreachable_pub, reason = "`pub` inside the private modules means: for the rest of this crate")]

pub mod brokers;
pub mod config;
pub mod dashboards;
pub mod outside;

mod api;
mod app_log;
mod blobs;
mod broker_client;
mod buildpack_bits;
mod bus;
mod domain;
mod reconcile;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod vault;

pub use outside::{Identities, Identity, LookupError, Outside};
pub use service::{Addresses, run, start};
