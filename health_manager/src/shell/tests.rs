//! The whole service over an in-memory bus, with a fake feed and fake DEAs.

use super::*;
use crate::domain::Settings;
use cloud_controller_client::{Desired, DesiredBuild, DesiredChange, DesiredPage, DesiredProcess, Error, StagingResult};
use messages::{
    claims::{CLAIMS, Holder, InstanceRecord, InstanceState, instance_key},
    dea::{Advertise, Answer, LOCATE, StageBuild, StartInstance, StopInstance, command_subject},
    hints::DropletUpdated,
};
use rand::SeedableRng;
use std::{pin::Pin, sync::Mutex};
use types::{BuildId, DeaId, ManualClock};
use uuid::Uuid;

#[derive(Default)]
struct FakeFeed {
    changes: Mutex<Vec<DesiredChange>>,
    failed: Mutex<Vec<(BuildId, StagingResult)>>,
}

impl FakeFeed {
    fn add(&self, what: Desired) -> DropletUpdated {
        let mut changes = self.changes.lock().unwrap();
        let change = changes.len() as u64 + 1;
        changes.push(DesiredChange { change, what });
        DropletUpdated { change }
    }
}

impl Feed for FakeFeed {
    fn desired(&self, after: u64, limit: u32) -> Pin<Box<dyn Future<Output = Result<DesiredPage, Error>> + Send + '_>> {
        let changes = self.changes.lock().unwrap();
        let news: Vec<_> = changes.iter().filter(|change| change.change > after).take(limit as usize).cloned().collect();
        let next = news.last().map_or(after, |change| change.change);
        let page = DesiredPage { changes: news, next, complete: next == changes.len() as u64 };
        Box::pin(async move { Ok(page) })
    }
    fn staging_completed<'a>(
        &'a self,
        build: BuildId,
        result: &'a StagingResult,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        self.failed.lock().unwrap().push((build, result.clone()));
        Box::pin(async { Ok(()) })
    }
}

fn id<T: From<Uuid>>(n: u128) -> T {
    T::from(Uuid::from_u128(n))
}

fn process(n: u128, version: u128, instances: u32, memory_mb: u32) -> Desired {
    Desired::Process(DesiredProcess {
        app: id(n),
        process: id(n),
        process_type: "web".into(),
        version: id(version),
        instances,
        memory_mb,
        disk_mb: 10,
        stack: "debian12".into(),
    })
}

struct Platform {
    bus: Bus,
    feed: Arc<FakeFeed>,
    shutdown: Shutdown,
}

impl Platform {
    async fn new() -> Self {
        let bus = Bus::in_memory();
        let feed = Arc::new(FakeFeed::default());
        let shutdown = Shutdown::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let outside = Outside { bus: bus.clone(), feed: feed.clone(), clock };
        start(Settings::named("a"), outside, StdRng::seed_from_u64(1), &shutdown);
        Self { bus, feed, shutdown }
    }

    /// A DEA that claims and at once runs what it is asked to start.
    async fn dea(&self, n: u128, memory_mb: u32) {
        let dea: DeaId = id(n);
        let bus = self.bus.clone();
        let mut asked = bus.subscribe(LOCATE).await.unwrap();
        let mut starts = bus.subscribe(&command_subject(dea, "start")).await.unwrap();
        let mut stops = bus.subscribe(&command_subject(dea, "stop")).await.unwrap();
        let bucket = bus.bucket(CLAIMS).await.unwrap();
        tokio::spawn(async move {
            let mut held: std::collections::BTreeMap<types::InstanceId, String> = Default::default();
            let mut speak = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    Some(asked) = starts.next() => {
                        let start: StartInstance = asked.read().unwrap();
                        let key = instance_key(start.version, start.index);
                        let record = run(&start, dea);
                        let claimed = match start.revision {
                            0 => bucket.create(&key, &record).await,
                            revision => bucket.update(&key, &record, revision).await,
                        };
                        let answer = match claimed {
                            Ok(_) => Answer::Accepted,
                            Err(e) => Answer::Refused { reason: e.to_string() },
                        };
                        held.insert(start.instance, key);
                        bus.respond(&asked, &answer).await.unwrap();
                    }
                    Some(asked) = stops.next() => {
                        let stop: StopInstance = asked.read().unwrap();
                        bus.respond(&asked, &Answer::Accepted).await.unwrap();
                        if let Some(key) = held.remove(&stop.instance) {
                            let revision = bucket.get(&key).await.unwrap().unwrap().revision;
                            bucket.remove(&key, revision).await.unwrap();
                        }
                    }
                    Some(_) = asked.next() => bus.publish(&offer(dea, memory_mb)).await.unwrap(),
                    _ = speak.tick() => bus.publish(&offer(dea, memory_mb)).await.unwrap(),
                }
            }
        });
    }

    async fn running(&self, version: u128, index: u32) -> Option<InstanceRecord> {
        let bucket = self.bus.bucket(CLAIMS).await.unwrap();
        bucket.get(&instance_key(id(version), index)).await.unwrap().map(|entry| entry.read().unwrap())
    }

    async fn want(&self, what: Desired) {
        let hint = self.feed.add(what);
        self.bus.publish(&hint).await.unwrap();
    }
}

fn offer(id: DeaId, memory_mb: u32) -> Advertise {
    Advertise {
        id,
        stacks: vec!["debian12".into()],
        available_memory_mb: memory_mb,
        available_disk_mb: 1_000,
        total_memory_mb: memory_mb,
        total_disk_mb: 1_000,
        app_id_to_count: Default::default(),
        placement_properties: Default::default(),
        evacuating: false,
    }
}

fn run(start: &StartInstance, dea: DeaId) -> InstanceRecord {
    let owner = Holder {
        instance: start.instance,
        dea,
        state: InstanceState::Running,
        since: Timestamp::from_secs(1_000),
        endpoint: None,
        memory_mb: start.memory_mb,
        disk_mb: start.disk_mb,
        details: None,
    };
    InstanceRecord {
        app: start.app,
        process: start.process,
        process_type: start.process_type.clone(),
        version: start.version,
        index: start.index,
        owner: Some(owner),
        predecessor: None,
        crash_count: 0,
        last_exit: None,
        unplaced: None,
    }
}

/// Looks until it is so; the paused clock makes the waiting free.
async fn until<F: Future<Output = bool>>(what: &str, limit: Duration, mut so: impl FnMut() -> F) -> Duration {
    let from = Instant::now();
    while !so().await {
        assert!(from.elapsed() < limit, "{what} did not come true in {limit:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    from.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_is_wanted_runs_and_what_is_not_is_gone() {
    let platform = Platform::new().await;
    platform.dea(101, 500).await;
    platform.dea(102, 500).await;
    platform.want(process(1, 11, 2, 100)).await;
    until("both run", Duration::from_secs(10), async || platform.running(11, 1).await.is_some()).await;
    let owner = async |index| platform.running(11, index).await.unwrap().owner.unwrap().dea;
    assert_ne!(owner(0).await, owner(1).await, "they are spread");
    platform.want(process(1, 11, 1, 100)).await;
    until("one is gone", Duration::from_secs(1), async || platform.running(11, 1).await.is_none()).await;
    platform.want(Desired::NoProcess { process: id(1) }).await;
    until("all are gone", Duration::from_secs(1), async || platform.running(11, 0).await.is_none()).await;
    assert_eq!(platform.shutdown.finish(Duration::from_secs(5)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_decided_within_milliseconds_of_the_hint() {
    let platform = Platform::new().await;
    platform.dea(101, 500).await;
    platform.want(process(1, 11, 1, 100)).await;
    until("the first runs", Duration::from_secs(10), async || platform.running(11, 0).await.is_some()).await;
    // Away from any tick or poll.
    tokio::time::sleep(Duration::from_millis(60)).await;
    platform.want(process(2, 22, 1, 100)).await;
    let took = until("it runs", Duration::from_secs(1), async || platform.running(22, 0).await.is_some()).await;
    assert!(took <= Duration::from_millis(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_health_manager_does_not_touch_what_runs() {
    let platform = Platform::new().await;
    platform.dea(101, 500).await;
    platform.want(process(1, 11, 1, 100)).await;
    until("it runs", Duration::from_secs(10), async || platform.running(11, 0).await.is_some()).await;
    let before = platform.running(11, 0).await;
    platform.shutdown.finish(Duration::from_secs(5)).await;
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(2_000)));
    let outside = Outside { bus: platform.bus.clone(), feed: platform.feed.clone(), clock };
    start(Settings::named("a"), outside, StdRng::seed_from_u64(2), &Shutdown::new());
    platform.want(process(2, 22, 1, 100)).await;
    let took = until("the next runs", Duration::from_secs(10), async || platform.running(22, 0).await.is_some()).await;
    assert!(took < Duration::from_secs(6), "its own lease is taken back at once: {took:?}");
    assert_eq!(platform.running(11, 0).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_build_goes_to_a_dea_or_fails_with_a_reason() {
    let platform = Platform::new().await;
    platform.dea(101, 500).await;
    let mut asked = platform.bus.subscribe("dea.*.stage").await.unwrap();
    let bus = platform.bus.clone();
    let taken = tokio::spawn(async move {
        let asked_one = asked.next().await.unwrap();
        bus.respond(&asked_one, &Answer::Accepted).await.unwrap();
        asked_one.read::<StageBuild>().unwrap().build
    });
    let build = |n, memory_mb| {
        let stack = "debian12".into();
        Desired::Build(DesiredBuild { build: id(n), app: id(1), memory_mb, disk_mb: 10, stack, created_at: Timestamp(0) })
    };
    platform.want(build(7, 400)).await;
    assert_eq!(taken.await.unwrap(), id(7));
    platform.want(build(8, 2_048)).await;
    let told = async || !platform.feed.failed.lock().unwrap().is_empty();
    until("it fails", Duration::from_secs(40), told).await;
    let (failed, result) = platform.feed.failed.lock().unwrap()[0].clone();
    let message = "2048 MB asked, most free 100 MB".to_owned();
    assert_eq!(failed, id(8));
    assert!(
        matches!(result, StagingResult::Failed { id, message: told } if id == "InsufficientResources" && told.starts_with(&message[..13]))
    );
}
