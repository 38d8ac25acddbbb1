//! Taking back what is here after a restart, finding what events did not tell, emptying the host.

use super::{Core, Effect, Egress, Instance, Recovery, Told, Work};
use crate::domain::{
    claim::{self, Slot},
    container::{self, Kind, Place},
    phase::{End, Phase},
    room::Share,
};
use cloud_controller_client::LaunchSpec;
use messages::claims::{Exit, Holder, InstanceRecord, InstanceState};
use std::collections::BTreeSet;
use types::Timestamp;
use warden_client::ContainerInfo;

impl Core {
    pub(super) fn recover(&mut self, found: Recovery, now: Timestamp, out: &mut Vec<Effect>) {
        let newest = found.records.values().map(Told::revision).max().unwrap_or(0);
        for build in &found.works {
            self.works.insert(*build, Work { app: None, share: Share::default(), tickets: vec![] });
            out.push(Effect::RunWork(*build));
        }
        for info in &found.containers {
            match container::kind(self.dea(), &info.labels) {
                Some(Kind::Instance { slot, launch, revision }) => {
                    let told = found.records.get(&slot.key());
                    match told {
                        Some(Told::Put(record, at)) if claim::names(record, slot.instance) => {
                            self.adopt(info, *slot, *launch, Some(record), *at, now, out);
                        }
                        // A store that has not reached the revision of our claim has lost it: our word is the newer one.
                        _ if newest < revision => self.adopt(info, *slot, *launch, None, revision, now, out),
                        _ => out.push(Effect::DestroyOrphan(info.handle.clone())),
                    }
                }
                Some(Kind::Staging { build, app }) => match self.works.get_mut(&build) {
                    Some(work) => work.app = Some(app),
                    None => out.push(Effect::DestroyOrphan(info.handle.clone())),
                },
                None => {}
            }
        }
        for (key, told) in &found.records {
            let Told::Put(record, revision) = told else { continue };
            if let Some(owner) = &record.owner
                && owner.dea == self.dea()
                && owner.state == InstanceState::Crashed
                && !self.instances.contains_key(&owner.instance)
            {
                self.remember_crash(record, owner, *revision);
            }
            self.disown(key, record, out);
        }
        out.push(Effect::Tell);
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of one container")]
    pub(super) fn adopt(
        &mut self,
        info: &ContainerInfo,
        slot: Slot,
        launch: LaunchSpec,
        record: Option<&InstanceRecord>,
        revision: u64,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let id = slot.instance;
        let holders = record.into_iter().flat_map(|record| [&record.owner, &record.predecessor]).flatten();
        let holder = holders.into_iter().find(|holder| holder.instance == id).cloned();
        let state = holder.as_ref().map_or(InstanceState::Running, |holder| holder.state);
        let since = holder.as_ref().map_or(Timestamp(info.created_at), |holder| holder.since);
        let phase = match state {
            InstanceState::Starting => Phase::Probing,
            InstanceState::Running => Phase::Running,
            InstanceState::Evacuating => Phase::Evacuating,
            InstanceState::Stopping => Phase::Stopping(End::Stop { reason: "going on with a stop".into() }),
            InstanceState::Crashed => {
                let unknown = Exit { instance: id, at: since, status: None, reason: "unknown".into() };
                let last = record.and_then(|record| record.last_exit.clone()).unwrap_or(unknown);
                Phase::Destroying(End::Crash(last))
            }
        };
        let mut instance = Instance::new(slot, phase, since);
        instance.routes = launch.routes.iter().cloned().collect();
        instance.launch = Some(launch);
        instance.place = Some(Place::from(info));
        instance.egress = Egress { wanted: info.egress.clone(), known: Some(info.egress.clone()), telling: false };
        instance.revision = revision;
        instance.running_since = instance.phase.serves().then_some(since);
        if let Some(record) = record {
            instance.crash_count = record.crash_count;
            instance.last_exit = record.last_exit.clone();
        }
        let phase = instance.phase.clone();
        self.instances.insert(id, instance);
        if record.is_none() {
            self.write(id, true, out);
        }
        match phase {
            Phase::Stopping(_) => out.push(Effect::StopContainer(id, self.grace(id))),
            Phase::Destroying(_) => out.push(Effect::Destroy(id)),
            _ if info.exit.is_some() => {}
            Phase::Probing => self.probe(id, false, out),
            _ => {
                self.register(id, out);
                self.probe(id, true, out);
            }
        }
        if let Some(exit) = &info.exit {
            self.exited(&info.handle, exit, now, out);
        }
    }

    /// A crashed instance that is only a record: kept, so that it can be told and taken away.
    pub(super) fn remember_crash(&mut self, record: &InstanceRecord, owner: &Holder, revision: u64) {
        let slot = Slot {
            app: record.app,
            process: record.process,
            process_type: record.process_type.clone(),
            version: record.version,
            index: record.index,
            instance: owner.instance,
            memory_mb: owner.memory_mb,
            disk_mb: owner.disk_mb,
            stack: String::new(),
        };
        let unknown = || Exit { instance: owner.instance, at: owner.since, status: None, reason: "unknown".into() };
        let mut instance = Instance::new(slot, Phase::Crashed(record.last_exit.clone().unwrap_or_else(unknown)), owner.since);
        instance.revision = revision;
        instance.crash_count = record.crash_count;
        instance.last_exit = record.last_exit.clone();
        self.instances.insert(owner.instance, instance);
    }

    /// Finds what events did not tell. Missing and superfluous containers count when they were found so twice in a row:
    /// a list may be older than the newest answers.
    pub(super) fn compare_containers(&mut self, all: &[ContainerInfo], now: Timestamp, out: &mut Vec<Effect>) {
        let mut orphans = BTreeSet::new();
        for info in all {
            let known = match container::kind(self.dea(), &info.labels) {
                Some(Kind::Instance { slot, .. }) => self.instances.get(&slot.instance).is_some_and(|i| i.phase.has_container()),
                Some(Kind::Staging { build, .. }) => self.works.contains_key(&build),
                None => true,
            };
            if !known {
                orphans.insert(info.handle.clone());
            } else if let Some(exit) = &info.exit {
                self.exited(&info.handle, exit, now, out);
            }
        }
        out.extend(orphans.intersection(&self.orphans).map(|handle| Effect::DestroyOrphan(handle.clone())));
        self.orphans = orphans;
        let here: BTreeSet<&str> = all.iter().map(|info| info.handle.as_str()).collect();
        let mut gone = vec![];
        for instance in self.instances.values_mut() {
            let handle = instance.slot.handle();
            let made = matches!(
                instance.phase,
                Phase::Probing | Phase::Running | Phase::Evacuating | Phase::Draining(_) | Phase::Stopping(_)
            );
            instance.missing = if made && !here.contains(handle.as_str()) { instance.missing.saturating_add(1) } else { 0 };
            if instance.missing >= 2 {
                gone.push(handle);
            }
        }
        for handle in gone {
            self.gone(&handle, now, out);
        }
    }

    pub(super) fn evacuate(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.evacuating = true;
        out.push(Effect::Tell);
        if self.settings.evacuation.is_zero() {
            return self.stop_all(now, out);
        }
        let ids: Vec<_> = self.instances.keys().copied().collect();
        for id in ids {
            let Some(instance) = self.instances.get(&id) else { continue };
            match instance.phase.evacuate() {
                // Its replacement cannot run while it has the volume.
                Ok(_) if instance.has_volume() => {
                    self.end(id, End::Stop { reason: "this host is being emptied".into() }, now, out);
                }
                Ok(next) => self.set(id, next, now, out),
                Err(_) if instance.phase.crash().is_none() => {
                    self.end(id, End::Stop { reason: "this host is being emptied".into() }, now, out);
                }
                Err(_) => {}
            }
        }
        out.push(Effect::AwaitEvacuation(self.settings.evacuation));
    }

    pub(super) fn stop_all(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let live: Vec<_> = self.instances.iter().filter(|(_, i)| i.phase.crash().is_none()).map(|(id, _)| *id).collect();
        for id in live {
            self.end(id, End::Stop { reason: "this host is being emptied".into() }, now, out);
        }
        out.extend(self.works.keys().copied().map(Effect::LeaveWork));
    }
}
