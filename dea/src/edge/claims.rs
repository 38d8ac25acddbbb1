//! The bucket of claims: claim, write, disown.

use crate::{
    domain::{
        claim::{self, Hold, Step, Wanted},
        core::{Claimed, Written},
    },
    edge::{World, backoff::Backoff},
};
use bus::{Bucket, Entry, Error};
use messages::claims::{InstanceRecord, WorkRecord, work_key};
use tracing::warn;
use types::{BuildId, DeaId, InstanceId};

/// Claims a slot whose record has `revision` (0: none).
///
/// # Errors
/// In words for the user. After an unknown outcome the record is read again; what cannot be cleared up is refused, and the
/// watch finds a claim that went through after all.
pub async fn claim(bucket: &Bucket, hold: &Hold, revision: u64) -> Result<Claimed, String> {
    let key = hold.slot.key();
    let attempt = match revision {
        0 => bucket.create(&key, &claim::claimed(None, hold)).await.map(|revision| Claimed {
            revision,
            crash_count: 0,
            last_exit: None,
        }),
        revision => over(bucket, &key, hold, revision).await,
    };
    match attempt {
        Ok(claimed) => Ok(claimed),
        Err(cause) => match bucket.get(&key).await.map(|entry| entry.and_then(read)) {
            Ok(Some((record, at))) if record.owner.as_ref().is_some_and(|owner| owner.instance == hold.slot.instance) => {
                Ok(Claimed { revision: at, crash_count: record.crash_count, last_exit: record.last_exit })
            }
            Ok(_) if matches!(cause, Error::Conflict(_)) => Err("the slot was taken by somebody else".into()),
            _ => {
                warn!(error = &cause as &dyn std::error::Error, instance.id = %hold.slot.instance, "a claim failed");
                Err("the claim could not be written".into())
            }
        },
    }
}

async fn over(bucket: &Bucket, key: &str, hold: &Hold, revision: u64) -> Result<Claimed, Error> {
    let entry =
        bucket.get(key).await?.filter(|entry| entry.revision == revision).ok_or_else(|| Error::Conflict(key.to_owned()))?;
    let previous: InstanceRecord = entry.read()?;
    let record = claim::claimed(Some(&previous), hold);
    let revision = bucket.update(key, &record, revision).await?;
    Ok(Claimed { revision, crash_count: record.crash_count, last_exit: record.last_exit })
}

fn read(entry: Entry) -> Option<(InstanceRecord, u64)> {
    entry.read().ok().map(|record| (record, entry.revision))
}

/// Makes a record say what is wanted; goes on trying while the bus is away.
pub async fn write(bucket: &Bucket, key: &str, wanted: &Wanted, seen: u64, absent_is_rollback: bool) -> Written {
    let mut backoff = Backoff::peers();
    let mut conflicts = 0;
    loop {
        match try_write(bucket, key, wanted, seen, absent_is_rollback).await {
            Ok(written) => return written,
            // Somebody wrote between reading and writing: look again at once.
            Err(Error::Conflict(_)) if conflicts < 10 => conflicts += 1,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, key, "a record could not be written; trying again");
                backoff.pause().await;
            }
        }
    }
}

async fn try_write(bucket: &Bucket, key: &str, wanted: &Wanted, seen: u64, absent_is_rollback: bool) -> Result<Written, Error> {
    let entry = bucket.get(key).await?;
    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
    // Revisions only grow: a lower one than seen before is a store that lost its newest part.
    let reassert = if entry.is_some() { revision < seen } else { absent_is_rollback };
    let current: Option<InstanceRecord> = entry.as_ref().map(Entry::read).transpose()?;
    Ok(match claim::step(current.as_ref(), wanted, reassert) {
        Step::Nothing => Written::Done { revision },
        Step::Create(record) => Written::Done { revision: bucket.create(key, &record).await? },
        Step::Update(record) => {
            let revision = bucket.update(key, &record, revision).await?;
            if claim::keeps(&record, wanted) { Written::Done { revision } } else { Written::Lost }
        }
        Step::Remove => {
            bucket.remove(key, revision).await?;
            Written::Done { revision: 0 }
        }
        Step::Lost if current.is_none() => Written::Absent,
        Step::Lost => Written::Lost,
    })
}

/// Removes what a record says of an instance that is not here.
pub async fn disown(bucket: &Bucket, key: &str, instance: InstanceId) {
    write(bucket, key, &Wanted::Release(instance), 0, false).await;
}

/// Takes a staging, create-only.
///
/// # Errors
/// In words for the user.
pub async fn claim_work(world: &World, dea: DeaId, build: BuildId) -> Result<(), String> {
    let key = work_key(build.uuid());
    let record = WorkRecord { dea, since: world.now(), done: false };
    let Err(cause) = world.bucket.create(&key, &record).await else { return Ok(()) };
    match world.bucket.get(&key).await.map(|entry| entry.and_then(|entry| entry.read::<WorkRecord>().ok())) {
        Ok(Some(found)) if found.dea == dea && !found.done => Ok(()),
        Ok(Some(_)) => Err("the staging was taken already".into()),
        _ => {
            warn!(error = &cause as &dyn std::error::Error, build.id = %build, "a staging could not be claimed");
            Err("the claim could not be written".into())
        }
    }
}

/// Notes that a staging's result was handed over.
pub async fn finish_work(bucket: &Bucket, build: BuildId) {
    let key = work_key(build.uuid());
    let mut backoff = Backoff::peers();
    loop {
        let outcome = async {
            let Some(entry) = bucket.get(&key).await? else { return Ok(()) };
            let mut record: WorkRecord = entry.read()?;
            record.done = true;
            bucket.update(&key, &record, entry.revision).await.map(drop)
        };
        match outcome.await {
            Ok(()) => return,
            Err(Error::Unreadable(..)) => return,
            Err(cause) => {
                warn!(error = &cause as &dyn std::error::Error, key, "a staging could not be noted as done; trying again");
                backoff.pause().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::core::tests::slot;
    use bus::Bus;
    use messages::claims::{CLAIMS, Holder, InstanceState};
    use types::Timestamp;

    fn hold(state: InstanceState) -> Hold {
        let slot = slot();
        let holder = Holder {
            instance: slot.instance,
            dea: "00000000-0000-4000-8000-00000000000d".parse().unwrap(),
            state,
            since: Timestamp(1),
            endpoint: None,
            memory_mb: 1,
            disk_mb: 1,
            details: None,
        };
        Hold { slot, holder, crash_count: 0, last_exit: None }
    }

    #[tokio::test]
    async fn of_two_claims_one_wins_and_asking_again_is_harmless() {
        let bucket = Bus::in_memory().bucket(CLAIMS).await.unwrap();
        let ours = hold(InstanceState::Starting);
        let mut theirs = ours.clone();
        theirs.slot.instance = "00000000-0000-4000-8000-0000000000ff".parse().unwrap();
        theirs.holder.instance = theirs.slot.instance;
        let first = claim(&bucket, &ours, 0).await.unwrap();
        assert_eq!(claim(&bucket, &theirs, 0).await, Err("the slot was taken by somebody else".into()));
        assert_eq!(claim(&bucket, &ours, 0).await.unwrap(), first);
        let second = claim(&bucket, &theirs, first.revision).await.unwrap();
        assert!(claim(&bucket, &ours, first.revision).await.is_err());
        assert!(second.revision > first.revision);
    }

    #[tokio::test]
    async fn a_rolled_back_record_is_asserted_anew() {
        let bucket = Bus::in_memory().bucket(CLAIMS).await.unwrap();
        let running = Wanted::Hold(Box::new(hold(InstanceState::Running)));
        let key = slot().key();
        assert_eq!(write(&bucket, &key, &running, 40, false).await, Written::Absent);
        let written = write(&bucket, &key, &running, 40, true).await;
        assert_eq!(written, Written::Done { revision: 1 });
        assert_eq!(
            bucket.get(&key).await.unwrap().unwrap().read::<InstanceRecord>().unwrap().owner.unwrap().state,
            InstanceState::Running
        );
    }
}
