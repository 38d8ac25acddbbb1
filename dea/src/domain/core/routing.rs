//! Routes of instances that serve.

use super::{Core, Effect, FAREWELLS, Farewell};
use crate::domain::{claim::Slot, routes};
use cloud_controller_client::{Route, RoutesAnswer};
use messages::router::Register;
use std::collections::BTreeSet;
use types::{InstanceId, VersionId};

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
            let Some(new) = answer.routes.get(&instance.slot.version) else { continue };
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
}
