//! Services: brokers, marketplace, instances, bindings, keys. The broker is an app of the platform itself.

use super::in_both_ways;
use serde_json::json;
use specs::{Broker, Client, app, unique, wait_for};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn static_app(cf: &Client) -> String {
    let name = unique("bound");
    cf.ok_in(&app("static"), &["push", &name, "-m", "64M"]);
    name
}

// commands: create-service-broker, service-brokers, service-access, enable-service-access, disable-service-access, marketplace
// commands: update-service-broker, rename-service-broker, delete-service-broker
#[test]
fn an_operator_registers_a_broker_and_says_who_may_use_it() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        cf.fails(&["create-service-broker", &broker.name, "user", "wrong", &broker.url()]).says("uthentication");
        // It is kept, and mended with the right password.
        cf.ok(&["update-service-broker", &broker.name, "user", "password", &broker.url()]).says("OK");
        cf.ok(&["service-brokers"]).says(&broker.name);
        cf.ok(&["service-access", "-e", &broker.offering]).says("none");
        let plans = ["marketplace", "-e", &broker.offering];
        cf.ok(&["enable-service-access", &broker.offering, "-p", "now", "-o", &cf.org]).says("OK");
        cf.ok(&["service-access", "-e", &broker.offering]).says("limited").says(&cf.org);
        assert!(!cf.ok(&plans).says("now").stdout.contains("later   "), "the other plans are closed");
        cf.ok(&["enable-service-access", &broker.offering]).says("OK");
        cf.ok(&["service-access", "-e", &broker.offering]).says("all");
        cf.ok(&plans).says("now").says("later").says("paid").says("USD 3.50");
        cf.ok(&["marketplace"]).says(&broker.offering);
        cf.ok(&["disable-service-access", &broker.offering]).says("OK");
        cf.ok(&["service-access", "-e", &broker.offering]).says("none");
        let renamed = unique("renamed");
        cf.ok(&["rename-service-broker", &broker.name, &renamed]).says("OK");
        cf.ok(&["update-service-broker", &renamed, "user", "password", &broker.url()]).says("OK");
        cf.ok(&["delete-service-broker", "-f", &renamed]).says("OK");
        assert!(!cf.ok(&["service-brokers"]).stdout.contains(&renamed));
        cf.ok(&["create-service-broker", &broker.name, "user", "password", &broker.url(), "--space-scoped"]).says("OK");
        cf.ok(&plans).says("now");
        broker.gone();
    });
}

// commands: create-service, services, service, bind-service, unbind-service, update-service, upgrade-service, rename-service
// commands: delete-service, create-service-key, service-keys, service-key, delete-service-key
#[test]
fn an_instance_is_made_bound_changed_and_removed_at_a_broker_that_answers_at_once() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (instance, app) = (unique("db"), static_app(cf));
        let wrong = cf.fails(&["create-service", &broker.offering, "now", &instance, "-c", r#"{"size":11}"#]).all();
        assert!(wrong.contains("size") && wrong.contains("10"), "which parameter breaks which rule: {wrong}");
        cf.ok(&["create-service", &broker.offering, "now", &instance, "-c", r#"{"size":3}"#, "-t", "mine"]).says("OK");
        cf.ok(&["create-service", &broker.offering, "now", &instance]).says("already exists");
        cf.ok(&["services"]).says(&instance).says(&broker.offering).says("create succeeded");
        cf.ok(&["service", &instance]).says("now").says("mine").says("https://dashboard.example.com/");
        cf.ok(&["service", &instance, "--params"]).says("size");

        cf.ok(&["bind-service", &app, &instance, "--binding-name", "main", "-c", r#"{"size":1}"#]).says("OK");
        cf.ok(&["bind-service", &app, &instance]).says("already bound");
        cf.ok(&["env", &app]).says("scripted://").says("\"binding_name\": \"main\"");
        cf.ok(&["service", &instance]).says(&app).says("main");
        cf.fails(&["delete-service", "-f", "no-such-instance", "--no-such-flag"]);

        cf.ok(&["create-service-key", &instance, "key"]).says("OK");
        cf.ok(&["create-service-key", &instance, "key"]).says("already exists");
        cf.ok(&["service-keys", &instance]).says("key");
        cf.ok(&["service-key", &instance, "key"]).says("scripted://");
        cf.ok(&["delete-service-key", "-f", &instance, "key"]).says("OK");

        cf.ok(&["update-service", &instance, "-c", r#"{"size":5}"#]).says("OK");
        cf.ok(&["update-service", &instance, "-p", "paid"]).says("OK");
        cf.ok(&["service", &instance]).says("paid");
        cf.ok(&["update-service", &instance, "-p", "now"]).says("OK");
        let mut catalog = platform.request(&broker.name, "/v2/catalog", &["-u", "user:password"]).json();
        catalog["services"][0]["plans"][0]["maintenance_info"] = json!({ "version": "2.0.0", "description": "Second" });
        broker.tell("/catalog", &catalog);
        cf.ok(&["update-service-broker", &broker.name, "user", "password", &broker.url()]).says("OK");
        cf.ok(&["service", &instance]).says("There is an upgrade available").says("Second");
        cf.ok(&["upgrade-service", "-f", &instance]).says("OK");
        cf.ok(&["service", &instance]).says("There is no upgrade available");

        let renamed = unique("renamed");
        cf.ok(&["rename-service", &instance, &renamed]).says("OK");
        cf.ok(&["unbind-service", &app, &renamed]).says("OK");
        assert!(!cf.ok(&["env", &app]).stdout.contains("scripted://"));
        cf.ok(&["delete-service", "-f", &renamed]).says("OK");
        cf.ok(&["delete-service", "-f", &renamed]).says("did not exist");
        let seen = broker.seen();
        let provision = seen["seen"].as_array().unwrap().iter().find(|call| call["method"] == "PUT").unwrap().clone();
        assert_eq!(provision["body"]["context"]["space_name"], cf.space.as_str());
        assert!(provision["identity"].as_str().unwrap().starts_with("cloudfoundry "), "{provision}");
        broker.gone();
    });
}

#[test]
fn work_that_a_broker_does_later_is_waited_for_or_goes_on_alone() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (instance, app) = (unique("slow"), static_app(cf));
        cf.ok(&["create-service", &broker.offering, "later", &instance]).says("in progress");
        wait_for("the instance", SOON, || cf.ok(&["service", &instance]).stdout.contains("create succeeded").then_some(()));
        cf.ok(&["bind-service", &app, &instance, "--wait"]).says("OK");
        cf.ok(&["env", &app]).says("scripted://");
        cf.ok(&["create-service-key", &instance, "key", "--wait"]).says("OK");
        cf.ok(&["service-key", &instance, "key"]).says("scripted://");
        cf.ok(&["update-service", &instance, "-c", r#"{"any":1}"#, "--wait"]).says("OK");
        cf.ok(&["unbind-service", &app, &instance, "--wait"]).says("OK");
        cf.ok(&["delete-service-key", "-f", &instance, "key", "--wait"]).says("OK");
        cf.ok(&["delete-service", "-f", &instance, "--wait"]).says("OK");
        cf.fails(&["service", &instance]).says("not found");
        broker.gone();
    });
}

// commands: share-service, unshare-service
#[test]
fn an_instance_is_shared_with_another_space() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (instance, other) = (unique("shared"), unique("other"));
        cf.ok(&["enable-feature-flag", "service_instance_sharing"]);
        cf.ok(&["create-service", &broker.offering, "now", &instance]);
        cf.ok(&["create-space", &other]);
        cf.ok(&["share-service", &instance, "-s", &other]).says("OK");
        cf.ok(&["service", &instance]).says(&other);
        cf.ok(&["target", "-s", &other]);
        cf.ok(&["services"]).says(&instance);
        let app = static_app(cf);
        cf.ok(&["bind-service", &app, &instance]).says("OK");
        cf.ok(&["env", &app]).says("scripted://");
        cf.ok(&["unbind-service", &app, &instance]).says("OK");
        cf.ok(&["target", "-s", &cf.space]);
        cf.ok(&["unshare-service", "-f", &instance, "-s", &other]).says("OK");
        cf.ok(&["delete-service", "-f", &instance]).says("OK");
        cf.ok(&["delete-space", "-f", &other]);
        broker.gone();
    });
}

// commands: create-user-provided-service, update-user-provided-service
#[test]
fn credentials_of_a_service_of_ones_own_reach_the_app() {
    in_both_ways(|_, cf| {
        let (instance, app) = (unique("own"), static_app(cf));
        cf.ok(&["create-user-provided-service", &instance, "-p", r#"{"token":"first"}"#]).says("OK");
        cf.ok(&["bind-service", &app, &instance]).says("OK");
        cf.ok(&["env", &app]).says("user-provided").says("first");
        cf.ok(&["update-user-provided-service", &instance, "-p", r#"{"token":"second"}"#, "-t", "mine"]).says("OK");
        cf.ok(&["env", &app]).says("second");
        cf.ok(&["service", &instance]).says("user-provided").says("mine");
        cf.ok(&["unbind-service", &app, &instance]).says("OK");
        cf.ok(&["delete-service", "-f", &instance]).says("OK");
    });
}

// commands: purge-service-instance, purge-service-offering
#[test]
fn what_a_lost_broker_left_behind_is_forgotten() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (first, second) = (unique("first"), unique("second"));
        for instance in [&first, &second] {
            cf.ok(&["create-service", &broker.offering, "now", instance]);
        }
        cf.ok(&["delete", "-f", "-r", &broker.name]);
        platform.wait_until_gone(&broker.name, SOON);
        cf.fails(&["delete-service", "-f", &first]);
        cf.ok(&["services"]).says(&first).says("delete failed");
        cf.fails(&["delete-service-broker", "-f", &broker.name]);
        cf.ok(&["purge-service-instance", "-f", &first]).says("OK");
        cf.ok(&["purge-service-offering", "-f", &broker.offering]).says("OK");
        let left = cf.ok(&["services"]).stdout;
        assert!(!left.contains(&first) && !left.contains(&second), "{left}");
        cf.ok(&["purge-service-offering", "-f", &format!("{}-filter", broker.offering)]);
        cf.ok(&["delete-service-broker", "-f", &broker.name]).says("OK");
    });
}

// commands: bind-route-service, unbind-route-service
#[test]
fn a_service_of_a_route_sees_its_requests_first() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (offering, instance) = (format!("{}-filter", broker.offering), unique("filter"));
        let (app, domain) = (static_app(cf), platform.apps_domain());
        cf.ok(&["enable-service-access", &offering]).says("OK");
        cf.ok(&["create-service", &offering, "route", &instance]).says("OK");
        cf.ok(&["bind-route-service", &domain, &instance, "--hostname", &app]).says("OK");
        cf.ok(&["bind-route-service", &domain, &instance, "--hostname", &app]).says("already bound");
        cf.ok(&["routes"]).says(&instance);
        let forwarded = wait_for("the service in between", SOON, || {
            let reply = platform.get(&app, "/page?a=1");
            serde_json::from_str::<serde_json::Value>(&reply.body).ok().map(|body| body["forwarded"].clone())
        });
        let url = forwarded["Forwarded-Url"].as_str().unwrap();
        assert!(url.contains(&format!("://{app}.{domain}")) && url.ends_with("/page?a=1"), "{url}");
        assert!(forwarded["Proxy-Signature"].is_string() && forwarded["Proxy-Metadata"].is_string(), "{forwarded}");
        cf.ok(&["unbind-route-service", "-f", &domain, &instance, "--hostname", &app]).says("OK");
        wait_for("the app itself", SOON, || (!platform.get(&app, "/").body.contains("forwarded")).then_some(()));
        cf.ok(&["delete-service", "-f", &instance]).says("OK");
        broker.gone();
    });
}

// commands: cleanup-outdated-service-bindings
#[test]
fn a_second_binding_rotates_the_credentials() {
    in_both_ways(|platform, cf| {
        let broker = Broker::new(platform, cf);
        broker.register();
        let (instance, app) = (unique("rotated"), static_app(cf));
        cf.ok(&["create-service", &broker.offering, "now", &instance]);
        cf.ok(&["bind-service", &app, &instance]);
        let password = || {
            let environment = cf.curl(&format!("/v3/apps/{}/env", cf.app_guid(&app)));
            let service = environment["system_env_json"]["VCAP_SERVICES"][&broker.offering].clone();
            assert_eq!(service.as_array().map(Vec::len), Some(1), "{environment}");
            service[0]["credentials"]["password"].as_str().unwrap().to_owned()
        };
        let first = password();
        cf.ok(&["bind-service", &app, &instance, "--strategy", "multiple"]).says("OK");
        assert_ne!(password(), first, "the newest binding wins");
        cf.ok(&["cleanup-outdated-service-bindings", "-f", &app]).says("OK");
        let bindings = cf.curl(&format!("/v3/service_credential_bindings?app_guids={}", cf.app_guid(&app)));
        assert_eq!(bindings["pagination"]["total_results"], 1);
        cf.ok(&["unbind-service", &app, &instance]).says("OK");
        cf.ok(&["delete-service", "-f", &instance]).says("OK");
        broker.gone();
    });
}
