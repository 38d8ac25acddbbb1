//! Brokers, their catalogs, the marketplace, and who sees what of it.

use super::{
    World,
    marketplace::{Market, named, settle, under_way},
    push,
    tenancy::{org, role, space},
};
use crate::domain::services::brokers::{self, Own};
use foundation::Secret;
use serde_json::{Value, json};
use std::{sync::atomic::Ordering, time::Duration};
use testkit::broker::{Broker, Script, catalog, offering};
use uaa_client::KnownClient;

fn body(name: &str, url: &str) -> Value {
    json!({
        "name": name,
        "url": url,
        "authentication": { "type": "basic", "credentials": { "username": "cloud", "password": "hunter2" } },
    })
}

/// Registers a broker as administrator; returns its guid.
async fn register(world: &World, name: &str, broker: &Broker) -> String {
    let job = settle(world, world.post("admin", "/v3/service_brokers", body(name, &broker.url)).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    found(world, name).await["guid"].as_str().unwrap().to_owned()
}

async fn found(world: &World, name: &str) -> Value {
    world.get("admin", &format!("/v3/service_brokers?names={name}")).await.expect(200)["resources"][0].clone()
}

/// Names of what a list shows to this user.
async fn names(world: &World, user: &str, path: &str) -> Vec<String> {
    let list = world.get(user, path).await.expect(200);
    list["resources"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

/// The guid of a plan.
async fn plan(world: &World, name: &str) -> String {
    let list = world.get("admin", &format!("/v3/service_plans?names={name}")).await.expect(200);
    list["resources"][0]["guid"].as_str().unwrap().to_owned()
}

async fn events(world: &World, kind: &str) -> Vec<Value> {
    let list = world.get("admin", &format!("/v3/audit_events?types={kind}&per_page=5000")).await.expect(200);
    list["resources"].as_array().unwrap().clone()
}

fn failure(job: &Value) -> (u64, String) {
    assert_eq!(job["state"], "FAILED", "{job}");
    (job["errors"][0]["code"].as_u64().unwrap(), job["errors"][0]["detail"].as_str().unwrap().to_owned())
}

async fn a_new_broker_brings_its_catalog_for_administrators_alone(world: World) {
    let broker = Broker::start().await;
    let answered = world.post("admin", "/v3/service_brokers", body("shop", &broker.url)).await;
    // The broker is quick: the job has ended with the first answer.
    let job = world.job(answered).await;
    assert_eq!((&job["state"], &job["operation"]), (&json!("COMPLETE"), &json!("service_broker.catalog.synchronize")), "{job}");
    let asked = broker.seen_with("GET /v2/catalog").pop().unwrap();
    assert_eq!(asked.headers["authorization"], "Basic Y2xvdWQ6aHVudGVyMg==");
    assert!(asked.headers["x-broker-api-version"].starts_with("2."));
    assert!(asked.headers["x-broker-api-originating-identity"].starts_with("cloudfoundry "));

    let shown = found(&world, "shop").await;
    assert_eq!((&shown["url"], &shown["relationships"]), (&json!(broker.url), &json!({})));
    assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("cloud\""), "{shown}");
    // Who may not see it is told that there is none; who may see it, that it is not theirs.
    let path = format!("/v3/service_brokers/{}", shown["guid"].as_str().unwrap());
    assert_eq!(world.get("ann", &path).await.status, 404);
    for (user, status) in [("ann", 404), ("boss-ro", 403), ("boss-ga", 403)] {
        for change in [json!({ "name": "x" }), json!({ "metadata": { "labels": { "a": "b" } } })] {
            assert_eq!(world.patch(user, &path, change).await.status, status, "{user}");
        }
        assert_eq!(world.delete(user, &path).await.status, status, "{user}");
    }
    assert!(names(&world, "ann", "/v3/service_brokers").await.is_empty());
    assert_eq!(names(&world, "admin", "/v3/service_offerings").await, ["db"]);
    assert_eq!(names(&world, "boss-ro", "/v3/service_plans?order_by=name").await, ["large", "small", "unbindable"]);
    assert!(names(&world, "ann", "/v3/service_offerings").await.is_empty());
    assert!(names(&world, "ann", "/v3/service_plans").await.is_empty());

    let large = world.get("admin", "/v3/service_plans?names=large").await.expect(200)["resources"][0].clone();
    assert_eq!((&large["visibility_type"], &large["free"], &large["available"]), (&json!("admin"), &json!(false), &json!(true)));
    assert_eq!(large["broker_catalog"]["id"], "db-large-id");
    assert_eq!(large["broker_catalog"]["features"], json!({ "bindable": true, "plan_updateable": true }));
    assert_eq!(
        large["schemas"],
        json!({ "service_instance": { "create": {}, "update": {} }, "service_binding": { "create": {} } })
    );
    let offering = world.get("admin", "/v3/service_offerings").await.expect(200)["resources"][0].clone();
    assert_eq!((&offering["shareable"], &offering["documentation_url"]), (&json!(true), &Value::Null));
    assert_eq!(offering["relationships"]["service_broker"]["data"]["name"], "shop");

    let created = events(&world, "audit.service_broker.create").await.remove(0);
    assert_eq!(created["data"]["request"]["authentication"]["credentials"]["password"], "[PRIVATE DATA HIDDEN]");
    let plans = events(&world, "audit.service_plan.create").await;
    assert_eq!(
        (plans.len(), &plans[0]["actor"]["type"], &plans[0]["actor"]["name"]),
        (3, &json!("service_broker"), &json!("shop"))
    );
}

async fn what_a_body_gets_wrong_is_told_at_once_and_no_broker_is_asked(world: World) {
    let broker = Broker::start().await;
    register(&world, "taken", &broker).await;
    broker.forget_seen();
    let with = |change: fn(&mut Value)| {
        let mut wrong = body("shop", &broker.url);
        change(&mut wrong);
        wrong
    };
    for (wrong, why) in [
        (with(|b| b["name"] = json!("")), "Name must not be empty string"),
        (with(|b| b["name"] = json!("taken")), "Name must be unique"),
        (with(|b| b["url"] = json!("ftp://x.test")), "Url 'ftp://x.test' must be a valid url"),
        (with(|b| b["url"] = json!("shop")), "Url 'shop' must be a valid url"),
        (with(|b| b["url"] = json!("http://a:b@x.test")), "Url must not contain authentication"),
        (with(|b| drop(b.as_object_mut().unwrap().remove("url"))), "Url must be a string"),
        (with(|b| drop(b.as_object_mut().unwrap().remove("authentication"))), "Authentication must be an object"),
        (with(|b| b["authentication"]["type"] = json!("token")), "Authentication type must be one of [\"basic\"]"),
        (
            with(|b| b["authentication"]["credentials"] = json!({ "username": "a" })),
            "Authentication credentials Field(s) [\"password\"] must be valid: [\"Password must be a string\"]",
        ),
        (with(|b| b["colour"] = json!("red")), "Unknown field(s): 'colour'"),
        (
            with(|b| b["relationships"] = json!({ "space": { "data": { "guid": "nowhere" } } })),
            "Invalid space. Ensure that the space exists and you have access to it.",
        ),
    ] {
        assert_eq!(world.post("admin", "/v3/service_brokers", wrong.clone()).await.detail(422), why, "{wrong}");
    }
    assert_eq!(world.post("ann", "/v3/service_brokers", with(|_| {})).await.status, 403);
    assert_eq!(world.post("boss-ro", "/v3/service_brokers", with(|_| {})).await.status, 403);
    assert!(broker.seen().is_empty());
}

async fn addresses_of_the_platform_itself_are_no_brokers(world: World) {
    for url in [
        "http://169.254.169.254/latest",
        "http://[::1]:80",
        "http://0.0.0.0:8080",
        "http://[fe80::1]",
        "http://10.254.0.7:8080",
        "http://[::ffff:10.254.0.7]",
    ] {
        let refused = world.post("admin", "/v3/service_brokers", body("evil", url)).await.detail(422);
        assert!(refused.starts_with(&format!("Url '{url}' is not allowed: ")), "{refused}");
    }
    // Nobody answers behind this name of the platform: the router's address is asked, not what the name resolves to.
    let job = settle(&world, world.post("admin", "/v3/service_brokers", body("app", "http://shop.app.test")).await).await;
    assert_eq!(failure(&job).0, 270_022);
}

/// Puts TLS with a certificate of an authority of its own in front of a broker: its address, and the authority as PEM.
async fn behind_tls(broker: &Broker) -> (String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, rustls::pki_types::PrivatePkcs8KeyDer};
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&ca_key).unwrap().pem();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &Issuer::new(ca, ca_key));
    let der = certificate.unwrap().der().clone();
    let with_key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![der], with_key.into()).unwrap();
    let (acceptor, plain) = (TlsAcceptor::from(std::sync::Arc::new(config)), broker.url.replace("http://", ""));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut to = tokio::net::TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
            });
        }
    });
    (url, authority)
}

async fn a_certificate_that_nobody_vouches_for_is_believed_only_if_the_operator_says_so(mut world: World) {
    let broker = Broker::start().await;
    let (url, authority) = behind_tls(&broker).await;
    let job = settle(&world, world.post("admin", "/v3/service_brokers", body("secure", &url)).await).await;
    let (code, why) = failure(&job);
    assert!(code == 270_022 && why.contains("certificate"), "{why}");
    assert!(broker.seen().is_empty(), "nothing is sent to somebody unknown");
    let path = format!("/v3/service_brokers/{}", found(&world, "secure").await["guid"].as_str().unwrap());
    let again = async |world: &World| settle(world, world.patch("admin", &path, json!({ "url": url })).await).await;

    let file = world.folder().join("brokers.pem");
    std::fs::write(&file, authority).unwrap();
    world.restart_with(|config| config.broker_ca = Some(file)).await;
    assert_eq!(again(&world).await["state"], "COMPLETE");

    world.restart_with(|config| config.broker_ca = None).await;
    assert_eq!(again(&world).await["state"], "FAILED");
    let place = ("127.0.0.1".to_owned(), url.rsplit_once(':').unwrap().1.parse().unwrap());
    world.restart_with(|config| config.broker_skip_tls_verify.extend([place])).await;
    assert_eq!(again(&world).await["state"], "COMPLETE");
}

async fn a_broker_that_fails_leaves_a_broker_that_can_be_mended(world: World) {
    let broker = Broker::start().await;
    let twice = json!({ "services": [offering("db"), offering("db")] });
    let scripts: Vec<(Script, u64, &str)> = vec![
        (catalog_says(401, &[], b"{}"), 270_020, "HTTP status 401"),
        (catalog_says(500, &[], b"{\"description\": \"the disk is gone\"}"), 270_020, "the disk is gone"),
        (catalog_says(404, &[], b"nothing"), 270_020, "HTTP status 404"),
        (catalog_says(302, &[("location", "http://169.254.169.254/")], b""), 270_020, "HTTP status 302"),
        (catalog_says(200, &[], b"<html>"), 270_021, "invalid"),
        (catalog_says(200, &[], b"[]"), 270_021, "invalid"),
        (catalog_says(200, &[], &vec![b' '; 10 << 20]), 270_021, "HTTP status 200"),
        (Script::next("GET", "catalog").closes(), 270_020, "request id"),
        (Script::next("GET", "catalog").hangs(), 270_022, "timed out"),
        (Script::next("GET", "catalog").answers(200, json!({ "services": [] })), 270_012, "at least one service"),
        (
            Script::next("GET", "catalog").answers(200, json!({ "services": [{ "name": "db" }] })),
            270_012,
            "Service id is required",
        ),
        (Script::next("GET", "catalog").answers(200, twice), 270_012, "Service ids must be unique"),
    ];
    for (number, (script, code, text)) in scripts.into_iter().enumerate() {
        broker.script(script);
        let name = format!("broken{number}");
        let job = settle(&world, world.post("admin", "/v3/service_brokers", body(&name, &broker.url)).await).await;
        let (got, detail) = failure(&job);
        assert_eq!(got, code, "{number}: {detail}");
        assert!(detail.contains(text), "{number}: {detail}");
        assert!(code == 270_012 || detail.contains(&name), "{number}: {detail}");
        let broken = found(&world, &name).await;
        let path = format!("/v3/service_brokers/{}", broken["guid"].as_str().unwrap());
        assert!(names(&world, "admin", &format!("/v3/service_plans?service_broker_names={name}")).await.is_empty());
        // It can be repaired, or taken away.
        if number % 2 == 0 {
            let job = settle(&world, world.patch("admin", &path, json!({ "url": broker.url })).await).await;
            assert_eq!(
                (&job["state"], &job["operation"]),
                (&json!("COMPLETE"), &json!("service_broker.update")),
                "{number}: {job}"
            );
        }
        assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE", "{number}");
    }
    assert!(names(&world, "admin", "/v3/service_brokers").await.is_empty());
    assert!(names(&world, "admin", "/v3/service_offerings").await.is_empty());
}

fn catalog_says(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Script {
    Script::next("GET", "catalog").says(status, headers, body)
}

async fn an_update_holds_only_once_the_catalog_was_fetched(world: World) {
    let (old, new) = (Broker::start().await, Broker::start().await);
    let guid = register(&world, "shop", &old).await;
    let path = format!("/v3/service_brokers/{guid}");
    // A name alone, and metadata alone.
    let renamed = world.patch("admin", &path, json!({ "name": "store" })).await;
    assert_eq!(world.job(renamed).await["state"], "COMPLETE");
    let described = world.patch("admin", &path, json!({ "metadata": { "labels": { "tier": "gold" } } })).await.expect(200);
    assert_eq!((&described["name"], &described["metadata"]["labels"]["tier"]), (&json!("store"), &json!("gold")));
    assert_eq!(names(&world, "admin", "/v3/service_brokers?label_selector=tier%3Dgold").await, ["store"]);
    assert_eq!(old.seen_with("catalog").len(), 1);
    // The new address fails: all stays.
    new.script(catalog_says(503, &[], b"{}"));
    let job = settle(&world, world.patch("admin", &path, json!({ "url": new.url, "name": "other" })).await).await;
    assert_eq!(failure(&job).0, 270_020);
    let shown = world.get("admin", &path).await.expect(200);
    assert_eq!((&shown["name"], &shown["url"]), (&json!("store"), &json!(old.url)));
    // While the catalog is fetched, nothing else goes on; instances are asked for at the old address.
    new.script(Script::next("GET", "catalog").holds());
    let change = json!({ "url": new.url, "authentication": body("", "")["authentication"] });
    let meanwhile = async {
        new.holding().await;
        let busy = world.patch("admin", &path, json!({ "name": "later" })).await;
        assert_eq!(busy.detail(422), "Cannot update a broker when other operation is already in progress");
        assert_eq!(world.get("admin", &path).await.expect(200)["url"], json!(old.url));
        new.release();
    };
    let (begun, ()) = futures::join!(world.patch("admin", &path, change), meanwhile);
    assert_eq!(settle(&world, begun).await["state"], "COMPLETE");
    assert_eq!(world.get("admin", &path).await.expect(200)["url"], json!(new.url));
}

async fn a_broker_that_is_deleted_while_its_catalog_is_fetched_is_gone(world: World) {
    let broker = Broker::start().await;
    broker.script(Script::next("GET", "catalog").holds());
    let meanwhile = async {
        broker.holding().await;
        let path = format!("/v3/service_brokers/{}", found(&world, "shop").await["guid"].as_str().unwrap());
        assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE");
        broker.release();
    };
    let (begun, ()) = futures::join!(world.post("admin", "/v3/service_brokers", body("shop", &broker.url)), meanwhile);
    assert_eq!(failure(&settle(&world, begun).await).0, 270_011);
    assert!(names(&world, "admin", "/v3/service_offerings").await.is_empty());
}

async fn a_controller_that_was_killed_goes_on_with_catalogs(mut world: World) {
    let broker = Broker::start().await;
    broker.script(Script::next("GET", "catalog").hangs());
    let begun = world.post("admin", "/v3/service_brokers", body("shop", &broker.url)).await;
    world.kill().await;
    assert_eq!(settle(&world, begun).await["state"], "COMPLETE");
    let path = format!("/v3/service_brokers/{}", found(&world, "shop").await["guid"].as_str().unwrap());
    assert_eq!(names(&world, "admin", "/v3/service_plans").await.len(), 3);
    broker.script(Script::next("GET", "catalog").hangs());
    let begun = world.patch("admin", &path, json!({ "url": broker.url, "name": "store" })).await;
    world.kill().await;
    assert_eq!(settle(&world, begun).await["state"], "COMPLETE");
    assert_eq!(world.get("admin", &path).await.expect(200)["name"], "store");
    assert_eq!(broker.seen_with("catalog").len(), 4);
}

async fn what_is_used_outlives_its_catalog_and_its_broker_cannot_go(world: World) {
    let market = Market::open(&world).await;
    market.instance(&world, "mydb").await;
    let broker = found(&world, "the-broker").await["guid"].as_str().unwrap().to_owned();
    let path = format!("/v3/service_brokers/{broker}");
    let refused = world.delete("admin", &path).await;
    assert_eq!(refused.body["errors"][0]["code"], 270_010);
    assert_eq!(refused.detail(422), "Can not remove brokers that have associated service instances: the-broker");

    market.broker.set_catalog(catalog("queue"));
    let job = settle(&world, world.patch("admin", &path, json!({ "url": market.broker.url })).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let warning = job["warnings"][0]["detail"].as_str().unwrap();
    assert!(warning.contains("\ndb\n  small\n") && !warning.contains("large"), "{warning}");
    assert_eq!(names(&world, "admin", "/v3/service_offerings?order_by=name").await, ["db", "queue"]);
    assert_eq!(names(&world, "admin", "/v3/service_offerings?available=false").await, ["db"]);
    assert_eq!(names(&world, "admin", "/v3/service_plans?available=false").await, ["small"]);
    assert_eq!(names(&world, "ann", "/v3/service_plans").await, ["small"]);
    assert_eq!(events(&world, "audit.service_plan.delete").await.len(), 2);
    let wrong = world.get("admin", "/v3/service_plans?available=maybe").await;
    assert_eq!(wrong.detail(400), "The query parameter is invalid: Available only accepts values 'true' or 'false'");

    let used = format!("/v3/service_plans/{}", market.plans["small"]);
    assert_eq!(
        world.delete("admin", &used).await.detail(422),
        "Please delete the service_instances associations for your service_plans."
    );
    let offering = world.get("admin", "/v3/service_offerings?names=db").await.expect(200)["resources"][0].clone();
    let offering = format!("/v3/service_offerings/{}", offering["guid"].as_str().unwrap());
    assert_eq!(
        world.delete("admin", &offering).await.detail(422),
        "Please delete the service_plans associations for your services."
    );
    assert_eq!(world.delete("ann", &offering).await.status, 403);
    // Purging asks no broker.
    market.broker.forget_seen();
    assert_eq!(world.delete("admin", &format!("{offering}?purge=true")).await.status, 204);
    assert!(market.broker.seen().is_empty());
    assert!(names(&world, "admin", "/v3/service_instances").await.is_empty());
    assert_eq!(names(&world, "admin", "/v3/service_offerings").await, ["queue"]);
    assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE");
    assert!(names(&world, "admin", "/v3/service_plans").await.is_empty());
}

async fn a_plan_is_opened_to_everybody_to_organizations_and_closed_again(world: World) {
    let broker = Broker::start().await;
    register(&world, "shop", &broker).await;
    let (a, b) = (org(&world, "a").await, org(&world, "b").await);
    let (in_a, in_b) = (space(&world, &a, "s").await, space(&world, &b, "s").await);
    role(&world, "ann", "space_developer", &in_a).await;
    role(&world, "bob", "organization_billing_manager", &b).await;
    let small = plan(&world, "small").await;
    let path = format!("/v3/service_plans/{small}/visibility");
    assert_eq!(world.get("ann", &path).await.detail(404), "Service plan not found");

    let orgs = |guids: &[&str]| json!({ "type": "organization", "organizations": guids.iter().map(|guid| json!({ "guid": guid })).collect::<Vec<_>>() });
    assert_eq!(world.post("ann", &path, orgs(&[&a])).await.status, 404);
    assert_eq!(world.post("admin", &path, orgs(&[&a])).await.expect(200), json!({ "type": "organization" }));
    assert_eq!(names(&world, "ann", "/v3/service_plans").await, ["small"]);
    assert_eq!(names(&world, "ann", "/v3/service_offerings").await, ["db"]);
    assert!(names(&world, "bob", "/v3/service_plans").await.is_empty());
    assert!(names(&world, "", "/v3/service_plans").await.is_empty());
    assert_eq!(world.patch("ann", &path, json!({ "type": "public" })).await.status, 403);
    assert_eq!(world.get("ann", &path).await.expect(200)["organizations"], json!([{ "guid": a, "name": "a" }]));
    // It appends, and twice is once.
    world.post("admin", &path, orgs(&[&a, &b])).await.expect(200);
    assert_eq!(world.get("admin", &path).await.expect(200)["organizations"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("bob", &path).await.expect(200)["organizations"], json!([{ "guid": b, "name": "b" }]));
    // Filters by place leave what is seen there.
    for (query, user, seen) in [
        (format!("organization_guids={a}"), "bob", 0),
        (format!("organization_guids={b}"), "bob", 1),
        (format!("space_guids={in_a}"), "ann", 1),
        (format!("space_guids={in_b}"), "ann", 0),
        (format!("space_guids={in_b}"), "admin", 1),
        (format!("space_guids={in_b}&organization_guids={a}"), "admin", 0),
        ("organization_guids=nowhere".to_owned(), "admin", 0),
    ] {
        assert_eq!(names(&world, user, &format!("/v3/service_plans?{query}")).await.len(), seen, "{user} {query}");
        assert_eq!(names(&world, user, &format!("/v3/service_offerings?{query}")).await.len(), seen, "{user} {query}");
    }
    // PATCH replaces.
    let replaced = world.patch("admin", &path, orgs(&[&b])).await.expect(200);
    assert_eq!(replaced, json!({ "type": "organization", "organizations": [{ "guid": b, "name": "b" }] }));
    assert_eq!(world.delete("admin", &format!("{path}/{a}")).await.detail(404), "Service plan visibility not found");
    assert_eq!(world.delete("admin", &format!("{path}/nowhere")).await.detail(404), "Organization not found");
    assert_eq!(world.delete("admin", &format!("{path}/{b}")).await.status, 204);
    assert_eq!(world.get("admin", &path).await.expect(200), json!({ "type": "admin" }));
    assert_eq!(
        world.delete("admin", &format!("{path}/{b}")).await.detail(422),
        "Cannot delete visibilities from non-org-restricted plans"
    );
    assert_eq!(world.post("admin", &path, json!({ "type": "public" })).await.expect(200), json!({ "type": "public" }));
    assert_eq!(names(&world, "bob", "/v3/service_plans").await, ["small"]);
    assert_eq!(names(&world, "admin", "/v3/service_plans?organization_guids=nowhere").await, ["small"]);
    for (wrong, why) in [
        (json!({ "type": "space" }), "Bad request: Type must be one of 'public', 'admin', 'organization'"),
        (json!({ "type": "organization" }), "Bad request: Organizations can't be blank"),
        (json!({ "type": "public", "organizations": [{ "guid": a }] }), "Bad request: Organizations must be blank"),
    ] {
        assert_eq!(world.patch("admin", &path, wrong).await.detail(400), why);
    }
    assert_eq!(
        world.patch("admin", &path, orgs(&["nowhere"])).await.detail(422),
        "Could not find Organization with guid: nowhere"
    );
    assert_eq!(world.get("admin", &path).await.expect(200), json!({ "type": "public" }));
    assert_eq!(events(&world, "audit.service_plan_visibility.update").await.len(), 4);
    assert_eq!(events(&world, "audit.service_plan_visibility.delete").await[0]["data"]["organization_guid"], json!(b));
}

async fn the_marketplace_is_open_to_people_without_an_account_unless_it_is_hidden(world: World) {
    let market = Market::open(&world).await;
    let query = "include=service_offering&fields[service_offering.service_broker]=name,guid&per_page=5000&available=true";
    let shown = world.get("", &format!("/v3/service_plans?{query}&order_by=name")).await.expect(200);
    assert_eq!(shown["pagination"]["total_results"], 3);
    assert_eq!(shown["included"]["service_offerings"].as_array().unwrap().len(), 1);
    assert_eq!(shown["included"]["service_offerings"][0]["name"], "db");
    let brokers = shown["included"]["service_brokers"].as_array().unwrap();
    assert_eq!((brokers.len(), &brokers[0]["name"], brokers[0].as_object().unwrap().len()), (1, &json!("the-broker"), 2));
    let plan = format!("/v3/service_plans/{}", market.plans["small"]);
    assert_eq!(world.get("", &plan).await.expect(200)["name"], "small");
    assert_eq!(
        world.get("", "/v3/service_offerings?fields[service_broker]=name").await.expect(200)["included"]["service_brokers"][0],
        json!({ "name": "the-broker" })
    );
    assert_eq!(world.get("", &format!("{plan}/visibility")).await.status, 401);
    assert_eq!(world.get("", "/v3/service_brokers").await.status, 401);
    assert_eq!(world.patch("", &plan, json!({})).await.status, 401);
    let wrong = world.request(reqwest::Method::GET, "", "/v3/service_plans").header("Authorization", "bearer nonsense");
    assert_eq!(world.finish(wrong).await.status, 401);
    let flag = "/v3/feature_flags/hide_marketplace_from_unauthenticated_users";
    world.patch("admin", flag, json!({ "enabled": true })).await.expect(200);
    assert_eq!(world.get("", "/v3/service_plans").await.status, 401);
    assert_eq!(world.get("", &plan).await.status, 401);
    assert_eq!(world.get("ann", &plan).await.status, 200);
}

async fn filters_find_plans_and_offerings(world: World) {
    let market = Market::open(&world).await;
    let other = Broker::start().await;
    other.set_catalog(catalog("queue"));
    register(&world, "second", &other).await;
    let instance = market.instance(&world, "mydb").await;
    let offering = world.get("admin", "/v3/service_offerings?names=queue").await.expect(200)["resources"][0].clone();
    let (offering, broker) = (offering["guid"].as_str().unwrap(), found(&world, "second").await);
    for (query, count) in [
        ("names=small".to_owned(), 2),
        ("names=small,large".to_owned(), 4),
        // Names of plans and offerings compare without case; those of brokers do not.
        ("names=SMALL".to_owned(), 2),
        ("service_offering_names=Queue".to_owned(), 3),
        ("service_broker_names=Second".to_owned(), 0),
        ("service_broker_names=second".to_owned(), 3),
        (format!("service_broker_guids={}", broker["guid"].as_str().unwrap()), 3),
        ("service_offering_names=db&names=small".to_owned(), 1),
        (format!("service_offering_guids={offering}"), 3),
        ("broker_catalog_ids=queue-large-id".to_owned(), 1),
        (format!("service_instance_guids={instance}"), 1),
        ("names=".to_owned(), 0),
    ] {
        assert_eq!(names(&world, "admin", &format!("/v3/service_plans?{query}")).await.len(), count, "{query}");
    }
    for (query, count) in [("service_broker_names=second", 1), ("broker_catalog_ids=db-id", 1), ("names=db,queue", 2)] {
        assert_eq!(names(&world, "admin", &format!("/v3/service_offerings?{query}")).await.len(), count, "{query}");
    }
    let path = format!("/v3/service_offerings/{offering}");
    let change = json!({ "metadata": { "labels": { "tier": "gold" } } });
    assert_eq!(world.patch("admin", &path, change.clone()).await.expect(200)["metadata"]["labels"]["tier"], "gold");
    assert_eq!(world.patch("ann", &path, change.clone()).await.status, 404);
    assert_eq!(world.patch("ann", &format!("/v3/service_plans/{}", market.plans["small"]), change.clone()).await.status, 403);
    world.patch("admin", &format!("/v3/service_plans/{}", market.plans["small"]), change).await.expect(200);
    assert_eq!(names(&world, "admin", "/v3/service_offerings?label_selector=tier%3Dgold").await, ["queue"]);
    assert_eq!(names(&world, "admin", "/v3/service_plans?label_selector=tier%3Dgold").await, ["small"]);
}

async fn a_broker_of_a_space_is_for_that_space_alone(world: World) {
    let broker = Broker::start().await;
    let org_a = org(&world, "a").await;
    let (mine, yours) = (space(&world, &org_a, "mine").await, space(&world, &org_a, "yours").await);
    for (user, kind) in [("dev", "space_developer"), ("man", "space_manager"), ("sup", "space_supporter")] {
        role(&world, user, kind, &mine).await;
    }
    role(&world, "you", "space_developer", &yours).await;
    let mut scoped = body("private", &broker.url);
    scoped["relationships"] = json!({ "space": { "data": { "guid": mine } } });
    assert_eq!(world.post("man", "/v3/service_brokers", scoped.clone()).await.status, 403);
    assert_eq!(world.post("you", "/v3/service_brokers", scoped.clone()).await.status, 422);
    world.patch("admin", "/v3/feature_flags/space_scoped_private_broker_creation", json!({ "enabled": false })).await.expect(200);
    assert_eq!(world.post("dev", "/v3/service_brokers", scoped.clone()).await.status, 403);
    world.patch("admin", "/v3/feature_flags/space_scoped_private_broker_creation", json!({ "enabled": true })).await.expect(200);
    let job = settle(&world, world.post("dev", "/v3/service_brokers", scoped).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    let shown = world.get("dev", "/v3/service_brokers").await.expect(200)["resources"][0].clone();
    assert_eq!(shown["relationships"]["space"]["data"]["guid"], json!(mine));
    let path = format!("/v3/service_brokers/{}", shown["guid"].as_str().unwrap());
    for (user, broker, plans) in [("dev", 200, 3), ("sup", 200, 3), ("man", 404, 3), ("you", 404, 0), ("boss-ga", 200, 3)] {
        assert_eq!(world.get(user, &path).await.status, broker, "{user}");
        assert_eq!(names(&world, user, "/v3/service_plans").await.len(), plans, "{user}");
        assert_eq!(names(&world, user, &format!("/v3/service_plans?space_guids={mine}")).await.len(), plans, "{user}");
        assert_eq!(names(&world, user, &format!("/v3/service_offerings?space_guids={yours}")).await.len(), 0, "{user}");
    }
    assert!(names(&world, "", "/v3/service_plans").await.is_empty());
    assert_eq!(names(&world, "admin", &format!("/v3/service_brokers?space_guids={mine}")).await, ["private"]);
    let small = plan(&world, "small").await;
    let shown = world.get("man", "/v3/service_plans?include=space.organization&names=small").await.expect(200);
    assert_eq!(shown["resources"][0]["visibility_type"], "space");
    assert_eq!(
        (&shown["included"]["spaces"][0]["name"], &shown["included"]["organizations"][0]["name"]),
        (&json!("mine"), &json!("a"))
    );
    let visibility = format!("/v3/service_plans/{small}/visibility");
    assert_eq!(
        world.get("dev", &visibility).await.expect(200),
        json!({ "type": "space", "space": { "guid": mine, "name": "mine" } })
    );
    assert_eq!(
        world.patch("dev", &visibility, json!({ "type": "public" })).await.detail(422),
        "cannot update plans with visibility type 'space'"
    );
    assert_eq!(world.patch("sup", &path, json!({ "name": "x" })).await.status, 403);
    assert_eq!(world.patch("you", &path, json!({ "name": "x" })).await.status, 404);
    let job = settle(&world, world.delete("dev", &path).await).await;
    assert_eq!(job["state"], "COMPLETE", "{job}");
    assert_eq!(events(&world, "audit.service_broker.delete").await[0]["actor"]["name"], "dev@cf.test");
}

async fn five_hundred_plans_come_in_few_statements_and_are_shown_in_as_many_as_one(world: World) {
    let broker = Broker::start().await;
    let plans: Vec<Value> =
        (0..500).map(|n| json!({ "id": format!("p{n}"), "name": format!("plan{n}"), "description": "one of many" })).collect();
    let mut many = offering("many");
    many["plans"] = plans.clone().into();
    broker.set_catalog(json!({ "services": [many] }));
    let before = world.api.store.queries();
    let guid = register(&world, "shop", &broker).await;
    let used = world.api.store.queries() - before;
    assert!(used < 80, "{used} statements");
    let cost = async |path: &str| {
        let (mut count, mut least) = (0, u64::MAX);
        // What goes on besides may come in between.
        for _ in 0..5 {
            let before = world.api.store.queries();
            count = world.get("admin", path).await.expect(200)["resources"].as_array().unwrap().len();
            least = least.min(world.api.store.queries() - before);
        }
        (count, least)
    };
    let query = "/v3/service_plans?include=service_offering,space.organization&fields[service_offering.service_broker]=name";
    let (one, of_one) = cost(&format!("{query}&per_page=1")).await;
    let (all, of_all) = cost(&format!("{query}&per_page=5000")).await;
    assert_eq!((one, all), (1, 500));
    assert_eq!(of_one, of_all);
    // Half of them go, the rest is the same.
    let mut fewer = offering("many");
    fewer["plans"] = plans[..250].into();
    broker.set_catalog(json!({ "services": [fewer] }));
    let before = world.api.store.queries();
    settle(&world, world.patch("admin", &format!("/v3/service_brokers/{guid}"), json!({ "url": broker.url })).await).await;
    let used = world.api.store.queries() - before;
    assert!(used < 80, "{used} statements");
    assert_eq!(cost("/v3/service_plans?per_page=5000").await.0, 250);
}

async fn usage_events_tell_what_was_there_to_those_who_bill(world: World) {
    let market = Market::open(&world).await;
    let guid = market.instance(&world, "mydb").await;
    let path = format!("/v3/service_instances/{guid}");
    world.patch("admin", &path, json!({ "name": "ourdb" })).await.expect(200);
    settle(&world, world.delete("admin", &path).await).await;
    market.instance(&world, "second").await;
    let list = "/v3/service_usage_events";
    let all = world.get("boss-ga", list).await.expect(200)["resources"].as_array().unwrap().clone();
    let states: Vec<&str> = all.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["CREATED", "UPDATED", "DELETED", "CREATED"]);
    let first = &all[0];
    assert_eq!(first["service_instance"], json!({ "guid": guid, "name": "mydb", "type": "managed_service_instance" }));
    assert_eq!((&first["service_plan"]["name"], &first["service_offering"]["name"]), (&json!("small"), &json!("db")));
    assert_eq!((&first["service_broker"]["name"], &first["space"]["name"]), (&json!("the-broker"), &json!("dev")));
    let one = format!("{list}/{}", first["guid"].as_str().unwrap());
    assert_eq!(world.get("boss-ga", &one).await.expect(200)["state"], "CREATED");
    assert_eq!(world.get("ann", &one).await.detail(404), "Service usage event not found");
    assert_eq!(world.get("ann", list).await.expect(200)["pagination"]["total_results"], 0);
    let count = async |query: String| {
        world.get("admin", &format!("{list}?{query}")).await.expect(200)["pagination"]["total_results"].clone()
    };
    assert_eq!(count(format!("after_guid={}", all[1]["guid"].as_str().unwrap())).await, 2);
    assert_eq!(count("service_instance_types=user_provided_service_instance".into()).await, 0);
    assert_eq!(count(format!("service_offering_guids={}", first["service_offering"]["guid"].as_str().unwrap())).await, 4);
    for (query, why) in [
        ("after_guid=a,b", "After guid filter accepts only one guid"),
        ("after_guid=nowhere", "After guid filter must be a valid service usage event guid."),
        ("updated_ats=2026-01-02T03:04:05Z", "Filtering by 'updated_ats' is not allowed on this resource."),
    ] {
        assert_eq!(world.get("admin", &format!("{list}?{query}")).await.detail(422), why);
    }
    let second = named(&world, "second").await["guid"].as_str().unwrap().to_owned();
    assert_eq!(settle(&world, market.ask_key(&world, &second, "key").await).await["state"], "COMPLETE");
    let org = format!("/v3/organizations/{}", market.org);
    for path in [format!("/v3/spaces/{}", market.space), org, "/v3/info".to_owned()] {
        let used = world.get("admin", &format!("{path}/usage_summary")).await.expect(200);
        let services = (&used["usage_summary"]["service_instances"], &used["usage_summary"]["service_keys"]);
        assert_eq!(services, (&json!(1), &json!(1)), "{path}");
    }
    let reseed = format!("{list}/actions/destructively_purge_all_and_reseed");
    assert_eq!(world.post("boss-ga", &reseed, json!({})).await.status, 403);
    assert_eq!(world.post("admin", &reseed, json!({})).await.expect(200), json!({}));
    let all = world.get("admin", list).await.expect(200)["resources"].as_array().unwrap().clone();
    assert_eq!((all.len(), &all[0]["state"], &all[0]["service_instance"]["name"]), (1, &json!("CREATED"), &json!("second")));
}

async fn app_usage_events_tell_what_ran_and_how_much_of_it(world: World) {
    let space = push::space(&world).await;
    let app = push::running(&world, &space, "dora").await;
    let path = format!("/v3/apps/{app}");
    let scale = format!("{path}/processes/web/actions/scale");
    let act = async |action: &str| world.post("dev", &format!("{path}/actions/{action}"), json!({})).await.expect(200);
    world.post("dev", &scale, json!({ "instances": 3, "memory_in_mb": 64 })).await.expect(202);
    world.post("dev", &scale, json!({ "disk_in_mb": 100 })).await.expect(202);
    act("start").await;
    act("restart").await;
    act("stop").await;
    act("stop").await;
    world.post("dev", &scale, json!({ "instances": 1 })).await.expect(202);
    act("start").await;
    let list = "/v3/app_usage_events";
    let all = world.get("boss-ga", list).await.expect(200)["resources"].as_array().unwrap().clone();
    let web: Vec<&Value> = all.iter().filter(|event| event["process"]["type"] == "web").collect();
    let told: Vec<_> = web.iter().map(|event| (&event["state"]["current"], &event["instance_count"]["current"])).collect();
    assert_eq!(
        told,
        [
            (&json!("STARTED"), &json!(1)),
            (&json!("STARTED"), &json!(3)),
            (&json!("STOPPED"), &json!(3)),
            (&json!("STARTED"), &json!(1)),
        ]
    );
    assert_eq!(web[1]["memory_in_mb_per_instance"], json!({ "current": 64, "previous": 1024 }));
    assert_eq!((&web[1]["state"]["previous"], &web[1]["app"]["name"]), (&json!("STARTED"), &json!("dora")));
    assert_eq!(web[1]["instance_count"]["previous"], 1);
    let one = format!("{list}/{}", web[0]["guid"].as_str().unwrap());
    assert_eq!(world.get("boss-ga", &one).await.expect(200)["state"]["previous"], "STOPPED");
    assert_eq!(world.get("dev", &one).await.detail(404), "App usage event not found");
    assert_eq!(world.get("dev", list).await.expect(200)["pagination"]["total_results"], 0);
    let after = format!("{list}?after_guid={}", all[all.len() - 2]["guid"].as_str().unwrap());
    assert_eq!(world.get("admin", &after).await.expect(200)["pagination"]["total_results"], 1);
    let reseed = format!("{list}/actions/destructively_purge_all_and_reseed");
    assert_eq!(world.post("dev", &reseed, json!({})).await.status, 403);
    world.post("admin", &reseed, json!({})).await.expect(200);
    let job = world.delete("dev", &path).await;
    assert_eq!(world.job(job).await["state"], "COMPLETE");
    let all = world.get("admin", list).await.expect(200)["resources"].as_array().unwrap().clone();
    let web: Vec<&Value> =
        all.iter().filter(|event| event["process"]["type"] == "web").map(|event| &event["state"]["current"]).collect();
    assert_eq!(web, [&json!("STARTED"), &json!("STOPPED")]);
}

async fn a_broker_of_the_platform_is_asked_until_it_answers_and_its_plans_are_for_everybody(world: World) {
    let broker = Broker::start().await;
    broker.script(catalog_says(503, &[], b"{}").times(2));
    let own =
        Own { name: "postgres".into(), url: broker.url.clone(), username: "cc".into(), password: Secret::new("own-secret") };
    let since = i64::try_from(world.api.now().0).unwrap();
    for asked in 1..=3 {
        let own = own.clone();
        world.api.write_as_system(move |tx| brokers::keep(tx, &own)).await.unwrap();
        ended(&world).await;
        assert_eq!(broker.seen_with("catalog").len(), asked);
        let row =
            world.api.store.read(|conn| crate::store::service_brokers::find_named(conn, "postgres")).await.unwrap().unwrap();
        assert_eq!(brokers::is_kept(&row, since), asked == 3, "{asked}");
    }
    assert_eq!(names(&world, "", "/v3/service_plans?order_by=name").await, ["large", "small", "unbindable"]);
    // What an administrator closes stays closed, what is new is open.
    let path = format!("/v3/service_plans/{}/visibility", plan(&world, "large").await);
    world.patch("admin", &path, json!({ "type": "admin" })).await.expect(200);
    let mut more = catalog("db");
    let tiny = json!({ "id": "tiny-id", "name": "tiny", "description": "a new one" });
    more["services"][0]["plans"].as_array_mut().unwrap().push(tiny);
    broker.set_catalog(more);
    world.clock.advance(Duration::from_secs(60));
    world.api.write_as_system(move |tx| brokers::keep(tx, &own)).await.unwrap();
    ended(&world).await;
    assert_eq!(names(&world, "", "/v3/service_plans?order_by=name").await, ["small", "tiny", "unbindable"]);
}

async fn dashboards_get_clients_in_uaa_as_long_as_their_broker_offers_them(world: World) {
    let with = |name: &str, client: &str| {
        let mut with = offering(name);
        with["dashboard_client"] = json!({ "id": client, "secret": "top-secret", "redirect_uri": "https://dashboard.test" });
        with
    };
    let ids = || world.dashboards.known.lock().iter().map(|client| client.id.clone()).collect::<Vec<_>>();
    world.dashboards.known.lock().push(KnownClient { id: "cf".into(), name: "cf".into() });
    let (first, second) = (Broker::start().await, Broker::start().await);
    first.set_catalog(json!({ "services": [with("db", "db-dashboard")] }));
    let guid = register(&world, "first", &first).await;
    assert_eq!(ids(), ["cf", "db-dashboard"]);
    let changes = format!("{:?}", world.dashboards.changes.lock());
    assert!(changes.contains("cloud_controller_service_permissions.read") && !changes.contains("top-secret"), "{changes}");
    let event = events(&world, "audit.service_dashboard_client.create").await.remove(0);
    assert_eq!((&event["target"]["guid"], &event["actor"]["guid"]), (&json!("db-dashboard"), &json!(guid)));
    assert!(!world.get("admin", "/v3/audit_events?per_page=5000").await.body.to_string().contains("top-secret"));

    // Clients of UAA's own, and of other brokers, are taken.
    for taken in ["cf", "db-dashboard"] {
        second.set_catalog(json!({ "services": [with("queue", taken)] }));
        let job = settle(&world, world.post("admin", "/v3/service_brokers", body("second", &second.url)).await).await;
        let (code, why) = failure(&job);
        assert!(code == 270_012 && why.contains("Service queue\n  Service dashboard client id must be unique"), "{why}");
        let path = format!("/v3/service_brokers/{}", found(&world, "second").await["guid"].as_str().unwrap());
        assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE");
    }
    assert_eq!(ids(), ["cf", "db-dashboard"]);

    // Without UAA the old catalog stays; with it, clients follow the catalog.
    first.set_catalog(json!({ "services": [with("db", "db-new"), with("more", "more-dashboard")] }));
    let path = format!("/v3/service_brokers/{guid}");
    world.dashboards.away.store(true, Ordering::SeqCst);
    let job = settle(&world, world.patch("admin", &path, json!({ "url": first.url })).await).await;
    let (code, why) = failure(&job);
    assert!(code == 270_013 && why.contains("could not be modified: UAA is away"), "{why}");
    assert_eq!(names(&world, "admin", "/v3/service_offerings").await, ["db"]);
    let job = settle(&world, world.delete("admin", &path).await).await;
    assert_eq!(failure(&job).0, 270_013);
    world.dashboards.away.store(false, Ordering::SeqCst);
    settle(&world, world.patch("admin", &path, json!({ "url": first.url })).await).await;
    assert_eq!(ids(), ["cf", "db-new", "more-dashboard"]);
    assert_eq!(events(&world, "audit.service_dashboard_client.delete").await.len(), 1);
    assert_eq!(settle(&world, world.delete("admin", &path).await).await["state"], "COMPLETE");
    assert_eq!(ids(), ["cf"]);

    // One that nobody needs any more is free.
    world.dashboards.known.lock().push(KnownClient { id: "left".into(), name: "Dashboard of x (service broker gone)".into() });
    first.set_catalog(json!({ "services": [with("db", "left")] }));
    register(&world, "third", &first).await;
    assert_eq!(ids(), ["cf", "left"]);
}

async fn a_space_takes_its_brokers_and_the_clients_of_their_dashboards_with_it(mut world: World) {
    let broker = Broker::start().await;
    let mut offer = offering("db");
    offer["dashboard_client"] = json!({ "id": "own-dashboard", "secret": "s", "redirect_uri": "https://dashboard.test" });
    broker.set_catalog(json!({ "services": [offer] }));
    let ids = |world: &World| world.dashboards.known.lock().iter().map(|client| client.id.clone()).collect::<Vec<_>>();
    let acme = org(&world, "acme").await;
    for (round, whole) in [("space", false), ("organization", true)] {
        let mine = space(&world, &acme, round).await;
        let mut scoped = body("private", &broker.url);
        scoped["relationships"] = json!({ "space": { "data": { "guid": mine } } });
        settle(&world, world.post("admin", "/v3/service_brokers", scoped).await).await;
        assert_eq!(ids(&world), ["own-dashboard"]);
        let path = if whole { format!("/v3/organizations/{acme}") } else { format!("/v3/spaces/{mine}") };

        // Nothing is forgotten as long as UAA cannot be asked.
        world.dashboards.away.store(true, Ordering::SeqCst);
        let job = settle(&world, world.delete("admin", &path).await).await;
        let (_, why) = failure(&job);
        assert!(why.contains("private: ") && why.contains("UAA is away"), "{why}");
        world.get("admin", &format!("/v3/spaces/{mine}")).await.expect(200);
        assert_eq!(names(&world, "admin", "/v3/service_brokers").await, ["private"]);

        // What was begun goes on in the next run.
        world.dashboards.away.store(false, Ordering::SeqCst);
        let answered = world.delete("admin", &path).await;
        let location = answered.headers["Location"].to_str().unwrap().to_owned();
        world.kill().await;
        world.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(crate::tests::marketplace::settle_job(&world, &location).await["state"], "COMPLETE");
        assert!(ids(&world).is_empty(), "{round}");
        assert_eq!(world.get("admin", &format!("/v3/spaces/{mine}")).await.status, 404);
        assert!(names(&world, "admin", "/v3/service_brokers").await.is_empty());
    }
    assert_eq!(events(&world, "audit.service_broker.delete").await.len(), 2);
    assert_eq!(events(&world, "audit.service_dashboard_client.delete").await.len(), 2);
}

/// Waits until no work at brokers is under way; the clock stands still.
async fn ended(world: &World) {
    for _ in 0..500 {
        if under_way(world).await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("work at brokers does not end");
}

super::scenarios! {
    a_new_broker_brings_its_catalog_for_administrators_alone,
    what_a_body_gets_wrong_is_told_at_once_and_no_broker_is_asked,
    addresses_of_the_platform_itself_are_no_brokers,
    a_certificate_that_nobody_vouches_for_is_believed_only_if_the_operator_says_so,
    a_broker_that_fails_leaves_a_broker_that_can_be_mended,
    an_update_holds_only_once_the_catalog_was_fetched,
    a_broker_that_is_deleted_while_its_catalog_is_fetched_is_gone,
    a_controller_that_was_killed_goes_on_with_catalogs,
    what_is_used_outlives_its_catalog_and_its_broker_cannot_go,
    a_plan_is_opened_to_everybody_to_organizations_and_closed_again,
    the_marketplace_is_open_to_people_without_an_account_unless_it_is_hidden,
    filters_find_plans_and_offerings,
    a_broker_of_a_space_is_for_that_space_alone,
    five_hundred_plans_come_in_few_statements_and_are_shown_in_as_many_as_one,
    usage_events_tell_what_was_there_to_those_who_bill,
    app_usage_events_tell_what_ran_and_how_much_of_it,
    dashboards_get_clients_in_uaa_as_long_as_their_broker_offers_them,
    a_space_takes_its_brokers_and_the_clients_of_their_dashboards_with_it,
    a_broker_of_the_platform_is_asked_until_it_answers_and_its_plans_are_for_everybody,
}
