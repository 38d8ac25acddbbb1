//! Disks of workloads that are no more.

use crate::{domain::volumes, edge::World};
use tracing::{info, warn};
use warden_client::ErrorKind;

/// Removes the volumes that the cloud controller names; true if there were any. Whatever fails changes nothing.
pub async fn sweep(world: &World) -> bool {
    let _turn = world.volumes.lock().await;
    let removed = once(world).await;
    if removed {
        // That they are gone, so that nobody waits for the next time.
        once(world).await;
    }
    removed
}

async fn once(world: &World) -> bool {
    let warden = &world.outside.warden;
    let here = match warden.volumes().await {
        Ok(here) => here,
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, "the volumes of this host are not known");
            return false;
        }
    };
    // Also without any: whoever deletes a workload waits to hear that its volume is not here.
    let answer = match world.outside.controller.volumes(&volumes::report(world.settings.common.dea, &here)).await {
        Ok(answer) => answer,
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, "the volumes of this host could not be told");
            return false;
        }
    };
    let mut removed = false;
    for id in volumes::removable(&here, &answer) {
        match warden.delete_volume(id).await {
            Ok(()) => {
                info!(volume.id = id, "removed the volume `{id}` of a workload that was deleted");
                removed = true;
            }
            Err(cause) if cause.kind() == Some(ErrorKind::Conflict) => {}
            Err(cause) => warn!(error = &cause as &dyn std::error::Error, volume.id = id, "a volume could not be removed"),
        }
    }
    removed
}
