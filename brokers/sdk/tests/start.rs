//! Starting and stopping: wrong catalogs, taken addresses, lost keys, operations that outlive a process.

mod world;

use broker_sdk::{Outside, StartError, start};
use foundation::{Shutdown, SystemClock};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::sync::Arc;
use world::{LATER, Things, World, settings};

fn outside() -> Outside {
    Outside { clock: Arc::new(SystemClock), rng: StdRng::seed_from_u64(1) }
}

#[actix_web::test]
async fn a_catalog_that_breaks_rules_keeps_the_broker_from_starting() {
    let mut things = Things::new();
    let broken = Arc::get_mut(&mut things).unwrap();
    broken.catalog.services[0].plans[1].id = world::NOW.into();
    broken.catalog.services[1].description.clear();
    let folder = tempfile::tempdir().unwrap();
    let error = start(things, settings(folder.path()), outside(), &Shutdown::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StartError::Catalog(_)), "{text}");
    assert!(text.contains("Service others\n  Service description is required"), "{text}");
    assert!(text.contains("Plan ids must be unique"), "{text}");
}

#[actix_web::test]
async fn a_database_without_its_key_is_not_opened() {
    let (folder, things) = World::new().await.stop().await;
    std::fs::remove_file(folder.path().join("state/key")).unwrap();
    let error = start(things, settings(folder.path()), outside(), &Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, StartError::State(..)), "{error}");
}

#[actix_web::test]
async fn what_a_stopped_broker_has_not_ended_goes_on_at_its_next_start() {
    let world = World::new().await;
    world.things.open.send_replace(false);
    let begun = world.provision("i", LATER, json!({ "slow": true })).await;
    let operation = begun.body["operation"].as_str().unwrap().to_owned();
    let (folder, things) = world.stop().await;
    things.open.send_replace(true);

    let world = World::at(folder, things).await;
    let ended = world.ended("i", &operation).await;
    assert_eq!((ended.status, &ended.body["state"]), (200, &json!("succeeded")));
    assert_eq!(world.things.journal(), ["provision i", "provision i again"]);
    let fetched = world.call("GET", "/v2/service_instances/i", Value::Null).await;
    assert_eq!(fetched.status, 200);
}
