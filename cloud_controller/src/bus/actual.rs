//! What really runs: the claims bucket, and the usage figures of heartbeats, kept in memory.

use bus::{Bus, Change, Entry};
use foundation::Shutdown;
use messages::{
    Message,
    claims::{CLAIMS, InstanceRecord},
    dea::{Heartbeat, Usage},
};
use parking_lot::RwLock;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tracing::{debug, info, warn};
use types::{AppId, DeaId, InstanceId, VersionId};

/// A snapshot that grows with every change. Clones share it.
#[derive(Clone, Default)]
pub struct Actual(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    slots: BTreeMap<(VersionId, u32), InstanceRecord>,
    usage: HashMap<InstanceId, Usage>,
    /// Which instances a DEA's newest heartbeat named, so that older figures go with it.
    of_dea: HashMap<DeaId, Vec<InstanceId>>,
    synced: bool,
}

/// One slot of a version: the record of the bucket, and what its owner uses.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// The record.
    pub record: InstanceRecord,
    /// The newest figures of the owner; none before the first heartbeat that has them.
    pub usage: Option<Usage>,
}

impl Actual {
    /// The slots of a version, by index.
    pub fn of_version(&self, version: VersionId) -> BTreeMap<u32, InstanceView> {
        let state = self.0.read();
        let view = |record: &InstanceRecord| InstanceView {
            record: record.clone(),
            usage: record.owner.as_ref().and_then(|owner| state.usage.get(&owner.instance).copied()),
        };
        state.slots.range((version, 0)..=(version, u32::MAX)).map(|((_, index), record)| (*index, view(record))).collect()
    }

    /// The records of all slots of an app, of whatever version; it looks at all that there are.
    pub fn of_app(&self, app: AppId) -> Vec<InstanceRecord> {
        self.0.read().slots.values().filter(|record| record.app == app).cloned().collect()
    }

    /// False until the bucket was read once, and while it is read anew: then nothing certain is known.
    pub fn is_synced(&self) -> bool {
        self.0.read().synced
    }

    /// Takes in what the bucket tells. `told` holds the keys since the last reset.
    fn take(&self, change: Change, told: &mut HashSet<(VersionId, u32)>) {
        let mut state = self.0.write();
        match change {
            Change::Reset => told.clear(),
            Change::Put(entry) => {
                if let Some((key, record)) = slot(&entry) {
                    told.insert(key);
                    state.slots.insert(key, record);
                }
            }
            Change::Removed { key, .. } => {
                if let Some(key) = slot_key(&key) {
                    state.slots.remove(&key);
                }
            }
            Change::Synced => {
                // What was not told since the reset is gone.
                state.slots.retain(|key, _| told.contains(key));
                state.synced = true;
            }
        }
    }

    /// Takes in a heartbeat.
    fn heard(&self, beat: &Heartbeat) {
        let mut state = self.0.write();
        for gone in state.of_dea.remove(&beat.dea).unwrap_or_default() {
            state.usage.remove(&gone);
        }
        for report in &beat.droplets {
            if let Some(usage) = report.usage {
                state.usage.insert(report.instance, usage);
            }
        }
        state.of_dea.insert(beat.dea, beat.droplets.iter().map(|report| report.instance).collect());
    }
}

fn slot_key(key: &str) -> Option<(VersionId, u32)> {
    let (version, index) = key.strip_prefix("instance.")?.split_once('.')?;
    Some((version.parse().ok()?, index.parse().ok()?))
}

fn slot(entry: &Entry) -> Option<((VersionId, u32), InstanceRecord)> {
    let key = slot_key(&entry.key)?;
    match entry.read() {
        Ok(record) => Some((key, record)),
        Err(e) => {
            warn!(error = &e as &dyn std::error::Error, "unreadable record");
            None
        }
    }
}

/// Follows bucket and heartbeats until the end; waits for the bus and the bucket where they are not there yet.
pub fn follow(bus: &Bus, actual: &Actual, shutdown: &Shutdown) {
    let (bus_of_claims, actual_of_claims, end) = (bus.clone(), actual.clone(), shutdown.clone());
    shutdown.spawn(async move {
        tokio::select! {
            () = follow_claims(&bus_of_claims, &actual_of_claims) => {}
            () = end.requested() => {}
        }
    });
    let (bus, actual, end) = (bus.clone(), actual.clone(), shutdown.clone());
    shutdown.spawn(async move {
        tokio::select! {
            () = follow_heartbeats(&bus, &actual) => {}
            () = end.requested() => {}
        }
    });
}

async fn follow_claims(bus: &Bus, actual: &Actual) {
    loop {
        match bus.bucket(CLAIMS).await {
            Ok(bucket) => {
                let mut told = HashSet::new();
                let mut changes = bucket.watch();
                info!("following the claims");
                while let Some(change) = changes.recv().await {
                    actual.take(change, &mut told);
                }
            }
            Err(e) => debug!(error = &e as &dyn std::error::Error, "the claims cannot be followed yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn follow_heartbeats(bus: &Bus, actual: &Actual) {
    loop {
        match bus.subscribe(Heartbeat::SUBJECT).await {
            Ok(mut beats) => {
                while let Some(delivery) = beats.next().await {
                    match delivery.read::<Heartbeat>() {
                        Ok(beat) => actual.heard(&beat),
                        Err(e) => debug!(error = &e as &dyn std::error::Error, "unreadable heartbeat"),
                    }
                }
            }
            Err(e) => debug!(error = &e as &dyn std::error::Error, "heartbeats cannot be heard yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
