//! A bus inside one process: the same promises, no server.

use crate::{Change, Delivery, Entry, Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};

#[derive(Default)]
pub(crate) struct Memory {
    listeners: Mutex<Vec<(String, mpsc::Sender<Delivery>)>>,
    buckets: Mutex<HashMap<String, MemoryBucket>>,
    inboxes: AtomicU64,
    connected: Mutex<Option<watch::Sender<bool>>>,
}

impl Memory {
    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.lock().get_or_insert_with(|| watch::channel(true).0).subscribe()
    }

    pub(crate) fn pretend_connected(&self, connected: bool) {
        self.connected.lock().get_or_insert_with(|| watch::channel(true).0).send_replace(connected);
    }

    /// Hands the message to every listener; true if there was one.
    pub(crate) fn publish(&self, subject: &str, payload: Bytes, reply: Option<String>) -> bool {
        let mut listeners = self.listeners.lock();
        listeners.retain(|(_, sender)| !sender.is_closed());
        let mut heard = false;
        for (pattern, sender) in listeners.iter() {
            if matches(pattern, subject) {
                heard = true;
                // A full queue drops the newest, as the server does with a slow consumer.
                let _ = sender.try_send(Delivery { subject: subject.to_owned(), payload: payload.clone(), reply: reply.clone() });
            }
        }
        heard
    }

    pub(crate) fn subscribe(&self, pattern: &str) -> mpsc::Receiver<Delivery> {
        let (sender, receiver) = mpsc::channel(65_536);
        self.listeners.lock().push((pattern.to_owned(), sender));
        receiver
    }

    pub(crate) async fn request(&self, subject: &str, payload: Bytes, limit: Duration) -> Result<Bytes> {
        let inbox = format!("_INBOX.{}", self.inboxes.fetch_add(1, Ordering::Relaxed));
        let mut answers = self.subscribe(&inbox);
        if !self.publish(subject, payload, Some(inbox)) {
            return Err(Error::NoResponders(subject.to_owned()));
        }
        match tokio::time::timeout(limit, answers.recv()).await {
            Ok(Some(answer)) => Ok(answer.payload),
            _ => Err(Error::Timeout(subject.to_owned())),
        }
    }

    pub(crate) fn bucket(&self, name: &str) -> MemoryBucket {
        self.buckets.lock().entry(name.to_owned()).or_default().clone()
    }
}

fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[derive(Clone, Default)]
pub(crate) struct MemoryBucket(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    watchers: Vec<mpsc::Sender<Change>>,
}

impl MemoryBucket {
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.0.lock().entries.get(key).cloned()
    }

    pub(crate) fn set(&self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64> {
        let mut records = self.0.lock();
        if records.entries.get(key).map_or(0, |entry| entry.revision) != expected {
            return Err(Error::Conflict(key.to_owned()));
        }
        records.revision += 1;
        let revision = records.revision;
        let change = match value {
            Some(value) => {
                let entry = Entry { key: key.to_owned(), value, revision };
                records.entries.insert(key.to_owned(), entry.clone());
                Change::Put(entry)
            }
            None => {
                records.entries.remove(key);
                Change::Removed { key: key.to_owned(), revision }
            }
        };
        // A watcher that does not keep up is cut off; its receiver ends.
        records.watchers.retain(|watcher| watcher.try_send(change.clone()).is_ok());
        Ok(revision)
    }

    pub(crate) fn watch(&self) -> mpsc::Receiver<Change> {
        let mut records = self.0.lock();
        let (sender, receiver) = mpsc::channel(records.entries.len() + 65_536);
        let told = [Change::Reset].into_iter().chain(records.entries.values().cloned().map(Change::Put)).chain([Change::Synced]);
        for change in told {
            let _ = sender.try_send(change);
        }
        records.watchers.push(sender);
        receiver
    }
}
