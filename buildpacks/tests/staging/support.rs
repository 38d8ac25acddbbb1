//! A staging in a folder of its own, with the real programs.

use buildpacks::result::ResultFile;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use zip::{ZipWriter, write::SimpleFileOptions};

/// What a staging brought.
pub(crate) struct Staged {
    pub(crate) status: i32,
    pub(crate) log: String,
    pub(crate) result: ResultFile,
}

/// A folder that plays the container.
pub(crate) struct Stage {
    dir: TempDir,
    pub(crate) order: Value,
    pub(crate) env: BTreeMap<String, String>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let order = json!({"buildpacks": [], "skip_detect": false, "stack": "debian12", "timeout_s": 500});
        let mut env = BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]);
        // What an operator's staging environment carries on a machine whose registries stand behind something of its own.
        for (name, value) in std::env::vars() {
            let names = [
                "PIP_CERT",
                "PIP_INDEX_URL",
                "REQUESTS_CA_BUNDLE",
                "SSL_CERT_FILE",
                "NODE_EXTRA_CA_CERTS",
                "GOPROXY",
                "GOSUMDB",
                "GOFLAGS",
            ];
            if names.contains(&name.as_str()) || name.to_lowercase().ends_with("_proxy") || name.starts_with("NPM_CONFIG_") {
                env.insert(name, value);
            }
        }
        fs::create_dir_all(dir.path().join("buildpacks")).unwrap();
        Self { dir, order, env }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The app, as files.
    pub(crate) fn app(&self, files: &[(&str, &str)]) -> &Self {
        let mut zip = ZipWriter::new(File::create(self.path("package.zip")).unwrap());
        for (name, content) in files {
            let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        self
    }

    /// The app, as it lies in a folder.
    pub(crate) fn app_from(&self, folder: &Path) -> &Self {
        let mut zip = ZipWriter::new(File::create(self.path("package.zip")).unwrap());
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if entry.file_type().is_file() {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
                zip.write_all(&fs::read(entry.path()).unwrap()).unwrap();
            }
        }
        zip.finish().unwrap();
        self
    }

    /// An admin buildpack made of scripts.
    pub(crate) fn buildpack(&mut self, name: &str, scripts: &[(&str, &str)]) -> &mut Self {
        let folder = self.path("buildpacks").join(name);
        write_scripts(&folder, scripts);
        self.candidate(json!({"name": name, "key": name}))
    }

    pub(crate) fn candidate(&mut self, candidate: Value) -> &mut Self {
        self.order["buildpacks"].as_array_mut().unwrap().push(candidate);
        self
    }

    pub(crate) fn chosen(&mut self) -> &mut Self {
        self.order["skip_detect"] = true.into();
        self
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Runs the real builder; what an earlier run made is gone, but for the cache.
    pub(crate) fn run(&self) -> Staged {
        for folder in ["home", "work"] {
            let _ = fs::remove_dir_all(self.path(folder));
            fs::create_dir(self.path(folder)).unwrap();
        }
        if self.path("output/cache.tgz").exists() {
            fs::rename(self.path("output/cache.tgz"), self.path("cache.tgz")).unwrap();
        }
        let _ = fs::remove_dir_all(self.path("output"));
        fs::write(self.path("staging.json"), self.order.to_string()).unwrap();
        let mut builder = Command::new(env!("CARGO_BIN_EXE_builder"));
        let files = [
            ("--package", "package.zip"),
            ("--buildpacks", "buildpacks"),
            ("--cache", "cache.tgz"),
            ("--order", "staging.json"),
            ("--output", "output"),
        ];
        for (flag, name) in files.into_iter().chain([("--home", "home"), ("--work", "work")]) {
            builder.arg(flag).arg(self.path(name));
        }
        let log = File::create(self.path("log")).unwrap();
        let status = builder.env_clear().envs(&self.env).stdout(log.try_clone().unwrap()).stderr(log).status().unwrap();
        let result = fs::read(self.path("output/result.json")).expect("there is always a result");
        let log = fs::read_to_string(self.path("log")).unwrap();
        Staged { status: status.code().unwrap(), log, result: serde_json::from_slice(&result).unwrap() }
    }

    /// The files of the droplet with their content, as far as it is text.
    pub(crate) fn droplet(&self) -> BTreeMap<String, String> {
        let file = File::open(self.path("output/droplet.tgz")).unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(GzDecoder::new(file)).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), String::from_utf8_lossy(&text).into_owned());
        }
        files
    }

    /// Unpacks the droplet in place of what staging left, and starts a process of it.
    pub(crate) fn launch(&self, command: &str, kind: &str) -> Running {
        fs::remove_dir_all(self.home()).unwrap();
        fs::create_dir(self.home()).unwrap();
        let file = File::open(self.path("output/droplet.tgz")).unwrap();
        let mut tar = tar::Archive::new(GzDecoder::new(file));
        tar.set_preserve_permissions(true);
        tar.unpack(self.home()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // As with a pipe, writes of several openings of it follow each other.
        let _ = fs::remove_file(self.path("app.log"));
        let log = File::options().create(true).append(true).open(self.path("app.log")).unwrap();
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
        launcher.arg(self.home().join("app")).arg(command).arg(kind).env_clear();
        launcher
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("PORT", port.to_string())
            .env("CF_INSTANCE_INDEX", "3")
            .env("MEMORY_LIMIT", "256m");
        launcher.env("VCAP_APPLICATION", r#"{"name":"sample"}"#).env("NASTY", NASTY);
        let child = launcher.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn().unwrap();
        Running { child, port, log: self.path("app.log") }
    }
}

/// A value that a shell would act on.
pub(crate) const NASTY: &str = "$(exit 1) `false` \"; exit 1; '\\";

pub(crate) fn write_scripts(folder: &Path, scripts: &[(&str, &str)]) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    for (name, script) in scripts {
        let path = folder.join("bin").join(name);
        fs::write(&path, format!("#!/bin/bash\nset -e\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A process of an app.
pub(crate) struct Running {
    child: Child,
    port: u16,
    pub(crate) log: PathBuf,
}

impl Running {
    /// The answer's status line and body, once the app answers.
    pub(crate) fn get(&mut self, path: &str) -> (String, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(answer) = self.try_get(path) {
                return answer;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the app ended with {status}: {}", self.text());
            }
            assert!(Instant::now() < deadline, "the app does not answer: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_get(&self, path: &str) -> Option<(String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: sample\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it as the platform does, and says how it ended.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the app does not end when it is asked to: {}", self.text());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // What it left behind goes too; nothing is there any more when it ended well.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
