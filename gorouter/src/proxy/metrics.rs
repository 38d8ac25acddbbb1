//! Counters of the router.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the router counts since its start.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $($(#[$doc])* pub(crate) $name: AtomicU64,)* }

        /// [`Metrics`] at one moment.
        #[derive(Clone, Copy, Debug, Default, Serialize)]
        pub(crate) struct Counts { $(pub(crate) $name: u64,)* }

        impl Metrics {
            pub(crate) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Requests answered.
    requests,
    /// Answers below 200 and over 599.
    responses_other,
    responses_2xx,
    responses_3xx,
    responses_4xx,
    responses_5xx,
    /// Requests that no route took.
    rejected,
    /// Requests that found all endpoints at their limit.
    overloaded,
    /// Requests that no endpoint could answer.
    bad_gateways,
    /// Attempts that failed at an endpoint.
    endpoint_failures,
    /// Upgraded connections.
    upgrades,
    /// Connections accepted.
    connections,
    /// Connections refused because there were too many.
    connections_refused,
    /// Heads refused before they became a request.
    malformed,
    /// Registrations read.
    registrations,
    /// Registrations that the router did not take.
    registrations_refused,
    /// Unregistrations read.
    unregistrations,
    /// Endpoints dropped for their silence.
    pruned,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Metrics {
    pub(crate) fn answered(&self, status: u16) {
        count(&self.requests);
        count(match status {
            200..=299 => &self.responses_2xx,
            300..=399 => &self.responses_3xx,
            400..=499 => &self.responses_4xx,
            500..=599 => &self.responses_5xx,
            _ => &self.responses_other,
        });
    }
}
