//! The store's test list, run on SQLite and on PostgreSQL.

use crate::{
    config::Database,
    domain::{Access, Error, Result, Tx, services::catalog, taken},
    store::{
        Conn, Store, app_usage, feed, orgs,
        query::List,
        quotas, schema, service_bindings, service_brokers, service_instances, service_offerings, service_operations,
        service_plans::{self, Grant, Reach},
        service_usage, spaces, workloads,
    },
    vault::Vault,
};
use cloud_controller_client::{Desired, DesiredChange};
use diesel::prelude::*;
use foundation::Secret;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use testkit::postgres::Postgres;
use types::{ProcessId, Timestamp};

/// A test that does not know which database it runs on.
type Check = fn(Store) -> futures::future::LocalBoxFuture<'static, ()>;

const LIST: &[(&str, Check)] = &[
    ("the_feed_skips_no_change", |store| Box::pin(the_feed_skips_no_change(store))),
    ("the_feed_tells_only_the_newest_change_of_an_object", |store| {
        Box::pin(the_feed_tells_only_the_newest_change_of_an_object(store))
    }),
    ("a_failed_transaction_leaves_nothing", |store| Box::pin(a_failed_transaction_leaves_nothing(store))),
    ("a_broken_key_is_translated", |store| Box::pin(a_broken_key_is_translated(store))),
    ("what_is_gone_is_forgotten_later", |store| Box::pin(what_is_gone_is_forgotten_later(store))),
    ("the_tables_are_what_the_schema_says", |store| Box::pin(the_tables_are_what_the_schema_says(store))),
    ("plans_are_seen_by_whom_they_are_for", |store| Box::pin(plans_are_seen_by_whom_they_are_for(store))),
    ("usage_events_keep_their_order_and_the_newest", |store| Box::pin(usage_events_keep_their_order_and_the_newest(store))),
    ("writers_in_each_others_way_all_succeed", |store| Box::pin(writers_in_each_others_way_all_succeed(store))),
];

#[tokio::test]
async fn the_list_holds_on_sqlite() {
    for (name, check) in LIST {
        let folder = tempfile::tempdir().unwrap();
        println!("{name}");
        check(Store::open(&Database::Sqlite(folder.path().join("cc.db"))).unwrap()).await;
    }
}

#[tokio::test]
async fn the_list_holds_on_postgresql() {
    let Some(server) = Postgres::start() else { return };
    for (number, (name, check)) in LIST.iter().enumerate() {
        let database = Database::Postgres(Secret::new(server.database(&format!("list{number}"))));
        println!("{name}");
        check(tokio::task::spawn_blocking(move || Store::open(&database)).await.unwrap().unwrap()).await;
    }
}

async fn write<T: Send + 'static>(
    store: &Store,
    seed: u64,
    mut work: impl FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "07".repeat(32)).unwrap();
    let vault = Vault::open_key(key.path()).unwrap();
    let run = move |conn: &mut Conn| {
        let (who, now) = (Arc::new(Access::system()), Timestamp::from_secs(1000 + seed));
        work(&mut Tx {
            conn,
            who,
            now,
            rng: StdRng::seed_from_u64(seed),
            vault: &vault,
            max_polling: std::time::Duration::from_secs(60),
            hints: vec![],
        })
    };
    store.write(run).await
}

fn process(number: u64) -> ProcessId {
    ProcessId::random(&mut StdRng::seed_from_u64(number))
}

/// Follows the feed as the health manager does, until nobody writes any more.
async fn follow(store: &Store, writing: &AtomicBool) -> BTreeMap<String, u64> {
    let (mut after, mut seen) = (0, BTreeMap::new());
    loop {
        let last_look = !writing.load(Ordering::SeqCst);
        let page = store.read(move |conn| feed::page(conn, after, 7)).await.unwrap();
        for DesiredChange { change, what } in page.changes {
            assert!(change > after, "changes come in order");
            seen.insert(serde_json::to_string(&what).unwrap(), change);
        }
        after = page.next;
        if page.complete && last_look {
            return seen;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn the_feed_skips_no_change(store: Store) {
    const WRITERS: u64 = 6;
    const EACH: u64 = 25;
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let process = process(writer * 1000 + number);
                write(&store, number, move |tx| {
                    let change = feed::put(tx, &Desired::NoProcess { process })?;
                    // Others commit while this one still waits.
                    std::thread::sleep(std::time::Duration::from_millis(writer % 3));
                    Ok(change)
                })
                .await
                .unwrap();
            }
        })
    });
    let writing = AtomicBool::new(true);
    let writers = async {
        for writer in futures::future::join_all(writers).await {
            writer.unwrap();
        }
        writing.store(false, Ordering::SeqCst);
    };
    let (_, seen) = tokio::join!(writers, follow(&store, &writing));
    assert_eq!(seen.len() as u64, WRITERS * EACH);
    assert_eq!(*seen.values().max().unwrap(), WRITERS * EACH);
}

async fn the_feed_tells_only_the_newest_change_of_an_object(store: Store) {
    for _ in 0..3 {
        write(&store, 1, |tx| feed::put(tx, &Desired::NoProcess { process: process(1) })).await.unwrap();
    }
    let page = store.read(|conn| feed::page(conn, 0, 10)).await.unwrap();
    assert_eq!((page.changes.len(), page.next, page.complete), (1, 3, true));
    let page = store.read(|conn| feed::page(conn, 3, 10)).await.unwrap();
    assert_eq!((page.changes.len(), page.next, page.complete), (0, 3, true));
}

async fn a_failed_transaction_leaves_nothing(store: Store) {
    let failed = write(&store, 1, |tx| {
        feed::put(tx, &Desired::NoProcess { process: process(1) })?;
        Err::<(), _>(Error::invalid("no"))
    });
    assert!(matches!(failed.await, Err(Error::Invalid(_))));
    let page = store.read(|conn| feed::page(conn, 0, 10)).await.unwrap();
    assert!(page.changes.is_empty());
    // And the next one gets the number that was not used.
    assert_eq!(write(&store, 2, |tx| feed::put(tx, &Desired::NoProcess { process: process(1) })).await.unwrap(), 1);
}

fn add_quota(tx: &mut Tx<'_>, name: &str) -> Result<String> {
    let quota = quotas::OrgQuota::unlimited(tx.guid(), tx.micros(), name);
    taken(quotas::insert_org_quota(tx.conn, &quota), || Error::invalid("taken"))?;
    Ok(quota.guid)
}

async fn a_broken_key_is_translated(store: Store) {
    write(&store, 1, |tx| add_quota(tx, "Gold")).await.unwrap();
    let again = write(&store, 2, |tx| add_quota(tx, "GOLD")).await;
    assert!(matches!(again, Err(Error::Invalid(text)) if text == "taken"));
    // The connection is good for the next one.
    write(&store, 3, |tx| add_quota(tx, "Silver")).await.unwrap();
}

async fn what_is_gone_is_forgotten_later(store: Store) {
    write(&store, 1, |tx| feed::put(tx, &Desired::NoProcess { process: process(1) })).await.unwrap();
    write(&store, 9, |tx| feed::put(tx, &Desired::NoProcess { process: process(2) })).await.unwrap();
    let before = i64::try_from(Timestamp::from_secs(1005).0).unwrap();
    assert_eq!(store.write(move |conn| feed::forget_gone(conn, before)).await.unwrap(), 1);
    let page = store.read(|conn| feed::page(conn, 0, 10)).await.unwrap();
    assert_eq!(page.changes.len(), 1);
}

/// Reading every column of every table as its type: names, types and nullability agree, or it fails.
async fn the_tables_are_what_the_schema_says(store: Store) {
    macro_rules! readable {
        ($conn:ident: $($table:ident => $row:ty,)*) => {
            $(let _: Vec<$row> = schema::$table::table.select(schema::$table::all_columns).load($conn)?;)*
        };
    }
    type Text = String;
    type Maybe = Option<String>;
    store
        .read(|conn| {
            readable! { conn:
                route_shares => (Text, Text),
                domain_shares => (Text, Text),
                labels => (Text, Text, Text, Text),
                annotations => (Text, Text, Text, Text),
                env_groups => (Text, Vec<u8>, i64, i64),
                change_counter => (i32, i64),
                desired_changes => (Text, Text, i64, bool, i64, Text),
                blob_garbage => (Text, i64),
                resources => (Text, Text, Text, i64, i64, i64),
                feature_flags => (Text, bool, Maybe, i64),
                workload_volumes => (Text, Text, Text, Text),
            }
            let _: Vec<orgs::Org> = schema::orgs::table.select(orgs::Org::as_select()).load(conn)?;
            let _: Vec<quotas::OrgQuota> = schema::org_quotas::table.select(quotas::OrgQuota::as_select()).load(conn)?;
            let _: Vec<quotas::SpaceQuota> = schema::space_quotas::table.select(quotas::SpaceQuota::as_select()).load(conn)?;
            of_services(conn)
        })
        .await
        .unwrap();
}

fn of_services(conn: &mut Conn) -> Result<()> {
    macro_rules! selectable {
        ($($table:ident => $row:ty,)*) => {
            $(let _: Vec<$row> = schema::$table::table.select(<$row>::as_select()).load(conn)?;)*
        };
    }
    selectable! {
        service_brokers => service_brokers::Broker,
        service_offerings => service_offerings::Offering,
        service_plans => service_plans::Plan,
        service_instances => service_instances::Instance,
        service_instance_shares => service_instances::Share,
        service_bindings => service_bindings::Binding,
        service_operations => service_operations::Operation,
        service_usage_events => service_usage::UsageEvent,
        app_usage_events => app_usage::AppUsageEvent,
        workloads => workloads::Workload,
    }
    let visibilities = schema::service_plan_visibilities::table.select(schema::service_plan_visibilities::all_columns);
    let _: Vec<(String, String)> = visibilities.load(conn)?;
    Ok(())
}

fn add_org(tx: &mut Tx<'_>, name: &str, quota: &str) -> Result<String> {
    let org = orgs::Org {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: name.to_owned(),
        name_key: name.to_owned(),
        suspended: false,
        deleting: false,
        quota_guid: quota.to_owned(),
    };
    orgs::insert(tx.conn, &org)?;
    Ok(org.guid)
}

fn add_broker(tx: &mut Tx<'_>, name: &str, space: Option<String>, plans: usize) -> Result<Vec<String>> {
    let broker = service_brokers::Broker {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: name.to_owned(),
        url: "http://broker.test".into(),
        username: String::new(),
        password: vec![],
        space_guid: space,
        state: "AVAILABLE".into(),
    };
    service_brokers::insert(tx.conn, &broker)?;
    let plan = |n: usize| json!({ "id": format!("{name}{n}"), "name": format!("{name}{n}"), "description": "a plan" });
    let service = json!({
        "id": name, "name": name, "description": "a service", "bindable": true, "plans": (0..plans).map(plan).collect::<Vec<_>>(),
    });
    let catalog = osb::catalog::validate(&json!({ "services": [service] })).unwrap();
    assert_eq!(catalog::apply(tx, &broker, &catalog, false)?.unwrap(), Vec::<String>::new());
    Ok(service_plans::of_broker(tx.conn, &broker.guid)?.into_iter().map(|plan| plan.guid).collect())
}

async fn plans_are_seen_by_whom_they_are_for(store: Store) {
    // More rows than one batch has.
    let work = |tx: &mut Tx<'_>| {
        let quota = add_quota(tx, "q")?;
        let (a, b) = (add_org(tx, "a", &quota)?, add_org(tx, "b", &quota)?);
        let space = spaces::Space {
            guid: tx.guid(),
            created_at: tx.micros(),
            updated_at: tx.micros(),
            name: "s".into(),
            name_key: "s".into(),
            org_guid: a.clone(),
            suspended: false,
            deleting: false,
            allow_ssh: true,
            quota_guid: None,
        };
        spaces::insert(tx.conn, &space)?;
        let plans = add_broker(tx, "global", None, 1200)?;
        add_broker(tx, "scoped", Some(space.guid.clone()), 2)?;
        let mut public = service_plans::find(tx.conn, &plans[0])?.unwrap();
        public.public = true;
        service_plans::save(tx.conn, &public)?;
        let grant = |plan: &String, org: &String| Grant { plan_guid: plan.clone(), org_guid: org.clone() };
        service_plans::grant(tx.conn, &[grant(&plans[1], &a), grant(&plans[1], &b), grant(&plans[2], &b)])?;
        Ok((a, b, space.guid))
    };
    let (a, b, space) = write(&store, 1, work).await.unwrap();
    let some = |orgs: &[&String], spaces: &[&String]| Reach::Some {
        orgs: orgs.iter().map(|org| (*org).clone()).collect(),
        spaces: spaces.iter().map(|space| (*space).clone()).collect(),
    };
    let cases = [
        (Reach::Everything, 1202, 2),
        (some(&[], &[]), 1, 1),
        (some(&[&a], &[]), 2, 1),
        (some(&[&a, &b], &[]), 3, 1),
        (some(&[], &[&space]), 3, 2),
        (some(&[&b], &[&space]), 5, 2),
    ];
    for (reach, plans, offerings) in cases {
        let (asked, list) = (reach.clone(), List { page: 1, per_page: 5000, ..List::default() });
        let found = store
            .read(move |conn| {
                let found = service_plans::list(conn, &asked, &list)?;
                assert_eq!(found.total, i64::try_from(found.rows.len()).unwrap());
                Ok((found.total, service_offerings::list(conn, &asked, &list)?.total))
            })
            .await
            .unwrap();
        assert_eq!(found, (plans, offerings), "{reach:?}");
    }
}

async fn usage_events_keep_their_order_and_the_newest(store: Store) {
    // The clocks of writers may differ: what counts is who was first.
    for (number, second) in [(1, 500), (2, 400), (3, 300)] {
        let add = move |tx: &mut Tx<'_>| {
            let text = || format!("{number}");
            let event = service_usage::UsageEvent {
                guid: text(),
                position: service_usage::next_position(tx.conn)?,
                created_at: second * 1_000_000,
                state: "CREATED".into(),
                space_guid: text(),
                space_name: text(),
                org_guid: text(),
                instance_guid: text(),
                instance_name: text(),
                instance_kind: text(),
                plan_guid: None,
                plan_name: None,
                offering_guid: None,
                offering_name: None,
                broker_guid: None,
                broker_name: None,
            };
            Ok(service_usage::insert(tx.conn, &[event])?)
        };
        write(&store, number, add).await.unwrap();
    }
    let guids = async |after: i64| {
        let list = List { page: 1, per_page: 50, ..List::default() };
        let found = store.read(move |conn| service_usage::list(conn, after, &list)).await.unwrap();
        found.rows.into_iter().map(|event| event.guid).collect::<Vec<_>>()
    };
    assert_eq!(guids(0).await, ["1", "2", "3"]);
    assert_eq!(guids(1).await, ["2", "3"]);
    assert_eq!(store.write(|conn| service_usage::forget(conn, 450_000_000)).await.unwrap(), 1);
    assert_eq!(guids(0).await, ["1", "3"]);
}

async fn writers_in_each_others_way_all_succeed(store: Store) {
    let quota = write(&store, 1, |tx| add_quota(tx, "shared")).await.unwrap();
    let writers = (0..12_u64).map(|number| {
        let (store, quota) = (store.clone(), quota.clone());
        tokio::spawn(async move {
            // Half of them lock in the one order, half in the other: on PostgreSQL that is a deadlock for somebody.
            write(&store, number, move |tx| {
                let change = |tx: &mut Tx<'_>| feed::put(tx, &Desired::NoProcess { process: process(number) });
                let touch = |tx: &mut Tx<'_>| -> Result<()> {
                    let of_quota = schema::org_quotas::table.find(&quota);
                    diesel::update(of_quota).set(schema::org_quotas::updated_at.eq(7)).execute(tx.conn)?;
                    Ok(())
                };
                if number % 2 == 0 {
                    change(tx)?;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    touch(tx)
                } else {
                    touch(tx)?;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    change(tx).map(drop)
                }
            })
            .await
        })
    });
    for outcome in futures::future::join_all(writers).await {
        outcome.unwrap().unwrap();
    }
}
