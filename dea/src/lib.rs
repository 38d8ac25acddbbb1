//! Runs and stages instances through Warden.
//!
//! One DEA a host, unprivileged. It owns nothing but its id: Warden's container labels and the claims in the bus's bucket say what
//! is here, so it may be killed and started at any moment without touching an instance. It does not place, does not decide
//! when something is started again, and knows no user: the health manager commands, the cloud controller tells what to run.
//!
//! - Commands arrive as requests on `dea.<id>.start|stop|stage` and are answered once room is reserved and the slot is claimed.
//! - An instance: claim -> launch spec and droplet -> container -> start-up check -> RUNNING and routes -> checks -> an end.
//! - TERM ends the DEA and leaves its instances running. USR2 empties the host: it takes no new work, hands over or stops
//!   what is here; a TERM after that ends the DEA once all has stopped.
//!
//! [`config`]: settings. [`domain`]: the rules, pure. [`edge`]: everything that waits and fails.

pub mod config;
pub mod domain;
pub mod edge;

pub use edge::{
    Outside,
    shell::{Dea, StartError, start},
};

use bus::{Bus, Settings};
use config::Config;
use foundation::SystemClock;
use loggregator_client::Sender;
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// Runs the service until it is told to end.
pub fn run(config: &Path) -> ExitCode {
    foundation::run(Duration::from_secs(45), async move |shutdown| {
        let config = Config::load(config)?;
        // Listened for before anything else: the signal's default is to kill.
        let mut evacuate = signal(SignalKind::user_defined2())?;
        let outside = outside(&config).await?;
        let dea = start(config, outside, &shutdown).await?;
        info!(dea.id = %dea.id, "the DEA is ready");
        let end = shutdown.clone();
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = evacuate.recv() => dea.evacuate().await,
                    () = end.requested() => return,
                }
            }
        });
        Ok(())
    })
}

async fn outside(config: &Config) -> Result<Outside, Box<dyn std::error::Error>> {
    let raw = &config.raw;
    let settings = Settings {
        url: raw.bus.url.clone(),
        user: raw.bus.user.clone(),
        password: raw.bus.password.expose().to_owned(),
        ca: raw.bus.ca.clone(),
    };
    Ok(Outside {
        bus: Bus::connect(&settings).await?,
        warden: warden_client::Client::new(&raw.warden_socket),
        controller: cloud_controller_client::Client::new(&raw.cloud_controller, foundation::tls::client(&raw.tls)?)?,
        logs: Arc::new(Sender::new(&raw.agent_socket)),
        clock: Arc::new(SystemClock),
    })
}
