//! Why an operation did not happen.

use std::{error::Error as StdError, io};
use warden_client::{ErrorKind, Response};

/// In the words of who asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be carried out as it stands.
    #[error("{0}")]
    Invalid(String),
    /// No such container, layer or stack.
    #[error("{0} not found")]
    NotFound(String),
    /// The handle is taken.
    #[error("{0}")]
    Conflict(String),
    /// The host has no room.
    #[error("{0}")]
    NoRoom(String),
    /// Our fault.
    #[error("{0} failed")]
    Internal(&'static str, #[source] Box<dyn StdError + Send + Sync>),
}

/// The usual result.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Names the step of which an error is the cause.
    pub(crate) fn at<E: Into<Box<dyn StdError + Send + Sync>>>(step: &'static str) -> impl Fn(E) -> Self + Copy {
        move |e| Self::Internal(step, e.into())
    }

    /// As a shim says it.
    pub(crate) fn from_shim(step: &'static str, kind: ErrorKind, message: String) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Invalid(message),
            ErrorKind::NotFound => Self::NotFound(message),
            ErrorKind::Conflict => Self::Conflict(message),
            ErrorKind::NoRoom => Self::NoRoom(message),
            ErrorKind::Internal => Self::Internal(step, message.into()),
        }
    }

    /// For the client. Causes are told: who may connect is trusted with them.
    pub(crate) fn response(&self) -> Response {
        let kind = match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::NoRoom(_) => ErrorKind::NoRoom,
            Self::Internal(..) => ErrorKind::Internal,
        };
        Response::Error { kind, message: with_causes(self) }
    }
}

fn with_causes(e: &dyn StdError) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// An answer of the kernel that only means that there was nothing to do.
pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
