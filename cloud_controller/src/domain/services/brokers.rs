//! Service brokers: who registers them, and the work of bringing their catalogs here.
//!
//! Source: cloud_controller_ng, `app/controllers/v3/service_brokers_controller.rb`, `app/jobs/v3/services/*.rb`.

use crate::{
    brokers::{Address, Failure, FailureKind, Object, Request},
    domain::{
        Access, Error, Result, Rule, Scope, Tx, audit, flags,
        metadata::MetadataChange,
        services::{
            catalog,
            operations::{self, Ended, Handler, Kind, MAX_POLLING, New, Operation, Originator, Prepared, Target},
            visibility,
        },
        taken,
    },
    store::{
        jobs::{self, Job},
        metadata::{self, Described},
        service_brokers::{self as store, Broker, KIND},
        service_offerings,
    },
};
use foundation::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Its catalog is being fetched.
pub const SYNCHRONIZING: &str = "SYNCHRONIZING";
/// Its catalog is here.
pub const AVAILABLE: &str = "AVAILABLE";
/// Its first catalog could not be had.
pub const SYNCHRONIZATION_FAILED: &str = "SYNCHRONIZATION_FAILED";
/// It is about to go.
pub const DELETE_IN_PROGRESS: &str = "DELETE_IN_PROGRESS";
/// It could not go.
pub const DELETE_FAILED: &str = "DELETE_FAILED";

/// What a new broker is to be.
#[derive(Clone, Debug)]
pub struct NewBroker {
    pub name: String,
    pub url: String,
    pub username: String,
    pub password: Secret,
    /// For a space-scoped one.
    pub space: Option<String>,
    pub metadata: MetadataChange,
    /// Everybody sees its plans.
    pub public: bool,
    /// The request with its password hidden, for the event.
    pub request: Value,
}

/// What a broker is to become.
#[derive(Clone, Debug, Default)]
pub struct BrokerChange {
    pub name: Option<String>,
    pub url: Option<String>,
    pub credentials: Option<(String, Secret)>,
    pub metadata: MetadataChange,
    /// Everybody sees its new plans.
    pub public: bool,
    /// The request with its password hidden, for the event.
    pub request: Value,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub enum Updated {
    /// It is done.
    Now(Described<Broker>),
    /// It is done when this job is.
    Job(Job),
}

/// What [`Synchronize`] keeps with its operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sync {
    /// The state that a failure leads back to.
    before: String,
    public: bool,
    /// What the broker becomes if its catalog can be had.
    name: Option<String>,
    url: Option<String>,
    credentials: Option<(String, Secret)>,
}

impl Sync {
    fn of(op: &Operation) -> Result<Self> {
        serde_json::from_value(op.data.clone()).map_err(|e| Error::internal("reading an operation", e))
    }
}

/// A broker that the caller sees: G; for that of a space also SD, SS.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<Broker> {
    let readers = tx.who.spaces_with(&store::READERS);
    let seen =
        |broker: &Broker| tx.who.global_reader() || broker.space_guid.as_ref().is_some_and(|space| readers.contains(space));
    store::find(tx.conn, guid)?.filter(seen).ok_or(Error::NotFound("Service broker"))
}

fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<Broker> {
    let broker = readable(tx, guid)?;
    Access::require(visibility::may_write(&tx.who, broker.space_guid.as_deref()))?;
    if let Some(space) = &broker.space_guid
        && let Some(scope) = Scope::find(tx, space)?
    {
        scope.check(tx, true)?;
    }
    Ok(broker)
}

/// Registers a broker (A; W in its space) and begins to fetch its catalog.
pub fn create(tx: &mut Tx<'_>, new: &NewBroker) -> Result<Job> {
    match &new.space {
        None => tx.who.require_admin()?,
        Some(space) => {
            flags::require(tx, "space_scoped_private_broker_creation")?;
            let text = "Invalid space. Ensure that the space exists and you have access to it.";
            let scope = Scope::referred(tx, space, text)?;
            scope.check(tx, scope.writes(tx))?;
        }
    }
    let guid = tx.guid();
    let broker = Broker {
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: new.name.clone(),
        url: new.url.clone(),
        username: new.username.clone(),
        password: tx.seal(&Broker::place(&guid), new.password.expose().as_bytes())?,
        space_guid: new.space.clone(),
        state: SYNCHRONIZING.to_owned(),
        guid,
    };
    taken(store::insert(tx.conn, &broker), name_taken)?;
    new.metadata.apply(tx, KIND, &broker.guid)?;
    record(tx, "audit.service_broker.create", &broker, new.request.clone())?;
    let sync = Sync { before: SYNCHRONIZATION_FAILED.to_owned(), public: new.public, ..Sync::default() };
    begin(tx, &broker, "service_broker.catalog.synchronize", &sync)
}

/// Changes a broker (A; W for that of a space). Everything but metadata holds once its catalog was fetched anew.
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &BrokerChange) -> Result<Updated> {
    let mut broker = writable(tx, guid)?;
    let only_metadata = change.name.is_none() && change.url.is_none() && change.credentials.is_none();
    if !only_metadata && (broker.state == SYNCHRONIZING || broker.state == DELETE_IN_PROGRESS) {
        return Err(Error::invalid("Cannot update a broker when other operation is already in progress"));
    }
    if let Some(name) = &change.name
        && store::find_named(tx.conn, name)?.is_some_and(|other| other.guid != guid)
    {
        return Err(name_taken());
    }
    change.metadata.apply(tx, KIND, guid)?;
    record(tx, "audit.service_broker.update", &broker, change.request.clone())?;
    broker.updated_at = tx.micros();
    if change.url.is_none() && change.credentials.is_none() {
        broker.name = change.name.clone().unwrap_or(broker.name);
        taken(store::save(tx.conn, &broker), name_taken)?;
        if only_metadata {
            return Ok(Updated::Now(metadata::describe_one(tx.conn, KIND, broker, guid)?));
        }
        // Clients expect a job for a new name too.
        return Ok(Updated::Job(jobs::done(tx, "service_broker.update", Some((KIND, guid)))?));
    }
    let sync = Sync {
        before: broker.state.clone(),
        public: change.public,
        name: change.name.clone(),
        url: change.url.clone(),
        credentials: change.credentials.clone(),
    };
    broker.state = SYNCHRONIZING.to_owned();
    store::save(tx.conn, &broker)?;
    Ok(Updated::Job(begin(tx, &broker, "service_broker.update", &sync)?))
}

fn name_taken() -> Error {
    Error::invalid("Name must be unique")
}

fn begin(tx: &mut Tx<'_>, broker: &Broker, operation: &str, sync: &Sync) -> Result<Job> {
    let new = synchronization(broker, Originator::of(tx), sync, Some((operation, (KIND, &broker.guid))))?;
    operations::begin_job(tx, new, || Error::invalid("Cannot update a broker when other operation is already in progress"))
}

fn synchronization<'a>(
    broker: &'a Broker,
    user: Option<Originator>,
    sync: &Sync,
    job: Option<(&'a str, (&'a str, &'a str))>,
) -> Result<New<'a>> {
    Ok(New {
        kind: Kind::BrokerSynchronize,
        resource: &broker.guid,
        broker: Some(&broker.guid),
        user,
        target: Target::default(),
        data: serde_json::to_value(sync).map_err(|e| Error::internal("writing an operation", e))?,
        time: MAX_POLLING,
        job,
    })
}

/// Begins to delete a broker without instances (A; W for that of a space).
///
/// # Errors
/// [`Rule::BrokerNotRemovable`] while there are instances.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let broker = writable(tx, guid)?;
    if store::in_use(tx.conn, guid)? {
        return Err(not_removable(&broker));
    }
    let (user, job) = (Originator::of(tx), Some(("service_broker.delete", (KIND, guid))));
    begin_delete(tx, &broker, user, job)?.ok_or_else(|| Error::internal("deleting a broker", "it has no job"))
}

/// Begins to delete a broker as a part of something larger, unless that is under way; the deletion of its space is woken when
/// it is gone, or told why it is not.
pub fn delete_part(tx: &mut Tx<'_>, broker: &Broker, user: Option<Originator>) -> Result<()> {
    match operations::of(tx, Kind::BrokerDelete, &broker.guid)? {
        Some(_) => Ok(()),
        None => begin_delete(tx, broker, user, None).map(drop),
    }
}

fn begin_delete(
    tx: &mut Tx<'_>,
    broker: &Broker,
    user: Option<Originator>,
    job: Option<(&str, (&str, &str))>,
) -> Result<Option<Job>> {
    let new = New {
        kind: Kind::BrokerDelete,
        resource: &broker.guid,
        broker: Some(&broker.guid),
        user,
        target: Target::default(),
        data: Value::Null,
        time: MAX_POLLING,
        job,
    };
    let busy = || Error::invalid("Cannot delete a broker when other operation is already in progress");
    let job = operations::begin(tx, new, busy)?;
    store::save(tx.conn, &Broker { state: DELETE_IN_PROGRESS.to_owned(), ..broker.clone() })?;
    Ok(job)
}

fn not_removable(broker: &Broker) -> Error {
    let text = format!("Can not remove brokers that have associated service instances: {}", broker.name);
    Error::rule(Rule::BrokerNotRemovable, text)
}

/// Removes a broker with all that it offers.
fn remove(tx: &mut Tx<'_>, broker: &Broker) -> Result<()> {
    catalog::remove_all(tx, broker)?;
    metadata::forget(tx.conn, KIND, std::slice::from_ref(&broker.guid))?;
    store::delete(tx.conn, &broker.guid)
}

fn record(tx: &mut Tx<'_>, kind: &str, broker: &Broker, request: Value) -> Result<()> {
    audit::record(tx, event(kind, broker, json!({ "request": request })))
}

fn event<'a>(kind: &'a str, broker: &'a Broker, data: Value) -> audit::Event<'a> {
    let target = ("service_broker", broker.guid.as_str(), broker.name.as_str());
    audit::Event { kind, target, space: None, org: None, data }
}

/// Fetches a broker's catalog, and takes over what it offers.
pub struct Synchronize;

impl Handler for Synchronize {
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared> {
        Ok(Prepared::Send(Request::Catalog { has_dashboards: has_dashboards(tx, op.resource())? }))
    }

    fn address(&self, op: &Operation, known: Address) -> Result<Address> {
        let sync = Sync::of(op)?;
        let (username, password) = sync.credentials.unwrap_or((known.username, known.password));
        Ok(Address { url: sync.url.unwrap_or(known.url), username, password, ..known })
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<std::result::Result<Ended, Failure>> {
        let Some(mut broker) = present(tx, op)? else { return Ok(Ok(gone())) };
        let sync = Sync::of(op)?;
        let invalid = |problems: osb::catalog::Problems| Ok(Err(invalid_catalog(&problems)));
        let fetched = match osb::catalog::validate(&Value::Object(body.clone())) {
            Ok(catalog) => catalog,
            Err(problems) => return invalid(problems),
        };
        if let Some(name) = &sync.name
            && store::find_named(tx.conn, name)?.is_some_and(|other| other.guid != broker.guid)
        {
            return Ok(Err(Failure::new(FailureKind::Platform, "Name must be unique")));
        }
        if let Some((username, password)) = &sync.credentials {
            broker.username.clone_from(username);
            broker.password = tx.seal(&Broker::place(&broker.guid), password.expose().as_bytes())?;
        }
        broker.name = sync.name.unwrap_or(broker.name);
        broker.url = sync.url.unwrap_or(broker.url);
        broker.state = AVAILABLE.to_owned();
        broker.updated_at = tx.micros();
        let warnings = match catalog::apply(tx, &broker, &fetched, sync.public)? {
            Ok(warnings) => warnings,
            Err(problems) => return invalid(problems),
        };
        store::save(tx.conn, &broker)?;
        Ok(Ok(Ended { error: None, warnings }))
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        let Some(mut broker) = present(tx, op)? else { return Ok(gone()) };
        broker.state = Sync::of(op)?.before;
        store::save(tx.conn, &broker)?;
        let text = match failure.kind {
            FailureKind::CatalogInvalid => failure.text.clone(),
            _ => op.explained(tx, failure)?,
        };
        let rule = match failure.kind {
            FailureKind::CatalogInvalid => Rule::BrokerCatalogInvalid,
            FailureKind::Dashboards => Rule::BrokerDashboardFailed,
            FailureKind::Malformed => Rule::BrokerMalformed,
            FailureKind::Rejected | FailureKind::Unauthorized | FailureKind::BadResponse => Rule::BrokerRejected,
            _ => Rule::BrokerSyncFailed,
        };
        Ok(Ended::failed(Error::rule(rule, text)))
    }
}

/// The failure of a catalog that breaks rules.
pub fn invalid_catalog(problems: &osb::catalog::Problems) -> Failure {
    Failure::new(FailureKind::CatalogInvalid, format!("Service broker catalog is invalid: {problems}"))
}

/// The broker, unless it is gone or about to go.
fn present(tx: &mut Tx<'_>, op: &Operation) -> Result<Option<Broker>> {
    Ok(store::find(tx.conn, op.resource())?.filter(|broker| broker.state != DELETE_IN_PROGRESS))
}

fn gone() -> Ended {
    Ended::failed(Error::rule(Rule::BrokerGone, "The service broker was removed before the synchronization completed"))
}

/// Removes a broker, and the clients of its dashboards.
pub struct Delete;

impl Handler for Delete {
    fn prepare(&self, _: &mut Tx<'_>, _: &mut Operation) -> Result<Prepared> {
        // Also where none is known: what was interrupted may have left some.
        Ok(Prepared::Send(Request::ForgetDashboards))
    }

    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, _: &Object) -> Result<std::result::Result<Ended, Failure>> {
        finish(tx, op).map(Ok)
    }

    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended> {
        if !has_dashboards(tx, op.resource())? {
            return finish(tx, op);
        }
        let text = op.explained(tx, failure)?;
        stay(tx, op, Error::rule(Rule::BrokerDashboardFailed, text))
    }
}

fn has_dashboards(tx: &mut Tx<'_>, broker: &str) -> Result<bool> {
    let offerings = service_offerings::of_broker(tx.conn, broker)?;
    Ok(offerings.iter().any(|offering| offering.dashboard_client_id.is_some()))
}

fn finish(tx: &mut Tx<'_>, op: &Operation) -> Result<Ended> {
    let Some(broker) = store::find(tx.conn, op.resource())? else { return Ok(Ended::well()) };
    if store::in_use(tx.conn, &broker.guid)? {
        return stay(tx, op, not_removable(&broker));
    }
    remove(tx, &broker)?;
    op.record(tx, event("audit.service_broker.delete", &broker, json!({ "request": {} })))?;
    tell_space(tx, &broker, None)?;
    Ok(Ended::well())
}

fn stay(tx: &mut Tx<'_>, op: &Operation, why: Error) -> Result<Ended> {
    if let Some(broker) = store::find(tx.conn, op.resource())? {
        tell_space(tx, &broker, Some(&why))?;
        store::save(tx.conn, &Broker { state: DELETE_FAILED.to_owned(), ..broker })?;
    }
    Ok(Ended::failed(why))
}

/// Has the deletion of a broker's space, if there is one, go on.
fn tell_space(tx: &mut Tx<'_>, broker: &Broker, why: Option<&Error>) -> Result<()> {
    let Some(space) = &broker.space_guid else { return Ok(()) };
    if let Some(why) = why
        && let Some(mut parent) = operations::of(tx, Kind::SpaceDelete, space)?
    {
        parent.data["failed"][&broker.guid] = why.to_string().into();
        parent.save(tx)?;
    }
    operations::wake(tx, Kind::SpaceDelete, space)
}

/// A broker of the platform's own.
#[derive(Clone, Debug)]
pub struct Own {
    pub name: String,
    pub url: String,
    pub username: String,
    pub password: Secret,
}

/// Whether the catalog of one of our own brokers is here, fetched since `since` (microseconds).
pub fn is_kept(broker: &Broker, since: i64) -> bool {
    broker.space_guid.is_some() || (broker.state == AVAILABLE && broker.updated_at >= since)
}

/// Begins to fetch the catalog of one of our own brokers, unless that is under way; registers it when it is not known.
///
/// New plans are for everybody. There is no job and no event where nothing is new: it is tried until the broker answers.
pub fn keep(tx: &mut Tx<'_>, own: &Own) -> Result<()> {
    let Some(mut broker) = store::find_named(tx.conn, &own.name)? else {
        let new = NewBroker {
            name: own.name.clone(),
            url: own.url.clone(),
            username: own.username.clone(),
            password: own.password.clone(),
            space: None,
            metadata: MetadataChange::default(),
            public: true,
            request: json!({ "name": own.name, "url": own.url }),
        };
        return create(tx, &new).map(drop);
    };
    if broker.space_guid.is_some() || broker.state == SYNCHRONIZING || broker.state == DELETE_IN_PROGRESS {
        return Ok(());
    }
    let sync = Sync {
        before: broker.state.clone(),
        public: true,
        name: None,
        url: Some(own.url.clone()),
        credentials: Some((own.username.clone(), own.password.clone())),
    };
    let busy = || Error::invalid("Cannot update a broker when other operation is already in progress");
    operations::begin(tx, synchronization(&broker, None, &sync, None)?, busy)?;
    broker.state = SYNCHRONIZING.to_owned();
    Ok(store::save(tx.conn, &broker)?)
}
