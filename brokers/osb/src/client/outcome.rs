//! What a call may come to.

use std::{fmt, time::Duration};

/// What a change came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    /// It is done.
    Done(T),
    /// It was begun: poll.
    Accepted {
        /// To be sent along with each poll.
        operation: Option<String>,
        /// How long to wait before the first one.
        retry_after: Option<Duration>,
        /// The rest of the answer: an instance's dashboard is there already.
        body: T,
    },
    /// There is nothing: the success of a delete that was repeated.
    Gone,
    /// It did not happen, or nobody knows.
    Failed(Failure),
}

/// What a poll came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Poll {
    /// Ask again.
    InProgress {
        /// For the user.
        description: Option<String>,
        /// How long to wait.
        retry_after: Option<Duration>,
    },
    /// It is done.
    Succeeded {
        /// For the user.
        description: Option<String>,
    },
    /// It has ended without success.
    Failed {
        /// For the user, word for word.
        description: Option<String>,
        /// Whether the instance still works.
        instance_usable: bool,
        /// Whether trying again may help.
        update_repeatable: bool,
    },
    /// What was to be deleted is not there: success.
    Gone,
    /// No answer that says anything: ask again, until the operation has had its time.
    Unclear(Failure),
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The broker's status, if there was an answer.
    pub status: Option<u16>,
    /// What the user reads; ends with broker, plan, status and request id.
    pub message: String,
    /// What the broker said, word for word.
    pub description: Option<String>,
    /// The request's id.
    pub request_id: String,
    /// Whether the broker may have made something that must be deleted there.
    pub orphan: bool,
    /// False if the broker said that the instance does not work any more.
    pub instance_usable: bool,
    /// False if the broker said that trying again does not help.
    pub update_repeatable: bool,
    /// How long the broker asks to wait.
    pub retry_after: Option<Duration>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The policy of addresses forbids it; nothing was sent.
    AddressRefused,
    /// Nothing was sent: no name, no connection.
    Unreachable,
    /// No answer in time, or 408.
    Timeout,
    /// The connection ended in the middle.
    Broken,
    /// 401.
    Unauthorized,
    /// 409.
    Conflict,
    /// 404.
    NotFound,
    /// 410 to something other than a delete.
    Gone,
    /// 422 `AsyncRequired`.
    AsyncRequired,
    /// 422 `ConcurrencyError`.
    Concurrency,
    /// 422 `RequiresApp`.
    RequiresApp,
    /// 422 `MaintenanceInfoConflict`.
    MaintenanceInfoConflict,
    /// Any other 4xx.
    Rejected,
    /// 5xx, or a status that has no meaning here, or a redirect to elsewhere.
    BadResponse,
    /// Not JSON, not an object, wrong types.
    Malformed,
    /// More than is read.
    TooLarge,
}

impl Failure {
    /// The status of HTTP with which a platform tells its own user.
    ///
    /// Source: specification, "Service Broker Errors"; texts and classes as users of Cloud Foundry know them.
    pub fn status_for_user(&self) -> u16 {
        match self.kind {
            FailureKind::AsyncRequired | FailureKind::RequiresApp => 400,
            FailureKind::Conflict => 409,
            FailureKind::Concurrency | FailureKind::MaintenanceInfoConflict | FailureKind::AddressRefused => 422,
            FailureKind::Timeout => 504,
            _ => 502,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Failure {}
