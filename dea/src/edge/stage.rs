//! One staging from package to droplet.
//!
//! The container's main process runs `builder` and then sleeps, so that what it made can be read by further processes inside:
//! results leave the container as a stream that goes straight into the upload, and are never on this host's disk or in memory.
//! A DEA that restarts finds the container again and goes on waiting.

use crate::{
    domain::{
        core::Input,
        room::Share,
        staging::{self, Inputs, ResultFile},
        text,
    },
    edge::{
        World,
        backoff::Backoff,
        cache::{self, Lease},
        claims, containers,
        launch::{self, BlobError},
        unzip::{self, Bounds},
    },
};
use cloud_controller_client::{Error, StagingBuildpack, StagingResult, StagingSpec, Uploaded};
use loggregator_client::{LogType, app_tags, log_line};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{io::AsyncReadExt, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::{BuildId, Timestamp};
use warden_client::{ErrorKind, ProcessExit, Streams};

/// `builder` ends itself at the timeout; this much later the container is ended instead.
const MARGIN: Duration = Duration::from_secs(10);
/// The most that a result file may hold.
const RESULT_BYTES: u64 = 1 << 20;
/// How long an upload is tried.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(300);

/// Does one staging that this DEA has claimed, or goes on with it. Ends with [`Input::WorkEnded`].
pub async fn run(world: &World, build: BuildId, cancelled: CancellationToken, inputs: mpsc::Sender<Input>) {
    let spec = forever(|| world.outside.controller.staging_spec(build)).await;
    let result = match spec {
        Ok(spec) => {
            let share = Share { memory_mb: spec.memory_mb, disk_mb: spec.disk_mb };
            let _ = inputs.send(Input::WorkKnown(build, spec.app, share)).await;
            let mut job = Job { world, spec, leases: vec![] };
            tokio::select! {
                result = job.stage() => result,
                () = cancelled.cancelled() => None,
            }
        }
        Err(Error::NotFound(_)) => None,
        Err(cause) => {
            warn!(error = &cause as &dyn std::error::Error, build.id = %build, "no staging spec");
            Some(staging::error("the staging spec could not be fetched"))
        }
    };
    let handle = staging::handle(build);
    let told = async {
        if let Some(result) = &result {
            tell(world, build, result).await;
        }
        claims::finish_work(&world.bucket, build).await;
    };
    tokio::join!(told, containers::destroy(world, &handle));
    cache::remove(&world.works.join(build.to_string()));
    info!(build.id = %build, "staging is over");
    let _ = inputs.send(Input::WorkEnded(build)).await;
}

/// Whether the build is certainly not wanted any more.
pub async fn unwanted(world: &World, build: BuildId) -> bool {
    matches!(world.outside.controller.staging_spec(build).await, Err(Error::NotFound(_)))
}

async fn forever<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Result<T, Error> {
    let mut backoff = Backoff::peers();
    loop {
        match ask().await {
            Err(cause @ Error::Unavailable(..)) => {
                warn!(error = &cause as &dyn std::error::Error, "trying again");
                backoff.pause().await;
            }
            answer => return answer,
        }
    }
}

/// Hands the result over until it is accepted or certainly not wanted.
async fn tell(world: &World, build: BuildId, result: &StagingResult) {
    match forever(|| world.outside.controller.staging_completed(build, result)).await {
        Ok(()) | Err(Error::NotFound(_)) => {}
        Err(cause) => warn!(error = &cause as &dyn std::error::Error, build.id = %build, "the result of a staging is refused"),
    }
}

struct Job<'a> {
    world: &'a World,
    spec: StagingSpec,
    /// Buildpacks in use.
    leases: Vec<Lease>,
}

/// How far a staging got without a droplet: not wanted any more, or failed.
enum Stop {
    Unwanted,
    Failed(StagingResult),
}

impl From<StagingResult> for Stop {
    fn from(result: StagingResult) -> Self {
        Self::Failed(result)
    }
}

impl Job<'_> {
    /// `None`: nobody wants the result.
    async fn stage(&mut self) -> Option<StagingResult> {
        match self.try_stage().await {
            Ok(result) => Some(result),
            Err(Stop::Failed(result)) => {
                if let StagingResult::Failed { message, .. } = &result {
                    self.note(LogType::Err, message);
                }
                Some(result)
            }
            Err(Stop::Unwanted) => None,
        }
    }

    async fn try_stage(&mut self) -> Result<StagingResult, Stop> {
        let handle = staging::handle(self.spec.build);
        let begun = match self.world.outside.warden.info(&handle).await {
            Ok(info) => {
                let digests = self.spec.buildpacks.iter().filter_map(|buildpack| buildpack.sha256.as_ref());
                self.leases = digests.filter_map(|digest| self.world.buildpacks.find(&digest.to_lowercase())).collect();
                Timestamp(info.created_at)
            }
            Err(_) => self.begin().await?,
        };
        let allowed = Duration::from_secs(self.spec.timeout_s.max(1).into()) + MARGIN;
        let left = allowed.saturating_sub(self.world.now().since(begun));
        let ended = tokio::time::timeout(left, self.ended(&handle)).await;
        let exit = ended.map_err(|_| staging::expired(self.spec.timeout_s))?.map_err(staging::error)?;
        self.note(LogType::Out, &text::exit_line(exit.status, exit.out_of_memory, None));
        let written = self.result(&handle).await;
        if exit.status != 0 {
            return Err(staging::failure(exit.status, exit.out_of_memory, self.spec.memory_mb, written.as_ref()).into());
        }
        let written = written.ok_or_else(|| staging::error("the builder left no result"))?;
        let droplet = self.upload_results(&handle).await?;
        Ok(StagingResult::Staged { droplet_sha256: droplet.sha256, lifecycle: written.lifecycle })
    }

    /// Brings everything here and makes the container; when it was made.
    async fn begin(&mut self) -> Result<Timestamp, Stop> {
        let inputs = self.prepare().await?;
        let cell = self.world.settings.common.dea;
        let build = self.spec.build;
        self.note(LogType::Out, &format!("Cell {cell} creating container for instance {build}"));
        let container = staging::spec(&self.world.settings.common, &self.spec, &inputs);
        match containers::create(self.world, &container, &CancellationToken::new()).await {
            Ok((place, _)) => {
                self.note(LogType::Out, &format!("Cell {cell} successfully created container for instance {build}"));
                Ok(place.created_at)
            }
            Err(reason) => {
                self.note(LogType::Err, &format!("Cell {cell} failed to create container for instance {build}"));
                Err(staging::error(format!("failed to create the staging container: {reason}")).into())
            }
        }
    }

    async fn prepare(&mut self) -> Result<Inputs, Stop> {
        let folder = self.world.works.join(self.spec.build.to_string());
        cache::passable(&folder).map_err(|e| staging::error(format!("no room for the package: {e}")))?;
        let (package, cache, buildpacks) = tokio::join!(self.package(&folder), self.build_cache(&folder), self.buildpacks());
        let mut inputs = Inputs { package: package?, cache, buildpacks: BTreeMap::new() };
        for (key, lease) in buildpacks? {
            inputs.buildpacks.insert(key, lease.path.clone());
            self.leases.push(lease);
        }
        Ok(inputs)
    }

    async fn package(&self, folder: &Path) -> Result<PathBuf, Stop> {
        let to = folder.join("package.zip");
        self.note(LogType::Out, "Downloading app package...");
        let blob = format!("packages/{}", self.spec.package);
        launch::download(self.world, &blob, &self.spec.package_sha256.to_lowercase(), &to)
            .await
            .map_err(|cause| staging::error(format!("the app package is not here: {}", told(&cause))))?;
        readable(&to).map_err(|e| staging::error(e.to_string()))?;
        let size = fs::metadata(&to).map_or(0, |meta| meta.len());
        self.note(LogType::Out, &format!("Downloaded app package ({})", text::size(size)));
        Ok(to)
    }

    /// The cache of an earlier staging: without it all takes longer and nothing fails.
    async fn build_cache(&self, folder: &Path) -> Option<PathBuf> {
        let key = self.spec.cache.as_ref()?;
        let to = folder.join("cache.tgz");
        self.note(LogType::Out, "Downloading build artifacts cache...");
        match self.world.outside.controller.download(&format!("caches/{key}"), &to).await {
            Ok(()) => {
                readable(&to).ok()?;
                let size = fs::metadata(&to).map_or(0, |meta| meta.len());
                self.note(LogType::Out, &format!("Downloaded build artifacts cache ({})", text::size(size)));
                Some(to)
            }
            Err(Error::NotFound(_)) => None,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, build.id = %self.spec.build, "staging without its cache");
                None
            }
        }
    }

    async fn buildpacks(&self) -> Result<Vec<(String, Lease)>, Stop> {
        let mut leases = vec![];
        for buildpack in &self.spec.buildpacks {
            let (Some(id), Some(digest)) = (buildpack.buildpack, &buildpack.sha256) else { continue };
            let digest = digest.to_lowercase();
            if leases.iter().any(|(key, _)| *key == digest) {
                continue;
            }
            let lease = self.buildpack(buildpack, &format!("buildpacks/{id}"), &digest).await;
            let lease = lease.map_err(|why| staging::error(format!("the buildpack `{}` is not here: {why}", buildpack.name)))?;
            leases.push((digest, lease));
        }
        Ok(leases)
    }

    async fn buildpack(&self, buildpack: &StagingBuildpack, blob: &str, digest: &str) -> Result<Lease, String> {
        let make = |folder: PathBuf| async move {
            self.note(LogType::Out, &format!("Downloading {}...", buildpack.name));
            let zip = folder.with_extension("zip");
            let fetched = launch::download(self.world, blob, digest, &zip).await.map_err(|cause| told(&cause));
            let unpacked = match fetched {
                Ok(()) => {
                    let zip = zip.clone();
                    let unzip = move || unzip::unzip(&zip, &folder, Bounds::default()).map_err(|cause| told(&cause));
                    tokio::task::spawn_blocking(unzip).await.unwrap_or_else(|e| Err(e.to_string()))
                }
                Err(why) => Err(why),
            };
            let size = fs::metadata(&zip).map_or(0, |meta| meta.len());
            cache::remove(&zip);
            unpacked?;
            self.note(LogType::Out, &format!("Downloaded {} ({})", buildpack.name, text::size(size)));
            Ok(())
        };
        self.world.buildpacks.get(digest, make, |e: io::Error| e.to_string()).await
    }

    /// Waits until `builder` has ended.
    async fn ended(&self, handle: &str) -> Result<ProcessExit, String> {
        let mut backoff = Backoff::peers();
        let mut refused = 0;
        loop {
            match self.read(handle, staging::AWAIT, 16).await {
                Ok((exit, said)) => {
                    if let Some(status) = String::from_utf8(said).ok().and_then(|said| said.trim().parse().ok()) {
                        return Ok(ProcessExit { status, ..exit });
                    }
                    // Killed from inside, or the container ended under it: the container itself tells, or it is asked again.
                }
                Err(cause) if cause.kind() == Some(ErrorKind::NotFound) => {
                    refused += 1;
                    if refused > 5 {
                        return Err(format!("the staging container ended without a word: {cause}"));
                    }
                }
                Err(cause) => warn!(error = &cause as &dyn std::error::Error, handle, "asking again"),
            }
            if let Some(exit) = self.main_exit(handle).await? {
                return Ok(exit);
            }
            backoff.pause().await;
        }
    }

    async fn main_exit(&self, handle: &str) -> Result<Option<ProcessExit>, String> {
        match self.world.outside.warden.info(handle).await {
            Ok(info) => Ok(info.exit),
            Err(cause) if cause.kind() == Some(ErrorKind::NotFound) => Err("the staging container disappeared".into()),
            Err(_) => Ok(None),
        }
    }

    async fn result(&self, handle: &str) -> Option<ResultFile> {
        let line = staging::read("/tmp/output/result.json", RESULT_BYTES);
        // Something that was left running inside may play with the file.
        let read = tokio::time::timeout(Duration::from_secs(30), self.read(handle, &line, RESULT_BYTES));
        let (exit, bytes) = read.await.ok()?.ok()?;
        if exit.status != 0 {
            return None;
        }
        let parsed = serde_json::from_slice(&bytes);
        parsed.inspect_err(|e| warn!(error = e as &dyn std::error::Error, handle, "the builder's result cannot be read")).ok()
    }

    /// Runs a line inside; its exit and what it printed, at most `limit` bytes.
    async fn read(&self, handle: &str, line: &str, limit: u64) -> Result<(ProcessExit, Vec<u8>), warden_client::Error> {
        let no_pipe = |e| warden_client::Error::Unreachable("a pipe".into(), e);
        let (output, streams) = streams().map_err(no_pipe)?;
        let process = staging::process(line, &BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]));
        let mut printed = vec![];
        let read = async {
            let _ = output.take(limit).read_to_end(&mut printed).await;
        };
        let (exit, ()) = tokio::join!(self.world.outside.warden.exec(handle, &process, streams), read);
        Ok((exit?, printed))
    }

    async fn upload_results(&self, handle: &str) -> Result<Uploaded, Stop> {
        self.note(LogType::Out, "Uploading droplet, build artifacts cache...");
        self.note(LogType::Out, "Uploading droplet...");
        let droplet = self.upload(handle, "droplet", "/tmp/output/droplet.tgz").await?;
        self.note(LogType::Out, &format!("Uploaded droplet ({})", text::size(droplet.size_bytes)));
        let line = staging::read("/tmp/output/cache.tgz", 1);
        let there = tokio::time::timeout(Duration::from_secs(30), self.read(handle, &line, 1)).await;
        if matches!(&there, Ok(Ok((exit, _))) if exit.status == 0) {
            self.note(LogType::Out, "Uploading build artifacts cache...");
            match self.upload(handle, "cache", "/tmp/output/cache.tgz").await {
                Ok(cache) => {
                    self.note(LogType::Out, &format!("Uploaded build artifacts cache ({})", text::size(cache.size_bytes)))
                }
                Err(Stop::Unwanted) => return Err(Stop::Unwanted),
                Err(Stop::Failed(_)) => self
                    .note(LogType::Err, "The build artifacts cache could not be uploaded; the next staging starts without it."),
            }
        }
        self.note(LogType::Out, "Uploading complete");
        Ok(droplet)
    }

    /// Streams a file out of the container into an upload. Each try reads it anew; one counts only if all of it was read.
    async fn upload(&self, handle: &str, what: &str, file: &str) -> Result<Uploaded, Stop> {
        let deadline = Instant::now() + UPLOAD_PATIENCE;
        let mut backoff = Backoff::peers();
        loop {
            let failed = |why: &str| Stop::from(staging::error(format!("the {what} could not be uploaded: {why}")));
            let (output, streams) = streams().map_err(|e| failed(&e.to_string()))?;
            let line = staging::stream(file);
            let process = staging::process(&line, &BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]));
            let reading = self.world.outside.warden.exec(handle, &process, streams);
            let uploading = self.world.outside.controller.upload(self.spec.build, what, output);
            let (read, uploaded) = tokio::join!(reading, uploading);
            let why = match (read, uploaded) {
                (_, Err(Error::NotFound(_))) => return Err(Stop::Unwanted),
                (_, Err(Error::Refused { status, body, .. })) => return Err(failed(&format!("{status} {body}"))),
                (Ok(exit), _) if exit.status == staging::ABSENT => return Err(failed("the builder left none")),
                (Ok(exit), Ok(uploaded)) if exit.status == 0 => return Ok(uploaded),
                (_, Err(cause)) => told(&cause),
                (Err(cause), _) if cause.kind().is_some() => return Err(failed(&cause.to_string())),
                (Err(cause), _) => told(&cause),
                (Ok(exit), _) => format!("reading it ended with status {}", exit.status),
            };
            if Instant::now() >= deadline {
                return Err(failed(&why));
            }
            warn!(build.id = %self.spec.build, what, why, "an upload failed; trying again");
            backoff.pause().await;
        }
    }

    /// A line in the staging's log.
    fn note(&self, kind: LogType, line: &str) {
        let app = self.spec.app.to_string();
        let names = |pair: &(String, String)| (pair.0.clone(), pair.1.clone());
        let (space, organization) = (names(&self.spec.space), names(&self.spec.organization));
        let tags = app_tags((&app, &self.spec.app_name), (&space.0, &space.1), (&organization.0, &organization.1));
        self.world.emit(vec![log_line(&app, "0", "STG", tags, line.as_bytes(), kind, self.world.now().as_nanos())]);
    }
}

/// Standard streams of a process whose output is read here.
fn streams() -> io::Result<(tokio::fs::File, Streams)> {
    let (output, stdout) = io::pipe()?;
    let null = || fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let output = tokio::fs::File::from_std(fs::File::from(OwnedFd::from(output)));
    Ok((output, Streams { stdin: null()?, stdout: stdout.into(), stderr: null()? }))
}

/// Containers read it as somebody else.
fn readable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// An error with its causes, on one line.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

impl From<BlobError> for Stop {
    fn from(cause: BlobError) -> Self {
        Self::Failed(staging::error(told(&cause)))
    }
}
