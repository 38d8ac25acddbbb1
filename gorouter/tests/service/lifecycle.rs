//! Start, the bus coming and going, stop.

use crate::harness::*;
use bus::Bus;
use messages::{
    Message,
    router::{GREET, RouterStart},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn the_router_announces_itself_and_answers_greetings() {
    let bus = Bus::in_memory();
    let mut starts = bus.subscribe(RouterStart::SUBJECT).await.unwrap();
    let world = World::start_in(Arc::new(tempfile::tempdir().unwrap()), bus.clone(), |_| {}).await;
    let said: RouterStart = starts.next().await.unwrap().read().unwrap();
    assert_eq!((said.register_interval_s, said.prune_threshold_s), (20, 120));
    assert_eq!(said.hosts, ["127.0.0.1"]);
    let told: RouterStart = bus.request(GREET, &(), Duration::from_secs(5)).await.unwrap();
    assert_eq!(told, said);
    world.stop().await;
}

#[tokio::test]
async fn a_router_serves_once_the_registrars_have_answered() {
    let bus = Bus::in_memory();
    let app = App::named("known").await;
    let mut starts = bus.subscribe(RouterStart::SUBJECT).await.unwrap();
    let registrar = bus.clone();
    let message = registration(app.address, &["known.x"]);
    tokio::spawn(async move {
        while starts.next().await.is_some() {
            registrar.publish(&message).await.unwrap();
        }
    });
    let began = std::time::Instant::now();
    let world = World::start_in(Arc::new(tempfile::tempdir().unwrap()), bus, |raw| raw.timing.start_wait_ms = 60_000).await;
    assert!(began.elapsed() < Duration::from_secs(5), "it does not wait a fixed time");
    assert_eq!(world.get("known.x", "/", "").await.body, "known");
    world.stop().await;
}

#[tokio::test]
async fn silent_endpoints_go_unless_the_bus_is_down() {
    let world = World::start_with(|raw| {
        raw.timing.register_interval_s = 1;
        raw.timing.stale_s = 3;
        raw.timing.prune_interval_s = 1;
        raw.timing.empty_route_s = 0;
    })
    .await;
    let app = App::named("app").await;
    world.bus.pretend_connected(false);
    world.route(registration(app.address, &["app.x"])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.get("app.x", "/", "").await.status, 200, "nobody can repeat himself while the bus is down");
    world.bus.pretend_connected(true);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.get("app.x", "/", "").await.status, 200, "everybody gets a whole lifetime");
    wait_for(|| async { world.get("app.x", "/", "").await.status == 404 }).await;
    assert_eq!(world.varz().await["pruned"], 1);
    world.stop().await;
}

#[tokio::test]
async fn a_restart_while_the_bus_is_down_serves_from_the_snapshot() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let app = App::named("app").await;
    let world = World::start_in(folder.clone(), Bus::in_memory(), |_| {}).await;
    world.route(registration(app.address, &["app.x/path"])).await;
    world.stop().await;
    drop(world);

    let lost = Bus::in_memory();
    lost.pretend_connected(false);
    let began = std::time::Instant::now();
    let world = World::start_in(folder.clone(), lost.clone(), |raw| raw.timing.start_wait_ms = 60_000).await;
    assert!(began.elapsed() < Duration::from_secs(5), "who has a snapshot does not wait");
    let answer = world.get("app.x", "/path", &format!("X-CF-App-Instance: {APP}:0\r\n")).await;
    assert_eq!(answer.body, "app", "the snapshot keeps all of a registration");
    world.stop().await;
    drop(world);

    // The manual clock of the worlds stands still: an old file is made by its date.
    let file = std::fs::File::options().append(true).open(folder.path().join("routes.jsonl")).unwrap();
    let moment = std::time::UNIX_EPOCH + Duration::from_secs(1_767_323_045 - 121);
    file.set_modified(moment).unwrap();
    let world = World::start_in(folder, lost, |_| {}).await;
    assert_eq!(world.get("app.x", "/path", "").await.status, 404, "its addresses may belong to others by now");
    world.stop().await;
}

#[tokio::test]
async fn a_stopping_router_ends_what_it_began_and_takes_nothing_new() {
    let world = World::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.route(registration(listener.local_addr().unwrap(), &["slow.x"])).await;
    let mut busy = TcpStream::connect(world.http()).await.unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nHost: slow.x\r\n\r\n").await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let mut idle = TcpStream::connect(world.http()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: none.x\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut idle).await.status, 404);
    world.shutdown.request();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0, "idle connections are closed");
    wait_for(|| async { TcpStream::connect(world.http()).await.is_err() }).await;
    let mut head = [0; 4_096];
    assert!(backend.read(&mut head).await.unwrap() > 0);
    backend.write_all(&ok("done")).await.unwrap();
    assert_eq!(read_answer(&mut busy).await.body, "done");
    assert_eq!(busy.read(&mut [0; 1]).await.unwrap(), 0, "and then it ends");
    world.stop().await;
}

#[tokio::test]
async fn health_is_told_on_the_status_port_and_to_load_balancers() {
    let world = World::start().await;
    let health = get(world.router.status, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    let monitor = world.get("any", "/", "User-Agent: HTTP-Monitor/1.1\r\n").await;
    assert_eq!((monitor.status, &*monitor.body), (200, "ok\n"));
    world.stop().await;
}
