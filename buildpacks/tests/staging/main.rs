//! Stagings and starts with the real programs, in folders that play the container.

#![expect(clippy::unwrap_used, reason = "a test may give up")]

mod contract;
mod support;
mod system;
