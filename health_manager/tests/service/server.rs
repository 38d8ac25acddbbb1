//! A bus server of one's own: on a free port, with its store in a temporary folder, gone with its owner.

use bus::Settings;
use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub(crate) struct Server {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// `None` where there is none, and then says so, because a test that is skipped must be seen.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = find() else {
            eprintln!("SKIPPED: no nats-server in target/tools or on PATH");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let child = spawn(&program, folder.path(), port);
        Some(Self { program, folder, port, child })
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { url: format!("nats://127.0.0.1:{}", self.port), user: "test".into(), password: "test".into(), ca: None }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it over the same store.
    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.program, self.folder.path(), self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    folders.find_map(|folder| Some(folder.join("nats-server")).filter(|program| program.is_file()))
}

fn spawn(program: &Path, folder: &Path, port: u16) -> Child {
    let config = folder.join("server.conf");
    let store = folder.join("store");
    let text = format!(
        "host: 127.0.0.1\nport: {port}\nserver_name: test\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
         authorization {{ user: test, password: test }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Command::new(program);
    server.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    server.spawn().unwrap()
}
