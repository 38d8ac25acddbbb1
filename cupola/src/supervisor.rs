//! Keeps the parts running: ordered start, restart with back-off, ordered stop, log files with rotation.

use crate::{
    brokers::OwnBroker,
    node::Node,
    process::{Program, Running, pss_bytes},
};
use foundation::SystemClock;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::watch;
use tracing::{info, warn};
use types::{Clock, Timestamp};

/// The first pause before a restart; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A process that ran this long starts with the first pause again.
const WELL_AFTER: Duration = Duration::from_secs(30);
/// Time between TERM and KILL.
const GRACE: Duration = Duration::from_secs(15);
/// The same for a DEA that evacuates: every instance gets its own ten seconds, a database thirty, all at once.
const EVACUATION: Duration = Duration::from_secs(60);
/// The same for a broker, whose engine writes down what it holds.
const ENGINE: Duration = Duration::from_secs(45);
/// A log file of this size is rotated; this many old ones are kept.
const LOG_BYTES: u64 = 10 << 20;
const OLD_LOGS: u32 = 3;

/// One part as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartStatus {
    pub(crate) service: String,
    pub(crate) pid: Option<i32>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) restarts: u32,
    pub(crate) memory_bytes: Option<u64>,
    /// Why it does not run, if it does not.
    pub(crate) problem: Option<String>,
}

#[derive(Default)]
struct State {
    restarts: u32,
    problem: Option<String>,
}

struct Part {
    program: Program,
    grace: Duration,
    state: parking_lot::Mutex<State>,
    /// Pid and start of the running process.
    shown: watch::Sender<Option<(i32, Timestamp)>>,
    stopping: watch::Sender<bool>,
}

/// All parts of a node.
pub(crate) struct Supervisor {
    parts: Vec<Arc<Part>>,
    notes: std::path::PathBuf,
}

impl Supervisor {
    /// Knows the parts; starts nothing.
    pub(crate) fn new(node: &Node) -> anyhow::Result<Self> {
        let part = |program: Program| {
            let grace = match program.name {
                "dea" => EVACUATION,
                name if OwnBroker::of(name).is_some() => ENGINE,
                _ => GRACE,
            };
            let (shown, stopping) = (watch::Sender::new(None), watch::Sender::new(false));
            Arc::new(Part { program, grace, state: Default::default(), shown, stopping })
        };
        Ok(Self { parts: node.programs()?.into_iter().map(part).collect(), notes: node.notes() })
    }

    /// True if the part runs, under this supervisor or left by an earlier one.
    pub(crate) fn runs(&self, name: &str) -> bool {
        let found = self.parts.iter().find(|part| part.program.name == name);
        found.is_some_and(|part| part.shown.borrow().is_some() || part.program.adopt(&self.notes).is_some())
    }

    /// Takes over or starts one part, and keeps it running from here on.
    pub(crate) fn keep(&self, name: &str) {
        for part in self.parts.iter().filter(|part| part.program.name == name) {
            let (part, notes) = (part.clone(), self.notes.clone());
            tokio::spawn(async move { part.keep(&notes).await });
        }
    }

    /// Takes over or starts, in order, every part after the first, which is the bus.
    pub(crate) fn keep_rest(&self) {
        for part in self.parts.iter().skip(1) {
            self.keep(part.program.name);
        }
    }

    /// Stops one part, also one that an earlier supervisor started.
    pub(crate) async fn stop(&self, name: &str) {
        for part in self.parts.iter().filter(|part| part.program.name == name) {
            part.stop(&self.notes).await;
        }
    }

    /// Sends a signal to a part, if it runs.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        let found = self.parts.iter().find(|part| part.program.name == name);
        let pid = found
            .and_then(|part| part.shown.borrow().map(|(pid, _)| pid).or_else(|| Some(part.program.adopt(&self.notes)?.note.pid)));
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// How every part is.
    pub(crate) fn status(&self) -> Vec<PartStatus> {
        let mut all = vec![];
        for part in &self.parts {
            let shown = *part.shown.borrow();
            let (restarts, problem) = {
                let state = part.state.lock();
                (state.restarts, state.problem.clone())
            };
            all.push(PartStatus {
                service: part.program.name.to_owned(),
                pid: shown.map(|(pid, _)| pid),
                since: shown.map(|(_, since)| since),
                restarts,
                memory_bytes: shown.and_then(|(pid, _)| pss_bytes(pid)),
                problem,
            });
        }
        all
    }

    /// Cuts log files that grew too large; for a timer.
    pub(crate) fn rotate_logs(&self) {
        for part in &self.parts {
            if let Err(error) = rotate(&part.program.log) {
                warn!(error = &error as &dyn std::error::Error, "cannot rotate {}", part.program.log.display());
            }
        }
    }
}

impl Part {
    async fn keep(&self, notes: &Path) {
        let mut pause = FIRST_PAUSE;
        let mut stopping = self.stopping.subscribe();
        loop {
            if *stopping.borrow() {
                return;
            }
            match self.start(notes) {
                Ok(started) => {
                    let mut running = started;
                    self.shown.send_replace(Some((running.note.pid, running.note.since)));
                    let how = tokio::select! {
                        how = running.ended() => how,
                        () = requested(&mut stopping) => {
                            running.stop(self.grace).await;
                            self.shown.send_replace(None);
                            return;
                        }
                    };
                    self.shown.send_replace(None);
                    warn!(service = self.program.name, "ended ({how}); starting it again");
                    if SystemClock.now().since(running.note.since) > WELL_AFTER {
                        pause = FIRST_PAUSE;
                    }
                    let mut state = self.state.lock();
                    state.restarts = running.note.restarts + 1;
                    state.problem = Some(how);
                }
                Err(error) => {
                    warn!(error = &*error, service = self.program.name, "cannot start it");
                    self.state.lock().problem = Some(format!("{error:#}"));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = requested(&mut stopping) => return,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn start(&self, notes: &Path) -> anyhow::Result<Running> {
        let mut state = self.state.lock();
        let running = match self.program.adopt(notes) {
            Some(running) => {
                info!(service = self.program.name, pid = running.note.pid, "taken back");
                state.restarts = running.note.restarts;
                running
            }
            None => self.program.start(notes, state.restarts, SystemClock.now())?,
        };
        state.problem = None;
        Ok(running)
    }

    async fn stop(&self, notes: &Path) {
        self.stopping.send_replace(true);
        let mut shown = self.shown.subscribe();
        let _ = tokio::time::timeout(self.grace + Duration::from_secs(5), shown.wait_for(Option::is_none)).await;
        // None of ours runs any more; one that an earlier supervisor started may.
        if let Some(mut running) = self.program.adopt(notes) {
            running.stop(self.grace).await;
        }
    }
}

async fn requested(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Copies and truncates, because the process holds the file open for appending and must not have to care.
fn rotate(log: &Path) -> std::io::Result<()> {
    match std::fs::metadata(log) {
        Ok(found) if found.len() > LOG_BYTES => {}
        _ => return Ok(()),
    }
    let old = |n: u32| log.with_extension(format!("log.{n}"));
    for n in (1..OLD_LOGS).rev() {
        let _ = std::fs::rename(old(n), old(n + 1));
    }
    std::fs::copy(log, old(1))?;
    std::fs::OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_log_is_cut_and_its_past_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("part.log");
        std::fs::write(&log, vec![b'x'; LOG_BYTES as usize + 1]).unwrap();
        rotate(&log).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
        assert_eq!(std::fs::metadata(folder.path().join("part.log.1")).unwrap().len(), LOG_BYTES + 1);
    }
}
