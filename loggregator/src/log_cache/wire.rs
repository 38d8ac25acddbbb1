//! The JSON of the API. Clients decode it strictly: one unknown field, and the whole answer is refused.
//!
//! 64-bit integers are strings, payloads base64, all fields of an envelope are written even when empty; only the answer of
//! `meta` leaves zeros out and names its fields in camel case.
//!
//! Source: cloudfoundry/log-cache-release, `src/internal/gateway/gateway.go`; cloudfoundry/loggregator-api, `v2/envelope.proto`.

use super::store::{Body, Meta, Stored};
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use loggregator_client::{LogType, Payload};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{collections::BTreeMap, sync::Arc};

/// `{"batch": [...]}`
#[derive(Serialize)]
pub(super) struct Batch<'a> {
    pub(super) batch: Vec<Envelope<'a>>,
}

impl<'a> Batch<'a> {
    pub(super) fn of(stored: &'a [Arc<Stored>]) -> Self {
        Self { batch: stored.iter().map(|stored| Envelope(stored)).collect() }
    }
}

/// `{"envelopes": {"batch": [...]}}`
#[derive(Serialize)]
pub(super) struct Read<'a> {
    pub(super) envelopes: Batch<'a>,
}

pub(super) struct Envelope<'a>(&'a Stored);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = self.0;
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("timestamp", &stored.timestamp.to_string())?;
        map.serialize_entry("source_id", &*stored.source)?;
        map.serialize_entry("instance_id", &*stored.instance)?;
        map.serialize_entry("deprecated_tags", &BTreeMap::<String, String>::new())?;
        map.serialize_entry("tags", &*stored.tags)?;
        match &stored.body {
            Body::Log { payload, kind } => map.serialize_entry("log", &log(payload, *kind))?,
            Body::Other(payload) => match &**payload {
                Payload::Log(it) => map.serialize_entry("log", &log(&it.payload, it.kind()))?,
                Payload::Counter(it) => map.serialize_entry("counter", &counter(it))?,
                Payload::Gauge(it) => map.serialize_entry("gauge", &gauge(it))?,
                Payload::Timer(it) => map.serialize_entry("timer", &timer(it))?,
                Payload::Event(it) => map.serialize_entry("event", &Event { title: &it.title, body: &it.body })?,
            },
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Log<'a> {
    #[serde(serialize_with = "base64")]
    payload: &'a [u8],
    #[serde(rename = "type")]
    kind: &'static str,
}

fn base64<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(bytes, &STANDARD))
}

fn log(payload: &[u8], kind: LogType) -> Log<'_> {
    Log { payload, kind: if kind == LogType::Err { "ERR" } else { "OUT" } }
}

#[derive(Serialize)]
struct Counter<'a> {
    name: &'a str,
    delta: String,
    total: String,
}

fn counter(counter: &loggregator_client::Counter) -> Counter<'_> {
    Counter { name: &counter.name, delta: counter.delta.to_string(), total: counter.total.to_string() }
}

#[derive(Serialize)]
struct Gauge<'a> {
    metrics: BTreeMap<&'a str, GaugeValue<'a>>,
}

#[derive(Serialize)]
struct GaugeValue<'a> {
    unit: &'a str,
    #[serde(serialize_with = "double")]
    value: f64,
}

fn gauge(gauge: &loggregator_client::Gauge) -> Gauge<'_> {
    let value = |it: &loggregator_client::GaugeValue| it.value;
    let metrics = gauge.metrics.iter().map(|(name, it)| (name.as_str(), GaugeValue { unit: &it.unit, value: value(it) }));
    Gauge { metrics: metrics.collect() }
}

/// JSON has no word for what is not a number; protobuf's JSON says it in quotes.
fn double<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        value if value.is_nan() => serializer.serialize_str("NaN"),
        value if value.is_infinite() => serializer.serialize_str(if *value > 0.0 { "Infinity" } else { "-Infinity" }),
        value if value.fract() == 0.0 && value.abs() < 9e15 => serializer.serialize_i64(*value as i64),
        value => serializer.serialize_f64(*value),
    }
}

#[derive(Serialize)]
struct Timer<'a> {
    name: &'a str,
    start: String,
    stop: String,
}

fn timer(timer: &loggregator_client::Timer) -> Timer<'_> {
    Timer { name: &timer.name, start: timer.start.to_string(), stop: timer.stop.to_string() }
}

#[derive(Serialize)]
struct Event<'a> {
    title: &'a str,
    body: &'a str,
}

/// `{"meta": {"<source>": {...}}}`
#[derive(Serialize)]
pub(super) struct MetaAnswer {
    pub(super) meta: BTreeMap<String, MetaInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expired: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest_timestamp: Option<String>,
}

impl From<Meta> for MetaInfo {
    fn from(meta: Meta) -> Self {
        let unsigned = |n: u64| (n != 0).then(|| n.to_string());
        let signed = |n: i64| (n != 0).then(|| n.to_string());
        Self {
            count: unsigned(meta.count),
            expired: unsigned(meta.expired),
            oldest_timestamp: signed(meta.oldest),
            newest_timestamp: signed(meta.newest),
        }
    }
}

/// `{"version": "...", "vm_uptime": "..."}`
#[derive(Serialize)]
pub(super) struct Info {
    pub(super) version: &'static str,
    pub(super) vm_uptime: String,
}

/// An error as a gateway to gRPC writes it.
#[derive(Serialize)]
pub(super) struct Status {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) details: [(); 0],
}

/// A failed metrics query.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryError {
    pub(super) status: &'static str,
    pub(super) error_type: &'static str,
    pub(super) error: &'static str,
}

/// An error of the stream gateway.
#[derive(Serialize)]
pub(super) struct StreamError {
    pub(super) error: &'static str,
    pub(super) message: &'static str,
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;
    use crate::config::KeepSection;
    use loggregator_client::{Envelope as Sent, build};

    fn json(envelope: Sent) -> String {
        let mut store = Store::new(KeepSection::default());
        let stored = vec![store.insert(envelope).unwrap()];
        serde_json::to_string(&Read { envelopes: Batch::of(&stored) }).unwrap()
    }

    fn tags() -> BTreeMap<String, String> {
        BTreeMap::from([("app_name".into(), "shop".into())])
    }

    #[test]
    fn a_log_line() {
        let line = build::log_line("guid", "2", "APP/PROC/WEB", tags(), b"hi\xff", LogType::Err, 1_718_000_000_000_000_000);
        assert_eq!(
            json(line),
            r#"{"envelopes":{"batch":[{"timestamp":"1718000000000000000","source_id":"guid","instance_id":"2","deprecated_tags":{},"tags":{"app_name":"shop","source_type":"APP/PROC/WEB"},"log":{"payload":"aGn/","type":"ERR"}}]}}"#
        );
    }

    #[test]
    fn a_gauge_and_a_counter() {
        let metrics = [("cpu", "percentage", 0.25), ("memory", "bytes", 1_048_576.0), ("odd", "x", f64::NAN)];
        assert!(json(build::gauge("g", "0", tags(), &metrics, 5)).contains(
            r#""gauge":{"metrics":{"cpu":{"unit":"percentage","value":0.25},"memory":{"unit":"bytes","value":1048576},"odd":{"unit":"x","value":"NaN"}}}"#
        ));
        let counted = json(build::counter("g", "0", tags(), "requests", 3, 5));
        assert!(counted.contains(r#""counter":{"name":"requests","delta":"3","total":"0"}"#), "{counted}");
    }

    #[test]
    fn a_timer_and_an_event() {
        let of = |message| Sent { timestamp: 1, source_id: "g".into(), message: Some(message), ..Default::default() };
        let timer = loggregator_client::Timer { name: "http".into(), start: -1, stop: 2 };
        assert!(json(of(Payload::Timer(timer))).contains(r#""timer":{"name":"http","start":"-1","stop":"2"}"#));
        let event = loggregator_client::Event { title: "t".into(), body: "b".into() };
        let told = json(of(Payload::Event(event)));
        assert!(told.contains(r#""instance_id":"","deprecated_tags":{},"tags":{},"event":{"title":"t","body":"b"}"#), "{told}");
    }

    #[test]
    fn zeros_are_left_out_of_meta() {
        let meta = Meta { count: 2, expired: 0, oldest: 5, newest: 6 };
        let answer = MetaAnswer { meta: BTreeMap::from([("a".into(), meta.into())]) };
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"meta":{"a":{"count":"2","oldestTimestamp":"5","newestTimestamp":"6"}}}"#
        );
    }
}
