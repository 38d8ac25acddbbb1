//! The server itself: how a data folder is made, which configuration it runs with.

use async_trait::async_trait;
use engines::{Engine, Error, Input, Program, User, files, settings::EngineSettings};
use foundation::Secret;
use sql_broker::Cluster;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The account of the broker; the only one with rights over all.
pub(crate) const ADMIN: &str = "cupola";

/// MariaDB in a folder of the broker.
pub(crate) struct SharedServer {
    settings: EngineSettings,
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
        let path = |name: &str| self.folder.join(name).display().to_string();
        let lines: [(&str, String); 38] = [
            ("datadir", data.display().to_string()),
            ("socket", socket(&self.folder).display().to_string()),
            ("pid-file", path("server.pid")),
            ("tmpdir", path("tmp")),
            ("init-file", path("init.sql")),
            ("bind-address", settings.address.to_string()),
            ("port", settings.port.to_string()),
            ("skip-name-resolve", "ON".into()),
            ("ssl-cert", path("tls/server.pem")),
            ("ssl-key", path("tls/server.key")),
            ("tls-version", "TLSv1.2,TLSv1.3".into()),
            ("require-secure-transport", "ON".into()),
            ("max-connections", settings.max_connections.to_string()),
            ("max-connect-errors", "4294967295".into()),
            ("connect-timeout", "15".into()),
            ("wait-timeout", "28800".into()),
            // Defaults for clients, who may choose their own
            ("max-statement-time", "600".into()),
            ("lock-wait-timeout", "60".into()),
            ("innodb-lock-wait-timeout", "50".into()),
            ("max-allowed-packet", "64M".into()),
            ("character-set-server", "utf8mb4".into()),
            ("collation-server", "utf8mb4_general_ci".into()),
            ("innodb-buffer-pool-size", format!("{}M", settings.cache_mb)),
            ("innodb-log-file-size", "48M".into()),
            ("innodb-flush-log-at-trx-commit", "1".into()),
            ("innodb-file-per-table", "ON".into()),
            ("innodb-temp-data-file-path", "ibtmp1:12M:autoextend:max:1G".into()),
            ("key-buffer-size", "8M".into()),
            ("aria-pagecache-buffer-size", "16M".into()),
            ("performance-schema", "OFF".into()),
            ("table-open-cache", "1000".into()),
            ("symbolic-links", "OFF".into()),
            ("local-infile", "OFF".into()),
            // An empty folder: no account but the broker's may read or write files, and not even it elsewhere
            ("secure-file-priv", path("no-files")),
            ("event-scheduler", "OFF".into()),
            ("general-log", "OFF".into()),
            ("log-warnings", "1".into()),
            ("skip-log-bin", String::new()),
        ];
        let mut text = String::from("# Written by the broker before every start.\n[mariadbd]\n");
        for (key, value) in lines {
            let _ = match value.as_str() {
                "" => writeln!(text, "{key}"),
                value => writeln!(text, "{key} = {value}"),
            };
        }
        text
    }

    /// Run by the server before it lets anybody in: the broker's account is there, and none of those that a new data folder has.
    fn first_statements(&self) -> String {
        let password = self.password.expose();
        format!(
            "DELETE FROM mysql.global_priv WHERE User IN ('', 'root');\n\
             DELETE FROM mysql.db WHERE User = '';\n\
             FLUSH PRIVILEGES;\n\
             CREATE USER IF NOT EXISTS {ADMIN}@localhost;\n\
             ALTER USER {ADMIN}@localhost IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@localhost WITH GRANT OPTION;\n"
        )
    }
}

/// The socket of a server in this folder.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("server.sock")
}

#[async_trait]
impl Engine for SharedServer {
    fn name(&self) -> &'static str {
        "mysql"
    }

    async fn initialize(&self, data: &Path) -> Result<Option<Program>, Error> {
        let mut program = Program::new("mariadb-install-db", self.settings.user);
        if let Some(folder) = &self.settings.programs {
            program = Program::new(folder.join("mariadb-install-db"), self.settings.user);
        }
        let program =
            program.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal"]);
        Ok(Some(program.args(["--innodb-log-file-size=48M"]).arg(format!("--datadir={}", data.display()))))
    }

    async fn launch(&self, data: &Path) -> Result<Program, Error> {
        let user = self.settings.user;
        for folder in ["tmp", "no-files"] {
            files::folder(&self.folder.join(folder), user)?;
        }
        files::copy_tls(&self.settings.tls, &self.folder.join("tls"), user)?;
        let configuration = self.configuration(data);
        let file = self.folder.join("server.cnf");
        files::write(&file, configuration.as_bytes(), user)?;
        files::write(&self.folder.join("init.sql"), self.first_statements().as_bytes(), user)?;
        let version = said_version(&self.settings).await?;
        Ok(server(&self.settings, user)
            .arg(format!("--defaults-file={}", file.display()))
            .configured_by(configuration.as_bytes())
            .configured_by(version.as_bytes()))
    }

    async fn probe(&self) -> Result<(), Error> {
        self.cluster.probe().await
    }

    async fn settle(&self) -> Result<(), Error> {
        self.cluster.settle().await
    }
}

fn server(settings: &EngineSettings, user: User) -> Program {
    match &settings.programs {
        Some(folder) => Program::new(folder.join("mariadbd"), user),
        None => Program::new("/usr/sbin/mariadbd", user),
    }
}

async fn said_version(settings: &EngineSettings) -> Result<String, Error> {
    let said = server(settings, User(None)).args(["--no-defaults", "--version"]).output(Input::Empty).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The installed version as a semantic version: `10.11.6`.
pub(crate) async fn version(settings: &EngineSettings) -> Result<String, Error> {
    Ok(semantic(&said_version(settings).await?))
}

/// `mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu`, `10.11.6-MariaDB`: `10.11.6`.
pub(crate) fn semantic(said: &str) -> String {
    let number = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let mut parts = number.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    format!("{}.{}.{}", next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_made_semantic() {
        assert_eq!(semantic("mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)"), "10.11.6");
        assert_eq!(semantic("10.11.19-MariaDB-0+deb12u1"), "10.11.19");
    }
}
