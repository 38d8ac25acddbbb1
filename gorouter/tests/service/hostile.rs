//! What hostile clients send: `specs` calls these cases by their numbers.

use crate::harness::*;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn world() -> (World, App) {
    let world = World::start_with(|raw| raw.timing.header_timeout_s = 1).await;
    let app = App::echo().await;
    world.route(registration(app.address, &["app.x"])).await;
    (world, app)
}

/// Sends bytes and returns all statuses that came back until the router closed.
async fn statuses(world: &World, request: &str) -> Vec<u16> {
    let answer = exchange(world.http(), request.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.match_indices("HTTP/1.1 ").filter_map(|(at, _)| text[at + 9..].get(..3)?.parse().ok()).collect()
}

#[tokio::test]
async fn b41_b42_ambiguous_lengths_are_refused_and_the_connection_ends() {
    let (world, app) = world().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.x\r\n\r\n";
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5_0\r\n",
        "Content-Length: \r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length : 5\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: app.x\r\n{headers}\r\n0\r\n\r\n{smuggled}");
        assert_eq!(statuses(&world, &request).await, [400], "{headers:?}");
    }
    let old = format!("POST / HTTP/1.0\r\nHost: app.x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}");
    assert_eq!(statuses(&world, &old).await, [400]);
    assert_eq!(app.connections.load(std::sync::atomic::Ordering::SeqCst), 0, "nothing of it reached the app");
    world.stop().await;
}

#[tokio::test]
async fn b43_chunks_are_read_one_way_or_refused() {
    let (world, _app) = world().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.x\r\n\r\n";
    for body in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nabc",
        "g\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: app.x\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}");
        let statuses = statuses(&world, &request).await;
        assert!(statuses == [400] || statuses.is_empty(), "{body:?}: {statuses:?}");
    }
    let request = "POST / HTTP/1.1\r\nHost: app.x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
    let answer = get(world.http(), request).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("x=y"), "chunks are made anew: {}", answer.body);
    world.stop().await;
}

#[tokio::test]
async fn b44_header_grammar_is_strict() {
    let (world, _app) = world().await;
    for line in [
        "A : b\r\n",
        ": b\r\n",
        "A: b\rc\r\n",
        "A: b\0c\r\n",
        "A: b\r\n folded\r\n",
        "no colon\r\n",
        "A\u{a0}: b\r\n",
        "\u{e9}: b\r\n",
        "A: b\n",
        " A: b\r\n",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: app.x\r\n{line}Connection: close\r\n\r\n");
        assert_eq!(statuses(&world, &request).await, [400], "{line:?}");
    }
    for line in ["GET / HTTP/3.0", "GET  / HTTP/1.1", "GET / ", "GET", "G ET / HTTP/1.1", "GET / HTTP/0.9"] {
        let request = format!("{line}\r\nHost: app.x\r\nConnection: close\r\n\r\n");
        let statuses = statuses(&world, &request).await;
        assert_eq!(statuses, [400], "{line:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn b45_nothing_behind_an_upgrade_passes_before_the_app_agreed() {
    let (world, _app) = world().await;
    let request = "GET / HTTP/1.1\r\nHost: app.x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.x\r\n\r\n";
    let answer = exchange(world.http(), request.as_bytes()).await;
    let text = String::from_utf8_lossy(&answer);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "one answer, and the connection ends: {text}");
    assert!(!text.contains("/smuggled"), "{text}");
    world.stop().await;
}

#[tokio::test]
async fn b46_bytes_of_an_unread_body_are_never_the_next_request() {
    let world = World::start().await;
    // Answers as soon as it sees a head, and reads no body.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1_024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(&ok("early")).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            });
        }
    });
    world.route(registration(address, &["early.x"])).await;
    let body = "GET /smuggled HTTP/1.1\r\nHost: none.x\r\n\r\n";
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: early.x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(answer.body, "early");
    let _ = stream.write_all(body.as_bytes()).await;
    let mut rest = vec![];
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await;
    assert!(!String::from_utf8_lossy(&rest).contains("404"), "the body was read as a request");
    world.stop().await;
}

#[tokio::test]
async fn b49_there_is_one_host_or_none() {
    let (world, _app) = world().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: app.x\r\nHost: other.x\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.x\r\nHost: app.x\r\n", 400),
        ("GET http://other.x/ HTTP/1.1\r\nHost: app.x\r\n", 400),
        ("GET http://app.x/path HTTP/1.1\r\nHost: app.x\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: user@app.x\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: app.x/evil\r\n", 404),
    ] {
        assert_eq!(statuses(&world, &format!("{request}Connection: close\r\n\r\n")).await, [status], "{request:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn b51_giant_heads_are_refused_without_harm() {
    let (world, _app) = world().await;
    for request in [
        format!("GET / HTTP/1.1\r\nHost: app.x\r\nX-Big: {}\r\n\r\n", "x".repeat((1 << 20) + 1)),
        format!("GET / HTTP/1.1\r\nHost: app.x\r\nCookie: {}\r\n\r\n", "a=b; ".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: app.x\r\n{}\r\n", "a: b\r\n".repeat(300)),
        format!("GET /{} HTTP/1.1\r\nHost: app.x\r\n\r\n", "x".repeat(300_000)),
    ] {
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = read_answer(&mut stream).await;
        assert_eq!((answer.status, answer.header("x-cf-routererror")), (431, Some("max-request-size-exceeded")));
    }
    let many = format!("Cookie: {}\r\n", "JSESSIONID=1; __VCAP_ID__=x; ".repeat(1_000));
    assert_eq!(world.get("app.x", "/", &many).await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let (world, _app) = world().await;
    let began = Instant::now();
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let mut answer = vec![];
    for byte in "GET / HTTP/1.1\r\nHost: app.x\r\nX: ".bytes().chain(std::iter::repeat(b'x')) {
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
        let mut part = [0; 1_024];
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut part)).await {
            Ok(Ok(read)) if read > 0 => {
                answer.extend_from_slice(&part[..read]);
                break;
            }
            Ok(_) => break,
            Err(_) => {}
        }
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(Answer::parse(&answer).status, 408);
    world.stop().await;
}

#[tokio::test]
async fn requests_may_be_sent_ahead_and_are_answered_in_order() {
    let (world, _app) = world().await;
    let mut stream = TcpStream::connect(world.http()).await.unwrap();
    let requests = "POST /1 HTTP/1.1\r\nHost: app.x\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: app.x\r\n\r\nGET /3 HTTP/1.1\r\nHost: app.x\r\n";
    stream.write_all(requests.as_bytes()).await.unwrap();
    let first = read_answer(&mut stream).await;
    assert!(first.body.starts_with("POST /1") && first.body.contains("\r\n\r\nabc"), "{}", first.body);
    stream.write_all(b"\r\n").await.unwrap();
    // Both answers may come in one piece.
    let mut rest = first.body.split_once("\r\n\r\nabc").unwrap().1.as_bytes().to_vec();
    while !(String::from_utf8_lossy(&rest).contains("GET /2") && String::from_utf8_lossy(&rest).contains("GET /3")) {
        let mut part = [0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut part)).await.unwrap().unwrap();
        assert!(read > 0, "closed");
        rest.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8(rest).unwrap();
    assert!(text.find("GET /2") < text.find("GET /3"));
    world.stop().await;
}

#[tokio::test]
async fn b64_connections_are_bounded() {
    let world = World::start_with(|raw| raw.limits.connections = 5).await;
    let app = App::named("app").await;
    world.route(registration(app.address, &["app.x"])).await;
    let mut held = vec![];
    for _ in 0..5 {
        held.push(TcpStream::connect(world.http()).await.unwrap());
    }
    wait_for(|| async { world.varz().await["connections"] == 5 }).await;
    let mut extra = TcpStream::connect(world.http()).await.unwrap();
    assert_eq!(extra.read(&mut [0; 1]).await.unwrap_or(0), 0, "one too many");
    drop(held);
    wait_for(|| async {
        let mut stream = TcpStream::connect(world.http()).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: app.x\r\nConnection: close\r\n\r\n").await;
        stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0)
    })
    .await;
    world.stop().await;
}
