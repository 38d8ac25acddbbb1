//! Warden, tried again while it restarts.

use crate::{
    domain::{
        container::{self, Place},
        core::Input,
        room::Capacity,
    },
    edge::{World, backoff::Backoff},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::DeaId;
use warden_client::{ContainerInfo, ContainerSpec, Error, ErrorKind, Event, ProcessExit};

/// How long a start waits for Warden to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for a volume or service port that a former instance still has: that one has time to shut down.
const HELD: Duration = Duration::from_secs(120);
/// Pauses between looks at those.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Makes a container. `unwanted` ends its waiting for what another container has, and no request to Warden.
///
/// # Errors
/// In words for the user.
pub async fn create(
    world: &World,
    spec: &ContainerSpec,
    unwanted: &CancellationToken,
) -> Result<(Place, Option<ProcessExit>), String> {
    let mut spec = std::borrow::Cow::Borrowed(spec);
    let deadline = Instant::now() + PATIENCE;
    let released = Instant::now() + HELD;
    let mut backoff = Backoff::peers();
    let mut looks = Backoff::new(FIRST_LOOK, LAST_LOOK);
    loop {
        let permit = world.creations.acquire().await;
        let made = world.outside.warden.create(&spec).await;
        drop(permit);
        match made {
            Ok(info) => return Ok((Place::from(&info), info.exit)),
            Err(cause @ Error::Unreachable(..)) if Instant::now() < deadline => {
                warn!(error = &cause as &dyn std::error::Error, handle = spec.handle, "warden does not answer; trying again");
                backoff.pause().await;
            }
            Err(Error::Unreachable(..)) => return Err("the container runtime does not answer".into()),
            // The room is reserved in this DEA's books already; Warden gives it back once an earlier container is all gone.
            Err(cause) if cause.kind() == Some(ErrorKind::NoRoom) && Instant::now() < deadline => backoff.pause().await,
            Err(cause) if cause.kind() == Some(ErrorKind::Conflict) && is_shared(&spec) && Instant::now() < released => {
                if unwanted.run_until_cancelled(looks.pause()).await.is_none() {
                    return Err("no longer wanted".into());
                }
            }
            // What a service says of itself must not keep an app from starting.
            Err(cause) if cause.kind() == Some(ErrorKind::Invalid) && !spec.egress.is_empty() => {
                warn!(error = &cause as &dyn std::error::Error, handle = spec.handle, "trying without ways to services");
                spec.to_mut().egress.clear();
            }
            Err(cause) => return Err(cause.to_string()),
        }
    }
}

/// It has something that only one container at a time can have.
fn is_shared(spec: &ContainerSpec) -> bool {
    !spec.volumes.is_empty() || !spec.service_ports.is_empty()
}

/// Ends a container's main process; `None` where Warden does not know the container.
pub async fn stop(world: &World, handle: &str, grace: Duration) -> Option<ProcessExit> {
    let mut backoff = Backoff::peers();
    loop {
        match world.outside.warden.stop(handle, grace).await {
            Ok(exit) => return Some(exit),
            Err(cause) if cause.kind() == Some(ErrorKind::NotFound) => return None,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, handle, "a container could not be stopped; trying again");
                backoff.pause().await;
            }
        }
    }
}

/// Takes a container away; goes on until that is done.
pub async fn destroy(world: &World, handle: &str) {
    let mut backoff = Backoff::peers();
    loop {
        let permit = world.creations.acquire().await;
        let destroyed = world.outside.warden.destroy(handle).await;
        drop(permit);
        match destroyed {
            Ok(()) => return,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, handle, "a container could not be destroyed; trying again");
                backoff.pause().await;
            }
        }
    }
}

/// All containers of this DEA.
pub async fn list(warden: &warden_client::Client, dea: DeaId) -> Result<Vec<ContainerInfo>, Error> {
    warden.list(&BTreeMap::from([(container::DEA.to_owned(), dea.to_string())])).await
}

/// What this host may promise.
pub async fn capacity(warden: &warden_client::Client, raw: &crate::config::Raw) -> Result<Capacity, Error> {
    let has = warden.capacity().await?;
    let mb = |bytes: u64| u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
    let times = |mb: u32, factor: f64| (f64::from(mb) * factor).min(f64::from(u32::MAX)) as u32;
    Ok(Capacity {
        memory_mb: times(raw.memory_mb.unwrap_or(mb(has.memory_bytes)), raw.memory_overcommit),
        // What volumes have is Warden's to know, and is no longer there for others.
        disk_mb: times(raw.disk_mb.map_or(mb(has.disk_bytes), |set| set.min(mb(has.disk_bytes))), raw.disk_overcommit),
        stacks: has.stacks,
        cores: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        host_memory_bytes: has.memory_bytes,
        max_instances: raw.max_instances,
    })
}

/// Follows what happens to containers, for ever; after each break everything is compared.
pub async fn follow(world: Arc<World>, inputs: mpsc::Sender<Input>) {
    let mut backoff = Backoff::peers();
    loop {
        match follow_once(&world, &inputs, &mut backoff).await {
            Ok(()) => return,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, "lost warden");
                backoff.pause().await;
            }
        }
    }
}

async fn follow_once(world: &World, inputs: &mpsc::Sender<Input>, backoff: &mut Backoff) -> Result<(), Error> {
    let mut events = world.outside.warden.events().await?;
    // Listed after the events began: what happened before is in the list, what happens later is told.
    let all = list(&world.outside.warden, world.settings.common.dea).await?;
    info!(containers = all.len(), "following warden");
    *backoff = Backoff::peers();
    if inputs.send(Input::Containers(all)).await.is_err() {
        return Ok(());
    }
    loop {
        let input = match events.next().await? {
            Event::Exited { handle, exit } => Input::Exited(handle, exit),
            Event::Gone { handle } => Input::Gone(handle),
        };
        if inputs.send(input).await.is_err() {
            return Ok(());
        }
    }
}
