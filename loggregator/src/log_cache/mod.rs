//! The log cache: the newest envelopes of each source, over HTTP.
//!
//! - [`store`]: what is kept, and what goes when there is too much; pure.
//! - `ingest`: from the bus into the store; finds what got lost on the way.
//! - `wire`: the JSON of the API, field by field.
//! - `api`: the endpoints.
//! - `stream`: `/v2/read` of the RLP gateway, as server-sent events.
//! - `access`: who may read what.

mod access;
mod api;
mod ingest;
pub mod store;
mod stream;
mod wire;

pub use access::LogAccess;

use crate::config::LogCacheConfig;
use access::Access;
use actix_web::{App, HttpServer};
use bus::Bus;
use foundation::{Shutdown, SystemClock};
use messages::router::Register;
use parking_lot::Mutex;
use std::{error::Error, net::SocketAddr, sync::Arc};
use store::Store;
use tokio::sync::broadcast;
use types::{Clock, Timestamp};
use uaa_client::{Expect, TokenVerifier};

/// What the log cache meets outside of itself.
pub struct Outside {
    /// The bus.
    pub bus: Bus,
    /// Checks tokens.
    pub tokens: TokenVerifier,
    /// Knows who may read the logs of what.
    pub access: Arc<dyn LogAccess>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Outside {
    /// The real one.
    ///
    /// # Errors
    /// For settings that can never work.
    pub async fn real(config: &LogCacheConfig) -> Result<Self, Box<dyn Error>> {
        let clock = Arc::new(SystemClock);
        let audiences = ["cloud_controller", "doppler", "logs"].map(str::to_owned).to_vec();
        let expect = Expect { issuer: config.issuer.clone(), audiences };
        let tls = foundation::tls::client(&config.tls)?;
        Ok(Self {
            bus: Bus::connect(&config.bus).await?,
            tokens: TokenVerifier::new(config.uaa.as_str(), &expect, clock.clone())?,
            access: Arc::new(cloud_controller_client::Client::new(config.cloud_controller.as_str(), tls)?),
            clock,
        })
    }
}

/// Envelopes of one batch, as streams see them.
type Batch = Arc<Vec<Arc<store::Stored>>>;

/// What all requests share.
struct Shared {
    store: Mutex<Store>,
    live: broadcast::Sender<Batch>,
    access: Access,
    clock: Arc<dyn Clock>,
    started: Timestamp,
    ending: Shutdown,
}

/// Batches that a slow stream may lag behind.
const LIVE: usize = 512;

/// Starts the log cache; returns the address once it accepts requests.
///
/// # Errors
/// When the address cannot be used.
pub async fn start(config: &LogCacheConfig, outside: Outside, shutdown: &Shutdown) -> Result<SocketAddr, Box<dyn Error>> {
    let Outside { bus, tokens, access, clock } = outside;
    let shared = Arc::new(Shared {
        store: Mutex::new(Store::new(config.keep)),
        live: broadcast::channel(LIVE).0,
        access: Access::new(tokens, access, clock.clone()),
        started: clock.now(),
        clock,
        ending: shutdown.clone(),
    });
    let service = shared.clone();
    let server = HttpServer::new(move || App::new().configure(api::routes(service.clone())))
        .workers(2)
        .disable_signals()
        .shutdown_timeout(3)
        .bind(config.listen)?;
    let address = *server.addrs().first().ok_or("no address to listen on")?;
    let server = server.run();
    let handle = server.handle();
    shutdown.spawn(server);
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        ending.requested().await;
        handle.stop(true).await;
    });
    shutdown.spawn(ingest::run(bus.clone(), shared, shutdown.clone()));
    let (route, end) = (route(config, address), shutdown.clone());
    shutdown.spawn(async move { bus::keep_registered(&bus, &route, end.requested()).await });
    Ok(address)
}

/// The host names that lead here.
fn route(config: &LogCacheConfig, address: SocketAddr) -> Register {
    let hosts = ["log-cache", "log-stream"].map(|name| format!("{name}.{}", config.system_domain)).to_vec();
    bus::own_route("log_cache", hosts, address, config.advertise.as_deref())
}

#[cfg(test)]
mod tests;
