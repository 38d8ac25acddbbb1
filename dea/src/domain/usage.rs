//! Samples -> usage and metrics.
//!
//! Source: specs of logging, "Metrics of app instances" (names, units, and which travel together).

use crate::domain::{claim::Slot, room::Capacity};
use loggregator_client::{Envelope, gauge};
use messages::dea::Usage;
use std::collections::BTreeMap;
use types::Timestamp;
use warden_client::Metrics;

/// What an instance used so far, as two samples tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    last: Option<(Timestamp, Metrics)>,
    /// From the newest two samples; memory and disk alone from the first.
    pub usage: Option<Usage>,
}

/// Share of the host's cores that an instance of this size is entitled to, in cores.
pub fn entitlement(memory_mb: u32, capacity: &Capacity) -> f64 {
    let memory = (u64::from(memory_mb) << 20).min(8 << 30) as f64;
    match capacity.host_memory_bytes {
        0 => 0.0,
        host => memory * f64::from(capacity.cores) / host as f64,
    }
}

impl Meter {
    /// Takes a sample in.
    pub fn sample(&mut self, at: Timestamp, metrics: Metrics, entitlement: f64) {
        let mut usage =
            Usage { at, memory_bytes: metrics.memory_bytes, disk_bytes: metrics.disk_bytes, ..self.usage.unwrap_or_default() };
        if let Some((before, old)) = self.last {
            let seconds = at.since(before).as_secs_f64();
            if seconds > 0.0 {
                // A counter that went back belongs to a container that was made anew: nothing is known of it yet.
                usage.cpu = metrics.cpu_nanos.saturating_sub(old.cpu_nanos) as f64 / 1e9 / seconds;
                usage.cpu_entitlement = if entitlement > 0.0 { usage.cpu / entitlement } else { 0.0 };
                usage.log_rate_bytes = (metrics.log_bytes.saturating_sub(old.log_bytes) as f64 / seconds) as u64;
            }
        }
        self.last = Some((at, metrics));
        self.usage = Some(usage);
    }
}

/// The metrics of one instance, three envelopes.
pub fn gauges(
    slot: &Slot,
    tags: &BTreeMap<String, String>,
    usage: &Usage,
    log_rate_limit: i64,
    created_at: Timestamp,
    now: Timestamp,
) -> Vec<Envelope> {
    let (source, index) = (slot.app.to_string(), slot.index.to_string());
    let bytes = |mb: u32| (u64::from(mb) << 20) as f64;
    let one = |metrics: &[(&str, &str, f64)]| gauge(&source, &index, tags.clone(), metrics, now.as_nanos());
    vec![
        one(&[
            ("cpu", "percentage", usage.cpu * 100.0),
            ("memory", "bytes", usage.memory_bytes as f64),
            ("disk", "bytes", usage.disk_bytes as f64),
            ("memory_quota", "bytes", bytes(slot.memory_mb)),
            ("disk_quota", "bytes", bytes(slot.disk_mb)),
        ]),
        one(&[
            ("cpu_entitlement", "percentage", usage.cpu_entitlement * 100.0),
            ("container_age", "nanoseconds", now.since(created_at).as_nanos() as f64),
        ]),
        one(&[("log_rate", "B/s", usage.log_rate_bytes as f64), ("log_rate_limit", "B/s", log_rate_limit as f64)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use loggregator_client::Payload;

    #[test]
    fn shares_come_from_two_samples() {
        let capacity = Capacity { cores: 4, host_memory_bytes: 16 << 30, ..Capacity::default() };
        let entitled = entitlement(2048, &capacity);
        assert_eq!(entitled, 0.5);
        let mut meter = Meter::default();
        let metrics = |cpu_nanos, log_bytes| Metrics { cpu_nanos, memory_bytes: 7, disk_bytes: 8, pids: 1, log_bytes };
        meter.sample(Timestamp::from_secs(10), metrics(0, 0), entitled);
        assert_eq!(meter.usage.map(|usage| (usage.cpu, usage.memory_bytes)), Some((0.0, 7)));
        meter.sample(Timestamp::from_secs(14), metrics(1_000_000_000, 400), entitled);
        let usage = meter.usage.unwrap();
        assert_eq!((usage.cpu, usage.cpu_entitlement, usage.log_rate_bytes), (0.25, 0.5, 100));
        meter.sample(Timestamp::from_secs(15), metrics(0, 0), entitled);
        assert_eq!(meter.usage.unwrap().cpu, 0.0);
    }

    #[test]
    fn the_first_envelope_has_exactly_the_five_names_that_old_clients_read() {
        let slot = crate::domain::core::tests::slot();
        let envelopes = gauges(&slot, &BTreeMap::new(), &Usage::default(), -1, Timestamp(0), Timestamp(1));
        let Some(Payload::Gauge(first)) = &envelopes[0].message else { panic!() };
        assert_eq!(first.metrics.keys().collect::<Vec<_>>(), ["cpu", "disk", "disk_quota", "memory", "memory_quota"]);
        assert_eq!(envelopes.len(), 3);
    }
}
