//! The broker against a real server: every credential is tried.

#![expect(clippy::unwrap_used, reason = "tests")]

mod dedicated;
mod world;

use broker_sdk::{Bind, Broker, CloneSource, Kind, Operation};
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

#[test]
fn credentials_work_over_tls_until_they_are_revoked() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        eventually("an unused server costs nothing", || async { broker.server().phase() == Phase::Stopped }).await;
        let one = instance("one", "shared", json!({ "extensions": ["hstore", "uuid-ossp"] }));
        broker.create(&one).await.unwrap();
        broker.create(&one).await.unwrap();
        let first = broker.bind_to(&one, "first").await.unwrap();
        let second = broker.bind_to(&one, "second").await.unwrap();
        let client = log_in(&first).await.unwrap();
        client.batch_execute("CREATE TABLE t (x int, h hstore); INSERT INTO t VALUES (1, 'a=>1')").await.unwrap();
        let denied = log_in_without_tls(&first).await.err().unwrap();
        assert!(denied.to_string().contains("db error"), "{denied}");

        // What one binding made, the other uses, changes, and still has when the first is gone
        let other = log_in(&second).await.unwrap();
        other.batch_execute("INSERT INTO t VALUES (2); ALTER TABLE t ADD y int").await.unwrap();
        client.batch_execute("RESET ROLE; CREATE TABLE mine (x int); INSERT INTO mine VALUES (7)").await.unwrap();
        broker.unbind_from(&one, "first").await.unwrap();
        eventually("the session ends", || async { client.simple_query("SELECT 1").await.is_err() }).await;
        assert!(log_in(&first).await.is_err(), "a revoked login still works");
        other.batch_execute("INSERT INTO mine VALUES (8); DROP TABLE mine").await.unwrap();
        broker.unbind_from(&one, "first").await.unwrap();

        // A repeated bind gives new credentials to the same login
        let again = broker.bind_to(&one, "second").await.unwrap();
        assert_eq!(again["username"], second["username"]);
        log_in(&again).await.unwrap();
        assert!(log_in(&second).await.is_err());

        let said = broker.delete(&one).await.unwrap();
        assert!(said.contains("MB), 1 logins and 0 backups"), "{said}");
        assert!(log_in(&again).await.is_err());
        assert_eq!(broker.delete(&one).await.unwrap(), "");
        let left = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'u%') + \
                    (SELECT count(*) FROM cupola.databases WHERE state = 'dropping')";
        eventually("all is dropped", || async { world.admin("postgres", left).await == ["0"] }).await;
    });
}

#[test]
fn a_binding_that_is_resumed_keeps_the_password_that_was_saved() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", none());
        broker.create(&one).await.unwrap();
        let state = object(json!({ "password": "saved-before-the-end" }));
        let request = Bind { binding_id: "b".into(), state, parameters: object(json!({ "connections": 2 })), ..Bind::default() };
        let bound = broker.bind(&op(Kind::Bind), &one, &request).await.unwrap();
        let credentials = bound.credentials.unwrap();
        assert_eq!(credentials["password"], "saved-before-the-end");
        assert_eq!(bound.endpoints.unwrap()[0].ports, [world.raw.engine.port.to_string()]);
        let _held = (log_in(&credentials).await.unwrap(), log_in(&credentials).await.unwrap());
        assert!(log_in(&credentials).await.is_err(), "a third connection");
    });
}

#[test]
fn the_whole_contract_is_kept() {
    let world = world!();
    assert_eq!(world.broken(), Vec::<String>::new());
}

/// What a tenant tries against the server and against another tenant; each must fail.
const ATTEMPTS: &[(&str, &str)] = &[
    ("make a role", "CREATE ROLE intruder LOGIN SUPERUSER"),
    ("make a database", "CREATE DATABASE mine"),
    ("drop the other database", "DROP DATABASE {other}"),
    ("rename its database", "ALTER DATABASE {own} RENAME TO elsewhere"),
    ("lift its limits", "ALTER DATABASE {own} CONNECTION LIMIT -1"),
    ("lift the limits of its login", "ALTER ROLE {login} CONNECTION LIMIT -1"),
    ("be the administrator", "SET ROLE cupola"),
    ("be the other tenant", "SET ROLE {other}"),
    ("be the other tenant's session", "SET SESSION AUTHORIZATION {other}"),
    ("join the other tenant", "GRANT {other} TO {login}"),
    ("let itself be anybody", "GRANT cupola TO {login}"),
    ("change the other login", "ALTER ROLE {otherlogin} PASSWORD 'x'"),
    ("drop the other login", "DROP ROLE {otherlogin}"),
    ("read a file", "SELECT pg_read_file('/etc/passwd')"),
    ("list a folder", "SELECT pg_ls_dir('/')"),
    ("run a program", "COPY (SELECT 1) TO PROGRAM 'id'"),
    ("write a file", "COPY (SELECT 1) TO '/tmp/x'"),
    ("import a file", "SELECT lo_import('/etc/passwd')"),
    ("change the server", "ALTER SYSTEM SET log_statement = 'all'"),
    ("reload the server", "SELECT pg_reload_conf()"),
    ("see sessions", "SELECT * FROM pg_stat_activity"),
    ("see sessions by the function", "SELECT * FROM pg_stat_get_activity(NULL)"),
    ("end the other's sessions", "SELECT pg_terminate_backend({otherpid})"),
    ("see passwords", "SELECT * FROM pg_authid"),
    ("an extension that reaches out", "CREATE EXTENSION dblink"),
    ("an extension that reads files", "CREATE EXTENSION file_fdw"),
    ("a language that is not trusted", "CREATE EXTENSION plpython3u"),
    ("load code", "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/x.so', 'f'"),
    ("load a library", "LOAD '/tmp/x.so'"),
    ("the size of the other", "SELECT pg_database_size('{other}')"),
    ("write to the catalog", "UPDATE pg_database SET datconnlimit = -1"),
    ("a tablespace", "CREATE TABLESPACE t LOCATION '/tmp'"),
    ("a subscription", "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p"),
    ("more space for temporary files", "SET temp_file_limit = -1"),
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
        let (client, victim) = (log_in(&a).await.unwrap(), log_in(&b).await.unwrap());
        let pid = texts(&victim, "SELECT pg_backend_pid()").await.unwrap().remove(0);
        let text = |key: &str, of: &broker_sdk::osb::Credentials| of[key].as_str().unwrap().to_owned();
        for database in [text("name", &b), "postgres".into(), "template1".into(), "template0".into()] {
            assert!(log_in_to(&a, &database).await.is_err(), "into {database}");
        }
        for role in ["", "RESET ROLE; "] {
            for (what, statement) in ATTEMPTS {
                let statement = statement
                    .replace("{own}", &text("name", &a))
                    .replace("{login}", &text("username", &a))
                    .replace("{otherlogin}", &text("username", &b))
                    .replace("{otherpid}", &pid)
                    .replace("{other}", &text("name", &b));
                let tried = client.batch_execute(&format!("{role}{statement}")).await;
                assert!(tried.is_err(), "{what}: {statement}");
                let _ = client.batch_execute(&format!("SET ROLE {}", text("name", &a))).await;
            }
        }
        victim.simple_query("SELECT 1").await.unwrap();
        // Rights that one tenant gives to another without being asked do not keep the other from going
        let trap = format!(
            "CREATE TABLE trap (x int); GRANT SELECT ON trap TO {0}; GRANT SELECT ON trap TO {1}; \
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {0}",
            text("username", &b),
            text("name", &b)
        );
        client.batch_execute(&trap).await.unwrap();
        broker.unbind_from(&two, "b").await.unwrap();
        assert!(log_in(&b).await.is_err());
        broker.delete(&two).await.unwrap();
        client.batch_execute("DROP TABLE trap").await.unwrap();
    });
}

const FILL: &str = "INSERT INTO t SELECT n, repeat(md5(n::text), 32) FROM generate_series(1, 60000) n";

/// Ways to write that must all be closed to a database that is too large.
const WRITES: &[&str] = &[
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET y = 'z'",
    "GRANT ALL ON t TO CURRENT_USER; INSERT INTO t VALUES (1)",
    "ALTER TABLE t OWNER TO CURRENT_USER",
    "CREATE TABLE u (x int)",
    "CREATE TEMPORARY TABLE u (x int)",
    "CREATE SCHEMA u",
    "CREATE TABLE s.u (x int)",
    "CREATE INDEX ON t (y)",
    "SELECT lo_create(4711)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_put(4711, 0, 'x')",
    "INSERT INTO v VALUES (1)",
    "SELECT planted()",
    "DELETE FROM ruled",
    "COPY t FROM STDIN",
    "REFRESH MATERIALIZED VIEW m",
    "INSERT INTO granted VALUES (1)",
];

#[test]
fn a_database_that_is_too_large_can_be_read_and_emptied_but_not_written() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", none());
        broker.create(&one).await.unwrap();
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        let setup = "CREATE TABLE t (x int, y text); CREATE SCHEMA s; CREATE VIEW v AS SELECT x FROM t; \
            CREATE TABLE serial (id serial PRIMARY KEY); CREATE TABLE identity (id int GENERATED ALWAYS AS IDENTITY); \
            CREATE MATERIALIZED VIEW m AS SELECT 1; CREATE TABLE s.parts (x int) PARTITION BY RANGE (x); \
            CREATE TABLE s.part PARTITION OF s.parts FOR VALUES FROM (0) TO (10); \
            CREATE TABLE ruled (x int); CREATE TABLE target (x int); \
            CREATE RULE r AS ON DELETE TO ruled DO ALSO INSERT INTO target VALUES (1); \
            CREATE TABLE granted (x int); GRANT ALL ON granted TO PUBLIC; GRANT INSERT (x) ON granted TO PUBLIC; \
            GRANT ALL ON SCHEMA public TO PUBLIC; GRANT ALL ON SCHEMA public TO SESSION_USER WITH GRANT OPTION; \
            CREATE FUNCTION planted() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO t VALUES (1)'; \
            RESET ROLE; CREATE TABLE own (x int); GRANT INSERT ON own TO PUBLIC";
        client.batch_execute(setup).await.unwrap();
        client
            .batch_execute(&format!(
                "SET ROLE {}; {FILL}; GRANT INSERT ON t TO SESSION_USER",
                credentials["name"].as_str().unwrap()
            ))
            .await
            .unwrap();
        broker.check_sizes().await.unwrap();

        let client = log_in(&credentials).await.unwrap();
        for role in ["SET ROLE NONE; ", ""] {
            for write in WRITES.iter().chain(&["INSERT INTO own VALUES (1)"]) {
                let tried = client.batch_execute(&format!("SET default_transaction_read_only = off; {role}{write}")).await;
                assert!(tried.is_err(), "{role}{write}");
                let _ = client.batch_execute("ROLLBACK").await;
            }
            client.batch_execute(&format!("SET ROLE {}", credentials["name"].as_str().unwrap())).await.unwrap();
        }
        assert_eq!(texts(&client, "SELECT count(*) FROM t").await.unwrap(), ["60000"]);
        // Bindings made now are no way around it
        let late = log_in(&broker.bind_to(&one, "late").await.unwrap()).await.unwrap();
        assert!(late.batch_execute("INSERT INTO t VALUES (1)").await.is_err());
        // Backups, too, can be made of it
        broker.backup(&op(Kind::Backup), &one, "frozen").await.unwrap();

        client.batch_execute("DELETE FROM t WHERE x > 100").await.unwrap();
        eventually("small enough", || async {
            broker.check_sizes().await.unwrap();
            client.batch_execute("INSERT INTO t VALUES (1)").await.is_ok()
        })
        .await;
        let after = "CREATE TABLE u (x int); INSERT INTO s.parts VALUES (1); INSERT INTO serial DEFAULT VALUES; \
                     INSERT INTO identity DEFAULT VALUES; REFRESH MATERIALIZED VIEW m; SELECT lo_create(4711); \
                     INSERT INTO own VALUES (1); CREATE TABLE s.more (x int); SELECT planted()";
        client.batch_execute(after).await.unwrap();

        // A larger plan is another way out
        client.batch_execute(FILL).await.unwrap();
        broker.check_sizes().await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        assert!(client.batch_execute("INSERT INTO t VALUES (1)").await.is_err());
        broker.update(&op(Kind::Update), &one, &change(Some("large"), None)).await.unwrap();
        client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        let limits = world.admin("postgres", "SELECT DISTINCT rolconnlimit FROM pg_roles WHERE rolname LIKE 'u%'").await;
        assert_eq!(limits, ["10"]);
    });
}

#[test]
fn backups_come_back_while_bindings_stay() {
    let world = world!();
    let broker = world.broker();
    world.run(async {
        let one = instance("one", "shared", json!({ "collation": "de", "extensions": ["citext"] }));
        broker.create(&one).await.unwrap();
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        // A function that tries to be more than its tenant when a tool touches it
        let setup = "CREATE TABLE t (x int PRIMARY KEY, y citext, id serial); INSERT INTO t VALUES (1, 'one'), (2, 'two'); \
            CREATE FUNCTION sly(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
                IF current_setting('is_superuser') = 'on' OR session_user = 'cupola' THEN RAISE 'I am somebody'; END IF; \
                BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END; \
                RETURN x; END $$; \
            CREATE INDEX ON t (sly(x)); ALTER TABLE t ADD CHECK (sly(x) > 0); SELECT lo_from_bytea(4711, 'large'); \
            RESET ROLE; CREATE TABLE own (x int); INSERT INTO own VALUES (3)";
        client.batch_execute(setup).await.unwrap();
        let made = broker.backup(&op(Kind::Backup), &one, "monday").await.unwrap();
        assert!(made.size_bytes > 500);
        assert_eq!(broker.backup(&op(Kind::Backup), &one, "monday").await.unwrap(), made, "a repeat is the same backup");

        client
            .batch_execute(&format!(
                "SET ROLE {}; DELETE FROM t; DROP TABLE own; CREATE TABLE later (x int)",
                credentials["name"].as_str().unwrap()
            ))
            .await
            .unwrap();
        broker.restore(&op(Kind::Restore), &one, &stored(&one, "monday")).await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        assert_eq!(texts(&client, "SELECT y FROM t ORDER BY x").await.unwrap(), ["one", "two"]);
        assert_eq!(texts(&client, "SELECT x FROM own").await.unwrap(), ["3"]);
        assert_eq!(texts(&client, "SELECT convert_from(lo_get(4711), 'UTF8')").await.unwrap(), ["large"]);
        assert!(texts(&client, "SELECT * FROM later").await.is_err());
        client.batch_execute("INSERT INTO t VALUES (3, 'three'); CREATE TABLE after (x int)").await.unwrap();
        let collation = "SELECT daticulocale FROM pg_database WHERE datname = current_database()";
        assert_eq!(texts(&client, collation).await.unwrap(), ["de"]);

        // Clones: of now, and of a backup; neither is reached by the old binding
        for (id, backup, rows) in [("two", None, 3), ("three", Some("monday"), 2)] {
            let copy = instance(id, "shared", none());
            let mut request = provision(&copy);
            let backup = backup.map(|id| stored(&one, id));
            request.clone_from = Some(CloneSource { instance: one.clone(), backup });
            broker.provision(&op(Kind::Provision), &request).await.unwrap();
            let other = broker.bind_to(&copy, id).await.unwrap();
            let client = log_in(&other).await.unwrap();
            assert_eq!(texts(&client, "SELECT count(*) FROM t").await.unwrap(), [rows.to_string()]);
            assert!(log_in_to(&credentials, other["name"].as_str().unwrap()).await.is_err());
            let folders = std::fs::read_dir(world.raw.server.state.join("backups")).unwrap().flatten();
            let files: usize = folders.map(|folder| std::fs::read_dir(folder.path()).unwrap().count()).sum();
            assert_eq!(files, 2, "the backup and its note; the dump for the clone is gone");
        }
        // A damaged backup changes nothing
        let damaged = broker.restore(&op(Kind::Restore), &one, &stored(&one, "tuesday")).await.unwrap_err();
        assert!(damaged.description().contains("missing"), "{damaged:?}");
        broker.delete_backup(&op(Kind::DeleteBackup), &one, &stored(&one, "monday")).await.unwrap();
        assert!(broker.restore(&op(Kind::Restore), &one, &stored(&one, "monday")).await.is_err());
        assert_eq!(texts(&client, "SELECT count(*) FROM t").await.unwrap(), ["3"]);
        let tools = world.admin("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 't%' AND rolcanlogin").await;
        assert_eq!(tools, ["0"]);
        let said = broker.delete(&one).await.unwrap();
        assert!(said.contains("0 backups"), "{said}");
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
        let client = log_in(&credentials).await.unwrap();
        client.batch_execute("CREATE TABLE t (x int, y text); INSERT INTO t VALUES (1)").await.unwrap();
        let first = world.server_pid();
        kill_process(first);
        eventually("it serves again", || async { log_in(&credentials).await.is_ok() }).await;
        broker.server().running(Duration::from_secs(20)).await.unwrap();
        let client = log_in(&credentials).await.unwrap();
        assert_eq!(texts(&client, "SELECT x FROM t").await.unwrap(), ["1"]);
        assert_ne!(world.server_pid(), first);
        client.batch_execute(FILL).await.unwrap();
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
        std::thread::sleep(Duration::from_millis(60 + 250 * round));
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
                log_in(&credentials).await.unwrap().batch_execute("CREATE TABLE t (x int)").await.unwrap();
                broker.delete(&made).await.unwrap();
            }
            broker.backup(&op(Kind::Backup), &one, &format!("b{round}")).await.unwrap();
            broker.restore(&op(Kind::Restore), &one, &stored(&one, &format!("b{round}"))).await.unwrap();
            let client = log_in(&credentials).await.unwrap();
            assert_eq!(texts(&client, "SELECT count(*) FROM t").await.unwrap(), ["60001"]);
        });
    }
    world.run(async {
        let broker = world.broker();
        broker.delete(&one).await.unwrap();
        let left = "SELECT count(*) FROM pg_database WHERE datname NOT IN (SELECT name FROM cupola.databases) \
                    AND datname NOT IN ('postgres', 'template0', 'template1')";
        eventually("all databases are known", || async { world.admin("postgres", left).await == ["0"] }).await;
        let roles = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^[dotu][0-9a-f]{24}$' \
                     AND rolname NOT IN (SELECT name FROM cupola.databases)";
        eventually("all roles are known", || async { world.admin("postgres", roles).await == ["0"] }).await;
        let unfinished = "SELECT count(*) FROM cupola.databases WHERE state NOT IN ('spare', 'ready')";
        eventually("nothing unfinished", || async { world.admin("postgres", unfinished).await == ["0"] }).await;
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
                let mut times = vec![];
                for n in (0..50).filter(|n| n % 8 == client) {
                    let began = Instant::now();
                    let made = instance(&format!("i{n}"), "shared", none());
                    broker.create(&made).await.unwrap();
                    let credentials = broker.bind_to(&made, &format!("b{n}")).await.unwrap();
                    times.push(began.elapsed());
                    log_in(&credentials).await.unwrap().batch_execute("CREATE TABLE t (x int)").await.unwrap();
                }
                times
            }
        };
        let mut times: Vec<Duration> = join_all((0..8).map(client)).await.into_iter().flatten().collect();
        times.sort();
        eprintln!("50 instances from 8 clients in {:?}; create + bind p50 {:?}, p98 {:?}", began.elapsed(), times[25], times[48]);
        let names = "SELECT count(DISTINCT name) FROM cupola.databases WHERE state = 'ready'";
        assert_eq!(world.admin("postgres", names).await, ["50"]);
        join_all((0..50).map(|n| {
            let broker = broker.clone();
            async move { broker.delete(&instance(&format!("i{n}"), "shared", none())).await.unwrap() }
        }))
        .await;
        assert_eq!(world.admin("postgres", names).await, ["0"]);

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
        let credentials = broker.bind_to(&one, "a").await.unwrap();
        log_in(&credentials).await.unwrap();
    });
}
