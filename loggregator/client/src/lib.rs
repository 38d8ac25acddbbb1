//! Envelopes, and the socket to the agent.
//!
//! Producers (shims, DEA, gorouter, cloud controller) hand [`Envelope`]s to a [`Sender`], which sends them as encoded
//! [`EnvelopeBatch`]es, one a datagram, to the agent's Unix socket. Sending never blocks and needs no async runtime: what
//! does not get through is kept for a moment, then dropped and counted, and the count travels with the next batch as a
//! counter named [`DROPPED`].
//!
//! - [`envelope`]: the wire format.
//! - [`build`]: the envelopes that producers make.
//! - [`LineSource`] and [`LineBatch`]: lines of busy producers, encoded as they come.
//! - [`Sender`]: the way to the agent.

pub mod build;
pub mod envelope;

mod lines;
mod sender;

pub use build::{app_tags, counter, dropped, gauge, log_line};
pub use envelope::*;
pub use lines::{LineBatch, LineSource};
pub use sender::{Sender, Sent};

/// The largest datagram that a producer sends; longer batches are split.
pub const MAX_DATAGRAM: usize = 128 << 10;

/// The longest log payload; longer lines are cut, never inside a UTF-8 character.
///
/// Source: cloudfoundry/executor, `depot/log_streamer/stream_destination.go`.
pub const MAX_LINE: usize = 61_440;

/// Bus subject on which agents publish encoded [`EnvelopeBatch`]es to log caches.
pub const ENVELOPES_SUBJECT: &str = "loggregator.envelopes";

/// Name of the counter that tells how many envelopes of its source were lost on the way.
pub const DROPPED: &str = "dropped";
