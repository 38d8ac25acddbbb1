//! Servers of an instance's own: the real start command with the real engine, over the SDK's HTTP server.

use crate::world::*;
use broker_sdk::osb::Credentials;
use serde_json::json;
use std::time::Duration;

macro_rules! world {
    () => {
        match World::new() {
            Some(world) => world,
            None => return,
        }
    };
}

#[test]
fn a_server_of_its_own_from_the_first_day_to_the_last() {
    let mut world = world!();
    let api = world.serve();
    let platform = world.platform.clone();
    world.run(async {
        api.create("one", "dedicated", json!({ "disk_mb": 600, "collation": "utf8mb4_unicode_ci" })).await.unwrap();
        let [(port, 512)] = platform.workloads()[..] else { panic!("{:?}", platform.workloads()) };
        let bind = async |id: &str| -> Credentials { world.with_authority(id, api.bind("one", "dedicated", id).await.unwrap()) };
        let credentials = bind("first").await;
        assert_eq!(credentials["port"], port);
        query(&credentials, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await.unwrap();
        assert!(query_without_tls(&credentials, "SELECT 1").await.is_err());
        let others = query(&credentials, "SHOW DATABASES").await.unwrap();
        assert_eq!(others.len(), 2, "{others:?}");

        // Killed, it comes back by itself, with its data
        platform.kill_servers();
        eventually("it serves again", || async {
            platform.look().await;
            query(&credentials, "SELECT x FROM t").await.is_ok_and(|rows| rows == ["1"])
        })
        .await;
        bind("second").await;

        // More memory restarts it at its place; the disk stays as it is
        let starts = platform.starts();
        api.update("one", "dedicated", json!({ "memory_mb": 640 })).await.unwrap();
        assert_eq!((platform.workloads(), platform.starts()), (vec![(port, 640)], starts + 1));
        assert_eq!(query(&credentials, "SELECT @@innodb_buffer_pool_size DIV 1048576").await.unwrap(), ["240"]);
        let refused = api.update("one", "dedicated", json!({ "disk_mb": 2048 })).await.unwrap_err();
        assert!(refused.contains("never changes its size: it has 600 MB"), "{refused}");

        api.backup("one", "monday").await.unwrap();
        query(&credentials, "DROP TABLE t").await.unwrap();
        api.restore("one", "monday").await.unwrap();
        assert_eq!(query(&credentials, "SELECT x FROM t").await.unwrap(), ["1"]);

        api.unbind("one", "dedicated", "first").await.unwrap();
        assert!(query(&credentials, "SELECT 1").await.is_err(), "a revoked login still works");
        let said = api.delete("one", "dedicated").await.unwrap();
        let wanted = format!("Removed the server at port {port} (640 MB of memory) and its volume of 600 MB with a database of");
        assert!(said.starts_with(&wanted) && said.ends_with("1 logins and 1 backups."), "{said}");
        assert_eq!((platform.workloads(), platform.volumes()), (vec![], 0));
    });
}

#[test]
fn data_moves_between_the_shared_server_and_one_of_its_own() {
    let mut world = world!();
    let api = world.serve();
    let platform = world.platform.clone();
    world.run(async {
        let bind = async |instance: &str, plan: &str, id: &str| -> Credentials {
            world.with_authority(id, api.bind(instance, plan, id).await.unwrap())
        };
        api.create("one", "shared", json!({})).await.unwrap();
        let credentials = bind("one", "shared", "a").await;
        query(&credentials, "CREATE TABLE t (x int); INSERT INTO t VALUES (7); CREATE VIEW v AS SELECT x FROM t").await.unwrap();
        let refused = api.update("one", "dedicated", json!({})).await.unwrap_err();
        assert!(refused.contains("Unbind them first"), "{refused}");
        api.unbind("one", "shared", "a").await.unwrap();

        api.update("one", "dedicated", json!({ "memory_mb": 384 })).await.unwrap();
        let [(port, 384)] = platform.workloads()[..] else { panic!("{:?}", platform.workloads()) };
        let moved = bind("one", "dedicated", "b").await;
        assert_eq!(moved["port"], port);
        query(&moved, "INSERT INTO t VALUES (8)").await.unwrap();
        assert_eq!(query(&moved, "SELECT x FROM v ORDER BY x").await.unwrap(), ["7", "8"]);
        assert_eq!(world.admin("SELECT count(*) FROM cupola.instances").await, ["0"]);

        // Clones in both directions, of now and of a backup
        api.backup("one", "monday").await.unwrap();
        query(&moved, "INSERT INTO t VALUES (9)").await.unwrap();
        api.clone_of("one", Some("monday"), "two", "shared").await.unwrap();
        assert_eq!(query(&bind("two", "shared", "c").await, "SELECT count(*) FROM v").await.unwrap(), ["2"]);
        api.clone_of("two", None, "three", "dedicated").await.unwrap();
        assert_eq!(query(&bind("three", "dedicated", "d").await, "SELECT count(*) FROM v").await.unwrap(), ["2"]);

        api.unbind("one", "dedicated", "b").await.unwrap();
        api.update("one", "shared", json!({})).await.unwrap();
        assert_eq!(platform.workloads().len(), 1);
        let back = bind("one", "shared", "e").await;
        assert_eq!(back["port"], world.raw.engine.port);
        assert_eq!(query(&back, "SELECT count(*) FROM v").await.unwrap(), ["3"]);
        for (id, plan) in [("one", "shared"), ("two", "shared"), ("three", "dedicated")] {
            api.delete(id, plan).await.unwrap();
        }
        assert_eq!(platform.volumes(), 0);
    });
}

#[test]
fn a_broker_that_is_killed_while_a_server_is_made_goes_on_and_leaks_nothing() {
    let mut world = world!();
    for (round, pause) in [20, 1_500, 4_000].into_iter().enumerate() {
        let id = format!("i{round}");
        let api = world.serve();
        assert_eq!(world.run(api.begin(&id, "dedicated")), 202);
        std::thread::sleep(Duration::from_millis(pause));
        let api = world.serve();
        world.run(async {
            api.create(&id, "dedicated", json!({})).await.unwrap();
            let credentials = world.with_authority(&id, api.bind(&id, "dedicated", &id).await.unwrap());
            query(&credentials, "CREATE TABLE t (x int)").await.unwrap();
            assert_eq!(world.platform.workloads().len(), 1);
            api.unbind(&id, "dedicated", &id).await.unwrap();
            api.delete(&id, "dedicated").await.unwrap();
            assert_eq!((world.platform.workloads(), world.platform.volumes()), (vec![], 0));
        });
    }
}

#[test]
fn sessions_of_a_killed_broker_end_before_the_next_begins() {
    let mut world = world!();
    let one = instance("one", "shared", none());
    world.run(async { world.broker().create(&one).await.unwrap() });
    // As the killed broker's own: a statement goes on in the server when its client is gone
    let mut left = world.administrator("SELECT SLEEP(1000)").spawn().unwrap();
    let there = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'SELECT SLEEP%'";
    world.run(eventually("the statement runs", || async { world.admin(there).await == ["1"] }));
    world.kill();
    world.start();
    world.run(async {
        world.broker().server().running(Duration::from_secs(20)).await.unwrap();
        assert_eq!(world.admin(there).await, ["0"]);
        assert!(!left.wait().unwrap().success());
    });
}

#[test]
fn a_server_without_a_place_is_given_up_with_the_platforms_reason() {
    let mut world = world!();
    world.raw.dedicated.give_up_s = 10;
    let api = world.serve();
    let platform = world.platform.clone();
    world.run(async {
        platform.fill(Some("InsufficientResources: no cell has 512 MB"));
        let failed = api.create("one", "dedicated", json!({})).await.unwrap_err();
        assert!(failed.contains("did not run within 10 s: InsufficientResources: no cell has 512 MB"), "{failed}");
        let waiting = "waiting for a place: InsufficientResources: no cell has 512 MB".to_owned();
        assert!(api.told().contains(&waiting), "{:?}", api.told());
        assert_eq!((platform.workloads(), platform.volumes()), (vec![], 0));
    });
}
