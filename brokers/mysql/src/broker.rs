//! The broker's operations, each of which can be repeated after it was cut off.

use crate::{
    backup,
    cluster::{Allowance, Cluster, Database, USUAL_COLLATION},
    config::Config,
    credentials::Address,
    engine,
};
use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, Failure, Instance, Kind, Mode, Operation, Provision, Provisioned, Removed,
    StoredBackup, Task, Update, Updated, async_trait,
    osb::{Catalog, Parameters, PrivateObject},
};
use engines::{Error, Phase, Server, backups::Store, files, names};
use foundation::Shutdown;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{RwLock, RwLockReadGuard};
use tracing::{info, warn};
use types::Clock;

/// The broker.
#[derive(Clone)]
pub struct MysqlBroker(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) version: String,
    pub(crate) server: Server,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) store: Store,
    pub(crate) address: Address,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) folder: PathBuf,
    pub(crate) shutdown: Shutdown,
    /// Held for reading by whoever needs the server, for writing by who stops it for want of use.
    pub(crate) use_of_server: RwLock<()>,
}

fn failure(error: Error) -> Failure {
    match error {
        Error::NotReady(..) => {
            Failure::unavailable("The MariaDB server does not run at the moment; it is being started. Please try again.")
                .caused_by(error)
        }
        Error::TooLarge { limit_bytes } => {
            Failure::internal(format!("The backup would be larger than {} MB.", limit_bytes >> 20)).caused_by(error)
        }
        Error::DiskFull { .. } => Failure::unavailable("There is not enough room for backups at the moment.").caused_by(error),
        Error::Backup(_, what) => Failure::refused(format!("The backup is {what}.")).caused_by(error),
        other => other.into(),
    }
}

impl MysqlBroker {
    /// The server, running, and kept so while the guard lives.
    async fn running(&self) -> Result<(RwLockReadGuard<'_, ()>, &Cluster), Failure> {
        let guard = self.0.use_of_server.read().await;
        self.0.server.ensure().await.map_err(failure)?;
        Ok((guard, &self.0.cluster))
    }

    fn allowance(&self, plan: &str, parameters: &Parameters) -> Result<Allowance, Failure> {
        let limits = self.0.config.plans.iter().find(|limits| limits.plan == plan);
        let limits = limits.ok_or_else(|| Failure::refused(format!("There is no plan `{plan}` any more.")))?;
        let collation = parameters.get("collation").and_then(|value| value.as_str()).unwrap_or(USUAL_COLLATION);
        Ok(Allowance {
            size_bytes: limits.size_bytes,
            connections: connections(parameters, limits.connections),
            collation: collation.to_owned(),
        })
    }

    async fn database(&self, instance: &str) -> Result<Database, Failure> {
        let found = self.0.cluster.find(instance).await.map_err(failure)?;
        found.ok_or_else(|| Failure::internal("The database of this instance is gone."))
    }

    /// Fills a new database with the data of another instance, or of its backup.
    async fn copy(&self, request: &Provision, database: &Database) -> Result<(), Failure> {
        let Some(source) = &request.clone_from else { return Ok(()) };
        let Inner { store, cluster, config, .. } = &*self.0;
        let settings = &config.engine;
        let file = match &source.backup {
            Some(backup) => self.verified(&backup.instance_id, &backup.id).await?,
            None => {
                let from = self.database(&source.instance.id).await?;
                let id = format!("clone for {}", request.instance_id);
                let target = (request.instance_id.as_str(), id.as_str());
                backup::dump(cluster, settings, &from, store, target, self.0.clock.now()).await.map_err(failure)?;
                let file = self.verified(&request.instance_id, &id).await?;
                // Open, it can still be read
                store.remove(&request.instance_id, &id).map_err(failure)?;
                file
            }
        };
        backup::fill(cluster, settings, database, file).await.map_err(failure)
    }

    async fn verified(&self, instance: &str, id: &str) -> Result<std::fs::File, Failure> {
        let (store, instance, id) = (self.0.store.clone(), instance.to_owned(), id.to_owned());
        let verified = tokio::task::spawn_blocking(move || store.verified(&instance, &id)).await?;
        verified.map(|(file, _)| file).map_err(failure)
    }

    /// Looks at sizes, at certificates, and whether anybody needs the server.
    pub(crate) async fn watch(self) {
        let Inner { shutdown, config, .. } = &*self.0;
        let mut every = tokio::time::interval(config.engine.check_interval.min(Duration::from_secs(30)));
        let mut checked = Instant::now();
        let mut idle_since = None;
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = shutdown.requested() => return,
            }
            if !matches!(self.0.server.phase(), Phase::Running { .. }) {
                continue;
            }
            let look = checked.elapsed() >= config.engine.check_interval;
            if look {
                checked = Instant::now();
            }
            if let Err(e) = self.round(look, &mut idle_since).await {
                warn!(error = &e as &dyn std::error::Error, "a round of checks failed");
            }
        }
    }

    async fn round(&self, look: bool, idle_since: &mut Option<Instant>) -> Result<(), Error> {
        let Inner { cluster, config, folder, .. } = &*self.0;
        if look {
            cluster.enforce(None).await?;
            if files::copy_tls(&config.engine.tls, &folder.join("tls"), config.engine.user)? {
                info!("the certificate changed");
                cluster.reload_certificates().await?;
            }
        }
        if cluster.instances().await? > 0 {
            *idle_since = None;
            return Ok(());
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < config.engine.idle_stop {
            return Ok(());
        }
        // Whoever is about to make an instance holds this
        if let Ok(_nobody) = self.0.use_of_server.try_write()
            && cluster.instances().await? == 0
        {
            info!("nobody needs the server");
            self.0.server.release().await?;
            *idle_since = None;
        }
        Ok(())
    }

    /// Looks at the sizes of all instances now.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn check_sizes(&self) -> Result<(), Error> {
        self.0.cluster.enforce(None).await
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.0.server
    }
}

/// What the user asked for, as far as the plan allows it.
fn connections(parameters: &Parameters, most: u32) -> u32 {
    let asked = parameters.get("connections").and_then(serde_json::Value::as_u64);
    asked.and_then(|asked| u32::try_from(asked).ok()).map_or(most, |asked| asked.clamp(1, most))
}

fn login_of(binding: &str) -> String {
    names::derived('u', binding)
}

#[async_trait]
impl Broker for MysqlBroker {
    fn catalog(&self) -> Catalog {
        self.0.catalog.clone()
    }

    fn mode(&self, task: &Task<'_>) -> Mode {
        match task.kind {
            Kind::Backup | Kind::Restore => Mode::Background,
            Kind::Provision if task.clone => Mode::Background,
            _ => Mode::Now,
        }
    }

    async fn provision(&self, _: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        let mut allowance = self.allowance(&request.plan.name, &request.parameters)?;
        let (_guard, cluster) = self.running().await?;
        if let Some(source) = &request.clone_from
            && source.backup.is_none()
            && !request.parameters.contains_key("collation")
        {
            allowance.collation = self.database(&source.instance.id).await?.collation;
        }
        let database = cluster.provide(&request.instance_id, &allowance).await.map_err(failure)?;
        self.copy(request, &database).await?;
        info!(instance.id = request.instance_id, "made the database {}", database.name);
        Ok(Provisioned::default())
    }

    async fn update(&self, _: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let mut parameters = instance.parameters.clone();
        parameters.extend(change.parameters.iter().flat_map(|new| (**new).clone()));
        let plan = change.plan.as_ref().map_or(instance.plan_name.as_str(), |plan| plan.name.as_str());
        let allowance = self.allowance(plan, &parameters)?;
        let (_guard, cluster) = self.running().await?;
        cluster.set_limits(&instance.id, &allowance).await.map_err(failure)?;
        cluster.enforce(Some(&instance.id)).await.map_err(failure)?;
        if change.maintenance_version.is_some() && engine::semantic(&cluster.version().await.map_err(failure)?) != self.0.version
        {
            info!("restarting the server: its package was updated");
            self.0.server.restart().await.map_err(failure)?;
        }
        Ok(Updated::default())
    }

    async fn deprovision(&self, _: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let backups = self.0.store.remove_all(&instance.id).map_err(failure)?;
        // Where there never was a server, none is started
        if !self.0.server.data().exists() {
            return Ok(Removed::default());
        }
        let (_guard, cluster) = self.running().await?;
        let Some(removal) = cluster.remove(&instance.id).await.map_err(failure)? else { return Ok(Removed::default()) };
        let (megabytes, name, logins) = (removal.bytes >> 20, &removal.name, removal.logins);
        let text = format!("Removed the database {name} ({megabytes} MB), {logins} logins and {backups} backups.");
        info!(instance.id = instance.id, "{text}");
        Ok(Removed { description: Some(text) })
    }

    async fn bind(&self, operation: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let (_guard, cluster) = self.running().await?;
        let database = self.database(&instance.id).await?;
        let login = login_of(&request.binding_id);
        let password = match request.state.get("password").and_then(|value| value.as_str()) {
            Some(saved) => saved.to_owned(),
            None => {
                let password = cluster.new_password();
                operation.save(&PrivateObject::from_iter([("password", password.clone())])).await?;
                password
            }
        };
        let most = connections(&request.parameters, database.connections);
        cluster.log_in(&login, &password, &database, most).await.map_err(failure)?;
        Ok(Bound {
            credentials: Some(self.0.address.credentials(&login, &password, &database.name)),
            endpoints: Some(self.0.address.endpoints()),
            ..Bound::default()
        })
    }

    async fn unbind(&self, _: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        if !self.0.server.data().exists() {
            return Ok(());
        }
        let (_guard, cluster) = self.running().await?;
        let login = login_of(&binding.id);
        cluster.log_out(&login, &names::derived('d', &instance.id)).await.map_err(failure)
    }

    async fn backup(&self, _: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let Inner { store, config, clock, .. } = &*self.0;
        let done = store.find(&instance.id, backup_id).map_err(failure)?;
        let note = match done {
            Some(note) => note,
            None => {
                let (_guard, cluster) = self.running().await?;
                let database = self.database(&instance.id).await?;
                let target = (instance.id.as_str(), backup_id);
                let dumped = backup::dump(cluster, &config.engine, &database, store, target, clock.now()).await;
                dumped.map_err(failure)?
            }
        };
        Ok(BackedUp { size_bytes: note.size_bytes, state: PrivateObject::new() })
    }

    async fn delete_backup(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.0.store.remove(&instance.id, &backup.id).map(|_| ()).map_err(failure)
    }

    async fn restore(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        let Inner { config, .. } = &*self.0;
        let file = self.verified(&backup.instance_id, &backup.id).await?;
        let (_guard, cluster) = self.running().await?;
        let database = self.database(&instance.id).await?;
        backup::restore(cluster, &config.engine, &database, file).await.map_err(failure)?;
        cluster.enforce(Some(&instance.id)).await.map_err(failure)
    }

    async fn started(&self, instances: Vec<Instance>) -> Result<(), Failure> {
        info!(instances = instances.len(), "the mysql broker knows its instances");
        self.0.shutdown.spawn(self.clone().watch());
        Ok(())
    }
}
