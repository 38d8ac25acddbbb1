//! The records of this DEA's slots: what they should say, and what it means when they say something else.

use super::{Core, Effect, Told, Written};
use crate::domain::{
    claim,
    phase::{End, Phase},
};
use messages::claims::{Holder, InstanceRecord, InstanceState};
use types::{InstanceId, Timestamp};

impl Core {
    pub(super) fn set(&mut self, id: InstanceId, phase: Phase, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.phase.state() != phase.state() {
            instance.since = now;
            out.push(Effect::Tell);
        }
        instance.phase = phase;
        let dea = self.settings.common.dea;
        if instance.wanted(dea) != instance.asserted {
            self.write(id, false, out);
        }
    }

    /// Makes the record say what this DEA knows: now, or once the write under way has ended.
    pub(super) fn write(&mut self, id: InstanceId, absent_is_rollback: bool, out: &mut Vec<Effect>) {
        let dea = self.dea();
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(wanted) = instance.wanted(dea) else { return };
        if instance.writing {
            instance.dirty = true;
        } else {
            instance.writing = true;
            instance.asserted = Some(wanted.clone());
            out.push(Effect::Write(instance.key.clone(), wanted, instance.revision, absent_is_rollback));
        }
    }

    pub(super) fn written(&mut self, id: InstanceId, outcome: Written, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.writing = false;
        let dirty = std::mem::take(&mut instance.dirty);
        match outcome {
            Written::Done { revision } => instance.revision = if revision == 0 { instance.revision } else { revision },
            Written::Lost => return self.end(id, End::Lost, now, out),
            Written::Absent if instance.phase != Phase::Releasing => out.push(Effect::Resync),
            Written::Absent => {}
        }
        if dirty {
            self.write(id, false, out);
        } else if instance.phase == Phase::Releasing {
            self.forget(id, out);
            out.push(Effect::Tell);
        }
    }

    pub(super) fn record(&mut self, key: &str, told: Told, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(all) = &mut self.told {
            all.insert(key.to_owned(), told.revision());
        }
        let dea = self.dea();
        let holders: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| i.key == key && !i.phase.lost() && !matches!(i.phase, Phase::Claiming { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in holders {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let newer = told.revision() > instance.revision;
            match &told {
                Told::Put(record, revision) if claim::names(record, id) => {
                    instance.revision = instance.revision.max(*revision);
                    let replaced = |owner: &Holder| owner.instance != id && owner.state == InstanceState::Running;
                    let wanted = instance.wanted(dea);
                    if record.owner.as_ref().is_some_and(replaced) && instance.phase.serves() {
                        self.end(id, End::Stop { reason: "its replacement runs".into() }, now, out);
                    } else if newer
                        && wanted.is_some_and(|wanted| claim::step(Some(record), &wanted, false) != claim::Step::Nothing)
                    {
                        self.write(id, false, out);
                    }
                }
                _ if newer && instance.phase == Phase::Releasing => instance.revision = told.revision(),
                _ if newer => self.end(id, End::Lost, now, out),
                _ => {} // old news, or a store that was rolled back: `synced` tells which
            }
        }
        if let Told::Put(record, _) = &told {
            self.disown(key, record, out);
        }
    }

    /// Removes what a record says of instances that this DEA does not have.
    pub(super) fn disown(&self, key: &str, record: &InstanceRecord, out: &mut Vec<Effect>) {
        let holders = [&record.owner, &record.predecessor].into_iter().flatten();
        let unknown = holders.filter(|holder| holder.dea == self.dea() && !self.instances.contains_key(&holder.instance));
        out.extend(unknown.map(|holder| Effect::Disown(key.to_owned(), holder.instance)));
    }

    /// Everything was told: what was told with an older revision than seen before, or not at all, was rolled back, and what
    /// this DEA holds is asserted anew. (A removal is told for good, so that silence is not one.)
    pub(super) fn synced(&mut self, out: &mut Vec<Effect>) {
        let Some(told) = self.told.take() else { return };
        let held: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| !i.phase.lost() && !matches!(i.phase, Phase::Claiming { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            let Some(instance) = self.instances.get(&id) else { continue };
            if told.get(&instance.key).is_none_or(|revision| *revision < instance.revision) {
                self.write(id, true, out);
            }
        }
    }
}
