//! A platform of the tests' own.

use crate::{Client, Reply, http, root, wait_for};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

/// How many test platforms may run on one machine.
const SLOTS: u32 = 8;

/// Variables of the environment that stagings need where registries are mirrored or proxied.
const STAGING_VARIABLES: &[&str] = &[
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GOFLAGS",
    "GOPRIVATE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "NPM_CONFIG_REGISTRY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_DEFAULT_TIMEOUT",
];

/// A running platform with everything of its own: state, ports, domains, subnet, nftables table, cgroups, user ids.
///
/// It is torn down with its state when the test process ends, however it ends.
pub struct Platform {
    slot: u32,
    folder: PathBuf,
    /// Held while the platform lives; closing it makes the reaper tear the platform down.
    _reaper: ChildStdin,
}

impl Platform {
    /// The platform that all tests of this process share; `None`, with a visible line, where tests cannot have one.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Platform>> = OnceLock::new();
        SHARED.get_or_init(|| possible().then(|| Self::boot(""))).as_ref()
    }

    /// A platform for one test alone; `extra` are lines of its settings.
    pub fn own(extra: &str) -> Option<Self> {
        possible().then(|| Self::boot(extra))
    }

    fn boot(extra: &str) -> Self {
        let (slot, lock) = take_slot();
        let folder = std::env::temp_dir().join(format!("cupola-test-{slot}"));
        // A run that was killed may have left its platform.
        if folder.exists() {
            tear_down(&folder);
        }
        fs::create_dir_all(folder.join("bin")).unwrap();
        install(&folder.join("bin"));
        let reaper = start_reaper(&folder, lock);
        let platform = Self { slot, folder, _reaper: reaper };
        fs::write(platform.folder.join("settings.toml"), platform.settings(extra)).unwrap();
        platform.up();
        platform
    }

    fn settings(&self, extra: &str) -> String {
        let (slot, folder) = (self.slot, self.folder.display());
        let base = 20_000 + slot * 100;
        let mut text = format!(
            "run_dir = \"{folder}/run\"\nsystem_domain = \"cf{slot}.localhost\"\napps_domain = \"app{slot}.localhost\"\n\
             http_port = {}\nhttps_port = {}\nport_base = {base}\nsubnet = \"10.{}.0.0/18\"\nhost_ports = [{}, {}]\n\
             nft_table = \"cupola_test_{slot}\"\nlink_prefix = \"cpt{slot}\"\ncgroup_parent = \"cupola-test-{slot}\"\ncontainer_uid_base = {}\nservice_uid_base = {}\n\
             memory_mb = 12288\ndisk_mb = 40960\nquarantine_s = 5\nstacks_dir = \"{}\"\n{extra}\n",
            self.http_port(),
            self.https_port(),
            200 + slot,
            30_000 + slot * 1_000,
            30_999 + slot * 1_000,
            // Below 2^31: devpts of Linux 6.1 takes no greater group.
            100_000_000_u32 + slot * 70_000_000,
            910_000 + slot * 32,
            root().join("target/stacks").canonicalize().expect("bin/test prepares the stack").display(),
        );
        text += "[staging_environment]\n";
        for (key, value) in STAGING_VARIABLES.iter().filter_map(|key| Some((key, std::env::var(key).ok()?))) {
            writeln!(text, "{key} = {value:?}").unwrap();
        }
        text
    }

    /// Starts it, or takes its parts back.
    pub fn up(&self) {
        let output = self.cupola(&["up", "--detach", "--settings", &self.folder.join("settings.toml").display().to_string()]);
        assert!(output.status.success(), "cupola up: {}{}\n{}", text(&output.stdout), text(&output.stderr), self.logs());
    }

    /// Runs `cupola` for this platform.
    pub fn cupola(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        let program = self.folder.join("bin/cupola");
        Command::new(program).arg(command).arg("--state").arg(self.state()).args(rest).output().unwrap()
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }
    /// Its programs.
    pub fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }
    /// Its folder in the temporary folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// The number that keeps it apart from other test platforms.
    pub fn slot(&self) -> u32 {
        self.slot
    }
    /// Port of the router for HTTP.
    pub fn http_port(&self) -> u16 {
        (20_080 + self.slot * 100) as u16
    }
    /// Port of the router for HTTPS.
    pub fn https_port(&self) -> u16 {
        (20_081 + self.slot * 100) as u16
    }
    /// Domain of the platform's own names.
    pub fn system_domain(&self) -> String {
        format!("cf{}.localhost", self.slot)
    }
    /// Domain of apps' routes.
    pub fn apps_domain(&self) -> String {
        format!("app{}.localhost", self.slot)
    }
    /// The API's URL.
    pub fn api(&self) -> String {
        format!("https://api.{}:{}", self.system_domain(), self.https_port())
    }
    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.state().join("certificates/ca.pem")
    }
    /// The password of `admin`.
    pub fn admin_password(&self) -> String {
        fs::read_to_string(self.state().join("admin-password")).unwrap().trim().to_owned()
    }

    /// Our client, logged in as admin, in an org and a space of its own.
    pub fn cf(&self) -> Client {
        Client::ours(self).at_home_in_new_space(self)
    }
    /// The official client that skips certificate checks, likewise; `None`, with a visible line, where it cannot be had.
    pub fn official(&self) -> Option<Client> {
        Some(Client::official(self, false)?.at_home_in_new_space(self))
    }
    /// The official client that trusts our authority by `SSL_CERT_FILE`, likewise.
    pub fn official_trusting(&self) -> Option<Client> {
        Some(Client::official(self, true)?.at_home_in_new_space(self))
    }

    /// Requests a route of an app: `host` without domain, `path` with its slash; plain HTTP.
    pub fn get(&self, host: &str, path: &str) -> Reply {
        http::curl(&[&format!("http://{host}.{}:{}{path}", self.apps_domain(), self.http_port())])
    }
    /// The same with more arguments of `curl`: a method, a body, a user.
    pub fn request(&self, host: &str, path: &str, arguments: &[&str]) -> Reply {
        let url = format!("http://{host}.{}:{}{path}", self.apps_domain(), self.http_port());
        http::curl(&[arguments, &[&url]].concat())
    }
    /// Puts a body.
    pub fn put(&self, host: &str, path: &str, body: &str) -> Reply {
        self.request(host, path, &["-X", "PUT", "--data-binary", body])
    }
    /// The same over HTTPS, checked against the platform's authority.
    pub fn get_tls(&self, host: &str, path: &str) -> Reply {
        let ca = self.ca();
        http::curl(&[
            "--cacert",
            ca.to_str().unwrap(),
            &format!("https://{host}.{}:{}{path}", self.apps_domain(), self.https_port()),
        ])
    }
    /// Requests one of the platform's own names (`login`, `api`) over HTTPS, with more arguments of `curl`.
    pub fn own_name(&self, name: &str, path: &str, arguments: &[&str]) -> Reply {
        let (ca, url) = (self.ca(), format!("https://{name}.{}:{}{path}", self.system_domain(), self.https_port()));
        http::curl(&[&["--cacert", ca.to_str().unwrap()], arguments, &[&url]].concat())
    }
    /// Waits until a route answers with a status.
    #[track_caller]
    pub fn wait_for_status(&self, host: &str, path: &str, status: u16, limit: Duration) -> Reply {
        wait_for(&format!("{status} from {host}{path}"), limit, || {
            Some(self.get(host, path)).filter(|reply| reply.status == status)
        })
    }

    /// Waits until a route leads nowhere: 404, or for a while 503 where the router still knows it.
    #[track_caller]
    pub fn wait_until_gone(&self, host: &str, limit: Duration) {
        wait_for(&format!("the end of {host}"), limit, || [404, 503].contains(&self.get(host, "/").status).then_some(()));
    }

    /// Processes of the platform by part: from `cupola status --json`.
    pub fn pid_of(&self, part: &str) -> Option<i32> {
        let output = self.cupola(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let found = status["parts"].as_array()?.iter().find(|row| row["service"] == part)?["pid"].as_i64()?;
        i32::try_from(found).ok()
    }

    /// Kills the supervisor, and it alone.
    pub fn kill_supervisor(&self) {
        let mark = format!("{}/bin/cupola up ", self.folder.display());
        kill_where(|command, _| command.starts_with(&mark));
    }

    /// Kills every process of the platform and of its apps at once, as a power loss would.
    pub fn kill_everything(&self) {
        let (mark, group) = (self.folder.display().to_string(), format!("/cupola-test-{}/", self.slot));
        // The reaper of this process stays: it starts with `sh -c trap`.
        let ours = |command: &str, cgroup: &str| {
            (command.contains(&mark) || cgroup.contains(&group)) && !command.starts_with("sh -c trap")
        };
        wait_for("all processes to be gone", Duration::from_secs(30), || (kill_where(ours) == 0).then_some(()));
    }

    /// The end of each part's log, for failures.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for entry in fs::read_dir(self.state().join("logs")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(8)..].join("\n");
            writeln!(all, "--- {}\n{end}", entry.file_name().to_string_lossy()).unwrap();
        }
        all
    }
}

/// Sends KILL to the processes whose command line and cgroups fit; returns how many there were.
fn kill_where(fits: impl Fn(&str, &str) -> bool) -> usize {
    let mut killed = 0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let command = text(&fs::read(entry.path().join("cmdline")).unwrap_or_default()).replace('\0', " ");
        let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let alive = !fs::read_to_string(entry.path().join("stat")).unwrap_or_default().contains(") Z ");
        if alive && u32::try_from(pid) != Ok(std::process::id()) && fits(&command, &cgroup) {
            killed += 1;
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    killed
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn possible() -> bool {
    let why_not = match (nix::unistd::geteuid().is_root(), std::env::var_os("SPECS_WITHOUT_PLATFORMS")) {
        (true, None) => return true,
        (false, _) => "platforms need root",
        (true, Some(_)) => "SPECS_WITHOUT_PLATFORMS is set",
    };
    // Straight to the terminal: the harness hides what passing tests print.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why_not}");
    false
}

/// A number that no other test platform has, and the lock that keeps it so.
fn take_slot() -> (u32, File) {
    wait_for("a free slot for a test platform", Duration::from_secs(600), || {
        (1..=SLOTS).find_map(|slot| {
            let file = File::create(format!("/run/lock/cupola-test-{slot}")).ok()?;
            file.try_lock().ok().map(|()| (slot, file))
        })
    })
}

/// Puts the programs into the platform's own folder.
fn install(bin: &Path) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let output = Command::new(root().join("bin/install-to")).arg(bin).arg("dev").output().unwrap();
    assert!(output.status.success(), "bin/install-to: {}", text(&output.stderr));
}

/// A process that waits for this one to end and then tears the platform down. It holds the slot's lock until it is done.
fn start_reaper(folder: &Path, lock: File) -> ChildStdin {
    let folder = folder.display();
    let script = format!(
        "trap '' INT TERM; read -r _; '{folder}/bin/cupola' down --purge --state '{folder}/state' >'{folder}/down.log' 2>&1 && rm -rf '{folder}'"
    );
    let mut reaper = Command::new("setsid");
    reaper.args(["sh", "-c", &script]).stdin(Stdio::piped()).stdout(lock).stderr(Stdio::null());
    reaper.spawn().unwrap().stdin.take().unwrap()
}

fn tear_down(folder: &Path) {
    let _ = Command::new(folder.join("bin/cupola")).args(["down", "--purge", "--state"]).arg(folder.join("state")).output();
    fs::remove_dir_all(folder).unwrap();
}
