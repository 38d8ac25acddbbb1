//! Launch specs, droplets, layers.

use crate::{
    domain::{claim::Slot, container, core::FetchFailure, text},
    edge::{World, backoff::Backoff, cache::Lease},
};
use cloud_controller_client::{Error, LaunchSpec};
use loggregator_client::{LogType, log_line};
use sha2::{Digest, Sha256};
use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;
use tracing::warn;
use types::DropletId;
use warden_client::ErrorKind;

/// How long a start waits for the cloud controller and for Warden to come back.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a blob is not here.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// There is none.
    #[error("it does not exist any more")]
    NotFound,
    /// What arrived, twice, is not what it should be.
    #[error("checksum mismatch: it was damaged on its way or at rest")]
    Checksum,
    /// The cloud controller does not answer or refuses.
    #[error("it cannot be downloaded")]
    Unavailable(#[source] Error),
    /// The disk failed.
    #[error("it cannot be kept on disk")]
    File(#[source] std::io::Error),
}

/// Launch spec, and the layer that holds its droplet, if it has one.
///
/// # Errors
/// In words for the user.
pub async fn fetch(world: &World, slot: &Slot) -> Result<(Box<LaunchSpec>, Option<String>), FetchFailure> {
    let launch = patiently(|| world.outside.controller.launch_spec(slot.version)).await;
    let launch = launch.map_err(|cause| match cause {
        Error::NotFound(_) => FetchFailure::NotWanted,
        cause => {
            warn!(error = &cause as &dyn std::error::Error, instance.id = %slot.instance, "no launch spec");
            FetchFailure::Failed("the launch spec could not be fetched from the cloud controller".into())
        }
    })?;
    let Some(guid) = launch.droplet else { return Ok((Box::new(launch), None)) };
    let layer = layer(world, slot, &launch, guid).await.map_err(|reason| {
        warn!(instance.id = %slot.instance, reason, "no droplet");
        FetchFailure::Failed(reason)
    })?;
    Ok((Box::new(launch), Some(layer)))
}

/// Asks until there is an answer that stands, or patience ends.
pub async fn patiently<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = Backoff::peers();
    loop {
        match ask().await {
            Err(cause @ Error::Unavailable(..)) if Instant::now() < deadline => {
                warn!(error = &cause as &dyn std::error::Error, "trying again");
                backoff.pause().await;
            }
            answer => return answer,
        }
    }
}

async fn layer(world: &World, slot: &Slot, launch: &LaunchSpec, guid: DropletId) -> Result<String, String> {
    let digest = launch.droplet_sha256.to_lowercase();
    let failed = |cause: BlobError| {
        let source = std::error::Error::source(&cause).map(|source| format!(" ({source})")).unwrap_or_default();
        format!("failed to download droplet: {cause}{source}")
    };
    for last in [false, true] {
        let gate = world.layers.read().await;
        let droplet = droplet(world, slot, launch, (guid, &digest)).await.map_err(failed)?;
        // Checked at every unpacking, not only after the download: disks rot too.
        let unpacked = world.made.lock().contains(&digest);
        if !unpacked && !matches(&droplet.path, &digest).await {
            world.droplets.discard(&digest);
            if last {
                return Err(failed(BlobError::Checksum));
            }
            continue;
        }
        let made = unpack(world, &digest, &droplet.path).await;
        drop(gate);
        if made.is_ok() {
            world.made.lock().insert(digest.clone());
        }
        return made.map(|()| digest);
    }
    Err(failed(BlobError::Checksum))
}

async fn unpack(world: &World, digest: &str, archive: &Path) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = Backoff::peers();
    loop {
        match world.outside.warden.create_layer(digest, archive, Path::new("/home/vcap")).await {
            Ok(()) => return Ok(()),
            Err(cause @ warden_client::Error::Unreachable(..)) if Instant::now() < deadline => {
                warn!(error = &cause as &dyn std::error::Error, "warden does not answer; trying again");
                backoff.pause().await;
            }
            Err(cause) if cause.kind() == Some(ErrorKind::Invalid) => {
                return Err(format!("the droplet cannot be unpacked: {cause}"));
            }
            Err(cause) => return Err(format!("the droplet could not be unpacked: {cause}")),
        }
    }
}

async fn droplet(world: &World, slot: &Slot, launch: &LaunchSpec, (guid, digest): (DropletId, &str)) -> Result<Lease, BlobError> {
    let blob = format!("droplets/{guid}");
    let note = |line: String| {
        let (app, index) = (slot.app.to_string(), slot.index.to_string());
        let tags = container::tags(slot, launch);
        world.emit(vec![log_line(&app, &index, "CELL", tags, line.as_bytes(), LogType::Out, world.now().as_nanos())]);
    };
    let make = |path: PathBuf| async move {
        note("Downloading droplet...".into());
        download(world, &blob, digest, &path).await?;
        let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        note(format!("Downloaded droplet ({})", text::size(size)));
        Ok(())
    };
    world.droplets.get(digest, make, BlobError::File).await
}

/// Downloads a blob to `to` and checks its digest; what is damaged is fetched once more.
///
/// # Errors
/// See [`BlobError`]; a part may stay at `to`.
pub async fn download(world: &World, blob: &str, digest: &str, to: &Path) -> Result<(), BlobError> {
    for _ in 0..2 {
        let permit = world.downloads.acquire().await;
        let fetched = patiently(|| world.outside.controller.download(blob, to)).await;
        drop(permit);
        fetched.map_err(|cause| match cause {
            Error::NotFound(_) => BlobError::NotFound,
            Error::File(_, cause) => BlobError::File(cause),
            cause => BlobError::Unavailable(cause),
        })?;
        if matches(to, digest).await {
            return Ok(());
        }
        warn!(blob, "a blob arrived damaged");
    }
    Err(BlobError::Checksum)
}

/// Whether a file has this sha256. One that cannot be read has not.
async fn matches(path: &Path, digest: &str) -> bool {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || sha256(&path)).await;
    matches!(read, Ok(Ok(found)) if found == digest)
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            got => hash.update(&buffer[..got]),
        }
    }
}

/// Lets Warden forget the droplets that are not in the cache any more.
pub async fn sweep_layers(world: &World) {
    let gate = world.layers.write().await;
    let keep = world.droplets.keys();
    world.made.lock().retain(|digest| keep.contains(digest));
    if let Err(cause) = world.outside.warden.keep_layers(&keep).await {
        warn!(error = &cause as &dyn std::error::Error, "unused layers could not be removed");
    }
    drop(gate);
}
