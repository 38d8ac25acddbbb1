//! What is kept: the newest envelopes of each source.
//!
//! Bounded per source (envelopes, bytes) and in all (bytes, sources). What is over in all is taken from the source that has
//! most, so that a chatty app pushes out its own lines and not the metrics of quiet ones. Two envelopes of one source never
//! have the same timestamp: the later one is moved on by nanoseconds, because clients page by timestamp.

use crate::config::KeepSection;
use loggregator_client::{Envelope, LogType, Payload};
use regex::Regex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Tags, shared by all envelopes that carry the same ones.
pub type Tags = BTreeMap<String, String>;

/// One envelope as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Nanoseconds since the epoch, unique within the source.
    pub timestamp: i64,
    /// The source.
    pub source: Arc<str>,
    /// The instance.
    pub instance: Arc<str>,
    /// The tags.
    pub tags: Arc<Tags>,
    /// The body.
    pub body: Body,
}

/// The body of an envelope.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A piece of a log.
    Log {
        /// The bytes; not always UTF-8.
        payload: Box<[u8]>,
        /// OUT or ERR.
        kind: LogType,
    },
    /// What does not need to be small.
    Other(Box<Payload>),
}

/// The kinds of envelopes, as queries name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LOG
    Log,
    /// COUNTER
    Counter,
    /// GAUGE
    Gauge,
    /// TIMER
    Timer,
    /// EVENT
    Event,
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Log { .. } => Kind::Log,
            Self::Other(payload) => match **payload {
                Payload::Log(_) => Kind::Log,
                Payload::Counter(_) => Kind::Counter,
                Payload::Gauge(_) => Kind::Gauge,
                Payload::Timer(_) => Kind::Timer,
                Payload::Event(_) => Kind::Event,
            },
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Log { payload, .. } => payload.len(),
            Self::Other(payload) => {
                120 + prost::Message::encoded_len(&Envelope { message: Some((**payload).clone()), ..Default::default() })
            }
        }
    }
}

/// What one envelope costs beside its body: the map's node, the shared pointers.
const OVERHEAD: usize = 160;
/// What one source costs beside its envelopes.
const SOURCE_OVERHEAD: usize = 1_500;
/// Sets of tags of one source that are remembered to be shared.
const SHARED_TAGS: usize = 32;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// From here on.
    pub start: i64,
    /// Up to here, not included.
    pub end: i64,
    /// These kinds; all, if empty.
    pub kinds: Vec<Kind>,
    /// At most so many.
    pub limit: usize,
    /// Newest first, and the limit counts from there.
    pub descending: bool,
    /// Only counters, gauges and timers whose name matches; of a gauge, only the matching metrics.
    pub name: Option<Regex>,
}

/// What is known of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Envelopes kept.
    pub count: u64,
    /// Envelopes that had to go.
    pub expired: u64,
    /// Timestamp of the oldest.
    pub oldest: i64,
    /// Timestamp of the newest.
    pub newest: i64,
}

struct Source {
    name: Arc<str>,
    envelopes: BTreeMap<i64, Arc<Stored>>,
    bytes: usize,
    expired: u64,
    tags: Vec<Arc<Tags>>,
    instances: Vec<Arc<str>>,
    /// Original timestamp of the last envelope, and the key that it got: equal ones in a row are not searched for.
    last: (i64, i64),
    /// When something last arrived, in arrivals of all sources.
    touched: u64,
}

/// The newest envelopes of each source.
pub struct Store {
    keep: KeepSection,
    sources: HashMap<Arc<str>, Source>,
    bytes: usize,
    arrivals: u64,
}

impl Store {
    /// An empty one.
    pub fn new(keep: KeepSection) -> Self {
        Self { keep, sources: HashMap::new(), bytes: 0, arrivals: 0 }
    }

    /// Keeps an envelope; `None` for one without a body or a source.
    pub fn insert(&mut self, envelope: Envelope) -> Option<Arc<Stored>> {
        let body = match envelope.message? {
            Payload::Log(log) => {
                let kind = log.kind();
                Body::Log { payload: log.payload.into_boxed_slice(), kind }
            }
            other => Body::Other(Box::new(other)),
        };
        if envelope.source_id.is_empty() {
            return None;
        }
        self.arrivals += 1;
        let arrivals = self.arrivals;
        if !self.sources.contains_key(&*envelope.source_id) {
            self.add_source(&envelope.source_id);
        }
        let source = self.sources.get_mut(&*envelope.source_id)?;
        source.touched = arrivals;
        let size = body.size() + OVERHEAD;
        let stored = Arc::new(Stored {
            timestamp: source.free_timestamp(envelope.timestamp),
            source: source.name.clone(),
            instance: source.instance(&envelope.instance_id),
            tags: source.tags(envelope.tags),
            body,
        });
        source.envelopes.insert(stored.timestamp, stored.clone());
        source.bytes += size;
        self.bytes += size;
        let (envelopes, bytes) = (self.keep.envelopes_per_source, self.keep.bytes_per_source);
        while source.envelopes.len() > envelopes || source.bytes > bytes {
            self.bytes -= source.expire_oldest();
        }
        while self.bytes > self.keep.bytes {
            self.relieve();
        }
        Some(stored)
    }

    /// What was asked for, in its order.
    pub fn read(&self, source: &str, query: &Query) -> Vec<Arc<Stored>> {
        let Some(source) = self.sources.get(source) else { return vec![] };
        if query.start >= query.end {
            return vec![];
        }
        let range = source.envelopes.range(query.start..query.end).map(|(_, stored)| stored);
        match query.descending {
            true => range.rev().filter_map(|stored| select(stored, query)).take(query.limit).collect(),
            false => range.filter_map(|stored| select(stored, query)).take(query.limit).collect(),
        }
    }

    /// What is known of each source, by name.
    pub fn meta(&self) -> BTreeMap<Arc<str>, Meta> {
        self.sources.values().map(|source| (source.name.clone(), source.meta())).collect()
    }

    /// Bytes kept, as counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add_source(&mut self, name: &str) {
        while self.sources.len() >= self.keep.sources {
            let Some(quietest) = self.sources.values().min_by_key(|source| source.touched).map(|source| source.name.clone())
            else {
                break;
            };
            if let Some(source) = self.sources.remove(&quietest) {
                self.bytes -= source.bytes + SOURCE_OVERHEAD;
            }
        }
        let name: Arc<str> = name.into();
        let source = Source {
            name: name.clone(),
            envelopes: BTreeMap::new(),
            bytes: 0,
            expired: 0,
            tags: vec![],
            instances: vec![],
            last: (i64::MIN, i64::MIN),
            touched: 0,
        };
        self.sources.insert(name, source);
        self.bytes += SOURCE_OVERHEAD;
    }

    /// Takes an eighth from the source that has most, so that it is searched for seldom.
    fn relieve(&mut self) {
        let Some(fullest) = self.sources.values_mut().max_by_key(|source| source.bytes) else { return };
        let target = fullest.bytes - fullest.bytes / 8;
        while !fullest.envelopes.is_empty() && fullest.bytes >= target {
            self.bytes -= fullest.expire_oldest();
        }
        if fullest.envelopes.is_empty() {
            let name = fullest.name.clone();
            self.sources.remove(&name);
            self.bytes = self.bytes.saturating_sub(SOURCE_OVERHEAD);
        }
    }
}

impl Source {
    fn free_timestamp(&mut self, wanted: i64) -> i64 {
        let mut key = if self.last.0 == wanted { self.last.1.saturating_add(1) } else { wanted };
        while self.envelopes.contains_key(&key) {
            key = key.wrapping_add(1);
        }
        self.last = (wanted, key);
        key
    }

    fn instance(&mut self, id: &str) -> Arc<str> {
        shared(&mut self.instances, |known| &**known == id, || id.into())
    }

    fn tags(&mut self, tags: Tags) -> Arc<Tags> {
        if let Some(at) = self.tags.iter().position(|known| **known == tags) {
            return self.tags[at].clone();
        }
        if self.tags.len() >= SHARED_TAGS {
            self.tags.remove(0);
        }
        let tags = Arc::new(tags);
        self.tags.push(tags.clone());
        tags
    }

    fn expire_oldest(&mut self) -> usize {
        let Some((_, stored)) = self.envelopes.pop_first() else { return 0 };
        let size = stored.body.size() + OVERHEAD;
        self.bytes -= size;
        self.expired += 1;
        size
    }

    fn meta(&self) -> Meta {
        Meta {
            count: self.envelopes.len() as u64,
            expired: self.expired,
            oldest: self.envelopes.first_key_value().map_or(0, |(key, _)| *key),
            newest: self.envelopes.last_key_value().map_or(0, |(key, _)| *key),
        }
    }
}

fn shared(known: &mut Vec<Arc<str>>, is: impl Fn(&Arc<str>) -> bool, make: impl Fn() -> Arc<str>) -> Arc<str> {
    if let Some(found) = known.iter().find(|known| is(known)) {
        return found.clone();
    }
    if known.len() >= SHARED_TAGS {
        known.remove(0);
    }
    known.push(make());
    known[known.len() - 1].clone()
}

fn select(stored: &Arc<Stored>, query: &Query) -> Option<Arc<Stored>> {
    if !query.kinds.is_empty() && !query.kinds.contains(&stored.body.kind()) {
        return None;
    }
    let Some(name) = &query.name else { return Some(stored.clone()) };
    let Body::Other(payload) = &stored.body else { return None };
    match &**payload {
        Payload::Counter(counter) => name.is_match(&counter.name).then(|| stored.clone()),
        Payload::Timer(timer) => name.is_match(&timer.name).then(|| stored.clone()),
        Payload::Gauge(gauge) => {
            let mut gauge = gauge.clone();
            gauge.metrics.retain(|metric, _| name.is_match(metric));
            let body = Body::Other(Box::new(Payload::Gauge(gauge.clone())));
            (!gauge.metrics.is_empty()).then(|| Arc::new(Stored { body, ..(**stored).clone() }))
        }
        Payload::Log(_) | Payload::Event(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loggregator_client::{counter, gauge, log_line};

    fn keep() -> KeepSection {
        KeepSection { envelopes_per_source: 1_000, bytes_per_source: 1 << 20, bytes: 2 << 20, sources: 3 }
    }

    fn line(source: &str, at: i64, text: &str) -> Envelope {
        log_line(source, "0", "APP", Tags::new(), text.as_bytes(), LogType::Out, at)
    }

    fn all() -> Query {
        Query { start: i64::MIN, end: i64::MAX, kinds: vec![], limit: 1_000, descending: false, name: None }
    }

    fn times(store: &Store, source: &str, query: &Query) -> Vec<i64> {
        store.read(source, query).iter().map(|stored| stored.timestamp).collect()
    }

    fn filled() -> Store {
        let mut store = Store::new(keep());
        for at in 1..=5 {
            store.insert(line("a", at * 10, "x"));
        }
        store
    }

    #[test]
    fn a_range_includes_its_start_and_not_its_end() {
        let store = filled();
        assert_eq!(times(&store, "a", &Query { start: 20, end: 40, ..all() }), [20, 30]);
        assert_eq!(times(&store, "a", &Query { start: 40, end: 20, ..all() }), [0; 0]);
        assert_eq!(times(&store, "nobody", &all()), [0; 0]);
    }

    #[test]
    fn a_limit_counts_from_the_end_when_descending() {
        let store = filled();
        assert_eq!(times(&store, "a", &Query { limit: 2, ..all() }), [10, 20]);
        assert_eq!(times(&store, "a", &Query { limit: 2, descending: true, ..all() }), [50, 40]);
    }

    #[test]
    fn equal_timestamps_are_moved_apart_so_that_no_page_border_loses_one() {
        let mut store = Store::new(keep());
        for text in ["one", "two", "three"] {
            store.insert(line("a", 10, text));
        }
        store.insert(line("a", 11, "four"));
        assert_eq!(times(&store, "a", &all()), [10, 11, 12, 13]);
    }

    #[test]
    fn only_the_wanted_kinds_and_names() {
        let mut store = filled();
        store.insert(counter("a", "0", Tags::new(), "requests", 1, 60));
        store.insert(gauge("a", "0", Tags::new(), &[("cpu", "percentage", 1.0), ("memory", "bytes", 2.0)], 70));
        assert_eq!(times(&store, "a", &Query { kinds: vec![Kind::Counter, Kind::Gauge], ..all() }), [60, 70]);
        let named = store.read("a", &Query { name: Some(Regex::new("^(cpu|req)").unwrap()), ..all() });
        assert_eq!(named.len(), 2);
        let Body::Other(payload) = &named[1].body else { panic!() };
        let Payload::Gauge(gauge) = &**payload else { panic!() };
        assert_eq!(gauge.metrics.keys().collect::<Vec<_>>(), ["cpu"]);
    }

    #[test]
    fn one_source_keeps_its_newest_only() {
        let mut store = Store::new(keep());
        for at in 0..1_500 {
            store.insert(line("a", at, "x"));
        }
        assert_eq!(store.meta()["a"], Meta { count: 1_000, expired: 500, oldest: 500, newest: 1_499 });
        for at in 0..300 {
            store.insert(line("b", at, &"x".repeat(10_000)));
        }
        let meta = store.meta()["b"];
        assert!(meta.count > 90 && meta.count < 105, "{meta:?}");
        assert_eq!(meta.count + meta.expired, 300);
    }

    #[test]
    fn a_chatty_source_pushes_out_its_own_lines_and_not_those_of_a_quiet_one() {
        let mut store = Store::new(KeepSection { bytes_per_source: 2 << 20, ..keep() });
        for at in 0..10 {
            store.insert(line("quiet", at, "x"));
        }
        for at in 0..2_000 {
            store.insert(line("chatty", at, &"x".repeat(10_000)));
        }
        assert_eq!(store.meta()["quiet"].count, 10);
        assert!(store.meta()["chatty"].expired > 0);
        assert!(store.bytes() <= 2 << 20);
    }

    #[test]
    fn the_quietest_source_goes_when_there_are_too_many() {
        let mut store = Store::new(keep());
        for source in ["a", "b", "c"] {
            store.insert(line(source, 1, "x"));
        }
        store.insert(line("a", 2, "x"));
        store.insert(line("d", 1, "x"));
        assert_eq!(store.meta().keys().map(|name| &**name).collect::<Vec<_>>(), ["a", "c", "d"]);
    }

    #[test]
    fn the_books_are_right_when_all_is_gone() {
        let mut store = Store::new(keep());
        for at in 0..5_000 {
            store.insert(line(&format!("s{}", at % 7), at, &"x".repeat((at % 3_000) as usize)));
        }
        let kept: usize = store.sources.values().map(|source| source.bytes + SOURCE_OVERHEAD).sum();
        assert_eq!(store.bytes(), kept);
        for source in store.sources.values() {
            let bytes: usize = source.envelopes.values().map(|stored| stored.body.size() + OVERHEAD).sum();
            assert_eq!(source.bytes, bytes);
        }
    }
}
