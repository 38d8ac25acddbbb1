//! The one owner of the core: feeds it, carries out what it says, keeps its timers.
//!
//! `perform`: effects. `outbound`: what goes out in order, or until it arrives.

mod outbound;
mod perform;

use crate::{
    config::{Config, Raw},
    domain::{
        container::Common,
        core::{Core, Input, Recovery, Settings, Ticket, Told},
    },
    edge::{
        Outside, World,
        backoff::Backoff,
        cache::{self, Cache},
        containers, health, identity, launch, volumes,
    },
};
use bus::{Bucket, Bus, Change, Delivery, Subscription};
use cloud_controller_client::CrashReport;
use foundation::Shutdown;
use messages::{
    Message,
    claims::{CLAIMS, InstanceRecord, WorkRecord},
    dea::{Answer, LOCATE, command_subject},
    hints::{RoutesUpdated, StagingStop},
    router::RouterStart,
};
use outbound::Publication;
use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, RwLock, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{BuildId, DeaId, InstanceId};

/// Downloads at once; creations and removals at once.
///
/// Source: cloudfoundry/diego-release, `jobs/rep/spec`.
const DOWNLOADS: usize = 5;
const CREATIONS: usize = 32;
/// Until a router says otherwise.
const REGISTER_INTERVAL: Duration = Duration::from_secs(20);

/// Why a DEA did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its id is not there.
    #[error("no id")]
    Identity(#[from] identity::IdentityError),
    /// A folder cannot be used.
    #[error("cannot use {0}")]
    Folder(PathBuf, #[source] std::io::Error),
    /// The bus refuses a subscription.
    #[error("cannot listen on the bus")]
    Listen(#[from] bus::Error),
    /// The end was asked for before it had started.
    #[error("stopped while it was starting")]
    Stopped,
}

/// A DEA that runs.
#[derive(Clone)]
pub struct Dea {
    /// Its id.
    pub id: DeaId,
    inputs: mpsc::Sender<Input>,
}

impl Dea {
    /// Takes no new work from here on, and hands over or stops what is here.
    pub async fn evacuate(&self) {
        let _ = self.inputs.send(Input::Evacuate).await;
    }
}

/// Starts a DEA: waits for Warden and the bus, takes back what is here, listens. Returns once it accepts work.
///
/// # Errors
/// See [`StartError`]. Peers that are not there yet are waited for.
pub async fn start(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<Dea, StartError> {
    let raw = &config.raw;
    let folder = |name: &str| raw.state.join(name);
    let id = identity::id(&raw.state)?;
    let open =
        |name: &str, mb: u32| Cache::open(&folder(name), u64::from(mb) << 20).map_err(|e| StartError::Folder(folder(name), e));
    let droplets = open("droplets", raw.droplet_cache_mb)?;
    let buildpacks = open("buildpacks", raw.buildpack_cache_mb)?;
    let works = folder("work");
    cache::passable(&works).map_err(|e| StartError::Folder(works.clone(), e))?;
    let settings = Settings {
        common: Common { dea: id, lifecycle: raw.lifecycle.clone(), pids: raw.pids },
        route_to: raw.route_to,
        zone: raw.zone.clone(),
        drain: Duration::from_millis(raw.drain_ms.into()),
        grace: Duration::from_secs(raw.grace_s.into()),
        evacuation: Duration::from_secs(raw.evacuation_timeout_s.into()),
    };
    let bucket = unless_stopped(shutdown, bucket(&outside.bus)).await?;
    let world = Arc::new(World {
        outside,
        bucket,
        settings: settings.clone(),
        periods: config.periods,
        droplets,
        buildpacks,
        works,
        probes: health::http_client(),
        downloads: Semaphore::new(DOWNLOADS),
        creations: Semaphore::new(CREATIONS),
        layers: RwLock::new(()),
        volumes: AsyncMutex::new(()),
        made: Default::default(),
    });
    let (inputs, inbox) = mpsc::channel(4_096);
    let (events, occurrences) = mpsc::channel(4_096);
    let core = Core::new(settings, identity::fence(&raw.state));
    let publisher = outbound::publisher(world.outside.bus.clone(), shutdown);
    let crashes = outbound::crash_reporter(world.clone(), shutdown);
    let ended = CancellationToken::new();
    let mut shell = Shell {
        core,
        raw: config.raw.clone(),
        watch: world.bucket.watch(),
        world,
        inputs: inputs.clone(),
        inbox,
        events,
        occurrences,
        publisher,
        crashes,
        tickets: HashMap::new(),
        last_ticket: 0,
        tokens: HashMap::new(),
        works: HashMap::new(),
        tell: false,
        resync: false,
        shutdown: shutdown.clone(),
        ended,
    };
    shell.recover().await?;
    shell.listen().await?;
    shell.spawn(containers::follow(shell.world.clone(), inputs.clone()));
    shell.spawn(outbound::greet(shell.world.outside.bus.clone(), shell.events.clone()));
    shutdown.spawn(shell.run());
    Ok(Dea { id, inputs })
}

async fn unless_stopped<T>(shutdown: &Shutdown, wait: impl Future<Output = T>) -> Result<T, StartError> {
    tokio::select! {
        done = wait => Ok(done),
        () = shutdown.requested() => Err(StartError::Stopped),
    }
}

async fn bucket(bus: &Bus) -> Bucket {
    let mut backoff = Backoff::peers();
    loop {
        match bus.bucket(CLAIMS).await {
            Ok(bucket) => return bucket,
            Err(cause) => warn!(error = &cause as &dyn std::error::Error, "waiting for the claims"),
        }
        backoff.pause().await;
    }
}

/// What arrives from outside.
enum Event {
    Command(Verb, Delivery),
    Router(RouterStart),
    Locate,
    Hint(Delivery),
    StagingStop(Delivery),
    Reconnected,
}

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Stage,
}

struct Shell {
    core: Core,
    raw: Raw,
    world: Arc<World>,
    inputs: mpsc::Sender<Input>,
    inbox: mpsc::Receiver<Input>,
    events: mpsc::Sender<Event>,
    occurrences: mpsc::Receiver<Event>,
    watch: mpsc::Receiver<Change>,
    publisher: mpsc::Sender<Publication>,
    crashes: mpsc::Sender<CrashReport>,
    tickets: HashMap<Ticket, Delivery>,
    last_ticket: Ticket,
    /// What fetches or checks an instance, and ends with it.
    tokens: HashMap<InstanceId, CancellationToken>,
    works: HashMap<BuildId, WorkTokens>,
    /// A heartbeat is due after this batch of inputs.
    tell: bool,
    /// The bucket is to be watched anew.
    resync: bool,
    shutdown: Shutdown,
    /// Ends every task of this DEA.
    ended: CancellationToken,
}

struct WorkTokens {
    cancel: CancellationToken,
    leave: CancellationToken,
}

impl Shell {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.shutdown.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ended.cancelled() => {}
            }
        });
    }

    /// Reads all of the bucket and all of Warden, and takes back what is here. Nothing is judged before both were read.
    async fn recover(&mut self) -> Result<(), StartError> {
        let shutdown = self.shutdown.clone();
        let (records, works) = unless_stopped(&shutdown, self.read_claims()).await?;
        let world = self.world.clone();
        let dea = world.settings.common.dea;
        let raw = self.raw.clone();
        let read = async {
            let mut backoff = Backoff::peers();
            loop {
                let warden = &world.outside.warden;
                match futures::try_join!(containers::capacity(warden, &raw), containers::list(warden, dea)) {
                    Ok(found) => return found,
                    Err(cause) => warn!(error = &cause as &dyn std::error::Error, "waiting for warden"),
                }
                backoff.pause().await;
            }
        };
        let (capacity, containers) = unless_stopped(&shutdown, read).await?;
        info!(dea.id = %dea, containers = containers.len(), stagings = works.len(), memory_mb = capacity.memory_mb, "taking back what is here");
        sweep_works(&self.world.works, &works);
        self.step(Input::Capacity(capacity));
        self.step(Input::Recovered(Recovery { containers, records, works }));
        Ok(())
    }

    async fn read_claims(&mut self) -> (BTreeMap<String, Told>, Vec<BuildId>) {
        let dea = self.world.settings.common.dea;
        let (mut records, mut works) = (BTreeMap::new(), vec![]);
        loop {
            match self.watch.recv().await {
                Some(Change::Reset) => (records, works) = Default::default(),
                Some(Change::Synced) => return (records, works),
                Some(Change::Put(entry)) if entry.key.starts_with("work.") => {
                    let build = entry.key.trim_start_matches("work.").parse::<BuildId>();
                    if let (Ok(build), Ok(record)) = (build, entry.read::<WorkRecord>())
                        && record.dea == dea
                        && !record.done
                    {
                        works.push(build);
                    }
                }
                Some(change) => records.extend(told(change)),
                None => {
                    sleep(Duration::from_millis(200)).await;
                    self.watch = self.world.bucket.watch();
                }
            }
        }
    }

    async fn listen(&self) -> Result<(), StartError> {
        let bus = &self.world.outside.bus;
        let dea = self.world.settings.common.dea;
        for (verb, name) in [(Verb::Start, "start"), (Verb::Stop, "stop"), (Verb::Stage, "stage")] {
            let subscription = bus.subscribe(&command_subject(dea, name)).await?;
            self.forward(subscription, move |delivery| Some(Event::Command(verb, delivery)));
        }
        self.forward(bus.subscribe(LOCATE).await?, |_| Some(Event::Locate));
        self.forward(bus.subscribe(RoutesUpdated::SUBJECT).await?, |delivery| Some(Event::Hint(delivery)));
        self.forward(bus.subscribe(StagingStop::SUBJECT).await?, |delivery| Some(Event::StagingStop(delivery)));
        self.forward(bus.subscribe(RouterStart::SUBJECT).await?, |delivery| delivery.read().ok().map(Event::Router));
        let (mut connected, events) = (bus.connected(), self.events.clone());
        self.spawn(async move {
            let mut was = *connected.borrow_and_update();
            while connected.changed().await.is_ok() {
                let is = *connected.borrow_and_update();
                if is && !was && events.send(Event::Reconnected).await.is_err() {
                    return;
                }
                was = is;
            }
            // No more news of the connection: it stays as it is.
        });
        Ok(())
    }

    fn forward(&self, mut from: Subscription, read: impl Fn(Delivery) -> Option<Event> + Send + 'static) {
        let events = self.events.clone();
        self.spawn(async move {
            while let Some(delivery) = from.next().await {
                if let Some(event) = read(delivery)
                    && events.send(event).await.is_err()
                {
                    return;
                }
            }
        });
    }

    async fn run(mut self) {
        let periods = self.world.periods;
        let timer = |period: Duration| {
            let mut timer = interval_at(Instant::now() + period, period);
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer
        };
        let (mut advertise, mut heartbeat, mut sample) =
            (timer(periods.advertise), timer(periods.heartbeat), timer(periods.sample));
        let (mut gauges, mut routes, mut farewell) = (timer(periods.gauges), timer(periods.routes), timer(periods.farewell));
        let mut sweep = timer(periods.sweep);
        let mut register_interval = REGISTER_INTERVAL;
        let mut next_register = Instant::now() + register_interval;
        let mut stopping = false;
        self.step(Input::RoutesDue);
        self.sweep_volumes(Duration::ZERO);
        loop {
            self.settle();
            if stopping && (!self.core.is_evacuating() || self.core.is_evacuated()) {
                break;
            }
            tokio::select! {
                Some(input) = self.inbox.recv() => self.step(input),
                Some(event) = self.occurrences.recv() => match event {
                    Event::Router(router) => {
                        register_interval = Duration::from_secs(router.register_interval_s.clamp(1, 60).into());
                        next_register = Instant::now() + register_interval;
                        self.step(Input::RegisterAll);
                    }
                    event => self.occurred(event),
                },
                change = self.watch.recv() => self.changed(change).await,
                _ = advertise.tick() => self.publish(&self.core.advertisement()),
                _ = heartbeat.tick() => self.tell = true,
                _ = sample.tick() => self.sample(),
                _ = gauges.tick() => self.step(Input::GaugesDue),
                _ = routes.tick() => self.step(Input::RoutesDue),
                _ = farewell.tick() => if *self.world.outside.bus.connected().borrow() { self.step(Input::Farewells) },
                _ = sweep.tick() => {
                    self.sweep();
                    self.sweep_volumes(Duration::ZERO);
                }
                () = sleep_until(next_register) => {
                    next_register = Instant::now() + register_interval;
                    self.step(Input::RegisterAll);
                }
                () = self.shutdown.requested(), if !stopping => stopping = true,
            }
        }
        self.ended.cancel();
        self.world.outside.logs.flush();
    }

    /// Takes in what is waiting, then tells once.
    fn settle(&mut self) {
        for _ in 0..256 {
            match self.inbox.try_recv() {
                Ok(input) => self.step(input),
                Err(_) => break,
            }
        }
        if std::mem::take(&mut self.tell) {
            self.publish(&self.core.heartbeat());
            self.publish(&self.core.advertisement());
        }
        if std::mem::take(&mut self.resync) {
            self.watch = self.world.bucket.watch();
        }
    }

    fn step(&mut self, input: Input) {
        let effects = self.core.handle(input, self.world.now());
        for effect in effects {
            self.perform(effect);
        }
    }

    fn occurred(&mut self, event: Event) {
        match event {
            Event::Command(verb, delivery) => self.command(verb, delivery),
            Event::Locate => self.tell = true,
            Event::Hint(delivery) => {
                if let Ok(RoutesUpdated { app }) = delivery.read() {
                    self.step(Input::RoutesHint(app));
                }
            }
            Event::StagingStop(delivery) => {
                if let Ok(StagingStop { app_id }) = delivery.read() {
                    self.step(Input::StagingStop(app_id));
                }
            }
            Event::Reconnected => {
                self.tell = true;
                self.resync = true;
                self.step(Input::RegisterAll);
            }
            Event::Router(_) => {}
        }
    }

    fn command(&mut self, verb: Verb, delivery: Delivery) {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let input = match verb {
            Verb::Start => delivery.read().map(|request| Input::Start(ticket, request)),
            Verb::Stop => delivery.read().map(|request| Input::Stop(ticket, request)),
            Verb::Stage => delivery.read().map(|request| Input::Stage(ticket, request)),
        };
        self.tickets.insert(ticket, delivery);
        match input {
            Ok(input) => self.step(input),
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, "a command cannot be read");
                self.answer(ticket, Answer::Refused { reason: "the command cannot be read".into() });
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(delivery) = self.tickets.remove(&ticket) {
            let bus = self.world.outside.bus.clone();
            self.spawn(async move {
                if let Err(cause) = bus.respond(&delivery, &answer).await {
                    warn!(error = &cause as &dyn std::error::Error, "an answer was not sent");
                }
            });
        }
    }

    async fn changed(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Reset) => self.step(Input::WatchReset),
            Some(Change::Synced) => self.step(Input::WatchSynced),
            Some(change) => {
                if let Some((key, told)) = told(change) {
                    self.step(Input::Record(key, told));
                }
            }
            None => {
                sleep(Duration::from_millis(200)).await;
                self.watch = self.world.bucket.watch();
            }
        }
    }

    fn sample(&self) {
        let handles = self.core.handles();
        if handles.is_empty() {
            return;
        }
        let (world, inputs) = (self.world.clone(), self.inputs.clone());
        self.spawn(async move {
            match timeout(world.periods.sample, world.outside.warden.metrics(&handles)).await {
                Ok(Ok(metrics)) => drop(inputs.send(Input::Sampled(metrics)).await),
                Ok(Err(cause)) => warn!(error = &cause as &dyn std::error::Error, "no usage figures"),
                Err(_) => warn!("no usage figures in time"),
            }
        });
    }

    fn sweep(&self) {
        let (world, inputs, raw) = (self.world.clone(), self.inputs.clone(), self.raw.clone());
        self.spawn(async move {
            let warden = &world.outside.warden;
            tell_capacity(&world, &raw, &inputs).await;
            if let Ok(all) = containers::list(warden, world.settings.common.dea).await {
                let _ = inputs.send(Input::Containers(all)).await;
            }
            launch::sweep_layers(&world).await;
            world.outside.logs.flush();
        });
    }

    /// Sees after a pause whether volumes may go.
    fn sweep_volumes(&self, pause: Duration) {
        let (world, inputs, raw) = (self.world.clone(), self.inputs.clone(), self.raw.clone());
        self.spawn(async move {
            sleep(pause).await;
            if volumes::sweep(&world).await {
                tell_capacity(&world, &raw, &inputs).await;
            }
        });
    }

    fn publish<M: Message>(&self, message: &M) {
        self.queue(M::SUBJECT, message);
    }

    /// Whatever goes this way is repeated: what finds no room is dropped.
    fn queue<M: serde::Serialize>(&self, subject: &'static str, message: &M) {
        match serde_json::to_vec(message) {
            Ok(bytes) => drop(self.publisher.try_send(Publication::To(subject, bytes))),
            Err(cause) => warn!(error = &cause as &dyn std::error::Error, subject, "a message cannot be written"),
        }
    }
}

/// Has the core know what may be promised now.
async fn tell_capacity(world: &World, raw: &Raw, inputs: &mpsc::Sender<Input>) {
    if let Ok(capacity) = containers::capacity(&world.outside.warden, raw).await {
        let _ = inputs.send(Input::Capacity(capacity)).await;
    }
}

fn told(change: Change) -> Option<(String, Told)> {
    match change {
        Change::Put(entry) if entry.key.starts_with("instance.") => match entry.read::<InstanceRecord>() {
            Ok(record) => Some((entry.key, Told::Put(Box::new(record), entry.revision))),
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, key = entry.key, "a record cannot be read");
                None
            }
        },
        Change::Removed { key, revision } if key.starts_with("instance.") => Some((key, Told::Removed(revision))),
        _ => None,
    }
}

/// Removes the folders of stagings that are not this DEA's any more.
fn sweep_works(folder: &Path, works: &[BuildId]) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !works.iter().any(|build| build.to_string() == name) {
            cache::remove(&entry.path());
        }
    }
}
