//! Wire types and client of the Warden daemon.
//!
//! The daemon listens on a Unix socket. Each request and each answer is one frame: a big-endian `u32` length, then that
//! many bytes of JSON (at most [`MAX_FRAME`]). File descriptors of [`Request::Exec`] travel beside its frame.
//!
//! - [`spec`]: what a container should be.
//! - [`protocol`]: requests, answers, events.
//! - [`frame`]: messages on a stream, for both ends.
//! - [`shim`]: between the daemon and its shims.
//! - [`client`]: [`Client`], one method a request.

pub mod client;
pub mod frame;
pub mod protocol;
pub mod shim;
pub mod spec;

pub use client::{Capacity, Client, Error, Events, Streams};
pub use protocol::*;
pub use spec::*;
