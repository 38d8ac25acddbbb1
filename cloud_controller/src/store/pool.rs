//! Connections: a bounded pool whose blocking calls never run on an async worker.

use crate::{
    config::Database,
    domain::{Error, Result},
};
use diesel::{
    PgConnection, SqliteConnection,
    connection::{AnsiTransactionManager, InstrumentationEvent, SimpleConnection, TransactionManager},
    prelude::*,
    r2d2::{ManageConnection, Pool, R2D2Connection},
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// How many connections at most.
const CONNECTIONS: u32 = 8;
/// The key of the lock that writers hold on PostgreSQL; any number that nobody else uses in this database.
const WRITER_LOCK: i64 = 0x6375_706f_6c61;
/// How often a transaction is tried when others are in its way.
const ATTEMPTS: u32 = 8;

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// The embedded one.
    Sqlite(SqliteConnection),
    /// The distributed one.
    Postgres(PgConnection),
}

/// The back end that queries are written against.
pub type Db = MultiBackend;

/// Runs work on connections. Clones share the pool.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: Pool<Manager>,
    permits: Arc<Semaphore>,
    /// One writer at a time: waiting here is fair, waiting in the database is not.
    writer: Arc<Semaphore>,
    embedded: bool,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests count statements"))]
    queries: Arc<AtomicU64>,
}

impl Store {
    /// Opens the database and brings its tables up to date. Blocks.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be reached; [`Error::Internal`] when the tables cannot be made.
    pub fn open(database: &Database) -> Result<Self> {
        let queries = Arc::new(AtomicU64::new(0));
        let manager = Manager { database: database.clone(), queries: queries.clone() };
        manager.migrate()?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(Some(1))
            .connection_timeout(Duration::from_secs(10))
            .build(manager)
            .map_err(|e| Error::Unavailable("the database", e.into()))?;
        let permits = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let embedded = matches!(database, Database::Sqlite(_));
        Ok(Self(Arc::new(Inner { pool, permits, writer: Arc::new(Semaphore::new(1)), embedded, queries })))
    }

    /// Runs queries that change nothing.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T> + Send + 'static,
    {
        let permit = self.0.permits.clone().acquire_owned().await.map_err(|e| Error::internal("the pool", e))?;
        let inner = self.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut conn = inner.pool.get().map_err(|e| Error::Unavailable("the database", e.into()))?;
            work(&mut conn)
        });
        task.await.map_err(|e| Error::internal("a database task", e))?
    }

    /// Runs a transaction; tries again when others were in its way, so `work` may run several times.
    pub async fn write<T, F>(&self, mut work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Conn) -> Result<T> + Send + 'static,
    {
        let writer = self.0.writer.clone().acquire_owned().await.map_err(|e| Error::internal("the pool", e))?;
        self.read(move |conn| {
            let _writer = writer;
            let mut attempt = 1;
            loop {
                match transaction(conn, &mut work) {
                    Err(Error::Contention(cause)) if attempt < ATTEMPTS => {
                        tracing::debug!(attempt, error = &*cause as &dyn std::error::Error, "transaction is tried again");
                        std::thread::sleep(Duration::from_millis(5 << attempt));
                        attempt += 1;
                    }
                    outcome => return outcome,
                }
            }
        })
        .await
    }

    /// True where the database is a file that no other process has.
    pub fn is_embedded(&self) -> bool {
        self.0.embedded
    }

    /// How many statements were sent so far.
    #[cfg(test)]
    pub fn queries(&self) -> u64 {
        self.0.queries.load(Ordering::Relaxed)
    }
}

/// Commits when `work` succeeds, else takes everything back.
fn transaction<T>(conn: &mut Conn, work: &mut impl FnMut(&mut Conn) -> Result<T>) -> Result<T> {
    match conn {
        // Takes the write lock at once: a reader that becomes a writer later can only fail.
        Conn::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?,
        Conn::Postgres(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN")?,
    }
    match lock(conn).and_then(|()| work(conn)) {
        Ok(value) => {
            Conn::commit_transaction(conn)?;
            Ok(value)
        }
        Err(e) => {
            Conn::rollback_transaction(conn)?;
            Err(e)
        }
    }
}

/// Gives PostgreSQL what SQLite has by itself: writing transactions run one after the other, over all processes.
///
/// Operations read rows, decide, and write whole rows back; side by side, one of them would undo the other. They are short, and
/// rules that look at several rows ("who has this host", quotas) hold without a lock of their own.
fn lock(conn: &mut Conn) -> Result<()> {
    if let Conn::Postgres(conn) = conn {
        diesel::sql_query(format!("SELECT pg_advisory_xact_lock({WRITER_LOCK})")).execute(conn)?;
    }
    Ok(())
}

struct Manager {
    database: Database,
    queries: Arc<AtomicU64>,
}

impl Manager {
    fn open(&self) -> Result<Conn, diesel::r2d2::Error> {
        let mut conn = match &self.database {
            Database::Sqlite(path) => {
                let mut conn =
                    SqliteConnection::establish(&path.to_string_lossy()).map_err(diesel::r2d2::Error::ConnectionError)?;
                let settings = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                                PRAGMA foreign_keys = ON; PRAGMA cache_size = -8000;";
                conn.batch_execute(settings).map_err(diesel::r2d2::Error::QueryError)?;
                Conn::Sqlite(conn)
            }
            Database::Postgres(url) => {
                let conn = PgConnection::establish(url.expose()).map_err(diesel::r2d2::Error::ConnectionError)?;
                Conn::Postgres(conn)
            }
        };
        let queries = self.queries.clone();
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::StartQuery { .. }) {
                queries.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(conn)
    }

    fn migrate(&self) -> Result<()> {
        let mut conn = self.open().map_err(|e| Error::Unavailable("the database", e.into()))?;
        let outcome = match &mut conn {
            Conn::Sqlite(conn) => conn.run_pending_migrations(MIGRATIONS).map(|_| ()),
            Conn::Postgres(conn) => conn.run_pending_migrations(MIGRATIONS).map(|_| ()),
        };
        outcome.map_err(|e| Error::Internal("bringing the tables up to date", e))
    }
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Conn, Self::Error> {
        self.open()
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        match conn {
            // A file does not go away; the check would cost a statement for each request.
            Conn::Sqlite(_) => Ok(()),
            Conn::Postgres(conn) => conn.ping().map_err(diesel::r2d2::Error::QueryError),
        }
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}
