//! What waits for the bus: bounded, the oldest goes first, and every loss is counted.

use crate::config::AgentConfig;
use loggregator_client::{Counter, Envelope, EnvelopeBatch, Payload, build};
use parking_lot::Mutex;
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};
use tokio::sync::Notify;

/// Counters whose totals are kept; then the table begins anew.
///
/// Source: cloudfoundry/loggregator-agent-release, `src/pkg/egress/v2/counter_aggregator.go`.
const COUNTERS: usize = 10_000;
/// Sources whose losses are counted apart; further ones are counted together under an empty source.
const COUNTED_SOURCES: usize = 1_000;
/// Name of the counter at the head of each batch: by its total the cache sees what got lost on the bus.
pub(crate) const SENT: &str = "sent";
/// Source of the agents' own counters.
pub(crate) const AGENT: &str = "loggregator_agent";

/// Envelopes that wait for the bus.
pub struct Queue {
    most_envelopes: usize,
    most_bytes: usize,
    tags: BTreeMap<String, String>,
    /// Names this run of the agent.
    name: String,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Envelope, usize)>,
    bytes: usize,
    lost: BTreeMap<String, u64>,
    totals: HashMap<u64, u64>,
    sent: u64,
    newest: i64,
}

impl Queue {
    pub(crate) fn new(config: &AgentConfig, name: String) -> Self {
        Self {
            most_envelopes: config.queue_envelopes,
            most_bytes: config.queue_bytes,
            tags: config.tags.clone(),
            name,
            state: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Takes envelopes in. `now` stands in for a missing timestamp.
    pub(crate) fn push(&self, envelopes: Vec<Envelope>, now: i64) {
        let mut state = self.state.lock();
        state.newest = now;
        for mut envelope in envelopes {
            if envelope.timestamp == 0 {
                envelope.timestamp = now;
            }
            for (name, value) in &self.tags {
                if !envelope.tags.contains_key(name) {
                    envelope.tags.insert(name.clone(), value.clone());
                }
            }
            state.add_up(&mut envelope);
            let size = envelope.encoded_len() + 8;
            state.bytes += size;
            state.waiting.push_back((envelope, size));
        }
        while state.waiting.len() > self.most_envelopes || state.bytes > self.most_bytes {
            state.lose_oldest();
        }
        drop(state);
        self.filled.notify_one();
    }

    /// A datagram that is not a batch.
    pub(crate) fn unreadable(&self) {
        self.state.lock().lose(AGENT, 1);
        self.filled.notify_one();
    }

    /// Returns once something may wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The next batch, encoded: news of losses first, then envelopes, at most `most` bytes unless one alone is larger.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && state.lost.is_empty() {
            return None;
        }
        let newest = state.newest;
        let losses = std::mem::take(&mut state.lost);
        let mut batch: Vec<Envelope> = losses
            .into_iter()
            .map(|(source, lost)| {
                let mut envelope = build::dropped(&source, "agent", lost, newest);
                state.add_up(&mut envelope);
                envelope
            })
            .collect();
        let mut bytes = 0;
        while let Some((_, size)) = state.waiting.front()
            && (bytes == 0 || bytes + size <= most)
        {
            let Some((envelope, size)) = state.waiting.pop_front() else { break };
            state.bytes -= size;
            bytes += size;
            batch.push(envelope);
        }
        state.sent += batch.len() as u64;
        let counter = Counter { name: SENT.into(), delta: batch.len() as u64, total: state.sent };
        let tags = BTreeMap::from([("agent".to_owned(), self.name.clone())]);
        let head = Envelope {
            timestamp: newest,
            source_id: AGENT.into(),
            instance_id: "0".into(),
            tags,
            message: Some(Payload::Counter(counter)),
        };
        drop(state);
        batch.insert(0, head);
        Some(EnvelopeBatch { batch }.encode_to_vec())
    }
}

impl State {
    fn lose_oldest(&mut self) {
        let Some((envelope, size)) = self.waiting.pop_front() else { return };
        self.bytes -= size;
        // News of an earlier loss must not get lost with it.
        let lost = match &envelope.message {
            Some(Payload::Counter(counter)) if counter.name == loggregator_client::DROPPED => counter.delta,
            _ => 1,
        };
        self.lose(&envelope.source_id, lost);
    }

    fn lose(&mut self, source: &str, count: u64) {
        let known = self.lost.contains_key(source) || self.lost.len() < COUNTED_SOURCES;
        *self.lost.entry(if known { source.to_owned() } else { String::new() }).or_default() += count;
    }

    /// Emitters send what came to a counter; the total is added up here, unless they know it.
    fn add_up(&mut self, envelope: &mut Envelope) {
        let Some(Payload::Counter(counter)) = &mut envelope.message else { return };
        let mut hasher = DefaultHasher::new();
        (&envelope.source_id, &counter.name, &envelope.tags).hash(&mut hasher);
        let key = hasher.finish();
        if self.totals.len() >= COUNTERS && !self.totals.contains_key(&key) {
            self.totals.clear();
        }
        let total = self.totals.entry(key).or_default();
        *total = if counter.total > 0 { counter.total } else { total.saturating_add(counter.delta) };
        counter.total = *total;
    }
}
