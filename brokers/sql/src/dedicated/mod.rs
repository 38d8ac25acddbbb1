//! Servers of an instance's own, which the platform runs as workloads.
//!
//! What must not be drawn twice (the workload's id, port, password, certificate: a [`Note`]) is in the instance's private state
//! before the platform hears of it, so that every step can be repeated by whoever comes after a killed broker.

mod note;
mod platform;

pub use note::OwnEnvironment;
pub use platform::Workloads;

pub(crate) use note::{Identity, Note, connections};

use crate::{
    Address, Around, Cluster, Product, Remote,
    config::{Config, OwnServers},
};
use broker_sdk::{Failure, Operation};
use cloud_controller_client::{Error as PlatformError, ServicePort, Volume, WorkloadSpec, WorkloadState, WorkloadStatus};
use engines::{Error, files, names, settings::EngineSettings};
use foundation::{Secret, Shutdown};
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{info, warn};
use uuid::Uuid;

/// All servers of instances' own.
pub(crate) struct Dedicated {
    pub(crate) settings: OwnServers,
    engine: EngineSettings,
    product: Arc<dyn Product>,
    platform: Arc<dyn Workloads>,
    /// Authorities of servers, as files for tools.
    folder: PathBuf,
    session: String,
    rng: Mutex<StdRng>,
    shutdown: Shutdown,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Clone)]
struct Known {
    note: Note,
    link: Arc<tokio::sync::Mutex<Link>>,
}

/// The connection to a server; whoever has it alone may make it.
#[derive(Default)]
struct Link {
    cluster: Option<Arc<dyn Cluster>>,
    /// Once in the life of this broker: what a killed one left half made was cleared away.
    settled: bool,
}

/// How often the platform is asked.
const ASK: Duration = Duration::from_millis(500);
/// How long one look at a server may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long the set-up of a server that answers may take.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a server that ran before is waited for.
const BACK: Duration = Duration::from_secs(25);
/// From the first connection that the platform got to the first that the server served.
const FIRST: Duration = Duration::from_secs(30);
/// How long the end of a server and its volume is waited for.
const GONE: Duration = Duration::from_secs(300);
/// Disk besides the volume.
const SCRATCH_MB: u32 = 256;

impl Dedicated {
    pub(crate) fn new(
        settings: OwnServers,
        config: &Config,
        product: Arc<dyn Product>,
        platform: Arc<dyn Workloads>,
        session: String,
        rng: StdRng,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let folder = config.state.join("dedicated");
        files::folder(&folder, config.engine.user)?;
        let (engine, rng, known) = (config.engine.clone(), Mutex::new(rng), Mutex::default());
        Ok(Self { settings, engine, product, platform, folder, session, rng, shutdown, known })
    }

    /// Takes an instance's server into account.
    pub(crate) fn note(&self, instance: &str, note: &Note) {
        let mut known = self.known.lock();
        match known.get_mut(instance) {
            Some(present) => present.note = note.clone(),
            None => {
                known.insert(instance.to_owned(), Known { note: note.clone(), link: Arc::default() });
            }
        }
    }

    fn forget(&self, instance: &str) {
        let gone = self.known.lock().remove(instance);
        if let Some(Known { note, .. }) = gone {
            let _ = std::fs::remove_file(self.authority(&note));
        }
    }

    /// The instances whose data is in a server of their own.
    pub(crate) fn instances(&self) -> Vec<String> {
        let known = self.known.lock();
        known.iter().filter(|(_, known)| known.note.inhabited).map(|(instance, _)| instance.clone()).collect()
    }

    /// Draws what a new server needs, and keeps its port for it. To be saved before anything else happens.
    pub(crate) fn draw(&self, instance: &str, memory_mb: Option<u32>, disk_mb: Option<u32>) -> Result<Note, Failure> {
        let identity = Identity::new(&self.engine.host)?;
        let mut known = self.known.lock();
        let (first, last) = self.settings.workloads.ports;
        let taken = |port: &u16| known.values().any(|known| known.note.port == *port);
        let mut rng = self.rng.lock();
        // Not always the lowest: one that the platform has given away and this broker forgot would be in the way for ever
        let middle = rng.random_range(first..=last);
        let port = (middle..=last).chain(first..middle).find(|port| !taken(port)).ok_or_else(|| {
            Failure::unavailable("There is no port left for another server; the operator gives the broker more.")
        })?;
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        let note = Note {
            workload: uuid::Builder::from_random_bytes(bytes).into_uuid(),
            port,
            memory_mb: memory_mb.unwrap_or(self.settings.memory_mb),
            disk_mb: disk_mb.unwrap_or(self.settings.disk_mb),
            password: names::password(&mut *rng),
            identity,
            renewed: 0,
            inhabited: false,
        };
        known.insert(instance.to_owned(), Known { note: note.clone(), link: Arc::default() });
        Ok(note)
    }

    /// Gives back what [`Dedicated::draw`] took, where it could not be saved.
    pub(crate) fn give_back(&self, instance: &str) {
        self.forget(instance);
    }

    pub(crate) fn address(&self, note: &Note) -> Address {
        Address { host: self.engine.host.clone(), port: note.port, authority: note.identity.authority.clone() }
    }

    fn spec(&self, instance: &str, note: &Note) -> WorkloadSpec {
        let service = self.product.service();
        let plain = instance.len() <= 40 && instance.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let name = if plain { instance.to_owned() } else { names::derived('i', instance) };
        WorkloadSpec {
            name: format!("{service}-{name}"),
            stack: self.settings.workloads.stack.clone(),
            command: format!("{}{}", include_str!("volume.sh"), self.product.script()),
            env: note::environment(note),
            memory_mb: note.memory_mb,
            disk_mb: SCRATCH_MB,
            volume: Volume { id: note.workload.to_string(), size_mb: note.disk_mb, path: note::VOLUME.to_owned() },
            service_port: ServicePort { port: note.port, container_port: note.port },
            running: true,
        }
    }

    /// Has the server run as the note says, and returns once it serves.
    ///
    /// # Errors
    /// When it does not within the time; with the platform's reason, and the server left as it is.
    pub(crate) async fn start(&self, operation: &Operation, instance: &str, note: &Note) -> Result<Arc<dyn Cluster>, Failure> {
        self.note(instance, note);
        let spec = self.spec(instance, note);
        self.placed(operation, note.workload, &spec).await?;
        // Even if it serves already: as another version, or at another place
        self.known(instance)?.link.lock().await.cluster = None;
        operation.describe("the server starts").await?;
        self.connected(instance, FIRST).await
    }

    /// Returns once the platform says that the newest version runs.
    async fn placed(&self, operation: &Operation, workload: Uuid, spec: &WorkloadSpec) -> Result<(), Failure> {
        let deadline = Instant::now() + self.settings.give_up;
        let mut told = String::new();
        let mut asked = false;
        let mut reason = "the platform said nothing".to_owned();
        loop {
            let answer = match asked {
                false => self.platform.put(workload, spec).await.map(Some),
                true => self.platform.status(workload).await,
            };
            let text = match answer {
                Ok(Some(WorkloadStatus { state: WorkloadState::Running, .. })) => return Ok(()),
                Ok(Some(status)) => {
                    asked = true;
                    let text = progress(&status);
                    reason = status.reason.unwrap_or(reason);
                    text
                }
                Ok(None) => {
                    asked = false;
                    "waiting for a place".to_owned()
                }
                Err(PlatformError::Refused { status, body, .. }) if status != 409 => {
                    return Err(Failure::refused(format!("The platform does not run this server: {}", said(&body))));
                }
                Err(PlatformError::Refused { body, .. }) => {
                    reason = said(&body);
                    format!("waiting for the platform: {reason}")
                }
                Err(e) => {
                    warn!(error = &e as &dyn std::error::Error, "the cloud controller does not answer");
                    reason = "its cloud controller does not answer".to_owned();
                    "waiting for the platform, which does not answer".to_owned()
                }
            };
            if text != told {
                operation.describe(&text).await?;
                told = text;
            }
            if Instant::now() > deadline {
                let seconds = self.settings.give_up.as_secs();
                return Err(Failure::unavailable(format!("The server did not run within {seconds} s: {reason}")));
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// The server of an instance that is there: connected to, if it was not yet or not any more.
    pub(crate) async fn cluster(&self, instance: &str) -> Result<Arc<dyn Cluster>, Failure> {
        self.connected(instance, BACK).await
    }

    /// The same for whoever looks at all servers: one try.
    pub(crate) async fn look(&self, instance: &str) -> Result<Arc<dyn Cluster>, Failure> {
        self.connected(instance, Duration::ZERO).await
    }

    async fn connected(&self, instance: &str, time: Duration) -> Result<Arc<dyn Cluster>, Failure> {
        let known = self.known(instance)?;
        let mut link = known.link.lock().await;
        if let Some(cluster) = &link.cluster {
            if matches!(tokio::time::timeout(LOOK, cluster.instances()).await, Ok(Ok(_))) {
                return Ok(cluster.clone());
            }
            link.cluster = None;
        }
        let cluster = self.product.remote(self.remote(&known.note)?, self.around())?;
        let deadline = Instant::now() + time;
        let why = loop {
            let why = match tokio::time::timeout(LOOK, cluster.probe()).await {
                Ok(Ok(())) if link.settled => break None,
                Ok(Ok(())) => match tokio::time::timeout(SETTLE, cluster.settle()).await {
                    Ok(Ok(())) => break None,
                    Ok(Err(e)) => e,
                    Err(e) => Error::server(e),
                },
                Ok(Err(e)) => e,
                Err(e) => Error::server(e),
            };
            if Instant::now() > deadline {
                break Some(why);
            }
            tokio::time::sleep(ASK).await;
        };
        match why {
            None => {
                info!(instance.id = instance, port = known.note.port, "connected to the server of an instance");
                link.settled = true;
                link.cluster = Some(cluster.clone());
                Ok(cluster)
            }
            Some(why) => Err(self.unreachable(&known.note).await.caused_by(why)),
        }
    }

    async fn unreachable(&self, note: &Note) -> Failure {
        let reason = match self.platform.status(note.workload).await {
            Ok(Some(WorkloadStatus { reason: Some(reason), .. })) => format!(" {reason}"),
            Ok(None) => " The platform does not know it any more.".to_owned(),
            _ => String::new(),
        };
        Failure::unavailable(format!("The server of this instance does not run at the moment. Please try again.{reason}"))
    }

    /// True if the platform knows nothing of the server any more: then nobody can log in to it.
    pub(crate) async fn is_gone(&self, note: &Note) -> bool {
        matches!(self.platform.status(note.workload).await, Ok(None))
    }

    /// Has the platform remove the server and its volume; returns once nothing is left of them, and the port is free.
    pub(crate) async fn remove(&self, operation: &Operation, instance: &str, note: &Note) -> Result<(), Failure> {
        let deadline = Instant::now() + GONE;
        let mut told = false;
        loop {
            let left = match self.platform.delete(note.workload).await {
                Ok(false) => Ok(None),
                Ok(true) => self.platform.status(note.workload).await,
                Err(e) => Err(e),
            };
            let why = match left {
                Ok(None) => {
                    self.forget(instance);
                    return Ok(());
                }
                Ok(Some(status)) => status.reason.unwrap_or_else(|| "Its container or volume is still there.".into()),
                Err(PlatformError::Refused { body, .. }) => said(&body),
                Err(e) => {
                    warn!(error = &e as &dyn std::error::Error, "the cloud controller does not answer");
                    "The cloud controller does not answer.".to_owned()
                }
            };
            if !told {
                operation.describe("the server and its volume are being removed").await?;
                told = true;
            }
            if Instant::now() > deadline {
                return Err(Failure::unavailable(format!("The server is not removed yet. {why} Please try again.")));
            }
            tokio::time::sleep(ASK).await;
        }
    }

    fn known(&self, instance: &str) -> Result<Known, Failure> {
        let known = self.known.lock().get(instance).cloned();
        known.ok_or_else(|| Failure::internal("The server of this instance is gone."))
    }

    fn authority(&self, note: &Note) -> PathBuf {
        self.folder.join(format!("{}.pem", note.workload))
    }

    fn remote(&self, note: &Note) -> Result<Remote, Error> {
        let authority = self.authority(note);
        files::write(&authority, note.identity.authority.as_bytes(), self.engine.user)?;
        Ok(Remote {
            address: self.engine.address,
            host: self.engine.host.clone(),
            port: note.port,
            authority,
            password: Secret::new(note.password.clone()),
        })
    }

    fn around(&self) -> Around {
        let rng = StdRng::from_rng(&mut *self.rng.lock());
        Around { settings: self.engine.clone(), session: self.session.clone(), rng, shutdown: self.shutdown.clone() }
    }
}

/// How far a server is that does not run yet, for whoever waits for it.
fn progress(status: &WorkloadStatus) -> String {
    match (&status.state, &status.reason) {
        (WorkloadState::Starting, _) => "the server has a place and starts".to_owned(),
        (_, Some(reason)) if reason.starts_with("InsufficientResources") => format!("waiting for a place: {reason}"),
        (_, Some(reason)) => format!("the server does not run yet: {reason}"),
        (_, None) => "waiting for a place".to_owned(),
    }
}

/// The text of a refusal: the detail of the cloud controller's error, or the whole.
fn said(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let detail = parsed.as_ref().and_then(|body| body.pointer("/errors/0/detail").or(body.get("description")));
    detail.and_then(|detail| detail.as_str()).unwrap_or(body).to_owned()
}
