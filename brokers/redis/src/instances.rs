//! The instances: records, servers, users, snapshots. Every operation may be repeated after a crash in its middle.

use crate::{
    acl::{self, User},
    admin::Admin,
    config::Config,
    files::{self, Common},
    plans::{InForce, InstanceParameters, PlanKind},
    record::{Folder, Record},
};
use async_trait::async_trait;
use engines::{Engine, Error, Input, Program, Server, Settings, backups, names};
use foundation::{Secret, Shutdown};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tracing::info;
use types::Clock;

/// What a new instance is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// As the platform named it.
    pub id: String,
    /// Its plan.
    pub plan: PlanKind,
    /// What the user asked for.
    pub parameters: InstanceParameters,
}

/// A user that was made.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its name.
    pub user: String,
    /// Its password, which is kept nowhere here.
    pub password: Secret,
    /// The server's port.
    pub port: u16,
}

/// Why there is no room for an instance.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    /// The memory for all instances is given away.
    #[error("{wanted_mb} MB are wanted, {left_mb} MB of the {all_mb} MB for all Redis instances are left")]
    Memory {
        /// What is asked for.
        wanted_mb: u32,
        /// What is left.
        left_mb: u32,
        /// What there is in all.
        all_mb: u32,
    },
    /// Every port is taken.
    #[error("all ports for Redis instances are taken")]
    Ports,
}

/// Why an operation on an instance did not happen. Not an error of the standard library's kind, because each of these means
/// something else to the platform, and must not become "our fault" on the way there.
#[derive(Debug)]
pub enum Fault {
    /// There is no such instance.
    Missing,
    /// There is no room.
    Full(Full),
    /// The data would not fit.
    TooSmall {
        /// How much there is.
        used_mb: u64,
        /// How much is asked for.
        wanted_mb: u32,
    },
    /// A snapshot cannot be used, and why.
    Snapshot(String),
    /// The server, its files or its tools.
    Engine(Error),
}

impl From<Full> for Fault {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The id of a backup that lives while an instance is copied; platforms choose none like it.
const CLONE: &str = "the data of a clone";

/// All instances of this broker.
pub struct Instances {
    config: Config,
    common: Common,
    store: backups::Store,
    version: String,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    /// Held while an instance is added, so that two do not get one port.
    adding: tokio::sync::Mutex<()>,
    all: Mutex<BTreeMap<String, Arc<Instance>>>,
}

/// One instance.
pub struct Instance {
    core: Arc<Core>,
    server: Server,
    /// Held while record and server change together.
    changing: tokio::sync::Mutex<()>,
}

/// What the supervisor of the server needs to know.
struct Core {
    folder: Folder,
    record: Mutex<Record>,
    admin: Admin,
    common: Common,
    plans: crate::plans::Plans,
    program: PathBuf,
}

impl Core {
    fn record(&self) -> Record {
        self.record.lock().clone()
    }
    fn in_force(&self) -> InForce {
        let record = self.record.lock();
        self.plans.in_force(record.plan, &record.chosen)
    }
    /// Keeps a changed record, then shows it to everybody. The lock is held over the files too, so that a start of the server
    /// does not write older ones over them.
    fn keep(&self, record: &Record) -> Result<(), Error> {
        let mut shown = self.record.lock();
        self.folder.write(record)?;
        files::write_users(&self.folder, record, self.common.user)?;
        *shown = record.clone();
        Ok(())
    }
}

#[async_trait]
impl Engine for Core {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn initialize(&self, _data: &Path) -> Result<Option<Program>, Error> {
        Ok(None)
    }

    async fn launch(&self, _data: &Path) -> Result<Program, Error> {
        let force = self.in_force();
        let record = self.record.lock();
        files::prepare(&self.folder, &record, &force, &self.common)?;
        // What can be changed while it runs is no reason to start it anew.
        let fixed = format!("{} {} {:?}", self.common.address, record.port, self.common.tls);
        drop(record);
        let program = Program::new(&self.program, self.common.user).arg(self.folder.configuration());
        Ok(program.folder(self.folder.path()).configured_by(fixed.as_bytes()))
    }

    async fn probe(&self) -> Result<(), Error> {
        self.admin.ping().await
    }

    async fn settle(&self) -> Result<(), Error> {
        let record = self.record();
        files::settle(&self.folder)?;
        self.admin.reconcile(&record, &self.in_force()).await
    }
}

impl Instances {
    /// Takes up all instances there are: their servers are adopted or started in the background.
    pub fn open(config: Config, version: String, clock: Arc<dyn Clock>, shutdown: &Shutdown) -> Result<Self, Error> {
        let raw = &config.raw;
        let common = Common { address: raw.address, tls: raw.tls.clone(), user: config.server_user };
        let folder = raw.server.state.join("instances");
        engines::files::folder(&raw.server.state, config.server_user)?;
        engines::files::folder(&folder, config.server_user)?;
        let largest = u64::from(raw.backup_mb) << 20;
        let store = backups::Store::open(raw.server.state.join("backups"), engines::User(None), largest)?;
        let instances = Self {
            config,
            common,
            store,
            version,
            clock,
            shutdown: shutdown.clone(),
            adding: Default::default(),
            all: Default::default(),
        };
        for folder in Folder::all(&folder)? {
            match folder.read()? {
                Some(record) => drop(instances.take_up(folder, record)?),
                // It was being made or removed when the broker ended.
                None => folder.remove()?,
            }
        }
        Ok(instances)
    }

    fn folder(&self, id: &str) -> Folder {
        Folder::of(&self.config.raw.server.state.join("instances"), id)
    }

    fn take_up(&self, folder: Folder, record: Record) -> Result<Arc<Instance>, Error> {
        let id = record.id.clone();
        let settings = Settings::new(folder.path(), self.common.user);
        let core = Arc::new(Core {
            admin: Admin::new(&folder.socket(), record.admin_password.expose()),
            folder,
            record: Mutex::new(record),
            common: self.common.clone(),
            plans: self.config.raw.plans,
            program: self.config.raw.program.clone(),
        });
        let server = Server::open(settings, core.clone(), &self.shutdown)?;
        let instance = Arc::new(Instance { core, server, changing: Default::default() });
        self.all.lock().insert(id, instance.clone());
        Ok(instance)
    }

    fn get(&self, id: &str) -> Result<Arc<Instance>, Fault> {
        self.all.lock().get(id).cloned().ok_or(Fault::Missing)
    }

    /// The record of an instance.
    pub fn record(&self, id: &str) -> Option<Record> {
        Some(self.get(id).ok()?.core.record())
    }

    /// The backups.
    pub fn store(&self) -> &backups::Store {
        &self.store
    }

    /// Makes an instance, empty or with the data of a snapshot, and returns once its server serves.
    pub async fn create(&self, wanted: &Wanted, snapshot: Option<&Path>) -> Result<(), Fault> {
        let present = self.all.lock().get(&wanted.id).cloned();
        let instance = match present {
            Some(present) => present,
            None => self.add(wanted, snapshot).await?,
        };
        Ok(instance.server.ensure().await?)
    }

    async fn add(&self, wanted: &Wanted, snapshot: Option<&Path>) -> Result<Arc<Instance>, Fault> {
        if let Some(snapshot) = snapshot {
            self.check(snapshot).await?;
        }
        let _adding = self.adding.lock().await;
        let force = self.config.raw.plans.in_force(wanted.plan, &wanted.parameters);
        self.has_room(force.memory_mb, None)?;
        let record = Record {
            id: wanted.id.clone(),
            plan: wanted.plan,
            port: self.free_port()?,
            chosen: wanted.parameters.clone(),
            admin_password: Secret::new(names::password(&mut foundation::rng())),
            users: Default::default(),
        };
        let folder = self.folder(&wanted.id);
        folder.make(self.common.user)?;
        if let Some(snapshot) = snapshot {
            let (folder, record, snapshot, user) = (folder.clone(), record.clone(), snapshot.to_owned(), self.common.user);
            blocking(move || files::install(&folder, &record, &snapshot, user)).await?;
        }
        // From here on there is an instance.
        folder.write(&record)?;
        Ok(self.take_up(folder, record)?)
    }

    fn has_room(&self, wanted_mb: u32, except: Option<&str>) -> Result<(), Full> {
        let all = self.all.lock();
        let others = all.iter().filter(|(id, _)| Some(id.as_str()) != except);
        let given: u64 = others.map(|(_, instance)| u64::from(instance.core.in_force().memory_mb)).sum();
        let all_mb = self.config.raw.memory_mb;
        let left_mb = u32::try_from(u64::from(all_mb).saturating_sub(given)).unwrap_or(0);
        if wanted_mb > left_mb { Err(Full::Memory { wanted_mb, left_mb, all_mb }) } else { Ok(()) }
    }

    fn free_port(&self) -> Result<u16, Full> {
        let taken: Vec<u16> = self.all.lock().values().map(|instance| instance.core.record.lock().port).collect();
        let (first, last) = self.config.raw.ports;
        let free = |port: &u16| !taken.contains(port) && TcpListener::bind((self.common.address, *port)).is_ok();
        (first..=last).find(free).ok_or(Full::Ports)
    }

    /// Changes plan and parameters of an instance while it runs.
    pub async fn update(&self, id: &str, plan: Option<PlanKind>, parameters: &InstanceParameters) -> Result<(), Fault> {
        let instance = self.get(id)?;
        let _changing = instance.changing.lock().await;
        let mut record = instance.core.record();
        record.plan = plan.unwrap_or(record.plan);
        record.chosen = parameters.over(&record.chosen);
        let force = self.config.raw.plans.in_force(record.plan, &record.chosen);
        self.has_room(force.memory_mb, Some(id))?;
        instance.server.ensure().await?;
        let used_mb = instance.core.admin.used_bytes().await? >> 20;
        if used_mb >= u64::from(force.memory_mb) && force.eviction == "noeviction" {
            return Err(Fault::TooSmall { used_mb, wanted_mb: force.memory_mb });
        }
        instance.core.keep(&record)?;
        instance.core.admin.limit(&force).await?;
        // A file that is begun now holds everything only once it is written.
        Ok(instance.core.admin.no_child().await?)
    }

    /// Removes an instance with all its data; returns false if there was none.
    pub async fn remove(&self, id: &str) -> Result<bool, Fault> {
        let Ok(instance) = self.get(id) else { return Ok(false) };
        let _changing = instance.changing.lock().await;
        instance.server.release().await?;
        instance.server.forget();
        instance.core.folder.remove()?;
        self.store.remove_all(id)?;
        self.all.lock().remove(id);
        info!("removed an instance and its data");
        Ok(true)
    }

    /// Makes the user of a binding, or gives it a new password.
    pub async fn bind(&self, id: &str, binding: &str, read_only: bool) -> Result<Bound, Fault> {
        let instance = self.get(id)?;
        let _changing = instance.changing.lock().await;
        let password = Secret::new(names::password(&mut foundation::rng()));
        let user = User { name: names::derived('u', binding), password_hash: acl::hash(password.expose()), read_only };
        let mut record = instance.core.record();
        record.users.insert(binding.to_owned(), user.clone());
        instance.server.ensure().await?;
        instance.core.keep(&record)?;
        instance.core.admin.admit(&user).await?;
        Ok(Bound { user: user.name, password, port: record.port })
    }

    /// Removes the user of a binding and closes its connections.
    pub async fn unbind(&self, id: &str, binding: &str) -> Result<(), Fault> {
        let Ok(instance) = self.get(id) else { return Ok(()) };
        let _changing = instance.changing.lock().await;
        let mut record = instance.core.record();
        record.users.remove(binding);
        instance.core.keep(&record)?;
        instance.server.ensure().await?;
        Ok(instance.core.admin.forget(&names::derived('u', binding)).await?)
    }

    /// Makes a backup; one that is there is left as it is.
    pub async fn back_up(&self, id: &str, backup: &str) -> Result<backups::Note, Fault> {
        if let Some(made) = self.store.find(id, backup)? {
            return Ok(made);
        }
        self.keep_snapshot(id, id, backup).await
    }

    /// Keeps the data of `source` as a backup of `id`.
    async fn keep_snapshot(&self, source: &str, id: &str, backup: &str) -> Result<backups::Note, Fault> {
        let instance = self.get(source)?;
        let _changing = instance.changing.lock().await;
        instance.server.ensure().await?;
        instance.core.admin.snapshot().await?;
        let (store, snapshot) = (self.store.clone(), instance.core.folder.snapshot());
        let (id, backup, made_by, now) = (id.to_owned(), backup.to_owned(), format!("redis {}", self.version), self.clock.now());
        let note = blocking(move || {
            let mut writer = store.create(&id, &backup)?;
            let mut source = std::fs::File::open(&snapshot).map_err(|e| Error::File("open", snapshot.clone(), e))?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                match source.read(&mut buffer).map_err(|e| Error::File("read", snapshot.clone(), e))? {
                    0 => break,
                    length => writer.write(&buffer[..length])?,
                }
            }
            files::remove_file(&snapshot)?;
            writer.finish(&made_by, now)
        });
        Ok(note.await?)
    }

    /// Replaces the data of an instance by a backup. Users stay.
    pub async fn restore(&self, id: &str, backup: &str) -> Result<(), Fault> {
        let instance = self.get(id)?;
        let snapshot = self.verified(id, backup).await?;
        self.check(&snapshot).await?;
        let _changing = instance.changing.lock().await;
        instance.server.release().await?;
        let (folder, record, user) = (instance.core.folder.clone(), instance.core.record(), self.common.user);
        blocking(move || files::install(&folder, &record, &snapshot, user)).await?;
        Ok(instance.server.ensure().await?)
    }

    /// Makes an instance with the data of another one: of a backup, or of now.
    pub async fn clone_from(&self, wanted: &Wanted, source: &str, backup: Option<&str>) -> Result<(), Fault> {
        if let Some(backup) = backup {
            let snapshot = self.verified(source, backup).await?;
            return self.create(wanted, Some(&snapshot)).await;
        }
        if self.all.lock().contains_key(&wanted.id) {
            return self.create(wanted, None).await;
        }
        // Kept like a backup of the new instance, which ends when that is made.
        self.keep_snapshot(source, &wanted.id, CLONE).await?;
        let snapshot = self.verified(&wanted.id, CLONE).await?;
        self.create(wanted, Some(&snapshot)).await?;
        self.store.remove(&wanted.id, CLONE)?;
        Ok(())
    }

    /// A backup whose checksum is right.
    async fn verified(&self, id: &str, backup: &str) -> Result<PathBuf, Fault> {
        let (store, id, backup) = (self.store.clone(), id.to_owned(), backup.to_owned());
        match blocking(move || store.verified(&id, &backup)).await {
            Ok((_, path)) => Ok(path),
            Err(e @ Error::Backup(..)) => Err(Fault::Snapshot(e.to_string())),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether a server could load it.
    async fn check(&self, snapshot: &Path) -> Result<(), Fault> {
        let program = Program::new(&self.config.raw.check, engines::User(None)).arg(snapshot);
        match program.output_within(Duration::from_secs(600), Input::Empty).await {
            Ok(_) => Ok(()),
            Err(e @ Error::Failed { .. }) => Err(Fault::Snapshot(e.to_string())),
            Err(e) => Err(e.into()),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::server)?
}
