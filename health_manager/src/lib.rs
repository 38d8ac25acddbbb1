//! Makes what runs equal to what should run, and places it.
//!
//! It owns nothing: what should run it reads from the cloud controller's feed, what runs from the claims bucket and the
//! DEAs' heartbeats, and after a restart it reads both anew. It is the only one who places, instances and stagings alike.
//! One process leads, others stand by with the same knowledge.
//!
//! - [`domain`]: the rules, `(state, input, now) -> effects`.
//! - [`shell`]: feeds the rules from bus, bucket and feed, and carries out what they say.
//! - [`mod@config`]: the settings and their check.
//!
//! It deliberately knows nothing of containers, droplets, environments or routes: a command carries ids and sizes.

pub mod config;
pub mod domain;
pub mod shell;

use config::Config;
use foundation::Shutdown;
use std::{error::Error, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;

/// Runs the service until it is told to end.
pub fn run(config: &Path) -> ExitCode {
    let config = config.to_owned();
    foundation::run(Duration::from_secs(5), async move |shutdown| {
        let config = Config::load(&config)?;
        let bus = bus::Bus::connect(&config.bus).await?;
        let feed = cloud_controller_client::Client::new(config.cloud_controller.as_str(), foundation::tls::client(&config.tls)?)?;
        start(config.rules, shell::Outside { bus, feed: Arc::new(feed), clock: Arc::new(foundation::SystemClock) }, &shutdown);
        info!("health manager is ready");
        Ok::<(), Box<dyn Error>>(())
    })
}

/// Starts its tasks; they wait for peers that are not there yet.
pub fn start(rules: domain::Settings, outside: shell::Outside, shutdown: &Shutdown) {
    shell::start(rules, outside, foundation::rng(), shutdown);
}
