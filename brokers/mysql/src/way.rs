//! How the administrator and its tools get into a server.

use crate::engine::ADMIN;
use engines::Program;
use foundation::Secret;
use mysql_async::{OptsBuilder, SslOpts};
use sql_broker::Remote;
use std::{path::PathBuf, time::Duration};

/// How long a server in a container may be silent.
const SILENT: Duration = Duration::from_secs(15);

/// A way into a server.
#[derive(Clone)]
pub(crate) enum Way {
    /// Through the socket in its folder.
    Socket {
        path: PathBuf,
        /// Of [`ADMIN`].
        password: Secret,
    },
    /// Over the network, with TLS.
    Network(Remote),
}

impl Way {
    /// Settings of a connection of the administrator.
    pub(crate) fn options(&self) -> OptsBuilder {
        let options = OptsBuilder::default()
            .user(Some(ADMIN))
            .setup(vec!["SET SESSION max_statement_time = 0, lock_wait_timeout = 30"])
            .stmt_cache_size(0);
        match self {
            Self::Socket { path, password } => options.socket(Some(path.display().to_string())).pass(Some(password.expose())),
            Self::Network(Remote { address, host, port, authority, password }) => {
                let tls = SslOpts::default()
                    .with_root_certs(vec![authority.clone().into()])
                    .with_disable_built_in_roots(true)
                    .with_danger_tls_hostname_override(Some(host.clone()));
                options
                    .ip_or_hostname(address.to_string())
                    .tcp_port(*port)
                    .pass(Some(password.expose()))
                    .prefer_socket(Some(false))
                    .tcp_keepalive(Some(SILENT))
                    .ssl_opts(Some(tls))
            }
        }
    }

    /// From where tools and the broker come, in the names of accounts.
    pub(crate) fn tools_at(&self) -> &'static str {
        match self {
            Self::Socket { .. } => "localhost",
            Self::Network(_) => "'%'",
        }
    }

    /// A program of MariaDB that logs in as `login`.
    pub(crate) fn log_in(&self, program: Program, login: &str, password: &Secret) -> Program {
        let program = match self {
            Self::Socket { path, .. } => program.arg("--protocol=socket").arg(format!("--socket={}", path.display())),
            Self::Network(Remote { address, port, authority, .. }) => program
                .args(["--protocol=tcp", "--ssl-verify-server-cert"])
                .arg(format!("--ssl-ca={}", authority.display()))
                .arg(format!("--host={address}"))
                .arg(format!("--port={port}")),
        };
        program.arg(format!("--user={login}")).env("MYSQL_PWD", password.expose())
    }
}
