//! WebSocket, HTTP/2, TLS.

use crate::harness::*;
use messages::router::Register;
use rustls::{RootCertStore, pki_types::ServerName};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn upgrading_app() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key: k"), "{head}");
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello";
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
async fn a_websocket_is_a_tunnel_once_the_app_agreed() {
    let world = World::start_with(|raw| {
        raw.timing.endpoint_timeout_s = 1;
        raw.timing.body_timeout_s = 1;
    })
    .await;
    world.route(registration(upgrading_app().await, &["ws.x"])).await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: ws.x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![];
    while !bytes.ends_with(b"hello") {
        bytes.push(tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await.unwrap().unwrap());
    }
    assert_eq!(Answer::parse(&bytes).status, 101);
    for round in 0..3 {
        let frame = vec![round; 3_000];
        stream.write_all(&frame).await.unwrap();
        let mut back = vec![0; 3_000];
        tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, frame);
        // Longer than any timeout of this router: a tunnel may be silent.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
    }
    assert_eq!(world.varz().await["upgrades"], 0, "it counts when it ends");
    drop(stream);
    wait_for(|| async { world.varz().await["upgrades"] == 1 }).await;
    world.stop().await;
}

#[tokio::test]
async fn https_shows_the_certificate_that_names_the_host() {
    let world = World::start().await;
    let app = App::echo().await;
    world.route(registration(app.address, &["dora.app.localhost"])).await;
    world.route(Register { app: None, ..registration(app.address, &["api.cf.localhost"]) }).await;
    for host in ["dora.app.localhost", "api.cf.localhost"] {
        let mut stream = tls(&world, host, &[]).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.to_ascii_lowercase().contains("x-forwarded-proto: https"), "{}", answer.body);
    }
    assert!(tls(&world, "unknown.example", &[]).await.is_err(), "the first certificate does not name it");
    world.stop().await;
}

async fn tls(world: &World, host: &str, alpn: &[&[u8]]) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(world.ca.der().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(world.router.https.unwrap()).await?;
    connector.connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await
}

pub(crate) fn client(world: &World, hosts: &[&str]) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(world.ca.pem().as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([ca]);
    hosts.iter().fold(builder, |builder, host| builder.resolve(host, world.router.https.unwrap())).build().unwrap()
}

#[tokio::test]
async fn http2_in_front_speaks_http1_behind() {
    let world = World::start().await;
    let app = App::echo().await;
    world.route(registration(app.address, &["dora.app.localhost"])).await;
    let client = client(&world, &["dora.app.localhost", "none.app.localhost"]);
    let url = format!("https://dora.app.localhost:{}/path?q", world.router.https.unwrap().port());
    for body in ["", "some body"] {
        let answer = client.post(&url).header("X-Own", "1").body(body).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        assert!(answer.headers().contains_key("x-vcap-request-id"));
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("POST /path?q HTTP/1.1\r\n"), "{text}");
        let lower = text.to_ascii_lowercase();
        for header in ["host: dora.app.localhost", "x-own: 1", "x-forwarded-proto: https", "x-forwarded-for: 127.0.0.1"] {
            assert!(lower.contains(header), "{text}");
        }
        assert!(text.contains(body), "{text}");
    }
    let missing = format!("https://none.app.localhost:{}/", world.router.https.unwrap().port());
    let answer = client.get(&missing).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["x-cf-routererror"].to_str().unwrap()), (404, "unknown_route"));
    let lines = world.lines(2).await;
    let Some(loggregator_client::Payload::Log(log)) = &lines[0].message else { panic!("{lines:?}") };
    assert!(String::from_utf8_lossy(&log.payload).contains("\"POST /path?q HTTP/2.0\" 200"));
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_says_http2_is_spoken_to_in_it() {
    let world = World::start().await;
    // Takes the preface of HTTP/2 as proof, and says no more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    world.route(Register { protocol: Some("http2".into()), ..registration(address, &["h2.x"]) }).await;
    let asked = tokio::spawn({
        let http = world.http();
        async move { get(http, "GET / HTTP/1.1\r\nHost: h2.x\r\nConnection: close\r\n\r\n").await }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    drop(stream);
    assert_eq!(asked.await.unwrap().status, 502);
    world.stop().await;
}

#[tokio::test]
async fn b48_many_reset_streams_do_not_stop_the_router() {
    let world = World::start().await;
    let app = App::named("alive").await;
    world.route(registration(app.address, &["dora.app.localhost"])).await;
    let mut stream = tls(&world, "dora.app.localhost", &[b"h2"]).await.unwrap();
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    for id in (1..20_000u32).step_by(2) {
        // HEADERS without a path, then RST_STREAM.
        let id = id.to_be_bytes();
        let mut frames = vec![0, 0, 1, 1, 5, id[0], id[1], id[2], id[3], 0x82];
        frames.extend_from_slice(&[0, 0, 4, 3, 0, id[0], id[1], id[2], id[3], 0, 0, 0, 8]);
        if stream.write_all(&frames).await.is_err() {
            break;
        }
    }
    let mut left = vec![];
    let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut left)).await;
    assert!(closed.is_ok(), "the router ends such a connection");
    assert_eq!(world.get("dora.app.localhost", "/", "").await.body, "alive");
    world.stop().await;
}
