//! Answers of the router's own, and what becomes of requests that an endpoint failed.

use crate::harness::*;
use messages::router::Register;
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn told(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-cf-routererror"))
}

#[tokio::test]
async fn every_refusal_names_itself() {
    let world = World::start_with(|raw| raw.limits.header_bytes = 8_192).await;
    let app = App::named("app").await;
    world.route(registration(app.address, &["app.x"])).await;
    let serviced = Register { route_service_url: Some("https://service.x".into()), ..registration(app.address, &["serviced.x"]) };
    world.route(serviced).await;
    let big = format!("X-Big: {}\r\n", "x".repeat(9_000));
    let cases = [
        (
            "GET / HTTP/1.1\r\nHost: none.x\r\n",
            404,
            "unknown_route",
            "404 Not Found: Requested route ('none.x') does not exist.\n",
        ),
        ("GET / HTTP/1.1\r\nHost:\r\n", 400, "empty_host", "400 Bad Request: Request had empty Host header\n"),
        ("GET / HTTP/1.0\r\n", 400, "empty_host", "400 Bad Request: Request had empty Host header\n"),
        (
            "GET / HTTP/1.1\r\nHost: app.x\r\nX-CF-App-Instance: nonsense\r\n",
            400,
            "invalid_cf_app_instance_header",
            "400 Bad Request: Invalid X-CF-App-Instance Header\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: app.x\r\nX-CF-Process-Instance: :\r\n",
            400,
            "invalid_cf_process_instance_header",
            "400 Bad Request: Invalid X-CF-Process-Instance Header\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: app.x\r\nX-CF-App-Instance: 6f1c2d3e-aaaa-4bbb-8ccc-000000000002:5\r\n",
            400,
            "unknown_route",
            "400 Bad Request: Requested instance ('5') with guid ('6f1c2d3e-aaaa-4bbb-8ccc-000000000002') does not exist for route ('app.x')\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: serviced.x\r\nX-CF-Proxy-Signature: forged\r\n",
            502,
            "invalid_route_service_signature",
            "502 Bad Gateway: Failed to validate Route Service Signature.\n",
        ),
        (
            "CONNECT app.x:80 HTTP/1.1\r\nHost: app.x:80\r\n",
            405,
            "method_not_allowed",
            "405 Method Not Allowed: The method is not allowed.\n",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: app.x\r\n",
            405,
            "method_not_allowed",
            "405 Method Not Allowed: The method is not allowed.\n",
        ),
        (&format!("GET / HTTP/1.1\r\nHost: app.x\r\n{big}"), 431, "max-request-size-exceeded", ""),
    ];
    for (request, status, error, body) in cases {
        let answer = get(world.http(), &format!("{request}Connection: close\r\n\r\n")).await;
        assert_eq!((told(&answer), &*answer.body), ((status, Some(error)), body), "{request}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let cache = answer.header("cache-control").unwrap();
        assert!(cache.contains("no-store") || error == "empty_host", "{request}: {cache}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_usable() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: none.x\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut stream).await.status, 404);
    }
    drop(stream);
    world.stop().await;
}

#[tokio::test]
async fn a_dead_endpoint_is_a_bad_gateway_and_a_living_one_takes_over() {
    let world = World::start().await;
    let gone = dead().await;
    world.route(registration(gone, &["dead.x"])).await;
    let answer = world.get("dead.x", "/", "").await;
    assert_eq!(told(&answer), (502, Some("endpoint_failure (dial: connect: connection refused)")));
    assert_eq!(answer.body, "502 Bad Gateway: Registered endpoint failed to handle the request.\n");

    let app = App::echo().await;
    world.route(registration(gone, &["half.x"])).await;
    world.register(registration(app.address, &["half.x"])).await;
    wait_for(|| async { world.varz().await["endpoints"] == 3 }).await;
    for _ in 0..6 {
        let request = "POST / HTTP/1.1\r\nHost: half.x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        let answer = get(world.http(), request).await;
        assert_eq!(answer.status, 200, "whatever the method: nothing was sent yet");
        assert!(answer.body.ends_with("hello"));
    }
    assert_eq!(world.varz().await["endpoint_failures"], 2, "a failed endpoint is set aside");
    world.stop().await;
}

#[tokio::test]
async fn attempts_are_bounded() {
    let world = World::start().await;
    for _ in 0..5 {
        world.register(registration(dead().await, &["dead.x"])).await;
    }
    wait_for(|| async { world.varz().await["endpoints"] == 5 }).await;
    assert_eq!(world.get("dead.x", "/", "").await.status, 502);
    assert_eq!(world.varz().await["endpoint_failures"], 3);
    world.stop().await;
}

#[tokio::test]
async fn only_requests_without_effect_are_sent_twice() {
    let world = World::start().await;
    let (bad, good) = (App::start(|_| vec![]).await, App::named("good").await);
    for app in [&bad, &good] {
        world.register(registration(app.address, &["mixed.x"])).await;
    }
    wait_for(|| async { world.varz().await["endpoints"] == 2 }).await;
    let mut posts = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..6 {
        assert_eq!(world.get("mixed.x", "/", "").await.status, 200);
    }
    for _ in 0..6 {
        let post = get(world.http(), "POST / HTTP/1.1\r\nHost: mixed.x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        *posts.entry(post.status).or_default() += 1;
    }
    assert!(posts[&502] > 0 && posts[&200] > 0, "{posts:?}");
    let hits = bad.connections.load(Ordering::SeqCst);
    assert!(hits > posts[&502], "a closed connection does not set an endpoint aside");
    let keyed = "POST / HTTP/1.1\r\nHost: mixed.x\r\nContent-Length: 0\r\nIdempotency-Key: 1\r\nConnection: close\r\n\r\n";
    for _ in 0..4 {
        assert_eq!(get(world.http(), keyed).await.status, 200);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_app_closed_while_idle_costs_nothing() {
    let world = World::start_with(|raw| raw.threads = 1).await;
    let app = App::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()).await;
    world.route(registration(app.address, &["app.x"])).await;
    assert_eq!(world.get("app.x", "/", "").await.status, 200);
    let closing = App::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_vec()).await;
    world.route(registration(closing.address, &["closing.x"])).await;
    for _ in 0..3 {
        assert_eq!(world.get("closing.x", "/", "").await.status, 200);
    }
    assert_eq!(closing.connections.load(Ordering::SeqCst), 3);
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_times_out() {
    let world = World::start_with(|raw| raw.timing.endpoint_timeout_s = 1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.route(registration(listener.local_addr().unwrap(), &["slow.x"])).await;
    let answer = world.get("slow.x", "/", "").await;
    assert_eq!(told(&answer), (502, Some("endpoint_failure (net/http: timeout awaiting response)")));
    world.stop().await;
}

#[tokio::test]
async fn b52_an_answer_that_is_no_http_harms_that_request_only() {
    let world = World::start().await;
    let answers = [
        "HTTP/1.1 99 Odd\r\n\r\n",
        "HTTP/1.1 1000 Odd\r\n\r\n",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ];
    let good = App::named("good").await;
    world.route(registration(good.address, &["good.x"])).await;
    for (number, text) in answers.into_iter().enumerate() {
        let app = App::start(move |_| text.as_bytes().to_vec()).await;
        let host = format!("bad-{number}.x");
        world.route(registration(app.address, &[&host])).await;
        let answer = world.get(&host, "/", "").await;
        assert_eq!(answer.status, 502, "{text:?}: {}", answer.head);
        assert!(answer.header("x-cf-routererror").is_some());
        assert_eq!(world.get("good.x", "/", "").await.status, 200);
    }
    world.stop().await;
}

#[tokio::test]
async fn b50_clients_that_go_away_are_not_held_against_the_app() {
    let world = World::start().await;
    let app = App::start(|request| match request.starts_with("GET /slow") {
        true => {
            std::thread::sleep(Duration::from_millis(20));
            ok("slow")
        }
        false => ok("fast"),
    })
    .await;
    world.route(registration(app.address, &["app.x"])).await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: app.x\r\n\r\n").await.unwrap();
        drop(stream);
    }
    assert_eq!(world.get("app.x", "/", "").await.body, "fast");
    assert_eq!(world.varz().await["endpoint_failures"], 0);
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_takes_only_so_many_requests_at_once() {
    let world = World::start_with(|raw| raw.limits.requests_per_endpoint = 1).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.route(registration(listener.local_addr().unwrap(), &["one.x"])).await;
    let mut first = TcpStream::connect(world.http()).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: one.x\r\n\r\n").await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let answer = world.get("one.x", "/", "").await;
    assert_eq!(told(&answer), (503, Some("Connection Limit Reached")));
    assert_eq!(answer.body, "503 Service Unavailable: Requested route ('one.x') has reached the connection limit.\n");
    let mut head = [0; 4_096];
    assert!(backend.read(&mut head).await.unwrap() > 0);
    backend.write_all(&ok("done")).await.unwrap();
    assert_eq!(read_answer(&mut first).await.body, "done");
    drop((first, backend));
    world.stop().await;
}

#[tokio::test]
async fn tls_to_an_endpoint_is_verified_against_its_name() {
    let world = World::start_with(|raw| raw.backend_ca = Some(raw.state.join("ca.crt"))).await;
    let pair = (world.folder.path().join("backend.crt"), world.folder.path().join("backend.key"));
    let app = tls_app(&pair.0, &pair.1).await;
    let message = |uri: &str, name: &str| Register {
        port: None,
        tls_port: Some(app.port()),
        server_cert_domain_san: Some(name.into()),
        ..registration(app, &[uri])
    };
    world.route(message("good.x", "instance-1")).await;
    assert_eq!(world.get("good.x", "/", "").await.body, "secret");
    world.route(message("other.x", "instance-2")).await;
    let answer = world.get("other.x", "/", "").await;
    assert_eq!(answer.status, 503, "{}", answer.head);
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream
            .write_all(
                b"HTTP/1.1 400 Bad Request

",
            )
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    world.route(Register { tls_port: Some(port), ..message("plain.x", "instance-1") }).await;
    let answer = world.get("plain.x", "/", "").await;
    assert_eq!(answer.status, 525, "{}", answer.head);
    world.stop().await;
}

async fn tls_app(certificate: &std::path::Path, key: &std::path::Path) -> std::net::SocketAddr {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 4_096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(&ok("secret")).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
