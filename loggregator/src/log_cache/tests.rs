//! From a producer's datagram through agent, bus and cache to an HTTP answer.

use super::*;
use crate::{
    agent,
    config::{AgentConfig, KeepSection},
};
use cloud_controller_client::Error as ClientError;
use foundation::{Shutdown, config::TlsSection};
use loggregator_client::{ENVELOPES_SUBJECT, EnvelopeBatch, LogType, Sender, gauge, log_line};
use messages::{Message as _, router::Register};
use prost::Message;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};
use testkit::tokens::TestIssuer;
use types::ManualClock;
use uaa_client::KeySet;

const APP: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";
const NOW: Timestamp = Timestamp::from_secs(1_718_000_000);

/// Lets everybody read what is in the list.
#[derive(Default)]
struct FakeAccess {
    readable: BTreeSet<String>,
    asked: Mutex<u32>,
}

impl LogAccess for FakeAccess {
    fn may_read<'a>(
        &'a self,
        source: &'a str,
        _authorization: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<bool, ClientError>> + Send + 'a>> {
        *self.asked.lock() += 1;
        Box::pin(async move { Ok(self.readable.contains(source)) })
    }
}

struct World {
    bus: Bus,
    shutdown: Shutdown,
    base: String,
    clock: Arc<ManualClock>,
    access: Arc<FakeAccess>,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl World {
    async fn new() -> Self {
        foundation::tls::install_crypto();
        let (bus, shutdown, clock) = (Bus::in_memory(), Shutdown::new(), Arc::new(ManualClock::at(NOW)));
        let issuer = TestIssuer::new();
        let (kid, modulus, exponent) = issuer.public_key();
        let expect = Expect { issuer: issuer.issuer().into(), audiences: vec!["cloud_controller".into()] };
        let keys = KeySet::default().with(kid, modulus, exponent).unwrap();
        let tokens = TokenVerifier::fixed(keys, &expect, clock.clone());
        let access = Arc::new(FakeAccess { readable: BTreeSet::from([APP.to_owned()]), ..Default::default() });
        let outside = Outside { bus: bus.clone(), tokens, access: access.clone(), clock: clock.clone() };
        let address = start(&config(), outside, &shutdown).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let world = Self { bus, shutdown, base: format!("http://{address}"), clock, access, folder, http };
        // The first answer proves that it listens; the subscription is made by then, or the message below is repeated.
        assert_eq!(world.get("/api/v1/info", None).await.0, 200);
        world
    }

    fn user(&self) -> String {
        format!("bearer {}", TestIssuer::new().user("u1", "ann", &["cloud_controller.read"], NOW.as_secs() + 600))
    }

    fn admin(&self) -> String {
        let scopes = ["cloud_controller.read", "doppler.firehose"];
        format!("bearer {}", TestIssuer::new().user("u2", "root", &scopes, NOW.as_secs() + 600))
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = self.http.get(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn json(&self, path: &str, token: &str) -> Value {
        let (status, text) = self.get(path, Some(token)).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Publishes as an agent would and waits until the store has it.
    async fn publish(&self, batch: Vec<loggregator_client::Envelope>) {
        let Some(marker) = batch.last().map(|envelope| envelope.source_id.clone()) else { return };
        let payload = EnvelopeBatch { batch }.encode_to_vec();
        self.bus.publish_to(ENVELOPES_SUBJECT, payload.into()).await.unwrap();
        self.until(&marker, 1).await;
    }

    async fn until(&self, source: &str, count: usize) -> Vec<Value> {
        for _ in 0..500 {
            let found = self.batch(&format!("/api/v1/read/{source}?limit=1000"), &self.admin()).await;
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{source} never had {count} envelopes");
    }

    async fn batch(&self, path: &str, token: &str) -> Vec<Value> {
        self.json(path, token).await["envelopes"]["batch"].as_array().unwrap().clone()
    }
}

fn config() -> LogCacheConfig {
    LogCacheConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        system_domain: "cf.test".into(),
        uaa: "http://127.0.0.1:1".parse().unwrap(),
        issuer: String::new(),
        cloud_controller: "https://127.0.0.1:1".parse().unwrap(),
        keep: KeepSection::default(),
        bus: bus::Settings { url: String::new(), user: String::new(), password: String::new(), ca: None },
        tls: TlsSection { ca: "/".into(), certificate: "/".into(), key: "/".into() },
    }
}

fn line(source: &str, text: &str, at: i64) -> loggregator_client::Envelope {
    log_line(source, "0", "APP/PROC/WEB", BTreeMap::new(), text.as_bytes(), LogType::Out, at)
}

fn texts(batch: &[Value]) -> Vec<&str> {
    batch.iter().map(|envelope| envelope["log"]["payload"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_travels_from_a_producer_to_a_reader() {
    let world = World::new().await;
    let socket = world.folder.path().join("agent.sock");
    let settings = AgentConfig {
        socket: socket.clone(),
        flush: Duration::from_millis(5),
        queue_envelopes: 1_000,
        queue_bytes: 1 << 20,
        tags: BTreeMap::from([("job".into(), "cell".into())]),
        bus: config().bus,
    };
    agent::start(settings, world.bus.clone(), world.clock.clone(), &mut foundation::rng(), &world.shutdown).unwrap();
    let sender = Sender::new(&socket);
    let at = NOW.as_nanos() - 5;
    sender.send(vec![line(APP, "hello", at), gauge(APP, "0", BTreeMap::new(), &[("cpu", "percentage", 1.5)], at)]);
    world.until(APP, 2).await;
    let (status, text) = world.get(&format!("/api/v1/read/{APP}?start_time=-6795364578871345152"), Some(&world.user())).await;
    assert_eq!(status, 200);
    let expected = format!(
        r#"{{"envelopes":{{"batch":[{{"timestamp":"{at}","source_id":"{APP}","instance_id":"0","deprecated_tags":{{}},"tags":{{"job":"cell","source_type":"APP/PROC/WEB"}},"log":{{"payload":"aGVsbG8=","type":"OUT"}}}},{{"timestamp":"{}","source_id":"{APP}","instance_id":"0","deprecated_tags":{{}},"tags":{{"job":"cell"}},"gauge":{{"metrics":{{"cpu":{{"unit":"percentage","value":1.5}}}}}}}}]}}}}"#,
        at + 1
    );
    assert_eq!(text, expected);
    assert_eq!(world.shutdown.finish(Duration::from_secs(8)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn info_needs_no_token_and_says_two_or_more() {
    let world = World::new().await;
    let (status, text) = world.get("/api/v1/info", None).await;
    assert_eq!((status, &*text), (200, r#"{"version":"3.0.0","vm_uptime":"0"}"#));
    assert_eq!(world.get("/nothing", None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_read_gets_404_whatever_the_reason() {
    let world = World::new().await;
    world.publish(vec![line(OTHER, "secret", 5), line(APP, "mine", 5)]).await;
    let issuer = TestIssuer::new();
    let old = format!("bearer {}", issuer.user("u1", "ann", &["doppler.firehose"], NOW.as_secs() - 600));
    let read = |source: &str| format!("/api/v1/read/{source}");
    for token in [None, Some("bearer x.y.z"), Some("basic abc"), Some(&*old), Some(&*world.user())] {
        assert_eq!(world.get(&read(OTHER), token).await.0, 404, "{token:?}");
    }
    assert_eq!(world.get(&read("log_cache"), Some(&world.user())).await.0, 404, "sources of the platform are the operator's");
    assert_eq!(world.get("/api/v1/meta", None).await.0, 404);
    assert_eq!(world.get(&read(APP), Some(&world.user())).await.0, 200);
    assert_eq!(world.batch(&read("nobody/knows/it"), &world.admin()).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_of_the_cloud_controller_is_remembered_for_a_minute() {
    let world = World::new().await;
    let (path, token) = (format!("/api/v1/read/{APP}"), world.user());
    world.json(&path, &token).await;
    world.json(&path, &token).await;
    assert_eq!(*world.access.asked.lock(), 1);
    world.clock.advance(Duration::from_secs(60));
    world.json(&path, &token).await;
    assert_eq!(*world.access.asked.lock(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_of_the_official_client_sees_each_line_once() {
    let world = World::new().await;
    let at = NOW.as_nanos() - 1_000_000;
    // All at one moment: only unique timestamps keep page borders from eating lines.
    world.publish((0..250).map(|n| line(APP, &format!("line {n}"), at)).collect()).await;
    let token = world.user();
    let newest =
        world.batch(&format!("/api/v1/read/{APP}?start_time=-6795364578871345152&limit=1&descending=true"), &token).await;
    let mut start: i64 = newest[0]["timestamp"].as_str().unwrap().parse::<i64>().unwrap() - 1_000_000_000;
    let mut seen = vec![];
    loop {
        let page = world.batch(&format!("/api/v1/read/{APP}?start_time={start}&envelope_types=LOG"), &token).await;
        let Some(last) = page.last() else { break };
        start = last["timestamp"].as_str().unwrap().parse::<i64>().unwrap() + 1;
        seen.extend(page);
    }
    let seen: BTreeSet<&str> = texts(&seen).into_iter().collect();
    assert_eq!(seen.len(), 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_shows_each_reader_what_is_theirs() {
    let world = World::new().await;
    world.publish(vec![line(OTHER, "x", 5), line("gorouter", "x", 5), line(APP, "x", 5), line(APP, "y", 6)]).await;
    let (_, mine) = world.get("/api/v1/meta", Some(&world.user())).await;
    assert_eq!(mine, format!(r#"{{"meta":{{"{APP}":{{"count":"2","oldestTimestamp":"5","newestTimestamp":"6"}}}}}}"#));
    let all = world.json("/api/v1/meta", &world.admin()).await;
    assert_eq!(all["meta"].as_object().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_seen_where_the_lines_would_be() {
    let world = World::new().await;
    let mut lost = loggregator_client::dropped(APP, "sender", 12, 5);
    lost.source_id = APP.into();
    world.publish(vec![lost]).await;
    let found = world.until(APP, 2).await;
    assert_eq!(found[0]["tags"]["source_type"], "LGR");
    assert_eq!(found[1]["counter"]["delta"], "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_lost_is_counted() {
    let world = World::new().await;
    let sent = |delta, total| {
        let mut head = loggregator_client::counter("loggregator_agent", "0", BTreeMap::new(), "sent", delta, 5);
        head.tags.insert("agent".into(), "one".into());
        if let Some(loggregator_client::Payload::Counter(counter)) = &mut head.message {
            counter.total = total;
        }
        head
    };
    world.publish(vec![sent(1, 10), line(APP, "x", 5)]).await;
    world.publish(vec![sent(1, 18), line(APP, "y", 6)]).await;
    world.clock.advance(Duration::from_secs(1));
    let counted = world.until("log_cache", 1).await;
    assert_eq!(counted[0]["counter"]["delta"], "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_queries_say_that_they_are_not_there() {
    let world = World::new().await;
    let (status, text) = world.get("/api/v1/query?query=x", Some(&world.user())).await;
    assert_eq!(status, 501);
    assert!(text.contains(r#""status":"error","errorType":"bad_data""#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_registers_its_names_with_the_routers() {
    let bus = Bus::in_memory();
    let mut heard = bus.subscribe(Register::SUBJECT).await.unwrap();
    let shutdown = Shutdown::new();
    let address: SocketAddr = ([127, 0, 0, 1], 9004).into();
    let (side, end, registered) = (bus.clone(), shutdown.clone(), route(&config(), address));
    shutdown.spawn(async move { bus::keep_registered(&side, &registered, end.requested()).await });
    let route: Register = heard.next().await.unwrap().read().unwrap();
    assert_eq!(route.uris, ["log-cache.cf.test", "log-stream.cf.test"]);
    assert_eq!(route.port, Some(9004));
    let mut gone = bus.subscribe(messages::router::UNREGISTER).await.unwrap();
    assert_eq!(shutdown.finish(Duration::from_secs(5)).await, 0);
    assert!(gone.next().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_brings_what_it_asked_for_and_closes_at_the_end() {
    let world = World::new().await;
    let path = format!("{}/v2/read?log&source_id={APP}", world.base);
    let mut answer = world.http.get(path).header("Authorization", world.user()).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    world.publish(vec![line(OTHER, "not mine", 5), line(APP, "mine", 5)]).await;
    let mut text = String::new();
    while !text.contains("data: ") {
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains(r#""payload":"bWluZQ==""#) && !text.contains(OTHER), "{text}");
    world.shutdown.request();
    let rest = answer.text().await.unwrap();
    assert!(rest.contains("event: closing"), "{rest}");
}
