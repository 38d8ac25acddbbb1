//! UAA: users, groups, clients and tokens.
//!
//! An OAuth2 server with the endpoints of Cloud Foundry's UAA that its clients use: tokens by password, authorization code,
//! refresh token and client credentials, signed with RS256; pages to log in and to consent; public keys; SCIM users and
//! groups; revocation; account lockout. It knows nothing
//! of orgs, spaces and roles: a scope is a word here. See `README.md`.
//!
//! - [`config`]: settings. - `api`: HTTP. - `domain`: rules and operations. - `store`: the database. - `bus`: routes.

pub mod config;

mod api;
mod domain;
mod store;

use actix_web::{App, HttpServer, middleware::from_fn};
use bus::Bus;
use config::{Config, Raw};
use domain::{Uaa, keys::Keys};
use foundation::{Shutdown, SystemClock};
use rand::rngs::StdRng;
use std::{error::Error, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tracing::{info, warn};
use types::Clock;

/// Between two rounds that forget tokens which ended.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);

/// Runs the service with the settings in this file.
pub fn run(config: &Path) -> ExitCode {
    let path = config.to_owned();
    foundation::run(Duration::from_secs(10), async move |shutdown| {
        let config = Config::check(foundation::config::load::<Raw>(&path)?)?;
        let bus = match &config.bus {
            Some(section) => Some(Bus::connect(&settings(section)).await?),
            None => None,
        };
        let outside = Outside { bus, clock: Arc::new(SystemClock), rng: foundation::rng() };
        let address = start(config, outside, &shutdown).await?;
        info!(%address, "uaa is ready");
        Ok(())
    })
}

/// What the service meets outside of itself.
pub struct Outside {
    /// Where to register routes; none are without it.
    pub bus: Option<Bus>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: StdRng,
}

/// Starts the service; returns the address once it accepts requests.
///
/// # Errors
/// When the database, the keys or the address cannot be used.
pub async fn start(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<SocketAddr, Box<dyn Error>> {
    let Outside { bus, clock, mut rng } = outside;
    if let config::Database::Sqlite(path) = &config.database
        && let Some(folder) = path.parent()
    {
        std::fs::create_dir_all(folder)?;
    }
    let store = open_store(&config.database, shutdown).await?;
    let (folder, active) = (config.keys_dir.clone(), config.active_key.clone());
    let jku = format!("{}/token_keys", config.issuer);
    let opened = tokio::task::spawn_blocking(move || {
        let keys = Keys::open(&folder, active.as_deref(), jku, &mut rng);
        keys.map(|keys| (keys, rng))
    });
    let (keys, rng) = opened.await??;
    let listen = config.listen;
    let uaa = Arc::new(Uaa::new(config, store, keys, clock, rng)?);
    uaa.seed().await?;

    let service = uaa.clone();
    let server = HttpServer::new(move || App::new().wrap(from_fn(api::log)).configure(api::routes(service.clone())))
        .workers(2)
        .disable_signals()
        .shutdown_timeout(5)
        .bind(listen)?;
    let address = *server.addrs().first().ok_or("no address to listen on")?;
    let server = server.run();
    let handle = server.handle();
    shutdown.spawn(server);
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        ending.requested().await;
        handle.stop(true).await;
    });
    if let Some(bus) = bus {
        let hosts = ["uaa", "login"].map(|name| format!("{name}.{}", uaa.config.system_domain)).to_vec();
        let (route, end) = (bus::own_route("uaa", hosts, address, uaa.config.advertise.as_deref()), shutdown.clone());
        shutdown.spawn(async move { bus::keep_registered(&bus, &route, end.requested()).await });
    }
    shutdown.spawn(purge(uaa, shutdown.clone()));
    Ok(address)
}

/// A database on another machine may come up after us: waits for it.
async fn open_store(database: &config::Database, shutdown: &Shutdown) -> Result<store::Store, Box<dyn Error>> {
    loop {
        match store::Store::open(database).await {
            Err(e @ domain::Error::Unavailable(..)) if !shutdown.is_requested() => {
                warn!(error = &e as &dyn Error, "waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

async fn purge(uaa: Arc<Uaa>, shutdown: Shutdown) {
    let mut every = tokio::time::interval(PURGE_INTERVAL);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shutdown.requested() => return,
        }
        if let Err(e) = uaa.purge().await {
            warn!(error = &e as &dyn Error, "cannot forget old tokens; trying again later");
        }
    }
}

fn settings(section: &foundation::config::BusSection) -> bus::Settings {
    bus::Settings {
        url: section.url.clone(),
        user: section.user.clone(),
        password: section.password.expose().to_owned(),
        ca: section.ca.clone(),
    }
}
