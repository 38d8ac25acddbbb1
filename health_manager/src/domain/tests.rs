//! Single cases by hand, and whole histories by seed.

use super::*;
use cloud_controller_client::{DesiredBuild, DesiredProcess};
use messages::{
    claims::{Exit, Holder, InstanceState},
    dea::InstanceReport,
};
use rand::SeedableRng;
use types::AppId;

mod world;

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn process(n: u128, version: u128, instances: u32) -> DesiredProcess {
    DesiredProcess {
        app: id(n),
        process: id(n),
        process_type: "web".into(),
        version: id(version),
        instances,
        memory_mb: 100,
        disk_mb: 100,
        stack: "debian12".into(),
        only_on: None,
        new_volume_mb: 0,
    }
}

fn offer(n: u128, free: u32, total: u32) -> Advertise {
    Advertise {
        id: id(n),
        stacks: vec!["debian12".into()],
        available_memory_mb: free,
        available_disk_mb: 100_000,
        total_memory_mb: total,
        total_disk_mb: 100_000,
        app_id_to_count: BTreeMap::new(),
        placement_properties: BTreeMap::new(),
        evacuating: false,
    }
}

fn holder(instance: u128, dea: u128, state: InstanceState, since: Timestamp) -> Holder {
    let (instance, dea) = (id(instance), id(dea));
    Holder { instance, dea, state, since, endpoint: None, memory_mb: 100, disk_mb: 100, details: None }
}

fn record(n: u128, version: u128, index: u32, owner: Option<Holder>) -> InstanceRecord {
    InstanceRecord {
        app: id(n),
        process: id(n),
        process_type: "web".into(),
        version: id(version),
        index,
        owner,
        predecessor: None,
        crash_count: 0,
        last_exit: None,
        unplaced: None,
    }
}

/// A core that leads, and the time that passes for it.
struct Bench {
    core: Core,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let core = Core::new(Settings::named("a"), StdRng::seed_from_u64(1), START);
        let mut bench = Self { core, now: START };
        bench.give(Input::Bus(true));
        for effect in bench.give(Input::Lease { lease: None, revision: 0 }) {
            if let Effect::Lease { lease, .. } = effect {
                bench.give(Input::LeaseWrote { lease, outcome: Written::Yes(1) });
            }
        }
        assert!(bench.core.leads(bench.now));
        bench.now = bench.now + Duration::from_secs(1);
        bench
    }

    /// One whose claims are told in full (these) and whose feed is complete (this).
    fn with(changes: Vec<Desired>, claims: Vec<(InstanceRecord, u64)>) -> Self {
        let mut bench = Self::new();
        bench.give(Input::Claims(ClaimsChange::Reset));
        for (record, revision) in claims {
            bench.give(Input::Claims(ClaimsChange::Instance(Box::new(record), revision)));
        }
        bench.desired(changes);
        bench.give(Input::Advertise(offer(101, 1_000, 1_000)));
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        self.core.handle(input, self.now)
    }

    fn desired(&mut self, changes: Vec<Desired>) -> Vec<Effect> {
        let asked = self.now;
        self.give(Input::Desired { changes, complete: true, asked })
    }

    fn synced(&mut self) -> Vec<Effect> {
        self.give(Input::Claims(ClaimsChange::Synced))
    }

    fn told(&mut self, record: InstanceRecord, revision: u64) -> Vec<Effect> {
        self.give(Input::Claims(ClaimsChange::Instance(Box::new(record), revision)))
    }

    /// Lets time pass in ticks, with the lease renewed, the feed answering and these DEAs speaking.
    fn pass(&mut self, seconds: u64, deas: &[u128], beats: &[Heartbeat]) -> Vec<Effect> {
        let mut effects = vec![];
        for second in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            effects.extend(self.desired(vec![]));
            if second % 5 == 0 {
                for dea in deas {
                    effects.extend(self.give(Input::Advertise(offer(*dea, 1_000, 1_000))));
                }
                for beat in beats {
                    effects.extend(self.give(Input::Heartbeat(beat.clone())));
                }
            }
            effects.extend(self.give(Input::Tick));
            for effect in effects.extract_if(.., |effect| matches!(effect, Effect::Lease { .. })).collect::<Vec<_>>() {
                let Effect::Lease { lease, revision } = effect else { continue };
                self.give(Input::LeaseWrote { lease, outcome: Written::Yes(revision + 1) });
            }
        }
        effects
    }
}

fn starts(effects: &[Effect]) -> Vec<(DeaId, StartInstance)> {
    let start = |effect: &Effect| match effect {
        Effect::Start { dea, start } => Some((*dea, start.clone())),
        _ => None,
    };
    effects.iter().filter_map(start).collect()
}

fn stops(effects: &[Effect]) -> Vec<InstanceId> {
    let stop = |effect: &Effect| match effect {
        Effect::Stop { stop, .. } => Some(stop.instance),
        _ => None,
    };
    effects.iter().filter_map(stop).collect()
}

fn writes(effects: &[Effect]) -> Vec<InstanceRecord> {
    let write = |effect: &Effect| match effect {
        Effect::Write { record, .. } => Some((**record).clone()),
        _ => None,
    };
    effects.iter().filter_map(write).collect()
}

fn beat(dea: u128, instances: &[(u128, u128, u32, u128, InstanceState)]) -> Heartbeat {
    let report = |(n, version, index, instance, state): &(u128, u128, u32, u128, InstanceState)| InstanceReport {
        app: id(*n),
        process: id(*n),
        version: id(*version),
        instance: id(*instance),
        index: *index,
        state: *state,
        state_timestamp: START,
        usage: None,
    };
    Heartbeat { dea: id(dea), droplets: instances.iter().map(report).collect(), works: vec![] }
}

#[test]
fn a_new_process_is_started_by_the_very_input_that_tells_of_it() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    let effects = bench.desired(vec![Desired::Process(process(1, 11, 2))]);
    let starts = starts(&effects);
    assert_eq!(starts.len(), 2);
    assert_eq!((starts[0].1.index, starts[0].1.revision, starts[0].1.fence), (0, 0, 1));
}

#[test]
fn nothing_is_done_before_the_claims_are_told_in_full() {
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![]);
    assert_eq!(bench.pass(3, &[101], &[]), []);
    assert_eq!(starts(&bench.synced()).len(), 1);
}

#[test]
fn a_refusal_tries_the_next_dea_and_the_last_reason_reaches_the_user() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.synced();
    bench.pass(6, &[101, 102], &[]);
    let mut asked = starts(&bench.desired(vec![Desired::Process(process(1, 11, 1))]));
    let refuse = |bench: &mut Bench, (dea, start): (DeaId, StartInstance)| {
        let outcome = Outcome::Refused("disk is full".into());
        bench.give(Input::Started { slot: (start.version, 0), instance: start.instance, dea, outcome })
    };
    let first = asked.remove(0);
    let mut second = starts(&refuse(&mut bench, first.clone()));
    assert_ne!(second[0].0, first.0);
    let effects = refuse(&mut bench, second.remove(0));
    assert_eq!(starts(&effects), []);
    assert_eq!(writes(&effects)[0].unplaced.as_deref(), Some("refused: disk is full"));
}

#[test]
fn an_unknown_outcome_is_not_tried_again_before_the_dea_has_spoken() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    let asked = starts(&bench.desired(vec![Desired::Process(process(1, 11, 1))]));
    let (dea, start) = asked[0].clone();
    let effects =
        bench.give(Input::Started { slot: (start.version, 0), instance: start.instance, dea, outcome: Outcome::Unknown });
    assert_eq!(effects, [Effect::Locate]);
    assert_eq!(starts(&bench.pass(20, &[101], &[])), []);
    assert_eq!(starts(&bench.give(Input::Heartbeat(beat(101, &[])))), []);
    assert_eq!(starts(&bench.give(Input::Tick)).len(), 1, "it said that it has no such instance");
}

#[test]
fn the_user_reads_what_was_asked_and_what_is_free() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    bench.pass(6, &[101], &[]);
    let big = DesiredProcess { memory_mb: 2_048, ..process(1, 11, 1) };
    let effects = bench.desired(vec![Desired::Process(big)]);
    let told = writes(&effects)[0].unplaced.clone().unwrap();
    assert_eq!(told, "InsufficientResources: 2048 MB asked, most free 1000 MB");
}

#[test]
fn an_instance_that_found_no_place_starts_as_soon_as_another_ends() {
    let full = record(2, 22, 0, Some(Holder { memory_mb: 950, ..holder(9, 101, InstanceState::Running, START) }));
    let mut bench = Bench::with(vec![], vec![(full, 5)]);
    bench.synced();
    bench.give(Input::Advertise(offer(101, 50, 1_000)));
    assert_eq!(starts(&bench.desired(vec![Desired::Process(process(1, 11, 1))])), []);
    let effects = bench.give(Input::Claims(ClaimsChange::NoInstance((id(22), 0))));
    assert_eq!(starts(&effects).len(), 1, "no advertisement was waited for");
}

#[test]
fn a_crashed_instance_is_back_at_once_and_the_fourth_time_after_half_a_minute() {
    let crashed = |count, at: Timestamp| {
        let exit = Exit { instance: id(0), at, status: Some(1), reason: "Exited with status 1".into() };
        let mut record = record(1, 11, 0, Some(holder(0, 101, InstanceState::Crashed, at)));
        record.crash_count = count;
        record.last_exit = Some(exit);
        record
    };
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(crashed(1, START), 5)]);
    let again = starts(&bench.synced());
    assert_eq!((again.len(), again[0].1.revision), (1, 5));
    let now = bench.now;
    assert_eq!(starts(&bench.told(crashed(4, now), 6)), []);
    assert_eq!(starts(&bench.pass(29, &[101], &[])), []);
    assert_eq!(starts(&bench.pass(2, &[101], &[])).len(), 1);
}

#[test]
fn what_is_no_longer_wanted_is_stopped_only_on_fresh_state() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::new();
    bench.give(Input::Claims(ClaimsChange::Reset));
    bench.told(running, 5);
    bench.give(Input::Advertise(offer(101, 500, 1_000)));
    let asked = bench.now;
    let changes = vec![Desired::NoProcess { process: id(1) }];
    bench.give(Input::Desired { changes, complete: false, asked });
    assert_eq!(stops(&bench.synced()), [], "the feed is not complete");
    assert_eq!(stops(&bench.desired(vec![])), [id(9)]);
}

#[test]
fn what_the_feed_never_mentioned_runs_on() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![], vec![(running, 5)]);
    let mut effects = bench.synced();
    effects.extend(bench.pass(120, &[101], &[beat(101, &[(1, 11, 0, 9, InstanceState::Running)])]));
    assert_eq!(effects.iter().filter(|effect| !matches!(effect, Effect::Locate)).count(), 0, "{effects:?}");
}

#[test]
fn a_silent_dea_is_replaced_start_before_stop() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running.clone(), 5)]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.synced();
    assert_eq!(bench.pass(30, &[102], &[]), []);
    let effects = bench.pass(2, &[102], &[]);
    let replaced = starts(&effects);
    assert_eq!((replaced.len(), replaced[0].0, replaced[0].1.revision), (1, id(102), 5));
    assert_eq!(stops(&effects), []);
    let mut moved = running;
    moved.predecessor = moved.owner.replace(holder(10, 102, InstanceState::Starting, START));
    assert_eq!(bench.told(moved.clone(), 6), []);
    moved.owner.as_mut().unwrap().state = InstanceState::Running;
    let effects = bench.told(moved, 7);
    assert_eq!(writes(&effects)[0].predecessor, None, "its DEA is still silent: the record just forgets it");
}

#[test]
fn a_silent_dea_that_returns_in_time_takes_its_instance_back() {
    let mut moved = record(1, 11, 0, Some(holder(10, 102, InstanceState::Starting, START)));
    moved.predecessor = Some(holder(9, 101, InstanceState::Running, START));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(moved, 5)]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.synced();
    let effects = bench.give(Input::Heartbeat(beat(101, &[(1, 11, 0, 9, InstanceState::Running)])));
    let back = writes(&effects).remove(0);
    assert_eq!((back.owner.unwrap().instance, back.predecessor), (id(9), None));
    assert_eq!(stops(&effects), [], "the replacement is stopped only once the record says so");
    let effects = bench.give(Input::Wrote { slot: (id(11), 0), outcome: Written::Yes(6) });
    assert_eq!(stops(&effects), [id(10)]);
}

#[test]
fn a_silent_dea_keeps_its_instances_while_there_is_no_other_place() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running, 5)]);
    bench.synced();
    assert_eq!(bench.pass(120, &[], &[]), []);
}

#[test]
fn a_pause_of_the_health_manager_is_not_taken_for_the_silence_of_deas() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running, 5)]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.synced();
    bench.now = bench.now + Duration::from_secs(90);
    let effects = bench.pass(20, &[102], &[]);
    assert_eq!(starts(&effects), []);
}

#[test]
fn an_evacuating_instance_is_replaced_and_then_stopped() {
    let evacuating = record(1, 11, 0, Some(holder(9, 101, InstanceState::Evacuating, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(evacuating.clone(), 5)]);
    bench.give(Input::Advertise(Advertise { evacuating: true, ..offer(101, 900, 1_000) }));
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    let replaced = starts(&bench.synced());
    assert_eq!((replaced.len(), replaced[0].0), (1, id(102)));
    let mut moved = evacuating;
    moved.predecessor = moved.owner.replace(holder(10, 102, InstanceState::Running, START));
    assert_eq!(stops(&bench.told(moved, 6)), [id(9)]);
}

#[test]
fn an_instance_that_two_heartbeats_do_not_mention_is_gone() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running, 5)]);
    bench.synced();
    let effects = bench.pass(5, &[101], &[beat(101, &[])]);
    assert_eq!(effects, []);
    assert_eq!(bench.pass(2, &[101], &[beat(101, &[])]), [], "one alone may have crossed the claim on its way");
    let written = writes(&bench.pass(2, &[101], &[beat(101, &[])]));
    assert_eq!(written[0].owner, None);
    assert_eq!(starts(&bench.told(written[0].clone(), 6)).len(), 1);
}

#[test]
fn a_lost_store_does_not_double_what_runs() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running, 5)]);
    bench.synced();
    bench.give(Input::Heartbeat(beat(101, &[(1, 11, 0, 9, InstanceState::Running)])));
    bench.give(Input::Claims(ClaimsChange::Reset));
    let mut effects = bench.synced();
    effects.extend(bench.give(Input::Heartbeat(beat(101, &[(1, 11, 0, 9, InstanceState::Running)]))));
    effects.extend(bench.pass(20, &[101], &[beat(101, &[(1, 11, 0, 9, InstanceState::Running)])]));
    // One race is left: the slot is judged in the moment of the news, before a heartbeat says what runs.
    assert_eq!(stops(&effects), []);
    assert!(starts(&effects).len() <= 1, "{effects:?}");
}

#[test]
fn an_instance_without_a_claim_is_stopped_after_a_while() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    let mut bench = Bench::with(vec![Desired::Process(process(1, 11, 1))], vec![(running, 5)]);
    bench.synced();
    let both = beat(101, &[(1, 11, 0, 9, InstanceState::Running), (1, 11, 0, 8, InstanceState::Running)]);
    assert_eq!(stops(&bench.pass(25, &[101], std::slice::from_ref(&both))), []);
    assert_eq!(stops(&bench.pass(5, &[101], &[both])), [id(8)]);
}

fn pinned(version: u128) -> DesiredProcess {
    DesiredProcess { only_on: Some(id(101)), ..process(1, version, 1) }
}

const AWAY: &str = "the DEA 00000000-0000-0000-0000-000000000065 that has its volume does not answer";

#[test]
fn what_has_its_volume_on_a_dea_waits_for_it() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.pass(40, &[102], &[]);
    let mut effects = bench.desired(vec![Desired::Process(pinned(11))]);
    let told = writes(&effects).remove(0);
    assert_eq!(told.unplaced.as_deref(), Some(AWAY));
    bench.told(told, 5);
    effects.extend(bench.pass(300, &[102], &[]));
    assert_eq!(starts(&effects), []);
    let effects = bench.give(Input::Advertise(offer(101, 50, 1_000)));
    assert_eq!(starts(&effects), [], "too little is free");
    let told = writes(&effects).remove(0);
    assert!(told.unplaced.as_deref().unwrap().ends_with("that has its volume has 50 MB free"), "{told:?}");
    bench.told(told, 6);
    let asked = starts(&bench.give(Input::Advertise(offer(101, 500, 1_000))));
    assert_eq!((asked.len(), asked[0].0), (1, id(101)));
    let (dea, start) = asked[0].clone();
    let outcome = Outcome::Refused("disk is full".into());
    let effects = bench.give(Input::Started { slot: (start.version, 0), instance: start.instance, dea, outcome });
    assert_eq!(starts(&effects), [], "and not elsewhere");
}

#[test]
fn an_instance_with_a_volume_is_not_replaced_while_its_dea_is_silent() {
    let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
    for wanted in [pinned(11), DesiredProcess { new_volume_mb: 10, ..process(1, 11, 1) }] {
        let mut bench = Bench::with(vec![Desired::Process(wanted)], vec![(running.clone(), 5)]);
        bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
        bench.synced();
        assert_eq!(bench.pass(120, &[102], &[]), []);
    }
}

#[test]
fn an_instance_with_a_volume_stops_before_the_next_start_even_where_both_would_fit() {
    for (wanted, free) in
        [(pinned(12), 1_000), (pinned(12), 0), (DesiredProcess { new_volume_mb: 10, ..process(1, 12, 1) }, 1_000)]
    {
        let running = record(1, 11, 0, Some(holder(9, 101, InstanceState::Running, START)));
        let before = DesiredProcess { version: id(11), ..wanted.clone() };
        let mut bench = Bench::with(vec![Desired::Process(before)], vec![(running, 5)]);
        bench.synced();
        bench.give(Input::Advertise(offer(101, free, 1_000)));
        let effects = bench.desired(vec![Desired::Process(wanted)]);
        assert_eq!((stops(&effects), starts(&effects)), (vec![id(9)], vec![]));
        let mut stopping = record(1, 11, 0, Some(holder(9, 101, InstanceState::Stopping, START)));
        stopping.owner.as_mut().unwrap().since = bench.now;
        assert_eq!(starts(&bench.told(stopping, 6)), []);
        let effects = bench.give(Input::Claims(ClaimsChange::NoInstance((id(11), 0))));
        assert_eq!(starts(&effects).len(), 1, "its room is free with it");
    }
}

#[test]
fn a_start_of_before_that_nobody_answered_is_waited_for() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    let asked = starts(&bench.desired(vec![Desired::Process(pinned(11))]));
    assert_eq!(starts(&bench.desired(vec![Desired::Process(pinned(12))])), []);
    let (dea, start) = asked[0].clone();
    let outcome = Outcome::Refused("no longer wanted".into());
    let effects = bench.give(Input::Started { slot: (start.version, 0), instance: start.instance, dea, outcome });
    assert_eq!(starts(&effects).len(), 1);
}

#[test]
fn a_volume_that_is_still_to_be_made_takes_disk() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    bench.pass(6, &[101], &[]);
    let wanted = DesiredProcess { new_volume_mb: 99_950, ..process(1, 11, 1) };
    let effects = bench.desired(vec![Desired::Process(wanted.clone())]);
    let told = "InsufficientResources: 100050 MB of disk asked, most free 100000 MB of disk";
    assert_eq!((starts(&effects), writes(&effects)[0].unplaced.as_deref()), (vec![], Some(told)));

    // Where a start came to nothing, the volume may be there, and is not counted again.
    let mut crashed = record(1, 11, 0, Some(holder(0, 101, InstanceState::Crashed, START)));
    crashed.crash_count = 1;
    let mut bench = Bench::with(vec![Desired::Process(wanted)], vec![(crashed, 5)]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    let asked = starts(&bench.synced());
    assert_eq!((asked.len(), asked[0].0, asked[0].1.disk_mb), (1, id(101), 100));
}

fn build(n: u128, memory_mb: u32) -> Desired {
    let stack = "debian12".into();
    Desired::Build(DesiredBuild { build: id(n), app: id(1), memory_mb, disk_mb: 100, stack, created_at: START })
}

fn stagings(effects: &[Effect]) -> Vec<DeaId> {
    let stage = |effect: &Effect| match effect {
        Effect::Stage { dea, .. } => Some(*dea),
        _ => None,
    };
    effects.iter().filter_map(stage).collect()
}

fn failures(effects: &[Effect]) -> Vec<(&'static str, String)> {
    let fail = |effect: &Effect| match effect {
        Effect::FailBuild { id, message, .. } => Some((*id, message.clone())),
        _ => None,
    };
    effects.iter().filter_map(fail).collect()
}

#[test]
fn a_build_is_placed_at_once_and_only_once() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    let asked = stagings(&bench.desired(vec![build(7, 500)]));
    assert_eq!(asked, [id(101)]);
    bench.give(Input::Staged { build: id(7), dea: id(101), outcome: Outcome::Accepted });
    let work = WorkRecord { dea: id(101), since: START, done: false };
    bench.give(Input::Claims(ClaimsChange::Work(Uuid::from_u128(7), work, 9)));
    let busy = Heartbeat { works: vec![Uuid::from_u128(7)], ..beat(101, &[]) };
    assert_eq!(bench.pass(300, &[101], &[busy]), []);
}

#[test]
fn a_build_that_fits_nowhere_fails_with_the_figures() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    assert_eq!(bench.desired(vec![build(7, 2_048)]), []);
    let told = failures(&bench.pass(12, &[101], &[]));
    assert_eq!(told, [("InsufficientResources", "2048 MB asked, most free 1000 MB".into())]);
}

#[test]
fn a_build_whose_host_was_lost_fails_instead_of_running_twice() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.give(Input::Advertise(offer(102, 1_000, 1_000)));
    bench.synced();
    bench.desired(vec![build(7, 500)]);
    let work = WorkRecord { dea: id(101), since: START, done: false };
    bench.give(Input::Claims(ClaimsChange::Work(Uuid::from_u128(7), work, 9)));
    let effects = bench.pass(40, &[102], &[]);
    assert_eq!(stagings(&effects), []);
    assert_eq!(failures(&effects)[0].0, "StagingError");
}

#[test]
fn an_old_leader_does_nothing() {
    let mut bench = Bench::with(vec![], vec![]);
    bench.synced();
    let other = Lease { holder: "b".into(), fence: 2, until: START + Duration::from_secs(60) };
    bench.give(Input::Lease { lease: Some(other), revision: 2 });
    assert_eq!(bench.desired(vec![Desired::Process(process(1, 11, 2))]), []);
}

#[test]
fn a_quiet_pass_over_many_instances_judges_each_process_once() {
    let processes: u128 = 2_000;
    let claims = (0..processes)
        .flat_map(|n| (0..5).map(move |index| (n, index)))
        .map(|(n, index)| {
            let holder = holder(n * 5 + u128::from(index), 101 + n % 50, InstanceState::Running, START);
            (record(n, n + 1_000_000, index, Some(holder)), 1 + n as u64)
        })
        .collect();
    let desired = (0..processes).map(|n| Desired::Process(process(n, n + 1_000_000, 5))).collect();
    let mut bench = Bench::with(desired, claims);
    let before = bench.core.judged();
    assert_eq!(bench.synced(), []);
    assert_eq!(bench.core.judged() - before, processes as u64);
    let before = bench.core.judged();
    bench.give(Input::Tick);
    bench.told(record(3, 1_000_003, 1, Some(holder(16, 104, InstanceState::Crashed, START))), 99_999);
    assert_eq!(bench.core.judged() - before, 1, "news of one instance concerns one process");
}

#[test]
fn any_history_settles_on_what_is_wanted() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let first = std::env::var("FIRST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        let mut world = world::World::new(seed);
        world.live(Duration::from_secs(400));
        world.settle();
        world.assert_settled();
    }
}
