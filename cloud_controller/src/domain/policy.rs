//! Settings that rules depend on.

use crate::{
    config::{Config, Limits},
    domain::environment::Vars,
};

/// Defaults and bounds.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Defaults and bounds of apps and stagings.
    pub limits: Limits,
    /// The stack of apps that name none.
    pub default_stack: String,
    /// `https://api.<system domain>`
    pub api_url: String,
    /// The domain of the platform's own hosts.
    pub system_domain: String,
    /// Variables that every staging gets.
    pub staging_environment: Vars,
}

impl Policy {
    /// What the settings say.
    pub fn of(config: &Config) -> Self {
        Self {
            limits: config.limits.clone(),
            default_stack: config.default_stack().to_owned(),
            api_url: config.urls.api.clone(),
            system_domain: config.system_domain.clone(),
            staging_environment: config.staging_environment.clone(),
        }
    }
}
