//! HTTP in, the right instance out.
//!
//! The router listens for HTTP and HTTPS, learns from the bus which instance serves which host and path, and hands every
//! request to one of them through the engine of `pingora`. It keeps no state of its own: the table is soft and comes back
//! from the registrars, or, while the bus is down, from a snapshot that is younger than the quarantine of addresses.
//!
//! It knows nothing of apps, spaces or users: a registration is all there is.
//!
//! - `config`: settings.
//! - `table`: who serves what.
//! - `registrar`: the bus side; `snapshot`: the table on disk.
//! - `front`: listeners, workers, connections.
//! - `proxy`: what happens to a request.
//! - `status`: health and figures.
//!
//! Two things of the engine are replaced. Its server would own the process (signals, runtimes, daemon): here the service has
//! one runtime like any other, plus one single-threaded runtime for each worker, each with an engine of its own. Its listeners
//! hand raw connections to its parser: here a connection first reads and bounds the head, so that limits, timeouts,
//! pipelining and framing are ours.

pub mod config;

mod front;
mod proxy;
mod registrar;
mod snapshot;
mod status;
mod table;

use bus::Bus;
use config::Config;
use foundation::Shutdown;
use front::Workers;
use loggregator_client::Sender;
use messages::router::RouterStart;
use parking_lot::Mutex;
use proxy::{Shared, route_service::RouteServices};
use rand::{Rng, rngs::StdRng};
use registrar::Registrar;
use std::{
    io,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use table::Table;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;
use types::Clock;

pub use front::tls::TlsError;
pub use proxy::route_service::RouteServiceError;

/// Why the router does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener cannot be opened.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The bus can never be reached with these settings.
    #[error("cannot use the bus")]
    Bus(#[source] bus::Error),
    /// The certificates cannot be used.
    #[error("cannot serve HTTPS")]
    Tls(#[source] TlsError),
    /// Route services cannot work.
    #[error("cannot serve routes with services")]
    RouteServices(#[source] RouteServiceError),
    /// A worker cannot be started.
    #[error("cannot start a worker")]
    Worker(#[source] io::Error),
}

/// What the router takes from outside.
pub struct Outside {
    /// The bus.
    pub bus: Bus,
    /// Wall-clock time, for log lines and the snapshot.
    pub clock: Arc<dyn Clock>,
    /// Names this router.
    pub rng: StdRng,
}

/// A router that serves.
#[derive(Clone, Debug)]
pub struct Router {
    /// Where HTTP is served.
    pub http: Option<SocketAddr>,
    /// Where HTTPS is served.
    pub https: Option<SocketAddr>,
    /// Where status is served.
    pub status: SocketAddr,
}

/// Runs the service; see `cupola run gorouter`.
pub fn run(path: &Path) -> ExitCode {
    let path = path.to_owned();
    // The drain is part of the grace: what is left after it is cut.
    foundation::run(Duration::from_secs(15), async move |shutdown| {
        let config = Config::load(&path)?;
        let bus = Bus::connect(&config.bus).await.map_err(Error::Bus)?;
        let outside = Outside { bus, clock: Arc::new(foundation::SystemClock), rng: foundation::rng() };
        let router = start(config, outside, &shutdown).await?;
        info!(http = ?router.http, https = ?router.https, status = %router.status, "the router is ready");
        Ok(())
    })
}

/// Starts the router; returns once it serves.
///
/// # Errors
/// [`Error`], before anything is served.
pub async fn start(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<Router, Error> {
    let Outside { bus, clock, mut rng } = outside;
    let tls = match config.https_listen {
        Some(_) => Some(Arc::new(front::tls::server(&config.certificates).map_err(Error::Tls)?)),
        None => None,
    };
    let shared = Arc::new(Shared {
        table: Table::new(config.table),
        rules: config.rules.clone(),
        services: RouteServices::open(&config.state, &config.route_services, &mut rng).map_err(Error::RouteServices)?,
        backend: config.backend.clone(),
        metrics: proxy::metrics::Metrics::default(),
        clock,
        epoch: Instant::now(),
        draining: false.into(),
    });
    let status = status::start(shared.clone(), config.status_listen, shutdown).await;
    let status = status.map_err(|e| Error::Listen(config.status_listen, e))?;

    let registrar = Registrar::new(shared.clone(), &config, router_start(&config, &mut rng));
    let known = snapshot::load(&registrar, &config.state, config.snapshot_age);
    registrar.run(bus.clone(), shutdown.clone()).await.map_err(Error::Bus)?;
    if known.is_none() {
        settle(&shared, &bus, config.start_wait).await;
    }
    keep_snapshot(&shared, &config, shutdown);

    let listen = |address: Option<SocketAddr>| match address {
        None => Ok(None),
        Some(address) => {
            let listener = front::bind(address).map_err(|e| Error::Listen(address, e))?;
            let real = listener.local_addr().map_err(|e| Error::Listen(address, e))?;
            Ok(Some((listener, real)))
        }
    };
    let (http, https) = (listen(config.http_listen)?, listen(config.https_listen)?);
    shared.services.listen(http.as_ref().map(|l| l.1), https.as_ref().map(|l| l.1));
    let addresses = Router { http: http.as_ref().map(|l| l.1), https: https.as_ref().map(|l| l.1), status };

    let sender = Arc::new(Sender::new(&config.agent_socket));
    let (done, all_done) = mpsc::channel(1);
    let workers = Workers::start(config.threads, &shared, &config.front, &sender, done).map_err(Error::Worker)?;
    let workers = Arc::new(workers);
    let stop = CancellationToken::new();
    for (listener, tls) in [(http, None), (https, tls)] {
        if let Some((listener, _)) = listener {
            let connections = config.front.max_connections;
            shutdown.spawn(front::accept(listener, tls, workers.clone(), shared.clone(), connections, stop.clone()));
        }
    }
    shutdown.spawn(drain(shared, workers, stop, all_done, shutdown.clone(), config.drain));
    Ok(addresses)
}

/// Refuses new connections, lets the requests in flight end for a while, and then leaves.
async fn drain(
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    stop: CancellationToken,
    mut all_done: mpsc::Receiver<()>,
    shutdown: Shutdown,
    limit: Duration,
) {
    shutdown.requested().await;
    shared.draining.store(true, Relaxed);
    stop.cancel();
    workers.drain();
    // The workers never send: this ends when the last of them is gone.
    let _ = tokio::time::timeout(limit, all_done.recv()).await;
}

fn router_start(config: &Config, rng: &mut StdRng) -> RouterStart {
    let mut random = [0; 16];
    rng.fill_bytes(&mut random);
    let guid: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let hosts = [config.http_listen, config.https_listen].into_iter().flatten().map(|address| address.ip().to_string());
    let mut hosts: Vec<String> = hosts.collect();
    hosts.dedup();
    RouterStart {
        id: format!("{}-{guid}", config.backend.router_index),
        hosts,
        register_interval_s: config.register_interval_s,
        prune_threshold_s: u32::try_from(config.table.stale.as_secs()).unwrap_or(u32::MAX),
    }
}

/// Waits until the registrars that heard this router have answered: until registrations came and then no new ones for a
/// moment, or until so much time went by that there cannot be any. Not longer than `limit`, for the bus may be away.
async fn settle(shared: &Shared, bus: &Bus, limit: Duration) {
    const QUIET: Duration = Duration::from_millis(150);
    const NOBODY: u32 = 4;
    let settled = async {
        let mut connected = bus.connected();
        let _ = connected.wait_for(|connected| *connected).await;
        let (mut last, mut silent) = (0, 0);
        while silent < NOBODY {
            tokio::time::sleep(QUIET).await;
            let now = shared.table.changes();
            if now == last && now > 0 {
                return;
            }
            silent = if now == 0 { silent + 1 } else { 0 };
            last = now;
        }
    };
    let _ = tokio::time::timeout(limit, settled).await;
}

fn keep_snapshot(shared: &Arc<Shared>, config: &Config, shutdown: &Shutdown) {
    let writer = Arc::new(Mutex::new(snapshot::Writer::new(shared.clone(), &config.state)));
    let (every, ending) = (config.snapshot, shutdown.clone());
    shutdown.spawn(async move {
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(every) => false,
                () = ending.requested() => true,
            };
            let writer = writer.clone();
            let _ = tokio::task::spawn_blocking(move || writer.lock().round()).await;
            if last {
                return;
            }
        }
    });
}
