//! The mysql broker: databases on a shared MariaDB server that it keeps itself.
//!
//! An instance is a database with an owner account that nobody can log in to; a binding is a login with rights on that one
//! database. The server is MariaDB as Debian packages it, started at the first instance and stopped when the last one is gone
//! ([`engines`]). See `README.md`.
//!
//! - [`config`]: settings. - `engine`: the server's configuration. - `cluster`: what is done in it. - `broker`: the
//!   operations. - `backup`: dump, restore, clone. - `catalog`, `credentials`: what platforms and applications see.
//!
//! It knows nothing of HTTP (the SDK does), and of the platform only what requests say.

pub mod config;

mod backup;
mod broker;
mod catalog;
mod cluster;
mod credentials;
mod engine;

pub use broker::MysqlBroker;

use broker::Inner;
use cluster::Cluster;
use config::{Config, Raw};
use credentials::Address;
use engine::MariaDb;
use engines::{Error, Server, backups::Store, files, names};
use foundation::{Secret, Shutdown, SystemClock};
use rand::rngs::StdRng;
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;
use types::Clock;

/// What the broker meets outside of itself.
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: StdRng,
}

/// Runs the broker with the settings in this file.
pub fn run(config: &Path) -> ExitCode {
    let path = config.to_owned();
    foundation::run(GRACE, async move |shutdown| {
        let config = Config::check(foundation::config::load::<Raw>(&path)?)?;
        let server = config.server.clone();
        let outside = Outside { clock: Arc::new(SystemClock), rng: foundation::rng() };
        let broker = open(config, outside, &shutdown).await?;
        let address = broker_sdk::start(Arc::new(broker), server, broker_sdk::Outside::real(), &shutdown).await?;
        info!(%address, "the mysql broker is ready");
        Ok(())
    })
}

/// How long the process has from TERM to its end: the server stops in order within it.
const GRACE: Duration = Duration::from_secs(14);

/// Opens the broker: its folders, and its server if there was one.
///
/// # Errors
/// When its files or the server's programs cannot be used.
pub async fn open(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<MysqlBroker, Error> {
    let Outside { clock, mut rng } = outside;
    let user = config.engine.user;
    let folder = config.state.join("engine");
    files::folder(&folder, user)?;
    let password = admin_password(&folder.join("password"), &mut rng)?;
    let cluster = Arc::new(Cluster::new(engine::socket(&folder), folder.join("data"), password.clone(), rng));
    let store = Store::open(config.state.join("backups"), user, config.engine.largest_backup_bytes)?;
    let engine = MariaDb::new(config.engine.clone(), folder.clone(), password, cluster.clone());
    let server = Server::open(engines::Settings::new(folder.clone(), user), Arc::new(engine), shutdown)?;
    let version = engine::version(&config.engine).await?;
    let authority =
        std::fs::read_to_string(&config.engine.tls.ca).map_err(|e| Error::File("read", config.engine.tls.ca.clone(), e))?;
    Ok(MysqlBroker(Arc::new(Inner {
        catalog: catalog::catalog(&config.plans, &version),
        version,
        server,
        cluster,
        store,
        address: Address { host: config.engine.host.clone(), port: config.engine.port, authority },
        clock,
        folder,
        shutdown: shutdown.clone(),
        use_of_server: Default::default(),
        config,
    })))
}

/// The administrator's password, drawn at the first start.
fn admin_password(path: &Path, rng: &mut StdRng) -> Result<Secret, Error> {
    if !path.exists() {
        files::write(path, names::password(rng).as_bytes(), files::User(None))?;
    }
    std::fs::read_to_string(path).map(Secret::new).map_err(|e| Error::File("read", path.to_owned(), e))
}
