//! `/v2/read`: envelopes as they come, as server-sent events.
//!
//! The standard client reads line by line, skips two lines after a heartbeat, and stops at `event: closing`: there are no
//! comments, ids or data over several lines. What a slow reader misses is counted and told.
//!
//! Source: cloudfoundry/loggregator-release, `src/rlp-gateway/internal/web/read.go`; cloudfoundry/go-loggregator,
//! `rlp_gateway_client.go`.

use super::{
    Shared,
    access::Denied,
    api::authorization,
    store::{Body, Kind, Store, Stored},
    wire::{Batch, StreamError},
};
use crate::config::KeepSection;
use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{Bytes, Data},
};
use loggregator_client::{Payload, build};
use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

/// After so long without data a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Streams end by themselves before routers end them.
const LIFETIME: Duration = Duration::from_secs(14 * 60);

/// What a stream wants.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    kinds: Vec<Kind>,
    counters: BTreeSet<String>,
    gauges: BTreeSet<String>,
    sources: BTreeSet<String>,
}

pub(super) async fn read(shared: Data<Shared>, request: HttpRequest) -> HttpResponse {
    if request.method() != Method::GET {
        return failure(405, "method_not_allowed", "method not allowed");
    }
    let wanted = match Wanted::parse(request.query_string()) {
        Ok(wanted) => wanted,
        Err((error, message)) => return failure(400, error, message),
    };
    let checked = async {
        let reader = shared.access.reader(authorization(&request)).await?;
        if wanted.sources.is_empty() && !reader.admin {
            return Err(Denied::NotFound);
        }
        for source in &wanted.sources {
            shared.access.check(&reader, source).await?;
        }
        Ok(())
    };
    match checked.await {
        Ok(()) => {}
        Err(Denied::NotFound) => return failure(404, "not_found", "resource not found"),
        Err(Denied::Unavailable) => return failure(503, "streaming_unavailable", "streaming is temporarily unavailable"),
    }
    let live = shared.live.subscribe();
    let stream = Stream { shared: shared.into_inner(), live, wanted, end: Instant::now() + LIFETIME, phase: Phase::Opening };
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONNECTION, "keep-alive"))
        .streaming(futures::stream::unfold(stream, Stream::next))
}

fn failure(status: u16, error: &'static str, message: &'static str) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap_or_default()).json(StreamError { error, message })
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, (&'static str, &'static str)> {
        if query.is_empty() {
            return Err(("empty_query", "query cannot be empty"));
        }
        let mut wanted = Self::default();
        let mut kinds = BTreeSet::new();
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "log" => drop(kinds.insert(0)),
                "counter" => drop(kinds.insert(1)),
                "gauge" => drop(kinds.insert(2)),
                "timer" => drop(kinds.insert(3)),
                "event" => drop(kinds.insert(4)),
                "counter.name" if value.is_empty() => return Err(("missing_counter_name", "counter.name is missing value")),
                "counter.name" => drop(wanted.counters.insert(value.into_owned())),
                "gauge.name" if value.is_empty() => return Err(("missing_gauge_name", "gauge.name is missing value")),
                "gauge.name" => wanted.gauges.extend(value.split(',').map(str::to_owned)),
                "source_id" if !value.is_empty() => drop(wanted.sources.insert(value.into_owned())),
                _ => {}
            }
        }
        kinds.extend((!wanted.counters.is_empty()).then_some(1));
        kinds.extend((!wanted.gauges.is_empty()).then_some(2));
        if kinds.is_empty() {
            return Err(("missing_envelope_type", "query must provide at least one envelope type"));
        }
        let all = [Kind::Log, Kind::Counter, Kind::Gauge, Kind::Timer, Kind::Event];
        wanted.kinds = kinds.into_iter().map(|at: usize| all[at]).collect();
        Ok(wanted)
    }

    fn wants(&self, stored: &Stored) -> bool {
        if !self.kinds.contains(&stored.body.kind()) || !(self.sources.is_empty() || self.sources.contains(&*stored.source)) {
            return false;
        }
        let Body::Other(payload) = &stored.body else { return true };
        match &**payload {
            Payload::Counter(counter) => self.counters.is_empty() || self.counters.contains(&counter.name),
            Payload::Gauge(gauge) => self.gauges.is_empty() || gauge.metrics.keys().any(|name| self.gauges.contains(name)),
            _ => true,
        }
    }
}

struct Stream {
    shared: Arc<Shared>,
    live: Receiver<super::Batch>,
    wanted: Wanted,
    end: Instant,
    phase: Phase,
}

#[derive(PartialEq)]
enum Phase {
    Opening,
    Open,
    Closed,
}

impl Stream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        match self.phase {
            // An empty line makes the headers go out, and no client minds it.
            Phase::Opening => {
                self.phase = Phase::Open;
                return Some((Ok(Bytes::from_static(b"\n")), self));
            }
            Phase::Closed => return None,
            Phase::Open => {}
        }
        let heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let ending = self.shared.ending.clone();
            let batch = tokio::select! {
                batch = self.live.recv() => batch,
                () = tokio::time::sleep_until(self.end) => return Some(self.close()),
                () = ending.requested() => return Some(self.close()),
                () = tokio::time::sleep_until(heartbeat) => {
                    let beat = format!("event: heartbeat\ndata: {}\n\n", self.shared.clock.now().as_secs());
                    return Some((Ok(beat.into()), self));
                }
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(RecvError::Lagged(batches)) => self.told_lag(batches),
                Err(RecvError::Closed) => return Some(self.close()),
            };
            let mine: Vec<Arc<Stored>> = batch.iter().filter(|stored| self.wanted.wants(stored)).cloned().collect();
            if mine.is_empty() {
                continue;
            }
            let data = serde_json::to_string(&Batch::of(&mine)).unwrap_or_default();
            return Some((Ok(format!("data: {data}\n\n").into()), self));
        }
    }

    fn close(mut self) -> (Result<Bytes, Infallible>, Self) {
        self.phase = Phase::Closed;
        (Ok(Bytes::from_static(b"event: closing\ndata: closing due to stream timeout\n\n")), self)
    }

    /// A gap of whole batches, as a counter of the cache's own.
    fn told_lag(&self, batches: u64) -> super::Batch {
        let counter = build::dropped("log_cache", "stream", batches, self.shared.clock.now().as_nanos());
        Arc::new(Store::new(KeepSection::default()).insert(counter).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_must_say_what_it_wants() {
        let error = |query: &str| Wanted::parse(query).unwrap_err().0;
        assert_eq!(error(""), "empty_query");
        assert_eq!(error("source_id=a"), "missing_envelope_type");
        assert_eq!(error("counter.name="), "missing_counter_name");
        assert_eq!(error("gauge.name"), "missing_gauge_name");
    }

    #[test]
    fn a_name_filter_implies_its_kind() {
        let wanted = Wanted::parse("gauge.name=cpu,memory&log&source_id=a&shard_id=x").unwrap();
        assert_eq!(wanted.kinds, [Kind::Log, Kind::Gauge]);
        assert_eq!(wanted.gauges.len(), 2);
        let mut store = Store::new(KeepSection::default());
        let mut of = |source: &str, name: &str| {
            store.insert(build::gauge(source, "0", Default::default(), &[(name, "", 1.0)], 1)).unwrap()
        };
        assert!(wanted.wants(&of("a", "cpu")));
        assert!(!wanted.wants(&of("a", "disk")));
        assert!(!wanted.wants(&of("b", "cpu")));
    }
}
