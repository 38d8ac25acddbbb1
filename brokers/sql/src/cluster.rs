//! A running server, as its administrator sees it.

use async_trait::async_trait;
use broker_sdk::osb::Parameters;
use engines::{
    Error,
    backups::{Note, Writer},
};
use std::fs::File;
use types::Timestamp;

/// A database of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name, which is also that of the role or account that owns it.
    pub name: String,
    /// How text is sorted in it.
    pub collation: String,
    /// Size beyond which writing is taken away.
    pub size_bytes: u64,
    /// Connections of one login, unless the login has fewer.
    pub connections: u32,
}

/// What an instance may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Size beyond which writing is taken away.
    pub size_bytes: u64,
    /// Connections of one login.
    pub connections: u32,
    /// How text is sorted; only a new database heeds it.
    pub collation: String,
}

/// What was removed with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The database.
    pub name: String,
    /// How large it was.
    pub bytes: u64,
    /// How many logins it had.
    pub logins: usize,
}

/// One running server: databases, logins, sizes. It knows nothing of how the server is kept.
///
/// Everything in it can be repeated: a broker may have been killed in the middle.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Whether it serves: one quick request on a connection of its own.
    async fn probe(&self) -> Result<(), Error>;
    /// Makes what must be there in every server, and clears away what a killed broker left half made.
    async fn settle(&self) -> Result<(), Error>;
    /// Reads certificates again.
    async fn reload(&self) -> Result<(), Error>;
    /// Its version, semantic: `15.8.0`.
    async fn version(&self) -> Result<String, Error>;

    /// The finished database of an instance.
    async fn find(&self, instance: &str) -> Result<Option<Database>, Error>;
    /// Makes the database of an instance, or finds it; with the limits of `allowance` either way.
    async fn provide(&self, instance: &str, allowance: &Allowance) -> Result<Database, Error>;
    /// Changes the limits of an instance and of the logins that it has.
    async fn set_limits(&self, instance: &str, allowance: &Allowance) -> Result<(), Error>;
    /// Does what else the parameters of a plan ask for.
    async fn extend(&self, database: &Database, parameters: &Parameters) -> Result<(), Error> {
        let _ = (database, parameters);
        Ok(())
    }
    /// Takes the database of an instance away, from it and from all its logins; says how much that was. What takes long may be
    /// left to [`Cluster::sweep`].
    async fn remove(&self, instance: &str) -> Result<Option<Removal>, Error>;
    /// Drops what was taken away; returns how many databases that were.
    async fn sweep(&self) -> Result<usize, Error> {
        Ok(0)
    }
    /// Makes spare databases until there are `count`.
    async fn stock(&self, count: usize) -> Result<(), Error> {
        let _ = count;
        Ok(())
    }

    /// Makes a login for the database, or gives it this password if it is there.
    async fn log_in(&self, login: &str, password: &str, database: &Database, connections: u32) -> Result<(), Error>;
    /// Ends a login for good, and its sessions.
    async fn log_out(&self, login: &str, instance: &str) -> Result<(), Error>;
    /// How many logins an instance has.
    async fn logins(&self, instance: &str) -> Result<usize, Error>;

    /// How many instances have a database.
    async fn instances(&self) -> Result<u64, Error>;
    /// How large the database of an instance is.
    async fn size_bytes(&self, instance: &str) -> Result<u64, Error>;
    /// Takes writing away from databases that are too large, and gives it back to those that are not any more: of all
    /// instances, or of one.
    async fn enforce(&self, instance: Option<&str>) -> Result<(), Error>;

    /// Writes the database into a backup.
    async fn dump(&self, database: &Database, into: Writer, now: Timestamp) -> Result<Note, Error>;
    /// Puts the content of a dump in the place of what the database has. Either all of it, or nothing changes.
    async fn restore(&self, database: &Database, dump: File) -> Result<(), Error>;
    /// The same for a database that nobody uses yet, whatever it has.
    async fn fill(&self, database: &Database, dump: File) -> Result<(), Error> {
        self.restore(database, dump).await
    }
}
