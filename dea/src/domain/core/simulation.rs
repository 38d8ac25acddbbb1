//! Seeded histories: a DEA with a bucket, a Warden and a health manager around it, everything in random order, with faults.

use super::tests::{launch, place};
use super::*;
use crate::domain::{
    claim::{self, Step},
    container,
};
use messages::{
    claims::{InstanceRecord, instance_key},
    dea::{StartInstance, StopInstance},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{collections::VecDeque, net::Ipv4Addr};
use types::VersionId;
use warden_client::ContainerInfo;

const SLOTS: u32 = 3;

/// Records with their revisions, by key.
type Records = BTreeMap<String, (InstanceRecord, u64)>;

struct Sim {
    rng: StdRng,
    core: Core,
    now: Timestamp,
    bucket: Records,
    revision: u64,
    snapshots: Vec<(Records, u64)>,
    watch: VecDeque<Input>,
    pending: Vec<Effect>,
    containers: BTreeMap<String, ContainerInfo>,
    routes: BTreeSet<String>,
    wanted: BTreeMap<u32, bool>,
    asked: BTreeMap<Ticket, u32>,
    tickets: Ticket,
    made: u32,
    history: Vec<String>,
}

fn version() -> VersionId {
    super::tests::id(3)
}

fn ours() -> DeaId {
    super::tests::id(9)
}

fn new_core() -> Core {
    let settings = Settings {
        common: Common { dea: ours(), lifecycle: "/opt/lifecycle".into(), pids: 512 },
        route_to: RouteTo::Container,
        zone: "z1".into(),
        drain: Duration::from_millis(300),
        grace: Duration::from_secs(10),
        evacuation: Duration::ZERO,
    };
    let mut core = Core::new(settings, 0);
    let capacity =
        Capacity { memory_mb: 4096, disk_mb: 8192, stacks: vec!["debian12".into()], max_instances: 50, ..Capacity::default() };
    core.handle(Input::Capacity(capacity), Timestamp(0));
    core
}

impl Sim {
    fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            core: new_core(),
            now: Timestamp::from_secs(1_000),
            bucket: BTreeMap::new(),
            revision: 0,
            snapshots: vec![],
            watch: VecDeque::new(),
            pending: vec![],
            containers: BTreeMap::new(),
            routes: BTreeSet::new(),
            wanted: BTreeMap::new(),
            asked: BTreeMap::new(),
            tickets: 0,
            made: 0,
            history: vec![],
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn give(&mut self, input: Input) {
        self.now = self.now + Duration::from_millis(5);
        for effect in self.core.handle(input, self.now) {
            match effect {
                // What goes out in order is taken in order.
                Effect::Register(register) => drop(self.routes.insert(register.host)),
                Effect::Unregister(register) => drop(self.routes.remove(&register.host)),
                Effect::Answer(ticket, _) => drop(self.asked.remove(&ticket)),
                Effect::Emit(_)
                | Effect::Tell
                | Effect::ReportCrash(_)
                | Effect::AskRoutes(_)
                | Effect::SetEgress(..)
                | Effect::RememberFence(_) => {}
                other => self.pending.push(other),
            }
        }
    }

    fn put(&mut self, key: &str, record: Option<InstanceRecord>) -> u64 {
        self.revision += 1;
        let told = match record {
            Some(record) => {
                self.bucket.insert(key.to_owned(), (record.clone(), self.revision));
                Told::Put(Box::new(record), self.revision)
            }
            None => {
                self.bucket.remove(key);
                Told::Removed(self.revision)
            }
        };
        self.watch.push_back(Input::Record(key.to_owned(), told));
        self.revision
    }

    fn write(&mut self, key: &str, wanted: &Wanted, seen: u64, absent_is_rollback: bool) -> Written {
        let current = self.bucket.get(key).cloned();
        let revision = current.as_ref().map_or(0, |(_, revision)| *revision);
        let reassert = if current.is_some() { revision < seen } else { absent_is_rollback };
        match claim::step(current.as_ref().map(|(record, _)| record), wanted, reassert) {
            Step::Nothing => Written::Done { revision },
            Step::Create(record) | Step::Update(record) => {
                let keeps = claim::keeps(&record, wanted);
                let revision = self.put(key, Some(record));
                if keeps { Written::Done { revision } } else { Written::Lost }
            }
            Step::Remove => {
                self.put(key, None);
                Written::Done { revision: 0 }
            }
            Step::Lost if current.is_none() => Written::Absent,
            Step::Lost => Written::Lost,
        }
    }

    fn claim(&mut self, hold: &Hold, revision: u64) -> Result<Claimed, String> {
        let key = hold.slot.key();
        let previous = self.bucket.get(&key).cloned();
        if previous.as_ref().map_or(0, |(_, at)| *at) != revision {
            return Err("taken".into());
        }
        let record = claim::claimed(previous.as_ref().map(|(record, _)| record), hold);
        let (crash_count, last_exit) = (record.crash_count, record.last_exit.clone());
        Ok(Claimed { revision: self.put(&key, Some(record)), crash_count, last_exit })
    }

    fn resync(&mut self) {
        self.watch.clear();
        self.watch.push_back(Input::WatchReset);
        for (key, (record, revision)) in &self.bucket {
            self.watch.push_back(Input::Record(key.clone(), Told::Put(Box::new(record.clone()), *revision)));
        }
        self.watch.push_back(Input::WatchSynced);
    }

    /// Carries one effect out; what comes back, if anything.
    fn perform(&mut self, effect: Effect, faults: bool) -> Option<Input> {
        Some(match effect {
            Effect::Claim(hold, revision) => {
                let outcome = self.claim(&hold, revision);
                let unknown = faults && self.chance(20);
                Input::Claimed(hold.slot.instance, if unknown { Err("unknown".into()) } else { outcome })
            }
            Effect::Write(key, wanted, seen, absent) => {
                let instance = match &wanted {
                    Wanted::Hold(hold) => hold.slot.instance,
                    Wanted::Release(instance) => *instance,
                };
                Input::Written(instance, self.write(&key, &wanted, seen, absent))
            }
            Effect::Disown(key, instance) => {
                self.write(&key, &Wanted::Release(instance), 0, false);
                return None;
            }
            Effect::Resync => {
                self.resync();
                return None;
            }
            Effect::Fetch(slot) if faults && self.chance(20) => {
                Input::Fetched(slot.instance, Err(FetchFailure::Failed("no".into())))
            }
            Effect::Fetch(slot) => Input::Fetched(slot.instance, Ok((Box::new(launch()), Some("layer".into())))),
            Effect::Create(id, _) if faults && self.chance(20) => Input::Created(id, Err("no".into())),
            Effect::Create(id, spec) => {
                self.made += 1;
                let info = ContainerInfo {
                    handle: spec.handle.clone(),
                    labels: spec.labels.clone(),
                    address: Ipv4Addr::from_bits((10 << 24) + self.made),
                    host_address: place().host,
                    ports: place().ports,
                    egress: spec.egress.clone(),
                    created_at: self.now.0,
                    exit: None,
                };
                let place = Place::from(&info);
                self.containers.insert(info.handle.clone(), info);
                Input::Created(id, Ok((place, None)))
            }
            Effect::Probe(_, plan) if plan.running => return None,
            Effect::Probe(id, _) if faults && self.chance(10) => {
                Input::Probed(id, Verdict::NeverHealthy { after: Duration::from_secs(1), cause: "no".into() })
            }
            Effect::Probe(id, _) => Input::Probed(id, Verdict::Healthy),
            Effect::Drain(id, _) => Input::Drained(id),
            Effect::StopContainer(id, _) => {
                let exit = ProcessExit { status: 143, out_of_memory: false, at: self.now.0, last_stderr: vec![] };
                let container = self.containers.get_mut(&claim::handle(id));
                Input::Stopped(id, container.map(|info| info.exit.get_or_insert(exit).clone()))
            }
            Effect::Destroy(id) => {
                self.containers.remove(&claim::handle(id));
                Input::Destroyed(id)
            }
            Effect::DestroyOrphan(handle) => {
                self.containers.remove(&handle);
                return None;
            }
            _ => return None,
        })
    }

    fn perform_one(&mut self, faults: bool) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let at = self.rng.random_range(0..self.pending.len());
        let effect = self.pending.remove(at);
        self.history.push(format!("{effect:?}").chars().take(160).collect());
        if let Some(input) = self.perform(effect, faults) {
            self.give(input);
        }
        true
    }

    /// A health manager that starts what is missing or crashed and stops what is not wanted.
    fn manage(&mut self, index: u32) {
        if self.asked.values().any(|asked| *asked == index) {
            return;
        }
        let key = instance_key(version(), index);
        let record = self.bucket.get(&key).cloned();
        let wanted = self.wanted.get(&index).copied().unwrap_or(false);
        let startable = |record: &InstanceRecord| record.owner.as_ref().is_none_or(|owner| owner.state == InstanceState::Crashed);
        match record {
            None if wanted => self.ask_start(index, 0),
            Some((record, revision)) if wanted && startable(&record) => self.ask_start(index, revision),
            Some((record, _)) if !wanted => {
                let holders = [record.owner, record.predecessor];
                let mine: Vec<_> =
                    holders.iter().flatten().filter(|holder| holder.dea == ours()).map(|holder| holder.instance).collect();
                if mine.is_empty() {
                    self.put(&key, None);
                }
                for instance in mine {
                    self.tickets += 1;
                    self.give(Input::Stop(self.tickets, StopInstance { instance, reason: "x".into(), fence: 1 }));
                }
            }
            _ => {}
        }
    }

    fn ask_start(&mut self, index: u32, revision: u64) {
        let slot = super::tests::slot();
        self.tickets += 1;
        let request = StartInstance {
            app: slot.app,
            process: slot.process,
            process_type: slot.process_type,
            version: slot.version,
            index,
            instance: InstanceId::random(&mut self.rng),
            memory_mb: slot.memory_mb,
            disk_mb: slot.disk_mb,
            stack: slot.stack,
            revision,
            fence: 1,
        };
        self.asked.insert(self.tickets, index);
        self.give(Input::Start(self.tickets, request));
    }

    fn restart(&mut self) {
        self.history.push("restart".into());
        // What was asked of the world may still happen; nobody hears of it.
        for effect in std::mem::take(&mut self.pending) {
            if self.chance(2) {
                self.perform(effect, true);
            }
        }
        self.core = new_core();
        self.asked.clear();
        self.watch.clear();
        let records = self.bucket.iter().map(|(key, (record, at))| (key.clone(), Told::Put(Box::new(record.clone()), *at)));
        let recovery =
            Recovery { containers: self.containers.values().cloned().collect(), records: records.collect(), works: vec![] };
        self.give(Input::Recovered(recovery));
    }

    fn step(&mut self) {
        let index = self.rng.random_range(0..SLOTS);
        match self.rng.random_range(0..100) {
            0..45 => drop(self.perform_one(true)),
            45..65 => {
                if let Some(input) = self.watch.pop_front() {
                    self.give(input);
                }
            }
            65..80 => self.manage(index),
            80..86 => {
                let wanted = self.rng.random_range(0..3) > 0;
                self.wanted.insert(index, wanted);
            }
            86..90 => self.exit_one(),
            90..92 => self.restart(),
            92..94 => self.steal(index),
            94..96 => self.give(Input::Containers(self.containers.values().cloned().collect())),
            96..97 => self.snapshots.push((self.bucket.clone(), self.revision)),
            97..98 => self.roll_back(),
            _ => self.resync(),
        }
    }

    fn exit_one(&mut self) {
        let alive: Vec<String> =
            self.containers.values().filter(|info| info.exit.is_none()).map(|info| info.handle.clone()).collect();
        if alive.is_empty() {
            return;
        }
        let handle = alive[self.rng.random_range(0..alive.len())].clone();
        let exit = ProcessExit { status: 1, out_of_memory: false, at: self.now.0, last_stderr: vec![] };
        if let Some(info) = self.containers.get_mut(&handle) {
            info.exit = Some(exit.clone());
        }
        self.history.push(format!("exit {handle}"));
        if self.chance(2) {
            self.give(Input::Exited(handle, exit));
        }
    }

    /// Another DEA gets the slot.
    fn steal(&mut self, index: u32) {
        let key = instance_key(version(), index);
        let Some((mut record, _)) = self.bucket.get(&key).cloned() else { return };
        self.history.push(format!("steal {index}"));
        let instance = InstanceId::random(&mut self.rng);
        let other = Holder {
            instance,
            dea: super::tests::id(77),
            state: InstanceState::Running,
            since: self.now,
            endpoint: None,
            memory_mb: 1,
            disk_mb: 1,
            details: None,
        };
        record.predecessor = if self.chance(2) { record.owner.clone() } else { None };
        record.owner = Some(other);
        self.put(&key, Some(record));
    }

    fn roll_back(&mut self) {
        if let Some((bucket, revision)) = self.snapshots.pop() {
            self.history.push("roll back".into());
            (self.bucket, self.revision) = (bucket, revision);
            self.snapshots.clear();
            self.resync();
        }
    }

    /// No faults any more: everything comes to rest.
    fn settle(&mut self, seed: u64) {
        self.resync();
        for _ in 0..40 {
            while self.perform_one(false) || !self.watch.is_empty() {
                if let Some(input) = self.watch.pop_front() {
                    self.give(input);
                }
                assert!(self.history.len() < 200_000, "seed={seed}: never at rest");
            }
            self.give(Input::Containers(self.containers.values().cloned().collect()));
            for index in 0..SLOTS {
                self.manage(index);
            }
        }
        assert!(self.pending.is_empty(), "seed={seed}: {:?}", self.pending);
    }

    fn verify(&mut self, seed: u64) {
        let tail = self.history.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n");
        let mut expected = BTreeSet::new();
        for index in 0..SLOTS {
            let key = instance_key(version(), index);
            let owner = self.bucket.get(&key).and_then(|(record, _)| record.owner.clone());
            if !self.wanted.get(&index).copied().unwrap_or(false) {
                assert!(owner.is_none(), "seed={seed}: {index} is not wanted: {owner:?}\n{tail}");
                continue;
            }
            let owner = owner.unwrap_or_else(|| panic!("seed={seed}: nobody has {index}\n{tail}"));
            assert_eq!(owner.state, InstanceState::Running, "seed={seed}: {index}\n{tail}");
            if owner.dea == ours() {
                expected.insert(claim::handle(owner.instance));
            }
        }
        let there: BTreeSet<String> = self.containers.keys().cloned().collect();
        assert_eq!(there, expected, "seed={seed}: containers are exactly what the records say\n{tail}");
        let told: BTreeSet<String> = self.core.heartbeat().droplets.iter().map(|report| claim::handle(report.instance)).collect();
        assert_eq!(told, expected, "seed={seed}: heartbeats are exactly what the records say\n{tail}");
        // What a restarted DEA does not register again, routers prune.
        self.routes.clear();
        self.give(Input::RegisterAll);
        let addresses: BTreeSet<String> = self.containers.values().map(|info| info.address.to_string()).collect();
        assert_eq!(self.routes, addresses, "seed={seed}: routes lead to exactly what runs\n{tail}");
        assert!(self.containers.values().all(|info| container::kind(ours(), &info.labels).is_some()));
    }
}

#[test]
fn any_history_settles_on_what_is_wanted_and_leaves_nothing_behind() {
    for seed in 0..300 {
        let mut sim = Sim::new(seed);
        for _ in 0..300 {
            sim.step();
        }
        sim.settle(seed);
        sim.verify(seed);
    }
}
