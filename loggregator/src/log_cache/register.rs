//! Tells the routers where `log-cache.` and `log-stream.` are.

use crate::config::LogCacheConfig;
use bus::Bus;
use foundation::Shutdown;
use messages::{
    Message,
    router::{Register, RouterStart, UNREGISTER},
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tracing::warn;

const INTERVAL: Duration = Duration::from_secs(20);

/// What to register.
pub(super) fn route(config: &LogCacheConfig, address: SocketAddr) -> Register {
    Register {
        host: config.advertise.clone().unwrap_or_else(|| address.ip().to_string()),
        port: Some(address.port()),
        uris: ["log-cache", "log-stream"].map(|name| format!("{name}.{}", config.system_domain)).to_vec(),
        private_instance_id: Some(format!("log_cache-{address}")),
        private_instance_index: Some("0".into()),
        tags: BTreeMap::from([("component".to_owned(), "log_cache".to_owned())]),
        ..Default::default()
    }
}

/// Registers now, every 20 s, when the bus comes back and whenever a router starts; unregisters at the end.
pub(super) async fn register(bus: Bus, route: Register, shutdown: Shutdown) {
    let mut every = tokio::time::interval(INTERVAL);
    let mut connected = bus.connected();
    let mut starts = None;
    loop {
        if starts.is_none() {
            starts = bus.subscribe(RouterStart::SUBJECT).await.ok();
        }
        let started = async {
            match &mut starts {
                Some(starts) => starts.next().await.is_some(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = every.tick() => {}
            alive = started => if !alive { return },
            changed = connected.changed() => if changed.is_err() { return },
            () = shutdown.requested() => break,
        }
        if let Err(e) = bus.publish(&route).await {
            warn!(error = &e as &dyn std::error::Error, "cannot register with the routers; trying again");
        }
    }
    let payload = serde_json::to_vec(&route).unwrap_or_default();
    let _ = tokio::time::timeout(Duration::from_secs(1), bus.publish_to(UNREGISTER, payload.into())).await;
}
