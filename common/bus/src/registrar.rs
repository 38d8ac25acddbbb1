//! How a service keeps its own host names in the routers' tables.

use crate::Bus;
use messages::{
    Message,
    router::{Register, RouterStart, UNREGISTER},
};
use std::{collections::BTreeMap, net::SocketAddr, pin::pin, time::Duration};
use tracing::warn;

/// How often a registration is repeated; routers forget what they have not heard of for 120 s.
const INTERVAL: Duration = Duration::from_secs(20);

/// What a service registers: `hosts` lead to its listener. `advertise` is the address under which routers on other machines
/// reach it; without one it is the listener's own.
pub fn own_route(component: &str, hosts: Vec<String>, address: SocketAddr, advertise: Option<&str>) -> Register {
    Register {
        host: advertise.map_or_else(|| address.ip().to_string(), str::to_owned),
        port: Some(address.port()),
        uris: hosts,
        private_instance_id: Some(format!("{component}-{address}")),
        private_instance_index: Some("0".into()),
        tags: BTreeMap::from([("component".to_owned(), component.to_owned())]),
        ..Register::default()
    }
}

/// Registers now, every 20 s, when the bus comes back and whenever a router starts, until `end`; then unregisters.
pub async fn keep_registered(bus: &Bus, route: &Register, end: impl Future<Output = ()>) {
    let (mut every, mut connected, mut starts) = (tokio::time::interval(INTERVAL), bus.connected(), None);
    let mut end = pin!(end);
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
            () = &mut end => break,
        }
        if let Err(e) = bus.publish(route).await {
            warn!(error = &e as &dyn std::error::Error, "cannot register with the routers; trying again");
        }
    }
    // A moment is enough: routers forget by themselves too.
    let payload = serde_json::to_vec(route).unwrap_or_default();
    let _ = tokio::time::timeout(Duration::from_secs(1), bus.publish_to(UNREGISTER, payload.into())).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test(start_paused = true)]
    async fn a_service_is_registered_until_it_ends_and_tells_every_router_that_starts() {
        let bus = Bus::in_memory();
        let mut registered = bus.subscribe(Register::SUBJECT).await.unwrap();
        let mut gone = bus.subscribe(UNREGISTER).await.unwrap();
        let route = own_route("uaa", vec!["uaa.cf.localhost".into()], "127.0.0.1:8080".parse().unwrap(), None);
        let (stop, end) = oneshot::channel::<()>();
        let (side, sent) = (bus.clone(), route.clone());
        let task = tokio::spawn(async move { keep_registered(&side, &sent, async { drop(end.await) }).await });
        for _ in 0..2 {
            assert_eq!(registered.next().await.unwrap().read::<Register>().unwrap(), route);
        }
        let start = RouterStart { id: "r".into(), hosts: vec![], register_interval_s: 20, prune_threshold_s: 120 };
        bus.publish(&start).await.unwrap();
        assert_eq!(registered.next().await.unwrap().read::<Register>().unwrap(), route);
        stop.send(()).unwrap();
        assert_eq!(gone.next().await.unwrap().read::<Register>().unwrap(), route);
        task.await.unwrap();
    }
}
