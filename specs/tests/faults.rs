//! Kill anything: what users may notice, and what must never happen.
//!
//! The tests share one platform and take turns, because each of them breaks it.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use specs::{Client, Platform, app, unique, wait_for};
use std::{
    collections::BTreeSet,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

const SOON: Duration = Duration::from_secs(90);

static TURN: Mutex<()> = Mutex::new(());

/// An app with one instance that tells its environment.
struct World {
    platform: &'static Platform,
    cf: Client,
    name: String,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    fn new() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let platform = Platform::shared()?;
        let cf = platform.cf();
        let name = unique("steady");
        let folder = tempfile::tempdir().unwrap();
        let built = Command::new(app("binary").join("build")).arg(folder.path()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        cf.ok_in(folder.path(), &["push", &name, "-b", "binary_buildpack", "-c", "./server", "-m", "64M"]);
        let world = Self { platform, cf, name, _turn: turn };
        world.instance();
        Some(world)
    }

    /// The guid of the instance that answers.
    fn instance(&self) -> String {
        let reply = self.platform.wait_for_status(&self.name, "/env", 200, SOON);
        reply.json()["CF_INSTANCE_GUID"].as_str().unwrap().to_owned()
    }

    /// Kills a part and waits until the supervisor has a new process for it.
    fn kill_part(&self, part: &str) {
        let old = self.platform.pid_of(part).unwrap_or_else(|| panic!("{part} does not run"));
        kill(old);
        wait_for(&format!("a new {part}"), SOON, || self.platform.pid_of(part).filter(|new| *new != old));
    }

    /// The change that shows that the platform works again: two instances, then one.
    fn still_reconciles(&self) {
        wait_for("the API to take a scale", SOON, || (self.cf.run(&["scale", &self.name, "-i", "2"]).status == 0).then_some(()));
        self.wait_for_instances("2/2");
        wait_for("the API to take a scale", SOON, || (self.cf.run(&["scale", &self.name, "-i", "1"]).status == 0).then_some(()));
        self.wait_for_instances("1/1");
    }

    fn wait_for_instances(&self, shown: &str) {
        wait_for(&format!("instances {shown}"), SOON, || {
            let document = self.cf.run(&["app", &self.name]).stdout;
            document.lines().any(|line| line.starts_with("instances:") && line.ends_with(shown)).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.cf.run(&["delete", "-f", "-r", &self.name]);
    }
}

/// Requests the app without a pause until it is told to stop; what was not 200.
struct Prober(Arc<AtomicBool>, JoinHandle<Vec<u16>>);

impl Prober {
    fn start(platform: &'static Platform, name: &str) -> Self {
        let (stop, name) = (Arc::new(AtomicBool::new(false)), name.to_owned());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut bad = vec![];
            while !stopped.load(Ordering::Relaxed) {
                let status = platform.get(&name, "/").status;
                if status != 200 {
                    bad.push(status);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            bad
        });
        Self(stop, thread)
    }

    fn stop(self) -> Vec<u16> {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().unwrap()
    }
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Processes whose command line starts with one of these words and that name `mark`.
fn pids(program: &str, mark: &str) -> Vec<i32> {
    let output = Command::new("pgrep").args(["-f", &format!("{program}.*{mark}")]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect()
}

/// The shims of the platform's containers: the nearest ancestors of that name of the processes in its cgroups.
fn shims(platform: &Platform) -> BTreeSet<i32> {
    let group = format!("/cupola-test-{}/", platform.slot());
    let read = |pid: i32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let parent = |pid: i32| read(pid, "status").lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inside = all.filter(|pid| read(*pid, "cgroup").contains(&group));
    let shim = |pid: i32| {
        std::iter::successors(Some(pid), |pid| parent(*pid)).find(|pid| read(*pid, "cmdline").starts_with("warden_keeper"))
    };
    inside.filter_map(shim).collect()
}

/// A part dies: the same instance goes on, no request fails, and afterwards the platform reconciles.
fn death_of_a_part_is_not_noticed_by_apps(part: &str) {
    let Some(world) = World::new() else { return };
    let before = world.instance();
    let prober = Prober::start(world.platform, &world.name);
    world.kill_part(part);
    assert_eq!(world.instance(), before, "the instance was replaced");
    world.still_reconciles();
    // The second instance may answer for a moment more; an instance that was replaced never answers again.
    wait_for("the first instance alone", SOON, || (0..10).all(|_| world.instance() == before).then_some(()));
    assert_eq!(prober.stop(), Vec::<u16>::new(), "requests that failed");
}

#[test]
fn death_of_the_dea_touches_no_instance() {
    death_of_a_part_is_not_noticed_by_apps("dea");
}

#[test]
fn death_of_warden_touches_no_container() {
    death_of_a_part_is_not_noticed_by_apps("warden");
}

#[test]
fn death_of_the_health_manager_stops_nothing() {
    death_of_a_part_is_not_noticed_by_apps("health_manager");
}

#[test]
fn death_of_the_cloud_controller_touches_no_app() {
    death_of_a_part_is_not_noticed_by_apps("cloud_controller");
}

#[test]
fn death_of_the_bus_prunes_no_route_and_loses_no_claim() {
    death_of_a_part_is_not_noticed_by_apps("nats");
}

#[test]
fn death_of_uaa_touches_no_app() {
    death_of_a_part_is_not_noticed_by_apps("uaa");
}

#[test]
fn death_of_the_log_agent_blocks_no_app() {
    death_of_a_part_is_not_noticed_by_apps("loggregator_agent");
}

#[test]
fn death_of_the_router_costs_its_connections_alone() {
    let Some(world) = World::new() else { return };
    let before = world.instance();
    world.kill_part("gorouter");
    assert_eq!(world.instance(), before);
    world.still_reconciles();
}

#[test]
fn a_killed_app_process_is_a_crash_and_is_replaced() {
    let Some(world) = World::new() else { return };
    let before = world.instance();
    // The pid inside is not the pid outside: the process is found by what it runs.
    let outside = pids("^./server", "");
    assert!(!outside.is_empty());
    outside.into_iter().for_each(kill);
    wait_for("another instance", SOON, || {
        let reply = world.platform.get(&world.name, "/env");
        (reply.status == 200 && reply.json()["CF_INSTANCE_GUID"] != before.as_str()).then_some(())
    });
    world.cf.ok(&["events", &world.name]).says("app.crash");
}

#[test]
fn a_killed_shim_ends_its_instance_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let before = world.instance();
    let shims = shims(world.platform);
    assert!(!shims.is_empty(), "no shim runs");
    shims.into_iter().for_each(kill);
    wait_for("another instance", SOON, || {
        let reply = world.platform.get(&world.name, "/env");
        (reply.status == 200 && reply.json()["CF_INSTANCE_GUID"] != before.as_str()).then_some(())
    });
    wait_for("one container alone", SOON, || {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mark = format!("{}/state/warden", world.platform.folder().display());
        let roots = mounts.lines().filter(|line| line.contains(&mark) && line.contains(" overlay ")).count();
        (roots <= 1).then_some(())
    });
}
