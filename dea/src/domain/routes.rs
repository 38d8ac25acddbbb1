//! Registrations of an instance.

use crate::{
    config::RouteTo,
    domain::{claim::Slot, container::Place},
};
use cloud_controller_client::{LaunchSpec, Route};
use messages::router::{Options, Register};
use std::collections::BTreeSet;
use types::Timestamp;

/// The registration of one route of an instance; `None` where the container has no such port.
pub fn register(
    to: RouteTo,
    slot: &Slot,
    launch: &LaunchSpec,
    place: &Place,
    route: &Route,
    since: Timestamp,
) -> Option<Register> {
    let host_port = *place.ports.get(&route.port)?;
    let (host, port) = match to {
        RouteTo::Container => (place.container, route.port),
        RouteTo::Host => (place.host, host_port),
    };
    let mut tags = super::container::tags(slot, launch);
    tags.insert("component".into(), "dea".into());
    Some(Register {
        host: host.to_string(),
        port: Some(port),
        uris: vec![route.uri.clone()],
        app: Some(slot.app.to_string()),
        private_instance_id: Some(slot.instance.to_string()),
        private_instance_index: Some(slot.index.to_string()),
        protocol: Some(route.protocol.clone()).filter(|protocol| !protocol.is_empty()),
        route_service_url: route.route_service_url.clone(),
        endpoint_updated_at_ns: Some(since.as_nanos()),
        tags,
        options: route.loadbalancing.clone().map(|loadbalancing| Options { loadbalancing: Some(loadbalancing) }),
        ..Register::default()
    })
}

/// What to take away and what to add, from old routes to new ones. A route whose options changed is only added again.
pub fn difference(old: &BTreeSet<Route>, new: &BTreeSet<Route>) -> (Vec<Route>, Vec<Route>) {
    let same_place = |route: &Route, other: &Route| route.uri == other.uri && route.port == other.port;
    let gone = old.iter().filter(|route| !new.iter().any(|other| same_place(route, other))).cloned().collect();
    let added = new.difference(old).cloned().collect();
    (gone, added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::core::tests::{launch, place, route, slot};

    #[test]
    fn a_registration_names_container_or_host() {
        let at = |to| {
            let register = register(to, &slot(), &launch(), &place(), &route("a.example"), Timestamp(7)).unwrap();
            (register.host, register.port.unwrap())
        };
        assert_eq!(at(RouteTo::Container), ("10.1.0.2".into(), 8080));
        assert_eq!(at(RouteTo::Host), ("192.0.2.1".into(), 61001));
    }

    #[test]
    fn a_registration_carries_all_that_routers_and_logs_need() {
        let register = register(RouteTo::Container, &slot(), &launch(), &place(), &route("a.example"), Timestamp(7)).unwrap();
        assert_eq!(register.uris, ["a.example"]);
        assert_eq!(register.private_instance_id, Some(slot().instance.to_string()));
        assert_eq!(register.private_instance_index.as_deref(), Some("0"));
        assert_eq!(register.endpoint_updated_at_ns, Some(7_000));
        for tag in
            ["component", "process_id", "process_type", "source_id", "instance_id", "app_name", "space_name", "organization_name"]
        {
            assert!(register.tags.contains_key(tag), "{tag}");
        }
    }

    #[test]
    fn a_route_with_new_options_is_added_again_and_not_taken_away() {
        let old = BTreeSet::from([route("a"), route("b")]);
        let changed = Route { loadbalancing: Some("least-connection".into()), ..route("a") };
        let (gone, added) = difference(&old, &BTreeSet::from([changed.clone(), route("c")]));
        assert_eq!(gone, [route("b")]);
        assert_eq!(added, [changed, route("c")]);
    }
}
