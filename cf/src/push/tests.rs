//! The whole of a push against an imitated platform: which requests, in which order, with what.

use super::*;
use crate::{
    api::{Api, array},
    config::Config,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{method, path, path_regex},
};

fn token() -> String {
    let claims = json!({ "user_name": "anna", "user_id": "u", "origin": "uaa", "exp": 4_000_000_000_u64 });
    format!("e30.{}.sig", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn api(server: &MockServer) -> Api {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let named = |name: &str| Some(Named { guid: format!("{name}-guid"), name: name.into() });
    let config = Config {
        target: Some(server.uri()),
        login: server.uri(),
        uaa: server.uri(),
        log_cache: server.uri(),
        access_token: token(),
        org: named("o"),
        space: named("s"),
        skip_ssl_validation: true,
        ..Config::default()
    };
    Api::with(config, false).unwrap()
}

async fn on(server: &MockServer, verb: &str, at: &str, answer: ResponseTemplate) {
    Mock::given(method(verb)).and(path(at)).respond_with(answer).mount(server).await;
}

fn ok(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

/// A platform that does everything right; `build` and `stats` are what differs between tests.
async fn platform(build: Value, stats: Value) -> MockServer {
    let server = MockServer::start().await;
    on(&server, "POST", "/v3/spaces/s-guid/manifest_diff", ok(json!({ "diff": [] }))).await;
    let job = format!("{}/v3/jobs/j", server.uri());
    on(
        &server,
        "POST",
        "/v3/spaces/s-guid/actions/apply_manifest",
        ResponseTemplate::new(202).insert_header("Location", job.as_str()),
    )
    .await;
    on(&server, "GET", "/v3/jobs/j", ok(json!({ "state": "COMPLETE" }))).await;
    let app = json!({ "guid": "a", "name": "web", "state": "STOPPED" });
    on(&server, "GET", "/v3/apps", ok(json!({ "resources": [app], "pagination": { "next": null } }))).await;
    on(&server, "POST", "/v3/packages", ok(json!({ "guid": "p", "state": "AWAITING_UPLOAD" }))).await;
    on(&server, "POST", "/v3/packages/p/upload", ok(json!({ "guid": "p", "state": "PROCESSING_UPLOAD" }))).await;
    on(&server, "GET", "/v3/packages/p", ok(json!({ "guid": "p", "state": "READY" }))).await;
    on(&server, "POST", "/v3/builds", ResponseTemplate::new(201).set_body_json(json!({ "guid": "b", "state": "STAGING" }))).await;
    on(&server, "GET", "/v3/builds/b", ok(build)).await;
    on(&server, "PATCH", "/v3/apps/a/relationships/current_droplet", ok(json!({ "data": { "guid": "d" } }))).await;
    on(&server, "POST", "/v3/apps/a/actions/restart", ok(json!({ "guid": "a", "name": "web", "state": "STARTED" }))).await;
    on(
        &server,
        "GET",
        "/v3/apps/a/processes",
        ok(json!({ "resources": [{ "guid": "w", "type": "web", "instances": 1, "memory_in_mb": 64 }] })),
    )
    .await;
    on(&server, "GET", "/v3/processes/w/stats", ok(json!({ "resources": stats }))).await;
    on(&server, "GET", "/v3/apps/a/routes", ok(json!({ "resources": [{ "url": "web.app.localhost" }] }))).await;
    let missing = json!({ "errors": [{ "code": 10010, "title": "CF-ResourceNotFound", "detail": "Droplet not found" }] });
    on(&server, "GET", "/v3/apps/a/droplets/current", ResponseTemplate::new(404).set_body_json(missing)).await;
    let crash = json!({ "data": { "exit_description": "APP/PROC/WEB: Exited with status 1" } });
    on(&server, "GET", "/v3/audit_events", ok(json!({ "resources": [crash] }))).await;
    Mock::given(method("GET")).and(path_regex("^/api/v1/read/a$")).respond_with(ok(json!({ "envelopes": { "batch": [
        { "timestamp": "1", "instance_id": "0", "tags": { "source_type": "APP/PROC/WEB" }, "log": { "payload": "Ym9vbQ==", "type": "ERR" } },
    ] } }))).mount(&server).await;
    server
}

fn app_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "hello").unwrap();
    std::fs::write(folder.path().join("big.bin"), "known to the platform").unwrap();
    folder
}

fn flags(folder: &tempfile::TempDir) -> Push {
    Push { app: Some("web".into()), no_manifest: true, path: Some(folder.path().to_owned()), ..Push::default() }
}

async fn requests(server: &MockServer) -> Vec<Request> {
    server.received_requests().await.unwrap()
}

/// Without what is asked again and again.
fn order(requests: &[Request]) -> Vec<String> {
    let mut order: Vec<String> = requests
        .iter()
        .filter(|request| !request.url.path().starts_with("/api/v1/read"))
        .map(|request| format!("{} {}", request.method, request.url.path()))
        .collect();
    order.dedup();
    order
}

#[tokio::test]
async fn a_push_asks_for_everything_in_order_and_sends_only_what_is_new() {
    let server = platform(
        json!({ "guid": "b", "state": "STAGED", "droplet": { "guid": "d" } }),
        json!([{ "index": 0, "state": "RUNNING", "usage": {} }]),
    )
    .await;
    Mock::given(method("POST"))
        .and(path("/v3/resource_matches"))
        .respond_with(|request: &Request| {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let known: Vec<&Value> = array(&asked, "/resources").filter(|entry| text(entry, "/path") == "big.bin").collect();
            ok(json!({ "resources": known }))
        })
        .mount(&server)
        .await;
    let folder = app_folder();
    run(&mut api(&server), &flags(&folder)).await.unwrap();

    let requests = requests(&server).await;
    let expected = [
        "POST /v3/spaces/s-guid/actions/apply_manifest",
        "GET /v3/jobs/j",
        "GET /v3/apps",
        "POST /v3/resource_matches",
        "POST /v3/packages",
        "POST /v3/packages/p/upload",
        "GET /v3/packages/p",
        "POST /v3/builds",
        "GET /v3/builds/b",
        "PATCH /v3/apps/a/relationships/current_droplet",
        "POST /v3/apps/a/actions/restart",
        "GET /v3/apps/a/processes",
        "GET /v3/processes/w/stats",
        "GET /v3/apps/a/processes",
        "GET /v3/processes/w/stats",
        "GET /v3/apps/a/routes",
        "GET /v3/apps/a/droplets/current",
    ];
    assert_eq!(order(&requests), expected);
    let applied = requests.iter().find(|request| request.url.path().ends_with("apply_manifest")).unwrap();
    assert_eq!(applied.headers["content-type"], "application/x-yaml");
    assert_eq!(applied.headers["authorization"], format!("bearer {}", token()));
    let manifest: Value = serde_json::from_slice(&applied.body).unwrap();
    assert_eq!(manifest, json!({ "applications": [{ "name": "web", "default-route": true }] }));
    let upload = requests.iter().find(|request| request.url.path().ends_with("/upload")).unwrap();
    assert_eq!(upload.headers["content-length"].to_str().unwrap().parse::<usize>().unwrap(), upload.body.len());
    let body = String::from_utf8_lossy(&upload.body);
    assert!(body.contains("filename=\"package.zip\"") && body.contains("index.html"));
    assert_eq!(body.matches("big.bin").count(), 1, "in the list of known files, not in the zip");
}

#[tokio::test]
async fn with_a_manifest_the_changes_are_asked_for_first() {
    let server =
        platform(json!({ "state": "STAGED", "droplet": { "guid": "d" } }), json!([{ "index": 0, "state": "RUNNING" }])).await;
    on(&server, "POST", "/v3/resource_matches", ok(json!({ "resources": [] }))).await;
    let folder = app_folder();
    std::fs::write(folder.path().join("manifest.yml"), "applications:\n- name: web\n  memory: 64M\n").unwrap();
    let args = Push { manifest: Some(folder.path().join("manifest.yml")), no_start: true, ..Push::default() };
    on(&server, "GET", "/v3/apps/a", ok(json!({ "guid": "a", "name": "web", "state": "STOPPED" }))).await;
    run(&mut api(&server), &args).await.unwrap();
    let order = order(&requests(&server).await);
    assert_eq!(order[0], "POST /v3/spaces/s-guid/manifest_diff");
    assert!(!order.iter().any(|request| request.contains("/v3/builds") || request.contains("restart")), "{order:?}");
}

async fn failure(build: Value, stats: Value) -> anyhow::Error {
    let server = platform(build, stats).await;
    on(&server, "POST", "/v3/resource_matches", ok(json!({ "resources": [] }))).await;
    let folder = app_folder();
    run(&mut api(&server), &flags(&folder)).await.unwrap_err()
}

#[tokio::test]
async fn a_failed_staging_is_the_error() {
    let error = failure(json!({ "state": "FAILED", "error": "BuildpackCompileFailed - npm install failed" }), json!([])).await;
    assert_eq!(error.to_string(), "Error staging application web: BuildpackCompileFailed - npm install failed");
}

#[tokio::test]
async fn a_crash_is_the_error_with_its_last_words() {
    let error =
        failure(json!({ "state": "STAGED", "droplet": { "guid": "d" } }), json!([{ "index": 0, "state": "CRASHED" }])).await;
    assert_eq!(error.to_string(), "Start unsuccessful: web crashed (APP/PROC/WEB: Exited with status 1): boom");
}

#[tokio::test]
async fn a_manifest_that_the_platform_refuses_is_the_error_and_nothing_is_uploaded() {
    let server = MockServer::start().await;
    let refused = json!({ "errors": [{ "code": 10008, "title": "CF-UnprocessableEntity", "detail": "For application 'web': Memory must be positive" }] });
    on(&server, "POST", "/v3/spaces/s-guid/actions/apply_manifest", ResponseTemplate::new(422).set_body_json(refused)).await;
    let folder = app_folder();
    let error = run(&mut api(&server), &flags(&folder)).await.unwrap_err();
    assert_eq!(error.to_string(), "For application 'web': Memory must be positive");
    assert_eq!(requests(&server).await.len(), 1);
}

#[tokio::test]
async fn a_folder_that_is_not_there_changes_nothing() {
    let server = MockServer::start().await;
    let args = Push { app: Some("web".into()), no_manifest: true, path: Some("/nowhere/at/all".into()), ..Push::default() };
    assert!(run(&mut api(&server), &args).await.unwrap_err().to_string().contains("does not exist"));
    assert!(requests(&server).await.is_empty());
}
