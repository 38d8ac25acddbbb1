//! Against real servers on loopback that do what brokers should not.

mod server;

use super::{Address, BrokerClient, Call, Clients, FailureKind, Ids, Outcome, PlatformDomain, Policy, Poll, Polled, Settings};
use crate::{BindRequest, Context, OriginatingIdentity, ProvisionRequest, Requirement, UpdateRequest};
use foundation::Secret;
use serde_json::{Value, json};
use server::{Server, answer};
use std::{sync::Arc, time::Duration};
use types::{ManualClock, Timestamp};

const IDS: Ids<'static> = Ids { service_id: "s 1", plan_id: "p/1" };

fn clients(policy: Policy) -> Clients {
    foundation::tls::install_crypto();
    let settings = Settings {
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        policy,
        info_location: Some("api.example.test/v2/info".into()),
        ..Settings::default()
    };
    Clients::new(settings, Arc::new(ManualClock::at(Timestamp::from_secs(1_445_412_480)))).unwrap()
}

fn open() -> Policy {
    Policy { allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() }
}

fn address(url: &str) -> Address {
    let password = Secret::new("hunter2");
    Address { name: "b1".into(), url: url.parse().unwrap(), user: "u".into(), password, skip_tls_verify: false }
}

fn broker(server: &Server) -> BrokerClient {
    clients(open()).broker(address(&format!("http://{}/base/", server.address)))
}

fn call() -> Call {
    Call { request_id: "r-1".into(), identity: Some(OriginatingIdentity::user("user-1")), plan: Some("small".into()) }
}

fn provision() -> ProvisionRequest {
    ProvisionRequest {
        service_id: "s".into(),
        plan_id: "p".into(),
        context: Some(Context { platform: Context::CLOUD_FOUNDRY.into(), ..Context::default() }),
        organization_guid: "o".into(),
        space_guid: "sp".into(),
        parameters: None,
        maintenance_info: None,
        cupola_clone_from: None,
    }
}

/// What each kind of call comes to with this answer: a word, and whether something may be left behind.
#[derive(Debug, PartialEq)]
enum Came {
    Done,
    Accepted(Option<String>, Option<u64>),
    Gone,
    Failed(FailureKind, bool),
}

fn came<T: std::fmt::Debug>(outcome: Outcome<T>) -> Came {
    match outcome {
        Outcome::Done(_) => Came::Done,
        Outcome::Accepted { operation, retry_after, .. } => Came::Accepted(operation, retry_after.map(|span| span.as_secs())),
        Outcome::Gone => Came::Gone,
        Outcome::Failed(failure) => {
            assert!(failure.message.ends_with("request id r-1)"), "{failure}");
            assert!(failure.message.contains("service broker 'b1', plan 'small'"), "{failure}");
            assert!(!failure.message.contains("hunter2"), "{failure}");
            Came::Failed(failure.kind, failure.orphan)
        }
    }
}

async fn provisioned(reply: Vec<u8>) -> Came {
    let server = Server::always(reply).await;
    came(broker(&server).provision(&call(), "i", &provision(), true).await)
}
async fn bound(reply: Vec<u8>) -> Came {
    let server = Server::always(reply).await;
    came(broker(&server).bind(&call(), "i", "b", &BindRequest::default(), &[], true).await)
}
async fn updated(reply: Vec<u8>) -> Came {
    let server = Server::always(reply).await;
    let request: UpdateRequest = serde_json::from_value(json!({ "service_id": "s" })).unwrap();
    came(broker(&server).update(&call(), "i", &request, true).await)
}
async fn deprovisioned(reply: Vec<u8>) -> Came {
    let server = Server::always(reply).await;
    came(broker(&server).deprovision(&call(), "i", IDS, true).await)
}

#[tokio::test]
async fn every_answer_has_its_meaning() {
    use Came::{Accepted, Done, Failed, Gone};
    use FailureKind as K;
    let failed = |kind, orphan| Failed(kind, orphan);
    let word = |word: &str| json!({ "error": word, "description": "because" }).to_string();
    // status, body; provision, bind, update, deprovision
    let cases: Vec<(u16, String, [Came; 4])> = vec![
        (200, "{}".into(), [Done, Done, Done, Done]),
        (201, "{}".into(), [Done, Done, failed(K::BadResponse, false), failed(K::BadResponse, false)]),
        (202, "{}".into(), [Accepted(None, None), Accepted(None, None), Accepted(None, None), Accepted(None, None)]),
        (
            204,
            String::new(),
            [
                failed(K::BadResponse, true),
                failed(K::BadResponse, true),
                failed(K::BadResponse, false),
                failed(K::BadResponse, false),
            ],
        ),
        (
            200,
            "not json".into(),
            [failed(K::Malformed, false), failed(K::Malformed, false), failed(K::Malformed, false), failed(K::Malformed, false)],
        ),
        (
            200,
            "[]".into(),
            [failed(K::Malformed, false), failed(K::Malformed, false), failed(K::Malformed, false), failed(K::Malformed, false)],
        ),
        (
            201,
            "not json".into(),
            [
                failed(K::Malformed, true),
                failed(K::Malformed, true),
                failed(K::BadResponse, false),
                failed(K::BadResponse, false),
            ],
        ),
        (
            202,
            "nope".into(),
            [failed(K::Malformed, true), failed(K::Malformed, true), failed(K::Malformed, false), failed(K::Malformed, false)],
        ),
        (
            202,
            json!({ "operation": 7 }).to_string(),
            [failed(K::Malformed, true), failed(K::Malformed, true), failed(K::Malformed, false), failed(K::Malformed, false)],
        ),
        (
            302,
            "{}".into(),
            [
                failed(K::BadResponse, true),
                failed(K::BadResponse, true),
                failed(K::BadResponse, false),
                failed(K::BadResponse, false),
            ],
        ),
        (
            400,
            word("Any"),
            [failed(K::Rejected, false), failed(K::Rejected, false), failed(K::Rejected, false), failed(K::Rejected, false)],
        ),
        (
            401,
            "{}".into(),
            [
                failed(K::Unauthorized, false),
                failed(K::Unauthorized, false),
                failed(K::Unauthorized, false),
                failed(K::Unauthorized, false),
            ],
        ),
        (
            404,
            "{}".into(),
            [failed(K::NotFound, false), failed(K::NotFound, false), failed(K::NotFound, false), failed(K::NotFound, false)],
        ),
        (
            408,
            "{}".into(),
            [failed(K::Timeout, false), failed(K::Timeout, false), failed(K::Timeout, false), failed(K::Timeout, false)],
        ),
        (
            409,
            "{}".into(),
            [failed(K::Conflict, false), failed(K::Conflict, false), failed(K::Conflict, false), failed(K::Conflict, false)],
        ),
        (410, "{}".into(), [failed(K::Gone, true), failed(K::Gone, true), failed(K::Gone, false), Gone]),
        (
            422,
            word("AsyncRequired"),
            [
                failed(K::AsyncRequired, false),
                failed(K::AsyncRequired, false),
                failed(K::AsyncRequired, false),
                failed(K::AsyncRequired, false),
            ],
        ),
        (
            422,
            word("ConcurrencyError"),
            [
                failed(K::Concurrency, false),
                failed(K::Concurrency, false),
                failed(K::Concurrency, false),
                failed(K::Concurrency, false),
            ],
        ),
        (
            422,
            word("RequiresApp"),
            [
                failed(K::RequiresApp, false),
                failed(K::RequiresApp, false),
                failed(K::RequiresApp, false),
                failed(K::RequiresApp, false),
            ],
        ),
        (
            422,
            word("MaintenanceInfoConflict"),
            [
                failed(K::MaintenanceInfoConflict, false),
                failed(K::MaintenanceInfoConflict, false),
                failed(K::MaintenanceInfoConflict, false),
                failed(K::MaintenanceInfoConflict, false),
            ],
        ),
        (
            422,
            word("Other"),
            [failed(K::Rejected, true), failed(K::Rejected, true), failed(K::Rejected, false), failed(K::Rejected, false)],
        ),
        (
            500,
            "{}".into(),
            [
                failed(K::BadResponse, true),
                failed(K::BadResponse, true),
                failed(K::BadResponse, false),
                failed(K::BadResponse, false),
            ],
        ),
        (
            503,
            "<html>".into(),
            [
                failed(K::BadResponse, true),
                failed(K::BadResponse, true),
                failed(K::BadResponse, false),
                failed(K::BadResponse, false),
            ],
        ),
    ];
    for (status, body, expected) in cases {
        let reply = || answer(status, &[], &body);
        let found = [provisioned(reply()).await, bound(reply()).await, updated(reply()).await, deprovisioned(reply()).await];
        assert_eq!(found, expected, "{status} {body}");
    }
    let later = answer(202, &[("Retry-After", "7")], r#"{"operation":"op-1"}"#);
    assert_eq!(provisioned(later).await, Accepted(Some("op-1".into()), Some(7)));
    assert_eq!(deprovisioned(answer(200, &[], "")).await, Done, "there is nothing to say about what is gone");
}

#[tokio::test]
async fn a_platform_that_does_not_poll_is_not_told_to() {
    let server = Server::always(answer(202, &[], "{}")).await;
    let outcome = broker(&server).provision(&call(), "i", &provision(), false).await;
    assert_eq!(came(outcome), Came::Failed(FailureKind::BadResponse, true));
    assert!(!server.requests()[0].contains("accepts_incomplete"));
}

#[tokio::test]
async fn what_the_broker_says_reaches_the_user_word_for_word() {
    let said = json!({ "error": "X", "description": "Quota of 3 \"things\" is used up", "instance_usable": false, "update_repeatable": false });
    let server = Server::always(answer(400, &[], &said.to_string())).await;
    let Outcome::Failed(failure) = broker(&server).provision(&call(), "i", &provision(), true).await else { panic!() };
    assert_eq!(failure.description.as_deref(), Some("Quota of 3 \"things\" is used up"));
    assert_eq!(
        failure.message,
        "Service broker error: Quota of 3 \"things\" is used up (service broker 'b1', plan 'small', HTTP status 400, request id r-1)"
    );
    assert_eq!((failure.instance_usable, failure.update_repeatable, failure.status_for_user()), (false, false, 502));

    let server = Server::always(answer(500, &[], "<b>oops</b>")).await;
    let Outcome::Failed(failure) = broker(&server).provision(&call(), "i", &provision(), true).await else { panic!() };
    assert!(failure.message.contains("Status Code: 500 Internal Server Error, Body: <b>oops</b>"), "{failure}");

    let long = json!({ "description": "x".repeat(20_000) }).to_string();
    let server = Server::always(answer(500, &[], &long)).await;
    let Outcome::Failed(failure) = broker(&server).provision(&call(), "i", &provision(), true).await else { panic!() };
    assert!(failure.message.len() < 9_000 && failure.message.contains("truncated due to size"), "{}", failure.message.len());
}

#[tokio::test]
async fn a_request_carries_who_and_which() {
    let server = Server::always(answer(201, &[], "{}")).await;
    broker(&server).provision(&call(), "a/b c", &provision(), true).await;
    broker(&server).deprovision(&call(), "i", IDS, true).await;
    let requests = server.requests();
    let (first, second) = (requests[0].to_lowercase(), &requests[1]);
    assert!(requests[0].starts_with("PUT /base/v2/service_instances/a%2Fb%20c?accepts_incomplete=true HTTP/1.1"), "{first}");
    for header in [
        "authorization: basic dtpodw50zxiy",
        "x-broker-api-version: 2.17",
        "x-broker-api-request-identity: r-1",
        "x-vcap-request-id: r-1",
        "x-api-info-location: api.example.test/v2/info",
        "accept: application/json",
        "content-type: application/json",
        "x-broker-api-originating-identity: cloudfoundry ey",
    ] {
        assert!(first.contains(header), "{header} in {first}");
    }
    assert!(second.starts_with("DELETE /base/v2/service_instances/i?service_id=s%201&plan_id=p%2F1&accepts_incomplete=true"));
}

#[tokio::test]
async fn brokers_that_hang_close_or_are_not_there() {
    let hangs = Server::hanging().await;
    let found = came(broker(&hangs).provision(&call(), "i", &provision(), true).await);
    assert_eq!(found, Came::Failed(FailureKind::Timeout, true), "it may have been made");
    let found = came(broker(&hangs).deprovision(&call(), "i", IDS, true).await);
    assert_eq!(found, Came::Failed(FailureKind::Timeout, false));

    let trickle = Server::trickling().await;
    let found = came(broker(&trickle).provision(&call(), "i", &provision(), true).await);
    assert_eq!(found, Came::Failed(FailureKind::Timeout, true), "a byte now and then does not help");

    let half = b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"dash".to_vec();
    assert_eq!(provisioned(half).await, Came::Failed(FailureKind::Broken, true));
    assert_eq!(provisioned(vec![]).await, Came::Failed(FailureKind::Broken, true));
    assert_eq!(provisioned(b"ssh-2.0\r\n\r\n".to_vec()).await, Came::Failed(FailureKind::Broken, true));

    let nobody = Server::closed().await;
    let client = clients(open()).broker(address(&format!("http://{nobody}")));
    let found = came(client.provision(&call(), "i", &provision(), true).await);
    assert_eq!(found, Came::Failed(FailureKind::Unreachable, false), "nothing was sent");
    let client = clients(open()).broker(address("http://does-not-exist.invalid"));
    let found = came(client.provision(&call(), "i", &provision(), true).await);
    assert_eq!(found, Came::Failed(FailureKind::Unreachable, false));
}

#[tokio::test]
async fn answers_are_bounded() {
    let body = format!("{{\"dashboard_url\":\"{}\"}}", "x".repeat(10 << 20));
    assert_eq!(provisioned(answer(201, &[], &body)).await, Came::Failed(FailureKind::TooLarge, true));
    assert_eq!(provisioned(answer(200, &[], &body)).await, Came::Failed(FailureKind::TooLarge, false));
    let unannounced = [b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n".as_slice(), body.as_bytes()].concat();
    assert_eq!(provisioned(unannounced).await, Came::Failed(FailureKind::TooLarge, true));

    let server = Server::always(answer(200, &[], &body)).await;
    let failure = broker(&server).catalog(&call()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TooLarge);
    assert!(failure.message.contains("larger than 5242880 bytes"), "{failure}");
    let large = json!({ "services": ["x".repeat(2 << 20)] }).to_string();
    let server = Server::always(answer(200, &[], &large)).await;
    assert!(broker(&server).catalog(&call()).await.is_ok(), "catalogs may be larger than other answers");

    let deep = format!("{}{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    assert_eq!(provisioned(answer(201, &[], &deep)).await, Came::Failed(FailureKind::Malformed, true));
}

#[tokio::test]
async fn redirects_stay_on_the_broker_and_take_the_method_along() {
    let other = Server::always(answer(201, &[], "{}")).await;
    let elsewhere = format!("http://{}/v2/catalog", other.address);
    let server = Server::always(answer(307, &[("Location", &elsewhere)], "")).await;
    let found = came(broker(&server).provision(&call(), "i", &provision(), true).await);
    assert_eq!(found, Came::Failed(FailureKind::BadResponse, true));
    assert!(broker(&server).catalog(&call()).await.is_err());
    assert!(other.requests().is_empty(), "nobody else sees the credentials");

    let server = Server::script(vec![answer(307, &[("Location", "/moved")], ""), answer(201, &[], "{}")]).await;
    assert_eq!(came(broker(&server).provision(&call(), "i", &provision(), true).await), Came::Done);
    assert!(server.requests()[1].starts_with("PUT /moved "), "{:?}", server.requests());
    let server = Server::script(vec![answer(302, &[("Location", "/moved")], ""), answer(200, &[], "{}")]).await;
    assert_eq!(broker(&server).catalog(&call()).await, Ok(json!({})));
    let around = Server::always(answer(307, &[("Location", "/again")], "")).await;
    assert!(broker(&around).catalog(&call()).await.unwrap_err().message.contains("too often"));
    assert_eq!(around.requests().len(), 4);
}

#[tokio::test]
async fn wrong_types_are_named_and_secrets_are_not_shown() {
    for (body, said) in [
        (json!({ "credentials": "hunter3" }), "expected `credentials` to be an object"),
        (json!({ "syslog_drain_url": 1 }), "expected `syslog_drain_url` to be a string"),
        (json!({ "volume_mounts": [{ "driver": "hunter3" }] }), "expected `volume_mounts` to be a list of objects with driver"),
        (json!({ "endpoints": [{ "host": "hunter3" }] }), "expected `endpoints` to be a list of objects with host and ports"),
    ] {
        let server = Server::always(answer(201, &[], &body.to_string())).await;
        let outcome = broker(&server).bind(&call(), "i", "b", &BindRequest::default(), &[], true).await;
        let Outcome::Failed(failure) = outcome else { panic!("{body}") };
        assert!(failure.message.contains(said) && !failure.message.contains("hunter3"), "{failure}");
        assert!(failure.orphan);
    }
    let found = provisioned(answer(201, &[], &json!({ "dashboard_url": 1 }).to_string())).await;
    assert_eq!(found, Came::Failed(FailureKind::Malformed, true));
    assert_eq!(provisioned(answer(201, &[], r#"{"dashboard_url":null}"#)).await, Came::Done);
}

#[tokio::test]
async fn a_binding_holds_no_more_than_its_offering_declares() {
    let mount = |mode: &str| json!({ "volume_mounts": [{ "driver": "d", "container_dir": "/x", "mode": mode, "device_type": "shared", "device": { "volume_id": "v" } }] });
    let cases: Vec<(Value, &[Requirement], bool)> = vec![
        (json!({ "syslog_drain_url": "syslog://x" }), &[], false),
        (json!({ "syslog_drain_url": "syslog://x" }), &[Requirement::SyslogDrain], true),
        (mount("rw"), &[], false),
        (mount("rw"), &[Requirement::VolumeMount], true),
        (mount("rwx"), &[Requirement::VolumeMount], false),
        (json!({ "route_service_url": "http://x" }), &[Requirement::RouteForwarding], false),
        (json!({ "route_service_url": "https://x" }), &[Requirement::RouteForwarding], true),
        (json!({ "route_service_url": "https://.x" }), &[Requirement::RouteForwarding], false),
    ];
    for (body, requires, good) in cases {
        let server = Server::always(answer(200, &[], &body.to_string())).await;
        let found = came(broker(&server).bind(&call(), "i", "b", &BindRequest::default(), requires, true).await);
        let expected = if good { Came::Done } else { Came::Failed(FailureKind::Malformed, true) };
        assert_eq!(found, expected, "{body}");
        assert_eq!(broker(&server).fetch_binding(&call(), "i", "b", IDS, requires).await.is_ok(), good, "{body}");
    }
}

#[tokio::test]
async fn polls_end_only_with_a_word_that_ends_them() {
    let poll = async |status: u16, body: &str, polled| {
        let server = Server::always(answer(status, &[("Retry-After", "9")], body)).await;
        let found = broker(&server).poll_instance(&call(), "i", IDS, Some("o p"), polled).await;
        assert!(server.requests()[0].contains("/last_operation?service_id=s%201&plan_id=p%2F1&operation=o%20p "));
        found
    };
    let found = poll(200, r#"{"state":"in progress","description":"half"}"#, Polled::Create).await;
    assert_eq!(found, Poll::InProgress { description: Some("half".into()), retry_after: Some(Duration::from_secs(9)) });
    assert_eq!(poll(200, r#"{"state":"succeeded"}"#, Polled::Create).await, Poll::Succeeded { description: None });
    let found = poll(200, r#"{"state":"failed","description":"no","instance_usable":false}"#, Polled::Update).await;
    let expected = Poll::Failed { description: Some("no".into()), instance_usable: false, update_repeatable: true };
    assert_eq!(found, expected);
    assert_eq!(poll(410, "{}", Polled::Delete).await, Poll::Gone);
    let found = poll(410, r#"{"description":"a database was removed"}"#, Polled::Delete).await;
    assert_eq!(found, Poll::Succeeded { description: Some("a database was removed".into()) });
    let found = poll(400, r#"{"description":"bad"}"#, Polled::Create).await;
    assert!(matches!(found, Poll::Failed { description: Some(text), .. } if text == "bad"));
    for (status, body, polled) in [
        (410, "{}", Polled::Create),
        (410, "{}", Polled::Update),
        (404, "{}", Polled::Delete),
        (500, "{}", Polled::Create),
        (200, "{}", Polled::Create),
        (200, r#"{"state":"done"}"#, Polled::Create),
        (200, r#"{"state":"succeeded","description":7}"#, Polled::Create),
        (202, r#"{"state":"succeeded"}"#, Polled::Create),
    ] {
        let found = poll(status, body, polled).await;
        assert!(matches!(&found, Poll::Unclear(failure) if !failure.orphan), "{status} {body}: {found:?}");
    }
}

#[tokio::test]
async fn addresses_of_the_machine_are_refused_whatever_name_they_have() {
    let server = Server::always(answer(200, &[], "{}")).await;
    let port = server.address.port();
    for url in
        [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}"), format!("http://[::ffff:127.0.0.1]:{port}")]
    {
        let client = clients(Policy::default()).broker(address(&url));
        let failure = client.catalog(&call()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::AddressRefused, "{url}: {failure}");
        let Outcome::Failed(failure) = client.provision(&call(), "i", &provision(), true).await else { panic!() };
        assert!(!failure.orphan && failure.message.contains("loopback"), "{failure}");
    }
    assert!(server.requests().is_empty());
    for host in ["127.0.0.1", "localhost"] {
        let policy = Policy { allowed: [(host.to_owned(), port)].into(), ..Policy::default() };
        let clients = clients(policy);
        assert!(clients.broker(address(&format!("http://{host}:{port}"))).catalog(&call()).await.is_ok(), "{host}");
        let other = clients.broker(address(&format!("http://{host}:{}", port ^ 1))).catalog(&call()).await.unwrap_err();
        assert_eq!(other.kind, FailureKind::AddressRefused, "{host}");
    }
}

#[tokio::test]
async fn names_of_the_platform_reach_its_router_with_their_own_host() {
    let server = Server::always(answer(200, &[], "{}")).await;
    let domain = PlatformDomain { suffix: "apps.example.test".into(), http: Some(server.address), https: None };
    let clients = clients(Policy { platform: vec![domain], ..Policy::default() });
    for url in ["http://broker.apps.example.test", "http://broker.apps.example.test:1"] {
        clients.broker(address(url)).catalog(&call()).await.unwrap();
    }
    let requests: Vec<String> = server.requests().iter().map(|request| request.to_lowercase()).collect();
    assert!(requests[0].contains("host: broker.apps.example.test\r\n"), "{}", requests[0]);
    assert!(requests[1].contains("host: broker.apps.example.test:1\r\n"), "{}", requests[1]);
    let refused = clients.check_url(&"https://broker.apps.example.test".parse().unwrap());
    assert!(refused.unwrap_err().contains("router"));
}

proptest::proptest! {
    /// Whatever a broker answers: no panic, nothing to mitigate where nothing is made, no credentials in a text.
    #[test]
    fn any_answer_has_a_meaning(status in 100_u16..600, body in "\\PC{0,60}", name in "[a-z_]{1,18}", value in "[0-9\\[\\]{}\",:a-z]{0,20}") {
        use super::{interpret::{self, Op}, texts::Names, transport::{Answer, Body}};
        let call = call();
        let names = Names { broker: "b1", call: &call };
        let known = ["credentials", "operation", "state", "dashboard_url", "endpoints", "volume_mounts", "description", "error"];
        let field = known.get(name.len() % 9).copied().unwrap_or(&name);
        for text in [body, format!("{{\"{field}\":{value}}}"), format!("{{\"{field}\":\"hunter3 {value}")] {
            let answer = Answer { status, retry_after: None, body: Body::Whole(text.into_bytes()) };
            for op in [Op::Update, Op::Deprovision, Op::Unbind, Op::Restore, Op::DeleteBackup] {
                if let Outcome::Failed(failure) = interpret::changed::<Value>(op, &answer, true, &names) {
                    proptest::prop_assert!(!failure.orphan);
                }
            }
            if let Outcome::Failed(failure) = interpret::changed::<crate::Binding>(Op::Bind, &answer, true, &names) {
                proptest::prop_assert!(status >= 300 || !failure.message.contains("hunter3"), "{}", failure);
            }
            for polled in [Polled::Create, Polled::Update, Polled::Delete] {
                let found = interpret::polled(polled, &answer, &names);
                proptest::prop_assert!(found != Poll::Gone || (status == 410 && polled == Polled::Delete));
            }
        }
    }

    /// An IPv6 address that carries an IPv4 one is treated like it.
    #[test]
    fn no_spelling_of_an_address_gets_around_the_guard(bits: u32) {
        let ip = std::net::Ipv4Addr::from(bits);
        let [a, b, c, d] = ip.octets();
        let policy = Policy { refused: vec!["10.0.0.0/8".parse().unwrap()], ..Policy::default() };
        let allowed = policy.check(ip.into()).is_ok();
        let nat64 = format!("64:ff9b::{a:02x}{b:02x}:{c:02x}{d:02x}").parse().unwrap();
        let six_to_four = format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1").parse().unwrap();
        for carrier in [ip.to_ipv6_mapped().into(), nat64, six_to_four] {
            proptest::prop_assert_eq!(policy.check(carrier).is_ok(), allowed, "{} {}", ip, carrier);
        }
    }
}
