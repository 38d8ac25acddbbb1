//! Routes of instances that serve.

use super::{Core, Effect, FAREWELLS, Farewell};
use crate::domain::{claim::Slot, container, routes};
use cloud_controller_client::{Route, RoutesAnswer};
use messages::router::Register;
use std::collections::BTreeSet;
use types::{InstanceId, VersionId};
use warden_client::Endpoint;

impl Core {
    pub(super) fn register_of(&self, id: InstanceId, route: &Route) -> Option<Register> {
        let instance = self.instances.get(&id)?;
        let (launch, place) = (instance.launch.as_ref()?, instance.place.as_ref()?);
        routes::register(
            self.settings.route_to,
            &instance.slot,
            launch,
            place,
            route,
            instance.running_since.unwrap_or(instance.since),
        )
    }

    pub(super) fn register(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let all: Vec<_> = instance.routes.iter().filter_map(|route| self.register_of(id, route)).collect();
        self.tell_register(all, out);
    }

    pub(super) fn tell_register(&mut self, all: Vec<Register>, out: &mut Vec<Effect>) {
        let same = |a: &Register, b: &Register| (&a.host, a.port, &a.uris) == (&b.host, b.port, &b.uris);
        self.farewells.retain(|farewell| !all.iter().any(|register| same(register, &farewell.register)));
        out.extend(all.into_iter().map(|register| Effect::Register(Box::new(register))));
    }

    pub(super) fn unregister_all(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let all: Vec<_> = instance.routes.iter().filter_map(|route| self.register_of(id, route)).collect();
        self.unregister(all, out);
    }

    pub(super) fn unregister(&mut self, all: Vec<Register>, out: &mut Vec<Effect>) {
        for register in all {
            out.push(Effect::Unregister(Box::new(register.clone())));
            self.farewells.push(Farewell { register, left: FAREWELLS });
        }
    }

    pub(super) fn farewells(&mut self, out: &mut Vec<Effect>) {
        for farewell in &mut self.farewells {
            farewell.left -= 1;
            out.push(Effect::Unregister(Box::new(farewell.register.clone())));
        }
        self.farewells.retain(|farewell| farewell.left > 0);
    }

    pub(super) fn ask_routes(&self, which: impl Fn(&Slot) -> bool, out: &mut Vec<Effect>) {
        let live = self.instances.values().filter(|i| i.launch.is_some() && i.phase.reserves() && which(&i.slot));
        let versions: BTreeSet<VersionId> = live.map(|i| i.slot.version).collect();
        if !versions.is_empty() {
            out.push(Effect::AskRoutes(versions.into_iter().collect()));
        }
    }

    pub(super) fn routes(&mut self, answer: RoutesAnswer, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.instances.keys().copied().collect();
        for id in ids {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let version = instance.slot.version;
            let Some(new) = answer.routes.get(&version) else { continue };
            instance.egress.wanted = container::endpoints(answer.egress.get(&version).map_or(&[][..], |open| open));
            self.set_egress(id, out);
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let new: BTreeSet<Route> = new.iter().cloned().collect();
            let (gone, added) = routes::difference(&instance.routes, &new);
            instance.routes = new;
            if !instance.phase.serves() {
                continue;
            }
            let of = |core: &Self, all: &[Route]| all.iter().filter_map(|route| core.register_of(id, route)).collect::<Vec<_>>();
            let (gone, added) = (of(self, &gone), of(self, &added));
            self.unregister(gone, out);
            self.tell_register(added, out);
        }
    }

    /// Has Warden know what a container may reach, if that is something else than it does.
    pub(super) fn set_egress(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let egress = &mut instance.egress;
        if instance.place.is_some() && !egress.telling && egress.known.as_ref() != Some(&egress.wanted) {
            egress.telling = true;
            out.push(Effect::SetEgress(id, egress.wanted.clone()));
        }
    }

    /// What Warden refuses is tried again with the next answer of the cloud controller.
    pub(super) fn egress_set(&mut self, id: InstanceId, outcome: Option<Vec<Endpoint>>, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.egress.telling = false;
        if outcome.is_some() {
            instance.egress.known = outcome;
            self.set_egress(id, out);
        }
    }
}
