//! Carries out effects, each in its own task, and sends back how it went.

use super::{Outside, listen};
use crate::domain::{Effect, Input, Outcome, Written};
use bus::{Bucket, Bus, Error};
use cloud_controller_client::StagingResult;
use foundation::Shutdown;
use messages::{
    claims::{CLAIMS, HEALTH_MANAGER_LEASE, InstanceRecord, LEASES, Lease, instance_key},
    dea::{Answer, LOCATE, command_subject},
};
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OnceCell, mpsc};
use tracing::{debug, info, warn};
use types::{BuildId, DeaId};

/// How long a DEA may take for its answer: it only reserves and claims before that.
const COMMAND_LIMIT: Duration = Duration::from_secs(5);
const STORE_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Performer(Arc<Inner>);

struct Inner {
    outside: Outside,
    inputs: mpsc::Sender<Input>,
    shutdown: Shutdown,
    claims: OnceCell<Bucket>,
    leases: OnceCell<Bucket>,
}

impl Performer {
    pub(super) fn new(outside: Outside, inputs: mpsc::Sender<Input>, shutdown: Shutdown) -> Self {
        Self(Arc::new(Inner { outside, inputs, shutdown, claims: OnceCell::new(), leases: OnceCell::new() }))
    }

    pub(super) fn perform(&self, effect: Effect) {
        let inner = self.0.clone();
        self.0.shutdown.spawn(async move {
            let input = tokio::select! {
                input = inner.carry_out(effect) => input,
                () = inner.shutdown.requested() => return,
            };
            if let Some(input) = input {
                // A closed queue means that the service ends.
                let _ = inner.inputs.send(input).await;
            }
        });
    }
}

impl Inner {
    async fn carry_out(&self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Start { dea, start } => {
                let outcome = command(&self.outside.bus, dea, "start", &start).await;
                debug!(app.id = %start.app, instance.id = %start.instance, dea.id = %dea, ?outcome, "start of index {}", start.index);
                let slot = (start.version, start.index);
                Some(Input::Started { slot, instance: start.instance, dea, outcome })
            }
            Effect::Stop { dea, stop } => {
                let outcome = command(&self.outside.bus, dea, "stop", &stop).await;
                debug!(instance.id = %stop.instance, dea.id = %dea, ?outcome, "stop: {}", stop.reason);
                Some(Input::Stopped { instance: stop.instance, outcome })
            }
            Effect::Stage { dea, stage } => {
                let outcome = command(&self.outside.bus, dea, "stage", &stage).await;
                debug!(app.id = %stage.app, build.id = %stage.build, dea.id = %dea, ?outcome, "staging");
                Some(Input::Staged { build: stage.build, dea, outcome })
            }
            Effect::Write { record, revision } => {
                if let Some(why) = &record.unplaced {
                    info!(app.id = %record.app, "index {} of `{}` finds no place: {why}", record.index, record.process_type);
                }
                let slot = (record.version, record.index);
                Some(Input::Wrote { slot, outcome: self.write(*record, revision).await })
            }
            Effect::Remove { slot, revision } => {
                let key = instance_key(slot.0, slot.1);
                let removed = self.claims().await.remove(&key, revision);
                Some(Input::Wrote { slot, outcome: written(tokio::time::timeout(STORE_LIMIT, removed).await, |()| 0) })
            }
            Effect::RemoveWork { work, revision } => {
                let key = listen::key_of_work(work);
                let removed = self.claims().await.remove(&key, revision);
                let _ = tokio::time::timeout(STORE_LIMIT, removed).await;
                None
            }
            Effect::FailBuild { build, id, message } => Some(self.fail_build(build, id, message).await),
            Effect::Lease { lease, revision } => {
                let outcome = self.write_lease(&lease, revision).await;
                let _ = self.inputs.send(Input::LeaseWrote { lease, outcome }).await;
                if outcome == Written::Conflict {
                    self.read_lease().await;
                }
                None
            }
            Effect::Locate => {
                // Lost if it fails: they speak by themselves every few seconds.
                let _ = self.outside.bus.publish_to(LOCATE, bytes::Bytes::new()).await;
                None
            }
        }
    }

    async fn claims(&self) -> &Bucket {
        self.claims.get_or_init(|| listen::bucket(&self.outside.bus, CLAIMS)).await
    }

    async fn write(&self, record: InstanceRecord, revision: u64) -> Written {
        let key = instance_key(record.version, record.index);
        put(self.claims().await, &key, &record, revision).await
    }

    /// After a lost race: the rules learn what is there even if the watch told it before they would listen.
    async fn read_lease(&self) {
        let leases = self.leases.get_or_init(|| listen::bucket(&self.outside.bus, LEASES)).await;
        let found = match leases.get(HEALTH_MANAGER_LEASE).await {
            Ok(Some(entry)) => entry.read().ok().map(|lease| (Some(lease), entry.revision)),
            Ok(None) => Some((None, 0)),
            Err(_) => None,
        };
        if let Some((lease, revision)) = found {
            let _ = self.inputs.send(Input::Lease { lease, revision }).await;
        }
    }

    async fn write_lease(&self, lease: &Lease, revision: u64) -> Written {
        let leases = self.leases.get_or_init(|| listen::bucket(&self.outside.bus, LEASES)).await;
        put(leases, HEALTH_MANAGER_LEASE, lease, revision).await
    }

    async fn fail_build(&self, build: BuildId, id: &str, message: String) -> Input {
        info!(build.id = %build, "build cannot be placed: {message}");
        let result = StagingResult::Failed { id: id.into(), message };
        let told = match self.outside.feed.staging_completed(build, &result).await {
            Ok(()) | Err(cloud_controller_client::Error::NotFound(_)) => true,
            Err(e) => {
                warn!(build.id = %build, error = &e as &dyn std::error::Error, "cannot tell that a build failed; trying again");
                // The rules ask again with the next tick; the pause keeps that from being at once.
                tokio::time::sleep(Duration::from_secs(2)).await;
                false
            }
        };
        Input::BuildFailed { build, told }
    }
}

async fn put<T: Serialize>(bucket: &Bucket, key: &str, value: &T, revision: u64) -> Written {
    let put = async {
        match revision {
            0 => bucket.create(key, value).await,
            revision => bucket.update(key, value, revision).await,
        }
    };
    written(tokio::time::timeout(STORE_LIMIT, put).await, |revision| revision)
}

fn written<T>(outcome: Result<bus::Result<T>, tokio::time::error::Elapsed>, revision: impl Fn(T) -> u64) -> Written {
    match outcome {
        Ok(Ok(done)) => Written::Yes(revision(done)),
        Ok(Err(Error::Conflict(_))) => Written::Conflict,
        _ => Written::Unknown,
    }
}

async fn command<T: Serialize>(bus: &Bus, dea: DeaId, verb: &str, command: &T) -> Outcome {
    match bus.request(&command_subject(dea, verb), command, COMMAND_LIMIT).await {
        Ok(Answer::Accepted) => Outcome::Accepted,
        Ok(Answer::Refused { reason }) => Outcome::Refused(reason),
        Err(Error::NoResponders(_)) => Outcome::NotSent,
        Err(_) => Outcome::Unknown,
    }
}
