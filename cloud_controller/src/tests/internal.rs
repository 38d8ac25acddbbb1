//! The service as such: tokens, the internal API, and what it hears and tells on the bus.

use super::{World, harness::user_guid, tenancy};
use messages::{
    Message,
    claims::{CLAIMS, Holder, InstanceRecord, InstanceState, instance_key},
    dea::{Heartbeat, InstanceReport, Usage},
    router::{Register, RouterStart},
};
use rand::SeedableRng;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;
use types::{AppId, Clock, DeaId, InstanceId, ProcessId, VersionId};

async fn anybody_reads_the_root_document(world: World) {
    let root = world.get("", "/").await.expect(200);
    assert_eq!(root["links"]["cloud_controller_v3"]["meta"]["version"], "3.228.0");
    assert_eq!(root["links"]["login"]["href"], "https://login.cf.test");
    assert!(root["links"].get("cloud_controller_v2").is_none());
    assert_eq!(world.get("", "/v3").await.expect(200)["links"].as_object().unwrap().len(), 33);
    assert_eq!(world.get("", "/nothing").await.detail(404), "Unknown request");
}

async fn requests_need_a_good_token(world: World) {
    assert_eq!(world.get("", "/v3/jobs/x").await.detail(401), "Authentication error");
    let forged = world.request(Method::GET, "", "/v3/jobs/x").header("Authorization", "bearer nonsense");
    assert_eq!(world.finish(forged).await.detail(401), "Invalid Auth Token");
    let good = world.get("ann", "/v3/jobs/x").await;
    assert_eq!(good.headers["x-user-guid"].to_str().unwrap(), user_guid("ann"));
    assert!(good.headers.contains_key("x-vcap-request-id"));
    assert_eq!(good.detail(404), "Job not found");
}

async fn the_internal_api_knows_callers_by_their_certificates(world: World) {
    let page = world.internal("health_manager").desired(0, 10).await.unwrap();
    assert!(page.complete && page.changes.is_empty());
    assert!(matches!(
        world.internal("dea").desired(0, 10).await,
        Err(cloud_controller_client::Error::Refused { status: 403, .. })
    ));
}

async fn the_api_is_in_the_routers_table_and_again_when_a_router_starts(world: World) {
    let mut heard = world.bus.subscribe(Register::SUBJECT).await.unwrap();
    let start = RouterStart { id: "r".into(), hosts: vec![], register_interval_s: 20, prune_threshold_s: 120 };
    // The subscription of the service may still be on its way.
    let registered = async {
        loop {
            world.bus.publish(&start).await.unwrap();
            if let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(100), heard.next()).await {
                return delivery;
            }
        }
    };
    let delivery = tokio::time::timeout(Duration::from_secs(5), registered).await.unwrap();
    let registration: Register = delivery.read().unwrap();
    assert_eq!(registration.uris, ["api.cf.test"]);
    assert_eq!(registration.port, Some(world.addresses.public.port()));
}

async fn logs_may_be_read_by_those_who_read_the_app(world: World) {
    let client = world.internal("log_cache");
    let org = tenancy::org(&world, "acme").await;
    let space = tenancy::space(&world, &org, "dev").await;
    tenancy::role(&world, "sa", "space_auditor", &space).await;
    let body = json!({ "name": "dora", "relationships": { "space": { "data": { "guid": space } } } });
    let app = world.post("admin", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    for (user, may) in [("sa", true), ("admin", true), ("eve", false)] {
        let header = format!("bearer {}", world.token(user));
        assert_eq!(client.may_read_logs(&app, &header).await.unwrap(), may, "{user}");
    }
    let header = format!("bearer {}", world.token("admin"));
    assert!(!client.may_read_logs("gorouter", &header).await.unwrap());
    assert!(client.may_read_logs(&app, "bearer nonsense").await.is_err());
}

async fn claims_and_heartbeats_become_what_really_runs(world: World) {
    let bucket = world.bus.bucket(CLAIMS).await.unwrap();
    let mut rng = rand::rngs::StdRng::seed_from_u64(3);
    let (version, instance, dea) = (VersionId::random(&mut rng), InstanceId::random(&mut rng), DeaId::random(&mut rng));
    let (app, process) = (AppId::random(&mut rng), ProcessId::random(&mut rng));
    let holder = Holder {
        instance,
        dea,
        state: InstanceState::Running,
        since: world.clock.now(),
        endpoint: None,
        memory_mb: 64,
        disk_mb: 64,
        details: None,
    };
    let record = InstanceRecord {
        app,
        process,
        process_type: "web".into(),
        version,
        index: 0,
        owner: Some(holder),
        predecessor: None,
        crash_count: 0,
        last_exit: None,
        unplaced: None,
    };
    let revision = bucket.create(&instance_key(version, 0), &record).await.unwrap();
    until(|| world.api.actual.of_version(version).len() == 1).await;
    assert!(world.api.actual.is_synced());
    let usage = Usage { memory_bytes: 42, ..Usage::default() };
    let report = InstanceReport {
        app,
        process,
        version,
        instance,
        index: 0,
        state: InstanceState::Running,
        state_timestamp: world.clock.now(),
        usage: Some(usage),
    };
    let beat = Heartbeat { dea, droplets: vec![report], works: vec![] };
    let mut told = false;
    for _ in 0..100 {
        world.bus.publish(&beat).await.unwrap();
        told = world.api.actual.of_version(version)[&0].usage.is_some_and(|usage| usage.memory_bytes == 42);
        if told {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(told);
    bucket.remove(&instance_key(version, 0), revision).await.unwrap();
    until(|| world.api.actual.of_version(version).is_empty()).await;
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

async fn nothing_but_what_is_public_is_served_without_a_token(world: World) {
    for path in ["/", "/v3", "/v3/info", "/healthz", "/v3/service_offerings", "/v3/service_plans"] {
        assert_eq!(world.get("", path).await.status, 200, "{path}");
    }
    let root = world.get("", "/v3").await.expect(200);
    for name in root["links"].as_object().unwrap().keys() {
        if !matches!(
            name.as_str(),
            "self" | "info" | "service_offerings" | "service_plans" | "environment_variable_groups" | "resource_matches"
        ) {
            assert_eq!(world.get("", &format!("/v3/{name}")).await.status, 401, "{name}");
            assert_eq!(world.get("ann", &format!("/v3/{name}")).await.status, 200, "{name}");
        }
    }
    for path in [
        "organizations",
        "spaces",
        "roles",
        "users",
        "domains",
        "routes",
        "stacks",
        "apps",
        "organization_quotas",
        "space_quotas",
    ] {
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let answer = world.send(method.clone(), "", &format!("/v3/{path}/x"), None).await;
            // A role cannot be changed: there is no such request.
            let expected = if path == "roles" && method == Method::PATCH { 404 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {path}");
        }
        assert_eq!(world.post("", &format!("/v3/{path}"), json!({})).await.status, 401, "POST {path}");
    }
}

async fn scopes_decide_before_roles(world: World) {
    assert_eq!(world.get("x-ro", "/v3/organizations").await.status, 200);
    assert_eq!(
        world.post("x-ro", "/v3/organizations", json!({ "name": "x" })).await.detail(403),
        "You are not authorized to perform the requested action"
    );
    assert_eq!(world.get("x-ga", "/v3/info/usage_summary").await.status, 200);
    assert_eq!(world.get("ann", "/v3/info/usage_summary").await.detail(404), "Unknown request");
    let expired = testkit::tokens::TestIssuer::new().user("u", "u", &["cloud_controller.admin"], super::harness::BEGINNING - 1);
    let request = world.request(Method::GET, "", "/v3/organizations").header("Authorization", format!("bearer {expired}"));
    assert_eq!(world.finish(request).await.detail(401), "Invalid Auth Token");
}

/// As UAA makes them for the client of a dashboard.
async fn a_dashboards_token_asks_about_permissions_and_does_nothing_else(world: World) {
    let issuer = testkit::tokens::TestIssuer::new();
    let scopes = ["openid", "cloud_controller_service_permissions.read"];
    let mut claims = issuer.claims(&user_guid("ann"), "ann", &scopes, super::harness::BEGINNING + 600);
    let mut request = |method: Method, path: &str, aud: serde_json::Value| {
        claims["aud"] = aud;
        world.request(method, "", path).header("Authorization", format!("bearer {}", issuer.sign(&claims)))
    };
    for (path, status) in [
        ("/v3/service_instances/x/permissions", 404),
        ("/v3/service_instances", 403),
        ("/v3/service_instances/x", 403),
        ("/v3/organizations", 403),
    ] {
        let aud = json!(["db-dashboard", "cloud_controller_service_permissions", "openid"]);
        assert_eq!(world.finish(request(Method::GET, path, aud)).await.status, status, "{path}");
    }
    let made = request(Method::POST, "/v3/organizations", json!(["cloud_controller_service_permissions"]));
    assert_eq!(world.finish(made.json(&json!({ "name": "x" }))).await.status, 403);
    let foreign = request(Method::GET, "/v3/service_instances/x/permissions", json!(["db-dashboard", "openid"]));
    assert_eq!(world.finish(foreign).await.detail(401), "Invalid Auth Token");
}

super::scenarios! {
    a_dashboards_token_asks_about_permissions_and_does_nothing_else,
    nothing_but_what_is_public_is_served_without_a_token,
    scopes_decide_before_roles,
    anybody_reads_the_root_document,
    requests_need_a_good_token,
    the_internal_api_knows_callers_by_their_certificates,
    the_api_is_in_the_routers_table_and_again_when_a_router_starts,
    logs_may_be_read_by_those_who_read_the_app,
    claims_and_heartbeats_become_what_really_runs,
}
