//! The contract, over real HTTP: statuses, bodies and the order of checks.

#![expect(clippy::unwrap_used, reason = "a step that cannot be done fails its test")]

mod world;

use serde_json::{Value, json};
use world::{LATER, NOW, OTHER, OTHER_PLAN, PASSWORD, SERVICE, USER, World, provision};

fn without(mut body: Value, key: &str) -> Value {
    body.as_object_mut().unwrap().remove(key);
    body
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[actix_web::test]
async fn who_is_asking_counts_before_the_version_and_that_before_everything_else() {
    let world = World::new().await;
    let routes = [
        ("GET", "/v2/catalog"),
        ("PUT", "/v2/service_instances/i"),
        ("PATCH", "/v2/service_instances/i"),
        ("DELETE", "/v2/service_instances/i"),
        ("GET", "/v2/service_instances/i"),
        ("GET", "/v2/service_instances/i/last_operation"),
        ("PUT", "/v2/service_instances/i/service_bindings/b"),
        ("DELETE", "/v2/service_instances/i/service_bindings/b"),
        ("GET", "/v2/service_instances/i/service_bindings/b/last_operation"),
        ("POST", "/v2/service_instances/i/backups"),
        ("POST", "/v2/service_instances/i/restore"),
    ];
    for (method, path) in routes {
        let anonymous = world.send(world.raw(method, path).header("X-Broker-API-Version", "garbage")).await;
        assert_eq!(anonymous.status, 401, "{method} {path}");
        assert!(anonymous.headers.contains_key("WWW-Authenticate"));
        for (user, password) in [("wrong", PASSWORD), (USER, "wrong"), (USER, ""), ("", "")] {
            let answer = world.send(world.raw(method, path).basic_auth(user, Some(password))).await;
            assert_eq!(answer.status, 401, "{method} {path} {user}");
        }
        let known = || world.raw(method, path).basic_auth(USER, Some(PASSWORD)).header("X-Broker-API-Request-Identity", "r-1");
        assert_eq!(world.send(known()).await.status, 412, "{method} {path}: no version");
        for version in ["1.0", "3.0", "2", "2.x", "garbage", ""] {
            let answer = world.send(known().header("X-Broker-API-Version", version)).await;
            assert_eq!(answer.status, 412, "{method} {path} {version}");
            assert!(answer.body["description"].as_str().unwrap().contains("2.17"), "{answer:?}");
            assert_eq!(answer.headers["X-Broker-API-Request-Identity"], "r-1");
        }
    }
    let next = world.raw("GET", "/v2/catalog").basic_auth("next", Some("other")).header("X-Broker-API-Version", "2.13");
    assert_eq!(world.send(next).await.status, 200, "a second pair of credentials, an older platform");
    for path in ["/metrics", "/openapi.json"] {
        assert_eq!(world.send(world.raw("GET", path)).await.status, 401, "{path}");
        assert_eq!(world.send(world.raw("GET", path).basic_auth(USER, Some(PASSWORD))).await.status, 200, "{path}");
    }
    assert_eq!(world.send(world.raw("GET", "/healthz")).await.status, 200);
    assert_eq!(world.things.journal(), Vec::<String>::new());
}

#[actix_web::test]
async fn requests_that_cannot_be_right_are_refused_and_leave_nothing() {
    let world = World::new().await;
    assert_eq!(world.provision("there", NOW, json!({})).await.status, 201);
    let good = || provision(NOW, json!({}));
    let instance = "/v2/service_instances/i?accepts_incomplete=true";
    let there = "/v2/service_instances/there?accepts_incomplete=true";
    let binding = "/v2/service_instances/there/service_bindings/b?accepts_incomplete=true";
    let bind = || json!({ "service_id": SERVICE, "plan_id": NOW });
    let update = || json!({ "service_id": SERVICE, "parameters": { "size": 1 } });
    let deep = (0..200).fold(json!({}), |inner, _| json!({ "a": inner }));
    let cases: Vec<(&str, &str, &str, Value, u16)> = vec![
        ("no service", "PUT", instance, without(good(), "service_id"), 400),
        ("empty service", "PUT", instance, with(good(), "service_id", json!("")), 400),
        ("unknown service", "PUT", instance, with(good(), "service_id", json!("x")), 400),
        ("no plan", "PUT", instance, without(good(), "plan_id"), 400),
        ("empty plan", "PUT", instance, with(good(), "plan_id", json!(" ")), 400),
        ("unknown plan", "PUT", instance, with(good(), "plan_id", json!("x")), 400),
        ("plan of another service", "PUT", instance, with(good(), "plan_id", json!(OTHER_PLAN)), 400),
        ("no organization", "PUT", instance, without(good(), "organization_guid"), 400),
        ("no space", "PUT", instance, without(good(), "space_guid"), 400),
        ("number for space", "PUT", instance, with(good(), "space_guid", json!(1)), 400),
        ("list of parameters", "PUT", instance, with(good(), "parameters", json!([])), 400),
        ("text as context", "PUT", instance, with(good(), "context", json!("x")), 400),
        ("parameters against the schema", "PUT", instance, with(good(), "parameters", json!({ "size": 11 })), 400),
        ("parameters too deep", "PUT", instance, with(good(), "parameters", deep), 400),
        ("another version", "PUT", instance, with(good(), "maintenance_info", json!({ "version": "Invalid" })), 422),
        ("a list", "PUT", instance, json!([1]), 400),
        ("clone of nothing", "PUT", instance, with(good(), "cupola_clone_from", json!({ "instance_id": "x" })), 404),
        ("update without service", "PATCH", there, json!({ "plan_id": NOW }), 400),
        ("update to an unknown plan", "PATCH", there, json!({ "service_id": SERVICE, "plan_id": "x" }), 400),
        ("update of another service", "PATCH", there, json!({ "service_id": OTHER }), 400),
        ("update against the schema", "PATCH", there, json!({ "service_id": SERVICE, "parameters": { "size": "x" } }), 400),
        ("update of nothing", "PATCH", instance, update(), 404),
        ("update to another version", "PATCH", there, with(update(), "maintenance_info", json!({ "version": "9.9.9" })), 422),
        ("bind without service", "PUT", binding, without(bind(), "service_id"), 400),
        ("bind without plan", "PUT", binding, without(bind(), "plan_id"), 400),
        ("bind with an unknown plan", "PUT", binding, with(bind(), "plan_id", json!("x")), 400),
        ("bind with another plan", "PUT", binding, with(bind(), "plan_id", json!(LATER)), 400),
        ("bind after nothing", "PUT", binding, json!({ "predecessor_binding_id": "x" }), 400),
        ("bind against the schema", "PUT", binding, with(bind(), "parameters", json!({ "other": 1 })), 400),
        ("bind to nothing", "PUT", "/v2/service_instances/x/service_bindings/b", bind(), 404),
        ("delete without plan", "DELETE", "/v2/service_instances/there?service_id=service-1", Value::Null, 400),
        ("delete without service", "DELETE", "/v2/service_instances/there?plan_id=plan-now", Value::Null, 400),
        ("delete nothing without plan", "DELETE", "/v2/service_instances/x?service_id=service-1", Value::Null, 400),
        ("delete nothing", "DELETE", "/v2/service_instances/x?service_id=service-1&plan_id=plan-now", Value::Null, 410),
        ("unbind nothing without ids", "DELETE", "/v2/service_instances/there/service_bindings/x", Value::Null, 410),
        ("fetch nothing", "GET", "/v2/service_instances/x", Value::Null, 404),
        ("fetch no binding", "GET", "/v2/service_instances/there/service_bindings/x", Value::Null, 404),
        ("poll nothing", "GET", "/v2/service_instances/x/last_operation", Value::Null, 404),
        ("poll no binding", "GET", "/v2/service_instances/there/service_bindings/x/last_operation", Value::Null, 404),
        ("backup without id", "POST", "/v2/service_instances/there/backups", json!({}), 400),
        ("backup of nothing", "POST", "/v2/service_instances/x/backups", json!({ "id": "k" }), 404),
        ("backup that is not there", "GET", "/v2/service_instances/there/backups/k", Value::Null, 404),
        ("delete no backup", "DELETE", "/v2/service_instances/there/backups/k", Value::Null, 410),
        ("restore of nothing", "POST", "/v2/service_instances/there/restore", json!({ "backup_id": "k" }), 404),
        ("no such path", "GET", "/v2/other", Value::Null, 404),
    ];
    for (name, method, path, body, status) in cases {
        let answer = world.call(method, path, body).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
    }
    let typed = |kind: &str, body: &'static str| world.request("PUT", instance).header("Content-Type", kind).body(body);
    assert_eq!(world.send(typed("text/plain", "{}")).await.status, 400, "not JSON by its type");
    assert_eq!(world.send(typed("application/json", "{\"service_id\": ")).await.status, 400, "half of it");
    assert_eq!(world.send(world.request("PUT", instance).body("")).await.status, 400, "nothing");
    let large = world.request("PUT", instance).header("Content-Type", "application/json").body(vec![b' '; (1 << 20) + 1]);
    assert_eq!(world.send(large).await.status, 413);
    let long = format!("/v2/service_instances/{}", "x".repeat(501));
    assert_eq!(world.call("PUT", &long, good()).await.status, 400);
    let secret = world.call("PUT", instance, with(good(), "parameters", json!({ "password": "hunter2" }))).await;
    assert!(!secret.body.to_string().contains("hunter2"), "{secret:?}");
    assert_eq!(world.things.journal(), ["provision there"]);
}

#[actix_web::test]
async fn an_instance_lives_and_every_repeat_is_the_same() {
    let world = World::new().await;
    let path = "/v2/service_instances/i%2F%25%20%C3%BC";
    let body = provision(NOW, json!({ "size": 3 }));
    let identity = osb::OriginatingIdentity::user("u-1").encode();
    let first = world.request("PUT", path).header("X-Broker-API-Originating-Identity", identity).json(&body);
    let first = world.send(first).await;
    assert_eq!((first.status, &first.body["metadata"]["attributes"]["who"]), (201, &json!("u-1")), "{first:?}");
    assert!(first.body["dashboard_url"].is_string());
    assert_eq!(world.call("PUT", path, body.clone()).await.status, 200);
    for (key, value) in [("organization_guid", json!("o2")), ("space_guid", json!("s2")), ("parameters", json!({ "size": 4 }))] {
        assert_eq!(world.call("PUT", path, with(body.clone(), key, value)).await.status, 409, "{key}");
    }
    let other_plan = with(body.clone(), "plan_id", json!(LATER));
    assert_eq!(world.call("PUT", &format!("{path}?accepts_incomplete=true"), other_plan).await.status, 409);
    let renamed = with(body.clone(), "context", json!({ "platform": "cloudfoundry", "instance_name": "new" }));
    assert_eq!(world.call("PUT", path, renamed).await.status, 200, "a name is not an attribute");

    let fetched = world.call("GET", path, Value::Null).await;
    assert_eq!((fetched.status, &fetched.body["parameters"]), (200, &json!({ "size": 3 })));
    assert_eq!(fetched.body["maintenance_info"]["version"], "1.2.3");
    let old = world.raw("GET", path).basic_auth(USER, Some(PASSWORD)).header("X-Broker-API-Version", "2.13");
    assert_eq!(world.send(old).await.status, 412, "fetching came with 2.14");

    let nothing = json!({ "service_id": SERVICE, "plan_id": NOW, "parameters": {} });
    assert_eq!(world.call("PATCH", path, nothing).await.status, 200);
    let change = json!({ "service_id": SERVICE, "parameters": { "password": "p" } });
    assert_eq!(world.call("PATCH", path, change).await.status, 200);
    let fetched = world.call("GET", path, Value::Null).await;
    assert_eq!(fetched.body["parameters"], json!({ "size": 3, "password": "p" }));

    let last = world.call("GET", &format!("{path}/last_operation"), Value::Null).await;
    assert_eq!((last.status, &last.body["state"]), (200, &json!("succeeded")));
    let delete = format!("{path}?service_id={SERVICE}&plan_id={NOW}");
    let removed = world.call("DELETE", &delete, Value::Null).await;
    assert_eq!((removed.status, removed.body), (200, json!({ "description": "a thing was removed" })));
    assert_eq!(world.call("DELETE", &delete, Value::Null).await.status, 410);
    assert_eq!(world.call("GET", path, Value::Null).await.status, 404);
    let id = "i/% ü";
    assert_eq!(world.things.journal(), [format!("provision {id}"), format!("update {id}"), format!("deprovision {id}")]);
    assert!(world.things.there.lock().is_empty());
}

#[actix_web::test]
async fn bindings_keep_their_credentials_and_follow_one_another() {
    let world = World::new().await;
    world.provision("i", NOW, json!({})).await;
    let path = "/v2/service_instances/i/service_bindings/b";
    let body = json!({ "service_id": SERVICE, "plan_id": NOW, "app_guid": "a-1", "context": { "platform": "cloudfoundry" } });
    let first = world.call("PUT", path, body.clone()).await;
    assert_eq!((first.status, &first.body["credentials"]["app"]), (201, &json!("a-1")), "{first:?}");
    let again = world.call("PUT", path, body.clone()).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    for (key, value) in [("app_guid", json!("a-2")), ("parameters", json!({ "size": 1 })), ("plan_id", json!(LATER))] {
        let path = format!("{path}?accepts_incomplete=true");
        assert_eq!(world.call("PUT", &path, with(body.clone(), key, value)).await.status, 409, "{key}");
    }
    let fetched = world.call("GET", path, Value::Null).await;
    assert_eq!((fetched.status, &fetched.body["credentials"]), (200, &first.body["credentials"]));

    let next = "/v2/service_instances/i/service_bindings/c";
    let rotated = world.call("PUT", next, json!({ "predecessor_binding_id": "b" })).await;
    assert_eq!((rotated.status, &rotated.body["credentials"]["app"]), (201, &json!("a-1")), "{rotated:?}");
    assert_ne!(rotated.body["credentials"]["password"], first.body["credentials"]["password"]);
    assert_eq!(world.call("GET", path, Value::Null).await.status, 200, "the old one stays until it is deleted");

    assert_eq!(world.call("DELETE", path, Value::Null).await.status, 400, "it is there: its ids must be");
    let delete = |path: &str| format!("{path}?service_id={SERVICE}&plan_id={NOW}");
    assert_eq!(world.call("DELETE", &delete(path), Value::Null).await.status, 200);
    assert_eq!(world.call("DELETE", &delete(path), Value::Null).await.status, 410);
    assert_eq!(world.call("PUT", next, json!({ "predecessor_binding_id": "b" })).await.status, 200, "a repeat needs no old one");
    assert_eq!(world.things.journal()[1..], ["bind i/b", "bind i/c after b", "unbind i/b"]);
    let file = std::fs::read(world.folder.path().join("state/broker.db")).unwrap();
    let log = std::fs::read(world.folder.path().join("state/broker.db-wal")).unwrap_or_default();
    for bytes in [file, log] {
        assert!(!bytes.windows(7).any(|window| window == b"secret-"), "credentials lie open in the database");
    }
}

#[actix_web::test]
async fn work_in_the_background_is_polled_repeated_and_alone() {
    let world = World::new().await;
    let (path, body) = ("/v2/service_instances/i", provision(LATER, json!({ "slow": true })));
    let sync = world.call("PUT", path, body.clone()).await;
    assert_eq!((sync.status, &sync.body["error"]), (422, &json!("AsyncRequired")));
    let sync = world.call("DELETE", &format!("{path}?service_id={SERVICE}&plan_id={LATER}"), Value::Null).await;
    assert_eq!((sync.status, &sync.body["error"]), (422, &json!("AsyncRequired")), "before anybody looks whether it is there");

    world.things.open.send_replace(false);
    let begun = world.provision("i", LATER, json!({ "slow": true })).await;
    assert_eq!((begun.status, begun.headers["Retry-After"].to_str().unwrap()), (202, "3"));
    assert!(begun.body["dashboard_url"].is_string(), "{begun:?}");
    let operation = begun.body["operation"].as_str().unwrap().to_owned();
    let again = world.provision("i", LATER, json!({ "slow": true })).await;
    assert_eq!((again.status, &again.body["operation"]), (202, &json!(operation)));
    assert_eq!(world.provision("i", LATER, json!({})).await.status, 409);
    assert_eq!(world.call("GET", path, Value::Null).await.status, 404, "it is not made yet");
    let last = world.call("GET", &format!("{path}/last_operation?operation={operation}"), Value::Null).await;
    assert_eq!((last.status, &last.body["state"]), (200, &json!("in progress")));
    assert_eq!(last.headers["Retry-After"], "3");
    for busy in [
        world.call(
            "PATCH",
            &format!("{path}?accepts_incomplete=true"),
            json!({ "service_id": SERVICE, "parameters": { "size": 1 } }),
        ),
        world.call("DELETE", &format!("{path}?accepts_incomplete=true&service_id={SERVICE}&plan_id={LATER}"), Value::Null),
        world.call("POST", &format!("{path}/backups?accepts_incomplete=true"), json!({ "id": "k" })),
        world.call(
            "PUT",
            &format!("{path}/service_bindings/b?accepts_incomplete=true"),
            json!({ "service_id": SERVICE, "plan_id": LATER }),
        ),
    ] {
        let busy = busy.await;
        assert_eq!((busy.status, &busy.body["error"]), (422, &json!("ConcurrencyError")), "{busy:?}");
    }
    world.things.open.send_replace(true);
    let ended = world.ended("i", &operation).await;
    assert_eq!((ended.status, &ended.body), (200, &json!({ "state": "succeeded", "description": "made" })));

    let bound = world.bind("i", "b", LATER).await;
    assert_eq!(bound.status, 202);
    assert!(bound.body["credentials"].is_null());
    let ended = world.ended("i/service_bindings/b", bound.body["operation"].as_str().unwrap()).await;
    assert_eq!(ended.body["state"], "succeeded");
    assert!(world.call("GET", &format!("{path}/service_bindings/b"), Value::Null).await.body["credentials"].is_object());

    let gone = world.delete("i/service_bindings/b", LATER).await;
    let operation = gone.body["operation"].as_str().unwrap().to_owned();
    assert_eq!((gone.status, world.ended("i/service_bindings/b", &operation).await.status), (202, 410));

    let removed = world.delete("i", LATER).await;
    let operation = removed.body["operation"].as_str().unwrap().to_owned();
    let ended = world.ended("i", &operation).await;
    assert_eq!((removed.status, ended.status), (202, 410), "410 to whoever knows the operation");
    assert_eq!(ended.body, json!({ "description": "a thing was removed" }));
    for query in ["", "?operation=deprovision", "?operation="] {
        let last = world.call("GET", &format!("{path}/last_operation{query}"), Value::Null).await;
        let expected = json!({ "state": "succeeded", "description": "a thing was removed" });
        assert_eq!((last.status, &last.body), (200, &expected), "`{query}`: to whoever does not");
    }
    assert!(world.things.there.lock().is_empty());
}

#[actix_web::test]
async fn failures_say_why_and_leave_only_what_a_delete_finds() {
    let world = World::new().await;
    for (fail, status, word) in
        [("refuse", 422, None), ("app", 422, Some("RequiresApp")), ("error", 500, None), ("panic", 500, None)]
    {
        let id = format!("i-{fail}");
        let answer = world.provision(&id, NOW, json!({ "fail": fail })).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, word), "{fail}: {answer:?}");
        assert!(!answer.body.to_string().contains("secret detail"), "{answer:?}");
        let deleted = world.delete(&id, NOW).await;
        assert_eq!(deleted.status, if status < 500 { 410 } else { 200 }, "{fail}");
    }
    let begun = world.provision("late", LATER, json!({ "fail": "refuse" })).await;
    let ended = world.ended("late", begun.body["operation"].as_str().unwrap()).await;
    assert_eq!((ended.status, &ended.body), (200, &json!({ "state": "failed", "description": "I will not" })));

    world.provision("u", LATER, json!({})).await;
    world.ended("u", "").await;
    let body = json!({ "service_id": SERVICE, "parameters": { "fail": "unusable" } });
    let begun = world.call("PATCH", "/v2/service_instances/u?accepts_incomplete=true", body).await;
    let ended = world.ended("u", begun.body["operation"].as_str().unwrap()).await;
    let expected = json!({ "state": "failed", "description": "broken", "instance_usable": false, "update_repeatable": false });
    assert_eq!(ended.body, expected);
    let fetched = world.call("GET", "/v2/service_instances/u", Value::Null).await;
    assert_eq!(fetched.body["parameters"], json!({}), "an update that failed changes nothing");
}

#[actix_web::test]
async fn work_that_takes_long_goes_on_when_nobody_waits_any_more() {
    let world = World::new().await;
    world.things.open.send_replace(false);
    let answer = world.provision("polls", NOW, json!({ "slow": true })).await;
    assert_eq!(answer.status, 202, "it polls: so it can be told to");
    let answer = world.call("PUT", "/v2/service_instances/waits", provision(NOW, json!({ "slow": true }))).await;
    assert_eq!(answer.status, 503);
    world.things.open.send_replace(true);
    assert_eq!(world.ended("polls", "").await.body["state"], "succeeded");
    assert_eq!(world.ended("waits", "").await.body["state"], "succeeded");
}

#[actix_web::test]
async fn plans_change_as_the_catalog_says() {
    let world = World::new().await;
    world.provision("i", NOW, json!({})).await;
    let body = json!({ "service_id": SERVICE, "plan_id": LATER, "previous_values": { "plan_id": NOW } });
    let path = "/v2/service_instances/i";
    assert_eq!(world.call("PATCH", path, body.clone()).await.body["error"], "AsyncRequired");
    let begun = world.call("PATCH", &format!("{path}?accepts_incomplete=true"), body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    assert_eq!(world.ended("i", begun.body["operation"].as_str().unwrap()).await.body["state"], "succeeded");
    assert_eq!(world.call("GET", path, Value::Null).await.body["plan_id"], LATER);
    let stale = world.delete("i", NOW).await;
    assert_eq!(stale.status, 202, "a platform that believes in the old plan can still delete");

    let other = json!({ "service_id": OTHER, "plan_id": OTHER_PLAN, "organization_guid": "o", "space_guid": "s" });
    assert_eq!(world.call("PUT", "/v2/service_instances/o", other).await.status, 201);
    let bind = json!({ "service_id": OTHER, "plan_id": OTHER_PLAN });
    assert_eq!(world.call("PUT", "/v2/service_instances/o/service_bindings/b", bind).await.status, 400, "not bindable");
    assert_eq!(world.call("GET", "/v2/service_instances/o", Value::Null).await.status, 404, "not retrievable");
    let backup = world.call("POST", "/v2/service_instances/o/backups", json!({ "id": "k" })).await;
    assert_eq!(backup.status, 422, "no backups");
}

#[actix_web::test]
async fn backups_are_made_listed_restored_copied_and_deleted() {
    let world = World::new().await;
    world.provision("i", NOW, json!({})).await;
    let path = "/v2/service_instances/i/backups";
    let made = world.call("POST", path, json!({ "id": "k1" })).await;
    assert_eq!((made.status, &made.body["state"], &made.body["size_bytes"]), (201, &json!("succeeded"), &json!(7)));
    assert_eq!(world.call("POST", path, json!({ "id": "k1" })).await.status, 200);
    assert_eq!(world.call("POST", path, json!({ "id": "k2" })).await.status, 201);
    let list = world.call("GET", path, Value::Null).await;
    assert_eq!(list.body["backups"].as_array().unwrap().len(), 2);
    assert_eq!(world.call("GET", &format!("{path}/k1"), Value::Null).await.body["id"], "k1");

    let restored = world.call("POST", "/v2/service_instances/i/restore", json!({ "backup_id": "k1" })).await;
    assert_eq!(restored.status, 200);
    let mut copy = provision(NOW, json!({}));
    copy["cupola_clone_from"] = json!({ "instance_id": "i", "backup_id": "k1" });
    assert_eq!(world.call("PUT", "/v2/service_instances/j", copy.clone()).await.status, 201);
    assert_eq!(world.call("PUT", "/v2/service_instances/j", copy.clone()).await.status, 200);
    assert_eq!(world.call("PUT", "/v2/service_instances/j", provision(NOW, json!({}))).await.status, 409);
    copy["service_id"] = json!(OTHER);
    copy["plan_id"] = json!(OTHER_PLAN);
    assert_eq!(world.call("PUT", "/v2/service_instances/l", copy).await.status, 422, "that service has no copies");

    assert_eq!(world.call("DELETE", &format!("{path}/k1"), Value::Null).await.status, 200);
    assert_eq!(world.call("DELETE", &format!("{path}/k1"), Value::Null).await.status, 410);
    assert_eq!(world.delete("i", NOW).await.status, 200);
    assert_eq!(world.call("GET", path, Value::Null).await.status, 404);
    assert!(!world.things.there.lock().iter().any(|name| name.contains('@')), "backups go with their instance");
    let journal = world.things.journal();
    assert!(journal.contains(&"restore i@k1".to_owned()) && journal.contains(&"provision j from i".to_owned()), "{journal:?}");
}

#[actix_web::test]
async fn a_restore_that_is_repeated_does_not_undo_what_was_written_since() {
    let world = World::new().await;
    world.provision("i", NOW, json!({})).await;
    assert_eq!(world.call("POST", "/v2/service_instances/i/backups", json!({ "id": "k" })).await.status, 201);
    let restores = || world.things.journal().iter().filter(|line| line.starts_with("restore ")).count();
    let restore = async |id: &str| {
        let request = world.request("POST", "/v2/service_instances/i/restore?accepts_incomplete=true");
        world.send(request.header("X-Broker-API-Request-Identity", id).json(&json!({ "backup_id": "k" }))).await.status
    };
    // Its answer was lost: the platform sends the same request again.
    assert_eq!((restore("one").await, restore("one").await, restores()), (200, 200, 1));
    // Somebody wants it once more.
    assert_eq!((restore("two").await, restores()), (200, 2));
    assert_eq!((restore("one").await, restores()), (200, 3), "after another one it is not known any more");
}

#[actix_web::test]
async fn many_clients_at_once_lose_nothing() {
    let world = World::new().await;
    let one = async |n: usize| {
        let id = format!("i{n}");
        assert_eq!(world.provision(&id, NOW, json!({})).await.status, 201);
        let (a, b) = futures::join!(world.bind(&id, "a", NOW), world.bind(&id, "b", NOW));
        assert_eq!((a.status, b.status), (201, 201), "bindings of one instance do not stand in each other's way");
        assert_eq!(world.delete(&format!("{id}/service_bindings/a"), NOW).await.status, 200);
        assert_eq!(world.delete(&id, NOW).await.status, 200);
    };
    futures::future::join_all((0..40).map(one)).await;
    assert!(world.things.there.lock().is_empty());
    let metrics = world.send(world.raw("GET", "/metrics").basic_auth(USER, Some(PASSWORD))).await;
    let metrics = metrics.body.as_str().unwrap();
    assert!(metrics.contains("broker_operations_total{kind=\"provision\",outcome=\"succeeded\"} 40"), "{metrics}");
    assert!(metrics.contains("broker_instances 0"), "{metrics}");
}

#[actix_web::test]
async fn the_document_names_routes_that_are_there_and_are_closed() {
    let world = World::new().await;
    let document = world.send(world.request("GET", "/openapi.json")).await.body;
    let mut routes = 0;
    for (template, operations) in document["paths"].as_object().unwrap() {
        let path = template.replace(['{', '}'], "");
        for (method, operation) in operations.as_object().unwrap() {
            routes += 1;
            let answer = world.send(world.request(&method.to_uppercase(), &path)).await;
            assert!(
                answer.status != 405 && answer.body["description"] != "there is nothing here",
                "{method} {template}: {answer:?}"
            );
            let closed = world.send(world.raw(&method.to_uppercase(), &path)).await.status == 401;
            assert_eq!(closed, operation["security"].is_null(), "{method} {template}");
        }
    }
    assert_eq!(routes, 18);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        assert!(jsonschema::validator_for(&schema).is_ok(), "{name}");
    }
}
