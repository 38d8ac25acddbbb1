//! Failures, as the log, the user and the DEA hear of them.

use crate::{archive, buildpack::Missing, result::StagingError, run};
use std::{io, path::PathBuf};

/// Why there is no droplet.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No buildpack wants the app.
    #[error("None of the buildpacks detected a compatible application")]
    NotDetected,
    /// A buildpack is not there, or not one.
    #[error(transparent)]
    NoBuildpack(Missing),
    /// A buildpack that is not the last cannot supply.
    #[error("buildpack `{0}` does not support multiple buildpacks: it has no bin/supply")]
    NoSupply(String),
    /// A buildpack that is not the last failed.
    #[error("Failed to run all supply scripts")]
    Supply {
        /// Which.
        buildpack: String,
        /// How.
        cause: run::Error,
    },
    /// The last buildpack failed.
    #[error("Failed to compile droplet")]
    Compile {
        /// Which.
        buildpack: String,
        /// Its script: `supply`, `finalize` or `compile`.
        script: &'static str,
        /// How.
        cause: run::Error,
    },
    /// The last buildpack's `release` failed.
    #[error("Failed to build droplet release")]
    Release {
        /// Which.
        buildpack: String,
        /// How.
        cause: run::Error,
    },
    /// It printed something else than processes.
    #[error("buildpack's release output invalid")]
    ReleaseOutput(String, String),
    /// The time is over.
    #[error("Staging timed out")]
    Timeout {
        /// What was allowed.
        seconds: u64,
        /// What ran.
        doing: String,
    },
    /// The package is no good.
    #[error("The app package cannot be used")]
    Package(archive::Error),
    /// The Procfile is no good.
    #[error("Failed to read command from Procfile: {0}")]
    Procfile(String),
    /// The droplet cannot be written.
    #[error("Failed to write the droplet")]
    Droplet(archive::Error),
    /// The file system refuses.
    #[error("cannot use {0}")]
    File(PathBuf, #[source] io::Error),
}

impl Failure {
    /// The line before the end of the log, in the official words where there are some.
    #[must_use]
    pub fn log_line(&self) -> String {
        match self {
            Self::Supply { buildpack, cause } => format!("{self}: {buildpack}: {}", cause.text()),
            Self::Compile { script, cause, .. } => format!("{self}: Failed to run {script} script: {}", cause.text()),
            Self::Release { cause, .. } => format!("{self}: {}", cause.text()),
            Self::ReleaseOutput(_, why) => format!("Failed to build droplet release: {self}: {why}"),
            Self::Timeout { seconds, doing } => format!("{self} after {seconds} s, during {doing}"),
            Self::Package(cause) | Self::Droplet(cause) => format!("{self}: {}", with_causes(cause)),
            Self::File(_, cause) => format!("{self}: {cause}"),
            Self::NotDetected | Self::NoBuildpack(_) | Self::NoSupply(_) | Self::Procfile(_) => self.to_string(),
        }
    }

    /// The error for the DEA: the official id, and what the official sentence that belongs to it leaves open.
    #[must_use]
    pub fn for_user(&self) -> StagingError {
        let (id, message) = match self {
            Self::NotDetected => ("NoAppDetectedError", self.to_string()),
            Self::Compile { buildpack, script, cause } => {
                ("BuildpackCompileFailed", format!("{buildpack}, bin/{script}: {}", hinted(cause)))
            }
            Self::Release { buildpack, cause } => {
                ("BuildpackReleaseFailed", format!("{buildpack}, bin/release: {}", hinted(cause)))
            }
            Self::ReleaseOutput(buildpack, why) => ("BuildpackReleaseFailed", format!("{buildpack}: {self}: {why}")),
            Self::Timeout { seconds, doing } => {
                ("StagingTimeExpired", format!("{seconds} s are allowed, and they ended during {doing}"))
            }
            Self::Supply { buildpack, cause } => ("StagingError", format!("{buildpack}, bin/supply: {}", hinted(cause))),
            _ => ("StagingError", self.log_line()),
        };
        StagingError { id: id.to_owned(), message }
    }

    /// The exit status of the builder.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotDetected => 222,
            Self::Compile { .. } => 223,
            Self::Release { .. } | Self::ReleaseOutput(..) => 224,
            Self::NoBuildpack(_) | Self::NoSupply(_) | Self::Supply { .. } => 225,
            Self::Timeout { .. } => 124,
            Self::Package(_) | Self::Procfile(_) | Self::Droplet(_) | Self::File(..) => 1,
        }
    }
}

fn hinted(cause: &run::Error) -> String {
    match cause {
        run::Error::Signal(name) if name == "SIGKILL" => format!("{} (probably out of memory)", cause.text()),
        run::Error::Exit(137) => format!("{} (probably out of memory)", cause.text()),
        _ => cause.text(),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
