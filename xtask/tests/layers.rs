//! Dependencies point down only: a crate may use the rows below its own, never its own row.

#![expect(clippy::unwrap_used, reason = "a check that cannot be made has failed")]

use serde_json::Value;
use std::{collections::BTreeMap, process::Command};

/// From the top to the bottom.
const LAYERS: &[&[&str]] = &[
    &["xtask", "specs"],
    &["cupola"],
    &[
        "cf",
        "cloud_controller",
        "uaa",
        "dea",
        "warden",
        "warden_shim",
        "health_manager",
        "gorouter",
        "loggregator",
        "buildpacks",
        "postgres_broker",
        "mysql_broker",
        "redis_broker",
        "rabbitmq_broker",
        "broker_check",
    ],
    &["sql_broker"],
    &["testkit", "broker_sdk"],
    &["bus", "warden_client", "uaa_client", "cloud_controller_client", "loggregator_client", "osb"],
    &["engines"],
    &["messages", "foundation"],
    &["types"],
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO")).args(["metadata", "--format-version=1", "--no-deps", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn dependencies_point_down_only() {
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (*name, row))).collect();
    let mut wrong = vec![];
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(own) = layer.get(name) else {
            wrong.push(format!("{name} has no row"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let used = dependency["kind"].is_null();
            match layer.get(other) {
                Some(row) if row <= own && used => wrong.push(format!("{name} uses {other}, which is not below it")),
                Some(_) if other == "testkit" && used => wrong.push(format!("{name} uses testkit outside of its tests")),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Oldest versions that are safe to use; the reasons are those of `docs/security.md`, "Version floors".
const FLOORS: &[(&str, (u64, u64, u64))] = &[
    ("libcontainer", (0, 7, 0)),
    ("pingora-core", (0, 8, 0)),
    ("tar", (0, 4, 45)),
    ("zip", (2, 3, 0)),
    ("jsonwebtoken", (10, 3, 0)),
    ("diesel", (2, 2, 3)),
    // The first whose bundled SQLite is 3.51.3 or newer.
    ("libsqlite3-sys", (0, 37, 0)),
];

#[test]
fn dependencies_are_not_older_than_their_security_floor() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    for (name, floor) in FLOORS {
        let mut found = 0;
        for (line, next) in lock.lines().zip(lock.lines().skip(1)) {
            if line == format!("name = \"{name}\"") {
                found += 1;
                let version = next.trim_start_matches("version = ").trim_matches('"');
                let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().unwrap());
                let version = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
                assert!(version >= *floor, "{name} is {version:?}, older than {floor:?}");
            }
        }
        assert!(found > 0, "{name} is not in Cargo.lock: has it another name now?");
    }
}
