//! One function for each operation: check, decide, begin, wait for as long as a request may.

mod backups;
mod bindings;
mod instances;
mod looks;

use super::{decide, decide::Verdict, work, work::Workshop};
use crate::{
    Failure, Kind, Mode, Task,
    store::{Tx, operations},
};
use std::{sync::Arc, time::Duration};
use types::Timestamp;

pub(crate) use looks::Looked;

/// The operations of a broker.
pub(crate) struct Service {
    pub(crate) shop: Arc<Workshop>,
    /// How long a request may take.
    pub(crate) request_timeout: Duration,
}

/// Who asks how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// The platform polls.
    pub(crate) accepts_incomplete: bool,
    /// The header of the originating identity.
    pub(crate) identity: Option<String>,
    /// The request's id.
    pub(crate) request: Option<String>,
}

impl Ask {
    /// What an operation keeps of it.
    fn data(&self) -> operations::Data {
        operations::Data { identity: self.identity.clone(), request: self.request.clone(), update: None }
    }
}

/// What there is to answer.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    /// It was not there before.
    Created(T),
    /// It is as it should be.
    Ok(T),
    /// Poll.
    Accepted(String, T),
    /// It is not there.
    Gone,
}

impl<T> Answer<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Created(body) => Answer::Created(change(body)),
            Self::Ok(body) => Answer::Ok(change(body)),
            Self::Accepted(operation, body) => Answer::Accepted(operation, change(body)),
            Self::Gone => Answer::Gone,
        }
    }
}

/// What a transaction has begun.
enum Begun {
    New { operation: String, background: bool },
    Running(String),
    Exists,
    Gone,
}

/// What to begin.
struct Begin<'a> {
    kind: Kind,
    subject: operations::Subject,
    data: operations::Data,
    background: bool,
    now: Timestamp,
    /// Keeps what the operation is about.
    keep: &'a dyn Fn(&mut Tx<'_>) -> Result<(), Failure>,
}

impl Verdict {
    /// Carries it out.
    fn carry_out(self, tx: &mut Tx<'_>, begin: &Begin<'_>) -> Result<Begun, Failure> {
        match self {
            Self::Begin => {
                (begin.keep)(tx)?;
                let operation = operations::begin(tx, begin.kind, &begin.subject, &begin.data, begin.now)?;
                Ok(Begun::New { operation, background: begin.background })
            }
            Self::Running(operation) => Ok(Begun::Running(operation)),
            Self::Exists => Ok(Begun::Exists),
            Self::Gone => Ok(Begun::Gone),
            Self::Refuse(failure) => Err(failure),
        }
    }
}

impl Service {
    /// Whether this work is done in the background.
    ///
    /// # Errors
    /// `AsyncRequired` if it is and the platform does not poll.
    fn background(shop: &Workshop, task: &Task<'_>, ask: &Ask) -> Result<bool, Failure> {
        match (shop.broker.mode(task), ask.accepts_incomplete) {
            (Mode::Now, _) => Ok(false),
            (Mode::Background, true) => Ok(true),
            (Mode::Background, false) => Err(decide::async_required()),
        }
    }

    /// Waits for what was begun, as far as it is waited for.
    async fn wait(&self, begun: Begun, ask: &Ask) -> Result<Answer<()>, Failure> {
        let (operation, background) = match begun {
            Begun::New { operation, background } => (operation, background),
            Begun::Running(operation) => return Ok(Answer::Accepted(operation, ())),
            Begun::Exists => return Ok(Answer::Ok(())),
            Begun::Gone => return Ok(Answer::Gone),
        };
        let task = work::spawn(&self.shop, operation.clone());
        if background {
            return Ok(Answer::Accepted(operation, ()));
        }
        match tokio::time::timeout(self.request_timeout, task).await {
            Ok(done) => match done? {
                Some(outcome) => outcome.map(|()| Answer::Created(())),
                None => Err(Failure::unavailable("the broker is ending; the operation goes on when it is back")),
            },
            Err(_) if ask.accepts_incomplete => Ok(Answer::Accepted(operation, ())),
            Err(_) => Err(Failure::unavailable("it takes longer than a request may; it goes on nevertheless")),
        }
    }
}
