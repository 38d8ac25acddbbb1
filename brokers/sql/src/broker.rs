//! The broker's operations, each of which can be repeated after it was cut off.

use crate::{
    Address, Cluster, Config, Database, Product,
    dedicated::{Dedicated, Note},
    home::{Home, connections, number},
};
use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, Failure, Instance, Kind, Mode, Operation, Provision, Provisioned, Removed,
    StoredBackup, Task, Update, Updated, async_trait,
    osb::{Catalog, Parameters, PrivateObject},
};
use engines::{Error, Server, backups::Store, names};
use foundation::Shutdown;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{Notify, RwLock};
use tracing::{info, warn};
use types::Clock;

/// The broker.
#[derive(Clone)]
pub struct SqlBroker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) product: Arc<dyn Product>,
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) version: String,
    /// The shared server.
    pub(crate) server: Server,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) address: Address,
    /// The others, if the platform runs any.
    pub(crate) dedicated: Option<Dedicated>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Mutex<StdRng>,
    pub(crate) folder: PathBuf,
    pub(crate) shutdown: Shutdown,
    /// Held for reading by whoever needs the shared server, for writing by who stops it for want of use.
    pub(crate) use_of_server: RwLock<()>,
    /// Told when a spare database was taken.
    pub(crate) taken: Notify,
    /// Told when there is a database to drop.
    pub(crate) retired: Notify,
}

/// How long a server may take to say what is about to be removed.
const LAST_LOOK: Duration = Duration::from_secs(5);

pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::TooLarge { limit_bytes } => {
            Failure::internal(format!("The backup would be larger than {} MB.", limit_bytes >> 20)).caused_by(error)
        }
        Error::DiskFull { .. } => Failure::unavailable("There is not enough room for backups at the moment.").caused_by(error),
        Error::Backup(_, what) => Failure::refused(format!("The backup is {what}.")).caused_by(error),
        other => other.into(),
    }
}

impl SqlBroker {
    pub(crate) fn failed(&self, error: Error) -> Failure {
        let title = self.0.product.title();
        match error {
            Error::NotReady(..) => Failure::unavailable(format!(
                "The {title} server does not run at the moment; it is being started. Please try again."
            ))
            .caused_by(error),
            other => failure(other),
        }
    }

    /// Fills a new database with the data of another instance, or of its backup.
    async fn copy(&self, request: &Provision, home: &Home<'_>, database: &Database) -> Result<(), Failure> {
        let Some(source) = &request.clone_from else { return Ok(()) };
        let dump = match &source.backup {
            Some(backup) => self.verified(&backup.instance_id, &backup.id).await?,
            None => {
                let from = self.home(&source.instance).await?;
                let original = from.database(&source.instance.id).await?;
                self.passing(&from, &original, &request.instance_id).await?
            }
        };
        home.cluster.fill(database, dump).await.map_err(failure)
    }

    /// A dump that is kept nowhere.
    pub(crate) async fn passing(&self, from: &Home<'_>, database: &Database, instance: &str) -> Result<File, Failure> {
        let store = &self.0.store;
        let id = format!("clone for {instance}");
        let writer = store.create(instance, &id).map_err(failure)?;
        from.cluster.dump(database, writer, self.0.clock.now()).await.map_err(failure)?;
        let file = self.verified(instance, &id).await?;
        // Open, it can still be read
        store.remove(instance, &id).map_err(failure)?;
        Ok(file)
    }

    async fn verified(&self, instance: &str, id: &str) -> Result<File, Failure> {
        let (store, instance, id) = (self.0.store.clone(), instance.to_owned(), id.to_owned());
        let verified = tokio::task::spawn_blocking(move || store.verified(&instance, &id)).await?;
        verified.map(|(file, _)| file).map_err(failure)
    }

    /// The collation of a new instance: that of the instance it copies, unless the user chose one.
    async fn collation_of_source(&self, request: &Provision) -> Result<Option<String>, Failure> {
        match &request.clone_from {
            Some(source) if source.backup.is_none() && !request.parameters.contains_key("collation") => {
                let home = self.home(&source.instance).await?;
                Ok(Some(home.database(&source.instance.id).await?.collation))
            }
            _ => Ok(None),
        }
    }

    async fn provision_shared(&self, request: &Provision) -> Result<Provisioned, Failure> {
        let mut allowance = self.allowance(&request.plan.name, &request.parameters)?;
        if let Some(collation) = self.collation_of_source(request).await? {
            allowance.collation = collation;
        }
        let home = self.shared_home().await?;
        let database = home.cluster.provide(&request.instance_id, &allowance).await.map_err(failure)?;
        self.0.taken.notify_one();
        if let Err(failure) = self.copy(request, &home, &database).await {
            // The SDK forgets what was refused, so nothing may stay
            if failure.is_refusal() {
                self.give_up_database(&home, &request.instance_id).await;
            }
            return Err(failure);
        }
        home.cluster.extend(&database, &request.parameters).await.map_err(failure)?;
        info!(instance.id = request.instance_id, "made the database {}", database.name);
        Ok(Provisioned::default())
    }

    /// Removes a database that was made on the shared server for nothing.
    pub(crate) async fn give_up_database(&self, home: &Home<'_>, instance: &str) {
        if let Err(e) = home.cluster.remove(instance).await {
            warn!(error = &e as &dyn std::error::Error, instance.id = instance, "cannot remove a database");
        }
        self.0.retired.notify_one();
    }

    async fn provision_own(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        let instance = request.instance_id.as_str();
        let note = match Note::of(&request.state)? {
            Some(note) => note,
            None => self.draw(operation, instance, &request.parameters).await?,
        };
        match self.fill_own(operation, request, &note).await {
            Ok(()) => {
                let note = Note { inhabited: true, ..note };
                self.dedicated()?.note(instance, &note);
                info!(instance.id = instance, port = note.port, "made a server");
                Ok(Provisioned { state: note.state()?, ..Provisioned::default() })
            }
            Err(failure) => Err(self.abandon(operation, instance, &note, failure).await),
        }
    }

    async fn fill_own(&self, operation: &Operation, request: &Provision, note: &Note) -> Result<(), Failure> {
        let mut allowance = self.own_allowance(note, &request.parameters);
        if let Some(collation) = self.collation_of_source(request).await? {
            allowance.collation = collation;
        }
        let cluster = self.dedicated()?.start(operation, &request.instance_id, note).await?;
        let home = self.own_home(note, cluster)?;
        operation.describe("the database is made").await?;
        let database = home.cluster.provide(&request.instance_id, &allowance).await.map_err(failure)?;
        self.copy(request, &home, &database).await?;
        home.cluster.extend(&database, &request.parameters).await.map_err(failure)
    }

    /// Draws what a new server needs and saves it.
    pub(crate) async fn draw(&self, operation: &Operation, instance: &str, parameters: &Parameters) -> Result<Note, Failure> {
        let dedicated = self.dedicated()?;
        let note = dedicated.draw(instance, number(parameters, "memory_mb"), number(parameters, "disk_mb"))?;
        if let Err(failure) = operation.save(&note.state()?).await {
            dedicated.give_back(instance);
            return Err(failure);
        }
        Ok(note)
    }

    /// Removes a server that came to nothing, and says why it did. What cannot be removed stays noted, so that it is removed
    /// with the instance.
    pub(crate) async fn abandon(&self, operation: &Operation, instance: &str, note: &Note, why: Failure) -> Failure {
        let removed = async {
            self.dedicated()?.remove(operation, instance, note).await?;
            operation.save(&PrivateObject::new()).await
        };
        match removed.await {
            Ok(()) => why,
            Err(e) => {
                warn!(instance.id = instance, "a server that came to nothing is not removed: {e}");
                Failure::internal(why.description().to_owned()).caused_by(e.description())
            }
        }
    }

    async fn update_shared(&self, instance: &Instance, change: &Update, plan: &str) -> Result<(), Failure> {
        let parameters = merged(instance, change);
        let allowance = self.allowance(plan, &parameters)?;
        let home = self.shared_home().await?;
        let database = home.database(&instance.id).await?;
        if let Some(wanted) = &change.parameters {
            home.cluster.extend(&database, wanted).await.map_err(failure)?;
        }
        home.cluster.set_limits(&instance.id, &allowance).await.map_err(failure)?;
        home.cluster.enforce(Some(&instance.id)).await.map_err(failure)?;
        if change.maintenance_version.is_some() && home.cluster.version().await.map_err(failure)? != self.0.version {
            info!("restarting the server: its package was updated");
            self.0.server.restart().await.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    async fn update_own(
        &self,
        operation: &Operation,
        instance: &Instance,
        change: &Update,
        note: Note,
    ) -> Result<Updated, Failure> {
        let dedicated = self.dedicated()?;
        let parameters = merged(instance, change);
        let wanted = change.parameters.clone().unwrap_or_default();
        if number(&wanted, "disk_mb").is_some_and(|asked| asked != note.disk_mb) {
            return Err(Failure::refused(format!(
                "The disk of a dedicated server never changes its size: it has {} MB. Make a new instance with a clone of the data.",
                note.disk_mb
            )));
        }
        let memory_mb = number(&wanted, "memory_mb").unwrap_or(note.memory_mb);
        let renew = change.maintenance_version.is_some();
        let next = Note { memory_mb, renewed: note.renewed + u32::from(renew), ..note.clone() };
        let applied = async {
            if next != note {
                operation.describe("the server restarts").await?;
                dedicated.start(operation, &instance.id, &next).await?;
            }
            let home = self.own_home(&next, dedicated.cluster(&instance.id).await?)?;
            let database = home.database(&instance.id).await?;
            home.cluster.extend(&database, &wanted).await.map_err(failure)?;
            home.cluster.set_limits(&instance.id, &self.own_allowance(&next, &parameters)).await.map_err(failure)?;
            home.cluster.enforce(Some(&instance.id)).await.map_err(failure)
        };
        if let Err(failure) = applied.await {
            // As it was
            if next != note
                && let Err(e) = dedicated.start(operation, &instance.id, &note).await
            {
                warn!(instance.id = instance.id, "the server does not run as it did before: {e}");
            }
            return Err(failure);
        }
        Ok(Updated { state: Some(next.state()?), ..Updated::default() })
    }

    async fn deprovision_shared(&self, instance: &str, backups: usize) -> Result<Option<String>, Failure> {
        // Where there never was a server, none is started
        if !self.0.server.data().exists() {
            return Ok(None);
        }
        let home = self.shared_home().await?;
        let Some(removal) = home.cluster.remove(instance).await.map_err(failure)? else { return Ok(None) };
        self.0.retired.notify_one();
        let (megabytes, name, logins) = (removal.bytes >> 20, &removal.name, removal.logins);
        Ok(Some(format!("Removed the database {name} ({megabytes} MB), {logins} logins and {backups} backups.")))
    }

    async fn deprovision_own(
        &self,
        operation: &Operation,
        instance: &str,
        note: &Note,
        backups: usize,
    ) -> Result<String, Failure> {
        let dedicated = self.dedicated()?;
        // What it had, if it can still say so
        let look = async {
            let cluster = dedicated.look(instance).await.ok()?;
            Some((cluster.size_bytes(instance).await.ok()?, cluster.logins(instance).await.ok()?))
        };
        let had = match tokio::time::timeout(LAST_LOOK, look).await {
            Ok(Some((bytes, logins))) => format!(" with a database of {} MB, {logins} logins", bytes >> 20),
            _ => String::new(),
        };
        dedicated.remove(operation, instance, note).await?;
        let Note { memory_mb, disk_mb, port, .. } = note;
        Ok(format!(
            "Removed the server at port {port} ({memory_mb} MB of memory) and its volume of {disk_mb} MB{had} and {backups} backups."
        ))
    }

    /// Looks at the sizes of all instances on the shared server now.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn check_sizes(&self) -> Result<(), Error> {
        self.0.cluster.enforce(None).await
    }

    /// The shared server.
    pub fn server(&self) -> &Server {
        &self.0.server
    }
}

/// The parameters in force after a change.
pub(crate) fn merged(instance: &Instance, change: &Update) -> Parameters {
    let mut parameters = instance.parameters.clone();
    parameters.extend(change.parameters.iter().flat_map(|new| (**new).clone()));
    parameters
}

fn login_of(binding: &str) -> String {
    names::derived('u', binding)
}

#[async_trait]
impl Broker for SqlBroker {
    fn catalog(&self) -> Catalog {
        self.0.catalog.clone()
    }

    fn mode(&self, task: &Task<'_>) -> Mode {
        let own = self.is_dedicated(task.plan) || task.new_plan.is_some_and(|plan| self.is_dedicated(plan));
        match task.kind {
            Kind::Backup | Kind::Restore => Mode::Background,
            Kind::Provision if task.clone => Mode::Background,
            Kind::Provision | Kind::Update | Kind::Deprovision if own => Mode::Background,
            _ => Mode::Now,
        }
    }

    async fn provision(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        match self.is_dedicated(&request.plan.name) {
            true => self.provision_own(operation, request).await,
            false => self.provision_shared(request).await,
        }
    }

    async fn update(&self, operation: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let plan = change.plan.as_ref().map_or(instance.plan_name.as_str(), |plan| plan.name.as_str());
        match (Note::of(&instance.state)?, self.is_dedicated(plan)) {
            (Some(note), true) if note.inhabited && self.is_dedicated(&instance.plan_name) => {
                self.update_own(operation, instance, change, note).await
            }
            (note, true) => self.move_in(operation, instance, change, note).await,
            (Some(note), false) => self.move_out(operation, instance, change, note, plan).await,
            (None, false) => self.update_shared(instance, change, plan).await.map(|()| Updated::default()),
        }
    }

    async fn deprovision(&self, operation: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let backups = self.0.store.remove_all(&instance.id).map_err(failure)?;
        let own = match Note::of(&instance.state)? {
            Some(note) => {
                let text = self.deprovision_own(operation, &instance.id, &note, backups).await?;
                Some(text).filter(|_| note.inhabited)
            }
            None => None,
        };
        // A move to another plan that did not come to its end leaves something on both sides
        let shared = match own.is_some() && self.is_dedicated(&instance.plan_name) {
            true => None,
            false => self.deprovision_shared(&instance.id, backups).await?,
        };
        let description = own.or(shared);
        if let Some(text) = &description {
            info!(instance.id = instance.id, "{text}");
        }
        Ok(Removed { description })
    }

    async fn bind(&self, operation: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let home = self.home(instance).await?;
        let database = home.database(&instance.id).await?;
        let login = login_of(&request.binding_id);
        let password = match request.state.get("password").and_then(|value| value.as_str()) {
            Some(saved) => saved.to_owned(),
            None => {
                let password = names::password(&mut *self.0.rng.lock());
                operation.save(&PrivateObject::from_iter([("password", password.clone())])).await?;
                password
            }
        };
        let most = connections(&request.parameters, database.connections);
        home.cluster.log_in(&login, &password, &database, most).await.map_err(failure)?;
        Ok(Bound {
            credentials: Some(self.0.product.credentials(&home.address, &login, &password, &database.name)),
            endpoints: Some(home.address.endpoints()),
            ..Bound::default()
        })
    }

    async fn unbind(&self, _: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        let note = Note::of(&instance.state)?.filter(|note| note.inhabited);
        if note.is_none() && !self.0.server.data().exists() {
            return Ok(());
        }
        let home = match (self.home(instance).await, &note) {
            (Err(_), Some(note)) if self.dedicated()?.is_gone(note).await => return Ok(()),
            (home, _) => home?,
        };
        home.cluster.log_out(&login_of(&binding.id), &instance.id).await.map_err(failure)
    }

    async fn backup(&self, _: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let Inner { store, clock, .. } = &*self.0;
        let done = store.find(&instance.id, backup_id).map_err(failure)?;
        let note = match done {
            Some(note) => note,
            None => {
                let home = self.home(instance).await?;
                let database = home.database(&instance.id).await?;
                let writer = store.create(&instance.id, backup_id).map_err(failure)?;
                home.cluster.dump(&database, writer, clock.now()).await.map_err(failure)?
            }
        };
        Ok(BackedUp { size_bytes: note.size_bytes, state: PrivateObject::new() })
    }

    async fn delete_backup(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.0.store.remove(&instance.id, &backup.id).map(|_| ()).map_err(failure)
    }

    async fn restore(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        let file = self.verified(&backup.instance_id, &backup.id).await?;
        let home = self.home(instance).await?;
        let database = home.database(&instance.id).await?;
        home.cluster.restore(&database, file).await.map_err(failure)?;
        home.cluster.enforce(Some(&instance.id)).await.map_err(failure)
    }

    async fn started(&self, instances: Vec<Instance>) -> Result<(), Failure> {
        info!(instances = instances.len(), "the {} broker knows its instances", self.0.product.service());
        for instance in instances {
            if let (Some(note), Some(dedicated)) = (Note::of(&instance.state)?, &self.0.dedicated) {
                dedicated.note(&instance.id, &note);
            }
        }
        self.0.shutdown.spawn(self.clone().watch());
        self.0.shutdown.spawn(self.clone().watch_own());
        self.0.shutdown.spawn(self.clone().sweep());
        Ok(())
    }
}
