//! A push from the manifest to the running app, request by request as the official client sends it; the test plays health
//! manager and DEA.

use super::{World, tenancy};
use crate::domain::archive::hex;
use cloud_controller_client::{Desired, DesiredProcess, Lifecycle, StagingResult, StagingSpec, UsedBuildpack};
use messages::claims::{CLAIMS, Endpoint, Holder, InstanceRecord, InstanceState, instance_key};
use rand::SeedableRng;
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{Cursor, Read, Write},
    time::Duration,
};
use types::{BuildId, Clock, DeaId, InstanceId};
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

/// Makes an organization, a space, a developer `dev` in it, and a buildpack that everything can be staged with.
pub async fn space(world: &World) -> String {
    let org = tenancy::org(world, "acme").await;
    let space = tenancy::space(world, &org, "dev").await;
    tenancy::role(world, "dev", "space_developer", &space).await;
    buildpack(world, "binary_buildpack").await;
    space
}

/// Makes a buildpack with bits.
pub async fn buildpack(world: &World, name: &str) -> String {
    let made = world.post("admin", "/v3/buildpacks", json!({ "name": name })).await.expect(201);
    let guid = made["guid"].as_str().unwrap().to_owned();
    let answered = upload(
        world,
        "admin",
        &format!("/v3/buildpacks/{guid}/upload"),
        Some(("b.zip", zipped(&[("bin/detect", "#!/bin/sh")]))),
        None,
    )
    .await;
    assert_eq!(world.job(answered).await["state"], "COMPLETE");
    guid
}

/// A zip file of these names and contents.
pub fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Sends a form with `bits` and `resources`, as clients do.
pub async fn upload(
    world: &World,
    user: &str,
    path: &str,
    bits: Option<(&str, Vec<u8>)>,
    resources: Option<Value>,
) -> super::harness::Answered {
    let mut form = multipart::Form::new();
    if let Some(resources) = resources {
        form = form.text("resources", resources.to_string());
    }
    if let Some((name, bytes)) = bits {
        form = form.part("bits", multipart::Part::bytes(bytes).file_name(name.to_owned()).mime_str("application/zip").unwrap());
    }
    world.finish(world.request(Method::POST, user, path).multipart(form)).await
}

/// Sends YAML.
pub async fn yaml(world: &World, user: &str, path: &str, text: &str) -> super::harness::Answered {
    world.finish(world.request(Method::POST, user, path).header("Content-Type", "application/x-yaml").body(text.to_owned())).await
}

/// Makes an app; returns its guid.
pub async fn app(world: &World, space: &str, name: &str) -> String {
    let body = json!({ "name": name, "relationships": { "space": { "data": { "guid": space } } } });
    world.post("dev", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

/// Makes a package of an app and uploads a file to it; returns its guid.
pub async fn package(world: &World, app: &str) -> String {
    let body = json!({ "type": "bits", "relationships": { "app": { "data": { "guid": app } } } });
    let guid = world.post("dev", "/v3/packages", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    let bits = Some(("package.zip", zipped(&[("run", "#!/bin/sh"), ("public/index.html", "hi")])));
    let ready = upload(world, "dev", &format!("/v3/packages/{guid}/upload"), bits, Some(json!([]))).await.expect(200);
    assert_eq!(ready["state"], "READY");
    guid
}

/// Asks for a build; returns its guid.
pub async fn build(world: &World, package: &str) -> String {
    world.post("dev", "/v3/builds", json!({ "package": { "guid": package } })).await.expect(201)["guid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// All that should be, by the guid of process or build.
pub async fn desired(world: &World) -> BTreeMap<String, Desired> {
    let page = world.internal("health_manager").desired(0, 1000).await.unwrap();
    assert!(page.complete);
    let key = |what: &Desired| match what {
        Desired::Process(process) => process.process.to_string(),
        Desired::NoProcess { process } => process.to_string(),
        Desired::Build(build) => build.build.to_string(),
        Desired::NoBuild { build } => build.to_string(),
    };
    page.changes.into_iter().map(|change| (key(&change.what), change.what)).collect()
}

/// The process that should run.
pub async fn process(world: &World, guid: &str) -> DesiredProcess {
    match desired(world).await.remove(guid) {
        Some(Desired::Process(process)) => process,
        other => panic!("{guid} should run: {other:?}"),
    }
}

/// Plays the DEA that stages a build; returns what it was told.
pub async fn stage(world: &World, build: &str, types: &[(&str, &str)]) -> StagingSpec {
    let dea = world.internal("dea");
    let build: BuildId = build.parse().unwrap();
    let spec = dea.staging_spec(build).await.unwrap();
    let droplet = format!("droplet of {build}");
    let file = world.folder().join(build.to_string());
    std::fs::write(&file, &droplet).unwrap();
    let uploaded = dea.upload(build, "droplet", tokio::fs::File::open(&file).await.unwrap()).await.unwrap();
    assert_eq!(uploaded.sha256, hex(&Sha256::digest(&droplet)));
    dea.upload(build, "cache", tokio::fs::File::open(&file).await.unwrap()).await.unwrap();
    let used = UsedBuildpack {
        key: "binary_buildpack".into(),
        name: "binary".into(),
        version: "1.2.3".into(),
        detect_output: String::new(),
    };
    let lifecycle = Lifecycle {
        buildpack_key: "binary_buildpack".into(),
        detected_buildpack: "binary".into(),
        buildpacks: vec![used],
        process_types: types.iter().map(|(kind, command)| ((*kind).to_owned(), (*command).to_owned())).collect(),
    };
    let result = StagingResult::Staged { droplet_sha256: uploaded.sha256, lifecycle };
    dea.staging_completed(build, &result).await.unwrap();
    dea.staging_completed(build, &result).await.unwrap();
    spec
}

/// An app that is staged and runs; returns its guid.
pub async fn running(world: &World, space: &str, name: &str) -> String {
    let app = app(world, space, name).await;
    restage(world, &app).await;
    world.post("dev", &format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
    app
}

/// Stages an app and makes the outcome current.
pub async fn restage(world: &World, app: &str) {
    let build = build(world, &package(world, app).await).await;
    stage(world, &build, &[("web", "./run")]).await;
    let staged = world.get("dev", &format!("/v3/builds/{build}")).await.expect(200);
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    world.patch("dev", &path, json!({ "data": { "guid": staged["droplet"]["guid"] } })).await.expect(200);
}

/// Plays the DEA that holds an instance.
pub async fn claim(world: &World, process: &DesiredProcess, index: u32, state: InstanceState) -> Holder {
    let mut rng = rand::rngs::StdRng::seed_from_u64(u64::from(index) + 40);
    let endpoint = Endpoint {
        host: [10, 0, 0, 1].into(),
        host_port: Some(61_001),
        container: [10, 255, 0, 2].into(),
        container_port: Some(8080),
    };
    let owner = Holder {
        instance: InstanceId::random(&mut rng),
        dea: DeaId::random(&mut rng),
        state,
        since: world.clock.now(),
        endpoint: Some(endpoint),
        memory_mb: process.memory_mb,
        disk_mb: process.disk_mb,
        details: None,
    };
    let record = InstanceRecord {
        app: process.app,
        process: process.process,
        process_type: process.process_type.clone(),
        version: process.version,
        index,
        owner: Some(owner.clone()),
        predecessor: None,
        crash_count: 0,
        last_exit: None,
        unplaced: None,
    };
    let bucket = world.bus.bucket(CLAIMS).await.unwrap();
    bucket.create(&instance_key(process.version, index), &record).await.unwrap();
    for _ in 0..500 {
        if world.api.actual.of_version(process.version).contains_key(&index) {
            return owner;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the claim was not seen");
}

const MANIFEST: &str = "applications:\n- name: dora\n  default-route: true\n  memory: 256M\n  instances: 2\n  env:\n    COLOUR: blue\n  path: /home/me/dora\n";

async fn a_push_goes_from_the_manifest_to_the_running_app(world: World) {
    let space = space(&world).await;
    // 1 and 2: difference and manifest.
    let told = yaml(&world, "dev", &format!("/v3/spaces/{space}/manifest_diff"), MANIFEST).await.expect(201);
    assert!(
        told["diff"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["op"] == "add" && d["path"] == "/applications/0/memory" && d["value"] == "256M"),
        "{told}"
    );
    let applied = yaml(&world, "dev", &format!("/v3/spaces/{space}/actions/apply_manifest"), MANIFEST).await;
    let job = world.job(applied).await;
    assert_eq!((&job["state"], &job["operation"]), (&json!("COMPLETE"), &json!("space.apply_manifest")), "{job}");
    // 3: the app is there.
    let found = world.get("dev", &format!("/v3/apps?names=dora&space_guids={space}")).await.expect(200);
    let app = found["resources"][0]["guid"].as_str().unwrap().to_owned();
    assert_eq!(found["resources"][0]["state"], "STOPPED");
    assert_eq!(found["resources"][0]["lifecycle"]["type"], "buildpack");
    // 4: nothing is known yet.
    let sum = "0".repeat(40);
    let wanted = json!({ "resources": [{ "path": "a", "mode": "644", "checksum": { "value": sum }, "size_in_bytes": 70_000 }] });
    assert_eq!(world.post("dev", "/v3/resource_matches", wanted).await.expect(201), json!({ "resources": [] }));
    // 5 to 7: the package.
    let package = package(&world, &app).await;
    assert_eq!(world.get("dev", &format!("/v3/packages/{package}")).await.expect(200)["state"], "READY");
    // 8: the build, which the health manager places and a DEA stages.
    let build = build(&world, &package).await;
    let Some(Desired::Build(placed)) = desired(&world).await.remove(&build) else { panic!("a build should be placed") };
    assert_eq!((placed.memory_mb, placed.disk_mb, placed.stack.as_str()), (1024, 4096, "debian12"));
    let spec = stage(&world, &build, &[("web", "./run"), ("worker", "./work")]).await;
    staging_knows_its_app(&world, &spec).await;
    assert!(matches!(desired(&world).await.remove(&build), Some(Desired::NoBuild { .. })));
    // 9: its outcome.
    let staged = world.get("dev", &format!("/v3/builds/{build}")).await.expect(200);
    assert_eq!((&staged["state"], &staged["error"]), (&json!("STAGED"), &Value::Null));
    let droplet = staged["droplet"]["guid"].as_str().unwrap();
    let shown = world.get("dev", &format!("/v3/droplets/{droplet}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["stack"]), (&json!("STAGED"), &json!("debian12")));
    assert_eq!(shown["process_types"], json!({ "web": "./run", "worker": "./work" }));
    assert_eq!(
        shown["buildpacks"][0],
        json!({ "name": "binary_buildpack", "buildpack_name": "binary", "version": "1.2.3", "detect_output": "binary" })
    );
    // 10 and 11: assign and restart.
    assert_eq!(world.get("dev", &format!("/v3/apps/{app}/droplets/current")).await.detail(404), "Droplet not found");
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    world.patch("dev", &path, json!({ "data": { "guid": droplet } })).await.expect(200);
    let restarted = world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
    assert_eq!(restarted["state"], "STARTED");
    // 12: what runs.
    let process = process(&world, &app).await;
    assert_eq!((process.instances, process.memory_mb, process.process_type.as_str()), (2, 256, "web"));
    launch_knows_its_app(&world, &process, &space).await;
    claim(&world, &process, 0, InstanceState::Running).await;
    let stats = world.get("dev", &format!("/v3/processes/{app}/stats")).await.expect(200);
    let states: Vec<&str> = stats["resources"].as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["RUNNING", "DOWN"]);
    assert_eq!(stats["resources"][0]["mem_quota"], 256 << 20);
    assert_eq!(stats["resources"][0]["instance_ports"][0]["external"], 61_001);
    // 13: the summary.
    let all = world.get("dev", &format!("/v3/apps/{app}/processes")).await.expect(200);
    assert_eq!(all["pagination"]["total_results"], 2);
    assert_eq!(world.get("dev", &format!("/v3/processes/{app}")).await.expect(200)["command"], "./run");
    assert_eq!(world.get("dev", &format!("/v3/processes/{app}/sidecars")).await.expect(200)["resources"], json!([]));
    assert_eq!(world.get("dev", &format!("/v3/apps/{app}/routes")).await.expect(200)["resources"][0]["url"], "dora.app.test");
    world.get("dev", &format!("/v3/apps/{app}/droplets/current")).await.expect(200);
    let path = format!("/v3/deployments?app_guids={app}&status_values=ACTIVE&order_by=-created_at&per_page=1&page=1");
    assert_eq!(world.get("dev", &path).await.expect(200)["resources"], json!([]));
}

async fn staging_knows_its_app(world: &World, spec: &StagingSpec) {
    assert_eq!((spec.app_name.as_str(), spec.space.1.as_str(), spec.organization.1.as_str()), ("dora", "dev", "acme"));
    assert!(!spec.skip_detect && spec.buildpacks.len() == 1 && spec.buildpacks[0].name == "binary_buildpack");
    assert_eq!((spec.env["COLOUR"].as_str(), spec.env["CF_STACK"].as_str()), ("blue", "debian12"));
    let dea = world.internal("dea");
    let to = world.folder().join("package");
    dea.download(&format!("packages/{}", spec.package), &to).await.unwrap();
    let bytes = std::fs::read(&to).unwrap();
    assert_eq!(hex(&Sha256::digest(&bytes)), spec.package_sha256);
    let mut zip = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut text = String::new();
    zip.by_name("public/index.html").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), zip.by_name("run").unwrap().unix_mode().unwrap() & 0o777), ("hi", 0o755));
    dea.download(&format!("buildpacks/{}", spec.buildpacks[0].buildpack.unwrap()), &to).await.unwrap();
    assert_eq!(Some(hex(&Sha256::digest(std::fs::read(&to).unwrap()))), spec.buildpacks[0].sha256);
    dea.download(&format!("caches/{}", spec.cache.as_ref().unwrap()), &to).await.unwrap();
}

async fn launch_knows_its_app(world: &World, process: &DesiredProcess, space: &str) {
    let dea = world.internal("dea");
    let spec = dea.launch_spec(process.version).await.unwrap();
    assert_eq!((spec.command.as_str(), spec.ports.as_slice(), spec.memory_mb), ("./run", [8080].as_slice(), 256));
    assert_eq!((spec.health_check.kind.as_str(), spec.health_check.timeout_s), ("port", 60));
    assert_eq!(
        (spec.routes[0].uri.as_str(), spec.routes[0].port, spec.routes[0].protocol.as_str()),
        ("dora.app.test", 8080, "http1")
    );
    assert_eq!((spec.env["COLOUR"].as_str(), spec.env["MEMORY_LIMIT"].as_str()), ("blue", "256m"));
    let application: Value = serde_json::from_str(&spec.env["VCAP_APPLICATION"]).unwrap();
    assert_eq!((&application["application_name"], &application["space_id"]), (&json!("dora"), &json!(space)));
    assert_eq!((&application["cf_api"], &application["uris"]), (&json!("https://api.cf.test"), &json!(["dora.app.test"])));
    assert_eq!(application["limits"], json!({ "fds": 16384, "mem": 256, "disk": 1024 }));
    dea.download(&format!("droplets/{}", spec.droplet.unwrap()), &world.folder().join("d")).await.unwrap();
    let bytes = std::fs::read(world.folder().join("d")).unwrap();
    assert_eq!(hex(&Sha256::digest(&bytes)), spec.droplet_sha256);
    let other = types::VersionId::random(&mut rand::rngs::StdRng::seed_from_u64(9));
    assert!(matches!(dea.launch_spec(other).await, Err(cloud_controller_client::Error::NotFound(_))));
}

async fn every_start_has_a_version_of_its_own_and_a_scale_has_not(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let first = process(&world, &app).await;
    let path = format!("/v3/apps/{app}/processes/web/actions/scale");
    world.post("dev", &path, json!({ "instances": 3, "memory_in_mb": 64 })).await.expect(202);
    let scaled = process(&world, &app).await;
    assert_eq!((scaled.version, scaled.instances, scaled.memory_mb), (first.version, 3, 1024), "memory waits for the next start");
    world.patch("dev", &format!("/v3/apps/{app}/environment_variables"), json!({ "var": { "NEW": "1" } })).await.expect(200);
    let spec = world.internal("dea").launch_spec(first.version).await.unwrap();
    assert!(!spec.env.contains_key("NEW"), "what runs keeps its variables");
    world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
    let second = process(&world, &app).await;
    assert!(second.version != first.version && second.memory_mb == 64);
    assert_eq!(world.internal("dea").launch_spec(second.version).await.unwrap().env["NEW"], "1");
    assert!(world.internal("dea").launch_spec(first.version).await.is_err(), "the old start is not wanted any more");
    world.post("dev", &format!("/v3/apps/{app}/actions/stop"), json!({})).await.expect(200);
    assert!(matches!(desired(&world).await.remove(&app), Some(Desired::NoProcess { .. })));
    world.post("dev", &format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
    assert!(process(&world, &app).await.version != second.version);
    let same = process(&world, &app).await;
    world.post("dev", &format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
    assert_eq!(process(&world, &app).await.version, same.version, "starting a started app changes nothing");
}

async fn a_failed_staging_says_why(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let package = package(&world, &app).await;
    let first = build(&world, &package).await;
    let second = world.post("dev", "/v3/builds", json!({ "package": { "guid": package } })).await;
    assert_eq!(second.detail(422), "Only one build can be STAGING at a time per application.");
    let failed = StagingResult::Failed {
        id: "NoAppDetectedError".into(),
        message: "An app was not successfully detected by any available buildpack".into(),
    };
    world.internal("health_manager").staging_completed(first.parse().unwrap(), &failed).await.unwrap();
    let shown = world.get("dev", &format!("/v3/builds/{first}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["droplet"]), (&json!("FAILED"), &Value::Null));
    assert_eq!(shown["error"], "NoAppDetectedError - An app was not successfully detected by any available buildpack");
    assert!(matches!(
        world.internal("dea").staging_spec(first.parse().unwrap()).await,
        Err(cloud_controller_client::Error::NotFound(_))
    ));
    // No start command anywhere.
    let build = build(&world, &package).await;
    stage(&world, &build, &[]).await;
    let shown = world.get("dev", &format!("/v3/builds/{build}")).await.expect(200);
    assert_eq!(shown["error"], "StagingError - Staging error: Start command not specified");
    let events = world.get("dev", &format!("/v3/audit_events?target_guids={app}&types=audit.app.build.failed")).await.expect(200);
    assert_eq!(events["pagination"]["total_results"], 2);
}

async fn a_staging_that_nobody_finishes_is_given_up(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let build = build(&world, &package(&world, &app).await).await;
    crate::reconcile::blobs::expire(&world.api).await.unwrap();
    assert_eq!(world.get("dev", &format!("/v3/builds/{build}")).await.expect(200)["state"], "STAGING");
    world.clock.advance(Duration::from_secs(1201));
    crate::reconcile::blobs::expire(&world.api).await.unwrap();
    let shown = world.get("dev", &format!("/v3/builds/{build}")).await.expect(200);
    assert_eq!(shown["error"], "StagingTimeExpired - Staging time expired: nobody finished the staging within 1200 s");
    assert!(matches!(desired(&world).await.remove(&build), Some(Desired::NoBuild { .. })));
}

async fn a_stats_entry_tells_why_nobody_runs_an_instance(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let process = process(&world, &app).await;
    let record = InstanceRecord {
        app: process.app,
        process: process.process,
        process_type: "web".into(),
        version: process.version,
        index: 0,
        owner: None,
        predecessor: None,
        crash_count: 0,
        last_exit: None,
        unplaced: Some("no DEA has 1 GB of memory free: most free 256 MB".into()),
    };
    world.bus.bucket(CLAIMS).await.unwrap().create(&instance_key(process.version, 0), &record).await.unwrap();
    let path = format!("/v3/apps/{app}/processes/web/stats");
    let mut shown = Value::Null;
    for _ in 0..200 {
        shown = world.get("dev", &path).await.body;
        if shown["resources"][0]["details"].is_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shown["resources"][0]["state"], "DOWN");
    assert_eq!(shown["resources"][0]["details"], "no DEA has 1 GB of memory free: most free 256 MB");
}

async fn an_instance_can_be_ended_and_a_crash_leaves_its_trace(world: World) {
    use messages::dea::{Answer, StopInstance, command_subject};
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    let process = process(&world, &app).await;
    let holder = claim(&world, &process, 0, InstanceState::Running).await;
    let mut heard = world.bus.subscribe(&command_subject(holder.dea, "stop")).await.unwrap();
    let bus = world.bus.clone();
    let dea = tokio::spawn(async move {
        let delivery = heard.next().await.unwrap();
        bus.respond(&delivery, &Answer::Accepted).await.unwrap();
        delivery.read::<StopInstance>().unwrap()
    });
    let path = format!("/v3/apps/{app}/processes/web/instances");
    assert_eq!(world.delete("dev", &format!("{path}/7")).await.detail(404), "Instance not found");
    world.delete("dev", &format!("{path}/0")).await.expect(204);
    assert_eq!(dea.await.unwrap().instance, holder.instance);
    let report = cloud_controller_client::CrashReport {
        dea: Some(holder.dea),
        app: process.app,
        process: process.process,
        instance: holder.instance,
        version: process.version,
        index: 0,
        exit_status: Some(1),
        exit_description: "APP/PROC/WEB: Exited with status 1".into(),
        crash_count: 1,
        at: world.clock.now(),
    };
    world.internal("dea").crashed(&report).await.unwrap();
    let events = world
        .get("dev", &format!("/v3/audit_events?target_guids={app}&types=app.crash,audit.app.process.crash"))
        .await
        .expect(200);
    assert_eq!(events["pagination"]["total_results"], 2);
    assert_eq!(events["resources"][0]["data"]["exit_description"], "APP/PROC/WEB: Exited with status 1");
    assert_eq!(events["resources"][0]["data"]["cell_id"], holder.dea.to_string());
}

async fn deleting_an_app_leaves_nothing_of_it_but_its_routes(world: World) {
    let space = space(&world).await;
    let app = running(&world, &space, "dora").await;
    yaml(
        &world,
        "dev",
        &format!("/v3/spaces/{space}/actions/apply_manifest"),
        "applications:\n- name: dora\n  routes:\n  - route: dora.app.test\n",
    )
    .await
    .expect(202);
    let under_way = build(&world, &package(&world, &app).await).await;
    let deleted = world.delete("dev", &format!("/v3/apps/{app}")).await;
    assert_eq!(world.job(deleted).await["state"], "COMPLETE");
    assert_eq!(world.get("dev", &format!("/v3/apps/{app}")).await.detail(404), "App not found");
    let wanted = desired(&world).await;
    assert!(matches!(wanted[&app], Desired::NoProcess { .. }) && matches!(wanted[&under_way], Desired::NoBuild { .. }));
    let routes = world.get("dev", &format!("/v3/routes?space_guids={space}")).await.expect(200);
    assert_eq!((routes["pagination"]["total_results"].clone(), &routes["resources"][0]["destinations"]), (json!(1), &json!([])));
    crate::reconcile::blobs::collect(&world.api).await.unwrap();
    for folder in ["packages", "droplets", "caches"] {
        let path = world.folder().join("state/blobs/kept").join(folder);
        let left = std::fs::read_dir(path).map(|entries| entries.count()).unwrap_or(0);
        assert_eq!(left, 0, "blobs of {folder} stay");
    }
}

async fn two_pushes_at_once_end_in_one_app_with_a_droplet_of_its_own(world: World) {
    let space = space(&world).await;
    let path = format!("/v3/spaces/{space}/actions/apply_manifest");
    let (a, b) = tokio::join!(yaml(&world, "dev", &path, MANIFEST), yaml(&world, "dev", &path, MANIFEST));
    assert_eq!(
        (world.job(a).await["state"].clone(), world.job(b).await["state"].clone()),
        (json!("COMPLETE"), json!("COMPLETE"))
    );
    let found = world.get("dev", &format!("/v3/apps?names=dora&space_guids={space}")).await.expect(200);
    assert_eq!(found["pagination"]["total_results"], 1);
    let app = found["resources"][0]["guid"].as_str().unwrap().to_owned();
    let (first, second) = (package(&world, &app).await, package(&world, &app).await);
    let ask = |package: &str| json!({ "package": { "guid": package } });
    let (a, b) = tokio::join!(world.post("dev", "/v3/builds", ask(&first)), world.post("dev", "/v3/builds", ask(&second)));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 422], "one staging at a time");
    let build = if a.status == 201 { a.body } else { b.body };
    let build = build["guid"].as_str().unwrap();
    stage(&world, build, &[("web", "./run")]).await;
    let droplet = world.get("dev", &format!("/v3/builds/{build}")).await.expect(200)["droplet"]["guid"].clone();
    let path = format!("/v3/apps/{app}/relationships/current_droplet");
    world.patch("dev", &path, json!({ "data": { "guid": droplet } })).await.expect(200);
    let restart = format!("/v3/apps/{app}/actions/restart");
    let (a, b) = tokio::join!(world.post("dev", &restart, json!({})), world.post("dev", &restart, json!({})));
    assert_eq!((a.status, b.status), (200, 200));
    let process = process(&world, &app).await;
    assert!(world.internal("dea").launch_spec(process.version).await.is_ok(), "the feed names the version that can be launched");
}

super::scenarios! {
    a_push_goes_from_the_manifest_to_the_running_app,
    every_start_has_a_version_of_its_own_and_a_scale_has_not,
    a_failed_staging_says_why,
    a_staging_that_nobody_finishes_is_given_up,
    a_stats_entry_tells_why_nobody_runs_an_instance,
    an_instance_can_be_ended_and_a_crash_leaves_its_trace,
    deleting_an_app_leaves_nothing_of_it_but_its_routes,
    two_pushes_at_once_end_in_one_app_with_a_droplet_of_its_own,
}
