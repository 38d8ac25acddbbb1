//! Bad input gets a clear error and loses nothing.

use specs::{Client, Platform, app, unique, wait_for};
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(90);

fn ours() -> Option<(&'static Platform, Client)> {
    Platform::shared().map(|platform| (platform, platform.cf()))
}

/// Pushes an app that must fail; all that the client said.
fn failing_push(cf: &Client, sample: &str, name: &str, more: &[&str]) -> String {
    let mut arguments = vec!["push", name];
    arguments.extend(more);
    let outcome = cf.run_in(&app(sample), &arguments);
    assert_ne!(outcome.status, 0, "the push was to fail:\n{}", outcome.all());
    outcome.all()
}

#[test]
fn a_wrong_password_is_refused_without_a_hint() {
    let Some((platform, cf)) = ours() else { return };
    let known = cf.fails(&["auth", "admin", "wrong"]).all();
    let unknown = cf.fails(&["auth", &unique("nobody"), "wrong"]).all();
    assert!(known.contains("Credentials were rejected"), "{known}");
    assert_eq!(known.lines().last(), unknown.lines().last(), "an unknown user must look the same");
    cf.auth("admin", &platform.admin_password());
}

#[test]
fn a_foreign_token_is_refused() {
    let Some((platform, cf)) = ours() else { return };
    let token = cf.ok(&["oauth-token"]).stdout.trim().replace("bearer ", "");
    let (head, signature) = token.rsplit_once('.').unwrap();
    let foreign = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let url = format!("http://api.{}:{}/v3/apps", platform.system_domain(), platform.http_port());
    for (token, status) in [(foreign.as_str(), "401"), ("nonsense", "401"), (token.as_str(), "200")] {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--noproxy",
                "*",
                "-H",
                &format!("Authorization: bearer {token}"),
                &url,
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), status);
    }
}

#[test]
fn an_app_that_fails_to_stage_says_what_its_buildpack_said() {
    let Some((_, cf)) = ours() else { return };
    let said = failing_push(&cf, "stage-fail", &unique("stage-fail"), &[]);
    assert!(said.contains("BuildpackCompileFailed") || said.contains("staging"), "{said}");
}

#[test]
fn an_app_that_nothing_detects_says_so() {
    let Some((_, cf)) = ours() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "no app").unwrap();
    let outcome = cf.run_in(folder.path(), &["push", &unique("nothing")]);
    assert_ne!(outcome.status, 0);
    assert!(outcome.all().contains("NoAppDetectedError"), "{}", outcome.all());
}

#[test]
fn an_app_that_crashes_at_once_shows_its_exit_and_its_last_words() {
    let Some((_, cf)) = ours() else { return };
    let name = unique("crash");
    let said = failing_push(&cf, "crash", &name, &["-u", "port"]);
    assert!(said.contains("xited with status 1"), "{said}");
    cf.ok(&["events", &name]).says("app.crash");
}

#[test]
fn an_app_that_never_opens_its_port_is_told_so() {
    let Some((_, cf)) = ours() else { return };
    let said = failing_push(&cf, "noport", &unique("noport"), &["-t", "5"]);
    assert!(said.contains("port"), "{said}");
}

#[test]
fn an_app_that_eats_its_memory_is_killed_for_it_and_told_so() {
    let Some((_, cf)) = ours() else { return };
    let said = failing_push(&cf, "memory-hog", &unique("hog"), &["-m", "64M"]);
    assert!(said.contains("out of memory"), "{said}");
}

#[test]
fn an_app_that_fills_its_disk_harms_only_itself() {
    let Some((platform, cf)) = ours() else { return };
    let (name, neighbour) = (unique("disk"), unique("neighbour"));
    cf.ok_in(&app("static"), &["push", &neighbour, "-m", "64M"]);
    cf.run_in(&app("disk-filler"), &["push", &name, "-k", "64M", "-m", "128M"]);
    assert_eq!(platform.get(&neighbour, "/").status, 200);
    wait_for("word of the full disk", SOON, || {
        cf.run(&["logs", "--recent", &name]).stdout.contains("No space left on device").then_some(())
    });
}

#[test]
fn an_app_that_forks_without_end_harms_only_itself() {
    let Some((platform, cf)) = ours() else { return };
    let (name, neighbour) = (unique("forks"), unique("neighbour"));
    cf.ok_in(&app("static"), &["push", &neighbour, "-m", "64M"]);
    cf.run_in(&app("fork-bomb"), &["push", &name, "-m", "128M"]);
    for _ in 0..20 {
        assert_eq!(platform.get(&neighbour, "/").status, 200);
    }
    cf.ok(&["delete", "-f", "-r", &name]);
}

#[test]
fn an_app_that_floods_its_log_is_limited_and_blocks_nobody() {
    let Some((platform, cf)) = ours() else { return };
    let (name, neighbour) = (unique("flood"), unique("neighbour"));
    cf.ok_in(&app("static"), &["push", &neighbour, "-m", "64M"]);
    cf.run_in(&app("log-flood"), &["push", &name, "-m", "128M", "--log-rate-limit", "1K"]);
    wait_for("word of the limit", SOON, || {
        cf.run(&["logs", "--recent", &name]).stdout.contains("exceeded log rate limit").then_some(())
    });
    platform.get(&neighbour, "/after-the-flood");
    wait_for("the neighbour's log", SOON, || {
        cf.run(&["logs", "--recent", &neighbour]).stdout.contains("after-the-flood").then_some(())
    });
    cf.ok(&["delete", "-f", "-r", &name]);
}

#[test]
fn an_unknown_buildpack_is_named() {
    let Some((_, cf)) = ours() else { return };
    let said = failing_push(&cf, "static", &unique("app"), &["-b", "no_such_buildpack"]);
    assert!(said.contains("no_such_buildpack"), "{said}");
}

#[test]
fn a_broken_manifest_is_refused_with_the_line() {
    let Some((_, cf)) = ours() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifest.yml"), "applications:\n- name: x\n  memory: [\n").unwrap();
    let outcome = cf.run_in(folder.path(), &["push"]);
    assert_ne!(outcome.status, 0);
    assert!(outcome.all().contains("line "), "{}", outcome.all());
}

#[test]
fn a_route_of_another_space_is_refused() {
    let Some((platform, cf)) = ours() else { return };
    let other = platform.cf();
    let host = unique("mine");
    cf.ok(&["create-route", &platform.apps_domain(), "--hostname", &host]);
    // As with the official client, making a route that is there is no failure; but it does not become the other's.
    other.ok(&["create-route", &platform.apps_domain(), "--hostname", &host]).says("already exists");
    assert!(!other.ok(&["routes"]).stdout.contains(&host));
    let name = unique("thief");
    other.ok_in(&app("static"), &["push", &name, "--no-route", "-m", "64M"]);
    other.fails(&["map-route", &name, &platform.apps_domain(), "--hostname", &host]);
    assert_eq!(platform.get(&host, "/").status, 404);
    assert_eq!(platform.get(&unique("unknown"), "/").header("x-cf-routererror"), Some("unknown_route"));
}

#[test]
fn memory_that_nobody_has_is_refused_with_both_figures() {
    let Some((_, cf)) = ours() else { return };
    let said = failing_push(&cf, "static", &unique("huge"), &["-m", "30G"]);
    assert!(said.contains("30720 MB") || said.contains("30 GB"), "how much is asked: {said}");
    assert!(said.contains("free"), "how much is free: {said}");
}

#[test]
fn two_pushes_of_one_app_at_the_same_time_end_well() {
    let Some((platform, cf)) = ours() else { return };
    let name = unique("twice");
    cf.ok_in(&app("static"), &["push", &name, "-m", "64M"]);
    let outcomes = std::thread::scope(|scope| {
        [(); 2]
            .map(|()| scope.spawn(|| cf.run_in(&app("static"), &["push", &name, "-m", "64M"])))
            .map(|thread| thread.join().unwrap())
    });
    assert!(outcomes.iter().any(|outcome| outcome.status == 0), "{outcomes:#?}");
    platform.wait_for_status(&name, "/", 200, SOON);
    cf.ok_in(&app("static"), &["push", &name, "-m", "64M"]);
    assert_eq!(platform.get(&name, "/").status, 200);
}
