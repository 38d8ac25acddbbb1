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

#[actix_web::test]
async fn an_instance_whose_plan_has_gone_can_still_be_deleted() {
    let world = World::new().await;
    world.things.open.send_replace(false);
    world.provision("made", LATER, json!({})).await;
    assert_eq!(world.ended("made", "").await.body["state"], "succeeded");
    let begun = world.provision("half", LATER, json!({ "slow": true })).await;
    let operation = begun.body["operation"].as_str().unwrap().to_owned();
    let (folder, things) = world.stop().await;
    things.open.send_replace(true);
    let mut things = Arc::into_inner(things).expect("the stopped broker is still held");
    things.catalog.services[0].plans.retain(|plan| plan.id != LATER);

    let world = World::at(folder, Arc::new(things)).await;
    let ended = world.ended("half", &operation).await;
    assert_eq!((ended.status, &ended.body["state"]), (200, &json!("failed")));
    for id in ["made", "half"] {
        let begun = world.delete(id, LATER).await;
        assert_eq!(begun.status, 202, "{begun:?}");
        assert_eq!(world.ended(id, begun.body["operation"].as_str().unwrap()).await.status, 410);
    }
    assert!(world.things.there.lock().is_empty());
    assert_eq!(world.things.journal().iter().filter(|entry| entry.starts_with("deprovision")).count(), 2);
}
