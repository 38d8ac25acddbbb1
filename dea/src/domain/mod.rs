//! The rules: values in, effects out. No socket, clock, task or lock of its own.
//!
//! - [`core`]: [`core::Core`], which owns all instances; the shell feeds it [`core::Input`]s and carries out its
//!   [`core::Effect`]s.
//! - [`phase`]: the life of one instance as an enum whose moves return `Result`.
//! - [`claim`]: what a slot's record should become, given what it is and what this DEA holds.
//! - [`room`]: what is promised and what is free.
//! - [`container`]: launch spec -> container; and back from labels after a restart.
//! - [`routes`]: registrations of an instance.
//! - [`staging`]: what goes into a staging and what its end means.
//! - [`usage`]: samples -> usage and metrics.
//! - [`volumes`]: disks of workloads that may go.
//! - [`text`]: words that users read.

pub mod claim;
pub mod container;
pub mod core;
pub mod phase;
pub mod room;
pub mod routes;
pub mod staging;
pub mod text;
pub mod usage;
pub mod volumes;
