//! What the brokers of SQL databases share: plans, operations, sizes, backups, credentials, and servers of an instance's own.
//!
//! A kind of database is a [`Product`]: its catalog entry, how its servers are run, and a [`Cluster`]: what is done in one of
//! them. From that, [`run`] makes a broker with two kinds of plans:
//!
//! - on the shared server, which the broker keeps itself ([`engines`]): an instance is a database with an owner that nobody can
//!   log in as, a binding is a login;
//! - on a server of the instance's own: a workload of the platform, placed, counted, watched and restarted like an instance of an
//!   app (`dedicated`). In it, everything is made in the same way as on the shared one.
//!
//! Modules: [`config`]: settings. - `catalog`: what is offered. - `broker`: the operations. - `home`: where the data of an
//! instance is. - `moving`: from one kind of plan to the other. - `shared`: care for the shared server. - `dedicated`: the
//! others.
//!
//! It knows no SQL and nothing of HTTP (the SDK does), and of the platform only what requests and workloads say.

pub mod config;

mod address;
mod broker;
mod catalog;
mod cluster;
mod dedicated;
mod home;
mod moving;
mod product;
mod shared;

pub use address::{Address, escaped};
pub use broker::SqlBroker;
pub use cluster::{Allowance, Cluster, Database, Removal};
pub use config::{Config, Raw};
pub use dedicated::{OwnEnvironment, Workloads};
pub use product::{Around, Place, Product, Remote, Schemas, Shared};

use broker::Inner;
use cloud_controller_client::Client;
use dedicated::Dedicated;
use engines::{Error, Server, backups::Store, files, names};
use foundation::{Secret, Shutdown, SystemClock};
use rand::{SeedableRng, rngs::StdRng};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::info;
use types::Clock;

/// What a broker meets outside of itself.
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: StdRng,
    /// Who runs servers of an instance's own, if not the cloud controller of the settings.
    pub workloads: Option<Arc<dyn Workloads>>,
}

impl Outside {
    /// The real ones.
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock), rng: foundation::rng(), workloads: None }
    }
}

/// Runs the broker of `product` with the settings in this file.
pub fn run(product: impl Product, config: &Path) -> ExitCode {
    let path = config.to_owned();
    foundation::run(GRACE, async move |shutdown| {
        let raw = foundation::config::load::<Raw>(&path)?;
        let config = Config::check(product.service(), product.usual_spare(), raw)?;
        let (server, service) = (config.server.clone(), product.service());
        let broker = open(Arc::new(product), config, Outside::real(), &shutdown).await?;
        let address = broker_sdk::start(Arc::new(broker), server, broker_sdk::Outside::real(), &shutdown).await?;
        info!(%address, "the {service} broker is ready");
        Ok(())
    })
}

/// How long the process has from TERM to its end: the server stops in order within it.
const GRACE: Duration = Duration::from_secs(14);

/// Opens the broker: its folders, and its shared server if there was one.
///
/// # Errors
/// When its files or the server's programs cannot be used.
pub async fn open(product: Arc<dyn Product>, config: Config, outside: Outside, shutdown: &Shutdown) -> Result<SqlBroker, Error> {
    foundation::tls::install_crypto();
    let Outside { clock, mut rng, workloads } = outside;
    let user = config.engine.user;
    let folder = config.state.join("engine");
    files::folder(&folder, user)?;
    let password = admin_password(&folder.join("password"), &mut rng)?;
    let session = names::random('b', &mut rng);
    let around = Around {
        settings: config.engine.clone(),
        session: session.clone(),
        rng: StdRng::from_rng(&mut rng),
        shutdown: shutdown.clone(),
    };
    let (cluster, engine) = product.shared(Place { around, folder: folder.clone(), password })?;
    let store = Store::open(config.state.join("backups"), user, config.engine.largest_backup_bytes)?;
    let server = Server::open(engines::Settings::new(folder.clone(), user), engine, shutdown)?;
    let version = product.version(&config.engine, &server.data()).await?;
    let authority =
        std::fs::read_to_string(&config.engine.tls.ca).map_err(|e| Error::File("read", config.engine.tls.ca.clone(), e))?;
    let own_rng = StdRng::from_rng(&mut rng);
    let dedicated = match &config.own {
        None => None,
        Some(own) => {
            let platform = match workloads {
                Some(given) => given,
                None => Arc::new(client(&own.workloads)?),
            };
            let own = own.clone();
            Some(Dedicated::new(own, &config, product.clone(), platform, session, own_rng, shutdown.clone())?)
        }
    };
    Ok(SqlBroker(Arc::new(Inner {
        catalog: catalog::catalog(&*product, &config, &version),
        product,
        version,
        server,
        cluster,
        dedicated,
        store,
        address: Address { host: config.engine.host.clone(), port: config.engine.port, authority },
        clock,
        folder,
        shutdown: shutdown.clone(),
        rng: parking_lot::Mutex::new(rng),
        use_of_server: Default::default(),
        taken: Default::default(),
        retired: Default::default(),
        config,
    })))
}

fn client(workloads: &engines::settings::WorkloadsSection) -> Result<Client, Error> {
    let tls = foundation::tls::client(&workloads.tls).map_err(Error::server)?;
    Client::new(&workloads.controller, tls).map_err(Error::server)
}

/// The administrator's password, drawn at the first start.
fn admin_password(path: &Path, rng: &mut StdRng) -> Result<Secret, Error> {
    if !path.exists() {
        files::write(path, names::password(rng).as_bytes(), files::User(None))?;
    }
    std::fs::read_to_string(path).map(Secret::new).map_err(|e| Error::File("read", path.to_owned(), e))
}
