//! All that this DEA holds, as one value: inputs in, effects out.

use crate::{
    config::RouteTo,
    domain::{
        claim::{self, Hold, Slot, Wanted},
        container::{self, Common, Kind, Place},
        phase::{End, EndMove, Phase},
        room::{Capacity, Share},
        routes, text,
        usage::{self, Meter},
    },
};
use cloud_controller_client::{CrashReport, HealthCheck, LaunchSpec, Route, RoutesAnswer};
use loggregator_client::{Envelope, LogType, log_line};
use messages::{
    claims::{Exit, Holder, InstanceRecord, InstanceState},
    dea::{Advertise, Answer, Heartbeat, InstanceReport, StageBuild, StartInstance, StopInstance},
    router::Register,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};
use tracing::debug;
use types::{AppId, BuildId, DeaId, InstanceId, Timestamp, VersionId};
use warden_client::{ContainerInfo, ContainerSpec, Metrics, ProcessExit};

/// How long a lower fencing number must go on commanding before it is believed.
const DOUBT: Duration = Duration::from_secs(60);
/// How often an unregistration is repeated.
const FAREWELLS: u8 = 3;

/// What does not change while this DEA runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What its containers have in common.
    pub common: Common,
    /// What routers are told.
    pub route_to: RouteTo,
    /// For placement.
    pub zone: String,
    /// Between taking routes away and TERM.
    pub drain: Duration,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// What evacuating instances get for their replacement to run.
    pub evacuation: Duration,
}

/// Where an answer goes; the shell knows.
pub type Ticket = u64;

/// A key of the claims bucket as a watch tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The record, and its revision.
    Put(Box<InstanceRecord>, u64),
    /// It was removed, at this revision.
    Removed(u64),
}

impl Told {
    /// The revision told.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(_, revision) | Self::Removed(revision) => *revision,
        }
    }
}

/// What a DEA finds when it starts: all of it was read successfully.
#[derive(Clone, Default)]
pub struct Recovery {
    /// Warden's containers with this DEA's label.
    pub containers: Vec<ContainerInfo>,
    /// The slots' records.
    pub records: BTreeMap<String, Told>,
    /// Stagings that this DEA took and did not finish.
    pub works: Vec<BuildId>,
}

/// How a claim went.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The record's revision.
    pub revision: u64,
    /// What the record knew before.
    pub crash_count: u32,
    /// What the record knew before.
    pub last_exit: Option<Exit>,
}

/// Why a launch spec or droplet is not here.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchFailure {
    /// The version is not wanted any more.
    NotWanted,
    /// In words for the user.
    Failed(String),
}

/// What the checks say.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The start-up check passed.
    Healthy,
    /// It did not within the time allowed.
    NeverHealthy {
        /// The time allowed.
        after: Duration,
        /// What the last probe met.
        cause: String,
    },
    /// A later check failed.
    Unhealthy {
        /// What it met.
        cause: String,
    },
}

/// What became of a record's write.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// It says what it should.
    Done {
        /// Its revision; 0: it is gone.
        revision: u64,
    },
    /// The record is not there: removed, or the store was rolled back; the watch will tell.
    Absent,
    /// The slot belongs to somebody else.
    Lost,
}

/// What happens to a DEA.
#[derive(Clone)]
pub enum Input {
    /// What is found at the start.
    Recovered(Recovery),
    /// What may be promised.
    Capacity(Capacity),
    /// `dea.<id>.start`
    Start(Ticket, StartInstance),
    /// `dea.<id>.stop`
    Stop(Ticket, StopInstance),
    /// `dea.<id>.stage`
    Stage(Ticket, StageBuild),
    /// The slot's claim went so; the error is for the user.
    Claimed(InstanceId, Result<Claimed, String>),
    /// Launch spec, and the layer that holds the droplet.
    Fetched(InstanceId, Result<(Box<LaunchSpec>, String), FetchFailure>),
    /// The container.
    Created(InstanceId, Result<(Place, Option<ProcessExit>), String>),
    /// What the checks say.
    Probed(InstanceId, Verdict),
    /// Routers had their moment.
    Drained(InstanceId),
    /// The main process ended on our request; `None` where Warden did not know the container.
    Stopped(InstanceId, Option<ProcessExit>),
    /// A container's main process ended.
    Exited(String, ProcessExit),
    /// A container is not there any more.
    Gone(String),
    /// An instance's container is taken away.
    Destroyed(InstanceId),
    /// A record's write ended.
    Written(InstanceId, Written),
    /// The watch begins anew.
    WatchReset,
    /// The watch tells a slot's record.
    Record(String, Told),
    /// The watch has told everything since its reset.
    WatchSynced,
    /// The claim of a staging went so; the error is for the user.
    WorkClaimed(BuildId, Result<(), String>),
    /// What a resumed staging is for and takes.
    WorkKnown(BuildId, AppId, Share),
    /// A staging is over, told and cleared away.
    WorkEnded(BuildId),
    /// `staging.stop`
    StagingStop(AppId),
    /// `dea.update`
    RoutesHint(AppId),
    /// It is time to ask for all routes.
    RoutesDue,
    /// The cloud controller's answer.
    Routes(RoutesAnswer),
    /// It is time to register everything.
    RegisterAll,
    /// It is time to repeat unregistrations.
    Farewells,
    /// What Warden holds, all of it.
    Containers(Vec<ContainerInfo>),
    /// What containers use, by handle.
    Sampled(BTreeMap<String, Metrics>),
    /// It is time to tell metrics.
    GaugesDue,
    /// Take no new work; hand over or stop what is here.
    Evacuate,
    /// Evacuating instances had their time.
    EvacuationOver,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a command.
    Answer(Ticket, Answer),
    /// Keep the newest fencing number.
    RememberFence(u64),
    /// Claim a slot whose record has this revision. -> [`Input::Claimed`]
    Claim(Box<Hold>, u64),
    /// Make a slot's record so, having seen this revision; the flag says that absence means a rolled-back store.
    /// -> [`Input::Written`]
    Write(String, Wanted, u64, bool),
    /// Remove what a record says of an instance that is not here. No answer.
    Disown(String, InstanceId),
    /// Watch the bucket anew.
    Resync,
    /// Fetch launch spec and droplet. -> [`Input::Fetched`]
    Fetch(Box<Slot>),
    /// Make the container. -> [`Input::Created`]
    Create(InstanceId, Box<ContainerSpec>),
    /// Check it, from the start or as one that runs. -> [`Input::Probed`]
    Probe(InstanceId, ProbePlan),
    /// Give up what is being fetched or checked for this instance.
    Cancel(InstanceId),
    /// Come back after this time. -> [`Input::Drained`]
    Drain(InstanceId, Duration),
    /// TERM, and KILL after the grace time. -> [`Input::Stopped`]
    StopContainer(InstanceId, Duration),
    /// Take the container away. -> [`Input::Destroyed`]
    Destroy(InstanceId),
    /// Take a container away that belongs to nothing.
    DestroyOrphan(String),
    /// Tell routers.
    Register(Box<Register>),
    /// Tell routers.
    Unregister(Box<Register>),
    /// Hand envelopes to the log agent.
    Emit(Vec<Envelope>),
    /// Tell the cloud controller, until it has it.
    ReportCrash(Box<CrashReport>),
    /// Ask the cloud controller. -> [`Input::Routes`]
    AskRoutes(Vec<VersionId>),
    /// Send a heartbeat and an advertisement.
    Tell,
    /// Take a staging, create-only. -> [`Input::WorkClaimed`]
    ClaimWork(BuildId),
    /// Do a staging, or go on with it. -> [`Input::WorkKnown`], [`Input::WorkEnded`]
    RunWork(BuildId),
    /// See whether a staging is still wanted.
    DoubtWork(BuildId),
    /// Leave a staging for later: its container goes, its claim stays. -> [`Input::WorkEnded`]
    LeaveWork(BuildId),
    /// Come back after this time. -> [`Input::EvacuationOver`]
    AwaitEvacuation(Duration),
}

/// How to check an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePlan {
    /// Its container's address.
    pub address: Ipv4Addr,
    /// Its ports.
    pub ports: Vec<u16>,
    /// What to do.
    pub check: HealthCheck,
    /// True: it passed its start-up check already.
    pub running: bool,
}

struct Instance {
    slot: Slot,
    key: String,
    phase: Phase,
    since: Timestamp,
    tickets: Vec<Ticket>,
    launch: Option<LaunchSpec>,
    routes: BTreeSet<Route>,
    place: Option<Place>,
    running_since: Option<Timestamp>,
    crash_count: u32,
    last_exit: Option<Exit>,
    revision: u64,
    writing: bool,
    dirty: bool,
    /// What the record was last told to say.
    asserted: Option<Wanted>,
    /// An end that was told before the answer to the container's creation.
    early_exit: Option<ProcessExit>,
    missing: u8,
    meter: Meter,
}

struct Work {
    app: Option<AppId>,
    share: Share,
    tickets: Vec<Ticket>,
}

struct Farewell {
    register: Register,
    left: u8,
}

/// The state of a DEA.
pub struct Core {
    settings: Settings,
    capacity: Capacity,
    fence: u64,
    /// A lower fencing number that goes on commanding, and since when.
    doubt: Option<(u64, Timestamp)>,
    evacuating: bool,
    instances: BTreeMap<InstanceId, Instance>,
    works: BTreeMap<BuildId, Work>,
    farewells: Vec<Farewell>,
    told: Option<BTreeMap<String, u64>>,
    orphans: BTreeSet<String>,
}

impl Core {
    /// A DEA that holds nothing yet.
    pub fn new(settings: Settings, fence: u64) -> Self {
        Self {
            settings,
            capacity: Capacity::default(),
            fence,
            doubt: None,
            evacuating: false,
            instances: BTreeMap::new(),
            works: BTreeMap::new(),
            farewells: vec![],
            told: None,
            orphans: BTreeSet::new(),
        }
    }

    fn dea(&self) -> DeaId {
        self.settings.common.dea
    }

    /// Takes one input in and hands back what to do about it.
    pub fn handle(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut out = vec![];
        match input {
            Input::Recovered(found) => self.recover(found, now, &mut out),
            Input::Capacity(capacity) => self.capacity = capacity,
            Input::Start(ticket, request) => self.start(ticket, &request, now, &mut out),
            Input::Stop(ticket, request) => self.stop(ticket, &request, now, &mut out),
            Input::Stage(ticket, request) => self.stage(ticket, &request, now, &mut out),
            Input::Claimed(id, outcome) => self.claimed(id, outcome, now, &mut out),
            Input::Fetched(id, outcome) => self.fetched(id, outcome, now, &mut out),
            Input::Created(id, outcome) => self.created(id, outcome, now, &mut out),
            Input::Probed(id, verdict) => self.probed(id, verdict, now, &mut out),
            Input::Drained(id) => self.drained(id, now, &mut out),
            Input::Stopped(id, exit) => self.stopped(id, exit, now, &mut out),
            Input::Exited(handle, exit) => self.exited(&handle, &exit, now, &mut out),
            Input::Gone(handle) => self.gone(&handle, now, &mut out),
            Input::Destroyed(id) => self.destroyed(id, now, &mut out),
            Input::Written(id, outcome) => self.written(id, outcome, now, &mut out),
            Input::WatchReset => self.told = Some(BTreeMap::new()),
            Input::Record(key, told) => self.record(&key, told, now, &mut out),
            Input::WatchSynced => self.synced(&mut out),
            Input::WorkClaimed(build, outcome) => self.work_claimed(build, outcome, &mut out),
            Input::WorkKnown(build, app, share) => {
                if let Some(work) = self.works.get_mut(&build) {
                    (work.app, work.share) = (Some(app), share);
                }
            }
            Input::WorkEnded(build) => {
                self.works.remove(&build);
                out.push(Effect::Tell);
            }
            Input::StagingStop(app) => {
                let of_app = self.works.iter().filter(|(_, work)| work.app == Some(app));
                out.extend(of_app.map(|(build, _)| Effect::DoubtWork(*build)));
            }
            Input::RoutesHint(app) => self.ask_routes(|slot| slot.app == app, &mut out),
            Input::RoutesDue => self.ask_routes(|_| true, &mut out),
            Input::Routes(answer) => self.routes(answer, &mut out),
            Input::RegisterAll => {
                let serving: Vec<_> = self.instances.iter().filter(|(_, i)| i.phase.serves()).map(|(id, _)| *id).collect();
                for id in serving {
                    self.register(id, &mut out);
                }
            }
            Input::Farewells => self.farewells(&mut out),
            Input::Containers(all) => self.compare_containers(&all, now, &mut out),
            Input::Sampled(metrics) => self.sampled(&metrics, now),
            Input::GaugesDue => self.gauges(now, &mut out),
            Input::Evacuate => self.evacuate(now, &mut out),
            Input::EvacuationOver => self.stop_all(now, &mut out),
        }
        self.check();
        out
    }

    /// What must hold between any two inputs.
    fn check(&self) {
        for instance in self.instances.values() {
            debug_assert!(!instance.phase.serves() || instance.place.is_some(), "what serves has a place");
            debug_assert!(!instance.dirty || instance.writing, "a change waits only for a write under way");
        }
    }

    // --- commands -------------------------------------------------------------------------------------------------

    fn taken(&self) -> Share {
        let held = self.instances.values().filter(|i| i.phase.reserves());
        let held = held.map(|i| Share { memory_mb: i.slot.memory_mb, disk_mb: i.slot.disk_mb });
        held.chain(self.works.values().map(|work| work.share)).sum()
    }

    fn count(&self) -> usize {
        self.instances.values().filter(|i| i.phase.reserves()).count() + self.works.len()
    }

    /// Refuses older leaders, and everything while evacuating; then looks for room.
    fn admit(&mut self, fence: u64, asked: Share, stack: &str, now: Timestamp, out: &mut Vec<Effect>) -> Result<(), String> {
        self.obey(fence, now, out)?;
        if self.evacuating {
            return Err("this host takes no new work: it is being emptied".into());
        }
        self.capacity.admit(asked, stack, self.taken(), self.count()).map_err(|refusal| refusal.to_string())
    }

    /// Refuses older leaders. One that is refused goes away within its lease; a lower number that is still commanding a minute
    /// later is the leader of a store that lost its leases, and then it is the higher number that is of the past.
    fn obey(&mut self, fence: u64, now: Timestamp, out: &mut Vec<Effect>) -> Result<(), String> {
        if fence < self.fence {
            let since = match self.doubt {
                Some((doubted, since)) if doubted == fence => since,
                _ => now,
            };
            self.doubt = Some((fence, since));
            if now.since(since) < DOUBT {
                return Err(format!("the command comes from an older leader ({fence}, the newest is {})", self.fence));
            }
        }
        self.doubt = None;
        if fence != self.fence {
            self.fence = fence;
            out.push(Effect::RememberFence(fence));
        }
        Ok(())
    }

    fn start(&mut self, ticket: Ticket, request: &StartInstance, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(known) = self.instances.get_mut(&request.instance) {
            let answer = match &known.phase {
                Phase::Claiming { end: None } => return known.tickets.push(ticket),
                phase if phase.reserves() && phase.state() != Some(InstanceState::Stopping) => Answer::Accepted,
                _ => Answer::Refused { reason: "this instance has ended already".into() },
            };
            return out.push(Effect::Answer(ticket, answer));
        }
        let slot = Slot::from(request);
        let asked = Share { memory_mb: slot.memory_mb, disk_mb: slot.disk_mb };
        if let Err(reason) = self.admit(request.fence, asked, &slot.stack, now, out) {
            return out.push(Effect::Answer(ticket, Answer::Refused { reason }));
        }
        let mut instance = Instance::new(slot, Phase::Claiming { end: None }, now);
        instance.tickets.push(ticket);
        out.push(Effect::Claim(Box::new(instance.hold(self.settings.common.dea)), request.revision));
        self.instances.insert(request.instance, instance);
    }

    fn stop(&mut self, ticket: Ticket, request: &StopInstance, now: Timestamp, out: &mut Vec<Effect>) {
        // The cloud controller has no fencing number.
        let obeyed = if request.fence == 0 { Ok(()) } else { self.obey(request.fence, now, out) };
        let answer = match obeyed {
            Ok(()) => Answer::Accepted,
            Err(reason) => return out.push(Effect::Answer(ticket, Answer::Refused { reason })),
        };
        out.push(Effect::Answer(ticket, answer));
        self.end(request.instance, End::Stop { reason: request.reason.clone() }, now, out);
    }

    fn stage(&mut self, ticket: Ticket, request: &StageBuild, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(known) = self.works.get_mut(&request.build) {
            return match known.tickets.is_empty() {
                true => out.push(Effect::Answer(ticket, Answer::Accepted)),
                false => known.tickets.push(ticket),
            };
        }
        let share = Share { memory_mb: request.memory_mb, disk_mb: request.disk_mb };
        if let Err(reason) = self.admit(request.fence, share, &request.stack, now, out) {
            return out.push(Effect::Answer(ticket, Answer::Refused { reason }));
        }
        self.works.insert(request.build, Work { app: Some(request.app), share, tickets: vec![ticket] });
        out.push(Effect::ClaimWork(request.build));
    }

    fn work_claimed(&mut self, build: BuildId, outcome: Result<(), String>, out: &mut Vec<Effect>) {
        let Some(work) = self.works.get_mut(&build) else { return };
        let tickets = std::mem::take(&mut work.tickets);
        let answer = match &outcome {
            Ok(()) => Answer::Accepted,
            Err(reason) => Answer::Refused { reason: reason.clone() },
        };
        out.extend(tickets.into_iter().map(|ticket| Effect::Answer(ticket, answer.clone())));
        match outcome {
            Ok(()) => out.push(Effect::RunWork(build)),
            Err(_) => drop(self.works.remove(&build)),
        }
        out.push(Effect::Tell);
    }

    // --- the life of an instance ----------------------------------------------------------------------------------

    fn claimed(&mut self, id: InstanceId, outcome: Result<Claimed, String>, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let tickets = std::mem::take(&mut instance.tickets);
        let answer = match &outcome {
            Ok(_) => Answer::Accepted,
            Err(reason) => Answer::Refused { reason: reason.clone() },
        };
        out.extend(tickets.into_iter().map(|ticket| Effect::Answer(ticket, answer.clone())));
        let Ok(claimed) = outcome else {
            // If the outcome was unknown and the claim went through after all, it is given back.
            out.push(Effect::Disown(instance.key.clone(), id));
            self.instances.remove(&id);
            return out.push(Effect::Tell);
        };
        instance.revision = claimed.revision;
        instance.crash_count = claimed.crash_count;
        instance.last_exit = claimed.last_exit;
        let dea = self.settings.common.dea;
        instance.asserted = instance.wanted(dea).or(Some(Wanted::Hold(Box::new(instance.hold(dea)))));
        let slot = instance.slot.clone();
        match instance.phase.claimed() {
            Ok(Ok(next)) => {
                self.set(id, next, now, out);
                out.push(Effect::Fetch(Box::new(slot)));
            }
            Ok(Err(End::Lost)) => drop(self.instances.remove(&id)),
            Ok(Err(_)) => self.set(id, Phase::Releasing, now, out),
            Err(late) => debug!("{late}"),
        }
    }

    fn fetched(
        &mut self,
        id: InstanceId,
        outcome: Result<(Box<LaunchSpec>, String), FetchFailure>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let (launch, layer) = match outcome {
            Ok(found) => found,
            Err(FetchFailure::NotWanted) => return self.end(id, End::Stop { reason: "no longer wanted".into() }, now, out),
            Err(FetchFailure::Failed(reason)) => return self.crash(id, None, reason, now, out),
        };
        let next = match instance.phase.fetched() {
            Ok(next) => next,
            Err(late) => return debug!("{late}"),
        };
        let spec = container::instance(&self.settings.common, &instance.slot, &launch, &layer, instance.revision);
        instance.routes = launch.routes.iter().cloned().collect();
        // The environment is Warden's from here on; it is not needed again and not kept.
        instance.launch = Some(LaunchSpec { env: BTreeMap::new(), ..*launch });
        self.cell(id, LogType::Out, |cell, id| format!("Cell {cell} creating container for instance {id}"), now, out);
        self.set(id, next, now, out);
        out.push(Effect::Create(id, Box::new(spec)));
    }

    fn created(
        &mut self,
        id: InstanceId,
        outcome: Result<(Place, Option<ProcessExit>), String>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let next = match instance.phase.created() {
            Ok(next) => next,
            Err(late) => return debug!("{late}"),
        };
        let (place, exit) = match outcome {
            Ok(made) => made,
            Err(reason) => {
                self.cell(
                    id,
                    LogType::Err,
                    |cell, id| format!("Cell {cell} failed to create container for instance {id}: {reason}"),
                    now,
                    out,
                );
                let end = match next {
                    Err(end) => end,
                    Ok(_) => End::Crash(self.fail(id, None, format!("failed to create container: {reason}"), now, out)),
                };
                // Whatever was begun is taken away; an unknown container is a success.
                self.set(id, Phase::Destroying(end), now, out);
                return out.push(Effect::Destroy(id));
            }
        };
        instance.place = Some(place);
        let exit = exit.or(instance.early_exit.take());
        self.cell(id, LogType::Out, |cell, id| format!("Cell {cell} successfully created container for instance {id}"), now, out);
        match next {
            Ok(phase) => {
                self.set(id, phase, now, out);
                self.note(id, "CELL", LogType::Out, "Starting health monitoring of container", now, out);
                match exit {
                    Some(exit) => self.exited(&claim::handle(id), &exit, now, out),
                    None => self.probe(id, false, out),
                }
            }
            Err(end) => {
                self.set(id, Phase::Draining(end), now, out);
                self.drained(id, now, out);
            }
        }
    }

    fn probe(&self, id: InstanceId, running: bool, out: &mut Vec<Effect>) {
        let Some(Instance { launch: Some(launch), place: Some(place), .. }) = self.instances.get(&id) else { return };
        let plan =
            ProbePlan { address: place.container, ports: launch.ports.clone(), check: launch.health_check.clone(), running };
        out.push(Effect::Probe(id, plan));
    }

    fn probed(&mut self, id: InstanceId, verdict: Verdict, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match verdict {
            Verdict::Healthy => match instance.phase.healthy() {
                Ok(next) => {
                    instance.running_since = Some(now);
                    let next = if self.evacuating { next.evacuate().unwrap_or(next) } else { next };
                    self.note(id, "CELL", LogType::Out, "Container became healthy", now, out);
                    self.set(id, next, now, out);
                    self.register(id, out);
                    // Routes may have changed since the launch spec was read.
                    self.ask_routes(|slot| slot.instance == id, out);
                }
                Err(late) => debug!("{late}"),
            },
            Verdict::NeverHealthy { after, cause } if instance.phase == Phase::Probing => {
                self.note(id, "HEALTH", LogType::Err, &cause, now, out);
                let line = format!("Failed after {}: startup health check never passed.", text::span(after));
                self.note(id, "CELL", LogType::Err, &line, now, out);
                self.crash(id, None, text::never_healthy(after, &cause), now, out);
            }
            Verdict::Unhealthy { cause } if instance.phase.serves() => {
                self.note(id, "HEALTH", LogType::Err, &cause, now, out);
                self.note(id, "CELL", LogType::Err, "Container became unhealthy", now, out);
                self.crash(id, None, text::unhealthy(&cause), now, out);
            }
            late => debug!("late verdict {late:?}"),
        }
    }

    fn exited(&mut self, handle: &str, exit: &ProcessExit, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(id) = self.by_handle(handle) else { return };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        match instance.phase {
            Phase::Creating { .. } => return instance.early_exit = Some(exit.clone()),
            Phase::Probing | Phase::Running | Phase::Evacuating | Phase::Draining(_) => {}
            _ => return, // while it is being stopped, the answer to that request tells
        }
        let process_type = instance.slot.process_type.clone();
        let line = text::exit_line(exit.status, exit.out_of_memory, None);
        self.note(id, &text::source_type(&process_type), LogType::Out, &line, now, out);
        let reason = text::exit_reason(&process_type, exit.status, exit.out_of_memory);
        self.crash(id, Some(exit.status), reason, now, out);
        self.ended(id, now, out);
    }

    fn gone(&mut self, handle: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(id) = self.by_handle(handle) else { return };
        let Some(instance) = self.instances.get(&id) else { return };
        match instance.phase {
            Phase::Probing | Phase::Running | Phase::Evacuating | Phase::Draining(_) => {
                self.crash(id, None, "the container disappeared".into(), now, out);
                self.ended(id, now, out);
            }
            Phase::Stopping(_) => self.ended(id, now, out),
            _ => {}
        }
    }

    /// The main process is known to have ended: no TERM is needed.
    fn ended(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        match instance.phase.stopped() {
            Ok(next) => {
                self.cell(id, LogType::Out, |cell, id| format!("Cell {cell} destroying container for instance {id}"), now, out);
                self.set(id, next, now, out);
                out.push(Effect::Destroy(id));
            }
            Err(late) => debug!("{late}"),
        }
    }

    fn drained(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        match instance.phase.drained() {
            Ok(next) => {
                self.set(id, next, now, out);
                out.push(Effect::StopContainer(id, self.settings.grace));
            }
            Err(late) => debug!("{late}"),
        }
    }

    fn stopped(&mut self, id: InstanceId, exit: Option<ProcessExit>, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        if let (Some(exit), Phase::Stopping(_)) = (exit, &instance.phase) {
            // TERM gives 143 or the app's own status; 137 at a stop means that the grace time was used up.
            let exceeded = (exit.status == 137 && !exit.out_of_memory).then_some(self.settings.grace);
            let source = text::source_type(&instance.slot.process_type);
            self.note(id, &source, LogType::Out, &text::exit_line(exit.status, exit.out_of_memory, exceeded), now, out);
        }
        self.ended(id, now, out);
    }

    fn destroyed(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let next = match instance.phase.destroyed() {
            Ok(next) => next,
            Err(late) => return debug!("{late}"),
        };
        self.cell(
            id,
            LogType::Out,
            |cell, id| format!("Cell {cell} successfully destroyed container for instance {id}"),
            now,
            out,
        );
        match next {
            Some(phase) => self.set(id, phase, now, out),
            None => drop(self.instances.remove(&id)),
        }
        out.push(Effect::Tell);
    }

    /// An instance ended by itself, or counts as ended: notes it, tells it, and begins its end.
    fn crash(&mut self, id: InstanceId, status: Option<i32>, reason: String, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.phase.lost()
            || matches!(instance.phase.state(), None | Some(InstanceState::Stopping | InstanceState::Crashed))
        {
            return; // it was ending anyway
        }
        let exit = self.fail(id, status, reason, now, out);
        self.end(id, End::Crash(exit), now, out);
    }

    fn fail(&mut self, id: InstanceId, status: Option<i32>, reason: String, now: Timestamp, out: &mut Vec<Effect>) -> Exit {
        let exit = Exit { instance: id, at: now, status, reason };
        let Some(instance) = self.instances.get_mut(&id) else { return exit };
        instance.crash_count = claim::crashes(instance.crash_count, instance.running_since, now);
        instance.last_exit = Some(exit.clone());
        out.push(Effect::ReportCrash(Box::new(CrashReport {
            app: instance.slot.app,
            process: instance.slot.process,
            instance: id,
            version: instance.slot.version,
            index: instance.slot.index,
            exit_status: status,
            exit_description: exit.reason.clone(),
            crash_count: instance.crash_count,
            at: now,
        })));
        exit
    }

    fn end(&mut self, id: InstanceId, end: End, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let serves = instance.phase.serves();
        match instance.phase.end(end) {
            Ok(EndMove::Bare(end)) => {
                out.push(Effect::Cancel(id));
                match end {
                    End::Stop { .. } => self.set(id, Phase::Releasing, now, out),
                    End::Crash(exit) => self.set(id, Phase::Crashed(exit), now, out),
                    End::Lost => drop(self.instances.remove(&id)),
                }
            }
            Ok(EndMove::Serve(end)) => {
                out.push(Effect::Cancel(id));
                let routed = serves && !instance.routes.is_empty();
                if serves {
                    self.unregister_all(id, out);
                }
                self.cell(id, LogType::Out, |cell, id| format!("Cell {cell} stopping instance {id}"), now, out);
                self.set(id, Phase::Draining(end), now, out);
                out.push(Effect::Drain(id, if routed { self.settings.drain } else { Duration::ZERO }));
            }
            Ok(EndMove::Noted(phase)) => self.set(id, phase, now, out),
            Ok(EndMove::Release) => self.set(id, Phase::Releasing, now, out),
            Ok(EndMove::Forget) => drop(self.instances.remove(&id)),
            Err(late) => debug!("{late}"),
        }
        out.push(Effect::Tell);
    }

    // --- records --------------------------------------------------------------------------------------------------

    fn set(&mut self, id: InstanceId, phase: Phase, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.phase.state() != phase.state() {
            instance.since = now;
            out.push(Effect::Tell);
        }
        instance.phase = phase;
        let dea = self.settings.common.dea;
        if instance.wanted(dea) != instance.asserted {
            self.write(id, false, out);
        }
    }

    /// Makes the record say what this DEA knows: now, or once the write under way has ended.
    fn write(&mut self, id: InstanceId, absent_is_rollback: bool, out: &mut Vec<Effect>) {
        let dea = self.dea();
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(wanted) = instance.wanted(dea) else { return };
        if instance.writing {
            instance.dirty = true;
        } else {
            instance.writing = true;
            instance.asserted = Some(wanted.clone());
            out.push(Effect::Write(instance.key.clone(), wanted, instance.revision, absent_is_rollback));
        }
    }

    fn written(&mut self, id: InstanceId, outcome: Written, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.writing = false;
        let dirty = std::mem::take(&mut instance.dirty);
        match outcome {
            Written::Done { revision } => instance.revision = if revision == 0 { instance.revision } else { revision },
            Written::Lost => return self.end(id, End::Lost, now, out),
            Written::Absent if instance.phase != Phase::Releasing => out.push(Effect::Resync),
            Written::Absent => {}
        }
        if dirty {
            self.write(id, false, out);
        } else if instance.phase == Phase::Releasing {
            self.instances.remove(&id);
            out.push(Effect::Tell);
        }
    }

    fn record(&mut self, key: &str, told: Told, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(all) = &mut self.told {
            all.insert(key.to_owned(), told.revision());
        }
        let dea = self.dea();
        let holders: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| i.key == key && !i.phase.lost() && !matches!(i.phase, Phase::Claiming { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in holders {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let newer = told.revision() > instance.revision;
            match &told {
                Told::Put(record, revision) if claim::names(record, id) => {
                    instance.revision = instance.revision.max(*revision);
                    let replaced = |owner: &Holder| owner.instance != id && owner.state == InstanceState::Running;
                    let wanted = instance.wanted(dea);
                    if record.owner.as_ref().is_some_and(replaced) && instance.phase.serves() {
                        self.end(id, End::Stop { reason: "its replacement runs".into() }, now, out);
                    } else if newer
                        && wanted.is_some_and(|wanted| claim::step(Some(record), &wanted, false) != claim::Step::Nothing)
                    {
                        self.write(id, false, out);
                    }
                }
                _ if newer && instance.phase == Phase::Releasing => instance.revision = told.revision(),
                _ if newer => self.end(id, End::Lost, now, out),
                _ => {} // old news, or a store that was rolled back: `synced` tells which
            }
        }
        if let Told::Put(record, _) = &told {
            self.disown(key, record, out);
        }
    }

    /// Removes what a record says of instances that this DEA does not have.
    fn disown(&self, key: &str, record: &InstanceRecord, out: &mut Vec<Effect>) {
        let holders = [&record.owner, &record.predecessor].into_iter().flatten();
        let unknown = holders.filter(|holder| holder.dea == self.dea() && !self.instances.contains_key(&holder.instance));
        out.extend(unknown.map(|holder| Effect::Disown(key.to_owned(), holder.instance)));
    }

    /// Everything was told: what was told with an older revision than seen before, or not at all, was rolled back, and what
    /// this DEA holds is asserted anew. (A removal is told for good, so that silence is not one.)
    fn synced(&mut self, out: &mut Vec<Effect>) {
        let Some(told) = self.told.take() else { return };
        let held: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| !i.phase.lost() && !matches!(i.phase, Phase::Claiming { .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in held {
            let Some(instance) = self.instances.get(&id) else { continue };
            if told.get(&instance.key).is_none_or(|revision| *revision < instance.revision) {
                self.write(id, true, out);
            }
        }
    }

    // --- routes ---------------------------------------------------------------------------------------------------

    fn register_of(&self, id: InstanceId, route: &Route) -> Option<Register> {
        let instance = self.instances.get(&id)?;
        let (launch, place) = (instance.launch.as_ref()?, instance.place.as_ref()?);
        routes::register(
            self.settings.route_to,
            &instance.slot,
            launch,
            place,
            route,
            instance.running_since.unwrap_or(instance.since),
        )
    }

    fn register(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let all: Vec<_> = instance.routes.iter().filter_map(|route| self.register_of(id, route)).collect();
        self.tell_register(all, out);
    }

    fn tell_register(&mut self, all: Vec<Register>, out: &mut Vec<Effect>) {
        let same = |a: &Register, b: &Register| (&a.host, a.port, &a.uris) == (&b.host, b.port, &b.uris);
        self.farewells.retain(|farewell| !all.iter().any(|register| same(register, &farewell.register)));
        out.extend(all.into_iter().map(|register| Effect::Register(Box::new(register))));
    }

    fn unregister_all(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let all: Vec<_> = instance.routes.iter().filter_map(|route| self.register_of(id, route)).collect();
        self.unregister(all, out);
    }

    fn unregister(&mut self, all: Vec<Register>, out: &mut Vec<Effect>) {
        for register in all {
            out.push(Effect::Unregister(Box::new(register.clone())));
            self.farewells.push(Farewell { register, left: FAREWELLS });
        }
    }

    fn farewells(&mut self, out: &mut Vec<Effect>) {
        for farewell in &mut self.farewells {
            farewell.left -= 1;
            out.push(Effect::Unregister(Box::new(farewell.register.clone())));
        }
        self.farewells.retain(|farewell| farewell.left > 0);
    }

    fn ask_routes(&self, which: impl Fn(&Slot) -> bool, out: &mut Vec<Effect>) {
        let live = self.instances.values().filter(|i| i.launch.is_some() && i.phase.reserves() && which(&i.slot));
        let versions: BTreeSet<VersionId> = live.map(|i| i.slot.version).collect();
        if !versions.is_empty() {
            out.push(Effect::AskRoutes(versions.into_iter().collect()));
        }
    }

    fn routes(&mut self, answer: RoutesAnswer, out: &mut Vec<Effect>) {
        let ids: Vec<_> = self.instances.keys().copied().collect();
        for id in ids {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let Some(new) = answer.routes.get(&instance.slot.version) else { continue };
            let new: BTreeSet<Route> = new.iter().cloned().collect();
            let (gone, added) = routes::difference(&instance.routes, &new);
            instance.routes = new;
            if !instance.phase.serves() {
                continue;
            }
            let of = |core: &Self, all: &[Route]| all.iter().filter_map(|route| core.register_of(id, route)).collect::<Vec<_>>();
            let (gone, added) = (of(self, &gone), of(self, &added));
            self.unregister(gone, out);
            self.tell_register(added, out);
        }
    }

    // --- restart, sweeps ------------------------------------------------------------------------------------------

    fn recover(&mut self, found: Recovery, now: Timestamp, out: &mut Vec<Effect>) {
        let newest = found.records.values().map(Told::revision).max().unwrap_or(0);
        for build in &found.works {
            self.works.insert(*build, Work { app: None, share: Share::default(), tickets: vec![] });
            out.push(Effect::RunWork(*build));
        }
        for info in &found.containers {
            match container::kind(self.dea(), &info.labels) {
                Some(Kind::Instance { slot, launch, revision }) => {
                    let told = found.records.get(&slot.key());
                    match told {
                        Some(Told::Put(record, at)) if claim::names(record, slot.instance) => {
                            self.adopt(info, *slot, *launch, Some(record), *at, now, out);
                        }
                        // A store that has not reached the revision of our claim has lost it: our word is the newer one.
                        _ if newest < revision => self.adopt(info, *slot, *launch, None, revision, now, out),
                        _ => out.push(Effect::DestroyOrphan(info.handle.clone())),
                    }
                }
                Some(Kind::Staging { build, app }) => match self.works.get_mut(&build) {
                    Some(work) => work.app = Some(app),
                    None => out.push(Effect::DestroyOrphan(info.handle.clone())),
                },
                None => {}
            }
        }
        for (key, told) in &found.records {
            let Told::Put(record, revision) = told else { continue };
            if let Some(owner) = &record.owner
                && owner.dea == self.dea()
                && owner.state == InstanceState::Crashed
                && !self.instances.contains_key(&owner.instance)
            {
                self.remember_crash(record, owner, *revision);
            }
            self.disown(key, record, out);
        }
        out.push(Effect::Tell);
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of one container")]
    fn adopt(
        &mut self,
        info: &ContainerInfo,
        slot: Slot,
        launch: LaunchSpec,
        record: Option<&InstanceRecord>,
        revision: u64,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let id = slot.instance;
        let holders = record.into_iter().flat_map(|record| [&record.owner, &record.predecessor]).flatten();
        let holder = holders.into_iter().find(|holder| holder.instance == id).cloned();
        let state = holder.as_ref().map_or(InstanceState::Running, |holder| holder.state);
        let since = holder.as_ref().map_or(Timestamp(info.created_at), |holder| holder.since);
        let phase = match state {
            InstanceState::Starting => Phase::Probing,
            InstanceState::Running => Phase::Running,
            InstanceState::Evacuating => Phase::Evacuating,
            InstanceState::Stopping => Phase::Stopping(End::Stop { reason: "going on with a stop".into() }),
            InstanceState::Crashed => {
                let unknown = Exit { instance: id, at: since, status: None, reason: "unknown".into() };
                let last = record.and_then(|record| record.last_exit.clone()).unwrap_or(unknown);
                Phase::Destroying(End::Crash(last))
            }
        };
        let mut instance = Instance::new(slot, phase, since);
        instance.routes = launch.routes.iter().cloned().collect();
        instance.launch = Some(launch);
        instance.place = Some(Place::from(info));
        instance.revision = revision;
        instance.running_since = instance.phase.serves().then_some(since);
        if let Some(record) = record {
            instance.crash_count = record.crash_count;
            instance.last_exit = record.last_exit.clone();
        }
        let phase = instance.phase.clone();
        self.instances.insert(id, instance);
        if record.is_none() {
            self.write(id, true, out);
        }
        match phase {
            Phase::Stopping(_) => out.push(Effect::StopContainer(id, self.settings.grace)),
            Phase::Destroying(_) => out.push(Effect::Destroy(id)),
            _ if info.exit.is_some() => {}
            Phase::Probing => self.probe(id, false, out),
            _ => {
                self.register(id, out);
                self.probe(id, true, out);
            }
        }
        if let Some(exit) = &info.exit {
            self.exited(&info.handle, exit, now, out);
        }
    }

    /// A crashed instance that is only a record: kept, so that it can be told and taken away.
    fn remember_crash(&mut self, record: &InstanceRecord, owner: &Holder, revision: u64) {
        let slot = Slot {
            app: record.app,
            process: record.process,
            process_type: record.process_type.clone(),
            version: record.version,
            index: record.index,
            instance: owner.instance,
            memory_mb: owner.memory_mb,
            disk_mb: owner.disk_mb,
            stack: String::new(),
        };
        let unknown = || Exit { instance: owner.instance, at: owner.since, status: None, reason: "unknown".into() };
        let mut instance = Instance::new(slot, Phase::Crashed(record.last_exit.clone().unwrap_or_else(unknown)), owner.since);
        instance.revision = revision;
        instance.crash_count = record.crash_count;
        instance.last_exit = record.last_exit.clone();
        self.instances.insert(owner.instance, instance);
    }

    /// Finds what events did not tell. Missing and superfluous containers count when they were found so twice in a row:
    /// a list may be older than the newest answers.
    fn compare_containers(&mut self, all: &[ContainerInfo], now: Timestamp, out: &mut Vec<Effect>) {
        let mut orphans = BTreeSet::new();
        for info in all {
            let known = match container::kind(self.dea(), &info.labels) {
                Some(Kind::Instance { slot, .. }) => self.instances.get(&slot.instance).is_some_and(|i| i.phase.has_container()),
                Some(Kind::Staging { build, .. }) => self.works.contains_key(&build),
                None => true,
            };
            if !known {
                orphans.insert(info.handle.clone());
            } else if let Some(exit) = &info.exit {
                self.exited(&info.handle, exit, now, out);
            }
        }
        out.extend(orphans.intersection(&self.orphans).map(|handle| Effect::DestroyOrphan(handle.clone())));
        self.orphans = orphans;
        let here: BTreeSet<&str> = all.iter().map(|info| info.handle.as_str()).collect();
        let mut gone = vec![];
        for instance in self.instances.values_mut() {
            let handle = instance.slot.handle();
            let made = matches!(
                instance.phase,
                Phase::Probing | Phase::Running | Phase::Evacuating | Phase::Draining(_) | Phase::Stopping(_)
            );
            instance.missing = if made && !here.contains(handle.as_str()) { instance.missing.saturating_add(1) } else { 0 };
            if instance.missing >= 2 {
                gone.push(handle);
            }
        }
        for handle in gone {
            self.gone(&handle, now, out);
        }
    }

    fn evacuate(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        self.evacuating = true;
        out.push(Effect::Tell);
        if self.settings.evacuation.is_zero() {
            return self.stop_all(now, out);
        }
        let ids: Vec<_> = self.instances.keys().copied().collect();
        for id in ids {
            let Some(instance) = self.instances.get(&id) else { continue };
            match instance.phase.evacuate() {
                Ok(next) => self.set(id, next, now, out),
                Err(_) if instance.phase.crash().is_none() => {
                    self.end(id, End::Stop { reason: "this host is being emptied".into() }, now, out);
                }
                Err(_) => {}
            }
        }
        out.push(Effect::AwaitEvacuation(self.settings.evacuation));
    }

    fn stop_all(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let live: Vec<_> = self.instances.iter().filter(|(_, i)| i.phase.crash().is_none()).map(|(id, _)| *id).collect();
        for id in live {
            self.end(id, End::Stop { reason: "this host is being emptied".into() }, now, out);
        }
        out.extend(self.works.keys().copied().map(Effect::LeaveWork));
    }

    // --- what is told ---------------------------------------------------------------------------------------------

    /// True once an evacuation has nothing left to do.
    pub fn is_evacuated(&self) -> bool {
        self.evacuating && self.works.is_empty() && self.instances.values().all(|i| matches!(i.phase, Phase::Crashed(_)))
    }

    /// True while it takes no new work.
    pub fn is_evacuating(&self) -> bool {
        self.evacuating
    }

    /// What this DEA has to offer.
    pub fn advertisement(&self) -> Advertise {
        let free = self.capacity.free(self.taken());
        let mut counts = BTreeMap::new();
        for instance in self.instances.values().filter(|i| i.phase.reserves()) {
            *counts.entry(instance.slot.app).or_insert(0) += 1;
        }
        Advertise {
            id: self.dea(),
            stacks: self.capacity.stacks.clone(),
            available_memory_mb: free.memory_mb,
            available_disk_mb: free.disk_mb,
            total_memory_mb: self.capacity.memory_mb,
            total_disk_mb: self.capacity.disk_mb,
            app_id_to_count: counts,
            placement_properties: BTreeMap::from([("zone".into(), self.settings.zone.clone())]),
            evacuating: self.evacuating,
        }
    }

    /// All that this DEA holds.
    pub fn heartbeat(&self) -> Heartbeat {
        let report = |(id, instance): (&InstanceId, &Instance)| {
            Some(InstanceReport {
                app: instance.slot.app,
                process: instance.slot.process,
                version: instance.slot.version,
                instance: *id,
                index: instance.slot.index,
                state: instance.phase.state()?,
                state_timestamp: instance.since,
                usage: instance.meter.usage.filter(|_| instance.phase.has_container()),
            })
        };
        let works = self.works.keys().map(|build| build.uuid()).collect();
        Heartbeat { dea: self.dea(), droplets: self.instances.iter().filter_map(report).collect(), works }
    }

    /// The containers whose usage is to be sampled.
    pub fn handles(&self) -> Vec<String> {
        let made = |phase: &Phase| matches!(phase, Phase::Probing | Phase::Running | Phase::Evacuating);
        self.instances.values().filter(|i| made(&i.phase)).map(|i| i.slot.handle()).collect()
    }

    fn sampled(&mut self, metrics: &BTreeMap<String, Metrics>, now: Timestamp) {
        for instance in self.instances.values_mut() {
            if let Some(metrics) = metrics.get(&instance.slot.handle()) {
                instance.meter.sample(now, *metrics, usage::entitlement(instance.slot.memory_mb, &self.capacity));
            }
        }
    }

    fn gauges(&self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut envelopes = vec![];
        for instance in self.instances.values() {
            if let (Some(launch), Some(place), Some(usage)) = (&instance.launch, &instance.place, &instance.meter.usage) {
                if !instance.phase.serves() && instance.phase != Phase::Probing {
                    continue;
                }
                let tags = container::tags(&instance.slot, launch);
                let limit = launch.log_rate_limit_bytes_per_second;
                envelopes.extend(usage::gauges(&instance.slot, &tags, usage, limit, place.created_at, now));
            }
        }
        if !envelopes.is_empty() {
            out.push(Effect::Emit(envelopes));
        }
    }

    fn cell(
        &self,
        id: InstanceId,
        kind: LogType,
        line: impl FnOnce(DeaId, InstanceId) -> String,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        self.note(id, "CELL", kind, &line(self.dea(), id), now, out);
    }

    /// A line in the app's log.
    fn note(&self, id: InstanceId, source_type: &str, kind: LogType, line: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        let tags = instance.launch.as_ref().map(|launch| container::tags(&instance.slot, launch)).unwrap_or_default();
        let (app, index) = (instance.slot.app.to_string(), instance.slot.index.to_string());
        out.push(Effect::Emit(vec![log_line(&app, &index, source_type, tags, line.as_bytes(), kind, now.as_nanos())]));
    }

    fn by_handle(&self, handle: &str) -> Option<InstanceId> {
        let id = handle.strip_prefix("i-")?.parse().ok()?;
        self.instances.contains_key(&id).then_some(id)
    }
}

impl Instance {
    fn new(slot: Slot, phase: Phase, since: Timestamp) -> Self {
        Self {
            key: slot.key(),
            slot,
            phase,
            since,
            tickets: vec![],
            launch: None,
            routes: BTreeSet::new(),
            place: None,
            running_since: None,
            crash_count: 0,
            last_exit: None,
            revision: 0,
            writing: false,
            dirty: false,
            asserted: None,
            early_exit: None,
            missing: 0,
            meter: Meter::default(),
        }
    }

    fn wanted(&self, dea: DeaId) -> Option<Wanted> {
        match self.phase {
            Phase::Claiming { .. } => None,
            Phase::Releasing => Some(Wanted::Release(self.slot.instance)),
            _ => self.phase.state().map(|_| Wanted::Hold(Box::new(self.hold(dea)))),
        }
    }

    fn hold(&self, dea: DeaId) -> Hold {
        let port = self.launch.as_ref().and_then(|launch| launch.ports.first().copied());
        let reserves = self.phase.reserves();
        Hold {
            slot: self.slot.clone(),
            holder: Holder {
                instance: self.slot.instance,
                dea,
                state: self.phase.state().unwrap_or(InstanceState::Stopping),
                since: self.since,
                endpoint: self.place.as_ref().filter(|_| self.phase.has_container()).map(|place| place.endpoint(port)),
                memory_mb: if reserves { self.slot.memory_mb } else { 0 },
                disk_mb: if reserves { self.slot.disk_mb } else { 0 },
                details: self.phase.crash().map(|exit| exit.reason.clone()),
            },
            crash_count: self.crash_count,
            last_exit: self.last_exit.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
