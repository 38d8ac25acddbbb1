//! One running server, as its administrator sees it: databases, logins, sizes.
//!
//! It knows nothing of how the server is kept: the shared one, or one of an instance's own.

use crate::{
    backup,
    engine::{self, ADMIN},
    sql::{self, Name, Text},
    way::Way,
};
use async_trait::async_trait;
use broker_sdk::osb::Parameters;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, Runtime};
use engines::{
    Error,
    backups::{Note, Writer},
    names,
    settings::EngineSettings,
};
use foundation::{Secret, Shutdown};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use sql_broker::{Allowance, Around, Cluster, Database, Removal};
use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio_postgres::{Client, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;
use types::Timestamp;

/// A server.
pub(crate) struct PostgresCluster {
    pub(crate) way: Way,
    /// Where and as whom tools run.
    pub(crate) settings: EngineSettings,
    /// Its data folder, if that is on this machine: tools are of the same version.
    pub(crate) data: Option<PathBuf>,
    tls: MakeRustlsConnect,
    pool: Pool,
    /// Marks the sessions of this broker process, and of no other.
    session: String,
    rng: Mutex<StdRng>,
    shutdown: Shutdown,
}

/// How large a database is, and what follows from that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Size {
    name: String,
    instance: String,
    bytes: i64,
    limit: i64,
    frozen: bool,
}

/// The collation of databases that are made before they are asked for.
pub(crate) const USUAL_COLLATION: &str = "C.UTF-8";

/// How long the end of other sessions is waited for.
const SESSIONS_END: Duration = Duration::from_secs(10);

fn failed(e: tokio_postgres::Error) -> Error {
    Error::server(e)
}

/// As the server keeps sizes.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
fn unsigned(bytes: Option<i64>) -> u64 {
    u64::try_from(bytes.unwrap_or_default()).unwrap_or_default()
}
/// As the server keeps numbers of connections.
fn count(connections: u32) -> i32 {
    i32::try_from(connections).unwrap_or(i32::MAX)
}

impl PostgresCluster {
    /// The server at the end of `way`, with so many connections of the administrator at once.
    pub(crate) fn new(way: Way, data: Option<PathBuf>, most: usize, around: Around) -> Result<Self, Error> {
        let Around { settings, session, rng, shutdown } = around;
        let tls = way.tls()?;
        let manager = Manager::from_config(way.options(&session, "postgres"), tls.clone(), ManagerConfig::default());
        let builder = Pool::builder(manager).max_size(most).runtime(Runtime::Tokio1).wait_timeout(Some(Duration::from_secs(120)));
        let pool = builder.create_timeout(Some(Duration::from_secs(10))).build().map_err(Error::server)?;
        Ok(Self { way, settings, data, tls, pool, session, rng: Mutex::new(rng), shutdown })
    }

    /// A connection of the administrator to the database that has no tenant. There are few: who has one hands it on, and never
    /// asks for a second.
    async fn admin(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(Error::server)
    }

    /// A connection of the administrator to a tenant's database. Nothing that a tenant wrote may run in it by itself, so names
    /// are looked up in the system's schema alone.
    async fn inside(&self, database: &str) -> Result<Client, Error> {
        let config = self.way.options(&self.session, database);
        let (client, connection) = config.connect(self.tls.clone()).await.map_err(failed)?;
        self.shutdown.spawn(async move {
            let _ = connection.await;
        });
        client.batch_execute("SET search_path = pg_catalog, pg_temp").await.map_err(failed)?;
        Ok(client)
    }

    fn random_name(&self, letter: char) -> String {
        names::random(letter, &mut *self.rng.lock())
    }
    fn password(&self) -> String {
        names::password(&mut *self.rng.lock())
    }

    /// Takes one of the spare databases; false if there is none.
    async fn claim(&self, instance: &str, allowance: &Allowance) -> Result<bool, Error> {
        let statement = "UPDATE cupola.databases SET instance = $1, state = 'ready', size_limit = $2, connections = $3, \
                         made_at = now() WHERE name = (SELECT name FROM cupola.databases WHERE state = 'spare' \
                         ORDER BY made_at LIMIT 1 FOR UPDATE SKIP LOCKED)";
        let admin = self.admin().await?;
        let taken = admin
            .execute(statement, &[&instance, &signed(allowance.size_bytes), &count(allowance.connections)])
            .await
            .map_err(failed)?;
        Ok(taken == 1)
    }

    /// Makes a database: for an instance; as a spare one; or, with an `owner` that is there already, to take the place of that
    /// owner's database later (it stays in the state `making`). The row comes first: a killed broker leaves nothing unknown.
    async fn make(
        &self,
        admin: &Object,
        name: &str,
        instance: Option<&str>,
        owner: Option<&str>,
        allowance: &Allowance,
    ) -> Result<(), Error> {
        let role = owner.unwrap_or(name);
        let row = "INSERT INTO cupola.databases (name, owner, instance, state, collation_name, size_limit, connections) \
                   VALUES ($1, $2, $3, 'making', $4, $5, $6)";
        let Allowance { collation, .. } = allowance;
        let (size_bytes, connections) = (signed(allowance.size_bytes), count(allowance.connections));
        admin.execute(row, &[&name, &role, &instance, collation, &size_bytes, &connections]).await.map_err(failed)?;
        if owner.is_none() {
            admin.batch_execute(&format!("CREATE ROLE {} NOLOGIN", Name(role))).await.map_err(failed)?;
        }
        let collated = match collation.as_str() {
            USUAL_COLLATION => String::new(),
            locale => format!("LOCALE_PROVIDER icu ICU_LOCALE {}", Text(locale)),
        };
        let database = format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' {collated}", Name(name));
        admin.batch_execute(&database).await.map_err(failed)?;
        let rights = format!(
            "REVOKE ALL ON DATABASE {0} FROM PUBLIC; GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {0} TO {1}",
            Name(name),
            Name(role)
        );
        admin.batch_execute(&rights).await.map_err(failed)?;
        self.inside(name).await?.batch_execute(&sql::prepare(role)).await.map_err(failed)?;
        if owner.is_none() {
            let state = if instance.is_some() { "ready" } else { "spare" };
            let done = "UPDATE cupola.databases SET state = $2 WHERE name = $1";
            admin.execute(done, &[&name, &state]).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes a login: its sessions end, what it owns goes to the owner role.
    async fn end_login(&self, login: &str, owner: Option<&str>) -> Result<(), Error> {
        let admin = self.admin().await?;
        if admin.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&login]).await.map_err(failed)?.is_none() {
            return Ok(());
        }
        admin.batch_execute(&format!("ALTER ROLE {} NOLOGIN", Name(login))).await.map_err(failed)?;
        Self::end_sessions(&admin, "usename", login).await?;
        self.drop_role(&admin, login, owner).await
    }

    /// Drops a role wherever it has left traces: in its own database and in those of others, who may have given it rights that
    /// it never asked for.
    async fn drop_role(&self, admin: &Object, role: &str, owner: Option<&str>) -> Result<(), Error> {
        let traces = "SELECT DISTINCT d.datname FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid \
                      JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass WHERE r.rolname = $1";
        for row in admin.query(traces, &[&role]).await.map_err(failed)? {
            let inside = self.inside(&row.get::<_, String>(0)).await?;
            if let Some(owner) = owner {
                inside.batch_execute(&sql::hand_over(role, owner)).await.map_err(failed)?;
            }
            inside.batch_execute(&format!("DROP OWNED BY {}", Name(role))).await.map_err(failed)?;
        }
        admin.batch_execute(&format!("DROP ROLE IF EXISTS {}", Name(role))).await.map_err(failed)
    }

    /// Ends what a killed broker's sessions are still at: a database that one of them goes on making would be unknown once its
    /// row is cleared away.
    async fn end_predecessors(&self, admin: &Object) -> Result<(), Error> {
        let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                         WHERE usename = $1 AND application_name <> $2 AND backend_type = 'client backend'";
        let deadline = Instant::now() + SESSIONS_END;
        loop {
            let left: i64 = admin.query_one(statement, &[&ADMIN, &self.session]).await.map_err(failed)?.get(0);
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::server("the sessions of the broker before do not end"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends sessions by the column of `pg_stat_activity`, and waits until they are gone.
    async fn end_sessions(admin: &Object, column: &str, value: &str) -> Result<(), Error> {
        let statement = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {column} = $1 AND pid <> pg_backend_pid()"
        );
        let deadline = Instant::now() + SESSIONS_END;
        loop {
            let left: i64 = admin.query_one(&statement, &[&value]).await.map_err(failed)?.get(0);
            if left == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::server("sessions do not end"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The logins of an owner role, those of tools among them.
    async fn members(admin: &Object, owner: &str) -> Result<Vec<String>, Error> {
        let members = "SELECT m.rolname FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
                       JOIN pg_roles r ON r.oid = a.roleid WHERE r.rolname = $1 AND m.rolname ~ '^[ut][0-9a-f]{24}$'";
        let members = admin.query(members, &[&owner]).await.map_err(failed)?;
        Ok(members.iter().map(|row| row.get(0)).collect())
    }

    /// Drops a database, the owner role of the same name with its logins, and the row; returns how many logins there were.
    async fn drop_database(&self, admin: &Object, name: &str) -> Result<usize, Error> {
        let logins = Self::members(admin, name).await?;
        for login in &logins {
            admin.batch_execute(&format!("ALTER ROLE {} NOLOGIN", Name(login))).await.map_err(failed)?;
        }
        match admin.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", Name(name))).await {
            // The tenant's sessions were busy; nobody can log in any more
            Err(e) if e.code() == Some(&SqlState::OBJECT_IN_USE) => {
                Self::end_sessions(admin, "datname", name).await?;
                let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", Name(name));
                admin.batch_execute(&statement).await.map_err(failed)?;
            }
            dropped => dropped.map_err(failed)?,
        }
        for login in &logins {
            Self::end_sessions(admin, "usename", login).await?;
            self.drop_role(admin, login, None).await?;
        }
        self.drop_role(admin, name, None).await?;
        admin.execute("DELETE FROM cupola.databases WHERE name = $1", &[&name]).await.map_err(failed)?;
        Ok(logins.len())
    }

    /// The sizes of all instances, or of one.
    async fn sizes(&self, instance: Option<&str>) -> Result<Vec<Size>, Error> {
        let statement = "SELECT i.name, i.instance, pg_database_size(d.oid), i.size_limit, \
                         NOT has_database_privilege(i.name, d.oid, 'CREATE') \
                         FROM cupola.databases i JOIN pg_database d ON d.datname = i.name \
                         WHERE i.state = 'ready' AND i.instance = coalesce($1, i.instance)";
        let rows = self.admin().await?.query(statement, &[&instance]).await.map_err(failed)?;
        let size = |row: tokio_postgres::Row| Size {
            name: row.get(0),
            instance: row.get(1),
            bytes: row.get(2),
            limit: row.get(3),
            frozen: row.get(4),
        };
        Ok(rows.into_iter().map(size).collect())
    }

    async fn freeze(&self, name: &str) -> Result<(), Error> {
        let admin = self.admin().await?;
        // What a login made as itself counts like all else
        let mut inside = self.alone(&admin, name).await?;
        let frozen = async {
            self.hand_over_all(&inside, name).await?;
            let transaction = inside.transaction().await.map_err(failed)?;
            transaction.batch_execute(&sql::freeze(name, name)).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)
        };
        let frozen = frozen.await;
        Self::open(&admin, name).await?;
        frozen
    }

    async fn thaw(&self, name: &str) -> Result<(), Error> {
        let mut inside = self.inside(name).await?;
        let transaction = inside.transaction().await.map_err(failed)?;
        transaction.batch_execute(&sql::thaw(name, name)).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Deleted rows take space until somebody tidies up, and the tenant of a frozen database cannot.
    async fn shrink(&self, name: &str) -> Result<(), Error> {
        let inside = self.inside(name).await?;
        inside.batch_execute("SET lock_timeout = '2s'").await.map_err(failed)?;
        let statement = "SELECT s.relid::regclass::text FROM pg_stat_user_tables s WHERE s.n_dead_tup > 1000 \
                         AND s.n_dead_tup > s.n_live_tup / 5 ORDER BY s.n_dead_tup DESC LIMIT 20";
        for row in inside.query(statement, &[]).await.map_err(failed)? {
            // Already quoted by the server
            let table: String = row.get(0);
            inside.batch_execute(&format!("VACUUM (FULL) {table}")).await.map_err(failed)?;
        }
        Ok(())
    }

    /// A connection to a database that nobody else uses; [`PostgresCluster::open`] lets the others in again.
    async fn alone(&self, admin: &Object, name: &str) -> Result<Client, Error> {
        admin.batch_execute(&format!("ALTER DATABASE {} CONNECTION LIMIT 0", Name(name))).await.map_err(failed)?;
        let alone = async {
            Self::end_sessions(admin, "datname", name).await?;
            self.inside(name).await
        };
        let alone = alone.await;
        if alone.is_err() {
            Self::open(admin, name).await?;
        }
        alone
    }

    async fn open(admin: &Object, name: &str) -> Result<(), Error> {
        admin.batch_execute(&format!("ALTER DATABASE {} CONNECTION LIMIT -1", Name(name))).await.map_err(failed)
    }

    /// Gives what logins own themselves to the owner role.
    async fn hand_over_all(&self, inside: &Client, owner: &str) -> Result<(), Error> {
        let logins = "SELECT DISTINCT r.rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = s.refobjid \
                      AND s.refclassid = 'pg_authid'::regclass WHERE s.deptype = 'o' AND r.rolcanlogin AND NOT r.rolsuper \
                      AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        for row in inside.query(logins, &[]).await.map_err(failed)? {
            let login: String = row.get(0);
            inside.batch_execute(&sql::hand_over(&login, owner)).await.map_err(failed)?;
        }
        Ok(())
    }

    /// A login for a tool that reads or fills `database` with the rights of `owner`, never with more: what a tenant wrote may
    /// run in it. To be dropped by [`PostgresCluster::drop_tool`].
    pub(crate) async fn make_tool(&self, database: &str, owner: &str) -> Result<Tool, Error> {
        let inside = self.inside(database).await?;
        self.hand_over_all(&inside, owner).await?;
        let tool = Tool { login: self.random_name('t'), password: Secret::new(self.password()) };
        let verifier = postgres_protocol::password::scram_sha_256(tool.password.expose().as_bytes());
        let text = format!(
            "CREATE ROLE {0} LOGIN INHERIT CONNECTION LIMIT 4 PASSWORD {1}; GRANT {2}, cupola_tools TO {0}; ALTER ROLE {0} SET role = {2};
             ALTER ROLE {0} SET statement_timeout = 0; ALTER ROLE {0} SET idle_in_transaction_session_timeout = 0;",
            Name(&tool.login),
            Text(&verifier),
            Name(owner)
        );
        self.admin().await?.batch_execute(&text).await.map_err(failed)?;
        Ok(tool)
    }

    pub(crate) async fn drop_tool(&self, tool: &Tool, owner: &str) -> Result<(), Error> {
        self.end_login(&tool.login, Some(owner)).await
    }

    /// An empty database that will take the place of `database`; unknown to everybody but the caller until [`PostgresCluster::swap`].
    pub(crate) async fn make_successor(&self, database: &Database) -> Result<String, Error> {
        let name = self.random_name('d');
        let Database { size_bytes, connections, collation, .. } = database;
        let allowance = Allowance { size_bytes: *size_bytes, connections: *connections, collation: collation.clone() };
        self.make(&self.admin().await?, &name, None, Some(&database.name), &allowance).await?;
        Ok(name)
    }

    /// Drops a successor that will not be used.
    pub(crate) async fn discard(&self, successor: &str) -> Result<(), Error> {
        let admin = self.admin().await?;
        self.drop_database(&admin, successor).await.map(|_| ())
    }

    /// Puts the successor in the place of the database, at once and for good; the old one is dropped.
    pub(crate) async fn swap(&self, database: &Database, successor: &str) -> Result<(), Error> {
        let aside = self.random_name('o');
        let mut admin = self.admin().await?;
        let swapped = async {
            for name in [database.name.as_str(), successor] {
                admin.batch_execute(&format!("ALTER DATABASE {} CONNECTION LIMIT 0", Name(name))).await.map_err(failed)?;
                Self::end_sessions(&admin, "datname", name).await?;
            }
            let transaction = admin.transaction().await.map_err(failed)?;
            let text = format!(
                "ALTER DATABASE {0} RENAME TO {2}; ALTER DATABASE {1} RENAME TO {0}; ALTER DATABASE {2} RENAME TO {1};",
                Name(&database.name),
                Name(successor),
                Name(&aside)
            );
            transaction.batch_execute(&text).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)
        };
        let swapped = swapped.await;
        Self::open(&admin, &database.name).await?;
        swapped?;
        self.drop_database(&admin, successor).await.map(|_| ())
    }
}

/// A login for a tool.
pub(crate) struct Tool {
    pub(crate) login: String,
    pub(crate) password: Secret,
}

#[async_trait]
impl Cluster for PostgresCluster {
    async fn probe(&self) -> Result<(), Error> {
        let config = self.way.options(&self.session, "postgres");
        let (client, connection) = config.connect(self.tls.clone()).await.map_err(failed)?;
        let answer = async {
            let answer = client.simple_query("SELECT 1").await;
            drop(client);
            answer
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer.map(|_| ()).map_err(failed)
    }

    async fn settle(&self) -> Result<(), Error> {
        let admin = self.admin().await?;
        self.end_predecessors(&admin).await?;
        admin.batch_execute(sql::SETTLE).await.map_err(failed)?;
        // Those with an instance are made again, or removed, when their operation is repeated
        let left = "SELECT name FROM cupola.databases WHERE state IN ('making', 'dropping') AND instance IS NULL";
        for row in admin.query(left, &[]).await.map_err(failed)? {
            self.drop_database(&admin, &row.get::<_, String>(0)).await?;
        }
        // Shut for a moment when the broker was killed
        let shut = "SELECT d.datname FROM pg_database d JOIN cupola.databases i ON i.name = d.datname \
                    WHERE d.datconnlimit = 0 AND i.state IN ('ready', 'spare')";
        for row in admin.query(shut, &[]).await.map_err(failed)? {
            Self::open(&admin, &row.get::<_, String>(0)).await?;
        }
        let tools = "SELECT rolname FROM pg_roles WHERE rolname ~ '^t[0-9a-f]{24}$'";
        for row in admin.query(tools, &[]).await.map_err(failed)? {
            let tool = row.get::<_, String>(0);
            // It may still be at work, with locks that the removal would wait for
            admin.batch_execute(&format!("ALTER ROLE {} NOLOGIN", Name(&tool))).await.map_err(failed)?;
            Self::end_sessions(&admin, "usename", &tool).await?;
            self.drop_role(&admin, &tool, None).await?;
        }
        Ok(())
    }

    async fn reload(&self) -> Result<(), Error> {
        self.admin().await?.execute("SELECT pg_reload_conf()", &[]).await.map(|_| ()).map_err(failed)
    }

    async fn version(&self) -> Result<String, Error> {
        let row = self.admin().await?.query_one("SHOW server_version", &[]).await.map_err(failed)?;
        Ok(engine::semantic(row.get(0)))
    }

    async fn find(&self, instance: &str) -> Result<Option<Database>, Error> {
        let admin = self.admin().await?;
        let statement = "SELECT name, collation_name, size_limit, connections FROM cupola.databases \
                         WHERE instance = $1 AND state = 'ready'";
        let row = admin.query_opt(statement, &[&instance]).await.map_err(failed)?;
        let database = |row: tokio_postgres::Row| Database {
            name: row.get(0),
            collation: row.get(1),
            size_bytes: u64::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
            connections: u32::try_from(row.get::<_, i32>(3)).unwrap_or_default(),
        };
        Ok(row.map(database))
    }

    async fn provide(&self, instance: &str, allowance: &Allowance) -> Result<Database, Error> {
        if let Some(found) = self.find(instance).await? {
            self.set_limits(instance, allowance).await?;
            return Ok(Database { size_bytes: allowance.size_bytes, connections: allowance.connections, ..found });
        }
        // What a killed broker began
        self.remove(instance).await?;
        if allowance.collation != USUAL_COLLATION || !self.claim(instance, allowance).await? {
            self.make(&self.admin().await?, &self.random_name('d'), Some(instance), None, allowance).await?;
        }
        self.find(instance).await?.ok_or_else(|| Error::server("a database vanished while it was being made"))
    }

    async fn set_limits(&self, instance: &str, allowance: &Allowance) -> Result<(), Error> {
        let mut admin = self.admin().await?;
        let transaction = admin.transaction().await.map_err(failed)?;
        let row = "UPDATE cupola.databases SET size_limit = $2, connections = $3 WHERE instance = $1 RETURNING name, \
                   (SELECT connections FROM cupola.databases WHERE instance = $1)";
        let row = transaction
            .query_opt(row, &[&instance, &signed(allowance.size_bytes), &count(allowance.connections)])
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Err(Error::server("the instance has no database")) };
        let (name, before): (String, i32) = (row.get(0), row.get(1));
        let members = "SELECT m.rolname, m.rolconnlimit FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member \
                       JOIN pg_roles r ON r.oid = a.roleid WHERE r.rolname = $1 AND m.rolname LIKE 'u%'";
        for login in transaction.query(members, &[&name]).await.map_err(failed)? {
            let (login, limit): (String, i32) = (login.get(0), login.get(1));
            // A login that asked for fewer keeps that, as far as the new plan allows it
            let most = count(allowance.connections);
            let limit = if limit == before { most } else { limit.min(most) };
            let statement = format!("ALTER ROLE {} CONNECTION LIMIT {limit}", Name(&login));
            transaction.batch_execute(&statement).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Adds extensions that are not there yet, with the tenant's rights: only those that the server trusts everybody with.
    async fn extend(&self, database: &Database, parameters: &Parameters) -> Result<(), Error> {
        let extensions = extensions(parameters);
        if extensions.is_empty() {
            return Ok(());
        }
        let inside = self.inside(&database.name).await?;
        let mut text = format!("SET ROLE {};", Name(&database.name));
        for extension in extensions {
            text.push_str(&format!("CREATE EXTENSION IF NOT EXISTS {} SCHEMA public CASCADE;", Name(&extension)));
        }
        inside.batch_execute(&text).await.map_err(failed)
    }

    /// The database is dropped later, by [`Cluster::sweep`]: the server writes everything that it has in memory before it drops
    /// one, which takes longer than all the rest.
    async fn remove(&self, instance: &str) -> Result<Option<Removal>, Error> {
        let admin = self.admin().await?;
        let found = "SELECT i.name, (SELECT pg_database_size(d.oid) FROM pg_database d WHERE d.datname = i.name) \
                     FROM cupola.databases i WHERE i.instance = $1";
        let Some(row) = admin.query_opt(found, &[&instance]).await.map_err(failed)? else { return Ok(None) };
        let (name, bytes): (String, Option<i64>) = (row.get(0), row.get(1));
        let logins = Self::members(&admin, &name).await?;
        let mut text = String::new();
        for login in &logins {
            text.push_str(&format!("ALTER ROLE {} NOLOGIN;", Name(login)));
        }
        if bytes.is_some() {
            text.push_str(&format!("ALTER DATABASE {} CONNECTION LIMIT 0;", Name(&name)));
        }
        let row = format!("UPDATE cupola.databases SET state = 'dropping', instance = NULL WHERE name = {}", Text(&name));
        admin.batch_execute(&(text + &row)).await.map_err(failed)?;
        Self::end_sessions(&admin, "datname", &name).await?;
        Ok(Some(Removal { name, bytes: unsigned(bytes), logins: logins.len() }))
    }

    async fn sweep(&self) -> Result<usize, Error> {
        let admin = self.admin().await?;
        let left = "SELECT name FROM cupola.databases WHERE state = 'dropping'";
        let left = admin.query(left, &[]).await.map_err(failed)?;
        for row in &left {
            self.drop_database(&admin, &row.get::<_, String>(0)).await?;
        }
        Ok(left.len())
    }

    async fn stock(&self, count: usize) -> Result<(), Error> {
        let allowance = Allowance { size_bytes: 0, connections: 0, collation: USUAL_COLLATION.to_owned() };
        loop {
            let statement = "SELECT count(*) FROM cupola.databases WHERE state = 'spare'";
            let present: i64 = self.admin().await?.query_one(statement, &[]).await.map_err(failed)?.get(0);
            if usize::try_from(present).unwrap_or_default() >= count || self.shutdown.is_requested() {
                return Ok(());
            }
            self.make(&self.admin().await?, &self.random_name('d'), None, None, &allowance).await?;
        }
    }

    async fn log_in(&self, login: &str, password: &str, database: &Database, connections: u32) -> Result<(), Error> {
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let admin = self.admin().await?;
        let there = admin.query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&login]).await.map_err(failed)?;
        let verb = if there.is_some() { "ALTER" } else { "CREATE" };
        let (login, owner) = (Name(login), Name(&database.name));
        // Not in one string with the rest: several statements in one are one transaction
        let text = format!(
            "{verb} ROLE {login} LOGIN INHERIT CONNECTION LIMIT {connections} PASSWORD {};
             GRANT {owner} TO {login};
             ALTER ROLE {login} SET role = {owner};",
            Text(&verifier)
        );
        admin.batch_execute(&text).await.map_err(failed)
    }

    async fn log_out(&self, login: &str, instance: &str) -> Result<(), Error> {
        let owner = self.find(instance).await?.map(|database| database.name);
        self.end_login(login, owner.as_deref()).await
    }

    async fn logins(&self, instance: &str) -> Result<usize, Error> {
        let Some(database) = self.find(instance).await? else { return Ok(0) };
        let logins = Self::members(&self.admin().await?, &database.name).await?;
        Ok(logins.iter().filter(|login| login.starts_with('u')).count())
    }

    async fn instances(&self) -> Result<u64, Error> {
        let statement = "SELECT count(*) FROM cupola.databases WHERE instance IS NOT NULL";
        let row = self.admin().await?.query_one(statement, &[]).await.map_err(failed)?;
        Ok(unsigned(row.get(0)))
    }

    async fn size_bytes(&self, instance: &str) -> Result<u64, Error> {
        let sizes = self.sizes(Some(instance)).await?;
        Ok(sizes.iter().map(|size| unsigned(Some(size.bytes))).sum())
    }

    async fn enforce(&self, instance: Option<&str>) -> Result<(), Error> {
        for size in self.sizes(instance).await? {
            let Size { name, bytes, limit, .. } = &size;
            let changed = match (bytes > limit, size.frozen) {
                (true, false) => {
                    warn!(
                        instance.id = size.instance,
                        size_bytes = bytes,
                        limit_bytes = limit,
                        "too large: writing is taken away"
                    );
                    self.freeze(name).await
                }
                (false, true) => {
                    warn!(instance.id = size.instance, size_bytes = bytes, limit_bytes = limit, "small enough: writing is back");
                    self.thaw(name).await
                }
                (true, true) => self.shrink(name).await,
                (false, false) => Ok(()),
            };
            // The others must not wait for one that is in trouble; the next round tries again
            if let Err(e) = changed {
                warn!(error = &e as &dyn std::error::Error, instance.id = size.instance, "cannot enforce the size");
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
}

fn extensions(parameters: &Parameters) -> Vec<String> {
    let list = parameters.get("extensions").and_then(|value| value.as_array());
    list.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}
