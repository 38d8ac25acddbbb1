//! Who serves what.

use crate::harness::*;
use messages::router::Options;
use std::{collections::BTreeSet, sync::atomic::Ordering};

#[tokio::test]
async fn a_registered_app_answers_under_its_host() {
    let world = World::start().await;
    let app = App::named("dora").await;
    assert_eq!(world.get("dora.app.localhost", "/", "").await.status, 404);
    world.route(registration(app.address, &["dora.app.localhost"])).await;
    for host in ["dora.app.localhost", "DORA.App.localhost:8080", "dora.app.localhost."] {
        let answer = world.get(host, "/", "").await;
        assert_eq!((answer.status, &*answer.body), (200, "dora"), "{host}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_longest_path_and_the_exact_host_win() {
    let world = World::start().await;
    for (name, uri) in
        [("root", "shop.x"), ("pay", "shop.x/pay"), ("deep", "shop.x/pay/now"), ("star", "*.x"), ("path", "*.x/only")]
    {
        let app = App::named(name).await;
        world.route(registration(app.address, &[uri])).await;
    }
    for (host, path, name) in [
        ("shop.x", "/", "root"),
        ("shop.x", "/payment", "root"),
        ("shop.x", "/pay", "pay"),
        ("shop.x", "/pay/?q=/now", "pay"),
        ("shop.x", "/PAY/later", "pay"),
        ("shop.x", "/pay/now/and/then", "deep"),
        ("other.x", "/pay", "star"),
        ("a.b.x", "/", "star"),
        ("other.x", "/only/this", "path"),
    ] {
        assert_eq!(world.get(host, path, "").await.body, name, "{host}{path}");
    }
    assert_eq!(world.get("x", "/", "").await.status, 404);
    world.stop().await;
}

#[tokio::test]
async fn endpoints_take_turns_and_keep_their_connections() {
    let world = World::start_with(|raw| raw.threads = 1).await;
    let apps = [App::named("a").await, App::named("b").await];
    for app in &apps {
        world.route(registration(app.address, &["two.x"])).await;
    }
    wait_for(|| async { world.varz().await["endpoints"] == 2 }).await;
    let mut seen = vec![];
    for _ in 0..6 {
        seen.push(world.get("two.x", "/", "").await.body);
    }
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
    assert!(apps.iter().all(|app| app.connections.load(Ordering::SeqCst) == 1), "idle connections are used again");
    world.stop().await;
}

#[tokio::test]
async fn least_connection_is_a_route_option() {
    let world = World::start().await;
    let app = App::named("a").await;
    let options = Options { loadbalancing: Some("least-connection".into()) };
    world.route(messages::router::Register { options: Some(options), ..registration(app.address, &["least.x"]) }).await;
    assert!(world.routes().await.contains("least-connection"));
    assert_eq!(world.get("least.x", "/", "").await.body, "a");
    world.stop().await;
}

#[tokio::test]
async fn an_unregistered_endpoint_gets_no_more_requests() {
    let world = World::start_with(|raw| raw.timing.empty_route_s = 1).await;
    let apps = [App::named("a").await, App::named("b").await];
    for app in &apps {
        world.route(registration(app.address, &["two.x"])).await;
    }
    world.unregister(&registration(apps[0].address, &["two.x"])).await;
    wait_for(|| async { world.varz().await["endpoints"] == 1 }).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(world.get("two.x", "/", "").await.body);
    }
    assert_eq!(seen, BTreeSet::from(["b".to_owned()]));
    world.unregister(&registration(apps[1].address, &["two.x"])).await;
    wait_for(|| async { world.varz().await["endpoints"] == 0 }).await;
    let answer = world.get("two.x", "/", "").await;
    assert_eq!((answer.status, answer.header("x-cf-routererror")), (503, Some("no_endpoints")));
    world.stop().await;
}

#[tokio::test]
async fn an_app_cannot_take_a_name_of_the_platform() {
    let world = World::start().await;
    let (own, thief) = (App::named("api").await, App::named("thief").await);
    world.register(registration(thief.address, &["API.cf.localhost"])).await;
    world.route(messages::router::Register { app: None, ..registration(own.address, &["api.cf.localhost"]) }).await;
    world.register(registration(thief.address, &["api.cf.localhost"])).await;
    wait_for(|| async { world.varz().await["registrations_refused"] == 2 }).await;
    for _ in 0..3 {
        assert_eq!(world.get("api.cf.localhost", "/", "").await.body, "api");
    }
    world.stop().await;
}
