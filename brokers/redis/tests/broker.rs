//! The broker with real servers: what its credentials open, what they do not, and what survives.

#![expect(clippy::unwrap_used, reason = "tests")]

mod world;

use broker_sdk::{Kind, Mode, Task};
use redis_broker::plans::{CACHE_ID, PERSISTENT_ID};
use serde_json::json;
use std::time::Duration;
use world::{World, value};

#[test]
fn credentials_of_a_binding_work_over_tls_until_it_is_unbound() {
    let world = World::new();
    world.provision("one", CACHE_ID, json!({})).unwrap();
    let bound = world.bind("one", "b1", json!({})).unwrap();
    let credentials = bound.credentials.clone().unwrap();
    let endpoint = &bound.endpoints.as_ref().unwrap()[0];
    assert_eq!(endpoint.ports, [value(&credentials, "port")]);
    assert!(value(&credentials, "uri").starts_with("rediss://"));

    let mut client = world.connect(&credentials).unwrap();
    client.set("greeting", "hello").unwrap();
    let mut other = world.connect(&world.bind("one", "b2", json!({})).unwrap().credentials.unwrap()).unwrap();
    assert_eq!(other.get("greeting").unwrap(), Some("hello".to_owned()));

    world.unbind("one", "b1").unwrap();
    assert!(client.get("greeting").is_err(), "its open connection is closed");
    assert!(world.connect(&credentials).is_err(), "and no other one opens");
    assert_eq!(other.get("greeting").unwrap(), Some("hello".to_owned()), "others notice nothing");
    world.unbind("one", "b1").unwrap();
}

#[test]
fn nobody_gets_in_without_a_password_or_with_that_of_another_instance() {
    let world = World::new();
    for id in ["one", "two"] {
        world.provision(id, CACHE_ID, json!({})).unwrap();
    }
    let mut credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let two = world.bind("two", "b2", json!({})).unwrap().credentials.unwrap();
    assert!(world.connect(&credentials).is_ok());
    let uri = format!("rediss://{}:{}/0", value(&credentials, "hostname"), value(&credentials, "port"));
    let mut nobody = world.connect_to(&uri).unwrap();
    assert!(nobody.get("x").unwrap_err().to_string().contains("NOAUTH"));
    let plain = uri.replace("rediss:", "redis:");
    assert!(world.connect_to(&plain).is_err(), "there is no port without TLS");
    for key in ["port", "hostname"] {
        credentials.insert(key.to_owned(), two[key].clone());
    }
    let uri = format!(
        "rediss://{}:{}@{}:{}/0",
        value(&credentials, "username"),
        value(&credentials, "password"),
        value(&two, "hostname"),
        value(&two, "port")
    );
    assert!(world.connect_to(&uri).is_err());
}

#[test]
fn tenants_rule_their_data_and_not_the_server() {
    let world = World::new();
    world.provision("one", PERSISTENT_ID, json!({})).unwrap();
    let mut owner = world.connect(&world.bind("one", "b1", json!({})).unwrap().credentials.unwrap()).unwrap();
    let refused = [
        "CONFIG GET *",
        "CONFIG SET maxmemory 0",
        "DEBUG SLEEP 0",
        "MODULE LIST",
        "SHUTDOWN",
        "REPLICAOF 127.0.0.1 1",
        "ACL LIST",
        "ACL SETUSER x on nopass ~* +@all",
        "SAVE",
        "BGSAVE",
        "BGREWRITEAOF",
        "MONITOR",
        "CLIENT KILL TYPE normal",
        "SLOWLOG GET",
        "LATENCY DOCTOR",
        "FAILOVER",
        "CLUSTER RESET",
        "MIGRATE 127.0.0.1 1 x 0 10",
        "PSYNC ? -1",
    ];
    for command in refused {
        assert!(owner.raw(command).is_err(), "{command} is refused");
    }
    let allowed = [
        "SET a 1",
        "KEYS *",
        "SCAN 0",
        "INFO",
        "EXPIRE a 100",
        "DEL a",
        "XADD s * a 1",
        "PUBLISH c x",
        "EVAL return(1) 0",
        "FLUSHALL",
        "CLIENT SETNAME x",
        "CLIENT ID",
        "COMMAND COUNT",
        "DBSIZE",
        "SELECT 3",
    ];
    for command in allowed {
        assert!(owner.raw(command).is_ok(), "{command} is allowed");
    }
    let mut reader = world.connect(&world.bind("one", "b2", json!({"read_only": true})).unwrap().credentials.unwrap()).unwrap();
    owner.raw("SELECT 0").unwrap();
    owner.set("a", "1").unwrap();
    assert_eq!(reader.get("a").unwrap(), Some("1".to_owned()));
    for command in ["SET a 2", "DEL a", "FLUSHALL", "PUBLISH c x", "EVAL return(1) 0"] {
        assert!(reader.raw(command).is_err(), "{command} is refused");
    }
}

#[test]
fn limits_hold_and_move_while_the_server_runs() {
    let world = World::new();
    world.provision("one", PERSISTENT_ID, json!({"memory_mb": 8})).unwrap();
    let mut client = world.connect(&world.bind("one", "b1", json!({})).unwrap().credentials.unwrap()).unwrap();
    let block = "x".repeat(1 << 20);
    let fill = |client: &mut world::Client, from: u32| (from..from + 8).try_for_each(|n| client.set(&format!("k{n}"), &block));
    assert!(fill(&mut client, 0).unwrap_err().to_string().contains("OOM"));
    let pid = world.pid("one");
    world.update("one", None, json!({"memory_mb": 32})).unwrap();
    fill(&mut client, 10).unwrap();
    let refused = world.update("one", None, json!({"memory_mb": 8})).unwrap_err();
    assert!(refused.is_refusal() && refused.description().contains("would not hold them"), "{refused}");
    world.update("one", None, json!({"memory_mb": 8, "eviction": "allkeys-lru"})).unwrap();
    client.set("small", "x").unwrap();
    assert_eq!(world.pid("one"), pid, "it is the same server");
    let refused = world.provision("two", CACHE_ID, json!({"memory_mb": 256})).unwrap_err();
    assert!(refused.description().contains("248 MB of the 256 MB"), "{refused}");
    assert!(world.provision("two", CACHE_ID, json!({"memory_mb": 248})).is_ok());
}

#[test]
fn a_change_of_plan_makes_data_last() {
    let world = World::new();
    world.provision("one", CACHE_ID, json!({})).unwrap();
    let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let mut client = world.connect(&credentials).unwrap();
    client.set("a", "1").unwrap();
    world.update("one", Some(PERSISTENT_ID), json!({})).unwrap();
    assert_eq!(client.get("a").unwrap(), Some("1".to_owned()), "nothing was restarted");
    world.kill_server("one");
    let mut client = world.connect_again(&credentials);
    assert_eq!(client.get("a").unwrap(), Some("1".to_owned()));
    world.update("one", Some(CACHE_ID), json!({})).unwrap();
    world.kill_server("one");
    assert_eq!(world.connect_again(&credentials).get("a").unwrap(), None, "a cache begins empty");
}

#[test]
fn a_killed_server_is_back_with_users_and_data() {
    let world = World::new();
    world.provision("one", PERSISTENT_ID, json!({})).unwrap();
    let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let gone = world.bind("one", "b2", json!({})).unwrap().credentials.unwrap();
    world.unbind("one", "b2").unwrap();
    let mut client = world.connect(&credentials).unwrap();
    client.set("a", "1").unwrap();
    // The file is written out every second.
    std::thread::sleep(Duration::from_millis(1_200));
    world.kill_server("one");
    assert_eq!(world.connect_again(&credentials).get("a").unwrap(), Some("1".to_owned()));
    assert!(world.connect(&gone).is_err());
}

#[test]
fn a_broker_that_is_killed_leaves_its_servers_alone_and_the_next_one_takes_them_up() {
    let mut world = World::new();
    world.provision("one", CACHE_ID, json!({})).unwrap();
    let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
    let mut client = world.connect(&credentials).unwrap();
    client.set("a", "1").unwrap();
    let pid = world.pid("one");
    world.crash();
    assert_eq!(client.get("a").unwrap(), Some("1".to_owned()), "the client notices nothing");
    world.boot();
    world.unbind("one", "other").unwrap();
    assert_eq!(world.pid("one"), pid);
    assert_eq!(client.get("a").unwrap(), Some("1".to_owned()));
    world.unbind("one", "b1").unwrap();
    assert!(client.get("a").is_err());
    world.stop();
    assert_eq!(world.servers(), 0, "a broker that is told to end ends its servers");
    world.boot();
    let credentials = world.bind("one", "b2", json!({})).unwrap().credentials.unwrap();
    assert_eq!(world.connect(&credentials).unwrap().get("a").unwrap(), None);
}

#[test]
fn whatever_is_cut_short_is_finished_by_its_repeat() {
    let mut world = World::new();
    for (round, cut_ms) in [0, 3, 10, 25, 60, 120, 250].into_iter().enumerate() {
        let id = format!("instance-{round}");
        let cut = Duration::from_millis(cut_ms);
        world.cut(cut, |broker| broker.provision(&id, PERSISTENT_ID));
        world.provision(&id, PERSISTENT_ID, json!({"memory_mb": 8})).unwrap();
        world.cut(cut / 4, |broker| broker.bind(&id, "b"));
        let credentials = world.bind(&id, "b", json!({})).unwrap().credentials.unwrap();
        let mut client = world.connect(&credentials).unwrap();
        client.set("a", "1").unwrap();
        world.backup(&id, "first").unwrap();
        client.set("a", "2").unwrap();
        world.cut(cut, |broker| broker.backup(&id, "second"));
        world.backup(&id, "second").unwrap();
        world.cut(cut, |broker| broker.restore(&id, "first"));
        world.restore(&id, "first").unwrap();
        assert_eq!(world.connect(&credentials).unwrap().get("a").unwrap(), Some("1".to_owned()), "cut after {cut_ms} ms");
        world.cut(cut / 4, |broker| broker.unbind(&id, "b"));
        world.unbind(&id, "b").unwrap();
        assert!(world.connect(&credentials).is_err());
        world.cut(cut, |broker| broker.deprovision(&id));
        world.deprovision(&id).unwrap();
        assert_eq!(world.servers(), 0, "cut after {cut_ms} ms");
    }
    assert!(world.left().is_empty(), "{:?}", world.left());
}

#[test]
fn data_comes_back_from_a_backup_and_goes_into_a_clone() {
    for (plan, other) in [(PERSISTENT_ID, CACHE_ID), (CACHE_ID, PERSISTENT_ID)] {
        let world = World::new();
        world.provision("one", plan, json!({"memory_mb": 16})).unwrap();
        let credentials = world.bind("one", "b1", json!({})).unwrap().credentials.unwrap();
        let mut client = world.connect(&credentials).unwrap();
        (0..1_000).try_for_each(|n| client.set(&format!("k{n}"), "before")).unwrap();
        let made = world.backup("one", "first").unwrap();
        assert!(made.size_bytes > 0);
        (0..1_000).try_for_each(|n| client.set(&format!("k{n}"), "after")).unwrap();
        assert_eq!(world.backup("one", "first").unwrap(), made, "a backup is made once");

        world.clone_of("one", None, "copy-of-now", other).unwrap();
        world.clone_of("one", Some("first"), "copy-of-then", plan).unwrap();
        for (copy, holds) in [("copy-of-now", "after"), ("copy-of-then", "before")] {
            assert!(world.connect(&credentials).is_ok());
            let credentials = world.bind(copy, copy, json!({})).unwrap().credentials.unwrap();
            assert_eq!(world.connect(&credentials).unwrap().get("k999").unwrap().as_deref(), Some(holds), "{copy}");
        }

        world.restore("one", "first").unwrap();
        let mut client = world.connect(&credentials).unwrap();
        assert_eq!(client.get("k0").unwrap(), Some("before".to_owned()), "with the same credentials");
        client.set("k0", "new").unwrap();
        world.kill_server("one");
        let kept = world.connect_again(&credentials).get("k1").unwrap();
        assert_eq!(kept.is_some(), plan == PERSISTENT_ID, "a restored cache does not come back after a crash either");

        let missing = world.restore("one", "no such backup").unwrap_err();
        assert!(missing.is_refusal() && missing.description().contains("missing"), "{missing}");
        world.delete_backup("one", "first").unwrap();
        assert!(world.restore("one", "first").is_err());
        let removed = world.deprovision("one").unwrap().description.unwrap();
        assert!(removed.contains("1 users and 0 backups"), "{removed}");
    }
}

#[test]
fn work_that_takes_long_goes_on_in_the_background() {
    let world = World::new();
    let task = |kind, clone| Task { kind, service: "redis", plan: "cache", new_plan: None, clone };
    let mode = |kind, clone| world.mode(&task(kind, clone));
    assert_eq!((mode(Kind::Provision, false), mode(Kind::Provision, true)), (Mode::Now, Mode::Background));
    assert_eq!((mode(Kind::Bind, false), mode(Kind::Restore, false)), (Mode::Now, Mode::Background));
}
