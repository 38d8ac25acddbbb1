//! The redis broker: a Redis server of its own for every instance, a user of its own for every binding.
//!
//! - [`plans`]: what is offered, limits, parameters.
//! - [`broker`]: the platform's requests.
//! - [`instances`]: the operations; each may be repeated after a crash in its middle.
//! - [`record`], [`files`]: what is kept about an instance, and what its server starts from.
//! - [`acl`], [`admin`]: users, and the broker's own way into a server.
//! - [`mod@config`]: the settings and their check.
//!
//! Servers are kept running by `engines`: they outlive a broker that is killed and are adopted by the next one. This crate
//! knows nothing of HTTP, of the platform, or of the data of a tenant.

pub mod acl;
pub mod admin;
pub mod broker;
pub mod config;
pub mod files;
pub mod instances;
pub mod plans;
pub mod record;

use broker::RedisBroker;
use broker_sdk::Outside;
use config::Config;
use foundation::Shutdown;
use instances::Instances;
use std::{error::Error, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;
use types::Clock;

/// How long servers may take to write what they hold, at the end.
const GRACE: Duration = Duration::from_secs(25);

/// Opens the broker: servers of instances that there are begin to be adopted or started.
///
/// # Errors
/// When the server's program does not run, or files cannot be used.
pub async fn open(config: Config, clock: Arc<dyn Clock>, shutdown: &Shutdown) -> Result<RedisBroker, Box<dyn Error>> {
    let (plans, address) = (config.raw.plans, config.raw.address);
    let version = version(&config).await?;
    let ca = &config.raw.tls.ca;
    let authority = std::fs::read_to_string(ca).map_err(|e| engines::Error::File("read", ca.clone(), e))?;
    let instances = Instances::open(config, version.clone(), clock, shutdown)?;
    Ok(RedisBroker { instances, version, plans, address, authority })
}

/// The installed server's version: `Redis server v=7.0.15 sha=...`.
async fn version(config: &Config) -> Result<String, engines::Error> {
    let program = engines::Program::new(&config.raw.program, engines::User(None)).arg("--version");
    let said = program.output_within(std::time::Duration::from_secs(20), engines::Input::Empty).await?;
    let said = String::from_utf8_lossy(&said);
    let found = said.split_whitespace().find_map(|word| word.strip_prefix("v="));
    found.map(str::to_owned).ok_or_else(|| engines::Error::server(format!("its version is unreadable: {said}")))
}

/// Runs the service until it is told to end.
pub fn run(path: &Path) -> ExitCode {
    let path = path.to_owned();
    foundation::run(GRACE, async move |shutdown| {
        let config = Config::load(&path)?;
        let settings = config.server.clone();
        let broker = open(config, Arc::new(foundation::SystemClock), &shutdown).await?;
        let address = broker_sdk::start(Arc::new(broker), settings, Outside::real(), &shutdown).await?;
        info!(%address, "the redis broker is ready");
        Ok(())
    })
}
