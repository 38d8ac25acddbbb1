//! The Open Service Broker side: what the platform asks, in terms of [`Instances`].

use crate::{
    instances::{Fault, Instances, Wanted},
    plans::{self, BindingParameters, InstanceParameters, PlanKind, Plans},
};
use broker_sdk::{
    BackedUp, Bind, Bound, BoundTo, Broker, Failure, Instance, Kind, Mode, Operation, Provision, Provisioned, Removed,
    StoredBackup, Task, Update, Updated, async_trait,
    osb::{Catalog, Credentials, Endpoint, Parameters},
};
use engines::Error;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// The broker.
pub struct RedisBroker {
    /// What it rules.
    pub instances: Instances,
    /// Version of the installed server.
    pub version: String,
    /// The plans' limits.
    pub plans: Plans,
    /// Where applications reach the servers.
    pub address: Ipv4Addr,
    /// The authority that applications check them with, PEM.
    pub authority: String,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Full(full) => Self::refused(full.to_string()),
            Fault::TooSmall { used_mb, wanted_mb } => {
                Self::refused(format!("the instance holds {used_mb} MB of data; {wanted_mb} MB would not hold them"))
            }
            Fault::Snapshot(why) => Self::refused(format!("the backup cannot be used: {why}")),
            Fault::Missing => Self::internal("the server of this instance is gone; delete the instance"),
            Fault::Engine(Error::TooLarge { limit_bytes }) => {
                Self::refused(format!("the backup would be larger than {limit_bytes} bytes"))
            }
            Fault::Engine(e @ (Error::NotReady(..) | Error::DiskFull { .. })) => Self::unavailable(e.to_string()).caused_by(e),
            Fault::Engine(e) => Self::internal("the Redis server could not do this; the broker's log says more").caused_by(e),
        }
    }
}

fn read<T: DeserializeOwned>(parameters: &Parameters) -> Result<T, Failure> {
    serde_json::from_value(parameters.to_value()).map_err(|e| Failure::invalid(format!("parameters: {e}")))
}

fn kind(plan_id: &str) -> Result<PlanKind, Failure> {
    PlanKind::of(plan_id).ok_or_else(|| Failure::invalid(format!("there is no plan `{plan_id}`")))
}

impl RedisBroker {
    fn credentials(&self, port: u16, user: &str, password: &str) -> Credentials {
        let host = self.address.to_string();
        let pairs: [(&str, Value); 9] = [
            ("uri", json!(format!("rediss://{user}:{password}@{host}:{port}/0"))),
            ("hostname", json!(host)),
            ("host", json!(host)),
            ("port", json!(port)),
            ("username", json!(user)),
            ("password", json!(password)),
            ("database", json!(0)),
            ("tls", json!(true)),
            ("ca", json!(self.authority)),
        ];
        pairs.into_iter().collect()
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn catalog(&self) -> Catalog {
        plans::catalog(&self.version, &self.plans)
    }

    fn mode(&self, task: &Task<'_>) -> Mode {
        match task.kind {
            Kind::Provision if task.clone => Mode::Background,
            // A server with much data takes its time to write it.
            Kind::Update if task.new_plan.is_some() => Mode::Background,
            Kind::Backup | Kind::Restore => Mode::Background,
            _ => Mode::Now,
        }
    }

    async fn provision(&self, _: &Operation, request: &Provision) -> Result<Provisioned, Failure> {
        let parameters = read(&request.parameters)?;
        let wanted = Wanted { id: request.instance_id.clone(), plan: kind(&request.plan.id)?, parameters };
        match &request.clone_from {
            None => self.instances.create(&wanted, None).await?,
            Some(source) => {
                let backup = source.backup.as_ref().map(|backup| backup.id.as_str());
                self.instances.clone_from(&wanted, &source.instance.id, backup).await?;
            }
        }
        Ok(Provisioned::default())
    }

    async fn update(&self, _: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let plan = change.plan.as_ref().map(|plan| kind(&plan.id)).transpose()?;
        let parameters: InstanceParameters = change.parameters.as_ref().map(read).transpose()?.unwrap_or_default();
        self.instances.update(&instance.id, plan, &parameters).await?;
        Ok(Updated::default())
    }

    async fn deprovision(&self, _: &Operation, instance: &Instance) -> Result<Removed, Failure> {
        let backups = self.instances.store().list(&instance.id)?.len();
        let users = self.instances.record(&instance.id).map_or(0, |record| record.users.len());
        let found = self.instances.remove(&instance.id).await?;
        let description = format!("Removed the Redis server with all its data, {users} users and {backups} backups.");
        Ok(Removed { description: found.then_some(description) })
    }

    async fn bind(&self, _: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let parameters: BindingParameters = read(&request.parameters)?;
        let bound = self.instances.bind(&instance.id, &request.binding_id, parameters.read_only).await?;
        let endpoint =
            Endpoint { host: self.address.to_string(), ports: vec![bound.port.to_string()], protocol: Some("tcp".to_owned()) };
        Ok(Bound {
            credentials: Some(self.credentials(bound.port, &bound.user, bound.password.expose())),
            endpoints: Some(vec![endpoint]),
            ..Default::default()
        })
    }

    async fn unbind(&self, _: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        Ok(self.instances.unbind(&instance.id, &binding.id).await?)
    }

    async fn backup(&self, _: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let note = self.instances.back_up(&instance.id, backup_id).await?;
        Ok(BackedUp { size_bytes: note.size_bytes, ..Default::default() })
    }

    async fn delete_backup(&self, _: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        self.instances.store().remove(&instance.id, &backup.id)?;
        Ok(())
    }

    async fn restore(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        operation.describe("The server is down while its data is replaced.").await?;
        Ok(self.instances.restore(&instance.id, &backup.id).await?)
    }
}
