//! The work itself: loads what an operation is about, calls the broker's method, keeps what comes out.
//!
//! There is one way through here, for requests that wait, for the background and after a restart.

use crate::{
    BackedUp, Bind, Bound, Broker, CloneSource, Failure, Instance, Kind, Operation, Provision, Provisioned, Removed, Update,
    Updated,
    metrics::Metrics,
    operation::Progress,
    store::{Store, Tx, backups, bindings, instances, operations},
};
use async_trait::async_trait;
use foundation::Shutdown;
use futures::FutureExt;
use osb::{BackupState, Binding, Catalog, LastOperation, OperationState, OriginatingIdentity, PrivateObject};
use std::{error::Error, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tracing::{Instrument, error, info, info_span, warn};
use types::Clock;

/// How long work may go on after the end was asked for, before it is left to the next start.
const GRACE: Duration = Duration::from_secs(8);
/// What a resumed operation has at least.
const LEAST_AFTER_RESTART: Duration = Duration::from_secs(60);

/// Everything that work needs.
pub(crate) struct Workshop {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) operation_timeout: Duration,
    pub(crate) shutdown: Shutdown,
    /// Where work runs: not on the threads of requests, which work that blocks would hold up.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) metrics: Metrics,
}

/// What a method is called with.
enum Call {
    Provision(Box<Provision>),
    Update(Box<Instance>, Box<Update>),
    Deprovision(Box<Instance>),
    Bind(Box<Instance>, Box<Bind>),
    Unbind(Box<Instance>, Box<crate::BoundTo>),
    Backup(Box<Instance>, String),
    DeleteBackup(Box<Instance>, Box<crate::StoredBackup>),
    Restore(Box<Instance>, Box<crate::StoredBackup>),
}

/// What comes out of one.
enum Made {
    Provisioned(Box<Provisioned>),
    Updated(Box<Updated>),
    Removed(Removed),
    Bound(Box<Bound>),
    BackedUp(BackedUp),
    Nothing,
}

/// Begins to work on an operation, in a task that goes on when the caller hangs up.
pub(crate) fn spawn(shop: &Arc<Workshop>, operation: String) -> JoinHandle<Option<Result<(), Failure>>> {
    let _there = shop.runtime.enter();
    shop.shutdown.spawn(run(shop.clone(), operation))
}

/// Runs an operation to its end. `None`: the broker is ending, and the next start goes on with it.
async fn run(shop: Arc<Workshop>, id: String) -> Option<Result<(), Failure>> {
    let loaded = shop.store.run({
        let (id, catalog) = (id.clone(), shop.catalog.clone());
        move |tx| {
            let Some(record) = operations::attempt(tx, &id)? else { return Ok(None) };
            // what cannot be loaded must still end
            let call = load(tx, &record, &catalog);
            Ok(Some((record, call)))
        }
    });
    let (record, call) = match loaded.await {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return Some(Err(Failure::internal("the operation is not there any more"))),
        Err(failure) => return Some(Err(failure)),
    };
    let span =
        info_span!("operation", operation.id = %id, kind = record.kind.as_str(), instance.id = %record.subject.instance_id);
    async {
        let started = shop.clock.now();
        shop.metrics.began(record.kind);
        let made = match call {
            Ok(call) => perform(&shop, &record, call).await,
            // not a refusal of the broker, even if it looks like one (a plan may have left the catalog): what was made before must be found
            Err(failure) => Some(Err(Failure { status: 500, ..failure })),
        };
        shop.metrics.ended(record.kind, made.as_ref().map(Result::is_ok), shop.clock.now().since(started));
        let made = made?;
        Some(conclude(&shop, record, made).await)
    }
    .instrument(span)
    .await
}

/// Calls the method: bounded in time, and a panic in it is a failure of it alone.
async fn perform(shop: &Arc<Workshop>, record: &operations::Record, call: Call) -> Option<Result<Made, Failure>> {
    let context = Operation {
        id: record.id.clone(),
        kind: record.kind,
        attempt: record.attempt,
        identity: record.data.identity.as_deref().and_then(|header| OriginatingIdentity::decode(header).ok()),
        progress: Arc::new(Notes(shop.clone())),
    };
    if record.attempt > 1 {
        info!(attempt = record.attempt, "resuming {} of {}", record.kind.as_str(), record.subject.instance_id);
    }
    let spent = shop.clock.now().since(record.started_at);
    let allowed = shop.operation_timeout.saturating_sub(spent);
    let allowed = if record.attempt > 1 { allowed.max(LEAST_AFTER_RESTART.min(shop.operation_timeout)) } else { allowed };
    let work = AssertUnwindSafe(invoke(&*shop.broker, &context, call)).catch_unwind();
    let ending = async {
        shop.shutdown.requested().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        outcome = tokio::time::timeout(allowed, work) => Some(match outcome {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(Failure::internal("The broker could not do this because of a fault of its own; its log says more.")),
            Err(_) => Err(Failure::internal(format!("it took longer than {} seconds", shop.operation_timeout.as_secs()))),
        }),
        () = ending => {
            warn!("left to the next start");
            None
        }
    }
}

async fn invoke(broker: &dyn Broker, operation: &Operation, call: Call) -> Result<Made, Failure> {
    Ok(match call {
        Call::Provision(request) => Made::Provisioned(Box::new(broker.provision(operation, &request).await?)),
        Call::Update(instance, change) => Made::Updated(Box::new(broker.update(operation, &instance, &change).await?)),
        Call::Deprovision(instance) => Made::Removed(broker.deprovision(operation, &instance).await?),
        Call::Bind(instance, request) => Made::Bound(Box::new(broker.bind(operation, &instance, &request).await?)),
        Call::Unbind(instance, binding) => {
            broker.unbind(operation, &instance, &binding).await?;
            Made::Nothing
        }
        Call::Backup(instance, id) => Made::BackedUp(broker.backup(operation, &instance, &id).await?),
        Call::DeleteBackup(instance, backup) => {
            broker.delete_backup(operation, &instance, &backup).await?;
            Made::Nothing
        }
        Call::Restore(instance, backup) => {
            broker.restore(operation, &instance, &backup).await?;
            Made::Nothing
        }
    })
}

/// From records to what the method takes.
fn load(tx: &mut Tx<'_>, record: &operations::Record, catalog: &Catalog) -> Result<Call, Failure> {
    let subject = &record.subject;
    let instance =
        instances::find(tx, &subject.instance_id)?.ok_or_else(|| Failure::not_found("there is no such service instance"))?;
    let binding = |tx: &mut Tx<'_>| {
        let id = subject.binding_id.as_deref().unwrap_or_default();
        bindings::find(tx, &subject.instance_id, id)?.ok_or_else(|| Failure::not_found("there is no such service binding"))
    };
    let backup = |tx: &mut Tx<'_>| {
        let id = subject.backup_id.as_deref().unwrap_or_default();
        backups::find(tx, &subject.instance_id, id)?.ok_or_else(|| Failure::not_found("there is no such backup"))
    };
    let view = Box::new(instance.view());
    Ok(match record.kind {
        Kind::Provision => Call::Provision(Box::new(provision(tx, instance, catalog)?)),
        Kind::Update => {
            let wanted = record.data.update.clone().unwrap_or_default();
            let plan = match &wanted.plan_id {
                Some(id) if *id != instance.plan_id => Some(super::checks::plan(catalog, &instance.service_id, id)?.1.clone()),
                _ => None,
            };
            let operations::UpdateData { parameters, context, maintenance_version, .. } = wanted;
            Call::Update(view, Box::new(Update { plan, parameters, context, maintenance_version }))
        }
        Kind::Deprovision => Call::Deprovision(view),
        Kind::Bind => {
            let binding = binding(tx)?;
            let predecessor = match &binding.data.predecessor {
                Some(id) => bindings::find(tx, &subject.instance_id, id)?.map(|binding| binding.view()),
                None => None,
            };
            let bindings::Data { context, resource, parameters, state, .. } = binding.data;
            Call::Bind(view, Box::new(Bind { binding_id: binding.id, context, resource, parameters, state, predecessor }))
        }
        Kind::Unbind => Call::Unbind(view, Box::new(binding(tx)?.view())),
        Kind::Backup => Call::Backup(view, subject.backup_id.clone().unwrap_or_default()),
        Kind::DeleteBackup => Call::DeleteBackup(view, Box::new(backup(tx)?.view())),
        Kind::Restore => Call::Restore(view, Box::new(backup(tx)?.view())),
    })
}

fn provision(tx: &mut Tx<'_>, instance: instances::Record, catalog: &Catalog) -> Result<Provision, Failure> {
    let (_, plan) = super::checks::plan(catalog, &instance.service_id, &instance.plan_id)?;
    let data = instance.data;
    let clone_from = match &data.clone_from {
        None => None,
        Some(source) => {
            let gone = || Failure::not_found("the service instance or backup to copy is not there");
            let original = instances::find(tx, &source.instance_id)?.filter(|original| original.complete).ok_or_else(gone)?;
            let backup = match &source.backup_id {
                None => None,
                Some(id) => Some(backups::find(tx, &source.instance_id, id)?.ok_or_else(gone)?.view()),
            };
            Some(CloneSource { instance: original.view(), backup })
        }
    };
    Ok(Provision {
        instance_id: instance.id,
        service_id: instance.service_id,
        service_name: data.service_name,
        plan: plan.clone(),
        context: data.context,
        organization_guid: data.organization_guid,
        space_guid: data.space_guid,
        parameters: data.parameters,
        state: data.state,
        clone_from,
    })
}

/// Writes down how it ended. Only then anybody is told.
async fn conclude(shop: &Arc<Workshop>, record: operations::Record, made: Result<Made, Failure>) -> Result<(), Failure> {
    if let Err(failure) = &made {
        let cause = failure.cause.as_deref().map(|cause| cause as &(dyn Error + 'static));
        match failure.is_refusal() {
            true => info!(status = failure.status, "{} was refused: {}", record.kind.as_str(), failure.description()),
            false => error!(status = failure.status, error = cause, "{} failed: {}", record.kind.as_str(), failure.description()),
        }
    }
    let now = shop.clock.now();
    let catalog = shop.catalog.clone();
    let (outcome, made) = match made {
        Ok(made) => (Ok(()), Ok(made)),
        Err(failure) => (Err(failure.shared()), Err(failure)),
    };
    shop.store
        .run(move |tx| {
            let last = match made {
                Ok(made) => LastOperation {
                    state: OperationState::Succeeded,
                    description: succeed(tx, &record, made, &catalog)?,
                    instance_usable: None,
                    update_repeatable: None,
                },
                Err(failure) => {
                    fail(tx, &record, &failure)?;
                    let of_instance = matches!(record.kind, Kind::Update | Kind::Restore | Kind::Deprovision);
                    LastOperation {
                        state: OperationState::Failed,
                        description: failure.body.description,
                        instance_usable: failure.body.instance_usable.filter(|_| of_instance),
                        update_repeatable: failure.body.update_repeatable.filter(|_| record.kind == Kind::Update),
                    }
                }
            };
            operations::finish(tx, &record.id, &last, now)
        })
        .await?;
    outcome
}

fn succeed(tx: &mut Tx<'_>, record: &operations::Record, made: Made, catalog: &Catalog) -> Result<Option<String>, Failure> {
    let subject = &record.subject;
    let binding_id = subject.binding_id.as_deref().unwrap_or_default();
    let backup_id = subject.backup_id.as_deref().unwrap_or_default();
    match made {
        Made::Provisioned(made) => {
            if let Some(mut instance) = instances::find(tx, &subject.instance_id)? {
                instance.complete = true;
                instance.data.state = made.state;
                instance.data.metadata = made.metadata;
                instances::put(tx, &instance)?;
            }
            return Ok(made.description);
        }
        Made::Updated(made) => {
            if let Some(mut instance) = instances::find(tx, &subject.instance_id)? {
                let wanted = record.data.update.clone().unwrap_or_default();
                apply(&mut instance, wanted, catalog);
                if let Some(state) = made.state {
                    instance.data.state = state;
                }
                if made.metadata.is_some() {
                    instance.data.metadata = made.metadata;
                }
                instances::put(tx, &instance)?;
            }
            return Ok(made.description);
        }
        Made::Removed(removed) => {
            instances::delete(tx, &subject.instance_id)?;
            return Ok(removed.description);
        }
        Made::Bound(bound) => {
            if let Some(mut binding) = bindings::find(tx, &subject.instance_id, binding_id)? {
                binding.complete = true;
                binding.data.state = bound.state;
                binding.data.answer = Binding {
                    operation: None,
                    credentials: bound.credentials,
                    syslog_drain_url: bound.syslog_drain_url,
                    route_service_url: bound.route_service_url,
                    volume_mounts: bound.volume_mounts,
                    endpoints: bound.endpoints,
                    metadata: bound.metadata,
                };
                bindings::put(tx, &binding)?;
            }
        }
        Made::BackedUp(made) => {
            if let Some(mut backup) = backups::find(tx, &subject.instance_id, backup_id)? {
                backup.state = BackupState::Succeeded;
                backup.size_bytes = Some(made.size_bytes);
                backup.private = made.state;
                backup.description = None;
                backups::put(tx, &backup)?;
            }
        }
        Made::Nothing => match record.kind {
            Kind::Unbind => bindings::delete(tx, &subject.instance_id, binding_id)?,
            Kind::DeleteBackup => backups::delete(tx, &subject.instance_id, backup_id)?,
            _ => {}
        },
    }
    Ok(None)
}

/// Changes an instance's record as an update says.
pub(super) fn apply(instance: &mut instances::Record, wanted: operations::UpdateData, catalog: &Catalog) {
    if let Some(plan_id) = wanted.plan_id.filter(|id| *id != instance.plan_id) {
        if let Some(plan) = catalog.service(&instance.service_id).and_then(|service| service.plan(&plan_id)) {
            instance.data.plan_name.clone_from(&plan.name);
            instance.data.maintenance_version = plan.maintenance_info.as_ref().map(|info| info.version.clone());
        }
        instance.plan_id = plan_id;
    }
    for (key, value) in wanted.parameters.unwrap_or_default().into_inner() {
        instance.data.parameters.insert(key, value);
    }
    if let Some(context) = wanted.context {
        instance.data.context = context;
    }
    if wanted.maintenance_version.is_some() {
        instance.data.maintenance_version = wanted.maintenance_version;
    }
}

/// A refusal leaves nothing behind; after anything else, the platform's delete must still find it.
fn fail(tx: &mut Tx<'_>, record: &operations::Record, failure: &Failure) -> Result<(), Failure> {
    let subject = &record.subject;
    match (record.kind, &subject.binding_id, &subject.backup_id) {
        (Kind::Provision, ..) if failure.is_refusal() => instances::delete(tx, &subject.instance_id),
        (Kind::Bind, Some(id), _) if failure.is_refusal() => bindings::delete(tx, &subject.instance_id, id),
        (Kind::Backup | Kind::DeleteBackup, _, Some(id)) => {
            let Some(mut backup) = backups::find(tx, &subject.instance_id, id)? else { return Ok(()) };
            backup.state = BackupState::Failed;
            backup.description = failure.body.description.clone();
            backups::put(tx, &backup)
        }
        _ => Ok(()),
    }
}

/// Where progress goes.
struct Notes(Arc<Workshop>);

#[async_trait]
impl Progress for Notes {
    async fn describe(&self, operation: &str, text: &str) -> Result<(), Failure> {
        let (operation, text) = (operation.to_owned(), text.to_owned());
        self.0.store.run(move |tx| operations::describe(tx, &operation, &text)).await
    }

    async fn save(&self, operation: &str, state: &PrivateObject) -> Result<(), Failure> {
        let (operation, state) = (operation.to_owned(), state.clone());
        self.0.store.run(move |tx| save(tx, &operation, state)).await
    }
}

fn save(tx: &mut Tx<'_>, operation: &str, state: PrivateObject) -> Result<(), Failure> {
    let Some(record) = operations::find(tx, operation)? else { return Err(Failure::internal("the operation has ended")) };
    let subject = record.subject;
    match (record.kind, subject.binding_id, subject.backup_id) {
        (Kind::Bind | Kind::Unbind, Some(id), _) => {
            if let Some(mut binding) = bindings::find(tx, &subject.instance_id, &id)? {
                binding.data.state = state;
                bindings::put(tx, &binding)?;
            }
        }
        (Kind::Backup | Kind::DeleteBackup, _, Some(id)) => {
            if let Some(mut backup) = backups::find(tx, &subject.instance_id, &id)? {
                backup.private = state;
                backups::put(tx, &backup)?;
            }
        }
        _ => {
            if let Some(mut instance) = instances::find(tx, &subject.instance_id)? {
                instance.data.state = state;
                instances::put(tx, &instance)?;
            }
        }
    }
    Ok(())
}
