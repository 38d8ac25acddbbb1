//! What arrives: from the bus and its buckets into inputs. Each task outlives breaks and ends with the core.

use crate::domain::{ClaimsChange, Input, SlotId};
use bus::{Bucket, Bus, Change, Delivery, Entry, Subscription};
use messages::{
    Message,
    claims::{CLAIMS, HEALTH_MANAGER_LEASE, InstanceRecord, LEASES, WorkRecord, instance_key, work_key},
    dea::{Advertise, Heartbeat},
    hints::DropletUpdated,
};
use std::{error::Error, sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tracing::warn;
use uuid::Uuid;

type Inputs = mpsc::Sender<Input>;

const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn connection(bus: Bus, inputs: Inputs) {
    let mut connected = bus.connected();
    loop {
        let up = *connected.borrow_and_update();
        if inputs.send(Input::Bus(up)).await.is_err() || connected.changed().await.is_err() {
            return;
        }
    }
}

pub(super) async fn advertisements(bus: Bus, inputs: Inputs) {
    each(bus, Advertise::SUBJECT, inputs, |delivery| delivery.read().map(|offer| Some(Input::Advertise(offer)))).await;
}

pub(super) async fn heartbeats(bus: Bus, inputs: Inputs) {
    each(bus, Heartbeat::SUBJECT, inputs, |delivery| delivery.read().map(|beat| Some(Input::Heartbeat(beat)))).await;
}

/// The number in the hint does not matter: whoever looks sees the newest.
pub(super) async fn hints(bus: Bus, inputs: Inputs, hint: Arc<Notify>) {
    each(bus, DropletUpdated::SUBJECT, inputs, |_| {
        hint.notify_one();
        Ok(None)
    })
    .await;
}

/// Hears a subject until the core ends.
async fn each(bus: Bus, subject: &str, inputs: Inputs, read: impl Fn(&Delivery) -> bus::Result<Option<Input>>) {
    loop {
        let mut subscription = subscribe(&bus, subject).await;
        while let Some(delivery) = subscription.next().await {
            match read(&delivery) {
                Ok(Some(input)) => {
                    if inputs.send(input).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(e) => unreadable(&e),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn subscribe(bus: &Bus, subject: &str) -> Subscription {
    loop {
        match bus.subscribe(subject).await {
            Ok(subscription) => return subscription,
            Err(e) => warn!(error = &e as &dyn Error, bus.subject = subject, "cannot subscribe yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Opens a bucket, however long that takes; tells of the first failure only.
pub(super) async fn bucket(bus: &Bus, name: &str) -> Bucket {
    let mut told = false;
    loop {
        match bus.bucket(name).await {
            Ok(bucket) => return bucket,
            Err(e) if !told => {
                told = true;
                warn!(error = &e as &dyn Error, bucket = name, "cannot open the bucket yet");
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

pub(super) async fn claims(bus: Bus, inputs: Inputs) {
    loop {
        let mut changes = bucket(&bus, CLAIMS).await.watch();
        while let Some(change) = changes.recv().await {
            let Some(change) = claims_change(change) else { continue };
            if inputs.send(Input::Claims(change)).await.is_err() {
                return;
            }
        }
        warn!("the watch of claims ended; beginning anew");
        tokio::time::sleep(AGAIN).await;
    }
}

fn claims_change(change: Change) -> Option<ClaimsChange> {
    match change {
        Change::Reset => Some(ClaimsChange::Reset),
        Change::Synced => Some(ClaimsChange::Synced),
        Change::Put(entry) => match Key::read(&entry.key)? {
            Key::Instance(slot) => {
                let record: InstanceRecord = readable(&entry)?;
                // A record under a foreign key would be changed under its own one.
                let fits = instance_key(record.version, record.index) == instance_key(slot.0, slot.1);
                fits.then(|| ClaimsChange::Instance(Box::new(record), entry.revision))
            }
            Key::Work(work) => {
                let record: WorkRecord = readable(&entry)?;
                Some(ClaimsChange::Work(work, record, entry.revision))
            }
        },
        Change::Removed { key, .. } => match Key::read(&key)? {
            Key::Instance(slot) => Some(ClaimsChange::NoInstance(slot)),
            Key::Work(work) => Some(ClaimsChange::NoWork(work)),
        },
    }
}

#[derive(Debug, PartialEq)]
enum Key {
    Instance(SlotId),
    Work(Uuid),
}

impl Key {
    fn read(key: &str) -> Option<Self> {
        let mut tokens = key.split('.');
        let read = match (tokens.next()?, tokens.next()?, tokens.next()) {
            ("instance", version, Some(index)) => Some(Self::Instance((version.parse().ok()?, index.parse().ok()?))),
            ("work", work, None) => Uuid::try_parse(work).ok().map(Self::Work),
            _ => None,
        };
        read.filter(|_| tokens.next().is_none())
    }
}

fn readable<T: serde::de::DeserializeOwned>(entry: &Entry) -> Option<T> {
    entry.read().map_err(|e| unreadable(&e)).ok()
}

fn unreadable(error: &bus::Error) {
    warn!(error = error as &dyn Error, "left out");
}

pub(super) async fn leases(bus: Bus, inputs: Inputs) {
    loop {
        let mut changes = bucket(&bus, LEASES).await.watch();
        let mut told = false;
        while let Some(change) = changes.recv().await {
            let (lease, revision) = match change {
                Change::Reset => {
                    told = false;
                    continue;
                }
                Change::Put(entry) if entry.key == HEALTH_MANAGER_LEASE => match entry.read() {
                    Ok(lease) => (Some(lease), entry.revision),
                    Err(e) => {
                        unreadable(&e);
                        continue;
                    }
                },
                Change::Removed { key, revision } if key == HEALTH_MANAGER_LEASE => (None, revision),
                Change::Synced if !told => (None, 0),
                _ => continue,
            };
            told = true;
            if inputs.send(Input::Lease { lease, revision }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The key of a work record; here, so that reading and writing keys stand together.
pub(super) fn key_of_work(work: Uuid) -> String {
    work_key(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_written_and_foreign_ones_are_left_out() {
        let version = types::VersionId::from(Uuid::from_u128(5));
        assert_eq!(Key::read(&instance_key(version, 7)), Some(Key::Instance((version, 7))));
        assert_eq!(Key::read(&work_key(Uuid::from_u128(6))), Some(Key::Work(Uuid::from_u128(6))));
        for foreign in ["", "instance.x.1", "instance.1", "work.5.6", "other.5", &format!("{}.8", instance_key(version, 7))] {
            assert_eq!(Key::read(foreign), None, "{foreign}");
        }
    }
}
