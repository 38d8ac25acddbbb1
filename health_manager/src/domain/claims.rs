//! What the bucket tells, and the books that follow from it: who holds what, and how many of each app where.

use super::{ClaimsChange, Core, SlotId, fleet::Room};
use cloud_controller_client::DesiredProcess;
use messages::claims::{Holder, InstanceRecord, InstanceState, WorkRecord};
use std::collections::BTreeMap;
use types::{DeaId, InstanceId, Timestamp, VersionId};

/// One process: what is wanted, and all slots of all its versions.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) wanted: Wanted,
    pub(super) slots: BTreeMap<SlotId, Slot>,
}

#[derive(Debug, Default)]
pub(super) enum Wanted {
    /// The feed never mentioned it.
    #[default]
    Unknown,
    No,
    Yes(DesiredProcess),
}

impl Process {
    /// The version that is wanted.
    pub(super) fn version(&self) -> Option<VersionId> {
        match &self.wanted {
            Wanted::Yes(wanted) => Some(wanted.version),
            _ => None,
        }
    }
    pub(super) fn has_slots_of(&self, version: VersionId) -> bool {
        self.slots.range((version, 0)..=(version, u32::MAX)).next().is_some()
    }
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.wanted, Wanted::Unknown)
    }
    pub(super) fn wants(&self, (version, index): SlotId) -> bool {
        matches!(&self.wanted, Wanted::Yes(wanted) if wanted.version == version && index < wanted.instances)
    }
}

/// One record of the bucket.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) record: InstanceRecord,
    pub(super) revision: u64,
    /// When this revision was told.
    pub(super) told: Timestamp,
    epoch: u64,
}

impl Slot {
    pub(super) fn names(&self, instance: InstanceId) -> bool {
        holders(&self.record).any(|holder| holder.instance == instance)
    }
    pub(super) fn holders_on(&self, dea: DeaId) -> impl Iterator<Item = &Holder> {
        holders(&self.record).filter(move |holder| holder.dea == dea && is_live(holder.state))
    }
}

/// One staging or task.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) record: WorkRecord,
    pub(super) revision: u64,
    pub(super) told: Timestamp,
    epoch: u64,
}

pub(super) fn holders(record: &InstanceRecord) -> impl Iterator<Item = &Holder> {
    record.owner.iter().chain(&record.predecessor)
}

/// It has a container, or soon will.
pub(super) fn is_live(state: InstanceState) -> bool {
    state != InstanceState::Crashed
}

impl Core {
    pub(super) fn claims_changed(&mut self, change: ClaimsChange, now: Timestamp) {
        match change {
            ClaimsChange::Reset => {
                self.claims_synced = false;
                self.epoch += 1;
            }
            ClaimsChange::Instance(record, revision) => self.put(*record, revision, now),
            ClaimsChange::NoInstance(slot) => self.remove(slot, now),
            ClaimsChange::Work(id, record, revision) => {
                self.work_taken(id, record.dea);
                self.works.insert(id, Work { record, revision, told: now, epoch: self.epoch });
            }
            ClaimsChange::NoWork(id) => drop(self.works.remove(&id)),
            ClaimsChange::Synced => self.synced(now),
        }
    }

    /// What was not told again since the reset is gone.
    fn synced(&mut self, now: Timestamp) {
        let epoch = self.epoch;
        let gone: Vec<SlotId> = self
            .processes
            .values()
            .flat_map(|process| &process.slots)
            .filter(|(_, slot)| slot.epoch != epoch)
            .map(|(id, _)| *id)
            .collect();
        for slot in gone {
            self.remove(slot, now);
            // It was not seen to be removed: what heartbeats say of it counts.
            self.vacated.remove(&slot);
        }
        self.works.retain(|_, work| work.epoch == epoch);
        self.claims_synced = true;
    }

    fn put(&mut self, record: InstanceRecord, revision: u64, now: Timestamp) {
        let id = (record.version, record.index);
        let process = record.process;
        self.versions.insert(record.version, process);
        let slot = Slot { record, revision, told: now, epoch: self.epoch };
        let old = self.processes.entry(process).or_default().slots.insert(id, slot);
        self.rebook(id, old.map(|slot| slot.record), now);
        self.record_told(id, revision);
        self.vacated.remove(&id);
        self.dirty.insert(process);
    }

    fn remove(&mut self, id: SlotId, now: Timestamp) {
        let Some(process) = self.versions.get(&id.0).copied() else { return };
        let Some(entry) = self.processes.get_mut(&process) else { return };
        let old = entry.slots.remove(&id);
        let obsolete = !entry.has_slots_of(id.0) && entry.version() != Some(id.0);
        self.rebook(id, old.map(|slot| slot.record), now);
        self.record_told(id, u64::MAX);
        self.vacated.insert(id, now);
        self.dirty.insert(process);
        if obsolete {
            self.versions.remove(&id.0);
        }
    }

    /// Brings the books in line after a record changed from `old` to what is there now.
    fn rebook(&mut self, id: SlotId, old: Option<InstanceRecord>, now: Timestamp) {
        let new = self.slot(id).map(|slot| slot.record.clone());
        let live = |record: &Option<InstanceRecord>| -> Vec<Holder> {
            record.iter().flat_map(holders).filter(|holder| is_live(holder.state)).cloned().collect()
        };
        let Some(app) = old.as_ref().or(new.as_ref()).map(|record| record.app) else { return };
        let (before, after) = (live(&old), live(&new));
        for holder in &before {
            if !after.iter().any(|other| other.instance == holder.instance) {
                self.fleet.uncount(app, holder.dea);
                let room = Room { memory_mb: holder.memory_mb, disk_mb: holder.disk_mb };
                self.fleet.release(holder.dea, room);
                self.dirty.append(&mut self.unplaced);
                self.builds_wait_no_more();
            }
        }
        for holder in &after {
            if !before.iter().any(|other| other.instance == holder.instance) {
                self.fleet.know(holder.dea, now);
                self.fleet.count(app, holder.dea);
            }
            self.no_orphan(holder.dea, holder.instance);
        }
        for holder in before.iter().filter(|old| !after.iter().any(|new| new.dea == old.dea)) {
            if let Some(held) = self.holdings.get_mut(&holder.dea) {
                held.remove(&id);
                if held.is_empty() {
                    self.holdings.remove(&holder.dea);
                }
            }
        }
        for holder in &after {
            self.holdings.entry(holder.dea).or_default().insert(id);
        }
    }
}
