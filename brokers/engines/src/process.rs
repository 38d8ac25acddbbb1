//! The process of a server: started once per folder, found again by a later broker.
//!
//! Standard output and error of the server are its log file, opened for appending and locked (`flock`) before the start. The
//! lock belongs to the open file, which the server and its children inherit, so it is held exactly as long as any of them
//! lives, whatever happens to the broker: who cannot lock the file knows that there is a server. Which processes those are is
//! read from `/proc/<pid>/fd`. A note with the server's number is there too, but only to tell it from its children.

use crate::{Error, Program, Signal, error::file, files, log, program::read_text};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    fs::{FlockOperation, flock},
    io::Errno,
    process::{Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal},
};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};
use tokio::process::Child;
use tracing::warn;

/// How often a server that is not our child is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A server that runs, own child or found.
pub(crate) struct Running {
    pid: Pid,
    handle: OwnedFd,
    child: Option<Child>,
    /// Where its own lines begin in the log.
    pub(crate) log_from: u64,
    /// It was there before us.
    pub(crate) adopted: bool,
}

impl Running {
    fn new(pid: i32, child: Option<Child>, log_from: u64) -> io::Result<Self> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self { pid, handle, adopted: child.is_none(), child, log_from })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits for its end, and says how it ended if that can be known.
    pub(crate) async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
        }
        while self.lives() {
            tokio::time::sleep(LOOK).await;
        }
        "ended".to_owned()
    }

    /// Not its parent, so no signal comes when it ends: a pidfd becomes readable then.
    fn lives(&self) -> bool {
        let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut watched, Some(&Timespec::default())), Ok(0) | Err(Errno::INTR))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Asks it to end, and kills it and what is left of it after `grace`.
    pub(crate) async fn stop(&mut self, signal: Signal, grace: Duration, log: &Path) {
        self.signal(signal);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            warn!(pid = self.pid(), "the server did not stop within {} s; killing it", grace.as_secs());
            self.signal(Signal::KILL);
            self.ended().await;
        }
        kill_rest(log).await;
    }
}

/// Starts a server whose output is `log`. Its folder must be free: see [`found`].
pub(crate) fn start(program: &Program, log: &Path, note: &Path) -> Result<Running, Error> {
    let out = open_log(log)?;
    program.user().own(log)?;
    lock(&out).map_err(|e| file("lock", log)(e.into()))?;
    let mut text = program.fingerprint();
    files::write(note, text.as_bytes(), files::User(None))?;
    let from = out.metadata().map_or(0, |about| about.len());
    let mut command = program.command();
    let err = out.try_clone().map_err(file("open", log))?;
    command.stdout(out).stderr(err).process_group(0);
    let child = command.spawn().map_err(|e| Error::Run(program.path().to_owned(), e))?;
    let pid = i32::try_from(child.id().unwrap_or_default()).unwrap_or_default();
    text.push_str(&format!(" {pid}"));
    files::write(note, text.as_bytes(), files::User(None))?;
    Running::new(pid, Some(child), from).map_err(|e| Error::Run(program.path().to_owned(), e))
}

/// A process that another thread is just starting holds a copy of every open file until it becomes the other program, so that
/// a lock may look taken for a moment.
fn lock(log: &File) -> rustix::io::Result<()> {
    for _ in 0..20 {
        match flock(log, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(2)),
            locked => return locked,
        }
    }
    flock(log, FlockOperation::NonBlockingLockExclusive)
}

/// Runs a tool to its end with its output in `log`, locked as for a server, so that one that a killed broker left is found.
pub(crate) async fn run_once(program: &Program, log: &Path, note: &Path) -> Result<(), Error> {
    let mut running = start(program, log, note)?;
    let status = running.ended().await;
    match status.as_str() {
        "exit status: 0" => Ok(()),
        _ => Err(Error::Failed {
            program: program.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            status,
            said: log::tail(log, running.log_from),
        }),
    }
}

/// The server that an earlier broker left, if there is one and it was started in the same way.
pub(crate) fn found(program: &Program, log: &Path, note: &Path) -> Option<Running> {
    if is_free(log) {
        return None;
    }
    let text = read_text(note).ok()?;
    let mut words = text.split(' ');
    if words.next() != Some(&program.fingerprint()) {
        return None;
    }
    let holders = holders(log);
    let pid = match words.next() {
        // Where the server itself is gone, its children are nothing to adopt
        Some(known) => known.parse().ok().filter(|pid| holders.contains_key(pid))?,
        // The broker was killed between the start and this note
        None => *main_of(&holders)?,
    };
    let length = std::fs::metadata(log).map_or(0, |about| about.len());
    Running::new(pid, None, length).ok()
}

/// Stops a server that an earlier broker left, in order first.
pub(crate) async fn stop_left(log: &Path, signal: Signal, grace: Duration) {
    if let Some(pid) = main_of(&holders(log))
        && let Ok(mut left) = Running::new(*pid, None, 0)
    {
        left.stop(signal, grace, log).await;
    }
    kill_rest(log).await;
}

/// True if no process holds the log: there is no server.
pub(crate) fn is_free(log: &Path) -> bool {
    if !log.exists() {
        return true;
    }
    let Ok(open) = open_log(log) else { return true };
    flock(&open, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Waits a moment for children of a server that ended, then kills whoever holds the log, until nobody does.
async fn kill_rest(log: &Path) {
    for round in 0..250 {
        if is_free(log) {
            return;
        }
        if round >= 10 {
            for pid in holders(log).into_keys().filter_map(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn open_log(log: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(log).map_err(file("open", log))
}

/// Processes that have the log as standard error, each with its parent.
fn holders(log: &Path) -> BTreeMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let holds = |pid: &i32| *pid != own && std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|target| target == log);
    pids.filter(holds).filter_map(|pid| Some((pid, parent_of(pid)?))).collect()
}

fn main_of(holders: &BTreeMap<i32, i32>) -> Option<&i32> {
    holders.iter().find(|(_, parent)| !holders.contains_key(parent)).map(|(pid, _)| pid)
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn sleeper() -> Program {
        Program::new("/bin/sh", User(None)).args(["-c", "echo ready; sleep 1000 & sleep 1000"])
    }

    #[tokio::test]
    async fn a_server_is_found_by_its_log_and_only_if_it_is_configured_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (log, note) = (folder.path().join("server.log"), folder.path().join("note"));
        let mut first = start(&sleeper(), &log, &note).unwrap();
        assert!(!is_free(&log));
        assert!(start(&sleeper(), &log, &note).is_err(), "two servers on one folder");
        assert_eq!(found(&sleeper(), &log, &note).unwrap().pid(), first.pid());
        assert!(found(&sleeper().arg("other"), &log, &note).is_none());
        first.stop(Signal::TERM, Duration::from_secs(5), &log).await;
        assert!(is_free(&log), "its children are gone too");
        assert!(found(&sleeper(), &log, &note).is_none());
    }

    #[tokio::test]
    async fn what_survives_its_server_is_killed_before_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (log, note) = (folder.path().join("server.log"), folder.path().join("note"));
        let mut first = start(&sleeper(), &log, &note).unwrap();
        while holders(&log).len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first.signal(Signal::KILL);
        first.ended().await;
        assert!(!is_free(&log), "its child holds the log");
        stop_left(&log, Signal::TERM, Duration::from_millis(100)).await;
        assert!(is_free(&log));
    }
}
