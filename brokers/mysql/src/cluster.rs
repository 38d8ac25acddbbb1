//! One running server, as its administrator sees it: databases, logins, sizes.
//!
//! It knows nothing of how the server is kept: the shared one, or one of an instance's own.
//!
//! All names in statements are our own (a letter and hexadecimal digits), passwords are letters and digits: none needs quotes.

use crate::{backup, engine, way::Way};
use async_trait::async_trait;
use engines::{
    Error,
    backups::{Note, Writer},
    files, names,
    settings::EngineSettings,
};
use foundation::Secret;
use mysql_async::{Conn, Opts, Pool, PoolConstraints, PoolOpts, prelude::Queryable};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use sql_broker::{Allowance, Around, Cluster, Database, Removal};
use std::{
    collections::BTreeSet,
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};
use tracing::warn;
use types::Timestamp;

/// A server.
pub(crate) struct MariaDbCluster {
    pub(crate) way: Way,
    /// Where and as whom tools run.
    pub(crate) settings: EngineSettings,
    /// Where the server keeps one folder for each database, if that is on this machine.
    data: Option<PathBuf>,
    pool: Pool,
    /// Numbers of the sessions of this broker process: there is nothing else to tell them from another's.
    sessions: Mutex<BTreeSet<u32>>,
    rng: Mutex<StdRng>,
}

/// A login for a tool.
pub(crate) struct Tool {
    pub(crate) login: String,
    pub(crate) password: Secret,
}

/// The collation of a database whose user did not choose.
pub(crate) const USUAL_COLLATION: &str = "utf8mb4_general_ci";

/// What tenants may do in their database.
const ALL: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, \
                   EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, TRIGGER, DELETE HISTORY";
/// What is left of it when the database is too large: reading, and making it smaller.
const FROZEN: &str = "SELECT, DELETE, DROP, EXECUTE, SHOW VIEW";

const SESSIONS_END: Duration = Duration::from_secs(10);

const SETTLE: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS cupola",
    "CREATE TABLE IF NOT EXISTS cupola.instances (name VARCHAR(32) PRIMARY KEY, instance VARCHAR(255) COLLATE utf8mb4_bin NOT NULL \
     UNIQUE, complete BOOLEAN NOT NULL, collation_name VARCHAR(64) NOT NULL, size_limit BIGINT UNSIGNED NOT NULL, \
     connections INT UNSIGNED NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE IF NOT EXISTS cupola.logins (login VARCHAR(32) PRIMARY KEY, name VARCHAR(32) NOT NULL, \
     connections INT UNSIGNED NOT NULL, retired BOOLEAN NOT NULL) ENGINE=InnoDB",
];

impl MariaDbCluster {
    /// The server at the end of `way`, with so many connections of the administrator at once.
    pub(crate) fn new(way: Way, data: Option<PathBuf>, most: usize, around: Around) -> Self {
        let constraints = PoolConstraints::new(most.min(4), most).unwrap_or_default();
        let pool = PoolOpts::default().with_constraints(constraints).with_reset_connection(false);
        let pool = Pool::new(way.options().pool_opts(pool));
        Self { way, settings: around.settings, data, pool, sessions: Mutex::default(), rng: Mutex::new(around.rng) }
    }

    /// A connection of the administrator. There are few: who has one hands it on, and never asks for a second.
    async fn admin(&self) -> Result<Conn, Error> {
        let connection = match tokio::time::timeout(Duration::from_secs(120), self.pool.get_conn()).await {
            Ok(got) => got.map_err(Error::server)?,
            Err(e) => return Err(Error::server(e)),
        };
        self.sessions.lock().insert(connection.id());
        Ok(connection)
    }

    fn new_password(&self) -> String {
        names::password(&mut *self.rng.lock())
    }
    fn random_name(&self, letter: char) -> String {
        names::random(letter, &mut *self.rng.lock())
    }

    /// Ends what a killed broker's sessions and tools are still at: what one of them goes on making would be unknown, or in the
    /// way of whoever repeats the operation.
    async fn end_predecessors(&self, admin: &mut Conn) -> Result<(), Error> {
        let deadline = Instant::now() + SESSIONS_END;
        loop {
            let sessions = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ? OR USER REGEXP '^[dt][0-9a-f]{24}$'";
            let mut sessions: Vec<u32> = admin.exec(sessions, (engine::ADMIN,)).await.map_err(Error::server)?;
            let own = self.sessions.lock().clone();
            sessions.retain(|id| !own.contains(id));
            if sessions.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::server("the sessions of the broker before do not end"));
            }
            for id in sessions {
                // It may just have ended by itself
                let _ = run(admin, format!("KILL HARD CONNECTION {id}")).await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Bytes of a database.
    async fn size(&self, admin: &mut Conn, name: &str) -> Result<u64, Error> {
        if let Some(data) = &self.data {
            return Ok(files::size_bytes(&data.join(name)));
        }
        let statement = "SELECT (SELECT coalesce(sum(FILE_SIZE), 0) FROM information_schema.INNODB_SYS_TABLESPACES \
                         WHERE NAME LIKE concat(?, '/%')) + (SELECT coalesce(sum(DATA_LENGTH + INDEX_LENGTH), 0) \
                         FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND ENGINE <> 'InnoDB')";
        let bytes: Option<f64> =
            admin.exec_first(format!("SELECT CAST(({statement}) AS DOUBLE)"), (name, name)).await.map_err(Error::server)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of sizes is whole and not negative")]
        Ok(bytes.unwrap_or_default() as u64)
    }

    /// Drops logins that ended and in whose name nothing runs any more.
    async fn drop_retired(&self, admin: &mut Conn, database: &str) -> Result<(), Error> {
        let retired = "SELECT login FROM cupola.logins WHERE name = ? AND retired";
        let retired: Vec<String> = admin.exec(retired, (database,)).await.map_err(Error::server)?;
        if retired.is_empty() {
            return Ok(());
        }
        let used = "SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? \
                    UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? \
                    UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ?";
        let used: Vec<String> = admin.exec(used, (database, database, database)).await.map_err(Error::server)?;
        for login in retired {
            if !used.contains(&format!("{login}@%")) {
                run(admin, format!("DROP USER IF EXISTS {login}@'%'")).await?;
                admin.exec_drop("DELETE FROM cupola.logins WHERE login = ?", (login,)).await.map_err(Error::server)?;
            }
        }
        Ok(())
    }

    async fn enforce_one(&self, admin: &mut Conn, name: &str, instance: &str, limit: u64) -> Result<(), Error> {
        let bytes = self.size(admin, name).await?;
        let accounts = writers(admin, name).await?;
        let (any, all) = (accounts.iter().any(|(_, writes)| *writes), accounts.iter().all(|(_, writes)| *writes));
        match bytes > limit {
            true if any => {
                warn!(instance.id = instance, size_bytes = bytes, limit_bytes = limit, "too large: writing is taken away");
                self.grant(admin, name, &accounts, FROZEN).await
            }
            true => shrink(admin, name).await,
            false if !all => {
                warn!(instance.id = instance, size_bytes = bytes, limit_bytes = limit, "small enough: writing is back");
                self.grant(admin, name, &accounts, ALL).await
            }
            false => Ok(()),
        }
    }

    /// Gives every account of the database exactly these rights, and ends their sessions, which would go on with the old ones.
    /// The owner is last: until then the database still counts as it was.
    async fn grant(&self, admin: &mut Conn, name: &str, accounts: &[(Account, bool)], rights: &str) -> Result<(), Error> {
        let (owner, logins): (Vec<_>, Vec<_>) = accounts.iter().partition(|(account, _)| account.user == name);
        for (account, _) in logins.into_iter().chain(owner) {
            let Account { user, host } = account;
            // In this order an account is never without any right, which would make it unknown here
            run(admin, format!("GRANT {FROZEN} ON {name}.* TO '{user}'@'{host}'")).await?;
            if rights == FROZEN {
                let taken: Vec<&str> = ALL.split(", ").filter(|right| !FROZEN.split(", ").any(|kept| kept == *right)).collect();
                run(admin, format!("REVOKE {} ON {name}.* FROM '{user}'@'{host}'", taken.join(", "))).await?;
            } else {
                run(admin, format!("GRANT {rights} ON {name}.* TO '{user}'@'{host}'")).await?;
            }
            end_sessions(admin, user).await?;
        }
        Ok(())
    }

    async fn is_frozen(&self, admin: &mut Conn, name: &str) -> Result<bool, Error> {
        let accounts = writers(admin, name).await?;
        Ok(accounts.iter().any(|(account, writes)| account.user == name && !writes))
    }

    /// An account that can read all of a database and nothing else: to be dropped by [`MariaDbCluster::drop_reader`].
    pub(crate) async fn make_reader(&self, database: &str) -> Result<Tool, Error> {
        let tool = Tool { login: self.random_name('t'), password: Secret::new(self.new_password()) };
        let (login, password) = (&tool.login, tool.password.expose());
        let mut admin = self.admin().await?;
        let account = format!("{login}@{}", self.way.tools_at());
        run(&mut admin, format!("CREATE USER {account} IDENTIFIED BY '{password}'")).await?;
        run(&mut admin, format!("GRANT SELECT, SHOW VIEW, TRIGGER, LOCK TABLES ON {database}.* TO {account}")).await?;
        // The texts of routines are for their definers and for who may read this
        run(&mut admin, format!("GRANT SELECT ON mysql.proc TO {account}")).await?;
        Ok(tool)
    }

    pub(crate) async fn drop_reader(&self, tool: &Tool) -> Result<(), Error> {
        run(&mut self.admin().await?, format!("DROP USER IF EXISTS {}@{}", tool.login, self.way.tools_at())).await
    }

    /// An empty database in which a dump can be tried, and an account for that.
    pub(crate) async fn make_scratch(&self, collation: &str) -> Result<(String, Tool), Error> {
        let name = self.random_name('s');
        let tool = Tool { login: self.random_name('t'), password: Secret::new(self.new_password()) };
        let (login, password) = (&tool.login, tool.password.expose());
        let mut admin = self.admin().await?;
        run(&mut admin, format!("CREATE DATABASE {name} CHARACTER SET {} COLLATE {collation}", charset(collation))).await?;
        let account = format!("{login}@{}", self.way.tools_at());
        run(&mut admin, format!("CREATE USER {account} IDENTIFIED BY '{password}'")).await?;
        run(&mut admin, format!("GRANT {ALL} ON {name}.* TO {account}")).await?;
        Ok((name, tool))
    }

    pub(crate) async fn drop_scratch(&self, name: &str, tool: &Tool) -> Result<(), Error> {
        run(&mut self.admin().await?, format!("DROP DATABASE IF EXISTS {name}")).await?;
        self.drop_reader(tool).await
    }

    /// Shuts all logins out, empties the database, and opens its owner account for a tool that fills it. Ended by
    /// [`MariaDbCluster::open`].
    pub(crate) async fn empty(&self, database: &Database) -> Result<Tool, Error> {
        let name = &database.name;
        let mut admin = self.admin().await?;
        for login in live(&mut admin, name).await? {
            run(&mut admin, format!("ALTER USER {login}@'%' ACCOUNT LOCK")).await?;
            end_sessions(&mut admin, &login).await?;
        }
        run(&mut admin, format!("DROP DATABASE IF EXISTS {name}")).await?;
        let collation = &database.collation;
        run(&mut admin, format!("CREATE DATABASE {name} CHARACTER SET {} COLLATE {collation}", charset(collation))).await?;
        let owner = format!("{name}@{}", self.way.tools_at());
        run(&mut admin, format!("GRANT {ALL} ON {name}.* TO {owner}")).await?;
        let tool = Tool { login: name.clone(), password: Secret::new(self.new_password()) };
        let password = tool.password.expose();
        run(&mut admin, format!("ALTER USER {owner} IDENTIFIED BY '{password}' ACCOUNT UNLOCK")).await?;
        Ok(tool)
    }

    /// Closes the owner account and lets the logins in again.
    pub(crate) async fn open(&self, database: &Database) -> Result<(), Error> {
        let name = &database.name;
        let mut admin = self.admin().await?;
        let (owner, password) = (format!("{name}@{}", self.way.tools_at()), self.new_password());
        run(&mut admin, format!("ALTER USER {owner} IDENTIFIED BY '{password}' ACCOUNT LOCK")).await?;
        end_sessions(&mut admin, name).await?;
        for login in live(&mut admin, name).await? {
            run(&mut admin, format!("ALTER USER {login}@'%' ACCOUNT UNLOCK")).await?;
        }
        self.drop_retired(&mut admin, name).await
    }
}

#[async_trait]
impl Cluster for MariaDbCluster {
    async fn probe(&self) -> Result<(), Error> {
        let mut connection = Conn::new(Opts::from(self.way.options())).await.map_err(Error::server)?;
        connection.ping().await.map_err(Error::server)?;
        connection.disconnect().await.map_err(Error::server)
    }

    async fn settle(&self) -> Result<(), Error> {
        let mut admin = self.admin().await?;
        self.end_predecessors(&mut admin).await?;
        for statement in SETTLE {
            run(&mut admin, *statement).await?;
        }
        let tools = "SELECT User FROM mysql.global_priv WHERE User REGEXP '^t[0-9a-f]{24}$'";
        for tool in strings(&mut admin, tools).await? {
            run(&mut admin, format!("DROP USER IF EXISTS {tool}@{}", self.way.tools_at())).await?;
        }
        let scratch = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME REGEXP '^s[0-9a-f]{24}$'";
        for name in strings(&mut admin, scratch).await? {
            run(&mut admin, format!("DROP DATABASE IF EXISTS {name}")).await?;
        }
        Ok(())
    }

    async fn reload(&self) -> Result<(), Error> {
        run(&mut self.admin().await?, "FLUSH SSL").await
    }

    async fn version(&self) -> Result<String, Error> {
        let mut admin = self.admin().await?;
        Ok(engine::semantic(&strings(&mut admin, "SELECT version()").await?.pop().unwrap_or_default()))
    }

    async fn find(&self, instance: &str) -> Result<Option<Database>, Error> {
        let mut admin = self.admin().await?;
        let statement =
            "SELECT name, collation_name, size_limit, connections FROM cupola.instances WHERE instance = ? AND complete";
        let row: Option<(String, String, u64, u32)> = admin.exec_first(statement, (instance,)).await.map_err(Error::server)?;
        Ok(row.map(|(name, collation, size_bytes, connections)| Database { name, collation, size_bytes, connections }))
    }

    async fn provide(&self, instance: &str, allowance: &Allowance) -> Result<Database, Error> {
        let name = names::derived('d', instance);
        let Allowance { size_bytes, connections, collation } = allowance;
        let mut admin = self.admin().await?;
        let row = "INSERT INTO cupola.instances (name, instance, complete, collation_name, size_limit, connections) \
                   VALUES (?, ?, FALSE, ?, ?, ?) ON DUPLICATE KEY UPDATE size_limit = ?, connections = ?";
        let values = (&name, instance, collation, size_bytes, connections, size_bytes, connections);
        admin.exec_drop(row, values).await.map_err(Error::server)?;
        run(&mut admin, format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET {} COLLATE {collation}", charset(collation)))
            .await?;
        // Owns what has no other owner; nobody can log in to it
        let owner = format!("{name}@{}", self.way.tools_at());
        run(&mut admin, format!("CREATE USER IF NOT EXISTS {owner} ACCOUNT LOCK")).await?;
        run(&mut admin, format!("GRANT {ALL} ON {name}.* TO {owner}")).await?;
        let done = "UPDATE cupola.instances SET complete = TRUE WHERE name = ?";
        admin.exec_drop(done, (&name,)).await.map_err(Error::server)?;
        Ok(Database { name, collation: collation.clone(), size_bytes: *size_bytes, connections: *connections })
    }

    async fn set_limits(&self, instance: &str, allowance: &Allowance) -> Result<(), Error> {
        let mut admin = self.admin().await?;
        let before = "SELECT name, connections FROM cupola.instances WHERE instance = ?";
        let before: Option<(String, u32)> = admin.exec_first(before, (instance,)).await.map_err(Error::server)?;
        let Some((name, before)) = before else { return Err(Error::server("the instance has no database")) };
        let logins = "SELECT login, connections FROM cupola.logins WHERE name = ? AND NOT retired";
        let logins: Vec<(String, u32)> = admin.exec(logins, (&name,)).await.map_err(Error::server)?;
        for (login, limit) in logins {
            // A login that asked for fewer keeps that, as far as the new plan allows it
            let limit = if limit == before { allowance.connections } else { limit.min(allowance.connections) };
            run(&mut admin, format!("ALTER USER {login}@'%' WITH MAX_USER_CONNECTIONS {limit}")).await?;
            let row = "UPDATE cupola.logins SET connections = ? WHERE login = ?";
            admin.exec_drop(row, (limit, login)).await.map_err(Error::server)?;
        }
        let row = "UPDATE cupola.instances SET size_limit = ?, connections = ? WHERE name = ?";
        admin.exec_drop(row, (allowance.size_bytes, allowance.connections, name)).await.map_err(Error::server)
    }

    async fn remove(&self, instance: &str) -> Result<Option<Removal>, Error> {
        let mut admin = self.admin().await?;
        let found = "SELECT name FROM cupola.instances WHERE instance = ?";
        let found: Option<String> = admin.exec_first(found, (instance,)).await.map_err(Error::server)?;
        let Some(name) = found else { return Ok(None) };
        let logins: Vec<(String, bool)> =
            admin.exec("SELECT login, retired FROM cupola.logins WHERE name = ?", (&name,)).await.map_err(Error::server)?;
        for (login, _) in &logins {
            if exists(&mut admin, login).await? {
                run(&mut admin, format!("ALTER USER {login}@'%' ACCOUNT LOCK")).await?;
                end_sessions(&mut admin, login).await?;
            }
        }
        let bytes = self.size(&mut admin, &name).await?;
        run(&mut admin, format!("DROP DATABASE IF EXISTS {name}")).await?;
        for (login, _) in &logins {
            run(&mut admin, format!("DROP USER IF EXISTS {login}@'%'")).await?;
        }
        run(&mut admin, format!("DROP USER IF EXISTS {name}@{}", self.way.tools_at())).await?;
        admin.exec_drop("DELETE FROM cupola.logins WHERE name = ?", (&name,)).await.map_err(Error::server)?;
        admin.exec_drop("DELETE FROM cupola.instances WHERE name = ?", (&name,)).await.map_err(Error::server)?;
        Ok(Some(Removal { name, bytes, logins: logins.iter().filter(|(_, retired)| !retired).count() }))
    }

    async fn log_in(&self, login: &str, password: &str, database: &Database, connections: u32) -> Result<(), Error> {
        let name = &database.name;
        let mut admin = self.admin().await?;
        let row = "INSERT INTO cupola.logins (login, name, connections, retired) VALUES (?, ?, ?, FALSE) \
                   ON DUPLICATE KEY UPDATE connections = ?, retired = FALSE";
        admin.exec_drop(row, (login, name, connections, connections)).await.map_err(Error::server)?;
        // A tenant may drop its own database
        let collation = &database.collation;
        run(&mut admin, format!("CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET {} COLLATE {collation}", charset(collation)))
            .await?;
        let rights = if self.is_frozen(&mut admin, name).await? { FROZEN } else { ALL };
        run(&mut admin, format!("CREATE USER IF NOT EXISTS {login}@'%' ACCOUNT LOCK")).await?;
        run(&mut admin, format!("GRANT {rights} ON {name}.* TO {login}@'%'")).await?;
        let open = format!(
            "ALTER USER {login}@'%' IDENTIFIED BY '{password}' REQUIRE SSL WITH MAX_USER_CONNECTIONS {connections} ACCOUNT UNLOCK"
        );
        run(&mut admin, open).await
    }

    /// Ends a login for good. It is dropped, unless something in the database runs with its rights: then it stays as a name that
    /// nobody can log in to, until that is gone.
    async fn log_out(&self, login: &str, instance: &str) -> Result<(), Error> {
        let database = names::derived('d', instance);
        let mut admin = self.admin().await?;
        admin.exec_drop("UPDATE cupola.logins SET retired = TRUE WHERE login = ?", (login,)).await.map_err(Error::server)?;
        if exists(&mut admin, login).await? {
            run(&mut admin, format!("ALTER USER {login}@'%' IDENTIFIED BY '{}' ACCOUNT LOCK", self.new_password())).await?;
            end_sessions(&mut admin, login).await?;
        }
        self.drop_retired(&mut admin, &database).await
    }

    async fn logins(&self, instance: &str) -> Result<usize, Error> {
        let mut admin = self.admin().await?;
        Ok(live(&mut admin, &names::derived('d', instance)).await?.len())
    }

    async fn instances(&self) -> Result<u64, Error> {
        let mut admin = self.admin().await?;
        let count: Option<u64> = admin.query_first("SELECT count(*) FROM cupola.instances").await.map_err(Error::server)?;
        Ok(count.unwrap_or_default())
    }

    async fn size_bytes(&self, instance: &str) -> Result<u64, Error> {
        let mut admin = self.admin().await?;
        self.size(&mut admin, &names::derived('d', instance)).await
    }

    async fn enforce(&self, instance: Option<&str>) -> Result<(), Error> {
        let mut admin = self.admin().await?;
        let all = "SELECT name, instance, size_limit FROM cupola.instances WHERE complete AND instance = coalesce(?, instance)";
        let all: Vec<(String, String, u64)> = admin.exec(all, (instance,)).await.map_err(Error::server)?;
        for (name, instance, limit) in all {
            // The others must not wait for one that is in trouble; the next round tries again
            if let Err(e) = self.enforce_one(&mut admin, &name, &instance, limit).await {
                warn!(error = &e as &dyn std::error::Error, instance.id = instance, "cannot enforce the size");
            }
        }
        Ok(())
    }

    async fn dump(&self, database: &Database, into: Writer, now: Timestamp) -> Result<Note, Error> {
        backup::dump(self, database, into, now).await
    }

    async fn restore(&self, database: &Database, dump: File) -> Result<(), Error> {
        backup::restore(self, database, dump).await
    }

    async fn fill(&self, database: &Database, dump: File) -> Result<(), Error> {
        backup::fill(self, database, dump).await
    }
}

struct Account {
    user: String,
    host: String,
}

/// The accounts of a database, and whether each may write.
async fn writers(admin: &mut Conn, name: &str) -> Result<Vec<(Account, bool)>, Error> {
    let statement = "SELECT User, Host, Insert_priv FROM mysql.db WHERE Db = ? AND User REGEXP '^[du][0-9a-f]{24}$'";
    let rows: Vec<(String, String, String)> = admin.exec(statement, (name,)).await.map_err(Error::server)?;
    Ok(rows.into_iter().map(|(user, host, writes)| (Account { user, host }, writes == "Y")).collect())
}

/// The logins of a database that are not retired.
async fn live(admin: &mut Conn, name: &str) -> Result<Vec<String>, Error> {
    let statement =
        "SELECT login FROM cupola.logins l JOIN mysql.global_priv p ON p.User = l.login WHERE name = ? AND NOT retired";
    admin.exec(statement, (name,)).await.map_err(Error::server)
}

async fn exists(admin: &mut Conn, login: &str) -> Result<bool, Error> {
    let found: Option<String> =
        admin.exec_first("SELECT User FROM mysql.global_priv WHERE User = ?", (login,)).await.map_err(Error::server)?;
    Ok(found.is_some())
}

/// Ends all sessions of an account, and waits until they are gone.
async fn end_sessions(admin: &mut Conn, user: &str) -> Result<(), Error> {
    let deadline = Instant::now() + SESSIONS_END;
    loop {
        let sessions = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ?";
        let sessions: Vec<u64> = admin.exec(sessions, (user,)).await.map_err(Error::server)?;
        if sessions.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::server("sessions do not end"));
        }
        for id in sessions {
            // It may just have ended by itself
            let _ = run(admin, format!("KILL HARD CONNECTION {id}")).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Deleted rows take space until somebody tidies up, and the tenant of a frozen database cannot.
async fn shrink(admin: &mut Conn, name: &str) -> Result<(), Error> {
    let statement = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' \
                     AND DATA_FREE > 4194304 AND DATA_FREE > (DATA_LENGTH + INDEX_LENGTH) / 5";
    let tables: Vec<String> = admin.exec(statement, (name,)).await.map_err(Error::server)?;
    for table in tables {
        let quoted = table.replace('`', "``");
        let _: Vec<mysql_async::Row> =
            admin.query(format!("OPTIMIZE NO_WRITE_TO_BINLOG TABLE {name}.`{quoted}`")).await.map_err(Error::server)?;
    }
    Ok(())
}

async fn run(admin: &mut Conn, statement: impl AsRef<str> + Send + Sync) -> Result<(), Error> {
    admin.query_drop(statement.as_ref()).await.map_err(Error::server)
}

async fn strings(admin: &mut Conn, statement: &str) -> Result<Vec<String>, Error> {
    admin.query(statement).await.map_err(Error::server)
}

/// `utf8mb4_bin`: `utf8mb4`.
fn charset(collation: &str) -> &str {
    collation.split_once('_').map_or(collation, |(charset, _)| charset)
}
