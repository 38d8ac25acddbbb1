//! The rules: `(state, input, now) -> effects`. No socket, clock, lock or task of its own.
//!
//! - [`Core`]: feeds on [`Input`]s, hands back [`Effect`]s.
//! - `judge`: what one process needs, from all that is known of it; changes nothing.
//! - `claims`: what the bucket tells, and the books that follow from it.
//! - `commands`: requests to DEAs: asking, answers, and what is done when none comes.
//! - `builds`: stagings.
//! - `fleet`: the DEAs and the choice among them.
//! - `lease`: who leads.
//! - `backoff`: when a crashed instance is started again.
//!
//! Every input leaves marks of which processes it may concern; these are then judged as a whole. The full pass, which
//! judges all, runs when a gate opens and every half minute: whatever a mark missed, it finds.
//!
//! Starts need a leader, a connected bus and claims that were told in full. Whatever destroys (a stop, a record's removal, a
//! build's failure) also needs a complete and recent answer of the cloud controller's feed.

mod backoff;
mod builds;
mod claims;
mod commands;
mod fleet;
mod judge;
mod lease;

pub use lease::Written;

use builds::Build;
use claims::{Process, Slot, Wanted, Work};
use cloud_controller_client::Desired;
use commands::Pending;
use fleet::Fleet;
use lease::Leadership;
use messages::{
    claims::{InstanceRecord, InstanceState, Lease, WorkRecord},
    dea::{Advertise, Heartbeat, StageBuild, StartInstance, StopInstance},
};
use rand::rngs::StdRng;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::{BuildId, DeaId, InstanceId, ProcessId, Timestamp, VersionId};
use uuid::Uuid;

/// (version, index): the name of an instance slot.
pub type SlotId = (VersionId, u32);

/// What the rules depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The stable name under which this process leads.
    pub name: String,
    /// How long a lease lasts unless renewed.
    pub lease: Duration,
    /// When a DEA that says nothing is suspect.
    pub silent_after: Duration,
    /// How old the last complete answer of the feed may be for destructive acts.
    pub desired_fresh: Duration,
    /// How long a build may wait for room.
    pub build_patience: Duration,
    /// Requests that may be unanswered at a time.
    pub max_in_flight: usize,
}

impl Settings {
    /// The usual times, under this name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            lease: Duration::from_secs(10),
            silent_after: Duration::from_secs(30),
            desired_fresh: Duration::from_secs(15),
            build_patience: Duration::from_secs(30),
            max_in_flight: 256,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Some time passed. Several a second.
    Tick,
    /// The bus is connected, or not any more.
    Bus(bool),
    /// A page of the feed.
    Desired {
        /// What it says.
        changes: Vec<Desired>,
        /// There was nothing newer.
        complete: bool,
        /// When it was asked for.
        asked: Timestamp,
    },
    /// The feed begins anew: the cloud controller's database is not the one that it was.
    DesiredReset,
    /// What the claims bucket tells.
    Claims(ClaimsChange),
    /// An advertisement.
    Advertise(Advertise),
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// How a request to start went.
    Started {
        /// The slot.
        slot: SlotId,
        /// The instance that was asked for.
        instance: InstanceId,
        /// The DEA that was asked.
        dea: DeaId,
        /// What became of it.
        outcome: Outcome,
    },
    /// How a request to stop went.
    Stopped {
        /// The instance.
        instance: InstanceId,
        /// What became of it.
        outcome: Outcome,
    },
    /// How a request to stage went.
    Staged {
        /// The build.
        build: BuildId,
        /// The DEA that was asked.
        dea: DeaId,
        /// What became of it.
        outcome: Outcome,
    },
    /// How an [`Effect::Write`] or [`Effect::Remove`] of an instance record went.
    Wrote {
        /// The slot.
        slot: SlotId,
        /// What became of it.
        outcome: Written,
    },
    /// How an [`Effect::FailBuild`] went; it is tried again unless true.
    BuildFailed {
        /// The build.
        build: BuildId,
        /// The cloud controller knows.
        told: bool,
    },
    /// What the bucket of leases holds.
    Lease {
        /// The record, if there is one.
        lease: Option<Lease>,
        /// Its revision.
        revision: u64,
    },
    /// How an [`Effect::Lease`] went.
    LeaseWrote {
        /// What was to be written.
        lease: Lease,
        /// What became of it.
        outcome: Written,
    },
}

/// What the claims bucket tells.
#[derive(Clone, Debug)]
pub enum ClaimsChange {
    /// All records follow.
    Reset,
    /// An instance slot.
    Instance(Box<InstanceRecord>, u64),
    /// An instance slot is gone.
    NoInstance(SlotId),
    /// A staging or task.
    Work(Uuid, WorkRecord, u64),
    /// A staging or task is gone.
    NoWork(Uuid),
    /// All were told.
    Synced,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Accepted,
    /// Not taken, nothing was changed; the DEA's words.
    Refused(String),
    /// Nobody got it.
    NotSent,
    /// Perhaps taken, perhaps not.
    Unknown,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask a DEA to start an instance; answer with [`Input::Started`].
    Start {
        /// Whom.
        dea: DeaId,
        /// What.
        start: StartInstance,
    },
    /// Ask a DEA to stop an instance; answer with [`Input::Stopped`].
    Stop {
        /// Whom.
        dea: DeaId,
        /// What.
        stop: StopInstance,
    },
    /// Ask a DEA to stage; answer with [`Input::Staged`].
    Stage {
        /// Whom.
        dea: DeaId,
        /// What.
        stage: StageBuild,
    },
    /// Write an instance record over this revision (0: make it); answer with [`Input::Wrote`].
    Write {
        /// What.
        record: Box<InstanceRecord>,
        /// Over what.
        revision: u64,
    },
    /// Remove an instance record of this revision; answer with [`Input::Wrote`].
    Remove {
        /// Which.
        slot: SlotId,
        /// Of which revision.
        revision: u64,
    },
    /// Remove the record of a staging that is over; no answer.
    RemoveWork {
        /// Which.
        work: Uuid,
        /// Of which revision.
        revision: u64,
    },
    /// Tell the cloud controller that a build failed; answer with [`Input::BuildFailed`].
    FailBuild {
        /// Which.
        build: BuildId,
        /// `InsufficientResources`, `NoCompatibleCell`, `StagingError`.
        id: &'static str,
        /// For the user.
        message: String,
    },
    /// Write the lease over this revision (0: make it); answer with [`Input::LeaseWrote`].
    Lease {
        /// What.
        lease: Lease,
        /// Over what.
        revision: u64,
    },
    /// Ask every DEA for an advertisement and a heartbeat.
    Locate,
}

/// What the health manager knows and decides.
pub struct Core {
    settings: Settings,
    rng: StdRng,
    leadership: Leadership,
    led: bool,
    bus_up: bool,
    /// Until then a watch may not have caught up after a break of the bus.
    catching_up: Timestamp,
    /// When the newest complete answer of the feed was asked for.
    desired_at: Option<Timestamp>,
    /// Since when the feed is known in full without a break.
    desired_since: Option<Timestamp>,
    claims_synced: bool,
    /// Grows with every [`ClaimsChange::Reset`].
    epoch: u64,
    processes: BTreeMap<ProcessId, Process>,
    versions: BTreeMap<VersionId, ProcessId>,
    holdings: BTreeMap<DeaId, BTreeSet<SlotId>>,
    works: BTreeMap<Uuid, Work>,
    builds: BTreeMap<BuildId, Build>,
    fleet: Fleet,
    pending: BTreeMap<SlotId, Pending>,
    in_flight: usize,
    /// DEAs that refused a slot lately.
    refused: BTreeMap<SlotId, BTreeMap<DeaId, (Timestamp, String)>>,
    stops: BTreeMap<InstanceId, Timestamp>,
    /// Slots whose record went away lately: heartbeats from before say nothing about them.
    vacated: BTreeMap<SlotId, Timestamp>,
    /// Instances that a DEA reports and no record names.
    orphans: BTreeMap<(DeaId, InstanceId), Orphan>,
    orphans_of: BTreeSet<(SlotId, DeaId, InstanceId)>,
    /// What the feed never mentioned may be stopped: computed by the full pass.
    unknown_may_go: bool,
    dirty: BTreeSet<ProcessId>,
    /// Processes with an instance that found no place.
    unplaced: BTreeSet<ProcessId>,
    timers: BTreeSet<(Timestamp, ProcessId)>,
    fresh_before: bool,
    acting_before: bool,
    last_input: Timestamp,
    last_full: Timestamp,
    judged: u64,
}

#[derive(Debug)]
struct Orphan {
    process: ProcessId,
    slot: SlotId,
    live: bool,
    since: Timestamp,
}

/// A longer pause between ticks means that this process stood still: what it knows is old.
const STOOD_STILL: Duration = Duration::from_secs(5);
/// A watch that survives a break of the bus says nothing of it; it finds the break within two of its own heartbeats.
const CATCH_UP: Duration = Duration::from_secs(10);
/// After being asked, all DEAs speak within this time.
const HEAR_ALL: Duration = Duration::from_millis(300);
const FULL_PASS: Duration = Duration::from_secs(30);
const ORPHAN_GRACE: Duration = Duration::from_secs(25);
const UNKNOWN_GRACE: Duration = Duration::from_secs(600);

impl Core {
    /// Knows nothing yet.
    pub fn new(settings: Settings, rng: StdRng, now: Timestamp) -> Self {
        Self {
            leadership: Leadership::new(settings.name.clone(), settings.lease),
            fleet: Fleet::new(now, settings.silent_after),
            settings,
            rng,
            led: false,
            bus_up: false,
            catching_up: Timestamp(0),
            desired_at: None,
            desired_since: None,
            claims_synced: false,
            epoch: 0,
            processes: BTreeMap::new(),
            versions: BTreeMap::new(),
            holdings: BTreeMap::new(),
            works: BTreeMap::new(),
            builds: BTreeMap::new(),
            pending: BTreeMap::new(),
            in_flight: 0,
            refused: BTreeMap::new(),
            stops: BTreeMap::new(),
            vacated: BTreeMap::new(),
            orphans: BTreeMap::new(),
            orphans_of: BTreeSet::new(),
            unknown_may_go: false,
            dirty: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            timers: BTreeSet::new(),
            fresh_before: false,
            acting_before: false,
            last_input: now,
            last_full: now,
            judged: 0,
        }
    }

    /// True while this process leads.
    pub fn leads(&self, now: Timestamp) -> bool {
        self.leadership.fence(now).is_some()
    }

    /// True while stops are allowed.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.acting(now).is_some()
            && now >= self.catching_up
            && self.desired_at.is_some_and(|at| now.since(at) <= self.settings.desired_fresh)
    }

    /// How many processes were judged since the start: what work costs, apart from time.
    pub fn judged(&self) -> u64 {
        self.judged
    }

    /// Takes one input in and hands back what to do about it.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = vec![];
        self.notice_a_pause(now, &mut effects);
        let ticked = matches!(input, Input::Tick);
        self.take_in(input, now, &mut effects);
        if let Some((lease, revision)) = self.leadership.step(now) {
            effects.push(Effect::Lease { lease, revision });
        }
        self.watch_gates(now, &mut effects);
        if let Some(fence) = self.acting(now) {
            if ticked {
                self.tend_orphans(fence, now, &mut effects);
            }
            self.tend_builds(fence, now, &mut effects);
            self.tend_processes(fence, now, &mut effects);
        }
        self.check();
        effects
    }

    /// Ticks come all the time: a gap means that this process stood still. What it knows is old then, and so is what waits in
    /// its queues; the DEAs' silence was its own deafness.
    fn notice_a_pause(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if now.since(self.last_input) > STOOD_STILL {
            self.fleet.listen_anew(now);
            self.desired_at = None;
            self.catching_up = self.catching_up.max(now + CATCH_UP);
            effects.push(Effect::Locate);
        }
        self.last_input = now;
    }

    fn take_in(&mut self, input: Input, now: Timestamp, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.tick(now),
            Input::Bus(up) => {
                if !up {
                    self.catching_up = Timestamp(u64::MAX);
                } else if !self.bus_up {
                    self.catching_up = if self.catching_up == Timestamp(0) { now } else { now + CATCH_UP };
                    self.fleet.listen_anew(now);
                    effects.push(Effect::Locate);
                }
                self.bus_up = up;
            }
            Input::Desired { changes, complete, asked } => self.desire(changes, complete, asked),
            Input::DesiredReset => self.desire_anew(),
            Input::Claims(change) => self.claims_changed(change, now),
            Input::Advertise(offer) => {
                let dea = offer.id;
                let news = self.fleet.advertised(offer, now);
                if news.roomier {
                    self.dirty.append(&mut self.unplaced);
                    self.builds_wait_no_more();
                }
                if news.returned || self.fleet.deas.get(&dea).is_some_and(|dea| dea.evacuating()) {
                    self.mark_holdings(dea);
                }
            }
            Input::Heartbeat(beat) => self.heartbeat(&beat, now),
            Input::Started { slot, instance, dea, outcome } => self.started(slot, instance, dea, outcome, now, effects),
            Input::Stopped { instance, outcome } => self.stopped(instance, &outcome),
            Input::Staged { build, dea, outcome } => self.staged(build, dea, outcome, now, effects),
            Input::Wrote { slot, outcome } => self.wrote(slot, outcome, now, effects),
            Input::BuildFailed { build, told } => self.build_failed(build, told),
            Input::Lease { lease, revision } => self.leadership.saw(lease, revision, now),
            Input::LeaseWrote { lease, outcome } => self.leadership.wrote(lease, outcome, now),
        }
    }

    /// The fencing number, if anything may be done at all.
    fn acting(&self, now: Timestamp) -> Option<u64> {
        // Who acts on the first voice heard places everything there.
        let heard = now.since(self.fleet.listening_since()) >= HEAR_ALL;
        self.leadership.fence(now).filter(|_| self.bus_up && self.claims_synced && heard)
    }

    /// A gate that opened concerns every process.
    fn watch_gates(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let leads = self.leads(now);
        if leads && !self.led {
            effects.push(Effect::Locate);
        }
        self.led = leads;
        let (acting, fresh) = (self.acting(now).is_some(), self.is_fresh(now));
        if (acting && !self.acting_before) || (fresh && !self.fresh_before) {
            self.mark_all(now);
        }
        self.acting_before = acting;
        self.fresh_before = fresh;
    }

    fn mark_all(&mut self, now: Timestamp) {
        self.last_full = now;
        self.unknown_may_go = self.count_unknown(now);
        self.dirty = self.processes.keys().copied().collect();
    }

    fn mark_holdings(&mut self, dea: DeaId) {
        for (version, _) in self.holdings.get(&dea).into_iter().flatten() {
            self.dirty.extend(self.versions.get(version));
        }
    }

    fn tick(&mut self, now: Timestamp) {
        if now.since(self.last_full) >= FULL_PASS {
            self.mark_all(now);
            self.tidy(now);
        }
        if self.bus_up {
            for dea in self.fleet.fall_silent(now) {
                self.mark_holdings(dea);
            }
        }
        while let Some(&(due, process)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            self.dirty.insert(process);
        }
        self.expire_pending(now);
    }

    /// Forgets what cannot matter any more.
    fn tidy(&mut self, now: Timestamp) {
        let minute = Duration::from_secs(60);
        self.vacated.retain(|_, at| now.since(*at) < minute);
        self.stops.retain(|_, at| now.since(*at) < minute);
        self.refused.retain(|_, by| {
            by.retain(|_, (at, _)| now.since(*at) < commands::REFUSAL_LASTS);
            !by.is_empty()
        });
        let holdings = &self.holdings;
        self.fleet.forget(now, |dea| holdings.contains_key(dea));
    }

    fn desire(&mut self, changes: Vec<Desired>, complete: bool, asked: Timestamp) {
        for change in changes {
            match change {
                Desired::Process(wanted) => {
                    self.want_process(wanted.process, Wanted::Yes(wanted));
                }
                Desired::NoProcess { process } => self.want_process(process, Wanted::No),
                Desired::Build(build) => self.want_build(build),
                Desired::NoBuild { build } => self.unwant_build(build),
            }
        }
        if complete {
            self.desired_at = Some(self.desired_at.unwrap_or(asked).max(asked));
            self.desired_since.get_or_insert(asked);
        }
    }

    fn want_process(&mut self, id: ProcessId, wanted: Wanted) {
        self.dirty.insert(id);
        if let Wanted::Yes(wanted) = &wanted {
            self.versions.insert(wanted.version, id);
        }
        let process = self.processes.entry(id).or_default();
        let old = process.version();
        process.wanted = wanted;
        if let Some(old) = old.filter(|old| process.version() != Some(*old) && !process.has_slots_of(*old)) {
            self.versions.remove(&old);
        }
    }

    fn desire_anew(&mut self) {
        self.desired_at = None;
        self.desired_since = None;
        for process in self.processes.values_mut() {
            process.wanted = Wanted::Unknown;
        }
        let builds: Vec<BuildId> = self.builds.keys().copied().collect();
        builds.into_iter().for_each(|build| self.unwant_build(build));
    }

    fn heartbeat(&mut self, beat: &Heartbeat, now: Timestamp) {
        if self.fleet.beat(beat, now) {
            self.mark_holdings(beat.dea);
        }
        for report in &beat.droplets {
            let slot = (report.version, report.index);
            if self.slot(slot).is_some_and(|known| known.names(report.instance)) {
                self.no_orphan(beat.dea, report.instance);
                continue;
            }
            // What is stopping already will not claim its slot again.
            let live = claims::is_live(report.state) && report.state != InstanceState::Stopping;
            let fresh = Orphan { process: report.process, slot, live, since: now };
            self.orphans.entry((beat.dea, report.instance)).or_insert(fresh).live = live;
            self.orphans_of.insert((slot, beat.dea, report.instance));
        }
        let told: BTreeSet<InstanceId> = beat.droplets.iter().map(|report| report.instance).collect();
        let all = (beat.dea, InstanceId::from(Uuid::nil()))..=(beat.dea, InstanceId::from(Uuid::max()));
        let gone: Vec<InstanceId> = self.orphans.range(all).map(|((_, id), _)| *id).filter(|id| !told.contains(id)).collect();
        for instance in gone {
            self.no_orphan(beat.dea, instance);
        }
        // What it should hold and does not tell is judged now, and decided once a second heartbeat agrees. What it tells
        // again after a silence it may take back.
        for (version, index) in self.holdings.get(&beat.dea).into_iter().flatten() {
            let Some(slot) = self.slot((*version, *index)) else { continue };
            let missed = slot.holders_on(beat.dea).any(|holder| !told.contains(&holder.instance));
            let returned = slot.record.predecessor.as_ref().is_some_and(|holder| holder.dea == beat.dea);
            if missed || returned {
                self.dirty.extend(self.versions.get(version));
            }
        }
    }

    fn no_orphan(&mut self, dea: DeaId, instance: InstanceId) {
        if let Some(orphan) = self.orphans.remove(&(dea, instance)) {
            self.orphans_of.remove(&(orphan.slot, dea, instance));
            self.dirty.insert(orphan.process);
        }
    }

    fn slot(&self, (version, index): SlotId) -> Option<&Slot> {
        self.processes.get(self.versions.get(&version)?)?.slots.get(&(version, index))
    }

    /// Stops what runs without a claim: it is nobody's, or the slot is somebody else's.
    fn tend_orphans(&mut self, fence: u64, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.is_fresh(now) || self.orphans.is_empty() {
            return;
        }
        let due: Vec<(InstanceId, DeaId)> = self
            .orphans
            .iter()
            .filter(|(_, orphan)| now.since(orphan.since) >= ORPHAN_GRACE && self.may_stop_orphan(orphan, now))
            .map(|((dea, instance), _)| (*instance, *dea))
            .collect();
        let reported: usize = self.fleet.deas.values().filter_map(|dea| dea.last.as_ref()).map(|beat| beat.instances.len()).sum();
        if due.len() > 5.max(reported / 5) {
            // So many strangers at once mean that our books are wrong, not that the DEAs are.
            return;
        }
        for (instance, dea) in due {
            self.stop(dea, instance, "no longer needed", fence, now, effects);
        }
    }

    fn may_stop_orphan(&self, orphan: &Orphan, now: Timestamp) -> bool {
        if !orphan.live {
            return false;
        }
        match self.processes.get(&orphan.process) {
            Some(process) if process.is_known() => {
                // An instance of an empty slot that is wanted may yet be claimed again by its DEA.
                let wanted = process.wants(orphan.slot);
                let taken = self.slot(orphan.slot).is_some_and(|slot| slot.record.owner.is_some());
                !wanted || taken || now.since(orphan.since) >= ORPHAN_GRACE * 4
            }
            _ => self.unknown_may_go,
        }
    }

    /// What the feed never mentioned is kept for long, in case the feed is what is wrong.
    fn count_unknown(&self, now: Timestamp) -> bool {
        let patient = self.desired_since.is_some_and(|since| now.since(since) >= UNKNOWN_GRACE);
        if !patient {
            return false;
        }
        let unknown = self.processes.values().filter(|process| !process.is_known()).count();
        unknown <= 5.max(self.processes.len() / 5)
    }

    /// Everything about one slot, for a failing test.
    #[cfg(test)]
    fn explain(&self, slot: SlotId) -> String {
        let process = self.versions.get(&slot.0);
        let deas = &self.fleet.deas;
        let orphans: Vec<_> = self.orphans.iter().filter(|(_, orphan)| orphan.slot == slot).collect();
        let known = process.and_then(|process| self.processes.get(process));
        format!("pending {:?} orphans {orphans:?} known {known:?} deas {deas:?}", self.pending.get(&slot))
    }

    fn check(&self) {
        debug_assert_eq!(self.in_flight, self.asked_starts() + self.asked_builds(), "every request in flight is on the books");
    }
}

#[cfg(test)]
mod tests;
