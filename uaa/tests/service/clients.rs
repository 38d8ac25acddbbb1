//! `/oauth/clients`: who may make which.

use crate::world::{SECRET, World, body, text};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn dashboard(id: &str) -> Value {
    json!({
        "client_id": id,
        "client_secret": "the-dashboard-secret",
        "name": "Dashboard of db",
        "authorized_grant_types": ["authorization_code"],
        "scope": ["openid", "cloud_controller_service_permissions.read"],
        "authorities": ["uaa.resource"],
        "redirect_uri": "https://dashboard.test/callback, https://*.dashboard.test",
        "autoapprove": ["openid"],
        "unknown": "is ignored",
    })
}

async fn put(world: &World, path: &str, token: &str, value: &Value) -> StatusCode {
    world.request(Method::PUT, path).bearer_auth(token).json(value).send().await.unwrap().status()
}

async fn delete(world: &World, path: &str, token: &str) -> StatusCode {
    world.request(Method::DELETE, path).bearer_auth(token).send().await.unwrap().status()
}

#[tokio::test]
async fn a_client_is_made_changed_and_removed_with_its_tokens() {
    let world = World::new().await;
    let admin = world.client("clients").await;
    let made = body(world.post("/oauth/clients", &admin, &dashboard("db")).send().await.unwrap(), 201).await;
    assert!(!made.to_string().contains("the-dashboard-secret"));
    assert_eq!(made["authorized_grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(made["redirect_uri"], json!(["https://dashboard.test/callback", "https://*.dashboard.test"]));
    assert_eq!(made["autoapprove"], json!(["openid"]));
    let again = body(world.post("/oauth/clients", &admin, &dashboard("db")).send().await.unwrap(), 409).await;
    assert_eq!(text(&again["error_description"]), "Client already exists: db");

    let acting = json!({
        "client_id": "robot", "client_secret": SECRET, "authorized_grant_types": "client_credentials", "authorities": ["uaa.resource"],
    });
    body(world.post("/oauth/clients", &admin, &acting).send().await.unwrap(), 201).await;
    let robot = world.client("robot").await;
    // A change keeps the secret and the tokens, a new secret ends them.
    let changed =
        json!({ "client_secret": "ignored", "authorized_grant_types": ["client_credentials"], "authorities": ["scim.read"] });
    assert_eq!(put(&world, "/oauth/clients/robot", &admin, &changed).await, StatusCode::OK);
    assert_eq!(put(&world, "/oauth/clients/nobody", &admin, &changed).await, StatusCode::NOT_FOUND);
    let reader = world.client("robot").await;
    assert_eq!(world.get("/Users", &reader).send().await.unwrap().status(), StatusCode::OK);
    let wrong = json!({ "oldSecret": "wrong", "secret": "a-new-secret-made-by-a-machine-0123456789" });
    assert_eq!(put(&world, "/oauth/clients/robot/secret", &robot, &wrong).await, StatusCode::BAD_REQUEST);
    let right = json!({ "oldSecret": SECRET, "secret": "a-new-secret-made-by-a-machine-0123456789" });
    assert_eq!(put(&world, "/oauth/clients/other/secret", &robot, &right).await, StatusCode::FORBIDDEN);
    assert_eq!(put(&world, "/oauth/clients/robot/secret", &robot, &right).await, StatusCode::OK);
    assert_eq!(world.get("/Users", &reader).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(put(&world, "/oauth/clients/robot/secret", &admin, &json!({ "secret": SECRET })).await, StatusCode::OK);
    let robot = world.client("robot").await;
    assert_eq!(delete(&world, "/oauth/clients/robot", &robot).await, StatusCode::FORBIDDEN);
    assert_eq!(delete(&world, "/oauth/clients/robot", &admin).await, StatusCode::OK);
    assert_eq!(delete(&world, "/oauth/clients/robot", &admin).await, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/Users", &robot).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn several_changes_happen_together_or_not_at_all() {
    let world = World::new().await;
    let admin = world.client("clients").await;
    let with = |id: &str, action: &str| {
        let mut change = dashboard(id);
        change["action"] = action.into();
        change
    };
    let modify = async |changes: Value| world.post("/oauth/clients/tx/modify", &admin, &changes).send().await.unwrap();
    body(modify(json!([with("a", "add"), with("b", "add")])).await, 200).await;
    for (changes, status) in [
        (json!([with("c", "add"), with("a", "add")]), 409),
        (json!([with("c", "add"), with("nobody", "update")]), 404),
        (json!([with("c", "add"), { "action": "delete", "client_id": "nobody" }]), 404),
        (json!([with("c", "add"), with("c", "update")]), 400),
        (json!([with("c", "add"), with("d", "replace")]), 400),
        (json!([with("c", "add"), { "action": "delete" }]), 400),
    ] {
        body(modify(changes).await, status).await;
        assert_eq!(world.get("/oauth/clients/c", &admin).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
    let mut renamed = with("b", "update,secret");
    renamed["name"] = "other".into();
    let done = body(modify(json!([with("c", "add"), renamed, { "action": "delete", "client_id": "a" }])).await, 200).await;
    assert_eq!((done.as_array().unwrap().len(), &done[1]["name"]), (3, &json!("other")));
    assert_eq!(world.get("/oauth/clients/a", &admin).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let writer = world.client("writer").await;
    let refused = world.post("/oauth/clients/tx/modify", &writer, &json!([])).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_cannot_be_a_client_is_refused_with_the_reason() {
    let world = World::new().await;
    let admin = world.client("clients").await;
    for (key, value) in [
        ("client_id", json!("")),
        ("client_id", json!("uaa")),
        ("client_id", json!("a/b")),
        ("client_id", json!("00000000-0000-4000-8000-000000000001")),
        ("authorized_grant_types", json!([])),
        ("authorized_grant_types", json!(["telepathy"])),
        ("redirect_uri", json!([])),
        ("redirect_uri", json!(["dashboard.test"])),
        ("redirect_uri", json!(["javascript:alert(1)"])),
        ("scope", json!(["a b"])),
        ("access_token_validity", json!(0)),
        ("client_secret", json!("x".repeat(256))),
        ("name", json!("x".repeat(256))),
    ] {
        let mut wrong = dashboard("db");
        wrong[key] = value.clone();
        let refused = body(world.post("/oauth/clients", &admin, &wrong).send().await.unwrap(), 400).await;
        assert_eq!(refused["error"], "invalid_client", "{key} {value}");
    }
    let mut no_secret = json!({ "client_id": "robot", "authorized_grant_types": ["client_credentials"] });
    body(world.post("/oauth/clients", &admin, &no_secret).send().await.unwrap(), 400).await;
    no_secret["client_secret"] = SECRET.into();
    body(world.post("/oauth/clients", &admin, &no_secret).send().await.unwrap(), 201).await;
}

/// CVE-2019-11270: somebody with `clients.write` made a client with more than their own rights.
#[tokio::test]
async fn who_may_only_write_clients_gives_away_nothing_that_they_do_not_have() {
    let world = World::new().await;
    let writer = world.client("writer").await;
    let modest = json!({
        "client_id": "app", "client_secret": SECRET, "authorized_grant_types": ["client_credentials"],
        "scope": ["writer.read", "clients.write"], "authorities": ["uaa.resource"],
    });
    body(world.post("/oauth/clients", &writer, &modest).send().await.unwrap(), 201).await;
    for (key, value) in [
        ("authorities", json!(["clients.admin"])),
        ("authorities", json!(["scim.write"])),
        ("scope", json!(["cloud_controller.admin"])),
        ("scope", json!(["writers.read"])),
        ("authorized_grant_types", json!(["password"])),
    ] {
        let mut more = modest.clone();
        more["client_id"] = "more".into();
        more[key] = value.clone();
        body(world.post("/oauth/clients", &writer, &more).send().await.unwrap(), 400).await;
        assert_eq!(put(&world, "/oauth/clients/app", &writer, &more).await, StatusCode::BAD_REQUEST, "{key} {value}");
    }
    let nobody = world.client("scim").await;
    assert_eq!(world.post("/oauth/clients", &nobody, &modest).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(delete(&world, "/oauth/clients/app", &nobody).await, StatusCode::FORBIDDEN);
    assert_eq!(delete(&world, "/oauth/clients/app", &writer).await, StatusCode::OK);
}
