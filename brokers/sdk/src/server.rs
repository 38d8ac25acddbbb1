//! Start, run, stop.

use crate::{
    Broker, Settings,
    api::{self, Api, Gate},
    domain::{
        service::Service,
        work::{self, Workshop},
    },
    metrics::Metrics,
    store::{Store, instances, operations},
};
use actix_web::{App, HttpServer, middleware::from_fn, web::Data};
use foundation::{Shutdown, SystemClock, config::ConfigError};
use osb::{Catalog, catalog};
use rand::rngs::StdRng;
use std::{error::Error, fmt, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tracing::{info, warn};
use types::Clock;

/// How long a process has from TERM to its end.
const GRACE: Duration = Duration::from_secs(10);
/// Above what an operation may take, for reading a body.
const MARGIN: Duration = Duration::from_secs(10);
/// How long the end of an operation is remembered.
const REMEMBER: Duration = Duration::from_secs(7 * 86_400);
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// What a server meets outside of itself.
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness: ids of operations, the key, nonces.
    pub rng: StdRng,
}

impl Outside {
    /// The real one.
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock), rng: foundation::rng() }
    }
}

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The catalog breaks rules: all that it breaks.
    Catalog(catalog::Problems),
    /// The folder of the broker's state cannot be used.
    State(PathBuf, Box<dyn Error + Send + Sync>),
    /// It cannot listen there.
    Listen(SocketAddr, io::Error),
    /// [`Broker::started`] failed.
    Broker(String),
    /// Something of ours.
    Internal(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog(problems) => write!(f, "the catalog breaks rules:{problems}"),
            Self::State(folder, _) => write!(f, "the folder {} cannot be used", folder.display()),
            Self::Listen(address, _) => write!(f, "cannot listen on {address}"),
            Self::Broker(why) => write!(f, "the broker is not ready: {why}"),
            Self::Internal(_) => f.write_str("unexpected failure at start"),
        }
    }
}
impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::State(_, cause) | Self::Internal(cause) => Some(&**cause),
            Self::Listen(_, cause) => Some(cause),
            Self::Catalog(_) | Self::Broker(_) => None,
        }
    }
}

/// Runs a broker as a process: logs to standard error; TERM or INT ends it in a few seconds, and operations that have not ended by then
/// go on at the next start.
pub fn run(broker: impl Broker, settings: Result<Settings, ConfigError>) -> ExitCode {
    foundation::run(GRACE, async move |shutdown| {
        let address = start(Arc::new(broker), settings?, Outside::real(), &shutdown).await?;
        info!(%address, "the broker is ready");
        Ok(())
    })
}

/// Starts a server; returns its address once it takes requests. For a process that does more than this.
///
/// # Errors
/// A catalog that breaks rules, state that cannot be used, an address that is taken.
pub async fn start(
    broker: Arc<dyn Broker>,
    settings: Settings,
    outside: Outside,
    shutdown: &Shutdown,
) -> Result<SocketAddr, StartError> {
    let catalog = check(&broker.catalog())?;
    let internal = |cause: Box<dyn Error + Send + Sync>| StartError::Internal(cause);
    let (folder, rng) = (settings.state.clone(), outside.rng);
    let store = tokio::task::spawn_blocking(move || Store::open(&folder, rng)).await.map_err(|e| internal(e.into()))??;
    let metrics = Metrics::new().map_err(|e| internal(e.into()))?;
    let shop = Arc::new(Workshop {
        broker,
        catalog: catalog.clone(),
        store,
        clock: outside.clock,
        operation_timeout: settings.operation_timeout,
        shutdown: shutdown.clone(),
        runtime: tokio::runtime::Handle::current(),
        metrics: metrics.clone(),
    });
    let there = shop.store.run(instances::all).await.map_err(|failure| internal(failure.to_string().into()))?;
    let there = there.iter().map(instances::Record::view).collect();
    shop.broker.started(there).await.map_err(|failure| StartError::Broker(failure.to_string()))?;

    let address = listen(&settings, &shop, catalog, metrics, shutdown)?;
    resume(&shop).await.map_err(|failure| internal(failure.to_string().into()))?;
    shutdown.spawn(purge(shop, shutdown.clone()));
    Ok(address)
}

fn check(catalog: &Catalog) -> Result<Catalog, StartError> {
    let raw = serde_json::to_value(catalog).map_err(|e| StartError::Internal(e.into()))?;
    catalog::validate(&raw).map_err(StartError::Catalog)
}

fn listen(
    settings: &Settings,
    shop: &Arc<Workshop>,
    catalog: Catalog,
    metrics: Metrics,
    shutdown: &Shutdown,
) -> Result<SocketAddr, StartError> {
    let failed = |cause| StartError::Listen(settings.listen, cause);
    let service = Service { shop: shop.clone(), request_timeout: settings.request_timeout };
    let api = Data::new(Api { service, catalog, poll_interval: settings.poll_interval });
    let gate = Data::new(Gate::new(&settings.credentials, settings.request_timeout + MARGIN, metrics));
    let server =
        HttpServer::new(move || App::new().wrap(from_fn(api::pass)).app_data(gate.clone()).configure(api::routes(api.clone())));
    let server =
        server.workers(2).disable_signals().shutdown_timeout(GRACE.as_secs() - 1).bind(settings.listen).map_err(failed)?;
    let address = server.addrs().first().copied().ok_or_else(|| failed(io::Error::other("no address")))?;
    let server = server.run();
    let handle = server.handle();
    shutdown.spawn(server);
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        ending.requested().await;
        handle.stop(true).await;
    });
    Ok(address)
}

/// Goes on with what a former process has begun.
async fn resume(shop: &Arc<Workshop>) -> Result<(), crate::Failure> {
    for id in shop.store.run(operations::unfinished).await? {
        work::spawn(shop, id);
    }
    Ok(())
}

/// Forgets operations that ended long ago.
async fn purge(shop: Arc<Workshop>, shutdown: Shutdown) {
    let mut every = tokio::time::interval(PURGE_INTERVAL);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shutdown.requested() => return,
        }
        let before = shop.clock.now() - REMEMBER;
        if let Err(failure) = shop.store.run(move |tx| operations::purge(tx, before)).await {
            warn!("cannot forget old operations, trying again later: {failure}");
        }
    }
}
