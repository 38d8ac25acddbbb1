//! Starting shims and talking with them.

use crate::error::{Error, Result};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            fs::OpenOptionsExt,
            net::{UnixListener, UnixStream as StdStream},
        },
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{net::UnixStream, process::Command};
use warden_client::{
    ErrorKind, frame,
    shim::{Launch, Launched, ShimRequest, ShimResponse},
};

/// How long a container may take from the order to its first process.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs that run beside and inside containers, each in one sealed copy in memory: what a container could ever write to is
/// not the file on disk, and all shims share the same pages.
pub(crate) struct Programs {
    shim: OwnedFd,
    keeper: OwnedFd,
    init: OwnedFd,
}

impl Programs {
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let load = |name: &str| {
            let path = folder.join(name);
            sealed_copy(&path)
                .map_err(|e| Error::at("copying the programs")(io::Error::other(format!("{}: {e}", path.display()))))
        };
        Ok(Self { shim: load("warden_shim")?, keeper: load("warden_keeper")?, init: load("warden_init")? })
    }

    fn shim_command(&self) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.shim.as_raw_fd()));
        command.env_clear().current_dir("/").stdout(Stdio::null());
        command
    }

    /// Starts a shim and waits until its container runs.
    pub(crate) async fn launch(&self, launch: &Launch, socket: &Path) -> Result<()> {
        let failed = || Error::at::<io::Error>("starting a shim");
        let listener = listen(socket).map_err(failed())?;
        let (ours, theirs) = StdStream::pair().map_err(failed())?;
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(launch.folder.join("shim.log"));
        let mut child = self
            .shim_command()
            .arg0("warden_shim")
            .stdin(OwnedFd::from(theirs))
            .stderr(log.map_err(failed())?)
            .spawn()
            .map_err(failed())?;
        // Whoever lives then, the process is taken from the table of children when it ends.
        tokio::spawn(async move { child.wait().await });
        ours.set_nonblocking(true).map_err(failed())?;
        let mut stream = UnixStream::from_std(ours).map_err(failed())?;
        let descriptors = [self.keeper.as_fd(), self.init.as_fd(), listener.as_fd()];
        let answer = async {
            frame::send(&mut stream, launch, &descriptors).await?;
            frame::receive::<Launched>(&mut stream).await
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Some((Launched::Running, _)))) => Ok(()),
            Ok(Ok(Some((Launched::Failed { kind, message }, _)))) => Err(Error::from_shim("making the container", kind, message)),
            Ok(Ok(None)) => Err(Error::Internal("making the container", died(&launch.folder).into())),
            Ok(Err(e)) => Err(Error::at("making the container")(e)),
            Err(_) => Err(Error::Internal("making the container", "no answer in time".into())),
        }
    }

    /// Runs the sandbox that unpacks a layer into `folder`.
    pub(crate) async fn unpack(&self, archive: File, folder: &Path, id: u32, bytes: u64, entries: u64) -> Result<()> {
        let done = self
            .shim_command()
            .arg0("warden_unpack")
            .arg("layer")
            .arg(folder)
            .args([id.to_string(), bytes.to_string(), entries.to_string()])
            .stdin(archive)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::at("starting the sandbox"))?;
        let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        match done.status.code() {
            Some(0) => Ok(()),
            Some(2) => Err(Error::Invalid(why)),
            _ => Err(Error::Internal("unpacking the layer", format!("{}: {why}", done.status).into())),
        }
    }
}

fn died(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("shim.log")).unwrap_or_default();
    format!("the shim died: {}", log.lines().last().unwrap_or("without a word"))
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(path)?;
    let memory = memfd_create("warden", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    io::copy(&mut source, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // A descriptor that cannot write: the kernel refuses to run a file that is open for writing.
    let read_only = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::CLOEXEC.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
    Ok(read_only.into())
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    crate::error::ignore_missing(fs::remove_file(socket))?;
    UnixListener::bind(socket)
}

/// A connection to one shim.
pub(crate) struct Shim {
    stream: UnixStream,
}

impl Shim {
    pub(crate) async fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket).await? })
    }

    /// The shim's process; `None` while it is still the daemon that listens.
    pub(crate) fn process(&self) -> Option<i32> {
        let pid = self.stream.peer_cred().ok()?.pid()?;
        (pid.unsigned_abs() != std::process::id()).then_some(pid)
    }

    pub(crate) async fn send(&mut self, request: &ShimRequest, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        frame::send(&mut self.stream, request, descriptors).await
    }

    /// The answer; `None` if the shim has died.
    pub(crate) async fn receive(&mut self) -> io::Result<Option<ShimResponse>> {
        Ok(frame::receive(&mut self.stream).await?.map(|(response, _)| response))
    }

    pub(crate) async fn ask(socket: &Path, request: &ShimRequest, descriptors: &[BorrowedFd<'_>]) -> Result<ShimResponse> {
        let gone = || Error::NotFound("a running container".into());
        let mut shim = Self::connect(socket).await.map_err(|_| gone())?;
        shim.send(request, descriptors).await.map_err(|_| gone())?;
        match shim.receive().await {
            Ok(Some(ShimResponse::Refused { kind, message })) => Err(Error::from_shim("the shim", kind, message)),
            Ok(Some(response)) => Ok(response),
            Ok(None) | Err(_) => Err(gone()),
        }
    }
}

/// Where a shim listens.
pub(crate) fn socket(run: &Path, slot: u32) -> PathBuf {
    run.join(format!("{slot}.sock"))
}

/// What a refusal of an unexpected kind becomes.
pub(crate) fn unexpected() -> Error {
    Error::from_shim("the shim", ErrorKind::Internal, "an answer that does not fit".into())
}
