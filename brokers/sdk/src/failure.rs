//! Why an operation did not happen.

use osb::{ErrorBody, ErrorWord};
use std::{error::Error, fmt};

/// Why an operation did not happen, as a broker says it.
///
/// The description reaches the user word for word; it says what they can do. Any error becomes one through `?`: then it is our fault,
/// goes to the log with all its causes, and the user sees nothing of it.
pub struct Failure {
    pub(crate) status: u16,
    pub(crate) body: ErrorBody,
    pub(crate) cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    fn new(status: u16, body: ErrorBody) -> Self {
        Self { status, body, cause: None }
    }
    /// 400: the request cannot be right.
    pub fn invalid(description: impl Into<String>) -> Self {
        Self::new(400, ErrorBody::described(description))
    }
    /// 404: it is not there.
    pub fn not_found(description: impl Into<String>) -> Self {
        Self::new(404, ErrorBody::described(description))
    }
    /// 409: it is in the way of something else that is there.
    pub fn conflict(description: impl Into<String>) -> Self {
        Self::new(409, ErrorBody::described(description))
    }
    /// 422: understood, and it will not be done.
    pub fn refused(description: impl Into<String>) -> Self {
        Self::new(422, ErrorBody::described(description))
    }
    /// 422 `RequiresApp`: only applications can be bound.
    pub fn requires_app() -> Self {
        Self::known(
            ErrorWord::RequiresApp,
            "This service supports generation of credentials through binding an application only.",
        )
    }
    /// 422 with a word that the specification knows.
    pub fn known(word: ErrorWord, description: impl Into<String>) -> Self {
        Self::new(422, ErrorBody::known(word, description))
    }
    /// 503: trying again later may help.
    pub fn unavailable(description: impl Into<String>) -> Self {
        Self::new(503, ErrorBody::described(description))
    }
    /// 500: our fault, with a text that may be seen.
    pub fn internal(description: impl Into<String>) -> Self {
        Self::new(500, ErrorBody::described(description))
    }
    /// With the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
    /// Of an update or deprovision: the instance does not work any more.
    #[must_use]
    pub fn instance_unusable(mut self) -> Self {
        self.body.instance_usable = Some(false);
        self
    }
    /// Of an update: trying again will not help.
    #[must_use]
    pub fn not_repeatable(mut self) -> Self {
        self.body.update_repeatable = Some(false);
        self
    }
    /// The same for another reader, without the cause.
    pub(crate) fn shared(&self) -> Self {
        Self::new(self.status, self.body.clone())
    }
    /// What the user sees.
    pub fn description(&self) -> &str {
        self.body.description.as_deref().unwrap_or_default()
    }
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }
    /// True if nothing was left behind: a 4xx.
    pub fn is_refusal(&self) -> bool {
        self.status < 500
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::internal("The broker could not do this because of a fault of its own; its log says more.").caused_by(error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("status", &self.status).field("body", &self.body).field("cause", &self.cause).finish()
    }
}
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}
