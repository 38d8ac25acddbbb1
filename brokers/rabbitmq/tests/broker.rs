//! The broker with a real node: what its credentials open, what they do not, and what survives.

#![expect(clippy::unwrap_used, reason = "tests")]

mod world;

use rabbitmq_broker::plans::{LARGE_ID, SHARED_ID};
use serde_json::json;
use std::time::{Duration, Instant};
use world::{World, value};

#[test]
fn credentials_open_one_virtual_host_until_they_are_revoked_and_limits_hold() {
    let world = World::new();
    for id in ["one", "two"] {
        world.provision(id, SHARED_ID, json!({})).unwrap();
    }
    world.provision("one", SHARED_ID, json!({})).unwrap();
    let bound = world.bind("one", "b1", json!({})).unwrap();
    let credentials = bound.credentials.clone().unwrap();
    assert_eq!(bound.endpoints.unwrap()[0].ports, [value(&credentials, "port")]);
    assert!(value(&credentials, "uri").starts_with("amqps://"));

    let mut client = world.connect(&credentials).unwrap();
    client.declare("q", "classic").unwrap();
    assert!(client.publish("", "q", b"hello").unwrap());
    let mut other = world.connect(&world.bind("one", "b2", json!({})).unwrap().credentials.unwrap()).unwrap();
    assert_eq!(other.take("q").unwrap().unwrap().0, b"hello");

    let plain = value(&credentials, "uri").replace("amqps:", "amqp:");
    assert!(world.connect_to(&plain).is_err(), "there is no port without TLS");
    let two = world.bind("two", "b3", json!({})).unwrap().credentials.unwrap();
    let foreign = value(&credentials, "uri").replace(&value(&credentials, "vhost"), &value(&two, "vhost"));
    assert!(world.connect_to(&foreign).is_err(), "another tenant's virtual host is closed");
    let guest = format!("amqps://guest:guest@127.0.0.1:{}/%2f", value(&credentials, "port"));
    assert!(world.connect_to(&guest).is_err());

    let third = world.connect(&credentials).unwrap();
    assert!(world.connect(&credentials).is_err(), "three connections are the plan's limit");
    for name in ["q2", "q3", "q4"] {
        other.declare(name, "classic").unwrap();
    }
    let body = vec![b'x'; 600 << 10];
    let taken = (0..4).filter(|_| client.publish("", "q", &body).unwrap()).count();
    assert!((1..=2).contains(&taken), "a queue holds 1 MB and then refuses: {taken} of 600 kB were taken");
    assert!(other.declare("q5", "classic").is_err(), "four queues are the plan's limit");
    world.update("one", Some(LARGE_ID), json!({"connections": 5})).unwrap();
    assert!(client.publish("", "q", &body).unwrap(), "a larger plan holds at once");
    let mut more = world.connect(&credentials).unwrap();
    more.declare("q5", "classic").unwrap();

    world.unbind("one", "b1").unwrap();
    assert!(client.ends() && third.ends() && more.ends(), "its open connections are closed");
    assert!(world.connect(&credentials).is_err(), "and no other one opens");
    world.unbind("one", "b1").unwrap();
    let mut publisher =
        world.connect(&world.bind("one", "b4", json!({"access": "publish"})).unwrap().credentials.unwrap()).unwrap();
    assert!(publisher.publish("", "q2", b"x").unwrap());
    assert!(publisher.take("q2").is_err());

    let removed = world.deprovision("one").unwrap().description.unwrap();
    assert!(removed.contains("2 users"), "{removed}");
    assert!(publisher.ends());
    assert!(world.connect(&two).is_ok(), "the other tenant notices nothing");
    assert!(world.deprovision("one").unwrap().description.is_none());
    world.deprovision("two").unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while world.servers() > 0 {
        assert!(Instant::now() < end, "without an instance the node stops");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn queues_and_messages_come_back_from_a_backup_and_go_into_a_clone() {
    let world = World::new();
    world.provision("one", LARGE_ID, json!({})).unwrap();
    let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let mut client = world.connect(&credentials).unwrap();
    client.declare("classic", "classic").unwrap();
    client.declare("quorum", "quorum").unwrap();
    client.bind_queue("classic", "events", "a.#").unwrap();
    for n in 0..200 {
        client.publish("events", "a.b", format!("classic {n}").as_bytes()).unwrap();
        client.publish("", "quorum", format!("quorum {n}").as_bytes()).unwrap();
    }
    let made = world.backup("one", "first").unwrap();
    assert!(made.size_bytes > 200 * 20);
    assert_eq!(world.backup("one", "first").unwrap(), made, "a backup is made once");
    let (body, properties) = client.take("classic").unwrap().unwrap();
    assert_eq!(body, b"classic 0", "the order is as it was");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/x");

    world.clone_of("one", None, "now", LARGE_ID).unwrap();
    world.clone_of("one", Some("first"), "then", LARGE_ID).unwrap();
    for (copy, first) in [("now", "classic 1"), ("then", "classic 0")] {
        let mut inside = world.connect(&world.bind(copy, copy, json!({})).unwrap().credentials.unwrap()).unwrap();
        let (body, properties) = inside.take("classic").unwrap().unwrap();
        assert_eq!(body, first.as_bytes());
        assert!(properties.headers().as_ref().unwrap().inner().contains_key("number"), "headers too");
        assert!(inside.publish("events", "a.c", b"new").unwrap(), "exchanges and bindings too");
        let count = std::iter::from_fn(|| inside.take("classic").unwrap()).count();
        assert_eq!(count, if copy == "now" { 199 } else { 200 });
        assert_eq!(inside.take("quorum").unwrap().unwrap().0, b"quorum 0");
    }

    client.declare("later", "classic").unwrap();
    while client.take("quorum").unwrap().is_some() {}
    world.restore("one", "first").unwrap();
    assert!(client.ends(), "connections are closed while everything is replaced");
    let mut client = world.connect(&credentials).unwrap();
    assert_eq!(client.take("quorum").unwrap().unwrap().0, b"quorum 0", "with the same credentials");
    assert_eq!(std::iter::from_fn(|| client.take("classic").unwrap()).count(), 200);
    assert!(client.take("later").is_err(), "what came later is gone");
    let missing = world.restore("one", "no such backup").unwrap_err();
    assert!(missing.is_refusal() && missing.description().contains("missing"), "{missing}");
    world.delete_backup("one", "first").unwrap();
    assert!(world.restore("one", "first").is_err());
}

#[test]
fn a_killed_node_is_back_and_a_killed_broker_is_not_missed() {
    let mut world = World::new();
    world.cut(Duration::from_secs(2), |broker| broker.provision("one", LARGE_ID));
    world.provision("one", LARGE_ID, json!({})).unwrap();
    let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let mut client = world.connect(&credentials).unwrap();
    client.declare("q", "classic").unwrap();
    for n in 0..50 {
        assert!(client.publish("", "q", format!("{n}").as_bytes()).unwrap());
    }
    let pid = world.pid();
    world.crash();
    assert!(client.publish("", "q", b"50").unwrap(), "the client notices nothing");
    world.boot();
    world.unbind("one", "other").unwrap();
    assert_eq!(world.pid(), pid, "it is the same node");

    for cut_ms in [1, 20, 80, 200] {
        let cut = Duration::from_millis(cut_ms);
        world.cut(cut, |broker| broker.backup("one", "b"));
        world.backup("one", "b").unwrap();
        world.cut(cut, |broker| broker.restore("one", "b"));
        world.restore("one", "b").unwrap();
        world.cut(cut / 4, |broker| broker.unbind("one", "b2"));
        world.bind("one", "b2", json!({})).unwrap();
    }
    world.kill_server();
    let mut client = world.connect_again(&credentials);
    for n in 0..51 {
        assert_eq!(client.take("q").unwrap().unwrap().0, format!("{n}").as_bytes());
    }
    assert!(client.take("q").unwrap().is_none(), "nothing is there twice");
    world.stop();
    assert_eq!(world.servers(), 0, "a broker that is told to end ends the node");
    world.boot();
    world.connect_again(&credentials);
}
