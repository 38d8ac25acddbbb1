//! A small platform made from one seed: apps, DEAs, a bucket, a bus that loses and delays, health managers that are killed.

use super::*;
use messages::{claims::Exit, dea::InstanceReport};
use rand::{RngExt, rngs::StdRng};

const STEP: Duration = Duration::from_millis(100);
const DEAS: u128 = 4;
const MEMORY: u32 = 3_000;
/// Apps without a volume, and then those with one.
const PLAIN: std::ops::RangeInclusive<u128> = 1..=6;
const WITH_VOLUME: std::ops::RangeInclusive<u128> = 7..=9;

#[derive(Clone, Debug)]
enum Event {
    /// To the health manager of this life.
    Hear(u32, Box<Input>),
    Start(u32, DeaId, StartInstance),
    Stop(u32, DeaId, StopInstance),
    Runs(DeaId, InstanceId),
    Crashes(DeaId, InstanceId),
    Stopped(DeaId, InstanceId),
    Write(u32, Box<InstanceRecord>, u64),
    Remove(u32, SlotId, u64),
    Lease(u32, Lease, u64),
    /// The cloud controller looks where a volume is.
    Note(ProcessId),
}

#[derive(Debug)]
struct Node {
    up: bool,
    cut_until: Timestamp,
    instances: BTreeMap<InstanceId, Running>,
}

#[derive(Clone, Debug)]
struct Running {
    start: StartInstance,
    state: InstanceState,
    since: Timestamp,
}

pub(super) struct World {
    seed: u64,
    rng: StdRng,
    now: Timestamp,
    core: Core,
    life: u32,
    born: Timestamp,
    faults: bool,
    feed_down_until: Timestamp,
    /// The manager stands still; what is for it waits.
    asleep_until: Timestamp,
    unheard: Vec<Input>,
    events: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    nodes: BTreeMap<DeaId, Node>,
    bucket: BTreeMap<SlotId, (InstanceRecord, u64)>,
    lease: Option<(Lease, u64)>,
    revision: u64,
    /// Newest change of each object, and the number of the last.
    feed: BTreeMap<ProcessId, (u64, Desired)>,
    change: u64,
    read: u64,
    /// What this life of the health manager was told.
    told: BTreeMap<ProcessId, Desired>,
    crashy: BTreeSet<AppId>,
    /// Where the volumes are, for good.
    cells: BTreeMap<ProcessId, DeaId>,
    last_told: Timestamp,
    /// When watch news arrive: never out of order.
    watch_at: Timestamp,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let core = Core::new(Settings::named("a"), StdRng::from_rng(&mut rng), START);
        let node = || Node { up: true, cut_until: START, instances: BTreeMap::new() };
        let mut world = Self {
            seed,
            rng,
            now: START,
            core,
            life: 0,
            born: START,
            faults: true,
            feed_down_until: START,
            asleep_until: START,
            unheard: vec![],
            events: BTreeMap::new(),
            sequence: 0,
            nodes: (1..=DEAS).map(|n| (id(1_000 + n), node())).collect(),
            bucket: BTreeMap::new(),
            lease: None,
            revision: 0,
            feed: BTreeMap::new(),
            change: 0,
            read: 0,
            told: BTreeMap::new(),
            crashy: BTreeSet::new(),
            cells: BTreeMap::new(),
            last_told: START,
            watch_at: START,
        };
        for n in PLAIN.chain(WITH_VOLUME) {
            world.want(n);
        }
        world.boot_manager();
        world
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.faults && self.rng.random_range(0..one_in) == 0
    }

    fn delay(&mut self) -> Duration {
        let most = if self.faults { 400 } else { 20 };
        Duration::from_millis(self.rng.random_range(1..=most))
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    /// News of the bucket reach the manager in order.
    fn watch(&mut self, change: ClaimsChange) {
        let at = (self.now + self.delay()).max(self.watch_at);
        self.watch_at = at;
        self.sequence += 1;
        let input = Box::new(Input::Claims(change));
        self.events.insert((at, self.sequence), Event::Hear(self.life, input));
    }

    fn boot_manager(&mut self) {
        self.life += 1;
        self.born = self.now;
        let rng = StdRng::from_rng(&mut self.rng);
        self.core = Core::new(Settings::named("a"), rng, self.now);
        self.read = 0;
        self.asleep_until = self.now;
        self.unheard.clear();
        self.told.clear();
        self.hear(Input::Bus(true));
        let (lease, revision) = self.lease.clone().map_or((None, 0), |(lease, revision)| (Some(lease), revision));
        self.hear(Input::Lease { lease, revision });
        self.watch(ClaimsChange::Reset);
        for (record, revision) in self.bucket.clone().into_values() {
            self.watch(ClaimsChange::Instance(Box::new(record), revision));
        }
        self.watch(ClaimsChange::Synced);
    }

    fn want(&mut self, n: u128) {
        self.change += 1;
        let crashy = self.rng.random_range(0..5) == 0;
        let process = match self.rng.random_range(0..8) {
            0 => Desired::NoProcess { process: id(n) },
            _ => {
                let instances = self.rng.random_range(0..5);
                let version = match self.feed.get(&id(n)) {
                    Some((_, Desired::Process(old))) if self.rng.random_range(0..2) == 0 => old.version,
                    _ => VersionId::random(&mut self.rng),
                };
                let memory_mb = 100 * self.rng.random_range(1..=4);
                let wanted = DesiredProcess { version, memory_mb, ..process(n, 0, instances) };
                Desired::Process(if WITH_VOLUME.contains(&n) { self.with_volume(wanted) } else { wanted })
            }
        };
        if crashy {
            self.crashy.insert(id(n));
        } else {
            self.crashy.remove(&id(n));
        }
        self.feed.insert(id(n), (self.change, process));
        if !self.chance(3) {
            self.read_feed();
        }
    }

    fn with_volume(&self, wanted: DesiredProcess) -> DesiredProcess {
        let only_on = self.cells.get(&wanted.process).copied();
        DesiredProcess { instances: 1, new_volume_mb: if only_on.is_some() { 0 } else { 500 }, only_on, ..wanted }
    }

    fn has_volume(process: ProcessId) -> bool {
        WITH_VOLUME.contains(&process.uuid().as_u128())
    }

    /// The cloud controller's part: the DEA of the first instance that runs has the volume for good.
    fn note(&mut self, process: ProcessId) {
        let runs = |owner: &&Holder| owner.state == InstanceState::Running;
        let records = self.bucket.values().filter(|(record, _)| record.process == process);
        let Some(owner) = records.filter_map(|(record, _)| record.owner.as_ref()).find(runs) else { return };
        if self.cells.contains_key(&process) {
            return;
        }
        self.cells.insert(process, owner.dea);
        if let Some((_, Desired::Process(wanted))) = self.feed.get(&process).cloned() {
            self.change += 1;
            let again = Desired::Process(self.with_volume(wanted));
            self.feed.insert(process, (self.change, again));
        }
    }

    /// The cloud controller tells nobody how to start what is not wanted, or on a DEA that does not have the volume.
    fn may_launch(&self, dea: DeaId, start: &StartInstance) -> bool {
        let wanted = |what: &Desired| matches!(what, Desired::Process(wanted) if wanted.version == start.version);
        !Self::has_volume(start.process)
            || (self.feed.get(&start.process).is_some_and(|(_, what)| wanted(what))
                && self.cells.get(&start.process).is_none_or(|cell| *cell == dea))
    }

    fn read_feed(&mut self) {
        if self.now < self.feed_down_until || self.now < self.asleep_until {
            return;
        }
        self.last_told = self.now;
        let mut news: Vec<(u64, Desired)> = self.feed.values().filter(|(change, _)| *change > self.read).cloned().collect();
        news.sort_by_key(|(change, _)| *change);
        self.read = self.change;
        for (_, what) in &news {
            let process = match what {
                Desired::Process(process) => process.process,
                Desired::NoProcess { process } => *process,
                _ => continue,
            };
            self.told.insert(process, what.clone());
        }
        let changes = news.into_iter().map(|(_, what)| what).collect();
        self.hear(Input::Desired { changes, complete: true, asked: self.now });
    }

    fn hear(&mut self, input: Input) {
        for effect in self.core.handle(input, self.now) {
            self.check_effect(&effect);
            self.perform(effect);
        }
    }

    fn wanted(&self, (version, index): SlotId) -> bool {
        self.told.values().any(|what| matches!(what, Desired::Process(p) if p.version == version && index < p.instances))
    }

    /// No stop of what is wanted and well, none on stale knowledge.
    fn check_effect(&self, effect: &Effect) {
        let seed = self.seed;
        match effect {
            Effect::Stop { stop, .. } => {
                assert!(self.core.is_fresh(self.now), "seed={seed}: a stop on stale state");
                let owns = |(record, _): &&(InstanceRecord, u64)| {
                    record
                        .owner
                        .as_ref()
                        .is_some_and(|owner| owner.instance == stop.instance && owner.state == InstanceState::Running)
                };
                if let Some((record, _)) = self.bucket.values().find(owns) {
                    let slot = (record.version, record.index);
                    assert!(!self.wanted(slot), "seed={seed} at {:?}: stops the running owner of a wanted slot", self.now);
                }
            }
            Effect::Start { dea, start } => {
                if let Some(Desired::Process(wanted)) = self.told.get(&start.process) {
                    let there = wanted.only_on.is_none_or(|only| only == *dea);
                    assert!(there, "seed={seed} at {:?}: started away from its volume", self.now);
                }
            }
            Effect::Remove { .. } => assert!(self.core.is_fresh(self.now), "seed={seed}: a removal on stale state"),
            _ => {}
        }
    }

    fn perform(&mut self, effect: Effect) {
        let life = self.life;
        let delay = self.delay();
        match effect {
            Effect::Start { dea, start } if self.chance(25) || !self.reaches(dea) => self.unknown_start(dea, &start),
            Effect::Start { dea, start } => self.later(delay, Event::Start(life, dea, start)),
            Effect::Stop { dea, stop } if self.reaches(dea) && !self.chance(25) => {
                self.later(delay, Event::Stop(life, dea, stop))
            }
            Effect::Stop { stop, .. } => {
                let input = Input::Stopped { instance: stop.instance, outcome: Outcome::Unknown };
                self.later(Duration::from_secs(5), Event::Hear(life, Box::new(input)));
            }
            Effect::Write { record, revision } => self.later(delay, Event::Write(life, record, revision)),
            Effect::Remove { slot, revision } => self.later(delay, Event::Remove(life, slot, revision)),
            Effect::Lease { lease, revision } => self.later(delay, Event::Lease(life, lease, revision)),
            Effect::Stage { .. } | Effect::FailBuild { .. } | Effect::RemoveWork { .. } | Effect::Locate => {}
        }
    }

    fn unknown_start(&mut self, dea: DeaId, start: &StartInstance) {
        let slot = (start.version, start.index);
        let input = Input::Started { slot, instance: start.instance, dea, outcome: Outcome::Unknown };
        self.later(Duration::from_secs(5), Event::Hear(self.life, Box::new(input)));
    }

    fn reaches(&self, dea: DeaId) -> bool {
        self.nodes.get(&dea).is_some_and(|node| node.up && node.cut_until <= self.now)
    }

    fn set(&mut self, slot: SlotId, record: Option<InstanceRecord>, expected: u64) -> Option<u64> {
        if self.bucket.get(&slot).map_or(0, |(_, revision)| *revision) != expected {
            return None;
        }
        self.revision += 1;
        match record {
            Some(record) => {
                if Self::has_volume(record.process) && !self.cells.contains_key(&record.process) {
                    let soon = self.delay() * 10;
                    self.later(soon, Event::Note(record.process));
                }
                self.bucket.insert(slot, (record.clone(), self.revision));
                self.watch(ClaimsChange::Instance(Box::new(record), self.revision));
            }
            None => {
                self.bucket.remove(&slot);
                self.watch(ClaimsChange::NoInstance(slot));
            }
        }
        Some(self.revision)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Hear(life, input) if life == self.life && self.now < self.asleep_until => self.unheard.push(*input),
            Event::Hear(life, input) if life == self.life => self.hear(*input),
            Event::Hear(..) => {}
            Event::Start(life, dea, start) => self.start(life, dea, start),
            Event::Stop(life, dea, stop) => {
                if self.reaches(dea) {
                    self.stop(dea, stop.instance);
                    let input = Input::Stopped { instance: stop.instance, outcome: Outcome::Accepted };
                    self.later(STEP, Event::Hear(life, Box::new(input)));
                }
            }
            Event::Runs(dea, instance) => self.runs(dea, instance),
            Event::Crashes(dea, instance) => self.crashes(dea, instance),
            Event::Stopped(dea, instance) => self.ended(dea, instance),
            Event::Note(process) => self.note(process),
            Event::Write(life, record, revision) => {
                let slot = (record.version, record.index);
                let outcome = self.set(slot, Some(*record), revision).map_or(Written::Conflict, Written::Yes);
                self.wrote(life, slot, outcome);
            }
            Event::Remove(life, slot, revision) => {
                let outcome = self.set(slot, None, revision).map_or(Written::Conflict, Written::Yes);
                self.wrote(life, slot, outcome);
            }
            Event::Lease(life, lease, revision) => {
                let known = self.lease.as_ref().map_or(0, |(_, revision)| *revision);
                let outcome = if known == revision {
                    self.revision += 1;
                    self.lease = Some((lease.clone(), self.revision));
                    let news = Input::Lease { lease: Some(lease.clone()), revision: self.revision };
                    let delay = self.delay();
                    self.later(delay, Event::Hear(self.life, Box::new(news)));
                    Written::Yes(self.revision)
                } else {
                    Written::Conflict
                };
                self.later(STEP, Event::Hear(life, Box::new(Input::LeaseWrote { lease, outcome })));
            }
        }
    }

    fn wrote(&mut self, life: u32, slot: SlotId, outcome: Written) {
        let outcome = if self.chance(20) { Written::Unknown } else { outcome };
        self.later(STEP, Event::Hear(life, Box::new(Input::Wrote { slot, outcome })));
    }

    fn start(&mut self, life: u32, dea: DeaId, start: StartInstance) {
        if !self.reaches(dea) {
            return self.unknown_start(dea, &start);
        }
        let slot = (start.version, start.index);
        let used: u32 = self.nodes[&dea].instances.values().map(|held| held.start.memory_mb).sum();
        let outcome =
            if used + start.memory_mb > MEMORY { Outcome::Refused("no memory".into()) } else { self.claim(dea, slot, &start) };
        if outcome == Outcome::Accepted {
            let running = Running { start: start.clone(), state: InstanceState::Starting, since: self.now };
            self.node(dea).instances.insert(start.instance, running);
            let (soon, crash) = (self.delay() * 5, self.crashy.contains(&start.app));
            let event = match crash {
                _ if !self.may_launch(dea, &start) => Event::Stopped(dea, start.instance),
                true => Event::Crashes(dea, start.instance),
                false => Event::Runs(dea, start.instance),
            };
            self.later(soon, event);
        }
        let outcome = if self.chance(25) { Outcome::Unknown } else { outcome };
        let after = if outcome == Outcome::Unknown { Duration::from_secs(5) } else { self.delay() };
        let input = Input::Started { slot, instance: start.instance, dea, outcome };
        self.later(after, Event::Hear(life, Box::new(input)));
    }

    fn claim(&mut self, dea: DeaId, slot: SlotId, start: &StartInstance) -> Outcome {
        let old = self.bucket.get(&slot).map(|(record, _)| record.clone());
        let owner = holder_of(dea, start, InstanceState::Starting, self.now);
        let mut record = InstanceRecord {
            app: start.app,
            process: start.process,
            process_type: "web".into(),
            version: start.version,
            index: start.index,
            owner: Some(owner),
            predecessor: None,
            crash_count: 0,
            last_exit: None,
            unplaced: None,
        };
        if let Some(old) = &old {
            let serves = |owner: &&Holder| matches!(owner.state, InstanceState::Running | InstanceState::Evacuating);
            record.predecessor = old.owner.as_ref().filter(serves).or(old.predecessor.as_ref()).cloned();
            record.crash_count = old.crash_count;
            record.last_exit = old.last_exit.clone();
        }
        let old_owner = old.and_then(|old| old.owner);
        match self.set(slot, Some(record), start.revision) {
            None => Outcome::Refused("the slot was changed by somebody else".into()),
            Some(_) => {
                let seed = self.seed;
                if let Some(owner) = old_owner.filter(|owner| owner.state == InstanceState::Running) {
                    let node = &self.nodes[&owner.dea];
                    let well = node.up
                        && node.cut_until + Duration::from_secs(1) < self.now
                        && node.instances.contains_key(&owner.instance);
                    // It may have come back between the decision and the claim.
                    let long_well = well && self.now.since(node.cut_until) > Duration::from_secs(12);
                    assert!(!long_well, "seed={seed} at {:?}: a second owner beside one that is well", self.now);
                }
                Outcome::Accepted
            }
        }
    }

    fn node(&mut self, dea: DeaId) -> &mut Node {
        self.nodes.get_mut(&dea).expect("effects name known DEAs")
    }

    /// The DEA writes what its instance is; while it is cut off, it cannot, and tries again.
    fn runs(&mut self, dea: DeaId, instance: InstanceId) {
        if !self.nodes[&dea].instances.contains_key(&instance) {
            return;
        }
        if !self.reaches(dea) {
            return self.later(Duration::from_secs(1), Event::Runs(dea, instance));
        }
        let now = self.now;
        let process = self.nodes[&dea].instances[&instance].start.process;
        let mut others = self.nodes[&dea].instances.iter().filter(|(other, _)| **other != instance);
        if Self::has_volume(process) && others.any(|(_, held)| held.start.process == process) {
            // One container at a time has the volume.
            return self.later(Duration::from_secs(1), Event::Runs(dea, instance));
        }
        if let Some(held) = self.node(dea).instances.get_mut(&instance) {
            held.state = InstanceState::Running;
            held.since = now;
        }
        self.assert_claim(dea, instance);
        self.check_volume(process);
        if self.chance(6) {
            let soon = Duration::from_secs(self.rng.random_range(1..100));
            self.later(soon, Event::Crashes(dea, instance));
        }
    }

    /// One instance at a time, and only where the volume is.
    fn check_volume(&self, process: ProcessId) {
        if !Self::has_volume(process) {
            return;
        }
        let seed = self.seed;
        let records = self.bucket.values().map(|(record, _)| record).filter(|record| record.process == process);
        let runs = |owner: &&Holder| owner.state == InstanceState::Running;
        let running: Vec<DeaId> =
            records.filter_map(|record| record.owner.as_ref()).filter(runs).map(|owner| owner.dea).collect();
        assert!(running.len() <= 1, "seed={seed} at {:?}: {running:?} have instances with a volume", self.now);
        if let (Some(cell), Some(dea)) = (self.cells.get(&process), running.first()) {
            assert_eq!(cell, dea, "seed={seed} at {:?}: it runs away from its volume", self.now);
        }
    }

    /// Brings the record in line with the instance, or ends the instance if the record names another.
    fn assert_claim(&mut self, dea: DeaId, instance: InstanceId) {
        let Some(held) = self.nodes[&dea].instances.get(&instance).cloned() else { return };
        let slot = (held.start.version, held.start.index);
        let Some((mut record, revision)) = self.bucket.get(&slot).cloned() else { return self.stop(dea, instance) };
        let mine = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| holder.instance == instance);
        let holder = holder_of(dea, &held.start, held.state, held.since);
        if mine(&record.owner) {
            record.owner = Some(holder);
        } else if mine(&record.predecessor) {
            record.predecessor = Some(holder);
        } else {
            return self.stop(dea, instance);
        }
        if self.bucket[&slot].0 != record {
            self.set(slot, Some(record), revision);
        }
    }

    fn crashes(&mut self, dea: DeaId, instance: InstanceId) {
        if !self.reaches(dea) {
            return self.later(Duration::from_secs(1), Event::Crashes(dea, instance));
        }
        let Some(held) = self.node(dea).instances.remove(&instance) else { return };
        let slot = (held.start.version, held.start.index);
        let Some((mut record, revision)) = self.bucket.get(&slot).cloned() else { return };
        if record.owner.as_ref().is_some_and(|owner| owner.instance == instance) {
            let well = held.state == InstanceState::Running && self.now.since(held.since) >= Duration::from_secs(300);
            record.crash_count = if well { 1 } else { record.crash_count + 1 };
            record.owner = Some(holder_of(dea, &held.start, InstanceState::Crashed, self.now));
            record.last_exit = Some(Exit { instance, at: self.now, status: Some(1), reason: "Exited with status 1".into() });
        } else if record.predecessor.as_ref().is_some_and(|other| other.instance == instance) {
            record.predecessor = None;
        } else {
            return;
        }
        self.set(slot, Some(record), revision);
    }

    fn stop(&mut self, dea: DeaId, instance: InstanceId) {
        if let Some(held) = self.node(dea).instances.get_mut(&instance) {
            held.state = InstanceState::Stopping;
            let soon = self.delay() * 3;
            self.later(soon, Event::Stopped(dea, instance));
        }
    }

    fn ended(&mut self, dea: DeaId, instance: InstanceId) {
        if !self.reaches(dea) {
            return self.later(Duration::from_secs(1), Event::Stopped(dea, instance));
        }
        let Some(held) = self.node(dea).instances.remove(&instance) else { return };
        let slot = (held.start.version, held.start.index);
        let Some((record, revision)) = self.bucket.get(&slot).cloned() else { return };
        let mine = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| holder.instance == instance);
        if mine(&record.owner) {
            let rest = record.predecessor.is_some().then_some(InstanceRecord { owner: None, ..record });
            self.set(slot, rest, revision);
        } else if mine(&record.predecessor) {
            self.set(slot, Some(InstanceRecord { predecessor: None, ..record }), revision);
        }
    }

    pub(super) fn live(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.misfortune();
            self.step();
        }
    }

    fn misfortune(&mut self) {
        let (now, life) = (self.now, self.life);
        if self.chance(150) {
            let n = self.rng.random_range(*PLAIN.start()..=*WITH_VOLUME.end());
            self.want(n);
        }
        if self.chance(900) {
            self.boot_manager();
        }
        if self.chance(900) {
            self.feed_down_until = now + Duration::from_secs(self.rng.random_range(1..60));
        }
        if self.chance(1_200) {
            self.asleep_until = now + Duration::from_secs(self.rng.random_range(1..90));
        }
        if self.chance(500) {
            let dea: DeaId = id(1_000 + self.rng.random_range(1..=DEAS));
            let seconds = self.rng.random_range(1..70);
            self.node(dea).cut_until = now + Duration::from_secs(seconds);
        }
        if self.chance(1_500) {
            // A host is lost with all that runs on it, and comes back empty.
            let dea: DeaId = id(1_000 + self.rng.random_range(1..=DEAS));
            let seconds = self.rng.random_range(5..80);
            let node = self.node(dea);
            node.instances.clear();
            node.cut_until = now + Duration::from_secs(seconds);
        }
        if self.chance(1_500) {
            // A crash storm: everything on one host ends at once.
            let dea: DeaId = id(1_000 + self.rng.random_range(1..=DEAS));
            let all: Vec<InstanceId> = self.nodes[&dea].instances.keys().copied().collect();
            all.into_iter().for_each(|instance| self.crashes(dea, instance));
        }
        if self.chance(1_200) {
            self.later(Duration::ZERO, Event::Hear(life, Box::new(Input::Bus(false))));
            self.later(Duration::from_secs(5), Event::Hear(life, Box::new(Input::Bus(true))));
        }
    }

    fn step(&mut self) {
        let before = self.now;
        let target = self.now + STEP;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > target {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at.max(self.now);
            self.wake();
            self.happen(event);
        }
        self.now = target;
        let crosses = |every: u64| before.0 / (every * 1_000_000) != target.0 / (every * 1_000_000);
        self.wake();
        if self.now >= self.asleep_until {
            self.hear(Input::Tick);
        }
        if crosses(1) {
            self.read_feed();
            self.dea_rounds();
        }
        if crosses(5) {
            self.speak(false);
        }
        if crosses(10) {
            self.speak(true);
        }
    }

    /// What waited is heard in order, before anything newer.
    fn wake(&mut self) {
        if self.now >= self.asleep_until {
            std::mem::take(&mut self.unheard).into_iter().for_each(|input| self.hear(input));
        }
    }

    /// DEAs that are connected compare their instances with the bucket.
    fn dea_rounds(&mut self) {
        let deas: Vec<DeaId> = self.nodes.keys().copied().filter(|dea| self.reaches(*dea)).collect();
        for dea in deas {
            let all: Vec<InstanceId> = self.nodes[&dea]
                .instances
                .iter()
                .filter(|(_, held)| held.state != InstanceState::Stopping)
                .map(|(id, _)| *id)
                .collect();
            all.into_iter().for_each(|instance| self.assert_claim(dea, instance));
        }
    }

    fn speak(&mut self, beats: bool) {
        let deas: Vec<DeaId> = self.nodes.keys().copied().filter(|dea| self.reaches(*dea)).collect();
        for dea in deas {
            if self.chance(20) {
                continue;
            }
            let held = &self.nodes[&dea].instances;
            let input = if beats {
                let report = |(instance, held): (&InstanceId, &Running)| InstanceReport {
                    app: held.start.app,
                    process: held.start.process,
                    version: held.start.version,
                    instance: *instance,
                    index: held.start.index,
                    state: held.state,
                    state_timestamp: held.since,
                    usage: None,
                };
                Input::Heartbeat(Heartbeat { dea, droplets: held.iter().map(report).collect(), works: vec![] })
            } else {
                let used: u32 = held.values().map(|held| held.start.memory_mb).sum();
                Input::Advertise(Advertise { id: dea, ..offer(0, MEMORY - used, MEMORY) })
            };
            let delay = self.delay();
            self.later(delay, Event::Hear(self.life, Box::new(input)));
        }
    }

    /// Faults off, nobody crashes any more: only now is progress promised.
    pub(super) fn settle(&mut self) {
        self.faults = false;
        self.asleep_until = self.now;
        self.feed_down_until = self.now;
        self.crashy.clear();
        for node in self.nodes.values_mut() {
            node.up = true;
            node.cut_until = self.now;
        }
        // The longest rest after crashes, and some.
        for _ in 0..(20 * 60 * 10) {
            self.step();
        }
    }

    pub(super) fn assert_settled(&self) {
        let seed = self.seed;
        let mut wanted: BTreeSet<SlotId> = BTreeSet::new();
        for (_, what) in self.feed.values() {
            if let Desired::Process(process) = what {
                wanted.extend((0..process.instances).map(|index| (process.version, index)));
            }
        }
        let mut running: BTreeMap<SlotId, usize> = BTreeMap::new();
        for held in self.nodes.values().flat_map(|node| node.instances.values()) {
            assert_eq!(held.state, InstanceState::Running, "seed={seed}");
            *running.entry((held.start.version, held.start.index)).or_default() += 1;
        }
        let missing: Vec<&SlotId> = wanted.iter().filter(|slot| !running.contains_key(slot)).collect();
        for slot in &missing {
            let told = self.bucket.get(slot).and_then(|(record, _)| record.unplaced.clone());
            assert!(
                told.is_some(),
                "seed={seed}: {slot:?} is missing without a reason: {:?} {}",
                self.bucket.get(slot),
                self.core.explain(**slot)
            );
        }
        for (slot, count) in &running {
            assert!(wanted.contains(slot), "seed={seed}: {slot:?} runs and is not wanted");
            assert_eq!(*count, 1, "seed={seed}: {slot:?}");
            let record = &self.bucket[slot].0;
            assert!(record.predecessor.is_none() && record.owner.is_some(), "seed={seed}: {record:?}");
        }
        for slot in self.bucket.keys() {
            assert!(wanted.contains(slot), "seed={seed}: the record of {slot:?} stays behind");
        }
    }
}

fn holder_of(dea: DeaId, start: &StartInstance, state: InstanceState, since: Timestamp) -> Holder {
    Holder {
        instance: start.instance,
        dea,
        state,
        since,
        endpoint: None,
        memory_mb: start.memory_mb,
        disk_mb: start.disk_mb,
        details: None,
    }
}
