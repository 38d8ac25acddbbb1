//! The database: SQLite (one file, one process) or PostgreSQL, by the same code. One module for each aggregate.
//!
//! Every operation is one transaction on a bounded pool of blocking threads. Times are microseconds, lists are words
//! separated by spaces.

pub(crate) mod clients;
pub(crate) mod codes;
pub(crate) mod failures;
pub(crate) mod groups;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod users;

use crate::{
    config::Database,
    domain::{Error, Result},
};
use diesel::{Connection, PgConnection, RunQueryDsl, SqliteConnection, connection::SimpleConnection, r2d2};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// One connection to either database.
#[derive(diesel::MultiConnection)]
pub(crate) enum Db {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// The pool.
#[derive(Clone)]
pub(crate) struct Store {
    pool: r2d2::Pool<Manager>,
    limit: Arc<Semaphore>,
}

impl Store {
    /// Opens the database and brings its tables up to date.
    pub(crate) async fn open(database: &Database) -> Result<Self> {
        // one writer at a time is all that SQLite has; waiting here is fairer than waiting in the file's lock
        let (size, remote) = match database {
            Database::Sqlite(_) => (1, false),
            Database::Postgres(_) => (8, true),
        };
        let manager = Manager(database.clone());
        let pool = r2d2::Pool::builder().max_size(size).connection_timeout(Duration::from_secs(5)).test_on_check_out(remote);
        let store = tokio::task::spawn_blocking(move || {
            let pool = pool.build(manager).map_err(|e| Error::Unavailable("the database", e.into()))?;
            let mut conn = pool.get().map_err(|e| Error::Unavailable("the database", e.into()))?;
            conn.run_pending_migrations(MIGRATIONS).map_err(|e| Error::Internal("migrations", e))?;
            drop(conn);
            Ok(Self { pool, limit: Arc::new(Semaphore::new(size as usize)) })
        });
        store.await.map_err(|e| Error::Internal("opening the database", e.into()))?
    }

    /// Carries out one operation in one transaction.
    pub(crate) async fn run<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Db) -> Result<T> + Send + 'static,
    {
        let permit = self.limit.clone().acquire_owned().await.map_err(|e| Error::Internal("the pool", e.into()))?;
        let pool = self.pool.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut conn = pool.get().map_err(|e| Error::Unavailable("the database", e.into()))?;
            Db::transaction(&mut conn, operation)
        });
        done.await.map_err(|e| Error::Internal("the store", e.into()))?
    }
}

/// Makes connections; unlike `diesel`'s own it never tries one database with the other's address.
struct Manager(Database);

impl r2d2::ManageConnection for Manager {
    type Connection = Db;
    type Error = r2d2::Error;

    fn connect(&self) -> Result<Db, r2d2::Error> {
        match &self.0 {
            Database::Postgres(url) => {
                PgConnection::establish(url.expose()).map(Db::Postgres).map_err(r2d2::Error::ConnectionError)
            }
            Database::Sqlite(path) => {
                let mut conn = SqliteConnection::establish(&path.to_string_lossy()).map_err(r2d2::Error::ConnectionError)?;
                conn.batch_execute(
                    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                )
                .map_err(r2d2::Error::QueryError)?;
                Ok(Db::Sqlite(conn))
            }
        }
    }

    fn is_valid(&self, conn: &mut Db) -> Result<(), r2d2::Error> {
        diesel::sql_query("SELECT 1").execute(conn).map(|_| ()).map_err(r2d2::Error::QueryError)
    }

    fn has_broken(&self, _: &mut Db) -> bool {
        std::thread::panicking()
    }
}

/// True for the violation of a unique key: the caller says what that means.
pub(crate) fn is_taken(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind, Error};
    matches!(error, Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))
}

/// A list as one column.
pub(crate) fn join<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

/// A column as a list.
pub(crate) fn split(words: &str) -> Vec<String> {
    words.split_ascii_whitespace().map(str::to_owned).collect()
}
