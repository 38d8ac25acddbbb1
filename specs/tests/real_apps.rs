//! Real apps, pushed by both clients: what they answer, and what their environment is.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use serde_json::Value;
use specs::{Client, Platform, app, unique, wait_for};
use std::{path::Path, process::Command, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// Our client and, where it can be had, the official one.
fn clients() -> Vec<(&'static Platform, Client)> {
    let Some(platform) = Platform::shared() else { return vec![] };
    [Some(platform.cf()), platform.official_trusting()].into_iter().flatten().map(|client| (platform, client)).collect()
}

fn push(cf: &Client, folder: &Path, more: &[&str]) -> String {
    let name = unique("app");
    let mut arguments = vec!["push", &name, "-m", "256M"];
    arguments.extend(more);
    cf.ok_in(folder, &arguments);
    name
}

/// The environment of an app, over HTTP and HTTPS, and the parts of it that the contract fixes.
fn checked_environment(platform: &Platform, cf: &Client, name: &str) -> Value {
    let environment = platform.wait_for_status(name, "/env", 200, SOON).json();
    assert_eq!(platform.get_tls(name, "/env").status, 200);
    let text = |key: &str| environment[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {environment:#}")).to_owned();
    let guid = cf.app_guid(name);

    assert_eq!(text("PORT"), "8080");
    assert_eq!(text("VCAP_APP_PORT"), "8080");
    assert_eq!(text("VCAP_APP_HOST"), "0.0.0.0");
    assert_eq!(text("HOME"), "/home/vcap/app");
    assert_eq!(text("TMPDIR"), "/home/vcap/tmp");
    assert_eq!(text("USER"), "vcap");
    assert_eq!(text("LANG"), "en_US.UTF-8");
    assert_eq!(text("CF_INSTANCE_INDEX"), "0");
    assert_eq!(text("INSTANCE_INDEX"), "0");
    assert_eq!(text("CF_INSTANCE_GUID"), text("INSTANCE_GUID"));
    assert_eq!(text("CF_INSTANCE_ADDR"), format!("{}:{}", text("CF_INSTANCE_IP"), text("CF_INSTANCE_PORT")));
    assert!(text("CF_INSTANCE_INTERNAL_IP").parse::<std::net::Ipv4Addr>().is_ok());
    assert_eq!(text("CF_SYSTEM_CERT_PATH"), "/etc/cf-system-certificates");
    let ports: Value = serde_json::from_str(&text("CF_INSTANCE_PORTS")).unwrap();
    assert_eq!(ports[0]["internal"], 8080);
    assert_eq!(ports[0]["external"].to_string(), text("CF_INSTANCE_PORT"));
    assert!(text("MEMORY_LIMIT").ends_with('m'));
    assert_eq!(text("VCAP_SERVICES"), "{}");

    let application: Value = serde_json::from_str(&text("VCAP_APPLICATION")).unwrap();
    for (key, expected) in [
        ("application_id", guid.as_str()),
        ("application_name", name),
        ("name", name),
        ("space_name", &cf.space),
        ("organization_name", &cf.org),
        ("process_type", "web"),
        ("host", "0.0.0.0"),
    ] {
        assert_eq!(application[key], expected, "{key} of {application:#}");
    }
    assert_eq!(application["cf_api"], platform.api());
    assert_eq!(application["instance_index"], 0);
    assert_eq!(application["port"], 8080);
    assert_eq!(application["instance_id"], text("CF_INSTANCE_GUID").as_str());
    let uri = format!("{name}.{}", platform.apps_domain());
    assert_eq!(application["uris"][0], uri.as_str());
    assert_eq!(application["application_uris"][0], uri.as_str());
    for key in ["mem", "disk", "fds"] {
        assert!(application["limits"][key].is_u64(), "{application:#}");
    }
    environment
}

#[test]
fn a_static_site() {
    for (platform, cf) in clients() {
        let name = push(&cf, &app("static"), &[]);
        assert_eq!(platform.get(&name, "/").status, 200);
        assert_eq!(platform.get_tls(&name, "/").status, 200);
    }
}

#[test]
fn a_node_app_with_packages_from_the_registry() {
    for (platform, cf) in clients() {
        let name = push(&cf, &app("node"), &[]);
        checked_environment(platform, &cf, &name);
    }
}

#[test]
fn a_python_app_with_packages_from_the_index() {
    for (platform, cf) in clients() {
        let name = push(&cf, &app("python"), &[]);
        checked_environment(platform, &cf, &name);
    }
}

#[test]
fn a_go_server_from_source() {
    for (platform, cf) in clients() {
        let name = push(&cf, &app("go"), &[]);
        checked_environment(platform, &cf, &name);
    }
}

#[test]
fn a_ruby_app() {
    for (platform, cf) in clients().into_iter().take(1) {
        let name = push(&cf, &app("ruby"), &[]);
        checked_environment(platform, &cf, &name);
    }
}

#[test]
fn a_prebuilt_binary() {
    for (platform, cf) in clients() {
        let folder = tempfile::tempdir().unwrap();
        let built = Command::new(app("binary").join("build")).arg(folder.path()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let name = push(&cf, folder.path(), &["-b", "binary_buildpack", "-c", "./server"]);
        checked_environment(platform, &cf, &name);
    }
}

#[test]
fn a_procfile_app_with_a_worker() {
    for (platform, cf) in clients() {
        let name = push(&cf, &app("procfile"), &[]);
        checked_environment(platform, &cf, &name);
        cf.ok(&["scale", &name, "--process", "worker", "-i", "1"]);
        wait_for("the worker's lines in the log", SOON, || {
            cf.run(&["logs", "--recent", &name]).stdout.contains("[APP/PROC/WORKER/0]").then_some(())
        });
    }
}

#[test]
fn two_apps_from_one_manifest_with_variables() {
    for (platform, cf) in clients() {
        let suffix = unique("v");
        cf.ok_in(&app("two-apps"), &["push", "--var", &format!("suffix={suffix}"), "--vars-file", "vars.yml"]);
        for name in ["front", "back"] {
            assert_eq!(platform.wait_for_status(&format!("{name}-{suffix}"), "/", 200, SOON).status, 200);
        }
    }
}
