//! Where apps may connect to because of what is bound to them.
//!
//! Brokers that an operator registered say with each binding where their service is; that opens for the app, and closes when
//! the binding is gone. Brokers of spaces open nothing: whoever may register one could open everything.

use crate::{
    domain::{Result, Tx},
    store::service_bindings as store,
};
use cloud_controller_client::{Egress, Transport};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The most that one app may have; more is left out.
const MOST: usize = 256;

/// Where the containers of these apps may connect to now, by app.
pub fn of_apps(tx: &mut Tx<'_>, apps: &[String]) -> Result<BTreeMap<String, Vec<Egress>>> {
    let mut open: BTreeMap<String, BTreeSet<Egress>> = BTreeMap::new();
    for (app, endpoints) in store::endpoints_of_apps(tx.conn, apps)? {
        let endpoints: Value = serde_json::from_str(&endpoints).unwrap_or_default();
        open.entry(app).or_default().extend(of(&endpoints));
    }
    Ok(open.into_iter().map(|(app, all)| (app, all.into_iter().take(MOST).collect())).collect())
}

/// As [`of_apps`], of one.
pub fn of_app(tx: &mut Tx<'_>, app: &str) -> Result<Vec<Egress>> {
    Ok(of_apps(tx, &[app.to_owned()])?.remove(app).unwrap_or_default())
}

/// What endpoints in a broker's answer open. Names, and what is not a service's address, open nothing.
fn of(endpoints: &Value) -> Vec<Egress> {
    let mut open = vec![];
    for endpoint in endpoints.as_array().into_iter().flatten() {
        let host = endpoint["host"].as_str().and_then(|host| host.parse::<IpAddr>().ok());
        let Some(address) = host.map(|host| host.to_canonical()).filter(allowed) else { continue };
        let protocols: &[Transport] = match endpoint["protocol"].as_str() {
            None | Some("tcp") => &[Transport::Tcp],
            Some("udp") => &[Transport::Udp],
            Some("all") => &[Transport::Tcp, Transport::Udp],
            Some(_) => continue,
        };
        for ports in endpoint["ports"].as_array().into_iter().flatten().filter_map(ports) {
            let (first_port, last_port) = ports;
            open.extend(protocols.iter().map(|protocol| Egress { address, first_port, last_port, protocol: *protocol }));
        }
    }
    open
}

fn allowed(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// `5432`, or `5432-5440`.
fn ports(text: &Value) -> Option<(u16, u16)> {
    let number = text.as_u64().map(|port| port.to_string());
    let text = number.as_deref().or(text.as_str())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_open_their_ports_and_nothing_else() {
        let endpoints = json!([
            { "host": "10.20.0.5", "ports": ["5432", "6000-6010"] },
            { "host": "10.20.0.6", "ports": ["53"], "protocol": "all" },
            { "host": "10.20.0.7", "ports": ["514"], "protocol": "udp" },
        ]);
        let shown: Vec<String> =
            of(&endpoints).iter().map(|e| format!("{} {}-{} {:?}", e.address, e.first_port, e.last_port, e.protocol)).collect();
        let expected = [
            "10.20.0.5 5432-5432 Tcp",
            "10.20.0.5 6000-6010 Tcp",
            "10.20.0.6 53-53 Tcp",
            "10.20.0.6 53-53 Udp",
            "10.20.0.7 514-514 Udp",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_no_address_of_a_service_opens_nothing() {
        for host in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "::ffff:127.0.0.1",
            "db.example.com",
            "",
            "10.0.0.0/8",
        ] {
            assert_eq!(of(&json!([{ "host": host, "ports": ["1"] }])), [], "{host}");
        }
        for ports in [json!(["0"]), json!(["9-5"]), json!(["70000"]), json!(["*"]), json!("5432"), json!(null), json!([null])] {
            assert_eq!(of(&json!([{ "host": "10.0.0.1", "ports": ports }])), [], "{ports}");
        }
        assert_eq!(of(&json!([{ "host": "10.0.0.1", "ports": ["1"], "protocol": "icmp" }])), []);
        assert_eq!(of(&json!({ "host": "10.0.0.1" })), []);
    }
}
