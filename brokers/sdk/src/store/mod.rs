//! What a broker must not forget: one SQLite file, one module for each aggregate.
//!
//! One connection: its owner runs one transaction at a time, on a thread for blocking work.

pub(crate) mod backups;
pub(crate) mod bindings;
pub(crate) mod instances;
pub(crate) mod operations;
mod seal;

pub(crate) use seal::Vault;

use crate::{Failure, StartError};
use diesel::{Connection, SqliteConnection, connection::SimpleConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use std::{path::Path, sync::Arc};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
const SETTINGS: &str =
    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

/// The database. Clones share it.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    conn: Mutex<SqliteConnection>,
    vault: Vault,
}

/// One transaction.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a mut SqliteConnection,
    pub(crate) vault: &'a Vault,
}

impl Store {
    /// Opens the database in this folder and brings its tables up to date; makes what is missing. Blocks.
    pub(crate) fn open(folder: &Path, rng: StdRng) -> Result<Self, StartError> {
        let unusable = |cause: Box<dyn std::error::Error + Send + Sync>| StartError::State(folder.to_owned(), cause);
        seal::make_private(folder).map_err(|e| unusable(e.into()))?;
        let file = folder.join("broker.db");
        let vault = Vault::open(&folder.join("key"), file.exists(), rng).map_err(|e| unusable(e.into()))?;
        let mut conn = SqliteConnection::establish(&file.to_string_lossy()).map_err(|e| unusable(e.into()))?;
        conn.batch_execute(SETTINGS).map_err(|e| unusable(e.into()))?;
        conn.run_pending_migrations(MIGRATIONS).map_err(unusable)?;
        Ok(Self(Arc::new(Inner { conn: Mutex::new(conn), vault })))
    }

    /// Runs one transaction; it is taken back if `work` fails.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut conn = inner.conn.lock();
            conn.immediate_transaction(|conn| work(&mut Tx { conn, vault: &inner.vault }))
        });
        done.await?
    }
}
