//! What one process needs, from all that is known of it. Judging changes nothing; the decisions are carried out after.

use super::{
    Core, Effect, SlotId, backoff,
    claims::{Process, Slot, Wanted, is_live},
    fleet::{Ask, Room},
};
use cloud_controller_client::DesiredProcess;
use messages::claims::{Holder, InstanceRecord, InstanceState};
use std::time::Duration;
use types::{DeaId, InstanceId, ProcessId, Timestamp, VersionId};
use uuid::Uuid;

/// After so many crashes of a first start, another DEA may have more luck.
const STAY: u32 = 4;

/// What to do about one slot.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// Start an instance over the record as it stands.
    Start,
    /// Stop this instance.
    Stop { dea: DeaId, instance: InstanceId, reason: &'static str },
    /// Write the record anew; once that is done, stop this instance.
    Write { record: Box<InstanceRecord>, then_stop: Option<(DeaId, InstanceId)> },
    /// The record says nothing that anybody needs.
    Remove,
    /// Look again then.
    Wait(Timestamp),
}

/// A start that waits for its place.
struct Want {
    /// Apps with little running come first, then low indices.
    rank: (u32, u32),
    process: ProcessId,
    slot: SlotId,
}

impl Core {
    /// Judges what is marked and carries out what follows.
    pub(super) fn tend_processes(&mut self, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.in_flight >= self.settings.max_in_flight {
            return;
        }
        let fresh = self.is_fresh(now);
        let mut wants = vec![];
        for id in std::mem::take(&mut self.dirty) {
            self.judged += 1;
            let Some(process) = self.processes.get(&id) else { continue };
            if matches!(process.wanted, Wanted::No) && process.slots.is_empty() {
                // Kept while the feed is young: "known and unwanted" lets strays be stopped. One entry is small.
                continue;
            }
            let decisions = self.judge(process, fresh, now);
            let running = running_share(process);
            for (slot, decision) in decisions {
                match decision {
                    Decision::Start => wants.push(Want { rank: (running, slot.1), process: id, slot }),
                    Decision::Wait(until) => drop(self.timers.insert((until.max(now + Duration::from_millis(1)), id))),
                    other => self.carry_out(slot, other, fence, now, effects),
                }
            }
        }
        wants.sort_by_key(|want| want.rank);
        for want in wants {
            if self.in_flight >= self.settings.max_in_flight {
                self.dirty.insert(want.process);
                continue;
            }
            self.start(want.process, want.slot, fence, now, effects);
        }
    }

    fn carry_out(&mut self, slot: SlotId, decision: Decision, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        let revision = self.slot(slot).map_or(0, |slot| slot.revision);
        match decision {
            Decision::Stop { dea, instance, reason } => self.stop(dea, instance, reason, fence, now, effects),
            Decision::Write { record, then_stop } => {
                self.writing(slot, then_stop, now);
                effects.push(Effect::Write { record, revision });
            }
            Decision::Remove => {
                self.writing(slot, None, now);
                effects.push(Effect::Remove { slot, revision });
            }
            Decision::Start | Decision::Wait(_) => {}
        }
    }

    /// `fresh`: destructive decisions are allowed.
    fn judge(&self, process: &Process, fresh: bool, now: Timestamp) -> Vec<(SlotId, Decision)> {
        let mut decisions = vec![];
        if let Wanted::Yes(wanted) = &process.wanted {
            let other = has_volume(wanted).then(|| self.awaits_another(process, wanted, now)).flatten();
            for index in 0..wanted.instances {
                let id = (wanted.version, index);
                if !self.pending.contains_key(&id) {
                    let from = decisions.len();
                    self.judge_wanted(id, process.slots.get(&id), wanted, fresh, now, &mut decisions);
                    if let Some(wait) = &other {
                        decisions[from..]
                            .iter_mut()
                            .filter(|(_, decision)| *decision == Decision::Start)
                            .for_each(|(_, start)| *start = wait.clone());
                    }
                }
            }
        }
        let extra_may_go = fresh && (process.is_known() || self.unknown_may_go);
        if extra_may_go {
            for (id, slot) in process.slots.iter().filter(|(id, _)| !process.wants(**id)) {
                if !self.pending.contains_key(id) {
                    self.judge_extra(*id, slot, process, now, &mut decisions);
                }
            }
        }
        decisions
    }

    /// An instance of another start has the volume, or may get it any moment: until it is gone, nothing is started.
    fn awaits_another(&self, process: &Process, wanted: &DesiredProcess, now: Timestamp) -> Option<Decision> {
        let older = |version: VersionId| version != wanted.version;
        let mut others =
            process.slots.iter().filter(|(id, _)| older(id.0)).flat_map(|(_, slot)| super::claims::holders(&slot.record));
        let held = others.any(|holder| is_live(holder.state));
        let asked = self.pending.iter().any(|(id, pending)| older(id.0) && pending.starts(wanted.process));
        (held || asked).then_some(Decision::Wait(now + Duration::from_secs(1)))
    }

    /// What is asked of a DEA that is to have an instance.
    pub(super) fn ask_for<'a>(&self, wanted: &'a DesiredProcess) -> Ask<'a> {
        let room = Room { memory_mb: wanted.memory_mb, disk_mb: wanted.disk_mb };
        let mut ask = Ask { app: Some(wanted.app), room, stack: &wanted.stack, only_on: wanted.only_on, ..Ask::default() };
        if wanted.only_on.is_none() && wanted.new_volume_mb > 0 {
            ask.new_volume_mb = wanted.new_volume_mb;
            let slots = self.processes.get(&wanted.process).map(|process| &process.slots);
            for record in slots.into_iter().flatten().map(|(_, slot)| &slot.record) {
                let Some(owner) = &record.owner else { continue };
                if matches!(owner.state, InstanceState::Running | InstanceState::Evacuating) {
                    // It is noted as the volume's place any moment.
                    ask.only_on = Some(owner.dea);
                }
                ask.begun_on = Some(owner.dea);
                ask.stay = record.crash_count < STAY;
            }
        }
        ask
    }

    fn judge_wanted(
        &self,
        id: SlotId,
        slot: Option<&Slot>,
        wanted: &DesiredProcess,
        fresh: bool,
        now: Timestamp,
        decisions: &mut Vec<(SlotId, Decision)>,
    ) {
        let Some(slot) = slot else {
            decisions.push((id, self.start_unless_held(id, now)));
            return;
        };
        let record = &slot.record;
        if let Some(decision) = self.judge_predecessor(slot, fresh, now) {
            decisions.push((id, decision));
            return;
        }
        let Some(owner) = &record.owner else {
            decisions.push((id, self.start_unless_held(id, now)));
            return;
        };
        match owner.state {
            InstanceState::Crashed => {
                let crashed_at = record.last_exit.as_ref().map_or(owner.since, |exit| exit.at);
                // A clock that was set back must not make anybody wait longer than the rest itself.
                let rest = backoff::rest(record.crash_count, owner.instance);
                let due = (crashed_at + rest).min(slot.told + rest);
                decisions.push((id, if due <= now { Decision::Start } else { Decision::Wait(due) }));
            }
            InstanceState::Evacuating if record.predecessor.is_none() => decisions.push((id, Decision::Start)),
            _ if self.fleet.is_silent(owner.dea) => self.judge_silent(id, slot, owner, wanted, now, decisions),
            _ if fresh && self.vanished(owner, slot.told) => {
                let record = InstanceRecord { owner: None, ..record.clone() };
                decisions.push((id, Decision::Write { record: Box::new(record), then_stop: None }));
            }
            _ => {}
        }
    }

    /// Its DEA says nothing: replaced if there is a place, but not stopped: it may still serve, and come back.
    fn judge_silent(
        &self,
        id: SlotId,
        slot: &Slot,
        owner: &Holder,
        wanted: &DesiredProcess,
        now: Timestamp,
        decisions: &mut Vec<(SlotId, Decision)>,
    ) {
        // The claim moves a running owner to the predecessor's place, which takes one only. A serving predecessor is worth
        // more than a starting owner; that one is simply replaced.
        let crowded = slot.record.predecessor.is_some() && owner.state == InstanceState::Running;
        let ask = self.ask_for(wanted);
        if !crowded && self.fleet.has_place(&ask, now) {
            decisions.push((id, Decision::Start));
        } else {
            decisions.push((id, Decision::Wait(now + Duration::from_secs(5))));
        }
    }

    /// The predecessor goes once the owner runs; it takes its slot back if its DEA returned before that.
    fn judge_predecessor(&self, slot: &Slot, fresh: bool, now: Timestamp) -> Option<Decision> {
        let record = &slot.record;
        let predecessor = record.predecessor.as_ref()?;
        let without = || Box::new(InstanceRecord { predecessor: None, ..record.clone() });
        let dea = self.fleet.deas.get(&predecessor.dea);
        if fresh && self.vanished(predecessor, slot.told) {
            return Some(Decision::Write { record: without(), then_stop: None });
        }
        match &record.owner {
            Some(owner) if owner.state == InstanceState::Running && !self.fleet.is_silent(owner.dea) => {
                if !fresh {
                    None
                } else if self.fleet.is_silent(predecessor.dea) {
                    Some(Decision::Write { record: without(), then_stop: None })
                } else {
                    self.stop_once(predecessor, "replaced", now)
                }
            }
            owner => {
                let dea = dea.filter(|dea| !dea.silent && !dea.evacuating())?;
                let beat = dea.last.as_ref()?;
                let well = beat.instances.get(&predecessor.instance) == Some(&InstanceState::Running);
                let old = now.since(beat.at) > Duration::from_secs(15);
                if !fresh || !well || old {
                    return None;
                }
                let back = Holder { state: InstanceState::Running, ..predecessor.clone() };
                let record = InstanceRecord { owner: Some(back), unplaced: None, ..*without() };
                let then_stop = owner.as_ref().filter(|owner| is_live(owner.state)).map(|owner| (owner.dea, owner.instance));
                Some(Decision::Write { record: Box::new(record), then_stop })
            }
        }
    }

    fn judge_extra(&self, id: SlotId, slot: &Slot, process: &Process, now: Timestamp, decisions: &mut Vec<(SlotId, Decision)>) {
        let record = &slot.record;
        let reason = match &process.wanted {
            Wanted::Yes(wanted) if wanted.version == id.0 => "scaled down",
            Wanted::Yes(_) => "restarted",
            Wanted::No | Wanted::Unknown => "stopped by user",
        };
        let live: Vec<&Holder> = super::claims::holders(record).filter(|holder| is_live(holder.state)).collect();
        let reachable = |holder: &&&Holder| !self.fleet.is_silent(holder.dea) && !self.vanished(holder, slot.told);
        let stoppable: Vec<&Holder> = live.iter().filter(reachable).copied().collect();
        if stoppable.is_empty() {
            // Nobody is left who would take the record along. A silent DEA finds on its return that its claim is gone.
            decisions.push((id, Decision::Remove));
            return;
        }
        for holder in stoppable {
            match self.stop_once(holder, reason, now) {
                Some(stop) => decisions.push((id, stop)),
                None => decisions.push((id, Decision::Wait(now + Duration::from_secs(5)))),
            }
        }
    }

    /// A stop, unless one was asked for a moment ago.
    fn stop_once(&self, holder: &Holder, reason: &'static str, now: Timestamp) -> Option<Decision> {
        let again_after = Duration::from_secs(if holder.state == InstanceState::Stopping { 45 } else { 15 });
        let asked = self.stops.get(&holder.instance);
        let due = asked.is_none_or(|at| now.since(*at) >= again_after);
        // What is stopping by somebody else's order is left alone for as long.
        let ordered = holder.state == InstanceState::Stopping && now.since(holder.since) < again_after;
        (due && !ordered).then_some(Decision::Stop { dea: holder.dea, instance: holder.instance, reason })
    }

    /// A slot without owner is empty unless a DEA says that it runs an instance of it (the store lost its record, or an
    /// answer got lost): then it is given time to claim it again.
    fn start_unless_held(&self, id: SlotId, now: Timestamp) -> Decision {
        let vacated = self.vacated.get(&id).copied();
        let all = (id, DeaId::from(Uuid::nil()), InstanceId::from(Uuid::nil()))
            ..=(id, DeaId::from(Uuid::max()), InstanceId::from(Uuid::max()));
        let mut holds = self.orphans_of.range(all).filter(|(_, dea, instance)| {
            let beat = self.fleet.deas.get(dea).and_then(|dea| dea.last.as_ref()).map(|beat| beat.at);
            let live = self.orphans.get(&(*dea, *instance)).is_some_and(|orphan| orphan.live);
            live && !self.fleet.is_silent(*dea) && vacated.is_none_or(|at| beat > Some(at))
        });
        if holds.next().is_some() { Decision::Wait(now + Duration::from_secs(5)) } else { Decision::Start }
    }

    /// Two heartbeats in a row, both later than its record, do not tell of it.
    fn vanished(&self, holder: &Holder, told: Timestamp) -> bool {
        let Some(dea) = self.fleet.deas.get(&holder.dea).filter(|dea| !dea.silent) else { return false };
        let lacks = |beat: &Option<super::fleet::Beat>| {
            beat.as_ref()
                .is_some_and(|beat| beat.at > told + Duration::from_secs(1) && !beat.instances.contains_key(&holder.instance))
        };
        lacks(&dea.last) && lacks(&dea.previous)
    }
}

/// It has a disk that one instance at a time can have.
fn has_volume(wanted: &DesiredProcess) -> bool {
    wanted.only_on.is_some() || wanted.new_volume_mb > 0
}

/// Share of the wanted instances that run, in hundredths.
fn running_share(process: &Process) -> u32 {
    let Wanted::Yes(wanted) = &process.wanted else { return 100 };
    let runs = |slot: &&Slot| slot.record.owner.as_ref().is_some_and(|owner| owner.state == InstanceState::Running);
    let running = process.slots.range((wanted.version, 0)..(wanted.version, wanted.instances)).map(|(_, slot)| slot);
    running.filter(runs).count() as u32 * 100 / wanted.instances.max(1)
}
