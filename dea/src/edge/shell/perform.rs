//! Effects of the core, carried out.

use super::{Shell, WorkTokens, outbound, tell_capacity};
use crate::{
    domain::{
        claim::{self, Wanted},
        core::{Effect, Input},
        staging,
    },
    edge::{claims, containers, health, identity, launch, stage},
};
use futures::FutureExt;
use messages::router::UNREGISTER;
use std::{future::Future, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{BuildId, InstanceId};

/// When volumes are looked after once an instance with one is gone; then with everything else.
const SWEEPS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

impl Shell {
    /// A token for what is done for this instance alone.
    pub(super) fn token(&mut self, instance: InstanceId) -> CancellationToken {
        self.tokens.entry(instance).or_default().clone()
    }

    /// Runs `task` until its instance ends; its outcome goes back to the core.
    pub(super) fn reply(&self, task: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.clone();
        self.spawn(task.then(async move |input| drop(inputs.send(input).await)));
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        let world = self.world.clone();
        match effect {
            Effect::Answer(ticket, answer) => self.answer(ticket, answer),
            Effect::RememberFence(fence) => {
                if let Err(cause) = identity::keep_fence(&self.raw.state, fence) {
                    warn!(error = &cause as &dyn std::error::Error, fence, "the fencing number could not be kept");
                }
            }
            Effect::Claim(hold, revision) => self.reply(async move {
                let outcome = claims::claim(&world.bucket, &hold, revision).await;
                Input::Claimed(hold.slot.instance, outcome)
            }),
            Effect::Write(key, wanted, seen, absent_is_rollback) => self.reply(async move {
                let instance = match &wanted {
                    Wanted::Hold(hold) => hold.slot.instance,
                    Wanted::Release(instance) => *instance,
                };
                Input::Written(instance, claims::write(&world.bucket, &key, &wanted, seen, absent_is_rollback).await)
            }),
            Effect::Disown(key, instance) => self.spawn(async move { claims::disown(&world.bucket, &key, instance).await }),
            Effect::Resync => self.resync = true,
            Effect::Fetch(slot) => {
                let token = self.token(slot.instance);
                let (inputs, id) = (self.inputs.clone(), slot.instance);
                self.spawn(async move {
                    let fetched = async move { launch::fetch(&world, &slot).await };
                    if let Some(outcome) = token.run_until_cancelled(fetched).await {
                        let _ = inputs.send(Input::Fetched(id, outcome)).await;
                    }
                });
            }
            Effect::Create(id, spec) => {
                let unwanted = self.token(id);
                let (inputs, raw) = (self.inputs.clone(), self.raw.clone());
                self.reply(async move {
                    let made = containers::create(&world, &spec, &unwanted).await;
                    if !spec.volumes.is_empty() {
                        tell_capacity(&world, &raw, &inputs).await; // a new volume has taken disk
                    }
                    Input::Created(id, made)
                });
            }
            Effect::Probe(id, plan) => {
                let token = self.token(id);
                let inputs = self.inputs.clone();
                let probes = world.probes.clone();
                let (tell, mut told) = mpsc::channel(1);
                self.spawn(async move {
                    let forward = async {
                        while let Some(verdict) = told.recv().await {
                            let _ = inputs.send(Input::Probed(id, verdict)).await;
                        }
                    };
                    token.run_until_cancelled(async { tokio::join!(health::check(plan, probes, tell), forward) }).await;
                });
            }
            Effect::Cancel(id) => {
                if let Some(token) = self.tokens.remove(&id) {
                    token.cancel();
                }
            }
            Effect::Drain(id, pause) => self.reply(async move {
                sleep(pause).await;
                Input::Drained(id)
            }),
            Effect::StopContainer(id, grace) => {
                self.reply(async move { Input::Stopped(id, containers::stop(&world, &claim::handle(id), grace).await) })
            }
            Effect::Destroy(id) => self.reply(async move {
                containers::destroy(&world, &claim::handle(id)).await;
                Input::Destroyed(id)
            }),
            Effect::SweepVolumes => {
                // Once Warden has cleared the container away and the cloud controller has seen its record go; and again if not.
                for pause in SWEEPS {
                    self.sweep_volumes(pause);
                }
            }
            Effect::DestroyOrphan(handle) => {
                info!(handle, "removing a container that belongs to nothing");
                self.spawn(async move { containers::destroy(&world, &handle).await });
            }
            Effect::Register(register) => self.publish(&*register),
            Effect::Unregister(register) => self.queue(UNREGISTER, &*register),
            Effect::Emit(envelopes) => world.emit(envelopes),
            Effect::ReportCrash(report) => {
                if self.crashes.try_send(*report).is_err() {
                    warn!("too many crashes wait to be told; one is not");
                }
            }
            Effect::AskRoutes(versions) => self.spawn(outbound::ask_routes(world, versions, self.inputs.clone())),
            Effect::SetEgress(id, endpoints) => self.reply(async move {
                let set = world.outside.warden.set_egress(&claim::handle(id), &endpoints).await;
                if let Err(cause) = &set {
                    warn!(error = cause as &dyn std::error::Error, instance.id = %id, "what a container may reach could not be changed");
                }
                Input::EgressSet(id, set.ok().map(|()| endpoints))
            }),
            Effect::Tell => self.tell = true,
            Effect::ClaimWork(build) => self.reply(async move {
                let outcome = claims::claim_work(&world, world.settings.common.dea, build).await;
                Input::WorkClaimed(build, outcome)
            }),
            Effect::RunWork(build) => self.run_work(build),
            Effect::DoubtWork(build) => {
                if let Some(cancel) = self.works.get(&build).map(|tokens| tokens.cancel.clone()) {
                    self.spawn(async move {
                        if stage::unwanted(&world, build).await {
                            cancel.cancel();
                        }
                    });
                }
            }
            Effect::LeaveWork(build) => match self.works.get(&build) {
                Some(tokens) => tokens.leave.cancel(),
                None => self.reply(async move { Input::WorkEnded(build) }),
            },
            Effect::AwaitEvacuation(time) => self.reply(async move {
                sleep(time).await;
                Input::EvacuationOver
            }),
        }
    }

    pub(super) fn run_work(&mut self, build: BuildId) {
        self.works.retain(|_, tokens| !tokens.cancel.is_cancelled());
        let tokens = WorkTokens { cancel: CancellationToken::new(), leave: CancellationToken::new() };
        let (cancel, leave) = (tokens.cancel.clone(), tokens.leave.clone());
        self.works.insert(build, tokens);
        let (world, inputs) = (self.world.clone(), self.inputs.clone());
        self.spawn(async move {
            if leave.run_until_cancelled(stage::run(&world, build, cancel.clone(), inputs.clone())).await.is_none() {
                containers::destroy(&world, &staging::handle(build)).await;
                let _ = inputs.send(Input::WorkEnded(build)).await;
            }
            // From here on the tokens mean nothing; the next staging clears them away.
            cancel.cancel();
        });
    }
}
