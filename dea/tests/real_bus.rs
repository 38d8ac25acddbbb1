//! The DEA on a real bus: what a lost or rolled-back store may cost.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses its own part")]
mod world;

use bus::{Bus, Settings};
use messages::{
    claims::{CLAIMS, InstanceState, instance_key},
    dea::Answer,
};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use world::{World, app, eventually, id, start, stop};

/// A server of one's own; it ends with its handle.
struct Nats {
    program: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Nats {
    fn program() -> Option<PathBuf> {
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nats-server");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
        [fetched].into_iter().chain(on_path).find(|program| program.is_file())
    }

    fn start() -> Option<Self> {
        let program = Self::program()?;
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Self::spawn(&program, folder.path(), port);
        Some(Self { program, folder, port, child })
    }

    fn spawn(program: &Path, folder: &Path, port: u16) -> Child {
        let mut command = Command::new(program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]).arg(folder);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(&self.program, self.folder.path(), self.port);
    }

    fn forget(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }

    async fn connect(&self) -> Bus {
        let settings =
            Settings { url: format!("nats://127.0.0.1:{}", self.port), user: "test".into(), password: "test".into(), ca: None };
        let bus = Bus::connect(&settings).await.unwrap();
        make_bucket(&bus).await;
        bus
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn make_bucket(bus: &Bus) {
    eventually("a bucket", async || bus.make_bucket(CLAIMS, 1).await.ok()).await;
}

macro_rules! need_nats {
    () => {
        match Nats::start() {
            Some(nats) => nats,
            None => return eprintln!("SKIPPED: no nats-server; run `bin/prepare test`"),
        }
    };
}

#[tokio::test]
async fn instances_outlive_the_bus_and_claims_outlive_its_store() {
    let mut nats = need_nats!();
    let world = World::on(nats.connect().await).await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    let dea = running.dea.id;
    assert_eq!(world.ask(dea, "start", &start(4, 0)).await, Answer::Accepted);
    world.owner(InstanceState::Running).await;
    eventually("registered", async || world.journal.position("router.register")).await;

    nats.kill();
    nats.forget();
    world.journal.clear();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.journal.all(), Vec::<String>::new(), "nothing is stopped, nothing is unregistered");
    nats.start_again();
    make_bucket(&world.bus).await;
    let bucket = eventually("the bucket", async || world.bus.bucket(CLAIMS).await.ok()).await;
    let owner = async || {
        let entry = bucket.get(&instance_key(id(3), 0)).await.ok()??;
        entry.read::<messages::claims::InstanceRecord>().ok()?.owner
    };
    let owner = eventually("asserted anew", owner).await;
    assert_eq!((owner.dea, owner.state, owner.instance), (dea, InstanceState::Running, id(4)));
    eventually("registered again", async || world.journal.position("router.register")).await;
    assert_eq!(world.journal.count("stop") + world.journal.count("router.unregister"), 0, "{:?}", world.journal.all());

    let stopped =
        async || match world.bus.request(&messages::dea::command_subject(dea, "stop"), &stop(4), Duration::from_secs(2)).await {
            Ok(Answer::Accepted) => Some(()),
            _ => None,
        };
    eventually("a stop is heard", stopped).await;
    eventually("the record is gone", async || bucket.get(&instance_key(id(3), 0)).await.ok()?.is_none().then_some(())).await;
    running.end().await;
}

#[tokio::test]
async fn a_record_that_was_removed_while_the_dea_was_away_is_not_asserted_anew() {
    let nats = need_nats!();
    let world = World::on(nats.connect().await).await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    running.end().await;
    let key = instance_key(id(3), 0);
    let entry = world.bucket.get(&key).await.unwrap().unwrap();
    world.bucket.remove(&key, entry.revision).await.unwrap();
    let running = world.start_dea().await;
    eventually("removed", async || world.warden.containers().is_empty().then_some(())).await;
    assert!(world.record().await.is_none());
    running.end().await;
}

#[tokio::test]
async fn a_restart_on_a_real_bus_touches_nothing() {
    let nats = need_nats!();
    let world = World::on(nats.connect().await).await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    let before = world.owner(InstanceState::Running).await;
    running.end().await;
    world.journal.clear();
    let running = world.start_dea().await;
    eventually("registered again", async || world.journal.position("router.register")).await;
    assert_eq!(world.record().await.unwrap().owner.unwrap(), before);
    assert_eq!(
        world.journal.all().iter().filter(|line| !line.starts_with("router.register")).count(),
        0,
        "{:?}",
        world.journal.all()
    );
    running.end().await;
}
