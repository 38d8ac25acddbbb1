//! Starting and stopping.

use crate::{
    api::{self, Api, MAX_BODY, auth::AUDIENCES, internal, routing},
    app_log::AppLog,
    blobs::Blobs,
    buildpack_bits, bus as bus_side,
    config::Config,
    dashboards::WithDashboards,
    domain::policy::Policy,
    outside::Outside,
    reconcile::{self, operations::Engine},
    store::Store,
    vault::Vault,
};
use ::bus::Bus;
use actix_web::{
    App, HttpServer,
    middleware::{NormalizePath, from_fn},
    web::{Data, PayloadConfig},
};
use foundation::Shutdown;
use parking_lot::Mutex;
use std::{collections::HashSet, error::Error, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tracing::info;
use uaa_client::{Expect, TokenVerifier};

/// How long requests may take to end once the end is asked for.
const DRAIN_S: u64 = 5;

/// Longer than the callers keep idle connections: a router must never write into one that is being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Where the service listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The public API.
    pub public: SocketAddr,
    /// The internal API.
    pub internal: SocketAddr,
}

/// Runs the service until it is told to stop.
pub fn run(path: &Path) -> ExitCode {
    foundation::run(Duration::from_secs(20), async move |shutdown| {
        let config = Config::load(path)?;
        let outside = real(&config).await?;
        let addresses = start(config, outside, &shutdown).await?;
        info!(public = %addresses.public, internal = %addresses.internal, "the cloud controller is ready");
        Ok(())
    })
}

async fn real(config: &Config) -> Result<Outside, Box<dyn Error>> {
    let clock: Arc<dyn types::Clock> = Arc::new(foundation::SystemClock);
    let settings = ::bus::Settings {
        url: config.bus.url.clone(),
        user: config.bus.user.clone(),
        password: config.bus.password.expose().to_owned(),
        ca: config.bus.ca.clone(),
    };
    let expect = Expect {
        issuer: config.uaa.issuer.clone().unwrap_or_else(|| format!("{}/oauth/token", config.urls.uaa)),
        audiences: AUDIENCES.map(str::to_owned).to_vec(),
    };
    let secret = config.uaa.client_secret.clone();
    let brokers = osb::client::Clients::new(broker_settings(config)?, clock.clone())?;
    let uaa = uaa_client::Client::new(&config.uaa.base, &config.uaa.client_id, secret, clock.clone())?;
    Ok(Outside {
        bus: Bus::connect(&settings).await?,
        verifier: TokenVerifier::new(&config.uaa.base, &expect, clock.clone())?,
        identities: Arc::new(uaa.clone()),
        brokers: Arc::new(brokers),
        dashboards: Arc::new(uaa),
        clock,
        rng: foundation::rng(),
    })
}

/// How brokers are asked.
pub(crate) fn broker_settings(config: &Config) -> Result<osb::client::Settings, Box<dyn Error>> {
    // That of this platform is for brokers that are its apps.
    let mut authorities = vec![];
    for path in [Some(&config.tls.ca), config.broker_ca.as_ref()].into_iter().flatten() {
        authorities.push(std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?);
    }
    Ok(osb::client::Settings {
        policy: config.broker_policy.clone(),
        authorities,
        skip_tls_verify: config.broker_skip_tls_verify.clone(),
        info_location: Some(format!("api.{}/v2/info", config.system_domain)),
        ..osb::client::Settings::default()
    })
}

/// Starts the service; returns once it accepts requests on both listeners.
///
/// # Errors
/// When the database, the key, the blob folder, the certificates or a listener cannot be had.
pub async fn start(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<Addresses, Box<dyn Error>> {
    let (addresses, _) = start_with_state(config, outside, shutdown).await?;
    Ok(addresses)
}

/// As [`start`]; the state is for tests that look inside.
pub(crate) async fn start_with_state(
    config: Config,
    outside: Outside,
    shutdown: &Shutdown,
) -> Result<(Addresses, Data<Api>), Box<dyn Error>> {
    std::fs::create_dir_all(&config.state)?;
    std::fs::create_dir_all(&config.blobs)?;
    let vault = Vault::open_key(&config.encryption_key)?;
    let database = config.database.clone();
    let store = tokio::task::spawn_blocking(move || Store::open(&database)).await??;
    let config = Arc::new(config);
    let mut rng = outside.rng;
    let api = Data::new(Api {
        store: store.clone(),
        blobs: Blobs::open(&config.blobs)?,
        policy: Arc::new(Policy::of(&config)),
        log: AppLog::new(config.agent_socket.as_deref()),
        tasks: shutdown.clone(),
        sweep: Notify::new(),
        bus: outside.bus,
        clock: outside.clock,
        actual: bus_side::Actual::default(),
        brokers: Arc::new(WithDashboards { brokers: outside.brokers, clients: outside.dashboards, store: store.clone() }),
        operations: Engine::new(types::InstanceId::random(&mut rng).to_string()),
        verifier: outside.verifier,
        identities: outside.identities,
        vault,
        rng: Mutex::new(rng),
        strangers: Default::default(),
        known_users: Mutex::new(HashSet::new()),
        config: config.clone(),
    });
    let seeded = config.clone();
    api.write_as_system(move |tx| crate::domain::seed::first_boot(tx, &seeded)).await?;
    reconcile::blobs::recover(&api).await?;
    reconcile::retention::spawn(&api, shutdown);
    if let Some(folder) = &config.buildpacks {
        buildpack_bits::bring(&api, folder).await?;
    }
    bus_side::follow(&api.bus, &api.actual, shutdown);
    api.log.keep_flushing(shutdown);
    reconcile::blobs::start(&api, shutdown);
    reconcile::blobs::expire_builds(&api, shutdown);
    reconcile::operations::start(&api, shutdown).await?;
    reconcile::own_brokers::start(&api, shutdown);
    reconcile::workloads::start(&api, shutdown);
    let addresses = listen(&config, &api, shutdown)?;
    let hosts = vec![format!("api.{}", config.system_domain)];
    let (route, bus, end) =
        (::bus::own_route("cloud_controller", hosts, addresses.public, None), api.bus.clone(), shutdown.clone());
    shutdown.spawn(async move { ::bus::keep_registered(&bus, &route, end.requested()).await });
    Ok((addresses, api))
}

fn listen(config: &Config, api: &Data<Api>, shutdown: &Shutdown) -> Result<Addresses, Box<dyn Error>> {
    let state = api.clone();
    let public = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(PayloadConfig::new(MAX_BODY))
            .wrap(from_fn(api::around))
            .wrap(NormalizePath::trim())
            .configure(routing::public)
    })
    .workers(2)
    .keep_alive(KEEP_ALIVE)
    .disable_signals()
    .shutdown_timeout(DRAIN_S)
    .bind(config.listen)?;
    let tls = foundation::tls::server(&config.tls)?;
    let state = api.clone();
    let internal = HttpServer::new(move || {
        App::new()
            .app_data(state.clone())
            .app_data(PayloadConfig::new(MAX_BODY))
            .wrap(from_fn(api::around))
            .configure(routing::internal)
    })
    .workers(2)
    .keep_alive(KEEP_ALIVE)
    .disable_signals()
    .shutdown_timeout(DRAIN_S)
    .on_connect(internal::identify)
    .bind_rustls_0_23(config.internal_listen, tls)?;
    let first = |addresses: Vec<SocketAddr>| addresses.first().copied().ok_or("no listener");
    let addresses = Addresses { public: first(public.addrs())?, internal: first(internal.addrs())? };
    for server in [public.run(), internal.run()] {
        let (handle, end) = (server.handle(), shutdown.clone());
        shutdown.spawn(server);
        shutdown.spawn(async move {
            end.requested().await;
            handle.stop(true).await;
        });
    }
    Ok(addresses)
}
