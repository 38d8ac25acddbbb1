//! What the black-box suites stand on: a platform of their own, and clients as users have them.
//!
//! - [`Platform`]: boots `cupola` with its own state, ports, domains, network and user ids, so that it runs beside others.
//! - [`Client`]: a `cf` (ours or the official one) with a home of its own.
//! - [`Broker`]: a service broker that plays a script.
//! - [`Reply`]: what came back through the router.
//! - [`wait_for`]: waits for a condition, never for a duration.
//!
//! The suites import no service. They need root, and the programs that `bin/test` builds; without root they say so and pass.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

mod broker;
mod client;
mod http;
mod platform;
mod remains;

pub use broker::Broker;
pub use client::{Client, Outcome};
pub use http::Reply;
pub use platform::Platform;
pub use remains::Remains;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Looks again and again until there is an answer; fails after `limit` with what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A name that no other test of this run uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A sample app.
pub fn app(name: &str) -> PathBuf {
    root().join("specs/apps").join(name)
}
