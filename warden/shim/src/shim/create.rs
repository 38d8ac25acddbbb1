//! Making one container.

use crate::{
    filter::{self, Filter},
    kernel, network, oci, rootfs,
};
use libcontainer::{
    container::builder::ContainerBuilder,
    notify_socket::{NOTIFY_FILE, NotifySocket},
    oci_spec::runtime::Spec,
    syscall::syscall::SyscallType,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    resource::{Resource, getrlimit, setrlimit},
};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
};
use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    process::ExitCode,
};
use warden_client::{
    ErrorKind, frame,
    shim::{Launch, Launched, Prepare},
};
use warden_shim::keeper::{Setup, inherited};

/// Why there is no container.
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    /// The caller asked for something that cannot be.
    pub(crate) fn invalid(message: String) -> Self {
        Self { kind: ErrorKind::Invalid, message }
    }
}

/// Names the step that failed.
pub(crate) fn at<E: Display>(step: &'static str) -> impl FnOnce(E) -> Failure {
    move |e| Failure { kind: ErrorKind::Internal, message: format!("{step}: {e}") }
}

/// Serves one launch on standard input. Comes back only if there is no container.
pub(crate) fn run() -> ExitCode {
    let input = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(input) => input,
        Err(e) => {
            eprintln!("no standard input: {e}");
            return ExitCode::FAILURE;
        }
    };
    let daemon = UnixStream::from(input);
    let failure = match create(&daemon) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    eprintln!("{}", failure.message);
    let _ = answer(&daemon, &Launched::Failed { kind: failure.kind, message: failure.message });
    ExitCode::FAILURE
}

fn answer(mut daemon: &UnixStream, answer: &Launched) -> io::Result<()> {
    daemon.write_all(&frame::encode(answer)?)
}

/// Until its container is known, a shim speaks to the daemon's own log.
fn write_errors_to(path: &Path) -> io::Result<()> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(nix::unistd::dup2_stderr(log)?)
}

struct Programs {
    keeper: OwnedFd,
    init: OwnedFd,
    listener: OwnedFd,
}

fn create(daemon: &UnixStream) -> Result<Infallible, Failure> {
    let Some((prepare, _)) = receive::<Prepare>(daemon).map_err(at("reading the order"))? else { std::process::exit(0) };
    let _ = rustix::process::setsid();
    let host_mounts = File::open("/proc/self/ns/mnt").map_err(at("opening the mount namespace"))?;
    rootfs::leave_host().map_err(at("leaving the host's mounts"))?;
    rootfs::prepare(&prepare)?;
    let filter = filter::build().map_err(at("making the filter of system calls"))?;
    answer(daemon, &Launched::Prepared).map_err(at("telling the daemon"))?;
    let Some((launch, descriptors)) = receive::<Launch>(daemon).map_err(at("reading the order"))? else {
        // Nobody needs it any more.
        let _ = fs::remove_file(&prepare.image);
        std::process::exit(0);
    };
    let programs = Programs::try_from(descriptors)?;
    write_errors_to(&launch.folder.join("shim.log")).map_err(at("opening the shim's log"))?;
    // Who connects learns the process that listened last: this one, not the daemon that made the socket.
    rustix::net::listen(&programs.listener, 128).map_err(at("listening"))?;
    allow_descriptors(launch.spec.limits.nofile).map_err(at("raising the descriptor limit"))?;
    let rootfs = rootfs::complete(&prepare, &launch)?;
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let description = serde_json::to_vec(&oci::describe(&launch, &rootfs, unified)).map_err(at("describing the container"))?;
    fs::write(rootfs.bundle.join("config.json"), description).map_err(at("describing the container"))?;

    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(at("making the socket to init"))?;
    let init = build(&launch, &rootfs, RunInit { program: programs.init.as_raw_fd(), filter }, theirs)?;
    let setup = Setup {
        folder: launch.folder.clone(),
        init,
        id_base: launch.id_base,
        process: launch.spec.process.clone(),
        log: launch.spec.log.clone(),
        log_bytes_per_second: launch.spec.limits.log_bytes_per_second,
        log_socket: launch.log_socket.clone(),
        unified,
    };
    let finish = || -> Result<Infallible, Failure> {
        network::connect(&launch, init).map_err(at("connecting the network"))?;
        let memory = watch_memory(&launch, unified).map_err(at("watching memory"))?;
        NotifySocket::new(rootfs.state.join(&launch.spec.handle).join(NOTIFY_FILE))
            .notify_container_start()
            .map_err(at("starting the first process"))?;
        become_keeper(&setup, &programs, &ours, &rootfs.upper, &memory, &host_mounts).map_err(at("becoming the keeper"))
    };
    finish().inspect_err(|_| {
        if let Some(pid) = Pid::from_raw(init) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    })
}

/// One message with its descriptors; `None` once the daemon has closed its end.
fn receive<T: serde::de::DeserializeOwned>(mut daemon: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut header = [0; 4];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(daemon, &mut [io::IoSliceMut::new(&mut header)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors = vec![];
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    if got == 0 {
        return Ok(None);
    }
    daemon.read_exact(&mut header[got..])?;
    let length = u32::from_be_bytes(header) as usize;
    if length > warden_client::MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    daemon.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

impl TryFrom<Vec<OwnedFd>> for Programs {
    type Error = Failure;

    fn try_from(descriptors: Vec<OwnedFd>) -> Result<Self, Failure> {
        match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok([keeper, init, listener]) => Ok(Self { keeper, init, listener }),
            Err(other) => Err(at("reading the order")(format!("{} descriptors came with it, not 3", other.len()))),
        }
    }
}

/// Inside the user namespace nobody may raise a limit any more.
fn allow_descriptors(wanted: u64) -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, soft, wanted)?;
    }
    Ok(())
}

fn build(launch: &Launch, rootfs: &rootfs::Rootfs, init: RunInit, socket: OwnedFd) -> Result<i32, Failure> {
    let null = || OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let container = ContainerBuilder::new(launch.spec.handle.clone(), SyscallType::Linux)
        .with_root_path(&rootfs.state)
        .map_err(at("preparing the container"))?
        .with_executor(init)
        .with_stdin(socket)
        .with_stdout(null().map_err(at("opening the null device"))?)
        .with_stderr(null().map_err(at("opening the null device"))?)
        .validate_id()
        .map_err(at("checking the handle"))?
        .as_init(&rootfs.bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()
        .map_err(|e| at("creating the container")(Chain(&e)))?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| at("creating the container")("it has no process"))
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(next) = cause {
            write!(f, ": {next}")?;
            cause = next.source();
        }
        Ok(())
    }
}

/// Runs init from its sealed copy, under the filter; no file of the container is asked for.
#[derive(Clone)]
struct RunInit {
    program: RawFd,
    filter: Filter,
}

impl Executor for RunInit {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        self.filter.load().map_err(|e| ExecutorError::Other(format!("loading the filter of system calls: {e}")))?;
        let e = kernel::run_program(self.program, &[c"warden_init"]);
        Err(ExecutorError::Other(format!("running init: {e}")))
    }
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        // From before it waits for its start: a shim that is killed leaves nothing behind.
        kernel::die_with_parent().map_err(|e| ExecutorValidationError::ArgValidationError(e.to_string()))
    }
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

struct Memory {
    count: File,
    event: EventFd,
}

fn watch_memory(launch: &Launch, unified: bool) -> io::Result<Memory> {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    if unified {
        let folder = Path::new("/sys/fs/cgroup").join(launch.cgroup.trim_start_matches('/'));
        return Ok(Memory { count: File::open(folder.join("memory.events"))?, event });
    }
    let folder = Path::new("/sys/fs/cgroup/memory").join(launch.cgroup.trim_start_matches('/'));
    let count = File::open(folder.join("memory.oom_control"))?;
    let order = format!("{} {}", event.as_fd().as_raw_fd(), count.as_raw_fd());
    fs::write(folder.join("cgroup.event_control"), order)?;
    Ok(Memory { count, event })
}

fn become_keeper(
    setup: &Setup,
    programs: &Programs,
    init: &OwnedFd,
    upper: &OwnedFd,
    memory: &Memory,
    host_mounts: &File,
) -> io::Result<Infallible> {
    // Last of all to be killed if the host runs out of memory; children made so far do not inherit it.
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
    let mut file = File::from(memfd_create("setup", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(setup)?)?;
    file.rewind()?;
    let descriptors = [
        file.as_fd(),
        init.as_fd(),
        programs.listener.as_fd(),
        upper.as_fd(),
        memory.count.as_fd(),
        memory.event.as_fd(),
        host_mounts.as_fd(),
    ];
    let program = kernel::number_descriptors(inherited::SETUP, &descriptors, programs.keeper.as_fd())?;
    Err(kernel::run_program(program, &[c"warden_keeper"]))
}
