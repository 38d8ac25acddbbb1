//! The broker's own connection to a server: through its Unix socket, as a user that may do everything.

use crate::{acl, plans::InForce, record::Record};
use engines::Error;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
    aio::MultiplexedConnection, cmd,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::Mutex;

/// How long an answer may take. A server that writes a large file or runs a tenant's script is silent for a while.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that is kept, because a server whose clients are all taken lets in no further one.
pub struct Admin {
    socket: PathBuf,
    password: String,
    kept: Mutex<Option<MultiplexedConnection>>,
}

impl Admin {
    /// For the server with this socket.
    pub fn new(socket: &Path, password: &str) -> Self {
        Self { socket: socket.to_owned(), password: password.to_owned(), kept: Mutex::default() }
    }

    /// One command. A connection that is broken is made anew once.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut kept = self.kept.lock().await;
        if let Some(connection) = kept.as_mut() {
            match command.query_async(connection).await {
                Err(e) if e.is_io_error() || e.is_connection_dropped() || e.is_timeout() => *kept = None,
                answer => return answer.map_err(Error::server),
            }
        }
        let mut fresh = self.connect().await.map_err(Error::server)?;
        let answer = command.query_async(&mut fresh).await.map_err(Error::server);
        *kept = Some(fresh);
        answer
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let login = RedisConnectionInfo::default().set_username(acl::ADMIN).set_password(&self.password);
        let info = ConnectionAddr::Unix(self.socket.clone()).into_connection_info()?.set_redis_settings(login);
        let times = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(5)))
            .set_response_timeout(Some(PATIENCE));
        Client::open(info)?.get_multiplexed_async_connection_with_config(&times).await
    }

    /// Whether it serves: data is loaded.
    pub async fn ping(&self) -> Result<(), Error> {
        self.ask::<String>(&cmd("PING")).await.map(drop)
    }

    /// Makes limits and users of a running server those of the record.
    pub async fn reconcile(&self, record: &Record, force: &InForce) -> Result<(), Error> {
        self.limit(force).await?;
        let present: Vec<String> = self.ask(cmd("ACL").arg("USERS")).await?;
        let wanted: BTreeSet<&str> = record.users.values().map(|user| user.name.as_str()).collect();
        for name in present.iter().filter(|name| !wanted.contains(name.as_str()) && *name != acl::ADMIN && *name != "default") {
            self.forget(name).await?;
        }
        for user in record.users.values() {
            self.admit(user).await?;
        }
        Ok(())
    }

    /// Sets the limits.
    pub async fn limit(&self, force: &InForce) -> Result<(), Error> {
        let append_only = if force.keeps_data { "yes" } else { "no" };
        let settings = [
            ("maxmemory", format!("{}mb", force.memory_mb)),
            ("maxmemory-policy", force.eviction.clone()),
            ("maxclients", (force.connections + 1).to_string()),
            ("appendonly", append_only.to_owned()),
        ];
        for (name, value) in settings {
            self.ask::<String>(cmd("CONFIG").arg("SET").arg(name).arg(value)).await?;
        }
        Ok(())
    }

    /// Makes a user, or makes it anew.
    pub async fn admit(&self, user: &acl::User) -> Result<(), Error> {
        self.ask::<String>(cmd("ACL").arg("SETUSER").arg(&user.name).arg(user.rules())).await.map(drop)
    }

    /// Removes a user, if it is there, and closes its connections.
    pub async fn forget(&self, name: &str) -> Result<(), Error> {
        self.ask::<u32>(cmd("ACL").arg("DELUSER").arg(name)).await.map(drop)
    }

    /// Bytes of data.
    pub async fn used_bytes(&self) -> Result<u64, Error> {
        self.info("memory", "used_memory_dataset").await?.parse().map_err(Error::server)
    }

    /// Writes a snapshot, and returns once it is on disk.
    pub async fn snapshot(&self) -> Result<(), Error> {
        // One that is under way may be older than this request, and a second one cannot begin beside it or beside a rewrite
        // of the append-only file, which the server may begin at any moment.
        let mut attempts = 0;
        loop {
            self.no_child().await?;
            match self.ask::<String>(&cmd("BGSAVE")).await {
                Ok(_) => break,
                Err(_) if attempts < 20 => attempts += 1,
                Err(e) => return Err(e),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.no_child().await?;
        match self.info("persistence", "rdb_last_bgsave_status").await?.as_str() {
            "ok" => Ok(()),
            _ => Err(Error::server("the server could not write its snapshot; its disk may be full")),
        }
    }

    /// Waits until neither a snapshot nor a rewrite of the append-only file is under way.
    pub async fn no_child(&self) -> Result<(), Error> {
        let mut pause = Duration::from_millis(10);
        loop {
            let info: String = self.ask(cmd("INFO").arg("persistence")).await?;
            let busy = ["rdb_bgsave_in_progress:1", "aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"];
            if !info.lines().any(|line| busy.contains(&line.trim())) {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn info(&self, section: &str, key: &str) -> Result<String, Error> {
        let info: String = self.ask(cmd("INFO").arg(section)).await?;
        let value = info.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':').map(str::to_owned));
        value.ok_or_else(|| Error::server(format!("the server does not tell its {key}")))
    }
}
