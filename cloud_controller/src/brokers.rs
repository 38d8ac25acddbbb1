//! What the service asks of brokers, and what comes back.
//!
//! A [`Call`] is one request with everything that it needs; a [`Reply`] says what came of it, already judged: what counts as
//! success, whether the broker may have made something after all, and the words that the user reads.

use async_trait::async_trait;
use foundation::Secret;
use serde_json::{Map, Value};
use std::{fmt, time::Duration};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Sends requests to brokers.
#[async_trait]
pub trait Brokers: Send + Sync + 'static {
    /// Sends one request and waits for its answer, at most for the client's own time limit.
    async fn call(&self, call: Call) -> Reply;
}

/// Where a broker is, and how to be let in.
#[derive(Clone, Debug)]
pub struct Address {
    /// Our id of it.
    pub guid: String,
    /// Its name, for texts.
    pub name: String,
    /// Without `/v2/...`.
    pub url: String,
    /// Basic authentication.
    pub username: String,
    /// Basic authentication.
    pub password: Secret,
}

/// One request to a broker.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which broker.
    pub broker: Address,
    /// `X-Broker-API-Request-Identity`: the same for every repeat of one operation.
    pub id: String,
    /// Whose request it is; none for what nobody asked for.
    pub user: Option<String>,
    /// The plan's name, for texts.
    pub plan: Option<String>,
    /// What is asked.
    pub request: Request,
}

/// An instance, and what brokers want to be told with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfInstance {
    /// Our id of the instance.
    pub instance: String,
    /// The offering's id in the broker's catalog.
    pub service_id: String,
    /// The plan's id in the broker's catalog.
    pub plan_id: String,
}

/// What is asked of a broker. Bodies are complete; they go out as they are.
#[derive(Clone)]
pub enum Request {
    /// `GET /v2/catalog`; also brings the clients of its dashboards to UAA.
    Catalog {
        /// It has had some.
        has_dashboards: bool,
    },
    /// Nothing of the broker: removes the clients of its dashboards from UAA.
    ForgetDashboards,
    /// `PUT /v2/service_instances/:instance`
    Provision {
        /// Our id of the instance.
        instance: String,
        /// The body.
        body: Value,
    },
    /// `PATCH /v2/service_instances/:instance`
    Update {
        /// Our id of the instance.
        instance: String,
        /// The body.
        body: Value,
    },
    /// `DELETE /v2/service_instances/:instance`
    Deprovision(OfInstance),
    /// `GET /v2/service_instances/:instance`
    FetchInstance(OfInstance),
    /// `GET /v2/service_instances/:instance/last_operation`
    PollInstance {
        /// The instance.
        of: OfInstance,
        /// What the broker wants to be asked with.
        operation: Option<String>,
        /// True when a deletion is polled: then 410 is success.
        deleting: bool,
    },
    /// `PUT /v2/service_instances/:instance/service_bindings/:binding`
    Bind {
        /// Our id of the instance.
        instance: String,
        /// Our id of the binding.
        binding: String,
        /// The body.
        body: Value,
        /// False: the broker must finish at once.
        accepts_incomplete: bool,
    },
    /// `DELETE /v2/service_instances/:instance/service_bindings/:binding`
    Unbind {
        /// The instance.
        of: OfInstance,
        /// Our id of the binding.
        binding: String,
    },
    /// `GET /v2/service_instances/:instance/service_bindings/:binding`
    FetchBinding {
        /// The instance.
        of: OfInstance,
        /// Our id of the binding.
        binding: String,
    },
    /// `GET /v2/service_instances/:instance/service_bindings/:binding/last_operation`
    PollBinding {
        /// The instance.
        of: OfInstance,
        /// Our id of the binding.
        binding: String,
        /// What the broker wants to be asked with.
        operation: Option<String>,
        /// True when a deletion is polled: then 410 is success.
        deleting: bool,
    },
    /// `GET /v2/service_instances/:instance/backups`: our extension.
    ListBackups {
        /// Our id of the instance.
        instance: String,
    },
    /// `POST /v2/service_instances/:instance/backups`: our extension.
    CreateBackup {
        /// Our id of the instance.
        instance: String,
        /// Our id of the backup.
        backup: String,
    },
    /// `DELETE /v2/service_instances/:instance/backups/:backup`: our extension.
    DeleteBackup {
        /// Our id of the instance.
        instance: String,
        /// Our id of the backup.
        backup: String,
    },
    /// `POST /v2/service_instances/:instance/restore`: our extension.
    Restore {
        /// Our id of the instance.
        instance: String,
        /// Our id of the backup.
        backup: String,
    },
}

impl fmt::Debug for Request {
    /// Bodies may hold passwords: only what is asked of what shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Catalog { .. } => f.write_str("catalog"),
            Self::ForgetDashboards => f.write_str("forget dashboards"),
            Self::Provision { instance, .. } => write!(f, "provision {instance}"),
            Self::Update { instance, .. } => write!(f, "update {instance}"),
            Self::ListBackups { instance } => write!(f, "list backups of {instance}"),
            Self::CreateBackup { instance, backup } => write!(f, "make backup {backup} of {instance}"),
            Self::DeleteBackup { instance, backup } => write!(f, "delete backup {backup} of {instance}"),
            Self::Restore { instance, backup } => write!(f, "restore backup {backup} of {instance}"),
            Self::Deprovision(of) => write!(f, "deprovision {}", of.instance),
            Self::FetchInstance(of) => write!(f, "fetch {}", of.instance),
            Self::PollInstance { of, .. } => write!(f, "poll {}", of.instance),
            Self::Bind { instance, binding, .. } => write!(f, "bind {binding} of {instance}"),
            Self::Unbind { of, binding } => write!(f, "unbind {binding} of {}", of.instance),
            Self::FetchBinding { of, binding } => write!(f, "fetch {binding} of {}", of.instance),
            Self::PollBinding { of, binding, .. } => write!(f, "poll {binding} of {}", of.instance),
        }
    }
}

/// What came of a request.
#[derive(Clone)]
pub enum Reply {
    /// It is done: 200, 201; 410 to a deletion; a last operation that succeeded. With the body.
    Done(Object),
    /// 202: the broker works on it.
    Accepted {
        /// What it wants to be asked with.
        operation: Option<String>,
        /// The body.
        body: Object,
        /// When to ask first.
        retry_after: Option<Duration>,
    },
    /// A last operation that has not ended.
    InProgress {
        /// For the user.
        description: Option<String>,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// No success.
    Failed(Failure),
}

/// Why a request had no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind it is.
    pub kind: FailureKind,
    /// As the user reads it; has what the broker said, word for word.
    pub text: String,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// True when the broker may have made what was asked for all the same.
    pub orphan: bool,
    /// False: the broker says that the instance does not work any more.
    pub instance_usable: Option<bool>,
    /// False: the broker says that asking for the same change again does not help.
    pub update_repeatable: Option<bool>,
    /// When to ask again, if the broker said so.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure, as far as somebody does something else about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: nothing was sent.
    Unreachable,
    /// The broker did not answer in time, or said 408.
    Timeout,
    /// 401
    Unauthorized,
    /// 409
    Conflict,
    /// 410 where it is not success.
    Gone,
    /// 422 `AsyncRequired`
    AsyncRequired,
    /// 422 `ConcurrencyError`
    Concurrency,
    /// 422 `RequiresApp`
    RequiresApp,
    /// 422 `MaintenanceInfoConflict`
    MaintenanceInfo,
    /// Another 4xx.
    Rejected,
    /// Another status that the contract does not have there.
    BadResponse,
    /// A body that is not what it should be.
    Malformed,
    /// A last operation that failed.
    OperationFailed,
    /// An operation that did not end in its time.
    Overdue,
    /// A catalog that breaks rules; the text is complete.
    CatalogInvalid,
    /// UAA does not take the clients of dashboards.
    Dashboards,
    /// The platform itself could not go on with it.
    Platform,
}

impl Failure {
    /// One that says only what it is and how to call it.
    pub fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            status: None,
            orphan: false,
            instance_usable: None,
            update_repeatable: None,
            retry_after: None,
        }
    }
}
