//! The rabbitmq broker: a virtual host on a shared node for every instance, a user of its own for every binding.
//!
//! - [`plans`]: what is offered, limits, parameters.
//! - [`broker`]: the platform's requests, backups.
//! - [`node`]: the shared node, started at the first instance and stopped some time after the last one.
//! - [`api`]: the node's management API.
//! - [`messages`]: reading and writing back messages.
//! - [`mod@config`]: the settings and their check.
//!
//! The node is kept running by `engines`: it outlives a broker that is killed and is adopted by the next one. What there is
//! (virtual hosts, users, permissions) is kept by the node alone. This crate knows nothing of HTTP towards the platform, or of
//! what messages mean.

pub mod api;
pub mod broker;
pub mod config;
pub mod messages;
pub mod node;
pub mod plans;

use api::Api;
use broker::{Inner, RabbitmqBroker};
use broker_sdk::Outside;
use config::Config;
use engines::{Error, Server, files, names};
use foundation::{Secret, Shutdown};
use node::{Node, Ports};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tracing::info;
use types::Clock;

/// How long the node may take to stop in order, and some more for the broker itself.
const STOP: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(40);

/// Opens the broker: a node that was needed before begins to be adopted or started.
///
/// # Errors
/// When there is no server, or files cannot be used.
pub fn open(config: Config, clock: Arc<dyn Clock>, shutdown: &Shutdown) -> Result<RabbitmqBroker, Error> {
    let Config { raw, server_user: user, .. } = config;
    let version = node::version(&raw.installation).ok_or_else(|| {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        Error::File("find a RabbitMQ server in", raw.installation.clone(), missing)
    })?;
    let authority = std::fs::read_to_string(&raw.tls.ca).map_err(|e| Error::File("read", raw.tls.ca.clone(), e))?;
    files::folder(&raw.server.state, user)?;
    let folder = raw.server.state.join("node");
    files::folder(&folder, user)?;
    let password = kept_secret(&folder.join("password"))?;
    let [amqp, management, distribution] = raw.loopback_ports;
    let ports = Ports { service: raw.port, amqp, management, distribution };
    let api = Arc::new(Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, management)), password.clone())?);
    let node = node::Settings {
        installation: raw.installation,
        folder: folder.join("files"),
        user,
        address: raw.address,
        ports,
        tls: raw.tls,
        memory_mb: raw.memory_mb,
        disk_reserve_mb: raw.disk_reserve_mb,
        admin_password: password.clone(),
        cookie: kept_secret(&folder.join("cookie"))?,
    };
    let mut settings = engines::Settings::new(&folder, user);
    settings.stop_timeout = STOP;
    let server = Server::open(settings, Arc::new(Node::new(node, api.clone())), shutdown)?;
    let store =
        engines::backups::Store::open(raw.server.state.join("backups"), files::User(None), u64::from(raw.backup_mb) << 20)?;
    Ok(RabbitmqBroker(Arc::new(Inner {
        server,
        api,
        store,
        version,
        plans: raw.plans,
        address: raw.address,
        ports,
        password,
        authority,
        clock,
        shutdown: shutdown.clone(),
        idle: Duration::from_secs(raw.idle_stop_s),
        coming: Default::default(),
    })))
}

/// Runs the service until it is told to end.
pub fn run(path: &Path) -> ExitCode {
    let path = path.to_owned();
    foundation::run(GRACE, async move |shutdown| {
        let config = Config::load(&path)?;
        let settings = config.server.clone();
        let broker = open(config, Arc::new(foundation::SystemClock), &shutdown)?;
        let address = broker_sdk::start(Arc::new(broker), settings, Outside::real(), &shutdown).await?;
        info!(%address, "the rabbitmq broker is ready");
        Ok(())
    })
}

/// A secret that is drawn once.
fn kept_secret(path: &Path) -> Result<Secret, Error> {
    if !path.exists() {
        files::write(path, names::password(&mut foundation::rng()).as_bytes(), files::User(None))?;
    }
    std::fs::read_to_string(path).map(Secret::new).map_err(|e| Error::File("read", path.to_owned(), e))
}
