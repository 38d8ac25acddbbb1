//! Servers of the platform's own brokers: the test plays broker, health manager and DEA.

use super::{World, push, tenancy};
use cloud_controller_client::{
    Client, Desired, Error, LaunchSpec, ServicePort, Volume, VolumesReport, WorkloadSpec, WorkloadState, WorkloadStatus,
};
use messages::claims::{CLAIMS, Exit, Holder, InstanceRecord, InstanceState, instance_key};
use rand::SeedableRng;
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use types::{AppId, Clock, DeaId, InstanceId, VersionId};

fn guid(number: u64) -> AppId {
    AppId::random(&mut rand::rngs::StdRng::seed_from_u64(number))
}

fn dea(number: u64) -> DeaId {
    DeaId::random(&mut rand::rngs::StdRng::seed_from_u64(900 + number))
}

fn spec(number: u16) -> WorkloadSpec {
    WorkloadSpec {
        name: format!("db-{number}"),
        stack: "debian12".into(),
        command: "exec postgres -D /data/main".into(),
        env: BTreeMap::from([("PASSWORD".to_owned(), "very secret".to_owned())]),
        memory_mb: 256,
        disk_mb: 128,
        volume: Volume { id: format!("volume-{number}"), size_mb: 1_024, path: "/data".into() },
        service_port: ServicePort { port: 8_000 + number, container_port: 5_432 },
        running: true,
    }
}

fn broker(world: &World) -> Client {
    world.internal("postgres_broker")
}

/// Puts a workload; the status of one that there is for sure.
async fn put(world: &World, guid: AppId, spec: &WorkloadSpec) -> WorkloadStatus {
    synced(world).await;
    broker(world).put_workload(guid.uuid(), spec).await.unwrap()
}

async fn status(world: &World, guid: AppId) -> Option<WorkloadStatus> {
    synced(world).await;
    broker(world).workload(guid.uuid()).await.unwrap()
}

async fn state(world: &World, guid: AppId) -> WorkloadState {
    status(world, guid).await.unwrap().state
}

async fn synced(world: &World) {
    until(|| world.api.actual.is_synced()).await;
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come true");
}

/// Waits until a workload is in a state.
async fn becomes(world: &World, guid: AppId, wanted: WorkloadState) -> WorkloadStatus {
    for _ in 0..500 {
        let status = status(world, guid).await.unwrap();
        if status.state == wanted {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never is {wanted:?}, but {:?}", status(world, guid).await);
}

/// Waits until nothing is left of a workload.
async fn is_gone(world: &World, guid: AppId) {
    for _ in 0..500 {
        if status(world, guid).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something is left: {:?}", status(world, guid).await);
}

/// What the health manager is told of it.
async fn desired(world: &World, guid: AppId) -> Option<cloud_controller_client::DesiredProcess> {
    match push::desired(world).await.remove(&guid.to_string()) {
        Some(Desired::Process(process)) => Some(process),
        Some(Desired::NoProcess { .. }) | None => None,
        other => panic!("{other:?}"),
    }
}

/// A claim of its newest start, as a DEA writes it.
struct Claim {
    version: VersionId,
    revision: u64,
    record: InstanceRecord,
}

impl Claim {
    async fn make(world: &World, guid: AppId, dea: DeaId) -> Self {
        let process = desired(world, guid).await.unwrap();
        let holder = Holder {
            instance: InstanceId::random(&mut rand::rngs::StdRng::seed_from_u64(5)),
            dea,
            state: InstanceState::Starting,
            since: world.clock.now(),
            endpoint: None,
            memory_mb: process.memory_mb,
            disk_mb: process.disk_mb,
            details: None,
        };
        let record = InstanceRecord {
            app: process.app,
            process: process.process,
            process_type: process.process_type,
            version: process.version,
            index: 0,
            owner: Some(holder),
            predecessor: None,
            crash_count: 0,
            last_exit: None,
            unplaced: None,
        };
        let bucket = world.bus.bucket(CLAIMS).await.unwrap();
        let revision = bucket.create(&instance_key(process.version, 0), &record).await.unwrap();
        Self { version: process.version, revision, record }
    }

    async fn spec(&self, world: &World) -> LaunchSpec {
        world.internal("dea").launch_spec(self.version).await.unwrap()
    }

    async fn write(&mut self, world: &World) {
        let bucket = world.bus.bucket(CLAIMS).await.unwrap();
        self.revision = bucket.update(&instance_key(self.version, 0), &self.record, self.revision).await.unwrap();
    }

    async fn is(&mut self, world: &World, state: InstanceState) {
        self.record.owner.as_mut().unwrap().state = state;
        self.write(world).await;
    }

    async fn remove(&self, world: &World) {
        let bucket = world.bus.bucket(CLAIMS).await.unwrap();
        bucket.remove(&instance_key(self.version, 0), self.revision).await.unwrap();
        until(|| world.api.actual.of_version(self.version).is_empty()).await;
    }
}

/// Brings a workload to the point where it runs on a DEA.
async fn running(world: &World, guid: AppId, spec: &WorkloadSpec, on: DeaId) -> Claim {
    put(world, guid, spec).await;
    let mut claim = Claim::make(world, guid, on).await;
    claim.spec(world).await;
    claim.is(world, InstanceState::Running).await;
    becomes(world, guid, WorkloadState::Running).await;
    claim
}

async fn report(world: &World, dea: DeaId, volumes: &[&str]) -> Vec<String> {
    let report = VolumesReport { dea, volumes: volumes.iter().map(|id| (*id).to_owned()).collect() };
    world.internal("dea").volumes(&report).await.unwrap().remove
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (u16, String) {
    match outcome {
        Err(Error::Refused { status, body, .. }) => (status, body),
        other => panic!("{other:?}"),
    }
}

async fn a_workload_is_placed_runs_and_stays_where_its_volume_is(world: World) {
    let (db, spec) = (guid(1), spec(1));
    let made = put(&world, db, &spec).await;
    assert_eq!((made.state, &made.reason), (WorkloadState::Starting, &None));
    let process = desired(&world, db).await.unwrap();
    assert_eq!((process.instances, process.memory_mb, process.disk_mb, process.new_volume_mb), (1, 256, 128, 1_024));
    assert_eq!((process.only_on, process.stack.as_str(), process.app), (None, "debian12", db));
    assert_eq!(process.version.to_string(), made.version);

    let mut claim = Claim::make(&world, db, dea(1)).await;
    let launch = claim.spec(&world).await;
    assert_eq!((launch.droplet, launch.command.as_str()), (None, spec.command.as_str()));
    assert_eq!((&launch.volume, launch.service_port), (&Some(spec.volume.clone()), Some(spec.service_port)));
    assert_eq!((&launch.env, launch.ports.as_slice()), (&spec.env, [5_432].as_slice()));
    assert_eq!((launch.health_check.kind.as_str(), launch.routes.len(), launch.egress.len()), ("port", 0, 0));
    assert_eq!((launch.organization.1.as_str(), launch.space.1.as_str()), ("system", "postgres_broker"));
    assert_eq!(state(&world, db).await, WorkloadState::Starting);

    claim.is(&world, InstanceState::Running).await;
    assert_eq!(becomes(&world, db, WorkloadState::Running).await.version, made.version);
    let process = desired(&world, db).await.unwrap();
    assert_eq!((process.only_on, process.new_volume_mb), (Some(dea(1)), 0));
    assert_eq!(process.version.to_string(), made.version, "it is not started anew");

    // Another DEA that claims it all the same is told nothing.
    claim.record.owner.as_mut().unwrap().dea = dea(2);
    claim.write(&world).await;
    assert!(matches!(world.internal("dea").launch_spec(claim.version).await, Err(Error::NotFound(_))));
    until(|| world.api.actual.of_version(claim.version)[&0].record.owner.as_ref().unwrap().dea == dea(2)).await;
    assert_eq!(desired(&world, db).await.unwrap().only_on, Some(dea(1)), "for good");
    assert_eq!(state(&world, db).await, WorkloadState::Starting, "that one has other data");
}

async fn the_same_specification_again_changes_nothing_and_another_restarts(world: World) {
    let (db, mut spec) = (guid(1), spec(1));
    running(&world, db, &spec, dea(1)).await;
    let before = push::desired(&world).await;
    let again = put(&world, db, &spec).await;
    assert_eq!(again.state, WorkloadState::Running);
    assert_eq!(push::desired(&world).await, before);

    spec.env.insert("EXTRA".into(), "1".into());
    spec.memory_mb = 512;
    let changed = put(&world, db, &spec).await;
    assert!(changed.version != again.version && changed.state == WorkloadState::Starting);
    let process = desired(&world, db).await.unwrap();
    assert_eq!((process.memory_mb, process.only_on, process.new_volume_mb), (512, Some(dea(1)), 0));
    let usage = world.get("admin", "/v3/app_usage_events?order_by=-created_at").await.expect(200);
    assert_eq!(usage["resources"][0]["memory_in_mb_per_instance"]["current"], 512);

    let stopped = put(&world, db, &WorkloadSpec { running: false, ..spec.clone() }).await;
    assert_eq!((stopped.state, stopped.version.as_str()), (WorkloadState::Stopping, changed.version.as_str()));
    assert!(desired(&world, db).await.is_none());
    let started = put(&world, db, &spec).await;
    assert!(started.version != changed.version && started.state == WorkloadState::Starting);
}

async fn it_is_stopped_once_no_instance_is_left(world: World) {
    let (db, spec) = (guid(1), spec(1));
    let mut claim = running(&world, db, &spec, dea(1)).await;
    put(&world, db, &WorkloadSpec { running: false, ..spec.clone() }).await;
    claim.is(&world, InstanceState::Stopping).await;
    assert_eq!(state(&world, db).await, WorkloadState::Stopping);
    claim.remove(&world).await;
    assert_eq!(state(&world, db).await, WorkloadState::Stopped);
    let again = put(&world, guid(2), &WorkloadSpec { running: false, ..self::spec(2) }).await;
    assert_eq!(again.state, WorkloadState::Stopped, "it was never started");
    assert!(desired(&world, guid(2)).await.is_none());
}

async fn why_it_does_not_run_is_told(world: World) {
    let db = guid(1);
    put(&world, db, &spec(1)).await;
    let mut claim = Claim::make(&world, db, dea(1)).await;
    claim.record.crash_count = 1;
    claim.record.last_exit = Some(Exit {
        instance: claim.record.owner.as_ref().unwrap().instance,
        at: world.clock.now(),
        status: Some(1),
        reason: "APP/PROC/WEB: Exited with status 1".into(),
    });
    claim.is(&world, InstanceState::Crashed).await;
    let down = becomes(&world, db, WorkloadState::Down).await;
    assert_eq!(down.reason.as_deref(), Some("APP/PROC/WEB: Exited with status 1"));
    claim.record.owner = None;
    claim.record.unplaced = Some("InsufficientResources: 256 MB asked, most free 100 MB".into());
    claim.write(&world).await;
    until(|| world.api.actual.of_version(claim.version)[&0].record.unplaced.is_some()).await;
    let down = becomes(&world, db, WorkloadState::Down).await;
    assert_eq!(down.reason.as_deref(), Some("InsufficientResources: 256 MB asked, most free 100 MB"));
}

async fn everything_that_is_wrong_is_said_at_once(world: World) {
    let bad = WorkloadSpec {
        name: "My DB".into(),
        stack: "plan9".into(),
        command: " ".into(),
        env: BTreeMap::from([("PORT".to_owned(), "1".to_owned()), ("BIG".to_owned(), "x".repeat(70_000))]),
        memory_mb: 0,
        disk_mb: u32::MAX,
        volume: Volume { id: "a/b".into(), size_mb: 1, path: "/data/../etc".into() },
        service_port: ServicePort { port: 0, container_port: 0 },
        running: true,
    };
    let (status, text) = refused(broker(&world).put_workload(guid(1).uuid(), &bad).await);
    assert_eq!(status, 422);
    for part in ["name `My DB`", "command must not be empty", "`PORT`", "env has 70", "memory_mb: 0", "disk_mb: 4294967295"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let rest = WorkloadSpec { name: "a".into(), command: "x".into(), env: BTreeMap::new(), memory_mb: 1, disk_mb: 1, ..bad };
    let (_, text) = refused(broker(&world).put_workload(guid(1).uuid(), &rest).await);
    for part in ["volume.size_mb: 1 ", "volume.id `a/b`", "/data/../etc", "service_port.port", "container_port", "stack `plan9`"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    for path in ["data", "/", "//data", "/data/", "/./data", "/proc/data", "/a\nb", ""] {
        let spec = WorkloadSpec { volume: Volume { path: path.into(), ..spec(1).volume }, ..spec(1) };
        let (status, text) = refused(broker(&world).put_workload(guid(1).uuid(), &spec).await);
        assert!(status == 422 && text.contains("volume.path"), "{path}: {text}");
    }
    assert!(broker(&world).workload(guid(1).uuid()).await.unwrap().is_none());
}

async fn a_workload_is_its_owner_s_alone(world: World) {
    let db = guid(1);
    put(&world, db, &spec(1)).await;
    let other = world.internal("mysql_broker");
    assert!(other.workload(db.uuid()).await.unwrap().is_none());
    assert!(!other.delete_workload(db.uuid()).await.unwrap());
    assert!(matches!(other.put_workload(db.uuid(), &spec(2)).await, Err(Error::NotFound(_))));
    let (status, _) = refused(world.internal("dea").put_workload(db.uuid(), &spec(2)).await);
    assert_eq!(status, 403);
    assert_eq!(refused(world.internal("postgres_broker").desired(0, 1).await).0, 403);
    let report = VolumesReport { dea: dea(1), volumes: vec![] };
    assert_eq!(refused(broker(&world).volumes(&report).await).0, 403);

    let (status, text) = refused(other.put_workload(guid(2).uuid(), &spec(1)).await);
    assert!(
        status == 422 && text.contains("8001 belongs to another") && text.contains("`volume-1` belongs to another"),
        "{text}"
    );
    let same_name = WorkloadSpec { name: "db-1".into(), ..spec(2) };
    other.put_workload(guid(2).uuid(), &same_name).await.unwrap();
    let same_name = WorkloadSpec { name: "db-1".into(), ..spec(3) };
    let (status, text) = refused(broker(&world).put_workload(guid(3).uuid(), &same_name).await);
    assert!(status == 422 && text.contains("name `db-1` belongs"), "{text}");

    let space = push::space(&world).await;
    let app: AppId = push::app(&world, &space, "dora").await.parse().unwrap();
    assert!(refused(broker(&world).put_workload(app.uuid(), &spec(4)).await).1.contains("belongs to an app"));
    assert!(!broker(&world).delete_workload(app.uuid()).await.unwrap());
}

async fn the_volume_never_changes(world: World) {
    let (db, before) = (guid(1), spec(1));
    put(&world, db, &before).await;
    for volume in [
        Volume { size_mb: 2_048, ..before.volume.clone() },
        Volume { path: "/other".into(), ..before.volume.clone() },
        Volume { id: "other".into(), ..before.volume.clone() },
    ] {
        let spec = WorkloadSpec { volume, ..before.clone() };
        assert_eq!(refused(broker(&world).put_workload(db.uuid(), &spec).await).0, 409);
    }
    let moved = WorkloadSpec { name: "renamed".into(), service_port: spec(9).service_port, ..before.clone() };
    put(&world, db, &moved).await;
    put(&world, guid(2), &WorkloadSpec { volume: spec(2).volume, ..before }).await;
    let app = world.get("admin", &format!("/v3/apps/{db}")).await.expect(200);
    assert_eq!(app["name"], "renamed");
    broker(&world).delete_workload(db.uuid()).await.unwrap();
    if status(&world, db).await.is_some() {
        assert_eq!(refused(broker(&world).put_workload(db.uuid(), &moved).await).0, 409);
    }
}

/// The app and its rows are gone, the port and name are free.
async fn nothing_is_left(world: &World, db: AppId) {
    assert!(!broker(world).delete_workload(db.uuid()).await.unwrap());
    world.get("admin", &format!("/v3/apps/{db}")).await.expect(404);
    assert!(desired(world, db).await.is_none());
    let spec = WorkloadSpec { volume: Volume { id: "new".into(), ..spec(1).volume }, ..spec(1) };
    put(world, guid(77), &spec).await;
}

async fn its_claim_goes_and_then_its_volume(mut world: World) {
    let db = guid(1);
    let claim = running(&world, db, &spec(1), dea(1)).await;
    assert!(report(&world, dea(1), &["volume-1"]).await.is_empty());
    assert!(broker(&world).delete_workload(db.uuid()).await.unwrap());
    assert!(broker(&world).delete_workload(db.uuid()).await.unwrap(), "again");
    assert!(desired(&world, db).await.is_none());
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    assert!(report(&world, dea(1), &["volume-1"]).await.is_empty(), "its instance has it");
    claim.remove(&world).await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    assert!(report(&world, dea(2), &[]).await.is_empty(), "another DEA says nothing about it");
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    world.kill().await;
    synced(&world).await;
    assert_eq!(report(&world, dea(1), &["volume-1"]).await, ["volume-1"]);
    assert_eq!(report(&world, dea(1), &["volume-1"]).await, ["volume-1"], "until it is gone");
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    assert!(report(&world, dea(1), &[]).await.is_empty());
    is_gone(&world, db).await;
    nothing_is_left(&world, db).await;
}

async fn its_volume_goes_before_its_claim(mut world: World) {
    let db = guid(1);
    let claim = running(&world, db, &spec(1), dea(1)).await;
    broker(&world).delete_workload(db.uuid()).await.unwrap();
    // The disk of that host was exchanged; the instance could still make it anew.
    report(&world, dea(1), &[]).await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    world.kill().await;
    synced(&world).await;
    claim.remove(&world).await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting, "that report was too early");
    report(&world, dea(1), &[]).await;
    is_gone(&world, db).await;
    nothing_is_left(&world, db).await;
}

async fn what_never_ran_goes_at_once_and_its_remains_later(mut world: World) {
    let db = guid(1);
    put(&world, db, &spec(1)).await;
    broker(&world).delete_workload(db.uuid()).await.unwrap();
    is_gone(&world, db).await;

    // It is just being started: the claim is made, the DEA knows what to start, and the volume may come any time.
    put(&world, db, &spec(1)).await;
    let claim = Claim::make(&world, db, dea(1)).await;
    claim.spec(&world).await;
    broker(&world).delete_workload(db.uuid()).await.unwrap();
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    assert!(report(&world, dea(1), &[]).await.is_empty());
    assert!(matches!(world.internal("dea").launch_spec(claim.version).await, Err(Error::NotFound(_))));
    world.kill().await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    claim.remove(&world).await;
    is_gone(&world, db).await;
    assert_eq!(report(&world, dea(1), &["volume-1", "stranger"]).await, ["volume-1"]);
    assert!(report(&world, dea(2), &["volume-1"]).await.is_empty(), "that one was never told to make it");
    assert!(report(&world, dea(1), &["stranger"]).await.is_empty());
    assert!(report(&world, dea(1), &["volume-1"]).await.is_empty(), "it was gone, and is somebody's who came back");
    nothing_is_left(&world, db).await;
}

async fn a_first_instance_that_runs_while_it_is_deleted_is_waited_for(world: World) {
    let db = guid(1);
    put(&world, db, &spec(1)).await;
    let mut claim = Claim::make(&world, db, dea(1)).await;
    claim.spec(&world).await;
    broker(&world).delete_workload(db.uuid()).await.unwrap();
    claim.is(&world, InstanceState::Running).await;
    until(|| world.api.actual.of_version(claim.version)[&0].record.owner.as_ref().unwrap().state == InstanceState::Running).await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting);
    claim.remove(&world).await;
    assert_eq!(state(&world, db).await, WorkloadState::Deleting, "its volume is there");
    assert_eq!(report(&world, dea(1), &["volume-1"]).await, ["volume-1"]);
    report(&world, dea(1), &[]).await;
    is_gone(&world, db).await;
}

async fn it_runs_on_when_the_controller_was_away_at_the_wrong_moment(mut world: World) {
    let (db, spec) = (guid(1), spec(1));
    put(&world, db, &spec).await;
    let mut claim = Claim::make(&world, db, dea(1)).await;
    claim.spec(&world).await;
    claim.is(&world, InstanceState::Running).await;
    world.kill().await;
    becomes(&world, db, WorkloadState::Running).await;
    assert_eq!(put(&world, db, &spec).await.state, WorkloadState::Running);
    assert_eq!(desired(&world, db).await.unwrap().only_on, Some(dea(1)));
}

async fn killed_at_any_step_the_controller_ends_right(mut world: World) {
    for killed_at in 0..9 {
        let (db, spec) = (guid(100 + u64::from(killed_at)), spec(killed_at));
        let volume = spec.volume.id.as_str();
        let mut claim: Option<Claim> = None;
        for step in 0..9 {
            match step {
                0 => drop(put(&world, db, &spec).await),
                1 => claim = Some(Claim::make(&world, db, dea(1)).await),
                2 => drop(claim.as_ref().unwrap().spec(&world).await),
                3 => claim.as_mut().unwrap().is(&world, InstanceState::Running).await,
                4 => drop(becomes(&world, db, WorkloadState::Running).await),
                5 => assert!(broker(&world).delete_workload(db.uuid()).await.unwrap()),
                6 => claim.as_ref().unwrap().remove(&world).await,
                7 => assert_eq!(report(&world, dea(1), &[volume]).await, [volume], "killed at {killed_at}"),
                _ => assert!(report(&world, dea(1), &[]).await.is_empty()),
            }
            if step == killed_at {
                world.kill().await;
                synced(&world).await;
            }
        }
        is_gone(&world, db).await;
    }
}

async fn a_closed_stack_is_for_workloads_alone(mut world: World) {
    let closed = crate::config::Stack {
        name: "engines".into(),
        description: "Servers".into(),
        disabled: Some("It is for the platform's own brokers.".into()),
    };
    world.restart_with(|config| config.stacks.push(closed)).await;
    put(&world, guid(1), &WorkloadSpec { stack: "engines".into(), ..spec(1) }).await;
    assert_eq!(desired(&world, guid(1)).await.unwrap().stack, "engines");
    let space = push::space(&world).await;
    let body = json!({
        "name": "dora", "relationships": { "space": { "data": { "guid": space } } },
        "lifecycle": { "type": "buildpack", "data": { "stack": "engines" } },
    });
    let text = world.post("dev", "/v3/apps", body).await.detail(422);
    assert!(text.contains("'DISABLED'") && text.ends_with("It is for the platform's own brokers."), "{text}");
}

async fn nobody_changes_it_by_the_public_api(world: World) {
    let db = guid(1);
    running(&world, db, &spec(1), dea(1)).await;
    let app = world.get("admin", &format!("/v3/apps/{db}")).await.expect(200);
    assert_eq!((&app["name"], &app["state"]), (&json!("db-1"), &json!("STARTED")));
    let text = world.get("admin", &format!("/v3/apps/{db}/env")).await.expect(200).to_string();
    assert!(!text.contains("very secret"), "{text}");
    world.get("admin", &format!("/v3/apps/{db}/processes/web/stats")).await.expect(200);
    let space = app["relationships"]["space"]["data"]["guid"].as_str().unwrap().to_owned();
    let org = world.get("admin", &format!("/v3/spaces/{space}")).await.expect(200);
    let org = org["relationships"]["organization"]["data"]["guid"].as_str().unwrap().to_owned();
    let before = push::desired(&world).await;

    let in_space = json!({ "space": { "data": { "guid": space } } });
    let of_app = json!({ "app": { "data": { "guid": db.to_string() } } });
    let requests: Vec<(Method, String, Value)> = vec![
        (Method::POST, format!("/v3/apps/{db}/actions/start"), json!({})),
        (Method::POST, format!("/v3/apps/{db}/actions/stop"), json!({})),
        (Method::POST, format!("/v3/apps/{db}/actions/restart"), json!({})),
        (Method::POST, format!("/v3/apps/{db}/actions/clear_buildpack_cache"), json!({})),
        (Method::PATCH, format!("/v3/apps/{db}"), json!({ "name": "mine" })),
        (Method::PATCH, format!("/v3/apps/{db}/environment_variables"), json!({ "var": { "A": "b" } })),
        (Method::PATCH, format!("/v3/apps/{db}/features/ssh"), json!({ "enabled": true })),
        (Method::PATCH, format!("/v3/apps/{db}/relationships/current_droplet"), json!({ "data": { "guid": "x" } })),
        (Method::POST, format!("/v3/apps/{db}/processes/web/actions/scale"), json!({ "instances": 2 })),
        (Method::PATCH, format!("/v3/processes/{db}"), json!({ "command": "true" })),
        (Method::DELETE, format!("/v3/apps/{db}/processes/web/instances/0"), Value::Null),
        (Method::DELETE, format!("/v3/apps/{db}"), Value::Null),
        (Method::POST, "/v3/packages".into(), json!({ "type": "bits", "relationships": of_app })),
        (Method::POST, "/v3/apps".into(), json!({ "name": "mine", "relationships": in_space })),
        (Method::PATCH, format!("/v3/spaces/{space}"), json!({ "name": "mine" })),
        (Method::DELETE, format!("/v3/spaces/{space}"), Value::Null),
        (Method::PATCH, format!("/v3/organizations/{org}"), json!({ "suspended": true })),
        (Method::DELETE, format!("/v3/organizations/{org}"), Value::Null),
    ];
    for (method, path, body) in requests {
        let answered = world.send(method.clone(), "admin", &path, (!body.is_null()).then_some(body)).await;
        let text = answered.detail(422);
        let said = text.contains("managed by the broker postgres; use its service instance") || text.contains("by the platform");
        assert!(said, "{method} {path}: {text}");
    }
    let role = json!({ "type": "organization_user", "relationships": {
        "user": { "data": { "guid": super::harness::user_guid("eve") } }, "organization": { "data": { "guid": org } } } });
    assert!(world.post("admin", "/v3/roles", role).await.detail(422).contains("managed by the platform"));
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let manifest = push::yaml(&world, "admin", &path, "applications:\n- name: db-1\n  memory: 1G\n").await;
    assert!(manifest.detail(422).contains("managed by the broker postgres"));
    for path in [format!("/v3/apps/{db}"), format!("/v3/organizations/{org}"), format!("/v3/spaces/{space}")] {
        world.get("eve", &path).await.expect(404);
    }
    assert_eq!(push::desired(&world).await, before);
    assert_eq!(state(&world, db).await, WorkloadState::Running);
}

async fn services_cannot_be_bound_to_it(world: World) {
    let db = guid(1);
    put(&world, db, &spec(1)).await;
    let app = world.get("admin", &format!("/v3/apps/{db}")).await.expect(200);
    let space = app["relationships"]["space"]["data"]["guid"].clone();
    let body = json!({ "type": "user-provided", "name": "mine", "relationships": { "space": { "data": { "guid": space } } } });
    assert!(world.post("admin", "/v3/service_instances", body).await.detail(422).contains("managed by the broker postgres"));
    let space = push::space(&world).await;
    let body = json!({ "type": "user-provided", "name": "mine", "relationships": { "space": { "data": { "guid": space } } } });
    let instance = world.post("dev", "/v3/service_instances", body).await.expect(201)["guid"].clone();
    let body = json!({ "type": "app", "relationships": {
        "app": { "data": { "guid": db.to_string() } }, "service_instance": { "data": { "guid": instance } } } });
    let text = world.post("admin", "/v3/service_credential_bindings", body).await.detail(422);
    assert!(text.contains("managed by the broker postgres"), "{text}");
}

async fn an_organization_of_users_that_is_called_system_stays_theirs(world: World) {
    let theirs = tenancy::org(&world, "system").await;
    put(&world, guid(1), &spec(1)).await;
    put(&world, guid(2), &spec(2)).await;
    let all = world.get("admin", "/v3/organizations?order_by=name").await.expect(200);
    let names: Vec<&str> = all["resources"].as_array().unwrap().iter().filter_map(|org| org["name"].as_str()).collect();
    assert_eq!(names, ["system", "system-2"]);
    world.patch("admin", &format!("/v3/organizations/{theirs}"), json!({ "name": "theirs" })).await.expect(200);
}

super::scenarios! {
    a_workload_is_placed_runs_and_stays_where_its_volume_is,
    the_same_specification_again_changes_nothing_and_another_restarts,
    it_is_stopped_once_no_instance_is_left,
    why_it_does_not_run_is_told,
    everything_that_is_wrong_is_said_at_once,
    a_workload_is_its_owner_s_alone,
    the_volume_never_changes,
    its_claim_goes_and_then_its_volume,
    its_volume_goes_before_its_claim,
    what_never_ran_goes_at_once_and_its_remains_later,
    a_first_instance_that_runs_while_it_is_deleted_is_waited_for,
    it_runs_on_when_the_controller_was_away_at_the_wrong_moment,
    killed_at_any_step_the_controller_ends_right,
    a_closed_stack_is_for_workloads_alone,
    nobody_changes_it_by_the_public_api,
    services_cannot_be_bound_to_it,
    an_organization_of_users_that_is_called_system_stays_theirs,
}
