//! A broker and what a test of services needs besides.

use super::{
    World,
    harness::Answered,
    tenancy::{org, space},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use testkit::broker::Broker;

/// A registered broker whose plans everybody may use, an organization and a space.
pub struct Market {
    pub broker: Broker,
    pub org: String,
    pub space: String,
    /// Guids of plans by name.
    pub plans: BTreeMap<String, String>,
}

impl Market {
    /// Registers a broker with the catalog that it has by itself.
    pub async fn open(world: &World) -> Self {
        let broker = Broker::start().await;
        Self::with(world, broker).await
    }

    /// Registers this broker.
    pub async fn with(world: &World, broker: Broker) -> Self {
        let org = org(world, "acme").await;
        let space = space(world, &org, "dev").await;
        let body = json!({
            "name": "the-broker",
            "url": broker.url,
            "authentication": { "type": "basic", "credentials": { "username": "cloud", "password": "secret" } },
        });
        let job = settle(world, world.post("admin", "/v3/service_brokers", body).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        let shown = world.get("admin", "/v3/service_plans?per_page=500").await.expect(200);
        let mut plans = BTreeMap::new();
        for plan in shown["resources"].as_array().unwrap() {
            let (name, guid) = (plan["name"].as_str().unwrap().to_owned(), plan["guid"].as_str().unwrap().to_owned());
            let path = format!("/v3/service_plans/{guid}/visibility");
            world.patch("admin", &path, json!({ "type": "public" })).await.expect(200);
            plans.insert(name, guid);
        }
        broker.forget_seen();
        Self { broker, org, space, plans }
    }

    /// The body that asks for an instance.
    pub fn body(&self, name: &str, plan: &str) -> Value {
        json!({
            "type": "managed",
            "name": name,
            "relationships": { "space": { "data": { "guid": self.space } }, "service_plan": { "data": { "guid": self.plans[plan] } } },
        })
    }

    /// Asks for an instance.
    pub async fn ask(&self, world: &World, name: &str) -> Answered {
        world.post("admin", "/v3/service_instances", self.body(name, "small")).await
    }

    /// Makes an instance; returns its guid.
    pub async fn instance(&self, world: &World, name: &str) -> String {
        let job = settle(world, self.ask(world, name).await).await;
        assert_eq!(job["state"], "COMPLETE", "{job}");
        named(world, name).await["guid"].as_str().unwrap().to_owned()
    }

    /// Asks for a key.
    pub async fn ask_key(&self, world: &World, instance: &str, name: &str) -> Answered {
        let body = json!({
            "type": "key",
            "name": name,
            "relationships": { "service_instance": { "data": { "guid": instance } } },
        });
        world.post("admin", "/v3/service_credential_bindings", body).await
    }
}

/// The instance of this name; null when there is none.
pub async fn named(world: &World, name: &str) -> Value {
    world.get("admin", &format!("/v3/service_instances?names={name}")).await.expect(200)["resources"][0].clone()
}

/// Waits for the end of a job; the clock moves on until then.
pub async fn settle(world: &World, answered: Answered) -> Value {
    assert_eq!(answered.status, 202, "{}", answered.body);
    let location = answered.headers["Location"].to_str().unwrap().to_owned();
    settle_job(world, &location).await
}

/// As [`settle`], for the address of a job.
pub async fn settle_job(world: &World, location: &str) -> Value {
    for _ in 0..1500 {
        let job = world.get("admin", location).await.expect(200);
        if !matches!(job["state"].as_str(), Some("PROCESSING" | "POLLING")) {
            return job;
        }
        tick(world, Duration::from_secs(1)).await;
    }
    panic!("the job does not end");
}

/// Moves the clock on, and lets what is due be done.
pub async fn tick(world: &World, span: Duration) {
    world.clock.advance(span);
    world.api.kick_operations();
    tokio::time::sleep(Duration::from_millis(15)).await;
}

/// Lets everything that is under way at brokers end.
pub async fn drain(world: &World) {
    for _ in 0..1500 {
        if under_way(world).await.is_empty() {
            return;
        }
        tick(world, Duration::from_secs(10)).await;
    }
    panic!("work at brokers does not end: {:?}", under_way(world).await);
}

/// Kinds of what is under way at brokers.
pub async fn under_way(world: &World) -> Vec<String> {
    use crate::store::schema::service_operations as table;
    use diesel::prelude::*;
    world.api.store.read(|conn| Ok(table::table.select(table::kind).load(conn)?)).await.unwrap()
}
