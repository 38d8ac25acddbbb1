//! Brokers that fail in every way: the user reads why, and `cf` gets out of it.

#![expect(clippy::unwrap_used, reason = "a suite that cannot go on fails where it stands")]

use serde_json::{Value, json};
use specs::{Broker, Client, Platform, unique, wait_for};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

fn ours() -> Option<(&'static Platform, Client)> {
    Platform::shared().map(|platform| (platform, platform.cf()))
}

/// One answer to requests with this method whose path has this part.
fn step(method: &str, path: &str, answer: &Value) -> Value {
    let mut step = json!({ "method": method, "path": path, "times": 1 });
    step.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
    step
}

/// Calls of a method at the broker for an instance.
fn calls(broker: &Broker<'_>, method: &str, guid: &str) -> usize {
    let seen = broker.seen();
    let all = seen["seen"].as_array().unwrap();
    all.iter().filter(|call| call["method"] == method && call["path"].as_str().unwrap().contains(guid)).count()
}

/// How a create fails, what the user reads, and whether the broker is asked to take back what it may have made.
#[test]
fn a_create_that_fails_says_what_the_broker_said_and_leaves_nothing() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let put = |answer: Value| step("PUT", "/service_instances/", &answer);
    let table: Vec<(&str, Value, &[&str], bool)> = vec![
        (
            "refused",
            put(json!({ "status": 400, "body": { "description": "no more vacuum tubes" } })),
            &["no more vacuum tubes", "400"],
            false,
        ),
        (
            "conflict",
            put(json!({ "status": 409, "body": { "description": "it is here already" } })),
            &["it is here already"],
            false,
        ),
        ("unprocessable", put(json!({ "status": 422, "body": { "error": "RequiresApp", "description": "x" } })), &["app"], false),
        ("busy", put(json!({ "status": 422, "body": { "error": "ConcurrencyError" } })), &["operation"], false),
        (
            "old catalog",
            put(json!({ "status": 422, "body": { "error": "MaintenanceInfoConflict", "description": "read my catalog" } })),
            &["read my catalog"],
            false,
        ),
        ("broken", put(json!({ "status": 500, "body": { "description": "the tubes burn" } })), &["the tubes burn", "500"], true),
        ("closed", put(json!({ "close": true })), &[], true),
        ("no JSON", put(json!({ "status": 201, "text": "<html>" })), &["invalid"], true),
        ("wrong types", put(json!({ "status": 201, "body": { "dashboard_url": 7 } })), &[], true),
        ("too much", put(json!({ "status": 201, "megabytes": 10 })), &[], true),
        ("redirect", put(json!({ "status": 302, "headers": { "Location": "http://169.254.169.254/latest" } })), &[], true),
        ("gone", put(json!({ "status": 410 })), &["410"], true),
    ];
    for (what, script, expected, mitigated) in table {
        broker.tell("/script", &json!([script]));
        let name = unique("broken");
        let said = cf.fails(&["create-service", &broker.offering, "now", &name, "--wait"]).all();
        for text in expected {
            assert!(said.contains(text), "{what}: `{text}` is not in: {said}");
        }
        assert!(said.contains(&broker.name) && said.contains("now"), "{what}: which broker, which plan: {said}");
        let guid = cf.ok(&["service", &name, "--guid"]).stdout.trim().to_owned();
        cf.ok(&["service", &name]).says("create failed");
        if mitigated {
            wait_for(&format!("{what}: the broker to be asked to take it back"), SOON, || {
                (calls(&broker, "DELETE", &guid) > 0).then_some(())
            });
        }
        cf.ok(&["delete-service", "-f", &name, "--wait"]);
    }
    broker.gone();
}

#[test]
fn a_broker_that_was_down_for_a_while_is_used_again() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let name = unique("later");
    cf.ok(&["create-service", &broker.offering, "later", &name]);
    let mut failing = step("GET", "/last_operation", &json!({ "status": 503, "text": "starting" }));
    failing["times"] = json!(3);
    broker.tell("/script", &json!([failing]));
    wait_for("the instance", SOON, || cf.ok(&["service", &name]).stdout.contains("create succeeded").then_some(()));
    cf.ok(&["delete-service", "-f", &name, "--wait"]);
    broker.gone();
}

#[test]
fn a_broker_that_lies_about_its_work_is_not_believed() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let failed = json!({ "state": "failed", "description": "out of tubes" });
    let name = unique("lied");
    broker.tell(
        "/script",
        &json!([
            step("GET", "/last_operation", &json!({ "body": { "state": "splendid" } })),
            step("GET", "/last_operation", &json!({ "body": failed }))
        ]),
    );
    let said = cf.fails(&["create-service", &broker.offering, "later", &name, "--wait"]).all();
    assert!(said.contains("out of tubes"), "{said}");
    cf.ok(&["service", &name]).says("create failed").says("out of tubes");
    cf.ok(&["delete-service", "-f", &name, "--wait"]);
    broker.gone();
}

#[test]
fn a_delete_that_fails_keeps_the_instance_and_can_be_repeated() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let name = unique("stuck");
    cf.ok(&["create-service", &broker.offering, "now", &name]);
    broker.tell(
        "/script",
        &json!([step("DELETE", "/service_instances/", &json!({ "status": 500, "body": { "description": "not today" } }))]),
    );
    cf.fails(&["delete-service", "-f", &name]).says("not today");
    cf.ok(&["service", &name]).says("delete failed");
    broker.tell("/script", &json!([step("DELETE", "/service_instances/", &json!({ "status": 410 }))]));
    cf.ok(&["delete-service", "-f", &name]);
    cf.fails(&["service", &name]).says("not found");
    cf.ok(&["delete-service-broker", "-f", &broker.name]);
}

#[test]
fn a_catalog_that_is_wrong_is_refused_with_where_and_why() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    let good = platform.request(&broker.name, "/v2/catalog", &["-u", "user:password"]).json();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut catalog = good.clone();
        change(&mut catalog);
        catalog
    };
    let table: Vec<(Value, &str)> = vec![
        (json!({ "services": [] }), "at least one service"),
        (with(&|catalog| catalog["services"][1]["id"] = catalog["services"][0]["id"].clone()), "unique"),
        (with(&|catalog| catalog["services"][0]["bindable"] = json!("true")), "bindable"),
        (with(&|catalog| catalog["services"][0]["plans"] = json!([])), "plan"),
        (with(&|catalog| catalog["services"][0]["plans"][0]["maintenance_info"] = json!({ "version": "one" })), "version"),
        (with(&|catalog| catalog["services"][0]["requires"] = json!(["magic"])), "magic"),
    ];
    let url = broker.url();
    let mut verb = "create-service-broker";
    for (catalog, expected) in table {
        broker.tell("/catalog", &catalog);
        let said = cf.fails(&[verb, &broker.name, "user", "password", &url]).all();
        assert!(said.contains(expected), "`{expected}` is not in: {said}");
        // As in Cloud Foundry it is kept without offerings, to be updated.
        verb = "update-service-broker";
    }
    broker.tell("/catalog", &good);
    cf.ok(&[verb, &broker.name, "user", "password", &url]);
    broker.gone();
}

#[test]
fn plans_that_leave_the_catalog_stay_for_those_who_use_them() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let name = unique("kept");
    cf.ok(&["create-service", &broker.offering, "paid", &name]);
    let mut catalog = platform.request(&broker.name, "/v2/catalog", &["-u", "user:password"]).json();
    catalog["services"][0]["plans"].as_array_mut().unwrap().retain(|plan| plan["name"] == "now");
    broker.tell("/catalog", &catalog);
    let update = ["update-service-broker", &broker.name, "user", "password", &broker.url()];
    cf.ok(&update).says("paid");
    let shown = cf.ok(&["marketplace", "-e", &broker.offering]).stdout;
    assert!(shown.contains("The plan now") && !shown.contains("The plan paid") && !shown.contains("The plan later"), "{shown}");
    cf.fails(&["create-service", &broker.offering, "paid", &unique("late")]);
    cf.ok(&["services"]).says(&name).says("paid");
    cf.ok(&["delete-service", "-f", &name]).says("OK");
    broker.tell("/catalog", &Value::Null);
    cf.ok(&update);
    broker.gone();
}

#[test]
fn a_broker_may_not_be_where_tenants_must_not_reach() {
    let Some((platform, cf)) = ours() else { return };
    let inner = platform.state();
    assert!(inner.exists());
    for url in [
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://[::1]:8080",
        "http://169.254.169.254/latest",
        "http://0.0.0.0:22",
        "http://[::ffff:127.0.0.1]:80",
        "http://2130706433:80",
    ] {
        let said = cf.fails(&["create-service-broker", &unique("ssrf"), "user", "password", url]).all();
        assert!(said.contains("may not") || said.contains("not allowed") || said.contains("must be"), "{url}: {said}");
    }
    cf.fails(&["create-service-broker", &unique("ssrf"), "user", "password", "http://me:secret@broker.example.com"])
        .says("must not contain authentication");
    cf.fails(&["create-service-broker", &unique("ssrf"), "user", "password", "ftp://broker.example.com"])
        .says("must be a valid url");
}

#[test]
fn a_space_with_instances_of_a_lost_broker_is_not_lost() {
    let Some((platform, cf)) = ours() else { return };
    let broker = Broker::new(platform, &cf);
    broker.register();
    let (space, name) = (unique("doomed"), unique("stranded"));
    cf.ok(&["create-space", &space]);
    cf.ok(&["target", "-s", &space]);
    cf.ok(&["create-service", &broker.offering, "now", &name]);
    broker.tell("/script", &json!([{ "method": "DELETE", "path": "/service_instances/", "times": 100, "status": 500, "body": { "description": "down for good" } }]));
    cf.fails(&["delete-space", "-f", &space]).says(&name).says("down for good");
    cf.ok(&["target", "-s", &space]);
    cf.ok(&["services"]).says(&name);
    cf.ok(&["purge-service-instance", "-f", &name]).says("OK");
    cf.ok(&["delete-space", "-f", &space]).says("OK");
    cf.ok(&["target", "-s", &cf.space]);
    broker.tell("/script", &json!([]));
}

#[test]
fn a_cloud_controller_that_is_killed_goes_on_with_what_brokers_do() {
    let Some(platform) = Platform::own("") else { return };
    let cf = platform.cf();
    let broker = Broker::new(&platform, &cf);
    broker.register();
    let (name, app) = (unique("survivor"), unique("bound"));
    cf.ok_in(&specs::app("static"), &["push", &app, "-m", "64M"]);
    let kill = || {
        let old = platform.pid_of("cloud_controller").unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(old), nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_for("a new cloud controller", SOON, || platform.pid_of("cloud_controller").filter(|new| *new != old));
        wait_for("the API", SOON, || (cf.run(&["services"]).status == 0).then_some(()));
    };
    let becomes = |shown: &str| {
        wait_for(shown, SOON, || cf.run(&["service", &name]).stdout.contains(shown).then_some(()));
    };
    cf.ok(&["create-service", &broker.offering, "later", &name]);
    kill();
    becomes("create succeeded");
    cf.ok(&["bind-service", &app, &name]);
    kill();
    wait_for("the binding", SOON, || cf.run(&["env", &app]).stdout.contains("scripted://").then_some(()));
    cf.ok(&["update-service", &name, "-c", r#"{"any":2}"#]);
    kill();
    becomes("update succeeded");
    cf.ok(&["unbind-service", &app, &name]);
    kill();
    wait_for("the unbinding", SOON, || (!cf.run(&["service", &name]).stdout.contains(&app)).then_some(()));
    cf.ok(&["delete-service", "-f", &name]);
    kill();
    wait_for("the end of the instance", SOON, || (cf.run(&["service", &name]).status != 0).then_some(()));
    broker.gone();
}
