//! How the administrator and its tools get into a server.

use engines::{Error, Program};
use foundation::Secret;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use sql_broker::Remote;
use std::{path::PathBuf, time::Duration};
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::ADMIN;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server in a container may be silent: where it was started anew, nothing answers on an old connection.
const SILENT: Duration = Duration::from_secs(15);

/// A way into a server.
#[derive(Clone)]
pub(crate) enum Way {
    /// Through the socket in its folder.
    Socket {
        folder: PathBuf,
        /// The number in its name.
        port: u16,
        /// Of [`ADMIN`].
        password: Secret,
    },
    /// Over the network, with TLS.
    Network(Remote),
}

impl Way {
    /// Settings of a connection of the administrator.
    pub(crate) fn options(&self, session: &str, database: &str) -> Config {
        let mut config = Config::new();
        let password = match self {
            Self::Socket { folder, port, password } => {
                config.host_path(folder).port(*port).ssl_mode(SslMode::Disable);
                password
            }
            Self::Network(Remote { address, host, port, password, .. }) => {
                config.hostaddr(*address).host(host).port(*port).ssl_mode(SslMode::Require);
                config.keepalives_idle(SILENT).tcp_user_timeout(SILENT);
                password
            }
        };
        config.dbname(database).user(ADMIN).password(password.expose());
        config.application_name(session).options("-c statement_timeout=0 -c lock_timeout=30s").connect_timeout(CONNECT);
        config
    }

    /// Trusts the server's own authority, and nobody where there is no TLS.
    pub(crate) fn tls(&self) -> Result<MakeRustlsConnect, Error> {
        let mut roots = RootCertStore::empty();
        if let Self::Network(Remote { authority, .. }) = self {
            let certificate = CertificateDer::from_pem_file(authority).map_err(Error::server)?;
            roots.add(certificate).map_err(Error::server)?;
        }
        Ok(MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// A program of PostgreSQL that logs in as `login` to `database`.
    pub(crate) fn log_in(&self, program: Program, login: &str, password: &Secret, database: &str) -> Program {
        let (program, port) = match self {
            Self::Socket { folder, port, .. } => (program.arg("--host").arg(folder), port),
            Self::Network(Remote { address, host, port, authority, .. }) => {
                let program = program.arg("--host").arg(host).env("PGHOSTADDR", address.to_string());
                (program.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", authority.clone()), port)
            }
        };
        program
            .args(["--port", &port.to_string(), "--username", login, "--dbname", database, "--no-password"])
            .env("PGPASSWORD", password.expose())
    }
}
