//! Containers: namespaces, cgroups, mounts, limits, network.
//!
//! The daemon of a host, run as root. It decides, promises and keeps the books; each container is made and kept by its own shim
//! (crate `warden_shim`), so that the daemon may restart at any moment. It knows nothing of apps, droplets or buildpacks: clients
//! (crate `warden_client`) say what a container should be.
//!
//! - [`config`](mod@config): settings.
//! - `server`: the socket. `host`: all containers; `host/teardown`: taking them away; `host/validate`: what may be asked for.
//! - `shim`: starting shims and talking with them. `record`: what is written on disk. `pool`: addresses and ports that rest.
//! - `network` with `nft` and `flows`, `cgroups`, `images`, `layers`, `volumes`, `trust`: one part of a container each.

pub mod config;

mod cgroups;
mod error;
mod flows;
mod host;
mod images;
mod layers;
mod network;
mod nft;
mod pool;
mod record;
mod server;
mod shim;
mod trust;
mod volumes;

pub use config::{Config, Raw};
pub use error::Error;

use foundation::{Shutdown, SystemClock};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;
use types::Clock;

/// Runs the daemon with the settings in a file.
pub fn run(path: &Path) -> ExitCode {
    let path = path.to_owned();
    foundation::run(Duration::from_secs(10), async move |shutdown| {
        let config = Config::load(&path)?;
        start(config, Arc::new(SystemClock), &shutdown).await?;
        Ok(())
    })
}

/// Starts the daemon; returns once it accepts requests. Containers outlive it.
///
/// # Errors
/// Where the host cannot be set up.
pub async fn start(config: Config, clock: Arc<dyn Clock>, shutdown: &Shutdown) -> Result<(), Error> {
    let (path, owner) = (config.raw.socket.clone(), config.raw.socket_owner);
    let host = host::Host::start(config, clock, shutdown.clone()).await?;
    let listener = server::listen(&path, owner).map_err(Error::at("listening"))?;
    shutdown.spawn(server::serve(listener, owner, host.clone(), shutdown.clone()));
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        ending.requested().await;
        host.end().await;
    });
    info!("warden is ready at {}", path.display());
    Ok(())
}

/// True if containers are on disk that a daemon would have to take away, or take back.
pub fn has_remains(path: &Path) -> bool {
    let Ok(config) = Config::load(path) else { return false };
    std::fs::read_dir(config.raw.state.join("containers")).is_ok_and(|mut entries| entries.next().is_some())
}

/// Takes rules, gateway and cgroup away that a killed daemon has left. Only where no container is left and no daemon runs.
///
/// # Errors
/// Where the settings cannot be read or the kernel refuses.
pub fn clean_host(path: &Path) -> Result<(), Error> {
    let config = Config::load(path).map_err(Error::at("reading the settings"))?;
    cgroups::Cgroups::find(&config.raw.cgroup_parent).map_err(Error::at("finding cgroups"))?.remove_parent();
    network::clean(&config).map_err(Error::at("taking the network away"))
}
