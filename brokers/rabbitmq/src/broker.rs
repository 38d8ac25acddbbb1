//! The Open Service Broker side: what the platform asks, in terms of the shared node.

use crate::{
    api::{ADMIN, Api, POLICY},
    messages::{self, Host, Kept},
    node::Ports,
    plans::{self, BindingParameters, InstanceParameters, Limits, Plans},
};
use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, Failure, Instance, Kind, Mode, Operation, Provision, Provisioned, Removed,
    StoredBackup, Task, Update, Updated, async_trait,
    osb::{Catalog, Credentials, Endpoint, Parameters},
};
use engines::{Error, Server, backups, names};
use foundation::{Secret, Shutdown};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};
use tracing::{info, warn};
use types::Clock;

/// The broker; clones are the same one.
#[derive(Clone)]
pub struct RabbitmqBroker(pub(crate) Arc<Inner>);

/// What it rules.
pub(crate) struct Inner {
    pub(crate) server: Server,
    pub(crate) api: Arc<Api>,
    pub(crate) store: backups::Store,
    pub(crate) version: String,
    pub(crate) plans: Plans,
    pub(crate) address: Ipv4Addr,
    pub(crate) ports: Ports,
    pub(crate) password: Secret,
    /// The authority that applications check the node with, PEM.
    pub(crate) authority: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
    pub(crate) idle: Duration,
    /// Held while a virtual host comes, and while the node is stopped because there is none.
    pub(crate) coming: tokio::sync::Mutex<()>,
}

/// The id of a backup that lives while an instance is copied; platforms choose none like it.
const CLONE: &str = "the data of a clone";
/// Bytes that are written at a time.
const PIECE: usize = 256 << 10;

/// The first line of a backup.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    definitions: Value,
    /// Queues whose messages are not in it, because their kind cannot be read without taking messages.
    left_out: Vec<String>,
}

/// Why something did not happen. Not an error of the standard library's kind, so that it never becomes "our fault" unseen.
struct Fault(Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Fault> for Failure {
    fn from(Fault(error): Fault) -> Self {
        match error {
            Error::Backup(..) => Self::refused(format!("the backup cannot be used: {error}")),
            Error::TooLarge { limit_bytes } => Self::refused(format!("the backup would be larger than {limit_bytes} bytes")),
            Error::NotReady(..) | Error::DiskFull { .. } => Self::unavailable(error.to_string()).caused_by(error),
            _ => Self::internal("the RabbitMQ node could not do this; the broker's log says more").caused_by(error),
        }
    }
}

fn read<T: DeserializeOwned>(parameters: &Parameters) -> Result<T, Failure> {
    serde_json::from_value(parameters.to_value()).map_err(|e| Failure::invalid(format!("parameters: {e}")))
}

fn host_of(instance_id: &str) -> String {
    names::derived('v', instance_id)
}
fn user_of(binding_id: &str) -> String {
    names::derived('u', binding_id)
}

impl RabbitmqBroker {
    fn limits(&self, plan_id: &str, parameters: &InstanceParameters) -> Result<Limits, Failure> {
        let plan = self.0.plans.of(plan_id).ok_or_else(|| Failure::invalid(format!("there is no plan `{plan_id}`")))?;
        Ok(parameters.within(plan))
    }

    fn credentials(&self, host: &str, user: &str, password: &str) -> Credentials {
        let (address, port) = (self.0.address.to_string(), self.0.ports.service);
        let uri = format!("amqps://{user}:{password}@{address}:{port}/{host}");
        let pairs: [(&str, Value); 9] = [
            ("uri", json!(uri)),
            ("uris", json!([uri])),
            ("hostname", json!(address)),
            ("port", json!(port)),
            ("username", json!(user)),
            ("password", json!(password)),
            ("vhost", json!(host)),
            ("tls", json!(true)),
            ("ca", json!(self.0.authority)),
        ];
        pairs.into_iter().collect()
    }

    /// Makes a virtual host, or finds it made.
    async fn make_host(&self, id: &str, limits: Limits) -> Result<(), Fault> {
        let _coming = self.0.coming.lock().await;
        self.0.server.ensure().await?;
        self.0.api.make_host(&host_of(id), &format!("instance {id}")).await?;
        Ok(self.0.api.limit(&host_of(id), limits).await?)
    }

    /// Stops the node after a while if there is still no virtual host.
    fn stop_when_idle(&self) {
        let broker = self.clone();
        self.0.shutdown.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(broker.0.idle) => {}
                () = broker.0.shutdown.requested() => return,
            }
            let _coming = broker.0.coming.lock().await;
            match broker.0.api.hosts().await {
                Ok(hosts) if hosts.iter().all(|host| host == "/") => {
                    info!("stopping the node, which has no virtual host");
                    if let Err(e) = broker.0.server.release().await {
                        warn!(error = &e as &dyn std::error::Error, "the node does not stop");
                    }
                }
                _ => {}
            }
        });
    }

    /// Keeps definitions and messages of `source` as a backup of `id`.
    async fn keep(&self, source: &str, id: &str, backup: &str) -> Result<backups::Note, Fault> {
        let host = host_of(source);
        self.0.server.ensure().await?;
        let definitions = self.0.api.definitions(&host).await?;
        let queues = definitions.get("queues").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |queue: &Value| queue.get("name").and_then(Value::as_str).map(str::to_owned);
        let mut readable = vec![];
        let mut left_out = vec![];
        for queue in &queues {
            let Some(name) = name(queue) else { continue };
            match queue.pointer("/arguments/x-queue-type").and_then(Value::as_str) {
                Some("stream") => left_out.push(name),
                Some("quorum") => readable.push((name, messages::Kind::Quorum)),
                _ => readable.push((name, messages::Kind::Classic)),
            }
        }
        let mut writer = self.0.store.create(id, backup)?;
        let mut piece = serde_json::to_vec(&Head { format: 1, definitions, left_out }).map_err(Error::server)?;
        piece.push(b'\n');
        let inside = Host::enter(self.0.ports.amqp, &host, &self.0.password).await?;
        let mut count = 0;
        for (queue, kind) in readable {
            count += inside
                .read(&queue, kind, |message| {
                    serde_json::to_writer(&mut piece, &message).map_err(Error::server)?;
                    piece.push(b'\n');
                    if piece.len() > PIECE {
                        tokio::task::block_in_place(|| writer.write(&piece))?;
                        piece.clear();
                    }
                    Ok(())
                })
                .await?;
        }
        inside.leave().await?;
        let made_by = format!("rabbitmq {}", self.0.version);
        let now = self.0.clock.now();
        let note = tokio::task::block_in_place(|| {
            writer.write(&piece)?;
            writer.finish(&made_by, now)
        })?;
        info!(messages = count, size_bytes = note.size_bytes, "made a backup");
        Ok(note)
    }

    /// Makes what the backup of `source` holds in the virtual host of `id`, which keeps its users and limits.
    async fn load(&self, id: &str, source: &str, backup: &str, limits: Limits) -> Result<(), Fault> {
        let host = host_of(id);
        let (file, _) = tokio::task::block_in_place(|| self.0.store.verified(source, backup))?;
        let mut lines = BufReader::with_capacity(PIECE, file).lines();
        let mut line = move || tokio::task::block_in_place(|| lines.next().transpose()).map_err(Error::server);
        let mut head: Head = match line()? {
            Some(text) => serde_json::from_str(&text).map_err(Error::server)?,
            None => return Err(Error::Backup(backup.to_owned(), "empty").into()),
        };
        // The limits are those of the plan of now, not of then.
        if let Some(policies) = head.definitions.get_mut("policies").and_then(Value::as_array_mut) {
            policies.retain(|policy| policy.get("name").and_then(Value::as_str) != Some(POLICY));
        }
        self.0.server.ensure().await?;
        // First, because an attempt that was cut short may have left the host closed.
        self.0.api.limit(&host, limits).await?;
        let inside = Host::enter(self.0.ports.amqp, &host, &self.0.password).await?;
        let replaced = async {
            self.0.api.close(&host).await?;
            self.0.api.clear(&host).await?;
            self.0.api.define(&host, &head.definitions).await?;
            let next = || line()?.map(|text| serde_json::from_str::<Kept>(&text).map_err(Error::server)).transpose();
            inside.write(next).await
        };
        let replaced = replaced.await;
        // In any case: closed it would be of no use.
        self.0.api.limit(&host, limits).await?;
        let count = replaced?;
        inside.leave().await?;
        info!(messages = count, "put back a backup");
        Ok(())
    }
}

#[async_trait]
impl Broker for RabbitmqBroker {
    fn catalog(&self) -> Catalog {
        plans::catalog(&self.0.version, &self.0.plans)
    }

    fn mode(&self, task: &Task<'_>) -> Mode {
        match task.kind {
            Kind::Provision if task.clone => Mode::Background,
            Kind::Backup | Kind::Restore => Mode::Background,
            _ => Mode::Now,
        }
    }

    async fn provision(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        let limits = self.limits(&request.plan.id, &read(&request.parameters)?)?;
        let id = &request.instance_id;
        self.make_host(id, limits).await?;
        if let Some(source) = &request.clone_from {
            match &source.backup {
                Some(backup) => self.load(id, &source.instance.id, &backup.id, limits).await?,
                None => {
                    operation.describe("The messages of the other instance are being read.").await?;
                    self.keep(&source.instance.id, id, CLONE).await?;
                    self.load(id, id, CLONE, limits).await?;
                    self.0.store.remove(id, CLONE)?;
                }
            }
        }
        Ok(Provisioned::default())
    }

    async fn update(&self, _: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let mut asked = instance.parameters.clone();
        for (key, value) in change.parameters.iter().flat_map(|parameters| parameters.iter()) {
            asked.insert(key.clone(), value.clone());
        }
        let plan = change.plan.as_ref().map_or(instance.plan_id.as_str(), |plan| plan.id.as_str());
        let limits = self.limits(plan, &read(&asked)?)?;
        self.0.server.ensure().await.map_err(Fault)?;
        self.0.api.limit(&host_of(&instance.id), limits).await.map_err(Fault)?;
        Ok(Updated::default())
    }

    async fn deprovision(&self, _: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let host = host_of(&instance.id);
        self.0.server.ensure().await.map_err(Fault)?;
        let found = self.0.api.has_host(&host).await.map_err(Fault)?;
        let mut removed = 0;
        for user in self.0.api.users_of(&host).await.map_err(Fault)?.iter().filter(|user| *user != ADMIN) {
            self.0.api.remove_user(user).await.map_err(Fault)?;
            removed += 1;
        }
        self.0.api.remove_host(&host).await.map_err(Fault)?;
        let backups = self.0.store.remove_all(&instance.id)?;
        self.stop_when_idle();
        let description =
            format!("Removed the virtual host with all queues and messages, {removed} users and {backups} backups.");
        Ok(Removed { description: found.then_some(description) })
    }

    async fn bind(&self, _: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let parameters: BindingParameters = read(&request.parameters)?;
        let (host, user) = (host_of(&instance.id), user_of(&request.binding_id));
        let password = Secret::new(names::password(&mut foundation::rng()));
        self.0.server.ensure().await.map_err(Fault)?;
        self.0.api.make_user(&user, &password).await.map_err(Fault)?;
        self.0.api.permit(&host, &user, parameters.access).await.map_err(Fault)?;
        let (address, port) = (self.0.address.to_string(), self.0.ports.service.to_string());
        Ok(Bound {
            credentials: Some(self.credentials(&host, &user, password.expose())),
            endpoints: Some(vec![Endpoint { host: address, ports: vec![port], protocol: Some("tcp".to_owned()) }]),
            ..Default::default()
        })
    }

    async fn unbind(&self, _: &Operation, _: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        self.0.server.ensure().await.map_err(Fault)?;
        self.0.api.remove_user(&user_of(&binding.id)).await.map_err(Fault)?;
        Ok(())
    }

    async fn backup(&self, _: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let note = match self.0.store.find(&instance.id, backup_id).map_err(Fault)? {
            Some(made) => made,
            None => self.keep(&instance.id, &instance.id, backup_id).await?,
        };
        Ok(BackedUp { size_bytes: note.size_bytes, ..Default::default() })
    }

    async fn delete_backup(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.0.store.remove(&instance.id, &backup.id)?;
        Ok(())
    }

    async fn restore(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        let limits = self.limits(&instance.plan_id, &read(&instance.parameters)?)?;
        operation.describe("Connections are closed while queues and messages are replaced.").await?;
        Ok(self.load(&instance.id, &instance.id, &backup.id, limits).await?)
    }

    async fn started(&self, instances: Vec<Instance>) -> Result<(), Failure> {
        if instances.is_empty() {
            self.stop_when_idle();
        }
        Ok(())
    }
}
