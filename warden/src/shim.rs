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
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::UnixStream, process::Command, task::JoinHandle};
use warden_client::{
    ErrorKind, frame,
    shim::{Launch, Launched, Prepare, ShimRequest, ShimResponse},
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

    /// Starts a shim that prepares what does not depend on a container.
    async fn start(&self, prepare: Prepare) -> Result<Spare> {
        let failed = || Error::at::<io::Error>("starting a shim");
        let (ours, theirs) = StdStream::pair().map_err(failed())?;
        let mut child = self.shim_command().arg0("warden_shim").stdin(OwnedFd::from(theirs)).spawn().map_err(failed())?;
        // Whoever lives then, the process is taken from the table of children when it ends.
        let end = tokio::spawn(async move { drop(child.wait().await) });
        ours.set_nonblocking(true).map_err(failed())?;
        let mut stream = UnixStream::from_std(ours).map_err(failed())?;
        frame::send(&mut stream, &prepare, &[]).await.map_err(failed())?;
        Ok(Spare { stream, prepare, end })
    }

    /// Turns a shim into the keeper of a container that runs.
    async fn launch(&self, spare: Spare, launch: &Launch, socket: &Path) -> Result<()> {
        let failed = || Error::at::<io::Error>("starting a shim");
        let listener = listen(socket).map_err(failed())?;
        let (mut stream, image) = (spare.stream, spare.prepare.image);
        let descriptors = [self.keeper.as_fd(), self.init.as_fd(), listener.as_fd()];
        let answer = async {
            frame::send(&mut stream, launch, &descriptors).await?;
            loop {
                match frame::receive::<Launched>(&mut stream).await? {
                    Some((Launched::Prepared, _)) => {}
                    answer => return io::Result::Ok(answer),
                }
            }
        };
        let failure = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(Some((Launched::Running, _)))) => return Ok(()),
            Ok(Ok(Some((Launched::Failed { kind, message }, _)))) => Error::from_shim("making the container", kind, message),
            Ok(Ok(_)) => Error::Internal("making the container", died(&launch.folder).into()),
            Ok(Err(e)) => Error::at("making the container")(e),
            Err(_) => Error::Internal("making the container", "no answer in time".into()),
        };
        let _ = fs::remove_file(image); // unless it is the container's, which is cleared with it
        Err(failure)
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

/// A shim without a container.
pub(crate) struct Spare {
    stream: UnixStream,
    prepare: Prepare,
    end: JoinHandle<()>,
}

impl Spare {
    /// Waits until it is prepared.
    async fn ready(&mut self) -> Result<()> {
        let failed = Error::at::<io::Error>("preparing a shim");
        match tokio::time::timeout(PATIENCE, frame::receive::<Launched>(&mut self.stream)).await {
            Ok(Ok(Some((Launched::Prepared, _)))) => Ok(()),
            Ok(Ok(Some((Launched::Failed { message, .. }, _)))) => Err(failed(io::Error::other(message))),
            Ok(Ok(_)) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(e)) => Err(failed(e)),
            Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Lets it go, and waits until nothing of it is left.
    async fn end(self) {
        drop(self.stream);
        let _ = self.end.await;
        let _ = fs::remove_file(&self.prepare.image); // where it was killed
    }
}

/// How many sizes of private disks have a shim ready.
const SPARES: usize = 2;

/// Shims that are ready before they are needed: starting a program, leaving the host's mounts and making a disk take as long as the rest of
/// a container. Each becomes the shim of one container, or of none.
pub(crate) struct Spares {
    folder: PathBuf,
    scratch: PathBuf,
    state: Mutex<SparesState>,
}

#[derive(Default)]
struct SparesState {
    /// The one used last is the last.
    ready: Vec<Spare>,
    /// Templates for which one is being made.
    coming: Vec<PathBuf>,
    made: u64,
    closed: bool,
}

impl Spares {
    /// None yet; those that a killed daemon had are removed.
    pub(crate) fn open(state: &Path, scratch: PathBuf) -> io::Result<Self> {
        let folder = state.join("spares");
        crate::error::ignore_missing(fs::remove_dir_all(&folder))?;
        crate::record::private_folder(&folder)?;
        Ok(Self { folder, scratch, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, SparesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&self, template: &Path) -> Prepare {
        let mut state = self.state();
        state.made += 1;
        let image = self.folder.join(format!("{}.img", state.made));
        Prepare { scratch: self.scratch.clone(), template: template.to_owned(), image }
    }

    /// Makes a container with the shim that is ready for such a disk, or with a new one.
    pub(crate) async fn launch(&self, programs: &Programs, template: &Path, launch: &Launch, socket: &Path) -> Result<()> {
        let ready = {
            let mut state = self.state();
            let at = state.ready.iter().position(|spare| spare.prepare.template == template);
            at.map(|at| state.ready.remove(at))
        };
        if let Some(spare) = ready {
            match programs.launch(spare, launch, socket).await {
                // It died while it waited: taking the disk over is the first thing that it does for a container.
                Err(Error::Internal(..)) if !launch.folder.join("disk.img").exists() => {}
                done => return done,
            }
        }
        let shim = programs.start(self.prepare(template)).await?;
        programs.launch(shim, launch, socket).await
    }

    /// Makes one ready for the next container with such a disk, and lets go of what was not used for longest.
    pub(crate) async fn refill(&self, programs: &Programs, template: &Path) -> Result<()> {
        {
            let mut state = self.state();
            let there = state.ready.iter().any(|spare| spare.prepare.template == template);
            if there || state.closed || state.coming.iter().any(|coming| coming == template) {
                return Ok(());
            }
            state.coming.push(template.to_owned());
        }
        let made = async {
            let mut spare = programs.start(self.prepare(template)).await?;
            match spare.ready().await {
                Ok(()) => Ok(spare),
                Err(e) => {
                    spare.end().await;
                    Err(e)
                }
            }
        };
        let made = made.await;
        let surplus = {
            let mut state = self.state();
            state.coming.retain(|coming| coming != template);
            let spare = made?;
            state.ready.push(spare);
            let surplus = if state.closed { state.ready.len() } else { state.ready.len().saturating_sub(SPARES) };
            state.ready.drain(..surplus).collect::<Vec<_>>()
        };
        for spare in surplus {
            spare.end().await;
        }
        Ok(())
    }

    /// Lets go of all.
    pub(crate) async fn end(&self) {
        let all = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.ready)
        };
        for spare in all {
            spare.end().await;
        }
    }

    /// True while a disk of a shim without a container may still be there.
    pub(crate) fn images(&self) -> &Path {
        &self.folder
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
