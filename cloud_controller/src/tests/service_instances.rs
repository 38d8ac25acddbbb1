//! Service instances against a broker on a real socket.

use super::{
    World,
    harness::Answered,
    marketplace::{Market, drain, named, settle, settle_job, tick, under_way},
    tenancy::{org, role, space},
};
use crate::domain::{
    Tx,
    services::operations::{self, Taken},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::broker::{self, Broker, Script};

async fn an_instance_lives_from_its_creation_to_its_deletion(world: World) {
    let market = Market::open(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    let mut body = market.body("mydb", "small");
    body["parameters"] = json!({ "size": 7 });
    body["tags"] = json!(["sql"]);
    body["metadata"] = json!({ "labels": { "env": "prod" }, "annotations": { "example.com/team": "a", "private": "b" } });
    let answered = world.post("dev", "/v3/service_instances", body).await;
    // The broker is quick: the job has ended with the first answer.
    let job = world.job(answered).await;
    assert_eq!((&job["state"], &job["operation"]), (&json!("COMPLETE"), &json!("service_instance.create")), "{job}");
    let shown = named(&world, "mydb").await;
    let guid = shown["guid"].as_str().unwrap();
    assert_eq!(shown["last_operation"]["type"], "create");
    assert_eq!(shown["last_operation"]["state"], "succeeded");
    assert_eq!(shown["dashboard_url"], format!("https://dashboard.test/{guid}"));
    assert_eq!(shown["tags"], json!(["sql"]));
    assert_eq!(shown["upgrade_available"], false);
    let sent = market.broker.seen_with("PUT").pop().unwrap();
    assert_eq!(sent.body["parameters"], json!({ "size": 7 }));
    assert_eq!(sent.body["context"]["instance_name"], "mydb");
    assert_eq!(sent.body["context"]["instance_annotations"], json!({ "example.com/team": "a" }));
    assert_eq!((&sent.body["service_id"], &sent.body["plan_id"]), (&json!("db-id"), &json!("db-small-id")));
    assert_eq!(sent.query, "accepts_incomplete=true");
    assert_eq!(sent.headers["x-broker-api-request-identity"], job["guid"].as_str().unwrap());
    assert!(sent.headers["x-broker-api-originating-identity"].starts_with("cloudfoundry "));

    let path = format!("/v3/service_instances/{guid}");
    assert_eq!(world.get("dev", &format!("{path}/parameters")).await.expect(200), json!({ "size": 7 }));
    assert_eq!(world.get("dev", &format!("{path}/permissions")).await.expect(200), json!({ "manage": true, "read": true }));
    assert_eq!(world.get("nobody", &format!("{path}/permissions")).await.expect(200), json!({ "manage": false, "read": false }));
    assert_eq!(world.get("nobody", &path).await.detail(404), "Service instance not found");

    // A name that the broker is not told of changes at once, a plan does not.
    assert_eq!(world.patch("dev", &path, json!({ "name": "ourdb" })).await.expect(200)["name"], "ourdb");
    let plan = json!({ "relationships": { "service_plan": { "data": { "guid": market.plans["large"] } } } });
    let job = settle(&world, world.patch("dev", &path, plan).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let sent = market.broker.seen_with("PATCH").pop().unwrap();
    assert_eq!((&sent.body["plan_id"], &sent.body["previous_values"]["plan_id"]), (&json!("db-large-id"), &json!("db-small-id")));
    let shown = world.get("dev", &path).await.expect(200);
    assert_eq!(shown["relationships"]["service_plan"]["data"]["guid"], market.plans["large"].as_str());

    let job = settle(&world, world.delete("dev", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.instances().is_empty());
    assert_eq!(world.get("dev", &path).await.status, 404);
    let events = world.get("admin", "/v3/audit_events?per_page=500").await.expect(200);
    let kinds: Vec<&str> = events["resources"].as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect();
    for kind in ["audit.service_instance.create", "audit.service_instance.update", "audit.service_instance.delete"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let of_create =
        events["resources"].as_array().unwrap().iter().find(|e| e["type"] == "audit.service_instance.create").unwrap();
    assert_eq!(of_create["actor"]["name"], "dev@cf.test");
    assert_eq!(of_create["data"]["request"]["parameters"], "[PRIVATE DATA HIDDEN]");
}

async fn a_broker_that_takes_its_time_is_asked_until_it_is_done(world: World) {
    let market = Market::open(&world).await;
    market.broker.set_polls(Some(2));
    let answered = market.ask(&world, "slow").await;
    let location = answered.headers["Location"].to_str().unwrap().to_owned();
    assert_eq!(world.get("admin", &location).await.expect(200)["state"], "POLLING");
    let shown = named(&world, "slow").await;
    assert_eq!(shown["last_operation"]["state"], "in progress");
    let path = format!("/v3/service_instances/{}", shown["guid"].as_str().unwrap());
    // The dashboard is there from the first answer on.
    assert!(shown["dashboard_url"].is_string());
    let refused = world.patch("admin", &path, json!({ "name": "other" })).await;
    assert_eq!(refused.detail(409), "An operation for service instance slow is in progress.");
    world.patch("admin", &path, json!({ "metadata": { "labels": { "a": "b" } } })).await.expect(200);
    tick(&world, Duration::from_secs(1)).await;
    let job = settle_job(&world, &location).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!(shown["last_operation"]["state"], "succeeded");
    assert!(shown["dashboard_url"].as_str().unwrap().ends_with("/now"), "fetched after the end");
    let polls = market.broker.seen_with("last_operation");
    assert_eq!(polls.len(), 3);
    assert!(polls.iter().all(|poll| poll.query.contains("operation=making%20it") && poll.query.contains("plan_id=db-small-id")));

    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.instances().is_empty());
}

async fn what_the_broker_says_reaches_the_user_and_leftovers_are_removed(world: World) {
    let market = Market::open(&world).await;
    market.broker.script(
        Script::next("PUT", "/v2/service_instances/").answers(500, json!({ "description": "the disk is full" })).but_does_it(),
    );
    let job = settle(&world, market.ask(&world, "broken").await).await;
    assert_eq!(job["state"], "FAILED");
    assert_eq!(job["errors"][0]["code"], 10009);
    assert_eq!(job["errors"][0]["title"], "CF-UnableToPerform");
    let detail = job["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("provision could not be completed: Service broker error: the disk is full"), "{detail}");
    for part in ["'the-broker'", "'small'", "500", job["guid"].as_str().unwrap()] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    let shown = named(&world, "broken").await;
    assert_eq!(shown["last_operation"]["state"], "failed");
    let path = format!("/v3/service_instances/{}", shown["guid"].as_str().unwrap());
    assert_eq!(world.patch("admin", &path, json!({ "name": "other" })).await.status, 404);
    assert_eq!(world.get("admin", &format!("{path}/parameters")).await.status, 404);
    drain(&world).await;
    assert!(market.broker.instances().is_empty(), "what was left over is gone");
    // The same name can be used again.
    let again = market.instance(&world, "broken").await;
    assert_ne!(again, shown["guid"]);
    assert_eq!(world.get("admin", &path).await.status, 404);
}

async fn an_orphan_is_deleted_when_its_broker_is_back(world: World) {
    let market = Market::open(&world).await;
    market.broker.script(Script::next("PUT", "/v2/service_instances/").closes().but_does_it());
    market.broker.script(Script::next("DELETE", "/v2/service_instances/").answers(503, json!({})).times(3));
    let job = settle(&world, market.ask(&world, "lost").await).await;
    assert_eq!(job["state"], "FAILED");
    for minutes in [2_u64, 4, 8] {
        for _ in 0..200 {
            if market.broker.seen_with("DELETE").len() as u64 > u64::from(minutes.ilog2()) - 1 {
                break;
            }
            tick(&world, Duration::ZERO).await;
        }
        assert_eq!(market.broker.instances().len(), 1);
        tick(&world, Duration::from_secs(minutes * 60)).await;
    }
    drain(&world).await;
    assert!(market.broker.instances().is_empty());
    assert_eq!(market.broker.seen_with("DELETE").len(), 4);
}

async fn a_failed_operation_leaves_the_instance_for_somebody_to_look_at(world: World) {
    let market = Market::open(&world).await;
    market.broker.set_polls(Some(1));
    let failed = json!({ "state": "failed", "description": "no quota left at the provider" });
    market.broker.script(Script::next("GET", "last_operation").answers(200, failed));
    let job = settle(&world, market.ask(&world, "mydb").await).await;
    let detail = job["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("create could not be completed: no quota left at the provider"), "{detail}");
    let shown = named(&world, "mydb").await;
    assert_eq!(shown["last_operation"]["description"], "no quota left at the provider");
    assert!(under_way(&world).await.is_empty());
    assert_eq!(market.broker.instances().len(), 1);
    // Deleting it is the way out.
    let path = format!("/v3/service_instances/{}", shown["guid"].as_str().unwrap());
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.instances().is_empty());
}

async fn an_operation_that_never_ends_fails_in_its_time(world: World) {
    let broker = Broker::start().await;
    let mut catalog = broker::catalog("db");
    catalog["services"][0]["plans"][0]["maximum_polling_duration"] = 600.into();
    broker.set_catalog(catalog);
    let market = Market::with(&world, broker).await;
    market.broker.set_polls(Some(0));
    market.broker.script(Script::next("GET", "last_operation").answers(200, json!({ "state": "in progress" })).always());
    let job = settle(&world, market.ask(&world, "endless").await).await;
    assert_eq!(job["errors"][0]["code"], 290006, "{job}");
    let shown = named(&world, "endless").await;
    let why = "Service Broker failed to provision within the required time.";
    assert_eq!((&shown["last_operation"]["state"], &shown["last_operation"]["description"]), (&json!("failed"), &json!(why)));
    market.broker.clear_scripts();
    drain(&world).await;
    assert!(market.broker.instances().is_empty());
}

async fn the_operator_says_how_long_brokers_may_work_and_plans_may_say_less(mut world: World) {
    let broker = Broker::start().await;
    let mut catalog = broker::catalog("db");
    catalog["services"][0]["plans"][0]["maximum_polling_duration"] = 600.into();
    catalog["services"][0]["plans"][1]["maximum_polling_duration"] = 86_400.into();
    broker.set_catalog(catalog);
    let market = Market::with(&world, broker).await;
    world.restart_with(|config| config.broker_max_polling = Duration::from_secs(3_600)).await;
    market.broker.set_polls(Some(0));
    market.broker.script(Script::next("GET", "last_operation").answers(200, json!({ "state": "in progress" })).always());
    for (plan, most) in [("small", 600), ("large", 3_600)] {
        let answered = world.post("admin", "/v3/service_instances", market.body(plan, plan)).await;
        let location = answered.headers["Location"].to_str().unwrap().to_owned();
        let mut waited = 0;
        while world.get("admin", &location).await.expect(200)["state"] != "FAILED" {
            tick(&world, Duration::from_secs(20)).await;
            waited += 20;
        }
        // The last poll that could still be in time is at most a minute before the end.
        assert!((most - 80..=most + 80).contains(&waited), "{plan}: {waited} s");
    }
    market.broker.clear_scripts();
    drain(&world).await;
    assert!(market.broker.instances().is_empty());
}

async fn retry_after_is_obeyed(world: World) {
    let market = Market::open(&world).await;
    market.broker.set_polls(Some(1));
    let body = json!({ "state": "in progress" }).to_string();
    market.broker.script(Script::next("GET", "last_operation").says(200, &[("Retry-After", "300")], body.as_bytes()));
    let answered = market.ask(&world, "mydb").await;
    tick(&world, Duration::from_secs(1)).await;
    let polls = || market.broker.seen_with("last_operation").len();
    for _ in 0..100 {
        if polls() > 0 {
            break;
        }
        tick(&world, Duration::ZERO).await;
    }
    for _ in 0..10 {
        tick(&world, Duration::from_secs(20)).await;
    }
    assert_eq!(polls(), 1);
    tick(&world, Duration::from_secs(101)).await;
    assert_eq!(settle(&world, answered).await["state"], "COMPLETE");
}

async fn parameters_that_break_the_plans_schema_never_reach_the_broker(world: World) {
    let broker = Broker::start().await;
    let mut catalog = broker::catalog("db");
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": false,
        "properties": { "size": { "type": "integer", "maximum": 10 } },
    });
    let of_plan = json!({ "service_instance": { "create": { "parameters": schema }, "update": { "parameters": schema } } });
    catalog["services"][0]["plans"][0]["schemas"] = of_plan;
    broker.set_catalog(catalog);
    let market = Market::with(&world, broker).await;
    let mut body = market.body("mydb", "small");
    body["parameters"] = json!({ "size": 70_707, "colour": "red" });
    let detail = world.post("admin", "/v3/service_instances", body.clone()).await.detail(422);
    assert!(detail.starts_with("The parameters do not match the schema of plan 'small' of service offering 'db': "), "{detail}");
    assert!(detail.contains("/size") && detail.contains("10") && !detail.contains("70707"), "{detail}");
    assert!(market.broker.seen().is_empty());
    body["parameters"] = json!({ "size": 7 });
    let job = settle(&world, world.post("admin", "/v3/service_instances", body).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let path = format!("/v3/service_instances/{}", named(&world, "mydb").await["guid"].as_str().unwrap());
    assert!(world.patch("admin", &path, json!({ "parameters": { "size": "x" } })).await.detail(422).contains("/size"));
}

async fn quotas_and_flags_bound_instances(world: World) {
    let market = Market::open(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    let quota = json!({
        "name": "tight",
        "services": { "total_service_instances": 1, "paid_services_allowed": false },
        "relationships": { "organizations": { "data": [{ "guid": market.org }] } },
    });
    world.post("admin", "/v3/organization_quotas", quota).await.expect(201);
    let paid = world.post("dev", "/v3/service_instances", market.body("large", "large")).await;
    let text = "The service instance cannot be created because paid service plans are not allowed.";
    assert_eq!(paid.detail(422), text);
    let one = market.instance(&world, "one").await;
    let two = world.post("dev", "/v3/service_instances", market.body("two", "small")).await;
    assert_eq!(two.detail(422), "You have exceeded your organization's services limit.");
    let move_up = json!({ "relationships": { "service_plan": { "data": { "guid": market.plans["large"] } } } });
    assert_eq!(world.patch("dev", &format!("/v3/service_instances/{one}"), move_up).await.detail(422), text);
    world.patch("admin", "/v3/feature_flags/service_instance_creation", json!({ "enabled": false })).await.expect(200);
    let off = world.post("dev", "/v3/service_instances", market.body("three", "small")).await;
    assert_eq!(off.detail(403), "Feature Disabled: service_instance_creation");
}

async fn plans_that_may_not_be_used_here_are_refused_in_the_contracts_words(world: World) {
    let market = Market::open(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    let create = async |user: &str| world.post(user, "/v3/service_instances", market.body("mydb", "small")).await;
    let path = format!("/v3/service_plans/{}/visibility", market.plans["small"]);
    world.patch("admin", &path, json!({ "type": "admin" })).await.expect(200);
    let unusable = "Invalid service plan. Ensure that the service plan exists, is available, and you have access to it.";
    assert_eq!(create("dev").await.detail(422), unusable);
    let detail = create("admin").await.detail(422);
    assert!(detail.starts_with("Invalid service plan. This could be due to a space-scoped broker"), "{detail}");
    assert_eq!(create("nobody").await.detail(422), "Invalid space. Ensure that the space exists and you have access to it.");
    let mut body = market.body("mydb", "small");
    body["type"] = "other".into();
    assert_eq!(
        world.post("dev", "/v3/service_instances", body).await.detail(422),
        "Type must be one of 'managed', 'user-provided'"
    );
}

async fn versions_of_plans_are_reached_by_upgrades(world: World) {
    let broker = Broker::start().await;
    let mut catalog = broker::catalog("db");
    catalog["services"][0]["plans"][0]["maintenance_info"] = json!({ "version": "1.0.0" });
    broker.set_catalog(catalog.clone());
    let market = Market::with(&world, broker).await;
    let guid = market.instance(&world, "mydb").await;
    assert_eq!(market.broker.instance(&guid).unwrap()["maintenance_info"], json!({ "version": "1.0.0" }));
    catalog["services"][0]["plans"][0]["maintenance_info"] = json!({ "version": "2.0.0", "description": "faster" });
    market.broker.set_catalog(catalog);
    let brokers = world.get("admin", "/v3/service_brokers").await.expect(200);
    let path = format!("/v3/service_brokers/{}", brokers["resources"][0]["guid"].as_str().unwrap());
    let credentials = json!({ "type": "basic", "credentials": { "username": "cloud", "password": "secret" } });
    settle(&world, world.patch("admin", &path, json!({ "authentication": credentials })).await).await;
    let path = format!("/v3/service_instances/{guid}");
    assert_eq!(world.get("admin", &path).await.expect(200)["upgrade_available"], true);
    let to = |version: &str| json!({ "maintenance_info": { "version": version } });
    assert!(
        world.patch("admin", &path, to("3.0.0")).await.detail(422).starts_with("maintenance_info.version requested is invalid.")
    );
    let job = settle(&world, world.patch("admin", &path, to("2.0.0")).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!(shown["upgrade_available"], false);
    assert_eq!(shown["maintenance_info"], json!({ "version": "2.0.0", "description": "faster" }));
}

async fn an_instance_that_does_not_work_any_more_is_noted(world: World) {
    let market = Market::open(&world).await;
    let guid = market.instance(&world, "mydb").await;
    let broken = json!({ "description": "half of it moved", "instance_usable": false });
    market.broker.script(Script::next("PATCH", &guid).answers(400, broken));
    let path = format!("/v3/service_instances/{guid}");
    let job = settle(&world, world.patch("admin", &path, json!({ "parameters": {} })).await).await;
    assert!(job["errors"][0]["detail"].as_str().unwrap().contains("half of it moved"), "{job}");
    assert_eq!(market.ask_key(&world, &guid, "k").await.status, 422);
    settle(&world, world.patch("admin", &path, json!({ "parameters": {} })).await).await;
    let job = settle(&world, market.ask_key(&world, &guid, "k").await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
}

async fn user_provided_instances_are_kept_here_only(world: World) {
    let market = Market::open(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    role(&world, "auditor", "space_auditor", &market.space).await;
    let body = json!({
        "type": "user-provided",
        "name": "ours",
        "credentials": { "password": "s3cret" },
        "syslog_drain_url": "syslog://logs.test:514",
        "relationships": { "space": { "data": { "guid": market.space } } },
    });
    let mut wrong = body.clone();
    wrong["route_service_url"] = "http://insecure.test".into();
    let refused = world.post("dev", "/v3/service_instances", wrong).await;
    assert_eq!(refused.detail(422), "Route service url must be https");
    let shown = world.post("dev", "/v3/service_instances", body.clone()).await.expect(201);
    assert_eq!(shown["last_operation"]["state"], "succeeded");
    assert!(!shown.to_string().contains("s3cret"));
    let again = world.post("dev", "/v3/service_instances", body).await;
    assert_eq!(again.detail(422), "The service instance name is taken: ours.");
    let path = format!("/v3/service_instances/{}", shown["guid"].as_str().unwrap());
    assert_eq!(world.get("dev", &format!("{path}/credentials")).await.expect(200), json!({ "password": "s3cret" }));
    assert_eq!(world.get("auditor", &format!("{path}/credentials")).await.status, 403);
    let text = "This service does not support fetching service instance parameters.";
    assert_eq!(world.get("dev", &format!("{path}/parameters")).await.detail(400), text);
    let changed = world.patch("dev", &path, json!({ "credentials": { "password": "new" }, "tags": ["a"] })).await.expect(200);
    assert_eq!(changed["last_operation"]["type"], "update");
    assert_eq!(world.get("dev", &format!("{path}/credentials")).await.expect(200), json!({ "password": "new" }));
    assert_eq!(world.delete("auditor", &path).await.status, 403);
    assert_eq!(world.delete("dev", &path).await.status, 204);
    assert_eq!(world.get("dev", &path).await.status, 404);
    assert!(market.broker.seen().is_empty());
}

async fn an_instance_can_be_shared_and_taken_back(world: World) {
    let market = Market::open(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    let other = space(&world, &market.org, "other").await;
    role(&world, "reader", "space_auditor", &other).await;
    let guid = market.instance(&world, "mydb").await;
    let path = format!("/v3/service_instances/{guid}/relationships/shared_spaces");
    let to = |space: &str| json!({ "data": [{ "guid": space }] });
    assert_eq!(world.post("dev", &path, to(&other)).await.detail(403), "Feature Disabled: service_instance_sharing");
    world.patch("admin", "/v3/feature_flags/service_instance_sharing", json!({ "enabled": true })).await.expect(200);
    let text = format!(
        "Unable to share service instance mydb with spaces ['{other}']. Ensure the spaces exist and that you have access to them."
    );
    assert_eq!(world.post("dev", &path, to(&other)).await.detail(422), text);
    role(&world, "dev", "space_developer", &other).await;
    assert_eq!(world.get("reader", &format!("/v3/service_instances/{guid}")).await.status, 404);
    let shared = world.post("dev", &path, to(&other)).await.expect(200);
    assert_eq!(shared["data"], json!([{ "guid": other }]));
    world.get("reader", &format!("/v3/service_instances/{guid}")).await.expect(200);
    assert_eq!(world.get("reader", &format!("/v3/service_instances/{guid}/parameters")).await.status, 403);
    let listed = world.get("reader", &format!("/v3/service_instances?space_guids={other}")).await.expect(200);
    assert_eq!(listed["pagination"]["total_results"], 1);
    let fields = "?fields%5Bspace%5D=guid,name,relationships.organization&fields%5Bspace.organization%5D=guid,name";
    let shown = world.get("dev", &format!("{path}{fields}")).await.expect(200);
    assert_eq!(shown["included"]["spaces"][0]["name"], "other");
    assert_eq!(shown["included"]["organizations"][0]["name"], "acme");
    let usage = world.get("dev", &format!("{path}/usage_summary")).await.expect(200);
    assert_eq!(usage["usage_summary"], json!([{ "space": { "guid": other }, "bound_app_count": 0 }]));
    let renamed = world.patch("dev", &format!("/v3/service_instances/{guid}"), json!({ "name": "new" })).await;
    assert_eq!(renamed.detail(422), "Service instances that have been shared cannot be renamed");
    assert_eq!(world.delete("dev", &format!("{path}/{other}")).await.status, 204);
    assert_eq!(world.get("reader", &format!("/v3/service_instances/{guid}")).await.status, 404);
}

async fn a_list_shows_what_is_asked_for_in_a_fixed_number_of_statements(world: World) {
    let market = Market::open(&world).await;
    let fields = "fields%5Bservice_plan%5D=guid,name,relationships.service_offering\
                  &fields%5Bservice_plan.service_offering%5D=guid,name,relationships.service_broker\
                  &fields%5Bservice_plan.service_offering.service_broker%5D=guid,name";
    let path = format!("/v3/service_instances?order_by=name&space_guids={}&{fields}", market.space);
    market.instance(&world, "b").await;
    let count = async || {
        let (mut least, mut listed) = (u64::MAX, Value::Null);
        // What goes on besides may come in between.
        for _ in 0..5 {
            let before = world.api.store.queries();
            listed = world.get("admin", &path).await.expect(200);
            least = least.min(world.api.store.queries() - before);
        }
        (least, listed)
    };
    let (one, _) = count().await;
    for name in ["a", "d", "c"] {
        market.instance(&world, name).await;
    }
    let (four, listed) = count().await;
    assert_eq!(one, four);
    let names: Vec<&str> = listed["resources"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(listed["included"]["service_plans"][0]["name"], "small");
    assert_eq!(listed["included"]["service_offerings"][0]["name"], "db");
    assert_eq!(listed["included"]["service_brokers"][0]["name"], "the-broker");
    let none = world.get("admin", "/v3/service_instances?type=user-provided").await.expect(200);
    assert_eq!(none["pagination"]["total_results"], 0);
    let large = world.get("admin", "/v3/service_instances?service_plan_names=large").await.expect(200);
    assert_eq!(large["pagination"]["total_results"], 0);
}

async fn deleting_an_instance_deletes_its_bindings_first(world: World) {
    let market = Market::open(&world).await;
    let guid = market.instance(&world, "mydb").await;
    for name in ["one", "two"] {
        let job = settle(&world, market.ask_key(&world, &guid, name).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
    }
    let path = format!("/v3/service_instances/{guid}");
    market.broker.script(Script::next("DELETE", "service_bindings").answers(500, json!({ "description": "not now" })));
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["errors"][0]["code"], 60027, "{job}");
    assert!(job["errors"][0]["detail"].as_str().unwrap().contains("not now"), "{job}");
    assert_eq!(world.get("admin", &path).await.expect(200)["last_operation"]["state"], "failed");
    assert_eq!(market.broker.bindings().len(), 1);
    tick(&world, Duration::from_secs(1)).await;
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.instances().is_empty() && market.broker.bindings().is_empty());
    let deletes: Vec<String> = market.broker.seen_with("DELETE").iter().map(|seen| seen.path.clone()).collect();
    assert!(deletes.last().unwrap().ends_with(&guid), "{deletes:?}");
}

async fn deleting_an_instance_says_what_went_with_it(world: World) {
    let market = Market::open(&world).await;
    let body = json!({ "name": "dora", "relationships": { "space": { "data": { "guid": market.space } } } });
    let app = world.post("admin", "/v3/apps", body).await.expect(201)["guid"].as_str().unwrap().to_owned();
    let said = json!({ "description": "Removed database d1 (3 MB), 2 logins and 1 backup." });
    let ended = json!({ "state": "succeeded", "description": said["description"] });
    // At once, at the end of the polls, and as a broker does that says 410 to the poll of what is gone.
    for (polls, status, body) in [(None, 200, &said), (Some(0), 200, &ended), (Some(0), 410, &said)] {
        market.broker.set_polls(None);
        let guid = market.instance(&world, "mydb").await;
        settle(&world, market.ask_key(&world, &guid, "k1").await).await;
        let relationships = json!({ "service_instance": { "data": { "guid": guid } }, "app": { "data": { "guid": app } } });
        let bind = json!({ "type": "app", "relationships": relationships });
        settle(&world, world.post("admin", "/v3/service_credential_bindings", bind).await).await;
        let (method, part) = match polls {
            None => ("DELETE", guid.clone()),
            Some(_) => ("GET", format!("{guid}/last_operation")),
        };
        market.broker.set_polls(polls);
        if polls.is_none() {
            // The path of a binding has that of its instance in it.
            for _ in 0..2 {
                market.broker.script(Script::next("DELETE", "service_bindings").but_does_it().answers(200, json!({})));
            }
        }
        market.broker.script(Script::next(method, &part).but_does_it().answers(status, body.clone()));
        let job = settle(&world, world.delete("admin", &format!("/v3/service_instances/{guid}")).await).await;
        let told = json!([
            { "detail": "With service instance 'mydb' went: binding of app 'dora', key 'k1'." },
            { "detail": "The service broker says of service instance 'mydb': Removed database d1 (3 MB), 2 logins and 1 backup." },
        ]);
        assert_eq!((&job["state"], &job["warnings"]), (&json!("COMPLETE"), &told), "{polls:?} {status}: {job}");
        let path = format!("/v3/audit_events?target_guids={guid}&types=audit.service_instance.delete");
        let events = world.get("admin", &path).await.expect(200);
        let data = json!({ "removed": ["binding of app 'dora'", "key 'k1'"], "broker_description": said["description"] });
        assert_eq!(events["resources"][0]["data"], data);
    }
    // A broker that says nothing of an instance that was not bound: nothing to tell.
    market.broker.set_polls(None);
    let guid = market.instance(&world, "mydb").await;
    let job = settle(&world, world.delete("admin", &format!("/v3/service_instances/{guid}")).await).await;
    assert_eq!((&job["state"], &job["warnings"]), (&json!("COMPLETE"), &json!([])), "{job}");
}

async fn a_creation_can_be_cancelled_if_the_broker_agrees(world: World) {
    let market = Market::open(&world).await;
    market.broker.set_polls(Some(1_000));
    let create = market.ask(&world, "mydb").await;
    let create = create.headers["Location"].to_str().unwrap().to_owned();
    let path = format!("/v3/service_instances/{}", named(&world, "mydb").await["guid"].as_str().unwrap());
    let no = json!({ "error": "ConcurrencyError", "description": "not while it is made" });
    market.broker.script(Script::next("DELETE", "/v2/service_instances/").answers(422, no));
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["errors"][0]["code"], 60016, "{job}");
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!((&shown["last_operation"]["type"], &shown["last_operation"]["state"]), (&json!("create"), &json!("in progress")));
    assert_eq!(world.get("admin", &create).await.expect(200)["state"], "POLLING");
    market.broker.set_polls(Some(1));
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(settle_job(&world, &create).await["state"], "FAILED");
    assert!(market.broker.instances().is_empty());
    assert!(under_way(&world).await.is_empty());
}

async fn a_space_whose_broker_is_down_stays_usable_and_purging_gets_out(world: World) {
    let market = Market::open(&world).await;
    let guid = market.instance(&world, "stuck").await;
    market.broker.script(Script::next("DELETE", "/v2/").answers(503, json!({ "description": "down for repair" })).always());
    let space = format!("/v3/spaces/{}", market.space);
    let job = settle(&world, world.delete("admin", &space).await).await;
    assert_eq!((&job["state"], &job["errors"][0]["code"]), (&json!("FAILED"), &json!(290008)), "{job}");
    let detail = job["errors"][0]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("Deletion of space dev failed because one or more resources within could not be deleted."),
        "{detail}"
    );
    assert!(detail.contains("stuck") && detail.contains("down for repair"), "{detail}");
    world.get("admin", &space).await.expect(200);
    let organization = format!("/v3/organizations/{}", market.org);
    let job = settle(&world, world.delete("admin", &organization).await).await;
    assert_eq!(job["errors"][0]["code"], 290010, "{job}");
    assert!(job["errors"][0]["detail"].as_str().unwrap().contains("down for repair"), "{job}");
    let body = json!({ "name": "app", "relationships": { "space": { "data": { "guid": market.space } } } });
    world.post("admin", "/v3/apps", body).await.expect(201);
    assert_eq!(world.delete("admin", &format!("/v3/service_instances/{guid}?purge=true")).await.status, 204);
    assert_eq!(settle(&world, world.delete("admin", &organization).await).await["state"], "COMPLETE");
    assert_eq!(world.get("admin", &space).await.status, 404);
}

async fn deleting_an_organization_deletes_its_services_first(world: World) {
    let market = Market::open(&world).await;
    market.broker.set_polls(Some(1));
    let guid = market.instance(&world, "mydb").await;
    settle(&world, market.ask_key(&world, &guid, "key").await).await;
    let body = json!({
        "type": "user-provided", "name": "ours", "relationships": { "space": { "data": { "guid": market.space } } },
    });
    world.post("admin", "/v3/service_instances", body).await.expect(201);
    let job = settle(&world, world.delete("admin", &format!("/v3/organizations/{}", market.org)).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.instances().is_empty() && market.broker.bindings().is_empty());
    assert_eq!(world.get("admin", "/v3/service_instances").await.expect(200)["pagination"]["total_results"], 0);
    assert!(under_way(&world).await.is_empty());
}

async fn a_broker_that_hangs_stalls_nobody_else(world: World) {
    let market = Market::open(&world).await;
    market.broker.script(Script::next("PUT", "/v2/service_instances/").hangs().always());
    let mut slow = vec![];
    for number in 0..12 {
        slow.push(market.body(&format!("slow{number}"), "small"));
    }
    let asked = slow.iter().map(|body| world.post("admin", "/v3/service_instances", body.clone()));
    let other = Broker::start().await;
    other.set_catalog(broker::catalog("quick"));
    let body = json!({
        "name": "other",
        "url": other.url,
        "authentication": { "type": "basic", "credentials": { "username": "a", "password": "b" } },
    });
    let register = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = std::time::Instant::now();
        let answered = world.post("admin", "/v3/service_brokers", body).await;
        (world.job(answered).await, began.elapsed())
    };
    let (_, (job, took)) = tokio::join!(futures::future::join_all(asked), register);
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

async fn bad_answers_fail_the_creation_and_nothing_else(world: World) {
    let market = Market::open(&world).await;
    let cases = [
        ("invalid JSON", Script::next("PUT", "/v2/").says(201, &[], b"{")),
        ("an array", Script::next("PUT", "/v2/").answers(201, json!([]))),
        ("a wrong type", Script::next("PUT", "/v2/").answers(201, json!({ "dashboard_url": 5 }))),
        ("a redirect", Script::next("PUT", "/v2/").says(302, &[("Location", "http://127.0.0.1:1/")], b"")),
        ("much", Script::next("PUT", "/v2/").says(201, &[], &vec![b' '; 10 << 20])),
        ("gone", Script::next("PUT", "/v2/").answers(410, json!({}))),
        ("unprocessable", Script::next("PUT", "/v2/").answers(422, json!({ "error": "Whatever", "description": "why not" }))),
        ("conflict", Script::next("PUT", "/v2/").answers(409, json!({}))),
        ("closed", Script::next("PUT", "/v2/").closes()),
        ("hangs", Script::next("PUT", "/v2/").hangs()),
        ("unauthorized", Script::next("PUT", "/v2/").answers(401, json!({ "description": "secret reason" }))),
    ];
    for (name, script) in cases {
        market.broker.script(script);
        let job = settle(&world, market.ask(&world, "mydb").await).await;
        assert_eq!(job["state"], "FAILED", "{name}: {job}");
        let detail = job["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("provision could not be completed: "), "{name}: {detail}");
        assert!(!detail.contains("secret reason"), "{name}: {detail}");
        drain(&world).await;
        assert!(market.broker.instances().is_empty(), "{name}");
    }
    // Nothing of it stands in the way.
    market.instance(&world, "mydb").await;
    // Last operations that lie are asked again.
    market.broker.set_polls(Some(1));
    for status in [404, 410, 500] {
        market.broker.script(Script::next("GET", "last_operation").answers(status, json!({})));
    }
    market.broker.script(Script::next("GET", "last_operation").answers(200, json!({ "state": "almost" })));
    market.broker.script(Script::next("GET", "last_operation").says(200, &[], b"nonsense"));
    market.broker.script(Script::next("GET", "last_operation").closes());
    market.instance(&world, "patient").await;
}

async fn of_two_controllers_one_has_an_operation_and_only_its_answer_counts(world: World) {
    let market = Market::open(&world).await;
    market.broker.script(Script::next("PUT", "/v2/service_instances/").holds());
    let meanwhile = async {
        market.broker.holding().await;
        let guid = unfinished_job(&world).await;
        let take = async || {
            let guid = guid.clone();
            world.api.write_as_system(move |tx| operations::take(tx, &guid, "the other one")).await.unwrap()
        };
        assert!(matches!(take().await, Taken::Nothing), "the lease holds");
        world.clock.advance(operations::LEASE + Duration::from_secs(1));
        let Taken::Send(op, call) = take().await else { panic!("the lease has ended") };
        assert_eq!(call.id, guid, "it goes out under the same id");
        market.broker.release();
        for _ in 0..20 {
            tick(&world, Duration::ZERO).await;
        }
        assert_eq!(unfinished_job(&world).await, guid, "the answer of the first does not count");
        let reply = world.api.brokers.call(*call).await;
        let op = *op;
        let settle = move |tx: &mut Tx<'_>| operations::settle(tx, op.clone(), "the other one", reply.clone());
        assert!(world.api.write_as_system(settle).await.unwrap());
    };
    let (answered, ()) = tokio::join!(market.ask(&world, "mydb"), meanwhile);
    assert_eq!(world.job(answered).await["state"], "COMPLETE");
    assert_eq!(market.broker.instances().len(), 1);
    assert_eq!(named(&world, "mydb").await["last_operation"]["state"], "succeeded");
}

/// Where the world stops: what the broker does with the request at which it stops, and which request that is.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The request is lost.
    Lost,
    /// The request is carried out, its answer is lost.
    Unheard,
}

/// One thing that is asked for, with the requests to the broker on its way.
struct Case {
    name: &'static str,
    steps: &'static [(&'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "provision",
        steps: &[("PUT", "/v2/service_instances/"), ("GET", "last_operation"), ("GET", "/v2/service_instances/")],
    },
    Case { name: "bind", steps: &[("PUT", "service_bindings"), ("GET", "last_operation"), ("GET", "/service_bindings/")] },
    Case { name: "update", steps: &[("PATCH", "/v2/service_instances/"), ("GET", "last_operation")] },
    Case { name: "unbind", steps: &[("DELETE", "service_bindings"), ("GET", "last_operation")] },
    Case { name: "backup", steps: &[("POST", "/backups"), ("GET", "last_operation")] },
    Case { name: "restore", steps: &[("POST", "/restore"), ("GET", "last_operation")] },
    Case { name: "delete backup", steps: &[("DELETE", "/backups/"), ("GET", "last_operation")] },
    Case {
        name: "clone",
        steps: &[("PUT", "/v2/service_instances/"), ("GET", "last_operation"), ("GET", "/v2/service_instances/")],
    },
    Case {
        name: "delete",
        steps: &[("DELETE", "service_bindings"), ("DELETE", "/v2/service_instances/"), ("GET", "last_operation")],
    },
];

/// What there is before something is asked for: the instance, and its key or backup.
async fn prepared(world: &World, market: &Market, case: &str) -> (String, String) {
    market.broker.set_polls(None);
    let (mut instance, mut key) = (String::new(), String::new());
    if case != "provision" {
        instance = market.instance(world, "mydb").await;
    }
    if matches!(case, "unbind" | "delete") {
        let job = settle(world, market.ask_key(world, &instance, "key").await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        let list = world.get("admin", "/v3/service_credential_bindings").await.expect(200);
        key = list["resources"][0]["guid"].as_str().unwrap().to_owned();
    }
    if matches!(case, "restore" | "delete backup" | "clone") {
        let answered = world.post("admin", &format!("/v3/service_instances/{instance}/backups"), json!({})).await;
        key = answered.body["guid"].as_str().unwrap().to_owned();
        assert_eq!(settle(world, answered).await["state"], "COMPLETE");
    }
    (instance, key)
}

async fn ask(world: &World, market: &Market, case: &str, instance: &str, key: &str) -> Answered {
    let path = format!("/v3/service_instances/{instance}");
    match case {
        "provision" => market.ask(world, "mydb").await,
        "bind" => market.ask_key(world, instance, "key").await,
        "update" => world.patch("admin", &path, json!({ "parameters": { "size": 9 } })).await,
        "unbind" => world.delete("admin", &format!("/v3/service_credential_bindings/{key}")).await,
        "backup" => world.post("admin", &format!("{path}/backups"), json!({})).await,
        "restore" => world.post("admin", &format!("{path}/actions/restore"), json!({ "backup": { "guid": key } })).await,
        "delete backup" => world.delete("admin", &format!("{path}/backups/{key}")).await,
        "clone" => {
            let mut body = market.body("copy", "small");
            body["clone_from"] = json!({ "service_instance": { "guid": instance }, "backup": { "guid": key } });
            world.post("admin", "/v3/service_instances", body).await
        }
        _ => world.delete("admin", &path).await,
    }
}

/// What must be in the end, whatever happened on the way.
async fn check(world: &World, market: &Market, case: &str, key: &str, told: &str) {
    let instance = named(world, "mydb").await;
    let mut known = guids(world, INSTANCES).await;
    known.sort();
    assert_eq!(market.broker.instances(), known, "{told}");
    let list = world.get("admin", "/v3/service_credential_bindings").await.expect(200);
    let keys: Vec<String> =
        list["resources"].as_array().unwrap().iter().map(|key| key["guid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(market.broker.bindings(), keys, "{told}");
    let expected = match case {
        "delete" => 0,
        "clone" => 2,
        _ => 1,
    };
    assert_eq!(known.len(), expected, "{told}");
    assert_eq!(keys.len(), usize::from(case == "bind"), "{told}");
    if case != "delete" {
        assert_eq!(instance["last_operation"]["state"], "succeeded", "{told}: {instance}");
    }
    match case {
        "backup" => {
            let path = format!("/v3/service_instances/{}/backups", known[0]);
            assert_eq!(market.broker.backups(), guids(world, &path).await, "{told}");
            assert_eq!(market.broker.backups().len(), 1, "{told}");
        }
        "restore" => {
            let restored = market.broker.restored();
            assert_eq!(restored.iter().filter(|restored| *restored == key).count(), 1, "once: {told}");
        }
        "delete backup" => assert!(market.broker.backups().is_empty(), "{told}"),
        "clone" => {
            let copy = named(world, "copy").await;
            assert_eq!(copy["last_operation"]["state"], "succeeded", "{told}: {copy}");
            let kept = market.broker.instance(copy["guid"].as_str().unwrap()).unwrap();
            let source = json!({ "instance_id": instance["guid"], "backup_id": key });
            assert_eq!(kept["cupola_clone_from"], source, "{told}");
        }
        "update" => {
            let kept = market.broker.instance(&known[0]).unwrap();
            assert_eq!(kept["parameters"], json!({ "size": 9 }), "{told}");
        }
        "bind" => {
            let path = format!("/v3/service_credential_bindings/{}/details", keys[0]);
            let details = world.get("admin", &path).await.expect(200);
            assert_eq!(details["credentials"]["password"], keys[0].as_str(), "{told}");
        }
        _ => {}
    }
    assert!(under_way(world).await.is_empty(), "{told}");
}

async fn killed_at_every_step(mut world: World, name: &str) {
    let market = with_backups(&world).await;
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    {
        for polls in [None, Some(2)] {
            for (number, (method, part)) in case.steps.iter().enumerate() {
                if polls.is_none() && *method == "GET" {
                    continue;
                }
                for stop in [Stop::Lost, Stop::Unheard] {
                    let told = format!("{} {polls:?}, step {number}, {stop:?}", case.name);
                    let (instance, key) = prepared(&world, &market, case.name).await;
                    market.broker.set_polls(polls);
                    market.broker.script(match stop {
                        Stop::Lost => Script::next(method, part).hangs(),
                        Stop::Unheard => Script::next(method, part).holds(),
                    });
                    market.broker.forget_seen();
                    let asked = async {
                        let answered = ask(&world, &market, case.name, &instance, &key).await;
                        assert_eq!(answered.status, 202, "{told}: {}", answered.body);
                        std::future::pending::<()>().await;
                    };
                    let reached = async {
                        while market.broker.waiting() == 0 {
                            tick(&world, Duration::from_secs(1)).await;
                        }
                    };
                    let reached = tokio::time::timeout(Duration::from_secs(20), reached);
                    tokio::select! {
                        () = asked => {}
                        reached = reached => reached.expect(&told),
                    }
                    let location = format!("/v3/jobs/{}", unfinished_job(&world).await);
                    world.kill().await;
                    market.broker.release();
                    // Where the database is shared, the lease of the one that was killed must end.
                    tick(&world, Duration::from_secs(60)).await;
                    let job = settle_job(&world, &location).await;
                    assert_eq!(job["state"], "COMPLETE", "{told}: {job}");
                    drain(&world).await;
                    check(&world, &market, case.name, &key, &told).await;
                    // Every repeat went out under the same id.
                    let ids: std::collections::BTreeSet<String> = market
                        .broker
                        .seen_with(method)
                        .iter()
                        .filter(|seen| seen.line().contains(part) && *method != "GET")
                        .map(|seen| seen.headers["x-broker-api-request-identity"].clone())
                        .collect();
                    assert!(ids.len() <= 1 || *method == "DELETE" && *part == "/v2/service_instances/", "{told}: {ids:?}");
                    clear(&world, &market).await;
                }
            }
        }
    }
}

async fn a_controller_killed_while_an_instance_is_made_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "provision").await;
}
async fn a_controller_killed_while_something_is_bound_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "bind").await;
}
async fn a_controller_killed_while_an_instance_changes_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "update").await;
}
async fn a_controller_killed_while_something_is_unbound_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "unbind").await;
}
async fn a_controller_killed_while_a_backup_is_made_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "backup").await;
}
async fn a_controller_killed_while_a_backup_is_restored_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "restore").await;
}
async fn a_controller_killed_while_a_backup_is_deleted_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "delete backup").await;
}
async fn a_controller_killed_while_an_instance_is_copied_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "clone").await;
}
async fn a_controller_killed_while_an_instance_is_deleted_goes_on_where_it_was(world: World) {
    killed_at_every_step(world, "delete").await;
}

/// The job that has not ended.
async fn unfinished_job(world: &World) -> String {
    use crate::store::schema::jobs;
    use diesel::prelude::*;
    let query = jobs::table.filter(jobs::state.eq_any(["PROCESSING", "POLLING"])).select(jobs::guid);
    let found: Vec<String> = world.api.store.read(move |conn| Ok(query.load(conn)?)).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// Deletes everything.
async fn clear(world: &World, market: &Market) {
    market.broker.clear_scripts();
    market.broker.set_polls(None);
    for guid in guids(world, INSTANCES).await {
        let job = settle(world, world.delete("admin", &format!("/v3/service_instances/{guid}")).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
    }
    assert!(market.broker.instances().is_empty() && market.broker.bindings().is_empty());
    assert!(market.broker.backups().is_empty(), "they go with their instance");
}

/// Guids in a list.
async fn guids(world: &World, path: &str) -> Vec<String> {
    let listed = world.get("admin", path).await.expect(200);
    listed["resources"].as_array().unwrap().iter().map(|one| one["guid"].as_str().unwrap().to_owned()).collect()
}

const INSTANCES: &str = "/v3/service_instances?per_page=500";
const KEYS: &str = "/v3/service_credential_bindings?per_page=500";

/// One thing that somebody does, or that goes wrong.
async fn something(world: &mut World, market: &Market, rng: &mut StdRng) {
    match rng.random_range(0..12) {
        0..3 => drop(market.ask(world, ["a", "b", "c"][rng.random_range(0..3)]).await),
        3..5 => {
            if let Some(guid) = guids(world, INSTANCES).await.choose(rng) {
                market.ask_key(world, guid, ["x", "y"][rng.random_range(0..2)]).await;
            }
        }
        5 => {
            if let Some(guid) = guids(world, INSTANCES).await.choose(rng) {
                world.delete("admin", &format!("/v3/service_instances/{guid}")).await;
            }
        }
        6 => {
            if let Some(guid) = guids(world, KEYS).await.choose(rng) {
                world.delete("admin", &format!("/v3/service_credential_bindings/{guid}")).await;
            }
        }
        7 => {
            let method = ["PUT", "DELETE", "GET"][rng.random_range(0..3)];
            let script = Script::next(method, "/v2/service_instances/");
            let script = match rng.random_range(0..5) {
                0 => script.answers(500, json!({})),
                1 => script.answers(200, json!({ "state": "failed" })),
                2 => script.answers(422, json!({ "error": "ConcurrencyError" })),
                3 => script.says(201, &[], b"nonsense"),
                _ => script.closes(),
            };
            market.broker.script(if rng.random_bool(0.5) { script.but_does_it() } else { script });
        }
        8 => market.broker.set_polls([None, Some(0), Some(3)][rng.random_range(0..3)]),
        9 => world.kill().await,
        _ => tick(world, Duration::from_secs(rng.random_range(0..90))).await,
    }
}

async fn any_history_leaves_nothing_at_the_broker_that_nobody_knows_of(mut world: World) {
    let market = Market::open(&world).await;
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..40 {
            something(&mut world, &market, &mut rng).await;
        }
        // Faults off: only from here on is an end promised.
        market.broker.clear_scripts();
        market.broker.set_polls(None);
        drain(&world).await;
        let (instances, keys) = (guids(&world, INSTANCES).await, guids(&world, KEYS).await);
        for known in market.broker.instances() {
            assert!(instances.contains(&known), "seed={seed}: the broker has {known}, which nobody knows");
        }
        for known in market.broker.bindings() {
            assert!(keys.contains(&known), "seed={seed}: the broker has {known}, which nobody knows");
        }
        tick(&world, Duration::from_secs(1)).await;
        for guid in instances {
            let job = settle(&world, world.delete("admin", &format!("/v3/service_instances/{guid}")).await).await;
            assert_eq!(job["state"], "COMPLETE", "seed={seed}: {job}");
        }
        assert!(market.broker.instances().is_empty() && market.broker.bindings().is_empty(), "seed={seed}");
        assert!(under_way(&world).await.is_empty(), "seed={seed}");
    }
}

async fn instances_of_one_name_meet_in_one_space_only(world: World) {
    let market = Market::open(&world).await;
    market.instance(&world, "mydb").await;
    let other = org(&world, "other").await;
    let space = space(&world, &other, "dev").await;
    let mut body: Value = market.body("MYDB", "small");
    assert_eq!(
        world.post("admin", "/v3/service_instances", body.clone()).await.detail(422),
        "The service instance name is taken: MYDB."
    );
    body["relationships"]["space"]["data"]["guid"] = space.into();
    assert_eq!(settle(&world, world.post("admin", "/v3/service_instances", body).await).await["state"], "COMPLETE");
}

/// A market whose broker makes backups.
async fn with_backups(world: &World) -> Market {
    let broker = Broker::start().await;
    let mut catalog = broker::catalog("db");
    catalog["services"][0]["metadata"]["cupola.dev/backups"] = true.into();
    broker.set_catalog(catalog);
    Market::with(world, broker).await
}

async fn a_backup_that_failed_leaves_nothing_at_the_broker(world: World) {
    let market = with_backups(&world).await;
    let guid = market.instance(&world, "mydb").await;
    let path = format!("/v3/service_instances/{guid}");
    let post = || Script::next("POST", "/backups").but_does_it();
    let failed = json!({ "state": "failed", "description": "the disk is full" });
    let of_backup =
        json!({ "id": "x", "state": "failed", "created_at": "2026-01-02T03:04:05Z", "description": "the disk is full" });
    let cases = [
        ("closed", None, post().closes(), "connection"),
        ("an error", None, post().answers(500, json!({ "description": "the disk is full" })), "the disk is full"),
        ("invalid JSON", None, post().says(201, &[], b"{"), "invalid response"),
        ("failed at once", None, post().answers(201, of_backup), "the disk is full"),
        ("failed later", Some(1), Script::next("GET", "last_operation").answers(200, failed), "the disk is full"),
    ];
    for (name, polls, script, why) in cases {
        market.broker.set_polls(polls);
        market.broker.script(script);
        let job = settle(&world, world.post("admin", &format!("{path}/backups"), json!({})).await).await;
        let detail = job["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("backup could not be completed: ") && detail.contains(why), "{name}: {detail}");
        let shown = world.get("admin", &path).await.expect(200)["last_operation"].clone();
        assert_eq!((&shown["type"], &shown["state"]), (&json!("update"), &json!("failed")), "{name}");
        assert!(shown["description"].as_str().unwrap().contains(why), "{name}: {shown}");
        drain(&world).await;
        assert!(market.broker.backups().is_empty(), "{name}");
    }
    // Nothing of it stands in the way. What was refused was never made: nobody asks to delete it.
    market.broker.forget_seen();
    market.broker.script(Script::next("POST", "/backups").answers(422, json!({ "error": "ConcurrencyError" })));
    let job = settle(&world, world.post("admin", &format!("{path}/backups"), json!({})).await).await;
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(under_way(&world).await.is_empty());
    let job = settle(&world, world.post("admin", &format!("{path}/backups"), json!({})).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert!(market.broker.seen_with("DELETE").is_empty());
    // With the instance gone, its backups are too.
    market.broker.script(post().closes());
    market.broker.script(Script::next("DELETE", "/backups/").answers(503, json!({})).always());
    settle(&world, world.post("admin", &format!("{path}/backups"), json!({})).await).await;
    assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE");
    drain(&world).await;
    assert!(market.broker.backups().is_empty());
}

async fn an_update_that_must_not_be_repeated_says_so(world: World) {
    let market = Market::open(&world).await;
    let guid = market.instance(&world, "mydb").await;
    let path = format!("/v3/service_instances/{guid}");
    let text = "too large The service broker says that repeating this update does not help.";
    for polls in [None, Some(0)] {
        market.broker.set_polls(polls);
        let no = json!({ "state": "failed", "description": "too large", "update_repeatable": false });
        market.broker.script(match polls {
            None => Script::next("PATCH", &guid).answers(400, no),
            Some(_) => Script::next("GET", "last_operation").answers(200, no),
        });
        let job = settle(&world, world.patch("admin", &path, json!({ "parameters": {} })).await).await;
        let detail = job["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("too large") && detail.contains("repeating this update does not help"), "{detail}");
        assert_eq!(market.broker.seen_with("PATCH").len(), 1, "the platform itself does not repeat it");
        market.broker.forget_seen();
    }
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!(shown["last_operation"]["description"], text);
}

async fn backups_are_made_restored_and_deleted_and_instances_copied(world: World) {
    let market = with_backups(&world).await;
    role(&world, "dev", "space_developer", &market.space).await;
    role(&world, "auditor", "space_auditor", &market.space).await;
    let guid = market.instance(&world, "mydb").await;
    let path = format!("/v3/service_instances/{guid}");
    assert_eq!(world.post("auditor", &format!("{path}/backups"), json!({})).await.status, 403);
    for polls in [None, Some(1)] {
        market.broker.set_polls(polls);
        let answered = world.post("dev", &format!("{path}/backups"), json!({})).await;
        let backup = answered.body["guid"].as_str().unwrap().to_owned();
        let job = settle(&world, answered).await;
        assert_eq!((&job["state"], &job["operation"]), (&json!("COMPLETE"), &json!("service_instance.backup")), "{job}");
        let listed = world.get("auditor", &format!("{path}/backups?per_page=5")).await.expect(200);
        assert_eq!(listed["resources"][0]["guid"], backup.as_str());
        assert_eq!(listed["resources"][0]["state"], "succeeded");
        let wrong = world.post("dev", &format!("{path}/actions/restore"), json!({})).await;
        assert_eq!(wrong.detail(422), "Backup must be structured like this: \"backup: {\"guid\": \"valid-guid\"}\"");
        let body = json!({ "backup": { "guid": backup } });
        let job = settle(&world, world.post("dev", &format!("{path}/actions/restore"), body).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        // The official client knows no other word.
        let last = named(&world, "mydb").await["last_operation"].clone();
        assert_eq!((&last["type"], &last["state"]), (&json!("update"), &json!("succeeded")));
        assert_eq!(last["description"], format!("Restored backup {backup}"));
        let mut copy = market.body("copy", "small");
        copy["clone_from"] = json!({ "service_instance": { "guid": guid }, "backup": { "guid": backup } });
        let job = settle(&world, world.post("dev", "/v3/service_instances", copy).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        let copied = named(&world, "copy").await["guid"].as_str().unwrap().to_owned();
        let sent = market.broker.instance(&copied).unwrap();
        assert_eq!(sent["cupola_clone_from"], json!({ "instance_id": guid, "backup_id": backup }));
        let job = settle(&world, world.delete("dev", &format!("/v3/service_instances/{copied}")).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        let job = settle(&world, world.delete("dev", &format!("{path}/backups/{backup}")).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        let listed = world.get("dev", &format!("{path}/backups")).await.expect(200);
        assert_eq!(listed["pagination"]["total_results"], 0);
    }
    let text = "Invalid source. Ensure that the service instance exists and that you may write in its space.";
    let mut copy = market.body("copy", "small");
    copy["clone_from"] = json!({ "service_instance": { "guid": "unknown" } });
    assert_eq!(world.post("dev", "/v3/service_instances", copy).await.detail(422), text);
}

super::scenarios! {
    an_instance_lives_from_its_creation_to_its_deletion,
    a_broker_that_takes_its_time_is_asked_until_it_is_done,
    what_the_broker_says_reaches_the_user_and_leftovers_are_removed,
    an_orphan_is_deleted_when_its_broker_is_back,
    a_failed_operation_leaves_the_instance_for_somebody_to_look_at,
    an_operation_that_never_ends_fails_in_its_time,
    the_operator_says_how_long_brokers_may_work_and_plans_may_say_less,
    retry_after_is_obeyed,
    parameters_that_break_the_plans_schema_never_reach_the_broker,
    quotas_and_flags_bound_instances,
    plans_that_may_not_be_used_here_are_refused_in_the_contracts_words,
    versions_of_plans_are_reached_by_upgrades,
    an_instance_that_does_not_work_any_more_is_noted,
    user_provided_instances_are_kept_here_only,
    an_instance_can_be_shared_and_taken_back,
    a_list_shows_what_is_asked_for_in_a_fixed_number_of_statements,
    deleting_an_instance_deletes_its_bindings_first,
    deleting_an_instance_says_what_went_with_it,
    a_creation_can_be_cancelled_if_the_broker_agrees,
    a_space_whose_broker_is_down_stays_usable_and_purging_gets_out,
    deleting_an_organization_deletes_its_services_first,
    a_broker_that_hangs_stalls_nobody_else,
    bad_answers_fail_the_creation_and_nothing_else,
    of_two_controllers_one_has_an_operation_and_only_its_answer_counts,
    a_controller_killed_while_an_instance_is_made_goes_on_where_it_was,
    a_controller_killed_while_something_is_bound_goes_on_where_it_was,
    a_controller_killed_while_an_instance_changes_goes_on_where_it_was,
    a_controller_killed_while_something_is_unbound_goes_on_where_it_was,
    a_controller_killed_while_a_backup_is_made_goes_on_where_it_was,
    a_controller_killed_while_a_backup_is_restored_goes_on_where_it_was,
    a_controller_killed_while_a_backup_is_deleted_goes_on_where_it_was,
    a_controller_killed_while_an_instance_is_copied_goes_on_where_it_was,
    a_controller_killed_while_an_instance_is_deleted_goes_on_where_it_was,
    a_backup_that_failed_leaves_nothing_at_the_broker,
    an_update_that_must_not_be_repeated_says_so,
    backups_are_made_restored_and_deleted_and_instances_copied,
    any_history_leaves_nothing_at_the_broker_that_nobody_knows_of,
    instances_of_one_name_meet_in_one_space_only,
}
