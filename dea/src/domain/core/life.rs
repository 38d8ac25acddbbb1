//! The life of an instance, from its claim to its end.

use super::{Claimed, Core, Effect, Egress, FetchFailure, Instance, ProbePlan, VOLUME_GRACE, Verdict};
use crate::domain::{
    claim::{self, Wanted},
    container::{self, Place},
    phase::{End, EndMove, Phase},
    text,
};
use cloud_controller_client::{CrashReport, LaunchSpec};
use loggregator_client::LogType;
use messages::{
    claims::{Exit, InstanceState},
    dea::Answer,
};
use std::{collections::BTreeMap, time::Duration};
use tracing::debug;
use types::{InstanceId, Timestamp};
use warden_client::ProcessExit;

impl Core {
    pub(super) fn claimed(&mut self, id: InstanceId, outcome: Result<Claimed, String>, now: Timestamp, out: &mut Vec<Effect>) {
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

    pub(super) fn fetched(
        &mut self,
        id: InstanceId,
        outcome: Result<(Box<LaunchSpec>, Option<String>), FetchFailure>,
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
        let spec = container::instance(&self.settings.common, &instance.slot, &launch, layer.as_deref(), instance.revision);
        instance.routes = launch.routes.iter().cloned().collect();
        instance.egress = Egress { wanted: spec.egress.clone(), known: Some(spec.egress.clone()), telling: false };
        // The environment is Warden's from here on; it is not needed again and not kept.
        instance.launch = Some(LaunchSpec { env: BTreeMap::new(), binding_files: BTreeMap::new(), ..*launch });
        self.cell(id, LogType::Out, |cell, id| format!("Cell {cell} creating container for instance {id}"), now, out);
        self.set(id, next, now, out);
        out.push(Effect::Create(id, Box::new(spec)));
    }

    pub(super) fn created(
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
        // Something may have been bound or unbound since the launch spec was read.
        self.set_egress(id, out);
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

    pub(super) fn probe(&self, id: InstanceId, running: bool, out: &mut Vec<Effect>) {
        let Some(Instance { launch: Some(launch), place: Some(place), .. }) = self.instances.get(&id) else { return };
        let plan =
            ProbePlan { address: place.container, ports: launch.ports.clone(), check: launch.health_check.clone(), running };
        out.push(Effect::Probe(id, plan));
    }

    pub(super) fn probed(&mut self, id: InstanceId, verdict: Verdict, now: Timestamp, out: &mut Vec<Effect>) {
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

    pub(super) fn exited(&mut self, handle: &str, exit: &ProcessExit, now: Timestamp, out: &mut Vec<Effect>) {
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

    pub(super) fn gone(&mut self, handle: &str, now: Timestamp, out: &mut Vec<Effect>) {
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
    pub(super) fn ended(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
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

    pub(super) fn drained(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        match instance.phase.drained() {
            Ok(next) => {
                self.set(id, next, now, out);
                out.push(Effect::StopContainer(id, self.grace(id)));
            }
            Err(late) => debug!("{late}"),
        }
    }

    pub(super) fn stopped(&mut self, id: InstanceId, exit: Option<ProcessExit>, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        if let (Some(exit), Phase::Stopping(_)) = (exit, &instance.phase) {
            // TERM gives 143 or the app's own status; 137 at a stop means that the grace time was used up.
            let exceeded = (exit.status == 137 && !exit.out_of_memory).then_some(self.grace(id));
            let source = text::source_type(&instance.slot.process_type);
            self.note(id, &source, LogType::Out, &text::exit_line(exit.status, exit.out_of_memory, exceeded), now, out);
        }
        self.ended(id, now, out);
    }

    pub(super) fn destroyed(&mut self, id: InstanceId, now: Timestamp, out: &mut Vec<Effect>) {
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
            None => self.forget(id, out),
        }
        out.push(Effect::Tell);
    }

    /// Nothing is left of an instance, but perhaps its volume.
    pub(super) fn forget(&mut self, id: InstanceId, out: &mut Vec<Effect>) {
        if self.instances.remove(&id).is_some_and(|instance| instance.has_volume()) {
            out.push(Effect::SweepVolumes);
        }
    }

    /// Between TERM and KILL.
    pub(super) fn grace(&self, id: InstanceId) -> Duration {
        match self.instances.get(&id) {
            Some(instance) if instance.has_volume() => self.settings.grace.max(VOLUME_GRACE),
            _ => self.settings.grace,
        }
    }

    /// An instance ended by itself, or counts as ended: notes it, tells it, and begins its end.
    pub(super) fn crash(&mut self, id: InstanceId, status: Option<i32>, reason: String, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.phase.lost()
            || matches!(instance.phase.state(), None | Some(InstanceState::Stopping | InstanceState::Crashed))
        {
            return; // it was ending anyway
        }
        let exit = self.fail(id, status, reason, now, out);
        self.end(id, End::Crash(exit), now, out);
    }

    pub(super) fn fail(
        &mut self,
        id: InstanceId,
        status: Option<i32>,
        reason: String,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Exit {
        let exit = Exit { instance: id, at: now, status, reason };
        let dea = self.dea();
        let Some(instance) = self.instances.get_mut(&id) else { return exit };
        instance.crash_count = claim::crashes(instance.crash_count, instance.running_since, now);
        instance.last_exit = Some(exit.clone());
        out.push(Effect::ReportCrash(Box::new(CrashReport {
            dea: Some(dea),
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

    pub(super) fn end(&mut self, id: InstanceId, end: End, now: Timestamp, out: &mut Vec<Effect>) {
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
            Ok(EndMove::Noted(phase)) => {
                if matches!(phase, Phase::Creating { .. }) {
                    out.push(Effect::Cancel(id));
                }
                self.set(id, phase, now, out);
            }
            Ok(EndMove::Release) => self.set(id, Phase::Releasing, now, out),
            Ok(EndMove::Forget) => drop(self.instances.remove(&id)),
            Err(late) => debug!("{late}"),
        }
        out.push(Effect::Tell);
    }
}
