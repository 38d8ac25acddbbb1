//! Up, down, killed, and up again.

use specs::{Platform, Remains, app, unique, wait_for};
use std::{fs, time::Duration};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn up_on_a_running_platform_says_so_at_once() {
    let Some(platform) = Platform::shared() else { return };
    let output = platform.cupola(&["up", "--detach"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("already running"));
}

#[test]
fn down_leaves_nothing_and_up_brings_apps_back_and_purge_removes_all() {
    let Some(platform) = Platform::own("") else { return };
    let mark = platform.folder().display().to_string();
    let cf = platform.cf();
    let name = unique("comes-back");
    cf.ok_in(&app("static"), &["push", &name, "-m", "64M"]);
    assert_eq!(platform.get(&name, "/").status, 200);

    let down = platform.cupola(&["down"]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    let left = Remains::of(&format!("{mark}/state"), platform.slot());
    assert_eq!(left, Remains::none(), "after down");
    assert!(!fs::read_to_string("/etc/hosts").unwrap().contains(&mark), "/etc/hosts keeps lines of a stopped platform");

    platform.up();
    platform.wait_for_status(&name, "/", 200, SOON);

    let purge = platform.cupola(&["down", "--purge"]);
    assert!(purge.status.success(), "{}", String::from_utf8_lossy(&purge.stderr));
    assert_eq!(Remains::of(&format!("{mark}/state"), platform.slot()), Remains::none(), "after down --purge");
    assert!(!platform.state().exists() && !platform.folder().join("run").exists());
}

#[test]
fn after_everything_was_killed_up_brings_every_running_app_back() {
    let Some(platform) = Platform::own("") else { return };
    let cf = platform.cf();
    let (runs, stopped) = (unique("ran"), unique("was-stopped"));
    cf.ok_in(&app("static"), &["push", &runs, "-m", "64M"]);
    cf.ok_in(&app("static"), &["push", &stopped, "-m", "64M"]);
    cf.ok(&["stop", &stopped]);
    platform.kill_everything();
    assert_eq!(platform.get(&runs, "/").status, 0, "nothing answers once everything is dead");
    platform.up();
    platform.wait_for_status(&runs, "/", 200, SOON);
    // 503 while the router still knows that there was such a route
    let status = platform.get(&stopped, "/").status;
    assert!(matches!(status, 404 | 503), "a stopped app stays stopped: {status}");
    platform.wait_for_status(&stopped, "/", 404, SOON);
}

#[test]
fn a_killed_supervisor_takes_its_parts_back_without_touching_them() {
    let Some(platform) = Platform::own("") else { return };
    let parts = ["cloud_controller", "dea", "gorouter", "nats", "uaa", "warden", "health_manager"];
    let before = parts.map(|part| platform.pid_of(part));
    assert!(before.iter().all(Option::is_some));
    platform.kill_supervisor();
    platform.up();
    wait_for("every part under the new supervisor", SOON, || (parts.map(|part| platform.pid_of(part)) == before).then_some(()));
}
