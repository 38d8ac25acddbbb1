//! Stacks, flags, variable groups, quotas, and what does not exist yet.

use super::{World, tenancy};
use serde_json::{Value, json};

async fn a_new_platform_has_a_default_stack_and_its_alias(world: World) {
    let stacks = world.get("ann", "/v3/stacks?order_by=name").await.expect(200);
    let shown: Vec<(&str, bool)> = stacks["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["default"].as_bool().unwrap()))
        .collect();
    assert_eq!(shown, [("cflinuxfs4", false), ("debian12", true)]);
    let path = format!("/v3/stacks/{}", stacks["resources"][0]["guid"].as_str().unwrap());
    assert_eq!(world.patch("ann", &path, json!({ "state": "DISABLED" })).await.status, 403);
    let changed = world.patch("admin", &path, json!({ "state": "DEPRECATED", "state_reason": "old" })).await.expect(200);
    assert_eq!((&changed["state"], &changed["state_reason"]), (&json!("DEPRECATED"), &json!("old")));
    assert_eq!(world.patch("admin", &path, json!({ "state": "GONE" })).await.status, 422);
}

async fn flags_hold_their_defaults_until_somebody_changes_them(world: World) {
    let flag = world.get("ann", "/v3/feature_flags/user_org_creation").await.expect(200);
    assert_eq!((&flag["enabled"], &flag["updated_at"]), (&json!(false), &Value::Null));
    assert_eq!(world.post("ann", "/v3/organizations", json!({ "name": "x" })).await.status, 403);
    world.patch("admin", "/v3/feature_flags/user_org_creation", json!({ "enabled": true })).await.expect(200);
    let org = world.post("ann", "/v3/organizations", json!({ "name": "x" })).await.expect(201);
    let roles = world.get("ann", &format!("/v3/roles?organization_guids={}", org["guid"].as_str().unwrap())).await.expect(200);
    assert_eq!(roles["pagination"]["total_results"], 2);
    assert_eq!(world.get("ann", "/v3/feature_flags/nonsense").await.detail(404), "Feature flag not found");
    let off = json!({ "enabled": false, "custom_error_message": "ask the desk" });
    world.patch("admin", "/v3/feature_flags/private_domain_creation", off).await.expect(200);
    let body = json!({ "name": "a.example.com", "relationships": { "organization": { "data": { "guid": org["guid"] } } } });
    let refused = world.post("ann", "/v3/domains", body).await;
    assert_eq!(refused.body["errors"][0]["code"], 330002);
    assert_eq!(refused.detail(403), "Feature Disabled: ask the desk");
}

async fn variable_groups_are_changed_by_administrators_and_sealed_at_rest(world: World) {
    let set = json!({ "var": { "HTTP_PROXY": "http://proxy-with-secret", "GONE": "x" } });
    assert_eq!(world.patch("ann", "/v3/environment_variable_groups/running", set.clone()).await.status, 403);
    world.patch("admin", "/v3/environment_variable_groups/running", set).await.expect(200);
    let changed = json!({ "var": { "GONE": null } });
    world.patch("admin", "/v3/environment_variable_groups/running", changed).await.expect(200);
    let group = world.get("ann", "/v3/environment_variable_groups/running").await.expect(200);
    assert_eq!(group["var"], json!({ "HTTP_PROXY": "http://proxy-with-secret" }));
    assert_eq!(
        world.get("ann", "/v3/environment_variable_groups/other").await.detail(404),
        "Environment variable group not found"
    );
    assert_eq!(
        world.patch("admin", "/v3/environment_variable_groups/running", json!({ "var": { "PORT": "1" } })).await.status,
        422
    );
    for entry in std::fs::read_dir(world.folder().join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(17).any(|w| w == b"proxy-with-secret"), "{} holds the value in the clear", path.display());
        }
    }
}

async fn what_does_not_exist_yet_is_an_honest_empty_list(world: World) {
    for path in [
        "/v3/isolation_segments?organization_guids=x",
        "/v3/security_groups?globally_enabled_running=true",
        "/v3/service_brokers",
        "/v3/service_instances?space_guids=x&order_by=name&per_page=5000&fields%5Bservice_plan%5D=guid,name,relationships.service_offering",
        "/v3/service_credential_bindings?service_instance_guids=x&include=app",
        "/v3/service_route_bindings?include=service_instance&route_guids=x",
        "/v3/deployments?app_guids=x&status_values=ACTIVE&order_by=-created_at&per_page=1&page=1",
        "/v3/tasks",
    ] {
        assert_eq!(world.get("ann", path).await.expect(200)["resources"], json!([]), "{path}");
    }
    let plans = "/v3/service_plans?include=service_offering&fields%5Bservice_offering.service_broker%5D=name,guid&per_page=5000&available=true";
    assert_eq!(world.get("", plans).await.expect(200)["pagination"]["total_pages"], 1);
    assert_eq!(world.get("", "/v3/service_instances").await.status, 401);
    assert_eq!(world.get("ann", "/v3/deployments/x").await.detail(404), "Deployment not found");
    assert_eq!(world.post("ann", "/v3/isolation_segments", json!({})).await.detail(404), "Unknown request");
}

async fn a_space_quota_belongs_to_its_organization(world: World) {
    let (a, b) = (tenancy::org(&world, "a").await, tenancy::org(&world, "b").await);
    let (in_a, in_b) = (tenancy::space(&world, &a, "s").await, tenancy::space(&world, &b, "s").await);
    tenancy::role(&world, "om", "organization_manager", &a).await;
    let body = json!({ "name": "q", "apps": { "total_memory_in_mb": 512 }, "relationships": { "organization": { "data": { "guid": a } } } });
    let quota = world.post("om", "/v3/space_quotas", body.clone()).await.expect(201);
    assert_eq!(world.post("om", "/v3/space_quotas", body).await.detail(422), "Space Quota 'q' already exists.");
    let path = format!("/v3/space_quotas/{}", quota["guid"].as_str().unwrap());
    let apply = format!("{path}/relationships/spaces");
    let foreign = world.post("admin", &apply, json!({ "data": [{ "guid": in_b }] })).await;
    assert_eq!(foreign.detail(422), "Space quotas cannot be applied outside of their owning organization.");
    let applied = world.post("om", &apply, json!({ "data": [{ "guid": in_a }] })).await.expect(200);
    assert_eq!(applied["data"], json!([{ "guid": in_a }]));
    let shown = world.get("om", &format!("/v3/spaces/{in_a}")).await.expect(200);
    assert_eq!(shown["relationships"]["quota"]["data"]["guid"], quota["guid"]);
    assert_eq!(world.delete("om", &path).await.status, 422);
    assert_eq!(world.delete("om", &format!("{apply}/{in_a}")).await.status, 204);
    let gone = world.delete("om", &path).await;
    assert_eq!(world.job(gone).await["state"], "COMPLETE");
    assert_eq!(world.get("nobody", &path).await.status, 404);
}

async fn the_answer_carries_the_request_id_of_the_caller(world: World) {
    let request = world.request(reqwest::Method::GET, "", "/v3").header("X-Vcap-Request-Id", "abc-1\u{20}<script>");
    let answer = world.finish(request).await;
    let id = answer.headers["x-vcap-request-id"].to_str().unwrap();
    assert!(id.starts_with("abc-1script::"), "{id}");
}

async fn a_body_over_the_bound_is_refused_in_the_shape_of_all_errors(world: World) {
    let request = world.request(reqwest::Method::POST, "admin", "/v3/organizations").body(vec![b' '; (15 << 20) + 1]);
    let answer = world.finish(request).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body["errors"][0]["title"], "CF-InvalidRequest");
}

super::scenarios! {
    a_new_platform_has_a_default_stack_and_its_alias,
    flags_hold_their_defaults_until_somebody_changes_them,
    variable_groups_are_changed_by_administrators_and_sealed_at_rest,
    what_does_not_exist_yet_is_an_honest_empty_list,
    a_space_quota_belongs_to_its_organization,
    the_answer_carries_the_request_id_of_the_caller,
    a_body_over_the_bound_is_refused_in_the_shape_of_all_errors,
}
