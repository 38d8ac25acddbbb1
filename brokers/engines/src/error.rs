//! Why a server or one of its tools did not do its part.

use std::{error::Error as StdError, io, path::PathBuf};

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be used.
    #[error("cannot {0} {1}")]
    File(&'static str, PathBuf, #[source] io::Error),
    /// A program cannot be started.
    #[error("cannot run {0}; is its package installed?")]
    Run(PathBuf, #[source] io::Error),
    /// A program ended with an error; the end of what it said.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// Its file name.
        program: String,
        /// Its exit status.
        status: String,
        /// The last lines of its error output.
        said: String,
    },
    /// The server does not serve yet, or not any more; trying again helps.
    #[error("the {0} server is not ready: {1}")]
    NotReady(&'static str, String),
    /// The server's own answer.
    #[error("the server refused")]
    Server(#[source] Box<dyn StdError + Send + Sync>),
    /// More bytes than may be kept.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// How much would have been allowed.
        limit_bytes: u64,
    },
    /// The disk must keep a reserve.
    #[error("only {free_bytes} bytes are left on the disk")]
    DiskFull {
        /// What is left.
        free_bytes: u64,
    },
    /// A backup does not match its checksum or is not there.
    #[error("backup {0} is {1}")]
    Backup(String, &'static str),
}

impl Error {
    /// Wraps what a server answered.
    pub fn server(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Server(cause.into())
    }

    /// The error and its causes in one line, for a place that takes text only.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            text = format!("{text}: {cause}");
            next = cause.source();
        }
        text
    }
}

pub(crate) fn file<'a>(what: &'static str, path: &'a std::path::Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |e| Error::File(what, path.to_owned(), e)
}
