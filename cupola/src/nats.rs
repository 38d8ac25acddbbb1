//! The bus server: its configuration with one user a part, and the buckets.

use crate::{
    brokers::OwnBroker,
    node::{Node, PARTS},
    settings::Port,
};
use anyhow::Context;
use std::{fmt::Write, path::PathBuf, process::Command, time::Duration};

/// Oldest server that is safe to run (advisories 2026-16 and 2026-18, CVE-2026-27889, CVE-2026-27571).
const FLOORS: [(u32, u32, u32); 2] = [(2, 12, 7), (2, 14, 0)];

/// What each part may say and hear, in subjects of the server.
///
/// Every part also has its own inbox, and may answer whoever asked it. Buckets need the JetStream API of their stream and its key subjects.
fn permissions(part: &str) -> (Vec<String>, Vec<String>) {
    let own = |list: &[&str]| list.iter().map(|subject| (*subject).to_owned()).collect::<Vec<_>>();
    let bucket = |name: &str| {
        vec![
            format!("$JS.API.STREAM.INFO.KV_{name}"),
            format!("$JS.API.STREAM.MSG.GET.KV_{name}"),
            format!("$JS.API.CONSUMER.*.KV_{name}.>"),
            format!("$JS.API.CONSUMER.*.KV_{name}"),
            format!("$JS.ACK.KV_{name}.>"),
            format!("$KV.{name}.>"),
            "$JS.API.INFO".to_owned(),
            "$JS.FC.>".to_owned(),
        ]
    };
    let (mut publish, subscribe) = match part {
        "uaa" => (own(&["router.register", "router.unregister", "router.greet"]), own(&["router.start"])),
        "cloud_controller" => {
            let subjects = [
                "router.register",
                "router.unregister",
                "router.greet",
                "droplet.updated",
                "dea.update",
                "dea.*.stop",
                "staging.stop",
            ];
            (own(&subjects), own(&["router.start", "dea.heartbeat", "dea.advertise"]))
        }
        "health_manager" => (
            own(&["dea.*.start", "dea.*.stop", "dea.*.stage", "dea.locate"]),
            own(&["dea.advertise", "dea.heartbeat", "droplet.updated"]),
        ),
        "dea" => {
            let said = ["router.register", "router.unregister", "router.greet", "dea.advertise", "dea.heartbeat"];
            (
                own(&said),
                own(&["router.start", "dea.*.start", "dea.*.stop", "dea.*.stage", "dea.locate", "dea.update", "staging.stop"]),
            )
        }
        "gorouter" => (own(&["router.start"]), own(&["router.*"])),
        "loggregator_agent" => (own(&["loggregator.envelopes"]), vec![]),
        "log_cache" => {
            (own(&["router.register", "router.unregister", "router.greet"]), own(&["router.start", "loggregator.envelopes"]))
        }
        _ => (own(&[">"]), own(&[">"])),
    };
    let buckets: &[&str] = match part {
        "cloud_controller" | "dea" => &["claims"],
        "health_manager" => &["claims", "leases"],
        _ => &[],
    };
    publish.extend(buckets.iter().flat_map(|name| bucket(name)));
    (publish, subscribe)
}

/// The server's configuration file.
pub(crate) fn configuration(node: &Node) -> anyhow::Result<String> {
    let quoted = |list: Vec<String>| list.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", ");
    let mut users = String::new();
    let silent = |part: &&str| ["nats", "warden"].contains(part) || OwnBroker::of(part).is_some();
    for part in PARTS.iter().map(|part| part.name).chain(["cupola"]).filter(|part| !silent(part)) {
        let (publish, mut subscribe) = permissions(part);
        subscribe.push(format!("_INBOX_{part}.>"));
        let password = node.secrets.bus_password(part)?.expose();
        writeln!(
            users,
            "    {{ user: \"{part}\", password: \"{password}\", permissions: {{ publish: [{}], subscribe: [{}], \
             allow_responses: {{ max: 2, expires: \"1m\" }} }} }}",
            quoted(publish),
            quoted(subscribe)
        )?;
    }
    let port = node.settings.port(Port::Bus);
    let store = node.state_of("nats").display().to_string();
    Ok(format!(
        "# Made at every boot from cupola.toml.\nserver_name: \"cupola\"\nhost: 127.0.0.1\nport: {port}\nmax_payload: 8MB\n\
         jetstream {{ store_dir: \"{store}\", max_memory_store: 64MB, max_file_store: 4GB, sync_interval: always }}\n\
         authorization {{\n  users: [\n{users}  ]\n}}\n"
    ))
}

/// Finds a server that is new enough.
pub(crate) fn find(beside: PathBuf) -> anyhow::Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let candidates = std::iter::once(beside).chain(path.split(':').map(|folder| PathBuf::from(folder).join("nats-server")));
    let mut old = vec![];
    for candidate in candidates.filter(|candidate| candidate.is_file()) {
        match version(&candidate) {
            Some(found) if new_enough(found) => return Ok(candidate),
            found => old.push(format!("{} ({found:?})", candidate.display())),
        }
    }
    anyhow::bail!(
        "no nats-server of version 2.12.7 or newer beside cupola or on PATH (too old: {}); bin/up installs one",
        old.join(", ")
    )
}

fn version(server: &PathBuf) -> Option<(u32, u32, u32)> {
    let output = Command::new(server).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.trim().rsplit_once('v')?.1.split(['.', '-']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn new_enough(version: (u32, u32, u32)) -> bool {
    let [patched, newer] = FLOORS;
    version >= newer || (version >= patched && version < (2, 13, 0))
}

/// Waits for the server and makes the buckets that are missing.
pub(crate) async fn prepare(node: &Node) -> anyhow::Result<()> {
    let settings = bus::Settings {
        url: node.bus_url(),
        user: "cupola".into(),
        password: node.secrets.bus_password("cupola")?.expose().to_owned(),
        ca: None,
    };
    let bus = bus::Bus::connect(&settings).await?;
    let made = async {
        bus.connected().wait_for(|connected| *connected).await?;
        for bucket in [messages::claims::CLAIMS, messages::claims::LEASES] {
            while let Err(error) = bus.make_bucket(bucket, 1).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "bucket `{bucket}` is not ready yet");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(30), made).await.context("the bus did not become ready in 30 s")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_with_known_holes_are_refused() {
        for (text, good) in [("nats-server: v2.9.10", false), ("nats-server: v2.12.6", false), ("nats-server: v2.12.7", true)] {
            assert_eq!(new_enough(parse_version(text).unwrap()), good, "{text}");
        }
        assert!(!new_enough((2, 13, 9)) && new_enough((2, 14, 0)) && new_enough((2, 15, 1)));
    }
}
