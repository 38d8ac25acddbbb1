//! The broker against a real server: every credential is tried.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dedicated;
mod world;

use broker_sdk::{Bind, Broker, CloneSource, Kind, Operation, osb::Credentials};
use engines::Phase;
use futures::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};
use world::*;

macro_rules! world {
    () => {
        match World::new() {
            Some(world) => world,
            None => return,
        }
    };
}

fn op(kind: Kind) -> Operation {
    Operation::detached(kind)
}

fn text<'a>(credentials: &'a Credentials, key: &str) -> &'a str {
    credentials[key].as_str().unwrap()
}

#[test]
fn credentials_work_over_tls_until_they_are_revoked() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        eventually("an unused server costs nothing", || async { broker.server().phase() == Phase::Stopped }).await;
        let one = instance("one", "shared", none());
        broker.create(&one).await.unwrap();
        broker.create(&one).await.unwrap();
        let first = broker.bind_to(&one, "first").await.unwrap();
        let second = broker.bind_to(&one, "second").await.unwrap();
        query(&first, "CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await.unwrap();
        assert!(query_without_tls(&first, "SELECT 1").await.is_err(), "without TLS");
        let made = "CREATE VIEW v AS SELECT x FROM t; CREATE PROCEDURE p() INSERT INTO t VALUES (9); \
                    CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.x = NEW.x + 100";
        query(&first, made).await.unwrap();

        // What one binding made, the other uses, changes, and still has when the first is gone
        let mut held = client(&first, &[], "SELECT SLEEP(60)").spawn().unwrap();
        eventually("a session", || async {
            world.admin("SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)%' AND USER LIKE 'u%'").await == ["1"]
        })
        .await;
        broker.unbind_from(&one, "first").await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), held.wait()).await.unwrap().unwrap();
        assert!(!ended.success(), "the session went on");
        assert!(query(&first, "SELECT 1").await.is_err(), "a revoked login still works");
        query(&second, "INSERT INTO t VALUES (2); CALL p(); ALTER TABLE t ADD y int").await.unwrap();
        assert_eq!(query(&second, "SELECT x FROM v ORDER BY x").await.unwrap(), ["1", "102", "109"]);
        broker.unbind_from(&one, "first").await.unwrap();
        let retired = "SELECT count(*) FROM mysql.global_priv WHERE User REGEXP '^u[0-9a-f]{24}$'";
        assert_eq!(world.admin(retired).await, ["2"], "it is the definer of something");
        query(&second, "DROP VIEW v; DROP PROCEDURE p; DROP TRIGGER g").await.unwrap();
        broker.unbind_from(&one, "first").await.unwrap();
        assert_eq!(world.admin(retired).await, ["1"]);

        // A repeated bind gives new credentials to the same login
        let again = broker.bind_to(&one, "second").await.unwrap();
        assert_eq!(again["username"], second["username"]);
        query(&again, "SELECT 1").await.unwrap();
        assert!(query(&second, "SELECT 1").await.is_err());

        let said = broker.delete(&one).await.unwrap();
        assert!(said.contains("MB), 1 logins and 0 backups"), "{said}");
        assert!(query(&again, "SELECT 1").await.is_err());
        assert_eq!(broker.delete(&one).await.unwrap(), "");
        let left = "SELECT (SELECT count(*) FROM mysql.global_priv WHERE User REGEXP '^[dut][0-9a-f]{24}$') \
                    + (SELECT count(*) FROM cupola.logins) + (SELECT count(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE 'd%')";
        assert_eq!(world.admin(left).await, ["0"]);
    });
}

#[test]
fn a_binding_that_is_resumed_keeps_the_password_that_was_saved() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", json!({ "collation": "latin1_bin" }));
        broker.create(&one).await.unwrap();
        let state = object(json!({ "password": "savedbeforetheend" }));
        let request = Bind { binding_id: "b".into(), state, parameters: object(json!({ "connections": 1 })), ..Bind::default() };
        let bound = broker.bind(&op(Kind::Bind), &one, &request).await.unwrap();
        let mut credentials = bound.credentials.unwrap();
        assert_eq!(credentials["password"], "savedbeforetheend");
        credentials.insert(AUTHORITY.into(), world.raw.engine.tls.ca.display().to_string().into());
        assert_eq!(bound.endpoints.unwrap()[0].ports, [world.raw.engine.port.to_string()]);
        assert_eq!(query(&credentials, "SELECT @@collation_database").await.unwrap(), ["latin1_bin"]);
        let _held = client(&credentials, &[], "SELECT SLEEP(30)").spawn().unwrap();
        let sessions = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(30)%' AND USER LIKE 'u%'";
        eventually("a session", || async { world.admin(sessions).await == ["1"] }).await;
        let said = query(&credentials, "SELECT 1").await.unwrap_err();
        assert!(said.contains("max_user_connections"), "{said}");
    });
}

#[test]
fn the_whole_contract_is_kept() {
    let world = world!();
    assert_eq!(world.broken(), Vec::<String>::new());
}

/// What a tenant tries against the server and against another tenant; each must fail.
const ATTEMPTS: &[(&str, &str)] = &[
    ("make an account", "CREATE USER intruder IDENTIFIED BY 'x'"),
    ("make a database", "CREATE DATABASE mine"),
    ("drop the other database", "DROP DATABASE {other}"),
    ("use the other database", "USE {other}"),
    ("read the other table", "SELECT * FROM {other}.secret"),
    ("write the other table", "INSERT INTO {other}.secret VALUES (1)"),
    ("a view into the other", "CREATE VIEW peek AS SELECT * FROM {other}.secret"),
    ("a table in the other", "CREATE TABLE {other}.mine (x int)"),
    ("lift its limits", "ALTER USER {login}@'%' WITH MAX_USER_CONNECTIONS 0"),
    ("go without TLS", "ALTER USER {login}@'%' REQUIRE NONE"),
    ("grant itself more", "GRANT ALL ON *.* TO {login}@'%'"),
    ("hand its rights on", "GRANT SELECT ON {own}.* TO {otherlogin}@'%'"),
    ("change the other login", "SET PASSWORD FOR {otherlogin}@'%' = PASSWORD('x')"),
    ("drop the other login", "DROP USER {otherlogin}@'%'"),
    ("read accounts", "SELECT * FROM mysql.global_priv"),
    ("read the broker's table", "SELECT * FROM cupola.instances"),
    ("read a file", "SELECT LOAD_FILE('/etc/passwd') IS NOT NULL AND 1 / 0; SELECT * FROM x INTO OUTFILE '/tmp/x'"),
    ("write a file", "SELECT 1 INTO OUTFILE '/tmp/x'"),
    ("load a file", "CREATE TABLE l (x text); LOAD DATA INFILE '/etc/passwd' INTO TABLE l"),
    ("load a file of the client", "CREATE TABLE IF NOT EXISTS l2 (x text); LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE l2"),
    ("load code", "INSTALL SONAME 'ha_connect'"),
    ("a function of native code", "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'"),
    ("change the server", "SET GLOBAL max_connections = 1"),
    ("end another's session", "KILL {otherid}"),
    ("somebody else's name", "CREATE DEFINER=cupola@localhost PROCEDURE sly() SELECT 1"),
    ("the owner's name", "CREATE DEFINER={own}@localhost PROCEDURE sly() SELECT 1"),
    ("see the engine", "SHOW ENGINE INNODB STATUS"),
    ("shut down", "SHUTDOWN"),
    ("an event", "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO SELECT 1"),
    ("flush", "FLUSH PRIVILEGES"),
];

#[test]
fn tenants_do_not_reach_each_other() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let (one, two) = (instance("one", "shared", none()), instance("two", "shared", none()));
        broker.create(&one).await.unwrap();
        broker.create(&two).await.unwrap();
        let (a, b) = (broker.bind_to(&one, "a").await.unwrap(), broker.bind_to(&two, "b").await.unwrap());
        query(&b, "CREATE TABLE secret (x int); INSERT INTO secret VALUES (42)").await.unwrap();
        let _held = client(&b, &[], "SELECT SLEEP(60)").spawn().unwrap();
        let session = "SELECT ID FROM information_schema.PROCESSLIST WHERE INFO LIKE '%SLEEP(60)%' AND USER LIKE 'u%'";
        eventually("a session", || async { world.admin(session).await.len() == 1 }).await;
        let id = world.admin(session).await.remove(0);
        for (what, statement) in ATTEMPTS {
            let statement = statement
                .replace("{own}", text(&a, "name"))
                .replace("{login}", text(&a, "username"))
                .replace("{otherlogin}", text(&b, "username"))
                .replace("{otherid}", &id)
                .replace("{other}", text(&b, "name"));
            let tried = query(&a, &statement).await;
            assert!(tried.is_err(), "{what}: {statement}: {tried:?}");
        }
        let seen =
            query(&a, "SHOW DATABASES; SELECT USER FROM information_schema.PROCESSLIST; SHOW TABLES FROM information_schema")
                .await
                .unwrap();
        assert!(!seen.iter().any(|line| line == text(&b, "name") || line == text(&b, "username")), "{seen:?}");
        query(&a, "CREATE TABLE elsewhere (x int) DATA DIRECTORY = '/tmp'; INSERT INTO elsewhere VALUES (1)").await.unwrap();
        let folder = world.broker().server().data().join(text(&a, "name"));
        assert!(folder.join("elsewhere.ibd").exists() && !folder.join("elsewhere.isl").exists(), "data outside of its folder");
        assert_eq!(query(&a, "SELECT LOAD_FILE('/etc/passwd')").await.unwrap(), ["NULL"]);
        assert_eq!(query(&b, "SELECT x FROM secret").await.unwrap(), ["42"]);
        // Without its database a tenant gets an empty one at the next bind
        query(&a, &format!("DROP DATABASE {}", text(&a, "name"))).await.unwrap();
        query(&broker.bind_to(&one, "later").await.unwrap(), "CREATE TABLE t (x int)").await.unwrap();
    });
}

const FILL: &str = "INSERT INTO t SELECT seq, REPEAT(MD5(seq), 32) FROM seq_1_to_80000";

/// Ways to write that must all be closed to a database that is too large.
const WRITES: &[&str] = &[
    "INSERT INTO t VALUES (1, 'x')",
    "UPDATE t SET y = 'z' LIMIT 1",
    "REPLACE INTO t VALUES (1, 'x')",
    "CREATE TABLE u (x int)",
    "CREATE TEMPORARY TABLE u (x int)",
    "ALTER TABLE t ADD z int",
    "CREATE INDEX i ON t (x)",
    "RENAME TABLE t TO u",
    "INSERT INTO v VALUES (1)",
    "CALL planted()",
    "DELETE FROM triggered",
    "CREATE OR REPLACE VIEW w AS SELECT 1",
    "CREATE DATABASE more",
];

#[test]
fn a_database_that_is_too_large_can_be_read_and_emptied_but_not_written() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", none());
        broker.create(&one).await.unwrap();
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        let gone = broker.bind_to(&one, "gone").await.unwrap();
        let setup = "CREATE TABLE t (x int, y text); CREATE VIEW v AS SELECT x FROM t; CREATE TABLE triggered (x int); \
                     INSERT INTO triggered VALUES (1); \
                     CREATE TRIGGER g BEFORE DELETE ON triggered FOR EACH ROW INSERT INTO t VALUES (1, 'x'); \
                     CREATE PROCEDURE planted() SQL SECURITY DEFINER INSERT INTO t VALUES (1, 'x')";
        query(&gone, setup).await.unwrap();
        broker.unbind_from(&one, "gone").await.unwrap();
        query(&credentials, FILL).await.unwrap();
        let held = client(&credentials, &[], "DO SLEEP(30); INSERT INTO t VALUES (1, 'x')").spawn().unwrap();
        broker.check_sizes().await.unwrap();
        for write in WRITES {
            assert!(query(&credentials, write).await.is_err(), "{write}");
        }
        drop(held);
        assert_eq!(query(&credentials, "SELECT count(*) FROM t").await.unwrap(), ["80000"]);
        // Bindings made now are no way around it
        let late = broker.bind_to(&one, "late").await.unwrap();
        assert!(query(&late, "INSERT INTO t VALUES (1, 'x')").await.is_err());
        broker.backup(&op(Kind::Backup), &one, "frozen").await.unwrap();

        query(&credentials, "DELETE FROM t WHERE x > 100").await.unwrap();
        eventually("small enough", || async {
            broker.check_sizes().await.unwrap();
            query(&credentials, "INSERT INTO t VALUES (1, 'x')").await.is_ok()
        })
        .await;
        query(&late, "CREATE TABLE u (x int); CALL planted(); DELETE FROM triggered").await.unwrap();

        // A larger plan is another way out
        query(&credentials, FILL).await.unwrap();
        broker.check_sizes().await.unwrap();
        assert!(query(&credentials, "INSERT INTO t VALUES (1, 'x')").await.is_err());
        broker.update(&op(Kind::Update), &one, &change(Some("large"), None)).await.unwrap();
        query(&credentials, "INSERT INTO t VALUES (1, 'x')").await.unwrap();
        let limits =
            "SELECT DISTINCT max_user_connections FROM mysql.user u JOIN cupola.logins l ON l.login = u.User WHERE NOT retired";
        let limits = world.admin(limits).await;
        assert_eq!(limits, ["10"]);
    });
}

#[test]
fn backups_come_back_while_bindings_stay() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", json!({ "collation": "utf8mb4_unicode_ci" }));
        broker.create(&one).await.unwrap();
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        let setup = "CREATE TABLE t (x int PRIMARY KEY, y text, b blob); \
            INSERT INTO t VALUES (1, 'one\\nline', X'00ff0a'), (2, 'CREATE DEFINER=`x`@`y` \\'quoted\\'', NULL); \
            CREATE TABLE child (x int, FOREIGN KEY (x) REFERENCES t (x)); INSERT INTO child VALUES (1); \
            CREATE VIEW v AS SELECT x FROM t; CREATE PROCEDURE p() INSERT INTO t VALUES (9, 'nine', NULL); \
            CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 7; CREATE TABLE `odd ``name\\! id` (x int); \
            CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.y = CONCAT(NEW.y, '!')";
        query(&credentials, setup).await.unwrap();
        let made = broker.backup(&op(Kind::Backup), &one, "monday").await.unwrap();
        assert!(made.size_bytes > 500);
        assert_eq!(broker.backup(&op(Kind::Backup), &one, "monday").await.unwrap(), made, "a repeat is the same backup");

        query(&credentials, "DROP TABLE child; DROP TABLE t; DROP PROCEDURE p; CREATE TABLE later (x int)").await.unwrap();
        broker.restore(&op(Kind::Restore), &one, &stored(&one, "monday")).await.unwrap();
        let rows = query(&credentials, "SELECT y, HEX(b) FROM t ORDER BY x").await.unwrap();
        assert_eq!(rows, ["one\\nline\t00FF0A", "CREATE DEFINER=`x`@`y` 'quoted'\tNULL"]);
        assert!(query(&credentials, "SELECT * FROM later").await.is_err());
        query(&credentials, "CALL p(); INSERT INTO t VALUES (3, 'three', NULL); CREATE TABLE after (x int)").await.unwrap();
        assert_eq!(query(&credentials, "SELECT y FROM t WHERE x IN (3, 9)").await.unwrap(), ["three!", "nine!"]);
        assert_eq!(query(&credentials, "SELECT f() + count(*) FROM v").await.unwrap(), ["11"]);
        assert_eq!(query(&credentials, "SELECT @@collation_database").await.unwrap(), ["utf8mb4_unicode_ci"]);
        // What a binding made runs in the owner's name now, so nothing of the binding is left when it goes
        let other = broker.bind_to(&one, "b").await.unwrap();
        broker.unbind_from(&one, "a").await.unwrap();
        assert!(
            world
                .admin(&format!("SELECT User FROM mysql.global_priv WHERE User = '{}'", text(&credentials, "username")))
                .await
                .is_empty()
        );
        query(&other, "INSERT INTO t VALUES (4, 'four', NULL); DELETE FROM t WHERE x = 9").await.unwrap();

        // Clones: of now, and of a backup; neither is reached by the old binding
        for (id, backup, rows) in [("two", None, 4), ("three", Some("monday"), 2)] {
            let copy = instance(id, "shared", none());
            let mut request = provision(&copy);
            let backup = backup.map(|id| stored(&one, id));
            request.clone_from = Some(CloneSource { instance: one.clone(), backup });
            broker.provision(&op(Kind::Provision), &request).await.unwrap();
            let cloned = broker.bind_to(&copy, id).await.unwrap();
            assert_eq!(query(&cloned, "SELECT count(*) FROM t").await.unwrap(), [rows.to_string()]);
            query(&cloned, "INSERT INTO t VALUES (77, 'x', NULL)").await.unwrap();
            assert!(query(&other, &format!("SELECT * FROM {}.t", text(&cloned, "name"))).await.is_err());
        }
        let missing = broker.restore(&op(Kind::Restore), &one, &stored(&one, "tuesday")).await.unwrap_err();
        assert!(missing.description().contains("missing"), "{missing:?}");
        broker.delete_backup(&op(Kind::DeleteBackup), &one, &stored(&one, "monday")).await.unwrap();
        assert!(broker.restore(&op(Kind::Restore), &one, &stored(&one, "monday")).await.is_err());
        assert_eq!(query(&other, "SELECT count(*) FROM t").await.unwrap(), ["4"]);
        let left = "SELECT (SELECT count(*) FROM mysql.global_priv WHERE User REGEXP '^t[0-9a-f]{24}$') \
                    + (SELECT count(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME REGEXP '^s[0-9a-f]{24}$')";
        assert_eq!(world.admin(left).await, ["0"], "tools leave nothing behind");
    });
}

#[test]
fn a_killed_server_and_a_killed_broker_lose_nothing() {
    let mut world = world!();
    let one = instance("one", "shared", none());
    let broker = world.broker();
    let credentials = world.run(async {
        broker.create(&one).await.unwrap();
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        query(&credentials, "CREATE TABLE t (x int, y text); INSERT INTO t VALUES (1, 'x')").await.unwrap();
        let first = world.server_pid();
        kill_process(first);
        eventually("it serves again", || async { query(&credentials, "SELECT 1").await.is_ok() }).await;
        broker.server().running(Duration::from_secs(20)).await.unwrap();
        assert_eq!(query(&credentials, "SELECT x FROM t").await.unwrap(), ["1"]);
        assert_ne!(world.server_pid(), first);
        query(&credentials, "INSERT INTO t SELECT seq, MD5(seq) FROM seq_1_to_60000").await.unwrap();
        credentials
    });
    drop(broker);

    // Killed in the middle of many things at once
    for round in 0..3 {
        let before = world.server_pid();
        let broker = world.broker();
        let mut handles = vec![];
        for n in 0..4 {
            let (broker, made) = (broker.clone(), instance(&format!("r{round}-{n}"), "shared", none()));
            handles.push(world.spawn(async move {
                let _ = broker.create(&made).await;
                let _ = broker.bind_to(&made, &format!("b{}", made.id)).await;
                let _ = broker.delete(&made).await;
            }));
        }
        let (copy, source) = (broker.clone(), one.clone());
        handles.push(world.spawn(async move {
            let _ = copy.backup(&op(Kind::Backup), &source, &format!("b{round}")).await;
            let _ = copy.restore(&op(Kind::Restore), &source, &stored(&source, &format!("b{round}"))).await;
        }));
        std::thread::sleep(Duration::from_millis(40 + 300 * round));
        drop((broker, handles));
        world.kill();
        world.start();
        let broker = world.broker();
        world.run(async {
            broker.server().running(Duration::from_secs(20)).await.unwrap();
            assert_eq!(broker.server().phase(), Phase::Running { pid: before, adopted: true });
            for n in 0..4 {
                let made = instance(&format!("r{round}-{n}"), "shared", none());
                broker.create(&made).await.unwrap();
                let credentials = broker.bind_to(&made, &format!("b{}", made.id)).await.unwrap();
                query(&credentials, "CREATE TABLE t (x int)").await.unwrap();
                broker.delete(&made).await.unwrap();
            }
            // The operation that was cut off comes again, as the SDK does it
            broker.backup(&op(Kind::Backup), &one, &format!("b{round}")).await.unwrap();
            broker.restore(&op(Kind::Restore), &one, &stored(&one, &format!("b{round}"))).await.unwrap();
            assert_eq!(query(&credentials, "SELECT count(*) FROM t").await.unwrap(), ["60001"]);
        });
    }
    world.run(async {
        world.broker().delete(&one).await.unwrap();
        let left = "SELECT (SELECT count(*) FROM mysql.global_priv WHERE User REGEXP '^[dut][0-9a-f]{24}$') \
                    + (SELECT count(*) FROM cupola.logins) + (SELECT count(*) FROM cupola.instances) \
                    + (SELECT count(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME REGEXP '^[ds][0-9a-f]{24}$')";
        assert_eq!(world.admin(left).await, ["0"]);
    });
}

#[test]
fn many_instances_from_many_clients() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let began = Instant::now();
        let client = |client: usize| {
            let broker = broker.clone();
            async move {
                for n in (0..50).filter(|n| n % 8 == client) {
                    let made = instance(&format!("i{n}"), "shared", none());
                    broker.create(&made).await.unwrap();
                    let credentials = broker.bind_to(&made, &format!("b{n}")).await.unwrap();
                    query(&credentials, "CREATE TABLE t (x int)").await.unwrap();
                }
            }
        };
        join_all((0..8).map(client)).await;
        eprintln!("50 instances from 8 clients in {:?}", began.elapsed());
        let names = "SELECT count(DISTINCT name) FROM cupola.instances WHERE complete";
        assert_eq!(world.admin(names).await, ["50"]);
        join_all((0..50).map(|n| {
            let broker = broker.clone();
            async move { broker.delete(&instance(&format!("i{n}"), "shared", none())).await.unwrap() }
        }))
        .await;
        assert_eq!(world.admin(names).await, ["0"]);

        let mut times = vec![];
        for n in 0..20 {
            let made = instance(&format!("s{n}"), "shared", none());
            let began = Instant::now();
            broker.create(&made).await.unwrap();
            broker.bind_to(&made, &format!("s{n}")).await.unwrap();
            broker.unbind_from(&made, &format!("s{n}")).await.unwrap();
            broker.delete(&made).await.unwrap();
            times.push(began.elapsed());
        }
        times.sort();
        eprintln!("create + bind + unbind + delete: p50 {:?}, slowest {:?}", times[10], times[19]);
    });
}

#[test]
fn a_server_that_nobody_needs_is_stopped() {
    let mut world = world!();
    world.kill();
    world.raw.engine.check_interval_s = 1;
    world.start();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", none());
        broker.create(&one).await.unwrap();
        broker.delete(&one).await.unwrap();
        eventually("stopped", || async { broker.server().phase() == Phase::Stopped }).await;
        broker.create(&one).await.unwrap();
        query(&broker.bind_to(&one, "a").await.unwrap(), "SELECT 1").await.unwrap();
    });
}
