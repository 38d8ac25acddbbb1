//! The engine of work at brokers, as far as it decides; `reconcile::operations` is its shell.
//!
//! One row in `service_operations` for each piece of work under way, written by [`begin`] in the transaction of the request
//! that asks for it. Its guid is that of its job, and the id under which every repeat goes to the broker: provisioning,
//! binding and deleting are idempotent at brokers, so a call in doubt (we were killed, the answer was lost) is sent again.
//!
//! Life of an operation:
//! 1. **call**: [`Handler::prepare`] says what to send, to wait for others, or that it has ended.
//! 2. The answer is judged by [`decide`], which knows neither table nor socket; [`settle`] carries out what it says:
//!    [`Handler::accepted`] once the broker works on it (the job is POLLING then), **poll** until it ended, **fetch** where
//!    [`Handler::fetches`], and in the end [`Handler::succeeded`] or [`Handler::failed`], whose result becomes the job's.
//! 3. The row is gone. Where something may be left over at the broker, an orphan operation follows ([`Handler::orphan`]).
//!
//! A new kind is a line in `kinds!` and a [`Handler`]. Operations that only gather others (deleting a space) have no broker,
//! begin their parts in `prepare` and answer [`Prepared::Wait`] until all have ended; the end of a part calls [`wake`].
//! All functions of handlers run inside a transaction, in the name of whoever asked for the operation (events name them), and
//! may run several times.

pub use super::decision::polling_time;

use crate::{
    brokers::{Address, Call, Failure, FailureKind, Object, OfInstance, Reply, Request},
    domain::{
        Access, Caller, Error, Hint, Result, Rule, Tx, audit,
        services::decision::{Decision, Facts, decide},
        taken,
    },
    store::{
        jobs::{self, Job},
        service_brokers::{self, Broker},
        service_operations::{self as store, Operation as Row},
    },
};
use foundation::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use types::Timestamp;

/// How long work may take that is not done by a broker alone, and tries to remove an orphan.
pub const MAX_POLLING: Duration = Duration::from_secs(7 * 86_400);
/// How long an operation that waits for others sleeps, if nobody wakes it.
const WAIT: Duration = Duration::from_secs(10);
/// How long an operation is left alone that only a newer controller understands.
const UNKNOWN: Duration = Duration::from_secs(60);
/// How long a worker has an operation without renewing.
pub const LEASE: Duration = Duration::from_secs(15);
/// A paused operation sleeps until it is woken.
const PAUSED: i64 = i64::MAX;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $handler:expr,)*) => {
        /// Kinds of work.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// As the table has it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// Reads the table's word; none for those of a newer version.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
            fn handler(self) -> &'static dyn Handler {
                match self { $(Self::$name => $handler,)* }
            }
        }
    };
}

kinds! {
    /// An app with bindings is to go.
    AppDelete = "app.delete" => &super::owners::Owner { app: true },
    /// A backup is to be made.
    BackupCreate = "backup.create" => &super::backups::OfInstance,
    /// A backup is to be removed.
    BackupDelete = "backup.delete" => &super::backups::OfInstance,
    /// An instance is to have the data of a backup.
    BackupRestore = "backup.restore" => &super::backups::OfInstance,
    /// A binding is to be made.
    BindingCreate = "binding.create" => &super::binding_work::Create,
    /// A binding is to be removed.
    BindingDelete = "binding.delete" => &super::binding_work::Delete,
    /// An instance is to be made.
    InstanceCreate = "instance.create" => &super::provisioning::Create,
    /// An instance is to be removed, with its bindings.
    InstanceDelete = "instance.delete" => &super::provisioning::Delete,
    /// An instance is to be changed.
    InstanceUpdate = "instance.update" => &super::provisioning::Update,
    /// An organization with services is to go.
    OrgDelete = "organization.delete" => &super::teardown::OfOrg,
    /// A broker's catalog is fetched.
    BrokerSynchronize = "broker.synchronize" => &super::brokers::Synchronize,
    /// A broker goes.
    BrokerDelete = "broker.delete" => &super::brokers::Delete,
    /// Something may be left over of a provision that failed.
    OrphanInstance = "orphan.instance" => &super::mitigation::Orphan,
    /// Something may be left over of a bind that failed.
    OrphanBinding = "orphan.binding" => &super::mitigation::Orphan,
    /// Something may be left over of a backup that failed.
    OrphanBackup = "orphan.backup" => &super::mitigation::Orphan,
    /// A route with a service is to go.
    RouteDelete = "route.delete" => &super::owners::Owner { app: false },
    /// A space with services is to go.
    SpaceDelete = "space.delete" => &super::teardown::OfSpace,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The broker is still to be asked, or the answer was lost.
    Call,
    /// The broker works on it.
    Poll,
    /// The broker is done; what it made is still to be fetched.
    Fetch,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Poll => "poll",
            Self::Fetch => "fetch",
        }
    }
    fn parse(text: &str) -> Option<Self> {
        [Self::Call, Self::Poll, Self::Fetch].into_iter().find(|step| step.as_str() == text)
    }
}

/// Who asked for an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Originator {
    pub guid: String,
    /// As audit events show them.
    pub name: String,
}

impl Originator {
    /// The caller of this transaction; none for the platform itself.
    pub fn of(tx: &Tx<'_>) -> Option<Self> {
        let caller = &tx.who.caller;
        let name = caller.email.as_deref().unwrap_or(&caller.name).to_owned();
        (!caller.is_system()).then(|| Self { guid: caller.guid.clone(), name })
    }
}

/// What an operation is about, in the words of brokers and of people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Our id of the instance.
    pub instance: String,
    /// Our id of the binding, where it is about one.
    pub binding: Option<String>,
    /// The offering's id in the broker's catalog.
    pub service_id: String,
    /// The plan's id in the broker's catalog; while it changes, the old one.
    pub plan_id: String,
    /// For texts.
    pub plan_name: String,
}

impl Target {
    /// As requests have it.
    pub fn of_instance(&self) -> OfInstance {
        OfInstance { instance: self.instance.clone(), service_id: self.service_id.clone(), plan_id: self.plan_id.clone() }
    }
}

/// What the sealed payload holds.
#[derive(Serialize, Deserialize)]
struct Payload {
    user: Option<Originator>,
    target: Target,
    data: Value,
}

/// Work that is to be begun.
#[derive(Clone, Debug)]
pub struct New<'a> {
    pub kind: Kind,
    /// What it is about: with `kind`, unique among what is under way.
    pub resource: &'a str,
    /// Whom it asks.
    pub broker: Option<&'a str>,
    /// Whose request it is: [`Originator::of`], or that of the operation which this one is a part of.
    pub user: Option<Originator>,
    pub target: Target,
    /// What its handler needs, also when the resource is gone. Sealed in the table.
    pub data: Value,
    /// How long the broker may work on it: [`polling_time`].
    pub time: Duration,
    /// `service_instance.create` and the resource that the job points to; none: it has no job.
    pub job: Option<(&'a str, (&'a str, &'a str))>,
}

/// Work under way.
#[derive(Clone, Debug)]
pub struct Operation {
    pub kind: Kind,
    pub step: Step,
    pub user: Option<Originator>,
    pub target: Target,
    /// What [`New::data`] was.
    pub data: Value,
    /// The row; its step is that of `step` once saved.
    row: Row,
}

impl Operation {
    /// Its id, that of its job, and that under which every repeat goes to the broker.
    pub fn guid(&self) -> &str {
        &self.row.guid
    }
    /// What it is about.
    pub fn resource(&self) -> &str {
        &self.row.resource_guid
    }
    /// When it began; what ended later than this ended because of it.
    pub fn began(&self) -> i64 {
        self.row.created_at
    }
    /// Whom it asks.
    pub fn broker(&self) -> Option<&str> {
        self.row.broker_guid.as_deref()
    }

    fn read(tx: &Tx<'_>, row: Row) -> Result<Option<Self>> {
        let (Some(kind), Some(step)) = (Kind::parse(&row.kind), Step::parse(&row.step)) else { return Ok(None) };
        let opened = tx.open(&Row::place(&row.guid), &row.payload)?;
        let payload: Payload = serde_json::from_slice(&opened).map_err(|e| Error::internal("reading an operation", e))?;
        Ok(Some(Self { kind, step, user: payload.user, target: payload.target, data: payload.data, row }))
    }

    /// Writes it, with what was changed in `data`.
    pub fn save(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let payload = Payload { user: self.user.clone(), target: self.target.clone(), data: self.data.clone() };
        let plain = serde_json::to_vec(&payload).map_err(|e| Error::internal("writing an operation", e))?;
        self.row.payload = tx.seal(&Row::place(&self.row.guid), &plain)?;
        self.row.step = self.step.as_str().to_owned();
        self.row.updated_at = tx.micros();
        Ok(store::save(tx.conn, &self.row)?)
    }

    /// Writes an event of who asked for this.
    pub fn record(&self, tx: &mut Tx<'_>, event: audit::Event<'_>) -> Result<()> {
        match &self.user {
            Some(user) => audit::record_as(tx, audit::Actor { kind: "user", guid: &user.guid, name: &user.name }, event),
            None => audit::record_as(tx, audit::Actor { kind: "system", guid: "system", name: "system" }, event),
        }
    }

    /// The job's error for a failure at the broker: "`verb` could not be completed: ...", with all that helps to find it.
    pub fn unable(&self, tx: &mut Tx<'_>, verb: &str, failure: &Failure) -> Result<Error> {
        if failure.kind == FailureKind::Overdue {
            return Ok(Error::rule(Rule::JobTimeout, "The job execution has timed out."));
        }
        let text = self.explained(tx, failure)?;
        Ok(Error::rule(Rule::UnableToPerform, format!("{verb} could not be completed: {text}")))
    }

    /// What the broker said, then who said it: broker, plan, status and the id of the request.
    pub fn explained(&self, tx: &mut Tx<'_>, failure: &Failure) -> Result<String> {
        // Failures of calls say it themselves.
        if failure.text.contains(self.guid()) {
            return Ok(failure.text.clone());
        }
        let mut origin = vec![];
        if let Some(broker) = self.broker()
            && let Some(broker) = service_brokers::find(tx.conn, broker)?
        {
            origin.push(format!("service broker '{}'", broker.name));
        }
        if !self.target.plan_name.is_empty() {
            origin.push(format!("plan '{}'", self.target.plan_name));
        }
        origin.extend(failure.status.map(|status| format!("HTTP status {status}")));
        origin.push(format!("request id {}", self.guid()));
        Ok(format!("{} ({})", failure.text, origin.join(", ")))
    }
}

/// What an operation is to do next.
pub enum Prepared {
    /// Send this.
    Send(Request),
    /// Others must end first: they [`wake`] it.
    Wait,
    /// There is nothing to send.
    End(Ended),
}

/// How an operation ended, for its job.
#[derive(Debug, Default)]
pub struct Ended {
    /// Why it failed.
    pub error: Option<Error>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Ended {
    /// Well.
    pub fn well() -> Self {
        Self::default()
    }
    /// Not well.
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), warnings: vec![] }
    }
}

/// What is particular to a kind of work. Everything runs inside a transaction, and may run several times.
///
/// The resource of an operation may be gone when a method is called (it was purged): that is never an error.
pub trait Handler: Sync {
    /// What to send. Called again for every repeat: the same operation must send the same.
    ///
    /// An [`Error::Internal`], `Unavailable` or `Contention` has it tried again later; every other error ends the operation as
    /// [`Handler::failed`] with its text.
    fn prepare(&self, tx: &mut Tx<'_>, op: &mut Operation) -> Result<Prepared>;
    /// Where to send it, where that is not what is known of the broker.
    fn address(&self, _op: &Operation, known: Address) -> Result<Address> {
        Ok(known)
    }
    /// The broker works on it (202); the job is POLLING from now on.
    fn accepted(&self, _tx: &mut Tx<'_>, _op: &mut Operation, _body: &Object) -> Result<()> {
        Ok(())
    }
    /// The broker still works on it, and says this.
    fn progress(&self, _tx: &mut Tx<'_>, _op: &mut Operation, _description: Option<&str>) -> Result<()> {
        Ok(())
    }
    /// True when what the broker made must be fetched after it worked on it for a while.
    fn fetches(&self, _tx: &mut Tx<'_>, _op: &Operation) -> Result<bool> {
        Ok(false)
    }
    /// It is done. `body`: the answer's; after a fetch, what was fetched; after polling alone, the last operation.
    ///
    /// `Err` with a [`Failure`] when the answer breaks the contract: the operation failed then after all.
    fn succeeded(&self, tx: &mut Tx<'_>, op: &mut Operation, body: &Object) -> Result<std::result::Result<Ended, Failure>>;
    /// True where the call that failed is to be sent once more, at once, as [`Handler::prepare`] says from now on.
    fn retries(&self, _tx: &mut Tx<'_>, _op: &mut Operation, _failure: &Failure) -> Result<bool> {
        Ok(false)
    }
    /// It failed.
    fn failed(&self, tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure) -> Result<Ended>;
    /// The kind of work that removes what may be left over of it.
    fn orphan(&self) -> Option<Kind> {
        None
    }
    /// True where an ended poll means that something is gone: 410 is success then.
    fn deletes(&self) -> bool {
        false
    }
    /// True where a fetch that fails does no harm.
    fn fetch_may_fail(&self) -> bool {
        false
    }
}

/// Writes work that is to be begun, and its job.
///
/// # Errors
/// `in_progress` when work of this kind is under way for this resource.
pub fn begin(tx: &mut Tx<'_>, new: New<'_>, in_progress: impl FnOnce() -> Error) -> Result<Option<Job>> {
    let job = match new.job {
        Some((operation, resource)) => Some(jobs::begin(tx, operation, Some(resource), None)?),
        None => None,
    };
    let guid = job.as_ref().map_or_else(|| tx.guid(), |job| job.guid.clone());
    insert(tx, guid, new, in_progress)?;
    Ok(job)
}

/// As [`begin`], for work that must have a job.
pub fn begin_job(tx: &mut Tx<'_>, new: New<'_>, in_progress: impl FnOnce() -> Error) -> Result<Job> {
    begin(tx, new, in_progress)?.ok_or_else(|| Error::internal("beginning work", "it has no job"))
}

fn insert(tx: &mut Tx<'_>, guid: String, new: New<'_>, in_progress: impl FnOnce() -> Error) -> Result<()> {
    let payload = Payload { user: new.user, target: new.target, data: new.data };
    let plain = serde_json::to_vec(&payload).map_err(|e| Error::internal("writing an operation", e))?;
    let row = Row {
        payload: tx.seal(&Row::place(&guid), &plain)?,
        guid,
        created_at: tx.micros(),
        updated_at: tx.micros(),
        kind: new.kind.as_str().to_owned(),
        step: Step::Call.as_str().to_owned(),
        resource_guid: new.resource.to_owned(),
        user_guid: payload.user.map(|user| user.guid),
        broker_operation: None,
        attempts: 0,
        next_at: tx.micros(),
        deadline_at: micros(tx.now + new.time),
        lease_until: 0,
        broker_guid: new.broker.map(str::to_owned),
        lease_owner: None,
    };
    if store::find_of(tx.conn, &row.kind, &row.resource_guid)?.is_some() {
        return Err(in_progress());
    }
    taken(store::insert(tx.conn, &row), in_progress)?;
    tx.hint(Hint::Operations);
    Ok(())
}

/// The work of this kind that is under way for a resource.
pub fn of(tx: &mut Tx<'_>, kind: Kind, resource: &str) -> Result<Option<Operation>> {
    match store::find_of(tx.conn, kind.as_str(), resource)? {
        Some(row) => Operation::read(tx, row),
        None => Ok(None),
    }
}

/// Has an operation looked at now, if there is one.
pub fn wake(tx: &mut Tx<'_>, kind: Kind, resource: &str) -> Result<()> {
    let now = tx.micros();
    if store::wake(tx.conn, kind.as_str(), resource, now)? {
        tx.hint(Hint::Operations);
    }
    Ok(())
}

/// Lets an operation sleep until it is woken.
pub fn pause(tx: &mut Tx<'_>, op: &mut Operation) -> Result<()> {
    op.row.next_at = PAUSED;
    op.save(tx)
}

/// Forgets an operation without asking its broker any more; its job fails with `why`, unless it is done.
pub fn cancel(tx: &mut Tx<'_>, op: &Operation, why: &Error) -> Result<()> {
    store::delete(tx.conn, op.guid())?;
    jobs::fail(tx, op.guid(), why)
}

/// Forgets an operation whose aim was reached by other means; its job is done.
pub fn complete(tx: &mut Tx<'_>, op: &Operation) -> Result<()> {
    store::delete(tx.conn, op.guid())?;
    jobs::complete(tx, op.guid(), &[])
}

/// Lets what follows be done in the name of whoever asked for the operation, with all rights: they were checked when it began.
fn act_for(tx: &mut Tx<'_>, op: &Operation) {
    let caller = match &op.user {
        Some(user) => Caller { guid: user.guid.clone(), name: user.name.clone(), ..Caller::system() },
        None => Caller::system(),
    };
    tx.who = Arc::new(Access::unlimited(caller));
}

/// What a worker got.
pub enum Taken {
    /// Nothing: another worker has it, or it is gone, or waits.
    Nothing,
    /// It ended without a request.
    Ended,
    /// A request to send; [`settle`] wants it back with the answer.
    Send(Box<Operation>, Box<Call>),
}

/// Takes an operation that is due for `owner`.
pub fn take(tx: &mut Tx<'_>, guid: &str, owner: &str) -> Result<Taken> {
    let now = tx.micros();
    let Some(mut row) = store::find(tx.conn, guid)?.filter(|row| row.next_at <= now && row.lease_until <= now) else {
        return Ok(Taken::Nothing);
    };
    row.lease_owner = Some(owner.to_owned());
    row.lease_until = micros(tx.now + LEASE);
    let Some(mut op) = Operation::read(tx, row)? else {
        // A newer controller wrote it; it may be back.
        store::postpone(tx.conn, guid, owner, micros(tx.now + UNKNOWN))?;
        return Ok(Taken::Nothing);
    };
    act_for(tx, &op);
    let handler = op.kind.handler();
    let request = match op.step {
        Step::Call => match handler.prepare(tx, &mut op) {
            Ok(Prepared::Send(request)) => request,
            Ok(Prepared::Wait) => {
                op.row.next_at = micros(tx.now + WAIT);
                release(tx, &mut op)?;
                return Ok(Taken::Nothing);
            }
            Ok(Prepared::End(ended)) => {
                end(tx, &op, ended)?;
                return Ok(Taken::Ended);
            }
            Err(e @ (Error::Internal(..) | Error::Unavailable(..) | Error::Contention(_))) => return Err(e),
            Err(why) => {
                fail(tx, &mut op, &Failure::new(FailureKind::Platform, why.to_string()), false)?;
                return Ok(Taken::Ended);
            }
        },
        Step::Poll => poll_request(&op),
        Step::Fetch => match &op.target.binding {
            Some(binding) => Request::FetchBinding { of: op.target.of_instance(), binding: binding.clone() },
            None => Request::FetchInstance(op.target.of_instance()),
        },
    };
    let Some(broker) = op.broker().map(|guid| service_brokers::find(tx.conn, guid)).transpose()?.flatten() else {
        fail(tx, &mut op, &Failure::new(FailureKind::Platform, "The service broker is gone."), false)?;
        return Ok(Taken::Ended);
    };
    let broker = handler.address(&op, address(tx, broker)?)?;
    op.save(tx)?;
    let user = op.user.as_ref().map(|user| user.guid.clone());
    let plan = Some(op.target.plan_name.clone()).filter(|name| !name.is_empty());
    let call = Call { broker, id: op.guid().to_owned(), user, plan, request };
    Ok(Taken::Send(Box::new(op), Box::new(call)))
}

fn poll_request(op: &Operation) -> Request {
    let (of, operation, deleting) = (op.target.of_instance(), op.row.broker_operation.clone(), op.kind.handler().deletes());
    match &op.target.binding {
        Some(binding) => Request::PollBinding { of, binding: binding.clone(), operation, deleting },
        None => Request::PollInstance { of, operation, deleting },
    }
}

/// Where a broker is, with its password opened.
pub fn address(tx: &Tx<'_>, broker: Broker) -> Result<Address> {
    let password = tx.open(&Broker::place(&broker.guid), &broker.password)?;
    let password = String::from_utf8(password).map_err(|e| Error::internal("a broker's password", e))?;
    Ok(Address {
        guid: broker.guid,
        name: broker.name,
        url: broker.url,
        username: broker.username,
        password: Secret::new(password),
    })
}

/// Carries out what follows from a reply; false: somebody else has the operation by now. `true`: its job ended or moved on.
pub fn settle(tx: &mut Tx<'_>, mut op: Operation, owner: &str, reply: Reply) -> Result<bool> {
    // It may have been cancelled, purged, or taken over by another worker because ours was asleep.
    let Some(row) = store::find(tx.conn, op.guid())?.filter(|row| row.lease_owner.as_deref() == Some(owner)) else {
        return Ok(false);
    };
    op.row = Row { lease_until: 0, lease_owner: None, ..row };
    act_for(tx, &op);
    let handler = op.kind.handler();
    let facts = Facts {
        step: op.step,
        attempts: op.row.attempts,
        began: moment(op.row.created_at),
        deadline: moment(op.row.deadline_at),
        orphan: matches!(op.kind, Kind::OrphanInstance | Kind::OrphanBinding | Kind::OrphanBackup),
        fetch_may_fail: handler.fetch_may_fail(),
    };
    match decide(&facts, reply, tx.now) {
        Decision::Polled(_) if handler.fetches(tx, &op)? => {
            op.step = Step::Fetch;
            op.row.next_at = tx.micros();
            release(tx, &mut op)?;
            tx.hint(Hint::Operations);
            return Ok(false);
        }
        Decision::Succeed(body) | Decision::Polled(body) => match handler.succeeded(tx, &mut op, &body)? {
            Ok(ended) => end(tx, &op, ended)?,
            Err(failure) => {
                let mitigate = failure.orphan;
                fail(tx, &mut op, &failure, mitigate)?;
            }
        },
        Decision::Accept { operation, body, poll_at } => {
            op.step = Step::Poll;
            op.row.broker_operation = operation;
            op.row.next_at = micros(poll_at);
            handler.accepted(tx, &mut op, &body)?;
            jobs::poll(tx, op.guid())?;
            release(tx, &mut op)?;
        }
        Decision::PollAgain { description, at } => {
            // A paused operation stays paused.
            op.row.next_at = if op.row.next_at == PAUSED { PAUSED } else { micros(at) };
            handler.progress(tx, &mut op, description.as_deref())?;
            release(tx, &mut op)?;
            return Ok(false);
        }
        Decision::Retry { at } => {
            op.step = Step::Call;
            op.row.attempts += 1;
            op.row.broker_operation = None;
            op.row.next_at = micros(at);
            op.row.deadline_at = micros(at + MAX_POLLING);
            release(tx, &mut op)?;
            return Ok(false);
        }
        Decision::Fail { failure, .. } if op.step == Step::Call && handler.retries(tx, &mut op, &failure)? => {
            op.row.next_at = tx.micros();
            release(tx, &mut op)?;
            tx.hint(Hint::Operations);
            return Ok(false);
        }
        Decision::Fail { failure, mitigate } => fail(tx, &mut op, &failure, mitigate)?,
    }
    Ok(true)
}

/// Gives an operation back after something of ours went wrong: it is tried again later.
pub fn postpone(tx: &mut Tx<'_>, guid: &str, owner: &str, wait: Duration) -> Result<()> {
    store::postpone(tx.conn, guid, owner, micros(tx.now + wait))
}

fn release(tx: &mut Tx<'_>, op: &mut Operation) -> Result<()> {
    op.row.lease_until = 0;
    op.row.lease_owner = None;
    op.save(tx)
}

fn fail(tx: &mut Tx<'_>, op: &mut Operation, failure: &Failure, mitigate: bool) -> Result<()> {
    let handler = op.kind.handler();
    let ended = handler.failed(tx, op, failure)?;
    end(tx, op, ended)?;
    if let Some(kind) = handler.orphan().filter(|_| mitigate) {
        super::mitigation::begin(tx, kind, op.broker(), &op.target)?;
    }
    Ok(())
}

fn end(tx: &mut Tx<'_>, op: &Operation, ended: Ended) -> Result<()> {
    store::delete(tx.conn, op.guid())?;
    // Without a job, these change nothing.
    match ended.error {
        Some(why) => jobs::fail(tx, op.guid(), &why),
        None => jobs::complete(tx, op.guid(), &ended.warnings),
    }
}

fn micros(moment: Timestamp) -> i64 {
    crate::domain::micros(moment)
}
fn moment(micros: i64) -> Timestamp {
    Timestamp(micros.unsigned_abs())
}
