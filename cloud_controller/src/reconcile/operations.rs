//! The shell of the engine of work at brokers: picks what is due, sends calls outside of any transaction, and has the answers
//! settled. What all of it means is said in `domain::services::operations`.

use crate::{
    api::Api,
    domain::{
        Error, Result, micros,
        services::operations::{self, LEASE, Operation, Taken},
    },
    store::service_operations as store,
};
use actix_web::web::Data;
use foundation::Shutdown;
use parking_lot::Mutex;
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::{Notify, broadcast};

/// How many operations are worked on at the same time.
const IN_FLIGHT: usize = 128;
/// How many of one broker: one that hangs stalls nobody else.
const PER_BROKER: usize = 8;
/// How long to sleep when nothing is due; another controller may have left something behind.
const NAP: Duration = Duration::from_secs(5);
/// How many due operations are looked at in one go.
const AT_ONCE: usize = 500;
/// How long an operation rests after a failure of ours.
const REST: Duration = Duration::from_secs(10);
/// How many ended operations somebody who waits may be behind.
const NEWS: usize = 1024;

/// What the engine keeps in memory; nothing of it matters after a restart.
pub struct Engine {
    /// Says which of several workers on one database we are.
    owner: String,
    kick: Notify,
    ended: broadcast::Sender<String>,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    operations: BTreeMap<String, Option<String>>,
    brokers: BTreeMap<String, usize>,
}

impl Engine {
    /// One that does nothing yet.
    pub fn new(owner: String) -> Self {
        Self { owner, kick: Notify::new(), ended: broadcast::Sender::new(NEWS), running: Mutex::default() }
    }
    /// Has it look for work now.
    pub fn kick(&self) {
        self.kick.notify_one();
    }
    /// Ids of operations whose job has moved on, from now.
    pub fn news(&self) -> broadcast::Receiver<String> {
        self.ended.subscribe()
    }

    /// Picks from what is due, broker by broker in turn, what there is room for.
    fn pick(&self, due: Vec<(String, Option<String>)>) -> Vec<(String, Option<String>)> {
        let mut running = self.running.lock();
        let mut waiting: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for (guid, broker) in due {
            if !running.operations.contains_key(&guid) {
                waiting.entry(broker).or_default().push(guid);
            }
        }
        waiting.values_mut().for_each(|guids| guids.reverse());
        let mut picked = vec![];
        loop {
            let before = picked.len();
            for (broker, guids) in &mut waiting {
                let busy = broker.as_ref().map_or(0, |broker| running.brokers.get(broker).copied().unwrap_or(0));
                if running.operations.len() >= IN_FLIGHT || busy >= PER_BROKER {
                    continue;
                }
                let Some(guid) = guids.pop() else { continue };
                if let Some(broker) = broker {
                    *running.brokers.entry(broker.clone()).or_default() += 1;
                }
                running.operations.insert(guid.clone(), broker.clone());
                picked.push((guid, broker.clone()));
            }
            if picked.len() == before {
                return picked;
            }
        }
    }

    fn release(&self, guid: &str) {
        let mut running = self.running.lock();
        if let Some(Some(broker)) = running.operations.remove(guid)
            && let Some(count) = running.brokers.get_mut(&broker)
        {
            *count -= 1;
            if *count == 0 {
                running.brokers.remove(&broker);
            }
        }
    }

    /// Brokers for which there is no room now.
    fn busy(&self) -> Vec<String> {
        let running = self.running.lock();
        running.brokers.iter().filter(|(_, count)| **count >= PER_BROKER).map(|(broker, _)| broker.clone()).collect()
    }
    fn held(&self) -> Vec<String> {
        self.running.lock().operations.keys().cloned().collect()
    }
}

/// Takes up what an earlier run left, and works until the end.
pub async fn start(api: &Data<Api>, shutdown: &Shutdown) -> Result<()> {
    if api.store.is_embedded() {
        // Nobody else has this database: leases are those of a run that ended.
        api.store.write(store::forget_leases).await?;
    }
    let (worker, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        loop {
            let nap = look(&worker).await.unwrap_or_else(|e| {
                tracing::warn!(error = &e as &dyn std::error::Error, "work at brokers cannot be looked for now");
                Duration::from_secs(1)
            });
            tokio::select! {
                () = end.requested() => return,
                () = worker.operations.kick.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    });
    let (keeper, end) = (api.clone(), shutdown.clone());
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                () = end.requested() => return,
                () = tokio::time::sleep(LEASE / 3) => {}
            }
            if let Err(e) = renew(&keeper).await {
                tracing::warn!(error = &e as &dyn std::error::Error, "leases cannot be renewed now");
            }
        }
    });
    Ok(())
}

/// Starts what is due; returns how long there is nothing to do.
async fn look(api: &Data<Api>) -> Result<Duration> {
    let now = micros(api.now());
    loop {
        let busy = api.operations.busy();
        let due = api.store.read(move |conn| store::due(conn, now, &busy, AT_ONCE)).await?;
        // Brokers that are full by now are left out of the next look, so that what waits for others is seen.
        let more = due.len() == AT_ONCE;
        let picked = api.operations.pick(due);
        let none = picked.is_empty();
        for (guid, _) in picked {
            begin(api, guid);
        }
        if none || !more {
            break;
        }
    }
    let next = api.store.read(move |conn| store::next(conn, now)).await?;
    let next = next.map_or(NAP, |at| Duration::from_micros(at.saturating_sub(now).max(0).unsigned_abs()));
    Ok(next.clamp(Duration::from_millis(1), NAP))
}

fn begin(api: &Data<Api>, guid: String) {
    let (api, end) = (api.clone(), api.tasks.clone());
    let tasks = api.tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            // What was sent is in doubt then, and is sent again under the same id by the next run.
            () = end.requested() => {}
            () = work(&api, &guid) => {}
        }
        api.operations.release(&guid);
        api.operations.kick();
    });
}

async fn work(api: &Api, guid: &str) {
    if let Err(e) = try_work(api, guid).await {
        tracing::error!(operation = guid, error = &e as &dyn std::error::Error, "work at a broker is put off");
        let (guid, owner) = (guid.to_owned(), api.operations.owner.clone());
        let rest = api.write_as_system(move |tx| operations::postpone(tx, &guid, &owner, REST)).await;
        if let Err(e) = rest {
            tracing::error!(error = &e as &dyn std::error::Error, "work at a broker stays until its lease ends");
        }
    }
}

async fn try_work(api: &Api, guid: &str) -> Result<()> {
    let owner = api.operations.owner.clone();
    let (wanted, by) = (guid.to_owned(), owner.clone());
    let taken = api.write_as_system(move |tx| operations::take(tx, &wanted, &by)).await?;
    let (op, call) = match taken {
        Taken::Nothing => return Ok(()),
        Taken::Ended => {
            tell(api, guid);
            return Ok(());
        }
        Taken::Send(op, call) => (op, call),
    };
    let what = format!("{:?}", call.request);
    tracing::debug!(operation = guid, broker.name = call.broker.name, "{what}");
    let reply = api.brokers.call(*call).await;
    let op: Operation = *op;
    let moved = api
        .write_as_system(move |tx| operations::settle(tx, op.clone(), &owner, reply.clone()))
        .await
        .map_err(|e| Error::internal("settling the answer of a broker", e))?;
    if moved {
        tell(api, guid);
    }
    Ok(())
}

fn tell(api: &Api, guid: &str) {
    // Nobody may be waiting.
    let _ = api.operations.ended.send(guid.to_owned());
}

async fn renew(api: &Api) -> Result<()> {
    let held = api.operations.held();
    if held.is_empty() {
        return Ok(());
    }
    let (owner, until) = (api.operations.owner.clone(), micros(api.now() + LEASE));
    api.store.write(move |conn| store::renew(conn, &owner, &held, until)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn due(broker: &str, count: usize) -> Vec<(String, Option<String>)> {
        (0..count).map(|n| (format!("{broker}-{n:03}"), Some(broker.to_owned()))).collect()
    }

    #[test]
    fn a_broker_with_much_work_leaves_room_for_others() {
        let engine = Engine::new("me".into());
        let picked = engine.pick([due("slow", 100), due("quick", 3)].concat());
        assert_eq!(picked.iter().filter(|(_, b)| b.as_deref() == Some("slow")).count(), PER_BROKER);
        assert_eq!(picked.iter().filter(|(_, b)| b.as_deref() == Some("quick")).count(), 3);
        assert!(engine.pick(due("slow", 100)).is_empty());
        engine.release("slow-000");
        assert_eq!(engine.pick(due("slow", 100)), [("slow-000".to_owned(), Some("slow".to_owned()))]);
    }

    #[test]
    fn what_has_no_broker_is_bounded_only_by_all() {
        let engine = Engine::new("me".into());
        let many = (0..500).map(|n| (format!("{n:03}"), None)).collect();
        assert_eq!(engine.pick(many).len(), IN_FLIGHT);
        let running: BTreeSet<String> = engine.held().into_iter().collect();
        assert_eq!(running.len(), IN_FLIGHT);
    }
}
