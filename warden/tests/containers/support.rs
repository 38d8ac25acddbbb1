//! A daemon of its own for each test file: own folders, subnet, rules, cgroup, ids. Needs root, the static programs and the small stack.

use foundation::{Shutdown, SystemClock};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use warden::{Config, Raw};
use warden_client::{Client, ContainerInfo, ContainerSpec, Limits, ProcessExit, ProcessSpec, Streams};

/// Why tests of containers are skipped here, if they are.
pub(crate) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    let needed = [
        programs().join("warden_shim"),
        programs().join("warden_keeper"),
        programs().join("warden_init"),
        stacks().join("test/rootfs"),
    ];
    let absent = needed.iter().find(|path| !path.exists())?;
    Some(format!("{} is missing: run `bin/build-static` and `bin/stack --minimal --name test target/stacks`", absent.display()))
}

/// Skips a test visibly where containers cannot be made.
#[macro_export]
macro_rules! need_containers {
    () => {
        if let Some(why) = $crate::support::missing() {
            eprintln!("SKIPPED: {why}");
            return;
        }
    };
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").canonicalize().unwrap()
}

/// The programs under test; `WARDEN_TEST_PROGRAMS` names another folder, to measure those of a release.
pub(crate) fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("WARDEN_TEST_PROGRAMS") {
        return folder.into();
    }
    target().join("static/x86_64-unknown-linux-gnu/debug")
}

pub(crate) fn stacks() -> PathBuf {
    target().join("stacks")
}

/// Worlds of one process, and of processes that run at the same time, must not touch each other.
static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) raw: Raw,
    pub(crate) client: Client,
    daemon: Option<Daemon>,
    before: Vec<String>,
}

struct Daemon {
    shutdown: Shutdown,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Raw)) -> Self {
        let number = (std::process::id() % 31) * 128 + NEXT.fetch_add(1, Ordering::SeqCst) % 128;
        let folder = std::env::temp_dir().join(format!("warden-test-{number}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("sources")).unwrap();
        // 4,000 worlds: a /26 each inside 10.100.0.0/14, 64 ranges of ids each, 8 ports each.
        let net = (10 << 24) + (100 << 16) + number * 64;
        let mut raw: Raw = toml::from_str(&format!(
            r#"
            socket = "{folder}/warden.sock"
            state = "{folder}/state"
            run = "{folder}/run"
            programs = "{programs}"
            stacks = "{stacks}"
            sources = ["{folder}/sources"]
            log_socket = "{folder}/log.sock"
            cgroup_parent = "warden-test-{number}"
            id_base = {ids}
            most_containers = 40
            capacity = {{ memory_mb = 4096, disk_mb = 8192 }}
            [network]
            table = "warden_test_{number}"
            link_prefix = "w{number}-"
            subnet = "{subnet}/26"
            first_port = {port}
            last_port = {last_port}
            quarantine_seconds = 240
            "#,
            folder = folder.display(),
            programs = programs().display(),
            stacks = stacks().display(),
            // Below 2^31: devpts of Linux 6.1 takes no greater group.
            ids = 1_000_000_000 + (number % 250) * 64 * 65_536,
            subnet = std::net::Ipv4Addr::from_bits(net),
            port = 20_000 + number * 3,
            last_port = 20_000 + number * 3 + 2,
        ))
        .unwrap();
        change(&mut raw);
        let client = Client::new(&raw.socket);
        let before = remains(&raw);
        let mut world = Self { folder, raw, client, daemon: None, before };
        world.boot().await;
        world
    }

    /// Starts the daemon.
    pub(crate) async fn boot(&mut self) {
        let shutdown = Shutdown::new();
        let config = Config::check(self.raw.clone()).unwrap();
        warden::start(config, Arc::new(SystemClock), &shutdown).await.unwrap();
        self.daemon = Some(Daemon { shutdown });
    }

    /// Ends the daemon; containers stay.
    pub(crate) async fn halt(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            assert_eq!(daemon.shutdown.finish(Duration::from_secs(5)).await, 0, "tasks of the daemon did not end");
        }
    }

    /// Destroys everything and asserts that nothing is left.
    pub(crate) async fn end(mut self) {
        for container in self.client.list(&BTreeMap::new()).await.unwrap() {
            self.client.destroy(&container.handle).await.unwrap();
        }
        self.all_gone().await;
        self.halt().await;
        assert_eq!(remains(&self.raw), self.before, "something is left on the host");
        fs::remove_dir_all(&self.folder).unwrap();
    }

    /// Waits until the books of the daemon are empty.
    pub(crate) async fn all_gone(&self) {
        let folder = self.raw.state.join("containers");
        until("containers are gone", || fs::read_dir(&folder).is_ok_and(|entries| entries.count() == 0)).await;
    }

    /// Waits until the books of the daemon have only these containers.
    pub(crate) async fn all_gone_but(&self, handles: &[&str]) {
        let folder = self.raw.state.join("containers");
        let stays = |entry: &fs::DirEntry| handles.iter().any(|handle| entry.file_name() == *handle);
        until("the others are gone", || fs::read_dir(&folder).is_ok_and(|all| all.flatten().all(|entry| stays(&entry)))).await;
    }

    pub(crate) async fn create(&self, spec: &ContainerSpec) -> ContainerInfo {
        self.client.create(spec).await.unwrap()
    }

    /// Creates, waits for the end of the main process, and says how it ended.
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> ProcessExit {
        self.create(spec).await;
        self.ended(&spec.handle).await
    }

    pub(crate) async fn ended(&self, handle: &str) -> ProcessExit {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(exit) = self.client.info(handle).await.unwrap().exit {
                return exit;
            }
            assert!(Instant::now() < deadline, "`{handle}` did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a shell script inside as `user`; its status and output.
    pub(crate) async fn exec_as(&self, handle: &str, user: &str, argv: &[&str]) -> (i32, String) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let streams =
            Streams { stdin: fs::File::open("/dev/null").unwrap().into(), stdout: writer.try_clone().unwrap(), stderr: writer };
        let reading = tokio::task::spawn_blocking(move || {
            let mut text = vec![];
            reader.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let exit = self.client.exec(handle, &process(user, argv), streams).await.unwrap();
        (exit.status, reading.await.unwrap())
    }

    pub(crate) async fn exec(&self, handle: &str, script: &str) -> (i32, String) {
        self.exec_as(handle, "vcap", &["/bin/bash", "-c", script]).await
    }

    /// Runs a Python program inside.
    pub(crate) async fn python(&self, handle: &str, user: &str, program: &str) -> (i32, String) {
        self.exec_as(handle, user, &["/usr/bin/python3", "-c", program]).await
    }

    /// A container that sleeps, for others to look at.
    pub(crate) async fn sleeper(&self, handle: &str) -> ContainerInfo {
        self.create(&spec(handle, &["/bin/sleep", "1000"])).await
    }
}

impl Drop for World {
    /// After a failed test: takes away what it made, as far as that goes without its daemon.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let parent = &self.raw.cgroup_parent;
        let hierarchies =
            || fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path().join(parent));
        let children = |top: &Path| fs::read_dir(top).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        for container in hierarchies().flat_map(|top| children(&top).collect::<Vec<_>>()) {
            let pids = fs::read_to_string(container.path().join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        for top in hierarchies() {
            children(&top).for_each(|container| drop(fs::remove_dir(container.path())));
            let _ = fs::remove_dir(top);
        }
        output("nft", &["delete", "table", "inet", &self.raw.network.table]);
        output("ip", &["link", "delete", &format!("{}gw", self.raw.network.link_prefix)]);
        output("ip", &["route", "delete", "unreachable", &self.raw.network.subnet]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn process(user: &str, argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into(), "HOME=/home/vcap".into(), "LANG=C.UTF-8".into()],
        cwd: "/home/vcap".into(),
        user: user.into(),
    }
}

pub(crate) fn spec(handle: &str, argv: &[&str]) -> ContainerSpec {
    ContainerSpec {
        handle: handle.into(),
        labels: BTreeMap::from([("test".into(), handle.into())]),
        stack: "test".into(),
        layers: vec![],
        mounts: vec![],
        files: vec![],
        limits: Limits {
            memory_bytes: 128 << 20,
            disk_bytes: 64 << 20,
            cpu_shares: 128,
            cpu_quota_millis: None,
            pids: 100,
            nofile: 1024,
            log_bytes_per_second: -1,
        },
        ports: vec![],
        service_ports: vec![],
        egress: vec![],
        volumes: vec![],
        process: process("vcap", argv),
        log: None,
    }
}

pub(crate) fn shell(handle: &str, script: &str) -> ContainerSpec {
    spec(handle, &["/bin/bash", "-c", script])
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let done = std::process::Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What a Python program prints that runs outside: in a network namespace whose way to everywhere is this host. Tests that run at the
/// same time name different numbers.
pub(crate) fn from_outside(number: u8, program: &str) -> String {
    let name = format!("we{number}-{}", std::process::id());
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        std::process::Command::new(words[0]).args(&words[1..]).output().unwrap()
    };
    for words in [
        format!("ip netns add {name}"),
        format!("ip link add {name}h type veth peer name {name}o netns {name}"),
        format!("ip addr add 198.18.{number}.1/30 dev {name}h"),
        format!("ip link set {name}h up"),
        format!("ip -n {name} addr add 198.18.{number}.2/30 dev {name}o"),
        format!("ip -n {name} link set {name}o up"),
        format!("ip -n {name} route add default via 198.18.{number}.1"),
    ] {
        assert!(run(&words).status.success(), "{words}");
    }
    let told = output("ip", &["netns", "exec", &name, "python3", "-c", program]);
    run(&format!("ip netns del {name}"));
    run(&format!("ip link del {name}h"));
    told
}

/// What of a world is on the host: processes, mounts, links, rules, cgroups, loop devices, network namespaces.
pub(crate) fn remains(raw: &Raw) -> Vec<String> {
    let state = raw.state.parent().unwrap().display().to_string();
    let mut found = vec![];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(&format!("/{}/", raw.cgroup_parent)) {
            found.push(format!(
                "process {:?} {}",
                entry.file_name(),
                fs::read_to_string(entry.path().join("comm")).unwrap_or_default()
            ));
        }
    }
    for (what, text, word) in [
        ("mount", fs::read_to_string("/proc/self/mountinfo").unwrap(), state.clone()),
        ("link", output("ip", &["-o", "link"]), format!(" {}", raw.network.link_prefix)),
        ("route", output("ip", &["route"]), format!("dev {}", raw.network.link_prefix)),
        ("route", output("ip", &["route", "show", "type", "unreachable"]), raw.network.subnet.clone()),
        ("rules", output("nft", &["list", "tables"]), format!(" {}", raw.network.table)),
        ("loop", output("losetup", &["-l", "-n"]), state.clone()),
    ] {
        found.extend(text.lines().filter(|line| line.contains(&word)).map(|line| format!("{what} {line}")));
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let path = hierarchy.path().join(&raw.cgroup_parent);
        if path.is_dir() {
            found.push(format!("cgroup {}", path.display()));
        }
    }
    found
}
