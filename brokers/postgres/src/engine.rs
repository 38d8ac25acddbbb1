//! The server itself: how a data folder is made, which configuration it runs with.

use async_trait::async_trait;
use engines::{Engine, Error, Program, Signal, User, files, settings::EngineSettings};
use foundation::Secret;
use sql_broker::Cluster;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The role of the broker; the only superuser.
pub(crate) const ADMIN: &str = "cupola";

/// PostgreSQL in a folder of the broker.
pub(crate) struct SharedServer {
    settings: EngineSettings,
    /// `sockets/`, `tls/`, configuration and the administrator's password.
    folder: PathBuf,
    password: Secret,
    cluster: Arc<dyn Cluster>,
}

impl SharedServer {
    pub(crate) fn new(settings: EngineSettings, folder: PathBuf, password: Secret, cluster: Arc<dyn Cluster>) -> Self {
        Self { settings, folder, password, cluster }
    }

    fn configuration(&self, data: &Path) -> String {
        let settings = &self.settings;
        let path = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "''"));
        let connections = settings.max_connections;
        let lines: [(&str, String); 51] = [
            ("data_directory", path(data)),
            ("hba_file", path(&self.folder.join("pg_hba.conf"))),
            ("listen_addresses", format!("'{}'", settings.address)),
            ("port", settings.port.to_string()),
            ("unix_socket_directories", path(&self.sockets())),
            ("unix_socket_permissions", "0700".into()),
            ("max_connections", connections.to_string()),
            // For the broker itself
            ("superuser_reserved_connections", "24".into()),
            ("password_encryption", "'scram-sha-256'".into()),
            ("ssl", "on".into()),
            ("ssl_cert_file", path(&self.tls().join("server.pem"))),
            ("ssl_key_file", path(&self.tls().join("server.key"))),
            ("ssl_ca_file", "''".into()),
            ("ssl_min_protocol_version", "'TLSv1.2'".into()),
            ("tcp_keepalives_idle", "60".into()),
            ("tcp_keepalives_interval", "10".into()),
            ("tcp_keepalives_count", "6".into()),
            ("client_connection_check_interval", "'10s'".into()),
            ("authentication_timeout", "'15s'".into()),
            ("shared_buffers", format!("'{}MB'", settings.cache_mb)),
            ("effective_cache_size", format!("'{}MB'", settings.cache_mb.saturating_mul(4))),
            ("work_mem", "'4MB'".into()),
            ("maintenance_work_mem", "'32MB'".into()),
            ("autovacuum_work_mem", "'32MB'".into()),
            ("temp_file_limit", "'1GB'".into()),
            ("huge_pages", "off".into()),
            ("jit", "off".into()),
            ("max_worker_processes", "4".into()),
            ("max_parallel_workers", "2".into()),
            ("max_parallel_workers_per_gather", "1".into()),
            ("max_parallel_maintenance_workers", "1".into()),
            ("autovacuum_max_workers", "2".into()),
            ("max_locks_per_transaction", "256".into()),
            ("max_prepared_transactions", "0".into()),
            // No replicas, so the log of changes has what a crash needs and no more
            ("wal_level", "minimal".into()),
            ("max_wal_senders", "0".into()),
            ("min_wal_size", "'80MB'".into()),
            ("max_wal_size", "'512MB'".into()),
            ("checkpoint_timeout", "'10min'".into()),
            // Defaults for clients, who may choose their own
            ("statement_timeout", "'10min'".into()),
            ("lock_timeout", "'1min'".into()),
            ("idle_in_transaction_session_timeout", "'10min'".into()),
            ("logging_collector", "off".into()),
            ("log_destination", "'stderr'".into()),
            ("log_line_prefix", "'%m [%p] %q%u@%d '".into()),
            // Statements hold data of tenants
            ("log_min_error_statement", "panic".into()),
            ("log_error_verbosity", "terse".into()),
            ("log_parameter_max_length_on_error", "0".into()),
            ("log_checkpoints", "off".into()),
            ("log_timezone", "'UTC'".into()),
            ("cluster_name", "'cupola'".into()),
        ];
        let mut text = String::from("# Written by the broker before every start.\n");
        for (key, value) in lines {
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }

    fn sockets(&self) -> PathBuf {
        self.folder.join("sockets")
    }
    fn tls(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// `initdb` asks for the name of its user, but services run as users that have a number only.
    fn with_user_name(&self, program: Program) -> Result<Program, Error> {
        let uid = self.settings.user.uid();
        let named = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if named.lines().any(|line| line.split(':').nth(2) == Some(&uid.to_string())) {
            return Ok(program);
        }
        let (passwd, group) = (self.folder.join("passwd"), self.folder.join("group"));
        files::write(&passwd, format!("{ADMIN}:x:{uid}:{uid}::/:/bin/false\n").as_bytes(), self.settings.user)?;
        files::write(&group, format!("{ADMIN}:x:{uid}:\n").as_bytes(), self.settings.user)?;
        Ok(program
            .env("LD_PRELOAD", "libnss_wrapper.so")
            .env("NSS_WRAPPER_PASSWD", passwd.into_os_string())
            .env("NSS_WRAPPER_GROUP", group.into_os_string()))
    }
}

/// Who may come in how: the broker and its tools through the socket in its own folder; everybody else over TLS, and only into
/// the database whose owner role has the same name and has them as a member.
const HBA: &str = "\
# Written by the broker before every start.
local     all       all                   scram-sha-256
host      all       cupola    all         reject
hostssl   samerole  all       all         scram-sha-256
";

#[async_trait]
impl Engine for SharedServer {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn initialize(&self, data: &Path) -> Result<Option<Program>, Error> {
        let password = self.folder.join("initial-password");
        files::write(&password, self.password.expose().as_bytes(), self.settings.user)?;
        let programs = programs(&self.settings, None)?;
        let initdb = Program::new(programs.join("initdb"), self.settings.user)
            .args(["--username", ADMIN, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"])
            .arg("--pwfile")
            .arg(password)
            .arg("-D")
            .arg(data);
        self.with_user_name(initdb).map(Some)
    }

    async fn launch(&self, data: &Path) -> Result<Program, Error> {
        let user = self.settings.user;
        files::folder(&self.sockets(), user)?;
        files::copy_tls(&self.settings.tls, &self.tls(), user)?;
        let configuration = self.configuration(data);
        let file = self.folder.join("postgresql.conf");
        files::write(&file, configuration.as_bytes(), user)?;
        files::write(&self.folder.join("pg_hba.conf"), HBA.as_bytes(), user)?;
        let programs = programs(&self.settings, Some(data))?;
        let version = Program::new(programs.join("postgres"), User(None)).arg("--version").output(engines::Input::Empty).await?;
        Ok(Program::new(programs.join("postgres"), user)
            .arg("-D")
            .arg(data)
            .arg("-c")
            .arg(format!("config_file={}", file.display()))
            .configured_by(configuration.as_bytes())
            .configured_by(HBA.as_bytes())
            .configured_by(&version))
    }

    async fn probe(&self) -> Result<(), Error> {
        self.cluster.probe().await
    }

    async fn settle(&self) -> Result<(), Error> {
        self.cluster.settle().await
    }

    fn stop_signal(&self) -> Signal {
        // "Fast": ends sessions, writes a checkpoint. TERM would wait for every client.
        Signal::INT
    }
}

/// Where the programs are: for a data folder, those of its major version; else the newest.
pub(crate) fn programs(settings: &EngineSettings, data: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(folder) = &settings.programs {
        return Ok(folder.clone());
    }
    let root = Path::new("/usr/lib/postgresql");
    let wanted = data.and_then(|data| fs::read_to_string(data.join("PG_VERSION")).ok());
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<u32> = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    found.retain(|version| root.join(version.to_string()).join("bin/initdb").is_file());
    let chosen = match wanted {
        Some(wanted) => found.iter().find(|version| version.to_string() == wanted.trim()),
        None => found.iter().max(),
    };
    let missing = || Error::Run(root.join("*/bin/postgres"), std::io::ErrorKind::NotFound.into());
    chosen.map(|version| root.join(version.to_string()).join("bin")).ok_or_else(missing)
}

/// The installed version as a semantic version: `15.8.0`.
pub(crate) async fn version(settings: &EngineSettings, data: Option<&Path>) -> Result<String, Error> {
    let program = Program::new(programs(settings, data)?.join("postgres"), User(None)).arg("--version");
    let said = program.output(engines::Input::Empty).await?;
    Ok(semantic(&String::from_utf8_lossy(&said)))
}

/// `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`: `15.8.0`.
pub(crate) fn semantic(said: &str) -> String {
    let words = said.split_whitespace();
    let number = words.into_iter().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    format!("{}.{}.{}", next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_made_semantic() {
        assert_eq!(semantic("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n"), "15.8.0");
        assert_eq!(semantic("postgres (PostgreSQL) 17rc1"), "0.0.0");
    }
}
