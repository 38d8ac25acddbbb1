//! A server from the broker's side: start at the first need, crash, adoption, order.

#![expect(clippy::unwrap_used, reason = "tests")]

use async_trait::async_trait;
use engines::{Engine, Error, Phase, Program, Server, Settings, User};
use foundation::Shutdown;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Serves once it wrote `up`, and takes that away when it stops in order.
struct Script {
    data: PathBuf,
    script: &'static str,
    option: &'static str,
}

const GOOD: &str = "trap 'rm -f up; echo stopped >> history; exit 0' TERM; echo started >> history; touch up; sleep 1000 & wait";

#[async_trait]
impl Engine for Script {
    fn name(&self) -> &'static str {
        "script"
    }
    async fn initialize(&self, data: &Path) -> Result<Option<Program>, Error> {
        Ok(Some(Program::new("/bin/sh", User(None)).args(["-c", "touch made"]).folder(data)))
    }
    async fn launch(&self, data: &Path) -> Result<Program, Error> {
        let _ = std::fs::remove_file(data.join("settled"));
        Ok(Program::new("/bin/sh", User(None)).args(["-c", self.script]).folder(data).configured_by(self.option.as_bytes()))
    }
    async fn probe(&self) -> Result<(), Error> {
        match self.data.join("up").exists() {
            true => Ok(()),
            false => Err(Error::server("not yet")),
        }
    }
    async fn settle(&self) -> Result<(), Error> {
        if self.data.join("../unsettled").exists() {
            return Err(Error::server("somebody holds a lock"));
        }
        std::fs::write(self.data.join("settled"), "").map_err(Error::server)
    }
}

struct Broker {
    runtime: Option<Runtime>,
    shutdown: Shutdown,
    server: Server,
}

impl Broker {
    fn start(folder: &Path, script: &'static str, option: &'static str) -> Self {
        foundation::init_logs();
        let runtime = Runtime::new().unwrap();
        let shutdown = Shutdown::new();
        let settings = Settings {
            start_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(5),
            ..Settings::new(folder, User(None))
        };
        let engine = Arc::new(Script { data: folder.join("data"), script, option });
        let server = runtime.block_on(async { Server::open(settings, engine, &shutdown) }).unwrap();
        Self { runtime: Some(runtime), shutdown, server }
    }
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(future)
    }
    fn pid(&self) -> i32 {
        match self.server.phase() {
            Phase::Running { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }
    /// TERM.
    fn stop(self) {
        assert_eq!(self.wait(self.shutdown.finish(Duration::from_secs(10))), 0);
    }
    /// KILL: no task of it runs on, and nothing is told to the server.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(1));
    }
}

fn history(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("data/history")).unwrap_or_default().replace('\n', " ")
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_costs_nothing_until_it_is_needed_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    eventually("it is known that none was left", || broker.server.phase() == Phase::Stopped);
    assert!(!broker.server.data().exists());
    broker.wait(broker.server.ensure()).unwrap();
    assert!(folder.path().join("data/made").exists() && folder.path().join("data/settled").exists());
    broker.wait(broker.server.release()).unwrap();
    assert_eq!((broker.server.phase(), history(folder.path()).as_str()), (Phase::Stopped, "started stopped "));
    broker.wait(broker.server.destroy()).unwrap();
    assert!(!folder.path().exists());
    broker.stop();
}

#[test]
fn a_crashed_server_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    broker.wait(broker.server.ensure()).unwrap();
    let first = broker.pid();
    std::process::Command::new("kill").args(["-9", &first.to_string()]).status().unwrap();
    eventually("another process", || matches!(broker.server.phase(), Phase::Running { pid, .. } if pid != first));
    eventually("a second start", || history(folder.path()) == "started started ");
    broker.stop();
}

#[test]
fn a_server_that_serves_is_not_stopped_because_it_cannot_be_set_up_yet() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    broker.wait(broker.server.ensure()).unwrap();
    let pid = broker.pid();
    broker.kill();
    std::fs::write(folder.path().join("unsettled"), "").unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    eventually("told why", || matches!(broker.server.phase(), Phase::Failed(why) if why.contains("somebody holds a lock")));
    assert!(alive(pid));
    std::fs::remove_file(folder.path().join("unsettled")).unwrap();
    eventually("adopted", || matches!(broker.server.phase(), Phase::Running { adopted: true, .. }));
    assert_eq!((broker.pid(), history(folder.path()).as_str()), (pid, "started "));
    broker.stop();
}

#[test]
fn a_killed_broker_leaves_its_server_to_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    broker.wait(broker.server.ensure()).unwrap();
    let first = broker.pid();
    broker.kill();
    assert!(alive(first));
    let next = Broker::start(folder.path(), GOOD, "");
    next.wait(next.server.running(Duration::from_secs(5))).unwrap();
    assert_eq!(next.server.phase(), Phase::Running { pid: first, adopted: true });
    assert!(folder.path().join("data/settled").exists());
    // And is watched and stopped as if it were its own
    std::process::Command::new("kill").args(["-9", &first.to_string()]).status().unwrap();
    eventually("another process", || matches!(next.server.phase(), Phase::Running { pid, .. } if pid != first));
    eventually("a second start", || history(folder.path()) == "started started ");
    next.stop();
    assert_eq!(history(folder.path()), "started started stopped ");
}

#[test]
fn a_server_with_an_old_configuration_is_replaced_not_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "port 1");
    broker.wait(broker.server.ensure()).unwrap();
    let first = broker.pid();
    broker.kill();
    let next = Broker::start(folder.path(), GOOD, "port 2");
    next.wait(next.server.ensure()).unwrap();
    assert_ne!(next.pid(), first);
    assert!(!alive(first));
    assert_eq!(history(folder.path()), "started stopped started ");
    next.stop();
}

#[test]
fn a_server_that_stopped_with_its_broker_comes_back_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    broker.wait(broker.server.ensure()).unwrap();
    broker.stop();
    assert_eq!(history(folder.path()), "started stopped ");
    let next = Broker::start(folder.path(), GOOD, "");
    next.wait(next.server.running(Duration::from_secs(5))).unwrap();
    next.stop();
}

#[test]
fn two_brokers_do_not_keep_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), GOOD, "");
    broker.wait(broker.server.ensure()).unwrap();
    let first = broker.pid();
    let second = Broker::start(folder.path(), GOOD, "");
    let refused = second.wait(second.server.running(Duration::from_millis(300))).unwrap_err();
    assert!(refused.to_string().contains("cannot lock"), "{refused}");
    assert_eq!(broker.pid(), first);
    broker.stop();
    second.wait(second.server.ensure()).unwrap();
    second.stop();
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path(), "echo 'port is taken' >&2; exit 7", "");
    let error = broker.wait(broker.server.ensure()).unwrap_err().to_string();
    assert!(error.contains("exit status: 7") && error.contains("port is taken"), "{error}");
    broker.stop();
}
