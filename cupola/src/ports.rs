//! The ports of a first boot: those of servers that the operator runs already stay theirs.

use crate::settings::Settings;
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
};

/// How many loopback ports the parts have, from `port_base` on.
const OF_PARTS: u16 = 32;
/// An address that no server chooses for itself: what is in the way here listens on every address.
const NOBODY_S: Ipv4Addr = Ipv4Addr::new(127, 83, 67, 1);

/// Changes ports that are taken, and says which.
pub(crate) fn avoid_taken(settings: &mut Settings) -> Vec<String> {
    let mut changes = vec![];
    let base = settings.port_base;
    let all_free = |from: u16| (from..from.saturating_add(OF_PARTS)).all(|port| is_free(Ipv4Addr::LOCALHOST, port));
    if let Some(other) = (0..50).map(|n| base.saturating_add(n * 100)).find(|from| all_free(*from))
        && other != base
    {
        settings.port_base = other;
        changes.push(format!(
            "Somebody listens between {base} and {}; the parts take ports from {other} on.",
            base.saturating_add(OF_PARTS - 1)
        ));
    }
    let services = &mut settings.services;
    for (name, port) in [
        ("PostgreSQL", &mut services.postgres_port),
        ("MariaDB", &mut services.mysql_port),
        ("RabbitMQ", &mut services.rabbitmq_port),
    ] {
        let taken = *port;
        if let Some(other) = (0..=5).filter_map(|n| taken.checked_add(n * 10_000)).find(|port| is_free(NOBODY_S, *port))
            && other != taken
        {
            *port = other;
            changes.push(format!("Somebody listens on port {taken} of every address; the platform's {name} takes {other}."));
        }
    }
    changes
}

fn is_free(address: Ipv4Addr, port: u16) -> bool {
    TcpListener::bind((address, port)).map_or_else(|e| e.kind() != ErrorKind::AddrInUse, |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_the_operator_keeps_its_port() {
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let loopback = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let mut settings = Settings { port_base: port(&loopback), ..Default::default() };
        settings.services.postgres_port = port(&everywhere);
        settings.services.mysql_port = port(&loopback);
        let changes = avoid_taken(&mut settings);
        assert_ne!(settings.port_base, port(&loopback));
        assert_ne!(settings.services.postgres_port, port(&everywhere), "{changes:?}");
        assert_eq!(settings.services.mysql_port, port(&loopback), "one on loopback is not in the way");
    }
}
