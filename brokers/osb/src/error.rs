//! Refusals and failures as brokers write them.

use serde::{Deserialize, Serialize};

/// Words of `error` that the specification gives a meaning, all with status 422.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorWord {
    /// The same again, with `accepts_incomplete=true`.
    AsyncRequired,
    /// Another operation runs; wait for its end.
    ConcurrencyError,
    /// A bind needs an application.
    RequiresApp,
    /// The platform knows another version of the plan: fetch the catalog.
    MaintenanceInfoConflict,
}

impl ErrorWord {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AsyncRequired, Self::ConcurrencyError, Self::RequiresApp, Self::MaintenanceInfoConflict];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsyncRequired => "AsyncRequired",
            Self::ConcurrencyError => "ConcurrencyError",
            Self::RequiresApp => "RequiresApp",
            Self::MaintenanceInfoConflict => "MaintenanceInfoConflict",
        }
    }
    /// Reads it.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// Body of an answer that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One word, for the platform; see [`ErrorWord`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// For the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Update and deprovision only: whether the instance still works (if absent: yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_usable: Option<bool>,
    /// Update only: whether trying again may help (if absent: yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_repeatable: Option<bool>,
}

impl ErrorBody {
    /// One with a text alone.
    pub fn described(description: impl Into<String>) -> Self {
        Self { description: Some(description.into()), ..Self::default() }
    }
    /// One with a known word and a text.
    pub fn known(word: ErrorWord, description: impl Into<String>) -> Self {
        Self { error: Some(word.as_str().to_owned()), ..Self::described(description) }
    }
    /// The word, if it is a known one.
    pub fn word(&self) -> Option<ErrorWord> {
        self.error.as_deref().and_then(ErrorWord::parse)
    }
}
