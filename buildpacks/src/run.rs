//! Scripts with a deadline.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    io::{self, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Time between a friendly and an unfriendly end.
const GRACE: Duration = Duration::from_secs(3);
/// Longest pause between two looks at a running script.
const PAUSE: Duration = Duration::from_millis(20);
/// More output than this is thrown away.
const CAPTURE_LIMIT: u64 = 1 << 20;

/// The moment after which nothing runs any more.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much time from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(time).unwrap_or(now + Duration::from_secs(86_400)))
    }

    /// The time left; zero when there is none.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Why a script did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be started.
    #[error("cannot start {0}")]
    Start(String, #[source] io::Error),
    /// It said no.
    #[error("exit status {0}")]
    Exit(i32),
    /// Something ended it.
    #[error("ended by signal {0}")]
    Signal(String),
    /// It was ended because the time was over.
    #[error("out of time")]
    Timeout,
}

impl Error {
    /// With its cause in the same line.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Start(_, cause) => format!("{self}: {cause}"),
            other => other.to_string(),
        }
    }
}

/// Runs a command to its end with nothing on its input and our outputs as its outputs. It gets a process group of its own, and what it leaves
/// behind in that group is killed.
///
/// # Errors
/// [`Error`], when it did not end with status 0.
pub fn run(command: &mut Command, deadline: Deadline) -> Result<(), Error> {
    let mut child = start(command)?;
    let status = wait(&mut child, deadline);
    sweep(&child);
    judge(status?)
}

/// As [`run`], and gives back what it printed, at most 1 MiB of it.
///
/// # Errors
/// [`Error`], when it did not end with status 0.
pub fn capture(command: &mut Command, deadline: Deadline) -> Result<Vec<u8>, Error> {
    let mut child = start(command.stdout(Stdio::piped()))?;
    let (send, received) = mpsc::channel();
    if let Some(mut pipe) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = pipe.by_ref().take(CAPTURE_LIMIT).read_to_end(&mut text);
            // The reader may have given up; the rest is read so that the script does not block.
            let _ = send.send(text);
            if read.is_ok() {
                let _ = io::copy(&mut pipe, &mut io::sink());
            }
        });
    }
    let status = wait(&mut child, deadline);
    sweep(&child);
    judge(status?)?;
    // A process that left the group may hold the pipe for ever.
    Ok(received.recv_timeout(GRACE).unwrap_or_default())
}

fn start(command: &mut Command) -> Result<Child, Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).process_group(0).spawn().map_err(|e| Error::Start(name, e))
}

fn wait(child: &mut Child, deadline: Deadline) -> Result<ExitStatus, Error> {
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(e) => return Err(Error::Start("the script again".into(), e)),
        }
        let left = deadline.left();
        if left.is_zero() {
            end(child);
            return Err(Error::Timeout);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE);
    }
}

fn end(child: &mut Child) {
    signal(child, Signal::SIGTERM);
    let grace = Deadline::after(GRACE);
    while !grace.left().is_zero() {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        thread::sleep(PAUSE);
    }
    signal(child, Signal::SIGKILL);
    // It is killed, so this returns at once.
    let _ = child.wait();
}

fn sweep(child: &Child) {
    signal(child, Signal::SIGKILL);
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Fails when nobody is left in the group, which is what we want.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

fn judge(status: ExitStatus) -> Result<(), Error> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Error::Exit(code)),
        (None, Some(number)) => {
            Err(Error::Signal(Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.to_string())))
        }
        (None, None) => Err(Error::Signal("of unknown kind".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn outcome_says_how_it_ended() {
        assert!(run(&mut sh("exit 0"), soon()).is_ok());
        assert!(matches!(run(&mut sh("exit 7"), soon()), Err(Error::Exit(7))));
        assert!(matches!(run(&mut sh("kill -9 $$"), soon()), Err(Error::Signal(name)) if name == "SIGKILL"));
        assert!(matches!(run(&mut Command::new("/does/not/exist"), soon()), Err(Error::Start(..))));
    }

    #[test]
    fn input_is_empty_and_output_is_captured() {
        assert_eq!(capture(&mut sh("cat; echo hello"), soon()).unwrap(), b"hello\n");
    }

    #[test]
    fn more_output_than_anybody_wants_does_not_block() {
        assert_eq!(capture(&mut sh("head -c 3000000 /dev/zero"), soon()).unwrap().len() as u64, CAPTURE_LIMIT);
    }

    #[test]
    fn whole_group_ends_at_the_deadline() {
        let begun = Instant::now();
        let ended = run(&mut sh("trap '' TERM; sleep 600 & sleep 600"), Deadline::after(Duration::from_millis(200)));
        assert!(matches!(ended, Err(Error::Timeout)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn helper_left_behind_does_not_hold_the_output() {
        let begun = Instant::now();
        assert_eq!(capture(&mut sh("sleep 600 & echo done"), soon()).unwrap(), b"done\n");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
