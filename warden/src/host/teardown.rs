//! Taking containers away, wholly: processes, cgroups, link, rules, disk. What fails is tried again until nothing is left, also by
//! the next daemon; until then the container's memory, disk, address and ports stay promised.

use super::{Host, Phase, about, leads, log_failure, ways};
use crate::{
    error::{Error, Result},
    record::Record,
    shim::Shim,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::{fs, io, path::Path, time::Duration};
use tracing::warn;
use types::Timestamp;
use warden_client::{Event, shim::ShimRequest};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long processes may take to die once they are killed.
const DEATH: Duration = Duration::from_secs(10);

impl Host {
    /// Condemns a container; an unknown handle is a success.
    pub(crate) fn destroy(&self, handle: &str) -> Result<()> {
        if self.visible(handle).is_ok() {
            self.0.records.condemn(handle).map_err(Error::at("condemning the container"))?;
            self.take_away(handle);
        }
        Ok(())
    }

    /// Takes a container out of sight and clears it in the background.
    pub(super) fn take_away(&self, handle: &str) {
        let record = self.change(|state| {
            let there = state.containers.get_mut(handle)?;
            let first = there.phase != Phase::Going;
            there.phase = Phase::Going;
            first.then(|| there.record.clone())
        });
        let Some(record) = record else { return };
        let host = self.clone();
        self.0.shutdown.spawn(async move {
            let rest = host.0.config.quarantine;
            let mut pause = FIRST_RETRY;
            while let Err(e) = host.clear(&record).await {
                log_failure(&record.handle, &e);
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_RETRY),
                    () = host.0.shutdown.requested() => return, // the next daemon finds it condemned, or dead
                }
            }
            host.release(&record, host.0.clock.now() + rest);
            let _ = host.0.events.send(Event::Gone { handle: record.handle });
        });
    }

    /// Clears what a failed creation left, before its error is told; in the background if that does not work at once.
    pub(super) async fn clear_now(&self, record: &Record) {
        match self.clear(record).await {
            // Nothing ever listened there, so nothing can be led there by mistake.
            Ok(()) => self.release(record, self.0.clock.now()),
            Err(e) => {
                log_failure(&record.handle, &e);
                if let Err(e) = self.0.records.condemn(&record.handle) {
                    log_failure(&record.handle, &e);
                }
                self.take_away(&record.handle);
            }
        }
    }

    /// The daemon's end: a host without containers is left as it was found.
    pub(crate) async fn end(&self) {
        self.0.spares.end().await;
        if let Err(e) = await_disk(self.0.spares.images()).await {
            warn!(error = &e as &dyn std::error::Error, "cannot let go of a disk that nobody needs");
        }
        // What is being taken away at this moment is a matter of milliseconds.
        for _ in 0..200 {
            if !self.state().containers.values().any(|there| there.phase == Phase::Going) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if !self.state().containers.is_empty() {
            return;
        }
        self.0.cgroups.remove_parent();
        if let Err(e) = self.0.network.end(&self.0.config).await {
            warn!(error = &e as &dyn std::error::Error, "cannot take the network away");
        }
    }

    fn release(&self, record: &Record, until: Timestamp) {
        let resting = self.change(|state| state.release(record, until));
        if let Err(e) = self.0.records.write_resting(&resting) {
            warn!(error = &e as &dyn std::error::Error, "cannot write down which addresses rest");
        }
    }

    async fn clear(&self, record: &Record) -> Result<()> {
        let failed = Error::at("taking the container away");
        let inner = &self.0;
        self.end_shim(record).await;
        self.end_processes(&record.handle).await.map_err(failed)?;
        inner.network.close(&leads(record).collect(), &ways(record).collect()).await?;
        self.unpublish(record).await?;
        inner.network.remove_link(&inner.config.link(record.slot)).await?;
        if !record.service_ports.is_empty() {
            // Before its address rests: whoever has it next must not be led into by an old connection.
            inner.network.forget(record.address).await?;
        }
        inner.cgroups.remove(&record.handle).map_err(|e| failed(about("removing cgroups", &e)))?;
        let folder = inner.records.folder(&record.handle);
        await_disk(&folder.join("disk.img")).await.map_err(failed)?;
        for id in &record.volumes {
            // Of a container that ended, somebody else may have it by now.
            if self.state().holder(id).is_none_or(|holder| holder.record.handle == record.handle) {
                await_disk(&inner.volumes.image(id)).await.map_err(failed)?;
            }
        }
        crate::error::ignore_missing(fs::remove_file(self.socket(record.slot))).map_err(failed)?;
        inner.records.remove(&record.handle).map_err(|e| failed(about("removing the folder", &e)))
    }

    /// Asks the shim to end its container; kills it where it does not.
    async fn end_shim(&self, record: &Record) {
        let Ok(mut shim) = Shim::connect(&self.socket(record.slot)).await else { return };
        // Held before anything dies, so that the number cannot belong to somebody else.
        let process = shim.process().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let polite = async {
            shim.send(&ShimRequest::Stop { grace_ms: 0 }, &[]).await?;
            while shim.receive().await?.is_some() {}
            io::Result::Ok(())
        };
        if tokio::time::timeout(DEATH, polite).await.is_err()
            && let Some(process) = process
        {
            warn!(container.handle = %record.handle, "the shim of `{}` does not answer and is killed", record.handle);
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    /// Kills until no process is left in the container's cgroups.
    async fn end_processes(&self, handle: &str) -> io::Result<()> {
        let deadline = tokio::time::Instant::now() + DEATH;
        let mut pause = Duration::from_millis(1);
        loop {
            let left = self.0.cgroups.processes(handle);
            if left.is_empty() {
                return Ok(());
            }
            for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(io::Error::other(format!("{} processes do not die", left.len())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// Waits until the kernel has let go of an image, or of all below a folder: its device goes away with the last mount, a moment after the last process.
pub(super) async fn await_disk(path: &Path) -> io::Result<()> {
    let deadline = tokio::time::Instant::now() + DEATH;
    while is_device(path)? {
        if tokio::time::Instant::now() > deadline {
            return Err(io::Error::other("the disk is still mounted"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn is_device(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("loop") {
            continue;
        }
        if let Ok(backing) = fs::read_to_string(entry.path().join("loop/backing_file"))
            && Path::new(backing.trim_end().trim_end_matches(" (deleted)")).starts_with(path)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
