//! Servers of an instance's own: the real start command with the real engine, over the SDK's HTTP server.

use crate::world::*;
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
        api.create("one", "dedicated", json!({ "extensions": ["hstore"], "disk_mb": 600 })).await.unwrap();
        let [(port, 512)] = platform.workloads()[..] else { panic!("{:?}", platform.workloads()) };
        let credentials = api.bind("one", "dedicated", "first").await.unwrap();
        assert_eq!(credentials["port"], port);
        let client = log_in(&credentials).await.unwrap();
        client.batch_execute("CREATE TABLE t (x int, h hstore); INSERT INTO t VALUES (1, 'a=>1')").await.unwrap();
        assert!(log_in_without_tls(&credentials).await.is_err());
        assert!(client.batch_execute("SELECT pg_read_file('/etc/passwd')").await.is_err());
        assert!(log_in_to(&credentials, "postgres").await.is_err(), "the administrator's database");

        // Killed, it comes back by itself, with its data
        platform.kill_servers();
        eventually("the session ends", || async { client.simple_query("SELECT 1").await.is_err() }).await;
        eventually("it serves again", || async {
            platform.look().await;
            log_in(&credentials).await.is_ok()
        })
        .await;
        let client = log_in(&credentials).await.unwrap();
        assert_eq!(texts(&client, "SELECT x FROM t").await.unwrap(), ["1"]);
        api.bind("one", "dedicated", "second").await.unwrap();

        // More memory restarts it at its place; the disk stays as it is
        let starts = platform.starts();
        api.update("one", "dedicated", json!({ "memory_mb": 640 })).await.unwrap();
        assert_eq!((platform.workloads(), platform.starts()), (vec![(port, 640)], starts + 1));
        let client = log_in(&credentials).await.unwrap();
        assert_eq!(texts(&client, "SHOW shared_buffers").await.unwrap(), ["160MB"]);
        let refused = api.update("one", "dedicated", json!({ "disk_mb": 2048 })).await.unwrap_err();
        assert!(refused.contains("never changes its size: it has 600 MB"), "{refused}");
        assert_eq!(platform.starts(), starts + 1);

        api.backup("one", "monday").await.unwrap();
        client.batch_execute("DROP TABLE t").await.unwrap();
        api.restore("one", "monday").await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        assert_eq!(texts(&client, "SELECT x FROM t").await.unwrap(), ["1"]);

        api.unbind("one", "dedicated", "first").await.unwrap();
        assert!(log_in(&credentials).await.is_err(), "a revoked login still works");
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
        api.create("one", "shared", json!({ "collation": "de" })).await.unwrap();
        let credentials = api.bind("one", "shared", "a").await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        client.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.unwrap();
        let refused = api.update("one", "dedicated", json!({})).await.unwrap_err();
        assert!(refused.contains("Unbind them first"), "{refused}");
        assert_eq!(platform.workloads(), []);
        api.unbind("one", "shared", "a").await.unwrap();

        api.update("one", "dedicated", json!({ "memory_mb": 256 })).await.unwrap();
        let [(port, 256)] = platform.workloads()[..] else { panic!("{:?}", platform.workloads()) };
        let moved = api.bind("one", "dedicated", "b").await.unwrap();
        assert_eq!(moved["port"], port);
        let client = log_in(&moved).await.unwrap();
        client.batch_execute("INSERT INTO t VALUES (8)").await.unwrap();
        assert_eq!(texts(&client, "SELECT x FROM t ORDER BY x").await.unwrap(), ["7", "8"]);
        let left = "SELECT count(*) FROM cupola.databases WHERE instance = 'one'";
        assert_eq!(world.admin("postgres", left).await, ["0"]);

        // Clones in both directions, of now and of a backup
        api.backup("one", "monday").await.unwrap();
        client.batch_execute("INSERT INTO t VALUES (9)").await.unwrap();
        api.clone_of("one", Some("monday"), "two", "shared").await.unwrap();
        let two = log_in(&api.bind("two", "shared", "c").await.unwrap()).await.unwrap();
        assert_eq!(texts(&two, "SELECT count(*) FROM t").await.unwrap(), ["2"]);
        api.clone_of("two", None, "three", "dedicated").await.unwrap();
        let three = log_in(&api.bind("three", "dedicated", "d").await.unwrap()).await.unwrap();
        assert_eq!(texts(&three, "SELECT count(*) FROM t").await.unwrap(), ["2"]);
        assert_eq!(platform.workloads().len(), 2);

        api.unbind("one", "dedicated", "b").await.unwrap();
        api.update("one", "shared", json!({})).await.unwrap();
        assert_eq!(platform.workloads().len(), 1);
        let back = api.bind("one", "shared", "e").await.unwrap();
        assert_eq!(back["port"], world.raw.engine.port);
        let client = log_in(&back).await.unwrap();
        assert_eq!(texts(&client, "SELECT count(*) FROM t").await.unwrap(), ["3"]);
        for (id, plan) in [("one", "shared"), ("two", "shared"), ("three", "dedicated")] {
            api.delete(id, plan).await.unwrap();
        }
        assert_eq!(platform.volumes(), 0);
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
        api.delete("one", "dedicated").await.unwrap();

        platform.fill(None);
        api.create("two", "dedicated", json!({})).await.unwrap();
        let credentials = api.bind("two", "dedicated", "a").await.unwrap();
        log_in(&credentials).await.unwrap().batch_execute("CREATE TABLE t (x int)").await.unwrap();
        // It runs on as it was where more memory finds no place
        platform.fill(Some("InsufficientResources: no cell has 2048 MB"));
        let update = api.update("two", "dedicated", json!({ "memory_mb": 2048 }));
        let freed = async {
            eventually("more memory is asked for", async || platform.workloads()[0].1 == 2048).await;
            eventually("what it had is asked for again", async || platform.workloads()[0].1 == 512).await;
            platform.fill(None);
        };
        let (failed, ()) = tokio::join!(update, freed);
        assert!(failed.as_ref().unwrap_err().contains("no cell has 2048 MB"), "{failed:?}");
        assert_eq!(platform.workloads()[0].1, 512);
        log_in(&credentials).await.unwrap().batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    });
}

#[test]
fn a_broker_that_is_killed_at_any_step_goes_on_and_leaks_nothing() {
    let mut world = world!();
    for (round, pause) in [20, 300, 900, 2_000, 3_500].into_iter().enumerate() {
        let id = format!("i{round}");
        let mut api = world.serve();
        assert_eq!(world.run(api.begin(&id, "dedicated")), 202);
        std::thread::sleep(Duration::from_millis(pause));
        api = world.serve();
        world.run(async {
            api.create(&id, "dedicated", json!({})).await.unwrap();
            let credentials = api.bind(&id, "dedicated", &format!("b{round}")).await.unwrap();
            log_in(&credentials).await.unwrap().batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await.unwrap();
            assert_eq!(world.platform.workloads().len(), 1);
            api.unbind(&id, "dedicated", &format!("b{round}")).await.unwrap();
        });

        // To the shared server, and on the way back
        for plan in ["shared", "dedicated"] {
            let moving = async {
                let _ = tokio::time::timeout(Duration::from_millis(pause), api.update(&id, plan, json!({}))).await;
            };
            world.run(moving);
            api = world.serve();
            world.run(async {
                eventually("it moved", || async { api.update(&id, plan, json!({})).await.is_ok() }).await;
                let binding = format!("{plan}{round}");
                let credentials = api.bind(&id, plan, &binding).await.unwrap();
                let client = log_in(&credentials).await.unwrap();
                assert_eq!(texts(&client, "SELECT x FROM t").await.unwrap(), ["1"]);
                api.unbind(&id, plan, &binding).await.unwrap();
                assert_eq!(world.platform.workloads().len(), usize::from(plan == "dedicated"));
            });
        }

        api = world.serve();
        world.run(async {
            let _ = tokio::time::timeout(Duration::from_millis(pause / 10), api.delete(&id, "dedicated")).await;
        });
        api = world.serve();
        world.run(async {
            eventually("it is gone", || async { api.delete(&id, "dedicated").await.is_ok() }).await;
            assert_eq!((world.platform.workloads(), world.platform.volumes()), (vec![], 0));
        });
    }
    // Without an instance the shared server stops: one more, so that it can be asked
    let api = world.serve();
    world.run(api.create("last", "shared", json!({}))).unwrap();
    let left = "SELECT instance FROM cupola.databases WHERE instance IS NOT NULL";
    assert_eq!(world.run(world.admin("postgres", left)), ["last"]);
}
