//! A `cf` as a user has it.

use crate::{Platform, root, unique};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;

/// A client with a home of its own.
pub struct Client {
    program: PathBuf,
    home: TempDir,
    environment: Vec<(String, String)>,
    skip_ssl_validation: bool,
    /// The org made for it.
    pub org: String,
    /// The space made for it.
    pub space: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status.
    pub status: i32,
    /// What it printed to standard output.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

impl Outcome {
    /// All that it printed.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
    /// Fails the test unless the command succeeded and printed this.
    #[track_caller]
    pub fn says(self, expected: &str) -> Self {
        assert!(self.all().contains(expected), "`{expected}` is not in:\n{}", self.all());
        self
    }
}

impl Client {
    pub(crate) fn ours(platform: &Platform) -> Self {
        let trust = ("CF_CA_FILE".to_owned(), platform.ca().display().to_string());
        Self::new(platform.bin().join("cf"), vec![trust], false)
    }

    pub(crate) fn official(platform: &Platform, trusting: bool) -> Option<Self> {
        let program = official_program()?;
        let trust = ("SSL_CERT_FILE".to_owned(), platform.ca().display().to_string());
        Some(Self::new(program.to_owned(), if trusting { vec![trust] } else { vec![] }, !trusting))
    }

    fn new(program: PathBuf, environment: Vec<(String, String)>, skip_ssl_validation: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { program, home, environment, skip_ssl_validation, org: String::new(), space: String::new() }
    }

    /// The name of the space that it targets.
    pub fn space(&self) -> &str {
        &self.space
    }

    /// Points it at the platform's API.
    pub fn target_api(&self, platform: &Platform) {
        let mut arguments = vec!["api".to_owned(), platform.api()];
        if self.skip_ssl_validation {
            arguments.push("--skip-ssl-validation".to_owned());
        }
        self.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Logs in.
    pub fn auth(&self, user: &str, password: &str) {
        self.ok(&["auth", user, password]);
    }

    pub(crate) fn at_home_in_new_space(mut self, platform: &Platform) -> Self {
        self.target_api(platform);
        self.auth("admin", &platform.admin_password());
        (self.org, self.space) = (unique("org"), unique("space"));
        self.ok(&["create-org", &self.org]);
        self.ok(&["target", "-o", &self.org]);
        self.ok(&["create-space", &self.space]);
        self.ok(&["target", "-o", &self.org, "-s", &self.space]);
        self
    }

    /// Runs a command, in the temporary folder.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_in(self.home.path(), arguments)
    }

    /// Runs a command in a folder.
    pub fn run_in(&self, folder: &Path, arguments: &[&str]) -> Outcome {
        self.run_with_input(folder, arguments, "")
    }

    /// Runs a command that reads its standard input.
    pub fn run_with_input(&self, folder: &Path, arguments: &[&str], input: &str) -> Outcome {
        let mut child =
            self.command(folder, arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { status: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// A command that the test runs itself (`logs` that go on).
    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(folder)
            .env("CF_HOME", self.home.path())
            .env("CF_COLOR", "false")
            .env("LANG", "C.UTF-8");
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env_remove("http_proxy").env_remove("https_proxy");
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.status, 0, "cf {arguments:?}:\n{}", outcome.all());
        outcome
    }

    /// Runs a command in a folder; it must succeed.
    #[track_caller]
    pub fn ok_in(&self, folder: &Path, arguments: &[&str]) -> Outcome {
        let outcome = self.run_in(folder, arguments);
        assert_eq!(outcome.status, 0, "cf {arguments:?}:\n{}", outcome.all());
        outcome
    }

    /// Runs a command that must fail.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_ne!(outcome.status, 0, "cf {arguments:?} was to fail:\n{}", outcome.all());
        outcome
    }

    /// Gets a document of the API.
    #[track_caller]
    pub fn curl(&self, path: &str) -> serde_json::Value {
        let outcome = self.ok(&["curl", path]);
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("cf curl {path}: {e}:\n{}", outcome.stdout))
    }

    /// The guid of an app.
    #[track_caller]
    pub fn app_guid(&self, app: &str) -> String {
        self.ok(&["app", app, "--guid"]).stdout.trim().to_owned()
    }
}

fn official_program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let output = Command::new(root().join("bin/official-cf")).stderr(Stdio::inherit()).output().unwrap();
        match output.status.code() {
            Some(0) => Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())),
            Some(3) => {
                let _ = writeln!(std::io::stderr(), "SKIPPED: no Go and no CF_OFFICIAL, so the official client is not tried");
                None
            }
            code => panic!("bin/official-cf failed with {code:?}"),
        }
    };
    PROGRAM.get_or_init(find).as_deref()
}
