//! What crosses the bus, one module for each subject family.
//!
//! Every payload is one JSON object. The bus is at-most-once: whatever matters is repeated, or is found missing by a
//! reconciler. Unknown fields are accepted. No credentials travel here: commands carry ids and sizes, and whoever needs
//! more asks the cloud controller over mutually authenticated HTTPS.
//!
//! - [`claims`]: the records of the key-value buckets: who runs what.
//! - [`dea`]: advertisements, heartbeats, and the commands to one DEA.
//! - [`router`]: route registration, as the V2 protocol has it.
//! - [`hints`]: "look sooner" notes; losing one costs time, never truth.

pub mod claims;
pub mod dea;
pub mod hints;
pub mod router;

use serde::{Serialize, de::DeserializeOwned};

/// A payload with one fixed subject.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {
    /// Where it is published.
    const SUBJECT: &'static str;
}
