//! Process 1 inside a container.
#![expect(unsafe_code, reason = "fork, and what a child may do before it runs its program")]

use crate::wire::{Channel, Order, Report, Spawn, Step};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// The keeper's name for the main process.
pub const MAIN: u32 = 0;

/// Serves the keeper on standard input until it is gone; then process 1 ends, and the kernel ends all others.
///
/// # Errors
/// Those of the socket and of the signal descriptor.
pub fn run() -> io::Result<()> {
    // SAFETY: descriptor 0 is the keeper's socket by contract of this program, and nothing else here owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(0) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Descriptors that a child is not given must not reach it.
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    let mut mask = SigSet::empty();
    for which in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        mask.add(which);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    Init { keeper: Channel::new(socket), running: BTreeMap::new() }.serve(&signals)
}

struct Init {
    keeper: Channel,
    running: BTreeMap<i32, u32>,
}

impl Init {
    fn serve(&mut self, signals: &SignalFd) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            let mut waiting =
                [PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ordered = waiting[0].any().unwrap_or(false);
            while let Some(info) = signals.read_signal()? {
                self.pass_on(i32::try_from(info.ssi_signo).unwrap_or(0));
            }
            self.reap()?;
            if ordered && !self.keeper.fill()? {
                return Ok(());
            }
            while let Some((order, descriptors)) = self.keeper.next_order() {
                self.obey(order, &descriptors)?;
            }
        }
    }

    /// A signal to process 1 is meant for the main process.
    fn pass_on(&self, number: i32) {
        if number != Signal::SIGCHLD as i32 {
            self.signal(MAIN, number, false);
        }
    }

    fn signal(&self, id: u32, number: i32, group: bool) {
        let Ok(which) = Signal::try_from(number) else { return };
        for (&pid, _) in self.running.iter().filter(|&(_, &running)| running == id) {
            let _ = kill(Pid::from_raw(pid), which);
            if group {
                let _ = kill(Pid::from_raw(-pid), which);
            }
        }
    }

    /// Takes every dead child, those of others included: orphans become children of process 1.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) => (pid, status),
                Ok(WaitStatus::Signaled(pid, which, _)) => (pid, 128 + which as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            if let Some(id) = self.running.remove(&pid.as_raw()) {
                self.keeper.send_report(Report::Exited { id, status })?;
            }
        }
    }

    fn obey(&mut self, order: Order, descriptors: &[OwnedFd]) -> io::Result<()> {
        match order {
            Order::Signal { id, signal, group } => self.signal(id, signal, group),
            Order::Spawn(spawn) => {
                let id = spawn.id;
                let report = match start(&spawn, descriptors) {
                    Ok(pid) => {
                        self.running.insert(pid.as_raw(), id);
                        Report::Started { id }
                    }
                    Err((step, errno)) => Report::Failed { id, step, errno: errno as i32 },
                };
                self.keeper.send_report(report)?;
            }
        }
        Ok(())
    }
}

/// Everything that the child needs, made before the fork.
struct Prepared {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    user: u32,
}

fn prepare(spawn: &Spawn) -> Option<Prepared> {
    let texts =
        |texts: &[String]| -> Option<Vec<CString>> { texts.iter().map(|text| CString::new(text.as_bytes()).ok()).collect() };
    let program = spawn.argv.first()?;
    Some(Prepared {
        programs: candidates(program, &spawn.env),
        argv: texts(&spawn.argv)?,
        env: texts(&spawn.env)?,
        cwd: CString::new(spawn.cwd.as_bytes()).ok()?,
        user: spawn.user,
    })
}

/// Where a program may lie: its own path, or its name in each folder of the new process's `PATH`.
fn candidates(program: &str, env: &[String]) -> Vec<CString> {
    if program.contains('/') {
        return CString::new(program).into_iter().collect();
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="));
    let folders = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':').filter(|folder| folder.starts_with('/'));
    folders.filter_map(|folder| CString::new(format!("{folder}/{program}")).ok()).collect()
}

fn start(spawn: &Spawn, descriptors: &[OwnedFd]) -> Result<Pid, (Step, Errno)> {
    let prepared = prepare(spawn).ok_or((Step::Exec, Errno::EINVAL))?;
    let [stdin, stdout, stderr] = descriptors else { return Err((Step::Fork, Errno::EBADF)) };
    let (read_end, write_end) = io::pipe().map_err(|_| (Step::Fork, Errno::last()))?;
    // SAFETY: this process has one thread, and until it runs its program the child only makes system calls.
    match unsafe { fork() } {
        Err(e) => Err((Step::Fork, e)),
        Ok(ForkResult::Child) => {
            let (step, errno) = become_program(&prepared, [stdin, stdout, stderr]);
            let mut told = vec![step as u8];
            told.extend_from_slice(&(errno as i32).to_le_bytes());
            let _ = rustix::io::write(&write_end, &told);
            // SAFETY: ends the child at once, without the handlers of its parent.
            unsafe { libc::_exit(127) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop(write_end);
            let mut told = [0; 5];
            // Nothing to read: the pipe was closed by running the program.
            match io::Read::read(&mut &read_end, &mut told) {
                Ok(5) => {
                    let _ = waitpid(child, None);
                    let errno = i32::from_le_bytes([told[1], told[2], told[3], told[4]]);
                    Err((Step::from_number(told[0]), Errno::from_raw(errno)))
                }
                _ => Ok(child),
            }
        }
    }
}

/// Runs in the child; comes back only if it fails.
fn become_program(prepared: &Prepared, descriptors: [&OwnedFd; 3]) -> (Step, Errno) {
    match prepare_child(prepared.user, descriptors) {
        Ok(()) => {}
        Err(e) => return (Step::User, e),
    }
    if let Err(e) = nix::unistd::chdir(prepared.cwd.as_c_str()) {
        return (Step::Cwd, e);
    }
    let mut worst = Errno::ENOENT;
    for program in &prepared.programs {
        match nix::unistd::execve(program, &prepared.argv, &prepared.env) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => worst = e,
        }
    }
    (Step::Exec, worst)
}

fn prepare_child(user: u32, descriptors: [&OwnedFd; 3]) -> Result<(), Errno> {
    // The three lie above the first three here, because descriptors 0 to 2 are taken (the socket, and the null device twice).
    for (target, from) in (0..).zip(descriptors) {
        // SAFETY: both numbers are open descriptors of this process, and nothing uses the old 0 to 2 in the child.
        if unsafe { libc::dup2(from.as_raw_fd(), target) } < 0 {
            return Err(Errno::last());
        }
    }
    // SAFETY: only marks descriptors that the program must not get; the pipe stays usable until it runs.
    if unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } < 0 {
        return Err(Errno::last());
    }
    for which in Signal::iterator() {
        if !matches!(which, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: sets the default action only.
            let _ = unsafe { signal(which, SigHandler::SigDfl) };
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::unistd::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let gid = nix::unistd::Gid::from_raw(user);
    let uid = nix::unistd::Uid::from_raw(user);
    nix::unistd::setgroups(&[gid])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_up_in_the_new_process_s_own_path() {
        let found = |program: &str, env: &[&str]| -> Vec<String> {
            let env: Vec<String> = env.iter().map(ToString::to_string).collect();
            candidates(program, &env).iter().map(|path| path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(found("sh", &["PATH=/a:relative::/b"]), ["/a/sh", "/b/sh"]);
        assert_eq!(found("sh", &[]), ["/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh"]);
        assert_eq!(found("./sh", &["PATH=/a"]), ["./sh"]);
    }
}
