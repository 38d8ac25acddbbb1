//! Supervises real database servers for the brokers that share or hand them out.
//!
//! A broker says what its server is ([`Engine`]: how to fill a new data folder, which program to run, how to ask whether it
//! serves) and gets a [`Server`] that is started at the first need, kept running, and stopped in order:
//!
//! - [`Server::ensure`] starts it, or waits until it serves; [`Server::release`] stops it once nobody needs it.
//! - It crashes: started again, with growing pauses.
//! - The broker gets TERM: the server is stopped in order. The broker is killed: the server lives on, its clients notice
//!   nothing, and the next broker adopts it. Two servers never share a data folder: the lock is a file that the server itself
//!   holds open (see [`process`]).
//! - Its output goes straight into a log file, which is cut when it grows.
//!
//! Beside that, what all brokers need: private files and folders ([`files`]), names and passwords ([`names`]), programs that
//! run to their end ([`Program::output`], [`Program::stream_to`]), and the store of backups ([`backups`]).
//!
//! [`settings`] has what brokers of shared servers have in common in their files.
//!
//! This crate knows no protocol of any database, no plan, no binding, and nothing of HTTP.

pub mod backups;
pub mod files;
pub mod names;
pub mod process;
pub mod settings;

mod error;
mod log;
mod program;
mod server;

pub use error::Error;
pub use files::User;
pub use program::{Input, Program};
pub use rustix::process::Signal;
pub use server::{Engine, Phase, Server, Settings};
