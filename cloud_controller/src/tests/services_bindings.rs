//! Bindings: to apps, to routes, keys; by request and by manifest; what apps are told, and where they may connect to.

use super::{
    World,
    harness::Answered,
    push::{app, build, package, process, restage, running, space, stage, yaml},
    tenancy,
};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::broker::{Broker, Script, catalog, offering};

/// A developer's space, a broker whose services everybody sees, and an instance `mydb` of it.
struct Shop {
    broker: Broker,
    space: String,
    instance: String,
}

async fn shop(world: &World) -> Shop {
    shop_of(world, catalog("db")).await
}

async fn shop_of(world: &World, catalog: Value) -> Shop {
    let space = space(world).await;
    let broker = broker(world, "b", catalog, None).await;
    let instance = new_instance(world, &space, "mydb", "small").await;
    broker.forget_seen();
    Shop { broker, space, instance }
}

/// Registers a broker; of an operator's one everybody sees all plans.
async fn broker(world: &World, name: &str, catalog: Value, space: Option<&str>) -> Broker {
    let broker = Broker::start().await;
    broker.set_catalog(catalog);
    let credentials = json!({ "type": "basic", "credentials": { "username": "u", "password": "p" } });
    let mut body = json!({ "name": name, "url": broker.url, "authentication": credentials });
    if let Some(space) = space {
        body["relationships"] = json!({ "space": { "data": { "guid": space } } });
    }
    let user = if space.is_some() { "dev" } else { "admin" };
    done(world, world.post(user, "/v3/service_brokers", body).await).await;
    let plans = world.get("admin", &format!("/v3/service_plans?service_broker_names={name}")).await.expect(200);
    for plan in plans["resources"].as_array().unwrap().iter().filter(|_| space.is_none()) {
        let path = format!("/v3/service_plans/{}/visibility", plan["guid"].as_str().unwrap());
        world.patch("admin", &path, json!({ "type": "public" })).await.expect(200);
    }
    broker
}

/// Makes an instance of the first plan of that name.
async fn new_instance(world: &World, space: &str, name: &str, plan: &str) -> String {
    let plans = world.get("admin", &format!("/v3/service_plans?names={plan}")).await.expect(200);
    instance_of(world, space, name, plans["resources"][0]["guid"].as_str().unwrap()).await
}

async fn instance_of(world: &World, space: &str, name: &str, plan: &str) -> String {
    let relationships = json!({ "space": { "data": { "guid": space } }, "service_plan": { "data": { "guid": plan } } });
    let body = json!({ "type": "managed", "name": name, "tags": ["own"], "relationships": relationships });
    done(world, world.post("dev", "/v3/service_instances", body).await).await;
    guid_of(world, &format!("/v3/service_instances?names={name}")).await
}

async fn user_provided(world: &World, space: &str, name: &str, rest: Value) -> String {
    let mut body = json!({ "type": "user-provided", "name": name, "relationships": { "space": { "data": { "guid": space } } } });
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    world.post("dev", "/v3/service_instances", body).await.expect(201)["guid"].as_str().unwrap().to_owned()
}

async fn guid_of(world: &World, path: &str) -> String {
    world.get("admin", path).await.expect(200)["resources"][0]["guid"].as_str().unwrap_or_default().to_owned()
}

/// Follows a job to its end, letting the clock run for brokers that take their time.
async fn ended(world: &World, answered: Answered) -> Value {
    assert_eq!(answered.status, 202, "{}", answered.body);
    let location = answered.headers["Location"].to_str().unwrap().to_owned();
    for _ in 0..1_000 {
        let job = world.get("admin", &location).await.expect(200);
        if !matches!(job["state"].as_str(), Some("PROCESSING" | "POLLING")) {
            return job;
        }
        world.clock.advance(Duration::from_secs(1));
        world.api.kick_operations();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the job at {location} does not end");
}

#[track_caller]
fn complete(job: &Value) {
    assert_eq!(job["state"], "COMPLETE", "{job}");
}

async fn done(world: &World, answered: Answered) {
    complete(&ended(world, answered).await);
}

/// Why a job failed.
async fn failure(world: &World, answered: Answered) -> String {
    let job = ended(world, answered).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    job["errors"][0]["detail"].as_str().unwrap().to_owned()
}

fn to_app(instance: &str, app: &str) -> Value {
    let relationships = json!({ "service_instance": { "data": { "guid": instance } }, "app": { "data": { "guid": app } } });
    json!({ "type": "app", "relationships": relationships })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn key(instance: &str, name: &str) -> Value {
    json!({ "type": "key", "name": name, "relationships": { "service_instance": { "data": { "guid": instance } } } })
}

const BINDINGS: &str = "/v3/service_credential_bindings";
const ROUTE_BINDINGS: &str = "/v3/service_route_bindings";

async fn bind(world: &World, instance: &str, app: &str) -> String {
    done(world, world.post("dev", BINDINGS, to_app(instance, app)).await).await;
    guid_of(world, &format!("{BINDINGS}?app_guids={app}&service_instance_guids={instance}&order_by=-created_at")).await
}

async fn vcap(world: &World, app: &str) -> Value {
    world.get("dev", &format!("/v3/apps/{app}/env")).await.expect(200)["system_env_json"]["VCAP_SERVICES"].clone()
}

async fn events(world: &World, target: &str) -> Vec<String> {
    let found = world.get("admin", &format!("/v3/audit_events?target_guids={target}")).await.expect(200);
    let mut kinds: Vec<String> =
        found["resources"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    // Most happen in the same moment of the test's clock.
    kinds.sort();
    kinds
}

async fn an_app_is_bound_told_and_unbound(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    let body = with(to_app(&instance, &app), json!({ "parameters": { "secret": "s3" }, "metadata": { "labels": { "a": "b" } } }));
    let answered = world.post("dev", BINDINGS, body).await;
    let job = ended(&world, answered).await;
    complete(&job);
    assert_eq!(job["operation"], "service_bindings.create");
    let binding = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let sent = &broker.seen_with("PUT")[0];
    assert_eq!(sent.path, format!("/v2/service_instances/{instance}/service_bindings/{binding}"));
    assert!(sent.query.contains("accepts_incomplete=true"), "{sent:?}");
    assert_eq!(sent.body["app_guid"], app);
    assert_eq!(
        (&sent.body["bind_resource"]["app_guid"], &sent.body["bind_resource"]["space_guid"]),
        (&json!(app), &json!(space))
    );
    assert_eq!((&sent.body["parameters"], &sent.body["plan_id"]), (&json!({ "secret": "s3" }), &json!("db-small-id")));
    assert_eq!((&sent.body["context"]["platform"], &sent.body["context"]["space_name"]), (&json!("cloudfoundry"), &json!("dev")));
    assert!(sent.headers.contains_key("x-broker-api-originating-identity"), "{sent:?}");

    let shown = world.get("dev", &format!("{BINDINGS}/{binding}?include=app,service_instance")).await.expect(200);
    assert_eq!(
        (&shown["type"], &shown["name"], &shown["last_operation"]["state"]),
        (&json!("app"), &Value::Null, &json!("succeeded"))
    );
    assert_eq!((&shown["metadata"]["labels"]["a"], &shown["links"]["parameters"].is_object()), (&json!("b"), &true));
    assert_eq!(
        (&shown["included"]["apps"][0]["name"], &shown["included"]["service_instances"][0]["name"]),
        (&json!("dora"), &json!("mydb"))
    );
    let details = world.get("dev", &format!("{BINDINGS}/{binding}/details")).await.expect(200);
    assert_eq!(
        details,
        json!({ "credentials": { "uri": format!("db://user:{binding}@10.0.0.9:5432/{instance}"), "username": "user", "password": binding } })
    );
    let parameters = world.get("dev", &format!("{BINDINGS}/{binding}/parameters")).await.expect(200);
    assert_eq!(parameters, json!({ "secret": "s3" }));
    let told = vcap(&world, &app).await;
    assert_eq!((&told["db"][0]["instance_name"], &told["db"][0]["plan"]), (&json!("mydb"), &json!("small")));
    assert_eq!((&told["db"][0]["tags"], &told["db"][0]["credentials"]["username"]), (&json!(["own"]), &json!("user")));

    for (query, count) in [
        ("type=app", 1),
        ("type=key", 0),
        ("app_names=DORA", 1),
        ("service_instance_names=MyDB", 1),
        ("service_plan_names=small", 1),
        ("service_plan_names=large", 0),
        ("service_offering_names=db", 1),
        ("names=x", 0),
        ("label_selector=a=b", 1),
    ] {
        let found = world.get("dev", &format!("{BINDINGS}?{query}")).await.expect(200);
        assert_eq!(found["pagination"]["total_results"], count, "{query}");
    }
    let answered = world.delete("dev", &format!("{BINDINGS}/{binding}")).await;
    done(&world, answered).await;
    assert!(broker.bindings().is_empty());
    assert!(broker.seen_with("DELETE")[0].query.contains("plan_id=db-small-id"));
    assert_eq!(world.get("dev", &format!("{BINDINGS}/{binding}")).await.detail(404), "Service credential binding not found");
    assert_eq!(vcap(&world, &app).await, json!({}));
    let expected = ["audit.service_binding.create", "audit.service_binding.delete", "audit.service_binding.show"];
    assert_eq!(events(&world, &binding).await, expected);
}

async fn what_stands_against_a_binding_is_said_in_the_words_of_the_contract(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let (one, two) = (app(&world, &space, "one").await, app(&world, &space, "two").await);
    let elsewhere = tenancy::space(&world, &tenancy::org(&world, "other").await, "x").await;
    tenancy::role(&world, "dev", "space_developer", &elsewhere).await;
    let far = app(&world, &elsewhere, "far").await;
    let ups = user_provided(&world, &space, "ups", json!({})).await;
    let unbindable = new_instance(&world, &space, "dull", "unbindable").await;
    bind(&world, &instance, &one).await;
    broker.forget_seen();
    let cases = [
        (to_app("nope", &one), "The service instance could not be found: 'nope'"),
        (to_app(&instance, "nope"), "The app could not be found: 'nope'"),
        (to_app(&instance, &one), "The app is already bound to the service instance"),
        (to_app(&instance, &far), "The service instance and the app are in different spaces"),
        (to_app(&unbindable, &two), "Service plan does not allow bindings"),
        (key(&unbindable, "k"), "Service plan does not allow bindings."),
        (key(&ups, "k"), "Service credential bindings of type 'key' are not supported for user-provided service instances."),
        (
            with(to_app(&ups, &two), json!({ "parameters": { "a": 1 } })),
            "Binding parameters are not supported for user-provided service instances",
        ),
    ];
    for (body, text) in cases {
        assert_eq!(world.post("dev", BINDINGS, body).await.detail(422), text);
    }
    for body in [
        json!({ "type": "x" }),
        with(to_app(&instance, &two), json!({ "name": "a b" })),
        key(&instance, ""),
        json!({ "type": "app" }),
    ] {
        assert_eq!(world.post("dev", BINDINGS, body.clone()).await.status, 422, "{body}");
    }
    assert!(broker.seen().is_empty(), "none of these is the broker's business");
}

async fn roles_decide_who_binds_and_who_reads_what(world: World) {
    let Shop { instance, space, broker: _broker } = shop(&world).await;
    for (user, role) in [("sup", "space_supporter"), ("aud", "space_auditor")] {
        tenancy::role(&world, user, role, &space).await;
    }
    let app = app(&world, &space, "dora").await;
    assert_eq!(world.post("aud", BINDINGS, to_app(&instance, &app)).await.status, 403);
    assert_eq!(world.post("sup", BINDINGS, key(&instance, "k")).await.status, 403);
    assert_eq!(world.post("stranger", BINDINGS, to_app(&instance, &app)).await.status, 422);
    done(&world, world.post("sup", BINDINGS, to_app(&instance, &app)).await).await;
    let binding = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let path = format!("{BINDINGS}/{binding}");
    assert_eq!(world.get("aud", &path).await.status, 200);
    assert_eq!(world.get("stranger", &path).await.status, 404);
    assert_eq!(world.get("stranger", BINDINGS).await.expect(200)["pagination"]["total_results"], 0);
    for user in ["aud", "sup"] {
        assert_eq!(world.get(user, &format!("{path}/details")).await.detail(404), "Service credential binding not found");
    }
    assert_eq!(world.get("x-ro", &format!("{path}/details")).await.status, 200);
    assert_eq!(world.patch("sup", &path, json!({ "metadata": { "labels": { "a": "b" } } })).await.status, 403);
    world.patch("dev", &path, json!({ "metadata": { "labels": { "a": "b" } } })).await.expect(200);
    assert_eq!(world.delete("aud", &path).await.status, 403);
    done(&world, world.delete("sup", &path).await).await;
}

async fn user_provided_instances_are_bound_at_once(world: World) {
    let space = space(&world).await;
    let app = app(&world, &space, "dora").await;
    let rest = json!({ "credentials": { "uri": "postgres://u:p@db/x" }, "syslog_drain_url": "syslog://l", "tags": ["t"] });
    let ups = user_provided(&world, &space, "ups", rest).await;
    let made = world.post("dev", BINDINGS, with(to_app(&ups, &app), json!({ "name": "alias" }))).await.expect(201);
    assert_eq!((&made["last_operation"]["state"], &made["name"]), (&json!("succeeded"), &json!("alias")));
    assert!(made["links"].get("parameters").is_none());
    let told = vcap(&world, &app).await;
    let entry = &told["user-provided"][0];
    assert_eq!(
        (&entry["name"], &entry["instance_name"], &entry["binding_name"]),
        (&json!("alias"), &json!("ups"), &json!("alias"))
    );
    assert_eq!((&entry["syslog_drain_url"], &entry["tags"], entry.get("plan")), (&json!("syslog://l"), &json!(["t"]), None));
    let path = format!("{BINDINGS}/{}", made["guid"].as_str().unwrap());
    let details = world.get("dev", &format!("{path}/details")).await.expect(200);
    assert_eq!(details["syslog_drain_url"], "syslog://l");
    assert_eq!(world.get("dev", &format!("{path}/parameters")).await.status, 400);
    let changed = json!({ "credentials": { "uri": "mysql://new" } });
    world.patch("dev", &format!("/v3/service_instances/{ups}"), changed).await.expect(200);
    assert_eq!(vcap(&world, &app).await["user-provided"][0]["credentials"], json!({ "uri": "mysql://new" }));
    assert_eq!(world.delete("dev", &path).await.status, 204);
    assert_eq!(vcap(&world, &app).await, json!({}));
}

async fn several_bindings_of_one_app_rotate(world: World) {
    let mut offer = catalog("db");
    offer["services"][0]["plans"][0]["binding_rotatable"] = true.into();
    let Shop { broker, instance, space } = shop_of(&world, offer).await;
    let app = app(&world, &space, "dora").await;
    let more = || with(to_app(&instance, &app), json!({ "strategy": "multiple" }));
    let mut guids: Vec<String> = vec![];
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(1));
        done(&world, world.post("dev", BINDINGS, more()).await).await;
        guids.push(guid_of(&world, &format!("{BINDINGS}?app_guids={app}&order_by=-created_at")).await);
        assert_eq!(vcap(&world, &app).await["db"].as_array().unwrap().len(), 1);
        assert_eq!(vcap(&world, &app).await["db"][0]["binding_guid"], json!(guids.last().unwrap()));
    }
    let sent = broker.seen_with("PUT");
    assert!(sent[0].body.get("predecessor_binding_id").is_none());
    assert_eq!(sent[1].body["predecessor_binding_id"], json!(guids[0]));
    assert_eq!(
        world.post("dev", BINDINGS, more()).await.detail(422),
        "The app has too many bindings to this service instance (limit: 5). Consider deleting existing/orphaned bindings."
    );
    done(&world, world.delete("dev", &format!("{BINDINGS}/{}", guids[4])).await).await;
    assert_eq!(vcap(&world, &app).await["db"][0]["binding_guid"], json!(guids[3]), "the newest that is left");
    assert_eq!(
        world.post("dev", BINDINGS, with(more(), json!({ "name": "other" }))).await.detail(422),
        "The binding name cannot be changed for the same app and service instance"
    );
    assert_eq!(
        world.post("dev", BINDINGS, to_app(&instance, &app)).await.detail(422),
        "The app is already bound to the service instance"
    );
}

async fn names_of_bindings_are_unique_in_an_app(world: World) {
    let Shop { instance, space, broker: _broker } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    let second = new_instance(&world, &space, "second", "small").await;
    let named = |instance: &str| with(to_app(instance, &app), json!({ "name": "data" }));
    done(&world, world.post("dev", BINDINGS, named(&instance)).await).await;
    assert_eq!(
        world.post("dev", BINDINGS, named(&second)).await.detail(422),
        "The binding name is invalid. Binding names must be unique for a given service instance and app. The app already has a binding with name 'data'."
    );
}

async fn a_broker_that_takes_its_time_is_polled_and_the_result_fetched(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    broker.set_polls(Some(2));
    let answered = world.post("dev", BINDINGS, to_app(&instance, &app)).await;
    let binding = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let path = format!("{BINDINGS}/{binding}");
    let shown = world.get("dev", &path).await.expect(200);
    assert_eq!((&shown["last_operation"]["type"], &shown["last_operation"]["state"]), (&json!("create"), &json!("in progress")));
    assert_eq!(world.get("dev", &format!("{path}/details")).await.detail(404), "Creation of service binding in progress");
    assert_eq!(
        world.post("dev", BINDINGS, to_app(&instance, &app)).await.detail(422),
        format!("There is already a binding in progress for this service instance and app (binding guid: {binding})")
    );
    assert_eq!(vcap(&world, &app).await, json!({}));
    done(&world, answered).await;
    assert_eq!(vcap(&world, &app).await["db"][0]["credentials"]["password"], json!(binding));
    let polls = broker.seen_with("last_operation");
    assert!(polls.len() == 3 && polls[0].query.contains("operation=making"), "{polls:?}");
    let answered = world.delete("dev", &path).await;
    assert_eq!(world.delete("dev", &path).await.detail(422), "There is an operation in progress for the service binding.");
    assert_eq!(vcap(&world, &app).await, json!({}), "what is about to go is not handed out any more");
    done(&world, answered).await;
    assert!(broker.bindings().is_empty());
    let expected = [
        "audit.service_binding.create",
        "audit.service_binding.delete",
        "audit.service_binding.start_create",
        "audit.service_binding.start_delete",
    ];
    assert_eq!(events(&world, &binding).await, expected);
}

async fn what_the_broker_says_reaches_the_user_and_a_failed_binding_can_be_made_again(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    broker.script(Script::next("PUT", "service_bindings").answers(400, json!({ "description": "no room at the inn" })));
    let told = failure(&world, world.post("dev", BINDINGS, to_app(&instance, &app)).await).await;
    assert!(told.starts_with("bind could not be completed: "), "{told}");
    for part in ["no room at the inn", "broker 'b'", "plan 'small'", "HTTP status 400", "request "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let failed = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let path = format!("{BINDINGS}/{failed}");
    let shown = world.get("dev", &path).await.expect(200);
    assert_eq!(shown["last_operation"]["state"], "failed");
    assert!(shown["last_operation"]["description"].as_str().unwrap().contains("no room at the inn"));
    assert_eq!(world.get("dev", &format!("{path}/details")).await.detail(404), "Creation of service binding failed");
    assert_eq!(world.get("dev", &format!("{path}/parameters")).await.detail(404), "Creation of service binding failed");
    assert_eq!(vcap(&world, &app).await, json!({}));
    done(&world, world.post("dev", BINDINGS, to_app(&instance, &app)).await).await;
    let again = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    assert_ne!(again, failed);
    assert_eq!(broker.bindings(), [again]);
    // A failed unbinding keeps what there is, and can be tried again.
    broker.script(Script::next("DELETE", "service_bindings").answers(500, json!({ "description": "on fire" })));
    let again = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let told = failure(&world, world.delete("dev", &format!("{BINDINGS}/{again}")).await).await;
    assert!(told.starts_with("unbind could not be completed: ") && told.contains("on fire"), "{told}");
    assert_eq!(vcap(&world, &app).await["db"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.post("dev", BINDINGS, to_app(&instance, &app)).await.detail(422),
        "The binding is getting deleted or its deletion failed"
    );
    done(&world, world.delete("dev", &format!("{BINDINGS}/{again}")).await).await;
}

async fn what_a_broker_may_not_hand_over_is_refused_and_cleaned_up(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    let cases = [
        (json!({ "credentials": {}, "syslog_drain_url": "syslog://l" }), "not registered as a logging service"),
        (
            json!({ "volume_mounts": [{ "driver": "d", "container_dir": "/x", "mode": "r", "device_type": "shared", "device": { "volume_id": "v" } }] }),
            "not registered as a volume mount service",
        ),
        (
            json!({ "volume_mounts": [{ "driver": "d", "container_dir": "", "mode": "r", "device_type": "shared", "device": { "volume_id": "v" } }] }),
            "container_dir",
        ),
        (json!({ "credentials": {}, "syslog_drain_url": "x".repeat(10_001) }), "more than 10000 characters"),
    ];
    for (answer, expected) in cases {
        broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(201, answer));
        let told = failure(&world, world.post("dev", BINDINGS, to_app(&instance, &app)).await).await;
        assert!(told.contains(expected), "{told}");
        // Nothing stays at the broker.
        for _ in 0..500 {
            if broker.bindings().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(broker.bindings().is_empty(), "{expected}");
    }
}

async fn volumes_are_kept_and_shown_and_whoever_starts_an_app_is_told_that_they_are_not_mounted(world: World) {
    let mut offer = catalog("nfs");
    offer["services"][0]["requires"] = json!(["volume_mount"]);
    let Shop { broker, instance, space } = shop_of(&world, offer).await;
    let app = running(&world, &space, "dora").await;
    let mount = |dir: &str| {
        let device = json!({ "volume_id": "v", "mount_config": { "password": "s3cret" } });
        json!({ "driver": "nfsv3driver", "container_dir": dir, "mode": "rw", "device_type": "shared", "device": device })
    };
    let mounts = json!([mount("/data"), mount("/more")]);
    broker.set_polls(Some(1));
    broker.script(Script::next("GET", "/service_bindings/").answers(200, json!({ "state": "succeeded" })));
    broker.script(Script::next("GET", "/service_bindings/").answers(200, json!({ "volume_mounts": mounts })));
    let job = ended(&world, world.post("dev", BINDINGS, to_app(&instance, &app)).await).await;
    complete(&job);
    let text = "This platform does not mount volumes yet: app 'dora' runs without /data of service instance 'mydb', /more of \
                service instance 'mydb'.";
    assert_eq!(job["warnings"], json!([{ "detail": text }]));
    let binding = guid_of(&world, &format!("{BINDINGS}?app_guids={app}")).await;
    let details = world.get("dev", &format!("{BINDINGS}/{binding}/details")).await.expect(200);
    assert_eq!(details["volume_mounts"], mounts);
    let shown = json!({ "container_dir": "/data", "mode": "rw", "device_type": "shared" });
    assert_eq!(vcap(&world, &app).await["nfs"][0]["volume_mounts"][0], shown);
    let kept = world.api.store.read(move |conn| crate::store::service_bindings::find(conn, &binding)).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&kept.volume_mounts.unwrap()).contains("s3cret"), "nobody reads it in the table");
    let warnings = async |action: &str| {
        let answered = world.post("dev", &format!("/v3/apps/{app}/actions/{action}"), json!({})).await;
        let header = answered.headers.get("x-cf-warnings").map(|value| value.to_str().unwrap().to_owned());
        answered.expect(200);
        // As the official client reads it.
        header.map(|header| url::form_urlencoded::parse(format!("w={header}").as_bytes()).next().unwrap().1.into_owned())
    };
    assert_eq!(warnings("restart").await.as_deref(), Some(text));
    assert_eq!(warnings("stop").await, None);
    assert_eq!(warnings("start").await.as_deref(), Some(text));
    // A key has nothing to be mounted into.
    broker.set_polls(None);
    broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(201, json!({ "volume_mounts": mounts })));
    let job = ended(&world, world.post("dev", BINDINGS, key(&instance, "k")).await).await;
    assert_eq!((&job["state"], &job["warnings"]), (&json!("COMPLETE"), &json!([])), "{job}");
}

async fn parameters_are_checked_before_the_broker_is_asked(world: World) {
    let mut offer = catalog("db");
    let schema = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
        "properties": { "role": { "enum": ["reader", "writer"] } } });
    offer["services"][0]["plans"][0]["schemas"] = json!({ "service_binding": { "create": { "parameters": schema } } });
    let Shop { broker, instance, space } = shop_of(&world, offer).await;
    let app = app(&world, &space, "dora").await;
    for wrong in [json!({ "role": "hunter2" }), json!({ "other": 1 })] {
        let told = world.post("dev", BINDINGS, with(to_app(&instance, &app), json!({ "parameters": wrong }))).await.detail(422);
        assert!(told.contains("schema") && told.contains("small") && !told.contains("hunter2"), "{told}");
    }
    assert!(broker.seen().is_empty());
    let right = with(to_app(&instance, &app), json!({ "parameters": { "role": "reader" } }));
    done(&world, world.post("dev", BINDINGS, right).await).await;
}

async fn keys_have_names_and_a_quota(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let answered = world.post("dev", BINDINGS, with(key(&instance, "mykey"), json!({ "parameters": { "a": 1 } }))).await;
    let job = ended(&world, answered).await;
    complete(&job);
    assert_eq!(job["operation"], "service_keys.create");
    let found = world.get("dev", &format!("{BINDINGS}?type=key&names=mykey&per_page=1&page=1")).await.expect(200);
    let guid = found["resources"][0]["guid"].as_str().unwrap().to_owned();
    assert!(found["resources"][0]["relationships"].get("app").is_none());
    assert!(broker.seen_with("PUT")[0].body.get("app_guid").is_none());
    let details = world.get("dev", &format!("{BINDINGS}/{guid}/details")).await.expect(200);
    assert_eq!(details["credentials"]["password"], json!(guid));
    let taken = "The binding name is invalid. Key binding names must be unique. The service instance already has a key binding with name 'mykey'.";
    assert_eq!(world.post("dev", BINDINGS, key(&instance, "mykey")).await.detail(422), taken);
    let quota = json!({ "name": "q", "services": { "total_service_keys": 1 }, "relationships": { "organization": { "data": { "guid": org_of(&world, &space).await } }, "spaces": { "data": [{ "guid": space }] } } });
    world.post("admin", "/v3/space_quotas", quota).await.expect(201);
    assert_eq!(
        world.post("dev", BINDINGS, key(&instance, "second")).await.detail(422),
        "You have exceeded your space's limit for service binding of type key."
    );
    done(&world, world.delete("dev", &format!("{BINDINGS}/{guid}")).await).await;
    done(&world, world.post("dev", BINDINGS, key(&instance, "second")).await).await;
    assert_eq!(events(&world, &guid).await, ["audit.service_key.create", "audit.service_key.delete", "audit.service_key.show"]);
}

async fn org_of(world: &World, space: &str) -> String {
    let space = world.get("admin", &format!("/v3/spaces/{space}")).await.expect(200);
    space["relationships"]["organization"]["data"]["guid"].as_str().unwrap().to_owned()
}

async fn route(world: &World, space: &str, app: &str, host: &str) -> String {
    let domains = world.get("admin", "/v3/domains").await.expect(200);
    let domain = domains["resources"].as_array().unwrap().iter().find(|domain| domain["internal"] == false).unwrap();
    let relationships = json!({ "space": { "data": { "guid": space } }, "domain": { "data": { "guid": domain["guid"] } } });
    let made = world.post("dev", "/v3/routes", json!({ "host": host, "relationships": relationships })).await.expect(201);
    let guid = made["guid"].as_str().unwrap().to_owned();
    let body = json!({ "destinations": [{ "app": { "guid": app } }] });
    world.post("dev", &format!("/v3/routes/{guid}/destinations"), body).await.expect(200);
    guid
}

fn to_route(instance: &str, route: &str) -> Value {
    json!({ "relationships": { "service_instance": { "data": { "guid": instance } }, "route": { "data": { "guid": route } } } })
}

/// The route service that DEAs are told of the first route of an app.
async fn told_of_route(world: &World, app: &str) -> Option<String> {
    let version = process(world, app).await.version;
    let answer = world.internal("dea").routes(&[version]).await.unwrap();
    answer.routes[&version][0].route_service_url.clone()
}

async fn a_route_goes_through_its_service(world: World) {
    let mut router = offering("waf");
    router["requires"] = json!(["route_forwarding"]);
    let Shop { broker, space, .. } = shop_of(&world, json!({ "services": [offering("db"), router] })).await;
    let plan = guid_of(&world, "/v3/service_plans?names=small&service_offering_names=db").await;
    let db = instance_of(&world, &space, "other", &plan).await;
    let plan = guid_of(&world, "/v3/service_plans?names=small&service_offering_names=waf").await;
    let waf = instance_of(&world, &space, "mywaf", &plan).await;
    let app = running(&world, &space, "dora").await;
    let route = route(&world, &space, &app, "dora").await;
    assert_eq!(told_of_route(&world, &app).await, None);
    broker.forget_seen();
    let url = "https://waf.example.com/in";
    broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(201, json!({ "route_service_url": url })));
    let answered = world.post("dev", ROUTE_BINDINGS, to_route(&waf, &route)).await;
    let job = ended(&world, answered).await;
    complete(&job);
    assert_eq!(job["operation"], "service_route_bindings.create");
    assert_eq!(broker.seen_with("PUT")[0].body["bind_resource"], json!({ "route": "dora.app.test" }));
    assert_eq!(told_of_route(&world, &app).await.as_deref(), Some(url));
    let found =
        world.get("dev", &format!("{ROUTE_BINDINGS}?include=service_instance,route&route_guids={route}")).await.expect(200);
    let binding = found["resources"][0]["guid"].as_str().unwrap().to_owned();
    assert_eq!(
        (&found["resources"][0]["route_service_url"], &found["included"]["service_instances"][0]["name"]),
        (&json!(url), &json!("mywaf"))
    );
    assert_eq!(found["included"]["routes"][0]["host"], "dora");
    let routes = world.get("dev", &format!("/v3/routes?service_instance_guids={waf}")).await.expect(200);
    assert_eq!(routes["resources"][0]["guid"], json!(route));

    let again = world.post("dev", ROUTE_BINDINGS, to_route(&waf, &route)).await;
    assert_eq!(
        (again.body["errors"][0]["code"].clone(), again.body["errors"][0]["title"].clone()),
        (json!(130008), json!("CF-ServiceInstanceAlreadyBoundToSameRoute"))
    );
    assert_eq!(again.detail(422), "The route and service instance are already bound.");
    let ups = user_provided(&world, &space, "ups", json!({ "route_service_url": "https://ups.example.com" })).await;
    let plain = user_provided(&world, &space, "plain", json!({})).await;
    let refusals = [
        (to_route(&ups, &route), "A route may only be bound to a single service instance"),
        (to_route(&plain, &route), "This service instance does not support route binding"),
        (to_route(&db, &route), "This service instance does not support route binding"),
        (to_route("nope", &route), "The service instance could not be found: nope"),
        (to_route(&waf, "nope"), "The route could not be found: nope"),
    ];
    for (body, text) in refusals {
        assert_eq!(world.post("dev", ROUTE_BINDINGS, body).await.detail(422), text);
    }
    done(&world, world.delete("dev", &format!("{ROUTE_BINDINGS}/{binding}")).await).await;
    assert_eq!(told_of_route(&world, &app).await, None);
    // A user-provided one is there at once, and follows its instance.
    let made = world.post("dev", ROUTE_BINDINGS, to_route(&ups, &route)).await.expect(201);
    assert_eq!(made["route_service_url"], "https://ups.example.com");
    let changed = json!({ "route_service_url": "https://new.example.com" });
    world.patch("dev", &format!("/v3/service_instances/{ups}"), changed).await.expect(200);
    assert_eq!(told_of_route(&world, &app).await.as_deref(), Some("https://new.example.com"));
    assert_eq!(world.delete("dev", &format!("{ROUTE_BINDINGS}/{}", made["guid"].as_str().unwrap())).await.status, 204);
    assert_eq!(told_of_route(&world, &app).await, None);
}

async fn deleting_a_route_unbinds_its_service_first(world: World) {
    let mut router = offering("waf");
    router["requires"] = json!(["route_forwarding"]);
    let Shop { broker, space, instance } = shop_of(&world, json!({ "services": [router] })).await;
    let app = app(&world, &space, "dora").await;
    let route = route(&world, &space, &app, "dora").await;
    done(&world, world.post("dev", ROUTE_BINDINGS, to_route(&instance, &route)).await).await;
    assert_eq!(broker.bindings().len(), 1);
    broker.script(Script::next("DELETE", "service_bindings").answers(500, json!({ "description": "not now" })));
    let told = failure(&world, world.delete("dev", &format!("/v3/routes/{route}")).await).await;
    assert!(told.contains("not now"), "{told}");
    world.get("dev", &format!("/v3/routes/{route}")).await.expect(200);
    done(&world, world.delete("dev", &format!("/v3/routes/{route}")).await).await;
    assert!(broker.bindings().is_empty());
    assert_eq!(world.get("dev", &format!("/v3/routes/{route}")).await.status, 404);
}

async fn deleting_an_app_unbinds_it_first(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    let ups = user_provided(&world, &space, "ups", json!({})).await;
    world.post("dev", BINDINGS, to_app(&ups, &app)).await.expect(201);
    bind(&world, &instance, &app).await;
    broker.script(Script::next("DELETE", "service_bindings").answers(500, json!({ "description": "not now" })));
    let told = failure(&world, world.delete("dev", &format!("/v3/apps/{app}")).await).await;
    assert!(told.contains("not now") && told.contains("could not be deleted"), "{told}");
    world.get("dev", &format!("/v3/apps/{app}")).await.expect(200);
    broker.set_polls(Some(1));
    let answered = world.delete("dev", &format!("/v3/apps/{app}")).await;
    let job = ended(&world, answered).await;
    complete(&job);
    assert_eq!(job["operation"], "app.delete");
    assert!(broker.bindings().is_empty());
    assert_eq!(world.get("dev", &format!("/v3/apps/{app}")).await.status, 404);
    assert_eq!(world.get("dev", BINDINGS).await.expect(200)["pagination"]["total_results"], 0);
}

fn manifest(services: &str) -> String {
    format!("applications:\n- name: dora\n  no-route: true\n  services: {services}\n")
}

async fn applied(world: &World, space: &str, services: &str) -> Answered {
    yaml(world, "dev", &format!("/v3/spaces/{space}/actions/apply_manifest"), &manifest(services)).await
}

async fn a_manifest_binds_its_services(world: World) {
    let Shop { broker, space, .. } = shop(&world).await;
    new_instance(&world, &space, "slow", "small").await;
    user_provided(&world, &space, "ups", json!({})).await;
    broker.forget_seen();
    let services = "[mydb, ups, {name: slow, binding_name: queue, parameters: {a: 1}}]";
    let path = format!("/v3/spaces/{space}/manifest_diff");
    let told = yaml(&world, "dev", &path, &manifest(services)).await.expect(201);
    assert!(told["diff"].as_array().unwrap().iter().any(|d| d["path"] == "/applications/0/services"), "{told}");
    done(&world, applied(&world, &space, services).await).await;
    let app = guid_of(&world, "/v3/apps?names=dora").await;
    let told = vcap(&world, &app).await;
    assert_eq!((told["db"].as_array().unwrap().len(), told["user-provided"].as_array().unwrap().len()), (2, 1));
    let sent = broker.seen_with("PUT");
    assert!(sent.iter().all(|seen| !seen.query.contains("accepts_incomplete=true")), "at once first: {sent:?}");
    assert!(sent.iter().any(|seen| seen.body["parameters"] == json!({ "a": 1 })));
    // What is bound stays bound, and is no difference.
    broker.forget_seen();
    done(&world, applied(&world, &space, services).await).await;
    assert!(broker.seen_with("PUT").is_empty());
    let told = yaml(&world, "dev", &path, &manifest(services)).await.expect(201);
    assert!(!told.to_string().contains("services"), "{told}");
    let shown = world.get("dev", &format!("/v3/apps/{app}/manifest")).await.expect(200);
    let text = shown.as_str().unwrap();
    assert!(text.contains("services:") && text.contains("- mydb") && text.contains("binding_name: queue"), "{text}");
    // As it is shown, it can be applied again.
    done(&world, yaml(&world, "dev", &format!("/v3/spaces/{space}/actions/apply_manifest"), text).await).await;
}

async fn a_manifest_waits_for_a_broker_that_cannot_do_it_at_once(world: World) {
    let Shop { broker, space, .. } = shop(&world).await;
    let required = json!({ "error": "AsyncRequired", "description": "I take my time" });
    broker.script(Script::next("PUT", "service_bindings").answers(422, required));
    broker.set_polls(Some(2));
    done(&world, applied(&world, &space, "[mydb]").await).await;
    let sent = broker.seen_with("PUT");
    assert_eq!(sent.iter().map(|seen| seen.query.contains("accepts_incomplete=true")).collect::<Vec<_>>(), [false, true]);
    let app = guid_of(&world, "/v3/apps?names=dora").await;
    assert_eq!(vcap(&world, &app).await["db"].as_array().unwrap().len(), 1);
}

async fn what_a_manifest_cannot_bind_names_app_and_service(world: World) {
    let Shop { broker, space, .. } = shop(&world).await;
    let told = failure(&world, applied(&world, &space, "[nodb]").await).await;
    assert_eq!(told, "For application 'dora': Service instance 'nodb' not found");
    broker.script(Script::next("PUT", "service_bindings").answers(500, json!({ "description": "on fire" })));
    let told = failure(&world, applied(&world, &space, "[mydb]").await).await;
    assert!(told.starts_with("For application 'dora': For service 'mydb': ") && told.contains("on fire"), "{told}");
    broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(202, json!({ "operation": "x" })));
    broker.script(Script::next("GET", "last_operation").always().answers(200, json!({ "state": "in progress" })));
    let told = failure(&world, applied(&world, &space, "[mydb]").await).await;
    let expected = "The service broker responded asynchronously when a synchronous bind was requested.";
    assert!(told.starts_with(&format!("For application 'dora': For service 'mydb': {expected}")), "{told}");
    let broken = [
        "x",
        "[{name: mydb, parameters: 5}]",
        "[{name: mydb, binding_name: 'a b'}]",
        "[mydb, mydb]",
        "[{parameters: {}}]",
        "[{name: mydb, colour: red}]",
    ];
    for services in broken {
        assert_eq!(applied(&world, &space, services).await.status, 422, "{services}");
    }
}

async fn what_operators_brokers_say_opens_ways_and_closes_them(world: World) {
    let Shop { broker, instance, space } = shop(&world).await;
    let answer = json!({ "credentials": { "uri": "postgres://u:p@10.20.0.5/x" },
        "endpoints": [{ "host": "10.20.0.5", "ports": ["5432"] }, { "host": "127.0.0.1", "ports": ["1-9"] }, { "host": "db.x", "ports": ["1"] }] });
    broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(201, answer));
    let app = running(&world, &space, "dora").await;
    let binding = bind(&world, &instance, &app).await;
    let version = process(&world, &app).await.version;
    let dea = world.internal("dea");
    let shown = |egress: &[cloud_controller_client::Egress]| -> Vec<String> {
        egress.iter().map(|e| format!("{}:{}-{} {:?}", e.address, e.first_port, e.last_port, e.protocol)).collect()
    };
    let expected = ["10.20.0.5:5432-5432 Tcp"];
    assert_eq!(shown(&dea.launch_spec(version).await.unwrap().egress), expected);
    assert_eq!(shown(&dea.routes(&[version]).await.unwrap().egress[&version]), expected);
    // Its environment is from before the binding: it was not restarted.
    assert_eq!(dea.launch_spec(version).await.unwrap().env["VCAP_SERVICES"], "{}");
    world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
    let version = process(&world, &app).await.version;
    let spec = dea.launch_spec(version).await.unwrap();
    assert_eq!(spec.env["DATABASE_URL"], "postgres://u:p@10.20.0.5/x");
    assert!(spec.env["VCAP_SERVICES"].contains(&binding) && spec.binding_files.is_empty());
    let build = build(&world, &package(&world, &app).await).await;
    let staging = stage(&world, &build, &[("web", "./run")]).await;
    assert_eq!(
        (shown(&staging.egress), staging.env["DATABASE_URL"].as_str()),
        (expected.map(str::to_owned).to_vec(), "postgres://u:p@10.20.0.5/x")
    );
    done(&world, world.delete("dev", &format!("{BINDINGS}/{binding}")).await).await;
    assert!(dea.routes(&[version]).await.unwrap().egress[&version].is_empty());
    assert!(
        dea.launch_spec(version).await.unwrap().env["VCAP_SERVICES"].contains(&binding),
        "running instances keep what they have"
    );
}

async fn brokers_of_spaces_open_nothing(world: World) {
    let space = space(&world).await;
    let broker = broker(&world, "mine", catalog("own"), Some(&space)).await;
    let instance = new_instance(&world, &space, "mydb", "small").await;
    let app = running(&world, &space, "dora").await;
    let answer = json!({ "credentials": {}, "endpoints": [{ "host": "10.20.0.5", "ports": ["5432"] }] });
    broker.script(Script::next("PUT", "service_bindings").but_does_it().answers(201, answer));
    bind(&world, &instance, &app).await;
    let version = process(&world, &app).await.version;
    assert!(world.internal("dea").launch_spec(version).await.unwrap().egress.is_empty());
}

async fn apps_that_ask_for_it_find_their_bindings_in_files(world: World) {
    let Shop { instance, space, broker: _broker } = shop(&world).await;
    let app = app(&world, &space, "dora").await;
    bind(&world, &instance, &app).await;
    let feature = async |name: &str, on: bool| {
        world.patch("dev", &format!("/v3/apps/{app}/features/{name}"), json!({ "enabled": on })).await
    };
    feature("service-binding-k8s", true).await.expect(200);
    assert_eq!(
        feature("file-based-vcap-services", true).await.detail(422),
        "'file-based-vcap-services' and 'service-binding-k8s' features cannot be enabled at the same time."
    );
    restage(&world, &app).await;
    world.post("dev", &format!("/v3/apps/{app}/actions/start"), json!({})).await.expect(200);
    let spec = || async { world.internal("dea").launch_spec(process(&world, &app).await.version).await.unwrap() };
    let told = spec().await;
    assert_eq!((told.env.get("VCAP_SERVICES"), told.env["SERVICE_BINDING_ROOT"].as_str()), (None, "/etc/cf-service-bindings"));
    assert_eq!((told.binding_files["mydb/type"].as_str(), told.binding_files["mydb/username"].as_str()), ("db", "user"));
    let shown = world.get("dev", &format!("/v3/apps/{app}/env")).await.expect(200);
    assert_eq!(shown["system_env_json"], json!({ "SERVICE_BINDING_ROOT": "/etc/cf-service-bindings" }));
    feature("service-binding-k8s", false).await.expect(200);
    feature("file-based-vcap-services", true).await.expect(200);
    world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.expect(200);
    let told = spec().await;
    assert_eq!(told.env["VCAP_SERVICES_FILE_PATH"], "/etc/cf-service-bindings/vcap_services");
    let file: Value = serde_json::from_str(&told.binding_files["vcap_services"]).unwrap();
    assert_eq!(file["db"][0]["instance_name"], "mydb");
    // A name that cannot be a folder is told when the app is started.
    let ups = user_provided(&world, &space, "Upper_Case", json!({})).await;
    world.post("dev", BINDINGS, to_app(&ups, &app)).await.expect(201);
    feature("file-based-vcap-services", false).await.expect(200);
    feature("service-binding-k8s", true).await.expect(200);
    let told = world.post("dev", &format!("/v3/apps/{app}/actions/restart"), json!({})).await.detail(422);
    assert!(told.starts_with("Invalid binding name: 'Upper_Case'."), "{told}");
}

super::scenarios! {
    an_app_is_bound_told_and_unbound,
    what_stands_against_a_binding_is_said_in_the_words_of_the_contract,
    roles_decide_who_binds_and_who_reads_what,
    user_provided_instances_are_bound_at_once,
    several_bindings_of_one_app_rotate,
    names_of_bindings_are_unique_in_an_app,
    a_broker_that_takes_its_time_is_polled_and_the_result_fetched,
    what_the_broker_says_reaches_the_user_and_a_failed_binding_can_be_made_again,
    what_a_broker_may_not_hand_over_is_refused_and_cleaned_up,
    volumes_are_kept_and_shown_and_whoever_starts_an_app_is_told_that_they_are_not_mounted,
    parameters_are_checked_before_the_broker_is_asked,
    keys_have_names_and_a_quota,
    a_route_goes_through_its_service,
    deleting_a_route_unbinds_its_service_first,
    deleting_an_app_unbinds_it_first,
    a_manifest_binds_its_services,
    a_manifest_waits_for_a_broker_that_cannot_do_it_at_once,
    what_a_manifest_cannot_bind_names_app_and_service,
    what_operators_brokers_say_opens_ways_and_closes_them,
    brokers_of_spaces_open_nothing,
    apps_that_ask_for_it_find_their_bindings_in_files,
}
