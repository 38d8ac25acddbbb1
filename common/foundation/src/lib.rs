//! What every service process needs around its own work.
//!
//! - [`config`]: TOML files into checked settings; [`Secret`] keeps values out of logs.
//! - [`run`] and [`Shutdown`]: logs, signals, tasks with an end, exit code.
//! - [`tls`]: mutual TLS between components.
//! - [`SystemClock`] and [`rng`]: the only places where real time and real randomness come from.

pub mod config;
pub mod tls;

mod clock;
mod logs;
mod secret;
mod shutdown;

pub use clock::{SystemClock, rng};
pub use logs::init_logs;
pub use secret::Secret;
pub use shutdown::{Shutdown, run};
