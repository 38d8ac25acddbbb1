//! What an app and a client are told.

use crate::harness::*;
use messages::router::Register;

/// The echoed request's header.
fn sent<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let lines = answer.body.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

#[tokio::test]
async fn the_app_is_told_who_asks_and_who_it_is() {
    let world = World::start().await;
    let app = App::echo().await;
    world.route(registration(app.address, &["app.x"])).await;
    let answer = world.get("app.x", "/a?b=c", "X-CF-ApplicationID: forged\r\nX-Vcap-Request-Id: forged\r\n").await;
    assert!(answer.body.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", answer.body);
    assert_eq!(sent(&answer, "host"), ["app.x"]);
    assert_eq!(sent(&answer, "x-cf-applicationid"), [APP]);
    assert_eq!(sent(&answer, "x-cf-instanceid"), [format!("instance-{}", app.address.port())]);
    assert_eq!(sent(&answer, "x-cf-instanceindex"), ["0"]);
    assert_eq!(sent(&answer, "x-request-start"), ["1767323045012"]);
    let id = sent(&answer, "x-vcap-request-id");
    assert_eq!(answer.header("x-vcap-request-id"), Some(id[0]));
    assert!(id[0].len() == 36 && id[0].as_bytes()[14] == b'4', "{id:?}");
    let other = world.get("app.x", "/", "").await;
    assert_ne!(other.header("x-vcap-request-id"), Some(id[0]));
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_without_instance_id_is_named_by_its_address() {
    let world = World::start().await;
    let app = App::echo().await;
    world
        .route(Register {
            app: None,
            private_instance_id: None,
            private_instance_index: None,
            ..registration(app.address, &["app.x"])
        })
        .await;
    let answer = world.get("app.x", "/", "").await;
    assert_eq!(sent(&answer, "x-cf-instanceid"), [app.address.to_string()]);
    assert!(sent(&answer, "x-cf-applicationid").is_empty());
    world.stop().await;
}

#[tokio::test]
async fn b54_each_forwarded_header_has_one_rule() {
    let world = World::start().await;
    let app = App::echo().await;
    world.route(registration(app.address, &["app.x"])).await;
    let cases = [
        ("", "x-forwarded-for", vec!["127.0.0.1"]),
        ("X-Forwarded-For: 1.2.3.4\r\n", "x-forwarded-for", vec!["1.2.3.4, 127.0.0.1"]),
        ("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n", "x-forwarded-for", vec!["1.2.3.4, 5.6.7.8, 127.0.0.1"]),
        ("", "x-forwarded-proto", vec!["http"]),
        ("X-Forwarded-Proto: https\r\n", "x-forwarded-proto", vec!["https"]),
        ("X-Forwarded-Host: front.x\r\n", "x-forwarded-host", vec!["front.x"]),
        ("Forwarded: for=1.2.3.4\r\n", "forwarded", vec!["for=1.2.3.4"]),
        ("X-Request-Start: 5\r\n", "x-request-start", vec!["5"]),
        ("X-Forwarded-Client-Cert: forged\r\n", "x-forwarded-client-cert", vec![]),
        ("X-CF-Proxy-Signature: forged\r\n", "x-cf-proxy-signature", vec![]),
        ("traceparent: 00-1-2-01\r\n", "traceparent", vec!["00-1-2-01"]),
        ("Connection: Authorization\r\nAuthorization: bearer\r\n", "authorization", vec!["bearer"]),
        ("Keep-Alive: 5\r\nTE: trailers\r\n", "te", vec![]),
        ("Proxy-Authorization: x\r\n", "proxy-authorization", vec![]),
    ];
    for (headers, name, expected) in cases {
        let request = format!("GET / HTTP/1.1\r\nHost: app.x\r\n{headers}\r\n");
        let mut stream = tokio::net::TcpStream::connect(world.http()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert_eq!(sent(&answer, name), expected, "{headers:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_forwarded_protocol_can_be_forced() {
    for (rule, expected) in [("sanitize", "http"), ("https", "https")] {
        let world = World::start_with(|raw| raw.forwarded_proto = rule.into()).await;
        let app = App::echo().await;
        world.route(registration(app.address, &["app.x"])).await;
        let answer = world.get("app.x", "/", "X-Forwarded-Proto: gopher\r\n").await;
        assert_eq!(sent(&answer, "x-forwarded-proto"), [expected]);
        world.stop().await;
    }
}

#[tokio::test]
async fn an_answer_passes_but_for_what_concerned_this_hop() {
    let world = World::start().await;
    let app = App::start(|_| {
        b"HTTP/1.1 201 Made\r\nKeep-Alive: timeout=5\r\nX-CF-Proxy-Signature: s\r\nX-Vcap-Request-Id: own\r\nX-Own: 1\r\nContent-Length: 2\r\n\r\nok".to_vec()
    })
    .await;
    world.route(registration(app.address, &["app.x"])).await;
    let answer = world.get("app.x", "/", "").await;
    assert_eq!((answer.status, &*answer.body), (201, "ok"));
    assert_eq!((answer.header("keep-alive"), answer.header("x-cf-proxy-signature")), (None, None));
    assert_eq!((answer.header("x-vcap-request-id"), answer.header("x-own")), (Some("own"), Some("1")));
    world.stop().await;
}

#[tokio::test]
async fn sessions_stick_to_an_instance_and_move_when_it_is_gone() {
    let world = World::start().await;
    let mut apps = vec![];
    for name in ["a", "b", "c"] {
        let app = App::start(move |request| {
            let cookie = if request.contains("/login") { "Set-Cookie: JSESSIONID=1; Secure\r\n" } else { "" };
            format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: 1\r\n\r\n{name}").into_bytes()
        })
        .await;
        world.register(registration(app.address, &["sticky.x"])).await;
        apps.push(app);
    }
    wait_for(|| async { world.varz().await["endpoints"] == 3 }).await;
    let login = world.get("sticky.x", "/login", "").await;
    let cookies: Vec<&str> = login.head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")).collect();
    let ours = cookies.iter().find(|cookie| cookie.starts_with("__VCAP_ID__=")).unwrap();
    assert!(ours.ends_with("; Path=/; HttpOnly; Secure"), "{ours}");
    let id = ours.split(['=', ';']).nth(1).unwrap();
    let cookies = format!("Cookie: JSESSIONID=1; __VCAP_ID__={id}\r\n");
    for _ in 0..5 {
        let answer = world.get("sticky.x", "/", &cookies).await;
        assert_eq!(answer.body, login.body);
        assert!(!answer.head.contains("__VCAP_ID__"), "{}", answer.head);
    }
    let other = world.get("sticky.x", "/", "Cookie: JSESSIONID=1; __VCAP_ID__=forged\r\n").await;
    assert!(other.head.contains("__VCAP_ID__=instance-"), "it is told where it is now: {}", other.head);
    let home = apps.iter().find(|app| id == format!("instance-{}", app.address.port())).unwrap();
    world.unregister(&registration(home.address, &["sticky.x"])).await;
    wait_for(|| async { world.varz().await["endpoints"] == 2 }).await;
    let moved = world.get("sticky.x", "/", &cookies).await;
    assert_ne!(moved.body, login.body);
    assert!(moved.head.contains("__VCAP_ID__=instance-"), "{}", moved.head);
    world.stop().await;
}

#[tokio::test]
async fn b57_an_instance_can_be_asked_for_within_the_route() {
    let world = World::start().await;
    for (name, index) in [("zero", "0"), ("one", "1")] {
        let app = App::named(name).await;
        world.register(Register { private_instance_index: Some(index.into()), ..registration(app.address, &["app.x"]) }).await;
    }
    wait_for(|| async { world.varz().await["endpoints"] == 2 }).await;
    for _ in 0..3 {
        let header = format!("X-CF-App-Instance: {APP}:1\r\n");
        assert_eq!(world.get("app.x", "/", &header).await.body, "one");
        assert_eq!(world.get("app.x", "/", "X-CF-Process-Instance: process-1:0\r\n").await.body, "zero");
    }
    for header in [
        format!("X-CF-App-Instance: {APP}:-1\r\n"),
        "X-CF-App-Instance: other:0\r\n".into(),
        "X-CF-Process-Instance: p:9\r\n".into(),
    ] {
        assert_eq!(world.get("app.x", "/", &header).await.status, 400, "{header}");
    }
    world.stop().await;
}

#[tokio::test]
async fn each_request_of_an_app_is_a_line_in_its_log() {
    let world = World::start().await;
    let app = App::named("hello").await;
    world.route(registration(app.address, &["app.x"])).await;
    let request = "POST /a?b=c HTTP/1.1\r\nHost: App.x\r\nContent-Length: 3\r\nUser-Agent: test\r\nConnection: close\r\n\r\nabc";
    let answer = get(world.http(), request).await;
    let id = answer.header("x-vcap-request-id").unwrap();
    let lines = world.lines(1).await;
    let line = &lines[0];
    assert_eq!((line.source_id.as_str(), line.instance_id.as_str(), line.timestamp), (APP, "0", 1_767_323_045_012_345_000));
    assert_eq!(line.tags["source_type"], "RTR");
    assert_eq!(line.tags["process_type"], "web");
    let Some(loggregator_client::Payload::Log(log)) = &line.message else { panic!("{line:?}") };
    let text = String::from_utf8(log.payload.clone()).unwrap();
    let start = r#"App.x - [2026-01-02T03:04:05.012345000Z] "POST /a?b=c HTTP/1.1" 200 3 5 "-" "test" "127.0.0.1:"#;
    assert!(text.starts_with(start), "{text}");
    let port = app.address.port();
    for part in [
        format!(
            r#""127.0.0.1:{port}" x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" vcap_request_id:"{id}" response_time:0."#
        ),
        format!(r#" app_id:"{APP}" app_index:"0" instance_id:"instance-{port}" x_cf_routererror:"-""#),
    ] {
        assert!(text.contains(&part), "{text}\n{part}");
    }
    let gone = dead().await;
    world.route(registration(gone, &["dead.x"])).await;
    world.get("dead.x", "/", "").await;
    let lines = world.lines(1).await;
    let Some(loggregator_client::Payload::Log(log)) = &lines[0].message else { panic!("{lines:?}") };
    let text = String::from_utf8_lossy(&log.payload);
    assert!(
        text.contains(r#" 502 0 "#)
            && text.ends_with(r#"x_cf_routererror:"endpoint_failure (dial: connect: connection refused)""#),
        "{text}"
    );
    world.stop().await;
}
