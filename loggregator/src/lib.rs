//! Logs and metrics: the agent of each host, and the cache that remembers for a while.
//!
//! - [`agent`]: takes datagrams from producers, batches them, sends them over the bus.
//! - [`log_cache`]: keeps the newest envelopes of each source and serves them over HTTP.
//! - [`config`]: settings of both.
//!
//! A producer is never blocked: whatever is full drops the oldest and counts, and the counts travel with the envelopes as
//! counters named `dropped`, so that a gap is seen where the lines would be. Neither part knows what an app is: a source is
//! a name, and who may read it is the cloud controller's business.

pub mod agent;
pub mod config;
pub mod log_cache;

use config::{AgentConfig, LogCacheConfig};
use foundation::{Shutdown, SystemClock};
use std::{error::Error, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;

/// Runs the agent until it is told to end.
pub fn run_agent(config: &Path) -> ExitCode {
    let path = config.to_owned();
    foundation::run(Duration::from_secs(5), async move |shutdown: Shutdown| {
        let config = AgentConfig::load(&path)?;
        let bus = bus::Bus::connect(&config.bus).await?;
        let socket = config.socket.display().to_string();
        agent::start(config, bus, Arc::new(SystemClock), &mut foundation::rng(), &shutdown)?;
        info!(socket, "loggregator agent is ready");
        Ok::<(), Box<dyn Error>>(())
    })
}

/// Runs the log cache until it is told to end.
pub fn run_log_cache(config: &Path) -> ExitCode {
    let path = config.to_owned();
    foundation::run(Duration::from_secs(5), async move |shutdown: Shutdown| {
        let config = LogCacheConfig::load(&path)?;
        let outside = log_cache::Outside::real(&config).await?;
        let address = log_cache::start(&config, outside, &shutdown).await?;
        info!(%address, "log cache is ready");
        Ok::<(), Box<dyn Error>>(())
    })
}
