//! What an answer of a broker means for the work that it is about: no table, no socket, no clock.

use crate::{
    brokers::{Failure, FailureKind, Object, Reply},
    domain::services::operations::Step,
};
use std::time::Duration;
use types::Timestamp;

/// Polls are never closer together than this: a tenth of the time so far, within these bounds.
const LEAST_INTERVAL: Duration = Duration::from_millis(200);
/// Source: cloud_controller_ng, `broker_client_default_async_poll_interval_seconds`.
const MOST_INTERVAL: Duration = Duration::from_secs(60);
/// A broker that asks to be left alone for longer is asked then all the same.
///
/// Source: cloud_controller_ng, `ReoccurringJob`.
const MOST_RETRY_AFTER: Duration = Duration::from_secs(86_400);
/// How often the deletion of an orphan is tried; the gaps are 2, 4, ... 1,024 minutes.
///
/// Source: cloud_controller_ng, `app/jobs/v2/services/delete_orphaned_instance.rb`.
const ORPHAN_ATTEMPTS: i32 = 11;

/// How long a broker may work on something of a plan: at most as long as the operator says.
pub fn polling_time(most: Duration, plan_maximum_s: Option<i64>) -> Duration {
    match plan_maximum_s.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0) {
        Some(seconds) => Duration::from_secs(seconds).min(most),
        None => most,
    }
}

/// What follows from a reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is done, with this body.
    Succeed(Object),
    /// It is done as far as the broker is concerned, if there is nothing to fetch.
    Polled(Object),
    /// The broker has begun to work on it.
    Accept { operation: Option<String>, body: Object, poll_at: Timestamp },
    /// The broker still works on it.
    PollAgain { description: Option<String>, at: Timestamp },
    /// The same once more.
    Retry { at: Timestamp },
    /// It failed; `mitigate`: something may be left over.
    Fail { failure: Failure, mitigate: bool },
}

/// What [`decide`] must know about an operation.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub step: Step,
    /// Its repeats so far, where it repeats calls.
    pub attempts: i32,
    pub began: Timestamp,
    pub deadline: Timestamp,
    /// It removes what nobody asked for: it goes on trying.
    pub orphan: bool,
    /// A fetch that fails does no harm.
    pub fetch_may_fail: bool,
}

/// Judges a reply. Pure.
pub fn decide(facts: &Facts, reply: Reply, now: Timestamp) -> Decision {
    match (facts.step, reply) {
        (Step::Call | Step::Fetch, Reply::Done(body)) => Decision::Succeed(body),
        (Step::Poll, Reply::Done(body)) => Decision::Polled(body),
        (Step::Call, Reply::Accepted { operation, body, retry_after }) => {
            let wait = retry_after.map_or(LEAST_INTERVAL, bounded);
            Decision::Accept { operation, body, poll_at: now + wait }
        }
        (Step::Call, Reply::Failed(failure)) if facts.orphan => again(facts, failure, now),
        // The answers of last operations have no place in a call.
        (Step::Call, Reply::InProgress { .. }) => Decision::Fail {
            failure: Failure::new(FailureKind::BadResponse, "The service broker's answer has no meaning here."),
            mitigate: true,
        },
        (Step::Call, Reply::Failed(failure)) => Decision::Fail { mitigate: failure.orphan, failure },
        (Step::Poll, Reply::Failed(failure)) if ends_polling(&failure) => match facts.orphan {
            true => again(facts, failure, now),
            false => Decision::Fail { failure, mitigate: false },
        },
        (Step::Poll, Reply::InProgress { description, retry_after }) => poll_again(facts, description, retry_after, now),
        (Step::Poll, Reply::Accepted { retry_after, .. }) => poll_again(facts, None, retry_after, now),
        (Step::Poll, Reply::Failed(failure)) => poll_again(facts, None, failure.retry_after, now),
        (Step::Fetch, Reply::Failed(_)) if facts.fetch_may_fail => Decision::Succeed(Object::new()),
        (Step::Fetch, Reply::Failed(failure)) => Decision::Fail { failure, mitigate: false },
        (Step::Fetch, Reply::Accepted { .. } | Reply::InProgress { .. }) => Decision::Fail {
            failure: Failure::new(FailureKind::BadResponse, "The service broker's answer has no meaning here."),
            mitigate: false,
        },
    }
}

/// Of what polling meets, only a last operation that failed and 400 are final.
///
/// Source: the Open Service Broker API specification, "Polling Last Operation".
fn ends_polling(failure: &Failure) -> bool {
    failure.kind == FailureKind::OperationFailed || failure.status == Some(400)
}

fn poll_again(facts: &Facts, description: Option<String>, retry_after: Option<Duration>, now: Timestamp) -> Decision {
    let wait = retry_after.map_or_else(|| interval(now.since(facts.began)), bounded);
    if now + wait > facts.deadline {
        let failure = Failure::new(FailureKind::Overdue, "The service broker did not finish within the required time.");
        return if facts.orphan { again(facts, failure, now) } else { Decision::Fail { failure, mitigate: true } };
    }
    Decision::PollAgain { description, at: now + wait }
}

/// A tenth of the time so far: quick work is seen quickly, slow work is not pestered.
fn interval(so_far: Duration) -> Duration {
    (so_far / 10).clamp(LEAST_INTERVAL, MOST_INTERVAL)
}

fn bounded(asked: Duration) -> Duration {
    asked.clamp(Duration::from_secs(1), MOST_RETRY_AFTER)
}

fn again(facts: &Facts, failure: Failure, now: Timestamp) -> Decision {
    let failed = facts.attempts + 1;
    if failed >= ORPHAN_ATTEMPTS {
        return Decision::Fail { failure, mitigate: false };
    }
    Decision::Retry { at: now + Duration::from_secs(60 << failed.clamp(1, 10)) }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
