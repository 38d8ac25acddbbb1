//! The trait that a broker implements, and what goes in and out of it.

use crate::{Failure, Operation};
use async_trait::async_trait;
use osb::{
    BindResource, BindingMetadata, Catalog, Context, Credentials, Endpoint, InstanceMetadata, Parameters, Plan, PrivateObject,
    VolumeMount,
};
use types::Timestamp;

/// A service broker.
///
/// Every method does the whole of its work and then returns; whether the platform waits for that, or polls while it goes on in the
/// background, is what [`Broker::mode`] says. The SDK has looked at the request before: ids, plans, parameters against the plan's
/// schema, names in use, operations that run already.
///
/// # Methods may be called again
/// Before the first call of a method the operation is on disk. A broker that is killed in the middle calls the method again at its next
/// start, with the same request, the same [`Operation::id`] and the private state that was last saved; a user who repeats a
/// failed request does that too. So each method must be **idempotent**: "make it so", not "make one more". Use names derived from
/// the instance's or binding's id, look before creating, and take "is not there" as success when removing.
///
/// # Failures
/// A method that fails with a refusal (4xx: [`Failure::invalid`], [`Failure::refused`], …) must leave nothing behind. After any other
/// failure the SDK keeps the instance or binding as failed, so that the platform's delete still reaches
/// [`Broker::deprovision`] or [`Broker::unbind`], which must therefore cope with half of it.
///
/// # Concurrency
/// At most one operation runs on an instance, except that several bindings of one instance may be made and removed at the same time.
/// Operations on different instances run side by side.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// What is offered. Read once, at start; a catalog that breaks a rule keeps the broker from starting.
    fn catalog(&self) -> Catalog;

    /// Whether this work is done while the platform waits, or in the background (with the platform polling).
    ///
    /// Must depend on nothing but its argument: it is also asked for instances that are not there. [`Mode::Background`] for
    /// bindings needs `bindings_retrievable` in the catalog. Work in [`Mode::Now`] that takes longer than a request may is
    /// continued in the background if the platform allows that.
    fn mode(&self, task: &Task<'_>) -> Mode {
        let _ = task;
        Mode::Now
    }

    /// Makes an instance. With [`Provision::clone_from`] it starts with the data of another one.
    async fn provision(&self, operation: &Operation, request: &Provision) -> Result<Provisioned, Failure>;

    /// Changes an instance: its plan, parameters, context, version, as far as they are in `change`. A failure must leave it as it was.
    async fn update(&self, operation: &Operation, instance: &Instance, change: &Update) -> Result<Updated, Failure> {
        let _ = (operation, instance, change);
        Err(Failure::refused("instances of this service cannot be updated"))
    }

    /// Removes an instance and everything that belongs to it, backups included. It may be half made.
    async fn deprovision(&self, operation: &Operation, instance: &Instance) -> Result<Removed, Failure>;

    /// Makes credentials that nobody else has. In a rotation ([`Bind::predecessor`]) the old ones keep working.
    async fn bind(&self, operation: &Operation, instance: &Instance, request: &Bind) -> Result<Bound, Failure> {
        let _ = (operation, instance, request);
        Err(Failure::refused("instances of this service cannot be bound"))
    }

    /// Revokes the credentials of a binding for real. It may be half made.
    async fn unbind(&self, operation: &Operation, instance: &Instance, binding: &BoundTo) -> Result<(), Failure> {
        let _ = (operation, instance, binding);
        Ok(())
    }

    /// Where this instance can be managed. Must depend on nothing but the id: it is told before the instance is there.
    fn dashboard_url(&self, instance_id: &str) -> Option<String> {
        let _ = instance_id;
        None
    }

    /// The parameters that users may see again, if the offering is `instances_retrievable`. By default all of them.
    fn shown_parameters(&self, instance: &Instance) -> Parameters {
        instance.parameters.clone()
    }

    /// Makes a backup. Called only if the offering's metadata has [`osb::backup::METADATA_KEY`].
    async fn backup(&self, operation: &Operation, instance: &Instance, backup_id: &str) -> Result<BackedUp, Failure> {
        let _ = (operation, instance, backup_id);
        Err(Failure::refused("instances of this service cannot be backed up"))
    }

    /// Deletes a backup, which may be half made.
    async fn delete_backup(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        let _ = (operation, instance, backup);
        Err(Failure::refused("instances of this service cannot be backed up"))
    }

    /// Makes the data of an instance that of its backup. Its bindings keep working.
    async fn restore(&self, operation: &Operation, instance: &Instance, backup: &StoredBackup) -> Result<(), Failure> {
        let _ = (operation, instance, backup);
        Err(Failure::refused("instances of this service cannot be restored"))
    }

    /// Called once at start, before requests are taken and operations resumed: with every instance that there is.
    ///
    /// The place to start processes of instances again, and periodic work. The returned error keeps the broker from starting.
    async fn started(&self, instances: Vec<Instance>) -> Result<(), Failure> {
        let _ = instances;
        Ok(())
    }
}

/// Whether the platform waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The answer has the result.
    Now,
    /// The answer is 202, and the platform polls.
    Background,
}

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`Broker::provision`].
    Provision,
    /// [`Broker::update`].
    Update,
    /// [`Broker::deprovision`].
    Deprovision,
    /// [`Broker::bind`].
    Bind,
    /// [`Broker::unbind`].
    Unbind,
    /// [`Broker::backup`].
    Backup,
    /// [`Broker::delete_backup`].
    DeleteBackup,
    /// [`Broker::restore`].
    Restore,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Provision,
        Self::Update,
        Self::Deprovision,
        Self::Bind,
        Self::Unbind,
        Self::Backup,
        Self::DeleteBackup,
        Self::Restore,
    ];

    /// One word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Update => "update",
            Self::Deprovision => "deprovision",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
            Self::Backup => "backup",
            Self::DeleteBackup => "delete-backup",
            Self::Restore => "restore",
        }
    }
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
    /// Those of different bindings run side by side.
    pub(crate) fn is_of_binding(self) -> bool {
        matches!(self, Self::Bind | Self::Unbind)
    }
    /// What ends with it is not there any more.
    pub(crate) fn is_delete(self) -> bool {
        matches!(self, Self::Deprovision | Self::Unbind | Self::DeleteBackup)
    }
}

/// Work that may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task<'a> {
    /// What kind.
    pub kind: Kind,
    /// The offering's name.
    pub service: &'a str,
    /// The plan's name: for an update, the one that the instance has now.
    pub plan: &'a str,
    /// The plan's name after an update that changes it.
    pub new_plan: Option<&'a str>,
    /// True for a provision that copies another instance.
    pub clone: bool,
}

/// An instance to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Provision {
    /// Chosen by the platform; never used again for another one.
    pub instance_id: String,
    /// Its offering's id.
    pub service_id: String,
    /// Its offering's name.
    pub service_name: String,
    /// Its plan.
    pub plan: Plan,
    /// Where it belongs.
    pub context: Context,
    /// Its organization.
    pub organization_guid: String,
    /// Its space.
    pub space_guid: String,
    /// What the user gave; keeps to the plan's schema.
    pub parameters: Parameters,
    /// What an earlier try of this same operation saved with [`Operation::save`]; else empty.
    pub state: PrivateObject,
    /// The data to start with.
    pub clone_from: Option<CloneSource>,
}

/// Where the data of a new instance comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct CloneSource {
    /// An instance of the same offering.
    pub instance: Instance,
    /// Its backup to take; without one, its data of now.
    pub backup: Option<StoredBackup>,
}

/// An instance as the SDK keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Chosen by the platform.
    pub id: String,
    /// Its offering's id.
    pub service_id: String,
    /// Its offering's name.
    pub service_name: String,
    /// Its plan's id.
    pub plan_id: String,
    /// Its plan's name.
    pub plan_name: String,
    /// Where it belongs.
    pub context: Context,
    /// Its organization.
    pub organization_guid: String,
    /// Its space.
    pub space_guid: String,
    /// The parameters in force: those of the provision, with those of the updates on top.
    pub parameters: Parameters,
    /// What the broker gave as its private state; kept sealed.
    pub state: PrivateObject,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// False while it is being made, and after that has failed.
    pub complete: bool,
}

/// A made instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provisioned {
    /// Whatever the broker wants to find again in [`Instance::state`]; passwords are welcome.
    pub state: PrivateObject,
    /// Labels and attributes for the platform.
    pub metadata: Option<InstanceMetadata>,
    /// For the user.
    pub description: Option<String>,
}

/// What changes in an instance. The old values are in the [`Instance`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The new plan, if it changes.
    pub plan: Option<Plan>,
    /// The parameters that the user gave, if any; keep to the schema of the (new) plan.
    pub parameters: Option<Parameters>,
    /// Where it belongs now, if the platform said so.
    pub context: Option<Context>,
    /// The version of the plan to reach, if the platform said so.
    pub maintenance_version: Option<String>,
}

/// A changed instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updated {
    /// The new private state; absent: as it was.
    pub state: Option<PrivateObject>,
    /// New labels and attributes; absent: as they were.
    pub metadata: Option<InstanceMetadata>,
    /// For the user.
    pub description: Option<String>,
}

/// A removed instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// For the user: what was removed.
    pub description: Option<String>,
}

/// A binding to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bind {
    /// Chosen by the platform.
    pub binding_id: String,
    /// Where the instance belongs.
    pub context: Context,
    /// What is bound; an application has `app_guid` here even if the platform sent it elsewhere.
    pub resource: BindResource,
    /// What the user gave; keeps to the plan's schema.
    pub parameters: Parameters,
    /// What an earlier try of this same operation saved with [`Operation::save`]; else empty.
    pub state: PrivateObject,
    /// In a rotation: the binding that this one follows.
    pub predecessor: Option<BoundTo>,
}

/// A made binding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// For the application.
    pub credentials: Option<Credentials>,
    /// Where its logs go; the offering must require `syslog_drain`.
    pub syslog_drain_url: Option<String>,
    /// Through where the route's requests go; the offering must require `route_forwarding`.
    pub route_service_url: Option<String>,
    /// What to mount; the offering must require `volume_mount`.
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// What the application connects to.
    pub endpoints: Option<Vec<Endpoint>>,
    /// How long it is good for.
    pub metadata: Option<BindingMetadata>,
    /// Whatever the broker wants to find again in [`BoundTo::state`].
    pub state: PrivateObject,
}

/// A binding as the SDK keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundTo {
    /// Chosen by the platform.
    pub id: String,
    /// What is bound.
    pub resource: BindResource,
    /// What the user gave.
    pub parameters: Parameters,
    /// What the application got; empty if it is half made.
    pub credentials: Credentials,
    /// What the broker gave as its private state; kept sealed.
    pub state: PrivateObject,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// False while it is being made, and after that has failed.
    pub complete: bool,
}

/// A made backup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackedUp {
    /// How much it takes.
    pub size_bytes: u64,
    /// Whatever the broker wants to find again in [`StoredBackup::state`].
    pub state: PrivateObject,
}

/// A backup as the SDK keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBackup {
    /// Chosen by the platform.
    pub id: String,
    /// Its instance.
    pub instance_id: String,
    /// How much it takes.
    pub size_bytes: Option<u64>,
    /// What the broker gave as its private state; kept sealed.
    pub state: PrivateObject,
    /// When it was asked for.
    pub created_at: Timestamp,
}
