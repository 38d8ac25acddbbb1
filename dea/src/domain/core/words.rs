//! The words of the core: what happens to a DEA, and what is to be done about it.

use crate::domain::{
    claim::{Hold, Slot, Wanted},
    container::Place,
    room::{Capacity, Share},
};
use cloud_controller_client::{CrashReport, HealthCheck, LaunchSpec, RoutesAnswer};
use loggregator_client::Envelope;
use messages::{
    claims::{Exit, InstanceRecord},
    dea::{Answer, StageBuild, StartInstance, StopInstance},
    router::Register,
};
use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};
use types::{AppId, BuildId, InstanceId, VersionId};
use warden_client::{ContainerInfo, ContainerSpec, Endpoint, Metrics, ProcessExit};

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
    /// Launch spec, and the layer that holds the droplet, if there is one.
    Fetched(InstanceId, Result<(Box<LaunchSpec>, Option<String>), FetchFailure>),
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
    /// Warden knows what a container may reach: this; none: it refuses or does not answer.
    EgressSet(InstanceId, Option<Vec<Endpoint>>),
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
    /// Give up what is being fetched or checked for this instance, and waiting for a volume that another container has.
    Cancel(InstanceId),
    /// Come back after this time. -> [`Input::Drained`]
    Drain(InstanceId, Duration),
    /// TERM, and KILL after the grace time. -> [`Input::Stopped`]
    StopContainer(InstanceId, Duration),
    /// Take the container away. -> [`Input::Destroyed`]
    Destroy(InstanceId),
    /// See soon whether a volume of this host may go.
    SweepVolumes,
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
    /// Tell Warden what a container may reach from here on. -> [`Input::EgressSet`]
    SetEgress(InstanceId, Vec<Endpoint>),
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
