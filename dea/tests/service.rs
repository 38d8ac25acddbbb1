//! The DEA from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use cloud_controller_client::{StagingBuildpack, StagingResult};
use messages::{
    claims::{InstanceState, WorkRecord, work_key},
    dea::{Advertise, Answer, Heartbeat, LOCATE, StageBuild, StartInstance},
    hints::{RoutesUpdated, StagingStop},
};
use std::{io::Write, time::Duration};
use types::{BuildId, BuildpackId, InstanceId};
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{method, path},
};
use world::{World, app, digest, eventually, id, launch, lifecycle, stage, staging, start, stop, workload};

fn handle(instance: u8) -> String {
    format!("i-{}", id::<InstanceId>(instance))
}

#[tokio::test]
async fn an_instance_starts_serves_and_stops_in_order() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    assert_eq!(world.ask(running.dea.id, "start", &start(4, 0)).await, Answer::Accepted);
    assert!(world.record().await.is_some(), "claimed before the answer");
    let owner = world.owner(InstanceState::Running).await;
    assert_eq!(owner.dea, running.dea.id);
    assert_eq!(owner.endpoint.unwrap().container_port, launch.ports.first().copied());
    eventually("registered", async || world.journal.position("router.register shop.example")).await;
    let register = world.registered.lock()[0].clone();
    assert_eq!((register.host.as_str(), register.port), ("127.0.0.1", Some(launch.ports[0])));
    assert_eq!(register.private_instance_id, Some(id::<InstanceId>(4).to_string()));
    let spec = world.warden.spec(&handle(4)).unwrap();
    assert!(spec.process.env.contains(&"MEMORY_LIMIT=256m".to_owned()));
    assert_eq!(spec.layers, [digest(world::DROPLET)]);

    assert_eq!(world.ask(running.dea.id, "stop", &stop(4)).await, Answer::Accepted);
    eventually("the record is gone", async || world.record().await.is_none().then_some(())).await;
    let at = |begins: &str| world.journal.position(begins).unwrap_or_else(|| panic!("{begins} in {:?}", world.journal.all()));
    assert!(at("router.unregister") < at("stop i-"), "{:?}", world.journal.all());
    assert!(at("stop i-") < at("destroy i-"));
    assert!(world.warden.containers().is_empty());
    let lines = world.lines();
    let dea = running.dea.id;
    let instance = id::<InstanceId>(4);
    for line in [
        "CELL Downloading droplet...".to_owned(),
        format!("CELL Cell {dea} creating container for instance {instance}"),
        format!("CELL Cell {dea} successfully created container for instance {instance}"),
        "CELL Starting health monitoring of container".to_owned(),
        "CELL Container became healthy".to_owned(),
        format!("CELL Cell {dea} stopping instance {instance}"),
        "APP/PROC/WEB Exit status 143".to_owned(),
        format!("CELL Cell {dea} destroying container for instance {instance}"),
        format!("CELL Cell {dea} successfully destroyed container for instance {instance}"),
    ] {
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    }
    running.end().await;
}

#[tokio::test]
async fn of_two_deas_one_gets_the_slot() {
    let bus = bus::Bus::in_memory();
    let (one, two) = tokio::join!(World::on(bus.clone()), World::on(bus.clone()));
    let (_listener, launch) = app().await;
    one.serves_launch(&launch).await;
    two.serves_launch(&launch).await;
    let (first, second) = tokio::join!(one.start_dea(), two.start_dea());
    let (start_a, start_b) = (start(4, 0), start(5, 0));
    let (a, b) = tokio::join!(one.ask(first.dea.id, "start", &start_a), two.ask(second.dea.id, "start", &start_b));
    let refused = |answer: &Answer| matches!(answer, Answer::Refused { reason } if reason.contains("taken"));
    assert!(refused(&a) != refused(&b), "{a:?} {b:?}");
    let owner = one.owner(InstanceState::Running).await;
    assert_eq!(owner.instance, if refused(&a) { id(5) } else { id(4) });
    assert_eq!(one.warden.containers().len() + two.warden.containers().len(), 1);
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn memory_that_nobody_has_is_refused_with_the_numbers() {
    let world = World::new().await;
    let running = world.start_dea().await;
    let answer = world.ask(running.dea.id, "start", &StartInstance { memory_mb: 8192, ..start(4, 0) }).await;
    assert_eq!(answer, Answer::Refused { reason: "no room: 8192 MB asked, 4096 MB free".into() });
    let answer = world.ask(running.dea.id, "start", &serde_json::json!({"nonsense": 1})).await;
    assert!(matches!(answer, Answer::Refused { .. }));
    assert!(world.record().await.is_none());
    running.end().await;
}

#[tokio::test]
async fn a_crash_is_recorded_told_and_logged() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    world.warden.crash(&handle(4), 137, true);
    let owner = world.owner(InstanceState::Crashed).await;
    let reason = "APP/PROC/WEB: Exited with status 137 (out of memory)";
    assert_eq!(owner.details.as_deref(), Some(reason));
    let record = world.record().await.unwrap();
    assert_eq!((record.crash_count, record.last_exit.unwrap().reason.as_str()), (1, reason));
    let told = eventually("the report", async || world.posted("/internal/v1/crashes").await.into_iter().next()).await;
    assert_eq!((told["exit_status"].as_i64(), told["exit_description"].as_str()), (Some(137), Some(reason)));
    eventually("destroyed", async || world.warden.containers().is_empty().then_some(())).await;
    assert!(world.journal.position("router.unregister").is_some());
    assert!(world.lines().contains(&"APP/PROC/WEB Exit status 137 (out of memory)".to_owned()));

    // The slot is claimed again over the crashed record, which keeps its count.
    let revision = world.bucket.get(&messages::claims::instance_key(id(3), 0)).await.unwrap().unwrap().revision;
    assert_eq!(world.ask(running.dea.id, "start", &start(5, revision)).await, Answer::Accepted);
    assert_eq!(world.owner(InstanceState::Running).await.instance, id(5));
    assert_eq!(world.record().await.unwrap().crash_count, 1);
    running.end().await;
}

#[tokio::test]
async fn an_app_that_never_opens_its_port_crashes_with_that_reason() {
    let world = World::new().await;
    let launch = launch(1);
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    let owner = world.owner(InstanceState::Crashed).await;
    let reason = "Instance never healthy after 1s: Failed to make TCP connection to 127.0.0.1:1: connection refused";
    assert_eq!(owner.details.as_deref(), Some(reason));
    eventually("stopped and gone", async || world.warden.containers().is_empty().then_some(())).await;
    assert_eq!(world.journal.count("router.register"), 0, "it never had routes");
    running.end().await;
}

#[tokio::test]
async fn a_damaged_droplet_is_fetched_once_more_and_then_reported() {
    let world = World::new().await;
    let (_listener, mut launch) = app().await;
    launch.droplet_sha256 = digest(b"something else");
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    let owner = world.owner(InstanceState::Crashed).await;
    assert!(owner.details.as_ref().unwrap().contains("checksum"), "{:?}", owner.details);
    let downloads = world.controller.received_requests().await.unwrap();
    assert_eq!(downloads.iter().filter(|request| request.url.path().contains("droplets")).count(), 2);
    running.end().await;
}

#[tokio::test]
async fn a_restart_takes_instances_back_without_touching_them() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    let before = world.owner(InstanceState::Running).await;
    let dea = running.dea.id;
    running.end().await;
    assert_eq!(world.warden.containers(), [handle(4)], "the end of a DEA ends no instance");

    world.journal.clear();
    world.controller.reset().await; // the cloud controller knows nothing now
    let running = world.start_dea().await;
    assert_eq!(running.dea.id, dea);
    eventually("registered again", async || world.journal.position("router.register shop.example")).await;
    let beats = heartbeat(&world).await;
    assert_eq!((beats.droplets.len(), beats.droplets[0].state), (1, InstanceState::Running));
    assert_eq!(world.record().await.unwrap().owner.unwrap(), before, "nothing was written");
    assert_eq!(
        world.journal.all().iter().filter(|line| !line.starts_with("router.register")).count(),
        0,
        "{:?}",
        world.journal.all()
    );
    // And it is still this DEA's to stop.
    world.ask(dea, "stop", &stop(4)).await;
    eventually("the record is gone", async || world.record().await.is_none().then_some(())).await;
    running.end().await;
}

#[tokio::test]
async fn a_store_that_forgot_everything_is_told_again() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    running.end().await;
    let empty = bus::Bus::in_memory();
    let bucket = empty.bucket(messages::claims::CLAIMS).await.unwrap();
    world.journal.clear();
    let running = world.start_dea_on(empty).await;
    let key = messages::claims::instance_key(id(3), 0);
    let told = eventually("asserted anew", async || bucket.get(&key).await.unwrap()).await;
    assert_eq!(told.read::<messages::claims::InstanceRecord>().unwrap().owner.unwrap().state, InstanceState::Running);
    assert_eq!(world.journal.count("destroy"), 0);
    running.end().await;
}

#[tokio::test]
async fn what_no_claim_supports_is_removed_at_the_start() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    running.end().await;
    // While the DEA was away its slot was given to another.
    let key = messages::claims::instance_key(id(3), 0);
    let entry = world.bucket.get(&key).await.unwrap().unwrap();
    let mut record: messages::claims::InstanceRecord = entry.read().unwrap();
    let owner = record.owner.as_mut().unwrap();
    (owner.instance, owner.dea) = (id(77), id(78));
    world.bucket.update(&key, &record, entry.revision).await.unwrap();
    let running = world.start_dea().await;
    eventually("removed", async || world.warden.containers().is_empty().then_some(())).await;
    assert_eq!(world.record().await.unwrap(), record, "the other's record is left alone");
    running.end().await;
}

#[tokio::test]
async fn an_instance_that_loses_its_slot_ends_and_leaves_the_record_alone() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    let key = messages::claims::instance_key(id(3), 0);
    let entry = world.bucket.get(&key).await.unwrap().unwrap();
    let mut record: messages::claims::InstanceRecord = entry.read().unwrap();
    (record.owner.as_mut().unwrap().instance, record.owner.as_mut().unwrap().dea) = (id(77), id(78));
    world.bucket.update(&key, &record, entry.revision).await.unwrap();
    eventually("ended", async || world.warden.containers().is_empty().then_some(())).await;
    assert!(world.journal.position("router.unregister").unwrap() < world.journal.position("stop i-").unwrap());
    assert_eq!(world.record().await.unwrap(), record);
    running.end().await;
}

#[tokio::test]
async fn routes_follow_a_hint() {
    let world = World::new().await;
    let (_listener, mut launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    launch.routes[0].uri = "new.example".into();
    let answer = serde_json::json!({"routes": {launch.version.to_string(): launch.routes}});
    world.controller.reset().await;
    world.serves("POST", "/internal/v1/routes", ResponseTemplate::new(200).set_body_json(answer)).await;
    world.bus.publish(&RoutesUpdated { app: id(1) }).await.unwrap();
    eventually("added", async || world.journal.position("router.register new.example")).await;
    eventually("taken away", async || world.journal.position("router.unregister shop.example")).await;
    running.end().await;
}

#[tokio::test]
async fn ways_to_services_and_their_files_come_with_the_container_and_follow_a_hint() {
    let world = World::new().await;
    let (_listener, mut launch) = app().await;
    let open = |port: u16| serde_json::json!({"address": "10.20.0.5", "first_port": port, "last_port": port, "protocol": "tcp"});
    launch.egress = serde_json::from_value(serde_json::json!([open(5432)])).unwrap();
    launch.binding_files.insert("db/password".into(), "hunter2".into());
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    let handle = world.warden.containers()[0].clone();
    let spec = world.warden.spec(&handle).unwrap();
    assert_eq!(spec.egress, [warden_client::Endpoint::tcp([10, 20, 0, 5].into(), 5432)]);
    assert_eq!(spec.files[0].path.to_str(), Some("/etc/cf-service-bindings/db/password"));
    assert!(!format!("{:?}", spec.labels).contains("hunter2"));
    assert_eq!(world.journal.count("egress"), 0, "it was created so");
    let version = launch.version.to_string();
    let answer = serde_json::json!({"routes": {version.clone(): launch.routes}, "egress": {version: [open(6379)]}});
    world.controller.reset().await;
    world.serves("POST", "/internal/v1/routes", ResponseTemplate::new(200).set_body_json(answer)).await;
    world.bus.publish(&RoutesUpdated { app: id(1) }).await.unwrap();
    let now = async || world.warden.egress(&handle).filter(|open| open.iter().any(|open| open.ports.first == 6379));
    let open = eventually("opened", now).await;
    assert_eq!(open.len(), 1, "what was open before is closed");
    running.end().await;
}

#[tokio::test]
async fn a_workload_runs_from_its_stack_with_its_volume_and_outlives_the_dea() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    let launch = workload(launch.ports[0]);
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    assert_eq!(world.ask(running.dea.id, "start", &start(4, 0)).await, Answer::Accepted);
    let before = world.owner(InstanceState::Running).await;
    assert_eq!(before.endpoint.as_ref().unwrap().container_port, Some(launch.ports[0]));
    let spec = world.warden.spec(&handle(4)).unwrap();
    assert_eq!((spec.layers.len(), spec.mounts.len(), spec.ports.len()), (0, 0, 0));
    assert_eq!((spec.volumes[0].id.as_str(), spec.service_ports[0].port), ("db", 8000));
    running.end().await;
    world.journal.clear();
    let running = world.start_dea().await;
    let beats = heartbeat(&world).await;
    assert_eq!((beats.droplets.len(), beats.droplets[0].state), (1, InstanceState::Running));
    assert_eq!(world.record().await.unwrap().owner.unwrap(), before, "nothing was written");
    assert_eq!(world.journal.all(), Vec::<String>::new(), "it was left alone, and no router hears of it");
    world.ask(running.dea.id, "stop", &stop(4)).await;
    eventually("the record is gone", async || world.record().await.is_none().then_some(())).await;
    assert!(world.journal.all().contains(&format!("stop {} 30000", handle(4))), "{:?}", world.journal.all());
    assert_eq!(world.warden.volumes(), ["db"]);
    running.end().await;
}

#[tokio::test]
async fn a_workload_waits_for_the_volume_that_its_former_version_has() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    let former = workload(launch.ports[0]);
    let next = cloud_controller_client::LaunchSpec { version: id(6), ..former.clone() };
    world.serves_launch(&former).await;
    world.serves_launch(&next).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    let begin = StartInstance { version: id(6), ..start(5, 0) };
    assert_eq!(world.ask(running.dea.id, "start", &begin).await, Answer::Accepted);
    eventually("it asked more than once", async || (world.journal.count(&format!("create {}", handle(5))) > 2).then_some(()))
        .await;
    // A third one that is not wanted any more does not wait to the end.
    let late = StartInstance { version: id(6), index: 1, ..start(7, 0) };
    assert_eq!(world.ask(running.dea.id, "start", &late).await, Answer::Accepted);
    eventually("it waits too", async || (world.journal.count(&format!("create {}", handle(7))) > 0).then_some(())).await;
    world.ask(running.dea.id, "stop", &stop(7)).await;
    let key = messages::claims::instance_key(id(6), 1);
    eventually("it is gone", async || world.bucket.get(&key).await.unwrap().is_none().then_some(())).await;
    assert_eq!(world.warden.containers(), [handle(4)]);

    world.ask(running.dea.id, "stop", &stop(4)).await;
    eventually("the next one runs", async || (world.warden.containers() == [handle(5)]).then_some(())).await;
    assert!(world.posted("/internal/v1/crashes").await.is_empty());
    running.end().await;
}

#[tokio::test]
async fn volumes_go_once_the_cloud_controller_says_so_and_no_sooner() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&workload(launch.ports[0])).await;
    world.warden.keep_volume("old");
    world.warden.keep_volume("unknown");
    const VOLUMES: &str = "/internal/v1/volumes";
    let asked = async |times: usize| (world.posted(VOLUMES).await.len() >= times).then_some(());
    // It does not answer as it should.
    Mock::given(method("POST"))
        .and(path(VOLUMES))
        .respond_with(ResponseTemplate::new(500))
        .up_to_n_times(1)
        .with_priority(1)
        .mount(&world.controller)
        .await;
    let answer = serde_json::json!({"remove": ["old", "db", "elsewhere"]});
    world.serves("POST", VOLUMES, ResponseTemplate::new(200).set_body_json(answer)).await;
    let running = world.start_dea().await;
    eventually("asked", async || asked(1).await).await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    assert_eq!(world.warden.volumes(), ["db", "old", "unknown"]);
    running.end().await;

    let running = world.start_dea().await;
    eventually("removed", async || (world.warden.volumes() == ["db", "unknown"]).then_some(())).await;
    eventually("told that it is gone", async || asked(3).await).await;
    let told = world.posted(VOLUMES).await;
    assert_eq!(told[1]["volumes"], serde_json::json!(["db", "old", "unknown"]));
    assert_eq!(told[2]["volumes"], serde_json::json!(["db", "unknown"]));
    assert_eq!(told[2]["dea"], serde_json::json!(running.dea.id));
    assert_eq!(world.journal.count("delete volume db"), 0, "a container has it");
    // Soon after that is gone, not half a minute later.
    world.ask(running.dea.id, "stop", &stop(4)).await;
    eventually("removed with its instance", async || (world.warden.volumes() == ["unknown"]).then_some(())).await;
    running.end().await;
}

#[tokio::test]
async fn usage_reaches_heartbeats_and_the_log_agent() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    let usage =
        eventually("usage", async || heartbeat(&world).await.droplets.first()?.usage.filter(|usage| usage.cpu > 0.0)).await;
    assert_eq!((usage.memory_bytes, usage.disk_bytes), (1 << 20, 2 << 20));
    let advertisement: Advertise = asked(&world, "dea.advertise").await;
    assert_eq!((advertisement.available_memory_mb, advertisement.app_id_to_count[&id(1)]), (4096 - 256, 1));
    eventually("gauges", async || world.lines().into_iter().find(|line| line == "gauge cpu disk disk_quota memory memory_quota"))
        .await;
    running.end().await;
}

#[tokio::test]
async fn evacuation_stops_everything_before_the_end() {
    let world = World::new().await;
    let (_listener, launch) = app().await;
    world.serves_launch(&launch).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "start", &start(4, 0)).await;
    world.owner(InstanceState::Running).await;
    running.dea.evacuate().await;
    let answer = eventually("refused", async || match world.ask(running.dea.id, "start", &start(5, 0)).await {
        Answer::Refused { reason } => Some(reason),
        Answer::Accepted => None,
    });
    assert!(answer.await.contains("no new work"));
    running.end().await;
    assert!(world.warden.containers().is_empty(), "TERM after an evacuation waits for it");
    assert!(world.record().await.is_none());
}

async fn asked<T: serde::de::DeserializeOwned>(world: &World, subject: &str) -> T {
    let mut told = world.bus.subscribe(subject).await.unwrap();
    world.bus.publish_to(LOCATE, Default::default()).await.unwrap();
    told.next().await.unwrap().read().unwrap()
}

async fn heartbeat(world: &World) -> Heartbeat {
    asked(world, "dea.heartbeat").await
}

// --- staging --------------------------------------------------------------------------------------------------------

fn completed() -> String {
    format!("/internal/v1/builds/{}/completed", id::<BuildId>(30))
}

async fn result(world: &World) -> StagingResult {
    let told = eventually("the result", async || world.posted(&completed()).await.into_iter().next()).await;
    serde_json::from_value(told).unwrap()
}

async fn failure(world: &World) -> (String, String) {
    match result(world).await {
        StagingResult::Failed { id, message } => (id, message),
        staged => panic!("{staged:?}"),
    }
}

fn result_file() -> Vec<u8> {
    serde_json::to_vec(&lifecycle()).unwrap()
}

#[tokio::test]
async fn a_staging_uploads_its_droplet_as_a_stream_and_is_noted_as_done() {
    let world = World::new().await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    let droplet = vec![b'd'; 3 << 20]; // more than a pipe holds
    world.warden.stage(0, &[("result.json", &result_file()), ("droplet.tgz", &droplet), ("cache.tgz", b"cache")]);
    assert_eq!(world.ask(running.dea.id, "stage", &stage()).await, Answer::Accepted);
    let staged = result(&world).await;
    assert_eq!(staged, StagingResult::Staged { droplet_sha256: "dd".repeat(32), lifecycle: lifecycle() });
    let uploads = world.controller.received_requests().await.unwrap();
    let uploaded =
        |what: &str| uploads.iter().find(|request| request.url.path().ends_with(what)).map(|request| request.body.len());
    assert_eq!((uploaded("/droplet"), uploaded("/cache")), (Some(droplet.len()), Some(5)));
    let done = async || {
        let entry = world.bucket.get(&work_key(id::<BuildId>(30).uuid())).await.unwrap()?;
        entry.read::<WorkRecord>().unwrap().done.then_some(())
    };
    eventually("noted as done", done).await;
    eventually("container gone", async || world.warden.containers().is_empty().then_some(())).await;
    let lines = world.lines();
    for line in [
        "STG Downloading app package...",
        "STG Exit status 0",
        "STG Uploading droplet, build artifacts cache...",
        "STG Uploading complete",
    ] {
        assert!(lines.iter().any(|have| have == line), "{line} in {lines:#?}");
    }
    eventually("folder gone", async || {
        (!world.folder().join("dea/work").join(id::<BuildId>(30).to_string()).exists()).then_some(())
    })
    .await;
    running.end().await;
}

#[tokio::test]
async fn a_failed_staging_says_what_failed() {
    for (status, expected) in
        [(222, "NoAppDetectedError"), (223, "BuildpackCompileFailed"), (224, "BuildpackReleaseFailed"), (225, "StagingError")]
    {
        let world = World::new().await;
        world.serves_staging(&staging()).await;
        let running = world.start_dea().await;
        world.warden.stage(status, &[("result.json", b"{\"error\": {\"id\": \"Anything\", \"message\": \"because\"}}")]);
        world.ask(running.dea.id, "stage", &stage()).await;
        let (id, message) = failure(&world).await;
        assert_eq!(id, expected);
        assert!(status == 222 || message.ends_with(": because"), "{message}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_package_that_is_not_there_is_a_staging_error() {
    let world = World::new().await;
    world.serves("GET", &format!("/internal/v1/blobs/packages/{}", staging().package), ResponseTemplate::new(404)).await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "stage", &stage()).await;
    let (id, message) = failure(&world).await;
    assert_eq!(id, "StagingError");
    assert!(message.contains("the app package is not here: it does not exist any more"), "{message}");
    running.end().await;
}

#[tokio::test]
async fn an_upload_that_fails_is_tried_again_from_the_beginning() {
    let world = World::new().await;
    Mock::given(method("PUT"))
        .and(path(format!("/internal/v1/builds/{}/droplet", id::<BuildId>(30))))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&world.controller)
        .await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    world.warden.stage(0, &[("result.json", &result_file()), ("droplet.tgz", b"droplet")]);
    world.ask(running.dea.id, "stage", &stage()).await;
    assert!(matches!(result(&world).await, StagingResult::Staged { .. }));
    let uploads = world.controller.received_requests().await.unwrap();
    let bodies: Vec<_> =
        uploads.iter().filter(|request| request.url.path().ends_with("/droplet")).map(|request| request.body.clone()).collect();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[2], b"droplet");
    running.end().await;
}

#[tokio::test]
async fn a_result_is_told_until_it_is_accepted() {
    let world = World::new().await;
    Mock::given(method("POST"))
        .and(path(completed()))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .with_priority(1)
        .mount(&world.controller)
        .await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    world.warden.stage(222, &[]);
    world.ask(running.dea.id, "stage", &stage()).await;
    eventually("told three times", async || (world.posted(&completed()).await.len() == 3).then_some(())).await;
    running.end().await;
}

#[tokio::test]
async fn a_staging_is_taken_once_of_two_that_ask() {
    let world = World::new().await;
    world.serves_staging(&staging()).await;
    let other = WorkRecord { dea: id(99), since: types::Timestamp(1), done: false };
    world.bucket.create(&work_key(id::<BuildId>(30).uuid()), &other).await.unwrap();
    let running = world.start_dea().await;
    let answer = world.ask(running.dea.id, "stage", &stage()).await;
    assert_eq!(answer, Answer::Refused { reason: "the staging was taken already".into() });
    let answer = world.ask(running.dea.id, "stage", &StageBuild { memory_mb: 9999, build: id(33), ..stage() }).await;
    assert_eq!(answer, Answer::Refused { reason: "no room: 9999 MB asked, 4096 MB free".into() });
    running.end().await;
}

#[tokio::test]
async fn a_cancelled_staging_ends_and_one_that_is_still_wanted_goes_on() {
    let world = World::new().await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "stage", &stage()).await;
    eventually("made", async || world.warden.containers().first().cloned()).await;
    world.bus.publish(&StagingStop { app_id: id(1) }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.warden.containers().len(), 1, "it is still wanted");
    world.controller.reset().await;
    world.bus.publish(&StagingStop { app_id: id(1) }).await.unwrap();
    eventually("gone", async || world.warden.containers().is_empty().then_some(())).await;
    assert!(world.posted(&completed()).await.is_empty(), "nobody waits for its result");
    running.end().await;
}

#[tokio::test]
async fn a_staging_survives_a_restart_of_its_dea() {
    let world = World::new().await;
    world.serves_staging(&staging()).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "stage", &stage()).await;
    eventually("made", async || world.warden.containers().first().cloned()).await;
    running.end().await;
    world.warden.stage(0, &[("result.json", &result_file()), ("droplet.tgz", b"droplet")]);
    let running = world.start_dea().await;
    assert!(matches!(result(&world).await, StagingResult::Staged { .. }));
    assert_eq!(world.journal.count("create s-"), 1);
    running.end().await;
}

#[tokio::test]
async fn admin_buildpacks_are_downloaded_once_and_shown_under_their_digest() {
    let world = World::new().await;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
    zip.start_file("bin/detect", zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
    zip.write_all(b"#!/bin/sh\n").unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let mut spec = staging();
    spec.buildpacks = vec![StagingBuildpack {
        name: "mine".into(),
        buildpack: Some(id::<BuildpackId>(40)),
        sha256: Some(digest(&zip)),
        url: None,
    }];
    world
        .serves(
            "GET",
            &format!("/internal/v1/blobs/buildpacks/{}", id::<BuildpackId>(40)),
            ResponseTemplate::new(200).set_body_bytes(zip.clone()),
        )
        .await;
    world.serves_staging(&spec).await;
    let running = world.start_dea().await;
    world.ask(running.dea.id, "stage", &stage()).await;
    let handle = eventually("made", async || world.warden.containers().first().cloned()).await;
    let container = world.warden.spec(&handle).unwrap();
    let mount = container.mounts.iter().find(|mount| mount.destination.starts_with("/tmp/buildpacks")).unwrap();
    assert_eq!(mount.destination.to_str().unwrap(), format!("/tmp/buildpacks/{}", digest(&zip)));
    assert!(mount.read_only && mount.source.join("bin/detect").is_file());
    let order: serde_json::Value = serde_json::from_str(&container.files[0].content).unwrap();
    assert_eq!(order["buildpacks"][0]["key"], digest(&zip).as_str());
    running.end().await;
}
