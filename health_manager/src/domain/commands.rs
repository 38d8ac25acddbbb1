//! Requests to DEAs: asking, answers, and what is done when none comes.

use super::{Core, Effect, Outcome, SlotId, Written, claims::Wanted};
use cloud_controller_client::DesiredProcess;
use messages::{
    claims::InstanceRecord,
    dea::{StartInstance, StopInstance},
};
use std::{collections::BTreeMap, time::Duration};
use types::{AppId, DeaId, InstanceId, ProcessId, Timestamp};

/// How long a DEA that refused a slot is not asked for it again.
pub(super) const REFUSAL_LASTS: Duration = Duration::from_secs(10);
/// A request without any news for so long has an unknown outcome.
const NO_NEWS: Duration = Duration::from_secs(15);
/// How often the text about a missing place is brought up to date.
const RETELL: Duration = Duration::from_secs(30);

/// What is under way for a slot; nothing else is begun for it meanwhile.
#[derive(Debug)]
pub(super) enum Pending {
    /// A DEA was asked to start an instance.
    Asked { dea: DeaId, instance: InstanceId, at: Timestamp, over: u64, process: ProcessId, app: AppId },
    /// It accepted, or nobody knows whether it did: the bucket or its heartbeats will tell.
    Open { dea: DeaId, instance: InstanceId, at: Timestamp, over: u64, process: ProcessId, app: AppId },
    /// The record is being written.
    Writing { at: Timestamp, over: u64, process: Option<ProcessId>, then_stop: Option<(DeaId, InstanceId)> },
}

impl Pending {
    /// An instance of this process may come of it.
    pub(super) fn starts(&self, of: ProcessId) -> bool {
        matches!(self, Self::Asked { process, .. } | Self::Open { process, .. } if *process == of)
    }
}

impl Core {
    /// Asks the best DEA, or says why there is none.
    pub(super) fn start(&mut self, process: ProcessId, slot: SlotId, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(Wanted::Yes(wanted)) = self.processes.get(&process).map(|process| &process.wanted) else { return };
        let wanted = wanted.clone();
        let refused: BTreeMap<DeaId, String> = self.refused.get(&slot).map_or_else(BTreeMap::new, |by| {
            by.iter().filter(|(_, (at, _))| now.since(*at) < REFUSAL_LASTS).map(|(dea, (_, why))| (*dea, why.clone())).collect()
        });
        let ask = self.ask_for(&wanted);
        let over = self.slot(slot).map_or(0, |slot| slot.revision);
        let dea = match self.fleet.place(&ask, &refused, now, &mut self.rng) {
            Ok(dea) => dea,
            Err(no) => {
                self.unplaced.insert(process);
                self.timers.insert((now + Duration::from_secs(5), process));
                return self.tell_unplaced(&wanted, slot, no.why, now, effects);
            }
        };
        let room = ask.room_on(dea);
        let instance = InstanceId::random(&mut self.rng);
        self.fleet.ask(dea, instance.uuid(), room);
        self.fleet.count(wanted.app, dea);
        self.pending.insert(slot, Pending::Asked { dea, instance, at: now, over, process, app: wanted.app });
        self.in_flight += 1;
        let start = StartInstance {
            app: wanted.app,
            process,
            process_type: wanted.process_type,
            version: wanted.version,
            index: slot.1,
            instance,
            memory_mb: wanted.memory_mb,
            disk_mb: wanted.disk_mb,
            stack: wanted.stack,
            revision: over,
            fence,
        };
        effects.push(Effect::Start { dea, start });
    }

    /// Writes into the slot why nobody runs it; but a serving instance is not written about.
    fn tell_unplaced(&mut self, wanted: &DesiredProcess, id: SlotId, why: String, now: Timestamp, effects: &mut Vec<Effect>) {
        // Right after the start nobody has been heard yet: that is not worth a word.
        if now.since(self.fleet.listening_since()) < Duration::from_secs(5) {
            return;
        }
        let (record, revision) = match self.slot(id) {
            Some(slot) => {
                let told = &slot.record.unplaced;
                let serves = super::claims::holders(&slot.record).any(|holder| super::claims::is_live(holder.state));
                let recent = told.is_some() && now.since(slot.told) < RETELL;
                if serves || recent || told.as_ref() == Some(&why) {
                    return;
                }
                (InstanceRecord { unplaced: Some(why), ..slot.record.clone() }, slot.revision)
            }
            None => {
                let record = InstanceRecord {
                    app: wanted.app,
                    process: wanted.process,
                    process_type: wanted.process_type.clone(),
                    version: wanted.version,
                    index: id.1,
                    owner: None,
                    predecessor: None,
                    crash_count: 0,
                    last_exit: None,
                    unplaced: Some(why),
                };
                (record, 0)
            }
        };
        self.writing(id, None, now);
        effects.push(Effect::Write { record: Box::new(record), revision });
    }

    /// Asks a DEA to stop an instance.
    pub(super) fn stop(
        &mut self,
        dea: DeaId,
        instance: InstanceId,
        reason: &str,
        fence: u64,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if self.stops.get(&instance).is_some_and(|at| now.since(*at) < Duration::from_secs(15)) {
            return;
        }
        self.stops.insert(instance, now);
        effects.push(Effect::Stop { dea, stop: StopInstance { instance, reason: reason.into(), fence } });
    }

    pub(super) fn stopped(&mut self, instance: InstanceId, outcome: &Outcome) {
        if matches!(outcome, Outcome::NotSent) {
            self.stops.remove(&instance);
        }
    }

    /// The record of this slot is being written by us.
    pub(super) fn writing(&mut self, slot: SlotId, then_stop: Option<(DeaId, InstanceId)>, now: Timestamp) {
        let over = self.slot(slot).map_or(0, |slot| slot.revision);
        let process = self.versions.get(&slot.0).copied();
        self.pending.insert(slot, Pending::Writing { at: now, over, process, then_stop });
    }

    pub(super) fn wrote(&mut self, slot: SlotId, outcome: Written, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(Pending::Writing { then_stop, process, .. }) = self.pending.get_mut(&slot) else { return };
        let (then_stop, process) = (then_stop.take(), *process);
        match outcome {
            // The watch tells the rest.
            Written::Yes(_) => {
                if let (Some((dea, instance)), Some(fence)) = (then_stop, self.acting(now)) {
                    self.stop(dea, instance, "replaced", fence, now, effects);
                }
            }
            Written::Conflict => {
                self.pending.remove(&slot);
                self.dirty.extend(process);
            }
            Written::Unknown => {
                self.pending.remove(&slot);
                self.timers.extend(process.map(|process| (now + Duration::from_secs(1), process)));
            }
        }
    }

    pub(super) fn started(
        &mut self,
        slot: SlotId,
        instance: InstanceId,
        dea: DeaId,
        outcome: Outcome,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let taken = !matches!(outcome, Outcome::Refused(_) | Outcome::NotSent);
        self.fleet.answered(dea, instance.uuid(), taken);
        let Some(Pending::Asked { instance: asked, over, process, at, app, .. }) = self.pending.get(&slot) else { return };
        if *asked != instance {
            return;
        }
        let (over, process, at, app) = (*over, *process, *at, *app);
        match outcome {
            Outcome::Accepted | Outcome::Unknown => {
                if outcome == Outcome::Unknown {
                    effects.push(Effect::Locate);
                }
                self.in_flight -= 1;
                self.pending.insert(slot, Pending::Open { dea, instance, at, over, process, app });
            }
            Outcome::Refused(why) => self.not_taken(slot, dea, why, now),
            Outcome::NotSent => self.not_taken(slot, dea, "the DEA does not answer".into(), now),
        }
    }

    fn not_taken(&mut self, slot: SlotId, dea: DeaId, why: String, now: Timestamp) {
        self.refused.entry(slot).or_default().insert(dea, (now, why));
        self.close(slot);
    }

    /// Ends what is pending for a slot, and judges its process again.
    fn close(&mut self, slot: SlotId) {
        match self.pending.remove(&slot) {
            Some(Pending::Asked { dea, process, app, .. }) => {
                self.in_flight -= 1;
                self.fleet.uncount(app, dea);
                self.dirty.insert(process);
            }
            Some(Pending::Open { dea, process, app, .. }) => {
                self.fleet.uncount(app, dea);
                self.dirty.insert(process);
            }
            Some(Pending::Writing { process, .. }) => self.dirty.extend(process),
            None => {}
        }
    }

    pub(super) fn asked_starts(&self) -> usize {
        self.pending.values().filter(|pending| matches!(pending, Pending::Asked { .. })).count()
    }

    /// The bucket told a newer revision of this slot: whatever was begun over an older one is decided.
    pub(super) fn record_told(&mut self, slot: SlotId, revision: u64) {
        let decided = match self.pending.get(&slot) {
            Some(Pending::Asked { over, .. } | Pending::Open { over, .. } | Pending::Writing { over, .. }) => revision > *over,
            None => false,
        };
        if decided {
            self.close(slot);
        }
        self.refused.remove(&slot);
    }

    /// Decides what nobody answered for too long.
    pub(super) fn expire_pending(&mut self, now: Timestamp) {
        let late: Vec<SlotId> = self
            .pending
            .iter()
            .filter(|(_, pending)| match pending {
                Pending::Asked { at, .. } | Pending::Writing { at, .. } => now.since(*at) >= NO_NEWS,
                Pending::Open { dea, instance, at, .. } => self.did_not_take(*dea, *instance, *at, now),
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in late {
            match self.pending.get(&slot) {
                Some(&Pending::Asked { dea, instance, at, over, process, app }) => {
                    self.in_flight -= 1;
                    self.fleet.answered(dea, instance.uuid(), true);
                    self.pending.insert(slot, Pending::Open { dea, instance, at, over, process, app });
                }
                _ => self.close(slot),
            }
        }
    }

    /// The DEA has told since that it does not hold the instance; or it fell silent. Trying again is safe: both tries are
    /// over the same revision, and only one can claim it.
    fn did_not_take(&self, dea: DeaId, instance: InstanceId, asked: Timestamp, now: Timestamp) -> bool {
        let Some(dea) = self.fleet.deas.get(&dea) else { return true };
        let told_without = dea
            .last
            .as_ref()
            .is_some_and(|beat| beat.at > asked + Duration::from_secs(6) && !beat.instances.contains_key(&instance));
        told_without || dea.silent || now.since(asked) >= Duration::from_secs(60)
    }
}
