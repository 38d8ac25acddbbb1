use super::*;
use crate::domain::container;
use cloud_controller_client::{HealthCheck, RoutesAnswer, ServicePort, Volume};
use loggregator_client::Envelope;
use messages::{
    claims::InstanceRecord,
    dea::{Answer, StageBuild, StartInstance, StopInstance},
};
use std::net::Ipv4Addr;
use warden_client::ContainerInfo;

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(n: u8) -> T {
    format!("00000000-0000-4000-8000-0000000000{n:02x}").parse().unwrap()
}

pub(crate) fn slot() -> Slot {
    Slot {
        app: id(1),
        process: id(2),
        process_type: "web".into(),
        version: id(3),
        index: 0,
        instance: id(4),
        memory_mb: 256,
        disk_mb: 512,
        stack: "debian12".into(),
    }
}

pub(crate) fn route(uri: &str) -> Route {
    Route { uri: uri.into(), port: 8080, protocol: "http1".into(), loadbalancing: None, route_service_url: None }
}

pub(crate) fn launch() -> LaunchSpec {
    LaunchSpec {
        app: id(1),
        app_name: "shop".into(),
        space: (id::<AppId>(20).to_string(), "dev".into()),
        organization: (id::<AppId>(21).to_string(), "acme".into()),
        process: id(2),
        process_type: "web".into(),
        version: id(3),
        droplet: Some(id(5)),
        droplet_sha256: "ab".repeat(32),
        stack: "debian12".into(),
        command: "./server".into(),
        env: BTreeMap::new(),
        memory_mb: 256,
        disk_mb: 512,
        fds: 1024,
        log_rate_limit_bytes_per_second: -1,
        health_check: HealthCheck {
            kind: "port".into(),
            timeout_s: 60,
            invocation_timeout_s: 1,
            interval_s: 30,
            http_endpoint: String::new(),
        },
        ports: vec![8080],
        routes: vec![route("shop.example")],
        binding_files: BTreeMap::new(),
        egress: vec![],
        volume: None,
        service_port: None,
    }
}

pub(crate) fn workload() -> LaunchSpec {
    LaunchSpec {
        droplet: None,
        droplet_sha256: String::new(),
        command: "exec postgres".into(),
        ports: vec![5432],
        routes: vec![],
        volume: Some(Volume { id: "db".into(), size_mb: 1024, path: "/home/vcap/data".into() }),
        service_port: Some(ServicePort { port: 8000, container_port: 5432 }),
        ..launch()
    }
}

pub(crate) fn place() -> Place {
    Place {
        container: Ipv4Addr::new(10, 1, 0, 2),
        host: Ipv4Addr::new(192, 0, 2, 1),
        ports: BTreeMap::from([(8080, 61001)]),
        created_at: Timestamp(1),
    }
}

fn settings() -> Settings {
    Settings {
        common: Common { dea: id(9), lifecycle: "/opt/lifecycle".into(), pids: 512 },
        route_to: RouteTo::Container,
        zone: "z1".into(),
        drain: Duration::from_millis(300),
        grace: Duration::from_secs(10),
        evacuation: Duration::ZERO,
    }
}

/// A core and its clock.
struct World {
    core: Core,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let mut world = Self { core: Core::new(settings, 5), now: Timestamp::from_secs(1_000) };
        let capacity = Capacity {
            memory_mb: 1024,
            disk_mb: 4096,
            stacks: vec!["debian12".into()],
            cores: 2,
            host_memory_bytes: 1 << 30,
            max_instances: 10,
        };
        world.give(Input::Capacity(capacity));
        world
    }

    fn give(&mut self, input: Input) -> Vec<Effect> {
        self.now = self.now + Duration::from_millis(1);
        self.core.handle(input, self.now)
    }

    fn start(&mut self) -> Vec<Effect> {
        self.give(Input::Start(1, start(0)))
    }

    /// An instance that runs with its record written.
    fn running(&mut self) {
        self.runs(launch());
    }

    fn runs(&mut self, launch: LaunchSpec) {
        self.start();
        self.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
        let layer = launch.droplet.map(|_| "layer".to_owned());
        self.give(Input::Fetched(id(4), Ok((Box::new(launch), layer))));
        self.give(Input::Created(id(4), Ok((place(), None))));
        self.written(8);
        self.give(Input::Probed(id(4), Verdict::Healthy));
        self.written(9);
        self.written(10);
        assert_eq!(self.state(), Some(InstanceState::Running));
    }

    fn written(&mut self, revision: u64) -> Vec<Effect> {
        self.give(Input::Written(id(4), Written::Done { revision }))
    }

    fn state(&self) -> Option<InstanceState> {
        self.core.heartbeat().droplets.first().map(|report| report.state)
    }
}

fn start(revision: u64) -> StartInstance {
    let slot = slot();
    StartInstance {
        app: slot.app,
        process: slot.process,
        process_type: slot.process_type,
        version: slot.version,
        index: slot.index,
        instance: slot.instance,
        memory_mb: slot.memory_mb,
        disk_mb: slot.disk_mb,
        stack: slot.stack,
        revision,
        fence: 5,
    }
}

fn stop(fence: u64) -> StopInstance {
    StopInstance { instance: id(4), reason: "stopped by user".into(), fence }
}

fn lines(effects: &[Effect]) -> Vec<String> {
    let line = |envelope: &Envelope| match &envelope.message {
        Some(loggregator_client::Payload::Log(log)) => {
            Some(format!("{} {}", envelope.tags["source_type"], String::from_utf8_lossy(&log.payload)))
        }
        _ => None,
    };
    let emitted = effects.iter().filter_map(|effect| if let Effect::Emit(all) = effect { Some(all) } else { None });
    emitted.flatten().filter_map(line).collect()
}

fn position(effects: &[Effect], which: impl Fn(&Effect) -> bool) -> usize {
    effects.iter().position(which).unwrap_or_else(|| panic!("not among {effects:?}"))
}

fn exit(status: i32, out_of_memory: bool) -> ProcessExit {
    ProcessExit { status, out_of_memory, at: 5, last_stderr: vec![] }
}

fn record(owner: Option<Holder>, predecessor: Option<Holder>) -> Box<InstanceRecord> {
    let slot = slot();
    Box::new(InstanceRecord {
        app: slot.app,
        process: slot.process,
        process_type: slot.process_type,
        version: slot.version,
        index: slot.index,
        owner,
        predecessor,
        crash_count: 0,
        last_exit: None,
        unplaced: None,
    })
}

fn holder(instance: u8, dea: u8, state: InstanceState) -> Holder {
    Holder {
        instance: id(instance),
        dea: id(dea),
        state,
        since: Timestamp(3),
        endpoint: None,
        memory_mb: 256,
        disk_mb: 512,
        details: None,
    }
}

#[test]
fn a_start_is_answered_only_after_the_claim() {
    let mut world = World::new();
    let effects = world.start();
    assert!(matches!(effects.as_slice(), [Effect::Claim(_, 0)]), "{effects:?}");
    let effects = world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    assert!(effects.contains(&Effect::Answer(1, Answer::Accepted)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Fetch(_))));
}

#[test]
fn a_lost_claim_is_a_refusal_and_frees_what_was_reserved() {
    let mut world = World::new();
    world.start();
    assert_eq!(world.core.advertisement().available_memory_mb, 768);
    let effects = world.give(Input::Claimed(id(4), Err("the slot was taken by somebody else".into())));
    assert!(matches!(&effects[0], Effect::Answer(1, Answer::Refused { reason }) if reason.contains("taken")));
    assert_eq!(world.core.advertisement().available_memory_mb, 1024);
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let mut world = World::new();
    let effects = world.give(Input::Start(1, StartInstance { memory_mb: 2048, ..start(0) }));
    assert_eq!(effects, [Effect::Answer(1, Answer::Refused { reason: "no room: 2048 MB asked, 1024 MB free".into() })]);
}

#[test]
fn older_leaders_are_refused_and_newer_ones_remembered() {
    let mut world = World::new();
    let effects = world.give(Input::Start(1, StartInstance { fence: 4, ..start(0) }));
    assert!(matches!(&effects[0], Effect::Answer(1, Answer::Refused { reason }) if reason.contains("older leader")));
    let effects = world.give(Input::Start(2, StartInstance { fence: 6, ..start(0) }));
    assert_eq!(effects[0], Effect::RememberFence(6));
    let effects = world.give(Input::Stop(3, stop(5)));
    assert!(matches!(&effects[0], Effect::Answer(3, Answer::Refused { .. })));
    let effects = world.give(Input::Stop(4, stop(0)));
    assert_eq!(effects[0], Effect::Answer(4, Answer::Accepted), "the cloud controller has no fencing number");
}

#[test]
fn leases_that_began_anew_are_believed_after_a_minute() {
    let mut world = World::new();
    let ask = |world: &mut World| world.give(Input::Start(1, StartInstance { fence: 1, ..start(0) }));
    for _ in 0..3 {
        assert!(matches!(&ask(&mut world)[0], Effect::Answer(1, Answer::Refused { .. })));
        world.now = world.now + Duration::from_secs(20);
    }
    assert_eq!(ask(&mut world)[0], Effect::RememberFence(1));
    // But not if the newer leader was heard meanwhile.
    let mut world = World::new();
    ask(&mut world);
    world.now = world.now + Duration::from_secs(50);
    world.give(Input::Stop(2, stop(5)));
    world.now = world.now + Duration::from_secs(50);
    assert!(matches!(&ask(&mut world)[0], Effect::Answer(1, Answer::Refused { .. })));
}

#[test]
fn asking_twice_is_accepted_once() {
    let mut world = World::new();
    world.start();
    assert_eq!(world.give(Input::Start(2, start(0))), []);
    let effects = world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    let answers = effects.iter().filter(|effect| matches!(effect, Effect::Answer(_, Answer::Accepted))).count();
    assert_eq!(answers, 2);
    assert_eq!(world.give(Input::Start(3, start(0))), [Effect::Answer(3, Answer::Accepted)]);
    assert_eq!(world.core.heartbeat().droplets.len(), 1);
}

#[test]
fn a_healthy_instance_is_marked_running_and_its_routes_registered_at_once() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    let effects = world.give(Input::Fetched(id(4), Ok((Box::new(launch()), Some("layer".into())))));
    assert_eq!(
        lines(&effects),
        [format!("CELL Cell {} creating container for instance {}", id::<DeaId>(9), id::<InstanceId>(4))]
    );
    let effects = world.give(Input::Created(id(4), Ok((place(), None))));
    let Some(Effect::Write(_, Wanted::Hold(hold), 7, false)) = effects.iter().find(|effect| matches!(effect, Effect::Write(..)))
    else {
        panic!("{effects:?}")
    };
    assert_eq!(hold.holder.endpoint.as_ref().unwrap().container_port, Some(8080));
    world.written(8);
    let effects = world.give(Input::Probed(id(4), Verdict::Healthy));
    assert_eq!(lines(&effects), ["CELL Container became healthy"]);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Register(register) if register.uris == ["shop.example"])));
    assert!(
        effects.iter().any(
            |effect| matches!(effect, Effect::Write(_, Wanted::Hold(hold), ..) if hold.holder.state == InstanceState::Running)
        )
    );
}

#[test]
fn a_stop_takes_routes_away_before_term_and_the_record_last() {
    let mut world = World::new();
    world.running();
    let effects = world.give(Input::Stop(2, stop(5)));
    let unregister = position(&effects, |effect| matches!(effect, Effect::Unregister(_)));
    let drain = position(&effects, |effect| *effect == Effect::Drain(id(4), Duration::from_millis(300)));
    assert!(unregister < drain);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StopContainer(..))));
    assert_eq!(world.state(), Some(InstanceState::Stopping));
    let effects = world.give(Input::Drained(id(4)));
    assert!(effects.contains(&Effect::StopContainer(id(4), Duration::from_secs(10))));
    let effects = world.give(Input::Stopped(id(4), Some(exit(143, false))));
    assert!(lines(&effects).contains(&"APP/PROC/WEB Exit status 143".to_owned()));
    assert!(effects.contains(&Effect::Destroy(id(4))));
    world.written(11);
    let effects = world.give(Input::Destroyed(id(4)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(_, Wanted::Release(_), ..))), "{effects:?}");
    world.give(Input::Written(id(4), Written::Done { revision: 0 }));
    assert_eq!(world.state(), None);
    assert_eq!(world.core.advertisement().available_memory_mb, 1024);
}

#[test]
fn a_crash_is_told_everywhere_in_the_words_that_users_know() {
    let mut world = World::new();
    world.running();
    let effects = world.give(Input::Exited("i-00000000-0000-4000-8000-000000000004".into(), exit(137, true)));
    assert!(lines(&effects).contains(&"APP/PROC/WEB Exit status 137 (out of memory)".to_owned()));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
    let Some(Effect::ReportCrash(report)) = effects.iter().find(|effect| matches!(effect, Effect::ReportCrash(_))) else {
        panic!()
    };
    assert_eq!(report.exit_description, "APP/PROC/WEB: Exited with status 137 (out of memory)");
    assert_eq!((report.exit_status, report.crash_count), (Some(137), 1));
    assert!(effects.contains(&Effect::Destroy(id(4))));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StopContainer(..))), "nothing is left to stop");
    let Some(Effect::Write(_, Wanted::Hold(hold), ..)) = effects.iter().rfind(|effect| matches!(effect, Effect::Write(..)))
    else {
        panic!()
    };
    assert_eq!(hold.holder.state, InstanceState::Crashed);
    assert_eq!(hold.last_exit.as_ref().unwrap().status, Some(137));
    world.written(11);
    let effects = world.give(Input::Destroyed(id(4)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Write(..))), "the slot may be claimed anew by now");
    assert_eq!(world.state(), Some(InstanceState::Crashed));
    assert_eq!(world.core.advertisement().available_memory_mb, 1024);
}

#[test]
fn an_exit_that_is_told_before_the_creation_is_a_crash_all_the_same() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 2, last_exit: None })));
    world.give(Input::Fetched(id(4), Ok((Box::new(launch()), Some("layer".into())))));
    world.give(Input::Exited(slot().handle(), exit(1, false)));
    let effects = world.give(Input::Created(id(4), Ok((place(), None))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ReportCrash(report) if report.crash_count == 3)), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Probe(..))));
}

#[test]
fn never_healthy_ends_the_container_and_says_why() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    world.give(Input::Fetched(id(4), Ok((Box::new(launch()), Some("layer".into())))));
    world.give(Input::Created(id(4), Ok((place(), None))));
    let cause = "Failed to make TCP connection to 10.1.0.2:8080: connection refused".to_owned();
    let effects = world.give(Input::Probed(id(4), Verdict::NeverHealthy { after: Duration::from_secs(60), cause }));
    assert!(lines(&effects).contains(&"CELL Failed after 1m0s: startup health check never passed.".to_owned()));
    let Some(Effect::ReportCrash(report)) = effects.iter().find(|effect| matches!(effect, Effect::ReportCrash(_))) else {
        panic!()
    };
    assert!(report.exit_description.starts_with("Instance never healthy after 1m0s: Failed to make TCP"));
    assert!(effects.contains(&Effect::Drain(id(4), Duration::ZERO)));
    let effects = world.give(Input::Drained(id(4)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::StopContainer(..))));
}

#[test]
fn a_stop_while_it_is_claimed_or_made_leaves_nothing() {
    let mut world = World::new();
    world.start();
    world.give(Input::Stop(2, stop(5)));
    let effects = world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(_, Wanted::Release(_), ..))), "{effects:?}");
    world.written(0);
    assert_eq!(world.state(), None);

    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 9, crash_count: 0, last_exit: None })));
    world.give(Input::Fetched(id(4), Ok((Box::new(launch()), Some("layer".into())))));
    world.give(Input::Stop(3, stop(5)));
    let effects = world.give(Input::Created(id(4), Ok((place(), None))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::StopContainer(..))), "{effects:?}");
}

#[test]
fn a_stop_while_the_container_waits_for_its_volume_ends_the_waiting() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    world.give(Input::Fetched(id(4), Ok((Box::new(workload()), None))));
    let effects = world.give(Input::Stop(2, stop(5)));
    assert!(effects.contains(&Effect::Cancel(id(4))), "{effects:?}");
    let effects = world.give(Input::Created(id(4), Err("its volume is in use".into())));
    assert!(effects.contains(&Effect::Destroy(id(4))) && !effects.iter().any(|e| matches!(e, Effect::ReportCrash(_))));
}

#[test]
fn a_workload_has_time_to_shut_down_and_its_volume_is_looked_after_once_its_record_is_gone() {
    let mut world = World::new();
    world.runs(workload());
    let effects = world.give(Input::Stop(2, stop(5)));
    assert!(effects.contains(&Effect::Drain(id(4), Duration::ZERO)), "no router knows it");
    let effects = world.give(Input::Drained(id(4)));
    assert!(effects.contains(&Effect::StopContainer(id(4), Duration::from_secs(30))), "{effects:?}");
    let effects = world.give(Input::Stopped(id(4), Some(exit(137, false))));
    assert!(lines(&effects)[0].contains("exceeded 30s graceful"), "{:?}", lines(&effects));
    world.written(11);
    assert!(!world.give(Input::Destroyed(id(4))).contains(&Effect::SweepVolumes));
    assert!(world.give(Input::Written(id(4), Written::Done { revision: 0 })).contains(&Effect::SweepVolumes));
    // One without a volume is none of that business.
    let mut world = World::new();
    world.running();
    world.give(Input::Stop(2, stop(5)));
    world.give(Input::Drained(id(4)));
    world.give(Input::Stopped(id(4), None));
    world.written(11);
    world.give(Input::Destroyed(id(4)));
    assert!(!world.give(Input::Written(id(4), Written::Done { revision: 0 })).contains(&Effect::SweepVolumes));
}

#[test]
fn a_version_that_is_not_wanted_any_more_is_no_crash() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    let effects = world.give(Input::Fetched(id(4), Err(FetchFailure::NotWanted)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(_, Wanted::Release(_), ..))));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::ReportCrash(_))));
}

#[test]
fn an_instance_that_lost_its_slot_stops_serving_and_writes_nothing() {
    let mut world = World::new();
    world.running();
    let effects =
        world.give(Input::Record(slot().key(), Told::Put(record(Some(holder(8, 10, InstanceState::Starting)), None), 20)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Write(..))), "{effects:?}");
    world.give(Input::Drained(id(4)));
    world.give(Input::Stopped(id(4), None));
    let effects = world.give(Input::Destroyed(id(4)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Write(..))));
    assert_eq!(world.state(), None);
}

#[test]
fn old_news_of_a_record_changes_nothing() {
    let mut world = World::new();
    world.running();
    assert_eq!(
        world.give(Input::Record(slot().key(), Told::Put(record(Some(holder(4, 9, InstanceState::Starting)), None), 7))),
        []
    );
    assert_eq!(world.give(Input::Record(slot().key(), Told::Removed(6))), []);
    assert_eq!(world.state(), Some(InstanceState::Running));
}

#[test]
fn a_removed_record_ends_its_instance() {
    let mut world = World::new();
    world.running();
    let effects = world.give(Input::Record(slot().key(), Told::Removed(30)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
}

#[test]
fn a_predecessor_serves_until_the_owner_runs() {
    let mut world = World::new();
    world.running();
    let told = |state, revision| {
        let record = record(
            Some(holder(8, 10, state)),
            Some(Holder { state: InstanceState::Running, ..holder(4, 9, InstanceState::Running) }),
        );
        Input::Record(slot().key(), Told::Put(record, revision))
    };
    let effects = world.give(told(InstanceState::Starting, 20));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
    let effects = world.give(told(InstanceState::Running, 21));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
}

#[test]
fn what_a_rolled_back_store_forgot_is_asserted_anew() {
    let mut world = World::new();
    world.running();
    world.give(Input::WatchReset);
    let effects = world.give(Input::WatchSynced);
    assert!(matches!(effects.as_slice(), [Effect::Write(_, Wanted::Hold(_), 10, true)]), "{effects:?}");
    world.written(3);
    world.give(Input::WatchReset);
    world.give(Input::Record(slot().key(), Told::Put(record(Some(holder(4, 9, InstanceState::Running)), None), 3)));
    assert_eq!(world.give(Input::WatchSynced), []);
    assert_eq!(world.state(), Some(InstanceState::Running));
}

#[test]
fn a_record_of_an_instance_that_is_not_here_is_disowned() {
    let mut world = World::new();
    let effects =
        world.give(Input::Record(slot().key(), Told::Put(record(Some(holder(4, 9, InstanceState::Running)), None), 20)));
    assert_eq!(effects, [Effect::Disown(slot().key(), id(4))]);
}

fn container_info(revision: u64, ended: Option<ProcessExit>) -> ContainerInfo {
    let spec = container::instance(&settings().common, &slot(), &launch(), Some("layer"), revision);
    ContainerInfo {
        handle: spec.handle,
        labels: spec.labels,
        address: place().container,
        host_address: place().host,
        ports: place().ports,
        egress: vec![],
        created_at: 1,
        exit: ended,
    }
}

fn recovery(told: Option<Told>, containers: Vec<ContainerInfo>) -> Input {
    Input::Recovered(Recovery { containers, records: told.map(|told| (slot().key(), told)).into_iter().collect(), works: vec![] })
}

#[test]
fn a_healthy_instance_is_taken_back_untouched_and_registered_at_once() {
    let mut world = World::new();
    let told = Told::Put(record(Some(holder(4, 9, InstanceState::Running)), None), 12);
    let effects = world.give(recovery(Some(told), vec![container_info(7, None)]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Register(register) if register.uris == ["shop.example"])));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Probe(_, plan) if plan.running)));
    assert!(!effects.iter().any(|effect| matches!(
        effect,
        Effect::Create(..)
            | Effect::StopContainer(..)
            | Effect::Destroy(_)
            | Effect::DestroyOrphan(_)
            | Effect::Write(..)
            | Effect::Disown(..)
    )));
    assert_eq!(world.core.heartbeat().droplets[0].state_timestamp, Timestamp(3), "it runs since then, not since now");
}

#[test]
fn what_was_half_done_is_finished() {
    let mut world = World::new();
    let told = Told::Put(record(Some(holder(4, 9, InstanceState::Stopping)), None), 12);
    let effects = world.give(recovery(Some(told), vec![container_info(7, None)]));
    assert!(effects.contains(&Effect::StopContainer(id(4), Duration::from_secs(10))));

    let mut world = World::new();
    let told = Told::Put(record(Some(holder(4, 9, InstanceState::Running)), None), 12);
    let effects = world.give(recovery(Some(told), vec![container_info(7, Some(exit(2, false)))]));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::ReportCrash(report) if report.exit_status == Some(2))),
        "it ended meanwhile"
    );

    let mut world = World::new();
    let told = Told::Put(record(Some(holder(4, 9, InstanceState::Starting)), None), 12);
    let effects = world.give(recovery(Some(told), vec![]));
    assert!(effects.contains(&Effect::Disown(slot().key(), id(4))), "it was claimed and never made");
}

#[test]
fn what_no_claim_supports_is_removed_unless_the_store_is_the_one_that_forgot() {
    let mut world = World::new();
    let told = Told::Put(record(Some(holder(8, 10, InstanceState::Running)), None), 12);
    let effects = world.give(recovery(Some(told), vec![container_info(7, None)]));
    assert!(effects.contains(&Effect::DestroyOrphan(slot().handle())));

    let mut world = World::new();
    let effects = world.give(recovery(None, vec![container_info(7, None)]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(_, Wanted::Hold(_), 7, true))), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Register(_))));
}

#[test]
fn a_crashed_instance_is_remembered_over_a_restart_and_goes_with_its_stop() {
    let mut world = World::new();
    let told = Told::Put(record(Some(holder(4, 9, InstanceState::Crashed)), None), 12);
    world.give(recovery(Some(told), vec![]));
    assert_eq!(world.state(), Some(InstanceState::Crashed));
    let effects = world.give(Input::Stop(1, stop(5)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Write(_, Wanted::Release(_), 12, false))), "{effects:?}");
}

#[test]
fn routes_follow_what_the_cloud_controller_says() {
    let mut world = World::new();
    world.running();
    let answer = RoutesAnswer { routes: BTreeMap::from([(id(3), vec![route("new.example")])]), egress: BTreeMap::new() };
    let effects = world.give(Input::Routes(answer));
    assert!(
        matches!(effects.as_slice(), [Effect::Unregister(old), Effect::Register(new)] if old.uris == ["shop.example"] && new.uris == ["new.example"])
    );
    for _ in 0..FAREWELLS {
        assert_eq!(world.give(Input::Farewells).len(), 1, "an unregistration is repeated");
    }
    assert_eq!(world.give(Input::Farewells), []);
    assert_eq!(
        world.give(Input::Routes(RoutesAnswer { routes: BTreeMap::new(), egress: BTreeMap::new() })),
        [],
        "a version that is left out keeps what it has"
    );
}

#[test]
fn what_a_service_opens_and_closes_is_told_to_warden_until_it_has_it() {
    use cloud_controller_client::{Egress, Transport};
    let mut world = World::new();
    world.running();
    let open = |port| Egress { address: [10, 20, 0, 5].into(), first_port: port, last_port: port, protocol: Transport::Tcp };
    let answer = |ports: &[u16]| {
        let egress = BTreeMap::from([(id(3), ports.iter().map(|port| open(*port)).collect())]);
        Input::Routes(RoutesAnswer { routes: BTreeMap::from([(id(3), vec![route("shop.example")])]), egress })
    };
    let way = |port| warden_client::Endpoint::tcp([10, 20, 0, 5].into(), port);
    assert_eq!(world.give(answer(&[])), [], "as it was created");
    assert_eq!(world.give(answer(&[5432])), [Effect::SetEgress(id(4), vec![way(5432)])]);
    assert_eq!(world.give(answer(&[5432, 6379])), [], "one at a time");
    let both = vec![way(5432), way(6379)];
    let told = world.give(Input::EgressSet(id(4), Some(vec![way(5432)])));
    assert_eq!(told, [Effect::SetEgress(id(4), both.clone())], "the newest word counts");
    assert_eq!(world.give(Input::EgressSet(id(4), None)), [], "refused, or no answer");
    assert_eq!(world.give(answer(&[5432, 6379])), [Effect::SetEgress(id(4), both.clone())], "tried again");
    assert_eq!(world.give(Input::EgressSet(id(4), Some(both))), []);
    assert_eq!(world.give(answer(&[5432, 6379])), []);
    assert_eq!(world.give(answer(&[])), [Effect::SetEgress(id(4), vec![])], "unbound");
}

#[test]
fn a_route_that_comes_back_is_not_taken_away_by_a_late_repetition() {
    let mut world = World::new();
    world.running();
    world.give(Input::Routes(RoutesAnswer { routes: BTreeMap::from([(id(3), vec![])]), egress: BTreeMap::new() }));
    world.give(Input::Routes(RoutesAnswer {
        routes: BTreeMap::from([(id(3), vec![route("shop.example")])]),
        egress: BTreeMap::new(),
    }));
    assert_eq!(world.give(Input::Farewells), []);
}

#[test]
fn a_container_that_is_missing_twice_is_a_crash_and_once_is_not() {
    let mut world = World::new();
    world.running();
    assert_eq!(world.give(Input::Containers(vec![])), []);
    let effects = world.give(Input::Containers(vec![]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::ReportCrash(_))));
}

#[test]
fn a_container_that_is_superfluous_twice_is_removed_and_once_is_not() {
    let mut world = World::new();
    assert_eq!(world.give(Input::Containers(vec![container_info(7, None)])), []);
    assert_eq!(world.give(Input::Containers(vec![container_info(7, None)])), [Effect::DestroyOrphan(slot().handle())]);
}

#[test]
fn evacuation_on_a_single_host_stops_everything_and_takes_no_more() {
    let mut world = World::new();
    world.running();
    let effects = world.give(Input::Evacuate);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Drain(..))));
    let effects = world.give(Input::Start(9, StartInstance { instance: id(77), ..start(0) }));
    assert!(matches!(&effects[0], Effect::Answer(9, Answer::Refused { .. })));
    assert!(!world.core.is_evacuated());
    world.give(Input::Drained(id(4)));
    world.give(Input::Stopped(id(4), None));
    world.give(Input::Destroyed(id(4)));
    world.written(11);
    world.give(Input::Written(id(4), Written::Done { revision: 0 }));
    assert!(world.core.is_evacuated());
}

#[test]
fn evacuation_with_other_hosts_serves_until_the_replacement_runs() {
    let mut world = World::with(Settings { evacuation: Duration::from_secs(600), ..settings() });
    world.running();
    let effects = world.give(Input::Evacuate);
    assert!(effects.iter().any(
        |effect| matches!(effect, Effect::Write(_, Wanted::Hold(hold), ..) if hold.holder.state == InstanceState::Evacuating)
    ));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
    let effects = world.give(Input::EvacuationOver);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unregister(_))));
}

#[test]
fn evacuation_waits_for_no_replacement_of_an_instance_whose_volume_is_here() {
    let mut world = World::with(Settings { evacuation: Duration::from_secs(600), ..settings() });
    world.runs(workload());
    let effects = world.give(Input::Evacuate);
    assert!(effects.contains(&Effect::Drain(id(4), Duration::ZERO)), "{effects:?}");
    assert_eq!(world.state(), Some(InstanceState::Stopping));
}

#[test]
fn a_staging_is_taken_once_and_refused_with_a_reason() {
    let mut world = World::new();
    let stage = StageBuild { build: id(30), app: id(1), memory_mb: 1024, disk_mb: 1024, stack: "debian12".into(), fence: 5 };
    assert_eq!(world.give(Input::Stage(1, stage.clone())), [Effect::ClaimWork(id(30))]);
    let effects = world.give(Input::WorkClaimed(id(30), Ok(())));
    assert!(effects.contains(&Effect::RunWork(id(30))));
    assert_eq!(world.give(Input::Stage(2, stage.clone())), [Effect::Answer(2, Answer::Accepted)]);
    assert_eq!(world.core.heartbeat().works, [id::<BuildId>(30).uuid()]);
    let effects = world.give(Input::Stage(3, StageBuild { build: id(31), ..stage }));
    assert_eq!(effects, [Effect::Answer(3, Answer::Refused { reason: "no room: 1024 MB asked, 0 MB free".into() })]);
    assert_eq!(world.give(Input::StagingStop(id(1))), [Effect::DoubtWork(id(30))], "a hint is looked into, not obeyed");
    world.give(Input::WorkEnded(id(30)));
    assert_eq!(world.core.advertisement().available_memory_mb, 1024);
}

#[test]
fn a_change_while_a_write_is_under_way_is_written_after_it() {
    let mut world = World::new();
    world.start();
    world.give(Input::Claimed(id(4), Ok(Claimed { revision: 7, crash_count: 0, last_exit: None })));
    world.give(Input::Fetched(id(4), Ok((Box::new(launch()), Some("layer".into())))));
    let effects = world.give(Input::Created(id(4), Ok((place(), None))));
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Write(..))).count(), 1);
    let effects = world.give(Input::Probed(id(4), Verdict::Healthy));
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Write(..))).count(), 0);
    let effects = world.written(8);
    assert!(
        matches!(effects.as_slice(), [Effect::Write(_, Wanted::Hold(hold), 8, false)] if hold.holder.state == InstanceState::Running)
    );
}
