//! Routes with a service in front of their app.

use crate::harness::*;
use messages::router::Register;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Header lines of the way through a service, as a service was told them.
fn signed(told: &Answer) -> String {
    let line = |name: &str| {
        let lines = told.body.lines().filter_map(|line| line.split_once(':'));
        let value = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next();
        value.map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
    };
    ["X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata"].map(line).concat()
}

fn told(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-cf-routererror"))
}

/// A route `app.x` to `app`, behind a service at `url`.
async fn bound(world: &World, app: SocketAddr, url: &str) {
    world.route(Register { route_service_url: Some(url.into()), ..registration(app, &["app.x"]) }).await;
}

/// A service with TLS outside of the platform that shows what it was sent, or tunnels an upgrade.
async fn outside(world: &World, certificate: &str) -> SocketAddr {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let file = |end: &str| world.folder.path().join(format!("{certificate}.{end}"));
    let chain = vec![CertificateDer::from_pem_file(file("crt")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let text = String::from_utf8(head).unwrap();
                if !text.to_ascii_lowercase().contains("upgrade: websocket") {
                    stream.write_all(&ok(&text)).await.unwrap();
                    return;
                }
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut buffer = [0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_passes_the_service_and_comes_back_to_the_app() {
    let world = World::start().await;
    let (app, service) = (App::named("the app").await, App::echo().await);
    world.route(registration(service.address, &["service.x"])).await;
    bound(&world, app.address, "https://service.x/in?own=1").await;
    let forged = "X-CF-Forwarded-Url: https://evil.x/\r\nX-CF-Proxy-Metadata: forged\r\nX-CF-App-Instance: 6f1c2d3e-aaaa-4bbb-8ccc-000000000002:0\r\n";
    let at_service = world.get("app.x", "/path?query", forged).await;
    assert_eq!(at_service.status, 200, "{}", at_service.head);
    assert!(at_service.body.starts_with("GET /in?own=1 HTTP/1.1\r\n"), "{}", at_service.body);
    let lower = at_service.body.to_ascii_lowercase();
    assert!(lower.contains("\r\nhost: service.x\r\n") && !lower.contains("x-cf-app-instance"), "{lower}");
    let headers = signed(&at_service);
    let url = format!("https://app.x:{}/path?query", world.router.https.unwrap().port());
    assert!(headers.contains(&format!("X-CF-Forwarded-Url: {url}\r\n")), "{headers}");
    // The service sends it on; any client that knew the signature could do the same for a minute.
    let back = world.get("app.x", "/path?query", &headers).await;
    assert_eq!((back.status, &*back.body), (200, "the app"));
    assert_eq!(at_service.header("x-cf-proxy-signature"), None);
    world.stop().await;
}

#[tokio::test]
async fn the_app_never_sees_the_signature() {
    let world = World::start().await;
    let (app, service) = (App::echo().await, App::echo().await);
    world.route(registration(service.address, &["service.x"])).await;
    bound(&world, app.address, "https://service.x").await;
    let headers = signed(&world.get("app.x", "/", "").await);
    assert!(headers.contains("X-CF-Proxy-Signature: ") && headers.contains("X-CF-Proxy-Metadata: "), "{headers}");
    let at_app = world.get("app.x", "/", &headers).await;
    assert!(at_app.body.starts_with("GET / HTTP/1.1\r\n"), "{}", at_app.body);
    for header in ["x-cf-proxy", "x-cf-forwarded"] {
        assert!(!at_app.body.to_ascii_lowercase().contains(header), "{}", at_app.body);
    }
    assert!(at_app.body.contains("X-CF-InstanceID") || at_app.body.contains("x-cf-instanceid"), "{}", at_app.body);
    world.stop().await;
}

#[tokio::test]
async fn nobody_gets_round_the_service() {
    let world = World::start().await;
    let (app, service) = (App::named("the app").await, App::echo().await);
    world.route(registration(service.address, &["service.x"])).await;
    bound(&world, app.address, "https://service.x").await;
    let headers = signed(&world.get("app.x", "/a", "").await);
    let invalid = (502, Some("invalid_route_service_signature"));
    assert_eq!(told(&world.get("app.x", "/b", &headers).await), invalid, "another path");
    assert_eq!(told(&world.get("app.x", "/a?b", &headers).await), invalid, "another query");
    assert_eq!(told(&world.get("app.x", "/a", "X-CF-Proxy-Signature: x\r\n").await), invalid);
    let cut = headers.replace("X-CF-Proxy-Metadata", "X-Other");
    assert_eq!(told(&world.get("app.x", "/a", &cut).await), invalid);
    let refused = world.get("app.x", "/a", "X-CF-Proxy-Signature: x\r\n").await;
    assert_eq!(refused.body, "502 Bad Gateway: Failed to validate Route Service Signature.\n");
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(told(&world.get("app.x", "/a", &headers).await), (504, Some("expired_route_service_signature")));
    world.stop().await;
}

#[tokio::test]
async fn on_a_route_without_service_only_our_own_signature_is_passed_on() {
    let world = World::start().await;
    let (app, plain) = (App::named("the app").await, App::echo().await);
    world.route(registration(plain.address, &["plain.x"])).await;
    bound(&world, app.address, "https://plain.x").await;
    let headers = signed(&world.get("app.x", "/", "").await);
    let passed = world.get("plain.x", "/", &headers).await;
    assert_eq!(signed(&passed), headers);
    let forged = "X-CF-Forwarded-Url: https://x/\r\nX-CF-Proxy-Signature: a\r\nX-CF-Proxy-Metadata: b\r\n";
    assert_eq!(signed(&world.get("plain.x", "/", forged).await), "");
    world.stop().await;
}

#[tokio::test]
async fn a_service_outside_is_reached_over_verified_tls() {
    let world = World::start().await;
    let app = App::named("the app").await;
    let service = outside(&world, "service").await;
    bound(&world, app.address, &format!("https://localhost:{}/x", service.port())).await;
    let at_service = world.get("app.x", "/path", "").await;
    assert!(at_service.body.starts_with("GET /x HTTP/1.1\r\n"), "{} {}", at_service.head, at_service.body);
    assert!(at_service.body.to_ascii_lowercase().contains(&format!("host: localhost:{}\r\n", service.port())));
    let back = world.get("app.x", "/path", &signed(&at_service)).await;
    assert_eq!(back.body, "the app");
    // Another name than its certificate's.
    let other = outside(&world, "backend").await;
    bound(&world, app.address, &format!("https://localhost:{}/x", other.port())).await;
    let refused = || async { told(&world.get("app.x", "/", "").await).0 == 503 };
    wait_for(refused).await;
    world.stop().await;
}

#[tokio::test]
async fn a_websocket_goes_through_the_service_too() {
    let world = World::start().await;
    let app = App::named("the app").await;
    let service = outside(&world, "service").await;
    bound(&world, app.address, &format!("https://localhost:{}", service.port())).await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let request =
        "GET /chat HTTP/1.1\r\nHost: app.x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await.unwrap().unwrap());
    }
    assert_eq!(Answer::parse(&head).status, 101);
    let frame = vec![7; 3_000];
    stream.write_all(&frame).await.unwrap();
    let mut back = vec![0; 3_000];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, frame);
    world.stop().await;
}

#[tokio::test]
async fn services_at_addresses_of_this_host_are_refused_unless_allowed() {
    let world = World::start_with(|raw| raw.route_services.allow_local = false).await;
    let app = App::named("the app").await;
    let service = outside(&world, "service").await;
    for host in ["127.0.0.1", "localhost", "169.254.169.254"] {
        bound(&world, app.address, &format!("https://{host}:{}", service.port())).await;
        let refused =
            || async { told(&world.get("app.x", "/", "").await) == (502, Some("endpoint_failure (dial: connect: failed)")) };
        wait_for(refused).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_is_bound_to_itself_does_not_loop() {
    let world = World::start().await;
    let app = App::named("the app").await;
    bound(&world, app.address, "https://app.x/").await;
    // The second pass sees a signature for the same URL: it is the way back.
    assert_eq!(world.get("app.x", "/", "").await.body, "the app");
    assert_eq!(told(&world.get("app.x", "/other", "").await), (502, Some("invalid_route_service_signature")));
    world.stop().await;
}

#[tokio::test]
async fn unbinding_lets_requests_pass_again() {
    let world = World::start().await;
    let (app, service) = (App::named("the app").await, App::named("the service").await);
    world.route(registration(service.address, &["service.x"])).await;
    bound(&world, app.address, "https://service.x").await;
    assert_eq!(world.get("app.x", "/", "").await.body, "the service");
    world.register(registration(app.address, &["app.x"])).await;
    wait_for(|| async { world.get("app.x", "/", "").await.body == "the app" }).await;
    world
        .register(Register { route_service_url: Some("http://service.x".into()), ..registration(app.address, &["other.x"]) })
        .await;
    world.route(registration(app.address, &["later.x"])).await;
    assert_eq!(world.get("other.x", "/", "").await.status, 404, "a service without TLS is refused with its registration");
    world.stop().await;
}

#[tokio::test]
async fn a_service_stands_before_http2_clients_too() {
    let world = World::start().await;
    let (app, service) = (App::echo().await, App::echo().await);
    world.route(registration(service.address, &["service.x"])).await;
    let route =
        Register { route_service_url: Some("https://service.x/in".into()), ..registration(app.address, &["dora.app.localhost"]) };
    world.route(route).await;
    let client = crate::protocols::client(&world, &["dora.app.localhost"]);
    let url = format!("https://dora.app.localhost:{}/path?q", world.router.https.unwrap().port());
    let at_service = client.post(&url).body("a body").send().await.unwrap();
    assert_eq!((at_service.version(), at_service.status().as_u16()), (http::Version::HTTP_2, 200));
    let told = Answer { body: at_service.text().await.unwrap(), ..Answer::default() };
    let lower = told.body.to_ascii_lowercase();
    assert!(told.body.starts_with("POST /in HTTP/1.1\r\n") && told.body.ends_with("a body"), "{}", told.body);
    assert!(lower.contains("\r\nhost: service.x\r\n") && !lower.contains("host: dora"), "{lower}");
    let headers = signed(&told);
    assert!(headers.contains(&format!("X-CF-Forwarded-Url: {url}\r\n")), "{headers}");
    // It comes back by whichever protocol the service likes.
    let back = world.get("dora.app.localhost", "/path?q", &headers).await;
    assert!(back.body.starts_with("GET /path?q HTTP/1.1\r\n"), "{}", back.body);
    let mut request = client.post(&url).body("a body");
    for line in headers.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let back = request.send().await.unwrap().text().await.unwrap();
    assert!(back.starts_with("POST /path?q HTTP/1.1\r\n") && !back.to_ascii_lowercase().contains("x-cf-proxy"), "{back}");
    world.stop().await;
}

#[tokio::test]
async fn a_service_that_is_away_is_a_bad_gateway() {
    let world = World::start().await;
    let app = App::named("the app").await;
    bound(&world, app.address, &format!("https://localhost:{}", dead().await.port())).await;
    let answer = world.get("app.x", "/", "").await;
    assert_eq!(told(&answer), (502, Some("endpoint_failure (dial: connect: connection refused)")));
    // Its failure is not the app's.
    world.register(registration(app.address, &["app.x"])).await;
    wait_for(|| async { world.get("app.x", "/", "").await.body == "the app" }).await;
    world.stop().await;
}
