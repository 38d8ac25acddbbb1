//! The postgres broker: PostgreSQL databases on a shared server that it keeps itself, or on servers of their own in containers.
//!
//! An instance is a database with an owner role that nobody can log in as; a binding is a login that is a member of it and acts
//! as it, so that what one binding makes, the next can use. What is not about PostgreSQL is in [`sql_broker`]. See `README.md`.
//!
//! - `product`: what is offered, and what applications get. - `engine`: the shared server. - `server.sh`: a server of an
//!   instance's own. - `cluster`, `sql`: what is done in a server. - `way`: how to get into it. - `backup`: dump and restore.

mod backup;
mod cluster;
mod engine;
mod product;
mod sql;
mod way;

pub use product::Postgres;
pub use sql_broker::{Config, Outside, Raw, SqlBroker as PostgresBroker};

use engines::Error;
use foundation::{Shutdown, config::ConfigError};
use sql_broker::Product;
use std::{path::Path, process::ExitCode, sync::Arc};

/// Runs the broker with the settings in this file.
pub fn run(config: &Path) -> ExitCode {
    sql_broker::run(Postgres, config)
}

/// Checks settings.
///
/// # Errors
/// [`ConfigError::Invalid`] with everything that cannot work.
pub fn check(raw: Raw) -> Result<Config, ConfigError> {
    Config::check(Postgres.service(), Postgres.usual_spare(), raw)
}

/// Opens the broker: its folders, and its shared server if there was one.
///
/// # Errors
/// When its files or the server's programs cannot be used.
pub async fn open(config: Config, outside: Outside, shutdown: &Shutdown) -> Result<PostgresBroker, Error> {
    sql_broker::open(Arc::new(Postgres), config, outside, shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Raw {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.toml");
        std::fs::write(&path, include_str!("../example.toml")).unwrap();
        foundation::config::load(&path).unwrap()
    }

    #[test]
    fn the_example_is_missing_nothing_but_its_certificates() {
        let raw = example();
        assert!(!format!("{raw:?}").contains("change-me"));
        let said = check(raw).unwrap_err().to_string();
        assert_eq!(said.matches("there is no file").count(), 6, "{said}");
        assert_eq!(said.matches(';').count(), 5, "{said}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut raw = example();
        raw.server.listen = "nowhere".into();
        raw.server.state = "relative".into();
        raw.engine.port = 0;
        raw.plans.clear();
        raw.dedicated.memory_mb = 1;
        raw.workloads.as_mut().unwrap().ports = (9, 8);
        let said = check(raw).unwrap_err().to_string();
        for key in
            ["listen", "server.state", "engine.port", "plans: there is none", "dedicated.memory_mb", "workloads.ports: (9, 8)"]
        {
            assert!(said.contains(key), "{key} in {said}");
        }
    }
}
