//! One supervised process: started with few rights, found again after the supervisor itself was replaced.

use crate::files::{self, Owner};
use anyhow::Context;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::sync::watch;
use types::Timestamp;

/// What to start, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) argv: Vec<String>,
    /// `None`: root with all its rights (Warden alone).
    pub(crate) user: Option<User>,
    pub(crate) log: PathBuf,
}

/// An unprivileged user by number; no account is needed.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    /// The group that all parts share: sockets for everybody belong to it.
    pub(crate) shared_group: u32,
    /// May listen on ports below 1,024.
    pub(crate) low_ports: bool,
}

/// The note that lets a later supervisor find the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: with the pid it names one process for ever.
    pub(crate) start_ticks: u64,
    pub(crate) since: Timestamp,
    pub(crate) restarts: u32,
}

/// A process that runs.
pub(crate) struct Running {
    pub(crate) note: Note,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<String>>,
}

impl Program {
    /// Starts it; its output is appended to its log file directly, so that it never depends on the supervisor.
    pub(crate) fn start(&self, notes: &Path, restarts: u32, now: Timestamp) -> anyhow::Result<Running> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        let argv = self.full_argv();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").process_group(0);
        // The allocator makes one arena a thread otherwise, most of them nearly empty.
        command.env("MALLOC_ARENA_MAX", "2");
        if let Ok(filter) = std::env::var("CUPOLA_LOG") {
            command.env("CUPOLA_LOG", filter);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let pid = child.id() as i32;
        let note = match start_ticks(pid) {
            Some(start_ticks) => Note { pid, start_ticks, since: now, restarts },
            None => {
                let status = child.wait()?;
                anyhow::bail!("{} ended at once: {status}", self.name);
            }
        };
        files::write(&note_path(notes, self.name), &serde_json::to_vec(&note)?, Owner::root(0o600))?;
        Ok(Running { ended: watched(pidfd(pid)?, Some(child)), note })
    }

    /// The process that an earlier supervisor started, if it still runs.
    pub(crate) fn adopt(&self, notes: &Path) -> Option<Running> {
        let note = read_note(notes, self.name)?;
        let descriptor = pidfd(note.pid).ok()?;
        // Looked at after the pidfd was taken, so that the pid cannot change hands in between.
        let same = start_ticks(note.pid)? == note.start_ticks;
        same.then(|| Running { note, ended: watched(descriptor, None) })
    }

    fn full_argv(&self) -> Vec<String> {
        let Some(user) = &self.user else { return self.argv.clone() };
        let capabilities = if user.low_ports { "-all,+net_bind_service" } else { "-all" };
        let mut argv: Vec<String> = vec![
            "setpriv".into(),
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.uid),
            format!("--groups={}", user.shared_group),
            format!("--inh-caps={capabilities}"),
            format!("--ambient-caps={capabilities}"),
            format!("--bounding-set={capabilities}"),
            "--no-new-privs".into(),
            "--".into(),
        ];
        argv.extend(self.argv.iter().cloned());
        argv
    }
}

impl Running {
    /// Waits for its end; the exit status is known only for own children.
    pub(crate) async fn ended(&mut self) -> String {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|how| how.clone()).unwrap_or_else(|| "ended".to_owned())
    }

    /// TERM, then KILL after `grace`; returns when it is gone.
    pub(crate) async fn stop(&mut self, grace: Duration) {
        let pid = Pid::from_raw(self.note.pid);
        let _ = kill(pid, Signal::SIGTERM);
        if tokio::time::timeout(grace, self.ended()).await.is_err() {
            let _ = kill(pid, Signal::SIGKILL);
            self.ended().await;
        }
    }
}

/// Processes of a user that is nobody else's; root and zombies are never among them.
pub(crate) fn of_user(uid: u32) -> Vec<Pid> {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir("/proc") else { return vec![] };
    let is_theirs = |entry: &std::fs::DirEntry| uid != 0 && entry.metadata().is_ok_and(|about| about.uid() == uid);
    let pids = entries.flatten().filter(is_theirs).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()).map(Pid::from_raw).collect()
}

/// True if the part runs, whoever started it.
pub(crate) fn runs(notes: &Path, name: &str) -> bool {
    read_note(notes, name).is_some_and(|note| start_ticks(note.pid) == Some(note.start_ticks))
}

fn read_note(notes: &Path, name: &str) -> Option<Note> {
    serde_json::from_slice(&std::fs::read(note_path(notes, name)).ok()?).ok()
}

fn note_path(notes: &Path, name: &str) -> PathBuf {
    notes.join(format!("{name}.json"))
}

fn pidfd(pid: i32) -> anyhow::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).context("not a pid")?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// A small thread that waits for the end of a process, its own child or not.
fn watched(process: OwnedFd, child: Option<Child>) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    let wait = move || {
        let mut watched = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        while let Err(Errno::EINTR) = poll(&mut watched, PollTimeout::NONE) {}
        let how = child.and_then(|mut child| child.wait().ok()).map(|status| status.to_string());
        sender.send_replace(Some(how.unwrap_or_else(|| "ended".to_owned())));
    };
    let _ = std::thread::Builder::new().name("wait".to_owned()).stack_size(64 << 10).spawn(wait);
    receiver
}

/// When the process was started; `None` when it is gone or a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name stands in parentheses and may hold anything, so fields are counted from the last one.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19)?.parse().ok())?
}

/// Proportional share of memory of a process, in bytes.
pub(crate) fn pss_bytes(pid: i32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Program {
        let argv = ["sleep", "1000"].map(String::from).to_vec();
        Program { name: "sleeper", argv, user: None, log: folder.join("sleeper.log") }
    }

    #[tokio::test]
    async fn a_process_is_found_again_by_a_later_supervisor() {
        let folder = tempfile::tempdir().unwrap();
        let program = sleeper(folder.path());
        let mut running = program.start(folder.path(), 0, Timestamp(1)).unwrap();
        let adopted = program.adopt(folder.path()).unwrap();
        assert_eq!(adopted.note.pid, running.note.pid);
        running.stop(Duration::from_secs(5)).await;
        assert!(program.adopt(folder.path()).is_none(), "a process that ended is not adopted");
    }

    #[tokio::test]
    async fn a_pid_that_changed_hands_is_not_adopted() {
        let folder = tempfile::tempdir().unwrap();
        let program = sleeper(folder.path());
        let mut running = program.start(folder.path(), 0, Timestamp(1)).unwrap();
        let other = Note { start_ticks: running.note.start_ticks + 1, ..running.note.clone() };
        std::fs::write(note_path(folder.path(), "sleeper"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert!(program.adopt(folder.path()).is_none());
        running.stop(Duration::from_secs(5)).await;
    }
}
