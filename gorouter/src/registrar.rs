//! The bus side: registrations in, `router.start` out.
//!
//! Source: cloudfoundry/gorouter, `mbus/subscriber.go`, `registry/registry.go`.

use crate::{
    proxy::{Shared, backend::BackendSettings, metrics::count, route_service::Target},
    table::{Attributes, Balance, Instance, Outcome, RouteKey},
};
use bus::{Bus, Delivery, Subscription};
use foundation::Shutdown;
use messages::{
    Message,
    router::{GREET, Register, RouterStart, UNREGISTER},
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

/// All that is said to routers.
const SUBJECTS: &str = "router.*";
/// Routes in one message.
const MAX_URIS: usize = 1_000;
/// Names of endpoints that are looked up at the same time; more are left for their next registration.
const MAX_LOOKUPS: usize = 16;
const LOOKUP: Duration = Duration::from_secs(2);
/// After how long `router.start` is said once more, as the bus may lose a message.
const AGAIN: Duration = Duration::from_secs(2);

/// Keeps the table as the bus says.
#[derive(Clone)]
pub(crate) struct Registrar {
    pub(crate) shared: Arc<Shared>,
    pub(crate) backend: BackendSettings,
    /// Hosts that no app may register.
    pub(crate) reserved: Arc<[String]>,
    pub(crate) start: RouterStart,
    pub(crate) prune_interval: Duration,
    lookups: Arc<Semaphore>,
}

impl Registrar {
    pub(crate) fn new(shared: Arc<Shared>, config: &crate::config::Config, start: RouterStart) -> Self {
        Self {
            shared,
            backend: config.backend.clone(),
            reserved: config.reserved.clone().into(),
            start,
            prune_interval: config.prune_interval,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// Subscribes, and works until the end.
    pub(crate) async fn run(self, bus: Bus, shutdown: Shutdown) -> Result<(), bus::Error> {
        // One subscription for all: what comes through two can be read in another order than it was sent.
        let said = bus.subscribe(SUBJECTS).await?;
        let worker = shutdown.clone();
        shutdown.spawn(async move { self.work(bus, said, worker).await });
        Ok(())
    }

    async fn work(self, bus: Bus, mut said: Subscription, shutdown: Shutdown) {
        let mut connected = bus.connected();
        connected.mark_changed();
        let mut prune = tokio::time::interval(self.prune_interval);
        prune.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut again: Option<std::pin::Pin<Box<tokio::time::Sleep>>> = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                changed = connected.changed() => {
                    if changed.is_err() {
                        return shutdown.request();
                    }
                    if *connected.borrow_and_update() {
                        // While the bus was away nobody could repeat himself.
                        self.shared.table.refresh_all(self.shared.now());
                        self.say_start(&bus).await;
                        again = Some(Box::pin(tokio::time::sleep(AGAIN)));
                    }
                }
                delivery = said.next() => match delivery {
                    Some(delivery) if delivery.subject == Register::SUBJECT => self.receive(&delivery, true),
                    Some(delivery) if delivery.subject == UNREGISTER => self.receive(&delivery, false),
                    Some(delivery) if delivery.subject == GREET => self.greet(&bus, &delivery).await,
                    // `router.start` of this router or another
                    Some(_) => {}
                    None => return shutdown.request(),
                },
                () = async { match &mut again { Some(timer) => timer.await, None => std::future::pending().await } } => {
                    again = None;
                    self.say_start(&bus).await;
                }
                _ = prune.tick() => if *connected.borrow() { self.prune() },
            }
        }
    }

    fn prune(&self) {
        let pruned = self.shared.table.prune(self.shared.now());
        if pruned > 0 {
            self.shared.metrics.pruned.fetch_add(pruned as u64, std::sync::atomic::Ordering::Relaxed);
            info!(pruned, "dropped endpoints that were silent for too long");
        }
    }

    async fn say_start(&self, bus: &Bus) {
        if let Err(e) = bus.publish(&self.start).await {
            warn!(error = &e as &dyn Error, bus.subject = RouterStart::SUBJECT, "cannot announce this router");
        }
    }

    async fn greet(&self, bus: &Bus, delivery: &Delivery) {
        if let Err(e) = bus.respond(delivery, &self.start).await {
            warn!(error = &e as &dyn Error, bus.subject = GREET, "cannot answer a greeting");
        }
    }

    fn receive(&self, delivery: &Delivery, register: bool) {
        let metrics = &self.shared.metrics;
        count(if register { &metrics.registrations } else { &metrics.unregistrations });
        let message: Register = match delivery.read() {
            Ok(message) => message,
            Err(e) => return self.refuse(&e.to_string()),
        };
        if let Err(why) = self.apply(message, register) {
            self.refuse(why);
        }
    }

    fn refuse(&self, why: &str) {
        count(&self.shared.metrics.registrations_refused);
        debug!("a registration is refused: {why}");
    }

    /// Carries out a message; endpoints with a host name follow once it is looked up.
    pub(crate) fn apply(&self, message: Register, register: bool) -> Result<(), &'static str> {
        let (port, tls) = match (message.tls_port.filter(|p| *p > 0), message.port.filter(|p| *p > 0)) {
            (Some(port), _) if self.backend.verifies => (port, true),
            (_, Some(port)) => (port, false),
            (Some(_), None) => return Err("its endpoint speaks TLS, but there is no authority to verify it"),
            (None, None) => return Err("it has no port"),
        };
        if message.uris.len() > MAX_URIS {
            return Err("it has too many routes");
        }
        if message.route_service_url.as_deref().is_some_and(|url| !url.is_empty() && Target::parse(url).is_none()) {
            return Err("its route service is no https URL");
        }
        match message.host.parse::<IpAddr>() {
            Ok(ip) => self.carry_out(&message, SocketAddr::new(ip, port), tls, register),
            Err(_) => return self.look_up(message, port, tls, register),
        }
        Ok(())
    }

    fn look_up(&self, message: Register, port: u16, tls: bool, register: bool) -> Result<(), &'static str> {
        let Ok(permit) = self.lookups.clone().try_acquire_owned() else {
            return Err("too many endpoints are being looked up");
        };
        let this = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((message.host.as_str(), port))).await;
            match found.ok().and_then(Result::ok).and_then(|mut addresses| addresses.next()) {
                Some(address) => this.carry_out(&message, address, tls, register),
                None => this.refuse("its host has no address"),
            }
        });
        Ok(())
    }

    fn carry_out(&self, message: &Register, address: SocketAddr, tls: bool, register: bool) {
        let attributes = Attributes::new(message, address, tls);
        let now = self.shared.now();
        if !register {
            for key in message.uris.iter().filter_map(|uri| RouteKey::parse(uri)) {
                self.shared.table.unregister(&key, &attributes, now);
            }
            return;
        }
        let balance = message.options.as_ref().and_then(|o| o.loadbalancing.as_deref()).and_then(Balance::parse);
        let of_app = attributes.app.is_some();
        let instance = Arc::new(Instance::new(attributes, &self.backend));
        for uri in &message.uris {
            match RouteKey::parse(uri) {
                None => self.refuse("its route can match nothing"),
                Some(key) if of_app && self.is_reserved(&key.host) => {
                    warn!(route.host = &*key.host, app.id = message.app, "an app may not register a name of the platform");
                    count(&self.shared.metrics.registrations_refused);
                }
                Some(key) => match self.shared.table.register(&key, &instance, balance, now) {
                    Outcome::Full => {
                        warn!(route.host = &*key.host, "the routing table is full");
                        count(&self.shared.metrics.registrations_refused);
                    }
                    Outcome::Changed | Outcome::Refreshed | Outcome::Stale => {}
                },
            }
        }
    }

    fn is_reserved(&self, host: &str) -> bool {
        self.reserved.iter().any(|name| name == host)
    }
}
