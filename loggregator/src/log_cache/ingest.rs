//! From the bus into the store; finds what got lost on the way.

use super::{Shared, store::Stored};
use crate::agent::{AGENT, SENT};
use bus::Bus;
use foundation::Shutdown;
use loggregator_client::{DROPPED, ENVELOPES_SUBJECT, Envelope, EnvelopeBatch, LogType, Payload, build};
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tracing::warn;

/// Agents whose counts are followed; then the table begins anew.
const AGENTS: usize = 10_000;
/// Source of the cache's own counters.
const CACHE: &str = "log_cache";

pub(super) async fn run(bus: Bus, shared: Arc<Shared>, shutdown: Shutdown) {
    let mut ingest = Ingest::default();
    while !shutdown.is_requested() {
        let Ok(mut batches) = bus.subscribe(ENVELOPES_SUBJECT).await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        loop {
            let delivery = tokio::select! {
                delivery = batches.next() => delivery,
                () = shutdown.requested() => return,
            };
            let Some(delivery) = delivery else { break };
            match EnvelopeBatch::decode(delivery.payload) {
                Ok(batch) => ingest.keep(batch.batch, &shared),
                Err(e) => warn!(error = &e as &dyn std::error::Error, "an unreadable batch was left out"),
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Ingest {
    /// What each agent had sent when last heard.
    sent: HashMap<String, u64>,
}

impl Ingest {
    pub(super) fn keep(&mut self, batch: Vec<Envelope>, shared: &Shared) {
        let now = shared.clock.now().as_nanos();
        let mut envelopes = Vec::with_capacity(batch.len());
        for envelope in batch {
            match &envelope.message {
                Some(Payload::Counter(counter)) if envelope.source_id == AGENT && counter.name == SENT => {
                    let agent = envelope.tags.get("agent").cloned().unwrap_or_default();
                    let missed = self.missed(agent, counter.total, counter.delta);
                    if missed > 0 {
                        warn!(missed, "envelopes were lost between an agent and the log cache");
                        envelopes.push(build::dropped(CACHE, "bus", missed, now));
                    }
                }
                Some(Payload::Counter(counter)) if counter.name == DROPPED => {
                    envelopes.extend(notice(&envelope, counter.delta));
                    envelopes.push(envelope);
                }
                Some(_) => envelopes.push(envelope),
                None => {}
            }
        }
        let mut store = shared.store.lock();
        let stored: Vec<Arc<Stored>> = envelopes.into_iter().filter_map(|envelope| store.insert(envelope)).collect();
        drop(store);
        if shared.live.receiver_count() > 0 && !stored.is_empty() {
            let _ = shared.live.send(Arc::new(stored));
        }
    }

    /// An agent tells with each batch how much it has sent in all: the difference is what did not arrive.
    fn missed(&mut self, agent: String, total: u64, delta: u64) -> u64 {
        if self.sent.len() >= AGENTS && !self.sent.contains_key(&agent) {
            self.sent.clear();
        }
        let before = total.saturating_sub(delta);
        let known = self.sent.insert(agent, total);
        known.map_or(0, |known| before.saturating_sub(known))
    }
}

/// A gap that the app's owner sees where the lines would be.
///
/// Source: cloudfoundry/loggregator-agent-release, `src/pkg/ingress/v2/log_client.go` (source type LGR, instance 0, ERR).
fn notice(counter: &Envelope, lost: u64) -> Option<Envelope> {
    counter.source_id.parse::<types::AppId>().ok()?;
    let text = format!("{lost} log messages or metrics of this app were lost on their way here");
    let tags = BTreeMap::new();
    Some(build::log_line(&counter.source_id, "0", "LGR", tags, text.as_bytes(), LogType::Err, counter.timestamp))
}
