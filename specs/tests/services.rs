//! The platform's own databases and queues: real apps with real drivers use them, and nobody else can.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use serde_json::Value;
use specs::{Client, Platform, app, unique, wait_for};
use std::{path::Path, time::Duration};

const SOON: Duration = Duration::from_secs(120);
const ENGINES: [(&str, &str); 4] = [("postgres", "shared"), ("mysql", "shared"), ("redis", "cache"), ("rabbitmq", "shared")];

fn clients() -> Vec<(&'static Platform, Client)> {
    let Some(platform) = Platform::shared() else { return vec![] };
    [Some(platform.cf()), platform.official_trusting()].into_iter().flatten().map(|client| (platform, client)).collect()
}

fn ours() -> Option<(&'static Platform, Client)> {
    Platform::shared().map(|platform| (platform, platform.cf()))
}

/// An instance of each engine.
fn instances(cf: &Client, engines: &[(&str, &str)]) -> Vec<String> {
    let make = |(offering, plan): &(&str, &str)| {
        let name = unique(offering);
        cf.ok(&["create-service", offering, plan, &name, "--wait"]);
        name
    };
    engines.iter().map(make).collect()
}

fn push_bound(cf: &Client, sample: &str, instances: &[String]) -> String {
    let name = unique("app");
    cf.ok_in(&app(sample), &["push", &name, "-m", "256M", "--no-start"]);
    for instance in instances {
        cf.ok(&["bind-service", &name, instance, "--wait"]);
    }
    cf.ok(&["start", &name]);
    name
}

#[track_caller]
fn keep(platform: &Platform, name: &str, path: &str, text: &str) {
    let kept = platform.put(name, path, text);
    assert_eq!((kept.status, kept.body.as_str()), (200, "kept\n"), "{path}");
}

#[track_caller]
fn kept(platform: &Platform, name: &str, path: &str, text: &str) {
    let found = platform.get(name, path);
    assert_eq!((found.status, found.body.as_str()), (200, text), "{path}");
}

#[test]
fn the_marketplace_has_four_engines() {
    for (_, cf) in clients() {
        for (offering, plan) in ENGINES {
            cf.ok(&["marketplace"]).says(offering);
            cf.ok(&["marketplace", "-e", offering]).says(plan);
        }
    }
}

#[test]
fn a_python_app_keeps_notes_in_every_engine_until_it_is_unbound() {
    let Some((platform, cf)) = ours() else { return };
    let instances = instances(&cf, &ENGINES);
    let name = push_bound(&cf, "services-python", &instances);
    platform.wait_for_status(&name, "/", 200, SOON);
    for (engine, _) in ENGINES {
        let path = format!("/{engine}/note");
        keep(platform, &name, &path, "remember the milk");
        kept(platform, &name, &path, "remember the milk");
    }
    cf.ok(&["restart", &name]);
    for engine in ["postgres", "mysql", "rabbitmq"] {
        kept(platform, &name, &format!("/{engine}/note"), "remember the milk");
    }
    for ((engine, _), instance) in ENGINES.iter().zip(&instances) {
        cf.ok(&["unbind-service", &name, instance, "--wait"]);
        // The app still has the old credentials in its environment: they must be worth nothing.
        let path = format!("/{engine}/note");
        wait_for(&format!("the end of {engine}'s credentials"), SOON, || {
            (platform.put(&name, &path, "still here?").status == 500).then_some(())
        });
        cf.ok(&["delete-service", "-f", instance, "--wait"]);
    }
    cf.ok(&["delete", "-f", "-r", &name]);
}

#[test]
fn a_node_app_uses_database_url_with_both_clients() {
    for (platform, cf) in clients() {
        let instances = instances(&cf, &[("postgres", "shared")]);
        let name = push_bound(&cf, "services-node", &instances);
        platform.wait_for_status(&name, "/", 200, SOON);
        keep(platform, &name, "/note", "from node");
        kept(platform, &name, "/note", "from node");
        cf.ok(&["unbind-service", &name, &instances[0], "--wait"]);
        cf.ok(&["delete-service", "-f", &instances[0], "--wait"]);
    }
}

#[test]
fn a_manifest_names_the_services_of_an_app() {
    let Some((platform, cf)) = ours() else { return };
    let instance = instances(&cf, &[("postgres", "shared")]).remove(0);
    let name = unique("app");
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("manifest.yml");
    let text = format!(
        "applications:\n- name: {name}\n  memory: 256M\n  services:\n  - name: {instance}\n    binding_name: main-db\n    parameters: {{}}\n"
    );
    std::fs::write(&manifest, text).unwrap();
    cf.ok_in(&app("services-node"), &["push", "-f", manifest.to_str().unwrap()]);
    keep(platform, &name, "/note", "by manifest");
    kept(platform, &name, "/note", "by manifest");
    let environment = platform.get(&name, "/env").json();
    let services: Value = serde_json::from_str(environment["VCAP_SERVICES"].as_str().unwrap()).unwrap();
    assert_eq!(services["postgres"][0]["binding_name"], "main-db");
    assert_eq!(services["postgres"][0]["instance_name"], instance.as_str());
}

#[test]
fn a_backup_brings_data_back_and_a_clone_has_it_too() {
    let Some((platform, cf)) = ours() else { return };
    let engines = [("postgres", "shared"), ("mysql", "shared"), ("redis", "persistent"), ("rabbitmq", "shared")];
    let instances = instances(&cf, &engines);
    let name = push_bound(&cf, "services-python", &instances);
    platform.wait_for_status(&name, "/", 200, SOON);
    for ((engine, _), instance) in engines.iter().zip(&instances) {
        let path = format!("/{engine}/note");
        keep(platform, &name, &path, "before");
        cf.ok(&["backup-service", instance, "--wait"]);
        cf.ok(&["backups", instance]).says("succeeded");
        keep(platform, &name, &path, "after");
        cf.ok(&["restore-service", "-f", instance, "--wait"]);
        wait_for(&format!("the backup's note in {engine}"), SOON, || (platform.get(&name, &path).body == "before").then_some(()));
        let copy = unique("copy");
        cf.ok(&["clone-service", instance, &copy, "--wait"]);
        cf.ok(&["unbind-service", &name, instance, "--wait"]);
        cf.ok(&["bind-service", &name, &copy, "--wait"]);
    }
    cf.ok(&["restart", &name]);
    for (engine, _) in engines {
        kept(platform, &name, &format!("/{engine}/note"), "before");
    }
}

#[test]
fn an_engine_starts_with_its_first_instance() {
    let Some(platform) = Platform::own("") else { return };
    let cf = platform.cf();
    let running = || {
        let of_platform = |line: &&str| line.contains(&*platform.state().display().to_string());
        let output = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(of_platform).filter(|line| line.contains("postgres -D") || line.contains("bin/postgres")).count()
    };
    assert_eq!(running(), 0, "no engine before the first instance");
    instances(&cf, &[("postgres", "shared")]);
    assert!(running() > 0);
}

#[test]
fn no_address_of_a_service_can_be_reached_without_a_binding() {
    let Some((platform, cf)) = ours() else { return };
    let instance = instances(&cf, &[("postgres", "shared")]).remove(0);
    cf.ok(&["create-service-key", &instance, "key", "--wait"]);
    let shown = cf.ok(&["service-key", &instance, "key"]).stdout;
    let document: Value = serde_json::from_str(&shown[shown.find('{').unwrap()..]).unwrap();
    let credentials = &document["credentials"];
    let (host, port) = (credentials["hostname"].as_str().unwrap(), &credentials["port"]);
    assert!(!host.starts_with("127."), "containers cannot reach {host}");
    let name = unique("stranger");
    let folder = tempfile::tempdir().unwrap();
    write_prober(folder.path());
    cf.ok_in(folder.path(), &["push", &name, "-m", "64M"]);
    let asked = || platform.wait_for_status(&name, &format!("/{host}/{port}"), 200, SOON).body;
    assert_eq!(asked(), "closed", "without a binding");
    cf.ok(&["bind-service", &name, &instance, "--wait"]);
    cf.ok(&["restart", &name]);
    assert_eq!(asked(), "open", "with a binding");
    cf.ok(&["unbind-service", &name, &instance, "--wait"]);
    wait_for("the closed way", SOON, || (asked() == "closed").then_some(()));
}

#[test]
fn dedicated_servers_keep_their_data_through_crashes_until_they_are_deleted() {
    let Some((platform, cf)) = ours() else { return };
    let volumes = platform.state().join("warden/volumes");
    let count = || std::fs::read_dir(&volumes).map_or(0, Iterator::count);
    let before = count();
    let engines = [("postgres", "dedicated"), ("mysql", "dedicated")];
    let instances = instances(&cf, &engines);
    assert_eq!(count(), before + 2, "each has a volume");
    let name = push_bound(&cf, "services-python", &instances);
    platform.wait_for_status(&name, "/", 200, SOON);
    for ((engine, _), instance) in engines.iter().zip(&instances) {
        let path = format!("/{engine}/note");
        keep(platform, &name, &path, "mine alone");
        cf.ok(&["service", instance]).says("dedicated");

        kill_server(platform, engine);
        let back = || (platform.get(&name, &path).body == "mine alone").then_some(());
        wait_for(&format!("{engine} after its death"), SOON, back);

        cf.ok(&["backup-service", instance, "--wait"]);
        keep(platform, &name, &path, "later");
        cf.ok(&["restore-service", "-f", instance, "--wait"]);
        wait_for(&format!("the backup's note in {engine}"), SOON, back);

        cf.ok(&["update-service", instance, "-c", r#"{"memory_mb":640}"#, "--wait"]);
        wait_for(&format!("{engine} with more memory"), SOON, back);
        cf.fails(&["update-service", instance, "-c", r#"{"disk_mb":4096}"#, "--wait"]).says("never changes its size");
        // Bound, it keeps its address
        cf.fails(&["update-service", instance, "-p", "shared", "--wait"]).says("Unbind them first");

        cf.ok(&["unbind-service", &name, instance, "--wait"]);
        cf.ok(&["delete-service", "-f", instance, "--wait"]);
        assert_eq!(servers(platform, engine), Vec::<u32>::new(), "its container is gone");
    }
    wait_for("the end of the volumes", SOON, || (count() == before).then_some(()));
    cf.ok(&["delete", "-f", "-r", &name]);
}

/// Processes of servers in the platform's containers, the first of each before its children.
fn servers(platform: &Platform, engine: &str) -> Vec<u32> {
    let data = match engine {
        "postgres" => "/home/vcap/data/postgres",
        _ => "/home/vcap/data/mariadb",
    };
    let group = format!("cupola-test-{}/", platform.slot());
    let read = |pid: u32, what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let has = |text: Vec<u8>, part: &str| String::from_utf8_lossy(&text).contains(part);
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Started by a program: the shell that waits for it has the path in its script only
    let is_server = |pid: u32| {
        let arguments = read(pid, "cmdline");
        let own = arguments
            .split(|byte| *byte == 0)
            .any(|argument| argument == data.as_bytes() || argument == format!("--datadir={data}").as_bytes());
        own && has(read(pid, "cgroup"), &group)
    };
    let mut found: Vec<u32> = pids.filter(|pid| is_server(*pid)).collect();
    found.sort_unstable();
    found
}

fn kill_server(platform: &Platform, engine: &str) {
    let found = servers(platform, engine);
    let pid = found.first().unwrap_or_else(|| panic!("no {engine} runs in a container"));
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// An app that tells whether an address can be reached.
fn write_prober(folder: &Path) {
    let program = r#"
import os, socket
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.strip("/").split("/")
        answer = "ready"
        if len(parts) == 2:
            try:
                socket.create_connection((parts[0], int(parts[1])), 2).close()
                answer = "open"
            except OSError:
                answer = "closed"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
    for (file, content) in [("app.py", program), ("Procfile", "web: python3 app.py\n"), ("requirements.txt", "")] {
        std::fs::write(folder.join(file), content).unwrap();
    }
}
