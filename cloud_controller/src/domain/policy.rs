//! Settings that rules depend on.

use crate::config::{Config, Limits};

/// Defaults and bounds.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Defaults and bounds of apps and stagings.
    pub limits: Limits,
    /// The stack of apps that name none.
    pub default_stack: String,
    /// `https://api.<system domain>`
    pub api_url: String,
}

impl Policy {
    /// What the settings say.
    pub fn of(config: &Config) -> Self {
        Self { limits: config.limits.clone(), default_stack: config.default_stack().to_owned(), api_url: config.urls.api.clone() }
    }
}
