//! A PostgreSQL server of one's own: in a temporary folder, on a Unix socket, gone with its owner.

use std::{
    os::unix::{fs::chown, process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running server.
pub struct Postgres {
    child: Child,
    folder: TempDir,
    bin: PathBuf,
    /// Root may not run a server, so `nobody` does then.
    uid: Option<u32>,
}

const NOBODY: u32 = 65_534;

impl Postgres {
    /// Starts a server; `None` where none is installed, and then says so, because a test that is skipped must be seen.
    ///
    /// # Panics
    /// When there is one and it does not start.
    pub fn start() -> Option<Self> {
        let Some(bin) = installed() else {
            eprintln!("SKIPPED on PostgreSQL: no `initdb` on PATH or under /usr/lib/postgresql");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg").tempdir().expect("a temporary folder");
        let uid = server_uid(folder.path());
        let data = folder.path().join("data");
        let mut initdb = as_user(Command::new(bin.join("initdb")), uid);
        initdb.args(["--auth=trust", "--username=test", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"]).arg(&data);
        let made = initdb.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("initdb runs");
        assert!(made.success(), "initdb failed");
        let mut server = as_user(Command::new(bin.join("postgres")), uid);
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50", "-c", "shared_buffers=16MB"]);
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres runs");
        let server = Self { child, folder, bin, uid };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !server.psql("postgres", "SELECT 1") {
            assert!(Instant::now() < deadline, "postgres does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// Makes an empty database; returns its URL.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn database(&self, name: &str) -> String {
        assert!(self.psql("postgres", &format!("CREATE DATABASE {name}")), "cannot make the database {name}");
        format!("postgres:///{name}?host={}&user=test", self.folder.path().display())
    }

    fn psql(&self, database: &str, statement: &str) -> bool {
        let mut psql = as_user(Command::new(self.bin.join("psql")), self.uid);
        psql.args(["-q", "-U", "test", "-d", database, "-c", statement, "-h"]).arg(self.folder.path());
        psql.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT would end it in an orderly way, but its data is thrown away; its helpers end with it
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = path.split(':').map(PathBuf::from).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("psql").is_file())
}

/// Hands the folder to `nobody` if we are root.
fn server_uid(folder: &std::path::Path) -> Option<u32> {
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder).expect("the folder is there")) == 0;
    root.then(|| {
        chown(folder, Some(NOBODY), Some(NOBODY)).expect("root may give away");
        NOBODY
    })
}

fn as_user(mut command: Command, uid: Option<u32>) -> Command {
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command
}
