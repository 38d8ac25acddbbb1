//! What others are told: advertisements, heartbeats, metrics, log lines.

use super::{Core, Effect, Instance};
use crate::domain::{container, phase::Phase, usage};
use loggregator_client::{LogType, log_line};
use messages::dea::{Advertise, Heartbeat, InstanceReport};
use std::collections::BTreeMap;
use types::{DeaId, InstanceId, Timestamp};
use warden_client::Metrics;

impl Core {
    /// True once an evacuation has nothing left to do.
    pub fn is_evacuated(&self) -> bool {
        self.evacuating && self.works.is_empty() && self.instances.values().all(|i| matches!(i.phase, Phase::Crashed(_)))
    }

    /// True while it takes no new work.
    pub fn is_evacuating(&self) -> bool {
        self.evacuating
    }

    /// What this DEA has to offer.
    pub fn advertisement(&self) -> Advertise {
        let free = self.capacity.free(self.taken());
        let mut counts = BTreeMap::new();
        for instance in self.instances.values().filter(|i| i.phase.reserves()) {
            *counts.entry(instance.slot.app).or_insert(0) += 1;
        }
        Advertise {
            id: self.dea(),
            stacks: self.capacity.stacks.clone(),
            available_memory_mb: free.memory_mb,
            available_disk_mb: free.disk_mb,
            total_memory_mb: self.capacity.memory_mb,
            total_disk_mb: self.capacity.disk_mb,
            app_id_to_count: counts,
            placement_properties: BTreeMap::from([("zone".into(), self.settings.zone.clone())]),
            evacuating: self.evacuating,
        }
    }

    /// All that this DEA holds.
    pub fn heartbeat(&self) -> Heartbeat {
        let report = |(id, instance): (&InstanceId, &Instance)| {
            Some(InstanceReport {
                app: instance.slot.app,
                process: instance.slot.process,
                version: instance.slot.version,
                instance: *id,
                index: instance.slot.index,
                state: instance.phase.state()?,
                state_timestamp: instance.since,
                usage: instance.meter.usage.filter(|_| instance.phase.has_container()),
            })
        };
        let works = self.works.keys().map(|build| build.uuid()).collect();
        Heartbeat { dea: self.dea(), droplets: self.instances.iter().filter_map(report).collect(), works }
    }

    /// The containers whose usage is to be sampled.
    pub fn handles(&self) -> Vec<String> {
        let made = |phase: &Phase| matches!(phase, Phase::Probing | Phase::Running | Phase::Evacuating);
        self.instances.values().filter(|i| made(&i.phase)).map(|i| i.slot.handle()).collect()
    }

    pub(super) fn sampled(&mut self, metrics: &BTreeMap<String, Metrics>, now: Timestamp) {
        for instance in self.instances.values_mut() {
            if let Some(metrics) = metrics.get(&instance.slot.handle()) {
                instance.meter.sample(now, *metrics, usage::entitlement(instance.slot.memory_mb, &self.capacity));
            }
        }
    }

    pub(super) fn gauges(&self, now: Timestamp, out: &mut Vec<Effect>) {
        let mut envelopes = vec![];
        for instance in self.instances.values() {
            if let (Some(launch), Some(place), Some(usage)) = (&instance.launch, &instance.place, &instance.meter.usage) {
                if !instance.phase.serves() && instance.phase != Phase::Probing {
                    continue;
                }
                let tags = container::tags(&instance.slot, launch);
                let limit = launch.log_rate_limit_bytes_per_second;
                envelopes.extend(usage::gauges(&instance.slot, &tags, usage, limit, place.created_at, now));
            }
        }
        if !envelopes.is_empty() {
            out.push(Effect::Emit(envelopes));
        }
    }

    pub(super) fn cell(
        &self,
        id: InstanceId,
        kind: LogType,
        line: impl FnOnce(DeaId, InstanceId) -> String,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        self.note(id, "CELL", kind, &line(self.dea(), id), now, out);
    }

    /// A line in the app's log.
    pub(super) fn note(
        &self,
        id: InstanceId,
        source_type: &str,
        kind: LogType,
        line: &str,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some(instance) = self.instances.get(&id) else { return };
        let tags = instance.launch.as_ref().map(|launch| container::tags(&instance.slot, launch)).unwrap_or_default();
        let (app, index) = (instance.slot.app.to_string(), instance.slot.index.to_string());
        out.push(Effect::Emit(vec![log_line(&app, &index, source_type, tags, line.as_bytes(), kind, now.as_nanos())]));
    }

    pub(super) fn by_handle(&self, handle: &str) -> Option<InstanceId> {
        let id = handle.strip_prefix("i-")?.parse().ok()?;
        self.instances.contains_key(&id).then_some(id)
    }
}
