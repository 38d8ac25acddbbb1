//! All that this DEA holds, as one value: inputs in, effects out.
//!
//! `words`: inputs and effects. `commands`, `life`, `records`, `routing`, `recovery`, `telling`: what is done about them.

mod commands;
mod life;
mod records;
mod recovery;
mod routing;
mod telling;
mod words;

pub use words::*;

use crate::{
    config::RouteTo,
    domain::{
        claim::{Hold, Slot, Wanted},
        container::{Common, Place},
        phase::Phase,
        room::{Capacity, Share},
        usage::Meter,
    },
};
use cloud_controller_client::{LaunchSpec, Route};
use messages::{
    claims::{Exit, Holder, InstanceState},
    router::Register,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::{AppId, BuildId, DeaId, InstanceId, Timestamp};
use warden_client::{Endpoint, ProcessExit};

/// How long a lower fencing number must go on commanding before it is believed.
const DOUBT: Duration = Duration::from_secs(60);
/// What an instance with a volume gets between TERM and KILL, at least: a database writes down what it has.
const VOLUME_GRACE: Duration = Duration::from_secs(30);
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

struct Instance {
    slot: Slot,
    key: String,
    phase: Phase,
    since: Timestamp,
    tickets: Vec<Ticket>,
    launch: Option<LaunchSpec>,
    routes: BTreeSet<Route>,
    egress: Egress,
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

/// What the container may reach.
#[derive(Debug, Default)]
struct Egress {
    /// As the cloud controller last told.
    wanted: Vec<Endpoint>,
    /// As Warden has it; none: there is no container yet.
    known: Option<Vec<Endpoint>>,
    /// Warden is being told.
    telling: bool,
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
            Input::EgressSet(id, outcome) => self.egress_set(id, outcome, &mut out),
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
}

/// An instance in this state answers for a second request to start it.
fn claimable(state: InstanceState) -> bool {
    !matches!(state, InstanceState::Stopping | InstanceState::Crashed)
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
            egress: Egress::default(),
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

    fn has_volume(&self) -> bool {
        self.launch.as_ref().is_some_and(|launch| launch.volume.is_some())
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
        let state = self.phase.state().unwrap_or(InstanceState::Stopping);
        // The first word of a crash is the last one: a later change would get in the way of whoever claims the slot anew.
        let crashed = state == InstanceState::Crashed;
        Hold {
            slot: self.slot.clone(),
            holder: Holder {
                instance: self.slot.instance,
                dea,
                state,
                since: self.since,
                endpoint: self.place.as_ref().filter(|_| !crashed).map(|place| place.endpoint(port)),
                memory_mb: if crashed { 0 } else { self.slot.memory_mb },
                disk_mb: if crashed { 0 } else { self.slot.disk_mb },
                details: self.phase.crash().map(|exit| exit.reason.clone()),
            },
            crash_count: self.crash_count,
            last_exit: self.last_exit.clone(),
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;
