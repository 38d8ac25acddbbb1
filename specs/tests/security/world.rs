//! The platform, the hostile app on it, and what its probe found in each place.

use serde_json::Value;
use specs::{Client, Platform, app, unique, wait_for};
use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use warden_client::{ContainerInfo, Error, ProcessExit, ProcessSpec, Streams};

pub(crate) const SOON: Duration = Duration::from_secs(90);

/// What stands in the environment of the hostile app, and must not reach processes of the platform.
pub(crate) const CANARY: &str = "/home/vcap/app/canary-preload.so";

/// The hostile app, running, and what it found.
pub(crate) struct World {
    pub(crate) platform: &'static Platform,
    pub(crate) name: String,
    pub(crate) container: Container,
    /// Place (`app`, `exec`, `exec as root`, `staging`), then case, then detail.
    places: BTreeMap<&'static str, Value>,
    /// What the host had before anything of a tenant ran.
    pub(crate) host_before: BTreeMap<PathBuf, Vec<u8>>,
}

impl World {
    /// The one that all cases look at.
    pub(crate) fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<Option<World>> = OnceLock::new();
        // Where one test failed to get it, the others need not wait for the same.
        static TRIED: AtomicBool = AtomicBool::new(false);
        let first = || {
            assert!(!TRIED.swap(true, Ordering::SeqCst), "the hostile app could not be had, as another test tells");
            Self::new()
        };
        WORLD.get_or_init(first).as_ref()
    }

    fn new() -> Option<Self> {
        let platform = Platform::shared()?;
        let host_before = host(platform);
        let cf = platform.cf();
        let (name, buildpack) = (unique("hostile"), unique("hostile").replace('-', "_"));
        cf.ok(&["create-buildpack", &buildpack, &app("hostile/buildpack").display().to_string(), "99"]);
        cf.ok_in(&app("hostile"), &["push", &name, "-b", &buildpack, "-m", "1G", "-k", "128M", "--no-start"]);
        for (key, value) in [("LD_PRELOAD", CANARY), ("PROBE_AT_START", "1"), ("BASH_ENV", CANARY), ("PYTHONWARNINGS", "ignore")]
        {
            cf.ok(&["set-env", &name, key, value]);
        }
        cf.ok(&["start", &name]);
        let in_app = platform.wait_for_status(&name, "/probe", 200, SOON).json();
        let in_staging = platform.get(&name, "/staging").json();
        let container = Container::of(platform, &cf, &name);
        let mut places = BTreeMap::from([("app", in_app), ("staging", in_staging)]);
        for (place, user) in [("exec", "vcap"), ("exec as root", "root")] {
            let (status, text) = container.exec(user, &["/usr/bin/python3", "/home/vcap/app/probe.py"]);
            assert_eq!(status, 0, "{text}");
            let json = text.lines().rfind(|line| line.starts_with('{')).unwrap();
            places.insert(place, serde_json::from_str(json).unwrap());
        }
        Some(Self { platform, name, container, places, host_before })
    }

    /// What was found in each place on one case.
    pub(crate) fn each(&self, case: &str, mut look: impl FnMut(&str, &Value)) {
        assert_eq!(self.places.len(), 4);
        for (place, found) in &self.places {
            let found = &found[case];
            assert!(found.is_object() && found["broken"].is_null(), "{case} in {place}: {found}");
            look(place, found);
        }
    }

    /// Asserts that everything tried in a case (or in one part of it) failed with one of these errors.
    pub(crate) fn all_refused(&self, case: &str, part: &str, errors: &[&str]) {
        self.each(case, |place, found| {
            let tried = if part.is_empty() { found } else { &found[part] };
            let tried = tried.as_object().unwrap_or_else(|| panic!("{case} in {place}: {found}"));
            assert!(tried.keys().any(|what| what != "seconds"), "{case} in {place} tried nothing");
            for (what, result) in tried.iter().filter(|(what, _)| *what != "seconds") {
                assert!(result.as_str().is_some_and(|result| errors.contains(&result)), "{case} in {place}: {what}: {result}");
            }
        });
    }
}

/// Files of the host that tenants go for: its programs, and settings of the kernel.
pub(crate) fn host(platform: &Platform) -> BTreeMap<PathBuf, Vec<u8>> {
    let programs = ["cupola", "warden_shim", "warden_keeper", "warden_init", "lifecycle/builder", "lifecycle/launcher"];
    let kernel = [
        "kernel/core_pattern",
        "kernel/modprobe",
        "kernel/hostname",
        "kernel/domainname",
        "kernel/sysrq",
        "vm/panic_on_oom",
        "vm/overcommit_memory",
        "net/ipv4/ip_forward",
        "fs/suid_dumpable",
    ];
    let files = programs.iter().map(|name| platform.bin().join(name));
    let files = files.chain(kernel.iter().map(|name| Path::new("/proc/sys").join(name)));
    let files = files.chain(["/etc/hostname", "/etc/passwd", "/etc/shadow", "/etc/ld.so.cache"].map(PathBuf::from));
    files.filter_map(|path| fs::read(&path).ok().map(|content| (path, content))).collect()
}

/// A running container of the platform.
#[derive(Clone)]
pub(crate) struct Container {
    pub(crate) handle: String,
    warden: warden_client::Client,
}

impl Container {
    /// The container of an app's only instance.
    pub(crate) fn of(platform: &Platform, cf: &Client, name: &str) -> Self {
        let app = cf.app_guid(name);
        let handle = wait_for(&format!("the container of {name}"), SOON, || {
            containers(platform, &app).into_iter().find(|found| found.exit.is_none()).map(|found| found.handle)
        });
        Self { handle, warden: warden(platform) }
    }

    pub(crate) fn spec(user: &str, argv: &[&str]) -> ProcessSpec {
        ProcessSpec {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into(), "HOME=/home/vcap".into(), "LANG=C.UTF-8".into()],
            cwd: "/home/vcap".into(),
            user: user.into(),
        }
    }

    /// Runs a process inside; its status and all that it printed.
    pub(crate) fn exec(&self, user: &str, argv: &[&str]) -> (i32, String) {
        self.try_exec(&Self::spec(user, argv)).map(|(exit, text)| (exit.status, text)).unwrap()
    }

    pub(crate) fn try_exec(&self, process: &ProcessSpec) -> Result<(ProcessExit, String), Error> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writer = OwnedFd::from(writer);
        let streams =
            Streams { stdin: fs::File::open("/dev/null").unwrap().into(), stdout: writer.try_clone().unwrap(), stderr: writer };
        let reading = std::thread::spawn(move || {
            let mut text = vec![];
            reader.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let exit = block_on(self.warden.exec(&self.handle, process, streams));
        let text = reading.join().unwrap();
        exit.map(|exit| (exit, text))
    }
}

fn warden(platform: &Platform) -> warden_client::Client {
    warden_client::Client::new(platform.folder().join("run/warden/warden.sock"))
}

/// All containers of an app.
pub(crate) fn containers(platform: &Platform, app: &str) -> Vec<ContainerInfo> {
    block_on(warden(platform).list(&BTreeMap::from([("app".to_owned(), app.to_owned())]))).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A hostile app of a test's own, without the probe.
pub(crate) struct Own {
    pub(crate) platform: &'static Platform,
    pub(crate) cf: Client,
    pub(crate) name: String,
    pub(crate) container: Container,
}

impl Own {
    pub(crate) fn new(memory: &str) -> Option<Self> {
        let platform = Platform::shared()?;
        let (cf, name) = (platform.cf(), unique("misbehaves"));
        cf.ok_in(&app("hostile"), &["push", &name, "-b", "binary_buildpack", "-m", memory, "-k", "128M"]);
        let container = Container::of(platform, &cf, &name);
        Some(Self { platform, cf, name, container })
    }

    /// Lets the app do something; it need not answer.
    pub(crate) fn does(&self, action: &str) -> Value {
        let reply = self.platform.get(&self.name, &format!("/do/{action}"));
        serde_json::from_str(&reply.body).unwrap_or(Value::Null)
    }

    /// Waits until Warden knows the container no more and no process of it is left.
    pub(crate) fn gone(&self, container: &Container, limit: Duration) {
        wait_for(&format!("the end of {}", container.handle), limit, || {
            let known = block_on(container.warden.info(&container.handle)).is_ok_and(|info| info.exit.is_none());
            (!known && processes(&container.handle).is_empty()).then_some(())
        });
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.cf.run(&["delete", "-f", "-r", &self.name]);
    }
}

/// Processes of the host in the cgroups of a container.
pub(crate) fn processes(handle: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    all.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(handle)).collect()
}
