//! What an application gets to log in.

use broker_sdk::osb::{Credentials, Endpoint};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use std::net::Ipv6Addr;

/// Where the server is, for applications.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The authority of its certificate, PEM.
    pub(crate) authority: String,
}

impl Address {
    /// The URL says nothing of TLS, because every driver says it in another way; the server takes nothing else. A driver that has
    /// the authority (`sslrootcert`) can check the server's name, because the certificate is good for `hostname`.
    pub(crate) fn credentials(&self, user: &str, password: &str, database: &str) -> Credentials {
        let Self { host, port, authority } = self;
        let shown = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.clone() };
        let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (user_part, password_part) = (escape(user), escape(password));
        let object = json!({
            "uri": format!("mysql://{user_part}:{password_part}@{shown}:{port}/{database}"),
            "jdbcUrl": format!(
                "jdbc:mysql://{shown}:{port}/{database}?user={user_part}&password={password_part}&sslMode=REQUIRED"
            ),
            "hostname": host,
            "port": port,
            "name": database,
            "database": database,
            "username": user,
            "password": password,
            "sslmode": "verify-full",
            "sslrootcert": authority,
        });
        Credentials::from_value(object).unwrap_or_default()
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint { host: self.host.clone(), ports: vec![self.port.to_string()], protocol: Some("tcp".into()) }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_urls_want_them() {
        let address = Address { host: "fd00::1".into(), port: 3306, authority: "PEM".into() };
        let credentials = address.credentials("u1", "p/w", "d1");
        assert_eq!(credentials["uri"], "mysql://u1:p%2Fw@[fd00::1]:3306/d1");
        assert_eq!(credentials["hostname"], "fd00::1");
        assert_eq!(address.endpoints()[0].ports, ["3306"]);
    }
}
