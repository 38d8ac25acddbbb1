//! What a shim is once its container exists: small, single-threaded, and the parent of the container's first process.

mod calls;
mod record;

pub use record::write_exit;

use crate::{
    init::MAIN,
    logs::{Sender, Splitter},
    wire::{Channel, Order, Report, Spawn, Step},
};
use calls::{Call, Purpose};
use loggregator_client::LogType;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::{
    fs::{Gid, OFlags, Uid, fcntl_setfl, fstatvfs},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};
use warden_client::{
    ErrorKind, LogTarget, ProcessExit, ProcessSpec,
    shim::{Launched, ShimRequest, ShimResponse},
};

/// What the shim hands to the keeper, in a file in memory, because it replaces itself by running another program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The container's folder on the host.
    pub folder: PathBuf,
    /// The container's first process.
    pub init: i32,
    /// The first of its ids on the host.
    pub id_base: u32,
    /// The main process.
    pub process: ProcessSpec,
    /// Whose log its output is.
    pub log: Option<LogTarget>,
    /// The log limit.
    pub log_bytes_per_second: i64,
    /// The log agent's socket.
    pub log_socket: PathBuf,
    /// True if out-of-memory notices come from cgroup v2, whose kernel kills the whole group.
    pub unified: bool,
}

/// Descriptors that the keeper inherits, by number.
pub mod inherited {
    /// To the daemon, for the one [`super::Launched`].
    pub const DAEMON: i32 = 0;
    /// The [`super::Setup`] as JSON.
    pub const SETUP: i32 = 3;
    /// To the container's first process.
    pub const INIT: i32 = 4;
    /// Where [`super::ShimRequest`]s arrive.
    pub const LISTENER: i32 = 5;
    /// The folder of the private upper layer.
    pub const UPPER: i32 = 6;
    /// The file that counts out-of-memory kills.
    pub const OOM_COUNT: i32 = 7;
    /// An event descriptor that is ready once memory ran out (cgroup v1).
    pub const OOM_EVENT: i32 = 8;
    /// The host's mount namespace.
    pub const HOST_MOUNTS: i32 = 9;
}

/// The descriptors of [`inherited`], owned.
pub struct Inherited {
    /// To the daemon.
    pub daemon: OwnedFd,
    /// To init.
    pub init: OwnedFd,
    /// Where requests arrive.
    pub listener: OwnedFd,
    /// The upper layer.
    pub upper: OwnedFd,
    /// The file that counts out-of-memory kills.
    pub oom_count: OwnedFd,
    /// Ready once memory ran out.
    pub oom_event: OwnedFd,
    /// The host's mount namespace.
    pub host_mounts: OwnedFd,
}

/// Nanoseconds since the epoch.
pub fn now() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// Milliseconds since some moment, never going back.
fn ticks() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Starts the main process, tells the daemon, and keeps the container until it has ended.
///
/// # Errors
/// Where the keeper cannot go on; its end then ends the container.
pub fn run(setup: Setup, inherited: Inherited) -> io::Result<()> {
    let _ = rustix::thread::set_name(c"warden_keeper");
    let mut daemon = UnixStream::from(inherited.daemon);
    let launched =
        Keeper::start(setup, inherited.init, inherited.listener, inherited.upper, inherited.oom_count, inherited.oom_event);
    match launched {
        Ok(mut keeper) => {
            // A daemon that is gone meanwhile finds the container again by its socket.
            let _ = calls::write_frame(&mut daemon, &Launched::Running);
            drop(daemon);
            return_to_host(inherited.host_mounts)?;
            let exit = keeper.keep()?;
            keeper.end(exit)
        }
        Err(Refusal { kind, message }) => {
            let _ = calls::write_frame(&mut daemon, &Launched::Failed { kind, message });
            Ok(())
        }
    }
}

/// Leaves the mount namespace in which the container was made, and with it all that is mounted there; the container has its own copies.
/// The kernel waits for a grace period before it lets go, so this comes when nobody waits any more.
fn return_to_host(host_mounts: OwnedFd) -> io::Result<()> {
    nix::sched::setns(host_mounts, nix::sched::CloneFlags::CLONE_NEWNS)?;
    std::env::set_current_dir("/")
}

struct Refusal {
    kind: ErrorKind,
    message: String,
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            // Init's end of the socket is closed.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self { kind: ErrorKind::NotFound, message: "a running container".into() }
            }
            _ => Self { kind: ErrorKind::Internal, message: e.to_string() },
        }
    }
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Self {
        io::Error::from(e).into()
    }
}

struct Output {
    pipe: Option<File>,
    kind: LogType,
    splitter: Splitter,
}

struct Keeper {
    setup: Setup,
    init: OwnedFd,
    channel: Channel,
    listener: UnixListener,
    upper: OwnedFd,
    oom_count: File,
    oom_event: OwnedFd,
    oom_seen: bool,
    sender: Sender,
    outputs: [Output; 2],
    calls: Vec<Call>,
    next_id: u32,
    main_status: Option<i32>,
    kill_at: Option<u64>,
}

impl Keeper {
    fn start(
        setup: Setup,
        init: OwnedFd,
        listener: OwnedFd,
        upper: OwnedFd,
        oom_count: OwnedFd,
        oom_event: OwnedFd,
    ) -> Result<Self, Refusal> {
        let pid = Pid::from_raw(setup.init).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let patience = Some(std::time::Duration::from_secs(10));
        // A first process that somebody inside has stopped must not stop us.
        rustix::net::sockopt::set_socket_timeout(&init, rustix::net::sockopt::Timeout::Send, patience)?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let user = setup.id_base + user_id(&setup.process.user)?;
        let (out_pipe, out_end) = output_pipe(user)?;
        let (err_pipe, err_end) = output_pipe(user)?;
        let null = File::open("/dev/null")?;
        let mut channel = Channel::new(init);
        let spawn = spawn_order(MAIN, &setup.process)?;
        channel.send_order(&Order::Spawn(spawn), &[null.as_fd(), out_end.as_fd(), err_end.as_fd()])?;
        drop((out_end, err_end));
        await_start(&mut channel, &setup.process, &pidfd)?;
        let sender = Sender::new(setup.log.clone(), setup.log_socket.clone(), setup.log_bytes_per_second, now());
        let output = |pipe, kind| Output { pipe: Some(pipe), kind, splitter: Splitter::default() };
        Ok(Self {
            setup,
            init: pidfd,
            channel,
            listener,
            upper,
            oom_count: File::from(oom_count),
            oom_event,
            oom_seen: false,
            sender,
            outputs: [output(out_pipe, LogType::Out), output(err_pipe, LogType::Err)],
            calls: vec![],
            next_id: MAIN + 1,
            main_status: None,
            kill_at: None,
        })
    }

    /// Serves until the first process, and with it every process of the container, is dead.
    fn keep(&mut self) -> io::Result<ProcessExit> {
        loop {
            let ready = self.wait()?;
            self.read_outputs();
            if ready.channel && !self.channel.fill().unwrap_or(false) {
                self.kill();
            }
            while let Some(report) = self.channel.next_report() {
                self.note(report);
            }
            if ready.listener {
                self.accept();
            }
            self.serve();
            self.watch_memory(ready.oom);
            if self.kill_at.is_some_and(|at| at <= ticks()) {
                self.kill_at = None;
                self.kill();
            }
            self.sender.flush(now());
            if ready.init {
                return Ok(self.exit());
            }
        }
    }

    fn wait(&mut self) -> io::Result<Ready> {
        let mut polled = vec![
            PollFd::new(self.init.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        if !self.oom_seen {
            polled.push(PollFd::new(self.oom_event.as_fd(), PollFlags::POLLIN));
        }
        let outputs = self.outputs.iter().filter_map(|output| output.pipe.as_ref()).map(AsFd::as_fd);
        let calls = self.calls.iter().map(AsFd::as_fd);
        polled.extend(outputs.chain(calls).map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let timeout = match (self.oom_seen, self.kill_at) {
            (true, _) => PollTimeout::from(20u8),
            (false, None) => PollTimeout::NONE,
            (false, Some(at)) => {
                let left = at.saturating_sub(ticks()).min(60_000);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready { init: ready(0), channel: ready(1), listener: ready(2), oom: !self.oom_seen && ready(3) })
    }

    /// Reads a bounded piece of each pipe.
    fn read_outputs(&mut self) {
        let now = now();
        for output in &mut self.outputs {
            let Some(pipe) = &mut output.pipe else { continue };
            let mut chunk = [0; 64 << 10];
            match pipe.read(&mut chunk) {
                Ok(0) => output.pipe = None,
                Ok(got) => output.splitter.push(&chunk[..got], |line| self.sender.line(output.kind, line, now)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => output.pipe = None,
            }
        }
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Exited { id: MAIN, status } => {
                self.main_status.get_or_insert(status);
                self.kill();
            }
            Report::Exited { id, status } => {
                let exit = ProcessExit { status, out_of_memory: false, at: micros(), last_stderr: vec![] };
                self.answer_exec(id, &ShimResponse::Exited(exit));
            }
            Report::Failed { id, step, errno } => {
                let Some(call) = self.calls.iter().find(|call| call.purpose == Purpose::Exec(id)) else { return };
                let refusal = start_refusal(call.process.as_ref(), step, errno);
                self.answer_exec(id, &ShimResponse::Refused { kind: refusal.kind, message: refusal.message });
            }
            Report::Started { .. } => {}
        }
    }

    fn answer_exec(&mut self, id: u32, response: &ShimResponse) {
        self.calls.retain_mut(|call| {
            let ours = call.purpose == Purpose::Exec(id);
            if ours {
                call.answer(response);
            }
            !ours
        });
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                self.calls.push(Call::new(stream));
            }
        }
    }

    /// Takes in requests, and ends what belongs to callers that are gone.
    fn serve(&mut self) {
        let mut calls = std::mem::take(&mut self.calls);
        calls.retain_mut(|call| {
            if !call.fill() {
                if let Purpose::Exec(id) = call.purpose {
                    let kill = Order::Signal { id, signal: libc::SIGKILL, group: true };
                    let _ = self.channel.send_order(&kill, &[]);
                }
                return false;
            }
            match call.next_request() {
                None => true,
                Some(request) => self.obey(call, request),
            }
        });
        self.calls.append(&mut calls);
    }

    /// True if the call stays open.
    fn obey(&mut self, call: &mut Call, request: ShimRequest) -> bool {
        match request {
            ShimRequest::Watch => call.purpose = Purpose::End,
            ShimRequest::Stop { grace_ms } => {
                call.purpose = Purpose::End;
                self.stop(grace_ms);
            }
            ShimRequest::Usage => {
                call.answer(&self.usage());
                return false;
            }
            ShimRequest::Exec(process) => {
                if let Err(refusal) = self.exec(call, process) {
                    call.answer(&ShimResponse::Refused { kind: refusal.kind, message: refusal.message });
                    return false;
                }
            }
        }
        true
    }

    fn stop(&mut self, grace_ms: u64) {
        if grace_ms == 0 {
            return self.kill();
        }
        let deadline = ticks().saturating_add(grace_ms);
        self.kill_at = Some(self.kill_at.map_or(deadline, |at| at.min(deadline)));
        let term = Order::Signal { id: MAIN, signal: libc::SIGTERM, group: false };
        let _ = self.channel.send_order(&term, &[]);
    }

    fn exec(&mut self, call: &mut Call, process: ProcessSpec) -> Result<(), Refusal> {
        let descriptors = call.take_descriptors();
        let [stdin, stdout, stderr] = descriptors.as_slice() else {
            let message = format!("{} descriptors came with the process, not 3", descriptors.len());
            return Err(Refusal { kind: ErrorKind::Invalid, message });
        };
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(MAIN + 1);
        let order = Order::Spawn(spawn_order(id, &process)?);
        self.channel.send_order(&order, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        call.purpose = Purpose::Exec(id);
        call.process = Some(process);
        Ok(())
    }

    fn usage(&self) -> ShimResponse {
        let disk_bytes = match fstatvfs(&self.upper) {
            Ok(disk) => disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize),
            Err(_) => 0,
        };
        ShimResponse::Usage { disk_bytes, log_bytes: self.sender.passed_bytes() }
    }

    /// Under cgroup v1 the kernel kills one process when memory runs out; half a container is worse than none.
    fn watch_memory(&mut self, event: bool) {
        self.oom_seen |= event;
        if self.oom_seen && self.out_of_memory() {
            self.kill();
        }
    }

    fn out_of_memory(&mut self) -> bool {
        let mut text = String::new();
        if self.oom_count.rewind().is_err() || self.oom_count.read_to_string(&mut text).is_err() {
            return false;
        }
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }

    /// Kills the first process; the kernel kills all others of its namespace with it.
    fn kill(&self) {
        let _ = pidfd_send_signal(&self.init, Signal::KILL);
    }

    fn exit(&mut self) -> ProcessExit {
        if let Some(pid) = Pid::from_raw(self.setup.init) {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
        // What the dead have written is in the channel and in the pipes.
        for _ in 0..64 {
            if !self.channel.fill().unwrap_or(false) {
                break;
            }
        }
        while let Some(report) = self.channel.next_report() {
            if let Report::Exited { id: MAIN, status } = report {
                self.main_status.get_or_insert(status);
            }
        }
        for _ in 0..64 {
            if self.outputs.iter().all(|output| output.pipe.is_none()) {
                break;
            }
            self.read_outputs();
        }
        for output in &mut self.outputs {
            output.splitter.flush(|line| self.sender.line(output.kind, line, now()));
        }
        self.sender.flush(now());
        ProcessExit {
            status: self.main_status.unwrap_or(128 + libc::SIGKILL),
            out_of_memory: self.out_of_memory(),
            at: micros(),
            last_stderr: self.sender.last_stderr(),
        }
    }

    fn end(mut self, exit: ProcessExit) -> io::Result<()> {
        let written = write_exit(&self.setup.folder, &exit);
        self.accept(); // callers that connected while we were busy
        self.serve();
        let killed = ProcessExit { status: 128 + libc::SIGKILL, last_stderr: vec![], ..exit.clone() };
        for call in &mut self.calls {
            match call.purpose {
                Purpose::Exec(_) => call.answer(&ShimResponse::Exited(killed.clone())),
                Purpose::End | Purpose::Unknown => call.answer(&ShimResponse::Exited(exit.clone())),
            }
        }
        written
    }
}

struct Ready {
    init: bool,
    channel: bool,
    listener: bool,
    oom: bool,
}

fn micros() -> u64 {
    u64::try_from(now() / 1000).unwrap_or(0)
}

fn user_id(name: &str) -> Result<u32, Refusal> {
    match name {
        "vcap" => Ok(2000),
        "root" => Ok(0),
        other => Err(Refusal { kind: ErrorKind::Invalid, message: format!("user `{other}` is neither vcap nor root") }),
    }
}

fn spawn_order(id: u32, process: &ProcessSpec) -> Result<Spawn, Refusal> {
    Ok(Spawn {
        id,
        user: user_id(&process.user)?,
        cwd: process.cwd.to_string_lossy().into_owned(),
        argv: process.argv.clone(),
        env: process.env.clone(),
    })
}

/// A pipe whose writing end programs inside may open again by its name (`/dev/stdout`).
fn output_pipe(user: u32) -> Result<(File, OwnedFd), Refusal> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchown(&write_end, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    fcntl_setfl(&read_end, OFlags::NONBLOCK)?;
    Ok((File::from(read_end), write_end))
}

fn await_start(channel: &mut Channel, process: &ProcessSpec, init: &OwnedFd) -> Result<(), Refusal> {
    let gone = || Refusal { kind: ErrorKind::Internal, message: "the container's first process ended at once".into() };
    loop {
        match channel.next_report() {
            Some(Report::Started { id: MAIN }) => return Ok(()),
            Some(Report::Failed { id: MAIN, step, errno }) => return Err(start_refusal(Some(process), step, errno)),
            Some(_) => {}
            None => {
                wait_readable(channel.as_fd(), init.as_fd())?;
                if !channel.fill()? {
                    return Err(gone());
                }
            }
        }
    }
}

fn wait_readable(channel: BorrowedFd<'_>, init: BorrowedFd<'_>) -> Result<(), Refusal> {
    let mut polled = [PollFd::new(channel, PollFlags::POLLIN), PollFd::new(init, PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::from(10_000u16)) {
        Ok(0) => Err(Refusal { kind: ErrorKind::Internal, message: "the main process did not start in 10 s".into() }),
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(e) => Err(Refusal { kind: ErrorKind::Internal, message: e.to_string() }),
    }
}

fn start_refusal(process: Option<&ProcessSpec>, step: Step, errno: i32) -> Refusal {
    let cause = io::Error::from_raw_os_error(errno);
    let program = process.and_then(|process| process.argv.first()).map_or("", String::as_str);
    let (kind, message) = match step {
        Step::Fork => (ErrorKind::NoRoom, format!("no room for one more process in the container: {cause}")),
        Step::User => (ErrorKind::Internal, format!("cannot become the process's user: {cause}")),
        Step::Cwd => {
            let cwd = process.map(|process| process.cwd.display().to_string()).unwrap_or_default();
            (ErrorKind::Invalid, format!("cannot enter working directory {cwd}: {cause}"))
        }
        Step::Exec => (ErrorKind::Invalid, format!("cannot run {program}: {cause}")),
    };
    Refusal { kind, message }
}
