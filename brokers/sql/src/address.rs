//! Where a server is, for applications.

use broker_sdk::osb::{Credentials, Endpoint};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::net::Ipv6Addr;

/// Where a server is, for applications.
#[derive(Clone, Debug)]
pub struct Address {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The authority of its certificate, PEM.
    pub authority: String,
}

impl Address {
    /// `host:port` as URLs want it.
    pub fn authority_part(&self) -> String {
        let Self { host, port, .. } = self;
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What every application gets, with these two URLs.
    pub fn credentials(&self, uri: String, jdbc_url: String, user: &str, password: &str, database: &str) -> Credentials {
        let object = json!({
            "uri": uri,
            "jdbcUrl": jdbc_url,
            "hostname": self.host,
            "port": self.port,
            "name": database,
            "database": database,
            "username": user,
            "password": password,
            "sslmode": "verify-full",
            "sslrootcert": self.authority,
        });
        Credentials::from_value(object).unwrap_or_default()
    }

    /// What applications connect to.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint { host: self.host.clone(), ports: vec![self.port.to_string()], protocol: Some("tcp".into()) }]
    }
}

/// A text as it may stand in a URL.
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
