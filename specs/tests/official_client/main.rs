//! The unmodified official client drives the platform.
//!
//! A line `// commands: ...` above a test says which of the client's commands it shows; `docs/compatibility.md` is made from
//! these lines.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

mod services;

use specs::{Client, Platform, app, unique, wait_for};
use std::{fs, path::Path, time::Duration};

const SOON: Duration = Duration::from_secs(60);

/// Plays a scenario with the official client in both ways of trusting the platform (`--skip-ssl-validation`, `SSL_CERT_FILE`) at
/// the same time; not at all, with a visible line, where the client cannot be had.
fn in_both_ways(scenario: impl Fn(&'static Platform, &Client) + Sync) {
    let Some(platform) = Platform::shared() else { return };
    let clients: Vec<Client> = [platform.official(), platform.official_trusting()].into_iter().flatten().collect();
    std::thread::scope(|scope| {
        for client in &clients {
            let scenario = &scenario;
            scope.spawn(move || scenario(platform, client));
        }
    });
}

// commands: api, auth, login, logout, target, oauth-token, curl
#[test]
fn logs_in_with_each_way_of_trusting_the_platform() {
    in_both_ways(|platform, cf| {
        cf.ok(&["target"]).says(&cf.org).says(&cf.space);
        let token = cf.ok(&["oauth-token"]).stdout;
        assert!(token.starts_with("bearer ey"), "{token}");
        assert_eq!(cf.curl("/v3/organizations?names=none-such")["pagination"]["total_results"], 0);
        cf.ok(&["logout"]);
        cf.fails(&["orgs"]).says("Not logged in");
        cf.fails(&["auth", "admin", "wrong"]).says("Credentials were rejected");
        cf.ok(&["login", "-u", "admin", "-p", &platform.admin_password(), "-o", &cf.org, "-s", &cf.space]).says("OK");
    });
}

// commands: orgs, org, create-org, delete-org, spaces, space, create-space, delete-space
#[test]
fn makes_shows_and_removes_orgs_and_spaces() {
    in_both_ways(|_, cf| {
        let (org, space) = (unique("o"), unique("s"));
        cf.ok(&["create-org", &org]).says("OK");
        cf.ok(&["create-org", &org]).says("already exists");
        cf.ok(&["orgs"]).says(&org);
        cf.ok(&["target", "-o", &org]);
        cf.ok(&["create-space", &space]).says("OK");
        cf.ok(&["spaces"]).says(&space);
        cf.ok(&["target", "-o", &org, "-s", &space]);
        cf.ok(&["org", &org]).says(&space);
        cf.ok(&["space", &space]).says(&org);
        cf.ok(&["delete-space", "-f", &space]).says("OK");
        cf.ok(&["delete-org", "-f", &org]).says("OK");
        cf.fails(&["org", &org]).says("not found");
    });
}

// commands: create-user, set-space-role, set-org-role
#[test]
fn a_new_user_sees_a_space_once_a_role_is_given() {
    in_both_ways(|platform, admin| {
        let (user, password) = (unique("user"), "long-enough-password");
        admin.ok(&["create-user", &user, password]).says("OK");
        let cf = platform.official().expect("the other one exists");
        cf.ok(&["auth", &user, password]);
        cf.fails(&["target", "-o", &admin.org]).says("not found");
        admin.ok(&["set-org-role", &user, &admin.org, "OrgAuditor"]).says("OK");
        admin.ok(&["set-space-role", &user, &admin.org, &admin.space, "SpaceDeveloper"]).says("OK");
        cf.ok(&["target", "-o", &admin.org, "-s", &admin.space]).says(&admin.space);
        cf.fails(&["create-org", &unique("forbidden")]).says("not authorized");
    });
}

// commands: push, app, apps, events, delete
#[test]
fn pushes_a_static_site_with_each_way_of_trusting_the_platform() {
    in_both_ways(|platform, cf| {
        let name = unique("site");
        cf.ok_in(&app("static"), &["push", &name]).says("running");
        assert_eq!(platform.get(&name, "/").status, 200);
        assert_eq!(platform.get_tls(&name, "/").status, 200);
        cf.ok(&["app", &name]).says("staticfile").says("#0   running");
        cf.ok(&["apps"]).says(&name).says("web:1/1");
        cf.ok(&["events", &name]).says("audit.app.create");
        cf.ok(&["delete", "-f", "-r", &name]).says("OK");
        cf.fails(&["app", &name]).says("not found");
        platform.wait_until_gone(&name, SOON);
    });
}

// commands: start, stop, restart, restage, scale, env, set-env, unset-env, logs, rename, restart-app-instance, create-app-manifest
// commands: set-health-check, get-health-check
#[test]
fn runs_the_whole_life_of_an_app() {
    in_both_ways(|platform, cf| {
        let name = unique("life");
        cf.ok_in(&app("static"), &["push", &name, "-m", "64M"]);

        cf.ok(&["stop", &name]).says("OK");
        platform.wait_until_gone(&name, SOON);
        cf.ok(&["start", &name]).says("running");
        platform.wait_for_status(&name, "/", 200, SOON);
        cf.ok(&["restart", &name]).says("running");

        cf.ok(&["scale", &name, "-i", "3"]).says("Scaling app");
        wait_for_instances(cf, &name, "3/3");
        cf.ok(&["restart-app-instance", &name, "2"]).says("OK");
        wait_for_instances(cf, &name, "3/3");
        cf.ok(&["scale", &name, "-i", "1"]);
        wait_for_instances(cf, &name, "1/1");

        cf.ok(&["set-env", &name, "GREETING", "hello $HOME `id`"]).says("OK");
        cf.ok(&["env", &name]).says("hello $HOME `id`");
        cf.ok(&["unset-env", &name, "GREETING"]).says("OK");
        assert!(!cf.ok(&["env", &name]).stdout.contains("GREETING"));

        cf.ok(&["set-health-check", &name, "http", "--endpoint", "/"]).says("OK");
        cf.ok(&["get-health-check", &name]).says("http");
        cf.ok(&["restage", &name]).says("running");

        platform.get(&name, "/looked-for-in-the-log");
        wait_for("the request in the log", SOON, || {
            cf.run(&["logs", "--recent", &name]).stdout.contains("looked-for-in-the-log").then_some(())
        });
        cf.ok(&["logs", "--recent", &name]).says("[RTR/");

        let renamed = unique("renamed");
        cf.ok(&["rename", &name, &renamed]).says("OK");
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("m.yml");
        cf.ok(&["create-app-manifest", &renamed, "-p", manifest.to_str().unwrap()]).says("OK");
        let text = fs::read_to_string(manifest).unwrap();
        assert!(text.contains(&format!("name: {renamed}")) && text.contains("health-check-type: http"), "{text}");
    });
}

// commands: routes, create-route, map-route, unmap-route, delete-route, check-route, domains
#[test]
fn routes_lead_to_apps_and_away_again() {
    in_both_ways(|platform, cf| {
        let (name, host, domain) = (unique("routed"), unique("other"), platform.apps_domain());
        cf.ok_in(&app("static"), &["push", &name, "--no-route"]);
        assert_eq!(platform.get(&host, "/").status, 404);
        cf.ok(&["domains"]).says(&domain);
        cf.ok(&["check-route", &domain, "--hostname", &host]).says("does not exist");
        cf.ok(&["create-route", &domain, "--hostname", &host]).says("OK");
        cf.ok(&["check-route", &domain, "--hostname", &host]).says("does exist");
        cf.ok(&["map-route", &name, &domain, "--hostname", &host]).says("OK");
        platform.wait_for_status(&host, "/", 200, SOON);
        cf.ok(&["routes"]).says(&host).says(&name);
        cf.ok(&["unmap-route", &name, &domain, "--hostname", &host]).says("OK");
        platform.wait_until_gone(&host, SOON);
        cf.ok(&["delete-route", "-f", &domain, "--hostname", &host]).says("OK");
        cf.ok(&["check-route", &domain, "--hostname", &host]).says("does not exist");
    });
}

// commands: buildpacks, create-buildpack, update-buildpack, delete-buildpack, stacks
#[test]
fn an_operator_adds_a_buildpack_and_an_app_uses_it() {
    in_both_ways(|platform, cf| {
        for known in ["binary", "staticfile", "nodejs", "python", "ruby", "go"] {
            cf.ok(&["buildpacks"]).says(&format!("{known}_buildpack"));
        }
        cf.ok(&["stacks"]).says("debian12");
        let folder = tempfile::tempdir().unwrap();
        let (buildpack, name) = (unique("bp").replace('-', "_"), unique("own-buildpack"));
        write_buildpack(&folder.path().join("bp"));
        cf.ok_in(folder.path(), &["create-buildpack", &buildpack, "bp", "99"]).says("OK");
        cf.ok(&["buildpacks"]).says(&buildpack);
        let site = folder.path().join("site");
        fs::create_dir(&site).unwrap();
        fs::write(site.join("index.html"), "made by a buildpack of our own").unwrap();
        fs::write(site.join("ours"), "").unwrap();
        cf.ok_in(&site, &["push", &name, "-b", &buildpack]).says("running");
        assert!(platform.get(&name, "/index.html").body.contains("made by a buildpack of our own"));
        cf.ok(&["update-buildpack", &buildpack, "--position", "1", "--lock"]).says("OK");
        cf.ok(&["update-buildpack", &buildpack, "--unlock", "--disable"]).says("OK");
        cf.ok(&["delete-buildpack", "-f", &buildpack]).says("OK");
        assert!(!cf.ok(&["buildpacks"]).stdout.contains(&buildpack));
    });
}

fn wait_for_instances(cf: &Client, name: &str, shown: &str) {
    wait_for(&format!("instances {shown}"), SOON, || {
        let document = cf.run(&["app", name]).stdout;
        document.lines().any(|line| line.starts_with("instances:") && line.trim_end().ends_with(shown)).then_some(())
    });
}

fn write_buildpack(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(folder.join("bin")).unwrap();
    let scripts = [
        ("detect", "#!/bin/sh\ntest -f \"$1/ours\" && echo ours\n"),
        ("compile", "#!/bin/sh\necho '-----> Nothing to compile'\n"),
        ("release", "#!/bin/sh\nprintf -- '---\\ndefault_process_types:\\n  web: python3 -m http.server $PORT\\n'\n"),
    ];
    for (script, content) in scripts {
        let path = folder.join("bin").join(script);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
