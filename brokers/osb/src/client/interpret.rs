//! From an answer to what it means, without I/O.
//!
//! Source: specification, "Service Broker Errors", "Orphan Mitigation" and the tables of each operation.

pub(super) use super::shape::Shaped;
use super::{
    Polled,
    outcome::{Failure, FailureKind, Outcome, Poll},
    texts::Names,
    transport::{Answer, Body, Broken},
};
use crate::{ErrorBody, ErrorWord, LastOperation, OperationState};
use serde_json::{Map, Value};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Catalog,
    Provision,
    Update,
    Deprovision,
    Bind,
    Unbind,
    Poll,
    FetchInstance,
    FetchBinding,
    CreateBackup,
    DeleteBackup,
    FetchBackup,
    Restore,
}

impl Op {
    /// What it makes must not be left behind.
    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Provision | Self::Bind | Self::CreateBackup)
    }
    fn deletes(self) -> bool {
        matches!(self, Self::Deprovision | Self::Unbind | Self::DeleteBackup)
    }
    /// Its body may hold credentials, even if it is not what it should be.
    fn is_secret(self) -> bool {
        matches!(self, Self::Bind | Self::FetchBinding)
    }
}

enum Class {
    Done,
    Accepted,
    Gone,
    Failed,
}

fn class(op: Op, status: u16, accepts_incomplete: bool) -> Class {
    match status {
        200 => Class::Done,
        201 if op.creates() => Class::Done,
        202 if accepts_incomplete => Class::Accepted,
        410 if op.deletes() => Class::Gone,
        _ => Class::Failed,
    }
}

/// What a change came to.
pub(super) fn changed<T: Shaped>(op: Op, answer: &Answer, accepts_incomplete: bool, names: &Names<'_>) -> Outcome<T> {
    let class = class(op, answer.status, accepts_incomplete);
    match class {
        Class::Gone => return Outcome::Gone,
        Class::Failed => return Outcome::Failed(refusal(op, answer, names)),
        Class::Done | Class::Accepted => {}
    }
    let read = object(op, answer).and_then(|object| {
        let operation = object.get("operation").and_then(Value::as_str).map(str::to_owned);
        Ok((T::read(object)?, operation))
    });
    match (read, class) {
        (Err(expected), _) => Outcome::Failed(malformed(op, answer, &expected, names)),
        (Ok((body, operation)), Class::Accepted) => Outcome::Accepted { operation, retry_after: answer.retry_after, body },
        (Ok((body, _)), _) => Outcome::Done(body),
    }
}

/// What a look came to.
pub(super) fn fetched<T: Shaped>(op: Op, answer: &Answer, names: &Names<'_>) -> Result<T, Failure> {
    if answer.status != 200 {
        return Err(refusal(op, answer, names));
    }
    object(op, answer).and_then(T::read).map_err(|expected| malformed(op, answer, &expected, names))
}

/// What a poll came to.
pub(super) fn polled(polled: Polled, answer: &Answer, names: &Names<'_>) -> Poll {
    match answer.status {
        200 => match object(Op::Poll, answer).and_then(LastOperation::read) {
            Ok(found) => progress(found, answer),
            Err(expected) => Poll::Unclear(malformed(Op::Poll, answer, &expected, names)),
        },
        // who says what was removed has removed it
        410 if polled == Polled::Delete => match said(answer).description {
            Some(description) => Poll::Succeeded { description: Some(description) },
            None => Poll::Gone,
        },
        400 => {
            let failure = refusal(Op::Poll, answer, names);
            Poll::Failed {
                instance_usable: failure.instance_usable,
                update_repeatable: failure.update_repeatable,
                description: Some(failure.description.unwrap_or(failure.message)),
            }
        }
        _ => Poll::Unclear(refusal(Op::Poll, answer, names)),
    }
}

fn progress(found: LastOperation, answer: &Answer) -> Poll {
    let LastOperation { state, description, instance_usable, update_repeatable } = found;
    match state {
        OperationState::InProgress => Poll::InProgress { description, retry_after: answer.retry_after },
        OperationState::Succeeded => Poll::Succeeded { description },
        OperationState::Failed => Poll::Failed {
            description,
            instance_usable: instance_usable.unwrap_or(true),
            update_repeatable: update_repeatable.unwrap_or(true),
        },
    }
}

/// No answer.
pub(super) fn broken(op: Op, broken: &Broken, names: &Names<'_>) -> Failure {
    let (kind, text, maybe_made, status) = match broken {
        Broken::Refused(why) => {
            (FailureKind::AddressRefused, format!("The address of the service broker is not allowed: {why}"), false, None)
        }
        Broken::Unreachable(why) => {
            (FailureKind::Unreachable, format!("The service broker could not be reached: {why}"), false, None)
        }
        Broken::Timeout { sent } => (FailureKind::Timeout, "The request to the service broker timed out".into(), *sent, None),
        Broken::Lost(why) => {
            (FailureKind::Broken, format!("The connection to the service broker ended before its answer did: {why}"), true, None)
        }
        Broken::Redirected(status, to) => {
            let text = format!("The service broker redirected the request {to}");
            (FailureKind::BadResponse, text, true, Some(*status))
        }
    };
    Failure { orphan: op.creates() && maybe_made, ..names.failure(kind, status, &text) }
}

/// An answer that says no, or says nothing that has a meaning here.
fn refusal(op: Op, answer: &Answer, names: &Names<'_>) -> Failure {
    let status = answer.status;
    // a success that is none: whatever it describes is not an error
    let said = if status < 300 { ErrorBody::default() } else { said(answer) };
    let described = |fallback: String| match &said.description {
        Some(description) => format!("Service broker error: {description}"),
        None => fallback,
    };
    // words whose meaning the platform explains, and then what the broker said
    let explained = |text: &str| match &said.description {
        Some(description) => format!("{text} Service broker error: {description}"),
        None => text.to_owned(),
    };
    let raw = || format!("The service broker returned an invalid response. {}", shown(op, answer));
    let rejected = || format!("The service broker rejected the request. {}", shown(op, answer));
    let (kind, text) = match (status, said.word()) {
        (401, _) => (
            FailureKind::Unauthorized,
            "Authentication with the service broker failed. Double-check that the username and password are correct".into(),
        ),
        (404, _) => (FailureKind::NotFound, described(rejected())),
        (408, _) => (FailureKind::Timeout, "The service broker API timed out".into()),
        (409, _) => (FailureKind::Conflict, described("Resource conflict".into())),
        (410, _) => (FailureKind::Gone, described(raw())),
        (422, Some(ErrorWord::AsyncRequired)) => (
            FailureKind::AsyncRequired,
            explained("This service plan requires client support for asynchronous service operations."),
        ),
        (422, Some(ErrorWord::ConcurrencyError)) => {
            (FailureKind::Concurrency, explained("Another operation for this service instance is in progress."))
        }
        (422, Some(ErrorWord::RequiresApp)) => (
            FailureKind::RequiresApp,
            explained("This service supports generation of credentials through binding an application only."),
        ),
        (422, Some(ErrorWord::MaintenanceInfoConflict)) => (
            FailureKind::MaintenanceInfoConflict,
            described(
                "The service broker did not provide a reason for this conflict, please ensure the catalog is up to date and \
                 you are providing a version supported by this service plan"
                    .into(),
            ),
        ),
        (400..500, _) => (FailureKind::Rejected, described(rejected())),
        _ => (FailureKind::BadResponse, described(raw())),
    };
    Failure {
        orphan: op.creates() && maybe_made(status, &said),
        instance_usable: said.instance_usable.unwrap_or(true),
        update_repeatable: said.update_repeatable.unwrap_or(true),
        description: said.description,
        retry_after: answer.retry_after,
        ..names.failure(kind, Some(status), &text)
    }
}

/// Whether something may be there after an answer that is not a success.
///
/// Known refusals leave nothing. An unknown word with 422 and a 410 to something other than a delete are not known; deleting
/// what is not there does no harm.
fn maybe_made(status: u16, said: &ErrorBody) -> bool {
    match status {
        410 => true,
        422 => said.word().is_none(),
        400..500 => false,
        _ => true,
    }
}

/// A success that cannot be read: after 200, nothing new is there.
fn malformed(op: Op, answer: &Answer, expected: &str, names: &Names<'_>) -> Failure {
    let kind = if matches!(answer.body, Body::TooLarge(_)) { FailureKind::TooLarge } else { FailureKind::Malformed };
    let text = format!("The service broker returned an invalid response: {expected}. {}", shown(op, answer));
    Failure { orphan: op.creates() && answer.status != 200, ..names.failure(kind, Some(answer.status), &text) }
}

fn object(op: Op, answer: &Answer) -> Result<Map<String, Value>, String> {
    match &answer.body {
        Body::TooLarge(limit) => Err(format!("the answer is larger than {limit} bytes, which is more than is read")),
        // there is nothing to say about what is gone
        Body::Whole(bytes) if op.deletes() && bytes.iter().all(u8::is_ascii_whitespace) => Ok(Map::new()),
        // nesting is bounded by the parser: 128 levels
        Body::Whole(bytes) => match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("expected a JSON object".into()),
            Err(e) => Err(format!("expected valid JSON object in body ({})", kind(&e))),
        },
    }
}

/// What is wrong with JSON, without a piece of it.
fn kind(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Eof => format!("it ends at line {line} column {column}"),
        _ => format!("it is broken at line {line} column {column}"),
    }
}

fn said(answer: &Answer) -> ErrorBody {
    let Body::Whole(bytes) = &answer.body else { return ErrorBody::default() };
    let Ok(Value::Object(object)) = serde_json::from_slice(bytes) else { return ErrorBody::default() };
    let text = |key| object.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let flag = |key| object.get(key).and_then(Value::as_bool);
    ErrorBody {
        error: text("error"),
        description: text("description"),
        instance_usable: flag("instance_usable"),
        update_repeatable: flag("update_repeatable"),
    }
}

fn shown(op: Op, answer: &Answer) -> String {
    let status = answer.status;
    let reason = reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let status = format!("Status Code: {status} {reason}");
    match &answer.body {
        Body::Whole(bytes) if !(op.is_secret() && answer.status < 300) => {
            format!("{}, Body: {}", status.trim_end(), String::from_utf8_lossy(bytes))
        }
        _ => status.trim_end().to_owned(),
    }
}
