//! The whole service, with a fake feed and fake DEAs: over a bus in memory, and over a real server.

#![expect(clippy::unwrap_used, reason = "a test")]

use bus::{Bucket, Bus};
use cloud_controller_client::{Desired, DesiredBuild, DesiredChange, DesiredPage, DesiredProcess, Error, StagingResult};
use foundation::Shutdown;
use health_manager::{
    domain::Settings,
    shell::{Feed, Outside},
};
use messages::{
    claims::{CLAIMS, Holder, InstanceRecord, InstanceState, LEASES, instance_key},
    dea::{Advertise, Answer, Heartbeat, InstanceReport, LOCATE, StageBuild, StartInstance, StopInstance, command_subject},
    hints::DropletUpdated,
};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use types::{BuildId, DeaId, InstanceId, ManualClock, Timestamp};
use uuid::Uuid;

mod server;

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
        only_on: None,
        new_volume_mb: 0,
    })
}

struct Platform {
    bus: Bus,
    feed: Arc<FakeFeed>,
    shutdown: Shutdown,
}

impl Platform {
    fn new() -> Self {
        Self::on(Bus::in_memory())
    }

    fn on(bus: Bus) -> Self {
        let platform = Self { bus, feed: Arc::default(), shutdown: Shutdown::new() };
        platform.manage(1_000, &platform.shutdown);
        platform
    }

    /// Starts a health manager.
    fn manage(&self, seconds: u64, shutdown: &Shutdown) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(seconds)));
        health_manager::start(Settings::named("a"), Outside { bus: self.bus.clone(), feed: self.feed.clone(), clock }, shutdown);
    }

    /// A DEA that claims and at once runs what it is asked to start.
    async fn dea(&self, n: u128, memory_mb: u32) {
        let bus = self.bus.clone();
        let dea: DeaId = id(n);
        let mut asked = bus.subscribe(LOCATE).await.unwrap();
        let mut starts = bus.subscribe(&command_subject(dea, "start")).await.unwrap();
        let mut stops = bus.subscribe(&command_subject(dea, "stop")).await.unwrap();
        let bucket = bus.bucket(CLAIMS).await.unwrap();
        let mut dea = FakeDea { id: dea, memory_mb, bus, bucket, held: BTreeMap::new() };
        tokio::spawn(async move {
            let mut speak = tokio::time::interval(Duration::from_secs(5));
            loop {
                tokio::select! {
                    Some(asked) = starts.next() => {
                        let answer = dea.start(asked.read().unwrap()).await;
                        dea.bus.respond(&asked, &answer).await.unwrap();
                    }
                    Some(asked) = stops.next() => {
                        dea.bus.respond(&asked, &Answer::Accepted).await.unwrap();
                        dea.stop(asked.read().unwrap()).await;
                    }
                    Some(_) = asked.next() => dea.speak().await,
                    _ = speak.tick() => dea.speak().await,
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

struct FakeDea {
    id: DeaId,
    memory_mb: u32,
    bus: Bus,
    bucket: Bucket,
    held: BTreeMap<InstanceId, StartInstance>,
}

impl FakeDea {
    async fn start(&mut self, start: StartInstance) -> Answer {
        let key = instance_key(start.version, start.index);
        let record = run(&start, self.id);
        let claimed = match start.revision {
            0 => self.bucket.create(&key, &record).await,
            revision => self.bucket.update(&key, &record, revision).await,
        };
        match claimed {
            Ok(_) => {
                self.held.insert(start.instance, start);
                Answer::Accepted
            }
            Err(e) => Answer::Refused { reason: e.to_string() },
        }
    }

    async fn stop(&mut self, stop: StopInstance) {
        if let Some(start) = self.held.remove(&stop.instance) {
            let key = instance_key(start.version, start.index);
            let revision = self.bucket.get(&key).await.unwrap().unwrap().revision;
            self.bucket.remove(&key, revision).await.unwrap();
        }
    }

    /// Lost while the bus is away.
    async fn speak(&self) {
        let used: u32 = self.held.values().map(|start| start.memory_mb).sum();
        let report = |start: &StartInstance| InstanceReport {
            app: start.app,
            process: start.process,
            version: start.version,
            instance: start.instance,
            index: start.index,
            state: InstanceState::Running,
            state_timestamp: Timestamp::from_secs(1_000),
            usage: None,
        };
        let beat = Heartbeat { dea: self.id, droplets: self.held.values().map(report).collect(), works: vec![] };
        let _ = self.bus.publish(&offer(self.id, self.memory_mb - used, self.memory_mb)).await;
        let _ = self.bus.publish(&beat).await;
    }
}

fn offer(id: DeaId, free_mb: u32, memory_mb: u32) -> Advertise {
    Advertise {
        id,
        stacks: vec!["debian12".into()],
        available_memory_mb: free_mb,
        available_disk_mb: 1_000,
        total_memory_mb: memory_mb,
        total_disk_mb: 1_000,
        app_id_to_count: BTreeMap::new(),
        placement_properties: BTreeMap::new(),
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
    let platform = Platform::new();
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
    let platform = Platform::new();
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
    let platform = Platform::new();
    platform.dea(101, 500).await;
    platform.want(process(1, 11, 1, 100)).await;
    until("it runs", Duration::from_secs(10), async || platform.running(11, 0).await.is_some()).await;
    let before = platform.running(11, 0).await;
    platform.shutdown.finish(Duration::from_secs(5)).await;
    platform.manage(2_000, &Shutdown::new());
    platform.want(process(2, 22, 1, 100)).await;
    let took = until("the next runs", Duration::from_secs(10), async || platform.running(22, 0).await.is_some()).await;
    assert!(took < Duration::from_secs(6), "its own lease is taken back at once: {took:?}");
    assert_eq!(platform.running(11, 0).await, before);
}

#[tokio::test(start_paused = true)]
async fn a_build_goes_to_a_dea_or_fails_with_a_reason() {
    let platform = Platform::new();
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

/// The shape of a real day: work, the server killed, work again, and nothing stopped by the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_killed_costs_no_instance() {
    let Some(mut server) = server::Server::start() else { return };
    let bus = Bus::connect(&server.settings()).await.unwrap();
    for bucket in [CLAIMS, LEASES] {
        until("the bucket is made", Duration::from_secs(10), async || bus.make_bucket(bucket, 1).await.is_ok()).await;
    }
    let platform = Platform::on(bus);
    platform.dea(101, 500).await;
    platform.dea(102, 500).await;
    platform.want(process(1, 11, 2, 100)).await;
    until("both run", Duration::from_secs(10), async || platform.running(11, 1).await.is_some()).await;
    let mut took = vec![];
    for n in 0..20 {
        let from = Instant::now();
        platform.want(process(100 + n, 1_000 + n, 1, 1)).await;
        until("it runs", Duration::from_secs(5), async || platform.running(1_000 + n, 0).await.is_some()).await;
        took.push(from.elapsed());
    }
    took.sort();
    println!("hint to claimed: median {:?}, slowest {:?}", took[10], took[19]);
    assert!(took[10] < Duration::from_millis(100), "{took:?}");
    let before = (platform.running(11, 0).await, platform.running(11, 1).await);

    server.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.again();
    platform.feed.add(process(2, 22, 1, 100));
    until("news are acted on again", Duration::from_secs(30), async || {
        let found = tokio::time::timeout(Duration::from_secs(1), platform.bus.bucket(CLAIMS)).await;
        let Ok(Ok(bucket)) = found else { return false };
        matches!(bucket.get(&instance_key(id(22), 0)).await, Ok(Some(_)))
    })
    .await;
    assert_eq!((platform.running(11, 0).await, platform.running(11, 1).await), before);
    platform.want(Desired::NoProcess { process: id(1) }).await;
    until("what is not wanted goes", Duration::from_secs(30), async || platform.running(11, 0).await.is_none()).await;
    assert_eq!(platform.shutdown.finish(Duration::from_secs(5)).await, 0);
}
