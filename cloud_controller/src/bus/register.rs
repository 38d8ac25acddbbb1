//! Keeps `api.<system domain>` in the routers' tables.

use bus::Bus;
use foundation::Shutdown;
use messages::{
    Message,
    router::{Register, RouterStart, UNREGISTER},
};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tracing::debug;

/// How often the registration is repeated.
const INTERVAL: Duration = Duration::from_secs(20);

/// Registers `host` for this listener now, every 20 s, and whenever a router starts; takes it back at the end.
pub fn register(bus: &Bus, host: String, address: SocketAddr, shutdown: &Shutdown) {
    let (bus, end) = (bus.clone(), shutdown.clone());
    let registration = Register {
        host: address.ip().to_string(),
        port: Some(address.port()),
        uris: vec![host],
        tags: BTreeMap::from([("component".to_owned(), "cloud_controller".to_owned())]),
        ..Register::default()
    };
    shutdown.spawn(async move {
        tokio::select! {
            () = keep(&bus, &registration) => {}
            () = end.requested() => {}
        }
        if let Ok(payload) = serde_json::to_vec(&registration) {
            let _ = tokio::time::timeout(Duration::from_secs(1), bus.publish_to(UNREGISTER, payload.into())).await;
        }
    });
}

async fn keep(bus: &Bus, registration: &Register) {
    let mut starts = bus.subscribe(RouterStart::SUBJECT).await.ok();
    let mut timer = tokio::time::interval(INTERVAL);
    loop {
        let started = async {
            match &mut starts {
                Some(starts) => starts.next().await.map(drop),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = timer.tick() => {}
            Some(()) = started => {}
        }
        if let Err(e) = bus.publish(registration).await {
            debug!(error = &e as &dyn std::error::Error, "the registration was not sent");
        }
        if starts.is_none() {
            starts = bus.subscribe(RouterStart::SUBJECT).await.ok();
        }
    }
}
